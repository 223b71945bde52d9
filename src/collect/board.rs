//! What receiving threads tell of themselves, when somebody asks.
//!
//! A thread looks at one atomic number a tick. Where nobody asked since the last one that is all; else it makes a copy of
//! its counters and leaves it at its place, and never waits for the reader. So whoever asks bears the cost, and a
//! question is answered within two ticks.

use super::ledger::{ConnectionCounts, ExporterAccount, LastRefused};
use super::prepare::LeftOut;
use crate::columns::{Layout, Timestamp};
use crate::decode::{Decoder, Stats};
use crate::net::{self, Local, Receiver};
use crate::template::{OwnTotals, Template};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long a thread's answer is waited for.
const PATIENCE: Duration = Duration::from_secs(2);
/// Templates that a thread names at most.
const TEMPLATES: usize = 10_000;

/// By an address that anybody may choose.
pub(super) type ByAddress<T> = HashMap<IpAddr, T, foldhash::fast::RandomState>;

/// Where that is counted which belongs to no exporter that is known.
pub(super) const OTHERS: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// One thread's counters at one moment.
#[derive(Clone, Debug, Default)]
pub(super) struct Part {
    pub exporters: Vec<PartExporter>,
    /// What belongs to no exporter that is known.
    pub others: Stats,
    /// Datagrams of senders that are not allowed.
    pub refused: u64,
    /// Sets still held, by the address they came from.
    pub held: ByAddress<u64>,
    /// Rows that found no room on the way to the writer.
    pub dropped: HashMap<IpAddr, u64>,
    pub options_dropped: u64,
    /// What was learned and could not be handed to the journal.
    pub learned_dropped: u64,
    pub sockets: Vec<(Local, u64)>,
    pub net: net::Stats,
    pub mirrors: Vec<net::MirrorStats>,
    /// What became of connections, by the address they came from.
    pub connections: HashMap<IpAddr, ConnectionCounts>,
    pub connection_lines: Vec<ConnectionLine>,
    pub last_refused: LastRefused,
    /// When a connection broke last, and why.
    pub last_broken: Option<(Timestamp, String)>,
    /// Who sent the last datagram that was refused because there are too many exporters.
    pub last_beyond_limit: Option<(Timestamp, SocketAddr)>,
    pub templates: Vec<TemplateLine>,
    /// Templates that are not in the list.
    pub more_templates: u64,
}

#[derive(Clone, Debug)]
pub(super) struct PartExporter {
    pub address: IpAddr,
    pub stats: Stats,
    pub last_seen: Timestamp,
    /// The export time of the last message against the time it was received, microseconds.
    pub skew_us: Option<i64>,
    /// A bit a version.
    pub versions: u16,
    pub templates: usize,
    pub own: OwnTotals,
}

/// A template that an exporter defined, and how it is used.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TemplateLine {
    /// Who defined it.
    pub exporter: IpAddr,
    /// The observation domain, or v9's source id.
    pub domain_id: u32,
    /// The latest definition.
    pub template: Arc<Template>,
    /// When the definition came last.
    pub last_seen: Timestamp,
    /// How often it came.
    pub definitions: u64,
    /// Sender ports with a definition of their own.
    pub ports: usize,
    /// How its records are decoded; `None` before the first, and for options.
    pub plan: Option<PlanLine>,
}

/// A connection that is open.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct ConnectionLine {
    /// The exporter's end.
    pub exporter: SocketAddr,
    /// `tcp` or `tls`.
    pub transport: &'static str,
    /// When it was made.
    pub since: Timestamp,
    /// Messages that came.
    pub messages: u64,
    /// Bytes of them.
    pub bytes: u64,
}

impl ConnectionLine {
    /// All of it.
    pub fn json(&self) -> Value {
        json!({
            "exporter": self.exporter.ip().to_string(),
            "port": self.exporter.port(),
            "transport": self.transport,
            "since": self.since.0 as f64 / 1e6,
            "messages": self.messages,
            "bytes": self.bytes,
        })
    }
}

