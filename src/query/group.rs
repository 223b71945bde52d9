//! Rows of a row group: the columns of the filter first, the others only where it holds.

use super::filter::Filter;
use super::foreign;
use super::page::{Column, Error, Source, damaged};
use super::prune::{Bounds, chunk, locations, of_chunk, stretches};
use super::reading::Stretch;
use arrow_array::types::{Int64Type, UInt8Type, UInt16Type, UInt32Type};
use arrow_array::{ArrayRef, BooleanArray, PrimitiveArray, RecordBatch, RecordBatchOptions};
use arrow_buffer::BooleanBuffer;
use arrow_schema::{DataType, Field, Schema};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ParquetRecordBatchReaderBuilder};
use std::fs::File;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// Rows of a batch at most.
const BATCH: usize = 16_384;

/// Some rows of a row group of a file.
pub(super) struct Group<'a> {
    pub path: &'a Path,
    pub metadata: ArrowReaderMetadata,
    pub group: usize,
    pub rows: Range<usize>,
}

/// Rows that were looked at.
pub(super) struct Looked {
    /// All of them.
    pub rows: usize,
    /// Those that lack a column of the filter.
    pub unknown: usize,
    /// Which row of its row group is the first, if there is a way to read from there.
    pub at: Option<usize>,
    /// Those that it holds for, with the batch that they are in; none where there is no batch.
    pub found: Option<(RecordBatch, BooleanBuffer)>,
}

impl Group<'_> {
    /// Reads what a filter and an answer need, until `take` says that it is enough.
    pub(super) fn read(
        &self,
        filter: &Filter,
        columns: &[String],
        take: &mut dyn FnMut(Looked) -> bool,
    ) -> Result<(), String> {
        let of_filter = filter.columns();
        if !foreign::is_ours(self.metadata.schema(), of_filter.iter().chain(columns)) {
            return self.read_by_crate(filter, columns, take);
        }
        let file = File::open(self.path).map_err(|e| e.to_string())?;
        match Reader::new(Arc::new(Source::new(file)), self, &of_filter, columns).map_err(|e| e.to_string())? {
            Some(reader) => reader.read(filter, self.rows.clone(), take).map_err(|e| e.to_string()),
            None => self.read_by_crate(filter, columns, take),
        }
    }

    /// Reads columns of rows of which it is known whether the filter holds, until `take` says that it is enough.
    pub(super) fn read_again(
        &self,
        columns: &[String],
        known: &[Stretch],
        take: &mut dyn FnMut(&RecordBatch, &BooleanBuffer) -> bool,
    ) -> Result<(), String> {
        let file = File::open(self.path).map_err(|e| e.to_string())?;
        let reader = Reader::new(Arc::new(Source::new(file)), self, &[], columns).map_err(|e| e.to_string())?;
        let mut columns = reader.ok_or("a column that is read in another way")?.others;
        for (rows, holds) in known {
            let mut row = rows.start;
            while row < rows.end {
                let rest = holds.slice(row - rows.start, rows.end - row);
                let Some(next) = rest.set_indices().next() else { break };
                row += next;
                let end = batch_end(&mut columns, row, rows.end).map_err(|e| e.to_string())?;
                let found = batch(&mut columns, None, row..end, 0).map_err(|e| e.to_string())?;
                if !take(&found, &holds.slice(row - rows.start, end - row)) {
                    return Ok(());
                }
                row = end;
            }
        }
        Ok(())
    }

    /// The same for files whose columns have other types and encodings.
    fn read_by_crate(
        &self,
        filter: &Filter,
        columns: &[String],
        take: &mut dyn FnMut(Looked) -> bool,
    ) -> Result<(), String> {
        let file = File::open(self.path).map_err(|e| e.to_string())?;
        let schema = self.metadata.parquet_schema();
        let of_filter = filter.columns();
        let needed = |name: &str| of_filter.iter().chain(columns).any(|c| c == name);
        let fields = schema.root_schema().get_fields().iter().enumerate();
        let roots: Vec<usize> = fields.filter(|(_, field)| needed(field.name())).map(|f| f.0).collect();
        let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(file, self.metadata.clone())
            .with_projection(ProjectionMask::roots(schema, roots))
            .with_row_groups(vec![self.group])
            .with_offset(self.rows.start)
            .with_limit(self.rows.len())
            .with_batch_size(BATCH)
            .build()
            .map_err(|e| e.to_string())?;
        for batch in reader {
            let batch = foreign::conform(batch.map_err(|e| e.to_string())?)?;
            let (holds, unknown) = filter.rows(&batch);
            if !take(Looked { rows: batch.num_rows(), unknown, at: None, found: Some((batch, holds)) }) {
                break;
            }
        }
        Ok(())
    }
}

