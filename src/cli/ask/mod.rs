//! Questions to files that `collect` or `decode` wrote: what their subcommands have in common.

pub mod analyze;
mod anonymous;
mod answer;
pub mod connections;
mod draw;
pub mod export;
pub mod flows;
pub mod info;
pub mod report;
mod resolve;
pub mod series;
pub mod top;
pub mod views;
mod watched;

use super::{say, usage};
use answer::Kind;
use anyhow::Context;
use clap::ValueEnum;
use flowlane::columns::{ColumnType, Timestamp};
use flowlane::query::{self, DedupBy, Duplicates, Filter, Input, Metric, Scan, ScanStats, Watch};
use flowlane::sink::schema::SCHEMA;
use std::collections::HashSet;
use std::fs;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::SystemTime;

const FILTERS: &str = "\
Filters:
  proto tcp and dst port 443                 nfdump's words; `and` may be left out
  src_addr in 10.0.0.0/8, 2001:db8::/32      prefixes of both families
  bytes > 1M and not net 192.0.2/24          either direction: addr, host, net, port, as, if
  dst_port in 1024..2048 and flags S         ranges; TCP flags by letter, all of them set
  last 1h                                    by the time received; flow_start > 2026-11-24T10:00 by the exporter's
  in_if = 3 and exporter = 192.0.2.1         any column; `vni is present`, `src_as is absent`
  `flowlane help filter` has them all";

/// Where flows are, and how answers look.
#[derive(clap::Args)]
struct From {
    /// A folder, a Parquet or an Arrow file; repeatable
    #[arg(short = 'i', long = "in", value_name = "PATH", default_value = "flows")]
    paths: Vec<PathBuf>,
    /// How to print [default: by the name of --out; a table on a terminal, else csv]
    #[arg(short, long, value_enum)]
    format: Option<Style>,
    /// A file for the answer; - is standard output
    #[arg(short, long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Threads [default: one a core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Count a flow once that several exporters saw, or one at ingress and egress: by addresses, ports, protocol and time
    #[arg(long, value_name = "BY", value_enum, value_delimiter = ',')]
    dedup: Vec<Dedup>,
    /// Say on standard error what was read
    #[arg(long)]
    stats: bool,
}

/// Sightings of a flow that count once.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Dedup {
    /// Of several exporters, the one that saw most of it counts
    Exporter,
    /// Of ingress and egress of an exporter, one counts
    Direction,
}

/// Records that are kept in memory to find duplicates among them.
const COMPARED: usize = 8_000_000;

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Style {
    /// Columns for people
    Table,
    /// Comma-separated
    Csv,
    /// One JSON object a line
    Ndjson,
    /// A Markdown table
    Markdown,
    /// A Parquet file
    Parquet,
}

impl Style {
    /// What the extension of a file says.
    fn of(path: &Path) -> Option<Self> {
        Some(match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
            "csv" => Self::Csv,
            "ndjson" | "jsonl" | "json" => Self::Ndjson,
            "md" => Self::Markdown,
            "parquet" => Self::Parquet,
            "txt" => Self::Table,
            _ => return None,
        })
    }
}

fn metric(text: &str) -> Result<Metric, String> {
    text.parse().map_err(ToString::to_string)
}

impl From {
    /// Of a command that reads in its own way.
    fn answer_only(style: Style, out: Option<PathBuf>) -> Self {
        Self { paths: Vec::new(), format: Some(style), out, threads: None, dedup: Vec::new(), stats: false }
    }

    fn scan(&self, words: &[String], columns: Vec<String>) -> anyhow::Result<Scan> {
        let now = Timestamp::from(SystemTime::now()).0;
        let filter = Filter::parse(&words.join(" "), now).map_err(|e| usage(e.to_string()))?;
        let mut inputs: Vec<Input> = Vec::new();
        for path in &self.paths {
            let found = query::inputs(path).with_context(|| {
                format!(
                    "cannot read {}; give --in a folder that `flowlane collect` writes, or a Parquet file",
                    path.display()
                )
            })?;
            inputs.extend(found);
        }
        // A file that is given twice, as itself and in its folder, has its flows once.
        let mut known = HashSet::new();
        inputs.retain(|input| fs::canonicalize(input.path()).map_or(true, |path| known.insert(path)));
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = self.threads.map_or(cores, usize::from);
        let mut scan = Scan { inputs, filter, columns, threads, watch: Watch::default() };
        self.leave_out_duplicates(&mut scan);
        Ok(scan)
    }

    /// As `--dedup` asks, of the files and the time of the scan.
    fn leave_out_duplicates(&self, scan: &mut Scan) {
        if !self.dedup.is_empty() {
            let [exporter, direction] = [Dedup::Exporter, Dedup::Direction].map(|by| self.dedup.contains(&by));
            let by = DedupBy { exporter, direction };
            let duplicates = watched::watched(&scan.watch, || Duplicates::find(scan, by, COMPARED));
            if self.stats {
                say(&format!("{} records are left out: others tell of the same flows", duplicates.len()));
            }
            if by.direction && duplicates.without_direction() > 0 {
                say(&format!(
                    "flowlane: {} records do not say whether they were seen at ingress or at egress: --dedup direction \
                     leaves those of one exporter as they are",
                    duplicates.without_direction()
                ));
            }
            scan.filter = std::mem::take(&mut scan.filter).without(duplicates);
        }
    }

