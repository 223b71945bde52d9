//! A file that is appended to, with room asked for ahead.

use super::fault;
use super::spare::END;
use crate::sink::is_at;
use rustix::fs::{FallocateFlags, fallocate};
use std::fs::File;
use std::io::{self, IoSlice, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

/// Room that is asked for at once: as much as there is, within these.
const LEAST: u64 = 1 << 20;
const MOST: u64 = 64 << 20;

/// A file of known length. Finding room for each write alone costs a third of writing.
pub(super) struct Growing {
    file: File,
    length: u64,
    room: u64,
    // Not every file system can.
    asks: bool,
    // Whether `END` stands behind what was written.
    ends: bool,
}

impl Growing {
    /// An empty file.
    pub(super) fn new(file: File) -> Self {
        Self { file, length: 0, room: 0, asks: true, ends: false }
    }

    /// A file whose first bytes are [`END`], and that has so many which are to be written over.
    pub(super) fn over(file: File, bytes: u64) -> Self {
        Self { file, length: 0, room: bytes, asks: true, ends: true }
    }

    /// Bytes written.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Whether it has no name any more: asked of each batch, it walks no path.
    pub(super) fn is_unlinked(&self) -> bool {
        self.file.metadata().is_ok_and(|about| about.nlink() == 0)
    }

    /// Whether a path does not lead to it any more.
    pub(super) fn is_gone(&self, path: &Path) -> bool {
        is_at(&self.file, path).is_ok_and(|is_there| !is_there)
    }

    /// Appends all of several parts, or nothing: after an error it is as long as before.
    pub(super) fn append(&mut self, parts: &mut [IoSlice<'_>]) -> io::Result<()> {
        let bytes = parts.iter().map(|part| part.len() as u64).sum();
        self.make_room(bytes);
        let written = write_all(&mut self.file, parts);
        match written {
            Ok(()) => self.length += bytes,
            Err(_) => {
                self.file.set_len(self.length)?;
                self.file.seek(SeekFrom::Start(self.length))?;
                self.room = self.length;
            }
        }
        written
    }

    /// Appends what begins with `head`, so that it is there as a whole or not at all, whenever the process ends: until the rest is written
    /// the file ends before it, and [`END`] follows. After an error it is as long as before.
    pub(super) fn commit(&mut self, head: [u8; END.len()], rest: &mut [IoSlice<'_>]) -> io::Result<()> {
        let begins = END.len() as u64;
        let bytes: u64 = begins + rest.iter().map(|part| part.len() as u64).sum::<u64>();
        self.make_room(bytes + begins);
        let mut write = || {
            if !std::mem::replace(&mut self.ends, true) {
                self.file.write_all_at(&END, self.length)?;
            }
            self.file.seek(SeekFrom::Start(self.length + begins))?;
            let mut parts: Vec<IoSlice<'_>> = rest.to_vec();
            parts.push(IoSlice::new(&END));
            write_all(&mut self.file, &mut parts)?;
            fault::step("unmarked");
            self.file.write_all_at(&head, self.length)
        };
        let written = write();
        match written {
            Ok(()) => self.length += bytes,
            Err(_) => {
                self.ends = false;
                self.file.set_len(self.length)?;
                self.room = self.length;
            }
        }
        written
    }

    /// Everything is on the disk, and what was asked for in vain is given back.
    pub(super) fn finish(self) -> io::Result<()> {
        self.file.set_len(self.length)?;
        self.file.sync_all()
    }

    fn make_room(&mut self, bytes: u64) {
        if self.asks && self.length + bytes > self.room {
            let more = self.length.clamp(LEAST, MOST).max(bytes);
            // A full disk is told of by the write.
            self.asks = fallocate(&self.file, FallocateFlags::KEEP_SIZE, self.length, more).is_ok();
            self.room = self.length + more;
        }
    }
}

impl Write for Growing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.append(&mut [IoSlice::new(bytes)])?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn write_all(file: &mut File, mut parts: &mut [IoSlice<'_>]) -> io::Result<()> {
    // Empty ones at the front would look like a file that takes nothing.
    IoSlice::advance_slices(&mut parts, 0);
    while !parts.is_empty() {
        match file.write_vectored(parts.get(..parts.len().min(PARTS)).unwrap_or(&[])) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => IoSlice::advance_slices(&mut parts, n),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// What one call takes.
const PARTS: usize = 1024;
