//! What is sent.

use crate::process::pin;
use anyhow::Context;
use flowgen::{Delivery, Limits, Pace, Plan, Protocol, Replay, Sender, Sent, Speed, Template};
use nix::sys::time::TimeValLike;
use nix::time::{ClockId, clock_gettime};
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// Datagrams of one kind.
#[derive(Clone, Debug)]
pub struct Workload {
    /// What it is called.
    pub name: &'static str,
    /// What it is.
    pub about: &'static str,
    /// Where it comes from.
    pub traffic: Traffic,
}

/// Where datagrams come from.
#[derive(Clone, Debug)]
pub enum Traffic {
    /// flowgen makes them up.
    Made(Plan),
    /// Recordings, over and over; each file has exporters of its own.
    Captured(Vec<PathBuf>),
}

/// The sender is slower than it was asked to be: a receiver would look better than it is.
#[derive(Debug)]
pub struct TooSlow(f64);

impl fmt::Display for TooSlow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "this machine cannot send {:.0} datagrams a second", self.0)
    }
}

impl std::error::Error for TooSlow {}

/// How datagrams are sent.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Datagrams a second.
    pub rate: f64,
    /// For how long.
    pub time: Duration,
    /// As trains that the kernel cuts apart (UDP_SEGMENT).
    pub trains: bool,
    /// The core that sends.
    pub core: usize,
    /// Different messages of made up traffic: they go round.
    pub distinct: u32,
}

/// Every workload.
pub fn all() -> Vec<Workload> {
    let plan = |protocol, template, exporters| Plan {
        protocols: vec![protocol],
        templates: vec![template],
        exporters,
        records: Some(30),
        ..Plan::default()
    };
    use Protocol::{Ipfix, V5, V9};
    use Template::{Basic14, Ipv6, Variable, Wide23};
    let made = |name, about, plan| Workload { name, about, traffic: Traffic::Made(plan) };
    vec![
        made("v5", "NetFlow v5, 30 records, one exporter", plan(V5, Basic14, 1)),
        made("v9-14", "NetFlow v9, 14 fields of 40 bytes, 30 records", plan(V9, Basic14, 1)),
        made("v9-23", "NetFlow v9, 23 fields of 76 bytes", Plan { records: None, ..plan(V9, Wide23, 1) }),
        made("ipfix-14", "IPFIX, 14 fields of 40 bytes, 30 records", plan(Ipfix, Basic14, 1)),
        made("ipfix-23", "IPFIX, 23 fields of 76 bytes", Plan { records: None, ..plan(Ipfix, Wide23, 1) }),
        made(
            "ipfix-variable",
            "IPFIX, three texts of variable length",
            Plan { records: None, ..plan(Ipfix, Variable, 1) },
        ),
        made("ipfix-ipv6", "IPFIX, IPv6 addresses and 64-bit counters", Plan { records: None, ..plan(Ipfix, Ipv6, 1) }),
        made("v5-1000", "NetFlow v5 of 1,000 exporters in turn", plan(V5, Basic14, 1000)),
        made("ipfix-14-1000", "IPFIX of 1,000 exporters in turn, 14 fields", plan(Ipfix, Basic14, 1000)),
        made(
            "ipfix-crowd",
            "IPFIX of 1,000 exporters in turn, 52 templates each",
            Plan {
                templates: Template::ALL.to_vec(),
                layouts: 13,
                exporters: 1000,
                records: None,
                ..plan(Ipfix, Basic14, 1000)
            },
        ),
        made(
            "ipfix-alone",
            "the same of one exporter",
            Plan { templates: Template::ALL.to_vec(), layouts: 13, records: None, ..plan(Ipfix, Basic14, 1) },
        ),
        Workload {
            name: "captures",
            about: "recordings of real exporters (fixtures/), over and over",
            traffic: Traffic::Captured(captures()),
        },
    ]
}

/// The recordings of the checkout that this was built in.
pub fn captures() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures");
    let entries = std::fs::read_dir(folder).into_iter().flatten().filter_map(|e| Some(e.ok()?.path()));
    let mut files: Vec<PathBuf> = entries.filter(|f| f.extension().is_some_and(|e| e == "pcap")).collect();
    files.sort();
    files
}

/// Messages of each exporter before anything counts, templates among them.
const WARM: usize = 20;
/// How long they take at most, if one of each exporter takes no longer.
const WARM_SECONDS: f64 = 10.0;

/// How it is warmed up: messages in all, how many of them at once, and how long from those to the next. Slowly, for a receiver that
/// starts has pages to touch, and no faster than the load will be.
fn warming(exporters: usize, rate: f64) -> (usize, usize, Duration) {
    let each = exporters.max(10);
    let times = (WARM_SECONDS * rate / each as f64).clamp(1.0, WARM as f64);
    let step = ((rate / 100.0) as usize).clamp(1, each);
    (each * times as usize, step, Duration::from_secs_f64((step as f64 / rate).max(0.01)))
}

