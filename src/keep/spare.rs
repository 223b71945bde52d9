//! The file of a segment that was sealed, kept for the next: what is written over it needs no new memory.
//!
//! Finding pages for a file takes longer than copying to them, and longer still where a hypervisor takes freed memory back and has to give
//! it anew. A file goes to the next segment only where nobody reads it: readers hold it with a shared lock.

use super::fault;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Where files wait, in the folder of a node: while one is sealed another may be written, and be done before it. None is the name of a segment.
const WAIT: [&str; 2] = ["spare.1", "spare.2"];
/// And where one is made ready.
const TAKEN: &str = "spare.taken";

/// What follows the last batch where something older may stand behind it: the head of a message that is longer than any file.
pub(super) const END: [u8; 8] = [0xff; 8];

/// Opens a segment to read it: as long as it is open nothing is written over it.
pub(super) fn open(path: &Path) -> io::Result<File> {
    let file = File::open(path)?;
    // Where there are no locks the file is not kept for another either.
    let _ = file.lock_shared();
    // Meanwhile it may have become another segment.
    let (ours, named) = (file.metadata()?, fs::metadata(path)?);
    if (ours.dev(), ours.ino()) != (named.dev(), named.ino()) {
        return Err(io::ErrorKind::NotFound.into());
    }
    Ok(file)
}

/// Removes a segment with so many bytes of rows, or keeps its file for another.
pub(super) fn retire(segment: &Path, used: u64) -> io::Result<()> {
    let Some(folder) = segment.parent() else { return fs::remove_file(segment) };
    let place = WAIT.map(|name| folder.join(name)).into_iter().find(|place| !place.exists());
    match place.map(|place| keep(segment, &place, used)) {
        Some(Ok(true)) => Ok(()),
        _ => fs::remove_file(segment),
    }
}

fn keep(segment: &Path, place: &Path, used: u64) -> io::Result<bool> {
    let file = File::options().write(true).open(segment)?;
    if file.try_lock().is_err() {
        return Ok(false);
    }
    // No more room than the traffic of today needs.
    if file.metadata()?.len() / 2 > used {
        file.set_len(used)?;
    }
    fault::step("cut");
    // The folder is not synced: what is sealed has its names on the disk, and no more is promised where the machine stops. Until the
    // disk knows this name, rows that are written over the file go with the old one.
    fs::rename(segment, place)?;
    Ok(true)
}

/// A file that waits in a folder, with a new name and without content; and its length.
pub(super) fn take(folder: &Path, path: &Path) -> Option<(File, u64)> {
    let taken = folder.join(TAKEN);
    // Only then is it ours.
    WAIT.iter().find(|name| fs::rename(folder.join(name), &taken).is_ok())?;
    let ready = || {
        let file = File::options().write(true).open(&taken)?;
        fault::step("taken");
        file.write_all_at(&END, 0)?;
        let bytes = file.metadata()?.len();
        fs::rename(&taken, path)?;
        Ok((file, bytes))
    };
    let ready: io::Result<(File, u64)> = ready();
    if ready.is_err() {
        let _ = fs::remove_file(taken);
    }
    ready.ok()
}

/// Gives the room back.
pub(super) fn remove(folder: &Path) -> usize {
    paths(folder).filter(|path| fs::remove_file(path).is_ok()).count()
}

/// Bytes that wait.
pub(super) fn bytes(folder: &Path) -> u64 {
    paths(folder).filter_map(|path| fs::metadata(path).ok()).map(|m| m.len()).sum()
}

fn paths(folder: &Path) -> impl Iterator<Item = PathBuf> {
    WAIT.into_iter().chain([TAKEN]).map(|name| folder.join(name))
}
