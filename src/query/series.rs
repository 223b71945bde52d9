//! Traffic over time: sums of intervals, in total and of the greatest groups.

use super::key::{self, Keys};
use super::scan::{Scan, ScanStats};
use super::sums::{Metric, Row, Sums};
use super::top::{Options as TopOptions, Top};
use super::value::columns_of;
use arrow_array::cast::AsArray;
use arrow_array::types::TimestampMicrosecondType;
use arrow_array::{Array, RecordBatch, TimestampMicrosecondArray};
use arrow_buffer::BooleanBuffer;
use std::collections::HashMap;

/// Where on the time axis a flow counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum At {
    /// Evenly from its start to its end, to the unit: the parts of a flow add up to it. Its `flows` count where it
    /// starts.
    #[default]
    Spread,
    /// Whole where it ends.
    End,
    /// Whole where its message was received.
    Received,
}

impl std::str::FromStr for At {
    type Err = &'static str;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Ok(match name {
            "spread" => Self::Spread,
            "end" => Self::End,
            "received" => Self::Received,
            _ => return Err("there are spread, end and received"),
        })
    }
}

/// What is summed over time, and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// Microseconds of an interval; intervals begin at multiples of it since 1970, UTC. Less than 1 is taken as 1.
    pub interval_us: i64,
    /// Where flows count.
    pub at: At,
    /// Columns to group by, as those of [`Top`]; none for the total alone.
    pub keys: Vec<String>,
    /// Whether counters are multiplied by the sampling rate, where it is known.
    pub scale: bool,
    /// Whether what came back counts too, where a record tells of both directions.
    pub both: bool,
    /// Whether running totals count as a flow's counters, which they are where an exporter sends one record a flow.
    pub totals: bool,
    /// Intervals of an answer at most. Where flows lie further apart, the stretch with most of them is shown, and what
    /// is outside is summed apart: exporters' clocks can be anywhere.
    pub intervals: usize,
}

impl Default for Options {
    /// The total by the minute, spread.
    fn default() -> Self {
        Self {
            interval_us: 60_000_000,
            at: At::Spread,
            keys: Vec::new(),
            scale: false,
            both: false,
            totals: false,
            intervals: 100_000,
        }
    }
}

/// What flows came to in an interval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Point {
    /// Bytes, forward only.
    pub bytes: i128,
    /// Packets.
    pub packets: i128,
    /// Flows.
    pub flows: i128,
}

impl Point {
    /// The value of a metric in an interval of so many microseconds.
    pub fn metric(&self, metric: Metric, interval_us: i64) -> f64 {
        let row = Row { bytes: self.bytes, packets: self.packets, flows: self.flows, start: 0, end: interval_us };
        row.metric(metric)
    }

    fn add(&mut self, other: &Self) {
        self.bytes += other.bytes;
        self.packets += other.packets;
        self.flows += other.flows;
    }
}

/// A series: a point for every interval, those without flows too.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Line {
    /// The text of the group's keys; empty for the total and the others.
    pub keys: Vec<String>,
    /// As many as [`Timeline::len`].
    pub points: Vec<Point>,
    interval_us: i64,
}

impl Line {
    /// The values of a metric.
    pub fn values(&self, metric: Metric) -> impl Iterator<Item = f64> + '_ {
        self.points.iter().map(move |p| p.metric(metric, self.interval_us))
    }

    /// The sum of all intervals.
    pub fn sum(&self) -> Point {
        let mut sum = Point::default();
        self.points.iter().for_each(|p| sum.add(p));
        sum
    }

    /// The metric over the whole time: a mean where it is a rate.
    pub fn over_all(&self, metric: Metric) -> f64 {
        let intervals = i64::try_from(self.points.len()).unwrap_or(i64::MAX);
        self.sum().metric(metric, self.interval_us.saturating_mul(intervals))
    }

    /// The value that 95 of 100 intervals do not exceed, by nearest rank; 0 of none.
    pub fn p95(&self, metric: Metric) -> f64 {
        let mut values: Vec<f64> = self.values(metric).collect();
        values.sort_unstable_by(f64::total_cmp);
        let rank = (values.len() * 95).div_ceil(100);
        values.get(rank.saturating_sub(1)).copied().unwrap_or(0.0)
    }

    /// The greatest value; 0 of none.
    pub fn max(&self, metric: Metric) -> f64 {
        self.values(metric).fold(0.0, f64::max)
    }
}

