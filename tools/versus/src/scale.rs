//! How flowlane's rate grows with cores: what each of its stages was measured to cost, in a model of cores, NIC queues and
//! exporters.
//!
//! A datagram is work for four stages. The network stack serves the NIC queue that the exporter's addresses hash to, on that
//! queue's core. The exporter's receiving thread, pinned to a core, takes and decodes it. One writing thread and one sealing thread
//! serve all cores, on whichever has time. The highest rate is the one at which the first of these has none left: a core with
//! its fixed work, one of the two single threads, or all cores together.

use crate::chart::{self, Points};
use crate::peer::Flowlane;
use crate::process::Running;
use crate::rate::{self, Search};
use crate::raw::Raw;
use crate::table::{Table, median, number};
use crate::trial::{Arena, FEW, Files};
use crate::workload::{Load, Traffic, Workload};
use flowgen::{Plan, Protocol};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::time::Duration;

/// What a datagram costs each stage, nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Stages {
    /// Sending it on this machine: what a collector beside its sender shares the cores with.
    pub send: f64,
    /// The network stack below the socket, where a NIC's interrupt puts it. On loopback it is a part of sending.
    pub network: f64,
    /// Taking it from the socket, and decoding.
    pub receive: f64,
    /// Writing its rows to the hot segment.
    pub write: f64,
    /// Sealing them.
    pub seal: f64,
}

/// A prediction beside what was measured.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Check {
    /// Cores of the collector; with two, the sender shares the first of them.
    pub cores: usize,
    /// Datagrams a second by the model.
    pub predicted: f64,
    /// The highest rate without loss.
    pub measured: f64,
}

/// One cell of the simulation.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Cell {
    /// Cores.
    pub cores: usize,
    /// Exporters.
    pub exporters: u32,
    /// Their rates: all equal, or by Zipf's law.
    pub is_skewed: bool,
    /// What decides the core: an exporter's address, or its source port, too.
    pub by_port: bool,
    /// Whether rows are written, or decoded and no more.
    pub writes: bool,
    /// Datagrams a second: the median over exporters' addresses.
    pub median: f64,
    /// And the worst of them.
    pub worst: f64,
    /// What bounds the median: `core`, `cores`, `write` or `seal`.
    pub bound: String,
}

/// All of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Scale {
    /// What was measured.
    pub stages: Stages,
    /// Flows in a datagram.
    pub flows_per_datagram: f64,
    /// The model against measurement.
    pub checks: Vec<Check>,
    /// What it says of other machines.
    pub cells: Vec<Cell>,
}

/// Exporters of the measurement: several a core.
const EXPORTERS: u32 = 64;
/// Receive queues of a NIC, each served by a core.
const QUEUES: usize = 16;
/// Source ports of a large exporter, where they may decide the core: its line cards.
const PORTS: u32 = 8;
/// Sets of exporters' addresses that are tried.
const DRAWS: u64 = 100;

/// Measures the stages, predicts, and checks on one core and on two.
///
/// # Errors
/// flowlane does not run, or raw data cannot be written.
pub fn measure(arena: &Arena, seconds: f64, raw: &mut Raw) -> anyhow::Result<Scale> {
    let plan = Plan { protocols: vec![Protocol::V5], exporters: EXPORTERS, records: Some(30), ..Plan::default() };
    let workload =
        Workload { name: "v5-64", about: "NetFlow v5 of 64 exporters in turn", traffic: Traffic::Made(plan) };
    // A datagram costs less in bursts, and bursts come with the rate: measured once to know the rate, and again near it.
    let rough = stages(arena, &workload, 40_000.0, seconds)?;
    let near = highest(&[rough.receive], rough, true).0.min(1e9 / rough.send) * 0.75;
    let stages = stages(arena, &workload, near, seconds)?;
    let first = u32::from(std::net::Ipv4Addr::new(127, 1, 0, 1));
    let mut checks = Vec::new();
    for cores in [1, 2] {
        let mut shares = vec![0.0; cores];
        (0..EXPORTERS).for_each(|e| shares[owner(first + e, cores)] += 1.0 / f64::from(EXPORTERS));
        // One core: the sender has another. Two: the sender's work is on the first.
        let on_first = if cores == 2 { stages.send } else { 0.0 };
        let fixed: Vec<f64> = shares
            .iter()
            .enumerate()
            .map(|(c, share)| share * stages.receive + if c == 0 { on_first } else { 0.0 })
            .collect();
        let (mut predicted, _) = highest(&fixed, stages, true);
        predicted = predicted.min(1e9 / stages.send);
        let mut both = arena.clone();
        if cores == 2 {
            both.cores.receivers.insert(0, arena.cores.sender);
        }
        let search = Search { seconds: seconds.min(1.5), first: predicted / 2.0, within: 0.05, trains: false };
        let peer = Flowlane { threads: cores as u16 };
        let measured = rate::loss_free(&both, &peer, &workload, search, raw)?.datagrams_per_second;
        checks.push(Check { cores, predicted, measured });
    }
    Ok(Scale { stages, flows_per_datagram: 30.0, checks, cells: simulate(stages) })
}

