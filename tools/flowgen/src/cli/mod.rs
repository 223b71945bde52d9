//! The command line: flags to plans, sums to text.
//!
//! 0: sent. 1: it could not be sent. 2: the command line is wrong.

mod values;

use anyhow::anyhow;
use clap::Parser;
use clap::error::ErrorKind;
use flowgen::{Delivery, Error, Limits, Pace, Plan, Replay, Sent, Speed, Template, Trouble};
use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use values::{Protocols, ReplaySpeed};

/// Send NetFlow v1, v5, v7, v9 and IPFIX faster than it can be received, and say exactly what was sent.
#[derive(Parser)]
#[command(name = "flowgen", version, after_help = EXAMPLES)]
struct Args {
    /// The receiver
    #[arg(short, long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:2055", value_parser = values::receiver)]
    to: SocketAddr,
    /// Address of the first exporter, the others count up from it [default: 127.1.0.1 if the receiver is on 127/8,
    /// otherwise this machine's, and exporters differ in their ports]
    #[arg(long, value_name = "ADDRESS")]
    from: Option<IpAddr>,
    /// First source port, the others count up from it [default: the system chooses]
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    source_port: Option<u16>,

    /// v1, v5, v7, v9, ipfix, several with commas between, or mix for all; exporters take them in turn
    #[arg(short, long, value_name = "NAMES", default_value = "v9", help_heading = "What")]
    protocol: Protocols,
    /// Templates for v9 and IPFIX, several with commas between: basic14 (40 bytes), wide23 (76 bytes), ipv6, variable
    /// (strings, of variable length in IPFIX)
    #[arg(long, value_name = "NAMES", value_delimiter = ',', default_value = "basic14", help_heading = "What")]
    template: Vec<Template>,
    /// Layouts of each template: the same fields in other orders, each with an id of its own
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=13),
        help_heading = "What")]
    layouts: u16,
    /// Records of a message; v1 has 24 at most, v5 30, v7 27 [default: what an Ethernet frame has room for, at most 30]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..), help_heading = "What")]
    records: Option<u16>,
    /// Exporters
    #[arg(short, long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..),
        help_heading = "What")]
    exporters: u32,
    /// Source ports of each exporter, each with its own sequence numbers
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..),
        help_heading = "What")]
    ports: u16,
    /// Announce a sampling rate and names of interfaces as options data (v5: in its header)
    #[arg(long, help_heading = "What")]
    options: bool,
    /// The rate that --options announces: one packet in so many
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u16).range(1..16384),
        requires = "options", help_heading = "What")]
    sampling: u16,
    /// Send templates and options again after so many messages of an exporter; 0: only once
    #[arg(long, value_name = "MESSAGES", default_value_t = 1000, help_heading = "What")]
    refresh: u64,
    /// Different messages; they go round, with numbers and times of their own
    #[arg(long, value_name = "N", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..=1 << 20),
        help_heading = "What")]
    distinct: u32,
    /// Hosts inside, and as many outside; few of them have most flows (Zipf)
    #[arg(long, value_name = "N", default_value_t = 65_536, value_parser = clap::value_parser!(u32).range(1..),
        help_heading = "What")]
    hosts: u32,
    /// Observation domain, or source id
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = "What")]
    domain: u32,
    /// What addresses, ports, sizes and troubles follow from: the same seed, the same flows
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = "What")]
    seed: u64,

    /// Flow records a second, like 100k or 2.5M; max is as fast as it goes [default: max]
    #[arg(long, value_name = "RATE", value_parser = values::rate, conflicts_with = "datagrams_per_second",
        help_heading = "How fast")]
    rate: Option<Pace>,
    /// Datagrams a second, counted before loss and duplication
    #[arg(long, value_name = "RATE", value_parser = values::datagrams, help_heading = "How fast")]
    datagrams_per_second: Option<Pace>,
    /// Datagrams back to back before the next wait [default: few]
    #[arg(long, value_name = "N", value_parser = values::count, help_heading = "How fast")]
    burst: Option<u64>,
    /// Stop after so long, like 500ms, 10s or 2m [default: 10s, unless there is a --count; a replay ends by itself]
    #[arg(long = "for", value_name = "TIME", value_parser = values::span, help_heading = "How fast")]
    duration: Option<Duration>,
    /// Stop after so many messages, counted before loss and duplication
    #[arg(short = 'n', long, value_name = "N", value_parser = values::count, help_heading = "How fast")]
    count: Option<u64>,
    /// Hand the kernel trains of datagrams of equal length (UDP_SEGMENT): faster
    #[arg(long, help_heading = "How fast")]
    gso: bool,
    /// Sending threads, each with exporters and troubles of its own: what is lost depends on how many there are
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024),
        help_heading = "How fast")]
    threads: u32,

    /// Number so many messages and do not send them, like 1% or 0.01; a receiver must count the gaps. With reordering and duplication
    /// at most 100% together
    #[arg(long, value_name = "SHARE", default_value = "0", value_parser = values::share, help_heading = "Trouble")]
    loss: f64,
    /// Send so many messages after their successor
    #[arg(long, value_name = "SHARE", default_value = "0", value_parser = values::share, help_heading = "Trouble")]
    reorder: f64,
    /// Send so many messages twice
    #[arg(long, value_name = "SHARE", default_value = "0", value_parser = values::share, help_heading = "Trouble")]
    duplicate: f64,

    /// Send the messages of a capture (pcap, pcapng) instead; every exporter of it gets an address of its own. Repeatable:
    /// one after the other
    #[arg(long, value_name = "FILE", help_heading = "Files", conflicts_with_all = ["protocol", "template", "records",
        "layouts", "exporters", "ports", "options", "sampling", "refresh", "distinct", "domain", "hosts", "threads"])]
    replay: Vec<PathBuf>,
    /// Speed of the replay: original, 2x, 0.5x, max [default: original, unless there is a rate]
    #[arg(long, value_name = "SPEED", requires = "replay", conflicts_with_all = ["rate", "datagrams_per_second"],
        help_heading = "Files")]
    speed: Option<ReplaySpeed>,
    /// Replay so many times
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..),
        requires = "replay", help_heading = "Files")]
    repeat: u64,
    /// Write a pcap file instead of sending, at once, with the times at which it would be sent; without a rate,
    /// 100k records a second
    #[arg(short, long, value_name = "FILE", conflicts_with_all = ["gso", "threads"], help_heading = "Files")]
    write: Option<PathBuf>,

    /// Print what was sent as one JSON object on standard output
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  flowgen                                                 v9 to 127.0.0.1:2055 for 10 s, as fast as it goes
  flowgen --protocol v5 --rate 100k --for 1m              100000 records a second
  flowgen --protocol mix --exporters 5000 --ports 2       10000 sources on 127/8, all protocols
  flowgen --gso --threads 2 --exporters 16 --json         outrun the receiver; sums as JSON
  flowgen --protocol ipfix --template variable,ipv6 --options --refresh 100
  flowgen --exporters 1000 --protocol ipfix --template basic14,wide23,ipv6,variable --layouts 13   52000 templates
  flowgen --datagrams-per-second 1000 --burst 500         bursts of 500, two a second
  flowgen --loss 1% --reorder 0.5% --duplicate 1% -n 100k a bad network, counted
  flowgen --protocol ipfix -n 1000 --write flows.pcap     the same to a file, for tcpdump or a decoder
  flowgen --replay flows.pcap --speed 10x                 a capture again, ten times as fast