/// An answer: series side by side.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Timeline {
    /// Where the first interval begins, microseconds since 1970.
    pub first_us: i64,
    /// Microseconds of an interval.
    pub interval_us: i64,
    /// Every flow once, whatever the keys.
    pub total: Line,
    /// The groups, the greatest first.
    pub groups: Vec<Line>,
    /// Flows of none of the groups; `None` where there are no keys or no such flows.
    pub others: Option<Line>,
    /// What lies too far from the rest to be shown, once.
    pub outside: Point,
    /// Records that are summed.
    pub rows: u64,
    /// Of those, the ones without the time that was asked for, placed where they were received.
    pub untimed: u64,
    /// Of those, the ones without a sampling rate, where it was to be scaled by.
    pub unscaled: u64,
    /// Records whose counters are running totals, and are not summed.
    pub totals: u64,
    /// Why the greatest groups may be others: those that memory had no room for could not be kept in a file.
    pub failed: Option<String>,
    /// The sums of those, at no time.
    pub running: Point,
}

impl Timeline {
    /// Intervals.
    pub fn len(&self) -> usize {
        self.total.points.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.total.points.is_empty()
    }

    /// Where an interval begins, microseconds since 1970.
    pub fn time_us(&self, interval: usize) -> i64 {
        self.first_us.saturating_add(self.interval_us.saturating_mul(i64::try_from(interval).unwrap_or(i64::MAX)))
    }
}

/// Reads flows into series: the total, and the `n` greatest groups by a metric of the whole time.
///
/// With keys it scans twice, first for the greatest groups, then for their series, so that memory is that of
/// [`Top`] with at most `groups` groups in memory and not that of every group's series. The statistics are those of the last scan.
pub fn series(scan: &Scan, options: &Options, metric: Metric, n: usize, groups: usize) -> (Timeline, ScanStats) {
    let mut scan = scan.clone();
    let mut chosen = Vec::new();
    let mut failed = None;
    if !options.keys.is_empty() {
        let empty = Top::new(TopOptions {
            keys: options.keys.clone(),
            scale: options.scale,
            both: options.both,
            totals: options.totals,
            groups,
        });
        // All groups have the same time: the greatest rates over it are the greatest sums.
        let rank = match metric {
            Metric::Bps => Metric::Bytes,
            Metric::Pps => Metric::Packets,
            other => other,
        };
        let empty = if rank.adds_up() { empty.to_rank(rank) } else { empty };
        let mut all = empty.another();
        scan.columns = all.columns();
        let add = |top: &mut Top, batch: &RecordBatch, rows: &BooleanBuffer| {
            top.add(batch, rows);
            true
        };
        scan.run(|| empty.another(), add, |part| all.merge(part));
        chosen = all.greatest(rank, n);
        failed = all.failed().map(ToString::to_string);
    }
    let mut all = Series::of_groups(options.clone(), chosen.clone());
    scan.columns = all.columns();
    let add = |series: &mut Series, batch: &RecordBatch, rows: &BooleanBuffer| {
        series.add(batch, rows);
        true
    };
    let stats = scan.run(|| Series::of_groups(options.clone(), chosen.clone()), add, |part| all.merge(part));
    (Timeline { failed, ..all.finish() }, stats)
}

/// Intervals that may be kept before it is known which will be shown.
const KEPT: usize = 1 << 20;

type Points = HashMap<i64, Point, foldhash::fast::RandomState>;

/// Sums by interval, of batches one after the other.
pub struct Series {
    options: Options,
    keys: Vec<Vec<String>>,
    places: HashMap<Box<[u8]>, usize, foldhash::fast::RandomState>,
    chosen: Vec<Box<[u8]>>,
    total: Points,
    groups: Vec<Points>,
    others: Points,
    answer: Timeline,
}

impl Series {
    /// The total alone.
    pub fn new(options: Options) -> Self {
        Self::of_groups(Options { keys: Vec::new(), ..options }, Vec::new())
    }

    /// The total, and that of groups by their keys.
    pub(super) fn of_groups(mut options: Options, chosen: Vec<Box<[u8]>>) -> Self {
        options.interval_us = options.interval_us.max(1);
        let keys = options.keys.iter().map(|k| key::directions(k)).collect();
        let places = chosen.iter().enumerate().map(|(i, key)| (key.clone(), i)).collect();
        let groups = chosen.iter().map(|_| Points::default()).collect();
        let answer = Timeline { interval_us: options.interval_us, ..Timeline::default() };
        let (total, others) = (Points::default(), Points::default());
        Self { options, keys, places, chosen, total, groups, others, answer }
    }

