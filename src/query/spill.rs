//! Groups that memory has no room for, in a file without a name: nothing remains of it, whatever happens.

use super::entry::{Entry, Sum};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// The file of one thread.
pub(super) struct Spill {
    file: File,
    end: u64,
    // Where each part stands, once for each time that memory was emptied.
    parts: Vec<Vec<Range<u64>>>,
}

impl Spill {
    pub(super) fn create(folder: &Path) -> io::Result<Self> {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let name = format!(".flowlane-groups-{}-{}", std::process::id(), NEXT.fetch_add(1, Relaxed));
        let path = folder.join(name);
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path)?;
        fs::remove_file(&path)?;
        Ok(Self { file, end: 0, parts: Vec::new() })
    }

    /// Appends the entries of each part. Where that fails it is as it was before.
    pub(super) fn write<'a, const W: usize, S, E>(&mut self, parts: impl Iterator<Item = E>) -> io::Result<()>
    where
        S: Sum + 'a,
        E: Iterator<Item = &'a Entry<W, S>>,
    {
        let mut ranges = Vec::new();
        let (mut at, mut bytes) = (self.end, Vec::new());
        for entries in parts {
            bytes.clear();
            for Entry { key, sums } in entries {
                key.iter().for_each(|word| bytes.extend_from_slice(&word.to_le_bytes()));
                sums.numbers(|sum| bytes.extend_from_slice(&sum.to_le_bytes()));
            }
            self.file.write_all_at(&bytes, at)?;
            ranges.push(at..at + bytes.len() as u64);
            at += bytes.len() as u64;
        }
        self.end = at;
        self.parts.push(ranges);
        Ok(())
    }

    /// Gives the entries of a part.
    pub(super) fn read<const W: usize, S: Sum>(
        &self,
        part: usize,
        put: &mut dyn FnMut(&Entry<W, S>),
    ) -> io::Result<()> {
        let len_of_one = (W + S::NUMBERS) * 8;
        let mut buffer = Vec::new();
        for range in self.parts.iter().filter_map(|parts| parts.get(part)) {
            let mut at = range.start;
            while at < range.end {
                // Some groups at a time, whole ones.
                let len = (range.end - at).min((4096 * len_of_one) as u64);
                buffer.resize(len as usize, 0);
                self.file.read_exact_at(&mut buffer, at)?;
                at += len;
                for entry in buffer.chunks_exact(len_of_one) {
                    let mut words = entry.as_chunks().0.iter().map(|bytes| u64::from_le_bytes(*bytes));
                    let key = std::array::from_fn(|_| words.next().unwrap_or(0));
                    put(&Entry { key, sums: S::of_numbers(|| words.next().unwrap_or(0).cast_signed()) });
                }
            }
        }
        Ok(())
    }
}
