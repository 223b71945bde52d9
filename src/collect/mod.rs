//! The collector: threads that receive and decode, and one that writes.
//!
//! ```text
//! core 0: Receiver -> Decoder -> batches \                        / Output
//! core 1: Receiver -> Decoder -> batches --> queue with a bound of bytes --> writer
//!                        ^---------- batches to be reused ----------/
//! ```
//!
//! A receiving thread never waits for the writer: where the queue is full, the batch is dropped and its rows are
//! counted. (Those that take [`connections`](ConnectionOptions) do, so that their exporters wait, too.) On [`Running::stop`]
//! what the sockets still hold is decoded and everything is written.

mod board;
mod connections;
mod gate;
mod gathering;
mod history;
#[cfg(feature = "http")]
pub mod http;
mod journal;
mod ledger;
pub mod log;
#[cfg(feature = "http")]
mod metrics;
mod outage;
mod output;
mod prepare;
mod queue;
mod shared;
mod summary;
mod watch;
mod worker;
mod writer;

pub use board::{ConnectionLine, PlanLine, TemplateLine};
pub use connections::ConnectionOptions;
#[cfg(feature = "tls")]
pub use connections::{Tls, TlsError, TlsFiles};
pub use history::{History, stretch};
pub use ledger::{
    Account, ConnectionCounts, ExporterAccount, KeepingAccount, Ledger, OptionsAccount, SocketAccount, StateAccount,
};
pub use output::{Item, Lost, MessageLines, Output, Sink};
pub use prepare::Preparation;
pub use summary::{ExporterSummary, Summary};
pub use watch::Watch;

use crate::columns::Timestamp;
use crate::decode::{self, Learned};
use crate::net::{self, Group, Listeners, OpenError, Receiver, Warning};
use board::{Board, lock};
use connections::{Listener, Taker};
use crossbeam_channel::bounded;
use gate::{Gate, Rules};
use ipnet::IpNet;
use journal::Journal;
use log::{Log, Watching};
use prepare::{Live, LiveRules, Looking, Prepare};
use queue::queue;
use shared::{KEEPING, Orders, Shared};
use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed, Ordering::Release};
use std::thread::{Builder, JoinHandle};
use std::time::{Instant, SystemTime};
use writer::write;

/// How a collector is set up.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to listen for datagrams.
    pub listen: Vec<SocketAddr>,
    /// Sockets that are bound already, in place of those with the same address in the lists.
    pub inherited: Inherited,
    /// Where to listen for connections, and how.
    pub connections: ConnectionOptions,
    /// The same, of datagrams that come by an interface of this name.
    pub listen_on: Vec<(SocketAddr, String)>,
    /// The sockets.
    pub sockets: net::Options,
    /// Receiving threads; one a core where it is 0.
    pub threads: usize,
    /// Who may send, and how much.
    pub admission: Admission,
    /// The decoders.
    pub decoder: decode::Config,
    /// Bytes of batches that may wait for the writer.
    pub queue: usize,
    /// Where to say what goes wrong, a line a cause, exporter and minute; `None` says only what stops the writing.
    pub log: Option<Log>,
    /// Lines made from messages in place of batches.
    pub messages: Option<MessageLines>,
    /// A folder of this collector's own for templates, options data and sets that wait: with it a restart goes on where
    /// the last one ended.
    pub state: Option<PathBuf>,
    /// Who gets a copy of every datagram.
    pub mirror: net::MirrorOptions,
    /// What is done to rows before they are written.
    pub preparation: Preparation,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: vec![net::any(2055)],
            connections: ConnectionOptions::default(),
            listen_on: Vec::new(),
            inherited: Inherited::default(),
            sockets: net::Options {
                steer: net::Steer { keys: DOMAINS.to_vec(), ..net::Steer::default() },
                ..net::Options::default()
            },
            threads: 0,
            admission: Admission::default(),
            decoder: decode::Config::default(),
            queue: 256 << 20,
            log: None,
            messages: None,
            state: None,
            mirror: net::MirrorOptions::default(),
            preparation: Preparation::default(),
        }
    }
}

/// Sockets that another process bound: a service manager's, so that a collector needs no rights for its ports, and loses
/// nothing while it restarts. Where one takes datagrams, one thread receives them all.
#[derive(Clone, Debug, Default)]
pub struct Inherited {
    /// Those for datagrams.
    pub udp: Vec<Arc<UdpSocket>>,
    /// Those that listen for connections.
    pub tcp: Vec<Arc<TcpListener>>,
}

