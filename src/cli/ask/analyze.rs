//! `flowlane analyze`: connections out of two flows, as the analyzer of Python's `netflow` package prints them.

use super::answer::{Answer, Column, Kind, put, stream};
use super::connections::not_joined;
use super::resolve::Names;
use super::{From, Style, time, watched::watched};
use crate::cli::{say, usage};
use anyhow::Context;
use flowlane::query::{self, Entries, Filter, Flow, FlowsOutcome, Matched, Pairs, Scan, Watch};
use flowlane::sink::Place;
use flowlane::sink::text::printable;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Read, Write};
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Arguments of `flowlane analyze`.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  flowlane analyze -f netflow.gz                         a file of the `netflow` package, or of --format netflow-json
  flowlane analyze -f flows -p 100 --match-host 192.0.2.1
  zcat netflow.gz | flowlane analyze -n                  standard input, compressed or not
  flowlane analyze -f netflow.gz --format csv -o connections.csv

A connection is two flows of opposite direction with the same addresses, ports and protocol at the same time, or one record that
tells of both. Those of a folder come by the time received. The host that sent more comes first; size and duration are those of
what it sent. Times are UTC.

Where rows are not those of `python3 -m netflow.analyzer`: the service is that of the lower port that has a name, where the package asks
for the port of who sent more alone, so one row in ten is named otherwise; ports are compared and starts may differ by a little, where
it joins by addresses and the same millisecond, so it joins some flows wrongly and misses others; and it skips IPFIX.")]
pub struct Args {
    /// gzip'ed JSON lines, a Parquet file, or a folder of flows; - is standard input
    #[arg(short, long, value_name = "FILE", default_value = "-")]
    file: PathBuf,
    /// Show connections of so many packets at least, both directions together
    #[arg(short, long, value_name = "N", default_value_t = 10)]
    packets: i64,
    /// Show flows without a counterpart, too
    #[arg(short, long)]
    verbose: bool,
    /// Connections of this host only
    #[arg(long, value_name = "ADDRESS")]
    match_host: Option<IpAddr>,
    /// Look up no names
    #[arg(short, long)]
    no_dns: bool,
    /// Look up names although the output is no terminal
    #[arg(long, conflicts_with = "no_dns")]
    dns: bool,
    /// Print rows of columns in place of text
    #[arg(long, value_enum)]
    format: Option<Style>,
    /// A file for the answer; - is standard output
    #[arg(short, long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Flows that may wait for their counterpart, 150 bytes each.
const WAITING: usize = 4_000_000;

/// Connections of a folder that wait at least to be shown by their time, 170 bytes each: files of several collectors tell of
/// the same hour.
const SORTED: usize = 500_000;

/// Connections whose names are looked up together.
const PAGE: usize = 500;

pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    if args.file.as_os_str() != "-" {
        let open = File::open(&args.file);
        open.with_context(|| format!("cannot open {}; give -f a file or a folder of flows", args.file.display()))?;
        if let Some(kind) = query::other_kind(&args.file) {
            return Err(usage(format!("{}: {kind}", args.file.display())));
        }
    }
    let names = Names::new(!args.no_dns && (args.dns || args.out.is_none() && io::stdout().is_terminal()));
    let mut report = Report::new(args, names)?;
    let mut pairs = Pairs::new(WAITING);
    let watch = Watch::default();
    let mut result = Ok(());
    let mut take = |flow: Flow| {
        let of_host = |ip: IpAddr| ip == flow.src.0 || ip == flow.dst.0;
        if args.match_host.is_none_or(of_host)
            && let Some(connection) = pairs.push(flow)
        {
            result = report.add(connection);
        }
        result.is_ok() && !watch.is_stopped()
    };
    let read = watched(&watch, || read(&args.file, &watch, &mut take));
    result?;
    report.put_earliest(usize::MAX)?;
    report.page()?;
    if watch.is_stopped() {
        say("flowlane: stopped: these are the connections of what was read");
    }
    let (damaged, empty) = match &read {
        Ok(read) => read.remarks(&args.file, watch.is_stopped()),
        // Compressed lines that were not awaited have no end.
        Err(_) if watch.is_stopped() => (false, false),
        Err(error) => {
            say(&format!("flowlane: {}: {error:#}; what was read before is shown", args.file.display()));
            (true, false)
        }
    };
    report.end(pairs, empty)?;
    Ok(match (watch.is_stopped(), damaged) {
        (true, _) => ExitCode::from(130),
        (false, true) => ExitCode::FAILURE,
        (false, false) => ExitCode::SUCCESS,
    })
}

