//! NetFlow v1, v5, v7, v9 and IPFIX, decoded into columns.
//!
//! ```text
//! datagram (borrowed)
//!   -> wire       views: headers, sets, v1/v5/v7 records           no allocation, no state
//!   -> template   (exporter, version, domain, id) -> Template      caches, held sets, options tables
//!   -> plan       a template compiled once into column operations  the only place that knows offsets
//!   -> columns    every record of a set, column by column          64-byte aligned, one layout a plan
//!   -> Batch      -> Arrow, Parquet, NDJSON, CSV, your own
//! ```
//!
//! Two ways to read a message. For everything fast there is [`Decoder`]: datagrams in, [`Batch`]es of typed columns
//! out, no allocation a datagram. For inspection there is [`rows`]: every field of every record as a borrowed
//! `(element, value)`, by name or by id.
//!
//! | layer | modules | may use |
//! |---|---|---|
//! | 0 | [`error`], [`wire`], [`elements`] | nothing above |
//! | 1 | [`columns`], [`template`], [`value`], `source`, `net` | layers 0 and 1 |
//! | 2 | [`plan`], `sink` | layers 0 and 1; sinks see batches, never the wire |
//! | 3 | [`rows`], [`decode`], `enrich`, `keep` | layers 0 to 2 |
//! | 4 | `query`, `collect`, the program | everything; queries see files and columns, never the wire |
//!
//! The core knows no sockets, no clock and no threads: the exporter's address and the time are arguments. Nothing in a
//! datagram makes it panic, and what it keeps is bounded by [`decode::Config`].
//!
//! # Features
//!
//! The decoder alone (`default-features = false`) needs zerocopy and byteorder. `arrow` turns batches into record batches
//! without a copy, `serde` serialises rows, `collect` adds capture files, sockets, sinks and threads, `cli` (the default)
//! the program.
#![deny(unsafe_code)]

pub mod columns;
pub mod decode;
pub mod elements;
pub mod error;
pub mod plan;
pub mod rows;
pub mod template;
pub mod value;
pub mod wire;

#[cfg(feature = "collect")]
pub mod collect;
#[cfg(feature = "collect")]
pub mod enrich;
#[cfg(feature = "collect")]
pub mod keep;
#[cfg(feature = "collect")]
pub mod net;
#[cfg(feature = "collect")]
pub mod query;
#[cfg(feature = "collect")]
pub mod sink;
#[cfg(feature = "collect")]
pub mod source;

pub use columns::{Batch, Timestamp};
pub use decode::{Config, Decoder, Outcome};
pub use error::{Error, ErrorKind};
pub use rows::{Session, parse, parse_hex};

/// The README's Rust is compiled and run with the documentation's tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeExamples;
