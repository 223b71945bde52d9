//! Groups that memory has no room for: sums by key in a temporary file, by parts of the keys' hashes.

use super::sums::Row;
use foldhash::SharedSeed;
use foldhash::fast::SeedableRandomState;
use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::hash::BuildHasher;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Parts of the keys: groups of one part have to be in memory together.
pub(super) const PARTS: usize = 64;

/// A key as bytes, and its sums.
pub(super) type ByKey = HashMap<Box<[u8]>, Row, foldhash::fast::RandomState>;

/// The file of one thread. It has no name, so that nothing remains of it whatever happens.
pub(super) struct Spill {
    file: File,
    end: u64,
    // Where each part stands, once for each time that memory was emptied.
    parts: Vec<[Range<u64>; PARTS]>,
}

/// Bytes of a group's sums.
const ROW: usize = 64;

impl Spill {
    /// An empty file in a folder.
    pub(super) fn create(folder: &Path) -> io::Result<Self> {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let name = format!(".flowlane-groups-{}-{}", std::process::id(), NEXT.fetch_add(1, Relaxed));
        let path: PathBuf = folder.join(name);
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path)?;
        fs::remove_file(&path)?;
        Ok(Self { file, end: 0, parts: Vec::new() })
    }

    /// Appends groups, each a key as bytes and its sums.
    pub(super) fn write(&mut self, each: impl FnOnce(&mut dyn FnMut(&[u8], &Row))) -> io::Result<()> {
        let mut buffers: Vec<Vec<u8>> = vec![Vec::new(); PARTS];
        let hasher = SeedableRandomState::with_seed(0, SharedSeed::global_random());
        each(&mut |key, row| {
            let part = (hasher.hash_one(key) >> 58) as usize;
            if let Some(buffer) = buffers.get_mut(part) {
                buffer.extend_from_slice(&(key.len() as u32).to_le_bytes());
                buffer.extend_from_slice(key);
                for sum in [row.bytes, row.packets, row.flows] {
                    buffer.extend_from_slice(&sum.to_le_bytes());
                }
                buffer.extend_from_slice(&row.start.to_le_bytes());
                buffer.extend_from_slice(&row.end.to_le_bytes());
            }
        });
        self.file.seek(SeekFrom::Start(self.end))?;
        let mut at = self.end;
        let mut parts = std::array::from_fn(|_| 0..0);
        for (buffer, part) in buffers.iter().zip(&mut parts) {
            self.file.write_all(buffer)?;
            *part = at..at + buffer.len() as u64;
            at += buffer.len() as u64;
        }
        self.end = at;
        self.parts.push(parts);
        Ok(())
    }

    /// Adds the groups of a part.
    pub(super) fn read(&self, part: usize, to: &mut ByKey) -> io::Result<()> {
        for range in self.parts.iter().filter_map(|parts| parts.get(part)) {
            let mut file = &self.file;
            file.seek(SeekFrom::Start(range.start))?;
            let mut from = BufReader::with_capacity(1 << 16, file).take(range.end - range.start);
            let (mut key, mut sums) = (Vec::new(), [0; ROW]);
            while from.limit() > 0 {
                let mut len = [0; 4];
                from.read_exact(&mut len)?;
                key.resize(u32::from_le_bytes(len) as usize, 0);
                from.read_exact(&mut key)?;
                from.read_exact(&mut sums)?;
                let row = row(&sums);
                match to.get_mut(key.as_slice()) {
                    Some(group) => group.add(&row),
                    None => drop(to.insert(key.as_slice().into(), row)),
                }
            }
        }
        Ok(())
    }
}

fn row(sums: &[u8; ROW]) -> Row {
    let wide = |at: usize| sums.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |b| i128::from_le_bytes(*b));
    let narrow = |at: usize| sums.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |b| i64::from_le_bytes(*b));
    Row { bytes: wide(0), packets: wide(16), flows: wide(32), start: narrow(48), end: narrow(56) }
}
