//! `flowlane flows`: rows.

use super::anonymous::Anonymous;
use super::answer::{Answer, Column};
use super::{FILTERS, From, columns, is_number, is_time, kind, watched::watched};
use crate::cli::{say, usage};
use arrow_array::RecordBatch;
use arrow_buffer::BooleanBuffer;
use flowlane::query::{self, Anonymiser};
use std::cmp::Ordering;
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
    /// Rows that --order keeps in memory at most, about 500 bytes each: of more, the greatest are shown, which is said
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1..))]
    rows: u32,
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
    let asked = limit;
    let limit = limit.min(usize::try_from(args.rows).unwrap_or(usize::MAX));
    // One list for all threads, so that their number does not tell in its memory.
    let all = Mutex::new(Greatest { limit, rows: Vec::new(), floor: None });
    let add = |(): &mut (), batch: &RecordBatch, chosen: &BooleanBuffer| {
        let Ok(floor) = all.lock().map(|all| all.floor) else { return false };
        // Most rows are not among the greatest, and no text is made of them.
        let rows = chosen.set_indices().map(|row| (query::number(batch, order, row), row));
        let rows: Vec<_> = rows.filter(|row| row.0 >= floor).map(|(n, row)| (n, cells(batch, row))).collect();
        let Ok(mut all) = all.lock() else { return false };
        all.add(rows);
        true
    };
    let stats = watched(&scan.watch, || scan.run(|| (), add, drop));
    let all = all.into_inner().map_err(|_| anyhow::anyhow!("a thread failed"))?;
    let mut answer = answer;
    for (_, row) in all.finish() {
        answer.row(row)?;
    }
    answer.finish()?;
    let matched = stats.matched;
    let is_cut = matched > u64::try_from(limit).unwrap_or(u64::MAX);
    let end = args.from.end(&scan, &stats);
    if is_cut && limit < asked {
        say(&format!(
            "flowlane: these are the greatest {limit} of {matched} flows: --order keeps no more in memory; --rows {matched} \
             shows all"
        ));
        return Ok(if end == ExitCode::SUCCESS { ExitCode::FAILURE } else { end });
    }
    if args.limit.is_none() && is_cut {
        say(&format!("flowlane: these are the greatest {limit} of {matched} flows; --limit shows more"));
    }
    Ok(end)
}

/// A row: what it is ordered by, and its cells.
type Ordered = (Option<i128>, Vec<String>);

/// The greatest rows of those that were added.
struct Greatest {
    limit: usize,
    rows: Vec<Ordered>,
    /// What is less cannot be among them.
    floor: Option<i128>,
}

impl Greatest {
    fn add(&mut self, rows: Vec<Ordered>) {
        self.rows.extend(rows);
        if self.rows.len() > self.limit.saturating_add((self.limit / 4).max(4096))
            && let Some(last) = self.limit.checked_sub(1)
        {
            let (_, last, _) = self.rows.select_nth_unstable_by(last, Self::order);
            self.floor = last.0;
            self.rows.truncate(self.limit);
        }
    }

    /// Of equals, whichever thread read them, the same are shown.
    fn order(a: &Ordered, b: &Ordered) -> Ordering {
        b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1))
    }

    fn finish(mut self) -> Vec<Ordered> {
        self.rows.sort_unstable_by(Self::order);
        self.rows.truncate(self.limit);
        self.rows
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_greatest_rows_and_what_may_still_be_one() {
        let row = |n: i128| (Some(n).filter(|n| *n > 0), vec![(n % 7).to_string()]);
        for limit in [1, 20, 5000, 60_000] {
            let mut all = Greatest { limit, rows: Vec::new(), floor: None };
            let mut made = 0;
            for part in 0..50 {
                let rows = (0..1000).map(|i| (part * 1000 + i) * 7919 % 9973).filter(|n| row(*n).0 >= all.floor);
                let rows: Vec<Ordered> = rows.map(row).collect();
                made += rows.len();
                all.add(rows);
            }
            let mut expected: Vec<Ordered> = (0..50_000).map(|i| row(i * 7919 % 9973)).collect();
            expected.sort_by(Greatest::order);
            expected.truncate(limit);
            assert_eq!(all.finish(), expected, "{limit}");
            assert!(limit > 20 || made < 6000, "{made} are made for {limit}");
        }
    }
}
