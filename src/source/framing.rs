//! IPFIX messages out of a stream of bytes (RFC 7011 section 10.4): each header says how long its message is.

use std::fmt;

const VERSION: u16 = 10;
const HEADER: usize = 16;

/// Finds the messages of one connection in what comes of it, piece by piece.
///
/// Whole messages are handed over where they stand; what is kept is the beginning of one that is not whole yet, at most
/// 65,535 bytes, and nothing between messages.
#[derive(Debug, Default)]
pub struct Framing {
    // INVARIANT: shorter than the message that it begins; empty between messages.
    partial: Vec<u8>,
}

/// Why no message follows in a stream: no later one can be found either.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FramingError {
    /// Where a header should stand is another version than IPFIX's: the message before lied about its length, or this is
    /// no IPFIX.
    Version(u16),
    /// A message shorter than its own header.
    Length(u16),
}

impl Framing {
    /// Takes the next bytes of the stream and gives each message that they complete.
    ///
    /// # Errors
    /// [`FramingError`], after the messages before it.
    pub fn feed(&mut self, mut bytes: &[u8], mut message: impl FnMut(&[u8])) -> Result<(), FramingError> {
        while !self.partial.is_empty() {
            let need = match length(&self.partial)? {
                Some(length) => length - self.partial.len(),
                None => 4 - self.partial.len(),
            };
            let (taken, rest) = bytes.split_at_checked(need).unwrap_or((bytes, &[]));
            self.partial.extend_from_slice(taken);
            bytes = rest;
            if length(&self.partial)? == Some(self.partial.len()) {
                message(&self.partial);
                // A quiet connection keeps no memory.
                self.partial = Vec::new();
            } else if bytes.is_empty() {
                return Ok(());
            }
        }
        while let Some((whole, rest)) = length(bytes)?.and_then(|length| bytes.split_at_checked(length)) {
            message(whole);
            bytes = rest;
        }
        self.partial.extend_from_slice(bytes);
        Ok(())
    }

    /// Bytes of a message that is not whole yet.
    pub fn partial(&self) -> usize {
        self.partial.len()
    }
}

/// The length of the message that begins here, as soon as it can be told.
fn length(bytes: &[u8]) -> Result<Option<usize>, FramingError> {
    if let Some(version) = bytes.first_chunk::<2>().map(|b| u16::from_be_bytes(*b))
        && version != VERSION
    {
        return Err(FramingError::Version(version));
    }
    let Some([_, _, high, low]) = bytes.first_chunk::<4>() else { return Ok(None) };
    let length = u16::from_be_bytes([*high, *low]);
    if usize::from(length) < HEADER { Err(FramingError::Length(length)) } else { Ok(Some(length.into())) }
}

impl fmt::Display for FramingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version(version) => write!(f, "version {version} where an IPFIX message should begin"),
            Self::Length(length) => write!(f, "an IPFIX message of {length} bytes, less than its header"),
        }
    }
}

impl std::error::Error for FramingError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(length: u16, fill: u8) -> Vec<u8> {
        let mut bytes = vec![0, 10];
        bytes.extend(length.to_be_bytes());
        bytes.resize(usize::from(length), fill);
        bytes
    }

    fn all(pieces: &[&[u8]]) -> (Vec<Vec<u8>>, usize, Result<(), FramingError>) {
        let (mut framing, mut found, mut result) = (Framing::default(), Vec::new(), Ok(()));
        for piece in pieces {
            result = result.and_then(|()| framing.feed(piece, |m| found.push(m.to_vec())));
        }
        (found, framing.partial(), result)
    }

    #[test]
    fn messages_are_found_however_the_stream_is_cut() {
        let messages = [message(16, 1), message(40, 2), message(u16::MAX, 3), message(17, 4)];
        let stream = messages.concat();
        for size in [1, 2, 3, 5, 16, 17, 100, 65_535, stream.len()] {
            let pieces: Vec<&[u8]> = stream.chunks(size).collect();
            assert_eq!(all(&pieces), (messages.to_vec(), 0, Ok(())), "pieces of {size}");
        }
        let (found, partial, result) = all(&[&stream[..60]]);
        assert_eq!((found.len(), partial, result), (2, 4, Ok(())));
        for cut in 1..60 {
            let (found, partial, result) = all(&[&stream[..cut], &[], &stream[cut..60]]);
            assert_eq!((found.len(), partial, result), (2, 4, Ok(())), "cut at {cut}");
        }
    }

    #[test]
    fn what_is_no_message_is_said_after_the_messages_before_it() {
        let good = message(20, 1);
        for (bad, error) in [
            (&[0, 9, 0, 20][..], FramingError::Version(9)),
            (&[22, 3][..], FramingError::Version(0x1603)),
            (&[0, 10, 0, 15][..], FramingError::Length(15)),
        ] {
            let stream = [&good, bad].concat();
            for cut in 0..stream.len() {
                let (found, _, result) = all(&[&stream[..cut], &stream[cut..]]);
                assert_eq!((found, result), (vec![good.clone()], Err(error)), "cut at {cut}");
            }
        }
        // A message that lies about its length takes the next one's bytes, and then no header follows.
        let mut long = message(20, 1);
        long[3] = 30;
        let (found, _, result) = all(&[&[long, message(20, 2)].concat()]);
        assert_eq!((found.len(), result), (1, Err(FramingError::Version(0x0202))));
    }
}
