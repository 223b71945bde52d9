//! Columns of numbers.

use super::chunk::{Chunk, Finished};
use super::delta::{self, Number};
use super::hybrid::{self, Levels};
use super::{Column, FEW_ROWS, PAGE_ROWS, Result, foreign};
use crate::columns::gather::{Loop, widest};
use arrow_array::cast::AsArray;
use arrow_array::types::{Int64Type, TimestampMicrosecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type};
use arrow_array::{Array, ArrayRef};
use arrow_schema::DataType;
use parquet::basic::Encoding;
use parquet::file::statistics::Statistics;
use parquet::schema::types::ColumnDescPtr;
use std::collections::HashMap;
use std::hash::Hash;
use std::mem::take;

/// Rows that a run must have on average to be worth a place in a dictionary.
const RUN_ROWS: usize = 8;

/// A number as a column has it: its order is that of the statistics.
pub(super) trait Integer: Number + Ord + Hash + Send + 'static {
    /// As the format writes it.
    fn plain(self) -> impl AsRef<[u8]>;

    fn statistics(least: Self, most: Self, nulls: u64) -> Statistics;

    /// Appends rows of an array, all of which have a value.
    fn extend(values: &mut Vec<Self>, array: &ArrayRef, from: usize, to: usize) -> bool;
}

/// A column of numbers.
pub(super) struct Integers<T> {
    chunk: Chunk,
    nullable: bool,
    // The page that is not written yet. INVARIANT: there are no values where there are runs.
    levels: Levels,
    values: Vec<T>,
    runs: Vec<(T, u32)>,
    // Those of runs.
    dictionary: Vec<T>,
    places: HashMap<T, u32, foldhash::fast::FixedState>,
    bounds: Option<(T, T)>,
}

impl<T: Integer> Integers<T> {
    pub(super) fn new(descr: ColumnDescPtr, memory: Vec<u8>) -> Self {
        Self {
            nullable: descr.max_def_level() > 0,
            chunk: Chunk::new(descr, memory),
            levels: Levels::default(),
            values: Vec::new(),
            runs: Vec::new(),
            dictionary: Vec::new(),
            places: HashMap::default(),
            bounds: None,
        }
    }

    /// Writes the page.
    fn flush(&mut self) -> Result<()> {
        let (rows, nulls) = (self.levels.rows, self.levels.nulls);
        if rows == 0 {
            return Ok(());
        }
        if nulls == rows {
            self.levels.clear();
            return self.chunk.absent(rows);
        }
        let mut body = Vec::with_capacity((rows - nulls) * size_of::<T>() / 2 + 64);
        if self.nullable {
            self.levels.encode(&mut body);
        }
        self.levels.clear();
        let is_runs = !self.runs.is_empty() && self.runs.len() * RUN_ROWS <= rows - nulls;
        let bounds = if is_runs {
            bounds(self.runs.iter().map(|r| r.0))
        } else {
            expand(&mut self.values, &mut self.runs);
            bounds_of(&self.values)
        };
        let encoding = if is_runs {
            self.runs(&mut body);
            Encoding::RLE_DICTIONARY
        } else {
            delta::encode(&mut body, &self.values);
            self.values.clear();
            Encoding::DELTA_BINARY_PACKED
        };
        if let Some((least, most)) = bounds {
            let all = self.bounds.get_or_insert((least, most));
            *all = (all.0.min(least), all.1.max(most));
        }
        let bounds = bounds.map(|(least, most)| (least.plain().as_ref().to_vec(), most.plain().as_ref().to_vec()));
        self.chunk.page(&body, encoding, rows, nulls, bounds)
    }

    /// The runs of a page, as places in the dictionary.
    fn runs(&mut self, body: &mut Vec<u8>) {
        let mut runs = take(&mut self.runs);
        let places: Vec<(u32, u32)> = runs
            .iter()
            .map(|&(value, rows)| {
                let dictionary = &mut self.dictionary;
                let place = *self.places.entry(value).or_insert_with(|| {
                    dictionary.push(value);
                    dictionary.len() as u32 - 1
                });
                (place, rows)
            })
            .collect();
        let width = hybrid::key_width(self.dictionary.len());
        body.push(width);
        places.iter().for_each(|&(place, rows)| hybrid::run(body, place, rows, width));
        runs.clear();
        self.runs = runs;
    }
}

