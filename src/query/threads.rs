//! One piece of work on several threads.

use std::panic::resume_unwind;
use std::thread::scope;

/// Does the work on so many threads, this one among them: what it came to on each.
pub(super) fn on_threads<T: Send>(threads: usize, work: impl Fn() -> T + Sync) -> Vec<T> {
    scope(|scope| {
        let spawned: Vec<_> = (1..threads).map(|_| scope.spawn(&work)).collect();
        let mut found = vec![work()];
        // A thread that panicked has lost rows: the answer would be wrong.
        found.extend(spawned.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic))));
        found
    })
}
