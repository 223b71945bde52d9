//! `flowlane demo`: recorded exporters through a real socket.

use super::say;
use anyhow::Context;
use flowlane::collect::{Collector, Config, Item, Sink};
use flowlane::columns::{Batch, Run, Timestamp};
use flowlane::sink::table::Table;
use flowlane::source::Source;
use std::io::{self, Cursor, Write};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Arguments of `flowlane demo`.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  flowlane demo               five flows of each recording
  flowlane demo --rows 20     more of them")]
pub struct Args {
    /// Flows to show of each recording
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = rows)]
    rows: usize,
}

/// A recorded exporter.
struct Recording {
    version: u8,
    protocol: &'static str,
    exporter: &'static str,
    name: &'static str,
    bytes: &'static [u8],
}

const RECORDINGS: [Recording; 4] = [
    Recording {
        version: 5,
        protocol: "NetFlow v5",
        exporter: "softflowd",
        name: "softflowd_v5",
        bytes: include_bytes!("../../fixtures/demo/softflowd_v5.pcap"),
    },
    Recording {
        version: 7,
        protocol: "NetFlow v7",
        exporter: "fprobe",
        name: "fprobe_v7",
        bytes: include_bytes!("../../fixtures/demo/fprobe_v7.pcap"),
    },
    Recording {
        version: 9,
        protocol: "NetFlow v9",
        exporter: "softflowd",
        name: "softflowd_v9",
        bytes: include_bytes!("../../fixtures/demo/softflowd_v9.pcap"),
    },
    Recording {
        version: 10,
        protocol: "IPFIX",
        exporter: "pmacctd",
        name: "pmacctd_ipfix",
        bytes: include_bytes!("../../fixtures/demo/pmacctd_ipfix.pcap"),
    },
];

/// How long the collector may take to see what was sent.
const PATIENCE: Duration = Duration::from_secs(10);

/// Keeps what comes.
struct Keep(Arc<Mutex<Vec<Arc<Batch>>>>);

impl Sink for Keep {
    fn write(&mut self, item: &Item) -> io::Result<()> {
        if let (Item::Rows { batch, .. }, Ok(mut kept)) = (item, self.0.lock()) {
            kept.push(batch.clone());
        }
        Ok(())
    }

    fn tick(&mut self, _: Timestamp) -> io::Result<()> {
        Ok(())
    }

    fn finish(self: Box<Self>) -> io::Result<()> {
        Ok(())
    }
}

fn rows(text: &str) -> Result<usize, String> {
    text.parse().map_err(|_| "a number of flows, like 20".to_string())
}

pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let config = Config { listen: vec![(Ipv4Addr::LOCALHOST, 0).into()], threads: 1, ..Config::default() };
    let collector = Collector::open(config)?;
    let to = *collector.addresses().first().context("no address to listen on")?;
    let kept = Arc::new(Mutex::new(Vec::new()));
    let running = collector.start(Box::new(Keep(kept.clone())))?;
    say(&format!("A collector listens on {to}; {} recorded exporters send to it.", RECORDINGS.len()));
    let mut sent = Vec::new();
    for recording in &RECORDINGS {
        // Each exporter has an address of its own, where the host's loopback has more than one.
        let own = SocketAddr::from((Ipv4Addr::new(127, 0, 0, recording.version), 0));
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let socket = UdpSocket::bind(own).or_else(|_| UdpSocket::bind(any)).context("cannot open a socket to send")?;
        let before: u64 = sent.iter().map(|s: &(u64, SocketAddr)| s.0).sum();
        let mut source = Source::new(Cursor::new(recording.bytes)).context(recording.name)?;
        let mut datagrams = 0;
        while let Some(datagram) = source.next() {
            socket.send_to(datagram.context(recording.name)?.bytes, to).context("cannot send over loopback")?;
            datagrams += 1;
            // At the collector's pace: a receive buffer may be small.
            if datagrams % 16 == 0 {
                wait(|| running.status().datagrams + 64 >= before + datagrams);
            }
        }
        sent.push((datagrams, socket.local_addr()?));
    }
    let all = sent.iter().map(|s| s.0).sum();
    wait(|| running.status().datagrams >= all);
    let (summary, result) = running.join();
    result?;
    let kept = kept.lock().map_or_else(|_| Vec::new(), |mut kept| std::mem::take(&mut *kept));
    let mut out = io::stdout().lock();
    for (recording, (datagrams, from)) in RECORDINGS.iter().zip(&sent) {
        let rows = rows_of(&kept, recording.version);
        writeln!(
            out,
            "\n{}: {} sent {datagrams} datagrams from {}, {rows} flows",
            recording.protocol,
            recording.exporter,
            from.ip()
        )?;
        show(&kept, recording.version, args.rows, &mut out)?;
    }
    writeln!(
        out,
        "\n{} datagrams in, {} flows out, {} lost.\n\n\
         Next:\n  flowlane collect --format ndjson --out -    receive on UDP port 2055 and print flows as JSON\n  \
         flowlane collect                            the same into Parquet files in flows/\n  \
         flowlane decode capture.pcap                look into a capture (tcpdump -w capture.pcap udp port 2055)\n  \
         flowlane help                               how to point a router, or softflowd, at it",
        summary.stats.datagrams,
        summary.rows_written,
        all - summary.stats.datagrams.min(all),
    )?;
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

fn wait(done: impl Fn() -> bool) {
    let began = Instant::now();
    while !done() && began.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn runs(batches: &[Arc<Batch>], version: u8) -> impl Iterator<Item = (&Batch, &Run)> {
    let of = |b: &'_ Arc<Batch>| -> bool { b.rows() > 0 };
    let runs = batches.iter().filter(move |b| of(b)).flat_map(|b| b.runs().iter().map(move |r| (&**b, r)));
    runs.filter(move |(_, r)| r.meta.version == version)
}

fn rows_of(batches: &[Arc<Batch>], version: u8) -> u64 {
    runs(batches, version).map(|(_, r)| u64::from(r.rows)).sum()
}

fn show(batches: &[Arc<Batch>], version: u8, rows: usize, out: &mut dyn Write) -> io::Result<()> {
    let mut table = Table::new();
    let mut left = u32::try_from(rows).unwrap_or(u32::MAX);
    for (batch, run) in runs(batches, version) {
        let shown = Run { rows: run.rows.min(left), ..*run };
        left -= shown.rows;
        table.push(batch, &shown, out)?;
        if left == 0 {
            break;
        }
    }
    table.flush(out)
}
