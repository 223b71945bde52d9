//! Where it was measured.

use anyhow::bail;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

/// Who runs where.
#[derive(Clone, Debug)]
pub struct Cores {
    /// The core that sends.
    pub sender: usize,
    /// The cores of the collector: one, but where it is about several.
    pub receivers: Vec<usize>,
}

impl Cores {
    /// The first two that this process may use, or what was asked for.
    ///
    /// # Errors
    /// There are not two: sender and receiver would take each other's time.
    pub fn choose(sender: Option<usize>, receiver: Option<usize>) -> anyhow::Result<Self> {
        let allowed = nix::sched::sched_getaffinity(nix::unistd::Pid::from_raw(0))?;
        let mut free = (0..nix::sched::CpuSet::count()).filter(|&c| allowed.is_set(c).unwrap_or(false));
        let first = sender.or_else(|| free.find(|&c| Some(c) != receiver));
        let second = receiver.or_else(|| free.find(|&c| Some(c) != first));
        match (first, second) {
            (Some(sender), Some(receiver)) if sender != receiver => Ok(Self { sender, receivers: vec![receiver] }),
            _ => bail!("a sender and a collector need a core each"),
        }
    }
}

/// The machine, the commit and the programs of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// The model of the processor.
    pub processor: String,
    /// Its cores.
    pub cores: usize,
    /// The kernel.
    pub kernel: String,
    /// The commit of the checkout that this was built in.
    pub commit: String,
    /// Seconds since 1970.
    pub time: u64,
    /// The collectors and their versions.
    pub peers: BTreeMap<String, String>,
    /// The collectors that are missing, and how to get them.
    pub missing: BTreeMap<String, String>,
}

impl Machine {
    /// This one.
    pub fn here() -> Self {
        let line = |file: &str, name: &str| {
            let text = std::fs::read_to_string(file).unwrap_or_default();
            let found =
                text.lines().find_map(|l| Some(l.strip_prefix(name)?.trim_start_matches([' ', '\t', ':']).to_owned()));
            found.unwrap_or_default()
        };
        let commit = Command::new("git")
            .args(["-C", env!("CARGO_MANIFEST_DIR"), "describe", "--always", "--dirty", "--exclude=*"])
            .output();
        Self {
            processor: line("/proc/cpuinfo", "model name"),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            kernel: line("/proc/sys/kernel/osrelease", ""),
            commit: commit.map(|o| String::from_utf8_lossy(&o.stdout).trim().to_owned()).unwrap_or_default(),
            time: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs()),
            ..Self::default()
        }
    }
}
