//! A filter over the columns of a record batch, in three-valued logic: a column that a row lacks is unknown.

use super::filter::{Column, Expr, Filter, Rate, Set};
use super::literal::{mac, number, prefix};
use arrow_array::cast::AsArray;
use arrow_array::types::{
    Float64Type, Int32Type, Int64Type, TimestampMicrosecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{Array, ArrayRef, ArrowPrimitiveType, Int64Array, RecordBatch, TimestampMicrosecondArray};
use arrow_buffer::{BooleanBuffer, Buffer};
use arrow_schema::DataType;
use std::net::IpAddr;

/// For each row whether a condition is known to hold, and known not to.
#[derive(Clone, Debug)]
struct Tri {
    holds: BooleanBuffer,
    fails: BooleanBuffer,
}

impl Tri {
    fn of(rows: usize, value: bool) -> Self {
        let (yes, no) = (BooleanBuffer::new_set(rows), BooleanBuffer::new_unset(rows));
        if value { Self { holds: yes, fails: no } } else { Self { holds: no, fails: yes } }
    }

    fn unknown(rows: usize) -> Self {
        Self { holds: BooleanBuffer::new_unset(rows), fails: BooleanBuffer::new_unset(rows) }
    }

    fn and(&self, other: &Self) -> Self {
        Self { holds: &self.holds & &other.holds, fails: &self.fails | &other.fails }
    }

    fn or(&self, other: &Self) -> Self {
        Self { holds: &self.holds | &other.holds, fails: &self.fails & &other.fails }
    }

    fn not(self) -> Self {
        Self { holds: self.fails, fails: self.holds }
    }

    /// Of a column: what `hit` says where it has a value, unknown elsewhere.
    fn of_column(array: &dyn Array, hit: impl Fn(usize) -> bool) -> Self {
        // A column of the other family, as often as not: nothing is asked row by row.
        if array.null_count() == array.len() {
            return Self::unknown(array.len());
        }
        Self::known(array, BooleanBuffer::collect_bool(array.len(), hit))
    }

    /// The same where it was asked of all rows.
    fn known(array: &dyn Array, holds: BooleanBuffer) -> Self {
        match array.nulls() {
            None => Self { fails: !&holds, holds },
            Some(nulls) => {
                let known = nulls.inner();
                Self { fails: &!&holds & known, holds: &holds & known }
            }
        }
    }
}

impl Filter {
    /// The rows for which the filter holds, and how many it could not tell of.
    pub(super) fn rows(&self, batch: &RecordBatch) -> (BooleanBuffer, usize) {
        let (holds, unknown) = self.tell(batch);
        let unknown = unknown.count_set_bits();
        match &self.duplicates {
            Some(duplicates) => (duplicates.leave_out(batch, &holds), unknown),
            None => (holds, unknown),
        }
    }

    /// The rows for which the filter holds, duplicates among them, and those it could not tell of.
    pub(super) fn tell(&self, batch: &RecordBatch) -> (BooleanBuffer, BooleanBuffer) {
        let found = eval(&self.expr, batch);
        let unknown = !&(&found.holds | &found.fails);
        (found.holds, unknown)
    }
}

fn eval(expr: &Expr, batch: &RecordBatch) -> Tri {
    match expr {
        Expr::All => Tri::of(batch.num_rows(), true),
        Expr::And(a, b) => {
            let a = eval(a, batch);
            if a.holds.count_set_bits() == 0 && a.fails.count_set_bits() == batch.num_rows() {
                return a;
            }
            a.and(&eval(b, batch))
        }
        Expr::Or(a, b) => eval(a, batch).or(&eval(b, batch)),
        Expr::Not(a) => eval(a, batch).not(),
        Expr::Test(column, set) => test(column, set, batch),
    }
}

fn test(column: &Column, set: &Set, batch: &RecordBatch) -> Tri {
    let rows = batch.num_rows();
    match column {
        Column::One(name, _) => match batch.column_by_name(name) {
            Some(array) => in_set(array, set),
            None if *set == Set::Present => Tri::of(rows, false),
            None => Tri::unknown(rows),
        },
        Column::Extra(name) => match batch.column_by_name(name) {
            Some(array) => in_extra(array, set),
            None if *set == Set::Present => Tri::of(rows, false),
            None => Tri::unknown(rows),
        },
        Column::Pair(v4, v6) => {
            let of = |name: &str| batch.column_by_name(name).map(|array| in_set(array, set));
            match (of(v4), of(v6)) {
                (Some(a), Some(b)) if *set == Set::Present => a.or(&b),
                // A row has a value of one family; that of the other is no match, not unknown.
                (Some(a), Some(b)) => {
                    let holds = &a.holds | &b.holds;
                    let known = &(&a.holds | &a.fails) | &(&b.holds | &b.fails);
                    Tri { fails: &known & &!&holds, holds }
                }
                (Some(one), None) | (None, Some(one)) => one,
                (None, None) if *set == Set::Present => Tri::of(rows, false),
                (None, None) => Tri::unknown(rows),
            }
        }
        Column::Octet(name, first) => {
            let Set::Ranges(ranges) = set else { return presence(column, set, batch) };
            let Some(values) = batch.column_by_name(name).and_then(|a| a.as_primitive_opt::<UInt32Type>()) else {
                return Tri::unknown(rows);
            };
            let octet = |i: usize| i128::from(values.value(i) >> first & 0xff);
            Tri::of_column(values, |i| ranges.iter().any(|r| (r.0..=r.1).contains(&octet(i))))
        }
        Column::Label(place) => {
            let Set::Ranges(ranges) = set else { return presence(column, set, batch) };
            let found = batch.column_by_name("mpls_labels").and_then(|a| labels(a, ranges, Some(*place)));
            found.unwrap_or_else(|| Tri::unknown(rows))
        }
        Column::Duration => {
            let (Some(start), Some(end), Set::Ranges(ranges)) =
                (time(batch, "flow_start"), time(batch, "flow_end"), set)
            else {
                return presence(column, set, batch);
            };
            let hit = |i: usize| {
                let ms = (i128::from(end.value(i)) - i128::from(start.value(i))).div_euclid(1000);
                ranges.iter().any(|r| (r.0..=r.1).contains(&ms))
            };
            Tri::of_column(start, hit).and(&Tri::of_column(end, |_| true))
        }
        Column::Rate(rate) => {
            let Set::Ranges(ranges) = set else { return presence(column, set, batch) };
            rates(*rate, ranges, batch).unwrap_or_else(|| Tri::unknown(rows))
        }
    }
}

fn time<'a>(batch: &'a RecordBatch, name: &str) -> Option<&'a TimestampMicrosecondArray> {
    batch.column_by_name(name)?.as_primitive_opt::<TimestampMicrosecondType>()
}

