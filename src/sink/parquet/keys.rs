//! Columns whose values are few and come again: text, sampling rates.

use super::chunk::{Bounds, Chunk, Finished};
use super::hybrid::{self, Levels};
use super::{Column, FEW_ROWS, PAGE_ROWS, Result, foreign};
use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int32Type};
use arrow_array::{Array, ArrayRef, StringArray};
use arrow_buffer::NullBuffer;
use parquet::basic::{Encoding, Type};
use parquet::data_type::ByteArray;
use parquet::file::statistics::Statistics;
use parquet::schema::types::ColumnDescPtr;
use std::collections::HashMap;

/// Entries of a dictionary, and bytes, with which it is full: then the row group ends.
const ENTRIES: usize = 1 << 16;
const BYTES: usize = 8 << 20;
/// Bytes of a text that stands in statistics.
const LONG: usize = 64;

/// A column of places in a dictionary.
pub(super) struct Keys {
    chunk: Chunk,
    nullable: bool,
    levels: Levels,
    // The page that is not written yet. INVARIANT: there are no keys where there are runs.
    keys: Vec<u32>,
    runs: Vec<(u32, u32)>,
    entries: Entries,
    // The page in which each entry was seen last.
    seen: Vec<u32>,
    page: u32,
    bounds: Option<Bounds>,
    has_bounds: bool,
}

/// The dictionary: each entry as bytes, without what the format puts before it.
struct Entries {
    is_text: bool,
    bytes: Vec<u8>,
    ends: Vec<usize>,
    places: HashMap<Box<[u8]>, u32, foldhash::fast::FixedState>,
}

impl Entries {
    fn place(&mut self, entry: &[u8]) -> u32 {
        if let Some(&place) = self.places.get(entry) {
            return place;
        }
        let place = self.ends.len() as u32;
        self.bytes.extend_from_slice(entry);
        self.ends.push(self.bytes.len());
        self.places.insert(entry.into(), place);
        place
    }

    fn get(&self, place: u32) -> &[u8] {
        let place = place as usize;
        let from = place.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or(0);
        self.ends.get(place).and_then(|&to| self.bytes.get(from..to)).unwrap_or(&[])
    }

    /// The dictionary's page.
    fn plain(&self) -> Vec<u8> {
        if !self.is_text {
            return self.bytes.clone();
        }
        let mut page = Vec::with_capacity(self.bytes.len() + 4 * self.ends.len());
        for place in 0..self.ends.len() as u32 {
            let entry = self.get(place);
            page.extend((entry.len() as u32).to_le_bytes());
            page.extend_from_slice(entry);
        }
        page
    }

    /// Whether one stands before the other.
    fn is_less(&self, a: &[u8], b: &[u8]) -> bool {
        if self.is_text { a < b } else { rate(a) < rate(b) }
    }
}

fn rate(bytes: &[u8]) -> f64 {
    bytes.first_chunk().map_or(0.0, |bytes| f64::from_le_bytes(*bytes))
}

impl Keys {
    pub(super) fn new(descr: ColumnDescPtr, memory: Vec<u8>) -> Self {
        let is_text = descr.physical_type() == Type::BYTE_ARRAY;
        Self {
            nullable: descr.max_def_level() > 0,
            chunk: Chunk::new(descr, memory),
            levels: Levels::default(),
            keys: Vec::new(),
            runs: Vec::new(),
            entries: Entries { is_text, bytes: Vec::new(), ends: Vec::new(), places: HashMap::default() },
            seen: Vec::new(),
            page: 0,
            bounds: None,
            has_bounds: true,
        }
    }

    /// The place of each row's value in the dictionary; those of rows without one mean nothing.
    fn places(&mut self, array: &ArrayRef) -> Result<Vec<u32>> {
        let mut places = Vec::with_capacity(array.len());
        if let Some(texts) = array.as_string_opt::<i32>() {
            let mut last: Option<(&str, u32)> = None;
            for row in 0..texts.len() {
                let text = if texts.is_valid(row) { texts.value(row) } else { "" };
                places.push(match last {
                    _ if texts.is_null(row) => 0,
                    Some((before, place)) if before == text => place,
                    _ => self.entries.place(text.as_bytes()),
                });
                last = places.last().filter(|_| texts.is_valid(row)).map(|place| (text, *place)).or(last);
            }
        } else if let Some(keys) = array.as_dictionary_opt::<Int32Type>()
            && let Some(texts) = keys.values().as_any().downcast_ref::<StringArray>()
        {
            let mut known = vec![None; texts.len()];
            for (row, &key) in keys.keys().values().iter().enumerate() {
                let known = known.get_mut(usize::try_from(key).unwrap_or(usize::MAX)).filter(|_| keys.is_valid(row));
                places.push(match known {
                    Some(known) => {
                        *known.get_or_insert_with(|| self.entries.place(texts.value(key as usize).as_bytes()))
                    }
                    None => 0,
                });
            }
        } else if let Some(rates) = array.as_primitive_opt::<Float64Type>() {
            let mut last: Option<(u64, u32)> = None;
            for (row, rate) in rates.values().iter().enumerate() {
                places.push(match last {
                    _ if rates.is_null(row) => 0,
                    Some((before, place)) if before == rate.to_bits() => place,
                    _ => self.entries.place(&rate.to_le_bytes()),
                });
                last = places.last().filter(|_| rates.is_valid(row)).map(|place| (rate.to_bits(), *place)).or(last);
            }
        } else {
            return Err(foreign(array));
        }
        Ok(places)
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
        let mut body = Vec::new();
        if self.nullable {
            self.levels.encode(&mut body);
        }
        self.levels.clear();
        let bounds = self.page_bounds();
        let width = hybrid::key_width(self.entries.ends.len());
        body.push(width);
        self.runs.iter().for_each(|&(place, n)| hybrid::run(&mut body, place, n, width));
        if !self.keys.is_empty() {
            hybrid::numbers(&mut body, &self.keys, width);
        }
        self.runs.clear();
        self.keys.clear();
        self.chunk.page(&body, Encoding::RLE_DICTIONARY, rows, nulls, bounds)
    }

