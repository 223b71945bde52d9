//! Keys of groups: the values of some columns of a row as bytes, which are compared and turned into text again.

use super::names;
use crate::sink::schema::ADDRESSES;
use arrow_array::cast::AsArray;
use arrow_array::types::{
    Float64Type, Int32Type, Int64Type, TimestampMicrosecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::DataType;
use std::net::{Ipv4Addr, Ipv6Addr};

/// The source's and the destination's column of a word that stands for both.
pub fn directions_of(word: &str) -> Option<[&'static str; 2]> {
    Some(match word {
        "addr" => ["src_addr", "dst_addr"],
        "port" => ["src_port", "dst_port"],
        "as" => ["src_as", "dst_as"],
        "if" => ["in_if", "out_if"],
        "mask" => ["src_mask", "dst_mask"],
        "mac" => ["src_mac", "dst_mac"],
        "vlan" => ["src_vlan", "dst_vlan"],
        "vrf" => ["in_vrf", "out_vrf"],
        "country" => ["src_country", "dst_country"],
        "nip" => ["nat_src_addr", "nat_dst_addr"],
        "nport" => ["nat_src_port", "nat_dst_port"],
        _ => return None,
    })
}

/// The columns that a key's word stands for: two where it is both directions.
pub(super) fn directions(key: &str) -> Vec<String> {
    directions_of(key).map_or_else(|| vec![key.to_string()], |both| both.map(String::from).to_vec())
}

/// The keys of a batch's rows: one each, or two where a key is both directions.
pub(super) struct Keys<'a> {
    variants: Vec<Vec<Part<'a>>>,
    key: Vec<u8>,
    first: Vec<u8>,
}

impl<'a> Keys<'a> {
    /// Of the columns that `directions` gave for each key.
    pub(super) fn of(batch: &'a RecordBatch, names: &[Vec<String>]) -> Self {
        // Both directions of the first key that has them; the others go with either.
        let variants = (0..names.iter().map(Vec::len).max().unwrap_or(1))
            .map(|v| names.iter().map(|names| Part::of(batch, names.get(v).or(names.last()))).collect())
            .collect();
        Self { variants, key: Vec::new(), first: Vec::new() }
    }

    /// Gives the keys of a row; that of a flow from a value to itself once.
    pub(super) fn each(&mut self, row: usize, mut take: impl FnMut(&[u8])) {
        for (v, parts) in self.variants.iter().enumerate() {
            self.key.clear();
            parts.iter().for_each(|p| p.append(row, &mut self.key));
            if v > 0 && self.key == self.first {
                continue;
            }
            take(&self.key);
            if v + 1 < self.variants.len() {
                self.first.clone_from(&self.key);
            }
        }
    }
}

/// A part of a key: a tag, and the value's bytes.
pub(super) enum Part<'a> {
    Pair(Option<&'a ArrayRef>, Option<&'a ArrayRef>),
    One(Option<&'a ArrayRef>, Shown),
    /// From the start to the end, milliseconds.
    Duration(Option<&'a ArrayRef>, Option<&'a ArrayRef>),
}

/// What numbers are shown as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shown {
    Number,
    Protocol,
    Address,
}

const ABSENT: u8 = 0;
const NUMBER: u8 = 1;
const TEXT: u8 = 2;
const IP4: u8 = 4;
const IP6: u8 = 6;
const TIME: u8 = 7;
const OCTETS: u8 = 8;
const PROTO: u8 = 9;

impl<'a> Part<'a> {
    pub(super) fn of(batch: &'a RecordBatch, name: Option<&String>) -> Self {
        let name = name.map_or("", String::as_str);
        match ADDRESSES.iter().find(|p| p.key == name) {
            Some(pair) => Self::Pair(batch.column_by_name(pair.v4), batch.column_by_name(pair.v6)),
            None if name == "duration_ms" => {
                Self::Duration(batch.column_by_name("flow_start"), batch.column_by_name("flow_end"))
            }
            None => {
                let shown = match name {
                    "proto" => Shown::Protocol,
                    _ if ADDRESSES.iter().any(|p| p.v4 == name) => Shown::Address,
                    _ => Shown::Number,
                };
                Self::One(batch.column_by_name(name), shown)
            }
        }
    }

