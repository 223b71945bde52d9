//! A hash table from keys of whole words to sums, built for a batch of rows at a time.

use super::entry::{Entry, Narrow, Sum};
use super::sums::Row;
use foldhash::SharedSeed;
use foldhash::fast::SeedableRandomState;
use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher};
use std::hint::select_unpredictable;

/// Sums by key. Equal keys have equal hashes in all tables of a process, so tables can be merged by ranges of hashes.
pub(super) struct Groups<const W: usize, S = Narrow> {
    // INVARIANT: a power of two, and at least one is free. Neighbours are neighbours by hash.
    slots: Vec<Slot>,
    // The first bits of hashes, which are the same for all keys.
    common: u32,
    // The first is none: what is at place 0 can be compared with, and is never found.
    entries: Vec<Entry<W, S>>,
    // Parts of groups whose sums need more than 64 bits.
    over: Vec<Entry<W, S>>,
    hasher: SeedableRandomState,
}

/// Where an entry is, and the bits of its key's hash that tell where its slot is in a table of any size.
#[derive(Clone, Copy, Default)]
struct Slot {
    tag: u32,
    // 0 is free.
    place: u32,
}

/// The place of a key that is known not to be there.
const ABSENT: u32 = u32::MAX;
const FIRST_BITS: u32 = 10;
/// Keys that are looked up together.
const SIDE: usize = 512;

impl<const W: usize, S: Sum> Groups<W, S> {
    pub(super) fn new() -> Self {
        Self::of_part(0)
    }

    /// For keys whose hashes begin with the same bits, so many of them.
    pub(super) fn of_part(common: u32) -> Self {
        Self {
            common,
            slots: vec![Slot::default(); 1 << FIRST_BITS],
            entries: vec![Entry { key: [0; W], sums: S::NONE }],
            over: Vec::new(),
            hasher: SeedableRandomState::with_seed(0, SharedSeed::global_random()),
        }
    }

    /// No groups, in the same memory.
    pub(super) fn clear(&mut self) {
        self.slots.fill(Slot::default());
        self.entries.truncate(1);
        self.over.clear();
    }

    /// Entries; groups, but for those that need several.
    pub(super) fn len(&self) -> usize {
        self.entries.len() - 1 + self.over.len()
    }

    /// Adds `sums(i)` to the group of `keys[i]`, for every key. Groups are made while there are fewer than `room`; what has none
    /// then goes to `beyond`, with its hash.
    pub(super) fn add(
        &mut self,
        keys: &[[u64; W]],
        sums: impl Fn(usize) -> S,
        room: usize,
        mut beyond: impl FnMut(u64, Entry<W, S>),
    ) {
        let (mut hashes, mut places, mut differ) = ([0; SIDE], [0; SIDE], [0; SIDE]);
        for (chunk, keys) in keys.chunks(SIDE).enumerate() {
            for (hash, key) in hashes.iter_mut().zip(keys) {
                *hash = self.hash(key);
            }
            // Loops without a branch in them: the machine waits for the memory of many slots, and then of many entries, at once.
            let (mask, shift) = (self.slots.len() - 1, self.shift());
            // Where there is room, a key before this one may be the same and be made.
            let absent = if self.entries.len() > room { ABSENT } else { 0 };
            for (place, hash) in places.iter_mut().zip(&hashes).take(keys.len()) {
                let tag = self.tag(*hash);
                let at = (tag >> shift) as usize;
                let [first, second] = [self.slots[at & mask], self.slots[(at + 1) & mask]];
                let take = |slot: Slot| select_unpredictable(slot.tag == tag, slot.place, 0);
                let found = take(first) | take(second);
                // A free slot says that the key is nowhere.
                let is_absent = found == 0 && first.place.min(second.place) == 0;
                *place = select_unpredictable(is_absent, absent, found);
            }
            let last = self.entries.len() - 1;
            for ((differ, place), key) in differ.iter_mut().zip(&places).zip(keys) {
                let entry = &self.entries[(*place as usize).min(last)];
                *differ = entry.key.iter().zip(key).fold(u64::from(*place == 0), |all, (a, b)| all | (a ^ b));
            }
            for (i, (key, hash)) in keys.iter().zip(&hashes).enumerate() {
                let sums = sums(chunk * SIDE + i);
                let place = match places[i] {
                    ABSENT => 0,
                    place if differ[i] == 0 => place,
                    _ => self.place(key, *hash, room),
                };
                if place == 0 {
                    beyond(*hash, Entry { key: *key, sums });
                } else {
                    self.add_at(place, &sums);
                }
            }
        }
    }

