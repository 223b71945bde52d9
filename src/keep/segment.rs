//! A hot segment: Arrow IPC streams one after the other, one for each batch that was handed over.
//!
//! A stream has the columns of its batch as they stand in memory (numbers in fewer bytes where all of them fit), and a column `run`: what
//! the rows of a message share, once a message (run-end encoded). A checksum stands in the padding of its message (`sum`). What was written
//! outlives the process, and is there as a whole or not at all: its first bytes come last, and until then a mark of the end (`spare::END`)
//! stands there, behind which may be rows of the segment that had the file before. Those name another segment in their schema, should the
//! mark be lost with the machine. A file that is cut ends there, and so does one whose last batch has older bytes in it: that is its end,
//! not damage.

use super::growing::Growing;
use super::runs::{RUN, TOTAL, runs_of};
use super::spare;
use super::sum;
use crate::columns::arrow::array;
use crate::columns::gather::{Loop, widest};
use crate::columns::schema::{SCHEMA_VERSION, SCHEMA_VERSION_KEY};
use crate::columns::{Batch, ColumnType, Layout, rows_by_exporter};
use crate::sink::{EXTRA_COLUMNS, extras_map, io_error};
use arrow_array::cast::AsArray;
use arrow_array::types::{Int64Type, TimestampMicrosecondType, UInt8Type, UInt16Type, UInt32Type};
use arrow_array::{Array, ArrayRef, ArrowPrimitiveType, PrimitiveArray, RecordBatch};
use arrow_ipc::writer::StreamEncoder;
use arrow_schema::{ArrowError, DataType, Field, Schema};
use std::collections::HashMap;
use std::fs::OpenOptions;
use std::io::{self, IoSlice};
use std::net::IpAddr;
use std::ops::BitOr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A segment being written.
pub(super) struct Segment {
    pub(super) id: i64,
    pub(super) path: PathBuf,
    pub(super) rows: u64,
    /// Those of each exporter.
    pub(super) by_exporter: HashMap<IpAddr, u64>,
    file: Growing,
    // What its times count from.
    since: Option<i64>,
    // Those of batches that were written.
    shapes: Vec<Shape>,
}

/// The key of a stream's metadata that says which segment it is of.
pub(super) const SEGMENT: &str = "flowlane.segment";

/// The key of a field's metadata that says what its times, in 32 bits, count from: microseconds.
pub(super) const SINCE: &str = "flowlane.since";

/// That is so long before the first message of the segment: flows are told of when they end, or after half an hour. The 32 bits
/// reach another half hour behind it.
const BEFORE_US: i64 = 40 * 60 * 1_000_000;

/// What ends a stream.
pub(super) const EOS: [u8; 8] = [0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0];
/// Shapes that are kept.
const SHAPES: usize = 64;

impl Segment {
    /// A new file, or one that was another's.
    pub(super) fn create(folder: &Path, id: i64) -> io::Result<Self> {
        let path = folder.join(format!("{id}.arrows"));
        let file = match spare::take(folder, &path) {
            Some((file, bytes)) => Growing::over(file, bytes),
            None => Growing::new(OpenOptions::new().write(true).create_new(true).open(&path)?),
        };
        Ok(Self { id, path, rows: 0, by_exporter: HashMap::new(), file, since: None, shapes: Vec::new() })
    }

    /// Whether somebody removed it.
    pub(super) fn is_unlinked(&self) -> bool {
        self.file.is_unlinked()
    }

    /// Whether somebody removed it, or put another in its place.
    pub(super) fn is_gone(&self) -> bool {
        self.file.is_gone(&self.path)
    }

    /// Its length.
    pub(super) fn bytes(&self) -> u64 {
        self.file.length()
    }

