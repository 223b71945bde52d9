//! Repeating datagrams to other collectors, from the thread that received them and without ever waiting.

use super::{
    BURST, OpenError, OpenErrorKind, Packet,
    sys::{HEADER, Letter, Outbox},
};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::{
    fmt, io,
    net::{IpAddr, SocketAddr, UdpSocket},
    os::fd::AsFd,
};

/// Room that is asked for at each socket, so that a burst finds its place: the kernel gives what it allows.
const SEND_BUFFER: usize = 4 << 20;
const UDP_HEADER: usize = 8;
const UDP: u8 = 17;

/// Where datagrams are repeated to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MirrorOptions {
    /// Who gets a copy of each datagram.
    pub targets: Vec<SocketAddr>,
    /// Send with the exporter's address and port in place of ours: raw sockets, which need root or `CAP_NET_RAW`.
    pub keep_source: bool,
}

/// What one target got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MirrorStats {
    /// The target.
    pub target: SocketAddr,
    /// Datagrams handed to the kernel.
    pub sent: u64,
    /// Datagrams that the kernel had no room or no way for, and, where the source is kept, those of the other address
    /// family.
    pub unsent: u64,
    /// Why the last of them was not sent.
    pub why: Option<Unsent>,
}

/// Why a datagram was not repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unsent {
    /// It came by the other address family, and its source is kept.
    OtherFamily,
    /// It was longer than the room for it, or than a datagram with a header of its own may be.
    TooLong,
    /// The kernel did not take it.
    Refused {
        /// The system's error number.
        code: i32,
    },
}

impl fmt::Display for Unsent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OtherFamily => {
                f.write_str("a target of the other address family cannot be sent to with the source kept")
            }
            Self::TooLong => f.write_str("it is too long"),
            Self::Refused { code: libc::EAGAIN | libc::ENOBUFS } => f.write_str("the socket's buffer is full"),
            Self::Refused { code } => write!(f, "{}", io::Error::from_raw_os_error(*code)),
        }
    }
}

/// One thread's sockets to all targets.
pub struct Mirror {
    targets: Vec<Target>,
    outbox: Outbox,
    keep_source: bool,
}

struct Target {
    socket: Socket,
    name: SockAddr,
    stats: MirrorStats,
}

/// Datagrams of one burst on their way to a [`Mirror`]'s targets; sent when there are [`BURST`], and when dropped.
pub struct Copies<'m, 'p> {
    mirror: &'m mut Mirror,
    packets: [Option<Packet<'p>>; BURST],
    len: usize,
}

impl Mirror {
    /// Opens the sockets; `listening` are the collector's own addresses, which no target may be.
    ///
    /// # Errors
    /// [`OpenError`]: no such address family, a target that is ourselves, or no privilege to keep the source.
    pub fn open(options: &MirrorOptions, listening: &[SocketAddr]) -> Result<Self, OpenError> {
        let targets = options.targets.iter().map(|target| Target::open(*target, options.keep_source, listening));
        let targets = targets.collect::<Result<_, _>>()?;
        Ok(Self { targets, outbox: Outbox::new(BURST), keep_source: options.keep_source })
    }

    /// Takes the datagrams of a burst.
    pub fn copies<'p>(&mut self) -> Copies<'_, 'p> {
        Copies { mirror: self, packets: [None; BURST], len: 0 }
    }

    /// What each target got so far.
    pub fn stats(&self) -> impl Iterator<Item = MirrorStats> + '_ {
        self.targets.iter().map(|target| target.stats)
    }
}

impl<'p> Copies<'_, 'p> {
    /// One more.
    pub fn push(&mut self, packet: Packet<'p>) {
        if let Some(place) = self.packets.get_mut(self.len) {
            *place = Some(packet);
            self.len += 1;
        }
        if self.len == BURST {
            self.send();
        }
    }

    fn send(&mut self) {
        let Mirror { targets, outbox, keep_source } = &mut *self.mirror;
        let packets = self.packets.get(..self.len).unwrap_or_default();
        for Target { socket, name, stats } in targets {
            let mut letters = [Letter::default(); BURST];
            let mut len = 0;
            for packet in packets.iter().flatten() {
                if packet.truncated {
                    stats.why = Some(Unsent::TooLong);
                    continue;
                }
                let header = if *keep_source {
                    header(packet.source, stats.target, packet.bytes)
                } else {
                    Some(([0; HEADER], 0))
                };
                if let (Some((header, header_len)), Some(letter)) = (header, letters.get_mut(len)) {
                    *letter = Letter { header, header_len, payload: packet.bytes };
                    len += 1;
                } else {
                    let is_other = packet.source.is_ipv4() != stats.target.is_ipv4();
                    stats.why = Some(if is_other { Unsent::OtherFamily } else { Unsent::TooLong });
                }
            }
            let (sent, refused) = outbox.send(socket.as_fd(), name, letters.get(..len).unwrap_or_default());
            stats.sent += sent as u64;
            stats.why = refused.map(|code| Unsent::Refused { code }).or(stats.why);
            stats.unsent += self.len.saturating_sub(sent) as u64;
        }
        self.len = 0;
    }
}

