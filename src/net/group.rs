//! Opening the sockets of one address, so that nothing is received before all of them stand.

use super::{
    OpenError, OpenErrorKind, Options, Receiver, Steering, Transport, Warning, receiver::Slot, steer::CLOSED, sys,
};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::{
    fmt, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    os::fd::AsFd,
    sync::Arc,
};

/// How often another port is tried where port 0 leaves the choice to the system and another process is faster.
pub(super) const PORT_TRIES: usize = 16;

/// Every address of this host, IPv4 and IPv6, as [`Group::open`] takes it.
pub fn any(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))
}

/// Sockets that share one address and port, one for each receiver.
pub struct Group {
    sockets: Arc<Sockets>,
    warnings: Vec<Warning>,
}

/// The sockets of a group, closed together: the kernel would move the last one into the place of one that goes alone,
/// and sources would change their receiver.
pub(super) struct Sockets {
    pub sockets: Vec<Socket>,
    /// What each socket refused before the group was whole, which the kernel counts as dropped.
    pub refused: Vec<u32>,
    pub local: SocketAddr,
    pub interface: Option<Arc<str>>,
}

/// Where a socket listens; on one interface alone, where that was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Local {
    /// Its address.
    pub address: SocketAddr,
    /// The name of its interface.
    pub interface: Option<Arc<str>>,
}

impl fmt::Display for Local {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.interface {
            Some(interface) => write!(f, "{}@{interface}", self.address),
            None => self.address.fmt(f),
        }
    }
}

impl Group {
    /// Opens `n` sockets (at least one) on `address`; port 0 takes a free one.
    ///
    /// `[::]` is dual-stack, and becomes `0.0.0.0` where the host has no IPv6. Another process's socket on the port is
    /// an error even if it allows sharing. The order matters: the steering program is attached to the first socket
    /// before it is bound, and every socket refuses everything until the last is bound, so that no datagram is queued
    /// at a socket that does not own its source.
    ///
    /// # Errors
    /// [`OpenError`], with a text that says what to do.
    pub fn open(address: SocketAddr, n: usize, options: &Options) -> Result<Self, OpenError> {
        let mut tries = PORT_TRIES;
        loop {
            match Self::open_once(address, n.max(1), options) {
                Err(OpenError { kind: OpenErrorKind::AddressInUse, .. }) if address.port() == 0 && tries > 0 => {
                    tries -= 1;
                }
                result => return result,
            }
        }
    }

    /// A group of one socket that another process bound and handed over, as systemd does: what is set without binding is
    /// set, and one receiver has it.
    ///
    /// # Errors
    /// [`OpenError`]: it is no such socket.
    pub fn adopt(socket: &UdpSocket, options: &Options) -> Result<Self, OpenError> {
        let nowhere = any(0);
        let local = socket.local_addr().map_err(|error| OpenError::new(nowhere, "getsockname", &error))?;
        let socket = Socket::from(socket.try_clone().map_err(|error| OpenError::new(local, "fcntl", &error))?);
        socket.set_nonblocking(false).map_err(|error| OpenError::new(local, "fcntl", &error))?;
        let warnings = configure(&socket, options).collect();
        let sockets = vec![socket];
        // What came before counts as dropped already.
        let refused = sockets.iter().map(|socket| sys::drops(socket.as_fd()).unwrap_or(0)).collect();
        Ok(Self { sockets: Arc::new(Sockets { sockets, refused, local, interface: None }), warnings })
    }

    /// The address and port that the sockets are bound to.
    pub fn local_addr(&self) -> SocketAddr {
        self.sockets.local
    }

    /// How many sockets there are.
    pub fn sockets(&self) -> usize {
        self.sockets.sockets.len()
    }

    /// What the kernel did not give; each cause once.
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    /// One receiver a socket, in the sockets' order: [`receivers`] of this group alone.
    pub fn into_receivers(self) -> Vec<Receiver> {
        receivers(vec![self])
    }

    #[cfg(test)]
    pub(super) fn socket(&self, index: usize) -> &Socket {
        &self.sockets.sockets[index]
    }

