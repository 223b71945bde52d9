//! What a collector writes to: the hot segment, and a thread that seals those before it.

use super::compact::{Compacted, compact, remove_covered};
use super::fault;
use super::layout::{HOUR_US, SealedFile, hot_folder, is_segment, listing, node, segments};
use super::retention::Retention;
use super::seal::seal;
use super::segment::Segment;
use super::spare;
use crate::columns::Batch;
use crate::net;
use crate::sink::parquet::Memory;
use crate::sink::{Lock, LostRows, PROBE, is_full, probe};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, unbounded};
use std::collections::{HashMap, HashSet, VecDeque};
use std::fs::{self, File};
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

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
    /// Files of fewer bytes are made one when their hour is over; 0 leaves them.
    pub small_bytes: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            node: super::default_node(),
            stretch_us: 300_000_000,
            segment_bytes: 256 << 20,
            retention: Retention::default(),
            small_bytes: 64 << 20,
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
    /// Segments that wait to be sealed now.
    pub segments_waiting: AtomicU64,
    /// Times that sealing, or looking for what should go or be made one, failed; it is tried again.
    pub failures: AtomicU64,
    /// What was wrong the last time.
    pub last_failure: Mutex<String>,
    /// Small files that were made one.
    pub files_compacted: AtomicU64,
    /// Files removed because they were old or too many.
    pub files_retired: AtomicU64,
    /// Files that should go and could not be removed, when that was tried last.
    pub files_stuck: AtomicU64,
    /// Segments and sealed files that are damaged: each was found once.
    pub files_damaged: AtomicU64,
    /// Rows of such segments that could not be read, as far as that can be told.
    pub rows_damaged: AtomicU64,
    // Lines that say which files are damaged, for a log.
    damage: Mutex<Vec<String>>,
}

/// Such lines that wait, at most.
const LINES: usize = 100;

