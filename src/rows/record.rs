//! Records and their fields, borrowed from the bytes of a set.

use super::List;
use crate::columns::gather::text;
use crate::elements::{DataType, Element, Registry, v9_name, v9_scope_name};
use crate::error::{Error, ErrorKind};
use crate::template::{FieldSpec, Template, VARIABLE};
use crate::value::{Context, Value, decode};
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

/// A template with its elements looked up.
#[derive(Debug)]
pub(super) struct Described {
    pub(super) template: Arc<Template>,
    slots: Box<[Slot]>,
    // Where records vary in length: the bytes of fixed length in front of each field that varies, and behind the last.
    fixed: (Box<[usize]>, usize),
    pub(super) has_lists: bool,
}

#[derive(Debug)]
struct Slot {
    spec: FieldSpec,
    read: Read,
    element: Option<Element>,
    plain_microseconds: bool,
    data_type: Option<DataType>,
    // A v9 scope type: a namespace of its own.
    v9_scope: bool,
    scope: bool,
}

/// The commonest types, told apart once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Read {
    /// An unsigned integer of a length from 1 to 8.
    Number,
    /// Milliseconds since 1970, of 8 bytes.
    Milliseconds,
    Ipv4,
    Ipv6,
    Text,
    Other,
}

impl Read {
    fn new(data_type: Option<DataType>, len: u16) -> Self {
        use DataType as D;
        match (data_type, len) {
            (Some(D::Unsigned8 | D::Unsigned16 | D::Unsigned32 | D::Unsigned64), 1..=8) => Self::Number,
            (Some(D::DateTimeMilliseconds), 8) => Self::Milliseconds,
            (Some(D::Ipv4Address | D::Ipv6Address), 4) => Self::Ipv4,
            (Some(D::Ipv4Address | D::Ipv6Address), 16) => Self::Ipv6,
            (Some(D::String), _) => Self::Text,
            _ => Self::Other,
        }
    }
}

impl Described {
    pub(super) fn new(template: &Arc<Template>, registry: &Registry) -> Self {
        let version = template.version;
        let Context { plain_microseconds, .. } = Context::new(template, 0);
        let slot = |(i, spec): (usize, &FieldSpec)| {
            let scope = i < usize::from(template.scope_count);
            let v9_scope = scope && version == 9;
            let element = if v9_scope { None } else { registry.lookup(version, spec.pen, spec.id).cloned() };
            let number = v9_scope && v9_scope_name(spec.id).is_some();
            let data_type = if number { Some(DataType::Unsigned64) } else { element.as_ref().map(|e| e.data_type) };
            let read = Read::new(data_type, spec.len);
            Slot { spec: *spec, read, element, plain_microseconds, data_type, v9_scope, scope }
        };
        let slots: Box<[Slot]> = template.fields.iter().enumerate().map(slot).collect();
        let has_lists = slots.iter().any(|s| {
            use DataType::{BasicList, SubTemplateList, SubTemplateMultiList};
            matches!(s.data_type, Some(BasicList | SubTemplateList | SubTemplateMultiList))
        });
        let fixed = fixed_lengths(&template.fields);
        Self { template: template.clone(), slots, fixed, has_lists }
    }

    /// The place of the nth field, from 1, that a test takes.
    fn position(&self, nth: usize, mut takes: impl FnMut(&Slot, Option<&Element>) -> bool) -> Option<usize> {
        let mut found = self.slots.iter().enumerate().filter(|(_, s)| takes(s, s.element.as_ref()));
        Some(found.nth(nth.checked_sub(1)?)?.0)
    }

    fn by_id(&self, pen: u32, id: u16, nth: usize) -> Option<usize> {
        self.position(nth, |s, _| !s.v9_scope && (s.spec.pen, s.spec.id) == (pen, id))
    }

    /// Resolves a name as [`Record::value`] says.
    fn by_name(&self, name: &str) -> Option<usize> {
        match name.rsplit_once('#').and_then(|(head, nth)| Some((head, nth.parse().ok()?))) {
            Some((head, nth)) => self.by_bare_name(head, nth),
            None => self.by_bare_name(name, 1),
        }
    }

