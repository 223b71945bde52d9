//! Where exporters stand: their addresses, ports and sockets.
//!
//! Few exporters get a connected socket each, the fastest way to send. Many of them share one socket a port, which
//! gives each datagram its source address (`IP_PKTINFO`): a million exporters need no million descriptors.

use crate::error::Error;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Exporters that get a socket each, at most.
pub(crate) const CONNECTED: usize = 64;
/// The first port of exporters in a file, where no system chooses one.
const FILE_PORT: u16 = 50_000;

/// An exporter by number, and which of its ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Source {
    pub exporter: u32,
    pub port: u16,
}

/// A source's place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub exporter: u32,
    /// Which of the sources it is.
    pub source: u32,
    pub address: SocketAddr,
    /// The source address that each datagram has to name, where its socket serves many.
    pub pinned: Option<Ipv4Addr>,
}

/// A socket to be, and the places that it serves.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lane {
    pub first: u32,
    pub end: u32,
    bind: SocketAddr,
    connect: bool,
}

/// Places in the order of their lanes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Layout {
    pub places: Vec<Place>,
    pub lanes: Vec<Lane>,
}

/// Where datagrams go, and where they seem to come from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ends {
    pub to: SocketAddr,
    pub from: Option<IpAddr>,
    pub source_port: Option<u16>,
}

impl Ends {
    /// The first exporter's address, where exporters have addresses of their own.
    fn first(&self) -> Option<IpAddr> {
        match self.to.ip() {
            _ if self.from.is_some() => self.from,
            IpAddr::V4(ip) if ip.is_loopback() => Some(Ipv4Addr::new(127, 1, 0, 1).into()),
            _ => None,
        }
    }

    /// Whether sources can stand there: in sockets, or written down.
    pub fn check(&self, sources: &[Source], written: bool) -> Result<(), Error> {
        match self.from {
            Some(from) if from.is_ipv4() != self.to.is_ipv4() => {
                Err(Error::asked(format!("exporters at {from} cannot send to {}: IPv4 and IPv6 do not mix", self.to)))
            }
            _ if self.to.port() == 0 => Err(Error::asked("nobody can listen on port 0; give another")),
            _ => {
                let first = if written { Some(self.first_written()) } else { self.first() };
                first.map_or(Ok(()), |first| has_addresses(first, sources))?;
                let base = self.source_port.or(written.then_some(FILE_PORT));
                base.map_or(Ok(()), |base| has_ports(base, sources, first.is_some()))
            }
        }
    }

    /// The first exporter's address in a file.
    fn first_written(&self) -> IpAddr {
        self.first().unwrap_or(match self.to {
            SocketAddr::V4(_) => Ipv4Addr::new(192, 0, 2, 1).into(),
            SocketAddr::V6(_) => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into(),
        })
    }

    fn unspecified(&self) -> IpAddr {
        if self.to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() }
    }

    fn port(&self, offset: u32) -> u16 {
        self.source_port.map_or(0, |p| p.wrapping_add(offset as u16))
    }
}

/// Whether there are addresses from the first on for all exporters; those of 127/8 stay in it.
fn has_addresses(first: IpAddr, sources: &[Source]) -> Result<(), Error> {
    let by = sources.iter().map(|s| s.exporter).max().unwrap_or(0);
    let is_there = match first {
        IpAddr::V4(v4) => v4
            .to_bits()
            .checked_add(by)
            .is_some_and(|last| !v4.is_loopback() || Ipv4Addr::from_bits(last).is_loopback()),
        IpAddr::V6(v6) => v6.to_bits().checked_add(by.into()).is_some(),
    };
    let range = if first.is_loopback() && first.is_ipv4() { " of 127/8" } else { "" };
    let exporters = u64::from(by) + 1;
    let refusal =
        || Error::asked(format!("from {first} on there are no {exporters} addresses{range}; give a lower --from"));
    is_there.then_some(()).ok_or_else(refusal)
}

/// Whether there are ports from the first on for all sources: of each exporter, or of all together.
fn has_ports(first: u16, sources: &[Source], have_addresses: bool) -> Result<(), Error> {
    let of_each = sources.iter().map(|s| u64::from(s.port) + 1).max().unwrap_or(0);
    let ports = if have_addresses { of_each } else { sources.len() as u64 };
    if u64::from(first) + ports > 1 << 16 {
        return Err(Error::asked(format!("from {first} on there are no {ports} ports; give a lower --source-port")));
    }
    Ok(())
}

impl Layout {
    /// Sockets for the sources: one each for up to `connected` of them.
    pub fn sockets(sources: &[Source], ends: &Ends, connected: usize) -> Self {
        match (ends.first(), sources.len() <= connected) {
            (Some(IpAddr::V4(first)), false) => Self::shared(sources, first, ends),
            (first, _) => Self::apart(sources, first, ends),
        }
    }

