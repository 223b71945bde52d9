//! Runs a plan over the records of a set.

use super::{Convert, Group, Op, Plan, SamplingOps, Source, TimeRule};
use crate::columns::derive::uptime_to_micros;
use crate::columns::gather::window::{At, Clock, Rows};
use crate::columns::gather::{Listed, Strided, scalar};
use crate::columns::{Batch, ColumnType, RunMeta, SamplingSource, Scratch, TimeSource};
use crate::template::Template;
use std::sync::Arc;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// What a plan asks of the tables that options data and templates fill.
pub trait Lookups {
    /// The sampling rate of a sampler or selector id of this exporter and domain, and how it is known.
    fn rate(&self, sampler: u64) -> Option<(f64, SamplingSource)>;

    /// The template of an id in this exporter's domain, for lists of templates' records (RFC 6313).
    fn template(&self, id: u16) -> Option<Arc<Template>>;
}

/// Tables that know nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoLookups;

impl Lookups for NoLookups {
    fn rate(&self, _: u64) -> Option<(f64, SamplingSource)> {
        None
    }

    fn template(&self, _: u16) -> Option<Arc<Template>> {
        None
    }
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

/// Records of a set and where their fields stand.
#[derive(Clone, Copy)]
struct View<'b> {
    // The place of the first record among the rows that the run appends.
    from: usize,
    n: usize,
    records: Records<'b>,
}

#[derive(Clone, Copy)]
enum Records<'b> {
    Strided(Strided<'b>),
    Listed { bytes: &'b [u8], at: &'b Scratch },
}

impl<'b> View<'b> {
    /// The records from `skip` on.
    fn rest(self, skip: usize) -> Self {
        Self { from: self.from + skip, n: self.n.saturating_sub(skip), ..self }
    }

    /// The first `n` records.
    fn first(self, n: usize) -> Self {
        Self { n: self.n.min(n), ..self }
    }

    /// The rows that the records become, of a fixed column.
    #[inline]
    fn slots<'a, T: FromBytes + IntoBytes + Immutable + KnownLayout>(
        &self,
        batch: &'a mut Batch,
        column: u16,
    ) -> &'a mut [T] {
        batch.next_rows::<T>(column, self.from + self.n).get_mut(self.from..).unwrap_or(&mut [])
    }

    /// The segment's start in each record.
    fn starts(&self, at: &'b Scratch, segment: u16) -> &'b [u32] {
        let starts = at.starts.get(usize::from(segment)).and_then(|s| s.get(self.from..self.from + self.n));
        starts.unwrap_or(&[])
    }
}

impl Plan {
    /// Appends the records at the start of `body` to `batch` as one run: all whole records, or as many as the batch
    /// has room for and `limit` allows. Call it again with the rest while `records` is not 0.
    #[inline(never)]
    pub fn run(&self, body: &[u8], limit: usize, meta: &RunMeta, lookups: &dyn Lookups, batch: &mut Batch) -> Ran {
        let ran = self.find(body, batch.room().min(limit), batch);
        if ran.records > 0 {
            if let Some(run) = batch.begin(ran.records, meta) {
                run.time_source = self.time_source(meta);
            }
            self.run_found(body, ran, meta, lookups, batch);
        }
        ran
    }

    /// Where the times of records without a column of their own for it come from.
    #[inline(always)]
    pub(crate) fn time_source(&self, meta: &RunMeta) -> u8 {
        match self.time {
            TimeRule::Always(code) => code,
            TimeRule::ByInitTime if meta.init_time_ms.is_some() => TimeSource::UptimeInitInOptions as u8,
            TimeRule::ByInitTime => TimeSource::UptimeNoBase as u8,
        }
    }

    /// Finds the first records of `body`, at most `most`; where they vary in length the batch notes their places.
    #[inline(always)]
    pub(crate) fn find(&self, body: &[u8], most: usize, batch: &mut Batch) -> Ran {
        if self.segments.len() != 1 {
            return self.locate(body, most, &mut batch.scratch);
        }
        let records = self.count(body.len()).min(most);
        Ran { records, consumed: records * self.min_len, overrun: false }
    }

