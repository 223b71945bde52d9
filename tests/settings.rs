//! Settings that are wrong: `check-config` names each by its line, and `collect` refuses it in the same words.

mod running;
mod scratch;

use scratch::Scratch;
use std::net::UdpSocket;
use std::path::Path;
use std::process::{Command, Output};

fn flowlane(args: &[&str], folder: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_flowlane"));
    command.args(args).current_dir(folder).output().expect("the program")
}

fn said(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("text")
}

/// A setting as it stands in a file, as flags, and what is said of it.
type Case = (&'static str, &'static [&'static str], &'static str);

const WRONG: &[Case] = &[
    ("tls = 4740", &["--tls", "4740"], "--tls needs --tls-cert and --tls-key"),
    ("tls-key = \"x.pem\"", &["--tls-key", "x.pem"], "--tls-key is for --tls"),
    ("mirror-source = \"keep\"", &["--mirror-source", "keep"], "--mirror-source is for --mirror"),
    ("user = \"no such user\"", &["--user", "no such user"], "there is no user no such user on this host"),
    ("user = \"root\"", &["--user", "root"], "--user root gives up nothing"),
    ("node = \"x-y\"", &["--node", "x-y"], "a node's name has letters, digits and _ alone, 1 to 64 of them, like x_y"),
    ("node = \"\"", &["--node="], "a node's name has letters, digits and _ alone"),
    (
        "listen = [\"none\", 2055]",
        &["--listen", "none", "--listen", "2055"],
        "--listen none goes with no other --listen",
    ),
    ("listen = \"none\"", &["--listen", "none"], "--listen none leaves nothing to receive"),
    ("listen = [2055, 2055]", &["--listen", "2055", "--listen", "2055"], "is given twice"),
    ("networks = \"no-networks.csv\"", &["--networks", "no-networks.csv"], "no-networks.csv: No such file"),
    ("geo = [\"no-geo.mmdb\"]", &["--geo", "no-geo.mmdb"], "no-geo.mmdb: No such file"),
    ("exporters = \"no-labels.toml\"", &["--exporters", "no-labels.toml"], "no-labels.toml: No such file"),
    ("elements = \"no-elements.csv\"", &["--elements", "no-elements.csv"], "cannot read no-elements.csv: No such file"),
    ("format = \"xml\"", &["--format", "xml"], "[possible values: parquet, arrow, ndjson, csv, netflow-json, none]"),
    ("format = \"csv\"\nkeep = \"30d\"", &["--format", "csv", "--keep", "30d"], "or choose --format parquet"),
    (
        "format = \"none\"\nkeep-free = \"50G\"",
        &["--format", "none", "--keep-free", "50G"],
        "or choose --format parquet",
    ),
    ("out = \"x.parquet\"\nkeep = \"30d\"", &["--out", "x.parquet", "--keep", "30d"], "or give --out a folder"),
    ("out = \"-\"\nkeep-bytes = \"1G\"", &["--out", "-", "--keep-bytes", "1G"], "or give --out a folder"),
    ("out = \"\"", &["--out", ""], "accepted are a folder, a file, or - for standard output"),
];

#[test]
fn each_is_named_with_its_line_and_refused_in_the_same_words() {
    let scratch = Scratch::new("each");
    for (setting, flags, words) in WRONG {
        let file = scratch.file("wrong.toml", format!("# two lines\n\n{setting}\n"));
        let checked = flowlane(&["check-config", &file], &scratch.0);
        assert_eq!(checked.status.code(), Some(2), "{setting}: {}", said(&checked));
        let checked = said(&checked);
        assert_eq!(checked.lines().count(), 1, "{setting}: {checked}");
        let line = 2 + setting.lines().count();
        let what = checked.strip_prefix(&format!("{file}:{line}: ")).expect("its line").trim_end();
        assert!(what.contains(words), "{setting}: {what}");
        let refused = flowlane(&[&["collect"], *flags].concat(), &scratch.0);
        assert!(!refused.status.success(), "{setting}");
        assert_eq!(said(&refused).trim_end(), format!("flowlane: {what}"), "{setting}");
        let refused = flowlane(&["collect", "--config", &file], &scratch.0);
        assert!(!refused.status.success() && said(&refused).contains(words), "{setting}: {}", said(&refused));
    }
}

#[test]
fn all_that_is_wrong_is_named_at_once() {
    let scratch = Scratch::new("all");
    let text = "listen = [\"none\", 2055]\nnode = \"a b\"\nuser = \"no such user\"\ntls = 4740\n\
                tls-cert = \"no.pem\"\nnetworks = \"no.csv\"\nformat = \"xml\"\nqueue = \"1G\"\n";
    let checked = said(&flowlane(&["check-config", &scratch.file("wrong.toml", text)], &scratch.0));
    let lines: Vec<usize> = checked
        .lines()
        .map(|l| l.split(':').nth(1).and_then(|n| n.parse().ok()).expect("the number of a line"))
        .collect();
    assert_eq!(lines, [1, 2, 3, 4, 6, 7], "{checked}");
    // What is right is said to be.
    let right = flowlane(&["check-config", &scratch.file("right.toml", "listen = 2055\nnode = \"a_b\"\n")], &scratch.0);
    assert!(right.status.success(), "{}", said(&right));
}

#[test]
fn a_file_of_settings_is_a_file() {
    let scratch = Scratch::new("pipe");
    let pipe = Command::new("mkfifo").arg(scratch.0.join("pipe")).status().expect("the program");
    assert!(pipe.success());
    for args in [["check-config", "pipe"].as_slice(), &["collect", "--config", "pipe"]] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_flowlane"));
        let child = command.args(args).current_dir(&scratch.0).stderr(std::process::Stdio::piped()).spawn();
        let mut child = child.expect("the program");
        for _ in 0..100 {
            if child.try_wait().expect("a child").is_some() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        let _ = child.kill();
        let line = said(&child.wait_with_output().expect("what it said"));
        assert!(line.starts_with("flowlane: cannot read pipe: ") && line.contains("a pipe"), "{args:?}: {line}");
    }
}

#[test]
fn certificates_that_are_none_are_named_by_their_line() {
    let scratch = Scratch::new("certificates");
    scratch.file("cert.pem", "none");
    let text = "tls = 4740\ntls-key = \"no.pem\"\ntls-cert = \"cert.pem\"\n";
    let checked = said(&flowlane(&["check-config", &scratch.file("wrong.toml", text)], &scratch.0));
    assert!(checked.contains(".toml:3: cert.pem holds no certificates in PEM"), "{checked}");
    let args = ["collect", "--tls", "4740", "--tls-key", "no.pem", "--tls-cert", "cert.pem"];
    assert!(said(&flowlane(&args, &scratch.0)).contains("cert.pem holds no certificates in PEM"));
}

#[test]
fn what_a_run_before_received_is_not_replaced() {
    let scratch = Scratch::new("replace");
    let out = scratch.file("flows.csv", "");
    let collect = |more: &[&str]| {
        let args = ["collect", "--listen", "127.0.0.1:0", "--duration", "1s", "--out", &out];
        flowlane(&[&args[..], more].concat(), &scratch.0)
    };
    // Empty, it is nobody's.
    let output = collect(&[]);
    assert!(output.status.success(), "{}", said(&output));
    let mut kept = std::fs::read_to_string(&out).expect("the file");
    assert!(kept.starts_with("time_received,"));
    kept += "a flow\n";
    scratch.file("flows.csv", &kept);
    let output = collect(&[]);
    assert_eq!(output.status.code(), Some(2));
    let line = said(&output);
    assert!(line.contains("flows.csv is there already") && line.contains("--overwrite"), "{line}");
    assert_eq!(std::fs::read_to_string(&out).expect("the file"), kept);
    let output = collect(&["--overwrite"]);
    assert!(output.status.success(), "{}", said(&output));
    assert!(!std::fs::read_to_string(&out).expect("the file").contains("a flow"));
}

#[test]
fn sets_that_wait_have_a_bound_of_their_own() {
    let collector = running::Collector::start(&["--hold-sets", "2", "--format", "none", "--json"]);
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    // Sets of a template that never comes.
    let message = [0, 10, 0, 28, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0, 0, 12, 0, 0, 0, 0, 0, 0, 0, 0];
    (0..5).for_each(|_| collector.send(&socket, &message));
    let (_, printed) = collector.end(std::time::Duration::from_secs(12));
    let summary: serde_json::Value = serde_json::from_str(&printed.concat()).expect("a summary");
    assert_eq!((&summary["sets_still_held"], &summary["sets_without_room"]), (&2.into(), &3.into()), "{summary}");
}

#[test]
fn a_port_that_is_its_own_already_is_not_put_down_to_another_program() {
    let scratch = Scratch::new("twice");
    let port = UdpSocket::bind("127.0.0.1:0").expect("a socket").local_addr().expect("an address").port();
    let (all, one) = (format!("0.0.0.0:{port}"), format!("127.0.0.1:{port}"));
    for (flag, name) in [("--listen", "UDP"), ("--tcp", "TCP")] {
        let args =
            ["collect", "--listen", "127.0.0.1:0", "--format", "none", "--duration", "1s", flag, &all, flag, &one];
        let line = said(&flowlane(&args, &scratch.0));
        let words =
            format!("cannot listen on {one}: this collector listens on {all} already, which has {name} port {port}");
        assert!(line.contains(&words), "{line}");
    }
}

#[test]
fn datagrams_that_were_refused_are_in_the_sum_and_an_empty_state_is_said() {
    let scratch = Scratch::new("refused");
    let state = scratch.0.join("state");
    std::fs::create_dir_all(&state).expect("a folder");
    std::fs::write(state.join("learned"), "").expect("written");
    let state = state.to_string_lossy().into_owned();
    let collector = running::Collector::start(&["--allow", "192.0.2.1", "--format", "none", "--state", &state]);
    assert!(collector.before.iter().any(|line| line.contains("the state of the last run is damaged: it is empty")));
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    (0..5).for_each(|_| collector.send(&socket, b"nobody's"));
    let (said, _) = collector.end(std::time::Duration::from_secs(12));
    assert!(said.iter().any(|line| line.starts_with("5 datagrams, 5 of them refused (0 bytes)")), "{said:?}");
}