/// The plan of a template; all equal templates share it.
#[derive(Clone, Debug)]
pub struct PlanLine {
    /// The columns that it fills.
    pub layout: Arc<Layout>,
    /// Records that it decoded.
    pub records: u64,
    /// When the last of them came.
    pub last_used: Timestamp,
}

impl Part {
    /// What a thread tells beside its decoder and its sockets is left to the caller.
    pub fn of(decoder: &Decoder, receiver: Option<&Receiver>, with_templates: bool) -> Self {
        let last_beyond_limit = decoder.last_beyond_limit();
        let mut part = Self {
            others: decoder.other_stats().clone(),
            learned_dropped: decoder.learned_dropped(),
            last_beyond_limit,
            ..Self::default()
        };
        // The last message of all streams of an address.
        let mut last: ByAddress<(i64, i64, u16)> = ByAddress::default();
        last.reserve(decoder.exporter_count());
        part.exporters.reserve(decoder.exporter_count());
        for meta in decoder.last_messages() {
            let received = meta.received_at.0;
            let known = last.entry(meta.exporter.ip()).or_insert((i64::MIN, 0, 0));
            known.2 |= 1 << meta.version.min(15);
            if received >= known.0 {
                (known.0, known.1) = (received, meta.export_time.0.saturating_sub(received));
            }
        }
        for e in decoder.known_exporters() {
            let (_, skew, versions) = last.get(&e.address).copied().unwrap_or_default();
            part.exporters.push(PartExporter {
                address: e.address,
                stats: e.stats.clone(),
                last_seen: e.last_seen,
                skew_us: (versions != 0).then_some(skew),
                versions,
                templates: e.templates.len(),
                own: e.options.own_totals(),
            });
            if with_templates {
                part.name_templates(decoder, e.address, e.templates.known());
            }
        }
        for (address, _, sets) in decoder.waiting_sets() {
            *part.held.entry(address).or_default() += sets as u64;
        }
        if let Some(receiver) = receiver {
            part.sockets = receiver.drops_by_socket().collect();
            part.net = receiver.stats();
        }
        part
    }

    /// Notes rows that found no room. Those of exporters that the decoder forgot are one sum from now on: there is no end of
    /// addresses.
    pub fn drop_rows(&mut self, dropped: &mut HashMap<IpAddr, u64>, decoder: &Decoder) {
        let gone: u64 = dropped.extract_if(|&address, _| !decoder.is_known(address)).map(|one| one.1).sum();
        if gone > 0 {
            dropped.insert(OTHERS, gone);
        }
        self.dropped.clone_from(dropped);
    }

    fn name_templates<'a>(
        &mut self,
        decoder: &Decoder,
        exporter: IpAddr,
        known: impl Iterator<Item = crate::template::KnownTemplate<'a>>,
    ) {
        for known in known {
            if self.templates.len() >= TEMPLATES {
                self.more_templates += 1;
                continue;
            }
            let plan = decoder.plan_use(known.template);
            self.templates.push(TemplateLine {
                exporter,
                domain_id: known.domain_id,
                template: known.template.clone(),
                last_seen: Timestamp(known.seen_us),
                definitions: known.definitions,
                ports: known.ports,
                plan: plan.map(|p| PlanLine { layout: p.layout, records: p.records, last_used: p.last_used }),
            });
        }
    }
}

/// What became of an exporter's rows at the writer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Kept {
    pub written: u64,
    pub dropped: u64,
    // Part of those: they had been written.
    pub lost: u64,
    pub left_out: LeftOut,
}

impl Kept {
    pub fn leave_out(&mut self, more: LeftOut) {
        self.left_out.rows += more.rows;
        self.left_out.unknown += more.unknown;
    }

    fn merge(&mut self, other: Self) {
        self.written += other.written;
        self.dropped += other.dropped;
        self.lost += other.lost;
        self.leave_out(other.left_out);
    }
}

/// What the writer did.
#[derive(Clone, Debug, Default)]
pub(super) struct Written {
    pub rows: HashMap<IpAddr, Kept>,
    pub options: Kept,
    pub options_passed_over: u64,
}

