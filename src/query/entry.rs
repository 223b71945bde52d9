//! A group's sums as tables, runs and files of groups have them, and the rows that they are made of.

use super::sums::Row;

/// A group, or a part of one: equal keys may stand in several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry<const W: usize> {
    pub key: [u64; W],
    pub sums: Narrow,
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

impl Narrow {
    pub(super) const NONE: Self = Self { bytes: 0, packets: 0, flows: 0, start: i64::MAX, end: i64::MIN };

    /// Adds other sums, unless one of them then needs more than 64 bits; whether it did.
    #[inline]
    pub(super) fn add(&mut self, other: &Self) -> bool {
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
}

impl From<&Narrow> for Row {
    fn from(sums: &Narrow) -> Self {
        let Narrow { bytes, packets, flows, start, end } = *sums;
        Self { bytes: bytes.into(), packets: packets.into(), flows: flows.into(), start, end }
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
    #[inline]
    pub(super) fn of(&self, row: usize) -> Narrow {
        let at = |values: &[i64]| values.get(row).copied().unwrap_or(0);
        Narrow {
            bytes: at(self.bytes),
            packets: at(self.packets),
            flows: at(self.flows),
            start: at(self.start),
            end: at(self.end),
        }
    }

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

/// What rows come to, some of them at a time, side by side.
fn over<T>(values: &[i64], rows: &Rows, from: T, of: impl Fn(&[i64]) -> T, join: impl Fn(T, T) -> T) -> T {
    match rows {
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
            rows.iter().for_each(|row| expected.add(&Row::from(&values.of(row))));
            let mut found = Row::NONE;
            values.sum(&rows, &mut found);
            assert_eq!(found, expected);
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
