//! One exporter's connection: its bytes, with or without TLS around them, cut into messages.

use crate::columns::Timestamp;
use crate::decode::SessionId;
use crate::source::{Framing, FramingError};
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::fd::OwnedFd;
use std::io::{self, Read};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// Pieces that are read of a connection before others have their turn.
const TURN: usize = 8;

pub(super) struct Connection {
    pub stream: TcpStream,
    pub carrier: Carrier,
    pub peer: SocketAddr,
    pub session: SessionId,
    pub framing: Framing,
    pub since: Timestamp,
    pub messages: u64,
    pub bytes: u64,
    /// When the last message was whole; before the first one, when the connection came.
    pub last: Instant,
    /// Since when something that was begun has not ended: the first message, or a later one.
    pub waits_since: Option<Instant>,
    /// What epoll waits for.
    pub interest: EventFlags,
    /// Until when it is not read, because its exporter sends too much.
    pub rests_until: Option<Instant>,
    /// Whole messages that came before their time, one after the other. Nothing more is read before they are taken.
    pub early: Vec<u8>,
    /// Why it broke, if it did.
    pub why: Option<String>,
}

pub(super) enum Carrier {
    Plain,
    #[cfg(feature = "tls")]
    Tls(Box<rustls::ServerConnection>),
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The exporter closed it after a whole message.
    Closed,
    /// Nothing came, or not enough, for too long.
    TimedOut,
    /// What came is no IPFIX.
    Malformed,
    /// It broke, or its TLS did.
    Failed,
}

/// Bounds on the patience with a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// For a handshake with the first message, and for any message that was begun.
    pub stall: Duration,
    /// For the next message.
    pub idle: Option<Duration>,
}

