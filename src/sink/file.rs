//! One output of rows: a file that appears whole or not at all, or a stream.

use super::expand::FileSchema;
use super::lines::{Lines, csv_header};
use super::parquet::ParquetFile;
use super::place::Place;
use super::table::Table;
use crate::columns::schema::{SCHEMA_VERSION, SCHEMA_VERSION_KEY};
use crate::columns::{Batch, Run};
use arrow_array::RecordBatch;
use arrow_ipc::CompressionType;
use arrow_ipc::writer::{FileWriter as ArrowFile, IpcWriteOptions};
use arrow_schema::Schema;
use arrow_select::interleave::interleave_record_batch;
use flate2::Compression;
use flate2::write::GzEncoder;
use parquet::basic::{Compression as ParquetCompression, Encoding};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;
use std::error::Error;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::Arc;

/// What rows are written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Parquet, the full schema.
    Parquet,
    /// An Arrow IPC file, the full schema.
    Arrow,
    /// One JSON object a line.
    Ndjson,
    /// RFC 4180 with the same header always.
    Csv,
    /// The gzip file of JSON lines of Python's `netflow` package; its lines are made from messages, not from batches.
    NetflowJson,
    /// Lines that are made from messages, as they are.
    Records,
    /// Columns for people.
    Table,
}

impl Format {
    /// What a file's name ends with.
    pub const fn extension(self) -> &'static str {
        match self {
            Self::Parquet => "parquet",
            Self::Arrow => "arrow",
            Self::Ndjson => "ndjson",
            Self::Csv => "csv",
            Self::NetflowJson => "gz",
            Self::Records => "jsonl",
            Self::Table => "txt",
        }
    }

    /// Whether its lines are made from messages.
    pub const fn is_of_messages(self) -> bool {
        matches!(self, Self::NetflowJson | Self::Records)
    }
}

/// Rows that a columnar file waits for before it decides which extras get a column.
const FIRST_ROWS: usize = 1 << 16;
/// Bytes of memory that such rows may keep.
const FIRST_BYTES: usize = 256 << 20;
/// Bytes of text that are written at once.
const TEXT_BYTES: usize = 1 << 18;

type Out = BufWriter<Box<dyn Write + Send>>;

/// Writes rows in one format to one place.
pub struct Writer {
    encoder: Encoder,
    place: Option<Place>,
    rows: u64,
}

enum Encoder {
    Text { out: Out, text: Vec<u8>, csv: bool },
    Gzip(GzEncoder<Out>),
    Table { out: Out, table: Table },
    Columns(Columns),
}

/// A columnar file, which is begun when enough rows tell which extras there are.
struct Columns {
    out: Option<Out>,
    parquet: bool,
    waiting: Vec<Waiting>,
    waiting_rows: usize,
    waiting_bytes: usize,
    schema: Option<FileSchema>,
    file: Option<Columnar>,
}

/// Rows that came before the file was begun.
enum Waiting {
    Runs(Arc<Batch>, Vec<Run>),
    Ordered(Vec<Arc<Batch>>),
}

impl Waiting {
    fn batches(&self) -> &[Arc<Batch>] {
        match self {
            Self::Runs(batch, _) => std::slice::from_ref(batch),
            Self::Ordered(batches) => batches,
        }
    }
}

enum Columnar {
    Parquet(Box<ParquetFile<Out>>),
    Arrow(Box<ArrowFile<Out>>),
}

impl Writer {
    /// Whether lines of whole messages are written, which hold their options records.
    pub fn takes_messages(&self) -> bool {
        matches!(self.encoder, Encoder::Gzip(_))
    }

    /// Writes to a stream.
    pub fn to_stream(format: Format, stream: Box<dyn Write + Send>) -> Self {
        let out = BufWriter::with_capacity(TEXT_BYTES, stream);
        let columns = |out, parquet| {
            Encoder::Columns(Columns {
                out: Some(out),
                parquet,
                waiting: Vec::new(),
                waiting_rows: 0,
                waiting_bytes: 0,
                schema: None,
                file: None,
            })
        };
        let encoder = match format {
            Format::Parquet => columns(out, true),
            Format::Arrow => columns(out, false),
            Format::Ndjson | Format::Records => Encoder::Text { out, text: Vec::new(), csv: false },
            Format::Csv => {
                let mut text = Vec::new();
                csv_header(&mut text);
                Encoder::Text { out, text, csv: true }
            }
            Format::NetflowJson => Encoder::Gzip(GzEncoder::new(out, Compression::fast())),
            Format::Table => Encoder::Table { out, table: Table::new() },
        };
        Self { encoder, place: None, rows: 0 }
    }

