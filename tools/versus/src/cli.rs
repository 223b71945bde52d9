//! The command line.
//!
//! 0: measured. 1: it could not be. 2: the command line is wrong.

mod common;

use crate::raw::{self, Entry};
use crate::report::Report;
use crate::{cost, hostile, latency, peer, rate, scale, soak, workload};
use anyhow::bail;
use clap::{Parser, Subcommand};
use common::{Common, positive};
use std::path::PathBuf;
use std::process::ExitCode;

/// Runs flow collectors on the same datagrams and the same core, and says what each of them costs, loses and keeps.
#[derive(Parser)]
#[command(
    name = "versus",
    version,
    after_help = "\
Examples:
  versus cost                                 processor time a flow, memory and disk: every collector that is here
  versus cost --workload v5,ipfix-23 --peer flowlane,nfcapd --rounds 7
  versus rate --workload v5                   the highest rate without loss, plain sender and trains
  versus latency --rate 50000                 percentiles of the way through a collector and back
  versus soak --workload v5 --peer flowlane --seconds 60
  versus hostile --workload v5 --peer flowlane
  versus cost --json run.jsonl --csv run.csv  keep the raw data; both are appended to
  versus report run.jsonl --out charts        the tables again, as Markdown, and charts
  versus list                                 workloads, and collectors with their versions or how to get them

A collector gets one core for all of its threads, the sender another; each asks for the same receive buffer and writes to the
same disk. Processor time counts from after a short warming up to the end of the process, what it still has to write
included. Build with cargo build --release -p flowlane -p flowgen -p versus."
)]
struct Args {
    #[command(subcommand)]
    command: What,
}

#[derive(Subcommand)]
enum What {
    /// Processor time a datagram and a flow, memory and bytes on disk, at a rate at which nobody loses any
    Cost(CostArgs),
    /// The highest rate without loss, by bisection
    Rate(RateArgs),
    /// What is lost at fixed rates
    Loss(LossArgs),
    /// Time from when a datagram is due to when it comes back repeated
    Latency(LatencyArgs),
    /// A long run at half the loss-free rate; exit code 1 unless nothing is lost and memory is flat within 5 %
    Soak(SoakArgs),
    /// Honest exporters among hostile templates and spoofed senders; exit code 1 unless the honest ones lose nothing and memory
    /// stays under 512 MiB
    Hostile(HostileArgs),
    /// What each stage of flowlane costs, and the rate that follows for 1 to 64 cores, checked on one and two
    Scale(ScaleArgs),
    /// Raw data as tables in Markdown, with --out also as a page with charts in SVG
    Report(ReportArgs),
    /// Workloads, and collectors with their versions or how to get them
    List,
}

#[derive(clap::Args)]
struct CostArgs {
    #[command(flatten)]
    common: Common,
    /// Times that each collector has its turn
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Seconds that each turn lasts
    #[arg(long, value_name = "SECONDS", default_value_t = 2.0, value_parser = positive)]
    seconds: f64,
    /// Datagrams a second; slow collectors get what they can take
    #[arg(long, value_name = "N", default_value_t = 40_000.0, value_parser = positive)]
    rate: f64,
}

#[derive(clap::Args)]
struct RateArgs {
    #[command(flatten)]
    common: Common,
    /// Seconds that each trial lasts
    #[arg(long, value_name = "SECONDS", default_value_t = 2.0, value_parser = positive)]
    seconds: f64,
    /// How close to the edge, as a share
    #[arg(long, value_name = "SHARE", default_value_t = 0.05, value_parser = positive)]
    within: f64,
    /// Where to begin, datagrams a second
    #[arg(long, value_name = "N", default_value_t = 40_000.0, value_parser = positive)]
    first: f64,
    /// Senders: plain, trains (UDP_SEGMENT), or both
    #[arg(long, value_name = "NAMES", value_delimiter = ',', default_value = "plain,trains",
        value_parser = ["plain", "trains"])]
    sender: Vec<String>,
}

#[derive(clap::Args)]
struct LossArgs {
    #[command(flatten)]
    common: Common,
    /// Datagrams a second, with commas between
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "10000,50000,100000,150000,200000",
        value_parser = positive)]
    rates: Vec<f64>,
    /// Seconds that each trial lasts
    #[arg(long, value_name = "SECONDS", default_value_t = 2.0, value_parser = positive)]
    seconds: f64,
}

