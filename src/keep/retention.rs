//! What is kept, and for how long.

use super::layout::{HOUR_US, Listing, SealedFile, hot_folder, hour_folder, listing, segments};
use super::ledger;
use super::spare;
use crate::sink::{Format, start_in};
use std::fs;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Bounds on what a node keeps; `None` is no bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// How long after its hour a file is kept, microseconds.
    pub age_us: Option<i64>,
    /// Bytes of the node's files, those of options records and of segments that wait to be sealed among them. What was put aside as
    /// damaged (`.damaged`, `.partial`) is for somebody to look at: it does not count, and stays.
    pub bytes: Option<u64>,
    /// Bytes of the file system that stay free.
    pub free_bytes: Option<u64>,
}

/// Files that go, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Retired {
    /// The files, the oldest first.
    pub files: Vec<PathBuf>,
    /// Their bytes.
    pub bytes: u64,
    /// Files that were to go and could not be removed, and why.
    pub stuck: Vec<(PathBuf, String)>,
}

impl Retention {
    /// Whether nothing is bounded.
    pub fn is_endless(&self) -> bool {
        *self == Self::default()
    }

    /// Removes the oldest files of a node, of flows and of options records, until all bounds hold, those that wait to be written over
    /// before them; with `dry_run` only says which. Where that is not enough segments go that wait to be sealed, but for the last,
    /// which is being written. A file that cannot be removed is passed over, and named.
    ///
    /// # Errors
    /// A folder that cannot be read.
    pub fn apply(&self, root: &Path, node: &str, now_us: i64, dry_run: bool) -> io::Result<Retired> {
        let mut retired = Retired::default();
        if self.is_endless() {
            return Ok(retired);
        }
        let Listing { sealed, covered, .. } = listing(root)?;
        let own: Vec<SealedFile> = sealed.into_iter().filter(|f| f.node == node).collect();
        let hot = hot_folder(root, node);
        let mut waiting = waiting(&hot)?;
        let mut files: Vec<Aged<'_>> = own.iter().map(Aged::of).chain(options(root, node)?).collect();
        files.sort_by(|a, b| a.hour.cmp(&b.hour));
        let mut kept: u64 = files.iter().map(|f| f.bytes).chain(waiting.iter().map(|w| w.1)).sum();
        waiting.pop();
        let mut free = match self.free_bytes {
            Some(_) => free_bytes(root)?,
            None => u64::MAX,
        };
        // Files without rows go before any that has some.
        let spare = spare::bytes(&hot);
        if self.is_over(kept + spare, free) {
            if !dry_run {
                spare::remove(&hot);
            }
            free = free.saturating_add(spare);
        } else {
            kept += spare;
        }
        // The oldest hour that may stay: folders are named so that their order is that of time.
        let oldest = self.age_us.map(|age| {
            let limit = now_us.saturating_sub(age).div_euclid(HOUR_US) * HOUR_US;
            hour_folder(root, limit)
        });
        let mut oldest_left = None;
        for file in &files {
            let aged = oldest.as_ref().is_some_and(|oldest| file.hour < *oldest);
            if !aged && !self.is_over(kept, free) {
                oldest_left = oldest_left.or(Some(file));
                break;
            }
            if !dry_run {
                // Without it those that it has the rows of would count again.
                let has_rows_of = |c: &&SealedFile| file.sealed.is_some_and(|file| file.covers(c));
                let mut all = covered.iter().filter(has_rows_of).map(|f| &f.path).chain([&file.path]);
                let removed = all.try_for_each(|path| match fs::remove_file(path) {
                    Err(e) if e.kind() != io::ErrorKind::NotFound => Err((path.clone(), e.to_string())),
                    _ => Ok(()),
                });
                if let Err(stuck) = removed {
                    // The bounds hold all the same: a newer one goes in its place.
                    oldest_left = oldest_left.or(Some(file));
                    retired.stuck.push(stuck);
                    continue;
                }
                // Those of the hour and the day go when they are empty.
                let hour = file.sealed.and_then(|file| file.path.parent());
                let _ = hour.is_some_and(|h| fs::remove_dir(h).is_ok())
                    && hour.and_then(Path::parent).is_some_and(|d| fs::remove_dir(d).is_ok());
            }
            kept -= file.bytes;
            free = free.saturating_add(file.bytes);
            retired.bytes += file.bytes;
            retired.files.push(file.path.clone());
        }
        for (path, bytes) in waiting {
            if !self.is_over(kept, free) {
                break;
            }
            match if dry_run { Ok(()) } else { fs::remove_file(&path) } {
                // Sealed meanwhile.
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                Err(e) => {
                    retired.stuck.push((path, e.to_string()));
                    continue;
                }
                Ok(()) => {}
            }
            kept -= bytes;
            free = free.saturating_add(bytes);
            retired.bytes += bytes;
            retired.files.push(path);
        }
        if let Some(oldest) = oldest_left.filter(|_| !dry_run) {
            ledger::retire(root, node, &oldest.date)?;
        }
        Ok(retired)
    }

    /// Whether so many bytes are too many, or so many free ones too few.
    fn is_over(&self, kept: u64, free: u64) -> bool {
        self.bytes.is_some_and(|most| kept > most) || self.free_bytes.is_some_and(|least| free < least)
    }
}

/// A file that goes when it is old.
struct Aged<'a> {
    // The folder of its hour: their order is that of time.
    hour: PathBuf,
    date: String,
    path: PathBuf,
    bytes: u64,
    // One of flows.
    sealed: Option<&'a SealedFile>,
}

impl<'a> Aged<'a> {
    fn of(file: &'a SealedFile) -> Self {
        let hour = file.path.parent().map(Path::to_path_buf).unwrap_or_default();
        Self { hour, date: file.date.clone(), path: file.path.clone(), bytes: file.bytes, sealed: Some(file) }
    }
}

/// A node's files of options records that are whole.
fn options(root: &Path, node: &str) -> io::Result<Vec<Aged<'static>>> {
    let entries = match fs::read_dir(root.join("options")) {
        Ok(entries) => entries,
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return Ok(Vec::new()),
        Err(e) => return Err(e),
    };
    let (prefix, mut found) = (format!("{node}-"), Vec::new());
    for entry in entries {
        let path = entry?.path();
        let start = path.file_name().and_then(|name| start_in(name.to_str()?, &prefix, Format::Ndjson));
        let at = |range: Range<usize>| start.as_deref().and_then(|start| start.get(range)).unwrap_or_default();
        let (date, hour) = (format!("{}-{}-{}", at(0..4), at(4..6), at(6..8)), at(9..11));
        if let (Some(_), Ok(about)) = (&start, fs::metadata(&path)) {
            let hour = root.join(format!("date={date}")).join(format!("hour={hour}"));
            found.push(Aged { hour, date, path, bytes: about.len(), sealed: None });
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

/// The segments of a folder and their bytes, the oldest first.
fn waiting(folder: &Path) -> io::Result<Vec<(PathBuf, u64)>> {
    let found = match segments(folder) {
        Ok(found) => found,
        Err(e) if e.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(e) => return Err(e),
    };
    let sized = |(_, path): (i64, PathBuf)| {
        let bytes = fs::metadata(&path).map_or(0, |m| m.len());
        (path, bytes)
    };
    Ok(found.into_iter().map(sized).collect())
}

/// Bytes of the file system that this process may still use.
fn free_bytes(path: &Path) -> io::Result<u64> {
    let found = rustix::fs::statvfs(path)?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}
