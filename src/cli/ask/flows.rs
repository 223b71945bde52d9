//! `flowlane flows`: rows.

use super::{FILTERS, From, check_columns, is_number, is_time, print};
use crate::cli::usage;
use flowlane::query;
use std::cmp::Reverse;
use std::process::ExitCode;

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
    /// The greatest first, by a column of numbers or times
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
    let columns = args.fields.iter().chain(&args.order).flat_map(|f| query::columns_of(f)).collect();
    let mut scan = args.from.scan(&args.filter, columns)?;
    if args.order.is_none() {
        // In the order of the files.
        scan.threads = 1;
    }
    let limit = if args.limit == 0 { usize::MAX } else { args.limit };
    let mut all: Vec<(Option<i128>, Vec<String>)> = Vec::new();
    let stats = scan.run(
        Vec::new,
        |rows: &mut Vec<(Option<i128>, Vec<String>)>, batch, chosen| {
            for row in chosen.set_indices() {
                let order = args.order.as_ref().map(|name| query::number(batch, name, row));
                let texts = args.fields.iter().map(|f| query::text(batch, f, row).unwrap_or_default()).collect();
                rows.push((order.flatten(), texts));
                if order.is_none() && rows.len() >= limit {
                    return false;
                }
            }
            if args.order.is_some() && rows.len() > limit.saturating_mul(4).max(65_536) {
                rows.sort_by_key(|r| Reverse(r.0));
                rows.truncate(limit);
            }
            true
        },
        |rows| all.extend(rows),
    );
    if args.order.is_some() {
        all.sort_by_key(|r| Reverse(r.0));
    }
    all.truncate(limit);
    let rows: Vec<Vec<String>> = all.into_iter().map(|r| r.1).collect();
    let numeric: Vec<bool> = args.fields.iter().map(|f| is_number(f)).collect();
    print(args.from.style(), &args.fields, &numeric, &rows)?;
    Ok(args.from.end(&stats))
}
