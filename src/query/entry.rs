//! A group's sums as tables, runs and files of groups have them, and the rows that they are made of.

use super::sums::{Metric, Row};

/// A group, or a part of one: equal keys may stand in several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry<const W: usize, S = Narrow> {
    pub key: [u64; W],
    pub sums: S,
}

/// What is summed of a group.
pub(super) trait Sum: Copy + Send + Sync {
    /// Numbers that it is made of.
    const NUMBERS: usize;
    /// Of no row.
    const NONE: Self;
    /// Whether the greatest are read again, so that their keys have to be known as they are packed.
    const IS_READ_AGAIN: bool;

    /// That of a row.
    fn of(values: &Values<'_>, row: usize) -> Self;

    /// Adds other sums, unless one of them then needs more than 64 bits; whether it did.
    fn add(&mut self, other: &Self) -> bool;

    /// The same as a row; what it has no sum of is that of no row.
    fn row(&self) -> Row;

    /// Gives its numbers.
    fn numbers(&self, put: impl FnMut(i64));

    /// Of such numbers.
    fn of_numbers(next: impl FnMut() -> i64) -> Self;
}

/// Sums that 64 bits have room for: a third of the memory of a [`Row`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Narrow {
    pub bytes: i64,
    pub packets: i64,
    pub flows: i64,
    pub start: i64,
    pub end: i64,
}

/// The sum of one measure, which is all that groups are ranked by. It has the place of the bytes, whatever it is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lone(pub i64);

impl Narrow {
    /// With one sum, that of a metric that adds up.
    pub(super) fn of_measure(metric: Metric, sum: i64) -> Self {
        match metric {
            Metric::Packets | Metric::Pps => Self { packets: sum, ..Self::NONE },
            Metric::Flows => Self { flows: sum, ..Self::NONE },
            Metric::Bytes | Metric::Bps | Metric::Bpp => Self { bytes: sum, ..Self::NONE },
        }
    }
}

impl Sum for Narrow {
    const NUMBERS: usize = 5;
    const NONE: Self = Self { bytes: 0, packets: 0, flows: 0, start: i64::MAX, end: i64::MIN };
    const IS_READ_AGAIN: bool = false;

    #[inline]
    fn of(values: &Values<'_>, row: usize) -> Self {
        let at = |values: &[i64]| values.get(row).copied().unwrap_or(0);
        Self {
            bytes: at(values.bytes),
            packets: at(values.packets),
            flows: at(values.flows),
            start: at(values.start),
            end: at(values.end),
        }
    }

    #[inline]
    fn add(&mut self, other: &Self) -> bool {
        let (bytes, a) = self.bytes.overflowing_add(other.bytes);
        let (packets, b) = self.packets.overflowing_add(other.packets);
        let (flows, c) = self.flows.overflowing_add(other.flows);
        if a | b | c {
            return false;
        }
        let (start, end) = (self.start.min(other.start), self.end.max(other.end));
        *self = Self { bytes, packets, flows, start, end };
        true
    }

    fn row(&self) -> Row {
        let Self { bytes, packets, flows, start, end } = *self;
        Row { bytes: bytes.into(), packets: packets.into(), flows: flows.into(), start, end }
    }

    fn numbers(&self, put: impl FnMut(i64)) {
        [self.bytes, self.packets, self.flows, self.start, self.end].into_iter().for_each(put);
    }

    fn of_numbers(mut next: impl FnMut() -> i64) -> Self {
        let (bytes, packets, flows) = (next(), next(), next());
        Self { bytes, packets, flows, start: next(), end: next() }
    }
}

impl Sum for Lone {
    const NUMBERS: usize = 1;
    const NONE: Self = Self(0);
    const IS_READ_AGAIN: bool = true;

    #[inline]
    fn of(values: &Values<'_>, row: usize) -> Self {
        Self(values.bytes.get(row).copied().unwrap_or(0))
    }

    #[inline]
    fn add(&mut self, other: &Self) -> bool {
        let (sum, over) = self.0.overflowing_add(other.0);
        if !over {
            self.0 = sum;
        }
        !over
    }

    fn row(&self) -> Row {
        Row { bytes: self.0.into(), ..Row::NONE }
    }

    fn numbers(&self, mut put: impl FnMut(i64)) {
        put(self.0);
    }

    fn of_numbers(mut next: impl FnMut() -> i64) -> Self {
        Self(next())
    }
}

/// Rows of a batch.
#[derive(Clone, Debug)]
pub(super) enum Rows {
    /// So many from the first.
    All(usize),
    /// These.
    Some(Vec<u32>),
}

impl Rows {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::All(rows) => *rows,
            Self::Some(rows) => rows.len(),
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = usize> {
        let (all, some) = match self {
            Self::All(rows) => (0..*rows, &[][..]),
            Self::Some(rows) => (0..0, &**rows),
        };
        all.chain(some.iter().map(|row| *row as usize))
    }

