//! The ledger: where every datagram, set and row went, of each exporter and in total.
//!
//! ```text
//! datagrams  received = refused + limited + malformed + decoded
//! sets       seen     = decoded + held + malformed + skipped + without room
//! held sets  held     = decoded late + expired + dropped + still held
//! rows       decoded  = written + filtered + dropped + pending   late ones included
//! options    decoded  = written + passed over + dropped + pending
//! connections accepted = refused + limited + closed + timed out + malformed + failed + open
//! ```
//!
//! A message of a connection counts as a datagram.
//!
//! Each datagram is in one class; damaged and duplicate are told beside the sum. The sum over exporters and what belongs
//! to none of them (`other`) is the total.

mod connections;

pub use connections::ConnectionCounts;
pub(super) use connections::{LastRefused, Refusal};

use super::board::{ByAddress, Kept, Part, lock};
use super::summary::{add_mirrors, mirrors_json};
use crate::columns::Timestamp;
use crate::decode::Stats;
use crate::error::ErrorKind;
use crate::keep::Progress;
use crate::net::{Local, MirrorStats};
use crate::template::OwnTotals;
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// Sums of one exporter, or of all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Account {
    /// What the decoder counted.
    pub stats: Stats,
    /// Datagrams of senders that are not allowed, which the decoder never saw.
    pub refused: u64,
    /// Sets that wait for their template now.
    pub still_held: u64,
    /// Rows that the sink took; none where there is no sink.
    pub rows_written: u64,
    /// Rows that the filter left out.
    pub rows_filtered: u64,
    /// Those of them of which it could not tell: they lack a column that it looks at.
    pub rows_unknown: u64,
    /// Rows that the sink had no room for, or could not write.
    pub rows_dropped: u64,
    /// Those of them that had been written: somebody removed what they were in.
    pub rows_lost: u64,
    /// Its connections.
    pub connections: ConnectionCounts,
}

impl Account {
    /// Datagrams with a header that was read, of exporters within the limit.
    pub fn datagrams_decoded(&self) -> u64 {
        self.stats.datagrams.saturating_sub(self.stats.datagrams_malformed + self.stats.datagrams_limited)
    }

    /// Datagrams that came, the refused ones included.
    pub fn datagrams(&self) -> u64 {
        self.refused + self.stats.datagrams
    }

    /// Rows on their way to the sink.
    pub fn rows_pending(&self) -> u64 {
        self.stats.records.saturating_sub(self.rows_written + self.rows_filtered + self.rows_dropped)
    }

    /// The sums that do not add up: a name, what went in, and what is accounted for.
    pub fn imbalances(&self) -> Vec<(&'static str, u64, u64)> {
        let s = &self.stats;
        let mut sums = vec![
            (
                "datagrams",
                self.datagrams(),
                self.refused + s.datagrams_limited + s.datagrams_malformed + self.datagrams_decoded(),
            ),
            ("sets", s.sets, s.sets_decoded + s.sets_held + s.sets_malformed + s.sets_skipped + s.sets_without_room),
            ("held sets", s.sets_held, s.held_decoded + s.held_expired + s.held_dropped + self.still_held),
            ("connections", self.connections.accepted, self.connections.classes().iter().map(|class| class.1).sum()),
            ("rows", s.records, self.rows_written + self.rows_filtered + self.rows_dropped + self.rows_pending()),
            ("rows filtered, those unknown at most", self.rows_unknown, self.rows_unknown.min(self.rows_filtered)),
        ];
        sums.retain(|sum| sum.1 != sum.2);
        sums
    }

    pub(super) fn merge(&mut self, other: &Self) {
        self.stats.merge(&other.stats);
        self.refused += other.refused;
        self.still_held += other.still_held;
        self.rows_written += other.rows_written;
        self.rows_filtered += other.rows_filtered;
        self.rows_unknown += other.rows_unknown;
        self.rows_dropped += other.rows_dropped;
        self.rows_lost += other.rows_lost;
        self.connections.merge(&other.connections);
    }