What a receiver counts less than flowgen says is its loss. Ctrl-C ends early and still prints the sums. Of a capture that is cut,
what is whole is sent; the exit code is 1 then.";

/// The program.
pub fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => return refuse(&error),
    };
    let json = args.json;
    match run(args) {
        Ok((sent, is_whole)) => {
            let text = if json { format!("{}\n", sent.json()) } else { sent.to_string() };
            // A reader that is gone does not undo what was sent.
            let _ = io::stdout().write_all(text.as_bytes());
            if is_whole { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            say(&format!("{error:#}"));
            let asked = matches!(error.downcast_ref(), Some(Error::Asked(_)));
            ExitCode::from(if asked { 2 } else { 1 })
        }
    }
}

/// What was sent, and whether that is all that was asked for: a capture may be cut.
fn run(args: Args) -> anyhow::Result<(Sent, bool)> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        // The second signal ends the program at once.
        signal_hook::flag::register_conditional_shutdown(signal, 130, stop.clone())?;
        signal_hook::flag::register(signal, stop.clone())?;
    }
    let mut delivery = args.delivery()?;
    let Some((first, others)) = args.replay.split_first() else {
        // A flag that rules --replay out, like --protocol, takes away what the parser requires.
        if args.speed.is_some() || args.repeat > 1 {
            return Err(Error::Asked("--speed and --repeat are of a --replay".to_owned()).into());
        }
        let plan = args.plan();
        if args.template != [Template::Basic14] && !plan.protocols.iter().any(|p| p.has_templates()) {
            return Err(Error::Asked("v1, v5 and v7 have no templates; use --protocol v9 or ipfix".to_owned()).into());
        }
        if delivery.limits.duration.is_none() && delivery.limits.count.is_none() {
            delivery.limits.duration = Some(Duration::from_secs(10));
        }
        let sent = match &args.write {
            Some(path) => flowgen::write(&plan, &delivery, path, &stop),
            None => flowgen::send(&plan, &delivery, &stop),
        };
        return Ok((sent?, true));
    };
    let mut replay = Replay::open(first)?;
    others.iter().try_for_each(|path| replay.append(path))?;
    replay.trouble = args.trouble();
    replay.seed = args.seed;
    replay.repeat = args.repeat;
    replay.speed = match args.speed {
        Some(ReplaySpeed(speed)) => speed,
        None if args.pace().is_some() => Speed::Paced,
        None => Speed::Times(1.0),
    };
    if replay.skipped() > 0 {
        let names: Vec<_> = args.replay.iter().map(|path| path.display().to_string()).collect();
        let (skipped, names) = (replay.skipped(), names.join(", "));
        say(&format!("passed over {skipped} frames of {names}: no flow messages, or fragments"));
    }
    for path in replay.cut() {
        say(&format!("{} ends in the middle of a block: the messages before that are sent", path.display()));
    }
    let sent = match &args.write {
        Some(path) => replay.write(&delivery, path, &stop)?,
        None => replay.send(&delivery, &stop)?,
    };
    Ok((sent, replay.cut().is_empty()))
}

