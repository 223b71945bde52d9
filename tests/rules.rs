//! What an operator says of exporters, beside what they say of themselves.

mod encoder;

use encoder::{Head, Spec, set, spec};
use flowlane::columns::{Batch, ColumnView, SamplingSource, Timestamp};
use flowlane::decode::{Config, Decoder, Rule, Rules};
use flowlane::plan::Fractions;
use std::net::SocketAddr;

const T0: i64 = 1_700_000_000_000_000;

fn from(address: &str) -> SocketAddr {
    SocketAddr::new(address.parse().expect("an address"), 2055)
}

fn rules(all: &[(&str, u8, Rule)]) -> Rules {
    let mut rules = Rules::default();
    all.iter().for_each(|(prefix, len, rule)| rules.add(prefix.parse().expect("an address"), *len, *rule));
    rules
}

fn rate(rate: f64) -> Rule {
    Rule { sampling_rate: Some(rate), ..Rule::default() }
}

fn over(rate: f64) -> Rule {
    Rule { sampling_override: Some(rate), ..Rule::default() }
}

/// The sampling rate and its source of the last row.
fn sampling(decoder: &mut Decoder) -> (f64, u8) {
    let batches = decoder.flush();
    let batch: &Batch = batches.last().expect("a batch");
    let (run, row) = (batch.runs().last().expect("a run"), batch.rows() - 1);
    match (batch.column("sampling_rate"), batch.column("sampling_source").map(|c| c.values)) {
        (Some(rate), Some(ColumnView::U8(source))) => match rate.values {
            ColumnView::F64(rates) if rate.is_valid(row) => (rates[row], source[row]),
            _ => (0.0, source[row]),
        },
        _ => (run.meta.sampling_rate, run.meta.sampling_source),
    }
}

#[test]
fn each_way_to_know_a_sampling_rate_in_its_order() {
    use SamplingSource as S;
    // What the record, its sampler, its domain and the operator say; what comes of it.
    let cases = [
        (Some(50), Some(40), Some(30), Some(rate(20.0)), (50.0, S::Record)),
        (Some(0), Some(40), Some(30), Some(rate(20.0)), (40.0, S::Sampler)),
        (None, Some(40), Some(30), Some(rate(20.0)), (40.0, S::Sampler)),
        (None, None, Some(30), Some(rate(20.0)), (30.0, S::Domain)),
        (None, None, None, Some(rate(20.0)), (20.0, S::Configured)),
        (None, None, None, None, (10.0, S::Configured)),
        (Some(50), Some(40), Some(30), Some(over(5.0)), (5.0, S::Override)),
        (None, Some(40), None, Some(over(5.0)), (5.0, S::Override)),
        (None, None, Some(30), Some(over(5.0)), (5.0, S::Override)),
        (None, None, None, Some(over(5.0)), (5.0, S::Override)),
    ];
    for version in [9, 10] {
        for (own, sampler, domain, rule, (want, source)) in cases {
            let entries = rule.map(|rule| ("192.0.2.1", 32, rule));
            let rules = rules(entries.as_slice());
            let mut decoder = Decoder::new(Config { sampling_rate: Some(10.0), rules, ..Config::default() });
            let head = Head::new(version);
            let scope = [spec(if version == 9 { 1 } else { 149 }, 4)];
            let mut sets = Vec::new();
            if let Some(rate) = domain {
                sets.push(head.options_template(400, &scope, &[spec(34, 4)]));
                sets.push(set(400, &[0, 0, 0, 7, 0, 0, 0, rate]));
            }
            let mut fields = vec![spec(8, 4), spec(1, 4)];
            let mut record = vec![192, 0, 2, 9, 0, 0, 1, 0];
            if let Some(rate) = sampler {
                sets.push(head.options_template(401, &scope, &[spec(48, 1), spec(50, 4)]));
                sets.push(set(401, &[0, 0, 0, 7, 3, 0, 0, 0, rate]));
                fields.push(spec(48, 1));
                record.push(3);
            }
            if let Some(rate) = own {
                fields.push(spec(34, 4));
                record.extend([0, 0, 0, rate]);
            }
            sets.extend([head.template(300, &fields), set(300, &record)]);
            let outcome = decoder.decode(&head.message(&sets), from("192.0.2.1"), Timestamp(T0));
            assert_eq!(outcome.records, 1);
            let got = sampling(&mut decoder);
            assert_eq!(got, (want, source as u8), "v{version}: {own:?} {sampler:?} {domain:?} {rule:?}");
        }
    }
    for (rule, want) in [(rate(20.0), (100.0, S::Header)), (over(5.0), (5.0, S::Override))] {
        let rules = rules(&[("::ffff:192.0.2.0", 120, rule)]);
        let mut decoder = Decoder::new(Config { rules, ..Config::default() });
        let v5 = Head { sampling: 0x4064, ..Head::new(5) }.fixed(&[vec![0; 48]]);
        // The second message goes the short way.
        for sequence in 0..2u32 {
            let mut v5 = v5.clone();
            v5[16..20].copy_from_slice(&sequence.to_be_bytes());
            decoder.decode(&v5, from("192.0.2.1"), Timestamp(T0));
            let (got, source) = sampling(&mut decoder);
            assert_eq!((got, source), (want.0, want.1 as u8));
        }
    }
}

