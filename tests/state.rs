//! What a decoder learned, and another is told after a restart.

mod encoder;

use encoder::{Head, Spec, VARIABLE, set, spec, varying};
use flowlane::columns::Timestamp;
use flowlane::decode::{Config, Decoder, Learned, compact};
use std::net::SocketAddr;

const V4: [Spec; 3] = [spec(8, 4), spec(12, 4), spec(1, 4)];
const T0: i64 = 1_700_000_000_000_000;

fn exporter() -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], 2055))
}

fn decoder() -> Decoder {
    let mut decoder = Decoder::new(Config::default());
    decoder.learn();
    decoder
}

/// A decoder that was told what this one learned, by way of a snapshot.
fn restarted(decoder: &mut Decoder) -> Decoder {
    decoder.mark_all_streams();
    let learned: Vec<Learned> = std::iter::from_fn(|| decoder.next_learned()).collect();
    let mut next = self::decoder();
    next.restore(compact(learned.clone(), Timestamp(T0), 3_600_000_000, 1 << 20));
    assert_eq!((next.stats().datagrams, next.stats().records, next.pending_rows()), (0, 0, 0));
    next
}

fn send(decoder: &mut Decoder, message: &[u8]) -> (u32, u32) {
    let outcome = decoder.decode(message, exporter(), Timestamp(T0));
    (outcome.records, outcome.sets_held)
}

fn head(version: u16, sequence: u32) -> Head {
    Head { sequence, ..Head::new(version) }
}

#[test]
fn templates_are_known_after_a_restart_and_a_withdrawn_one_is_not() {
    for version in [9, 10] {
        let mut first = decoder();
        let both = [head(version, 0).template(256, &V4), head(version, 0).template(257, &V4)];
        send(&mut first, &head(version, 0).message(&both));
        if version == 10 {
            send(&mut first, &head(version, 0).message(&[set(2, &[1, 1, 0, 0])]));
        }
        // What does not change is not learned again.
        send(&mut first, &head(version, 1).message(&both[..1]));
        let mut second = restarted(&mut first);
        assert_eq!(send(&mut second, &head(version, 2).message(&[set(256, &[7; 36])])), (3, 0));
        let other = send(&mut second, &head(version, 5).message(&[set(257, &[7; 12])]));
        assert_eq!(other, if version == 10 { (0, 1) } else { (1, 0) });
        let mut third = restarted(&mut second);
        assert_eq!(
            send(&mut third, &head(version, 6).message(&[set(256, &[7; 12])])),
            (0, 1),
            "told by the first alone"
        );
    }
}

#[test]
fn an_exporter_that_started_anew_is_not_read_by_its_old_templates() {
    for version in [9, 10] {
        let mut first = decoder();
        send(&mut first, &head(version, 500).message(&[head(version, 0).template(256, &V4)]));
        let mut second = restarted(&mut first);
        // The id has another layout now, of which records are as long.
        let layout = [spec(12, 4), spec(8, 4), spec(2, 4)];
        let anew = Head { uptime: 9_000, secs: 1_700_000_600, ..head(version, 3) };
        let data: Vec<u8> = [[192, 0, 2, 7], [198, 51, 100, 7], [0, 0, 0, 5]].concat();
        assert_eq!(send(&mut second, &anew.message(&[set(256, &data)])), (0, 1));
        let outcome = second.decode(&anew.message(&[anew.template(256, &layout)]), exporter(), Timestamp(T0));
        assert_eq!((outcome.late_records, outcome.late_sets), (1, 1));
        let batch = second.flush().pop().expect("a batch");
        assert!(batch.column("packets").is_some() && batch.column("bytes").is_none());
    }
}

#[test]
fn an_exporter_that_started_anew_sends_from_another_port() {
    let old = Head { uptime: 9_000_000, ..head(9, 500) };
    let again = || {
        let mut first = decoder();
        send(&mut first, &old.message(&[old.template(256, &V4)]));
        restarted(&mut first)
    };
    let port = SocketAddr::from(([192, 0, 2, 1], 40_000));
    // One that was up before is another exporter behind the same address.
    let other = Head { uptime: 8_000_000, secs: 1_700_000_600, ..head(9, 3) };
    let outcome = again().decode(&other.message(&[set(256, &[7; 12])]), port, Timestamp(T0));
    assert_eq!((outcome.records, outcome.sets_held), (1, 0));
    let anew = Head { uptime: 9_000, secs: 1_700_000_600, ..head(9, 3) };
    let outcome = again().decode(&anew.message(&[set(256, &[7; 12])]), port, Timestamp(T0));
    assert_eq!((outcome.records, outcome.sets_held), (0, 1));
}

