//! What real exporters put into templates and fields, each case named after its quirk, read through the columns and, where
//! it matters, through the rows.

mod encoder;
mod naive;

use encoder::{Head, Spec, VARIABLE, set, spec, varying};
use flowlane::columns::Timestamp;
use flowlane::decode::{Config, Decoder, Outcome};
use flowlane::error::ErrorKind;
use flowlane::rows::Session;
use naive::{Row, Val, compare};
use std::net::SocketAddr;

const NOW: i64 = 1_700_000_000_000_000;

fn exporter() -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 9], 2055))
}

fn pen(pen: u32, id: u16, len: u16) -> Spec {
    Spec { pen, id, len }
}

fn decode(messages: &[Vec<u8>]) -> (Vec<Row>, Outcome) {
    let mut decoder = Decoder::new(Config::default());
    let mut last = Outcome::default();
    for message in messages {
        last = decoder.decode(message, exporter(), Timestamp(NOW));
    }
    (compare::rows(&decoder.flush()), last)
}

/// The row that one record of these fields becomes.
fn row(version: u16, fields: &[Spec], record: &[u8]) -> Row {
    let head = Head::new(version);
    let (mut rows, outcome) = decode(&[head.message(&[head.template(300, fields), set(300, record)])]);
    assert_eq!((rows.len(), outcome.error), (1, None));
    rows.pop().expect("a row")
}

/// Whether the counters of records of these fields are running totals.
fn totals(fields: &[Spec]) -> bool {
    let (head, mut decoder) = (Head::new(10), Decoder::new(Config::default()));
    let record = vec![0; fields.iter().map(|f| usize::from(f.len)).sum()];
    decoder.decode(&head.message(&[head.template(300, fields), set(300, &record)]), exporter(), Timestamp(NOW));
    decoder.flush()[0].layout().counters_are_total()
}

fn column<'r>(row: &'r Row, name: &str) -> Option<&'r Val> {
    row.columns.get(name)
}

fn extra<'r>(row: &'r Row, key: &str) -> Option<&'r Val> {
    row.extras.get(key)
}

fn bytes(b: &[u8]) -> Option<Val> {
    Some(Val::Bytes(b.to_vec()))
}

fn text(t: &str) -> Option<Val> {
    Some(Val::Text(t.to_owned()))
}

fn number(n: u64) -> Option<Val> {
    Some(Val::Unsigned(n))
}

fn counter(n: i64) -> Option<Val> {
    Some(Val::Signed(n))
}

#[track_caller]
fn same(have: Option<&Val>, want: Option<Val>) {
    assert_eq!(have, want.as_ref());
}

#[test]
fn quirk_1_v9_counts_that_count_sets_or_less() {
    let head = Head::new(9);
    let mut message = head.message(&[head.template(300, &[spec(1, 4)]), set(300, &[0, 0, 0, 9, 0, 0, 0, 8])]);
    for count in [0u16, 1, 2, 3, 60_000] {
        message[2..4].copy_from_slice(&count.to_be_bytes());
        let (rows, outcome) = decode(std::slice::from_ref(&message));
        assert_eq!((rows.len(), outcome.error), (2, None), "count {count}");
    }
}

#[test]
fn quirk_2_zeros_after_the_last_set() {
    let head = Head::new(9);
    for zeros in [4usize, 64, 1220] {
        let mut message = head.message(&[head.template(300, &[spec(1, 4)]), set(300, &[0, 0, 0, 9])]);
        message.extend(vec![0; zeros]);
        let (rows, outcome) = decode(&[message]);
        assert_eq!((rows.len(), outcome.error), (1, None), "{zeros} zeros");
    }
}

#[test]
fn quirk_3_stray_bytes_outside_the_last_set() {
    let head = Head::new(9);
    for stray in [&[0x2d][..], &[0x2d, 1], &[0x2d, 1, 2]] {
        let mut message = head.message(&[head.template(300, &[spec(1, 4)]), set(300, &[0, 0, 0, 9])]);
        message.extend(stray);
        let (rows, outcome) = decode(&[message]);
        assert_eq!((rows.len(), outcome.sets_decoded), (1, 2), "{stray:?}");
    }
}