/// What was read.
enum Source {
    Lines(Entries),
    Files(FlowsOutcome),
}

fn read(path: &Path, watch: &Watch, take: &mut (dyn FnMut(Flow) -> bool + Send)) -> anyhow::Result<Source> {
    if path.as_os_str() == "-" {
        return Ok(Source::Lines(query::netflow_json(Patient::stdin(watch)?, take)?));
    }
    let open = || File::open(path).context("cannot be opened");
    let mut magic = [0; 4];
    let is_parquet = path.is_dir() || open()?.read_exact(&mut magic).is_ok() && &magic == b"PAR1";
    if !is_parquet {
        return Ok(Source::Lines(query::netflow_json(open()?, take)?));
    }
    let inputs = query::inputs(path)?;
    let (filter, columns) = (Filter::default(), Vec::new());
    let scan = Scan { inputs, filter, columns, threads: 1, watch: watch.clone() };
    Ok(Source::Files(query::flows(&scan, take)))
}

/// Standard input, which may say nothing for long: Ctrl-C is its end.
struct Patient<'a> {
    from: File,
    watch: &'a Watch,
}

impl<'a> Patient<'a> {
    fn stdin(watch: &'a Watch) -> io::Result<Self> {
        Ok(Self { from: File::from(io::stdin().as_fd().try_clone_to_owned()?), watch })
    }
}

impl Read for Patient<'_> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        // As often as the signal is looked for.
        let wait = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
        while !self.watch.is_stopped() {
            match poll(&mut [PollFd::new(&self.from, PollFlags::IN)], Some(&wait)) {
                Ok(0) | Err(Errno::INTR) => {}
                Ok(_) => return self.from.read(to),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(0)
    }
}

impl Source {
    /// Says what could not be read. Whether there is such, and whether there is no flow at all.
    fn remarks(&self, path: &Path, stopped: bool) -> (bool, bool) {
        match self {
            Self::Lines(entries) => {
                if let Some((line, error)) = &entries.first_damaged {
                    let damaged = entries.damaged;
                    say(&format!(
                        "flowlane: {}: {damaged} lines cannot be read and are passed over; the first is line {line}: {error}",
                        path.display()
                    ));
                }
                if entries.without_addresses > 0 {
                    let n = entries.without_addresses;
                    say(&format!("flowlane: {}: {n} records without addresses are not joined", path.display()));
                }
                (entries.damaged > 0, entries.flows == 0 && !stopped)
            }
            Self::Files(outcome) => {
                if outcome.totals > 0 {
                    say(&format!("flowlane: {}", not_joined(outcome.totals, &outcome.running)));
                }
                if outcome.without_addresses > 0 {
                    let n = outcome.without_addresses;
                    say(&format!("flowlane: {n} records without addresses are not joined"));
                }
                let stats = &outcome.stats;
                stats.damaged.iter().for_each(|damage| say(&format!("flowlane: {damage}")));
                (!stats.damaged.is_empty(), stats.matched == 0 && !stopped)
            }
        }
    }
}

/// What is printed: text, or rows of columns.
enum Out {
    Text(Box<dyn Write + Send>),
    Rows(Box<Answer>),
}

struct Report<'a> {
    args: &'a Args,
    names: Names,
    out: Out,
    place: Option<(Place, PathBuf)>,
    is_folder: bool,
    // Not shown yet, so that those of several files come by their time.
    early: Vec<Matched>,
    page: Vec<Matched>,
    shown: u64,
    skipped: u64,
}

impl<'a> Report<'a> {
    fn new(args: &'a Args, names: Names) -> anyhow::Result<Self> {
        let named = args.out.as_ref().and_then(|out| Style::of(out)).filter(|style| *style != Style::Table);
        let mut place = None;
        let out = match (args.format.or(named), &args.out) {
            (None, None) => Out::Text(Box::new(BufWriter::new(io::stdout()))),
            (None, Some(path)) if path.as_os_str() == "-" => Out::Text(Box::new(BufWriter::new(io::stdout()))),
            (None, Some(_)) => {
                let (stream, at) = stream(&From::answer_only(Style::Table, args.out.clone()))?;
                place = at;
                Out::Text(stream)
            }
            (Some(style), out) => Out::Rows(Box::new(Answer::new(&From::answer_only(style, out.clone()), columns())?)),
        };
        if args.packets < 0 {
            return Err(usage("--packets: a number from 0"));
        }
        let is_folder = args.file.is_dir();
        Ok(Self { args, names, out, place, is_folder, early: Vec::new(), page: Vec::new(), shown: 0, skipped: 0 })
    }

