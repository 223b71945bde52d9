//! Sums by key: the greatest, the rest, and all.

use super::value::columns_of;
use crate::sink::schema::ADDRESSES;
use arrow_array::cast::AsArray;
use arrow_array::types::{
    Float64Type, Int32Type, Int64Type, TimestampMicrosecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{Array, ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, TimestampMicrosecondArray};
use arrow_buffer::BooleanBuffer;
use arrow_schema::DataType;
use std::collections::HashMap;
use std::net::{Ipv4Addr, Ipv6Addr};

/// What groups are ranked by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    /// Sum of `bytes`, forward only.
    Bytes,
    /// Sum of `packets`.
    Packets,
    /// Sum of `flows`: a record may stand for several.
    Flows,
    /// Bits a second, from the first start to the last end of the group's flows.
    Bps,
    /// Packets a second.
    Pps,
    /// Bytes a packet.
    Bpp,
}

impl std::str::FromStr for Metric {
    type Err = &'static str;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Ok(match name {
            "bytes" => Self::Bytes,
            "packets" => Self::Packets,
            "flows" => Self::Flows,
            "bps" => Self::Bps,
            "pps" => Self::Pps,
            "bpp" => Self::Bpp,
            _ => return Err("there are bytes, packets, flows, bps, pps and bpp"),
        })
    }
}

/// What is summed, and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// Columns; `addr`, `port`, `as` and `if` stand for both directions, and a flow counts with each of its two values.
    pub keys: Vec<String>,
    /// Whether counters are multiplied by the sampling rate, where it is known.
    pub scale: bool,
    /// Groups at most; rows of further ones are summed apart.
    pub groups: usize,
}

/// Sums of some flows.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Row {
    /// Bytes.
    pub bytes: i128,
    /// Packets.
    pub packets: i128,
    /// Flows.
    pub flows: i128,
    /// The first start, microseconds since 1970; `i64::MAX` where none is known.
    pub start: i64,
    /// The last end; `i64::MIN` where none is known.
    pub end: i64,
}

impl Row {
    const NONE: Self = Self { bytes: 0, packets: 0, flows: 0, start: i64::MAX, end: i64::MIN };

    fn add(&mut self, other: &Self) {
        self.bytes += other.bytes;
        self.packets += other.packets;
        self.flows += other.flows;
        self.start = self.start.min(other.start);
        self.end = self.end.max(other.end);
    }

    /// How long it took, seconds; 0 where it is not known.
    pub fn seconds(&self) -> f64 {
        if self.start <= self.end { (self.end - self.start) as f64 / 1e6 } else { 0.0 }
    }

    /// The value of a metric; rates of what took no time are 0.
    pub fn metric(&self, metric: Metric) -> f64 {
        let over = |a: f64, b: f64| if b > 0.0 { a / b } else { 0.0 };
        match metric {
            Metric::Bytes => self.bytes as f64,
            Metric::Packets => self.packets as f64,
            Metric::Flows => self.flows as f64,
            Metric::Bps => over(self.bytes as f64 * 8.0, self.seconds()),
            Metric::Pps => over(self.packets as f64, self.seconds()),
            Metric::Bpp => over(self.bytes as f64, self.packets as f64),
        }
    }
}

/// Sums of groups.
pub struct Top {
    options: Options,
    // The columns of each key: two for a key of both directions.
    keys: Vec<Vec<String>>,
    groups: HashMap<Box<[u8]>, Row, foldhash::fast::RandomState>,
    total: Row,
    beyond: Row,
    totals: u64,
    key: Vec<u8>,
}

impl Top {
    /// Nothing summed yet.
    pub fn new(options: Options) -> Self {
        let both = |key: &str| -> Vec<String> {
            match key {
                "addr" => ["src_addr", "dst_addr"].map(String::from).to_vec(),
                "port" => ["src_port", "dst_port"].map(String::from).to_vec(),
                "as" => ["src_as", "dst_as"].map(String::from).to_vec(),
                "if" => ["in_if", "out_if"].map(String::from).to_vec(),
                one => vec![one.to_string()],
            }
        };
        let keys = options.keys.iter().map(|k| both(k)).collect();
        let groups = HashMap::default();
        Self { options, keys, groups, total: Row::NONE, beyond: Row::NONE, totals: 0, key: Vec::new() }
    }

    /// The columns that are read.
    pub fn columns(&self) -> Vec<String> {
        let sums = ["bytes", "packets", "flows", "flow_start", "flow_end", "counters_are_total"].map(String::from);
        let rate = self.options.scale.then(|| "sampling_rate".to_string());
        self.keys.iter().flatten().flat_map(|k| columns_of(k)).chain(sums).chain(rate).collect()
    }

