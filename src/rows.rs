//! Messages row by row, borrowed from their bytes: for inspection and small tools.
//!
//! A [`Session`] keeps templates between messages, as an exporter's collector does, and holds the data sets that came
//! before theirs. [`parse`] and [`parse_hex`] read one message that brings its own templates. Bytes are never guessed to
//! be text: hex has functions of its own.
//!
//! From bytes, message after message:
//!
//! ```
//! use flowlane::rows::Session;
//!
//! let template = [
//!     &[0, 10, 0, 32, 0x65, 0x53, 0xf1, 0, 0, 0, 0, 0, 0, 0, 0, 1][..],
//!     &[0, 2, 0, 16, 1, 0, 0, 2, 0, 8, 0, 4, 0, 1, 0, 2],
//! ].concat();
//! let data = [
//!     &[0, 10, 0, 32, 0x65, 0x53, 0xf1, 0, 0, 0, 0, 0, 0, 0, 0, 1][..],
//!     &[1, 0, 0, 16, 192, 0, 2, 1, 0, 42, 198, 51, 100, 2, 0, 7],
//! ].concat();
//! let exporter = "203.0.113.9:4739".parse()?;
//!
//! let mut session = Session::new();
//! assert_eq!(session.parse(&template, exporter)?.templates().len(), 1);
//! let message = session.parse(&data, exporter)?;
//! for record in message.records() {
//!     for field in record.fields() {
//!         println!("{} = {}", field.name(), field.value());
//!     }
//! }
//! let record = message.records().next().expect("two records");
//! assert_eq!(record.to_string(), "sourceIPv4Address=192.0.2.1 octetDeltaCount=42");
//! assert_eq!(record.value("octetDeltaCount"), record.value("IN_BYTES"));
//! assert_eq!(record.value("octetDeltaCount"), record.by_id(0, 1));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! From hex text:
//!
//! ```
//! use flowlane::rows::Session;
//!
//! let text = "000a 0030 6553f100 00000000 00000001
//!             0002 0010 0100 0002 0008 0004 0001 0002
//!             0100 0010 c0000201 002a c6336402 0007";
//! let (mut session, mut bytes) = (Session::new(), Vec::new());
//! let message = session.parse_hex(text, &mut bytes, "203.0.113.9:4739".parse()?)?;
//! assert_eq!(message.records().count(), 2);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Errors
//!
//! What makes a message unreadable is the error of the call. What is wrong with a single set is in
//! [`Message::errors`], and the others are read. [`Cause::of`] tells four causes apart: an unknown version, a template
//! that is not known, a malformed part, a limit reached; [`ErrorKind`] says which exactly.
//!
//! # Coming from Python's `netflow`
//!
//! | there | here |
//! |---|---|
//! | `parse_packet(data, templates)`, `data` of bytes | [`Session::parse`]; the session is `templates`, of every version and exporter |
//! | `parse_packet("0005...", templates)` | [`Session::parse_hex`] |
//! | `parse_packet(data)` of v1 or v5 | [`parse`], [`parse_hex`] |
//! | `V1ExportPacket`, `V5ExportPacket`, `V9ExportPacket`, `IPFIXExportPacket` | [`Message`], of v7 too |
//! | `export.header.version`, `.to_dict()` | [`Message::version`], [`Message::header`], [`Message::header_fields`] |
//! | `export.flows` | [`Message::records`] |
//! | `flow.data`, `flow.IPV4_SRC_ADDR` | [`Record::fields`], [`Record::value`] with that name, IANA's, or [`Record::by_id`] |
//! | `export.templates`, `export.contains_new_templates` | [`Message::templates`] |
//! | `export.options`, `.scopes`, `.data` | [`Message::options`], [`Record::scope`], [`Record::fields`] |
//! | `export.sets` of IPFIX | [`Message::sets`] |
//! | `UnknownExportVersion` | [`Cause::UnknownVersion`], the error of the call |
//! | `V9TemplateNotRecognized`, `IPFIXTemplateNotRecognized` | [`Cause::UnknownTemplate`] in [`Message::errors`]; the other sets are read, and [`Message::late`] of a later message has the records |
//! | `IPFIXMalformedPacket`, `IPFIXMalformedRecord`, `IPFIXRFCError`, `IPFIXTemplateError`, `PaddingCalculationError`, `struct.error` | [`Cause::Malformed`] |
//! | `ValueError` for text that is not hex | [`ParseHexError::Hex`] |
//! | `IPFIXFieldTypes.by_id`, `.by_name` | [`Registry::lookup`], [`Registry::by_name`] |
//! | `get_export_packets(host, port)`, `ThreadedNetFlowListener` | a socket of your own and [`Session::parse`], or [`Decoder`](crate::decode::Decoder); as a program `flowlane collect --listen host:port` |
//! | `python3 -m netflow.collector -p 2055 -o FILE` | `flowlane collect --format netflow-json --out FILE`; [`netflow_json`] in the library |
//! | `python3 -m netflow.analyzer -f FILE` | reads the files that `--format netflow-json` writes |