#[test]
fn the_longest_prefix_is_right_and_rules_change_while_messages_come() {
    let mut decoder = Decoder::new(Config {
        rules: rules(&[
            ("192.0.2.128", 25, rate(3.0)),
            ("0.0.0.0", 0, rate(1.0)),
            ("192.0.2.0", 24, rate(2.0)),
            ("2001:db8::", 32, rate(4.0)),
        ]),
        ..Config::default()
    });
    let v5 = Head::new(5).fixed(&[vec![0; 48]]);
    let of = |decoder: &mut Decoder, address: &str| {
        decoder.decode(&v5, from(address), Timestamp(T0));
        sampling(decoder).0
    };
    for (address, want) in
        [("198.51.100.1", 1.0), ("192.0.2.127", 2.0), ("::ffff:192.0.2.129", 3.0), ("2001:db8::1", 4.0)]
    {
        assert_eq!(of(&mut decoder, address), want, "{address}");
    }
    assert!(of(&mut decoder, "2001:db9::1").is_nan());
    decoder.set_rules(rules(&[("192.0.2.127", 32, over(7.0))]));
    assert_eq!(of(&mut decoder, "192.0.2.127"), 7.0);
    assert!(of(&mut decoder, "192.0.2.129").is_nan());
}

#[test]
fn decimal_fractions_of_one_exporter_alone() {
    const NTP: [Spec; 4] = [spec(154, 8), spec(155, 8), spec(156, 8), spec(157, 8)];
    let seconds: u32 = 1_700_000_000u64.wrapping_add(2_208_988_800) as u32;
    let time = |fraction: u32| [seconds.to_be_bytes(), fraction.to_be_bytes()].concat();
    let decimal = Rule { fractions: Some(Fractions::Decimal), ..Rule::default() };
    let mut decoder = Decoder::new(Config { rules: rules(&[("192.0.2.1", 32, decimal)]), ..Config::default() });
    let head = Head::new(10);
    let start_of = |decoder: &mut Decoder, address: &str, fields: &[Spec], record: &[u8]| {
        decoder.decode(&head.message(&[head.template(300, fields), set(300, record)]), from(address), Timestamp(T0));
        let batch = decoder.flush().pop().expect("a batch");
        let ColumnView::Timestamp(start) = batch.column("flow_start").expect("times").values else { panic!("no time") };
        start[0]
    };
    // Half a second: half of 2^32, and half of 10^9 and 10^6.
    let (ns, us, binary) = (time(500_000_000), time(500_000), time(1 << 31));
    for (address, nanos, micros) in [("192.0.2.1", &ns, &us), ("192.0.2.2", &binary, &binary)] {
        for (fields, record) in [(&NTP[2..], nanos.repeat(2)), (&NTP[..2], micros.repeat(2))] {
            assert_eq!(start_of(&mut decoder, address, fields, &record), T0 + 500_000, "{address}");
        }
    }
    // What changes while it runs changes the plans that are known already.
    decoder.set_rules(Rules::default());
    assert_eq!(start_of(&mut decoder, "192.0.2.1", &NTP[2..], &binary.repeat(2)), T0 + 500_000);
}
