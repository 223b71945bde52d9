//! The highest rate without loss, by bisection, and the loss at fixed rates.
//!
//! As RFC 2544 section 26.1 and RFC 6645 section 6.2.2 have it: a rate is tried for a time, and it holds if all that was sent was
//! kept. Other work on the machine must not count as the collector's loss, so a rate that failed is tried once more; and the rate
//! that is reported held in one more trial at the end.

use crate::peer::Peer;
use crate::raw::{Entry, Raw};
use crate::table::{Table, median, number};
use crate::trial::{Arena, Asked, FEW, Trial};
use crate::turns::Turns;
use crate::workload::{TooSlow, Workload};
use serde::{Deserialize, Serialize};

/// How rates are searched.
#[derive(Clone, Copy, Debug)]
pub struct Search {
    /// Which time in turn, from 1.
    pub round: u32,
    /// Seconds that each trial lasts.
    pub seconds: f64,
    /// Where to begin, datagrams a second; a slow collector's own pace where that is less.
    pub first: f64,
    /// How close the highest rate that holds and the lowest that does not have to come, as a share.
    pub within: f64,
    /// As trains of UDP_SEGMENT.
    pub trains: bool,
    /// Seconds after which the collector begins a new file: with fewer than a trial lasts, what it does with the files before is
    /// a part of what it has to sustain.
    pub rotate: Option<u32>,
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
    /// Which time in turn, from 1.
    pub round: u32,
    /// Seconds after which it began a new file.
    #[serde(default)]
    pub rotate: Option<u32>,
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
            let Search { seconds, trains, rotate, .. } = search;
            let asked = Asked { measure: "rate", round: trials, rate, seconds, trains, rotate, distinct: FEW };
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
    Ok(LossFree {
        workload: workload.name.to_owned(),
        peer: peer.name().to_owned(),
        sender: if search.trains { "trains" } else { "plain" }.to_owned(),
        round: search.round,
        rotate: search.rotate,
        datagrams_per_second: found.0,
        flows_per_second: found.0 * flows,
        is_sender_limit: found.1,
        trials,
    })
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

/// Every collector in turn, round by round.
///
/// # Errors
/// Raw data cannot be written. What a collector fails at is said, and the others go on.
pub fn measure(
    arena: &Arena,
    turns: &mut Turns,
    workload: &Workload,
    search: Search,
    rounds: u32,
    raw: &mut Raw,
) -> anyhow::Result<Vec<LossFree>> {
    let mut all = Vec::new();
    for round in 1..=rounds {
        all.extend(turns.round(
            workload,
            raw,
            |peer, raw| loss_free(arena, peer, workload, Search { round, ..search }, raw).map(Some),
            |one| [Entry::LossFree(one.clone())],
        )?);
    }
    Ok(all)
}

/// What each collector found, the median of its rounds, and its ratio to flowlane's.
pub fn table(found: &[LossFree]) -> Table {
    let head = [
        "workload",
        "collector",
        "sender",
        "files of",
        "datagrams/s",
        "flows/s",
        "of flowlane's",
        "rounds",
        "bound by",
    ];
    let mut table = Table::new(4, &head);
    let key_of = |one: &LossFree| (one.workload.clone(), one.sender.clone(), one.rotate);
    let rounds = |key: &(String, String, Option<u32>), peer: &str| -> Vec<&LossFree> {
        found.iter().filter(|f| key_of(f) == *key && f.peer == peer).collect()
    };
    let middle = |of: &[&LossFree], f: &dyn Fn(&LossFree) -> f64| median(of.iter().map(|o| f(o))).unwrap_or(f64::NAN);
    let mut seen = Vec::new();
    for one in found {
        let key = key_of(one);
        if seen.contains(&(key.clone(), one.peer.as_str())) {
            continue;
        }
        seen.push((key.clone(), &one.peer));
        let its = rounds(&key, &one.peer);
        let rate = |of: &[&LossFree]| middle(of, &|o| o.datagrams_per_second);
        table.row([
            one.workload.clone(),
            one.peer.clone(),
            one.sender.clone(),
            one.rotate.map_or_else(|| "5 min".to_owned(), |seconds| format!("{seconds} s")),
            number(rate(&its)),
            number(middle(&its, &|o| o.flows_per_second)),
            number(rate(&its) / rate(&rounds(&key, "flowlane"))),
            its.len().to_string(),
            if its.iter().any(|o| o.is_sender_limit) { "the sender" } else { "the collector" }.to_owned(),
        ]);
    }
    table
}

/// Each collector at each rate, round by round.
///
/// # Errors
/// Raw data cannot be written. What a collector fails at is said, and the others go on.
pub fn losses(
    arena: &Arena,
    turns: &mut Turns,
    workload: &Workload,
    asked: &Rates,
    raw: &mut Raw,
) -> anyhow::Result<Vec<Trial>> {
    let mut trials = Vec::new();
    for round in 1..=asked.rounds {
        for &rate in &asked.rates {
            let seconds = asked.seconds;
            let asked = Asked { measure: "loss", round, rate, seconds, trains: false, rotate: None, distinct: FEW };
            trials.extend(turns.round(
                workload,
                raw,
                |peer, _| arena.trial(peer, workload, asked).map(Some),
                |trial| [Entry::Trial(trial.clone())],
            )?);
        }
    }
    Ok(trials)
}

/// Fixed rates.
#[derive(Clone, Debug)]
pub struct Rates {
    /// Times that each collector has its turn.
    pub rounds: u32,
    /// Datagrams a second.
    pub rates: Vec<f64>,
    /// Seconds that each trial lasts.
    pub seconds: f64,
}

/// Loss by rate, the medians of all rounds.
pub fn loss_table(trials: &[Trial]) -> Table {
    let head = ["workload", "collector", "datagrams/s", "lost", "most", "dropped by the kernel", "ns/flow", "rounds"];
    let mut table = Table::new(2, &head);
    let key = |t: &Trial| (t.workload.clone(), t.peer.clone(), t.rate as u64);
    let losses = || trials.iter().filter(|t| t.measure == "loss");
    let mut seen = Vec::new();
    for trial in losses() {
        if seen.contains(&key(trial)) {
            continue;
        }
        seen.push(key(trial));
        let of: Vec<&Trial> = losses().filter(|t| key(t) == key(trial)).collect();
        let middle = |f: &dyn Fn(&Trial) -> f64| median(of.iter().map(|t| f(t))).unwrap_or(f64::NAN);
        table.row([
            trial.workload.clone(),
            trial.peer.clone(),
            number(trial.rate),
            format!("{:.2} %", 100.0 * middle(&Trial::loss)),
            format!("{:.2} %", 100.0 * of.iter().map(|t| t.loss()).fold(0.0, f64::max)),
            number(middle(&|t| t.kernel_drops as f64)),
            number(middle(&|t| t.cpu_ns_per_flow().0 + t.cpu_ns_per_flow().1)),
            of.len().to_string(),
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
