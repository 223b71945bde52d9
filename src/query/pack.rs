//! Keys of groups as whole words: each column's value and whether it is there, at fixed bits.
//!
//! Most keys are a few numbers and addresses, which are compared and hashed as one to eight words. A key whose values are all
//! there, addresses as those of IPv4, is narrower than one that also tells what is there, so each has its own layout, and rows go
//! to one or the other.

use super::entry::Rows;
use super::key::{self, Part as Bytes};
use super::value::columns_of;
use crate::columns::ColumnType;
use crate::sink::schema::{ADDRESSES, SCHEMA};
use arrow_array::cast::AsArray;
use arrow_array::types::{
    Int32Type, Int64Type, TimestampMicrosecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{Array, ArrayRef, ArrowPrimitiveType, RecordBatch};
use arrow_buffer::BooleanBuffer;
use arrow_schema::DataType;
use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Words of a key at most.
pub(super) const WORDS: usize = 8;

/// Where the values of a key's columns stand.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    parts: Vec<Part>,
    words: usize,
}

#[derive(Clone, Copy, Debug)]
struct Part {
    kind: Kind,
    // 0 where the row lacks it; 1, or of addresses 1 for IPv4 and 2 for IPv6. None where every row has it.
    present: Option<Field>,
    value: Field,
    // The second half of 128 bits.
    more: Option<Field>,
}

#[derive(Clone, Copy, Debug)]
struct Field {
    word: usize,
    shift: u32,
    bits: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Number,
    Protocol,
    Time,
    Ip4,
    /// Of either family.
    Address,
    Ip6,
    Mac,
    /// The number of a text, or of anything else that has no fixed length.
    Text,
    /// The number of a whole key.
    Whole,
}

impl Kind {
    /// Whether a column of this type has its values where there is one a row.
    fn takes(self, data_type: &DataType) -> bool {
        use DataType as D;
        match self {
            Self::Number | Self::Protocol | Self::Time | Self::Ip4 | Self::Address => matches!(
                data_type,
                D::UInt8 | D::UInt16 | D::UInt32 | D::UInt64 | D::Int64 | D::Timestamp(..) | D::Boolean
            ),
            Self::Ip6 | Self::Mac => matches!(data_type, D::FixedSizeBinary(_)),
            Self::Text => matches!(data_type, D::Dictionary(..) | D::Utf8),
            Self::Whole => false,
        }
    }
}

/// What has no fixed length, as bytes of a key, each once; keys have the numbers.
#[derive(Debug, Default)]
pub(super) struct Texts {
    list: Vec<Arc<[u8]>>,
    places: HashMap<Arc<[u8]>, u32, foldhash::fast::RandomState>,
}

impl Texts {
    fn place(&mut self, bytes: &[u8]) -> u32 {
        if let Some(place) = self.places.get(bytes) {
            return *place;
        }
        let place = self.list.len() as u32;
        let bytes: Arc<[u8]> = bytes.into();
        self.list.push(bytes.clone());
        self.places.insert(bytes, place);
        place
    }

    fn bytes(&self, place: u64) -> &[u8] {
        self.list.get(place as usize).map_or(&[], |t| t)
    }
}

impl Layout {
    /// For columns by name; `dense` where every row has a value of each, and addresses are those of IPv4.
    pub(super) fn new(columns: &[&str], dense: bool) -> Self {
        Self::of_parts(columns, dense).unwrap_or_else(|| {
            let field = |shift, bits| Field { word: 0, shift, bits };
            let whole = Part { kind: Kind::Whole, present: Some(field(32, 1)), value: field(0, 32), more: None };
            Self { parts: vec![whole], words: 1 }
        })
    }

    /// `None` where the columns' values need more words than keys have.
    fn of_parts(columns: &[&str], dense: bool) -> Option<Self> {
        let mut taken: Vec<u32> = Vec::new();
        let mut field = |bits: u32| {
            let word = taken.iter().position(|t| t + bits <= u64::BITS).unwrap_or(taken.len());
            if word == taken.len() {
                taken.push(0);
            }
            let shift = taken.get(word).copied().unwrap_or(0);
            taken[word] += bits;
            Field { word, shift, bits }
        };
        let parts: Vec<Part> = columns
            .iter()
            .map(|name| {
                let (kind, bits) = kind(name);
                let (kind, bits) = if dense && kind == Kind::Address { (Kind::Ip4, 32) } else { (kind, bits) };
                let value = field(bits.min(64));
                let more = (bits > 64).then(|| field(bits - 64));
                let present = (!dense).then(|| field(if kind == Kind::Address { 2 } else { 1 }));
                Part { kind, present, value, more }
            })
            .collect();
        let words = taken.len();
        (words <= WORDS).then_some(Self { parts, words })
    }

