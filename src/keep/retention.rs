//! What is kept, and for how long.

use super::layout::{HOUR_US, Listing, SealedFile, hot_folder, hour_folder, listing, segments};
use super::ledger;
use super::spare;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Bounds on what a node keeps; `None` is no bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// How long after its hour a file is kept, microseconds.
    pub age_us: Option<i64>,
    /// Bytes of the node's files, those of segments that wait to be sealed among them.
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

    /// Removes the oldest files of a node until all bounds hold, those that wait to be written over before them; with `dry_run`
    /// only says which. Where that is not enough segments go that wait to be sealed, but for the last, which is being written. A
    /// file that cannot be removed is passed over, and named.
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
        let mut kept: u64 = own.iter().map(|f| f.bytes).chain(waiting.iter().map(|w| w.1)).sum();
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
        for file in &own {
            let aged = oldest.as_ref().is_some_and(|oldest| file.path.parent().is_some_and(|f| f < oldest.as_path()));
            if !aged && !self.is_over(kept, free) {
                oldest_left = oldest_left.or(Some(file));
                break;
            }
            if !dry_run {
                // Without it those that it has the rows of would count again.
                let mut all = covered.iter().filter(|c| file.covers(c)).chain([file]).map(|f| &f.path);
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
                let hour = file.path.parent();
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
