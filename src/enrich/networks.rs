//! A user's table of prefixes: lines of `prefix,key=value,...`.
//!
//! ```text
//! # the keys are net, site, city, country, as and as_name
//! 10.0.0.0/8,site=Basel,country=CH
//! 10.1.0.0/16,net=office
//! 2001:db8::/32,as=64500,as_name="Example, Inc."
//! ```
//!
//! A longer prefix takes what it does not say itself from the shorter ones around it. `net` is the prefix itself where no
//! line names it.

use super::exporters::prefix;
use ipnet::IpNet;
use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;

/// What is said of a prefix.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Attributes {
    pub(super) net: Option<Box<str>>,
    pub(super) site: Option<Box<str>>,
    pub(super) city: Option<Box<str>>,
    pub(super) country: Option<Box<str>>,
    pub(super) number: Option<u32>,
    pub(super) as_name: Option<Box<str>>,
}

impl Attributes {
    /// What these say, and where they say nothing the others.
    pub(super) fn or(self, other: &Self) -> Self {
        Self {
            net: self.net.or_else(|| other.net.clone()),
            site: self.site.or_else(|| other.site.clone()),
            city: self.city.or_else(|| other.city.clone()),
            country: self.country.or_else(|| other.country.clone()),
            number: self.number.or(other.number),
            as_name: self.as_name.or_else(|| other.as_name.clone()),
        }
    }
}

/// A wrong line of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworksError {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub reason: String,
}

impl fmt::Display for NetworksError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.reason)
    }
}

impl std::error::Error for NetworksError {}

/// A table of prefixes.
#[derive(Clone, Debug, Default)]
pub struct Networks {
    v4: Ranges,
    v6: Ranges,
    // What the ranges lead to, from 1 on.
    attributes: Vec<Attributes>,
}

/// Ranges of addresses without gaps: where each begins, and what it leads to (0: nothing).
#[derive(Clone, Debug, Default)]
struct Ranges {
    // INVARIANT: in ascending order.
    starts: Vec<(u128, u32)>,
}

impl Ranges {
    fn at(&self, address: u128) -> u32 {
        let after = self.starts.partition_point(|s| s.0 <= address);
        after.checked_sub(1).and_then(|at| self.starts.get(at)).map_or(0, |s| s.1)
    }

    fn push(&mut self, start: u128, leads_to: u32) {
        self.starts.pop_if(|last| last.0 == start);
        if self.starts.last().map_or(0, |last| last.1) != leads_to {
            self.starts.push((start, leads_to));
        }
    }
}

/// A line: its first and its last address, the prefix's length, what it says.
type Line = (u128, u128, u8, Attributes);

impl Networks {
    /// Reads a table's text. Empty lines and lines that start with `#` are passed over.
    ///
    /// # Errors
    /// The first line that is wrong.
    pub fn parse(text: &str) -> Result<Self, NetworksError> {
        let (mut v4, mut v6): (Vec<Line>, Vec<Line>) = (Vec::new(), Vec::new());
        for (line, number) in text.trim_start_matches('\u{feff}').lines().zip(1..) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            match parse_line(line).map_err(|reason| NetworksError { line: number, reason })? {
                (IpNet::V4(net), attributes) => {
                    let (first, last) = (net.network().to_bits(), net.broadcast().to_bits());
                    v4.push((first.into(), last.into(), net.prefix_len(), attributes));
                }
                (IpNet::V6(net), attributes) => {
                    v6.push((net.network().to_bits(), net.broadcast().to_bits(), net.prefix_len(), attributes));
                }
            }
        }
        let (mut networks, mut known) = (Self::default(), HashMap::new());
        networks.v4 = networks.ranges(v4, &mut known);
        networks.v6 = networks.ranges(v6, &mut known);
        Ok(networks)
    }

    /// Whether there is no prefix.
    pub fn is_empty(&self) -> bool {
        self.attributes.is_empty()
    }

    /// Cuts prefixes that lie in each other into ranges side by side.
    fn ranges(&mut self, mut lines: Vec<Line>, known: &mut HashMap<Attributes, u32>) -> Ranges {
        // Of equal prefixes the last of the table comes last, and is right.
        lines.sort_by_key(|l| (l.0, l.2));
        let mut ranges = Ranges::default();
        let mut around: Vec<(u128, u32)> = Vec::new();
        for (first, last, _, attributes) in lines {
            while let Some(inner) = around.pop_if(|a| a.0 < first) {
                ranges.push(inner.0 + 1, around.last().map_or(0, |a| a.1));
            }
            let outer = around.last().and_then(|a| self.attributes.get((a.1 as usize).checked_sub(1)?));
            let merged = match outer {
                Some(outer) => attributes.or(outer),
                None => attributes,
            };
            let id = *known.entry(merged).or_insert_with_key(|merged| {
                self.attributes.push(merged.clone());
                self.attributes.len() as u32
            });
            ranges.push(first, id);
            around.push((last, id));
        }
        while let Some(inner) = around.pop() {
            if let Some(after) = inner.0.checked_add(1) {
                ranges.push(after, around.last().map_or(0, |a| a.1));
            }
        }
        ranges
    }

    /// The number of what is said of an address; 0 where nothing is. IPv4 mapped to IPv6 is IPv4.
    pub(super) fn at(&self, address: IpAddr) -> u32 {
        match address.to_canonical() {
            IpAddr::V4(v4) => self.v4.at(v4.to_bits().into()),
            IpAddr::V6(v6) => self.v6.at(v6.to_bits()),
        }
    }

    pub(super) fn attributes(&self, id: u32) -> Option<&Attributes> {
        (id as usize).checked_sub(1).and_then(|at| self.attributes.get(at))
    }
}

