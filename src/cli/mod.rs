//! The command line: flags to configuration, results to exit codes.
//!
//! 0: done (a closed pipe is done, too). 1: it could not be done. 2: the command line is wrong.

mod addresses;
mod ask;
mod checks;
mod collect;
mod config;
mod decode;
mod demo;
mod keep;
mod learn;
mod names;
mod output;
mod service;
mod status;

use anyhow::Context;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, Parser, Subcommand};
use flowlane::columns::gather::Kernel;
use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;

/// NetFlow v1, v5, v7, v9 and IPFIX: receive, decode, and write as Parquet, Arrow, NDJSON or CSV.
#[derive(Parser)]
#[command(name = "flowlane", version, disable_help_subcommand = true, after_help = AFTER)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const AFTER: &str = "\
Examples:
  flowlane demo                          see flows within seconds, no router needed
  flowlane collect                       receive on UDP 2055, write Parquet files into flows/
  flowlane top src_addr 'last 1h'        who sent most bytes in the last hour
  flowlane report                        charts of the last day, as one HTML page
  flowlane decode capture.pcap           print the flows of a capture
  flowlane help                          how NetFlow gets from a router into a file";

#[derive(Subcommand)]
enum Command {
    /// Receive from routers over UDP, TCP and TLS, and write files
    Collect(Box<collect::Args>),
    /// Show what a running collector received, kept and lost
    Status(status::Args),
    /// Show flows that were kept, by a filter
    Flows(ask::flows::Args),
    /// Sum flows by address, port or any column, and show the greatest
    Top(ask::top::Args),
    /// Show traffic over time: by the minute, the hour, in groups, with p95 and maximum
    Series(ask::series::Args),
    /// Join both directions of conversations, and show the greatest
    Connections(ask::connections::Args),
    /// Print connections like the analyzer of Python's `netflow` package, of its files and of ours
    Analyze(ask::analyze::Args),
    /// Write one HTML page of charts: traffic over time, top talkers, ports, AS, losses
    Report(Box<ask::report::Args>),
    /// Write chosen flows again, with all their columns: Parquet, CSV, NDJSON, lines like nfdump's
    Export(ask::export::Args),
    /// Print views with text addresses for DuckDB, ClickHouse or Spark over the same files
    Views(ask::views::Args),
    /// Say what is in a folder: time, files, rows, exporters
    Info(ask::info::Args),
    /// Print a file with every setting of `collect`
    Config(config::ConfigArgs),
    /// Look for mistakes in such a file
    CheckConfig(config::CheckArgs),
    /// Decode capture files, IPFIX files, or hex text
    Decode(decode::Args),
    /// Read every file of a folder of flows to its last row
    Verify(keep::VerifyArgs),
    /// Remove the oldest files of a folder of flows
    Prune(keep::PruneArgs),
    /// Replay recorded exporters through a real socket and show what comes out
    Demo(demo::Args),
    /// Print completions for a shell
    Completions(learn::CompletionArgs),
    /// Write the man pages into a folder
    Man(learn::ManArgs),
    /// Explain how to get from a router to a file
    Help(learn::Args),
}

/// The program.
pub fn main() -> ExitCode {
    let cli = match config::expand(std::env::args_os().collect(), &Cli::command()) {
        Ok(args) => match Cli::try_parse_from(args) {
            Ok(cli) => cli,
            Err(error) => return refuse(&error),
        },
        Err(error) => return told(&error),
    };
    let result = match cli.command {
        Command::Collect(args) => collect::run(*args),
        Command::Status(args) => status::run(&args),
        Command::Decode(args) => decode::run(args),
        Command::Config(args) => config::print(&args, &Cli::command()),
        Command::CheckConfig(args) => config::run_check(&args, &Cli::command()),
        Command::Completions(args) => learn::completions(&args, &mut Cli::command()),
        Command::Man(args) => learn::man(&args, Cli::command()),
        Command::Flows(args) => ask::flows::run(&args),
        Command::Top(args) => ask::top::run(&args),
        Command::Export(args) => ask::export::run(&args),
        Command::Views(args) => ask::views::run(&args),
        Command::Series(args) => ask::series::run(&args),
        Command::Connections(args) => ask::connections::run(&args),
        Command::Analyze(args) => ask::analyze::run(&args),
        Command::Report(args) => ask::report::run(&args),
        Command::Info(args) => ask::info::run(&args),
        Command::Verify(args) => keep::verify(&args),
        Command::Prune(args) => keep::prune(&args),
        Command::Demo(args) => demo::run(args),
        Command::Help(args) => learn::run(&args, &mut Cli::command()),
    };
    match result {
        Ok(code) => code,
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => told(&error),
    }
}

