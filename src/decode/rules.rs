//! What an operator says of exporters: sampling that they do not tell, and times that they mean in their own way.

use crate::plan::Fractions;
use std::net::IpAddr;

/// What is said of an exporter; `None` where nothing is.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rule {
    /// Its sampling rate where nothing that it sends tells one.
    pub sampling_rate: Option<f64>,
    /// Its sampling rate, whatever it sends.
    pub sampling_override: Option<f64>,
    /// What it means by the fractions of NTP times.
    pub fractions: Option<Fractions>,
}

/// Rules by the prefix of the exporter's address: of several that say the same thing, the longest prefix is right.
///
/// ```
/// use flowlane::decode::{Rule, Rules};
///
/// let mut rules = Rules::default();
/// rules.add("192.0.2.0".parse()?, 24, Rule { sampling_rate: Some(1000.0), ..Rule::default() });
/// rules.add("192.0.2.7".parse()?, 32, Rule { sampling_override: Some(512.0), ..Rule::default() });
/// let rule = rules.of("192.0.2.7".parse()?);
/// assert_eq!((rule.sampling_rate, rule.sampling_override), (Some(1000.0), Some(512.0)));
/// assert_eq!(rules.of("198.51.100.1".parse()?), Rule::default());
/// # Ok::<(), std::net::AddrParseError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rules {
    // INVARIANT: sorted by length. Addresses are as in IPv6, those of IPv4 mapped.
    entries: Vec<(u8, u128, Rule)>,
}

impl Rules {
    /// Adds what is said of a prefix. A length beyond the address's is the address's.
    pub fn add(&mut self, prefix: IpAddr, len: u8, rule: Rule) {
        let len = match prefix {
            IpAddr::V4(_) => 96 + len.min(32),
            IpAddr::V6(_) => len.min(128),
        };
        let at = self.entries.partition_point(|e| e.0 <= len);
        self.entries.insert(at, (len, bits(prefix) & mask(len), rule));
    }

    /// What is said of an exporter.
    pub fn of(&self, exporter: IpAddr) -> Rule {
        let address = bits(exporter);
        self.entries.iter().filter(|e| address & mask(e.0) == e.1).fold(Rule::default(), |known, (_, _, rule)| Rule {
            sampling_rate: rule.sampling_rate.or(known.sampling_rate),
            sampling_override: rule.sampling_override.or(known.sampling_override),
            fractions: rule.fractions.or(known.fractions),
        })
    }
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

fn mask(len: u8) -> u128 {
    u128::MAX.checked_shl(128 - u32::from(len)).unwrap_or(0)
}
