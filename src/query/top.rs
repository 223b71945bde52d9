//! Sums by key: the greatest, the rest, and all.
//!
//! Each thread sums into tables of its own; at the end they are merged range by range of the keys' hashes, on as many
//! threads. Groups that memory has no room for wait in a temporary file, so the answer is exact whatever the bound.

use super::chosen::Chosen;
use super::entry::{Lone, Narrow, Rows, Values};
use super::greatest::Greatest;
use super::kept::Keys;
use super::key;
use super::pack::{self, Texts};
use super::sums::{Metric, Row, Sums};
use super::table::{Key, Ranking, Tables};
use super::value::columns_of;
use arrow_array::RecordBatch;
use arrow_buffer::BooleanBuffer;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

/// What is summed, and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// Columns; `addr`, `port`, `as`, `if` and the like stand for both directions ([`directions`](super::directions)), and a flow counts
    /// with each of its two values.
    pub keys: Vec<String>,
    /// Whether counters are multiplied by the sampling rate, where it is known.
    pub scale: bool,
    /// Whether what came back counts too, where a record tells of both directions.
    pub both: bool,
    /// Whether running totals count as a flow's counters, which they are where an exporter sends one record a flow.
    pub totals: bool,
    /// Groups in memory at most, about 120 bytes each; further ones go to a file.
    pub groups: usize,
}

impl Default for Options {
    /// No keys, counters as they are, a million groups in memory.
    fn default() -> Self {
        Self { keys: Vec::new(), scale: false, both: false, totals: false, groups: 1_000_000 }
    }
}

/// Sums of groups.
pub struct Top {
    options: Options,
    // The columns of a key: of each direction, where there are two.
    variants: Vec<Vec<String>>,
    held: Held,
    total: Row,
    beyond: Row,
    totals: u64,
    running: Row,
    rows: u64,
    unscaled: u64,
    shared: Arc<Shared>,
    // Groups of ours that the budget counts.
    counted: usize,
    failed: Option<String>,
    len: Option<usize>,
}

/// What is known of groups.
enum Held {
    /// All sums of all.
    All(Tables<Narrow>),
    /// Of all, the sum that they are ranked by: a third of the memory, and fewer columns to read.
    Ranks(Metric, Tables<Lone>),
    /// All sums of the greatest, and those of the others together.
    Chosen(Box<Chosen>),
}

/// What threads that work at one answer share.
struct Shared {
    limit: usize,
    in_memory: AtomicUsize,
    folder: PathBuf,
    texts: Mutex<Texts>,
}

impl Top {
    /// Nothing summed yet.
    pub fn new(options: Options) -> Self {
        let shared = Shared {
            limit: options.groups.max(1),
            in_memory: AtomicUsize::new(0),
            folder: std::env::temp_dir(),
            texts: Mutex::default(),
        };
        Self::with(options, Arc::new(shared))
    }

    /// Nothing summed yet of the one sum that groups are to be ranked by, which has to add up.
    pub(super) fn to_rank(&self, metric: Metric) -> Self {
        let mut top = Self::new(self.options.clone());
        top.held = Held::Ranks(metric, Tables::new(&top.key_columns()));
        top
    }

    /// Of ranks the `n` greatest groups, to be read again for their other sums; `None` where that cannot be.
    pub(super) fn of_greatest(mut self, n: usize) -> Option<Self> {
        let Held::Ranks(metric, _) = self.held else { return None };
        let (first, others) = self.ranked(metric, n);
        let first: Vec<(Key, i128)> = first.into_iter().map(|(key, row)| (key, row.bytes)).collect();
        let all = first.iter().map(|f| f.1).sum::<i128>() + others.map_or(0, |o| o.bytes);
        let (groups, spilled) = (self.len(), self.spilled());
        let mut top = Self::with(self.options.clone(), self.shared.clone());
        top.total = Row::of_measure(metric, self.total.bytes);
        top.running = self.running.only(metric);
        let measure = (metric, all - self.total.bytes);
        top.held = Held::Chosen(Box::new(Chosen::of(&top.key_columns(), first, measure, groups, spilled)?));
        self.failed.is_none().then_some(top)
    }

    /// Nothing summed yet, for another thread: it shares the memory that [`Options::groups`] allows.
    pub fn another(&self) -> Self {
        let mut top = Self::with(self.options.clone(), self.shared.clone());
        let columns = top.key_columns();
        top.held = match &self.held {
            Held::All(_) => Held::All(Tables::new(&columns)),
            Held::Ranks(metric, _) => Held::Ranks(*metric, Tables::new(&columns)),
            Held::Chosen(chosen) => Held::Chosen(Box::new(chosen.another(&columns))),
        };
        top
    }

