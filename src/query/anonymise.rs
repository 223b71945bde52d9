//! Addresses that keep their prefixes and lose their identity: Crypto-PAn.
//!
//! J. Xu, J. Fan, M. Ammar, S. Moon: "Prefix-Preserving IP Address Anonymization: Measurement-based Security Evaluation
//! and a New Cryptography-based Scheme", IEEE ICNP 2002. Two addresses that share their first n bits share the first n bits
//! afterwards, and no others: bit n of the result is bit n of the address, turned over by a bit that AES makes of the n
//! bits before it. The same key gives the same addresses in every file; nfdump's `-K` takes the same keys and gives the same
//! IPv4 addresses.

use super::value::columns_of;
use crate::sink::schema::ADDRESSES;
use aes::Aes128;
use aes::cipher::{Array, BlockCipherEncrypt, KeyInit};
use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, UInt32Type};
use arrow_array::{Array as _, ArrayRef, DictionaryArray, FixedSizeBinaryArray, RecordBatch, StringArray, UInt32Array};
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex};

/// Turns addresses into others.
pub struct Anonymiser {
    cipher: Aes128,
    pad: u128,
    // Most flows are of few hosts.
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    v4: HashMap<u32, u32, foldhash::fast::RandomState>,
    v6: HashMap<u128, u128, foldhash::fast::RandomState>,
}

/// Addresses that are remembered, of each family.
const KNOWN: usize = 1 << 18;

/// Columns of a flow that name who or where it was without being an address; whoever shares flows leaves them out. The numbers
/// of autonomous systems stay, and so do the names of those, of countries and of applications, which many have in common.
const IDENTITIES: [&str; 16] = [
    "src_mac",
    "dst_mac",
    "user_name",
    "exporter_name",
    "in_if_name",
    "out_if_name",
    "in_vrf_name",
    "out_vrf_name",
    "sampler_name",
    "src_net",
    "dst_net",
    "src_site",
    "dst_site",
    "src_city",
    "dst_city",
    "extras",
];

/// A key that is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyError;

impl std::fmt::Display for KeyError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a key is 32 characters, or 0x and 64 hexadecimal digits")
    }
}

impl std::error::Error for KeyError {}

impl std::str::FromStr for Anonymiser {
    type Err = KeyError;

    /// From 32 characters, or 0x and 64 hexadecimal digits.
    fn from_str(text: &str) -> Result<Self, KeyError> {
        if let Ok(key) = <[u8; 32]>::try_from(text.as_bytes()) {
            return Ok(Self::new(&key));
        }
        let digits = text.strip_prefix("0x").filter(|d| d.len() == 64 && d.is_ascii()).ok_or(KeyError)?;
        let mut key = [0; 32];
        for (byte, digits) in key.iter_mut().zip(digits.as_bytes().as_chunks::<2>().0) {
            let digits = std::str::from_utf8(digits).map_err(|_| KeyError)?;
            *byte = u8::from_str_radix(digits, 16).map_err(|_| KeyError)?;
        }
        Ok(Self::new(&key))
    }
}

// The key and the addresses are nobody's to see.
impl std::fmt::Debug for Anonymiser {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Anonymiser")
    }
}

impl Anonymiser {
    /// By a key of 16 bytes for AES and 16 that the padding is made of.
    pub fn new(key: &[u8; 32]) -> Self {
        let (cipher_key, pad) = key.split_at(16);
        let cipher = Aes128::new(&Array::from(cipher_key.first_chunk().copied().unwrap_or([0; 16])));
        let mut pad = Array::from(pad.first_chunk().copied().unwrap_or([0; 16]));
        cipher.encrypt_block(&mut pad);
        Self { cipher, pad: u128::from_be_bytes(pad.into()), known: Mutex::default() }
    }

    /// The address that stands for another one.
    pub fn v4(&self, address: Ipv4Addr) -> Ipv4Addr {
        let bits = address.to_bits();
        let known = self.known.lock().ok().and_then(|k| k.v4.get(&bits).copied());
        Ipv4Addr::from_bits(known.unwrap_or_else(|| {
            let found = (self.turned::<32>(u128::from(bits) << 96) >> 96) as u32;
            if let Ok(mut known) = self.known.lock() {
                if known.v4.len() >= KNOWN {
                    known.v4.clear();
                }
                known.v4.insert(bits, found);
            }
            found
        }))
    }

    /// The address that stands for another one.
    pub fn v6(&self, address: Ipv6Addr) -> Ipv6Addr {
        let bits = address.to_bits();
        let known = self.known.lock().ok().and_then(|k| k.v6.get(&bits).copied());
        Ipv6Addr::from_bits(known.unwrap_or_else(|| {
            let found = self.turned::<128>(bits);
            if let Ok(mut known) = self.known.lock() {
                if known.v6.len() >= KNOWN {
                    known.v6.clear();
                }
                known.v6.insert(bits, found);
            }
            found
        }))
    }

    /// The address in a text, or a text that is none as it is.
    pub fn text(&self, text: &str) -> String {
        match text.parse() {
            Ok(IpAddr::V4(address)) => self.v4(address).to_string(),
            Ok(IpAddr::V6(address)) => self.v6(address).to_string(),
            Err(_) => text.to_string(),
        }
    }