    /// The columns that are read.
    pub fn columns(&self) -> Vec<String> {
        let times: &[&str] = match self.options.at {
            At::Spread => &["flow_start", "flow_end", "time_received"],
            At::End => &["flow_end", "time_received"],
            At::Received => &["time_received"],
        };
        let sums = ["bytes", "packets", "flows", "counters_are_total"];
        let rate = self.options.scale.then_some("sampling_rate");
        let back = if self.options.both { &["rev_bytes", "rev_packets"][..] } else { &[] };
        let names = times.iter().copied().chain(sums).chain(rate).chain(back.iter().copied()).map(String::from);
        self.keys.iter().flatten().flat_map(|k| columns_of(k)).chain(names).collect()
    }

    /// Adds the chosen rows of a batch.
    pub fn add(&mut self, batch: &RecordBatch, chosen: &BooleanBuffer) {
        let sums = Sums::of(batch, self.options.scale).and_back(batch, self.options.both);
        let sums = sums.counting_totals(self.options.totals);
        let times = Times::of(batch, self.options.at);
        let mut keys = Keys::of(batch, &self.keys);
        let interval = self.options.interval_us;
        let mut places: Vec<usize> = Vec::new();
        for row in chosen.set_indices() {
            let sum = sums.row(row);
            let flow = Point { bytes: sum.bytes, packets: sum.packets, flows: sum.flows };
            if sums.is_total(row) {
                self.answer.totals += 1;
                self.answer.running.add(&flow);
                continue;
            }
            self.answer.rows += 1;
            self.answer.unscaled += u64::from(sums.lacks_rate(row));
            let (start, end) = times.of_row(row).unwrap_or_else(|| {
                self.answer.untimed += 1;
                let received = times.received(row);
                (received, received)
            });
            // An end is the first instant that the flow did not last to.
            let within = if end > start { end - 1 } else { start };
            let (first, last) = (start.div_euclid(interval), within.div_euclid(interval));
            let long = i128::from(last) - i128::from(first) >= self.options.intervals as i128;
            let full = self.total.len() >= KEPT && !(first..=last).all(|i| self.total.contains_key(&i));
            if long || full {
                self.answer.outside.add(&flow);
                continue;
            }
            places.clear();
            if !self.keys.is_empty() {
                keys.each(row, |key| places.extend(self.places.get(key)));
            }
            let mut put = |at: i64, part: &Point| {
                self.total.entry(at).or_default().add(part);
                for place in &places {
                    if let Some(points) = self.groups.get_mut(*place) {
                        points.entry(at).or_default().add(part);
                    }
                }
                if places.is_empty() && !self.keys.is_empty() {
                    self.others.entry(at).or_default().add(part);
                }
            };
            if first == last {
                put(first, &flow);
                continue;
            }
            // What has gone by at the end of an interval, rounded down, less what had gone by before: no unit is lost.
            let (start, end) = (i128::from(start), i128::from(end));
            let (mut bytes, mut packets) = (0, 0);
            for at in first..=last {
                let gone = ((i128::from(at) + 1) * i128::from(interval)).min(end) - start;
                let share = |n: i128| if at == last { n } else { n * gone / (end - start) };
                let (by_then, packets_by_then) = (share(flow.bytes), share(flow.packets));
                let flows = if at == first { flow.flows } else { 0 };
                put(at, &Point { bytes: by_then - bytes, packets: packets_by_then - packets, flows });
                (bytes, packets) = (by_then, packets_by_then);
            }
        }
    }

    /// Adds what another thread summed.
    pub fn merge(&mut self, other: Self) {
        let own = [&mut self.total, &mut self.others].into_iter().chain(&mut self.groups);
        for (own, other) in own.zip([other.total, other.others].into_iter().chain(other.groups)) {
            for (at, point) in other {
                own.entry(at).or_default().add(&point);
            }
        }
        self.answer.outside.add(&other.answer.outside);
        self.answer.rows += other.answer.rows;
        self.answer.untimed += other.answer.untimed;
        self.answer.unscaled += other.answer.unscaled;
        self.answer.totals += other.answer.totals;
        self.answer.running.add(&other.answer.running);
    }

