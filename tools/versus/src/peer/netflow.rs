//! The collector of Python's `netflow` package: a gzip file of JSON lines.

use super::{Peer, Place, Totals};
use anyhow::Context;
use nix::sys::signal::Signal;
use serde_json::{Map, Value};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::process::Command;

/// `python3 -m netflow.collector`. It has no setting for the receive buffer.
pub struct Netflow;

/// The interpreter that has the package: one of a virtual environment, if the variable names it.
fn python() -> String {
    std::env::var("VERSUS_PYTHON").unwrap_or_else(|_| "python3".to_owned())
}

impl Peer for Netflow {
    fn name(&self) -> &'static str {
        "netflow"
    }

    fn version(&self) -> Result<String, String> {
        let ask = "import importlib.metadata as m, sys; print('netflow', m.version('netflow'), 'Python', sys.version.split()[0])";
        let output = Command::new(python()).args(["-c", ask]).output().ok().filter(|o| o.status.success());
        let found = output.map(|o| String::from_utf8_lossy(&o.stdout).trim().to_owned());
        found.ok_or_else(|| "pip install netflow (VERSUS_PYTHON names the interpreter that has it)".to_owned())
    }

    fn command(&self, place: &Place) -> Command {
        let mut command = Command::new(python());
        command.args(["-m", "netflow.collector", "--host", "127.0.0.1", "-p", &place.port.to_string(), "-o"]);
        command.arg(place.kept().join("flows.gz"));
        command
    }

    fn totals(&self, place: &Place) -> anyhow::Result<Totals> {
        let file = File::open(place.kept().join("flows.gz")).context("it wrote nothing")?;
        let mut totals = Totals::default();
        for line in BufReader::new(flate2::read::MultiGzDecoder::new(file)).lines() {
            let entry: Map<String, Value> = serde_json::from_str(&line?)?;
            let flows = entry.values().filter_map(|message| message["flows"].as_array()).flatten();
            for flow in flows {
                let one_of = |names: &[&str]| names.iter().find_map(|n| flow[n].as_u64()).unwrap_or(0);
                totals.records += 1;
                totals.octets += one_of(&["IN_OCTETS", "IN_BYTES", "octetDeltaCount"]);
                totals.packets += one_of(&["IN_PACKETS", "IN_PKTS", "packetDeltaCount"]);
            }
        }
        Ok(totals)
    }

    fn pace(&self) -> f64 {
        100.0
    }

    fn signal(&self) -> Signal {
        Signal::SIGINT
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    /// `exact.py` must not start a collector for each recording that cannot run.
    #[test]
    fn exact_names_it_as_missing_at_once() {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/exact.py");
        let mut command = Command::new("python3");
        let output =
            command.args([script, "--peer", "netflow"]).env("VERSUS_PYTHON", "/no/such/python").output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), said.lines().count()), (Some(1), 1), "{said}");
        assert!(said.contains("netflow is missing; get it by: ") && said.contains("pip install netflow"), "{said}");
        assert!(output.stdout.is_empty());
    }
}