    /// Texts of columns, of which those of addresses become others.
    pub fn texts(&self, columns: &[impl AsRef<str>], texts: &mut [String]) {
        for (text, _) in texts.iter_mut().zip(columns).filter(|(_, column)| Self::is_address(column.as_ref())) {
            *text = self.text(text);
        }
    }

    /// Whether a column, or a key of text, holds addresses.
    pub fn is_address(name: &str) -> bool {
        matches!(name, "addr" | "exporter")
            || ADDRESSES.iter().any(|p| p.key == name || columns_of(p.key).iter().any(|c| c == name))
    }

    /// Whether a column tells who it was although it is no address: a MAC address, a name, an element of a vendor's.
    pub fn is_identity(name: &str) -> bool {
        name.starts_with("x_") || IDENTITIES.contains(&name)
    }

    /// A batch with other addresses; columns that tell who it was without being one are left out.
    pub fn batch(&self, batch: &RecordBatch) -> RecordBatch {
        let schema = batch.schema();
        let kept: Vec<usize> = schema
            .fields()
            .iter()
            .enumerate()
            .filter(|(_, field)| !Self::is_identity(field.name()))
            .map(|f| f.0)
            .collect();
        let Ok(narrow) = batch.project(&kept) else { return batch.slice(0, 0) };
        let schema = narrow.schema();
        let columns = narrow
            .columns()
            .iter()
            .zip(schema.fields())
            .map(|(array, field)| if Self::is_address(field.name()) { self.array(array) } else { array.clone() });
        // The arrays are of the same types and lengths.
        RecordBatch::try_new(schema.clone(), columns.collect()).unwrap_or_else(|_| batch.slice(0, 0))
    }

    fn array(&self, array: &ArrayRef) -> ArrayRef {
        if let Some(values) = array.as_primitive_opt::<UInt32Type>() {
            let turned: UInt32Array = values.unary(|v| self.v4(Ipv4Addr::from_bits(v)).to_bits());
            return Arc::new(turned);
        }
        if let Some(values) = array.as_fixed_size_binary_opt() {
            let turned = values.iter().map(|v| {
                let octets = v?.first_chunk::<16>()?;
                Some(self.v6(Ipv6Addr::from(*octets)).octets())
            });
            if let Ok(turned) = FixedSizeBinaryArray::try_from_sparse_iter_with_size(turned, 16) {
                return Arc::new(turned);
            }
        }
        if let Some(dictionary) = array.as_dictionary_opt::<Int32Type>()
            && let Some(names) = dictionary.values().as_string_opt::<i32>()
        {
            let names: StringArray = names.iter().map(|n| n.map(|n| self.text(n))).collect();
            if let Ok(turned) = DictionaryArray::try_new(dictionary.keys().clone(), Arc::new(names)) {
                return Arc::new(turned);
            }
        }
        if let Some(values) = array.as_string_opt::<i32>() {
            let turned: StringArray = values.iter().map(|v| v.map(|v| self.text(v))).collect();
            return Arc::new(turned);
        }
        arrow_array::new_null_array(array.data_type(), array.len())
    }

