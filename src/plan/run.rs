//! Runs a plan over the records of a set.

use super::{Convert, Op, Plan, SamplingOps, Source, TimeRule};
use crate::columns::derive::uptime_to_micros;
use crate::columns::gather::{Listed, Strided, scalar};
use crate::columns::{Batch, ColumnType, RunMeta, SamplingSource, Scratch, TimeSource};
use crate::template::Template;
use std::sync::Arc;

/// What a plan asks of the tables that options data and templates fill.
pub struct Lookups<'a> {
    /// The sampling rate of a sampler or selector id of this exporter and domain, and how it is known.
    pub rate: &'a dyn Fn(u64) -> Option<(f64, u8)>,
    /// The template of an id in this exporter's domain, for lists of templates' records (RFC 6313).
    pub template: &'a dyn Fn(u16) -> Option<Arc<Template>>,
}

impl Lookups<'_> {
    /// Tables that know nothing.
    pub const NONE: Lookups<'static> = Lookups { rate: &|_| None, template: &|_| None };
}

/// What running a plan came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ran {
    /// Records appended.
    pub records: usize,
    /// Bytes of the set that they took.
    pub consumed: usize,
    /// Whether the next record runs past the set: what is left is no padding.
    pub overrun: bool,
}

/// The records of a set and where their fields stand.
enum View<'b> {
    Strided(Strided<'b>),
    Listed { bytes: &'b [u8], at: &'b Scratch },
}

impl Plan {
    /// Appends the records at the start of `body` to `batch` as one run: all whole records, or as many as the batch
    /// has room for and `limit` allows. Call it again with the rest while `records` is not 0.
    pub fn run(&self, body: &[u8], limit: usize, meta: &RunMeta, lookups: &Lookups<'_>, batch: &mut Batch) -> Ran {
        let room = batch.room().min(limit);
        if self.segments.len() == 1 {
            let n = (body.len() / self.min_len).min(room);
            let Some(records) = body.get(..n * self.min_len).filter(|r| !r.is_empty()) else { return Ran::default() };
            batch.reserve(n);
            self.fill(&View::Strided(Strided::new(records, self.min_len)), n, meta, lookups, batch);
            return Ran { records: n, consumed: records.len(), overrun: false };
        }
        let mut at = std::mem::take(&mut batch.scratch);
        let ran = self.locate(body, room, &mut at);
        if ran.records > 0 {
            batch.reserve(ran.records);
            self.fill(&View::Listed { bytes: body, at: &at }, ran.records, meta, lookups, batch);
        }
        batch.scratch = at;
        ran
    }

    /// The offset pass: where the segments and the varying fields of each record start (RFC 7011 section 7).
    fn locate(&self, body: &[u8], room: usize, at: &mut Scratch) -> Ran {
        let varying = self.segments.len() - 1;
        at.starts.resize_with(varying + 1, Vec::new);
        at.fields.resize_with(varying, Vec::new);
        at.starts.iter_mut().for_each(Vec::clear);
        at.fields.iter_mut().for_each(Vec::clear);
        let mut ran = Ran::default();
        while ran.records < room && body.len() - ran.consumed >= self.min_len {
            let Some(end) = self.locate_one(body, ran.consumed, at) else {
                at.starts.iter_mut().for_each(|s| s.truncate(ran.records));
                at.fields.iter_mut().for_each(|f| f.truncate(ran.records));
                ran.overrun = true;
                break;
            };
            ran.consumed = end;
            ran.records += 1;
        }
        ran
    }

    #[inline]
    fn locate_one(&self, body: &[u8], mut pos: usize, at: &mut Scratch) -> Option<usize> {
        let (last, before) = self.segments.split_last()?;
        for ((&fixed, starts), fields) in before.iter().zip(&mut at.starts).zip(&mut at.fields) {
            starts.push(pos as u32);
            pos += fixed;
            let mut len = usize::from(*body.get(pos)?);
            pos += 1;
            if len == 255 {
                len = usize::from(u16::from_be_bytes(*body.get(pos..)?.first_chunk()?));
                pos += 2;
            }
            fields.push((pos as u32, len as u32));
            pos += len;
        }
        at.starts.last_mut()?.push(pos as u32);
        pos += last;
        (pos <= body.len()).then_some(pos)
    }