impl Workload {
    /// Sends it from a thread on the load's core: some for warming up, then, after `between`, the load. Gives what was
    /// sent before the load, and all.
    ///
    /// # Errors
    /// The network refuses, or [`TooSlow`].
    pub fn send(
        &self,
        to: SocketAddr,
        load: Load,
        between: impl FnOnce() -> anyhow::Result<()> + Send,
    ) -> anyhow::Result<(Sent, Sent)> {
        self.send_timed(to, load, between).map(|(warm, all, _)| (warm, all))
    }

    /// The same, with the processor time of the thread that sent the load, in nanoseconds.
    ///
    /// # Errors
    /// As [`Workload::send`].
    pub fn send_timed(
        &self,
        to: SocketAddr,
        load: Load,
        between: impl FnOnce() -> anyhow::Result<()> + Send,
    ) -> anyhow::Result<(Sent, Sent, u64)> {
        std::thread::scope(|scope| {
            let sending = scope.spawn(move || {
                pin(&[load.core])?;
                let used = || clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(0, |t| t.num_nanoseconds());
                let mut began = used();
                let (warm, all) = self.send_here(to, load, || {
                    let result = between();
                    began = used();
                    result
                })?;
                Ok((warm, all, u64::try_from(used() - began).unwrap_or(0)))
            });
            sending.join().map_err(|_| anyhow::anyhow!("the sending thread failed"))?
        })
    }

    fn send_here(
        &self,
        to: SocketAddr,
        load: Load,
        between: impl FnOnce() -> anyhow::Result<()>,
    ) -> anyhow::Result<(Sent, Sent)> {
        let limits = Limits { pace: Pace::Datagrams(load.rate), duration: Some(load.time), ..Limits::default() };
        let delivery = Delivery { trains: load.trains, limits, ..Delivery::to(to) };
        let (warm, all) = match &self.traffic {
            Traffic::Made(plan) => {
                made(&Plan { distinct: load.distinct, ..plan.clone() }, load.rate, &delivery, between)?
            }
            Traffic::Captured(files) => captured(files, load.rate, &delivery, between)?,
        };
        let asked = load.rate * load.time.as_secs_f64();
        if (all.datagrams - warm.datagrams) as f64 + 1.0 < asked {
            return Err(TooSlow(load.rate).into());
        }
        Ok((warm, all))
    }
}

fn made(
    plan: &Plan,
    rate: f64,
    delivery: &Delivery,
    between: impl FnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<(Sent, Sent)> {
    let mut sender = Sender::open(plan, delivery)?;
    let (mut left, step, pause) = warming(plan.exporters as usize, rate);
    while left > 0 {
        sender.send(step.min(left))?;
        left = left.saturating_sub(step);
        std::thread::sleep(pause);
    }
    let warm = sender.sent();
    between()?;
    sender.run(&AtomicBool::new(false))?;
    Ok((warm, sender.finish()?))
}

fn captured(
    files: &[PathBuf],
    rate: f64,
    delivery: &Delivery,
    between: impl FnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<(Sent, Sent)> {
    let mut all = None::<Replay>;
    for file in files {
        let one = Replay::open(file)?;
        anyhow::ensure!(one.cut().is_empty(), "{} ends in the middle of a block", file.display());
        match &mut all {
            // Where a template comes after its data, who holds data would count more than was sent.
            _ if one.unknown_sets() > 0 => {}
            Some(all) => all.append(file)?,
            None => all = Some(one),
        }
    }
    let mut replay = all.context("the checkout has no fixtures/")?;
    replay.speed = Speed::Paced;
    let go_on = AtomicBool::new(false);
    let slow = Limits { pace: Pace::Datagrams(rate.min(1000.0)), ..Limits::default() };
    let warm = replay.send(&Delivery { limits: slow, ..delivery.clone() }, &go_on)?;
    between()?;
    replay.repeat = u64::MAX / replay.messages() as u64;
    let mut all = replay.send(delivery, &go_on)?;
    let duration = all.duration;
    all += warm;
    all.duration = duration;
    Ok((warm, all))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warming_up_is_no_faster_than_the_load_and_meets_every_exporter() {
        let pause = Duration::from_millis(10);
        assert_eq!(warming(1, 40_000.0), (200, 10, pause));
        assert_eq!(warming(1000, 40_000.0), (20_000, 400, pause));
        assert_eq!(warming(1000, 2000.0), (20_000, 20, pause));
        // Python's: one of each, a hundred a second.
        assert_eq!(warming(1000, 100.0), (1000, 1, pause));
        assert_eq!(warming(1, 50.0), (200, 1, 2 * pause));
        assert_eq!(warming(1, 2.0), (20, 1, 50 * pause));
    }
}