#[derive(clap::Args)]
struct LatencyArgs {
    #[command(flatten)]
    common: Common,
    /// Datagrams a second: half the loss-free rate shows more than an idle collector does
    #[arg(long, value_name = "N", default_value_t = 20_000.0, value_parser = positive)]
    rate: f64,
    /// Seconds that it lasts
    #[arg(long, value_name = "SECONDS", default_value_t = 5.0, value_parser = positive)]
    seconds: f64,
}

#[derive(clap::Args)]
struct SoakArgs {
    #[command(flatten)]
    common: Common,
    /// How long it lasts, warming up included
    #[arg(long, value_name = "SECONDS", default_value_t = 600.0, value_parser = positive)]
    seconds: f64,
    /// How long memory may grow at the start
    #[arg(long, value_name = "SECONDS", default_value_t = 15.0, value_parser = positive)]
    warm: f64,
    /// Datagrams a second [default: half the loss-free rate, which is searched first]
    #[arg(long, value_name = "N", value_parser = positive)]
    rate: Option<f64>,
    /// Times that it is tried, for machines that have other work: one that holds is enough, all are kept
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    tries: u32,
}

#[derive(clap::Args)]
struct HostileArgs {
    #[command(flatten)]
    common: Common,
    /// Hostile templates, of ten senders
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    templates: u32,
    /// Spoofed senders, each with a hostile template and a set whose template never comes
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(..=8_000_000))]
    spoofed: u32,
    /// Hostile datagrams a second
    #[arg(long, value_name = "N", default_value_t = 20_000.0, value_parser = positive)]
    hostile_rate: f64,
    /// Honest datagrams a second
    #[arg(long, value_name = "N", default_value_t = 5_000.0, value_parser = positive)]
    rate: f64,
    /// Times that it is tried, for machines that have other work: one that holds is enough, all are kept
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    tries: u32,
}

#[derive(clap::Args)]
struct ScaleArgs {
    #[command(flatten)]
    common: Common,
    /// Seconds that each measurement lasts
    #[arg(long, value_name = "SECONDS", default_value_t = 3.0, value_parser = positive)]
    seconds: f64,
}

#[derive(clap::Args)]
struct ReportArgs {
    /// Raw data, as `--json` wrote it
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Write report.md and the charts into a folder
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
}

