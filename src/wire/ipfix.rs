//! IPFIX on the wire (RFC 7011).

use super::Common;
use zerocopy::byteorder::network_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The message header, RFC 7011 section 3.1.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Header {
    /// 10.
    pub version: U16,
    /// Bytes of the message.
    pub length: U16,
    /// Seconds since 1970.
    pub export_time: U32,
    /// Data records sent before this message, modulo 2^32.
    pub sequence: U32,
    /// The observation domain.
    pub domain_id: U32,
}

const _: () = assert!(size_of::<Header>() == 16);

impl Header {
    /// What headers of all versions say.
    #[inline]
    pub(super) fn common(&self) -> Common {
        Common {
            version: 10,
            sequence: self.sequence.get(),
            domain_id: self.domain_id.get(),
            uptime_ms: None,
            secs: self.export_time.get(),
            nanos: 0,
        }
    }
}

/// Starts a template record, section 3.4.1; a field count of 0 withdraws.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct TemplateHeader {
    /// The template id.
    pub id: U16,
    /// Field specifiers that follow.
    pub field_count: U16,
}

const _: () = assert!(size_of::<TemplateHeader>() == 4);

/// Starts an options template record, section 3.4.2.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct OptionsTemplateHeader {
    /// The template id.
    pub id: U16,
    /// Field specifiers that follow.
    pub field_count: U16,
    /// How many of them, from the first, are scope fields.
    pub scope_count: U16,
}

const _: () = assert!(size_of::<OptionsTemplateHeader>() == 6);

/// A field of a template, section 3.2; an enterprise number follows where the top bit of the id is set.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct FieldSpecifier {
    /// The element id and the enterprise bit.
    pub id: U16,
    /// Its bytes; 65535 where they vary.
    pub length: U16,
}

const _: () = assert!(size_of::<FieldSpecifier>() == 4);
