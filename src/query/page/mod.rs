//! A column of a row group, page by page: only pages that somebody asks for are read and decoded.
//!
//! The crate finds, checks and decompresses pages; what stands in them is decoded here, into Arrow arrays, for the
//! encodings that this program writes and those that others use most. What is left over, the crate reads whole.

mod bits;
mod delta;
mod runs;
mod values;

use arrow_array::types::Int32Type;
use arrow_array::{Array, ArrayRef, DictionaryArray, Int32Array, PrimitiveArray, new_null_array};
use arrow_buffer::{BooleanBuffer, NullBuffer, ScalarBuffer};
use arrow_schema::DataType;
use bytes::{Buf, Bytes};
use parquet::basic::{Encoding, Type};
use parquet::column::page::{Page, PageReader};
use parquet::errors::ParquetError;
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::page_index::offset_index::PageLocation;
use parquet::file::reader::{ChunkReader, Length};
use parquet::file::serialized_reader::SerializedPageReader;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, PoisonError};
use values::Dictionary;

/// A page that cannot be read.
pub(super) type Error = ParquetError;

pub(super) fn damaged(what: &str) -> Error {
    ParquetError::General(format!("a page with {what}"))
}

/// A file that threads read at places of their own.
pub(super) struct Source {
    file: File,
    len: u64,
    // Of pages that are done with.
    free: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Source {
    pub(super) fn new(file: File) -> Self {
        // Asked once, as every page would.
        Self { len: file.metadata().map_or(0, |m| m.len()), file, free: Arc::default() }
    }
}

/// Bytes that a file was read into, whose memory is used again.
struct Lent {
    bytes: Vec<u8>,
    len: usize,
    free: Arc<Mutex<Vec<Vec<u8>>>>,
}

/// Buffers that are kept at most.
const FREE: usize = 16;

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or(&[])
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        if free.len() < FREE {
            free.push(std::mem::take(&mut self.bytes));
        }
    }
}

impl Length for Source {
    fn len(&self) -> u64 {
        self.len
    }
}

impl ChunkReader for Source {
    type T = bytes::buf::Reader<Bytes>;

    fn get_read(&self, start: u64) -> Result<Self::T, Error> {
        // A header of a page is all that is read this way.
        let left = Length::len(self).saturating_sub(start).min(4096);
        Ok(self.get_bytes(start, left as usize)?.reader())
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, Error> {
        if start.saturating_add(length as u64) > Length::len(self) {
            return Err(ParquetError::EOF("the end of the file inside a page".to_string()));
        }
        let mut bytes = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default();
        if bytes.len() < length {
            bytes.resize(length, 0);
        }
        self.file.read_exact_at(&mut bytes[..length], start)?;
        Ok(Bytes::from_owner(Lent { bytes, len: length, free: self.free.clone() }))
    }
}

/// Reads a column of a row group.
pub(super) struct Column {
    pages: SerializedPageReader<Source>,
    // Where each page begins, if the file says so.
    firsts: Option<Vec<usize>>,
    data_type: DataType,
    physical: Type,
    nullable: bool,
    dictionary: Option<Dictionary>,
    // The row that the next page begins with.
    next: usize,
    rows: usize,
    // The pages passed by.
    passed: usize,
    page: Option<Decoded>,
    // So many rows without a value, of which parts are handed out.
    absent: Option<ArrayRef>,
}

struct Decoded {
    rows: Range<usize>,
    // None where no row has a value: a page may have a million of them, of which a few are asked for.
    array: Option<ArrayRef>,
}

impl Column {
    /// Whether a column can be read here.
    pub(super) fn takes(chunk: &ColumnChunkMetaData, data_type: &DataType) -> bool {
        let about = chunk.column_descr();
        let flat = about.max_rep_level() == 0 && about.max_def_level() <= 1 && about.path().parts().len() == 1;
        let encoding = |e: Encoding| match e {
            #[expect(deprecated, reason = "old files have it")]
            Encoding::BIT_PACKED => true,
            Encoding::PLAIN | Encoding::RLE | Encoding::RLE_DICTIONARY | Encoding::PLAIN_DICTIONARY => true,
            Encoding::DELTA_BINARY_PACKED => matches!(chunk.column_type(), Type::INT32 | Type::INT64),
            _ => false,
        };
        flat && values::takes(data_type, chunk.column_type()) && chunk.encodings().all(encoding)
    }

