//! What is summed of flows, and the metrics that follow from it.

use super::entry::Rows;
use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{
    Array, ArrowPrimitiveType, BooleanArray, Float64Array, Int64Array, PrimitiveArray, RecordBatch,
    TimestampMicrosecondArray,
};
use std::borrow::Cow;

/// What groups are ranked by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    /// Sum of `bytes`, forward only.
    Bytes,
    /// Sum of `packets`.
    Packets,
    /// Sum of `flows`: a record may stand for several.
    Flows,
    /// Bits a second, from the first start to the last end of the group's flows.
    Bps,
    /// Packets a second.
    Pps,
    /// Bytes a packet.
    Bpp,
}

impl Metric {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bytes => "bytes",
            Self::Packets => "packets",
            Self::Flows => "flows",
            Self::Bps => "bps",
            Self::Pps => "pps",
            Self::Bpp => "bpp",
        }
    }

    /// Whether the values of parts add up to that of the whole.
    pub const fn adds_up(self) -> bool {
        matches!(self, Self::Bytes | Self::Packets | Self::Flows)
    }
}

impl std::str::FromStr for Metric {
    type Err = &'static str;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Ok(match name {
            "bytes" => Self::Bytes,
            "packets" => Self::Packets,
            "flows" => Self::Flows,
            "bps" => Self::Bps,
            "pps" => Self::Pps,
            "bpp" => Self::Bpp,
            _ => return Err("there are bytes, packets, flows, bps, pps and bpp"),
        })
    }
}

/// Sums of some flows.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Row {
    /// Bytes.
    pub bytes: i128,
    /// Packets.
    pub packets: i128,
    /// Flows.
    pub flows: i128,
    /// The first start, microseconds since 1970; `i64::MAX` where none is known.
    pub start: i64,
    /// The last end; `i64::MIN` where none is known.
    pub end: i64,
}

impl Row {
    pub(super) const NONE: Self = Self { bytes: 0, packets: 0, flows: 0, start: i64::MAX, end: i64::MIN };

    pub(super) fn add(&mut self, other: &Self) {
        self.bytes += other.bytes;
        self.packets += other.packets;
        self.flows += other.flows;
        self.start = self.start.min(other.start);
        self.end = self.end.max(other.end);
    }

    /// The sum that a metric is made of.
    fn sum_of(&mut self, metric: Metric) -> &mut i128 {
        match metric {
            Metric::Packets | Metric::Pps => &mut self.packets,
            Metric::Flows => &mut self.flows,
            Metric::Bytes | Metric::Bps | Metric::Bpp => &mut self.bytes,
        }
    }

    /// With that sum alone.
    pub(super) fn of_measure(metric: Metric, sum: i128) -> Self {
        let mut row = Self::NONE;
        *row.sum_of(metric) = sum;
        row
    }

    /// Without it.
    pub(super) fn without(mut self, metric: Metric) -> Self {
        *self.sum_of(metric) = 0;
        self
    }

    /// With nothing but it.
    pub(super) fn only(mut self, metric: Metric) -> Self {
        Self::of_measure(metric, *self.sum_of(metric))
    }

    /// How long it took, seconds; 0 where it is not known.
    pub fn seconds(&self) -> f64 {
        if self.start <= self.end { (self.end - self.start) as f64 / 1e6 } else { 0.0 }
    }

    /// The value of a metric; rates of what took no time are 0.
    pub fn metric(&self, metric: Metric) -> f64 {
        let over = |a: f64, b: f64| if b > 0.0 { a / b } else { 0.0 };
        match metric {
            Metric::Bytes => float(self.bytes),
            Metric::Packets => float(self.packets),
            Metric::Flows => float(self.flows),
            Metric::Bps => over(self.bytes as f64 * 8.0, self.seconds()),
            Metric::Pps => over(self.packets as f64, self.seconds()),
            Metric::Bpp => over(self.bytes as f64, self.packets as f64),
        }
    }
}

/// Nearly every sum fits 64 bits, of which a machine makes a float by itself.
fn float(n: i128) -> f64 {
    i64::try_from(n).map_or_else(|_| n as f64, |n| n as f64)
}

/// The columns that are summed.
pub(super) struct Sums<'a> {
    bytes: Option<&'a Int64Array>,
    packets: Option<&'a Int64Array>,
    flows: Option<&'a Int64Array>,
    start: Option<&'a TimestampMicrosecondArray>,
    end: Option<&'a TimestampMicrosecondArray>,
    total: Option<&'a BooleanArray>,
    rate: Option<&'a Float64Array>,
    // Bytes and packets that came back, where they count.
    back: [Option<&'a Int64Array>; 2],
    scale: bool,
}

impl<'a> Sums<'a> {
    pub(super) fn of(batch: &'a RecordBatch, scale: bool) -> Self {
        let number = |name: &str| batch.column_by_name(name).and_then(|a| a.as_primitive_opt::<Int64Type>());
        let time =
            |name: &str| batch.column_by_name(name).and_then(|a| a.as_primitive_opt::<TimestampMicrosecondType>());
        let total = batch.column_by_name("counters_are_total").and_then(|a| a.as_boolean_opt());
        let rate = batch.column_by_name("sampling_rate").and_then(|a| a.as_primitive_opt::<Float64Type>());
        Self {
            bytes: number("bytes"),
            packets: number("packets"),
            flows: number("flows"),
            start: time("flow_start"),
            end: time("flow_end"),
            // Where no row is one, none is looked at.
            total: total.filter(|t| t.true_count() > 0),
            rate: rate.filter(|_| scale),
            back: [None; 2],
            scale,
        }
    }