    /// Appends a batch as a stream. After an error the file ends with the last whole stream.
    pub(super) fn append(&mut self, batch: &Arc<Batch>) -> io::Result<()> {
        let received = batch.runs().first().map_or(0, |run| run.meta.received_at.0);
        let since = *self.since.get_or_insert(received.wrapping_sub(BEFORE_US));
        let columns = Columns::of(batch, since).map_err(io_error)?;
        let is_known = |shape: &Shape| Arc::ptr_eq(&shape.layout, batch.layout()) && columns.are_like(&shape.columns);
        let at = match self.shapes.iter().position(is_known) {
            Some(at) => at,
            None => {
                if self.shapes.len() >= SHAPES {
                    // The oldest.
                    self.shapes.remove(0);
                }
                self.shapes.push(Shape::new(batch, &columns, self.id, since).map_err(io_error)?);
                self.shapes.len() - 1
            }
        };
        let lost = || io::Error::other("a batch without a shape");
        let shape = self.shapes.get_mut(at).ok_or_else(lost)?;
        let rows = RecordBatch::try_new(shape.schema.clone(), columns.arrays).map_err(io_error)?;
        let (head, body) = sum::with_sum(&shape.message, shape.encoder.encode(&rows).map_err(io_error)?)?;
        let (first, head) = head.split_first_chunk().ok_or_else(lost)?;
        let body = body.iter().map(|part| IoSlice::new(part));
        let mut rest: Vec<IoSlice<'_>> = [IoSlice::new(head)].into_iter().chain(body).collect();
        rest.push(IoSlice::new(&EOS));
        self.file.commit(*first, &mut rest)?;
        self.rows += rows.num_rows() as u64;
        rows_by_exporter(batch.runs(), |exporter, n| *self.by_exporter.entry(exporter).or_default() += n);
        Ok(())
    }
}

/// What the streams of batches with the same columns share: making it takes longer than writing some batches.
struct Shape {
    layout: Arc<Layout>,
    columns: Vec<(Place, DataType)>,
    schema: Arc<Schema>,
    // That of the schema.
    message: Vec<u8>,
    // It has written the schema already.
    encoder: StreamEncoder,
}

impl Shape {
    fn new(batch: &Arc<Batch>, columns: &Columns, segment: i64, since: i64) -> Result<Self, ArrowError> {
        let field = |(place, array): (&Place, &ArrayRef)| {
            let kind = array.data_type().clone();
            let column = match place {
                Place::Own(at) => batch.columns().nth(*at),
                Place::Extras => return Field::new("extras", kind, true),
                Place::Runs => return Field::new(RUN, kind, false),
            };
            let Some(def) = column.map(|column| column.def) else { return Field::new("", kind, true) };
            let key = def.extra_key.as_ref().map(|key| ("flowlane.element".to_string(), key.to_string()));
            let is_cut = def.data_type == ColumnType::Timestamp && kind == DataType::UInt32;
            let since = is_cut.then(|| (SINCE.to_string(), since.to_string()));
            let about: HashMap<_, _> = key.into_iter().chain(since).collect();
            Field::new(&*def.name, kind, def.nullable).with_metadata(about)
        };
        let fields: Vec<Field> = columns.places.iter().zip(&columns.arrays).map(field).collect();
        let about = [
            (SCHEMA_VERSION_KEY, SCHEMA_VERSION.to_string()),
            (TOTAL, batch.layout().counters_are_total().to_string()),
            (SEGMENT, segment.to_string()),
        ];
        let about: HashMap<String, String> = about.map(|(k, v)| (k.to_string(), v)).into();
        let schema = Arc::new(Schema::new(fields).with_metadata(about));
        let mut message: Vec<u8> = StreamEncoder::try_new(&schema)?.finish()?.iter().flat_map(|b| b.to_vec()).collect();
        message.truncate(message.len().saturating_sub(EOS.len()));
        let mut encoder = StreamEncoder::try_new(&schema)?;
        encoder.encode(&RecordBatch::new_empty(schema.clone()))?;
        let kinds = columns.arrays.iter().map(|array| array.data_type().clone());
        let columns = columns.places.iter().copied().zip(kinds).collect();
        Ok(Self { layout: batch.layout().clone(), columns, schema, message, encoder })
    }
}

/// Where a column of a stream comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// One of the batch.
    Own(usize),
    /// The elements without a column of their own.
    Extras,
    /// What runs share.
    Runs,
}

/// The columns of a batch, without a copy, and its runs.
struct Columns {
    places: Vec<Place>,
    arrays: Vec<ArrayRef>,
}

