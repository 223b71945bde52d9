//! The value of a field by its element's type (RFC 7011 section 6, RFC 6313), borrowed from the record.
//!
//! A field is read by the length its template gives, never by the length its type would have.

use crate::elements::{DataType, Registry};
use crate::template::{Template, VARIABLE};
use std::collections::HashMap;
use std::fmt::{self, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

/// How deep lists of lists are read.
pub const MAX_DEPTH: usize = 8;

/// Bytes of JSON text after which a list is given up: 4 KiB and 128 times its own bytes. A template of many fields of no
/// length could else make any amount.
const fn max_json(len: usize) -> usize {
    4096 + 128 * len
}

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
    /// A time, microseconds since 1970 UTC; what is finer is cut.
    DateTime(i64),
    /// An RFC 6313 list: its type and its content.
    List(DataType, &'a [u8]),
    /// A number, address or time of no length.
    Absent,
}

/// What a value depends on beside its bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Context {
    /// The message's export time, microseconds since 1970: NTP's era is the one nearest to it.
    pub export_time_us: i64,
    /// Whether the low half of dateTimeMicroseconds is a count and no fraction, as Citrix NetScaler sends it: in
    /// templates that hold an element of [`NETSCALER_PEN`].
    pub plain_microseconds: bool,
}

/// The enterprise number of Citrix NetScaler.
pub const NETSCALER_PEN: u32 = 5951;

impl Context {
    /// For the records of a template in a message of this export time.
    pub fn new(template: &Template, export_time_us: i64) -> Self {
        Self { export_time_us, plain_microseconds: template.fields.iter().any(|f| f.pen == NETSCALER_PEN) }
    }
}

/// Reads a field of a type; without a type it is octets. What does not fit its type is octets too.
#[inline]
pub fn decode(data_type: Option<DataType>, bytes: &[u8], context: Context) -> Value<'_> {
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
        D::DateTimeSeconds => time(bytes, 1_000_000),
        D::DateTimeMilliseconds => time(bytes, 1000),
        D::DateTimeMicroseconds | D::DateTimeNanoseconds => match bytes.try_into().map(u64::from_be_bytes) {
            Ok(ntp) => Value::DateTime(match data_type {
                D::DateTimeNanoseconds => ntp_us(ntp, context.export_time_us),
                _ if context.plain_microseconds => {
                    ntp_seconds(ntp >> 32, context.export_time_us) * 1_000_000 + (ntp & 0xffff_ffff) as i64
                }
                _ => ntp_us(ntp & !0x7ff, context.export_time_us),
            }),
            Err(_) => Value::Octets(bytes),
        },
        _ => Value::Octets(bytes),
    }
}

/// A big-endian integer; `None` where more than 64 bits are not zero.
#[inline]
fn number(bytes: &[u8]) -> Option<u64> {
    match *bytes {
        [a] => Some(a.into()),
        [a, b] => Some(u16::from_be_bytes([a, b]).into()),
        [a, b, c, d] => Some(u32::from_be_bytes([a, b, c, d]).into()),
        [a, b, c, d, e, f, g, h] => Some(u64::from_be_bytes([a, b, c, d, e, f, g, h])),
        _ => odd_number(bytes),
    }
}

#[inline(never)]
fn odd_number(bytes: &[u8]) -> Option<u64> {
    let (high, low) = bytes.split_at(bytes.len().saturating_sub(8));
    high.iter().all(|&b| b == 0).then(|| low.iter().fold(0, |n, &b| n << 8 | u64::from(b)))
}

/// A count of units since 1970, if 64 bits of microseconds hold it.
fn time(bytes: &[u8], unit: i64) -> Value<'_> {
    let us = number(bytes).and_then(|n| i64::try_from(n).ok()?.checked_mul(unit));
    us.map_or(Value::Octets(bytes), Value::DateTime)
}

/// An NTP timestamp in microseconds since 1970, the rest of its fraction cut.
pub(crate) fn ntp_us(ntp: u64, export_time_us: i64) -> i64 {
    let fraction = ((ntp & 0xffff_ffff) * 1_000_000) >> 32;
    ntp_seconds(ntp >> 32, export_time_us) * 1_000_000 + fraction as i64
}

/// The seconds since 1970 of 32 bits of NTP seconds, in the era that is nearest to the export time.
pub(crate) fn ntp_seconds(seconds: u64, export_time_us: i64) -> i64 {
    /// From 1900 to 1970.
    const NTP_TO_UNIX: i64 = 2_208_988_800;
    let unix = seconds as i64 - NTP_TO_UNIX;
    let eras = (export_time_us.div_euclid(1_000_000) - unix + (1 << 31)).div_euclid(1 << 32);
    unix + eras * (1 << 32)
}

