//! Batches of all layouts under one schema: what Parquet and Arrow files need.

use super::lines::{address, plain};
use super::schema::{RUN_COLUMNS, SCHEMA};
use crate::columns::arrow::to_record_batch;
use crate::columns::schema::{SCHEMA_VERSION, SCHEMA_VERSION_KEY};
use crate::columns::{Batch, Column, ColumnType, Layout, Run, RunMeta};
use arrow_array::builder::{MapBuilder, MapFieldNames, StringBuilder};
use arrow_array::cast::AsArray;
use arrow_array::types::Int32Type;
use arrow_array::{
    ArrayRef, BooleanArray, DictionaryArray, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray, UInt8Array, UInt16Array, UInt32Array, new_null_array,
};
use arrow_schema::{ArrowError, DataType, Field, Schema};
use std::collections::HashMap;
use std::sync::Arc;

/// Extras that get a column of their own, at most; what is beyond goes to the map `extras`.
pub const EXTRA_COLUMNS: usize = 200;

/// The columns of a file: the schema, the extras known when it was begun, and the map `extras` for all others.
#[derive(Clone, Debug)]
pub struct FileSchema {
    extras: Vec<Extra>,
    arrow: Arc<Schema>,
    dictionary: bool,
}

#[derive(Clone, Debug, PartialEq)]
struct Extra {
    key: Arc<str>,
    name: Arc<str>,
    data_type: ColumnType,
}

impl FileSchema {
    /// The schema with columns for the extras of these batches. Where `dictionary` is set, `exporter` is a dictionary.
    pub fn new<'a>(batches: impl IntoIterator<Item = &'a Batch>, dictionary: bool) -> Self {
        let mut extras: Vec<Extra> = Vec::new();
        let mut seen: Vec<*const Layout> = Vec::new();
        for batch in batches {
            let layout = Arc::as_ptr(batch.layout());
            let known = seen.contains(&layout);
            seen.push(layout);
            // A batch can have columns beyond its layout's, for values that did not fit.
            let more = batch.columns().count() > batch.layout().columns().count();
            if known && !more {
                continue;
            }
            for column in batch.columns() {
                let Some(key) = &column.def.extra_key else { continue };
                if extras.len() < EXTRA_COLUMNS && !extras.iter().any(|e| e.name == column.def.name) {
                    let (name, data_type) = (column.def.name.clone(), column.def.data_type);
                    extras.push(Extra { key: key.clone(), name, data_type });
                }
            }
        }
        Self::with(extras, dictionary)
    }

    fn with(extras: Vec<Extra>, dictionary: bool) -> Self {
        let mut fields: Vec<Field> = SCHEMA
            .iter()
            .map(|c| {
                let data_type = if dictionary && c.dictionary { dictionary_type() } else { c.data_type.arrow() };
                Field::new(c.name, data_type, c.nullable)
            })
            .collect();
        fields.extend(extras.iter().map(|e| {
            let key = HashMap::from([("flowlane.element".to_string(), e.key.to_string())]);
            Field::new(&*e.name, e.data_type.arrow(), true).with_metadata(key)
        }));
        fields.push(Field::new("extras", map_type(), true));
        let metadata = [(SCHEMA_VERSION_KEY, SCHEMA_VERSION.to_string())];
        let metadata: HashMap<String, String> = metadata.map(|(k, v)| (k.to_string(), v)).into();
        Self { extras, arrow: Arc::new(Schema::new(fields).with_metadata(metadata)), dictionary }
    }

    /// The Arrow schema of the file.
    pub fn arrow(&self) -> &Arc<Schema> {
        &self.arrow
    }

    /// Rows of consecutive runs of a batch, under the file's schema.
    ///
    /// # Errors
    /// Those of Arrow, on arrays that do not fit the schema: none, with batches of a decoder.
    pub fn expand(&self, batch: &Arc<Batch>, runs: &[Run]) -> Result<RecordBatch, ArrowError> {
        let narrow = to_record_batch(batch)?;
        let first = runs.first().map_or(0, |r| r.first_row as usize);
        let rows: usize = runs.iter().map(|r| r.rows as usize).sum();
        let columns: Vec<Column<'_>> = batch.columns().collect();
        let slice = |i: usize| narrow.column(i).slice(first, rows);
        let mut arrays: Vec<ArrayRef> = Vec::with_capacity(self.arrow.fields().len());
        let fields = self.arrow.fields().iter();
        for ((i, schema), field) in SCHEMA.iter().enumerate().zip(fields) {
            let own = columns.iter().position(|c| c.def.extra_key.is_none() && &*c.def.name == schema.name);
            arrays.push(match own {
                _ if i < RUN_COLUMNS => self.run_column(i, runs, rows),
                Some(at) => texts_as(field.data_type(), slice(at)),
                None => match schema.name {
                    "time_source" => Arc::new(UInt8Array::from(each(runs, rows, |m| m.time_source))),
                    "sampling_source" => Arc::new(UInt8Array::from(each(runs, rows, |m| m.sampling_source))),
                    "sampling_rate" => {
                        let rates = each(runs, rows, |m| Some(m.sampling_rate).filter(|r| !r.is_nan()));
                        Arc::new(Float64Array::from(rates))
                    }
                    "flows" => Arc::new(Int64Array::from(vec![1; rows])),
                    "counters_are_total" => {
                        Arc::new(BooleanArray::from(vec![batch.layout().counters_are_total(); rows]))
                    }
                    _ => new_null_array(field.data_type(), rows),
                },
            });
        }
        let mut placed = vec![false; columns.len()];
        for extra in &self.extras {
            let own = columns
                .iter()
                .position(|c| c.def.extra_key.as_ref() == Some(&extra.key) && c.def.data_type == extra.data_type);
            arrays.push(match own {
                Some(at) => {
                    placed[at] = true;
                    slice(at)
                }
                None => new_null_array(&extra.data_type.arrow(), rows),
            });
        }
        let others = columns.iter().zip(&placed).filter(|(c, placed)| c.def.extra_key.is_some() && !**placed);
        let others: Vec<Column<'_>> = others.map(|(c, _)| *c).collect();
        arrays.push(extras_map(&others, first, rows)?);
        RecordBatch::try_new(self.arrow.clone(), arrays)
    }

    fn run_column(&self, i: usize, runs: &[Run], rows: usize) -> ArrayRef {
        let times = |of: fn(&RunMeta) -> i64| -> ArrayRef {
            Arc::new(TimestampMicrosecondArray::from(each(runs, rows, of)).with_timezone("UTC"))
        };
        match i {
            0 => times(|m| m.received_at.0),
            1 => times(|m| m.export_time.0),
            2 => self.exporters(runs, rows),
            3 => Arc::new(UInt16Array::from(each(runs, rows, |m| m.exporter.port()))),
            4 => Arc::new(UInt8Array::from(each(runs, rows, |m| m.version))),
            5 => Arc::new(UInt32Array::from(each(runs, rows, |m| m.domain_id))),
            6 => Arc::new(UInt32Array::from(each(runs, rows, |m| m.sequence))),
            _ => Arc::new(UInt16Array::from(each(runs, rows, |m| m.template_id))),
        }
    }

    fn exporters(&self, runs: &[Run], rows: usize) -> ArrayRef {
        let mut known = Vec::new();
        let mut places = HashMap::new();
        let mut keys = Vec::with_capacity(rows);
        for run in runs {
            let ip = run.meta.exporter.ip();
            let key = *places.entry(ip).or_insert_with(|| {
                let mut text = Vec::new();
                address(&mut text, ip);
                known.push(String::from_utf8(text).unwrap_or_default());
                known.len() as i32 - 1
            });
            keys.extend(std::iter::repeat_n(key, run.rows as usize));
        }
        if self.dictionary {
            let values = Arc::new(StringArray::from(known));
            if let Ok(array) = DictionaryArray::<Int32Type>::try_new(Int32Array::from(keys.clone()), values.clone()) {
                return Arc::new(array);
            }
            return values;
        }
        Arc::new(StringArray::from_iter_values(keys.iter().map(|k| known.get(*k as usize).map_or("", |s| s))))
    }
}

