//! Messages row by row, borrowed from their bytes: for inspection and small tools.
//!
//! A [`Session`] keeps templates between messages, as an exporter's collector does. [`parse`] and [`parse_hex`] read one
//! message that brings its own templates. Bytes are never guessed to be text: hex has a function of its own.
//!
//! ```
//! use flowlane::rows::{parse_hex, Session};
//!
//! let text = "000a 0030 6553f100 00000000 00000001
//!             0002 0010 0100 0002 0008 0004 0001 0002
//!             0100 0010 c0000201 002a c6336402 0007";
//! let mut session = Session::new();
//! let bytes = flowlane::rows::decode_hex(text)?;
//! let message = session.parse(&bytes, "203.0.113.9:4739".parse()?)?;
//! let record = message.records().next().expect("two records");
//! assert_eq!(record.value("octetDeltaCount").map(|v| v.to_string()), Some("42".to_owned()));
//! assert_eq!(record.value("IPV4_SRC_ADDR"), record.by_id(0, 8));
//!
//! let v5 = [&[0, 5, 0, 1][..], &[0; 20], &[0; 48]].concat();
//! assert_eq!(flowlane::rows::parse(&v5)?.records().count(), 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Coming from Python's `netflow`
//!
//! | there | here |
//! |---|---|
//! | `parse_packet(bytes, templates)` | [`Session::parse`]; the session is the `templates` |
//! | `parse_packet("0005...", templates)` | [`decode_hex`], then [`Session::parse`]; or [`parse_hex`] |
//! | `export.header.version`, `.to_dict()` | [`Message::header`], [`Message::header_fields`] |
//! | `export.flows`, `flow.data` | [`Message::records`], [`Record::fields`] |
//! | `flow.IPV4_SRC_ADDR` | [`Record::value`] with that name or IANA's |
//! | `export.templates`, `export.contains_new_templates` | [`Message::templates`] |
//! | `export.options` | [`Message::options`] |
//! | `UnknownExportVersion` | [`ErrorKind::UnknownVersion`] |
//! | `V9TemplateNotRecognized`, `IPFIXTemplateNotRecognized` | [`ErrorKind::UnknownTemplate`] in [`Message::errors`]; the other sets are decoded |
//! | `get_export_packets(host, port)`, `ThreadedNetFlowListener` | `flowlane collect --listen host:port` |
//! | `python3 -m netflow.collector -p 2055 -o FILE` | `flowlane collect --format netflow-json --out FILE` |

pub mod netflow_json;
pub mod records;

use crate::elements::{DataType, Element, Registry, v9_name, v9_scope_name};
use crate::error::{Error, ErrorKind};
use crate::template::{Event, Held, HeldLimits, Kind, Limits, Template, Templates};
use crate::value::{Value, decode};
use crate::wire::{Header, Message as WireMessage};
use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

/// A wrong hex digit, or an odd number of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HexError {
    /// The byte of the text at which it shows.
    pub offset: usize,
}

impl fmt::Display for HexError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no pair of hex digits at byte {}", self.offset)
    }
}

impl std::error::Error for HexError {}

/// The bytes of hex text; white space is passed over.
///
/// # Errors
/// Anything that is no hex digit, or half a byte at the end.
pub fn decode_hex(text: &str) -> Result<Vec<u8>, HexError> {
    let mut high = None;
    let mut bytes = Vec::with_capacity(text.len() / 2);
    for (offset, c) in text.char_indices().filter(|(_, c)| !c.is_whitespace()) {
        let digit = c.to_digit(16).ok_or(HexError { offset })? as u8;
        match high.take() {
            None => high = Some(digit),
            Some(h) => bytes.push(h << 4 | digit),
        }
    }
    if high.is_some() { Err(HexError { offset: text.len() }) } else { Ok(bytes) }
}

/// What [`parse_hex`] can fail with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ParseHexError {
    /// The text is not hex.
    Hex(HexError),
    /// The bytes are no message.
    Message(Error),
}

