//! More than memory holds: a part of the keys at a time, each by a scan of its own.

use super::scan::{Scan, ScanStats};
use arrow_array::RecordBatch;
use arrow_buffer::BooleanBuffer;
use std::hash::{BuildHasher, Hash};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Parts at most: beyond, more than asked for is kept in memory.
const PARTS: u64 = 4096;

/// A part of all keys.
#[derive(Clone)]
pub(super) struct Share {
    part: u64,
    of: u64,
    hasher: foldhash::quality::RandomState,
}

impl Share {
    /// Whether a key is in this part; each key is in one.
    pub(super) fn has(&self, key: &impl Hash) -> bool {
        self.of == 1 || self.hasher.hash_one(key) % self.of == self.part
    }
}

/// Scans as often as it takes for no scan to keep more than `most` things: `add` adds what of a batch is in its share and
/// tells how many things more are kept, `merge` joins what two threads kept, and `take` gets what was kept of each part,
/// whole. The number of scans; ends early where the scan is ended from outside.
pub(super) fn in_parts<T: Default + Send>(
    scan: &Scan,
    most: usize,
    add: impl Fn(&mut T, &RecordBatch, &BooleanBuffer, &Share) -> usize + Sync,
    mut merge: impl FnMut(&mut T, T),
    mut take: impl FnMut(T, ScanStats),
) -> usize {
    let hasher = foldhash::quality::RandomState::default();
    let mut scans = 0;
    // A key's part is the rest of its hash by the number of parts: part p of n is parts p and p + n of 2 n.
    let mut parts = vec![(0, 1)];
    while let Some((part, of)) = parts.pop() {
        let share = Share { part, of, hasher: hasher.clone() };
        let most = if of < PARTS { most } else { usize::MAX };
        let kept = AtomicUsize::new(0);
        let add = |one: &mut T, batch: &RecordBatch, chosen: &BooleanBuffer| {
            let more = add(one, batch, chosen, &share);
            kept.fetch_add(more, Relaxed) + more <= most
        };
        let mut all = T::default();
        let stats = scan.run(T::default, add, |other| merge(&mut all, other));
        scans += 1;
        if kept.into_inner() > most && !scan.watch.is_stopped() {
            parts.extend([(part + of, 2 * of), (part, 2 * of)]);
            continue;
        }
        take(all, stats);
        if scan.watch.is_stopped() {
            break;
        }
    }
    scans
}
