//! What was lost, as the page shows it: by cause, over time, by exporter.

use super::Ledger;
use super::gather::step;
use crate::keep::ledger::{Counts, LOST};
use crate::query::anonymise::Anonymiser;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Exporters that are named.
const EXPORTERS: usize = 50;

/// A cause, what it counts, and what helps.
const CAUSES: &[(&str, &str, &str)] = &[
    (
        "kernel_drops",
        "datagrams dropped by the kernel, at least",
        "A receive buffer was full: raise net.core.rmem_max and --receive-buffer, or give the collector more threads.",
    ),
    (
        "missing",
        "missing by sequence numbers",
        "Lost on the way here or by the exporter itself, in the protocol's unit: v5 flows, v9 messages, IPFIX records.",
    ),
    ("rows_dropped", "rows dropped", "The disk was too slow, full or gone: see the collector's log."),
    ("options_dropped", "options records dropped", "As rows: the disk was too slow, full or gone."),
    ("malformed", "malformed datagrams", "No NetFlow or IPFIX, or cut off: look at them with flowlane decode."),
    ("sets_malformed", "malformed sets", "The exporter's own mistake, mostly: look at them with flowlane decode."),
    (
        "sets_without_room",
        "sets without room to wait for their template",
        "Give them more room: --hold-bytes, --hold-sets.",
    ),
    (
        "sets_expired",
        "sets whose template never came",
        "Let the exporter repeat its templates more often, or wait longer: --hold.",
    ),
    (
        "sets_dropped",
        "sets dropped while they waited for a template",
        "Their template was withdrawn, or its exporter made way for another: see --max-exporters.",
    ),
    (
        "limited",
        "datagrams over a limit",
        "Of exporters beyond --max-exporters, or above --exporter-rate: raise it, or name who may send: --allow.",
    ),
    ("truncated", "datagrams too long to be received", "Let the exporter send shorter ones."),
    ("refused", "datagrams refused", "Of senders that --allow does not name."),
    ("connections_malformed", "connections with malformed messages", "What came over them was no IPFIX."),
    (
        "connections_failed",
        "connections that broke",
        "On the way, or the two could not agree on TLS: see the collector's log.",
    ),
    ("connections_limited", "connections too many", "More at once than the collector takes."),
];

/// All of it; `received` is the time of the flows beside it.
pub(super) fn json(ledger: &Ledger, received: Option<(i64, i64)>, anonymiser: Option<&Anonymiser>) -> Value {
    let (mut total, mut exporters) = (Counts::new(), BTreeMap::<&str, Counts>::new());
    for stretch in &ledger.stretches {
        add(&mut total, &stretch.total);
        for (exporter, counts) in &stretch.exporters {
            add(exporters.entry(exporter).or_default(), counts);
        }
    }
    let of = |counts: &Counts, name: &str| counts.get(name).copied().unwrap_or(0);
    let from = ledger.stretches.iter().map(|s| s.from).min().unwrap_or(0);
    let to = ledger.stretches.iter().map(|s| s.to).max().unwrap_or(from);
    let interval = step(to.saturating_sub(from)).max(60_000_000);
    let first = from.div_euclid(interval);
    let intervals = usize::try_from((to - 1).div_euclid(interval) - first + 1).unwrap_or(0);
    let causes = CAUSES.iter().filter(|c| of(&total, c.0) > 0).map(|(id, title, hint)| {
        let mut values = vec![0u64; intervals];
        for stretch in &ledger.stretches {
            // Where it ends: a count is known then.
            let place = usize::try_from((stretch.to - 1).div_euclid(interval) - first).ok();
            if let Some(value) = place.and_then(|place| values.get_mut(place)) {
                *value = value.saturating_add(of(&stretch.total, id));
            }
        }
        json!({ "id": id, "title": title, "hint": hint, "count": of(&total, id), "values": values })
    });
    let lost = |counts: &Counts| LOST.iter().fold(0u64, |sum, name| sum.saturating_add(of(counts, name)));
    let mut worst: Vec<_> = exporters.iter().map(|(exporter, counts)| (lost(counts), *exporter, counts)).collect();
    worst.retain(|w| w.0 > 0);
    worst.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(b.1)));
    let shown = |exporter: &str| anonymiser.map_or_else(|| exporter.to_string(), |a| a.text(exporter));
    let named = worst
        .iter()
        .take(EXPORTERS)
        .map(|(_, exporter, counts)| json!({ "exporter": shown(exporter), "counts": counts }));
    json!({
        // It may be an address.
        "source": if anonymiser.is_some() { "the collector" } else { &ledger.source },
        "from": from,
        "to": to,
        "covered": covered(ledger, received),
        "totals": {
            "datagrams": of(&total, "datagrams"),
            "rows": of(&total, "rows"),
            "written": of(&total, "written"),
        },
        "first": first * interval,
        "interval": interval,
        "intervals": intervals,
        "causes": causes.collect::<Value>(),
        "exporters": named.collect::<Value>(),
        "more_exporters": worst.len().saturating_sub(EXPORTERS),
    })
}

fn add(sum: &mut Counts, counts: &Counts) {
    for (name, n) in counts {
        let sum = sum.entry(name.clone()).or_default();
        *sum = sum.saturating_add(*n);
    }
}

/// The share of the flows' time that some stretch covers.
fn covered(ledger: &Ledger, received: Option<(i64, i64)>) -> f64 {
    let Some((from, to)) = received.filter(|r| r.0 < r.1) else { return 1.0 };
    let (mut done, mut reached) = (0i64, from);
    for stretch in &ledger.stretches {
        let (begin, end) = (stretch.from.max(reached), stretch.to.min(to));
        if begin < end {
            done += end - begin;
            reached = end;
        }
    }
    done as f64 / (to - from) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keep::ledger::Stretch;

    #[test]
    fn every_count_of_losses_is_explained() {
        let explained: Vec<&str> = CAUSES.iter().map(|c| c.0).collect();
        assert_eq!(explained, LOST);
    }

    #[test]
    fn stretches_are_summed_by_cause_time_and_exporter() {
        let minute = 60_000_000;
        let stretch = |n: i64, missing: u64| {
            let lost = Counts::from([("missing".to_string(), missing)]);
            let total = Counts::from([("datagrams".to_string(), 100), ("missing".to_string(), missing)]);
            let exporters = BTreeMap::from([("192.0.2.1".to_string(), lost)]);
            Stretch { from: n * minute, to: (n + 1) * minute, total, exporters }
        };
        let ledger = Ledger { source: "here".into(), stretches: vec![stretch(0, 3), stretch(1, 0), stretch(3, 4)] };
        let shown = json(&ledger, Some((0, 4 * minute)), None);
        assert_eq!(shown["causes"][0]["id"], "missing");
        assert_eq!(shown["causes"][0]["values"], json!([3, 0, 0, 4]));
        assert_eq!(shown["causes"].as_array().map(Vec::len), Some(1));
        assert_eq!(shown["totals"]["datagrams"], 300);
        assert_eq!(shown["exporters"][0]["counts"]["missing"], 7);
        assert_eq!(shown["covered"], 0.75);
    }
}
