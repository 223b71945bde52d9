//! `flowlane report`: one HTML page.

use super::anonymous::Anonymous;
use super::watched::watched;
use super::{Dedup, FILTERS, From, series, time};
use crate::cli::output::Span;
use crate::cli::{say, status, usage};
use anyhow::{Context, bail};
use clap::ValueEnum;
use flowlane::collect::{self, http};
use flowlane::columns::Timestamp;
use flowlane::keep::ledger;
use flowlane::query::report::{About, Ledger, Options, Report};
use flowlane::query::{self, At, Scan};
use flowlane::sink::Place;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::SystemTime;

/// Arguments of `flowlane report`.
#[derive(clap::Args)]
#[command(after_help = format!("\
Examples:
  flowlane report                                        the last 24 h of what is in flows/, to flowlane-report.html
  flowlane report --last 7d --in /data --out week.html --title 'Border routers'
  flowlane report --from 2026-11-24 --to 2026-11-24T12:00 'dst port 443'
  flowlane report 'last 1h and src_as = 64496' --out -   a filter may say the time, too
  flowlane report --ledger 8080                          losses as the collector that runs here counts them
  flowlane report --anonymise @key --out share.html      for others: other addresses, no names of exporters and interfaces

The page needs nothing but a browser: traffic over time, top talkers, ports, protocols, applications, AS, countries, exporters,
interfaces, and what was lost. A collector keeps what it lost in ledger/ beside its flows, a line a minute.

{FILTERS}"))]
pub struct Args {
    /// Which flows; all words together are one filter
    filter: Vec<String>,
    /// A folder or a Parquet file; repeatable
    #[arg(short = 'i', long = "in", value_name = "PATH", default_value = "flows")]
    paths: Vec<PathBuf>,
    /// The page; - is standard output [default: flowlane-report.html, with --json flowlane-report.json]
    #[arg(short, long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// What stands above it
    #[arg(long, value_name = "TEXT", default_value = "Network traffic")]
    title: String,
    /// How much, counted back from the last flow there [default: 24h, unless the filter says a time]
    #[arg(long, value_name = "TIME", conflicts_with_all = ["from", "to"])]
    last: Option<Span>,
    /// Flows received from then on: 2026-11-24, 2026-11-24T10:00, or -2h
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    from: Option<String>,
    /// Flows received until then, all of that day or minute included
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    to: Option<String>,
    /// Groups of each kind to name
    #[arg(short, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=1000))]
    n: u16,
    /// Where flows count in the chart over time: spread, end or received
    #[arg(long, value_name = "PLACE", default_value = "spread", value_parser = series::place)]
    at: At,
    /// Multiply counters by the sampling rate
    #[arg(long)]
    scale: bool,
    /// Count running totals (elements 85 and 86) as the counters of a flow: right where the exporter sends one record a flow
    #[arg(long)]
    totals: bool,
    /// Count a flow once that several exporters saw, or one at ingress and egress: by addresses, ports, protocol and time
    #[arg(long, value_name = "BY", value_enum, value_delimiter = ',')]
    dedup: Vec<Dedup>,
    /// Where a running collector answers, for its losses since it began: http://HOST:PORT, HOST:PORT, or a port of this machine
    /// [default: the ledger in the folders]
    #[arg(long, value_name = "URL", value_parser = status::url)]
    ledger: Option<String>,
    /// Groups of each kind to keep in memory at most, about 120 bytes each; further ones go to a temporary file
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    groups: usize,
    /// Threads [default: one a core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Say on standard error what was read
    #[arg(long)]
    stats: bool,
    /// All numbers as JSON in place of the page
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    anonymous: Anonymous,
}

pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let now = Timestamp::from(SystemTime::now()).0;
    let anonymiser = args.anonymous.anonymiser([])?;
    let mut from = From {
        paths: args.paths.clone(),
        format: None,
        out: None,
        threads: args.threads,
        dedup: Vec::new(),
        stats: args.stats,
    };
    let mut scan = from.scan(&args.filter, Vec::new())?;
    let usual = if args.json { "flowlane-report.json" } else { "flowlane-report.html" };
    let out = args.out.as_deref().unwrap_or(Path::new(usual));
    check_out(out, &scan)?;
    let mut about = About {
        paths: args.paths.iter().map(|p| p.display().to_string()).collect(),
        filter: args.filter.join(" "),
        once: names(&args.dedup),
        now_us: now,
        ..About::default()
    };
    (about.received, about.range) = range(args, &scan, now)?;
    let span = scan.span();
    scan.filter = scan.filter.received(about.received.0, about.received.1);
    // Of the time that is asked for, now that it is known.
    from.dedup.clone_from(&args.dedup);
    from.leave_out_duplicates(&mut scan);
    let ledger = losses(args, &about, span, now)?;
    let options = Options {
        title: args.title.clone(),
        n: args.n.into(),
        scale: args.scale,
        totals: args.totals,
        at: args.at,
        groups: args.groups,
        anonymiser: anonymiser.map(Arc::new),
    };
    let (report, stats) = watched(&scan.watch, || Report::of(&scan, &about, &options, ledger.as_ref()));
    let text = if args.json { format!("{}\n", report.json()) } else { report.html() };
    if out.as_os_str() == "-" {
        io::stdout().lock().write_all(text.as_bytes())?;
    } else {
        write(out, text.as_bytes()).with_context(|| {
            format!("cannot write {}; give --out a file in a folder that may be written to", out.display())
        })?;
        let of = match (about.received, span) {
            (_, None) => String::new(),
            ((first, last), Some(found)) => {
                let (first, last) = (first.unwrap_or(found.0).max(found.0), last.unwrap_or(found.1).min(found.1));
                format!(", received {} to {}", time(first), time(last.max(first)))
            }
        };
        say(&format!("{}: {} flows{of}, {}", out.display(), stats.matched, about.range));
    }
    Ok(from.end(&scan, &stats))
}

