//! Sums by key: the greatest, the rest, and all.
//!
//! Each thread sums into tables of its own; at the end they are merged range by range of the keys' hashes, on as many
//! threads. Groups that memory has no room for wait in a temporary file, so the answer is exact whatever the bound.

use super::greatest::Greatest;
use super::groups::{Groups, Values};
use super::key::{self, Part};
use super::pack::{self, Layout, Texts};
use super::spill::{ByKey, PARTS, Spill};
use super::sums::{Metric, Row, Sums};
use super::value::columns_of;
use arrow_array::RecordBatch;
use arrow_buffer::BooleanBuffer;
use std::cmp::Ordering;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// What is summed, and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// Columns; `addr`, `port`, `as` and `if` stand for both directions, and a flow counts with each of its two values.
    pub keys: Vec<String>,
    /// Whether counters are multiplied by the sampling rate, where it is known.
    pub scale: bool,
    /// Groups in memory at most, about 120 bytes each; further ones go to a file.
    pub groups: usize,
}

/// Sums of groups.
pub struct Top {
    options: Options,
    // The columns of a key: of each direction, where there are two.
    variants: Vec<Vec<String>>,
    narrow: Vec<Table>,
    wide: Vec<Table>,
    texts: Texts,
    // Keys that no layout has room for.
    bytes: ByKey,
    total: Row,
    beyond: Row,
    totals: u64,
    rows: u64,
    unscaled: u64,
    budget: Arc<Budget>,
    // Groups of ours that the budget counts.
    counted: usize,
    spills: Vec<Spill>,
    own_spill: Option<Spill>,
    failed: Option<String>,
    len: Option<usize>,
}

/// A key as bytes.
type Key = Box<[u8]>;

/// What threads that work at one answer have room for.
struct Budget {
    limit: usize,
    groups: AtomicUsize,
    folder: PathBuf,
}

impl Top {
    /// Nothing summed yet.
    pub fn new(options: Options) -> Self {
        let budget = Budget { limit: options.groups.max(1), groups: AtomicUsize::new(0), folder: std::env::temp_dir() };
        Self::with(options, Arc::new(budget))
    }

    /// Nothing summed yet, for another thread: it shares the memory that [`Options::groups`] allows.
    pub fn another(&self) -> Self {
        Self::with(self.options.clone(), self.budget.clone())
    }

    fn with(options: Options, budget: Arc<Budget>) -> Self {
        let directions: Vec<Vec<String>> = options.keys.iter().map(|k| key::directions(k)).collect();
        // Both directions of the keys that have them; the others go with either.
        let variants: Vec<Vec<String>> = (0..directions.iter().map(Vec::len).max().unwrap_or(1))
            .map(|v| directions.iter().filter_map(|names| names.get(v).or(names.last()).cloned()).collect())
            .collect();
        let columns: Vec<&str> = variants.iter().flatten().map(String::as_str).take(options.keys.len()).collect();
        let table = |narrow| Layout::new(&columns, narrow).map(Table::new);
        let (narrow, wide) = match table(true).zip(table(false)) {
            Some((narrow, wide)) => (vec![narrow], vec![wide]),
            None => (Vec::new(), Vec::new()),
        };
        Self {
            options,
            variants,
            narrow,
            wide,
            texts: Texts::default(),
            bytes: ByKey::default(),
            total: Row::NONE,
            beyond: Row::NONE,
            totals: 0,
            rows: 0,
            unscaled: 0,
            budget,
            counted: 0,
            spills: Vec::new(),
            own_spill: None,
            failed: None,
            len: None,
        }
    }

    /// The columns that are read.
    pub fn columns(&self) -> Vec<String> {
        let sums = ["bytes", "packets", "flows", "flow_start", "flow_end", "counters_are_total"].map(String::from);
        let rate = self.options.scale.then(|| "sampling_rate".to_string());
        self.variants.iter().flatten().flat_map(|k| columns_of(k)).chain(sums).chain(rate).collect()
    }

