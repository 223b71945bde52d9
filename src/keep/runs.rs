//! What the rows of a message share, in a hot segment: one entry a message.

use super::segment::{SEGMENT, SINCE};
use crate::columns::{ColumnType, Run, RunMeta};
use crate::sink::schema::SCHEMA;
use crate::sink::{address, dictionary_type, io_error, map_type, texts_as};
use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type, TimestampMicrosecondType, UInt8Type, UInt16Type, UInt32Type};
use arrow_array::{
    Array, ArrayRef, ArrowPrimitiveType, BooleanArray, DictionaryArray, Float64Array, Int32Array, Int64Array,
    RecordBatch, RunArray, StringArray, StructArray, TimestampMicrosecondArray, UInt8Array, UInt16Array, UInt32Array,
    new_null_array,
};
use arrow_buffer::{Buffer, OffsetBuffer, ScalarBuffer};
use arrow_schema::{ArrowError, DataType, Field, Schema};
use arrow_select::take::take;
use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;

/// The column of runs.
pub(super) const RUN: &str = "run";
/// The key of a stream's metadata that says whether counters are running totals.
pub(super) const TOTAL: &str = "flowlane.counters_are_total";

/// Runs as a column, in which each has as many rows as it says.
pub(super) fn runs_of(runs: &[Run]) -> Result<ArrayRef, ArrowError> {
    let times = |of: fn(&RunMeta) -> i64| -> ArrayRef {
        Arc::new(TimestampMicrosecondArray::from_iter_values(runs.iter().map(|r| of(&r.meta))).with_timezone("UTC"))
    };
    let rates = runs.iter().map(|r| Some(r.meta.sampling_rate).filter(|rate| !rate.is_nan()));
    let columns: [(&str, ArrayRef); 11] = [
        ("time_received", times(|m| m.received_at.0)),
        ("export_time", times(|m| m.export_time.0)),
        ("exporter", Arc::new(exporters(runs)?)),
        ("exporter_port", Arc::new(UInt16Array::from_iter_values(runs.iter().map(|r| r.meta.exporter.port())))),
        ("version", Arc::new(UInt8Array::from_iter_values(runs.iter().map(|r| r.meta.version)))),
        ("domain_id", Arc::new(UInt32Array::from_iter_values(runs.iter().map(|r| r.meta.domain_id)))),
        ("sequence", Arc::new(UInt32Array::from_iter_values(runs.iter().map(|r| r.meta.sequence)))),
        ("template_id", Arc::new(UInt16Array::from_iter_values(runs.iter().map(|r| r.meta.template_id)))),
        ("time_source", Arc::new(UInt8Array::from_iter_values(runs.iter().map(|r| r.meta.time_source)))),
        ("sampling_rate", Arc::new(rates.collect::<Float64Array>())),
        ("sampling_source", Arc::new(UInt8Array::from_iter_values(runs.iter().map(|r| r.meta.sampling_source)))),
    ];
    let (fields, arrays): (Vec<Field>, Vec<ArrayRef>) = columns
        .into_iter()
        .map(|(name, array)| (Field::new(name, array.data_type().clone(), name == "sampling_rate"), array))
        .unzip();
    let ends = runs.iter().scan(0, |end, run| {
        *end += run.rows as i32;
        Some(*end)
    });
    let ends = Int32Array::from_iter_values(ends);
    Ok(Arc::new(RunArray::try_new(&ends, &StructArray::try_new(fields.into(), arrays, None)?)?))
}

/// The exporters as text; each is made into text once.
fn exporters(runs: &[Run]) -> Result<StringArray, ArrowError> {
    let mut known: HashMap<IpAddr, (usize, usize), foldhash::fast::FixedState> = HashMap::default();
    let (mut bytes, mut ends) = (Vec::with_capacity(16 * runs.len()), Vec::with_capacity(runs.len() + 1));
    ends.push(0);
    for run in runs {
        let ip = run.meta.exporter.ip();
        let from = bytes.len();
        match known.get(&ip) {
            Some(&(a, b)) => bytes.extend_from_within(a..b),
            None => {
                address(&mut bytes, ip);
                known.insert(ip, (from, bytes.len()));
            }
        }
        ends.push(bytes.len() as i32);
    }
    StringArray::try_new(OffsetBuffer::new(ScalarBuffer::from(ends)), Buffer::from_vec(bytes), None)
}

/// Rows as they stand in a segment.
pub(super) struct Rows {
    batch: RecordBatch,
    // The column of runs.
    run: usize,
    shared: StructArray,
    // Rows of each run.
    pub(super) lengths: Vec<u32>,
}

impl Rows {
    /// What [`runs_of`] was made part of.
    pub(super) fn new(batch: RecordBatch) -> io::Result<Self> {
        let foreign = || io::Error::other("a segment of another kind");
        let (run, _) = batch.schema_ref().column_with_name(RUN).ok_or_else(foreign)?;
        let column = batch.column(run).as_any().downcast_ref::<RunArray<Int32Type>>().ok_or_else(foreign)?;
        let shared = column.values().as_struct_opt().ok_or_else(foreign)?.clone();
        let mut before = 0;
        let lengths = column.run_ends().values().iter().map(|end| end - std::mem::replace(&mut before, *end));
        let lengths: Vec<u32> = lengths.map(|n| u32::try_from(n).unwrap_or(0)).collect();
        let rows: usize = lengths.iter().map(|n| *n as usize).sum();
        if shared.len() != lengths.len() || rows != batch.num_rows() {
            return Err(foreign());
        }
        Ok(Self { batch, run, shared, lengths })
    }

