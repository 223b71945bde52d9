//! One test for each way a message can be damaged: the good sets are decoded, the bad one is counted with its position.

mod encoder;

use encoder::{Head, Spec, VARIABLE, set, spec};
use flowlane::columns::Timestamp;
use flowlane::decode::{Config, Decoder, Outcome};
use flowlane::error::{Error, ErrorKind};
use flowlane::template::{HeldLimits, Limits};
use std::net::SocketAddr;

const FIELDS: [Spec; 2] = [Spec { pen: 0, id: 8, len: 4 }, Spec { pen: 0, id: 1, len: 4 }];
const RECORD: [u8; 8] = [192, 0, 2, 1, 0, 0, 5, 220];

fn from(host: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, host], 2055))
}

fn decode(decoder: &mut Decoder, message: &[u8]) -> Outcome {
    let outcome = decoder.decode(message, from(1), Timestamp(1_700_000_000_000_000));
    let sum = outcome.sets_decoded
        + outcome.sets_held
        + outcome.sets_malformed
        + outcome.sets_skipped
        + outcome.sets_without_room;
    assert_eq!(outcome.sets, sum);
    outcome
}

/// A message of a template, a good set, some sets, and a good set; where the sets in between start.
fn around(version: u16, sets: &[Vec<u8>]) -> (Vec<u8>, u32) {
    let head = Head::new(version);
    let mut all = vec![head.template(300, &FIELDS), set(300, &RECORD)];
    let offset = head.message(&all).len() as u32;
    all.extend_from_slice(sets);
    all.push(set(300, &RECORD));
    (head.message(&all), offset)
}

/// Decodes it and checks that both good sets came, and that one error of this kind is counted at this place.
fn expect(version: u16, sets: &[Vec<u8>], kind: ErrorKind, at: u32) -> Outcome {
    let (message, offset) = around(version, sets);
    let mut decoder = Decoder::new(Config::default());
    let outcome = decode(&mut decoder, &message);
    let error = outcome.error.expect("an error");
    assert_eq!((error.kind, error.offset), (kind, offset + at), "{error}");
    assert!(outcome.records >= 2, "{outcome:?}");
    assert!(!outcome.refused);
    let stats = decoder.stats();
    assert_eq!(stats.errors[kind.index()], 1);
    assert_eq!(stats.datagrams_damaged, 1);
    outcome
}

fn refused(message: &[u8], kind: ErrorKind) {
    let mut decoder = Decoder::new(Config::default());
    let outcome = decode(&mut decoder, message);
    assert_eq!(outcome.error.map(|e| e.kind), Some(kind));
    assert!(outcome.refused);
    let stats = decoder.stats();
    assert_eq!((stats.datagrams, stats.datagrams_malformed, stats.errors[kind.index()]), (1, 1, 1));
    assert_eq!(decoder.exporters().count(), 0);
}

#[test]
fn no_bytes_or_half_a_header() {
    for (version, header) in [(1u16, 16), (5, 24), (7, 24), (9, 20), (10, 16)] {
        for len in 0..header {
            let mut message = version.to_be_bytes().to_vec();
            message.resize(len.max(2), 0);
            message.truncate(len);
            refused(&message, ErrorKind::ShortHeader);
        }
    }
}

#[test]
fn a_version_that_is_none() {
    for version in [0u16, 2, 3, 4, 6, 8, 11, 0x0500, 0xffff] {
        let mut message = version.to_be_bytes().to_vec();
        message.extend([0; 60]);
        refused(&message, ErrorKind::UnknownVersion);
    }
}

#[test]
fn ipfix_length_below_its_header() {
    let mut message = Head::new(10).message(&[]);
    message[3] = 15;
    refused(&message, ErrorKind::BadMessageLength);
}

#[test]
fn ipfix_length_past_the_datagram() {
    let head = Head::new(10);
    let mut message = head.message(&[head.template(300, &FIELDS), set(300, &RECORD)]);
    message[3] += 9;
    let mut decoder = Decoder::new(Config::default());
    let outcome = decode(&mut decoder, &message);
    assert_eq!((outcome.records, outcome.sets_decoded), (1, 2));
    assert_eq!(outcome.error.map(|e| (e.kind, e.offset)), Some((ErrorKind::TruncatedMessage, 2)));
}

#[test]
fn ipfix_bytes_past_its_length_are_not_decoded() {
    let head = Head::new(10);
    let mut message = head.message(&[head.template(300, &FIELDS), set(300, &RECORD)]);
    message.extend(set(300, &RECORD));
    let outcome = decode(&mut Decoder::new(Config::default()), &message);
    assert_eq!((outcome.records, outcome.error), (1, None));
}

