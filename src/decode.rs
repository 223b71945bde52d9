//! The decoder: datagrams in, batches of columns out. Start reading here.
//!
//! [`Decoder::decode`] takes a datagram, finds the stream it belongs to (exporter, port, version, domain), walks its
//! sets and runs the plan of each template into the open batch of the plan's layout. It does no I/O and asks no
//! clock: the address and the time are arguments.

mod hash;
mod order;
mod sequence;
mod stats;

pub use order::{OrderedRun, wire_order};
pub use sequence::SequenceEvent;
pub use stats::{Outcome, Stats};

use crate::columns::{Batch, OptionsRecord, RunMeta, SamplingSource, Timestamp};
use crate::elements::Registry;
use crate::error::{Error, ErrorKind};
use crate::plan::{Lookups, Plan};
use crate::template::{Event, Held, HeldLimits, Kind, Limits, OptionsTables, Template, Templates};
use crate::wire::{Header, Message, Set};
use hash::Keyed;
use sequence::Sequence;
use std::collections::{HashMap, VecDeque};
use std::hash::{Hash, Hasher};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// What a decoder may use, and what it is told beside the datagrams.
#[derive(Clone, Debug)]
pub struct Config {
    /// The known elements.
    pub registry: Arc<Registry>,
    /// Rows of a batch at most.
    pub batch_rows: usize,
    /// How long rows stay in an open batch, microseconds by the times of receipt.
    pub batch_age_us: i64,
    /// Bytes of all open batches at most.
    pub batch_bytes: usize,
    /// Exporters at most; datagrams of further ones are refused.
    pub exporters: usize,
    /// Bounds of an exporter's templates.
    pub templates: Limits,
    /// Bounds of the sets that wait for a template.
    pub held: HeldLimits,
    /// Records of a set at most.
    pub set_records: usize,
    /// Decoded bytes of a message at most.
    pub message_bytes: usize,
    /// Options records kept until they are taken, at most.
    pub options_records: usize,
    /// The sampling rate of records of which nothing else says it.
    pub sampling_rate: Option<f64>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            registry: Registry::standard().clone(),
            batch_rows: 8192,
            batch_age_us: 1_000_000,
            batch_bytes: 256 << 20,
            exporters: 16_384,
            templates: Limits::default(),
            held: HeldLimits::default(),
            set_records: 65_535,
            message_bytes: 32 << 20,
            options_records: 65_536,
            sampling_rate: None,
        }
    }
}

/// How long an exporter without templates, or a stream, is remembered, microseconds.
const IDLE_US: i64 = 600_000_000;

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
    streams: HashMap<StreamKey, Stream, Keyed>,
    exporters: HashMap<IpAddr, Exporter, Keyed>,
    plans: Plans,
    held: Held<Waiting>,
    out: Output,
    events: Vec<Event>,
    order: u64,
    next_sweep_us: i64,
    total: Stats,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct StreamKey {
    ip: IpAddr,
    port: u16,
    version: u8,
    domain: u32,
}

impl Hash for StreamKey {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self.ip {
            IpAddr::V4(ip) => state.write_u64(u64::from(ip.to_bits()) | 1 << 40),
            IpAddr::V6(ip) => {
                let bits = ip.to_bits();
                state.write_u64(bits as u64);
                state.write_u64((bits >> 64) as u64);
            }
        }
        state.write_u64(u64::from(self.domain) << 32 | u64::from(self.port) << 16 | u64::from(self.version));
    }
}

/// What a sender port of an exporter does in one domain.
#[derive(Debug, Default)]
struct Stream {
    sequence: Sequence,
    // The targets of template ids, right while the generations below are the exporter's and the plans'.
    targets: Vec<(u16, Target)>,
    templates_seen: u64,
    plans_seen: u64,
    tables_seen: u64,
    sampling: Option<(f64, SamplingSource)>,
    init_time_ms: Option<u64>,
    last_us: i64,
}

#[derive(Clone, Debug)]
enum Target {
    Plan(usize),
    Options(Arc<Template>),
}

#[derive(Debug)]
struct Exporter {
    templates: Templates,
    tables: OptionsTables,
    stats: Stats,
    last_us: i64,
}

/// What is known of a held set's message.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    meta: RunMeta,
    port: u16,
    offset: usize,
}

/// Plans by the content of their templates, each with its open batch.
#[derive(Debug, Default)]
struct Plans {
    by_template: HashMap<Arc<Template>, usize>,
    slots: Vec<Slot>,
    // Changes whenever a slot is given up.
    generation: u64,
}

