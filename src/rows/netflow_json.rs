//! The JSON lines of Python's `netflow` collector: `{"<time>": {"client": [ip, port], "header": {...}, "flows": [...]}}`.
//!
//! Names and forms are that library's: v1, v5 and v7 have its short names and numbers alone, v9 the names of v9's types
//! with addresses as text and all else as numbers, IPFIX IANA's names with addresses as numbers, strings as text and NTP
//! times as `[seconds, fraction]`. Where it has no name, the key of an extra stands, and text is text. Of a repeated
//! element the last has the plain name, as there, and those before it `#1`, `#2`. v1, v5 and v7 flows have `IN_BYTES`,
//! `IN_PKTS` and `PROTOCOL` beside their own names: the library's analyzer asks for them. Numbers of more than 256
//! bytes are hex text.

use super::message::header_fields;
use super::record::short_name;
use super::{Field, Message, Record, Session};
use crate::elements::{DataType, Registry, v9_name};
use crate::error::Error;
use crate::template::{Kind, Template};
use crate::value::{Value, json_string};
use crate::wire::{Header, Message as WireMessage};
use std::collections::HashMap;
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

/// Bytes of a line whose memory is kept for the next one.
const KEPT: usize = 1 << 20;

/// Writes messages as such lines.
#[derive(Debug, Default)]
pub struct NetflowJson {
    session: Session,
    lines: String,
    // Of a refused message.
    templates: Vec<u8>,
    messages: u64,
    late: u64,
    last_us: Option<i64>,
    same_time: u32,
}

impl NetflowJson {
    /// With a session of its own.
    pub fn new(session: Session) -> Self {
        Self { session, ..Self::default() }
    }

    /// As [`Session::make_room`].
    pub fn make_room(&mut self, keep: impl FnMut(IpAddr) -> bool) {
        self.session.make_room(keep);
    }

    /// Gives `take` the lines of a message received at a time in microseconds since 1970, each with its newline: one of
    /// its own, and one for each earlier message whose flows its templates made readable, with that message's time,
    /// client and header. There is none where all its flows wait for a template.
    ///
    /// # Errors
    /// What [`Session::parse`] fails with.
    pub fn lines(
        &mut self,
        bytes: &[u8],
        exporter: SocketAddr,
        received_us: i64,
        mut take: impl FnMut(&str),
    ) -> Result<(), Error> {
        self.messages += 1;
        let (tag, lines) = (self.messages, &mut self.lines);
        let message = self.session.parse_received(bytes, exporter, received_us, tag)?;
        lines.clear();
        let of_this = |l: &&super::LateSet| l.tag() == tag && l.kind() == Kind::Data;
        let unknown = message.sets().iter().filter(|s| s.is_unknown()).count();
        let own = message.sets().iter().filter(|s| s.kind() == Some(Kind::Data)).map(super::SetRows::records);
        let own = own.chain(message.late().iter().filter(of_this).map(super::LateSet::records));
        // The analyzer keeps one entry a time, so no time comes twice.
        self.same_time = if self.last_us == Some(received_us) { self.same_time + 1 } else { 0 };
        self.last_us = Some(received_us);
        entry(lines, received_us, (0, self.same_time.into()), exporter, message.header());
        let flows = flows(lines, own);
        lines.push_str("]}}\n");
        if flows > 0 || unknown == 0 {
            take(lines);
        }
        late_lines(lines, &mut self.late, &message, tag, take);
        self.forget_long_lines();
        Ok(())
    }

    /// As [`lines`](Self::lines), of a message that is refused but for its templates: only the lines of earlier messages
    /// that they made readable.
    ///
    /// # Errors
    /// As [`lines`](Self::lines).
    pub fn late_lines(
        &mut self,
        bytes: &[u8],
        exporter: SocketAddr,
        received_us: i64,
        take: impl FnMut(&str),
    ) -> Result<(), Error> {
        if !templates_alone(bytes, &mut self.templates)? {
            return Ok(());
        }
        self.messages += 1;
        let tag = self.messages;
        let message = self.session.parse_received(&self.templates, exporter, received_us, tag)?;
        late_lines(&mut self.lines, &mut self.late, &message, tag, take);
        self.forget_long_lines();
        Ok(())
    }

    fn forget_long_lines(&mut self) {
        if self.lines.capacity() > KEPT {
            self.lines = String::new();
        }
    }
}

