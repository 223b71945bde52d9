//! A message with its sets found and their templates known.

use super::record::{Described, Record, Records, Shared};
use crate::error::Error;
use crate::template::{Kind, Template};
use crate::wire::{Header, Message as WireMessage};
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

/// A message with its sets read.
#[derive(Debug)]
pub struct Message<'a> {
    pub(super) wire: WireMessage<'a>,
    pub(super) sets: Vec<SetRows<'a>>,
    pub(super) late: Vec<LateSet>,
    pub(super) errors: Vec<Error>,
    pub(super) templates: Vec<Arc<Template>>,
    // Fields that it may still show.
    pub(super) room: usize,
}

impl<'a> Message<'a> {
    /// The header as it stands in the bytes.
    pub fn header(&self) -> Header<'a> {
        self.wire.header()
    }

    /// The protocol version: 1, 5, 7, 9 or 10.
    pub fn version(&self) -> u8 {
        self.wire.version()
    }

    /// The export time, microseconds since 1970.
    pub fn export_time_us(&self) -> i64 {
        self.wire.export_time_us()
    }

    /// v9's source id, IPFIX's observation domain, v5's engine type * 256 + engine id; else 0.
    pub fn domain_id(&self) -> u32 {
        self.wire.domain_id()
    }

    /// The time that an uptime of a record (`flowStartSysUpTime`, `LAST_SWITCHED`) means by the header's clocks,
    /// microseconds since 1970; `None` in IPFIX, whose header has no uptime.
    pub fn uptime_to_us(&self, uptime_ms: u32) -> Option<i64> {
        let ago = self.wire.uptime_ms()?.wrapping_sub(uptime_ms).cast_signed();
        Some(self.export_time_us() - i64::from(ago) * 1000)
    }

    /// The header's fields by the names that Python's `netflow` gives them.
    pub fn header_fields(&self) -> impl Iterator<Item = (&'static str, u64)> + use<> {
        header_fields(self.header())
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

    /// What is wrong with single sets; the others are read all the same.
    pub fn errors(&self) -> &[Error] {
        &self.errors
    }

    /// The flow records of the message's own sets.
    pub fn records(&self) -> impl Iterator<Item = Record<'_>> {
        self.of_kind(Kind::Data)
    }

    /// The options records of the message's own sets.
    pub fn options(&self) -> impl Iterator<Item = Record<'_>> {
        self.of_kind(Kind::Options)
    }

    fn of_kind(&self, kind: Kind) -> impl Iterator<Item = Record<'_>> {
        self.sets.iter().filter(move |s| s.kind() == Some(kind)).flat_map(SetRows::records)
    }
}

impl fmt::Display for Message<'_> {
    /// The header on a line, then a line for each template, record and error.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (name, value)) in self.header_fields().enumerate() {
            write!(f, "{}{name}={value}", if i == 0 { "" } else { " " })?;
        }
        for template in &self.templates {
            let kind = if template.kind == Kind::Data { "template" } else { "options template" };
            write!(f, "\n{kind} {} of {} fields", template.id, template.fields.len())?;
        }
        self.records().try_for_each(|r| write!(f, "\nrecord {r}"))?;
        self.options().try_for_each(|r| write!(f, "\noptions {r}"))?;
        self.late.iter().flat_map(LateSet::records).try_for_each(|r| write!(f, "\nlate {r}"))?;
        self.errors.iter().try_for_each(|e| write!(f, "\nerror {e}"))
    }
}

/// The fields of a header by the names that Python's `netflow` gives them, its misspelt one among them.
pub(super) fn header_fields(header: Header<'_>) -> impl Iterator<Item = (&'static str, u64)> + use<> {
    let mut fields = [("", 0); 9];
    let mut n = 0;
    let mut put = |name, value: u64| {
        if let Some(slot) = fields.get_mut(n) {
            *slot = (name, value);
            n += 1;
        }
    };
    match header {
        Header::V1(h) => {
            put("version", 1);
            put("count", h.count.get().into());
            put("uptime", h.sys_uptime.get().into());
            put("timestamp", h.unix_secs.get().into());
            put("timestamp_nano", h.unix_nsecs.get().into());
        }
        Header::V5(h) => {
            put("version", 5);
            put("count", h.count.get().into());
            put("uptime", h.sys_uptime.get().into());
            put("timestamp", h.unix_secs.get().into());
            put("timestamp_nano", h.unix_nsecs.get().into());
            put("sequence", h.flow_sequence.get().into());
            put("engine_type", h.engine_type.into());
            put("engine_id", h.engine_id.into());
            put("sampling_interval", h.sampling.get().into());
        }
        Header::V7(h) => {
            put("version", 7);
            put("count", h.count.get().into());
            put("uptime", h.sys_uptime.get().into());
            put("timestamp", h.unix_secs.get().into());
            put("timestamp_nano", h.unix_nsecs.get().into());
            put("sequence", h.flow_sequence.get().into());
        }
        Header::V9(h) => {
            put("version", 9);
            put("count", h.count.get().into());
            put("uptime", h.sys_uptime.get().into());
            put("timestamp", h.unix_secs.get().into());
            put("sequence", h.sequence.get().into());
            put("source_id", h.source_id.get().into());
        }
        Header::Ipfix(h) => {
            put("version", 10);
            put("length", h.length.get().into());
            put("export_uptime", h.export_time.get().into());
            put("sequence_number", h.sequence.get().into());
            put("obervation_domain_id", h.domain_id.get().into());
        }
    }
    fields.into_iter().take(n)
}