#[test]
fn a_number_that_starts_anew_keeps_the_templates() {
    let mut decoder = decoder();
    let template = head(10, 500).template(256, &V4);
    send(&mut decoder, &head(10, 500).message(&[template]));
    for sequence in (500..540).chain(0..40) {
        assert_eq!(send(&mut decoder, &head(10, sequence).message(&[set(256, &[7; 12])])), (1, 0), "{sequence}");
    }
    assert_eq!((decoder.stats().resets, decoder.stats().lost), (1, 0));
}

#[test]
fn an_exporter_that_starts_anew_with_its_templates_is_read_at_once() {
    let mut decoder = decoder();
    let (template, data) = (head(10, 0).template(256, &V4), set(256, &[7; 12]));
    for _ in 0..2 {
        send(&mut decoder, &head(10, 0).message(std::slice::from_ref(&template)));
        for i in 0..30 {
            let sent = send(&mut decoder, &head(10, i).message(std::slice::from_ref(&data)));
            assert_eq!(sent, (1, 0), "message {i}");
        }
    }
    let stats = decoder.stats();
    // A template that says zero again may have been late.
    assert_eq!((stats.resets, stats.lost, stats.duplicates), (1, 0, 0));
}

#[test]
fn where_a_stream_stands_is_known_a_moment_later() {
    let mut first = decoder();
    send(&mut first, &head(10, 0).message(&[head(10, 0).template(256, &V4)]));
    first.mark_counts();
    let data = |n| head(10, n).message(&[set(256, &[7; 12])]);
    first.decode(&data(0), exporter(), Timestamp(T0 + 1));
    first.decode(&data(1), exporter(), Timestamp(T0 + 2));
    first.mark_counts();
    first.mark_counts();
    // Killed: nothing is marked at the end.
    let learned: Vec<Learned> = std::iter::from_fn(|| first.next_learned()).collect();
    let mut second = decoder();
    second.restore(compact(learned.clone(), Timestamp(T0), 3_600_000_000, 1 << 20));
    assert_eq!(send(&mut second, &data(0)), (0, 1));
}

#[test]
fn very_many_streams_are_looked_at_by_parts_and_none_is_left_out() {
    let mut decoder = Decoder::new(Config { exporters: 50_000, ..Config::default() });
    decoder.learn();
    let noted = |decoder: &mut Decoder| {
        let mut calls = vec![0];
        loop {
            let is_over = decoder.mark_counts();
            while decoder.next_learned().is_some() {
                *calls.last_mut().expect("one") += 1;
            }
            if is_over {
                return calls;
            }
            calls.push(0);
        }
    };
    let send = |decoder: &mut Decoder, exporter: u32, us: i64| {
        let from = SocketAddr::new(std::net::Ipv4Addr::from_bits(0x0a00_0000 | exporter).into(), 2055);
        decoder.decode(&head(10, 7).message(&[]), from, Timestamp(T0 + us));
    };
    (0..20_000).for_each(|exporter| send(&mut decoder, exporter, i64::from(exporter)));
    assert_eq!(noted(&mut decoder), [8192, 8192, 20_000 - 2 * 8192]);
    // A part of them was noted before a message came, and more after it: it is for the next time.
    (0..20_000).for_each(|exporter| send(&mut decoder, exporter, 100_000));
    assert!(!decoder.mark_counts());
    send(&mut decoder, 3, 200_000);
    send(&mut decoder, 19_000, 300_000);
    assert!(noted(&mut decoder).iter().sum::<usize>() >= 20_000);
    let later = noted(&mut decoder);
    assert!(later.iter().sum::<usize>() >= 1, "of the one that was noted too early");
    // In the end nothing is new.
    noted(&mut decoder);
    assert_eq!(noted(&mut decoder).iter().sum::<usize>(), 0);
}

#[test]
fn very_many_streams_of_v9_are_looked_at_by_parts_and_all_of_them_at_the_end() {
    let mut decoder = Decoder::new(Config { exporters: 50_000, ..Config::default() });
    decoder.learn();
    let from = |exporter: u32| SocketAddr::new(std::net::Ipv4Addr::from_bits(0x0a00_0000 | exporter).into(), 2055);
    for exporter in 0..20_000 {
        decoder.decode(&head(9, 7).message(&[]), from(exporter), Timestamp(T0 + i64::from(exporter)));
    }
    let noted = |decoder: &mut Decoder| std::iter::from_fn(|| decoder.next_learned()).collect::<Vec<_>>();
    for (n, is_last) in [(8192, false), (8192, false), (20_000 - 2 * 8192, true), (8192, false)] {
        assert_eq!((decoder.mark_streams(), noted(&mut decoder).len()), (is_last, n));
    }
    // A stream of the part that was looked at moves on: at the end it is where it is then.
    decoder.decode(&head(9, 8).message(&[]), from(3), Timestamp(T0 + 100_000));
    decoder.mark_all_streams();
    let learned = noted(&mut decoder);
    let last = learned.iter().find(|l| l.exporter == from(3)).expect("noted anew");
    assert_eq!((learned.len(), last.received_at), (20_000, Timestamp(T0 + 100_000)));
    assert_eq!((decoder.mark_streams(), noted(&mut decoder).len()), (false, 8192), "the next pass begins anew");
}