    fn by_bare_name(&self, name: &str, nth: usize) -> Option<usize> {
        if let Some((head, tail)) = name.split_once('/') {
            let pen = if head == "v9" { 0 } else { head.parse().ok()? };
            return match tail.parse() {
                Ok(id) => self.by_id(pen, id, nth),
                Err(_) => self.position(nth, |_, e| e.is_some_and(|e| e.pen == pen && &*e.name == tail)),
            };
        }
        let version = self.template.version;
        self.position(nth, |_, e| e.is_some_and(|e| e.pen == 0 && &*e.name == name))
            .or_else(|| match version {
                1 | 5 | 7 => self.position(nth, |s, _| short_name(s.spec.id) == Some(name)),
                _ => None,
            })
            .or_else(|| self.position(nth, |s, _| !s.v9_scope && s.spec.pen == 0 && v9_name(s.spec.id) == Some(name)))
            .or_else(|| self.position(nth, |_, e| e.is_some_and(|e| &*e.name == name)))
            .or_else(|| self.position(nth, |s, _| s.v9_scope && v9_scope_name(s.spec.id) == Some(name)))
            .or_else(|| self.by_id(0, name.parse().ok()?, nth))
    }
}

/// The names that Python's `netflow` gives the fields of v1, v5 and v7.
pub(super) fn short_name(id: u16) -> Option<&'static str> {
    Some(match id {
        8 => "IPV4_SRC_ADDR",
        12 => "IPV4_DST_ADDR",
        15 => "NEXT_HOP",
        10 => "INPUT",
        14 => "OUTPUT",
        2 => "IN_PACKETS",
        1 => "IN_OCTETS",
        22 => "FIRST_SWITCHED",
        21 => "LAST_SWITCHED",
        7 => "SRC_PORT",
        11 => "DST_PORT",
        6 => "TCP_FLAGS",
        4 => "PROTO",
        5 => "TOS",
        16 => "SRC_AS",
        17 => "DST_AS",
        9 => "SRC_MASK",
        13 => "DST_MASK",
        _ => return None,
    })
}

/// What the records of a message share.
#[derive(Clone, Debug, Default)]
pub(super) struct Shared {
    pub(super) export_time_us: i64,
    /// The templates of the domain, where records have lists of their records.
    pub(super) templates: Option<Arc<SubTemplates>>,
}

pub(super) type SubTemplates = HashMap<u16, Arc<Described>>;

/// The records of a set, one after the other; what is shorter than a record is padding.
#[derive(Clone, Debug)]
pub struct Records<'m> {
    rows: Option<&'m Described>,
    shared: &'m Shared,
    bytes: &'m [u8],
    offset: usize,
    overrun: Option<Error>,
}

impl<'m> Records<'m> {
    pub(super) fn new(rows: Option<&'m Described>, shared: &'m Shared, bytes: &'m [u8], offset: usize) -> Self {
        Self { rows, shared, bytes, offset, overrun: None }
    }

    /// The error of a record that runs past its set, once the walk has come to it.
    pub fn overrun(&self) -> Option<Error> {
        self.overrun
    }
}

impl<'m> Iterator for Records<'m> {
    type Item = Record<'m>;

    #[inline]
    fn next(&mut self) -> Option<Record<'m>> {
        let rows = self.rows?;
        let min_len = rows.template.min_len() as usize;
        if self.bytes.len() < min_len {
            return None;
        }
        let len = if rows.template.record_len().is_some() { Some(min_len) } else { record_len(rows, self.bytes) };
        let Some((bytes, rest)) = len.and_then(|len| self.bytes.split_at_checked(len)) else {
            self.overrun = Some(Error::new(ErrorKind::RecordOverrun, self.offset, min_len, self.bytes.len()));
            self.rows = None;
            return None;
        };
        let record = Record { rows, shared: self.shared, tail: self.bytes, len: bytes.len(), offset: self.offset };
        self.bytes = rest;
        self.offset += bytes.len();
        Some(record)
    }
}

/// The bytes of fixed length in front of each field that varies, and behind the last.
fn fixed_lengths(fields: &[FieldSpec]) -> (Box<[usize]>, usize) {
    let (mut before, mut fixed) = (Vec::new(), 0);
    for field in fields {
        if field.len == VARIABLE {
            before.push(std::mem::take(&mut fixed));
        } else {
            fixed += usize::from(field.len);
        }
    }
    (before.into(), fixed)
}

/// The length of the record at the start of some bytes, if all of it is there.
#[inline]
fn record_len(rows: &Described, bytes: &[u8]) -> Option<usize> {
    let (before, behind) = &rows.fixed;
    let mut end = *behind;
    for before in before {
        let (head, len) = varying_len(bytes.get(end - behind + before..)?)?;
        end += before + head + len;
    }
    (end <= bytes.len()).then_some(end)
}

