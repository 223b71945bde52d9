//! What a collector writes to: the hot segment, and a thread that seals those before it.

use super::layout::{HOUR_US, hot_folder, is_node, sealed_files, segments};
use super::retention::Retention;
use super::seal::seal;
use super::segment::Segment;
use crate::columns::Batch;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, unbounded};
use std::collections::VecDeque;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, SystemTime};

/// How a store is set up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Who writes: letters, digits and `_`. Each process that writes into a folder needs a name of its own.
    pub node: String,
    /// A new segment begins every so often, microseconds; and at each hour.
    pub stretch_us: i64,
    /// And when one has so many bytes.
    pub segment_bytes: u64,
    /// What is kept.
    pub retention: Retention,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            node: super::default_node(),
            stretch_us: 300_000_000,
            segment_bytes: 256 << 20,
            retention: Retention::default(),
        }
    }
}

/// What was done so far.
#[derive(Debug, Default)]
pub struct Progress {
    /// Rows in sealed files of this process.
    pub rows_sealed: AtomicU64,
    /// Files sealed.
    pub files_sealed: AtomicU64,
    /// Bytes of them.
    pub bytes_sealed: AtomicU64,
    /// Times that sealing failed; it is tried again.
    pub failures: AtomicU64,
    /// Files removed because they were old or too many.
    pub files_retired: AtomicU64,
}

/// How long a stretch that is over waits for rows of other threads, microseconds.
const GRACE_US: i64 = 2_000_000;
/// How often sealing is tried again after an error.
const RETRY: Duration = Duration::from_secs(10);
/// How often it is looked whether something is too old.
const RETENTION_EVERY: Duration = Duration::from_secs(60);

/// A folder that a collector keeps flows in.
pub struct Store {
    options: Options,
    folder: PathBuf,
    // Held as long as the store is there.
    _lock: File,
    segment: Option<Segment>,
    // The stretch that the segment is of.
    stretch: i64,
    last_id: i64,
    jobs: Option<Sender<(i64, PathBuf)>>,
    sealer: Option<JoinHandle<VecDeque<(i64, PathBuf)>>>,
    progress: Arc<Progress>,
}