impl fmt::Display for ParseHexError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hex(e) => e.fmt(f),
            Self::Message(e) => e.fmt(f),
        }
    }
}

impl std::error::Error for ParseHexError {}

/// Reads one message that brings its own templates, from no exporter in particular.
///
/// # Errors
/// No message header, or an unknown version. What is wrong with a single set is in [`Message::errors`].
pub fn parse(bytes: &[u8]) -> Result<Message<'_>, Error> {
    Session::new().parse(bytes, SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0))
}

/// As [`parse`], from hex text; the bytes are put into `buffer`.
///
/// # Errors
/// Text that is not hex, and as [`parse`].
///
/// ```
/// let mut buffer = Vec::new();
/// let error = flowlane::rows::parse_hex("0063 0000", &mut buffer).expect_err("version 99");
/// assert_eq!(error.to_string(), "unknown version 99 at byte 0");
/// ```
pub fn parse_hex<'b>(text: &str, buffer: &'b mut Vec<u8>) -> Result<Message<'b>, ParseHexError> {
    *buffer = decode_hex(text).map_err(ParseHexError::Hex)?;
    parse(buffer).map_err(ParseHexError::Message)
}

/// Templates of many exporters, and the sets that wait for one.
#[derive(Debug)]
pub struct Session {
    registry: Arc<Registry>,
    exporters: HashMap<IpAddr, Templates>,
    held: Held<Waiting>,
    described: HashMap<Arc<Template>, Arc<Described>>,
    limits: Limits,
}

/// Exporters that a session remembers at most.
const MAX_EXPORTERS: usize = 65_536;

#[derive(Clone, Copy, Debug)]
struct Waiting {
    tag: u64,
    set: u16,
    offset: usize,
    port: u16,
}

/// A template with its elements looked up.
#[derive(Debug)]
struct Described {
    template: Arc<Template>,
    elements: Box<[Option<Element>]>,
}

impl Default for Session {
    fn default() -> Self {
        Self::new()
    }
}

impl Session {
    /// A session without templates, of the standard elements.
    pub fn new() -> Self {
        Self::with_registry(Registry::standard().clone())
    }

    /// A session without templates, of these elements.
    pub fn with_registry(registry: Arc<Registry>) -> Self {
        let held = Held::new(HeldLimits::default());
        Self { registry, exporters: HashMap::new(), held, described: HashMap::new(), limits: Limits::default() }
    }