impl Progress {
    /// Which files were found to be damaged since the last call.
    pub fn take_damage(&self) -> Vec<String> {
        std::mem::take(&mut self.damage.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Something failed with a file or a folder, and is tried again.
    fn failed(&self, what: &str, path: &Path, error: &io::Error) {
        self.failures.fetch_add(1, Relaxed);
        self.say(format!("{what} {}: {error}", path.display()));
    }

    /// A file is damaged, which is found once.
    fn damaged(&self, text: String) {
        self.files_damaged.fetch_add(1, Relaxed);
        let mut damage = self.damage.lock().unwrap_or_else(PoisonError::into_inner);
        if damage.len() < LINES {
            damage.push(text.clone());
        }
        drop(damage);
        self.say(text);
    }

    fn say(&self, what: String) {
        *self.last_failure.lock().unwrap_or_else(PoisonError::into_inner) = what;
    }
}

/// How long a stretch that is over waits for rows of other threads, microseconds.
const GRACE_US: i64 = 2_000_000;
/// How often it is looked whether the folder is still there.
const LOOK_FOR_LOCK: Duration = Duration::from_secs(1);
/// How often sealing is tried again after an error.
const RETRY: Duration = Duration::from_secs(10);
/// How often it is looked whether something is too old, or in too many files.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// How often it is looked at most because the disk is full.
const MAKE_ROOM: Duration = Duration::from_secs(1);
/// How nice sealing is to those that receive and write: what waits to be sealed is safe on the disk, however long that takes.
const NICE: i32 = 19;
/// Segments that wait to be sealed when a second thread helps: one that writes can be faster than one that seals. Fewer come of a moment
/// in which another process had the core, and a thread more takes memory of its own.
const BEHIND: usize = 4;

/// A segment that is to be sealed.
#[derive(Clone)]
struct Job {
    id: i64,
    path: PathBuf,
    // Its rows, where this process wrote it.
    rows: HashMap<IpAddr, u64>,
}

/// Segments that somebody removed before their rows were sealed.
#[derive(Clone, Default)]
struct Removed {
    lost: LostRows,
    // Until it is said.
    why: Arc<Mutex<Option<io::Error>>>,
}

impl Removed {
    fn add(&self, path: &Path, rows: HashMap<IpAddr, u64>, when: &str) {
        self.lost.add_all(rows);
        let text = format!("{} was removed {when}", path.display());
        let mut why = self.why.lock().unwrap_or_else(PoisonError::into_inner);
        why.get_or_insert(io::Error::new(io::ErrorKind::NotFound, text));
    }

    fn said(&self) -> io::Result<()> {
        self.why.lock().unwrap_or_else(PoisonError::into_inner).take().map_or(Ok(()), Err)
    }
}

/// A folder that a collector keeps flows in.
pub struct Store {
    options: Options,
    folder: PathBuf,
    // Held as long as the store is there.
    lock: Lock,
    looked: Instant,
    segment: Option<Segment>,
    removed: Removed,
    // The stretch that the segment is of.
    stretch: i64,
    last_id: i64,
    jobs: Option<Sender<Job>>,
    sealer: Option<JoinHandle<VecDeque<Job>>>,
    helper: Option<JoinHandle<VecDeque<Job>>>,
    help: Sealer,
    progress: Arc<Progress>,
}

impl Store {
    /// Opens a folder, made where it is missing. Segments that a process before left are sealed in the background.
    ///
    /// # Errors
    /// Those of the file system; [`io::ErrorKind::WouldBlock`] where another process of the same node writes here;
    /// [`io::ErrorKind::InvalidInput`] for a node's name that cannot stand in a file's.
    pub fn open(root: &Path, options: Options) -> io::Result<Self> {
        node(&options.node).map_err(|text| io::Error::new(io::ErrorKind::InvalidInput, text))?;
        let folder = hot_folder(root, &options.node);
        let taken = format!("another process writes here as the node {}; give --node another name", options.node);
        let lock = Lock::take(folder.join("lock"), taken)?;
        spare::remove(&folder);
        remove_covered(root, &options.node, true)?;
        let found = listing(root)?;
        for path in found.unfinished {
            let own = format!(".{}-", options.node);
            if path.file_name().is_some_and(|n| n.to_string_lossy().starts_with(&own)) {
                fs::remove_file(path)?;
            }
        }
        let (sealed, left) = partition_sealed(segments(&folder)?, &found.sealed, &options.node);
        for ((_, path), folder) in sealed {
            // The name of what has its rows is on the disk before it goes.
            File::open(folder)?.sync_all()?;
            fs::remove_file(path)?;
        }
        let sealed = found.sealed.iter().filter(|f| f.node == options.node).map(|f| f.last);
        let ids = left.iter().map(|s| s.0).chain(sealed);
        let last_id = ids.max().unwrap_or(0);
        let (jobs, inbox) = unbounded();
        let progress = Arc::new(Progress::default());
        progress.segments_waiting.store(left.len() as u64, Relaxed);
        for (id, path) in left {
            let _ = jobs.send(Job { id, path, rows: HashMap::new() });
        }
        let removed = Removed::default();
        let sealer = Sealer {
            root: root.to_path_buf(),
            node: options.node.clone(),
            retention: options.retention,
            small_bytes: options.small_bytes,
            inbox,
            waiting: VecDeque::new(),
            passed_over: HashSet::new(),
            made_room: None,
            memory: Memory::new(),
            removed: removed.clone(),
            retired: Arc::default(),
            progress: progress.clone(),
        };
        let help = sealer.clone();
        let sealer = Builder::new().name("seal".into()).spawn(move || sealer.run())?;
        Ok(Self {
            options,
            folder,
            lock,
            looked: Instant::now(),
            segment: None,
            removed,
            stretch: i64::MIN,
            last_id,
            jobs: Some(jobs),
            sealer: Some(sealer),
            helper: None,
            help,
            progress,
        })
    }

    /// What sealing and retention have done.
    pub fn progress(&self) -> &Arc<Progress> {
        &self.progress
    }

    /// Rows that were written and are lost, because somebody removed their segment before it was sealed.
    pub fn lost(&self) -> &LostRows {
        &self.removed.lost
    }

    /// Appends all rows of a batch: when this returns they outlive the process.
    ///
    /// # Errors
    /// Those of the file system. None of the rows are there then, those before are, and the next call tries anew.
    pub fn write(&mut self, batch: &Arc<Batch>) -> io::Result<()> {
        let written = self.append(batch);
        // Where the disk is full what should go goes now, not when it is looked for next.
        match &written {
            Err(error) if is_full(error) && spare::remove(&self.folder) + self.help.make_room() > 0 => {
                self.append(batch)
            }
            _ => written,
        }
    }

    fn append(&mut self, batch: &Arc<Batch>) -> io::Result<()> {
        let Some(first) = batch.runs().first() else { return Ok(()) };
        self.leave_if(Segment::is_unlinked);
        self.rotate(first.meta.received_at.0);
        if self.segment.is_none() {
            // A folder that was removed comes again, and is this process's again.
            self.lock.renew()?;
            self.last_id = now_us().max(self.last_id + 1);
            self.segment = Some(Segment::create(&self.folder, self.last_id)?);
            fault::step("created");
            self.stretch = self.start_of(now_us());
        }
        let Some(segment) = &mut self.segment else { return Ok(()) };
        let result = segment.append(batch);
        fault::step("appended");
        if result.is_err() {
            self.close();
        }
        result
    }

    /// Tries whether the folder takes rows, with a file that goes again.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn probe(&mut self) -> io::Result<()> {
        self.lock.renew()?;
        probe(&self.folder.join("probe"), PROBE)
    }

    /// Begins a new segment where the time of the one before is over.
    ///
    /// # Errors
    /// A segment that somebody removed, said once; a folder that went away and cannot be made again, or that another process has by now.
    pub fn tick(&mut self, now_us: i64) -> io::Result<()> {
        let mut held = Ok(());
        if self.looked.elapsed() >= LOOK_FOR_LOCK {
            self.looked = Instant::now();
            self.leave_if(Segment::is_gone);
            held = self.lock.renew().map(drop);
        }
        self.rotate(now_us.saturating_sub(GRACE_US));
        self.removed.said().and(held)
    }

    /// Seals everything.
    ///
    /// # Errors
    /// Where segments could not be sealed: they stay, and the next start seals them. And where one was removed.
    pub fn finish(mut self) -> io::Result<()> {
        self.leave_if(Segment::is_gone);
        self.close();
        // Nobody receives any more: who is left to yield to is other processes.
        let last = self.help.clone();
        let last = Builder::new().name("seal-last".into()).spawn(move || last.help(0)).ok();
        self.jobs = None;
        let threads = [self.sealer.take(), self.helper.take(), last];
        let left: usize = threads.into_iter().flatten().map(|s| s.join().map_or(0, |left| left.len())).sum();
        spare::remove(&self.folder);
        match left {
            0 => self.removed.said(),
            n => {
                let last = self.progress.last_failure.lock().unwrap_or_else(PoisonError::into_inner);
                let folder = self.folder.display();
                let text = format!("{n} segments in {folder} could not be sealed; the next start does it ({last})");
                Err(io::Error::other(text))
            }
        }
    }

    /// What somebody removed takes no more rows, and those in it are lost.
    fn leave_if(&mut self, is_gone: impl Fn(&Segment) -> bool) {
        let Some(segment) = self.segment.take_if(|s| is_gone(s)) else { return };
        self.removed.add(&segment.path, segment.by_exporter, "while it was written");
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
            self.progress.segments_waiting.fetch_add(1, Relaxed);
            let _ = jobs.send(Job { id: segment.id, path: segment.path, rows: segment.by_exporter });
            fault::step("closed");
            self.catch_up();
        }
    }