impl Written {
    /// Makes one sum of what belongs to exporters that are forgotten. What was written of one since it was seen stays for the next
    /// time: it may be known again.
    pub fn forget(&mut self, gone: Vec<(IpAddr, Kept)>) {
        for (exporter, kept) in gone {
            if exporter != OTHERS && self.rows.get(&exporter) == Some(&kept) {
                self.rows.remove(&exporter);
                self.rows.entry(OTHERS).or_default().merge(kept);
            }
        }
    }

    /// So many rows that were written are dropped after all.
    pub fn lose(&mut self, exporter: IpAddr, rows: u64) {
        let kept = self.rows.entry(exporter).or_default();
        kept.dropped += rows;
        kept.lost += rows;
        let forgotten = rows.saturating_sub(kept.written);
        kept.written = kept.written.saturating_sub(rows);
        if forgotten > 0 {
            let others = self.rows.entry(OTHERS).or_default();
            others.written = others.written.saturating_sub(forgotten);
        }
    }
}

/// Where questions and answers meet.
#[derive(Debug)]
pub(super) struct Board {
    /// Counts the questions.
    asked: AtomicU64,
    /// The last question that asked for details, too: templates and connections, one by one.
    details_asked: AtomicU64,
    places: Mutex<Vec<Arc<Place>>>,
    pub written: Mutex<Written>,
    /// Held by whoever looks at a ledger of all exporters: there is one at a time, and its room is that of the one before.
    pub room: Mutex<Vec<ExporterAccount>>,
    pub began: Instant,
}

#[derive(Debug, Default)]
struct Place {
    answered: AtomicU64,
    ended: AtomicBool,
    part: Mutex<Arc<Part>>,
}

impl Default for Board {
    fn default() -> Self {
        Self {
            asked: AtomicU64::new(0),
            details_asked: AtomicU64::new(0),
            places: Mutex::default(),
            written: Mutex::default(),
            room: Mutex::default(),
            began: Instant::now(),
        }
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Board {
    /// A place for one more thread.
    pub fn reporter(self: &Arc<Self>) -> Reporter {
        let place = Arc::new(Place::default());
        lock(&self.places).push(place.clone());
        Reporter { board: self.clone(), place, answered: 0 }
    }

    /// What every thread counts, as of now; of a thread that does not answer, what it told last. The second value is
    /// whether all answered.
    pub fn ask(&self, details: bool) -> (Vec<Arc<Part>>, bool) {
        let question = self.asked.fetch_add(1, Relaxed) + 1;
        if details {
            self.details_asked.fetch_max(question, Relaxed);
        }
        let end = Instant::now() + PATIENCE;
        let places = lock(&self.places).clone();
        let done = |p: &Place| p.ended.load(Relaxed) || p.answered.load(Relaxed) >= question;
        let mut all = places.iter().all(|p| done(p));
        while !all && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(5));
            all = places.iter().all(|p| done(p));
        }
        (places.iter().map(|p| lock(&p.part).clone()).collect(), all)
    }
}

/// A receiving thread's end of the board.
pub(super) struct Reporter {
    board: Arc<Board>,
    place: Arc<Place>,
    answered: u64,
}

impl Reporter {
    /// Whether somebody asks for more than counters.
    pub fn asks_for_details(&self) -> bool {
        self.board.details_asked.load(Relaxed) > self.answered
    }

    /// Answers what was asked since the last call; `make` is told whether details are asked for, too.
    pub fn answer(&mut self, make: impl FnOnce(bool) -> Part) {
        let question = self.board.asked.load(Relaxed);
        if question != self.answered {
            let part = Arc::new(make(self.asks_for_details()));
            // A reader that is just there finds the next one.
            if let Ok(mut place) = self.place.part.try_lock() {
                *place = part;
                drop(place);
                self.answered = question;
                self.place.answered.store(question, Relaxed);
            }
        }
    }

    /// The last word of a thread that ends.
    pub fn end(self, part: Part) {
        *lock(&self.place.part) = Arc::new(part);
        self.place.ended.store(true, Relaxed);
    }
}