    /// Reads a message of an exporter: its sets by the templates known so far, in wire order.
    ///
    /// # Errors
    /// No message header, an unknown version, too many exporters. What is wrong with a single set is in
    /// [`Message::errors`], and the others are read.
    pub fn parse<'a>(&mut self, bytes: &'a [u8], exporter: SocketAddr) -> Result<Message<'a>, Error> {
        self.parse_tagged(bytes, exporter, 0)
    }

    /// As [`parse`](Self::parse); late sets carry the tag of the message they came in.
    ///
    /// # Errors
    /// As [`parse`](Self::parse).
    pub fn parse_tagged<'a>(&mut self, bytes: &'a [u8], exporter: SocketAddr, tag: u64) -> Result<Message<'a>, Error> {
        let wire = WireMessage::parse(bytes)?;
        let (ip, port) = (exporter.ip().to_canonical(), exporter.port());
        let (version, domain) = (wire.version(), wire.domain_id());
        let mut message =
            Message { wire, sets: Vec::new(), late: Vec::new(), errors: Vec::new(), templates: Vec::new() };
        message.errors.extend(wire.damage());
        if let (Some(fixed), Some(template)) = (wire.fixed(), Template::constant(version)) {
            let rows = self.describe(template);
            let content = Content::Records(rows, fixed.bytes);
            message.sets.push(SetRows { index: 0, id: 0, offset: fixed.offset, content });
            return Ok(message);
        }
        if !self.exporters.contains_key(&ip) && self.exporters.len() >= MAX_EXPORTERS {
            return Err(Error::new(ErrorKind::ExporterLimit, 0, MAX_EXPORTERS, self.exporters.len()));
        }
        for set in wire.sets() {
            let set = match set {
                Ok(set) => set,
                Err(error) => {
                    message.errors.push(error);
                    continue;
                }
            };
            message.errors.extend(set.overrun);
            let templates = self.exporters.entry(ip).or_insert_with(|| Templates::new(self.limits));
            if set.id < 256 {
                let mut events = Vec::new();
                templates.apply(&set, domain, port, |e| events.push(e));
                for event in events {
                    self.event(event, (ip, version, domain), &mut message);
                }
                message.sets.push(SetRows {
                    index: set.index,
                    id: set.id,
                    offset: set.offset,
                    content: Content::Templates,
                });
                continue;
            }
            let content = match templates.lookup(version, domain, set.id, port).cloned() {
                Some(template) => Content::Records(self.describe(&template), set.body),
                None => {
                    message.errors.push(Error::new(ErrorKind::UnknownTemplate, set.offset - 4, 0, usize::from(set.id)));
                    let waiting = Waiting { tag, set: set.index, offset: set.offset, port };
                    self.held.hold((ip, version, domain, set.id), set.body, 0, waiting);
                    Content::Unknown
                }
            };
            message.sets.push(SetRows { index: set.index, id: set.id, offset: set.offset, content });
        }
        for set in &message.sets {
            let mut records = set.records();
            while records.next().is_some() {}
            message.errors.extend(records.overrun);
        }
        Ok(message)
    }

    fn event(&mut self, event: Event, (ip, version, domain): (IpAddr, u8, u32), message: &mut Message<'_>) {
        match event {
            Event::Defined { template, .. } => {
                let sets: Vec<_> = self.held.take((ip, version, domain, template.id)).collect();
                for (body, waiting) in sets {
                    let own =
                        self.exporters.get(&ip).and_then(|t| t.lookup(version, domain, template.id, waiting.port));
                    let rows = own.unwrap_or(&template).clone();
                    let rows = self.describe(&rows);
                    let Waiting { tag, set, offset, .. } = waiting;
                    message.late.push(LateSet { tag, index: set, id: template.id, offset, body, rows });
                }
                message.templates.push(template);
            }
            Event::Invalid { error, .. } => message.errors.push(error),
            Event::Withdrawn { id } => {
                self.held.drop_domain(ip, version, domain, Some(id));
            }
            Event::WithdrawnAll { .. } => {
                self.held.drop_domain(ip, version, domain, None);
            }
        }
    }

    fn describe(&mut self, template: &Arc<Template>) -> Arc<Described> {
        if let Some(known) = self.described.get(template).filter(|d| d.template.id == template.id) {
            return known.clone();
        }
        if self.described.len() >= 8192 {
            self.described.clear();
        }
        let scope = |i: usize| template.version == 9 && i < usize::from(template.scope_count);
        let fields = template.fields.iter().enumerate();
        let element = |(i, f): (usize, &crate::template::FieldSpec)| {
            if scope(i) { None } else { self.registry.lookup(template.version, f.pen, f.id).cloned() }
        };
        let described = Arc::new(Described { template: template.clone(), elements: fields.map(element).collect() });
        self.described.insert(template.clone(), described.clone());
        described
    }
}

/// A message with its sets read.
#[derive(Debug)]
pub struct Message<'a> {
    wire: WireMessage<'a>,
    sets: Vec<SetRows<'a>>,
    late: Vec<LateSet>,
    errors: Vec<Error>,
    templates: Vec<Arc<Template>>,
}

