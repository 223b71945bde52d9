//! How long a datagram takes through a collector: from when it was due to when it comes back repeated.
//!
//! Collectors that can repeat what they receive to another address answer without being opened up. A datagram is due at
//! its place in an even schedule, whatever happened to those before it: a stall counts for every datagram that it
//! delays, the ones that could not be sent in time included (no coordinated omission). When it came back is the kernel's time of
//! receipt, so that the reader's own delays do not count.

use crate::peer::{Peer, Place, buffer};
use crate::process::{Running, Scratch, free_port, pin};
use crate::raw::{Entry, Raw};
use crate::table::{Table, median, number};
use crate::trial::Arena;
use crate::turns::Turns;
use crate::workload::{Traffic, Workload};
use anyhow::{Context, anyhow};
use flowgen::{Plan, Protocol};
use hdrhistogram::Histogram;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, RecvMsg, recvmsg, setsockopt, sockopt};
use nix::sys::time::TimeValLike;
use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use std::io::IoSliceMut;
use std::net::UdpSocket;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

/// Shares of the datagrams whose latency is told.
const QUANTILES: [f64; 7] = [0.5, 0.9, 0.99, 0.999, 0.9999, 0.99999, 1.0];

/// What was measured of one collector.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Latency {
    /// The workload's name.
    pub workload: String,
    /// The collector's name.
    pub peer: String,
    /// Which time in turn, from 1.
    pub round: u32,
    /// Datagrams a second.
    pub rate: f64,
    /// Datagrams sent.
    pub sent: u64,
    /// Of them, those that never came back.
    pub lost: u64,
    /// Share of the datagrams, and the microseconds within which they came back, from when they were due.
    pub from_due_us: Vec<(f64, f64)>,
    /// The same from when they were sent.
    pub from_sent_us: Vec<(f64, f64)>,
}

/// How latency is measured.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// Which time in turn, from 1.
    pub round: u32,
    /// Datagrams a second.
    pub rate: f64,
    /// Seconds that it lasts.
    pub seconds: f64,
}

/// The workload's traffic, if its datagrams can be told apart: made up, and of one exporter.
pub fn plan(workload: &Workload) -> Option<&Plan> {
    match &workload.traffic {
        Traffic::Made(plan) if plan.exporters == 1 && sequence(plan).is_some() => Some(plan),
        _ => None,
    }
}

/// Where the sequence number stands: each datagram's own number goes there, and comes back.
fn sequence(plan: &Plan) -> Option<Range<usize>> {
    match plan.protocols.first()? {
        Protocol::V1 => None,
        Protocol::V5 | Protocol::V7 => Some(16..20),
        Protocol::V9 => Some(12..16),
        Protocol::Ipfix => Some(8..12),
    }
}

/// Every collector in turn, round by round.
///
/// # Errors
/// Raw data cannot be written. What a collector fails at is said, and the others go on.
pub fn in_turn(
    arena: &Arena,
    turns: &mut Turns,
    workload: &Workload,
    asked: Asked,
    rounds: u32,
    raw: &mut Raw,
) -> anyhow::Result<Vec<Latency>> {
    let mut all = Vec::new();
    for round in 1..=rounds {
        let turn = |peer: &dyn Peer, _: &mut Raw| {
            let found = measure(arena, peer, workload, Asked { round, ..asked });
            let found = found.with_context(|| format!("{} on {}", peer.name(), workload.name))?;
            if found.is_none() && round == 1 {
                eprintln!("versus: {} cannot repeat what it receives", peer.name());
            }
            Ok(found)
        };
        all.extend(turns.round(workload, raw, turn, |one| [Entry::Latency(one.clone())])?);
    }
    Ok(all)
}

