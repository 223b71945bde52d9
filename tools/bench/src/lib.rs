//! Workloads, and what decodes them: flowlane, a copy of the same bytes, and two other crates.

/// Writes databases for the bench of names and places, as the tests do.
#[path = "../../../tests/mmdb/mod.rs"]
#[expect(missing_docs, reason = "the tests' own")]
pub mod mmdb;

use bytes::BytesMut;
use flowlane::columns::{ColumnView, Timestamp};
use flowlane::decode::{Config, Decoder};
use flowlane::rows::Session;
use flowlane::source::Source;
use flowlane::template::Template;
use flowlane::value::Value;
use flowlane::wire::{Message, v5};
use netflow_parser::{NetflowPacket, NetflowParser};
use netgauze_flow_pkt::FlowInfo;
use netgauze_flow_pkt::codec::FlowInfoCodec;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use tokio_util::codec::Decoder as _;
use zerocopy::FromBytes;

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
/// The 40-byte template with IPv6 addresses.
const FIELDS_IPV6: &[(u16, u16)] = &[
    (27, 16),
    (28, 16),
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
    /// Who sent each datagram, by its place in `sources`; one source where it is empty.
    pub from: Vec<usize>,
    /// The exporters.
    pub sources: Vec<SocketAddr>,
}

impl Workload {
    /// A workload of one exporter.
    fn of_one(name: &'static str, template: Option<Vec<u8>>, header: usize, datagrams: Vec<Vec<u8>>) -> Self {
        let sources = vec![SocketAddr::from(([192, 0, 2, 1], 2055))];
        Self { name, template, datagrams, header, records: 0, bytes: 0, from: Vec::new(), sources }
    }

    /// The datagrams, each with the place of its exporter.
    fn each(&self) -> impl Iterator<Item = (&[u8], usize)> {
        let from = self.from.iter().copied().chain(std::iter::repeat(0));
        self.datagrams.iter().map(Vec::as_slice).zip(from)
    }

    /// The same, with the exporters' addresses.
    fn sent(&self) -> impl Iterator<Item = (&[u8], SocketAddr)> {
        self.each().map(|(datagram, from)| (datagram, self.sources[from]))
    }

    /// Bytes of the records of all datagrams.
    pub fn record_bytes(&self) -> usize {
        self.datagrams.iter().map(|d| d.len() - self.header).sum()
    }

    /// Whether it is the recordings of real exporters.
    pub fn is_recorded(&self) -> bool {
        !self.from.is_empty()
    }
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
    const TEMPLATED: [Templated; 7] = [
        ("v9, 14 fields", 9, FIELDS_40, 35),
        ("v9, 23 fields", 9, FIELDS_76, 18),
        ("IPFIX, 14 fields", 10, FIELDS_40, 35),
        ("IPFIX, 23 fields", 10, FIELDS_76, 18),
        ("IPFIX, IPv6", 10, FIELDS_IPV6, 21),
        ("IPFIX, variable", 10, FIELDS_VARIABLE, 30),
        ("IPFIX, 1 record", 10, FIELDS_40, 1),
    ];
    let first = [("v5", 30), ("v5, 1 record", 1)].into_iter().filter(|w| w.0.contains(only));
    let others = TEMPLATED.into_iter().filter(|t| t.0.contains(only));
    first
        .map(|(name, per)| v5(name, per, datagrams))
        .chain(others.map(|(name, v, f, per)| templated(name, v, f, per, datagrams)))
        .chain("recordings".contains(only).then(|| recordings(datagrams)))
        .collect()
}