impl<'a> Message<'a> {
    /// The header as it stands in the bytes.
    pub fn header(&self) -> Header<'a> {
        self.wire.header()
    }

    /// The protocol version.
    pub fn version(&self) -> u8 {
        self.wire.version()
    }

    /// v9's source id, IPFIX's observation domain, v5's engine; else 0.
    pub fn domain_id(&self) -> u32 {
        self.wire.domain_id()
    }

    /// The header's fields by the names that Python's `netflow` gives them.
    pub fn header_fields(&self) -> Vec<(&'static str, u64)> {
        let base = |version, count: u16, uptime: u32, secs: u32| {
            vec![("version", version), ("count", count.into()), ("uptime", uptime.into()), ("timestamp", secs.into())]
        };
        match self.header() {
            Header::V1(h) => {
                let mut f = base(1, h.count.get(), h.sys_uptime.get(), h.unix_secs.get());
                f.push(("timestamp_nano", h.unix_nsecs.get().into()));
                f
            }
            Header::V5(h) => {
                let mut f = base(5, h.count.get(), h.sys_uptime.get(), h.unix_secs.get());
                f.extend([("timestamp_nano", h.unix_nsecs.get().into()), ("sequence", h.flow_sequence.get().into())]);
                f.extend([("engine_type", h.engine_type.into()), ("engine_id", h.engine_id.into())]);
                f.push(("sampling_interval", h.sampling.get().into()));
                f
            }
            Header::V7(h) => {
                let mut f = base(7, h.count.get(), h.sys_uptime.get(), h.unix_secs.get());
                f.extend([("timestamp_nano", h.unix_nsecs.get().into()), ("sequence", h.flow_sequence.get().into())]);
                f
            }
            Header::V9(h) => {
                let mut f = base(9, h.count.get(), h.sys_uptime.get(), h.unix_secs.get());
                f.extend([("sequence", h.sequence.get().into()), ("source_id", h.source_id.get().into())]);
                f
            }
            Header::Ipfix(h) => vec![
                ("version", 10),
                ("length", h.length.get().into()),
                ("export_uptime", h.export_time.get().into()),
                ("sequence_number", h.sequence.get().into()),
                ("obervation_domain_id", h.domain_id.get().into()),
            ],
        }
    }

    /// The sets, in wire order; v1, v5 and v7 have one.
    pub fn sets(&self) -> &[SetRows<'a>] {
        &self.sets
    }

    /// Sets of earlier messages that a template of this one made readable.
    pub fn late(&self) -> &[LateSet] {
        &self.late
    }

    /// Templates that the message defines, refreshed ones among them.
    pub fn templates(&self) -> &[Arc<Template>] {
        &self.templates
    }

    /// What is wrong with single sets, in wire order of what was found.
    pub fn errors(&self) -> &[Error] {
        &self.errors
    }

    /// The flow records of the message's own sets.
    pub fn records(&self) -> impl Iterator<Item = Record<'_>> {
        self.sets.iter().flat_map(SetRows::records).filter(|r| r.template().kind == Kind::Data)
    }

    /// The options records of the message's own sets.
    pub fn options(&self) -> impl Iterator<Item = Record<'_>> {
        self.sets.iter().flat_map(SetRows::records).filter(|r| r.template().kind == Kind::Options)
    }
}

#[derive(Clone, Debug)]
enum Content<'a> {
    Records(Arc<Described>, &'a [u8]),
    Templates,
    Unknown,
}

/// A set of a message.
#[derive(Clone, Debug)]
pub struct SetRows<'a> {
    /// Its place in the message, from 0.
    pub index: u16,
    /// The set id; 0 for v1, v5 and v7.
    pub id: u16,
    /// Where its first record stands in the message.
    pub offset: usize,
    content: Content<'a>,
}

impl SetRows<'_> {
    /// Its records; none for template sets, and for data sets whose template is not known.
    pub fn records(&self) -> Records<'_> {
        match &self.content {
            Content::Records(rows, bytes) => Records::new(rows, bytes, self.offset),
            Content::Templates | Content::Unknown => {
                Records { rows: None, bytes: &[], at: 0, offset: self.offset, overrun: None }
            }
        }
    }

    /// Whether it is a data set whose template is not known.
    pub fn is_unknown(&self) -> bool {
        matches!(self.content, Content::Unknown)
    }
}