    /// Lets another thread seal, too, where much waits: it takes a core that has nothing else to do.
    fn catch_up(&mut self) {
        if self.help.inbox.len() >= BEHIND && self.helper.as_ref().is_none_or(JoinHandle::is_finished) {
            // What the one before could not seal is tried again.
            for job in self.helper.take().and_then(|helper| helper.join().ok()).unwrap_or_default() {
                let _ = self.jobs.as_ref().map(|jobs| jobs.send(job));
            }
            let help = self.help.clone();
            // Without a thread it takes longer.
            self.helper = Builder::new().name("seal-more".into()).spawn(move || help.help(NICE)).ok();
        }
    }

    fn start_of(&self, us: i64) -> i64 {
        let step = self.options.stretch_us.clamp(1_000_000, HOUR_US);
        let hour = us.div_euclid(HOUR_US) * HOUR_US;
        hour + (us - hour).div_euclid(step) * step
    }
}

/// A segment with its number.
type Numbered = (i64, PathBuf);

/// Segments whose rows are in sealed files, each with the folder of the one that says so, and the others. The former are never sealed again:
/// after the machine stopped such a file may have the rows of another segment, that wrote over it.
fn partition_sealed(
    segments: Vec<Numbered>,
    sealed: &[SealedFile],
    node: &str,
) -> (Vec<(Numbered, PathBuf)>, Vec<Numbered>) {
    let (mut done, mut left) = (Vec::new(), Vec::new());
    for segment in segments {
        match sealed.iter().find(|file| file.ends(node, segment.0)).and_then(|file| file.path.parent()) {
            Some(folder) => done.push((segment, folder.to_path_buf())),
            None => left.push(segment),
        }
    }
    (done, left)
}

/// The thread that seals.
#[derive(Clone)]
struct Sealer {
    root: PathBuf,
    node: String,
    retention: Retention,
    small_bytes: u64,
    inbox: Receiver<Job>,
    // What failed, or came meanwhile.
    waiting: VecDeque<Job>,
    // Files that are not made one with others.
    passed_over: HashSet<PathBuf>,
    // When that was tried because the disk is full.
    made_room: Option<Instant>,
    memory: Memory,
    removed: Removed,
    // Segments that went because there is too much: no loss. Held while they go.
    retired: Arc<Mutex<HashSet<PathBuf>>>,
    progress: Arc<Progress>,
}

