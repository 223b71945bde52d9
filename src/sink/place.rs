//! Where a file is written: beside its name until it is whole, and straight into what is no plain file.

use super::lock::standing;
use std::fs::{self, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};

/// A file being written under another name until it is whole.
///
/// Links are followed: what they lead to is replaced, not they. A file that was there keeps its mode, and its owner where
/// the process may give it. A device, a pipe or standard output by its name is written to as it is.
#[derive(Debug)]
pub struct Place {
    file: File,
    moved: Option<Moved>,
}

/// A file that has not its name yet.
#[derive(Debug)]
struct Moved {
    // The name until it is whole, and its own.
    beside: PathBuf,
    path: PathBuf,
    // The file's device and number there.
    is: (u64, u64),
}

impl Place {
    /// Begins the file.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn create(path: &Path) -> io::Result<Self> {
        if let Some(file) = own(path)? {
            return Ok(Self { file, moved: None });
        }
        let there = fs::metadata(path).ok();
        if there.as_ref().is_some_and(|m| !m.is_file()) {
            return Ok(Self { file: OpenOptions::new().write(true).open(path)?, moved: None });
        }
        let path = followed(path)?;
        let beside = beside(&path)?;
        let file = match (begun(&beside), &there) {
            (Ok(file), _) => file,
            // The file may be written to though its folder may not.
            (Err(e), Some(_)) if e.kind() == io::ErrorKind::PermissionDenied => {
                return Ok(Self { file: OpenOptions::new().write(true).truncate(true).open(&path)?, moved: None });
            }
            (Err(e), _) => return Err(e),
        };
        let ours = file.metadata()?;
        let place = Self { file, moved: Some(Moved { beside: beside.clone(), path, is: (ours.dev(), ours.ino()) }) };
        if let Some(there) = there {
            // First the owner: giving it takes some bits of the mode.
            if (ours.uid(), ours.gid()) != (there.uid(), there.gid()) {
                let _ = chown(&beside, Some(there.uid()), Some(there.gid()));
            }
            place.file.set_permissions(Permissions::clone(&there.permissions()))?;
        }
        Ok(place)
    }

    /// What is written goes here.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn stream(&self) -> io::Result<Box<dyn Write + Send>> {
        Ok(Box::new(self.file.try_clone()?))
    }

    /// The file is whole: it stands under its name from now on.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn finish(mut self) -> io::Result<()> {
        let Some(Moved { beside, path, .. }) = self.moved.take() else { return Ok(()) };
        fs::rename(&beside, &path).inspect_err(|_| drop(fs::remove_file(&beside)))
    }

    /// As [`finish`](Self::finish), on the disk when it returns.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn finish_on_disk(mut self) -> io::Result<()> {
        self.end_on_disk()
    }

    /// The same, that can be tried again.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn end_on_disk(&mut self) -> io::Result<()> {
        let Some(Moved { beside, path, .. }) = &self.moved else { return self.sync_as_it_is() };
        self.file.sync_all()?;
        fs::rename(beside, path)?;
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        // Opened before the name is known to stand: from then on there is nothing to rename again, and a folder that cannot be
        // made sure of is said once.
        let folder = File::open(folder);
        self.moved = None;
        folder?.sync_all()
    }

    /// What is written under its own name may be no file, and has no disk then.
    fn sync_as_it_is(&self) -> io::Result<()> {
        if self.file.metadata()?.is_file() { self.file.sync_all() } else { Ok(()) }
    }

    /// Whether a path leads to a plain file, or to none: one that can stand under its name when it is whole.
    pub fn is_plain(path: &Path) -> bool {
        let is_own = path.to_str().is_some_and(|p| OWN.iter().flatten().any(|own| *own == p));
        !is_own && fs::metadata(path).map_or(true, |m| m.is_file())
    }

    /// Whether somebody removed it, or replaced it.
    pub fn is_gone(&self) -> bool {
        self.moved.as_ref().is_some_and(|moved| match fs::symlink_metadata(&moved.beside) {
            Ok(there) => (there.dev(), there.ino()) != moved.is,
            Err(e) => matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory),
        })
    }

    /// What is written so far stays, under a name that the next file of this one's name leaves alone: that name.
    pub fn leave(mut self) -> Option<PathBuf> {
        let Moved { beside, path, .. } = self.moved.take()?;
        let left = free(&path, ".partial");
        Some(if fs::rename(&beside, &left).is_ok() { left } else { beside })
    }
}

impl Drop for Place {
    /// What was not finished does not stay.
    fn drop(&mut self) {
        if let Some(moved) = &self.moved {
            let _ = fs::remove_file(&moved.beside);
        }
    }
}

