//! `flowlane top`: the greatest groups.

use super::{FILTERS, From, check_columns, print};
use crate::cli::say;
use flowlane::query::{Metric, Top, TopOptions, TopRow};
use std::process::ExitCode;

/// Arguments of `flowlane top`.
#[derive(clap::Args)]
#[command(after_help = format!("\
Examples:
  flowlane top src_addr                                  who sends most bytes, in the folder flows/
  flowlane top addr --by packets -n 20 'last 1h'         either direction; a flow counts with both of its addresses
  flowlane top src_addr,dst_port --in /data 'proto tcp' --format csv
  flowlane top dst_as --scale                            times the sampling rate, where it is known

{FILTERS}"))]
pub struct Args {
    /// Columns to sum by, with commas between; addr, port, as and if are both directions
    #[arg(value_name = "COLUMNS")]
    keys: String,
    /// Which flows; all words together are one filter
    filter: Vec<String>,
    #[command(flatten)]
    from: From,
    /// What to rank by: bytes, packets, flows, bps, pps or bpp
    #[arg(long, value_name = "METRIC", default_value = "bytes", value_parser = metric)]
    by: Metric,
    /// Groups to show
    #[arg(short, value_name = "N", default_value_t = 10)]
    n: usize,
    /// Multiply counters by the sampling rate
    #[arg(long)]
    scale: bool,
    /// Groups to keep in memory at most; flows of further ones are summed apart
    #[arg(long, value_name = "N", default_value_t = 10_000_000)]
    groups: usize,
}

fn metric(text: &str) -> Result<Metric, String> {
    text.parse().map_err(ToString::to_string)
}

pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let keys: Vec<String> = args.keys.split(',').map(|k| k.trim().to_string()).collect();
    check_columns(keys.iter(), &["addr", "port", "as", "if"])?;
    let options = TopOptions { keys: keys.clone(), scale: args.scale, groups: args.groups };
    let scan = args.from.scan(&args.filter, Top::new(options.clone()).columns())?;
    let mut all = Top::new(options.clone());
    let stats = scan.run(
        || Top::new(options.clone()),
        |top, batch, chosen| {
            top.add(batch, chosen);
            true
        },
        |part| all.merge(part),
    );
    let (first, others) = all.finish(args.by, args.n);
    let mut header = keys.clone();
    header.extend(["flows", "packets", "bytes", "bps", "pps", "bpp", "share"].map(String::from));
    let whole = all.total().metric(args.by);
    let line = |keys: Vec<String>, row: &TopRow| {
        let share = if whole > 0.0 { format!("{:.1}%", 100.0 * row.metric(args.by) / whole) } else { String::new() };
        let rate = |m| format!("{:.0}", row.metric(m));
        let sums = [row.flows, row.packets, row.bytes].map(|n| n.to_string());
        keys.into_iter().chain(sums).chain([rate(Metric::Bps), rate(Metric::Pps), rate(Metric::Bpp), share]).collect()
    };
    let named = |name: &str| {
        let mut keys = vec![String::new(); keys.len()];
        if let Some(first) = keys.first_mut() {
            *first = name.to_string();
        }
        keys
    };
    let mut rows: Vec<Vec<String>> = first.into_iter().map(|(keys, row)| line(keys, &row)).collect();
    let shown = rows.len();
    if let Some(others) = others {
        let n = all.len() - shown;
        // A flow counts with each of its two values, so these are no part of the total.
        let both = keys.iter().any(|k| matches!(k.as_str(), "addr" | "port" | "as" | "if"));
        let mut row =
            line(named(&format!("({n} others{})", if both { ", flows of two of them twice" } else { "" })), &others);
        if let Some(share) = row.last_mut().filter(|_| both) {
            share.clear();
        }
        rows.push(row);
    }
    if let Some(beyond) = all.beyond() {
        rows.push(line(named("(beyond --groups)"), beyond));
    }
    if stats.matched > 0 {
        rows.push(line(named("(total)"), all.total()));
    }
    let numeric: Vec<bool> = (0..header.len()).map(|i| i >= keys.len()).collect();
    print(args.from.style(), &header, &numeric, &rows)?;
    if all.totals() > 0 {
        say(&format!("flowlane: {} records with running totals are not in these sums", all.totals()));
    }
    Ok(args.from.end(&stats))
}
