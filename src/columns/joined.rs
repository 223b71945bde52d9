//! Columns that tables add to the rows of a batch that was handed over: names, places.

use super::buffer::{AlignedBuf, Bitmap, VarBuf};
use super::layout::{ColumnDef, ColumnType};
use super::{Batch, Column, ColumnView};

/// A column that is not of the batch's layout.
#[derive(Clone, Debug)]
pub(super) struct Joined {
    def: ColumnDef,
    values: Values,
    validity: Option<Bitmap>,
}

#[derive(Clone, Debug)]
enum Values {
    /// Native-endian numbers of the width of the column's type.
    Numbers(AlignedBuf),
    /// Keys of 32 bits, each the place of a text.
    Dictionary { keys: AlignedBuf, texts: VarBuf },
}

impl Joined {
    pub(super) fn column(&self, rows: usize) -> Column<'_> {
        let values = match (&self.values, self.def.data_type) {
            (Values::Dictionary { keys, texts }, _) => ColumnView::Dictionary { keys: keys.typed(0, rows), texts },
            (Values::Numbers(n), ColumnType::U32) => ColumnView::U32(n.typed(0, rows)),
            (Values::Numbers(n), _) => ColumnView::I64(n.typed(0, rows)),
        };
        Column { def: &self.def, values, validity: self.validity.as_ref() }
    }

    pub(super) fn memory(&self) -> usize {
        match &self.values {
            Values::Numbers(n) => n.capacity(),
            Values::Dictionary { keys, texts } => keys.capacity() + texts.capacity(),
        }
    }

    /// Keeps the rows of these ranges.
    pub(super) fn retain(&mut self, ranges: &[(usize, usize)]) {
        let (values, width) = match &mut self.values {
            Values::Numbers(n) => (n, if self.def.data_type == ColumnType::U32 { 4 } else { 8 }),
            Values::Dictionary { keys, .. } => (keys, 4),
        };
        super::retain::bytes(values.as_mut_bytes(), width, ranges);
        if let Some(bits) = &mut self.validity {
            super::retain::bits(bits, ranges);
        }
    }
}

impl Batch {
    /// The place in the layout of a column of the schema that readers see.
    #[cfg(feature = "collect")]
    pub(crate) fn own_column(&self, name: &str) -> Option<u16> {
        self.layout.order.iter().copied().find(|&i| {
            let def = self.layout.columns.get(usize::from(i));
            def.is_some_and(|def| def.extra_key.is_none() && &*def.name == name)
        })
    }

    /// Adds a column of text to a finished batch that has none of this name: for each row the place of its text in
    /// `texts`. A row without one, or with a place that is not there, has no value.
    pub fn join_texts(&mut self, name: &str, keys: &[i32], texts: VarBuf) {
        let has = |key: Option<&i32>| key.is_some_and(|&key| usize::try_from(key).is_ok_and(|key| key < texts.len()));
        let (mut column, mut absent) = (AlignedBuf::zeroed(self.rows * 4), false);
        for (row, slot) in column.typed_mut::<i32>(0, self.rows).iter_mut().enumerate() {
            match keys.get(row) {
                key if !has(key) => absent = true,
                key => *slot = key.copied().unwrap_or(0),
            }
        }
        let validity = absent.then(|| Bitmap::of((0..self.rows).map(|row| has(keys.get(row)))));
        self.join(name, ColumnType::Text, Values::Dictionary { keys: column, texts }, validity);
    }

    /// Adds a column of 32 bits without a sign to a finished batch that has none of this name.
    pub fn join_u32(&mut self, name: &str, values: &[Option<u32>]) {
        let (column, validity) = self.numbers(values, |column, rows| column.typed_mut::<u32>(0, rows));
        self.join(name, ColumnType::U32, Values::Numbers(column), validity);
    }

    /// Adds a column of 64 bits with a sign to a finished batch that has none of this name.
    pub fn join_i64(&mut self, name: &str, values: &[Option<i64>]) {
        let (column, validity) = self.numbers(values, |column, rows| column.typed_mut::<i64>(0, rows));
        self.join(name, ColumnType::I64, Values::Numbers(column), validity);
    }

    fn numbers<T: Copy>(
        &self,
        values: &[Option<T>],
        slots: impl FnOnce(&mut AlignedBuf, usize) -> &mut [T],
    ) -> (AlignedBuf, Option<Bitmap>) {
        let mut column = AlignedBuf::zeroed(self.rows * size_of::<T>());
        for (slot, value) in slots(&mut column, self.rows).iter_mut().zip(values) {
            *slot = value.unwrap_or(*slot);
        }
        let has = |row| values.get(row).is_some_and(Option::is_some);
        let absent = (0..self.rows).any(|row| !has(row));
        (column, absent.then(|| Bitmap::of((0..self.rows).map(has))))
    }

    fn join(&mut self, name: &str, data_type: ColumnType, values: Values, validity: Option<Bitmap>) {
        let def = ColumnDef { name: name.into(), extra_key: None, data_type, nullable: true };
        self.joined.push(Joined { def, values, validity });
    }
}
