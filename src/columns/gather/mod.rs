//! From records to columns: one loop per column over the positions of a field.
//!
//! The contract is the same for every instruction set: `dst[i]` becomes the converted field of record `i`. Positions
//! were checked before, so a kernel cannot fail; a value that does not fit is reported by the kernel's result and
//! dealt with by its caller, row by row. [`scalar`] is the reference; where the machine has vectors, windows of sixteen bytes do most
//! columns of a plan.

#[cfg(any(target_arch = "x86_64", all(target_arch = "aarch64", target_endian = "little")))]
mod blocks;
#[cfg(all(target_arch = "aarch64", target_endian = "little"))]
mod neon;
#[cfg(not(any(target_arch = "x86_64", all(target_arch = "aarch64", target_endian = "little"))))]
mod no_vectors;
pub(crate) mod places;
pub mod scalar;
#[cfg(test)]
mod tests;
pub(crate) mod text;
pub(crate) mod times;
pub(crate) mod window;
#[cfg(target_arch = "x86_64")]
mod x86;

#[cfg(all(target_arch = "aarch64", target_endian = "little"))]
use neon as vectors;
#[cfg(not(any(target_arch = "x86_64", all(target_arch = "aarch64", target_endian = "little"))))]
use no_vectors as vectors;
#[cfg(target_arch = "x86_64")]
use x86 as vectors;

pub use window::{Kernel, UnknownKernel};

/// A loop over plain numbers, which the compiler turns into vectors.
#[cfg(feature = "collect")]
pub(crate) trait Loop {
    type Result;

    /// The loop; to be inlined, as all that it calls.
    fn run(self) -> Self::Result;
}

/// Runs a loop in vectors as wide as the machine has: without being asked the compiler takes those that all machines have.
#[cfg(feature = "collect")]
#[inline]
pub(crate) fn widest<L: Loop>(one: L) -> L::Result {
    #[cfg(target_arch = "x86_64")]
    return x86::widest(one);
    #[cfg(not(target_arch = "x86_64"))]
    one.run()
}

/// Where a field of each record stands.
pub trait Positions: Copy {
    /// `dst[i] = convert(the W bytes at rel from the start of record i)`; a slot without a record stays as it is.
    fn fill<const W: usize, T>(self, rel: usize, dst: &mut [T], convert: impl FnMut([u8; W]) -> T);

    /// The bytes of the field at `rel` from the start of each record.
    fn fields<'a>(self, rel: usize, width: usize) -> impl Iterator<Item = &'a [u8]>
    where
        Self: 'a;
}

/// Records of one length, one after the other.
#[derive(Clone, Copy, Debug)]
pub struct Strided<'b> {
    /// The records.
    pub bytes: &'b [u8],
    // INVARIANT: stride > 0.
    stride: usize,
}

impl<'b> Strided<'b> {
    /// Records of `stride` bytes each; a stride of zero is taken as one.
    pub fn new(bytes: &'b [u8], stride: usize) -> Self {
        Self { bytes, stride: stride.max(1) }
    }

    /// The length of a record.
    pub fn stride(&self) -> usize {
        self.stride
    }

    /// The records after the first `n`.
    #[inline]
    pub fn skip(self, n: usize) -> Self {
        Self { bytes: self.bytes.get(n * self.stride..).unwrap_or(&[]), ..self }
    }
}

impl Positions for Strided<'_> {
    #[inline]
    fn fill<const W: usize, T>(self, rel: usize, dst: &mut [T], mut convert: impl FnMut([u8; W]) -> T) {
        let Some((last, init)) = dst.split_last_mut() else { return };
        let from = self.bytes.get(rel..).unwrap_or(&[]);
        if self.stride >= W {
            // Every chunk is a stride long, so the compiler checks the width once, before the loop.
            for (slot, record) in init.iter_mut().zip(from.chunks_exact(self.stride)) {
                if let Some(field) = record.first_chunk::<W>() {
                    *slot = convert(*field);
                }
            }
        }
        // From the field on the last record may be shorter than a stride.
        if let Some(field) = from.get(init.len() * self.stride..).and_then(|r| r.first_chunk::<W>()) {
            *last = convert(*field);
        }
    }

    #[inline]
    fn fields<'a>(self, rel: usize, width: usize) -> impl Iterator<Item = &'a [u8]>
    where
        Self: 'a,
    {
        let from = self.bytes.get(rel..).unwrap_or(&[]);
        from.chunks(self.stride).filter_map(move |r| r.get(..width))
    }
}

/// Records that start anywhere.
#[derive(Clone, Copy, Debug)]
pub struct Listed<'b> {
    /// The bytes that hold the records.
    pub bytes: &'b [u8],
    /// Where each record, or the part of it that holds the field, starts.
    pub starts: &'b [u32],
}

impl Positions for Listed<'_> {
    #[inline]
    fn fill<const W: usize, T>(self, rel: usize, dst: &mut [T], mut convert: impl FnMut([u8; W]) -> T) {
        let from = self.bytes.get(rel..).unwrap_or(&[]);
        for (slot, &start) in dst.iter_mut().zip(self.starts) {
            if let Some(field) = from.get(start as usize..).and_then(|r| r.first_chunk::<W>()) {
                *slot = convert(*field);
            }
        }
    }

    #[inline]
    fn fields<'a>(self, rel: usize, width: usize) -> impl Iterator<Item = &'a [u8]>
    where
        Self: 'a,
    {
        let Listed { bytes, starts } = self;
        starts.iter().filter_map(move |&s| bytes.get(s as usize + rel..s as usize + rel + width))
    }
}