    /// A column of a row group of so many rows.
    pub(super) fn new(
        file: Arc<Source>,
        chunk: &ColumnChunkMetaData,
        data_type: &DataType,
        rows: usize,
        locations: Option<&[PageLocation]>,
    ) -> Result<Self, Error> {
        let firsts = locations.map(|l| l.iter().map(|l| usize::try_from(l.first_row_index).unwrap_or(0)).collect());
        Ok(Self {
            pages: SerializedPageReader::new(file, chunk, rows, locations.map(<[_]>::to_vec))?,
            firsts,
            data_type: data_type.clone(),
            physical: chunk.column_type(),
            nullable: chunk.column_descr().max_def_level() > 0,
            dictionary: None,
            next: 0,
            rows,
            passed: 0,
            page: None,
            absent: None,
        })
    }

    /// Where the page with a row ends. Rows are asked for in their order.
    pub(super) fn page_end(&mut self, row: usize) -> Result<usize, Error> {
        if let Some(page) = self.page.as_ref().filter(|p| p.rows.contains(&row)) {
            return Ok(page.rows.end);
        }
        loop {
            let end = self.next_page_end()?;
            if row < end {
                return Ok(end);
            }
            self.pages.skip_next_page()?;
            self.passed += 1;
            self.next = end;
        }
    }

    /// The values of some rows, which are in one page.
    pub(super) fn array(&mut self, rows: Range<usize>) -> Result<ArrayRef, Error> {
        let end = self.page_end(rows.start)?;
        if self.page.as_ref().is_none_or(|p| !p.rows.contains(&rows.start)) {
            let page = self.pages.get_next_page()?.ok_or_else(|| damaged("fewer rows than its group"))?;
            self.passed += 1;
            let spare = self.page.take().and_then(|page| page.array);
            let array = self.decode(&page, end - self.next, spare)?;
            self.page = Some(Decoded { rows: self.next..end, array });
            self.next = end;
        }
        match &self.page {
            Some(Decoded { rows: page, array }) if rows.end <= page.end => Ok(match array {
                Some(array) => array.slice(rows.start - page.start, rows.len()),
                None => absent(&mut self.absent, &self.data_type, rows.len()),
            }),
            _ => Err(damaged("fewer rows than its group")),
        }
    }

    /// Where the next page of data ends; a dictionary before it is read.
    fn next_page_end(&mut self) -> Result<usize, Error> {
        if self.next >= self.rows {
            return Err(damaged("fewer rows than its group"));
        }
        if let (Some(firsts), false) = (&self.firsts, self.passed == 0) {
            let end = firsts.get(self.passed + 1).copied().unwrap_or(self.rows);
            return if end > self.next { Ok(end) } else { Err(damaged("no rows")) };
        }
        loop {
            let about = self.pages.peek_next_page()?.ok_or_else(|| damaged("fewer rows than its group"))?;
            if about.is_dict {
                let page = self.pages.get_next_page()?.ok_or_else(|| damaged("no dictionary"))?;
                self.dictionary = Some(Dictionary::of(&page, &self.data_type, self.physical)?);
                continue;
            }
            // A flat column has a level a row.
            let rows = match (&self.firsts, about.num_rows.or(about.num_levels)) {
                (Some(firsts), _) => firsts.get(1).copied().unwrap_or(self.rows),
                (None, Some(rows)) => rows,
                (None, None) => return Err(damaged("no count of its rows")),
            };
            return if rows > 0 { Ok((self.next + rows).min(self.rows)) } else { Err(damaged("no rows")) };
        }
    }

