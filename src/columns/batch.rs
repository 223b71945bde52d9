//! A batch: rows of one layout, column by column.

use super::buffer::{AlignedBuf, Bitmap, VarBuf};
use super::gather::places::Places;
use super::gather::window::Slots;
use super::joined::Joined;
use super::layout::{ColumnDef, ColumnType, Layout};
use super::run::{Run, RunMeta, Runs};
use std::sync::Arc;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Rows that a batch takes room for at first; it grows by four until its limit.
const FIRST_ROWS: usize = 128;
/// Bytes of varying length after which a batch takes no more rows: offsets are 32 bits.
const VAR_BYTES: usize = 64 << 20;

/// The values of a column, one a row.
///
/// Where a row has no value (see [`Column::validity`]) the slot holds a value without meaning.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum ColumnView<'a> {
    /// Unsigned, 8 bits.
    U8(&'a [u8]),
    /// Unsigned, 16 bits.
    U16(&'a [u16]),
    /// Unsigned, 32 bits.
    U32(&'a [u32]),
    /// Unsigned, 64 bits.
    U64(&'a [u64]),
    /// Signed, 64 bits.
    I64(&'a [i64]),
    /// IEEE 754, 64 bits.
    F64(&'a [f64]),
    /// One bit a row.
    Bool(&'a Bitmap),
    /// Microseconds since 1970-01-01 UTC.
    Timestamp(&'a [i64]),
    /// IPv4 addresses as numbers.
    Ip4(&'a [u32]),
    /// IPv6 addresses in network order.
    Ip6(&'a [[u8; 16]]),
    /// MAC addresses.
    Mac(&'a [[u8; 6]]),
    /// UTF-8.
    Text(&'a VarBuf),
    /// Bytes.
    Octets(&'a VarBuf),
    /// Lists of native-endian 32-bit numbers.
    ListU32(&'a VarBuf),
    /// UTF-8: for each row the place of its text.
    Dictionary {
        /// Places in `texts`, none of them below zero.
        keys: &'a [i32],
        /// Different texts.
        texts: &'a VarBuf,
    },
}

/// A column of a batch.
#[derive(Clone, Copy, Debug)]
pub struct Column<'a> {
    /// Its name and type.
    pub def: &'a ColumnDef,
    /// Its values.
    pub values: ColumnView<'a>,
    /// Which rows have a value; `None` where all have.
    pub validity: Option<&'a Bitmap>,
}

impl Column<'_> {
    /// Whether `row` has a value.
    #[inline]
    pub fn is_valid(&self, row: usize) -> bool {
        self.validity.is_none_or(|bits| bits.get(row))
    }
}

/// Where the values of a column stand.
#[derive(Clone, Debug)]
pub(super) enum Storage {
    /// In the arena, from this byte on.
    Fixed(usize),
    Var(VarBuf),
    Bits(Bitmap),
}

/// A value that did not fit its column.
#[derive(Clone, Copy, Debug)]
struct Spill {
    row: u32,
    key: u16,
    number: Option<u64>,
}

/// A column that only this batch has, for values that did not fit theirs.
#[derive(Clone, Debug)]
pub(super) struct Spilled {
    pub(super) def: ColumnDef,
    pub(super) numbers: AlignedBuf,
    pub(super) octets: VarBuf,
    pub(super) validity: Bitmap,
}

/// Rows of one [`Layout`], column by column.
///
/// A batch that was handed over is finished: derived columns are there and every column has [`rows`](Self::rows)
/// values. Dropping it frees its memory; `Decoder::recycle` reuses it.
#[derive(Clone, Debug)]
pub struct Batch {
    pub(super) layout: Arc<Layout>,
    // INVARIANT: rows <= capacity <= limit; the arena has the places of capacity rows.
    pub(super) rows: usize,
    capacity: usize,
    limit: usize,
    pub(super) arena: AlignedBuf,
    places: Places,
    pub(super) storage: Box<[Storage]>,
    pub(super) validity: Box<[Option<Bitmap>]>,
    // Bitmaps of rows that were forgotten, for their memory.
    spare_bits: Vec<Bitmap>,
    pub(super) runs: Runs,
    spills: Vec<Spill>,
    spill_octets: VarBuf,
    pub(super) spilled: Vec<Spilled>,
    // Columns that came when the batch was finished.
    pub(super) joined: Vec<Joined>,
    finished: bool,
    pub(crate) scratch: Scratch,
}

/// Where the parts of the records of a set stand, where they vary in length; kept for its memory.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scratch {
    /// For each segment of fixed fields, its start in each record.
    pub(crate) starts: Vec<Vec<u32>>,
    /// For each varying field, its start and length in each record.
    pub(crate) fields: Vec<Vec<(u32, u32)>>,
    /// Rows that a derived column is for.
    pub(crate) rows: Vec<u32>,
}

impl Batch {
    /// An empty batch that takes up to `limit` rows.
    pub fn new(layout: Arc<Layout>, limit: usize) -> Self {
        let limit = limit.clamp(1, 1 << 20);
        let capacity = limit.min(FIRST_ROWS);
        let places = Places::new(&layout.frame, capacity);
        let storage = layout.columns.iter().enumerate().map(|(i, c)| match c.data_type {
            ColumnType::Bool => Storage::Bits(Bitmap::default()),
            ColumnType::ListU32 => Storage::Var(VarBuf::of_words()),
            ColumnType::Text | ColumnType::Octets => Storage::Var(VarBuf::default()),
            _ => Storage::Fixed(places.start(i)),
        });
        Self {
            rows: 0,
            capacity,
            limit,
            arena: AlignedBuf::zeroed(places.len()),
            storage: storage.collect(),
            places,
            validity: vec![None; layout.columns.len()].into(),
            spare_bits: Vec::new(),
            runs: Runs::default(),
            spills: Vec::new(),
            spill_octets: VarBuf::default(),
            spilled: Vec::new(),
            joined: Vec::new(),
            finished: false,
            scratch: Scratch::default(),
            layout,
        }
    }

    /// The number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// What the columns are.
    pub fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    /// The runs, in the order of their rows; together they cover all rows.
    pub fn runs(&self) -> &[Run] {
        self.runs.as_slice()
    }

    /// The columns that readers see: the schema's in its order, those that were joined, extras after them.
    ///
    /// What is the same for a whole data set (times of the message, exporter, sampling where no column gives it) is
    /// in [`runs`](Self::runs).
    pub fn columns(&self) -> impl Iterator<Item = Column<'_>> {
        let fixed = self.layout.order.iter().map(|&i| self.at(usize::from(i)));
        let spilled = self.spilled.iter().map(|s| Column {
            def: &s.def,
            values: match s.def.data_type {
                ColumnType::U64 => ColumnView::U64(s.numbers.typed(0, self.rows)),
                _ => ColumnView::Octets(&s.octets),
            },
            validity: Some(&s.validity),
        });
        let joined = self.joined.iter().map(|j| j.column(self.rows));
        fixed.chain(joined).chain(spilled)
    }

    /// The column of this name.
    pub fn column(&self, name: &str) -> Option<Column<'_>> {
        self.columns().find(|c| &*c.def.name == name)
    }

    /// Bytes of memory held.
    pub fn memory(&self) -> usize {
        let storage = self.storage.iter().map(|s| match s {
            Storage::Fixed(_) => 0,
            Storage::Var(v) => v.capacity(),
            Storage::Bits(b) => b.capacity(),
        });
        self.arena.capacity()
            + storage.sum::<usize>()
            + self.validity.iter().flatten().map(Bitmap::capacity).sum::<usize>()
            + self.runs.memory()
            + self.spills.capacity() * size_of::<Spill>()
            + self.spill_octets.capacity()
            + self.spilled.iter().map(|s| s.numbers.capacity() + s.octets.capacity()).sum::<usize>()
            + self.joined.iter().map(Joined::memory).sum::<usize>()
    }

    /// Whether no further row can be appended.
    pub fn is_full(&self) -> bool {
        self.room() == 0
    }

    /// Rows that can still be appended.
    #[inline(always)]
    pub(crate) fn room(&self) -> usize {
        if self.finished {
            return 0;
        }
        if self.layout.has_var && self.var_bytes() >= VAR_BYTES { 0 } else { self.limit - self.rows }
    }

    /// Bytes in columns of varying length.
    fn var_bytes(&self) -> usize {
        self.storage.iter().map(|s| if let Storage::Var(v) = s { v.data().len() } else { 0 }).sum()
    }

    /// Forgets the rows, keeps the memory.
    pub fn clear(&mut self) {
        self.rows = 0;
        for s in &mut self.storage {
            match s {
                Storage::Fixed(_) => {}
                Storage::Var(v) => v.clear(),
                Storage::Bits(b) => b.clear(),
            }
        }
        for mut bits in self.validity.iter_mut().filter_map(Option::take) {
            bits.clear();
            self.spare_bits.push(bits);
        }
        self.runs.clear();
        self.spills.clear();
        self.spill_octets.clear();
        self.spilled.clear();
        self.joined.clear();
        self.finished = false;
    }

    /// Makes room for `n` more rows, at most [`room`](Self::room).
    #[inline]
    pub(crate) fn reserve(&mut self, n: usize) {
        if self.rows + n > self.capacity {
            self.grow(self.rows + n);
        }
    }

    #[cold]
    fn grow(&mut self, need: usize) {
        let mut capacity = self.capacity;
        while capacity < need {
            capacity *= 4;
        }
        let capacity = capacity.min(self.limit).max(need);
        let places = Places::new(&self.layout.frame, capacity);
        let mut arena = AlignedBuf::zeroed(places.len());
        for (i, (storage, def)) in self.storage.iter_mut().zip(&self.layout.columns).enumerate() {
            if let Storage::Fixed(old) = storage {
                let new = places.start(i);
                let bytes = self.rows * def.data_type.width().unwrap_or(0);
                arena.as_mut_bytes()[new..new + bytes].copy_from_slice(&self.arena.as_bytes()[*old..*old + bytes]);
                *old = new;
            }
        }
        (self.arena, self.places) = (arena, places);
        self.capacity = capacity;
    }

    /// Where the next rows of all fixed columns go, after [`reserve`](Self::reserve).
    #[inline(always)]
    pub(crate) fn next_slots(&mut self) -> Slots<'_> {
        Slots::new(self.arena.as_mut_bytes(), &self.places, self.rows)
    }

    /// The slots of the next `n` rows of a fixed column, after [`reserve`](Self::reserve).
    #[inline]
    pub(crate) fn next_rows<T: FromBytes + IntoBytes + Immutable + KnownLayout>(
        &mut self,
        column: u16,
        n: usize,
    ) -> &mut [T] {
        let first = self.rows;
        match self.storage.get(usize::from(column)) {
            Some(&Storage::Fixed(at)) => self.arena.typed_mut(at + first * size_of::<T>(), n),
            _ => &mut [],
        }
    }

    /// All slots of a fixed column that hold rows.
    pub(crate) fn slots<T: FromBytes + Immutable + KnownLayout>(&self, column: u16) -> &[T] {
        match self.storage.get(usize::from(column)) {
            Some(&Storage::Fixed(at)) => self.arena.typed(at, self.rows),
            _ => &[],
        }
    }

    /// As [`slots`](Self::slots), to write.
    pub(crate) fn slots_mut<T: FromBytes + IntoBytes + Immutable + KnownLayout>(&mut self, column: u16) -> &mut [T] {
        match self.storage.get(usize::from(column)) {
            Some(&Storage::Fixed(at)) => self.arena.typed_mut(at, self.rows),
            _ => &mut [],
        }
    }

    /// The memory of several fixed columns at once, each with the bytes of a value; `None` where one is named twice.
    pub(crate) fn disjoint<const N: usize>(&mut self, columns: [(u16, usize); N]) -> Option<[&mut [u8]; N]> {
        self.runs_and(columns).map(|(_, columns)| columns)
    }

    /// The runs, and what [`disjoint`](Self::disjoint) gives.
    pub(crate) fn runs_and<const N: usize>(&mut self, columns: [(u16, usize); N]) -> Option<(&[Run], [&mut [u8]; N])> {
        let (places, rows) = (&self.places, self.rows);
        let ranges = columns.map(|(c, width)| {
            let start = places.start(usize::from(c));
            start..start.saturating_add(rows * width)
        });
        Some((self.runs.as_slice(), self.arena.as_mut_bytes().get_disjoint_mut(ranges).ok()?))
    }

    /// A column of varying length, to append to.
    pub(crate) fn var_mut(&mut self, column: u16) -> Option<&mut VarBuf> {
        match self.storage.get_mut(usize::from(column)) {
            Some(Storage::Var(v)) => Some(v),
            _ => None,
        }
    }

    /// A column of varying length.
    pub(crate) fn var(&self, column: u16) -> Option<&VarBuf> {
        match self.storage.get(usize::from(column)) {
            Some(Storage::Var(v)) => Some(v),
            _ => None,
        }
    }

    /// A column of bits, to append to.
    pub(crate) fn bits_mut(&mut self, column: u16) -> Option<&mut Bitmap> {
        match self.storage.get_mut(usize::from(column)) {
            Some(Storage::Bits(b)) => Some(b),
            _ => None,
        }
    }

    /// Says whether a row of a column has a value. Rows of which nothing is said have one.
    pub(crate) fn set_valid(&mut self, column: u16, row: usize, valid: bool) {
        let Some(slot) = self.validity.get_mut(usize::from(column)) else { return };
        if slot.is_none() && valid {
            return;
        }
        let bits = slot.get_or_insert_with(|| self.spare_bits.pop().unwrap_or_default());
        if bits.len() <= row {
            bits.extend(row + 1 - bits.len(), true);
        }
        bits.set(row, valid);
    }

    /// Says that these rows of a column have a value.
    pub(crate) fn set_valid_rows(&mut self, column: u16, rows: &[u32]) {
        if let Some(Some(bits)) = self.validity.get_mut(usize::from(column)) {
            rows.iter().for_each(|&row| bits.set(row as usize, true));
        }
    }

    /// Whether every row of a column has a value.
    pub(crate) fn has_all(&self, column: u16) -> bool {
        self.validity.get(usize::from(column)).is_none_or(Option::is_none)
    }

    /// Says that no row of a column has a value yet.
    pub(crate) fn blank(&mut self, column: u16) {
        if let Some(slot) = self.validity.get_mut(usize::from(column)) {
            let mut bits = slot.take().or_else(|| self.spare_bits.pop()).unwrap_or_default();
            bits.clear();
            bits.extend(self.rows, false);
            *slot = Some(bits);
        }
    }

    /// Whether a row of a column has a value.
    pub(crate) fn is_valid(&self, column: u16, row: usize) -> bool {
        match self.validity.get(usize::from(column)) {
            Some(Some(bits)) => row >= bits.len() || bits.get(row),
            _ => true,
        }
    }

    /// Keeps a value that does not fit its column, for the extras.
    #[cold]
    pub(crate) fn spill(&mut self, row: usize, key: u16, bytes: &[u8]) {
        let (high, low) = bytes.split_at(bytes.len().saturating_sub(8));
        let number = self.layout.spill_keys.get(usize::from(key)).is_some_and(|k| k.1) && high.iter().all(|&b| b == 0);
        let number = number.then(|| low.iter().fold(0u64, |n, &b| n << 8 | u64::from(b)));
        self.spills.push(Spill { row: row as u32, key, number });
        self.spill_octets.push(if number.is_some() { &[] } else { bytes });
    }

    /// Begins a run of `n` rows, whose columns are to be filled and then taken by [`commit`](Self::commit). What the
    /// rows share is copied from `meta`, to be changed where it then stands.
    #[inline(always)]
    pub(crate) fn begin(&mut self, n: usize, meta: &RunMeta) -> Option<&mut RunMeta> {
        self.runs.push(self.rows as u32, n as u32, meta).map(|run| &mut run.meta)
    }

    /// Makes the `n` rows of the run that was begun part of the batch.
    #[inline(always)]
    pub(crate) fn commit(&mut self, n: usize) {
        self.rows += n;
    }

    /// Computes the derived columns; the batch takes no further row.
    pub(crate) fn finish(&mut self) {
        if self.finished {
            return;
        }
        self.finished = true;
        let layout = self.layout.clone();
        for step in &layout.derive {
            step.apply(self);
        }
        let rows = self.rows;
        for (storage, slot) in self.storage.iter_mut().zip(&mut self.validity) {
            if let Storage::Var(v) = storage {
                v.pad(rows);
            }
            if let Some(bits) = slot {
                bits.extend(rows.saturating_sub(bits.len()), true);
            }
        }
        self.gather_spills();
    }

    fn gather_spills(&mut self) {
        let (spills, octets) = (std::mem::take(&mut self.spills), std::mem::take(&mut self.spill_octets));
        for (i, spill) in spills.iter().enumerate() {
            let Some((key, _)) = self.layout.spill_keys.get(usize::from(spill.key)).cloned() else { continue };
            let data_type = if spill.number.is_some() { ColumnType::U64 } else { ColumnType::Octets };
            let at = self
                .spilled
                .iter()
                .position(|s| s.def.extra_key.as_ref() == Some(&key) && s.def.data_type == data_type);
            let at = at.unwrap_or_else(|| {
                let mut name = super::layout::extra_column_name(&key);
                if self.columns().any(|c| *c.def.name == *name) {
                    name.push_str(if spill.number.is_some() { "_number" } else { "_octets" });
                }
                self.spilled.push(Spilled {
                    def: ColumnDef { name: name.into(), extra_key: Some(key), data_type, nullable: true },
                    numbers: AlignedBuf::zeroed(if spill.number.is_some() { self.rows * 8 } else { 0 }),
                    octets: VarBuf::default(),
                    validity: Bitmap::filled(self.rows, false),
                });
                self.spilled.len() - 1
            });
            let (row, rows, to) = (spill.row as usize, self.rows, &mut self.spilled[at]);
            to.validity.set(row, true);
            match spill.number {
                Some(n) => to.numbers.typed_mut::<u64>(0, rows)[row] = n,
                None => {
                    to.octets.pad(row);
                    to.octets.push(octets.get(i));
                }
            }
        }
        for s in &mut self.spilled {
            if s.def.data_type == ColumnType::Octets {
                s.octets.pad(self.rows);
            }
        }
    }

    fn at(&self, i: usize) -> Column<'_> {
        let (def, n) = (&self.layout.columns[i], self.rows);
        let values = match (&self.storage[i], def.data_type) {
            (Storage::Var(v), ColumnType::Text) => ColumnView::Text(v),
            (Storage::Var(v), ColumnType::ListU32) => ColumnView::ListU32(v),
            (Storage::Var(v), _) => ColumnView::Octets(v),
            (Storage::Bits(b), _) => ColumnView::Bool(b),
            (&Storage::Fixed(at), data_type) => match data_type {
                ColumnType::U8 => ColumnView::U8(self.arena.typed(at, n)),
                ColumnType::U16 => ColumnView::U16(self.arena.typed(at, n)),
                ColumnType::U32 => ColumnView::U32(self.arena.typed(at, n)),
                ColumnType::Ip4 => ColumnView::Ip4(self.arena.typed(at, n)),
                ColumnType::I64 => ColumnView::I64(self.arena.typed(at, n)),
                ColumnType::F64 => ColumnView::F64(self.arena.typed(at, n)),
                ColumnType::Timestamp => ColumnView::Timestamp(self.arena.typed(at, n)),
                ColumnType::Ip6 => ColumnView::Ip6(self.arena.typed(at, n)),
                ColumnType::Mac => ColumnView::Mac(self.arena.typed(at, n)),
                _ => ColumnView::U64(self.arena.typed(at, n)),
            },
        };
        Column { def, values, validity: self.validity[i].as_ref() }
    }
}
