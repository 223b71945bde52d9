//! Parquet's `DELTA_BINARY_PACKED`: differences to the number before, less the least of their block, in as few bits as
//! a quarter of a block needs.
//!
//! Written as plain loops over blocks of a constant size, which the compiler turns into vectors.

use super::bits::{GROUP, pack, pack_wide, width};
use crate::columns::gather::{Loop, widest};

/// Numbers of a block, which has a least difference of its own.
const BLOCK: usize = 128;
/// Parts of a block, each with a width of its own.
const PARTS: usize = BLOCK / GROUP;

/// Numbers that can be written so.
pub(super) trait Number: Copy + PartialEq + Default {
    /// With its sign, if it has one.
    fn signed(self) -> i64;

    /// Appends a block; `before` is the number before its first.
    fn block(out: &mut Vec<u8>, before: Self, numbers: &[Self; BLOCK]);

    /// The same, of numbers none of which are 2^31 or more apart: 32 bits of each are enough.
    fn near_block(out: &mut Vec<u8>, before: Self, numbers: &[Self; BLOCK]);
}

/// Appends all numbers, which stand between these, if that is known.
pub(super) fn encode<T: Number>(out: &mut Vec<u8>, numbers: &[T], bounds: Option<(T, T)>) {
    let far = |(least, most): (T, T)| most.signed().wrapping_sub(least.signed()).cast_unsigned() >> 31;
    let is_near = bounds.is_some_and(|bounds| far(bounds) == 0);
    widest(Encode { out, numbers, is_near });
}

struct Encode<'a, T> {
    out: &'a mut Vec<u8>,
    numbers: &'a [T],
    is_near: bool,
}

impl<T: Number> Loop for Encode<'_, T> {
    type Result = ();

    #[inline(always)]
    fn run(self) {
        match self.is_near {
            true => all::<T, true>(self.out, self.numbers),
            false => all::<T, false>(self.out, self.numbers),
        }
    }
}

#[inline(always)]
fn all<T: Number, const NEAR: bool>(out: &mut Vec<u8>, numbers: &[T]) {
    let first = numbers.first().copied().unwrap_or_default();
    for n in [BLOCK, PARTS, numbers.len()] {
        varint(out, n as u64);
    }
    varint(out, zigzag(first.signed()));
    let (mut before, rest) = (first, numbers.get(1..).unwrap_or(&[]));
    let (blocks, rest) = rest.as_chunks::<BLOCK>();
    for block in blocks {
        one::<T, NEAR>(out, before, block);
        before = block[BLOCK - 1];
    }
    if let Some(&last) = rest.last() {
        // Numbers that are there to fill the block: their difference is 0, and parts that hold nothing else have no bytes.
        let mut block = [last; BLOCK];
        block.iter_mut().zip(rest).for_each(|(slot, n)| *slot = *n);
        let start = out.len();
        one::<T, NEAR>(out, before, &block);
        cut(out, start, rest.len());
    }
}

/// A function given as an argument would not be made of vectors.
#[inline(always)]
fn one<T: Number, const NEAR: bool>(out: &mut Vec<u8>, before: T, numbers: &[T; BLOCK]) {
    if NEAR { T::near_block(out, before, numbers) } else { T::block(out, before, numbers) }
}

/// Takes away the parts of a last block that no number stands in.
fn cut(out: &mut Vec<u8>, start: usize, numbers: usize) {
    let header = out.get(start..).unwrap_or(&[]).iter().take_while(|b| **b >= 0x80).count() + 1;
    let needed = numbers.div_ceil(GROUP);
    let widths = out.get_mut(start + header..).unwrap_or(&mut []);
    let bytes: usize = widths.iter().take(needed).map(|w| usize::from(*w) * GROUP / 8).sum();
    widths.iter_mut().take(PARTS).skip(needed).for_each(|w| *w = 0);
    out.truncate(start + header + PARTS + bytes);
}

impl Number for u32 {
    fn signed(self) -> i64 {
        i64::from(self.cast_signed())
    }

    #[inline(always)]
    fn block(out: &mut Vec<u8>, before: Self, numbers: &[Self; BLOCK]) {
        let mut differences = [0i32; BLOCK];
        differences[0] = numbers[0].wrapping_sub(before).cast_signed();
        for i in 1..BLOCK {
            differences[i] = numbers[i].wrapping_sub(numbers[i - 1]).cast_signed();
        }
        narrow(out, &differences);
    }

    #[inline(always)]
    fn near_block(out: &mut Vec<u8>, before: Self, numbers: &[Self; BLOCK]) {
        Self::block(out, before, numbers);
    }
}

impl Number for i64 {
    fn signed(self) -> i64 {
        self
    }

    #[inline(always)]
    fn block(out: &mut Vec<u8>, before: Self, numbers: &[Self; BLOCK]) {
        let mut differences = [0i64; BLOCK];
        differences[0] = numbers[0].wrapping_sub(before);
        for i in 1..BLOCK {
            differences[i] = numbers[i].wrapping_sub(numbers[i - 1]);
        }
        // Nearly always they have 32 bits, of which many more are packed at once.
        let high = differences.iter().fold(0, |high, d| high | d.wrapping_add(1 << 31).cast_unsigned() >> 32);
        if high == 0 {
            return narrow(out, &differences.map(|d| d as i32));
        }
        let least = differences.iter().fold(i64::MAX, |least, d| least.min(*d));
        varint(out, zigzag(least));
        let above = differences.map(|d| d.wrapping_sub(least).cast_unsigned());
        let (parts, _) = above.as_chunks::<GROUP>();
        let widths = |part: &[u64; GROUP]| (u64::BITS - part.iter().fold(0, |all, n| all | n).leading_zeros()) as u8;
        out.extend(parts.iter().map(widths));
        parts.iter().for_each(|part| pack_wide(out, part, widths(part)));
    }

    #[inline(always)]
    fn near_block(out: &mut Vec<u8>, before: Self, numbers: &[Self; BLOCK]) {
        u32::block(out, before as u32, &numbers.map(|n| n as u32));
    }
}

/// A block whose differences have 32 bits.
#[inline(always)]
fn narrow(out: &mut Vec<u8>, differences: &[i32; BLOCK]) {
    let least = differences.iter().fold(i32::MAX, |least, d| least.min(*d));
    varint(out, zigzag(i64::from(least)));
    let mut above = [0u32; BLOCK];
    for (slot, d) in above.iter_mut().zip(differences) {
        *slot = d.wrapping_sub(least).cast_unsigned();
    }
    let (parts, _) = above.as_chunks::<GROUP>();
    let mut widths = [0; PARTS];
    for (slot, part) in widths.iter_mut().zip(parts) {
        *slot = width(part.iter().fold(0, |all, n| all | n));
    }
    out.extend_from_slice(&widths);
    for (part, width) in parts.iter().zip(widths) {
        pack(out, part, width);
    }
}

#[inline]
fn zigzag(n: i64) -> u64 {
    (n << 1 ^ n >> 63).cast_unsigned()
}

/// Appends a number, seven bits a byte, the lowest first.
#[inline]
pub(super) fn varint(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

impl Number for u64 {
    fn signed(self) -> i64 {
        self.cast_signed()
    }

    #[inline(always)]
    fn block(out: &mut Vec<u8>, before: Self, numbers: &[Self; BLOCK]) {
        i64::block(out, before.cast_signed(), &numbers.map(u64::cast_signed));
    }

    #[inline(always)]
    fn near_block(out: &mut Vec<u8>, before: Self, numbers: &[Self; BLOCK]) {
        u32::block(out, before as u32, &numbers.map(|n| n as u32));
    }
}
