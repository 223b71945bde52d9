//! What decoders learned, on disk: templates and all else that exporters may never send again.
//!
//! A file of entries, each with a checksum: who sent it, when it was received, and a message cut to what it taught
//! ([`Learned`]). It is appended to within a second, and rewritten shorter when it has grown. A file whose end is cut is
//! read up to there.
//!
//! What cannot be appended waits, and is tried again: no template that is known is learned twice, so that whatever is missing
//! would be missing for good. What waits has a bound: it is made shorter as a file is, and what is oldest goes.

use super::board::lock;
use super::ledger::StateAccount;
use super::outage::{Outage, Word};
use crate::columns::Timestamp;
use crate::decode::{Learned, compact, compact_tail};
use crate::sink::{Lock, is_at, is_full};
use crossbeam_channel::{Receiver, RecvTimeoutError};
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime};

/// The first bytes of a file, the last one its version.
const MAGIC: &[u8; 8] = b"flowstt\x01";
/// Bytes of an entry before its message: length and checksum, address, port, time.
const HEAD: usize = 4 + 4 + 16 + 2 + 8;
/// Bytes of a snapshot at most: what is oldest goes.
const MOST: usize = 64 << 20;
/// Bytes of a message at most.
const MESSAGE: usize = 1 << 16;
/// A journal that grew by so many bytes, and to twice its snapshot, is rewritten.
const GROWN: u64 = 4 << 20;
/// Bytes that are written at once.
const PIECE: usize = 1 << 20;
/// How long what is written may wait to be on the disk.
const SYNC: Duration = Duration::from_millis(250);
/// How often it is looked whether the file is still where it was.
const LOOK: Duration = Duration::from_secs(1);
/// How long after a failure it is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// Bytes that may wait for that.
const WAITING: usize = 8 << 20;

/// What was read.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) learned: Vec<Learned>,
    /// What is wrong with the rest of the file.
    pub(super) damage: Option<String>,
}

/// The file that entries are appended to.
pub(super) struct Journal {
    // Held as long as the journal is written.
    lock: Lock,
    path: PathBuf,
    file: File,
    bytes: u64,
    snapshot: u64,
    held_us: i64,
    // Entries that are not in the file yet, and how many.
    buffer: Vec<u8>,
    waiting: u64,
    lost: u64,
    // Whether the file may hold more than `bytes`: a part of what could not be written.
    is_torn: bool,
    // Whether what is in the file may not be on the disk: it is written anew.
    is_doubtful: bool,
    // Whether it is still that of the process before, for which there was no room: it is written anew before anything is appended.
    is_old: bool,
}

impl Journal {
    /// Opens the journal of a folder, and gives what is in it. What cannot be read is put aside. Where the disk is full, it stays as it is
    /// until there is room.
    pub(super) fn open(folder: &Path, held_us: i64) -> io::Result<(Self, Found)> {
        let path = folder.join("learned");
        let taken = format!("another process keeps its state in {}", folder.display());
        let lock = Lock::take(folder.join("lock"), taken)?;
        let read = read(&path)?;
        if read.damage.is_some() {
            // Kept for whoever wants to know.
            fs::copy(&path, folder.join("learned.damaged"))?;
        }
        let (learned, lost) = snapshot(read.learned, held_us);
        let (file, bytes, is_old) = match write_new(&path, &learned) {
            Err(error) if is_full(&error) => (open_or_new(&path)?, 0, true),
            written => written.map(|(file, bytes)| (file, bytes, false))?,
        };
        let journal = Self {
            lock,
            path,
            file,
            bytes,
            snapshot: bytes,
            held_us,
            buffer: Vec::new(),
            waiting: 0,
            // What there is too much of in the one before counts when that is written anew.
            lost: if is_old { 0 } else { lost },
            is_torn: false,
            is_doubtful: false,
            is_old,
        };
        Ok((journal, Found { learned, damage: read.damage }))
    }

    /// Appends what the buffer holds, all or nothing: where it fails it stays there.
    fn append(&mut self) -> io::Result<()> {
        if self.is_old {
            self.rewrite()?;
        }
        if self.is_torn {
            self.file.set_len(self.bytes)?;
            self.is_torn = false;
        }
        if let Err(error) = self.file.write_all(&self.buffer) {
            self.is_torn = self.file.set_len(self.bytes).is_err();
            return Err(error);
        }
        self.bytes += self.buffer.len() as u64;
        self.buffer.clear();
        self.waiting = 0;
        if self.is_doubtful {
            self.rewrite()?;
            self.is_doubtful = false;
        }
        Ok(())
    }