/// Columns that are read side by side.
struct Reader<'a> {
    file: Arc<Source>,
    group: &'a Group<'a>,
    of_filter: Vec<(String, Values)>,
    others: Vec<(String, Values)>,
}

enum Values {
    Pages(Box<Column>),
    /// The same in every row, by the statistics: as many rows as a batch has.
    Same(ArrayRef),
}

impl Values {
    fn page_end(&mut self, row: usize) -> Result<usize, Error> {
        match self {
            Self::Pages(column) => column.page_end(row),
            Self::Same(_) => Ok(usize::MAX),
        }
    }

    fn array(&mut self, rows: Range<usize>) -> Result<ArrayRef, Error> {
        match self {
            Self::Pages(column) => column.array(rows),
            Self::Same(array) => Ok(array.slice(0, rows.len())),
        }
    }
}

impl<'a> Reader<'a> {
    /// `None` where a column is not for us to read.
    fn new(
        file: Arc<Source>,
        group: &'a Group<'a>,
        of_filter: &[String],
        columns: &[String],
    ) -> Result<Option<Self>, Error> {
        let mut others: Vec<String> = columns.iter().filter(|c| !of_filter.contains(c)).cloned().collect();
        others.sort();
        others.dedup();
        let open = |names: Vec<String>| -> Result<Option<Vec<(String, Values)>>, Error> {
            let mut found = Vec::new();
            for name in names {
                match self::open(&file, group, &name)? {
                    Opened::Values(values) => found.push((name, values)),
                    Opened::Nothing => {}
                    Opened::Other => return Ok(None),
                }
            }
            Ok(Some(found))
        };
        Ok(match (open(of_filter.to_vec())?, open(others)?) {
            (Some(of_filter), Some(others)) => Some(Self { file, group, of_filter, others }),
            _ => None,
        })
    }

    fn read(mut self, filter: &Filter, rows: Range<usize>, take: &mut dyn FnMut(Looked) -> bool) -> Result<(), Error> {
        let about = self.group.metadata.metadata().row_group(self.group.group);
        for stretch in stretches(&self.file, filter, about, rows) {
            let mut row = stretch.start;
            while row < stretch.end {
                let end = batch_end(&mut self.of_filter, row, stretch.end)?;
                if !self.batch(filter, row..end, take)? {
                    return Ok(());
                }
                row = end;
            }
        }
        Ok(())
    }

    /// Rows whose columns of the filter stand in one page each.
    fn batch(
        &mut self,
        filter: &Filter,
        rows: Range<usize>,
        take: &mut dyn FnMut(Looked) -> bool,
    ) -> Result<bool, Error> {
        let first = batch(&mut self.of_filter, None, rows.clone(), 0)?;
        let (holds, unknown) = filter.rows(&first);
        let mut unknown = unknown;
        let mut row = rows.start;
        // The other columns have pages of their own; those without a row that is asked for are passed by.
        while row < rows.end {
            let rest = holds.slice(row - rows.start, rows.end - row);
            let Some(next) = rest.set_indices().next() else { break };
            if next > 0 {
                if !take(Looked { rows: next, unknown: std::mem::take(&mut unknown), at: None, found: None }) {
                    return Ok(false);
                }
                row += next;
            }
            let end = batch_end(&mut self.others, row, rows.end)?;
            let found = batch(&mut self.others, Some(&first), row..end, row - rows.start)?;
            let holds = holds.slice(row - rows.start, end - row);
            let unknown = std::mem::take(&mut unknown);
            if !take(Looked { rows: end - row, unknown, at: Some(row), found: Some((found, holds)) }) {
                return Ok(false);
            }
            row = end;
        }
        Ok(take(Looked { rows: rows.end - row, unknown, at: None, found: None }))
    }
}

