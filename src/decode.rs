//! The decoder: datagrams in, batches of columns out. Start reading here.
//!
//! [`Decoder::decode`] takes a datagram, finds the stream it belongs to (exporter, port, version, domain), walks its
//! sets and runs the plan of each template into the open batch of the plan's layout. It does no I/O and asks no
//! clock: the address and the time are arguments.
//!
//! A stream keeps where each of its template ids leads, so a datagram costs one look-up in a hash table beside its
//! records, and no allocation once the batches have grown.

mod hash;
mod learned;
mod limited;
mod marks;
mod message;
mod order;
mod plans;
mod room;
mod rules;
mod sequence;
mod session;
mod stats;
mod steady;
mod stream;

#[cfg(feature = "collect")]
pub(crate) use learned::compact_tail;
pub use learned::{Learned, compact};
pub use order::{OrderedRun, wire_order};
pub use rules::{Rule, Rules};
pub use sequence::SequenceEvent;
pub use stats::{Outcome, Stats};
pub use stream::SessionId;

use crate::columns::gather::Kernel;
use crate::columns::{Batch, Layout, OptionsBatch, RunMeta, Timestamp};
use crate::elements::Registry;
use crate::error::Error;
use crate::template::{Event, Held, HeldLimits, Limits, OptionsTables, Template, Templates};
use crate::wire::Message;
use learned::Learning;
use marks::Marks;
use message::{Scope, Waiting};
use plans::{Output, Plans};
use room::Room;
use sequence::{Correction, Units};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use stream::{Exporters, LateUnits, Origin, Sender, Stream, StreamId, Streams};

/// What a decoder may use, and what it is told beside the datagrams.
#[derive(Clone, Debug)]
pub struct Config {
    /// The known elements.
    pub registry: Arc<Registry>,
    /// Rows of a batch at most.
    pub batch_rows: usize,
    /// How long rows stay in an open batch, microseconds by the times of receipt.
    pub batch_age_us: i64,
    /// Bytes of all open batches, roughly: beyond it all are handed over.
    pub batch_bytes: usize,
    /// Exporters at most; for a further one another makes way that has no connection and is silent for ten minutes, or of whom
    /// no row came since the start: 256 a second at most. Where there is none its datagrams are refused.
    pub exporters: usize,
    /// Bounds of an exporter's templates.
    pub templates: Limits,
    /// Bounds of the sets that wait for a template.
    pub held: HeldLimits,
    /// Records of a set at most.
    pub set_records: usize,
    /// Decoded bytes of a message at most.
    pub message_bytes: usize,
    /// Options records kept until they are taken, at most; further ones are counted as dropped.
    pub options_records: usize,
    /// The sampling rate of records of which nothing else says it.
    pub sampling_rate: Option<f64>,
    /// What is said of single exporters.
    pub rules: Rules,
    /// The instruction set of the plans: the fastest of this machine, or the one that the environment variable
    /// `FLOWLANE_KERNEL` names. The scalar kernels stand in for one that the machine lacks.
    pub kernel: Kernel,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            registry: Registry::standard().clone(),
            batch_rows: 8192,
            batch_age_us: 1_000_000,
            batch_bytes: 128 << 20,
            exporters: 16_384,
            templates: Limits::default(),
            held: HeldLimits::default(),
            set_records: 65_535,
            message_bytes: 32 << 20,
            options_records: 65_536,
            sampling_rate: None,
            rules: Rules::default(),
            kernel: Kernel::chosen(),
        }
    }
}

/// What a decoder knows of an exporter.
#[derive(Clone, Copy, Debug)]
pub struct KnownExporter<'a> {
    /// Its address.
    pub address: IpAddr,
    /// The connection of which this is, if it is of one: an address may have several, beside what it sends in datagrams.
    pub session: Option<SessionId>,
    /// What it sent.
    pub stats: &'a Stats,
    /// When its last message was received.
    pub last_seen: Timestamp,
    /// Its templates.
    pub templates: &'a Templates,
    /// What its options data said.
    pub options: &'a OptionsTables,
}

/// The work of a plan, which all equal templates share.
#[derive(Clone, Debug)]
pub struct PlanUse {
    /// The columns that it fills.
    pub layout: Arc<Layout>,
    /// Records decoded by it.
    pub records: u64,
    /// When the last of them was received.
    pub last_used: Timestamp,
}

/// How long a stream is remembered, microseconds.
const IDLE_US: i64 = 600_000_000;
/// How often what is idle is looked for.
const SWEEP_US: i64 = 60_000_000;

