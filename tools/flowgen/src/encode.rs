//! Messages as bytes: headers, the fixed records of v1, v5 and v7, and the sets of v9 and IPFIX.
//!
//! Written from the specifications (Cisco's for v1, v5 and v7; RFC 3954; RFC 7011) and shares nothing with any decoder,
//! so that both cannot be wrong in the same way.

use crate::protocol::{Dialect, Protocol};
use crate::template::{Layout, options};
use crate::traffic::{Flow, Traffic};

/// The longest message header: v5 and v7.
pub(crate) const HEADER_ROOM: usize = 24;
/// How long exporters have been up when they start to send.
pub(crate) const UPTIME_MS: u32 = 86_400_000;
/// What an Ethernet frame has room for behind IPv4 and UDP headers.
const ETHERNET_ROOM: usize = 1472;
/// What a UDP datagram over IPv4 has room for.
const DATAGRAM_ROOM: usize = 65_507;
/// Records of a message where nobody says how many.
const RECORDS: u16 = 30;

/// When a message is exported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Moment {
    pub unix_us: i64,
    pub uptime_ms: u32,
}

impl Moment {
    /// The moment so much after the start of a plan.
    pub fn after(start_us: i64, elapsed_us: i64) -> Self {
        // The uptime wraps after 49.7 days, as an exporter's does.
        Self { unix_us: start_us + elapsed_us, uptime_ms: UPTIME_MS.wrapping_add((elapsed_us / 1000) as u32) }
    }
}

/// What stands in a message's header beside the number and the time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HeaderFields {
    pub sequence: u32,
    pub domain: u32,
    /// 0 where the exporter does not say.
    pub sampling: u16,
}

/// What a message adds to the sums.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sums {
    pub records: u32,
    pub options_records: u32,
    /// How far the message moves the sequence number.
    pub units: u32,
    pub octets: u64,
    pub packets: u64,
    /// Sets of templates that nobody announced: their records are not counted.
    pub unknown_sets: u32,
}

/// A place that holds a time and moves with the clock.
#[derive(Clone, Copy, Debug)]
enum Stamp {
    /// 4 bytes, milliseconds of uptime.
    Uptime(u32),
    /// 8 bytes, milliseconds since 1970.
    Unix(u32),
}

/// A message without its header, and what it adds up to.
#[derive(Clone, Debug)]
pub(crate) struct Body {
    pub bytes: Vec<u8>,
    pub sums: Sums,
    /// What the header counts: records of all kinds, in v9 templates too.
    pub count: u16,
    /// Whether it announces templates, and so must not be lost.
    pub announces: bool,
    stamps: Vec<Stamp>,
    moment: Moment,
}

impl Body {
    pub fn new(moment: Moment) -> Self {
        let (sums, stamps) = (Sums::default(), Vec::new());
        Self { bytes: Vec::new(), sums, count: 0, announces: false, stamps, moment }
    }

    /// A message of another's making.
    pub fn verbatim(bytes: Vec<u8>, sums: Sums, announces: bool) -> Self {
        Self { bytes, sums, announces, ..Self::new(Moment { unix_us: 0, uptime_ms: 0 }) }
    }

