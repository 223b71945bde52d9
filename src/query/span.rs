//! The stretch of time that a scan is about, without reading a row.

use super::filter::{Column, Expr, Set};
use super::foreign;
use super::prune::may_hold;
use super::scan::{Input, Scan};
use parquet::arrow::arrow_reader::ArrowReaderMetadata;
use parquet::file::statistics::Statistics;
use std::fs::{self, File};
use std::path::Path;
use std::time::UNIX_EPOCH;

impl Scan {
    /// From when to when flows of the files that the filter does not rule out were received, microseconds since 1970, by
    /// what files say of themselves; `None` where they say nothing.
    pub fn span(&self) -> Option<(i64, i64)> {
        let spans = self.inputs.iter().filter_map(|input| match input {
            Input::Parquet(path) => self.span_of(path),
            Input::Arrow(_) => None,
            Input::Hot(path) => {
                // Named by when it was begun; written to until now.
                let begun = path.file_stem()?.to_str()?.parse().ok()?;
                let written = fs::metadata(path).ok()?.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
                Some((begun, i64::try_from(written.as_micros()).ok()?.max(begun)))
            }
        });
        let (from, to) = spans.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))?;
        let (least, most) = received(&self.filter.expr);
        let clamp = |t: i64| i64::try_from(i128::from(t).clamp(least, most.max(least))).unwrap_or(t);
        Some((clamp(from), clamp(to)))
    }

    /// The same from when the first flow began to when the last was received, as far as files say so. What began more than
    /// a day before it was received is rather told by a clock that is wrong, and is not asked.
    pub fn span_of_flows(&self) -> Option<(i64, i64)> {
        const DAY: i64 = 86_400_000_000;
        let (from, to) = self.span()?;
        let starts = self.inputs.iter().filter_map(|input| match input {
            Input::Parquet(path) => Some(self.span_in(path, "flow_start")?.0),
            Input::Arrow(_) | Input::Hot(_) => None,
        });
        let sound = starts.filter(|start| *start >= from.saturating_sub(DAY)).min();
        Some((sound.map_or(from, |start| start.min(from)), to))
    }

    fn span_of(&self, path: &Path) -> Option<(i64, i64)> {
        self.span_in(path, "time_received")
    }

    /// The least and the greatest time of a column in the row groups that the filter does not rule out.
    fn span_in(&self, path: &Path, name: &str) -> Option<(i64, i64)> {
        let metadata = ArrowReaderMetadata::load(&File::open(path).ok()?, Default::default()).ok()?;
        if !foreign::is_ours(metadata.schema(), [name.to_string()].iter()) {
            return None;
        }
        let groups = metadata.metadata().row_groups().iter().filter(|group| may_hold(&self.filter.expr, group));
        let spans = groups.filter_map(|group| {
            let column = group.columns().iter().find(|c| c.column_path().string() == name)?;
            match column.statistics()? {
                Statistics::Int64(times) => Some((*times.min_opt()?, *times.max_opt()?)),
                _ => None,
            }
        });
        spans.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))
    }
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