/// Decodes NetFlow v1, v5, v7, v9 and IPFIX into batches of columns.
///
/// ```
/// use flowlane::columns::{ColumnView, Timestamp};
/// use flowlane::decode::{Config, Decoder};
///
/// let mut datagram = vec![0, 5, 0, 1, 0, 0, 39, 16, 101, 83, 241, 0, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0];
/// datagram.extend([192, 0, 2, 1, 198, 51, 100, 2]);
/// datagram.extend([0; 40]);
/// let mut decoder = Decoder::new(Config::default());
/// let outcome = decoder.decode(&datagram, "203.0.113.9:2055".parse()?, Timestamp(1_700_000_000_000_000));
/// assert_eq!((outcome.records, outcome.error), (1, None));
/// let batch = decoder.flush().pop().expect("one layout");
/// let src = batch.column("src_ip4").expect("v5 has it");
/// assert!(matches!(src.values, ColumnView::Ip4([0xc000_0201])));
/// # Ok::<(), std::net::AddrParseError>(())
/// ```
#[derive(Debug)]
pub struct Decoder {
    config: Config,
    streams: Streams,
    exporters: Exporters,
    work: Work,
    next_sweep_us: i64,
    next_tick_us: i64,
    room: Room,
    // Where streams stood before a restart.
    marks: Marks,
    // Connections so far.
    sessions: u64,
}

/// What all messages work on, whichever stream they belong to.
#[derive(Debug)]
struct Work {
    plans: Plans,
    held: Held<Waiting, Origin>,
    out: Output,
    events: Vec<Event>,
    fields: Vec<(u32, u32)>,
    late: Vec<LateUnits>,
    // Messages so far: names a message to what is held of it.
    messages: u64,
    // Runs and options sets so far.
    order: u64,
    learning: Learning,
}

impl Decoder {
    /// A decoder that knows no template yet.
    pub fn new(config: Config) -> Self {
        Self {
            streams: Streams::default(),
            exporters: Exporters::new(config.exporters, config.templates),
            work: Work {
                plans: Plans::default(),
                held: Held::new(config.held),
                out: Output::new(config.batch_rows, config.batch_bytes, config.options_records),
                events: Vec::new(),
                fields: Vec::new(),
                late: Vec::new(),
                messages: 0,
                order: 0,
                learning: Learning::default(),
            },
            next_sweep_us: i64::MIN,
            next_tick_us: i64::MIN,
            room: Room::default(),
            marks: Marks::default(),
            sessions: 0,
            config,
        }
    }

    /// Decodes a datagram and appends its records to the open batches.
    ///
    /// Full batches wait in [`next_batch`](Self::next_batch), to be taken after each call. Nothing in a datagram makes
    /// this panic; what is wrong with it is in the outcome, and costs nothing beside it.
    #[inline]
    pub fn decode(&mut self, datagram: &[u8], exporter: SocketAddr, received_at: Timestamp) -> Outcome {
        // Written in place: a copy of what was just stored piece by piece would wait for all the stores.
        let mut outcome = Outcome::default();
        self.datagram(datagram, &Sender { address: &exporter, session: None }, received_at, &mut outcome);
        outcome
    }

    #[inline(never)]
    fn datagram(&mut self, datagram: &[u8], sender: &Sender<'_>, received_at: Timestamp, outcome: &mut Outcome) {
        let steady = match Message::parse(datagram) {
            Ok(message) => self.steady(&message, datagram.len(), sender, received_at, outcome),
            Err(_) => false,
        };
        if !steady {
            self.message(datagram, sender, received_at, outcome, false);
        }
    }

