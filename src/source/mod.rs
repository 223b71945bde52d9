//! Other carriers of messages than datagrams: capture files, IPFIX files, streams, hex text.
//!
//! [`Source::open`] tells pcap, pcapng (either may be gzip'ed) and RFC 5655 files apart by their first bytes and yields
//! datagrams with their addresses and times. What could be read of a damaged file is yielded before the error.

mod capture;
mod framing;
mod link;
mod reassembly;

pub use framing::{Framing, FramingError};

use capture::Capture;
use flate2::read::MultiGzDecoder;
use std::fmt;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// A UDP payload, or a message of a file, with what is known of its way.
#[derive(Clone, Copy, Debug)]
pub struct Datagram<'a> {
    /// The number of the frame or message in its file, from 1; of the frame that completed it where it was fragmented.
    pub frame: u64,
    /// The payload.
    pub bytes: &'a [u8],
    /// Where it came from; `0.0.0.0:0` in files without addresses.
    pub exporter: SocketAddr,
    /// Where it went.
    pub destination: SocketAddr,
    /// When it was captured, microseconds since 1970; the export time in files of messages.
    pub received_us: i64,
}

/// What happened to the frames of a capture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SourceStats {
    /// Frames, or messages of a file.
    pub frames: u64,
    /// Frames that are neither IPv4 nor IPv6.
    pub not_ip: u64,
    /// IP packets that are not UDP.
    pub not_udp: u64,
    /// Fragments.
    pub fragments: u64,
    /// Frames of a link layer that is not known.
    pub unknown_link: u64,
    /// Fragmented packets given up: overlaps, bounds, no end, or parts that never came.
    pub fragments_lost: u64,
    /// Payloads that the capture cut; what is there is yielded.
    pub truncated: u64,
}

/// Why a source ended before its end.
#[derive(Debug)]
pub struct SourceError {
    /// The byte of the file (of the text behind gzip) at which it shows.
    pub position: u64,
    /// What is wrong.
    pub reason: String,
}

impl fmt::Display for SourceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {}", self.reason, self.position)
    }
}

impl std::error::Error for SourceError {}

impl SourceError {
    fn new(position: u64, reason: impl Into<String>) -> Self {
        Self { position, reason: reason.into() }
    }
}

enum Kind {
    Capture(Box<Capture>),
    Messages(Messages),
}

/// A file of messages.
pub struct Source {
    kind: Kind,
    read: Arc<AtomicU64>,
    // What is wrong with the compressed data: its reader ended there.
    broken: Arc<Mutex<Option<String>>>,
    done: bool,
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").field("read", &self.bytes_read()).finish_non_exhaustive()
    }
}

impl Source {
    /// Opens a file.
    ///
    /// # Errors
    /// A file that cannot be read, or is of no known format.
    pub fn open(path: &Path) -> Result<Self, SourceError> {
        let file = File::open(path).map_err(|e| SourceError::new(0, e.to_string()))?;
        Self::new(file)
    }

    /// Reads from anything.
    ///
    /// # Errors
    /// Bytes that cannot be read, or are of no known format.
    pub fn new(reader: impl Read + Send + 'static) -> Result<Self, SourceError> {
        let read = Arc::new(AtomicU64::new(0));
        let broken = Arc::new(Mutex::new(None));
        let counted = Counted { inner: reader, read: read.clone() };
        let (head, reader) = peek(counted)?;
        let (head, reader): (Vec<u8>, Box<dyn Read + Send>) = if head.starts_with(&[0x1f, 0x8b]) {
            let (head, reader) = peek(Lasting { inner: MultiGzDecoder::new(reader), broken: broken.clone() })?;
            (head, Box::new(reader))
        } else {
            (head, Box::new(reader))
        };
        let kind = match *head.as_slice() {
            [0xd4, 0xc3, 0xb2, 0xa1]
            | [0xa1, 0xb2, 0xc3, 0xd4]
            | [0x4d, 0x3c, 0xb2, 0xa1]
            | [0xa1, 0xb2, 0x3c, 0x4d]
            | [0x0a, 0x0d, 0x0d, 0x0a] => Kind::Capture(Box::new(Capture::new(reader)?)),
            [0, 10, ..] => {
                Kind::Messages(Messages { reader, buffer: Vec::new(), position: 0, stats: SourceStats::default() })
            }
            [] => {
                let reason = broken.lock().ok().and_then(|mut b| b.take());
                return Err(SourceError::new(0, reason.unwrap_or_else(|| "the file is empty".to_owned())));
            }
            _ => return Err(SourceError::new(0, "neither pcap, pcapng nor IPFIX messages")),
        };
        Ok(Self { kind, read, broken, done: false })
    }