impl Drop for Copies<'_, '_> {
    fn drop(&mut self) {
        if self.len > 0 {
            self.send();
        }
    }
}

impl Target {
    fn open(target: SocketAddr, keep_source: bool, listening: &[SocketAddr]) -> Result<Self, OpenError> {
        let target = SocketAddr::new(target.ip().to_canonical(), target.port());
        let at = |step: &'static str| move |error: io::Error| OpenError::new(target, step, &error).of_mirror();
        if listening.iter().any(|own| is_same(*own, target)) {
            let error = OpenError::new(target, "bind", &io::Error::from_raw_os_error(0));
            return Err(OpenError { kind: OpenErrorKind::MirrorLoop, ..error });
        }
        let (kind, protocol) =
            if keep_source { (Type::RAW, Protocol::from(libc::IPPROTO_RAW)) } else { (Type::DGRAM, Protocol::UDP) };
        let socket = Socket::new(Domain::for_address(target), kind, Some(protocol)).map_err(at("socket"))?;
        socket.set_nonblocking(true).map_err(at("fcntl O_NONBLOCK"))?;
        // Less room means more that is counted as not sent; nothing else depends on it.
        let _ = socket.set_send_buffer_size(SEND_BUFFER);
        // A raw socket of IPv6 takes no port: it stands in the header that is made.
        let name = if keep_source { SocketAddr::new(target.ip(), 0) } else { target };
        Ok(Self { socket, name: SockAddr::from(name), stats: MirrorStats { target, sent: 0, unsent: 0, why: None } })
    }
}

/// Whether what is sent to `target` comes to the socket that listens on `own`.
fn is_same(own: SocketAddr, target: SocketAddr) -> bool {
    let ours = || target.ip().is_unspecified() || UdpSocket::bind((target.ip(), 0)).is_ok();
    own.port() == target.port() && (own.ip().to_canonical() == target.ip() || own.ip().is_unspecified() && ours())
}

/// The IP and UDP header of a datagram, and their length; `None` where the two addresses are not of one family.
fn header(from: SocketAddr, to: SocketAddr, payload: &[u8]) -> Option<([u8; HEADER], usize)> {
    let udp_len = u16::try_from(UDP_HEADER + payload.len()).ok()?;
    let mut header = [0; HEADER];
    let mut at = 0;
    let mut put = |bytes: &[u8]| {
        if let Some(place) = header.get_mut(at..at + bytes.len()) {
            place.copy_from_slice(bytes);
            at += bytes.len();
        }
    };
    let mut sum = Sum(u64::from(UDP) + u64::from(udp_len));
    match (from.ip(), to.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            // The kernel fills in what is zero: the identification and the header's checksum.
            let total = udp_len.checked_add(20)?;
            put(&[0x45, 0]);
            put(&total.to_be_bytes());
            put(&[0, 0, 0, 0, 64, UDP, 0, 0]);
            put(&from.octets());
            put(&to.octets());
            sum.add(&from.octets());
            sum.add(&to.octets());
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            put(&[0x60, 0, 0, 0]);
            put(&udp_len.to_be_bytes());
            put(&[UDP, 64]);
            put(&from.octets());
            put(&to.octets());
            sum.add(&from.octets());
            sum.add(&to.octets());
        }
        _ => return None,
    }
    let (source, destination, len) = (from.port().to_be_bytes(), to.port().to_be_bytes(), udp_len.to_be_bytes());
    for part in [source, destination, len] {
        put(&part);
        sum.add(&part);
    }
    sum.add(payload);
    put(&sum.checksum().to_be_bytes());
    Some((header, at))
}

/// The Internet checksum (RFC 1071).
struct Sum(u64);

