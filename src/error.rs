//! What can be wrong with a message, where, and by how much.

use std::fmt;

/// The part of the library that found the error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Layer {
    /// The message header.
    Message,
    /// A set header.
    Set,
    /// A template or options template record.
    Template,
    /// A data record.
    Record,
    /// A configured bound.
    Limit,
}

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The datagram ends inside the message header.
    ShortHeader,
    /// The version is none of 1, 5, 7, 9 and 10.
    UnknownVersion,
    /// An IPFIX message length below its header's.
    BadMessageLength,
    /// An IPFIX message length past the datagram; whole sets are decoded.
    TruncatedMessage,
    /// A v1, v5 or v7 count that differs from the records that are there; the smaller one is decoded.
    CountMismatch,
    /// Fewer than 4 bytes that are not zero where a set should start.
    ShortSetHeader,
    /// A set length below 4 that is not followed by zeros alone.
    BadSetLength,
    /// A set that ends past its message; its whole records are decoded.
    SetOverrun,
    /// A set id that the protocol reserves.
    ReservedSet,
    /// A template record that ends past its set.
    TemplateOverrun,
    /// A v9 template without fields.
    NoFields,
    /// A template whose records have no length.
    ZeroLengthTemplate,
    /// v9 options template lengths that are no multiple of 4.
    OddOptionsLength,
    /// An IPFIX scope field count of 0 or above the field count.
    BadScopeCount,
    /// A record that ends past its set.
    RecordOverrun,
    /// No template for a data set; it is held.
    UnknownTemplate,
    /// More exporters than allowed.
    ExporterLimit,
    /// More templates of an exporter than allowed.
    TemplateLimit,
    /// More fields in a template than allowed.
    FieldLimit,
    /// More records in a set than allowed.
    RecordLimit,
    /// More decoded bytes in a message than allowed.
    ByteLimit,
    /// More datagrams of an exporter in a time than allowed.
    RateLimit,
}

impl ErrorKind {
    /// The number of kinds; [`index`](Self::index) is below it.
    pub const COUNT: usize = Self::ALL.len();

    /// Every kind, in the order of [`index`](Self::index).
    pub const ALL: [Self; 22] = [
        Self::ShortHeader,
        Self::UnknownVersion,
        Self::BadMessageLength,
        Self::TruncatedMessage,
        Self::CountMismatch,
        Self::ShortSetHeader,
        Self::BadSetLength,
        Self::SetOverrun,
        Self::ReservedSet,
        Self::TemplateOverrun,
        Self::NoFields,
        Self::ZeroLengthTemplate,
        Self::OddOptionsLength,
        Self::BadScopeCount,
        Self::RecordOverrun,
        Self::UnknownTemplate,
        Self::ExporterLimit,
        Self::TemplateLimit,
        Self::FieldLimit,
        Self::RecordLimit,
        Self::ByteLimit,
        Self::RateLimit,
    ];

    /// A number for counters.
    pub const fn index(self) -> usize {
        self as usize
    }

    /// A short text, fit for a counter's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ShortHeader => "short header",
            Self::UnknownVersion => "unknown version",
            Self::BadMessageLength => "bad message length",
            Self::TruncatedMessage => "truncated message",
            Self::CountMismatch => "record count differs",
            Self::ShortSetHeader => "short set header",
            Self::BadSetLength => "bad set length",
            Self::SetOverrun => "set past message",
            Self::ReservedSet => "reserved set id",
            Self::TemplateOverrun => "template past set",
            Self::NoFields => "template without fields",
            Self::ZeroLengthTemplate => "template of length zero",
            Self::OddOptionsLength => "odd options template length",
            Self::BadScopeCount => "bad scope count",
            Self::RecordOverrun => "record past set",
            Self::UnknownTemplate => "template not known",
            Self::ExporterLimit => "limit of exporters",
            Self::TemplateLimit => "limit of templates",
            Self::FieldLimit => "limit of fields",
            Self::RecordLimit => "limit of records",
            Self::ByteLimit => "limit of decoded bytes",
            Self::RateLimit => "limit of an exporter's rate",
        }
    }

    /// The layer that finds such errors.
    pub const fn layer(self) -> Layer {
        match self {
            Self::ShortHeader
            | Self::UnknownVersion
            | Self::BadMessageLength
            | Self::TruncatedMessage
            | Self::CountMismatch => Layer::Message,
            Self::ShortSetHeader | Self::BadSetLength | Self::SetOverrun | Self::ReservedSet => Layer::Set,
            Self::TemplateOverrun
            | Self::NoFields
            | Self::ZeroLengthTemplate
            | Self::OddOptionsLength
            | Self::BadScopeCount => Layer::Template,
            Self::RecordOverrun | Self::UnknownTemplate => Layer::Record,
            Self::ExporterLimit
            | Self::TemplateLimit
            | Self::FieldLimit
            | Self::RecordLimit
            | Self::ByteLimit
            | Self::RateLimit => Layer::Limit,
        }
    }
}

/// An error in a message: what, and at which byte of the datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Error {
    /// What is wrong.
    pub kind: ErrorKind,
    /// The byte of the datagram at which it shows.
    pub offset: u32,
    /// What was needed: bytes, or the number that was out of bounds.
    pub need: u32,
    /// What there was.
    pub have: u32,
}

impl Error {
    /// An error at a byte of the datagram.
    pub const fn new(kind: ErrorKind, offset: usize, need: usize, have: usize) -> Self {
        Self { kind, offset: offset as u32, need: need as u32, have: have as u32 }
    }

    /// The part of the library that found it.
    pub const fn layer(&self) -> Layer {
        self.kind.layer()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, offset, need, have } = self;
        match kind {
            ErrorKind::UnknownVersion => write!(f, "unknown version {have} at byte {offset}"),
            ErrorKind::UnknownTemplate | ErrorKind::ReservedSet => write!(f, "{} {have} at byte {offset}", kind.name()),
            _ => write!(f, "{} at byte {offset}: need {need}, have {have}", kind.name()),
        }
    }
}

impl std::error::Error for Error {}
