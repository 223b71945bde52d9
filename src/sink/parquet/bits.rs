//! Packing numbers into as few bits as they need, the least significant first: what all of Parquet's own encodings end in.

use zerocopy::IntoBytes;

/// Numbers that are packed at once: so many of any width end on a whole byte.
pub(super) const GROUP: usize = 32;
const PAIRS: usize = GROUP / 2;

/// Bits that the greatest of some numbers needs.
#[inline]
pub(super) fn width(greatest: u32) -> u8 {
    (u32::BITS - greatest.leading_zeros()) as u8
}

/// Appends 32 numbers of at most `width` bits: `4 * width` bytes.
///
/// Two of them become one first, in vectors where the caller has some; then half as many are left to be put together.
#[inline(always)]
pub(super) fn pack(out: &mut Vec<u8>, numbers: &[u32; GROUP], width: u8) {
    if let Some(pack) = PACK.get(usize::from(width)) {
        let two: [u64; PAIRS] = zerocopy::transmute!(*numbers);
        let first_low = |two: u64| if cfg!(target_endian = "big") { two.rotate_left(32) } else { two };
        pack(out, &two.map(first_low).map(|two| two & u64::from(u32::MAX) | two >> 32 << width));
    }
}

/// Appends numbers of at most `width` bits, and zeros up to the next 32 of them.
pub(super) fn pack_all(out: &mut Vec<u8>, numbers: &[u32], width: u8) {
    let (groups, rest) = numbers.as_chunks::<GROUP>();
    groups.iter().for_each(|group| pack(out, group, width));
    if !rest.is_empty() {
        let mut last = [0; GROUP];
        last.iter_mut().zip(rest).for_each(|(slot, n)| *slot = *n);
        pack(out, &last, width);
    }
}

/// As [`pack`], for numbers of up to 64 bits. Few columns need more than 32.
#[cold]
pub(super) fn pack_wide(out: &mut Vec<u8>, numbers: &[u64; GROUP], width: u8) {
    let (mut bits, mut held) = (0u128, 0);
    for &n in numbers {
        bits |= u128::from(n) << held;
        held += u32::from(width);
        while held >= 64 {
            out.extend_from_slice(&(bits as u64).to_le_bytes());
            bits >>= 64;
            held -= 64;
        }
    }
    // 32 numbers of any width are whole words of 32 bits.
    if held > 0 {
        out.extend_from_slice(&(bits as u32).to_le_bytes());
    }
}

/// One function a width, whose shifts and places are constants: numbers of twice as many bits, half as many.
fn pack_of<const WIDTH: usize>(out: &mut Vec<u8>, pairs: &[u64; PAIRS]) {
    let mut words = [0u64; PAIRS];
    macro_rules! put {
        ($($i:literal)*) => { $({
            let (word, shift) = ($i * 2 * WIDTH / 64, $i * 2 * WIDTH % 64);
            if WIDTH > 0 {
                words[word] |= pairs[$i] << shift;
            }
            if shift + 2 * WIDTH > 64 {
                words[word + 1] |= pairs[$i] >> (64 - shift);
            }
        })* };
    }
    put!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);
    if cfg!(target_endian = "big") {
        words.iter_mut().for_each(|word| *word = word.to_le());
    }
    if let Some(bytes) = words.as_bytes().get(..4 * WIDTH) {
        out.extend_from_slice(bytes);
    }
}

type Pack = fn(&mut Vec<u8>, &[u64; PAIRS]);

macro_rules! widths {
    ($($width:literal)*) => { [$(pack_of::<$width>),*] };
}

const PACK: [Pack; 33] =
    widths!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32);

#[cfg(test)]
mod tests {
    use super::*;

    /// Bit by bit, as the format says it.
    fn unpack(bytes: &[u8], width: usize) -> Vec<u64> {
        let bit = |i: usize| u64::from(bytes[i / 8] >> (i % 8) & 1);
        (0..GROUP).map(|n| (0..width).fold(0, |value, b| value | bit(n * width + b) << b)).collect()
    }

    #[test]
    fn every_width_is_packed_bit_by_bit() {
        for width in 0..=64 {
            let most = if width == 64 { u64::MAX } else { (1 << width) - 1 };
            let numbers: [u64; GROUP] =
                std::array::from_fn(|i| (i as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(17) & most);
            let mut wide = Vec::new();
            pack_wide(&mut wide, &numbers, width as u8);
            assert_eq!(wide.len(), 4 * width);
            assert_eq!(unpack(&wide, width), numbers, "{width}");
            if width <= 32 {
                let mut narrow = Vec::new();
                pack(&mut narrow, &numbers.map(|n| n as u32), width as u8);
                assert_eq!(narrow, wide, "{width}");
            }
        }
        assert_eq!([0, 1, 2, 255, u32::MAX].map(width), [0, 1, 2, 8, 32]);
    }
}