    /// Adds the chosen rows of a batch.
    pub fn add(&mut self, batch: &RecordBatch, chosen: &BooleanBuffer) {
        let sums = Sums::of(batch, self.options.scale);
        // Both directions of the first key that has them; the others go with either.
        let variants: Vec<Vec<Part<'_>>> = (0..self.keys.iter().map(Vec::len).max().unwrap_or(1))
            .map(|v| self.keys.iter().map(|names| Part::of(batch, names.get(v).or(names.last()))).collect())
            .collect();
        let mut key = std::mem::take(&mut self.key);
        let mut before = Vec::new();
        for row in chosen.set_indices() {
            if sums.is_total(row) {
                self.totals += 1;
                continue;
            }
            let add = sums.row(row);
            self.total.add(&add);
            for (v, parts) in variants.iter().enumerate() {
                key.clear();
                parts.iter().for_each(|p| p.append(row, &mut key));
                // A flow from a value to itself counts once.
                if v > 0 && key == before {
                    continue;
                }
                if v + 1 < variants.len() {
                    before.clone_from(&key);
                }
                let full = self.groups.len() >= self.options.groups;
                match self.groups.get_mut(key.as_slice()) {
                    Some(group) => group.add(&add),
                    None if full => self.beyond.add(&add),
                    None => drop(self.groups.insert(key.as_slice().into(), add)),
                }
            }
        }
        self.key = key;
    }

    /// Adds what another thread summed.
    pub fn merge(&mut self, other: Self) {
        self.total.add(&other.total);
        self.beyond.add(&other.beyond);
        self.totals += other.totals;
        for (key, row) in other.groups {
            let full = self.groups.len() >= self.options.groups;
            match self.groups.get_mut(&key) {
                Some(group) => group.add(&row),
                None if full => self.beyond.add(&row),
                None => drop(self.groups.insert(key, row)),
            }
        }
    }

    /// All rows, each once whatever its keys.
    pub fn total(&self) -> &Row {
        &self.total
    }

    /// Rows of groups beyond the limit; `None` where there are none.
    pub fn beyond(&self) -> Option<&Row> {
        (self.beyond.flows > 0).then_some(&self.beyond)
    }

    /// Records whose counters are running totals, and are not summed.
    pub fn totals(&self) -> u64 {
        self.totals
    }

    /// Groups.
    pub fn len(&self) -> usize {
        self.groups.len()
    }

    /// Whether there is no group.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// The greatest `n` groups by a metric, each with the text of its keys, and the sum of the others.
    pub fn finish(&self, metric: Metric, n: usize) -> (Vec<(Vec<String>, Row)>, Option<Row>) {
        let mut all: Vec<(&[u8], &Row)> = self.groups.iter().map(|(key, row)| (&**key, row)).collect();
        let order = |a: &(&[u8], &Row), b: &(&[u8], &Row)| {
            b.1.metric(metric).total_cmp(&a.1.metric(metric)).then_with(|| a.0.cmp(b.0))
        };
        if all.len() > n && n > 0 {
            all.select_nth_unstable_by(n - 1, order);
        }
        let most = n.min(all.len());
        let (first, rest) = all.split_at_mut(most);
        first.sort_by(order);
        let others = rest.iter().map(|g| *g.1).reduce(|mut a, b| {
            a.add(&b);
            a
        });
        (first.iter().map(|(key, row)| (texts(key), **row)).collect(), others)
    }
}

/// The columns that are summed.
struct Sums<'a> {
    bytes: Option<&'a Int64Array>,
    packets: Option<&'a Int64Array>,
    flows: Option<&'a Int64Array>,
    start: Option<&'a TimestampMicrosecondArray>,
    end: Option<&'a TimestampMicrosecondArray>,
    total: Option<&'a BooleanArray>,
    rate: Option<&'a Float64Array>,
}

impl<'a> Sums<'a> {
    fn of(batch: &'a RecordBatch, scale: bool) -> Self {
        let number = |name: &str| batch.column_by_name(name).and_then(|a| a.as_primitive_opt::<Int64Type>());
        let time =
            |name: &str| batch.column_by_name(name).and_then(|a| a.as_primitive_opt::<TimestampMicrosecondType>());
        let total = batch.column_by_name("counters_are_total").and_then(|a| a.as_boolean_opt());
        let rate = batch.column_by_name("sampling_rate").and_then(|a| a.as_primitive_opt::<Float64Type>());
        Self {
            bytes: number("bytes"),
            packets: number("packets"),
            flows: number("flows"),
            start: time("flow_start"),
            end: time("flow_end"),
            // Where no row is one, none is looked at.
            total: total.filter(|t| t.true_count() > 0),
            rate: rate.filter(|_| scale),
        }
    }

    fn is_total(&self, row: usize) -> bool {
        self.total.is_some_and(|t| t.value(row))
    }

