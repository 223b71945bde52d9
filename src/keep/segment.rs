//! A hot segment: Arrow IPC streams one after the other, one for each batch that was handed over.
//!
//! A stream has the columns of its batch as they stand in memory (64-bit counters in 32 bits where they fit), and a column `run`: what the rows of a message share,
//! once a message (run-end encoded). A checksum stands in the padding of its message (`sum`). It is written by one call, at once: what the call took outlives the process. The
//! end of a file whose writer was killed may be cut; that is its end, not damage.

use super::growing::Growing;
use super::runs::{RUN, TOTAL, runs_of};
use super::sum;
use crate::columns::arrow::array;
use crate::columns::schema::SCHEMA_VERSION;
use crate::columns::{AlignedBuf, Batch};
use crate::sink::{EXTRA_COLUMNS, extras_map, io_error};
use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{Array, ArrayRef, RecordBatch, UInt32Array};
use arrow_buffer::Buffer;
use arrow_ipc::convert::try_fb_to_schema;
use arrow_ipc::reader::StreamDecoder;
use arrow_ipc::root_as_message;
use arrow_ipc::writer::StreamEncoder;
use arrow_schema::{Field, Schema};
use bytes::Bytes;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A segment being written.
pub(super) struct Segment {
    pub(super) id: i64,
    pub(super) path: PathBuf,
    pub(super) rows: u64,
    file: Growing,
}

impl Segment {
    /// A new file.
    pub(super) fn create(folder: &Path, id: i64) -> io::Result<Self> {
        let path = folder.join(format!("{id}.arrows"));
        let file = OpenOptions::new().write(true).create_new(true).open(&path)?;
        Ok(Self { id, path, rows: 0, file: Growing::new(file) })
    }

    /// Whether somebody removed it.
    pub(super) fn is_gone(&self) -> bool {
        self.file.is_gone()
    }

    /// Its length.
    pub(super) fn bytes(&self) -> u64 {
        self.file.length()
    }

    /// Appends a batch as a stream. After an error the file ends with the last whole stream.
    pub(super) fn append(&mut self, batch: &Arc<Batch>) -> io::Result<()> {
        let rows = encode(batch).map_err(io_error)?;
        let mut stream = StreamEncoder::try_new(&rows.schema()).map_err(io_error)?;
        let (head, mut parts) = sum::with_sum(stream.encode(&rows).map_err(io_error)?)?;
        parts.extend(stream.finish().map_err(io_error)?);
        let parts = parts.iter().map(|part| IoSlice::new(part));
        let mut parts: Vec<IoSlice<'_>> = [IoSlice::new(&head)].into_iter().chain(parts).collect();
        self.file.append(&mut parts)?;
        self.rows += rows.num_rows() as u64;
        Ok(())
    }
}

/// The columns of a batch, without a copy, and its runs.
fn encode(batch: &Arc<Batch>) -> Result<RecordBatch, arrow_schema::ArrowError> {
    let (mut fields, mut arrays) = (Vec::new(), Vec::new());
    let (mut extras, mut more) = (0, Vec::new());
    for (index, column) in batch.columns().enumerate() {
        let mut metadata = HashMap::new();
        if let Some(key) = &column.def.extra_key {
            extras += 1;
            if extras > EXTRA_COLUMNS {
                more.push(column);
                continue;
            }
            metadata.insert("flowlane.element".to_string(), key.to_string());
        }
        let array = array(batch, index, column)?;
        let array = if column.def.extra_key.is_none() { narrow(array) } else { array };
        // A column that no row has is left out, like those that the layout lacks.
        if column.def.nullable && array.null_count() == array.len() {
            continue;
        }
        let field = Field::new(&*column.def.name, array.data_type().clone(), column.def.nullable);
        fields.push(field.with_metadata(metadata));
        arrays.push(array);
    }
    if !more.is_empty() {
        let map = extras_map(&more, 0, batch.rows())?;
        fields.push(Field::new("extras", map.data_type().clone(), true));
        arrays.push(map);
    }
    let runs = runs_of(batch.runs())?;
    fields.push(Field::new(RUN, runs.data_type().clone(), false));
    arrays.push(runs);
    let about = [
        ("flowlane.schema_version", SCHEMA_VERSION.to_string()),
        (TOTAL, batch.layout().counters_are_total().to_string()),
    ];
    let about: HashMap<String, String> = about.map(|(k, v)| (k.to_string(), v)).into();
    RecordBatch::try_new(Arc::new(Schema::new(fields).with_metadata(about)), arrays)
}

/// Counters in half of their width, where all of them fit.
fn narrow(array: ArrayRef) -> ArrayRef {
    let Some(wide) = array.as_primitive_opt::<Int64Type>() else { return array };
    if wide.values().iter().fold(0, |all, n| all | n.cast_unsigned()) > u64::from(u32::MAX) {
        return array;
    }
    let values: Vec<u32> = wide.values().iter().map(|n| *n as u32).collect();
    Arc::new(UInt32Array::new(values.into(), wide.nulls().cloned()))
}

/// How a segment ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct End {
    /// Rows of whole batches.
    pub(super) rows: u64,
    /// Whether there is something after them that is no whole batch.
    pub(super) torn: bool,
    /// Where that is no batch at all, whole or not, the byte that it begins at: nobody can tell how many rows follow.
    pub(super) damaged: Option<u64>,
}

/// What is in a segment, before any row is read.
#[derive(Default)]
pub(super) struct Contents {
    pub(super) end: End,
    /// The different schemas.
    pub(super) schemas: Vec<Arc<Schema>>,
    // The message of each.
    messages: Vec<Vec<u8>>,
    batches: Vec<Place>,
}

