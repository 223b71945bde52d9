//! Columns computed from other columns when a batch is handed over.
//!
//! Each step is compiled with the plan and works on physical column numbers. A source that becomes the value of a
//! schema column loses its place among the extras in that row; one that does not keeps it.

use super::application::ApplicationId;
use super::batch::Batch;
use super::gather::times;
use super::icmp::{self, IcmpSources};
use super::layout::{ColumnType, Family};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The family of a record: known for a whole template, or a hidden column of 0 (IPv4) and 1 (IPv6).
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum FamilyOf {
    Static(Family),
    Column(u16),
}

/// A step that computes columns from columns.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Derive {
    /// `dst` is the first source that has a value; `codes` go to the column beside it.
    Coalesce {
        dst: u16,
        sources: Box<[(u16, u8)]>,
        code: Option<u16>,
    },
    /// A family whose addresses are zero while the other's are not is absent.
    Families {
        v4: [Option<u16>; 2],
        v6: [Option<u16>; 2],
        version: Option<u16>,
        first: Family,
        family: u16,
    },
    /// Next hops: the zero one of both is absent; both zero: the one of the flow's family stays.
    NextHop {
        v4: u16,
        v6: u16,
        family: FamilyOf,
    },
    /// The prefix length of the record's family, else the first present.
    Mask {
        dst: u16,
        v4: u16,
        v6: u16,
        family: FamilyOf,
    },
    Icmp {
        proto: u16,
        dst_port: Option<u16>,
        kind: IcmpSources,
        code: IcmpSources,
    },
    /// IPFIX 21/22 against the best base there is: `(raw, column)` pairs.
    Uptime {
        start: Option<(u16, u16)>,
        end: Option<(u16, u16)>,
        raw_end: Option<u16>,
        init: Option<u16>,
    },
    /// A missing side of a flow from the other and its duration, in units of `unit` microseconds.
    Duration {
        start: u16,
        end: u16,
        duration: u16,
        unit: i64,
    },
    /// A row that counts no flows is one.
    One {
        column: u16,
    },
    /// The column has no value yet in any row; later steps fill it.
    Blank {
        column: u16,
    },
    MplsLabels {
        sources: Box<[u16]>,
        dst: u16,
    },
    ApplicationId {
        source: u16,
        dst: u16,
    },
}

/// A flow time by uptime (RFC 3954 and RFC 7011 elements 21, 22): right across the wrap of the 32-bit clock and for
/// times slightly after the exporter's idea of now.
#[inline]
pub(crate) fn uptime_to_micros(export_us: i64, uptime_ms: u32, at_ms: u32) -> i64 {
    export_us - 1000 * i64::from(uptime_ms.wrapping_sub(at_ms).cast_signed())
}

