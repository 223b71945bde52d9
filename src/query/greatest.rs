//! The greatest of many groups, without keeping the others.

use super::sums::{Metric, Row};
use std::cmp::Ordering;

/// The greatest `n` groups that were added, and the sum of all others.
pub(super) struct Greatest<K> {
    metric: Metric,
    n: usize,
    list: Vec<(f64, K, Row)>,
    // What is less cannot be among the greatest.
    floor: f64,
    others: Row,
    groups: usize,
}

impl<K> Greatest<K> {
    pub(super) fn new(metric: Metric, n: usize) -> Self {
        Self { metric, n, list: Vec::new(), floor: f64::NEG_INFINITY, others: Row::NONE, groups: 0 }
    }

    /// Nothing of the same metric and number, of other keys.
    pub(super) fn empty<L>(&self) -> Greatest<L> {
        Greatest::new(self.metric, self.n)
    }

    /// Groups that were added.
    pub(super) fn groups(&self) -> usize {
        self.groups
    }

    /// Adds a group; of equal ones the first by key is greater.
    pub(super) fn add(&mut self, key: K, row: &Row, order: impl Fn(&K, &K) -> Ordering) {
        self.groups += 1;
        let value = row.metric(self.metric);
        if value < self.floor {
            return self.others.add(row);
        }
        self.list.push((value, key, *row));
        if self.list.len() >= self.n.saturating_mul(2).max(64) {
            self.cut(order);
        }
    }

    /// Adds what another one found, with keys of its own kind.
    pub(super) fn merge<L>(&mut self, other: Greatest<L>, key: impl Fn(L) -> K, order: impl Fn(&K, &K) -> Ordering) {
        let groups = self.groups + other.groups;
        if other.groups > other.list.len() {
            self.others.add(&other.others);
        }
        for (_, other, row) in other.list {
            self.add(key(other), &row, &order);
        }
        self.groups = groups;
    }

    /// The groups, the greatest first, and the sum of the others where there are any.
    pub(super) fn finish(mut self, order: impl Fn(&K, &K) -> Ordering) -> (Vec<(K, Row)>, Option<Row>) {
        self.cut(&order);
        self.list.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| order(&a.1, &b.1)));
        let others = (self.groups > self.list.len()).then_some(self.others);
        (self.list.into_iter().map(|(_, key, row)| (key, row)).collect(), others)
    }

    fn cut(&mut self, order: impl Fn(&K, &K) -> Ordering) {
        if self.list.len() <= self.n {
            return;
        }
        if let Some(last) = self.n.checked_sub(1) {
            let by = |a: &(f64, K, Row), b: &(f64, K, Row)| b.0.total_cmp(&a.0).then_with(|| order(&a.1, &b.1));
            self.list.select_nth_unstable_by(last, by);
            self.floor = self.list.get(last).map_or(self.floor, |g| g.0);
        } else {
            self.floor = f64::INFINITY;
        }
        for (_, _, row) in self.list.drain(self.n..) {
            self.others.add(&row);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_greatest_first_and_the_rest_summed() {
        for n in [0, 1, 10, 99, 100, 1000, usize::MAX] {
            let mut all = Greatest::new(Metric::Bytes, n);
            for part in 0..4u64 {
                let mut some = all.empty::<u64>();
                for key in (part..1000).step_by(4) {
                    let bytes = (key * 7919 % 500).into();
                    some.add(key, &Row { bytes, flows: 1, ..Row::NONE }, u64::cmp);
                }
                all.merge(some, |key| key, u64::cmp);
            }
            let mut expected: Vec<u64> = (0..1000).collect();
            expected.sort_by_key(|key| (std::cmp::Reverse(key * 7919 % 500), *key));
            let sum = |keys: &[u64]| keys.iter().map(|key| i128::from(key * 7919 % 500)).sum::<i128>();
            let (first, rest) = expected.split_at(n.min(1000));
            assert_eq!(all.groups(), 1000);
            let (found, others) = all.finish(u64::cmp);
            assert_eq!(found.iter().map(|(key, _)| *key).collect::<Vec<_>>(), first, "{n}");
            assert_eq!(others.map(|o| (o.bytes, o.flows)), (n < 1000).then(|| (sum(rest), rest.len() as i128)));
        }
    }
}
