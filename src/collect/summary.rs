//! What a collector or a run over files has done: every datagram and row in its place, every loss by its cause.

use super::ledger::{ConnectionCounts, Refusal};
use super::worker::Ended;
use crate::decode::{Decoder, Stats};
use crate::error::ErrorKind;
use crate::net::MirrorStats;
use serde_json::{Map, Value, json};
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::net::IpAddr;

/// Sums over all threads.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Summary {
    /// How long it took.
    pub seconds: f64,
    /// What was decoded.
    pub stats: Stats,
    /// The same for each exporter, the busiest first.
    pub exporters: Vec<ExporterSummary>,
    /// Rows written.
    pub rows_written: u64,
    /// Rows that the filter left out.
    pub rows_filtered: u64,
    /// Those of them of which it could not tell: they lack a column that it looks at.
    pub rows_unknown: u64,
    /// Rows dropped because the writer was too slow, or failed.
    pub rows_dropped: u64,
    /// Those of them that could not be written, by why.
    pub rows_unwritten: Vec<(String, u64)>,
    /// And those of messages that have no line where lines are written, by why.
    pub rows_without_line: BTreeMap<&'static str, u64>,
    /// Options records dropped.
    pub options_dropped: u64,
    /// Options records that the output has no place for: one file or stream holds flows alone.
    pub options_passed_over: u64,
    /// Messages that the kernel dropped because a receive buffer was full; at least so many.
    pub kernel_drops: u64,
    /// Datagrams that were longer than the room for them.
    pub datagrams_truncated: u64,
    /// Datagrams of senders that are not allowed.
    pub datagrams_refused: u64,
    /// Errors that the network reported to a socket.
    pub socket_errors: u64,
    /// Sets that still wait for their template.
    pub sets_still_held: u64,
    /// IP packets of captures of which fragments are missing.
    pub fragments_lost: u64,
    /// Templates, options and waiting sets that could not be written down for the next start.
    pub state_lost: u64,
    /// What became of connections.
    pub connections: ConnectionCounts,
    /// What was repeated to other collectors.
    pub mirrors: Vec<MirrorStats>,
}

/// What one exporter sent.
#[derive(Clone, Debug)]
pub struct ExporterSummary {
    /// Its address.
    pub address: IpAddr,
    /// What was decoded.
    pub stats: Stats,
    /// Its rows that were dropped because the writer was too slow, or failed.
    pub rows_dropped: u64,
}

impl Summary {
    /// Of one decoder, without sockets.
    pub fn of(decoder: &Decoder) -> Self {
        let mut summary =
            Self { stats: decoder.stats(), sets_still_held: decoder.held_sets() as u64, ..Self::default() };
        summary.exporters = decoder
            .exporters()
            .map(|(address, stats)| ExporterSummary { address, stats: stats.clone(), rows_dropped: 0 })
            .collect();
        summary.exporters.sort_by(|a, b| b.stats.records.cmp(&a.stats.records).then(a.address.cmp(&b.address)));
        summary
    }

    /// Adds another run's.
    pub fn merge(&mut self, other: Self) {
        self.stats.merge(&other.stats);
        self.sets_still_held += other.sets_still_held;
        self.options_dropped += other.options_dropped;
        self.rows_written += other.rows_written;
        self.rows_filtered += other.rows_filtered;
        self.rows_unknown += other.rows_unknown;
        self.fragments_lost += other.fragments_lost;
        self.add_exporters(other.exporters.into_iter());
    }

    pub(super) fn add(&mut self, ended: &Ended) {
        self.stats.merge(&ended.stats);
        self.sets_still_held += ended.held;
        self.options_dropped += ended.options_dropped;
        for (why, rows) in &ended.lineless {
            *self.rows_without_line.entry(why).or_default() += rows;
        }
        self.state_lost += ended.learned_dropped;
        self.kernel_drops += ended.net.kernel_drops;
        self.datagrams_truncated += ended.net.truncated;
        self.socket_errors += ended.net.socket_errors;
        add_mirrors(&mut self.mirrors, &ended.mirrors);
        self.datagrams_refused += ended.refused;
        self.connections.merge(&ended.connections);
        let mut dropped: HashMap<IpAddr, u64> = ended.dropped.clone();
        self.add_exporters(ended.exporters.iter().map(|(address, stats)| ExporterSummary {
            address: *address,
            stats: stats.clone(),
            rows_dropped: dropped.remove(address).unwrap_or(0),
        }));
    }

    fn add_exporters(&mut self, more: impl Iterator<Item = ExporterSummary>) {
        let mut at: HashMap<IpAddr, usize> =
            self.exporters.iter().zip(0..).map(|(e, place)| (e.address, place)).collect();
        for one in more {
            let place = *at.entry(one.address).or_insert(self.exporters.len());
            match self.exporters.get_mut(place) {
                Some(known) => {
                    known.stats.merge(&one.stats);
                    known.rows_dropped += one.rows_dropped;
                }
                None => self.exporters.push(one),
            }
        }
    }