#[derive(Debug)]
struct Slot {
    plan: Plan,
    batch: Option<Batch>,
    opened_us: i64,
    used_us: i64,
}

/// Plans kept at most; beyond it all that are idle go.
const MAX_PLANS: usize = 8192;

#[derive(Debug, Default)]
struct Output {
    ready: VecDeque<Batch>,
    spare: Vec<Batch>,
    options: VecDeque<OptionsRecord>,
    options_dropped: u64,
}

impl Decoder {
    /// A decoder that knows no template yet.
    pub fn new(config: Config) -> Self {
        Self {
            streams: HashMap::default(),
            exporters: HashMap::default(),
            plans: Plans::default(),
            held: Held::new(config.held),
            out: Output::default(),
            events: Vec::new(),
            order: 0,
            next_sweep_us: i64::MIN,
            total: Stats::default(),
            config,
        }
    }

    /// Decodes a datagram and appends its records to the open batches.
    ///
    /// Full batches wait in [`next_batch`](Self::next_batch). Nothing in a datagram makes this panic; what is wrong
    /// with it is in the outcome, and costs nothing beside it.
    pub fn decode(&mut self, datagram: &[u8], exporter: SocketAddr, received_at: Timestamp) -> Outcome {
        let exporter = SocketAddr::new(exporter.ip().to_canonical(), exporter.port());
        let mut outcome = Outcome::default();
        match Message::parse(datagram) {
            Ok(message) => self.message(&message, exporter, received_at, &mut outcome),
            Err(error) => {
                (outcome.error, outcome.refused) = (Some(error), true);
                self.total.error(&error);
            }
        }
        self.total.add(&outcome, datagram.len());
        if let Some(known) = self.exporters.get_mut(&exporter.ip()) {
            known.stats.add(&outcome, datagram.len());
            if let Some(error) = &outcome.error {
                known.stats.error(error);
            }
        }
        outcome
    }

    /// A full batch, if there is one. Its derived columns are computed here.
    pub fn next_batch(&mut self) -> Option<Batch> {
        let mut batch = self.out.ready.pop_front()?;
        batch.finish();
        Some(batch)
    }

    /// Hands over what is older than the configured age; the batches wait in [`next_batch`](Self::next_batch).
    pub fn tick(&mut self, now: Timestamp) {
        let expired = self.held.expire(now.0);
        self.total.held_expired += expired as u64;
        let mut bytes = 0;
        for slot in &mut self.plans.slots {
            let Some(batch) = &slot.batch else { continue };
            bytes += batch.memory();
            if now.0.saturating_sub(slot.opened_us) >= self.config.batch_age_us || bytes > self.config.batch_bytes {
                self.out.ready.extend(slot.batch.take());
            }
        }
    }

    /// Hands over all rows: waiting batches and open ones. [`wire_order`] tells how their rows stood on the wire.
    pub fn flush(&mut self) -> Vec<Batch> {
        let open = self.plans.slots.iter_mut().filter_map(|s| s.batch.take());
        let mut batches: Vec<Batch> = self.out.ready.drain(..).chain(open).filter(|b| b.rows() > 0).collect();
        batches.iter_mut().for_each(Batch::finish);
        batches
    }

    /// Rows in batches that are not handed over yet.
    pub fn pending_rows(&self) -> usize {
        let open = self.plans.slots.iter().filter_map(|s| s.batch.as_ref());
        self.out.ready.iter().chain(open).map(Batch::rows).sum()
    }

    /// Takes a batch back, for its memory.
    pub fn recycle(&mut self, mut batch: Batch) {
        batch.clear();
        if self.out.spare.len() < 64 {
            self.out.spare.push(batch);
        }
    }

    /// The next options record.
    pub fn next_options(&mut self) -> Option<OptionsRecord> {
        self.out.options.pop_front()
    }

    /// Options records that nobody took in time.
    pub fn options_dropped(&self) -> u64 {
        self.out.options_dropped
    }

    /// Sums over all datagrams.
    pub fn stats(&self) -> &Stats {
        &self.total
    }

    /// Sets that wait for their template now.
    pub fn held_sets(&self) -> usize {
        self.held.len()
    }

    /// Sums of each exporter.
    pub fn exporters(&self) -> impl Iterator<Item = (IpAddr, &Stats)> {
        self.exporters.iter().map(|(ip, e)| (*ip, &e.stats))
    }

