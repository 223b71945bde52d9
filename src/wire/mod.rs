//! Views over borrowed bytes: message headers, sets, template records, fixed records. No state, no allocation.
//!
//! A length is checked once, when a view is made; everything after it cannot fail.

pub mod ipfix;
mod set;
pub mod v1;
pub mod v5;
pub mod v7;
pub mod v9;

pub use set::{Set, Sets};

use crate::error::{Error, ErrorKind};
use zerocopy::FromBytes;

/// A message header of any version.
#[derive(Clone, Copy, Debug)]
pub enum Header<'a> {
    /// NetFlow v1.
    V1(&'a v1::Header),
    /// NetFlow v5.
    V5(&'a v5::Header),
    /// NetFlow v7.
    V7(&'a v7::Header),
    /// NetFlow v9, RFC 3954.
    V9(&'a v9::Header),
    /// IPFIX, RFC 7011.
    Ipfix(&'a ipfix::Header),
}

/// The records of a v1, v5 or v7 message.
#[derive(Clone, Copy, Debug)]
pub struct FixedRecords<'a> {
    /// Whole records, one after the other.
    pub bytes: &'a [u8],
    /// The length of one.
    pub stride: usize,
    /// Their number.
    pub count: usize,
    /// Where the first stands in the datagram.
    pub offset: usize,
}

/// A message: its header, and what follows it.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    header: Header<'a>,
    bytes: &'a [u8],
    // INVARIANT: header length <= end <= bytes.len().
    end: usize,
    damage: Option<Error>,
}

impl<'a> Message<'a> {
    /// A view of the message in a datagram.
    ///
    /// # Errors
    /// A datagram shorter than its header, an unknown version, an IPFIX length below 16.
    #[inline]
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Error> {
        let short = |need| Error::new(ErrorKind::ShortHeader, 0, need, bytes.len());
        let Some(&version) = bytes.first_chunk::<2>() else { return Err(short(2)) };
        let mut end = bytes.len();
        let mut damage = None;
        let header = match u16::from_be_bytes(version) {
            1 => Header::V1(v1::Header::ref_from_prefix(bytes).map_err(|_| short(16))?.0),
            5 => Header::V5(v5::Header::ref_from_prefix(bytes).map_err(|_| short(24))?.0),
            7 => Header::V7(v7::Header::ref_from_prefix(bytes).map_err(|_| short(24))?.0),
            9 => Header::V9(v9::Header::ref_from_prefix(bytes).map_err(|_| short(20))?.0),
            10 => {
                let header = ipfix::Header::ref_from_prefix(bytes).map_err(|_| short(16))?.0;
                let length = usize::from(header.length.get());
                if length < size_of::<ipfix::Header>() {
                    return Err(Error::new(ErrorKind::BadMessageLength, 2, 16, length));
                }
                if length > end {
                    damage = Some(Error::new(ErrorKind::TruncatedMessage, 2, length, end));
                }
                end = end.min(length);
                Header::Ipfix(header)
            }
            other => return Err(Error::new(ErrorKind::UnknownVersion, 0, 0, usize::from(other))),
        };
        let mut message = Self { header, bytes, end, damage };
        if let Some((head, stride, count)) = message.shape()
            && count * stride != end - head
        {
            message.damage = Some(Error::new(ErrorKind::CountMismatch, 2, count, (end - head) / stride));
        }
        Ok(message)
    }

    /// The header.
    pub fn header(&self) -> Header<'a> {
        self.header
    }

    /// 1, 5, 7, 9 or 10.
    #[inline]
    pub fn version(&self) -> u8 {
        match self.header {
            Header::V1(_) => 1,
            Header::V5(_) => 5,
            Header::V7(_) => 7,
            Header::V9(_) => 9,
            Header::Ipfix(_) => 10,
        }
    }

    /// The header's count of records; IPFIX has none.
    pub fn count(&self) -> Option<u16> {
        match self.header {
            Header::V1(h) => Some(h.count.get()),
            Header::V5(h) => Some(h.count.get()),
            Header::V7(h) => Some(h.count.get()),
            Header::V9(h) => Some(h.count.get()),
            Header::Ipfix(_) => None,
        }
    }

    /// The export time in microseconds since 1970; nanoseconds are cut.
    #[inline]
    pub fn export_time_us(&self) -> i64 {
        let (secs, nanos) = match self.header {
            Header::V1(h) => (h.unix_secs.get(), h.unix_nsecs.get()),
            Header::V5(h) => (h.unix_secs.get(), h.unix_nsecs.get()),
            Header::V7(h) => (h.unix_secs.get(), h.unix_nsecs.get()),
            Header::V9(h) => (h.unix_secs.get(), 0),
            Header::Ipfix(h) => (h.export_time.get(), 0),
        };
        i64::from(secs) * 1_000_000 + i64::from(nanos / 1000)
    }

    /// The exporter's uptime in milliseconds; IPFIX has none.
    #[inline]
    pub fn uptime_ms(&self) -> Option<u32> {
        match self.header {
            Header::V1(h) => Some(h.sys_uptime.get()),
            Header::V5(h) => Some(h.sys_uptime.get()),
            Header::V7(h) => Some(h.sys_uptime.get()),
            Header::V9(h) => Some(h.sys_uptime.get()),
            Header::Ipfix(_) => None,
        }
    }

    /// The sequence number; 0 for v1, which has none.
    #[inline]
    pub fn sequence(&self) -> u32 {
        match self.header {
            Header::V1(_) => 0,
            Header::V5(h) => h.flow_sequence.get(),
            Header::V7(h) => h.flow_sequence.get(),
            Header::V9(h) => h.sequence.get(),
            Header::Ipfix(h) => h.sequence.get(),
        }
    }

    /// v9's source id, IPFIX's observation domain, v5's engine type * 256 + engine id; else 0.
    #[inline]
    pub fn domain_id(&self) -> u32 {
        match self.header {
            Header::V5(h) => u32::from(h.engine_type) << 8 | u32::from(h.engine_id),
            Header::V9(h) => h.source_id.get(),
            Header::Ipfix(h) => h.domain_id.get(),
            Header::V1(_) | Header::V7(_) => 0,
        }
    }

    /// What is wrong with the message as a whole although it can be decoded: truncated, or a count that lies.
    pub fn damage(&self) -> Option<Error> {
        self.damage
    }

    /// Bytes after an IPFIX message that its length does not cover.
    pub fn trailing(&self) -> usize {
        self.bytes.len() - self.end
    }

    /// The records of a v1, v5 or v7 message: as many as the header counts, if they are there.
    #[inline]
    pub fn fixed(&self) -> Option<FixedRecords<'a>> {
        let (offset, stride, count) = self.shape()?;
        let there = self.end - offset;
        let count = if count * stride <= there { count } else { there / stride };
        let bytes = self.bytes.get(offset..offset + count * stride)?;
        Some(FixedRecords { bytes, stride, count, offset })
    }

    /// The sets of a v9 or IPFIX message; none for other versions.
    #[inline]
    pub fn sets(&self) -> Sets<'a> {
        match self.header {
            Header::V9(_) => Sets::new(9, self.bytes, size_of::<v9::Header>(), self.end),
            Header::Ipfix(_) => Sets::new(10, self.bytes, size_of::<ipfix::Header>(), self.end),
            _ => Sets::new(0, self.bytes, self.end, self.end),
        }
    }

    fn shape(&self) -> Option<(usize, usize, usize)> {
        match self.header {
            Header::V1(h) => Some((size_of::<v1::Header>(), size_of::<v1::Record>(), usize::from(h.count.get()))),
            Header::V5(h) => Some((size_of::<v5::Header>(), size_of::<v5::Record>(), usize::from(h.count.get()))),
            Header::V7(h) => Some((size_of::<v7::Header>(), size_of::<v7::Record>(), usize::from(h.count.get()))),
            Header::V9(_) | Header::Ipfix(_) => None,
        }
    }
}