mod hex;
mod list;
mod message;
pub mod netflow_json;
mod record;
pub mod records;
#[cfg(feature = "serde")]
mod serialize;

pub use hex::{HexError, ParseHexError, decode_hex};
pub use list::List;
pub use message::{LateSet, Message, SetRows};
pub use record::{Field, FieldName, Fields, Record, Records};

use crate::elements::Registry;
use crate::error::{Error, ErrorKind, Layer};
use crate::template::{Event, Held, HeldLimits, Kind, Limits, Pool, Template, Templates};
use crate::wire::{Message as WireMessage, Set};
use message::{Content, Origin};
use record::{Described, Shared, SubTemplates};
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

/// Reads one message that brings its own templates, from no exporter in particular.
///
/// # Errors
/// No message header, or an unknown version. What is wrong with a single set is in [`Message::errors`].
///
/// ```
/// let bytes = [&[0, 5, 0, 1][..], &[0; 20], &[192, 0, 2, 1], &[0; 44]].concat();
/// let message = flowlane::rows::parse(&bytes)?;
/// let record = message.records().next().expect("a record");
/// assert_eq!(record.value("IPV4_SRC_ADDR").map(|v| v.to_string()).as_deref(), Some("192.0.2.1"));
/// # Ok::<(), flowlane::error::Error>(())
/// ```
pub fn parse(bytes: &[u8]) -> Result<Message<'_>, Error> {
    Session::new().parse(bytes, NOBODY)
}

/// As [`parse`], from hex text; its bytes replace what is in `buffer`.
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
    Session::new().parse_hex(text, buffer, NOBODY)
}

const NOBODY: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

/// The four causes that errors have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// The message's version is none of 1, 5, 7, 9 and 10.
    UnknownVersion,
    /// A data set came before its template.
    UnknownTemplate,
    /// The message, or a part of it, is not formed as its protocol says.
    Malformed,
    /// Keeping more is not allowed.
    Limit,
}

impl Cause {
    /// The cause of an error.
    pub fn of(error: &Error) -> Self {
        match (error.kind, error.layer()) {
            (ErrorKind::UnknownVersion, _) => Self::UnknownVersion,
            (ErrorKind::UnknownTemplate, _) => Self::UnknownTemplate,
            (_, Layer::Limit) => Self::Limit,
            _ => Self::Malformed,
        }
    }
}

/// Templates of many exporters, and the sets that wait for one.
#[derive(Debug)]
pub struct Session {
    registry: Arc<Registry>,
    exporters: HashMap<IpAddr, Templates>,
    held: Held<Waiting>,
    held_limits: HeldLimits,
    // By the address of the template, which the value keeps alive.
    described: HashMap<usize, Arc<Described>>,
    described_fields: usize,
    pool: Pool,
    lists: Option<(Domain, u64, Arc<SubTemplates>)>,
    limits: Limits,
    most: usize,
}

