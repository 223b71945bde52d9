//! What takes an hour of waiting, by hand.

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
    let ledger = Ledger::of(&[Arc::new(Part::of(decoder, None, false))], rows, Vec::new());
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
