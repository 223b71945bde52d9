//! The files that tables are read from, looked at again when they change.

use super::exporters::Exporters;
use super::geo::Geo;
use super::networks::Networks;
use super::places::DATABASES;
use std::fmt;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

/// Where the files are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Paths {
    /// A file of exporters, TOML.
    pub exporters: Option<PathBuf>,
    /// A table of prefixes.
    pub networks: Option<PathBuf>,
    /// MaxMind DB files, at most 4.
    pub geo: Vec<PathBuf>,
}

/// What files said when they were read.
#[derive(Clone, Debug, Default)]
pub struct Tables {
    /// Of exporters.
    pub exporters: Arc<Exporters>,
    /// Of prefixes.
    pub networks: Arc<Networks>,
    /// Of places; the first that says something counts.
    pub geo: Vec<Arc<Geo>>,
}

impl Tables {
    /// Whether addresses are looked up.
    pub(super) fn has_places(&self) -> bool {
        !self.networks.is_empty() || !self.geo.is_empty()
    }
}

/// A file that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileError {
    /// Its path.
    pub path: PathBuf,
    /// Why.
    pub reason: String,
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.reason)
    }
}

impl std::error::Error for FileError {}

/// What became of a file that changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// It was read, and counts from now on.
    Read(PathBuf),
    /// It cannot be used; what it said before counts on.
    Kept(FileError),
}

/// Files and what they say.
#[derive(Clone, Debug, Default)]
pub struct Files {
    files: Vec<Watched>,
    tables: Tables,
}

#[derive(Clone, Debug)]
struct Watched {
    path: PathBuf,
    what: What,
    // As it was when it was read, or when it was said that it cannot be.
    seen: Option<Stamp>,
    // As it was at the last look: what changes still is not read yet.
    last: Option<Stamp>,
}

#[derive(Clone, Copy, Debug)]
enum What {
    Exporters,
    Networks,
    Geo(usize),
}

/// What tells a file from another of its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    bytes: u64,
    modified: Option<SystemTime>,
    inode: u64,
}

impl Stamp {
    fn of(path: &Path) -> Option<Self> {
        let about = fs::metadata(path).ok()?;
        #[cfg(unix)]
        let inode = std::os::unix::fs::MetadataExt::ino(&about);
        #[cfg(not(unix))]
        let inode = 0;
        Some(Self { bytes: about.len(), modified: about.modified().ok(), inode })
    }
}

/// Reads a file, and nothing else: what is a pipe, a socket or a device may never end, and cannot be read again.
///
/// # Errors
/// Those of the file system; [`io::ErrorKind::InvalidInput`] for what is no file.
pub fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    let mut options = fs::OpenOptions::new();
    options.read(true);
    // A pipe without a writer is not waited for.
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, libc::O_NONBLOCK);
    refuse_others(&fs::metadata(path)?)?;
    let mut file = options.open(path)?;
    // It may be another by now.
    let about = file.metadata()?;
    refuse_others(&about)?;
    let mut bytes = Vec::with_capacity(usize::try_from(about.len()).unwrap_or(0));
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn refuse_others(about: &fs::Metadata) -> io::Result<()> {
    let kind = about.file_type();
    if kind.is_file() {
        return Ok(());
    }
    #[cfg(unix)]
    let special = {
        use std::os::unix::fs::FileTypeExt;
        let kinds = [(kind.is_fifo(), "a pipe"), (kind.is_socket(), "a socket"), (kind.is_dir(), "a folder")];
        kinds.into_iter().find(|k| k.0).map_or("a device", |k| k.1)
    };
    #[cfg(not(unix))]
    let special = if kind.is_dir() { "a folder" } else { "no file" };
    Err(io::Error::new(io::ErrorKind::InvalidInput, format!("it is {special}; give a file, which can be read again")))
}

impl Files {
    /// Reads all files.
    ///
    /// # Errors
    /// The first that cannot be read, or in which something is wrong.
    pub fn read(paths: &Paths) -> Result<Self, FileError> {
        if let Some(path) = paths.geo.get(DATABASES) {
            let reason = format!("one MaxMind DB file too many: at most {DATABASES}");
            return Err(FileError { path: path.clone(), reason });
        }
        let exporters = paths.exporters.iter().map(|p| (p, What::Exporters));
        let networks = paths.networks.iter().map(|p| (p, What::Networks));
        let geo = paths.geo.iter().enumerate().map(|(at, p)| (p, What::Geo(at)));
        let mut files = Self::default();
        for (path, what) in exporters.chain(networks).chain(geo) {
            let seen = Stamp::of(path);
            files.take(path, what, read_file(path))?;
            files.files.push(Watched { path: path.clone(), what, seen, last: seen });
        }
        Ok(files)
    }

    /// Whether there is no file.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// What they say.
    pub fn tables(&self) -> &Tables {
        &self.tables
    }

    /// Reads again what changed since it was read, and did not change since the last call: a file may be half written.
    pub fn refresh(&mut self) -> Vec<Change> {
        let mut changes = Vec::new();
        for at in 0..self.files.len() {
            let Some(file) = self.files.get_mut(at) else { break };
            let now = Stamp::of(&file.path);
            let still = now == file.last;
            file.last = now;
            if !still || now == file.seen {
                continue;
            }
            let bytes = read_file(&file.path);
            // What changed while it was read is looked at again.
            if Stamp::of(&file.path) != now {
                continue;
            }
            file.seen = now;
            let (path, what) = (file.path.clone(), file.what);
            changes.push(match self.take(&path, what, bytes) {
                Ok(()) => Change::Read(path),
                Err(error) => Change::Kept(error),
            });
        }
        changes
    }

    fn take(&mut self, path: &Path, what: What, bytes: io::Result<Vec<u8>>) -> Result<(), FileError> {
        let wrong = |reason: String| FileError { path: path.to_path_buf(), reason };
        let bytes = bytes.map_err(|e| wrong(e.to_string()))?;
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).map_err(|_| wrong("no UTF-8 text".to_string()));
        match what {
            What::Exporters => {
                let read = Exporters::parse(&text(bytes)?).map_err(|e| wrong(e.to_string()))?;
                self.tables.exporters = Arc::new(read);
            }
            What::Networks => {
                let read = Networks::parse(&text(bytes)?).map_err(|e| wrong(e.to_string()))?;
                self.tables.networks = Arc::new(read);
            }
            What::Geo(at) => {
                let read = Arc::new(Geo::read(bytes).map_err(|e| wrong(e.to_string()))?);
                match self.tables.geo.get_mut(at) {
                    Some(old) => *old = read,
                    None => self.tables.geo.push(read),
                }
            }
        }
        Ok(())
    }
}
