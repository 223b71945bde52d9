//! What a running collector says on standard error: a line a cause, exporter and minute, with a count.
//!
//! No receiving thread logs. What went wrong is read from the [`Ledger`] once a second, so that a flood of bad datagrams
//! costs a number; a thread of its own writes the lines, behind a bounded channel. Where that is full a cause waits for
//! its next turn with its count, and other lines are dropped and counted.

use super::ledger::{Account, Ledger, Refusal};
use super::now;
use super::outage::{Outage, Word};
use super::shared::TELLING;
use super::watch::Watch;
use crate::columns::Timestamp;
use crate::error::ErrorKind;
use crate::net::{self, Local};
use crate::sink::text;
use crossbeam_channel::{Receiver as Inbox, RecvTimeoutError, Sender, bounded};
use serde_json::{Map, Value, json};
use std::collections::{HashMap, HashSet};
use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

/// Lines that may wait to be written.
const WAITING: usize = 1024;
/// How often the ledger is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// How long a cause of an exporter is not said again.
const QUIET_US: i64 = 60_000_000;
/// How long the last lines may take where nobody reads them.
const LAST: Duration = Duration::from_secs(2);

/// What lines look like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// `2026-01-01T00:00:00.000000Z flowlane: 192.0.2.1: template not known (12)`.
    #[default]
    Text,
    /// An object a line: `time`, `level`, `message` or `cause` with `exporter` or `socket` and `count`.
    Json,
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// All is well.
    Info,
    /// Something was lost, or may be.
    Warn,
}

#[derive(Debug)]
enum Entry {
    Message {
        at: Timestamp,
        level: Level,
        text: String,
        more: Map<String, Value>,
    },
    Cause {
        at: Timestamp,
        of: Of,
        cause: &'static str,
        count: u64,
        last: Option<SocketAddr>,
        /// Why the last one was.
        why: Option<String>,
    },
    /// As it is.
    Text(String),
    End(Sender<()>),
}

/// Whom a cause is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Of {
    Exporter(IpAddr),
    /// Exporters that are not known any more, or never were.
    Others,
    /// And the thread that has it.
    Socket(Local, usize),
    /// Another collector that gets copies.
    Mirror(SocketAddr),
    Collector,
}

/// A way to say something without waiting. Its copies go to the same place.
#[derive(Clone, Debug)]
pub struct Log {
    entries: Sender<Entry>,
    dropped: Arc<AtomicU64>,
}

impl Log {
    /// Starts the thread that writes lines to `out`.
    ///
    /// # Errors
    /// A system without room for threads.
    pub fn start(format: LogFormat, out: Box<dyn Write + Send>) -> io::Result<Self> {
        let (entries, inbox) = bounded(WAITING);
        let dropped = Arc::new(AtomicU64::new(0));
        let counter = dropped.clone();
        Builder::new().name("log".into()).spawn(move || {
            net::be_nice(TELLING);
            write(format, out, &inbox, &counter);
        })?;
        Ok(Self { entries, dropped })
    }

    /// Says a sentence.
    pub fn say(&self, level: Level, text: impl Into<String>) {
        self.say_with(level, text, Map::new());
    }

    /// The same with more fields, which only JSON shows.
    pub fn say_with(&self, level: Level, text: impl Into<String>, more: Map<String, Value>) {
        let entry = Entry::Message { at: now(), level, text: text.into(), more };
        if self.entries.try_send(entry).is_err() {
            self.dropped.fetch_add(1, Relaxed);
        }
    }

    /// Writes a text as it is, whatever lines look like. Where there is no room it is waited for so long, and dropped then.
    pub fn print(&self, text: impl Into<String>, patience: Duration) {
        if self.entries.send_timeout(Entry::Text(text.into()), patience).is_err() {
            self.dropped.fetch_add(1, Relaxed);
        }
    }

    /// Lines that were dropped because nobody read as fast.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Relaxed)
    }

    /// Waits until everything said so far is written, two seconds at most.
    pub fn flush(&self) {
        let (done, written) = bounded(1);
        let end = Instant::now() + LAST;
        if self.entries.send_deadline(Entry::End(done), end).is_ok() {
            let _ = written.recv_deadline(end);
        }
    }
}

fn write(format: LogFormat, mut out: Box<dyn Write + Send>, inbox: &Inbox<Entry>, dropped: &AtomicU64) {
    let mut told = 0;
    while let Ok(entry) = inbox.recv() {
        if let Entry::End(done) = entry {
            let _ = out.flush();
            let _ = done.try_send(());
            continue;
        }
        let mut lines = line(format, &entry);
        let gone = dropped.load(Relaxed);
        if gone > told {
            let text = format!("{} lines were dropped: nobody read them as fast", gone - told);
            lines += &line(format, &Entry::Message { at: now(), level: Level::Warn, text, more: Map::new() });
            told = gone;
        }
        // A reader that is gone is no reason to stop.
        let _ = out.write_all(lines.as_bytes());
    }
}

