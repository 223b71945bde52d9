//! What takes an hour of waiting, by hand.

use super::super::board::{OTHERS, Written};
#[cfg(feature = "http")]
use super::super::metrics::Named;
use super::*;
use crate::decode::{Config, Decoder};
use crate::template::HeldLimits;

/// A v9 message of one set.
fn v9(sequence: u32, set: u16, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, 9, 0, 1, 0, 0, 39, 16, 101, 83, 241, 0];
    bytes.extend(sequence.to_be_bytes());
    bytes.extend([0, 0, 0, 7]);
    bytes.extend(set.to_be_bytes());
    bytes.extend((body.len() as u16 + 4).to_be_bytes());
    bytes.extend(body);
    bytes
}

fn ledger(decoder: &Decoder, rows: HashMap<IpAddr, Kept>) -> Ledger {
    let (ledger, _) = Ledger::of(&[Arc::new(Part::of(decoder, None, false))], rows, Vec::new());
    assert_eq!(ledger.imbalances(), []);
    ledger
}

#[test]
fn sets_that_wait_too_long_expire_and_are_counted() {
    let held = HeldLimits { age_us: 60_000_000, ..HeldLimits::default() };
    let mut decoder = Decoder::new(Config { held, ..Config::default() });
    let from = "192.0.2.1:2055".parse().expect("an address");
    let second = |s: i64| Timestamp(1_700_000_000_000_000 + s * 1_000_000);
    for i in 0..3 {
        decoder.decode(&v9(i, 300, &[0; 8]), from, second(i64::from(i) * 50));
    }
    let before = ledger(&decoder, HashMap::new());
    assert_eq!((before.total.stats.sets_held, before.total.still_held), (3, 2), "the first is too old by the third");
    assert_eq!(before.total.stats.held_expired, 1);
    decoder.tick(second(1000));
    let after = ledger(&decoder, HashMap::new());
    assert_eq!((after.total.still_held, after.exporters[0].account.stats.held_expired), (0, 3));
}

#[test]
fn what_was_forgotten_stays_in_the_total() {
    let mut decoder = Decoder::new(Config { exporters: 1, ..Config::default() });
    let (first, second) = (SocketAddr::from(([192, 0, 2, 1], 1)), SocketAddr::from(([192, 0, 2, 2], 1)));
    let mut v5 = vec![0, 5, 0, 1, 0, 0, 39, 16, 101, 83, 241, 0];
    v5.resize(24 + 48, 0);
    decoder.decode(&v5, first, Timestamp(0));
    decoder.decode(&v5, second, Timestamp(0));
    let at = Timestamp(3_600_000_000);
    decoder.tick(at);
    decoder.decode(&v5, second, at);
    // The rows of the first are written after it was forgotten.
    let rows =
        [(first.ip(), Kept { written: 1, ..Kept::default() }), (second.ip(), Kept { dropped: 1, ..Kept::default() })];
    let ledger = ledger(&decoder, rows.into_iter().collect());
    assert_eq!(ledger.exporters.len(), 1);
    assert_eq!((ledger.exporters[0].address, ledger.exporters[0].account.rows_dropped), (second.ip(), 1));
    assert_eq!(
        (ledger.other.stats.records, ledger.other.stats.datagrams_limited, ledger.other.rows_written),
        (1, 1, 1)
    );
    assert_eq!((ledger.total.stats.datagrams, ledger.total.stats.records, ledger.total.rows_pending()), (3, 2, 0));
}

#[test]
#[cfg(feature = "http")]
fn a_counter_of_rows_does_not_go_down_when_some_are_lost() {
    let (mut decoder, of) = (Decoder::new(Config::default()), IpAddr::from([192, 0, 2, 1]));
    let mut v5 = vec![0, 5, 0, 1, 0, 0, 39, 16, 101, 83, 241, 0];
    v5.resize(24 + 48, 0);
    decoder.decode(&v5, (of, 1).into(), Timestamp(0));
    let mut written = Written::default();
    written.rows.insert(of, Kept { written: 1, ..Kept::default() });
    let look = |written: &Written| {
        let parts = [Arc::new(Part::of(&decoder, None, false))];
        let ledger = Ledger { has_sink: true, ..Ledger::of(&parts, written.rows.clone(), Vec::new()).0 };
        assert_eq!(ledger.imbalances(), []);
        let text = Named::new(10).text(&ledger);
        let of = |class: &str| {
            let sample = format!("flowlane_rows_total{{exporter=\"192.0.2.1\",class=\"{class}\"}} ");
            text.lines().find_map(|line| line.strip_prefix(&sample)?.parse::<u64>().ok())
        };
        (ledger.total.rows_written, ["written", "dropped", "lost"].map(of))
    };
    assert_eq!(look(&written), (1, [Some(1), Some(0), Some(0)]));
    written.lose(of, 1);
    assert_eq!(look(&written), (0, [Some(1), Some(0), Some(1)]));
}

#[test]
fn rows_of_whoever_is_forgotten_are_kept_in_one_sum() {
    let mut decoder = Decoder::new(Config { exporters: 1, ..Config::default() });
    let of = |last| IpAddr::from([192, 0, 2, last]);
    let mut v5 = vec![0, 5, 0, 1, 0, 0, 39, 16, 101, 83, 241, 0];
    v5.resize(24 + 48, 0);
    decoder.decode(&v5, (of(1), 1).into(), Timestamp(0));
    let kept = |written| Kept { written, ..Kept::default() };
    let mut written = Written { rows: [(of(1), kept(1))].into(), ..Written::default() };
    // Strangers, one a while, as somebody invents them.
    for last in 2..200 {
        written.rows.insert(of(last), kept(1));
    }
    let (parts, copy) = ([Arc::new(Part::of(&decoder, None, false))], written.rows.clone());
    written.rows.insert(of(2), kept(2));
    let (before, gone) = Ledger::of(&parts, copy, Vec::new());
    written.forget(gone);
    // Of one more was written meanwhile: it may be known by now.
    assert_eq!(written.rows, [(of(1), kept(1)), (of(2), kept(2)), (OTHERS, kept(197))].into());
    let (_, gone) = Ledger::of(&parts, written.rows.clone(), Vec::new());
    written.forget(gone);
    assert_eq!(written.rows, [(of(1), kept(1)), (OTHERS, kept(199))].into());
    let (after, gone) = Ledger::of(&parts, written.rows.clone(), Vec::new());
    assert_eq!((before.other.rows_written, after.other.rows_written), (198, 199));
    written.forget(gone);
    // A segment is lost that has rows of both.
    written.lose(of(1), 2);
    written.lose(of(9), 3);
    let sum = |of: fn(&Kept) -> u64| written.rows.values().map(of).sum::<u64>();
    assert_eq!((sum(|k| k.written), sum(|k| k.dropped), written.rows[&OTHERS].written), (195, 5, 195));
    // And those that found no room on the way.
    let mut dropped: HashMap<IpAddr, u64> = (1..200).map(|last| (of(last), 1)).collect();
    for _ in 0..2 {
        let mut part = Part::default();
        part.drop_rows(&mut dropped, &decoder);
        assert_eq!((&part.dropped, &dropped), (&dropped, &[(of(1), 1), (OTHERS, 198)].into()));
    }
}
