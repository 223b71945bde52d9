//! Parquet files at a cost of about a nanosecond a value.
//!
//! What a file is (footer, row groups, page headers, indexes, nested columns) is the parquet crate's. The pages of plain
//! columns are made here, and handed to it ready:
//!
//! ```text
//! integers, addresses, times   DELTA_BINARY_PACKED, by loops over blocks that the compiler turns into vectors
//! what a message's rows share  a dictionary, and a run of its places a message: a cost a message, not a row
//! text, rates                  a dictionary, and packed places
//! IPv6 and MAC addresses       as they are
//! columns that no row has      one page a row group
//! ```
//!
//! Nothing is compressed after that. Each page has its least and greatest value in the page index.

mod bits;
mod chunk;
mod delta;
mod file;
mod fixed;
mod header;
mod hybrid;
mod integers;
mod keys;

pub use file::ParquetFile;
pub(crate) use file::{Memory, Source};

use arrow_array::ArrayRef;
use chunk::Finished;
use parquet::errors::Result;

/// Rows of a page, about.
const PAGE_ROWS: usize = 8192;
/// Rows for which a page of their own is worth its header.
const FEW_ROWS: usize = PAGE_ROWS / 4;

/// A column in the row group that is being written.
trait Column: Send {
    /// Appends rows, each with a value of its own or none.
    fn rows(&mut self, values: &ArrayRef) -> Result<()>;

    /// Appends runs of rows that share a value.
    fn runs(&mut self, values: &ArrayRef, rows: &[u32]) -> Result<()>;

    /// Appends rows without a value.
    fn absent(&mut self, rows: usize) -> Result<()>;

    /// Bytes of memory, about.
    fn bytes(&self) -> usize;

    /// Whether the row group should end for its sake.
    fn is_full(&self) -> bool {
        false
    }

    /// All of it.
    fn finish(self: Box<Self>) -> Result<Finished>;
}

/// An array of a type that its column cannot have: a fault of ours, not of what was sent.
fn foreign(array: &ArrayRef) -> parquet::errors::ParquetError {
    parquet::errors::ParquetError::General(format!("a column of another type: {}", array.data_type()))
}

#[cfg(test)]
mod tests;