    fn fill(&self, view: &View<'_>, n: usize, meta: &RunMeta, lookups: &Lookups<'_>, batch: &mut Batch) {
        for op in &self.ops {
            op.run(view, n, meta, lookups, batch);
        }
        let mut meta = *meta;
        meta.time_source = match self.time {
            TimeRule::Always(code) => code,
            TimeRule::ByInitTime if meta.init_time_ms.is_some() => TimeSource::UptimeInitInOptions as u8,
            TimeRule::ByInitTime => TimeSource::UptimeNoBase as u8,
        };
        let first = batch.rows();
        batch.commit(n, &meta);
        if let Some(sampling) = &self.sampling {
            sampling.fill(first, &meta, lookups, batch);
        }
    }
}

/// Calls a kernel with the positions of a field in either kind of set.
macro_rules! kernel {
    ($view:expr, $segment:expr, $at:ident => $call:expr) => {
        match $view {
            View::Strided(records) => {
                let $at = *records;
                $call
            }
            View::Listed { bytes, at } => {
                let $at = Listed { bytes, starts: at.starts.get(usize::from($segment)).map_or(&[][..], |s| s) };
                $call
            }
        }
    };
}

impl Op {
    #[inline]
    fn run(&self, view: &View<'_>, n: usize, meta: &RunMeta, lookups: &Lookups<'_>, batch: &mut Batch) {
        let data_type = self.data_type;
        if let Source::Fixed { segment, rel, width } = self.source {
            let c = self.column;
            let done = match (self.convert, data_type) {
                (Convert::Unsigned, _) if width > 8 || width == 0 => {
                    return self.each_value(view, n, data_type, meta, lookups, batch);
                }
                (Convert::Unsigned, ColumnType::U8) => {
                    kernel!(view, segment, at => scalar::unsigned(at, rel, width, batch.next_rows::<u8>(c, n)))
                }
                (Convert::Unsigned, ColumnType::U16) => {
                    kernel!(view, segment, at => scalar::unsigned(at, rel, width, batch.next_rows::<u16>(c, n)))
                }
                (Convert::Unsigned, ColumnType::U32 | ColumnType::Ip4) => {
                    kernel!(view, segment, at => scalar::unsigned(at, rel, width, batch.next_rows::<u32>(c, n)))
                }
                (Convert::Unsigned, ColumnType::U64) => {
                    kernel!(view, segment, at => scalar::unsigned(at, rel, width, batch.next_rows::<u64>(c, n)))
                }
                (Convert::Unsigned, ColumnType::I64) => {
                    kernel!(view, segment, at => scalar::unsigned(at, rel, width, batch.next_rows::<i64>(c, n)))
                }
                (Convert::Uptime, ColumnType::Timestamp) => {
                    let (export, uptime) = (meta.export_time.as_micros(), meta.uptime_ms.unwrap_or(0));
                    let to = |v: u64| Some(uptime_to_micros(export, uptime, v as u32));
                    kernel!(view, segment, at => scalar::time(at, rel, width, batch.next_rows::<i64>(c, n), to))
                }
                (Convert::Time(kind), ColumnType::Timestamp) => {
                    let export = meta.export_time.as_micros();
                    let to = |v: u64| kind.to_micros(v, export);
                    kernel!(view, segment, at => scalar::time(at, rel, width, batch.next_rows::<i64>(c, n), to))
                }
                (Convert::Bytes, ColumnType::Ip6) if width == 16 => {
                    kernel!(view, segment, at => scalar::bytes(at, rel, batch.next_rows::<[u8; 16]>(c, n)));
                    true
                }
                (Convert::Bytes, ColumnType::Mac) if width == 6 => {
                    kernel!(view, segment, at => scalar::bytes(at, rel, batch.next_rows::<[u8; 6]>(c, n)));
                    true
                }
                (Convert::Signed, ColumnType::I64) => {
                    kernel!(view, segment, at => scalar::signed(at, rel, width, batch.next_rows::<i64>(c, n)));
                    true
                }
                (Convert::Float, ColumnType::F64) => {
                    kernel!(view, segment, at => scalar::float(at, rel, width, batch.next_rows::<f64>(c, n)));
                    true
                }
                _ => return self.each_value(view, n, data_type, meta, lookups, batch),
            };
            if done {
                return;
            }
        }
        // Some value does not fit, or lengths vary: row by row.
        self.each_value(view, n, data_type, meta, lookups, batch);
    }

