//! A file: row groups of all columns of a schema.

use super::chunk::{Chunk, Finished, Pieces};
use super::fixed::{Bits, Fixed};
use super::header;
use super::integers::Integers;
use super::keys::Keys;
use super::{Column, Result};
use crate::sink::io_error;
use crate::sink::properties;
use arrow_array::{Array, ArrayRef, RecordBatch, new_null_array};
use arrow_schema::{DataType, FieldRef, Schema};
use parquet::arrow::arrow_writer::{ArrowColumnWriter, ArrowRowGroupWriterFactory, compute_leaves};
use parquet::arrow::{ArrowSchemaConverter, add_encoded_arrow_schema_to_metadata};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::types::{ColumnDescPtr, Type, TypePtr};
use std::io::{self, Write};
use std::ops::Range;
use std::sync::Arc;

/// Rows of a row group at most: its pages stay in memory until it is whole, and memory that is used again need not be found.
const GROUP_ROWS: usize = 1 << 18;
/// Bytes of memory that a row group may take before it is written.
const GROUP_BYTES: usize = 128 << 20;

/// Where the rows of a column come from.
pub(crate) enum Source<'a> {
    /// None has a value.
    Absent,
    /// Each has one of its own, or none.
    Rows(ArrayRef),
    /// Runs of so many rows share one.
    Runs(ArrayRef, &'a [u32]),
}

/// Memory of columns that are written, for those that come: getting it from the system anew costs a tenth of writing a file.
pub(crate) type Memory = Vec<Vec<u8>>;

/// A Parquet file being written, as those of collectors are: integers, addresses and times delta-packed, text and what many rows share
/// in dictionaries, nothing compressed; checksums, the least and greatest value of each page, row groups of at most
/// 262,144 rows.
///
/// ```
/// use arrow_array::{Int64Array, RecordBatch};
/// use std::sync::Arc;
///
/// let bytes = Arc::new(Int64Array::from(vec![1500, 40, 1500])) as _;
/// let rows = RecordBatch::try_from_iter([("bytes", bytes)]).expect("one column");
/// let mut file = flowlane::sink::ParquetFile::create(Vec::new(), rows.schema_ref())?;
/// file.write(&rows)?;
/// assert_eq!(file.into_inner()?.first_chunk(), Some(b"PAR1"));
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct ParquetFile<W: Write + Send> {
    file: SerializedFileWriter<Pieces<W>>,
    schema: Arc<Schema>,
    factory: ArrowRowGroupWriterFactory,
    columns: Vec<Place>,
    // Of the row group before.
    memory: Memory,
    groups: usize,
    rows: usize,
}

enum Place {
    Ours(Box<dyn Column>),
    Crate(Nested),
}

impl<W: Write + Send> ParquetFile<W> {
    /// Begins a file of this schema.
    ///
    /// # Errors
    /// Those of the stream; a schema that Parquet cannot have.
    pub fn create(out: W, schema: &Arc<Schema>) -> io::Result<Self> {
        Self::new(out, schema, &[], Memory::new())
    }