    /// Any message; of one above its exporter's rate only its templates.
    #[inline(never)]
    fn message(
        &mut self,
        datagram: &[u8],
        sender: &Sender<'_>,
        received_at: Timestamp,
        outcome: &mut Outcome,
        is_limited: bool,
    ) {
        let message = match Message::parse(datagram) {
            Ok(message) => message,
            Err(error) => return self.refuse(error, sender, datagram.len(), outcome),
        };
        if received_at.0 >= self.next_tick_us {
            self.tick(received_at);
        }
        let id = sender.stream(message.version(), message.domain_id());
        let Some(place) = self.streams.find(&id).or_else(|| self.admit(id, sender, &message, received_at)) else {
            return self.refuse_beyond_limit(sender, datagram.len(), received_at, outcome);
        };
        let Some((stream, meta)) = self.streams.at(place) else { return };
        let at = stream.exporter;
        let Some(known) = self.exporters.at(at) else {
            // Streams outlive their exporter until there are many such: this one begins anew in its place.
            return match self.admit(id, sender, &message, received_at) {
                Some(_) => self.message(datagram, sender, received_at, outcome, is_limited),
                None => self.refuse_beyond_limit(sender, datagram.len(), received_at, outcome),
            };
        };
        self.work.messages += 1;
        meta.received_at = received_at;
        meta.export_time = Timestamp(message.export_time_us());
        meta.sequence = message.sequence();
        meta.uptime_ms = message.uptime_ms();
        let mut units = Units { message: self.work.messages, known: 0, options: 0, held: 0, lost: false };
        let mut scope = Scope::new(&self.config, stream, known, &mut self.work);
        scope.begin(meta, message.header());
        if is_limited {
            scope.teach(&message, meta, &mut units, outcome);
        } else {
            scope.decode(&message, meta, &mut units, outcome);
        }
        if message.version() == 9 {
            // v9 counts messages.
            (units.known, units.options, units.held, units.lost) = (1, 0, 0, false);
        }
        if !self.work.late.is_empty() {
            let meta = *meta;
            self.settle(&meta, sender.session, &mut units, outcome);
        } else if message.version() != 1 {
            let mut fix = Correction::default();
            outcome.sequence = stream.sequence.step(meta.sequence, &units, meta.uptime_ms, &mut fix);
            if fix != Correction::default() {
                known.stats.correct(&fix);
            }
        }
        if let Some(known) = self.exporters.at(at) {
            known.stats.add(outcome, datagram.len());
        }
        if sender.session.is_none() {
            self.work.learning.end(&message, sender.address, received_at);
        } else {
            self.work.learning.forget();
        }
    }

    /// The place of a new stream; `None` where its exporter is one too many.
    #[cold]
    fn admit(&mut self, id: StreamId, sender: &Sender<'_>, message: &Message<'_>, now: Timestamp) -> Option<u32> {
        if self.streams.len() >= self.config.exporters.saturating_mul(4).max(4096) {
            // All start anew: the oldest are not worth a search.
            self.streams.clear();
        }
        let ip = sender.ip();
        if !self.exporters.has_room_for(&ip) && !self.make_room(now.0) {
            return None;
        }
        let place = self.exporters.admit(Origin { ip, session: sender.session }, &self.config.rules)?;
        if sender.session.is_none() && self.marks.show_restart(sender.address, message) {
            self.forget_provisional(place, message.version(), message.domain_id());
        }
        let mut meta = RunMeta::new(message.version(), ip, Timestamp(0));
        meta.exporter.set_port(sender.address.port());
        meta.domain_id = message.domain_id();
        Some(self.streams.insert(id, Stream::new(place), meta))
    }

    /// Goes by other rules from the next message on; what is held goes by them, too.
    pub fn set_rules(&mut self, rules: Rules) {
        self.config.rules = rules;
        for exporter in self.exporters.iter_mut() {
            exporter.rule = self.config.rules.of(exporter.origin.ip);
            exporter.tables.ask_anew();
        }
        // Streams look for their plans again.
        self.work.plans.generation += 1;
    }

    /// A full batch, if there is one. Its derived columns are computed here.
    pub fn next_batch(&mut self) -> Option<Batch> {
        let ready = &mut self.work.out.ready;
        let mut batch = std::iter::from_fn(|| ready.pop_front()).find(|b| b.rows() > 0)?;
        batch.finish();
        Some(batch)
    }

    /// Whether [`next_batch`](Self::next_batch) has one: the moment for [`flush`](Self::flush) where rows must keep
    /// their order on the wire over all layouts.
    pub fn has_full_batch(&self) -> bool {
        !self.work.out.ready.is_empty()
    }

    /// Hands over what is older than the configured age; the batches wait in [`next_batch`](Self::next_batch).
    ///
    /// [`decode`](Self::decode) does this by the times of receipt; a caller whose sockets are quiet has to.
    pub fn tick(&mut self, now: Timestamp) {
        self.next_tick_us = now.0.saturating_add(self.config.batch_age_us.clamp(1000, SWEEP_US) / 4);
        self.work.plans.flush_aged(now.0, self.config.batch_age_us, &mut self.work.out);
        self.work.out.free_idle(now.0);
        if now.0 >= self.next_sweep_us {
            self.sweep(now.0);
        }
    }

