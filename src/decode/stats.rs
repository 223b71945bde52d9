//! Counters: what happened to datagrams, sets and records.

use super::sequence::{Correction, SequenceEvent};
use crate::error::{Error, ErrorKind};

/// What decoding one datagram came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Outcome {
    /// Flow records appended to batches, late ones included.
    pub records: u32,
    /// Of them, records of sets that were held before.
    pub late_records: u32,
    /// Options records.
    pub options_records: u32,
    /// Sets seen: the sum of the next five.
    pub sets: u32,
    /// Sets decoded whole; v1, v5 and v7 count as one set.
    pub sets_decoded: u32,
    /// Data sets held until their template comes.
    pub sets_held: u32,
    /// Sets in which something is wrong; their good records are decoded.
    pub sets_malformed: u32,
    /// Sets passed over: reserved ids.
    pub sets_skipped: u32,
    /// Data sets that found no room to wait for their template.
    pub sets_without_room: u32,
    /// Data sets whose template is not known.
    pub unknown_templates: u32,
    /// Sets of earlier messages that were decoded now that their template came.
    pub late_sets: u32,
    /// The first thing that is wrong with the datagram, if any; its offset is a byte of the datagram.
    pub error: Option<Error>,
    /// Whether the datagram was refused: no header, an unknown version, too many exporters, or above its exporter's rate (its
    /// templates are read then).
    pub refused: bool,
    /// What the sequence number said.
    pub sequence: SequenceEvent,
}

/// Sums over many datagrams, of one exporter or of all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Datagrams seen.
    pub datagrams: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Datagrams without a header that can be read, or of an unknown version.
    pub datagrams_malformed: u64,
    /// Datagrams of exporters beyond the limit, and those above an exporter's rate.
    pub datagrams_limited: u64,
    /// Datagrams decoded although something in them is wrong.
    pub datagrams_damaged: u64,
    /// Flow records decoded.
    pub records: u64,
    /// Of them, late ones.
    pub late_records: u64,
    /// Options records decoded.
    pub options_records: u64,
    /// Options records that nobody took in time.
    pub options_dropped: u64,
    /// Sets seen: decoded, held, malformed, skipped and without room.
    pub sets: u64,
    /// Sets decoded whole.
    pub sets_decoded: u64,
    /// Sets held, whatever became of them: decoded late, expired, dropped, or still held.
    pub sets_held: u64,
    /// Sets with something wrong.
    pub sets_malformed: u64,
    /// Sets passed over: reserved ids.
    pub sets_skipped: u64,
    /// Sets that found no room to wait for their template: they are lost.
    pub sets_without_room: u64,
    /// Held sets decoded when their template came.
    pub held_decoded: u64,
    /// Held sets that waited too long.
    pub held_expired: u64,
    /// Held sets dropped by a withdrawal of their template.
    pub held_dropped: u64,
    /// Templates defined or changed.
    pub templates: u64,
    /// Templates withdrawn.
    pub withdrawals: u64,
    /// Units missing by sequence numbers: v5 and v7 flows, v9 messages, IPFIX data records.
    pub lost: u64,
    /// Gaps in sequences.
    pub gaps: u64,
    /// Messages that came after later ones.
    pub reordered: u64,
    /// Messages that came twice.
    pub duplicates: u64,
    /// Sequences that started anew.
    pub resets: u64,
    /// Messages whose sequence could not be judged.
    pub unverifiable: u64,
    /// Errors by [`ErrorKind::index`].
    pub errors: [u64; ErrorKind::COUNT],
}

impl Stats {
    /// Adds a datagram of `bytes` bytes that was one set of so many records, in order.
    #[inline]
    pub(super) fn add_one_set(&mut self, records: u64, bytes: usize) {
        self.datagrams += 1;
        self.bytes += bytes as u64;
        self.records += records;
        self.sets += 1;
        self.sets_decoded += 1;
    }

    /// Adds a datagram of `bytes` bytes.
    #[inline]
    pub(super) fn add(&mut self, o: &Outcome, bytes: usize) {
        self.datagrams += 1;
        self.bytes += bytes as u64;
        self.records += u64::from(o.records);
        self.sets += u64::from(o.sets);
        self.sets_decoded += u64::from(o.sets_decoded);
        if o.error.is_some() || o.options_records > 0 || o.sets != o.sets_decoded || o.late_records > 0 {
            self.add_rare(o);
        }
        if o.sequence != SequenceEvent::InOrder {
            self.correct(&o.sequence.counted());
        }
    }

    #[cold]
    fn add_rare(&mut self, o: &Outcome) {
        self.late_records += u64::from(o.late_records);
        self.options_records += u64::from(o.options_records);
        self.sets_held += u64::from(o.sets_held);
        self.sets_malformed += u64::from(o.sets_malformed);
        self.sets_skipped += u64::from(o.sets_skipped);
        self.sets_without_room += u64::from(o.sets_without_room);
        if let (true, Some(e)) = (o.refused, &o.error) {
            self.error(e);
        }
        match o.error {
            Some(e) if o.refused && matches!(e.kind, ErrorKind::ExporterLimit | ErrorKind::RateLimit) => {
                self.datagrams_limited += 1;
            }
            Some(_) if o.refused => self.datagrams_malformed += 1,
            Some(_) => self.datagrams_damaged += 1,
            None => {}
        }
    }

    /// Adds what a message, or a set decoded late, says about messages before it.
    #[cold]
    pub(super) fn correct(&mut self, fix: &Correction) {
        for (count, by) in [
            (&mut self.lost, fix.lost),
            (&mut self.gaps, fix.gaps),
            (&mut self.reordered, fix.reordered),
            (&mut self.duplicates, fix.duplicates),
            (&mut self.resets, fix.resets),
            (&mut self.unverifiable, fix.unverifiable),
        ] {
            *count = count.saturating_add_signed(by);
        }
    }

    /// Counts an error.
    pub(super) fn error(&mut self, error: &Error) {
        if let Some(n) = self.errors.get_mut(error.kind.index()) {
            *n += 1;
        }
    }

    /// Adds other sums.
    pub fn merge(&mut self, other: &Self) {
        macro_rules! add {
            ($($f:ident),*) => { $(self.$f += other.$f;)* };
        }
        add!(
            options_dropped,
            datagrams,
            bytes,
            datagrams_malformed,
            datagrams_limited,
            datagrams_damaged,
            records,
            late_records
        );
        add!(options_records, sets, sets_decoded, sets_held, sets_malformed, sets_skipped, held_decoded, held_expired);
        add!(sets_without_room);
        add!(held_dropped, templates, withdrawals, lost, gaps, reordered, duplicates, resets, unverifiable);
        for (a, b) in self.errors.iter_mut().zip(&other.errors) {
            *a += b;
        }
    }
}