/// The name of a file until it is whole.
fn beside(path: &Path) -> io::Result<PathBuf> {
    let name = path.file_name().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "no file name"))?;
    let mut beside = std::ffi::OsString::from(".");
    beside.push(name);
    beside.push(".tmp");
    Ok(path.with_file_name(beside))
}

/// What a process that was killed left of a file, if that is there: where, and the path that it was to have.
pub(super) fn left(path: &Path) -> io::Result<Option<(PathBuf, PathBuf)>> {
    let path = followed(path)?;
    let left = beside(&path)?;
    Ok(fs::symlink_metadata(&left).is_ok_and(|m| m.is_file()).then_some((left, path)))
}

/// A name that no file has: that of a path, what is put behind it, and a number where there are such.
pub(crate) fn free(path: &Path, behind: &str) -> PathBuf {
    let name = |end: &str| {
        let mut name = path.file_name().unwrap_or_default().to_os_string();
        name.push(end);
        path.with_file_name(name)
    };
    let (mut free, mut n) = (name(behind), 2);
    while fs::symlink_metadata(&free).is_ok() {
        free = name(&format!("{behind}-{n}"));
        n += 1;
    }
    free
}

/// An empty file that no other process writes: what one that runs has written is not cut off.
fn begun(beside: &Path) -> io::Result<File> {
    let file = standing(beside, || {
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(beside)?;
        // Where there are no locks nobody can tell.
        if let Err(TryLockError::WouldBlock) = file.try_lock() {
            let text = format!("another process writes {}; write to another file, or end that one", beside.display());
            return Err(io::Error::new(io::ErrorKind::WouldBlock, text));
        }
        Ok(file)
    })?;
    file.set_len(0)?;
    Ok(file)
}

/// Bytes that a disk must have room for to be tried again.
pub(crate) const PROBE: usize = 1 << 18;

/// Tries whether a file of so many bytes can be written, which goes again.
pub(crate) fn probe(path: &Path, bytes: usize) -> io::Result<()> {
    let written = fs::write(path, vec![0; bytes]);
    written.and(fs::remove_file(path))
}

/// Whether there is no room on the disk, or none for this user.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// The names of standard output, and of standard error.
const OWN: [[&str; 3]; 2] =
    [["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"], ["/dev/stderr", "/dev/fd/2", "/proc/self/fd/2"]];

/// Standard output and error by their names: opened anew, a file behind them would be written from its start.
fn own(path: &Path) -> io::Result<Option<File>> {
    let owned = match path.to_str() {
        Some(name) if OWN[0].contains(&name) => io::stdout().as_fd().try_clone_to_owned()?,
        Some(name) if OWN[1].contains(&name) => io::stderr().as_fd().try_clone_to_owned()?,
        _ => return Ok(None),
    };
    Ok(Some(owned.into()))
}

/// What a path leads to, there or not yet.
fn followed(path: &Path) -> io::Result<PathBuf> {
    /// Links that follow each other at most, as the kernel has it.
    const LINKS: usize = 40;
    let mut path = path.to_path_buf();
    for _ in 0..LINKS {
        match fs::read_link(&path) {
            Ok(target) => path = path.parent().unwrap_or(Path::new("")).join(target),
            Err(_) => return Ok(path),
        }
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, "too many links"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn write(path: &Path, text: &str) {
        let place = Place::create(path).expect("a place");
        place.stream().and_then(|mut to| to.write_all(text.as_bytes())).expect("written");
        place.finish().expect("finished");
    }

    #[test]
    fn links_modes_and_what_is_no_file() {
        let folder = std::env::temp_dir().join(format!("flowlane-place-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(folder.join("far")).expect("a folder");
        let (target, link) = (folder.join("far/target"), folder.join("link"));
        symlink("far/target", &link).expect("a link");
        // To nothing yet, then to a file that only its owner may read.
        write(&link, "first");
        fs::set_permissions(&target, Permissions::from_mode(0o600)).expect("a mode");
        write(&link, "second");
        assert!(fs::symlink_metadata(&link).expect("there").is_symlink());
        assert_eq!(fs::read_to_string(&target).expect("text"), "second");
        assert_eq!(fs::metadata(&target).expect("there").mode() & 0o777, 0o600);
        // What is not finished leaves what was there, and nothing else.
        drop(Place::create(&link).expect("a place"));
        assert_eq!(fs::read_dir(folder.join("far")).expect("a folder").count(), 1);
        write(Path::new("/dev/null"), "nothing");
        assert!(!fs::metadata("/dev/null").expect("there").is_file());
        symlink("round", folder.join("round")).expect("a link");
        assert!(Place::create(&folder.join("round")).is_err());
        fs::remove_dir_all(&folder).expect("removed");
    }
}
