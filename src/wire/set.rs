//! The walk over the sets of a v9 or IPFIX message.

use crate::error::{Error, ErrorKind};
use zerocopy::byteorder::network_endian::U16;
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

/// RFC 7011 section 3.3.2.
#[derive(Debug, FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct SetHeader {
    /// What is in the set: a template's id, or 0-3 for templates.
    pub id: U16,
    /// Bytes, this header among them.
    pub length: U16,
}

const _: () = assert!(size_of::<SetHeader>() == 4);

/// A set.
#[derive(Clone, Copy, Debug)]
pub struct Set<'a> {
    /// The protocol version of its message.
    pub version: u8,
    /// Its place in the message, from 0.
    pub index: u16,
    /// The set id.
    pub id: u16,
    /// Where [`body`](Self::body) stands in the datagram.
    pub offset: usize,
    /// What follows the set header.
    pub body: &'a [u8],
    /// The set ends past its message: the body is what is there.
    pub overrun: Option<Error>,
}

/// Walks the sets of a message by their lengths; the header's count is not asked.
#[derive(Clone, Debug)]
pub struct Sets<'a> {
    version: u8,
    bytes: &'a [u8],
    // INVARIANT: at <= end <= bytes.len().
    at: usize,
    end: usize,
    index: u16,
}

impl<'a> Sets<'a> {
    pub(super) fn new(version: u8, bytes: &'a [u8], at: usize, end: usize) -> Self {
        let end = end.min(bytes.len());
        Self { version, bytes, at: at.min(end), end, index: 0 }
    }
}

impl<'a> Iterator for Sets<'a> {
    type Item = Result<Set<'a>, Error>;

    /// The next set. An error ends the walk, but for a reserved set id.
    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.bytes.get(self.at..self.end)?;
        if rest.is_empty() {
            return None;
        }
        let (start, index) = (self.at, self.index);
        self.index = self.index.saturating_add(1);
        let stop = |kind, need, have| {
            // Zeros after the last set are padding (PAN-OS, Cisco ACI), not damage.
            rest.iter().any(|&b| b != 0).then(|| Err(Error::new(kind, start, need, have)))
        };
        let Ok((header, _)) = SetHeader::ref_from_prefix(rest) else {
            self.at = self.end;
            return stop(ErrorKind::ShortSetHeader, 4, rest.len());
        };
        let (id, length) = (header.id.get(), usize::from(header.length.get()));
        if length < 4 {
            self.at = self.end;
            return stop(ErrorKind::BadSetLength, 4, length);
        }
        let overrun = (length > rest.len()).then(|| Error::new(ErrorKind::SetOverrun, start, length, rest.len()));
        let length = length.min(rest.len());
        self.at = start + length;
        let reserved = if self.version == 9 { 2..256 } else { 4..256 };
        if reserved.contains(&id) || self.version == 10 && id < 2 {
            return Some(Err(Error::new(ErrorKind::ReservedSet, start, 256, usize::from(id))));
        }
        Some(Ok(Set { version: self.version, index, id, offset: start + 4, body: &rest[4..length], overrun }))
    }
}
