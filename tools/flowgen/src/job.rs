//! From a plan to datagrams that are on their way: one thread's part of it, and all threads together.

use crate::encode::HEADER_ROOM;
use crate::error::Error;
use crate::exporters::{CONNECTED, Ends, Layout, Source, sources};
use crate::file::Capture;
use crate::generate::{self, Generator};
use crate::pace::{Limits, Pacer};
use crate::plan::{Plan, Ring};
use crate::report::Sent;
use crate::send::{self, Batch, Output, TRAIN, Wire};
use crate::trouble::Entry;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// When a written file begins, microseconds since 1970: the same plan gives the same file on any day.
const FILE_START_US: i64 = 1_767_225_600_000_000;
/// Bytes of a train at most.
const TRAIN_BYTES: usize = 65_507;

/// Where to, from where, and how.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// The receiver.
    pub to: SocketAddr,
    /// The first exporter's address, the others follow; without it 127.1.0.1 where the receiver is on 127/8, and
    /// elsewhere the address that the system chooses, with a port for each exporter.
    pub from: Option<IpAddr>,
    /// The first source port; without it the system chooses.
    pub source_port: Option<u16>,
    /// Hand the kernel trains of datagrams, to be cut apart late (`UDP_SEGMENT`).
    pub trains: bool,
    /// Sending threads.
    pub threads: u32,
    /// How fast and how much.
    pub limits: Limits,
}

impl Delivery {
    /// To a receiver, as fast as the system takes it, from one thread, until told to stop.
    pub fn to(to: SocketAddr) -> Self {
        Self { to, from: None, source_port: None, trains: false, threads: 1, limits: Limits::default() }
    }

    pub(crate) fn ends(&self) -> Ends {
        Ends { to: self.to, from: self.from, source_port: self.source_port }
    }

    /// Whether these sources can send so, or be written down so.
    pub(crate) fn check(&self, of: &[Source], written: bool) -> Result<(), Error> {
        if self.threads == 0 || self.threads > 1024 {
            return Err(Error::asked("threads are 1 to 1024"));
        }
        if self.limits.burst == Some(0) {
            return Err(Error::asked("a burst has at least one datagram"));
        }
        self.ends().check(of, written)
    }
}

/// Sends a plan, or one thread's part of it.
///
/// ```no_run
/// use flowgen::{Delivery, Plan, Sender};
///
/// let mut sender = Sender::open(&Plan::default(), &Delivery::to(([127, 0, 0, 1], 2055).into()))?;
/// sender.send(10_000)?;
/// let sent = sender.finish()?;
/// println!("{} records to hold against what was received", sent.records);
/// # Ok::<(), flowgen::Error>(())
/// ```
pub struct Sender {
    job: Job<Wire>,
    limits: Limits,
    part: (u32, u32),
}

impl Sender {
    /// Encodes the plan's messages and opens the sockets of all its exporters. One sender is one thread, whatever
    /// `delivery.threads` says.
    ///
    /// # Errors
    /// A plan that is not possible; addresses that are not the machine's.
    pub fn open(plan: &Plan, delivery: &Delivery) -> Result<Self, Error> {
        plan.check()?;
        delivery.check(&sources(plan.exporters, plan.ports, 0, 1), false)?;
        let now = Now::new();
        Self::part(plan, delivery, generate::ring(plan, now.unix_us)?, now, 0, 1)
    }

    fn part(plan: &Plan, delivery: &Delivery, ring: Ring, now: Now, part: u32, parts: u32) -> Result<Self, Error> {
        let sources = sources(plan.exporters, plan.ports, part, parts);
        let layout = Layout::sockets(&sources, &delivery.ends(), CONNECTED);
        let wire = Wire::open(&layout, delivery.to, delivery.trains)?;
        let job = Job::new(plan, ring, &layout, now, part, wire, delivery.trains);
        Ok(Self { job, limits: delivery.limits, part: (part, parts) })
    }

    /// Sends so many messages now, as fast as the system takes them.
    ///
    /// # Errors
    /// What the system refuses for good.
    pub fn send(&mut self, messages: usize) -> Result<(), Error> {
        let mut left = messages;
        while left > 0 {
            left -= self.job.step(left, None)?.0;
        }
        Ok(())
    }