#[test]
fn quirk_4_sets_of_unaligned_length() {
    let head = Head::new(9);
    let fields = [spec(1, 4), spec(4, 1)];
    let sets = [head.template(300, &fields), set(300, &[0, 0, 0, 9, 6]), set(300, &[0, 0, 0, 8, 17])];
    let (rows, outcome) = decode(&[head.message(&sets)]);
    assert_eq!((rows.len(), outcome.error), (2, None));
    same(column(&rows[1], "proto"), number(17));
}

#[test]
fn quirk_5_over_padding() {
    let head = Head::new(9);
    // Data sets of records of 40 bytes with 24 to 36 bytes after them; template sets with 4 to 7.
    for padding in [24usize, 36] {
        let mut body = vec![1; 40];
        body.extend(vec![0; padding]);
        let (rows, outcome) =
            decode(&[head.message(&[head.template(300, &[spec(1, 4), spec(82, 36)]), set(300, &body)])]);
        assert_eq!((rows.len(), outcome.error), (1, None));
    }
    for padding in 4..8usize {
        let mut template = vec![1, 44, 0, 1, 0, 1, 0, 4];
        template.extend(vec![0; padding]);
        let (rows, outcome) = decode(&[head.message(&[set(0, &template), set(300, &[0, 0, 0, 9])])]);
        assert_eq!((rows.len(), outcome.error), (1, None), "{padding} bytes");
    }
}

#[test]
fn quirk_6_bytes_that_are_not_zero_after_an_options_template() {
    let head = Head::new(9);
    let template = [1, 44, 0, 4, 0, 4, 0, 1, 0, 4, 0, 34, 0, 4, 0x17, 0x2a];
    let (rows, outcome) = decode(&[head.message(&[set(1, &template), set(300, &[0, 0, 0, 1, 0, 0, 0, 100])])]);
    assert_eq!((rows.len(), outcome.options_records, outcome.error), (0, 1, None));
}

#[test]
fn quirk_7_one_record_a_set() {
    let head = Head::new(9);
    let mut sets = vec![head.template(300, &[spec(1, 4)])];
    sets.extend((0..16u8).map(|i| set(300, &[0, 0, 0, i])));
    let (rows, outcome) = decode(&[head.message(&sets)]);
    assert_eq!((rows.len(), outcome.sets_decoded, outcome.error), (16, 17, None));
    same(column(&rows[15], "bytes"), counter(15));
}

#[test]
fn quirk_8_reserved_set_ids_are_passed_over() {
    let head = Head::new(10);
    for id in [0u16, 1, 4, 255] {
        let sets = [head.template(300, &[spec(1, 4)]), set(id, &[1, 2, 3, 4]), set(300, &[0, 0, 0, 9])];
        let (rows, outcome) = decode(&[head.message(&sets)]);
        assert_eq!((rows.len(), outcome.sets_skipped), (1, 1), "set {id}");
        assert_eq!(outcome.error.map(|e| e.kind), Some(ErrorKind::ReservedSet));
    }
}

#[test]
fn quirk_9_v5_counts_that_lie() {
    let head = Head::new(5);
    for count in [163u16, 55_582] {
        let mut message = head.fixed(&vec![vec![7; 48]; 30]);
        message[2..4].copy_from_slice(&count.to_be_bytes());
        let (rows, outcome) = decode(&[message]);
        assert_eq!((rows.len(), outcome.error.map(|e| e.kind)), (30, Some(ErrorKind::CountMismatch)));
    }
}

#[test]
fn quirk_10_ipfix_lengths_bound_the_datagram() {
    let head = Head::new(10);
    let good = head.message(&[head.template(300, &[spec(1, 4)]), set(300, &[0, 0, 0, 9])]);
    let mut longer = good.clone();
    longer.extend(set(300, &[0, 0, 0, 8]));
    assert_eq!(decode(&[longer]).0.len(), 1);
    let (rows, outcome) = decode(&[good[..good.len() - 2].to_vec()]);
    assert_eq!((rows.len(), outcome.error.map(|e| e.kind)), (0, Some(ErrorKind::TruncatedMessage)));
}