#[test]
fn a_count_of_fixed_records_that_lies() {
    for (version, len) in [(1, 48), (5, 48), (7, 52)] {
        for (count, want) in [(55_582u16, 3), (163, 3), (4, 3), (2, 2), (0, 0)] {
            let mut message = Head::new(version).fixed(&vec![vec![1; len]; 3]);
            message[2..4].copy_from_slice(&count.to_be_bytes());
            let mut decoder = Decoder::new(Config::default());
            let outcome = decode(&mut decoder, &message);
            assert_eq!(outcome.records, want);
            assert_eq!(outcome.error.map(|e| (e.kind, e.offset)), Some((ErrorKind::CountMismatch, 2)));
            assert_eq!(outcome.sets_malformed, 1);
        }
    }
}

#[test]
fn half_a_fixed_record() {
    let mut message = Head::new(5).fixed(&vec![vec![1; 48]; 3]);
    message.truncate(message.len() - 1);
    let outcome = decode(&mut Decoder::new(Config::default()), &message);
    assert_eq!(outcome.records, 2);
    assert_eq!(outcome.error.map(|e| e.kind), Some(ErrorKind::CountMismatch));
}

#[test]
fn a_v9_count_that_lies_is_no_error() {
    for count in [0u16, 1, 40_000] {
        let (mut message, _) = around(9, &[]);
        message[2..4].copy_from_slice(&count.to_be_bytes());
        let outcome = decode(&mut Decoder::new(Config::default()), &message);
        assert_eq!((outcome.records, outcome.error), (2, None));
    }
}

#[test]
fn a_set_length_below_its_header() {
    for version in [9, 10] {
        for len in 0..4 {
            let head = Head::new(version);
            let all = head.message(&[head.template(300, &FIELDS), set(300, &RECORD), vec![1, 44, 0, len, 1, 2]]);
            let at = all.len() as u32 - 6;
            let outcome = decode(&mut Decoder::new(Config::default()), &all);
            assert_eq!(outcome.records, 1);
            assert_eq!(outcome.error.map(|e| (e.kind, e.offset)), Some((ErrorKind::BadSetLength, at)));
            assert_eq!(outcome.sets_malformed, 1);
        }
    }
}

#[test]
fn a_set_header_that_is_cut() {
    for version in [9, 10] {
        let head = Head::new(version);
        let message = head.message(&[head.template(300, &FIELDS), set(300, &RECORD), vec![0x2d, 1, 2]]);
        let outcome = decode(&mut Decoder::new(Config::default()), &message);
        assert_eq!(outcome.records, 1);
        let at = message.len() as u32 - 3;
        assert_eq!(outcome.error.map(|e| (e.kind, e.offset)), Some((ErrorKind::ShortSetHeader, at)));
    }
}

#[test]
fn zeros_after_the_last_set_are_padding() {
    for zeros in [1, 3, 4, 64, 1220] {
        let (mut message, _) = around(9, &[]);
        message.extend(vec![0; zeros]);
        let outcome = decode(&mut Decoder::new(Config::default()), &message);
        assert_eq!((outcome.records, outcome.error), (2, None));
    }
}

#[test]
fn a_set_past_its_message() {
    for version in [9, 10] {
        let head = Head::new(version);
        let mut last = set(300, &[RECORD, RECORD].concat());
        last[3] += 40;
        let message = head.message(&[head.template(300, &FIELDS), set(300, &RECORD), last]);
        let at = message.len() as u32 - 20;
        let mut decoder = Decoder::new(Config::default());
        let outcome = decode(&mut decoder, &message);
        assert_eq!(outcome.records, 3);
        assert_eq!(outcome.error.map(|e| (e.kind, e.offset)), Some((ErrorKind::SetOverrun, at)));
        assert_eq!((outcome.sets_decoded, outcome.sets_malformed), (2, 1));
    }
}

#[test]
fn sets_that_overlap() {
    // A set whose length ends inside the next: the walk goes on in the middle of it and finds its way or stops.
    for extra in 1..12 {
        let (mut message, offset) = around(9, &[set(300, &RECORD)]);
        message[offset as usize + 3] += extra;
        let outcome = decode(&mut Decoder::new(Config::default()), &message);
        assert!(outcome.records >= 2, "{outcome:?}");
    }
}