    /// The same, where `both` is set with what came back.
    pub(super) fn and_back(self, batch: &'a RecordBatch, both: bool) -> Self {
        let number = |name: &str| batch.column_by_name(name).and_then(|a| a.as_primitive_opt::<Int64Type>());
        if both { Self { back: ["rev_bytes", "rev_packets"].map(number), ..self } } else { self }
    }

    /// The same, where `count` is set with running totals as the counters of flows.
    pub(super) fn counting_totals(self, count: bool) -> Self {
        Self { total: self.total.filter(|_| !count), ..self }
    }

    /// A counter of the row times its sampling rate.
    pub(super) fn scaled(&self, row: usize, n: i64) -> i128 {
        let rate = self.rate.filter(|r| r.is_valid(row)).map_or(1.0, |r| r.value(row));
        if rate == 1.0 { i128::from(n) } else { (n as f64 * rate).round() as i128 }
    }

    /// Whether the row is to be scaled, and has nothing to scale by.
    pub(super) fn lacks_rate(&self, row: usize) -> bool {
        self.scale && self.rate.is_none_or(|r| r.is_null(row))
    }

    /// Of some rows, how many that is so for.
    pub(super) fn lacking_rate(&self, rows: &Rows) -> u64 {
        if self.scale { rows.iter().filter(|row| self.lacks_rate(*row)).count() as u64 } else { 0 }
    }

    pub(super) fn has_totals(&self) -> bool {
        self.total.is_some()
    }

    /// Bytes, packets, flows, start and end of every row; what adds nothing where a row lacks one. Nothing for what is known.
    pub(super) fn columns(&self, rows: usize, known: Option<Metric>) -> [Cow<'a, [i64]>; 5] {
        let counter = |metric| if known == Some(metric) { Cow::Borrowed(&[][..]) } else { self.measure(metric, rows) };
        let [bytes, packets, flows] = [Metric::Bytes, Metric::Packets, Metric::Flows].map(counter);
        [bytes, packets, flows, column(self.start, rows, i64::MAX), column(self.end, rows, i64::MIN)]
    }

    /// The one of them that a metric adds up.
    pub(super) fn measure(&self, metric: Metric, rows: usize) -> Cow<'a, [i64]> {
        match metric {
            Metric::Packets | Metric::Pps => self.counter(self.packets, self.back[1], rows),
            Metric::Flows => column(self.flows, rows, 1),
            Metric::Bytes | Metric::Bps | Metric::Bpp => self.counter(self.bytes, self.back[0], rows),
        }
    }

    fn counter(&self, array: Option<&'a Int64Array>, back: Option<&'a Int64Array>, rows: usize) -> Cow<'a, [i64]> {
        let mut values = column(array, rows, 0);
        if let Some(back) = back.filter(|b| b.null_count() < b.len()) {
            for (value, back) in values.to_mut().iter_mut().zip(back) {
                *value = value.saturating_add(back.unwrap_or(0));
            }
        }
        if let Some(rates) = self.rate {
            for (value, rate) in values.to_mut().iter_mut().zip(rates) {
                // What is beyond 63 bits stays at their end.
                *value = rate.map_or(*value, |rate| (*value as f64 * rate).round() as i64);
            }
        }
        values
    }

    pub(super) fn is_total(&self, row: usize) -> bool {
        self.total.is_some_and(|t| t.value(row))
    }

    pub(super) fn row(&self, row: usize) -> Row {
        let number = |array: Option<&Int64Array>| array.filter(|a| a.is_valid(row)).map(|a| a.value(row));
        let time = |array: Option<&TimestampMicrosecondArray>| array.filter(|a| a.is_valid(row)).map(|a| a.value(row));
        let sum = |forth, back| number(forth).unwrap_or(0).saturating_add(number(back).unwrap_or(0));
        Row {
            bytes: self.scaled(row, sum(self.bytes, self.back[0])),
            packets: self.scaled(row, sum(self.packets, self.back[1])),
            flows: number(self.flows).unwrap_or(1).into(),
            start: time(self.start).unwrap_or(i64::MAX),
            end: time(self.end).unwrap_or(i64::MIN),
        }
    }
}

/// A value a row, `absent` where there is none.
fn column<'a, T: ArrowPrimitiveType<Native = i64>>(
    array: Option<&'a PrimitiveArray<T>>,
    rows: usize,
    absent: i64,
) -> Cow<'a, [i64]> {
    match array {
        None => Cow::Owned(vec![absent; rows]),
        Some(array) if array.null_count() == 0 => Cow::Borrowed(array.values()),
        Some(array) => Cow::Owned(array.iter().map(|v| v.unwrap_or(absent)).collect()),
    }
}
