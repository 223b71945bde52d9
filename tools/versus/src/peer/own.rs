//! A collector that is named on the command line: its command, and one that counts what it kept.

use super::{Peer, Place, Totals, buffer};
use anyhow::{Context, bail};
use std::process::Command;

/// Any collector.
pub struct Own {
    name: &'static str,
    command: String,
    totals: String,
}

impl Own {
    /// Of `NAME=COMMAND` and the command that counts.
    pub fn new(named: &str, totals: &str) -> anyhow::Result<Self> {
        let (name, command) = named.split_once('=').context("a collector of one's own is NAME=COMMAND")?;
        if !command.contains("{port}") {
            bail!("the command of {name} does not say {{port}}: nothing would be sent to it");
        }
        // For as long as the program runs.
        let name = Box::leak(name.trim().to_owned().into_boxed_str());
        Ok(Self { name, command: command.to_owned(), totals: totals.to_owned() })
    }
}

/// A shell that becomes the command, with the place's values in it.
fn shell(command: &str, place: &Place) -> Command {
    let values = [
        ("{port}", place.port.to_string()),
        ("{folder}", place.kept().display().to_string()),
        ("{buffer}", place.buffer.unwrap_or_else(buffer).to_string()),
    ];
    let text = values.iter().fold(command.to_owned(), |text, (name, value)| text.replace(name, value));
    let mut shell = Command::new("sh");
    shell.args(["-c", &text]);
    shell
}

impl Peer for Own {
    fn name(&self) -> &'static str {
        self.name
    }

    fn version(&self) -> Result<String, String> {
        Ok(self.command.clone())
    }

    fn command(&self, place: &Place) -> Command {
        // What ends it is sent to this process.
        shell(&format!("exec {}", self.command), place)
    }

    fn totals(&self, place: &Place) -> anyhow::Result<Totals> {
        let output = shell(&self.totals, place).output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        let numbers: Vec<u64> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        let [records, octets, packets] = numbers[..] else {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!("{} has to print records, bytes and packets, not {text:?} {said}", self.totals);
        };
        Ok(Totals { records, octets, packets })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    #[test]
    fn a_command_gets_its_place_and_three_numbers_are_its_sums() {
        let place = Place { port: 9995, folder: PathBuf::from("/tmp/x"), ..Place::default() };
        let own = Own::new("mine=collector --port {port} --out {folder}", "echo 1 2 3").unwrap();
        let words: Vec<_> = own.command(&place).get_args().map(|a| a.to_str().unwrap().to_owned()).collect();
        assert_eq!(
            (own.name(), &words[..]),
            ("mine", &["-c".to_owned(), "exec collector --port 9995 --out /tmp/x/kept".to_owned()][..])
        );
        assert_eq!(own.totals(&place).unwrap(), Totals { records: 1, octets: 2, packets: 3 });
        assert!(Own::new("mine=x {port}", "echo 1 2").unwrap().totals(&place).is_err());
        assert!(Own::new("x {port}", "echo").is_err() && Own::new("mine=x", "echo").is_err());
    }
}
