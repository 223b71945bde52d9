//! Flows out of the JSON lines of Python's `netflow` collector: `{"<time>": {"client": [ip, port], "header": {...},
//! "flows": [...]}}`, compressed by gzip or not.
//!
//! v1, v5 and v7 flows have short names, v9 flows those of v9's types, IPFIX flows IANA's. Addresses are text or numbers.

use super::flow::{Counts, Flow, is_icmp};
use flate2::read::MultiGzDecoder;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entries {
    /// Lines, empty ones apart.
    pub lines: u64,
    /// Flows.
    pub flows: u64,
    /// Entries of `flows` that are none: without addresses, as those of options records.
    pub without_addresses: u64,
    /// Lines that cannot be read.
    pub damaged: u64,
    /// The first of these, by its number from 1, and what is wrong with it.
    pub first_damaged: Option<(u64, String)>,
}

/// Bytes of a line at most; a message of 64 kB is some hundred kB of JSON.
const LINE: u64 = 64 << 20;

/// Gives the flows of each line to `take`, by their start; `false` ends it.
///
/// # Errors
/// Those of the stream, a damaged compression among them; what was read before it was given.
pub fn netflow_json(stream: impl Read, mut take: impl FnMut(Flow) -> bool) -> io::Result<Entries> {
    let mut stream = BufReader::with_capacity(1 << 16, stream);
    let gzip = stream.fill_buf()?.starts_with(&[0x1f, 0x8b]);
    let mut text: Box<dyn BufRead> =
        if gzip { Box::new(BufReader::with_capacity(1 << 16, MultiGzDecoder::new(stream))) } else { Box::new(stream) };
    let mut found = Entries::default();
    let mut line = Vec::new();
    let mut number = 0;
    loop {
        line.clear();
        if text.by_ref().take(LINE).read_until(b'\n', &mut line)? == 0 {
            return Ok(found);
        }
        number += 1;
        let mut result = Ok(());
        if line.len() as u64 == LINE && !line.ends_with(b"\n") {
            skip_line(&mut *text)?;
            result = Err(format!("longer than {LINE} bytes"));
        }
        if line.trim_ascii().is_empty() {
            continue;
        }
        found.lines += 1;
        let mut more = true;
        let result = result.and_then(|()| {
            let entries: BTreeMap<String, Entry<'_>> = serde_json::from_slice(&line).map_err(|e| e.to_string())?;
            for (time, entry) in &entries {
                let received_us = received(time).ok_or_else(|| format!("{time:?} is no time"))?;
                let flows = entry.flows.iter().filter_map(|flow| flow.read(&entry.header, received_us));
                let mut flows: Vec<Flow> = flows.collect();
                found.flows += flows.len() as u64;
                found.without_addresses += (entry.flows.len() - flows.len()) as u64;
                flows.sort_by_key(|f| f.start_us);
                more = more && flows.into_iter().all(&mut take);
            }
            Ok(())
        });
        if let Err(error) = result {
            found.damaged += 1;
            found.first_damaged.get_or_insert((number, error));
        }
        if !more {
            return Ok(found);
        }
    }
}

fn skip_line(text: &mut dyn BufRead) -> io::Result<()> {
    loop {
        let buffer = text.fill_buf()?;
        let (end, len) = match buffer.iter().position(|b| *b == b'\n') {
            Some(at) => (true, at + 1),
            None => (buffer.is_empty(), buffer.len()),
        };
        text.consume(len);
        if end {
            return Ok(());
        }
    }
}

/// Seconds with a fraction, of which six digits count, as microseconds.
fn received(time: &str) -> Option<i64> {
    let (seconds, fraction) = time.split_once('.').unwrap_or((time, ""));
    let micros: String = fraction.chars().chain("000000".chars()).take(6).collect();
    seconds.parse::<i64>().ok()?.checked_mul(1_000_000)?.checked_add(micros.parse::<u32>().ok()?.into())
}

#[derive(Deserialize)]
struct Entry<'a> {
    header: Header,
    #[serde(borrow)]
    flows: Vec<Record<'a>>,
}

#[derive(Deserialize)]
struct Header {
    uptime: Option<u32>,
    #[serde(alias = "export_uptime")]
    timestamp: Option<u32>,
    #[serde(default)]
    timestamp_nano: u32,
}

impl Header {
    /// When it was exported, microseconds since 1970.
    fn export_us(&self) -> Option<i64> {
        Some(i64::from(self.timestamp?) * 1_000_000 + i64::from(self.timestamp_nano / 1000))
    }
}

type Raw<'a> = Option<&'a RawValue>;