#[test]
fn quirk_11_fields_and_scopes_of_no_length() {
    let r = row(9, &[spec(1, 4), spec(4, 1), spec(82, 0), spec(10, 0)], &[0, 0, 0, 9, 6]);
    same(column(&r, "bytes"), counter(9));
    assert_eq!(column(&r, "in_if"), None);
    let head = Head::new(9);
    let sets = [head.options_template(400, &[spec(1, 0)], &[spec(34, 4)]), set(400, &[0, 0, 0, 100])];
    assert_eq!(decode(&[head.message(&sets)]).1.options_records, 1);
}

#[test]
fn quirk_12_templates_without_fields_or_length() {
    let head = Head::new(9);
    for (fields, kind) in [(&[][..], ErrorKind::NoFields), (&[spec(1, 0)][..], ErrorKind::ZeroLengthTemplate)] {
        let (rows, outcome) = decode(&[head.message(&[head.template(300, fields), set(300, &[0; 64])])]);
        assert_eq!((rows.len(), outcome.error.map(|e| e.kind), outcome.sets_held), (0, Some(kind), 1));
    }
}

#[test]
fn quirk_13_varying_lengths_in_v9_and_the_long_form() {
    for version in [9, 10] {
        for long in [false, true] {
            let mut record = vec![0, 0, 0, 9];
            record.extend(varying(b"", long));
            record.extend(varying(b"abc", long));
            let r = row(version, &[spec(1, 4), spec(236, VARIABLE), spec(82, VARIABLE)], &record);
            same(column(&r, "in_vrf_name"), text(""));
            same(column(&r, "in_if_name"), text("abc"));
        }
    }
    let mut record = varying(&[7; 300], true);
    record.extend([0, 0, 0, 9]);
    let r = row(10, &[pen(64_999, 77, VARIABLE), spec(1, 4)], &record);
    same(extra(&r, "64999/77"), bytes(&[7; 300]));
    same(column(&r, "bytes"), counter(9));
}

#[test]
fn quirk_14_v9_types_above_32767_are_no_enterprise_elements() {
    let fields =
        [spec(33_000, 12), spec(40_001, 4), spec(40_005, 1), spec(56_701, 4), spec(57_590, 2), spec(20_000, 2)];
    let mut record = vec![1; 12];
    record.extend([192, 0, 2, 7, 3]);
    record.extend(b"dns\0");
    record.extend([0, 42, 0, 43]);
    let r = row(9, &fields, &record);
    same(column(&r, "nat_src_ip4"), bytes(&[192, 0, 2, 7]));
    same(column(&r, "firewall_event"), number(3));
    assert_eq!(r.extras.len(), 4, "{:?}", r.extras);
}

#[test]
fn quirk_15_one_element_twice_in_a_template() {
    let fields = [spec(7, 2), spec(7, 2), pen(9, 12_235, 4), pen(9, 12_235, 4), spec(82, 2), spec(82, 2)];
    let r = row(10, &fields, &[0, 1, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4, b'a', 0, b'b', 0]);
    same(column(&r, "src_port"), number(1));
    same(extra(&r, "sourceTransportPort#2"), number(2));
    same(column(&r, "in_if_name"), text("a"));
    same(extra(&r, "interfaceName#2"), text("b"));
    assert_eq!(r.extras.len(), 4, "{:?}", r.extras);
    // Padding twice is no value at all.
    let r = row(10, &[spec(210, 2), spec(1, 4), spec(210, 3)], &[1, 2, 0, 0, 0, 9, 1, 2, 3]);
    assert_eq!(r.extras.len(), 0);
}

