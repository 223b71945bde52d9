//! Parquet's mix of runs and packed bits: definition levels, and places in a dictionary.

use super::bits::{pack_all, width};
use super::delta::varint;
use arrow_buffer::{BooleanBuffer, BooleanBufferBuilder, NullBuffer};

/// Bits that places in a dictionary of so many entries need.
pub(super) fn key_width(entries: usize) -> u8 {
    width(u32::try_from(entries.saturating_sub(1)).unwrap_or(u32::MAX))
}

/// Appends `n` times the same number.
pub(super) fn run(out: &mut Vec<u8>, number: u32, n: u32, width: u8) {
    varint(out, u64::from(n) << 1);
    out.extend(number.to_le_bytes().iter().take(usize::from(width).div_ceil(8)));
}

/// Appends numbers one by one.
pub(super) fn numbers(out: &mut Vec<u8>, numbers: &[u32], width: u8) {
    match numbers.first() {
        Some(first) if numbers.iter().all(|n| n == first) => run(out, *first, numbers.len() as u32, width),
        _ => {
            // In groups of 8; 32 of them are packed at once, and what is beyond the last number is cut.
            let groups = numbers.len().div_ceil(8);
            varint(out, (groups as u64) << 1 | 1);
            let start = out.len();
            pack_all(out, numbers, width);
            out.truncate(start + groups * usize::from(width));
        }
    }
}

/// Which rows of a page have a value.
#[derive(Default)]
pub(super) struct Levels {
    pub(super) rows: usize,
    pub(super) nulls: usize,
    // Only where some rows have a value and some have none.
    bits: Option<BooleanBufferBuilder>,
}

impl Levels {
    /// Rows that all have a value.
    pub(super) fn present(&mut self, n: usize) {
        if self.nulls > 0 {
            self.bits().append_n(n, true);
        }
        self.rows += n;
    }

    /// Rows that have none.
    pub(super) fn absent(&mut self, n: usize) {
        if self.nulls < self.rows {
            self.bits().append_n(n, false);
        }
        self.rows += n;
        self.nulls += n;
    }

    /// Some have one, some have none.
    pub(super) fn mixed(&mut self, which: &NullBuffer) {
        match which.null_count() {
            0 => self.present(which.len()),
            n if n == which.len() => self.absent(n),
            n => {
                self.bits().append_buffer(which.inner());
                self.rows += which.len();
                self.nulls += n;
            }
        }
    }

    /// Whether there are rows, of which none has a value.
    pub(super) fn is_absent(&self) -> bool {
        self.rows > 0 && self.nulls == self.rows
    }

    /// Appends them as a page has them, and forgets them.
    pub(super) fn encode(&mut self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend([0; 4]);
        match self.bits.take().map(|mut bits| bits.finish()).filter(|_| self.nulls > 0 && self.nulls < self.rows) {
            None => run(out, u32::from(self.nulls == 0), self.rows as u32, 1),
            Some(bits) => packed(out, &bits),
        }
        let bytes = (out.len() - start - 4) as u32;
        if let Some(slot) = out.get_mut(start..start + 4) {
            slot.copy_from_slice(&bytes.to_le_bytes());
        }
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    fn bits(&mut self) -> &mut BooleanBufferBuilder {
        let (rows, all) = (self.rows, self.nulls == 0);
        self.bits.get_or_insert_with(|| {
            let mut bits = BooleanBufferBuilder::new(rows.max(1024) * 2);
            bits.append_n(rows, all);
            bits
        })
    }
}

/// Arrow's bits are those of the format.
fn packed(out: &mut Vec<u8>, bits: &BooleanBuffer) {
    let groups = bits.len().div_ceil(8);
    varint(out, (groups as u64) << 1 | 1);
    out.extend_from_slice(bits.sliced().as_slice().get(..groups).unwrap_or(&[]));
}
