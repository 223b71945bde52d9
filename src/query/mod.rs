//! Questions about flows on disk: a filter, a scan that reads what it needs, and sums.
//!
//! ```text
//! Filter::parse("proto tcp and dst port 443 and src net 10/8")
//!   -> Scan          files, row groups and stretches of pages that statistics do not rule out, on all cores
//!        page        pages decoded, the filter's columns first, the others where it holds
//!   -> Top           sums by any columns, the greatest first
//!        passes      the greatest of many: ranks first, then all sums of those alone
//!        store       a hash table that stays in the cache -> runs by hash -> a file
//!   -> series        sums by time, of the greatest groups
//!   -> connections   both directions of conversations, joined
//!   -> Pairs         the same of two flows, as Python's `netflow` package joins them
//!   -> flows         rows, one after the other
//!   -> Duplicates    flows that several exporters saw, for the filter to leave out
//!   -> report        a page of charts
//!   -> Export        whole rows again, for files; Anonymiser: with other addresses
//!   -> views         none of it: other engines over the same files
//! ```
//!
//! It sees columns only, never the wire: Parquet and Arrow files of this schema, and segments that are still hot.
//!
//! Every answer can be made in two ways: by a function that scans ([`series()`], [`connections()`], [`flows()`]), or by a
//! value that batches are added to one after the other ([`Top`], [`Series`]), which also takes batches that were never on
//! disk. A [`Watch`] shows how far a scan is and ends it; [`ScanStats`] says what was read, and which files could not be.
//!
//! ```
//! use flowlane::query::{self, Filter, Metric, Scan, SeriesOptions, Top, TopOptions, Watch};
//! # use flowlane::{Config, Decoder, Timestamp, sink::{Format, Writer}, source::Source};
//! # let folder = std::env::temp_dir().join(format!("flowlane-doc-{}", std::process::id()));
//! # std::fs::create_dir_all(&folder)?;
//! # let mut source = Source::open(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/demo/softflowd_v9.pcap").as_ref())?;
//! # let mut decoder = Decoder::new(Config::default());
//! # while let Some(Ok(datagram)) = source.next() {
//! #     decoder.decode(datagram.bytes, datagram.exporter, Timestamp(datagram.received_us));
//! # }
//! # let batches: Vec<_> = decoder.flush().into_iter().map(std::sync::Arc::new).collect();
//! # let mut writer = Writer::to_file(Format::Parquet, &folder.join("flows.parquet"))?;
//! # writer.write_ordered(&batches)?;
//! # writer.finish()?;
//!
//! let now_us = 1_795_453_700_000_000;
//! let mut scan = Scan {
//!     inputs: query::inputs(&folder)?,
//!     filter: Filter::parse("proto tcp and port https and last 1d", now_us)?,
//!     columns: Vec::new(),
//!     threads: 2,
//!     watch: Watch::default(),
//! };
//!
//! // Who sent most bytes.
//! let options = TopOptions { keys: vec!["src_addr".to_string()], ..TopOptions::default() };
//! let empty = Top::new(options);
//! let mut top = empty.another();
//! scan.columns = top.columns();
//! let add = |part: &mut Top, batch: &_, rows: &_| {
//!     part.add(batch, rows);
//!     true
//! };
//! let stats = scan.run(|| empty.another(), add, |part| top.merge(part));
//! let (greatest, _) = top.finish(Metric::Bytes, 3);
//! assert_eq!(greatest.len(), 3);
//! assert!(stats.damaged.is_empty() && stats.matched > 0);
//!
//! // Bits a second over time, of everything that the filter holds for.
//! let every_10s = SeriesOptions { interval_us: 10_000_000, ..SeriesOptions::default() };
//! let (timeline, _) = query::series(&scan, &every_10s, Metric::Bps, 0, 0);
//! println!("95th percentile: {:.0} bit/s", timeline.total.p95(Metric::Bps));
//! assert_eq!(timeline.total.sum().bytes, top.total().bytes);
//!
//! // Who talked to whom.
//! let mut conversations = Vec::new();
//! query::connections(&scan, &Default::default(), |connection| conversations.push(connection));
//! assert_eq!(conversations.iter().map(|c| i128::from(c.both().bytes)).sum::<i128>(), top.total().bytes);
//! # std::fs::remove_dir_all(&folder)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod anonymise;
mod arrow;
mod chosen;
mod connections;
mod dedup;
mod entry;
mod eval;
mod examples;
mod export;
mod expr;
mod field;
mod filter;
mod flow;
mod foreign;
mod greatest;
mod group;
mod groups;
mod kept;
mod key;
mod literal;
mod memory;
mod names;
mod netflow_json;
mod pack;
mod page;
mod pairs;
mod parts;
mod passes;
mod prune;
mod reading;
pub mod report;
mod scan;
mod series;
mod span;
mod spill;
mod store;
mod sums;
mod table;
mod threads;
mod top;
mod value;
pub mod views;

pub use anonymise::{Anonymiser, KeyError};
pub use connections::{Connection, Options as ConnectionOptions, Outcome as ConnectionOutcome, connections};
pub use dedup::{By as DedupBy, Duplicates};
pub use examples::EXAMPLES as FILTER_EXAMPLES;
pub use export::Export;
pub use field::{column_named, is_number_extra};
pub use filter::{Filter, FilterError};
pub use flow::{Counts, End, Flow, Outcome as FlowsOutcome, flows};
pub use foreign::{ANSWER, other_kind};
pub use key::directions_of as directions;
pub use literal::time;
pub use memory::Selected;
pub use names::{protocol_number, protocol_text as protocol, service_of};
pub use netflow_json::{Entries, netflow_json};
pub use pairs::{Matched, Pairs};
pub use passes::top;
pub use scan::{Damage, Input, Scan, ScanStats, Watch, inputs};
pub use series::{At, Line, Options as SeriesOptions, Point, Series, Timeline, series};
pub use sums::{Metric, Row as TopRow};
pub use top::{Options as TopOptions, Top};
pub use value::{columns_of, is_column, number, text};

#[cfg(test)]
mod tests;
