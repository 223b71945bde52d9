//! Names for numbers: protocols and services.

use std::collections::HashMap;
use std::sync::LazyLock;

const PROTOCOLS: &[(&str, u8)] = &[
    ("icmp", 1),
    ("igmp", 2),
    ("ipip", 4),
    ("tcp", 6),
    ("egp", 8),
    ("igp", 9),
    ("udp", 17),
    ("dccp", 33),
    ("ipv6", 41),
    ("rsvp", 46),
    ("gre", 47),
    ("esp", 50),
    ("ah", 51),
    ("icmp6", 58),
    ("icmpv6", 58),
    ("ipv6-icmp", 58),
    ("eigrp", 88),
    ("ospf", 89),
    ("pim", 103),
    ("vrrp", 112),
    ("l2tp", 115),
    ("sctp", 132),
    ("udplite", 136),
];

const SERVICES: &[(&str, u16)] = &[
    ("ftp", 21),
    ("ssh", 22),
    ("telnet", 23),
    ("smtp", 25),
    ("dns", 53),
    ("domain", 53),
    ("dhcp", 67),
    ("tftp", 69),
    ("http", 80),
    ("kerberos", 88),
    ("pop3", 110),
    ("ntp", 123),
    ("imap", 143),
    ("snmp", 161),
    ("bgp", 179),
    ("ldap", 389),
    ("https", 443),
    ("smb", 445),
    ("syslog", 514),
    ("submission", 587),
    ("ldaps", 636),
    ("dot", 853),
    ("imaps", 993),
    ("pop3s", 995),
    ("mssql", 1433),
    ("radius", 1812),
    ("netflow", 2055),
    ("mysql", 3306),
    ("rdp", 3389),
    ("stun", 3478),
    ("ipfix", 4739),
    ("sip", 5060),
    ("mdns", 5353),
    ("postgresql", 5432),
    ("vnc", 5900),
    ("sflow", 6343),
    ("redis", 6379),
];

/// The number of a protocol's name.
pub(super) fn protocol(name: &str) -> Option<u8> {
    PROTOCOLS.iter().find(|p| p.0.eq_ignore_ascii_case(name)).map(|p| p.1)
}

/// The first name of a protocol.
pub(super) fn protocol_name(number: u8) -> Option<&'static str> {
    PROTOCOLS.iter().find(|p| p.1 == number).map(|p| p.0)
}

/// The number of a protocol, by its name or as a number.
pub fn protocol_number(text: &str) -> Option<u8> {
    text.parse().ok().or_else(|| protocol(text))
}

/// A protocol as text: its name, or its number.
pub fn protocol_text(number: u8) -> String {
    protocol_name(number).map_or_else(|| number.to_string(), str::to_string)
}

/// The services of this machine, in the order of their list.
static LISTED: LazyLock<Vec<(String, u16)>> = LazyLock::new(|| {
    let text = std::fs::read_to_string("/etc/services").unwrap_or_default();
    let lines = text.lines().filter_map(|line| {
        let mut words = line.split('#').next()?.split_whitespace();
        let (name, port) = (words.next()?, words.next()?);
        Some((name.to_ascii_lowercase(), port.split('/').next()?.parse().ok()?))
    });
    lines.collect()
});

/// The port of a service's name, by the best known and then by this machine's list.
pub(super) fn service(name: &str) -> Option<u16> {
    static BY_NAME: LazyLock<HashMap<&str, u16>> =
        LazyLock::new(|| LISTED.iter().rev().map(|(name, port)| (name.as_str(), *port)).collect());
    let known = SERVICES.iter().find(|s| s.0.eq_ignore_ascii_case(name)).map(|s| s.1);
    known.or_else(|| BY_NAME.get(name.to_ascii_lowercase().as_str()).copied())
}

/// The name of the service at a port, by this machine's list and then by the best known.
pub fn service_of(port: u16) -> Option<&'static str> {
    static BY_PORT: LazyLock<HashMap<u16, &str>> =
        LazyLock::new(|| LISTED.iter().rev().map(|(name, port)| (*port, name.as_str())).collect());
    BY_PORT.get(&port).copied().or_else(|| SERVICES.iter().find(|s| s.1 == port).map(|s| s.0))
}
