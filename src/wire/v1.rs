//! NetFlow v1 on the wire.

use super::Common;
use zerocopy::byteorder::network_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The message header.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Header {
    /// The version.
    pub version: U16,
    /// Records that follow.
    pub count: U16,
    /// Milliseconds since the exporter started.
    pub sys_uptime: U32,
    /// Export time, seconds since 1970.
    pub unix_secs: U32,
    /// Export time, nanoseconds beside the seconds.
    pub unix_nsecs: U32,
}

const _: () = assert!(size_of::<Header>() == 16);

impl Header {
    /// What headers of all versions say.
    #[inline]
    pub(super) fn common(&self) -> Common {
        Common {
            version: 1,
            sequence: 0,
            domain_id: 0,
            uptime_ms: Some(self.sys_uptime.get()),
            secs: self.unix_secs.get(),
            nanos: self.unix_nsecs.get(),
        }
    }
}

/// A flow record.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Record {
    /// Source address.
    pub src_addr: [u8; 4],
    /// Destination address.
    pub dst_addr: [u8; 4],
    /// Next hop.
    pub next_hop: [u8; 4],
    /// Input interface.
    pub input: U16,
    /// Output interface.
    pub output: U16,
    /// Packets.
    pub packets: U32,
    /// Bytes.
    pub octets: U32,
    /// Uptime at the first packet, milliseconds.
    pub first: U32,
    /// Uptime at the last packet, milliseconds.
    pub last: U32,
    /// Source port.
    pub src_port: U16,
    /// Destination port.
    pub dst_port: U16,
    /// Padding.
    pub pad1: U16,
    /// IP protocol.
    pub protocol: u8,
    /// Type of service.
    pub tos: u8,
    /// TCP flags seen.
    pub tcp_flags: u8,
    /// Padding.
    pub pad2: [u8; 3],
    /// Nothing.
    pub reserved: U32,
}

const _: () = assert!(size_of::<Record>() == 48);