    fn open_once(address: SocketAddr, n: usize, options: &Options) -> Result<Self, OpenError> {
        let asked = canonical(address);
        let mut warnings = Vec::new();
        let at = |step: &'static str| move |error: io::Error| OpenError::new(address, step, &error);

        let interface = options.interface.as_deref();
        let (local, warning) = try_bind(asked, Transport::Udp, interface).map_err(at("bind"))?;
        warnings.extend(warning);

        let mut sockets = Vec::with_capacity(n);
        let mut closed = false;
        for index in 0..n {
            let socket = new_socket(local, Transport::Udp).map_err(at("socket"))?;
            if let Some(interface) = interface {
                socket.bind_device(Some(interface.as_bytes())).map_err(at("setsockopt SO_BINDTODEVICE"))?;
            }
            if n > 1 {
                socket.set_reuse_port(true).map_err(at("setsockopt SO_REUSEPORT"))?;
            }
            if n > 1 && index == 0 && options.steering == Steering::Source {
                // A socket that has its program before it is bound cannot join another's group: the bind would fail.
                let program = options.steer.program(u32::try_from(n).unwrap_or(u32::MAX));
                if let Err(error) = sys::attach_steering(socket.as_fd(), &program) {
                    warnings.push(Warning::NotSteered { code: error.raw_os_error().unwrap_or(0) });
                }
            }
            for warning in configure(&socket, options) {
                if !warnings.contains(&warning) {
                    warnings.push(warning);
                }
            }
            // Where the kernel has no filters, early datagrams are the worse for it and nothing else.
            closed |= n > 1 && socket.attach_filter(&CLOSED).is_ok();
            socket.bind(&SockAddr::from(local)).map_err(at("bind"))?;
            sockets.push(socket);
        }
        for socket in sockets.iter().filter(|_| closed) {
            socket.detach_filter().map_err(at("setsockopt SO_DETACH_FILTER"))?;
        }
        let refused = sockets.iter().map(|socket| sys::drops(socket.as_fd()).unwrap_or(0)).collect();
        let interface = interface.map(Arc::from);
        Ok(Self { sockets: Arc::new(Sockets { sockets, refused, local, interface }), warnings })
    }
}

/// The receivers of several groups: receiver `i` owns socket `i` of each group that has one.
pub fn receivers(groups: Vec<Group>) -> Vec<Receiver> {
    let n = groups.iter().map(Group::sockets).max().unwrap_or(0);
    (0..n)
        .map(|index| {
            Receiver::new(
                groups
                    .iter()
                    .filter(|group| index < group.sockets())
                    .map(|group| Slot::new(Arc::clone(&group.sockets), index))
                    .collect(),
            )
        })
        .collect()
}

/// An IPv4-mapped address as IPv4.
pub(super) fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        IpAddr::V4(ip) => SocketAddr::from((ip, address.port())),
        IpAddr::V6(_) => address,
    }
}

/// A socket that is not bound; for connections one that may be bound where some of an earlier process linger.
pub(super) fn new_socket(address: SocketAddr, transport: Transport) -> io::Result<Socket> {
    let socket = match transport {
        Transport::Udp => Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?,
        Transport::Tcp => Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?,
    };
    if transport == Transport::Tcp {
        socket.set_reuse_address(true)?;
    }
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    Ok(socket)
}

/// A trial without SO_REUSEPORT: with it, a second process would silently take a share of the sources. Answers with the
/// address and the port that was free; with IPv4's where all addresses are asked for and the host has no IPv6.
pub(super) fn try_bind(
    address: SocketAddr,
    transport: Transport,
    interface: Option<&str>,
) -> io::Result<(SocketAddr, Option<Warning>)> {
    match bind_once(address, transport, interface) {
        Err(error) if address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED) && has_no_ipv6(&error) => {
            let all = SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port()));
            bind_once(all, transport, interface).map(|local| (local, Some(Warning::Ipv4Only)))
        }
        result => result.map(|local| (local, None)),
    }
}

fn bind_once(address: SocketAddr, transport: Transport, interface: Option<&str>) -> io::Result<SocketAddr> {
    let socket = new_socket(address, transport)?;
    if let Some(interface) = interface {
        socket.bind_device(Some(interface.as_bytes()))?;
    }
    socket.bind(&SockAddr::from(address))?;
    let bound = socket.local_addr()?.as_socket().map_or(address.port(), |bound| bound.port());
    let mut address = address;
    address.set_port(bound);
    Ok(address)
}

fn has_no_ipv6(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL))
}

/// Sets what the socket can do without, and says what it has to.
fn configure(socket: &Socket, options: &Options) -> impl Iterator<Item = Warning> {
    let buffer =
        (options.receive_buffer > 0).then(|| grow_receive_buffer(socket, options.receive_buffer, true)).flatten();
    let gro = (options.gro && sys::set_option(socket.as_fd(), libc::SOL_UDP, libc::UDP_GRO, 1).is_err())
        .then_some(Warning::NoGro);
    let timestamps = (options.timestamps
        && sys::set_option(socket.as_fd(), libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, 1).is_err())
    .then_some(Warning::NoTimestamps);
    [buffer, gro, timestamps].into_iter().flatten()
}

/// Asks for a receive buffer, past the system's limit where `force` is set and the process may, and reads it back.
pub(super) fn grow_receive_buffer(socket: &Socket, wanted: usize, force: bool) -> Option<Warning> {
    let bytes = i32::try_from(wanted).unwrap_or(i32::MAX);
    let forced = force && sys::set_option(socket.as_fd(), libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, bytes).is_ok();
    if !forced {
        // What this leaves is read below.
        let _ = sys::set_option(socket.as_fd(), libc::SOL_SOCKET, libc::SO_RCVBUF, bytes);
    }
    // The kernel doubles what it is asked for, to pay for its own bookkeeping.
    let given = socket.recv_buffer_size().map_or(0, |doubled| doubled / 2);
    (given < wanted).then_some(Warning::ReceiveBuffer { wanted, given })
}