    #[cold]
    fn each_value(
        &self,
        view: &View<'_>,
        n: usize,
        data_type: ColumnType,
        meta: &RunMeta,
        lookups: &Lookups<'_>,
        batch: &mut Batch,
    ) {
        let first = batch.rows();
        self.each_field(view, n, |i, bytes| {
            let row = first + i;
            let put = self.one(bytes, i, n, data_type, meta, lookups, batch);
            match put {
                Put::Value => {}
                Put::Absent => batch.set_valid(self.column, row, false),
                Put::Misfit => {
                    batch.set_valid(self.column, row, false);
                    batch.spill(row, self.field, bytes);
                }
            }
        });
    }

    fn each_field(&self, view: &View<'_>, n: usize, mut f: impl FnMut(usize, &[u8])) {
        use crate::columns::gather::Positions;
        match self.source {
            Source::Fixed { width: 0, .. } => (0..n).for_each(|i| f(i, &[])),
            Source::Fixed { segment, rel, width } => kernel!(view, segment, at => {
                at.fields(rel, width).take(n).enumerate().for_each(|(i, b)| f(i, b));
            }),
            Source::Varying(v) => {
                let View::Listed { bytes, at } = view else { return };
                for (i, &(start, len)) in at.fields.get(usize::from(v)).into_iter().flatten().enumerate() {
                    f(i, bytes.get(start as usize..(start + len) as usize).unwrap_or(&[]));
                }
            }
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the row-by-row path sees what a set's and a field's path see")]
    fn one(
        &self,
        b: &[u8],
        i: usize,
        n: usize,
        to: ColumnType,
        meta: &RunMeta,
        lookups: &Lookups<'_>,
        batch: &mut Batch,
    ) -> Put {
        let c = self.column;
        macro_rules! slot {
            ($t:ty, $v:expr) => {
                match ($v, batch.next_rows::<$t>(c, n).get_mut(i)) {
                    (Some(v), Some(slot)) => {
                        *slot = v;
                        Put::Value
                    }
                    _ => Put::Misfit,
                }
            };
        }
        let push = |batch: &mut Batch, value: &[u8]| {
            if let Some(column) = batch.var_mut(c) {
                column.push(value);
            }
        };
        match self.convert {
            Convert::Octets => {
                push(batch, b);
                return Put::Value;
            }
            Convert::Text => {
                let end = b.iter().rposition(|&x| x != 0).map_or(0, |p| p + 1);
                let text = std::str::from_utf8(&b[..end]);
                push(batch, text.map_or(&[][..], str::as_bytes));
                return if text.is_ok() { Put::Value } else { Put::Misfit };
            }
            Convert::List(data_type) => {
                let text = crate::value::list_json(data_type, b, meta.export_time.as_micros(), lookups.template);
                push(batch, text.as_deref().unwrap_or("").as_bytes());
                return if text.is_some() { Put::Value } else { Put::Misfit };
            }
            Convert::Boolean => {
                if let Some(bits) = batch.bits_mut(c) {
                    bits.extend(1, b == [1]);
                }
                return match b {
                    [] => Put::Absent,
                    [1 | 2] => Put::Value,
                    _ => Put::Misfit,
                };
            }
            _ if b.is_empty() => return Put::Absent,
            _ => {}
        }
        let (high, low) = b.split_at(b.len().saturating_sub(8));
        let number = low.iter().fold(0u64, |v, &x| v << 8 | u64::from(x));
        let number = high.iter().all(|&x| x == 0).then_some(number);
        match (self.convert, to) {
            (Convert::Unsigned, ColumnType::U8) => slot!(u8, number.and_then(|v| v.try_into().ok())),
            (Convert::Unsigned, ColumnType::U16) => slot!(u16, number.and_then(|v| v.try_into().ok())),
            (Convert::Unsigned, ColumnType::Ip4) if b.len() != 4 => Put::Misfit,
            (Convert::Unsigned, ColumnType::U32 | ColumnType::Ip4) => {
                slot!(u32, number.and_then(|v| v.try_into().ok()))
            }
            (Convert::Unsigned, ColumnType::U64) => slot!(u64, number),
            (Convert::Unsigned, ColumnType::I64) => slot!(i64, number.and_then(|v| v.try_into().ok())),
            (Convert::Time(kind), ColumnType::Timestamp) if kind.takes(b.len()) => {
                slot!(i64, number.and_then(|v| kind.to_micros(v, meta.export_time.as_micros())))
            }
            (Convert::Bytes, ColumnType::Ip6) => slot!([u8; 16], b.try_into().ok()),
            (Convert::Bytes, ColumnType::Mac) => slot!([u8; 6], b.try_into().ok()),
            (Convert::Float, ColumnType::F64) => slot!(
                f64,
                match b.len() {
                    4 => b.first_chunk().map(|x| f64::from(f32::from_be_bytes(*x))),
                    8 => b.first_chunk().map(|x| f64::from_be_bytes(*x)),
                    _ => None,
                }
            ),
            (Convert::Signed, ColumnType::I64) if b.len() <= 8 => {
                let shift = 64 - 8 * b.len() as u32;
                slot!(i64, number.map(|v| (v << shift).cast_signed() >> shift))
            }
            _ => Put::Misfit,
        }
    }
}

/// What became of a value.
enum Put {
    Value,
    Absent,
    Misfit,
}

impl SamplingOps {
    /// A record's own rate, else that of its sampler, else the run's.
    fn fill(&self, first: usize, meta: &RunMeta, lookups: &Lookups<'_>, batch: &mut Batch) {
        let mut last: Option<(u64, Option<(f64, u8)>)> = None;
        for row in first..batch.rows() {
            let at = |c: Option<u16>| c.and_then(|c| batch.uint_at(c, row)).map(|v| v as f64);
            let pair = |c: Option<(u16, u16)>| c.and_then(|(a, b)| Some((at(Some(a))?, at(Some(b))?)));
            let known = |r: Option<f64>| r.filter(|r| r.is_finite() && *r > 0.0);
            let probability = self.probability.and_then(|c| batch.slots::<f64>(c).get(row).copied());
            let own = known(at(self.interval))
                .or_else(|| known(at(self.random)))
                .or_else(|| known(pair(self.packets).map(|(sampled, space)| (sampled + space) / sampled)))
                .or_else(|| known(pair(self.population).map(|(size, population)| population / size)))
                .or_else(|| known(probability.map(|p| 1.0 / p)));
            let sampler = self.sampler.and_then(|c| batch.uint_at(c, row));
            let mut rate = own.map(|r| (r, SamplingSource::Record as u8));
            if let (None, Some(id)) = (rate, sampler) {
                rate = match last {
                    Some((known, rate)) if known == id => rate,
                    _ => (lookups.rate)(id),
                };
                last = Some((id, rate));
            }
            let run = (!meta.sampling_rate.is_nan()).then_some((meta.sampling_rate, meta.sampling_source));
            let rate = rate.or(run);
            if let Some(slot) = batch.slots_mut::<f64>(self.rate).get_mut(row) {
                *slot = rate.map_or(f64::NAN, |r| r.0);
            }
            if let Some(slot) = batch.slots_mut::<u8>(self.source).get_mut(row) {
                *slot = rate.map_or(0, |r| r.1);
            }
            batch.set_valid(self.rate, row, rate.is_some());
        }
    }
}
