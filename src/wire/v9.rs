//! NetFlow v9 on the wire.

use super::Common;
use zerocopy::byteorder::network_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The message header, RFC 3954 section 5.1.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Header {
    /// 9.
    pub version: U16,
    /// Records and templates that follow; exporters are wrong about it.
    pub count: U16,
    /// Milliseconds since the exporter started.
    pub sys_uptime: U32,
    /// Export time, seconds since 1970.
    pub unix_secs: U32,
    /// Messages sent before this one.
    pub sequence: U32,
    /// The observation domain.
    pub source_id: U32,
}

const _: () = assert!(size_of::<Header>() == 20);

impl Header {
    /// What headers of all versions say.
    #[inline]
    pub(super) fn common(&self) -> Common {
        Common {
            version: 9,
            sequence: self.sequence.get(),
            domain_id: self.source_id.get(),
            uptime_ms: Some(self.sys_uptime.get()),
            secs: self.unix_secs.get(),
            nanos: 0,
        }
    }
}

/// Starts a template record, section 5.2.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct TemplateHeader {
    /// The template id.
    pub id: U16,
    /// Field specifiers that follow.
    pub field_count: U16,
}

const _: () = assert!(size_of::<TemplateHeader>() == 4);

/// Starts an options template record, section 6.1.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct OptionsTemplateHeader {
    /// The template id.
    pub id: U16,
    /// Bytes of scope field specifiers.
    pub scope_length: U16,
    /// Bytes of option field specifiers.
    pub option_length: U16,
}

const _: () = assert!(size_of::<OptionsTemplateHeader>() == 6);

/// A field of a template.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct FieldSpecifier {
    /// The field type.
    pub field_type: U16,
    /// Its bytes; 65535 where they vary.
    pub length: U16,
}

const _: () = assert!(size_of::<FieldSpecifier>() == 4);