#[test]
fn reserved_set_ids() {
    for (version, id) in [(9, 2), (9, 255), (10, 0), (10, 1), (10, 4), (10, 255)] {
        let outcome = expect(version, &[set(id, &[1, 2, 3, 4])], ErrorKind::ReservedSet, 0);
        assert_eq!(outcome.sets_skipped, 1);
    }
}

#[test]
fn a_template_past_its_set() {
    for version in [9, 10] {
        let head = Head::new(version);
        let mut bad = head.template(301, &FIELDS);
        bad[7] = 9;
        let outcome = expect(version, &[bad], ErrorKind::TemplateOverrun, 4);
        assert_eq!(outcome.sets_malformed, 1);
    }
}

#[test]
fn a_template_of_65535_fields() {
    for version in [9, 10] {
        let head = Head::new(version);
        let mut bad = head.template(301, &FIELDS);
        bad[6..8].copy_from_slice(&[0xff, 0xff]);
        expect(version, &[bad], ErrorKind::TemplateOverrun, 4);
    }
}

#[test]
fn a_v9_template_without_fields() {
    expect(9, &[Head::new(9).template(301, &[])], ErrorKind::NoFields, 4);
}

#[test]
fn a_template_of_length_zero_and_data_for_it() {
    for version in [9, 10] {
        let head = Head::new(version);
        let (message, _) = around(version, &[head.template(301, &[spec(8, 0), spec(1, 0)]), set(301, &[0; 900])]);
        let mut decoder = Decoder::new(Config::default());
        let outcome = decode(&mut decoder, &message);
        assert_eq!(outcome.records, 2);
        assert_eq!(outcome.error.map(|e| e.kind), Some(ErrorKind::ZeroLengthTemplate));
        assert_eq!((outcome.sets_malformed, outcome.sets_held, outcome.unknown_templates), (1, 1, 1));
        assert_eq!(decoder.held_sets(), 1);
    }
}

#[test]
fn odd_lengths_in_a_v9_options_template() {
    let head = Head::new(9);
    let mut bad = head.options_template(301, &[spec(1, 4)], &[spec(34, 4)]);
    bad[9] = 5;
    expect(9, &[bad], ErrorKind::OddOptionsLength, 4);
}

#[test]
fn a_scope_count_of_zero_or_too_large() {
    let head = Head::new(10);
    for count in [0, 3, 255] {
        let mut bad = head.options_template(301, &[spec(144, 4)], &[spec(34, 4)]);
        bad[9] = count;
        expect(10, &[bad], ErrorKind::BadScopeCount, 4);
    }
}

#[test]
fn a_record_past_its_set() {
    for version in [9, 10] {
        let head = Head::new(version);
        let fields = [spec(82, VARIABLE), spec(4, 1)];
        // A good record, then one whose field claims 200 bytes.
        let data = set(301, &[3, b'e', b't', b'h', 6, 200, b'x', 1]);
        let template = head.template(301, &fields);
        let at = template.len() as u32 + 4 + 5;
        let outcome = expect(version, &[template, data], ErrorKind::RecordOverrun, at);
        assert_eq!((outcome.records, outcome.sets_malformed), (3, 1));
    }
}

#[test]
fn an_options_record_past_its_set() {
    let head = Head::new(10);
    let template = head.options_template(301, &[spec(144, 4)], &[spec(82, VARIABLE)]);
    let at = template.len() as u32 + 4;
    let outcome = expect(10, &[template, set(301, &[0, 0, 0, 1, 77, b'x'])], ErrorKind::RecordOverrun, at);
    assert_eq!(outcome.options_records, 0);
}

#[test]
fn an_invalid_redefinition_removes_the_template() {
    for version in [9, 10] {
        let head = Head::new(version);
        let mut bad = head.template(300, &FIELDS);
        bad[7] = 9;
        let (message, _) = around(version, &[bad]);
        let mut decoder = Decoder::new(Config::default());
        let outcome = decode(&mut decoder, &message);
        assert_eq!((outcome.records, outcome.sets_held, outcome.unknown_templates), (1, 1, 1));
    }
}

fn limited(config: Config, message: &[u8], kind: ErrorKind) -> (Decoder, Outcome) {
    let mut decoder = Decoder::new(config);
    let outcome = decode(&mut decoder, message);
    assert_eq!(outcome.error.map(|e| e.kind), Some(kind));
    assert_eq!(decoder.stats().errors[kind.index()], 1);
    (decoder, outcome)
}

