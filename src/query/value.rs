//! Values of columns as text, and the keys that text has for pairs of columns.

use super::names;
use crate::sink::schema::{ADDRESSES, SCHEMA};
use crate::sink::text as write;
use arrow_array::cast::AsArray;
use arrow_array::types::{
    Float64Type, Int32Type, Int64Type, TimestampMicrosecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{Array, RecordBatch};
use arrow_schema::DataType;
use std::net::{Ipv4Addr, Ipv6Addr};

/// Whether a name is a column, one of the six keys of address pairs, or an extra's column.
pub fn is_column(name: &str) -> bool {
    name.starts_with("x_")
        || name == "duration_ms"
        || SCHEMA.iter().any(|c| c.name == name)
        || ADDRESSES.iter().any(|p| p.key == name)
}

/// The columns of a file that such a name is made of.
pub fn columns_of(name: &str) -> Vec<String> {
    if let Some(pair) = ADDRESSES.iter().find(|p| p.key == name) {
        return vec![pair.v4.to_string(), pair.v6.to_string()];
    }
    match name {
        "duration_ms" => vec!["flow_start".to_string(), "flow_end".to_string()],
        other => vec![other.to_string()],
    }
}

/// The value of a row as text; `None` where it has none.
pub fn text(batch: &RecordBatch, name: &str, row: usize) -> Option<String> {
    if let Some(pair) = ADDRESSES.iter().find(|p| p.key == name) {
        return cell(batch, pair.v4, row).or_else(|| cell(batch, pair.v6, row));
    }
    if name == "duration_ms" {
        let of = |name: &str| {
            let array = batch.column_by_name(name)?;
            let times = array.as_primitive_opt::<TimestampMicrosecondType>()?;
            times.is_valid(row).then(|| times.value(row))
        };
        return Some(((of("flow_end")? - of("flow_start")?).div_euclid(1000)).to_string());
    }
    cell(batch, name, row)
}

fn cell(batch: &RecordBatch, name: &str, row: usize) -> Option<String> {
    let array = batch.column_by_name(name)?;
    if array.is_null(row) {
        return None;
    }
    let is_ip4 = || name.ends_with("_ip4") || name.ends_with("hop4");
    Some(match array.data_type() {
        DataType::UInt8 if name == "proto" => {
            let number = array.as_primitive::<UInt8Type>().value(row);
            names::protocol_name(number).map_or_else(|| number.to_string(), str::to_string)
        }
        DataType::UInt8 => array.as_primitive::<UInt8Type>().value(row).to_string(),
        DataType::UInt16 => array.as_primitive::<UInt16Type>().value(row).to_string(),
        DataType::UInt32 if is_ip4() => Ipv4Addr::from(array.as_primitive::<UInt32Type>().value(row)).to_string(),
        DataType::UInt32 => array.as_primitive::<UInt32Type>().value(row).to_string(),
        DataType::UInt64 => array.as_primitive::<UInt64Type>().value(row).to_string(),
        DataType::Int64 => array.as_primitive::<Int64Type>().value(row).to_string(),
        DataType::Float64 => array.as_primitive::<Float64Type>().value(row).to_string(),
        DataType::Boolean => array.as_boolean().value(row).to_string(),
        DataType::Timestamp(..) => {
            let mut text = Vec::new();
            write::time(&mut text, array.as_primitive::<TimestampMicrosecondType>().value(row));
            String::from_utf8(text).unwrap_or_default()
        }
        DataType::Utf8 => array.as_string::<i32>().value(row).to_string(),
        DataType::Dictionary(..) => {
            let dictionary = array.as_dictionary_opt::<Int32Type>()?;
            let key = usize::try_from(dictionary.keys().value(row)).ok()?;
            dictionary.values().as_string_opt::<i32>()?.value(key).to_string()
        }
        DataType::FixedSizeBinary(16) => {
            let bytes = array.as_fixed_size_binary().value(row);
            Ipv6Addr::from(*bytes.first_chunk::<16>()?).to_string()
        }
        DataType::FixedSizeBinary(_) => {
            let bytes = array.as_fixed_size_binary().value(row);
            bytes.iter().map(|b| format!("{b:02x}")).collect::<Vec<_>>().join(":")
        }
        DataType::Binary => array.as_binary::<i32>().value(row).iter().map(|b| format!("{b:02x}")).collect(),
        DataType::List(_) => {
            let list = array.as_list_opt::<i32>()?.value(row);
            let labels = list.as_primitive_opt::<UInt32Type>()?;
            labels.values().iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
        }
        _ => return None,
    })
}

/// The value of a row as a number; `None` where it has none or is no number.
pub fn number(batch: &RecordBatch, name: &str, row: usize) -> Option<i128> {
    if name == "duration_ms" {
        return text(batch, name, row)?.parse().ok();
    }
    let array = batch.column_by_name(name)?;
    if array.is_null(row) {
        return None;
    }
    Some(match array.data_type() {
        DataType::UInt8 => array.as_primitive::<UInt8Type>().value(row).into(),
        DataType::UInt16 => array.as_primitive::<UInt16Type>().value(row).into(),
        DataType::UInt32 => array.as_primitive::<UInt32Type>().value(row).into(),
        DataType::UInt64 => array.as_primitive::<UInt64Type>().value(row).into(),
        DataType::Int64 => array.as_primitive::<Int64Type>().value(row).into(),
        DataType::Timestamp(..) => array.as_primitive::<TimestampMicrosecondType>().value(row).into(),
        _ => return None,
    })
}
