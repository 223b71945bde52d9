//! `flowlane collect`.

use super::addresses::{Listen, address, http_address, listen_or_none, mirror, prefix, spread};
use super::names::NameArgs;
use super::output::{Out, Size, Span, cannot_write, standard};
use super::service::{self, Reloading};
use super::{checks, config, is_broken_pipe, kernel, on_terminal, telling, usage};
use anyhow::Context;
use clap::{CommandFactory, ValueEnum};
use flowlane::collect::http::Http;
use flowlane::collect::log::{Level, Log, LogFormat};
use flowlane::collect::{Admission, Collector, Config, History, MessageLines, Output, Preparation, Sink, Status, Tls};
use flowlane::columns::gather::Kernel;
use flowlane::elements::Registry;
use flowlane::keep::{self, Retention};
use flowlane::net::{self, Spread};
use flowlane::sink::{Format, Writer};
use ipnet::IpNet;
use nix::unistd::User;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Arguments of `flowlane collect`.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  flowlane collect                                  UDP 2055, Parquet files of 5 minutes in flows/
  flowlane collect --format ndjson --out -          one flow a line on standard output
  flowlane collect --listen 192.0.2.1:9995 --listen [::1]:2055
  flowlane collect --out flows.csv --format csv     one file; Ctrl-C ends it
  flowlane collect --out /data --keep 30d --keep-free 50G
                                                    Parquet in /data/date=YYYY-MM-DD/hour=HH/, a month of it
  flowlane collect --http 8080                      metrics and state on 127.0.0.1:8080; `flowlane status` shows them
  flowlane collect --mirror 192.0.2.7:2055 --mirror [2001:db8::7]:9995
                                                    each datagram to two more collectors
  flowlane collect --tcp 4739 --tls 4740 --tls-cert collector.pem --tls-key collector.key
                                                    IPFIX over TCP and TLS, beside UDP 2055
  flowlane collect --exporters exporters.toml --networks networks.csv --geo GeoLite2-ASN.mmdb --where 'not src_site lab'
                                                    with names, sites and AS; only some of the rows
  flowlane collect --format none                    count only: is anything lost?

