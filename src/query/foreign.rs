//! Files that others wrote: whether they are flows, and their columns as flows have them.

use crate::columns::ColumnType;
use crate::sink::schema::{ADDRESSES, SCHEMA};
use arrow_array::builder::FixedSizeBinaryBuilder;
use arrow_array::cast::AsArray;
use arrow_array::types::{
    ArrowPrimitiveType, ArrowTimestampType, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType, UInt8Type,
    UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{
    Array, ArrayRef, BooleanArray, ListArray, PrimitiveArray, RecordBatch, RecordBatchOptions, StringArray,
};
use arrow_schema::{DataType, Field, Schema, TimeUnit};
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

/// Under this key an answer says of itself in a Parquet file that it is one: what it has are no flows, though its columns
/// may have their names.
pub const ANSWER: &str = "flowlane.answer";

/// Why a file with this metadata is no file of flows.
pub(super) fn is_answer<'a>(mut keys: impl Iterator<Item = &'a str>) -> Option<String> {
    let said = keys.any(|key| key == ANSWER);
    said.then(|| "it is an answer, not flows; `flowlane export` writes flows to be asked again".to_string())
}

/// What a file is that is no Parquet, by its first bytes.
pub fn other_kind(path: &Path) -> Option<&'static str> {
    let mut magic = [0; 4];
    File::open(path).and_then(|mut file| file.read_exact(&mut magic)).ok()?;
    Some(match magic {
        [0xd4, 0xc3, 0xb2, 0xa1]
        | [0xa1, 0xb2, 0xc3, 0xd4]
        | [0x4d, 0x3c, 0xb2, 0xa1]
        | [0xa1, 0xb2, 0x3c, 0x4d]
        | [0x0a, 0x0d, 0x0d, 0x0a] => "it is a capture, which `flowlane decode` reads",
        [0x0c, 0xa5, ..] | [0xa5, 0x0c, ..] => "it is a file of nfdump, which `nfreplay -r FILE` sends to a collector",
        [0, 10, ..] => "it holds IPFIX messages, which `flowlane decode` reads",
        _ => return None,
    })
}

/// Whether all columns of a file that are asked for can be had.
///
/// # Errors
/// The column that cannot, and why.
pub(super) fn check<'a>(schema: &Schema, asked: impl Iterator<Item = &'a String>) -> Result<(), String> {
    let is_there = |name: &str| schema.field_with_name(name).is_ok();
    if !SCHEMA.iter().any(|c| is_there(c.name)) {
        return Err("it has none of the columns of flows".to_string());
    }
    for name in asked {
        if let Ok(field) = schema.field_with_name(name)
            && let Some(wanted) = wanted(name)
            && !can(field.data_type(), wanted)
        {
            return Err(format!(
                "its column {name} is {}, where that of flows is {}",
                field.data_type(),
                wanted.arrow()
            ));
        }
        if let Some(pair) = ADDRESSES.iter().find(|p| p.v4 == name || p.v6 == name)
            && !is_there(pair.v4)
            && !is_there(pair.v6)
            && is_there(pair.key)
        {
            return Err(format!("it has {}, where flows have {} and {}", pair.key, pair.v4, pair.v6));
        }
    }
    Ok(())
}

/// Whether every column that is asked for is as flows have it.
pub(super) fn is_ours<'a>(schema: &Schema, mut asked: impl Iterator<Item = &'a String>) -> bool {
    asked.all(|name| match (schema.field_with_name(name), wanted(name)) {
        (Ok(field), Some(wanted)) => is(field.data_type(), wanted),
        _ => true,
    })
}

/// The columns as flows have them. Names alone say which those are.
///
/// # Errors
/// The column with a value that flows cannot have.
pub(super) fn conform(batch: RecordBatch) -> Result<RecordBatch, String> {
    if batch.schema().fields().iter().all(|f| wanted(f.name()).is_none_or(|wanted| is(f.data_type(), wanted))) {
        return Ok(batch);
    }
    let (mut fields, mut arrays) = (Vec::new(), Vec::new());
    for (field, array) in batch.schema().fields().iter().zip(batch.columns()) {
        let array = match wanted(field.name()).filter(|wanted| !is(field.data_type(), *wanted)) {
            Some(wanted) => cast(array, wanted)
                .ok_or_else(|| format!("its column {} has a value that is no {}", field.name(), wanted.arrow()))?,
            None => array.clone(),
        };
        fields.push(Field::new(field.name(), array.data_type().clone(), true));
        arrays.push(array);
    }
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), arrays, &options).map_err(|e| e.to_string())
}

fn wanted(name: &str) -> Option<ColumnType> {
    SCHEMA.iter().find(|c| c.name == name).map(|c| c.data_type)
}

