//! Sums by key: the greatest, the rest, and all.

use super::key::{self, Part};
use super::sums::{Metric, Row, Sums};
use super::value::columns_of;
use arrow_array::RecordBatch;
use arrow_buffer::BooleanBuffer;
use std::collections::HashMap;

/// What is summed, and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// Columns; `addr`, `port`, `as` and `if` stand for both directions, and a flow counts with each of its two values.
    pub keys: Vec<String>,
    /// Whether counters are multiplied by the sampling rate, where it is known.
    pub scale: bool,
    /// Groups at most; rows of further ones are summed apart.
    pub groups: usize,
}

/// Sums of groups.
pub struct Top {
    options: Options,
    // The columns of each key: two for a key of both directions.
    keys: Vec<Vec<String>>,
    groups: HashMap<Box<[u8]>, Row, foldhash::fast::RandomState>,
    total: Row,
    beyond: Row,
    totals: u64,
    rows: u64,
    unscaled: u64,
    key: Vec<u8>,
}

impl Top {
    /// Nothing summed yet.
    pub fn new(options: Options) -> Self {
        let keys = options.keys.iter().map(|k| key::directions(k)).collect();
        let groups = HashMap::default();
        Self {
            options,
            keys,
            groups,
            total: Row::NONE,
            beyond: Row::NONE,
            totals: 0,
            rows: 0,
            unscaled: 0,
            key: Vec::new(),
        }
    }

    /// The columns that are read.
    pub fn columns(&self) -> Vec<String> {
        let sums = ["bytes", "packets", "flows", "flow_start", "flow_end", "counters_are_total"].map(String::from);
        let rate = self.options.scale.then(|| "sampling_rate".to_string());
        self.keys.iter().flatten().flat_map(|k| columns_of(k)).chain(sums).chain(rate).collect()
    }

    /// Adds the chosen rows of a batch.
    pub fn add(&mut self, batch: &RecordBatch, chosen: &BooleanBuffer) {
        let sums = Sums::of(batch, self.options.scale);
        // Both directions of the first key that has them; the others go with either.
        let variants: Vec<Vec<Part<'_>>> = (0..self.keys.iter().map(Vec::len).max().unwrap_or(1))
            .map(|v| self.keys.iter().map(|names| Part::of(batch, names.get(v).or(names.last()))).collect())
            .collect();
        let mut key = std::mem::take(&mut self.key);
        let mut before = Vec::new();
        for row in chosen.set_indices() {
            if sums.is_total(row) {
                self.totals += 1;
                continue;
            }
            let add = sums.row(row);
            self.total.add(&add);
            self.rows += 1;
            self.unscaled += u64::from(sums.lacks_rate(row));
            for (v, parts) in variants.iter().enumerate() {
                key.clear();
                parts.iter().for_each(|p| p.append(row, &mut key));
                // A flow from a value to itself counts once.
                if v > 0 && key == before {
                    continue;
                }
                if v + 1 < variants.len() {
                    before.clone_from(&key);
                }
                let full = self.groups.len() >= self.options.groups;
                match self.groups.get_mut(key.as_slice()) {
                    Some(group) => group.add(&add),
                    None if full => self.beyond.add(&add),
                    None => drop(self.groups.insert(key.as_slice().into(), add)),
                }
            }
        }
        self.key = key;
    }

    /// Adds what another thread summed.
    pub fn merge(&mut self, other: Self) {
        self.total.add(&other.total);
        self.beyond.add(&other.beyond);
        self.totals += other.totals;
        self.rows += other.rows;
        self.unscaled += other.unscaled;
        for (key, row) in other.groups {
            let full = self.groups.len() >= self.options.groups;
            match self.groups.get_mut(&key) {
                Some(group) => group.add(&row),
                None if full => self.beyond.add(&row),
                None => drop(self.groups.insert(key, row)),
            }
        }
    }

    /// All rows, each once whatever its keys.
    pub fn total(&self) -> &Row {
        &self.total
    }

    /// Rows of groups beyond the limit; `None` where there are none.
    pub fn beyond(&self) -> Option<&Row> {
        (self.beyond.flows > 0).then_some(&self.beyond)
    }

    /// Records whose counters are running totals, and are not summed.
    pub fn totals(&self) -> u64 {
        self.totals
    }

    /// Of rows that are summed, how many there are, and how many have no sampling rate to be scaled by.
    pub fn unscaled(&self) -> (u64, u64) {
        (self.rows, self.unscaled)
    }

    /// Groups.
    pub fn len(&self) -> usize {
        self.groups.len()
    }

    /// Whether there is no group.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// The greatest `n` groups by a metric, each with the text of its keys, and the sum of the others.
    pub fn finish(&self, metric: Metric, n: usize) -> (Vec<(Vec<String>, Row)>, Option<Row>) {
        let (first, others) = self.ranked(metric, n);
        (first.into_iter().map(|(key, row)| (key::texts(key), *row)).collect(), others)
    }

    /// The keys of the greatest groups, as [`key`] has them.
    pub(super) fn greatest(&self, metric: Metric, n: usize) -> Vec<Box<[u8]>> {
        self.ranked(metric, n).0.into_iter().map(|(key, _)| key.into()).collect()
    }

    fn ranked(&self, metric: Metric, n: usize) -> (Vec<(&[u8], &Row)>, Option<Row>) {
        let mut all: Vec<(&[u8], &Row)> = self.groups.iter().map(|(key, row)| (&**key, row)).collect();
        let order = |a: &(&[u8], &Row), b: &(&[u8], &Row)| {
            b.1.metric(metric).total_cmp(&a.1.metric(metric)).then_with(|| a.0.cmp(b.0))
        };
        if all.len() > n && n > 0 {
            all.select_nth_unstable_by(n - 1, order);
        }
        let rest = all.split_off(n.min(all.len()));
        all.sort_by(order);
        let others = rest.iter().map(|g| *g.1).reduce(|mut a, b| {
            a.add(&b);
            a
        });
        (all, others)
    }
}