#[test]
fn more_fields_than_allowed() {
    let config = Config { templates: Limits { fields: 2, ..Limits::default() }, ..Config::default() };
    let bad = Head::new(9).template(301, &[spec(8, 4), spec(12, 4), spec(1, 4)]);
    let (message, _) = around(9, &[bad]);
    let (_, outcome) = limited(config, &message, ErrorKind::FieldLimit);
    assert_eq!(outcome.records, 2);
}

#[test]
fn more_templates_than_allowed() {
    let config = Config { templates: Limits { templates: 1, ..Limits::default() }, ..Config::default() };
    let (message, _) = around(9, &[Head::new(9).template(301, &FIELDS)]);
    let (_, outcome) = limited(config, &message, ErrorKind::TemplateLimit);
    assert_eq!(outcome.records, 2);
}

#[test]
fn more_records_in_a_set_than_allowed() {
    let config = Config { set_records: 2, ..Config::default() };
    let (message, _) = around(9, &[set(300, &RECORD.repeat(3))]);
    let (_, outcome) = limited(config, &message, ErrorKind::RecordLimit);
    assert_eq!((outcome.records, outcome.sets_malformed), (4, 1));
}

#[test]
fn more_decoded_bytes_than_allowed() {
    let config = Config { message_bytes: 60, ..Config::default() };
    let (message, _) = around(9, &[set(300, &RECORD.repeat(30))]);
    let mut decoder = Decoder::new(config);
    let outcome = decode(&mut decoder, &message);
    assert_eq!(outcome.error.map(|e| e.kind), Some(ErrorKind::ByteLimit));
    assert!(outcome.records < 32);
}

#[test]
fn more_exporters_than_allowed() {
    let config = Config { exporters: 2, ..Config::default() };
    let mut decoder = Decoder::new(config);
    let (message, _) = around(9, &[]);
    for host in 1..=3 {
        let outcome = decoder.decode(&message, from(host), Timestamp(0));
        assert_eq!(outcome.refused, host == 3);
        assert_eq!(outcome.records, if host == 3 { 0 } else { 2 });
    }
    let stats = decoder.stats();
    assert_eq!((stats.datagrams, stats.datagrams_limited, stats.datagrams_malformed), (3, 1, 0));
    assert_eq!(stats.errors[ErrorKind::ExporterLimit.index()], 1);
}

#[test]
fn exporters_of_before_a_restart_do_not_make_way_at_once() {
    const SECOND: i64 = 1_000_000;
    let config = || Config { exporters: 2, ..Config::default() };
    let mut before = Decoder::new(config());
    before.learn();
    let (message, _) = around(9, &[]);
    (1..=2).for_each(|host| assert_eq!(before.decode(&message, from(host), Timestamp(SECOND)).records, 2));
    let learned = std::iter::from_fn(|| before.next_learned()).collect();
    let mut decoder = Decoder::new(config());
    decoder.restore(flowlane::decode::compact(learned, Timestamp(SECOND), SECOND, usize::MAX));
    let records = |decoder: &mut Decoder, host: u8, seconds: i64| {
        decoder.decode(&message, from(host), Timestamp(seconds * SECOND)).records
    };
    assert_eq!([records(&mut decoder, 3, 10), records(&mut decoder, 1, 20), records(&mut decoder, 3, 30)], [0, 2, 0]);
    // The other one was silent for ten minutes; when it comes again it begins anew, in place of the one that is silent by then.
    assert_eq!(
        [records(&mut decoder, 3, 610), records(&mut decoder, 2, 620), records(&mut decoder, 2, 630)],
        [2, 2, 2]
    );
    assert_eq!(decoder.exporter_count(), 2);
}

