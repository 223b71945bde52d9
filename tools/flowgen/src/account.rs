//! What a replayed message adds to the sums: just enough of the formats to count records, bytes and packets.

use crate::encode::Sums;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

/// A field of a template: element (0 for those of enterprises) and length.
type Field = (u16, u16);

struct Shape {
    fields: Vec<Field>,
    options: bool,
    /// Bytes that a record has at least.
    shortest: usize,
}

/// Whose template it is: address, version, domain, id.
type Key = (IpAddr, u16, u32, u16);

/// What the ports of an address mean by an id. A port is a transport session of its own (RFC 7011 section 8.1): what it defined counts
/// for it. One that defined nothing means what any other defined last, since some exporters announce from a port of their own.
struct Known {
    ports: HashMap<u16, Shape>,
    latest: u16,
}

impl Known {
    fn of(&self, port: u16) -> Option<&Shape> {
        self.ports.get(&port).or_else(|| self.ports.get(&self.latest))
    }
}

/// Counts messages, and keeps the templates that it needs for that.
#[derive(Default)]
pub(crate) struct Accounts {
    known: HashMap<Key, Known>,
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

impl Accounts {
    /// The sums of a message, and whether it announces templates; `None` where it is none of the five protocols.
    pub fn count(&mut self, exporter: SocketAddr, bytes: &[u8]) -> Option<(Sums, bool)> {
        let version = u16_at(bytes, 0)?;
        let (header, stride, domain_at) = match version {
            1 => (16, 48, 0),
            5 => (24, 48, 0),
            7 => (24, 52, 0),
            9 => (20, 0, 16),
            10 => (16, 0, 12),
            _ => return None,
        };
        let mut end = bytes.len();
        if version == 10 {
            end = end.min(u16_at(bytes, 2)?.into());
        }
        let rest = bytes.get(header..end)?;
        let mut sums = Sums::default();
        if stride > 0 {
            for record in rest.chunks_exact(stride).take(u16_at(bytes, 2)?.into()) {
                sums.records += 1;
                sums.packets += u64::from(u32_at(record, 16)?);
                sums.octets += u64::from(u32_at(record, 20)?);
            }
            sums.units = if version == 1 { 0 } else { sums.records };
            return Some((sums, false));
        }
        let domain = u32_at(bytes, domain_at)?;
        let announces = self.sets((exporter.ip(), version, domain, 0), exporter.port(), rest, &mut sums);
        sums.units = if version == 9 { 1 } else { sums.records + sums.options_records };
        Some((sums, announces))
    }

    fn sets(&mut self, key: Key, port: u16, mut rest: &[u8], sums: &mut Sums) -> bool {
        let mut announces = false;
        while let (Some(id), Some(length)) = (u16_at(rest, 0), u16_at(rest, 2)) {
            let length = usize::from(length).min(rest.len());
            let Some(content) = rest.get(4..length) else { break };
            rest = &rest[length..];
            let v9 = key.1 == 9;
            match id {
                0 | 2 if v9 == (id == 0) => {
                    announces = true;
                    self.templates(key, port, content, false);
                }
                1 | 3 if v9 == (id == 1) => {
                    announces = true;
                    self.templates(key, port, content, true);
                }
                256.. => match self.known.get(&(key.0, key.1, key.2, id)).and_then(|known| known.of(port)) {
                    Some(shape) => shape.count(content, sums),
                    None => sums.unknown_sets += 1,
                },
                _ => {}
            }
        }
        announces
    }

    fn templates(&mut self, key: Key, port: u16, mut rest: &[u8], options: bool) {
        let v9 = key.1 == 9;
        let all = if options { 3 } else { 2 };
        while let (Some(id), Some(count)) = (u16_at(rest, 0), u16_at(rest, 2)) {
            if !v9 && id == all && count == 0 {
                // A withdrawal of all of the kind, for the ports together as a withdrawal of one.
                let is_its = |k: &Key, known: &Known| {
                    (k.0, k.1, k.2) == (key.0, key.1, key.2)
                        && known.of(known.latest).is_some_and(|s| s.options == options)
                };
                self.known.retain(|k, known| !is_its(k, known));
                rest = &rest[4..];
                continue;
            }
            if id < 256 {
                return;
            }
            let (fields, head) = match (v9, options) {
                // Lengths of scope and options fields in bytes; each field takes four.
                (true, true) => ((usize::from(count) + usize::from(u16_at(rest, 4).unwrap_or(0))) / 4, 6),
                // IPFIX: a count of scope fields follows, unless the template is withdrawn.
                (false, true) if count > 0 => (usize::from(count), 6),
                _ => (usize::from(count), 4),
            };
            let Some((shape, used)) = Shape::parse(rest.get(head..).unwrap_or(&[]), fields, v9, options) else {
                return;
            };
            rest = &rest[head + used..];
            let key = (key.0, key.1, key.2, id);
            if fields == 0 {
                self.known.remove(&key);
            } else {
                let known = self.known.entry(key).or_insert_with(|| Known { ports: HashMap::new(), latest: port });
                known.ports.insert(port, shape);
                known.latest = port;
            }
        }
    }
}

impl Shape {
    fn parse(bytes: &[u8], count: usize, v9: bool, options: bool) -> Option<(Self, usize)> {
        let mut shape = Self { fields: Vec::with_capacity(count), options, shortest: 0 };
        let mut at = 0;
        for _ in 0..count {
            let (mut element, length) = (u16_at(bytes, at)?, u16_at(bytes, at + 2)?);
            at += 4;
            if !v9 && element & 0x8000 != 0 {
                element = 0;
                at += 4;
            }
            shape.shortest += if length == u16::MAX && !v9 { 1 } else { usize::from(length) };
            shape.fields.push((element, length));
        }
        (at <= bytes.len()).then_some((shape, at))
    }