    fn row(&self, row: usize) -> Row {
        let number = |array: Option<&Int64Array>| array.filter(|a| a.is_valid(row)).map(|a| a.value(row));
        let time = |array: Option<&TimestampMicrosecondArray>| array.filter(|a| a.is_valid(row)).map(|a| a.value(row));
        let rate = self.rate.filter(|r| r.is_valid(row)).map_or(1.0, |r| r.value(row));
        let scaled = |n: i64| if rate == 1.0 { i128::from(n) } else { (n as f64 * rate).round() as i128 };
        Row {
            bytes: scaled(number(self.bytes).unwrap_or(0)),
            packets: scaled(number(self.packets).unwrap_or(0)),
            flows: number(self.flows).unwrap_or(1).into(),
            start: time(self.start).unwrap_or(i64::MAX),
            end: time(self.end).unwrap_or(i64::MIN),
        }
    }
}

/// A part of a key: a tag, and the value's bytes.
enum Part<'a> {
    Pair(Option<&'a ArrayRef>, Option<&'a ArrayRef>),
    One(Option<&'a ArrayRef>, bool),
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
    fn of(batch: &'a RecordBatch, name: Option<&String>) -> Self {
        let name = name.map_or("", String::as_str);
        match ADDRESSES.iter().find(|p| p.key == name) {
            Some(pair) => Self::Pair(batch.column_by_name(pair.v4), batch.column_by_name(pair.v6)),
            None => Self::One(batch.column_by_name(name), name == "proto"),
        }
    }

    fn append(&self, row: usize, key: &mut Vec<u8>) {
        match self {
            Self::Pair(v4, v6) => {
                if let Some(array) = v4.filter(|a| a.is_valid(row)) {
                    key.push(IP4);
                    let value = array.as_primitive_opt::<UInt32Type>().map_or(0, |a| a.value(row));
                    key.extend_from_slice(&value.to_be_bytes());
                } else if let Some(array) = v6.filter(|a| a.is_valid(row)) {
                    key.push(IP6);
                    key.extend_from_slice(array.as_fixed_size_binary_opt().map_or(&[0; 16], |a| a.value(row)));
                } else {
                    key.push(ABSENT);
                }
            }
            Self::One(array, is_proto) => {
                let Some(array) = array.filter(|a| a.is_valid(row)) else { return key.push(ABSENT) };
                let mut number = |tag: u8, n: u64| {
                    key.push(tag);
                    key.extend_from_slice(&n.to_be_bytes());
                };
                match array.data_type() {
                    DataType::UInt8 => {
                        let tag = if *is_proto { PROTO } else { NUMBER };
                        number(tag, array.as_primitive::<UInt8Type>().value(row).into());
                    }
                    DataType::UInt16 => number(NUMBER, array.as_primitive::<UInt16Type>().value(row).into()),
                    DataType::UInt32 => number(NUMBER, array.as_primitive::<UInt32Type>().value(row).into()),
                    DataType::UInt64 => number(NUMBER, array.as_primitive::<UInt64Type>().value(row)),
                    DataType::Int64 => {
                        number(NUMBER, array.as_primitive::<Int64Type>().value(row).cast_unsigned());
                    }
                    DataType::Timestamp(..) => {
                        let us = array.as_primitive::<TimestampMicrosecondType>().value(row);
                        number(TIME, us.cast_unsigned());
                    }
                    DataType::Boolean => number(NUMBER, array.as_boolean().value(row).into()),
                    DataType::FixedSizeBinary(n) => {
                        key.push(if *n == 16 { IP6 } else { OCTETS });
                        if *n != 16 {
                            key.push(*n as u8);
                        }
                        key.extend_from_slice(array.as_fixed_size_binary().value(row));
                    }
                    _ => {
                        let text = array.as_string_opt::<i32>().map(|a| a.value(row)).or_else(|| {
                            let dictionary = array.as_dictionary_opt::<Int32Type>()?;
                            let place = usize::try_from(dictionary.keys().value(row)).ok()?;
                            Some(dictionary.values().as_string_opt::<i32>()?.value(place))
                        });
                        let text = text.unwrap_or_default().as_bytes();
                        let text = text.get(..text.len().min(usize::from(u16::MAX))).unwrap_or(text);
                        key.push(TEXT);
                        key.extend_from_slice(&(text.len() as u16).to_be_bytes());
                        key.extend_from_slice(text);
                    }
                }
            }
        }
    }
}

/// The parts of a key as text; an absent one is empty.
fn texts(mut key: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    while let Some((&tag, rest)) = key.split_first() {
        let number = || rest.first_chunk().map_or(0, |b| u64::from_be_bytes(*b));
        let (text, len) = match tag {
            IP4 => (Ipv4Addr::from(rest.first_chunk().map_or(0, |b| u32::from_be_bytes(*b))).to_string(), 4),
            IP6 => (Ipv6Addr::from(rest.first_chunk::<16>().copied().unwrap_or_default()).to_string(), 16),
            NUMBER => (number().to_string(), 8),
            PROTO => {
                let n = number();
                let name = u8::try_from(n).ok().and_then(super::names::protocol_name);
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