#[test]
fn invented_exporters_make_way_for_honest_ones() {
    const SECOND: i64 = 1_000_000;
    let mut decoder = Decoder::new(Config { exporters: 100, ..Config::default() });
    decoder.learn();
    let (message, _) = around(9, &[]);
    let records = |decoder: &mut Decoder, host: u8, seconds: i64| {
        decoder.decode(&message, from(host), Timestamp(seconds * SECOND)).records
    };
    assert_eq!(records(&mut decoder, 1, 1), 2);
    // Each with a template and a set of another, of which no row comes.
    let invented = Head::new(10).message(&[set(2, &[1, 4, 0, 1, 0, 8, 0, 4]), set(300, &[0; 8])]);
    for n in 0..5000u32 {
        let address = std::net::SocketAddr::from((std::net::Ipv4Addr::from(0x0a00_0000 + n), 2055));
        decoder.decode(&invented, address, Timestamp((10 + i64::from(n / 1000)) * SECOND));
    }
    let stats = decoder.stats();
    assert_eq!((stats.datagrams, decoder.exporter_count()), (5001, 100));
    assert_eq!(stats.sets_held, stats.held_dropped + decoder.held_sets() as u64);
    assert!(decoder.last_beyond_limit().is_some() && decoder.held_sets() <= 99);
    // Nor is more kept for a restart than of those who are known: where streams stand, too.
    decoder.mark_all_streams();
    let learned: Vec<_> = std::iter::from_fn(|| decoder.next_learned()).collect();
    let kept = flowlane::decode::compact(learned, Timestamp(20 * SECOND), 100 * SECOND, usize::MAX);
    let known: std::collections::HashSet<_> = kept.iter().map(|one| one.exporter.ip()).collect();
    assert_eq!(known.len(), 100);
    // Two that are honest have room, and the one before them stays.
    assert_eq!([2, 3, 1].map(|host| records(&mut decoder, host, 20)), [2, 2, 2]);
    // All that deliver rows stay, until they are silent for long.
    (4..=100).for_each(|host| assert_eq!(records(&mut decoder, host, 30), 2, "{host}"));
    assert_eq!((records(&mut decoder, 101, 300), records(&mut decoder, 101, 400)), (0, 0));
    assert_eq!(decoder.last_beyond_limit().map(|last| last.1), Some(from(101)));
    assert_eq!([records(&mut decoder, 4, 620), records(&mut decoder, 101, 621)], [2, 2]);
    // One of those who were silent for longest made way; its counts are kept.
    assert_eq!(decoder.stats().records, 2 * (3 + 1 + 97 + 2));
    assert_eq!((1..=3).filter(|host| decoder.exporters().any(|(ip, _)| ip == from(*host).ip())).count(), 2);
}

#[test]
fn a_flood_of_sets_without_template_is_bounded() {
    let held = HeldLimits { entries: 10, bytes: 300, ..HeldLimits::default() };
    let mut decoder = Decoder::new(Config { held, ..Config::default() });
    let head = Head::new(10);
    let (mut kept, mut lost) = (0, 0);
    for id in 256..1256 {
        let outcome = decode(&mut decoder, &head.message(&[set(id, &[0; 40])]));
        kept += outcome.sets_held;
        lost += outcome.sets_without_room;
    }
    assert_eq!((kept, lost), (7, 993));
    assert_eq!(decoder.held_sets(), 7);
    assert_eq!(decoder.stats().errors[ErrorKind::UnknownTemplate.index()], 1000);
}

#[test]
fn held_sets_expire() {
    let held = HeldLimits { age_us: 1_000_000, ..HeldLimits::default() };
    let mut decoder = Decoder::new(Config { held, ..Config::default() });
    let head = Head::new(10);
    decoder.decode(&head.message(&[set(300, &RECORD)]), from(1), Timestamp(0));
    assert_eq!(decoder.held_sets(), 1);
    decoder.tick(Timestamp(200_000_000));
    assert_eq!(decoder.held_sets(), 0);
    let stats = decoder.stats();
    assert_eq!((stats.sets_held, stats.held_expired), (1, 1));
    let outcome = decoder.decode(&head.message(&[head.template(300, &FIELDS)]), from(1), Timestamp(201_000_000));
    assert_eq!((outcome.records, outcome.late_sets), (0, 0));
}

#[test]
fn noise_of_every_length_is_survived() {
    let mut numbers = encoder::Numbers::new(99);
    let mut decoder = Decoder::new(Config::default());
    for round in 0..20_000 {
        let len = numbers.below(200);
        let mut message: Vec<u8> = (0..len).map(|_| numbers.one(&[0, 0, 1, 2, 4, 8, 255, round as u8])).collect();
        if len > 3 {
            message[0] = 0;
            message[1] = numbers.one(&[1, 5, 7, 9, 10]);
        }
        decode(&mut decoder, &message);
    }
    let stats = decoder.stats();
    assert_eq!(stats.datagrams, 20_000);
    assert_eq!(
        stats.sets,
        stats.sets_decoded + stats.sets_held + stats.sets_malformed + stats.sets_skipped + stats.sets_without_room
    );
    assert_eq!(
        stats.sets_held,
        stats.held_decoded + stats.held_expired + stats.held_dropped + decoder.held_sets() as u64
    );
}

#[test]
fn errors_say_where() {
    let error = Error::new(ErrorKind::RecordOverrun, 44, 8, 3);
    assert_eq!(error.to_string(), "record past set at byte 44: need 8, have 3");
}