fn count<'a>(batch: &'a RecordBatch, name: &str) -> Option<&'a Int64Array> {
    batch.column_by_name(name)?.as_primitive_opt::<Int64Type>()
}

/// Of what follows from several columns: it is there where they all are.
fn presence(column: &Column, set: &Set, batch: &RecordBatch) -> Tri {
    let rows = batch.num_rows();
    if *set != Set::Present {
        return Tri::unknown(rows);
    }
    let of = |name: &String| batch.column_by_name(name).map_or_else(|| Tri::of(rows, false), |a| in_set(a, set));
    column.names().iter().fold(Tri::of(rows, true), |all, name| all.and(&of(name)))
}

fn rates(rate: Rate, ranges: &[(i128, i128)], batch: &RecordBatch) -> Option<Tri> {
    let counter = count(batch, if rate == Rate::Pps { "packets" } else { "bytes" })?;
    let is_in = |n: i128| ranges.iter().any(|r| (r.0..=r.1).contains(&n));
    let over = |a: i128, b: i128| if b > 0 { a / b } else { 0 };
    if rate == Rate::Bpp {
        let packets = count(batch, "packets")?;
        let hit = |i: usize| is_in(over(counter.value(i).into(), packets.value(i).into()));
        return Some(Tri::of_column(counter, hit).and(&Tri::of_column(packets, |_| true)));
    }
    let (start, end) = (time(batch, "flow_start")?, time(batch, "flow_end")?);
    let factor = if rate == Rate::Bps { 8_000_000 } else { 1_000_000 };
    let hit = |i: usize| {
        let us = i128::from(end.value(i)) - i128::from(start.value(i));
        is_in(over(i128::from(counter.value(i)) * factor, us))
    };
    let known = Tri::of_column(start, |_| true).and(&Tri::of_column(end, |_| true));
    Some(Tri::of_column(counter, hit).and(&known))
}

/// For which values a condition holds: asked of 64 at a time, so that vectors compare.
fn bits<T: Copy>(values: &[T], holds: impl Fn(T) -> bool) -> BooleanBuffer {
    let mut found: Vec<u64> = Vec::with_capacity(values.len().div_ceil(64));
    for values in values.chunks(64) {
        let mut hits = [0; 64];
        hits.iter_mut().zip(values).for_each(|(hit, n)| *hit = u8::from(holds(*n)));
        let mut word = 0;
        for (at, eight) in hits.as_chunks::<8>().0.iter().enumerate() {
            // Moves the lowest bits of eight bytes into the highest byte, in their order.
            word |= u64::from_le_bytes(*eight).wrapping_mul(0x0102_0408_1020_4080) >> 56 << (8 * at);
        }
        found.push(word.to_le());
    }
    BooleanBuffer::new(Buffer::from_vec(found), 0, values.len())
}

