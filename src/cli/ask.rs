//! `flowlane flows` and `flowlane top`: questions to files that `collect` or `decode` wrote.

use super::{say, usage};
use anyhow::Context;
use clap::ValueEnum;
use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use flowlane::columns::Timestamp;
use flowlane::query::{self, Filter, Input, Metric, Scan, ScanStats, Top, TopOptions, TopRow};
use flowlane::sink::schema::SCHEMA;
use std::cmp::Reverse;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::SystemTime;

const FILTERS: &str = "\
Filters:
  proto tcp and dst port 443                 nfdump's words; `and` may be left out
  src_addr in 10.0.0.0/8, 2001:db8::/32      prefixes of both families
  bytes > 1M and not net 192.0.2/24          either direction: addr, host, net, port, as, if
  dst_port in 1024..2048 and flags S         ranges; TCP flags by letter, all of them set
  last 1h                                    by the time received; flow_start > 2026-11-24T10:00 by the exporter's
  in_if = 3 and exporter = 192.0.2.1         any column; `vni is present`, `src_as is absent`";

/// Arguments of `flowlane flows`.
#[derive(clap::Args)]
#[command(after_help = format!("\
Examples:
  flowlane flows                                         the first flows of the folder flows/
  flowlane flows --in /data 'last 1h and port https' --order bytes --limit 20
  flowlane flows --fields time_received,src_addr,dst_addr,bytes --format csv 'proto udp'

{FILTERS}"))]
pub struct FlowsArgs {
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

/// Arguments of `flowlane top`.
#[derive(clap::Args)]
#[command(after_help = format!("\
Examples:
  flowlane top src_addr                                  who sends most bytes, in the folder flows/
  flowlane top addr --by packets -n 20 'last 1h'         either direction; a flow counts with both of its addresses
  flowlane top src_addr,dst_port --in /data 'proto tcp' --format csv
  flowlane top dst_as --scale                            times the sampling rate, where it is known

{FILTERS}"))]
pub struct TopArgs {
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

/// Arguments of `flowlane info`.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  flowlane info                          the folder flows/
  flowlane info /data flows.parquet      several folders and files
  flowlane info --json

Exit code 1 where a file cannot be read; it is named.")]
pub struct InfoArgs {
    /// Folders or Parquet files
    #[arg(default_value = "flows")]
    paths: Vec<PathBuf>,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

/// Where flows are, and how answers look.
#[derive(clap::Args)]
struct From {
    /// A folder or a Parquet file; repeatable
    #[arg(short, long = "in", value_name = "PATH", default_value = "flows")]
    paths: Vec<PathBuf>,
    /// How to print [default: a table on a terminal, else csv]
    #[arg(short, long, value_enum)]
    format: Option<Style>,
    /// Threads [default: one a core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Say on standard error what was read
    #[arg(long)]
    stats: bool,
}

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
}

fn metric(text: &str) -> Result<Metric, String> {
    text.parse().map_err(ToString::to_string)
}

impl From {
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
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Scan { inputs, filter, columns, threads: self.threads.map_or(cores, usize::from) })
    }

    fn style(&self) -> Style {
        self.format.unwrap_or(if io::stdout().is_terminal() { Style::Table } else { Style::Csv })
    }

