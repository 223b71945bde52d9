//! What an operator says of exporters, in TOML.
//!
//! ```toml
//! [[exporter]]
//! address = "192.0.2.0/24"        # or a list of addresses and prefixes
//! name = "edge"
//! sampling_rate = 1000            # where nothing that it sends tells one
//! sampling_override = 512         # whatever it sends
//! fractions = "decimal"           # 154 to 157 hold micro- and nanoseconds in place of binary fractions
//!
//! [exporter.interfaces]
//! 1 = "uplink"
//! 7 = { name = "peering", speed = "100G" }
//! ```

use crate::decode::{Rule, Rules};
use crate::plan::Fractions;
use ipnet::IpNet;
use serde::Deserialize;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::net::IpAddr;
use toml::Spanned;

/// An interface of an exporter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: Option<String>,
    /// Bits a second.
    pub speed: Option<i64>,
}

/// What is wrong in a file, and in which line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportersError {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub reason: String,
}

impl fmt::Display for ExportersError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.reason)
    }
}

impl std::error::Error for ExportersError {}

/// Exporters by their address: of several entries that say the same thing, the longest prefix is right.
///
/// ```
/// use flowlane::enrich::Exporters;
///
/// let exporters = Exporters::parse("[[exporter]]\naddress = \"192.0.2.0/24\"\nname = \"edge\"\nsampling_rate = 100\n")?;
/// assert_eq!(exporters.name("192.0.2.7".parse()?), Some("edge"));
/// assert_eq!(exporters.rules().of("192.0.2.7".parse()?).sampling_rate, Some(100.0));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Exporters {
    // The longest prefix first; of equals the one that stands last in the file.
    entries: Vec<Entry>,
}

#[derive(Clone, Debug)]
struct Entry {
    prefix: IpNet,
    name: Option<String>,
    interfaces: HashMap<u32, Interface>,
    rule: Rule,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    exporter: Vec<Table>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    address: Spanned<OneOrMore>,
    name: Option<String>,
    sampling_rate: Option<Spanned<f64>>,
    sampling_override: Option<Spanned<f64>>,
    fractions: Option<FractionsName>,
    #[serde(default)]
    interfaces: BTreeMap<String, Spanned<InterfaceTable>>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum FractionsName {
    Binary,
    Decimal,
}

#[derive(Clone, Deserialize)]
#[serde(untagged, expecting = "a name, or a table of name and speed")]
enum InterfaceTable {
    Name(String),
    Table(InterfaceFields),
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct InterfaceFields {
    name: Option<String>,
    speed: Option<Speed>,
}

#[derive(Clone, Deserialize)]
#[serde(untagged)]
enum Speed {
    Bits(i64),
    Text(String),
}

impl Exporters {
    /// Reads a file's text.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn parse(text: &str) -> Result<Self, ExportersError> {
        let line_of = |at: usize| text.get(..at).unwrap_or_default().matches('\n').count() + 1;
        let wrong = |at: usize, reason: String| ExportersError { line: line_of(at), reason };
        let file: File = toml::from_str(text)
            .map_err(|e| wrong(e.span().map_or(0, |s| s.start), e.message().trim_end().to_string()))?;
        let mut entries = Vec::new();
        for table in file.exporter {
            let at = table.address.span().start;
            let prefixes = match table.address.into_inner() {
                OneOrMore::One(one) => vec![one],
                OneOrMore::More(more) => more,
            };
            let rate = |rate: Option<Spanned<f64>>| match rate {
                Some(rate) if !(rate.get_ref().is_finite() && *rate.get_ref() >= 1.0) => {
                    Err(wrong(rate.span().start, format!("a sampling rate is at least 1, not {}", rate.get_ref())))
                }
                rate => Ok(rate.map(Spanned::into_inner)),
            };
            let rule = Rule {
                sampling_rate: rate(table.sampling_rate)?,
                sampling_override: rate(table.sampling_override)?,
                fractions: table.fractions.map(|name| match name {
                    FractionsName::Binary => Fractions::Binary,
                    FractionsName::Decimal => Fractions::Decimal,
                }),
            };
            let mut interfaces = HashMap::new();
            for (index, about) in table.interfaces {
                let at = about.span().start;
                let index: u32 =
                    index.parse().map_err(|_| wrong(at, format!("{index:?} is no number of an interface")))?;
                interfaces.insert(index, interface(about.into_inner()).map_err(|reason| wrong(at, reason))?);
            }
            for text in prefixes {
                let prefix = prefix(&text).ok_or_else(|| wrong(at, format!("{text:?} is no address or prefix")))?;
                entries.push(Entry { prefix, name: table.name.clone(), interfaces: interfaces.clone(), rule });
            }
        }
        entries.reverse();
        entries.sort_by_key(|e| std::cmp::Reverse(e.prefix.prefix_len()));
        Ok(Self { entries })
    }

    /// Whether nothing is said of anybody.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// What it says of decoding.
    pub fn rules(&self) -> Rules {
        let mut rules = Rules::default();
        // Those that are right come last.
        for e in self.entries.iter().rev() {
            rules.add(e.prefix.addr(), e.prefix.prefix_len(), e.rule);
        }
        rules
    }

    /// The name of an exporter.
    pub fn name(&self, exporter: IpAddr) -> Option<&str> {
        self.of(exporter).find_map(|e| e.name.as_deref())
    }

    /// An interface of an exporter.
    pub fn interface(&self, exporter: IpAddr, index: u32) -> Interface {
        let (name, speed) = self.interface_in(&self.places(exporter), index);
        Interface { name: name.map(str::to_string), speed }
    }