/// How many bytes tell the length of a field that varies, and that length: RFC 7011 section 7.
#[inline(always)]
fn varying_len(bytes: &[u8]) -> Option<(usize, usize)> {
    match *bytes {
        [255, a, b, ..] => Some((3, usize::from(u16::from_be_bytes([a, b])))),
        [255, ..] | [] => None,
        [n, ..] => Some((1, usize::from(n))),
    }
}

/// A record, borrowed from its message.
#[derive(Clone, Copy, Debug)]
pub struct Record<'m> {
    rows: &'m Described,
    shared: &'m Shared,
    // From its start to the end of its set.
    tail: &'m [u8],
    // INVARIANT: the length of all fields of the template, at most that of `tail`.
    len: usize,
    offset: usize,
}

impl<'m> Record<'m> {
    /// The template that it is read by.
    pub fn template(&self) -> &'m Template {
        &self.rows.template
    }

    /// Its bytes.
    pub fn bytes(&self) -> &'m [u8] {
        &self.tail[..self.len]
    }

    /// Where it stands in its message.
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// Its fields in wire order, repeated elements each. Nothing is allocated.
    #[inline]
    pub fn fields(&self) -> Fields<'m> {
        Fields { slots: self.rows.slots.iter(), shared: self.shared, rest: self.tail }
    }

    /// The value of a field by its name: the first, or with `#2`, `#3` at the end of the name the second, third.
    ///
    /// A name is IANA's (`octetDeltaCount`), that of a v9 type or of v1, v5 and v7 in Python's `netflow` (`IN_BYTES`,
    /// `IN_OCTETS`), a vendor's (`ingressAclId`), the key of an extra (`29305/reverseOctetDeltaCount`, `9/12235`,
    /// `v9/33002`), a v9 scope's (`Interface`) or a bare number, and is looked for in this order.
    pub fn value(&self, name: &str) -> Option<Value<'m>> {
        self.field(name).map(|f| f.value())
    }

    /// The field of a name, as [`value`](Self::value) says.
    pub fn field(&self, name: &str) -> Option<Field<'m>> {
        self.fields().nth(self.rows.by_name(name)?)
    }

    /// The first value of an element; v9's scope types are none.
    pub fn by_id(&self, pen: u32, id: u16) -> Option<Value<'m>> {
        self.nth_by_id(pen, id, 1)
    }

    /// The nth value of an element, from 1.
    pub fn nth_by_id(&self, pen: u32, id: u16, nth: usize) -> Option<Value<'m>> {
        Some(self.fields().nth(self.rows.by_id(pen, id, nth)?)?.value())
    }

    /// The value of a v9 scope type (1 system, 2 interface, 3 line card, 4 cache, 5 template) of an options record.
    pub fn scope(&self, scope_type: u16) -> Option<Value<'m>> {
        let at = self.rows.position(1, |s, _| s.v9_scope && s.spec.id == scope_type)?;
        Some(self.fields().nth(at)?.value())
    }

    /// The router that a v7 record was switched by, its last field.
    pub fn router_sc(&self) -> Option<std::net::Ipv4Addr> {
        let bytes = self.bytes().last_chunk::<4>().filter(|_| self.template().version == 7)?;
        Some((*bytes).into())
    }
}

/// The fields of a record.
#[derive(Clone, Debug)]
pub struct Fields<'m> {
    slots: std::slice::Iter<'m, Slot>,
    shared: &'m Shared,
    rest: &'m [u8],
}

impl<'m> Iterator for Fields<'m> {
    type Item = Field<'m>;

    #[inline(always)]
    fn next(&mut self) -> Option<Field<'m>> {
        let slot = self.slots.next()?;
        let mut tail = self.rest;
        let mut len = usize::from(slot.spec.len);
        if slot.spec.len == VARIABLE {
            let head;
            (head, len) = varying_len(tail)?;
            tail = tail.get(head..)?;
        }
        self.rest = tail.get(len..)?;
        Some(Field { slot, tail, len, shared: self.shared })
    }

    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        self.slots.size_hint()
    }
}

