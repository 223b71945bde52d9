//! Captures, sent again, one after the other: at their own speed, a multiple of it, or as fast as it goes.

use crate::account::Accounts;
use crate::capture;
use crate::encode::{Body, HEADER_ROOM};
use crate::error::Error;
use crate::exporters::{Layout, Numbering, Source};
use crate::file::Capture;
use crate::job::{Delivery, Now};
use crate::pace::Pacer;
use crate::report::Sent;
use crate::send::{Batch, Output, Wire, batch_room};
use crate::trouble::{Entry, Limbo, Mangler, Trouble};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

/// How fast a capture is sent again.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Speed {
    /// So many times as fast as it was captured; 1 is the original speed.
    Times(f64),
    /// At the pace of the delivery, whatever the capture's times say.
    Paced,
}

/// The messages of a capture, in memory.
///
/// Bytes are sent as they are, numbers and times included. Every exporter of the capture gets an address of its own and
/// every port of it a port; what else was captured is passed over.
pub struct Replay {
    /// When, and from which source.
    times: Vec<(i64, u32)>,
    bodies: Vec<Body>,
    sources: Vec<Source>,
    skipped: u64,
    cut: Vec<PathBuf>,
    /// How fast.
    pub speed: Speed,
    /// How often, one after the other. Exporters then seem to start anew.
    pub repeat: u64,
    /// Loss, reordering, duplication.
    pub trouble: Trouble,
    /// What troubles follow from.
    pub seed: u64,
}

impl Replay {
    /// Reads a pcap or pcapng file.
    ///
    /// # Errors
    /// A file that cannot be read, is neither, or holds no message at all.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let mut replay = Self {
            times: Vec::new(),
            bodies: Vec::new(),
            sources: Vec::new(),
            skipped: 0,
            cut: Vec::new(),
            speed: Speed::Times(1.0),
            repeat: 1,
            trouble: Trouble::default(),
            seed: 1,
        };
        replay.append(path)?;
        Ok(replay)
    }

    /// Reads another file, to be sent after those that are there; its exporters are others, whatever their addresses.
    ///
    /// # Errors
    /// As [`Replay::open`]; the messages that were there stay.
    pub fn append(&mut self, path: &Path) -> Result<(), Error> {
        let (mut messages, mut skipped) = (Vec::new(), 0);
        let (mut numbering, mut accounts) = (Numbering::default(), Accounts::default());
        let (before, exporters) = (self.sources.len() as u32, self.sources.iter().map(|s| s.exporter + 1).max());
        let mut sources = Vec::new();
        let is_whole = capture::frames(path, |time, link, frame| {
            let found = capture::udp(link, frame)
                .and_then(|(from, payload)| Some((from, payload, accounts.count(from, payload)?)));
            let Some((from, payload, (sums, announces))) = found else {
                skipped += 1;
                return;
            };
            let (at, source) = numbering.number(from);
            if at as usize == sources.len() {
                sources.push(Source { exporter: source.exporter + exporters.unwrap_or(0), ..source });
            }
            messages.push(((time, before + at), Body::verbatim(payload.to_vec(), sums, announces)));
        })?;
        // Captures of several interfaces are not always in order.
        messages.sort_by_key(|((time, _), _)| *time);
        let Some(((first, _), _)) = messages.first() else {
            let what = if is_whole { "holds no NetFlow or IPFIX over UDP" } else { "ends before its first message" };
            return Err(Error::Capture(format!("{} {what}", path.display())));
        };
        // One after the other, whenever they were captured.
        let shift = self.times.last().map_or(0, |(last, _)| last - first);
        self.times.extend(messages.iter().map(|((time, at), _)| (time + shift, *at)));
        self.bodies.extend(messages.into_iter().map(|(_, body)| body));
        self.sources.append(&mut sources);
        self.skipped += skipped;
        self.cut.extend((!is_whole).then(|| path.to_path_buf()));
        Ok(())
    }

    /// Sets whose template did not come before them, in one pass over all: their records are in no sum.
    pub fn unknown_sets(&self) -> u64 {
        self.bodies.iter().map(|body| u64::from(body.sums.unknown_sets)).sum()
    }

    /// Messages of the capture.
    pub fn messages(&self) -> usize {
        self.bodies.len()
    }

    /// Frames that hold no whole message: other traffic, and fragments.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    /// Files that end in the middle of a block: what is before that is sent.
    pub fn cut(&self) -> &[PathBuf] {
        &self.cut
    }

    /// Sends all, from one thread.
    ///
    /// # Errors
    /// What the system refuses for good.
    pub fn send(&self, delivery: &Delivery, stop: &AtomicBool) -> Result<Sent, Error> {
        delivery.check(&self.sources, false)?;
        // One socket where that is possible: consecutive messages of a capture come from different exporters.
        let layout = Layout::sockets(&self.sources, &delivery.ends(), 1);
        let wire = Wire::open(&layout, delivery.to, delivery.trains)?;
        Player::new(self, &layout, wire, Now::new().unix_us, batch_room(delivery.trains)).play(delivery, false, stop)
    }

    /// Writes what would be sent into a pcap file.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn write(&self, delivery: &Delivery, path: &Path, stop: &AtomicBool) -> Result<Sent, Error> {
        delivery.check(&self.sources, true)?;
        let layout = Layout::written(&self.sources, &delivery.ends());
        let file = Capture::create(path, delivery.to, layout.addresses())?;
        let start = self.times.first().map_or(0, |t| t.0);
        Player::new(self, &layout, file, start, 1).play(delivery, true, stop)
    }

    /// When message `at` of all passes is due, microseconds after the first.
    fn due(&self, at: u64, times: f64) -> i64 {
        let messages = self.times.len() as u64;
        let first = self.times.first().map_or(0, |t| t.0);
        let last = self.times.last().map_or(0, |t| t.0);
        // A pass is as long as the capture and one average gap more.
        let pass = (last - first) + (last - first) / i64::try_from(messages).unwrap_or(i64::MAX).max(1);
        let time = self.times[(at % messages) as usize].0 - first + pass * (at / messages) as i64;
        (time as f64 / times) as i64
    }
}