/// Cuts a message to its sets of templates; whether it has any.
fn templates_alone(bytes: &[u8], cut: &mut Vec<u8>) -> Result<bool, Error> {
    let message = WireMessage::parse(bytes)?;
    let head = match message.version() {
        9 => 20,
        10 => 16,
        _ => return Ok(false),
    };
    cut.clear();
    cut.extend_from_slice(bytes.get(..head).unwrap_or_default());
    let mut count = 0u16;
    for set in message.sets().filter_map(Result::ok).filter(|set| set.id < 256) {
        count += 1;
        cut.extend_from_slice(&set.id.to_be_bytes());
        cut.extend_from_slice(&(set.body.len() as u16).saturating_add(4).to_be_bytes());
        cut.extend_from_slice(set.body);
    }
    // v9 says how many records there are, IPFIX how many bytes.
    let size = if head == 20 { count } else { u16::try_from(cut.len()).unwrap_or(u16::MAX) };
    if let Some(place) = cut.get_mut(2..4) {
        place.copy_from_slice(&size.to_be_bytes());
    }
    Ok(count > 0)
}

/// The lines of earlier messages of which a message made flows readable.
fn late_lines(lines: &mut String, n: &mut u64, message: &Message<'_>, tag: u64, mut take: impl FnMut(&str)) {
    let mut late = message.late().iter().filter(|l| l.tag() != tag && l.kind() == Kind::Data).peekable();
    while let Some(first) = late.next() {
        let Some(header) = first.header() else { continue };
        *n += 1;
        lines.clear();
        entry(lines, first.received_us(), (9, *n), first.exporter(), header);
        let mut sets = vec![first.records()];
        while let Some(set) = late.next_if(|l| l.tag() == first.tag()) {
            sets.push(set.records());
        }
        flows(lines, sets.into_iter());
        lines.push_str("]}}\n");
        take(lines);
    }
}

/// The start of a line, up to the flows.
fn entry(out: &mut String, received_us: i64, (kind, n): (u8, u64), exporter: SocketAddr, header: Header<'_>) {
    let (secs, micros) = (received_us.div_euclid(1_000_000), received_us.rem_euclid(1_000_000));
    let _ = write!(out, "{{\"{secs}.{micros:06}");
    if (kind, n) != (0, 0) {
        let _ = write!(out, "{kind}{n:06}");
    }
    let _ = write!(out, "\":{{\"client\":[\"{}\",{}],\"header\":{{", exporter.ip().to_canonical(), exporter.port());
    for (i, (name, value)) in header_fields(header).enumerate() {
        let _ = write!(out, "{}\"{name}\":{value}", if i == 0 { "" } else { "," });
    }
    out.push_str("},\"flows\":[");
}

fn flows<'m>(out: &mut String, sets: impl Iterator<Item = super::Records<'m>>) -> usize {
    let mut n = 0;
    for records in sets {
        let mut keys = None;
        for record in records {
            let keys = keys.get_or_insert_with(|| keys_of(record.template()));
            out.push_str(if n == 0 { "{" } else { ",{" });
            flow(out, record, keys);
            out.push('}');
            n += 1;
        }
    }
    n
}

/// What a field is written as.
struct Key {
    name: String,
    form: Form,
}

#[derive(Clone, Copy)]
enum Form {
    /// A number whatever the type.
    Number,
    /// An address, or nothing.
    Address,
    /// By the element's type as IPFIX flows are written there.
    Typed,
    /// By the element's type, what is no number as text.
    Text,
}

/// The keys of a template's fields; `None` for padding.
fn keys_of(template: &Template) -> Vec<Option<Key>> {
    /// The library's V9_FIELD_TYPES_CONTAINING_IP.
    const ADDRESSES: [u16; 8] = [8, 12, 15, 18, 27, 28, 62, 63];
    let version = template.version;
    let last: HashMap<(u32, u16), usize> =
        template.fields.iter().enumerate().map(|(i, f)| ((f.pen, f.id), i)).collect();
    let mut seen = HashMap::new();
    let end = template.fields.len().saturating_sub(1);
    let key = |(i, f): (usize, &crate::template::FieldSpec)| {
        let padding = (f.pen, f.id) == (0, 210);
        let (name, form) = match version {
            7 if i == end => ("ROUTER_SC".to_owned(), Form::Number),
            _ if padding && version != 10 => return None,
            1 | 5 | 7 => (short_name(f.id)?.to_owned(), Form::Number),
            9 => match v9_name(f.id) {
                Some(name) if ADDRESSES.contains(&f.id) => (name.to_owned(), Form::Address),
                Some(name) => (name.to_owned(), Form::Number),
                None => (Registry::standard().key(9, f.pen, f.id), Form::Text),
            },
            _ => (Registry::standard().key(version, f.pen, f.id), Form::Typed),
        };
        let nth = seen.entry((f.pen, f.id)).or_insert(0);
        *nth += 1;
        let is_last = version < 9 || last.get(&(f.pen, f.id)) == Some(&i);
        Some(Key { name: if is_last { name } else { format!("{name}#{nth}") }, form })
    };
    template.fields.iter().enumerate().map(key).collect()
}

