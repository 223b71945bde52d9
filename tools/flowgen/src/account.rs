//! What a replayed message adds to the sums: just enough of the formats to count records, bytes and packets.

use crate::encode::Sums;
use std::collections::HashMap;
use std::net::IpAddr;

/// A field of a template: element (0 for those of enterprises) and length.
type Field = (u16, u16);

struct Shape {
    fields: Vec<Field>,
    options: bool,
    /// Bytes that a record has at least.
    shortest: usize,
}

/// Whose template it is: exporter, version, domain, id.
type Key = (IpAddr, u16, u32, u16);

/// Counts messages, and keeps the templates that it needs for that.
#[derive(Default)]
pub(crate) struct Accounts {
    shapes: HashMap<Key, Shape>,
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

impl Accounts {
    /// The sums of a message, and whether it announces templates; `None` where it is none of the five protocols.
    pub fn count(&mut self, exporter: IpAddr, bytes: &[u8]) -> Option<(Sums, bool)> {
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
        let announces = self.sets((exporter, version, domain, 0), rest, &mut sums);
        sums.units = if version == 9 { 1 } else { sums.records + sums.options_records };
        Some((sums, announces))
    }

    fn sets(&mut self, key: Key, mut rest: &[u8], sums: &mut Sums) -> bool {
        let mut announces = false;
        while let (Some(id), Some(length)) = (u16_at(rest, 0), u16_at(rest, 2)) {
            let length = usize::from(length).min(rest.len());
            let Some(content) = rest.get(4..length) else { break };
            rest = &rest[length..];
            let v9 = key.1 == 9;
            match id {
                0 | 2 if v9 == (id == 0) => {
                    announces = true;
                    self.templates(key, content, false);
                }
                1 | 3 if v9 == (id == 1) => {
                    announces = true;
                    self.templates(key, content, true);
                }
                256.. => match self.shapes.get(&(key.0, key.1, key.2, id)) {
                    Some(shape) => shape.count(content, sums),
                    None => sums.unknown_sets += 1,
                },
                _ => {}
            }
        }
        announces
    }

    fn templates(&mut self, key: Key, mut rest: &[u8], options: bool) {
        let v9 = key.1 == 9;
        while let (Some(id @ 256..), Some(count)) = (u16_at(rest, 0), u16_at(rest, 2)) {
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
                self.shapes.remove(&key);
            } else {
                self.shapes.insert(key, shape);
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
