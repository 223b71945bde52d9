//! The highest rate without loss, by bisection, and the loss at fixed rates.
//!
//! As RFC 2544 section 26.1 and RFC 6645 section 6.2.2 have it: a rate is tried for a time, and it holds if all that was sent was
//! kept. Other work on the machine must not count as the collector's loss, so a rate that failed is tried once more; and the rate
//! that is reported held in one more trial at the end.

use crate::peer::Peer;
use crate::raw::{Entry, Raw};
use crate::table::{Table, number};
use crate::trial::{Arena, Asked, FEW, Trial};
use crate::workload::{TooSlow, Workload};
use serde::{Deserialize, Serialize};

/// How rates are searched.
#[derive(Clone, Copy, Debug)]
pub struct Search {
    /// Seconds that each trial lasts.
    pub seconds: f64,
    /// Where to begin, datagrams a second; a slow collector's own pace where that is less.
    pub first: f64,
    /// How close the highest rate that holds and the lowest that does not have to come, as a share.
    pub within: f64,
    /// As trains of UDP_SEGMENT.
    pub trains: bool,
}

/// What was found.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LossFree {
    /// The workload's name.
    pub workload: String,
    /// The collector's name.
    pub peer: String,
    /// `plain` or `trains`.
    pub sender: String,
    /// Datagrams a second without loss.
    pub datagrams_per_second: f64,
    /// Flow records a second.
    pub flows_per_second: f64,
    /// Whether the sender, not the collector, was what could do no more.
    pub is_sender_limit: bool,
    /// Trials that it took.
    pub trials: u32,
}

/// How a trial of a rate ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Holds,
    Loses,
    CannotSend,
}

/// The highest rate at which a collector keeps all of a workload.
///
/// # Errors
/// It does not run, or raw data cannot be written.
pub fn loss_free(
    arena: &Arena,
    peer: &dyn Peer,
    workload: &Workload,
    search: Search,
    raw: &mut Raw,
) -> anyhow::Result<LossFree> {
    let (mut trials, mut flows) = (0, 0.0);
    let found = bisect(search.first.min(peer.pace()), search.within, |rate| {
        for _ in 0..2 {
            trials += 1;
            let Search { seconds, trains, .. } = search;
            let asked = Asked { measure: "rate", round: trials, rate, seconds, trains, distinct: FEW };
            match arena.trial(peer, workload, asked) {
                Ok(trial) => {
                    flows = trial.flows_per_datagram();
                    let holds = trial.loss() == 0.0;
                    raw.write(&Entry::Trial(trial))?;
                    if holds {
                        return Ok(Verdict::Holds);
                    }
                }
                Err(why) if why.chain().any(|cause| cause.is::<TooSlow>()) => return Ok(Verdict::CannotSend),
                Err(why) => return Err(why),
            }
        }
        Ok(Verdict::Loses)
    })?;
    let found = LossFree {
        workload: workload.name.to_owned(),
        peer: peer.name().to_owned(),
        sender: if search.trains { "trains" } else { "plain" }.to_owned(),
        datagrams_per_second: found.0,
        flows_per_second: found.0 * flows,
        is_sender_limit: found.1,
        trials,
    };
    raw.write(&Entry::LossFree(found.clone()))?;
    Ok(found)
}

/// Rates below this are none.
const LEAST: f64 = 10.0;

/// The highest rate that holds, and whether it is the sender's limit; 0 if none holds.
fn bisect(
    first: f64,
    within: f64,
    mut verdict: impl FnMut(f64) -> anyhow::Result<Verdict>,
) -> anyhow::Result<(f64, bool)> {
    // From the first rate up or down by twos until one holds and the next does not.
    let (mut low, mut high, mut rate, mut limited) = (0.0, f64::INFINITY, first, false);
    while (low == 0.0 || high.is_infinite()) && rate >= LEAST {
        match verdict(rate)? {
            Verdict::Holds => (low, rate) = (rate, rate * 2.0),
            other => (high, rate, limited) = (rate, rate / 2.0, other == Verdict::CannotSend),
        }
        if low > 0.0 && high.is_finite() {
            break;
        }
    }
    while low > 0.0 && high / low > 1.0 + within {
        let middle = (low * high).sqrt();
        match verdict(middle)? {
            Verdict::Holds => low = middle,
            other => (high, limited) = (middle, other == Verdict::CannotSend),
        }
    }
    // Once more: a rate that held by luck gives way to a lower one.
    while low >= LEAST {
        if verdict(low)? == Verdict::Holds {
            return Ok((low, limited));
        }
        (low, limited) = (low / (1.0 + within), false);
    }
    Ok((0.0, limited))
}