/// Processor time of each stage, by the names of flowlane's threads.
fn stages(arena: &Arena, workload: &Workload, rate: f64, seconds: f64) -> anyhow::Result<Stages> {
    let time = Duration::from_secs_f64(seconds);
    let load = Load { rate, time, trains: false, core: arena.cores.sender, distinct: FEW };
    let (mut stages, mut send) = (Stages::default(), 0.0);
    arena.hold(&Flowlane { threads: 1 }, Files { rotate: Some(1), keep_bytes: None }, |place, running| {
        let to = SocketAddr::from(([127, 0, 0, 1], place.port));
        let mut before = Vec::new();
        let marked: &Running = running;
        let sent = workload.send_timed(to, load, || {
            marked.settle(place.port, Duration::from_secs(10))?;
            before = marked.threads_ns();
            Ok(())
        });
        let (warm, all, sender_ns) = sent?;
        // Two rotations later the last rows are sealed.
        std::thread::sleep(Duration::from_secs(3));
        running.settle(place.port, Duration::from_secs(10))?;
        let datagrams = (all.datagrams - warm.datagrams) as f64;
        let sum = |threads: &[(String, u64)], name: &str| -> f64 {
            threads.iter().filter(|t| t.0.starts_with(name)).map(|t| t.1 as f64).sum()
        };
        let after = running.threads_ns();
        let each = |name: &str| (sum(&after, name) - sum(&before, name)) / datagrams;
        send = sender_ns as f64 / datagrams;
        stages = Stages { send, network: 0.0, receive: each("receive"), write: each("write"), seal: each("seal") };
        Ok((warm, all))
    })?;
    // What the sender's own system call does not need is the stack's: IP, UDP and the socket's queue. A half each is what profiles
    // of loopback show.
    stages.network = send / 2.0;
    Ok(stages)
}

/// flowlane's choice of a core for an exporter's address.
fn owner(address: u32, cores: usize) -> usize {
    (address.wrapping_mul(0x9e37_79b1) >> 16) as usize % cores.max(1)
}

/// The highest rate, and what bounds it, where each core has so much fixed work a datagram of all (nanoseconds).
fn highest(fixed: &[f64], stages: Stages, writes: bool) -> (f64, &'static str) {
    let (write, seal) = if writes { (stages.write, stages.seal) } else { (0.0, 0.0) };
    let busiest = fixed.iter().copied().fold(0.0, f64::max);
    let all = fixed.iter().sum::<f64>() + write + seal;
    let bounds = [
        (1e9 / busiest, "core"),
        (1e9 * fixed.len() as f64 / all, "cores"),
        (1e9 / write, "write"),
        (1e9 / seal, "seal"),
    ];
    bounds.into_iter().min_by(|a, b| a.0.total_cmp(&b.0)).unwrap_or((0.0, "core"))
}

/// A small generator of numbers (SplitMix64), so that every run draws alike.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }
}

fn simulate(stages: Stages) -> Vec<Cell> {
    let mut cells = Vec::new();
    for writes in [true, false] {
        for (exporters, is_skewed) in
            [(10, false), (100, false), (1000, false), (10_000, false), (100, true), (1000, true)]
        {
            for by_port in [false, true] {
                for cores in [1, 2, 4, 8, 16, 32, 64] {
                    cells.push(cell(
                        stages,
                        Cell {
                            cores,
                            exporters,
                            is_skewed,
                            by_port,
                            writes,
                            median: 0.0,
                            worst: 0.0,
                            bound: String::new(),
                        },
                    ));
                }
            }
        }
    }
    cells
}

