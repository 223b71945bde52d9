//! Flows on disk for years: hot segments that outlive the process, sealed Parquet, retention.
//!
//! ```text
//! Batch -> .hot/<node>/<segment>.arrows      Arrow IPC streams, one a batch, written at once
//!       -> date=YYYY-MM-DD/hour=HH/<node>-<segment>-<part>.parquet      on rotation, by another thread
//! ```
//!
//! Files are cut by the time received, UTC, and stand in the folder of their hour. A file has its final name only when
//! it is whole and on the disk; its segment is removed after that. What a node writes follows from the segment alone, so
//! sealing a segment again after a crash writes the same files under the same names: no row is lost or doubled.
//!
//! Several collectors may share a folder if each has a name of its own (the node): each touches its own files only, and
//! a second process of the same name refuses to start.

mod layout;
mod retention;
mod seal;
mod segment;
mod store;
mod verify;

pub use layout::{SealedFile, default_node, sealed_files};
pub use retention::{Retention, Retired};
pub use store::{Options, Progress, Store};
pub use verify::{Checked, State, verify};

#[cfg(test)]
mod tests;
