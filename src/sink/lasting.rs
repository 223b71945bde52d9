//! A file that outlives errors of the disk: what was taken and could not be written yet waits, and nothing more is taken.

use super::file::{Format, Writer};
use super::left;
use super::place::{self, Place};
use crate::columns::{Batch, Run, rows_by_exporter};
use std::collections::HashMap;
use std::fs;
use std::io::{self, ErrorKind, Write};
use std::mem::take;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Rows that were taken and are lost after all, of each exporter.
#[derive(Clone, Debug, Default)]
pub struct LostRows(Arc<Mutex<HashMap<IpAddr, u64>>>);

impl LostRows {
    /// Those since the last call.
    pub fn take(&self) -> HashMap<IpAddr, u64> {
        take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn add(&self, exporter: IpAddr, rows: u64) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(exporter).or_default() += rows;
    }

    pub(crate) fn add_all(&self, rows: impl IntoIterator<Item = (IpAddr, u64)>) {
        rows.into_iter().for_each(|(exporter, n)| self.add(exporter, n));
    }
}

/// Bytes that wait until they are written at once.
const WAITING: usize = 1 << 18;

/// Writes rows in one format to a plain file, which appears under its name when it is whole.
///
/// An error loses nothing that was taken: its bytes are in memory, a batch's and 256 KiB at most (a columnar file: those of a row
/// group), and go to the file where that left off once it can be written again. Until then nothing is taken.
#[derive(Debug)]
pub struct LastingFile {
    format: Format,
    path: PathBuf,
    open: Option<Open>,
    // Whether what waits could not be written.
    is_stuck: bool,
    // Rows that are lost where the file cannot be ended.
    at_risk: HashMap<IpAddr, u64>,
    lost: LostRows,
}

struct Open {
    // Until the last byte of the file is made.
    writer: Option<Writer>,
    waiting: Waiting,
    place: Place,
    file: Box<dyn Write + Send>,
}

impl std::fmt::Debug for Open {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.place.fmt(f)
    }
}

impl LastingFile {
    /// Gives a name to what a process before wrote to the file and did not end: what is to be said of it.
    ///
    /// # Errors
    /// Those of the file system; [`ErrorKind::WouldBlock`] where that process still writes it.
    pub fn keep_left(format: Format, path: &Path) -> io::Result<Option<String>> {
        let Some((left, path)) = place::left(path)? else { return Ok(None) };
        left::keep(&left, format, &path, &place::free(&path, ".partial"))
    }