impl Inherited {
    fn udp_at(&self, address: SocketAddr) -> Option<&UdpSocket> {
        self.udp.iter().map(AsRef::as_ref).find(|s| s.local_addr().is_ok_and(|local| is_same(local, address)))
    }

    fn tcp_at(&self, address: SocketAddr) -> Option<&TcpListener> {
        self.tcp.iter().map(AsRef::as_ref).find(|s| s.local_addr().is_ok_and(|local| is_same(local, address)))
    }

    /// The addresses of sockets that are none of those.
    pub fn beside(&self, udp: &[SocketAddr], tcp: &[SocketAddr]) -> Vec<SocketAddr> {
        let udp_given = self.udp.iter().filter_map(|s| s.local_addr().ok()).map(|local| (local, udp));
        let tcp_given = self.tcp.iter().filter_map(|s| s.local_addr().ok()).map(|local| (local, tcp));
        let unasked = |(local, asked): &(SocketAddr, &[SocketAddr])| !asked.iter().any(|a| is_same(*local, *a));
        udp_given.chain(tcp_given).filter(unasked).map(|given| given.0).collect()
    }
}

/// Whether a socket's address is the one that is asked for; all addresses are the same in either family.
fn is_same(local: SocketAddr, asked: SocketAddr) -> bool {
    let (a, b) = (local.ip().to_canonical(), asked.ip().to_canonical());
    local.port() == asked.port() && (a == b || a.is_unspecified() && b.is_unspecified())
}

/// Where messages say which domain they are of: what an exporter may be spread by, as its templates are each domain's own.
const DOMAINS: [net::PayloadKey; 3] = [
    net::PayloadKey { tag: 9, offset: 16, is_wide: true },
    net::PayloadKey { tag: 10, offset: 12, is_wide: true },
    net::PayloadKey { tag: 5, offset: 20, is_wide: false },
];

/// Who may send, and how much.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Admission {
    /// Who may; all others are refused and counted. Empty: everybody.
    pub allow: Vec<IpNet>,
    /// Datagrams a second of one exporter, and a second's worth of them at once; of what is more only templates are read,
    /// and it is counted as limited. Connections are read more slowly in place of that. An exporter's datagrams have one such
    /// rate and its connections another, however many threads they come by.
    pub rate: Option<u32>,
}

/// Descriptors that a collector needs beside those of its connections: files, sockets, pipes.
const DESCRIPTORS: u64 = 512;
/// The same where the system gives no more: what is not open yet, and what each thread opens.
const RESERVE: u64 = 128;
const RESERVE_EACH: u64 = 4;
/// Batches that may wait to be used again, a thread.
const RETURNS: usize = 256;
/// Messages that may wait to be written to the journal.
const LESSONS: usize = 4096;

/// What a running collector has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Datagrams received.
    pub datagrams: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Flow records decoded.
    pub records: u64,
    /// Rows written.
    pub written_rows: u64,
    /// Rows that the filter left out.
    pub filtered_rows: u64,
    /// Rows dropped because the writer was too slow.
    pub dropped_rows: u64,
    /// Messages that the kernel dropped, at least.
    pub kernel_drops: u64,
    /// Units that sequence numbers miss.
    pub lost: u64,
    /// Exporters seen.
    pub exporters: u64,
}