#[test]
fn quirk_16_odd_options_lengths_reject_that_template_alone() {
    let head = Head::new(9);
    let odd = set(1, &[1, 44, 0, 3, 0, 4, 0, 1, 0, 4, 0, 34, 0, 4]);
    let (rows, outcome) = decode(&[head.message(&[odd, head.template(301, &[spec(1, 4)]), set(301, &[0, 0, 0, 9])])]);
    assert_eq!((rows.len(), outcome.error.map(|e| e.kind)), (1, Some(ErrorKind::OddOptionsLength)));
}

#[test]
fn quirk_17_enterprise_and_varying_fields_in_options_templates() {
    let head = Head::new(10);
    let template = head.options_template(400, &[spec(149, 4)], &[pen(30_065, 4, 4), spec(82, VARIABLE)]);
    let mut record = vec![0, 0, 0, 7, 0, 0, 0, 1];
    record.extend(varying(b"Ethernet1", false));
    let message = head.message(&[template, set(400, &record)]);
    assert_eq!(decode(std::slice::from_ref(&message)).1.options_records, 1);
    let mut session = Session::new();
    let message = session.parse(&message, exporter()).expect("a message");
    let record = message.options().next().expect("an options record");
    assert_eq!(record.field("interfaceName").map(|f| f.bytes()), Some(&b"Ethernet1"[..]));
    assert_eq!(record.by_id(30_065, 4).map(|v| v.to_string()).as_deref(), Some("00000001"));
    // All fields are scopes.
    let head = Head::new(10);
    let all = head.options_template(401, &[spec(149, 4), spec(10, 4)], &[]);
    assert_eq!(decode(&[head.message(&[all, set(401, &[0; 8])])]).1.options_records, 1);
}

#[test]
fn quirk_18_scopes_of_many_lengths() {
    for (scope, len) in [(1u16, 2u16), (1, 4), (2, 4), (2, 2)] {
        let head = Head::new(9);
        let mut record = vec![0; usize::from(len)];
        record.extend([0, 0, 0, 100]);
        let sets = [head.options_template(400, &[spec(scope, len)], &[spec(34, 4)]), set(400, &record)];
        let (_, outcome) = decode(&[head.message(&sets)]);
        assert_eq!((outcome.options_records, outcome.error), (1, None), "scope {scope} of {len}");
    }
}

#[test]
fn quirk_19_template_ids_far_above_256() {
    let head = Head::new(9);
    for id in [256u16, 1315, 3281, 45_841, 52_935, 65_535] {
        let (rows, _) = decode(&[head.message(&[head.template(id, &[spec(1, 4)]), set(id, &[0, 0, 0, 9])])]);
        same(rows[0].meta.get("template_id"), number(u64::from(id)));
    }
}

#[test]
fn quirk_25_application_ids_of_nine_bytes_and_counters_both_ways() {
    let fields = [spec(95, 9), spec(1, 8), spec(23, 8)];
    let mut record = vec![0x14, 0, 0, 0x30, 0x44, 0, 0, 0x8f, 0x34];
    record.extend([0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0]);
    let r = row(9, &fields, &record);
    same(column(&r, "app_id"), text("20:12356:36660"));
    same(column(&r, "bytes"), counter(256));
    same(column(&r, "post_bytes"), counter(256));
}

#[test]
fn quirk_34_inside_addresses_as_text() {
    let mut record = b"10.1.2.3".to_vec();
    record.resize(16, 0);
    record.extend(1_700_000_000_123u64.to_be_bytes());
    let r = row(10, &[pen(637, 91, 16), spec(152, 8)], &record);
    same(column(&r, "flow_start"), Some(Val::Time(1_700_000_000_123_000)));
    assert_eq!(column(&r, "flow_end"), None);
    assert_eq!(r.extras.len(), 1);
    assert!(r.extras.values().any(|v| *v == Val::Text("10.1.2.3".into()) || *v == Val::Bytes(record[..16].to_vec())));
}

