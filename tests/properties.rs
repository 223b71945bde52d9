//! Random templates and records, encoded by an encoder of their own, decoded by the naive decoder and by the plan.

mod encoder;
mod naive;

use encoder::{Head, Numbers, Spec, VARIABLE, set, spec};
use flowlane::columns::Timestamp;
use flowlane::columns::gather::Kernel;
use flowlane::decode::{Config, Decoder};
use naive::{Naive, compare};
use std::net::SocketAddr;

/// Elements that columns are made of, that derivations ask for, and one of each type beside them.
const IDS: &[u16] = &[
    1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 21, 22, 23, 24, 27, 28, 29, 30, 31, 32, 34, 36, 48,
    50, 52, 54, 56, 57, 58, 59, 60, 61, 62, 63, 70, 71, 72, 79, 80, 81, 82, 84, 85, 86, 88, 89, 95, 96, 128, 129, 136,
    139, 148, 150, 151, 152, 153, 154, 155, 156, 157, 158, 159, 160, 161, 162, 176, 177, 178, 179, 180, 181, 182, 183,
    192, 197, 210, 225, 226, 227, 228, 230, 231, 232, 233, 234, 235, 236, 243, 252, 253, 254, 258, 276, 281, 282, 298,
    299, 302, 305, 306, 309, 310, 311, 313, 320, 322, 323, 324, 325, 351, 361, 362, 363, 364, 371, 434, 999, 5000,
];
/// Enterprise elements: reverse counters, CERT's reverses, NetScaler, Barracuda, unknown.
const ENTERPRISE: &[(u32, u16)] =
    &[(29305, 1), (29305, 2), (29305, 85), (6871, 14), (6871, 0x400e), (5951, 128), (10704, 1), (4_294_967_295, 7)];
const V9_VENDOR: &[u16] = &[33000, 33002, 40000, 40001, 40002, 40003, 40004, 40005, 56701, 57590];
/// Times, their base and sampling are read where their length is fixed; where it varies they are extras.
const FIXED_ONLY: &[u16] = &[
    150, 151, 152, 153, 154, 155, 156, 157, 158, 159, 258, 322, 323, 324, 325, 21, 22, 34, 50, 160, 161, 162, 305, 306,
    309, 310, 311,
];

/// A decoder for each kernel of this machine with the rows it gave, and the naive one.
struct Both {
    decoders: Vec<(Decoder, Vec<naive::Row>)>,
    naive: Naive,
}

impl Both {
    fn new(rows: usize) -> Self {
        let kernels = Kernel::ALL.into_iter().filter(|k| k.is_available());
        let config = |kernel| Config { batch_rows: rows, kernel, ..Config::default() };
        Self { decoders: kernels.map(|k| (Decoder::new(config(k)), Vec::new())).collect(), naive: Naive::default() }
    }

    fn send(&mut self, message: &[u8], port: u16) {
        let from = SocketAddr::from(([192, 0, 2, 9], port));
        self.naive.datagram(message, from, 1_700_000_000_500_000);
        for (decoder, have) in &mut self.decoders {
            let outcome = decoder.decode(message, from, Timestamp(1_700_000_000_500_000));
            let sum = outcome.sets_decoded
                + outcome.sets_held
                + outcome.sets_malformed
                + outcome.sets_skipped
                + outcome.sets_without_room;
            assert_eq!(outcome.sets, sum, "{outcome:?}");
            if decoder.has_full_batch() {
                have.extend(compare::rows(&decoder.flush()));
            }
        }
    }

    fn differences(&mut self) -> Vec<String> {
        let mut wrong = Vec::new();
        for (decoder, have) in &mut self.decoders {
            have.extend(compare::rows(&decoder.flush()));
            let options = decoder.next_options().map_or(0, |o| o.iter().count());
            wrong.extend(compare::differences(&self.naive.rows, have));
            if options != self.naive.options {
                wrong.push(format!("{} options records wanted, {options} there", self.naive.options));
            }
        }
        wrong
    }
}