/// A set that was held until its template came.
#[derive(Debug)]
pub struct LateSet {
    /// The tag of the message it came in.
    pub tag: u64,
    /// Its place in that message.
    pub index: u16,
    /// The set id.
    pub id: u16,
    /// Where its first record stands in that message.
    pub offset: usize,
    body: Box<[u8]>,
    rows: Arc<Described>,
}

impl LateSet {
    /// Its records.
    pub fn records(&self) -> Records<'_> {
        Records::new(&self.rows, &self.body, self.offset)
    }
}

/// The records of a set, one after the other; what is shorter than a record is padding.
#[derive(Clone, Debug)]
pub struct Records<'m> {
    rows: Option<&'m Described>,
    bytes: &'m [u8],
    at: usize,
    offset: usize,
    overrun: Option<Error>,
}

impl<'m> Records<'m> {
    fn new(rows: &'m Described, bytes: &'m [u8], offset: usize) -> Self {
        Self { rows: Some(rows), bytes, at: 0, offset, overrun: None }
    }
}

impl<'m> Iterator for Records<'m> {
    type Item = Record<'m>;

    #[inline]
    fn next(&mut self) -> Option<Record<'m>> {
        let rows = self.rows?;
        let left = self.bytes.len() - self.at;
        if left < rows.template.min_len() as usize {
            return None;
        }
        let rest = &self.bytes[self.at..];
        let len = match rows.template.record_len() {
            Some(len) => Some(len as usize),
            None => record_len(&rows.template, rest),
        };
        let Some(len) = len else {
            let need = rows.template.min_len() as usize;
            self.overrun = Some(Error::new(ErrorKind::RecordOverrun, self.offset + self.at, need, left));
            self.rows = None;
            return None;
        };
        let record = Record { rows, bytes: &rest[..len], offset: self.offset + self.at };
        self.at += len;
        Some(record)
    }
}

/// The length of the record at the start of some bytes, if all of it is there.
fn record_len(template: &Template, bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    for field in &template.fields {
        let (start, len) = place(field.len, bytes, at)?;
        at = start + len;
    }
    (at <= bytes.len()).then_some(at)
}

/// Where the content of a field of this template length stands that starts at `at`: RFC 7011 section 7.
#[inline]
fn place(len: u16, bytes: &[u8], at: usize) -> Option<(usize, usize)> {
    if len != crate::template::VARIABLE {
        return Some((at, usize::from(len)));
    }
    match *bytes.get(at)? {
        255 => Some((at + 3, usize::from(u16::from_be_bytes(*bytes.get(at + 1..)?.first_chunk()?)))),
        short => Some((at + 1, usize::from(short))),
    }
}

/// A record, borrowed from its message.
#[derive(Clone, Copy, Debug)]
pub struct Record<'m> {
    rows: &'m Described,
    // INVARIANT: holds all fields of the template.
    bytes: &'m [u8],
    offset: usize,
}

/// A field of a record.
#[derive(Clone, Copy, Debug)]
pub struct Field<'m> {
    /// The private enterprise number.
    pub pen: u32,
    /// The element id; a scope type in the scope of v9 options.
    pub id: u16,
    /// The element; `None` for unknown ones and for v9's scope types.
    pub element: Option<&'m Element>,
    /// Whether it is one of the scope fields of an options record.
    pub is_scope: bool,
    /// The bytes of the value.
    pub bytes: &'m [u8],
    version: u8,
}

impl<'m> Field<'m> {
    /// The value by the element's type.
    #[inline]
    pub fn value(&self) -> Value<'m> {
        let scope = self.version == 9 && self.is_scope;
        let number = scope && self.bytes.len() <= 4;
        decode(
            if number { Some(DataType::Unsigned32) } else { self.element.map(|e| e.data_type) },
            self.bytes,
            Default::default(),
        )
    }

    /// IANA's name, a vendor's, v9's scope name, else `pen/id`.
    pub fn name(&self) -> String {
        if self.version == 9 && self.is_scope {
            return v9_scope_name(self.id).map_or_else(|| format!("scope/{}", self.id), str::to_owned);
        }
        match self.element {
            Some(e) => e.name.to_string(),
            None if self.pen == 0 => self.id.to_string(),
            None => format!("{}/{}", self.pen, self.id),
        }
    }
}

