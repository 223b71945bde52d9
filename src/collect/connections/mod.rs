//! The threads of IPFIX over TCP and TLS (RFC 7011 section 10.4).
//!
//! ```text
//! listeners --> connections: TLS -> framing -> Decoder, a session each -> batches --> bounded channel --> writer
//! ```
//!
//! A thread a core, each with sockets of its own that listen, and all connections that the kernel deals out to them. What
//! a connection sends is decoded where it is received, by templates of its own, which end with it.
//!
//! Where datagrams would be lost, connections wait: a thread whose batches find no room in the channel reads nothing until
//! they do, the kernel's buffers fill, and the exporters are held up. Meanwhile it still answers who asks, and its clock,
//! by which connections time out, stands still.

mod connection;
#[cfg(feature = "tls")]
mod tls;

#[cfg(feature = "tls")]
pub use tls::{Tls, TlsError, TlsFiles};

use super::board::{ConnectionLine, OTHERS, Part, Reporter};
use super::gate::{Gate, Rules};
use super::ledger::{ConnectionCounts, LastRefused, Refusal};
use super::prepare::LiveRules;
use super::queue::{Entrance, Refused};
use super::worker::{DRAIN, Ended, Published, TICK};
use super::{Item, Orders, Shared, now};
use crate::columns::{Batch, Timestamp, rows_by_exporter};
use crate::decode::{Decoder, Outcome};
use crate::error::ErrorKind;
use crate::net;
use connection::{Carrier, Connection, End, Patience};
use crossbeam_channel::Receiver as Inbox;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::fd::OwnedFd;
use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Bytes that are read at once.
const PIECE: usize = 64 << 10;
/// The same where exporters have a rate.
const LIMITED_PIECE: usize = 8 << 10;
/// Connections that are taken before those that are there have their turn.
const ACCEPTED: usize = 64;
/// Addresses whose connections are told apart; those of further ones are counted together.
const ADDRESSES: usize = 16_384;
/// Epoll's names of listeners begin here; below are the places of connections.
const LISTENER: u64 = 1 << 32;

/// How connections are taken.
#[derive(Clone, Debug)]
pub struct ConnectionOptions {
    /// Where to listen for IPFIX over TCP.
    pub tcp: Vec<SocketAddr>,
    /// Where to listen for IPFIX over TLS, and what to show there.
    #[cfg(feature = "tls")]
    pub tls: Option<(Vec<SocketAddr>, Tls)>,
    /// Connections at once, at most; further ones are closed and counted.
    pub most: usize,
    /// How long a handshake with the first message may take, and any message that was begun.
    pub stall: Duration,
    /// How long a connection may be quiet between messages. A peer that is gone is found out without it, within minutes.
    pub idle: Option<Duration>,
}

impl Default for ConnectionOptions {
    /// No address, 4,096 connections, half a minute, and all the quiet that an exporter wants.
    fn default() -> Self {
        Self {
            tcp: Vec::new(),
            #[cfg(feature = "tls")]
            tls: None,
            most: 4096,
            stall: Duration::from_secs(30),
            idle: None,
        }
    }
}

/// A socket that listens.
pub(super) struct Listener {
    pub socket: TcpListener,
    #[cfg(feature = "tls")]
    pub tls: Option<Tls>,
}

/// A thread that takes connections.
pub(super) struct Taker {
    pub index: usize,
    pub core: Option<usize>,
    pub listeners: Vec<Listener>,
    pub options: ConnectionOptions,
    /// Connections of all threads.
    pub open: Arc<AtomicUsize>,
    /// Whether they are so few for want of file descriptors.
    pub lacks_descriptors: bool,
    pub decoder: Decoder,
    /// What an operator says of exporters, now.
    pub rules: LiveRules,
    /// To the writer; `None` where nothing is written.
    pub items: Option<Entrance>,
    pub spare: Inbox<Batch>,
    pub shared: Arc<Shared>,
    pub reporter: Reporter,
    pub gate: Gate,
}

