//! Workloads, and what decodes them: flowlane, a copy of the same bytes, and two other crates.

use bytes::BytesMut;
use flowlane::columns::{ColumnView, Timestamp};
use flowlane::decode::{Config, Decoder};
use netflow_parser::{NetflowPacket, NetflowParser};
use netgauze_flow_pkt::FlowInfo;
use netgauze_flow_pkt::codec::FlowInfoCodec;
use std::net::SocketAddr;
use tokio_util::codec::Decoder as _;

/// Element and length of each field: the 40-byte template.
const FIELDS_40: &[(u16, u16)] = &[
    (8, 4),
    (12, 4),
    (22, 4),
    (21, 4),
    (1, 4),
    (2, 4),
    (10, 4),
    (14, 4),
    (7, 2),
    (11, 2),
    (4, 1),
    (6, 1),
    (60, 1),
    (5, 1),
];
/// The 76-byte template.
const FIELDS_76: &[(u16, u16)] = &[
    (8, 4),
    (12, 4),
    (5, 1),
    (4, 1),
    (7, 2),
    (11, 2),
    (32, 2),
    (10, 4),
    (16, 4),
    (17, 4),
    (18, 4),
    (14, 4),
    (1, 4),
    (2, 4),
    (22, 4),
    (21, 4),
    (15, 4),
    (9, 1),
    (13, 1),
    (6, 1),
    (60, 1),
    (152, 8),
    (153, 8),
];
/// Two names that vary in length among numbers.
const FIELDS_VARIABLE: &[(u16, u16)] =
    &[(8, 4), (12, 4), (82, 65535), (1, 4), (2, 4), (4, 1), (96, 65535), (7, 2), (11, 2)];

/// Datagrams of one kind, and what is in them.
pub struct Workload {
    /// What it is called in tables.
    pub name: &'static str,
    /// Templates first, where there are any.
    pub template: Option<Vec<u8>>,
    /// The datagrams.
    pub datagrams: Vec<Vec<u8>>,
    /// Where the records of a datagram start.
    pub header: usize,
    /// Records in all datagrams.
    pub records: u64,
    /// The sum of their byte counters.
    pub bytes: u64,
}

/// A small generator of numbers, so that runs are alike.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

/// The workloads of `datagrams` datagrams each whose name contains `only`.
pub fn workloads(datagrams: usize, only: &str) -> Vec<Workload> {
    type Templated = (&'static str, u16, &'static [(u16, u16)], usize);
    const TEMPLATED: [Templated; 6] = [
        ("v9, 14 fields", 9, FIELDS_40, 35),
        ("v9, 23 fields", 9, FIELDS_76, 18),
        ("IPFIX, 14 fields", 10, FIELDS_40, 35),
        ("IPFIX, 23 fields", 10, FIELDS_76, 18),
        ("IPFIX, variable", 10, FIELDS_VARIABLE, 30),
        ("IPFIX, 1 record", 10, FIELDS_40, 1),
    ];
    let first = [("v5", 30), ("v5, 1 record", 1)].into_iter().filter(|w| w.0.contains(only));
    let others = TEMPLATED.into_iter().filter(|t| t.0.contains(only));
    first
        .map(|(name, per)| v5(name, per, datagrams))
        .chain(others.map(|(name, v, f, per)| templated(name, v, f, per, datagrams)))
        .collect()
}

const NOW: u32 = 1_700_000_000;

fn v5(name: &'static str, per: usize, datagrams: usize) -> Workload {
    let (mut random, mut out, mut bytes) = (Random(5), Vec::new(), 0);
    for d in 0..datagrams {
        let mut m = vec![0, 5, 0, per as u8];
        for word in [3_600_000u32, NOW, 0, (d * per) as u32, 0] {
            m.extend(word.to_be_bytes());
        }
        for _ in 0..per {
            let start = m.len();
            (0..6).for_each(|_| m.extend(random.next().to_be_bytes()));
            let octets = (random.next() % 100_000) as u32;
            m[start + 20..start + 24].copy_from_slice(&octets.to_be_bytes());
            m[start + 24..start + 32].copy_from_slice(&[0, 54, 0, 0, 0, 54, 1, 0]);
            bytes += u64::from(octets);
        }
        out.push(m);
    }
    Workload { name, template: None, header: 24, records: (datagrams * per) as u64, bytes, datagrams: out }
}

fn templated(name: &'static str, version: u16, fields: &[(u16, u16)], per: usize, datagrams: usize) -> Workload {
    let (mut random, mut bytes) = (Random(9), 0);
    let message = |sequence: u32, set: u16, count: usize, body: &[u8]| {
        let mut m = version.to_be_bytes().to_vec();
        let length = if version == 9 { count as u16 } else { 20 + body.len() as u16 };
        m.extend(length.to_be_bytes());
        if version == 9 {
            m.extend(3_600_000u32.to_be_bytes());
        }
        for word in [NOW, sequence, 7] {
            m.extend(word.to_be_bytes());
        }
        m.extend(set.to_be_bytes());
        m.extend((4 + body.len() as u16).to_be_bytes());
        m.extend(body);
        m
    };
    let mut template = vec![1, 0];
    template.extend((fields.len() as u16).to_be_bytes());
    for (id, len) in fields {
        template.extend(id.to_be_bytes());
        template.extend(len.to_be_bytes());
    }
    let template = message(0, if version == 9 { 0 } else { 2 }, 1, &template);
    let mut out = Vec::new();
    for d in 0..datagrams {
        let mut body = Vec::new();
        for _ in 0..per {
            for &(id, len) in fields {
                let value = random.next().to_be_bytes();
                match (id, len) {
                    (1, _) => {
                        let octets = (random.next() % 100_000) as u32;
                        bytes += u64::from(octets);
                        body.extend(octets.to_be_bytes());
                    }
                    (_, 65535) => {
                        let text = &b"GigabitEthernet0/0"[..4 + (random.next() % 14) as usize];
                        body.push(text.len() as u8);
                        body.extend(text);
                    }
                    (152 | 153, _) => body.extend((u64::from(NOW) * 1000 + random.next() % 1000).to_be_bytes()),
                    (21 | 22, _) => body.extend((3_500_000 + (random.next() % 100_000) as u32).to_be_bytes()),
                    (_, len) => body.extend(&value[..usize::from(len)]),
                }
            }
        }
        let sequence = if version == 9 { d } else { d * per };
        out.push(message(sequence as u32, 256, per, &body));
    }
    let header = if version == 9 { 24 } else { 20 };
    Workload { name, template: Some(template), header, records: (datagrams * per) as u64, bytes, datagrams: out }
}

