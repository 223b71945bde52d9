//! `flowlane series`: traffic over time.

use super::anonymous::Anonymous;
use super::answer::{Answer, Column, Kind};
use super::draw::{bar, has_blocks, sparkline};
use super::{FILTERS, From, columns, counter, kind, metric, say_running, say_unscaled, time, watched::watched};
use crate::cli::output::Span;
use crate::cli::say;
use clap::ValueEnum;
use flowlane::query::{self, At, Line, Metric, Scan, SeriesOptions, Timeline};
use std::process::ExitCode;

/// Arguments of `flowlane series`.
#[derive(clap::Args)]
#[command(after_help = format!("\
Examples:
  flowlane series 'last 1h'                              bits a second over time, and their 95th percentile
  flowlane series --every 5m --group src_addr -n 5       the five greatest senders, and all others
  flowlane series --every 1h --by flows --group proto --format csv
  flowlane series --at received --out minutes.parquet    whole where received, not spread from start to end

A flow counts evenly from its start to its end; one without these times where it was received. `p95` is the value that 95 of
100 intervals do not exceed.

{FILTERS}"))]
pub struct Args {
    /// Which flows; all words together are one filter
    filter: Vec<String>,
    #[command(flatten)]
    from: From,
    #[command(flatten)]
    anonymous: Anonymous,
    /// Length of an interval, like 10s, 5m or 1h [default: so that there are about 60]
    #[arg(long, value_name = "TIME")]
    every: Option<Span>,
    /// Where flows count
    #[arg(long, value_name = "PLACE", default_value = "spread", value_parser = place)]
    at: At,
    /// Columns, or elements, to group by, with commas between; addr, port, as, if, mac, vlan, mask, country are both directions
    #[arg(long, value_name = "COLUMNS", value_delimiter = ',')]
    group: Vec<String>,
    /// What to rank groups by and to draw: bytes, packets, flows, bps, pps or bpp
    #[arg(long, value_name = "METRIC", default_value = "bps", value_parser = metric)]
    by: Metric,
    /// Groups to show
    #[arg(short, value_name = "N", default_value_t = 5)]
    n: usize,
    /// Every interval, or one row a series with its mean, 95th percentile and maximum [default: both on a terminal, else points]
    #[arg(long, value_enum)]
    show: Option<Show>,
    /// Count what came back too, where a record tells of both directions
    #[arg(long)]
    both: bool,
    /// Multiply counters by the sampling rate
    #[arg(long)]
    scale: bool,
    /// Count running totals (elements 85 and 86) as the counters of a flow: right where the exporter sends one record a flow
    #[arg(long)]
    totals: bool,
    /// Groups to keep in memory at most
    #[arg(long, value_name = "N", default_value_t = 10_000_000)]
    groups: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Show {
    /// A row an interval and series
    Points,
    /// A row a series
    Summary,
}

pub(super) fn place(text: &str) -> Result<At, String> {
    text.parse().map_err(ToString::to_string)
}

/// Intervals that people read easily, seconds.
const STEPS: [i64; 17] = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200];

/// An interval of which there are about 60 in the time of the scan: of flows that count where they were, they may have begun
/// long before what there is was received.
fn step(scan: &Scan, at: At) -> i64 {
    let span = if at == At::Received { scan.span() } else { scan.span_of_flows() };
    let seconds = span.map_or(0, |(from, to)| to.saturating_sub(from) / 1_000_000);
    let days = || (seconds / 60 / 86_400 + 1) * 86_400;
    STEPS.into_iter().find(|step| seconds / step <= 60).unwrap_or_else(days)
}

pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let group = columns(&args.group, true)?;
    let anonymiser = args.anonymous.anonymiser(&group)?;
    let scan = args.from.scan(&args.filter, Vec::new())?;
    let seconds =
        args.every.map_or_else(|| step(&scan, args.at), |every| i64::try_from(every.seconds).unwrap_or(i64::MAX));
    let options = SeriesOptions {
        interval_us: seconds.saturating_mul(1_000_000),
        at: args.at,
        keys: group.clone(),
        scale: args.scale,
        both: args.both,
        totals: args.totals,
        ..SeriesOptions::default()
    };
    let (mut timeline, stats) = watched(&scan.watch, || query::series(&scan, &options, args.by, args.n, args.groups));
    if let Some(anonymiser) = &anonymiser {
        timeline.groups.iter_mut().for_each(|line| anonymiser.texts(&group, &mut line.keys));
    }
    // A file takes one table.
    let both = args.from.is_read_by_people();
    let show = args.show.or((!both).then_some(Show::Points));
    if show != Some(Show::Points) {
        summary(args, &group, &timeline, both)?;
    }
    // One series has room for its points beneath.
    if show == Some(Show::Points) || show.is_none() && args.group.is_empty() {
        points(args, &group, &timeline)?;
    }
    let outside = timeline.outside;
    if outside.flows != 0 || outside.bytes != 0 {
        say(&format!(
            "flowlane: {} flows with {} bytes are not shown: their times lie too far from the others, or they last too \
             long; a longer --every or --at received shows them",
            outside.flows, outside.bytes
        ));
    }
    if timeline.untimed > 0 {
        say(&format!("flowlane: {} flows without such times count where they were received", timeline.untimed));
    }
    say_running(timeline.totals);
    say_unscaled(args.scale, timeline.rows, timeline.unscaled);
    let code = args.from.end(&scan, &stats);
    match &timeline.failed {
        Some(failed) => {
            say(&format!("flowlane: {failed}; the greatest groups may be others"));
            Ok(ExitCode::FAILURE)
        }
        None => Ok(code),
    }
}

/// A series of an answer: a cell for every key, what it is, and its points.
type Shown<'a> = (Vec<String>, &'static str, &'a Line);

/// The series of an answer, those of groups first. Where cells have a type, others and total have no keys.
fn lines<'a>(group: &[String], timeline: &'a Timeline, typed: bool) -> Vec<Shown<'a>> {
    let named = |name: &str| {
        let mut keys = vec![String::new(); group.len()];
        keys.first_mut().filter(|_| !typed).into_iter().for_each(|first| *first = format!("({name})"));
        keys
    };
    let mut lines: Vec<Shown<'a>> = timeline.groups.iter().map(|line| (line.keys.clone(), "group", line)).collect();
    lines.extend(timeline.others.iter().map(|line| (named("others"), "others", line)));
    lines.push((named("total"), "total", &timeline.total));
    lines
}

/// The cells of what is at no time and in no series: keys, and sums.
fn running(group: &[String], timeline: &Timeline, typed: bool) -> Option<impl Iterator<Item = String>> {
    let sum = timeline.running;
    let mut keys = vec![String::new(); group.len()];
    keys.first_mut().filter(|_| !typed).into_iter().for_each(|first| *first = "(running totals)".to_string());
    let sums = [sum.flows, sum.packets, sum.bytes].map(|n| n.to_string());
    (timeline.totals > 0).then(|| keys.into_iter().chain(sums))
}

fn keys(group: &[String]) -> impl Iterator<Item = Column> + '_ {
    group.iter().map(|name| Column::new(name, kind(name)))
}

