//! Flows on disk for years: hot segments that outlive the process, sealed Parquet, retention.
//!
//! ```text
//! Batch -> .hot/<node>/<segment>.arrows      Arrow IPC streams, one a batch, written at once
//!       -> date=YYYY-MM-DD/hour=HH/<node>-<segment>-<part>.parquet      on rotation, by another thread
//! ```
//!
//! A stream is the batch's own memory, its numbers in as few bytes as they fit, and once a message what its rows share; that stays so until
//! the Parquet file has it as runs of places in a dictionary. Rows are kept in the order in which they were handed over, which is that of
//! the time received but for the moment that a batch waits: sorting them would cut every column of every layout at each message.
//!
//! Small files of an hour that is over become one, `<node>-<first segment>-<last>-0.parquet`: from the moment it has that name
//! the files it has the rows of no longer count. They stay for a while, for those who read them.
//!
//! Files are cut by the time received, UTC, and stand in the folder of their hour. A file has its final name only when
//! it is whole and on the disk; its segment is removed after that, or written over by another. What a node writes follows from the segment alone, so
//! sealing a segment again after a crash writes the same files under the same names: no row is lost or doubled.
//!
//! Several collectors may share a folder if each has a name of its own (the node): each touches its own files only, and
//! a second process of the same name refuses to start.

pub mod ledger;

mod compact;
mod contents;
mod fault;
mod growing;
mod layout;
mod retention;
mod runs;
mod seal;
mod segment;
mod spare;
mod store;
mod sum;
mod verify;

pub(crate) use layout::left_by_others;
pub use layout::{Found, HotSegment, SealedFile, default_node, files_of_segment, found, node, sealed_files};
pub use retention::{Retention, Retired};
pub use store::{Options, Progress, Store};
pub use verify::{Checked, State, verify};

use arrow_array::RecordBatch;
use std::io;
use std::path::Path;

/// Gives every whole batch of a hot segment to `take`; each has the columns that its rows have.
///
/// # Errors
/// Those of the file system, and of `take`. A cut end is none.
pub fn read_segment(path: &Path, mut take: impl FnMut(RecordBatch) -> io::Result<()>) -> io::Result<()> {
    contents::read(path, |batch| take(runs::Rows::new(batch)?.expand()?)).map(drop)
}

#[cfg(test)]
mod tests;
