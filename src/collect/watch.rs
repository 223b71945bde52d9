//! What a running collector is asked.

use super::Shared;
use super::board::{Board, ConnectionLine, TemplateLine, lock};
use super::ledger::{ExporterAccount, KeepingAccount, Ledger};
use crate::keep::Progress;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// Asks a running collector. To be had from [`Running::watch`](super::Running::watch), and kept on any thread.
#[derive(Clone)]
pub struct Watch {
    pub(super) board: Arc<Board>,
    pub(super) shared: Arc<Shared>,
    pub(super) has_sink: bool,
    pub(super) keeping: Option<Arc<Progress>>,
}

impl Watch {
    /// The ledger as of now. Waits for the receiving threads' next tick, a tenth of a second or two.
    pub fn ledger(&self) -> Ledger {
        self.make_ledger(Vec::new())
    }

    /// The same, for as long as a look takes: there is one at a time, as it may be as large as what it counts.
    pub(super) fn look<T>(&self, look: impl FnOnce(&Ledger) -> T) -> T {
        let mut room = lock(&self.board.room);
        let mut ledger = self.make_ledger(std::mem::take(&mut *room));
        let seen = look(&ledger);
        ledger.exporters.clear();
        *room = ledger.exporters;
        seen
    }

    fn make_ledger(&self, room: Vec<ExporterAccount>) -> Ledger {
        // What is written was decoded before: asked in this order, no row is written that is not decoded yet.
        let written = lock(&self.board.written).clone();
        let (parts, is_fresh) = self.board.ask(false);
        let (mut ledger, gone) = Ledger::of(&parts, written.rows, room);
        if is_fresh {
            lock(&self.board.written).forget(gone);
        }
        ledger.options.written = written.options.written;
        ledger.options.dropped += written.options.dropped;
        ledger.options.passed_over = written.options_passed_over;
        (ledger.has_sink, ledger.is_fresh) = (self.has_sink, is_fresh);
        ledger.keeping = self.keeping.as_deref().map(KeepingAccount::of);
        ledger.state.clone_from(&lock(&self.shared.journal));
        if let Some(state) = &mut ledger.state {
            state.lost += parts.iter().map(|part| part.learned_dropped).sum::<u64>();
        }
        ledger.log_lines_dropped = self.shared.log.as_ref().map_or(0, |log| log.dropped());
        ledger.seconds = self.board.began.elapsed().as_secs_f64();
        ledger
    }

    /// The templates that are known, and how many more there are: a thread names the first ten thousand.
    pub fn templates(&self) -> (Vec<TemplateLine>, u64) {
        let (parts, _) = self.board.ask(true);
        let more = parts.iter().map(|p| p.more_templates).sum();
        let mut lines: Vec<TemplateLine> = parts.iter().flat_map(|p| p.templates.iter().cloned()).collect();
        lines.sort_by_key(|t| (t.exporter, t.template.version, t.domain_id, t.template.id));
        (lines, more)
    }

    /// The connections that are open, the busiest first.
    pub fn connections(&self) -> Vec<ConnectionLine> {
        let (parts, _) = self.board.ask(true);
        let mut lines: Vec<ConnectionLine> = parts.iter().flat_map(|p| p.connection_lines.iter().copied()).collect();
        lines.sort_by_key(|c| (std::cmp::Reverse(c.messages), c.exporter));
        lines
    }

    /// Why it is not ready, if so.
    pub fn unready(&self) -> Option<String> {
        if self.has_failed() {
            return Some("a thread gave up".to_string());
        }
        if let Some(cause) = &*lock(&self.shared.cannot_write) {
            return Some(format!("rows are dropped, they cannot be written: {cause}"));
        }
        if let Some(time) = self.shared.pulse.stuck() {
            return Some(stuck(time));
        }
        if let Some(cause) = lock(&self.shared.journal).as_ref().and_then(|state| state.failing.as_ref()) {
            return Some(format!("a restart would not know some templates, they cannot be written: {cause}"));
        }
        (!self.board.ask(false).1).then(|| "not every thread receives".to_string())
    }

    /// For how long the writer takes nothing, in words, where that is too long.
    pub(super) fn stuck(&self) -> Option<String> {
        self.shared.pulse.stuck().map(stuck)
    }

    /// Whether a thread gave up.
    pub fn has_failed(&self) -> bool {
        self.shared.failed.load(Relaxed)
    }
}

fn stuck(time: Duration) -> String {
    let seconds = time.as_secs();
    format!(
        "the writer takes nothing for {seconds} s: nobody reads what is written, or the disk hangs; rows are dropped"
    )
}