/// Exporters that a session remembers at most, where nothing else is said.
const MAX_EXPORTERS: usize = 65_536;
/// Fields of templates whose elements a session keeps looked up at most.
const MAX_DESCRIBED: usize = 1 << 20;
/// Fields that a message, or a late set, shows at most. A datagram has fewer than 65,536 bytes: only fields of no
/// length come to more, and a few thousand of them a record would become gigabytes of text.
const MAX_FIELDS: usize = 1 << 19;

#[derive(Clone, Copy, Debug)]
struct Waiting {
    origin: Origin,
    set: u16,
    offset: usize,
}

/// Where the ids of templates mean one thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Domain {
    ip: IpAddr,
    port: u16,
    version: u8,
    id: u32,
}

impl Default for Session {
    fn default() -> Self {
        Self::new()
    }
}

impl Session {
    /// A session without templates, of the standard elements and limits.
    pub fn new() -> Self {
        Self::with_registry(Registry::standard().clone())
    }

    /// A session without templates, of these elements.
    pub fn with_registry(registry: Arc<Registry>) -> Self {
        Self {
            registry,
            exporters: HashMap::new(),
            held: Held::new(HeldLimits::default()),
            held_limits: HeldLimits::default(),
            described: HashMap::new(),
            described_fields: 0,
            pool: Pool::default(),
            lists: None,
            limits: Limits::default(),
            most: MAX_EXPORTERS,
        }
    }