#[test]
fn quirk_35_initiator_counters_and_nat64() {
    let fields = [spec(231, 4), spec(232, 4), spec(298, 4), spec(299, 4), spec(225, 4), spec(282, 16)];
    let mut record = vec![0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4, 192, 0, 2, 1];
    record.extend([0x20; 16]);
    let r = row(9, &fields, &record);
    same(column(&r, "bytes"), counter(1));
    same(column(&r, "rev_bytes"), counter(2));
    same(column(&r, "packets"), counter(3));
    same(column(&r, "rev_packets"), counter(4));
    same(column(&r, "nat_src_ip4"), bytes(&[192, 0, 2, 1]));
    same(column(&r, "nat_dst_ip6"), bytes(&[0x20; 16]));
    // Two bytes of 232 without 231 are no byte count.
    let r = row(9, &[spec(1, 4), spec(232, 2)], &[0, 0, 0, 9, 0, 5]);
    assert_eq!(column(&r, "rev_bytes"), None);
    assert_eq!(r.extras.len(), 1);
}

#[test]
fn quirk_36_elements_of_other_lengths_than_registered() {
    let fields = [spec(209, 4), spec(252, 2), spec(253, 2), spec(6, 2)];
    let r = row(9, &fields, &[0, 0, 0, 1, 0, 5, 0, 6, 1, 0x12]);
    same(column(&r, "in_if"), number(5));
    same(column(&r, "out_if"), number(6));
    same(column(&r, "tcp_flags"), number(0x112));
    for (len, record) in [(1u16, &[0x40][..]), (2, &[0, 0x40]), (4, &[0, 0, 0, 0x40])] {
        same(column(&row(9, &[spec(89, len)], record), "forwarding_status"), number(0x40));
    }
}

#[test]
fn quirk_37_totals_without_deltas_and_beside_them() {
    let r = row(10, &[spec(85, 8), spec(86, 8)], &[0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 3]);
    same(column(&r, "bytes"), counter(7));
    same(column(&r, "packets"), counter(3));
    assert!(totals(&[spec(85, 8), spec(86, 8)]));
    let r = row(10, &[spec(1, 4), spec(2, 4), spec(85, 4), spec(86, 4), pen(10_704, 1, 4)], &[0; 20]);
    same(column(&r, "bytes"), counter(0));
    assert!(!totals(&[spec(1, 4), spec(2, 4), spec(85, 4), spec(86, 4)]));
    assert_eq!(r.extras.len(), 3, "{:?}", r.extras);
}

#[test]
fn quirk_38_both_families_one_of_zeros() {
    let fields = [spec(8, 4), spec(12, 4), spec(27, 16), spec(28, 16)];
    let mut six = vec![0; 8];
    six.extend([0x20; 32]);
    let r = row(9, &fields, &six);
    assert_eq!((column(&r, "src_ip4"), column(&r, "dst_ip4")), (None, None));
    same(column(&r, "src_ip6"), bytes(&[0x20; 16]));
    let mut four = vec![192, 0, 2, 1, 192, 0, 2, 2];
    four.extend([0; 32]);
    let r = row(9, &fields, &four);
    assert_eq!((column(&r, "src_ip6"), column(&r, "dst_ip6")), (None, None));
    same(column(&r, "src_ip4"), bytes(&[192, 0, 2, 1]));
}

#[test]
fn quirk_39_lists_and_reverse_elements() {
    // A subTemplateMultiList of one template with two records, all of it in the row and as text in the extras.
    let head = Head::new(10);
    let mut content = vec![3u8];
    content.extend([1, 45, 0, 12, 0, 0, 0, 5, 0, 0, 0, 6]);
    let mut record = varying(&content, false);
    record.extend([0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3]);
    let fields = [spec(293, VARIABLE), spec(1, 4), pen(29_305, 1, 4), pen(6871, 14 | 0x4000, 4)];
    let message = head.message(&[head.template(301, &[spec(2, 4)]), head.template(300, &fields), set(300, &record)]);
    let (rows, outcome) = decode(&[message]);
    assert_eq!((rows.len(), outcome.error), (1, None));
    same(column(&rows[0], "bytes"), counter(1));
    same(column(&rows[0], "rev_bytes"), counter(2));
    assert!(rows[0].extras.contains_key("subTemplateMultiList"), "{:?}", rows[0].extras.keys());
    assert_eq!(rows[0].extras.len(), 2);
}

