//! Flow collectors beside each other: the same datagrams, the same core, the same disk.
//!
//! ```text
//! workload     what is sent, by flowgen, which counts what it sends
//!   -> peer    a collector: how it is started, what it says it has kept; a file each
//!   -> trial   one collector, one workload, one rate: processor time, memory, disk, sums
//!   -> turns   every collector after the other, and who gave no result
//!   -> cost, rate, latency   rounds of trials, bisection, percentiles
//!      soak, hostile, scale  long runs, bad company, more cores than are here
//!      queries  the same questions to the same flows, on disk
//!   -> raw     JSON lines and CSV -> report: tables and charts -> document: both, in a text that people write
//! ```
#![deny(unsafe_code)]

mod bench;
mod chart;
mod cli;
mod cost;
mod document;
mod hostile;
mod latency;
mod machine;
mod peer;
mod process;
mod queries;
mod rate;
mod raw;
mod report;
mod scale;
mod soak;
mod summary;
mod table;
mod trial;
mod turns;
mod workload;

fn main() -> std::process::ExitCode {
    cli::main()
}
