//! A collector that joins names and places: files that change while it runs, and what it knew before a restart.

mod encoder;
mod mmdb;
mod running;
mod scratch;

use encoder::{Head, set, spec};
use mmdb::{city, database};
use running::{Collector, wait_for};
use scratch::Scratch;
use std::fs;
use std::net::UdpSocket;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// A v5 message of one flow from 192.0.2.1, on interface 7.
fn v5(sequence: u32) -> Vec<u8> {
    let mut record = vec![192, 0, 2, 1, 198, 51, 100, 2, 0, 0, 0, 0, 0, 7];
    record.resize(48, 0);
    Head { sequence, sampling: 0x4064, ..Head::new(5) }.fixed(&[record])
}

#[test]
fn files_that_change_count_while_it_runs_and_damaged_ones_do_not() {
    let scratch = Scratch::new("reload");
    let country = |country: &str| database(24, 4, &[("192.0.2.0/24", city(country, "x"))]);
    let geo = scratch.file("geo.mmdb", country("CH"));
    let networks = scratch.file("networks.csv", "192.0.2.0/24,site=one\n");
    let exporter = |name: &str, more: &str| {
        format!("[[exporter]]\naddress = \"127.0.0.0/8\"\nname = \"{name}\"\n{more}\ninterfaces.7 = \"up\"\n")
    };
    let exporters = scratch.file("exporters.toml", exporter("first", ""));
    let collector = Collector::start(&[
        "--format",
        "ndjson",
        "--out",
        "-",
        "--geo",
        &geo,
        "--networks",
        &networks,
        "--exporters",
        &exporters,
        "--where",
        "src_site one,two",
    ]);
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let row = collector.row(&socket, &v5(0));
    let of = |row: &serde_json::Value, names: &[&str]| {
        names.iter().map(|name| row[name].to_string().replace('"', "")).collect::<Vec<_>>().join(" ")
    };
    let names = ["src_country", "src_site", "exporter_name", "in_if_name", "sampling_rate", "sampling_source"];
    assert_eq!(of(&row, &names), "CH one first up 100 4");
    scratch.file("geo.mmdb", country("LI"));
    scratch.file("networks.csv", "192.0.2.0/24,site=two\n");
    scratch.file("exporters.toml", exporter("second", "sampling_override = 9"));
    for name in ["exporters.toml", "networks.csv", "geo.mmdb"] {
        wait_for(&collector.said, &format!("{name} was read again"));
    }
    // A receiving thread looks at the rules ten times a second.
    std::thread::sleep(Duration::from_millis(400));
    let row = collector.row(&socket, &v5(1));
    assert_eq!(of(&row, &names), "LI two second up 9 6");
    // A copy that ended too early; a key that nobody knows.
    let half = country("AT");
    scratch.file("geo.mmdb", &half[..half.len() / 2]);
    scratch.file("exporters.toml", exporter("third", "nmae = 1"));
    let line = wait_for(&collector.said, "exporters.toml");
    assert!(line.contains("line 4: unknown field `nmae`") && line.contains("what it said before counts on"), "{line}");
    wait_for(&collector.said, "geo.mmdb: no MaxMind DB, or damaged");
    std::thread::sleep(Duration::from_millis(2500));
    let said: Vec<String> = collector.said.try_iter().filter(|l| l.contains("counts on")).collect();
    assert_eq!(said, [""; 0], "it is said once");
    assert_eq!(of(&collector.row(&socket, &v5(2)), &names), "LI two second up 9 6");
    // What the filter leaves out is not written.
    scratch.file("networks.csv", "192.0.2.0/24,site=three\n");
    wait_for(&collector.said, "networks.csv was read again");
    collector.send(&socket, &v5(3));
    assert!(collector.rows.recv_timeout(Duration::from_secs(3)).is_err());
}

#[test]
fn names_of_options_data_outlive_a_kill() {
    let scratch = Scratch::new("restart");
    let state = scratch.0.join("state");
    let args = ["--format", "ndjson", "--out", "-", "--state", state.to_str().expect("text")];
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let head = |sequence| Head { sequence, ..Head::new(10) };
    let flow = head(1).template(300, &[spec(8, 4), spec(10, 4)]);
    let options = head(0).options_template(400, &[spec(10, 4)], &[spec(82, 4)]);
    let data = [192, 0, 2, 1, 0, 0, 0, 7];
    let first = Collector::start(&args);
    let sets = [options, set(400, &[0, 0, 0, 7, b'x', b'e', b'-', b'7']), flow, set(300, &data)];
    assert_eq!(first.row(&socket, &head(0).message(&sets))["in_if_name"], "xe-7");
    // Written down within a second.
    std::thread::sleep(Duration::from_millis(2500));
    drop(first);
    let second = Collector::start(&args);
    assert_eq!(second.row(&socket, &head(2).message(&[set(300, &data)]))["in_if_name"], "xe-7");
}

fn decode(args: &[&str], input: &Path) -> (String, String, bool) {
    let output =
        Command::new(env!("CARGO_BIN_EXE_flowlane")).arg("decode").arg(input).args(args).output().expect("runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    (text(output.stdout), text(output.stderr), output.status.success())
}

#[test]
fn decode_joins_and_filters_too() {
    let scratch = Scratch::new("decode");
    let hex = |message: &[u8]| message.iter().map(|b| format!("{b:02x}")).collect::<String>();
    let head = Head::new(9);
    let v9 = head
        .message(&[head.template(300, &[spec(8, 4), spec(1, 4)]), set(300, &[[192, 0, 2, 9, 0, 0, 0, 1]; 2].concat())]);
    let input = scratch.file("flows.hex", format!("{}\n{}\n", hex(&v5(0)), hex(&v9)));
    let networks = scratch.file("networks.csv", "192.0.2.0/28,net=lab\n192.0.2.8/29,site=Basel\n");
    let input_of = |args: &[&str]| {
        let child = Command::new(env!("CARGO_BIN_EXE_flowlane"))
            .args(["decode", "-", "--networks", &networks])
            .args(args)
            .stdin(fs::File::open(&input).expect("a file"))
            .output()
            .expect("runs");
        (String::from_utf8(child.stdout).expect("text"), String::from_utf8(child.stderr).expect("text"))
    };
    let (rows, said) = input_of(&["--format", "ndjson", "--where", "src_net lab and not src_site Basel", "--summary"]);
    assert_eq!(rows.lines().count(), 0, "of neither row it is known that it is not in Basel: {rows}");
    assert!(said.contains("3 rows left out by the filter, 1 of them because they lack what it looks at"), "{said}");
    let (rows, said) = input_of(&["--format", "ndjson", "--where", "src_site Basel or dst port 0", "--json"]);
    let nets: Vec<String> = rows
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("an object")["src_net"].to_string())
        .collect();
    assert_eq!(nets, ["\"lab\"", "\"192.0.2.8/29\"", "\"192.0.2.8/29\""]);
    assert!(said.contains("\"rows_filtered\":0"), "{said}");
    // What is wrong is said before anything is read.
    let nowhere = Path::new("/nonexistent");
    for (args, want) in [
        (&["--networks", "/nonexistent.csv"][..], "/nonexistent.csv: No such file"),
        (&["--geo", &networks][..], "no MaxMind DB, or damaged"),
        (&["--exporters", &networks][..], "line 1: "),
        (&["--where", "proto tpc"][..], "expected"),
        (&["--where", "proto tcp", "--templates"][..], "--where chooses rows"),
    ] {
        let (_, said, success) = decode(args, nowhere);
        assert!(said.contains(want) && !success, "{args:?}: {said}");
    }
}
