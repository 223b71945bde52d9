//! The ledger as Prometheus reads it (text format 0.0.4), with a bound on what it names.
//!
//! Series of an exporter must not come and go with its traffic, so the first so many that are seen keep their names for
//! good, and the sum of all others is `exporter="other"`.

use super::ledger::{Account, ExporterAccount, Ledger};
use crate::error::ErrorKind;
use std::collections::HashSet;
use std::fmt::{Display, Write};
use std::net::IpAddr;

/// The exporters that have series of their own.
#[derive(Debug)]
pub(super) struct Named {
    exporters: HashSet<IpAddr>,
    limit: usize,
}

/// One value of the label `exporter`.
struct Row<'a> {
    label: String,
    account: &'a Account,
    exporter: Option<&'a ExporterAccount>,
}

impl Named {
    pub fn new(limit: usize) -> Self {
        Self { exporters: HashSet::new(), limit }
    }

    /// The metrics of a moment.
    pub fn text(&mut self, ledger: &Ledger) -> String {
        let mut other = ledger.other.clone();
        let mut rows = Vec::new();
        // The busiest come first.
        for e in &ledger.exporters {
            if self.exporters.len() < self.limit {
                self.exporters.insert(e.address);
            }
            if self.exporters.contains(&e.address) {
                rows.push(Row { label: e.address.to_string(), account: &e.account, exporter: Some(e) });
            } else {
                other.merge(&e.account);
            }
        }
        rows.push(Row { label: "other".into(), account: &other, exporter: None });
        let mut text = Text(String::with_capacity(4096 + rows.len() * 4096));
        text.of_exporters(&rows, ledger.has_sink);
        text.of_collector(ledger);
        text.0
    }
}

/// What an account counts.
type Value = fn(&Account) -> u64;

struct Text(String);

impl Text {
    /// A metric: its name, `counter` or `gauge`, and what it is.
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    /// Label values are addresses and names of our own: nothing in them needs escaping.
    fn sample(&mut self, name: &str, labels: &[(&str, &dyn Display)], value: impl Display) {
        self.0.push_str(name);
        for (i, (label, value)) in labels.iter().enumerate() {
            let _ = write!(self.0, "{}{label}=\"{value}\"", if i == 0 { '{' } else { ',' });
        }
        let _ = writeln!(self.0, "{} {value}", if labels.is_empty() { "" } else { "}" });
    }

