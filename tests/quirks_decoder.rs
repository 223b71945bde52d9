//! What real exporters do to a decoder's state and to times and sampling, each case named after its quirk.

mod encoder;

use encoder::{Head, Spec, VARIABLE, set, spec};
use flowlane::columns::{Batch, ColumnView, SamplingSource, TimeSource, Timestamp};
use flowlane::decode::{Config, Decoder, Outcome, SequenceEvent};
use std::net::SocketAddr;

const NOW: i64 = 1_700_000_000_000_000;
const FLOW: [Spec; 2] = [Spec { pen: 0, id: 8, len: 4 }, Spec { pen: 0, id: 1, len: 4 }];
const RECORD: [u8; 8] = [192, 0, 2, 1, 0, 0, 5, 220];

fn decoder() -> Decoder {
    Decoder::new(Config::default())
}

fn from(port: u16) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 9], port))
}

fn send(d: &mut Decoder, message: &[u8]) -> Outcome {
    d.decode(message, from(2055), Timestamp(NOW))
}

fn one(d: &mut Decoder) -> Batch {
    let mut batches = d.flush();
    assert_eq!(batches.len(), 1);
    batches.pop().expect("a batch")
}

fn time(batch: &Batch, name: &str) -> Option<i64> {
    let column = batch.column(name)?;
    match column.values {
        ColumnView::Timestamp(t) if column.is_valid(0) => Some(t[0]),
        _ => None,
    }
}

/// The times and time source of one record of these fields.
fn times(head: Head, fields: &[Spec], record: &[u8]) -> (Option<i64>, Option<i64>, u8) {
    let mut d = decoder();
    send(&mut d, &head.message(&[head.template(300, fields), set(300, record)]));
    let batch = one(&mut d);
    (time(&batch, "flow_start"), time(&batch, "flow_end"), batch.runs()[0].meta.time_source)
}

/// The sampling rate and its source of the last row.
fn sampling(d: &mut Decoder) -> (f64, u8) {
    let batches = d.flush();
    let batch = batches.last().expect("a batch");
    let (run, row) = (batch.runs().last().expect("a run"), batch.rows() - 1);
    let per_row = batch.column("sampling_rate").zip(batch.column("sampling_source"));
    match per_row.map(|(rate, source)| (rate.is_valid(row), rate.values, source.values)) {
        Some((true, ColumnView::F64(rate), ColumnView::U8(source))) => (rate[row], source[row]),
        Some((_, _, ColumnView::U8(source))) => (f64::NAN, source[row]),
        _ => (run.meta.sampling_rate, run.meta.sampling_source),
    }
}

#[test]
fn quirk_20_one_id_redefined_from_options_to_data_and_back() {
    let (mut d, head) = (decoder(), Head::new(9));
    let options = head.options_template(300, &[spec(1, 4)], &[spec(34, 4)]);
    let sets = [
        options.clone(),
        set(300, &[0, 0, 0, 1, 0, 0, 0, 9]),
        head.template(300, &FLOW),
        set(300, &RECORD),
        options,
        set(300, &[0, 0, 0, 1, 0, 0, 0, 9]),
    ];
    let outcome = send(&mut d, &head.message(&sets));
    assert_eq!((outcome.records, outcome.options_records, outcome.error), (1, 2, None));
}

#[test]
fn quirk_20_two_definitions_that_alternate() {
    let (mut d, head) = (decoder(), Head::new(9));
    let other = [spec(12, 4), spec(2, 4)];
    for _ in 0..50 {
        let sets = [head.template(300, &FLOW), set(300, &RECORD), head.template(300, &other), set(300, &RECORD)];
        assert_eq!(send(&mut d, &head.message(&sets)).records, 2);
    }
    let batches = d.flush();
    assert_eq!(batches.iter().map(Batch::rows).collect::<Vec<_>>(), [50, 50]);
}