    /// The values of a page, in the memory of an array that may be done with.
    fn decode(&self, page: &Page, rows: usize, spare: Option<ArrayRef>) -> Result<Option<ArrayRef>, Error> {
        let (levels, values, encoding) = levels(page, self.nullable)?;
        if page.num_values() as usize != rows {
            return Err(damaged("other rows than its index says"));
        }
        let there = match levels {
            None => None,
            Some((levels, encoding)) => runs::validity(&levels, encoding, rows)?,
        };
        let nulls = there.map(NullBuffer::new).filter(|n| n.null_count() > 0);
        let count = rows - nulls.as_ref().map_or(0, NullBuffer::null_count);
        if count == 0 && self.nullable {
            return Ok(None);
        }
        let array = values::array(
            &values::Part { data_type: &self.data_type, physical: self.physical, values, encoding, count },
            self.dictionary.as_ref(),
            nulls,
            spare,
        )?;
        Ok(Some(array))
    }
}

/// Rows without a value, which are made once.
fn absent(all: &mut Option<ArrayRef>, data_type: &DataType, rows: usize) -> ArrayRef {
    match all.as_ref().filter(|all| rows <= all.len()) {
        Some(all) => all.slice(0, rows),
        None => all.insert(new_null_array(data_type, rows)).clone(),
    }
}

/// Levels that say which rows are there, and how they are encoded; values, and how they are.
type Parts = (Option<(Bytes, Encoding)>, Bytes, Encoding);

fn levels(page: &Page, nullable: bool) -> Result<Parts, Error> {
    match page {
        Page::DataPage { buf, num_values, encoding, def_level_encoding, .. } if nullable => {
            #[expect(deprecated, reason = "old files have it")]
            let (start, end) = if *def_level_encoding == Encoding::BIT_PACKED {
                (0, (*num_values as usize).div_ceil(8))
            } else {
                let len = buf.first_chunk().map_or(usize::MAX, |b| u32::from_le_bytes(*b) as usize);
                (4, len.saturating_add(4))
            };
            if end > buf.len() {
                return Err(damaged("levels beyond its end"));
            }
            Ok((Some((buf.slice(start..end), *def_level_encoding)), buf.slice(end..), *encoding))
        }
        Page::DataPage { buf, encoding, .. } => Ok((None, buf.clone(), *encoding)),
        Page::DataPageV2 { buf, encoding, def_levels_byte_len, rep_levels_byte_len, .. } => {
            let start = *rep_levels_byte_len as usize;
            let end = start.saturating_add(*def_levels_byte_len as usize);
            if end > buf.len() {
                return Err(damaged("levels beyond its end"));
            }
            let levels = nullable.then(|| (buf.slice(start..end), Encoding::RLE));
            Ok((levels, buf.slice(end..), *encoding))
        }
        Page::DictionaryPage { .. } => Err(damaged("a second dictionary")),
    }
}

/// Texts by their numbers.
fn dictionary(keys: Vec<i32>, nulls: Option<NullBuffer>, texts: &ArrayRef) -> Result<ArrayRef, Error> {
    let keys: Int32Array = PrimitiveArray::try_new(ScalarBuffer::from(keys), nulls)?;
    Ok(Arc::new(DictionaryArray::<Int32Type>::try_new(keys, texts.clone())?))
}

/// Values where rows are there, zeros elsewhere.
fn spread<T: Copy + Default>(values: Vec<T>, nulls: Option<&NullBuffer>) -> Vec<T> {
    let Some(nulls) = nulls else { return values };
    let mut rows = vec![T::default(); nulls.len()];
    let there: &BooleanBuffer = nulls.inner();
    for (row, value) in there.set_indices().zip(values) {
        if let Some(place) = rows.get_mut(row) {
            *place = value;
        }
    }
    rows
}

#[cfg(test)]
mod tests;