Ctrl-C (or SIGTERM) writes what there is and prints a summary. SIGHUP reads the settings again: --allow, --exporter-rate and the
files of --tls-cert, --tls-key and --tls-client-ca count from then on, and a line says what needs a restart.
Fields that have no column stand under their elements' names: in NDJSON and CSV in the object extras, in Parquet and Arrow in columns
x_..., as `flowlane export` has them in every format.")]
pub struct Args {
    /// A file of these settings: `flowlane config` prints one
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>, // read before the other flags are
    /// Address and port to listen on for datagrams; a port alone is every address, 2055@eth0 what comes by one interface,
    /// `none` is nowhere. Repeatable
    #[arg(short, long, value_name = "ADDRESS:PORT", default_value = "2055", value_parser = listen_or_none)]
    pub(super) listen: Vec<Listen>,
    /// Address and port to listen on for IPFIX over TCP, a port alone is every address: 4739 is usual. Repeatable. An
    /// exporter that sends more than can be written is held up, and nothing is lost
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = |text: &str| address(text, 4739))]
    pub(super) tcp: Vec<SocketAddr>,
    /// The same over TLS: 4740 is usual. Repeatable. Needs --tls-cert and --tls-key
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = |text: &str| address(text, 4740))]
    pub(super) tls: Vec<SocketAddr>,
    /// The certificate that is shown over TLS, and those between it and its authority, in PEM
    #[arg(long, value_name = "FILE")]
    pub(super) tls_cert: Option<PathBuf>,
    /// Its private key, in PEM
    #[arg(long, value_name = "FILE")]
    pub(super) tls_key: Option<PathBuf>,
    /// Certificates of authorities, in PEM: an exporter has to show a certificate of one of them
    #[arg(long, value_name = "FILE")]
    pub(super) tls_client_ca: Option<PathBuf>,
    /// Connections at once, TCP and TLS together; further ones are closed and counted
    #[arg(long, value_name = "N", default_value_t = 4096, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    max_connections: u32,
    /// How long an exporter may take from connecting to its first message, and for each message that it began
    #[arg(long, value_name = "TIME", default_value = "30s")]
    connection_stall: Span,
    /// Close a connection on which no message came for so long [default: never; one whose exporter is gone is found out
    /// within minutes]
    #[arg(long, value_name = "TIME")]
    connection_idle: Option<Span>,
    /// Take datagrams only from this address or prefix, like 192.0.2.0/24; all others are refused and counted. Repeatable
    #[arg(long, value_name = "PREFIX", value_parser = prefix)]
    pub(super) allow: Vec<IpNet>,
    /// Deal out what this exporter sends to all threads, where it is too much for one: by its observation domains (v9: source
    /// ids, v5: engines), or with =port by its source ports, if each has domains and templates of its own. Repeatable, 16 at
    /// most
    #[arg(long, value_name = "ADDRESS[=BY]", value_parser = spread)]
    pub(super) spread: Vec<Spread>,
    /// Datagrams a second that one exporter may send, and a second's worth at once: of what is more only templates are read,
    /// and it is counted as limited. Its connections together may send as many messages, and are read more slowly instead
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000_000))]
    pub(super) exporter_rate: Option<u32>,
    /// What to write [default: what the extension of --out says, else parquet]
    #[arg(short, long, value_enum)]
    pub(super) format: Option<CollectFormat>,
    /// A folder, a file (a name with an extension), or - for standard output. A folder gets options/ beside the flows,
    /// for what exporters say about themselves, and ledger/, for what was received and lost, a line a minute. A file that
    /// is there and not empty is refused, but with --overwrite
    #[arg(short, long, value_name = "PATH", default_value = "flows")]
    pub(super) out: Out,
    /// Replace the file of --out where one is there, with what was received before
    #[arg(long)]
    overwrite: bool,
    /// In a folder: begin a new file every so often, by the time received
    #[arg(long, value_name = "TIME", default_value = "5m")]
    rotate: Span,
    /// The name of this collector in a folder of Parquet files, where several may write [default: the host's name]
    #[arg(long, value_name = "NAME", value_parser = keep::node)]
    node: Option<String>,
    /// Where templates, options data and sets that wait for a template outlive a restart; `none` for nowhere [default:
    /// .state/NODE in a folder of Parquet files, else nowhere]
    #[arg(long, value_name = "FOLDER")]
    state: Option<PathBuf>,
    /// Remove Parquet files of hours that ended longer ago: whole hours alone
    #[arg(long, value_name = "TIME")]
    pub(super) keep: Option<Span>,
    /// Remove this node's oldest Parquet files while they have more bytes: 500M, 200G, 2T. Others in the folder have bounds of
    /// their own
    #[arg(long, value_name = "SIZE")]
    pub(super) keep_bytes: Option<Size>,
    /// Remove the oldest Parquet files while the disk has fewer free bytes
    #[arg(long, value_name = "SIZE")]
    pub(super) keep_free: Option<Size>,
    /// Receiving threads, each pinned to a core [default: one a core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Receive buffer of each socket, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=1024))]
    receive_buffer: u32,
    /// Take the time received from the kernel, of each datagram, in place of the clock when a burst is read
    #[arg(long)]
    kernel_time: bool,
    /// Memory of rows that may wait for the writer, where a disk is slow; beyond, rows are dropped and counted
    #[arg(long, value_name = "SIZE", default_value = "256M")]
    queue: Size,
    /// Exporters at most, a thread: for a further one another is forgotten that is silent for ten minutes or of whom no row came
    /// since the start, some hundred a second at most; where there is none, its datagrams are refused and counted
    #[arg(long, value_name = "N", default_value_t = 16_384, value_parser = clap::value_parser!(u32).range(1..))]
    max_exporters: u32,
    /// Templates at most that an exporter may define, over all its ports, domains and connections
    #[arg(long, value_name = "N", default_value_t = 4096, value_parser = clap::value_parser!(u32).range(1..))]
    max_templates: u32,
    /// Bytes of sets that wait for their template at most, a thread
    #[arg(long, value_name = "SIZE", default_value = "32M")]
    hold_bytes: Size,
    /// Sets that wait for their template at most, a thread
    #[arg(long, value_name = "N", default_value_t = 16_384, value_parser = clap::value_parser!(u32).range(1..))]
    hold_sets: u32,
    /// How long a set waits for its template
    #[arg(long, value_name = "TIME", default_value = "1h")]
    hold: Span,
    /// Sampling rate of exporters that do not tell theirs
    #[arg(long, value_name = "RATE", value_parser = rate, allow_hyphen_values = true)]
    sampling_rate: Option<f64>,
    /// Instructions that records are read with, scalar, avx2 or neon [default: FLOWLANE_KERNEL, else the fastest here]
    #[arg(long, value_name = "NAME")]
    pub(super) kernel: Option<Kernel>,
    /// Elements to add or override: lines of `pen,id,name,type`
    #[arg(long, value_name = "FILE")]
    pub(super) elements: Option<PathBuf>,
    /// Answer over HTTP: /metrics for Prometheus, /healthz, /readyz, and JSON at /exporters, /templates, /connections and /ledger. A port
    /// alone is one of this machine (127.0.0.1). Nothing there asks for a password
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = http_address)]
    http: Option<SocketAddr>,
    /// Exporters that /metrics names; the sum of all others is `other`
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(0..=16384))]
    http_exporters: u32,
    /// Lines on standard error: one a cause, exporter and minute, with a count
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "text")]
    log_format: Lines,
    /// Repeat every datagram, as it came, to another collector. Repeatable; nothing waits for it, and what cannot be sent is
    /// counted
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = mirror)]
    pub(super) mirror: Vec<SocketAddr>,
    /// Whose address the repeated datagrams carry: `keep` the exporter's, which needs root or CAP_NET_RAW
    #[arg(long, value_enum, value_name = "WHOSE", default_value = "own")]
    pub(super) mirror_source: MirrorSource,
    #[command(flatten)]
    pub(super) names: NameArgs,
    /// Begin as root, and go on as this user (a name or number) once all sockets are bound: what is written belongs to it
    #[arg(long, value_name = "NAME")]
    pub(super) user: Option<String>,
    /// Stop after so long
    #[arg(long, value_name = "TIME")]
    duration: Option<Span>,
    /// Print the summary as JSON on standard output (standard error where flows go to standard output)
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Lines {
    /// Text
    Text,
    /// A JSON object a line
    Json,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum MirrorSource {
    /// This machine's address
    Own,
    /// The exporter's address and port
    Keep,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum CollectFormat {
    /// Parquet, the full schema
    Parquet,
    /// Arrow IPC files, the full schema
    Arrow,
    /// One JSON object a line
    Ndjson,
    /// Comma-separated, the same header always
    Csv,
    /// The gzip file of Python's `netflow` package
    NetflowJson,
    /// Nothing: count only
    None,
}

impl CollectFormat {
    pub(super) fn of_file(format: Format) -> Self {
        match format {
            Format::Arrow => Self::Arrow,
            Format::Ndjson => Self::Ndjson,
            Format::Csv => Self::Csv,
            _ => Self::Parquet,
        }
    }

    pub(super) fn of_sink(self) -> Option<Format> {
        Some(match self {
            Self::Parquet => Format::Parquet,
            Self::Arrow => Format::Arrow,
            Self::Ndjson => Format::Ndjson,
            Self::Csv => Format::Csv,
            Self::NetflowJson => Format::NetflowJson,
            Self::None => return None,
        })
    }
}

pub(super) fn rate(text: &str) -> Result<f64, String> {
    let rate = text.parse().ok().filter(|r: &f64| r.is_finite() && *r >= 1.0);
    rate.ok_or_else(|| "a rate is a number of at least 1: 1000 where one packet in 1000 is sampled".to_string())
}

pub(super) fn retention(age: Option<Span>, bytes: Option<Size>, free: Option<Size>) -> Retention {
    let age_us = age.map(Span::us);
    Retention { age_us, bytes: bytes.map(|s| s.bytes), free_bytes: free.map(|s| s.bytes) }
}

pub(super) fn registry(path: Option<&PathBuf>) -> anyhow::Result<Arc<Registry>> {
    let Some(path) = path else { return Ok(Registry::standard().clone()) };
    let text = super::read_text(path)?;
    let registry = Registry::with_overrides(&text).with_context(|| format!("in {}", path.display()))?;
    Ok(Arc::new(registry))
}

impl Args {
    /// What to write, as far as it is asked for.
    pub(super) fn asked(&self) -> CollectFormat {
        let of_file = || self.out.format().map(CollectFormat::of_file);
        self.format.or_else(of_file).unwrap_or(CollectFormat::Parquet)
    }
}

/// What a run before received is not received again: a file of it is not replaced without being told to.
fn refuse_to_replace(path: &Path) -> anyhow::Result<()> {
    match std::fs::metadata(path) {
        Ok(found) if found.is_file() && found.len() > 0 => Err(usage(format!(
            "{} is there already, with {} bytes; move it away, give --out a folder, which gets new files beside the old \
             ones, or replace it with --overwrite",
            path.display(),
            found.len()
        ))),
        _ => Ok(()),
    }
}

/// Why a folder cannot be written to; who else has it says so itself.
fn no_folder(path: &Path, error: io::Error) -> anyhow::Error {
    let advice =
        if error.kind() == io::ErrorKind::WouldBlock { "" } else { "; give --out a folder that may be written to" };
    anyhow::Error::new(error).context(format!("cannot write to the folder {}{advice}", path.display()))
}

pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    flowlane::net::return_batches();
    if let Some(wrong) = checks::settings(&args).into_iter().next() {
        return Err(usage(wrong.what));
    }
    let (asked, format) = (args.asked(), args.asked().of_sink());
    let (mut listen, mut listen_on) = (Vec::new(), Vec::new());
    for one in &args.listen {
        match one {
            Listen::At(address) => listen.push(*address),
            Listen::By(address, interface) => listen_on.push((*address, interface.clone())),
            Listen::Nowhere => {}
        }
    }
    if args.out == Out::Standard && matches!(format, Some(Format::Arrow | Format::Parquet)) && is_terminal() {
        return Err(usage("a terminal shows no Parquet or Arrow; give --out a file or a folder, or --format ndjson"));
    }
    if let Out::File(path) = &args.out
        && format.is_some()
        && !args.overwrite
    {
        refuse_to_replace(path)?;
    }
    let user = args.user.as_deref().map(service::look_up).transpose()?;
    let registry = registry(args.elements.as_ref())?;
    let mut config = Config { listen, listen_on, ..Config::default() };
    let tls = service::tls_files(&args).map(|files| Tls::read(&files)).transpose()?;
    let reloading = Reloading::new(tls.clone())?;
    let asked_tcp: Vec<SocketAddr> = args.tcp.iter().chain(&args.tls).copied().collect();
    config.connections.tls = tls.map(|tls| (args.tls.clone(), tls));
    config.connections.tcp = args.tcp.clone();
    config.inherited = service::inherited()?;
    config.sockets.steer.spread = args.spread.clone();
    if let Some(other) = config.inherited.beside(&config.listen, &asked_tcp).first() {
        return Err(usage(format!("the socket {other} was handed over, and no --listen, --tcp or --tls names it")));
    }
    config.connections.most = args.max_connections as usize;
    config.connections.stall = Duration::from_secs(args.connection_stall.seconds);
    config.connections.idle = args.connection_idle.map(|idle| Duration::from_secs(idle.seconds));
    config.sockets.receive_buffer = args.receive_buffer as usize * (1 << 20);
    config.sockets.timestamps = args.kernel_time;
    config.threads = args.threads.map_or(0, usize::from);
    config.admission = Admission { allow: args.allow.clone(), rate: args.exporter_rate };
    config.queue = usize::try_from(args.queue.bytes).unwrap_or(usize::MAX);
    config.decoder.registry = registry.clone();
    config.decoder.sampling_rate = args.sampling_rate;
    config.decoder.exporters = args.max_exporters as usize;
    config.decoder.templates.templates = args.max_templates as usize;
    config.decoder.held.bytes = usize::try_from(args.hold_bytes.bytes).unwrap_or(usize::MAX);
    config.decoder.held.entries = args.hold_sets as usize;
    config.decoder.held.age_us = args.hold.us();
    config.decoder.kernel = kernel(args.kernel)?;
    config.mirror =
        net::MirrorOptions { targets: args.mirror.clone(), keep_source: args.mirror_source == MirrorSource::Keep };
    config.preparation =
        Preparation { files: args.names.files()?, fill_as: args.names.fill_as(), filter: args.names.filter().cloned() };
    config.messages = (asked == CollectFormat::NetflowJson).then_some(MessageLines::NetflowJson);

    let node = args.node.clone().unwrap_or_else(keep::default_node);
    config.state = match (&args.state, format, &args.out) {
        (Some(none), ..) if none.as_os_str() == "none" => None,
        (Some(folder), ..) => Some(folder.clone()),
        (None, Some(Format::Parquet), Out::Folder(path)) => Some(path.join(".state").join(&node)),
        _ => None,
    };

    // All that is said from here on goes the way of the log, which waits for no reader of standard error.
    let line = on_terminal() && args.log_format == Lines::Text;
    let lines = if args.log_format == Lines::Json { LogFormat::Json } else { LogFormat::Text };
    let log = Log::start(lines, Box::new(Screen { line }))?;
    config.log = Some(log.clone());
    let voice = Voice { log, lines, line };
    let code = collect(&args, config, registry, &node, &voice, user, &reloading).unwrap_or_else(|error| {
        if is_broken_pipe(&error) {
            // As with any pipe that is left, no failure; but rows that came meanwhile have no reader.
            voice.tell(Level::Warn, "the reader of standard output is gone");
            return ExitCode::SUCCESS;
        }
        let (text, code) = telling(&error);
        voice.tell(Level::Warn, &text);
        code
    });
    voice.log.flush();
    Ok(code)
}

/// How long the last words wait for whoever reads them.
const PATIENCE: Duration = Duration::from_secs(1);

/// What is said while it runs.
struct Voice {
    log: Log,
    lines: LogFormat,
    // Whether there is a status line.
    line: bool,
}

impl Voice {
    /// Says what there is to say before the first datagram and after the last.
    fn tell(&self, level: Level, text: &str) {
        match self.lines {
            LogFormat::Json => self.log.say(level, text),
            LogFormat::Text if level == Level::Warn => self.log.print(format!("flowlane: {text}\n"), PATIENCE),
            LogFormat::Text => self.log.print(format!("{text}\n"), PATIENCE),
        }
    }
}

/// Receives until it is told to stop.
fn collect(
    args: &Args,
    config: Config,
    registry: Arc<Registry>,
    node: &str,
    voice: &Voice,
    user: Option<User>,
    reloading: &Reloading,
) -> anyhow::Result<ExitCode> {
    let (format, log) = (args.asked().of_sink(), &voice.log);
    let tell = |level, text: &str| voice.tell(level, text);
    // Both are tried before the first datagram: a port that is taken, and a place that cannot be written to.
    let mut collector = Collector::open(config)?;
    let http = match args.http {
        Some(address) => {
            let http = Http::bind(address).with_context(|| format!("cannot answer over HTTP on {address}"))?;
            Some(http)
        }
        None => None,
    };
    if let Some(user) = &user {
        // What is bound stays; what is written is the user's.
        service::become_user(user)?;
    }
    let sink = match (format, &args.out) {
        (None, _) => Output::none(),
        (Some(format), Out::Standard) => Output::one(Writer::to_stream(format, standard())),
        (Some(format), Out::File(path)) => Output::file(format, path).with_context(|| cannot_write(path))?,
        (Some(Format::Parquet), Out::Folder(path)) => {
            let stretch_us = args.rotate.us();
            let retention = retention(args.keep, args.keep_bytes, args.keep_free);
            let options = keep::Options { node: node.to_string(), stretch_us, retention, ..keep::Options::default() };
            Output::store(path, options, registry.clone()).map_err(|e| no_folder(path, e))?
        }
        (Some(format), Out::Folder(path)) => {
            let stretch = args.rotate.us();
            Output::folder(path, format, stretch, registry.clone()).map_err(|e| no_folder(path, e))?
        }
    };
    sink.left().iter().for_each(|left| tell(Level::Warn, left));
    let sink: Box<dyn Sink> = Box::new(sink);
    // After the folder: the lock of a node's folder is that of its state, too.
    let known =
        collector.load_state().context("cannot keep templates for a restart; give --state another folder, or none")?;
    if let Some(damage) = collector.damage() {
        tell(
            Level::Warn,
            &format!("the state of the last run is damaged: {damage}; {known} entries before it are used"),
        );
    }
    let (stop, impatient) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        // The second signal ends the program at once; but some send the first one twice, to the process and to its group.
        signal_hook::flag::register_conditional_shutdown(signal, 130, impatient.clone())?;
        signal_hook::flag::register(signal, stop.clone())?;
    }
    let again = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(signal_hook::consts::SIGHUP, again.clone())?;
    for name in config::unknown_variables(&super::Cli::command(), std::env::vars_os().map(|v| v.0)) {
        tell(Level::Warn, &format!("{name} is no setting: `flowlane config` lists them"));
    }
    for warning in collector.warnings() {
        tell(Level::Warn, &warning.to_string());
    }
    let threads = match collector.threads() {
        1 => "1 thread".to_owned(),
        n => format!("{n} threads"),
    };
    let to = if format.is_some() { args.out.to_string() } else { "nowhere (counting only)".to_string() };
    for address in collector.addresses() {
        tell(Level::Info, &format!("listening on {address} with {threads}, writing to {to}; Ctrl-C ends"));
    }
    for (address, transport) in collector.connection_addresses() {
        tell(Level::Info, &format!("listening on {address} over {transport} with {threads}, writing to {to}"));
    }
    let running = collector.start(sink)?;
    let serving = match http {
        Some(http) => {
            tell(Level::Info, &format!("answering on http://{}/metrics", http.address()));
            Some(http.serve(running.watch(), args.http_exporters as usize, registry)?)
        }
        None => None,
    };
    let history = match &args.out {
        Out::Folder(path) if format.is_some() => Some(History::start(running.watch(), path.clone(), node.to_string())?),
        _ => None,
    };
    let began = Instant::now();
    let (mut shown, mut last) = (Instant::now(), Status::default());
    while !stop.load(Ordering::Relaxed) && !running.has_failed() {
        if args.duration.is_some_and(|d| began.elapsed().as_secs() >= d.seconds) {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
        if again.swap(false, Ordering::Relaxed) {
            match reloading.reload(&running) {
                Ok(said) => log.say(Level::Info, said),
                Err(error) => log.say(Level::Warn, format!("settings stay as they are: {error:#}")),
            }
        }
        if voice.line && shown.elapsed() >= Duration::from_secs(1) {
            let status = running.status();
            log.print(status_line(&status, &last, shown.elapsed().as_secs_f64()), Duration::ZERO);
            (shown, last) = (Instant::now(), status);
        }
    }
    if voice.line {
        log.print("\r\x1b[K", Duration::ZERO);
    }
    std::thread::spawn(move || {
        std::thread::sleep(Duration::from_secs(1));
        impatient.store(true, Ordering::Relaxed);
    });
    // While the last rows are written it still answers.
    let (summary, result) = running.join();
    drop(serving);
    if let Some(history) = history {
        history.end();
    }
    if voice.lines == LogFormat::Json && !args.json {
        let more = [("summary".to_string(), summary.json())];
        log.say_with(Level::Info, "stopped", more.into_iter().collect());
    }
    let text = if args.json { format!("{}\n", summary.json()) } else { summary.to_string() };
    if args.json && args.out != Out::Standard {
        let _ = io::stdout().write_all(text.as_bytes());
    } else if args.json || voice.lines == LogFormat::Text {
        log.print(text, PATIENCE);
    }
    result.context("the collector stopped")?;
    Ok(ExitCode::SUCCESS)
}

fn is_terminal() -> bool {
    io::IsTerminal::is_terminal(&io::stdout())
}

/// Standard error, where a line of the log takes the place of the status line.
struct Screen {
    line: bool,
}

impl Write for Screen {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut out = io::stderr().lock();
        if self.line {
            out.write_all(b"\r\x1b[K")?;
        }
        out.write_all(bytes).map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The status line; [`Screen`] clears it before anything else.
fn status_line(now: &Status, last: &Status, seconds: f64) -> String {
    let rate = |a: u64, b: u64| (a.wrapping_sub(b) as f64 / seconds).round();
    let mut text = format!(
        "{} datagrams/s, {} flows/s; {} flows of {} exporters, {} rows written",
        rate(now.datagrams, last.datagrams),
        rate(now.records, last.records),
        now.records,
        now.exporters,
        now.written_rows
    );
    for (what, n) in
        [("dropped by the kernel", now.kernel_drops), ("rows dropped", now.dropped_rows), ("missing", now.lost)]
    {
        if n > 0 {
            text += &format!(", {n} {what}");
        }
    }
    text
}