/// The first and the last microsecond, where there are such.
type Bounds = (Option<i64>, Option<i64>);

/// The time asked for, and how it came about.
fn range(args: &Args, scan: &Scan, now: i64) -> anyhow::Result<(Bounds, String)> {
    let parsed = |flag: &str, text: &Option<String>| {
        let Some(text) = text else { return Ok(None) };
        let found = query::time(text, now).and_then(|(a, b)| Some((i64::try_from(a).ok()?, i64::try_from(b).ok()?)));
        found.map(Some).ok_or_else(|| {
            usage(format!("{flag} {text}: accepted are times like 2026-11-24, 2026-11-24T10:00 (UTC), -2h or now"))
        })
    };
    let (from, to) = (parsed("--from", &args.from)?.map(|t| t.0), parsed("--to", &args.to)?.map(|t| t.1));
    if let (Some(from), Some(to)) = (from, to)
        && from > to
    {
        return Err(usage("--from is after --to"));
    }
    if from.is_some() || to.is_some() {
        return Ok(((from, to), "as asked".to_string()));
    }
    if args.last.is_none() && scan.filter.columns().iter().any(|c| c == "time_received") {
        return Ok(((None, None), "as the filter says".to_string()));
    }
    let (seconds, text) = match args.last {
        Some(span) => (i64::try_from(span.seconds).unwrap_or(i64::MAX), readable(span.seconds)),
        None => (86_400, "24 h".to_string()),
    };
    let newest = scan.span().map(|s| s.1);
    let first = newest.map(|newest| newest.saturating_sub(seconds.saturating_mul(1_000_000)).saturating_add(1));
    Ok(((first, newest), format!("the last {text} of what is there")))
}

/// As `--dedup` takes them.
fn names(dedup: &[Dedup]) -> String {
    let names = dedup.iter().filter_map(|d| Some(d.to_possible_value()?.get_name().to_string()));
    names.collect::<Vec<_>>().join(",")
}

fn readable(seconds: u64) -> String {
    match seconds {
        s if s.is_multiple_of(86_400) => format!("{} days", s / 86_400).replace("1 days", "day"),
        s if s.is_multiple_of(3600) => format!("{} h", s / 3600),
        s if s.is_multiple_of(60) => format!("{} min", s / 60),
        s => format!("{s} s"),
    }
}

/// What was lost meanwhile, where anybody knows.
fn losses(args: &Args, about: &About, span: Option<(i64, i64)>, now: i64) -> anyhow::Result<Option<Ledger>> {
    if let Some(url) = &args.ledger {
        let (code, text) = http::fetch(url, "/ledger")
            .with_context(|| format!("no collector answers at {url} (one that runs with --http does)"))?;
        let ledger: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        let Some(seconds) = ledger["seconds"].as_f64().filter(|_| code == 200) else {
            bail!("{url} answered with status {code} and no ledger: is that a flowlane collector?");
        };
        let stretches = vec![collect::stretch(&ledger, now - (seconds * 1e6) as i64, now)];
        return Ok(Some(Ledger { source: format!("the collector at {url}"), stretches }));
    }
    let found = span.unwrap_or((i64::MIN, i64::MAX));
    let (from, to) = (about.received.0.unwrap_or(found.0), about.received.1.unwrap_or(found.1));
    let (mut stretches, mut sources) = (Vec::new(), Vec::new());
    for path in args.paths.iter().filter(|p| p.is_dir()) {
        let (some, damaged) =
            ledger::read(path, from, to).with_context(|| format!("cannot read the ledger in {}", path.display()))?;
        if damaged > 0 {
            say(&format!("flowlane: {damaged} lines of the ledger in {} cannot be read", path.display()));
        }
        if !some.is_empty() {
            sources.push(path.join("ledger").display().to_string());
        }
        stretches.extend(some);
    }
    stretches.sort_by_key(|s| (s.from, s.to));
    Ok((!stretches.is_empty()).then(|| Ledger { source: sources.join(", "), stretches }))
}

/// Said before anything is read: a page that cannot be written, or that would replace what it is made from.
fn check_out(out: &Path, scan: &Scan) -> anyhow::Result<()> {
    if out.is_dir() {
        return Err(usage(format!("--out {} is a folder; give a file in it", out.display())));
    }
    let same = |input: &query::Input| {
        let (query::Input::Parquet(path) | query::Input::Arrow(path) | query::Input::Hot(path)) = input;
        matches!((fs::canonicalize(path), fs::canonicalize(out)), (Ok(a), Ok(b)) if a == b)
    };
    if scan.inputs.iter().any(same) {
        return Err(usage(format!("--out {} is one of the files that are read", out.display())));
    }
    Ok(())
}

/// Whole, or not at all: a browser may be showing the one before.
fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let place = Place::create(path)?;
    place.stream()?.write_all(bytes)?;
    place.finish()
}