/// RFC 3339 UTC with 6 digits; a year past 9999 has as many as it needs.
pub(crate) fn write_time(out: &mut impl fmt::Write, us: i64) -> fmt::Result {
    let (secs, micros) = (us.div_euclid(1_000_000), us.rem_euclid(1_000_000));
    let (days, second) = (secs.div_euclid(86_400), secs.rem_euclid(86_400));
    // Howard Hinnant's civil-from-days.
    let z = days + 719_468;
    let (era, doe) = (z.div_euclid(146_097), z.rem_euclid(146_097));
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let (day, month) = (doy - (153 * mp + 2) / 5 + 1, if mp < 10 { mp + 3 } else { mp - 9 });
    let year = yoe + era * 400 + i64::from(month <= 2);
    let (h, m, s) = (second / 3600, second / 60 % 60, second % 60);
    write!(out, "{year:04}-{month:02}-{day:02}T{h:02}:{m:02}:{s:02}.{micros:06}Z")
}

impl fmt::Display for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Value::Unsigned(v) => write!(f, "{v}"),
            Value::DateTime(us) => write_time(f, us),
            Value::Signed(v) => write!(f, "{v}"),
            Value::Float(v) => write!(f, "{v}"),
            Value::Boolean(v) => write!(f, "{v}"),
            Value::Ipv4(v) => write!(f, "{v}"),
            Value::Ipv6(v) => write!(f, "{v}"),
            Value::Mac([a, b, c, d, e, g]) => write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}"),
            // Control characters would let an exporter write to the reader's terminal.
            Value::Text(v) => v
                .chars()
                .try_for_each(|c| if c.is_control() { write!(f, "{}", c.escape_default()) } else { f.write_char(c) }),
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
            Value::Unsigned(v) => s.serialize_u64(v),
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

type TemplateOf<'a> = dyn Fn(u16) -> Option<Arc<Template>> + 'a;

/// An RFC 6313 list as JSON text, or `None` where its content does not hold together, is nested deeper than
/// [`MAX_DEPTH`], or is much longer as text.
///
/// A basicList is `{"semantic": n, "element": key, "values": [...]}`, a subTemplateList `{"semantic": n, "template": id,
/// "records": [{key: value, ...}, ...]}`, a subTemplateMultiList `{"semantic": n, "lists": [...]}` of `{"template": id,
/// "records": [...]}`. Where a template is not known, `"octets"` in hex stands in place of its records. Keys are those of
/// extras, `#2`, `#3` at repeated ones; numbers and booleans are JSON's, everything else is text, times by RFC 3339.
pub fn list_json(data_type: DataType, bytes: &[u8], export_time_us: i64, templates: &TemplateOf<'_>) -> Option<String> {
    let mut json = Json { out: String::new(), max: max_json(bytes.len()), export_time_us, templates };
    json.list(data_type, bytes, 1)?;
    Some(json.out)
}

struct Json<'a> {
    out: String,
    max: usize,
    export_time_us: i64,
    templates: &'a TemplateOf<'a>,
}

impl Json<'_> {
    fn value(&mut self, value: Value<'_>, depth: usize) -> Option<()> {
        match value {
            Value::Unsigned(_) | Value::Signed(_) | Value::Boolean(_) => {
                let _ = write!(self.out, "{value}");
            }
            Value::Float(v) if v.is_finite() => {
                let _ = write!(self.out, "{v}");
            }
            Value::Absent => self.out.push_str("null"),
            Value::List(data_type, bytes) => self.list(data_type, bytes, depth + 1)?,
            Value::Text(text) => json_string(&mut self.out, text),
            other => {
                let _ = write!(self.out, "\"{other}\"");
            }
        }
        (self.out.len() <= self.max).then_some(())
    }

    fn list(&mut self, data_type: DataType, bytes: &[u8], depth: usize) -> Option<()> {
        if depth > MAX_DEPTH {
            return None;
        }
        let (&semantic, rest) = bytes.split_first()?;
        let _ = write!(self.out, "{{\"semantic\":{semantic},");
        match data_type {
            DataType::BasicList => self.basic_list(rest, depth)?,
            DataType::SubTemplateList => {
                let (id, rest) = word(rest)?;
                self.records(id, rest, depth)?;
            }
            _ => {
                self.out.push_str("\"lists\":[");
                for (i, part) in (Parts { rest }).enumerate() {
                    let (id, body) = part?;
                    self.out.push_str(if i == 0 { "{" } else { ",{" });
                    self.records(id, body, depth)?;
                    self.out.push('}');
                }
                self.out.push(']');
            }
        }
        self.out.push('}');
        Some(())
    }

    fn basic_list(&mut self, bytes: &[u8], depth: usize) -> Option<()> {
        let (head, items) = BasicList::new(bytes)?;
        let registry = Registry::standard();
        let data_type = registry.lookup(10, head.pen, head.id).map(|e| e.data_type);
        let context = Context { export_time_us: self.export_time_us, plain_microseconds: false };
        self.out.push_str("\"element\":");
        json_string(&mut self.out, &registry.key(10, head.pen, head.id));
        self.out.push_str(",\"values\":[");
        for (i, item) in items.enumerate() {
            self.out.push_str(if i == 0 { "" } else { "," });
            self.value(decode(data_type, item?, context), depth)?;
        }
        self.out.push(']');
        Some(())
    }

    fn records(&mut self, id: u16, bytes: &[u8], depth: usize) -> Option<()> {
        let _ = write!(self.out, "\"template\":{id},");
        let Some(template) = (self.templates)(id) else {
            let _ = write!(self.out, "\"octets\":\"{}\"", Value::Octets(bytes));
            return Some(());
        };
        let keys = extras_keys(&template);
        let context = Context::new(&template, self.export_time_us);
        self.out.push_str("\"records\":[");
        let (mut at, mut fields) = (0, Vec::new());
        while bytes.len().saturating_sub(at) >= template.min_len() as usize {
            fields.clear();
            let end = template.locate(bytes, at, &mut fields)?;
            self.out.push_str(if at == 0 { "{" } else { ",{" });
            for (i, ((key, data_type), &(start, len))) in keys.iter().zip(&fields).enumerate() {
                self.out.push_str(if i == 0 { "" } else { "," });
                json_string(&mut self.out, key);
                self.out.push(':');
                let (start, len) = (start as usize, len as usize);
                self.value(decode(*data_type, bytes.get(start..start + len)?, context), depth)?;
            }
            self.out.push('}');
            at = end;
        }
        self.out.push(']');
        Some(())
    }
}