#[test]
fn quirk_40_icmp_in_the_port_in_32_and_in_176_to_179() {
    let icmp = |r: &Row| (column(r, "icmp_type").cloned(), column(r, "icmp_code").cloned());
    let want = (number(8), number(3));
    assert_eq!(icmp(&row(9, &[spec(4, 1), spec(11, 2)], &[1, 8, 3])), want);
    assert_eq!(icmp(&row(9, &[spec(4, 1), spec(11, 2), spec(32, 2)], &[1, 0, 0, 8, 3])), want);
    assert_eq!(icmp(&row(9, &[spec(4, 1), spec(139, 2)], &[58, 8, 3])), want);
    assert_eq!(icmp(&row(9, &[spec(4, 1), spec(176, 1), spec(177, 1)], &[1, 8, 3])), want);
    assert_eq!(icmp(&row(9, &[spec(4, 1), spec(178, 1), spec(179, 1)], &[58, 8, 3])), want);
    assert_eq!(icmp(&row(9, &[spec(4, 1), spec(11, 2)], &[6, 8, 3])), (None, None));
}

#[test]
fn quirk_41_labels_of_four_bytes_and_two_exporter_addresses() {
    let mut fields = vec![spec(201, 4), spec(130, 4), spec(131, 16)];
    let mut record = vec![0, 0, 0x10, 0, 192, 0, 2, 1];
    record.extend([0x20; 16]);
    fields.push(spec(1, 4));
    record.extend([0, 0, 0, 9]);
    let mut head = Head::new(10);
    head.domain = 0x8_0000;
    let (rows, _) = decode(&[head.message(&[head.template(300, &fields), set(300, &record)])]);
    assert_eq!(rows[0].extras.len(), 3, "{:?}", rows[0].extras);
    same(extra(&rows[0], "exporterIPv4Address"), bytes(&[192, 0, 2, 1]));
    same(rows[0].meta.get("domain_id"), number(0x8_0000));
}

#[test]
fn quirk_42_strings_padded_with_nuls() {
    let mut record = b"Gi0/1".to_vec();
    record.resize(32, 0);
    let head = Head::new(9);
    let message = head.message(&[head.template(300, &[spec(82, 32)]), set(300, &record)]);
    same(column(&row(9, &[spec(82, 32)], &record), "in_if_name"), text("Gi0/1"));
    let mut session = Session::new();
    let message = session.parse(&message, exporter()).expect("a message");
    let name = message.records().next().and_then(|r| r.field("interfaceName")).expect("a name");
    assert_eq!((name.value().to_string().as_str(), name.bytes()), ("Gi0/1", &record[..]));
}

#[test]
fn quirk_43_integers_of_odd_widths_and_floats() {
    for len in [3u16, 5, 6, 7, 8] {
        let mut record = vec![0; usize::from(len)];
        record[usize::from(len) - 3..].copy_from_slice(&[1, 2, 3]);
        same(column(&row(10, &[spec(1, len)], &record), "bytes"), counter(0x010203));
    }
    // Longer than 8: the low 8 bytes if the rest is zero, else raw octets among the extras.
    let mut record = vec![0; 12];
    record[11] = 9;
    same(column(&row(10, &[spec(1, 12)], &record), "bytes"), counter(9));
    record[0] = 1;
    let r = row(10, &[spec(1, 12)], &record);
    assert_eq!(column(&r, "bytes"), None);
    assert_eq!(r.extras.len(), 1);
    same(extra(&row(10, &[spec(320, 8)], &1.5f64.to_be_bytes()), "absoluteError"), Some(Val::Float(1.5)));
    same(extra(&row(10, &[spec(320, 4)], &1.5f32.to_be_bytes()), "absoluteError"), Some(Val::Float(1.5)));
}