impl<'m> Record<'m> {
    /// The template that it is read by.
    pub fn template(&self) -> &'m Template {
        &self.rows.template
    }

    /// Its bytes.
    pub fn bytes(&self) -> &'m [u8] {
        self.bytes
    }

    /// Where it stands in its message.
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// Its fields in wire order, repeated elements each.
    #[inline]
    pub fn fields(&self) -> impl Iterator<Item = Field<'m>> + use<'m> {
        let (Described { template, elements }, bytes) = (self.rows, self.bytes);
        let (scope, version) = (usize::from(template.scope_count), template.version);
        let mut at = 0;
        template.fields.iter().zip(elements).enumerate().map_while(move |(i, (spec, element))| {
            let (start, len) = place(spec.len, bytes, at)?;
            at = start + len;
            let bytes = bytes.get(start..at)?;
            Some(Field { pen: spec.pen, id: spec.id, element: element.as_ref(), is_scope: i < scope, bytes, version })
        })
    }

    /// The first value of an element.
    pub fn by_id(&self, pen: u32, id: u16) -> Option<Value<'m>> {
        self.fields().find(|f| (f.pen, f.id) == (pen, id) && !(f.version == 9 && f.is_scope)).map(|f| f.value())
    }

    /// The first value of an element by IANA's or a vendor's name, or by the name of its v9 type.
    pub fn value(&self, name: &str) -> Option<Value<'m>> {
        let named = |f: &Field<'_>| {
            f.element.is_some_and(|e| &*e.name == name)
                || f.pen == 0 && !(f.version == 9 && f.is_scope) && v9_name(f.id) == Some(name)
        };
        self.fields().find(named).map(|f| f.value())
    }
}

impl fmt::Display for Record<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, field) in self.fields().enumerate() {
            write!(f, "{}{}={}", if i == 0 { "" } else { " " }, field.name(), field.value())?;
        }
        Ok(())
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for Record<'_> {
    /// A map of names to values; a repeated name carries `#2`, `#3`.
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap as _;
        let mut map = s.serialize_map(None)?;
        let mut names: Vec<String> = Vec::new();
        for field in self.fields() {
            let name = field.name();
            names.push(name.clone());
            match names.iter().filter(|n| **n == name).count() {
                1 => map.serialize_entry(&name, &field.value())?,
                n => map.serialize_entry(&format!("{name}#{n}"), &field.value())?,
            }
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raw_bytes_that_are_hex_digits_are_bytes() {
        // A v5 message whose bytes from the 25th on are text.
        let mut bytes = vec![0, 5, 0, 1];
        bytes.extend([b'0'; 20 + 48]);
        let message = parse(&bytes).expect("a v5 message");
        assert_eq!(message.records().next().and_then(|r| r.by_id(0, 7)), Some(Value::Unsigned(0x3030)));
    }

    #[test]
    fn the_errors_are_told_apart() {
        assert_eq!(parse(&[0, 99]).map(|_| ()).map_err(|e| e.kind), Err(ErrorKind::UnknownVersion));
        assert_eq!(parse(&[0]).map(|_| ()).map_err(|e| e.kind), Err(ErrorKind::ShortHeader));
        let mut bytes = vec![0, 10, 0, 24];
        bytes.extend([0; 12]);
        bytes.extend([1, 0, 0, 8, 1, 2, 3, 4]);
        let message = parse(&bytes).expect("a header");
        assert_eq!(message.errors().first().map(|e| e.kind), Some(ErrorKind::UnknownTemplate));
        assert!(message.sets()[0].is_unknown());
    }
}
