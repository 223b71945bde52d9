//! Datagrams into a pcap file: Ethernet frames, as a port mirror would give them.

use crate::error::Error;
use crate::send::{Batch, Output};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

/// Locally administered addresses for both ends, then the Ethernet type, which follows.
const MACS: [u8; 12] = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];

/// A capture file that is being written.
pub(crate) struct Capture {
    file: BufWriter<File>,
    path: PathBuf,
    to: SocketAddr,
    sources: Vec<SocketAddr>,
    frame: Vec<u8>,
}

impl Capture {
    /// Creates the file for datagrams from the sources.
    pub fn create(path: &Path, to: SocketAddr, sources: Vec<SocketAddr>) -> Result<Self, Error> {
        let failed = || Error::system(format!("cannot write {}", path.display()));
        let mut file = BufWriter::with_capacity(1 << 20, File::create(path).map_err(failed())?);
        // Microseconds, version 2.4, no time zone, whole frames, Ethernet.
        let mut head = 0xa1b2_c3d4_u32.to_le_bytes().to_vec();
        head.extend([2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        head.extend(262_144_u32.to_le_bytes());
        head.extend(1_u32.to_le_bytes());
        file.write_all(&head).map_err(failed())?;
        Ok(Self { file, path: path.into(), to, sources, frame: Vec::new() })
    }

    fn failed(&self) -> impl FnOnce(io::Error) -> Error + use<> {
        Error::system(format!("cannot write {}", self.path.display()))
    }
}

impl Output for Capture {
    fn deliver(&mut self, batch: Batch<'_>) -> Result<(), Error> {
        for (stream, parts) in batch.datagrams() {
            self.frame.clear();
            frame(self.sources[stream as usize], self.to, parts, &mut self.frame);
            let length = (self.frame.len() as u32).to_le_bytes();
            let seconds = (batch.unix_us.div_euclid(1_000_000) as u32).to_le_bytes();
            let micros = (batch.unix_us.rem_euclid(1_000_000) as u32).to_le_bytes();
            let head = [seconds, micros, length, length].concat();
            self.file.write_all(&head).and_then(|()| self.file.write_all(&self.frame)).map_err(self.failed())?;
        }
        Ok(())
    }

    fn end(&mut self) -> Result<u64, Error> {
        self.file.flush().map_err(self.failed()).map(|()| 0)
    }
}

/// Appends an Ethernet frame with a UDP datagram. Datagrams longer than a frame may be are written whole, as captures
/// of offloading machines have them.
fn frame(from: SocketAddr, to: SocketAddr, payload: [&[u8]; 2], out: &mut Vec<u8>) {
    let length = 8 + payload[0].len() + payload[1].len();
    let mut udp = Vec::with_capacity(length);
    udp.extend(from.port().to_be_bytes());
    udp.extend(to.port().to_be_bytes());
    udp.extend((length as u16).to_be_bytes());
    udp.extend([0, 0]);
    udp.extend_from_slice(payload[0]);
    udp.extend_from_slice(payload[1]);
    out.extend(MACS);
    let addresses = match (from.ip(), to.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            out.extend([0x08, 0x00]);
            let start = out.len();
            out.extend([0x45, 0]);
            out.extend(((20 + length) as u16).to_be_bytes());
            // Don't fragment, time to live 64, UDP, and room for the checksum.
            out.extend([0, 0, 0x40, 0, 64, 17, 0, 0]);
            out.extend(from.octets());
            out.extend(to.octets());
            let checksum = fold(sum(&out[start..]));
            out[start + 10..start + 12].copy_from_slice(&checksum.to_be_bytes());
            sum(&from.octets()) + sum(&to.octets())
        }
        (from, to) => {
            let v6 = |ip: IpAddr| match ip {
                IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
                IpAddr::V6(ip) => ip.octets(),
            };
            out.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
            out.extend((length as u16).to_be_bytes());
            out.extend([17, 64]);
            out.extend(v6(from));
            out.extend(v6(to));
            sum(&v6(from)) + sum(&v6(to))
        }
    };
    // The checksum covers addresses, protocol, length and all of the datagram; 0 would mean that there is none.
    let checksum = match fold(addresses + 17 + length as u64 + sum(&udp)) {
        0 => 0xffff,
        checksum => checksum,
    };
    udp[6..8].copy_from_slice(&checksum.to_be_bytes());
    out.extend(udp);
}

/// The sum of 16-bit words, RFC 1071, with carries.
fn sum(bytes: &[u8]) -> u64 {
    bytes.chunks(2).map(|word| u64::from(word[0]) << 8 | word.get(1).copied().map_or(0, u64::from)).sum()
}

fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}
