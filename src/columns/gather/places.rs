//! Where the columns of a batch stand in its memory.

use super::window::SLACK;
use std::sync::Arc;

/// The bytes of a value of each column of a layout; 0 where they vary.
#[derive(Clone, Debug)]
pub(crate) struct Widths(Arc<[u8]>);

impl Widths {
    pub(crate) fn new(widths: impl IntoIterator<Item = u8>) -> Self {
        Self(widths.into_iter().collect())
    }

    /// The width of a column; 0 where there is none.
    pub(crate) fn of(&self, column: u16) -> usize {
        self.0.get(usize::from(column)).map_or(0, |&w| usize::from(w))
    }

    /// Whether both are of one layout.
    #[inline]
    pub(super) fn same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// Where each column of a layout starts in memory for so many rows.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    pub(super) widths: Widths,
    // INVARIANT: as many as widths, and starts[c] + (rows + SLACK) * widths[c] <= len for every column c.
    pub(super) starts: Box<[usize]>,
    pub(super) rows: usize,
    pub(super) len: usize,
}

impl Places {
    /// Columns that start at the same offset modulo 4096 would share the sets of an L1 cache, so each starts 192 bytes
    /// further than the one before it would, on a boundary of 64.
    pub(crate) fn new(widths: &Widths, rows: usize) -> Self {
        let mut len = 0usize;
        let starts = widths.0.iter().enumerate().map(|(i, &width)| {
            if width == 0 {
                return 0;
            }
            let start = len.next_multiple_of(64);
            let start = start + (i * 192 % 4096 + 4096 - start % 4096) % 4096;
            len = start + usize::from(width) * (rows + SLACK);
            start
        });
        let starts = starts.collect();
        Self { widths: widths.clone(), starts, rows, len }
    }

    /// Where a column starts.
    pub(crate) fn start(&self, column: usize) -> usize {
        self.starts.get(column).copied().unwrap_or(usize::MAX)
    }

    /// Bytes of all columns.
    pub(crate) fn len(&self) -> usize {
        self.len
    }
}
