//! What becomes of rows before they are written, on the writing thread: tables add columns, a filter leaves rows out.
//!
//! Tables that come from files are looked at by a thread of their own. What it reads it leaves at a place where the
//! writer, and the receivers for their rules, find it when they look next; none of them waits for it.

use super::Item;
use super::board::lock;
use super::shared::TELLING;
use crate::columns::Batch;
use crate::decode::{Decoder, Rules};
use crate::enrich::{Change, Enricher, Files, FillAs, Tables};
use crate::net;
use crate::query::Filter;
use std::io;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

/// How often files are looked at.
const LOOK: Duration = Duration::from_secs(1);
/// How long the last look may take.
const LAST: Duration = Duration::from_secs(1);

/// What is added to rows, and which of them are written.
#[derive(Clone, Debug, Default)]
pub struct Preparation {
    /// Files of names and places. What they say of exporters' sampling and times counts for the decoders, too.
    pub files: Files,
    /// Where the AS of a row is taken from the files.
    pub fill_as: FillAs,
    /// The rows to write; all where it is `None`.
    pub filter: Option<Filter>,
}

/// Rows of an exporter that the filter left out, and those of them of which it could not tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct LeftOut {
    pub rows: u64,
    pub unknown: u64,
}

/// The writing thread's part.
pub(super) struct Prepare {
    enricher: Enricher,
    filter: Option<Filter>,
    // Whether the filter looks at what tables add.
    joins_first: bool,
    live: Arc<Live>,
    seen: u64,
    names_forgotten: u64,
}

impl Prepare {
    /// Knows what the decoders know by now.
    pub fn new<'d>(
        preparation: &Preparation,
        live: Arc<Live>,
        decoders: impl IntoIterator<Item = &'d Decoder>,
    ) -> Self {
        let mut enricher = Enricher::new(preparation.files.tables().clone(), preparation.fill_as);
        for known in decoders.into_iter().flat_map(Decoder::known_exporters) {
            enricher.learn_tables(known.address, known.options);
        }
        let looked_at = preparation.filter.as_ref().map(Filter::columns).unwrap_or_default();
        let joins_first = looked_at.iter().any(|c| crate::enrich::COLUMNS.contains(&c.as_str()));
        Self { enricher, filter: preparation.filter.clone(), joins_first, live, seen: 0, names_forgotten: 0 }
    }

    /// Makes an item what is to be written; gives `left_out` what is not.
    pub fn prepare(&mut self, item: &mut Item, left_out: impl FnMut(IpAddr, LeftOut)) -> io::Result<()> {
        match item {
            Item::Options(options) => self.enricher.learn(options),
            Item::Lines { .. } => {}
            Item::Rows { batch, .. } => {
                if let Some(tables) = self.live.newer_tables(&mut self.seen) {
                    self.enricher.replace(tables);
                }
                if self.joins_first {
                    self.join(batch);
                }
                self.leave_out(batch, left_out)?;
                if !self.joins_first {
                    self.join(batch);
                }
            }
        }
        Ok(())
    }

    /// Names that were forgotten since the last call.
    pub fn names_forgotten(&mut self) -> u64 {
        let all = self.enricher.names_forgotten();
        all - std::mem::replace(&mut self.names_forgotten, all)
    }

    fn join(&mut self, batch: &mut Arc<Batch>) {
        // The writer alone has it.
        if let Some(batch) = Arc::get_mut(batch).filter(|batch| batch.rows() > 0) {
            self.enricher.join(batch);
        }
    }

    fn leave_out(&self, batch: &mut Arc<Batch>, mut left_out: impl FnMut(IpAddr, LeftOut)) -> io::Result<()> {
        let Some(filter) = &self.filter else { return Ok(()) };
        let selected = filter.select(batch).map_err(io::Error::other)?;
        if selected.is_all() {
            return Ok(());
        }
        let mut sum: Option<(IpAddr, LeftOut)> = None;
        for run in batch.runs() {
            let (exporter, (rows, unknown)) = (run.meta.exporter.ip(), selected.left_out(run));
            match &mut sum {
                Some((known, sum)) if *known == exporter => {
                    (sum.rows, sum.unknown) = (sum.rows + rows, sum.unknown + unknown);
                }
                _ => {
                    if let Some((exporter, sum)) = sum.replace((exporter, LeftOut { rows, unknown })) {
                        left_out(exporter, sum);
                    }
                }
            }
        }
        if let Some((exporter, sum)) = sum {
            left_out(exporter, sum);
        }
        if let Some(batch) = Arc::get_mut(batch) {
            batch.retain(&selected.holds);
        }
        Ok(())
    }
}

/// What files say now, for whoever looks.
#[derive(Debug, Default)]
pub(super) struct Live {
    // Count the changes.
    tables_version: AtomicU64,
    rules_version: AtomicU64,
    tables: Mutex<Tables>,
    rules: Mutex<Rules>,
}

impl Live {
    fn set(&self, tables: &Tables) {
        *lock(&self.tables) = tables.clone();
        self.tables_version.fetch_add(1, Relaxed);
        let rules = tables.exporters.rules();
        let mut known = lock(&self.rules);
        if *known != rules {
            *known = rules;
            drop(known);
            self.rules_version.fetch_add(1, Relaxed);
        }
    }

    fn newer_tables(&self, seen: &mut u64) -> Option<Tables> {
        let version = self.tables_version.load(Relaxed);
        (std::mem::replace(seen, version) != version).then(|| lock(&self.tables).clone())
    }
}

/// A receiving thread's look at the rules.
pub(super) struct LiveRules {
    live: Arc<Live>,
    seen: u64,
}

impl LiveRules {
    pub fn of(live: &Arc<Live>) -> Self {
        Self { live: live.clone(), seen: 0 }
    }

    /// Gives the rules to a decoder where they changed; who writes them just now is not waited for.
    pub fn refresh(&mut self, decoder: &mut Decoder) {
        let version = self.live.rules_version.load(Relaxed);
        if self.seen != version
            && let Ok(rules) = self.live.rules.try_lock()
        {
            self.seen = version;
            decoder.set_rules(rules.clone());
        }
    }
}

/// The thread that looks at files.
pub(super) struct Looking {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Looking {
    pub fn start(mut files: Files, live: Arc<Live>, say: impl Fn(&str) + Send + 'static) -> io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        *lock(&live.rules) = files.tables().exporters.rules();
        let run = move || {
            net::be_nice(TELLING);
            let mut looked = Instant::now();
            while !stopped.load(Relaxed) {
                std::thread::sleep(Duration::from_millis(50));
                if looked.elapsed() < LOOK {
                    continue;
                }
                looked = Instant::now();
                let changes = files.refresh();
                if changes.iter().any(|change| matches!(change, Change::Read(_))) {
                    live.set(files.tables());
                }
                for change in changes {
                    match change {
                        Change::Read(path) => say(&format!("{} was read again", path.display())),
                        Change::Kept(error) => say(&format!("{error}; what it said before counts on")),
                    }
                }
            }
        };
        Ok(Self { stop, thread: Builder::new().name("tables".into()).spawn(run)? })
    }

    /// What it reads just now is not waited for long: a file system may hang.
    pub fn end(self) {
        self.stop.store(true, Relaxed);
        let asked = Instant::now();
        while !self.thread.is_finished() && asked.elapsed() < LAST {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
