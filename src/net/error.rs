//! What can go wrong, or less well than asked, when sockets are opened.

use std::{fmt, io, net::SocketAddr};

/// What a socket speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Transport {
    /// Datagrams.
    #[default]
    Udp,
    /// Connections.
    Tcp,
}

/// Why a [`Group`](super::Group) or [`Listeners`](super::Listeners) could not be opened. Its text says what to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenError {
    /// The address that was asked for.
    pub address: SocketAddr,
    /// What was to be spoken there.
    pub transport: Transport,
    /// The cause, as far as it has a name.
    pub kind: OpenErrorKind,
    /// The step that failed, as a system call's name.
    pub step: &'static str,
    /// The system's error number.
    pub code: i32,
}

/// The causes of an [`OpenError`] that a user can do something about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OpenErrorKind {
    /// Another socket has the port.
    AddressInUse,
    /// Another address that this process listens on has the port.
    ListensTwice {
        /// That address.
        other: SocketAddr,
    },
    /// The process may not have the port.
    PermissionDenied,
    /// No interface of this host has the address.
    AddressNotAvailable,
    /// The host has no such interface.
    NoInterface,
    /// The host has no such address family (IPv6 is off).
    FamilyUnsupported,
    /// The process or the host has no file descriptors or memory left.
    NoResources,
    /// A [`Mirror`](super::Mirror)'s target cannot be sent to.
    Mirror,
    /// A [`Mirror`](super::Mirror) may not send with the exporter's address.
    MirrorSource,
    /// A [`Mirror`](super::Mirror)'s target is this collector.
    MirrorLoop,
    /// Anything else: see [`OpenError::code`].
    Other,
}

impl OpenError {
    pub(super) fn new(address: SocketAddr, step: &'static str, error: &io::Error) -> Self {
        let code = error.raw_os_error().unwrap_or(0);
        let kind = match code {
            libc::EADDRINUSE => OpenErrorKind::AddressInUse,
            libc::EACCES | libc::EPERM => OpenErrorKind::PermissionDenied,
            libc::EADDRNOTAVAIL => OpenErrorKind::AddressNotAvailable,
            libc::ENODEV => OpenErrorKind::NoInterface,
            libc::EAFNOSUPPORT => OpenErrorKind::FamilyUnsupported,
            libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::ENOBUFS => OpenErrorKind::NoResources,
            _ => OpenErrorKind::Other,
        };
        Self { address, transport: Transport::Udp, kind, step, code }
    }

    /// The same, told apart where the port is one of those that this process listens on itself.
    pub fn beside(self, own: impl IntoIterator<Item = SocketAddr>) -> Self {
        let ip = self.address.ip().to_canonical();
        let has_port = |other: &SocketAddr| {
            let has_ip = other.ip().to_canonical() == ip || other.ip().is_unspecified() || ip.is_unspecified();
            has_ip && other.port() == self.address.port()
        };
        match own.into_iter().find(has_port) {
            Some(other) if self.kind == OpenErrorKind::AddressInUse => {
                Self { kind: OpenErrorKind::ListensTwice { other }, ..self }
            }
            _ => self,
        }
    }

    /// The same of a socket for connections.
    pub(super) fn of_tcp(self) -> Self {
        Self { transport: Transport::Tcp, ..self }
    }