impl Derive {
    pub(crate) fn apply(&self, batch: &mut Batch) {
        let rows = batch.rows();
        match self {
            Self::Coalesce { dst, sources, code } => {
                for row in 0..rows {
                    let found = sources.iter().find(|s| batch.is_valid(s.0, row)).copied();
                    let fits = found.is_some_and(|s| batch.copy_value(s.0, *dst, row));
                    batch.set_valid(*dst, row, fits);
                    if let (Some(s), true) = (found, fits) {
                        batch.set_valid(s.0, row, false);
                    }
                    if let Some(slot) = code.and_then(|c| batch.slots_mut::<u8>(c).get_mut(row)) {
                        *slot = found.filter(|_| fits).map_or(*slot, |s| s.1);
                    }
                }
            }
            Self::Families { v4, v6, version, first, family } => {
                let live = |batch: &Batch, columns: &[Option<u16>; 2], row| {
                    columns.iter().flatten().any(|&c| batch.is_valid(c, row) && !batch.is_zero(c, row))
                };
                for row in 0..rows {
                    let version = version.and_then(|c| batch.uint_at(c, row));
                    let has = |columns: &[Option<u16>; 2]| columns.iter().flatten().any(|&c| batch.is_valid(c, row));
                    let (of, absent) = match (has(v4), has(v6)) {
                        (_, false) => (Family::V4, None),
                        (false, true) => (Family::V6, None),
                        (true, true) => match (live(batch, v4, row), live(batch, v6, row)) {
                            (true, true) => (*first, None),
                            (true, false) => (Family::V4, Some(v6)),
                            (false, true) => (Family::V6, Some(v4)),
                            (false, false) if version == Some(6) => (Family::V6, Some(v4)),
                            (false, false) => (Family::V4, Some(v6)),
                        },
                    };
                    for &column in absent.into_iter().flatten().flatten() {
                        batch.set_valid(column, row, false);
                    }
                    if let Some(slot) = batch.slots_mut::<u8>(*family).get_mut(row) {
                        *slot = u8::from(of == Family::V6);
                    }
                }
            }
            Self::NextHop { v4, v6, family } => {
                for row in 0..rows {
                    if !(batch.is_valid(*v4, row) && batch.is_valid(*v6, row)) {
                        continue;
                    }
                    match (!batch.is_zero(*v4, row), !batch.is_zero(*v6, row)) {
                        (true, true) => {}
                        (true, false) => batch.set_valid(*v6, row, false),
                        (false, true) => batch.set_valid(*v4, row, false),
                        (false, false) if family.at(batch, row) == Family::V6 => batch.set_valid(*v4, row, false),
                        (false, false) => batch.set_valid(*v6, row, false),
                    }
                }
            }
            Self::Mask { dst, v4, v6, family } => {
                for row in 0..rows {
                    let order = if family.at(batch, row) == Family::V6 { [*v6, *v4] } else { [*v4, *v6] };
                    let order = order.into_iter().find(|&c| batch.is_valid(c, row));
                    let fits = order.is_some_and(|c| batch.copy_value(c, *dst, row));
                    batch.set_valid(*dst, row, fits);
                    if let (Some(c), true) = (order, fits) {
                        batch.set_valid(c, row, false);
                    }
                }
            }
            Self::Icmp { proto, dst_port, kind, code } => icmp::derive(batch, *proto, *dst_port, kind, code),
            Self::Uptime { start, end, raw_end, init } => uptime(batch, *start, *end, *raw_end, *init),
            Self::Duration { start, end, duration, unit } => {
                for row in 0..rows {
                    let Some(length) =
                        batch.uint_at(*duration, row).and_then(|d| i64::try_from(d).ok()?.checked_mul(*unit))
                    else {
                        continue;
                    };
                    let (from, to, sign) = match (batch.is_valid(*start, row), batch.is_valid(*end, row)) {
                        (false, true) => (*end, *start, -1),
                        (true, false) => (*start, *end, 1),
                        _ => continue,
                    };
                    let known = batch.slots::<i64>(from).get(row).and_then(|t| t.checked_add(sign * length));
                    if let (Some(time), Some(slot)) = (known, batch.slots_mut::<i64>(to).get_mut(row)) {
                        *slot = time;
                        batch.set_valid(to, row, true);
                    }
                }
            }
            Self::One { column } => {
                for row in 0..rows {
                    if batch.is_valid(*column, row) {
                        continue;
                    }
                    if let Some(slot) = batch.slots_mut::<i64>(*column).get_mut(row) {
                        *slot = 1;
                    }
                    batch.set_valid(*column, row, true);
                }
            }
            Self::Blank { column } => batch.blank(*column),
            Self::MplsLabels { sources, dst } => mpls_labels(batch, sources, *dst),
            Self::ApplicationId { source, dst } => application_id(batch, *source, *dst),
        }
    }
}

impl FamilyOf {
    fn at(self, batch: &Batch, row: usize) -> Family {
        match self {
            Self::Static(family) => family,
            Self::Column(c) if batch.slots::<u8>(c).get(row) == Some(&1) => Family::V6,
            Self::Column(_) => Family::V4,
        }
    }
}

