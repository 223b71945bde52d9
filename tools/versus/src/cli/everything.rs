//! `versus` without a command: every measurement, of every workload and collector.

use super::common::{Common, positive};
use crate::raw::{self, Entry};
use crate::summary::Measured;
use crate::{cost, latency, rate};

/// Arguments of `versus` alone.
#[derive(clap::Args)]
#[group(skip)]
pub struct Args {
    #[command(flatten)]
    common: Common,
    /// Times that each collector has its turn, for each measurement
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Seconds that each turn lasts
    #[arg(long, value_name = "SECONDS", default_value_t = 2.0, value_parser = positive)]
    seconds: f64,
    /// Datagrams a second at which costs are compared; slow collectors get what they can take
    #[arg(long, value_name = "N", default_value_t = 40_000.0, value_parser = positive)]
    rate: f64,
    /// Datagrams a second at which losses are compared, with commas between
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "50000,100000,200000", value_parser = positive)]
    loss_rates: Vec<f64>,
    /// Datagrams a second for latency
    #[arg(long, value_name = "N", default_value_t = 20_000.0, value_parser = positive)]
    latency_rate: f64,
}

/// Minutes that it will take, by what a trial needs beside its seconds, and a bisection in trials.
fn minutes(workloads: usize, peers: usize, args: &Args) -> f64 {
    let trials = 1 + args.loss_rates.len() + 2 * 12 + 1;
    (workloads * peers * trials) as f64 * f64::from(args.rounds) * (args.seconds + 3.0) / 60.0
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    let mut set = args.common.prepare()?;
    let long = minutes(set.workloads.len(), set.turns.peers().len(), args);
    eprintln!(
        "versus: {} workloads, {} collectors: about {long:.0} minutes",
        set.workloads.len(),
        set.turns.peers().len()
    );
    let mut all = Measured::default();
    let Args { rounds, seconds, rate, .. } = *args;
    for workload in &set.workloads {
        eprintln!("versus: {}", workload.name);
        let plan = cost::Plan { rounds, seconds, rate };
        all.trials.extend(cost::measure(&set.arena, &mut set.turns, workload, plan, &mut set.raw)?);
        let fixed = rate::Rates { rounds, rates: args.loss_rates.clone(), seconds };
        all.trials.extend(rate::losses(&set.arena, &mut set.turns, workload, &fixed, &mut set.raw)?);
        for trains in [false, true] {
            let search = rate::Search { round: 0, seconds, first: rate, within: 0.05, trains, rotate: None };
            all.rates.extend(rate::measure(&set.arena, &mut set.turns, workload, search, rounds, &mut set.raw)?);
        }
        if latency::plan(workload).is_some() {
            let asked = latency::Asked { round: 0, rate: args.latency_rate, seconds };
            let found = latency::in_turn(&set.arena, &mut set.turns, workload, asked, rounds, &mut set.raw)?;
            all.latencies.extend(found);
        }
    }
    print!("{}", all.table().text());
    if !args.common.has_csv() {
        println!();
        let mut csv = raw::Raw::open(None, Some("-".as_ref()))?;
        for entry in all.trials.into_iter().map(Entry::Trial) {
            csv.write(&entry)?;
        }
        for entry in all.rates.into_iter().map(Entry::LossFree) {
            csv.write(&entry)?;
        }
        for entry in all.latencies.into_iter().map(Entry::Latency) {
            csv.write(&entry)?;
        }
    }
    set.turns.verdict()
}