fn is(found: &DataType, wanted: ColumnType) -> bool {
    match (found, wanted) {
        (DataType::Dictionary(key, texts), ColumnType::Text) => **key == DataType::Int32 && **texts == DataType::Utf8,
        // Of whichever zone.
        (DataType::Timestamp(TimeUnit::Microsecond, _), ColumnType::Timestamp) => true,
        (DataType::List(item), ColumnType::ListU32) => *item.data_type() == DataType::UInt32,
        (found, wanted) => *found == wanted.arrow(),
    }
}

/// Whether values of a type can be cast; some may be too large all the same.
fn can(found: &DataType, wanted: ColumnType) -> bool {
    use ColumnType as T;
    is(found, wanted)
        || match wanted {
            T::U8 | T::U16 | T::U32 | T::U64 | T::I64 | T::Ip4 | T::Bool => {
                found.is_integer() || *found == wanted.arrow()
            }
            T::F64 => found.is_integer() || matches!(found, DataType::Float32),
            T::Timestamp => matches!(found, DataType::Timestamp(..)),
            T::Text => matches!(found, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View),
            T::Ip6 | T::Mac => matches!(found, DataType::Binary | DataType::LargeBinary | DataType::BinaryView),
            T::ListU32 => match found {
                DataType::List(item) | DataType::LargeList(item) => item.data_type().is_integer(),
                _ => false,
            },
            _ => false,
        }
}

fn cast(array: &ArrayRef, wanted: ColumnType) -> Option<ArrayRef> {
    use ColumnType as T;
    Some(match wanted {
        T::U8 => Arc::new(whole::<UInt8Type>(array)?),
        T::U16 => Arc::new(whole::<UInt16Type>(array)?),
        T::U32 | T::Ip4 => Arc::new(whole::<UInt32Type>(array)?),
        T::U64 => Arc::new(whole::<UInt64Type>(array)?),
        T::I64 => Arc::new(whole::<Int64Type>(array)?),
        T::Bool => Arc::new(BooleanArray::from_iter(whole::<Int64Type>(array)?.iter().map(|v| v.map(|v| v != 0)))),
        T::F64 => match array.as_primitive_opt::<Float32Type>() {
            Some(values) => Arc::new(values.unary::<_, Float64Type>(f64::from)),
            None => Arc::new(whole::<Int64Type>(array)?.unary::<_, Float64Type>(|v| v as f64)),
        },
        T::Timestamp => Arc::new(time(array)?),
        T::Text => Arc::new(match array.data_type() {
            DataType::LargeUtf8 => array.as_string::<i64>().iter().collect::<StringArray>(),
            _ => array.as_string_view_opt()?.iter().collect::<StringArray>(),
        }),
        T::Ip6 => octets(array, 16)?,
        T::Mac => octets(array, 6)?,
        T::ListU32 => {
            let (values, offsets): (&ArrayRef, Vec<i32>) = match array.as_list_opt::<i32>() {
                Some(list) => (list.values(), list.value_offsets().to_vec()),
                None => {
                    let list = array.as_list_opt::<i64>()?;
                    let offsets: Result<_, _> = list.value_offsets().iter().map(|o| i32::try_from(*o)).collect();
                    (list.values(), offsets.ok()?)
                }
            };
            let item = Arc::new(Field::new("item", DataType::UInt32, true));
            let values = Arc::new(whole::<UInt32Type>(values)?);
            let offsets = arrow_buffer::OffsetBuffer::new(offsets.into());
            Arc::new(ListArray::try_new(item, offsets, values, array.nulls().cloned()).ok()?)
        }
        _ => return None,
    })
}

/// Whole numbers of one type as another; `None` where one has no room for a value.
fn whole<T: ArrowPrimitiveType>(array: &ArrayRef) -> Option<PrimitiveArray<T>>
where
    T::Native: TryFrom<i128>,
{
    macro_rules! of {
        ($($data_type:ident => $type:ty),*) => {
            match array.data_type() {
                $(DataType::$data_type => {
                    let values = array.as_primitive::<$type>();
                    values.try_unary(|v| T::Native::try_from(i128::from(v)).map_err(drop)).ok()
                })*
                _ => None,
            }
        };
    }
    of!(Int8 => Int8Type, Int16 => Int16Type, Int32 => Int32Type, Int64 => Int64Type,
        UInt8 => UInt8Type, UInt16 => UInt16Type, UInt32 => UInt32Type, UInt64 => UInt64Type)
}

