//! `flowlane top`: the greatest groups.

use super::anonymous::Anonymous;
use super::answer::{Answer, Column, Kind};
use super::draw::{bar, has_blocks};
use super::{FILTERS, From, columns, counter, kind, metric, say_running, say_unscaled, watched::watched};
use crate::cli::{say, usage};
use flowlane::query::{self, Metric, TopOptions, TopRow};
use std::process::ExitCode;

/// Arguments of `flowlane top`.
#[derive(clap::Args)]
#[command(after_help = format!("\
Examples:
  flowlane top src_addr                                  who sends most bytes, in the folder flows/
  flowlane top addr --by packets -n 20 'last 1h'         either direction; a flow counts with both of its addresses
  flowlane top src_addr,dst_port --in /data 'proto tcp' --format csv
  flowlane top dst_as --scale                            times the sampling rate, where it is known
  flowlane top dst_addr --only 'proto tcp and port 443'  bytes and nothing else, in less time

{FILTERS}"))]
pub struct Args {
    /// Columns, or elements by their names, to sum by, with commas between; addr, port, as, if, mac, vlan, mask, country
    /// are both directions
    #[arg(value_name = "COLUMNS")]
    keys: String,
    /// Which flows; all words together are one filter
    filter: Vec<String>,
    #[command(flatten)]
    from: From,
    #[command(flatten)]
    anonymous: Anonymous,
    /// What to rank by: bytes, packets, flows, bps, pps or bpp
    #[arg(long, value_name = "METRIC", default_value = "bytes", value_parser = metric)]
    by: Metric,
    /// Groups to show
    #[arg(short, value_name = "N", default_value_t = 10)]
    n: usize,
    /// Count what came back too, where a record tells of both directions
    #[arg(long)]
    both: bool,
    /// Multiply counters by the sampling rate
    #[arg(long)]
    scale: bool,
    /// Count running totals (elements 85 and 86) as the counters of a flow: right where the exporter sends one record a flow
    #[arg(long)]
    totals: bool,
    /// Show the measure that it ranks by alone, and read no other: bytes, packets or flows
    #[arg(long)]
    only: bool,
    /// Groups to keep in memory at most, about 120 bytes each; further ones wait in a file in the temporary folder (TMPDIR),
    /// and the answer is the same [default: what a quarter of the free memory has room for]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    groups: Option<u64>,
}

/// What is told of a group, and how soon a narrow terminal does without.
const METRICS: [(Metric, u8); 6] = [
    (Metric::Flows, 3),
    (Metric::Packets, 2),
    (Metric::Bytes, 1),
    (Metric::Bps, 5),
    (Metric::Pps, 6),
    (Metric::Bpp, 7),
];

/// Groups that memory has room for.
fn groups(asked: Option<u64>) -> usize {
    let free = || {
        let text = std::fs::read_to_string("/proc/meminfo").ok()?;
        let line = text.lines().find_map(|l| l.strip_prefix("MemAvailable:"))?;
        line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()
    };
    let room = || free().map_or(4_000_000, |kib| (kib * 1024 / 4 / 120).max(100_000));
    usize::try_from(asked.unwrap_or_else(room)).unwrap_or(usize::MAX)
}

pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let words: Vec<String> = args.keys.split(',').map(|k| k.trim().to_string()).collect();
    let keys = columns(&words, true)?;
    let by = args.by;
    if args.only && !by.adds_up() {
        return Err(usage(format!("--only shows bytes, packets or flows; {} needs two sums", by.name())));
    }
    let anonymiser = args.anonymous.anonymiser(&keys)?;
    let options = TopOptions {
        keys: keys.clone(),
        scale: args.scale,
        both: args.both,
        totals: args.totals,
        groups: groups(args.groups),
    };
    let scan = args.from.scan(&args.filter, Vec::new())?;
    let (mut all, stats) = watched(&scan.watch, || query::top(&scan, &options, by, args.n, args.only));
    let (mut first, others) = all.finish(by, args.n);
    if let Some(anonymiser) = &anonymiser {
        first.iter_mut().for_each(|(texts, _)| anonymiser.texts(&keys, texts));
    }
    let shown = METRICS.into_iter().filter(|(metric, _)| !args.only || *metric == by);
    let sums = shown.clone().map(|(metric, spare)| {
        let kind = if metric.adds_up() { Kind::Whole } else { Kind::Number };
        let column = match metric {
            Metric::Packets | Metric::Bytes => Column::new(counter(metric.name(), args.both), kind),
            _ => Column::new(metric.name(), kind),
        };
        column.spare(if metric == by { 0 } else { spare })
    });
    let columns = keys.iter().map(|k| Column::new(k, kind(k))).chain(sums).chain([
        Column::new("share", Kind::Number).spare(4),
        Column::new("groups", Kind::Whole).plain(),
        Column::new("row", Kind::Text).plain(),
        Column::drawn("of the greatest"),
    ]);
    let mut answer = Answer::new(&args.from, columns.collect())?;
    let whole = all.total().metric(by);
    let most = first.first().map_or(0.0, |f| f.1.metric(by));
    let blocks = has_blocks();
    let (draws, people, typed) = (answer.is_table(), answer.is_for_people(), answer.is_typed());
    // A flow counts with each of its two values, so that others are no part of the total.
    let both = keys.iter().any(|k| query::directions(k).is_some());
    let line = |keys: Vec<String>, row: &TopRow, what: &str, groups: Option<usize>| -> Vec<String> {
        // Rates of parts are no parts of the whole's.
        let has_share = by.adds_up() && whole > 0.0 && !(both && what == "others");
        let share = if has_share { format!("{:.1}", 100.0 * row.metric(by) / whole) } else { String::new() };
        let share = if has_share && people { share + "%" } else { share };
        let sums = shown.clone().map(|(metric, _)| match metric {
            Metric::Flows => row.flows.to_string(),
            Metric::Packets => row.packets.to_string(),
            Metric::Bytes => row.bytes.to_string(),
            rate => format!("{:.0}", row.metric(rate)),
        });
        let bar = if what == "group" && draws { bar(row.metric(by), most, 20, blocks) } else { String::new() };
        let about = [share, groups.map(|n| n.to_string()).unwrap_or_default(), what.to_string(), bar];
        keys.into_iter().chain(sums).chain(about).collect()
    };
    // Among keys that have a type there is no room for a name.
    let named = |name: &str| {
        let mut keys = vec![String::new(); keys.len()];
        if let Some(first) = keys.first_mut().filter(|_| !typed) {
            *first = name.to_string();
        }
        keys
    };
    let share = keys.len() + shown.clone().count();
    let greatest = first.len();
    for (keys, row) in first {
        answer.row(line(keys, &row, "group", Some(1)))?;
    }
    if let Some(others) = others {
        let n = all.len() - greatest;
        let name = format!("({n} others{})", if both { ", flows of two of them twice" } else { "" });
        answer.row(line(named(&name), &others, "others", Some(n)))?;
    }
    if let Some(beyond) = all.beyond() {
        answer.row(line(named("(not kept by group)"), &beyond, "not kept", None))?;
    }
    if stats.matched > 0 {
        let groups = all.len();
        answer.row(line(named("(total)"), &all.total(), "total", Some(groups)))?;
    }
    if all.totals() > 0 {
        let mut row = line(named("(running totals)"), &all.running(), "running totals", None);
        // No share of sums that it is not in.
        row.get_mut(share).into_iter().for_each(String::clear);
        answer.row(row)?;
    }
    answer.finish()?;
    say_running(all.totals());
    let (rows, unscaled) = all.unscaled();
    say_unscaled(args.scale, rows, unscaled);
    let code = args.from.end(&scan, &stats);
    if let Some(error) = all.failed() {
        say(&format!("flowlane: {error}"));
        return Ok(ExitCode::FAILURE);
    }
    Ok(code)
}
