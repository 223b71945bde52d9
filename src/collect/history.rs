//! The ledger beside the flows: every minute what was received and lost in it, for whoever asks later.

use super::log::Level;
use super::now;
use super::shared::TELLING;
use super::watch::Watch;
use crate::keep::ledger::{Counts, Stretch, append};
use crate::net;
use crossbeam_channel::{RecvTimeoutError, Sender, bounded};
use serde_json::Value;
use std::borrow::Borrow;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

const MINUTE_US: i64 = 60_000_000;
/// Exporters of a line, those that lost most.
const EXPORTERS: usize = 200;

/// Where the ledger's JSON has what a line counts, of an account.
const ACCOUNT: &[(&str, &str)] = &[
    ("datagrams", "/datagrams/received"),
    ("rows", "/rows/decoded"),
    ("written", "/rows/written"),
    ("filtered", "/rows/filtered"),
    ("missing", "/sequence/lost"),
    ("rows_dropped", "/rows/dropped"),
    ("malformed", "/datagrams/malformed"),
    ("sets_malformed", "/sets/malformed"),
    ("sets_without_room", "/sets/without_room"),
    ("sets_expired", "/held_sets/expired"),
    ("sets_dropped", "/held_sets/dropped"),
    ("limited", "/datagrams/limited"),
    ("refused", "/datagrams/refused"),
    ("connections_malformed", "/connections/malformed"),
    ("connections_failed", "/connections/failed"),
    ("connections_limited", "/connections/limited"),
];
/// The same of the whole.
const WHOLE: &[(&str, &str)] = &[
    ("kernel_drops", "/kernel_drops"),
    ("truncated", "/datagrams_truncated"),
    ("options_dropped", "/options/dropped"),
];
/// What is no loss.
const KEPT: &[&str] = &["datagrams", "rows", "written", "filtered"];

/// What a ledger, as JSON, has counted since it began: one stretch of time.
pub fn stretch(ledger: &Value, from_us: i64, to_us: i64) -> Stretch {
    let exporters = ledger.get("exporters").and_then(Value::as_array).into_iter().flatten();
    stretch_of(ledger, exporters, from_us, to_us)
}

/// The same, of exporters one by one: the JSON of all of them would take a hundred times what is kept of it.
fn stretch_of<V: Borrow<Value>>(
    whole: &Value,
    exporters: impl Iterator<Item = V>,
    from_us: i64,
    to_us: i64,
) -> Stretch {
    let counts = |of: &Value, names: &[(&str, &str)]| -> Counts {
        let found = names.iter().filter_map(|(name, place)| Some(((*name).to_string(), of.pointer(place)?.as_u64()?)));
        found.filter(|c| c.1 > 0).collect()
    };
    let mut total = whole.get("total").map(|t| counts(t, ACCOUNT)).unwrap_or_default();
    total.extend(counts(whole, WHOLE));
    let named = exporters.filter_map(|e| {
        let e = e.borrow();
        Some((e.get("exporter")?.as_str()?.to_string(), counts(e, ACCOUNT)))
    });
    Stretch { from: from_us, to: to_us, total, exporters: named.filter(|e| lost(&e.1) > 0).collect() }
}

fn lost(counts: &Counts) -> u64 {
    let of = counts.iter().filter(|c| !KEPT.contains(&c.0.as_str()));
    of.fold(0, |sum, c| sum.saturating_add(*c.1))
}

/// A thread that writes a line a minute into `ledger/` of a folder, and one at the end.
pub struct History {
    // Dropped to end it.
    go_on: Sender<()>,
    thread: JoinHandle<()>,
}

impl History {
    /// Begins now.
    ///
    /// # Errors
    /// A system without room for a thread.
    pub fn start(watch: Watch, folder: PathBuf, node: String) -> io::Result<Self> {
        let (go_on, end) = bounded::<()>(0);
        let mut told = Told { from: now().0, ..Told::default() };
        let thread = Builder::new().name("history".into()).spawn(move || {
            net::be_nice(TELLING);
            let mut failed = false;
            loop {
                let at = now().0;
                let wait = MINUTE_US - at.rem_euclid(MINUTE_US);
                let wait = Duration::from_micros(wait.unsigned_abs());
                let last = end.recv_timeout(wait) == Err(RecvTimeoutError::Disconnected);
                let line = watch.look(|ledger| {
                    let exporters = ledger.exporters.iter().map(|e| e.json(ledger.has_sink));
                    told.next(stretch_of(&ledger.whole_json(), exporters, told.from, now().0.max(told.from)))
                });
                match append(&folder, &node, &line) {
                    Ok(()) => {
                        told.wrote(line);
                        failed = false;
                    }
                    // What could not be written stands in the next line.
                    Err(error) => {
                        if let Some(log) = watch.shared.log.as_ref().filter(|_| !failed) {
                            log.say(Level::Warn, format!("the ledger cannot be kept beside the flows: {error}"));
                        }
                        failed = true;
                    }
                }
                if last {
                    return;
                }
            }
        })?;
        Ok(Self { go_on, thread })
    }

