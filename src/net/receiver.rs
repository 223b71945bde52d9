//! Receiving bursts and handing out their datagrams, borrowed.

use super::{
    BURST,
    group::Local,
    group::Sockets,
    sys::{Message, Poll, Ring},
};
use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6},
    os::fd::{AsFd, BorrowedFd},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// Room for any UDP payload and for any GRO train, both below 64 KiB.
const ROOM: usize = 1 << 16;

/// One thread's end of the sockets: receives bursts into memory that it reuses. Allocates nothing after `new`.
///
/// It keeps the sockets of its group open until the last receiver of the group is dropped.
pub struct Receiver {
    ring: Ring,
    slots: Vec<Slot>,
    poll: Poll,
    /// The slot that is asked first, so that a busy socket does not starve the others.
    turn: usize,
    /// Slots in a row that had nothing, or less than they were asked for.
    idle: usize,
    stats: Stats,
}

/// One socket of a receiver.
pub(super) struct Slot {
    group: Arc<Sockets>,
    index: usize,
    /// How many messages the next call asks for: as many as the last ones let expect that a cache holds.
    asked: usize,
    /// The timeout that the socket has now.
    timeout: Option<Duration>,
    /// The kernel's counter of drops when last read.
    drops: u32,
    /// Those since the receiver was made.
    dropped: u64,
}

/// What a [`Receiver`] has counted since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Bursts that held a message.
    pub bursts: u64,
    /// What the kernel handed over: datagrams and GRO trains.
    pub messages: u64,
    /// Datagrams, with those of the trains.
    pub datagrams: u64,
    /// Payload bytes of the datagrams.
    pub bytes: u64,
    /// Datagrams with [`Packet::truncated`].
    pub truncated: u64,
    /// Datagrams that were given up because their sender could not be read: none, with a sound kernel.
    pub nameless: u64,
    /// Errors that the network reported to a socket (ICMP), or a passing lack of memory.
    pub socket_errors: u64,
    /// Messages that the kernel threw away because a receive buffer was full, as of the last
    /// [`Receiver::kernel_drops`]. A GRO train counts once, so this is a lower bound.
    pub kernel_drops: u64,
}

/// One datagram, borrowed from its [`Receiver`]'s memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// The payload; it may be empty.
    pub bytes: &'a [u8],
    /// Who sent it. An IPv4-mapped address is that IPv4 address.
    pub source: SocketAddr,
    /// Microseconds since 1970 UTC: the kernel's time of receipt with [`Options::timestamps`](super::Options),
    /// otherwise when the burst was taken.
    pub received_at_us: i64,
    /// The datagram was longer than `bytes`.
    pub truncated: bool,
}

impl Receiver {
    pub(super) fn new(slots: Vec<Slot>) -> Self {
        let ring = Ring::new(BURST, ROOM);
        Self { ring, poll: Poll::new(slots.len()), slots, turn: 0, idle: 0, stats: Stats::default() }
    }

    /// The same with other memory, to see datagrams cut.
    #[cfg(test)]
    pub(super) fn with_memory(self, ring: Ring) -> Self {
        Self { ring, ..self }
    }