    /// All of it; rows beyond those decoded only where there is a sink.
    pub fn json(&self, sink: bool) -> Map<String, Value> {
        let s = &self.stats;
        let mut rows = json!({ "decoded": s.records, "late": s.late_records });
        if sink {
            rows["written"] = json!(self.rows_written);
            rows["filtered"] = json!(self.rows_filtered);
            rows["filtered_unknown"] = json!(self.rows_unknown);
            rows["dropped"] = json!(self.rows_dropped);
            rows["dropped_after_written"] = json!(self.rows_lost);
            rows["pending"] = json!(self.rows_pending());
        }
        let errors = ErrorKind::ALL.iter().zip(s.errors).filter(|e| e.1 > 0);
        let errors: Map<String, Value> = errors.map(|(k, n)| (k.name().into(), json!(n))).collect();
        let all = json!({
            "datagrams": {
                "received": self.datagrams(),
                "bytes": s.bytes,
                "refused": self.refused,
                "limited": s.datagrams_limited,
                "malformed": s.datagrams_malformed,
                "decoded": self.datagrams_decoded(),
                "damaged": s.datagrams_damaged,
            },
            "sets": {
                "seen": s.sets,
                "decoded": s.sets_decoded,
                "held": s.sets_held,
                "malformed": s.sets_malformed,
                "skipped": s.sets_skipped,
                "without_room": s.sets_without_room,
            },
            "held_sets": {
                "held": s.sets_held,
                "decoded_late": s.held_decoded,
                "expired": s.held_expired,
                "dropped": s.held_dropped,
                "still_held": self.still_held,
            },
            "rows": rows,
            "options_records": s.options_records,
            "connections": self.connections.json(),
            "templates": { "defined": s.templates, "withdrawn": s.withdrawals },
            "sequence": {
                "lost": s.lost,
                "gaps": s.gaps,
                "reordered": s.reordered,
                "duplicates": s.duplicates,
                "resets": s.resets,
                "unverifiable": s.unverifiable,
            },
            "errors": errors,
        });
        match all {
            Value::Object(all) => all,
            _ => Map::new(),
        }
    }
}

/// What one exporter sent, and what it says of itself.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ExporterAccount {
    /// Its address.
    pub address: IpAddr,
    /// Its sums.
    pub account: Account,
    /// When its last message was received.
    pub last_seen: Timestamp,
    /// The export time of its last message against the time received, microseconds: above zero where its clock is ahead.
    pub clock_skew_us: Option<i64>,
    /// The protocol versions that it sends.
    pub versions: Vec<u8>,
    /// The receiving threads that hear of it: one, unless it is spread or has connections, too.
    pub threads: Vec<usize>,
    /// Templates known of it now.
    pub templates: usize,
    /// What its options data say of its own work.
    pub own: OwnTotals,
}

impl ExporterAccount {
    /// All of it.
    pub fn json(&self, sink: bool) -> Value {
        let mut all = Map::new();
        all.insert("exporter".into(), json!(self.address.to_string()));
        all.insert("versions".into(), json!(self.versions));
        all.insert("threads".into(), json!(self.threads));
        all.insert("last_seen".into(), json!(seconds(self.last_seen.0)));
        all.insert("clock_skew_seconds".into(), json!(self.clock_skew_us.map(seconds)));
        all.insert("known_templates".into(), json!(self.templates));
        let own: Map<String, Value> = self.own.iter().map(|(name, n)| (name.into(), json!(n))).collect();
        all.insert("own_totals".into(), Value::Object(own));
        all.append(&mut self.account.json(sink));
        Value::Object(all)
    }
}

/// What the kernel threw away at one socket, because its receive buffer was full.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SocketAccount {
    /// Where it listens.
    pub local: Local,
    /// The receiving thread that has it.
    pub thread: usize,
    /// Messages thrown away; a train of joined datagrams counts once, so at least so many.
    pub kernel_drops: u64,
}

/// Options records, which go to a place of their own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct OptionsAccount {
    /// Options records decoded.
    pub decoded: u64,
    /// Written.
    pub written: u64,
    /// Those that the sink has no place for.
    pub passed_over: u64,
    /// Those that found no room on the way, or could not be written.
    pub dropped: u64,
}

impl OptionsAccount {
    /// Those on their way.
    pub fn pending(&self) -> u64 {
        self.decoded.saturating_sub(self.written + self.passed_over + self.dropped)
    }
}