impl Taker {
    pub fn run(self) -> Ended {
        if let Some(core) = self.core {
            net::pin(core);
        }
        let mut desk = Desk {
            index: self.index,
            decoder: self.decoder,
            rules: self.rules,
            items: self.items,
            spare: self.spare,
            shared: self.shared,
            reporter: Some(self.reporter),
            waiting: VecDeque::new(),
            ticked: Instant::now(),
            waited: Duration::ZERO,
            counts: HashMap::new(),
            last_refused: LastRefused::default(),
            last_broken: None,
            messages: 0,
            socket_errors: 0,
            lost_rows: HashMap::new(),
            lines: Vec::new(),
            published: Published::default(),
        };
        let poll = match epoll::create(CreateFlags::CLOEXEC) {
            Ok(poll) => poll,
            Err(error) => return desk.end(Some(error.into())),
        };
        let mut floor = Floor {
            poll,
            places: Vec::new(),
            free: Vec::new(),
            listeners: self.listeners,
            options: self.options,
            open: self.open,
            beyond: if self.lacks_descriptors { Refusal::NoDescriptors } else { Refusal::TooMany },
            gate: self.gate,
            room: vec![0; PIECE],
            again: Vec::new(),
        };
        let error = floor.run(&mut desk).err();
        if error.is_some() {
            desk.shared.failed.store(true, Relaxed);
            desk.shared.stop.store(true, Relaxed);
        }
        for place in 0..floor.places.len() {
            floor.end(place, End::Closed, &mut desk);
        }
        desk.end(error)
    }
}

/// The sockets of a thread.
struct Floor {
    poll: OwnedFd,
    // The number of a place names its connection to epoll.
    places: Vec<Option<Connection>>,
    free: Vec<usize>,
    listeners: Vec<Listener>,
    options: ConnectionOptions,
    open: Arc<AtomicUsize>,
    // Why one too many is turned away.
    beyond: Refusal,
    gate: Gate,
    room: Vec<u8>,
    // Connections whose turn was over before all was read: of TLS epoll does not know that more is there.
    again: Vec<usize>,
}

