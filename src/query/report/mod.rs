//! A report: the answers to the usual questions as one HTML page that needs nothing else.
//!
//! ```text
//! Scan -> Gathered    one pass for the greatest of every kind, a second for their series
//!      -> Report      all numbers, as JSON
//!      -> html        the page: markup, style, Chart.js, the numbers, in one file
//! ```

mod gather;
mod losses;
mod names;
mod page;
mod panels;

use super::anonymise::Anonymiser;
use super::scan::{Scan, ScanStats};
use super::series::At;
use crate::keep::ledger::Stretch;
use gather::Gathered;
use serde_json::{Value, json};
use std::sync::Arc;

/// What a report shows, and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// What stands above it.
    pub title: String,
    /// Groups of each kind that are named.
    pub n: usize,
    /// Whether counters are multiplied by the sampling rate, where it is known.
    pub scale: bool,
    /// Whether running totals count as a flow's counters, which they are where an exporter sends one record a flow.
    pub totals: bool,
    /// Where on the time axis a flow counts.
    pub at: At,
    /// Groups of each kind that are kept in memory at most; further ones go to a file.
    pub groups: usize,
    /// What turns addresses into others, where the page is for others: the filter, and names of exporters and interfaces are
    /// then left out, which would tell who it was.
    pub anonymiser: Option<Arc<Anonymiser>>,
}

/// What was asked, for the reader: the scan holds it in another form.
#[derive(Clone, Debug, Default)]
pub struct About {
    /// The folders and files.
    pub paths: Vec<String>,
    /// The filter as it was written.
    pub filter: String,
    /// The first and the last microsecond of the time received that is asked for; `None` is no bound.
    pub received: (Option<i64>, Option<i64>),
    /// How that came about, like `the last 24 h of what is there`.
    pub range: String,
    /// By what the filter leaves out further sightings of a flow, as `--dedup` takes it; empty where it does not.
    pub once: String,
    /// When the report is made, microseconds since 1970.
    pub now_us: i64,
}

/// What collectors say they lost.
#[derive(Clone, Debug)]
pub struct Ledger {
    /// Where it is from, for the reader.
    pub source: String,
    /// Stretches of time, each with what was counted in it.
    pub stretches: Vec<Stretch>,
}

/// Answers, ready to be shown.
#[derive(Clone, Debug)]
pub struct Report {
    title: String,
    data: Value,
}

impl Report {
    /// Reads the flows, twice, and sums them. The statistics are those of the first scan.
    pub fn of(scan: &Scan, about: &About, options: &Options, ledger: Option<&Ledger>) -> (Self, ScanStats) {
        let (gathered, stats) = Gathered::of(scan, about, options);
        let anonymiser = options.anonymiser.as_deref();
        let place = match options.at {
            At::Spread => "evenly from start to end",
            At::End => "where they end",
            At::Received => "where they were received",
        };
        let damaged = stats
            .damaged
            .iter()
            .map(|d| json!({ "path": d.path.display().to_string(), "error": d.error, "rows": d.rows }));
        let data = json!({
            "title": options.title,
            "version": env!("CARGO_PKG_VERSION"),
            "made": about.now_us,
            "paths": about.paths,
            "filter": if anonymiser.is_some() { "" } else { &about.filter },
            "filtered": !about.filter.is_empty(),
            "anonymised": anonymiser.is_some(),
            "range": {
                "from": about.received.0,
                "to": about.received.1,
                "how": about.range,
                "first": gathered.received.map(|r| r.0),
                "last": gathered.received.map(|r| r.1),
            },
            "scale": options.scale,
            "at": place,
            "once": about.once,
            "stopped": scan.watch.is_stopped(),
            "empty": emptiness(&stats),
            "scan": {
                "files": stats.files,
                "groups": stats.groups,
                "pruned": stats.pruned,
                "rows": stats.rows,
                "matched": stats.matched,
                "unknown": stats.unknown,
                "damaged": damaged.collect::<Value>(),
            },
            "total": gathered.total(),
            "panels": gathered.panels(),
            "series": gathered.series(),
            "losses": ledger.map(|l| losses::json(l, gathered.received, anonymiser)),
        });
        (Self { title: options.title.clone(), data }, stats)
    }

    /// All numbers.
    pub fn json(&self) -> &Value {
        &self.data
    }

    /// The page. It asks for nothing from anywhere, and says so to the browser, which holds it to that.
    pub fn html(&self) -> String {
        page::html(&self.title, &self.data)
    }
}

/// Why there is no flow; `None` where there are some.
fn emptiness(stats: &ScanStats) -> Option<String> {
    match stats {
        ScanStats { matched: 1.., .. } => None,
        ScanStats { files: 0, .. } => Some("There are no flows here: no Parquet file, and no segment.".into()),
        ScanStats { rows: 0, .. } => {
            Some(format!("No flow: none of {} files can have one for this filter and time.", stats.files))
        }
        ScanStats { unknown: 1.., .. } => Some(format!(
            "No flow: the filter holds for none of {} that were looked at, of which {} lack a column that it asks for.",
            stats.rows, stats.unknown
        )),
        _ => Some(format!("No flow: the filter holds for none of {} that were looked at.", stats.rows)),
    }
}

/// A whole number for JavaScript: as text where a double would not hold it.
fn count(n: i128) -> Value {
    const EXACT: i128 = 1 << 53;
    match i64::try_from(n) {
        Ok(small) if (-EXACT..=EXACT).contains(&n) => json!(small),
        _ => json!(n.to_string()),
    }
}

#[cfg(test)]
mod tests;
