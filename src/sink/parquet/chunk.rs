//! The pages of one column in one row group, and what is said of them: offsets, statistics.

use super::Result;
use super::header::{self, Kind};
use super::hybrid;
use bytes::{Buf, Bytes};
use parquet::basic::{Compression, Encoding, Type};
use parquet::column::writer::ColumnCloseResult;
use parquet::file::metadata::{ColumnChunkMetaData, ColumnIndexBuilder, OffsetIndexBuilder};
use parquet::file::reader::{ChunkReader, Length};
use parquet::file::statistics::Statistics;
use parquet::file::writer::SerializedRowGroupWriter;
use parquet::schema::types::ColumnDescPtr;
use std::io::{self, Read, Write};

/// The least and the greatest value of a page, as the format writes them.
pub(super) type Bounds = (Vec<u8>, Vec<u8>);

/// A column chunk being written.
pub(super) struct Chunk {
    descr: ColumnDescPtr,
    pages: Vec<u8>,
    offsets: OffsetIndexBuilder,
    bounds: ColumnIndexBuilder,
    encodings: Vec<Encoding>,
    rows: usize,
    nulls: usize,
}

impl Chunk {
    pub(super) fn new(descr: ColumnDescPtr, memory: Vec<u8>) -> Self {
        Self {
            pages: memory,
            offsets: OffsetIndexBuilder::new(),
            bounds: ColumnIndexBuilder::new(descr.physical_type()),
            encodings: vec![Encoding::RLE],
            rows: 0,
            nulls: 0,
            descr,
        }
    }

    /// Bytes of its pages.
    pub(super) fn bytes(&self) -> usize {
        self.pages.len()
    }

    /// A page of rows of which `nulls` have no value; `body` is their levels, if the column has some, and their values.
    pub(super) fn page(
        &mut self,
        body: &[u8],
        encoding: Encoding,
        rows: usize,
        nulls: usize,
        bounds: Option<Bounds>,
    ) -> Result<()> {
        let offset = self.pages.len();
        header::page(&mut self.pages, body, Kind::Data(rows, encoding))?;
        let bytes = self.pages.len() - offset;
        self.offsets.append_row_count(rows as i64);
        self.offsets.append_offset_and_size(offset as i64, bytes as i32);
        let nan = (self.descr.physical_type() == Type::DOUBLE).then_some(0);
        match bounds {
            Some((least, most)) => self.bounds.append(false, least, most, nulls as i64, nan),
            None if nulls == rows => self.bounds.append(true, Vec::new(), Vec::new(), nulls as i64, nan),
            None => self.bounds.to_invalid(),
        }
        if !self.encodings.contains(&encoding) {
            self.encodings.push(encoding);
        }
        self.rows += rows;
        self.nulls += nulls;
        Ok(())
    }

    /// A page of rows without a value, whatever the column's type.
    pub(super) fn absent(&mut self, rows: usize) -> Result<()> {
        let mut body = Vec::new();
        for levels in [self.descr.max_rep_level(), self.descr.max_def_level()] {
            if levels > 0 {
                let mut run = Vec::new();
                hybrid::run(&mut run, 0, rows as u32, 1);
                body.extend((run.len() as u32).to_le_bytes());
                body.extend(run);
            }
        }
        self.page(&body, Encoding::PLAIN, rows, rows, None)
    }

