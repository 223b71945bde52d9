//! What one message does: its sets in wire order, and what waited for its templates.

use super::rules::Rule;
use super::sequence::Units;
use super::stats::Outcome;
use super::stream::{Exporter, LateUnits, Stream, Target};
use super::{Config, Work};
use crate::columns::{RunMeta, SamplingSource};
use crate::error::{Error, ErrorKind};
use crate::plan::Lookups;
use crate::template::{Event, Kind, Template};
use crate::wire::{Header, Message, Set};
use std::sync::Arc;

/// What is known of a held set's message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiting {
    meta: RunMeta,
    message: u64,
}

/// What became of the records of a set.
#[derive(Clone, Copy, Debug)]
struct Done {
    records: u32,
    options: u32,
    // Whether options told something new.
    new: bool,
    error: Option<Error>,
}

/// The parts of a decoder that one message works on.
pub(super) struct Scope<'d> {
    config: &'d Config,
    stream: &'d mut Stream,
    exporter: &'d mut Exporter,
    work: &'d mut Work,
    // Bytes of rows that the message may still become.
    budget: usize,
}

impl<'d> Scope<'d> {
    #[inline]
    pub(super) fn new(
        config: &'d Config,
        stream: &'d mut Stream,
        exporter: &'d mut Exporter,
        work: &'d mut Work,
    ) -> Self {
        Self { stream, exporter, work, budget: config.message_bytes, config }
    }

    /// Fills in what the exporter's tables say about the message.
    #[inline]
    pub(super) fn begin(&mut self, meta: &mut RunMeta, header: Header<'_>) {
        self.stream.last_us = meta.received_at.0;
        self.exporter.last_us = meta.received_at.0;
        if self.stream.plans_seen != self.work.plans.generation
            || self.stream.templates_seen != self.exporter.templates.generation()
        {
            self.forget_targets();
        }
        self.resolve(meta);
        (meta.sampling_rate, meta.sampling_source) = header_rate(header, self.stream.sampling);
    }

    /// What options data say about all records of the stream, from what is known now.
    #[inline]
    fn resolve(&mut self, meta: &mut RunMeta) {
        if self.stream.tables_seen != Some(self.exporter.tables.generation()) {
            self.ask_tables(meta.domain_id);
        }
        meta.sampling_rate = self.stream.sampling.0;
        meta.sampling_source = self.stream.sampling.1 as u8;
        meta.init_time_ms = self.stream.init_time_ms;
    }

    #[cold]
    fn ask_tables(&mut self, domain: u32) {
        let tables = &self.exporter.tables;
        self.stream.tables_seen = Some(tables.generation());
        let rate = tables.domain_rate(domain).map(|r| (r, SamplingSource::Domain));
        let rule = self.exporter.rule;
        let configured = rule.sampling_rate.or(self.config.sampling_rate).map(|r| (r, SamplingSource::Configured));
        let forced = rule.sampling_override.map(|r| (r, SamplingSource::Override));
        self.stream.sampling = forced.or(rate).or(configured).unwrap_or((f64::NAN, SamplingSource::None));
        self.stream.init_time_ms = tables.init_time_ms(domain);
    }

    #[cold]
    fn forget_targets(&mut self) {
        self.stream.targets.clear();
        self.stream.plans_seen = self.work.plans.generation;
        self.stream.templates_seen = self.exporter.templates.generation();
    }

    /// Counts an error; the first of the datagram goes to its outcome.
    #[cold]
    fn wrong(&mut self, outcome: &mut Outcome, error: Error) {
        outcome.error.get_or_insert(error);
        self.exporter.stats.error(&error);
    }

    /// Decodes the message; what its records and sets count goes to `units`.
    #[inline]
    pub(super) fn decode(
        &mut self,
        message: &Message<'_>,
        meta: &mut RunMeta,
        units: &mut Units,
        outcome: &mut Outcome,
    ) {
        if let Some(damage) = message.damage() {
            units.lost = true;
            self.wrong(outcome, damage);
        }
        if let Some(records) = message.fixed() {
            outcome.sets = 1;
            if let Some(target) = self.target(0, meta) {
                let done = self.records(&target, records.bytes, records.offset, meta);
                self.finish_set(done, message.damage().is_none(), units, outcome);
            }
        } else {
            for set in message.sets() {
                outcome.sets += 1;
                match set {
                    Ok(set) => self.set(&set, meta, units, outcome),
                    Err(error) => {
                        // A reserved id is passed over, and so is not all that was sent.
                        units.lost = true;
                        let skipped = error.kind == ErrorKind::ReservedSet;
                        outcome.sets_skipped += u32::from(skipped);
                        outcome.sets_malformed += u32::from(!skipped);
                        self.wrong(outcome, error);
                    }
                }
            }
        }
    }

