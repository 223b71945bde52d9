//! What the threads of a collector have in common: counters, and what they are told while they run.

use super::board::lock;
use super::gate::Rules;
use super::ledger::StateAccount;
use super::log::{Level, Log};
use super::queue::Pulse;
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Acquire};
use std::sync::{Arc, Mutex};

/// How nice the thread is that keeps what was learned: it has a second for it.
pub(super) const KEEPING: i32 = 5;
/// And those that tell what happens.
pub(super) const TELLING: i32 = 10;

/// Counters that all threads add to.
#[derive(Debug, Default)]
pub(super) struct Shared {
    pub stop: AtomicBool,
    pub failed: AtomicBool,
    pub datagrams: AtomicU64,
    pub bytes: AtomicU64,
    pub records: AtomicU64,
    pub dropped_rows: AtomicU64,
    pub written_rows: AtomicU64,
    pub filtered_rows: AtomicU64,
    pub unknown_rows: AtomicU64,
    pub options_passed_over: AtomicU64,
    pub kernel_drops: AtomicU64,
    pub lost: AtomicU64,
    pub exporters: AtomicU64,
    pub log: Option<Log>,
    /// Why rows cannot be written, as long as that lasts.
    pub cannot_write: Mutex<Option<String>>,
    /// Whether the writer takes anything.
    pub pulse: Pulse,
    /// How the writing of what was learned goes, where there is a place for it.
    pub journal: Mutex<Option<StateAccount>>,
    /// Rows that could not be written, by why.
    pub unwritten: Mutex<Unwritten>,
    /// Changes with what is ordered.
    pub orders: AtomicU64,
    pub rules: Mutex<Rules>,
}

/// Causes that are told apart; what is written to has few.
const CAUSES: usize = 8;

/// Rows that could not be written, by why.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Unwritten(pub Vec<(String, u64)>);

impl Unwritten {
    pub fn add(&mut self, cause: &str, rows: u64) {
        if let Some(known) = self.0.iter_mut().find(|c| c.0 == cause) {
            known.1 += rows;
        } else if self.0.len() < CAUSES {
            self.0.push((cause.to_string(), rows));
        } else if let Some(last) = self.0.last_mut() {
            last.0 = "for several reasons".to_string();
            last.1 += rows;
        }
    }
}

/// What a thread has heard of the orders given while it runs.
pub(super) struct Orders {
    shared: Arc<Shared>,
    heard: u64,
}

impl Orders {
    pub fn of(shared: &Arc<Shared>) -> Self {
        Self { shared: shared.clone(), heard: 0 }
    }

    /// Who may send from now on, where that was ordered since the last call.
    pub fn rules(&mut self) -> Option<Rules> {
        let orders = self.shared.orders.load(Acquire);
        (std::mem::replace(&mut self.heard, orders) != orders).then(|| lock(&self.shared.rules).clone())
    }
}

impl Shared {
    pub fn say(&self, line: &str) {
        match &self.log {
            Some(log) => log.say(Level::Warn, line),
            None => {
                let _ = writeln!(io::stderr(), "flowlane: {line}");
            }
        }
    }
}