/// The fields that matter, by all the names that they have.
#[derive(Deserialize)]
struct Record<'a> {
    #[serde(borrow, rename = "IPV4_SRC_ADDR", alias = "sourceIPv4Address")]
    src4: Raw<'a>,
    #[serde(borrow, rename = "IPV4_DST_ADDR", alias = "destinationIPv4Address")]
    dst4: Raw<'a>,
    #[serde(borrow, rename = "IPV6_SRC_ADDR", alias = "sourceIPv6Address")]
    src6: Raw<'a>,
    #[serde(borrow, rename = "IPV6_DST_ADDR", alias = "destinationIPv6Address")]
    dst6: Raw<'a>,
    // v1 to v7 flows may have both of the first names.
    #[serde(borrow, rename = "PROTO", alias = "protocolIdentifier")]
    proto: Raw<'a>,
    #[serde(borrow, rename = "PROTOCOL")]
    protocol: Raw<'a>,
    #[serde(borrow, rename = "SRC_PORT", alias = "L4_SRC_PORT", alias = "sourceTransportPort")]
    src_port: Raw<'a>,
    #[serde(borrow, rename = "DST_PORT", alias = "L4_DST_PORT", alias = "destinationTransportPort")]
    dst_port: Raw<'a>,
    #[serde(borrow, rename = "IN_OCTETS", alias = "octetDeltaCount")]
    octets: Raw<'a>,
    #[serde(borrow, rename = "IN_BYTES")]
    bytes: Raw<'a>,
    #[serde(borrow, rename = "IN_PACKETS", alias = "packetDeltaCount")]
    packets: Raw<'a>,
    #[serde(borrow, rename = "IN_PKTS")]
    pkts: Raw<'a>,
    #[serde(borrow, rename = "29305/reverseOctetDeltaCount")]
    back_octets: Raw<'a>,
    #[serde(borrow, rename = "29305/reversePacketDeltaCount")]
    back_packets: Raw<'a>,
    #[serde(borrow, rename = "FIRST_SWITCHED", alias = "flowStartSysUpTime")]
    first_switched: Raw<'a>,
    #[serde(borrow, rename = "LAST_SWITCHED", alias = "flowEndSysUpTime")]
    last_switched: Raw<'a>,
    #[serde(borrow, rename = "systemInitTimeMilliseconds")]
    booted_ms: Raw<'a>,
    #[serde(borrow, rename = "flowStartSeconds")]
    start_s: Raw<'a>,
    #[serde(borrow, rename = "flowEndSeconds")]
    end_s: Raw<'a>,
    #[serde(borrow, rename = "flowStartMilliseconds", alias = "NF_F_FLOW_CREATE_TIME_MSEC")]
    start_ms: Raw<'a>,
    #[serde(borrow, rename = "flowEndMilliseconds")]
    end_ms: Raw<'a>,
    #[serde(borrow, rename = "flowStartMicroseconds")]
    start_ntp: Raw<'a>,
    #[serde(borrow, rename = "flowEndMicroseconds")]
    end_ntp: Raw<'a>,
    #[serde(borrow, rename = "flowStartNanoseconds")]
    start_ntp_ns: Raw<'a>,
    #[serde(borrow, rename = "flowEndNanoseconds")]
    end_ntp_ns: Raw<'a>,
    #[serde(borrow, rename = "flowStartDeltaMicroseconds")]
    start_delta: Raw<'a>,
    #[serde(borrow, rename = "flowEndDeltaMicroseconds")]
    end_delta: Raw<'a>,
}

/// The fields of one side of a flow's time, in order of preference: NTP, before export, milliseconds, uptime, seconds.
struct Side<'a> {
    ntp: [Raw<'a>; 2],
    delta: Raw<'a>,
    ms: Raw<'a>,
    uptime: Raw<'a>,
    s: Raw<'a>,
}

