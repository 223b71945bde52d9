//! A folder of files, each a stretch of the time received.

use super::file::Format;
use super::lasting::{LastingFile, LostRows};
use super::text;
use crate::columns::{Batch, Run};
use std::collections::BTreeMap;
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
/// Bytes that a disk must have room for to be tried again.
const PROBE: usize = 1 << 18;

/// Writes rows into files that are cut by the time received: `<start in UTC>.<extension>`.
///
/// Where one cannot be written or ended, that is tried again at each call, and nothing is taken meanwhile.
pub struct Folder {
    path: PathBuf,
    format: Format,
    stretch_us: i64,
    open: BTreeMap<i64, LastingFile>,
    // Those whose time is over and that could not be ended yet.
    ending: Vec<LastingFile>,
    lost: LostRows,
    files: u64,
    rows: u64,
}

impl Folder {
    /// A folder, made where it is missing, with a new file every `stretch_us` microseconds (a second at least).
    ///
    /// # Errors
    /// Those of the file system, and a folder that cannot be written to: said before there is anything to write.
    pub fn open(path: &Path, format: Format, stretch_us: i64) -> io::Result<Self> {
        fs::create_dir_all(path)?;
        let probe = path.join(format!(".probe-{}.tmp", std::process::id()));
        fs::write(&probe, b"")?;
        fs::remove_file(&probe)?;
        let stretch_us = stretch_us.max(1_000_000);
        Ok(Self {
            path: path.to_path_buf(),
            format,
            stretch_us,
            open: BTreeMap::new(),
            ending: Vec::new(),
            lost: LostRows::default(),
            files: 0,
            rows: 0,
        })
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
        self.settle()?;
        let mut parts = Vec::new();
        let mut runs = batch.runs();
        while let Some(first) = runs.first() {
            let start = self.start_of(first.meta.received_at.0);
            let n = runs.iter().take_while(|r| self.start_of(r.meta.received_at.0) == start).count();
            let (these, rest) = runs.split_at(n);
            // All before the first row is written.
            self.at(start)?;
            parts.push((start, these));
            runs = rest;
        }
        for (start, runs) in parts {
            self.at(start)?.write(batch, runs)?;
            self.rows += rows_of(runs);
        }
        Ok(())
    }

    /// Writes lines made elsewhere to the file of a time: so many rows of each exporter.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn write_text(&mut self, lines: &[u8], received_us: i64, rows: &[(IpAddr, u64)]) -> io::Result<()> {
        self.settle()?;
        let start = self.start_of(received_us);
        self.at(start)?.write_text(lines, rows)
    }

    /// Tries whether the folder takes rows, with a file that goes again.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn probe(&self) -> io::Result<()> {
        fs::create_dir_all(&self.path)?;
        let path = self.path.join(format!(".probe-{}.tmp", std::process::id()));
        let written = fs::write(&path, vec![0; PROBE]);
        written.and(fs::remove_file(&path))
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
        let mut result = self.end_those_over();
        for file in self.open.values_mut() {
            result = result.and(file.flush());
        }
        result
    }

    /// Finishes all files; the number of files and of rows that were written.
    ///
    /// # Errors
    /// Those of the file system. What was written stays then, in a file that has not its name yet.
    pub fn finish(mut self) -> io::Result<(u64, u64)> {
        self.ending.extend(std::mem::take(&mut self.open).into_values());
        let mut result = Ok(());
        for file in self.ending.drain(..) {
            let ended = file.finish();
            self.files += u64::from(ended.is_ok());
            result = result.and(ended);
        }
        result.map(|()| (self.files, self.rows))
    }

    /// Writes what could not be written before: until that is done nothing is taken.
    fn settle(&mut self) -> io::Result<()> {
        self.end_those_over()?;
        self.open.values_mut().try_for_each(LastingFile::flush_stuck)
    }

    /// Ends the files whose time is over; the others wait for those that cannot be.
    fn end_those_over(&mut self) -> io::Result<()> {
        let (mut result, files) = (Ok(()), &mut self.files);
        self.ending.retain_mut(|file| {
            let ended = file.end();
            *files += u64::from(ended.is_ok());
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

    fn at(&mut self, start: i64) -> io::Result<&mut LastingFile> {
        if !self.open.contains_key(&start) {
            if self.open.len() >= OPEN_FILES
                && let Some((_, oldest)) = self.open.pop_first()
            {
                self.ending.push(oldest);
                self.end_those_over()?;
            }
            // A folder that was removed comes again.
            fs::create_dir_all(&self.path)?;
            let path = self.free_name(start);
            self.open.insert(start, LastingFile::create(self.format, &path, self.lost.clone())?);
        }
        self.open.get_mut(&start).ok_or_else(|| io::Error::other("no file"))
    }

    /// A name that no file has: rows that come after their file was finished go to another.
    fn free_name(&self, start: i64) -> PathBuf {
        let mut name = Vec::new();
        text::time(&mut name, start);
        name.truncate(19);
        let name = String::from_utf8(name).unwrap_or_default().replace(['-', ':'], "");
        let mut path = self.path.join(format!("{name}Z.{}", self.format.extension()));
        let mut n = 2;
        while path.exists() {
            path = self.path.join(format!("{name}Z-{n}.{}", self.format.extension()));
            n += 1;
        }
        path
    }
}

fn rows_of(runs: &[Run]) -> u64 {
    runs.iter().map(|r| u64::from(r.rows)).sum()
}