impl<T: Integer> Column for Integers<T> {
    fn rows(&mut self, array: &ArrayRef) -> Result<()> {
        if array.null_count() == array.len() {
            return self.absent(array.len());
        }
        if self.levels.rows >= FEW_ROWS && (!self.runs.is_empty() || self.levels.is_absent()) {
            self.flush()?;
        }
        expand(&mut self.values, &mut self.runs);
        let mut from = 0;
        while from < array.len() {
            let to = array.len().min(from + PAGE_ROWS - self.levels.rows.min(PAGE_ROWS - 1));
            let is_taken = match array.nulls().filter(|nulls| nulls.null_count() > 0) {
                None => {
                    self.levels.present(to - from);
                    T::extend(&mut self.values, array, from, to)
                }
                Some(nulls) => {
                    let nulls = nulls.slice(from, to - from);
                    self.levels.mixed(&nulls);
                    nulls.valid_slices().all(|(a, b)| T::extend(&mut self.values, array, from + a, from + b))
                }
            };
            if !is_taken {
                return Err(foreign(array));
            }
            if self.levels.rows >= PAGE_ROWS {
                self.flush()?;
            }
            from = to;
        }
        Ok(())
    }

    fn runs(&mut self, array: &ArrayRef, rows: &[u32]) -> Result<()> {
        let total: usize = rows.iter().map(|n| *n as usize).sum();
        if (self.levels.is_absent() || !self.values.is_empty()) && self.levels.rows.max(total) >= FEW_ROWS {
            self.flush()?;
        }
        let mut values = Vec::with_capacity(rows.len());
        if !T::extend(&mut values, array, 0, array.len()) {
            return Err(foreign(array));
        }
        let is_rows = !self.values.is_empty();
        for (&value, &n) in values.iter().zip(rows) {
            self.levels.present(n as usize);
            match self.runs.last_mut() {
                _ if is_rows => self.values.extend(std::iter::repeat_n(value, n as usize)),
                Some(last) if last.0 == value => last.1 += n,
                _ => self.runs.push((value, n)),
            }
            if !is_rows && self.levels.rows >= PAGE_ROWS {
                self.flush()?;
            }
        }
        if self.levels.rows >= PAGE_ROWS { self.flush() } else { Ok(()) }
    }

    fn absent(&mut self, rows: usize) -> Result<()> {
        if self.levels.rows.max(rows) >= FEW_ROWS && !self.levels.is_absent() {
            self.flush()?;
        }
        self.levels.absent(rows);
        if self.levels.rows >= PAGE_ROWS && !self.levels.is_absent() { self.flush() } else { Ok(()) }
    }

    fn bytes(&self) -> usize {
        self.chunk.bytes() + (self.values.len() + self.dictionary.len() * 3) * size_of::<T>()
    }

    fn finish(mut self: Box<Self>) -> Result<Finished> {
        self.flush()?;
        let mut dictionary = Vec::with_capacity(self.dictionary.len() * size_of::<T>());
        self.dictionary.iter().for_each(|n| dictionary.extend_from_slice(n.plain().as_ref()));
        let dictionary = (!self.dictionary.is_empty()).then_some((dictionary, self.dictionary.len()));
        let bounds = self.bounds;
        self.chunk.finish(dictionary, |nulls| bounds.map(|(least, most)| T::statistics(least, most, nulls)))
    }
}

fn expand<T: Copy>(values: &mut Vec<T>, runs: &mut Vec<(T, u32)>) {
    for (value, n) in runs.drain(..) {
        values.extend(std::iter::repeat_n(value, n as usize));
    }
}

/// As [`bounds`], several side by side.
fn bounds_of<T: Ord + Copy>(values: &[T]) -> Option<(T, T)> {
    widest(Bounds(values))
}