    pub(super) fn words(&self) -> usize {
        self.words
    }

    /// Whether a key has numbers of texts, which mean something in one list only.
    pub(super) fn has_texts(&self) -> bool {
        self.parts.iter().any(|p| matches!(p.kind, Kind::Text | Kind::Whole))
    }

    /// Writes the keys of some rows of a batch.
    pub(super) fn pack<const W: usize>(
        &self,
        batch: &RecordBatch,
        columns: &[&str],
        rows: &Rows,
        texts: &Mutex<Texts>,
        keys: &mut Vec<[u64; W]>,
    ) {
        keys.clear();
        keys.resize(rows.len(), [0; W]);
        let mut texts = self.has_texts().then(|| texts.lock().unwrap_or_else(PoisonError::into_inner));
        if let ([part @ Part { kind: Kind::Whole, .. }], Some(texts)) = (&*self.parts, texts.as_mut()) {
            return part.put_bytes(batch, columns, rows, texts, keys);
        }
        for (part, name) in self.parts.iter().zip(columns) {
            if part.kind == Kind::Text {
                if let Some(texts) = texts.as_mut() {
                    part.put_texts(batch, name, rows, texts, keys);
                }
                continue;
            }
            let mut arrays = columns_of(name).into_iter().map(|c| batch.column_by_name(&c));
            let (first, second) = (arrays.next().flatten(), arrays.next().flatten());
            let Some(array) = first.filter(|a| a.null_count() < a.len()) else {
                if let Some(array) = second {
                    part.put_octets::<W>(array, rows, keys, 2);
                }
                continue;
            };
            match part.kind {
                Kind::Number | Kind::Protocol | Kind::Time | Kind::Ip4 => part.put_any(array, rows, keys),
                Kind::Address => {
                    part.put_any(array, rows, keys);
                    if let Some(array) = second {
                        part.put_octets(array, rows, keys, 2);
                    }
                }
                Kind::Ip6 | Kind::Mac => part.put_octets(array, rows, keys, 1),
                Kind::Text | Kind::Whole => {}
            }
        }
    }

    /// The key as bytes, which mean the same everywhere.
    pub(super) fn bytes(&self, words: &[u64], texts: &Texts, to: &mut Vec<u8>) {
        for part in &self.parts {
            let value = part.value.of(words);
            match (part.there(words), part.kind) {
                (0, _) => key::append_absent(to),
                (_, Kind::Number) => key::append_number(to, value),
                (_, Kind::Protocol) => key::append_protocol(to, value),
                (_, Kind::Time) => key::append_time(to, value),
                (_, Kind::Ip4) | (1, Kind::Address) => key::append_ip4(to, value as u32),
                (_, Kind::Ip6 | Kind::Address) => key::append_ip6(to, part.whole(words)),
                (_, Kind::Mac) => key::append_octets(to, value.to_be_bytes().get(2..).unwrap_or(&[])),
                (_, Kind::Text | Kind::Whole) => to.extend_from_slice(texts.bytes(value)),
            }
        }
    }

    /// The order of keys as bytes.
    pub(super) fn order(&self, a: &[u64], b: &[u64], texts: &Texts) -> Ordering {
        let of = |part: &Part| match (part.there(a), part.there(b)) {
            (x, y) if x != y => x.cmp(&y),
            _ if matches!(part.kind, Kind::Text | Kind::Whole) => {
                texts.bytes(part.value.of(a)).cmp(texts.bytes(part.value.of(b)))
            }
            _ => part.whole(a).cmp(&part.whole(b)),
        };
        self.parts.iter().map(of).find(|o| o.is_ne()).unwrap_or(Ordering::Equal)
    }

    /// A key with the numbers that another list has for its texts.
    pub(super) fn renumber(&self, words: &mut [u64], from: &Texts, to: &mut Texts) {
        for part in self.parts.iter().filter(|p| matches!(p.kind, Kind::Text | Kind::Whole)) {
            if part.there(words) == 0 {
                continue;
            }
            let place = to.place(from.bytes(part.value.of(words)));
            part.value.set(words, place.into());
        }
    }
}

impl Field {
    fn of(self, words: &[u64]) -> u64 {
        let mask = u64::MAX >> (u64::BITS - self.bits);
        words.get(self.word).map_or(0, |w| w >> self.shift & mask)
    }

    fn set(self, words: &mut [u64], value: u64) {
        let mask = u64::MAX >> (u64::BITS - self.bits);
        if let Some(word) = words.get_mut(self.word) {
            *word = *word & !(mask << self.shift) | (value & mask) << self.shift;
        }
    }
}

