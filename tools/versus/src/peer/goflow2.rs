//! goflow2: protobuf messages into a file.

use super::{Peer, Place, Totals, program, says};
use anyhow::{Context, bail};
use std::path::Path;
use std::process::Command;

/// `goflow2 -format bin`, its fastest output. It has no setting for the receive buffer.
pub struct Goflow2;

impl Peer for Goflow2 {
    fn name(&self) -> &'static str {
        "goflow2"
    }

    fn version(&self) -> Result<String, String> {
        // What `go install` built does not know its own version, but the go command does.
        let module = |path: &Path| {
            let output = Command::new("go").args(["version", "-m"]).arg(path).output().ok()?;
            let text = String::from_utf8_lossy(&output.stdout);
            let version = text
                .lines()
                .find_map(|line| line.trim().strip_prefix("mod")?.split_whitespace().nth(1).map(str::to_owned));
            Some(format!("goflow2 {}", version?))
        };
        let found = program("goflow2").and_then(|p| module(&p).or_else(|| says(&p, &["-v"])));
        found.ok_or_else(|| "go install github.com/netsampler/goflow2/v2/cmd/goflow2@latest".to_owned())
    }

    fn command(&self, place: &Place) -> Command {
        let mut command = Command::new(program("goflow2").unwrap_or_default());
        command.args(["-listen", &format!("netflow://127.0.0.1:{}", place.port), "-addr", "127.0.0.1:0"]);
        command.args(["-loglevel", "error", "-format", "bin", "-transport", "file", "-transport.file.sep", ""]);
        command.arg("-transport.file").arg(place.kept().join("flows.bin"));
        command
    }

    fn totals(&self, place: &Place) -> anyhow::Result<Totals> {
        let bytes = std::fs::read(place.kept().join("flows.bin"))?;
        sums(&bytes).context("flows.bin is cut short")
    }

    fn pace(&self) -> f64 {
        2_000.0
    }
}

/// The sums over messages, each after its length: fields 9 (bytes) and 10 (packets).
fn sums(mut rest: &[u8]) -> anyhow::Result<Totals> {
    let mut totals = Totals::default();
    while !rest.is_empty() {
        let length = usize::try_from(varint(&mut rest)?)?;
        let (mut message, after) = rest.split_at_checked(length).context("a message")?;
        rest = after;
        totals.records += 1;
        while !message.is_empty() {
            let tag = varint(&mut message)?;
            let skip = match tag & 7 {
                0 => {
                    let value = varint(&mut message)?;
                    match tag >> 3 {
                        9 => totals.octets += value,
                        10 => totals.packets += value,
                        _ => {}
                    }
                    0
                }
                1 => 8,
                2 => usize::try_from(varint(&mut message)?)?,
                5 => 4,
                kind => bail!("a field of wire type {kind}"),
            };
            message = message.get(skip..).context("a field")?;
        }
    }
    Ok(totals)
}

/// A base-128 number.
fn varint(rest: &mut &[u8]) -> anyhow::Result<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, after) = rest.split_first().context("a number")?;
        *rest = after;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(value);
        }
    }
    bail!("a number of more than ten bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_add_up() {
        // Field 6, two bytes of text; field 9, 300; field 10, 2. Then a message of field 10, 1 alone.
        let two = [9, 0x32, 2, 1, 2, 0x48, 0xac, 2, 0x50, 2, 2, 0x50, 1];
        assert_eq!(sums(&two).unwrap(), Totals { records: 2, octets: 300, packets: 3 });
        assert!(sums(&two[..5]).is_err());
        assert!(sums(&[0x80; 12]).is_err());
    }
}