#[test]
fn quirk_21_one_id_in_several_domains() {
    let mut d = decoder();
    let other = [spec(12, 4), spec(2, 4)];
    let (a, b) = (Head { domain: 1, ..Head::new(10) }, Head { domain: 2, ..Head::new(10) });
    send(&mut d, &a.message(&[a.template(300, &FLOW)]));
    send(&mut d, &b.message(&[b.template(300, &other)]));
    send(&mut d, &a.message(&[set(300, &RECORD)]));
    send(&mut d, &b.message(&[set(300, &RECORD)]));
    let batches = d.flush();
    assert!(batches.iter().any(|b| b.column("src_ip4").is_some() && b.runs()[0].meta.domain_id == 1));
    assert!(batches.iter().any(|b| b.column("dst_ip4").is_some() && b.runs()[0].meta.domain_id == 2));
}

#[test]
fn quirk_21_285_fields_in_one_template() {
    let (mut d, head) = (decoder(), Head::new(10));
    let fields: Vec<Spec> = (0..285).map(|i| Spec { pen: 32473, id: i + 1, len: 2 }).collect();
    let record: Vec<u8> = (0..570).map(|i| i as u8).collect();
    let outcome = send(&mut d, &head.message(&[head.template(300, &fields), set(300, &record)]));
    assert_eq!((outcome.records, outcome.error), (1, None));
    assert_eq!(one(&mut d).columns().count(), 285);
}

#[test]
fn quirk_22_options_from_another_port() {
    let (mut d, head) = (decoder(), Head::new(9));
    let options = head.options_template(400, &[spec(1, 4)], &[spec(34, 4)]);
    d.decode(&head.message(&[options, set(400, &[0, 0, 0, 1, 0, 0, 0, 64])]), from(50_000), Timestamp(NOW));
    d.decode(&head.message(&[head.template(300, &FLOW), set(300, &RECORD)]), from(2055), Timestamp(NOW));
    assert_eq!(sampling(&mut d), (64.0, SamplingSource::Domain as u8));
}

#[test]
fn quirk_22_exporters_that_differ_only_by_port() {
    let (mut d, head) = (decoder(), Head::new(9));
    let other = [spec(12, 4), spec(2, 4)];
    d.decode(&head.message(&[head.template(300, &FLOW)]), from(1), Timestamp(NOW));
    d.decode(&head.message(&[head.template(300, &other)]), from(2), Timestamp(NOW));
    for port in [1, 2] {
        d.decode(&head.message(&[set(300, &RECORD)]), from(port), Timestamp(NOW));
    }
    let batches = d.flush();
    assert!(batches.iter().any(|b| b.column("src_ip4").is_some() && b.runs()[0].meta.exporter.port() == 1));
    assert!(batches.iter().any(|b| b.column("dst_ip4").is_some() && b.runs()[0].meta.exporter.port() == 2));
}

#[test]
fn quirk_22_a_template_from_another_port_decodes_what_is_held() {
    let (mut d, head) = (decoder(), Head::new(10));
    d.decode(&head.message(&[set(300, &RECORD)]), from(1), Timestamp(NOW - 5));
    let outcome = d.decode(&head.message(&[head.template(300, &FLOW)]), from(2), Timestamp(NOW));
    assert_eq!((outcome.records, outcome.late_records, outcome.late_sets), (1, 1, 1));
    let meta = one(&mut d).runs()[0].meta;
    assert!(meta.late);
    assert_eq!((meta.exporter.port(), meta.received_at), (1, Timestamp(NOW - 5)));
}

#[test]
fn quirk_23_data_and_its_template_in_one_message_in_either_order() {
    for version in [9, 10] {
        let (mut d, head) = (decoder(), Head::new(version));
        let sets = [set(300, &RECORD), head.template(300, &FLOW), set(300, &RECORD)];
        let outcome = send(&mut d, &head.message(&sets));
        assert_eq!((outcome.records, outcome.late_records, outcome.sets_held), (2, 1, 1));
        // The units of the whole message are known: the next one can be judged.
        let units = if version == 9 { 1 } else { 2 };
        let next = Head { sequence: units + 3, ..head };
        assert_eq!(send(&mut d, &next.message(&[set(300, &RECORD)])).sequence, SequenceEvent::Gap(3));
    }
}

