//! The command line.
//!
//! 0: measured. 1: it could not be. 2: the command line is wrong.

use crate::machine::{Cores, Machine};
use crate::peer::{self, Peer};
use crate::raw::{Entry, Raw};
use crate::trial::Arena;
use crate::workload::{self, Workload};
use crate::{cost, raw};
use anyhow::{Context, bail};
use clap::{Parser, Subcommand};
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
  versus cost --json run.jsonl --csv run.csv  keep the raw data; both are appended to
  versus report run.jsonl                     the tables again, as Markdown
  versus list                                 workloads, and collectors with their versions or how to get them

A collector gets one core for all of its threads, the sender another; each asks for 16 MiB of receive buffer and writes to
the same disk. Processor time counts from after a short warming up to the end of the process, what it still has to write
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
    /// Raw data as tables in Markdown
    Report(ReportArgs),
    /// Workloads, and collectors with their versions or how to get them
    List,
}

/// What every measurement asks.
#[derive(clap::Args)]
struct Common {
    /// Workloads, with commas between [default: all]; `versus list` names them
    #[arg(short, long, value_name = "NAMES", value_delimiter = ',')]
    workload: Vec<String>,
    /// Collectors, with commas between [default: all that are here]
    #[arg(short, long, value_name = "NAMES", value_delimiter = ',')]
    peer: Vec<String>,
    /// Append raw data to a file, a JSON object a line
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Append raw data of each run to a file, comma-separated
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// Where collectors write while they run [default: the system's folder for temporary files]
    #[arg(long, value_name = "FOLDER")]
    dir: Option<PathBuf>,
    /// The core that sends [default: the first]
    #[arg(long, value_name = "N")]
    sender_core: Option<usize>,
    /// The core of the collector [default: the second]
    #[arg(long, value_name = "N")]
    receiver_core: Option<usize>,
}

#[derive(clap::Args)]
struct CostArgs {
    #[command(flatten)]
    common: Common,
    /// Times that each collector has its turn
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Seconds that each turn lasts
    #[arg(long, value_name = "SECONDS", default_value_t = 2.0, value_parser = seconds)]
    seconds: f64,
    /// Datagrams a second; slow collectors get what they can take
    #[arg(long, value_name = "N", default_value_t = 40_000.0, value_parser = seconds)]
    rate: f64,
}

#[derive(clap::Args)]
struct ReportArgs {
    /// Raw data, as `--json` wrote it
    #[arg(required = true)]
    files: Vec<PathBuf>,
}

/// A number above zero.
fn seconds(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|n: &f64| n.is_finite() && *n > 0.0);
    number.ok_or_else(|| "a number above zero".to_owned())
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
        What::Cost(args) => {
            let mut set = args.common.prepare()?;
            let plan = cost::Plan { rounds: args.rounds, seconds: args.seconds, rate: args.rate };
            let mut trials = Vec::new();
            for workload in &set.workloads {
                trials.extend(cost::measure(&set.arena, &set.peers, workload, plan, &mut set.raw)?);
            }
            print!("{}", cost::table(&trials).text());
            Ok(())
        }
        What::Report(args) => {
            let mut trials = Vec::new();
            for file in &args.files {
                trials.extend(raw::read(file)?.into_iter().filter_map(|entry| match entry {
                    Entry::Trial(trial) => Some(trial),
                    Entry::Machine(_) => None,
                }));
            }
            print!("{}", cost::table(&trials).markdown());
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

/// What a measurement needs, checked.
struct Set {
    arena: Arena,
    peers: Vec<Box<dyn Peer>>,
    workloads: Vec<Workload>,
    raw: Raw,
}

impl Common {
    fn prepare(&self) -> anyhow::Result<Set> {
        let mut workloads = workload::all();
        if let Some(unknown) = self.workload.iter().find(|w| workloads.iter().all(|known| known.name != *w)) {
            bail!("there is no workload {unknown}; versus list names them");
        }
        workloads.retain(|w| self.workload.is_empty() || self.workload.iter().any(|name| name == w.name));
        let mut peers = peer::all();
        if let Some(unknown) = self.peer.iter().find(|p| peers.iter().all(|known| known.name() != *p)) {
            bail!("there is no collector {unknown}; versus list names them");
        }
        peers.retain(|p| self.peer.is_empty() || self.peer.iter().any(|name| name == p.name()));
        let mut machine = Machine::here();
        peers.retain(|peer| match peer.version() {
            Ok(version) => machine.peers.insert(peer.name().to_owned(), version).is_none(),
            Err(how) => {
                eprintln!("versus: {} is missing; get it by: {how}", peer.name());
                machine.missing.insert(peer.name().to_owned(), how);
                false
            }
        });
        if peers.is_empty() {
            bail!("none of the collectors is here");
        }
        let base = self.dir.clone().unwrap_or_else(std::env::temp_dir);
        std::fs::create_dir_all(&base).with_context(|| format!("cannot write to {}", base.display()))?;
        let mut raw = Raw::open(self.json.as_deref(), self.csv.as_deref())?;
        raw.write(&Entry::Machine(machine))?;
        let arena = Arena { cores: Cores::choose(self.sender_core, self.receiver_core)?, base };
        Ok(Set { arena, peers, workloads, raw })
    }
}
