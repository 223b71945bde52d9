//! A folder of files, each a stretch of the time received.

use super::file::{Format, Writer};
use super::text;
use crate::columns::{Batch, Run};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const HOUR_US: i64 = 3_600_000_000;
/// How long a stretch that is over waits for rows of other threads, microseconds.
const GRACE_US: i64 = 3_000_000;
/// Files open at once, at most: rows that were held for long come with old times.
const OPEN_FILES: usize = 8;

/// Writes rows into files that are cut by the time received: `<start in UTC>.<extension>`.
pub struct Folder {
    path: PathBuf,
    format: Format,
    stretch_us: i64,
    open: BTreeMap<i64, Writer>,
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
        Ok(Self { path: path.to_path_buf(), format, stretch_us, open: BTreeMap::new(), files: 0, rows: 0 })
    }

    /// Writes all rows of a batch, each to the file of its time.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn write(&mut self, batch: &Arc<Batch>) -> io::Result<()> {
        let mut runs = batch.runs();
        while let Some(first) = runs.first() {
            let start = self.start_of(first.meta.received_at.0);
            let n = runs.iter().take_while(|r| self.start_of(r.meta.received_at.0) == start).count();
            let (these, rest) = runs.split_at(n);
            self.rows += rows_of(these);
            self.at(start)?.write(batch, these)?;
            runs = rest;
        }
        Ok(())
    }

    /// Writes lines made elsewhere to the file of a time.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn write_text(&mut self, lines: &[u8], received_us: i64) -> io::Result<()> {
        let start = self.start_of(received_us);
        self.at(start)?.write_text(lines)
    }

    /// Finishes the files whose time is over.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn tick(&mut self, now_us: i64) -> io::Result<()> {
        let limit = self.start_of(now_us.saturating_sub(GRACE_US));
        while let Some(entry) = self.open.first_entry().filter(|e| *e.key() < limit) {
            let writer = entry.remove();
            self.close(writer)?;
        }
        Ok(())
    }

    /// Finishes all files; the number of files and of rows that were written.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn finish(mut self) -> io::Result<(u64, u64)> {
        while let Some((_, writer)) = self.open.pop_first() {
            self.close(writer)?;
        }
        Ok((self.files, self.rows))
    }

    fn start_of(&self, us: i64) -> i64 {
        let (base, step) = if self.stretch_us < HOUR_US {
            (us.div_euclid(HOUR_US) * HOUR_US, self.stretch_us)
        } else {
            (0, self.stretch_us)
        };
        base + (us - base).div_euclid(step) * step
    }

    fn at(&mut self, start: i64) -> io::Result<&mut Writer> {
        if !self.open.contains_key(&start) {
            if self.open.len() >= OPEN_FILES
                && let Some((_, oldest)) = self.open.pop_first()
            {
                self.close(oldest)?;
            }
            let path = self.free_name(start);
            self.open.insert(start, Writer::to_file(self.format, &path)?);
        }
        self.open.get_mut(&start).ok_or_else(|| io::Error::other("no file"))
    }

    fn close(&mut self, writer: Writer) -> io::Result<()> {
        self.files += 1;
        writer.finish()
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