impl Columns {
    fn of(batch: &Arc<Batch>, since: i64) -> Result<Self, ArrowError> {
        let (mut places, mut arrays) = (Vec::new(), Vec::new());
        let (mut extras, mut more) = (0, Vec::new());
        for (index, column) in batch.columns().enumerate() {
            if column.def.extra_key.is_some() {
                extras += 1;
                if extras > EXTRA_COLUMNS {
                    more.push(column);
                    continue;
                }
            }
            let array = array(batch, index, column)?;
            // A column that no row has is left out, like those that the layout lacks.
            if column.def.nullable && array.null_count() == array.len() {
                continue;
            }
            let array = if column.def.extra_key.is_none() { narrow(array, since) } else { array };
            places.push(Place::Own(index));
            arrays.push(array);
        }
        if !more.is_empty() {
            places.push(Place::Extras);
            arrays.push(extras_map(&more, 0, batch.rows())?);
        }
        places.push(Place::Runs);
        arrays.push(runs_of(batch.runs())?);
        Ok(Self { places, arrays })
    }

    fn are_like(&self, others: &[(Place, DataType)]) -> bool {
        let own = self.places.iter().zip(&self.arrays);
        self.places.len() == others.len() && own.zip(others).all(|((p, a), (q, d))| p == q && a.data_type() == d)
    }
}

/// Numbers in as few bytes as all of them fit; times as what they are after `since`.
fn narrow(array: ArrayRef, since: i64) -> ArrayRef {
    if let Some(wide) = array.as_primitive_opt::<Int64Type>() {
        return match widest(Bits(wide.values(), |n: i64| n)).cast_unsigned() {
            0..=0xff => narrowed::<_, UInt8Type>(wide, |n| n as u8),
            0x100..=0xffff => narrowed::<_, UInt16Type>(wide, |n| n as u16),
            0x1_0000..=0xffff_ffff => narrowed::<_, UInt32Type>(wide, |n| n as u32),
            _ => array,
        };
    }
    if let Some(wide) = array.as_primitive_opt::<TimestampMicrosecondType>() {
        let after = |time: i64| time.wrapping_sub(since).cast_unsigned();
        // What stands where there is no time is none.
        let there = match wide.nulls() {
            Some(nulls) => nulls
                .valid_slices()
                .fold(0, |all, (from, to)| all | widest(Bits(wide.values().get(from..to).unwrap_or(&[]), after))),
            None => widest(Bits(wide.values(), after)),
        };
        return match there {
            0..=0xffff_ffff => narrowed::<_, UInt32Type>(wide, |time| after(time) as u32),
            _ => array,
        };
    }
    if let Some(wide) = array.as_primitive_opt::<UInt32Type>() {
        return match widest(Bits(wide.values(), |n| n)) {
            0..=0xff => narrowed::<_, UInt8Type>(wide, |n| n as u8),
            0x100..=0xffff => narrowed::<_, UInt16Type>(wide, |n| n as u16),
            _ => array,
        };
    }
    if let Some(wide) = array.as_primitive_opt::<UInt16Type>() {
        return match widest(Bits(wide.values(), |n| n)) {
            0..=0xff => narrowed::<_, UInt8Type>(wide, |n| n as u8),
            _ => array,
        };
    }
    array
}

/// The bits that any of some numbers has.
struct Bits<'a, W, F>(&'a [W], F);

impl<W: Copy, N: BitOr<Output = N> + Default, F: Fn(W) -> N> Loop for Bits<'_, W, F> {
    type Result = N;

    #[inline(always)]
    fn run(self) -> N {
        self.0.iter().fold(N::default(), |all, n| all | (self.1)(*n))
    }
}

fn narrowed<W: ArrowPrimitiveType, N: ArrowPrimitiveType>(
    wide: &PrimitiveArray<W>,
    cut: impl Fn(W::Native) -> N::Native,
) -> ArrayRef {
    let mut values = vec![N::Native::default(); wide.len()];
    widest(Cut { from: wide.values(), to: &mut values, cut });
    Arc::new(PrimitiveArray::<N>::new(values.into(), wide.nulls().cloned()))
}

struct Cut<'a, W, N, F> {
    from: &'a [W],
    to: &'a mut [N],
    cut: F,
}

impl<W: Copy, N, F: Fn(W) -> N> Loop for Cut<'_, W, N, F> {
    type Result = ();

    #[inline(always)]
    fn run(self) {
        for (slot, n) in self.to.iter_mut().zip(self.from) {
            *slot = (self.cut)(*n);
        }
    }
}