    /// Begins the file.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn create(format: Format, path: &Path, lost: LostRows) -> io::Result<Self> {
        let open = Some(Open::create(format, path)?);
        Ok(Self { format, path: path.to_path_buf(), open, is_stuck: false, at_risk: HashMap::new(), lost })
    }

    /// Writes consecutive runs of a finished batch.
    ///
    /// # Errors
    /// Those of the file system: none of these rows are taken then.
    pub fn write(&mut self, batch: &Arc<Batch>, runs: &[Run]) -> io::Result<()> {
        self.ready()?.write(batch, runs)?;
        rows_by_exporter(runs, |exporter, n| *self.at_risk.entry(exporter).or_default() += n);
        self.written();
        Ok(())
    }

    /// Writes lines made elsewhere, of so many rows of each exporter.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn write_text(&mut self, lines: &[u8], rows: &[(IpAddr, u64)]) -> io::Result<()> {
        self.ready()?.write_text(lines)?;
        rows.iter().for_each(|(exporter, n)| *self.at_risk.entry(*exporter).or_default() += n);
        self.written();
        Ok(())
    }

    /// As [`flush`](Self::flush), where that failed before.
    ///
    /// # Errors
    /// As [`flush`](Self::flush).
    pub fn flush_stuck(&mut self) -> io::Result<()> {
        if self.is_stuck { self.flush() } else { Ok(()) }
    }

    /// Hands what waits to the file: of text all that was taken.
    ///
    /// # Errors
    /// Those of the file system; what waits waits on. A file that was removed meanwhile, and rows that went with it.
    pub fn flush(&mut self) -> io::Result<()> {
        self.look()?;
        let is_text = matches!(self.format, Format::Csv | Format::Ndjson | Format::Records);
        let Some(open) = &mut self.open else { return Ok(()) };
        if let Some(writer) = open.writer.as_mut().filter(|_| is_text) {
            writer.flush()?;
        }
        let result = open.drain();
        self.is_stuck = result.is_err();
        if is_text && !self.is_stuck {
            self.at_risk.clear();
        }
        result
    }

    /// Ends the file, which then stands under its name, on the disk; can be tried again.
    ///
    /// # Errors
    /// As [`flush`](Self::flush). Where its last bytes cannot be made the file goes, and what was taken is lost.
    pub fn end(&mut self) -> io::Result<()> {
        self.flush()?;
        let Some(open) = &mut self.open else { return Ok(()) };
        if let Some(Err(error)) = open.writer.take().map(Writer::finish) {
            // What there is of it has no end, and is no file.
            self.lost.add_all(self.at_risk.drain());
            (self.open, self.is_stuck) = (None, false);
            return Err(error);
        }
        let result = open.drain().and_then(|()| open.place.end_on_disk());
        self.is_stuck = result.is_err();
        if !self.is_stuck {
            self.at_risk.clear();
            self.open = None;
        }
        result
    }

    /// As [`end`](Self::end), for the last time.
    ///
    /// # Errors
    /// Those of the file system. What is written stays beside the file then, under a name of its own, and rows that are not are lost.
    pub fn finish(mut self) -> io::Result<()> {
        let Err(error) = self.end() else { return Ok(()) };
        self.lost.add_all(self.at_risk.drain());
        let left = self.open.take().and_then(|open| open.place.leave());
        let left = left.map_or(String::new(), |path| format!("; what was written is in {}", path.display()));
        Err(io::Error::new(error.kind(), format!("{error}{left}")))
    }

    /// Before rows are taken: what takes them.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub(super) fn ready(&mut self) -> io::Result<&mut Writer> {
        self.look()?;
        self.flush_stuck()?;
        if self.open.is_none() {
            // A folder that was removed comes again.
            if let Some(folder) = self.path.parent() {
                fs::create_dir_all(folder)?;
            }
            self.open = Some(Open::create(self.format, &self.path)?);
        }
        let writer = self.open.as_mut().and_then(|open| open.writer.as_mut());
        writer.ok_or_else(|| io::Error::other(format!("{} is not ended yet", self.path.display())))
    }

    /// After rows were taken: that they cannot be written is said by what comes next.
    fn written(&mut self) {
        if let Some(open) = self.open.as_mut().filter(|open| open.waiting.len() >= WAITING) {
            self.is_stuck = open.drain().is_err();
        }
    }

    /// Whether somebody removed the file: what is written to it then is nowhere.
    fn look(&mut self) -> io::Result<()> {
        if self.open.take_if(|open| open.place.is_gone()).is_none() {
            return Ok(());
        }
        self.is_stuck = false;
        if self.at_risk.is_empty() {
            return Ok(());
        }
        self.lost.add_all(self.at_risk.drain());
        Err(io::Error::new(ErrorKind::NotFound, format!("{} was removed while it was written", self.path.display())))
    }
}

impl Open {
    fn create(format: Format, path: &Path) -> io::Result<Self> {
        let place = Place::create(path)?;
        let waiting = Waiting::default();
        let writer = Some(Writer::to_stream(format, Box::new(waiting.clone())));
        Ok(Self { writer, waiting, file: place.stream()?, place })
    }

    /// Writes what waits, and keeps what cannot be written.
    fn drain(&mut self) -> io::Result<()> {
        let mut waiting = self.waiting.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut done, mut result) = (0, Ok(()));
        while let Some(rest) = waiting.get(done..).filter(|rest| !rest.is_empty()) {
            match self.file.write(rest) {
                Ok(0) => result = Err(ErrorKind::WriteZero.into()),
                Ok(n) => done += n,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => result = Err(e),
            }
            if result.is_err() {
                break;
            }
        }
        waiting.drain(..done);
        result
    }
}

/// Bytes on their way to the file.
#[derive(Clone, Default)]
struct Waiting(Arc<Mutex<Vec<u8>>>);