    /// Appends rows whose columns are those of the schema, in its order.
    ///
    /// # Errors
    /// Those of the stream; columns that are not the schema's.
    pub fn write(&mut self, rows: &RecordBatch) -> io::Result<()> {
        let fields = self.schema.fields();
        let fits = |(field, column): (&FieldRef, &ArrayRef)| {
            field.data_type() == column.data_type() && (field.is_nullable() || column.logical_null_count() == 0)
        };
        if rows.num_columns() != fields.len() || !fields.iter().zip(rows.columns()).all(fits) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "these rows are not of the file's schema"));
        }
        self.append(rows.columns().iter().cloned().map(Source::Rows).collect(), rows.num_rows())
    }

    /// Ends the file, and gives back what it was written to.
    ///
    /// # Errors
    /// Those of the stream.
    pub fn into_inner(self) -> io::Result<W> {
        Ok(self.finish()?.0)
    }

    /// Begins a file of this schema, which tells more about itself in its metadata.
    pub(crate) fn new(out: W, schema: &Arc<Schema>, more: &[(&str, String)], memory: Memory) -> io::Result<Self> {
        let mut about = properties(schema, more);
        add_encoded_arrow_schema_to_metadata(schema, &mut about);
        let descr = ArrowSchemaConverter::new().convert(schema).map_err(io_error)?;
        let file = SerializedFileWriter::new(Pieces::new(out), descr.root_schema_ptr(), Arc::new(about));
        let file = file.map_err(io_error)?;
        let factory = ArrowRowGroupWriterFactory::new(&file, schema.clone());
        let mut new = Self { file, schema: schema.clone(), factory, columns: Vec::new(), memory, groups: 0, rows: 0 };
        new.begin();
        Ok(new)
    }

    /// Appends rows; there is a source for each column of the schema.
    pub(crate) fn append(&mut self, sources: Vec<Source<'_>>, rows: usize) -> io::Result<()> {
        for (column, source) in self.columns.iter_mut().zip(sources) {
            let done = match (column, source) {
                (Place::Ours(column), Source::Rows(array)) => column.rows(&array),
                (Place::Ours(column), Source::Runs(array, rows)) => column.runs(&array, rows),
                (Place::Ours(column), Source::Absent) => column.absent(rows),
                (Place::Crate(column), Source::Rows(array)) => column.rows(&array, &self.factory, self.groups),
                (Place::Crate(column), _) => {
                    column.absent += rows;
                    Ok(())
                }
            };
            done.map_err(io_error)?;
        }
        self.rows += rows;
        let is_full = |column: &Place| matches!(column, Place::Ours(column) if column.is_full());
        let is_large = || self.columns.iter().map(Place::bytes).sum::<usize>() >= GROUP_BYTES;
        if self.rows >= GROUP_ROWS || self.columns.iter().any(is_full) || is_large() {
            self.end().map_err(io_error)?;
            self.begin();
        }
        Ok(())
    }

    /// Ends the file, and gives back what it was written to, and the memory.
    pub(crate) fn finish(mut self) -> io::Result<(W, Memory)> {
        if self.rows > 0 {
            self.end().map_err(io_error)?;
        }
        Ok((self.file.into_inner().map_err(io_error)?.into_inner()?, self.memory))
    }

    fn begin(&mut self) {
        self.rows = 0;
        let descr = self.file.schema_descr();
        let (mut leaf, mut columns) = (0, Vec::new());
        for (i, field) in self.schema.fields().iter().enumerate() {
            let first = leaf;
            while leaf < descr.num_columns() && descr.get_column_root_idx(leaf) == i {
                leaf += 1;
            }
            let leaves: Vec<ColumnDescPtr> = (first..leaf).map(|leaf| descr.column(leaf)).collect();
            let ours = leaves.first().and_then(|leaf| ours(field, leaf, &mut self.memory));
            let root = descr.root_schema().get_fields().get(i).cloned();
            let nested = |root| Nested {
                field: field.clone(),
                root,
                leaves,
                places: first..leaf,
                writers: Vec::new(),
                absent: 0,
            };
            let Some(root) = root else { continue };
            columns.push(ours.map_or_else(|| Place::Crate(nested(root)), Place::Ours));
        }
        self.columns = columns;
    }

    fn end(&mut self) -> Result<()> {
        self.groups += 1;
        let mut group = self.file.next_row_group()?;
        for column in std::mem::take(&mut self.columns) {
            match column {
                Place::Ours(column) => self.memory.push(column.finish()?.append_to(&mut group)?),
                Place::Crate(column) => column.finish(&mut group)?,
            }
        }
        // In the order in which they are taken again.
        self.memory.reverse();
        group.close().map(drop)
    }
}

impl Place {
    fn bytes(&self) -> usize {
        match self {
            Self::Ours(column) => column.bytes(),
            Self::Crate(column) => column.writers.iter().map(ArrowColumnWriter::memory_size).sum(),
        }
    }
}