/// Sends a workload through a collector and back; `None` if it cannot repeat.
///
/// # Errors
/// It does not run, or the workload has none of what [`plan`] asks for.
pub fn measure(arena: &Arena, peer: &dyn Peer, workload: &Workload, asked: Asked) -> anyhow::Result<Option<Latency>> {
    let plan = plan(workload).with_context(|| format!("{} is not of one exporter", workload.name))?.clone();
    let Asked { round, rate, seconds } = asked;
    let scratch = Scratch::new(&arena.base, peer.name())?;
    let (port, folder) = (free_port()?, scratch.path().to_owned());
    let place = Place { port, folder, buffer: Some(buffer()), ..Place::default() };
    std::fs::create_dir_all(place.kept())?;
    let echo = UdpSocket::bind("127.0.0.1:0")?;
    echo.set_nonblocking(true)?;
    setsockopt(&echo, sockopt::ReceiveTimestampns, &true)?;
    // As much as the system gives.
    let _ = setsockopt(&echo, sockopt::RcvBuf, &(16 << 20));
    let mut command = peer.command(&place);
    if !peer.echo(&mut command, echo.local_addr()?.port()) {
        return Ok(None);
    }
    let mut running = Running::start(command, &arena.cores.receivers, &place.folder)?;
    running.wait_for(place.port)?;
    let sender = UdpSocket::bind("127.0.0.1:0")?;
    sender.connect(("127.0.0.1", place.port))?;
    let core = arena.cores.sender;
    let thread = std::thread::spawn(move || {
        pin(&[core])?;
        Course::new(&plan, sender, echo)?.run(rate, seconds)
    });
    let course = thread.join().map_err(|_| anyhow!("the sending thread failed"))??;
    let us = |all: &Histogram<u64>| {
        QUANTILES.iter().map(|&q| (q, all.value_at_quantile(q) as f64 / 1000.0)).collect::<Vec<_>>()
    };
    let result = Latency {
        workload: workload.name.to_owned(),
        peer: peer.name().to_owned(),
        round,
        rate,
        sent: course.sent_at.len() as u64,
        lost: course.sent_at.len() as u64 - course.from_due.len(),
        from_due_us: us(&course.from_due),
        from_sent_us: us(&course.from_sent),
    };
    running.stop(peer.signal(), Duration::from_secs(60))?;
    Ok(Some(result))
}

/// Datagrams under way, each with its number where the sequence stands.
struct Course {
    sender: UdpSocket,
    echo: UdpSocket,
    datagrams: Vec<Vec<u8>>,
    sequence: Range<usize>,
    /// When each of this pass was sent, nanoseconds of the wall clock.
    sent_at: Vec<i64>,
    /// The number of the first of them: each pass goes on where the last one ended.
    first: usize,
    from_due: Histogram<u64>,
    from_sent: Histogram<u64>,
    /// When the first was due, and how far apart they are.
    start: i64,
    apart: f64,
}

/// Longer than this nobody waits.
const AT_MOST_NS: u64 = 60_000_000_000;

impl Course {
    fn new(plan: &Plan, sender: UdpSocket, echo: UdpSocket) -> anyhow::Result<Self> {
        let sequence = sequence(plan).context("it has no sequence number")?;
        let (datagrams, _) = flowgen::memory(plan, 1024)?;
        let datagrams = datagrams.into_iter().map(|(_, bytes)| bytes).collect();
        let histogram = || Histogram::new_with_max(AT_MOST_NS, 3).context("a histogram");
        let (from_due, from_sent) = (histogram()?, histogram()?);
        Ok(Self {
            sender,
            echo,
            datagrams,
            sequence,
            sent_at: Vec::new(),
            first: 0,
            from_due,
            from_sent,
            start: 0,
            apart: 0.0,
        })
    }

    fn run(mut self, rate: f64, seconds: f64) -> anyhow::Result<Self> {
        // Half a second that does not count: threads start, memory is touched.
        self.pass(rate, 0.5)?;
        self.from_due.reset();
        self.from_sent.reset();
        self.pass(rate, seconds)?;
        Ok(self)
    }

    /// Sends on schedule and reads what comes back meanwhile: one thread that never sleeps.
    fn pass(&mut self, rate: f64, seconds: f64) -> anyhow::Result<()> {
        let total = (rate * seconds) as usize;
        self.first += self.sent_at.len();
        self.sent_at.clear();
        (self.start, self.apart) = (now()?, 1e9 / rate);
        let mut datagrams = std::mem::take(&mut self.datagrams);
        for at in 0..total {
            while now()? < self.due(at) {
                self.read()?;
            }
            let which = at % datagrams.len().max(1);
            let Some(datagram) = datagrams.get_mut(which) else { break };
            if let Some(sequence) = datagram.get_mut(self.sequence.clone()) {
                sequence.copy_from_slice(&((self.first + at) as u32).to_be_bytes());
            }
            self.sent_at.push(now()?);
            // A refusal is a loss, and shows as one.
            let _ = self.sender.send(datagram);
        }
        self.datagrams = datagrams;
        let end = Instant::now() + Duration::from_secs(3);
        while self.from_due.len() < total as u64 && Instant::now() < end {
            self.read()?;
        }
        Ok(())
    }

