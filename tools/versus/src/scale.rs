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
    /// The network stack below the socket, where a NIC's interrupt puts it. On loopback it is a part of sending, and not measured: a
    /// share of that is assumed.
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
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Cell {
    /// Cores.
    pub cores: usize,
    /// Exporters.
    pub exporters: u32,
    /// Their rates: all equal, or by Zipf's law.
    pub is_skewed: bool,
    /// Whether the greatest of them are dealt out by their domains or ports (`--spread`).
    pub is_spread: bool,
    /// Whether rows are written, or decoded and no more.
    pub writes: bool,
    /// Datagrams a second: the median over exporters' addresses.
    pub median: f64,
    /// And the worst of them.
    pub worst: f64,
    /// What bounds the median: `core`, `cores`, `write` or `seal`.
    pub bound: String,
    /// Datagrams that the busiest core receives, as a multiple of an even share: the median over exporters' addresses.
    pub busiest: f64,
    /// And the most of them.
    pub busiest_worst: f64,
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
/// Domains, or source ports, of an exporter that is dealt out: its line cards.
const CARDS: u32 = 8;
/// Exporters that flowlane deals out, at most.
const SPREAD: u32 = 16;
/// Sets of exporters' addresses that are tried.
const DRAWS: u64 = 100;

/// Of what sending costs, what the receiving side's network stack is assumed to take: profiles of loopback show about a half each.
const NETWORK_SHARE: f64 = 0.5;
/// The model holds where prediction and measurement are within this factor.
const HOLDS_WITHIN: f64 = 1.5;

impl Check {
    /// Measured, as a multiple of what was predicted.
    fn ratio(&self) -> f64 {
        self.measured / self.predicted
    }

    /// Whether the model says about what was measured.
    pub fn holds(&self) -> bool {
        (1.0 / HOLDS_WITHIN..=HOLDS_WITHIN).contains(&self.ratio())
    }
}

/// What has to be known of the numbers: what is assumed, and where the model is not what was measured.
pub fn notes(scale: &Scale) -> Vec<String> {
    let assumed = format!(
        "The network stack's time is assumed, not measured: {:.0} % of what sending costs here. A NIC's driver may take more or less.",
        100.0 * NETWORK_SHARE
    );
    let wrong = scale.checks.iter().filter(|c| !c.holds()).map(|c| {
        let (cores, plural, ratio) = (c.cores, if c.cores == 1 { "" } else { "s" }, number(c.ratio()));
        format!(
            "The model does not hold on {cores} core{plural}: measured is {ratio} of what it predicts, beyond a factor of {HOLDS_WITHIN}. \
             Do not rely on what it says of more cores."
        )
    });
    [assumed].into_iter().chain(wrong).collect()
}

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
        let search = Search {
            round: 1,
            seconds: seconds.min(1.5),
            first: predicted / 2.0,
            within: 0.05,
            trains: false,
            rotate: None,
        };
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
    arena.hold(&Flowlane { threads: 1 }, Files { rotate: Some(1), ..Files::default() }, |place, running| {
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
    // What the sender's own system call does not need is the stack's: IP, UDP and the socket's queue.
    stages.network = NETWORK_SHARE * send;
    Ok(stages)
}

/// As flowlane steers datagrams.
const MULTIPLIER: u32 = 0x9e37_79b1;

/// flowlane's choice of a core for an exporter's address.
fn owner(address: u32, cores: usize) -> usize {
    (address.wrapping_mul(MULTIPLIER) >> 16) as usize % cores.max(1)
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

/// Exporters, and whether their rates follow Zipf's law.
const CROWDS: [(u32, bool); 7] =
    [(1, false), (10, false), (100, false), (1000, false), (10_000, false), (100, true), (1000, true)];
const CORES: [usize; 7] = [1, 2, 4, 8, 16, 32, 64];

fn simulate(stages: Stages) -> Vec<Cell> {
    let mut cells = Vec::new();
    for writes in [true, false] {
        for (exporters, is_skewed) in CROWDS {
            for is_spread in [false, true] {
                for cores in CORES {
                    let asked = Cell { cores, exporters, is_skewed, is_spread, writes, ..Cell::default() };
                    cells.push(cell(stages, asked));
                }
            }
        }
    }
    cells
}

fn cell(stages: Stages, asked: Cell) -> Cell {
    let Cell { cores, exporters, is_skewed, is_spread, writes, .. } = asked;
    let weight = |e: u32| if is_skewed { 1.0 / f64::from(e + 1) } else { 1.0 };
    let total: f64 = (0..exporters).map(weight).sum();
    let (mut rates, mut busiest): (Vec<(f64, &'static str)>, Vec<f64>) = (Vec::new(), Vec::new());
    for draw in 0..DRAWS {
        let mut random = Random(draw);
        let (mut received, mut fixed) = (vec![0.0; cores], vec![0.0; cores]);
        // Addresses of routers are neighbours, some networks of them.
        let networks: Vec<u32> = (0..8).map(|_| random.next() as u32 & 0xffff_ff00).collect();
        for exporter in 0..exporters {
            let address = networks[exporter as usize % networks.len()] + exporter / 8;
            // The first are the greatest.
            let cards = if is_spread && exporter < SPREAD { CARDS } else { 1 };
            let share = weight(exporter) / total / f64::from(cards);
            for _ in 0..cards {
                let card = random.next();
                let key = address.wrapping_mul(MULTIPLIER) ^ (card as u32 & 0xffff);
                let core = owner(if cards > 1 { key } else { address }, cores);
                received[core] += share;
                fixed[core] += share * stages.receive;
                fixed[(card >> 32) as usize % cores.min(QUEUES)] += share * stages.network;
            }
        }
        rates.push(highest(&fixed, stages, writes));
        busiest.push(received.iter().copied().fold(0.0, f64::max) * cores as f64);
    }
    rates.sort_by(|a, b| a.0.total_cmp(&b.0));
    let middle = rates.get(rates.len() / 2).copied().unwrap_or_default();
    Cell {
        median: median(rates.iter().map(|r| r.0)).unwrap_or(0.0),
        worst: rates[0].0,
        bound: middle.1.to_owned(),
        busiest_worst: busiest.iter().copied().fold(0.0, f64::max),
        busiest: median(busiest).unwrap_or(0.0),
        ..asked
    }
}

/// The stages, the checks, and the predictions, each with its name and title.
pub fn tables(scale: &Scale) -> Vec<(&'static str, &'static str, Table)> {
    let mut stages = Table::new(1, &["stage", "ns a datagram", "runs on"]);
    let s = scale.stages;
    for (name, ns, on) in [
        ("sending", s.send, "a core of the sender's"),
        ("network stack (assumed: half of sending)", s.network, "the core of the NIC's queue"),
        ("receive and decode", s.receive, "the exporter's core"),
        ("write", s.write, "one thread, any core"),
        ("seal", s.seal, "one thread, any core"),
    ] {
        stages.row([name.to_owned(), number(ns), on.to_owned()]);
    }
    let mut checks =
        Table::new(1, &["cores", "predicted datagrams/s", "measured without loss", "measured / predicted", "holds"]);
    for c in &scale.checks {
        let holds = if c.holds() { "yes" } else { "no" }.to_owned();
        checks.row([c.cores.to_string(), number(c.predicted), number(c.measured), number(c.ratio()), holds]);
    }
    vec![
        ("stages", "Stages", stages),
        ("checks", "The model against measurement", checks),
        ("cores", "Flows a second by cores", by_cores(scale)),
        ("skew", "The busiest core's datagrams, times an even share: median (worst) over addresses", skew(scale)),
    ]
}

/// Cells that differ in their cores alone, by crowd, and whether the greatest exporters are dealt out.
fn crowds(scale: &Scale, writes: bool) -> impl Iterator<Item = (Vec<String>, Vec<&Cell>)> {
    let crowd = move |(exporters, is_skewed): (u32, bool), is_spread: bool| {
        let wanted = (exporters, is_skewed, is_spread, writes);
        let is_of = move |c: &&Cell| (c.exporters, c.is_skewed, c.is_spread, c.writes) == wanted;
        let rates = if is_skewed { "Zipf" } else { "equal" };
        let names =
            [exporters.to_string(), rates.to_owned(), if is_spread { "16 greatest" } else { "none" }.to_owned()];
        (names.to_vec(), scale.cells.iter().filter(is_of).collect())
    };
    CROWDS.into_iter().flat_map(move |c| [crowd(c, false), crowd(c, true)])
}

fn by_cores(scale: &Scale) -> Table {
    let numbers = CORES.map(|c| c.to_string());
    let mut head = vec!["exporters", "rates", "dealt out", "kept"];
    head.extend(numbers.iter().map(String::as_str));
    head.extend(["worst of 64", "bound by"]);
    let mut table = Table::new(4, &head);
    for writes in [false, true] {
        // One thread that writes and one that seals bound all crowds alike.
        let shown = crowds(scale, writes).filter(|(names, _)| !writes || (names[0] == "1000" && names[2] == "none"));
        for (mut names, cells) in shown {
            let flows = |rate: f64| number(rate * scale.flows_per_datagram);
            names.push(if writes { "Parquet" } else { "nothing" }.to_owned());
            names.extend(cells.iter().map(|c| flows(c.median)));
            let last = cells.last();
            names.extend(last.map(|c| [flows(c.worst), c.bound.clone()]).into_iter().flatten());
            table.row(names);
        }
    }
    table
}

fn skew(scale: &Scale) -> Table {
    let shown = [4, 16, 64];
    let mut table = Table::new(3, &["exporters", "rates", "dealt out", "4 cores", "16 cores", "64 cores"]);
    for (mut names, cells) in crowds(scale, false) {
        let cells = cells.iter().filter(|c| shown.contains(&c.cores));
        names.extend(cells.map(|c| format!("{} ({})", number(c.busiest), number(c.busiest_worst))));
        table.row(names);
    }
    table
}

/// Rate by cores.
pub fn chart(scale: &Scale) -> String {
    let mut lines: Points<f64> = Vec::new();
    for (name, exporters, is_skewed, is_spread, writes) in [
        ("10,000 equal", 10_000, false, false, false),
        ("1,000 by Zipf's law, 16 dealt out", 1000, true, true, false),
        ("1,000 by Zipf's law", 1000, true, false, false),
        ("one, dealt out", 1, false, true, false),
        ("one", 1, false, false, false),
        ("1,000 equal, kept as Parquet", 1000, false, false, true),
    ] {
        let wanted = (exporters, is_skewed, is_spread, writes);
        let of = scale.cells.iter().filter(|c| (c.exporters, c.is_skewed, c.is_spread, c.writes) == wanted);
        lines.push((name.to_owned(), of.map(|c| (c.cores as f64, c.median * scale.flows_per_datagram)).collect()));
    }
    let title = "Rate by cores and exporters, by the model: decoded, not kept, but where it says so";
    chart::lines(title, ("cores", "flows/s"), &lines, (true, true))
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
    fn a_model_that_does_not_hold_is_named() {
        let check = |cores, measured| Check { cores, predicted: 100.0, measured };
        let scale = |checks| Scale { stages: STAGES, flows_per_datagram: 30.0, checks, cells: Vec::new() };
        let held = notes(&scale(vec![check(1, 149.0), check(2, 67.0)]));
        assert!(held.len() == 1 && held[0].contains("assumed, not measured: 50 %"), "{held:?}");
        let failed = notes(&scale(vec![check(1, 151.0), check(2, 66.0), check(3, 0.0)]));
        assert_eq!(failed.len(), 4);
        assert!(failed[1].contains("does not hold on 1 core: measured is 1.51 of"), "{failed:?}");
        assert!(failed[2].contains("does not hold on 2 cores: measured is 0.66 of"), "{failed:?}");
        let of_two = scale(vec![check(1, 100.0), check(2, 300.0)]);
        let text = tables(&of_two).into_iter().find(|t| t.0 == "checks").map(|t| t.2.markdown()).unwrap();
        assert!(text.contains("| 1.00 | yes |") && text.contains("| 3.00 | no |"), "{text}");
    }

    #[test]
    fn skew_costs_and_dealing_out_helps() {
        let at = |is_skewed, is_spread| {
            let asked = Cell { cores: 16, exporters: 100, is_skewed, is_spread, ..Cell::default() };
            cell(STAGES, asked)
        };
        let (equal, skewed, dealt) = (at(false, false), at(true, false), at(true, true));
        assert!(equal.median > skewed.median && dealt.median > skewed.median, "{equal:?} {skewed:?} {dealt:?}");
        assert!(skewed.worst <= skewed.median && skewed.bound == "core");
        assert!(equal.busiest < skewed.busiest && skewed.busiest <= skewed.busiest_worst, "{equal:?} {skewed:?}");
        // One exporter has a fifth of all: its core alone bounds the rate.
        assert!(skewed.median < 1e9 / STAGES.receive * 5.3);
    }

    #[test]
    fn one_exporter_has_one_core_until_it_is_dealt_out() {
        let at = |is_spread| cell(STAGES, Cell { cores: 16, exporters: 1, is_spread, ..Cell::default() });
        let (whole, dealt) = (at(false), at(true));
        assert_eq!((whole.busiest, whole.busiest_worst), (16.0, 16.0));
        assert!(dealt.busiest <= 8.0 && dealt.median > 1.5 * whole.median, "{dealt:?}");
    }
}
