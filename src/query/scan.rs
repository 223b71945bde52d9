//! Reading what a question needs: the files, the row groups that may hold an answer, the columns that are named.

use super::arrow;
use super::filter::{Column, Expr, Filter, Set};
use crate::keep;
use arrow_array::RecordBatch;
use arrow_buffer::BooleanBuffer;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ParquetRecordBatchReaderBuilder};
use parquet::file::metadata::RowGroupMetaData;
use parquet::file::statistics::Statistics;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

/// A file to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// Parquet.
    Parquet(PathBuf),
    /// An Arrow IPC file.
    Arrow(PathBuf),
    /// A segment that its collector has not sealed yet.
    Hot(PathBuf),
}

impl Input {
    /// A file by what it says it is.
    fn of(path: PathBuf) -> Self {
        if arrow::is_arrow(&path) {
            return Self::Arrow(path);
        }
        match path.extension() {
            Some(extension) if extension == "arrows" => Self::Hot(path),
            _ => Self::Parquet(path),
        }
    }
}

/// The files of a path: itself, or those of a folder that `collect` or `decode` wrote, the oldest first.
///
/// # Errors
/// A path that is not there, or cannot be listed.
pub fn inputs(path: &Path) -> io::Result<Vec<Input>> {
    if !fs::metadata(path)?.is_dir() {
        return Ok(vec![Input::of(path.to_path_buf())]);
    }
    // Hot segments are listed before sealed files: what is sealed meanwhile is found once, as the file.
    let hot = keep::hot_segments(path)?;
    let (sealed, _) = keep::sealed_files(path)?;
    let covered = |node: &str, id: i64| sealed.iter().any(|f| f.segment == id && f.node == node);
    let hot: Vec<Input> =
        hot.into_iter().filter(|s| !covered(&s.node, s.segment)).map(|s| Input::Hot(s.path)).collect();
    let mut flat: Vec<PathBuf> = fs::read_dir(path)?
        .filter_map(|e| Some(e.ok()?.path()))
        .filter(|p| p.extension().is_some_and(|e| e == "parquet" || e == "arrow") && p.is_file())
        .collect();
    flat.sort();
    let sealed = sealed.into_iter().map(|f| f.path);
    Ok(flat.into_iter().map(Input::of).chain(sealed.map(Input::Parquet)).chain(hot).collect())
}

/// What a scan came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScanStats {
    /// Files read.
    pub files: usize,
    /// Row groups read.
    pub groups: usize,
    /// Row groups that statistics ruled out.
    pub pruned: usize,
    /// Rows looked at.
    pub rows: u64,
    /// Rows for which the filter holds.
    pub matched: u64,
    /// Rows of which it could not be told: they lack a column.
    pub unknown: u64,
    /// Files that cannot be read, and why.
    pub damaged: Vec<(PathBuf, String)>,
}

/// A question to files.
#[derive(Clone, Debug)]
pub struct Scan {
    /// The files.
    pub inputs: Vec<Input>,
    /// Which rows.
    pub filter: Filter,
    /// The columns that the answer needs, beside those of the filter.
    pub columns: Vec<String>,
    /// Threads.
    pub threads: usize,
    /// How far it is, and a way to end it.
    pub watch: Watch,
}

/// A view of a scan from outside; clones are views of the same.
#[derive(Clone, Debug, Default)]
pub struct Watch(Arc<Watched>);

#[derive(Debug, Default)]
struct Watched {
    done: AtomicUsize,
    all: AtomicUsize,
    stop: AtomicBool,
}

impl Watch {
    /// Row groups and segments that are read, and all that are to be read.
    pub fn progress(&self) -> (usize, usize) {
        (self.0.done.load(Relaxed), self.0.all.load(Relaxed))
    }

    /// Ends the scan soon: what was read is the answer.
    pub fn stop(&self) {
        self.0.stop.store(true, Relaxed);
    }

    /// Whether it was ended.
    pub fn is_stopped(&self) -> bool {
        self.0.stop.load(Relaxed)
    }
}

/// Rows of a batch.
const BATCH: usize = 16_384;

