//! Groups of one thread, however many: a table, runs by parts of the hashes, and a file.
//!
//! A few groups have most flows, and come first. The table has room for them and stays in the cache, which a table of all groups
//! would miss with every row. What it has no room for is written down as it comes, to the run of its part of the keys'
//! hashes. The runs of one part are merged at the end, in a table that fits the cache again; runs in which the same groups come
//! again and again are merged before. What memory has no room for goes to a file, run by run.

use super::entry::{Entry, Narrow, Rows, Sum, Values};
use super::greatest::Greatest;
use super::groups::Groups;
use super::pack::{Layout, Texts};
use super::spill::Spill;
use super::sums::Row;
use super::threads::on_threads;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Parts of the hashes, as a power of two: each part's groups are merged by themselves.
const BITS: u32 = 8;
/// Rows after which it is seen whether the table is of use.
const LOOK: usize = 1 << 20;
/// Entries in runs for which it is worth to see whether they are of the same groups.
const MERGE: usize = 1 << 22;
/// Fewer groups than this are not worth a thread.
const FEW: usize = 20_000;
/// Entries of a run that are in one piece of memory.
const BLOCK: usize = 1 << 10;

/// Groups whose keys are so many words.
pub(super) struct Store<const W: usize, S = Narrow> {
    table: Groups<W, S>,
    // Rows since the last look, and those that the table had no room for.
    seen: usize,
    beyond: usize,
    // INVARIANT: none at all, or one of each part.
    runs: Vec<Run<W, S>>,
    in_runs: usize,
    // Entries in runs that are too many to leave them unmerged.
    many: usize,
    file: Option<Spill>,
    // Of the keys of the table; none until it is needed, and again when there may be another key.
    sieve: Option<Box<[u8; SIEVE]>>,
}

/// Entries in blocks, which stay where they are.
type Run<const W: usize, S> = Vec<Vec<Entry<W, S>>>;

impl<const W: usize, S: Sum> Store<W, S> {
    /// Groups of the table: with their slots 4 MB, or of ranks an eighth of it, which the nearer cache holds. What comes less
    /// often is better off in runs then.
    const ROOM: usize = if S::NUMBERS == 1 { 1 << 14 } else { 1 << 16 };

    pub(super) fn new() -> Self {
        Self {
            table: Groups::new(),
            seen: 0,
            beyond: 0,
            runs: Vec::new(),
            in_runs: 0,
            many: MERGE,
            file: None,
            sieve: None,
        }
    }

    /// Entries in memory; some may be of the same group.
    pub(super) fn in_memory(&self) -> usize {
        self.table.len() + self.in_runs
    }

    pub(super) fn is_spilled(&self) -> bool {
        self.file.is_some()
    }

    /// Adds the values of each row to the group of its key.
    pub(super) fn add(&mut self, keys: &[[u64; W]], rows: &Rows, values: &Values<'_>) {
        self.runs.resize_with(1 << BITS, Vec::new);
        self.sieve = None;
        let before = self.in_runs;
        let (runs, in_runs) = (&mut self.runs, &mut self.in_runs);
        let beyond = |hash, entry| {
            *in_runs += 1;
            put(runs, hash, entry);
        };
        match rows {
            Rows::All(_) => self.table.add(keys, |i| S::of(values, i), Self::ROOM, beyond),
            Rows::Some(rows) => {
                let row = |i| rows.get(i).map_or(usize::MAX, |row| *row as usize);
                self.table.add(keys, |i| S::of(values, row(i)), Self::ROOM, beyond);
            }
        }
        self.seen += keys.len();
        self.beyond += self.in_runs - before;
        if self.seen >= LOOK {
            if self.seen - self.beyond < self.seen / 8 {
                // Other groups come now.
                self.flush();
            }
            (self.seen, self.beyond) = (0, 0);
        }
        if self.in_runs >= self.many {
            self.merge_runs();
        }
    }

    /// Makes an entry a group of what is in runs, if that saves memory.
    fn merge_runs(&mut self) {
        let mut groups = Groups::of_part(BITS);
        for run in &mut self.runs {
            groups.clear();
            run.iter().flatten().for_each(|entry| groups.add_entry(entry));
            let before: usize = run.iter().map(Vec::len).sum();
            // The first of them tells of all.
            if groups.len() > before / 2 {
                break;
            }
            self.in_runs -= before - groups.len();
            *run = vec![groups.entries().copied().collect()];
        }
        self.many = MERGE.max(2 * self.in_runs);
    }

    /// Adds the sums of a group.
    pub(super) fn add_entry(&mut self, entry: &Entry<W, S>) {
        self.table.add_entry(entry);
        self.sieve = None;
        if self.table.len() >= Self::ROOM {
            self.flush();
        }
    }

    /// From the table to the runs.
    fn flush(&mut self) {
        self.runs.resize_with(1 << BITS, Vec::new);
        for entry in self.table.entries() {
            put(&mut self.runs, self.table.hash(&entry.key), *entry);
        }
        self.in_runs += self.table.len();
        self.table.clear();
    }