    /// Takes what a socket has, at most [`BURST`](super::BURST) messages, and of long ones (trains) as many as a cache
    /// holds; where none has anything, waits up to `timeout` for the first (zero: not at all; otherwise a millisecond at
    /// least).
    ///
    /// The burst is empty when the time is over, when a signal came, and when all that came was an error of the
    /// network's: the caller looks at its clock and its stop flag, and calls again.
    ///
    /// # Errors
    /// Those after which the socket is of no use.
    pub fn receive(&mut self, timeout: Duration) -> io::Result<Burst<'_>> {
        let result = match self.slots.as_mut_slice() {
            [slot] => {
                let full = slot.receive(&mut self.ring, timeout);
                self.idle = usize::from(!matches!(full, Ok(true)));
                full.map(drop)
            }
            _ => self.receive_in_turn(timeout),
        };
        if let Err(error) = result {
            match error.raw_os_error() {
                Some(libc::EAGAIN | libc::EINTR) => {}
                Some(code) if passes(code) => self.stats.socket_errors += 1,
                _ => return Err(error),
            }
        }
        let messages = self.ring.filled();
        let mut now_us = 0;
        if messages > 0 {
            self.stats.bursts += 1;
            self.stats.messages += messages as u64;
            now_us = clock_us();
        }
        // Only all of them in a row say that nothing was left; the next burst begins a new row.
        let leaves_more = self.idle < self.slots.len();
        if !leaves_more {
            self.idle = 0;
        }
        Ok(Burst { ring: &self.ring, stats: &mut self.stats, next: 0, now_us, train: None, leaves_more })
    }

    /// What has been counted so far. Cheap.
    pub fn stats(&self) -> Stats {
        self.stats
    }

    /// Asks the kernel how many messages it threw away at this receiver's sockets since they were opened. A system
    /// call a socket: for a timer, not for every burst.
    pub fn kernel_drops(&mut self) -> u64 {
        for slot in &mut self.slots {
            if let Ok(drops) = super::sys::drops(slot.socket()) {
                let more = u64::from(drops.wrapping_sub(slot.drops));
                self.stats.kernel_drops += more;
                slot.dropped += more;
                slot.drops = drops;
            }
        }
        self.stats.kernel_drops
    }

    /// Where each socket listens and the messages that the kernel threw away at it, as of the last
    /// [`kernel_drops`](Self::kernel_drops), in the order of the groups.
    pub fn drops_by_socket(&self) -> impl Iterator<Item = (Local, u64)> + '_ {
        let local = |slot: &Slot| Local { address: slot.group.local, interface: slot.group.interface.clone() };
        self.slots.iter().map(move |slot| (local(slot), slot.dropped))
    }

    /// The address of each socket, in the order of the groups.
    pub fn local_addrs(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        self.slots.iter().map(|slot| slot.group.local)
    }

    /// Several sockets: ask each without waiting, beginning with the one whose turn it is, then wait for all.
    fn receive_in_turn(&mut self, timeout: Duration) -> io::Result<()> {
        if self.ask_each()? || timeout.is_zero() {
            return Ok(());
        }
        self.poll.wait(self.slots.iter().map(Slot::socket), timeout)?;
        self.idle = 0;
        self.ask_each().map(drop)
    }

    fn ask_each(&mut self) -> io::Result<bool> {
        let (before, after) = self.slots.split_at_mut_checked(self.turn).unwrap_or_default();
        let begin = self.turn;
        for (offset, slot) in after.iter_mut().chain(before).enumerate() {
            match slot.receive(&mut self.ring, Duration::ZERO) {
                Ok(full) => {
                    self.idle = if full { 0 } else { self.idle + 1 };
                    self.turn = (begin + offset + 1) % self.slots.len();
                    return Ok(true);
                }
                Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => self.idle += 1,
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }
}

impl Slot {
    /// Socket `index` of `group`.
    pub fn new(group: Arc<Sockets>, index: usize) -> Self {
        let drops = group.refused.get(index).copied().unwrap_or(0);
        Self { group, index, asked: usize::MAX, timeout: None, drops, dropped: 0 }
    }

    fn socket(&self) -> BorrowedFd<'_> {
        // INVARIANT: made by `receivers` for an index that the group has.
        self.group.sockets[self.index].as_fd()
    }

    /// One call of the kernel: the socket's own timeout does the waiting. Says whether as many came as were asked for.
    fn receive(&mut self, ring: &mut Ring, timeout: Duration) -> io::Result<bool> {
        let wait = !timeout.is_zero();
        if wait && self.timeout != Some(timeout) {
            // Zero would wait for ever, and the kernel cuts to microseconds.
            let at_least = timeout.max(Duration::from_millis(1));
            self.group.sockets[self.index].set_read_timeout(Some(at_least))?;
            self.timeout = Some(timeout);
        }
        let full = ring.receive(self.socket(), self.asked, wait)?;
        self.asked = ring.in_cache();
        Ok(full)
    }
}

/// An error that says nothing about the socket itself.
fn passes(code: i32) -> bool {
    matches!(
        code,
        libc::ECONNREFUSED
            | libc::ECONNRESET
            | libc::EHOSTUNREACH
            | libc::EHOSTDOWN
            | libc::ENETUNREACH
            | libc::ENETDOWN
            | libc::EPROTO
            | libc::ENOPROTOOPT
            | libc::EMSGSIZE
            | libc::EOPNOTSUPP
            | libc::ENOMEM
            | libc::ENOBUFS
    )
}

fn clock_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

/// The datagrams of one [`Receiver::receive`], in the order they came. What is not taken is gone, but counted.
pub struct Burst<'a> {
    ring: &'a Ring,
    stats: &'a mut Stats,
    next: usize,
    now_us: i64,
    train: Option<Train<'a>>,
    leaves_more: bool,
}

/// What is left of one message of the kernel.
struct Train<'a> {
    rest: &'a [u8],
    /// The length of every datagram but the last; above zero.
    segment: usize,
    source: SocketAddr,
    received_at_us: i64,
    truncated: bool,
}

impl Burst<'_> {
    /// Nothing came. (A message whose datagrams have all been taken does not make a burst empty.)
    pub fn is_empty(&self) -> bool {
        self.ring.filled() == 0
    }

    /// How many messages came: datagrams, and trains of them.
    pub fn messages(&self) -> usize {
        self.ring.filled()
    }

    /// More may be waiting: at this socket, from which as many came as were asked for ([`BURST`](super::BURST), fewer where
    /// messages are long), or at another one, which was not asked since.
    pub fn leaves_more(&self) -> bool {
        self.leaves_more
    }
}