impl Store {
    /// Opens a folder, made where it is missing. Segments that a process before left are sealed in the background.
    ///
    /// # Errors
    /// Those of the file system; [`io::ErrorKind::WouldBlock`] where another process of the same node writes here;
    /// [`io::ErrorKind::InvalidInput`] for a node's name that cannot stand in a file's.
    pub fn open(root: &Path, options: Options) -> io::Result<Self> {
        if !is_node(&options.node) {
            let text =
                format!("{:?} is no name of a node: letters, digits and _ are accepted, at most 64", options.node);
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        let folder = hot_folder(root, &options.node);
        fs::create_dir_all(&folder)?;
        let lock = File::options().create(true).append(true).open(folder.join("lock"))?;
        lock.try_lock().map_err(|e| match e {
            TryLockError::WouldBlock => {
                let text =
                    format!("another process writes here as the node {}; give --node another name", options.node);
                io::Error::new(io::ErrorKind::WouldBlock, text)
            }
            TryLockError::Error(e) => e,
        })?;
        let (sealed, unfinished) = sealed_files(root)?;
        for path in unfinished {
            let own = format!(".{}-", options.node);
            if path.file_name().is_some_and(|n| n.to_string_lossy().starts_with(&own)) {
                fs::remove_file(path)?;
            }
        }
        let left = segments(&folder)?;
        let ids = left.iter().map(|s| s.0).chain(sealed.iter().filter(|f| f.node == options.node).map(|f| f.segment));
        let last_id = ids.max().unwrap_or(0);
        let (jobs, inbox) = unbounded();
        left.into_iter().for_each(|job| drop(jobs.send(job)));
        let progress = Arc::new(Progress::default());
        let sealer = Sealer {
            root: root.to_path_buf(),
            node: options.node.clone(),
            retention: options.retention,
            inbox,
            waiting: VecDeque::new(),
            progress: progress.clone(),
        };
        let sealer = Builder::new().name("seal".into()).spawn(move || sealer.run())?;
        Ok(Self {
            options,
            folder,
            _lock: lock,
            segment: None,
            stretch: i64::MIN,
            last_id,
            jobs: Some(jobs),
            sealer: Some(sealer),
            progress,
        })
    }

    /// What sealing and retention have done.
    pub fn progress(&self) -> &Arc<Progress> {
        &self.progress
    }

    /// Appends all rows of a batch: when this returns they outlive the process.
    ///
    /// # Errors
    /// Those of the file system. None of the rows are there then, those before are, and the next call tries anew.
    pub fn write(&mut self, batch: &Arc<Batch>) -> io::Result<()> {
        let Some(first) = batch.runs().first() else { return Ok(()) };
        self.rotate(first.meta.received_at.0);
        // What somebody removed takes no more rows.
        self.segment.take_if(|s| s.is_gone());
        if self.segment.is_none() {
            // A folder that was removed comes again.
            fs::create_dir_all(&self.folder)?;
            self.last_id = now_us().max(self.last_id + 1);
            self.segment = Some(Segment::create(&self.folder, self.last_id)?);
            self.stretch = self.start_of(now_us());
        }
        let Some(segment) = &mut self.segment else { return Ok(()) };
        let result = segment.append(batch);
        if result.is_err() {
            self.close();
        }
        result
    }

    /// Begins a new segment where the time of the one before is over.
    pub fn tick(&mut self, now_us: i64) {
        self.rotate(now_us.saturating_sub(GRACE_US));
    }

    /// Seals everything.
    ///
    /// # Errors
    /// Where segments could not be sealed: they stay, and the next start seals them.
    pub fn finish(mut self) -> io::Result<()> {
        self.close();
        self.jobs = None;
        let left = self.sealer.take().and_then(|s| s.join().ok()).unwrap_or_default();
        match left.len() {
            0 => Ok(()),
            n => {
                let text =
                    format!("{n} segments in {} could not be sealed; the next start does it", self.folder.display());
                Err(io::Error::other(text))
            }
        }
    }

    fn rotate(&mut self, us: i64) {
        let over = self.start_of(us) > self.stretch;
        if self.segment.as_ref().is_some_and(|s| over || s.bytes() >= self.options.segment_bytes) {
            self.close();
        }
    }

    fn close(&mut self) {
        let Some(segment) = self.segment.take() else { return };
        if segment.rows == 0 {
            let _ = fs::remove_file(&segment.path);
        } else if let Some(jobs) = &self.jobs {
            let _ = jobs.send((segment.id, segment.path));
        }
    }

    fn start_of(&self, us: i64) -> i64 {
        let step = self.options.stretch_us.clamp(1_000_000, HOUR_US);
        let hour = us.div_euclid(HOUR_US) * HOUR_US;
        hour + (us - hour).div_euclid(step) * step
    }
}

/// The thread that seals.
struct Sealer {
    root: PathBuf,
    node: String,
    retention: Retention,
    inbox: Receiver<(i64, PathBuf)>,
    // What failed, or came meanwhile.
    waiting: VecDeque<(i64, PathBuf)>,
    progress: Arc<Progress>,
}

impl Sealer {
    /// Until the store is gone; what could not be sealed.
    fn run(mut self) -> VecDeque<(i64, PathBuf)> {
        let mut looked: Option<std::time::Instant> = None;
        loop {
            if looked.is_none_or(|at| at.elapsed() >= RETENTION_EVERY) {
                looked = Some(std::time::Instant::now());
                if let Ok(retired) = self.retention.apply(&self.root, &self.node, now_us(), false) {
                    self.progress.files_retired.fetch_add(retired.files.len() as u64, Relaxed);
                }
            }
            match self.inbox.recv_timeout(if self.waiting.is_empty() { RETENTION_EVERY } else { RETRY }) {
                Ok(job) => self.waiting.push_back(job),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    self.seal_waiting();
                    return self.waiting;
                }
            }
            self.seal_waiting();
        }
    }

    /// Seals what waits; what fails waits on.
    fn seal_waiting(&mut self) {
        for _ in 0..self.waiting.len() {
            let Some((id, path)) = self.waiting.pop_front() else { return };
            match seal(&self.root, &self.node, id, &path) {
                Ok(sealed) => {
                    self.progress.rows_sealed.fetch_add(sealed.rows, Relaxed);
                    self.progress.files_sealed.fetch_add(sealed.files, Relaxed);
                    self.progress.bytes_sealed.fetch_add(sealed.bytes, Relaxed);
                }
                // Removed by somebody: there is nothing to seal.
                Err(e) if e.kind() == io::ErrorKind::NotFound && !path.exists() => {}
                Err(_) => {
                    self.progress.failures.fetch_add(1, Relaxed);
                    self.waiting.push_back((id, path));
                }
            }
        }
    }
}

fn now_us() -> i64 {
    crate::columns::Timestamp::from(SystemTime::now()).0
}