    fn with(options: Options, shared: Arc<Shared>) -> Self {
        let directions: Vec<Vec<String>> = options.keys.iter().map(|k| key::directions(k)).collect();
        // Both directions of the keys that have them; the others go with either.
        let variants: Vec<Vec<String>> = (0..directions.iter().map(Vec::len).max().unwrap_or(1))
            .map(|v| directions.iter().filter_map(|names| names.get(v).or(names.last()).cloned()).collect())
            .collect();
        let columns: Vec<&str> = variants.iter().flatten().map(String::as_str).take(options.keys.len()).collect();
        let held = Held::All(Tables::new(&columns));
        Self {
            held,
            options,
            variants,
            total: Row::NONE,
            beyond: Row::NONE,
            totals: 0,
            running: Row::NONE,
            rows: 0,
            unscaled: 0,
            shared,
            counted: 0,
            failed: None,
            len: None,
        }
    }

    /// The columns of a key, one each.
    fn key_columns(&self) -> Vec<&str> {
        self.variants.iter().flatten().map(String::as_str).take(self.options.keys.len()).collect()
    }

    /// The columns that are read.
    pub fn columns(&self) -> Vec<String> {
        let keys = self.variants.iter().flatten().flat_map(|k| columns_of(k));
        keys.chain(self.columns_of_sums()).collect()
    }

    /// The same without those of keys.
    pub(super) fn columns_of_sums(&self) -> Vec<String> {
        let needed = |metric: Metric| match &self.held {
            Held::All(_) => true,
            Held::Ranks(measure, _) => metric == *measure,
            // That is known already.
            Held::Chosen(chosen) => metric != chosen.metric,
        };
        let counters =
            [Metric::Bytes, Metric::Packets, Metric::Flows].into_iter().filter(|m| needed(*m)).map(Metric::name);
        let times = ["flow_start", "flow_end"].into_iter().filter(|_| !matches!(self.held, Held::Ranks(..)));
        let sums = counters.chain(times).chain(["counters_are_total"]);
        let rate = self.options.scale.then_some("sampling_rate");
        let back = [(Metric::Bytes, "rev_bytes"), (Metric::Packets, "rev_packets")];
        let back = back.into_iter().filter(|(metric, _)| self.options.both && needed(*metric)).map(|b| b.1);
        sums.chain(rate).chain(back).map(String::from).collect()
    }

    /// Whether there may be more groups than a small table has room for.
    pub(super) fn has_many_groups(&self) -> bool {
        pack::bits(&self.key_columns()) > 16
    }

    /// Words of a key, where all keys have one layout.
    pub(super) fn words(&self) -> usize {
        match &self.held {
            Held::Chosen(chosen) => chosen.words(),
            Held::All(_) | Held::Ranks(..) => 0,
        }
    }

    /// Adds the chosen rows of a batch.
    pub fn add(&mut self, batch: &RecordBatch, chosen: &BooleanBuffer) {
        self.add_rows(batch, chosen, Keys::Packed);
    }

    /// The same, and tells their keys, if it is worth while to keep them: nothing where it is not, or where they do not all have
    /// one layout.
    pub(super) fn add_and_keep(
        &mut self,
        batch: &RecordBatch,
        chosen: &BooleanBuffer,
        mut keep: impl FnMut(Option<&[u64]>),
    ) {
        // Of most rows, the columns are read sooner than so much memory is filled.
        if self.variants.len() == 1 && chosen.count_set_bits() <= batch.num_rows() / 2 {
            self.add_rows(batch, chosen, Keys::Told(&mut keep));
        } else {
            keep(None);
            self.add(batch, chosen);
        }
    }

    /// The same with keys that are known.
    pub(super) fn add_known(&mut self, batch: &RecordBatch, chosen: &BooleanBuffer, keys: &[u64]) {
        self.add_rows(batch, chosen, Keys::Known(keys));
    }