    /// A metric with one sample an exporter.
    fn plain(&mut self, rows: &[Row<'_>], (name, kind, help): (&str, &str, &str), value: Value) {
        self.family(name, kind, help);
        for row in rows {
            self.sample(name, &[("exporter", &row.label)], value(row.account));
        }
    }

    /// A metric with one sample an exporter and class.
    fn classes(&mut self, rows: &[Row<'_>], (name, label, help): (&str, &str, &str), classes: &[(&str, Value)]) {
        self.family(name, "counter", help);
        for row in rows {
            for (class, value) in classes {
                self.sample(name, &[("exporter", &row.label), (label, class)], value(row.account));
            }
        }
    }

    fn of_exporters(&mut self, rows: &[Row<'_>], has_sink: bool) {
        self.classes(
            rows,
            ("flowlane_datagrams_total", "class", "Datagrams received; each is in one class."),
            &[
                ("decoded", Account::datagrams_decoded),
                ("refused", |a| a.refused),
                ("limited", |a| a.stats.datagrams_limited),
                ("malformed", |a| a.stats.datagrams_malformed),
            ],
        );
        let damaged = "Datagrams decoded although something in them is wrong.";
        self.plain(rows, ("flowlane_datagrams_damaged_total", "counter", damaged), |a| a.stats.datagrams_damaged);
        self.plain(rows, ("flowlane_bytes_total", "counter", "Bytes of all datagrams."), |a| a.stats.bytes);
        self.classes(
            rows,
            ("flowlane_sets_total", "class", "Sets seen; each is in one class."),
            &[
                ("decoded", |a| a.stats.sets_decoded),
                ("held", |a| a.stats.sets_held),
                ("malformed", |a| a.stats.sets_malformed),
                ("skipped", |a| a.stats.sets_skipped),
                ("without_room", |a| a.stats.sets_without_room),
            ],
        );
        self.classes(
            rows,
            ("flowlane_held_sets_total", "outcome", "What became of sets that waited for their template."),
            &[
                ("decoded_late", |a| a.stats.held_decoded),
                ("expired", |a| a.stats.held_expired),
                ("dropped", |a| a.stats.held_dropped),
            ],
        );
        let held = "Sets that wait for their template now.";
        self.plain(rows, ("flowlane_held_sets", "gauge", held), |a| a.still_held);
        self.plain(rows, ("flowlane_records_total", "counter", "Flow records decoded."), |a| a.stats.records);
        let late = "Flow records decoded after their template came.";
        self.plain(rows, ("flowlane_late_records_total", "counter", late), |a| a.stats.late_records);
        let options = "Options records decoded.";
        self.plain(rows, ("flowlane_options_records_total", "counter", options), |a| a.stats.options_records);
        if has_sink {
            self.classes(
                rows,
                (
                    "flowlane_rows_total",
                    "class",
                    "Rows that are done with: written, left out by the filter, or dropped; lost are those of the written \
                     that somebody removed before they were sealed.",
                ),
                &[
                    // A counter does not go down.
                    ("written", |a| a.rows_written + a.rows_lost),
                    ("filtered", |a| a.rows_filtered),
                    ("dropped", |a| a.rows_dropped - a.rows_lost),
                    ("lost", |a| a.rows_lost),
                ],
            );
            let unknown = "Rows left out because they lack a column that the filter looks at; part of filtered.";
            self.plain(rows, ("flowlane_rows_unknown_total", "counter", unknown), |a| a.rows_unknown);
            let pending = "Rows on their way to the sink.";
            self.plain(rows, ("flowlane_rows_pending", "gauge", pending), Account::rows_pending);
        }
        if rows.iter().any(|row| row.account.connections.accepted > 0) {
            self.classes(
                rows,
                ("flowlane_connections_total", "outcome", "Connections that came and are not open any more."),
                &[
                    ("refused", |a| a.connections.refused),
                    ("limited", |a| a.connections.limited),
                    ("closed", |a| a.connections.closed),
                    ("timed_out", |a| a.connections.timed_out),
                    ("malformed", |a| a.connections.malformed),
                    ("failed", |a| a.connections.failed),
                ],
            );
            let open = "Connections that are open now.";
            self.plain(rows, ("flowlane_connections", "gauge", open), |a| a.connections.open);
        }
        let lost = "Units missing by sequence numbers: v5 and v7 flows, v9 messages, IPFIX data records.";
        self.plain(rows, ("flowlane_sequence_lost", "gauge", lost), |a| a.stats.lost);
        self.classes(
            rows,
            ("flowlane_sequence_events_total", "event", "What sequence numbers showed."),
            &[
                ("gap", |a| a.stats.gaps),
                ("reordered", |a| a.stats.reordered),
                ("duplicate", |a| a.stats.duplicates),
                ("reset", |a| a.stats.resets),
            ],
        );
        let unverifiable = "Messages whose sequence could not be judged yet.";
        self.plain(rows, ("flowlane_sequence_unverifiable", "gauge", unverifiable), |a| a.stats.unverifiable);
        self.classes(
            rows,
            ("flowlane_template_events_total", "event", "Templates defined or changed, and withdrawn."),
            &[("defined", |a| a.stats.templates), ("withdrawn", |a| a.stats.withdrawals)],
        );
        let name = "flowlane_errors_total";
        self.family(name, "counter", "What was wrong with messages, by its kind.");
        for row in rows {
            for (kind, n) in ErrorKind::ALL.iter().zip(row.account.stats.errors).filter(|e| e.1 > 0) {
                self.sample(name, &[("exporter", &row.label), ("kind", &kind.name())], n);
            }
        }
        let known = || rows.iter().filter_map(|r| r.exporter.map(|e| (&r.label, e)));
        let name = "flowlane_templates";
        self.family(name, "gauge", "Templates known now.");
        known().for_each(|(label, e)| self.sample(name, &[("exporter", label)], e.templates));
        let name = "flowlane_last_seen_timestamp_seconds";
        self.family(name, "gauge", "When the exporter's last message was received.");
        known().for_each(|(label, e)| self.sample(name, &[("exporter", label)], e.last_seen.0 as f64 / 1e6));
        let name = "flowlane_clock_skew_seconds";
        self.family(name, "gauge", "The exporter's clock against ours; above zero where it is ahead.");
        for (label, e) in known() {
            if let Some(skew) = e.clock_skew_us {
                self.sample(name, &[("exporter", label)], skew as f64 / 1e6);
            }
        }
        let name = "flowlane_exporter_own_total";
        self.family(name, "counter", "What exporters say of their own work in options data.");
        for (label, e) in known() {
            e.own.iter().for_each(|(what, n)| self.sample(name, &[("exporter", label), ("what", &what)], n));
        }
    }

    /// Families of one sample without a label: name, kind, what it is, and how many.
    fn numbers(&mut self, all: &[(&str, &str, &str, u64)]) {
        for &(name, kind, help, n) in all {
            self.family(name, kind, help);
            self.sample(name, &[], n);
        }
    }

    fn of_collector(&mut self, ledger: &Ledger) {
        let name = "flowlane_kernel_drops_total";
        let help = "Messages that the kernel dropped at a socket whose buffer was full, at least: a train of joined datagrams \
                    (GRO) counts once.";
        self.family(name, "counter", help);
        for s in &ledger.sockets {
            self.sample(name, &[("socket", &s.local), ("thread", &s.thread)], s.kernel_drops);
        }
        let o = &ledger.options;
        if ledger.has_sink {
            let name = "flowlane_options_rows_total";
            self.family(name, "counter", "Options records that are done with.");
            for (class, n) in [("written", o.written), ("passed_over", o.passed_over), ("dropped", o.dropped)] {
                self.sample(name, &[("class", &class)], n);
            }
        }
        self.numbers(&[
            ("flowlane_exporters", "gauge", "Exporters known.", ledger.exporters.len() as u64),
            (
                "flowlane_datagrams_truncated_total",
                "counter",
                "Datagrams longer than the room for them.",
                ledger.datagrams_truncated,
            ),
            (
                "flowlane_socket_errors_total",
                "counter",
                "Errors that the network reported to a socket.",
                ledger.socket_errors,
            ),
            (
                "flowlane_log_lines_dropped_total",
                "counter",
                "Lines of the log that nobody read in time.",
                ledger.log_lines_dropped,
            ),
        ]);
        if !ledger.mirrors.is_empty() {
            let name = "flowlane_mirror_datagrams_total";
            self.family(name, "counter", "Datagrams for other collectors.");
            for m in &ledger.mirrors {
                for (class, n) in [("sent", m.sent), ("unsent", m.unsent)] {
                    self.sample(name, &[("target", &m.target), ("class", &class)], n);
                }
            }
        }
        if let Some(k) = &ledger.keeping {
            self.numbers(&[
                ("flowlane_segments_waiting", "gauge", "Segments that wait to be sealed.", k.segments_waiting),
                ("flowlane_sealed_rows_total", "counter", "Rows in files that were sealed.", k.rows_sealed),
                ("flowlane_sealed_files_total", "counter", "Files that were sealed.", k.files_sealed),
                ("flowlane_sealed_bytes_total", "counter", "Bytes of files that were sealed.", k.bytes_sealed),
                (
                    "flowlane_sealing_failures_total",
                    "counter",
                    "Times that sealing, compacting or retention failed.",
                    k.failures,
                ),
                ("flowlane_files_compacted_total", "counter", "Small files that were made one.", k.files_compacted),
                ("flowlane_files_retired_total", "counter", "Files removed by retention.", k.files_retired),
                ("flowlane_files_damaged_total", "counter", "Damaged files that were found.", k.files_damaged),
                (
                    "flowlane_damaged_rows_total",
                    "counter",
                    "Rows of damaged segments, as far as known.",
                    k.rows_damaged,
                ),
                ("flowlane_files_stuck", "gauge", "Files that retention could not remove.", k.files_stuck),
            ]);
        }
        if let Some(state) = &ledger.state {
            self.numbers(&[
                ("flowlane_state_entries_waiting", "gauge", "Learned entries that are not written yet.", state.waiting),
                ("flowlane_state_entries_lost_total", "counter", "Learned entries that never will be.", state.lost),
                ("flowlane_state_failures_total", "counter", "Times that writing them failed.", state.failures),
                (
                    "flowlane_state_failing",
                    "gauge",
                    "Whether writing them fails now.",
                    u64::from(state.failing.is_some()),
                ),
            ]);
        }
        self.family("flowlane_uptime_seconds", "gauge", "Seconds since the collector started.");
        self.sample("flowlane_uptime_seconds", &[], ledger.seconds);
        self.family("flowlane_build_info", "gauge", "The program's version.");
        self.sample("flowlane_build_info", &[("version", &env!("CARGO_PKG_VERSION"))], 1);
    }
}
