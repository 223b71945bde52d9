//! The writing thread.

use super::board::{Board, Kept, lock};
use super::outage::{Outage, Word};
use super::prepare::Prepare;
use super::queue::Exit;
use super::shared::Shared;
use super::{Item, Lost, Sink, now};
use crate::columns::{Batch, rows_by_exporter};
use crossbeam_channel::{RecvTimeoutError, Sender};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

/// How often it is tried whether rows can be written again, where none come.
const TRY: Duration = Duration::from_secs(1);

/// Writes what comes, until all receiving threads are gone.
pub(super) fn write(
    mut sink: Box<dyn Sink>,
    mut prepare: Prepare,
    inbox: &Exit,
    returns: &[Sender<Batch>],
    shared: &Shared,
    board: &Board,
) -> io::Result<()> {
    let mut failure: Option<io::Error> = None;
    let (mut ticked, mut tried) = (Instant::now(), Instant::now());
    let mut trouble = Trouble::default();
    let (lost, keeping) = (sink.lost(), sink.keeping());
    let say_of_files = || {
        let lines = keeping.iter().flat_map(|keeping| keeping.take_damage());
        lines.for_each(|line| shared.say(&line));
    };
    loop {
        shared.pulse.rests();
        trouble.tell(shared, false);
        let item = match inbox.recv_timeout(Duration::from_millis(200)) {
            Ok(item) => Some(item),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => break,
        };
        shared.pulse.begins();
        let mut result = Ok(());
        if let Some(mut item) = item {
            if failure.is_none() {
                result = prepare.prepare(&mut item, |exporter, left_out| {
                    shared.filtered_rows.fetch_add(left_out.rows, Relaxed);
                    shared.unknown_rows.fetch_add(left_out.unknown, Relaxed);
                    lock(&board.written).rows.entry(exporter).or_default().leave_out(left_out);
                });
            }
            let rows = item.rows();
            if failure.is_none() && result.is_ok() {
                result = sink.write(&item);
            }
            let is_taken = sink.takes(&item);
            if let (Item::Options(options), false) = (&item, is_taken) {
                shared.options_passed_over.fetch_add(options.len() as u64, Relaxed);
            }
            let is_written = failure.is_none() && result.is_ok();
            let count = if is_written { &shared.written_rows } else { &shared.dropped_rows };
            count.fetch_add(rows, Relaxed);
            account(&item, is_taken, is_written, board);
            if let Some(error) = failure.as_ref().or(result.as_ref().err()).filter(|_| rows > 0) {
                lock(&shared.unwritten).add(&error.to_string(), rows);
            } else if rows > 0 {
                trouble.is_over(shared);
            }
            if rows > 0 {
                tried = Instant::now();
            }
            if let Item::Rows { from, batch } = item
                && let (Some(back), Some(batch)) = (returns.get(from), Arc::into_inner(batch))
            {
                // A full channel means that the thread has more than it can use.
                let _ = back.try_send(batch);
            }
        }
        if failure.is_none() && result.is_ok() && ticked.elapsed() >= Duration::from_millis(200) {
            ticked = Instant::now();
            result = sink.tick(now());
            say_of_files();
            trouble.forgot(prepare.names_forgotten(), shared);
            if result.is_ok() && trouble.outage.lasts() && tried.elapsed() >= TRY {
                // Nothing comes that would show whether it is over.
                tried = Instant::now();
                result = sink.probe();
                if result.is_ok() {
                    trouble.is_over(shared);
                }
            }
        }
        if sink.goes_on() {
            if let Err(error) = &result {
                settle(&lost, error, shared, board);
            }
            trouble.saw(&result, shared);
            continue;
        }
        if let Err(error) = result {
            shared.failed.store(true, Relaxed);
            shared.stop.store(true, Relaxed);
            failure = Some(error);
        }
    }
    trouble.tell(shared, true);
    let ended = match failure {
        Some(error) => Err(error),
        None => sink.finish().inspect_err(|error| settle(&lost, error, shared, board)),
    };
    say_of_files();
    ended
}

/// Counts as dropped what was counted as written, and is lost after all.
fn settle(lost: &Lost, error: &io::Error, shared: &Shared, board: &Board) {
    let (mut rows, mut written) = (0, lock(&board.written));
    for (exporter, n) in lost.rows.take() {
        written.lose(exporter, n);
        rows += n;
    }
    let options: u64 = lost.options.take().into_values().sum();
    written.options.written = written.options.written.saturating_sub(options);
    written.options.dropped += options;
    if rows > 0 {
        shared.written_rows.fetch_sub(rows, Relaxed);
        shared.dropped_rows.fetch_add(rows, Relaxed);
        lock(&shared.unwritten).add(&error.to_string(), rows);
    }
}

/// Notes whose rows were written, or not.
fn account(item: &Item, is_taken: bool, is_written: bool, board: &Board) {
    let mut written = lock(&board.written);
    let mut add = |exporter, rows| {
        let kept: &mut Kept = written.rows.entry(exporter).or_default();
        *(if is_written { &mut kept.written } else { &mut kept.dropped }) += rows;
    };
    match item {
        Item::Rows { batch, .. } => rows_by_exporter(batch.runs(), add),
        Item::Lines { by_exporter, .. } => by_exporter.iter().for_each(|&(exporter, rows)| add(exporter, rows)),
        Item::Options(options) => {
            let n = options.len() as u64;
            match (is_taken, is_written) {
                (false, _) => written.options_passed_over += n,
                (true, true) => written.options.written += n,
                (true, false) => written.options.dropped += n,
            }
        }
    }
}

/// Errors of an output that may work again, and names that are forgotten: what is said of them.
#[derive(Default)]
struct Trouble {
    outage: Outage,
    // Names that were forgotten and not told of.
    names: u64,
    names_said: Option<Instant>,
}

impl Trouble {
    fn saw(&mut self, result: &io::Result<()>, shared: &Shared) {
        if let Err(error) = result {
            let error = error.to_string();
            self.outage.begin(&error);
            *lock(&shared.cannot_write) = Some(error);
        }
    }

    /// Says what is to be said by now; at the `last` call all that was not.
    fn tell(&mut self, shared: &Shared, last: bool) {
        let dropped = shared.dropped_rows.load(Relaxed);
        match self.outage.word(Instant::now(), last) {
            Some(Word::Begins(error)) => {
                shared.say(&format!("cannot write: {error}; {dropped} rows are dropped so far, and the next are tried"))
            }
            Some(Word::Ends) => shared.say(&format!("writing again; {dropped} rows were dropped")),
            Some(Word::Passed(error)) => {
                shared
                    .say(&format!("could not write for a while: {error}; writing again, {dropped} rows were dropped"));
            }
            None => {}
        }
    }

    /// Names of exporters were forgotten, because there are too many.
    fn forgot(&mut self, names: u64, shared: &Shared) {
        self.names += names;
        if self.names > 0 && self.names_said.is_none_or(|at| at.elapsed() >= Duration::from_secs(60)) {
            self.names_said = Some(Instant::now());
            let names = std::mem::take(&mut self.names);
            shared.say(&format!(
                "{names} names from options data are forgotten, those heard of longest ago: there are too many"
            ));
        }
    }

    /// Rows were written, or can be.
    fn is_over(&mut self, shared: &Shared) {
        if self.outage.end() {
            *lock(&shared.cannot_write) = None;
        }
    }
}
