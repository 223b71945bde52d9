//! A hash table from keys of whole words to sums, built for a batch of rows at a time.

use super::sums::Row;
use foldhash::SharedSeed;
use foldhash::fast::SeedableRandomState;
use std::hash::{BuildHasher, Hasher};

/// Sums by key. Equal keys have equal hashes in all tables of a process, so tables can be merged by ranges of hashes.
pub(super) struct Groups<const W: usize> {
    // INVARIANT: a power of two, and at least one is free.
    slots: Vec<Slot<W>>,
    // Of a hash, so many bits less are the place in `slots`: neighbours there are neighbours by hash.
    shift: u32,
    // The first bits of hashes, which are the same for all keys.
    common: u32,
    rows: Vec<Line>,
    hasher: SeedableRandomState,
    places: Vec<u32>,
}

#[derive(Clone, Copy)]
struct Slot<const W: usize> {
    key: [u64; W],
    // The place in `rows` and 1; 0 is free.
    place: u32,
}

/// A row in a cache line of its own.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Line(Row);

const FIRST_BITS: u32 = 10;

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
    pub(super) fn sum(&self, rows: &[u32], to: &mut Row) {
        for (values, sum) in [(self.bytes, &mut to.bytes), (self.packets, &mut to.packets), (self.flows, &mut to.flows)]
        {
            *sum += each(values, rows).map(i128::from).sum::<i128>();
        }
        to.start = each(self.start, rows).fold(to.start, i64::min);
        to.end = each(self.end, rows).fold(to.end, i64::max);
    }
}

fn each<'a>(values: &'a [i64], rows: &'a [u32]) -> impl Iterator<Item = i64> + 'a {
    rows.iter().map(|&row| values.get(row as usize).copied().unwrap_or(0))
}

impl<const W: usize> Groups<W> {
    pub(super) fn new() -> Self {
        Self::of_part(0)
    }

    /// For keys whose hashes begin with the same bits, so many of them.
    pub(super) fn of_part(common: u32) -> Self {
        Self {
            common,
            slots: vec![Slot { key: [0; W], place: 0 }; 1 << FIRST_BITS],
            shift: u64::BITS - FIRST_BITS,
            rows: Vec::new(),
            hasher: SeedableRandomState::with_seed(0, SharedSeed::global_random()),
            places: Vec::new(),
        }
    }

    /// No groups, in the same memory.
    pub(super) fn clear(&mut self) {
        self.slots.fill(Slot { key: [0; W], place: 0 });
        self.rows.clear();
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Adds row `rows[i]` of the values to the group of `keys[i]`.
    pub(super) fn add(&mut self, keys: &[[u64; W]], rows: &[u32], values: &Values<'_>) {
        let mut places = std::mem::take(&mut self.places);
        places.clear();
        // Two loops: the look-ups of one do not wait for the sums of the other.
        places.extend(keys.iter().map(|key| self.place(key)));
        let at = |values: &[i64], row: usize| values.get(row).copied().unwrap_or(0);
        for (&place, &row) in places.iter().zip(rows) {
            let row = row as usize;
            let Some(Line(group)) = self.rows.get_mut(place as usize) else { continue };
            group.bytes += i128::from(at(values.bytes, row));
            group.packets += i128::from(at(values.packets, row));
            group.flows += i128::from(at(values.flows, row));
            group.start = group.start.min(at(values.start, row));
            group.end = group.end.max(at(values.end, row));
        }
        self.places = places;
    }

    /// Adds sums to a group.
    pub(super) fn add_row(&mut self, key: &[u64; W], row: &Row) {
        let place = self.place(key);
        if let Some(Line(group)) = self.rows.get_mut(place as usize) {
            group.add(row);
        }
    }

    /// All groups, by hash but for those that collide.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u64; W], &Row)> {
        self.slots.iter().filter_map(|slot| self.group(slot))
    }