    /// The places of the entries that say something of an exporter.
    pub(super) fn places(&self, exporter: IpAddr) -> Vec<u32> {
        let all = self.entries.iter().zip(0..).filter(|(e, _)| e.prefix.contains(&exporter));
        all.map(|(_, place)| place).collect()
    }

    /// The name and the speed of an interface, by what these entries say.
    pub(super) fn interface_in(&self, places: &[u32], index: u32) -> (Option<&str>, Option<i64>) {
        let all = || places.iter().filter_map(|&p| self.entries.get(p as usize)?.interfaces.get(&index));
        (all().find_map(|i| i.name.as_deref()), all().find_map(|i| i.speed))
    }

    fn of(&self, exporter: IpAddr) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(move |e| e.prefix.contains(&exporter))
    }
}

/// An address alone is a prefix of one; what is IPv4 mapped to IPv6 is IPv4.
pub(super) fn prefix(text: &str) -> Option<IpNet> {
    let net = text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))?;
    match net {
        IpNet::V6(v6) if v6.prefix_len() >= 96 => match v6.addr().to_ipv4_mapped() {
            Some(v4) => IpNet::new(v4.into(), v6.prefix_len() - 96).ok(),
            None => Some(net),
        },
        _ => Some(net),
    }
}

fn interface(about: InterfaceTable) -> Result<Interface, String> {
    match about {
        InterfaceTable::Name(name) => Ok(Interface { name: Some(name), speed: None }),
        InterfaceTable::Table(InterfaceFields { name, speed }) => {
            let speed = match speed {
                None => None,
                Some(Speed::Bits(bits)) if bits >= 0 => Some(bits),
                Some(Speed::Bits(bits)) => return Err(format!("{bits} is no speed")),
                Some(Speed::Text(text)) => {
                    Some(bits(&text).ok_or_else(|| format!("{text:?} is no speed; accepted are 100M, 10G, 1.5T"))?)
                }
            };
            Ok(Interface { name, speed })
        }
    }
}

/// Bits a second of `10G`.
fn bits(text: &str) -> Option<i64> {
    let (number, unit) =
        text.trim().split_at(text.trim().find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.trim().len()));
    let factor = match unit.trim() {
        "" => 1.0,
        "k" | "K" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "T" => 1e12,
        _ => return None,
    };
    let bits = number.trim().parse::<f64>().ok()? * factor;
    (0.0..9e18).contains(&bits).then_some(bits.round() as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_of_a_longer_prefix_counts() {
        let text = "
[[exporter]]
address = [\"192.0.2.0/24\", \"2001:db8::/32\"]
name = \"any\"
sampling_rate = 100
interfaces = { 1 = \"one\", 2 = { speed = \"1.5G\" } }
[[exporter]]
address = \"::ffff:192.0.2.7\"
name = \"seven\"
fractions = \"decimal\"
[exporter.interfaces]
2 = { name = \"two\", speed = 10 }
";
        let all = Exporters::parse(text).expect("right");
        let of = |ip: &str| ip.parse::<IpAddr>().expect("an address");
        assert_eq!((all.name(of("192.0.2.7")), all.name(of("192.0.2.8"))), (Some("seven"), Some("any")));
        assert_eq!((all.name(of("2001:db8::1")), all.name(of("198.51.100.1"))), (Some("any"), None));
        let named = |name: &str, speed| Interface { name: Some(name.to_string()), speed };
        assert_eq!(all.interface(of("192.0.2.7"), 1), named("one", None));
        assert_eq!(all.interface(of("192.0.2.7"), 2), named("two", Some(10)));
        assert_eq!(all.interface(of("192.0.2.8"), 2), Interface { name: None, speed: Some(1_500_000_000) });
        let rule = all.rules().of(of("192.0.2.7"));
        assert_eq!((rule.sampling_rate, rule.fractions), (Some(100.0), Some(Fractions::Decimal)));
        assert_eq!(all.rules().of(of("192.0.2.8")).fractions, None);
    }

    #[test]
    fn of_equal_prefixes_the_last_counts() {
        let one =
            |name| format!("[[exporter]]\naddress = \"192.0.2.1\"\nname = \"{name}\"\nsampling_rate = {}\n", name);
        let all = Exporters::parse(&[one(2), one(7)].concat()).expect("right");
        let ip = "192.0.2.1".parse().expect("an address");
        assert_eq!((all.name(ip), all.rules().of(ip).sampling_rate), (Some("7"), Some(7.0)));
    }

    #[test]
    fn what_is_wrong_is_named_by_its_line() {
        let line = |text: &str| Exporters::parse(text).map(|_| ()).map_err(|e| e.line);
        let after = |more: &str| line(&format!("# mine\n[[exporter]]\naddress = \"192.0.2.1\"\n{more}\n"));
        assert_eq!(line(""), Ok(()));
        assert_eq!(after("name = \"x\""), Ok(()));
        for more in [
            "nmae = \"x\"",
            "sampling_rate = 0.5",
            "sampling_override = nan",
            "fractions = \"octal\"",
            "interfaces = { one = \"x\" }",
            "interfaces = { 1 = { speed = \"fast\" } }",
            "interfaces = { 1 = { speed = -1 } }",
            "interfaces = { 1 = 7 }",
            "name = ",
        ] {
            assert_eq!(after(more), Err(4), "{more}");
        }
        assert_eq!(line("[[exporter]]\n\naddress = \"nowhere\""), Err(3));
        assert_eq!(line("[[exporter]]\nname = \"x\""), Err(1));
        assert_eq!(line("[[router]]\n"), Err(1));
    }
}
