//! Values of a page as an Arrow array.

use super::{Error, damaged, delta, dictionary, runs, spread};
use arrow_array::cast::AsArray;
use arrow_array::types::{
    Float64Type, Int64Type, TimestampMicrosecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{
    Array, ArrayRef, ArrowPrimitiveType, BooleanArray, FixedSizeBinaryArray, PrimitiveArray, StringArray,
};
use arrow_buffer::{BooleanBuffer, Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow_schema::{DataType, TimeUnit};
use bytes::Bytes;
use parquet::basic::{Encoding, Type};
use parquet::column::page::Page;
use std::sync::Arc;

/// The values of a page, and what they are.
pub(super) struct Part<'a> {
    pub data_type: &'a DataType,
    pub physical: Type,
    pub values: Bytes,
    pub encoding: Encoding,
    /// Values, without those of rows that lack one.
    pub count: usize,
}

/// The values that pages have numbers of.
pub(super) enum Dictionary {
    Numbers(Vec<u64>),
    Octets(Vec<u8>),
    Texts(ArrayRef),
}

/// Whether a column of the file's type is read into one of Arrow's.
pub(super) fn takes(data_type: &DataType, physical: Type) -> bool {
    use DataType as D;
    match physical {
        Type::INT32 => matches!(data_type, D::UInt8 | D::UInt16 | D::UInt32),
        Type::INT64 => matches!(data_type, D::UInt64 | D::Int64 | D::Timestamp(TimeUnit::Microsecond, _)),
        Type::DOUBLE => *data_type == D::Float64,
        Type::BOOLEAN => *data_type == D::Boolean,
        Type::FIXED_LEN_BYTE_ARRAY => matches!(data_type, D::FixedSizeBinary(n) if *n > 0),
        Type::BYTE_ARRAY => match data_type {
            D::Utf8 => true,
            D::Dictionary(key, value) => **key == D::Int32 && **value == D::Utf8,
            _ => false,
        },
        _ => false,
    }
}

impl Dictionary {
    pub(super) fn of(page: &Page, data_type: &DataType, physical: Type) -> Result<Self, Error> {
        let count = page.num_values() as usize;
        let values = page.buffer().clone();
        Ok(match (physical, data_type) {
            (Type::INT32 | Type::INT64 | Type::DOUBLE, _) => {
                let mut numbers = Vec::new();
                plain(&values, physical, count, &mut numbers, |n| n)?;
                Self::Numbers(numbers)
            }
            (Type::FIXED_LEN_BYTE_ARRAY, DataType::FixedSizeBinary(width)) => {
                let width = *width as usize;
                let octets = values.get(..count.saturating_mul(width)).ok_or_else(|| damaged("a cut dictionary"))?;
                Self::Octets(octets.to_vec())
            }
            (Type::BYTE_ARRAY, _) => Self::Texts(Arc::new(texts(&values, count, None)?)),
            _ => return Err(damaged("a dictionary of such values")),
        })
    }
}

pub(super) fn array(
    part: &Part<'_>,
    dictionary: Option<&Dictionary>,
    nulls: Option<NullBuffer>,
    spare: Option<ArrayRef>,
) -> Result<ArrayRef, Error> {
    use DataType as D;
    match part.data_type {
        D::UInt8 => primitive::<UInt8Type>(part, dictionary, nulls, spare, |n| n as u8),
        D::UInt16 => primitive::<UInt16Type>(part, dictionary, nulls, spare, |n| n as u16),
        D::UInt32 => primitive::<UInt32Type>(part, dictionary, nulls, spare, |n| n as u32),
        D::UInt64 => primitive::<UInt64Type>(part, dictionary, nulls, spare, |n| n),
        D::Int64 => primitive::<Int64Type>(part, dictionary, nulls, spare, u64::cast_signed),
        D::Float64 => primitive::<Float64Type>(part, dictionary, nulls, spare, f64::from_bits),
        D::Timestamp(..) => {
            let numbers =
                numbers(part, dictionary, nulls.as_ref(), memory::<TimestampMicrosecondType>(spare), u64::cast_signed)?;
            let times = PrimitiveArray::<TimestampMicrosecondType>::try_new(ScalarBuffer::from(numbers), nulls)?;
            Ok(Arc::new(times.with_data_type(part.data_type.clone())))
        }
        D::Boolean => booleans(part, nulls),
        D::FixedSizeBinary(width) => octets(part, dictionary, nulls, *width as usize),
        D::Utf8 | D::Dictionary(..) => strings(part, dictionary, nulls),
        _ => Err(damaged("values of another type")),
    }
}

fn primitive<T: ArrowPrimitiveType>(
    part: &Part<'_>,
    dictionary: Option<&Dictionary>,
    nulls: Option<NullBuffer>,
    spare: Option<ArrayRef>,
    number: impl Fn(u64) -> T::Native + Copy,
) -> Result<ArrayRef, Error>
where
    T::Native: Default,
{
    let numbers = numbers(part, dictionary, nulls.as_ref(), memory::<T>(spare), number)?;
    Ok(Arc::new(PrimitiveArray::<T>::try_new(ScalarBuffer::from(numbers), nulls)?))
}

/// The memory of an array, with what was in it, unless some batch still has a part of it.
fn memory<T: ArrowPrimitiveType>(array: Option<ArrayRef>) -> Vec<T::Native> {
    let values = array.as_ref().and_then(|a| a.as_primitive_opt::<T>()).map(|a| a.values().clone());
    drop(array);
    let memory = values.and_then(|values| values.into_inner().into_vec().ok());
    memory.unwrap_or_default()
}

fn numbers<T: Copy + Default>(
    part: &Part<'_>,
    dictionary: Option<&Dictionary>,
    nulls: Option<&NullBuffer>,
    mut found: Vec<T>,
    number: impl Fn(u64) -> T + Copy,
) -> Result<Vec<T>, Error> {
    if part.encoding != Encoding::DELTA_BINARY_PACKED {
        found.clear();
    }
    match (part.encoding, dictionary) {
        (Encoding::DELTA_BINARY_PACKED, _) => delta::decode(&part.values, part.count, &mut found, number)?,
        (Encoding::PLAIN, _) => plain(&part.values, part.physical, part.count, &mut found, number)?,
        (Encoding::RLE_DICTIONARY | Encoding::PLAIN_DICTIONARY, Some(Dictionary::Numbers(entries))) => {
            // Each entry once, whatever its rows.
            let entries: Vec<T> = entries.iter().map(|n| number(*n)).collect();
            places(part, &mut found, |place| entries.get(place).copied())?;
        }
        _ => return Err(damaged("values in another encoding")),
    }
    Ok(spread(found, nulls))
}

/// What stands for the numbers of dictionary entries.
fn places<T: Copy>(part: &Part<'_>, to: &mut Vec<T>, entry: impl Fn(usize) -> Option<T>) -> Result<(), Error> {
    if part.count == 0 {
        return Ok(());
    }
    let (width, packed) = part.values.split_first().ok_or_else(|| damaged("no values"))?;
    let entry = |n: u64| entry(n as usize).ok_or_else(|| damaged("a value that its dictionary lacks"));
    runs::numbers(packed, (*width).into(), part.count, to, entry)
}

fn plain<T>(
    values: &[u8],
    physical: Type,
    count: usize,
    to: &mut Vec<T>,
    number: impl Fn(u64) -> T,
) -> Result<(), Error> {
    let width = if physical == Type::INT32 { 4 } else { 8 };
    let values = values.get(..count.saturating_mul(width)).ok_or_else(|| damaged("fewer values than rows"))?;
    if width == 4 {
        to.extend(values.as_chunks::<4>().0.iter().map(|b| number(u32::from_le_bytes(*b).into())));
    } else {
        to.extend(values.as_chunks::<8>().0.iter().map(|b| number(u64::from_le_bytes(*b))));
    }
    Ok(())
}

fn booleans(part: &Part<'_>, nulls: Option<NullBuffer>) -> Result<ArrayRef, Error> {
    let found = match part.encoding {
        Encoding::PLAIN => {
            let bytes = part.values.get(..part.count.div_ceil(8)).ok_or_else(|| damaged("fewer values than rows"))?;
            BooleanBuffer::new(Buffer::from(bytes), 0, part.count)
        }
        Encoding::RLE => {
            let len = part.values.first_chunk().map_or(0, |b| u32::from_le_bytes(*b) as usize);
            let runs = part.values.get(4..).and_then(|v| v.get(..len)).ok_or_else(|| damaged("a cut run"))?;
            match runs::validity(runs, Encoding::RLE, part.count)? {
                Some(found) => found,
                None => BooleanBuffer::new_set(part.count),
            }
        }
        _ => return Err(damaged("values in another encoding")),
    };
    let found = match &nulls {
        None => found,
        Some(nulls) => {
            let rows = spread(found.iter().collect(), Some(nulls));
            BooleanBuffer::from(rows)
        }
    };
    Ok(Arc::new(BooleanArray::new(found, nulls)))
}

fn octets(
    part: &Part<'_>,
    dictionary: Option<&Dictionary>,
    nulls: Option<NullBuffer>,
    width: usize,
) -> Result<ArrayRef, Error> {
    let mut dense = Vec::new();
    let dense: &[u8] = match (part.encoding, dictionary) {
        (Encoding::PLAIN, _) => {
            let len = part.count.saturating_mul(width);
            part.values.get(..len).ok_or_else(|| damaged("fewer values than rows"))?
        }
        (Encoding::RLE_DICTIONARY | Encoding::PLAIN_DICTIONARY, Some(Dictionary::Octets(entries))) => {
            let mut found = Vec::new();
            places(part, &mut found, |place| entries.get(place * width..(place + 1) * width))?;
            found.iter().for_each(|octets| dense.extend_from_slice(octets));
            &dense
        }
        _ => return Err(damaged("values in another encoding")),
    };
    let rows = match &nulls {
        None => dense.to_vec(),
        Some(nulls) => {
            let mut rows = vec![0; nulls.len() * width];
            for (row, value) in nulls.inner().set_indices().zip(dense.chunks_exact(width)) {
                if let Some(place) = rows.get_mut(row * width..(row + 1) * width) {
                    place.copy_from_slice(value);
                }
            }
            rows
        }
    };
    Ok(Arc::new(FixedSizeBinaryArray::try_new(width as i32, Buffer::from(rows), nulls)?))
}

fn strings(part: &Part<'_>, entries: Option<&Dictionary>, nulls: Option<NullBuffer>) -> Result<ArrayRef, Error> {
    match (part.encoding, entries) {
        (Encoding::RLE_DICTIONARY | Encoding::PLAIN_DICTIONARY, Some(Dictionary::Texts(texts))) => {
            let mut keys: Vec<i32> = Vec::new();
            let len = texts.len();
            places(part, &mut keys, |place| i32::try_from(place).ok().filter(|_| place < len))?;
            dictionary(spread(keys, nulls.as_ref()), nulls, texts)
        }
        (Encoding::PLAIN, _) => Ok(Arc::new(texts(&part.values, part.count, nulls)?)),
        _ => Err(damaged("values in another encoding")),
    }
}

/// Texts, each after its length.
fn texts(values: &[u8], count: usize, nulls: Option<NullBuffer>) -> Result<StringArray, Error> {
    let rows = nulls.as_ref().map_or(count, NullBuffer::len);
    let (mut from, mut bytes) = (values, Vec::with_capacity(values.len()));
    let mut offsets: Vec<i32> = Vec::with_capacity(rows + 1);
    offsets.push(0);
    for row in 0..rows {
        if nulls.as_ref().is_none_or(|n| n.is_valid(row)) {
            let (len, rest) = from.split_first_chunk().ok_or_else(|| damaged("fewer values than rows"))?;
            let len = u32::from_le_bytes(*len) as usize;
            let (text, rest) = rest.split_at_checked(len).ok_or_else(|| damaged("a text beyond its end"))?;
            bytes.extend_from_slice(text);
            from = rest;
        }
        offsets.push(i32::try_from(bytes.len()).map_err(|_| damaged("too much text"))?);
    }
    Ok(StringArray::try_new(OffsetBuffer::new(ScalarBuffer::from(offsets)), Buffer::from(bytes), nulls)?)
}