/// The recordings of real exporters in fixtures/, over and over, each file with exporters of its own.
fn recordings(datagrams: usize) -> Workload {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures");
    let mut files: Vec<_> =
        std::fs::read_dir(&folder).expect("fixtures/").filter_map(|e| Some(e.ok()?.path())).collect();
    files.retain(|f| f.extension().is_some_and(|e| e == "pcap"));
    files.sort();
    let mut w = Workload::of_one("recordings", None, 0, Vec::new());
    w.sources.clear();
    for (i, file) in files.iter().enumerate() {
        let mut source = Source::open(file).expect("a capture");
        while let Some(datagram) = source.next() {
            let datagram = datagram.expect("a whole capture");
            let at = SocketAddr::from(([10, 0, 0, i as u8], datagram.exporter.port()));
            let place = w.sources.iter().position(|s| *s == at).unwrap_or(w.sources.len());
            if place == w.sources.len() {
                w.sources.push(at);
            }
            w.from.push(place);
            w.datagrams.push(datagram.bytes.to_vec());
        }
    }
    let (bytes, from) = (w.datagrams.clone(), w.from.clone());
    w.datagrams = bytes.into_iter().cycle().take(datagrams).collect();
    w.from = from.into_iter().cycle().take(datagrams).collect();
    (w.records, w.bytes) = flowlane_sums(&w);
    w
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
    Workload { records: (datagrams * per) as u64, bytes, ..Workload::of_one(name, None, 24, out) }
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
                let value = [random.next().to_be_bytes(), random.next().to_be_bytes()].concat();
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
    Workload { records: (datagrams * per) as u64, bytes, ..Workload::of_one(name, Some(template), header, out) }
}

/// A decoder that knows the workload's template.
pub fn decoder(w: &Workload) -> Decoder {
    let mut decoder = Decoder::new(Config::default());
    if let Some(template) = &w.template {
        decoder.decode(template, w.sources[0], Timestamp(0));
    }
    decoder
}

/// The template of a workload's records.
pub fn template(w: &Workload) -> Arc<Template> {
    let decoder = decoder(w);
    let of_decoder = decoder.templates().next().map(|(.., template)| template.clone());
    of_decoder.or_else(|| Template::constant(5).cloned()).expect("a template")
}

