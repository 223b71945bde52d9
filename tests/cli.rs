//! The program from outside: exit codes, one-line errors, what goes where.

mod running;
mod scratch;

use running::signal;
use scratch::Scratch;
use serde_json::Value;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

const V9: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/demo/softflowd_v9.pcap");

fn flowlane(args: &[&str]) -> Output {
    flowlane_with(args, b"")
}

fn flowlane_with(args: &[&str], input: &[u8]) -> Output {
    let mut child = start(args);
    let mut stdin = child.stdin.take().expect("an input");
    let input = input.to_vec();
    let writing = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().expect("it ends");
    let _ = writing.join();
    output
}

fn start(args: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_flowlane"));
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().expect("the program")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("text")
}

/// The only line of standard error.
fn one_line(output: &Output) -> String {
    let said = text(&output.stderr);
    assert_eq!(said.lines().count(), 1, "{said}");
    said
}

#[test]
fn wrong_flags_and_values_are_one_line_and_exit_2() {
    let cases: &[(&[&str], &str)] = &[
        (&["frobnicate"], "commands are collect, "),
        (&["decode", "--frob", "x"], "--format"),
        (&["decode", "--format", "xml", "x"], "possible values: table, ndjson"),
        (&["decode", "--port", "70000", "x"], "70000"),
        (&["decode", "--kernel", "mmx", "x"], "there are scalar, avx2 and neon"),
        (&["decode", "--templates", "--options", "x"], "cannot be used with"),
        (&["collect", "--listen", "nowhere"], "192.0.2.1:2055"),
        (&["collect", "--rotate", "5"], "5m"),
        (&["collect", "--http", "nowhere"], "8080"),
        (&["collect", "--allow", "192.0.2.0/33"], "192.0.2.0/24"),
        (&["status", "--url", "ftp://x"], "http://127.0.0.1:8080"),
        (&["collect", "--sampling-rate", "0"], "at least 1"),
        (&["collect", "--threads", "0"], "1..=1024"),
        (&["help", "frobnicate"], "collect"),
        (&["decode", "-", "-"], "once"),
    ];
    for (args, accepted) in cases {
        let output = flowlane(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(output.stdout.is_empty());
        let line = one_line(&output);
        assert!(line.starts_with("flowlane: ") && line.contains(accepted), "{args:?}: {line}");
    }
}

#[test]
fn help_teaches_and_exits_0() {
    for args in [&["help"][..], &["--help"], &["decode", "--help"], &["help", "collect"], &["--version"]] {
        let output = flowlane(args);
        assert_eq!(output.status.code(), Some(0), "{args:?}");
        assert!(output.stderr.is_empty() && !output.stdout.is_empty());
    }
    assert!(text(&flowlane(&["help"]).stdout).contains("flowlane demo"));
    assert!(text(&flowlane(&["collect", "--help"]).stdout).contains("Examples:"));
}

#[test]
fn a_file_that_is_missing_or_foreign_is_named_and_exits_1() {
    let scratch = Scratch::new("foreign");
    let output = flowlane(&["decode", "/no/such/file.pcap"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(one_line(&output).contains("/no/such/file.pcap"));
    let path = scratch.path("foreign");
    std::fs::write(&path, b"this is no capture").expect("written");
    let output = flowlane(&["decode", &path]);
    assert_eq!(output.status.code(), Some(1));
    assert!(one_line(&output).contains("at byte 0"));
}

#[test]
fn a_cut_file_gives_what_could_be_read_then_the_position() {
    let scratch = Scratch::new("cut");
    let whole = std::fs::read(V9).expect("the fixture");
    let path = scratch.path("cut.pcap");
    std::fs::write(&path, &whole[..whole.len() - 100]).expect("written");
    let all = flowlane(&["decode", "--format", "ndjson", V9]);
    assert_eq!((all.status.code(), text(&all.stderr).as_str()), (Some(0), ""));
    let cut = flowlane(&["decode", "--format", "ndjson", &path]);
    assert_eq!(cut.status.code(), Some(1));
    let line = one_line(&cut);
    assert!(line.contains("cut.pcap") && line.contains("at byte"), "{line}");
    let (all, cut) = (text(&all.stdout), text(&cut.stdout));
    assert!(cut.lines().count() > 100 && all.starts_with(&cut));
}

#[test]
fn ndjson_keys_are_the_schemas() {
    let output = flowlane(&["decode", "--format", "ndjson", V9]);
    let names = flowlane::sink::header();
    for line in text(&output.stdout).lines() {
        let flow: Value = serde_json::from_str(line).expect("an object");
        let flow = flow.as_object().expect("an object");
        assert_eq!(flow["version"], 9);
        assert!(flow.contains_key("src_addr") && flow.contains_key("time_received"));
        assert!(flow.keys().all(|k| k == "extras" || names.contains(&k.as_str())));
        assert!(flow.values().all(|v| !v.is_null()));
    }
}

#[test]
fn every_format_holds_as_many_flows() {
    let scratch = Scratch::new("formats");
    let ndjson = text(&flowlane(&["decode", "--format", "ndjson", V9]).stdout);
    let flows = ndjson.lines().count();
    let csv = text(&flowlane(&["decode", "--format", "csv", V9]).stdout);
    assert_eq!(csv::Reader::from_reader(csv.as_bytes()).records().filter(Result::is_ok).count(), flows);
    assert_eq!(text(&flowlane(&["decode", V9]).stdout).lines().count(), flows + 1);
    let records = text(&flowlane(&["decode", "--format", "records", V9]).stdout);
    assert_eq!(records.lines().filter(|l| l.contains("\"kind\":\"data\"")).count(), flows);
    let path = scratch.path("flows.parquet");
    let output = flowlane(&["decode", "--format", "parquet", "--out", &path, V9]);
    assert_eq!((output.status.code(), text(&output.stderr).as_str()), (Some(0), ""));
    assert_eq!(parquet_rows(Path::new(&path)), flows);
    let folder = scratch.path("new");
    let output = flowlane(&["decode", "--format", "csv", "--out", &folder, V9]);
    assert_eq!(output.status.code(), Some(0));
    let written = std::fs::read_to_string(Path::new(&folder).join("flows.csv")).expect("the file");
    assert_eq!(written, csv);
}

fn parquet_rows(path: &Path) -> usize {
    use parquet::file::reader::{FileReader as _, SerializedFileReader};
    let file = std::fs::File::open(path).expect("the file");
    let reader = SerializedFileReader::new(file).expect("parquet");
    usize::try_from(reader.metadata().file_metadata().num_rows()).expect("a count")
}

#[test]
fn hex_text_templates_and_options() {
    let v5 = format!("00050001{}", "00".repeat(20 + 48));
    let output = flowlane_with(&["decode", "--format", "ndjson"], v5.as_bytes());
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(text(&output.stdout).lines().count(), 1);
    let output = flowlane_with(&["decode"], b"00050");
    assert_eq!(output.status.code(), Some(1));
    assert!(one_line(&output).contains("line 1"));
    let output = flowlane(&["decode"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(one_line(&output).contains("is empty"));
    let listed = text(&flowlane(&["decode", "--templates", V9]).stdout);
    assert!(listed.contains("v9 domain") && listed.contains("sourceIPv4Address"), "{listed}");
    assert!(!listed.contains('{'), "no flows beside them");
    let options = text(&flowlane(&["decode", "--options", V9]).stdout);
    for line in options.lines() {
        let record: Value = serde_json::from_str(line).expect("an object");
        assert!(record["scope"].is_array() && record["fields"].is_array());
    }
}

#[test]
fn a_port_that_nobody_sent_to_gives_nothing() {
    let output = flowlane(&["decode", "--format", "ndjson", "--port", "1", V9]);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(0), 0));
}

#[test]
fn a_reader_that_leaves_is_no_error() {
    let mut child = start(&["decode", "--format", "ndjson", V9]);
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("it ends");
    assert_eq!((output.status.code(), text(&output.stderr).as_str()), (Some(0), ""));
}

#[test]
fn a_port_in_use_and_a_folder_that_cannot_be_written_are_said_first() {
    let taken = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let port = taken.local_addr().expect("an address").port();
    let output = flowlane(&["collect", "--format", "none", "--listen", &format!("127.0.0.1:{port}")]);
    assert_eq!(output.status.code(), Some(1));
    let line = one_line(&output);
    assert!(line.contains("another program has UDP port"), "{line}");
    let output = flowlane(&["collect", "--listen", "127.0.0.1:0", "--out", "/dev/null/flows"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(one_line(&output).contains("/dev/null/flows"));
    let output = flowlane(&["collect", "--listen", "127.0.0.1:0", "--out", "/no/such/flows.csv", "--format", "csv"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(one_line(&output).contains("/no/such/flows.csv"));
}

#[test]
fn a_kernel_that_the_environment_names_in_no_text_is_refused() {
    let name = std::os::unix::ffi::OsStrExt::from_bytes(b"scalar\xff");
    let mut command = Command::new(env!("CARGO_BIN_EXE_flowlane"));
    let name: &std::ffi::OsStr = name;
    let output = command.args(["decode", V9]).env("FLOWLANE_KERNEL", name).output().expect("the program");
    assert_eq!(output.status.code(), Some(2));
    assert!(one_line(&output).contains("there are scalar, avx2 and neon"));
}

/// A collector that runs, and the address that it said it listens on.
fn collector(args: &[&str]) -> (Child, String, BufReader<std::process::ChildStderr>) {
    let mut child = start(args);
    let mut said = BufReader::new(child.stderr.take().expect("standard error"));
    let mut line = String::new();
    while !line.starts_with("listening on ") {
        line.clear();
        assert!(said.read_line(&mut line).expect("a line") > 0, "it ended");
    }
    let address = line.split_whitespace().nth(2).expect("an address").to_string();
    (child, address, said)
}

fn send(address: &str, datagrams: u32) {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    for i in 0..datagrams {
        let mut bytes = vec![0, 5, 0, 1, 0, 0, 39, 16, 101, 83, 241, 0, 0, 0, 0, 0];
        bytes.extend(i.to_be_bytes());
        bytes.resize(24 + 48, 0);
        socket.send_to(&bytes, address).expect("sent");
    }
}

#[test]
fn collect_drains_on_sigterm_and_sums_up() {
    let scratch = Scratch::new("collect");
    for (format, signal_name) in [("parquet", "-TERM"), ("ndjson", "-INT"), ("netflow-json", "-TERM")] {
        let out = scratch.path(&format!("flows-{format}"));
        let args = ["collect", "--listen", "127.0.0.1:0", "--format", format, "--out", &out, "--json"];
        let (child, address, _said) = collector(&args);
        send(&address, 50);
        // What stands in the socket when the signal comes is written, too.
        signal(&child, signal_name);
        let output = child.wait_with_output().expect("it ends");
        assert_eq!(output.status.code(), Some(0));
        let summary: Value = serde_json::from_slice(&output.stdout).expect("the summary");
        assert_eq!((&summary["records"], &summary["rows_written"]), (&50.into(), &50.into()), "{summary}");
        assert_eq!(summary["exporters"][0]["exporter"], "127.0.0.1");
        let files: Vec<PathBuf> = std::fs::read_dir(&out)
            .expect("the folder")
            .map(|e| e.expect("an entry").path())
            .filter(|p| p.is_file())
            .collect();
        assert!(files.iter().all(|f| !f.to_string_lossy().ends_with(".tmp")), "{files:?}");
        match format {
            "parquet" => {
                let (sealed, unfinished) = flowlane::keep::sealed_files(Path::new(&out)).expect("a folder");
                assert_eq!(sealed.iter().map(|f| parquet_rows(&f.path)).sum::<usize>(), 50);
                assert!(unfinished.is_empty());
            }
            "ndjson" => {
                let lines = |f: &PathBuf| std::fs::read_to_string(f).expect("text").lines().count();
                assert_eq!(files.iter().map(lines).sum::<usize>(), 50);
            }
            _ => {
                let lines = |f: &PathBuf| {
                    let file = std::fs::File::open(f).expect("the file");
                    BufReader::new(flate2::read::GzDecoder::new(file)).lines().filter(Result::is_ok).count()
                };
                assert_eq!(files.iter().map(lines).sum::<usize>(), 50);
            }
        }
    }
}

#[test]
fn the_log_has_a_line_a_cause_and_is_json_on_request() {
    let lines = |format: &str| {
        let args = ["collect", "--listen", "127.0.0.1:0", "--format", "none", "--log-format", format];
        let mut child = start(&args);
        let mut said = BufReader::new(child.stderr.take().expect("standard error"));
        let mut first = String::new();
        said.read_line(&mut first).expect("a line");
        let listening = first.split("listening on ").nth(1).expect("an address");
        let address = listening.split_whitespace().next().expect("an address").to_string();
        send(&address, 1);
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        for _ in 0..7 {
            socket.send_to(b"no flows", &address).expect("sent");
        }
        // The rest of a cause is said at the end: all 7, in one line or two.
        signal(&child, "-TERM");
        assert_eq!(child.wait().expect("a status").code(), Some(0));
        let rest: Vec<String> = said.lines().map(|line| line.expect("text")).collect();
        (first, rest)
    };
    let (first, rest) = lines("json");
    let all: Vec<Value> =
        [first].iter().chain(&rest).map(|line| serde_json::from_str(line).expect("JSON alone")).collect();
    assert!(all.iter().all(|line| line["time"].is_string() && line["level"].is_string()), "{all:?}");
    let causes: Vec<&Value> = all.iter().filter(|line| line["cause"] == "unknown version").collect();
    assert!((1..=2).contains(&causes.len()), "{all:?}");
    assert_eq!(causes.iter().map(|line| line["count"].as_u64().expect("a number")).sum::<u64>(), 7);
    // The first noise may come before the exporter is known.
    assert!(causes.iter().all(|line| line["exporter"] == "127.0.0.1" || line["exporter"] == "other"), "{causes:?}");
    let summary = &all.last().expect("a line")["summary"];
    assert_eq!((&summary["datagrams"], &summary["datagrams_malformed"]), (&8.into(), &7.into()));
    let (_, rest) = lines("text");
    let causes: Vec<&String> = rest.iter().filter(|line| line.contains(" flowlane: ")).collect();
    assert!((1..=2).contains(&causes.len()) && causes[0].contains("unknown version ("), "{rest:?}");
}

#[test]
fn collect_writes_to_a_pipe_while_it_runs_and_leaves_with_it() {
    let args = ["collect", "--listen", "127.0.0.1:0", "--format", "ndjson", "--out", "-"];
    let (mut child, address, _said) = collector(&args);
    send(&address, 1);
    let mut out = BufReader::new(child.stdout.take().expect("an output"));
    let mut line = String::new();
    out.read_line(&mut line).expect("a line");
    assert!(line.contains("\"version\":5"));
    drop(out);
    let end = Instant::now() + Duration::from_secs(20);
    let status = loop {
        send(&address, 1);
        if let Some(status) = child.try_wait().expect("a status") {
            break status;
        }
        assert!(Instant::now() < end, "it does not notice");
        std::thread::sleep(Duration::from_millis(100));
    };
    assert_eq!(status.code(), Some(0));
}

#[test]
fn demo_names_the_protocols() {
    let output = flowlane(&["demo", "--rows", "3"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let shown = text(&output.stdout);
    for name in ["NetFlow v5", "NetFlow v9", "IPFIX", "flowlane collect"] {
        assert!(shown.contains(name), "{name}");
    }
    assert!(shown.contains(" 0 lost"), "{shown}");
}

fn lines(output: &Output) -> usize {
    text(&output.stdout).lines().count()
}

#[test]
fn what_can_be_read_of_a_damaged_input_is_decoded_before_the_error() {
    let scratch = Scratch::new("damaged");
    // A capture behind gzip that is cut.
    let whole = std::fs::read(V9).expect("a capture");
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(&whole).expect("compressed");
    let gzip = gzip.finish().expect("compressed");
    let path = scratch.path("cut.pcap.gz");
    let all = lines(&flowlane(&["decode", "--format", "ndjson", V9]));
    for cut in [gzip.len() - 1, gzip.len() * 3 / 4] {
        std::fs::write(&path, &gzip[..cut]).expect("written");
        let output = flowlane(&["decode", "--format", "ndjson", &path]);
        assert_eq!(output.status.code(), Some(1));
        assert!(lines(&output) > 0 && lines(&output) <= all, "{} of {all} flows", lines(&output));
        let line = one_line(&output);
        assert!(line.contains("compressed data are cut") && !line.ends_with("at byte 0"), "{line}");
    }
    // Hex text with a line that is none.
    let message = format!("0005 0001{}", " 0000".repeat(34));
    let hex = format!("{message}\nzz\n{message}\n");
    let output = flowlane_with(&["decode", "--format", "ndjson", "-"], hex.as_bytes());
    assert_eq!((output.status.code(), lines(&output)), (Some(1), 2), "{}", text(&output.stderr));
    assert!(one_line(&output).contains("line 2"));
    // A link layer that is not known.
    let mut other = whole.clone();
    other[20..24].copy_from_slice(&147u32.to_le_bytes());
    let path = scratch.path("link.pcap");
    std::fs::write(&path, other).expect("written");
    let output = flowlane(&["decode", "--format", "ndjson", &path]);
    assert_eq!((output.status.code(), lines(&output)), (Some(1), 0));
    assert!(one_line(&output).contains("147"), "{}", one_line(&output));
}

#[test]
fn outputs_and_inputs_are_not_mixed_up() {
    let scratch = Scratch::new("outputs");
    let input = scratch.path("in.pcap");
    std::fs::copy(V9, &input).expect("copied");
    let link = scratch.path("link.pcap");
    std::fs::hard_link(&input, &link).expect("linked");
    for out in [&input, &link] {
        let output = flowlane(&["decode", &input, "--format", "ndjson", "--out", out]);
        assert_eq!(output.status.code(), Some(2));
        assert!(one_line(&output).contains("is an input"));
    }
    assert_eq!(std::fs::read(&input).expect("still there"), std::fs::read(V9).expect("a capture"));
    // The extension says what to write.
    let csv = scratch.path("flows.csv");
    assert!(flowlane(&["decode", &input, "--out", &csv]).status.success());
    assert!(std::fs::read_to_string(&csv).expect("text").starts_with("time_received,"));
    for args in [&["--templates", "--format", "csv"], &["--options", "--format", "parquet"]] {
        let output = flowlane(&[&["decode", &input], &args[..]].concat());
        assert_eq!(output.status.code(), Some(2), "{args:?}");
    }
    let twice = flowlane(&["collect", "--listen", "9995", "--listen", "9995"]);
    assert_eq!(twice.status.code(), Some(2));
    assert!(one_line(&twice).contains("twice"));
}

#[test]
fn what_was_decoded_can_be_asked() {
    let scratch = Scratch::new("ask");
    let file = scratch.path("flows.parquet");
    assert!(flowlane(&["decode", V9, "--out", &file]).status.success());
    let ndjson = text(&flowlane(&["decode", V9, "--format", "ndjson"]).stdout);
    let flows: Vec<Value> = ndjson.lines().map(|l| serde_json::from_str(l).expect("JSON")).collect();
    let tcp: Vec<&Value> = flows.iter().filter(|f| f["proto"] == 6).collect();
    assert!(!tcp.is_empty() && tcp.len() < flows.len());
    let rows = flowlane(&["flows", "--in", &file, "--limit", "0", "--format", "csv", "proto", "tcp"]);
    assert_eq!(lines(&rows), 1 + tcp.len());
    let bytes: i64 = tcp.iter().map(|f| f["bytes"].as_i64().unwrap_or(0)).sum();
    let top = flowlane(&["top", "proto", "--in", &file, "--format", "ndjson", "proto tcp"]);
    let first: Value = serde_json::from_str(text(&top.stdout).lines().next().expect("a line")).expect("JSON");
    assert_eq!((&first["proto"], &first["bytes"], &first["share"]), (&6.into(), &bytes.into(), &100.0.into()));
    let info = flowlane(&["info", &file, "--json"]);
    let info: Value = serde_json::from_slice(&info.stdout).expect("JSON");
    assert_eq!((&info["rows"], &info["versions"]["9"]), (&flows.len().into(), &flows.len().into()));
    // Why there is no answer.
    let none = flowlane(&["flows", "--in", &file, "port 1"]);
    assert!(none.status.success() && one_line(&none).contains("no flow"));
    let wrong = flowlane(&["flows", "--in", &file, "proto", "tpc"]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(one_line(&wrong).contains("proto >>>tpc"));
    assert_eq!(flowlane(&["top", "nonsense", "--in", &file]).status.code(), Some(2));
    assert_eq!(flowlane(&["flows", "--order", "src_addr", "--in", &file]).status.code(), Some(2));
    assert_eq!(info["schema_versions"].as_array().map(Vec::len), Some(1));
}

#[test]
fn sighup_reads_the_settings_again_and_says_what_needs_a_restart() {
    let scratch = Scratch::new("sighup");
    let path = scratch.path("flowlane.toml");
    let write = |text: &str| std::fs::write(&path, text).expect("written");
    write("listen = \"127.0.0.1:0\"\nformat = \"none\"\nqueue = 7\n");
    let (child, address, said) = collector(&["collect", "--config", &path, "--json"]);
    let mut said = said.lines();
    let mut next = |what: &str| loop {
        let line = said.next().expect("a line").expect("text");
        if line.contains("settings") {
            assert!(line.contains(what), "{line}");
            return;
        }
    };
    send(&address, 5);
    write("listen = \"127.0.0.1:0\"\nformat = \"none\"\nqueue = 9\nallow = \"192.0.2.0/24\"\nexporter-rate = 40\n");
    signal(&child, "-HUP");
    next("1 prefixes may send, 40 datagrams/s an exporter; changed, and needs a restart: queue");
    // Each thread hears of it at its next tick.
    std::thread::sleep(Duration::from_millis(500));
    send(&address, 5);
    write("queue = \"many\"\n");
    signal(&child, "-HUP");
    next("settings stay as they are");
    signal(&child, "-TERM");
    let output = child.wait_with_output().expect("it ends");
    let summary: Value = serde_json::from_slice(&output.stdout).expect("the summary");
    assert_eq!((&summary["datagrams"], &summary["datagrams_refused"]), (&5.into(), &5.into()), "{summary}");
    assert_eq!(summary["datagrams_received"], 10);
}

#[test]
fn the_settings_of_the_service_are_right() {
    let output = flowlane(&["check-config", concat!(env!("CARGO_MANIFEST_DIR"), "/tools/release/flowlane.toml")]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let unit = include_str!("../tools/release/flowlane.service");
    assert!(unit.contains("check-config /etc/flowlane.toml") && unit.contains("kill -HUP"));
}

#[test]
fn root_becomes_the_user_that_is_named() {
    let output = flowlane(&["collect", "--listen", "127.0.0.1:0", "--format", "none", "--user", "no such user"]);
    assert!(one_line(&output).contains("there is no user no such user"));
    let uid = Command::new("id").arg("-u").output().expect("id").stdout;
    if text(&uid).trim() != "0" {
        let output = flowlane(&["collect", "--listen", "127.0.0.1:0", "--format", "none", "--user", "nobody"]);
        assert!(one_line(&output).contains("only root can become nobody"));
        return;
    }
    let scratch = Scratch::new("user");
    let open = std::os::unix::fs::PermissionsExt::from_mode;
    std::fs::set_permissions(&scratch.0, open(0o777)).expect("for everybody");
    let out = scratch.path("flows.csv");
    // A port that is root's alone.
    let args = [
        "collect",
        "--listen",
        "127.0.0.1:799",
        "--format",
        "csv",
        "--out",
        &out,
        "--user",
        "nobody",
        "--duration",
        "1m",
    ];
    let (child, address, _said) = collector(&args);
    send(&address, 3);
    std::thread::sleep(Duration::from_millis(500));
    let tasks = std::fs::read_dir(format!("/proc/{}/task", child.id())).expect("threads");
    let mut threads = 0;
    for task in tasks.flatten() {
        let status = std::fs::read_to_string(task.path().join("status")).expect("its status");
        let of = |name: &str| status.lines().find(|line| line.starts_with(name)).expect("a line").to_string();
        assert!(!of("Uid:").split_whitespace().skip(1).any(|uid| uid == "0"), "{status}");
        assert!(!of("Gid:").split_whitespace().skip(1).any(|gid| gid == "0"), "{status}");
        assert_eq!(of("CapEff:").split_whitespace().nth(1), Some("0000000000000000"));
        threads += 1;
    }
    assert!(threads > 3);
    signal(&child, "-TERM");
    assert_eq!(child.wait_with_output().expect("it ends").status.code(), Some(0));
    assert_eq!(std::fs::read_to_string(&out).expect("the file").lines().count(), 4);
    let owner = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(&out).expect("the file"));
    assert_ne!(owner, 0);
}

#[test]
fn sockets_of_a_service_manager_are_used() {
    // As systemd does it: descriptors from 3 on, and the process's own number in the environment.
    let manager = r#"
import os, socket, sys
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.bind(("127.0.0.1", 0))
tcp = socket.create_server(("127.0.0.1", 0))
udp_at, tcp_at = ("127.0.0.1:%d" % s.getsockname()[1] for s in (udp, tcp))
for i, s in enumerate((udp, tcp)):
    os.dup2(s.fileno(), 50 + i)
for i in (0, 1):
    os.dup2(50 + i, 3 + i)
os.environ.update(LISTEN_FDS="2", LISTEN_PID=str(os.getpid()))
os.execv(sys.argv[1], [sys.argv[1], "collect", "--listen", udp_at, "--tcp", tcp_at, "--format", "none", "--json"])
"#;
    let mut command = Command::new("python3");
    command.args(["-c", manager, env!("CARGO_BIN_EXE_flowlane")]);
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("python3");
    let mut said = BufReader::new(child.stderr.take().expect("its errors")).lines();
    let mut listening = || loop {
        let line = said.next().expect("a line").expect("text");
        if let Some(rest) = line.strip_prefix("listening on ") {
            return rest.split([',', ' ']).next().expect("an address").to_string();
        }
    };
    let (udp, tcp) = (listening(), listening());
    send(&udp, 5);
    let mut stream = std::net::TcpStream::connect(tcp).expect("somebody listens");
    stream.write_all(&[0, 10, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]).expect("sent");
    drop(stream);
    std::thread::sleep(Duration::from_millis(500));
    signal(&child, "-TERM");
    let output = child.wait_with_output().expect("it ends");
    let summary: Value = serde_json::from_slice(&output.stdout).expect("the summary");
    assert_eq!((&summary["datagrams"], &summary["connections"]["closed"]), (&6.into(), &1.into()), "{summary}");
}
