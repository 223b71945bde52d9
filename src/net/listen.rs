//! Sockets that take connections.

use super::{
    OpenError, OpenErrorKind, Transport, Warning,
    group::{PORT_TRIES, canonical, new_socket, try_bind},
};
use rustix::process::{Resource, getrlimit, setrlimit};
use socket2::{SockAddr, SockRef, TcpKeepalive};
use std::{
    io,
    net::{SocketAddr, TcpListener, TcpStream},
    time::Duration,
};

/// Connections that may wait to be taken, a socket.
const BACKLOG: i32 = 1024;

/// When a quiet peer is asked whether it is still there, how often, and how many times: it is given up after two minutes.
const ASK_AFTER: Duration = Duration::from_secs(60);
const ASK_EACH: Duration = Duration::from_secs(10);
const ASK_TIMES: u32 = 6;

/// Sockets that listen on one address and port, one for each thread: the kernel deals out the connections.
pub struct Listeners {
    sockets: Vec<TcpListener>,
    local: SocketAddr,
    warning: Option<Warning>,
}

impl Listeners {
    /// Opens `n` sockets (at least one) on `address`, as [`Group::open`](super::Group::open) does.
    ///
    /// # Errors
    /// [`OpenError`], with a text that says what to do.
    pub fn open(address: SocketAddr, n: usize) -> Result<Self, OpenError> {
        let mut tries = PORT_TRIES;
        loop {
            match Self::open_once(address, n.max(1)) {
                Err(OpenError { kind: OpenErrorKind::AddressInUse, .. }) if address.port() == 0 && tries > 0 => {
                    tries -= 1;
                }
                result => return result,
            }
        }
    }

    /// A socket that another process bound and handed over, as systemd does: `n` threads (at least one) share it, and the
    /// first that is awake takes a connection.
    ///
    /// # Errors
    /// [`OpenError`]: it is no such socket.
    pub fn adopt(socket: &TcpListener, n: usize) -> Result<Self, OpenError> {
        let nowhere = super::any(0);
        let local = socket.local_addr().map_err(|error| OpenError::new(nowhere, "getsockname", &error).of_tcp())?;
        socket.set_nonblocking(true).map_err(|error| OpenError::new(local, "fcntl", &error).of_tcp())?;
        let sockets: io::Result<Vec<TcpListener>> = (0..n.max(1)).map(|_| socket.try_clone()).collect();
        let sockets = sockets.map_err(|error| OpenError::new(local, "fcntl", &error).of_tcp())?;
        Ok(Self { sockets, local, warning: None })
    }

    /// The address and port that the sockets are bound to.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// What the host does not have.
    pub fn warning(&self) -> Option<Warning> {
        self.warning
    }

    /// The sockets; none of them blocks.
    pub fn into_sockets(self) -> Vec<TcpListener> {
        self.sockets
    }

    fn open_once(address: SocketAddr, n: usize) -> Result<Self, OpenError> {
        let at = |step: &'static str| move |error: io::Error| OpenError::new(address, step, &error).of_tcp();
        let (local, warning) = try_bind(canonical(address), Transport::Tcp, None).map_err(at("bind"))?;
        let mut sockets = Vec::with_capacity(n);
        for _ in 0..n {
            let socket = new_socket(local, Transport::Tcp).map_err(at("socket"))?;
            if n > 1 {
                socket.set_reuse_port(true).map_err(at("setsockopt SO_REUSEPORT"))?;
            }
            socket.set_nonblocking(true).map_err(at("fcntl"))?;
            socket.bind(&SockAddr::from(local)).map_err(at("bind"))?;
            sockets.push(socket);
        }
        // All are bound before the first listens: a connection that waits at a socket stays there.
        for socket in &sockets {
            socket.listen(BACKLOG).map_err(at("listen"))?;
        }
        Ok(Self { sockets: sockets.into_iter().map(TcpListener::from).collect(), local, warning })
    }
}

/// Makes a connection that was taken one that never blocks, and that ends where its peer is gone.
///
/// # Errors
/// A connection that is gone already.
pub fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nonblocking(true)?;
    let ask = TcpKeepalive::new().with_time(ASK_AFTER).with_interval(ASK_EACH).with_retries(ASK_TIMES);
    SockRef::from(stream).set_tcp_keepalive(&ask)
}

/// File descriptors that the process has now.
pub fn open_descriptors() -> u64 {
    // Where nothing tells, not many.
    std::fs::read_dir("/proc/self/fd").map_or(32, |open| open.count() as u64)
}

/// Lets the process have so many file descriptors, as far as its hard limit goes; how many it may have.
pub fn allow_descriptors(wanted: u64) -> u64 {
    let mut limit = getrlimit(Resource::Nofile);
    let (Some(soft), most) = (limit.current, limit.maximum.unwrap_or(u64::MAX)) else { return u64::MAX };
    if soft >= wanted {
        return soft;
    }
    limit.current = Some(wanted.min(most));
    match setrlimit(Resource::Nofile, limit) {
        Ok(()) => wanted.min(most),
        Err(_) => soft,
    }
}