fn cell(stages: Stages, asked: Cell) -> Cell {
    let Cell { cores, exporters, is_skewed, by_port, writes, .. } = asked;
    let weight = |e: u32| if is_skewed { 1.0 / f64::from(e + 1) } else { 1.0 };
    let total: f64 = (0..exporters).map(weight).sum();
    let ports = if by_port { PORTS } else { 1 };
    let mut rates: Vec<(f64, &'static str)> = (0..DRAWS)
        .map(|draw| {
            let mut random = Random(draw);
            let mut fixed = vec![0.0; cores];
            // Loopback addresses of routers are neighbours, some networks of them.
            let networks: Vec<u32> = (0..8).map(|_| random.next() as u32 & 0xffff_ff00).collect();
            for exporter in 0..exporters {
                let address = networks[exporter as usize % networks.len()] + exporter / 8;
                for port in 0..ports {
                    let share = weight(exporter) / total / f64::from(ports);
                    // The port is mixed into the hash like a part of the address.
                    let core = owner(address ^ port.wrapping_mul(0x85eb_ca6b), cores);
                    fixed[core] += share * stages.receive;
                    fixed[random.next() as usize % cores.min(QUEUES)] += share * stages.network;
                }
            }
            highest(&fixed, stages, writes)
        })
        .collect();
    rates.sort_by(|a, b| a.0.total_cmp(&b.0));
    let middle = rates.get(rates.len() / 2).copied().unwrap_or_default();
    Cell {
        median: median(rates.iter().map(|r| r.0)).unwrap_or(0.0),
        worst: rates[0].0,
        bound: middle.1.to_owned(),
        ..asked
    }
}

/// The stages, the checks, and the predictions.
pub fn tables(scale: &Scale) -> Vec<(&'static str, Table)> {
    let mut stages = Table::new(1, &["stage", "ns a datagram", "runs on"]);
    let s = scale.stages;
    for (name, ns, on) in [
        ("sending", s.send, "a core of the sender's"),
        ("network stack", s.network, "the core of the NIC's queue"),
        ("receive and decode", s.receive, "the exporter's core"),
        ("write", s.write, "one thread, any core"),
        ("seal", s.seal, "one thread, any core"),
    ] {
        stages.row([name.to_owned(), number(ns), on.to_owned()]);
    }
    let mut checks =
        Table::new(1, &["cores", "predicted datagrams/s", "measured without loss", "measured / predicted"]);
    for c in &scale.checks {
        checks.row([c.cores.to_string(), number(c.predicted), number(c.measured), number(c.measured / c.predicted)]);
    }
    let head = [
        "exporters",
        "rates",
        "core by",
        "writes",
        "cores",
        "datagrams/s",
        "flows/s",
        "worst draw",
        "times one core",
        "bound by",
    ];
    let mut cells = Table::new(4, &head);
    // Enough to read; the raw data has all. Where rows are written, exporters make no difference.
    let is_shown = |c: &&Cell| match c.writes {
        true => c.exporters == 1000 && !c.by_port,
        false => c.exporters < 10_000,
    };
    for c in scale.cells.iter().filter(|c| [1, 4, 16, 64].contains(&c.cores)).filter(is_shown) {
        let same = |o: &&Cell| {
            let key = |c: &Cell| (c.exporters, c.is_skewed, c.by_port, c.writes);
            key(o) == key(c) && o.cores == 1
        };
        let one = scale.cells.iter().find(same).map_or(f64::NAN, |o| o.median);
        cells.row([
            c.exporters.to_string(),
            if c.is_skewed { "Zipf" } else { "equal" }.to_owned(),
            if c.by_port { "address and port" } else { "address" }.to_owned(),
            if c.writes { "Parquet" } else { "nothing" }.to_owned(),
            c.cores.to_string(),
            number(c.median),
            number(c.median * scale.flows_per_datagram),
            number(c.worst),
            number(c.median / one),
            c.bound.clone(),
        ]);
    }
    vec![("Stages", stages), ("The model against measurement", checks), ("Cores", cells)]
}

/// Rate by cores.
pub fn chart(scale: &Scale) -> String {
    let mut lines: Points<f64> = Vec::new();
    for (name, exporters, is_skewed, by_port, writes) in [
        ("ideal, decoded only", 10_000, false, true, false),
        ("1000 equal, decoded only", 1000, false, false, false),
        ("1000 Zipf, decoded only", 1000, true, false, false),
        ("1000 Zipf by port, decoded only", 1000, true, true, false),
        ("1000 equal, Parquet", 1000, false, false, true),
    ] {
        let of = scale
            .cells
            .iter()
            .filter(|c| (c.exporters, c.is_skewed, c.by_port, c.writes) == (exporters, is_skewed, by_port, writes));
        lines.push((name.to_owned(), of.map(|c| (c.cores as f64, c.median * scale.flows_per_datagram)).collect()));
    }
    chart::lines("Rate by cores (model)", ("cores", "flows a second"), &lines, (true, true))
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAGES: Stages = Stages { send: 3000.0, network: 1000.0, receive: 3000.0, write: 500.0, seal: 1500.0 };

    #[test]
    fn each_bound_is_the_one_that_is_met_first() {
        assert_eq!(highest(&[3000.0, 1000.0], STAGES, false), (1e9 / 3000.0, "core"));
        assert_eq!(highest(&[1000.0, 1000.0], STAGES, true), (2e9 / 4000.0, "cores"));
        assert_eq!(highest(&[100.0; 8], STAGES, true), (1e9 / 1500.0, "seal"));
    }

    #[test]
    fn skew_costs_and_ports_help() {
        let at = |is_skewed, by_port| {
            let asked = Cell {
                cores: 16,
                exporters: 100,
                is_skewed,
                by_port,
                writes: false,
                median: 0.0,
                worst: 0.0,
                bound: String::new(),
            };
            cell(STAGES, asked)
        };
        let (equal, skewed, ports) = (at(false, false), at(true, false), at(true, true));
        assert!(equal.median > skewed.median && ports.median > skewed.median, "{equal:?} {skewed:?} {ports:?}");
        assert!(skewed.worst <= skewed.median && skewed.bound == "core");
        // One exporter has a fifth of all: its core alone bounds the rate.
        assert!(skewed.median < 1e9 / STAGES.receive * 5.3);
    }
}
