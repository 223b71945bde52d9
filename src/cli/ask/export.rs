//! `flowlane export`: flows written again, whole.

use super::anonymous::Anonymous;
use super::answer::{Answer, Column, put, stream};
use super::{FILTERS, From, Style, kind, watched::watched};
use arrow_array::RecordBatch;
use arrow_buffer::BooleanBuffer;
use flowlane::query::{self, Export};
use flowlane::sink::ParquetFile;
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Mutex;

/// Arguments of `flowlane export`.
#[derive(clap::Args)]
#[command(after_help = format!("\
Examples:
  flowlane export 'last 1h and host 192.0.2.7' --out case.parquet      every column, as collectors write them
  flowlane export --format ndjson 'proto udp' | gzip > udp.ndjson.gz   a flow a line, without what it lacks
  flowlane export --format table 'port 22'                             lines like nfdump's
  flowlane export --out share.parquet --anonymise @key                 for others: other addresses, no MACs and names

Fields that have no column of the schema are columns x_... here, in every format; NDJSON and CSV of collect and decode have them in
the object extras.

{FILTERS}"))]
pub struct Args {
    /// Which flows; all words together are one filter
    filter: Vec<String>,
    #[command(flatten)]
    from: From,
    #[command(flatten)]
    anonymous: Anonymous,
}

/// Where rows go.
enum Out {
    Rows(Box<Answer>, Vec<String>),
    Lines(Box<dyn Write + Send>),
    Parquet(Box<ParquetFile<Box<dyn Write + Send>>>),
}

impl Out {
    fn write(&mut self, rows: &RecordBatch) -> anyhow::Result<()> {
        match self {
            Self::Parquet(file) => file.write(rows)?,
            Self::Lines(out) => (0..rows.num_rows()).try_for_each(|row| line(out, rows, row))?,
            Self::Rows(answer, names) => {
                for row in 0..rows.num_rows() {
                    let text = |name: &String| query::text(rows, name, row).unwrap_or_default();
                    answer.row(names.iter().map(text).collect())?;
                }
            }
        }
        Ok(())
    }
}

pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let anonymiser = args.anonymous.anonymiser([])?;
    let mut scan = args.from.scan(&args.filter, Vec::new())?;
    let export = Export::of(&scan.inputs, anonymiser.as_ref());
    scan.columns = export.columns();
    // In the order of the files.
    scan.threads = 1;
    let style = args.from.style();
    let names = export.text_columns();
    let (out, place) = match style {
        Style::Parquet | Style::Table => {
            let (stream, place) = stream(&args.from)?;
            let out = match style {
                Style::Parquet => Out::Parquet(Box::new(ParquetFile::create(stream, export.schema())?)),
                _ => {
                    let mut stream = stream;
                    writeln!(stream, "{HEADER}")?;
                    Out::Lines(stream)
                }
            };
            (out, place)
        }
        _ => {
            let columns = names.iter().map(|f| Column::new(f, kind(f))).collect();
            (Out::Rows(Box::new(Answer::new(&args.from, columns)?), names), None)
        }
    };
    let state = Mutex::new((out, Ok(())));
    let add = |(): &mut (), batch: &RecordBatch, chosen: &BooleanBuffer| {
        let Ok(mut state) = state.lock() else { return false };
        let (out, result) = &mut *state;
        *result = export.rows(batch, chosen).map_err(Into::into).and_then(|rows| {
            let rows = match &anonymiser {
                Some(anonymiser) => anonymiser.batch(&rows),
                None => rows,
            };
            out.write(&rows)
        });
        result.is_ok()
    };
    let stats = watched(&scan.watch, || scan.run(|| (), add, drop));
    let (out, result) = state.into_inner().map_err(|_| anyhow::anyhow!("a thread failed"))?;
    let finished = result.and_then(|()| match out {
        Out::Rows(answer, _) => answer.finish(),
        Out::Lines(mut out) => Ok(out.flush()?),
        Out::Parquet(file) => Ok(file.into_inner()?.flush()?),
    });
    finished.and_then(|()| put(place))?;
    Ok(args.from.end(&scan, &stats))
}

const HEADER: &str = "Date first seen             Duration Proto       Src IP Addr:Port             Dst IP Addr:Port   \
    Packets      Bytes Flows";

/// A flow as nfdump's lines have it: times in milliseconds, UTC.
fn line(out: &mut dyn Write, rows: &RecordBatch, row: usize) -> io::Result<()> {
    let text = |name: &str| query::text(rows, name, row);
    let start = text("flow_start").or_else(|| text("time_received")).unwrap_or_default().replace('T', " ");
    let start = start.trim_end_matches('Z').get(..23).unwrap_or(start.trim_end_matches('Z')).to_string();
    let ms: f64 = text("duration_ms").and_then(|t| t.parse().ok()).unwrap_or(0.0);
    let end = |address: &str, port: &str| {
        let address = text(address).unwrap_or_else(|| "0.0.0.0".to_string());
        // A dot where colons are part of the address.
        let mark = if address.contains(':') { '.' } else { ':' };
        format!("{address}{mark}{}", text(port).unwrap_or_else(|| "0".to_string()))
    };
    let counter = |name: &str| text(name).unwrap_or_else(|| "0".to_string());
    writeln!(
        out,
        "{start:<23} {:>12.3} {:<5} {:>22} -> {:>25} {:>9} {:>10} {:>5}",
        ms / 1000.0,
        text("proto").unwrap_or_default().to_uppercase(),
        end("src_addr", "src_port"),
        end("dst_addr", "dst_port"),
        counter("packets"),
        counter("bytes"),
        counter("flows"),
    )
}
