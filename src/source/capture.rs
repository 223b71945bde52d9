//! pcap and pcapng: frames to UDP payloads.

use super::link::{Peeled, is_known, peel, udp};
use super::reassembly::Reassembly;
use super::{Datagram, SourceError, SourceStats};
use pcap_parser::traits::{PcapNGPacketBlock as _, PcapReaderIterator};
use pcap_parser::{Block, PcapBlockOwned, PcapError, create_reader};
use std::io::Read;

/// Bytes of the read buffer; a block longer than it makes it grow to the limit.
const BUFFER: usize = 1 << 20;
const BUFFER_LIMIT: usize = 4 << 20;

pub(super) struct Capture {
    reader: Box<dyn PcapReaderIterator + Send>,
    interfaces: Vec<Interface>,
    frame: Vec<u8>,
    payload: Vec<u8>,
    reassembly: Reassembly,
    stats: SourceStats,
    position: u64,
    buffer: usize,
    // The first link type that is not known.
    unknown_link: Option<i32>,
    ended: bool,
}

/// What a frame's interface says about it.
#[derive(Clone, Copy)]
struct Interface {
    link: i32,
    /// Units of a second; 0 stands for none.
    resolution: u64,
    offset: i64,
}

/// Where and when a frame was captured.
struct Frame {
    link: i32,
    time_us: i64,
    cut: bool,
}

impl Capture {
    pub(super) fn new(reader: impl Read + Send + 'static) -> Result<Self, SourceError> {
        let reader = create_reader(BUFFER, reader).map_err(|e| SourceError::new(0, reason(&e)))?;
        Ok(Self {
            reader,
            interfaces: Vec::new(),
            frame: Vec::new(),
            payload: Vec::new(),
            reassembly: Reassembly::default(),
            stats: SourceStats::default(),
            position: 0,
            buffer: BUFFER,
            unknown_link: None,
            ended: false,
        })
    }

    pub(super) fn stats(&self) -> SourceStats {
        // At the end what is not whole stays so.
        let left = if self.ended { self.reassembly.waiting() } else { 0 };
        SourceStats { fragments_lost: self.reassembly.lost + left, ..self.stats }
    }

    pub(super) fn next(&mut self) -> Option<Result<Datagram<'_>, SourceError>> {
        let (source, destination, cut, received_us) = loop {
            let frame = match self.read_frame() {
                Ok(Some(frame)) => frame,
                Ok(None) => {
                    self.ended = true;
                    let link = self.unknown_link.take()?;
                    let n = self.stats.unknown_link;
                    let what = format!("{n} frames are of link types that are not known ({link}), up to the end");
                    return Some(Err(SourceError::new(self.position, what)));
                }
                Err(e) => {
                    self.ended = true;
                    return Some(Err(e));
                }
            };
            self.stats.frames += 1;
            if !is_known(frame.link) {
                self.stats.unknown_link += 1;
                self.unknown_link.get_or_insert(frame.link);
                continue;
            }
            let Some(packet) = peel(frame.link, &self.frame) else {
                self.stats.not_ip += 1;
                continue;
            };
            if packet.protocol != 17 {
                self.stats.not_udp += 1;
                continue;
            }
            let Peeled { source, destination, cut, .. } = packet;
            let whole = match packet.fragment {
                None => {
                    self.payload.clear();
                    self.payload.extend_from_slice(packet.body);
                    true
                }
                Some(_) => {
                    self.stats.fragments += 1;
                    self.reassembly.add(&packet, frame.time_us, &mut self.payload)
                }
            };
            if !whole {
                continue;
            }
            if self.payload.len() < 8 {
                self.stats.not_udp += 1;
                continue;
            }
            break (source, destination, cut || frame.cut, frame.time_us);
        };
        let (ports, bytes, short) = udp(&self.payload)?;
        self.stats.truncated += u64::from(cut || short);
        Some(Ok(Datagram {
            frame: self.stats.frames,
            bytes,
            exporter: (source, ports.0).into(),
            destination: (destination, ports.1).into(),
            received_us,
        }))
    }

    /// Copies the next frame into `self.frame`.
    fn read_frame(&mut self) -> Result<Option<Frame>, SourceError> {
        loop {
            let (used, found) = match self.reader.next() {
                Ok((used, block)) => (used, take(block, &mut self.interfaces, &mut self.frame)),
                Err(PcapError::Eof) => return Ok(None),
                Err(PcapError::Incomplete(_)) => {
                    if self.reader.reader_exhausted() {
                        let left = self.reader.data().len();
                        return Err(SourceError::new(
                            self.position,
                            format!("the file ends in a block, {left} bytes of it are there"),
                        ));
                    }
                    self.reader.refill().map_err(|e| SourceError::new(self.position, reason(&e)))?;
                    continue;
                }
                Err(PcapError::BufferTooSmall) => {
                    self.buffer *= 4;
                    if self.buffer > BUFFER_LIMIT || !self.reader.grow(self.buffer) {
                        return Err(SourceError::new(self.position, "a block of more than 4 MiB"));
                    }
                    self.reader.refill().map_err(|e| SourceError::new(self.position, reason(&e)))?;
                    continue;
                }
                Err(e) => {
                    let reason = reason(&e);
                    return Err(SourceError::new(self.position, reason));
                }
            };
            self.reader.consume(used);
            self.position += used as u64;
            if let Some(frame) = found {
                return Ok(Some(frame));
            }
        }
    }
}