impl Sum {
    fn add(&mut self, bytes: &[u8]) {
        for pair in bytes.chunks(2) {
            let [high, low] = [pair.first(), pair.get(1)].map(|byte| byte.copied().unwrap_or(0));
            self.0 += u64::from(u16::from_be_bytes([high, low]));
        }
    }

    /// Zero stands for none in UDP, so it is written as its other form.
    fn checksum(self) -> u16 {
        let mut sum = self.0;
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        match !(sum as u16) {
            0 => 0xffff,
            checksum => checksum,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn packet(bytes: &[u8], source: SocketAddr) -> Packet<'_> {
        Packet { bytes, source, received_at_us: 0, truncated: false }
    }

    fn target(ip: &str) -> (UdpSocket, SocketAddr) {
        let socket = UdpSocket::bind((ip, 0)).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let address = socket.local_addr().unwrap();
        (socket, address)
    }

    fn next(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
        let mut bytes = vec![0; 1 << 16];
        let (len, from) = socket.recv_from(&mut bytes).unwrap();
        bytes.truncate(len);
        (bytes, from)
    }

    #[test]
    fn every_target_gets_every_datagram_as_it_was() {
        let ((a, to_a), (b, to_b)) = (target("127.0.0.1"), target("127.0.0.1"));
        // A broadcast address without leave to broadcast: refused a datagram at a time, and in nobody's way.
        let nowhere = SocketAddr::from(([255, 255, 255, 255], 9));
        let options = MirrorOptions { targets: vec![to_a, nowhere, to_b], keep_source: false };
        let mut mirror = Mirror::open(&options, &[]).unwrap();
        let datagrams: Vec<Vec<u8>> = (0..100u8).map(|i| vec![i; usize::from(i) * 5]).collect();
        let mut copies = mirror.copies();
        datagrams.iter().for_each(|bytes| copies.push(packet(bytes, to_a)));
        copies.push(Packet { truncated: true, ..packet(b"cut", to_a) });
        drop(copies);
        for socket in [&a, &b] {
            datagrams.iter().for_each(|bytes| assert_eq!(next(socket).0, *bytes));
        }
        let counted: Vec<(u64, u64)> = mirror.stats().map(|s| (s.sent, s.unsent)).collect();
        assert_eq!(counted, [(100, 1), (0, 101), (100, 1)]);
    }

    #[test]
    fn the_source_is_kept_where_privileges_allow() {
        let (socket, to) = target("127.0.0.1");
        let mut targets = vec![to];
        let six = UdpSocket::bind("[::1]:0").is_ok().then(|| target("::1"));
        targets.extend(six.as_ref().map(|six| six.1));
        let mut mirror = match Mirror::open(&MirrorOptions { targets, keep_source: true }, &[]) {
            Ok(mirror) => mirror,
            Err(error) => {
                assert_eq!(error.kind, OpenErrorKind::MirrorSource);
                assert!(error.to_string().contains("CAP_NET_RAW"), "{error}");
                return;
            }
        };
        let v4 = SocketAddr::from(([127, 9, 8, 7], 4711));
        let v6: SocketAddr = "[::1]:4712".parse().unwrap();
        for bytes in [&b"odd"[..], &[255; 1400], b""] {
            let mut copies = mirror.copies();
            copies.push(packet(bytes, v4));
            copies.push(packet(bytes, v6));
            drop(copies);
            assert_eq!(next(&socket), (bytes.to_vec(), v4));
            if let Some((six, _)) = &six {
                assert_eq!(next(six), (bytes.to_vec(), v6));
            }
        }
        assert!(mirror.stats().all(|s| (s.sent, s.unsent) == (3, 3)), "one of each pair is of the other family");
    }

    #[test]
    fn a_collector_is_not_its_own_mirror() {
        let own: SocketAddr = "[::]:2055".parse().unwrap();
        for (listening, to, refused) in [
            (own, "127.0.0.1:2055", true),
            ("127.0.0.1:2055".parse().unwrap(), "[::ffff:127.0.0.1]:2055", true),
            (own, "127.0.0.1:2056", false),
            (own, "192.0.2.7:2055", false),
        ] {
            let options = MirrorOptions { targets: vec![to.parse().unwrap()], keep_source: false };
            let result = Mirror::open(&options, &[listening]).map(drop);
            assert_eq!(result.err().map(|e| e.kind), refused.then_some(OpenErrorKind::MirrorLoop), "{to}");
        }
    }

    #[test]
    fn the_checksum_of_rfc_1071() {
        let mut sum = Sum(0);
        sum.add(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]);
        assert_eq!(sum.checksum(), !0xddf2);
    }
}
