//! The command line.
//!
//! 0: measured. 1: it could not be. 2: the command line is wrong. 3: what soak and hostile look for does not hold.

mod common;
mod everything;

use crate::document::Filled;
use crate::hostile::Hostile;
use crate::machine::Machine;
use crate::peer::Peer;
use crate::queries;
use crate::raw::{self, Entry, Raw};
use crate::report::Report;
use crate::soak::Soak;
use crate::{cost, hostile, latency, peer, rate, scale, soak, workload};
use anyhow::bail;
use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use common::{Common, positive, share};
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::process::ExitCode;

/// Runs flow collectors on the same datagrams and the same core, and says what each of them costs, loses and keeps.
#[derive(Parser)]
#[command(
    name = "versus",
    version,
    after_help = "\
Without a command it measures all of cost, loss, rate and latency, of all workloads and collectors that are named, or of all that are
there, and prints a row for each, then the raw data as CSV.

Examples:
  versus --workload v5 --peer flowlane,nfcapd --csv run.csv
  versus cost                                 processor time a flow, memory and disk: every collector that is here
  versus cost --workload v5,ipfix-23 --peer flowlane,nfcapd --rounds 7
  versus rate --workload v5                   the highest rate without loss, plain sender and trains
  versus latency --rate 50000                 percentiles of the way through a collector and back
  versus soak --workload v5 --peer flowlane --seconds 60
  versus hostile --workload v5 --peer flowlane
  versus queries --keep /var/tmp/queries      top, pairs, a filter and a rare address: flowlane, nfdump, DuckDB, chdb
  versus cost --json run.jsonl --csv run.csv  keep the raw data; both are appended to
  versus report run.jsonl --out charts        the tables again, as Markdown, and charts
  versus report --into PERFORMANCE.md         tables and charts of a document anew, from the raw data that it names
  versus list                                 workloads, and collectors with their versions or how to get them

A collector gets one core for all of its threads, the sender another; each asks for the same receive buffer and writes to the
same disk. Processor time counts from after a short warming up to the end of the process, what it still has to write
included. Build with cargo build --release -p flowlane -p flowgen -p versus.

Exit codes: 0 measured, 1 it could not be or is not right, 2 the command line is wrong, 3 what soak and hostile look for does not hold."
)]
struct Args {
    #[command(subcommand)]
    command: Option<What>,
    #[command(flatten)]
    everything: everything::Args,
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
    /// A long run at half the rate that a collector sustains without loss; exit code 3 unless nothing is lost and memory is flat within 5 %
    Soak(SoakArgs),
    /// Honest exporters among hostile templates and spoofed senders; exit code 3 unless the honest ones lose nothing, memory
    /// stays under 512 MiB and every page that shows the senders comes within 10 s
    Hostile(HostileArgs),
    /// What each stage of flowlane costs, and the rate that follows for 1 to 64 cores, checked on one and two
    Scale(ScaleArgs),
    /// Questions to 16 million flows: flowlane, nfdump, DuckDB and chdb; exit code 1 unless their totals and answers are the same
    Queries(QueriesArgs),
    /// Raw data as tables in Markdown and charts in SVG: on a page of their own, or in a document
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
    /// Times that each collector has its turn
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Seconds that each trial lasts
    #[arg(long, value_name = "SECONDS", default_value_t = 2.0, value_parser = positive)]
    seconds: f64,
    /// How close to the edge, as a share
    #[arg(long, value_name = "SHARE", default_value_t = 0.05, value_parser = share)]
    within: f64,
    /// Where to begin, datagrams a second
    #[arg(long, value_name = "N", default_value_t = 40_000.0, value_parser = positive)]
    first: f64,
    /// A new file every so many seconds, so that what a collector does with the one before is a part of it
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(2..))]
    rotate: Option<u32>,
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
    /// Times that each collector has its turn
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Seconds that each trial lasts
    #[arg(long, value_name = "SECONDS", default_value_t = 2.0, value_parser = positive)]
    seconds: f64,
}

