//! nfacctd of pmacct: flows by their whole key, printed as CSV.

use super::{Peer, Place, Totals, program, says};
use anyhow::Context;
use nix::sys::signal::Signal;
use std::process::Command;

/// `nfacctd` with its print plugin. It joins flows whose key is the same, and counts how many.
pub struct Nfacctd;

/// What tells flows apart.
const KEY: &str = "src_host, dst_host, src_port, dst_port, proto, tos, tcpflags, in_iface, out_iface, src_as, dst_as, \
                   peer_src_ip, timestamp_start, timestamp_end, flows";

impl Peer for Nfacctd {
    fn name(&self) -> &'static str {
        "nfacctd"
    }

    fn version(&self) -> Result<String, String> {
        let found = program("nfacctd").and_then(|p| says(&p, &["-V"]));
        found.ok_or_else(|| "apt install pmacct".to_owned())
    }

    fn command(&self, place: &Place) -> Command {
        let config = place.folder.join("nfacctd.conf");
        // The sizes between its processes are those that its documentation asks for at high rates.
        let buffer = place.buffer.map(|bytes| format!("nfacctd_pipe_size: {bytes}\n")).unwrap_or_default();
        let text = format!(
            "daemonize: false\nnfacctd_ip: 127.0.0.1\nnfacctd_port: {}\n{buffer}nfacctd_time_new: true\n\
             plugin_pipe_size: 104857600\nplugin_buffer_size: 102400\nplugins: print[p]\naggregate[p]: {KEY}\n\
             print_output[p]: csv\nprint_output_file[p]: {}/flows.csv\nprint_output_file_append[p]: true\n\
             print_refresh_time[p]: 5\n",
            place.port,
            place.kept().display()
        );
        // Where this cannot be written, nfacctd says so.
        let _ = std::fs::write(&config, text);
        let mut command = Command::new(program("nfacctd").unwrap_or_default());
        command.arg("-f").arg(config);
        command
    }

    fn totals(&self, place: &Place) -> anyhow::Result<Totals> {
        let path = place.kept().join("flows.csv");
        let mut reader = csv::Reader::from_path(&path).with_context(|| format!("no {}", path.display()))?;
        let head = reader.headers()?.clone();
        let at = |name: &str| head.iter().position(|h| h == name).with_context(|| format!("no column {name}"));
        let columns = [at("FLOWS")?, at("BYTES")?, at("PACKETS")?];
        let mut sums = [0u64; 3];
        for row in reader.records() {
            let row = row?;
            for (sum, at) in sums.iter_mut().zip(columns) {
                // Each time that it writes, the head comes again.
                *sum += row.get(at).and_then(|n| n.parse::<u64>().ok()).unwrap_or(0);
            }
        }
        let [records, octets, packets] = sums;
        Ok(Totals { records, octets, packets })
    }

    fn pace(&self) -> f64 {
        10_000.0
    }

    fn signal(&self) -> Signal {
        // It takes no other.
        Signal::SIGINT
    }
}
