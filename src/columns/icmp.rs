//! ICMP types and codes, in the few rows that are ICMP.

use super::batch::Batch;

/// The elements that give an ICMP type or code, where the template has them.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct IcmpSources {
    pub(crate) dst: u16,
    /// 176 or 177.
    pub(crate) v4: Option<u16>,
    /// 178 or 179.
    pub(crate) v6: Option<u16>,
    /// 32, type and code together.
    pub(crate) both_v4: Option<u16>,
    /// 139, type and code together.
    pub(crate) both_v6: Option<u16>,
}

/// Rows that one comparison passes over.
const BLOCK: usize = 32;

/// Fills the columns of types and codes.
pub(super) fn derive(batch: &mut Batch, proto: u16, dst_port: Option<u16>, kind: &IcmpSources, code: &IcmpSources) {
    batch.blank(kind.dst);
    batch.blank(code.dst);
    let mut rows = std::mem::take(&mut batch.scratch.rows);
    icmp_rows(batch.slots(proto), &mut rows);
    let plain = kind.is_none() && code.is_none() && batch.has_all(proto);
    match dst_port.filter(|&c| plain && batch.has_all(c)) {
        Some(port) => from_ports(batch, port, kind.dst, code.dst, &rows),
        None => {
            for &row in &rows {
                let row = row as usize;
                let proto = batch.uint_at(proto, row);
                let port = dst_port.and_then(|c| batch.uint_at(c, row));
                kind.fill(batch, row, proto, port, 8);
                code.fill(batch, row, proto, port, 0);
            }
        }
    }
    batch.scratch.rows = rows;
}

/// The rows of ICMP and ICMPv6: most blocks have none.
fn icmp_rows(protocols: &[u8], rows: &mut Vec<u32>) {
    rows.clear();
    let (blocks, rest) = protocols.as_chunks::<BLOCK>();
    for (block, first) in blocks.iter().zip((0..).step_by(BLOCK)) {
        if block.iter().fold(false, |any, &p| any | (p == 1) | (p == 58)) {
            icmp_in_block(block, first, rows);
        }
    }
    let first = protocols.len() - rest.len();
    let mut last = [0; BLOCK];
    last[..rest.len()].copy_from_slice(rest);
    icmp_in_block(&last, first as u32, rows);
}

fn icmp_in_block(block: &[u8; BLOCK], first: u32, rows: &mut Vec<u32>) {
    let (words, _) = block.as_chunks::<8>();
    for (word, first) in words.iter().zip((first..).step_by(8)) {
        let word = u64::from_le_bytes(*word);
        // The top bit of each byte that is the value: adding 127 sets it wherever a lower bit is set, without a carry.
        let equal = |value: u64| {
            let differ = word ^ (value * 0x0101_0101_0101_0101);
            let low = (differ & 0x7f7f_7f7f_7f7f_7f7f) + 0x7f7f_7f7f_7f7f_7f7f;
            !(low | differ) & 0x8080_8080_8080_8080
        };
        let mut hits = equal(1) | equal(58);
        while hits != 0 {
            rows.push(first + hits.trailing_zeros() / 8);
            hits &= hits - 1;
        }
    }
}

/// Type and code from the destination port, where exporters put them for want of a better place.
fn from_ports(batch: &mut Batch, port: u16, kind: u16, code: u16, rows: &[u32]) {
    if let Some([ports, kinds, codes]) = batch.disjoint([(port, 2), (kind, 1), (code, 1)]) {
        let (ports, _) = ports.as_chunks::<2>();
        for &row in rows {
            let row = row as usize;
            if let (Some(&port), Some(kind), Some(code)) = (ports.get(row), kinds.get_mut(row), codes.get_mut(row)) {
                [*kind, *code] = u16::from_ne_bytes(port).to_be_bytes();
            }
        }
    }
    batch.set_valid_rows(kind, rows);
    batch.set_valid_rows(code, rows);
}

impl IcmpSources {
    /// Whether the template has no such element.
    fn is_none(&self) -> bool {
        [self.v4, self.v6, self.both_v4, self.both_v6] == [None; 4]
    }

    fn fill(&self, batch: &mut Batch, row: usize, proto: Option<u64>, port: Option<u64>, shift: u32) {
        let at = |c: Option<u16>| c.and_then(|c| batch.uint_at(c, row));
        let half = |v: Option<u64>| v.map(|v| v >> shift & 0xff);
        let none = [self.v4, self.v6, self.both_v4, self.both_v6].iter().all(|&c| at(c).is_none());
        let (own, value) = match proto {
            Some(1) => (self.v4, at(self.v4).or_else(|| half(at(self.both_v4)))),
            Some(58) => (self.v6, at(self.v6).or_else(|| half(at(self.both_v6))).or_else(|| half(at(self.both_v4)))),
            _ => (None, None),
        };
        let value = match proto {
            Some(1 | 58) if none => half(port),
            _ => value,
        };
        let own = own.filter(|_| at(own).is_some());
        let value = value.and_then(|v| u8::try_from(v).ok());
        if let (Some(v), Some(slot)) = (value, batch.slots_mut::<u8>(self.dst).get_mut(row)) {
            *slot = v;
        }
        batch.set_valid(self.dst, row, value.is_some());
        if let (Some(c), Some(_)) = (own, value) {
            batch.set_valid(c, row, false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_found_wherever_they_stand() {
        let mut found = Vec::new();
        for len in 0..200 {
            let protocols: Vec<u8> = (0..len as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 26) as u8).collect();
            icmp_rows(&protocols, &mut found);
            let expected: Vec<u32> = (0..len as u32).filter(|&i| matches!(protocols[i as usize], 1 | 58)).collect();
            assert_eq!(found, expected, "{len} rows");
        }
    }
}