    /// Appends the records that [`find`](Self::find) just found, of which there are some and for which there is room, to
    /// the run that was begun for them.
    #[inline(always)]
    pub(crate) fn run_found(&self, body: &[u8], ran: Ran, meta: &RunMeta, lookups: &dyn Lookups, batch: &mut Batch) {
        let Some(bytes) = body.get(..ran.consumed) else { return };
        batch.reserve(ran.records);
        if self.segments.len() == 1 {
            let records = Records::Strided(Strided::new(bytes, self.min_len));
            self.fill(View { from: 0, n: ran.records, records }, meta, lookups, batch);
        } else {
            self.run_located(body, ran.records, meta, lookups, batch);
        }
    }

    #[inline(never)]
    fn run_located(&self, body: &[u8], n: usize, meta: &RunMeta, lookups: &dyn Lookups, batch: &mut Batch) {
        let at = std::mem::take(&mut batch.scratch);
        let records = Records::Listed { bytes: body, at: &at };
        self.fill(View { from: 0, n, records }, meta, lookups, batch);
        batch.scratch = at;
    }

    /// The offset pass: where the segments and the varying fields of each record start (RFC 7011 section 7).
    #[inline(never)]
    fn locate(&self, body: &[u8], room: usize, at: &mut Scratch) -> Ran {
        let varying = self.segments.len() - 1;
        // Records of which the last one overruns have a place too.
        let most = (body.len() / self.min_len).min(room);
        at.starts.resize_with(at.starts.len().max(varying + 1), Vec::new);
        at.fields.resize_with(at.fields.len().max(varying), Vec::new);
        at.starts.iter_mut().for_each(|s| s.resize(s.len().max(most), 0));
        at.fields.iter_mut().for_each(|f| f.resize(f.len().max(most), (0, 0)));
        let ran = match varying {
            1 => self.locate_all::<1>(body, most, at),
            2 => self.locate_all::<2>(body, most, at),
            3 => self.locate_all::<3>(body, most, at),
            _ => self.locate_many(body, most, at),
        };
        ran.unwrap_or_default()
    }

    /// The pass over at most `most` records, of which each has `N` varying fields.
    fn locate_all<const N: usize>(&self, body: &[u8], most: usize, at: &mut Scratch) -> Option<Ran> {
        let (before, last) = (*self.segments.first_chunk::<N>()?, *self.segments.get(N)?);
        // Of one length, which the compiler knows: no place is looked for.
        let (starts, rest) = at.starts.split_first_chunk_mut::<N>()?;
        let mut starts = starts.each_mut().map(|s| s.get_mut(..most).unwrap_or(&mut []));
        let mut fields = at.fields.first_chunk_mut::<N>()?.each_mut().map(|f| f.get_mut(..most).unwrap_or(&mut []));
        let ends = rest.first_mut()?.get_mut(..most)?;
        // What a length waits for is the one before it: nothing is added in between.
        let tails = before.map(|before| body.get(before..).unwrap_or(&[]));
        Some(self.locate_each(body, most, |i, mut pos| {
            for k in 0..N {
                *starts[k].get_mut(i)? = pos as u32;
                let len = *tails[k].get(pos)?;
                let field = match len {
                    255 => varying_field(body, pos + before[k])?,
                    len => ((pos + before[k] + 1) as u32, u32::from(len)),
                };
                *fields[k].get_mut(i)? = field;
                pos = (field.0 + field.1) as usize;
            }
            *ends.get_mut(i)? = pos as u32;
            Some(pos + last)
        }))
    }

    /// As [`locate_all`](Self::locate_all), of any number of varying fields.
    fn locate_many(&self, body: &[u8], most: usize, at: &mut Scratch) -> Option<Ran> {
        let (last, before) = self.segments.split_last()?;
        Some(self.locate_each(body, most, |i, mut pos| {
            for ((before, starts), fields) in before.iter().zip(&mut at.starts).zip(&mut at.fields) {
                *starts.get_mut(i)? = pos as u32;
                let field = varying_field(body, pos + before)?;
                *fields.get_mut(i)? = field;
                pos = (field.0 + field.1) as usize;
            }
            *at.starts.get_mut(before.len())?.get_mut(i)? = pos as u32;
            Some(pos + last)
        }))
    }