/// Open sockets, before the first datagram.
pub struct Collector {
    config: Config,
    receivers: Vec<Receiver>,
    addresses: Vec<SocketAddr>,
    /// One a thread, each with a listener of every address.
    listeners: Vec<Vec<Listener>>,
    connection_addresses: Vec<(SocketAddr, &'static str)>,
    warnings: Vec<Warning>,
    // Whether fewer connections are taken than was asked for.
    lacks_descriptors: bool,
    journal: Option<(Journal, Vec<Learned>)>,
    damage: Option<String>,
    /// One a receiver, where there is something to mirror to.
    mirrors: Vec<net::Mirror>,
}

impl Collector {
    /// Opens the sockets.
    ///
    /// # Errors
    /// [`OpenError`], whose text says what to do.
    pub fn open(config: Config) -> Result<Self, OpenError> {
        let mut threads = if config.threads == 0 { net::cores().len() } else { config.threads };
        if !config.inherited.udp.is_empty() {
            // All groups have one size, and a socket that was handed over is alone.
            threads = 1;
        }
        let (mut groups, mut warnings) = (Vec::new(), Vec::new());
        let plain = config.listen.iter().map(|address| (address, None));
        let by_interface = config.listen_on.iter().map(|(address, name)| (address, Some(name)));
        for (address, interface) in plain.chain(by_interface) {
            let options = net::Options { interface: interface.cloned(), ..config.sockets.clone() };
            let group = match config.inherited.udp_at(*address) {
                Some(socket) => Group::adopt(socket, &config.sockets)?,
                None => Group::open(*address, threads, &options)
                    .map_err(|error| error.beside(groups.iter().map(Group::local_addr)))?,
            };
            for warning in group.warnings() {
                if !warnings.contains(warning) {
                    warnings.push(*warning);
                }
            }
            groups.push(group);
        }
        let addresses: Vec<SocketAddr> = groups.iter().map(Group::local_addr).collect();
        let receivers = net::receivers(groups);
        let mut mirrors = Vec::new();
        if !config.mirror.targets.is_empty() {
            for _ in &receivers {
                mirrors.push(net::Mirror::open(&config.mirror, &addresses)?);
            }
        }
        let mut collector = Self {
            config,
            receivers,
            addresses,
            listeners: Vec::new(),
            connection_addresses: Vec::new(),
            warnings,
            lacks_descriptors: false,
            journal: None,
            damage: None,
            mirrors,
        };
        collector.listen(threads)?;
        Ok(collector)
    }

