//! Numbers of so many bits each, one after the other, the lowest bit first.

/// Numbers that are unpacked together.
pub(super) const GROUP: usize = 32;

/// Unpacks 32 numbers of `width` bits, 64 at most; what is not there is zero.
#[inline]
pub(super) fn unpack(packed: &[u8], width: usize, to: &mut [u64; GROUP]) {
    let unpack = UNPACK.get(width).copied().unwrap_or(any::<64>);
    // The widest load reads beyond the last number.
    if packed.len() >= width * 4 + SLACK {
        return unpack(packed, to);
    }
    let mut padded = [0; 64 * 4 + SLACK];
    let len = packed.len().min(width * 4);
    if let (Some(padded), Some(packed)) = (padded.get_mut(..len), packed.get(..len)) {
        padded.copy_from_slice(packed);
    }
    unpack(&padded, to);
}

const SLACK: usize = 16;

/// A loop for each width, that the compiler unrolls with its shifts and masks.
fn any<const W: usize>(packed: &[u8], to: &mut [u64; GROUP]) {
    if W == 0 {
        *to = [0; GROUP];
        return;
    }
    let Some(packed) = packed.get(..W * 4 + SLACK) else { return };
    let mask = u64::MAX >> (64 - W as u32);
    for (i, to) in to.iter_mut().enumerate() {
        let bit = i * W;
        if W <= 57 {
            let word = packed[bit / 8..].first_chunk().map_or(0, |b| u64::from_le_bytes(*b));
            *to = word >> (bit % 8) & mask;
        } else {
            let word = packed[bit / 8..].first_chunk().map_or(0, |b| u128::from_le_bytes(*b));
            *to = (word >> (bit % 8)) as u64 & mask;
        }
    }
}

macro_rules! widths {
    ($($width:literal)*) => { [$(any::<$width>),*] };
}

type Unpack = fn(&[u8], &mut [u64; GROUP]);

static UNPACK: [Unpack; 65] = widths!(
    0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32 33 34 35 36 37 38 39 40 41 42
    43 44 45 46 47 48 49 50 51 52 53 54 55 56 57 58 59 60 61 62 63 64
);

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
            }
        }
    }
}