/// A part of a file that one thread reads.
enum Work<'a> {
    Group { path: &'a Path, metadata: ArrowReaderMetadata, group: usize },
    Arrow(&'a Path),
    Hot(&'a Path),
}

impl Scan {
    /// Reads everything: each thread makes an answer by `begin`, adds rows by `add` (the batch and those of its rows for
    /// which the filter holds; false ends the scan), and `end` gets the answers one after the other.
    pub fn run<A: Send>(
        &self,
        begin: impl Fn() -> A + Sync,
        add: impl Fn(&mut A, &RecordBatch, &BooleanBuffer) -> bool + Sync,
        mut end: impl FnMut(A),
    ) -> ScanStats {
        let mut stats = ScanStats::default();
        let mut work = Vec::new();
        for input in &self.inputs {
            match input {
                Input::Hot(path) => work.push(Work::Hot(path)),
                Input::Arrow(path) => work.push(Work::Arrow(path)),
                Input::Parquet(path) => match self.groups(path, &mut stats) {
                    Ok(groups) => work.extend(groups),
                    // Sealed files go when they are old.
                    Err(Failed::Gone) => continue,
                    Err(Failed::Damaged(error)) => stats.damaged.push((path.clone(), error)),
                },
            }
            stats.files += 1;
        }
        stats.groups = work.len();
        self.watch.0.done.store(0, Relaxed);
        self.watch.0.all.store(work.len(), Relaxed);
        let (next, stop, stats) = (AtomicUsize::new(0), AtomicBool::new(false), Mutex::new(stats));
        let threads = self.threads.clamp(1, work.len().max(1));
        let answers: Vec<A> = std::thread::scope(|scope| {
            let one = || {
                let mut answer = begin();
                while let Some(part) =
                    work.get(next.fetch_add(1, Relaxed)).filter(|_| !stop.load(Relaxed) && !self.watch.is_stopped())
                {
                    let mut sums = (0u64, 0u64, 0u64);
                    let result = self.part(part, |batch| {
                        let (holds, unknown) = self.filter.rows(batch);
                        let matched = holds.count_set_bits();
                        sums = (sums.0 + batch.num_rows() as u64, sums.1 + matched as u64, sums.2 + unknown as u64);
                        if matched > 0 && !add(&mut answer, batch, &holds) {
                            stop.store(true, Relaxed);
                        }
                        !stop.load(Relaxed) && !self.watch.is_stopped()
                    });
                    self.watch.0.done.fetch_add(1, Relaxed);
                    if let Ok(mut stats) = stats.lock() {
                        stats.rows += sums.0;
                        stats.matched += sums.1;
                        stats.unknown += sums.2;
                        if let Err(error) = result {
                            let path = match part {
                                Work::Group { path, .. } | Work::Arrow(path) | Work::Hot(path) => path.to_path_buf(),
                            };
                            stats.damaged.push((path, error));
                        }
                    }
                }
                answer
            };
            let spawned: Vec<_> = (1..threads).map(|_| scope.spawn(one)).collect();
            let mut answers = vec![one()];
            // A thread that panicked has lost rows: the answer would be wrong.
            answers.extend(spawned.into_iter().map(|thread| match thread.join() {
                Ok(answer) => answer,
                Err(panic) => std::panic::resume_unwind(panic),
            }));
            answers
        });
        answers.into_iter().for_each(&mut end);
        stats.into_inner().unwrap_or_default()
    }

    /// The row groups of a file that may have rows for the filter.
    fn groups<'a>(&self, path: &'a Path, stats: &mut ScanStats) -> Result<Vec<Work<'a>>, Failed> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(Failed::Gone),
            Err(e) => return Err(Failed::Damaged(e.to_string())),
        };
        let metadata =
            ArrowReaderMetadata::load(&file, Default::default()).map_err(|e| Failed::Damaged(e.to_string()))?;
        let mut work = Vec::new();
        for (group, about) in metadata.metadata().row_groups().iter().enumerate() {
            if may_hold(&self.filter.expr, about) {
                work.push(Work::Group { path, metadata: metadata.clone(), group });
            } else {
                stats.pruned += 1;
            }
        }
        Ok(work)
    }

    /// The files of a segment that is gone.
    fn sealed_since(&self, segment: &Path, take: &mut dyn FnMut(&RecordBatch) -> bool) -> Result<(), String> {
        let id: Option<i64> = segment.file_stem().and_then(|s| s.to_str()?.parse().ok());
        let node = segment.parent().and_then(|f| f.file_name()?.to_str());
        let (Some(id), Some(node), Some(root)) = (id, node, segment.ancestors().nth(3)) else { return Ok(()) };
        let (sealed, _) = keep::sealed_files(root).map_err(|e| e.to_string())?;
        for file in sealed.iter().filter(|f| f.segment == id && f.node == node) {
            let groups = match self.groups(&file.path, &mut ScanStats::default()) {
                Ok(groups) => groups,
                Err(Failed::Gone) => continue,
                Err(Failed::Damaged(error)) => return Err(error),
            };
            for group in &groups {
                self.part(group, &mut *take)?;
            }
        }
        Ok(())
    }

    fn part(&self, work: &Work<'_>, mut take: impl FnMut(&RecordBatch) -> bool) -> Result<(), String> {
        match work {
            Work::Hot(path) => {
                let mut more = true;
                let read = keep::read_segment(path, |batch| {
                    more = more && take(&batch);
                    Ok(())
                });
                match read {
                    // Sealed since the folder was listed: its rows are in files now.
                    Err(e) if e.kind() == io::ErrorKind::NotFound => self.sealed_since(path, &mut take),
                    Err(e) => Err(e.to_string()),
                    Ok(()) => Ok(()),
                }
            }
            Work::Arrow(path) => {
                let needed = self.filter.columns();
                let needed = |name: &str| needed.iter().chain(&self.columns).any(|c| c == name);
                arrow::read(path, needed, take)
            }
            Work::Group { path, metadata, group } => {
                let file = File::open(path).map_err(|e| e.to_string())?;
                let schema = metadata.parquet_schema();
                let needed = self.filter.columns();
                let needed = |name: &str| needed.iter().chain(&self.columns).any(|c| c == name);
                let roots: Vec<usize> = schema
                    .root_schema()
                    .get_fields()
                    .iter()
                    .enumerate()
                    .filter(|(_, field)| needed(field.name()))
                    .map(|f| f.0)
                    .collect();
                let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(file, metadata.clone())
                    .with_projection(ProjectionMask::roots(schema, roots))
                    .with_row_groups(vec![*group])
                    .with_batch_size(BATCH)
                    .build()
                    .map_err(|e| e.to_string())?;
                for batch in reader {
                    if !take(&batch.map_err(|e| e.to_string())?) {
                        break;
                    }
                }
                Ok(())
            }
        }
    }
}