    /// Writes what is in the file anew, shorter.
    fn rewrite(&mut self) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(0))?;
        let (learned, over) = snapshot(read_from(&self.file)?.learned, self.held_us);
        (self.file, self.bytes) = write_new(&self.path, &learned)?;
        (self.snapshot, self.lost) = (self.bytes, self.lost + over);
        (self.is_torn, self.is_old) = (false, false);
        Ok(())
    }

    /// Writes all of it again where somebody removed it, or its folder, or put another file there.
    fn come_again(&mut self) -> io::Result<()> {
        if !self.lock.renew()? && is_at(&self.file, &self.path)? {
            return Ok(());
        }
        self.rewrite()
    }

    /// Takes what comes until nobody sends any more; what could not be written.
    pub(super) fn run(
        mut self,
        inbox: &Receiver<Learned>,
        standing: &Mutex<Option<StateAccount>>,
        say: impl Fn(&str),
    ) -> u64 {
        let (mut dirty, mut synced) = (false, Instant::now());
        let (mut outage, mut failed) = (Outage::default(), None::<Instant>);
        let (mut account, mut looked) = (StateAccount::default(), Instant::now());
        loop {
            let wait = if dirty { SYNC.saturating_sub(synced.elapsed()) } else { RETRY };
            let next = inbox.recv_timeout(wait);
            let has_ended = next == Err(RecvTimeoutError::Disconnected);
            // What came meanwhile goes along: one call for many.
            let (mut more, start) = (next.ok(), self.buffer.len());
            while let Some(learned) = more.take() {
                encode(&mut self.buffer, &learned);
                self.waiting += 1;
                if self.buffer.len() < start + PIECE {
                    more = inbox.try_recv().ok();
                }
            }
            let mut result = Ok(());
            let is_due = has_ended || failed.is_none_or(|at| at.elapsed() >= RETRY);
            if is_due && (has_ended || looked.elapsed() >= LOOK) {
                looked = Instant::now();
                result = self.come_again();
            }
            if result.is_ok() && is_due && (self.waiting > 0 || self.is_doubtful || self.is_old) {
                result = self.append();
                dirty |= result.is_ok();
            }
            if result.is_ok() && dirty && (has_ended || synced.elapsed() >= SYNC) {
                (dirty, synced) = (false, Instant::now());
                result = self.file.sync_data();
                self.is_doubtful = result.is_err();
            }
            match &result {
                Err(error) => {
                    (failed, account.failures) = (Some(Instant::now()), account.failures + 1);
                    outage.begin(&error.to_string());
                    account.failing = Some(error.to_string());
                }
                Ok(()) if is_due && !dirty && self.waiting == 0 && !self.is_doubtful && !self.is_old => {
                    (failed, account.failing) = (None, None);
                    outage.end();
                }
                Ok(()) => {}
            }
            if self.buffer.len() > WAITING {
                self.make_room(WAITING);
            }
            if failed.is_none() && self.bytes > 2 * self.snapshot.max(GROWN) {
                if let Err(error) = self.rewrite() {
                    say(&format!("cannot make {} shorter: {error}", self.path.display()));
                }
                // Where that fails it is tried again when the file has grown by as much again.
                self.snapshot = self.snapshot.max(self.bytes);
            }
            (account.waiting, account.lost) = (self.waiting, self.lost + if has_ended { self.waiting } else { 0 });
            match outage.word(Instant::now(), has_ended) {
                Some(Word::Begins(error)) => say(&format!(
                    "cannot write {}: {error}; a restart would not know some templates, it is tried again",
                    self.path.display()
                )),
                Some(Word::Ends) => {
                    say(&format!("{} is written again; {} entries are lost", self.path.display(), self.lost));
                }
                Some(Word::Passed(error)) => say(&format!(
                    "{} could not be written for a while: {error}; {} entries are lost",
                    self.path.display(),
                    self.lost
                )),
                None => {}
            }
            *lock(standing) = Some(account.clone());
            if has_ended {
                return account.lost;
            }
        }
    }

    /// Makes what waits shorter, to half of so many bytes at most: what is oldest goes.
    fn make_room(&mut self, most: usize) {
        let (mut waiting, mut rest) = (Vec::new(), &*self.buffer);
        while let Some((learned, after)) = entry(rest) {
            waiting.push(learned);
            rest = after;
        }
        let mut kept = compact_tail(waiting);
        let over = drop_oldest(&mut kept, most / 2);
        self.buffer.clear();
        kept.iter().for_each(|one| encode(&mut self.buffer, one));
        (self.lost, self.waiting) = (self.lost + over, kept.len() as u64);
    }
}