fn take(block: PcapBlockOwned<'_>, interfaces: &mut Vec<Interface>, frame: &mut Vec<u8>) -> Option<Frame> {
    match block {
        PcapBlockOwned::LegacyHeader(h) => {
            let resolution = if h.is_nanosecond_precision() { 1_000_000_000 } else { 1_000_000 };
            *interfaces = vec![Interface { link: h.network.0 & 0xffff, resolution, offset: 0 }];
            None
        }
        PcapBlockOwned::Legacy(p) => {
            let interface = interfaces.first()?;
            frame.clear();
            frame.extend_from_slice(p.data);
            let nanos = interface.resolution == 1_000_000_000;
            let micros = if nanos { p.ts_usec / 1000 } else { p.ts_usec };
            let time_us = i64::from(p.ts_sec) * 1_000_000 + i64::from(micros);
            Some(Frame { link: interface.link, time_us, cut: p.caplen < p.origlen })
        }
        PcapBlockOwned::NG(Block::SectionHeader(_)) => {
            interfaces.clear();
            None
        }
        PcapBlockOwned::NG(Block::InterfaceDescription(d)) => {
            // A file of endless interfaces is bounded: later ones have no frames we would know.
            if interfaces.len() < 65_536 {
                let resolution = d.ts_resolution().unwrap_or(1_000_000);
                interfaces.push(Interface { link: d.linktype.0 & 0xffff, resolution, offset: d.if_tsoffset });
            }
            None
        }
        PcapBlockOwned::NG(Block::EnhancedPacket(p)) => {
            let interface = *interfaces.get(p.if_id as usize)?;
            frame.clear();
            frame.extend_from_slice(p.packet_data());
            let ticks = u64::from(p.ts_high) << 32 | u64::from(p.ts_low);
            let resolution = u128::from(interface.resolution.max(1));
            let micros = i64::try_from(u128::from(ticks) * 1_000_000 / resolution).unwrap_or(i64::MAX);
            let time_us = micros.saturating_add(interface.offset.saturating_mul(1_000_000));
            Some(Frame { link: interface.link, time_us, cut: p.caplen < p.origlen })
        }
        PcapBlockOwned::NG(Block::SimplePacket(p)) => {
            let interface = *interfaces.first()?;
            frame.clear();
            frame.extend_from_slice(p.packet_data());
            Some(Frame { link: interface.link, time_us: 0, cut: (frame.len() as u64) < u64::from(p.origlen) })
        }
        PcapBlockOwned::NG(_) => None,
    }
}

fn reason<I: std::fmt::Debug>(error: &PcapError<I>) -> String {
    match error {
        PcapError::HeaderNotRecognized => "neither pcap nor pcapng".to_owned(),
        PcapError::ReadError => "the file cannot be read on".to_owned(),
        PcapError::UnexpectedEof | PcapError::Incomplete(_) | PcapError::Eof => "the file ends in a block".to_owned(),
        PcapError::BufferTooSmall => "a block too long to hold".to_owned(),
        PcapError::NomError(_, kind) | PcapError::OwnedNomError(_, kind) => format!("a damaged block ({kind:?})"),
    }
}