impl Record<'_> {
    /// The flow; `None` where it has no addresses.
    fn read(&self, header: &Header, received_us: i64) -> Option<Flow> {
        let v4 = address(self.src4, Family::V4).zip(address(self.dst4, Family::V4));
        let v6 = address(self.src6, Family::V6).zip(address(self.dst6, Family::V6));
        // Records with fields for both families have zeros in one.
        let is_some = |pair: &(IpAddr, IpAddr)| !pair.0.is_unspecified() || !pair.1.is_unspecified();
        let (src, dst) = v4.filter(is_some).or(v6.filter(is_some)).or(v4).or(v6)?;
        let proto = number(self.protocol.or(self.proto)).and_then(|n| u8::try_from(n).ok());
        let port = |raw| number(raw).and_then(|n| u16::try_from(n).ok()).filter(|_| !is_icmp(proto));
        let count = |raw| i64::try_from(number(raw).unwrap_or(0)).unwrap_or(i64::MAX);
        let counts = |bytes, packets, flows| Counts { bytes: count(bytes), packets: count(packets), flows };
        let start = Side {
            ntp: [self.start_ntp_ns, self.start_ntp],
            delta: self.start_delta,
            ms: self.start_ms,
            uptime: self.first_switched,
            s: self.start_s,
        };
        let end = Side {
            ntp: [self.end_ntp_ns, self.end_ntp],
            delta: self.end_delta,
            ms: self.end_ms,
            uptime: self.last_switched,
            s: self.end_s,
        };
        let base = self.base_us(header);
        let (start, end) = (start.read(header, base), end.read(header, base));
        let (start_us, end_us) = (start.or(end).unwrap_or(received_us), end.or(start).unwrap_or(received_us));
        let back = counts(self.back_octets, self.back_packets, 0);
        let flow = Flow {
            src: (src, port(self.src_port)),
            dst: (dst, port(self.dst_port)),
            proto,
            start_us: start_us.min(end_us),
            end_us,
            received_us,
            sent: counts(self.bytes.or(self.octets), self.pkts.or(self.packets), 1),
            back: (back.bytes > 0 || back.packets > 0).then_some(back),
        };
        Some(flow.forward())
    }

    /// A time of export in microseconds since 1970, and the uptime that belongs to it. Where an IPFIX record does not tell
    /// when its exporter was started, the flow is taken to have ended when it was exported.
    fn base_us(&self, header: &Header) -> Option<(i64, u32)> {
        let export_us = header.export_us()?;
        if let Some(uptime) = header.uptime {
            return Some((export_us, uptime));
        }
        let uptime = match number(self.booted_ms) {
            // An uptime counts modulo 2^32.
            Some(booted_ms) => (export_us / 1000).wrapping_sub(booted_ms as i64) as u32,
            None => number(self.last_switched.or(self.first_switched))? as u32,
        };
        Some((export_us, uptime))
    }
}

impl Side<'_> {
    fn read(&self, header: &Header, base: Option<(i64, u32)>) -> Option<i64> {
        let scaled = |raw, us: i64| i64::try_from(number(raw)?).ok()?.checked_mul(us);
        let ntp = self.ntp.iter().find_map(|raw| ntp(*raw, header.export_us()));
        let delta = || header.export_us()?.checked_sub(scaled(self.delta, 1)?);
        let uptime = || {
            let (export_us, uptime) = base?;
            let at = u32::try_from(number(self.uptime)?).ok()?;
            // Right across the wrap, and for ends that are a little later than the header.
            Some(export_us - 1000 * i64::from(uptime.wrapping_sub(at).cast_signed()))
        };
        ntp.or_else(delta).or_else(|| scaled(self.ms, 1000)).or_else(uptime).or_else(|| scaled(self.s, 1_000_000))
    }
}

enum Family {
    V4,
    V6,
}

fn address(raw: Raw<'_>, family: Family) -> Option<IpAddr> {
    let text = raw?.get();
    if let Some(text) = text.strip_prefix('"') {
        return text.trim_end_matches('"').parse().ok();
    }
    let number = number(raw)?;
    Some(match family {
        Family::V4 => Ipv4Addr::from(u32::try_from(number).ok()?).into(),
        Family::V6 => Ipv6Addr::from(number).into(),
    })
}

fn number(raw: Raw<'_>) -> Option<u128> {
    raw?.get().trim_matches('"').parse().ok()
}