/// What a file is to hold of all that was learned, and how much more there would be.
fn snapshot(learned: Vec<Learned>, held_us: i64) -> (Vec<Learned>, u64) {
    let mut kept = compact(learned, Timestamp::from(SystemTime::now()), held_us, usize::MAX);
    let over = drop_oldest(&mut kept, MOST);
    (kept, over)
}

/// Drops the first entries until the others have so many bytes at most; how many.
fn drop_oldest(learned: &mut Vec<Learned>, most: usize) -> u64 {
    let mut bytes = 0;
    let fit = learned.iter().rev().take_while(|one| {
        bytes += HEAD + one.message.len();
        bytes <= most
    });
    let over = learned.len() - fit.count();
    learned.drain(..over);
    over as u64
}

fn encode(to: &mut Vec<u8>, learned: &Learned) {
    let ip = match learned.exporter.ip() {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    };
    let start = to.len();
    to.extend_from_slice(&(learned.message.len() as u32).to_be_bytes());
    to.extend_from_slice(&[0; 4]);
    to.extend_from_slice(&ip.octets());
    to.extend_from_slice(&learned.exporter.port().to_be_bytes());
    to.extend_from_slice(&learned.received_at.0.to_be_bytes());
    to.extend_from_slice(&learned.message);
    let mut sum = crc32fast::Hasher::new();
    sum.update(to.get(start + 8..).unwrap_or(&[]));
    if let Some(slot) = to.get_mut(start + 4..start + 8) {
        slot.copy_from_slice(&sum.finalize().to_be_bytes());
    }
}

/// A new file in place of the one that is there, whole or not at all.
fn write_new(path: &Path, learned: &[Learned]) -> io::Result<(File, u64)> {
    let temporary = path.with_extension("tmp");
    let mut file = BufWriter::with_capacity(PIECE, File::create(&temporary)?);
    file.write_all(MAGIC)?;
    let (mut bytes, mut one) = (MAGIC.len() as u64, Vec::new());
    for learned in learned {
        one.clear();
        encode(&mut one, learned);
        file.write_all(&one)?;
        bytes += one.len() as u64;
    }
    file.into_inner().map_err(|e| e.into_error())?.sync_all()?;
    fs::rename(&temporary, path)?;
    if let Some(folder) = path.parent() {
        File::open(folder)?.sync_all()?;
    }
    Ok((open_or_new(path)?, bytes))
}

fn open_or_new(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).append(true).create(true).open(path)
}

fn read(path: &Path) -> io::Result<Found> {
    match File::open(path) {
        Ok(file) => read_from(&file),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Found::default()),
        Err(e) => Err(e),
    }
}

fn read_from(file: &File) -> io::Result<Found> {
    let mut all = Found::default();
    // Entry by entry: the whole file would be there twice.
    let (mut from, mut bytes) = (BufReader::with_capacity(PIECE, file), Vec::new());
    if let Some(text) = match fill(&mut from, &mut bytes, MAGIC.len())? {
        _ if bytes == MAGIC => None,
        // As a machine leaves it that lost its power.
        false if bytes.is_empty() => Some("it is empty"),
        _ if bytes.starts_with(&MAGIC[..7]) => Some("it is of another version"),
        _ => Some("it is no journal"),
    } {
        all.damage = Some(text.to_string());
        return Ok(all);
    }
    let mut at = MAGIC.len();
    loop {
        bytes.clear();
        let has_head = fill(&mut from, &mut bytes, HEAD)?;
        if bytes.is_empty() {
            return Ok(all);
        }
        let message = bytes.first_chunk().map_or(0, |len| u32::from_be_bytes(*len) as usize);
        let is_whole = has_head && message <= MESSAGE && fill(&mut from, &mut bytes, HEAD + message)?;
        match entry(&bytes).filter(|_| is_whole) {
            Some((learned, _)) => all.learned.push(learned),
            None => {
                all.damage = Some(format!("it cannot be read from byte {at} on"));
                return Ok(all);
            }
        }
        at += bytes.len();
    }
}