    /// The templates of each exporter: its address, the version, the domain and the template.
    pub fn templates(&self) -> impl Iterator<Item = (IpAddr, u8, u32, &Arc<Template>)> {
        self.exporters.iter().flat_map(|(ip, e)| e.templates.iter().map(|(v, d, t)| (*ip, v, d, t)))
    }

    fn message(&mut self, message: &Message<'_>, exporter: SocketAddr, received_at: Timestamp, outcome: &mut Outcome) {
        let key = StreamKey {
            ip: exporter.ip(),
            port: exporter.port(),
            version: message.version(),
            domain: message.domain_id(),
        };
        if received_at.0 >= self.next_sweep_us {
            self.sweep(received_at.0);
        }
        if !self.exporters.contains_key(&key.ip) && !self.admit(key.ip) {
            let error = Error::new(ErrorKind::ExporterLimit, 0, self.config.exporters, self.exporters.len());
            (outcome.error, outcome.refused) = (Some(error), true);
            self.total.error(&error);
            return;
        }
        let mut scope = Scope::of(self, key);
        let mut meta = RunMeta {
            received_at,
            export_time: Timestamp(message.export_time_us()),
            exporter,
            version: key.version,
            domain_id: key.domain,
            sequence: message.sequence(),
            template_id: 0,
            uptime_ms: message.uptime_ms(),
            init_time_ms: None,
            sampling_rate: f64::NAN,
            sampling_source: 0,
            time_source: 0,
            order: 0,
            late: false,
        };
        scope.begin(&mut meta, message.header());
        if let Some(damage) = message.damage() {
            scope.wrong(outcome, damage);
        }
        let mut complete = true;
        if let Some(records) = message.fixed() {
            outcome.sets = 1;
            let clean = scope.fixed(records.bytes, &meta, records.offset, outcome);
            // A count that lies is damage of the message, not of its records.
            outcome.sets_decoded += u32::from(clean);
            outcome.sets_malformed += u32::from(!clean);
        } else {
            for set in message.sets() {
                outcome.sets += 1;
                match set {
                    Ok(set) => complete &= scope.set(&set, &mut meta, outcome),
                    Err(error) => {
                        scope.wrong(outcome, error);
                        let skipped = error.kind == ErrorKind::ReservedSet;
                        outcome.sets_skipped += u32::from(skipped);
                        outcome.sets_malformed += u32::from(!skipped);
                    }
                }
            }
        }
        let units = match key.version {
            1 => return,
            5 | 7 => outcome.records,
            9 => 1,
            _ => outcome.records - outcome.late_records + scope.own_options,
        };
        let complete = key.version != 10 || complete && message.damage().is_none();
        outcome.sequence = scope.stream.sequence.step(meta.sequence, units, complete, meta.uptime_ms);
    }

    /// Makes room for an exporter's state, if the limit allows.
    #[cold]
    fn admit(&mut self, ip: IpAddr) -> bool {
        if self.exporters.len() >= self.config.exporters {
            return false;
        }
        let exporter = Exporter {
            templates: Templates::new(self.config.templates),
            tables: OptionsTables::new(self.config.templates.options_entries),
            stats: Stats::default(),
            last_us: i64::MIN,
        };
        self.exporters.insert(ip, exporter);
        true
    }

    /// Forgets what is idle and holds no template: once a minute, and at the limits.
    #[cold]
    fn sweep(&mut self, now_us: i64) {
        self.next_sweep_us = now_us.saturating_add(60_000_000);
        self.total.held_expired += self.held.expire(now_us) as u64;
        let idle = |last: i64| last != i64::MIN && now_us.saturating_sub(last) > IDLE_US;
        self.streams.retain(|_, s| !idle(s.last_us));
        if self.exporters.len() >= self.config.exporters {
            self.exporters.retain(|_, e| !(e.templates.is_empty() && idle(e.last_us)));
        }
    }
}

/// The parts of a decoder that one message works on.
struct Scope<'d> {
    key: StreamKey,
    config: &'d Config,
    stream: &'d mut Stream,
    exporter: &'d mut Exporter,
    plans: &'d mut Plans,
    held: &'d mut Held<Waiting>,
    out: &'d mut Output,
    events: &'d mut Vec<Event>,
    order: &'d mut u64,
    total: &'d mut Stats,
    budget: usize,
    own_options: u32,
}