#[test]
fn quirk_24_withdrawals_of_one_and_of_all() {
    let (mut d, head) = (decoder(), Head::new(10));
    let define = head.message(&[head.template(300, &FLOW), head.template(301, &FLOW)]);
    for (id, known) in [(300, 1), (2, 0)] {
        send(&mut d, &define);
        let outcome = send(&mut d, &head.message(&[head.withdrawal(id, false), set(300, &RECORD), set(301, &RECORD)]));
        assert_eq!((outcome.records, outcome.error), (known, None));
    }
    assert_eq!(d.stats().withdrawals, 2);
    // What waits for a withdrawn template is dropped.
    let held = d.held_sets() as u64;
    assert!(held > 0);
    let before = d.stats().held_dropped;
    send(&mut d, &head.message(&[head.withdrawal(2, false)]));
    assert_eq!((d.held_sets(), d.stats().held_dropped), (0, before + held));
}

#[test]
fn quirk_26_uptimes_in_ipfix_without_a_base() {
    let fields = [spec(22, 4), spec(21, 4)];
    let record = [0, 0, 3, 232, 0, 0, 7, 208];
    let got = times(Head::new(10), &fields, &record);
    assert_eq!(got, (Some(NOW - 1_000_000), Some(NOW), TimeSource::UptimeNoBase as u8));
}

#[test]
fn quirk_26_base_in_the_record_after_the_times() {
    let base: i64 = NOW / 1000 - 10_000;
    let fields = [spec(22, 4), spec(21, 4), spec(160, 8)];
    let record = [&[0, 0, 3, 232, 0, 0, 7, 208][..], &base.to_be_bytes()].concat();
    let want = base * 1000;
    let got = times(Head::new(10), &fields, &record);
    assert_eq!(got, (Some(want + 1_000_000), Some(want + 2_000_000), TimeSource::UptimeInitInRecord as u8));
}

#[test]
fn quirk_26_base_in_options_data() {
    let (mut d, head) = (decoder(), Head::new(10));
    let base: i64 = NOW / 1000 - 10_000;
    let options = head.options_template(400, &[spec(144, 4)], &[spec(160, 8)]);
    let flow = head.template(300, &[spec(22, 4), spec(21, 4)]);
    let told = [&[0, 0, 0, 1][..], &base.to_be_bytes()].concat();
    let sets = [options, set(400, &told), flow, set(300, &[0, 0, 3, 232, 0, 0, 7, 208])];
    send(&mut d, &head.message(&sets));
    let batch = one(&mut d);
    assert_eq!(time(&batch, "flow_end"), Some(base * 1000 + 2_000_000));
    assert_eq!(batch.runs()[0].meta.time_source, TimeSource::UptimeInitInOptions as u8);
}

#[test]
fn quirk_27_uptimes_of_eight_bytes() {
    let head = Head { uptime: 10_000, ..Head::new(9) };
    let record = [[0, 0, 0, 7, 0, 0, 3, 232], [0, 0, 0, 7, 0, 0, 7, 208]].concat();
    let got = times(head, &[spec(22, 8), spec(21, 8)], &record);
    assert_eq!(got, (Some(NOW - 9_000_000), Some(NOW - 8_000_000), TimeSource::Uptime as u8));
}

fn ntp(us: i64) -> u64 {
    let seconds = (us / 1_000_000 + 2_208_988_800) as u64;
    seconds << 32
}

#[test]
fn quirk_28_netscaler_microseconds_in_place_of_a_fraction() {
    let fields = [spec(154, 8), spec(155, 8), Spec { pen: 5951, id: 128, len: 1 }];
    let record = [&(ntp(NOW) | 250).to_be_bytes()[..], &(ntp(NOW) | 999_999).to_be_bytes(), &[1]].concat();
    let got = times(Head::new(10), &fields, &record);
    assert_eq!(got, (Some(NOW + 250), Some(NOW + 999_999), TimeSource::Microseconds as u8));
}

#[test]
fn quirk_29_nanoseconds_deltas_and_seconds() {
    let record = [(ntp(NOW) | 1 << 31).to_be_bytes(), (ntp(NOW) | 3 << 30).to_be_bytes()].concat();
    let got = times(Head::new(10), &[spec(156, 8), spec(157, 8)], &record);
    assert_eq!(got, (Some(NOW + 500_000), Some(NOW + 750_000), TimeSource::Nanoseconds as u8));
    let got = times(Head::new(10), &[spec(158, 4), spec(159, 4)], &[0, 0, 3, 232, 0, 0, 0, 1]);
    assert_eq!(got, (Some(NOW - 1000), Some(NOW - 1), TimeSource::DeltaMicroseconds as u8));
    let secs = 1_700_000_000u32.to_be_bytes().repeat(2);
    let got = times(Head::new(10), &[spec(150, 4), spec(151, 4)], &secs);
    assert_eq!(got, (Some(NOW), Some(NOW), TimeSource::Seconds as u8));
}

