//! A folder of files, each a stretch of the time received.

use super::file::Format;
use super::lasting::{LastingFile, LostRows};
use super::left;
use super::place::{PROBE, probe};
use super::text;
use crate::columns::{Batch, Run, rows_by_exporter};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const HOUR_US: i64 = 3_600_000_000;
/// How long a stretch that is over waits for rows of other threads, microseconds.
const GRACE_US: i64 = 3_000_000;
/// Files open at once, at most: rows that were held for long come with old times.
const OPEN_FILES: usize = 8;

/// Writes rows into files that are cut by the time received: `<start in UTC>.<extension>`, with the name of who writes before it
/// where several share the folder.
///
/// Where one cannot be written or ended, that is tried again at each call, and nothing is taken meanwhile.
pub struct Folder {
    path: PathBuf,
    // What names begin with.
    prefix: String,
    format: Format,
    stretch_us: i64,
    open: BTreeMap<i64, LastingFile>,
    // Those whose time is over and that could not be ended yet.
    ending: Vec<LastingFile>,
    lost: LostRows,
    // Why rows are lost of which others were taken together with them, until it is said.
    torn: Option<io::Error>,
}

/// One of the lines that are written together: a row.
#[derive(Clone, Copy, Debug)]
pub struct Line {
    /// When it was received, microseconds since 1970.
    pub received_us: i64,
    /// Whose it is.
    pub exporter: IpAddr,
    /// Its length, with what ends it.
    pub bytes: usize,
}

impl Folder {
    /// A folder, made where it is missing, with a new file every `stretch_us` microseconds (a second at least). Where `node` is given
    /// it stands in the name of each.
    ///
    /// # Errors
    /// Those of the file system, and a folder that cannot be written to: said before there is anything to write.
    pub fn open(path: &Path, node: Option<&str>, format: Format, stretch_us: i64) -> io::Result<Self> {
        fs::create_dir_all(path)?;
        probe(&probe_of(path), 0)?;
        let stretch_us = stretch_us.max(1_000_000);
        Ok(Self {
            path: path.to_path_buf(),
            prefix: node.map_or(String::new(), |node| format!("{node}-")),
            format,
            stretch_us,
            open: BTreeMap::new(),
            ending: Vec::new(),
            lost: LostRows::default(),
            torn: None,
        })
    }