    /// With other bounds for what comes from now on.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits, held: HeldLimits) -> Self {
        (self.limits, self.held, self.held_limits) = (limits, Held::new(held), held);
        self
    }

    /// That remembers so many exporters at most, instead of 65,536. A further one is refused: by itself a session forgets
    /// nobody ([`make_room`](Self::make_room)).
    #[must_use]
    pub fn with_exporters(mut self, most: usize) -> Self {
        self.most = most;
        self
    }

    /// Where there is no room for another exporter, forgets those that are not to be kept, and the sets that wait for
    /// templates of theirs.
    pub fn make_room(&mut self, mut keep: impl FnMut(IpAddr) -> bool) {
        if self.exporters.len() < self.most {
            return;
        }
        self.exporters.retain(|ip, _| keep(*ip));
        let gone: Vec<_> = self.held.awaited().filter(|key| !self.exporters.contains_key(&key.0)).collect();
        for (ip, version, domain, id) in gone {
            self.held.drop_domain(ip, version, domain, Some(id));
        }
    }

    /// Reads a message of an exporter: its sets by the templates known so far, in wire order.
    ///
    /// # Errors
    /// No message header, an unknown version, too many exporters. What is wrong with a single set is in
    /// [`Message::errors`], and the others are read.
    pub fn parse<'a>(&mut self, bytes: &'a [u8], exporter: SocketAddr) -> Result<Message<'a>, Error> {
        self.parse_received(bytes, exporter, 0, 0)
    }

    /// As [`parse`](Self::parse), from hex text; its bytes replace what is in `buffer`.
    ///
    /// # Errors
    /// Text that is not hex, and as [`parse`](Self::parse).
    pub fn parse_hex<'b>(
        &mut self,
        text: &str,
        buffer: &'b mut Vec<u8>,
        exporter: SocketAddr,
    ) -> Result<Message<'b>, ParseHexError> {
        buffer.clear();
        hex::append(text, buffer).map_err(ParseHexError::Hex)?;
        self.parse(buffer, exporter).map_err(ParseHexError::Message)
    }

    /// As [`parse`](Self::parse), of a message received at a time in microseconds since 1970, by which held sets age.
    /// Late sets carry the tag of the message they came in.
    ///
    /// # Errors
    /// As [`parse`](Self::parse).
    pub fn parse_received<'a>(
        &mut self,
        bytes: &'a [u8],
        exporter: SocketAddr,
        received_us: i64,
        tag: u64,
    ) -> Result<Message<'a>, Error> {
        let wire = WireMessage::parse(bytes)?;
        let ip = exporter.ip().to_canonical();
        let domain = Domain { ip, port: exporter.port(), version: wire.version(), id: wire.domain_id() };
        let mut message = Message {
            wire,
            sets: Vec::new(),
            late: Vec::new(),
            errors: Vec::new(),
            templates: Vec::new(),
            room: MAX_FIELDS,
        };
        message.errors.extend(wire.damage());
        if let (Some(fixed), Some(template)) = (wire.fixed(), Template::constant(domain.version)) {
            let content = Content::Records(self.describe(template), fixed.bytes);
            let shared = Shared { export_time_us: wire.export_time_us(), templates: None };
            let (damage, other_port) = (None, false);
            message.sets.push(SetRows { index: 0, id: 0, offset: fixed.offset, content, shared, damage, other_port });
            return Ok(message);
        }
        if !self.exporters.contains_key(&ip) {
            if self.exporters.len() >= self.most {
                return Err(Error::new(ErrorKind::ExporterLimit, 0, self.most, self.exporters.len()));
            }
            self.exporters.insert(ip, Templates::sharing(self.limits, self.pool.of_another_address()));
        }
        self.held.expire(received_us, |_| {});
        let origin = Origin::new(tag, exporter, received_us, bytes);
        for set in wire.sets() {
            match set {
                Ok(set) if set.id < 256 => self.template_set(&set, domain, &mut message),
                Ok(set) => self.data_set(&set, domain, origin, &mut message),
                Err(error) => message.errors.push(error),
            }
        }
        Ok(message)
    }

    /// Data sets that wait for their template now.
    pub fn held_sets(&self) -> usize {
        self.held.len()
    }

    fn template_set<'a>(&mut self, set: &Set<'a>, domain: Domain, message: &mut Message<'a>) {
        message.errors.extend(set.overrun);
        let mut events = Vec::new();
        if let Some(templates) = self.exporters.get_mut(&domain.ip) {
            templates.apply(set, domain.id, domain.port, |e| events.push(e));
        }
        for event in events {
            match event {
                Event::Defined { template, .. } => {
                    self.late(&template, domain, message);
                    message.templates.push(template);
                }
                Event::Invalid { error, .. } => message.errors.push(error),
                Event::Withdrawn { id } => {
                    self.held.drop_domain(domain.ip, domain.version, domain.id, Some(id));
                }
                Event::WithdrawnAll { .. } => {
                    self.held.drop_domain(domain.ip, domain.version, domain.id, None);
                }
            }
        }
        message.sets.push(SetRows {
            index: set.index,
            id: set.id,
            offset: set.offset,
            content: Content::Templates,
            shared: Shared::default(),
            damage: set.overrun,
            other_port: false,
        });
    }

    /// Takes the sets that waited for a template.
    fn late(&mut self, template: &Arc<Template>, domain: Domain, message: &mut Message<'_>) {
        let held: Vec<_> = self.held.take((domain.ip, domain.version, domain.id, template.id)).collect();
        for (body, Waiting { origin, set, offset }) in held {
            let rows = self.describe(template);
            let export_time_us = origin.export_time_us();
            let templates = rows.has_lists.then(|| self.sub_templates(domain));
            let shared = Shared { export_time_us, templates };
            let (end, damage) = walk(&rows, &body, offset, &shared, &mut MAX_FIELDS.clone());
            let body = if end < body.len() { body.get(..end).unwrap_or(&[]).into() } else { body };
            message.errors.extend(damage);
            message.late.push(LateSet { index: set, id: template.id, offset, origin, body, rows, shared, damage });
        }
    }

    fn data_set<'a>(&mut self, set: &Set<'a>, domain: Domain, origin: Origin, message: &mut Message<'a>) {
        message.errors.extend(set.overrun);
        let Domain { ip, port, version, id } = domain;
        let templates = self.exporters.get(&ip);
        let found = templates.and_then(|t| Some((t.lookup(version, id, set.id, port)?, t)));
        let other_port = found.is_some_and(|(_, t)| !t.is_own(version, id, set.id, port));
        let mut damage_of = set.overrun;
        let mut shared = Shared { export_time_us: message.export_time_us(), templates: None };
        let content = match found.map(|(template, _)| template.clone()) {
            Some(template) => {
                let rows = self.describe(&template);
                shared.templates = rows.has_lists.then(|| self.sub_templates(domain));
                let (end, damage) = walk(&rows, set.body, set.offset, &shared, &mut message.room);
                message.errors.extend(damage);
                damage_of = damage_of.or(damage);
                Content::Records(rows, set.body.get(..end).unwrap_or(&[]))
            }
            None => {
                let start = set.offset.saturating_sub(4);
                message.errors.push(Error::new(ErrorKind::UnknownTemplate, start, 0, usize::from(set.id)));
                let waiting = Waiting { origin, set: set.index, offset: set.offset };
                if !self.held.hold((ip, version, id, set.id), set.body, origin.received_us, waiting) {
                    let limit = self.held_limits.bytes;
                    message.errors.push(Error::new(ErrorKind::ByteLimit, start, limit, set.body.len()));
                }
                Content::Unknown
            }
        };
        message.sets.push(SetRows {
            index: set.index,
            id: set.id,
            offset: set.offset,
            content,
            shared,
            damage: damage_of,
            other_port,
        });
    }

    fn describe(&mut self, template: &Arc<Template>) -> Arc<Described> {
        let key = Arc::as_ptr(template).addr();
        if let Some(known) = self.described.get(&key) {
            return known.clone();
        }
        self.described_fields += template.fields.len();
        if self.described_fields > MAX_DESCRIBED {
            self.described.clear();
            self.described_fields = template.fields.len();
        }
        let described = Arc::new(Described::new(template, &self.registry));
        self.described.insert(key, described.clone());
        described
    }

    /// The templates of a domain as they are now, for lists of their records.
    fn sub_templates(&mut self, domain: Domain) -> Arc<SubTemplates> {
        let Some(templates) = self.exporters.get(&domain.ip) else { return Arc::default() };
        let generation = templates.generation();
        if let Some((of, at, known)) = &self.lists
            && (*of, *at) == (domain, generation)
        {
            return known.clone();
        }
        let of_domain =
            templates.iter().filter(|(v, d, t)| (*v, *d) == (domain.version, domain.id) && t.kind == Kind::Data);
        let own = |t: &Arc<Template>| templates.lookup(domain.version, domain.id, t.id, domain.port).cloned();
        let found: Vec<_> = of_domain.filter_map(|(_, _, t)| own(t)).collect();
        let known: Arc<SubTemplates> = Arc::new(found.iter().map(|t| (t.id, self.describe(t))).collect());
        self.lists = Some((domain, generation, known.clone()));
        known
    }
}

/// How many bytes of a set hold records to be shown, and what is wrong with the first that is not: it runs past its set,
/// which records of one length cannot, or `room` has no more fields.
fn walk(rows: &Described, bytes: &[u8], offset: usize, shared: &Shared, room: &mut usize) -> (usize, Option<Error>) {
    let (fields, min_len) = (rows.template.fields.len().max(1), (rows.template.min_len() as usize).max(1));
    let most = *room / fields;
    if bytes.len() / min_len <= most && rows.template.record_len().is_some() {
        *room -= bytes.len() / min_len * fields;
        return (bytes.len(), None);
    }
    let mut records = Records::new(Some(rows), shared, bytes, offset);
    let (mut n, mut end) = (0, 0);
    for record in records.by_ref().take(most) {
        n += 1;
        end = record.offset() - offset + record.bytes().len();
    }
    *room -= n * fields;
    if records.overrun().is_some() {
        return (bytes.len(), records.overrun());
    }
    if n == most && bytes.len() - end >= min_len {
        return (end, Some(Error::new(ErrorKind::ByteLimit, offset + end, MAX_FIELDS, (n + 1) * fields)));
    }
    (bytes.len(), None)
}

#[cfg(test)]
mod tests;