impl Sealer {
    /// Until the store is gone; what could not be sealed.
    fn run(mut self) -> VecDeque<Job> {
        net::be_nice(NICE);
        let mut looked: Option<Instant> = None;
        loop {
            if looked.is_none_or(|at| at.elapsed() >= LOOK_EVERY) {
                looked = Some(Instant::now());
                self.look();
            }
            match self.inbox.recv_timeout(if self.waiting.is_empty() { LOOK_EVERY } else { RETRY }) {
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

    /// Seals what there is; what could not be sealed.
    fn help(mut self, nice: i32) -> VecDeque<Job> {
        net::be_nice(nice);
        while let Ok(job) = self.inbox.try_recv() {
            self.waiting.push_back(job);
            self.seal_waiting();
            if !self.waiting.is_empty() {
                break;
            }
        }
        self.waiting
    }

    /// Removes what should go, where the disk is full; how many files. Not more often than each second.
    fn make_room(&mut self) -> usize {
        if self.retention.is_endless() || self.made_room.is_some_and(|at| at.elapsed() < MAKE_ROOM) {
            return 0;
        }
        self.made_room = Some(Instant::now());
        self.retire(now_us())
    }

    /// Removes what is too old, or too much; how many files.
    fn retire(&self, now: i64) -> usize {
        let mut segments = self.retired.lock().unwrap_or_else(PoisonError::into_inner);
        match self.retention.apply(&self.root, &self.node, now, false) {
            Ok(retired) => {
                segments.extend(retired.files.iter().filter(|path| is_segment(path)).cloned());
                self.progress.files_retired.fetch_add(retired.files.len() as u64, Relaxed);
                self.progress.files_stuck.store(retired.stuck.len() as u64, Relaxed);
                if let Some((path, why)) = retired.stuck.first() {
                    self.progress.say(format!("{}: {why}", path.display()));
                }
                retired.files.len()
            }
            Err(error) => {
                self.progress.failed("cannot look for what should go in", &self.root, &error);
                0
            }
        }
    }

    /// Removes what should go, and makes one of small files.
    fn look(&mut self) {
        let now = now_us();
        self.retire(now);
        self.passed_over.retain(|path| path.exists());
        // Sealing comes first.
        while self.inbox.is_empty() && self.waiting.is_empty() {
            match compact(&self.root, &self.node, now, self.small_bytes, &self.passed_over) {
                Ok(Compacted::Nothing) => break,
                Ok(Compacted::Files(files)) => {
                    self.progress.files_compacted.fetch_add(files as u64, Relaxed);
                }
                // One file each for as long as this process runs.
                Ok(Compacted::TooWide(files)) => self.passed_over.extend(files),
                Ok(Compacted::Damaged(path, why)) => {
                    let text = format!("{} is damaged, and stays as it is: {why}", path.display());
                    self.progress.damaged(text);
                    self.passed_over.insert(path);
                }
                Err((path, error)) => {
                    self.progress.failed("cannot make one file of those beside", &path, &error);
                    break;
                }
            }
        }
        // Tried again the next time.
        let _ = remove_covered(&self.root, &self.node, false);
    }

    /// Seals what waits; what fails waits on.
    fn seal_waiting(&mut self) {
        for _ in 0..self.waiting.len() {
            let Some(job) = self.waiting.pop_front() else { return };
            let path = &job.path;
            match seal(&self.root, &self.node, job.id, path, &mut self.memory) {
                Ok(sealed) => {
                    self.progress.rows_sealed.fetch_add(sealed.rows, Relaxed);
                    self.progress.files_sealed.fetch_add(sealed.files, Relaxed);
                    self.progress.bytes_sealed.fetch_add(sealed.bytes, Relaxed);
                    if let Some((aside, why)) = sealed.damaged {
                        self.progress.rows_damaged.fetch_add(sealed.rows_damaged, Relaxed);
                        let (path, aside, rows) = (path.display(), aside.display(), sealed.rows);
                        let text =
                            format!("{path} is damaged: {why}; {rows} rows of it are sealed, and it is {aside} now");
                        self.progress.damaged(text);
                    }
                }
                // There is nothing to seal.
                Err(e) if e.kind() == io::ErrorKind::NotFound && !path.exists() => {
                    if !self.retired.lock().unwrap_or_else(PoisonError::into_inner).remove(path) {
                        self.removed.add(path, job.rows, "before it was sealed");
                    }
                }
                Err(error) => {
                    if is_full(&error) {
                        self.make_room();
                    }
                    self.progress.failed("cannot seal", path, &error);
                    self.waiting.push_back(job);
                    continue;
                }
            }
            self.progress.segments_waiting.fetch_sub(1, Relaxed);
        }
    }
}

fn now_us() -> i64 {
    crate::columns::Timestamp::from(SystemTime::now()).0
}