    /// From memory to a file in a folder. Where that fails, what could not be written is still in memory.
    pub(super) fn spill(&mut self, folder: &Path) -> io::Result<()> {
        self.flush();
        if self.file.is_none() {
            self.file = Some(Spill::create(folder)?);
        }
        if let Some(file) = &mut self.file {
            file.write(self.runs.iter().map(|run| run.iter().flatten()))?;
        }
        self.runs.clear();
        self.in_runs = 0;
        Ok(())
    }

    /// Forgets what is in memory.
    pub(super) fn clear(&mut self) {
        self.table.clear();
        self.runs.clear();
        self.in_runs = 0;
    }

    /// The entries in memory.
    pub(super) fn entries(&self) -> impl Iterator<Item = &Entry<W, S>> {
        self.table.entries().chain(self.runs.iter().flatten().flatten())
    }

    /// All entries of a part, in memory and in the file.
    fn part(&self, part: usize, put: &mut dyn FnMut(&Entry<W, S>)) -> io::Result<()> {
        self.table.part(part, BITS).for_each(&mut *put);
        self.runs.get(part).into_iter().flatten().flatten().for_each(&mut *put);
        self.file.as_ref().map_or(Ok(()), |file| file.read(part, put))
    }

    /// The same for all parts.
    pub(super) fn all(&self, put: &mut dyn FnMut(&Entry<W, S>)) -> io::Result<()> {
        (0..1 << BITS).try_for_each(|part| self.part(part, put))
    }

    /// The greatest groups of the stores of several threads, which may share keys.
    pub(super) fn greatest<K: Ord + Sync>(
        stores: &[&Self],
        layout: &Layout,
        texts: &Texts,
        all: &mut Greatest<K>,
        named: impl Fn(Box<[u8]>, &[u64]) -> K,
    ) -> io::Result<()> {
        let order = |a: &[u64; W], b: &[u64; W]| layout.order(a, b, texts);
        let in_tables = stores.iter().all(|s| s.in_runs == 0 && s.file.is_none());
        let few = in_tables && stores.iter().map(|s| s.table.len()).sum::<usize>() < FEW;
        let next = AtomicUsize::new(0);
        let work = || -> io::Result<Greatest<[u64; W]>> {
            let mut found = all.empty();
            let mut add = |groups: &Groups<W, S>| groups.each(|key, row| found.add(*key, row, order));
            if let ([one], true) = (stores, in_tables) {
                add(&one.table);
                return Ok(found);
            }
            let mut groups = Groups::of_part(if few { 0 } else { BITS });
            if few {
                stores.iter().flat_map(|s| s.entries()).for_each(|entry| groups.add_entry(entry));
                add(&groups);
                return Ok(found);
            }
            loop {
                let part = next.fetch_add(1, Relaxed);
                if part >= 1 << BITS {
                    return Ok(found);
                }
                groups.clear();
                for store in stores {
                    store.part(part, &mut |entry| groups.add_entry(entry))?;
                }
                add(&groups);
            }
        };
        let threads = if few { 1 } else { stores.len() };
        for part in on_threads(threads, work) {
            let key = |key: [u64; W]| {
                let mut bytes = Vec::new();
                layout.bytes(&key, texts, &mut bytes);
                named(bytes.into_boxed_slice(), &key)
            };
            all.merge(part?, key, |a, b| a.cmp(b));
        }
        Ok(())
    }
}

impl<const W: usize> Store<W> {
    /// Adds rows whose group is there; of the others, the first start and the last end.
    pub(super) fn add_known(&mut self, keys: &[[u64; W]], rows: &Rows, values: &Values<'_>, times: &mut Row) {
        let sieve = self.sieve.get_or_insert_with(|| {
            let mut sieve = Box::new([0; SIEVE]);
            self.table.entries().for_each(|entry| sieve[place_in_sieve(&entry.key)] = 1);
            sieve
        });
        let mut row_of: Vec<u32> = Vec::with_capacity(keys.len());
        let mut known: Vec<[u64; W]> = Vec::with_capacity(keys.len());
        let (mut places, mut may_be) = ([0u16; SIDE], [0u8; SIDE]);
        let mut done = 0;
        for keys in keys.chunks(SIDE) {
            // Few rows are of a group that is there: the places of those come first, by a loop without a branch.
            let mut count = 0;
            for (at, key) in keys.iter().enumerate() {
                let hit = sieve[place_in_sieve(key)];
                may_be[at] = hit;
                places[count] = at as u16;
                count += usize::from(hit);
            }
            let row = |at: usize| match rows {
                Rows::All(_) => done + at,
                Rows::Some(rows) => rows.get(done + at).map_or(usize::MAX, |row| *row as usize),
            };
            for at in places.iter().take(count).map(|at| usize::from(*at)) {
                row_of.push(row(at) as u32);
                known.push(keys[at]);
            }
            let hits = may_be.iter().zip(0..keys.len());
            match rows {
                Rows::All(_) => {
                    let start = values.start.get(done..).unwrap_or(&[]).iter().copied();
                    times.start = others(times.start, i64::MAX, hits.clone().zip(start), i64::min);
                    let end = values.end.get(done..).unwrap_or(&[]).iter().copied();
                    times.end = others(times.end, i64::MIN, hits.zip(end), i64::max);
                }
                Rows::Some(_) => {
                    let of = |all: &[i64], at| all.get(row(at)).copied();
                    let at = |(hit, at), all, none| ((hit, at), of(all, at).unwrap_or(none));
                    let start = hits.clone().map(|hit| at(hit, values.start, i64::MAX));
                    times.start = others(times.start, i64::MAX, start, i64::min);
                    let end = hits.map(|hit| at(hit, values.end, i64::MIN));
                    times.end = others(times.end, i64::MIN, end, i64::max);
                }
            }
            done += keys.len();
        }
        let of = |i: usize| Narrow::of(values, row_of.get(i).map_or(usize::MAX, |row| *row as usize));
        self.table.add(&known, of, 0, |_, entry| {
            times.start = times.start.min(entry.sums.start);
            times.end = times.end.max(entry.sums.end);
        });
    }
}

