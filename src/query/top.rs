//! Sums by key: the greatest, the rest, and all.
//!
//! Each thread sums into tables of its own; at the end they are merged range by range of the keys' hashes, on as many
//! threads. Groups that memory has no room for wait in a temporary file, so the answer is exact whatever the bound.

use super::entry::{Rows, Values};
use super::greatest::Greatest;
use super::key;
use super::pack::{self, Layout, Texts};
use super::store::Store;
use super::sums::{Metric, Row, Sums};
use super::value::columns_of;
use arrow_array::RecordBatch;
use arrow_buffer::BooleanBuffer;
use std::cmp::Ordering;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

/// What is summed, and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// Columns; `addr`, `port`, `as`, `if` and the like stand for both directions ([`directions`](super::directions)), and a flow counts with each of its two values.
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
    // One of our own, and those of other threads.
    dense: Vec<Table>,
    others: Vec<Table>,
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

/// A key as bytes.
type Key = Box<[u8]>;

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

    /// Nothing summed yet, for another thread: it shares the memory that [`Options::groups`] allows.
    pub fn another(&self) -> Self {
        Self::with(self.options.clone(), self.shared.clone())
    }

    fn with(options: Options, shared: Arc<Shared>) -> Self {
        let directions: Vec<Vec<String>> = options.keys.iter().map(|k| key::directions(k)).collect();
        // Both directions of the keys that have them; the others go with either.
        let variants: Vec<Vec<String>> = (0..directions.iter().map(Vec::len).max().unwrap_or(1))
            .map(|v| directions.iter().filter_map(|names| names.get(v).or(names.last()).cloned()).collect())
            .collect();
        let columns: Vec<&str> = variants.iter().flatten().map(String::as_str).take(options.keys.len()).collect();
        let table = |dense| vec![Table::new(Layout::new(&columns, dense))];
        Self {
            dense: table(true),
            others: table(false),
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

    /// The columns that are read.
    pub fn columns(&self) -> Vec<String> {
        let sums = ["bytes", "packets", "flows", "flow_start", "flow_end", "counters_are_total"].map(String::from);
        let rate = self.options.scale.then(|| "sampling_rate".to_string());
        let back = if self.options.both { &["rev_bytes", "rev_packets"][..] } else { &[] };
        let back = back.iter().map(ToString::to_string);
        self.variants.iter().flatten().flat_map(|k| columns_of(k)).chain(sums).chain(rate).chain(back).collect()
    }

    /// Adds the chosen rows of a batch.
    pub fn add(&mut self, batch: &RecordBatch, chosen: &BooleanBuffer) {
        let sums = Sums::of(batch, self.options.scale).and_back(batch, self.options.both);
        let sums = sums.counting_totals(self.options.totals);
        let mut rows = match chosen.count_set_bits() {
            n if n == batch.num_rows() => Rows::All(n),
            _ => Rows::Some(chosen.set_indices().map(|row| row as u32).collect()),
        };
        if sums.has_totals() {
            let before = rows.len();
            let mut kept = Vec::with_capacity(before);
            for row in rows.iter() {
                match sums.is_total(row) {
                    true => self.running.add(&sums.row(row)),
                    false => kept.push(row as u32),
                }
            }
            rows = Rows::Some(kept);
            self.totals += (before - rows.len()) as u64;
        }
        self.rows += rows.len() as u64;
        self.unscaled += sums.lacking_rate(&rows);
        let columns = sums.columns(batch.num_rows());
        let [bytes, packets, flows, start, end] = columns.each_ref().map(|c| &**c);
        let values = Values { bytes, packets, flows, start, end };
        values.sum(&rows, &mut self.total);
        for v in 0..self.variants.len() {
            self.add_variant(v, batch, &rows, &values);
        }
        self.len = None;
        self.account();
    }

    fn add_variant(&mut self, v: usize, batch: &RecordBatch, rows: &Rows, values: &Values<'_>) {
        let names: Vec<&str> = self.variants.get(v).into_iter().flatten().map(String::as_str).collect();
        let mut rows = rows.clone();
        // A flow from a value to itself counts once.
        if let Some(before) = v.checked_sub(1).and_then(|v| self.variants.get(v)) {
            let mut same = vec![true; rows.len()];
            for (a, b) in before.iter().zip(&names).filter(|(a, b)| a != *b) {
                let also = pack::same(batch, a, b, &rows);
                same.iter_mut().zip(also).for_each(|(same, also)| *same &= also);
            }
            rows.retain(|i| same.get(i) == Some(&false));
        }
        let (dense, others) = pack::by_layout(batch, &names, rows);
        for (tables, rows) in [(&mut self.dense, dense), (&mut self.others, others)] {
            if let Some(table) = tables.first_mut().filter(|_| rows.len() > 0) {
                table.add(batch, &names, &rows, values, &self.shared.texts);
            }
        }
    }

    fn tables(&self) -> impl Iterator<Item = &Table> {
        self.dense.iter().chain(&self.others)
    }

    /// Tells the others how many groups there are, and empties memory where they are too many.
    fn account(&mut self) {
        let now = self.tables().map(Table::in_memory).sum::<usize>();
        let more = now.wrapping_sub(self.counted);
        let all = self.shared.in_memory.fetch_add(more, Relaxed).wrapping_add(more);
        self.counted = now;
        if all > self.shared.limit && now > 0 {
            let mut beyond = Row::NONE;
            for table in self.dense.iter_mut().chain(&mut self.others).filter(|t| t.in_memory() > 0) {
                // Without a file, its groups are kept as one sum.
                if let Err(error) = table.spill(&self.shared.folder) {
                    let folder = self.shared.folder.display();
                    let say = || format!("groups beyond the limit cannot be kept in {folder}: {error}");
                    self.failed.get_or_insert_with(say);
                    table.lose(&mut beyond);
                }
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
        if Arc::ptr_eq(&self.shared, &other.shared) {
            self.dense.append(&mut other.dense);
            self.others.append(&mut other.others);
            // Ours first, as it may be the one that rows are added to; what nothing was added to is no work.
            for tables in [&mut self.dense, &mut self.others] {
                let mut first = true;
                tables.retain(|t| std::mem::take(&mut first) || !t.is_empty());
            }
            self.counted += other.counted;
            return;
        }
        let theirs = other.shared.texts.lock().unwrap_or_else(PoisonError::into_inner);
        let mut failed = None;
        for (mine, theirs_of) in [(&mut self.dense, &other.dense), (&mut self.others, &other.others)] {
            let Some(mine) = mine.first_mut() else { continue };
            let mut texts = self.shared.texts.lock().unwrap_or_else(PoisonError::into_inner);
            for table in theirs_of {
                if let Err(error) = mine.absorb(table, &theirs, &mut texts) {
                    failed = Some(unreadable(&error));
                }
            }
        }
        self.failed = self.failed.take().or(failed);
        self.account();
    }

    /// All rows, each once whatever its keys.
    pub fn total(&self) -> &Row {
        &self.total
    }

    /// Rows of groups that neither memory nor a file had room for, see [`failed`](Self::failed); `None` where there are
    /// none.
    pub fn beyond(&self) -> Option<&Row> {
        (self.beyond.flows > 0).then_some(&self.beyond)
    }

    /// Why groups are missing, which is because their file could not be written or read.
    pub fn failed(&self) -> Option<&str> {
        self.failed.as_deref()
    }

    /// Whether there were more groups than memory was allowed for, so that a file took some.
    pub fn spilled(&self) -> bool {
        self.tables().any(Table::is_spilled)
    }

    /// Records whose counters are running totals, and are not summed.
    pub fn totals(&self) -> u64 {
        self.totals
    }

    /// The sums of those records, each as if it were a flow of its own.
    pub fn running(&self) -> &Row {
        &self.running
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
        (first.into_iter().map(|(key, row)| (key::texts(&key), row)).collect(), others)
    }

    /// The keys of the greatest groups, as [`key`] has them.
    pub(super) fn greatest(&mut self, metric: Metric, n: usize) -> Vec<Key> {
        self.ranked(metric, n).0.into_iter().map(|(key, _)| key).collect()
    }

    fn ranked(&mut self, metric: Metric, n: usize) -> (Vec<(Key, Row)>, Option<Row>) {
        let mut all = Greatest::new(metric, n);
        let texts = self.shared.texts.lock().unwrap_or_else(PoisonError::into_inner);
        for tables in [&self.dense, &self.others] {
            if let Err(error) = Table::greatest(tables, &texts, &mut all) {
                self.failed.get_or_insert_with(|| unreadable(&error));
            }
        }
        self.len = Some(all.groups());
        let order: fn(&Key, &Key) -> Ordering = Ord::cmp;
        all.finish(order)
    }
}

fn unreadable(error: &io::Error) -> String {
    format!("groups that were kept in a file cannot be read again: {error}")
}

/// Groups whose keys have one layout.
struct Table {
    layout: Layout,
    groups: Sized,
}

/// By the words of a key.
enum Sized {
    One(Store<1>),
    Two(Store<2>),
    Four(Store<4>),
    Eight(Store<8>),
}

macro_rules! of_any_size {
    ($sized:expr, $store:ident => $do:expr) => {
        match $sized {
            Sized::One($store) => $do,
            Sized::Two($store) => $do,
            Sized::Four($store) => $do,
            Sized::Eight($store) => $do,
        }
    };
}

impl Table {
    fn new(layout: Layout) -> Self {
        let groups = match layout.words() {
            0 | 1 => Sized::One(Store::new()),
            2 => Sized::Two(Store::new()),
            3 | 4 => Sized::Four(Store::new()),
            _ => Sized::Eight(Store::new()),
        };
        Self { layout, groups }
    }

    fn in_memory(&self) -> usize {
        of_any_size!(&self.groups, store => store.in_memory())
    }

    fn is_spilled(&self) -> bool {
        of_any_size!(&self.groups, store => store.is_spilled())
    }

    fn is_empty(&self) -> bool {
        self.in_memory() == 0 && !self.is_spilled()
    }

    fn add(&mut self, batch: &RecordBatch, names: &[&str], rows: &Rows, values: &Values<'_>, texts: &Mutex<Texts>) {
        of_any_size!(&mut self.groups, store => {
            let mut keys = Vec::new();
            self.layout.pack(batch, names, rows, texts, &mut keys);
            store.add(&keys, rows, values);
        });
    }

    fn spill(&mut self, folder: &Path) -> io::Result<()> {
        of_any_size!(&mut self.groups, store => store.spill(folder))
    }

    /// Adds all groups in memory to one sum, and forgets them.
    fn lose(&mut self, sum: &mut Row) {
        of_any_size!(&mut self.groups, store => {
            store.entries().for_each(|entry| sum.add(&Row::from(&entry.sums)));
            store.clear();
        });
    }

    /// Adds the groups of another table of the same layout, which has texts of its own.
    fn absorb(&mut self, other: &Self, from: &Texts, to: &mut Texts) -> io::Result<()> {
        macro_rules! of {
            ($mine:expr, $theirs:expr) => {
                $theirs.all(&mut |entry| {
                    let mut entry = *entry;
                    self.layout.renumber(&mut entry.key, from, to);
                    $mine.add_entry(&entry);
                })
            };
        }
        match (&mut self.groups, &other.groups) {
            (Sized::One(a), Sized::One(b)) => of!(a, b),
            (Sized::Two(a), Sized::Two(b)) => of!(a, b),
            (Sized::Four(a), Sized::Four(b)) => of!(a, b),
            (Sized::Eight(a), Sized::Eight(b)) => of!(a, b),
            _ => Err(io::Error::other("keys of other columns")),
        }
    }

    /// The greatest groups of tables of one layout, which may share keys.
    fn greatest(tables: &[Self], texts: &Texts, all: &mut Greatest<Key>) -> io::Result<()> {
        let Some(first) = tables.first() else { return Ok(()) };
        macro_rules! of {
            ($size:ident) => {{
                let stores = tables.iter().filter(|t| !t.is_empty()).filter_map(|t| match &t.groups {
                    Sized::$size(store) => Some(store),
                    _ => None,
                });
                Store::greatest(&stores.collect::<Vec<_>>(), &first.layout, texts, all)
            }};
        }
        match &first.groups {
            Sized::One(_) => of!(One),
            Sized::Two(_) => of!(Two),
            Sized::Four(_) => of!(Four),
            Sized::Eight(_) => of!(Eight),
        }
    }
}