/// `[seconds, fraction]` of NTP, in the era nearest to the export.
fn ntp(raw: Raw<'_>, export_us: Option<i64>) -> Option<i64> {
    let (seconds, fraction): (u32, u32) = serde_json::from_str(raw?.get()).ok()?;
    const ERA: i64 = 1 << 32;
    let near = export_us.unwrap_or(0) / 1_000_000 + 2_208_988_800;
    let seconds = i64::from(seconds);
    let seconds = seconds + ERA * ((near - seconds + ERA / 2).div_euclid(ERA));
    Some((seconds - 2_208_988_800) * 1_000_000 + ((u64::from(fraction) * 1_000_000) >> 32).cast_signed())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn read(text: &[u8]) -> (Vec<Flow>, Entries) {
        let mut flows = Vec::new();
        let entries = netflow_json(text, |flow| {
            flows.push(flow);
            true
        });
        (flows, entries.expect("read"))
    }

    #[test]
    fn names_and_forms_of_every_version() {
        let v5 = r#"{"1700000000.5":{"client":["10.0.0.1",1],"header":{"version":5,"uptime":10000,"timestamp":1700000000,
            "timestamp_nano":250000000},"flows":[{"IPV4_SRC_ADDR":3221225985,"IPV4_DST_ADDR":3325256706,"IN_PACKETS":3,
            "IN_OCTETS":500,"FIRST_SWITCHED":9000,"LAST_SWITCHED":9500,"SRC_PORT":443,"DST_PORT":50000,"PROTO":6,
            "IN_BYTES":500,"IN_PKTS":3,"PROTOCOL":6}]}}"#;
        let v9 = r#"{"1700000001":{"client":["10.0.0.1",1],"header":{"version":9,"uptime":500,"timestamp":1700000000},
            "flows":[{"IPV6_SRC_ADDR":"2001:db8::1","IPV6_DST_ADDR":"2001:db8::2","FIRST_SWITCHED":4294967000,
            "LAST_SWITCHED":400,"IN_BYTES":7,"IN_PKTS":1,"L4_SRC_PORT":0,"L4_DST_PORT":32768,"PROTOCOL":58}]}}"#;
        let ipfix = r#"{"1700000002":{"client":["10.0.0.1",1],"header":{"version":10,"export_uptime":1700000000},
            "flows":[{"sourceIPv6Address":42540766411282592856903984951653826561,"destinationIPv6Address":1,
            "octetDeltaCount":9,"packetDeltaCount":1,"flowStartMilliseconds":1699999999000,
            "flowEndMicroseconds":[3908988799,2147483648],"protocolIdentifier":6,"sourceTransportPort":1,
            "destinationTransportPort":2,"29305/reverseOctetDeltaCount":4},{"samplingInterval":10}]}}"#;
        let lines = [v5, v9, ipfix].map(|l| l.replace('\n', " ")).join("\n");
        let (flows, entries) = read(lines.as_bytes());
        assert_eq!((entries.lines, entries.flows, entries.without_addresses, entries.damaged), (3, 3, 1, 0));
        let [v5, v9, ipfix] = &flows[..] else { panic!("{flows:?}") };
        assert_eq!(v5.src, ([192, 0, 2, 1].into(), Some(443)));
        assert_eq!(v5.sent, Counts { bytes: 500, packets: 3, flows: 1 });
        assert_eq!((v5.start_us, v5.end_us), (1_699_999_999_250_000, 1_699_999_999_750_000));
        assert_eq!(v5.received_us, 1_700_000_000_500_000);
        // Across the wrap of the uptime; ICMP has no ports.
        assert_eq!((v9.start_us, v9.end_us), (1_699_999_999_204_000, 1_699_999_999_900_000));
        assert_eq!((v9.src.1, v9.proto), (None, Some(58)));
        assert_eq!(ipfix.src.0, "2001:db8::1".parse::<IpAddr>().expect("an address"));
        assert_eq!((ipfix.start_us, ipfix.end_us), (1_699_999_999_000_000, 1_699_999_999_500_000));
        assert_eq!(ipfix.back.map(|b| b.bytes), Some(4));
        // The same, compressed, in two members.
        let mut gzip = Vec::new();
        for part in [&lines.as_bytes()[..100], &lines.as_bytes()[100..]] {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(part).expect("compressed");
            gzip.extend(encoder.finish().expect("compressed"));
        }
        assert_eq!(read(&gzip).0, flows);
        let cut = netflow_json(&gzip[..gzip.len() - 9], |_| true);
        assert!(cut.is_err());
    }

    #[test]
    fn damaged_lines_are_counted_and_the_others_are_read() {
        let good =
            r#"{"1":{"client":["a",1],"header":{},"flows":[{"IPV4_SRC_ADDR":"1.2.3.4","IPV4_DST_ADDR":"1.2.3.5"}]}}"#;
        let text = format!("{good}\n\n{{\"1\":{{}}}}\nnonsense\n{{\"x\":{{\"header\":{{}},\"flows\":[]}}}}\n{good}");
        let (flows, entries) = read(text.as_bytes());
        assert_eq!((flows.len(), entries.lines, entries.damaged), (2, 5, 3));
        assert_eq!(entries.first_damaged.as_ref().map(|d| d.0), Some(3));
        assert_eq!((flows[0].start_us, flows[0].proto), (1_000_000, None));
        for odd in ["", "\n", "{}", "{\"1\":{\"header\":{\"uptime\":-1},\"flows\":[]}}", "[", "\u{1f8b}"] {
            assert!(read(odd.as_bytes()).0.is_empty());
        }
    }
}