    /// Adds sums to a group.
    pub(super) fn add_entry(&mut self, entry: &Entry<W, S>) {
        let place = self.place(&entry.key, self.hash(&entry.key), usize::MAX);
        self.add_at(place, &entry.sums);
    }

    #[inline]
    fn add_at(&mut self, place: u32, sums: &S) {
        let Some(entry) = self.entries.get_mut(place as usize) else { return };
        if !entry.sums.add(sums) {
            self.over.push(*entry);
            entry.sums = *sums;
        }
    }

    /// All entries.
    pub(super) fn entries(&self) -> impl Iterator<Item = &Entry<W, S>> {
        self.entries.iter().skip(1).chain(&self.over)
    }

    /// The entries of keys whose hashes begin with the bits of `part`, of which there are `1 << bits`.
    pub(super) fn part(&self, part: usize, bits: u32) -> impl Iterator<Item = &Entry<W, S>> {
        let of = move |hash: u64| hash.checked_shr(u64::BITS - bits).unwrap_or(0) as usize;
        let (all, of_slot) = (self.slots.len(), self.slots.len().ilog2());
        let (first, last) = if bits <= of_slot {
            (part * (all >> bits), (part + 1) * (all >> bits))
        } else {
            // Fewer slots than parts: those of many parts are side by side.
            let bits = bits - of_slot;
            (part >> bits, (part >> bits) + 1)
        };
        // What collided stands behind, up to a slot that is free.
        let own = (first..first + all)
            .map(move |at| (at, &self.slots[at & (all - 1)]))
            .take_while(move |(at, slot)| *at < last || slot.place != 0)
            .filter(|(_, slot)| slot.place != 0)
            .filter_map(|(_, slot)| self.entries.get(slot.place as usize));
        own.chain(&self.over).filter(move |entry| of(self.hash(&entry.key)) == part)
    }

