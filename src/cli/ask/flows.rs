//! `flowlane flows`: rows.

use super::anonymous::Anonymous;
use super::answer::{Answer, Column};
use super::{FILTERS, From, check_columns, is_number, is_time, kind, watched::watched};
use crate::cli::usage;
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
    /// Columns, with commas between
    #[arg(
        long,
        value_name = "LIST",
        value_delimiter = ',',
        default_value = "flow_start,duration_ms,proto,src_addr,src_port,dst_addr,dst_port,packets,bytes"
    )]
    fields: Vec<String>,
    /// Rows at most; 0 for all
    #[arg(long, value_name = "N", default_value_t = 100)]
    limit: usize,
    /// The greatest first, by a column of numbers or times; the rows up to --limit are kept in memory
    #[arg(long, value_name = "COLUMN")]
    order: Option<String>,
}

pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    check_columns(args.fields.iter().chain(&args.order), &[])?;
    if let Some(order) = args.order.as_ref().filter(|o| !is_number(o) && !is_time(o)) {
        return Err(usage(format!(
            "--order {order}: a column of whole numbers or times is accepted, like bytes or flow_start"
        )));
    }
    let anonymiser = args.anonymous.anonymiser(&args.fields)?;
    let names = args.fields.iter().chain(&args.order).flat_map(|f| query::columns_of(f)).collect();
    let mut scan = args.from.scan(&args.filter, names)?;
    let limit = if args.limit == 0 { usize::MAX } else { args.limit };
    let answer = Answer::new(&args.from, args.fields.iter().map(|f| Column::new(f, kind(f))).collect())?;
    let cells = |batch: &RecordBatch, row| -> Vec<String> {
        let cell = |name: &String| {
            let text = query::text(batch, name, row).unwrap_or_default();
            match &anonymiser {
                Some(anonymiser) if Anonymiser::is_address(name) => anonymiser.text(&text),
                _ => text,
            }
        };
        args.fields.iter().map(cell).collect()
    };
    let Some(order) = &args.order else {
        // In the order of the files, and none is kept.
        scan.threads = 1;
        let state = Mutex::new((answer, 0, Ok(())));
        let add = |(): &mut (), batch: &RecordBatch, chosen: &BooleanBuffer| {
            let Ok(mut state) = state.lock() else { return false };
            let (answer, rows, result) = &mut *state;
            for row in chosen.set_indices() {
                *result = answer.row(cells(batch, row));
                *rows += 1;
                if result.is_err() || *rows >= limit {
                    return false;
                }
            }
            true
        };
        let stats = watched(&scan.watch, || scan.run(|| (), add, drop));
        let (answer, _, result) = state.into_inner().map_err(|_| anyhow::anyhow!("a thread failed"))?;
        result?;
        answer.finish()?;
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
    for (_, row) in all.into_iter().take(limit) {
        answer.row(row)?;
    }
    answer.finish()?;
    Ok(args.from.end(&scan, &stats))
}