    /// Datagrams and messages that came, those of senders that are not allowed included, of which nothing else is counted.
    pub fn datagrams_received(&self) -> u64 {
        self.stats.datagrams + self.datagrams_refused
    }

    /// Adds the rows of exporters that could not be written.
    pub(super) fn add_unwritten(&mut self, rows: impl Iterator<Item = (IpAddr, u64)>) {
        let rows: HashMap<IpAddr, u64> = rows.filter(|r| r.1 > 0).collect();
        for exporter in &mut self.exporters {
            exporter.rows_dropped += rows.get(&exporter.address).copied().unwrap_or(0);
        }
    }

    /// The losses that are not zero, each with its cause in words.
    pub fn losses(&self) -> Vec<(Cow<'static, str>, u64)> {
        let s = &self.stats;
        let unwritten: u64 =
            self.rows_unwritten.iter().map(|u| u.1).chain(self.rows_without_line.values().copied()).sum();
        let datagrams = [
            ("datagrams refused: the sender is not allowed", self.datagrams_refused),
            ("datagrams refused: no NetFlow or IPFIX header", s.datagrams_malformed),
            ("datagrams limited: too many exporters, or above an exporter's rate", s.datagrams_limited),
            ("datagrams decoded in part", s.datagrams_damaged),
            ("datagrams longer than the buffer", self.datagrams_truncated),
            ("datagrams dropped by the kernel, at least (receive buffer full)", self.kernel_drops),
            ("errors reported to the socket", self.socket_errors),
            ("IP packets of which fragments are missing", self.fragments_lost),
        ];
        let connections = Refusal::ALL.map(|refusal| (refusal.cause(), self.connections.of(refusal)));
        let rest = [
            ("datagrams not repeated to a mirror", self.mirrors.iter().map(|m| m.unsent).sum()),
            ("rows dropped: the writer was too slow", self.rows_dropped.saturating_sub(unwritten)),
            ("options records dropped", self.options_dropped + s.options_dropped),
            ("options records not written (--out a folder keeps them)", self.options_passed_over),
            ("templates and options not written down for the next start", self.state_lost),
            ("sets malformed", s.sets_malformed),
            ("sets passed over (reserved ids)", s.sets_skipped),
            ("sets without room to wait for their template (--hold-bytes, --hold-sets)", s.sets_without_room),
            ("sets that never got their template", self.sets_still_held),
            ("sets held too long for their template", s.held_expired),
            ("sets dropped with a withdrawn template", s.held_dropped),
            ("flows or messages missing by sequence numbers", s.lost),
            ("messages out of order", s.reordered),
            ("messages sent twice", s.duplicates),
            ("sequences that started anew", s.resets),
        ];
        let failures =
            self.rows_unwritten.iter().map(|(why, n)| (format!("rows dropped: cannot write: {why}").into(), *n));
        let losses = datagrams.into_iter().chain(connections).chain(rest);
        let losses = losses.map(|(cause, n)| (Cow::from(cause), n));
        let lineless = self.rows_without_line.iter().map(|(why, n)| (format!("rows dropped: {why}").into(), *n));
        losses.chain(failures).chain(lineless).filter(|l| l.1 > 0).collect()
    }

    /// All of it.
    pub fn json(&self) -> Value {
        let exporters = self.exporters.iter().map(|e| {
            let mut object = stats_json(&e.stats);
            object.insert("exporter".into(), json!(e.address.to_string()));
            object.insert("rows_dropped".into(), json!(e.rows_dropped));
            Value::Object(object)
        });
        let mut total = stats_json(&self.stats);
        for (name, n) in [
            ("datagrams_received", self.datagrams_received()),
            ("rows_written", self.rows_written),
            ("rows_filtered", self.rows_filtered),
            ("rows_unknown", self.rows_unknown),
            ("rows_dropped", self.rows_dropped),
            ("options_dropped", self.options_dropped + self.stats.options_dropped),
            ("options_passed_over", self.options_passed_over),
            ("kernel_drops", self.kernel_drops),
            ("datagrams_truncated", self.datagrams_truncated),
            ("datagrams_refused", self.datagrams_refused),
            ("socket_errors", self.socket_errors),
            ("sets_still_held", self.sets_still_held),
            ("state_lost", self.state_lost),
            ("fragments_lost", self.fragments_lost),
        ] {
            total.insert(name.into(), json!(n));
        }
        let unwritten = self.rows_unwritten.iter().map(|(why, rows)| json!({ "error": why, "rows": rows }));
        total.insert("rows_unwritten".into(), unwritten.collect());
        let lineless = self.rows_without_line.iter().map(|(why, rows)| json!({ "why": why, "rows": rows }));
        total.insert("rows_without_line".into(), lineless.collect());
        total.insert("connections".into(), self.connections.json());
        total.insert("mirrors".into(), mirrors_json(&self.mirrors));
        total.insert("seconds".into(), json!(self.seconds));
        total.insert("exporters".into(), exporters.collect());
        Value::Object(total)
    }
}

