//! What a flow costs: processor time, memory and disk, at a rate at which nobody loses any.

use crate::raw::{Entry, Raw};
use crate::table::{Table, median, number};
use crate::trial::{Arena, Asked, MANY, Trial};
use crate::turns::Turns;
use crate::workload::Workload;

/// How costs are measured.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Times that each collector has its turn.
    pub rounds: u32,
    /// Seconds that each turn lasts.
    pub seconds: f64,
    /// Datagrams a second, unless the collector is slower.
    pub rate: f64,
}

/// All collectors in turn, round by round, on one workload.
///
/// # Errors
/// Raw data cannot be written. What a collector fails at is said, and the others go on.
pub fn measure(
    arena: &Arena,
    turns: &mut Turns,
    workload: &Workload,
    plan: Plan,
    raw: &mut Raw,
) -> anyhow::Result<Vec<Trial>> {
    let mut trials = Vec::new();
    for round in 1..=plan.rounds {
        let Plan { seconds, .. } = plan;
        let of = |rate: f64| Asked {
            measure: "cost",
            round,
            rate: plan.rate.min(rate),
            seconds,
            trains: false,
            rotate: None,
            distinct: MANY,
        };
        trials.extend(turns.round(
            workload,
            raw,
            |peer, _| arena.trial(peer, workload, of(peer.pace())).map(Some),
            |trial| [Entry::Trial(trial.clone())],
        )?);
    }
    Ok(trials)
}

/// The medians of each workload and collector, in the order in which they come, and their ratio to flowlane's.
pub fn table(trials: &[Trial]) -> Table {
    let head = [
        "workload",
        "collector",
        "datagrams/s",
        "ns/datagram",
        "ns/flow",
        "user",
        "system",
        "times flowlane's",
        "peak MiB",
        "bytes/flow",
        "lost",
        "sums",
    ];
    let mut table = Table::new(2, &head);
    let mut seen: Vec<(&str, &str)> = Vec::new();
    for trial in trials.iter().filter(|t| t.measure == "cost") {
        let key = (trial.workload.as_str(), trial.peer.as_str());
        if seen.contains(&key) {
            continue;
        }
        seen.push(key);
        let of = |peer: &str| -> Vec<&Trial> {
            trials.iter().filter(|t| t.measure == "cost" && t.workload == key.0 && t.peer == peer).collect()
        };
        let middle =
            |trials: &[&Trial], f: &dyn Fn(&Trial) -> f64| median(trials.iter().map(|t| f(t))).unwrap_or(f64::NAN);
        let total = |t: &Trial| t.cpu_ns_per_flow().0 + t.cpu_ns_per_flow().1;
        let (its, ours) = (of(key.1), of("flowlane"));
        let cost = middle(&its, &total);
        let rights = its.iter().filter(|t| t.is_right()).count();
        table.row([
            key.0.to_owned(),
            key.1.to_owned(),
            number(middle(&its, &|t| t.rate)),
            number(middle(&its, &|t| total(t) * t.flows_per_datagram())),
            number(cost),
            number(middle(&its, &|t| t.cpu_ns_per_flow().0)),
            number(middle(&its, &|t| t.cpu_ns_per_flow().1)),
            number(cost / middle(&ours, &total)),
            number(middle(&its, &|t| t.peak_kib as f64 / 1024.0)),
            number(middle(&its, &Trial::bytes_per_flow)),
            format!("{:.2} %", 100.0 * middle(&its, &Trial::loss)),
            if rights == its.len() { "right".to_owned() } else { format!("{rights} of {} right", its.len()) },
        ]);
    }
    table
}