    /// Opens the sockets that take connections, as many as there are threads for each address.
    fn listen(&mut self, threads: usize) -> Result<(), OpenError> {
        let (options, inherited) = (&self.config.connections, &self.config.inherited);
        let plain = options.tcp.iter().map(|&address| (address, "TCP"));
        #[cfg(feature = "tls")]
        let with_tls = options.tls.iter().flat_map(|tls| &tls.0).map(|&address| (address, "TLS"));
        #[cfg(not(feature = "tls"))]
        let with_tls = std::iter::empty();
        let all: Vec<(SocketAddr, &'static str)> = plain.chain(with_tls).collect();
        if all.is_empty() {
            return Ok(());
        }
        self.listeners.resize_with(threads, Vec::new);
        for (address, transport) in all {
            let opened = match inherited.tcp_at(address) {
                Some(socket) => Listeners::adopt(socket, threads)?,
                None => Listeners::open(address, threads)
                    .map_err(|error| error.beside(self.connection_addresses.iter().map(|a| a.0)))?,
            };
            if let Some(warning) = opened.warning().filter(|warning| !self.warnings.contains(warning)) {
                self.warnings.push(warning);
            }
            self.connection_addresses.push((opened.local_addr(), transport));
            for (own, socket) in self.listeners.iter_mut().zip(opened.into_sockets()) {
                own.push(Listener {
                    socket,
                    #[cfg(feature = "tls")]
                    tls: options.tls.as_ref().filter(|_| transport == "TLS").map(|tls| tls.1.clone()),
                });
            }
        }
        let reserve = net::open_descriptors() + RESERVE + RESERVE_EACH * threads as u64;
        let wanted = options.most as u64 + reserve.max(DESCRIPTORS);
        let given = net::allow_descriptors(wanted);
        // A peer that connects as often as it can must not take what the datagrams' files need.
        let connections = given.saturating_sub(reserve);
        if connections < options.most as u64 {
            self.warnings.push(Warning::Descriptors { wanted, given, connections });
            self.config.connections.most = connections as usize;
            self.lacks_descriptors = true;
        }
        Ok(())
    }

    /// Reads what a collector before learned, where there is a folder for it; how many entries.
    ///
    /// # Errors
    /// Those of the file system. A damaged file is none: [`damage`](Self::damage) tells of it, and it is put aside.
    pub fn load_state(&mut self) -> io::Result<usize> {
        let Some(folder) = &self.config.state else { return Ok(0) };
        let (journal, found) = Journal::open(folder, self.config.decoder.held.age_us)?;
        let n = found.learned.len();
        (self.journal, self.damage) = (Some((journal, found.learned)), found.damage);
        Ok(n)
    }

    /// What is wrong with the state that was read: what stands before it was used.
    pub fn damage(&self) -> Option<&str> {
        self.damage.as_deref()
    }

    /// The addresses it listens on.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Those on which it takes connections, and whether they speak `TCP` alone or `TLS`.
    pub fn connection_addresses(&self) -> &[(SocketAddr, &'static str)] {
        &self.connection_addresses
    }

    /// What the kernel did not give.
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    /// Receiving threads.
    pub fn threads(&self) -> usize {
        self.receivers.len().max(self.listeners.len())
    }

    /// Starts the threads.
    ///
    /// # Errors
    /// A system without room for threads.
    pub fn start(self, sink: Box<dyn Sink>) -> io::Result<Running> {
        let (shared, board) =
            (Arc::new(Shared { log: self.config.log.clone(), ..Shared::default() }), Arc::new(Board::default()));
        let spread = self.config.sockets.steer.spread.iter().map(|spread| spread.source);
        let rules = Rules::new(self.config.admission.clone(), spread);
        *lock(&shared.rules) = rules.clone();
        let has_sink = !sink.is_nothing();
        let (items, inbox) = queue(self.config.queue);
        let cores = net::cores();
        let (mut returns, mut workers) = (Vec::new(), Vec::new());
        let threads = self.receivers.len();
        let (journal, learned) = self.journal.map_or((None, Vec::new()), |(journal, learned)| (Some(journal), learned));
        // Each exporter's datagrams meet one thread, and so does what was learned of it.
        let mut shares: Vec<Vec<Learned>> = vec![Vec::new(); threads];
        for one in learned {
            if let Some(share) = shares.get_mut(self.config.sockets.steer.owner(one.exporter, &one.message, threads)) {
                share.push(one);
            }
        }
        let (lessons, journal_inbox) = bounded(LESSONS);
        let lessons = journal.is_some().then_some(lessons);
        let mut decoders = Vec::with_capacity(threads);
        let (preparation, mut decoder_config) = (self.config.preparation, self.config.decoder);
        if !preparation.files.is_empty() {
            decoder_config.rules = preparation.files.tables().exporters.rules();
        }
        let mut lines = Vec::new();
        for share in shares {
            lines.push(self.config.messages.map(|messages| messages.session(&decoder_config, &share)));
            let mut decoder = decode::Decoder::new(decoder_config.clone());
            if lessons.is_some() {
                decoder.learn();
                decoder.restore(share);
            }
            decoders.push(decoder);
        }
        let live = Arc::new(Live::default());
        let prepare = Prepare::new(&preparation, live.clone(), &decoders);
        let mut mirrors = self.mirrors.into_iter();
        for (index, ((receiver, decoder), lines)) in self.receivers.into_iter().zip(decoders).zip(lines).enumerate() {
            let (back, spare) = bounded(RETURNS);
            returns.push(back);
            let worker = worker::Worker {
                index,
                core: cores.get(index % cores.len()).copied(),
                receiver,
                mirror: mirrors.next(),
                decoder,
                lessons: lessons.clone(),
                lines,
                items: (!sink.is_nothing()).then(|| items.clone()),
                spare,
                shared: shared.clone(),
                reporter: board.reporter(),
                rules: LiveRules::of(&live),
                gate: Gate::new(rules.clone()),
            };
            workers.push(Builder::new().name(format!("receive-{index}")).spawn(move || worker.run())?);
        }
        let open = Arc::new(AtomicUsize::new(0));
        for (place, listeners) in self.listeners.into_iter().enumerate() {
            let (back, spare) = bounded(RETURNS);
            returns.push(back);
            let taker = Taker {
                index: threads + place,
                core: cores.get(place % cores.len()).copied(),
                listeners,
                options: self.config.connections.clone(),
                open: open.clone(),
                lacks_descriptors: self.lacks_descriptors,
                decoder: decode::Decoder::new(decoder_config.clone()),
                rules: LiveRules::of(&live),
                items: (!sink.is_nothing()).then(|| items.clone()),
                spare,
                shared: shared.clone(),
                reporter: board.reporter(),
                gate: Gate::new(rules.clone()),
            };
            workers.push(Builder::new().name(format!("connect-{place}")).spawn(move || taker.run())?);
        }
        drop((items, lessons));
        let journal = match journal {
            Some(journal) => {
                let state = shared.clone();
                let run = move || {
                    net::be_nice(KEEPING);
                    journal.run(&journal_inbox, &state.journal, |line| state.say(line))
                };
                Some(Builder::new().name("state".into()).spawn(run)?)
            }
            None => None,
        };
        let watch = Watch { board: board.clone(), shared: shared.clone(), has_sink, keeping: sink.keeping() };
        let state = shared.clone();
        let writer = if sink.is_nothing() {
            None
        } else {
            Some(
                Builder::new()
                    .name("write".into())
                    .spawn(move || write(sink, prepare, &inbox, &returns, &state, &board))?,
            )
        };
        let looking = match preparation.files {
            files if files.is_empty() => None,
            files => {
                let state = shared.clone();
                Some(Looking::start(files, live, move |line| state.say(line))?)
            }
        };
        let watching = match self.config.log {
            Some(log) => Some(Watching::start(watch.clone(), log)?),
            None => None,
        };
        Ok(Running { shared, watch, watching, looking, workers, writer, journal, began: Instant::now() })
    }
}

/// A collector at work.
pub struct Running {
    shared: Arc<Shared>,
    watch: Watch,
    watching: Option<Watching>,
    looking: Option<Looking>,
    workers: Vec<JoinHandle<worker::Ended>>,
    writer: Option<JoinHandle<io::Result<()>>>,
    journal: Option<JoinHandle<u64>>,
    began: Instant,
}

impl Running {
    /// What was done so far.
    pub fn status(&self) -> Status {
        let s = &self.shared;
        Status {
            datagrams: s.datagrams.load(Relaxed),
            bytes: s.bytes.load(Relaxed),
            records: s.records.load(Relaxed),
            written_rows: s.written_rows.load(Relaxed),
            filtered_rows: s.filtered_rows.load(Relaxed),
            dropped_rows: s.dropped_rows.load(Relaxed),
            kernel_drops: s.kernel_drops.load(Relaxed),
            lost: s.lost.load(Relaxed),
            exporters: s.exporters.load(Relaxed),
        }
    }

    /// A handle that asks for the ledger, for other threads.
    pub fn watch(&self) -> Watch {
        self.watch.clone()
    }

    /// Other rules of who may send and how much, within a tick of each thread.
    pub fn admit(&self, admission: Admission) {
        let mut rules = lock(&self.shared.rules);
        *rules = rules.change(admission);
        drop(rules);
        self.shared.orders.fetch_add(1, Release);
    }

    /// Whether a thread gave up: [`join`](Self::join) tells why.
    pub fn has_failed(&self) -> bool {
        self.shared.failed.load(Relaxed)
    }

    /// Asks all threads to finish what they have.
    pub fn stop(&self) {
        self.shared.stop.store(true, Relaxed);
    }

    /// Stops, waits until everything is written, and sums up.
    pub fn join(self) -> (Summary, io::Result<()>) {
        self.stop();
        let mut summary = Summary::default();
        let mut result = Ok(());
        for worker in self.workers {
            match worker.join() {
                Ok(ended) => {
                    if let Some(error) = ended.error.as_ref().filter(|_| result.is_ok()) {
                        result = Err(io::Error::new(error.kind(), format!("receiving failed: {error}")));
                    }
                    summary.add(&ended);
                }
                Err(_) => result = Err(io::Error::other("a receiving thread panicked")),
            }
        }
        if let Some(Ok(lost)) = self.journal.map(JoinHandle::join) {
            summary.state_lost += lost;
        }
        match self.writer.map(JoinHandle::join) {
            None | Some(Ok(Ok(()))) => {}
            Some(Ok(Err(error))) => result = Err(error),
            Some(Err(_)) => result = Err(io::Error::other("the writing thread panicked")),
        }
        if let Some(looking) = self.looking {
            looking.end();
        }
        if let Some(watching) = self.watching {
            watching.end();
        }
        summary.seconds = self.began.elapsed().as_secs_f64();
        summary.rows_written = self.shared.written_rows.load(Relaxed);
        summary.rows_dropped = self.shared.dropped_rows.load(Relaxed);
        summary.rows_unwritten.clone_from(&lock(&self.shared.unwritten).0);
        let written = lock(&self.watch.board.written);
        summary.add_unwritten(written.rows.iter().map(|(&exporter, kept)| (exporter, kept.dropped)));
        drop(written);
        summary.rows_filtered = self.shared.filtered_rows.load(Relaxed);
        summary.rows_unknown = self.shared.unknown_rows.load(Relaxed);
        summary.options_passed_over = self.shared.options_passed_over.load(Relaxed);
        summary.exporters.sort_by(|a, b| b.stats.records.cmp(&a.stats.records).then(a.address.cmp(&b.address)));
        (summary, result)
    }
}

/// The clock.
fn now() -> Timestamp {
    Timestamp::from(SystemTime::now())
}

#[cfg(test)]
mod tests;