impl Floor {
    /// Takes connections and reads them until the collector stops, and what they sent till then.
    fn run(&mut self, desk: &mut Desk) -> io::Result<()> {
        for (name, listener) in (LISTENER..).zip(&self.listeners) {
            epoll::add(&self.poll, &listener.socket, EventData::new_u64(name), EventFlags::IN)?;
        }
        let mut events: Vec<Event> = Vec::with_capacity(256);
        let (mut swept, mut deadline) = (Instant::now(), None);
        let mut orders = Orders::of(&desk.shared);
        loop {
            if deadline.is_none() && desk.shared.stop.load(Relaxed) {
                deadline = Some(Instant::now() + DRAIN);
                self.drain(desk);
            }
            let timeout = if deadline.is_some() || !self.again.is_empty() { Duration::ZERO } else { TICK };
            let timeout = Timespec { tv_sec: 0, tv_nsec: i64::from(timeout.subsec_nanos()) };
            events.clear();
            match epoll::wait(&self.poll, rustix::buffer::spare_capacity(&mut events), Some(&timeout)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            for event in &events {
                match event.data.u64() {
                    name @ LISTENER.. => self.take(name - LISTENER, desk),
                    place => self.read(place as usize, desk),
                }
                desk.hand_over();
            }
            let rest = self.again.len();
            for place in self.again.drain(..).collect::<Vec<_>>() {
                self.read(place, desk);
                desk.hand_over();
            }
            if desk.ticked.elapsed() >= TICK {
                let with_lines = desk.asks_for_lines();
                desk.lines.clear();
                if with_lines {
                    desk.lines.extend(self.places.iter().flatten().map(line));
                }
                if let Some(rules) = orders.rules() {
                    self.gate.change(rules);
                }
                self.go_on(desk);
                desk.tick();
                desk.hand_over();
            }
            if swept.elapsed() >= Duration::from_secs(1) {
                swept = Instant::now();
                self.sweep(desk);
            }
            if deadline.is_some_and(|at| events.is_empty() && rest == 0 || Instant::now() >= at) {
                return Ok(());
            }
        }
    }

    /// Before the end: takes those that wait to be taken, and no more, and reads all however much they sent.
    fn drain(&mut self, desk: &mut Desk) {
        for listener in 0..self.listeners.len() {
            self.take(listener as u64, desk);
        }
        self.listeners.clear();
        self.gate = Gate::new(Rules::default());
        let now = Instant::now();
        self.places.iter_mut().flatten().filter_map(|c| c.rests_until.as_mut()).for_each(|until| *until = now);
        self.go_on(desk);
    }

    /// Takes the connections that wait at a listener.
    fn take(&mut self, listener: u64, desk: &mut Desk) {
        for _ in 0..ACCEPTED {
            let Some(from) = usize::try_from(listener).ok().and_then(|at| self.listeners.get(at)) else { return };
            let (stream, peer) = match from.socket.accept() {
                Ok(taken) => taken,
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => return,
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
                Err(_) => {
                    // Out of descriptors, mostly: it passes, and the socket asks again at once.
                    desk.socket_errors += 1;
                    std::thread::sleep(Duration::from_millis(10));
                    return;
                }
            };
            let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
            desk.counts(peer.ip()).accepted += 1;
            if !self.gate.allows(peer.ip()) {
                desk.turn_away(peer, Refusal::NotAllowed);
                continue;
            }
            if self.open.fetch_add(1, Relaxed) >= self.options.most {
                self.open.fetch_sub(1, Relaxed);
                desk.turn_away(peer, self.beyond);
                continue;
            }
            desk.counts(peer.ip()).open += 1;
            #[cfg(feature = "tls")]
            let carrier = match &from.tls {
                None => Ok(Carrier::Plain),
                Some(tls) => tls.accept().map(|tls| Carrier::Tls(Box::new(tls))).map_err(io::Error::other),
            };
            #[cfg(not(feature = "tls"))]
            let carrier = Ok(Carrier::Plain);
            if carrier.and_then(|carrier| self.enter(stream, carrier, peer, desk)).is_err() {
                self.left(peer, End::Failed, desk);
            }
        }
    }

    /// Gives a connection a place.
    fn enter(&mut self, stream: TcpStream, carrier: Carrier, peer: SocketAddr, desk: &mut Desk) -> io::Result<()> {
        net::prepare(&stream)?;
        let place = self.free.last().copied().unwrap_or(self.places.len());
        epoll::add(&self.poll, &stream, EventData::new_u64(place as u64), EventFlags::IN)?;
        let at = desk.clock();
        let connection = Connection {
            stream,
            carrier,
            peer,
            session: desk.decoder.open_session(),
            framing: crate::source::Framing::default(),
            since: now(),
            messages: 0,
            bytes: 0,
            last: at,
            waits_since: Some(at),
            interest: EventFlags::IN,
            rests_until: None,
            early: Vec::new(),
            why: None,
        };
        match self.places.get_mut(place) {
            Some(free) => {
                *free = Some(connection);
                self.free.pop();
            }
            None => self.places.push(Some(connection)),
        }
        Ok(())
    }

    fn read(&mut self, place: usize, desk: &mut Desk) {
        // One that ended before its turn in this round, or may not go on yet.
        let Some(Some(connection)) = self.places.get_mut(place) else { return };
        if connection.rests_until.is_some() {
            return;
        }
        let (clock, received, mut is_damaged) = (desk.clock(), now(), false);
        let (session, peer, gate) = (connection.session, connection.peer, &self.gate);
        // What waits because its exporter is above its rate is kept, so that less is read at once.
        let piece = if gate.is_limiting() { LIMITED_PIECE } else { PIECE };
        let room = self.room.get_mut(..piece).unwrap_or_default();
        let result = connection.read(room, clock, |message| {
            let wait = gate.wait(peer.ip());
            if wait.is_none() {
                let outcome = desk.decoder.decode_in(session, message, peer, received);
                desk.messages += 1;
                is_damaged |= is_out_of_step(&outcome);
            }
            wait
        });
        let end = match result {
            Ok(_) if is_damaged => Some(End::Malformed),
            Ok(is_all) => {
                if !is_all && connection.rests_until.is_none() {
                    self.again.push(place);
                }
                None
            }
            Err(end) => Some(end),
        };
        let is_kept = end.is_none() && connection.listen_in(&self.poll, place).is_ok();
        if !is_kept {
            self.end(place, end.unwrap_or(End::Failed), desk);
        }
    }

    /// Reads those again that rested for long enough.
    fn go_on(&mut self, desk: &mut Desk) {
        let (now, clock) = (Instant::now(), desk.clock());
        for place in 0..self.places.len() {
            let Some(Some(connection)) = self.places.get_mut(place) else { continue };
            if connection.rests_until.take_if(|until| *until <= now).is_some() {
                connection.waits_since = connection.waits_since.map(|_| clock);
                connection.last = clock;
                match connection.listen_in(&self.poll, place) {
                    Ok(()) => self.again.push(place),
                    Err(_) => self.end(place, End::Failed, desk),
                }
            }
        }
    }

    /// Ends what is over.
    fn sweep(&mut self, desk: &mut Desk) {
        let patience = Patience { stall: self.options.stall, idle: self.options.idle };
        let clock = desk.clock();
        let over = |c: &Connection| c.is_over(patience, clock);
        let over: Vec<usize> =
            self.places.iter().zip(0..).filter(|(c, _)| c.as_ref().is_some_and(over)).map(|(_, place)| place).collect();
        for place in over {
            self.end(place, End::TimedOut, desk);
        }
    }

    fn end(&mut self, place: usize, end: End, desk: &mut Desk) {
        let Some(mut connection) = self.places.get_mut(place).and_then(Option::take) else { return };
        connection.close();
        // What waits for its exporter's rate came in time.
        let (session, peer, received) = (connection.session, connection.peer, now());
        connection.release(|message| {
            desk.decoder.decode_in(session, message, peer, received);
            desk.messages += 1;
            None
        });
        desk.decoder.end_session(connection.session);
        self.free.push(place);
        if end == End::Failed {
            let why = connection.why.unwrap_or_else(|| "it cannot be listened to".to_string());
            desk.last_broken = Some((now(), why));
        }
        self.left(connection.peer, end, desk);
    }

    fn left(&self, peer: SocketAddr, end: End, desk: &mut Desk) {
        self.open.fetch_sub(1, Relaxed);
        desk.counts(peer.ip()).open -= 1;
        match end {
            End::Closed => desk.counts(peer.ip()).closed += 1,
            End::TimedOut => desk.turn_away(peer, Refusal::TimedOut),
            End::Malformed => desk.turn_away(peer, Refusal::Malformed),
            End::Failed => desk.turn_away(peer, Refusal::Failed),
        }
    }
}

/// Whether the sets of a message do not fill it: over a connection nothing cut it, so its exporter lied about a length
/// (RFC 7011 section 9.1).
fn is_out_of_step(outcome: &Outcome) -> bool {
    use ErrorKind::{BadSetLength, SetOverrun, ShortSetHeader};
    outcome.error.is_some_and(|error| matches!(error.kind, BadSetLength | SetOverrun | ShortSetHeader))
}

fn line(connection: &Connection) -> ConnectionLine {
    ConnectionLine {
        exporter: connection.peer,
        transport: connection.transport(),
        since: connection.since,
        messages: connection.messages,
        bytes: connection.bytes,
    }
}

/// What a thread keeps beside its sockets.
struct Desk {
    index: usize,
    decoder: Decoder,
    rules: LiveRules,
    items: Option<Entrance>,
    spare: Inbox<Batch>,
    shared: Arc<Shared>,
    // None at the end.
    reporter: Option<Reporter>,
    // On its way to the writer.
    waiting: VecDeque<Item>,
    ticked: Instant,
    // How long the writer was waited for, in all.
    waited: Duration,
    counts: HashMap<IpAddr, ConnectionCounts>,
    last_refused: LastRefused,
    last_broken: Option<(Timestamp, String)>,
    messages: u64,
    socket_errors: u64,
    // Where the writer is gone.
    lost_rows: HashMap<IpAddr, u64>,
    lines: Vec<ConnectionLine>,
    published: Published,
}

impl Desk {
    /// A clock that stands still while the writer is waited for: a connection is not timed out for that.
    fn clock(&self) -> Instant {
        let now = Instant::now();
        now.checked_sub(self.waited).unwrap_or(now)
    }

