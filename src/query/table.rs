//! Groups by the layouts of their keys.

use super::entry::{Entry, Narrow, Rows, Sum, Values};
use super::greatest::Greatest;
use super::kept::Keys;
use super::pack::{self, Layout, Texts};
use super::store::Store;
use super::sums::Row;
use arrow_array::RecordBatch;
use std::cmp::Ordering;
use std::io;
use std::path::Path;
use std::sync::Mutex;

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

/// Groups of one thread, and those of others beside them: equal keys may stand in several.
pub(super) struct Tables<S = Narrow> {
    // Of keys whose values are all there, addresses as those of IPv4.
    dense: Vec<Table<S>>,
    others: Vec<Table<S>>,
}

/// The greatest groups, and the sum of the others, if there are any.
pub(super) type Ranking = (Vec<(Key, Row)>, Option<Row>);

/// A group's key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Key {
    /// As [`key`](super::key) has it.
    pub bytes: Box<[u8]>,
    // In the layout of one of both; of ranks alone, as those are read again.
    words: Box<[u64]>,
    is_dense: bool,
}

impl Ord for Key {
    fn cmp(&self, other: &Self) -> Ordering {
        self.bytes.cmp(&other.bytes)
    }
}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<S: Sum> Tables<S> {
    /// No groups, by columns.
    pub(super) fn new(columns: &[&str]) -> Self {
        let table = |dense| vec![Table::new(Layout::new(columns, dense))];
        Self { dense: table(true), others: table(false) }
    }

    /// Makes a group, or adds sums to it.
    pub(super) fn put(&mut self, key: &Key, sums: S) {
        let tables = if key.is_dense { &mut self.dense } else { &mut self.others };
        tables.iter_mut().take(1).for_each(|table| table.put(&key.words, sums));
    }

    fn all(&self) -> impl Iterator<Item = &Table<S>> {
        self.dense.iter().chain(&self.others)
    }

    pub(super) fn in_memory(&self) -> usize {
        self.all().map(Table::in_memory).sum()
    }

    pub(super) fn is_spilled(&self) -> bool {
        self.all().any(Table::is_spilled)
    }

    /// Adds rows to the groups of their values of columns.
    pub(super) fn add(
        &mut self,
        batch: &RecordBatch,
        names: &[&str],
        rows: Rows,
        values: &Values<'_>,
        (texts, mut keys): (&Mutex<Texts>, Keys<'_>),
    ) {
        self.deal(batch, names, rows, |table, rows, is_dense| {
            let tell = |words: &[u64]| match &mut keys {
                Keys::Told(tell) => tell(is_dense.then_some(words)),
                Keys::Packed | Keys::Known(_) => {}
            };
            table.add(batch, names, rows, values, texts, tell);
        });
    }

    /// Gives rows to the tables of their keys' layouts.
    fn deal(
        &mut self,
        batch: &RecordBatch,
        names: &[&str],
        rows: Rows,
        mut give: impl FnMut(&mut Table<S>, &Rows, bool),
    ) {
        let (dense, others) = pack::by_layout(batch, names, rows);
        for (tables, rows, is_dense) in [(&mut self.dense, dense, true), (&mut self.others, others, false)] {
            if let Some(table) = tables.first_mut().filter(|_| rows.len() > 0) {
                give(table, &rows, is_dense);
            }
        }
    }

    /// Words of a dense key.
    pub(super) fn words(&self) -> usize {
        self.dense.first().map_or(0, Table::words)
    }

    /// Empties memory into files of a folder. Groups for which that fails are added to one sum, and the error is handed back.
    pub(super) fn spill(&mut self, folder: &Path, lost: &mut Row) -> io::Result<()> {
        let mut result = Ok(());
        for table in self.dense.iter_mut().chain(&mut self.others).filter(|t| t.in_memory() > 0) {
            if let Err(error) = table.spill(folder) {
                table.lose(lost);
                result = Err(error);
            }
        }
        result
    }

    /// Takes the groups of another thread, which has the same texts.
    pub(super) fn append(&mut self, mut other: Self) {
        self.dense.append(&mut other.dense);
        self.others.append(&mut other.others);
        // Ours first, as it may be the one that rows are added to; what nothing was added to is no work.
        for tables in [&mut self.dense, &mut self.others] {
            let mut first = true;
            tables.retain(|t| std::mem::take(&mut first) || !t.is_empty());
        }
    }

    /// Adds the groups of others, which have texts of their own.
    pub(super) fn absorb(&mut self, other: &Self, from: &Texts, to: &mut Texts) -> io::Result<()> {
        let mut result = Ok(());
        for (mine, theirs) in [(&mut self.dense, &other.dense), (&mut self.others, &other.others)] {
            let Some(mine) = mine.first_mut() else { continue };
            for table in theirs {
                result = mine.absorb(table, from, to).and(result);
            }
        }
        result
    }

    /// The greatest groups.
    pub(super) fn greatest(&self, texts: &Texts, all: &mut Greatest<Key>) -> io::Result<()> {
        let dense = Table::greatest(&self.dense, true, texts, all);
        Table::greatest(&self.others, false, texts, all).and(dense)
    }
}

impl Tables {
    /// Adds rows whose group is there; of the others, the first start and the last end.
    pub(super) fn add_known(
        &mut self,
        batch: &RecordBatch,
        names: &[&str],
        rows: Rows,
        values: &Values<'_>,
        texts: &Mutex<Texts>,
        times: &mut Row,
    ) {
        self.deal(batch, names, rows, |Table { layout, groups }, rows, _| {
            of_any_size!(groups, store => {
                let mut keys = Vec::new();
                layout.pack(batch, names, rows, texts, &mut keys);
                store.add_known(&keys, rows, values, times);
            });
        });
    }

    /// The same by keys that are all dense.
    pub(super) fn add_known_keys(&mut self, keys: &[u64], rows: &Rows, values: &Values<'_>, times: &mut Row) {
        if let Some(table) = self.dense.first_mut() {
            of_any_size!(&mut table.groups, store => store.add_known(keys.as_chunks().0, rows, values, times));
        }
    }
}

/// Groups whose keys have one layout.
struct Table<S> {
    layout: Layout,
    groups: Sized<S>,
}

/// By the words of a key.
enum Sized<S> {
    One(Store<1, S>),
    Two(Store<2, S>),
    Four(Store<4, S>),
    Eight(Store<8, S>),
}

impl<S: Sum> Table<S> {
    fn new(layout: Layout) -> Self {
        let groups = match layout.words() {
            0 | 1 => Sized::One(Store::new()),
            2 => Sized::Two(Store::new()),
            3 | 4 => Sized::Four(Store::new()),
            _ => Sized::Eight(Store::new()),
        };
        Self { layout, groups }
    }

    fn words(&self) -> usize {
        match &self.groups {
            Sized::One(_) => 1,
            Sized::Two(_) => 2,
            Sized::Four(_) => 4,
            Sized::Eight(_) => 8,
        }
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

    fn add(
        &mut self,
        batch: &RecordBatch,
        names: &[&str],
        rows: &Rows,
        values: &Values<'_>,
        texts: &Mutex<Texts>,
        mut tell: impl FnMut(&[u64]),
    ) {
        of_any_size!(&mut self.groups, store => {
            let mut keys = Vec::new();
            self.layout.pack(batch, names, rows, texts, &mut keys);
            tell(keys.as_flattened());
            store.add(&keys, rows, values);
        });
    }

    fn put(&mut self, words: &[u64], sums: S) {
        of_any_size!(&mut self.groups, store => {
            let key = std::array::from_fn(|i| words.get(i).copied().unwrap_or(0));
            store.add_entry(&Entry { key, sums });
        });
    }

    fn spill(&mut self, folder: &Path) -> io::Result<()> {
        of_any_size!(&mut self.groups, store => store.spill(folder))
    }

    /// Adds all groups in memory to one sum, and forgets them.
    fn lose(&mut self, sum: &mut Row) {
        of_any_size!(&mut self.groups, store => {
            store.entries().for_each(|entry| sum.add(&entry.sums.row()));
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
    fn greatest(tables: &[Self], is_dense: bool, texts: &Texts, all: &mut Greatest<Key>) -> io::Result<()> {
        let Some(first) = tables.first() else { return Ok(()) };
        let named = |bytes, words: &[u64]| {
            let words = if S::IS_READ_AGAIN { words.into() } else { Box::default() };
            Key { bytes, words, is_dense }
        };
        macro_rules! of {
            ($size:ident) => {{
                let stores = tables.iter().filter(|t| !t.is_empty()).filter_map(|t| match &t.groups {
                    Sized::$size(store) => Some(store),
                    _ => None,
                });
                Store::greatest(&stores.collect::<Vec<_>>(), &first.layout, texts, all, named)
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