impl Part {
    fn there(&self, words: &[u64]) -> u64 {
        self.present.map_or(1, |field| field.of(words))
    }

    fn mark(&self, words: &mut [u64], tag: u64) {
        if let Some(field) = self.present {
            field.set(words, tag);
        }
    }

    fn whole(&self, words: &[u64]) -> u128 {
        let more = self.more.map_or(0, |f| f.of(words));
        u128::from(more) << 64 | u128::from(self.value.of(words))
    }

    fn put_any<const W: usize>(&self, array: &ArrayRef, rows: &Rows, keys: &mut [[u64; W]]) {
        use DataType as D;
        match array.data_type() {
            D::UInt8 => self.put::<UInt8Type, W>(array, rows, keys, u64::from),
            D::UInt16 => self.put::<UInt16Type, W>(array, rows, keys, u64::from),
            D::UInt32 => self.put::<UInt32Type, W>(array, rows, keys, u64::from),
            D::UInt64 => self.put::<UInt64Type, W>(array, rows, keys, u64::from),
            D::Int64 => self.put::<Int64Type, W>(array, rows, keys, i64::cast_unsigned),
            D::Timestamp(..) => self.put::<TimestampMicrosecondType, W>(array, rows, keys, i64::cast_unsigned),
            D::Boolean => {
                let values = array.as_boolean();
                self.each(array, rows, keys, |row| values.value(row).into());
            }
            // Another program's file: such a value is as if it were not there.
            _ => {}
        }
    }

    fn put<T: ArrowPrimitiveType, const W: usize>(
        &self,
        array: &ArrayRef,
        rows: &Rows,
        keys: &mut [[u64; W]],
        number: impl Fn(T::Native) -> u64,
    ) {
        let Some(values) = array.as_primitive_opt::<T>().map(|a| a.values()) else { return };
        self.each(array, rows, keys, |row| values.get(row).map_or(0, |v| number(*v)));
    }

    #[inline]
    fn each<const W: usize>(&self, array: &ArrayRef, rows: &Rows, keys: &mut [[u64; W]], value: impl Fn(usize) -> u64) {
        let field = self.value;
        let present = self.present.unwrap_or(Field { word: 0, shift: 0, bits: 0 });
        if present.word >= W || field.word >= W {
            return;
        }
        let (mask, there) = (u64::MAX >> (u64::BITS - field.bits), u64::from(present.bits > 0) << present.shift);
        let nulls = array.nulls().filter(|n| n.null_count() > 0);
        let put = |(key, row): (&mut [u64; W], usize)| {
            key[present.word] |= there;
            key[field.word] |= (value(row) & mask) << field.shift;
        };
        match (rows, nulls) {
            // Without a place to look up first, this is a copy.
            (Rows::All(rows), None) => keys.iter_mut().zip(0..*rows).for_each(put),
            (_, None) => keys.iter_mut().zip(rows.iter()).for_each(put),
            (_, Some(nulls)) => keys.iter_mut().zip(rows.iter()).filter(|(_, row)| nulls.is_valid(*row)).for_each(put),
        }
    }

    fn put_octets<const W: usize>(&self, array: &ArrayRef, rows: &Rows, keys: &mut [[u64; W]], tag: u64) {
        let Some(values) = array.as_fixed_size_binary_opt() else { return };
        for (key, row) in keys.iter_mut().zip(rows.iter()) {
            // Where both families are there, IPv4 stands.
            if values.is_valid(row) && self.present.is_none_or(|p| p.of(key) == 0) {
                let bits = values.value(row).iter().fold(0u128, |n, b| n << 8 | u128::from(*b));
                self.mark(key, tag);
                self.value.set(key, bits as u64);
                if let Some(more) = self.more {
                    more.set(key, (bits >> 64) as u64);
                }
            }
        }
    }

    fn put_texts<const W: usize>(
        &self,
        batch: &RecordBatch,
        name: &str,
        rows: &Rows,
        texts: &mut Texts,
        keys: &mut [[u64; W]],
    ) {
        if let Some(array) = batch.column_by_name(name)
            && let Some(dictionary) = array.as_dictionary_opt::<Int32Type>()
            && let Some(names) = dictionary.values().as_string_opt::<i32>()
        {
            // Each entry once, whatever its rows.
            let mut bytes = Vec::new();
            let mut place = |name: Option<&str>| {
                bytes.clear();
                key::append_text(&mut bytes, name.unwrap_or_default());
                u64::from(texts.place(&bytes))
            };
            let places: Vec<u64> = names.iter().map(&mut place).collect();
            let numbers = dictionary.keys().values();
            return self.each(array, rows, keys, |row| {
                numbers.get(row).and_then(|n| places.get(*n as usize)).copied().unwrap_or(0)
            });
        }
        self.put_bytes(batch, &[name], rows, texts, keys);
    }