#[test]
fn quirk_44_the_length_of_the_template_counts() {
    // An address of three bytes and a protocol of two: the one is no address, the other is narrowed.
    let r = row(10, &[spec(8, 3), spec(4, 2), spec(1, 4)], &[1, 2, 3, 0, 17, 0, 0, 0, 9]);
    assert_eq!(column(&r, "src_ip4"), None);
    same(column(&r, "proto"), number(17));
    same(column(&r, "bytes"), counter(9));
    assert_eq!(r.extras.len(), 1);
    let r = row(10, &[spec(4, 2), spec(1, 4)], &[1, 17, 0, 0, 0, 9]);
    assert_eq!(column(&r, "proto"), None);
    assert_eq!(r.extras.len(), 1);
}

#[test]
fn mistake_a_withdrawal_raises() {
    let head = Head::new(10);
    let (_, outcome) = decode(&[head.message(&[head.withdrawal(300, false), head.withdrawal(2, false)])]);
    assert_eq!((outcome.sets_decoded, outcome.error), (2, None));
}

#[test]
fn mistake_a_varying_field_taken_for_padding() {
    // One byte left is a whole record of one empty field.
    let (rows, outcome) = {
        let head = Head::new(10);
        decode(&[head.message(&[head.template(300, &[spec(82, VARIABLE)]), set(300, &[1, b'a', 0])])])
    };
    assert_eq!((rows.len(), outcome.error), (2, None));
    same(column(&rows[1], "in_if_name"), text(""));
}

#[test]
fn mistake_an_unknown_enterprise_number_fails() {
    let r = row(10, &[pen(4_000_000_000, 32_767, 3), spec(1, 3)], &[1, 2, 3, 0, 0, 9]);
    same(extra(&r, "4000000000/32767"), bytes(&[1, 2, 3]));
    same(column(&r, "bytes"), counter(9));
}

#[test]
fn mistake_reverse_elements_overwrite_forward_ones() {
    let r =
        row(10, &[spec(1, 4), pen(29_305, 1, 4), pen(29_305, 7, 2), spec(7, 2)], &[0, 0, 0, 1, 0, 0, 0, 2, 0, 3, 0, 4]);
    same(column(&r, "bytes"), counter(1));
    same(column(&r, "rev_bytes"), counter(2));
    same(column(&r, "src_port"), number(4));
    assert_eq!(r.extras.len(), 1);
}

#[test]
fn mistake_unknown_v9_types_collapse_into_one_key() {
    let r = row(9, &[spec(50_001, 2), spec(50_002, 2), spec(24_999, 2)], &[0, 1, 0, 2, 0, 3]);
    assert_eq!(r.extras.len(), 3);
    same(extra(&r, "v9/50001"), bytes(&[0, 1]));
    same(extra(&r, "v9/50002"), bytes(&[0, 2]));
    same(extra(&r, "24999"), bytes(&[0, 3]));
}

#[test]
fn mistake_template_set_padding_fails_the_message() {
    let head = Head::new(10);
    let template = [1, 44, 0, 1, 0, 1, 0, 4, 0, 0, 0];
    let (rows, outcome) = decode(&[head.message(&[set(2, &template), set(300, &[0, 0, 0, 9])])]);
    assert_eq!((rows.len(), outcome.error), (1, None));
}

#[test]
fn mistake_v9_uptimes_subtracted_without_sign() {
    let mut head = Head::new(9);
    head.uptime = 1000;
    let message = head.message(&[head.template(300, &[spec(21, 4)]), set(300, &1160u32.to_be_bytes())]);
    let (rows, _) = decode(&[message]);
    same(column(&rows[0], "flow_end"), Some(Val::Time(NOW + 160_000)));
}

#[test]
fn mistake_in_and_out_bytes_in_one_field() {
    let r = row(9, &[spec(1, 4), spec(23, 4)], &[0, 0, 0, 1, 0, 0, 0, 2]);
    same(column(&r, "bytes"), counter(1));
    same(column(&r, "post_bytes"), counter(2));
}

