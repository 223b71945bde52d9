//! What was sent, to hold against what was received.

use crate::encode::Body;
use serde_json::{Value, json};
use std::fmt;
use std::ops::AddAssign;
use std::time::Duration;

/// Sums over all that was sent.
///
/// A receiver that loses nothing counts exactly `datagrams`, `records`, `octets` and `packets`; what it counts less is
/// its loss. By sequence numbers it sees `missing` units gone astray and no more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Sent {
    /// Datagrams that the system took, duplicates included.
    pub datagrams: u64,
    /// Bytes of them, without UDP and IP headers.
    pub bytes: u64,
    /// Flow records in them.
    pub records: u64,
    /// Options records in them.
    pub options_records: u64,
    /// Sum of the flows' bytes.
    pub octets: u64,
    /// Sum of the flows' packets.
    pub packets: u64,
    /// Datagrams made and not sent, because loss was asked for.
    pub dropped_on_purpose: u64,
    /// Flow records in them.
    pub dropped_records: u64,
    /// What is missing of them by sequence numbers: flows of v5 and v7, messages of v9, data records of IPFIX.
    pub missing: u64,
    /// Datagrams sent after their successor.
    pub reordered: u64,
    /// Datagrams sent a second time.
    pub duplicated: u64,
    /// Times that the system refused a datagram because nobody listened; each was sent again.
    pub refused: u64,
    /// Sets of a replayed capture whose template never came: their records are in no sum.
    pub unknown_sets: u64,
    /// Exporters: pairs of an address and a port.
    pub exporters: u64,
    /// How long it took; by the clock of the capture where one was written.
    pub duration: Duration,
}

impl Sent {
    #[inline]
    pub(crate) fn add(&mut self, body: &Body, head: u8) {
        self.datagrams += 1;
        self.bytes += body.bytes.len() as u64 + u64::from(head);
        self.records += u64::from(body.sums.records);
        self.options_records += u64::from(body.sums.options_records);
        self.octets += body.sums.octets;
        self.packets += body.sums.packets;
        self.unknown_sets += u64::from(body.sums.unknown_sets);
    }

    pub(crate) fn drop(&mut self, body: &Body) {
        self.dropped_on_purpose += 1;
        self.dropped_records += u64::from(body.sums.records);
        self.missing += u64::from(body.sums.units);
    }

    pub(crate) fn undo_drop(&mut self, body: &Body) {
        self.dropped_on_purpose -= 1;
        self.dropped_records -= u64::from(body.sums.records);
        self.missing -= u64::from(body.sums.units);
    }

    /// Datagrams a second.
    pub fn datagrams_per_second(&self) -> f64 {
        rate(self.datagrams, self.duration)
    }

    /// Flow records a second.
    pub fn records_per_second(&self) -> f64 {
        rate(self.records, self.duration)
    }

    /// All of it as a JSON object.
    pub fn json(&self) -> Value {
        json!({
            "datagrams": self.datagrams,
            "bytes": self.bytes,
            "records": self.records,
            "options_records": self.options_records,
            "octets": self.octets,
            "packets": self.packets,
            "dropped_on_purpose": self.dropped_on_purpose,
            "dropped_records": self.dropped_records,
            "missing": self.missing,
            "reordered": self.reordered,
            "duplicated": self.duplicated,
            "refused": self.refused,
            "unknown_sets": self.unknown_sets,
            "exporters": self.exporters,
            "seconds": self.duration.as_secs_f64(),
            "datagrams_per_second": self.datagrams_per_second().round(),
            "records_per_second": self.records_per_second().round(),
        })
    }
}

fn rate(count: u64, duration: Duration) -> f64 {
    match duration.as_secs_f64() {
        0.0 => 0.0,
        seconds => count as f64 / seconds,
    }
}

impl AddAssign for Sent {
    /// Adds what another thread sent in the same time.
    fn add_assign(&mut self, other: Self) {
        self.datagrams += other.datagrams;
        self.bytes += other.bytes;
        self.records += other.records;
        self.options_records += other.options_records;
        self.octets += other.octets;
        self.packets += other.packets;
        self.dropped_on_purpose += other.dropped_on_purpose;
        self.dropped_records += other.dropped_records;
        self.missing += other.missing;
        self.reordered += other.reordered;
        self.duplicated += other.duplicated;
        self.refused += other.refused;
        self.unknown_sets += other.unknown_sets;
        self.exporters += other.exporters;
        self.duration = self.duration.max(other.duration);
    }
}

impl fmt::Display for Sent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "sent {} datagrams with {} flow records of {} exporters in {:.3} s: {:.0} datagrams/s, {:.0} records/s",
            self.datagrams,
            self.records,
            self.exporters,
            self.duration.as_secs_f64(),
            self.datagrams_per_second(),
            self.records_per_second()
        )?;
        writeln!(
            f,
            "  {} bytes of payload; the flows add up to {} bytes and {} packets",
            self.bytes, self.octets, self.packets
        )?;
        for (what, n) in [
            ("options records", self.options_records),
            ("datagrams dropped on purpose", self.dropped_on_purpose),
            ("units missing by sequence numbers (v5, v7: flows; v9: messages; IPFIX: records)", self.missing),
            ("datagrams sent after their successor", self.reordered),
            ("datagrams sent twice", self.duplicated),
            ("refusals, because nobody listens there; each was sent again", self.refused),
            ("sets without a template, in no sum", self.unknown_sets),
        ] {
            if n > 0 {
                writeln!(f, "  {n} {what}")?;
            }
        }
        Ok(())
    }
}