fn uptime(
    batch: &mut Batch,
    start: Option<(u16, u16)>,
    end: Option<(u16, u16)>,
    raw_end: Option<u16>,
    init: Option<u16>,
) {
    if let (None, Some(raw_end), Some(start), Some(end)) = (init, raw_end, start, end)
        && batch.runs().iter().all(|run| run.meta.init_time_ms.is_none())
    {
        return before_export(batch, raw_end, start, end.1);
    }
    for i in 0..batch.runs().len() {
        let Some(&run) = batch.runs().get(i) else { return };
        let export = run.meta.export_time.as_micros();
        let rows = run.first_row as usize..(run.first_row + run.rows) as usize;
        // Without a base in the record all rows of a message have one.
        if let (None, Some(base)) = (init, run.meta.init_time_ms) {
            let uptime = export.div_euclid(1000).wrapping_sub(base.cast_signed()) as u32;
            for (raw, dst) in [start, end].into_iter().flatten() {
                batch.convert(raw, dst, rows.clone(), |at: u32| uptime_to_micros(export, uptime, at));
            }
            continue;
        }
        for row in rows {
            let in_record =
                init.filter(|&c| batch.is_valid(c, row)).and_then(|c| batch.slots::<i64>(c).get(row).copied());
            let base_ms = in_record.map(|us| us.div_euclid(1000)).or(run.meta.init_time_ms.map(u64::cast_signed));
            // Both are times since 1970, so the difference modulo 2^32 is the uptime.
            let uptime = base_ms.map(|base| export.div_euclid(1000).wrapping_sub(base) as u32);
            // Without a base the flow is taken to have ended when it was exported.
            let uptime = uptime.or_else(|| batch.u32_at(raw_end, row));
            for (raw, dst) in [start, end].into_iter().flatten() {
                let time = match (uptime, batch.u32_at(Some(raw), row)) {
                    (Some(up), Some(at)) => Some(uptime_to_micros(export, up, at)),
                    _ => None,
                };
                if let (Some(time), Some(slot)) = (time, batch.slots_mut::<i64>(dst).get_mut(row)) {
                    *slot = time;
                }
                batch.set_valid(dst, row, time.is_some());
            }
        }
    }
}

/// Without any base a flow is taken to have ended when it was exported.
fn before_export(batch: &mut Batch, raw_end: u16, (raw_start, start): (u16, u16), end: u16) {
    let columns = [(raw_end, 4), (raw_start, 4), (start, 8), (end, 8)];
    let Some((runs, [raw_end, raw_start, start, end])) = batch.runs_and(columns) else { return };
    // Once a batch: a message has few rows.
    let (Ok(raw_end), Ok(raw_start)) = (<[u32]>::ref_from_bytes(raw_end), <[u32]>::ref_from_bytes(raw_start)) else {
        return;
    };
    let (Ok(start), Ok(end)) = (<[i64]>::mut_from_bytes(start), <[i64]>::mut_from_bytes(end)) else { return };
    for run in runs {
        let export = run.meta.export_time.as_micros();
        let rows = run.first_row as usize..(run.first_row + run.rows) as usize;
        let raw = (raw_start.get(rows.clone()), raw_end.get(rows.clone()));
        if let ((Some(raw_start), Some(raw_end)), Some(start)) = (raw, start.get_mut(rows.clone())) {
            times::before(start, export, raw_start, raw_end);
        }
        end.get_mut(rows).into_iter().flatten().for_each(|end| *end = export);
    }
}

/// Label stack entries (RFC 3032): 20 bits of label, 3 of traffic class, the bottom-of-stack bit.
fn mpls_labels(batch: &mut Batch, sources: &[u16], dst: u16) {
    let mut labels: Vec<u8> = Vec::with_capacity(40);
    for row in 0..batch.rows() {
        labels.clear();
        let (mut bottom, mut any) = (false, false);
        for &source in sources {
            if !batch.is_valid(source, row) {
                continue;
            }
            let entry = batch.var(source).map_or(&[][..], |v| v.get(row));
            let &[a, b, c, ..] = entry else { continue };
            let zero = entry.iter().all(|&b| b == 0);
            any = true;
            if !bottom {
                let label = u32::from_be_bytes([0, a, b, c]) >> 4;
                labels.extend_from_slice(&label.to_ne_bytes());
                bottom = c & 1 == 1;
            } else if !zero {
                continue;
            }
            batch.set_valid(source, row, false);
        }
        if let Some(list) = batch.var_mut(dst) {
            list.push(&labels);
        }
        batch.set_valid(dst, row, any);
    }
}

fn application_id(batch: &mut Batch, source: u16, dst: u16) {
    use std::io::Write;
    let mut text = [0u8; 64];
    for row in 0..batch.rows() {
        let raw = batch.var(source).map_or(&[][..], |v| v.get(row));
        let mut out = &mut text[..];
        let done = ApplicationId::from_octets(raw).is_some_and(|id| write!(out, "{id}").is_ok());
        let left = out.len();
        let known = done && batch.is_valid(source, row);
        let end = if known { text.len() - left } else { 0 };
        if let Some(column) = batch.var_mut(dst) {
            column.push(&text[..end]);
        }
        batch.set_valid(dst, row, known);
        if known {
            batch.set_valid(source, row, false);
        }
    }
}