fn line(format: LogFormat, entry: &Entry) -> String {
    let time = |at: &Timestamp| {
        let mut time = Vec::new();
        text::time(&mut time, at.0);
        String::from_utf8_lossy(&time).into_owned()
    };
    match (format, entry) {
        (_, Entry::End(_)) => String::new(),
        (_, Entry::Text(text)) => text.clone(),
        (LogFormat::Text, Entry::Message { at, text, .. }) => format!("{} flowlane: {text}\n", time(at)),
        (LogFormat::Text, Entry::Cause { at, of, cause, count, last, why }) => {
            let of = match of {
                Of::Exporter(address) => format!("{address}: "),
                Of::Others => "other exporters: ".into(),
                Of::Socket(address, thread) => format!("socket {address} of thread {thread}: "),
                Of::Mirror(address) => format!("mirror {address}: "),
                Of::Collector => String::new(),
            };
            let why = why.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
            let last = last.map(|peer| format!(", the last from {peer}")).unwrap_or_default();
            format!("{} flowlane: {of}{cause}{why} ({count}{last})\n", time(at))
        }
        (LogFormat::Json, Entry::Message { at, level, text, more }) => {
            let level = if *level == Level::Info { "info" } else { "warn" };
            let mut all = json!({ "time": time(at), "level": level, "message": text });
            if let Some(all) = all.as_object_mut() {
                all.extend(more.clone());
            }
            format!("{all}\n")
        }
        (LogFormat::Json, Entry::Cause { at, of, cause, count, last, why }) => {
            let mut all = json!({ "time": time(at), "level": "warn", "cause": cause, "count": count });
            if let Some(peer) = last {
                all["last_peer"] = json!(peer.to_string());
            }
            if let Some(why) = why {
                all["why"] = json!(why);
            }
            match of {
                Of::Exporter(address) => all["exporter"] = json!(address.to_string()),
                Of::Others => all["exporter"] = json!("other"),
                Of::Socket(address, thread) => {
                    all["socket"] = json!(address.to_string());
                    all["thread"] = json!(thread);
                }
                Of::Mirror(address) => all["mirror"] = json!(address.to_string()),
                Of::Collector => {}
            }
            format!("{all}\n")
        }
    }
}

/// What is said where datagrams are refused because there are too many exporters.
const BEYOND_LIMIT: &str = "limit of exporters: --max-exporters raises it, --allow names who may send";

/// The causes of an account, and how often each was.
fn causes(account: &Account) -> impl Iterator<Item = (&'static str, u64)> {
    let s = &account.stats;
    let name = |kind: &ErrorKind| if *kind == ErrorKind::ExporterLimit { BEYOND_LIMIT } else { kind.name() };
    let errors = ErrorKind::ALL.iter().map(name).zip(s.errors);
    errors
        .chain([
            ("missing by sequence numbers", s.lost),
            ("messages out of order", s.reordered),
            ("messages sent twice", s.duplicates),
            ("sequences that started anew", s.resets),
            ("sets without room to wait for their template (--hold-bytes, --hold-sets)", s.sets_without_room),
            ("sets held too long for their template", s.held_expired),
            ("held sets dropped with their template", s.held_dropped),
            ("rows dropped", account.rows_dropped),
            ("datagrams refused: the sender is not allowed", account.refused),
        ])
        .chain(Refusal::ALL.map(|refusal| (refusal.cause(), account.connections.of(refusal))))
}