#[test]
fn mistake_the_enterprise_bit_left_in_an_options_element() {
    let head = Head::new(10);
    let template = head.options_template(400, &[spec(149, 4)], &[pen(30_065, 4, 4)]);
    let message = head.message(&[template, set(400, &[0; 8])]);
    let mut session = Session::new();
    let message = session.parse(&message, exporter()).expect("a message");
    let record = message.options().next().expect("a record");
    assert_eq!(record.template().fields[1].id, 4);
    assert_eq!(record.template().fields[1].pen, 30_065);
}

#[test]
fn mistake_a_template_identity_without_the_domain() {
    let (mut one, mut two) = (Head::new(9), Head::new(9));
    (one.domain, two.domain) = (1, 2);
    let (rows, _) = decode(&[
        one.message(&[one.template(300, &[spec(1, 4)])]),
        two.message(&[two.template(300, &[spec(2, 4)])]),
        one.message(&[set(300, &[0, 0, 0, 5])]),
        two.message(&[set(300, &[0, 0, 0, 6])]),
    ]);
    same(column(&rows[0], "bytes"), counter(5));
    same(column(&rows[1], "packets"), counter(6));
}

#[test]
fn mistake_raw_bytes_that_are_utf_8_taken_for_hex() {
    // A v5 message all of whose bytes are ASCII but for its version.
    let mut head = Head::new(5);
    (head.uptime, head.secs, head.nanos, head.sequence) = (0x3030_3030, 0x6162_6364, 0x3031_3233, 0x3132_3334);
    let mut record = vec![b'3'; 48];
    record[20..24].copy_from_slice(b"4142");
    let message = head.fixed(&[record]);
    assert!(std::str::from_utf8(&message).is_ok());
    let mut session = Session::new();
    let read = session.parse(&message, exporter()).expect("a v5 message");
    let octets = read.records().next().and_then(|r| r.by_id(0, 1)).expect("a counter");
    assert_eq!(octets.to_string(), 0x3431_3432.to_string());
}

#[test]
fn mistake_a_template_without_length_and_data_for_it_without_end() {
    let head = Head::new(10);
    let sets = [head.template(300, &[spec(1, 0), spec(82, 0)]), set(300, &[0; 1000]), set(300, &[])];
    let (rows, outcome) = decode(&[head.message(&sets)]);
    assert_eq!((rows.len(), outcome.records), (0, 0));
    assert_eq!(outcome.error.map(|e| e.kind), Some(ErrorKind::ZeroLengthTemplate));
}

#[test]
fn mistake_v5_sampling_not_cut_to_14_bits() {
    let mut head = Head::new(5);
    head.sampling = 0x4064;
    let mut decoder = Decoder::new(Config::default());
    decoder.decode(&head.fixed(&[vec![0; 48]]), exporter(), Timestamp(NOW));
    assert_eq!(decoder.flush()[0].runs()[0].meta.sampling_rate, 100.0);
}

#[test]
fn mistake_templates_told_apart_by_a_hash_of_32_bits() {
    // So many streams that some of their keys share 32 bits of any hash: each decodes by its own template.
    const STREAMS: u32 = 4000;
    let mut decoder = Decoder::new(Config { batch_rows: 1 << 16, ..Config::default() });
    let spec_of = |domain: u32| spec(if domain.is_multiple_of(2) { 1 } else { 2 }, 4);
    for domain in 0..STREAMS {
        let head = Head { domain, ..Head::new(9) };
        decoder.decode(&head.message(&[head.template(300, &[spec_of(domain)])]), exporter(), Timestamp(NOW));
    }
    for domain in 0..STREAMS {
        let head = Head { domain, ..Head::new(9) };
        let message = head.message(&[set(300, &domain.to_be_bytes())]);
        assert_eq!(decoder.decode(&message, exporter(), Timestamp(NOW)).records, 1);
    }
    for row in compare::rows(&decoder.flush()) {
        let Some(Val::Unsigned(domain)) = row.meta.get("domain_id") else { panic!("no domain: {row:?}") };
        let name = if domain.is_multiple_of(2) { "bytes" } else { "packets" };
        same(column(&row, name), counter(i64::try_from(*domain).expect("small")));
    }
}