impl<'a> Iterator for Burst<'a> {
    type Item = Packet<'a>;

    #[inline]
    fn next(&mut self) -> Option<Packet<'a>> {
        let train = match self.train.take() {
            Some(train) => train,
            None => {
                let train = self.next_message()?;
                if train.rest.len() <= train.segment {
                    // A datagram alone, as nearly all are: nothing of it is put by.
                    let Train { rest: bytes, source, received_at_us, truncated, .. } = train;
                    return Some(Packet { bytes, source, received_at_us, truncated });
                }
                train
            }
        };
        let (bytes, rest) = train.rest.split_at_checked(train.segment).unwrap_or((train.rest, &[]));
        let last = rest.is_empty();
        let packet = Packet {
            bytes,
            source: train.source,
            received_at_us: train.received_at_us,
            truncated: train.truncated && last,
        };
        if !last {
            self.train = Some(Train { rest, ..train });
        }
        Some(packet)
    }
}

impl<'a> Burst<'a> {
    #[inline(always)]
    fn next_message(&mut self) -> Option<Train<'a>> {
        loop {
            let message = self.ring.message(self.next)?;
            self.next += 1;
            match self.open(&message) {
                Some(train) => return Some(train),
                None => self.stats.nameless += 1,
            }
        }
    }

    #[inline(always)]
    fn open(&mut self, message: &Message<'a>) -> Option<Train<'a>> {
        let source = source(message.name)?;
        let mut train = Train {
            rest: message.bytes,
            segment: message.bytes.len().max(1),
            source,
            received_at_us: self.now_us,
            truncated: message.truncated,
        };
        for (level, kind, data) in (Controls { rest: message.control }) {
            match (level, kind) {
                (libc::SOL_UDP, libc::UDP_GRO) => {
                    if let Some(segment) = number(data).and_then(|n| usize::try_from(n).ok()).filter(|&n| n > 0) {
                        train.segment = segment;
                    }
                }
                (libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS) => {
                    if let Some(us) = timespec_us(data) {
                        train.received_at_us = us;
                    }
                }
                _ => {}
            }
        }
        self.stats.datagrams += message.bytes.len().div_ceil(train.segment).max(1) as u64;
        self.stats.bytes += message.bytes.len() as u64;
        self.stats.truncated += u64::from(message.truncated);
        Some(train)
    }
}

impl Drop for Burst<'_> {
    /// Counts what was not taken.
    fn drop(&mut self) {
        while self.next_message().is_some() {}
    }
}

/// The `sockaddr` of a message: family, port, then `sockaddr_in` or `sockaddr_in6`.
#[inline]
fn source(name: &[u32; 8]) -> Option<SocketAddr> {
    let [head, a, b, c, d, e, scope, _] = *name;
    let head = head.to_ne_bytes();
    let family = u16::from_ne_bytes([head[0], head[1]]);
    let port = u16::from_be_bytes([head[2], head[3]]);
    match i32::from(family) {
        libc::AF_INET => Some(SocketAddr::from((Ipv4Addr::from_bits(u32::from_be(a)), port))),
        libc::AF_INET6 => {
            let mut bits = 0u128;
            for word in [b, c, d, e] {
                bits = bits << 32 | u128::from(u32::from_be(word));
            }
            let ip = Ipv6Addr::from_bits(bits);
            Some(match ip.to_ipv4_mapped() {
                Some(ip) => SocketAddr::from((ip, port)),
                None => SocketAddr::V6(SocketAddrV6::new(ip, port, 0, scope)),
            })
        }
        _ => None,
    }
}

/// The control messages of one message: (level, type, data).
struct Controls<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Controls<'a> {
    type Item = (i32, i32, &'a [u8]);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        const WORD: usize = size_of::<usize>();
        let (len, rest) = self.rest.split_first_chunk::<WORD>()?;
        let (level, rest) = rest.split_first_chunk::<4>()?;
        let (kind, _) = rest.split_first_chunk::<4>()?;
        let len = usize::from_ne_bytes(*len);
        let data = self.rest.get(WORD + 8..len)?;
        self.rest = self.rest.get(len.next_multiple_of(WORD)..).unwrap_or(&[]);
        Some((i32::from_ne_bytes(*level), i32::from_ne_bytes(*kind), data))
    }
}

fn number(data: &[u8]) -> Option<i32> {
    data.first_chunk::<4>().map(|bytes| i32::from_ne_bytes(*bytes))
}

/// A `timespec` of two words.
fn timespec_us(data: &[u8]) -> Option<i64> {
    let seconds = data.first_chunk::<8>()?;
    let nanoseconds = data.get(8..)?.first_chunk::<8>()?;
    i64::from_ne_bytes(*seconds).checked_mul(1_000_000)?.checked_add(i64::from_ne_bytes(*nanoseconds) / 1_000)
}
