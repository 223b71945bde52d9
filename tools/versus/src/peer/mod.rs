//! The collectors that are compared. A peer is one small file here, its `mod` and a line in [`all`].

mod flowlane;
mod goflow2;
mod netflow;
mod nfacctd;
mod nfcapd;
mod own;

pub use flowlane::Flowlane;
pub use own::Own;

use crate::workload::Workload;
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A collector in one of its set-ups.
pub trait Peer: Sync {
    /// What it is called, its set-up included.
    fn name(&self) -> &'static str;

    /// Whether it is here: its version, or how to get it.
    ///
    /// # Errors
    /// How to install it.
    fn version(&self) -> Result<String, String>;

    /// The command that listens on a port of 127.0.0.1 and writes into a folder, as its users would run it, with the place's
    /// receive buffer. It prints into `stdout` and `stderr` of the folder above.
    fn command(&self, place: &Place) -> Command;

    /// What it says it has got, read from what it wrote, after it has ended.
    ///
    /// # Errors
    /// Its output cannot be read.
    fn totals(&self, place: &Place) -> anyhow::Result<Totals>;

    /// Whether it knows the workload's protocol.
    fn takes(&self, _workload: &Workload) -> bool {
        true
    }

    /// Datagrams a second that it takes without loss on any machine of today; it is asked for no more where costs are
    /// compared.
    fn pace(&self) -> f64 {
        f64::INFINITY
    }

    /// Makes it repeat each datagram to a port of 127.0.0.1; whether it can.
    fn echo(&self, _command: &mut Command, _port: u16) -> bool {
        false
    }

    /// Pages that show its exporters, where it answers over HTTP ([`Place::http`]).
    fn pages(&self) -> &'static [&'static str] {
        &[]
    }

    /// What ends it, with all that it has got written.
    fn signal(&self) -> Signal {
        Signal::SIGTERM
    }
}

/// The receive buffer that every collector asks for, bytes: what the system lets everybody have, 16 MiB at most.
pub fn buffer() -> u32 {
    let text = std::fs::read_to_string("/proc/sys/net/core/rmem_max").unwrap_or_default();
    text.trim().parse::<u32>().unwrap_or(1 << 20).clamp(1 << 20, 16 << 20)
}

/// Where a collector runs.
#[derive(Clone, Debug, Default)]
pub struct Place {
    /// The port of 127.0.0.1.
    pub port: u16,
    /// A folder for what it prints and for files of set-up.
    pub folder: PathBuf,
    /// Seconds after which it begins a new file; without a number, its own default.
    pub rotate: Option<u32>,
    /// Its receive buffer, bytes, where it has such a setting: [`buffer`] where some are compared; without a number, its own default.
    pub buffer: Option<u32>,
    /// Bytes of files beyond which it removes the oldest, if it can; without a number, it keeps all. What it has kept then is
    /// known by its own count alone, of records.
    pub keep_bytes: Option<u64>,
    /// The port of 127.0.0.1 at which it answers over HTTP, if it can.
    pub http: Option<u16>,
}

impl Place {
    /// A folder for what it keeps, and nothing else.
    pub fn kept(&self) -> PathBuf {
        self.folder.join("kept")
    }
}

/// Sums over what was kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Flow records.
    pub records: u64,
    /// The sum of their bytes.
    pub octets: u64,
    /// The sum of their packets.
    pub packets: u64,
}

/// Every peer, flowlane first.
pub fn all() -> Vec<Box<dyn Peer>> {
    vec![
        Box::new(Flowlane { threads: 1 }),
        Box::new(nfcapd::Nfcapd { compressed: false }),
        Box::new(nfcapd::Nfcapd { compressed: true }),
        Box::new(nfacctd::Nfacctd),
        Box::new(goflow2::Goflow2),
        Box::new(netflow::Netflow),
    ]
}

/// A program: of this build, beside this one, or in the PATH.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    let beside = std::env::current_exe().ok().and_then(|exe| Some(exe.parent()?.join(name)));
    let folders = std::env::var_os("PATH").unwrap_or_default();
    // Where Debian keeps some collectors, and where Go puts what it installs.
    let home = std::env::var_os("HOME").map(|home| Path::new(&home).join("go/bin"));
    let more = [PathBuf::from("/usr/sbin")].into_iter().chain(home);
    let in_path = std::env::split_paths(&folders).chain(more).map(|f| f.join(name)).collect::<Vec<_>>();
    beside.into_iter().chain(in_path).find(|p| p.is_file())
}

/// The first line that a program prints, on whichever of its outputs.
pub(crate) fn says(program: &Path, args: &[&str]) -> Option<String> {
    let output = Command::new(program).args(args).output().ok()?;
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    text.lines().map(str::trim).find(|l| !l.is_empty()).map(str::to_owned)
}