    /// Every group once, with all of its sums.
    pub(super) fn each(&self, mut put: impl FnMut(&[u64; W], &Row)) {
        let mut over: HashMap<&[u64; W], Row> = HashMap::new();
        for entry in &self.over {
            over.entry(&entry.key).or_insert(Row::NONE).add(&entry.sums.row());
        }
        for entry in self.entries.iter().skip(1) {
            let mut row = entry.sums.row();
            if let Some(more) = over.get(&entry.key).filter(|_| !over.is_empty()) {
                row.add(more);
            }
            put(&entry.key, &row);
        }
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
    fn tag(&self, hash: u64) -> u32 {
        ((hash << self.common) >> u32::BITS) as u32
    }

    /// Of a tag, so many bits less are the place of its slot.
    fn shift(&self) -> u32 {
        u32::BITS - self.slots.len().ilog2()
    }

    /// The place of a key's entry, which is made where it is not there and there are fewer than `room`; 0 where there is none.
    #[inline]
    fn place(&mut self, key: &[u64; W], hash: u64, room: usize) -> u32 {
        let (mask, tag) = (self.slots.len() - 1, self.tag(hash));
        let mut at = (tag >> self.shift()) as usize;
        loop {
            let slot = self.slots[at & mask];
            if slot.place == 0 {
                return if self.entries.len() <= room { self.insert(at & mask, key, tag) } else { 0 };
            }
            if slot.tag == tag && self.entries.get(slot.place as usize).is_some_and(|e| e.key == *key) {
                return slot.place;
            }
            at += 1;
        }
    }

    fn insert(&mut self, at: usize, key: &[u64; W], tag: u32) -> u32 {
        let place = self.entries.len() as u32;
        self.entries.push(Entry { key: *key, sums: S::NONE });
        if let Some(slot) = self.slots.get_mut(at) {
            *slot = Slot { tag, place };
        }
        if self.entries.len() > self.slots.len() / 3 * 2 {
            self.grow();
        }
        place
    }

    fn grow(&mut self) {
        let slots = vec![Slot::default(); self.slots.len() * 2];
        let old = std::mem::replace(&mut self.slots, slots);
        let (mask, shift) = (self.slots.len() - 1, self.shift());
        for slot in old.into_iter().filter(|slot| slot.place != 0) {
            let mut at = (slot.tag >> shift) as usize;
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

    fn entry(key: u64, bytes: i64) -> Entry<2> {
        Entry { key: [key, key << 7], sums: Narrow { bytes, flows: 1, ..Narrow::NONE } }
    }

    #[test]
    fn parts_are_all_groups_once() {
        for n in [0u64, 1, 5, 511, 513, 20_000] {
            let mut groups = Groups::<2>::new();
            for key in 0..n {
                groups.add_entry(&entry(key, key as i64));
                groups.add_entry(&entry(key, 1));
            }
            assert_eq!(groups.len() as u64, n);
            for bits in [0, 3, 6, 12] {
                let mut found = BTreeMap::new();
                for part in 0..1 << bits {
                    for entry in groups.part(part, bits) {
                        assert_eq!((entry.sums.bytes, entry.sums.flows), (entry.key[0] as i64 + 1, 2));
                        assert!(found.insert(entry.key, ()).is_none(), "in two parts");
                    }
                }
                assert_eq!(found.len() as u64, n, "{bits} bits");
                assert!(groups.entries().all(|e| found.contains_key(&e.key)));
            }
        }
    }

    #[test]
    fn what_there_is_no_room_for_is_handed_back() {
        let keys: Vec<[u64; 1]> = (0..30_000u64).map(|i| [i * 31 % 5000]).collect();
        for room in [0, 1, 700, 4999, 5000, 9000] {
            let mut groups = Groups::<1>::new();
            let mut handed = Groups::<1>::new();
            let sums = |i: usize| Narrow { bytes: i as i64, flows: 1, ..Narrow::NONE };
            groups.add(&keys, sums, room, |hash, entry| {
                assert_eq!(hash, handed.hash(&entry.key));
                handed.add_entry(&entry);
            });
            assert_eq!(groups.len(), room.min(5000));
            assert_eq!(handed.len(), 5000 - groups.len());
            let mut all = BTreeMap::new();
            let mut put = |key: &[u64; 1], row: &Row| assert!(all.insert(key[0], row.bytes).is_none());
            groups.each(&mut put);
            handed.each(&mut put);
            let mut expected = BTreeMap::new();
            keys.iter().enumerate().for_each(|(i, key)| *expected.entry(key[0]).or_insert(0) += i as i128);
            assert_eq!(all, expected, "{room}");
        }
    }

    #[test]
    fn sums_beyond_64_bits() {
        let mut groups = Groups::<2>::new();
        for _ in 0..5 {
            groups.add_entry(&entry(7, i64::MAX));
            groups.add_entry(&entry(8, 1));
        }
        let mut found = BTreeMap::new();
        groups.each(|key, row| assert!(found.insert(key[0], (row.bytes, row.flows)).is_none()));
        assert_eq!(found, BTreeMap::from([(7, (5 * i128::from(i64::MAX), 5)), (8, (5, 5))]));
        let parts: i128 = (0..16).flat_map(|p| groups.part(p, 4)).map(|e| i128::from(e.sums.bytes)).sum();
        assert_eq!(parts, 5 * i128::from(i64::MAX) + 5);
    }
}
