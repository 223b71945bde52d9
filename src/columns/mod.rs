//! Batches of typed columns: what a decoder fills and a sink reads.
//!
//! A [`Layout`] lists the columns of one plan. A [`Batch`] holds up to a few thousand rows of one layout, column by
//! column in 64-byte aligned memory. What is the same for all records of a data set stands once, in a [`Run`].

mod application;
#[cfg(feature = "arrow")]
pub mod arrow;
mod batch;
mod buffer;
pub(crate) mod derive;
pub mod gather;
pub(crate) mod icmp;
mod joined;
mod layout;
mod options;
mod retain;
mod run;
pub mod schema;

pub use application::{ApplicationId, NoApplicationId};
pub(crate) use batch::Scratch;
pub use batch::{Batch, Column, ColumnView};
pub use buffer::{AlignedBuf, Bitmap, VarBuf};
pub(crate) use layout::extra_column_name;
pub use layout::{ColumnDef, ColumnType, Family, Layout};
pub use options::{OptionsBatch, OptionsRecord};
#[cfg(feature = "collect")]
pub(crate) use run::rows_by_exporter;
pub use run::{Run, RunMeta, SamplingSource, TimeSource, Timestamp};
