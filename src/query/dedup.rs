//! Flows that were seen more than once: by several exporters on their way, or by one as they came in and as they went out.

use super::flow::{self, End, Flow, Flows};
use super::parts::{Share, in_parts};
use super::scan::Scan;
use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, UInt8Type, UInt16Type};
use arrow_array::{Array, RecordBatch, UInt8Array, UInt16Array};
use arrow_buffer::BooleanBuffer;
use std::collections::HashSet;
use std::hash::BuildHasher;

/// Which sightings of a flow count once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct By {
    /// Those of several exporters.
    pub exporter: bool,
    /// Those of one exporter at ingress and at egress (element 61).
    pub direction: bool,
}

/// Records that tell again what others told. [`Filter::without`](super::Filter::without) leaves them out.
///
/// Records of the same addresses, ports (types and codes of ICMP) and protocol whose times overlap are sightings of one flow. Those of the observer
/// that saw most bytes of it count; of equals, the one that saw it first.
#[derive(Clone, Debug)]
pub struct Duplicates {
    by: By,
    hasher: foldhash::quality::RandomState,
    records: HashSet<u64, foldhash::fast::RandomState>,
    without_direction: u64,
}

/// What is kept of a part of the records.
#[derive(Default)]
struct Kept {
    seen: Vec<Seen>,
    without_direction: u64,
}

/// Exporters' clocks differ, and v9 and IPFIX headers tell whole seconds: times that are so near overlap.
const CLOCKS_US: i64 = 2_000_000;

/// A record: who saw which flow.
#[derive(Clone, Copy)]
struct Seen {
    flow: u64,
    observer: u64,
    record: u64,
    start_us: i64,
    end_us: i64,
    bytes: i64,
}

impl Duplicates {
    /// Looks for duplicates among the records for which the filter holds. At most `flows` records are kept in memory, 48
    /// bytes each; of more, a part at a time is looked at, each by a scan of its own.
    pub fn find(scan: &Scan, by: By, flows: usize) -> Self {
        let mut all = Self { by, hasher: Default::default(), records: HashSet::default(), without_direction: 0 };
        let mut scan = scan.clone();
        scan.columns = all.columns();
        let add = |kept: &mut Kept, batch: &RecordBatch, chosen: &BooleanBuffer, share: &Share| {
            let before = kept.seen.len();
            let rows = Rows::of(batch, &all);
            for row in chosen.set_indices() {
                if let Some(seen) = rows.row(row).filter(|seen| share.has(&seen.flow)) {
                    kept.seen.push(seen);
                    kept.without_direction += u64::from(rows.direction(row).is_none());
                }
            }
            kept.seen.len() - before
        };
        let (mut records, mut without_direction) = (Vec::new(), 0);
        let merge = |all: &mut Kept, more: Kept| {
            all.seen.extend(more.seen);
            all.without_direction += more.without_direction;
        };
        let take = |mut kept: Kept, _| {
            duplicates(&mut kept.seen, |seen| records.push(seen.record));
            without_direction += kept.without_direction;
        };
        in_parts(&scan, flows, add, merge, take);
        all.without_direction = without_direction;
        all.records.extend(records);
        all
    }

    /// Records that are left out.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether every record counts.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Records that do not say whether they were seen at ingress or at egress: those of one exporter are no duplicates of
    /// each other.
    pub fn without_direction(&self) -> u64 {
        self.without_direction
    }

    /// The columns that are read.
    pub(super) fn columns(&self) -> Vec<String> {
        let mut columns = flow::columns(true);
        columns.extend(["exporter", "direction", "icmp_type", "icmp_code"].map(String::from));
        columns
    }

    /// The rows that are no duplicates, of those that hold.
    pub(super) fn leave_out(&self, batch: &RecordBatch, holds: &BooleanBuffer) -> BooleanBuffer {
        if self.is_empty() {
            return holds.clone();
        }
        let rows = Rows::of(batch, self);
        let counts = |row: usize| rows.row(row).is_none_or(|seen| !self.records.contains(&seen.record));
        BooleanBuffer::collect_bool(holds.len(), |row| holds.value(row) && counts(row))
    }
}

impl PartialEq for Duplicates {
    fn eq(&self, other: &Self) -> bool {
        self.by == other.by && self.records == other.records
    }
}

/// The sightings of a batch.
struct Rows<'a> {
    flows: Flows<'a>,
    direction: Option<&'a UInt8Array>,
    // Type and code of ICMP, or both as a port.
    icmp: [Option<&'a UInt8Array>; 2],
    dst_port: Option<&'a UInt16Array>,
    exporters: Exporters<'a>,
    all: &'a Duplicates,
}

/// A number for each exporter, the same in all batches.
enum Exporters<'a> {
    Dictionary(&'a [i32], Vec<u64>),
    Plain(Vec<u64>),
    None,
}