/// What was said of each cause: up to which count, and when.
#[derive(Debug, Default)]
struct Causes {
    said: HashMap<(Of, &'static str), (u64, i64), foldhash::fast::RandomState>,
    swept: i64,
}

/// A look at the ledger, and who is told of it.
struct Look<F> {
    at: Timestamp,
    // Whether all is to be said.
    last: bool,
    say: F,
}

impl Causes {
    /// Says what is new, and was not said within the last minute, or in any case at the `last` look.
    fn look(&mut self, ledger: &Ledger, at: Timestamp, last: bool, say: impl FnMut(Entry) -> bool) {
        let mut look = Look { at, last, say };
        let exporters = ledger.exporters.iter().map(|e| (Of::Exporter(e.address), &e.account));
        for (of, account) in exporters.chain([(Of::Others, &ledger.other)]) {
            for (cause, count) in causes(account) {
                // Those who are no exporters have no line of their own.
                let refusal = Refusal::ALL.into_iter().find(|refusal| of == Of::Others && refusal.cause() == cause);
                self.cause(&mut look, of.clone(), cause, count, || {
                    let peer = match cause {
                        BEYOND_LIMIT => ledger.last_beyond_limit.map(|last| last.1),
                        _ => refusal.and_then(|refusal| ledger.last_refused.of(refusal)),
                    };
                    let broke = ledger.last_broken.as_ref().filter(|_| refusal == Some(Refusal::Failed));
                    (peer, broke.map(|last| last.1.clone()))
                });
            }
        }
        for mirror in &ledger.mirrors {
            let (of, cause) = (Of::Mirror(mirror.target), "datagrams that were not repeated");
            let why = || (None, mirror.why.map(|why| why.to_string()));
            self.cause(&mut look, of, cause, mirror.unsent, why);
        }
        let nothing = || (None, None);
        for socket in &ledger.sockets {
            let of = Of::Socket(socket.local.clone(), socket.thread);
            let cause = "dropped by the kernel: the receive buffer is full";
            self.cause(&mut look, of, cause, socket.kernel_drops, nothing);
        }
        for (cause, count) in [
            ("datagrams longer than the buffer", ledger.datagrams_truncated),
            ("errors reported to a socket", ledger.socket_errors),
            ("options records dropped", ledger.options.dropped),
        ] {
            self.cause(&mut look, Of::Collector, cause, count, nothing);
        }
        if let Some(keeping) = &ledger.keeping {
            for (cause, count) in [
                ("sealing, compacting or retention failed, and is tried again", keeping.failures),
                ("files that should go could not be removed", keeping.files_stuck),
            ] {
                self.cause(&mut look, Of::Collector, cause, count, || (None, keeping.last_failure.clone()));
            }
        }
        if at.0.saturating_sub(self.swept) > QUIET_US {
            self.swept = at.0;
            let known: HashSet<IpAddr> = ledger.exporters.iter().map(|e| e.address).collect();
            self.said.retain(|key, _| !matches!(&key.0, Of::Exporter(gone) if !known.contains(gone)));
        }
    }

    /// Says a cause, if that is due; `last` gives who was the last, and why.
    fn cause<F: FnMut(Entry) -> bool>(
        &mut self,
        look: &mut Look<F>,
        of: Of,
        cause: &'static str,
        count: u64,
        last: impl FnOnce() -> (Option<SocketAddr>, Option<String>),
    ) {
        let key = (of, cause);
        let (told, is_due) = match self.said.get_mut(&key) {
            Some(known) => {
                // Units that came late after all, and an exporter that was forgotten.
                known.0 = known.0.min(count);
                (known.0, look.last || look.at.0.saturating_sub(known.1) >= QUIET_US)
            }
            None => (0, true),
        };
        if is_due && count > told {
            let (last, why) = last();
            let of = key.0.clone();
            if (look.say)(Entry::Cause { at: look.at, of, cause, count: count - told, last, why }) {
                self.said.insert(key, (count, look.at.0));
            }
        }
    }
}

/// The thread that looks at the ledger.
pub(super) struct Watching {
    // Dropped to end it.
    go_on: Sender<()>,
    thread: JoinHandle<()>,
}

impl Watching {
    pub fn start(watch: Watch, log: Log) -> io::Result<Self> {
        let (go_on, end) = bounded::<()>(0);
        let thread = Builder::new().name("causes".into()).spawn(move || {
            net::be_nice(TELLING);
            let (mut causes, mut outage) = (Causes::default(), Outage::default());
            let mut next = Instant::now() + LOOK;
            loop {
                let last = end.recv_deadline(next) == Err(RecvTimeoutError::Disconnected);
                let mut full = false;
                watch.look(|ledger| {
                    causes.look(ledger, now(), last, |entry| {
                        full = full || log.entries.try_send(entry).is_err();
                        !full
                    });
                });
                match watch.stuck() {
                    Some(text) => outage.begin(&text),
                    None => {
                        outage.end();
                    }
                }
                match outage.word(Instant::now(), last) {
                    Some(Word::Begins(text)) => log.say(Level::Warn, text),
                    Some(Word::Ends) => log.say(Level::Warn, "the writer takes rows again"),
                    Some(Word::Passed(text)) => log.say(Level::Warn, format!("{text}; it takes rows again")),
                    None => {}
                }
                if last {
                    return;
                }
                next = Instant::now() + LOOK;
            }
        })?;
        Ok(Self { go_on, thread })
    }

    /// Says what was not said yet.
    pub fn end(self) {
        drop(self.go_on);
        let _ = self.thread.join();
    }
}

#[cfg(test)]
mod tests;