    /// Numbers of what some columns come to as bytes.
    fn put_bytes<const W: usize>(
        &self,
        batch: &RecordBatch,
        columns: &[&str],
        rows: &Rows,
        texts: &mut Texts,
        keys: &mut [[u64; W]],
    ) {
        let names: Vec<String> = columns.iter().map(ToString::to_string).collect();
        let parts: Vec<Bytes<'_>> = names.iter().map(|name| Bytes::of(batch, Some(name))).collect();
        let mut bytes = Vec::new();
        for (key, row) in keys.iter_mut().zip(rows.iter()) {
            bytes.clear();
            parts.iter().for_each(|part| part.append(row, &mut bytes));
            self.mark(key, 1);
            self.value.set(key, texts.place(&bytes).into());
        }
    }
}

/// The kind of a column, and the bits of its values.
fn kind(name: &str) -> (Kind, u32) {
    use ColumnType as T;
    if ADDRESSES.iter().any(|p| p.key == name) {
        return (Kind::Address, 128);
    }
    let Some(column) = SCHEMA.iter().find(|c| c.name == name) else { return (Kind::Text, 32) };
    match column.data_type {
        T::U8 if name == "proto" => (Kind::Protocol, 8),
        T::U8 => (Kind::Number, 8),
        T::U16 => (Kind::Number, 16),
        T::U32 => (Kind::Number, 32),
        T::Ip4 => (Kind::Ip4, 32),
        T::U64 | T::I64 => (Kind::Number, 64),
        T::Bool => (Kind::Number, 1),
        T::Timestamp => (Kind::Time, 64),
        T::Ip6 => (Kind::Ip6, 128),
        T::Mac => (Kind::Mac, 48),
        T::Text | T::F64 | T::Octets | T::ListU32 => (Kind::Text, 32),
    }
}

/// The bits of the values of columns.
pub(super) fn bits(columns: &[&str]) -> u32 {
    columns.iter().map(|name| kind(name).1).sum()
}

/// Of some rows those that have a value of each column of a key, as its dense layout takes it, and the others.
pub(super) fn by_layout(batch: &RecordBatch, columns: &[&str], rows: Rows) -> (Rows, Rows) {
    let mut all = true;
    let mut there: Option<BooleanBuffer> = None;
    for name in columns {
        let array = columns_of(name).first().and_then(|c| batch.column_by_name(c));
        let of_kind = |array: &&ArrayRef| kind(name).0.takes(array.data_type());
        match array.filter(of_kind).map(|a| a.nulls().filter(|n| n.null_count() > 0)) {
            None => all = false,
            Some(None) => {}
            Some(Some(nulls)) => there = Some(there.map_or_else(|| nulls.inner().clone(), |t| &t & nulls.inner())),
        }
    }
    match (all, there) {
        (false, _) => (Rows::Some(Vec::new()), rows),
        (true, None) => (rows, Rows::Some(Vec::new())),
        (true, Some(there)) => {
            let of = |row: &usize| there.value(*row);
            let (dense, others): (Vec<usize>, Vec<usize>) = rows.iter().partition(of);
            let some = |rows: Vec<usize>| Rows::Some(rows.into_iter().map(|row| row as u32).collect());
            (some(dense), some(others))
        }
    }
}

/// For each of some rows whether its values of two columns are the same, or both are absent.
pub(super) fn same(batch: &RecordBatch, a: &str, b: &str, rows: &Rows) -> Vec<bool> {
    let find = |name: &str| -> Vec<Option<&ArrayRef>> {
        columns_of(name).iter().map(|c| batch.column_by_name(c).filter(|a| a.null_count() < a.len())).collect()
    };
    let (first, second) = (find(a), find(b));
    let numbers = |arrays: &[Option<&ArrayRef>]| -> Option<arrow_array::UInt32Array> {
        match arrays {
            [Some(one)] | [Some(one), None] if one.null_count() == 0 => one.as_primitive_opt::<UInt32Type>().cloned(),
            _ => None,
        }
    };
    if let (Some(x), Some(y)) = (numbers(&first), numbers(&second)) {
        let (x, y) = (x.values(), y.values());
        return rows.iter().map(|row| x.get(row) == y.get(row)).collect();
    }
    let (mut x, mut y) = (Vec::new(), Vec::new());
    let (a, b) = (a.to_string(), b.to_string());
    let (first, second) = (Bytes::of(batch, Some(&a)), Bytes::of(batch, Some(&b)));
    let same = |row: usize| {
        x.clear();
        y.clear();
        first.append(row, &mut x);
        second.append(row, &mut y);
        x == y
    };
    rows.iter().map(same).collect()
}