/// Places that tell of most keys that they are none of a few.
const SIEVE: usize = 1 << 13;
/// Keys that are looked at together.
const SIDE: usize = 512;

fn place_in_sieve<const W: usize>(key: &[u64; W]) -> usize {
    let mixed = key.iter().fold(0u64, |all, word| (all ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(31));
    mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15) as usize >> (usize::BITS - SIEVE.ilog2())
}

/// The least or greatest of rows that the sieve has held back.
fn others<'a>(
    from: i64,
    none: i64,
    rows: impl Iterator<Item = ((&'a u8, usize), i64)>,
    pick: impl Fn(i64, i64) -> i64,
) -> i64 {
    rows.fold(from, |best, ((hit, _), value)| pick(best, if *hit == 0 { value } else { none }))
}

/// Appends an entry to the run of its part.
#[inline]
fn put<const W: usize, S>(runs: &mut [Run<W, S>], hash: u64, entry: Entry<W, S>) {
    let Some(run) = runs.get_mut((hash >> (u64::BITS - BITS)) as usize) else { return };
    match run.last_mut() {
        Some(block) if block.len() < BLOCK => block.push(entry),
        _ => {
            // Small at first: most keys have few groups.
            let mut block = Vec::with_capacity(if run.is_empty() { BLOCK / 64 } else { BLOCK });
            block.push(entry);
            run.push(block);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// Sums by key, of keys in some order, through a store and its runs; all bytes are 1.
    fn through(keys: impl Iterator<Item = u64>) -> (Store<1>, BTreeMap<u64, i64>) {
        let (mut store, mut expected) = (Store::new(), BTreeMap::new());
        let keys: Vec<[u64; 1]> = keys.map(|key| [key]).collect();
        let ones = vec![1; 8192];
        let values = Values { bytes: &ones, packets: &ones, flows: &ones, start: &ones, end: &ones };
        for keys in keys.chunks(8192) {
            store.add(keys, &Rows::All(keys.len()), &values);
            keys.iter().for_each(|key| *expected.entry(key[0]).or_insert(0) += 1);
        }
        (store, expected)
    }

    fn sums(store: &Store<1>) -> BTreeMap<u64, i64> {
        let mut found = BTreeMap::new();
        store.all(&mut |entry| *found.entry(entry.key[0]).or_insert(0) += entry.sums.bytes).expect("no file");
        found
    }

    #[test]
    fn a_table_of_groups_that_come_no_more_is_emptied() {
        let once = LOOK as u64 * 2;
        let (store, expected) = through((0..once).chain((0..once * 2).map(|i| once + i % 1000)));
        assert_eq!(sums(&store), expected);
        assert!(store.table.entries().any(|e| e.key[0] == once + 1 && e.sums.bytes > 100));
        assert!(store.in_runs < expected.len() + LOOK + 2 * Store::<1>::ROOM, "{} in runs", store.in_runs);
    }

    #[test]
    fn a_group_that_comes_late_is_known() {
        let mut store = Store::<1>::new();
        let ones = vec![1; 4];
        let values = Values { bytes: &ones, packets: &ones, flows: &ones, start: &ones, end: &ones };
        for key in [7, 8] {
            store.add_entry(&Entry { key: [key], sums: Narrow::NONE });
            store.add_known(&[[7], [8], [9], [8]], &Rows::All(4), &values, &mut { Row::NONE });
        }
        assert_eq!(sums(&store), BTreeMap::from([(7, 2), (8, 2)]));
    }

    #[test]
    fn runs_of_the_same_groups_are_merged_and_others_are_left() {
        let n = MERGE as u64 * 3 / 2;
        let (store, expected) = through((0..n).map(|i| i % (3 * Store::<1>::ROOM as u64)));
        assert_eq!(sums(&store), expected);
        assert!(store.in_runs < MERGE, "{} in runs", store.in_runs);
        let (store, expected) = through(0..n);
        assert_eq!(sums(&store), expected);
        assert!(store.in_memory() == n as usize && store.many > MERGE);
    }
}
