//! Groups of one thread, however many: a table that stays in the cache, runs by parts of the hashes, and a file.
//!
//! A table of all groups misses the cache with every row once there are many. So the table is emptied when it is full, into
//! a run for each part of the keys' hashes; the runs of one part are merged at the end, in a table that fits again. What
//! memory has no room for goes to a file without a name, run by run.

use super::greatest::Greatest;
use super::groups::{Groups, Values};
use super::pack::{Layout, Texts};
use super::sums::Row;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Parts of the hashes, as a power of two: each part's groups are merged by themselves.
const BITS: u32 = 8;
/// Groups of the table: with their sums, 6 MB.
const LIVE: usize = 1 << 16;
/// Fewer groups than this are not worth a thread.
const FEW: usize = 20_000;

/// A group as runs have it.
type Entry<const W: usize> = ([u64; W], Row);

/// Groups whose keys are so many words.
pub(super) struct Store<const W: usize> {
    live: Groups<W>,
    runs: Vec<Vec<Entry<W>>>,
    in_runs: usize,
    file: Option<Spill>,
}

/// The file of one thread. It has no name, so that nothing remains of it whatever happens.
struct Spill {
    file: File,
    end: u64,
    // Where each part stands, once for each time that memory was emptied.
    parts: Vec<Vec<Range<u64>>>,
}

impl<const W: usize> Store<W> {
    pub(super) fn new() -> Self {
        Self { live: Groups::new(), runs: Vec::new(), in_runs: 0, file: None }
    }

    /// Groups in memory; some may be there several times.
    pub(super) fn in_memory(&self) -> usize {
        self.live.len() + self.in_runs
    }

    pub(super) fn is_spilled(&self) -> bool {
        self.file.is_some()
    }

    /// Adds row `rows[i]` of the values to the group of `keys[i]`.
    pub(super) fn add(&mut self, keys: &[[u64; W]], rows: &[u32], values: &Values<'_>) {
        self.live.add(keys, rows, values);
        if self.live.len() >= LIVE {
            self.flush();
        }
    }

    /// Adds the sums of a group.
    pub(super) fn add_row(&mut self, key: &[u64; W], row: &Row) {
        self.live.add_row(key, row);
        if self.live.len() >= LIVE {
            self.flush();
        }
    }

    /// From the table to the runs.
    fn flush(&mut self) {
        self.runs.resize_with(1 << BITS, Vec::new);
        for (key, row) in self.live.iter() {
            let part = (self.live.hash(key) >> (u64::BITS - BITS)) as usize;
            if let Some(run) = self.runs.get_mut(part) {
                run.push((*key, *row));
            }
        }
        self.in_runs += self.live.len();
        self.live.clear();
    }

    /// From memory to a file in a folder. Where that fails, what could not be written is still in memory.
    pub(super) fn spill(&mut self, folder: &Path) -> io::Result<()> {
        self.flush();
        if self.file.is_none() {
            self.file = Some(Spill::create(folder)?);
        }
        if let Some(file) = &mut self.file {
            file.write(&self.runs)?;
        }
        self.runs.clear();
        self.in_runs = 0;
        Ok(())
    }

    /// Forgets what is in memory.
    pub(super) fn clear(&mut self) {
        self.live.clear();
        self.runs.clear();
        self.in_runs = 0;
    }

    /// The groups in memory; some may come several times.
    pub(super) fn each(&self, put: &mut dyn FnMut(&[u64; W], &Row)) {
        self.live.iter().for_each(|(key, row)| put(key, row));
        self.runs.iter().flatten().for_each(|(key, row)| put(key, row));
    }

    /// The same for those of a part, in memory and in the file.
    fn part(&self, part: usize, put: &mut dyn FnMut(&[u64; W], &Row)) -> io::Result<()> {
        self.live.part(part, BITS).for_each(|(key, row)| put(key, row));
        self.runs.get(part).into_iter().flatten().for_each(|(key, row)| put(key, row));
        self.file.as_ref().map_or(Ok(()), |file| file.read(part, put))
    }

    /// The same for all parts.
    pub(super) fn all(&self, put: &mut dyn FnMut(&[u64; W], &Row)) -> io::Result<()> {
        (0..1 << BITS).try_for_each(|part| self.part(part, put))
    }