    /// Hands over all rows: waiting batches and open ones. [`wire_order`] tells how their rows stood on the wire.
    pub fn flush(&mut self) -> Vec<Batch> {
        self.work.plans.flush(&mut self.work.out);
        let mut batches: Vec<Batch> = self.work.out.ready.drain(..).filter(|b| b.rows() > 0).collect();
        batches.iter_mut().for_each(Batch::finish);
        batches
    }

    /// Rows in batches that are not handed over yet.
    pub fn pending_rows(&self) -> usize {
        self.work.out.ready.iter().chain(self.work.plans.open()).map(Batch::rows).sum()
    }

    /// Takes a batch back, for its memory.
    pub fn recycle(&mut self, batch: Batch) {
        self.work.out.recycle(batch);
    }

    /// The options records that came since the last call; `None` where there are none.
    pub fn next_options(&mut self) -> Option<OptionsBatch> {
        let out = &mut self.work.out;
        (!out.options.is_empty()).then(|| std::mem::replace(&mut out.options, std::mem::take(&mut out.spare_options)))
    }

    /// Takes a batch of options records back, for its memory.
    pub fn recycle_options(&mut self, mut batch: OptionsBatch) {
        batch.clear();
        self.work.out.spare_options = batch;
    }

    /// Keeps what a restart must not forget, for [`next_learned`](Self::next_learned).
    pub fn learn(&mut self) {
        self.work.learning.on = true;
    }

    /// What was learned since the last call, in order: to be written down, and given to
    /// [`restore`](Self::restore) after a restart.
    pub fn next_learned(&mut self) -> Option<Learned> {
        self.work.learning.pop()
    }

    /// What was learned and not taken in time.
    pub fn learned_dropped(&self) -> u64 {
        self.work.learning.dropped
    }

    /// Learns again what a decoder before learned, in that order. The rows that it comes to were handed over then and
    /// are thrown away; nothing is counted but the sets that still wait.
    ///
    /// Templates from before are provisional: they go, and their sets wait, where the first message of a stream shows
    /// that its exporter started anew, or where a set does not fit.
    pub fn restore(&mut self, learned: impl IntoIterator<Item = Learned>) {
        let on = std::mem::replace(&mut self.work.learning.on, false);
        for one in learned {
            let Ok(message) = Message::parse(&one.message) else { continue };
            self.marks.insert(&one.exporter, &message);
            let sender = Sender { address: &one.exporter, session: None };
            self.message(&one.message, &sender, one.received_at, &mut Outcome::default(), false);
            self.flush().into_iter().for_each(|batch| self.recycle(batch));
            self.work.out.options.clear();
        }
        self.work.learning.on = on;
        self.streams.clear();
        self.exporters.start_anew();
        for (origin, ..) in self.work.held.keys() {
            let stats = self.exporters.stats_of(origin);
            (stats.sets, stats.sets_held) = (stats.sets + 1, stats.sets_held + 1);
        }
        (self.next_tick_us, self.next_sweep_us) = (i64::MIN, i64::MIN);
    }

    /// What was known of a domain before a restart of this decoder means nothing any more. What came again since then does:
    /// another port of the exporter can have sent it.
    #[cold]
    fn forget_provisional(&mut self, place: u32, version: u8, domain: u32) {
        let Some(known) = self.exporters.at(place) else { return };
        for (_, _, id) in known.provisional.extract_if(|k| (k.0, k.1) == (version, domain)) {
            known.templates.forget(version, domain, id);
        }
        known.tables.forget_domain(domain);
        known.stats.held_dropped += self.work.held.drop_domain(known.origin, version, domain, None) as u64;
    }

    /// Sums over all datagrams: those of every exporter, and what was refused.
    pub fn stats(&self) -> Stats {
        self.exporters.total()
    }

    /// Sets that wait for their template now.
    pub fn held_sets(&self) -> usize {
        self.work.held.len()
    }

    /// Sums of each exporter, and apart from them those of each of its connections that are open.
    pub fn exporters(&self) -> impl Iterator<Item = (IpAddr, &Stats)> {
        self.exporters.iter().map(|e| (e.origin.ip, &e.stats))
    }

    /// How many exporters there are, each address once.
    pub fn exporter_count(&self) -> usize {
        self.exporters.len()
    }

    /// Whether an address is that of an exporter that is known.
    #[cfg(any(feature = "collect", test))]
    pub(crate) fn is_known(&self, exporter: IpAddr) -> bool {
        self.exporters.has(&exporter.to_canonical())
    }