/// Panics with the first differences of a case.
fn agree(mut both: Both, case: &str) {
    let wrong = both.differences();
    assert!(wrong.is_empty(), "{case}\n{}", wrong[..wrong.len().min(10)].join("\n"));
}

fn natural(n: &mut Numbers, id: u16) -> u16 {
    match id {
        8 | 12 | 15 | 18 | 225 | 226 => 4,
        27 | 28 | 62 | 63 | 281 | 282 => 16,
        56 | 57 | 80 | 81 => 6,
        70..=79 => 3,
        95 => n.one(&[1, 4, 5, 9]),
        21 | 22 | 150 | 151 | 252 | 253 => 4,
        1 | 2 | 85 | 86 | 152..=157 | 160 => 8,
        _ => n.one(&[1, 2, 4, 8]),
    }
}

fn fields(n: &mut Numbers, version: u16, most: usize) -> Vec<Spec> {
    let count = 1 + n.below(most);
    let mut fields = Vec::new();
    for _ in 0..count {
        let (mut pen, mut id) = (0, n.one(IDS));
        if n.below(12) == 0 {
            match version {
                9 => id = n.one(V9_VENDOR),
                _ => (pen, id) = n.one(ENTERPRISE),
            }
        }
        let len = match n.below(10) {
            0 if !(pen == 0 && FIXED_ONLY.contains(&id)) => VARIABLE,
            0 | 1 => n.below(18) as u16,
            _ => natural(n, id),
        };
        fields.push(Spec { pen, id, len });
    }
    fields
}

fn once(version: u16, fields: &[Spec], records: &[u8]) -> Vec<u8> {
    let head = Head::new(version);
    head.message(&[head.template(300, fields), set(300, records)])
}

#[test]
fn every_element_in_every_width() {
    let mut n = Numbers::new(1);
    let mut all = Vec::new();
    for &version in &[9, 10] {
        let enterprise = ENTERPRISE.iter().copied().filter(|_| version == 10);
        let vendor = V9_VENDOR.iter().map(|&id| (0, id)).filter(|_| version == 9);
        for (pen, id) in IDS.iter().map(|&id| (0, id)).chain(enterprise).chain(vendor) {
            for len in (0..=18).chain([VARIABLE]) {
                if len == VARIABLE && pen == 0 && FIXED_ONLY.contains(&id) {
                    continue;
                }
                let fields = [Spec { pen, id, len }, spec(4, 1)];
                let mut both = Both::new(64);
                let records = n.records(&fields, 20);
                both.send(&once(version, &fields, &records), 1);
                all.extend(both.differences().into_iter().map(|d| format!("v{version} {fields:?} {d}")));
            }
        }
    }
    assert!(all.is_empty(), "{}", all.join("\n"));
}

#[test]
fn every_number_of_records() {
    for version in [9, 10] {
        for count in 0..=70 {
            for seed in 0..4 {
                let mut n = Numbers::new(seed * 1000 + count as u64);
                let fields = fields(&mut n, version, 24);
                let records = n.records(&fields, count);
                let mut both = Both::new(50);
                both.send(&once(version, &fields, &records), 1);
                agree(both, &format!("v{version} seed {seed}, {count} records of {fields:?}"));
            }
        }
    }
    for (version, len) in [(1, 48), (5, 48), (7, 52)] {
        for count in 0..=70 {
            let mut n = Numbers::new(count as u64);
            let records: Vec<Vec<u8>> = (0..count).map(|_| (0..len).map(|_| n.next() as u8).collect()).collect();
            let head = Head { sampling: n.next() as u16, nanos: 123_456_789, ..Head::new(version) };
            let mut both = Both::new(50);
            both.send(&head.fixed(&records), 1);
            agree(both, &format!("v{version}, {count} records"));
        }
    }
}