    /// Ends the chunk. `statistics` gets the number of rows without a value.
    pub(super) fn finish(
        mut self,
        dictionary: Option<(Vec<u8>, usize)>,
        statistics: impl FnOnce(u64) -> Option<Statistics>,
    ) -> Result<Finished> {
        let mut before = Vec::new();
        if let Some((values, n)) = dictionary {
            header::page(&mut before, &values, Kind::Dictionary(n))?;
            self.encodings.push(Encoding::PLAIN);
        }
        let has_dictionary = !before.is_empty();
        let (before, pages) = (Bytes::from(before), Bytes::from(self.pages));
        let bytes = before.len() + pages.len();
        let mut offsets = self.offsets.build();
        for page in &mut offsets.page_locations {
            page.offset += before.len() as i64;
        }
        let physical = self.descr.physical_type();
        let mut about = ColumnChunkMetaData::builder(self.descr)
            .set_compression(Compression::UNCOMPRESSED)
            .set_encodings(self.encodings)
            .set_total_compressed_size(bytes as i64)
            .set_total_uncompressed_size(bytes as i64)
            .set_num_values(self.rows as i64)
            .set_data_page_offset(before.len() as i64)
            .set_dictionary_page_offset(has_dictionary.then_some(0));
        let nulls = self.nulls as u64;
        if let Some(statistics) = if self.nulls == self.rows { none(physical, nulls) } else { statistics(nulls) } {
            about = about.set_statistics(statistics);
        }
        let close = ColumnCloseResult {
            bytes_written: bytes as u64,
            rows_written: self.rows as u64,
            metadata: about.build()?,
            bloom_filter: None,
            column_index: if self.bounds.valid() { Some(self.bounds.build()?) } else { None },
            offset_index: Some(offsets),
        };
        Ok(Finished { parts: [before, pages], close })
    }
}

/// That no row has a value: who asks for one need not look.
fn none(physical: Type, nulls: u64) -> Option<Statistics> {
    let nulls = Some(nulls);
    Some(match physical {
        Type::BOOLEAN => Statistics::boolean(None, None, None, nulls, false),
        Type::INT32 => Statistics::int32(None, None, None, nulls, false),
        Type::INT64 => Statistics::int64(None, None, None, nulls, false),
        Type::DOUBLE => Statistics::double(None, None, None, nulls, false),
        Type::BYTE_ARRAY => Statistics::byte_array(None, None, None, nulls, false),
        Type::FIXED_LEN_BYTE_ARRAY => Statistics::fixed_len_byte_array(None, None, None, nulls, false),
        Type::INT96 | Type::FLOAT => return None,
    })
}

/// A whole column chunk.
pub(super) struct Finished {
    parts: [Bytes; 2],
    close: ColumnCloseResult,
}

impl Finished {
    /// A chunk that is made already.
    pub(super) fn new(pages: Bytes, close: ColumnCloseResult) -> Self {
        Self { parts: [Bytes::new(), pages], close }
    }

    /// Gives back the memory of its pages.
    pub(super) fn append_to<W: Write + Send>(self, group: &mut SerializedRowGroupWriter<'_, W>) -> Result<Vec<u8>> {
        let parts = Parts(self.parts);
        group.append_column(&parts, self.close)?;
        let [_, pages] = parts.0;
        let mut memory = Vec::from(pages);
        memory.clear();
        Ok(memory)
    }
}

/// The dictionary's page and those after it, as one.
struct Parts([Bytes; 2]);

impl Length for Parts {
    fn len(&self) -> u64 {
        self.0.iter().map(|part| part.len() as u64).sum()
    }
}

impl ChunkReader for Parts {
    type T = Box<dyn Read>;

    fn get_read(&self, start: u64) -> Result<Self::T> {
        let [before, pages] = self.0.clone();
        let mut all = before.chain(pages);
        all.advance(usize::try_from(start).unwrap_or(usize::MAX).min(all.remaining()));
        Ok(Box::new(all.reader()))
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes> {
        let mut bytes = Vec::with_capacity(length);
        self.get_read(start)?.take(length as u64).read_to_end(&mut bytes)?;
        Ok(Bytes::from(bytes))
    }
}

/// Hands on to a file in large pieces: the file system takes those for a third of the cost of small ones.
pub(super) struct Pieces<W: Write> {
    to: W,
    held: Vec<u8>,
}

const PIECE: usize = 1 << 18;

impl<W: Write> Pieces<W> {
    pub(super) fn new(to: W) -> Self {
        Self { to, held: Vec::with_capacity(PIECE) }
    }

    /// What is behind it, when all was handed on.
    pub(super) fn into_inner(mut self) -> io::Result<W> {
        self.flush()?;
        Ok(self.to)
    }
}

impl<W: Write> Write for Pieces<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.held.len() + bytes.len() > PIECE {
            self.to.write_all(&self.held)?;
            self.held.clear();
        }
        if bytes.len() >= PIECE {
            self.to.write_all(bytes)?;
        } else {
            self.held.extend_from_slice(bytes);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.write_all(&self.held)?;
        self.held.clear();
        self.to.flush()
    }
}