    /// The answer.
    pub fn finish(self) -> Timeline {
        let mut answer = self.answer;
        let (first, last) = stretch(&self.total, self.options.intervals.max(1));
        for (at, point) in &self.total {
            if !(first..=last).contains(at) {
                answer.outside.add(point);
            }
        }
        let interval_us = self.options.interval_us;
        let line = |keys: Vec<String>, points: &Points| Line {
            keys,
            points: (first..=last).map(|at| points.get(&at).copied().unwrap_or_default()).collect(),
            interval_us,
        };
        answer.first_us = first.saturating_mul(interval_us);
        answer.total = line(Vec::new(), &self.total);
        answer.groups = self.chosen.iter().zip(&self.groups).map(|(key, p)| line(key::texts(key), p)).collect();
        answer.others = (!self.others.is_empty()).then(|| line(Vec::new(), &self.others));
        answer
    }
}

/// The first and the last interval of at most so many with most flows; the last is before the first where there is none.
fn stretch(points: &Points, intervals: usize) -> (i64, i64) {
    let mut all: Vec<(i64, i128)> = points.iter().map(|(at, p)| (*at, p.flows.max(0))).collect();
    all.sort_unstable();
    let longest = i64::try_from(intervals).unwrap_or(i64::MAX);
    let (mut best, mut sum, mut most) = ((0, -1), 0, -1);
    let mut from = 0;
    for to in 0..all.len() {
        sum += all[to].1;
        while all[to].0.saturating_sub(all[from].0) >= longest {
            sum -= all[from].1;
            from += 1;
        }
        if sum > most {
            (best, most) = ((all[from].0, all[to].0), sum);
        } else if best.0 == all[from].0 {
            best.1 = all[to].0;
        }
    }
    best
}

/// When flows were.
struct Times<'a> {
    at: At,
    start: Option<&'a TimestampMicrosecondArray>,
    end: Option<&'a TimestampMicrosecondArray>,
    received: Option<&'a TimestampMicrosecondArray>,
}

impl<'a> Times<'a> {
    fn of(batch: &'a RecordBatch, at: At) -> Self {
        let time =
            |name: &str| batch.column_by_name(name).and_then(|a| a.as_primitive_opt::<TimestampMicrosecondType>());
        Self { at, start: time("flow_start"), end: time("flow_end"), received: time("time_received") }
    }

    /// From when to when it counts; the end where the start is not known or after it.
    fn of_row(&self, row: usize) -> Option<(i64, i64)> {
        let time = |array: Option<&TimestampMicrosecondArray>| array.filter(|a| a.is_valid(row)).map(|a| a.value(row));
        match self.at {
            At::Received => Some((self.received(row), self.received(row))),
            At::End => time(self.end).map(|end| (end, end)),
            At::Spread => match (time(self.start), time(self.end)) {
                (Some(start), Some(end)) if start <= end => Some((start, end)),
                (start, end) => end.or(start).map(|t| (t, t)),
            },
        }
    }

