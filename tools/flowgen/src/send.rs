//! Datagrams to sockets.

use crate::encode::Body;
use crate::error::Error;
use crate::exporters::{Layout, Place};
use crate::sys::{Headers, MESSAGES, Message};
use crate::trouble::Entry;
use socket2::{SockAddr, Socket};
use std::io::{self, IoSlice};
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::os::fd::AsFd;
use std::time::Duration;

/// Datagrams of a train at most; later kernels take more, all take so many.
pub(crate) const TRAIN: usize = 64;
/// Bytes of a train at most.
const TRAIN_BYTES: usize = 65_507;

/// Datagrams of one lane, to be delivered in order.
#[derive(Clone, Copy)]
pub(crate) struct Batch<'a> {
    pub lane: usize,
    pub entries: &'a [Entry],
    pub bodies: &'a [Body],
    /// The time of the message by the plan's clock, microseconds since 1970.
    pub unix_us: i64,
}

impl Batch<'_> {
    fn body(&self, entry: &Entry) -> &[u8] {
        self.bodies.get(entry.body as usize).map_or(&[], |body| &body.bytes)
    }

    fn len(&self, entry: &Entry) -> usize {
        usize::from(entry.head_len) + self.body(entry).len()
    }

    /// Header and body of each datagram, with the stream it belongs to.
    pub fn datagrams(&self) -> impl Iterator<Item = (u32, [&[u8]; 2])> {
        self.entries.iter().map(|e| (e.stream, [&e.head[..usize::from(e.head_len)], self.body(e)]))
    }
}

/// Where datagrams go.
pub(crate) trait Output {
    /// Delivers a batch whole.
    fn deliver(&mut self, batch: Batch<'_>) -> Result<(), Error>;

    /// Ends the delivery; gives how often the receiver refused.
    fn end(&mut self) -> Result<u64, Error>;
}

struct Line {
    socket: Socket,
    to: Option<SockAddr>,
}

/// The network.
pub(crate) struct Wire {
    lines: Vec<Line>,
    sources: Vec<Option<Ipv4Addr>>,
    trains: bool,
    headers: Headers,
    to: SocketAddr,
    refused: u64,
}

impl Wire {
    /// Opens the sockets of a layout.
    pub fn open(layout: &Layout, to: SocketAddr, trains: bool) -> Result<Self, Error> {
        let line = |lane: &crate::exporters::Lane| {
            let (socket, connected) = lane.open(to)?;
            Ok(Line { socket, to: (!connected).then(|| SockAddr::from(to)) })
        };
        let lines = layout.lanes.iter().map(line).collect::<Result<_, Error>>()?;
        let sources = layout.places.iter().map(|place: &Place| place.pinned).collect();
        Ok(Self { lines, sources, trains, headers: Headers::new(), to, refused: 0 })
    }

    /// The end of the train that begins at `from`, and the length of its datagrams, 0 for a single one.
    fn train(&self, batch: &Batch<'_>, from: usize) -> (usize, u16) {
        let Some(first) = batch.entries.get(from) else { return (from, 0) };
        let segment = batch.len(first);
        let trains = self.trains && segment > 0;
        let (mut end, mut bytes) = (from + 1, segment);
        while let Some(next) = batch.entries.get(end).filter(|_| trains && end - from < TRAIN) {
            let length = batch.len(next);
            bytes += length;
            if next.stream != first.stream || length > segment || bytes > TRAIN_BYTES {
                break;
            }
            end += 1;
            // Only the last may be shorter.
            if length < segment {
                break;
            }
        }
        (end, if end - from > 1 { segment as u16 } else { 0 })
    }

    fn failed(&self, error: io::Error, trains: bool) -> Error {
        let hint = match error.raw_os_error() {
            Some(libc::EMSGSIZE | libc::EINVAL) if trains => {
                "; trains need datagrams that fit the network's frames: ask for fewer --records, or go without --gso"
            }
            Some(libc::EMSGSIZE) => "; ask for fewer --records",
            _ => "",
        };
        Error::System(format!("cannot send to {}{hint}", self.to), error)
    }
}

impl Output for Wire {
    fn deliver(&mut self, batch: Batch<'_>) -> Result<(), Error> {
        let parts: Vec<IoSlice<'_>> = batch.datagrams().flat_map(|(_, parts)| parts.map(IoSlice::new)).collect();
        let mut messages: Vec<Message<'_>> = Vec::with_capacity(batch.entries.len());
        let mut from = 0;
        while let Some(first) = batch.entries.get(from) {
            let (end, segment) = self.train(&batch, from);
            let Range { start, end: parts_end } = from * 2..end * 2;
            let source = self.sources.get(first.stream as usize).copied().flatten();
            messages.push(Message { parts: parts.get(start..parts_end).unwrap_or(&[]), segment, source });
            from = end;
        }
        let Some(line) = self.lines.get(batch.lane) else { return Ok(()) };
        let mut left = messages.as_slice();
        while !left.is_empty() {
            match self.headers.send(line.socket.as_fd(), line.to.as_ref(), left) {
                Ok(sent) => left = left.get(sent..).unwrap_or(&[]),
                Err(e) => match e.raw_os_error() {
                    // An earlier datagram found nobody; this one was not sent. The next attempt goes through.
                    Some(libc::ECONNREFUSED) => self.refused += 1,
                    Some(libc::EINTR) => {}
                    // The device's queue is full: nothing was sent, a moment later there is room.
                    Some(libc::ENOBUFS | libc::EAGAIN) => std::thread::sleep(Duration::from_micros(50)),
                    _ => return Err(self.failed(e, left.first().is_some_and(|m| m.segment > 0))),
                },
            }
        }
        Ok(())
    }

    fn end(&mut self) -> Result<u64, Error> {
        Ok(std::mem::take(&mut self.refused))
    }
}

/// Messages made before they are delivered, with and without trains.
pub(crate) fn batch_room(trains: bool) -> usize {
    if trains { 4 * TRAIN } else { MESSAGES }
}
