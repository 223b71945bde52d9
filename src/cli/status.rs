//! `flowlane status`: what a running collector has done, on a terminal.

use super::usage;
use anyhow::{Context, bail};
use comfy_table::{ContentArrangement, Table, presets};
use flowlane::collect::http;
use serde_json::Value;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

/// Arguments of `flowlane status`.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  flowlane collect --http 8080 &         a collector that answers on 127.0.0.1:8080
  flowlane status                        what it received, kept and lost, of each exporter
  flowlane status --json | jq .total.rows
  flowlane status --url http://192.0.2.1:9100

Exit code 1 where no collector answers.")]
pub struct Args {
    /// Where the collector answers: http://HOST:PORT, HOST:PORT, or a port of this machine
    #[arg(short, long, value_name = "URL", default_value = "http://127.0.0.1:8080", value_parser = url)]
    url: String,
    /// Print the whole ledger as JSON
    #[arg(long)]
    json: bool,
    /// Name so many exporters, the busiest
    #[arg(short = 'n', long, value_name = "N", default_value_t = 20, conflicts_with = "json")]
    exporters: usize,
}

pub(super) fn url(text: &str) -> Result<String, String> {
    let accepted = || "accepted are http://127.0.0.1:8080, 127.0.0.1:8080, or 8080".to_string();
    if text.parse::<u16>().is_ok() {
        return Ok(format!("http://127.0.0.1:{text}"));
    }
    let rest = text.strip_prefix("http://").unwrap_or(text).trim_end_matches('/');
    let port = rest.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
    if !port || rest.contains(['/', '?', '#', ' ', '@']) {
        return Err(accepted());
    }
    Ok(format!("http://{rest}"))
}

pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let (status, text) = http::fetch(&args.url, "/ledger")
        .with_context(|| format!("no collector answers at {} (one that runs with --http does)", args.url))?;
    if status != 200 {
        bail!("{} answered with status {status}: is that a flowlane collector?", args.url);
    }
    let mut out = io::stdout().lock();
    if args.json {
        out.write_all(text.as_bytes())?;
        return Ok(ExitCode::SUCCESS);
    }
    let Ok(ledger) = serde_json::from_str::<Value>(&text) else {
        return Err(usage(format!("{} answered with no JSON: is that a flowlane collector?", args.url)));
    };
    show(&mut out, &ledger, args.exporters)?;
    Ok(ExitCode::SUCCESS)
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or(0)
}

/// `what: 5 a, 2 b`, without the classes that are zero.
fn classes(value: &Value, names: &[(&str, &str)]) -> String {
    let parts = names.iter().map(|(key, text)| (number(&value[*key]), *text)).filter(|part| part.0 > 0);
    parts.map(|(n, text)| format!("{n} {text}")).collect::<Vec<_>>().join(", ")
}

fn show(out: &mut impl Write, ledger: &Value, named: usize) -> io::Result<()> {
    let total = &ledger["total"];
    let empty = Vec::new();
    let exporters = ledger["exporters"].as_array().unwrap_or(&empty);
    writeln!(out, "up {}, {} exporters", span(ledger["seconds"].as_f64().unwrap_or(0.0)), exporters.len())?;
    let datagrams =
        [("decoded", "decoded"), ("refused", "refused"), ("malformed", "malformed"), ("limited", "limited")];
    let sets = [
        ("decoded", "decoded"),
        ("held", "held"),
        ("malformed", "malformed"),
        ("skipped", "skipped"),
        ("without_room", "without room to wait"),
    ];
    let held = [
        ("decoded_late", "decoded late"),
        ("expired", "expired"),
        ("dropped", "dropped"),
        ("still_held", "still held"),
    ];
    let rows = [
        ("written", "written"),
        ("filtered", "left out by the filter"),
        ("dropped", "dropped"),
        ("pending", "pending"),
    ];
    let options =
        [("written", "written"), ("passed_over", "passed over"), ("dropped", "dropped"), ("pending", "pending")];
    let connections = [
        ("open", "open"),
        ("closed", "closed"),
        ("refused", "refused"),
        ("limited", "too many at once"),
        ("timed_out", "timed out"),
        ("malformed", "malformed"),
        ("failed", "failed"),
    ];
    let missing = [
        ("lost", "missing"),
        ("gaps", "gaps"),
        ("reordered", "reordered"),
        ("duplicates", "duplicates"),
        ("resets", "resets"),
        ("unverifiable", "unverifiable"),
    ];
    for (what, of, key, names) in [
        ("datagrams", &total["datagrams"], "received", &datagrams[..]),
        ("sets", &total["sets"], "seen", &sets),
        ("held sets", &total["held_sets"], "held", &held),
        ("rows", &total["rows"], "decoded", &rows),
        ("options records", &ledger["options"], "decoded", &options),
        ("connections", &total["connections"], "accepted", &connections),
    ] {
        let parts = classes(of, names);
        if key == "accepted" && number(&of[key]) == 0 {
            continue;
        }
        writeln!(out, "{what:>16}  {}{}{parts}", number(&of[key]), if parts.is_empty() { "" } else { ": " })?;
    }
    let sequence = classes(&total["sequence"], &missing);
    writeln!(out, "{:>16}  {}", "sequences", if sequence.is_empty() { "whole" } else { &sequence })?;
    writeln!(out, "{:>16}  {} dropped by the kernel, at least", "sockets", number(&ledger["kernel_drops"]))?;
    for mirror in ledger["mirrors"].as_array().unwrap_or(&empty) {
        let (target, unsent) = (mirror["target"].as_str().unwrap_or("?"), number(&mirror["unsent"]));
        let why = mirror["why"].as_str().filter(|_| unsent > 0).map(|why| format!(": {why}")).unwrap_or_default();
        writeln!(out, "{:>16}  {} sent, {unsent} not sent{why}", format!("to {target}"), number(&mirror["sent"]))?;
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64());
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(["exporter", "sends", "datagrams", "records", "rows dropped", "missing", "held", "seen", "clock"]);
    for e in exporters.iter().take(named) {
        let versions = e["versions"].as_array().unwrap_or(&empty).iter().map(|v| match v.as_u64() {
            Some(10) => "IPFIX".to_string(),
            v => format!("v{}", v.unwrap_or(0)),
        });
        let seen = e["last_seen"].as_f64().map_or("never".to_string(), |at| span((now - at).max(0.0)) + " ago");
        let clock = e["clock_skew_seconds"].as_f64().map_or(String::new(), |s| format!("{s:+.1} s"));
        table.add_row([
            e["exporter"].as_str().unwrap_or_default().to_string(),
            versions.collect::<Vec<_>>().join(" "),
            number(&e["datagrams"]["received"]).to_string(),
            number(&e["rows"]["decoded"]).to_string(),
            number(&e["rows"]["dropped"]).to_string(),
            number(&e["sequence"]["lost"]).to_string(),
            number(&e["held_sets"]["still_held"]).to_string(),
            seen,
            clock,
        ]);
    }
    if !exporters.is_empty() {
        writeln!(out, "\n{table}")?;
    }
    if exporters.len() > named {
        writeln!(out, "and {} more (-n names more, --json all)", exporters.len() - named)?;
    }
    Ok(())
}

/// Seconds as people say them.
fn span(seconds: f64) -> String {
    let s = seconds as u64;
    match s {
        0..60 => format!("{s}s"),
        60..3600 => format!("{}m {}s", s / 60, s % 60),
        3600..86_400 => format!("{}h {}m", s / 3600, s % 3600 / 60),
        _ => format!("{}d {}h", s / 86_400, s % 86_400 / 3600),
    }
}
