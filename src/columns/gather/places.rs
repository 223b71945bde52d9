//! Where the columns of a batch stand in its memory.

use super::window::SLACK;
use std::sync::Arc;

/// What the columns of a layout are to the windows that fill them.
#[derive(Clone, Debug)]
pub(crate) struct Frame(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    // The bytes of a value of each column; 0 where they vary.
    widths: Box<[u8]>,
    // The column of each slot, window after window.
    // INVARIANT: each is a column, whose width is not 0.
    slots: Box<[u16]>,
}

impl Frame {
    /// Columns of values of so many bytes, 0 where they vary, and the columns that windows fill one after the other.
    ///
    /// # Panics
    /// Where there is no such column, or it has no width.
    pub(super) fn new(widths: &[u8], slots: Vec<u16>) -> Self {
        assert!(slots.iter().all(|&c| widths.get(usize::from(c)).is_some_and(|&w| w > 0)), "{slots:?} of {widths:?}");
        Self(Arc::new(Inner { widths: widths.into(), slots: slots.into() }))
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
    pub(super) frame: Frame,
    // INVARIANT: as many as widths, and starts[c] + (rows + SLACK) * widths[c] <= len for every column c.
    starts: Box<[usize]>,
    // INVARIANT: as many as slots, and offsets[s] == starts[slots[s]].
    pub(super) offsets: Box<[usize]>,
    pub(super) rows: usize,
    pub(super) len: usize,
}

impl Places {
    /// Columns that start at the same offset modulo 4096 would share the sets of an L1 cache, so each starts 192 bytes
    /// further than the one before it would, on a boundary of 64.
    pub(crate) fn new(frame: &Frame, rows: usize) -> Self {
        let mut len = 0usize;
        let starts = frame.0.widths.iter().enumerate().map(|(i, &width)| {
            if width == 0 {
                return 0;
            }
            let start = len.next_multiple_of(64);
            let start = start + (i * 192 % 4096 + 4096 - start % 4096) % 4096;
            len = start + usize::from(width) * (rows + SLACK);
            start
        });
        let starts: Box<[usize]> = starts.collect();
        let offsets = frame.0.slots.iter().map(|&c| starts[usize::from(c)]).collect();
        Self { frame: frame.clone(), starts, offsets, rows, len }
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
