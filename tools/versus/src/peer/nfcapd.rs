//! nfcapd of nfdump.

use super::{Peer, Place, Totals, program, says};
use anyhow::Context;
use std::process::Command;

/// `nfcapd`, its files plain or compressed by LZ4.
pub struct Nfcapd {
    /// `-y`.
    pub compressed: bool,
}

impl Peer for Nfcapd {
    fn name(&self) -> &'static str {
        if self.compressed { "nfcapd lz4" } else { "nfcapd" }
    }

    fn version(&self) -> Result<String, String> {
        let found = program("nfcapd").and_then(|p| says(&p, &["-V"]));
        found.ok_or_else(|| "apt install nfdump".to_owned())
    }

    fn command(&self, place: &Place) -> Command {
        let mut command = Command::new(program("nfcapd").unwrap_or_default());
        command.args(["-b", "127.0.0.1", "-p", &place.port.to_string()]);
        if let Some(bytes) = place.buffer {
            command.args(["-B", &bytes.to_string()]);
        }
        command.args(self.compressed.then_some("-y")).arg("-w").arg(place.kept());
        if let Some(seconds) = place.rotate {
            command.args(["-t", &seconds.to_string()]);
        }
        command
    }

    fn totals(&self, place: &Place) -> anyhow::Result<Totals> {
        let output = Command::new(program("nfdump").context("nfdump reads what nfcapd wrote")?)
            .args(["-I", "-R"])
            .arg(place.kept())
            .output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        let number = |name: &str| {
            let found = text.lines().find_map(|l| l.strip_prefix(name)?.trim().parse().ok());
            found.with_context(|| format!("no {name} in {text:?}"))
        };
        Ok(Totals { records: number("Flows:")?, octets: number("Bytes:")?, packets: number("Packets:")? })
    }

    fn echo(&self, command: &mut Command, port: u16) -> bool {
        command.args(["-R", &format!("127.0.0.1/{port}")]);
        true
    }
}