    #[inline]
    fn finish_set(&mut self, done: Done, whole: bool, units: &mut Units, outcome: &mut Outcome) {
        outcome.records += done.records;
        outcome.options_records += done.options;
        units.known += done.records + done.options;
        units.options += done.options;
        if let Some(error) = done.error {
            self.wrong(outcome, error);
        }
        let clean = whole && done.error.is_none();
        units.lost |= !clean;
        outcome.sets_decoded += u32::from(clean);
        outcome.sets_malformed += u32::from(!clean);
    }

    #[inline]
    pub(super) fn set(&mut self, set: &Set<'_>, meta: &mut RunMeta, units: &mut Units, outcome: &mut Outcome) {
        if let Some(error) = set.overrun {
            self.wrong(outcome, error);
        }
        if set.id >= 256 {
            meta.template_id = set.id;
            if !self.exporter.provisional.is_empty() {
                self.prove(set, meta);
            }
            match self.target(set.id, meta) {
                Some(target) => {
                    let done = self.records(&target, set.body, set.offset, meta);
                    self.finish_set(done, set.overrun.is_none(), units, outcome);
                    if done.options > 0 {
                        self.resolve(meta);
                    }
                    if done.new {
                        self.work.learning.note(set);
                    }
                }
                None => self.hold(set, meta, units, outcome),
            }
        } else {
            let clean = self.templates(set, meta, outcome) && set.overrun.is_none();
            // Options data that waited for their template may be known now.
            self.resolve(meta);
            outcome.sets_decoded += u32::from(clean);
            outcome.sets_malformed += u32::from(!clean);
        }
    }

    /// Forgets a template from before a restart that a set does not fit: its exporter means another by now.
    #[cold]
    fn prove(&mut self, set: &Set<'_>, meta: &RunMeta) {
        let key = (meta.version, meta.domain_id, set.id);
        if !self.exporter.provisional.remove(&key) {
            return;
        }
        let found = self.exporter.templates.lookup(key.0, key.1, key.2, meta.exporter.port()).cloned();
        let Some(template) = found else { return };
        let (mut at, mut fields) = (0, std::mem::take(&mut self.work.fields));
        let min_len = (template.min_len() as usize).max(1);
        let fits = if template.record_len().is_some() {
            // What pads a set to a multiple of four is shorter than that.
            set.body.len() >= min_len && set.body.len() % min_len < 4
        } else {
            while set.body.len() - at >= min_len {
                fields.clear();
                match template.locate(set.body, at, &mut fields) {
                    Some(end) => at = end,
                    None => break,
                }
            }
            at > 0 && set.body.len() - at < min_len.min(4)
        };
        self.work.fields = fields;
        if !fits {
            self.exporter.templates.forget(key.0, key.1, key.2);
            self.forget_targets();
        }
    }

    /// Keeps a data set until its template comes.
    #[cold]
    fn hold(&mut self, set: &Set<'_>, meta: &RunMeta, units: &mut Units, outcome: &mut Outcome) {
        outcome.unknown_templates += 1;
        let error = Error::new(ErrorKind::UnknownTemplate, set.offset.saturating_sub(4), 0, usize::from(set.id));
        self.exporter.stats.error(&error);
        let waiting = Waiting { meta: *meta, message: units.message };
        let key = (self.exporter.origin, meta.version, meta.domain_id, set.id);
        if self.work.held.hold(key, set.body, meta.received_at.0, waiting) {
            self.work.learning.note(set);
            outcome.sets_held += 1;
            units.held += 1;
            units.lost |= set.overrun.is_some();
        } else {
            outcome.sets_without_room += 1;
            units.lost = true;
        }
    }

    /// Where the records of a template id of this stream go.
    #[inline]
    fn target(&mut self, id: u16, meta: &RunMeta) -> Option<Target> {
        match self.stream.targets.find(id) {
            Some(target) => Some(target.clone()),
            None => self.find_target(id, meta),
        }
    }

    #[cold]
    fn find_target(&mut self, id: u16, meta: &RunMeta) -> Option<Target> {
        let template = match meta.version {
            9 | 10 => self.exporter.templates.lookup(meta.version, meta.domain_id, id, meta.exporter.port())?,
            version => Template::constant(version)?,
        };
        let target = target_of(template, self.exporter.rule, self.config, self.work);
        if self.stream.plans_seen != self.work.plans.generation {
            self.forget_targets();
        }
        self.stream.targets.insert(id, target.clone());
        Some(target)
    }

