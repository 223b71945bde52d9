//! Link layers and IP headers, down to what IP carries.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A fragment's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fragment {
    pub(super) id: u32,
    pub(super) offset: usize,
    pub(super) more: bool,
}

/// An IP packet without its headers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peeled<'a> {
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
    pub(super) protocol: u8,
    pub(super) fragment: Option<Fragment>,
    pub(super) body: &'a [u8],
    /// The packet is longer than what was captured of it.
    pub(super) cut: bool,
}

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// Whether frames of a link type can be read: Ethernet, Linux cooked v1 and v2, loopback, raw IP.
pub(super) fn is_known(link: i32) -> bool {
    matches!(link, 1 | 113 | 276 | 0 | 108 | 12 | 14 | 101 | 228 | 229)
}

/// The IP packet in a frame of a link type; `None` where there is none.
pub(super) fn peel(link: i32, frame: &[u8]) -> Option<Peeled<'_>> {
    let (mut ethertype, mut at) = match link {
        1 => (word(frame, 12)?, 14),
        113 => (word(frame, 14)?, 16),
        276 => (word(frame, 0)?, 20),
        // The family stands in the byte order of the machine that captured, or of the network.
        0 | 108 => match frame.first_chunk::<4>()? {
            [2, 0, 0, 0] | [0, 0, 0, 2] => (0x0800, 4),
            _ => (0x86dd, 4),
        },
        12 | 14 | 101 | 228 | 229 => match frame.first()? >> 4 {
            4 => (0x0800, 0),
            _ => (0x86dd, 0),
        },
        _ => return None,
    };
    while matches!(ethertype, 0x8100 | 0x88a8 | 0x9100) {
        ethertype = word(frame, at + 2)?;
        at += 4;
    }
    let packet = frame.get(at..)?;
    match ethertype {
        0x0800 => ipv4(packet),
        0x86dd => ipv6(packet),
        _ => None,
    }
}

fn ipv4(packet: &[u8]) -> Option<Peeled<'_>> {
    let head = packet.first_chunk::<20>()?;
    if head[0] >> 4 != 4 {
        return None;
    }
    let header = usize::from(head[0] & 15) * 4;
    let total = match word(packet, 2)? {
        // Segmentation offload: the length was not filled in.
        0 => packet.len(),
        total => usize::from(total),
    };
    let flags = word(packet, 6)?;
    let fragment = (flags & 0x3fff != 0).then(|| Fragment {
        id: u32::from(u16::from_be_bytes([head[4], head[5]])),
        offset: usize::from(flags & 0x1fff) * 8,
        more: flags & 0x2000 != 0,
    });
    let source: [u8; 4] = *packet.get(12..)?.first_chunk()?;
    let destination: [u8; 4] = *packet.get(16..)?.first_chunk()?;
    Some(Peeled {
        source: Ipv4Addr::from(source).into(),
        destination: Ipv4Addr::from(destination).into(),
        protocol: head[9],
        fragment,
        body: packet.get(header.max(20)..total.min(packet.len()))?,
        cut: total > packet.len(),
    })
}

fn ipv6(packet: &[u8]) -> Option<Peeled<'_>> {
    let head = packet.first_chunk::<40>()?;
    if head[0] >> 4 != 6 {
        return None;
    }
    let end = 40 + usize::from(word(packet, 4)?);
    let (mut next, mut at, mut fragment) = (head[6], 40, None);
    // Hop-by-hop, routing, destination options and fragment headers.
    while matches!(next, 0 | 43 | 60 | 44) {
        let extension = packet.get(at..)?.first_chunk::<8>()?;
        if next == 44 {
            let flags = u16::from_be_bytes([extension[2], extension[3]]);
            if flags & 0xfff9 != 0 {
                let id = u32::from_be_bytes([extension[4], extension[5], extension[6], extension[7]]);
                fragment = Some(Fragment { id, offset: usize::from(flags & 0xfff8), more: flags & 1 != 0 });
            }
            at += 8;
        } else {
            at += (usize::from(extension[1]) + 1) * 8;
        }
        next = extension[0];
        if fragment.is_some() {
            break;
        }
    }
    let source: [u8; 16] = *packet.get(8..)?.first_chunk()?;
    let destination: [u8; 16] = *packet.get(24..)?.first_chunk()?;
    Some(Peeled {
        source: Ipv6Addr::from(source).into(),
        destination: Ipv6Addr::from(destination).into(),
        protocol: next,
        fragment,
        body: packet.get(at..end.min(packet.len()))?,
        cut: end > packet.len(),
    })
}

/// The ports and the payload of a UDP datagram, and whether it is longer than what is there.
pub(super) fn udp(body: &[u8]) -> Option<((u16, u16), &[u8], bool)> {
    let (ports, payload) = ((word(body, 0)?, word(body, 2)?), body.get(8..)?);
    let length = usize::from(word(body, 4)?);
    if length < 8 {
        return Some((ports, payload, false));
    }
    let want = length - 8;
    Some((ports, payload.get(..want).unwrap_or(payload), want > payload.len()))
}
