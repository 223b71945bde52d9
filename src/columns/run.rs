//! What the rows of a data set have in common.

use std::net::{IpAddr, SocketAddr};

/// Microseconds since 1970-01-01 UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// The number of microseconds.
    pub const fn as_micros(self) -> i64 {
        self.0
    }
}

impl From<std::time::SystemTime> for Timestamp {
    fn from(time: std::time::SystemTime) -> Self {
        match time.duration_since(std::time::UNIX_EPOCH) {
            Ok(d) => Self(i64::try_from(d.as_micros()).unwrap_or(i64::MAX)),
            Err(e) => Self(i64::try_from(e.duration().as_micros()).map_or(i64::MIN, |us| -us)),
        }
    }
}

/// Where a row's flow times come from. The number is the value of the column `time_source`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
#[non_exhaustive]
pub enum TimeSource {
    /// The record has no time.
    #[default]
    None = 0,
    /// 21/22 against the uptime in the message header (v1, v5, v7, v9).
    Uptime = 1,
    /// 21/22 against 160 in the same record.
    UptimeInitInRecord = 2,
    /// 21/22 against 160 from options data of the same exporter and domain.
    UptimeInitInOptions = 3,
    /// 21/22 without a base: the end is the export time.
    UptimeNoBase = 4,
    /// 150/151.
    Seconds = 5,
    /// 152/153.
    Milliseconds = 6,
    /// 154/155.
    Microseconds = 7,
    /// 156/157.
    Nanoseconds = 8,
    /// 158/159, microseconds before the export time.
    DeltaMicroseconds = 9,
    /// 258 or 322-325, no flow time beside it.
    Event = 10,
}

/// How a sampling rate was found. The number is the value of the column `sampling_source`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
#[non_exhaustive]
pub enum SamplingSource {
    /// The rate is not known.
    #[default]
    None = 0,
    /// The record's own elements.
    Record = 1,
    /// Options data for the record's sampler or selector.
    Sampler = 2,
    /// Options data for the exporter and domain.
    Domain = 3,
    /// The v5 header.
    Header = 4,
    /// Configuration, for want of anything else.
    Configured = 5,
    /// Configuration, over what the exporter says.
    Override = 6,
}

/// What all rows of one run share: the message's header, where it came from, and what was known when it was decoded.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RunMeta {
    /// When the datagram was received.
    pub received_at: Timestamp,
    /// The export time of the message header; v1, v5 and v7 with their nanoseconds, cut to microseconds.
    pub export_time: Timestamp,
    /// Where the datagram came from; an IPv4-mapped address is written as IPv4.
    pub exporter: SocketAddr,
    /// The protocol version of the message header.
    pub version: u8,
    /// v9 source id, IPFIX observation domain, v5 engine type * 256 + engine id, else 0.
    pub domain_id: u32,
    /// The header's sequence number.
    pub sequence: u32,
    /// The set id; 0 for v1, v5 and v7.
    pub template_id: u16,
    /// The header's uptime in milliseconds; IPFIX has none.
    pub uptime_ms: Option<u32>,
    /// When the exporter started, milliseconds since 1970 (element 160 from options data).
    pub init_time_ms: Option<u64>,
    /// The sampling rate where no column gives it per row; NaN where unknown.
    pub sampling_rate: f64,
    /// How [`sampling_rate`](Self::sampling_rate) was found.
    pub sampling_source: u8,
    /// Where the flow times come from where no column says it per row: the code of a [`TimeSource`].
    pub time_source: u8,
    /// The place of the run among all of a decoder: later runs have higher numbers. A late run stands where its
    /// template came.
    pub order: u64,
    /// Whether the set was held until its template came.
    pub late: bool,
}

impl RunMeta {
    /// A run of a message of which only these are known; for tests and tools.
    pub fn new(version: u8, exporter: IpAddr, export_time: Timestamp) -> Self {
        Self {
            received_at: export_time,
            export_time,
            exporter: SocketAddr::new(exporter, 0),
            version,
            domain_id: 0,
            sequence: 0,
            template_id: 0,
            uptime_ms: None,
            init_time_ms: None,
            sampling_rate: f64::NAN,
            sampling_source: 0,
            time_source: 0,
            order: 0,
            late: false,
        }
    }
}

/// Consecutive rows of a batch that came from one data set.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Run {
    /// The first row.
    pub first_row: u32,
    /// The number of rows.
    pub rows: u32,
    /// What they share.
    pub meta: RunMeta,
}

/// Adds up the rows of each exporter; messages that follow each other are mostly one exporter's.
#[cfg(feature = "collect")]
pub(crate) fn rows_by_exporter(runs: &[Run], mut add: impl FnMut(IpAddr, u64)) {
    let mut sum: Option<(IpAddr, u64)> = None;
    for run in runs {
        let (exporter, rows) = (run.meta.exporter.ip(), u64::from(run.rows));
        match &mut sum {
            Some(sum) if sum.0 == exporter => sum.1 += rows,
            _ => {
                if let Some((exporter, rows)) = sum.replace((exporter, rows)) {
                    add(exporter, rows);
                }
            }
        }
    }
    if let Some((exporter, rows)) = sum {
        add(exporter, rows);
    }
}

/// Runs in the order of their rows.
///
/// Those that were forgotten keep their memory: a new one is copied into it from where it stands, without a stop on the
/// stack.
#[derive(Clone, Debug, Default)]
pub(super) struct Runs {
    slots: Vec<Run>,
    // INVARIANT: at most slots.len().
    len: usize,
}

impl Runs {
    pub(super) fn as_slice(&self) -> &[Run] {
        self.slots.get(..self.len).unwrap_or(&[])
    }

    pub(super) fn as_mut_slice(&mut self) -> &mut [Run] {
        self.slots.get_mut(..self.len).unwrap_or(&mut [])
    }

    pub(super) fn clear(&mut self) {
        self.len = 0;
    }

    /// Forgets the runs that are not kept.
    pub(super) fn retain(&mut self, keep: impl FnMut(&Run) -> bool) {
        self.slots.truncate(self.len);
        self.slots.retain(keep);
        self.len = self.slots.len();
    }

    /// Bytes allocated.
    pub(super) fn memory(&self) -> usize {
        self.slots.capacity() * size_of::<Run>()
    }

    /// Adds a run, and shows where it stands.
    #[inline(always)]
    pub(super) fn push(&mut self, first_row: u32, rows: u32, meta: &RunMeta) -> Option<&mut Run> {
        if self.len == self.slots.len() {
            self.grow(meta);
        }
        let run = self.slots.get_mut(self.len)?;
        self.len += 1;
        (run.first_row, run.rows, run.meta) = (first_row, rows, *meta);
        Some(run)
    }

    #[cold]
    fn grow(&mut self, meta: &RunMeta) {
        self.slots.push(Run { first_row: 0, rows: 0, meta: *meta });
    }
}