    /// Record after record: `locate` is told the number and the place of one, and says where it ends.
    #[inline(always)]
    fn locate_each(&self, body: &[u8], most: usize, mut locate: impl FnMut(usize, usize) -> Option<usize>) -> Ran {
        let mut ran = Ran::default();
        while ran.records < most && body.len() - ran.consumed >= self.min_len {
            match locate(ran.records, ran.consumed).filter(|&end| end <= body.len()) {
                Some(end) => ran.consumed = end,
                None => {
                    ran.overrun = true;
                    break;
                }
            }
            ran.records += 1;
        }
        ran
    }

    #[inline(always)]
    fn fill(&self, view: View<'_>, meta: &RunMeta, lookups: &dyn Lookups, batch: &mut Batch) {
        for group in &self.groups {
            group.run(view, meta, lookups, batch);
        }
        if !self.ops.is_empty() {
            run_all(&self.ops, view, meta, lookups, batch);
        }
        let first = batch.rows();
        batch.commit(view.n);
        if let Some(sampling) = &self.sampling {
            sampling.fill(first, meta, lookups, batch);
        }
    }
}

/// The start and the length of the varying field whose length stands at `pos` (RFC 7011 section 7).
#[inline(always)]
fn varying_field(body: &[u8], pos: usize) -> Option<(u32, u32)> {
    let len = *body.get(pos)?;
    if len == 255 {
        let len = u16::from_be_bytes(*body.get(pos + 1..)?.first_chunk()?);
        return Some((pos as u32 + 3, u32::from(len)));
    }
    Some((pos as u32 + 1, u32::from(len)))
}

impl Group {
    #[inline(always)]
    fn run(&self, view: View<'_>, meta: &RunMeta, lookups: &dyn Lookups, batch: &mut Batch) {
        let rows = match view.records {
            Records::Strided(records) => Rows { bytes: records.bytes, at: At::Stride(records.stride()) },
            Records::Listed { bytes, at } => Rows { bytes, at: At::Starts(view.starts(at, self.segment)) },
        };
        let clock = Clock { export_us: meta.export_time.as_micros(), uptime_ms: meta.uptime_ms.unwrap_or(0) };
        let filled = self.windows.run(self.simd, rows, view.n, clock, batch.next_slots());
        let done = filled.rows;
        if !self.raw.is_empty() {
            finish_all(&self.raw, view.first(done), meta, lookups, batch);
        }
        if !filled.fits {
            run_all(&self.doubtful, view.first(done), meta, lookups, batch);
        }
        if done < view.n {
            run_all(&self.ops, view.rest(done), meta, lookups, batch);
        }
    }
}

// Calls of their own: what only some plans do takes no registers from the others.

#[inline(never)]
fn run_all(ops: &[Op], view: View<'_>, meta: &RunMeta, lookups: &dyn Lookups, batch: &mut Batch) {
    for op in ops {
        op.run(view, meta, lookups, batch);
    }
}

#[inline(never)]
fn finish_all(ops: &[Op], view: View<'_>, meta: &RunMeta, lookups: &dyn Lookups, batch: &mut Batch) {
    for op in ops {
        op.finish(view, meta, lookups, batch);
    }
}

/// Calls a kernel with the positions of a field in either kind of set.
macro_rules! kernel {
    ($view:expr, $segment:expr, $at:ident => $call:expr) => {
        match $view.records {
            Records::Strided(records) => {
                let $at = records.skip($view.from);
                $call
            }
            Records::Listed { bytes, at } => {
                let $at = Listed { bytes, starts: $view.starts(at, $segment) };
                $call
            }
        }
    };
}