    /// The templates of each exporter: its address, the version, the domain and the template.
    pub fn templates(&self) -> impl Iterator<Item = (IpAddr, u8, u32, &Arc<Template>)> {
        self.exporters.iter().flat_map(|e| e.templates.iter().map(|(v, d, t)| (e.origin.ip, v, d, t)))
    }

    /// What options data in datagrams said about an exporter.
    pub fn options_tables(&self, exporter: IpAddr) -> Option<&OptionsTables> {
        let origin = Origin { ip: exporter.to_canonical(), session: None };
        self.exporters.iter().find(|e| e.origin == origin).map(|e| &e.tables)
    }

    /// All that is known of each exporter and of each open connection.
    pub fn known_exporters(&self) -> impl Iterator<Item = KnownExporter<'_>> {
        self.exporters.iter().map(|e| KnownExporter {
            address: e.origin.ip,
            session: e.origin.session,
            stats: &e.stats,
            last_seen: Timestamp(e.last_us),
            templates: &e.templates,
            options: &e.tables,
        })
    }

    /// What belongs to no exporter that is known: refused datagrams of strangers, and exporters that were forgotten.
    pub fn other_stats(&self) -> &Stats {
        self.exporters.others()
    }

    /// What the last message of each stream (exporter, port, version, domain) said.
    pub fn last_messages(&self) -> impl Iterator<Item = &RunMeta> {
        self.streams.metas()
    }

    /// Sets that wait for their template now: the exporter, the template's id and how many.
    pub fn waiting_sets(&self) -> impl Iterator<Item = (IpAddr, u16, usize)> {
        self.work.held.waiting().map(|(origin, id, sets)| (origin.ip, id, sets))
    }

    /// How a template is decoded, and what for; `None` before its first record, and for options.
    pub fn plan_use(&self, template: &Arc<Template>) -> Option<PlanUse> {
        let slot = self.work.plans.of(template)?;
        Some(PlanUse { layout: slot.plan.layout().clone(), records: slot.records, last_used: Timestamp(slot.used_us) })
    }

    /// A datagram of which nothing can be decoded.
    #[cold]
    fn refuse(&mut self, error: Error, sender: &Sender<'_>, bytes: usize, outcome: &mut Outcome) {
        (outcome.error, outcome.refused) = (Some(error), true);
        let origin = Origin { ip: sender.ip(), session: sender.session };
        self.exporters.stats_of(origin).add(outcome, bytes);
    }

    /// Judges the message after the units of sets decoded late are known, of its own stream or another port's.
    #[cold]
    fn settle(&mut self, meta: &RunMeta, session: Option<SessionId>, units: &mut Units, outcome: &mut Outcome) {
        let id = |port| {
            let address = SocketAddr::new(meta.exporter.ip(), port);
            Sender { address: &address, session }.stream(meta.version, meta.domain_id)
        };
        let mut late = std::mem::take(&mut self.work.late);
        for set in late.drain(..) {
            if set.message == units.message {
                // Held and decoded in this very message.
                units.held = units.held.saturating_sub(1);
                units.known += set.units;
                units.lost |= !set.whole;
                continue;
            }
            let Some(stream) = self.streams.get_mut(&id(set.port)) else { continue };
            let mut fix = Correction::default();
            stream.sequence.settle(set.message, set.units, set.whole, &mut fix);
            if let Some(known) = self.exporters.at(stream.exporter) {
                known.stats.correct(&fix);
            }
        }
        self.work.late = late;
        if let Some(stream) = self.streams.get_mut(&id(meta.exporter.port())) {
            let mut fix = Correction::default();
            outcome.sequence = stream.sequence.step(meta.sequence, units, meta.uptime_ms, &mut fix);
            if let Some(known) = self.exporters.at(stream.exporter) {
                known.stats.correct(&fix);
            }
        }
    }

    /// Forgets streams that are idle, and those of exporters that are forgotten.
    #[cold]
    fn sweep(&mut self, now_us: i64) {
        self.next_sweep_us = now_us.saturating_add(SWEEP_US);
        let exporters = &mut self.exporters;
        self.work.held.expire(now_us, |origin| exporters.stats_of(origin).held_expired += 1);
        let idle = |last: i64| now_us.saturating_sub(last) > IDLE_US;
        self.streams.retain(|s| !idle(s.last_us) && exporters.at(s.exporter).is_some());
        exporters.free_ended();
    }
}