/// What became of rows after they were written to a segment: another thread seals it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeepingAccount {
    /// Segments that wait to be sealed. Under load they may be many: receiving comes first.
    pub segments_waiting: u64,
    /// Rows in sealed files of this process.
    pub rows_sealed: u64,
    /// Those files.
    pub files_sealed: u64,
    /// Their bytes.
    pub bytes_sealed: u64,
    /// Small files that were made one.
    pub files_compacted: u64,
    /// Files removed because they were old or too many.
    pub files_retired: u64,
    /// Files that should go and could not be removed, when that was tried last.
    pub files_stuck: u64,
    /// Segments and sealed files that are damaged: each was found once.
    pub files_damaged: u64,
    /// Rows of such segments that could not be read, as far as that can be told.
    pub rows_damaged: u64,
    /// Times that sealing, or looking for what should go or be made one, failed; it is tried again.
    pub failures: u64,
    /// What was wrong the last time.
    pub last_failure: Option<String>,
}

impl KeepingAccount {
    pub(super) fn of(progress: &Progress) -> Self {
        let last = lock(&progress.last_failure).clone();
        Self {
            segments_waiting: progress.segments_waiting.load(Relaxed),
            rows_sealed: progress.rows_sealed.load(Relaxed),
            files_sealed: progress.files_sealed.load(Relaxed),
            bytes_sealed: progress.bytes_sealed.load(Relaxed),
            files_compacted: progress.files_compacted.load(Relaxed),
            files_retired: progress.files_retired.load(Relaxed),
            files_stuck: progress.files_stuck.load(Relaxed),
            files_damaged: progress.files_damaged.load(Relaxed),
            rows_damaged: progress.rows_damaged.load(Relaxed),
            failures: progress.failures.load(Relaxed),
            last_failure: Some(last).filter(|text| !text.is_empty()),
        }
    }

    fn json(&self) -> Value {
        json!({
            "segments_waiting": self.segments_waiting,
            "rows_sealed": self.rows_sealed,
            "files_sealed": self.files_sealed,
            "bytes_sealed": self.bytes_sealed,
            "files_compacted": self.files_compacted,
            "files_retired": self.files_retired,
            "files_stuck": self.files_stuck,
            "files_damaged": self.files_damaged,
            "rows_damaged": self.rows_damaged,
            "failures": self.failures,
            "last_failure": self.last_failure,
        })
    }
}

/// What became of what was learned on the way to the disk, for the next start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StateAccount {
    /// Entries that are not in the file yet.
    pub waiting: u64,
    /// Those that never will be: there was no room for them.
    pub lost: u64,
    /// Times that writing failed; it is tried again.
    pub failures: u64,
    /// Why it fails, as long as it does.
    pub failing: Option<String>,
}

impl StateAccount {
    fn json(&self) -> Value {
        json!({ "waiting": self.waiting, "lost": self.lost, "failures": self.failures, "failing": self.failing })
    }
}

/// The ledger at one moment.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Ledger {
    /// Seconds since the collector started.
    pub seconds: f64,
    /// The sum of all.
    pub total: Account,
    /// Each exporter, the busiest first.
    pub exporters: Vec<ExporterAccount>,
    /// What belongs to no exporter that is known: refused datagrams of strangers, and exporters that were forgotten.
    pub other: Account,
    /// Options records.
    pub options: OptionsAccount,
    /// The sockets.
    pub sockets: Vec<SocketAccount>,
    /// Datagrams that the sockets handed over; those in the total, but for what is being decoded.
    pub datagrams_received: u64,
    /// Datagrams that were longer than the room for them.
    pub datagrams_truncated: u64,
    /// Errors that the network reported to a socket.
    pub socket_errors: u64,
    /// Lines of the log that nobody read in time.
    pub log_lines_dropped: u64,
    /// What was repeated to other collectors.
    pub mirrors: Vec<MirrorStats>,
    /// What became of rows on the disk, where they are kept as Parquet.
    pub keeping: Option<KeepingAccount>,
    /// What became of what was learned, where it is kept for a restart.
    pub state: Option<StateAccount>,
    /// Whether rows are written anywhere.
    pub has_sink: bool,
    /// Whether every receiving thread answered.
    pub is_fresh: bool,
    pub(super) last_refused: LastRefused,
    pub(super) last_broken: Option<(Timestamp, String)>,
    pub(super) last_beyond_limit: Option<(Timestamp, SocketAddr)>,
}

