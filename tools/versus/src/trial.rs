//! One collector, one workload, one rate: what went in, what came out, what it took.

use crate::machine::Cores;
use crate::peer::{Peer, Place, Totals, buffer};
use crate::process::{Ended, Queue, Running, Scratch, bytes_below, free_port};
use crate::workload::{Load, Workload};
use anyhow::Context;
use flowgen::Sent;
use serde::{Deserialize, Serialize};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::time::Duration;

/// What is to be tried.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The name of what is measured by it: `cost`, `rate` or `loss`.
    pub measure: &'a str,
    /// Which time in turn, from 1.
    pub round: u32,
    /// Datagrams a second.
    pub rate: f64,
    /// For how long, seconds.
    pub seconds: f64,
    /// As trains of UDP_SEGMENT.
    pub trains: bool,
    /// Seconds after which the collector begins a new file; without a number, its own default.
    pub rotate: Option<u32>,
    /// Different messages of made up traffic. Many are as real traffic is, where what is kept and compressed counts;
    /// few stay in the sender's cache and reach the highest rates.
    pub distinct: u32,
}

/// Enough that hardly any flow comes twice in a trial.
pub const MANY: u32 = 32_768;
/// Few enough for the sender's cache.
pub const FEW: u32 = 1024;

/// What came of it: a row of the raw data. Everything counts from after the warming up to the end of the process,
/// but for the totals, the memory and the bytes on disk, which are of all that was sent, and the time from when it was told to
/// end, which is of all that is kept.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Trial {
    /// `cost`, `rate` or `loss`.
    pub measure: String,
    /// The workload's name.
    pub workload: String,
    /// The collector's name.
    pub peer: String,
    /// `plain` or `trains`.
    pub sender: String,
    /// Which time in turn, from 1.
    pub round: u32,
    /// Datagrams a second that were asked for.
    pub rate: f64,
    /// Seconds that sending took.
    pub seconds: f64,
    /// Datagrams sent.
    pub datagrams: u64,
    /// Flow records in them.
    pub records: u64,
    /// Processor time of the collector in its own code, microseconds.
    pub user_us: u64,
    /// And in the kernel.
    pub system_us: u64,
    /// Of the former, what it took from when it was told to end: it writes or seals what it holds then, that of the warming up
    /// included.
    #[serde(default)]
    pub end_user_us: u64,
    /// Of the latter.
    #[serde(default)]
    pub end_system_us: u64,
    /// Resident memory at its peak, KiB.
    pub peak_kib: u64,
    /// Flow records sent, the warming up included.
    pub sent_records: u64,
    /// Their bytes.
    pub sent_octets: u64,
    /// Their packets.
    pub sent_packets: u64,
    /// Flow records in the collector's files.
    pub kept_records: u64,
    /// Their bytes.
    pub kept_octets: u64,
    /// Their packets.
    pub kept_packets: u64,
    /// Bytes of all that it keeps on disk.
    pub disk_bytes: u64,
    /// Datagrams that found its receive buffer full, as the kernel says.
    pub kernel_drops: u64,
}

impl Trial {
    /// Whether records, bytes and packets are those that were sent.
    pub fn is_right(&self) -> bool {
        let sent = (self.sent_records, self.sent_octets, self.sent_packets);
        sent == (self.kept_records, self.kept_octets, self.kept_packets)
    }

    /// Records that are not there, as a share of those sent after warming up.
    pub fn loss(&self) -> f64 {
        self.sent_records.saturating_sub(self.kept_records) as f64 / self.records.max(1) as f64
    }

    /// Records that were received after the warming up, of which nothing is lost.
    fn received(&self) -> f64 {
        (self.records as f64 * (1.0 - self.loss())).max(1.0)
    }

    /// Processor time a flow, in nanoseconds: user and system. What it took until all was received, a flow that was received after
    /// the warming up; what its end took, a flow that is kept.
    pub fn cpu_ns_per_flow(&self) -> (f64, f64) {
        let each = |us: u64, end_us: u64| {
            let (ns, end_ns) = (us as f64 * 1000.0, end_us as f64 * 1000.0);
            (ns - end_ns) / self.received() + end_ns / self.kept_records.max(1) as f64
        };
        (each(self.user_us, self.end_user_us), each(self.system_us, self.end_system_us))
    }

    /// Flows in a datagram.
    pub fn flows_per_datagram(&self) -> f64 {
        self.records as f64 / self.datagrams.max(1) as f64
    }

    /// Bytes on disk a flow that is kept.
    pub fn bytes_per_flow(&self) -> f64 {
        self.disk_bytes as f64 / self.kept_records.max(1) as f64
    }
}