    /// A template set: in wire order, what waited for a template is decoded when it comes.
    #[cold]
    fn templates(&mut self, set: &Set<'_>, meta: &RunMeta, outcome: &mut Outcome) -> bool {
        let mut events = std::mem::take(&mut self.work.events);
        let before = self.exporter.templates.generation();
        self.exporter.templates.apply(set, meta.domain_id, meta.exporter.port(), |e| events.push(e));
        if self.exporter.templates.generation() != before {
            self.work.learning.note(set);
        }
        if self.stream.templates_seen != self.exporter.templates.generation() {
            self.forget_targets();
        }
        let (mut clean, mut all_dropped) = (true, false);
        for event in events.drain(..) {
            match event {
                Event::Defined { template, changed } => {
                    if !self.exporter.provisional.is_empty() {
                        self.exporter.provisional.remove(&(meta.version, meta.domain_id, template.id));
                    }
                    self.exporter.stats.templates += u64::from(changed);
                    self.exporter.templates.mark(meta.version, meta.domain_id, template.id, meta.received_at.0);
                    self.late(&template, meta, outcome);
                }
                Event::Invalid { error, .. } => {
                    clean = false;
                    self.wrong(outcome, error);
                }
                Event::Withdrawn { id } => self.withdrawn(Some(id), meta),
                Event::WithdrawnAll { .. } => {
                    // Nothing is held anew within a template set: one look is enough.
                    if all_dropped {
                        self.exporter.stats.withdrawals += 1;
                    } else {
                        self.withdrawn(None, meta);
                    }
                    all_dropped = true;
                }
            }
        }
        self.work.events = events;
        clean
    }

    /// Drops what waited for one template of the domain, or for any.
    fn withdrawn(&mut self, id: Option<u16>, meta: &RunMeta) {
        let (origin, version, domain) = (self.exporter.origin, meta.version, meta.domain_id);
        self.exporter.stats.withdrawals += 1;
        if !self.work.held.is_empty() {
            self.exporter.stats.held_dropped += self.work.held.drop_domain(origin, version, domain, id) as u64;
        }
    }

    /// Decodes the sets that waited for a template, with their own messages' metadata.
    fn late(&mut self, template: &Arc<Template>, now: &RunMeta, outcome: &mut Outcome) {
        if self.work.held.is_empty() {
            return;
        }
        let key = (self.exporter.origin, now.version, now.domain_id, template.id);
        let sets = self.work.held.take(key);
        // By the definition itself: the same set may have removed it again.
        let target = target_of(template, self.exporter.rule, self.config, self.work);
        for (body, waiting) in sets {
            let mut meta = waiting.meta;
            let port = meta.exporter.port();
            meta.late = true;
            self.resolve(&mut meta);
            let done = self.records(&target, &body, 0, &mut meta);
            outcome.records += done.records;
            outcome.options_records += done.options;
            outcome.late_records += done.records;
            outcome.late_sets += 1;
            self.exporter.stats.held_decoded += 1;
            if let Some(error) = done.error {
                // Its position is in a datagram that is gone: counted, not reported.
                self.exporter.stats.error(&error);
            }
            if now.version == 10 {
                self.work.late.push(LateUnits {
                    port,
                    message: waiting.message,
                    units: done.records + done.options,
                    whole: done.error.is_none(),
                });
            }
        }
    }

    /// The records of a set that starts at byte `offset` of the datagram.
    #[inline]
    fn records(&mut self, target: &Target, body: &[u8], offset: usize, meta: &mut RunMeta) -> Done {
        match target {
            Target::Plan(slot) => self.run(*slot, body, offset, meta),
            Target::Options(template) => self.options(template, body, offset, meta),
        }
    }