    pub(super) fn append(&self, row: usize, key: &mut Vec<u8>) {
        match self {
            Self::Pair(v4, v6) => {
                if let Some(array) = v4.filter(|a| a.is_valid(row)) {
                    append_ip4(key, array.as_primitive_opt::<UInt32Type>().map_or(0, |a| a.value(row)));
                } else if let Some(array) = v6.filter(|a| a.is_valid(row)) {
                    let octets = array.as_fixed_size_binary_opt().and_then(|a| a.value(row).first_chunk());
                    append_ip6(key, octets.map_or(0, |b| u128::from_be_bytes(*b)));
                } else {
                    append_absent(key);
                }
            }
            Self::Duration(start, end) => {
                let time = |array: &Option<&ArrayRef>| {
                    let times = array.and_then(|a| a.as_primitive_opt::<TimestampMicrosecondType>())?;
                    times.is_valid(row).then(|| times.value(row))
                };
                match time(start).zip(time(end)) {
                    Some((start, end)) => append_text(key, &end.saturating_sub(start).div_euclid(1000).to_string()),
                    None => append_absent(key),
                }
            }
            Self::One(array, shown) => {
                let Some(array) = array.filter(|a| a.is_valid(row)) else { return append_absent(key) };
                match array.data_type() {
                    DataType::UInt8 if *shown == Shown::Protocol => {
                        append_protocol(key, array.as_primitive::<UInt8Type>().value(row).into());
                    }
                    DataType::UInt8 => append_number(key, array.as_primitive::<UInt8Type>().value(row).into()),
                    DataType::UInt16 => append_number(key, array.as_primitive::<UInt16Type>().value(row).into()),
                    DataType::UInt32 if *shown == Shown::Address => {
                        append_ip4(key, array.as_primitive::<UInt32Type>().value(row));
                    }
                    DataType::UInt32 => append_number(key, array.as_primitive::<UInt32Type>().value(row).into()),
                    DataType::UInt64 => append_number(key, array.as_primitive::<UInt64Type>().value(row)),
                    DataType::Int64 => append_number(key, array.as_primitive::<Int64Type>().value(row).cast_unsigned()),
                    DataType::Timestamp(..) => {
                        append_time(key, array.as_primitive::<TimestampMicrosecondType>().value(row).cast_unsigned());
                    }
                    DataType::Boolean => append_number(key, array.as_boolean().value(row).into()),
                    DataType::FixedSizeBinary(16) => {
                        let octets = array.as_fixed_size_binary().value(row).first_chunk();
                        append_ip6(key, octets.map_or(0, |b| u128::from_be_bytes(*b)));
                    }
                    DataType::FixedSizeBinary(_) => append_octets(key, array.as_fixed_size_binary().value(row)),
                    DataType::Float64 => append_text(key, &array.as_primitive::<Float64Type>().value(row).to_string()),
                    _ => {
                        let text = array.as_string_opt::<i32>().map(|a| a.value(row)).or_else(|| {
                            let dictionary = array.as_dictionary_opt::<Int32Type>()?;
                            let place = usize::try_from(dictionary.keys().value(row)).ok()?;
                            Some(dictionary.values().as_string_opt::<i32>()?.value(place))
                        });
                        append_text(key, text.unwrap_or_default());
                    }
                }
            }
        }
    }
}

pub(super) fn append_absent(key: &mut Vec<u8>) {
    key.push(ABSENT);
}

pub(super) fn append_number(key: &mut Vec<u8>, n: u64) {
    append(key, NUMBER, &n.to_be_bytes());
}

pub(super) fn append_protocol(key: &mut Vec<u8>, n: u64) {
    append(key, PROTO, &n.to_be_bytes());
}

/// Microseconds since 1970.
pub(super) fn append_time(key: &mut Vec<u8>, us: u64) {
    append(key, TIME, &us.to_be_bytes());
}

pub(super) fn append_ip4(key: &mut Vec<u8>, address: u32) {
    append(key, IP4, &address.to_be_bytes());
}

pub(super) fn append_ip6(key: &mut Vec<u8>, address: u128) {
    append(key, IP6, &address.to_be_bytes());
}

/// 255 octets at most.
pub(super) fn append_octets(key: &mut Vec<u8>, octets: &[u8]) {
    let octets = octets.get(..octets.len().min(255)).unwrap_or(octets);
    append(key, OCTETS, &[octets.len() as u8]);
    key.extend_from_slice(octets);
}

/// The first 65535 octets of a text.
pub(super) fn append_text(key: &mut Vec<u8>, text: &str) {
    let text = text.get(..text.floor_char_boundary(usize::from(u16::MAX))).unwrap_or(text);
    append(key, TEXT, &(text.len() as u16).to_be_bytes());
    key.extend_from_slice(text.as_bytes());
}

fn append(key: &mut Vec<u8>, tag: u8, value: &[u8]) {
    key.push(tag);
    key.extend_from_slice(value);
}

/// The parts of a key as text; an absent one is empty.
pub(super) fn texts(mut key: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    while let Some((&tag, rest)) = key.split_first() {
        let number = || rest.first_chunk().map_or(0, |b| u64::from_be_bytes(*b));
        let (text, len) = match tag {
            IP4 => (Ipv4Addr::from(rest.first_chunk().map_or(0, |b| u32::from_be_bytes(*b))).to_string(), 4),
            IP6 => (Ipv6Addr::from(rest.first_chunk::<16>().copied().unwrap_or_default()).to_string(), 16),
            NUMBER => (number().to_string(), 8),
            PROTO => {
                let n = number();
                let name = u8::try_from(n).ok().and_then(names::protocol_name);
                (name.map_or_else(|| n.to_string(), str::to_string), 8)
            }
            TIME => {
                let mut text = Vec::new();
                crate::sink::text::time(&mut text, number().cast_signed());
                (String::from_utf8(text).unwrap_or_default(), 8)
            }
            OCTETS => {
                let n = rest.first().map_or(0, |n| usize::from(*n));
                let octets = rest.get(1..=n).unwrap_or(&[]);
                (octets.iter().map(|b| format!("{b:02x}")).collect::<Vec<_>>().join(":"), 1 + n)
            }
            TEXT => {
                let n = rest.first_chunk().map_or(0, |b| usize::from(u16::from_be_bytes(*b)));
                (String::from_utf8_lossy(rest.get(2..2 + n).unwrap_or(&[])).into_owned(), 2 + n)
            }
            _ => (String::new(), 0),
        };
        found.push(text);
        key = rest.get(len..).unwrap_or(&[]);
    }
    found
}