    fn add(&mut self, connection: Matched) -> anyhow::Result<()> {
        if connection.sent.packets.saturating_add(connection.back.packets) < self.args.packets {
            self.skipped += 1;
            return Ok(());
        }
        if !self.is_folder {
            return self.put(connection);
        }
        self.early.push(connection);
        if self.early.len() < 2 * SORTED { Ok(()) } else { self.put_earliest(SORTED) }
    }

    /// Shows so many of those that wait, by their time.
    fn put_earliest(&mut self, n: usize) -> anyhow::Result<()> {
        self.early.sort_by_key(|c| (c.received_us, c.start_us, c.src, c.dst, c.proto));
        let n = n.min(self.early.len());
        let rest = self.early.split_off(n);
        for connection in std::mem::replace(&mut self.early, rest) {
            self.put(connection)?;
        }
        Ok(())
    }

    fn put(&mut self, connection: Matched) -> anyhow::Result<()> {
        self.page.push(connection);
        if self.page.len() < PAGE { Ok(()) } else { self.page() }
    }

    fn page(&mut self) -> anyhow::Result<()> {
        let page = std::mem::take(&mut self.page);
        self.names.prepare(page.iter().flat_map(|c| [c.src.0, c.dst.0]));
        for connection in &page {
            // Names are what their owners made them.
            let hosts = [connection.src.0, connection.dst.0].map(|ip| printable(&self.names.name(ip)).into_owned());
            match &mut self.out {
                Out::Text(out) => {
                    if self.shown == 0 {
                        writeln!(
                            out,
                            "{:19} | {:14} | {:8} | {:9} | {:7} | Involved hosts",
                            "Timestamp", "Service", "Size", "Duration", "Packets"
                        )?;
                        writeln!(out, "{}", "-".repeat(100))?;
                    }
                    line(out, connection, &hosts)?;
                }
                Out::Rows(answer) => answer.row(row(connection, hosts))?,
            }
            self.shown += 1;
        }
        Ok(())
    }

    /// What is not shown, and why.
    fn end(mut self, pairs: Pairs, empty: bool) -> anyhow::Result<()> {
        let mut remarks = Vec::new();
        if self.skipped > 0 {
            let (n, least) = (self.skipped, self.args.packets);
            remarks.push(format!("{n} connections of fewer than {least} packets are not shown (-p)"));
        }
        if pairs.given_up() > 0 {
            remarks.push(format!(
                "{} flows were given up: more than {WAITING} waited for their counterpart",
                pairs.given_up()
            ));
        }
        let rest = pairs.rest();
        if !rest.is_empty() {
            let hint = if self.args.verbose { "" } else { "; -v shows them" };
            remarks.push(format!("{} flows have no counterpart{hint}", rest.len()));
        }
        if self.args.verbose && !rest.is_empty() {
            let least = self.args.packets;
            let large: Vec<&Flow> = rest.iter().filter(|f| f.sent.packets >= least).collect();
            for page in large.chunks(PAGE) {
                self.names.prepare(page.iter().flat_map(|f| [f.src.0, f.dst.0]));
                remarks.extend(page.iter().map(|f| unmatched(f, &self.names)));
            }
            if large.is_empty() {
                remarks.push(format!("all of them are noise: fewer than {least} packets each"));
            }
        }
        if self.shown == 0 && self.skipped == 0 {
            remarks.push(match empty {
                true => "there is no flow in it".to_string(),
                false => "no two flows in it are a connection".to_string(),
            });
        }
        if self.names.is_silent() {
            remarks.push("no names: the resolver does not answer; -n does not ask it".to_string());
        }
        match self.out {
            Out::Text(mut out) => {
                remarks.iter().try_for_each(|r| writeln!(out, "{r}"))?;
                out.flush()?;
                put(self.place)?;
            }
            Out::Rows(answer) => {
                answer.finish()?;
                remarks.iter().for_each(|r| say(&format!("flowlane: {r}")));
            }
        }
        Ok(())
    }
}