impl Ledger {
    /// Made in the room of one before. The second value is what of `rows` belongs to exporters that nobody knows.
    pub(super) fn of(
        parts: &[Arc<Part>],
        mut rows: HashMap<IpAddr, Kept>,
        mut room: Vec<ExporterAccount>,
    ) -> (Self, Vec<(IpAddr, Kept)>) {
        let most: usize = parts.iter().map(|part| part.exporters.len()).sum();
        room.clear();
        room.reserve_exact(most);
        let mut ledger = Self { exporters: room, ..Self::default() };
        let mut at: ByAddress<usize> = ByAddress::default();
        at.reserve(most);
        for (thread, part) in parts.iter().enumerate() {
            ledger.other.stats.merge(&part.others);
            ledger.other.refused += part.refused;
            for e in &part.exporters {
                let place = *at.entry(e.address).or_insert_with(|| {
                    ledger.exporters.push(ExporterAccount {
                        address: e.address,
                        account: Account::default(),
                        last_seen: Timestamp(i64::MIN),
                        clock_skew_us: None,
                        versions: Vec::new(),
                        threads: Vec::new(),
                        templates: 0,
                        own: OwnTotals::default(),
                    });
                    ledger.exporters.len() - 1
                });
                let Some(known) = ledger.exporters.get_mut(place) else { continue };
                known.account.stats.merge(&e.stats);
                known.templates += e.templates;
                if e.stats.datagrams > 0 && known.threads.last() != Some(&thread) {
                    known.threads.push(thread);
                }
                known.own.add(&e.own);
                known.versions.extend((0..16).filter(|v| e.versions & 1 << v != 0));
                if e.last_seen >= known.last_seen {
                    (known.last_seen, known.clock_skew_us) = (e.last_seen, e.skew_us);
                }
            }
            ledger.sockets.extend(part.sockets.iter().map(|s| SocketAccount {
                local: s.0.clone(),
                thread,
                kernel_drops: s.1,
            }));
            ledger.options.dropped += part.options_dropped;
            ledger.datagrams_received += part.net.datagrams;
            ledger.datagrams_truncated += part.net.truncated;
            ledger.socket_errors += part.net.socket_errors;
            add_mirrors(&mut ledger.mirrors, &part.mirrors);
        }
        parts.iter().for_each(|part| ledger.last_refused.merge(&part.last_refused));
        ledger.last_broken = parts.iter().filter_map(|part| part.last_broken.as_ref()).max().cloned();
        ledger.last_beyond_limit = parts.iter().filter_map(|part| part.last_beyond_limit).max();
        for (address, held) in parts.iter().flat_map(|p| &p.held) {
            match at.get(address).and_then(|&place| ledger.exporters.get_mut(place)) {
                Some(known) => known.account.still_held += held,
                None => ledger.other.still_held += held,
            }
        }
        for (address, counts) in parts.iter().flat_map(|p| &p.connections) {
            match at.get(address).and_then(|&place| ledger.exporters.get_mut(place)) {
                Some(known) => known.account.connections.merge(counts),
                None => ledger.other.connections.merge(counts),
            }
        }
        for known in &mut ledger.exporters {
            known.versions.sort_unstable();
            known.versions.dedup();
        }
        let gone: Vec<_> = rows.extract_if(|address, _| !at.contains_key(address)).collect();
        for (address, dropped) in parts.iter().flat_map(|p| &p.dropped) {
            rows.entry(*address).or_default().dropped += dropped;
        }
        for (address, kept) in rows.into_iter().chain(gone.iter().copied()) {
            ledger.place_rows(at.get(&address).copied(), kept);
        }
        ledger.exporters.iter().for_each(|e| ledger.total.merge(&e.account));
        ledger.total.merge(&ledger.other);
        let busiest = |a: &ExporterAccount, b: &ExporterAccount| {
            b.account.stats.records.cmp(&a.account.stats.records).then(a.address.cmp(&b.address))
        };
        ledger.exporters.sort_by(busiest);
        ledger.options.decoded = ledger.total.stats.options_records;
        ledger.options.dropped += ledger.total.stats.options_dropped;
        (ledger, gone)
    }

