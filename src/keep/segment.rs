//! A hot segment: Arrow IPC streams one after the other, one for each batch that was handed over.
//!
//! A stream is written by one call, at once: what the call took outlives the process. The end of a file whose writer
//! was killed may be cut; that is its end, not damage.

use crate::columns::{Batch, Run};
use crate::sink::{FileSchema, io_error};
use arrow_array::RecordBatch;
use arrow_ipc::reader::StreamReader;
use arrow_ipc::writer::StreamWriter;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A segment being written.
pub(super) struct Segment {
    pub(super) id: i64,
    pub(super) path: PathBuf,
    pub(super) bytes: u64,
    pub(super) rows: u64,
    file: File,
}

impl Segment {
    /// A new file.
    pub(super) fn create(folder: &Path, id: i64) -> io::Result<Self> {
        let path = folder.join(format!("{id}.arrows"));
        // Appending: after a cut the next stream stands at the new end.
        let file = OpenOptions::new().append(true).create_new(true).open(&path)?;
        Ok(Self { id, path, bytes: 0, rows: 0, file })
    }

    /// Appends rows of a batch as a stream, made in `buffer`. After an error the file ends with the last whole stream.
    pub(super) fn append(&mut self, batch: &Arc<Batch>, runs: &[Run], buffer: &mut Vec<u8>) -> io::Result<()> {
        let schema = FileSchema::narrow(batch);
        let rows = schema.expand(batch, runs).map_err(io_error)?;
        buffer.clear();
        let mut stream = StreamWriter::try_new(&mut *buffer, schema.arrow()).map_err(io_error)?;
        stream.write(&rows).map_err(io_error)?;
        stream.finish().map_err(io_error)?;
        drop(stream);
        if let Err(error) = self.file.write_all(buffer) {
            self.file.set_len(self.bytes)?;
            return Err(error);
        }
        self.bytes += buffer.len() as u64;
        self.rows += rows.num_rows() as u64;
        Ok(())
    }
}

/// How reading a segment ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct End {
    /// Rows of whole batches.
    pub(super) rows: u64,
    /// Whether there is something after them that is no whole stream.
    pub(super) torn: bool,
}

/// Gives every whole batch of a segment to `take`.
pub(super) fn read(path: &Path, mut take: impl FnMut(RecordBatch) -> io::Result<()>) -> io::Result<End> {
    let mut file = BufReader::with_capacity(1 << 20, File::open(path)?);
    let mut end = End::default();
    loop {
        if file.fill_buf()?.is_empty() {
            return Ok(end);
        }
        let Ok(stream) = StreamReader::try_new(&mut file, None) else {
            end.torn = true;
            return Ok(end);
        };
        for rows in stream {
            let Ok(rows) = rows else {
                end.torn = true;
                return Ok(end);
            };
            end.rows += rows.num_rows() as u64;
            take(rows)?;
        }
    }
}
