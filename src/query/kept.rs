//! Keys of the rows that a first pass chose, for a second one, which then need not read their columns again.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Words of keys that are kept at most.
const WORDS: usize = 8 << 20;

/// What is kept of each part of a reading, in the order of its rows.
pub(super) struct KeptKeys {
    parts: Vec<Mutex<Part>>,
    room: AtomicUsize,
}

#[derive(Default)]
struct Part {
    words: Vec<u64>,
    // Those that the second pass has had.
    done: usize,
    // Whether the keys of some row are not among them.
    is_torn: bool,
}

/// What is to be done about the keys of some rows.
pub(super) enum Keys<'a> {
    /// Nothing but to add them.
    Packed,
    /// To tell them too; nothing where they do not all have one layout.
    Told(&'a mut dyn FnMut(Option<&[u64]>)),
    /// They are these already.
    Known(&'a [u64]),
}

impl KeptKeys {
    /// Nothing yet, of so many parts.
    pub(super) fn of(parts: usize) -> Self {
        Self { parts: (0..parts).map(|_| Mutex::default()).collect(), room: AtomicUsize::new(WORDS) }
    }

    fn part(&self, at: usize) -> Option<MutexGuard<'_, Part>> {
        Some(self.parts.get(at)?.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Keeps the keys of rows of a part, or, where that cannot be, none of that part.
    pub(super) fn keep(&self, at: usize, words: Option<&[u64]>) {
        let Some(mut part) = self.part(at).filter(|part| !part.is_torn) else { return };
        let take =
            |words: &[u64]| self.room.fetch_update(Relaxed, Relaxed, |room| room.checked_sub(words.len())).is_ok();
        match words.filter(|words| take(words)) {
            Some(words) => part.words.extend_from_slice(words),
            None => {
                self.room.fetch_add(part.words.len(), Relaxed);
                *part = Part { is_torn: true, ..Part::default() };
            }
        }
    }

    /// Whether the keys of all rows of a part are there.
    pub(super) fn has(&self, at: usize) -> bool {
        self.part(at).is_some_and(|part| !part.is_torn && !part.words.is_empty())
    }

    /// Gives so many words more of a part.
    pub(super) fn next<R>(&self, at: usize, count: usize, with: impl FnOnce(&[u64]) -> R) -> Option<R> {
        let mut part = self.part(at)?;
        let end = part.done + count;
        let found = with(part.words.get(part.done..end)?);
        part.done = end;
        Some(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_whole_or_not_there() {
        let kept = KeptKeys::of(3);
        kept.keep(0, Some(&[1, 2, 3]));
        kept.keep(1, Some(&[4]));
        kept.keep(0, Some(&[5]));
        kept.keep(1, None);
        kept.keep(1, Some(&[6]));
        kept.keep(2, Some(&vec![7; WORDS]));
        assert_eq!([0, 1, 2, 3].map(|at| kept.has(at)), [true, false, false, false]);
        assert_eq!(kept.next(0, 2, <[u64]>::to_vec), Some(vec![1, 2]));
        assert_eq!(kept.next(0, 2, <[u64]>::to_vec), Some(vec![3, 5]));
        assert_eq!(kept.next(0, 1, <[u64]>::to_vec), None);
        // What one gave up another can have.
        assert_eq!(kept.room.into_inner(), WORDS - 4);
    }
}