impl<'a> Rows<'a> {
    fn of(batch: &'a RecordBatch, all: &'a Duplicates) -> Self {
        let exporters = batch.column_by_name("exporter").map_or(Exporters::None, |array| {
            let numbers = |array: &dyn Array| -> Vec<u64> {
                let number = |name: Option<&str>| foldhash::quality::FixedState::default().hash_one(name);
                array.as_string_opt::<i32>().map(|a| a.iter().map(number).collect()).unwrap_or_default()
            };
            match array.as_dictionary_opt::<Int32Type>() {
                Some(array) => Exporters::Dictionary(array.keys().values(), numbers(array.values())),
                None => Exporters::Plain(numbers(array)),
            }
        });
        let octet = |name: &str| batch.column_by_name(name).and_then(|a| a.as_primitive_opt::<UInt8Type>());
        let dst_port = batch.column_by_name("dst_port").and_then(|a| a.as_primitive_opt::<UInt16Type>());
        let (direction, icmp) = (octet("direction"), ["icmp_type", "icmp_code"].map(octet));
        Self { flows: Flows::of(batch, true), direction, icmp, dst_port, exporters, all }
    }

    fn direction(&self, row: usize) -> Option<u8> {
        self.direction.filter(|d| d.is_valid(row)).map(|d| d.value(row))
    }

    /// What takes the place of ports in ICMP: the type and, below it, the code.
    fn kind(&self, row: usize, proto: Option<u8>) -> Option<u16> {
        if !flow::is_icmp(proto) {
            return None;
        }
        let [kind, code] = self.icmp.map(|array| array.filter(|a| a.is_valid(row)).map(|a| a.value(row)));
        kind.map(|kind| u16::from(kind) << 8 | u16::from(code.unwrap_or(0)))
            .or_else(|| self.dst_port.filter(|p| p.is_valid(row)).map(|p| p.value(row)))
    }

    fn row(&self, row: usize) -> Option<Seen> {
        if self.flows.sums.is_total(row) {
            return None;
        }
        let Flow { src, dst, proto, start_us, end_us, sent, .. } = self.flows.row(row)?;
        let exporter = match &self.exporters {
            Exporters::Dictionary(keys, numbers) => {
                keys.get(row).and_then(|k| numbers.get(usize::try_from(*k).ok()?)).copied()
            }
            Exporters::Plain(numbers) => numbers.get(row).copied(),
            Exporters::None => None,
        };
        let direction = self.direction(row);
        let By { exporter: of_exporters, direction: of_directions } = self.all.by;
        let observer = (exporter.filter(|_| of_exporters), direction.filter(|_| of_directions));
        // Where exporters are not compared, each has flows of its own.
        let kind = self.kind(row, proto);
        let flow: (End, End, _, _, Option<u64>) = (src, dst, proto, kind, exporter.filter(|_| !of_exporters));
        let flow = self.all.hasher.hash_one(flow);
        let observer = foldhash::quality::FixedState::default().hash_one(observer);
        let record = self.all.hasher.hash_one((flow, observer, start_us, end_us));
        Some(Seen { flow, observer, record, start_us, end_us, bytes: sent.bytes })
    }
}

/// Gives those sightings to `take` that are not of the observer that counts.
fn duplicates(all: &mut [Seen], mut take: impl FnMut(&Seen)) {
    all.sort_unstable_by_key(|s| (s.flow, s.start_us, s.observer));
    let mut rest = &all[..];
    let mut observers: Vec<(u64, i64)> = Vec::new();
    while let Some(first) = rest.first() {
        let mut end = first.end_us;
        let more = rest.iter().skip(1).take_while(|s| {
            let same = s.flow == first.flow && s.start_us <= end.saturating_add(CLOCKS_US);
            end = end.max(s.end_us);
            same
        });
        let (these, others) = rest.split_at(1 + more.count());
        rest = others;
        if these.iter().all(|s| s.observer == first.observer) {
            continue;
        }
        observers.clear();
        for seen in these {
            match observers.iter_mut().find(|o| o.0 == seen.observer) {
                Some(observer) => observer.1 = observer.1.saturating_add(seen.bytes),
                None => observers.push((seen.observer, seen.bytes)),
            }
        }
        // The first of those with most.
        let most = observers.iter().map(|o| o.1).max();
        let counts = observers.iter().find(|o| Some(o.1) == most).map(|o| o.0);
        these.iter().filter(|s| Some(s.observer) != counts).for_each(&mut take);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(flow: u64, observer: u64, times: (i64, i64), bytes: i64) -> Seen {
        let (start_us, end_us) = (times.0 * 1_000_000, times.1 * 1_000_000);
        Seen { flow, observer, record: bytes.cast_unsigned(), start_us, end_us, bytes }
    }

    fn left_out(mut all: Vec<Seen>) -> Vec<u64> {
        let mut found = Vec::new();
        duplicates(&mut all, |s| found.push(s.record));
        found.sort_unstable();
        found
    }

    #[test]
    fn the_observer_of_most_bytes_counts() {
        // In parts at one, whole at the other, whose clock is a second ahead.
        let flow = vec![seen(1, 7, (0, 60), 500), seen(1, 7, (60, 90), 300), seen(1, 8, (1, 91), 700)];
        assert_eq!(left_out(flow), [700]);
        let flow = vec![seen(1, 7, (0, 60), 500), seen(1, 8, (1, 61), 700)];
        assert_eq!(left_out(flow), [500]);
    }

    #[test]
    fn what_does_not_overlap_is_another_flow() {
        let flows = vec![seen(1, 7, (0, 10), 1), seen(1, 8, (20, 30), 2), seen(2, 8, (0, 10), 3)];
        assert!(left_out(flows).is_empty());
    }
}
