//! Values of flags: rates, shares, times.

use flowgen::{Pace, Protocol, Speed};
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

/// `v5`, `v9,ipfix`, `mix`.
#[derive(Clone)]
pub struct Protocols(pub Vec<Protocol>);

impl FromStr for Protocols {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "mix" => Ok(Self(Protocol::ALL.to_vec())),
            _ => text.split(',').map(str::parse).collect::<Result<_, _>>().map(Self),
        }
    }
}

/// `original`, `2x`, `max`.
#[derive(Clone, Copy)]
pub struct ReplaySpeed(pub Speed);

impl FromStr for ReplaySpeed {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let times = |text: &str| text.parse().ok().filter(|x: &f64| x.is_finite() && *x > 0.0);
        match text {
            "original" => Some(Speed::Times(1.0)),
            "max" => Some(Speed::Paced),
            _ => text.strip_suffix('x').and_then(times).map(Speed::Times),
        }
        .map(Self)
        .ok_or_else(|| "a speed is original, max, or a multiple like 2x or 0.5x".to_owned())
    }
}

/// A number with an optional k, M or G.
fn number(text: &str) -> Option<f64> {
    let (digits, factor) = match text.strip_suffix(['k', 'K', 'm', 'M', 'g', 'G']) {
        Some(digits) => match text.as_bytes().last() {
            Some(b'k' | b'K') => (digits, 1e3),
            Some(b'm' | b'M') => (digits, 1e6),
            _ => (digits, 1e9),
        },
        None => (text, 1.0),
    };
    digits.parse::<f64>().ok().map(|n| n * factor).filter(|n| n.is_finite() && *n > 0.0)
}

/// Flow records a second.
pub fn rate(text: &str) -> Result<Pace, String> {
    match text {
        "max" => Ok(Pace::Full),
        _ => {
            number(text).map(Pace::Records).ok_or_else(|| "a rate is a number like 5000, 100k, 2.5M, or max".to_owned())
        }
    }
}

/// Datagrams a second.
pub fn datagrams(text: &str) -> Result<Pace, String> {
    number(text).map(Pace::Datagrams).ok_or_else(|| "a rate is a number like 500, 10k or 1M".to_owned())
}

/// A count of at least 1.
pub fn count(text: &str) -> Result<u64, String> {
    let whole = number(text).filter(|n| n.fract() == 0.0 && *n < 1e18);
    whole.map(|n| n as u64).ok_or_else(|| "a count is a whole number like 1000, 10k or 1M".to_owned())
}

/// `1%` or `0.01`.
pub fn share(text: &str) -> Result<f64, String> {
    let share = match text.strip_suffix('%') {
        Some(percent) => percent.parse::<f64>().ok().map(|p| p / 100.0),
        None => text.parse().ok(),
    };
    share.filter(|s| (0.0..=1.0).contains(s)).ok_or_else(|| "a share is like 1%, 0.5% or 0.01".to_owned())
}

/// `500ms`, `10s`, `2m`, `1h`.
pub fn span(text: &str) -> Result<Duration, String> {
    let units = [("ms", 0.001), ("s", 1.0), ("m", 60.0), ("h", 3600.0)];
    let found = units.into_iter().find_map(|(unit, seconds)| Some((text.strip_suffix(unit)?, seconds)));
    let seconds = found.and_then(|(digits, unit)| Some(digits.parse::<f64>().ok()? * unit));
    let seconds = seconds.filter(|s| *s > 0.0 && *s <= 366.0 * 86_400.0);
    seconds.map(Duration::from_secs_f64).ok_or_else(|| "a time is like 500ms, 10s, 2m or 1h".to_owned())
}

/// `ADDRESS:PORT`, `[ADDRESS]:PORT`, or an address alone.
pub fn receiver(text: &str) -> Result<SocketAddr, String> {
    if let Ok(ip) = text.trim_matches(['[', ']']).parse::<IpAddr>() {
        return Ok(SocketAddr::new(ip, 2055));
    }
    text.parse().map_err(|_| "a receiver is like 127.0.0.1:2055 or [::1]:4739".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_times_and_shares() {
        assert_eq!(rate("100k"), Ok(Pace::Records(100_000.0)));
        assert_eq!(rate("max"), Ok(Pace::Full));
        assert_eq!(datagrams("2.5M"), Ok(Pace::Datagrams(2_500_000.0)));
        assert_eq!(count("10k"), Ok(10_000));
        assert_eq!(share("0.5%"), Ok(0.005));
        assert_eq!(share("0.01"), Ok(0.01));
        assert_eq!(span("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(span("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(receiver("[::1]:4739").map(|a| a.port()), Ok(4739));
        assert_eq!(receiver("::1").map(|a| a.port()), Ok(2055));
        for wrong in ["", "-1", "0", "k", "1.5", "1e99", "nan", "1\u{e9}"] {
            assert!(count(wrong).is_err(), "{wrong}");
        }
        for wrong in ["101%", "-1%", "x", "", "2"] {
            assert!(share(wrong).is_err(), "{wrong}");
        }
        for wrong in ["", "10", "0s", "s", "-1s", "9999999h"] {
            assert!(span(wrong).is_err(), "{wrong}");
        }
    }
}
