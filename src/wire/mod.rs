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
    common: Common,
    bytes: &'a [u8],
    // INVARIANT: header length <= end <= bytes.len().
    end: usize,
    damage: Option<Error>,
}

/// What headers of all versions say, read once.
#[derive(Clone, Copy, Debug)]
struct Common {
    version: u8,
    sequence: u32,
    domain_id: u32,
    uptime_ms: Option<u32>,
    secs: u32,
    nanos: u32,
}

/// The only set of a message, with data records.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OneSet<'a> {
    /// The set id; 0 for v1, v5 and v7.
    pub(crate) id: u16,
    /// Its records, and what pads them.
    pub(crate) body: &'a [u8],
}

/// Where the records of a v1, v5 or v7 message start, the length of one, and how many its header counts.
type Shape = (usize, usize, usize);

impl<'a> Message<'a> {
    /// A view of the message in a datagram.
    ///
    /// # Errors
    /// A datagram shorter than its header, an unknown version, an IPFIX length below 16.
    // Else it goes through memory, piece by piece.
    #[inline(always)]
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Error> {
        let short = |need| Error::new(ErrorKind::ShortHeader, 0, need, bytes.len());
        let Some(&version) = bytes.first_chunk::<2>() else { return Err(short(2)) };
        let mut end = bytes.len();
        let mut damage = None;
        macro_rules! header {
            ($of:ident, $module:ident) => {{
                let h = $module::Header::ref_from_prefix(bytes).map_err(|_| short(size_of::<$module::Header>()))?.0;
                (Header::$of(h), h.common())
            }};
        }
        let (header, common) = match u16::from_be_bytes(version) {
            1 => header!(V1, v1),
            5 => header!(V5, v5),
            7 => header!(V7, v7),
            9 => header!(V9, v9),
            10 => {
                let (h, _) = ipfix::Header::ref_from_prefix(bytes).map_err(|_| short(size_of::<ipfix::Header>()))?;
                let length = usize::from(h.length.get());
                if length < size_of::<ipfix::Header>() {
                    return Err(Error::new(ErrorKind::BadMessageLength, 2, 16, length));
                }
                if length > end {
                    damage = Some(Error::new(ErrorKind::TruncatedMessage, 2, length, end));
                }
                end = end.min(length);
                (Header::Ipfix(h), h.common())
            }
            other => return Err(Error::new(ErrorKind::UnknownVersion, 0, 0, usize::from(other))),
        };
        let mut message = Self { header, common, bytes, end, damage };
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
        self.common.version
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
        i64::from(self.common.secs) * 1_000_000 + i64::from(self.common.nanos / 1000)
    }

    /// The exporter's uptime in milliseconds; IPFIX has none.
    #[inline]
    pub fn uptime_ms(&self) -> Option<u32> {
        self.common.uptime_ms
    }

    /// The sequence number; 0 for v1, which has none.
    #[inline]
    pub fn sequence(&self) -> u32 {
        self.common.sequence
    }

    /// v9's source id, IPFIX's observation domain, v5's engine type * 256 + engine id; else 0.
    #[inline]
    pub fn domain_id(&self) -> u32 {
        self.common.domain_id
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

    /// The data set of a message that has no other set and in which no length or count is wrong.
    #[inline(always)]
    pub(crate) fn one_set(&self) -> Option<OneSet<'a>> {
        if self.damage.is_some() {
            return None;
        }
        let head = match self.header {
            Header::V1(_) => return Some(OneSet { id: 0, body: self.bytes.get(size_of::<v1::Header>()..)? }),
            Header::V5(_) | Header::V7(_) => {
                return Some(OneSet { id: 0, body: self.bytes.get(size_of::<v5::Header>()..)? });
            }
            Header::V9(_) => size_of::<v9::Header>(),
            Header::Ipfix(_) => size_of::<ipfix::Header>(),
        };
        let (set, body) = set::SetHeader::ref_from_prefix(self.bytes.get(head..self.end)?).ok()?;
        let (id, length) = (set.id.get(), usize::from(set.length.get()));
        (id >= 256 && length == self.end - head).then_some(OneSet { id, body })
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

    #[inline]
    fn shape(&self) -> Option<Shape> {
        match self.header {
            Header::V1(h) => Some((size_of::<v1::Header>(), size_of::<v1::Record>(), usize::from(h.count.get()))),
            Header::V5(h) => Some((size_of::<v5::Header>(), size_of::<v5::Record>(), usize::from(h.count.get()))),
            Header::V7(h) => Some((size_of::<v7::Header>(), size_of::<v7::Record>(), usize::from(h.count.get()))),
            Header::V9(_) | Header::Ipfix(_) => None,
        }
    }
}