/// Reads on until there are so many bytes; whether there are.
fn fill(from: &mut impl Read, bytes: &mut Vec<u8>, most: usize) -> io::Result<bool> {
    from.take((most - bytes.len()) as u64).read_to_end(bytes)?;
    Ok(bytes.len() == most)
}

fn entry(bytes: &[u8]) -> Option<(Learned, &[u8])> {
    let (head, rest) = bytes.split_first_chunk::<HEAD>()?;
    let len = u32::from_be_bytes(*head.first_chunk()?) as usize;
    let (message, after) = rest.split_at_checked(len)?;
    let mut sum = crc32fast::Hasher::new();
    sum.update(head.get(8..)?);
    sum.update(message);
    if head.get(4..8)? != sum.finalize().to_be_bytes() {
        return None;
    }
    let ip: [u8; 16] = *head.get(8..24)?.first_chunk()?;
    let port = u16::from_be_bytes(*head.get(24..26)?.first_chunk()?);
    let received_at = Timestamp(i64::from_be_bytes(*head.get(26..34)?.first_chunk()?));
    let exporter = SocketAddr::new(IpAddr::from(ip).to_canonical(), port);
    Some((Learned { exporter, received_at, message: message.to_vec() }, after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_journal_that_was_removed_or_replaced_is_written_whole_again() {
        let folder = std::env::temp_dir().join(format!("flowlane-journal-gone-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        let one = |sequence: u8| Learned {
            exporter: SocketAddr::from(([192, 0, 2, sequence], 2055)),
            received_at: Timestamp(7),
            message: [&[0, 10, 0, 16, 0, 0, 0, 0, 0, 0, 0][..], &[sequence, 0, 0, 0, 1]].concat(),
        };
        let (journal, _) = Journal::open(&folder, 1000).expect("a journal");
        let (to, inbox) = crossbeam_channel::unbounded();
        let running = std::thread::spawn(move || journal.run(&inbox, &Mutex::default(), |line| panic!("{line}")));
        to.send(one(1)).expect("sent");
        while fs::metadata(folder.join("learned")).expect("there").len() == MAGIC.len() as u64 {
            std::thread::sleep(Duration::from_millis(10));
        }
        // While it runs: a kill finds it there.
        let has = |all: &[Learned]| {
            let end = Instant::now() + Duration::from_secs(30);
            while read(&folder.join("learned")).expect("a file").learned != all {
                assert!(Instant::now() < end, "written again in time");
                std::thread::sleep(Duration::from_millis(50));
            }
        };
        fs::remove_dir_all(&folder).expect("removed");
        to.send(one(2)).expect("sent");
        has(&[one(1), one(2)]);
        fs::write(folder.join("another"), MAGIC).expect("a file");
        fs::rename(folder.join("another"), folder.join("learned")).expect("replaced");
        to.send(one(3)).expect("sent");
        has(&[one(1), one(2), one(3)]);
        assert_eq!(Journal::open(&folder, 1000).err().expect("held").kind(), io::ErrorKind::WouldBlock);
        drop(to);
        assert_eq!(running.join().expect("ended"), 0);
        fs::remove_dir_all(&folder).expect("removed");
    }

    #[test]
    fn what_was_written_is_read_up_to_the_damage() {
        let folder = std::env::temp_dir().join(format!("flowlane-journal-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        let header = |sequence: u8| [&[0, 10, 0, 16, 0, 0, 0, 0, 0, 0, 0][..], &[sequence, 0, 0, 0, 1]].concat();
        let one = |last: u8| Learned {
            exporter: SocketAddr::from(([192, 0, 2, last], 2055)),
            received_at: Timestamp(7),
            message: header(last),
        };
        let (journal, read) = Journal::open(&folder, 1000).expect("a journal");
        assert!(read.learned.is_empty() && read.damage.is_none());
        let (to, inbox) = crossbeam_channel::unbounded();
        for last in [1, 2, 3] {
            to.send(one(last)).expect("sent");
        }
        drop(to);
        assert_eq!(journal.run(&inbox, &Mutex::default(), |line| panic!("{line}")), 0);
        let (_, read) = Journal::open(&folder, 1000).expect("a journal");
        assert_eq!(read.learned, [one(1), one(2), one(3)]);
        let path = folder.join("learned");
        let whole = fs::read(&path).expect("bytes");
        let entry = (whole.len() - MAGIC.len()) / 3;
        for (cut, kept) in [(whole.len() - 1, 2), (MAGIC.len() + entry, 1), (3, 0), (0, 0)] {
            fs::write(&path, &whole[..cut]).expect("cut");
            let (_, read) = Journal::open(&folder, 1000).expect("a journal");
            assert_eq!(read.learned.len(), kept);
            assert_eq!(read.damage.is_some(), cut != MAGIC.len() + entry, "cut at {cut}");
        }
        for at in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[at] ^= 0x40;
            fs::write(&path, &flipped).expect("damaged");
            let (_, read) = Journal::open(&folder, 1000).expect("a journal");
            assert!(read.learned.len() < 3 && read.damage.is_some(), "byte {at}");
        }
        fs::remove_dir_all(&folder).expect("removed");
    }
    /// A journal in a folder of its own, which cannot be written to: its handle is that of a full disk.
    fn on_a_full_disk(name: &str) -> (PathBuf, Journal) {
        let folder = std::env::temp_dir().join(format!("flowlane-journal-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        let (mut journal, _) = Journal::open(&folder, 1000).expect("a journal");
        journal.file = File::options().read(true).append(true).open("/dev/full").expect("a full disk");
        (folder, journal)
    }

    fn template(id: u16) -> Learned {
        let words = [10, 28, 0, 0, 0, 0, 0, 1, 2, 12, id, 1, 8, 4];
        Learned {
            exporter: SocketAddr::from(([192, 0, 2, 1], 2055)),
            received_at: Timestamp(7),
            message: words.into_iter().flat_map(u16::to_be_bytes).collect(),
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn what_a_full_disk_did_not_take_is_written_when_there_is_room() {
        let (folder, journal) = on_a_full_disk("full");
        let (to, inbox) = crossbeam_channel::unbounded();
        let (standing, said) = (Mutex::new(None::<StateAccount>), Mutex::new(Vec::new()));
        let lost = std::thread::scope(|scope| {
            let run = scope.spawn(|| journal.run(&inbox, &standing, |line| lock(&said).push(line.to_string())));
            (256..300).for_each(|id| to.send(template(id)).expect("sent"));
            let wait = |what: &dyn Fn(&StateAccount) -> bool| {
                while !lock(&standing).as_ref().is_some_and(what) {
                    std::thread::sleep(Duration::from_millis(5));
                }
            };
            wait(&|s| s.failing.is_some() && s.failures > 0 && s.waiting == 44);
            to.send(template(300)).expect("sent");
            wait(&|s| s.failing.is_none() && s.waiting == 0);
            drop(to);
            run.join().expect("a thread")
        });
        let (_, read) = Journal::open(&folder, 1000).expect("a journal");
        let definitions = read.learned.iter().filter(|one| one.message.len() > 16);
        assert_eq!((lost, read.damage, definitions.count()), (0, None, 45));
        let said = lock(&said);
        assert_eq!(said.len(), 2, "{said:?}");
        assert!(said[0].contains("cannot write") && said[1].contains("is written again"), "{said:?}");
        fs::remove_dir_all(&folder).expect("removed");
    }

    #[test]
    fn what_a_file_has_no_room_for_is_counted() {
        let all = || (256..266).map(template).collect::<Vec<_>>();
        let entry = HEAD + template(256).message.len();
        for (most, kept) in [(10 * entry, 10), (10 * entry - 1, 9), (0, 0)] {
            let mut rest = all();
            assert_eq!(drop_oldest(&mut rest, most), 10 - kept as u64);
            assert_eq!(rest, all()[10 - kept..]);
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn what_waits_for_room_has_a_bound() {
        let (folder, mut journal) = on_a_full_disk("bound");
        for id in (256..1000).chain(256..1000) {
            encode(&mut journal.buffer, &template(id));
            journal.waiting += 1;
        }
        let entry = HEAD + template(256).message.len();
        journal.make_room(4 * 1000 * entry);
        // Once each, and where the stream stands.
        assert_eq!((journal.waiting, journal.lost), (745, 0));
        journal.make_room(200 * entry);
        assert_eq!((journal.waiting + journal.lost, journal.buffer.len() <= 100 * entry), (745, true));
        assert!(journal.waiting >= 99);
        fs::remove_dir_all(&folder).expect("removed");
    }
}