/// The program.
pub fn main() -> ExitCode {
    match run(Args::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("versus: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(what: What) -> anyhow::Result<()> {
    match what {
        What::Cost(args) => costs(&args),
        What::Rate(args) => rates(&args),
        What::Loss(args) => {
            let mut set = args.common.prepare()?;
            let mut trials = Vec::new();
            for w in &set.workloads {
                trials.extend(rate::losses(&set.arena, &set.peers, w, &args.rates, args.seconds, &mut set.raw)?);
            }
            print!("{}", rate::loss_table(&trials).text());
            Ok(())
        }
        What::Latency(args) => latencies(&args),
        What::Soak(args) => soaks(&args),
        What::Hostile(args) => attacks(&args),
        What::Scale(args) => {
            let mut set = args.common.prepare()?;
            let scale = scale::measure(&set.arena, args.seconds, &mut set.raw)?;
            set.raw.write(&Entry::Scale(scale.clone()))?;
            scale::tables(&scale).iter().for_each(|(title, table)| println!("{title}\n{}", table.text()));
            Ok(())
        }
        What::Report(args) => {
            let mut entries = Vec::new();
            for file in &args.files {
                entries.extend(raw::read(file)?);
            }
            let report = Report::new(entries);
            match &args.out {
                None => print!("{}", report.markdown()),
                Some(folder) => println!("report.md, {} in {}", report.write(folder)?.join(", "), folder.display()),
            }
            Ok(())
        }
        What::List => {
            println!("Workloads:");
            workload::all().iter().for_each(|w| println!("  {:<16} {}", w.name, w.about));
            println!("Collectors:");
            for peer in peer::all() {
                let state = peer.version().unwrap_or_else(|how| format!("missing; get it by: {how}"));
                println!("  {:<16} {state}", peer.name());
            }
            Ok(())
        }
    }
}

fn costs(args: &CostArgs) -> anyhow::Result<()> {
    let mut set = args.common.prepare()?;
    let plan = cost::Plan { rounds: args.rounds, seconds: args.seconds, rate: args.rate };
    let mut trials = Vec::new();
    for workload in &set.workloads {
        trials.extend(cost::measure(&set.arena, &set.peers, workload, plan, &mut set.raw)?);
    }
    print!("{}", cost::table(&trials).text());
    Ok(())
}

fn rates(args: &RateArgs) -> anyhow::Result<()> {
    let mut set = args.common.prepare()?;
    let mut found = Vec::new();
    for workload in &set.workloads {
        for sender in &args.sender {
            for peer in set.peers.iter().filter(|p| p.takes(workload)) {
                let (seconds, within, trains) = (args.seconds, args.within, sender == "trains");
                let search = rate::Search { seconds, first: args.first, within, trains };
                match rate::loss_free(&set.arena, peer.as_ref(), workload, search, &mut set.raw) {
                    Ok(one) => found.push(one),
                    Err(why) => eprintln!("versus: {why:#}"),
                }
            }
        }
    }
    print!("{}", rate::table(&found).text());
    Ok(())
}

fn latencies(args: &LatencyArgs) -> anyhow::Result<()> {
    let mut set = args.common.prepare()?;
    let mut found = Vec::new();
    for peer in &set.peers {
        match latency::measure(&set.arena, peer.as_ref(), args.rate, args.seconds) {
            Ok(Some(one)) => {
                set.raw.write(&Entry::Latency(one.clone()))?;
                found.push(one);
            }
            Ok(None) => eprintln!("versus: {} cannot repeat what it receives", peer.name()),
            Err(why) => eprintln!("versus: {}: {why:#}", peer.name()),
        }
    }
    print!("{}", latency::table(&found).text());
    Ok(())
}

fn soaks(args: &SoakArgs) -> anyhow::Result<()> {
    let mut set = args.common.prepare()?;
    let (mut found, mut all_hold) = (Vec::new(), true);
    for workload in &set.workloads {
        for peer in set.peers.iter().filter(|p| p.takes(workload)) {
            let rate = match args.rate {
                Some(rate) => rate,
                None => {
                    let search = rate::Search { seconds: 1.0, first: 40_000.0, within: 0.1, trains: false };
                    let found = rate::loss_free(&set.arena, peer.as_ref(), workload, search, &mut set.raw)?;
                    found.datagrams_per_second / 2.0
                }
            };
            let asked = soak::Asked { rate, seconds: args.seconds, warm: args.warm };
            let mut holds = false;
            for _ in 0..args.tries {
                let one = soak::run(&set.arena, peer.as_ref(), workload, asked)?;
                set.raw.write(&Entry::Soak(one.clone()))?;
                holds = one.holds();
                found.push(one);
                if holds {
                    break;
                }
            }
            all_hold &= holds;
        }
    }
    print!("{}", soak::table(&found).text());
    match all_hold {
        true => Ok(()),
        false => bail!("flows were lost, or memory grew"),
    }
}

fn attacks(args: &HostileArgs) -> anyhow::Result<()> {
    let mut set = args.common.prepare()?;
    let HostileArgs { templates, spoofed, hostile_rate, rate, .. } = *args;
    let asked = hostile::Asked { templates, spoofed, hostile_rate, rate };
    let (mut found, mut all_hold) = (Vec::new(), true);
    for workload in &set.workloads {
        for peer in set.peers.iter().filter(|p| p.takes(workload)) {
            let mut holds = false;
            for _ in 0..args.tries {
                let one = hostile::run(&set.arena, peer.as_ref(), workload, asked)?;
                set.raw.write(&Entry::Hostile(one.clone()))?;
                holds = one.holds();
                found.push(one);
                if holds {
                    break;
                }
            }
            all_hold &= holds;
        }
    }
    print!("{}", hostile::table(&found).text());
    match all_hold {
        true => Ok(()),
        false => bail!("honest flows were lost, or memory went beyond 512 MiB"),
    }
}
