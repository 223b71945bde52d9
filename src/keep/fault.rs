//! Fault injection: builds with debug assertions end at a step of keeping, as a kill there would, where `FLOWLANE_ABORT_AT` names it,
//! and take their time for one that `FLOWLANE_SLOW_AT` names, as a slow disk does. Others have none of it.

/// A step was done. `FLOWLANE_ABORT_AT=begun` ends the process here the first time that `begun` is, `begun:3` the third time;
/// `FLOWLANE_SLOW_AT=appended:250` has each `appended` take 250 ms more.
#[cfg(debug_assertions)]
pub(super) fn step(name: &str) {
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
    static DONE: AtomicU64 = AtomicU64::new(0);
    if let Ok(slow) = std::env::var("FLOWLANE_SLOW_AT")
        && let Some((step, Ok(ms))) = slow.split_once(':').map(|(step, ms)| (step, ms.parse()))
        && step == name
    {
        std::thread::sleep(std::time::Duration::from_millis(ms));
    }
    let Ok(wanted) = std::env::var("FLOWLANE_ABORT_AT") else { return };
    let (step, times) = wanted.split_once(':').unwrap_or((&wanted, "1"));
    if step == name && DONE.fetch_add(1, Relaxed) + 1 == times.parse().unwrap_or(1) {
        std::process::abort();
    }
}

#[cfg(not(debug_assertions))]
pub(super) fn step(_: &str) {}