/// A replay under way.
struct Player<'a, O> {
    replay: &'a Replay,
    output: O,
    /// Stream and lane of each source.
    places: Vec<(u32, usize)>,
    limbos: Vec<Limbo>,
    mangler: Mangler,
    entries: Vec<Entry>,
    start_us: i64,
    room: usize,
}

impl<'a, O: Output> Player<'a, O> {
    fn new(replay: &'a Replay, layout: &Layout, output: O, start_us: i64, room: usize) -> Self {
        let mut places = vec![(0, 0); replay.sources.len()];
        for (lane, of) in layout.lanes.iter().enumerate() {
            for stream in of.first..of.end {
                places[layout.places[stream as usize].source as usize] = (stream, lane);
            }
        }
        let mut mangler = Mangler::new(replay.trouble, replay.seed);
        mangler.sent.exporters = places.len() as u64;
        let limbos = vec![Limbo::default(); places.len()];
        Self { replay, output, places, limbos, mangler, entries: Vec::new(), start_us, room }
    }

    fn play(mut self, delivery: &Delivery, written: bool, stop: &AtomicBool) -> Result<Sent, Error> {
        let total = self.replay.times.len() as u64 * self.replay.repeat;
        let mut limits = delivery.limits;
        limits.count = Some(limits.count.map_or(total, |count| count.min(total)));
        let mut pacer = match self.replay.speed {
            Speed::Paced => {
                let records = self.replay.bodies.iter().map(|b| f64::from(b.sums.records)).sum::<f64>();
                Pacer::new(&limits, (records / self.replay.bodies.len() as f64).max(1.0), 0, 1, written)
            }
            Speed::Times(_) => Pacer::timed(&limits, written),
        };
        pacer.start();
        let mut at = 0;
        loop {
            let next_due = match self.replay.speed {
                Speed::Times(times) if at < total => Some(self.replay.due(at, times)),
                _ => None,
            };
            let Some(due) = pacer.wait_for(next_due, stop) else { break };
            let until_us = next_due.map(|_| due.elapsed_us);
            let mut left = due.messages.min(self.room.max(pacer.burst()));
            while left > 0 {
                let (made, records) = self.step(at..total, left, until_us, due.elapsed_us)?;
                pacer.spend(made, records);
                at += made as u64;
                left -= made;
                if made == 0 {
                    // None of the rest is due yet.
                    break;
                }
            }
        }
        let took = pacer.elapsed();
        for source in 0..self.places.len() {
            let (stream, lane) = self.places[source];
            self.entries.clear();
            self.mangler.finish(&mut self.limbos[stream as usize], &self.replay.bodies, &mut self.entries);
            self.deliver(lane, took.as_micros() as i64)?;
        }
        self.mangler.sent.refused = self.output.end()?;
        self.mangler.sent.duration = took;
        Ok(self.mangler.sent)
    }

    /// Delivers messages, as many as one lane has in a row, are allowed and due; gives how many, and their records.
    fn step(
        &mut self,
        of: Range<u64>,
        allowed: usize,
        until_us: Option<i64>,
        now_us: i64,
    ) -> Result<(usize, u64), Error> {
        self.entries.clear();
        let messages = self.replay.times.len() as u64;
        let (mut made, mut records, mut lane) = (0, 0, None);
        for at in of.take(allowed.min(self.room)) {
            if let (Some(until), Speed::Times(times)) = (until_us, self.replay.speed)
                && self.replay.due(at, times) > until
            {
                break;
            }
            let body = (at % messages) as usize;
            let (stream, its) = self.places[self.replay.times[body].1 as usize];
            if *lane.get_or_insert(its) != its {
                break;
            }
            let entry = Entry { stream, body: body as u32, head_len: 0, head: [0; HEADER_ROOM] };
            let limbo = &mut self.limbos[stream as usize];
            self.mangler.offer(limbo, entry, &self.replay.bodies, &mut self.entries);
            made += 1;
            records += u64::from(self.replay.bodies[body].sums.records);
        }
        self.deliver(lane.unwrap_or(0), now_us)?;
        Ok((made, records))
    }

    fn deliver(&mut self, lane: usize, elapsed_us: i64) -> Result<(), Error> {
        if self.entries.is_empty() {
            return Ok(());
        }
        let unix_us = self.start_us + elapsed_us;
        self.output.deliver(Batch { lane, entries: &self.entries, bodies: &self.replay.bodies, unix_us })
    }
}
