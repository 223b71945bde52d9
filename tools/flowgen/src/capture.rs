//! Capture files: the UDP payloads in pcap and pcapng.

use crate::error::Error;
use pcap_parser::traits::PcapNGPacketBlock as _;
use pcap_parser::{Block, PcapBlockOwned, PcapError, create_reader};
use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

/// Bytes of the read buffer: longer than any frame.
const BUFFER: usize = 4 << 20;

/// Where frames come from, in a pcapng file with several interfaces.
#[derive(Clone, Copy)]
struct Interface {
    link: i32,
    /// Units of a second.
    resolution: u64,
    offset_s: i64,
}

/// Calls `each` with the time (microseconds since 1970), the frame's link type and its bytes. Whether the file is whole: one that
/// was copied while it was written ends in the middle of a block, and what is before that can be told all the same.
pub(crate) fn frames(path: &Path, mut each: impl FnMut(i64, i32, &[u8])) -> Result<bool, Error> {
    let wrong = |what: &str| Error::Capture(format!("{}: {what}", path.display()));
    let file = File::open(path).map_err(Error::system(format!("cannot read {}", path.display())))?;
    let mut reader = create_reader(BUFFER, file).map_err(|_| wrong("neither pcap nor pcapng"))?;
    let mut interfaces: Vec<Interface> = Vec::new();
    loop {
        let used = match reader.next() {
            Ok((used, block)) => {
                frame(block, &mut interfaces, &mut each);
                used
            }
            Err(PcapError::Eof) => return Ok(true),
            Err(PcapError::UnexpectedEof) => return Ok(false),
            Err(PcapError::Incomplete(_)) => {
                if reader.reader_exhausted() {
                    return Ok(false);
                }
                reader.refill().map_err(|_| wrong("cannot be read on"))?;
                continue;
            }
            Err(_) => return Err(wrong("has a damaged block")),
        };
        reader.consume(used);
    }
}

fn frame(block: PcapBlockOwned<'_>, interfaces: &mut Vec<Interface>, each: &mut impl FnMut(i64, i32, &[u8])) {
    match block {
        PcapBlockOwned::LegacyHeader(h) => {
            let resolution = if h.is_nanosecond_precision() { 1_000_000_000 } else { 1_000_000 };
            *interfaces = vec![Interface { link: h.network.0 & 0xffff, resolution, offset_s: 0 }];
        }
        PcapBlockOwned::Legacy(p) => {
            if let Some(interface) = interfaces.first() {
                let micros = i64::from(p.ts_usec) * 1_000_000 / interface.resolution as i64;
                each(i64::from(p.ts_sec) * 1_000_000 + micros, interface.link, p.data);
            }
        }
        PcapBlockOwned::NG(Block::SectionHeader(_)) => interfaces.clear(),
        PcapBlockOwned::NG(Block::InterfaceDescription(d)) => {
            let resolution = d.ts_resolution().unwrap_or(1_000_000).max(1);
            interfaces.push(Interface { link: d.linktype.0 & 0xffff, resolution, offset_s: d.if_tsoffset });
        }
        PcapBlockOwned::NG(Block::EnhancedPacket(p)) => {
            if let Some(interface) = interfaces.get(p.if_id as usize) {
                let ticks = u128::from(p.ts_high) << 32 | u128::from(p.ts_low);
                let micros = i64::try_from(ticks * 1_000_000 / u128::from(interface.resolution)).unwrap_or(0);
                let time = micros.saturating_add(interface.offset_s.saturating_mul(1_000_000));
                each(time, interface.link, p.packet_data());
            }
        }
        _ => {}
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// The source and the payload of a UDP datagram that a frame holds whole.
pub(crate) fn udp(link: i32, frame: &[u8]) -> Option<(SocketAddr, &[u8])> {
    let (mut kind, mut at) = match link {
        1 => (u16_at(frame, 12)?, 14),
        113 => (u16_at(frame, 14)?, 16),
        276 => (u16_at(frame, 0)?, 20),
        // No link layer, or one that only says IPv4 or IPv6, which the packet says as well.
        0 | 108 => (0, 4),
        12 | 14 | 101 | 228 | 229 => (0, 0),
        _ => return None,
    };
    while matches!(kind, 0x8100 | 0x88a8 | 0x9100) {
        kind = u16_at(frame, at + 2)?;
        at += 4;
    }
    if !matches!(kind, 0 | 0x0800 | 0x86dd) {
        return None;
    }
    let packet = frame.get(at..)?;
    let (source, udp): (IpAddr, &[u8]) = match packet.first()? >> 4 {
        4 => {
            let fragment = u16_at(packet, 6)? & 0x3fff != 0;
            if fragment || *packet.get(9)? != 17 {
                return None;
            }
            let source: [u8; 4] = *packet.get(12..)?.first_chunk()?;
            (Ipv4Addr::from(source).into(), packet.get(usize::from(packet[0] & 15) * 4..)?)
        }
        6 => {
            if *packet.get(6)? != 17 {
                return None;
            }
            let source: [u8; 16] = *packet.get(8..)?.first_chunk()?;
            (Ipv6Addr::from(source).into(), packet.get(40..)?)
        }
        _ => return None,
    };
    let length = usize::from(u16_at(udp, 4)?);
    Some((SocketAddr::new(source, u16_at(udp, 0)?), udp.get(8..length)?))
}