/// Rows of a column by its bytes.
fn rows_of<'a, T: FromBytes + IntoBytes + Immutable + KnownLayout>(
    column: &'a mut [u8],
    rows: &std::ops::Range<usize>,
) -> &'a mut [T] {
    let bytes = column.get_mut(rows.start * size_of::<T>()..rows.end * size_of::<T>());
    bytes.and_then(|b| <[T]>::mut_from_bytes(b).ok()).unwrap_or(&mut [])
}

impl Batch {
    /// Fills rows of a column of times from those of a column of 32-bit numbers.
    fn convert(&mut self, from: u16, to: u16, rows: std::ops::Range<usize>, mut f: impl FnMut(u32) -> i64) {
        if let Some([from, to]) = self.disjoint([(from, 4), (to, 8)]) {
            for (slot, &a) in rows_of::<i64>(to, &rows).iter_mut().zip(&*rows_of::<u32>(from, &rows)) {
                *slot = f(a);
            }
        }
    }

    fn kind(&self, column: u16) -> Option<ColumnType> {
        self.layout().columns.get(usize::from(column)).map(|c| c.data_type)
    }

    fn u32_at(&self, column: Option<u16>, row: usize) -> Option<u32> {
        self.uint_at(column?, row).map(|v| v as u32)
    }

    /// The value of an unsigned column as a number.
    pub(crate) fn uint_at(&self, column: u16, row: usize) -> Option<u64> {
        if !self.is_valid(column, row) {
            return None;
        }
        match self.kind(column)? {
            ColumnType::U8 => self.slots::<u8>(column).get(row).map(|&v| v.into()),
            ColumnType::U16 => self.slots::<u16>(column).get(row).map(|&v| v.into()),
            ColumnType::U32 | ColumnType::Ip4 => self.slots::<u32>(column).get(row).map(|&v| v.into()),
            ColumnType::U64 => self.slots::<u64>(column).get(row).copied(),
            ColumnType::I64 | ColumnType::Timestamp => {
                self.slots::<i64>(column).get(row).and_then(|&v| v.try_into().ok())
            }
            _ => None,
        }
    }

    fn is_zero(&self, column: u16, row: usize) -> bool {
        match self.kind(column) {
            Some(ColumnType::Ip6) => self.slots::<[u8; 16]>(column).get(row) == Some(&[0; 16]),
            _ => self.uint_at(column, row) == Some(0),
        }
    }

    /// Copies a value to another column of its kind; false where it does not fit.
    fn copy_value(&mut self, from: u16, to: u16, row: usize) -> bool {
        macro_rules! put {
            ($t:ty, $v:expr) => {
                match ($v, self.slots_mut::<$t>(to).get_mut(row)) {
                    (Some(v), Some(slot)) => {
                        *slot = v;
                        true
                    }
                    _ => false,
                }
            };
        }
        let Some(kind) = self.kind(to) else { return false };
        match kind {
            ColumnType::U8 => put!(u8, self.uint_at(from, row).and_then(|v| v.try_into().ok())),
            ColumnType::U16 => put!(u16, self.uint_at(from, row).and_then(|v| v.try_into().ok())),
            ColumnType::U32 | ColumnType::Ip4 => put!(u32, self.uint_at(from, row).and_then(|v| v.try_into().ok())),
            ColumnType::I64 => put!(i64, self.uint_at(from, row).and_then(|v| v.try_into().ok())),
            ColumnType::Timestamp => put!(i64, self.slots::<i64>(from).get(row).copied()),
            ColumnType::Ip6 => put!([u8; 16], self.slots::<[u8; 16]>(from).get(row).copied()),
            ColumnType::Mac => put!([u8; 6], self.slots::<[u8; 6]>(from).get(row).copied()),
            ColumnType::Text => {
                let Some(value) = self.var(from).map(|v| v.get(row).to_vec()) else { return false };
                let Some(column) = self.var_mut(to) else { return false };
                column.pad(row);
                column.push(&value);
                true
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uptime_across_the_wrap_and_after_now() {
        let export = 1_700_000_000_000_000;
        assert_eq!(uptime_to_micros(export, 10, u32::MAX - 89), export - 100_000);
        assert_eq!(uptime_to_micros(export, 1000, 1160), export + 160_000);
        assert_eq!(uptime_to_micros(export, 5, 5), export);
    }
}