    /// The number of rows.
    pub(super) fn len(&self) -> usize {
        self.batch.num_rows()
    }

    /// When the messages of the runs were received.
    pub(super) fn received(&self) -> &[i64] {
        let times = self.shared.column_by_name("time_received");
        times.and_then(|t| t.as_primitive_opt::<TimestampMicrosecondType>()).map_or(&[], |t| t.values())
    }

    /// The schema of the stream.
    pub(super) fn schema(&self) -> &Arc<Schema> {
        self.batch.schema_ref()
    }

    /// A column of the stream, by its place in the schema; times as such.
    pub(super) fn column(&self, at: usize) -> ArrayRef {
        let array = self.batch.column(at);
        let since = self.schema().field(at).metadata().get(SINCE).and_then(|since| since.parse::<i64>().ok());
        match (since, array.as_primitive_opt::<UInt32Type>()) {
            (Some(since), Some(after)) => {
                let time = |after: u32| since.wrapping_add(i64::from(after));
                Arc::new(after.unary::<_, TimestampMicrosecondType>(time).with_timezone("UTC"))
            }
            _ => array.clone(),
        }
    }

    /// What runs share, by name.
    pub(super) fn shared(&self, name: &str) -> Option<&ArrayRef> {
        self.shared.column_by_name(name)
    }

    /// Every column that the rows have, a value a row, as sealed files have them.
    pub(super) fn expand(&self) -> io::Result<RecordBatch> {
        let runs = self.lengths.iter().enumerate();
        let places: Vec<i32> = runs.flat_map(|(i, n)| std::iter::repeat_n(i as i32, *n as usize)).collect();
        let places = Int32Array::from(places);
        let (mut fields, mut arrays) = (Vec::new(), Vec::new());
        for column in SCHEMA {
            let own = self.schema().column_with_name(column.name);
            let array: ArrayRef = match (own, self.shared.column_by_name(column.name)) {
                (Some((at, _)), _) if column.dictionary => texts_as(&dictionary_type(), self.batch.column(at).clone()),
                (Some((at, _)), _) => widened(column.data_type, &self.column(at)),
                (None, Some(texts)) if column.name == "exporter" => {
                    Arc::new(DictionaryArray::<Int32Type>::try_new(places.clone(), texts.clone()).map_err(io_error)?)
                }
                (None, Some(shared)) if column.nullable && shared.null_count() == shared.len() => continue,
                (None, Some(shared)) => take(shared, &places, None).map_err(io_error)?,
                (None, None) if column.name == "flows" => Arc::new(Int64Array::from(vec![1; self.len()])),
                (None, None) if column.name == "counters_are_total" => {
                    Arc::new(BooleanArray::from(vec![is_total(self.schema()); self.len()]))
                }
                (None, None) => continue,
            };
            fields.push(Arc::new(Field::new(column.name, array.data_type().clone(), column.nullable)));
            arrays.push(array);
        }
        for (at, field) in self.schema().fields().iter().enumerate() {
            if at != self.run && field.name() != "extras" && is_extra(field) {
                fields.push(field.clone());
                arrays.push(self.batch.column(at).clone());
            }
        }
        let extras = self.batch.column_by_name("extras").cloned();
        fields.push(Arc::new(Field::new("extras", map_type(), true)));
        arrays.push(extras.unwrap_or_else(|| new_null_array(&map_type(), self.len())));
        let mut about = self.schema().metadata().clone();
        about.remove(SEGMENT);
        let schema = Schema::new(fields).with_metadata(about);
        RecordBatch::try_new(Arc::new(schema), arrays).map_err(io_error)
    }
}

/// Numbers again as wide as they were that a segment has in fewer bytes.
fn widened(wanted: ColumnType, array: &ArrayRef) -> ArrayRef {
    match (wanted, array.data_type()) {
        (ColumnType::I64, DataType::UInt8) => widen::<UInt8Type, Int64Type>(array),
        (ColumnType::I64, DataType::UInt16) => widen::<UInt16Type, Int64Type>(array),
        (ColumnType::I64, DataType::UInt32) => widen::<UInt32Type, Int64Type>(array),
        (ColumnType::U16, DataType::UInt8) => widen::<UInt8Type, UInt16Type>(array),
        (ColumnType::U32 | ColumnType::Ip4, DataType::UInt8) => widen::<UInt8Type, UInt32Type>(array),
        (ColumnType::U32 | ColumnType::Ip4, DataType::UInt16) => widen::<UInt16Type, UInt32Type>(array),
        _ => array.clone(),
    }
}

fn widen<N: ArrowPrimitiveType, W: ArrowPrimitiveType>(array: &ArrayRef) -> ArrayRef
where
    W::Native: From<N::Native>,
{
    Arc::new(array.as_primitive::<N>().unary::<_, W>(W::Native::from))
}

/// Whether a field of a stream is no column of the schema.
pub(super) fn is_extra(field: &Field) -> bool {
    field.metadata().contains_key("flowlane.element")
}

/// Whether the counters of a stream are running totals.
pub(super) fn is_total(schema: &Schema) -> bool {
    schema.metadata().get(TOTAL).is_some_and(|total| total == "true")
}