/// Where the first of the columns' pages ends that has a row.
fn batch_end(columns: &mut [(String, Values)], row: usize, end: usize) -> Result<usize, Error> {
    let mut end = end.min(row + BATCH);
    for (_, values) in columns {
        end = end.min(values.page_end(row)?);
    }
    Ok(end)
}

/// The columns' values in some rows, after those of another batch from a row on.
fn batch(
    columns: &mut [(String, Values)],
    before: Option<&RecordBatch>,
    rows: Range<usize>,
    from: usize,
) -> Result<RecordBatch, Error> {
    let count = rows.len();
    let mut fields: Vec<Arc<Field>> = Vec::new();
    let mut arrays: Vec<ArrayRef> = Vec::new();
    if let Some(before) = before {
        fields.extend(before.schema().fields().iter().cloned());
        arrays.extend(before.columns().iter().map(|a| a.slice(from, count)));
    }
    for (name, values) in columns {
        let array = values.array(rows.clone())?;
        fields.push(Arc::new(Field::new(name.as_str(), array.data_type().clone(), true)));
        arrays.push(array);
    }
    let options = RecordBatchOptions::new().with_row_count(Some(count));
    Ok(RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), arrays, &options)?)
}

enum Opened {
    Values(Values),
    /// No row has a value, or the file has no such column.
    Nothing,
    /// For the crate to read.
    Other,
}

fn open(file: &Arc<Source>, group: &Group<'_>, name: &str) -> Result<Opened, Error> {
    let about = group.metadata.metadata().row_group(group.group);
    let Some(field) = group.metadata.schema().field_with_name(name).ok() else { return Ok(Opened::Nothing) };
    let Some((_, chunk)) = chunk(name, about) else {
        // Lists and maps are the crate's to read, where there are any.
        let mut leaves = about.columns().iter().filter(|c| c.column_path().parts().first().is_some_and(|p| p == name));
        let empty = leaves.all(|c| {
            let nulls = c.statistics().and_then(|s| s.null_count_opt());
            c.num_values() == about.num_rows() && nulls.is_some_and(|n| n == about.num_rows().cast_unsigned())
        });
        return Ok(if empty { Opened::Nothing } else { Opened::Other });
    };
    let rows = usize::try_from(about.num_rows()).map_err(|_| damaged("a wrong number of rows"))?;
    if let Some(statistics) = chunk.statistics() {
        match of_chunk(name, statistics, about.num_rows()) {
            Bounds::None => return Ok(Opened::Nothing),
            Bounds::Of(min, max) if min == max && statistics.null_count_opt() == Some(0) => {
                if let Some(array) = same(field.data_type(), min) {
                    return Ok(Opened::Values(Values::Same(array)));
                }
            }
            _ => {}
        }
    }
    if !Column::takes(chunk, field.data_type()) {
        return Ok(Opened::Other);
    }
    let locations = locations(file, chunk, rows);
    let column = Column::new(file.clone(), chunk, field.data_type(), rows, locations.as_deref())?;
    Ok(Opened::Values(Values::Pages(Box::new(column))))
}

/// A batch's rows of one value.
fn same(data_type: &DataType, value: i128) -> Option<ArrayRef> {
    Some(match data_type {
        DataType::UInt8 => Arc::new(PrimitiveArray::<UInt8Type>::from_value(u8::try_from(value).ok()?, BATCH)),
        DataType::UInt16 => Arc::new(PrimitiveArray::<UInt16Type>::from_value(u16::try_from(value).ok()?, BATCH)),
        DataType::UInt32 => Arc::new(PrimitiveArray::<UInt32Type>::from_value(u32::try_from(value).ok()?, BATCH)),
        DataType::Int64 => Arc::new(PrimitiveArray::<Int64Type>::from_value(i64::try_from(value).ok()?, BATCH)),
        DataType::Boolean => Arc::new(BooleanArray::from(vec![value != 0; BATCH])),
        _ => return None,
    })
}
