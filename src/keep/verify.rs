//! Whether what is on the disk can be read, to the last row.

use super::contents;
use super::layout::{Found, damaged_segments, found, is_segment};
use parquet::arrow::arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// What a file is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Whole.
    Sealed,
    /// A segment of a collector that runs, or that was killed: its next start seals it. `torn` where its end is cut.
    Hot {
        /// Whether its last stream is not whole.
        torn: bool,
    },
    /// A file that does not count: it was never finished, or its rows stand in another. Its node removes it.
    Unfinished,
    /// It cannot be read.
    Damaged(String),
}

/// A file that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// Its path.
    pub path: PathBuf,
    /// Rows that could be read.
    pub rows: u64,
    /// Its length.
    pub bytes: u64,
    /// What it is.
    pub state: State,
}

/// Reads every file of a folder and tells of each; or one file, sealed or hot.
///
/// # Errors
/// A folder that cannot be listed, and what is no file at all. What is wrong with a file is told of it.
pub fn verify(root: &Path, mut report: impl FnMut(&Checked)) -> io::Result<()> {
    let about = fs::metadata(root)?;
    if about.is_file() {
        let path = root.to_path_buf();
        report(&if is_segment(root) { hot_file(path) } else { sealed_file(path, about.len()) });
        return Ok(());
    }
    fs::read_dir(root)?;
    let Found { sealed, hot, passed_over } = found(root)?;
    for file in sealed {
        report(&sealed_file(file.path, file.bytes));
    }
    for path in passed_over {
        let bytes = fs::metadata(&path).map_or(0, |m| m.len());
        report(&Checked { path, rows: 0, bytes, state: State::Unfinished });
    }
    for path in hot.into_iter().map(|segment| segment.path) {
        report(&hot_file(path));
    }
    for path in damaged_segments(root)? {
        let bytes = fs::metadata(&path).map_or(0, |m| m.len());
        let text = "a segment that was put aside: what could be read of it is sealed, and it counts no more";
        report(&Checked { path, rows: 0, bytes, state: State::Damaged(text.to_string()) });
    }
    Ok(())
}

fn sealed_file(path: PathBuf, bytes: u64) -> Checked {
    let (rows, state) = match rows_of(&path) {
        Ok(rows) => (rows, State::Sealed),
        Err(error) => (0, State::Damaged(error)),
    };
    Checked { path, rows, bytes, state }
}

fn hot_file(path: PathBuf) -> Checked {
    let bytes = fs::metadata(&path).map_or(0, |m| m.len());
    let (rows, state) = match contents::read(&path, |_| Ok(())) {
        Ok(end) => match end.misnamed() {
            Some(why) => (0, State::Damaged(why)),
            None => (end.rows, State::Hot { torn: end.torn }),
        },
        Err(error) => (0, State::Damaged(error.to_string())),
    };
    Checked { path, rows, bytes, state }
}

/// Reads all of a Parquet file.
fn rows_of(path: &Path) -> Result<u64, String> {
    let file = File::open(path).map_err(|e| e.to_string())?;
    // The types of the file, not those of who wrote it: to make dictionaries of texts anew takes ten times as long as to read all.
    let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    let builder = ParquetRecordBatchReaderBuilder::try_new_with_options(file, options).map_err(|e| e.to_string())?;
    let said = u64::try_from(builder.metadata().file_metadata().num_rows()).unwrap_or(0);
    let mut rows = 0;
    for batch in builder.with_batch_size(1 << 16).build().map_err(|e| e.to_string())? {
        rows += batch.map_err(|e| e.to_string())?.num_rows() as u64;
    }
    if rows == said { Ok(rows) } else { Err(format!("{rows} rows, but it says {said}")) }
}
