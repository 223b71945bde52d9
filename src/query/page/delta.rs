//! `DELTA_BINARY_PACKED`: the differences of neighbours, less the least of their block, in as many bits as they need.

use super::bits::{GROUP, unpack};
use super::{Error, damaged};

/// Appends `count` numbers; each as its lowest bits.
pub(super) fn decode<T>(packed: &[u8], count: usize, to: &mut Vec<T>, number: impl Fn(u64) -> T) -> Result<(), Error> {
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
    if count == 0 {
        return Ok(());
    }
    to.reserve(count);
    to.push(number(last));
    let mut left = count - 1;
    let mut group = [0; GROUP];
    while left > 0 {
        let least = zigzag(varint(&mut from)?);
        let (widths, rest) = from.split_at_checked(miniblocks).ok_or_else(|| damaged("a block beyond its end"))?;
        from = rest;
        for &width in widths {
            if left == 0 {
                break;
            }
            let width = usize::from(width);
            if width > 64 {
                return Err(damaged("numbers of too many bits"));
            }
            if width == 0 {
                let n = each.min(left);
                left -= n;
                for _ in 0..n {
                    last = last.wrapping_add(least);
                    to.push(number(last));
                }
                continue;
            }
            // The last miniblock may end where its values do.
            let bytes = (width * each / 8).min(from.len());
            if bytes < (width * each.min(left)).div_ceil(8) {
                return Err(damaged("a block beyond its end"));
            }
            let mut at = 0;
            while at < each && left > 0 {
                unpack(from.get(at * width / 8..).unwrap_or(&[]), width, &mut group);
                let n = GROUP.min(left);
                // A whole group has a loop of known length.
                if n == GROUP {
                    to.extend(group.map(|delta| {
                        last = last.wrapping_add(least).wrapping_add(delta);
                        number(last)
                    }));
                } else {
                    to.extend(group.iter().take(n).map(|delta| {
                        last = last.wrapping_add(least).wrapping_add(*delta);
                        number(last)
                    }));
                }
                left -= n;
                at += GROUP;
            }
            from = from.get(bytes..).unwrap_or(&[]);
        }
    }
    Ok(())
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