    fn style(&self) -> Style {
        let named = || Style::of(self.out.as_ref()?);
        let usual = if self.out.is_none() && io::stdout().is_terminal() { Style::Table } else { Style::Csv };
        self.format.or_else(named).unwrap_or(usual)
    }

    /// Whether it is a table on a terminal.
    fn is_on_screen(&self) -> bool {
        self.is_read_by_people() && io::stdout().is_terminal()
    }

    /// Whether remarks beside the answer are of use.
    fn is_read_by_people(&self) -> bool {
        self.style() == Style::Table && self.out.is_none()
    }

    /// What was read, and why there is no answer; the exit code.
    fn end(&self, scan: &Scan, stats: &ScanStats) -> ExitCode {
        stats.damaged.iter().for_each(|damage| say(&format!("flowlane: {damage}")));
        if stats.files == 0 {
            say("flowlane: there are no flows: no Parquet or Arrow file and no segment there");
        } else if stats.damaged.len() == stats.files {
            say("flowlane: no flow: none of the files can be read");
        } else if stats.rows == 0 && !scan.watch.is_stopped() {
            let whole = Scan { filter: Filter::default(), ..scan.clone() };
            let there = whole.span().map_or(String::new(), |(from, to)| {
                format!("; what is there was received from {} to {}", time(from), time(to))
            });
            say(&format!(
                "flowlane: no flow: {} files, none of which can have one for this filter{there}",
                stats.files
            ));
        } else if stats.matched == 0 && !scan.watch.is_stopped() {
            let unknown = match stats.unknown {
                0 => String::new(),
                n => format!("; {n} lack a column that it asks for"),
            };
            say(&format!(
                "flowlane: no flow: the filter holds for none of {} that were looked at{unknown}",
                stats.rows
            ));
        }
        if self.stats {
            say(&format!(
                "{} files, {} row groups read and {} ruled out by statistics, {} rows, {} for which the filter holds",
                stats.files, stats.groups, stats.pruned, stats.rows, stats.matched
            ));
        }
        if scan.watch.is_stopped() {
            say(&match scan.watch.progress() {
                (0, _) => "flowlane: stopped before a part was read".to_string(),
                (done, all) => format!("flowlane: stopped: this is the answer of about {done} of {all} parts"),
            });
            return ExitCode::from(130);
        }
        if stats.damaged.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

/// What the cells of a column are.
fn kind(column: &str) -> Kind {
    match column {
        "proto" => Kind::Protocol,
        "port" | "nport" | "as" | "if" | "mask" | "vlan" | "vrf" => Kind::Whole,
        c if is_number(c) => Kind::Whole,
        c if is_time(c) => Kind::Time,
        c => match SCHEMA.iter().find(|s| s.name == c).map(|s| s.data_type) {
            Some(ColumnType::Bool) => Kind::Bool,
            Some(ColumnType::ListU32) => Kind::List,
            Some(ColumnType::F64) => Kind::Number,
            None if query::is_number_extra(c) => Kind::Number,
            _ => Kind::Text,
        },
    }
}

/// How much of an answer that is scaled could not be.
fn say_unscaled(scale: bool, rows: u64, unscaled: u64) {
    if scale && unscaled > 0 {
        let share = 100.0 * unscaled as f64 / rows as f64;
        say(&format!("flowlane: {unscaled} of {rows} flows ({share:.1}%) have no sampling rate and count as they are"));
    }
}

/// What is not in the sums, and how it would be.
fn say_running(records: u64) {
    if records > 0 {
        say(&format!(
            "flowlane: {records} records have running totals (elements 85 and 86), which are in no sum; --totals counts \
             them, right where an exporter sends one record a flow"
        ));
    }
}

/// The name of a counter's column, by what it counts.
fn counter(name: &str, both: bool) -> String {
    if both { format!("{name}_both") } else { name.to_string() }
}

/// Microseconds since 1970 as text.
fn time(us: i64) -> String {
    let mut text = Vec::new();
    flowlane::sink::text::time(&mut text, us);
    String::from_utf8(text).unwrap_or_default()
}

/// The columns of words; of `both`, those that stand for both directions stay.
fn columns<'a>(words: impl IntoIterator<Item = &'a String>, both: bool) -> anyhow::Result<Vec<String>> {
    let mut found = Vec::new();
    for word in words {
        match (query::column_named(word), query::directions(word)) {
            (Some(column), _) => found.push(column),
            (None, Some(_)) if both => found.push(word.clone()),
            (None, Some(columns)) => found.extend(columns.map(String::from)),
            (None, None) => {
                let like = |c: &&str| !word.is_empty() && c.contains(word.as_str());
                let near: Vec<&str> = SCHEMA.iter().map(|c| c.name).filter(like).take(6).collect();
                let hint =
                    if near.is_empty() { "src_addr, dst_port, proto, bytes, ...".to_string() } else { near.join(", ") };
                return Err(usage(format!("there is no column {word:?}; there are {hint}")));
            }
        }
    }
    Ok(found)
}

fn is_number(column: &str) -> bool {
    use ColumnType as T;
    column == "duration_ms"
        || SCHEMA.iter().any(|c| {
            c.name == column && matches!(c.data_type, T::U8 | T::U16 | T::U32 | T::U64 | T::I64) && column != "proto"
        })
}

fn is_time(column: &str) -> bool {
    SCHEMA.iter().any(|c| c.name == column && c.data_type == ColumnType::Timestamp)
}