/// The keys of a template's fields and their types, `#2`, `#3` at repeated elements.
fn extras_keys(template: &Template) -> Vec<(String, Option<DataType>)> {
    let registry = Registry::standard();
    let mut seen = HashMap::new();
    let fields = template.fields.iter().map(|f| {
        let mut key = registry.key(template.version, f.pen, f.id);
        let nth = seen.entry((f.pen, f.id)).or_insert(0);
        *nth += 1;
        if *nth > 1 {
            let _ = write!(key, "#{nth}");
        }
        (key, registry.lookup(template.version, f.pen, f.id).map(|e| e.data_type))
    });
    fields.collect()
}

fn word(bytes: &[u8]) -> Option<(u16, &[u8])> {
    let (head, rest) = bytes.split_first_chunk()?;
    Some((u16::from_be_bytes(*head), rest))
}

/// What a basicList is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BasicList {
    pub(crate) pen: u32,
    pub(crate) id: u16,
}

impl BasicList {
    /// The head and the items of a basicList, from behind its semantic.
    pub(crate) fn new(bytes: &[u8]) -> Option<(Self, Items<'_>)> {
        let (id, rest) = word(bytes)?;
        let (len, mut rest) = word(rest)?;
        let mut pen = 0;
        if id & 0x8000 != 0 {
            let (head, after) = rest.split_first_chunk()?;
            (pen, rest) = (u32::from_be_bytes(*head), after);
        }
        Some((Self { pen, id: id & 0x7fff }, Items { len, rest }))
    }
}

/// The items of a basicList; `None` as the last where one does not fit.
#[derive(Clone, Debug)]
pub(crate) struct Items<'a> {
    len: u16,
    rest: &'a [u8],
}

impl<'a> Iterator for Items<'a> {
    type Item = Option<&'a [u8]>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = std::mem::take(&mut self.rest);
        let (&first, tail) = rest.split_first()?;
        let (n, from) = match (self.len, first) {
            (VARIABLE, 255) => match word(tail) {
                Some((n, from)) => (n, from),
                None => return Some(None),
            },
            (VARIABLE, n) => (u16::from(n), tail),
            (0, _) => return Some(None),
            (n, _) => (n, rest),
        };
        match from.split_at_checked(usize::from(n)) {
            Some((item, after)) => {
                self.rest = after;
                Some(Some(item))
            }
            None => Some(None),
        }
    }
}

/// The parts of a subTemplateMultiList from behind its semantic: template id and content; `None` as the last where one
/// does not fit.
#[derive(Clone, Debug)]
pub(crate) struct Parts<'a> {
    pub(crate) rest: &'a [u8],
}

impl<'a> Iterator for Parts<'a> {
    type Item = Option<(u16, &'a [u8])>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = std::mem::take(&mut self.rest);
        if rest.is_empty() {
            return None;
        }
        Some((|| {
            let (id, after) = word(rest)?;
            let (part, next) = rest.split_at_checked(usize::from(word(after)?.0))?;
            self.rest = next;
            Some((id, part.get(4..)?))
        })())
    }
}

#[cfg(test)]
mod tests;