#[test]
fn every_alignment() {
    for seed in 0..8 {
        let mut n = Numbers::new(seed);
        let version = n.one(&[9, 10]);
        let fields = fields(&mut n, version, 20);
        let records = n.records(&fields, 13);
        let message = once(version, &fields, &records);
        for shift in 0..64 {
            let mut buffer = vec![0xa5; shift];
            buffer.extend(&message);
            let mut both = Both::new(8192);
            both.send(&buffer[shift..], 1);
            agree(both, &format!("seed {seed} at {shift}: {fields:?}"));
        }
    }
}

/// Messages of each version, small enough to be cut and flipped everywhere.
fn samples() -> Vec<Vec<u8>> {
    let mut n = Numbers::new(77);
    let mut all = Vec::new();
    for (version, len) in [(1, 48), (5, 48), (7, 52)] {
        let records: Vec<Vec<u8>> = (0..3).map(|_| (0..len).map(|_| n.next() as u8).collect()).collect();
        all.push(Head::new(version).fixed(&records));
    }
    for version in [9, 10] {
        let head = Head::new(version);
        let fixed =
            [spec(8, 4), spec(12, 4), spec(7, 2), spec(11, 2), spec(4, 1), spec(1, 8), spec(22, 4), spec(21, 4)];
        let varying = [spec(27, 16), spec(28, 16), spec(82, VARIABLE), spec(1, 4), spec(96, VARIABLE), spec(4, 1)];
        let scope = [spec(if version == 9 { 1 } else { 144 }, 4)];
        let sampling = [spec(34, 4)];
        let (a, b) = (n.records(&fixed, 3), n.records(&varying, 3));
        let c = n.records(&[scope[0], sampling[0]], 1);
        all.push(head.message(&[
            head.template(300, &fixed),
            head.options_template(301, &scope, &sampling),
            set(302, &b),
            set(301, &c),
            set(300, &a),
            head.template(302, &varying),
            set(302, &b),
        ]));
    }
    all
}

#[test]
fn truncation_at_every_byte() {
    for message in samples() {
        for cut in 0..=message.len() {
            let mut both = Both::new(8192);
            both.send(&message[..cut], 1);
            agree(both, &format!("version {} cut at {cut}", message[1]));
        }
    }
}

#[test]
fn every_single_bit_of_the_message_is_flipped() {
    // Headers of messages, sets and templates, and the length bytes of varying fields, are all among them.
    for message in samples() {
        for bit in 0..message.len() * 8 {
            let mut flipped = message.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let mut both = Both::new(8192);
            both.send(&flipped, 1);
            both.send(&message, 1);
            agree(both, &format!("version {} bit {bit} of byte {}", message[1], bit / 8));
        }
    }
}

#[test]
fn exporters_that_define_redefine_withdraw_and_forget() {
    for seed in 0..200 {
        let mut n = Numbers::new(seed + 10_000);
        let mut both = Both::new(100);
        let version = n.one(&[9, 10]);
        let mut known: Vec<(u16, Vec<Spec>)> = Vec::new();
        for sequence in 0..20 {
            let head = Head {
                sequence,
                domain: n.below(2) as u32,
                secs: 1_700_000_000 + sequence,
                uptime: n.next() as u32,
                ..Head::new(version)
            };
            let mut sets = Vec::new();
            for _ in 0..1 + n.below(4) {
                let id = 256 + n.below(4) as u16;
                match n.below(10) {
                    0..3 => {
                        let fields = fields(&mut n, version, 12);
                        sets.push(head.template(id, &fields));
                        known.push((id, fields));
                    }
                    3 => {
                        let scope = [spec(if version == 9 { 2 } else { 302 }, 4)];
                        let options = [spec(n.one(&[34, 50, 48]), 4), spec(n.one(&[34, 305, 160]), 8)];
                        sets.push(head.options_template(id, &scope, &options));
                        known.push((id, [&scope[..], &options[..]].concat()));
                    }
                    4 if version == 10 => {
                        let options = n.below(2) == 1;
                        sets.push(head.withdrawal(if n.below(4) == 0 { 2 + u16::from(options) } else { id }, options));
                    }
                    _ => {
                        let Some((id, fields)) = (!known.is_empty()).then(|| known[n.below(known.len())].clone())
                        else {
                            continue;
                        };
                        let count = n.below(12);
                        let mut records = n.records(&fields, count);
                        records.extend(vec![0; n.below(4)]);
                        sets.push(set(id, &records));
                    }
                }
            }
            both.send(&head.message(&sets), 1 + n.below(2) as u16);
        }
        agree(both, &format!("v{version} seed {seed}"));
    }
}