    fn due(&self, at: usize) -> i64 {
        self.start + (at as f64 * self.apart) as i64
    }

    /// Reads what has come back so far.
    fn read(&mut self) -> anyhow::Result<()> {
        let mut head = [0; 64];
        loop {
            let mut parts = [IoSliceMut::new(&mut head)];
            let mut control = nix::cmsg_space!(nix::sys::time::TimeSpec);
            let got: RecvMsg<'_, '_, ()> =
                match recvmsg(self.echo.as_raw_fd(), &mut parts, Some(&mut control), MsgFlags::empty()) {
                    Err(nix::Error::EAGAIN) => return Ok(()),
                    got => got.context("reading what comes back")?,
                };
            let came = got.cmsgs()?.find_map(|message| match message {
                ControlMessageOwned::ScmTimestampns(time) => Some(time.num_nanoseconds()),
                _ => None,
            });
            let sequence =
                head.get(self.sequence.clone()).and_then(|s| Some(u32::from_be_bytes(*s.first_chunk()?) as usize));
            let (Some(came), Some(at)) = (came, sequence) else { continue };
            // What is left of the pass before finds no place.
            let at = at.wrapping_sub(self.first);
            let Some(&sent) = self.sent_at.get(at) else { continue };
            let took = |since: i64| u64::try_from(came - since).unwrap_or(0);
            self.from_due.saturating_record(took(self.due(at)));
            self.from_sent.saturating_record(took(sent));
        }
    }
}

/// The wall clock, by which the kernel tells when a datagram came.
fn now() -> anyhow::Result<i64> {
    Ok(clock_gettime(ClockId::CLOCK_REALTIME)?.num_nanoseconds())
}

/// Percentiles in microseconds, each the median of its rounds.
pub fn table(found: &[Latency]) -> Table {
    let head = [
        "workload",
        "collector",
        "from",
        "datagrams/s",
        "lost",
        "p50 us",
        "p90",
        "p99",
        "p99.9",
        "p99.99",
        "p99.999",
        "max",
    ];
    let mut table = Table::new(3, &head);
    let mut seen: Vec<(&str, &str, u64)> = Vec::new();
    for one in found {
        if seen.contains(&one.key()) {
            continue;
        }
        seen.push(one.key());
        let rounds: Vec<&Latency> = found.iter().filter(|o| o.key() == one.key()).collect();
        let lost = median(rounds.iter().map(|r| r.lost as f64)).unwrap_or(f64::NAN);
        for from in ["due", "sent"] {
            let names = [one.workload.clone(), one.peer.clone(), from.to_owned(), number(one.rate), number(lost)];
            let at = |n: usize| median(rounds.iter().filter_map(|r| Some(r.of(from).get(n)?.1)));
            let cells = (0..QUANTILES.len()).map(|n| number(at(n).unwrap_or(f64::NAN)));
            table.row(names.into_iter().chain(cells));
        }
    }
    table
}

impl Latency {
    /// What its rounds have in common.
    pub fn key(&self) -> (&str, &str, u64) {
        (&self.workload, &self.peer, self.rate as u64)
    }

    fn of(&self, from: &str) -> &[(f64, f64)] {
        if from == "due" { &self.from_due_us } else { &self.from_sent_us }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_echo_is_timed_from_when_it_was_due() {
        let echo = UdpSocket::bind("127.0.0.1:0").unwrap();
        echo.set_nonblocking(true).unwrap();
        setsockopt(&echo, sockopt::ReceiveTimestampns, &true).unwrap();
        // Sent to itself: what is lost is the time between due and sent.
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        sender.connect(echo.local_addr().unwrap()).unwrap();
        let plan = Plan { protocols: vec![Protocol::Ipfix], ..Plan::default() };
        let mut course = Course::new(&plan, sender, echo).unwrap();
        course.pass(2000.0, 0.1).unwrap();
        assert_eq!((course.sent_at.len(), course.from_due.len()), (200, 200));
        assert!(course.from_due.max() >= course.from_sent.max());
        assert!(course.from_sent.max() < 1_000_000_000);
    }
}
