//! Fragments of IP packets put together, in any order and bounded.

use super::link::Peeled;
use std::collections::HashMap;
use std::net::IpAddr;

/// Packets in pieces at most.
const MAX_PACKETS: usize = 1024;
/// Bytes of a packet at most.
const MAX_BYTES: usize = 65_535;
/// How long a packet's pieces wait for the rest, microseconds (RFC 8200 section 4.5).
const MAX_AGE_US: i64 = 60_000_000;

/// Source, destination, protocol, identification.
type Key = (IpAddr, IpAddr, u8, u32);

#[derive(Default)]
struct Pieces {
    // Sorted by offset, without overlap.
    pieces: Vec<(usize, Box<[u8]>)>,
    total: Option<usize>,
    first_us: i64,
    // Given up: what still comes of it is not another packet.
    dead: bool,
}

/// The packets that are not whole yet.
#[derive(Default)]
pub(super) struct Reassembly {
    packets: HashMap<Key, Pieces>,
    /// Packets given up.
    pub(super) lost: u64,
}

impl Reassembly {
    /// Takes a fragment; true where `out` now holds the whole packet.
    pub(super) fn add(&mut self, packet: &Peeled<'_>, now_us: i64, out: &mut Vec<u8>) -> bool {
        let Some(fragment) = packet.fragment else { return false };
        let key = (packet.source, packet.destination, packet.protocol, fragment.id);
        if !self.packets.contains_key(&key) && self.packets.len() >= MAX_PACKETS {
            self.expire(now_us);
        }
        let entry = self.packets.entry(key).or_insert_with(|| Pieces { first_us: now_us, ..Pieces::default() });
        if now_us.saturating_sub(entry.first_us) > MAX_AGE_US {
            self.lost += u64::from(!entry.dead);
            *entry = Pieces { first_us: now_us, ..Pieces::default() };
        }
        if entry.dead {
            return false;
        }
        let (start, end) = (fragment.offset, fragment.offset + packet.body.len());
        let at = entry.pieces.partition_point(|p| p.0 < start);
        let before = at.checked_sub(1).and_then(|i| entry.pieces.get(i)).map_or(0, |p| p.0 + p.1.len());
        let after = entry.pieces.get(at).map(|p| p.0);
        if after == Some(start) && entry.pieces[at].1.as_ref() == packet.body {
            return false;
        }
        // RFC 5722: a packet with overlapping fragments is given up whole.
        if before > start || after.is_some_and(|a| a < end) || end > MAX_BYTES {
            *entry = Pieces { first_us: entry.first_us, dead: true, ..Pieces::default() };
            self.lost += 1;
            return false;
        }
        entry.pieces.insert(at, (start, packet.body.into()));
        if !fragment.more {
            entry.total = Some(end);
        }
        let mut have = 0;
        for (offset, piece) in &entry.pieces {
            if *offset != have {
                return false;
            }
            have += piece.len();
        }
        if entry.total != Some(have) {
            return false;
        }
        out.clear();
        entry.pieces.iter().for_each(|p| out.extend_from_slice(&p.1));
        self.packets.remove(&key);
        true
    }

    /// Packets that are not whole.
    pub(super) fn waiting(&self) -> u64 {
        self.packets.values().filter(|p| !p.dead).count() as u64
    }

    /// Gives up what is old, or the oldest half.
    fn expire(&mut self, now_us: i64) {
        let mut ages: Vec<i64> = self.packets.values().map(|p| p.first_us).collect();
        let middle = ages.len() / 2;
        let (_, &mut median, _) = ages.select_nth_unstable(middle);
        let before = self.waiting();
        self.packets.retain(|_, p| p.first_us > median && now_us.saturating_sub(p.first_us) <= MAX_AGE_US);
        self.lost += before - self.waiting();
    }
}