impl Args {
    fn trouble(&self) -> Trouble {
        Trouble { loss: self.loss, reorder: self.reorder, duplicate: self.duplicate }
    }

    fn pace(&self) -> Option<Pace> {
        self.rate.or(self.datagrams_per_second)
    }

    fn plan(&self) -> Plan {
        Plan {
            protocols: self.protocol.0.clone(),
            templates: self.template.clone(),
            layouts: self.layouts,
            records: self.records,
            exporters: self.exporters,
            ports: self.ports,
            options: self.options.then_some(self.sampling),
            refresh: self.refresh,
            distinct: self.distinct,
            domain: self.domain,
            hosts: self.hosts,
            seed: self.seed,
            trouble: self.trouble(),
        }
    }

    fn delivery(&self) -> anyhow::Result<Delivery> {
        let mut delivery = Delivery::to(self.to);
        delivery.from = self.from;
        delivery.source_port = self.source_port;
        delivery.trains = self.gso;
        delivery.threads = self.threads;
        let burst = self.burst.map(usize::try_from).transpose().map_err(|_| anyhow!("--burst is too large"))?;
        let pace = self.pace().unwrap_or_default();
        delivery.limits = Limits { pace, burst, count: self.count, duration: self.duration };
        Ok(delivery)
    }
}

/// A line on standard error; a reader that is gone is no reason to stop.
fn say(line: &str) {
    let _ = writeln!(io::stderr(), "flowgen: {line}");
}

/// Help and version go out as they are; everything else is one line and exit code 2.
fn refuse(error: &clap::Error) -> ExitCode {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    let text = error.to_string();
    let lines = text.lines().map(str::trim).take_while(|line| !line.starts_with("Usage:"));
    let lines: Vec<&str> = lines.filter(|l| !l.is_empty() && !l.starts_with("For more information")).collect();
    say(lines.join("; ").trim_start_matches("error: "));
    ExitCode::from(2)
}