    /// Sends at the pace, for the time and up to the count that the delivery set, or until told to stop.
    ///
    /// # Errors
    /// What the system refuses for good.
    pub fn run(&mut self, stop: &AtomicBool) -> Result<(), Error> {
        let pacer = Pacer::new(&self.limits, self.job.records_a_message(), self.part.0, self.part.1, false);
        self.job.run(pacer, stop)
    }

    /// What was sent so far.
    pub fn sent(&self) -> Sent {
        self.job.generator.mangler.sent
    }

    /// Sends what troubles held back, and tells what was sent. Its duration is from the first message on.
    ///
    /// # Errors
    /// What the system refuses for good.
    pub fn finish(self) -> Result<Sent, Error> {
        self.job.finish().map(|done| done.0)
    }
}

/// Sends a plan with all threads until it is done or told to stop.
///
/// # Errors
/// A plan that is not possible, or what the system refuses for good.
pub fn send(plan: &Plan, delivery: &Delivery, stop: &AtomicBool) -> Result<Sent, Error> {
    plan.check()?;
    delivery.check(&sources(plan.exporters, plan.ports, 0, 1), false)?;
    let now = Now::new();
    let ring = generate::ring(plan, now.unix_us)?;
    let streams = plan.exporters.saturating_mul(plan.ports.into());
    let threads = delivery.threads.min(streams);
    let part = |part| Sender::part(plan, delivery, ring.clone(), now, part, threads);
    // All sockets are open before the first thread sends.
    let senders = (0..threads).map(part).collect::<Result<Vec<_>, _>>()?;
    std::thread::scope(|scope| {
        let work = |mut sender: Sender| {
            scope.spawn(move || {
                sender.run(stop)?;
                sender.finish()
            })
        };
        let threads: Vec<_> = senders.into_iter().map(work).collect();
        let mut sum = Sent::default();
        for thread in threads {
            match thread.join() {
                Ok(sent) => sum += sent?,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        Ok(sum)
    })
}

/// Writes what would be sent into a pcap file, at the times at which it would be sent.
///
/// The file begins at the start of 2026; the same plan gives the same bytes. Full speed counts as 100 000 records a
/// second here.
///
/// # Errors
/// A plan that is not possible, or a file that cannot be written.
pub fn write(plan: &Plan, delivery: &Delivery, path: &Path, stop: &AtomicBool) -> Result<Sent, Error> {
    plan.check()?;
    let sources = sources(plan.exporters, plan.ports, 0, 1);
    delivery.check(&sources, true)?;
    let layout = Layout::written(&sources, &delivery.ends());
    let ring = generate::ring(plan, FILE_START_US)?;
    let file = Capture::create(path, delivery.to, layout.addresses())?;
    let mut job = Job::new(plan, ring, &layout, Now::at(FILE_START_US), 0, file, false);
    let pacer = Pacer::new(&delivery.limits, job.records_a_message(), 0, 1, true);
    job.run(pacer, stop)?;
    job.finish().map(|done| done.0)
}

/// A datagram in memory, and the exporter it comes from.
pub type Datagram = (SocketAddr, Vec<u8>);

/// Makes so many messages into memory: each datagram with its exporter's address.
///
/// # Errors
/// A plan that is not possible.
pub fn memory(plan: &Plan, messages: u64) -> Result<(Vec<Datagram>, Sent), Error> {
    let delivery = Delivery::to(([127, 0, 0, 1], 2055).into());
    plan.check()?;
    let sources = sources(plan.exporters, plan.ports, 0, 1);
    delivery.check(&sources, true)?;
    let layout = Layout::written(&sources, &delivery.ends());
    let ring = generate::ring(plan, FILE_START_US)?;
    let kept = Kept { addresses: layout.addresses(), datagrams: Vec::new() };
    let mut job = Job::new(plan, ring, &layout, Now::at(FILE_START_US), 0, kept, false);
    let limits = Limits { count: Some(messages), ..Limits::default() };
    let pacer = Pacer::new(&limits, job.records_a_message(), 0, 1, true);
    job.run(pacer, &AtomicBool::new(false))?;
    let (sent, kept) = job.finish()?;
    Ok((kept.datagrams, sent))
}

/// Datagrams in memory.
struct Kept {
    addresses: Vec<SocketAddr>,
    datagrams: Vec<Datagram>,
}

impl Output for Kept {
    fn deliver(&mut self, batch: Batch<'_>) -> Result<(), Error> {
        let datagrams = batch.datagrams().map(|(stream, parts)| (self.addresses[stream as usize], parts.concat()));
        self.datagrams.extend(datagrams);
        Ok(())
    }

    fn end(&mut self) -> Result<u64, Error> {
        Ok(0)
    }
}

/// When a job began, by both clocks.
#[derive(Clone, Copy)]
pub(crate) struct Now {
    pub unix_us: i64,
    pub instant: Instant,
}

impl Now {
    pub fn new() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self::at(since.as_micros() as i64)
    }

    pub fn at(unix_us: i64) -> Self {
        Self { unix_us, instant: Instant::now() }
    }
}

/// A generator and where its messages go.
struct Job<O> {
    generator: Generator,
    output: O,
    entries: Vec<Entry>,
    began: Now,
    first: Option<Instant>,
    /// By the pacer's clock, where it is not the machine's.
    last_us: i64,
    took: Option<Duration>,
    room: usize,
    /// Messages of an exporter before the next one's.
    run: usize,
}

impl<O: Output> Job<O> {
    fn new(plan: &Plan, ring: Ring, layout: &Layout, now: Now, part: u32, output: O, trains: bool) -> Self {
        let longest = ring.bodies.iter().map(|b| b.bytes.len() + HEADER_ROOM).max().unwrap_or(1);
        let run = if trains { (TRAIN_BYTES / longest).clamp(1, TRAIN) } else { 1 };
        Self {
            generator: Generator::new(plan, ring, layout, now.unix_us, part.into()),
            output,
            entries: Vec::new(),
            began: now,
            first: None,
            last_us: 0,
            took: None,
            room: send::batch_room(trains),
            run,
        }
    }

    fn records_a_message(&self) -> f64 {
        let data = self.generator.ring.bodies.iter().filter(|b| !b.announces);
        let (records, bodies) = data.fold((0.0, 0.0), |(r, n), b| (r + f64::from(b.sums.records), n + 1.0));
        records / bodies
    }

    /// Makes and delivers at most so many messages; gives how many, and their records.
    fn step(&mut self, messages: usize, at_us: Option<i64>) -> Result<(usize, u64), Error> {
        self.first.get_or_insert_with(Instant::now);
        let elapsed_us = at_us.unwrap_or_else(|| self.began.instant.elapsed().as_micros() as i64);
        self.last_us = elapsed_us;
        self.entries.clear();
        let made = self.generator.fill(messages.min(self.room), self.run, elapsed_us, &mut self.entries);
        self.deliver(made.lane)?;
        Ok((made.messages, made.records))
    }

    fn deliver(&mut self, lane: usize) -> Result<(), Error> {
        let bodies = &self.generator.ring.bodies;
        let unix_us = self.began.unix_us + self.last_us;
        self.output.deliver(Batch { lane, entries: &self.entries, bodies, unix_us })
    }

    fn run(&mut self, mut pacer: Pacer, stop: &AtomicBool) -> Result<(), Error> {
        // Every socket gets its turn, however few messages there are.
        let turn = pacer.count() / self.generator.lanes() as u64;
        self.room = self.room.min(usize::try_from(turn).unwrap_or(usize::MAX)).max(1);
        pacer.start();
        while let Some(due) = pacer.wait(stop) {
            let mut left = due.messages.min(self.room.max(pacer.burst()));
            while left > 0 {
                let (messages, records) = self.step(left, pacer.written().then_some(due.elapsed_us))?;
                pacer.spend(messages, records);
                left -= messages;
            }
        }
        self.took = Some(pacer.elapsed());
        Ok(())
    }

    fn finish(mut self) -> Result<(Sent, O), Error> {
        for lane in 0..self.generator.lanes() {
            self.entries.clear();
            self.generator.finish(lane, &mut self.entries);
            if !self.entries.is_empty() {
                self.deliver(lane)?;
            }
        }
        let mut sent = self.generator.mangler.sent;
        sent.refused = self.output.end()?;
        sent.duration = self.took.or(self.first.map(|first| first.elapsed())).unwrap_or_default();
        Ok((sent, self.output))
    }
}