    /// The counts of an address.
    fn counts(&mut self, ip: IpAddr) -> &mut ConnectionCounts {
        let known = self.counts.len() < ADDRESSES || self.counts.contains_key(&ip);
        self.counts.entry(if known { ip } else { OTHERS }).or_default()
    }

    /// Counts a connection that was refused, and notes whose it was.
    fn turn_away(&mut self, peer: SocketAddr, refusal: Refusal) {
        self.counts(peer.ip()).add(refusal);
        self.last_refused.note(refusal, now(), peer);
    }

    /// Hands full batches and options records to the writer, however long that takes.
    fn hand_over(&mut self) {
        // Options data first: they may name what the rows have.
        if let Some(options) = self.decoder.next_options() {
            match &self.items {
                Some(_) => self.waiting.push_back(Item::Options(options)),
                None => self.decoder.recycle_options(options),
            }
        }
        while let Some(batch) = self.decoder.next_batch() {
            self.queue(batch);
        }
        self.deliver();
        while let Ok(batch) = self.spare.try_recv() {
            self.decoder.recycle(batch);
        }
    }

    fn queue(&mut self, batch: Batch) {
        if self.items.is_some() && batch.rows() > 0 {
            self.waiting.push_back(Item::Rows { from: self.index, batch: Arc::new(batch) });
        } else {
            self.shared.written_rows.fetch_add(batch.rows() as u64, Relaxed);
            self.decoder.recycle(batch);
        }
    }

