//! A long run at half the rate that a collector sustains without loss, its files being sealed meanwhile: nothing is lost, and
//! memory does not grow.

use crate::peer::Peer;
use crate::table::{Table, number};
use crate::trial::{Arena, FEW, Files, Held};
use crate::workload::{Load, Workload};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// What is asked of a soak.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// Datagrams a second.
    pub rate: f64,
    /// How long it lasts, warming up included.
    pub seconds: f64,
    /// How long memory may still grow at the start.
    pub warm: f64,
}

/// What came of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Soak {
    /// The workload's name.
    pub workload: String,
    /// The collector's name.
    pub peer: String,
    /// Datagrams a second.
    pub rate: f64,
    /// How long it lasted.
    pub seconds: f64,
    /// Flow records sent.
    pub sent: u64,
    /// Flow records written, those included whose files made room for others since.
    pub kept: u64,
    /// Datagrams that found the receive buffer full.
    pub kernel_drops: u64,
    /// Resident memory after warming up: seconds, and KiB.
    pub resident_kib: Vec<(f64, u64)>,
}

/// Memory may grow by this share.
pub const FLAT: f64 = 0.05;
/// A new file this often, so that sealing and removing are part of it.
const ROTATE: u32 = 10;
/// The same while the rate is searched that is sustained: a trial has some of them.
pub const SEARCH_ROTATE: u32 = 2;
/// And the oldest are removed beyond so many bytes: a long run at a high rate would fill any disk.
const KEEP: u64 = 1 << 30;

impl Soak {
    /// Whether all that was sent was kept.
    pub fn is_lossless(&self) -> bool {
        self.sent == self.kept
    }

    /// How much the memory of the second half is above that of the first half, as a share of it, by their means: memory goes up
    /// and down with every file that is sealed, and with every moment that the writer waits for the disk.
    pub fn growth(&self) -> f64 {
        let [first, second] = self.means();
        second / first.max(1.0) - 1.0
    }

    /// Mean memory of the first and the second half, KiB.
    fn means(&self) -> [f64; 2] {
        let (first, second) = self.resident_kib.split_at(self.resident_kib.len() / 2);
        [first, second].map(|half| half.iter().map(|s| s.1 as f64).sum::<f64>() / half.len().max(1) as f64)
    }

    /// Whether nothing was lost and memory stayed flat.
    pub fn holds(&self) -> bool {
        self.is_lossless() && self.growth() <= FLAT
    }
}

/// Sends a workload to a collector for as long as asked, and looks at its memory meanwhile.
///
/// # Errors
/// It does not run, or sending fails.
pub fn run(arena: &Arena, peer: &dyn Peer, workload: &Workload, asked: Asked) -> anyhow::Result<Soak> {
    let mut resident_kib = Vec::new();
    let time = Duration::from_secs_f64(asked.seconds);
    let load = Load { rate: asked.rate, time, trains: false, core: arena.cores.sender, distinct: FEW };
    // Nothing is compared here: it has the receive buffer that an operator has.
    let held = arena.hold(
        peer,
        Files { rotate: Some(ROTATE), keep_bytes: Some(KEEP), own_buffer: true, is_asked: false },
        |place, running| {
            let to = SocketAddr::from(([127, 0, 0, 1], place.port));
            let ended = AtomicBool::new(false);
            std::thread::scope(|scope| {
                let sending = scope.spawn(|| {
                    let sent = workload.send(to, load, || Ok(()));
                    ended.store(true, Ordering::Relaxed);
                    sent
                });
                let begun = Instant::now();
                while !ended.load(Ordering::Relaxed) {
                    std::thread::sleep(Duration::from_millis(250));
                    let at = begun.elapsed().as_secs_f64();
                    if at >= asked.warm {
                        resident_kib.push((at, running.resident_kib().0));
                    }
                }
                sending.join().map_err(|_| anyhow::anyhow!("the sending thread failed"))?
            })
        },
    )?;
    let Held { all, kept, kernel_drops, .. } = held;
    Ok(Soak {
        workload: workload.name.to_owned(),
        peer: peer.name().to_owned(),
        rate: asked.rate,
        seconds: all.duration.as_secs_f64(),
        sent: all.records,
        kept: kept.records,
        kernel_drops,
        resident_kib,
    })
}

/// Soaks, a row each.
pub fn table(soaks: &[Soak]) -> Table {
    let head = [
        "workload",
        "collector",
        "datagrams/s",
        "seconds",
        "flows sent",
        "flows lost",
        "dropped by the kernel",
        "mean MiB, first half",
        "second half",
        "growth",
        "peak MiB",
        "holds",
    ];
    let mut table = Table::new(2, &head);
    for soak in soaks {
        let [first, second] = soak.means();
        let peak = soak.resident_kib.iter().map(|s| s.1).max().unwrap_or(0) as f64;
        table.row([
            soak.workload.clone(),
            soak.peer.clone(),
            number(soak.rate),
            number(soak.seconds),
            soak.sent.to_string(),
            soak.sent.saturating_sub(soak.kept).to_string(),
            soak.kernel_drops.to_string(),
            number(first / 1024.0),
            number(second / 1024.0),
            format!("{:.1} %", 100.0 * soak.growth()),
            number(peak / 1024.0),
            if soak.holds() { "yes" } else { "no" }.to_owned(),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn soak(resident: &[u64]) -> Soak {
        Soak {
            workload: String::new(),
            peer: String::new(),
            rate: 1.0,
            seconds: 1.0,
            sent: 1,
            kept: 1,
            kernel_drops: 0,
            resident_kib: resident.iter().map(|&kib| (0.0, kib)).collect(),
        }
    }

    #[test]
    fn a_sawtooth_is_flat_and_a_slope_is_not() {
        assert!(soak(&[100, 200, 150, 100, 200, 160]).holds());
        assert!(!soak(&[100, 110, 120, 130, 140, 150]).holds());
        let lossy = Soak { kept: 0, ..soak(&[100, 100]) };
        assert!(!lossy.holds() && lossy.growth() == 0.0);
    }
}