/// What each collector found, and its ratio to flowlane's.
pub fn table(found: &[LossFree]) -> Table {
    let head = ["workload", "collector", "sender", "datagrams/s", "flows/s", "of flowlane's", "trials", "bound by"];
    let mut table = Table::new(3, &head);
    for one in found {
        let ours = found
            .iter()
            .find(|f| (f.peer.as_str(), &f.workload, &f.sender) == ("flowlane", &one.workload, &one.sender));
        table.row([
            one.workload.clone(),
            one.peer.clone(),
            one.sender.clone(),
            number(one.datagrams_per_second),
            number(one.flows_per_second),
            number(one.datagrams_per_second / ours.map_or(f64::NAN, |o| o.datagrams_per_second)),
            one.trials.to_string(),
            if one.is_sender_limit { "the sender" } else { "the collector" }.to_owned(),
        ]);
    }
    table
}

/// Each collector at each rate, in turn.
///
/// # Errors
/// Raw data cannot be written. What a collector fails at is said, and the others go on.
pub fn losses(
    arena: &Arena,
    peers: &[Box<dyn Peer>],
    workload: &Workload,
    rates: &[f64],
    seconds: f64,
    raw: &mut Raw,
) -> anyhow::Result<Vec<Trial>> {
    let mut trials = Vec::new();
    for &rate in rates {
        for peer in peers.iter().filter(|p| p.takes(workload)) {
            let asked = Asked { measure: "loss", round: 1, rate, seconds, trains: false, distinct: FEW };
            match arena.trial(peer.as_ref(), workload, asked) {
                Ok(trial) => {
                    raw.write(&Entry::Trial(trial.clone()))?;
                    trials.push(trial);
                }
                Err(why) => eprintln!("versus: {why:#}"),
            }
        }
    }
    Ok(trials)
}

/// Loss by rate.
pub fn loss_table(trials: &[Trial]) -> Table {
    let head = ["workload", "collector", "datagrams/s", "lost", "dropped by the kernel", "ns/flow"];
    let mut table = Table::new(2, &head);
    for trial in trials.iter().filter(|t| t.measure == "loss") {
        let (user, system) = trial.cpu_ns_per_flow();
        table.row([
            trial.workload.clone(),
            trial.peer.clone(),
            number(trial.rate),
            format!("{:.2} %", 100.0 * trial.loss()),
            number(trial.kernel_drops as f64),
            number(user + system),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(first: f64, holds: impl Fn(f64) -> Verdict) -> (f64, bool, u32) {
        let mut tried = 0;
        let verdict = |rate| {
            tried += 1;
            Ok(holds(rate))
        };
        let (rate, limited) = bisect(first, 0.05, verdict).unwrap();
        (rate, limited, tried)
    }

    #[test]
    fn the_edge_is_found_from_both_sides() {
        for first in [100.0, 20_000.0, 5e6] {
            let (rate, limited, tried) = found(first, |r| if r < 80_000.0 { Verdict::Holds } else { Verdict::Loses });
            assert!(rate < 80_000.0 && rate * 1.05 >= 80_000.0 && !limited && tried < 25, "{rate} after {tried}");
        }
        assert_eq!(found(1000.0, |_| Verdict::Loses).0, 0.0);
    }

    #[test]
    fn a_sender_that_can_do_no_more_is_told_from_loss() {
        let (rate, limited, _) = found(20_000.0, |r| if r < 90_000.0 { Verdict::Holds } else { Verdict::CannotSend });
        assert!(limited && rate > 85_000.0);
    }

    #[test]
    fn a_rate_that_held_once_by_luck_is_not_reported() {
        let lucky = std::cell::Cell::new(true);
        let holds = |rate: f64| match rate {
            r if r < 50_000.0 => Verdict::Holds,
            r if r < 70_000.0 && lucky.replace(false) => Verdict::Holds,
            _ => Verdict::Loses,
        };
        assert!(found(60_000.0, holds).0 < 50_000.0);
    }
}