/// Ranges in the numbers of a type; what none of them can be in is left out.
fn clamp<T: TryFrom<i128> + Copy>(ranges: &[(i128, i128)], min: i128, max: i128) -> Vec<(T, T)> {
    let inside = |r: &(i128, i128)| {
        let (low, high) = (r.0.max(min), r.1.min(max));
        (low <= high).then(|| Some((T::try_from(low).ok()?, T::try_from(high).ok()?))).flatten()
    };
    ranges.iter().filter_map(inside).collect()
}

fn numbers<T>(array: &ArrayRef, ranges: &[(i128, i128)], min: i128, max: i128) -> Option<Tri>
where
    T: ArrowPrimitiveType,
    T::Native: TryFrom<i128> + PartialOrd,
{
    let values = array.as_primitive_opt::<T>()?.values();
    let ranges = clamp::<T::Native>(ranges, min, max);
    Some(match ranges.as_slice() {
        // One range is the rule: a loop without an inner one.
        &[(low, high)] => Tri::known(array, bits(values, |n| n >= low && n <= high)),
        many => Tri::of_column(array, |i| many.iter().any(|r| values[i] >= r.0 && values[i] <= r.1)),
    })
}

fn in_set(array: &ArrayRef, set: &Set) -> Tri {
    let unknown = || Tri::unknown(array.len());
    match set {
        Set::Present => {
            let holds = array.nulls().map_or_else(|| BooleanBuffer::new_set(array.len()), |n| n.inner().clone());
            Tri { fails: !&holds, holds }
        }
        Set::Ranges(ranges) => {
            let found = match array.data_type() {
                DataType::UInt8 => numbers::<UInt8Type>(array, ranges, 0, u8::MAX.into()),
                DataType::UInt16 => numbers::<UInt16Type>(array, ranges, 0, u16::MAX.into()),
                DataType::UInt32 => numbers::<UInt32Type>(array, ranges, 0, u32::MAX.into()),
                DataType::UInt64 => numbers::<UInt64Type>(array, ranges, 0, u64::MAX.into()),
                DataType::Int64 => numbers::<Int64Type>(array, ranges, i64::MIN.into(), i64::MAX.into()),
                DataType::List(_) => labels(array, ranges, None),
                DataType::Timestamp(..) => {
                    numbers::<TimestampMicrosecondType>(array, ranges, i64::MIN.into(), i64::MAX.into())
                }
                _ => None,
            };
            found.unwrap_or_else(unknown)
        }
        Set::Floats(ranges) => match array.as_primitive_opt::<Float64Type>() {
            Some(values) => Tri::of_column(array, |i| ranges.iter().any(|r| (r.0..=r.1).contains(&values.value(i)))),
            None => unknown(),
        },
        Set::Bits(bits) => match array.data_type() {
            DataType::UInt16 => {
                let values = array.as_primitive::<UInt16Type>();
                Tri::of_column(array, |i| bits.iter().any(|b| u64::from(values.value(i)) & b == *b))
            }
            _ => unknown(),
        },
        Set::NoBits(bits) => match array.as_primitive_opt::<UInt16Type>() {
            Some(values) => {
                let all = bits.iter().fold(0, |all, b| all | b);
                Tri::of_column(array, |i| u64::from(values.value(i)) & all == 0)
            }
            None => unknown(),
        },
        Set::Bool(wanted) => match array.as_boolean_opt() {
            Some(values) => Tri::of_column(array, |i| values.value(i) == *wanted),
            None => unknown(),
        },
        Set::Addresses { v4, v6 } => match array.data_type() {
            DataType::UInt32 => {
                let ranges: Vec<_> = v4.iter().map(|r| (i128::from(r.0), i128::from(r.1))).collect();
                numbers::<UInt32Type>(array, &ranges, 0, u32::MAX.into()).unwrap_or_else(unknown)
            }
            DataType::FixedSizeBinary(16) => {
                let values = array.as_fixed_size_binary();
                Tri::of_column(array, |i| {
                    let bits = values.value(i).first_chunk().map_or(0, |b| u128::from_be_bytes(*b));
                    v6.iter().any(|r| bits >= r.0 && bits <= r.1)
                })
            }
            DataType::Utf8 | DataType::Dictionary(..) => text_addresses(array, v4, v6).unwrap_or_else(unknown),
            _ => unknown(),
        },
        Set::Octets(wanted) => match array.as_fixed_size_binary_opt() {
            Some(values) => Tri::of_column(array, |i| wanted.iter().any(|w| w == values.value(i))),
            None => unknown(),
        },
        Set::Texts(wanted) => texts(array, wanted).unwrap_or_else(unknown),
    }
}

