//! What statistics rule out: row groups, and within them stretches between the edges of pages.

use super::filter::{Column, Expr, Filter, Set};
use super::page::Source;
use crate::columns::ColumnType;
use crate::sink::schema::SCHEMA;
use parquet::basic::Type;
use parquet::file::metadata::{ColumnChunkMetaData, RowGroupMetaData};
use parquet::file::page_index::column_index::ColumnIndexMetaData;
use parquet::file::page_index::index_reader::{decode_column_index, decode_offset_index};
use parquet::file::page_index::offset_index::PageLocation;
use parquet::file::reader::ChunkReader;
use parquet::file::statistics::Statistics;
use std::ops::Range;

/// Whether the least and the greatest values of a row group leave room for a row.
pub(super) fn may_hold(expr: &Expr, group: &RowGroupMetaData) -> bool {
    let bounds = |name: &str| match chunk(name, group).and_then(|c| Some((c.1.statistics()?, group.num_rows()))) {
        Some((statistics, rows)) => of_chunk(name, statistics, rows),
        None => Bounds::Unknown,
    };
    holds(expr, &bounds)
}

/// The chunk of a column by its name, and its place.
pub(super) fn chunk<'a>(name: &str, group: &'a RowGroupMetaData) -> Option<(usize, &'a ColumnChunkMetaData)> {
    group.columns().iter().enumerate().find(|(_, c)| c.column_path().parts() == [name])
}

/// What is known of the values of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bounds {
    /// No row has one.
    None,
    /// The least and the greatest.
    Of(i128, i128),
    Unknown,
}

/// Whether there may be a row that a filter holds for.
fn holds(expr: &Expr, bounds: &dyn Fn(&str) -> Bounds) -> bool {
    let meets = |name: &str, ranges: &[(i128, i128)]| match bounds(name) {
        Bounds::None => false,
        Bounds::Of(min, max) => ranges.iter().any(|r| r.0 <= max && min <= r.1),
        Bounds::Unknown => !ranges.is_empty(),
    };
    match expr {
        Expr::And(a, b) => holds(a, bounds) && holds(b, bounds),
        Expr::Or(a, b) => holds(a, bounds) || holds(b, bounds),
        // What statistics say of the inside says nothing of the outside.
        Expr::Not(_) | Expr::All => true,
        Expr::Test(Column::One(name, _), Set::Ranges(ranges)) => meets(name, ranges),
        Expr::Test(Column::Pair(v4, v6), Set::Addresses { v4: ranges, v6: ranges6 }) => {
            let ranges: Vec<_> = ranges.iter().map(|r| (i128::from(r.0), i128::from(r.1))).collect();
            meets(v4, &ranges) || !ranges6.is_empty() && bounds(v6) != Bounds::None
        }
        Expr::Test(Column::One(name, _), Set::Present) => bounds(name) != Bounds::None,
        Expr::Test(Column::Pair(v4, v6), Set::Present) => bounds(v4) != Bounds::None || bounds(v6) != Bounds::None,
        Expr::Test(..) => true,
    }
}

/// The bounds of a column chunk.
pub(super) fn of_chunk(name: &str, statistics: &Statistics, rows: i64) -> Bounds {
    if statistics.null_count_opt().is_some_and(|nulls| nulls >= rows.cast_unsigned()) {
        return Bounds::None;
    }
    let found = match statistics {
        Statistics::Int32(s) => s.min_opt().zip(s.max_opt()).and_then(|(a, b)| of_32(name, *a, *b)),
        Statistics::Int64(s) => s.min_opt().zip(s.max_opt()).and_then(|(a, b)| of_64(name, *a, *b)),
        Statistics::Boolean(s) => s.min_opt().zip(s.max_opt()).map(|(a, b)| (i128::from(*a), i128::from(*b))),
        _ => None,
    };
    found.map_or(Bounds::Unknown, |(a, b)| Bounds::Of(a, b))
}

/// Numbers of the schema that have 8, 16 and 32 bits have no sign.
fn of_32(name: &str, min: i32, max: i32) -> Option<(i128, i128)> {
    use ColumnType as T;
    let unsigned = matches!(kind(name)?, T::U8 | T::U16 | T::U32 | T::Ip4);
    unsigned.then(|| (i128::from(min.cast_unsigned()), i128::from(max.cast_unsigned())))
}

fn of_64(name: &str, min: i64, max: i64) -> Option<(i128, i128)> {
    matches!(kind(name)?, ColumnType::I64 | ColumnType::Timestamp).then(|| (min.into(), max.into()))
}