    /// What was read, and why there is no answer; the exit code.
    fn end(&self, stats: &ScanStats) -> ExitCode {
        for (path, error) in &stats.damaged {
            say(&format!("flowlane: {} is passed over: {error}", path.display()));
        }
        if stats.files == 0 {
            say("flowlane: there are no flows: no Parquet file and no segment there");
        } else if stats.rows == 0 {
            say(&format!("flowlane: no flow: {} files, none of which can have one for this filter", stats.files));
        } else if stats.matched == 0 {
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
        if stats.damaged.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

fn check_columns<'a>(names: impl Iterator<Item = &'a String>, more: &[&str]) -> anyhow::Result<()> {
    for name in names {
        if !query::is_column(name) && !more.contains(&name.as_str()) {
            let like = |c: &&str| !name.is_empty() && c.contains(name.as_str());
            let near: Vec<&str> = SCHEMA.iter().map(|c| c.name).filter(like).take(6).collect();
            let hint =
                if near.is_empty() { "src_addr, dst_port, proto, bytes, ...".to_string() } else { near.join(", ") };
            return Err(usage(format!("there is no column {name:?}; there are {hint}")));
        }
    }
    Ok(())
}

pub fn flows(args: &FlowsArgs) -> anyhow::Result<ExitCode> {
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

pub fn top(args: &TopArgs) -> anyhow::Result<ExitCode> {
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

/// What `flowlane info` sums.
#[derive(Default)]
struct About {
    rows: u64,
    first: Option<i128>,
    last: Option<i128>,
    exporters: std::collections::BTreeMap<String, u64>,
    versions: std::collections::BTreeMap<String, u64>,
}

impl About {
    fn add(&mut self, other: Self) {
        let least = |a: Option<i128>, b: Option<i128>| a.into_iter().chain(b).min();
        let most = |a: Option<i128>, b: Option<i128>| a.into_iter().chain(b).max();
        self.rows += other.rows;
        (self.first, self.last) = (least(self.first, other.first), most(self.last, other.last));
        for (name, n) in other.exporters {
            *self.exporters.entry(name).or_default() += n;
        }
        for (name, n) in other.versions {
            *self.versions.entry(name).or_default() += n;
        }
    }
}

pub fn info(args: &InfoArgs) -> anyhow::Result<ExitCode> {
    let from = From { paths: args.paths.clone(), format: None, threads: None, stats: false };
    let scan = from.scan(&[], ["time_received", "exporter", "version"].map(String::from).to_vec())?;
    let (mut sealed, mut hot, mut bytes) = (0u64, 0u64, 0u64);
    let mut schemas = std::collections::BTreeSet::new();
    for input in &scan.inputs {
        let path = match input {
            Input::Parquet(path) => {
                sealed += 1;
                schemas.extend(schema_version(path));
                path
            }
            Input::Hot(path) => {
                hot += 1;
                path
            }
        };
        bytes += std::fs::metadata(path).map_or(0, |m| m.len());
    }
    let mut all = About::default();
    let stats = scan.run(
        About::default,
        |about: &mut About, batch, chosen| {
            let mut one = About { rows: chosen.count_set_bits() as u64, ..About::default() };
            for row in chosen.set_indices() {
                let time = query::number(batch, "time_received", row);
                (one.first, one.last) =
                    (one.first.into_iter().chain(time).min(), one.last.into_iter().chain(time).max());
            }
            for (name, counts) in [("exporter", &mut one.exporters), ("version", &mut one.versions)] {
                for row in chosen.set_indices() {
                    let text = query::text(batch, name, row).unwrap_or_default();
                    *counts.entry(text).or_default() += 1;
                }
            }
            about.add(one);
            true
        },
        |about| all.add(about),
    );
    let time = |us: Option<i128>| {
        let mut text = Vec::new();
        if let Some(us) = us.and_then(|us| i64::try_from(us).ok()) {
            flowlane::sink::text::time(&mut text, us);
        }
        String::from_utf8(text).unwrap_or_default()
    };
    let each = if all.rows > 0 { bytes as f64 / all.rows as f64 } else { 0.0 };
    let schemas: Vec<String> = schemas.into_iter().collect();
    let mut out = io::stdout().lock();
    if args.json {
        let object = serde_json::json!({
            "files": sealed, "hot_segments": hot, "rows": all.rows, "bytes": bytes, "bytes_per_row": each,
            "first_received": time(all.first), "last_received": time(all.last), "schema_versions": schemas,
            "exporters": all.exporters, "versions": all.versions,
            "damaged": stats.damaged.iter().map(|d| d.0.display().to_string()).collect::<Vec<_>>(),
        });
        writeln!(out, "{object}")?;
    } else {
        writeln!(out, "files      {sealed} sealed, {hot} hot; schema version {}", schemas.join(" and "))?;
        writeln!(out, "flows      {} rows, {bytes} bytes, {each:.1} a row", all.rows)?;
        writeln!(out, "received   {} to {}", time(all.first), time(all.last))?;
        let versions: Vec<String> = all.versions.iter().map(|(v, n)| format!("{n} of version {v}")).collect();
        writeln!(out, "protocols  {}", versions.join(", "))?;
        writeln!(out, "exporters  {}", all.exporters.len())?;
        let mut exporters: Vec<_> = all.exporters.iter().collect();
        exporters.sort_by_key(|e| Reverse(e.1));
        for (name, n) in exporters.iter().take(20) {
            writeln!(out, "           {name}: {n} rows")?;
        }
        if exporters.len() > 20 {
            writeln!(out, "           and {} more", exporters.len() - 20)?;
        }
    }
    Ok(from.end(&stats))
}

fn is_number(column: &str) -> bool {
    use flowlane::columns::ColumnType as T;
    column == "duration_ms"
        || SCHEMA.iter().any(|c| {
            c.name == column && matches!(c.data_type, T::U8 | T::U16 | T::U32 | T::U64 | T::I64) && column != "proto"
        })
}

fn is_time(column: &str) -> bool {
    SCHEMA.iter().any(|c| c.name == column && c.data_type == flowlane::columns::ColumnType::Timestamp)
}

/// What a file says of the schema it was written with.
fn schema_version(path: &std::path::Path) -> Option<String> {
    use parquet::file::reader::{FileReader, SerializedFileReader};
    let reader = SerializedFileReader::new(std::fs::File::open(path).ok()?).ok()?;
    let about = reader.metadata().file_metadata().key_value_metadata()?;
    about.iter().find(|kv| kv.key == "flowlane.schema_version")?.value.clone()
}

fn print(style: Style, header: &[String], numeric: &[bool], rows: &[Vec<String>]) -> anyhow::Result<()> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    match style {
        Style::Table => {
            let mut table = Table::new();
            table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
            table.set_header(header);
            for row in rows {
                table.add_row(row);
            }
            for (i, _) in numeric.iter().enumerate().filter(|n| *n.1) {
                if let Some(column) = table.column_mut(i) {
                    column.set_cell_alignment(CellAlignment::Right);
                }
            }
            writeln!(out, "{table}")?;
        }
        Style::Csv => {
            let quoted = |text: &String| {
                if text.contains([',', '"', '\n', '\r']) {
                    format!("\"{}\"", text.replace('"', "\"\""))
                } else {
                    text.clone()
                }
            };
            for row in std::iter::once(header).chain(rows.iter().map(Vec::as_slice)) {
                writeln!(out, "{}", row.iter().map(quoted).collect::<Vec<_>>().join(","))?;
            }
        }
        Style::Ndjson => {
            for row in rows {
                let mut object = serde_json::Map::new();
                for ((name, value), numeric) in header.iter().zip(row).zip(numeric) {
                    let number = numeric.then(|| serde_json::from_str(value).ok()).flatten();
                    if !value.is_empty() {
                        object.insert(name.clone(), number.unwrap_or_else(|| value.clone().into()));
                    }
                }
                writeln!(out, "{}", serde_json::Value::Object(object))?;
            }
        }
        Style::Markdown => {
            let line = |cells: Vec<String>| format!("| {} |", cells.join(" | "));
            writeln!(out, "{}", line(header.to_vec()))?;
            writeln!(out, "{}", line(numeric.iter().map(|n| if *n { "---:" } else { "---" }.to_string()).collect()))?;
            for row in rows {
                writeln!(out, "{}", line(row.iter().map(|c| c.replace('|', "\\|")).collect()))?;
            }
        }
    }
    out.flush()?;
    Ok(())
}
