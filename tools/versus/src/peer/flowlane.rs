//! flowlane, as its README says: Parquet in a folder.

use super::{Peer, Place, Totals, program, says};
use anyhow::{Context, bail};
use serde_json::Value;
use std::process::Command;

/// `flowlane collect`, so many receiving threads.
pub struct Flowlane {
    /// One a core.
    pub threads: u16,
}

impl Peer for Flowlane {
    fn name(&self) -> &'static str {
        if self.threads > 1 { "flowlane, all cores" } else { "flowlane" }
    }

    fn version(&self) -> Result<String, String> {
        let found = program("flowlane").and_then(|p| says(&p, &["--version"]));
        found.ok_or_else(|| "cargo build --release -p flowlane".to_owned())
    }

    fn command(&self, place: &Place) -> Command {
        let mut command = Command::new(program("flowlane").unwrap_or_default());
        command.args(["collect", "--listen", &format!("127.0.0.1:{}", place.port), "--json"]);
        command.args(["--threads", &self.threads.to_string()]);
        command.args(["--format", "parquet", "--out"]).arg(place.kept());
        if let Some(bytes) = place.buffer {
            command.args(["--receive-buffer", &(bytes >> 20).to_string()]);
        }
        if let Some(seconds) = place.rotate {
            command.args(["--rotate", &format!("{seconds}s")]);
        }
        if let Some(bytes) = place.keep_bytes {
            command.args(["--keep-bytes", &bytes.to_string()]);
        }
        if let Some(port) = place.http {
            command.args(["--http", &port.to_string()]);
        }
        command
    }

    fn totals(&self, place: &Place) -> anyhow::Result<Totals> {
        let summary = crate::process::Running::printed(&place.folder);
        let summary: Value = serde_json::from_str(&summary).context("flowlane's summary")?;
        if place.keep_bytes.is_some() {
            let records = summary["rows_written"].as_u64().context("flowlane's summary has no rows_written")?;
            return Ok(Totals { records, ..Totals::default() });
        }
        let mut command = Command::new(program("flowlane").unwrap_or_default());
        command.args(["top", "version", "--by", "flows", "-n", "100", "--format", "ndjson", "--in"]);
        let output = command.arg(place.kept()).output()?;
        if !output.status.success() {
            bail!("flowlane top: {}", String::from_utf8_lossy(&output.stderr));
        }
        let text = String::from_utf8_lossy(&output.stdout);
        let mut rows = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let sum = rows.rfind(|row| row["row"] == "total").context("flowlane top has no line of sums")?;
        let number = |name: &str| sum[name].as_u64().with_context(|| format!("no {name} in {sum}"));
        let totals = Totals { records: number("flows")?, octets: number("bytes")?, packets: number("packets")? };
        // What is in the files, not what was counted on the way there.
        match summary["records"].as_u64() {
            Some(decoded) if decoded == totals.records + summary["rows_dropped"].as_u64().unwrap_or(0) => Ok(totals),
            decoded => bail!("{} flows in the files, {decoded:?} decoded", totals.records),
        }
    }

    fn pages(&self) -> &'static [&'static str] {
        &["/metrics", "/exporters", "/ledger"]
    }

    fn echo(&self, command: &mut Command, port: u16) -> bool {
        command.args(["--mirror", &format!("127.0.0.1:{port}")]);
        true
    }
}