    fn add_rows(&mut self, batch: &RecordBatch, chosen: &BooleanBuffer, mut keys: Keys<'_>) {
        let sums = Sums::of(batch, self.options.scale).and_back(batch, self.options.both);
        let sums = sums.counting_totals(self.options.totals);
        let known = if let Held::Chosen(chosen) = &self.held { Some(chosen.metric) } else { None };
        let mut rows = match chosen.count_set_bits() {
            n if n == batch.num_rows() => Rows::All(n),
            n => {
                let mut rows = Vec::with_capacity(n);
                rows.extend(chosen.set_indices().map(|row| row as u32));
                Rows::Some(rows)
            }
        };
        if sums.has_totals() {
            if let Keys::Told(tell) = &mut keys {
                tell(None);
                keys = Keys::Packed;
            }
            let before = rows.len();
            let mut kept = Vec::with_capacity(before);
            for row in rows.iter() {
                match sums.is_total(row) {
                    true => self.running.add(&known.map_or_else(|| sums.row(row), |m| sums.row(row).without(m))),
                    false => kept.push(row as u32),
                }
            }
            rows = Rows::Some(kept);
            self.totals += (before - rows.len()) as u64;
        }
        self.rows += rows.len() as u64;
        self.unscaled += sums.lacking_rate(&rows);
        if let Held::Ranks(metric, _) = self.held {
            let measure = sums.measure(metric, batch.num_rows());
            let values = Values { bytes: &measure, packets: &[], flows: &[], start: &[], end: &[] };
            self.add_values(batch, rows, &values, keys);
        } else {
            let columns = sums.columns(batch.num_rows(), known);
            let [bytes, packets, flows, start, end] = columns.each_ref().map(|c| &**c);
            let values = Values { bytes, packets, flows, start, end };
            self.add_values(batch, rows, &values, keys);
        }
        self.len = None;
        self.account();
    }

    fn add_values(&mut self, batch: &RecordBatch, rows: Rows, values: &Values<'_>, keys: Keys<'_>) {
        values.sum(&rows, &mut self.total);
        let last = self.variants.len().saturating_sub(1);
        (0..last).for_each(|v| self.add_variant(v, batch, rows.clone(), values, Keys::Packed));
        self.add_variant(last, batch, rows, values, keys);
    }

    fn add_variant(&mut self, v: usize, batch: &RecordBatch, mut rows: Rows, values: &Values<'_>, keys: Keys<'_>) {
        let names: Vec<&str> = self.variants.get(v).into_iter().flatten().map(String::as_str).collect();
        // A flow from a value to itself counts once.
        if let Some(before) = v.checked_sub(1).and_then(|v| self.variants.get(v)) {
            let mut same = vec![true; rows.len()];
            for (a, b) in before.iter().zip(&names).filter(|(a, b)| a != *b) {
                let also = pack::same(batch, a, b, &rows);
                same.iter_mut().zip(also).for_each(|(same, also)| *same &= also);
            }
            rows.retain(|i| same.get(i) == Some(&false));
        }
        let texts = &self.shared.texts;
        match &mut self.held {
            Held::All(tables) => tables.add(batch, &names, rows, values, (texts, keys)),
            Held::Ranks(_, tables) => tables.add(batch, &names, rows, values, (texts, keys)),
            Held::Chosen(chosen) => match keys {
                Keys::Known(keys) => chosen.add_keys(keys, &rows, values),
                Keys::Packed | Keys::Told(_) => chosen.add((batch, &names), rows, values, texts, v > 0),
            },
        }
    }

    /// Tells the others how many groups there are, and empties memory where they are too many.
    fn account(&mut self) {
        let now = match &self.held {
            Held::All(tables) => tables.in_memory(),
            Held::Ranks(_, tables) => tables.in_memory(),
            Held::Chosen(_) => return,
        };
        let more = now.wrapping_sub(self.counted);
        let all = self.shared.in_memory.fetch_add(more, Relaxed).wrapping_add(more);
        self.counted = now;
        if all > self.shared.limit && now > 0 {
            let mut beyond = Row::NONE;
            let folder = &self.shared.folder;
            // Without a file, its groups are kept as one sum.
            let result = match &mut self.held {
                Held::All(tables) => tables.spill(folder, &mut beyond),
                Held::Ranks(_, tables) => tables.spill(folder, &mut beyond),
                Held::Chosen(_) => Ok(()),
            };
            if let Err(error) = result {
                let say = || format!("groups beyond the limit cannot be kept in {}: {error}", folder.display());
                self.failed.get_or_insert_with(say);
            }
            self.beyond.add(&beyond);
            self.shared.in_memory.fetch_sub(self.counted, Relaxed);
            self.counted = 0;
        }
    }

