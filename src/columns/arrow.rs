//! Batches as Arrow record batches, without a copy: the arrays point into the batch's memory and keep it alive.
//!
//! Addresses of IPv4 become `UInt32`, those of IPv6 `FixedSizeBinary(16)`, MACs `FixedSizeBinary(6)`, times
//! `Timestamp(Microsecond, "UTC")`, text `Utf8` or `Dictionary(Int32, Utf8)`, octets `Binary`, lists `List<UInt32>`.

use super::{Batch, Bitmap, Column, ColumnType, ColumnView, VarBuf};
use arrow_array::types::{
    Float64Type, Int32Type, Int64Type, TimestampMicrosecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{Array, ArrayRef, ArrowPrimitiveType, BinaryArray, BooleanArray, DictionaryArray};
use arrow_array::{FixedSizeBinaryArray, ListArray, PrimitiveArray, RecordBatch, StringArray, UInt32Array};
use arrow_buffer::{BooleanBuffer, Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow_schema::{ArrowError, DataType, Field, Schema, TimeUnit};
use bytes::Bytes;
use std::sync::Arc;
use zerocopy::IntoBytes;

impl ColumnType {
    /// The Arrow type of such a column.
    pub fn arrow(self) -> DataType {
        match self {
            Self::U8 => DataType::UInt8,
            Self::U16 => DataType::UInt16,
            Self::U32 | Self::Ip4 => DataType::UInt32,
            Self::U64 => DataType::UInt64,
            Self::I64 => DataType::Int64,
            Self::F64 => DataType::Float64,
            Self::Bool => DataType::Boolean,
            Self::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            Self::Ip6 => DataType::FixedSizeBinary(16),
            Self::Mac => DataType::FixedSizeBinary(6),
            Self::Text => DataType::Utf8,
            Self::Octets => DataType::Binary,
            Self::ListU32 => DataType::List(Arc::new(Field::new("item", DataType::UInt32, false))),
        }
    }
}

/// The columns of a finished batch as Arrow arrays that share its memory.
///
/// What is the same for a whole data set is in [`Batch::runs`] and not in the result. The batch is free again when
/// the result and all slices of it are dropped.
///
/// # Errors
/// Text that is not UTF-8, which a decoder never writes.
pub fn to_record_batch(batch: &Arc<Batch>) -> Result<RecordBatch, ArrowError> {
    let (mut fields, mut arrays) = (Vec::new(), Vec::new());
    for (index, column) in batch.columns().enumerate() {
        let array = array(batch, index, column)?;
        fields.push(Field::new(&*column.def.name, array.data_type().clone(), column.def.nullable));
        arrays.push(array);
    }
    let options = arrow_array::RecordBatchOptions::new().with_row_count(Some(batch.rows()));
    RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), arrays, &options)
}

/// One of [`Batch::columns`], by its place there.
pub(crate) fn array(batch: &Arc<Batch>, index: usize, column: Column<'_>) -> Result<ArrayRef, ArrowError> {
    let rows = batch.rows();
    let share = |part| Buffer::from(Bytes::from_owner(Shared { batch: batch.clone(), index, part }));
    let nulls = column.validity.map(|_| NullBuffer::new(BooleanBuffer::new(share(Part::Validity), 0, rows)));
    Ok(match column.values {
        ColumnView::U8(_) => primitive::<UInt8Type>(share(Part::Values), rows, nulls)?,
        ColumnView::U16(_) => primitive::<UInt16Type>(share(Part::Values), rows, nulls)?,
        ColumnView::U32(_) | ColumnView::Ip4(_) => primitive::<UInt32Type>(share(Part::Values), rows, nulls)?,
        ColumnView::U64(_) => primitive::<UInt64Type>(share(Part::Values), rows, nulls)?,
        ColumnView::I64(_) => primitive::<Int64Type>(share(Part::Values), rows, nulls)?,
        ColumnView::F64(_) => primitive::<Float64Type>(share(Part::Values), rows, nulls)?,
        ColumnView::Timestamp(_) => {
            let values = ScalarBuffer::new(share(Part::Values), 0, rows);
            Arc::new(PrimitiveArray::<TimestampMicrosecondType>::try_new(values, nulls)?.with_timezone("UTC"))
        }
        ColumnView::Bool(_) => Arc::new(BooleanArray::new(BooleanBuffer::new(share(Part::Values), 0, rows), nulls)),
        ColumnView::Ip6(_) => Arc::new(FixedSizeBinaryArray::try_new(16, share(Part::Values), nulls)?),
        ColumnView::Mac(_) => Arc::new(FixedSizeBinaryArray::try_new(6, share(Part::Values), nulls)?),
        ColumnView::Text(_) => {
            Arc::new(StringArray::try_new(offsets(share(Part::Offsets), rows), share(Part::Values), nulls)?)
        }
        ColumnView::Octets(_) => {
            Arc::new(BinaryArray::try_new(offsets(share(Part::Offsets), rows), share(Part::Values), nulls)?)
        }
        ColumnView::ListU32(list) => {
            let items = UInt32Array::try_new(ScalarBuffer::new(share(Part::Values), 0, list.data().len() / 4), None)?;
            let field = Arc::new(Field::new("item", DataType::UInt32, false));
            Arc::new(ListArray::try_new(field, offsets(share(Part::Offsets), rows), Arc::new(items), nulls)?)
        }
        ColumnView::Dictionary { texts, .. } => {
            let values = ScalarBuffer::new(share(Part::Values), 0, rows);
            let keys = PrimitiveArray::<Int32Type>::try_new(values, nulls)?;
            let texts = StringArray::try_new(offsets(share(Part::Offsets), texts.len()), share(Part::Texts), None)?;
            Arc::new(DictionaryArray::try_new(keys, Arc::new(texts))?)
        }
    })
}

