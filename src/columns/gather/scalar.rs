//! The reference kernels: plain loops, one value at a time.

use super::Positions;
use byteorder::{BigEndian, ByteOrder};

/// An unsigned type that a big-endian field becomes.
pub trait Unsigned: Copy {
    /// The largest value, as 64 bits.
    const MAX: u64;
    /// The low bits of a value.
    fn cut(value: u64) -> Self;
}

macro_rules! unsigned {
    ($($t:ty),*) => { $(impl Unsigned for $t {
        const MAX: u64 = <$t>::MAX as u64;
        #[inline]
        fn cut(value: u64) -> Self { value as Self }
    })* };
}
unsigned!(u8, u16, u32, u64, i64);

/// Big-endian integers of 1 to 8 bytes, widened or cut to `T`. Returns whether every value fits.
#[inline]
pub fn unsigned<P: Positions, T: Unsigned>(at: P, rel: usize, width: usize, dst: &mut [T]) -> bool {
    let mut high = false;
    let mut put = |v: u64| {
        high |= v > T::MAX;
        T::cut(v)
    };
    match width {
        1 => at.fill(rel, dst, |[b]| put(u64::from(b))),
        2 => at.fill(rel, dst, |b| put(u64::from(u16::from_be_bytes(b)))),
        3 => at.fill::<3, T>(rel, dst, |b| put(BigEndian::read_uint(&b, 3))),
        4 => at.fill(rel, dst, |b| put(u64::from(u32::from_be_bytes(b)))),
        5 => at.fill::<5, T>(rel, dst, |b| put(BigEndian::read_uint(&b, 5))),
        6 => at.fill::<6, T>(rel, dst, |b| put(BigEndian::read_uint(&b, 6))),
        7 => at.fill::<7, T>(rel, dst, |b| put(BigEndian::read_uint(&b, 7))),
        8 => at.fill(rel, dst, |b| put(u64::from_be_bytes(b))),
        _ => return false,
    }
    !high
}

/// Signed integers of 1 to 8 bytes, sign-extended.
#[inline]
pub fn signed<P: Positions>(at: P, rel: usize, width: usize, dst: &mut [i64]) {
    match width {
        1 => at.fill(rel, dst, |b| i64::from(i8::from_be_bytes(b))),
        2 => at.fill(rel, dst, |b| i64::from(i16::from_be_bytes(b))),
        4 => at.fill(rel, dst, |b| i64::from(i32::from_be_bytes(b))),
        8 => at.fill(rel, dst, i64::from_be_bytes),
        3 | 5 | 6 | 7 => {
            for (slot, field) in dst.iter_mut().zip(at.fields(rel, width)) {
                *slot = BigEndian::read_int(field, width);
            }
        }
        _ => {}
    }
}

/// IEEE 754 numbers of 4 or 8 bytes.
#[inline]
pub fn float<P: Positions>(at: P, rel: usize, width: usize, dst: &mut [f64]) {
    match width {
        4 => at.fill(rel, dst, |b| f64::from(f32::from_be_bytes(b))),
        8 => at.fill(rel, dst, f64::from_be_bytes),
        _ => {}
    }
}

/// `N` bytes as they are.
#[inline]
pub fn bytes<P: Positions, const N: usize>(at: P, rel: usize, dst: &mut [[u8; N]]) {
    at.fill(rel, dst, |b| b);
}

/// Times made of an integer of 1 to 8 bytes. Returns whether every one could be told.
#[inline]
pub fn time<P: Positions>(
    at: P,
    rel: usize,
    width: usize,
    dst: &mut [i64],
    convert: impl Fn(u64) -> Option<i64>,
) -> bool {
    let mut all = true;
    let mut put = |v: u64| {
        let time = convert(v);
        all &= time.is_some();
        time.unwrap_or(0)
    };
    match width {
        4 => at.fill(rel, dst, |b| put(u64::from(u32::from_be_bytes(b)))),
        8 => at.fill(rel, dst, |b| put(u64::from_be_bytes(b))),
        1..=7 => {
            for (slot, field) in dst.iter_mut().zip(at.fields(rel, width)) {
                *slot = put(BigEndian::read_uint(field, width));
            }
        }
        _ => return false,
    }
    all
}

#[cfg(test)]
mod tests {
    use super::super::{Listed, Strided};
    use super::*;

    #[test]
    fn every_width_offset_and_count() {
        let bytes: Vec<u8> = (0..70u32 * 31).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        for n in 0..=70usize {
            let records = &bytes[..n * 31];
            let starts: Vec<u32> = (0..n as u32).map(|i| i * 31).collect();
            for width in 1..=8usize {
                for rel in 0..=31 - width {
                    let field =
                        |i: usize| records[i * 31 + rel..][..width].iter().fold(0, |v, &b| v << 8 | u64::from(b));
                    let want: Vec<u64> = (0..n).map(field).collect();
                    let (mut a, mut b, mut c) = (vec![0u64; n], vec![0u64; n], vec![0u16; n]);
                    assert!(unsigned(Strided::new(records, 31), rel, width, &mut a));
                    assert!(unsigned(Listed { bytes: records, starts: &starts }, rel, width, &mut b));
                    let fits = unsigned(Strided::new(records, 31), rel, width, &mut c);
                    assert_eq!(a, want);
                    assert_eq!(b, want);
                    assert_eq!(fits, want.iter().all(|&v| v <= 0xffff));
                    assert!(c.iter().zip(&want).all(|(c, w)| u64::from(*c) == w & 0xffff));
                }
            }
        }
    }
}