    /// Gives names to files that a process before did not end, so that nothing is written over them: what is to be said of them.
    /// To be called by who has the folder, or the node, for itself.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn keep_left(&self) -> io::Result<Vec<String>> {
        let mut said = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let path = entry?.path();
            let name = path.file_name().and_then(|n| n.to_str()?.strip_prefix('.')?.strip_suffix(".tmp"));
            let Some(start) = name.and_then(|name| start_in(name, &self.prefix, self.format)) else { continue };
            let whole = self.free_name(&start);
            said.extend(left::keep(&path, self.format, &whole, &whole)?);
        }
        Ok(said)
    }

    /// Rows that were taken and are lost after all.
    pub fn lost(&self) -> &LostRows {
        &self.lost
    }

    /// Writes all rows of a batch, each to the file of its time.
    ///
    /// # Errors
    /// Those of the file system: none of the rows are taken then.
    pub fn write(&mut self, batch: &Arc<Batch>) -> io::Result<()> {
        let mut parts = Vec::new();
        let mut runs = batch.runs();
        while let Some(first) = runs.first() {
            let start = self.start_of(first.meta.received_at.0);
            let n = runs.iter().take_while(|r| self.start_of(r.meta.received_at.0) == start).count();
            let (these, rest) = runs.split_at(n);
            parts.push((start, Part::Runs(batch, these)));
            runs = rest;
        }
        self.write_parts(&parts)
    }

    /// Writes lines made elsewhere to the file of a time: so many rows of each exporter.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn write_text(&mut self, lines: &[u8], received_us: i64, rows: &[(IpAddr, u64)]) -> io::Result<()> {
        self.write_parts(&[(self.start_of(received_us), Part::Text(lines, rows.to_vec()))])
    }

    /// Writes lines made elsewhere, each to the file of its time: `text` is all of them, one behind the other.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn write_lines(&mut self, text: &[u8], lines: &[Line]) -> io::Result<()> {
        let (mut parts, mut text) = (Vec::new(), text);
        for these in lines.chunk_by(|a, b| self.start_of(a.received_us) == self.start_of(b.received_us)) {
            let Some(first) = these.first() else { continue };
            let bytes = these.iter().map(|line| line.bytes).sum::<usize>().min(text.len());
            let (of_these, rest) = text.split_at(bytes);
            let rows = these.iter().map(|line| (line.exporter, 1)).collect();
            parts.push((self.start_of(first.received_us), Part::Text(of_these, rows)));
            text = rest;
        }
        self.write_parts(&parts)
    }

    /// Tries whether the folder takes rows, with a file that goes again.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn probe(&self) -> io::Result<()> {
        fs::create_dir_all(&self.path)?;
        probe(&probe_of(&self.path), PROBE)
    }

    /// Writes what waits, and finishes the files whose time is over.
    ///
    /// # Errors
    /// Those of the file system; it is tried again by the next call.
    pub fn tick(&mut self, now_us: i64) -> io::Result<()> {
        let limit = self.start_of(now_us.saturating_sub(GRACE_US));
        while let Some(entry) = self.open.first_entry().filter(|e| *e.key() < limit) {
            self.ending.push(entry.remove());
        }
        let mut result = self.torn.take().map_or(Ok(()), Err).and(self.end_those_over());
        for file in self.open.values_mut() {
            result = result.and(file.flush());
        }
        result
    }

    /// Finishes all files.
    ///
    /// # Errors
    /// Those of the file system. What was written stays then, in a file that has not its name yet.
    pub fn finish(mut self) -> io::Result<()> {
        self.ending.extend(std::mem::take(&mut self.open).into_values());
        let torn = self.torn.take().map_or(Ok(()), Err);
        self.ending.drain(..).fold(torn, |result, file| result.and(file.finish()))
    }

    /// Writes what could not be written before: until that is done nothing is taken.
    fn settle(&mut self) -> io::Result<()> {
        self.end_those_over()?;
        self.open.values_mut().try_for_each(LastingFile::flush_stuck)
    }

    /// Ends the files whose time is over; the others wait for those that cannot be.
    fn end_those_over(&mut self) -> io::Result<()> {
        let mut result = Ok(());
        self.ending.retain_mut(|file| {
            let ended = file.end();
            let is_ended = ended.is_ok();
            result = std::mem::replace(&mut result, Ok(())).and(ended);
            !is_ended
        });
        result
    }

    fn start_of(&self, us: i64) -> i64 {
        let (base, step) = if self.stretch_us < HOUR_US {
            (us.div_euclid(HOUR_US) * HOUR_US, self.stretch_us)
        } else {
            (0, self.stretch_us)
        };
        base + (us - base).div_euclid(step) * step
    }

    /// Takes all parts, or none and says why.
    ///
    /// Where more files are needed than may be open, the later ones are opened when rows were taken already: if that fails,
    /// what is left is lost, and the next [`tick`](Self::tick) says so.
    fn write_parts(&mut self, parts: &[(i64, Part<'_>)]) -> io::Result<()> {
        self.settle()?;
        let mut rest = parts;
        let Err(error) = self.write_while_it_goes(&mut rest) else { return Ok(()) };
        if rest.len() == parts.len() {
            return Err(error);
        }
        rest.iter().for_each(|(_, part)| part.rows(|exporter, rows| self.lost.add(exporter, rows)));
        self.torn.get_or_insert(error);
        Ok(())
    }

    /// Takes parts from `rest` as they are written.
    fn write_while_it_goes(&mut self, rest: &mut &[(i64, Part<'_>)]) -> io::Result<()> {
        while !rest.is_empty() {
            // All that may be open together, before the first row is written.
            let mut wanted = BTreeSet::new();
            let fits = |wanted: &mut BTreeSet<i64>, start| {
                wanted.contains(&start) || wanted.len() < OPEN_FILES && wanted.insert(start)
            };
            let n = rest.iter().take_while(|(start, _)| fits(&mut wanted, *start)).count();
            self.make_room(&wanted)?;
            for start in wanted {
                self.at(start)?.ready()?;
            }
            for _ in 0..n {
                let Some(((start, part), later)) = rest.split_first() else { break };
                let file = self.at(*start)?;
                match part {
                    Part::Runs(batch, runs) => file.write(batch, runs)?,
                    Part::Text(lines, rows) => file.write_text(lines, rows)?,
                }
                *rest = later;
            }
        }
        Ok(())
    }

    /// Ends the oldest files that are not wanted, until those that are can be open with the others.
    fn make_room(&mut self, wanted: &BTreeSet<i64>) -> io::Result<()> {
        let new = wanted.iter().filter(|start| !self.open.contains_key(start)).count();
        while self.open.len() + new > OPEN_FILES {
            let Some(oldest) = self.open.keys().copied().find(|start| !wanted.contains(start)) else { break };
            self.ending.extend(self.open.remove(&oldest));
        }
        self.end_those_over()
    }

    fn at(&mut self, start: i64) -> io::Result<&mut LastingFile> {
        if !self.open.contains_key(&start) {
            // A folder that was removed comes again.
            fs::create_dir_all(&self.path)?;
            let mut name = Vec::new();
            text::time(&mut name, start);
            name.truncate(19);
            let name = String::from_utf8(name).unwrap_or_default().replace(['-', ':'], "");
            let path = self.free_name(&name);
            self.open.insert(start, LastingFile::create(self.format, &path, self.lost.clone())?);
        }
        self.open.get_mut(&start).ok_or_else(|| io::Error::other("no file"))
    }

    /// A name that no file has: rows that come after their file was finished go to another.
    fn free_name(&self, start: &str) -> PathBuf {
        let (prefix, extension) = (&self.prefix, self.format.extension());
        let mut path = self.path.join(format!("{prefix}{start}Z.{extension}"));
        let mut n = 2;
        while path.exists() {
            path = self.path.join(format!("{prefix}{start}Z-{n}.{extension}"));
            n += 1;
        }
        path
    }
}

/// The time in the name of a file of a folder, `YYYYMMDDTHHMMSS`; none where it is something else's.
pub(crate) fn start_in(name: &str, prefix: &str, format: Format) -> Option<String> {
    let stem = name.strip_prefix(prefix)?.strip_suffix(format.extension())?.strip_suffix('.')?;
    let (start, number) = stem.split_once('Z')?;
    let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let (date, time) = start.split_once('T')?;
    let is_time = (date.len(), time.len()) == (8, 6) && is_digits(date) && is_digits(time);
    let is_number = number.is_empty() || number.strip_prefix('-').is_some_and(is_digits);
    (is_time && is_number).then(|| start.to_string())
}

/// What is written to try a folder: where that ends too early, a reader passes over it.
fn probe_of(folder: &Path) -> PathBuf {
    folder.join(format!(".probe-{}.tmp", std::process::id()))
}

/// Rows of one file.
enum Part<'a> {
    Runs(&'a Arc<Batch>, &'a [Run]),
    Text(&'a [u8], Vec<(IpAddr, u64)>),
}

impl Part<'_> {
    fn rows(&self, mut add: impl FnMut(IpAddr, u64)) {
        match self {
            Self::Runs(_, runs) => rows_by_exporter(runs, add),
            Self::Text(_, rows) => rows.iter().for_each(|&(exporter, rows)| add(exporter, rows)),
        }
    }
}
