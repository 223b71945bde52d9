//! Numbers of so many bits each, one after the other, the lowest bit first.

/// Numbers that are unpacked together.
pub(super) const GROUP: usize = 32;

/// Unpacks 32 numbers of `width` bits, 64 at most; what is not there is zero.
#[inline]
pub(super) fn unpack(packed: &[u8], width: usize, to: &mut [u64; GROUP]) {
    let unpack = UNPACK.get(width).copied().unwrap_or(any::<64>);
    whole(packed, width, |packed| unpack(packed, to));
}

/// The same of differences: to each comes `least`, and all before it from `last` on. Gives the last of them.
#[inline]
pub(super) fn add_up(packed: &[u8], width: usize, last: u64, least: u64, to: &mut [u64; GROUP]) -> u64 {
    let add_up = ADD_UP.get(width).copied().unwrap_or(sums::<64>);
    whole(packed, width, |packed| add_up(packed, last, least, to))
}

const SLACK: usize = 16;

/// The bytes of 32 numbers, with those that the widest load reads beyond the last.
#[inline]
fn whole<A>(packed: &[u8], width: usize, with: impl FnOnce(&[u8]) -> A) -> A {
    if packed.len() >= width * 4 + SLACK {
        return with(packed);
    }
    let mut padded = [0; 64 * 4 + SLACK];
    let len = packed.len().min(width * 4);
    if let (Some(padded), Some(packed)) = (padded.get_mut(..len), packed.get(..len)) {
        padded.copy_from_slice(packed);
    }
    with(&padded)
}

/// Eight numbers end with a byte: where each of them stands there is known for a width, so that their shifts are no variables.
macro_rules! eights {
    ($packed:ident, $to:ident, |$eight:ident, $at:ident| $number:expr) => {
        if let Some(packed) = $packed.get(..W * 4 + SLACK) {
            for (i, to) in $to.as_chunks_mut::<8>().0.iter_mut().enumerate() {
                let $eight = packed.get(i * W..i * W + W + SLACK).unwrap_or(&[]);
                eights!(to, $at, $number; 0 1 2 3 4 5 6 7);
            }
        }
    };
    ($to:ident, $at:ident, $number:expr; $($i:literal)*) => {
        $({
            const I: usize = $i;
            let $at = I;
            $to[I] = $number;
        })*
    };
}

fn any<const W: usize>(packed: &[u8], to: &mut [u64; GROUP]) {
    eights!(packed, to, |eight, at| number::<W>(eight, at));
}

/// The sum stays in a register: one addition waits for the one before, and for nothing else.
fn sums<const W: usize>(packed: &[u8], mut last: u64, least: u64, to: &mut [u64; GROUP]) -> u64 {
    eights!(packed, to, |eight, at| {
        last = last.wrapping_add(number::<W>(eight, at).wrapping_add(least));
        last
    });
    last
}

/// One of eight numbers, by one load.
#[inline(always)]
fn number<const W: usize>(packed: &[u8], i: usize) -> u64 {
    if W == 0 {
        return 0;
    }
    let (bit, mask) = (i * W, u64::MAX >> (64 - W as u32));
    if W <= 57 {
        let word = packed[bit / 8..].first_chunk().map_or(0, |b| u64::from_le_bytes(*b));
        word >> (bit % 8) & mask
    } else {
        let word = packed[bit / 8..].first_chunk().map_or(0, |b| u128::from_le_bytes(*b));
        (word >> (bit % 8)) as u64 & mask
    }
}

macro_rules! widths {
    ($of:ident $($width:literal)+) => { [$($of::<$width>),+] };
    ($of:ident) => {
        widths!($of
            0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32 33 34 35 36 37 38 39
            40 41 42 43 44 45 46 47 48 49 50 51 52 53 54 55 56 57 58 59 60 61 62 63 64)
    };
}

type Unpack = fn(&[u8], &mut [u64; GROUP]);
type AddUp = fn(&[u8], u64, u64, &mut [u64; GROUP]) -> u64;

static UNPACK: [Unpack; 65] = widths!(any);
static ADD_UP: [AddUp; 65] = widths!(sums);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_width() {
        for width in 0..=64usize {
            let mask = if width == 0 { 0 } else { u64::MAX >> (64 - width) };
            let numbers: Vec<u64> = (1..=GROUP as u64).map(|i| i.wrapping_mul(0x9e37_79b9_7f4a_7c15) & mask).collect();
            let mut packed = vec![0u8; width * 4];
            for (i, n) in numbers.iter().enumerate() {
                for bit in 0..width {
                    packed[(i * width + bit) / 8] |= ((n >> bit & 1) as u8) << ((i * width + bit) % 8);
                }
            }
            for extra in [0, SLACK] {
                let mut long = packed.clone();
                long.resize(packed.len() + extra, 0xff);
                let mut found = [1; GROUP];
                unpack(&long, width, &mut found);
                assert_eq!(found[..], numbers, "{width} bits");
                let last = add_up(&long, width, 7, u64::MAX - 1, &mut found);
                let mut sum = 7u64;
                let sums = numbers.iter().map(|n| {
                    sum = sum.wrapping_add(*n).wrapping_sub(2);
                    sum
                });
                assert!(found.iter().copied().eq(sums), "{width} bits");
                assert_eq!(last, found[GROUP - 1]);
            }
        }
    }
}