/// Where trials are held.
#[derive(Clone, Debug)]
pub struct Arena {
    /// Who runs where.
    pub cores: Cores,
    /// Below it each run has a folder for its time.
    pub base: PathBuf,
}

impl Arena {
    /// Starts a collector, sends to it, ends it and counts.
    ///
    /// # Errors
    /// Why it could not be done.
    pub fn trial(&self, peer: &dyn Peer, workload: &Workload, asked: Asked<'_>) -> anyhow::Result<Trial> {
        self.try_it(peer, workload, asked).with_context(|| format!("{} on {}", peer.name(), workload.name))
    }

    fn try_it(&self, peer: &dyn Peer, workload: &Workload, asked: Asked<'_>) -> anyhow::Result<Trial> {
        let time = Duration::from_secs_f64(asked.seconds);
        let (trains, distinct) = (asked.trains, asked.distinct);
        let load = Load { rate: asked.rate, time, trains, core: self.cores.sender, distinct };
        let held = self.hold(peer, Files { rotate: asked.rotate, ..Files::default() }, |place, running| {
            let to = SocketAddr::from(([127, 0, 0, 1], place.port));
            workload.send(to, load, move || {
                running.settle(place.port, Duration::from_secs(10))?;
                running.mark()
            })
        })?;
        let Held { warm, all, ended, kept, disk_bytes, kernel_drops } = held;
        Ok(Trial {
            measure: asked.measure.to_owned(),
            workload: workload.name.to_owned(),
            peer: peer.name().to_owned(),
            sender: if asked.trains { "trains" } else { "plain" }.to_owned(),
            round: asked.round,
            rate: asked.rate,
            seconds: all.duration.as_secs_f64(),
            datagrams: all.datagrams - warm.datagrams,
            records: all.records - warm.records,
            user_us: ended.cpu.user_us,
            system_us: ended.cpu.system_us,
            end_user_us: ended.ending.user_us,
            end_system_us: ended.ending.system_us,
            peak_kib: ended.peak_kib,
            sent_records: all.records,
            sent_octets: all.octets,
            sent_packets: all.packets,
            kept_records: kept.records,
            kept_octets: kept.octets,
            kept_packets: kept.packets,
            disk_bytes,
            kernel_drops,
        })
    }

    /// Starts a collector, lets `send` send to it and mark where its time begins to count, ends it, and reads what it kept.
    /// `send` gives what it sent before the mark, and all.
    ///
    /// # Errors
    /// Why it could not be done.
    pub fn hold(
        &self,
        peer: &dyn Peer,
        files: Files,
        send: impl FnOnce(&Place, &mut Running) -> anyhow::Result<(Sent, Sent)>,
    ) -> anyhow::Result<Held> {
        let scratch = Scratch::new(&self.base, peer.name())?;
        let Files { rotate, keep_bytes, own_buffer, is_asked } = files;
        let (port, buffer) = (free_port()?, (!own_buffer).then(buffer));
        let free = || TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let http = is_asked.then(free).transpose()?.map(|at| at.port());
        let place = Place { port, folder: scratch.path().to_owned(), rotate, buffer, keep_bytes, http };
        std::fs::create_dir_all(place.kept())?;
        let mut running = Running::start(peer.command(&place), &self.cores.receivers, &place.folder)?;
        running.wait_for(place.port)?;
        let (warm, all) = send(&place, &mut running)?;
        running.settle(place.port, Duration::from_secs(30))?;
        let kernel_drops = Queue::of(place.port).map_or(0, |q| q.drops);
        let ended = running.stop(peer.signal(), Duration::from_secs(120))?;
        let kept = peer.totals(&place)?;
        Ok(Held { warm, all, ended, kept, disk_bytes: bytes_below(&place.kept()), kernel_drops })
    }
}

/// What is asked of a collector: as [`Place`] has it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Files {
    /// Seconds after which it begins a new file.
    pub rotate: Option<u32>,
    /// Bytes beyond which it removes the oldest.
    pub keep_bytes: Option<u64>,
    /// Whether its receive buffer is the one that it asks for by itself, and not what all have that are compared.
    pub own_buffer: bool,
    /// Whether it answers over HTTP, if it can.
    pub is_asked: bool,
}

/// What a collector made of what was sent to it.
pub struct Held {
    /// What was sent before the mark.
    pub warm: Sent,
    /// All that was sent.
    pub all: Sent,
    /// What the process used after the mark.
    pub ended: Ended,
    /// What it kept.
    pub kept: Totals,
    /// Bytes of that on disk.
    pub disk_bytes: u64,
    /// Datagrams that found its receive buffer full.
    pub kernel_drops: u64,
}
