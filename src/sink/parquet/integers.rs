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
use std::cmp::Ordering;
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
    dictionary: Dictionary<T>,
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
            dictionary: Dictionary::default(),
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
        // More than any page takes: growing costs a copy.
        let mut body = Vec::with_capacity((rows - nulls) * size_of::<T>() + rows / 4 + 256);
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
            delta::encode(&mut body, &self.values, bounds);
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

    /// Rows of one value, after others of runs.
    fn one_run(&mut self, value: T, rows: usize) -> Result<()> {
        let mut left = rows;
        while left > 0 {
            let n = left.min(PAGE_ROWS - self.levels.rows.min(PAGE_ROWS - 1));
            self.levels.present(n);
            match self.runs.last_mut() {
                Some(last) if last.0 == value => last.1 += n as u32,
                _ => self.runs.push((value, n as u32)),
            }
            if self.levels.rows >= PAGE_ROWS {
                self.flush()?;
            }
            left -= n;
        }
        Ok(())
    }

    /// The runs of a page, as places in the dictionary.
    fn runs(&mut self, body: &mut Vec<u8>) {
        let mut runs = take(&mut self.runs);
        let places: Vec<(u32, u32)> = runs.iter().map(|&(value, rows)| (self.dictionary.place(value), rows)).collect();
        let width = hybrid::key_width(self.dictionary.values.len());
        body.push(width);
        places.iter().for_each(|&(place, rows)| hybrid::run(body, place, rows, width));
        runs.clear();
        self.runs = runs;
    }
}

/// Values that stand in a dictionary.
struct Dictionary<T> {
    values: Vec<T>,
    // From the first on that is less than one before it: most are times and sequences, which grow.
    places: Option<HashMap<T, u32, foldhash::fast::FixedState>>,
}

impl<T> Default for Dictionary<T> {
    fn default() -> Self {
        Self { values: Vec::new(), places: None }
    }
}

impl<T: Integer> Dictionary<T> {
    fn place(&mut self, value: T) -> u32 {
        let next = self.values.len() as u32;
        let place = match &mut self.places {
            Some(places) => *places.entry(value).or_insert(next),
            None => match self.values.last().map(|last| value.cmp(last)) {
                None | Some(Ordering::Greater) => next,
                Some(Ordering::Equal) => next - 1,
                Some(Ordering::Less) => match self.values.binary_search(&value) {
                    Ok(place) => place as u32,
                    Err(_) => {
                        let mut places: HashMap<_, _, _> = self.values.iter().copied().zip(0..).collect();
                        places.insert(value, next);
                        self.places = Some(places);
                        next
                    }
                },
            },
        };
        if place == next {
            self.values.push(value);
        }
        place
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
        if let (Some(&value), false) = (values.first(), is_rows)
            && values.iter().all(|other| *other == value)
        {
            return self.one_run(value, total);
        }
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
        self.chunk.bytes() + (self.values.len() + self.dictionary.values.len() * 3) * size_of::<T>()
    }

    fn finish(mut self: Box<Self>) -> Result<Finished> {
        self.flush()?;
        let values = &self.dictionary.values;
        let mut dictionary = Vec::with_capacity(values.len() * size_of::<T>());
        values.iter().for_each(|n| dictionary.extend_from_slice(n.plain().as_ref()));
        let dictionary = (!values.is_empty()).then_some((dictionary, values.len()));
        let bounds = self.bounds;
        self.chunk.finish(dictionary, |nulls| bounds.map(|(least, most)| T::statistics(least, most, nulls)))
    }
}

fn expand<T: Copy>(values: &mut Vec<T>, runs: &mut Vec<(T, u32)>) {
    for (value, n) in runs.drain(..) {
        values.extend(std::iter::repeat_n(value, n as usize));
    }
}

/// Appends numbers that take fewer bytes.
fn widen<N: Copy, T: From<N> + Default + Copy>(values: &mut Vec<T>, numbers: &[N]) {
    let from = values.len();
    values.resize(from + numbers.len(), T::default());
    widest(Widen { from: numbers, to: values.get_mut(from..).unwrap_or(&mut []) });
}

struct Widen<'a, N, T> {
    from: &'a [N],
    to: &'a mut [T],
}

impl<N: Copy, T: From<N>> Loop for Widen<'_, N, T> {
    type Result = ();

    #[inline(always)]
    fn run(self) {
        for (slot, n) in self.to.iter_mut().zip(self.from) {
            *slot = T::from(*n);
        }
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
    let first = *values.first()?;
    // Two plain folds in one loop: that becomes vectors, several at a time; arrays of so many leasts do not.
    let (mut least, mut most) = (first, first);
    for &n in values {
        least = least.min(n);
        most = most.max(n);
    }
    Some((least, most))
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
            DataType::UInt8 => widen(values, &array.as_primitive::<UInt8Type>().values()[from..to]),
            DataType::UInt16 => {
                widen(values, &array.as_primitive::<UInt16Type>().values()[from..to]);
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
                widen(values, &array.as_primitive::<UInt8Type>().values()[from..to]);
            }
            DataType::UInt16 => {
                widen(values, &array.as_primitive::<UInt16Type>().values()[from..to]);
            }
            DataType::UInt32 => {
                widen(values, &array.as_primitive::<UInt32Type>().values()[from..to]);
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
