//! `flowlane info`: what is in a folder.

use super::{From, watched::watched};
use flowlane::columns::schema::SCHEMA_VERSION_KEY;
use flowlane::query::{self, Input};
use std::cmp::Reverse;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

/// Arguments of `flowlane info`.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  flowlane info                          the folder flows/
  flowlane info /data flows.parquet      several folders and files
  flowlane info --json

Exit code 1 where a file cannot be read; it is named.")]
pub struct Args {
    /// Folders or Parquet files
    #[arg(default_value = "flows")]
    paths: Vec<PathBuf>,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

/// What `flowlane info` sums.
#[derive(Default)]
struct About {
    rows: u64,
    first: Option<i128>,
    last: Option<i128>,
    exporters: std::collections::BTreeMap<String, u64>,
    versions: std::collections::BTreeMap<String, u64>,
    schemas: std::collections::BTreeSet<String>,
}

impl About {
    fn add(&mut self, other: Self) {
        let least = |a: Option<i128>, b: Option<i128>| a.into_iter().chain(b).min();
        let most = |a: Option<i128>, b: Option<i128>| a.into_iter().chain(b).max();
        self.rows += other.rows;
        self.schemas.extend(other.schemas);
        (self.first, self.last) = (least(self.first, other.first), most(self.last, other.last));
        for (name, n) in other.exporters {
            *self.exporters.entry(name).or_default() += n;
        }
        for (name, n) in other.versions {
            *self.versions.entry(name).or_default() += n;
        }
    }
}

pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let from =
        From { paths: args.paths.clone(), format: None, out: None, threads: None, dedup: Vec::new(), stats: false };
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
            Input::Arrow(path) => {
                sealed += 1;
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
    let stats = watched(&scan.watch, || {
        scan.run(
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
                // Segments say it with their rows, files in their footer.
                one.schemas.extend(batch.schema_ref().metadata().get(SCHEMA_VERSION_KEY).cloned());
                about.add(one);
                true
            },
            |about| all.add(about),
        )
    });
    // What cannot be read has no rows, and is no part of what a row takes.
    let lost = stats.damaged.iter().filter(|d| d.rows == 0).filter_map(|d| std::fs::metadata(&d.path).ok());
    bytes = bytes.saturating_sub(lost.map(|m| m.len()).sum());
    let time = |us: Option<i128>| {
        let mut text = Vec::new();
        if let Some(us) = us.and_then(|us| i64::try_from(us).ok()) {
            flowlane::sink::text::time(&mut text, us);
        }
        String::from_utf8(text).unwrap_or_default()
    };
    let each = if all.rows > 0 { bytes as f64 / all.rows as f64 } else { 0.0 };
    schemas.append(&mut all.schemas);
    let schemas: Vec<String> = schemas.into_iter().collect();
    let mut out = io::stdout().lock();
    if args.json {
        let object = serde_json::json!({
            "files": sealed, "hot_segments": hot, "rows": all.rows, "bytes": bytes, "bytes_per_row": each,
            "first_received": time(all.first), "last_received": time(all.last), "schema_versions": schemas,
            "exporters": all.exporters, "versions": all.versions,
            "damaged": stats.damaged.iter().map(|d| d.path.display().to_string()).collect::<Vec<_>>(),
        });
        writeln!(out, "{object}")?;
    } else {
        let version =
            if schemas.is_empty() { String::new() } else { format!("; schema version {}", schemas.join(" and ")) };
        writeln!(out, "files      {sealed} sealed, {hot} hot{version}")?;
        if all.rows == 0 {
            return Ok(from.end(&scan, &stats));
        }
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
    Ok(from.end(&scan, &stats))
}

/// What a file says of the schema it was written with.
fn schema_version(path: &std::path::Path) -> Option<String> {
    use parquet::file::reader::{FileReader, SerializedFileReader};
    let reader = SerializedFileReader::new(std::fs::File::open(path).ok()?).ok()?;
    let about = reader.metadata().file_metadata().key_value_metadata()?;
    about.iter().find(|kv| kv.key == SCHEMA_VERSION_KEY)?.value.clone()
}