enum Failed {
    Gone,
    Damaged(String),
}

/// Whether the least and the greatest values of a row group leave room for a row.
pub(super) fn may_hold(expr: &Expr, group: &RowGroupMetaData) -> bool {
    match expr {
        Expr::And(a, b) => may_hold(a, group) && may_hold(b, group),
        Expr::Or(a, b) => may_hold(a, group) || may_hold(b, group),
        // What statistics say of the inside says nothing of the outside.
        Expr::Not(_) | Expr::All => true,
        Expr::Test(Column::One(name, _), Set::Ranges(ranges)) => in_bounds(name, ranges, group),
        Expr::Test(Column::Pair(v4, v6), Set::Addresses { v4: ranges, v6: ranges6 }) => {
            let ranges: Vec<_> = ranges.iter().map(|r| (i128::from(r.0), i128::from(r.1))).collect();
            in_bounds(v4, &ranges, group) && !ranges.is_empty() || !ranges6.is_empty() && has_values(v6, group)
        }
        Expr::Test(..) => true,
    }
}

fn statistics<'a>(name: &str, group: &'a RowGroupMetaData) -> Option<&'a Statistics> {
    group.columns().iter().find(|c| c.column_path().string() == name)?.statistics()
}

fn has_values(name: &str, group: &RowGroupMetaData) -> bool {
    let Some(statistics) = statistics(name, group) else { return true };
    statistics.null_count_opt().is_none_or(|nulls| nulls < u64::try_from(group.num_rows()).unwrap_or(u64::MAX))
}

fn in_bounds(name: &str, ranges: &[(i128, i128)], group: &RowGroupMetaData) -> bool {
    if !has_values(name, group) {
        return false;
    }
    let signed =
        name.contains("time") || name.starts_with("flow_") || name.contains("packets") || name.contains("bytes");
    let bounds = match statistics(name, group) {
        Some(Statistics::Int32(s)) => s.min_opt().zip(s.max_opt()).map(|(a, b)| {
            // 8, 16 and 32 bits without a sign.
            (i128::from(a.cast_unsigned()), i128::from(b.cast_unsigned()))
        }),
        Some(Statistics::Int64(s)) if signed => {
            s.min_opt().zip(s.max_opt()).map(|(a, b)| (i128::from(*a), i128::from(*b)))
        }
        _ => None,
    };
    bounds.is_none_or(|(min, max)| ranges.iter().any(|r| r.0 <= max && min <= r.1))
}