    /// The least and the greatest of the page; nothing from the first long text on.
    fn page_bounds(&mut self) -> Option<Bounds> {
        self.page += 1;
        self.seen.resize(self.entries.ends.len(), 0);
        let mut bounds: Option<(u32, u32)> = None;
        for place in self.keys.iter().copied().chain(self.runs.iter().map(|r| r.0)) {
            match self.seen.get_mut(place as usize) {
                Some(seen) if *seen != self.page => *seen = self.page,
                _ => continue,
            }
            let entry = self.entries.get(place);
            self.has_bounds &= entry.len() <= LONG && (self.entries.is_text || !rate(entry).is_nan());
            let (least, most) = bounds.get_or_insert((place, place));
            if self.entries.is_less(entry, self.entries.get(*least)) {
                *least = place;
            }
            if self.entries.is_less(self.entries.get(*most), entry) {
                *most = place;
            }
        }
        let (least, most) = bounds.filter(|_| self.has_bounds)?;
        let (least, most) = (self.entries.get(least).to_vec(), self.entries.get(most).to_vec());
        match &mut self.bounds {
            Some(all) => {
                if self.entries.is_less(&least, &all.0) {
                    all.0.clone_from(&least);
                }
                if self.entries.is_less(&all.1, &most) {
                    all.1.clone_from(&most);
                }
            }
            None => self.bounds = Some((least.clone(), most.clone())),
        }
        Some((least, most))
    }

    fn expand(&mut self) {
        for (place, n) in self.runs.drain(..) {
            self.keys.extend(std::iter::repeat_n(place, n as usize));
        }
    }
}

impl Column for Keys {
    fn rows(&mut self, array: &ArrayRef) -> Result<()> {
        if array.null_count() == array.len() {
            return self.absent(array.len());
        }
        if self.levels.rows >= FEW_ROWS && (!self.runs.is_empty() || self.levels.is_absent()) {
            self.flush()?;
        }
        self.expand();
        let places = self.places(array)?;
        let nulls = array.nulls().filter(|nulls| nulls.null_count() > 0);
        let mut from = 0;
        while from < places.len() {
            let to = places.len().min(from + PAGE_ROWS - self.levels.rows.min(PAGE_ROWS - 1));
            let these = places.get(from..to).unwrap_or(&[]);
            match nulls.map(|nulls: &NullBuffer| nulls.slice(from, to - from)) {
                None => {
                    self.levels.present(these.len());
                    self.keys.extend_from_slice(these);
                }
                Some(nulls) => {
                    self.levels.mixed(&nulls);
                    let valid = nulls.valid_slices().filter_map(|(a, b)| these.get(a..b));
                    valid.for_each(|these| self.keys.extend_from_slice(these));
                }
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
        if (self.levels.is_absent() || !self.keys.is_empty()) && self.levels.rows.max(total) >= FEW_ROWS {
            self.flush()?;
        }
        let places = self.places(array)?;
        let is_rows = !self.keys.is_empty();
        for (run, (&place, &n)) in places.iter().zip(rows).enumerate() {
            if array.is_null(run) {
                self.levels.absent(n as usize);
                continue;
            }
            self.levels.present(n as usize);
            match self.runs.last_mut() {
                _ if is_rows => self.keys.extend(std::iter::repeat_n(place, n as usize)),
                Some(last) if last.0 == place => last.1 += n,
                _ => self.runs.push((place, n)),
            }
        }
        // Runs of few rows take more than packed places.
        if self.runs.len() * 4 > self.levels.rows {
            self.expand();
        }
        if self.levels.rows >= PAGE_ROWS && !self.levels.is_absent() { self.flush() } else { Ok(()) }
    }

    fn absent(&mut self, rows: usize) -> Result<()> {
        if self.levels.rows.max(rows) >= FEW_ROWS && !self.levels.is_absent() {
            self.flush()?;
        }
        self.levels.absent(rows);
        if self.levels.rows >= PAGE_ROWS && !self.levels.is_absent() { self.flush() } else { Ok(()) }
    }

    fn bytes(&self) -> usize {
        self.chunk.bytes() + self.entries.bytes.len() * 2 + self.entries.ends.len() * 64
    }

    fn is_full(&self) -> bool {
        self.entries.ends.len() >= ENTRIES || self.entries.bytes.len() >= BYTES
    }

    fn finish(mut self: Box<Self>) -> Result<Finished> {
        self.flush()?;
        let dictionary = (!self.entries.ends.is_empty()).then(|| (self.entries.plain(), self.entries.ends.len()));
        let (is_text, bounds) = (self.entries.is_text, self.bounds.filter(|_| self.has_bounds));
        self.chunk.finish(dictionary, |nulls| {
            bounds.map(|(least, most)| match is_text {
                true => {
                    let (least, most) = (ByteArray::from(least), ByteArray::from(most));
                    Statistics::byte_array(Some(least), Some(most), None, Some(nulls), false)
                }
                false => Statistics::double(Some(rate(&least)), Some(rate(&most)), None, Some(nulls), false),
            })
        })
    }
}