impl Waiting {
    fn len(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

impl Write for Waiting {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Error;

    /// A file that takes so many bytes more.
    struct Full(Arc<Mutex<usize>>, std::fs::File);

    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut room = self.0.lock().expect("the room");
            let n = bytes.len().min(*room);
            if n == 0 {
                return Err(Error::from(ErrorKind::StorageFull));
            }
            *room -= n;
            self.1.write(&bytes[..n])
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_full_disk_tears_no_line_and_loses_none_that_was_taken() {
        let folder = std::env::temp_dir().join(format!("flowlane-lasting-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).expect("a folder");
        let (path, from, lost) = (folder.join("lines.ndjson"), IpAddr::from([192, 0, 2, 1]), LostRows::default());
        let mut file = LastingFile::create(Format::Ndjson, &path, lost.clone()).expect("a file");
        let room = Arc::new(Mutex::new(5));
        let open = file.open.as_mut().expect("open");
        let inner = fs::File::options().append(true).open(folder.join(".lines.ndjson.tmp")).expect("beside it");
        open.file = Box::new(Full(room.clone(), inner));
        file.write_text(b"{\"a\":1}\n", &[(from, 1)]).expect("taken");
        assert_eq!(file.flush().expect_err("full").kind(), ErrorKind::StorageFull);
        assert!(file.write_text(b"{\"b\":2}\n", &[(from, 1)]).is_err(), "not taken");
        assert!(file.end().is_err());
        *room.lock().expect("the room") = 1000;
        file.write_text(b"{\"c\":3}\n", &[(from, 1)]).expect("taken again");
        file.end().expect("room");
        assert_eq!(fs::read_to_string(&path).expect("text"), "{\"a\":1}\n{\"c\":3}\n");
        assert!(lost.take().is_empty());

        // Removed: what was on the disk is whose it is who removed it, and the rest is lost.
        let mut file = LastingFile::create(Format::Ndjson, &path, lost.clone()).expect("a file");
        file.write_text(b"{\"d\":4}\n", &[(from, 1)]).expect("taken");
        file.flush().expect("written");
        file.write_text(b"{\"e\":5}\n", &[(from, 1)]).expect("taken");
        fs::remove_dir_all(&folder).expect("removed");
        assert!(file.flush().expect_err("gone").to_string().contains("was removed"));
        assert_eq!(lost.take().get(&from), Some(&1));
        file.write_text(b"{\"f\":6}\n", &[(from, 1)]).expect("a new one");
        file.end().expect("written");
        assert_eq!(fs::read_to_string(&path).expect("text"), "{\"f\":6}\n");
        fs::remove_dir_all(&folder).expect("removed");
    }

    #[test]
    fn what_is_left_outlives_the_next_file_of_its_name() {
        let folder = std::env::temp_dir().join(format!("flowlane-left-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).expect("a folder");
        let (path, from) = (folder.join("lines.ndjson"), IpAddr::from([192, 0, 2, 1]));
        for (name, text) in [("lines.ndjson.partial", "{\"a\":1}\n"), ("lines.ndjson.partial-2", "{\"b\":2}\n")] {
            let mut file = LastingFile::create(Format::Ndjson, &path, LostRows::default()).expect("a file");
            file.write_text(text.as_bytes(), &[(from, 1)]).expect("taken");
            file.flush().expect("written");
            file.write_text(b"{\"c\":3}\n", &[(from, 1)]).expect("taken");
            file.open.as_mut().expect("open").file =
                Box::new(Full(Arc::default(), fs::File::create(folder.join("full")).expect("a file")));
            let error = file.finish().expect_err("full").to_string();
            let left = folder.join(name);
            assert!(error.ends_with(&format!("what was written is in {}", left.display())), "{error}");
            assert_eq!(fs::read_to_string(&left).expect("text"), text);
        }
        let file = LastingFile::create(Format::Ndjson, &path, LostRows::default()).expect("a file");
        file.finish().expect("empty");
        assert_eq!(fs::read_to_string(folder.join("lines.ndjson.partial")).expect("text"), "{\"a\":1}\n");
        fs::remove_dir_all(&folder).expect("removed");
    }

    #[test]
    fn a_file_without_its_end_gets_no_name() {
        let folder = std::env::temp_dir().join(format!("flowlane-no-end-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        let (path, from, lost) = (folder.join("lines.gz"), IpAddr::from([192, 0, 2, 1]), LostRows::default());
        fs::create_dir_all(&folder).expect("a folder");
        let mut file = LastingFile::create(Format::NetflowJson, &path, lost.clone()).expect("a file");
        let none = Full(Arc::default(), fs::File::create(folder.join("full")).expect("a file"));
        file.open.as_mut().expect("open").writer = Some(Writer::to_stream(Format::NetflowJson, Box::new(none)));
        file.write_text(b"{}\n", &[(from, 3)]).expect("taken");
        assert_eq!(file.end().expect_err("no end").kind(), ErrorKind::StorageFull);
        assert_eq!(lost.take().get(&from), Some(&3));
        file.end().expect("nothing is left of it");
        assert!(!path.exists(), "it has no end");
        // While one is being ended, no rows go to it.
        file.ready().expect("a new one");
        file.open.as_mut().expect("open").writer = None;
        assert!(file.write_text(b"{}\n", &[(from, 1)]).is_err(), "taken, and nowhere");
        fs::remove_dir_all(&folder).expect("removed");
    }
}
