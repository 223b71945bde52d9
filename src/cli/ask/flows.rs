//! `flowlane flows`: rows.

use super::anonymous::Anonymous;
use super::answer::{Answer, Column};
use super::{FILTERS, From, columns, is_number, is_time, kind, watched::watched};
use crate::cli::{say, usage};
use arrow_array::RecordBatch;
use arrow_buffer::BooleanBuffer;
use flowlane::query::{self, Anonymiser};
use std::process::ExitCode;
use std::sync::Mutex;

/// Arguments of `flowlane flows`.
#[derive(clap::Args)]
#[command(after_help = format!("\
Examples:
  flowlane flows                                         the first flows of the folder flows/
  flowlane flows --in /data 'last 1h and port https' --order bytes --limit 20
  flowlane flows --fields time_received,src_addr,dst_addr,bytes --format csv 'proto udp'

{FILTERS}"))]
pub struct Args {
    /// Which flows; all words together are one filter
    filter: Vec<String>,
    #[command(flatten)]
    from: From,
    #[command(flatten)]
    anonymous: Anonymous,
    /// Columns, or elements by their names, with commas between; addr, port, mac and the like are both directions
    #[arg(
        long,
        value_name = "LIST",
        value_delimiter = ',',
        default_value = "flow_start,duration_ms,proto,src_addr,src_port,dst_addr,dst_port,packets,bytes"
    )]
    fields: Vec<String>,
    /// Rows at most; 0 for all [default: 100 on a terminal and with --order, else all]
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// The greatest first, by a column of numbers or times; the rows up to --limit are kept in memory
    #[arg(long, value_name = "COLUMN")]
    order: Option<String>,
}

pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let fields = columns(&args.fields, false)?;
    let order = columns(&args.order, false)?.into_iter().next();
    if let Some(order) = order.as_ref().filter(|o| !is_number(o) && !is_time(o)) {
        return Err(usage(format!(
            "--order {order}: a column of whole numbers or times is accepted, like bytes or flow_start"
        )));
    }
    let anonymiser = args.anonymous.anonymiser(&fields)?;
    let names = fields.iter().chain(&order).flat_map(|f| query::columns_of(f)).collect();
    let mut scan = args.from.scan(&args.filter, names)?;
    let limit = match args.limit {
        Some(0) => usize::MAX,
        Some(limit) => limit,
        None if args.from.is_on_screen() || order.is_some() => USUAL,
        None => usize::MAX,
    };
    let column = |name: &String| {
        let spare = if order.as_ref() == Some(name) { 0 } else { spare(name) };
        Column::new(name, kind(name)).spare(spare)
    };
    let answer = Answer::new(&args.from, fields.iter().map(column).collect())?;
    let cells = |batch: &RecordBatch, row| -> Vec<String> {
        let cell = |name: &String| {
            let text = query::text(batch, name, row).unwrap_or_default();
            match &anonymiser {
                Some(anonymiser) if Anonymiser::is_address(name) => anonymiser.text(&text),
                _ => text,
            }
        };
        fields.iter().map(cell).collect()
    };
    let Some(order) = &order else {
        // In the order of the files, and none is kept.
        scan.threads = 1;
        let state = Mutex::new((answer, 0, Ok(())));
        // One more than is shown says that there are more.
        let seen = if args.limit.is_none() { limit.saturating_add(1) } else { limit };
        let add = |(): &mut (), batch: &RecordBatch, chosen: &BooleanBuffer| {
            let Ok(mut state) = state.lock() else { return false };
            let (answer, rows, result) = &mut *state;
            for row in chosen.set_indices() {
                *rows += 1;
                if *rows <= limit {
                    *result = answer.row(cells(batch, row));
                }
                if result.is_err() || *rows >= seen {
                    return false;
                }
            }
            true
        };
        let stats = watched(&scan.watch, || scan.run(|| (), add, drop));
        let (answer, rows, result) = state.into_inner().map_err(|_| anyhow::anyhow!("a thread failed"))?;
        result?;
        answer.finish()?;
        if rows > limit {
            say(&format!("flowlane: these are the first {limit} flows; --limit 0 shows all"));
        }
        return Ok(args.from.end(&scan, &stats));
    };
    // Of equals, whichever thread read them, the same are shown.
    let greatest =
        |a: &(Option<i128>, Vec<String>), b: &(Option<i128>, Vec<String>)| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1));
    let mut all: Vec<(Option<i128>, Vec<String>)> = Vec::new();
    let add = |rows: &mut Vec<(Option<i128>, Vec<String>)>, batch: &RecordBatch, chosen: &BooleanBuffer| {
        rows.extend(chosen.set_indices().map(|row| (query::number(batch, order, row), cells(batch, row))));
        if rows.len() > limit.saturating_mul(4).max(65_536) {
            rows.sort_unstable_by(greatest);
            rows.truncate(limit);
        }
        true
    };
    let stats = watched(&scan.watch, || scan.run(Vec::new, add, |rows| all.extend(rows)));
    all.sort_unstable_by(greatest);
    let mut answer = answer;
    let cut = all.len().saturating_sub(limit);
    for (_, row) in all.into_iter().take(limit) {
        answer.row(row)?;
    }
    answer.finish()?;
    if args.limit.is_none() && cut > 0 {
        say(&format!("flowlane: these are the greatest {limit} of {} flows; --limit shows more", stats.matched));
    }
    Ok(args.from.end(&scan, &stats))
}

/// Flows that are shown where nobody says how many.
const USUAL: usize = 100;

/// What goes first where the terminal is too narrow.
fn spare(column: &str) -> u8 {
    match column {
        "src_addr" | "dst_addr" | "bytes" => 0,
        "dst_port" => 2,
        "proto" => 3,
        "src_port" => 5,
        "flow_start" => 4,
        "packets" => 7,
        "duration_ms" => 8,
        _ => 6,
    }
}