fn line(out: &mut dyn Write, connection: &Matched, hosts: &[String; 2]) -> io::Result<()> {
    let Matched { src, dst, start_us, end_us, received_us, sent, back, .. } = connection;
    // To the second: 2026-11-24 10:00.59
    let received = time(*received_us);
    let clock = |range| received.get(range).unwrap_or_default();
    writeln!(
        out,
        "{} {}.{} | {:<14} | {:8} | {:9} | {:7} | Between {} ({}) and {} ({})",
        clock(0..10),
        clock(11..16),
        clock(17..19),
        service(connection),
        size(sent.bytes),
        duration(end_us.saturating_sub(*start_us) / 1_000_000),
        sent.packets.saturating_add(back.packets),
        hosts[0],
        src.0,
        hosts[1],
        dst.0
    )
}

fn columns() -> Vec<Column> {
    let text = |name: &str| Column::new(name, Kind::Text);
    let whole = |name: &str| Column::new(name, Kind::Whole);
    vec![
        Column::new("time_received", Kind::Time),
        text("service"),
        Column::new("proto", Kind::Protocol),
        whole("bytes"),
        whole("duration_ms"),
        whole("packets"),
        text("src_host"),
        text("src_addr"),
        whole("src_port"),
        text("dst_host"),
        text("dst_addr"),
        whole("dst_port"),
        whole("rev_bytes"),
        Column::new("flow_start", Kind::Time),
    ]
}

fn row(connection: &Matched, [src_host, dst_host]: [String; 2]) -> Vec<String> {
    let Matched { src, dst, proto, start_us, end_us, received_us, sent, back } = connection;
    let port = |port: Option<u16>| port.map(|p| p.to_string()).unwrap_or_default();
    vec![
        time(*received_us),
        service(connection),
        proto.map(query::protocol).unwrap_or_default(),
        sent.bytes.to_string(),
        (end_us.saturating_sub(*start_us) / 1000).to_string(),
        sent.packets.saturating_add(back.packets).to_string(),
        src_host,
        src.0.to_string(),
        port(src.1),
        dst_host,
        dst.0.to_string(),
        port(dst.1),
        back.bytes.to_string(),
        time(*start_us),
    ]
}

fn unmatched(flow: &Flow, names: &Names) -> String {
    let end = |(ip, port): (IpAddr, Option<u16>)| {
        let name = printable(&names.name(ip)).into_owned();
        let host = if name == ip.to_string() { name } else { format!("{name} ({ip})") };
        match port {
            Some(port) => format!("{host}:{port}"),
            None => host,
        }
    };
    let proto = flow.proto.map(query::protocol).unwrap_or_default().to_uppercase();
    let Flow { src, dst, sent, .. } = flow;
    format!("From {} to {}, {proto}, {} in {} packets", end(*src), end(*dst), size(sent.bytes), sent.packets)
}

/// The service by the lower port that has one; the protocol of what has no ports.
fn service(connection: &Matched) -> String {
    let (Some(a), Some(b)) = (connection.src.1, connection.dst.1) else {
        return connection.proto.map(query::protocol).unwrap_or_default().to_uppercase();
    };
    let name = query::service_of(a.min(b)).or_else(|| query::service_of(a.max(b)));
    name.map_or_else(|| format!("({a} {b})"), str::to_uppercase)
}

/// Bytes in powers of 1024.
fn size(bytes: i64) -> String {
    let of = |unit: u32| bytes as f64 / 1024f64.powi(unit.cast_signed());
    match bytes {
        ..1024 => format!("{bytes}B"),
        1024..1_048_576 => format!("{:.2}K", of(1)),
        1_048_576..1_073_741_824 => format!("{:.2}M", of(2)),
        _ => format!("{:.2}G", of(3)),
    }
}

/// Whole seconds as people say them.
fn duration(seconds: i64) -> String {
    match seconds {
        ..60 => format!("{seconds} sec"),
        // An hour is 60 minutes still.
        60..=3600 => format!("{:02}:{:02} min", seconds / 60, seconds % 60),
        _ => format!("{}:{:02}.{:02} hours", seconds / 3600, seconds % 3600 / 60, seconds % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_durations() {
        let sizes = [(0, "0B"), (1023, "1023B"), (1024, "1.00K"), (1_572_864, "1.50M"), (3 << 40, "3072.00G")];
        sizes.iter().for_each(|(bytes, text)| assert_eq!(size(*bytes), *text));
        let times = [(0, "0 sec"), (59, "59 sec"), (60, "01:00 min"), (3600, "60:00 min"), (3661, "1:01.01 hours")];
        times.iter().for_each(|(seconds, text)| assert_eq!(duration(*seconds), *text));
    }
}