/// Times in microseconds.
fn time(array: &ArrayRef) -> Option<PrimitiveArray<TimestampMicrosecondType>> {
    fn of<T: ArrowTimestampType>(
        array: &ArrayRef,
        times: i64,
        over: i64,
    ) -> Option<PrimitiveArray<TimestampMicrosecondType>> {
        let us = |v: i64| v.checked_mul(times).map(|v| v.div_euclid(over)).ok_or(());
        Some(array.as_primitive_opt::<T>()?.try_unary(us).ok()?.with_timezone("UTC"))
    }
    match array.data_type() {
        DataType::Timestamp(TimeUnit::Second, _) => of::<TimestampSecondType>(array, 1_000_000, 1),
        DataType::Timestamp(TimeUnit::Millisecond, _) => of::<TimestampMillisecondType>(array, 1000, 1),
        DataType::Timestamp(TimeUnit::Nanosecond, _) => of::<TimestampNanosecondType>(array, 1, 1000),
        _ => None,
    }
}

/// Values of so many octets each.
fn octets(array: &ArrayRef, size: i32) -> Option<ArrayRef> {
    let mut found = FixedSizeBinaryBuilder::with_capacity(array.len(), size);
    let mut add = |value: Option<&[u8]>| match value {
        Some(value) => found.append_value(value).is_ok(),
        None => {
            found.append_null();
            true
        }
    };
    let fits = match array.data_type() {
        DataType::Binary => array.as_binary::<i32>().iter().all(&mut add),
        DataType::LargeBinary => array.as_binary::<i64>().iter().all(&mut add),
        _ => array.as_binary_view_opt()?.iter().all(&mut add),
    };
    fits.then(|| Arc::new(found.finish()) as ArrayRef)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::builder::{ListBuilder, UInt64Builder};
    use arrow_array::{BinaryArray, Int64Array, LargeStringArray, TimestampNanosecondArray};

    #[test]
    fn columns_of_other_writers_become_those_of_flows() {
        let mut labels =
            ListBuilder::new(UInt64Builder::new()).with_field(Field::new("element", DataType::UInt64, true));
        labels.append_value([Some(16), Some(17)]);
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("time_received", Arc::new(TimestampNanosecondArray::from(vec![1_700_000_000_000_001_999]))),
            ("exporter", Arc::new(LargeStringArray::from(vec!["192.0.2.1"]))),
            ("src_ip6", Arc::new(BinaryArray::from(vec![&[7u8; 16][..]]))),
            ("src_port", Arc::new(Int64Array::from(vec![443]))),
            ("counters_are_total", Arc::new(Int64Array::from(vec![1]))),
            ("mpls_labels", Arc::new(labels.finish())),
        ];
        let batch = RecordBatch::try_from_iter(columns).expect("a batch");
        let all: Vec<String> = batch.schema().fields().iter().map(|f| f.name().clone()).collect();
        assert_eq!(check(&batch.schema(), all.iter()), Ok(()));
        let found = conform(batch).expect("as flows have them");
        assert!(is_ours(&found.schema(), all.iter()));
        let texts: Vec<String> = all.iter().filter_map(|name| crate::query::text(&found, name, 0)).collect();
        let expected =
            ["2023-11-14T22:13:20.000001Z", "192.0.2.1", "707:707:707:707:707:707:707:707", "443", "true", "16 17"];
        assert_eq!(texts, expected);
    }

    #[test]
    fn what_cannot_be_had_is_named() {
        let text: ArrayRef = Arc::new(StringArray::from(vec!["tcp"]));
        let batch = RecordBatch::try_from_iter([("proto", text.clone()), ("src_addr", text.clone())]).expect("a batch");
        let asked = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(ToString::to_string).collect();
            check(&batch.schema(), names.iter()).unwrap_or_else(|e| panic!("{e}"));
        };
        asked(&["bytes"]);
        let error = |name: &str| check(&batch.schema(), [name.to_string()].iter()).expect_err(name);
        assert_eq!(error("proto"), "its column proto is Utf8, where that of flows is UInt8");
        assert_eq!(error("src_ip6"), "it has src_addr, where flows have src_ip4 and src_ip6");
        let other = RecordBatch::try_from_iter([("a", text)]).expect("a batch");
        assert!(check(&other.schema(), [].iter()).is_err());
        // A port of more than 16 bits, and an address of 4 octets.
        let large: ArrayRef = Arc::new(Int64Array::from(vec![70_000]));
        let short: ArrayRef = Arc::new(BinaryArray::from(vec![&[1u8; 4][..]]));
        for (name, array) in [("src_port", large), ("src_ip6", short)] {
            let batch = RecordBatch::try_from_iter([(name, array)]).expect("a batch");
            assert!(conform(batch).expect_err(name).contains(name));
        }
    }
}
