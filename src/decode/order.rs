//! The order in which records stood on the wire, over the batches of several layouts.

use crate::columns::{Batch, Run};

/// A run of one of several batches.
#[derive(Clone, Copy, Debug)]
pub struct OrderedRun<'a> {
    /// The index of the batch.
    pub batch: usize,
    /// Its rows and what they share.
    pub run: &'a Run,
}

/// All runs of these batches in wire order; a late run stands where its template came.
///
/// Only batches of one decoder can be ordered, and only those handed over together.
pub fn wire_order<'a>(batches: impl IntoIterator<Item = &'a Batch>) -> Vec<OrderedRun<'a>> {
    let of = |(i, b): (usize, &'a Batch)| b.runs().iter().map(move |run| OrderedRun { batch: i, run });
    let mut runs: Vec<_> = batches.into_iter().enumerate().flat_map(of).collect();
    runs.sort_by_key(|r| r.run.meta.order);
    runs
}