struct Bounds<'a, T>(&'a [T]);

impl<T: Ord + Copy> Loop for Bounds<'_, T> {
    type Result = Option<(T, T)>;

    #[inline(always)]
    fn run(self) -> Self::Result {
        side_by_side(self.0)
    }
}

#[inline(always)]
fn side_by_side<T: Ord + Copy>(values: &[T]) -> Option<(T, T)> {
    const SIDE: usize = 16;
    let first = *values.first()?;
    let (mut least, mut most) = ([first; SIDE], [first; SIDE]);
    let (chunks, rest) = values.as_chunks::<SIDE>();
    for chunk in chunks {
        for i in 0..SIDE {
            least[i] = least[i].min(chunk[i]);
            most[i] = most[i].max(chunk[i]);
        }
    }
    let all = |values: &[T; SIDE], pick: fn(T, T) -> T| values.iter().chain(rest).copied().fold(values[0], pick);
    Some((all(&least, T::min), all(&most, T::max)))
}

fn bounds<T: Ord + Copy>(mut values: impl Iterator<Item = T>) -> Option<(T, T)> {
    let first = values.next()?;
    Some(values.fold((first, first), |(least, most), n| (least.min(n), most.max(n))))
}

impl Integer for u32 {
    fn plain(self) -> impl AsRef<[u8]> {
        self.to_le_bytes()
    }

    fn statistics(least: Self, most: Self, nulls: u64) -> Statistics {
        Statistics::int32(Some(least.cast_signed()), Some(most.cast_signed()), None, Some(nulls), false)
    }

    fn extend(values: &mut Vec<Self>, array: &ArrayRef, from: usize, to: usize) -> bool {
        match array.data_type() {
            DataType::UInt8 => {
                values.extend(array.as_primitive::<UInt8Type>().values()[from..to].iter().map(|n| u32::from(*n)))
            }
            DataType::UInt16 => {
                values.extend(array.as_primitive::<UInt16Type>().values()[from..to].iter().map(|n| u32::from(*n)));
            }
            DataType::UInt32 => values.extend_from_slice(&array.as_primitive::<UInt32Type>().values()[from..to]),
            _ => return false,
        }
        true
    }
}

impl Integer for i64 {
    fn plain(self) -> impl AsRef<[u8]> {
        self.to_le_bytes()
    }

    fn statistics(least: Self, most: Self, nulls: u64) -> Statistics {
        Statistics::int64(Some(least), Some(most), None, Some(nulls), false)
    }

    fn extend(values: &mut Vec<Self>, array: &ArrayRef, from: usize, to: usize) -> bool {
        match array.data_type() {
            DataType::UInt8 => {
                values.extend(array.as_primitive::<UInt8Type>().values()[from..to].iter().map(|n| i64::from(*n)));
            }
            DataType::UInt16 => {
                values.extend(array.as_primitive::<UInt16Type>().values()[from..to].iter().map(|n| i64::from(*n)));
            }
            DataType::UInt32 => {
                values.extend(array.as_primitive::<UInt32Type>().values()[from..to].iter().map(|n| i64::from(*n)));
            }
            DataType::Int64 => values.extend_from_slice(&array.as_primitive::<Int64Type>().values()[from..to]),
            DataType::Timestamp(..) => match array.as_primitive_opt::<TimestampMicrosecondType>() {
                Some(array) => values.extend_from_slice(&array.values()[from..to]),
                None => return false,
            },
            _ => return false,
        }
        true
    }
}

impl Integer for u64 {
    fn plain(self) -> impl AsRef<[u8]> {
        self.to_le_bytes()
    }

    fn statistics(least: Self, most: Self, nulls: u64) -> Statistics {
        Statistics::int64(Some(least.cast_signed()), Some(most.cast_signed()), None, Some(nulls), false)
    }

    fn extend(values: &mut Vec<Self>, array: &ArrayRef, from: usize, to: usize) -> bool {
        let Some(array) = array.as_primitive_opt::<UInt64Type>() else { return false };
        values.extend_from_slice(&array.values()[from..to]);
        true
    }
}