#[derive(clap::Args)]
struct LatencyArgs {
    #[command(flatten)]
    common: Common,
    /// Datagrams a second, with commas between: half the loss-free rate shows more than an idle collector does
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "20000", value_parser = positive)]
    rate: Vec<f64>,
    /// Times that each collector has its turn
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Seconds that each turn lasts
    #[arg(long, value_name = "SECONDS", default_value_t = 3.0, value_parser = positive)]
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
    /// Datagrams a second [default: a share of the rate that it sustains, files being sealed meanwhile; searched first]
    #[arg(long, value_name = "N", value_parser = positive)]
    rate: Option<f64>,
    /// Of the rate that is found
    #[arg(long, value_name = "SHARE", default_value_t = 0.5, value_parser = positive, conflicts_with = "rate")]
    share: f64,
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
struct QueriesArgs {
    /// A folder for the flows, which stay in it and are used again: some 4 GB for 560,000 datagrams [default: one that is removed at the
    /// end]
    #[arg(long, value_name = "FOLDER")]
    keep: Option<PathBuf>,
    /// Where that one is made [default: the system's folder for temporary files]
    #[arg(long, value_name = "FOLDER")]
    dir: Option<PathBuf>,
    /// NetFlow v5 datagrams of 30 flows
    #[arg(long, value_name = "N", default_value_t = 560_000, value_parser = clap::value_parser!(u32).range(1..))]
    datagrams: u32,
    /// Hosts inside, and as many outside; few of them have most flows (Zipf)
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1..))]
    hosts: u32,
    /// Times that each engine has its turn, after one that warms the caches
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Threads, with commas between; as many cores each [default: one, and one a core]
    #[arg(long, value_name = "N", value_delimiter = ',', value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Vec<u16>,
    /// A venv of Python with duckdb and chdb; it is made, by pip, where it is not there [default: in the folder]
    #[arg(long, value_name = "FOLDER")]
    venv: Option<PathBuf>,
    /// A few flows, one round: whether all of it works (150,000 flows)
    #[arg(long)]
    short: bool,
    /// Append raw data to a file, a JSON object a line
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Append raw data to a file, comma-separated; `-` for standard output
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
}

#[derive(clap::Args)]
struct ReportArgs {
    /// Raw data, as `--json` of versus and of bench wrote it
    #[arg(required_unless_present = "into")]
    files: Vec<PathBuf>,
    /// Write report.md and the charts into a folder
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// Fill in the places of a document that are marked by `<!-- versus report: TABLE FILE... -->` or `<!-- versus report: chart CHART
    /// FILE... -->`, up to `<!-- end -->`
    #[arg(long, value_name = "DOCUMENT", conflicts_with_all = ["files", "out"])]
    into: Option<PathBuf>,
    /// Write nothing: exit code 1 where the document or one of its charts is not what the raw data says
    #[arg(long, requires = "into")]
    check: bool,
}

/// The program.
pub fn main() -> ExitCode {
    let args = Args::of(std::env::args_os()).unwrap_or_else(|refusal| refusal.exit());
    let result = match args.command {
        Some(command) => run(command),
        None => everything::run(&args.everything),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("versus: {error:#}");
            match error {
                error if error.is::<DoesNotHold>() => ExitCode::from(3),
                error if error.is::<WrongUse>() => ExitCode::from(2),
                _ => ExitCode::FAILURE,
            }
        }
    }
}