#[test]
fn quirk_30_ends_after_the_uptime_and_across_its_wrap() {
    let fields = [spec(22, 4), spec(21, 4)];
    let record = [5000u32.to_be_bytes(), 10_160u32.to_be_bytes()].concat();
    let got = times(Head { uptime: 10_000, ..Head::new(9) }, &fields, &record);
    assert_eq!(got, (Some(NOW - 5_000_000), Some(NOW + 160_000), TimeSource::Uptime as u8));
    let record = [(u32::MAX - 999).to_be_bytes(), 500u32.to_be_bytes()].concat();
    let got = times(Head { uptime: 1000, ..Head::new(9) }, &fields, &record);
    assert_eq!(got, (Some(NOW - 2_000_000), Some(NOW - 500_000), TimeSource::Uptime as u8));
}

#[test]
fn quirk_31_v9_with_absolute_times_and_garbage_in_the_header() {
    let ms = (NOW / 1000).to_be_bytes().repeat(2);
    let got = times(Head { secs: 502, ..Head::new(9) }, &[spec(152, 8), spec(153, 8)], &ms);
    assert_eq!(got, (Some(NOW), Some(NOW), TimeSource::Milliseconds as u8));
}

#[test]
fn quirk_31_records_without_any_time() {
    assert_eq!(times(Head::new(9), &FLOW, &RECORD), (None, None, TimeSource::None as u8));
}

#[test]
fn quirk_32_v5_sampling_without_its_mode() {
    for (header, want) in [(0x4064, Some(100.0)), (0, None), (0x8000, None), (0x3fff, Some(16_383.0))] {
        let mut d = decoder();
        send(&mut d, &Head { sampling: header, ..Head::new(5) }.fixed(&[vec![0; 48]]));
        let (rate, source) = sampling(&mut d);
        assert_eq!((!rate.is_nan()).then_some(rate), want);
        let code = if want.is_some() { SamplingSource::Header } else { SamplingSource::None };
        assert_eq!(source, code as u8);
    }
}

#[test]
fn quirk_33_nokia_305_and_306() {
    let (mut d, head) = (decoder(), Head::new(10));
    let options = head.options_template(400, &[spec(302, 1)], &[spec(305, 4), spec(306, 4)]);
    let flow = head.template(300, &[spec(8, 4), spec(302, 1)]);
    let told = [7, 0, 0, 0, 1, 0, 0, 3, 231];
    send(&mut d, &head.message(&[options, set(400, &told), flow, set(300, &[192, 0, 2, 1, 7])]));
    assert_eq!(sampling(&mut d), (1000.0, SamplingSource::Sampler as u8));
}

#[test]
fn quirk_33_sampler_ids_of_other_lengths_and_without_a_rate() {
    let (mut d, head) = (decoder(), Head::new(9));
    let options = head.options_template(400, &[spec(1, 4)], &[spec(48, 2), spec(50, 4)]);
    let flow = head.template(300, &[spec(8, 4), spec(48, 4)]);
    let told = [0, 0, 0, 1, 0, 3, 0, 0, 2, 0];
    let (known, unknown) = ([192, 0, 2, 1, 0, 0, 0, 3], [192, 0, 2, 1, 0, 0, 0, 4]);
    send(&mut d, &head.message(&[options, set(400, &told), flow, set(300, &known)]));
    assert_eq!(sampling(&mut d), (512.0, SamplingSource::Sampler as u8));
    send(&mut d, &head.message(&[set(300, &unknown)]));
    let (rate, source) = sampling(&mut d);
    assert!(rate.is_nan());
    assert_eq!(source, SamplingSource::None as u8);
}

#[test]
fn sampling_is_taken_from_the_record_before_all_else() {
    let mut d = Decoder::new(Config { sampling_rate: Some(7.0), ..Config::default() });
    let head = Head::new(9);
    let flow = head.template(300, &[spec(8, 4), spec(34, 4)]);
    send(&mut d, &head.message(&[flow, set(300, &[192, 0, 2, 1, 0, 0, 0, 50])]));
    assert_eq!(sampling(&mut d), (50.0, SamplingSource::Record as u8));
    // Zero is unknown, so what was configured holds.
    send(&mut d, &head.message(&[set(300, &[192, 0, 2, 1, 0, 0, 0, 0])]));
    assert_eq!(sampling(&mut d), (7.0, SamplingSource::Configured as u8));
}