fn points(args: &Args, group: &[String], timeline: &Timeline) -> anyhow::Result<()> {
    let spare = |metric, spare| if metric == args.by { 0 } else { spare };
    let columns = [Column::new("time", Kind::Time)].into_iter().chain(keys(group)).chain([
        Column::new("flows", Kind::Whole).spare(spare(Metric::Flows, 2)),
        Column::new(counter("packets", args.both), Kind::Whole).spare(spare(Metric::Packets, 3)),
        Column::new(counter("bytes", args.both), Kind::Whole).spare(spare(Metric::Bytes, 1)),
        Column::new("bps", Kind::Number).spare(spare(Metric::Bps, 1)),
        Column::new("pps", Kind::Number).spare(spare(Metric::Pps, 4)),
        Column::new("bpp", Kind::Number).spare(spare(Metric::Bpp, 5)),
        Column::new("row", Kind::Text).plain(),
        Column::drawn("of the maximum"),
    ]);
    let mut answer = Answer::new(&args.from, columns.collect())?;
    let blocks = has_blocks();
    let lines = lines(group, timeline, answer.is_typed());
    let most = lines.iter().map(|l| l.2.max(args.by)).fold(0.0, f64::max);
    for interval in 0..timeline.len() {
        for (keys, what, line) in &lines {
            let Some(point) = line.points.get(interval) else { continue };
            let of = |metric| point.metric(metric, timeline.interval_us);
            let sums = [point.flows, point.packets, point.bytes].map(|n| n.to_string());
            let rates = [Metric::Bps, Metric::Pps, Metric::Bpp].map(|m| format!("{:.0}", of(m)));
            let drawn = if answer.is_table() { bar(of(args.by), most, 24, blocks) } else { String::new() };
            let row = [time(timeline.time_us(interval))].into_iter().chain(keys.iter().cloned());
            answer.row(row.chain(sums).chain(rates).chain([(*what).to_string(), drawn]).collect())?;
        }
    }
    if let Some(cells) = running(group, timeline, answer.is_typed()) {
        let rest = ["", "", "", "running totals", ""].map(String::from);
        answer.row([String::new()].into_iter().chain(cells).chain(rest).collect())?;
    }
    answer.finish()
}

fn summary(args: &Args, group: &[String], timeline: &Timeline, headed: bool) -> anyhow::Result<()> {
    if headed && !timeline.is_empty() {
        say(&format!(
            "{} intervals of {} s from {}",
            timeline.len(),
            timeline.interval_us / 1_000_000,
            time(timeline.first_us)
        ));
    }
    let columns = keys(group).chain([
        Column::new("flows", Kind::Whole).spare(3),
        Column::new(counter("packets", args.both), Kind::Whole).spare(4),
        Column::new(counter("bytes", args.both), Kind::Whole).spare(2),
        Column::new(format!("mean_{}", args.by.name()), Kind::Number),
        Column::new(format!("p95_{}", args.by.name()), Kind::Number),
        Column::new(format!("max_{}", args.by.name()), Kind::Number),
        Column::new("interval_s", Kind::Whole).plain(),
        Column::new("row", Kind::Text).plain(),
        Column::drawn("over time"),
    ]);
    let mut answer = Answer::new(&args.from, columns.collect())?;
    for (keys, what, line) in lines(group, timeline, answer.is_typed()) {
        let sum = line.sum();
        let sums = [sum.flows, sum.packets, sum.bytes].map(|n| n.to_string());
        // Sums have a mean an interval, rates one over the whole time.
        let mean = match args.by {
            Metric::Bytes | Metric::Packets | Metric::Flows => line.over_all(args.by) / (timeline.len().max(1) as f64),
            rate => line.over_all(rate),
        };
        let about = [mean, line.p95(args.by), line.max(args.by)].map(|v| format!("{v:.0}"));
        let interval = (timeline.interval_us / 1_000_000).to_string();
        let drawn = if answer.is_table() {
            sparkline(&line.values(args.by).collect::<Vec<f64>>(), 60, has_blocks())
        } else {
            String::new()
        };
        answer.row(keys.into_iter().chain(sums).chain(about).chain([interval, what.to_string(), drawn]).collect())?;
    }
    if let Some(cells) = running(group, timeline, answer.is_typed()) {
        let rest = ["", "", "", "", "running totals", ""].map(String::from);
        answer.row(cells.chain(rest).collect())?;
    }
    answer.finish()
}
