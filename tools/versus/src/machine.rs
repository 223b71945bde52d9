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
    /// The commit of the checkout that this was built in, as that stands when it runs: build before you measure.
    pub commit: String,
    /// Seconds since 1970.
    pub time: u64,
    /// What was run.
    #[serde(default)]
    pub command: String,
    /// The collectors and their versions.
    #[serde(default)]
    pub peers: BTreeMap<String, String>,
    /// The collectors that are missing, and how to get them.
    #[serde(default)]
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
            command: command(),
            ..Self::default()
        }
    }

    /// The day, in UTC.
    pub fn date(&self) -> String {
        // Days since the first of March of the year 0: leap days come last.
        let days = self.time / 86_400 + 719_468;
        let (era, day) = (days / 146_097, days % 146_097);
        let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
        let day = day - (365 * year + year / 4 - year / 100);
        let month = (5 * day + 2) / 153;
        let (day, month) = (day - (153 * month + 2) / 5 + 1, if month < 10 { month + 3 } else { month - 9 });
        format!("{:04}-{month:02}-{day:02}", era * 400 + year + u64::from(month < 3))
    }
}

/// The command line, without what is of this machine alone: the folder of the program, and where raw data goes.
fn command() -> String {
    let mut words = vec!["versus".to_owned()];
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--json" | "--csv" | "--dir" => _ = args.next(),
            word if ["--json=", "--csv=", "--dir="].iter().any(|a| word.starts_with(a)) => {}
            word if word.contains(' ') => words.push(format!("'{word}'")),
            _ => words.push(arg),
        }
    }
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_those_of_the_calendar() {
        let date = |time| Machine { time, ..Machine::default() }.date();
        let times = [0, 951_782_400, 1_709_164_800, 1_735_689_599, 1_795_651_200, 4_107_542_400];
        let dates = ["1970-01-01", "2000-02-29", "2024-02-29", "2024-12-31", "2026-11-26", "2100-03-01"];
        assert_eq!(times.map(date), dates);
    }
}