impl Connection {
    /// Reads what there is, as far as it is this connection's turn, and gives each message. `Ok(false)`: there may be more.
    /// A message that says how long it has to wait was not taken, and the connection rests until then.
    pub fn read(
        &mut self,
        room: &mut [u8],
        now: Instant,
        mut message: impl FnMut(&[u8]) -> Option<Duration>,
    ) -> Result<bool, End> {
        let before = self.messages;
        let mut result = Ok(false);
        self.release(&mut message);
        for _ in 0..TURN {
            if self.rests_until.is_some() {
                break;
            }
            match self.piece(room) {
                Ok(0) => {
                    let whole = self.framing.partial() == 0;
                    self.why = (!whole).then(|| "it ended within a message".to_string());
                    result = Err(if whole { End::Closed } else { End::Failed });
                    break;
                }
                Ok(n) => {
                    self.bytes += n as u64;
                    let (messages, early, rests) = (&mut self.messages, &mut self.early, &mut self.rests_until);
                    let fed = self.framing.feed(room.get(..n).unwrap_or_default(), |bytes| {
                        if rests.is_none() {
                            *rests = message(bytes).map(|wait| Instant::now() + wait);
                            *messages += u64::from(rests.is_none());
                        }
                        if rests.is_some() {
                            early.extend_from_slice(bytes);
                        }
                    });
                    if let Err(FramingError::Version(_) | FramingError::Length(_)) = fed {
                        result = Err(End::Malformed);
                        break;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    result = Ok(true);
                    break;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.why = Some(error.to_string());
                    result = Err(match error.kind() {
                        // The kernel asked the peer whether it is still there.
                        io::ErrorKind::TimedOut => End::TimedOut,
                        _ => End::Failed,
                    });
                    break;
                }
            }
        }
        let came = self.messages > before;
        if came {
            self.last = now;
        }
        if self.framing.partial() == 0 && self.messages > 0 {
            self.waits_since = None;
        } else if came || self.waits_since.is_none() {
            self.waits_since = Some(now);
        }
        result
    }

    /// Gives the messages that came early, until one has to wait again.
    pub fn release(&mut self, mut message: impl FnMut(&[u8]) -> Option<Duration>) {
        let mut taken = 0;
        while let Some(rest @ [_, _, high, low, ..]) = self.early.get(taken..) {
            // Framing made it whole.
            let length = usize::from(u16::from_be_bytes([*high, *low]));
            let Some(bytes) = rest.get(..length).filter(|bytes| !bytes.is_empty()) else { break };
            if let Some(wait) = message(bytes) {
                self.rests_until = Some(Instant::now() + wait);
                break;
            }
            self.messages += 1;
            taken += length;
        }
        self.early.drain(..taken);
        if self.early.is_empty() {
            // A quiet connection keeps no memory.
            self.early = Vec::new();
        }
    }

    /// Has epoll wait for what matters now.
    pub fn listen_in(&mut self, poll: &OwnedFd, place: usize) -> io::Result<()> {
        let read = if self.rests_until.is_some() { EventFlags::empty() } else { EventFlags::IN };
        let write = if self.wants_write() { EventFlags::OUT } else { EventFlags::empty() };
        if self.interest != read | write {
            self.interest = read | write;
            epoll::modify(poll, &self.stream, EventData::new_u64(place as u64), self.interest)?;
        }
        Ok(())
    }

    /// Whether it is too late for what the peer began, or for anything.
    pub fn is_over(&self, patience: Patience, now: Instant) -> bool {
        if self.rests_until.is_some() {
            return false;
        }
        let stalled = self.waits_since.is_some_and(|since| now.saturating_duration_since(since) >= patience.stall);
        let idle = patience.idle.is_some_and(|idle| now.saturating_duration_since(self.last) >= idle);
        stalled || idle
    }

    /// Whether something is to be written, for which there was no room.
    fn wants_write(&self) -> bool {
        match &self.carrier {
            Carrier::Plain => false,
            #[cfg(feature = "tls")]
            Carrier::Tls(tls) => tls.wants_write(),
        }
    }

    /// Tells the peer that this is the end, as far as it can be told without waiting.
    pub fn close(&mut self) {
        match &mut self.carrier {
            Carrier::Plain => {}
            #[cfg(feature = "tls")]
            Carrier::Tls(tls) => {
                tls.send_close_notify();
                let _ = tls.write_tls(&mut self.stream);
            }
        }
    }

    pub fn transport(&self) -> &'static str {
        match self.carrier {
            Carrier::Plain => "tcp",
            #[cfg(feature = "tls")]
            Carrier::Tls(_) => "tls",
        }
    }

    /// The next bytes of the exporter's; none at the end.
    fn piece(&mut self, room: &mut [u8]) -> io::Result<usize> {
        match &mut self.carrier {
            Carrier::Plain => self.stream.read(room),
            #[cfg(feature = "tls")]
            Carrier::Tls(tls) => decrypt(tls, &mut self.stream, room),
        }
    }
}

#[cfg(feature = "tls")]
fn decrypt(tls: &mut rustls::ServerConnection, stream: &mut TcpStream, room: &mut [u8]) -> io::Result<usize> {
    let mut broken = None;
    loop {
        // A peer that is not there to be written to may have sent something before: reading says when that was all.
        while tls.wants_write() && tls.write_tls(stream).is_ok() {}
        let mut filled = 0;
        while let Some(rest) = room.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match tls.reader().read(rest) {
                Ok(0) => return Ok(filled),
                Ok(n) => filled += n,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // No close_notify before the end: between messages that is an end like any other.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(filled),
                Err(error) => return Err(error),
            }
        }
        if filled > 0 {
            // What is wrong after it is found again.
            return Ok(filled);
        }
        if let Some(error) = broken {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("TLS: {error}")));
        }
        let came = tls.read_tls(stream)?;
        // The alert that says why is written, and what was whole before is read.
        broken = tls.process_new_packets().err();
        if came == 0 && tls.is_handshaking() {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "TLS: it ended before both sides agreed"));
        }
    }
}
