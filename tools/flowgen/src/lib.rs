//! Flows that outrun their receiver: NetFlow v1, v5, v7, v9 and IPFIX, made up or replayed, and counted.
//!
//! ```text
//! Traffic            who talks to whom, how much: Zipf, Pareto, log-normal, one seed
//!   -> Plan, Ring    messages encoded once, their times kept fresh while they go round
//!   -> Generator     headers with each exporter's own sequence numbers; loss, reordering, duplication
//!   -> Sender        sendmmsg, UDP_SEGMENT, exact rates      or a pcap file, or memory
//!   -> Sent          what went out: datagrams, records, bytes, packets
//! ```
//!
//! The encoder is written from the specifications and shares no code with any decoder. What a receiver counts less than
//! [`Sent`] says is its loss, exactly.
//!
//! ```no_run
//! use flowgen::{Delivery, Limits, Pace, Plan, Protocol};
//! use std::sync::atomic::AtomicBool;
//! use std::time::Duration;
//!
//! let plan = Plan { protocols: vec![Protocol::V5], exporters: 100, ..Plan::default() };
//! let mut delivery = Delivery::to(([127, 0, 0, 1], 2055).into());
//! delivery.limits =
//!     Limits { pace: Pace::Records(1e6), duration: Some(Duration::from_secs(10)), ..Limits::default() };
//! let sent = flowgen::send(&plan, &delivery, &AtomicBool::new(false))?;
//! assert!(sent.records >= 10_000_000);
//! # Ok::<(), flowgen::Error>(())
//! ```

mod account;
mod capture;
mod encode;
mod error;
mod exporters;
mod file;
mod generate;
mod job;
mod pace;
mod plan;
mod protocol;
mod replay;
mod report;
mod send;
#[expect(unsafe_code, reason = "sendmmsg with control messages, which no safe crate offers")]
mod sys;
mod template;
mod traffic;
mod trouble;

pub use error::Error;
pub use job::{Datagram, Delivery, Sender, memory, send, write};
pub use pace::{Limits, Pace};
pub use plan::Plan;
pub use protocol::Protocol;
pub use replay::{Replay, Speed};
pub use report::Sent;
pub use template::Template;
pub use trouble::Trouble;