fn texts(array: &ArrayRef, wanted: &[String]) -> Option<Tri> {
    if let Some(values) = array.as_string_opt::<i32>() {
        return Some(Tri::of_column(array, |i| wanted.iter().any(|w| w == values.value(i))));
    }
    let dictionary = array.as_dictionary_opt::<Int32Type>()?;
    let names = dictionary.values().as_string_opt::<i32>()?;
    let hits: Vec<bool> = (0..names.len()).map(|i| wanted.iter().any(|w| w == names.value(i))).collect();
    let keys = dictionary.keys().values();
    Some(Tri::of_column(array, |i| hits.get(keys[i] as usize).copied().unwrap_or(false)))
}

/// Whether the label at a place of a row's is in the ranges, or any of them.
fn labels(array: &ArrayRef, ranges: &[(i128, i128)], place: Option<usize>) -> Option<Tri> {
    let list = array.as_list_opt::<i32>()?;
    let labels = list.values().as_primitive_opt::<UInt32Type>()?.values();
    let ranges = clamp::<u32>(ranges, 0, u32::MAX.into());
    let offsets = list.value_offsets();
    let hit = |label: &u32| ranges.iter().any(|r| (r.0..=r.1).contains(label));
    Some(Tri::of_column(array, |i| {
        let row = offsets.get(i).zip(offsets.get(i + 1)).and_then(|(a, b)| labels.get(*a as usize..*b as usize));
        row.is_some_and(|row| match place {
            Some(place) => row.get(place).is_some_and(hit),
            None => row.iter().any(hit),
        })
    }))
}

/// Addresses that are text, one of few mostly.
fn text_addresses(array: &ArrayRef, v4: &[(u32, u32)], v6: &[(u128, u128)]) -> Option<Tri> {
    let hit = |text: &str| match text.parse::<IpAddr>().map(|ip| ip.to_canonical()) {
        Ok(IpAddr::V4(ip)) => v4.iter().any(|r| (r.0..=r.1).contains(&ip.to_bits())),
        Ok(IpAddr::V6(ip)) => v6.iter().any(|r| (r.0..=r.1).contains(&ip.to_bits())),
        Err(_) => false,
    };
    if let Some(values) = array.as_string_opt::<i32>() {
        let mut hits = Vec::with_capacity(values.len());
        let mut before = (None, false);
        for row in 0..values.len() {
            let text = values.is_valid(row).then(|| values.value(row));
            if text != before.0 {
                before = (text, text.is_some_and(hit));
            }
            hits.push(before.1);
        }
        return Some(Tri::of_column(array, |i| hits[i]));
    }
    let dictionary = array.as_dictionary_opt::<Int32Type>()?;
    let names = dictionary.values().as_string_opt::<i32>()?;
    let hits: Vec<bool> = (0..names.len()).map(|i| hit(names.value(i))).collect();
    let keys = dictionary.keys().values();
    Some(Tri::of_column(array, |i| hits.get(keys[i] as usize).copied().unwrap_or(false)))
}

/// An extra has the type of its element: text that is a number, a range or an address is compared as such.
fn in_extra(array: &ArrayRef, set: &Set) -> Tri {
    let Set::Texts(wanted) = set else { return in_set(array, set) };
    let unknown = || Tri::unknown(array.len());
    if matches!(array.data_type(), DataType::Utf8 | DataType::Dictionary(..)) {
        return in_set(array, set);
    }
    let numbers = |text: &String| match text.split_once("..") {
        Some((low, high)) => Some((number(low)?, number(high)?)),
        None => number(text).map(|n| (n, n)),
    };
    let one = |text: &String| match (numbers(text), prefix(text), array.data_type()) {
        (Some(range), _, DataType::Float64) => in_set(array, &Set::Floats(vec![(range.0 as f64, range.1 as f64)])),
        (Some(range), ..) => in_set(array, &Set::Ranges(vec![range])),
        (None, Some(addresses), _) => in_set(array, &addresses),
        (None, None, DataType::Boolean) => in_set(array, &Set::Bool(text.eq_ignore_ascii_case("true"))),
        (None, None, DataType::FixedSizeBinary(6)) => {
            mac(text).map_or_else(unknown, |m| in_set(array, &Set::Octets(vec![m])))
        }
        _ => unknown(),
    };
    wanted.iter().map(one).reduce(|a, b| a.or(&b)).unwrap_or_else(unknown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bit_a_value() {
        for n in [0u32, 1, 7, 8, 9, 63, 64, 65, 200] {
            let values: Vec<u32> = (0..n).map(|i| i.wrapping_mul(0x9e37_79b9) >> 7).collect();
            let found = bits(&values, |v| v % 3 == 0);
            assert_eq!(found.iter().collect::<Vec<_>>(), values.iter().map(|v| v % 3 == 0).collect::<Vec<_>>());
        }
    }
}