    /// The greatest groups of the stores of several threads, which may share keys.
    pub(super) fn greatest(
        stores: &[&Self],
        layout: &Layout,
        texts: &Texts,
        all: &mut Greatest<Box<[u8]>>,
    ) -> io::Result<()> {
        let order = |a: &[u64; W], b: &[u64; W]| layout.order(a, b, texts);
        let in_runs = stores.iter().any(|s| s.in_runs > 0 || s.file.is_some());
        let few = !in_runs && stores.iter().map(|s| s.live.len()).sum::<usize>() < FEW;
        let next = AtomicUsize::new(0);
        let work = || -> io::Result<Greatest<[u64; W]>> {
            let mut found = all.empty();
            let mut groups = Groups::of_part(if few { 0 } else { BITS });
            if few {
                stores.iter().for_each(|s| s.each(&mut |key, row| groups.add_row(key, row)));
                groups.iter().for_each(|(key, row)| found.add(*key, row, order));
                return Ok(found);
            }
            loop {
                let part = next.fetch_add(1, Relaxed);
                if part >= 1 << BITS {
                    return Ok(found);
                }
                groups.clear();
                for store in stores {
                    store.part(part, &mut |key, row| groups.add_row(key, row))?;
                }
                groups.iter().for_each(|(key, row)| found.add(*key, row, order));
            }
        };
        let threads = if few { 1 } else { stores.len() };
        let found: Vec<io::Result<Greatest<[u64; W]>>> = std::thread::scope(|scope| {
            let spawned: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
            let mut found = vec![work()];
            found.extend(spawned.into_iter().map(|thread| match thread.join() {
                Ok(found) => found,
                Err(panic) => std::panic::resume_unwind(panic),
            }));
            found
        });
        for part in found {
            let key = |key: [u64; W]| {
                let mut bytes = Vec::new();
                layout.bytes(&key, texts, &mut bytes);
                bytes.into_boxed_slice()
            };
            all.merge(part?, key, |a, b| a.cmp(b));
        }
        Ok(())
    }
}

/// Bytes of a group's sums.
const ROW: usize = 64;

impl Spill {
    fn create(folder: &Path) -> io::Result<Self> {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let name = format!(".flowlane-groups-{}-{}", std::process::id(), NEXT.fetch_add(1, Relaxed));
        let path = folder.join(name);
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path)?;
        fs::remove_file(&path)?;
        Ok(Self { file, end: 0, parts: Vec::new() })
    }

    fn write<const W: usize>(&mut self, runs: &[Vec<Entry<W>>]) -> io::Result<()> {
        let mut parts = Vec::with_capacity(runs.len());
        let (mut at, mut bytes) = (self.end, Vec::new());
        for run in runs {
            bytes.clear();
            for (key, row) in run {
                key.iter().for_each(|word| bytes.extend_from_slice(&word.to_le_bytes()));
                for sum in [row.bytes, row.packets, row.flows] {
                    bytes.extend_from_slice(&sum.to_le_bytes());
                }
                bytes.extend_from_slice(&row.start.to_le_bytes());
                bytes.extend_from_slice(&row.end.to_le_bytes());
            }
            self.file.write_all_at(&bytes, at)?;
            parts.push(at..at + bytes.len() as u64);
            at += bytes.len() as u64;
        }
        self.file.flush()?;
        self.end = at;
        self.parts.push(parts);
        Ok(())
    }

    fn read<const W: usize>(&self, part: usize, put: &mut dyn FnMut(&[u64; W], &Row)) -> io::Result<()> {
        let mut buffer = Vec::new();
        for range in self.parts.iter().filter_map(|parts| parts.get(part)) {
            let mut at = range.start;
            while at < range.end {
                // Some groups at a time, whole ones.
                let len = (range.end - at).min((4096 * (W * 8 + ROW)) as u64);
                buffer.resize(len as usize, 0);
                self.file.read_exact_at(&mut buffer, at)?;
                at += len;
                for entry in buffer.chunks_exact(W * 8 + ROW) {
                    let (key, sums) = entry.split_at(W * 8);
                    let mut words = [0; W];
                    for (word, bytes) in words.iter_mut().zip(key.as_chunks::<8>().0) {
                        *word = u64::from_le_bytes(*bytes);
                    }
                    put(&words, &row(sums));
                }
            }
        }
        Ok(())
    }
}

fn row(sums: &[u8]) -> Row {
    let wide = |at: usize| sums.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |b| i128::from_le_bytes(*b));
    let narrow = |at: usize| sums.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |b| i64::from_le_bytes(*b));
    Row { bytes: wide(0), packets: wide(16), flows: wide(32), start: narrow(48), end: narrow(56) }
}
