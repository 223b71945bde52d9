//! `DELTA_BINARY_PACKED`: the differences of neighbours, less the least of their block, in as many bits as they need.

use super::bits::{GROUP, add_up};
use super::{Error, damaged};

/// Decodes `count` numbers, each as its lowest bits, over what is there.
pub(super) fn decode<T: Copy + Default>(
    packed: &[u8],
    count: usize,
    to: &mut Vec<T>,
    number: impl Fn(u64) -> T,
) -> Result<(), Error> {
    let mut from = packed;
    let block = varint(&mut from)? as usize;
    let miniblocks = varint(&mut from)? as usize;
    let total = varint(&mut from)? as usize;
    let mut last = zigzag(varint(&mut from)?);
    let each = block.checked_div(miniblocks).unwrap_or(0);
    if each == 0 || !each.is_multiple_of(GROUP) || each > 1 << 16 || miniblocks > 1 << 10 {
        return Err(damaged("blocks of a wrong length"));
    }
    if total < count {
        return Err(damaged("fewer values than rows"));
    }
    to.truncate(count);
    to.reserve(count - to.len());
    let mut group = [0; GROUP];
    let mut done = count.min(1);
    places(to, 0, done).fill(number(last));
    while done < count {
        let least = zigzag(varint(&mut from)?);
        let (widths, rest) = from.split_at_checked(miniblocks).ok_or_else(|| damaged("a block beyond its end"))?;
        from = rest;
        for &width in widths {
            let width = usize::from(width);
            if width > 64 {
                return Err(damaged("numbers of too many bits"));
            }
            let here = each.min(count - done);
            // The last miniblock may end where its values do.
            let bytes = (width * each / 8).min(from.len());
            if bytes < (width * here).div_ceil(8) {
                return Err(damaged("a block beyond its end"));
            }
            for (i, to) in places(to, done, here).chunks_mut(GROUP).enumerate() {
                let packed = from.get(i * GROUP * width / 8..).unwrap_or(&[]);
                last = add_up(packed, width, last, least, &mut group);
                // A whole group has a loop of known length.
                match <&mut [T; GROUP]>::try_from(&mut *to) {
                    Ok(to) => to.iter_mut().zip(&group).for_each(|(to, n)| *to = number(*n)),
                    Err(_) => to.iter_mut().zip(&group).for_each(|(to, n)| *to = number(*n)),
                }
            }
            from = from.get(bytes..).unwrap_or(&[]);
            done += here;
        }
    }
    Ok(())
}

/// So many places from one on; made as they are filled, not by what a page says of itself.
fn places<T: Copy + Default>(to: &mut Vec<T>, from: usize, count: usize) -> &mut [T] {
    if to.len() < from + count {
        to.resize(from + count, T::default());
    }
    to.get_mut(from..from + count).unwrap_or_default()
}

fn varint(from: &mut &[u8]) -> Result<u64, Error> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = from.split_first().ok_or_else(|| damaged("a number beyond its end"))?;
        *from = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(damaged("a number of too many bits"))
}

fn zigzag(n: u64) -> u64 {
    n >> 1 ^ (n & 1).wrapping_neg()
}
