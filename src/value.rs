//! The value of a field by its element's type (RFC 7011 section 6, RFC 6313), borrowed from the record.
//!
//! A field is read by the length its template gives, never by the length its type would have.

use crate::elements::{DataType, Registry};
use crate::template::{Template, VARIABLE};
use std::fmt::{self, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

/// How deep lists of lists are read.
pub const MAX_DEPTH: usize = 8;
/// Bytes of text after which a list is given up: a template of many fields of no length could make any amount.
const MAX_TEXT: usize = 1 << 20;

/// A field's value.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Value<'a> {
    /// An integer of 1 to 8 bytes, or a longer one whose high bytes are zero.
    Unsigned(u64),
    /// A signed integer of 1 to 8 bytes.
    Signed(i64),
    /// A number of 4 or 8 bytes.
    Float(f64),
    /// 1 is true, 2 is false.
    Boolean(bool),
    /// 4 bytes of an address.
    Ipv4(Ipv4Addr),
    /// 16 bytes of an address.
    Ipv6(Ipv6Addr),
    /// 6 bytes of an address.
    Mac([u8; 6]),
    /// UTF-8 without the NULs at its end.
    Text(&'a str),
    /// Whatever is nothing else, text that is not UTF-8 among it.
    Octets(&'a [u8]),
    /// Seconds since 1970 UTC.
    Seconds(u64),
    /// Milliseconds since 1970 UTC.
    Milliseconds(u64),
    /// An NTP timestamp: seconds since 1900 and a fraction of 2^32.
    Ntp(u64),
    /// An RFC 6313 list: its type and its content.
    List(DataType, &'a [u8]),
    /// A number, address or time of no length.
    Absent,
}

/// Reads a field of a type; without a type it is octets.
#[inline]
pub fn decode(data_type: Option<DataType>, bytes: &[u8]) -> Value<'_> {
    use DataType as D;
    let Some(data_type) = data_type else { return Value::Octets(bytes) };
    match data_type {
        D::String => {
            let end = bytes.iter().rposition(|&b| b != 0).map_or(0, |p| p + 1);
            bytes.get(..end).and_then(|b| std::str::from_utf8(b).ok()).map_or(Value::Octets(bytes), Value::Text)
        }
        D::OctetArray | D::Unsigned256 => Value::Octets(bytes),
        D::BasicList | D::SubTemplateList | D::SubTemplateMultiList => Value::List(data_type, bytes),
        _ if bytes.is_empty() => Value::Absent,
        D::Unsigned8 | D::Unsigned16 | D::Unsigned32 | D::Unsigned64 => {
            number(bytes).map_or(Value::Octets(bytes), Value::Unsigned)
        }
        D::Signed8 | D::Signed16 | D::Signed32 | D::Signed64 if bytes.len() <= 8 => {
            let shift = 64 - 8 * bytes.len() as u32;
            number(bytes).map_or(Value::Octets(bytes), |v| Value::Signed((v << shift).cast_signed() >> shift))
        }
        D::Float32 | D::Float64 => match (bytes.len(), bytes.first_chunk::<4>(), bytes.first_chunk::<8>()) {
            (4, Some(b), _) => Value::Float(f64::from(f32::from_be_bytes(*b))),
            (8, _, Some(b)) => Value::Float(f64::from_be_bytes(*b)),
            _ => Value::Octets(bytes),
        },
        D::Boolean => match bytes {
            [1] => Value::Boolean(true),
            [2] => Value::Boolean(false),
            _ => Value::Octets(bytes),
        },
        D::Ipv4Address | D::Ipv6Address => match (<[u8; 4]>::try_from(bytes), <[u8; 16]>::try_from(bytes)) {
            (Ok(b), _) => Value::Ipv4(b.into()),
            (_, Ok(b)) => Value::Ipv6(b.into()),
            _ => Value::Octets(bytes),
        },
        D::MacAddress => bytes.try_into().map_or(Value::Octets(bytes), Value::Mac),
        D::DateTimeSeconds => number(bytes).map_or(Value::Octets(bytes), Value::Seconds),
        D::DateTimeMilliseconds => number(bytes).map_or(Value::Octets(bytes), Value::Milliseconds),
        D::DateTimeMicroseconds | D::DateTimeNanoseconds if bytes.len() == 8 => {
            number(bytes).map_or(Value::Octets(bytes), Value::Ntp)
        }
        _ => Value::Octets(bytes),
    }
}

/// A big-endian integer; `None` where more than 64 bits are not zero.
#[inline]
fn number(bytes: &[u8]) -> Option<u64> {
    let (high, low) = bytes.split_at(bytes.len().saturating_sub(8));
    high.iter().all(|&b| b == 0).then(|| low.iter().fold(0, |n, &b| n << 8 | u64::from(b)))
}

impl fmt::Display for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Value::Unsigned(v) | Value::Seconds(v) | Value::Milliseconds(v) | Value::Ntp(v) => write!(f, "{v}"),
            Value::Signed(v) => write!(f, "{v}"),
            Value::Float(v) => write!(f, "{v}"),
            Value::Boolean(v) => write!(f, "{v}"),
            Value::Ipv4(v) => write!(f, "{v}"),
            Value::Ipv6(v) => write!(f, "{v}"),
            Value::Mac([a, b, c, d, e, g]) => write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}"),
            Value::Text(v) => f.write_str(v),
            Value::Octets(v) => v.iter().try_for_each(|b| write!(f, "{b:02x}")),
            Value::List(_, v) => v.iter().try_for_each(|b| write!(f, "{b:02x}")),
            Value::Absent => Ok(()),
        }
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for Value<'_> {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match *self {
            Value::Unsigned(v) | Value::Seconds(v) | Value::Milliseconds(v) | Value::Ntp(v) => s.serialize_u64(v),
            Value::Signed(v) => s.serialize_i64(v),
            Value::Float(v) => s.serialize_f64(v),
            Value::Boolean(v) => s.serialize_bool(v),
            Value::Text(v) => s.serialize_str(v),
            Value::Absent => s.serialize_none(),
            _ => s.collect_str(self),
        }
    }
}

