//! Questions about flows on disk: a filter, a scan that reads what it needs, and sums.
//!
//! ```text
//! Filter::parse("proto tcp and dst port 443 and src net 10/8")
//!   -> Scan        files, row groups that statistics do not rule out, columns that are asked for, all cores
//!   -> Top, rows   what remains, summed or shown
//! ```
//!
//! It sees columns only, never the wire: Parquet and Arrow files of this schema, and segments that are still hot.

mod anonymise;
mod arrow;
mod connections;
mod dedup;
mod eval;
mod examples;
mod field;
mod filter;
mod flow;
mod greatest;
mod group;
mod groups;
mod key;
mod literal;
mod memory;
mod names;
mod netflow_json;
mod pack;
mod page;
mod pairs;
mod parts;
mod prune;
pub mod report;
mod scan;
mod series;
mod span;
mod store;
mod sums;
mod top;
mod value;

pub use anonymise::{Anonymiser, KeyError};
pub use connections::{Connection, Options as ConnectionOptions, Outcome as ConnectionOutcome, connections};
pub use dedup::{By as DedupBy, Duplicates};
pub use examples::EXAMPLES as FILTER_EXAMPLES;
pub use filter::{Filter, FilterError};
pub use flow::{Counts, End, Flow, flows};
pub use literal::time;
pub use memory::Selected;
pub use names::{protocol_text as protocol, service_of};
pub use netflow_json::{Entries, netflow_json};
pub use pairs::{Matched, Pairs};
pub use scan::{Input, Scan, ScanStats, Watch, inputs};
pub use series::{At, Line, Options as SeriesOptions, Point, Series, Timeline, series};
pub use sums::{Metric, Row as TopRow};
pub use top::{Options as TopOptions, Top};
pub use value::{columns_of, is_column, number, text};

#[cfg(test)]
mod tests;