#[derive(Clone, Debug)]
pub(super) enum Content<'a> {
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
    pub(super) content: Content<'a>,
    pub(super) shared: Shared,
    pub(super) damage: Option<Error>,
    pub(super) other_port: bool,
}

impl SetRows<'_> {
    /// Its records; none for template sets, and for data sets whose template is not known.
    pub fn records(&self) -> Records<'_> {
        match &self.content {
            Content::Records(rows, bytes) => Records::new(Some(rows), &self.shared, bytes, self.offset),
            Content::Templates | Content::Unknown => Records::new(None, &self.shared, &[], self.offset),
        }
    }

    /// What its records are; `None` for template sets, and for data sets whose template is not known.
    pub fn kind(&self) -> Option<Kind> {
        match &self.content {
            Content::Records(rows, _) => Some(rows.template.kind),
            Content::Templates | Content::Unknown => None,
        }
    }

    /// Whether it is a data set whose template is not known; the session holds it.
    pub fn is_unknown(&self) -> bool {
        matches!(self.content, Content::Unknown)
    }

    /// What is wrong with it: it ends past its message, or a record past it.
    pub fn damage(&self) -> Option<Error> {
        self.damage
    }

    /// Whether the template came from another port of the exporter's address.
    pub fn is_other_port(&self) -> bool {
        self.other_port
    }
}

/// A set that was held until its template came.
#[derive(Debug)]
pub struct LateSet {
    /// Its place in its own message.
    pub index: u16,
    /// The set id.
    pub id: u16,
    /// Where its first record stands in its own message.
    pub offset: usize,
    pub(super) origin: Origin,
    pub(super) body: Box<[u8]>,
    pub(super) rows: Arc<Described>,
    pub(super) shared: Shared,
    pub(super) damage: Option<Error>,
}

/// The longest message header.
const HEADER: usize = 24;

/// What is kept of a held set's message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Origin {
    pub(super) tag: u64,
    pub(super) exporter: SocketAddr,
    pub(super) received_us: i64,
    header: [u8; HEADER],
    header_len: usize,
}

impl Origin {
    pub(super) fn new(tag: u64, exporter: SocketAddr, received_us: i64, bytes: &[u8]) -> Self {
        let mut header = [0; HEADER];
        let header_len = bytes.len().min(HEADER);
        header.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
        Self { tag, exporter, received_us, header, header_len }
    }

    pub(super) fn header(&self) -> Option<Header<'_>> {
        self.message().map(|m| m.header())
    }

    pub(super) fn export_time_us(&self) -> i64 {
        self.message().map_or(0, |m| m.export_time_us())
    }

    fn message(&self) -> Option<WireMessage<'_>> {
        WireMessage::parse(self.header.get(..self.header_len)?).ok()
    }
}

impl LateSet {
    /// Its records.
    pub fn records(&self) -> Records<'_> {
        Records::new(Some(&self.rows), &self.shared, &self.body, self.offset)
    }

    /// What its records are.
    pub fn kind(&self) -> Kind {
        self.rows.template.kind
    }

    /// The tag that its message was parsed with.
    pub fn tag(&self) -> u64 {
        self.origin.tag
    }

    /// When its message was received, microseconds since 1970, as the session was told.
    pub fn received_us(&self) -> i64 {
        self.origin.received_us
    }

    /// Who sent its message.
    pub fn exporter(&self) -> SocketAddr {
        self.origin.exporter
    }

    /// The header of its message; `None` cannot happen.
    pub fn header(&self) -> Option<Header<'_>> {
        self.origin.header()
    }

    /// The error of a record that runs past it.
    pub fn damage(&self) -> Option<Error> {
        self.damage
    }
}
