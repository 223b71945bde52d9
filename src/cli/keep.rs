//! `flowlane verify` and `flowlane prune`: folders that `flowlane collect` wrote.

use super::collect::retention;
use super::output::{Size, Span};
use super::{say, usage};
use anyhow::Context;
use flowlane::columns::Timestamp;
use flowlane::keep::{self, State};
use serde_json::json;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::SystemTime;

/// Arguments of `flowlane verify`.
#[derive(clap::Args)]
#[command(after_help = "\
Every file is read to its last row. Examples:
  flowlane verify flows              what is wrong, and a sum
  flowlane verify flows --json       one object a file
  flowlane verify flows.parquet      one file

Exit code 1 where a file is damaged. Segments of a collector that runs, or that was killed, are no damage: the next
start seals them.")]
pub struct VerifyArgs {
    /// The folder, or one file
    #[arg(default_value = "flows")]
    path: PathBuf,
    /// One JSON object a file, on standard output
    #[arg(long)]
    json: bool,
}

/// Arguments of `flowlane prune`.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  flowlane prune flows --keep 30d --dry-run      which files would go
  flowlane prune flows --keep-bytes 200G         remove the oldest until there are no more bytes
Files go by the hour received, whole hours alone, and those of options records with them; each bound is that of one node.
`flowlane collect` takes the same flags and does so by itself.")]
pub struct PruneArgs {
    /// The folder
    #[arg(default_value = "flows")]
    folder: PathBuf,
    /// Whose files [default: the host's name]
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
    /// Remove files of hours that ended longer ago: whole hours alone
    #[arg(long, value_name = "TIME")]
    keep: Option<Span>,
    /// Remove the node's oldest files while they have more bytes
    #[arg(long, value_name = "SIZE")]
    keep_bytes: Option<Size>,
    /// Remove the oldest files while the disk has fewer free bytes
    #[arg(long, value_name = "SIZE")]
    keep_free: Option<Size>,
    /// Only say what would go
    #[arg(long)]
    dry_run: bool,
}

pub fn verify(args: &VerifyArgs) -> anyhow::Result<ExitCode> {
    let (mut files, mut rows, mut bytes, mut damaged, mut hot) = (0u64, 0u64, 0u64, 0u64, 0u64);
    let mut out = io::stdout().lock();
    let mut result = Ok(());
    keep::verify(&args.path, |file| {
        (files, rows, bytes) = (files + 1, rows + file.rows, bytes + file.bytes);
        let path = file.path.display();
        let (state, detail) = match &file.state {
            State::Sealed => ("sealed", None),
            State::Hot { torn: false } => ("hot", None),
            State::Hot { torn: true } => ("hot", Some("its last rows were cut off".to_string())),
            State::Unfinished => ("unfinished", None),
            State::Damaged(error) => ("damaged", Some(error.clone())),
        };
        damaged += u64::from(state == "damaged");
        hot += u64::from(state == "hot");
        let text = if args.json {
            let path = path.to_string();
            json!({"path": path, "state": state, "rows": file.rows, "bytes": file.bytes, "error": detail}).to_string()
        } else if state == "sealed" || state == "hot" && detail.is_none() {
            return;
        } else {
            format!("{path}: {state}{}", detail.map(|d| format!(": {d}")).unwrap_or_default())
        };
        if result.is_ok() {
            result = writeln!(out, "{text}");
        }
    })
    .with_context(|| format!("cannot read {}", args.path.display()))?;
    result?;
    let each = if rows > 0 { format!(", {:.1} bytes a row", bytes as f64 / rows as f64) } else { String::new() };
    say(&format!("{files} files ({hot} hot), {rows} rows, {bytes} bytes{each}, {damaged} damaged"));
    Ok(if damaged > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

pub fn prune(args: &PruneArgs) -> anyhow::Result<ExitCode> {
    let bounds = retention(args.keep, args.keep_bytes, args.keep_free);
    if bounds.is_endless() {
        return Err(usage("nothing to prune by: give --keep 30d, --keep-bytes 200G or --keep-free 50G"));
    }
    let node = args.node.clone().unwrap_or_else(keep::default_node);
    let cannot = || format!("cannot prune the folder {}", args.folder.display());
    std::fs::read_dir(&args.folder).with_context(cannot)?;
    let now = Timestamp::from(SystemTime::now()).0;
    let retired = bounds.apply(&args.folder, &node, now, args.dry_run).with_context(cannot)?;
    let mut out = io::stdout().lock();
    for path in &retired.files {
        writeln!(out, "{}", path.display())?;
    }
    let what = if args.dry_run { "would be removed" } else { "removed" };
    say(&format!("{} files of {node}, {} bytes, {what}", retired.files.len(), retired.bytes));
    for (path, error) in &retired.stuck {
        say(&format!("cannot remove {}: {error}", path.display()));
    }
    Ok(if retired.stuck.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