    fn deliver(&mut self) {
        let Some(items) = self.items.clone() else { return };
        while let Some(item) = self.waiting.pop_front() {
            let began = Instant::now();
            match items.send_timeout(item, TICK) {
                Ok(()) => {}
                Err(Refused::Full(item)) => {
                    self.shared.pulse.refuses();
                    self.waiting.push_front(item);
                    self.tick();
                }
                Err(Refused::Gone(item)) => self.lose(&item),
            }
            self.waited += began.elapsed();
        }
    }

    /// The writer panicked.
    fn lose(&mut self, item: &Item) {
        if let Item::Rows { batch, .. } = item {
            self.shared.dropped_rows.fetch_add(batch.rows() as u64, Relaxed);
            rows_by_exporter(batch.runs(), |exporter, rows| *self.lost_rows.entry(exporter).or_default() += rows);
        }
    }

    fn asks_for_lines(&self) -> bool {
        self.reporter.as_ref().is_some_and(Reporter::asks_for_details)
    }

    /// Looks after quiet batches and counters, and answers.
    fn tick(&mut self) {
        self.ticked = Instant::now();
        self.rules.refresh(&mut self.decoder);
        self.decoder.tick(now());
        self.published.update(&self.decoder, 0, &self.shared);
        if let Some(mut reporter) = self.reporter.take() {
            reporter.answer(|details| self.part(details));
            self.reporter = Some(reporter);
        }
    }

    /// What this thread counts.
    fn part(&mut self, details: bool) -> Part {
        let mut part = Part::of(&self.decoder, None, details);
        part.net.datagrams = self.messages;
        part.net.socket_errors = self.socket_errors;
        part.drop_rows(&mut self.lost_rows, &self.decoder);
        part.connections.clone_from(&self.counts);
        part.connection_lines.clone_from(&self.lines);
        part.last_refused = self.last_refused;
        part.last_broken.clone_from(&self.last_broken);
        part
    }

    /// Everything is handed over.
    fn end(mut self, error: Option<io::Error>) -> Ended {
        for batch in self.decoder.flush() {
            self.queue(batch);
        }
        self.hand_over();
        self.tick();
        std::mem::take(&mut self.published).end(&self.decoder, 0, &self.shared);
        let mut part = self.part(true);
        part.connection_lines.clear();
        if let Some(reporter) = self.reporter.take() {
            reporter.end(part);
        }
        let mut connections = ConnectionCounts::default();
        self.counts.values().for_each(|counts| connections.merge(counts));
        let net = net::Stats { datagrams: self.messages, socket_errors: self.socket_errors, ..net::Stats::default() };
        Ended { connections, dropped: self.lost_rows, net, error, ..Ended::of(&self.decoder) }
    }
}