    /// The groups whose hashes begin with the bits of `part`, of which there are `1 << bits`.
    pub(super) fn part(&self, part: usize, bits: u32) -> impl Iterator<Item = (&[u64; W], &Row)> {
        let of = move |hash: u64| hash.checked_shr(u64::BITS - bits).unwrap_or(0) as usize;
        let all = self.slots.len();
        let (first, last) = if bits <= u64::BITS - self.shift {
            (part * (all >> bits), (part + 1) * (all >> bits))
        } else {
            // Fewer slots than parts: those of many parts are side by side.
            let bits = bits - (u64::BITS - self.shift);
            (part >> bits, (part >> bits) + 1)
        };
        // What collided stands behind, up to a slot that is free.
        let own = first..first + all;
        own.map(move |at| (at, &self.slots[at & (all - 1)]))
            .take_while(move |(at, slot)| *at < last || slot.place != 0)
            .filter_map(|(_, slot)| self.group(slot))
            .filter(move |(key, _)| of(self.hash(key)) == part)
    }

    fn group<'a>(&'a self, slot: &'a Slot<W>) -> Option<(&'a [u64; W], &'a Row)> {
        let place = slot.place.checked_sub(1)?;
        self.rows.get(place as usize).map(|line| (&slot.key, &line.0))
    }

    #[inline]
    pub(super) fn hash(&self, key: &[u64; W]) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        for word in key {
            hasher.write_u64(*word);
        }
        hasher.finish()
    }

    #[inline]
    fn home(&self, key: &[u64; W]) -> usize {
        ((self.hash(key) << self.common) >> self.shift) as usize
    }

    /// The place of a key's sums, which are made where they are not there.
    #[inline]
    fn place(&mut self, key: &[u64; W]) -> u32 {
        let mask = self.slots.len() - 1;
        let mut at = self.home(key);
        loop {
            let slot = &self.slots[at & mask];
            if slot.place == 0 {
                return self.insert(at & mask, key);
            }
            if slot.key == *key {
                return slot.place - 1;
            }
            at += 1;
        }
    }

    #[cold]
    fn insert(&mut self, at: usize, key: &[u64; W]) -> u32 {
        let place = self.rows.len() as u32;
        self.rows.push(Line(Row::NONE));
        if let Some(slot) = self.slots.get_mut(at) {
            *slot = Slot { key: *key, place: place + 1 };
        }
        if self.rows.len() > self.slots.len() / 2 {
            self.grow();
        }
        place
    }

    fn grow(&mut self) {
        let slots = vec![Slot { key: [0; W], place: 0 }; self.slots.len() * 2];
        let old = std::mem::replace(&mut self.slots, slots);
        self.shift -= 1;
        let mask = self.slots.len() - 1;
        for slot in old.into_iter().filter(|slot| slot.place != 0) {
            let mut at = self.home(&slot.key);
            while self.slots[at & mask].place != 0 {
                at += 1;
            }
            self.slots[at & mask] = slot;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn parts_are_all_groups_once() {
        for n in [0u64, 1, 5, 511, 513, 20_000] {
            let mut groups = Groups::<2>::new();
            for key in 0..n {
                groups.add_row(&[key, key << 7], &Row { bytes: key.into(), flows: 1, ..Row::NONE });
                groups.add_row(&[key, key << 7], &Row { bytes: 1, flows: 1, ..Row::NONE });
            }
            assert_eq!(groups.len() as u64, n);
            for bits in [0, 3, 6, 12] {
                let mut found = BTreeMap::new();
                for part in 0..1 << bits {
                    for (key, row) in groups.part(part, bits) {
                        assert_eq!((row.bytes, row.flows), (i128::from(key[0]) + 1, 2));
                        assert!(found.insert(*key, ()).is_none(), "in two parts");
                    }
                }
                assert_eq!(found.len() as u64, n, "{bits} bits");
                assert!(groups.iter().all(|(key, _)| found.contains_key(key)));
            }
        }
    }
}