    /// Adds the chosen rows of a batch.
    pub fn add(&mut self, batch: &RecordBatch, chosen: &BooleanBuffer) {
        let sums = Sums::of(batch, self.options.scale);
        let all = chosen.count_set_bits() == batch.num_rows();
        let mut rows: Vec<u32> = if all {
            (0..batch.num_rows() as u32).collect()
        } else {
            chosen.set_indices().map(|row| row as u32).collect()
        };
        if sums.has_totals() {
            let before = rows.len();
            rows.retain(|row| !sums.is_total(*row as usize));
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

    fn add_variant(&mut self, v: usize, batch: &RecordBatch, rows: &[u32], values: &Values<'_>) {
        let names: Vec<&str> = self.variants.get(v).into_iter().flatten().map(String::as_str).collect();
        let mut kept = Vec::new();
        let mut rows = rows;
        // A flow from a value to itself counts once.
        if let Some(before) = v.checked_sub(1).and_then(|v| self.variants.get(v)) {
            let mut same = vec![true; rows.len()];
            for (a, b) in before.iter().zip(&names).filter(|(a, b)| a != *b) {
                let also = pack::same(batch, a, b, rows);
                same.iter_mut().zip(also).for_each(|(same, also)| *same &= also);
            }
            kept.extend(rows.iter().zip(same).filter(|(_, same)| !same).map(|(row, _)| *row));
            rows = &kept;
        }
        match (self.narrow.first_mut(), self.wide.first_mut()) {
            (Some(narrow), Some(wide)) => {
                let (six, four) = pack::by_family(batch, &names, rows);
                narrow.add(batch, &names, &four, values, &mut self.texts);
                if !six.is_empty() {
                    wide.add(batch, &names, &six, values, &mut self.texts);
                }
            }
            _ => {
                let names: Vec<String> = names.iter().map(ToString::to_string).collect();
                let parts: Vec<Part<'_>> = names.iter().map(|name| Part::of(batch, Some(name))).collect();
                let mut key = Vec::new();
                for &row in rows {
                    key.clear();
                    parts.iter().for_each(|p| p.append(row as usize, &mut key));
                    match self.bytes.get_mut(key.as_slice()) {
                        Some(group) => group.add(&values.row(row)),
                        None => drop(self.bytes.insert(key.as_slice().into(), values.row(row))),
                    }
                }
            }
        }
    }

    /// Groups in memory.
    fn in_memory(&self) -> usize {
        self.narrow.iter().chain(&self.wide).map(Table::len).sum::<usize>() + self.bytes.len()
    }

    /// Tells the others how many groups there are, and empties memory where they are too many.
    fn account(&mut self) {
        let now = self.in_memory();
        let all = self.budget.groups.fetch_add(now.wrapping_sub(self.counted), Relaxed);
        let all = all.wrapping_add(now.wrapping_sub(self.counted));
        self.counted = now;
        if all > self.budget.limit && now > 0 {
            self.spill();
        }
    }

    fn spill(&mut self) {
        let spill = match self.own_spill.take() {
            Some(spill) => Ok(spill),
            None => Spill::create(&self.budget.folder),
        };
        let written = spill.and_then(|mut spill| {
            let written = self.write(&mut spill);
            self.own_spill = Some(spill);
            written
        });
        if let Err(error) = written {
            self.lose(&error);
        }
        self.narrow.iter_mut().chain(&mut self.wide).for_each(Table::clear);
        self.bytes = ByKey::default();
        self.texts = Texts::default();
        self.budget.groups.fetch_sub(self.counted, Relaxed);
        self.counted = 0;
    }

    fn write(&self, spill: &mut Spill) -> io::Result<()> {
        spill.write(|put| {
            self.narrow.iter().chain(&self.wide).for_each(|table| table.each(&self.texts, put));
            self.bytes.iter().for_each(|(key, row)| put(key, row));
        })
    }

    /// The groups in memory are kept as one sum: there is no file to take them.
    fn lose(&mut self, error: &io::Error) {
        let folder = self.budget.folder.display();
        self.failed.get_or_insert_with(|| format!("groups beyond the limit cannot be kept in {folder}: {error}"));
        let mut beyond = Row::NONE;
        let mut add = |_: &[u8], row: &Row| beyond.add(row);
        self.narrow.iter().chain(&self.wide).for_each(|table| table.each(&self.texts, &mut add));
        self.bytes.values().for_each(|row| beyond.add(row));
        self.beyond.add(&beyond);
    }

    /// Adds what another thread summed.
    pub fn merge(&mut self, mut other: Self) {
        self.len = None;
        self.total.add(&other.total);
        self.beyond.add(&other.beyond);
        self.totals += other.totals;
        self.rows += other.rows;
        self.unscaled += other.unscaled;
        self.failed = self.failed.take().or(other.failed.take());
        self.spills.extend(other.own_spill.take());
        self.spills.append(&mut other.spills);
        for (mine, theirs) in [(&mut self.narrow, &mut other.narrow), (&mut self.wide, &mut other.wide)] {
            for mut table in theirs.drain(..).filter(|t| t.len() > 0) {
                table.renumber(&other.texts, &mut self.texts);
                mine.push(table);
            }
            // What nothing was added to is no work.
            if mine.len() > 1 {
                mine.retain(|t| t.len() > 0);
            }
        }
        for (key, row) in other.bytes {
            match self.bytes.get_mut(&key) {
                Some(group) => group.add(&row),
                None => drop(self.bytes.insert(key, row)),
            }
        }
        if Arc::ptr_eq(&self.budget, &other.budget) {
            self.counted += other.counted;
        } else {
            self.account();
        }
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
        self.own_spill.is_some() || !self.spills.is_empty()
    }

    /// Records whose counters are running totals, and are not summed.
    pub fn totals(&self) -> u64 {
        self.totals
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
        let order: fn(&Key, &Key) -> Ordering = Ord::cmp;
        if self.spilled() {
            self.spill();
            let spills: Vec<&Spill> = self.own_spill.iter().chain(&self.spills).collect();
            let mut failed = None;
            for part in 0..PARTS {
                let mut groups = ByKey::default();
                for spill in &spills {
                    if let Err(error) = spill.read(part, &mut groups) {
                        failed = Some(format!("groups that were kept in a file cannot be read again: {error}"));
                    }
                }
                groups.into_iter().for_each(|(key, row)| all.add(key, &row, order));
            }
            self.failed = self.failed.take().or(failed);
        } else {
            for tables in [&self.narrow, &self.wide] {
                Table::greatest(tables, &self.texts, &mut all);
            }
            self.bytes.iter().for_each(|(key, row)| all.add(key.clone(), row, order));
        }
        self.len = Some(all.groups());
        all.finish(order)
    }
}

/// Groups whose keys have one layout.
struct Table {
    layout: Layout,
    groups: Sized,
}

/// By the words of a key.
enum Sized {
    One(Groups<1>),
    Two(Groups<2>),
    Four(Groups<4>),
    Eight(Groups<8>),
}

macro_rules! of_any_size {
    ($sized:expr, $groups:ident => $do:expr) => {
        match $sized {
            Sized::One($groups) => $do,
            Sized::Two($groups) => $do,
            Sized::Four($groups) => $do,
            Sized::Eight($groups) => $do,
        }
    };
}

impl Table {
    fn new(layout: Layout) -> Self {
        let groups = match layout.words() {
            0 | 1 => Sized::One(Groups::new()),
            2 => Sized::Two(Groups::new()),
            3 | 4 => Sized::Four(Groups::new()),
            _ => Sized::Eight(Groups::new()),
        };
        Self { layout, groups }
    }

    fn len(&self) -> usize {
        of_any_size!(&self.groups, groups => groups.len())
    }

    fn clear(&mut self) {
        *self = Self::new(self.layout.clone());
    }

    fn add(&mut self, batch: &RecordBatch, names: &[&str], rows: &[u32], values: &Values<'_>, texts: &mut Texts) {
        of_any_size!(&mut self.groups, groups => {
            let mut keys = Vec::new();
            self.layout.pack(batch, names, rows, texts, &mut keys);
            groups.add(&keys, rows, values);
        });
    }

    /// Every group, its key as bytes.
    fn each(&self, texts: &Texts, put: &mut dyn FnMut(&[u8], &Row)) {
        let mut bytes = Vec::new();
        of_any_size!(&self.groups, groups => {
            for (key, row) in groups.iter() {
                bytes.clear();
                self.layout.bytes(key, texts, &mut bytes);
                put(&bytes, row);
            }
        });
    }

    fn renumber(&mut self, from: &Texts, to: &mut Texts) {
        if !self.layout.has_texts() {
            return;
        }
        of_any_size!(&mut self.groups, groups => {
            let mut renumbered = Groups::new();
            for (key, row) in groups.iter() {
                let mut key = *key;
                self.layout.renumber(&mut key, from, to);
                renumbered.add_row(&key, row);
            }
            *groups = renumbered;
        });
    }

    /// The greatest groups of tables of one layout, which may share keys.
    fn greatest(tables: &[Self], texts: &Texts, all: &mut Greatest<Key>) {
        let Some(first) = tables.first() else { return };
        macro_rules! of {
            ($size:ident) => {{
                let groups = tables.iter().filter_map(|t| match &t.groups {
                    Sized::$size(groups) => Some(groups),
                    _ => None,
                });
                merged(&groups.collect::<Vec<_>>(), &first.layout, texts, all);
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

/// Fewer groups than this are not worth a thread.
const FEW: usize = 20_000;
/// Ranges of hashes that are merged by themselves, as a power of two.
const RANGES: u32 = 6;

/// The greatest groups of several tables, a range of hashes at a time.
fn merged<const W: usize>(tables: &[&Groups<W>], layout: &Layout, texts: &Texts, all: &mut Greatest<Key>) {
    let few = tables.iter().map(|t| t.len()).sum::<usize>() < FEW;
    let (bits, threads) = if few { (0, 1) } else { (RANGES, tables.len()) };
    let order = |a: &[u64; W], b: &[u64; W]| layout.order(a, b, texts);
    let next = AtomicUsize::new(0);
    let work = || {
        let mut found = all.empty();
        loop {
            let part = next.fetch_add(1, Relaxed);
            if part >= 1 << bits {
                return found;
            }
            if let [one] = tables {
                one.part(part, bits).for_each(|(key, row)| found.add(*key, row, order));
                continue;
            }
            let mut groups = Groups::new();
            tables.iter().flat_map(|t| t.part(part, bits)).for_each(|(key, row)| groups.add_row(key, row));
            groups.iter().for_each(|(key, row)| found.add(*key, row, order));
        }
    };
    let found: Vec<Greatest<[u64; W]>> = std::thread::scope(|scope| {
        let spawned: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let mut found = vec![work()];
        found.extend(spawned.into_iter().map(|thread| match thread.join() {
            Ok(found) => found,
            Err(panic) => std::panic::resume_unwind(panic),
        }));
        found
    });
    for part in found {
        let key = |key: [u64; W]| {
            let mut bytes = Vec::new();
            layout.bytes(&key, texts, &mut bytes);
            bytes.into_boxed_slice()
        };
        all.merge(part, key, |a, b| a.cmp(b));
    }
}