impl<'d> Scope<'d> {
    fn of(d: &'d mut Decoder, key: StreamKey) -> Self {
        // Streams beyond a multiple of the exporters' limit keep no sequence: the oldest are not worth a search.
        if d.streams.len() > d.config.exporters.saturating_mul(4) && !d.streams.contains_key(&key) {
            d.streams.clear();
        }
        let limits = d.config.templates;
        Self {
            key,
            stream: d.streams.entry(key).or_default(),
            exporter: d.exporters.entry(key.ip).or_insert_with(|| Exporter {
                templates: Templates::new(limits),
                tables: OptionsTables::new(limits.options_entries),
                stats: Stats::default(),
                last_us: i64::MIN,
            }),
            plans: &mut d.plans,
            held: &mut d.held,
            out: &mut d.out,
            events: &mut d.events,
            order: &mut d.order,
            total: &mut d.total,
            budget: d.config.message_bytes,
            own_options: 0,
            config: &d.config,
        }
    }

    /// Fills in what the exporter's tables say about the message.
    #[inline]
    fn begin(&mut self, meta: &mut RunMeta, header: Header<'_>) {
        let tables = &self.exporter.tables;
        if self.stream.tables_seen != tables.generation() || self.stream.last_us == 0 {
            self.stream.tables_seen = tables.generation();
            let domain = tables.domain_rate(self.key.domain).map(|r| (r, SamplingSource::Domain));
            let configured = self.config.sampling_rate.map(|r| (r, SamplingSource::Configured));
            self.stream.sampling = domain.or(configured);
            self.stream.init_time_ms = tables.init_time_ms(self.key.domain);
        }
        self.stream.last_us = meta.received_at.0;
        self.exporter.last_us = meta.received_at.0;
        if self.stream.plans_seen != self.plans.generation
            || self.stream.templates_seen != self.exporter.templates.generation()
        {
            self.forget_targets();
        }
        let header_rate = match header {
            Header::V5(h) => Some(h.sampling.get() & 0x3fff).filter(|r| *r != 0),
            _ => None,
        };
        let sampling = match (self.stream.sampling, header_rate) {
            (Some((rate, SamplingSource::Domain)), _) => Some((rate, SamplingSource::Domain)),
            (_, Some(rate)) => Some((f64::from(rate), SamplingSource::Header)),
            (configured, None) => configured,
        };
        if let Some((rate, source)) = sampling {
            (meta.sampling_rate, meta.sampling_source) = (rate, source as u8);
        }
        meta.init_time_ms = self.stream.init_time_ms;
    }

    fn forget_targets(&mut self) {
        self.stream.targets.clear();
        self.stream.plans_seen = self.plans.generation;
        self.stream.templates_seen = self.exporter.templates.generation();
    }

    fn wrong(&mut self, outcome: &mut Outcome, error: Error) {
        // The first is counted with the outcome for the exporter, the others here.
        match outcome.error {
            Some(_) => self.exporter.stats.error(&error),
            None => outcome.error = Some(error),
        }
        self.total.error(&error);
    }

    /// The records of a v1, v5 or v7 message; whether all could be taken.
    fn fixed(&mut self, records: &[u8], meta: &RunMeta, offset: usize, outcome: &mut Outcome) -> bool {
        let Some(target) = self.target(0, self.key.port) else { return false };
        self.records(&target, records, offset, meta, outcome)
    }

    /// One set; whether all its data records are decoded now.
    fn set(&mut self, set: &Set<'_>, meta: &mut RunMeta, outcome: &mut Outcome) -> bool {
        if let Some(error) = set.overrun {
            self.wrong(outcome, error);
        }
        let (mut clean, mut complete) = (set.overrun.is_none(), true);
        if set.id >= 256 {
            meta.template_id = set.id;
            match self.target(set.id, self.key.port) {
                Some(target) => {
                    clean &= self.records(&target, set.body, set.offset, meta, outcome);
                    complete = clean;
                }
                None => {
                    outcome.unknown_templates += 1;
                    let waiting = Waiting { meta: *meta, port: self.key.port, offset: set.offset };
                    let key = (self.key.ip, self.key.version, self.key.domain, set.id);
                    self.total.error(&Error::new(ErrorKind::UnknownTemplate, set.offset - 4, 0, usize::from(set.id)));
                    if self.held.hold(key, set.body, meta.received_at.0, waiting) {
                        outcome.sets_held += 1;
                    } else {
                        outcome.sets_skipped += 1;
                    }
                    return false;
                }
            }
        } else {
            clean &= self.templates(set, outcome);
        }
        outcome.sets_decoded += u32::from(clean);
        outcome.sets_malformed += u32::from(!clean);
        complete
    }