impl Op {
    #[inline]
    fn run(&self, view: View<'_>, meta: &RunMeta, lookups: &dyn Lookups, batch: &mut Batch) {
        let data_type = self.data_type;
        if let (Source::Varying(field), Convert::Text | Convert::Octets) = (self.source, self.convert) {
            return self.varying(field, view, meta, lookups, batch);
        }
        if let Source::Fixed { segment, rel, width } = self.source {
            let c = self.column;
            let done = match (self.convert, data_type) {
                (Convert::Unsigned, _) if width > 8 || width == 0 => {
                    return self.each_value(view, meta, lookups, batch);
                }
                (Convert::Unsigned, ColumnType::U8) => {
                    kernel!(view, segment, at => scalar::unsigned(at, rel, width, view.slots::<u8>(batch, c)))
                }
                (Convert::Unsigned, ColumnType::U16) => {
                    kernel!(view, segment, at => scalar::unsigned(at, rel, width, view.slots::<u16>(batch, c)))
                }
                (Convert::Unsigned, ColumnType::U32 | ColumnType::Ip4) => {
                    kernel!(view, segment, at => scalar::unsigned(at, rel, width, view.slots::<u32>(batch, c)))
                }
                (Convert::Unsigned, ColumnType::U64) => {
                    kernel!(view, segment, at => scalar::unsigned(at, rel, width, view.slots::<u64>(batch, c)))
                }
                (Convert::Unsigned, ColumnType::I64) => {
                    kernel!(view, segment, at => scalar::unsigned(at, rel, width, view.slots::<i64>(batch, c)))
                }
                (Convert::Uptime, ColumnType::Timestamp) => {
                    let (export, uptime) = (meta.export_time.as_micros(), meta.uptime_ms.unwrap_or(0));
                    let to = |v: u64| Some(uptime_to_micros(export, uptime, v as u32));
                    kernel!(view, segment, at => scalar::time(at, rel, width, view.slots::<i64>(batch, c), to))
                }
                (Convert::Time(kind), ColumnType::Timestamp) => {
                    let export = meta.export_time.as_micros();
                    let to = |v: u64| kind.to_micros(v, export);
                    kernel!(view, segment, at => scalar::time(at, rel, width, view.slots::<i64>(batch, c), to))
                }
                (Convert::Bytes, ColumnType::Ip6) if width == 16 => {
                    kernel!(view, segment, at => scalar::bytes(at, rel, view.slots::<[u8; 16]>(batch, c)));
                    true
                }
                (Convert::Bytes, ColumnType::Mac) if width == 6 => {
                    kernel!(view, segment, at => scalar::bytes(at, rel, view.slots::<[u8; 6]>(batch, c)));
                    true
                }
                (Convert::Signed, ColumnType::I64) => {
                    kernel!(view, segment, at => scalar::signed(at, rel, width, view.slots::<i64>(batch, c)));
                    true
                }
                (Convert::Float, ColumnType::F64) => {
                    kernel!(view, segment, at => scalar::float(at, rel, width, view.slots::<f64>(batch, c)));
                    true
                }
                _ => return self.each_value(view, meta, lookups, batch),
            };
            if done {
                return;
            }
        }
        // Some value does not fit, or lengths vary: row by row.
        self.each_value(view, meta, lookups, batch);
    }

    #[cold]
    fn each_value(&self, view: View<'_>, meta: &RunMeta, lookups: &dyn Lookups, batch: &mut Batch) {
        self.each_field(view, |i, bytes| self.put(bytes, view, i, meta, lookups, batch));
    }

    /// Texts and octets that vary in length: all at once if they are plain, else one by one.
    fn varying(&self, field: u16, view: View<'_>, meta: &RunMeta, lookups: &dyn Lookups, batch: &mut Batch) {
        let (Records::Listed { bytes, at }, Some(column)) = (view.records, batch.var_mut(self.column)) else { return };
        let fields = at.fields.get(usize::from(field)).and_then(|f| f.get(view.from..view.from + view.n));
        let before = column.len();
        let done = column.append(bytes, fields.unwrap_or(&[]));
        if !(done && (self.convert == Convert::Octets || column.is_plain_text(before))) {
            column.truncate(before);
            self.each_value(view, meta, lookups, batch);
        }
    }