#[test]
fn mistake_one_unknown_template_drops_the_whole_message() {
    let (mut d, head) = (decoder(), Head::new(9));
    let sets = [head.template(300, &FLOW), set(999, &[1; 40]), set(300, &RECORD)];
    let outcome = send(&mut d, &head.message(&sets));
    assert_eq!((outcome.records, outcome.unknown_templates, outcome.sets_held), (1, 1, 1));
}

#[test]
fn mistake_an_undecodable_set_counted_as_loss() {
    let (mut d, head) = (decoder(), Head::new(10));
    let at = |sequence| Head { sequence, ..head };
    send(&mut d, &at(0).message(&[set(300, &RECORD.repeat(4))]));
    let outcome = send(&mut d, &at(4).message(&[set(301, &RECORD)]));
    assert_eq!(outcome.sequence, SequenceEvent::Unverifiable);
    assert_eq!(d.stats().unverifiable, 1);
    // The templates come: all is verified, and nothing was lost.
    let templates = [head.template(300, &FLOW), head.template(301, &FLOW)];
    let outcome = send(&mut d, &at(5).message(&templates));
    assert_eq!((outcome.records, outcome.late_records, outcome.sequence), (5, 5, SequenceEvent::InOrder));
    let stats = d.stats();
    assert_eq!((stats.unverifiable, stats.gaps, stats.lost), (0, 0, 0));
}

#[test]
fn mistake_a_sequence_reset_that_wipes_templates() {
    let (mut d, head) = (decoder(), Head { sequence: 500_000, ..Head::new(9) });
    send(&mut d, &head.message(&[head.template(300, &FLOW)]));
    let outcome = send(&mut d, &Head { sequence: 1, ..head }.message(&[set(300, &RECORD)]));
    assert_eq!((outcome.records, outcome.sequence), (1, SequenceEvent::Reset));
    // Nor does another uptime: it is of a part of the router that was up before the last message, too.
    let part = Head { sequence: 2, uptime: head.uptime - 1_000_000, ..head };
    assert_eq!(send(&mut d, &part.message(&[set(300, &RECORD)])).records, 1);
}

#[test]
fn mistake_one_sampling_rate_per_domain_whatever_the_sampler() {
    let (mut d, head) = (decoder(), Head::new(9));
    let options = head.options_template(400, &[spec(1, 4)], &[spec(48, 1), spec(34, 4)]);
    let told = [[0, 0, 0, 1, 1, 0, 0, 0, 10], [0, 0, 0, 1, 2, 0, 0, 0, 20]].concat();
    let flow = head.template(300, &[spec(8, 4), spec(48, 1)]);
    send(&mut d, &head.message(&[options, set(400, &told), flow]));
    for (sampler, rate) in [(1, 10.0), (2, 20.0)] {
        send(&mut d, &head.message(&[set(300, &[192, 0, 2, 1, sampler])]));
        assert_eq!(sampling(&mut d), (rate, SamplingSource::Sampler as u8));
    }
}

#[test]
fn mistake_a_template_identity_without_the_version() {
    let mut d = decoder();
    let (v9, ipfix) = (Head::new(9), Head::new(10));
    send(&mut d, &v9.message(&[v9.template(300, &FLOW)]));
    let outcome = send(&mut d, &ipfix.message(&[set(300, &RECORD)]));
    assert_eq!((outcome.records, outcome.unknown_templates), (0, 1));
}