/// Messages that a decoder takes the short way, because all is as it was, decoded also by one that takes the long way
/// because time has come for it to look at its batches.
#[test]
fn steady_streams_come_to_the_same_the_long_way() {
    for seed in 0..120 {
        let mut n = Numbers::new(seed + 77_000);
        let version = n.one(&[1, 5, 7, 9, 10]);
        let with_age = |batch_age_us| Decoder::new(Config { batch_rows: 50, batch_age_us, ..Config::default() });
        let mut decoders = [(with_age(3_600_000_000), Vec::new()), (with_age(1000), Vec::new())];
        let mut fields: Vec<Spec> = fields(&mut n, version, 10);
        fields.iter_mut().filter(|f| f.len == VARIABLE).for_each(|f| f.len = 4);
        let mut sequence = 0u32;
        for step in 0..40u32 {
            let head = Head { sequence, secs: 1_700_000_000 + step, uptime: 1000 * step, ..Head::new(version) };
            let count = 1 + n.below(20) as u32;
            let refresh = step == 0 || n.below(12) == 0;
            let message = if version < 9 {
                let record = if version == 7 { 52 } else { 48 };
                let records: Vec<Vec<u8>> = (0..count).map(|_| n.bytes(record)).collect();
                Head { sampling: n.one(&[0, 0x4064]), ..head }.fixed(&records)
            } else {
                let mut sets = Vec::new();
                if refresh {
                    let scope = [spec(if version == 9 { 1 } else { 144 }, 4)];
                    let options = [spec(34, 4), spec(160, 8)];
                    sets.push(head.template(300, &fields));
                    sets.push(head.options_template(301, &scope, &options));
                    sets.push(set(301, &n.bytes(16)));
                }
                let mut records = n.records(&fields, count as usize);
                records.extend(vec![0; n.below(3)]);
                sets.push(set(300, &records));
                head.message(&sets)
            };
            let units = if version == 9 { 1 } else { count + u32::from(version == 10 && refresh) };
            sequence = sequence.wrapping_add(units + n.below(15) as u32 / 14);
            let (from, now) = (SocketAddr::from(([192, 0, 2, 9], 1)), 1_700_000_000_000_000 + 1000 * i64::from(step));
            let outcomes = decoders.each_mut().map(|(decoder, have)| {
                let outcome = decoder.decode(&message, from, Timestamp(now));
                if decoder.has_full_batch() {
                    have.extend(compare::rows(&decoder.flush()));
                }
                outcome
            });
            assert_eq!(outcomes[0], outcomes[1], "v{version} seed {seed} step {step}");
        }
        let rows = decoders.each_mut().map(|(decoder, have)| {
            have.extend(compare::rows(&decoder.flush()));
            std::mem::take(have)
        });
        let wrong = compare::differences(&rows[0], &rows[1]);
        assert!(wrong.is_empty() && !rows[0].is_empty(), "v{version} seed {seed}\n{}", wrong.join("\n"));
        assert_eq!(decoders[0].0.stats(), decoders[1].0.stats(), "v{version} seed {seed}");
    }
}
