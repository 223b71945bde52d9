//! The stretch of time that a scan is about, without reading a row.

use super::filter::{Column, Expr, Set};
use super::foreign;
use super::prune::{Bounds, chunk, may_hold, of_chunk};
use super::scan::{Input, Scan};
use parquet::arrow::arrow_reader::ArrowReaderMetadata;
use parquet::file::metadata::RowGroupMetaData;
use std::fs::{self, File};
use std::path::Path;
use std::time::UNIX_EPOCH;

impl Scan {
    /// From when to when flows of the files that the filter does not rule out were received, microseconds since 1970, by
    /// what files say of themselves; `None` where they say nothing.
    pub fn span(&self) -> Option<(i64, i64)> {
        self.received(self.inputs.iter().map(|input| match input {
            Input::Parquet(path) => self.spans_in(path, ["time_received"])[0],
            Input::Arrow(_) => None,
            Input::Hot(path) => of_segment(path),
        }))
    }

    /// That of what files say, within what the filter says.
    fn received(&self, spans: impl Iterator<Item = Option<(i64, i64)>>) -> Option<(i64, i64)> {
        let (from, to) = spans.flatten().reduce(around)?;
        let (least, most) = received(&self.filter.expr);
        let clamp = |t: i64| i64::try_from(i128::from(t).clamp(least, most.max(least))).unwrap_or(t);
        Some((clamp(from), clamp(to)))
    }

    /// The same from when the first flow began to when the last was received, as far as files say so. What began more than
    /// a day before it was received is rather told by a clock that is wrong, and is not asked.
    pub fn span_of_flows(&self) -> Option<(i64, i64)> {
        const DAY: i64 = 86_400_000_000;
        let mut starts = Vec::new();
        let (from, to) = self.received(self.inputs.iter().map(|input| match input {
            Input::Parquet(path) => {
                let [received, starting] = self.spans_in(path, ["time_received", "flow_start"]);
                starts.extend(starting.map(|s| s.0));
                received
            }
            Input::Arrow(_) => None,
            Input::Hot(path) => of_segment(path),
        }))?;
        let sound = starts.into_iter().filter(|start| *start >= from.saturating_sub(DAY)).min();
        Some((sound.map_or(from, |start| start.min(from)), to))
    }

    /// The least and the greatest times of columns in the row groups of a file that the filter does not rule out.
    fn spans_in<const N: usize>(&self, path: &Path, names: [&str; N]) -> [Option<(i64, i64)>; N] {
        let file = File::open(path).ok();
        let metadata = file.and_then(|file| ArrowReaderMetadata::load(&file, Default::default()).ok());
        let Some(metadata) = metadata else { return [None; N] };
        let groups = metadata.metadata().row_groups().iter().filter(|group| may_hold(&self.filter.expr, group));
        let groups: Vec<&RowGroupMetaData> = groups.collect();
        names.map(|name| {
            if !foreign::is_ours(metadata.schema(), [name.to_string()].iter()) {
                return None;
            }
            groups.iter().filter_map(|group| time_span(name, group)).reduce(around)
        })
    }
}

fn time_span(name: &str, group: &RowGroupMetaData) -> Option<(i64, i64)> {
    match of_chunk(name, chunk(name, group)?.1.statistics()?, group.num_rows()) {
        Bounds::Of(from, to) => Some((i64::try_from(from).ok()?, i64::try_from(to).ok()?)),
        Bounds::None | Bounds::Unknown => None,
    }
}

/// A segment is named by when it was begun, and written to until now.
fn of_segment(path: &Path) -> Option<(i64, i64)> {
    let begun = path.file_stem()?.to_str()?.parse().ok()?;
    let written = fs::metadata(path).ok()?.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
    Some((begun, i64::try_from(written.as_micros()).ok()?.max(begun)))
}

/// The span of two.
fn around(a: (i64, i64), b: (i64, i64)) -> (i64, i64) {
    (a.0.min(b.0), a.1.max(b.1))
}

/// The times of receipt outside which the filter cannot hold.
fn received(expr: &Expr) -> (i128, i128) {
    let all = (i128::MIN, i128::MAX);
    match expr {
        Expr::And(a, b) => {
            let (a, b) = (received(a), received(b));
            (a.0.max(b.0), a.1.min(b.1))
        }
        Expr::Or(a, b) => {
            let (a, b) = (received(a), received(b));
            (a.0.min(b.0), a.1.max(b.1))
        }
        Expr::Test(Column::One("time_received", _), Set::Ranges(ranges)) => {
            ranges.iter().copied().reduce(|a, b| (a.0.min(b.0), a.1.max(b.1))).unwrap_or(all)
        }
        _ => all,
    }
}