/// Writes a JSON string with its quotes.
pub fn json_string(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if (c as u32) < 0x20 => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

fn json_value(out: &mut String, value: Value<'_>, depth: usize, templates: &TemplateOf<'_>) -> Option<()> {
    match value {
        Value::Unsigned(_)
        | Value::Signed(_)
        | Value::Boolean(_)
        | Value::Seconds(_)
        | Value::Milliseconds(_)
        | Value::Ntp(_) => {
            let _ = write!(out, "{value}");
        }
        Value::Float(v) if v.is_finite() => {
            let _ = write!(out, "{v}");
        }
        Value::Absent => out.push_str("null"),
        Value::List(data_type, bytes) => list(out, data_type, bytes, depth + 1, templates)?,
        other => json_string(out, &other.to_string()),
    }
    Some(())
}

type TemplateOf<'a> = dyn Fn(u16) -> Option<Arc<Template>> + 'a;

/// An RFC 6313 list as JSON text, or `None` where its content does not hold together or is nested too deep.
///
/// A basicList is `{"semantic": n, "element": key, "values": [...]}`, a subTemplateList `{"semantic": n, "template": id,
/// "records": [{key: value, ...}, ...]}`, a subTemplateMultiList `{"semantic": n, "lists": [...]}` of the like. Where a
/// template is not known, `"octets"` in hex stands in place of its records.
pub fn list_json(data_type: DataType, bytes: &[u8], templates: &TemplateOf<'_>) -> Option<String> {
    let mut out = String::new();
    list(&mut out, data_type, bytes, 1, templates)?;
    Some(out)
}

fn list(out: &mut String, data_type: DataType, bytes: &[u8], depth: usize, templates: &TemplateOf<'_>) -> Option<()> {
    if depth > MAX_DEPTH {
        return None;
    }
    let (&semantic, rest) = bytes.split_first()?;
    let _ = write!(out, "{{\"semantic\":{semantic},");
    match data_type {
        DataType::BasicList => basic_list(out, rest, depth, templates)?,
        DataType::SubTemplateList => {
            let (id, rest) = word(rest)?;
            sub_records(out, id, rest, depth, templates)?;
        }
        _ => {
            out.push_str("\"lists\":[");
            let mut rest = rest;
            let mut first = true;
            while !rest.is_empty() {
                let (id, after) = word(rest)?;
                let (length, _) = word(after)?;
                let body = rest.get(4..usize::from(length))?;
                out.push_str(if first { "{" } else { ",{" });
                sub_records(out, id, body, depth, templates)?;
                out.push('}');
                rest = rest.get(usize::from(length)..)?;
                first = false;
            }
            out.push(']');
        }
    }
    out.push('}');
    Some(())
}

fn word(bytes: &[u8]) -> Option<(u16, &[u8])> {
    let (head, rest) = bytes.split_first_chunk()?;
    Some((u16::from_be_bytes(*head), rest))
}

fn basic_list(out: &mut String, bytes: &[u8], depth: usize, templates: &TemplateOf<'_>) -> Option<()> {
    let (id, rest) = word(bytes)?;
    let (len, mut rest) = word(rest)?;
    let mut pen = 0;
    if id & 0x8000 != 0 {
        let (head, after) = rest.split_first_chunk()?;
        (pen, rest) = (u32::from_be_bytes(*head), after);
    }
    let (registry, id) = (Registry::standard(), id & 0x7fff);
    let data_type = registry.lookup(10, pen, id).map(|e| e.data_type);
    out.push_str("\"element\":");
    json_string(out, &registry.key(10, pen, id));
    out.push_str(",\"values\":[");
    let mut first = true;
    while !rest.is_empty() {
        let mut n = usize::from(len);
        if len == VARIABLE {
            n = usize::from(*rest.first()?);
            rest = &rest[1..];
            if n == 255 {
                let (long, after) = word(rest)?;
                (n, rest) = (usize::from(long), after);
            }
        } else if n == 0 {
            return None;
        }
        let item = rest.get(..n)?;
        rest = &rest[n..];
        if !first {
            out.push(',');
        }
        json_value(out, decode(data_type, item), depth, templates)?;
        first = false;
    }
    out.push(']');
    Some(())
}

fn sub_records(out: &mut String, id: u16, bytes: &[u8], depth: usize, templates: &TemplateOf<'_>) -> Option<()> {
    let _ = write!(out, "\"template\":{id},");
    let Some(template) = templates(id) else {
        let _ = write!(out, "\"octets\":\"{}\"", Value::Octets(bytes));
        return Some(());
    };
    if out.len() > MAX_TEXT {
        return None;
    }
    out.push_str("\"records\":[");
    let (mut at, mut fields) = (0, Vec::new());
    while bytes.len() - at >= template.min_len() as usize {
        fields.clear();
        let end = template.locate(bytes, at, &mut fields)?;
        out.push_str(if at == 0 { "{" } else { ",{" });
        record(out, &template, bytes, &fields, depth, templates)?;
        out.push('}');
        at = end;
    }
    out.push(']');
    Some(())
}

fn record(
    out: &mut String,
    template: &Template,
    bytes: &[u8],
    fields: &[(u32, u32)],
    depth: usize,
    templates: &TemplateOf<'_>,
) -> Option<()> {
    let registry = Registry::standard();
    for (i, (spec, &(at, len))) in template.fields.iter().zip(fields).enumerate() {
        let mut key = registry.key(template.version, spec.pen, spec.id);
        let nth = template.fields[..=i].iter().filter(|f| (f.pen, f.id) == (spec.pen, spec.id)).count();
        if nth > 1 {
            let _ = write!(key, "#{nth}");
        }
        if out.len() > MAX_TEXT {
            return None;
        }
        if i > 0 {
            out.push(',');
        }
        json_string(out, &key);
        out.push(':');
        let data_type = registry.lookup(template.version, spec.pen, spec.id).map(|e| e.data_type);
        json_value(out, decode(data_type, bytes.get(at as usize..(at + len) as usize)?), depth, templates)?;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_by_the_templates_length() {
        let uint = Some(DataType::Unsigned8);
        assert_eq!(decode(uint, &[1, 2, 3]), Value::Unsigned(0x01_02_03));
        assert_eq!(decode(uint, &[0, 0, 0, 0, 0, 0, 0, 0, 7]), Value::Unsigned(7));
        assert_eq!(decode(uint, &[1, 0, 0, 0, 0, 0, 0, 0, 7]), Value::Octets(&[1, 0, 0, 0, 0, 0, 0, 0, 7]));
        assert_eq!(decode(Some(DataType::Signed32), &[0xff, 0xfe]), Value::Signed(-2));
        assert_eq!(decode(uint, &[]), Value::Absent);
    }

    #[test]
    fn strings_padded_with_nuls() {
        assert_eq!(decode(Some(DataType::String), b"ge-0/0/1\0\0\0"), Value::Text("ge-0/0/1"));
        assert_eq!(decode(Some(DataType::String), &[0xff]), Value::Octets(&[0xff]));
        assert_eq!(decode(Some(DataType::String), &[]), Value::Text(""));
    }

    #[test]
    fn a_basic_list_and_its_bounds() {
        let none = |_| None;
        let text = list_json(DataType::BasicList, &[3, 0, 7, 0, 2, 0, 80, 1, 187], &none);
        assert_eq!(text.as_deref(), Some(r#"{"semantic":3,"element":"sourceTransportPort","values":[80,443]}"#));
        assert_eq!(list_json(DataType::BasicList, &[3, 0, 7, 0, 2, 0], &none), None);
        let mut nested = vec![3, 0, 7, 0, 1];
        for _ in 0..9 {
            let mut outer = vec![3, 1, 35, 255, 255, nested.len() as u8];
            outer.extend(&nested);
            nested = outer;
        }
        assert_eq!(list_json(DataType::BasicList, &nested, &none), None);
    }
}
