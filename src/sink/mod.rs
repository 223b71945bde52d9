//! Sinks: batches as text and as files. They see batches only, never messages.
//!
//! ```text
//! Batch -> Lines          NDJSON, CSV: rows as text, a line each
//!       -> expand         the full schema as Arrow arrays -> Parquet, Arrow IPC
//!       -> Table          for people
//! ```

mod lines;
pub mod options;
pub mod schema;
pub mod text;

pub use lines::{Lines, csv_header, header};

#[cfg(test)]
mod tests;
