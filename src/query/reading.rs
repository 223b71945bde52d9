//! The reading of a scan's files, once or twice.
//!
//! Some answers know only at their end which groups they have to tell more of. They read the same rows again then, of other
//! columns: by what is kept of the first time, not by asking the filter again.

use super::group::Looked;
use super::scan::{Damage, Scan, ScanStats, Work};
use super::threads::on_threads;
use arrow_array::RecordBatch;
use arrow_buffer::BooleanBuffer;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, OnceLock};

/// What there is to read.
pub(super) struct Reading<'a> {
    scan: &'a Scan,
    work: Vec<(usize, Work<'a>)>,
    read: Vec<OnceLock<Read>>,
    // Before anything is read: the files, and those that are damaged.
    stats: ScanStats,
    // Bytes of what the filter said that may still be kept.
    room: AtomicUsize,
}

/// What was read of a part.
#[derive(Default)]
struct Read {
    matched: u64,
    /// Where, if it is known and there was room to keep it.
    stretches: Option<Vec<Stretch>>,
}

/// Rows of a row group, and for which of them the filter holds.
pub(super) type Stretch = (Range<usize>, BooleanBuffer);

/// Bytes of what filters said that are kept at most, a bit a row.
const KEPT: usize = 64 << 20;

impl<'a> Reading<'a> {
    pub(super) fn new(scan: &'a Scan, work: Vec<(usize, Work<'a>)>, stats: ScanStats) -> Self {
        let read = work.iter().map(|_| OnceLock::new()).collect();
        Self { scan, work, read, stats, room: AtomicUsize::new(0) }
    }

    /// Keeps what the filter says, so that it need not be asked again.
    pub(super) fn keeping(self) -> Self {
        Self { room: AtomicUsize::new(KEPT), ..self }
    }

    /// Parts that there are.
    pub(super) fn parts(&self) -> usize {
        self.work.len()
    }

    /// Reads columns of it, as [`Scan::run`] does; `add` is told which part the rows are of.
    pub(super) fn run<A: Send>(
        &self,
        columns: &[String],
        begin: impl Fn() -> A + Sync,
        add: impl Fn(&mut A, usize, &RecordBatch, &BooleanBuffer) -> bool + Sync,
        end: impl FnMut(A),
    ) -> ScanStats {
        let Self { scan, .. } = self;
        // Of each file, the rows that the answer has: it may turn out later that it is damaged.
        let taken: Vec<AtomicU64> = scan.inputs.iter().map(|_| AtomicU64::new(0)).collect();
        let (stop, stats) = (AtomicBool::new(false), Mutex::new(self.stats.clone()));
        let filters = !scan.filter.columns().is_empty();
        let one = |answer: &mut A, at: usize, part: &Work<'a>| {
            let mut sums = (0u64, 0u64, 0u64);
            let mut stretches = filters.then(Vec::new);
            let result = scan.part(part, columns, &mut |looked| {
                let matched = looked.found.as_ref().map_or(0, |(_, holds)| holds.count_set_bits());
                sums = (sums.0 + looked.rows as u64, sums.1 + matched as u64, sums.2 + looked.unknown as u64);
                if matched > 0 {
                    self.keep(&mut stretches, &looked);
                }
                if let Some((batch, holds)) = looked.found.filter(|_| matched > 0)
                    && !add(answer, at, &batch, &holds)
                {
                    stop.store(true, Relaxed);
                }
                !stop.load(Relaxed) && !scan.watch.is_stopped()
            });
            if let Some(read) = self.read.get(at) {
                let _ = read.set(Read { matched: sums.1, stretches });
            }
            let Some((input, _)) = self.work.get(at) else { return true };
            if let Some(taken) = taken.get(*input) {
                taken.fetch_add(sums.1, Relaxed);
            }
            if let Ok(mut stats) = stats.lock() {
                stats.rows += sums.0;
                stats.matched += sums.1;
                stats.unknown += sums.2;
                if let (Err(error), Some(input)) = (result, scan.inputs.get(*input)) {
                    // Once, whatever its parts.
                    let path = input.path();
                    if stats.damaged.iter().all(|d| d.path != path) {
                        stats.damaged.push(Damage { path: path.to_path_buf(), error, rows: 0 });
                    }
                }
            }
            !stop.load(Relaxed) && !scan.watch.is_stopped()
        };
        self.on_threads(begin, one, end);
        let mut stats = stats.into_inner().unwrap_or_default();
        for damage in &mut stats.damaged {
            let at = scan.inputs.iter().position(|input| input.path() == damage.path);
            damage.rows = at.and_then(|at| taken.get(at)).map_or(0, |taken| taken.load(Relaxed));
        }
        stats
    }

    /// Reads other columns of the rows that [`run`](Self::run) gave, also where it was ended: those of each part. Whether the rows are
    /// all still there, and `add` could make something of them.
    pub(super) fn again<'c, A: Send>(
        &self,
        columns: impl Fn(usize) -> &'c [String] + Sync,
        begin: impl Fn() -> A + Sync,
        add: impl Fn(&mut A, usize, &RecordBatch, &BooleanBuffer) -> bool + Sync,
        end: impl FnMut(A),
    ) -> bool {
        let lost = AtomicBool::new(false);
        let one = |answer: &mut A, at: usize, part: &Work<'a>| {
            let Some(read) = self.read.get(at).and_then(OnceLock::get).filter(|read| read.matched > 0) else {
                return true;
            };
            let mut left = read.matched;
            let mut is_added = true;
            let result = self.scan.part_again(part, columns(at), read.stretches.as_deref(), &mut |batch, holds| {
                let first = first(holds, left);
                left -= first.count_set_bits() as u64;
                is_added &= add(answer, at, batch, &first);
                left > 0 && is_added
            });
            if left > 0 || result.is_err() || !is_added {
                lost.store(true, Relaxed);
            }
            !lost.load(Relaxed)
        };
        self.on_threads(begin, one, end);
        !lost.load(Relaxed)
    }

    /// Keeps what the filter said of some rows, or, where that cannot be, nothing of their part.
    fn keep(&self, to: &mut Option<Vec<Stretch>>, looked: &Looked) {
        let Some(stretches) = to.as_mut() else { return };
        let (Some(at), Some((_, holds))) = (looked.at, &looked.found) else { return *to = None };
        let bytes = size_of::<Stretch>() + holds.len().div_ceil(8);
        let mut room = self.room.load(Relaxed);
        while let Some(less) = room.checked_sub(bytes) {
            match self.room.compare_exchange_weak(room, less, Relaxed, Relaxed) {
                // A copy: the buffer may be a part of a greater one.
                Ok(_) => {
                    return stretches.push((at..at + holds.len(), BooleanBuffer::new(holds.sliced(), 0, holds.len())));
                }
                Err(now) => room = now,
            }
        }
        *to = None;
    }

    /// Gives the parts of the work to threads, each with an answer of its own, until one says that it is enough.
    fn on_threads<A: Send>(
        &self,
        begin: impl Fn() -> A + Sync,
        part: impl Fn(&mut A, usize, &Work<'a>) -> bool + Sync,
        end: impl FnMut(A),
    ) {
        let progress = self.scan.watch.begin(self.work.len());
        let next = AtomicUsize::new(0);
        let threads = self.scan.threads.clamp(1, self.work.len().max(1));
        let one = || {
            let mut answer = begin();
            loop {
                let at = next.fetch_add(1, Relaxed);
                let Some((_, work)) = self.work.get(at) else { return answer };
                let more = part(&mut answer, at, work);
                progress.fetch_add(1, Relaxed);
                if !more {
                    return answer;
                }
            }
        };
        on_threads(threads, one).into_iter().for_each(end);
    }
}

/// The first `n` rows of those that hold.
fn first(holds: &BooleanBuffer, n: u64) -> BooleanBuffer {
    if holds.count_set_bits() as u64 <= n {
        return holds.clone();
    }
    let mut left = n;
    BooleanBuffer::collect_bool(holds.len(), |row| {
        let is_first = holds.value(row) && left > 0;
        left -= u64::from(is_first);
        is_first
    })
}