fn parse_line(line: &str) -> Result<(IpNet, Attributes), String> {
    let mut cells = cells(line)?.into_iter();
    let first = cells.next().unwrap_or_default();
    let net = prefix(&first).ok_or_else(|| format!("{first:?} is no address or prefix"))?.trunc();
    let mut attributes = Attributes::default();
    for cell in cells {
        let (key, value) = cell.split_once('=').ok_or_else(|| format!("{cell:?} is not key=value"))?;
        let (key, value) = (key.trim(), value.trim());
        let text = (!value.is_empty()).then(|| value.into());
        match key {
            "net" => attributes.net = text,
            "site" => attributes.site = text,
            "city" => attributes.city = text,
            "country" => attributes.country = text,
            "as_name" => attributes.as_name = text,
            "as" => {
                let digits = value.get(..2).filter(|p| p.eq_ignore_ascii_case("as")).and(value.get(2..));
                let number = digits.unwrap_or(value).parse().map_err(|_| format!("{value:?} is no AS number"))?;
                attributes.number = Some(number);
            }
            _ => return Err(format!("there is no key {key:?}; known are net, site, city, country, as, as_name")),
        }
    }
    if attributes.net.is_none() {
        attributes.net = Some(net.to_string().into());
    }
    Ok((net, attributes))
}

/// Cuts a line at its commas, but for those between double quotes; two of them stand for one.
fn cells(line: &str) -> Result<Vec<String>, String> {
    let (mut cells, mut cell, mut quoted) = (Vec::new(), String::new(), false);
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                cell.push('"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => cells.push(std::mem::take(&mut cell).trim().to_string()),
            c => cell.push(c),
        }
    }
    if quoted {
        return Err("a quote is not closed".to_string());
    }
    cells.push(cell.trim().to_string());
    Ok(cells)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\u{feff}# ours
10.0.0.0/8,site=Basel,country=CH
10.1.0.0/16,net=office
10.1.2.0/24, as=AS64501 ,as_name=\"Lab, \"\"one\"\"\"
10.1.0.0/16,city=Liestal

255.255.255.255
::/0,site=six
2001:db8::/32,net=doc,as=64500
";

    fn of<'a>(networks: &'a Networks, address: &str) -> Option<&'a Attributes> {
        networks.attributes(networks.at(address.parse().expect("an address")))
    }

    #[test]
    fn a_longer_prefix_takes_the_rest_from_those_around_it() {
        let networks = Networks::parse(TABLE).expect("right");
        let text = |a: &Option<Box<str>>| a.as_deref().map(str::to_string).unwrap_or_default();
        let all = |address: &str| {
            let a = of(&networks, address).cloned().unwrap_or_default();
            let texts = [&a.net, &a.site, &a.city, &a.country, &a.as_name].map(text).join(" ");
            format!("{texts} {}", a.number.unwrap_or(0))
        };
        assert_eq!(all("10.0.0.0"), "10.0.0.0/8 Basel  CH  0");
        // Of two lines of one prefix the later counts, net included.
        assert_eq!(all("10.1.1.255"), "10.1.0.0/16 Basel Liestal CH  0");
        assert_eq!(all("10.1.2.0"), "10.1.2.0/24 Basel Liestal CH Lab, \"one\" 64501");
        assert_eq!(all("10.1.2.255"), all("::ffff:10.1.2.7"));
        assert_eq!(all("10.1.3.0"), all("10.1.255.255"));
        assert_eq!(all("10.2.0.0"), all("10.255.255.255"));
        assert_eq!(all("255.255.255.255"), "255.255.255.255/32     0");
        assert_eq!(all("2001:db8::"), "doc six    64500");
        assert_eq!(all("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"), "::/0 six    0");
        for nowhere in ["9.255.255.255", "11.0.0.0", "255.255.255.254"] {
            assert_eq!(of(&networks, nowhere), None, "{nowhere}");
        }
    }

    #[test]
    fn every_address_is_found_as_a_look_at_all_prefixes_finds_it() {
        // Prefixes of 8 bits in a row of their own, so that all kinds of nesting come.
        let mut seed = 1u32;
        let mut next = || {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            seed >> 16
        };
        for _ in 0..200 {
            let lines: Vec<(u32, u32)> = (0..next() % 12).map(|_| (next() % 256, 24 + next() % 9)).collect();
            let text: String =
                lines.iter().zip(1..).map(|((a, len), n)| format!("10.0.0.{a}/{len},as={n}\n")).collect();
            let networks = Networks::parse(&text).expect("right");
            for address in 0..256u32 {
                let inside = |&&((a, len), _): &&(&(u32, u32), u32)| (a ^ address) >> (32 - len) == 0;
                let all: Vec<(&(u32, u32), u32)> = lines.iter().zip(1..).collect();
                let longest = all.iter().filter(inside).max_by_key(|((_, len), n)| (*len, *n)).map(|l| l.1);
                let found = of(&networks, &format!("10.0.0.{address}")).and_then(|a| a.number);
                assert_eq!(found, longest, "{address} in\n{text}");
            }
        }
    }

    #[test]
    fn wrong_lines_are_named() {
        let line = |text: &str| Networks::parse(text).map(|_| ()).map_err(|e| e.line);
        assert_eq!(line("10.0.0.1/8"), Ok(()));
        for wrong in ["10.0.0.0/33", "x", "10.0.0.0/8,site", "10.0.0.0/8,sight=x", "10.0.0.0/8,as=AS", "::/0,\"net=x"] {
            assert_eq!(line(&format!("# fine\n\n{wrong}\n")), Err(3), "{wrong}");
        }
    }
}
