//! Columns that are written as they are: addresses of IPv6 and of link layers, single bits.

use super::chunk::{Chunk, Finished};
use super::hybrid::Levels;
use super::{Column, FEW_ROWS, PAGE_ROWS, Result, foreign};
use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef};
use arrow_buffer::BooleanBufferBuilder;
use parquet::basic::Encoding;
use parquet::data_type::{ByteArray, FixedLenByteArray};
use parquet::file::statistics::Statistics;
use parquet::schema::types::ColumnDescPtr;

/// A column of values of so many bytes.
pub(super) struct Fixed {
    chunk: Chunk,
    nullable: bool,
    width: usize,
    levels: Levels,
    values: Vec<u8>,
    bounds: Option<(Vec<u8>, Vec<u8>)>,
}

impl Fixed {
    pub(super) fn new(descr: ColumnDescPtr, memory: Vec<u8>) -> Self {
        Self {
            nullable: descr.max_def_level() > 0,
            width: usize::try_from(descr.type_length()).unwrap_or(1).max(1),
            chunk: Chunk::new(descr, memory),
            levels: Levels::default(),
            values: Vec::new(),
            bounds: None,
        }
    }

    fn flush(&mut self) -> Result<()> {
        let (rows, nulls) = (self.levels.rows, self.levels.nulls);
        if rows == 0 {
            return Ok(());
        }
        if nulls == rows {
            self.levels.clear();
            return self.chunk.absent(rows);
        }
        let mut body = Vec::with_capacity(self.values.len() + rows / 8 + 16);
        if self.nullable {
            self.levels.encode(&mut body);
        }
        self.levels.clear();
        body.extend_from_slice(&self.values);
        let (mut least, mut most): (&[u8], &[u8]) = (&[], &[]);
        for value in self.values.chunks_exact(self.width) {
            if least.is_empty() || value < least {
                least = value;
            }
            if value > most {
                most = value;
            }
        }
        let bounds = (least.to_vec(), most.to_vec());
        match &mut self.bounds {
            Some(all) => {
                if bounds.0 < all.0 {
                    all.0.clone_from(&bounds.0);
                }
                if bounds.1 > all.1 {
                    all.1.clone_from(&bounds.1);
                }
            }
            None => self.bounds = Some(bounds.clone()),
        }
        self.values.clear();
        self.chunk.page(&body, Encoding::PLAIN, rows, nulls, Some(bounds))
    }
}

impl Column for Fixed {
    fn rows(&mut self, array: &ArrayRef) -> Result<()> {
        let Some(values) = array.as_fixed_size_binary_opt().filter(|a| a.value_length() as usize == self.width) else {
            return Err(foreign(array));
        };
        if array.null_count() == array.len() {
            return self.absent(array.len());
        }
        if self.levels.rows >= FEW_ROWS && self.levels.is_absent() {
            self.flush()?;
        }
        let bytes = values.value_data();
        let mut from = 0;
        while from < array.len() {
            let to = array.len().min(from + PAGE_ROWS - self.levels.rows.min(PAGE_ROWS - 1));
            let bytes_of = |a: usize, b: usize| bytes.get(a * self.width..b * self.width).unwrap_or(&[]);
            match array.nulls().filter(|nulls| nulls.null_count() > 0) {
                None => {
                    self.levels.present(to - from);
                    self.values.extend_from_slice(bytes_of(from, to));
                }
                Some(nulls) => {
                    let nulls = nulls.slice(from, to - from);
                    self.levels.mixed(&nulls);
                    for (a, b) in nulls.valid_slices() {
                        self.values.extend_from_slice(bytes_of(from + a, from + b));
                    }
                }
            }
            if self.levels.rows >= PAGE_ROWS {
                self.flush()?;
            }
            from = to;
        }
        Ok(())
    }

    fn runs(&mut self, array: &ArrayRef, _rows: &[u32]) -> Result<()> {
        Err(foreign(array))
    }

    fn absent(&mut self, rows: usize) -> Result<()> {
        if self.levels.rows.max(rows) >= FEW_ROWS && !self.levels.is_absent() {
            self.flush()?;
        }
        self.levels.absent(rows);
        if self.levels.rows >= PAGE_ROWS && !self.levels.is_absent() { self.flush() } else { Ok(()) }
    }

    fn bytes(&self) -> usize {
        self.chunk.bytes() + self.values.len()
    }

    fn finish(mut self: Box<Self>) -> Result<Finished> {
        self.flush()?;
        let bounds = self
            .bounds
            .map(|(a, b)| (FixedLenByteArray::from(ByteArray::from(a)), FixedLenByteArray::from(ByteArray::from(b))));
        self.chunk.finish(None, |nulls| {
            bounds.map(|(least, most)| {
                Statistics::fixed_len_byte_array(Some(least), Some(most), None, Some(nulls), false)
            })
        })
    }
}

/// A column of bits that every row has.
pub(super) struct Bits {
    chunk: Chunk,
    rows: usize,
    bits: BooleanBufferBuilder,
    // Whether there is a false, whether there is a true: of the page, of all.
    page: [bool; 2],
    all: [bool; 2],
}

impl Bits {
    pub(super) fn new(descr: ColumnDescPtr, memory: Vec<u8>) -> Self {
        let bits = BooleanBufferBuilder::new(PAGE_ROWS);
        Self { chunk: Chunk::new(descr, memory), rows: 0, bits, page: [false; 2], all: [false; 2] }
    }

    fn push(&mut self, bit: bool, rows: usize) -> Result<()> {
        self.bits.append_n(rows, bit);
        self.rows += rows;
        let [no, yes] = &mut self.page;
        *(if bit { yes } else { no }) |= rows > 0;
        if self.rows >= PAGE_ROWS { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<()> {
        if self.rows == 0 {
            return Ok(());
        }
        let body = self.bits.as_slice().to_vec();
        self.bits.truncate(0);
        let [no, yes] = std::mem::take(&mut self.page);
        self.all = [self.all[0] | no, self.all[1] | yes];
        let bounds = (vec![u8::from(!no)], vec![u8::from(yes)]);
        let rows = std::mem::take(&mut self.rows);
        self.chunk.page(&body, Encoding::PLAIN, rows, 0, Some(bounds))
    }
}

impl Column for Bits {
    fn rows(&mut self, array: &ArrayRef) -> Result<()> {
        let bits = array.as_boolean_opt().filter(|bits| bits.null_count() == 0).ok_or_else(|| foreign(array))?;
        bits.values().iter().try_for_each(|bit| self.push(bit, 1))
    }

    fn runs(&mut self, array: &ArrayRef, rows: &[u32]) -> Result<()> {
        let bits = array.as_boolean_opt().filter(|bits| bits.null_count() == 0).ok_or_else(|| foreign(array))?;
        bits.values().iter().zip(rows).try_for_each(|(bit, n)| self.push(bit, *n as usize))
    }

    fn absent(&mut self, _rows: usize) -> Result<()> {
        Err(parquet::errors::ParquetError::General("a column that every row has".into()))
    }

    fn bytes(&self) -> usize {
        self.chunk.bytes() + self.rows / 8
    }

    fn finish(mut self: Box<Self>) -> Result<Finished> {
        self.flush()?;
        let [no, yes] = self.all;
        self.chunk.finish(None, |nulls| Some(Statistics::boolean(Some(!no), Some(yes), None, Some(nulls), false)))
    }
}
