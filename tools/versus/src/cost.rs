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

/// flowlane's rate that a trial stands beside: slow collectors have rates of their own, and it is the next above.
pub fn beside(trials: &[Trial], trial: &Trial) -> Option<f64> {
    let ours = trials.iter().filter(|t| t.measure == "cost" && t.workload == trial.workload && t.peer == "flowlane");
    ours.map(|t| t.rate).filter(|rate| *rate >= trial.rate).min_by(f64::total_cmp)
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
        "in rounds",
        "peak MiB",
        "bytes/flow",
        "lost",
        "sums",
    ];
    let mut table = Table::new(2, &head);
    let mut seen: Vec<(&str, &str, u64)> = Vec::new();
    for trial in trials.iter().filter(|t| t.measure == "cost") {
        let key = (trial.workload.as_str(), trial.peer.as_str(), trial.rate.to_bits());
        if seen.contains(&key) {
            continue;
        }
        seen.push(key);
        let of = |peer: &str, rate: f64| -> Vec<&Trial> {
            let is_of = |t: &&Trial| t.measure == "cost" && t.workload == key.0 && t.peer == peer && t.rate == rate;
            trials.iter().filter(is_of).collect()
        };
        let above = beside(trials, trial);
        let middle =
            |trials: &[&Trial], f: &dyn Fn(&Trial) -> f64| median(trials.iter().map(|t| f(t))).unwrap_or(f64::NAN);
        let total = |t: &Trial| t.cpu_ns_per_flow().0 + t.cpu_ns_per_flow().1;
        let (its, ours) = (of(key.1, trial.rate), of("flowlane", above.unwrap_or(f64::NAN)));
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
            spread(trials, trial, above, &total),
            number(middle(&its, &|t| t.peak_kib as f64 / 1024.0)),
            number(middle(&its, &Trial::bytes_per_flow)),
            format!("{:.2} %", 100.0 * middle(&its, &Trial::loss)),
            if rights == its.len() { "right".to_owned() } else { format!("{rights} of {} right", its.len()) },
        ]);
    }
    table
}

/// The least and the greatest ratio of a round to flowlane's in the same round: what of the medians' ratio is noise.
fn spread(trials: &[Trial], of: &Trial, above: Option<f64>, cost: &dyn Fn(&Trial) -> f64) -> String {
    let (mut ours, mut ratios) = (None::<&Trial>, Vec::new());
    // flowlane is the first of each round.
    for trial in trials.iter().filter(|t| t.measure == "cost" && t.workload == of.workload) {
        if trial.peer == "flowlane" && Some(trial.rate) == above {
            ours = Some(trial);
        } else if trial.peer == of.peer && trial.rate == of.rate {
            ratios.extend(ours.filter(|ours| ours.round == trial.round).map(|ours| cost(trial) / cost(ours)));
        }
    }
    let least = ratios.iter().copied().min_by(f64::total_cmp);
    let most = ratios.iter().copied().max_by(f64::total_cmp);
    least.zip(most).map(|(least, most)| format!("{}..{}", number(least), number(most))).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trial(peer: &str, rate: f64, user_us: u64) -> Trial {
        Trial {
            measure: "cost".to_owned(),
            workload: "v5".to_owned(),
            peer: peer.to_owned(),
            sender: "plain".to_owned(),
            round: 1,
            rate,
            seconds: 1.0,
            datagrams: 100,
            records: 1000,
            user_us,
            system_us: 0,
            end_user_us: 0,
            end_system_us: 0,
            peak_kib: 1024,
            sent_records: 1000,
            sent_octets: 1,
            sent_packets: 1,
            kept_records: 1000,
            kept_octets: 1,
            kept_packets: 1,
            disk_bytes: 40_000,
            kernel_drops: 0,
        }
    }

    #[test]
    fn the_end_is_of_warming_up_as_well() {
        // A hundred us to receive a thousand flows, and as much to seal them and another thousand.
        let warm = Trial { end_user_us: 100, sent_records: 2000, kept_records: 2000, ..trial("flowlane", 1.0, 200) };
        assert_eq!(warm.cpu_ns_per_flow(), (150.0, 0.0));
    }

    #[test]
    fn ratios_are_of_the_same_round() {
        let of = |round, peer: &str, user_us| Trial { round, ..trial(peer, 2000.0, user_us) };
        let trials = [
            of(1, "flowlane", 100),
            of(1, "nfcapd", 150),
            of(2, "flowlane", 400),
            of(2, "nfcapd", 400),
            // flowlane gave no result.
            of(3, "nfcapd", 4000),
        ];
        let text = table(&trials).markdown();
        assert!(text.contains("| nfcapd | 2000 | 4000 | 400 | 400 | 0.00 | 1.60 | 1.00..1.50 |"), "{text}");
        assert!(text.contains("| flowlane | 2000 | 2500 | 250 | 250 | 0.00 | 1.00 |  |"), "{text}");
    }

    #[test]
    fn a_row_a_rate_and_slow_collectors_beside_the_next_above() {
        let trials = [
            trial("flowlane", 2000.0, 400),
            trial("nfcapd", 2000.0, 600),
            trial("flowlane", 40_000.0, 100),
            trial("nfcapd", 40_000.0, 150),
            trial("goflow2", 10_000.0, 2000),
        ];
        let text = table(&trials).text();
        let times = |at: usize| {
            text.lines().nth(at).unwrap_or_default().split("  ").map(str::trim).filter(|c| !c.is_empty()).nth(7)
        };
        let found: Vec<_> = (1..6).map(times).collect();
        assert_eq!(found, [Some("1.00"), Some("1.50"), Some("1.00"), Some("1.50"), Some("20.0")], "{text}");
    }
}
