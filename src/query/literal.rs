//! What words of a filter mean: numbers, spans, times, prefixes, flags, MAC addresses.

use super::filter::Set;
use std::net::IpAddr;

/// What the values of a field are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Number,
    Float,
    Port,
    Protocol,
    Flags,
    Address,
    Time,
    Text,
    Mac,
    Bool,
    Duration,
    /// What a firewall or a translator did.
    Event,
    /// What became of a flow.
    Forwarding,
    /// Ingress or egress.
    Direction,
    /// An extra's, whose type is that of its element.
    Extra,
}

/// What a value of the kind looks like.
pub(super) fn what(kind: Kind) -> &'static str {
    match kind {
        Kind::Number => "a number like 1500, 10k or 1M, or a range like 1..9",
        Kind::Float => "a number, or a range like 1..9",
        Kind::Port => "a port from 0 to 65535, a range like 1024..2048, or a service like https",
        Kind::Protocol => "a protocol: a number up to 255, or a name like tcp, udp or icmp",
        Kind::Flags => "TCP flags by letter (SA, F, UAPRSF, X for all six) or a number",
        Kind::Address => "an address or prefix, like 192.0.2.1, 10/8 or 2001:db8::/32",
        Kind::Time => "a time like 2026-11-24T10:00, or -1h",
        Kind::Event => "an event: create (add), delete (term), deny, alert, update, ignore, or its number",
        Kind::Forwarding => "forw, drop, cons, unkn, or a number up to 255",
        Kind::Direction => "ingress, egress, or a number",
        Kind::Extra => "a number, a range, an address or a text",
        Kind::Text => "a text",
        Kind::Mac => "a MAC address like aa:bb:cc:dd:ee:ff",
        Kind::Bool => "true or false",
        Kind::Duration => "a time like 10s or 500ms, or a number of milliseconds",
    }
}

/// `1500`, `10k`, `1M`, `0x1f`.
pub(super) fn number(text: &str) -> Option<i128> {
    if let Some(hex) = text.strip_prefix("0x") {
        return u64::from_str_radix(hex, 16).ok().map(i128::from);
    }
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor = match text.get(digits.len()..)?.to_ascii_lowercase().as_str() {
        "" => 1,
        "k" => 1_000,
        "m" => 1_000_000,
        "g" => 1_000_000_000,
        "t" => 1_000_000_000_000,
        _ => return None,
    };
    digits.parse::<i128>().ok().filter(|n| (-(1i128 << 64)..1 << 64).contains(n)).map(|n| n * factor)
}

/// `500ms`, `30s`, `15m`, `1h`, `7d`, in microseconds.
pub(super) fn span(text: &str) -> Option<i128> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match text.get(digits.len()..)? {
        "us" => 1,
        "ms" => 1_000,
        "s" => 1_000_000,
        "m" => 60_000_000,
        "h" => 3_600_000_000,
        "d" => 86_400_000_000,
        "w" => 7 * 86_400_000_000,
        _ => return None,
    };
    digits.parse::<u32>().ok().map(|n| i128::from(n) * unit)
}

/// The first and the last microsecond since 1970 that a time means: `2026-11-24` is a day of them, `2026-11-24T10:00` a minute,
/// `-1h` the one an hour before `now_us`. `None` where it is no time.
pub fn time(text: &str, now_us: i64) -> Option<(i128, i128)> {
    if let Some(ago) = text.strip_prefix('-') {
        let us = i128::from(now_us) - span(ago)?;
        return Some((us, us));
    }
    if text.eq_ignore_ascii_case("now") {
        return Some((now_us.into(), now_us.into()));
    }
    let text = text.trim_end_matches(['Z', 'z']).replace('/', "-").replacen([' ', 't'], "T", 1);
    let whole = |pattern: &str, rest: &str, us: i128| {
        let start = chrono::NaiveDateTime::parse_from_str(&format!("{text}{rest}"), pattern).ok()?;
        let start = i128::from(start.and_utc().timestamp_micros());
        Some((start, start + us - 1))
    };
    whole("%Y-%m-%dT%H:%M:%S%.f", "", if text.contains('.') { 1 } else { 1_000_000 })
        .or_else(|| whole("%Y-%m-%dT%H:%M:%S", ":00", 60_000_000))
        .or_else(|| whole("%Y-%m-%dT%H:%M:%S", ":00:00", 3_600_000_000))
        .or_else(|| whole("%Y-%m-%dT%H:%M:%S", "T00:00:00", 86_400_000_000))
}