    /// The first `N` bits turned over where the scheme says so.
    fn turned<const N: usize>(&self, address: u128) -> u128 {
        // Bit n depends on the n bits before it, with the padding behind them.
        let mut blocks: [_; N] = std::array::from_fn(|n| {
            let before = u128::MAX.checked_shl(128 - n as u32).unwrap_or(0);
            Array::from((address & before | self.pad & !before).to_be_bytes())
        });
        self.cipher.encrypt_blocks(&mut blocks);
        let turn = |n: usize, block: &Array<u8, _>| u128::from(block[0] >> 7) << (127 - n);
        address ^ blocks.iter().enumerate().fold(0, |all, (n, block)| all | turn(n, block))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::PrimitiveArray;
    use arrow_schema::{Field, Schema};

    /// The key of the sample that the authors publish with their program.
    const SAMPLE: [u8; 32] = [
        21, 34, 23, 141, 51, 164, 207, 128, 19, 10, 91, 22, 73, 144, 125, 16, 216, 152, 143, 131, 121, 121, 101, 39,
        98, 87, 76, 45, 42, 132, 34, 2,
    ];

    #[test]
    fn the_authors_sample() {
        let anonymiser = Anonymiser::new(&SAMPLE);
        for (address, expected) in [
            ("128.11.68.132", "135.242.180.132"),
            ("129.118.74.4", "134.136.186.123"),
            ("130.132.252.244", "133.68.164.234"),
            ("141.223.7.43", "141.167.8.160"),
            ("141.233.145.108", "141.129.237.235"),
            ("152.163.225.39", "151.140.114.167"),
            ("156.29.3.236", "147.225.12.42"),
            ("165.247.96.84", "162.9.99.234"),
            ("166.107.77.190", "160.132.178.185"),
            ("192.102.249.13", "252.138.62.131"),
            ("207.135.65.238", "241.202.129.222"),
            ("209.12.231.7", "226.243.167.8"),
            ("216.148.237.145", "235.84.194.111"),
            ("24.0.250.221", "100.15.198.226"),
            ("38.15.67.68", "64.3.66.187"),
            ("4.3.88.225", "124.60.155.63"),
            ("63.14.55.111", "95.9.215.7"),
            ("64.14.118.196", "0.255.183.58"),
            ("64.39.15.238", "0.219.7.41"),
            // Of IPv6 the authors publish none: these are those of the Python package yacryptopan.
            ("2001:db8::1", "4401:2bc:603f:d91d:27f:ff8e:e6f1:dc1e"),
            ("2001:db8::2", "4401:2bc:603f:d91d:27f:ff8e:e6f1:dc1c"),
            ("2001:db8:ffff::1", "4401:2bc:c696:18de:9c0f:51ff:1eff:de11"),
            ("fe80::1", "cf7f:c0e:1fc3:da1c:70:b18e:f7f3:2101"),
            ("::", "78ff:f001:9fc0:20df:8380:b1f1:704:ec"),
            ("no address", "no address"),
        ] {
            assert_eq!(anonymiser.text(address), expected, "{address}");
            assert_eq!(anonymiser.text(address), expected, "{address} again");
        }
    }

    #[test]
    fn prefixes_are_kept() {
        let anonymiser: Anonymiser = "a key that has just 32 characters".get(..32).expect("32").parse().expect("a key");
        let addresses: Vec<u32> = (0..2000u32).map(|i| i.wrapping_mul(0x9e37_79b9) >> (i % 7)).collect();
        for pair in addresses.windows(2) {
            let turned = |a: u32| anonymiser.v4(Ipv4Addr::from_bits(a)).to_bits();
            let common = |a: u32, b: u32| (a ^ b).leading_zeros();
            assert_eq!(common(pair[0], pair[1]), common(turned(pair[0]), turned(pair[1])));
        }
    }

    #[test]
    fn keys() {
        let hex: String = SAMPLE.iter().map(|b| format!("{b:02x}")).collect();
        let anonymiser: Anonymiser = format!("0x{hex}").parse().expect("a key");
        assert_eq!(anonymiser.text("128.11.68.132"), "135.242.180.132");
        for wrong in ["", "short", "0x12", &hex, &format!("0x{}", "g".repeat(64)), &"é".repeat(32)] {
            assert!(wrong.parse::<Anonymiser>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn batches_have_other_addresses_and_no_names() {
        let anonymiser = Anonymiser::new(&SAMPLE);
        let v4: UInt32Array = [Some(Ipv4Addr::new(128, 11, 68, 132).to_bits()), None].into_iter().collect();
        let ports: PrimitiveArray<UInt32Type> = [Some(1), Some(2)].into_iter().collect();
        let exporter: DictionaryArray<Int32Type> = ["129.118.74.4", "129.118.74.4"].into_iter().collect();
        let octets = [Some(Ipv6Addr::LOCALHOST.octets()), None].into_iter();
        let v6 = FixedSizeBinaryArray::try_from_sparse_iter_with_size(octets, 16).expect("16");
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("src_ip4", Arc::new(v4)),
            ("src_as", Arc::new(ports)),
            ("exporter", Arc::new(exporter)),
            ("next_hop6", Arc::new(v6)),
            ("app_name", Arc::new(StringArray::from(vec!["dns", "dns"]))),
            ("src_country", Arc::new(StringArray::from(vec!["CH", "CH"]))),
            ("src_as_name", Arc::new(StringArray::from(vec!["SWITCH", "SWITCH"]))),
            ("user_name", Arc::new(StringArray::from(vec!["alice", "bob"]))),
            ("exporter_name", Arc::new(StringArray::from(vec!["edge-1", "edge-1"]))),
            ("in_if_name", Arc::new(StringArray::from(vec!["eth0", "eth0"]))),
            ("src_site", Arc::new(StringArray::from(vec!["Basel", "Genf"]))),
            ("dst_city", Arc::new(StringArray::from(vec!["Basel", "Genf"]))),
            ("x_some", Arc::new(StringArray::from(vec!["alice", "bob"]))),
        ];
        let fields: Vec<Field> = columns.iter().map(|(n, a)| Field::new(*n, a.data_type().clone(), true)).collect();
        let arrays = columns.into_iter().map(|c| c.1).collect();
        let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).expect("columns");
        let turned = anonymiser.batch(&batch);
        let names: Vec<String> = turned.schema().fields().iter().map(|f| f.name().clone()).collect();
        assert_eq!(names, ["src_ip4", "src_as", "exporter", "next_hop6", "app_name", "src_country", "src_as_name"]);
        let text = |name: &str, row| crate::query::text(&turned, name, row);
        assert_eq!(text("src_addr", 0).as_deref(), Some("135.242.180.132"));
        assert_eq!((text("src_addr", 1), text("src_as", 1).as_deref()), (None, Some("2")));
        assert_eq!(text("exporter", 1).as_deref(), Some("134.136.186.123"));
        assert_eq!(text("next_hop", 0), Some(anonymiser.text("::1")));
    }
}
