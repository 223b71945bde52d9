//! Writes MaxMind DB files from the format's specification alone; it shares no code with what reads them.
#![allow(dead_code, reason = "each test binary uses a part")]

use std::net::IpAddr;

/// A value of the data section.
#[derive(Clone, Debug)]
pub enum Data {
    Text(String),
    U16(u16),
    U32(u32),
    U64(u64),
    Map(Vec<(&'static str, Data)>),
    List(Vec<Data>),
}

pub fn text(text: &str) -> Data {
    Data::Text(text.to_string())
}

pub fn map<const N: usize>(entries: [(&'static str, Data); N]) -> Data {
    Data::Map(entries.into())
}

/// A record as GeoLite2-City has it.
pub fn city(country: &str, city: &str) -> Data {
    map([
        ("city", map([("geoname_id", Data::U32(7)), ("names", map([("de", text("-")), ("en", text(city))]))])),
        ("country", map([("iso_code", text(country)), ("names", map([("en", text("a country"))]))])),
    ])
}

/// A record as GeoLite2-ASN has it.
pub fn asn(number: u32, name: &str) -> Data {
    map([("autonomous_system_number", Data::U32(number)), ("autonomous_system_organization", text(name))])
}

/// A branch of the search tree.
#[derive(Clone, Copy)]
enum Branch {
    Nothing,
    Node(usize),
    // Where in the data section.
    Data(usize),
}

/// The file of a database: the bits of a record (24, 28 or 32), 4 or 6, and what is said of each prefix; the longest is
/// right.
pub fn database(record_size: u16, ip_version: u16, entries: &[(&str, Data)]) -> Vec<u8> {
    let mut section = Vec::new();
    let mut prefixes: Vec<(u8, u128, usize)> = Vec::new();
    for (prefix, data) in entries {
        let (address, len) = prefix.split_once('/').expect("a prefix");
        let len: u8 = len.parse().expect("a length");
        // IPv4 stands at ::/96 of a tree of IPv6; bits are counted from the left.
        let (bits, len) = match (address.parse().expect("an address"), ip_version) {
            (IpAddr::V4(v4), 4) => (u128::from(v4.to_bits()) << 96, len),
            (IpAddr::V4(v4), _) => (u128::from(v4.to_bits()), len + 96),
            (IpAddr::V6(v6), _) => (v6.to_bits(), len),
        };
        prefixes.push((len, bits, section.len()));
        encode(&mut section, data);
    }
    prefixes.sort_by_key(|p| p.0);
    let mut nodes = vec![[Branch::Nothing; 2]];
    for (len, bits, at) in prefixes {
        let bit = |i: u8| (bits >> (127 - i) & 1) as usize;
        let mut node = 0;
        for i in 0..len - 1 {
            node = match nodes[node][bit(i)] {
                Branch::Node(next) => next,
                // What was said of both halves is said of each.
                above => {
                    nodes.push([above; 2]);
                    let next = nodes.len() - 1;
                    nodes[node][bit(i)] = Branch::Node(next);
                    next
                }
            };
        }
        nodes[node][bit(len - 1)] = Branch::Data(at);
    }
    let count = nodes.len() as u32;
    let number = |branch: Branch| match branch {
        Branch::Nothing => count,
        Branch::Node(node) => node as u32,
        Branch::Data(at) => count + 16 + at as u32,
    };
    let mut file = Vec::new();
    for [left, right] in nodes {
        let (left, right) = (number(left).to_be_bytes(), number(right).to_be_bytes());
        match record_size {
            24 => file.extend([&left[1..], &right[1..]].concat()),
            28 => {
                file.extend(&left[1..]);
                file.push(left[0] << 4 | right[0]);
                file.extend(&right[1..]);
            }
            _ => file.extend([left, right].concat()),
        }
    }
    file.extend([0; 16]);
    file.extend(section);
    file.extend(b"\xab\xcd\xefMaxMind.com");
    let about = map([
        ("binary_format_major_version", Data::U16(2)),
        ("binary_format_minor_version", Data::U16(0)),
        ("build_epoch", Data::U64(1_700_000_000)),
        ("database_type", text("Test")),
        ("description", map([("en", text("for tests"))])),
        ("ip_version", Data::U16(ip_version)),
        ("languages", Data::List(vec![text("en")])),
        ("node_count", Data::U32(count)),
        ("record_size", Data::U16(record_size)),
    ]);
    encode(&mut file, &about);
    file
}

fn encode(to: &mut Vec<u8>, data: &Data) {
    match data {
        Data::Text(text) => {
            head(to, 2, text.len());
            to.extend(text.as_bytes());
        }
        Data::U16(n) => number(to, 5, &n.to_be_bytes()),
        Data::U32(n) => number(to, 6, &n.to_be_bytes()),
        Data::U64(n) => number(to, 9, &n.to_be_bytes()),
        Data::Map(entries) => {
            head(to, 7, entries.len());
            for (key, value) in entries {
                encode(to, &text(key));
                encode(to, value);
            }
        }
        Data::List(values) => {
            head(to, 11, values.len());
            values.iter().for_each(|value| encode(to, value));
        }
    }
}

/// Leading zero bytes are left out.
fn number(to: &mut Vec<u8>, kind: u8, bytes: &[u8]) {
    let zeros = bytes.iter().take_while(|b| **b == 0).count();
    head(to, kind, bytes.len() - zeros);
    to.extend(&bytes[zeros..]);
}

/// The type and the size: types above 7 stand in a byte of their own, and so do sizes above 28.
fn head(to: &mut Vec<u8>, kind: u8, size: usize) {
    let (first, more) = if size < 29 { (size as u8, None) } else { (29, Some((size - 29) as u8)) };
    assert!(size < 29 + 256, "longer than tests need");
    if kind > 7 {
        to.extend([first, kind - 7]);
    } else {
        to.push(kind << 5 | first);
    }
    to.extend(more);
}