    /// Those of them that a condition holds for, by their places among them.
    pub(super) fn retain(&mut self, holds: impl Fn(usize) -> bool) {
        match self {
            Self::All(rows) => *self = Self::Some((0..*rows).filter(|i| holds(*i)).map(|row| row as u32).collect()),
            Self::Some(rows) => {
                let mut i = 0;
                rows.retain(|_| {
                    i += 1;
                    holds(i - 1)
                });
            }
        }
    }
}

/// Columns of a batch that are summed, a value a row.
pub(super) struct Values<'a> {
    pub bytes: &'a [i64],
    pub packets: &'a [i64],
    pub flows: &'a [i64],
    pub start: &'a [i64],
    pub end: &'a [i64],
}

impl Values<'_> {
    /// Adds rows to one sum.
    pub(super) fn sum(&self, rows: &Rows, to: &mut Row) {
        for (values, sum) in [(self.bytes, &mut to.bytes), (self.packets, &mut to.packets), (self.flows, &mut to.flows)]
        {
            *sum += over(values, rows, 0, wide, |a, b| a + b);
        }
        to.start = over(self.start, rows, to.start, |v| best(v, i64::MAX, i64::min), i64::min);
        to.end = over(self.end, rows, to.end, |v| best(v, i64::MIN, i64::max), i64::max);
    }
}

/// What rows come to, some of them at a time, side by side; nothing of a column that is not summed.
fn over<T>(values: &[i64], rows: &Rows, from: T, of: impl Fn(&[i64]) -> T, join: impl Fn(T, T) -> T) -> T {
    match rows {
        _ if values.is_empty() => from,
        Rows::All(rows) => join(from, of(values.get(..*rows).unwrap_or(values))),
        Rows::Some(rows) => rows.chunks(256).fold(from, |sum, rows| {
            let mut side = [0; 256];
            side.iter_mut().zip(rows).for_each(|(to, row)| *to = values.get(*row as usize).copied().unwrap_or(0));
            join(sum, of(side.get(..rows.len()).unwrap_or(&[])))
        }),
    }
}

/// A sum of 128 bits by two of 64, each over one half of the bits: a batch has too few rows to fill them.
fn wide(values: &[i64]) -> i128 {
    // Without a sign, vectors of any machine can shift.
    let above = |n: &i64| n.cast_unsigned() ^ 1 << 63;
    let low: u64 = values.iter().map(|n| above(n) & 0xffff_ffff).sum();
    let high: u64 = values.iter().map(|n| above(n) >> 32).sum();
    (i128::from(high) << 32) + i128::from(low) - ((values.len() as i128) << 63)
}

/// The least or the greatest, several side by side.
fn best(values: &[i64], none: i64, pick: impl Fn(i64, i64) -> i64 + Copy) -> i64 {
    let (chunks, rest) = values.as_chunks::<8>();
    let mut side = [none; 8];
    for chunk in chunks {
        side.iter_mut().zip(chunk).for_each(|(best, n)| *best = pick(*best, *n));
    }
    side.iter().chain(rest).copied().fold(none, pick)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_of_all_rows_and_of_some() {
        let bytes: Vec<i64> = (0..1000).map(|i| if i % 7 == 0 { i64::MIN + i } else { i64::MAX - i }).collect();
        let times: Vec<i64> = (0..1000).map(|i| (i * 7919) % 1000 - 500).collect();
        let values = Values { bytes: &bytes, packets: &times, flows: &times, start: &times, end: &times };
        for rows in [Rows::All(1000), Rows::All(0), Rows::Some((0..1000).step_by(3).collect()), Rows::Some(vec![999])] {
            let mut expected = Row::NONE;
            rows.iter().for_each(|row| expected.add(&Narrow::of(&values, row).row()));
            let mut found = Row::NONE;
            values.sum(&rows, &mut found);
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn columns_that_are_not_summed_add_nothing() {
        for rows in [Rows::All(2), Rows::Some(vec![0, 1])] {
            let mut found = Row::NONE;
            let values = Values { bytes: &[3, 4], packets: &[], flows: &[], start: &[], end: &[] };
            values.sum(&rows, &mut found);
            assert_eq!(found, Row { bytes: 7, ..Row::NONE });
        }
    }

    #[test]
    fn what_needs_more_bits_is_not_added() {
        let mut sums = Narrow { bytes: i64::MAX - 1, ..Narrow::NONE };
        assert!(sums.add(&Narrow { bytes: 1, start: 5, end: 7, ..Narrow::NONE }));
        let before = sums;
        assert!(!sums.add(&Narrow { bytes: 1, flows: 1, ..Narrow::NONE }));
        assert_eq!((sums, sums.start, sums.end), (before, 5, 7));
    }
}