/// The column of a field, if it is one whose pages are made here, in memory that is there.
fn ours(field: &FieldRef, leaf: &ColumnDescPtr, memory: &mut Memory) -> Option<Box<dyn Column>> {
    let leaf = leaf.clone();
    let mut memory = || memory.pop().unwrap_or_default();
    Some(match field.data_type() {
        DataType::UInt8 | DataType::UInt16 | DataType::UInt32 => Box::new(Integers::<u32>::new(leaf, memory())),
        DataType::UInt64 => Box::new(Integers::<u64>::new(leaf, memory())),
        DataType::Int64 | DataType::Timestamp(..) => Box::new(Integers::<i64>::new(leaf, memory())),
        DataType::Utf8 | DataType::Dictionary(..) => Box::new(Keys::new(leaf, memory())),
        // Others are as many as there are rows.
        DataType::Float64 if field.name() == "sampling_rate" => Box::new(Keys::new(leaf, memory())),
        DataType::FixedSizeBinary(_) => Box::new(Fixed::new(leaf, memory())),
        DataType::Boolean if !field.is_nullable() => Box::new(Bits::new(leaf, memory())),
        _ => return None,
    })
}

/// A column that the crate writes, from the first value in its row group on.
struct Nested {
    field: FieldRef,
    // The same, as the file's schema has it.
    root: TypePtr,
    leaves: Vec<ColumnDescPtr>,
    places: Range<usize>,
    writers: Vec<ArrowColumnWriter>,
    // Rows without a value that are not written yet.
    absent: usize,
}

impl Nested {
    fn rows(&mut self, array: &ArrayRef, factory: &ArrowRowGroupWriterFactory, group: usize) -> Result<()> {
        if array.null_count() == array.len() {
            self.absent += array.len();
            return Ok(());
        }
        if self.writers.is_empty() {
            let all = factory.create_column_writers(group)?.into_iter();
            self.writers = all.skip(self.places.start).take(self.places.len()).collect();
        }
        self.write_absent()?;
        self.write(array)
    }

    fn write_absent(&mut self) -> Result<()> {
        while self.absent > 0 {
            let n = self.absent.min(super::PAGE_ROWS);
            self.write(&new_null_array(self.field.data_type(), n))?;
            self.absent -= n;
        }
        Ok(())
    }

    fn write(&mut self, array: &ArrayRef) -> Result<()> {
        let leaves = compute_leaves(&self.field, array)?;
        self.writers.iter_mut().zip(leaves).try_for_each(|(writer, leaf)| writer.write(&leaf))
    }

    fn finish<W: Write + Send>(mut self, group: &mut SerializedRowGroupWriter<'_, W>) -> Result<()> {
        if self.writers.is_empty() {
            for leaf in self.leaves {
                let mut chunk = Chunk::new(leaf, Vec::new());
                chunk.absent(self.absent)?;
                chunk.finish(None, |_| None)?.append_to(group)?;
            }
            return Ok(());
        }
        self.write_absent()?;
        // By way of a file of its own, whose pages are then written with checksums.
        let (mut closes, mut chunks) = (Vec::new(), Vec::new());
        for writer in self.writers {
            let chunk = writer.close()?;
            closes.push(chunk.close().clone());
            chunks.push(chunk);
        }
        let root = Type::group_type_builder("schema").with_fields(vec![self.root]).build()?;
        let about = Arc::new(WriterProperties::builder().build());
        let mut aside = SerializedFileWriter::new(Vec::new(), Arc::new(root), about)?;
        let mut alone = aside.next_row_group()?;
        chunks.into_iter().try_for_each(|chunk| chunk.append_to_row_group(&mut alone))?;
        let said = alone.close()?;
        let bytes = aside.into_inner()?;
        for (chunk, close) in said.columns().iter().zip(closes) {
            let (pages, close) = header::with_sums(&bytes, chunk, close)?;
            Finished::new(pages, close).append_to(group)?;
        }
        Ok(())
    }
}
