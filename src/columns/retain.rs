//! Some rows of a batch, the others gone.

use super::batch::Storage;
use super::buffer::{Bitmap, VarBuf};
use super::{Batch, ColumnType};

impl Batch {
    /// Keeps the rows of a finished batch whose bit is set; runs of which none is left go with their rows.
    pub fn retain(&mut self, keep: &Bitmap) {
        let ranges = ranges(keep, self.rows);
        let rows = ranges.iter().map(|r| r.1 - r.0).sum();
        if rows == self.rows {
            return;
        }
        let layout = self.layout.clone();
        for (storage, def) in self.storage.iter_mut().zip(&layout.columns) {
            match storage {
                Storage::Fixed(at) => {
                    let width = def.data_type.width().unwrap_or(0);
                    let values = self.arena.as_mut_bytes().get_mut(*at..*at + self.rows * width);
                    bytes(values.unwrap_or(&mut []), width, &ranges);
                }
                Storage::Var(values) => varying(values, def.data_type, &ranges),
                Storage::Bits(values) => bits(values, &ranges),
            }
        }
        self.validity.iter_mut().flatten().for_each(|b| bits(b, &ranges));
        for spilled in &mut self.spilled {
            match spilled.def.data_type {
                ColumnType::U64 => bytes(spilled.numbers.as_mut_bytes(), 8, &ranges),
                other => varying(&mut spilled.octets, other, &ranges),
            }
            bits(&mut spilled.validity, &ranges);
        }
        self.joined.iter_mut().for_each(|joined| joined.retain(&ranges));
        let mut left = ranges.iter().copied().peekable();
        let mut first = 0;
        for run in self.runs.as_mut_slice() {
            let end = (run.first_row + run.rows) as usize;
            let mut here = 0;
            // A range may go on into the next run.
            while let Some(range) = left.peek_mut().filter(|r| r.0 < end) {
                here += range.1.min(end) - range.0;
                range.0 = range.1.min(end);
                if range.0 < range.1 {
                    break;
                }
                left.next();
            }
            (run.first_row, run.rows) = (first, here as u32);
            first += here as u32;
        }
        self.runs.retain(|run| run.rows > 0);
        self.rows = rows;
    }
}

/// The rows that are kept, as ranges.
fn ranges(keep: &Bitmap, rows: usize) -> Vec<(usize, usize)> {
    let mut ranges: Vec<(usize, usize)> = Vec::new();
    for row in (0..rows).filter(|&row| keep.get(row)) {
        match ranges.last_mut() {
            Some(last) if last.1 == row => last.1 = row + 1,
            _ => ranges.push((row, row + 1)),
        }
    }
    ranges
}

/// Moves values of one width to the front.
pub(super) fn bytes(values: &mut [u8], width: usize, ranges: &[(usize, usize)]) {
    let mut to = 0;
    for &(from, end) in ranges {
        let (from, end) = (from * width, end * width);
        if end <= values.len() && to != from {
            values.copy_within(from..end, to);
        }
        to += end - from;
    }
}

/// Moves bits to the front.
pub(super) fn bits(values: &mut Bitmap, ranges: &[(usize, usize)]) {
    let mut to = 0;
    for row in ranges.iter().flat_map(|r| r.0..r.1) {
        values.set(to, values.get(row));
        to += 1;
    }
    values.truncate(to);
}