    pub fn bytes(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    pub fn u16(&mut self, value: u16) {
        self.bytes(&value.to_be_bytes());
    }

    pub fn u32(&mut self, value: u32) {
        self.bytes(&value.to_be_bytes());
    }

    pub fn u64(&mut self, value: u64) {
        self.bytes(&value.to_be_bytes());
    }

    /// The uptime so much before now.
    pub fn uptime(&mut self, age_ms: u32) {
        self.stamps.push(Stamp::Uptime(self.bytes.len() as u32));
        self.u32(self.moment.uptime_ms.wrapping_sub(age_ms));
    }

    /// The time so much before now.
    pub fn unix_ms(&mut self, age_ms: u32) {
        self.stamps.push(Stamp::Unix(self.bytes.len() as u32));
        self.u64((self.moment.unix_us / 1000 - i64::from(age_ms)) as u64);
    }

    pub fn count_flow(&mut self, flow: &Flow) {
        self.count += 1;
        self.sums.records += 1;
        self.sums.octets += u64::from(flow.octets);
        self.sums.packets += u64::from(flow.packets);
    }

    pub fn count_options(&mut self) {
        self.count += 1;
        self.sums.options_records += 1;
    }

    /// Moves all times by so many milliseconds.
    pub fn advance(&mut self, by_ms: u32) {
        for stamp in &self.stamps {
            match *stamp {
                Stamp::Uptime(at) => {
                    if let Some(bytes) = self.bytes.get_mut(at as usize..).and_then(|b| b.first_chunk_mut()) {
                        *bytes = u32::from_be_bytes(*bytes).wrapping_add(by_ms).to_be_bytes();
                    }
                }
                Stamp::Unix(at) => {
                    if let Some(bytes) = self.bytes.get_mut(at as usize..).and_then(|b| b.first_chunk_mut()) {
                        *bytes = u64::from_be_bytes(*bytes).wrapping_add(u64::from(by_ms)).to_be_bytes();
                    }
                }
            }
        }
    }

    /// Appends a set, RFC 3954 section 5.3 and RFC 7011 section 3.3, padded to a multiple of 4 bytes.
    fn set(&mut self, id: u16, content: impl FnOnce(&mut Self)) {
        let start = self.bytes.len();
        self.u16(id);
        self.u16(0);
        content(self);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        let length = (self.bytes.len() - start) as u16;
        self.bytes[start + 2..start + 4].copy_from_slice(&length.to_be_bytes());
    }

    /// The message's header at a moment, in the first bytes of `head`.
    pub fn header(&self, protocol: Protocol, moment: Moment, of: HeaderFields, head: &mut [u8; HEADER_ROOM]) {
        let seconds = moment.unix_us.div_euclid(1_000_000) as u32;
        let nanos = moment.unix_us.rem_euclid(1_000_000) as u32 * 1000;
        let mut at = 0;
        let mut put = |bytes: &[u8]| {
            head[at..at + bytes.len()].copy_from_slice(bytes);
            at += bytes.len();
        };
        let version: u16 = match protocol {
            Protocol::V1 => 1,
            Protocol::V5 => 5,
            Protocol::V7 => 7,
            Protocol::V9 => 9,
            Protocol::Ipfix => 10,
        };
        put(&version.to_be_bytes());
        if protocol == Protocol::Ipfix {
            put(&((16 + self.bytes.len()) as u16).to_be_bytes());
            put(&seconds.to_be_bytes());
            put(&of.sequence.to_be_bytes());
            return put(&of.domain.to_be_bytes());
        }
        put(&self.count.to_be_bytes());
        put(&moment.uptime_ms.to_be_bytes());
        put(&seconds.to_be_bytes());
        if protocol == Protocol::V9 {
            put(&of.sequence.to_be_bytes());
            return put(&of.domain.to_be_bytes());
        }
        put(&nanos.to_be_bytes());
        match protocol {
            Protocol::V5 => {
                put(&of.sequence.to_be_bytes());
                // Engine type and id, then the mode (1: one packet in so many) and the interval of sampling.
                put(&[0, of.domain as u8]);
                put(&(u16::from(of.sampling > 0) << 14 | of.sampling & 0x3fff).to_be_bytes());
            }
            Protocol::V7 => {
                put(&of.sequence.to_be_bytes());
                put(&[0; 4]);
            }
            _ => {}
        }
    }
}

/// Appends a v1, v5 or v7 record.
fn fixed(protocol: Protocol, flow: &Flow, body: &mut Body) {
    body.u32(flow.src4);
    body.u32(flow.dst4);
    body.u32(flow.next_hop4);
    body.u16(flow.input);
    body.u16(flow.output);
    body.u32(flow.packets);
    body.u32(flow.octets);
    body.uptime(flow.age_ms + flow.duration_ms);
    body.uptime(flow.age_ms);
    body.u16(flow.src_port);
    body.u16(flow.dst_port);
    if protocol == Protocol::V1 {
        body.u16(0);
        body.bytes(&[flow.protocol, flow.tos, flow.tcp_flags, 0, 0, 0]);
        body.u32(0);
    } else {
        body.bytes(&[0, flow.tcp_flags, flow.protocol, flow.tos]);
        body.u16(flow.src_as);
        body.u16(flow.dst_as);
        body.bytes(&[flow.src_mask, flow.dst_mask, 0, 0]);
        if protocol == Protocol::V7 {
            body.u32(flow.next_hop4);
        }
    }
    body.count_flow(flow);
}

/// A message of flows: as many records as asked for, or as an Ethernet frame has room for and at most 30.
pub(crate) fn data(
    protocol: Protocol,
    layout: Layout,
    records: Option<u16>,
    moment: Moment,
    traffic: &mut Traffic,
) -> Result<Body, String> {
    let limit = records.unwrap_or(RECORDS).min(protocol.max_records());
    let room = if records.is_some() { DATAGRAM_ROOM } else { ETHERNET_ROOM } - protocol.header_len();
    let mut body = Body::new(moment);
    match protocol.dialect() {
        None => (0..limit).for_each(|_| fixed(protocol, &traffic.flow(), &mut body)),
        Some(dialect) => {
            let mut last = body.clone();
            let mut rows = Body::new(moment);
            for _ in 0..limit {
                layout.record(dialect, &traffic.flow(), &mut rows);
                if records.is_none() && rows.bytes.len() + 7 > room {
                    break;
                }
                last.clone_from(&rows);
            }
            body.append_set(layout.id(), last);
        }
    }
    if body.bytes.len() > room {
        let template = layout.template();
        return Err(format!("{limit} records of {template} need more than a datagram has room for; ask for fewer"));
    }
    body.sums.units = protocol.units(&body.sums);
    Ok(body)
}

/// The messages with which an exporter says what its data look like, and, with options, how it samples: no longer than
/// an Ethernet frame has room for.
pub(crate) fn announcements(
    dialect: Dialect,
    layouts: &[Layout],
    sampling: Option<(u32, u32)>,
    moment: Moment,
) -> Vec<Body> {
    let v9 = dialect == Dialect::V9;
    let protocol = if v9 { Protocol::V9 } else { Protocol::Ipfix };
    // The header of the set stands before the first.
    let room = ETHERNET_ROOM - protocol.header_len() - 4;
    let mut sets: Vec<(u16, Body)> = Vec::new();
    for layout in layouts {
        let mut one = Body::new(moment);
        layout.announce(dialect, &mut one);
        match sets.last_mut() {
            Some((count, set)) if set.bytes.len() + one.bytes.len() <= room => {
                set.bytes(&one.bytes);
                *count += 1;
            }
            _ => sets.push((1, one)),
        }
    }
    let mut bodies: Vec<Body> = Vec::new();
    for (count, templates) in sets {
        let mut body = Body { announces: true, count, ..Body::new(moment) };
        body.set(if v9 { 0 } else { 2 }, |body| body.bytes(&templates.bytes));
        bodies.push(body);
    }
    if let Some((domain, interval)) = sampling {
        let mut options = Body { announces: true, count: 2, ..Body::new(moment) };
        options.set(if v9 { 1 } else { 3 }, |body| options::announce(dialect, body));
        let boot_ms = (moment.unix_us / 1000 - i64::from(moment.uptime_ms)) as u64;
        options.set(options::SAMPLING, |body| options::sampling(dialect, domain, interval, boot_ms, body));
        options.set(options::NAMES, |body| options::names(dialect, body));
        match bodies.last_mut() {
            Some(last) if protocol.header_len() + last.bytes.len() + options.bytes.len() <= ETHERNET_ROOM => {
                last.bytes(&options.bytes);
                // Templates have no sums.
                last.sums = options.sums;
                last.count += options.count;
            }
            _ => bodies.push(options),
        }
    }
    for body in &mut bodies {
        body.sums.units = protocol.units(&body.sums);
    }
    bodies
}

impl Body {
    /// Appends a data set of records that were encoded apart.
    fn append_set(&mut self, id: u16, rows: Self) {
        let shift = self.bytes.len() as u32 + 4;
        self.set(id, |body| body.bytes(&rows.bytes));
        self.stamps.extend(rows.stamps.iter().map(|stamp| match *stamp {
            Stamp::Uptime(at) => Stamp::Uptime(at + shift),
            Stamp::Unix(at) => Stamp::Unix(at + shift),
        }));
        self.sums = rows.sums;
        self.count += rows.count;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::template::Template;

    #[test]
    fn announcements_fit_into_a_frame_with_options_too() {
        let moment = Moment { unix_us: 1_767_225_600_000_000, uptime_ms: UPTIME_MS };
        for dialect in [Dialect::V9, Dialect::Ipfix] {
            let header = if dialect == Dialect::V9 { 20 } else { 16 };
            let mut is_apart = false;
            for templates in 1..=Template::ALL.len() {
                for layouts in 1..=Layout::MOST {
                    let layouts = Layout::all(&Template::ALL[..templates], layouts);
                    let plain = announcements(dialect, &layouts, None, moment);
                    let bodies = announcements(dialect, &layouts, Some((1, 100)), moment);
                    let longest = bodies.iter().map(|b| header + b.bytes.len()).max().unwrap_or(0);
                    assert!(longest <= ETHERNET_ROOM, "{longest} bytes of {} templates", layouts.len());
                    assert!(bodies.iter().all(|b| b.announces));
                    let options: u32 = bodies.iter().map(|b| b.sums.options_records).sum();
                    assert_eq!(options, 1 + u32::from(crate::traffic::INTERFACES));
                    let count = |bodies: &[Body]| bodies.iter().map(|b| u32::from(b.count)).sum::<u32>();
                    assert_eq!(count(&bodies), count(&plain) + 2 + options);
                    is_apart |= bodies.len() > plain.len();
                }
            }
            assert!(is_apart, "some have no room for options beside them");
        }
    }
}
