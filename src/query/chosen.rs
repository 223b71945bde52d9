//! All sums of the greatest of groups that were ranked before.

use super::entry::{Narrow, Rows, Sum, Values};
use super::greatest::Greatest;
use super::pack::Texts;
use super::sums::{Metric, Row};
use super::table::{Key, Ranking, Tables};
use arrow_array::RecordBatch;
use std::io;
use std::sync::{Arc, Mutex};

/// Some groups, and what the others come to together.
pub(super) struct Chosen {
    keys: Arc<[Key]>,
    tables: Tables<Narrow>,
    /// All groups, and whether memory had no room for them.
    pub groups: usize,
    pub is_spilled: bool,
    /// The measure that they are ranked by: its sums are known, and not read again.
    pub metric: Metric,
    // Of flows that count with both of their values, the second time.
    twice: Row,
    // The first start and the last end of the others.
    times: Row,
}

impl Chosen {
    /// Groups with the sums that they are ranked by; `twice` is what flows add to that for the second time. `None` for sums
    /// that 64 bits have no room for.
    pub(super) fn of(
        columns: &[&str],
        first: Vec<(Key, i128)>,
        (metric, twice): (Metric, i128),
        groups: usize,
        is_spilled: bool,
    ) -> Option<Self> {
        let mut tables = Tables::new(columns);
        for (key, sum) in &first {
            tables.put(key, Narrow::of_measure(metric, i64::try_from(*sum).ok()?));
        }
        let keys = first.into_iter().map(|(key, _)| key).collect();
        let (twice, times) = (Row::of_measure(metric, twice), Row::NONE);
        Some(Self { keys, tables, groups, is_spilled, metric, twice, times })
    }

    /// For another thread: the groups without a row.
    pub(super) fn another(&self, columns: &[&str]) -> Self {
        let mut tables = Tables::new(columns);
        self.keys.iter().for_each(|key| tables.put(key, Narrow::NONE));
        Self { keys: self.keys.clone(), tables, twice: Row::NONE, times: Row::NONE, ..*self }
    }

    /// Adds rows to the groups of their values of columns; for the second time, if they count twice.
    pub(super) fn add(
        &mut self,
        (batch, names): (&RecordBatch, &[&str]),
        rows: Rows,
        values: &Values<'_>,
        texts: &Mutex<Texts>,
        is_second: bool,
    ) {
        if is_second {
            values.sum(&rows, &mut self.twice);
        }
        self.tables.add_known(batch, names, rows, values, texts, &mut self.times);
    }

    /// The same rows by their keys, which all have one layout.
    pub(super) fn add_keys(&mut self, keys: &[u64], rows: &Rows, values: &Values<'_>) {
        self.tables.add_known_keys(keys, rows, values, &mut self.times);
    }

    /// Words of such a key.
    pub(super) fn words(&self) -> usize {
        self.tables.words()
    }

    /// Adds what another thread has of the same keys.
    pub(super) fn append(&mut self, other: Self) {
        self.tables.append(other.tables);
        self.twice.add(&other.twice);
        self.times.add(&other.times);
    }

    /// The greatest `n` of them by the measure, of rows that come to `total`, and the sum of all other groups, if there are any.
    pub(super) fn ranked(&self, n: usize, total: &Row, texts: &Texts) -> io::Result<Ranking> {
        let mut all = Greatest::new(self.metric, n);
        self.tables.greatest(texts, &mut all)?;
        let (first, cut) = all.finish(Ord::cmp);
        let cut = cut.unwrap_or(Row::NONE);
        let (start, end) = (self.times.start.min(cut.start), self.times.end.max(cut.end));
        let mut others = Row { start, end, ..Row::NONE };
        let parts = [(1, total), (1, &self.twice)].into_iter().chain(first.iter().map(|(_, row)| (-1, row)));
        for (sign, row) in parts {
            others.bytes += sign * row.bytes;
            others.packets += sign * row.packets;
            others.flows += sign * row.flows;
        }
        let others = (self.groups > first.len()).then_some(others);
        Ok((first, others))
    }
}
