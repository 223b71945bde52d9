//! A scan that people wait for: a bar on the terminal, and Ctrl-C for what was read so far.

use crate::cli::on_terminal;
use flowlane::query::Watch;
use indicatif::{ProgressBar, ProgressStyle};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// How long a scan may take before there is a bar.
const QUIET: Duration = Duration::from_secs(1);

/// Runs `work`, whose scans `watch` sees.
pub fn watched<T>(watch: &Watch, work: impl FnOnce() -> T) -> T {
    let interrupted = Arc::new(AtomicBool::new(false));
    // The second one ends the program at once.
    let signal = signal_hook::consts::SIGINT;
    let ids = [
        signal_hook::flag::register_conditional_shutdown(signal, 130, interrupted.clone()),
        signal_hook::flag::register(signal, interrupted.clone()),
    ];
    let over = AtomicBool::new(false);
    let result = std::thread::scope(|scope| {
        let watching = scope.spawn(|| look(watch, &interrupted, &over));
        // Also where `work` panics: the thread has to end.
        let end = End(&over, watching.thread().clone());
        let result = work();
        drop(end);
        result
    });
    for id in ids.into_iter().flatten() {
        signal_hook::low_level::unregister(id);
    }
    result
}

struct End<'a>(&'a AtomicBool, std::thread::Thread);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
        self.1.unpark();
    }
}

fn look(watch: &Watch, interrupted: &AtomicBool, over: &AtomicBool) {
    let began = Instant::now();
    let mut bar = None;
    while !over.load(Relaxed) {
        std::thread::park_timeout(Duration::from_millis(50));
        if interrupted.load(Relaxed) {
            watch.stop();
        }
        if on_terminal() && began.elapsed() >= QUIET {
            let (done, all) = watch.progress();
            let bar = bar.get_or_insert_with(|| {
                let style = ProgressStyle::with_template("{bar:40} {percent}%  {eta} left; Ctrl-C for what was read");
                ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
            });
            bar.set_length(all as u64);
            bar.set_position(done as u64);
        }
    }
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
}