    fn received(&self, row: usize) -> i64 {
        self.received.map_or(0, |a| a.value(row))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::{ArrayRef, Int64Array};
    use std::sync::Arc;

    /// Start, end, received, bytes; seconds.
    type Flow = (Option<i64>, Option<i64>, i64, i64);

    fn batch(flows: &[Flow]) -> RecordBatch {
        let times = |of: fn(&Flow) -> Option<i64>| -> ArrayRef {
            let us = flows.iter().map(|f| of(f).map(|s| s.saturating_mul(1_000_000)));
            Arc::new(TimestampMicrosecondArray::from_iter(us).with_timezone("UTC"))
        };
        let columns: [(&str, ArrayRef); 4] = [
            ("flow_start", times(|f| f.0)),
            ("flow_end", times(|f| f.1)),
            ("time_received", times(|f| Some(f.2))),
            ("bytes", Arc::new(Int64Array::from_iter_values(flows.iter().map(|f| f.3)))),
        ];
        RecordBatch::try_from_iter(columns).expect("a batch")
    }

    fn bytes(at: At, interval_s: i64, flows: &[Flow]) -> (Timeline, Vec<i128>) {
        let options = Options { interval_us: interval_s * 1_000_000, at, intervals: 100, ..Options::default() };
        // Two halves, as of two threads.
        let (mut all, mut other) = (Series::new(options.clone()), Series::new(options));
        let (a, b) = flows.split_at(flows.len() / 2);
        all.add(&batch(a), &BooleanBuffer::new_set(a.len()));
        other.add(&batch(b), &BooleanBuffer::new_set(b.len()));
        all.merge(other);
        let answer = all.finish();
        let bytes = answer.total.points.iter().map(|p| p.bytes).collect();
        (answer, bytes)
    }

    #[test]
    fn a_flow_counts_where_it_was() {
        let flow = [(Some(50), Some(130), 200, 1000)];
        let (answer, found) = bytes(At::Spread, 60, &flow);
        assert_eq!((answer.first_us, &found[..]), (0, &[125, 750, 125][..]));
        assert_eq!(answer.total.points.iter().map(|p| p.flows).collect::<Vec<_>>(), [1, 0, 0]);
        let (answer, found) = bytes(At::End, 60, &flow);
        assert_eq!((answer.first_us, &found[..]), (120_000_000, &[1000][..]));
        assert_eq!(bytes(At::Received, 60, &flow).0.first_us, 180_000_000);
        // Without an end at its start, without both where it was received; backwards at its end.
        let odd = [(Some(70), None, 200, 1), (None, None, 200, 2), (Some(100), Some(10), 200, 4)];
        let (answer, found) = bytes(At::Spread, 60, &odd);
        assert_eq!((answer.untimed, &found[..]), (1, &[4, 1, 0, 2][..]));
        assert_eq!(answer.time_us(3), 180_000_000);
    }

    #[test]
    fn a_flow_that_ends_at_an_edge_is_not_in_the_next_interval() {
        let flows = [(Some(0), Some(60), 200, 600), (Some(60), Some(120), 200, 600)];
        assert_eq!(bytes(At::Spread, 60, &flows).1, [600, 600]);
        // What took no time is where it was.
        assert_eq!(bytes(At::Spread, 60, &[(Some(60), Some(60), 200, 5)]).0.first_us, 60_000_000);
    }

    #[test]
    fn no_unit_is_lost_by_spreading() {
        let mut seed = 7u64;
        let mut next = |n: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) as i64 % n as i64
        };
        let flows: Vec<_> = (0..500)
            .map(|_| {
                let start = 10_000 + next(600);
                (Some(start), Some(start + next(300)), 11_000, next(1_000_000))
            })
            .collect();
        let (answer, found) = bytes(At::Spread, 17, &flows);
        assert_eq!(found.iter().sum::<i128>(), flows.iter().map(|f| i128::from(f.3)).sum());
        assert_eq!((answer.outside, answer.rows), (Point::default(), 500));
        // Each interval has what the overlap says, to a unit a flow.
        for (i, bytes) in found.iter().enumerate() {
            let from = answer.time_us(i) / 1_000_000;
            let exact: f64 = flows
                .iter()
                .map(|f| {
                    let (start, end) = (f.0.expect("a start"), f.1.expect("an end"));
                    let overlap = (end.min(from + 17) - start.max(from)).max(0) as f64;
                    match end - start {
                        0 => f64::from(u8::from((from..from + 17).contains(&start))) * f.3 as f64,
                        whole => f.3 as f64 * overlap / whole as f64,
                    }
                })
                .sum();
            assert!((exact - *bytes as f64).abs() <= 500.0, "{i}: {exact} {bytes}");
        }
    }

    #[test]
    fn clocks_that_are_wrong_do_not_stretch_it() {
        let flows = [
            (Some(0), Some(1), 90_000, 3),
            (Some(89_000), Some(89_001), 90_000, 5),
            (Some(89_950), Some(89_960), 90_000, 7),
            (Some(1), Some(90_000), 90_000, 11),
            (Some(i64::MIN), Some(i64::MAX), 90_000, 13),
            (Some(i64::MAX), Some(i64::MAX), 90_000, 17),
        ];
        let (answer, found) = bytes(At::Spread, 60, &flows);
        assert_eq!(answer.len(), 17);
        assert_eq!((found.first(), found.last(), answer.outside.bytes), (Some(&5), Some(&7), 44));
        assert!(bytes(At::Spread, 60, &[]).0.is_empty());
    }

    #[test]
    fn p95_is_the_nearest_rank() {
        let points = (1..=100).map(|n| Point { bytes: n * 60, packets: n, flows: 1 }).collect();
        let line = Line { keys: Vec::new(), points, interval_us: 60_000_000 };
        assert_eq!((line.p95(Metric::Packets), line.max(Metric::Packets)), (95.0, 100.0));
        assert_eq!((line.p95(Metric::Bps), line.over_all(Metric::Bps)), (760.0, 404.0));
        assert_eq!(line.sum(), Point { bytes: 303_000, packets: 5050, flows: 100 });
        assert_eq!(Line::default().p95(Metric::Bytes), 0.0);
    }
}
