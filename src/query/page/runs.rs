//! Runs of equal numbers and groups of packed ones: levels, numbers of dictionary entries, booleans.

use super::bits::{GROUP, unpack};
use super::{Error, damaged};
use arrow_buffer::{BooleanBuffer, BooleanBufferBuilder};
use parquet::basic::Encoding;

/// A part of such a sequence.
enum Run<'a> {
    /// So many of one number.
    Same(u64, usize),
    /// Numbers of so many bits, so many of them at most.
    Packed(&'a [u8], usize),
}

struct Runs<'a> {
    from: &'a [u8],
    width: usize,
}

impl<'a> Runs<'a> {
    fn next(&mut self) -> Result<Run<'a>, Error> {
        let mut head = 0u64;
        let mut shift = 0;
        loop {
            let (&byte, rest) = self.from.split_first().ok_or_else(|| damaged("a run beyond its end"))?;
            self.from = rest;
            head |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                break;
            }
            shift += 7;
            if shift > 35 {
                return Err(damaged("a run that is too long"));
            }
        }
        let count = usize::try_from(head >> 1).unwrap_or(usize::MAX);
        if head & 1 == 0 {
            let (value, rest) =
                self.from.split_at_checked(self.width.div_ceil(8)).ok_or_else(|| damaged("a run beyond its end"))?;
            self.from = rest;
            return Ok(Run::Same(value.iter().rev().fold(0, |n, b| n << 8 | u64::from(*b)), count));
        }
        // Writers may leave out what is beyond the last value.
        let bytes = count.saturating_mul(self.width).min(self.from.len());
        let (packed, rest) = self.from.split_at(bytes);
        self.from = rest;
        Ok(Run::Packed(packed, count.saturating_mul(8)))
    }
}

/// Appends `count` numbers of `width` bits.
pub(super) fn numbers<T: Copy>(
    from: &[u8],
    width: usize,
    count: usize,
    to: &mut Vec<T>,
    number: impl Fn(u64) -> Result<T, Error>,
) -> Result<(), Error> {
    if width > 32 {
        return Err(damaged("numbers of too many bits"));
    }
    let mut runs = Runs { from, width };
    let end = to.len() + count;
    to.reserve(count);
    let mut group = [0; GROUP];
    while to.len() < end {
        let left = end - to.len();
        match runs.next()? {
            Run::Same(_, 0) | Run::Packed(_, 0) => return Err(damaged("an empty run")),
            Run::Same(value, n) => to.resize(to.len() + n.min(left), number(value)?),
            Run::Packed(packed, n) => {
                let n = n.min(left);
                if packed.len() < (n * width).div_ceil(8) {
                    return Err(damaged("a run beyond its end"));
                }
                for at in (0..n).step_by(GROUP) {
                    unpack(packed.get(at * width / 8..).unwrap_or(&[]), width, &mut group);
                    for value in group.iter().take(n - at) {
                        to.push(number(*value)?);
                    }
                }
            }
        }
    }
    Ok(())
}

/// Which of `count` rows are there; `None` where all are.
pub(super) fn validity(levels: &[u8], encoding: Encoding, count: usize) -> Result<Option<BooleanBuffer>, Error> {
    if encoding != Encoding::RLE {
        // The old encoding has the highest bit first.
        let bit = |i: usize| levels.get(i / 8).is_some_and(|b| b >> (7 - i % 8) & 1 == 1);
        return Ok(Some(BooleanBuffer::collect_bool(count, bit)));
    }
    let mut runs = Runs { from: levels, width: 1 };
    let mut there = BooleanBufferBuilder::new(0);
    while there.len() < count {
        let left = count - there.len();
        match runs.next()? {
            Run::Same(_, 0) | Run::Packed(_, 0) => return Err(damaged("an empty run")),
            Run::Same(1, n) if n >= count => return Ok(None),
            Run::Same(value, n) => there.append_n(n.min(left), value == 1),
            Run::Packed(packed, n) => {
                let n = n.min(left);
                if packed.len() < n.div_ceil(8) {
                    return Err(damaged("a run beyond its end"));
                }
                there.append_packed_range(0..n, packed);
            }
        }
    }
    Ok(Some(there.finish()))
}
