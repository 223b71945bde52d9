//! A template compiled once into column operations: the only place that knows offsets.
//!
//! A [`Plan`] holds what to do with each field of a record and the [`Layout`] of the batches it fills. Plans depend
//! on a template's content and version alone, so equal templates of a thousand exporters share one. Records of one
//! length run by stride; where a field varies in length an offset pass finds the fields first, and the same columns
//! are then filled from lists of positions.

mod compile;
mod run;
mod time;
mod windows;

pub use run::{Lookups, NoLookups, Ran};

use crate::columns::Layout;
use crate::columns::gather::window::{Simd, Windows};
use std::sync::Arc;
use time::TimeKind;

/// What the low 32 bits of an NTP time are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Fractions {
    /// Parts of a second, 2^32 of them: RFC 7011 sections 6.1.9 and 6.1.10.
    #[default]
    Binary,
    /// Microseconds in elements 154 and 155, nanoseconds in 156 and 157, as some exporters send them.
    Decimal,
}

/// A compiled template.
#[derive(Debug)]
pub struct Plan {
    layout: Arc<Layout>,
    // INVARIANT: > 0; the record length, or the shortest record where lengths vary.
    min_len: usize,
    // 2^32 / min_len, rounded up: for records of lengths below 2^16 a multiplication counts those in a set.
    reciprocal: u64,
    // Fixed bytes between fields of varying length: segment i ends at varying field i. One for fixed records.
    // INVARIANT: segments.len() == number of varying fields + 1; their sum + that number == min_len.
    segments: Box<[usize]>,
    // What no window takes.
    ops: Box<[Op]>,
    groups: Box<[Group]>,
    sampling: Option<SamplingOps>,
    time: TimeRule,
}

impl Plan {
    /// Roughly the bytes that a record becomes.
    pub fn row_bytes(&self) -> usize {
        self.layout.columns.iter().map(|c| c.data_type.width().unwrap_or(16)).sum::<usize>().max(1)
    }

    /// Roughly the bytes that the plan itself takes.
    pub(crate) fn memory(&self) -> usize {
        let windows: usize = self.groups.iter().map(|g| g.windows.len()).sum();
        let ops = self.ops.len() + self.groups.iter().map(|g| g.ops.len() + g.raw.len()).sum::<usize>();
        // A column has its definition, a name or two of its own, a key, and a place in several lists.
        1024 + self.layout.columns.len() * 256
            + ops * size_of::<Op>()
            + windows * 64
            + self.groups.len() * size_of::<Group>()
            + self.segments.len() * size_of::<usize>()
    }

    /// How many records of the shortest length are in `len` bytes.
    #[inline]
    fn count(&self, len: usize) -> usize {
        if (len | self.min_len) >> 16 == 0 {
            // Exact: the error is below len / 2^32, less than the 1 / min_len that separates two quotients.
            ((len as u64 * self.reciprocal) >> 32) as usize
        } else {
            len / self.min_len
        }
    }

    /// The layout of the batches that this plan fills.
    pub fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    /// The length of every record; `None` where it varies.
    pub fn record_len(&self) -> Option<usize> {
        (self.segments.len() == 1).then_some(self.min_len)
    }

    /// The length of the shortest record.
    pub fn min_len(&self) -> usize {
        self.min_len
    }
}

/// Where a field stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    /// `rel` bytes into a segment.
    // INVARIANT: rel + width <= segments[segment].
    Fixed { segment: u16, rel: usize, width: usize },
    /// The varying field of this number.
    Varying(u16),
}

/// How the bytes of a field become a value of its column's type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Convert {
    /// A big-endian unsigned integer, widened, or narrowed with a check.
    Unsigned,
    Signed,
    Float,
    Boolean,
    /// As many bytes as the column's values have.
    Bytes,
    /// The low 4 bytes of an uptime, against the message header's.
    Uptime,
    Time(TimeKind),
    /// UTF-8, NULs at the end stripped.
    Text,
    Octets,
    /// RFC 6313, as JSON text.
    List(crate::elements::DataType),
}

/// One field to one column.
#[derive(Clone, Copy, Debug)]
struct Op {
    source: Source,
    convert: Convert,
    column: u16,
    // The type of the column.
    data_type: crate::columns::ColumnType,
    // The field's index in the template: the key of its extras.
    field: u16,
}

/// The operations on a segment that vectors do together.
#[derive(Debug)]
struct Group {
    simd: Simd,
    segment: u16,
    windows: Windows,
    // All of them, for records near the end of the bytes.
    ops: Box<[Op]>,
    // Those whose column holds bare integers after the windows: still to be checked or made times.
    raw: Box<[Op]>,
    // Those whose column is to be filled again where the windows say that a value may not fit.
    doubtful: Box<[Op]>,
}

/// The columns that hold a record's own sampling elements, and those to fill.
#[derive(Clone, Copy, Debug, Default)]
struct SamplingOps {
    rate: u16,
    source: u16,
    sampler: Option<u16>,
    /// 34.
    interval: Option<u16>,
    /// 50.
    random: Option<u16>,
    /// 305 and 306.
    packets: Option<(u16, u16)>,
    /// 309 and 310.
    population: Option<(u16, u16)>,
    /// 311.
    probability: Option<u16>,
}

/// What a run's `time_source` is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TimeRule {
    Always(u8),
    /// IPFIX 21/22 without a base in the record.
    ByInitTime,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::columns::gather::Kernel;
    use crate::elements::Registry;
    use crate::template::{FieldSpec, Kind, Template};

    #[test]
    fn records_are_counted_without_a_division() {
        for record in [1usize, 2, 3, 7, 40, 48, 52, 76, 255, 1464, 32_767, 65_534, 65_535, 65_536, 131_070] {
            let parts = [record.min(65_534), (record - record.min(65_534)).min(65_534), record.saturating_sub(131_068)];
            let fields = parts.iter().filter(|&&n| n > 0).map(|&n| FieldSpec { pen: 0, id: 82, len: n as u16 });
            let template = Template::new(10, 256, Kind::Data, 0, fields.collect()).expect("has a length");
            let plan = Plan::compile(&template, Registry::standard(), Kernel::Scalar);
            for len in (0..=65_536).chain([131_069, 131_070, 200_000]) {
                assert_eq!(plan.count(len), len / record, "{len} bytes of records of {record}");
            }
        }
    }
}