/// Decodes all datagrams into 8,192-row batches that are thrown away unread; returns the records.
pub fn flowlane(w: &Workload, decoder: &mut Decoder) -> u64 {
    let mut records = 0;
    for (datagram, from) in w.sent() {
        records += u64::from(decoder.decode(datagram, from, Timestamp(0)).records);
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
    for (datagram, from) in w.sent() {
        decoder.decode(datagram, from, Timestamp(0));
    }
    for batch in decoder.flush() {
        records += batch.rows() as u64;
        if let Some(ColumnView::I64(values)) = batch.column("bytes").map(|c| c.values) {
            bytes += values.iter().map(|&v| v.cast_unsigned()).sum::<u64>();
        }
    }
    (records, bytes)
}

/// A session of rows that knows the workload's template.
pub fn session(w: &Workload) -> Session {
    let mut session = Session::default();
    if let Some(template) = &w.template {
        session.parse(template, w.sources[0]).expect("a message");
    }
    session
}

/// Reads the element and the value of every field of every record, borrowed; returns the records and the sum of their
/// byte counters.
pub fn rows(w: &Workload, session: &mut Session) -> (u64, u64) {
    let (mut records, mut bytes, mut all) = (0, 0, 0u64);
    for (datagram, from) in w.sent() {
        let Ok(message) = session.parse(datagram, from) else { continue };
        for record in message.records() {
            records += 1;
            for field in record.fields() {
                let element = field.element().map_or(0, |e| e.id);
                let value = match field.value() {
                    Value::Unsigned(n) => {
                        bytes += if element == 1 { n } else { 0 };
                        n
                    }
                    Value::Ipv4(ip) => ip.to_bits().into(),
                    Value::Ipv6(ip) => ip.to_bits() as u64,
                    Value::DateTime(n) | Value::Signed(n) => n.cast_unsigned(),
                    Value::Text(text) => text.len() as u64,
                    other => u64::from(std::hint::black_box(other) == Value::Absent),
                };
                all = all.wrapping_add(value ^ u64::from(element));
            }
        }
    }
    std::hint::black_box(all);
    (records, bytes)
}

/// Reads every field of every v5 record through the view of the wire; returns the records and the sum of their byte
/// counters.
pub fn views(w: &Workload) -> (u64, u64) {
    let (mut records, mut bytes, mut all) = (0, 0, 0u64);
    for datagram in &w.datagrams {
        let Some(fixed) = Message::parse(datagram).ok().and_then(|m| m.fixed()) else { continue };
        for r in <[v5::Record]>::ref_from_bytes(fixed.bytes).unwrap_or(&[]) {
            records += 1;
            bytes += u64::from(r.octets.get());
            all = all.wrapping_add(sum([
                u32::from_be_bytes(r.src_addr),
                u32::from_be_bytes(r.dst_addr),
                u32::from_be_bytes(r.next_hop),
                r.packets.get(),
                r.octets.get(),
                r.first.get(),
                r.last.get(),
                r.input.get().into(),
                r.output.get().into(),
                r.src_port.get().into(),
                r.dst_port.get().into(),
                r.src_as.get().into(),
                r.dst_as.get().into(),
                r.tcp_flags.into(),
                r.protocol.into(),
                r.tos.into(),
                r.src_mask.into(),
                r.dst_mask.into(),
            ]));
        }
    }
    std::hint::black_box(all);
    (records, bytes)
}

/// The same with the crate netflow_parser's records.
pub fn netflow_parser_v5(w: &Workload, parser: &mut NetflowParser) -> (u64, u64) {
    let (mut records, mut bytes, mut all) = (0, 0, 0u64);
    for datagram in &w.datagrams {
        for packet in parser.parse_bytes(datagram).packets {
            let NetflowPacket::V5(packet) = packet else { continue };
            for r in &packet.flowsets {
                records += 1;
                bytes += u64::from(r.d_octets);
                all = all.wrapping_add(sum([
                    r.src_addr.to_bits(),
                    r.dst_addr.to_bits(),
                    r.next_hop.to_bits(),
                    r.d_pkts,
                    r.d_octets,
                    r.first,
                    r.last,
                    r.input.into(),
                    r.output.into(),
                    r.src_port.into(),
                    r.dst_port.into(),
                    r.src_as.into(),
                    r.dst_as.into(),
                    r.tcp_flags.into(),
                    r.protocol_number.into(),
                    r.tos.into(),
                    r.src_mask.into(),
                    r.dst_mask.into(),
                ]));
            }
        }
    }
    std::hint::black_box(all);
    (records, bytes)
}

fn sum(fields: [u32; 18]) -> u64 {
    fields.iter().fold(0, |sum, &f| sum + u64::from(f))
}

/// A buffer of as many bytes as the records of a batch have: what [`copy`] copies into.
pub fn batch_buffer(w: &Workload) -> Vec<u8> {
    vec![0; (w.record_bytes() as f64 / w.records as f64 * 8192.0) as usize]
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
pub fn netflow_parser(w: &Workload, parsers: &mut [NetflowParser]) -> u64 {
    use netflow_parser::variable_versions::{ipfix, v9};
    let mut records = 0;
    for (datagram, from) in w.each() {
        for packet in parsers[from].parse_bytes(datagram).packets {
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

/// A parser for each exporter, which know the workload's template.
pub fn netflow_parsers(w: &Workload) -> Vec<NetflowParser> {
    let mut parsers: Vec<NetflowParser> = w.sources.iter().map(|_| NetflowParser::default()).collect();
    if let Some(template) = &w.template {
        let _ = parsers[0].parse_bytes(template);
    }
    parsers
}

/// The crate netgauze-flow-pkt, which has no v5; returns the records.
pub fn netgauze(w: &Workload, codecs: &mut [FlowInfoCodec]) -> u64 {
    use netgauze_flow_pkt::{ipfix, netflow};
    let mut records = 0;
    let mut buffer = BytesMut::with_capacity(65_536);
    for (datagram, from) in w.each() {
        buffer.clear();
        buffer.extend_from_slice(datagram);
        if let Ok(Some(info)) = codecs[from].decode(&mut buffer) {
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

/// A codec for each exporter, which know the workload's template.
pub fn netgauze_codecs(w: &Workload) -> Vec<FlowInfoCodec> {
    let mut codecs: Vec<FlowInfoCodec> = w.sources.iter().map(|_| FlowInfoCodec::new()).collect();
    if let Some(template) = &w.template {
        let mut buffer = BytesMut::from(&template[..]);
        let _ = codecs[0].decode(&mut buffer);
    }
    codecs
}