    #[inline]
    fn target(&mut self, id: u16, port: u16) -> Option<Target> {
        let own = port == self.key.port;
        if own {
            if let Some((_, target)) = self.stream.targets.iter().find(|t| t.0 == id) {
                return Some(target.clone());
            }
        }
        let template = match self.key.version {
            9 | 10 => self.exporter.templates.lookup(self.key.version, self.key.domain, id, port)?.clone(),
            version => Template::constant(version)?.clone(),
        };
        let target = match template.kind {
            Kind::Options => Target::Options(template),
            Kind::Data => Target::Plan(self.plans.slot(template, &self.config.registry)),
        };
        if own {
            if self.stream.plans_seen != self.plans.generation {
                self.forget_targets();
            }
            self.stream.targets.push((id, target.clone()));
        }
        Some(target)
    }

    /// A template set: in wire order, what waited for a template is decoded when it comes.
    fn templates(&mut self, set: &Set<'_>, outcome: &mut Outcome) -> bool {
        let mut events = std::mem::take(self.events);
        self.exporter.templates.apply(set, self.key.domain, self.key.port, |e| events.push(e));
        if self.stream.templates_seen != self.exporter.templates.generation() {
            self.forget_targets();
        }
        let mut clean = true;
        for event in events.drain(..) {
            match event {
                Event::Defined { template, changed } => {
                    self.exporter.stats.templates += u64::from(changed);
                    self.total.templates += u64::from(changed);
                    self.late(template.id, outcome);
                }
                Event::Invalid { error, .. } => {
                    clean = false;
                    self.wrong(outcome, error);
                }
                Event::Withdrawn { id } => self.withdrawn(Some(id)),
                Event::WithdrawnAll { .. } => self.withdrawn(None),
            }
        }
        *self.events = events;
        clean
    }

    /// Drops what waited for one template of the domain, or for any.
    fn withdrawn(&mut self, id: Option<u16>) {
        let StreamKey { ip, version, domain, .. } = self.key;
        let dropped = self.held.drop_domain(ip, version, domain, id) as u64;
        for stats in [&mut *self.total, &mut self.exporter.stats] {
            stats.withdrawals += 1;
            stats.held_dropped += dropped;
        }
    }

    /// Decodes the sets that waited for a template, with their own messages' metadata.
    fn late(&mut self, id: u16, outcome: &mut Outcome) {
        if self.held.is_empty() {
            return;
        }
        let sets = self.held.take((self.key.ip, self.key.version, self.key.domain, id));
        for (body, waiting) in sets {
            let Some(target) = self.target(id, waiting.port) else { continue };
            let mut meta = waiting.meta;
            meta.late = true;
            let (before, options) = (outcome.records, self.own_options);
            self.records(&target, &body, waiting.offset, &meta, outcome);
            outcome.late_records += outcome.records - before;
            self.own_options = options;
            self.exporter.stats.held_decoded += 1;
            self.total.held_decoded += 1;
        }
    }

    /// The records of a set; whether all of it made sense.
    fn records(&mut self, target: &Target, body: &[u8], offset: usize, meta: &RunMeta, outcome: &mut Outcome) -> bool {
        match target {
            Target::Plan(slot) => self.run(*slot, body, offset, meta, outcome),
            Target::Options(template) => self.options(template, body, offset, meta, outcome),
        }
    }

