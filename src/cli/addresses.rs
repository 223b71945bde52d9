//! Addresses as the flags of `flowlane collect` take them.

use flowlane::net::{self, Spread, SpreadBy};
use ipnet::IpNet;
use std::net::{IpAddr, SocketAddr};

/// A value of `--listen`.
#[derive(Clone, PartialEq, Eq)]
pub enum Listen {
    At(SocketAddr),
    By(SocketAddr, String),
    Nowhere,
}

impl Listen {
    /// The address, where datagrams are taken from every interface.
    pub fn address(&self) -> Option<SocketAddr> {
        if let Self::At(address) = self { Some(*address) } else { None }
    }
}

/// An address, one with the interface behind an `@`, or `none`.
pub fn listen_or_none(text: &str) -> Result<Listen, String> {
    match text.split_once('@') {
        _ if text == "none" => Ok(Listen::Nowhere),
        Some((_, name)) if name.is_empty() || name.len() > 15 => Err(format!("{name:?} is no name of an interface")),
        Some((at, name)) => address(at, 2055).map(|at| Listen::By(at, name.to_string())),
        None => address(text, 2055).map(Listen::At),
    }
}

/// `ADDRESS`, `ADDRESS=domain` or `ADDRESS=port`.
pub fn spread(text: &str) -> Result<Spread, String> {
    let (source, by) = text.split_once('=').unwrap_or((text, "domain"));
    let by = match by {
        "domain" => Some(SpreadBy::Payload),
        "port" => Some(SpreadBy::Port),
        _ => None,
    };
    let spread = source.parse().ok().zip(by).map(|(source, by)| Spread { source, by });
    spread.ok_or_else(|| "accepted are 192.0.2.1, 192.0.2.1=domain or 192.0.2.1=port".to_string())
}

/// `ADDRESS:PORT`, `[ADDRESS]:PORT`, `PORT`, `:PORT`, or `ADDRESS` with the usual port.
pub fn address(text: &str, usual: u16) -> Result<SocketAddr, String> {
    if let Ok(port) = text.trim_start_matches(':').parse() {
        return Ok(net::any(port));
    }
    if let Ok(ip) = text.trim_matches(['[', ']']).parse::<IpAddr>() {
        return Ok(SocketAddr::new(ip, usual));
    }
    text.parse()
        .map_err(|_| format!("accepted are {usual}, 192.0.2.1:{usual}, [2001:db8::1]:{usual}, or an address alone"))
}

/// `ADDRESS:PORT` of another host.
pub fn mirror(text: &str) -> Result<SocketAddr, String> {
    let address = text.parse().ok().filter(|a: &SocketAddr| a.port() != 0 && !a.ip().is_unspecified());
    address.ok_or_else(|| "accepted are 192.0.2.7:2055 or [2001:db8::7]:2055".to_string())
}

/// A prefix, or an address alone.
pub fn prefix(text: &str) -> Result<IpNet, String> {
    let address = || text.parse::<IpAddr>().ok().map(IpNet::from);
    let prefix = text.parse().ok().or_else(address);
    prefix.ok_or_else(|| "accepted are 192.0.2.0/24, 2001:db8::/32, or an address alone".to_string())
}

/// As [`address`], but without a host it is loopback.
pub fn http_address(text: &str) -> Result<SocketAddr, String> {
    if let Ok(port) = text.trim_start_matches(':').parse() {
        return Ok(SocketAddr::from(([127, 0, 0, 1], port)));
    }
    text.parse().map_err(|_| "accepted are 8080, 192.0.2.1:8080 or [::1]:8080".to_string())
}