/// It was measured, and is not as it should be.
#[derive(Debug)]
struct DoesNotHold(&'static str);

impl fmt::Display for DoesNotHold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for DoesNotHold {}

/// The command line asks for what there is not.
#[derive(Debug)]
struct WrongUse(String);

impl fmt::Display for WrongUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for WrongUse {}

impl Args {
    /// Before a command only `--dir` may stand: the others are those of a measurement of all.
    fn of(words: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        let mut command = Self::command();
        let matches = command.try_get_matches_from_mut(words)?;
        if let Some((name, _)) = matches.subcommand() {
            let is_given = |id: &str| matches.value_source(id) == Some(ValueSource::CommandLine);
            let all = command.clone();
            let mut ids = all.get_arguments().filter(|a| !a.is_global_set()).map(|a| a.get_id().as_str());
            if let Some(flag) = ids.find(|id| is_given(id)).map(|id| id.replace('_', "-")) {
                let text = format!("--{flag} stands behind the command: versus {name} --{flag} ...");
                return Err(command.error(ErrorKind::ArgumentConflict, text));
            }
        }
        Self::from_arg_matches(&matches)
    }
}

fn run(what: What) -> anyhow::Result<()> {
    match what {
        What::Cost(args) => costs(&args),
        What::Rate(args) => rates(&args),
        What::Loss(args) => {
            let mut set = args.common.prepare()?;
            let fixed = rate::Rates { rounds: args.rounds, rates: args.rates, seconds: args.seconds };
            let mut trials = Vec::new();
            for w in &set.workloads {
                trials.extend(rate::losses(&set.arena, &mut set.turns, w, &fixed, &mut set.raw)?);
            }
            print!("{}", rate::loss_table(&trials).text());
            set.turns.verdict()
        }
        What::Latency(args) => latencies(&args),
        What::Soak(args) => soaks(&args),
        What::Hostile(args) => attacks(&args),
        What::Scale(args) => {
            if args.common.names() {
                return Err(
                    WrongUse("scale is of flowlane and v5 alone: leave out -w, -p and --command".to_owned()).into()
                );
            }
            let mut set = args.common.prepare()?;
            let scale = scale::measure(&set.arena, args.seconds, &mut set.raw)?;
            set.raw.write(&Entry::Scale(scale.clone()))?;
            scale::tables(&scale).iter().for_each(|(_, title, table)| println!("{title}\n{}", table.text()));
            scale::notes(&scale).iter().for_each(|note| println!("{note}"));
            Ok(())
        }
        What::Queries(args) => questions(&args),
        What::Report(args) => reports(&args),
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

fn questions(args: &QueriesArgs) -> anyhow::Result<()> {
    crate::process::end_together()?;
    let scratch = match &args.keep {
        Some(_) => None,
        None => {
            let base = args.dir.clone().unwrap_or_else(std::env::temp_dir);
            Some(crate::process::Scratch::new(&base, "queries")?)
        }
    };
    let folder = args.keep.as_deref().or(scratch.as_ref().map(crate::process::Scratch::path));
    let Some(folder) = folder else { bail!("no folder") };
    let (datagrams, rounds) = if args.short { (5_000, 1) } else { (args.datagrams, args.rounds) };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut threads: Vec<usize> = args.threads.iter().map(|n| usize::from(*n)).collect();
    if threads.is_empty() {
        threads = vec![1, cores];
        threads.dedup();
    }
    let data = queries::Data::build(folder, queries::Asked { datagrams, hosts: args.hosts })?;
    let mut engines = queries::engines(&data, args.venv.as_deref())?;
    let mut machine = Machine::here();
    for engine in &engines.here {
        machine.peers.insert(engine.name().to_owned(), engine.version());
    }
    machine.missing.extend(engines.missing.drain(..));
    let mut raw = raw::Raw::open(args.json.as_deref(), args.csv.as_deref())?;
    raw.write(&Entry::Machine(machine))?;
    let found = queries::ask(&data, &mut engines.here, &queries::Plan { rounds, threads }, &mut raw)?;
    print!("{}", queries::table(&found).text());
    Ok(())
}

fn costs(args: &CostArgs) -> anyhow::Result<()> {
    let mut set = args.common.prepare()?;
    let plan = cost::Plan { rounds: args.rounds, seconds: args.seconds, rate: args.rate };
    let mut trials = Vec::new();
    for workload in &set.workloads {
        trials.extend(cost::measure(&set.arena, &mut set.turns, workload, plan, &mut set.raw)?);
    }
    print!("{}", cost::table(&trials).text());
    set.turns.verdict()
}

fn rates(args: &RateArgs) -> anyhow::Result<()> {
    let mut set = args.common.prepare()?;
    let mut found = Vec::new();
    for workload in &set.workloads {
        for sender in &args.sender {
            let (seconds, within, trains, rotate) = (args.seconds, args.within, sender == "trains", args.rotate);
            let search = rate::Search { round: 0, seconds, first: args.first, within, trains, rotate };
            found.extend(rate::measure(&set.arena, &mut set.turns, workload, search, args.rounds, &mut set.raw)?);
        }
    }
    print!("{}", rate::table(&found).text());
    set.turns.verdict()
}

fn latencies(args: &LatencyArgs) -> anyhow::Result<()> {
    let mut set = args.common.prepare()?;
    // Without a name it is the first alone: what the datagrams hold makes little difference here.
    let named = args.common.names_workloads();
    let of_one = set.workloads.iter().filter(|w| named || w.name == "v5");
    let mut found = Vec::new();
    for workload in of_one {
        if latency::plan(workload).is_none() {
            eprintln!("versus: {} is left out: latency is measured of one exporter's made up traffic", workload.name);
            continue;
        }
        for &rate in &args.rate {
            let asked = latency::Asked { round: 0, rate, seconds: args.seconds };
            found.extend(latency::in_turn(&set.arena, &mut set.turns, workload, asked, args.rounds, &mut set.raw)?);
        }
    }
    print!("{}", latency::table(&found).text());
    set.turns.verdict()
}

fn reports(args: &ReportArgs) -> anyhow::Result<()> {
    if let Some(document) = &args.into {
        let filled = Filled::of(document)?;
        let stale = filled.stale();
        match (stale.is_empty(), args.check) {
            (false, true) => bail!("not what the raw data says: {}; versus report --into writes it", stale.join(", ")),
            (_, true) => {}
            _ => filled.write()?,
        }
        return Ok(());
    }
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

fn soaks(args: &SoakArgs) -> anyhow::Result<()> {
    if args.seconds <= args.warm {
        let text = format!("--seconds {} is over before the {} s of --warm are", args.seconds, args.warm);
        return Err(WrongUse(text).into());
    }
    let mut set = args.common.prepare()?;
    let (mut found, mut all_hold) = (Vec::new(), true);
    for workload in &set.workloads {
        let turn = |peer: &dyn Peer, raw: &mut Raw| {
            let rate = match args.rate {
                Some(rate) => rate,
                None => {
                    let search = rate::Search {
                        round: 1,
                        seconds: f64::from(2 * soak::SEARCH_ROTATE),
                        first: 80_000.0,
                        within: 0.2,
                        trains: false,
                        rotate: Some(soak::SEARCH_ROTATE),
                    };
                    let found = rate::loss_free(&set.arena, peer, workload, search, raw)?;
                    found.datagrams_per_second * args.share
                }
            };
            let asked = soak::Asked { rate, seconds: args.seconds, warm: args.warm };
            tried(args.tries, Soak::holds, || soak::run(&set.arena, peer, workload, asked))
        };
        let entries = |tries: &Vec<Soak>| tries.iter().cloned().map(Entry::Soak).collect::<Vec<_>>();
        for tries in set.turns.round(workload, &mut set.raw, turn, entries)? {
            all_hold &= tries.last().is_some_and(Soak::holds);
            found.extend(tries);
        }
    }
    print!("{}", soak::table(&found).text());
    set.turns.verdict()?;
    match all_hold {
        true => Ok(()),
        false => Err(DoesNotHold("flows were lost, or memory grew").into()),
    }
}

/// Tries until one holds, at most so many times.
fn tried<T>(
    tries: u32,
    holds: impl Fn(&T) -> bool,
    mut one: impl FnMut() -> anyhow::Result<T>,
) -> anyhow::Result<Option<Vec<T>>> {
    let mut all = Vec::new();
    while (all.len() as u32) < tries && !all.last().is_some_and(&holds) {
        all.push(one()?);
    }
    Ok(Some(all))
}

fn attacks(args: &HostileArgs) -> anyhow::Result<()> {
    let mut set = args.common.prepare()?;
    let HostileArgs { templates, spoofed, hostile_rate, rate, .. } = *args;
    let asked = hostile::Asked { templates, spoofed, hostile_rate, rate };
    let (mut found, mut all_hold) = (Vec::new(), true);
    for workload in &set.workloads {
        let turn = |peer: &dyn Peer, _: &mut Raw| {
            tried(args.tries, Hostile::holds, || hostile::run(&set.arena, peer, workload, asked))
        };
        let entries = |tries: &Vec<Hostile>| tries.iter().cloned().map(Entry::Hostile).collect::<Vec<_>>();
        for tries in set.turns.round(workload, &mut set.raw, turn, entries)? {
            all_hold &= tries.last().is_some_and(Hostile::holds);
            found.extend(tries);
        }
    }
    print!("{}", hostile::table(&found).text());
    set.turns.verdict()?;
    match all_hold {
        true => Ok(()),
        false => Err(DoesNotHold("honest flows were lost, memory went beyond 512 MiB, or a page did not come").into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(line: &str) -> Result<Args, clap::Error> {
        Args::of(["versus"].into_iter().chain(line.split(' ')).map(OsString::from))
    }

    #[test]
    fn the_folder_stands_before_a_command_or_behind_it() {
        for line in ["--dir /x cost", "cost --dir /x", "--dir /y cost --dir /x"] {
            let Some(What::Cost(args)) = of(line).unwrap().command else { panic!("{line}") };
            assert_eq!(args.common.dir(), Some("/x".as_ref()), "{line}");
        }
        let Some(What::Queries(args)) = of("--dir /x queries").unwrap().command else { panic!("queries") };
        assert_eq!(args.dir, Some("/x".into()));
        assert!(of("--dir /x --workload v5").unwrap().command.is_none());
    }

    #[test]
    fn other_flags_stand_behind_their_command() {
        for wrong in ["--workload v5 cost", "--rounds 2 rate", "--loss-rates 1 loss"] {
            assert_eq!(of(wrong).err().map(|e| e.kind()), Some(ErrorKind::ArgumentConflict), "{wrong}");
        }
        assert!(of("cost --workload v5 --rounds 2").is_ok());
    }
}
