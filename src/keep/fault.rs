//! Fault injection: builds with debug assertions end at a step of keeping, as a kill there would, where `FLOWLANE_ABORT_AT` names it.
//! Others have none of it.

/// A step was done. `FLOWLANE_ABORT_AT=begun` ends the process here the first time that `begun` is, `begun:3` the third time.
#[cfg(debug_assertions)]
pub(super) fn step(name: &str) {
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
    static DONE: AtomicU64 = AtomicU64::new(0);
    let Ok(wanted) = std::env::var("FLOWLANE_ABORT_AT") else { return };
    let (step, times) = wanted.split_once(':').unwrap_or((&wanted, "1"));
    if step == name && DONE.fetch_add(1, Relaxed) + 1 == times.parse().unwrap_or(1) {
        std::process::abort();
    }
}

#[cfg(not(debug_assertions))]
pub(super) fn step(_: &str) {}