fn kind(name: &str) -> Option<ColumnType> {
    SCHEMA.iter().find(|c| c.name == name).map(|c| c.data_type)
}

/// Where the pages of a column begin, if the file says so; `None` for what cannot be used.
pub(super) fn locations(file: &Source, chunk: &ColumnChunkMetaData, rows: usize) -> Option<Vec<PageLocation>> {
    let range = chunk.offset_index_range()?;
    let bytes = file.get_bytes(range.start, usize::try_from(range.end - range.start).ok()?).ok()?;
    let locations = decode_offset_index(&bytes).ok()?.page_locations().clone();
    let first = |l: &PageLocation| usize::try_from(l.first_row_index).ok().filter(|f| *f < rows);
    let firsts: Option<Vec<usize>> = locations.iter().map(first).collect();
    let firsts = firsts?;
    let (start, len) = chunk.byte_range();
    let inside = |l: &PageLocation| {
        let (at, size) = (u64::try_from(l.offset).ok()?, u64::try_from(l.compressed_page_size).ok()?);
        (at >= start && at.checked_add(size)? <= start + len).then_some(())
    };
    let ordered = firsts.first() == Some(&0) && firsts.is_sorted_by(|a, b| a < b);
    (ordered && locations.iter().all(|l| inside(l).is_some())).then_some(locations)
}

/// A column of a filter, page by page.
struct Pages {
    name: String,
    firsts: Vec<usize>,
    index: ColumnIndexMetaData,
}

impl Pages {
    fn of(file: &Source, name: &str, group: &RowGroupMetaData) -> Option<Self> {
        let (_, chunk) = chunk(name, group)?;
        let range = chunk.column_index_range()?;
        let bytes = file.get_bytes(range.start, usize::try_from(range.end - range.start).ok()?).ok()?;
        let index = decode_column_index(&bytes, chunk.column_type()).ok()?;
        let locations = locations(file, chunk, usize::try_from(group.num_rows()).ok()?)?;
        let firsts: Vec<usize> = locations.iter().filter_map(|l| usize::try_from(l.first_row_index).ok()).collect();
        (index.num_pages() == firsts.len() as u64 && is_numbers(chunk.column_type())).then(|| Self {
            name: name.to_string(),
            firsts,
            index,
        })
    }

    /// The bounds of the page with a row.
    fn bounds(&self, row: usize) -> Bounds {
        let page = self.firsts.partition_point(|first| *first <= row).saturating_sub(1);
        if self.index.is_null_page(page) {
            return Bounds::None;
        }
        let found = match &self.index {
            ColumnIndexMetaData::INT32(i) => {
                i.min_value(page).zip(i.max_value(page)).and_then(|(a, b)| of_32(&self.name, *a, *b))
            }
            ColumnIndexMetaData::INT64(i) => {
                i.min_value(page).zip(i.max_value(page)).and_then(|(a, b)| of_64(&self.name, *a, *b))
            }
            _ => None,
        };
        found.map_or(Bounds::Unknown, |(a, b)| Bounds::Of(a, b))
    }
}

fn is_numbers(physical: Type) -> bool {
    matches!(physical, Type::INT32 | Type::INT64)
}

/// The stretches of some rows of a row group that may have rows for a filter, by what its pages' statistics say.
pub(super) fn stretches(
    file: &Source,
    filter: &Filter,
    group: &RowGroupMetaData,
    rows: Range<usize>,
) -> Vec<Range<usize>> {
    let pages: Vec<Pages> = filter.columns().iter().filter_map(|name| Pages::of(file, name, group)).collect();
    let mut edges: Vec<usize> =
        pages.iter().flat_map(|p| &p.firsts).copied().filter(|first| rows.contains(first)).collect();
    edges.extend([rows.start, rows.end]);
    edges.sort_unstable();
    edges.dedup();
    let mut found: Vec<Range<usize>> = Vec::new();
    for edge in edges.windows(2) {
        let &[start, end] = edge else { continue };
        let bounds = |name: &str| match pages.iter().find(|p| p.name == name) {
            Some(pages) => pages.bounds(start),
            None => Bounds::Unknown,
        };
        if !holds(&filter.expr, &bounds) {
            continue;
        }
        match found.last_mut() {
            Some(last) if last.end == start => last.end = end,
            _ => found.push(start..end),
        }
    }
    found
}