fn primitive<T: ArrowPrimitiveType>(
    values: Buffer,
    rows: usize,
    nulls: Option<NullBuffer>,
) -> Result<ArrayRef, ArrowError> {
    Ok(Arc::new(PrimitiveArray::<T>::try_new(ScalarBuffer::new(values, 0, rows), nulls)?))
}

fn offsets(buffer: Buffer, rows: usize) -> OffsetBuffer<i32> {
    if rows == 0 { OffsetBuffer::new_empty() } else { OffsetBuffer::new(ScalarBuffer::new(buffer, 0, rows + 1)) }
}

#[derive(Clone, Copy)]
enum Part {
    Values,
    Offsets,
    Validity,
    // Of a dictionary, whose values are keys.
    Texts,
}

/// A part of a column's memory, which lives as long as its batch.
struct Shared {
    batch: Arc<Batch>,
    index: usize,
    part: Part,
}

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        let Some(column) = self.batch.columns().nth(self.index) else { return &[] };
        match (self.part, column.values) {
            (Part::Validity, _) => column.validity.map_or(&[][..], Bitmap::as_bytes),
            (Part::Offsets, ColumnView::Text(v) | ColumnView::Octets(v) | ColumnView::ListU32(v)) => {
                v.offsets().as_bytes()
            }
            (Part::Values, ColumnView::Text(v) | ColumnView::Octets(v) | ColumnView::ListU32(v)) => VarBuf::data(v),
            (Part::Values, ColumnView::U8(v)) => v,
            (Part::Values, ColumnView::U16(v)) => v.as_bytes(),
            (Part::Values, ColumnView::U32(v) | ColumnView::Ip4(v)) => v.as_bytes(),
            (Part::Values, ColumnView::U64(v)) => v.as_bytes(),
            (Part::Values, ColumnView::I64(v) | ColumnView::Timestamp(v)) => v.as_bytes(),
            (Part::Values, ColumnView::F64(v)) => v.as_bytes(),
            (Part::Values, ColumnView::Bool(bits)) => bits.as_bytes(),
            (Part::Values, ColumnView::Ip6(v)) => v.as_bytes(),
            (Part::Values, ColumnView::Mac(v)) => v.as_bytes(),
            (Part::Values, ColumnView::Dictionary { keys, .. }) => keys.as_bytes(),
            (Part::Offsets, ColumnView::Dictionary { texts, .. }) => texts.offsets().as_bytes(),
            (Part::Texts, ColumnView::Dictionary { texts, .. }) => texts.data(),
            (Part::Offsets | Part::Texts, _) => &[],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::columns::gather::Kernel;
    use crate::columns::{RunMeta, Timestamp};
    use crate::elements::Registry;
    use crate::plan::{NoLookups, Plan};
    use crate::template::{FieldSpec, Kind, Template};
    use arrow_array::Array;
    use std::net::Ipv4Addr;

    /// A batch of fields of every kind: numbers, addresses, text, octets, a list.
    fn batch(rows: usize) -> Arc<Batch> {
        let fields =
            [(8, 4), (12, 4), (27, 16), (56, 6), (1, 8), (4, 1), (7, 2), (11, 2), (82, 8), (70, 3), (104, 5), (276, 1)];
        let fields = fields.map(|(id, len)| FieldSpec { pen: 0, id, len }).into();
        let template = Template::new(10, 256, Kind::Data, 0, fields).expect("a length");
        let plan = Plan::compile(&template, Registry::standard(), Kernel::best());
        let mut batch = Batch::new(plan.layout().clone(), 8192);
        let mut body = Vec::new();
        for i in 0..rows * template.min_len() as usize {
            body.push([b'a' + (i % 26) as u8, 1][usize::from(i % 60 == 59)]);
        }
        let meta = RunMeta::new(10, Ipv4Addr::LOCALHOST.into(), Timestamp(0));
        let ran = plan.run(&body, usize::MAX, &meta, &NoLookups, &mut batch);
        assert_eq!(ran.records, rows);
        batch.finish();
        let mut texts = VarBuf::default();
        ["DE", "CH"].iter().for_each(|text| texts.push(text.as_bytes()));
        let keys: Vec<i32> = (0..rows).map(|i| (i % 3) as i32 - 1).collect();
        batch.join_texts("src_country", &keys, texts);
        Arc::new(batch)
    }

    #[test]
    fn arrays_point_into_the_batch() {
        for rows in [1, 127, 1000] {
            let batch = batch(rows);
            let arrow = to_record_batch(&batch).expect("UTF-8");
            assert_eq!((arrow.num_rows(), arrow.num_columns()), (rows, batch.columns().count()));
            for (column, array) in batch.columns().zip(arrow.columns()) {
                let data = array.to_data();
                let (first, child) = (data.buffers().first(), data.child_data().first());
                let there = first.map(|b| b.as_ptr());
                let here = match column.values {
                    ColumnView::U8(v) => v.as_ptr(),
                    ColumnView::U16(v) => v.as_bytes().as_ptr(),
                    ColumnView::U32(v) | ColumnView::Ip4(v) => v.as_bytes().as_ptr(),
                    ColumnView::U64(v) => v.as_bytes().as_ptr(),
                    ColumnView::I64(v) | ColumnView::Timestamp(v) => v.as_bytes().as_ptr(),
                    ColumnView::F64(v) => v.as_bytes().as_ptr(),
                    ColumnView::Ip6(v) => v.as_bytes().as_ptr(),
                    ColumnView::Mac(v) => v.as_bytes().as_ptr(),
                    ColumnView::Bool(v) => v.as_bytes().as_ptr(),
                    ColumnView::Text(v) | ColumnView::Octets(v) => {
                        assert_eq!(data.buffers().get(1).map(|b| b.as_ptr()), Some(v.data().as_ptr()));
                        v.offsets().as_bytes().as_ptr()
                    }
                    ColumnView::ListU32(v) => {
                        let items = child.and_then(|c| c.buffers().first()).map(|b| b.as_ptr());
                        assert_eq!(items, Some(v.data().as_ptr()));
                        v.offsets().as_bytes().as_ptr()
                    }
                    ColumnView::Dictionary { keys, texts } => {
                        let there = child.and_then(|c| c.buffers().get(1)).map(|b| b.as_ptr());
                        assert_eq!(there, Some(texts.data().as_ptr()));
                        keys.as_bytes().as_ptr()
                    }
                };
                assert_eq!(there, Some(here), "{}", column.def.name);
                assert_eq!(here as usize % 64, 0, "{} is aligned", column.def.name);
                let nulls = column.validity.map_or(0, Bitmap::count_zeros);
                assert_eq!(array.null_count(), nulls, "{}", column.def.name);
            }
        }
    }

    #[test]
    fn the_batch_is_free_again_when_the_arrays_are_gone() {
        let batch = batch(10);
        let arrow = to_record_batch(&batch).expect("UTF-8");
        let slice = arrow.slice(2, 3);
        drop(arrow);
        assert!(Arc::strong_count(&batch) > 1);
        drop(slice);
        assert_eq!(Arc::strong_count(&batch), 1);
    }
}