/// An address, or a prefix; `10/8` is 10.0.0.0/8.
pub(super) fn prefix(text: &str) -> Option<Set> {
    let (address, length) = match text.split_once('/') {
        Some((address, length)) => (address, Some(length.parse::<u32>().ok()?)),
        None => (text, None),
    };
    let mut whole = address.to_string();
    if length.is_some() && !address.contains(':') {
        for _ in address.split('.').count()..4 {
            whole += ".0";
        }
    }
    match whole.parse::<IpAddr>().ok()? {
        IpAddr::V4(v4) => {
            let length = length.unwrap_or(32);
            let mask = u32::MAX.checked_shl(32 - length.min(32)).unwrap_or(0);
            let first = v4.to_bits() & mask;
            (length <= 32).then(|| Set::Addresses { v4: vec![(first, first | !mask)], v6: Vec::new() })
        }
        IpAddr::V6(v6) => {
            let length = length.unwrap_or(128);
            let mask = u128::MAX.checked_shl(128 - length.min(128)).unwrap_or(0);
            let first = v6.to_bits() & mask;
            (length <= 128).then(|| Set::Addresses { v4: Vec::new(), v6: vec![(first, first | !mask)] })
        }
    }
}

/// An IPv4 address with a mask, like 10.0.0.0 and 255.0.0.0.
pub(super) fn masked(address: &str, mask: &str) -> Option<Set> {
    let mask = mask.parse::<std::net::Ipv4Addr>().ok()?.to_bits();
    let address: std::net::Ipv4Addr = address.parse().ok()?;
    if mask.leading_ones() + mask.trailing_zeros() != 32 && mask != 0 {
        return None;
    }
    prefix(&format!("{address}/{}", mask.leading_ones()))
}

/// Numbers of elements 230 and 233.
pub(super) fn event(name: &str) -> Option<i128> {
    Some(match name.to_ascii_lowercase().as_str() {
        "ignore" => 0,
        "create" | "add" => 1,
        "delete" | "term" => 2,
        "deny" | "denied" => 3,
        "alert" => 4,
        "update" => 5,
        _ => return None,
    })
}

/// Numbers of element 89: its two upper bits say what became of the flow, the others why (RFC 7270).
pub(super) fn forwarding(name: &str) -> Option<(i128, i128)> {
    Some(match name.to_ascii_lowercase().as_str() {
        "unkn" | "ukwn" | "unknown" => (0, 63),
        "forw" | "forwarded" => (64, 127),
        "frag" => (65, 65),
        "drop" | "dropped" => (128, 191),
        "cons" | "consumed" | "term" => (192, 255),
        _ => return None,
    })
}

/// Numbers of element 61.
pub(super) fn direction(name: &str) -> Option<i128> {
    match name.to_ascii_lowercase().as_str() {
        "ingress" | "in" => Some(0),
        "egress" | "out" => Some(1),
        _ => None,
    }
}

/// The bits of flags by their letters; X is the six of RFC 793.
pub(super) fn flags(text: &str) -> Option<u64> {
    let bit = |c: char| {
        if c.eq_ignore_ascii_case(&'x') {
            return Some(0x3f);
        }
        let at = "FSRPAUEC".find(c.to_ascii_uppercase())?;
        Some(1u64 << at)
    };
    text.chars().try_fold(0, |bits, c| Some(bits | bit(c)?)).filter(|bits| *bits > 0)
}

pub(super) fn mac(text: &str) -> Option<Vec<u8>> {
    let bytes: Option<Vec<u8>> = text.split([':', '-']).map(|b| u8::from_str_radix(b, 16).ok()).collect();
    bytes.filter(|b| b.len() == 6)
}