    /// Adds what another thread summed.
    pub fn merge(&mut self, mut other: Self) {
        self.len = None;
        self.total.add(&other.total);
        self.beyond.add(&other.beyond);
        self.totals += other.totals;
        self.running.add(&other.running);
        self.rows += other.rows;
        self.unscaled += other.unscaled;
        self.failed = self.failed.take().or(other.failed.take());
        let is_same = Arc::ptr_eq(&self.shared, &other.shared);
        match (&mut self.held, other.held) {
            (Held::All(mine), Held::All(theirs)) if is_same => mine.append(theirs),
            (Held::Ranks(_, mine), Held::Ranks(_, theirs)) if is_same => mine.append(theirs),
            (Held::Chosen(mine), Held::Chosen(theirs)) if is_same => mine.append(*theirs),
            (Held::All(mine), Held::All(theirs)) => {
                let from = other.shared.texts.lock().unwrap_or_else(PoisonError::into_inner);
                let mut to = self.shared.texts.lock().unwrap_or_else(PoisonError::into_inner);
                if let Err(error) = mine.absorb(&theirs, &from, &mut to) {
                    self.failed.get_or_insert_with(|| unreadable(&error));
                }
                drop(to);
                return self.account();
            }
            // Only those of one question are made of anything but all sums.
            _ => self.failed = Some("sums of different questions".to_string()),
        }
        self.counted += other.counted;
    }

    /// All rows, each once whatever its keys.
    pub fn total(&self) -> Row {
        self.sums(self.total)
    }

    /// Rows of groups that neither memory nor a file had room for, see [`failed`](Self::failed); `None` where there are
    /// none.
    pub fn beyond(&self) -> Option<Row> {
        (self.beyond != Row::NONE).then(|| self.sums(self.beyond))
    }

    /// Why groups are missing, which is because their file could not be written or read.
    pub fn failed(&self) -> Option<&str> {
        self.failed.as_deref()
    }

    /// Whether there were more groups than memory was allowed for, so that a file took some.
    pub fn spilled(&self) -> bool {
        match &self.held {
            Held::All(tables) => tables.is_spilled(),
            Held::Ranks(_, tables) => tables.is_spilled(),
            Held::Chosen(chosen) => chosen.is_spilled,
        }
    }

    /// Records whose counters are running totals, and are not summed.
    pub fn totals(&self) -> u64 {
        self.totals
    }

    /// The sums of those records, each as if it were a flow of its own.
    pub fn running(&self) -> Row {
        if let Held::Ranks(metric, _) = self.held { self.running.only(metric) } else { self.running }
    }

    /// Of rows that are summed, how many there are, and how many have no sampling rate to be scaled by.
    pub fn unscaled(&self) -> (u64, u64) {
        (self.rows, self.unscaled)
    }

    /// Groups.
    pub fn len(&mut self) -> usize {
        match self.len {
            Some(len) => len,
            None => {
                self.finish(Metric::Flows, 0);
                self.len.unwrap_or(0)
            }
        }
    }

    /// Whether there is no group.
    pub fn is_empty(&mut self) -> bool {
        self.len() == 0
    }

    /// The greatest `n` groups by a metric, each with the text of its keys, and the sum of the others.
    pub fn finish(&mut self, metric: Metric, n: usize) -> (Vec<(Vec<String>, Row)>, Option<Row>) {
        let (first, others) = self.ranked(metric, n);
        let first = first.into_iter().map(|(key, row)| (key::texts(&key.bytes), self.sums(row)));
        (first.collect(), others.map(|row| self.sums(row)))
    }

    /// A row as it is told: the one sum that ranks have as what it is of.
    fn sums(&self, row: Row) -> Row {
        if let Held::Ranks(metric, _) = self.held { Row::of_measure(metric, row.bytes) } else { row }
    }

    /// The keys of the greatest groups, as [`key`] has them.
    pub(super) fn greatest(&mut self, metric: Metric, n: usize) -> Vec<Box<[u8]>> {
        self.ranked(metric, n).0.into_iter().map(|(key, _)| key.bytes).collect()
    }

    fn ranked(&mut self, metric: Metric, n: usize) -> Ranking {
        let texts = self.shared.texts.lock().unwrap_or_else(PoisonError::into_inner);
        // The one sum that ranks have has the place of the bytes.
        let by = if let Held::Ranks(..) = self.held { Metric::Bytes } else { metric };
        let mut all = Greatest::new(by, n);
        let result = match &self.held {
            Held::All(tables) => tables.greatest(&texts, &mut all),
            Held::Ranks(_, tables) => tables.greatest(&texts, &mut all),
            Held::Chosen(chosen) => match chosen.ranked(n, &self.total, &texts) {
                Ok(found) => {
                    self.len = Some(chosen.groups);
                    return found;
                }
                Err(error) => Err(error),
            },
        };
        if let Err(error) = result {
            self.failed.get_or_insert_with(|| unreadable(&error));
        }
        self.len = Some(all.groups());
        all.finish(Ord::cmp)
    }
}

fn unreadable(error: &io::Error) -> String {
    format!("groups that were kept in a file cannot be read again: {error}")
}