/// Where a stream's batches are, without the schema before them and the mark behind.
#[derive(Clone, Copy)]
struct Place {
    schema: usize,
    start: u64,
    end: u64,
}

impl Contents {
    /// Looks at the head of every message.
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        let mut contents = Self::default();
        let (mut at, mut whole) = (0, 0);
        // The schema of the stream, and where what follows it starts.
        let mut stream: Option<(usize, u64)> = None;
        let mut message = Vec::new();
        while length - at >= HEAD {
            // A marker, the length of what follows, and that.
            let mut head = [0; HEAD as usize];
            file.read_exact_at(&mut head, at)?;
            let [marker, size] = [&head[..4], &head[4..]].map(|b| b.try_into().map_or(0, u32::from_le_bytes));
            if marker != u32::MAX {
                contents.end.damaged = Some(at);
                break;
            }
            if u64::from(size) > length - at - HEAD {
                break;
            }
            if size == 0 {
                (stream, at) = (None, at + HEAD);
                whole = at;
                continue;
            }
            message.resize(head.len() + size as usize, 0);
            file.read_exact_at(&mut message, at)?;
            if let (None, Some(schema)) = (stream, contents.messages.iter().rposition(|m| *m == message)) {
                at += message.len() as u64;
                stream = Some((schema, at));
                continue;
            }
            let Ok(about) = root_as_message(message.get(head.len()..).unwrap_or(&[])) else {
                contents.end.damaged = Some(at);
                break;
            };
            let body = u64::try_from(about.bodyLength()).unwrap_or(u64::MAX);
            at += message.len() as u64;
            if body > length - at {
                break;
            }
            at += body;
            match (about.header_as_schema(), about.header_as_record_batch(), stream) {
                (Some(schema), ..) => {
                    let Ok(schema) = try_fb_to_schema(schema) else {
                        contents.end.damaged = Some(whole);
                        break;
                    };
                    contents.schemas.push(Arc::new(schema));
                    contents.messages.push(std::mem::take(&mut message));
                    stream = Some((contents.schemas.len() - 1, at));
                }
                (None, Some(batch), Some((schema, start))) => {
                    contents.end.rows += u64::try_from(batch.length()).unwrap_or(0);
                    contents.batches.push(Place { schema, start, end: at });
                    (stream, whole) = (Some((schema, at)), at);
                }
                (None, _, Some(_)) => {}
                (None, _, None) => {
                    contents.end.damaged = Some(whole);
                    break;
                }
            }
        }
        // Where the machine itself stopped, what was not written yet is zeros.
        if let Some(from) = contents.end.damaged
            && is_zero(&file, from, length)?
        {
            contents.end.damaged = None;
        }
        contents.end.torn = whole < length;
        Ok(contents)
    }

    /// Gives every whole batch to `take`, with the place of its schema.
    pub(super) fn read(
        &self,
        path: &Path,
        mut take: impl FnMut(usize, RecordBatch) -> io::Result<()>,
    ) -> io::Result<()> {
        let file = File::open(path)?;
        let mut decoders: HashMap<usize, StreamDecoder> = HashMap::new();
        let mut memory = Arc::new(Memory::default());
        for place in &self.batches {
            if decoders.len() >= DECODERS && !decoders.contains_key(&place.schema) {
                decoders.clear();
            }
            let decoder = match decoders.entry(place.schema) {
                Entry::Occupied(decoder) => decoder.into_mut(),
                Entry::Vacant(place_of) => {
                    let mut decoder = StreamDecoder::new();
                    let message = self.messages.get(place.schema).cloned().unwrap_or_default();
                    decoder.decode(&mut Buffer::from_vec(message)).map_err(io_error)?;
                    place_of.insert(decoder)
                }
            };
            // The memory of the batch before, if nobody keeps it.
            let mut owned = Arc::into_inner(memory).unwrap_or_default();
            owned.0.clear();
            owned.0.resize_dirty(usize::try_from(place.end - place.start).unwrap_or(usize::MAX));
            file.read_exact_at(owned.0.as_mut_bytes(), place.start)?;
            let schema = self.messages.get(place.schema).map_or(&[][..], Vec::as_slice);
            sum::check(schema, owned.0.as_bytes())
                .map_err(|error| io::Error::other(format!("the rows at byte {}: {error}", place.start)))?;
            memory = Arc::new(owned);
            let mut bytes = Buffer::from(Bytes::from_owner(Shared(memory.clone())));
            if let Some(batch) = decoder.decode(&mut bytes).map_err(io_error)? {
                drop(bytes);
                take(place.schema, batch)?;
            }
        }
        match self.end.damaged {
            Some(at) => {
                Err(io::Error::other(format!("there are no rows at byte {at}, and what follows cannot be read")))
            }
            None => Ok(()),
        }
    }
}

/// Whether a file has zeros alone, as far as one look goes.
fn is_zero(file: &File, from: u64, length: u64) -> io::Result<bool> {
    let mut bytes = vec![0; usize::try_from((length - from).min(4096)).unwrap_or(0)];
    file.read_exact_at(&mut bytes, from)?;
    Ok(bytes.iter().all(|b| *b == 0))
}

/// Bytes before a message.
const HEAD: u64 = 8;
/// Schemas that are kept ready while a segment is read.
const DECODERS: usize = 256;

/// What a batch that was read points into.
#[derive(Default)]
struct Memory(AlignedBuf);

struct Shared(Arc<Memory>);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        self.0.0.as_bytes()
    }
}

/// Gives every whole batch of a segment to `take`.
pub(super) fn read(path: &Path, mut take: impl FnMut(RecordBatch) -> io::Result<()>) -> io::Result<End> {
    let contents = Contents::of(path)?;
    contents.read(path, |_, batch| take(batch))?;
    Ok(contents.end)
}
