//! The messages that make up nearly all traffic: one set of whole records, of a template that is known, next in the
//! sequence of a stream that is known, with room for all of it.
//!
//! All of that is asked before anything is touched. A message of which something is not so goes the long way, which
//! can do everything and comes to the same where both can.

use super::message::{Known, header_rate};
use super::plans::Slot;
use super::stats::Outcome;
use super::stream::{Sender, Target};
use super::{Decoder, Timestamp};
use crate::columns::RunMeta;
use crate::wire::Message;

impl Decoder {
    /// Decodes such a message into a fresh outcome; false, and nothing is touched, where it is another.
    #[inline(always)]
    pub(super) fn steady(
        &mut self,
        message: &Message<'_>,
        bytes: usize,
        sender: &Sender<'_>,
        received_at: Timestamp,
        outcome: &mut Outcome,
    ) -> bool {
        self.try_steady(message, bytes, sender, received_at, outcome).is_some()
    }

    #[inline(always)]
    fn try_steady(
        &mut self,
        message: &Message<'_>,
        bytes: usize,
        sender: &Sender<'_>,
        received_at: Timestamp,
        outcome: &mut Outcome,
    ) -> Option<()> {
        let set = message.one_set()?;
        let id = sender.stream(message.version(), message.domain_id());
        let place = self.streams.find(&id)?;
        let (stream, meta) = self.streams.at(place)?;
        let known = self.exporters.at(stream.exporter)?;
        let work = &mut self.work;
        let (version, number) = (message.version(), message.sequence());
        let fresh = stream.plans_seen == work.plans.generation
            && stream.templates_seen == known.templates.generation()
            && stream.tables_seen == Some(known.tables.generation());
        if !fresh || version != 1 && !stream.sequence.is_next(number) || received_at.0 >= self.next_tick_us {
            return None;
        }
        let Some(&Target::Plan(slot)) = stream.targets.find(set.id) else { return None };
        let Slot { plan, batch: Some(batch), row_bytes, used_us, records: all, .. } = work.plans.slots.get_mut(slot)?
        else {
            return None;
        };
        // A record more than may be decoded shows that the long way has to count.
        let limits = &self.config;
        let most = batch.room().min(limits.set_records.saturating_add(1));
        let found = plan.find(set.body, most, batch);
        let records = found.records;
        let (row_bytes, open) = (records * *row_bytes, &mut work.out.open_bytes);
        if records == 0
            || records == most
            || found.overrun
            || row_bytes > limits.message_bytes
            || *open + row_bytes > limits.batch_bytes
        {
            return None;
        }

        work.messages += 1;
        *open += row_bytes;
        *used_us = received_at.0;
        *all += records as u64;
        (stream.last_us, known.last_us) = (received_at.0, received_at.0);
        let (sampling_rate, sampling_source) = header_rate(message.header(), stream.sampling);
        let fresh = Fresh {
            received_at,
            export_time: Timestamp(message.export_time_us()),
            sequence: number,
            uptime_ms: message.uptime_ms(),
            template_id: set.id,
            sampling_rate,
            sampling_source,
        };
        // Copied before it is written to: a copy of what was just stored piece by piece waits for all the stores.
        if let Some(run) = batch.begin(records, meta) {
            fresh.write(run);
            run.time_source = plan.time_source(meta);
            run.order = work.order;
        }
        fresh.write(meta);
        work.order += 1;
        plan.run_found(set.body, found, meta, &Known { exporter: known, meta }, batch);
        if version != 1 {
            let units = if version == 9 { 1 } else { records as u32 };
            stream.sequence.next(number, units, fresh.uptime_ms);
        }
        known.stats.add_one_set(records as u64, bytes);
        (outcome.records, outcome.sets, outcome.sets_decoded) = (records as u32, 1, 1);
        Some(())
    }
}

/// What changes from one message of a stream to the next.
#[derive(Clone, Copy)]
struct Fresh {
    received_at: Timestamp,
    export_time: Timestamp,
    sequence: u32,
    uptime_ms: Option<u32>,
    template_id: u16,
    sampling_rate: f64,
    sampling_source: u8,
}

impl Fresh {
    #[inline(always)]
    fn write(&self, meta: &mut RunMeta) {
        meta.received_at = self.received_at;
        meta.export_time = self.export_time;
        meta.sequence = self.sequence;
        meta.uptime_ms = self.uptime_ms;
        meta.template_id = self.template_id;
        meta.sampling_rate = self.sampling_rate;
        meta.sampling_source = self.sampling_source;
    }
}