    /// The data records of a set.
    fn run(&mut self, slot: usize, body: &[u8], offset: usize, meta: &mut RunMeta) -> Done {
        let mut done = Done { records: 0, options: 0, new: false, error: None };
        let (plans, out) = (&mut self.work.plans, &mut self.work.out);
        let Some(slot) = plans.slots.get_mut(slot) else { return done };
        slot.used_us = meta.received_at.0;
        let (mut at, mut left) = (0, self.config.set_records);
        loop {
            if slot.batch.is_none() {
                slot.opened_us = meta.received_at.0;
                out.open(slot);
            }
            let Some(batch) = &mut slot.batch else { break };
            meta.order = self.work.order;
            self.work.order += 1;
            let rest = body.get(at..).unwrap_or(&[]);
            // A record has a byte at least: most sets are affordable without a division.
            let affordable =
                if rest.len() * slot.row_bytes <= self.budget { left } else { self.budget / slot.row_bytes };
            let ran = slot.plan.run(rest, left.min(affordable), meta, &Known { exporter: self.exporter, meta }, batch);
            let full = batch.is_full();
            at += ran.consumed;
            left -= ran.records.min(left);
            let bytes = ran.records * slot.row_bytes;
            self.budget = self.budget.saturating_sub(bytes);
            out.open_bytes += bytes;
            done.records += ran.records as u32;
            slot.records += ran.records as u64;
            if full {
                out.close(slot);
            }
            let (rest, need) = (body.len() - at.min(body.len()), slot.plan.min_len());
            if rest < need {
                break;
            }
            let error = if ran.overrun {
                Error::new(ErrorKind::RecordOverrun, offset + at, need, rest)
            } else if left == 0 {
                Error::new(ErrorKind::RecordLimit, offset + at, self.config.set_records, self.config.set_records)
            } else if full {
                continue;
            } else {
                Error::new(ErrorKind::ByteLimit, offset + at, self.config.message_bytes, self.config.message_bytes)
            };
            done.error = Some(error);
            break;
        }
        if out.is_over() {
            plans.flush(out);
        }
        done
    }

    /// Options records fill tables and go to the second stream.
    #[cold]
    fn options(&mut self, template: &Arc<Template>, body: &[u8], offset: usize, meta: &mut RunMeta) -> Done {
        let mut done = Done { records: 0, options: 0, new: false, error: None };
        let mut fields = std::mem::take(&mut self.work.fields);
        let (mut at, need) = (0, template.min_len() as usize);
        meta.order = self.work.order;
        self.work.order += 1;
        self.work.out.options.begin(meta, template);
        while body.len() - at >= need {
            if done.options as usize >= self.config.set_records {
                let limit = self.config.set_records;
                done.error = Some(Error::new(ErrorKind::RecordLimit, offset + at, limit, limit));
                break;
            }
            fields.clear();
            let Some(end) = template.locate(body, at, &mut fields) else {
                done.error = Some(Error::new(ErrorKind::RecordOverrun, offset + at, need, body.len() - at));
                break;
            };
            done.new |= self.exporter.tables.learn(meta.domain_id, template, body, &fields);
            if self.work.out.options_full() {
                self.exporter.stats.options_dropped += 1;
            } else {
                self.work.out.options.push(body.get(at..end).unwrap_or(&[]), at as u32, &fields);
            }
            done.options += 1;
            at = end;
        }
        self.work.fields = fields;
        done
    }
}

/// The sampling rate of a message: what is known of its stream, or what a v5 header says.
#[inline]
pub(super) fn header_rate(header: Header<'_>, stream: (f64, SamplingSource)) -> (f64, u8) {
    match header {
        // The top two bits are the mode.
        Header::V5(h)
            if !matches!(stream.1, SamplingSource::Domain | SamplingSource::Override)
                && h.sampling.get() & 0x3fff != 0 =>
        {
            (f64::from(h.sampling.get() & 0x3fff), SamplingSource::Header as u8)
        }
        _ => (stream.0, stream.1 as u8),
    }
}

/// What the exporter's tables know for a message.
pub(super) struct Known<'a> {
    pub(super) exporter: &'a Exporter,
    pub(super) meta: &'a RunMeta,
}

impl Lookups for Known<'_> {
    fn rate(&self, sampler: u64) -> Option<(f64, SamplingSource)> {
        let rate = self.exporter.tables.sampler_rate(self.meta.domain_id, sampler);
        rate.map(|r| (r, SamplingSource::Sampler))
    }

    fn template(&self, id: u16) -> Option<Arc<Template>> {
        let RunMeta { version, domain_id, exporter, .. } = self.meta;
        self.exporter.templates.lookup(*version, *domain_id, id, exporter.port()).cloned()
    }
}

/// Where the records of a template go.
fn target_of(template: &Arc<Template>, rule: Rule, config: &Config, work: &mut Work) -> Target {
    match template.kind {
        Kind::Options => Target::Options(template.clone()),
        Kind::Data => {
            Target::Plan(work.plans.slot(template, rule.fractions.unwrap_or_default(), config, &mut work.out))
        }
    }
}