    /// Writes what was not written yet. To be called when the collector has ended.
    pub fn end(self) {
        drop(self.go_on);
        let _ = self.thread.join();
    }
}

/// What the lines up to now say in sum.
#[derive(Default)]
struct Told {
    from: i64,
    total: Counts,
    exporters: BTreeMap<String, Counts>,
}

impl Told {
    /// The line that is due, of all that was counted.
    fn next(&mut self, all: Stretch) -> Stretch {
        // An exporter that was forgotten begins anew.
        self.exporters.retain(|exporter, _| all.exporters.contains_key(exporter));
        let none = Counts::new();
        let mut exporters: Vec<(String, Counts)> = all
            .exporters
            .iter()
            .map(|(exporter, counts)| (exporter.clone(), more(counts, self.exporters.get(exporter).unwrap_or(&none))))
            .filter(|e| lost(&e.1) > 0)
            .collect();
        exporters.sort_by_key(|e| Reverse(lost(&e.1)));
        exporters.truncate(EXPORTERS);
        Stretch { total: more(&all.total, &self.total), exporters: exporters.into_iter().collect(), ..all }
    }

    fn wrote(&mut self, line: Stretch) {
        let add = |sum: &mut Counts, counts: Counts| {
            for (name, n) in counts {
                *sum.entry(name).or_default() += n;
            }
        };
        self.from = line.to;
        add(&mut self.total, line.total);
        for (exporter, counts) in line.exporters {
            add(self.exporters.entry(exporter).or_default(), counts);
        }
    }
}

/// What is counted beyond what was told. What was missing and came late after all makes up for the next that is missing.
fn more(now: &Counts, told: &Counts) -> Counts {
    let beyond = |(name, n): (&String, &u64)| (name.clone(), n.saturating_sub(told.get(name).copied().unwrap_or(0)));
    now.iter().map(beyond).filter(|c| c.1 > 0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keep::ledger::LOST;
    use serde_json::json;

    #[test]
    fn every_loss_has_its_place() {
        let mut known: Vec<&str> = ACCOUNT.iter().chain(WHOLE).map(|c| c.0).filter(|c| !KEPT.contains(c)).collect();
        let mut lost = LOST.to_vec();
        known.sort_unstable();
        lost.sort_unstable();
        assert_eq!(known, lost);
        // And the ledger has it there.
        let ledger = crate::collect::Ledger { has_sink: true, ..Default::default() };
        let all = ledger.json();
        assert!(ACCOUNT.iter().all(|c| all["total"].pointer(c.1).is_some()), "{all}");
        assert!(WHOLE.iter().all(|c| all.pointer(c.1).is_some()), "{all}");
    }

    #[test]
    fn lines_add_up_to_the_ledger() {
        let ledger = |missing: u64, datagrams: u64| {
            let account =
                json!({"exporter": "192.0.2.1", "datagrams": {"received": datagrams}, "sequence": {"lost": missing}});
            json!({"total": account, "exporters": [account]})
        };
        let count = |line: &Stretch, name: &str| line.total.get(name).copied().unwrap_or(0);
        let next = |told: &mut Told, ledger: &Value, to: i64| told.next(stretch(ledger, told.from, to));
        let mut told = Told::default();
        let first = next(&mut told, &ledger(3, 10), 60);
        assert_eq!((count(&first, "missing"), count(&first, "datagrams"), first.exporters.len()), (3, 10, 1));
        // As if it could not be written: the next one has it too.
        assert_eq!(next(&mut told, &ledger(3, 10), 60), first);
        told.wrote(first);
        // One came late, another is missing: three are.
        let second = next(&mut told, &ledger(2, 30), 120);
        assert_eq!((second.from, count(&second, "missing"), count(&second, "datagrams")), (60, 0, 20));
        assert!(second.exporters.is_empty());
        told.wrote(second);
        let third = next(&mut told, &ledger(3, 40), 180);
        assert_eq!((count(&third, "missing"), count(&third, "datagrams")), (0, 10));
        told.wrote(third);
        assert_eq!(count(&next(&mut told, &ledger(5, 40), 240), "missing"), 2);
    }
}
