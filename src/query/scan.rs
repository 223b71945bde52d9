//! Reading what a question needs: the files, the row groups that may hold an answer, the columns that are named.

use super::arrow;
use super::filter::Filter;
use super::foreign;
use super::group::{Group, Looked};
use super::prune::may_hold;
use super::reading::{Reading, Stretch};
use super::threads::on_threads;
use crate::keep::{self, Found};
use arrow_array::RecordBatch;
use arrow_buffer::BooleanBuffer;
use parquet::arrow::arrow_reader::ArrowReaderMetadata;
use std::fmt;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

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

/// The files of a path: itself, or those of a folder that `collect` or `decode` wrote, the oldest first.
///
/// # Errors
/// A path that is not there, or cannot be listed.
pub fn inputs(path: &Path) -> io::Result<Vec<Input>> {
    if !fs::metadata(path)?.is_dir() {
        return Ok(vec![Input::of(path.to_path_buf())]);
    }
    let Found { sealed, hot, .. } = keep::found(path)?;
    let mut flat: Vec<PathBuf> = fs::read_dir(path)?
        .filter_map(|e| Some(e.ok()?.path()))
        .filter(|p| p.extension().is_some_and(|e| e == "parquet" || e == "arrow") && p.is_file())
        .collect();
    flat.sort();
    let sealed = sealed.into_iter().map(|f| f.path);
    let hot = hot.into_iter().map(|s| Input::Hot(s.path));
    Ok(flat.into_iter().map(Input::of).chain(sealed.map(Input::Parquet)).chain(hot).collect())
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

    /// Its path.
    pub fn path(&self) -> &Path {
        match self {
            Self::Parquet(path) | Self::Arrow(path) | Self::Hot(path) => path,
        }
    }
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
    /// Files that cannot be read, or not to their end.
    pub damaged: Vec<Damage>,
}

/// A file that cannot be read, or not to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Its path.
    pub path: PathBuf,
    /// Why.
    pub error: String,
    /// Its rows that are in the answer all the same: those of its parts that could be read.
    pub rows: u64,
}