    fn run(&mut self, slot: usize, body: &[u8], offset: usize, meta: &RunMeta, outcome: &mut Outcome) -> bool {
        let Some(slot) = self.plans.slots.get_mut(slot) else { return false };
        slot.used_us = meta.received_at.0;
        let (tables, templates) = (&self.exporter.tables, &self.exporter.templates);
        let StreamKey { version, domain, port, .. } = self.key;
        let lookups = Lookups {
            rate: &|id| tables.sampler_rate(domain, id).map(|r| (r, SamplingSource::Sampler as u8)),
            template: &|id| templates.lookup(version, domain, id, port).cloned(),
        };
        let row_bytes = slot.plan.row_bytes();
        let (mut at, mut left) = (0, self.config.set_records);
        loop {
            let affordable = self.budget / row_bytes;
            let batch = match &mut slot.batch {
                Some(batch) => batch,
                None => {
                    slot.opened_us = meta.received_at.0;
                    slot.batch.insert(self.out.open(&slot.plan, self.config.batch_rows))
                }
            };
            let mut meta = *meta;
            meta.order = *self.order;
            *self.order += 1;
            let ran = slot.plan.run(body.get(at..).unwrap_or(&[]), left.min(affordable), &meta, &lookups, batch);
            at += ran.consumed;
            left -= ran.records;
            self.budget -= ran.records * row_bytes;
            outcome.records += ran.records as u32;
            if batch.is_full() {
                self.out.ready.extend(slot.batch.take());
                if ran.records > 0 || !ran.overrun {
                    if body.len() - at >= slot.plan.min_len() && left > 0 && affordable > ran.records {
                        continue;
                    }
                }
            }
            let rest = body.len() - at;
            let error = match (ran.overrun, rest >= slot.plan.min_len()) {
                (true, _) => Error::new(ErrorKind::RecordOverrun, offset + at, slot.plan.min_len(), rest),
                (false, true) if left == 0 => {
                    Error::new(ErrorKind::RecordLimit, offset + at, self.config.set_records, self.config.set_records)
                }
                (false, true) => {
                    Error::new(ErrorKind::ByteLimit, offset + at, self.config.message_bytes, self.config.message_bytes)
                }
                (false, false) => return true,
            };
            self.wrong(outcome, error);
            return false;
        }
    }

    /// Options records fill tables and go to the second stream.
    fn options(
        &mut self,
        template: &Arc<Template>,
        body: &[u8],
        offset: usize,
        meta: &RunMeta,
        outcome: &mut Outcome,
    ) -> bool {
        let (mut at, mut fields) = (0, Vec::with_capacity(template.fields.len()));
        let mut left = self.config.set_records;
        while body.len() - at >= template.min_len() as usize {
            fields.clear();
            let end = template.locate(body, at, &mut fields);
            let Some(end) = end.filter(|_| left > 0) else {
                let kind = if left > 0 { ErrorKind::RecordOverrun } else { ErrorKind::RecordLimit };
                self.wrong(outcome, Error::new(kind, offset + at, template.min_len() as usize, body.len() - at));
                return false;
            };
            self.exporter.tables.learn(self.key.domain, template, body, &fields);
            if self.out.options.len() < self.config.options_records {
                let mut meta = *meta;
                meta.order = *self.order;
                *self.order += 1;
                self.out.options.push_back(OptionsRecord {
                    meta,
                    template: template.clone(),
                    bytes: body[at..end].into(),
                    fields: fields.iter().map(|f| (f.0 - at as u32, f.1)).collect(),
                });
            } else {
                self.out.options_dropped += 1;
            }
            outcome.options_records += 1;
            self.own_options += 1;
            left -= 1;
            at = end;
        }
        true
    }
}

impl Plans {
    /// The slot of a template's plan, compiled when it is new.
    #[cold]
    fn slot(&mut self, template: Arc<Template>, registry: &Registry) -> usize {
        if let Some(&slot) = self.by_template.get(&template) {
            return slot;
        }
        if self.slots.len() >= MAX_PLANS {
            self.prune();
        }
        let plan = Plan::compile(&template, registry);
        self.slots.push(Slot { plan, batch: None, opened_us: 0, used_us: i64::MIN });
        self.by_template.insert(template, self.slots.len() - 1);
        self.slots.len() - 1
    }

    /// Gives up the older half of the plans without rows; a stream compiles what it still needs anew.
    fn prune(&mut self) {
        let mut ages: Vec<i64> = self.slots.iter().map(|s| s.used_us).collect();
        let middle = ages.len() / 2;
        let (_, &mut median, _) = ages.select_nth_unstable(middle);
        let mut kept: Vec<Option<usize>> = Vec::with_capacity(self.slots.len());
        let mut n = 0;
        for slot in &self.slots {
            let keep = slot.batch.is_some() || slot.used_us > median;
            kept.push(keep.then_some(n));
            n += usize::from(keep);
        }
        let mut i = 0;
        self.slots.retain(|_| {
            i += 1;
            kept[i - 1].is_some()
        });
        self.by_template.retain(|_, slot| match kept[*slot] {
            Some(new) => {
                *slot = new;
                true
            }
            None => false,
        });
        self.generation += 1;
    }
}

impl Output {
    /// An empty batch of a plan's layout: one that came back, or a new one.
    #[cold]
    fn open(&mut self, plan: &Plan, rows: usize) -> Batch {
        match self.spare.iter().position(|b| Arc::ptr_eq(b.layout(), plan.layout())) {
            Some(i) => self.spare.swap_remove(i),
            None => Batch::new(plan.layout().clone(), rows),
        }
    }
}