    /// A connected socket for each source.
    fn apart(sources: &[Source], first: Option<IpAddr>, ends: &Ends) -> Self {
        let mut layout = Self::default();
        for (at, source) in (0..).zip(sources) {
            // Without an address of its own, an exporter is known by its port alone.
            let bind = match first {
                Some(first) => SocketAddr::new(offset(first, source.exporter), ends.port(source.port.into())),
                None => SocketAddr::new(ends.unspecified(), ends.port(at)),
            };
            layout.places.push(Place { exporter: source.exporter, source: at, address: bind, pinned: None });
            layout.lanes.push(Lane { first: at, end: at + 1, bind, connect: true });
        }
        layout
    }

    /// A socket for each port, whatever the address.
    fn shared(sources: &[Source], first: Ipv4Addr, ends: &Ends) -> Self {
        let mut by_port: Vec<Vec<(u32, u32)>> = Vec::new();
        for (at, source) in (0..).zip(sources) {
            let port = usize::from(source.port);
            if by_port.len() <= port {
                by_port.resize_with(port + 1, Vec::new);
            }
            by_port[port].push((at, source.exporter));
        }
        let mut layout = Self::default();
        for (port, exporters) in (0..).zip(by_port).filter(|(_, exporters)| !exporters.is_empty()) {
            let start = layout.places.len() as u32;
            for (source, exporter) in exporters {
                let address = add_v4(first, exporter);
                let place = SocketAddr::new(address.into(), ends.port(port));
                layout.places.push(Place { exporter, source, address: place, pinned: Some(address) });
            }
            let bind = SocketAddr::new(ends.unspecified(), ends.port(port));
            layout.lanes.push(Lane { first: start, end: layout.places.len() as u32, bind, connect: false });
        }
        layout
    }

    /// The address of each place.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.places.iter().map(|place| place.address).collect()
    }

    /// Addresses and ports to write down; there are no sockets, and one lane.
    pub fn written(sources: &[Source], ends: &Ends) -> Self {
        let first = ends.first_written();
        let base = ends.source_port.unwrap_or(FILE_PORT);
        let places = (0..).zip(sources).map(|(at, source)| {
            let address = SocketAddr::new(offset(first, source.exporter), base.wrapping_add(source.port));
            Place { exporter: source.exporter, source: at, address, pinned: None }
        });
        let end = sources.len() as u32;
        Self { places: places.collect(), lanes: vec![Lane { first: 0, end, bind: ends.to, connect: false }] }
    }
}

/// All sources of so many exporters and ports whose number leaves `part` when divided by `parts`.
pub(crate) fn sources(exporters: u32, ports: u16, part: u32, parts: u32) -> Vec<Source> {
    let exporters = |port| (0..exporters).map(move |exporter| Source { exporter, port });
    let all = (0..ports).flat_map(exporters);
    (0..).zip(all).filter(|(at, _)| at % parts == part).map(|(_, source)| source).collect()
}

/// Numbers the addresses of a capture's exporters, and the ports of each, in the order in which they appear.
#[derive(Default)]
pub(crate) struct Numbering {
    /// The number of an address, and its ports so far.
    exporters: HashMap<IpAddr, (u32, u16)>,
    sources: HashMap<SocketAddr, (u32, Source)>,
}

impl Numbering {
    /// A source, and which one it is.
    pub fn number(&mut self, address: SocketAddr) -> (u32, Source) {
        let (at, next) = (self.sources.len() as u32, self.exporters.len() as u32);
        let exporters = &mut self.exporters;
        *self.sources.entry(address).or_insert_with(|| {
            let (exporter, ports) = exporters.entry(address.ip()).or_insert((next, 0));
            *ports += 1;
            (at, Source { exporter: *exporter, port: *ports - 1 })
        })
    }
}

fn add_v4(first: Ipv4Addr, by: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(first.to_bits().wrapping_add(by))
}

fn offset(first: IpAddr, by: u32) -> IpAddr {
    match first {
        IpAddr::V4(first) => add_v4(first, by).into(),
        IpAddr::V6(first) => Ipv6Addr::from_bits(first.to_bits().wrapping_add(by.into())).into(),
    }
}

impl Lane {
    /// Opens the socket; `true` if it is connected.
    pub fn open(&self, to: SocketAddr) -> Result<(Socket, bool), Error> {
        let refused = |e: std::io::Error| match e.raw_os_error() {
            Some(libc::EMFILE) => Error::asked("more sockets than this process may open; raise `ulimit -n`"),
            Some(libc::EADDRNOTAVAIL) => {
                Error::asked(format!("{} is no address of this machine; give another --from", self.bind.ip()))
            }
            _ => Error::System(format!("cannot send from {}", self.bind), e),
        };
        let socket = Socket::new(Domain::for_address(to), Type::DGRAM, Some(Protocol::UDP)).map_err(refused)?;
        // As much as the system allows: a train waits here while the network is busy.
        let _ = socket.set_send_buffer_size(4 << 20);
        if !self.connect && self.bind.port() != 0 {
            // Sending threads share a port that was asked for.
            socket.set_reuse_port(true).map_err(refused)?;
        }
        socket.bind(&SockAddr::from(self.bind)).map_err(refused)?;
        if self.connect {
            socket.connect(&SockAddr::from(to)).map_err(Error::system(format!("cannot send to {to}")))?;
        }
        Ok((socket, self.connect))
    }
}