/// A field of a record: an element and a value.
#[derive(Clone, Copy, Debug)]
pub struct Field<'m> {
    slot: &'m Slot,
    // From its first byte to the end of its set.
    tail: &'m [u8],
    // INVARIANT: at most the length of `tail`.
    len: usize,
    shared: &'m Shared,
}

impl<'m> Field<'m> {
    /// The private enterprise number; 0 for IANA's elements and v9's types.
    #[inline]
    pub fn pen(&self) -> u32 {
        self.slot.spec.pen
    }

    /// The element id; a scope type in the scope of v9 options.
    #[inline]
    pub fn id(&self) -> u16 {
        self.slot.spec.id
    }

    /// The element; `None` for unknown ones and for v9's scope types.
    #[inline]
    pub fn element(&self) -> Option<&'m Element> {
        self.slot.element.as_ref()
    }

    /// Whether it is one of the scope fields of an options record.
    #[inline]
    pub fn is_scope(&self) -> bool {
        self.slot.scope
    }

    /// Whether [`id`](Self::id) is a scope type of v9, which are a namespace of their own.
    #[inline]
    pub fn is_v9_scope(&self) -> bool {
        self.slot.v9_scope
    }

    /// The bytes of the value.
    #[inline]
    pub fn bytes(&self) -> &'m [u8] {
        &self.tail[..self.len]
    }

    /// The value by the element's type.
    #[inline(always)]
    pub fn value(&self) -> Value<'m> {
        match self.slot.read {
            Read::Number => Value::Unsigned(self.number()),
            Read::Ipv4 if let Some(&bytes) = self.tail.first_chunk::<4>() => Value::Ipv4(bytes.into()),
            Read::Ipv6 if let Some(&bytes) = self.tail.first_chunk::<16>() => Value::Ipv6(bytes.into()),
            Read::Text if let Some(text) = text::ascii(self.tail, self.len) => Value::Text(text),
            Read::Milliseconds if self.number() <= i64::MAX as u64 / 1000 => {
                Value::DateTime(self.number().cast_signed() * 1000)
            }
            // By its parts: a field that is passed as a whole would live in memory.
            _ => other(self.slot, self.bytes(), self.shared),
        }
    }

    /// An unsigned integer of 1 to 8 bytes.
    #[inline(always)]
    fn number(&self) -> u64 {
        match self.tail.first_chunk::<8>() {
            // The field is at the top; what is after it is shifted out.
            Some(bytes) => u64::from_be_bytes(*bytes) >> ((64 - 8 * (self.len & 7)) % 64),
            None => self.bytes().iter().fold(0, |n, &b| n << 8 | u64::from(b)),
        }
    }

    /// The list that the value is, if it is one (RFC 6313).
    pub fn list(&self) -> Option<List<'m>> {
        match self.value() {
            Value::List(data_type, bytes) => Some(List::new(data_type, bytes, self.shared)),
            _ => None,
        }
    }

    /// IANA's name, `pen/name` of a vendor's, the name of v9's scope type; where there is none `pen/id`, or the number.
    pub fn name(&self) -> FieldName<'m> {
        FieldName(*self)
    }
}

/// A value of the rarer types.
#[inline(never)]
fn other<'m>(slot: &Slot, bytes: &'m [u8], shared: &Shared) -> Value<'m> {
    let context = Context { export_time_us: shared.export_time_us, plain_microseconds: slot.plain_microseconds };
    decode(slot.data_type, bytes, context)
}

/// The name of a field, to be written.
#[derive(Clone, Copy, Debug)]
pub struct FieldName<'m>(Field<'m>);

impl fmt::Display for FieldName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let FieldSpec { pen, id, .. } = self.0.slot.spec;
        if self.0.slot.v9_scope {
            return match v9_scope_name(id) {
                Some(name) => f.write_str(name),
                None => write!(f, "scope/{id}"),
            };
        }
        match self.0.element() {
            Some(e) if pen == 0 => f.write_str(&e.name),
            Some(e) => write!(f, "{pen}/{}", e.name),
            None if pen == 0 => write!(f, "{id}"),
            None => write!(f, "{pen}/{id}"),
        }
    }
}

impl fmt::Display for Field<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.list().and_then(|l| l.to_json()) {
            Some(json) => f.write_str(&json),
            None => self.value().fmt(f),
        }
    }
}

impl fmt::Display for Record<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, field) in self.fields().enumerate() {
            write!(f, "{}{}={field}", if i == 0 { "" } else { " " }, field.name())?;
        }
        Ok(())
    }
}