/// One line on standard error, and the exit code.
fn told(error: &anyhow::Error) -> ExitCode {
    let (text, code) = telling(error);
    say(&format!("flowlane: {text}"));
    code
}

/// What to say of an error, and the exit code.
fn telling(error: &anyhow::Error) -> (String, ExitCode) {
    match error.downcast_ref::<Usage>() {
        Some(usage) => (usage.to_string(), ExitCode::from(2)),
        None => (one_line(&format!("{error:#}")), ExitCode::FAILURE),
    }
}

/// A command line that is wrong in a way that the parser does not see.
#[derive(Debug)]
struct Usage(String);

impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

fn usage(text: impl Into<String>) -> anyhow::Error {
    Usage(text.into()).into()
}

/// The instruction set asked for, by flag or environment; else the fastest of this machine.
fn kernel(asked: Option<Kernel>) -> anyhow::Result<Kernel> {
    let kernel = match (asked, std::env::var_os("FLOWLANE_KERNEL")) {
        (Some(kernel), _) => kernel,
        (None, Some(name)) => {
            let name = name.to_string_lossy();
            name.parse().map_err(|e| usage(format!("FLOWLANE_KERNEL={name}: {e}")))?
        }
        (None, None) => Kernel::best(),
    };
    if !kernel.is_available() {
        return Err(usage(format!("this machine has no {kernel}; the fastest that it has is {}", Kernel::best())));
    }
    Ok(kernel)
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|e| e.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe))
}

/// The text of a file, which can be read again when it changes.
fn read_text(path: &Path) -> anyhow::Result<String> {
    let read = || format!("cannot read {}", path.display());
    let bytes = flowlane::enrich::read_file(path).with_context(read)?;
    String::from_utf8(bytes).with_context(read)
}

/// A line on standard error; a reader that is gone is no reason to stop.
fn say(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

fn one_line(text: &str) -> String {
    text.lines().map(str::trim).filter(|l| !l.is_empty()).collect::<Vec<_>>().join(" ")
}

/// What the parser says, without the usage that follows: one line.
fn sentence(error: &clap::Error) -> String {
    let text = error.to_string();
    let mut line = String::new();
    let is_said = |l: &&str| !l.starts_with("Usage:") && !l.starts_with("For more information");
    for part in text.lines().map(str::trim).take_while(is_said).filter(|l| !l.is_empty()) {
        let is_list = line.ends_with(':') || part.starts_with('[');
        line += if line.is_empty() || is_list { if line.is_empty() { "" } else { " " } } else { "; " };
        line += part;
    }
    line.replacen("error: ", "", 1)
}

/// Help and version go out as they are; everything else is one line and exit code 2.
fn refuse(error: &clap::Error) -> ExitCode {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            let _ = error.print();
            return ExitCode::SUCCESS;
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = error.print();
            return ExitCode::from(2);
        }
        _ => {}
    }
    let mut line = sentence(error);
    let command = std::env::args().nth(1).unwrap_or_default();
    let mut cli = Cli::command();
    let known = cli.find_subcommand_mut(&command);
    match (error.kind(), error.get(ContextKind::ValidValue)) {
        (ErrorKind::UnknownArgument, _) => {
            if let Some(known) = known {
                let flags: Vec<String> =
                    known.get_arguments().filter_map(|a| a.get_long()).map(|l| format!("--{l}")).collect();
                line += &format!("; `flowlane {command}` takes {}", flags.join(", "));
            }
        }
        (ErrorKind::InvalidSubcommand, None | Some(ContextValue::None)) => {
            let names: Vec<&str> = cli.get_subcommands().map(clap::Command::get_name).collect();
            line += &format!("; commands are {}", names.join(", "));
        }
        _ => {}
    }
    say(&format!("flowlane: {line}"));
    ExitCode::from(2)
}

/// Whether progress may be shown.
fn on_terminal() -> bool {
    io::stderr().is_terminal()
}