#[test]
fn streams_that_change_their_places_between_two_looks_are_not_left_out() {
    let mut decoder = Decoder::new(Config { exporters: 50_000, ..Config::default() });
    decoder.learn();
    let from = |exporter: u32| SocketAddr::new(std::net::Ipv4Addr::from_bits(0x0a00_0000 | exporter).into(), 2055);
    let add = |decoder: &mut Decoder, exporters: std::ops::Range<u32>| {
        for exporter in exporters {
            decoder.decode(&head(9, 7).message(&[]), from(exporter), Timestamp(T0));
        }
    };
    // Connections first.
    let sessions: Vec<_> = (0..6000).map(|_| decoder.open_session()).collect();
    for session in &sessions {
        decoder.decode_in(*session, &head(10, 0).message(&[]), exporter(), Timestamp(T0));
    }
    add(&mut decoder, 0..10_000);
    assert!(!decoder.mark_streams());
    // They end, and more streams come than went.
    sessions.into_iter().for_each(|session| decoder.end_session(session));
    add(&mut decoder, 10_000..20_000);
    while !decoder.mark_streams() {}
    let noted: std::collections::HashSet<_> =
        std::iter::from_fn(|| decoder.next_learned()).map(|learned| learned.exporter).collect();
    assert_eq!((0..20_000).filter(|n| !noted.contains(&from(*n))).count(), 0);
}

#[test]
fn a_set_that_does_not_fit_waits_for_its_template() {
    let mut first = decoder();
    send(&mut first, &head(10, 1).message(&[head(10, 0).template(256, &V4)]));
    let text = [spec(8, 4), spec(82, VARIABLE)];
    send(&mut first, &head(10, 1).message(&[head(10, 0).template(257, &text)]));
    let mut second = restarted(&mut first);
    assert_eq!(send(&mut second, &head(10, 1).message(&[set(256, &[1; 20])])), (0, 1), "20 bytes of records of 12");
    let fits = [&[192, 0, 2, 1][..], &varying(b"eth0", false)].concat();
    assert_eq!(send(&mut second, &head(10, 1).message(&[set(257, &fits)])), (1, 0));
    let wider = [spec(8, 4), spec(12, 4), spec(1, 4), spec(2, 8)];
    let outcome = second.decode(&head(10, 2).message(&[head(10, 0).template(256, &wider)]), exporter(), Timestamp(T0));
    assert_eq!(outcome.late_records, 1);
}

#[test]
fn sets_that_wait_and_options_outlive_a_restart() {
    let mut first = decoder();
    let options = head(10, 0).options_template(400, &[spec(149, 4)], &[spec(34, 4)]);
    let rate = set(400, &[0, 0, 0, 7, 0, 0, 0, 100]);
    send(&mut first, &head(10, 0).message(&[options, rate.clone()]));
    // Told twice, learned once.
    send(&mut first, &head(10, 1).message(&[rate]));
    assert_eq!(send(&mut first, &head(10, 2).message(&[set(256, &[9; 24])])), (0, 1));
    let mut second = restarted(&mut first);
    let stats = second.stats();
    assert_eq!((second.held_sets(), stats.sets, stats.sets_held), (1, 1, 1));
    let outcome = second.decode(
        &Head { secs: 1_700_000_100, ..head(10, 4) }.message(&[head(10, 0).template(256, &V4)]),
        exporter(),
        Timestamp(T0 + 100_000_000),
    );
    assert_eq!((outcome.late_records, outcome.late_sets), (2, 1));
    let batch = second.flush().pop().expect("a batch");
    let run = batch.runs()[0];
    assert_eq!(run.meta.export_time, Timestamp(1_700_000_000_000_000), "its own message's");
    assert!(run.meta.late);
    assert_eq!(run.meta.sampling_rate, 100.0);
    let stats = second.stats();
    assert_eq!(
        stats.sets,
        stats.sets_decoded + stats.sets_held + stats.sets_malformed + stats.sets_skipped + stats.sets_without_room
    );
    assert_eq!(stats.sets_held, stats.held_decoded + stats.held_expired + stats.held_dropped);
}