    fn count(&self, mut rest: &[u8], sums: &mut Sums) {
        while self.shortest > 0 && rest.len() >= self.shortest {
            let (mut octets, mut packets) = ([None; 2], [None; 2]);
            for &(element, length) in &self.fields {
                let Some(value) = take(&mut rest, length) else { return };
                let number = || value.iter().fold(0_u64, |n, &byte| n << 8 | u64::from(byte));
                match element {
                    1 => octets[0] = Some(number()),
                    85 => octets[1] = Some(number()),
                    2 => packets[0] = Some(number()),
                    86 => packets[1] = Some(number()),
                    _ => {}
                }
            }
            if self.options {
                sums.options_records += 1;
            } else {
                sums.records += 1;
                // Totals count where there are no deltas.
                sums.octets += octets[0].or(octets[1]).unwrap_or(0);
                sums.packets += packets[0].or(packets[1]).unwrap_or(0);
            }
        }
    }
}

/// A field's value; its length stands before it where the template leaves it open.
fn take<'a>(rest: &mut &'a [u8], length: u16) -> Option<&'a [u8]> {
    let (skip, length) = match (length, rest.first()) {
        (u16::MAX, Some(255)) => (3, u16_at(rest, 1)?),
        (u16::MAX, Some(&short)) => (1, u16::from(short)),
        _ => (0, length),
    };
    let (value, after) = rest.get(skip..)?.split_at_checked(length.into())?;
    *rest = after;
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(version: u16, sets: &[(u16, Vec<u8>)]) -> Vec<u8> {
        let mut body = Vec::new();
        for (id, content) in sets {
            body.extend(id.to_be_bytes());
            body.extend((4 + content.len() as u16).to_be_bytes());
            body.extend(content);
        }
        let mut head = version.to_be_bytes().to_vec();
        if version == 10 {
            head.extend((16 + body.len() as u16).to_be_bytes());
        }
        head.resize(if version == 10 { 16 } else { 20 }, 0);
        [head, body].concat()
    }

    /// Bytes and packets, in this order, in so many bytes each.
    fn template(length: u8) -> Vec<u8> {
        vec![1, 0, 0, 2, 0, 1, 0, length, 0, 2, 0, length]
    }

    fn record(length: usize, octets: u8, packets: u8) -> Vec<u8> {
        let mut record = vec![0; 2 * length];
        (record[length - 1], record[2 * length - 1]) = (octets, packets);
        record
    }

    #[test]
    fn ports_of_an_address_mean_their_own_templates() {
        for (version, set) in [(9, 0), (10, 2)] {
            let mut accounts = Accounts::default();
            let mut count = |port: u16, sets: &[(u16, Vec<u8>)]| {
                let sums = accounts.count(([10, 9, 9, 9], port).into(), &message(version, sets)).expect("a message").0;
                (sums.records, sums.octets, sums.packets, sums.unknown_sets)
            };
            count(1001, &[(set, template(8))]);
            count(1002, &[(set, template(4))]);
            assert_eq!(count(1001, &[(256, record(8, 100, 3))]), (1, 100, 3, 0), "version {version}");
            assert_eq!(count(1002, &[(256, record(4, 50, 2))]), (1, 50, 2, 0), "version {version}");
            // A port without a definition means the latest of any.
            assert_eq!(count(1003, &[(256, record(4, 7, 1))]), (1, 7, 1, 0), "version {version}");
            count(1001, &[(set, template(8))]);
            assert_eq!(count(1003, &[(256, record(8, 7, 1))]), (1, 7, 1, 0), "version {version}");
        }
    }

    #[test]
    fn withdrawals_end_templates() {
        for withdrawal in [vec![1, 0, 0, 0], vec![0, 2, 0, 0]] {
            let mut accounts = Accounts::default();
            let mut unknown = |sets: &[(u16, Vec<u8>)]| {
                accounts.count(([10, 9, 9, 9], 1).into(), &message(10, sets)).expect("a message").0.unknown_sets
            };
            assert_eq!(unknown(&[(2, template(4)), (256, record(4, 1, 1))]), 0);
            assert_eq!(unknown(&[(2, withdrawal), (256, record(4, 1, 1))]), 1);
        }
    }
}
