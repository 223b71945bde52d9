//! Sinks: batches as text and as files. They see batches only, never messages.
//!
//! ```text
//! Batch -> Lines          NDJSON, CSV: rows as text, a line each
//!       -> FileSchema     the full schema as Arrow arrays -> Parquet, Arrow IPC
//!       -> Table          for people
//! ParquetFile             any Arrow record batches, with the encodings of such files
//! Writer                  one of them to a stream, or to a file that appears whole or not at all
//! Place                   where such a file is until it is whole
//! LastingFile             a Writer to a file that goes on after errors of the disk
//! Folder                  a LastingFile for each stretch of time
//! Lock                    a folder that one process has
//! ```

mod expand;
mod file;
mod folder;
mod lasting;
mod left;
mod lines;
mod lock;
pub mod options;
pub(crate) mod parquet;
mod place;
pub mod schema;
pub mod table;
pub mod text;

pub use expand::{EXTRA_COLUMNS, FileSchema};
pub(crate) use expand::{dictionary_type, extras_map, map_type, texts_as};
pub use file::{Format, Writer};
pub(crate) use file::{io_error, properties};

pub(crate) use folder::start_in;
pub use folder::{Folder, Line};
pub use lasting::{LastingFile, LostRows};
pub(crate) use lines::address;
pub use lines::{Lines, csv_header, header};
pub(crate) use lock::{Lock, is_at};
pub use parquet::ParquetFile;
pub use place::Place;
pub(crate) use place::{PROBE, free, is_full, probe};

#[cfg(test)]
mod tests;