fn varying(values: &mut VarBuf, data_type: ColumnType, ranges: &[(usize, usize)]) {
    let mut kept = if data_type == ColumnType::ListU32 { VarBuf::of_words() } else { VarBuf::default() };
    kept.pad(0);
    ranges.iter().flat_map(|r| r.0..r.1).for_each(|row| kept.push(values.get(row)));
    *values = kept;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::columns::gather::Kernel;
    use crate::columns::{ColumnView, RunMeta, Timestamp};
    use crate::elements::Registry;
    use crate::plan::{NoLookups, Plan};
    use crate::template::{FieldSpec, Kind, Template};
    use std::net::Ipv4Addr;

    /// Runs of 3, 50 and 1 records of every kind of column; the number of a row is its `src_ip4`, and in the others.
    fn batch() -> Batch {
        // 9 bytes of octetDeltaCount, of which every seventh does not fit; MPLS labels; text; a flag.
        let fields = [(8, 4), (27, 16), (56, 6), (1, 9), (7, 2), (82, 2), (70, 3), (104, 3), (276, 1)];
        let fields = fields.map(|(id, len)| FieldSpec { pen: 0, id, len }).into();
        let template = Template::new(10, 256, Kind::Data, 0, fields).expect("a length");
        let plan = Plan::compile(&template, Registry::standard(), Kernel::best());
        let mut batch = Batch::new(plan.layout().clone(), 8192);
        let mut row = 0u8;
        for n in [3u8, 50, 1] {
            let mut body = Vec::new();
            for i in row..row + n {
                body.extend([0, 0, 0, i]);
                body.extend([i; 16 + 6]);
                body.extend([u8::from(i % 7 == 0), 0, 0, 0, 0, 0, 0, 0, i]);
                body.extend([0, i, b'a' + i % 26, 0, 0, i, 1, i, i, i, 1 + i % 2]);
            }
            row += n;
            let mut meta = RunMeta::new(10, Ipv4Addr::LOCALHOST.into(), Timestamp(i64::from(n)));
            meta.sequence = n.into();
            plan.run(&body, usize::MAX, &meta, &NoLookups, &mut batch);
        }
        batch.finish();
        let keys: Vec<i32> = (0..54).map(|i| i % 5 - 1).collect();
        let mut texts = VarBuf::default();
        ["a", "b", "c", "d"].iter().for_each(|t| texts.push(t.as_bytes()));
        batch.join_texts("src_country", &keys, texts);
        let numbers: Vec<Option<u32>> = (0..54).map(|i| (i % 3 > 0).then_some(i)).collect();
        batch.join_u32("src_as", &numbers);
        batch.join_i64("in_if_speed", &[Some(1 << 40); 54]);
        batch
    }

    /// Every value of a row, as text.
    fn row(batch: &Batch, row: usize) -> Vec<String> {
        let of = |column: crate::columns::Column<'_>| {
            let value = match column.values {
                _ if !column.is_valid(row) => "none".to_string(),
                ColumnView::Dictionary { keys, texts } => format!("{:?}", texts.get(keys[row] as usize)),
                ColumnView::Ip4(v) | ColumnView::U32(v) => v[row].to_string(),
                ColumnView::Ip6(v) => format!("{:?}", v[row]),
                ColumnView::Mac(v) => format!("{:?}", v[row]),
                ColumnView::U8(v) => v[row].to_string(),
                ColumnView::U16(v) => v[row].to_string(),
                ColumnView::U64(v) => v[row].to_string(),
                ColumnView::I64(v) | ColumnView::Timestamp(v) => v[row].to_string(),
                ColumnView::F64(v) => v[row].to_string(),
                ColumnView::Bool(v) => v.get(row).to_string(),
                ColumnView::Text(v) | ColumnView::Octets(v) | ColumnView::ListU32(v) => format!("{:?}", v.get(row)),
            };
            format!("{} {value}", column.def.name)
        };
        let run = batch.runs().iter().find(|r| (r.first_row..r.first_row + r.rows).contains(&(row as u32)));
        batch.columns().map(of).chain([format!("{:?}", run.expect("a run").meta.sequence)]).collect()
    }

    #[test]
    fn rows_that_stay_are_what_they_were() {
        let whole = batch();
        assert!(whole.columns().count() > 11, "spilled octets, too");
        let cases: [&dyn Fn(usize) -> bool; 6] =
            [&|_| true, &|_| false, &|i| i % 2 == 1, &|i| i < 3, &|i| (2..20).contains(&i), &|i| i == 53];
        for keeps in cases {
            let mut some = whole.clone();
            some.retain(&Bitmap::of((0..whole.rows()).map(keeps)));
            let kept: Vec<usize> = (0..whole.rows()).filter(|&i| keeps(i)).collect();
            assert_eq!(some.rows(), kept.len());
            assert_eq!(some.runs().iter().map(|r| r.rows as usize).sum::<usize>(), kept.len());
            for (now, before) in kept.into_iter().enumerate() {
                assert_eq!(row(&some, now), row(&whole, before));
            }
        }
    }
}