    /// The next datagram; `None` at the end. An error is the last item.
    #[expect(clippy::should_implement_trait, reason = "the item borrows from the source")]
    pub fn next(&mut self) -> Option<Result<Datagram<'_>, SourceError>> {
        if self.done {
            return None;
        }
        let read = self.read.load(Ordering::Relaxed);
        let next = match &mut self.kind {
            Kind::Capture(c) => c.next(),
            Kind::Messages(m) => m.next(),
        };
        if let Some(Ok(datagram)) = next {
            return Some(Ok(datagram));
        }
        self.done = true;
        // That the data end in a block is the consequence.
        let broken = self.broken.lock().ok().and_then(|mut b| b.take());
        let position = next.as_ref().and_then(|n| n.as_ref().err()).map(|e| e.position);
        match broken {
            Some(reason) => Some(Err(SourceError::new(position.unwrap_or(read), reason))),
            None => next,
        }
    }

    /// What happened so far.
    pub fn stats(&self) -> SourceStats {
        match &self.kind {
            Kind::Capture(c) => c.stats(),
            Kind::Messages(m) => m.stats,
        }
    }

    /// Bytes read of the file itself, for progress.
    pub fn bytes_read(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }
}

/// A reader that ends at its first error, and tells of it: what came before is worth reading.
struct Lasting<R> {
    inner: R,
    broken: Arc<Mutex<Option<String>>>,
}

impl<R: Read> Read for Lasting<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self.inner.read(buf) {
            Err(e) if e.kind() != io::ErrorKind::Interrupted => {
                if let Ok(mut broken) = self.broken.lock() {
                    let cut = e.kind() == io::ErrorKind::UnexpectedEof;
                    let what = if cut { "are cut".to_owned() } else { format!("are damaged ({e})") };
                    broken.get_or_insert(format!("the compressed data {what}: nothing can be read on"));
                }
                Ok(0)
            }
            result => result,
        }
    }
}

struct Counted<R> {
    inner: R,
    read: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf)?;
        self.read.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }
}

/// The first 4 bytes, and a reader of all that gives them together with what follows.
fn peek<R: Read>(reader: R) -> Result<(Vec<u8>, BufReader<R>), SourceError> {
    let mut reader = BufReader::with_capacity(1 << 20, reader);
    let head = reader.fill_buf().map_err(|e| SourceError::new(0, e.to_string()))?;
    Ok((head.iter().take(4).copied().collect(), reader))
}

/// An RFC 5655 file: IPFIX messages, one after the other.
struct Messages {
    reader: Box<dyn Read + Send>,
    buffer: Vec<u8>,
    position: u64,
    stats: SourceStats,
}

impl Messages {
    fn next(&mut self) -> Option<Result<Datagram<'_>, SourceError>> {
        let start = self.position;
        self.buffer.clear();
        if let Err(e) = self.fill(16) {
            return Some(Err(SourceError::new(start, e.to_string())));
        }
        if self.buffer.is_empty() {
            return None;
        }
        let Some(&[v1, v2, l1, l2, t1, t2, t3, t4]) = self.buffer.first_chunk().filter(|_| self.buffer.len() == 16)
        else {
            return Some(Err(SourceError::new(
                start,
                format!("the file ends in a message header of {} bytes", self.buffer.len()),
            )));
        };
        let length = usize::from(u16::from_be_bytes([l1, l2]));
        if [v1, v2] != [0, 10] || length < 16 {
            return Some(Err(SourceError::new(start, "no IPFIX message header")));
        }
        if let Err(e) = self.fill(length) {
            return Some(Err(SourceError::new(start, e.to_string())));
        }
        if self.buffer.len() < length {
            let have = self.buffer.len();
            return Some(Err(SourceError::new(start, format!("the file ends in a message: {have} of {length} bytes"))));
        }
        self.position += length as u64;
        self.stats.frames += 1;
        let nowhere = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
        let received_us = i64::from(u32::from_be_bytes([t1, t2, t3, t4])) * 1_000_000;
        Some(Ok(Datagram {
            frame: self.stats.frames,
            bytes: &self.buffer,
            exporter: nowhere,
            destination: nowhere,
            received_us,
        }))
    }

    /// Reads until the buffer holds `n` bytes or the file ends.
    fn fill(&mut self, n: usize) -> io::Result<()> {
        let missing = n.saturating_sub(self.buffer.len()) as u64;
        self.reader.by_ref().take(missing).read_to_end(&mut self.buffer)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