    /// Writes to a file. It stands under a name with a dot before and `.tmp` behind until [`finish`](Self::finish).
    ///
    /// What exists and is no file (a device, a pipe) is written to as it is.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn to_file(format: Format, path: &Path) -> io::Result<Self> {
        let place = Place::create(path)?;
        let mut writer = Self::to_stream(format, place.stream()?);
        writer.place = Some(place);
        Ok(writer)
    }

    /// Rows written.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Writes consecutive runs of a finished batch.
    ///
    /// # Errors
    /// Those of the stream; [`io::ErrorKind::BrokenPipe`] where the reader is gone.
    pub fn write(&mut self, batch: &Arc<Batch>, runs: &[Run]) -> io::Result<()> {
        self.rows += runs.iter().map(|r| u64::from(r.rows)).sum::<u64>();
        match &mut self.encoder {
            Encoder::Text { out, text, csv } => {
                let lines = Lines::new(batch);
                for run in runs {
                    write_lines(&lines, run, out, text, *csv)?;
                }
                Ok(())
            }
            Encoder::Table { out, table } => {
                for run in runs {
                    table.push(batch, run, out)?;
                }
                Ok(())
            }
            Encoder::Columns(columns) => columns.write(batch, runs),
            Encoder::Gzip(_) => Ok(()),
        }
    }

    /// Writes all rows of batches that were handed over together, in the order in which they stood on the wire.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn write_ordered(&mut self, batches: &[Arc<Batch>]) -> io::Result<()> {
        if let [batch] = batches {
            return self.write(batch, batch.runs());
        }
        let order = on_the_wire(batches);
        self.rows += order.iter().map(|r| u64::from(r.1.rows)).sum::<u64>();
        match &mut self.encoder {
            Encoder::Text { out, text, csv } => {
                let lines: Vec<Lines<'_>> = batches.iter().map(|b| Lines::new(b)).collect();
                for (batch, run) in order {
                    if let Some(lines) = lines.get(batch) {
                        write_lines(lines, run, out, text, *csv)?;
                    }
                }
                Ok(())
            }
            Encoder::Table { out, table } => {
                for (batch, run) in order {
                    if let Some(batch) = batches.get(batch) {
                        table.push(batch, run, out)?;
                    }
                }
                Ok(())
            }
            Encoder::Columns(columns) => columns.write_ordered(batches),
            Encoder::Gzip(_) => Ok(()),
        }
    }

    /// Writes a line, or several, made elsewhere; of use where [`Format::is_of_messages`].
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn write_text(&mut self, lines: &[u8]) -> io::Result<()> {
        match &mut self.encoder {
            Encoder::Text { out, text, .. } => {
                out.write_all(text)?;
                text.clear();
                out.write_all(lines)
            }
            Encoder::Gzip(out) => out.write_all(lines),
            Encoder::Table { out, .. } => out.write_all(lines),
            Encoder::Columns(_) => Ok(()),
        }
    }

    /// Hands what text there is to the stream.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn flush(&mut self) -> io::Result<()> {
        match &mut self.encoder {
            Encoder::Text { out, text, .. } => {
                out.write_all(text)?;
                text.clear();
                out.flush()
            }
            Encoder::Table { out, table } => {
                table.flush(out)?;
                out.flush()
            }
            Encoder::Gzip(out) => out.flush(),
            Encoder::Columns(_) => Ok(()),
        }
    }

    /// Ends the output; a file then stands under its name, on the disk.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn finish(mut self) -> io::Result<()> {
        self.flush()?;
        match &mut self.encoder {
            Encoder::Gzip(out) => {
                out.try_finish()?;
                out.get_mut().flush()?;
            }
            Encoder::Columns(columns) => columns.finish()?,
            Encoder::Text { .. } | Encoder::Table { .. } => {}
        }
        self.place.take().map_or(Ok(()), Place::finish_on_disk)
    }
}

/// The runs of several batches in the order of the wire, each with the place of its batch.
fn on_the_wire(batches: &[Arc<Batch>]) -> Vec<(usize, &Run)> {
    let mut runs: Vec<_> = batches.iter().enumerate().flat_map(|(i, b)| b.runs().iter().map(move |r| (i, r))).collect();
    runs.sort_by_key(|r| r.1.meta.order);
    runs
}

fn write_lines(lines: &Lines<'_>, run: &Run, out: &mut Out, text: &mut Vec<u8>, csv: bool) -> io::Result<()> {
    if csv {
        lines.csv(text, run);
    } else {
        lines.ndjson(text, run);
    }
    if text.len() >= TEXT_BYTES / 2 {
        out.write_all(text)?;
        text.clear();
    }
    Ok(())
}

impl Columns {
    fn write(&mut self, batch: &Arc<Batch>, runs: &[Run]) -> io::Result<()> {
        if self.file.is_some() {
            return self.append(batch, runs);
        }
        self.wait(Waiting::Runs(batch.clone(), runs.to_vec()), runs.iter().map(|r| r.rows as usize).sum())
    }

    fn write_ordered(&mut self, batches: &[Arc<Batch>]) -> io::Result<()> {
        if self.file.is_some() {
            return self.append_ordered(batches);
        }
        self.wait(Waiting::Ordered(batches.to_vec()), batches.iter().map(|b| b.rows()).sum())
    }