/// One value a row from what a run's rows have in common.
fn each<T: Clone>(runs: &[Run], rows: usize, of: impl Fn(&RunMeta) -> T) -> Vec<T> {
    let mut values = Vec::with_capacity(rows);
    for run in runs {
        values.extend(std::iter::repeat_n(of(&run.meta), run.rows as usize));
    }
    values
}

/// Text in a dictionary.
pub(crate) fn dictionary_type() -> DataType {
    DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8))
}

/// Text with a dictionary or without, as the file has it.
pub(crate) fn texts_as(wanted: &DataType, array: ArrayRef) -> ArrayRef {
    if let (DataType::Dictionary(..), Some(texts)) = (wanted, array.as_string_opt::<i32>()) {
        return Arc::new(texts.iter().collect::<DictionaryArray<Int32Type>>());
    }
    if let (DataType::Utf8, Some(keys)) = (wanted, array.as_dictionary_opt::<Int32Type>())
        && let Some(texts) = keys.downcast_dict::<StringArray>()
    {
        return Arc::new(texts.into_iter().collect::<StringArray>());
    }
    array
}

/// The column of extras without a column.
pub(crate) fn map_type() -> DataType {
    let entries = vec![Field::new("key", DataType::Utf8, false), Field::new("value", DataType::Utf8, true)];
    DataType::Map(Arc::new(Field::new("entries", DataType::Struct(entries.into()), false)), false)
}

/// Extras without a column, as text.
pub(crate) fn extras_map(columns: &[Column<'_>], first: usize, rows: usize) -> Result<ArrayRef, ArrowError> {
    if columns.is_empty() {
        return Ok(new_null_array(&map_type(), rows));
    }
    let names = MapFieldNames { entry: "entries".into(), key: "key".into(), value: "value".into() };
    let mut builder = MapBuilder::new(Some(names), StringBuilder::new(), StringBuilder::new());
    let mut text = Vec::new();
    for row in first..first + rows {
        let mut any = false;
        for column in columns.iter().filter(|c| c.is_valid(row)) {
            text.clear();
            plain(&mut text, column, row);
            builder.keys().append_value(column.def.extra_key.as_deref().unwrap_or_default());
            builder.values().append_value(String::from_utf8_lossy(&text));
            any = true;
        }
        builder.append(any)?;
    }
    Ok(Arc::new(builder.finish()))
}