impl fmt::Display for Damage {
    /// On one line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, error, rows } = self;
        match rows {
            0 => write!(f, "{} is passed over: {error}", path.display()),
            _ => write!(f, "{} cannot be read whole: {error}; {rows} of its rows are in this answer", path.display()),
        }
    }
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

    /// Says that so many parts are to be read, and counts those that are.
    pub(super) fn begin(&self, all: usize) -> &AtomicUsize {
        self.0.done.store(0, Relaxed);
        self.0.all.store(all, Relaxed);
        &self.0.done
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

/// A part of a file that one thread reads.
pub(super) enum Work<'a> {
    Group(Group<'a>),
    Arrow(&'a Path),
    Hot(&'a Path),
}

/// Rows that a thread takes at once: several parts a group keep all threads busy to the end.
const PART: usize = 1 << 18;

impl Scan {
    /// Reads everything: each thread makes an answer by `begin`, adds rows by `add` (the batch and those of its rows for
    /// which the filter holds; false ends the scan), and `end` gets the answers one after the other.
    pub fn run<A: Send>(
        &self,
        begin: impl Fn() -> A + Sync,
        add: impl Fn(&mut A, &RecordBatch, &BooleanBuffer) -> bool + Sync,
        end: impl FnMut(A),
    ) -> ScanStats {
        // Nothing begins any more: the watch goes on telling how far the scan came that was ended.
        if self.watch.is_stopped() {
            return ScanStats::default();
        }
        self.reading().run(&self.columns, begin, |answer, _, batch, rows| add(answer, batch, rows), end)
    }

    /// What there is to read.
    pub(super) fn reading(&self) -> Reading<'_> {
        let (mut stats, mut work) = (ScanStats::default(), Vec::new());
        for (at, (input, parts)) in self.inputs.iter().zip(self.parts()).enumerate() {
            match parts {
                Ok(parts) => {
                    stats.groups += parts.groups;
                    stats.pruned += parts.pruned;
                    work.extend(parts.work.into_iter().map(|part| (at, part)));
                }
                // Sealed files go when they are old.
                Err(Failed::Gone) => continue,
                Err(Failed::Damaged(error)) => {
                    stats.damaged.push(Damage { path: input.path().to_path_buf(), error, rows: 0 });
                }
            }
            stats.files += 1;
        }
        Reading::new(self, work, stats)
    }

    /// What is to be read of each input: files say what is in them on all threads.
    fn parts(&self) -> Vec<Result<Parts<'_>, Failed>> {
        let next = AtomicUsize::new(0);
        let look = || {
            let mut found = Vec::new();
            // Whoever takes a file looks at it, so those that were looked at are the first.
            while !self.watch.is_stopped()
                && let Some((at, input)) =
                    Some(next.fetch_add(1, Relaxed)).and_then(|at| Some((at, self.inputs.get(at)?)))
            {
                found.push((
                    at,
                    match input {
                        Input::Hot(path) => Ok(Parts { work: vec![Work::Hot(path)], groups: 1, pruned: 0 }),
                        Input::Arrow(path) => Ok(Parts { work: vec![Work::Arrow(path)], groups: 1, pruned: 0 }),
                        Input::Parquet(path) => self.groups(path),
                    },
                ));
            }
            found
        };
        let found = on_threads(self.threads.min(self.inputs.len()), look);
        let mut found: Vec<_> = found.into_iter().flatten().collect();
        found.sort_by_key(|f| f.0);
        found.into_iter().map(|f| f.1).collect()
    }

    /// The row groups of a file that may have rows for the filter.
    fn groups<'a>(&self, path: &'a Path) -> Result<Parts<'a>, Failed> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(Failed::Gone),
            Err(e) => return Err(Failed::Damaged(e.to_string())),
        };
        let failed = |error: String| match foreign::other_kind(path) {
            Some(kind) => Failed::Damaged(kind.to_string()),
            None => Failed::Damaged(error),
        };
        let metadata = ArrowReaderMetadata::load(&file, Default::default()).map_err(|e| failed(e.to_string()))?;
        let about = metadata.metadata().file_metadata().key_value_metadata();
        if let Some(answer) = foreign::is_answer(about.into_iter().flatten().map(|kv| kv.key.as_str())) {
            return Err(Failed::Damaged(answer));
        }
        let of_filter = self.filter.columns();
        let asked = || of_filter.iter().chain(&self.columns);
        foreign::check(metadata.schema(), asked()).map_err(Failed::Damaged)?;
        // Statistics of other types would be read wrongly.
        let ours = foreign::is_ours(metadata.schema(), asked());
        let mut parts = Parts { work: Vec::new(), groups: 0, pruned: 0 };
        for (group, about) in metadata.metadata().row_groups().iter().enumerate() {
            if ours && !may_hold(&self.filter.expr, about) {
                parts.pruned += 1;
                continue;
            }
            parts.groups += 1;
            let rows = usize::try_from(about.num_rows()).unwrap_or(0);
            for start in (0..rows).step_by(PART) {
                let rows = start..rows.min(start + PART);
                parts.work.push(Work::Group(Group { path, metadata: metadata.clone(), group, rows }));
            }
        }
        Ok(parts)
    }

    /// The files of a segment that is gone.
    fn sealed_since(
        &self,
        segment: &Path,
        columns: &[String],
        take: &mut dyn FnMut(Looked) -> bool,
    ) -> Result<(), String> {
        let id: Option<i64> = segment.file_stem().and_then(|s| s.to_str()?.parse().ok());
        let node = segment.parent().and_then(|f| f.file_name()?.to_str());
        let (Some(id), Some(node), Some(root)) = (id, node, segment.ancestors().nth(3)) else { return Ok(()) };
        for file in &keep::files_of_segment(root, node, id).map_err(|e| e.to_string())? {
            let parts = match self.groups(&file.path) {
                Ok(parts) => parts,
                Err(Failed::Gone) => continue,
                Err(Failed::Damaged(error)) => return Err(error),
            };
            for part in &parts.work {
                self.part(part, columns, take)?;
            }
        }
        Ok(())
    }

    pub(super) fn part(
        &self,
        work: &Work<'_>,
        columns: &[String],
        take: &mut dyn FnMut(Looked) -> bool,
    ) -> Result<(), String> {
        match work {
            Work::Hot(path) => match self.segment(path, take) {
                // Sealed since the folder was listed: its rows are in files now.
                Err(e) if e.kind() == io::ErrorKind::NotFound => self.sealed_since(path, columns, take),
                read => read.map_err(|e| e.to_string()),
            },
            Work::Arrow(path) => {
                let needed = self.filter.columns();
                let needed = |name: &str| needed.iter().chain(columns).any(|c| c == name);
                let mut failed = Ok(());
                arrow::read(path, needed, |batch| match foreign::conform(batch.clone()) {
                    Ok(batch) => {
                        let (holds, unknown) = self.filter.rows(&batch);
                        take(Looked { rows: batch.num_rows(), unknown, at: None, found: Some((batch, holds)) })
                    }
                    Err(error) => {
                        failed = Err(error);
                        false
                    }
                })?;
                failed
            }
            Work::Group(group) => group.read(&self.filter, columns, take),
        }
    }

    /// Gives the rows of a part once more for which the filter holds, in the same order; by what is known of them, if it is.
    pub(super) fn part_again(
        &self,
        work: &Work<'_>,
        columns: &[String],
        known: Option<&[Stretch]>,
        take: &mut dyn FnMut(&RecordBatch, &BooleanBuffer) -> bool,
    ) -> Result<(), String> {
        let mut again = |looked: Looked| looked.found.is_none_or(|(batch, holds)| take(&batch, &holds));
        match (work, known) {
            (Work::Group(group), Some(known)) => group.read_again(columns, known, take),
            // Its rows are in files now, in another order.
            (Work::Hot(path), _) => self.segment(path, &mut again).map_err(|e| match e.kind() {
                io::ErrorKind::NotFound => "it is sealed now".to_string(),
                _ => e.to_string(),
            }),
            _ => self.part(work, columns, &mut again),
        }
    }

    /// Gives the rows of a segment.
    fn segment(&self, path: &Path, take: &mut dyn FnMut(Looked) -> bool) -> io::Result<()> {
        let mut more = true;
        keep::read_segment(path, |batch| {
            if more {
                let (holds, unknown) = self.filter.rows(&batch);
                more = take(Looked { rows: batch.num_rows(), unknown, at: None, found: Some((batch, holds)) });
            }
            Ok(())
        })
    }
}

/// What is to be read of a file.
struct Parts<'a> {
    work: Vec<Work<'a>>,
    groups: usize,
    pruned: usize,
}

enum Failed {
    Gone,
    Damaged(String),
}