    /// Rows of an exporter that was forgotten meanwhile, and came again, belong in part to what was forgotten.
    fn place_rows(&mut self, place: Option<usize>, mut kept: Kept) {
        if let Some(known) = place.and_then(|place| self.exporters.get_mut(place)) {
            let account = &mut known.account;
            account.rows_dropped = kept.dropped.min(account.stats.records);
            account.rows_lost = kept.lost.min(account.rows_dropped);
            let left = account.stats.records - account.rows_dropped;
            account.rows_filtered = kept.left_out.rows.min(left);
            account.rows_unknown = kept.left_out.unknown.min(account.rows_filtered);
            account.rows_written = kept.written.min(left - account.rows_filtered);
            kept.dropped -= account.rows_dropped;
            kept.lost -= account.rows_lost;
            kept.left_out.rows -= account.rows_filtered;
            kept.left_out.unknown -= account.rows_unknown;
            kept.written -= account.rows_written;
        }
        self.other.rows_filtered += kept.left_out.rows;
        self.other.rows_unknown += kept.left_out.unknown;
        self.other.rows_dropped += kept.dropped;
        self.other.rows_lost += kept.lost;
        self.other.rows_written += kept.written;
    }

    /// The sums that do not add up, of every exporter and in total: none.
    pub fn imbalances(&self) -> Vec<(String, &'static str, u64, u64)> {
        let named = self.exporters.iter().map(|e| (e.address.to_string(), &e.account));
        let all = named.chain([("other".to_string(), &self.other), ("total".to_string(), &self.total)]);
        let mut wrong: Vec<_> = all
            .flat_map(|(name, account)| account.imbalances().into_iter().map(move |i| (name.clone(), i.0, i.1, i.2)))
            .collect();
        let o = &self.options;
        let sum = o.written + o.passed_over + o.dropped + o.pending();
        if self.has_sink && sum != o.decoded {
            wrong.push(("total".into(), "options records", o.decoded, sum));
        }
        wrong
    }

    /// All of it.
    pub fn json(&self) -> Value {
        let mut all = self.whole_json();
        all["exporters"] = self.exporters.iter().map(|e| e.json(self.has_sink)).collect();
        all
    }

    /// All of it but the exporters.
    pub(super) fn whole_json(&self) -> Value {
        let o = &self.options;
        let sockets = self
            .sockets
            .iter()
            .map(|s| json!({ "address": s.local.to_string(), "thread": s.thread, "kernel_drops": s.kernel_drops }));
        let mut all = json!({
            "seconds": self.seconds,
            "sink": self.has_sink,
            "fresh": self.is_fresh,
            "total": self.total.json(self.has_sink),
            "other": self.other.json(self.has_sink),
            "sockets": sockets.collect::<Value>(),
            "kernel_drops": self.kernel_drops(),
            "datagrams_received": self.datagrams_received,
            "datagrams_truncated": self.datagrams_truncated,
            "socket_errors": self.socket_errors,
            "log_lines_dropped": self.log_lines_dropped,
            "mirrors": mirrors_json(&self.mirrors),
        });
        if let Some(keeping) = &self.keeping {
            all["keeping"] = keeping.json();
        }
        if let Some(state) = &self.state {
            all["state"] = state.json();
        }
        if self.has_sink {
            all["options"] = json!({
                "decoded": o.decoded,
                "written": o.written,
                "passed_over": o.passed_over,
                "dropped": o.dropped,
                "pending": o.pending(),
            });
        }
        all
    }

    /// Messages that the kernel threw away at all sockets, at least.
    pub fn kernel_drops(&self) -> u64 {
        self.sockets.iter().map(|s| s.kernel_drops).sum()
    }
}

/// Microseconds as seconds.
fn seconds(us: i64) -> f64 {
    us as f64 / 1e6
}

#[cfg(test)]
mod tests;
