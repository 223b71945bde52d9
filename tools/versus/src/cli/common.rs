//! What every measurement asks: whom, what, where, and where the raw data goes.

use super::WrongUse;
use crate::machine::{Cores, Machine};
use crate::peer::{self, Own, Peer as _};
use crate::process::{end_together, pin};
use crate::raw::{Entry, Raw};
use crate::trial::Arena;
use crate::turns::Turns;
use crate::workload::{self, Workload};
use anyhow::{Context, bail};
use std::path::PathBuf;

/// Arguments that all measurements share.
#[derive(clap::Args)]
pub struct Common {
    /// Workloads, with commas between [default: all]; `versus list` names them
    #[arg(short, long, value_name = "NAMES", value_delimiter = ',')]
    workload: Vec<String>,
    /// Collectors, with commas between [default: all that are here]
    #[arg(short, long, value_name = "NAMES", value_delimiter = ',')]
    peer: Vec<String>,
    /// A collector of your own beside them: a single command with {port}, {folder}, and {buffer} where it has such a setting; SIGTERM has to
    /// end it
    #[arg(long, value_name = "NAME=COMMAND", requires = "totals")]
    command: Option<String>,
    /// What counts what it kept, once it has ended: prints records, bytes and packets of the flows in {folder}
    #[arg(long, value_name = "COMMAND", requires = "command")]
    totals: Option<String>,
    /// Append raw data to a file, a JSON object a line
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Append raw data to a file, comma-separated; `-` for standard output
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// Where collectors write while they run [default: the system's folder for temporary files]
    #[arg(long, value_name = "FOLDER", global = true)]
    dir: Option<PathBuf>,
    /// The core that sends [default: the first]
    #[arg(long, value_name = "N")]
    sender_core: Option<usize>,
    /// The core of the collector [default: the second]
    #[arg(long, value_name = "N")]
    receiver_core: Option<usize>,
}

/// What a measurement needs, checked.
pub struct Set {
    /// Where trials are held.
    pub arena: Arena,
    /// The collectors that were asked for and are here.
    pub turns: Turns,
    /// The workloads that were asked for.
    pub workloads: Vec<Workload>,
    /// Where raw data goes.
    pub raw: Raw,
}

impl Common {
    /// Whether raw data goes somewhere as CSV.
    pub fn has_csv(&self) -> bool {
        self.csv.is_some()
    }

    /// Where collectors write, where that was said.
    #[cfg(test)]
    pub fn dir(&self) -> Option<&std::path::Path> {
        self.dir.as_deref()
    }

    /// Whether workloads were named.
    pub fn names_workloads(&self) -> bool {
        !self.workload.is_empty()
    }

    /// Whether workloads or collectors were named.
    pub fn names(&self) -> bool {
        self.names_workloads() || !self.peer.is_empty() || self.command.is_some()
    }

    /// Finds what was asked for.
    ///
    /// # Errors
    /// A name that is none, no collector that is here, fewer than two cores, a file that cannot be written.
    pub fn prepare(&self) -> anyhow::Result<Set> {
        let mut workloads = workload::all();
        if let Some(unknown) = self.workload.iter().find(|w| workloads.iter().all(|known| known.name != *w)) {
            return Err(WrongUse(format!("there is no workload {unknown}; versus list names them")).into());
        }
        workloads.retain(|w| self.workload.is_empty() || self.workload.iter().any(|name| name == w.name));
        let (mut peers, mut named) = (peer::all(), self.peer.clone());
        if let (Some(command), Some(totals)) = (&self.command, &self.totals) {
            let own = Own::new(command, totals)?;
            // To give its command is to name it, unless others alone are named.
            if named.is_empty() {
                named.push(own.name().to_owned());
            }
            peers.push(Box::new(own));
        }
        if let Some(unknown) = self.peer.iter().find(|p| peers.iter().all(|known| known.name() != *p)) {
            return Err(WrongUse(format!("there is no collector {unknown}; versus list names them")).into());
        }
        peers.retain(|p| self.peer.is_empty() || self.peer.iter().any(|name| name == p.name()));
        let mut machine = Machine::here();
        peers.retain(|peer| match peer.version() {
            Ok(version) => machine.peers.insert(peer.name().to_owned(), version).is_none(),
            Err(how) => {
                eprintln!("versus: {} is missing; get it by: {how}", peer.name());
                machine.missing.insert(peer.name().to_owned(), how);
                false
            }
        });
        if peers.is_empty() {
            bail!("none of the collectors is here");
        }
        let base = self.dir.clone().unwrap_or_else(std::env::temp_dir);
        std::fs::create_dir_all(&base).with_context(|| format!("cannot write to {}", base.display()))?;
        let mut raw = Raw::open(self.json.as_deref(), self.csv.as_deref())?;
        raw.write(&Entry::Machine(machine))?;
        let cores = Cores::choose(self.sender_core, self.receiver_core)?;
        end_together()?;
        // What watches a collector does not run on its core.
        pin(&[cores.sender])?;
        Ok(Set { arena: Arena { cores, base }, turns: Turns::new(peers, named), workloads, raw })
    }
}

/// A number above zero and below one.
///
/// # Errors
/// What is expected.
pub fn share(text: &str) -> Result<f64, String> {
    positive(text).ok().filter(|share| *share < 1.0).ok_or_else(|| "a number above 0 and below 1".to_owned())
}

/// A number above zero.
///
/// # Errors
/// What is expected.
pub fn positive(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|n: &f64| n.is_finite() && *n > 0.0);
    number.ok_or_else(|| "a number above zero".to_owned())
}