fn exporter() -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], 2055))
}

/// A decoder that knows the workload's template.
pub fn decoder(w: &Workload) -> Decoder {
    let mut decoder = Decoder::new(Config::default());
    if let Some(template) = &w.template {
        decoder.decode(template, exporter(), Timestamp(0));
    }
    decoder
}

/// Decodes all datagrams into 8,192-row batches that are thrown away unread; returns the records.
pub fn flowlane(w: &Workload, decoder: &mut Decoder) -> u64 {
    let mut records = 0;
    for datagram in &w.datagrams {
        records += u64::from(decoder.decode(datagram, exporter(), Timestamp(0)).records);
        while let Some(batch) = decoder.next_batch() {
            decoder.recycle(batch);
        }
    }
    records
}

/// The records and the sum of `bytes` in the batches, for the check.
pub fn flowlane_sums(w: &Workload) -> (u64, u64) {
    let mut decoder = decoder(w);
    let (mut records, mut bytes) = (0, 0);
    for datagram in &w.datagrams {
        decoder.decode(datagram, exporter(), Timestamp(0));
    }
    for batch in decoder.flush() {
        records += batch.rows() as u64;
        if let Some(ColumnView::I64(values)) = batch.column("bytes").map(|c| c.values) {
            bytes += values.iter().map(|&v| v.cast_unsigned()).sum::<u64>();
        }
    }
    (records, bytes)
}

/// Copies the records of each datagram into a reused buffer of a batch's size.
pub fn copy(w: &Workload, buffer: &mut Vec<u8>) -> u64 {
    let (mut at, mut copied) = (0, 0);
    for datagram in &w.datagrams {
        let records = &datagram[w.header..];
        if at + records.len() > buffer.len() {
            at = 0;
        }
        buffer[at..at + records.len()].copy_from_slice(records);
        at += records.len();
        copied += records.len() as u64;
    }
    std::hint::black_box(&buffer);
    copied
}

/// The crate netflow_parser; returns the records.
pub fn netflow_parser(w: &Workload, parser: &mut NetflowParser) -> u64 {
    use netflow_parser::variable_versions::{ipfix, v9};
    let mut records = 0;
    for datagram in &w.datagrams {
        for packet in parser.parse_bytes(datagram).packets {
            records += match &packet {
                NetflowPacket::V5(p) => p.flowsets.len(),
                NetflowPacket::V9(p) => p
                    .flowsets
                    .iter()
                    .map(|f| if let v9::FlowSetBody::Data(d) = &f.body { d.fields.len() } else { 0 })
                    .sum(),
                NetflowPacket::IPFix(p) => p
                    .flowsets
                    .iter()
                    .map(|f| if let ipfix::FlowSetBody::Data(d) = &f.body { d.fields.len() } else { 0 })
                    .sum(),
                _ => 0,
            } as u64;
            std::hint::black_box(&packet);
        }
    }
    records
}

/// A parser that knows the workload's template.
pub fn netflow_parser_for(w: &Workload) -> NetflowParser {
    let mut parser = NetflowParser::default();
    if let Some(template) = &w.template {
        let _ = parser.parse_bytes(template);
    }
    parser
}

/// The crate netgauze-flow-pkt, which has no v5; returns the records.
pub fn netgauze(w: &Workload, codec: &mut FlowInfoCodec) -> u64 {
    use netgauze_flow_pkt::{ipfix, netflow};
    let mut records = 0;
    let mut buffer = BytesMut::with_capacity(65_536);
    for datagram in &w.datagrams {
        buffer.clear();
        buffer.extend_from_slice(datagram);
        if let Ok(Some(info)) = codec.decode(&mut buffer) {
            records += match &info {
                FlowInfo::NetFlowV9(p) => p
                    .sets()
                    .iter()
                    .map(|s| if let netflow::Set::Data { records, .. } = s { records.len() } else { 0 })
                    .sum::<usize>(),
                FlowInfo::IPFIX(p) => p
                    .sets()
                    .iter()
                    .map(|s| if let ipfix::Set::Data { records, .. } = s { records.len() } else { 0 })
                    .sum(),
            } as u64;
            std::hint::black_box(&info);
        }
    }
    records
}

/// A codec that knows the workload's template.
pub fn netgauze_for(w: &Workload) -> FlowInfoCodec {
    let mut codec = FlowInfoCodec::new();
    if let Some(template) = &w.template {
        let mut buffer = BytesMut::from(&template[..]);
        let _ = codec.decode(&mut buffer);
    }
    codec
}