    fn wait(&mut self, waiting: Waiting, rows: usize) -> io::Result<()> {
        self.waiting_rows += rows;
        self.waiting_bytes += waiting.batches().iter().map(|b| b.memory()).sum::<usize>();
        self.waiting.push(waiting);
        if self.waiting_rows >= FIRST_ROWS || self.waiting_bytes >= FIRST_BYTES { self.begin() } else { Ok(()) }
    }

    fn append(&mut self, batch: &Arc<Batch>, runs: &[Run]) -> io::Result<()> {
        let Some(schema) = &self.schema else { return Ok(()) };
        let rows = schema.expand(batch, runs).map_err(io_error)?;
        self.put(&rows)
    }

    fn append_ordered(&mut self, batches: &[Arc<Batch>]) -> io::Result<()> {
        if let [batch] = batches {
            return self.append(batch, batch.runs());
        }
        let Some(schema) = &self.schema else { return Ok(()) };
        let expanded: Result<Vec<_>, _> = batches.iter().map(|b| schema.expand(b, b.runs())).collect();
        let expanded = expanded.map_err(io_error)?;
        let expanded: Vec<&RecordBatch> = expanded.iter().collect();
        let order = on_the_wire(batches);
        let rows = |run: &Run| run.first_row as usize..(run.first_row + run.rows) as usize;
        let places: Vec<_> = order.iter().flat_map(|(batch, run)| rows(run).map(|row| (*batch, row))).collect();
        for part in places.chunks(FIRST_ROWS) {
            self.put(&interleave_record_batch(&expanded, part).map_err(io_error)?)?;
        }
        Ok(())
    }

    fn put(&mut self, rows: &RecordBatch) -> io::Result<()> {
        match &mut self.file {
            Some(Columnar::Parquet(file)) => file.write(rows),
            Some(Columnar::Arrow(file)) => file.write(rows).map_err(io_error),
            None => Ok(()),
        }
    }

    /// Begins the file with the extras of what waits, and writes that.
    fn begin(&mut self) -> io::Result<()> {
        let Some(out) = self.out.take() else { return Ok(()) };
        let batches = self.waiting.iter().flat_map(|w| w.batches().iter().map(|b| &**b));
        // An Arrow file takes one dictionary a column, known at its start, so only Parquet gets one.
        let schema = FileSchema::new(batches, self.parquet);
        self.file = Some(if self.parquet {
            Columnar::Parquet(Box::new(ParquetFile::create(out, schema.arrow())?))
        } else {
            // Columns that no row has are zeros, which compress to nothing.
            let options = IpcWriteOptions::default().try_with_compression(Some(CompressionType::LZ4_FRAME));
            let file = options.and_then(|o| ArrowFile::try_new_with_options(out, schema.arrow(), o));
            Columnar::Arrow(Box::new(file.map_err(io_error)?))
        });
        self.schema = Some(schema);
        for waiting in std::mem::take(&mut self.waiting) {
            match waiting {
                Waiting::Runs(batch, runs) => self.append(&batch, &runs)?,
                Waiting::Ordered(batches) => self.append_ordered(&batches)?,
            }
        }
        Ok(())
    }

    fn finish(&mut self) -> io::Result<()> {
        self.begin()?;
        match self.file.take() {
            Some(Columnar::Parquet(file)) => file.into_inner()?.flush(),
            Some(Columnar::Arrow(mut file)) => {
                file.finish().map_err(io_error)?;
                file.get_mut().flush()
            }
            None => Ok(()),
        }
    }
}

/// Integers delta-packed and not compressed, which is the best trade of time for space; text in dictionaries.
pub(crate) fn properties(schema: &Schema, more: &[(&str, String)]) -> WriterProperties {
    use arrow_schema::DataType as D;
    let version = (SCHEMA_VERSION_KEY, SCHEMA_VERSION.to_string());
    let metadata = more.iter().chain([&version]).map(|(k, v)| KeyValue::new((*k).to_string(), v.clone()));
    let mut properties = WriterProperties::builder()
        .set_compression(ParquetCompression::UNCOMPRESSED)
        .set_dictionary_enabled(false)
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_created_by(concat!("flowlane ", env!("CARGO_PKG_VERSION")).to_string())
        .set_key_value_metadata(Some(metadata.collect()));
    for field in schema.fields() {
        let path = ColumnPath::new(vec![field.name().clone()]);
        properties = match field.data_type() {
            D::UInt8 | D::UInt16 | D::UInt32 | D::UInt64 | D::Int64 | D::Timestamp(..) => {
                properties.set_column_encoding(path, Encoding::DELTA_BINARY_PACKED)
            }
            D::Utf8 | D::Dictionary(..) | D::Float64 => properties.set_column_dictionary_enabled(path, true),
            _ => properties,
        };
    }
    properties.build()
}

/// An error of a library, as the error of the stream behind it where there is one.
pub(crate) fn io_error(error: impl Error + Send + Sync + 'static) -> io::Error {
    let mut cause: Option<&(dyn Error + 'static)> = Some(&error);
    while let Some(e) = cause {
        if let Some(e) = e.downcast_ref::<io::Error>() {
            return io::Error::new(e.kind(), e.to_string());
        }
        cause = e.source();
    }
    io::Error::other(error)
}