#[test]
fn sequences_count_flows_messages_and_data_records() {
    let mut d = decoder();
    let v5 = |sequence| Head { sequence, ..Head::new(5) }.fixed(&vec![vec![0; 48]; 30]);
    let got: Vec<_> = [0, 30, 90, 60, 60, 120].map(|n| send(&mut d, &v5(n)).sequence).to_vec();
    use SequenceEvent::{Duplicate, Gap, InOrder, Reordered};
    assert_eq!(got, [InOrder, InOrder, Gap(30), Reordered(30), Duplicate, InOrder]);
    let stats = d.stats();
    assert_eq!((stats.records, stats.lost, stats.gaps, stats.reordered, stats.duplicates), (180, 0, 1, 1, 1));
    let head = Head::new(9);
    let v9 = |sequence| Head { sequence, ..head }.message(&[head.template(300, &FLOW), set(300, &RECORD.repeat(9))]);
    let got: Vec<_> = [8, 9, 12].map(|n| send(&mut d, &v9(n)).sequence).to_vec();
    assert_eq!(got, [InOrder, InOrder, Gap(2)]);
    // Options records count in IPFIX.
    let head = Head::new(10);
    let options = head.options_template(301, &[spec(144, 4)], &[spec(34, 4)]);
    let sets = [head.template(300, &FLOW), options, set(300, &RECORD.repeat(3)), set(301, &[0; 16])];
    let ipfix = |sequence| Head { sequence, ..head }.message(&sets);
    let got: Vec<_> = [0, 5, 11].map(|n| send(&mut d, &ipfix(n)).sequence).to_vec();
    assert_eq!(got, [InOrder, InOrder, Gap(1)]);
}

#[test]
fn a_mapped_address_is_that_ipv4_address() {
    let mut d = decoder();
    let head = Head::new(9);
    d.decode(&head.message(&[head.template(300, &FLOW)]), from(2055), Timestamp(NOW));
    let mapped: SocketAddr = "[::ffff:192.0.2.9]:2055".parse().expect("an address");
    let outcome = d.decode(&head.message(&[set(300, &RECORD)]), mapped, Timestamp(NOW));
    assert_eq!(outcome.records, 1);
    assert_eq!(one(&mut d).runs()[0].meta.exporter, from(2055));
    assert_eq!(d.exporters().count(), 1);
}

#[test]
fn batches_are_handed_over_by_rows_age_and_bytes() {
    let message = Head::new(5).fixed(&vec![vec![0; 48]; 30]);
    let mut d = Decoder::new(Config { batch_rows: 50, ..Config::default() });
    send(&mut d, &message);
    assert!(!d.has_full_batch());
    send(&mut d, &message);
    let batch = d.next_batch().expect("a full batch");
    assert_eq!((batch.rows(), d.pending_rows()), (50, 10));
    d.recycle(batch);
    d.tick(Timestamp(NOW + 2_000_000));
    assert_eq!(d.next_batch().map(|b| b.rows()), Some(10));
    let mut d = Decoder::new(Config { batch_bytes: 10_000, ..Config::default() });
    while !d.has_full_batch() {
        send(&mut d, &message);
        assert!(d.pending_rows() < 1000);
    }
}

#[test]
fn equal_templates_share_one_batch() {
    let mut d = decoder();
    let head = Head::new(9);
    for host in 1..=100u8 {
        let from = SocketAddr::from(([192, 0, 2, host], 2055));
        let id = 256 + u16::from(host);
        d.decode(&head.message(&[head.template(id, &FLOW), set(id, &RECORD)]), from, Timestamp(NOW));
    }
    let batch = one(&mut d);
    assert_eq!((batch.rows(), batch.runs().len()), (100, 100));
    assert_eq!(batch.runs()[99].meta.template_id, 356);
}

#[test]
fn options_records_come_with_scope_and_values() {
    let (mut d, head) = (decoder(), Head::new(10));
    let options = head.options_template(400, &[spec(144, 4)], &[spec(82, VARIABLE), spec(34, 4)]);
    let record = [&[0, 0, 0, 9][..], &encoder::varying(b"eth0", false), &[0, 0, 0, 5]].concat();
    send(&mut d, &head.message(&[options, set(400, &record.repeat(2))]));
    let batch = d.next_options().expect("options");
    assert_eq!(batch.len(), 2);
    let second = batch.record(1).expect("two");
    assert_eq!(second.scope().map(|(s, v)| (s.id, v)).collect::<Vec<_>>(), [(144, &[0, 0, 0, 9][..])]);
    assert_eq!(second.options().map(|(s, v)| (s.id, v)).collect::<Vec<_>>(), [(82, &b"eth0"[..]), (34, &[0, 0, 0, 5])]);
    assert!(d.next_options().is_none());
}
