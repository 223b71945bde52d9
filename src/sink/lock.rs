//! A folder that one process has, and no other.

use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Held by a file in the folder; the kernel lets go of it when the process ends, however it does.
#[derive(Debug)]
pub(crate) struct Lock {
    file: File,
    path: PathBuf,
    // What is said where another has it.
    taken: String,
}

impl Lock {
    /// Takes the lock of that name; its folder is made where it is missing.
    ///
    /// # Errors
    /// Those of the file system; [`ErrorKind::WouldBlock`] with `taken` where another process has it.
    pub(crate) fn take(path: PathBuf, taken: String) -> io::Result<Self> {
        let file = held(&path, &taken)?;
        Ok(Self { file, path, taken })
    }

    /// Takes it anew where somebody removed its file, as what is held there no other process sees; whether that was so.
    ///
    /// # Errors
    /// As [`take`](Self::take): another process may have been quicker.
    pub(crate) fn renew(&mut self) -> io::Result<bool> {
        let is_gone = !is_at(&self.file, &self.path)?;
        if is_gone {
            self.file = held(&self.path, &self.taken)?;
        }
        Ok(is_gone)
    }
}

fn held(path: &Path, taken: &str) -> io::Result<File> {
    standing(path, || {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let file = File::options().create(true).append(true).open(path)?;
        file.try_lock().map_err(|e| match e {
            TryLockError::WouldBlock => io::Error::new(ErrorKind::WouldBlock, taken.to_string()),
            TryLockError::Error(e) => e,
        })?;
        Ok(file)
    })
}

/// A file that was opened and locked, and stands at its path still: one that was removed meanwhile, or got another name, is no
/// lock to whoever comes next.
pub(super) fn standing(path: &Path, open: impl Fn() -> io::Result<File>) -> io::Result<File> {
    for _ in 0..TRIES {
        let file = open()?;
        if is_at(&file, path)? {
            return Ok(file);
        }
    }
    Err(io::Error::other(format!("{} is another file whenever it is opened", path.display())))
}

/// How often a file may be another one: where it is each time, its file system is none to write to.
const TRIES: u32 = 100;

/// Whether a file is the one that stands at a path.
pub(crate) fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let ours = file.metadata()?;
    match fs::metadata(path) {
        Ok(there) => Ok((there.dev(), there.ino()) == (ours.dev(), ours.ino())),
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(false),
        Err(e) => Err(e),
    }
}