fn flow(out: &mut String, record: Record<'_>, keys: &[Option<Key>]) {
    let mut first = true;
    for (field, key) in record.fields().zip(keys) {
        let Some(Key { name, form }) = key else { continue };
        let address = matches!(form, Form::Address).then(|| field.value());
        if !matches!(address, None | Some(Value::Ipv4(_) | Value::Ipv6(_))) {
            continue;
        }
        out.push_str(if first { "" } else { "," });
        first = false;
        json_string(out, name);
        out.push(':');
        match (form, address) {
            (Form::Number, _) => number(out, field.bytes()),
            (_, Some(address)) => drop(write!(out, "\"{address}\"")),
            _ => value(out, &field, matches!(form, Form::Text)),
        }
    }
    if record.template().version < 9 {
        for (name, id) in [("IN_BYTES", 1), ("IN_PKTS", 2), ("PROTOCOL", 4)] {
            if let Some(value) = record.by_id(0, id) {
                let _ = write!(out, ",\"{name}\":{value}");
            }
        }
    }
}

/// The value of an IPFIX field, or of one that has no name there.
fn value(out: &mut String, field: &Field<'_>, text: bool) {
    let bytes = field.bytes();
    match field.value() {
        Value::Text(_) => match std::str::from_utf8(bytes) {
            // With the NULs at its end, as there.
            Ok(text) => json_string(out, text),
            Err(_) => out.push_str("null"),
        },
        Value::Float(v) if v.is_finite() => drop(write!(out, "{v}")),
        Value::Signed(v) => drop(write!(out, "{v}")),
        Value::Absent | Value::Float(_) => out.push_str("null"),
        Value::List(..) => match field.list().and_then(|l| l.to_json()) {
            Some(json) => out.push_str(&json),
            None => drop(write!(out, "\"{}\"", Value::Octets(bytes))),
        },
        v @ (Value::Ipv4(_) | Value::Ipv6(_) | Value::Mac(_)) if text => drop(write!(out, "\"{v}\"")),
        v @ Value::Octets(_) if text || field.element().is_none_or(|e| e.data_type == DataType::String) => {
            let _ = write!(out, "\"{v}\"");
        }
        _ => match (field.element().map(|e| e.data_type), bytes) {
            (Some(DataType::DateTimeMicroseconds | DataType::DateTimeNanoseconds), &[a, b, c, d, e, f, g, h]) => {
                let (seconds, fraction) = (u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h]));
                let _ = write!(out, "[{seconds},{fraction}]");
            }
            _ => number(out, bytes),
        },
    }
}

/// Bytes as one decimal number, however long; 0 for none.
fn number(out: &mut String, bytes: &[u8]) {
    const BILLION: u64 = 1_000_000_000;
    if bytes.len() <= 16 {
        let n = bytes.iter().fold(0, |n: u128, &b| n << 8 | u128::from(b));
        // 128-bit division is slow.
        let _ = match u64::try_from(n) {
            Ok(n) => write!(out, "{n}"),
            Err(_) => write!(out, "{n}"),
        };
        return;
    }
    if bytes.len() > 256 {
        let _ = write!(out, "\"{}\"", Value::Octets(bytes));
        return;
    }
    // Digits of base 10^9, the lowest first.
    let mut digits = vec![0u64];
    for &b in bytes {
        let mut carry = u64::from(b);
        for digit in &mut digits {
            let n = *digit * 256 + carry;
            (*digit, carry) = (n % BILLION, n / BILLION);
        }
        if carry > 0 {
            digits.push(carry);
        }
    }
    for (i, digit) in digits.iter().rev().enumerate() {
        let _ = if i == 0 { write!(out, "{digit}") } else { write!(out, "{digit:09}") };
    }
}