    /// The same of a socket that is for sending.
    pub(super) fn of_mirror(self) -> Self {
        let kind = match self.kind {
            OpenErrorKind::PermissionDenied => OpenErrorKind::MirrorSource,
            _ => OpenErrorKind::Mirror,
        };
        Self { kind, ..self }
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, transport, kind, step, code } = self;
        let (name, letter) = if *transport == Transport::Tcp { ("TCP", 't') } else { ("UDP", 'u') };
        let port = address.port();
        match kind {
            OpenErrorKind::AddressInUse => write!(
                f,
                "cannot listen on {address}: another program has {name} port {port}; stop it \
                 (`ss -{letter}lnp 'sport = :{port}'` names it) or listen on another port"
            ),
            OpenErrorKind::ListensTwice { other } => write!(
                f,
                "cannot listen on {address}: this collector listens on {other} already, which has {name} port {port} there, \
                 too; leave one of the two out, or give one another port"
            ),
            OpenErrorKind::PermissionDenied => write!(
                f,
                "cannot listen on {address}: not permitted; ports below 1024 need root or CAP_NET_BIND_SERVICE, so \
                 listen on a higher port or grant that capability"
            ),
            OpenErrorKind::AddressNotAvailable => write!(
                f,
                "cannot listen on {address}: no interface of this host has that address; `ip address` lists those \
                 there are, [::] and 0.0.0.0 stand for all"
            ),
            OpenErrorKind::NoInterface => write!(
                f,
                "cannot listen on {address} by one interface: the host has none of that name; `ip link` lists those there are"
            ),
            OpenErrorKind::FamilyUnsupported => write!(
                f,
                "cannot listen on {address}: this host has no {}; give an address of the other family",
                if address.is_ipv6() { "IPv6" } else { "IPv4" }
            ),
            OpenErrorKind::NoResources => write!(
                f,
                "cannot listen on {address}: out of file descriptors or memory ({step}: {}); raise `ulimit -n` or \
                 use fewer cores",
                io::Error::from_raw_os_error(*code)
            ),
            OpenErrorKind::Mirror => {
                write!(f, "cannot mirror to {address}: {step}: {}", io::Error::from_raw_os_error(*code))
            }
            OpenErrorKind::MirrorSource => write!(
                f,
                "cannot mirror to {address} with the exporters' addresses: not permitted; that needs root or \
                 CAP_NET_RAW, so grant that capability or leave --mirror-source at `own`"
            ),
            OpenErrorKind::MirrorLoop => write!(
                f,
                "cannot mirror to {address}: this collector listens there itself, and would get its own copies for ever"
            ),
            OpenErrorKind::Other => {
                write!(f, "cannot listen on {address}: {step}: {}", io::Error::from_raw_os_error(*code))
            }
        }
    }
}

impl std::error::Error for OpenError {}

/// What a [`Group`](super::Group) works without. Its text says what to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Warning {
    /// The kernel gave a smaller receive buffer than was asked for.
    ReceiveBuffer {
        /// The bytes asked for.
        wanted: usize,
        /// The bytes that each socket has.
        given: usize,
    },
    /// The kernel does not join datagrams (before Linux 5.0): every datagram costs its own way through it.
    NoGro,
    /// The kernel does not say when a datagram came: the clock is read once a burst.
    NoTimestamps,
    /// The kernel does not take the steering program: an exporter that sends from several ports may be spread.
    NotSteered {
        /// The system's error number.
        code: i32,
    },
    /// The host has no IPv6: only IPv4 is received.
    Ipv4Only,
    /// The process may have fewer file descriptors than its connections need: fewer of them are taken.
    Descriptors {
        /// Those asked for.
        wanted: u64,
        /// Those that it may have.
        given: u64,
        /// Connections that are taken: the rest is for files, sockets and whoever asks.
        connections: u64,
    },
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ReceiveBuffer { wanted, given } => write!(
                f,
                "the receive buffer is {given} bytes, {wanted} were asked for, so bursts may be lost: \
                 `sysctl -w net.core.rmem_max={wanted}` allows it"
            ),
            Self::NoGro => f.write_str("the kernel has no UDP GRO (Linux 5.0 has): receiving costs more"),
            Self::NoTimestamps => f.write_str("the kernel gives no receive times: the clock is read once a burst"),
            Self::NotSteered { code } => write!(
                f,
                "the kernel refused to steer by source address ({}): an exporter that sends from several ports may \
                 be spread over cores",
                io::Error::from_raw_os_error(*code)
            ),
            Self::Descriptors { wanted, given, connections } => write!(
                f,
                "{wanted} file descriptors were asked for and {given} are allowed, so {connections} connections are taken \
                 at once and further ones turned away: raise `ulimit -Hn`, or LimitNOFILE= of the service"
            ),
            Self::Ipv4Only => f.write_str("this host has no IPv6: listening on IPv4 alone"),
        }
    }
}
