//! Prints how fast flowlane decodes, as a ratio to what else reads the same bytes in the same run.
//!
//! `cargo run --release -p bench` prints a table, with `-- --json` one object a line; `-- --quick` runs each for a moment
//! and, like the others, asserts every sum.

use bench::{Workload, workloads};
use flowlane::columns::gather::Kernel;
use std::process::ExitCode;
use std::time::{Duration, Instant};

fn main() -> ExitCode {
    let (mut quick, mut json, mut peers, mut only) = (false, false, true, String::new());
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--only" => only = args.next().unwrap_or_default(),
            "--quick" => quick = true,
            "--json" => json = true,
            "--no-peers" => peers = false,
            "--help" | "-h" => {
                println!(
                    "bench [--quick] [--json] [--no-peers] [--only TEXT]: decode speed against memcpy, netflow_parser and netgauze-flow-pkt"
                );
                return ExitCode::SUCCESS;
            }
            other => {
                eprintln!("bench: unknown argument {other:?}; there are --quick, --json, --no-peers and --only");
                return ExitCode::from(2);
            }
        }
    }
    let budget = if quick { Duration::from_millis(60) } else { Duration::from_millis(1500) };
    if !json {
        println!(
            "{:<18} {:<7} {:>9} {:>9} {:>9} {:>9} {:>8} {:>8}",
            "workload", "place", "flowlane", "memcpy", "n_parser", "netgauze", "/memcpy", "x peers"
        );
        println!("{:<18} {:<7} {:>9} {:>9} {:>9} {:>9}", "", "", "M rec/s", "M rec/s", "M rec/s", "M rec/s");
    }
    let memory = if quick { 4 * 1024 } else { 128 * 1024 };
    for (place, datagrams) in [("cache", 256), ("memory", memory)] {
        for w in workloads(datagrams, &only) {
            row(&w, place, budget, json, peers);
        }
    }
    ExitCode::SUCCESS
}

/// The best rate over rounds that fill the budget, in records a second.
fn best(records: u64, rounds: &mut dyn FnMut() -> u64) -> f64 {
    let start = Instant::now();
    assert_eq!(rounds(), records, "a decoder lost records");
    records as f64 / start.elapsed().as_secs_f64()
}

fn row(w: &Workload, place: &str, budget: Duration, json: bool, peers: bool) {
    assert_eq!(bench::flowlane_sums(w), (w.records, w.bytes), "sums of {}", w.name);
    let mut decoder = bench::decoder(w);
    let mut parser = bench::netflow_parser_for(w);
    let mut codec = bench::netgauze_for(w);
    let bytes: usize = w.datagrams.iter().map(|d| d.len() - w.header).sum();
    let mut buffer = vec![0; (bytes / w.records as usize) * 8192];
    let (mut ours, mut memcpy, mut n_parser, mut netgauze) = (0f64, 0f64, 0f64, 0f64);
    let start = Instant::now();
    let mut first = true;
    while first || start.elapsed() < budget {
        for _ in 0..4 {
            ours = ours.max(best(w.records, &mut || bench::flowlane(w, &mut decoder)));
            memcpy = memcpy.max(best(w.records, &mut || {
                assert_eq!(bench::copy(w, &mut buffer), bytes as u64);
                w.records
            }));
        }
        if peers && (first || w.datagrams.len() <= 256) {
            n_parser = n_parser.max(best(w.records, &mut || bench::netflow_parser(w, &mut parser)));
            if w.template.is_some() {
                netgauze = netgauze.max(best(w.records, &mut || bench::netgauze(w, &mut codec)));
            }
        }
        first = false;
    }
    let peer = n_parser.max(netgauze);
    if json {
        println!(
            "{{\"bench\":\"decode\",\"template\":\"{}\",\"place\":\"{place}\",\"kernel\":\"{}\",\"records_per_second\":{ours:.0},\
             \"memcpy\":{memcpy:.0},\"netflow_parser\":{n_parser:.0},\"netgauze_flow_pkt\":{netgauze:.0},\
             \"ratio_memcpy\":{:.3},\"ratio_peer\":{:.1}}}",
            w.name,
            Kernel::chosen(),
            ours / memcpy,
            ours / peer
        );
    } else {
        let m = |v: f64| v / 1e6;
        println!(
            "{:<18} {place:<7} {:>9.1} {:>9.1} {:>9.2} {:>9.2} {:>8.3} {:>8.1}",
            w.name,
            m(ours),
            m(memcpy),
            m(n_parser),
            m(netgauze),
            ours / memcpy,
            ours / peer
        );
    }
}