    /// The value of record `i`, from its bytes.
    fn put(&self, bytes: &[u8], view: View<'_>, i: usize, meta: &RunMeta, lookups: &dyn Lookups, batch: &mut Batch) {
        let row = batch.rows() + view.from + i;
        match self.one(bytes, view, i, meta, lookups, batch) {
            Put::Value => {}
            Put::Absent => batch.set_valid(self.column, row, false),
            Put::Misfit => {
                batch.set_valid(self.column, row, false);
                batch.spill(row, self.field, bytes);
            }
        }
    }

    /// Makes times of a column's bare integers, and sees that counters are not beyond 63 bits.
    #[inline]
    fn finish(&self, view: View<'_>, meta: &RunMeta, lookups: &dyn Lookups, batch: &mut Batch) {
        let values = view.slots::<i64>(batch, self.column);
        let done = match self.convert {
            Convert::Time(kind) => kind.finish(values, meta.export_time.as_micros()),
            _ => values.iter().fold(0, |all, v| all | v) >= 0,
        };
        if !done {
            self.each_value(view, meta, lookups, batch);
        }
    }

    fn each_field(&self, view: View<'_>, mut f: impl FnMut(usize, &[u8])) {
        use crate::columns::gather::Positions;
        match self.source {
            Source::Fixed { width: 0, .. } => (0..view.n).for_each(|i| f(i, &[])),
            Source::Fixed { segment, rel, width } => kernel!(view, segment, at => {
                at.fields(rel, width).take(view.n).enumerate().for_each(|(i, b)| f(i, b));
            }),
            Source::Varying(v) => {
                let Records::Listed { bytes, at } = view.records else { return };
                let fields = at.fields.get(usize::from(v)).into_iter().flatten();
                for (i, &(start, len)) in fields.skip(view.from).take(view.n).enumerate() {
                    f(i, bytes.get(start as usize..(start + len) as usize).unwrap_or(&[]));
                }
            }
        }
    }

    fn one(&self, b: &[u8], view: View<'_>, i: usize, meta: &RunMeta, lookups: &dyn Lookups, batch: &mut Batch) -> Put {
        let (c, to) = (self.column, self.data_type);
        macro_rules! slot {
            ($t:ty, $v:expr) => {
                match ($v, view.slots::<$t>(batch, c).get_mut(i)) {
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
                let text =
                    crate::value::list_json(data_type, b, meta.export_time.as_micros(), &|id| lookups.template(id));
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
    #[inline(never)]
    fn fill(&self, first: usize, meta: &RunMeta, lookups: &dyn Lookups, batch: &mut Batch) {
        let mut last: Option<(u64, Option<(f64, SamplingSource)>)> = None;
        let decided = meta.sampling_source == SamplingSource::Override as u8;
        for row in first..batch.rows() {
            let at = |c: Option<u16>| c.and_then(|c| batch.uint_at(c, row)).map(|v| v as f64);
            let pair = |c: Option<(u16, u16)>| c.and_then(|(a, b)| Some((at(Some(a))?, at(Some(b))?)));
            let known = |r: Option<f64>| r.filter(|r| r.is_finite() && *r > 0.0);
            let probability = self.probability.and_then(|c| batch.slots::<f64>(c).get(row).copied());
            let own = known(at(self.interval))
                .or_else(|| known(at(self.random)))
                .or_else(|| known(pair(self.packets).map(|(sampled, space)| (sampled + space) / sampled)))
                .or_else(|| known(pair(self.population).map(|(size, population)| population / size)))
                .or_else(|| known(probability.map(|p| 1.0 / p)))
                .filter(|_| !decided);
            let sampler = self.sampler.filter(|_| !decided).and_then(|c| batch.uint_at(c, row));
            let mut rate = own.map(|r| (r, SamplingSource::Record));
            if let (None, Some(id)) = (rate, sampler) {
                rate = match last {
                    Some((known, rate)) if known == id => rate,
                    _ => lookups.rate(id),
                };
                last = Some((id, rate));
            }
            let run = (!meta.sampling_rate.is_nan()).then_some((meta.sampling_rate, meta.sampling_source));
            let rate = rate.map(|(rate, source)| (rate, source as u8)).or(run);
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