/// Adds one thread's to the sums of all.
pub(super) fn add_mirrors(sums: &mut Vec<MirrorStats>, mirrors: &[MirrorStats]) {
    for mirror in mirrors {
        match sums.iter_mut().find(|sum| sum.target == mirror.target) {
            Some(sum) => {
                sum.sent += mirror.sent;
                sum.unsent += mirror.unsent;
                sum.why = mirror.why.or(sum.why);
            }
            None => sums.push(*mirror),
        }
    }
}

pub(super) fn mirrors_json(mirrors: &[MirrorStats]) -> Value {
    let why = |m: &MirrorStats| m.why.map(|why| why.to_string());
    let json =
        |m: &MirrorStats| json!({ "target": m.target.to_string(), "sent": m.sent, "unsent": m.unsent, "why": why(m) });
    mirrors.iter().map(json).collect()
}

fn stats_json(s: &Stats) -> Map<String, Value> {
    let mut object = Map::new();
    for (name, n) in [
        ("datagrams", s.datagrams),
        ("bytes", s.bytes),
        ("datagrams_malformed", s.datagrams_malformed),
        ("datagrams_limited", s.datagrams_limited),
        ("datagrams_damaged", s.datagrams_damaged),
        ("records", s.records),
        ("late_records", s.late_records),
        ("options_records", s.options_records),
        ("sets", s.sets),
        ("sets_decoded", s.sets_decoded),
        ("sets_held", s.sets_held),
        ("sets_malformed", s.sets_malformed),
        ("sets_skipped", s.sets_skipped),
        ("sets_without_room", s.sets_without_room),
        ("held_decoded", s.held_decoded),
        ("held_expired", s.held_expired),
        ("held_dropped", s.held_dropped),
        ("templates", s.templates),
        ("withdrawals", s.withdrawals),
        ("lost", s.lost),
        ("gaps", s.gaps),
        ("reordered", s.reordered),
        ("duplicates", s.duplicates),
        ("resets", s.resets),
        ("unverifiable", s.unverifiable),
    ] {
        object.insert(name.into(), json!(n));
    }
    let errors = ErrorKind::ALL.iter().zip(s.errors).filter(|e| e.1 > 0);
    object.insert("errors".into(), Value::Object(errors.map(|(k, n)| (k.name().into(), json!(n))).collect()));
    object
}

/// Exporters that the text names one by one.
const NAMED: usize = 20;

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let s = &self.stats;
        let refused = match self.datagrams_refused {
            0 => String::new(),
            n => format!(", {n} of them refused"),
        };
        writeln!(
            f,
            "{} datagrams{refused} ({} bytes), {} flow records, {} options records, {} rows written",
            self.datagrams_received(),
            s.bytes,
            s.records,
            s.options_records,
            self.rows_written
        )?;
        if self.connections.accepted > 0 {
            writeln!(f, "  {} connections", self.connections.accepted)?;
        }
        if self.rows_filtered > 0 {
            let (rows, unknown) = (self.rows_filtered, self.rows_unknown);
            writeln!(f, "  {rows} rows left out by the filter, {unknown} of them because they lack what it looks at")?;
        }
        for mirror in &self.mirrors {
            writeln!(f, "  {} datagrams repeated to {}", mirror.sent, mirror.target)?;
        }
        for e in self.exporters.iter().take(NAMED) {
            let t = &e.stats;
            write!(f, "  {}: {} datagrams, {} records", e.address, t.datagrams, t.records)?;
            for (what, n) in [
                ("options records", t.options_records),
                ("decoded late", t.late_records),
                ("damaged datagrams", t.datagrams_damaged),
                ("missing by sequence", t.lost),
                ("rows dropped", e.rows_dropped),
            ] {
                if n > 0 {
                    write!(f, ", {n} {what}")?;
                }
            }
            writeln!(f)?;
        }
        if self.exporters.len() > NAMED {
            let more = self.exporters.len() - NAMED;
            writeln!(f, "  and {more} more exporter{} (--json names all)", if more == 1 { "" } else { "s" })?;
        }
        for (cause, n) in self.losses() {
            writeln!(f, "  {n} {cause}")?;
        }
        for (kind, n) in ErrorKind::ALL.iter().zip(s.errors).filter(|e| e.1 > 0) {
            writeln!(f, "  {n} errors: {}", kind.name())?;
        }
        Ok(())
    }
}
