//! Questions to files, by the program: what comes out in which form, and what is said where nothing does.

mod scratch;

use parquet::file::reader::{FileReader, SerializedFileReader};
use scratch::Scratch;
use serde_json::Value;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

fn fixture(name: &str) -> String {
    format!("{}/fixtures/{name}.pcap", env!("CARGO_MANIFEST_DIR"))
}

fn flowlane(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_flowlane"));
    command.args(args).stdin(Stdio::null()).env("LANG", "C.UTF-8").output().expect("the program")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("text")
}

/// The objects of an answer in NDJSON.
fn objects(args: &[&str]) -> Vec<Value> {
    let output = flowlane(&[args, &["--format", "ndjson"]].concat());
    assert!(output.status.success(), "{args:?}: {}", text(&output.stderr));
    text(&output.stdout).lines().map(|l| serde_json::from_str(l).expect("JSON")).collect()
}

fn sum(rows: &[Value], column: &str) -> i64 {
    rows.iter().map(|r| r[column].as_i64().unwrap_or(0)).sum()
}

/// A recording as a file of flows.
fn decoded(scratch: &Scratch, recording: &str, name: &str) -> String {
    let path = scratch.path(name);
    assert!(flowlane(&["decode", &fixture(recording), "--out", &path]).status.success());
    path
}

#[test]
fn series_add_up_to_the_flows() {
    let scratch = Scratch::new("series");
    let file = decoded(&scratch, "demo/softflowd_v9", "flows.parquet");
    let flows = objects(&["flows", "--in", &file, "--limit", "0", "--fields", "bytes,packets,proto"]);
    for at in ["spread", "end", "received"] {
        let points = objects(&["series", "--in", &file, "--every", "10s", "--at", at]);
        assert_eq!(
            (sum(&points, "bytes"), sum(&points, "packets"), sum(&points, "flows")),
            (sum(&flows, "bytes"), sum(&flows, "packets"), flows.len() as i64),
            "{at}"
        );
        assert!(at == "received" || points.len() > 1, "{at}: {points:?}");
    }
    // A row an interval and series; the groups and the others are the total.
    let points = objects(&["series", "--in", &file, "--every", "10s", "--group", "proto", "-n", "1"]);
    let of = |row: &str| points.iter().filter(|p| p["row"] == row).cloned().collect::<Vec<Value>>();
    let (first, others, total) = (of("group"), of("others"), of("total"));
    assert!(first.iter().all(|p| p["proto"] == 6) && others.iter().all(|p| p["proto"].is_null()), "{points:?}");
    assert_eq!((first.len(), others.len(), points.len()), (total.len(), total.len(), 3 * total.len()));
    assert_eq!(sum(&first, "bytes") + sum(&others, "bytes"), sum(&total, "bytes"));
    let tcp: Vec<Value> = flows.iter().filter(|f| f["proto"] == 6).cloned().collect();
    assert_eq!(sum(&first, "bytes"), sum(&tcp, "bytes"));
    let summary = objects(&["series", "--in", &file, "--every", "10s", "--show", "summary", "--by", "bytes"]);
    let greatest = total.iter().filter_map(|p| p["bytes"].as_i64()).max();
    assert_eq!(
        (summary.len(), summary[0]["max_bytes"].as_i64(), summary[0]["interval_s"].as_i64()),
        (1, greatest, Some(10))
    );
    // Both, and pictures, for people.
    let table = text(&flowlane(&["series", "--in", &file, "--every", "10s", "--format", "table"]).stdout);
    assert!(table.contains("p95") && table.contains('█') && table.contains('▁'), "{table}");
}

#[test]
fn what_came_back_counts_where_it_is_asked_for() {
    let scratch = Scratch::new("both");
    let file = decoded(&scratch, "softflowd_ipfix_bidirectional", "flows.parquet");
    let flows = objects(&["flows", "--in", &file, "--limit", "0", "--fields", "bytes,rev_bytes,packets,rev_packets"]);
    let (forth, back) = (sum(&flows, "bytes"), sum(&flows, "rev_bytes"));
    let packets = sum(&flows, "packets") + sum(&flows, "rev_packets");
    assert!(forth > 0 && back > 0);
    for question in [&["top", "proto"][..], &["series", "--every", "1h", "--group", "proto"]] {
        let ask = |more: &[&str]| {
            let rows = objects(&[question, &["--in", &file], more].concat());
            rows.into_iter().filter(|r| r["row"] == "total").collect::<Vec<Value>>()
        };
        assert_eq!(sum(&ask(&[]), "bytes"), forth);
        let both = ask(&["--both"]);
        assert_eq!((sum(&both, "bytes_both"), sum(&both, "packets_both")), (forth + back, packets));
    }
}

#[test]
fn answers_in_every_form_have_the_same_columns() {
    let scratch = Scratch::new("forms");
    let file = decoded(&scratch, "demo/softflowd_v9", "flows.parquet");
    let questions: [&[&str]; 4] = [
        &["top", "src_addr,dst_port", "-n", "5"],
        &["flows", "--fields", "flow_start,src_addr,proto,bytes", "--limit", "7", "--order", "bytes"],
        &["series", "--every", "1m"],
        &["connections", "-n", "6"],
    ];
    for question in questions {
        let question = [question, &["--in", &file]].concat();
        let csv = text(&flowlane(&[&question[..], &["--format", "csv"]].concat()).stdout);
        let header: Vec<&str> = csv.lines().next().expect("a header").split(',').collect();
        // What people read elsewhere, as among the keys, has a column for programs.
        let plain = header.iter().filter(|name| ["row", "groups"].contains(name)).count();
        let rows = csv.lines().count() - 1;
        let markdown = text(&flowlane(&[&question[..], &["--format", "markdown"]].concat()).stdout);
        assert_eq!(markdown.lines().count(), rows + 2, "{markdown}");
        assert_eq!(markdown.lines().next().map(|l| l.matches('|').count()), Some(header.len() - plain + 1));
        for row in objects(&question) {
            let known = |k: &String| header.contains(&k.as_str());
            assert!(row.as_object().expect("an object").keys().all(known), "{row} {header:?}");
        }
        let out = scratch.path("answer.parquet");
        assert!(flowlane(&[&question[..], &["--out", &out]].concat()).status.success());
        let parquet = SerializedFileReader::new(std::fs::File::open(&out).expect("a file")).expect("Parquet");
        let metadata = parquet.metadata().file_metadata();
        let columns: Vec<&str> = metadata.schema_descr().columns().iter().map(|c| c.name()).collect();
        assert_eq!((columns, metadata.num_rows()), (header, rows as i64), "{question:?}");
    }
}

#[test]
fn conversations_hold_every_flow_once() {
    let scratch = Scratch::new("connections");
    let file = decoded(&scratch, "demo/softflowd_v9", "flows.parquet");
    let flows = objects(&["flows", "--in", &file, "--limit", "0", "--fields", "bytes"]);
    let ask = |more: &[&str]| objects(&[&["connections", "--in", &file, "-n", "0"], more].concat());
    let (joined, one_way) = (ask(&[]), ask(&["--one-way"]));
    let bytes = |rows: &[Value]| sum(rows, "sent_bytes") + sum(rows, "received_bytes");
    assert!(joined.len() > 100 && !one_way.is_empty());
    assert_eq!(bytes(&joined) + bytes(&one_way), sum(&flows, "bytes"));
    assert_eq!(sum(&joined, "flows") + sum(&one_way, "flows"), flows.len() as i64);
    // In parts, as of more flows than memory may hold.
    let mut parts = ask(&["--flows", "40", "--order", "start"]);
    let mut whole = ask(&["--order", "start"]);
    for rows in [&mut parts, &mut whole] {
        rows.sort_by_key(Value::to_string);
    }
    assert_eq!(parts.len(), whole.len());
    parts.iter().zip(&whole).for_each(|(a, b)| assert_eq!(a, b));
    assert!(one_way.iter().all(|c| c["received_bytes"].is_null()));
}

#[test]
fn answers_for_others_have_other_addresses_and_the_same_sums() {
    let scratch = Scratch::new("others");
    let file = decoded(&scratch, "demo/softflowd_v9", "flows.parquet");
    let key = "a key that has just 32 character";
    let others: flowlane::query::Anonymiser = key.parse().expect("a key");
    let questions: [(&[&str], &[&str]); 3] = [
        (&["series", "--every", "1h", "--group", "src_addr", "-n", "9"], &["src_addr"]),
        (&["connections", "-n", "0"], &["client_addr", "server_addr"]),
        (&["top", "addr", "-n", "9"], &["addr"]),
    ];
    for (question, addresses) in questions {
        let ask = |more: &[&str]| {
            let mut rows = objects(&[question, &["--in", &file], more].concat());
            rows.sort_by_key(Value::to_string);
            rows
        };
        let (mut real, shown) = (ask(&[]), ask(&["--anonymise", key]));
        for name in addresses {
            for row in &mut real {
                if let Some(address) = row[*name].as_str().map(|a| others.text(a)) {
                    row[*name] = address.into();
                }
            }
        }
        real.sort_by_key(Value::to_string);
        assert!(real.len() > 3, "{question:?}");
        assert_eq!(real, shown, "{question:?}");
    }
    let asked = ["report", "--in", &file, "--json", "--out", "-"];
    let real: Value = serde_json::from_slice(&flowlane(&asked).stdout).expect("JSON");
    let shown: Value =
        serde_json::from_slice(&flowlane(&[&asked[..], &["--anonymise", key]].concat()).stdout).expect("JSON");
    let first = |report: &Value| {
        report["panels"][0]["views"][0]["by"]["bytes"]["rows"][0]["keys"][0].as_str().map(String::from)
    };
    assert_eq!((shown["total"].clone(), first(&shown)), (real["total"].clone(), first(&real).map(|a| others.text(&a))));
}

#[test]
fn a_flow_that_two_exporters_saw_counts_once() {
    let scratch = Scratch::new("dedup");
    // The same traffic, of two probes; in each, flows go in and out.
    decoded(&scratch, "softflowd_v9_live", "a.parquet");
    let total = |more: &[&str]| {
        let rows = objects(&[&["top", "proto", "--in", &scratch.path("")], more].concat());
        rows.iter().find(|r| r["row"] == "total").expect("a total").clone()
    };
    let once = total(&[]);
    std::fs::copy(scratch.path("a.parquet"), scratch.path("b.parquet")).expect("copied");
    // One exporter twice is no other exporter.
    let twice = total(&["--dedup", "exporter"]);
    assert_eq!(twice["bytes"].as_i64(), once["bytes"].as_i64().map(|n| 2 * n));
    std::fs::remove_file(scratch.path("b.parquet")).expect("removed");
    let second = flowlane(&["decode", &fixture("softflowd_ipfix_live"), "--out", &scratch.path("b.parquet")]);
    assert!(second.status.success());
    assert!(total(&[])["flows"].as_i64() > once["flows"].as_i64());
}

#[test]
fn netflow_json_and_parquet_are_analyzed_alike() {
    let scratch = Scratch::new("analyze");
    for recording in
        ["demo/softflowd_v5", "demo/softflowd_v9", "softflowd_ipfix_micro_over_v6", "softflowd_ipfix_bidirectional"]
    {
        let file = decoded(&scratch, recording, "flows.parquet");
        let gzip = scratch.path("flows.gz");
        assert!(
            flowlane(&["decode", &fixture(recording), "--format", "netflow-json", "--out", &gzip]).status.success()
        );
        let rows = |path: &str| {
            let mut rows = objects(&["analyze", "-f", path, "-p", "1"]);
            rows.sort_by_key(Value::to_string);
            rows
        };
        let (of_parquet, of_json) = (rows(&file), rows(&gzip));
        assert!(of_json.len() > 50, "{recording}");
        assert_eq!(of_parquet.len(), of_json.len(), "{recording}");
        of_parquet.iter().zip(&of_json).for_each(|(a, b)| assert_eq!(a, b, "{recording}"));
    }
    let file = scratch.path("flows.parquet");
    let shown = text(&flowlane(&["analyze", "-f", &file, "-p", "1000000", "-v"]).stdout);
    assert!(shown.contains("connections of fewer than 1000000 packets") && shown.contains("noise"), "{shown}");
    let host = objects(&["analyze", "-f", &file, "-p", "1"])[0]["src_addr"].as_str().expect("text").to_string();
    let of_host = objects(&["analyze", "-f", &file, "-p", "1", "--match-host", &host]);
    assert!(!of_host.is_empty() && of_host.iter().all(|r| r["src_addr"] == host || r["dst_addr"] == host));
    // A line that is none is named; the others are read.
    let lines = scratch.path("lines.json");
    std::fs::write(&lines, "{\"1\": []}\n").expect("written");
    let output = flowlane(&["analyze", "-f", &lines]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("line 1") && text(&output.stdout).contains("no flow"));
    assert_eq!(flowlane(&["analyze", "-f", &scratch.path("nothing")]).status.code(), Some(1));
}

#[test]
fn an_empty_answer_says_why_and_damage_is_named() {
    let scratch = Scratch::new("empty");
    let said = |args: &[&str]| {
        let output = flowlane(args);
        (output.status.code(), text(&output.stderr))
    };
    let folder = scratch.path("");
    let (code, why) = said(&["series", "--in", &folder]);
    assert!(code == Some(0) && why.contains("no Parquet"), "{why}");
    decoded(&scratch, "demo/softflowd_v9", "flows.parquet");
    let (code, why) = said(&["connections", "--in", &folder, "last 1m"]);
    assert!(code == Some(0) && why.contains("received from 2026-"), "{why}");
    let (code, why) = said(&["top", "proto", "--in", &folder, "proto 3"]);
    assert!(code == Some(0) && why.contains("holds for none of"), "{why}");
    let (code, why) = said(&["top", "proto", "--in", &folder, "--scale", "--stats"]);
    assert!(code == Some(0) && why.contains("row groups"), "{why}");
    std::fs::write(scratch.path("broken.parquet"), b"PAR1 and no more").expect("written");
    for question in [&["series"][..], &["top", "proto"], &["flows"], &["connections"], &["info"]] {
        let place = if question == ["info"] { &[&folder[..]][..] } else { &["--in", &folder] };
        let (code, why) = said(&[question, place].concat());
        assert!(code == Some(1) && why.contains("broken.parquet"), "{question:?}: {why}");
    }
    let (code, why) = said(&["flows", "--in", &folder, "--format", "parquet", "--out", "/nowhere/x.parquet"]);
    assert!(code == Some(1) && why.contains("/nowhere"), "{why}");
}

#[test]
fn an_interrupted_question_shows_what_was_read() {
    let scratch = Scratch::new("interrupted");
    let file = decoded(&scratch, "demo/softflowd_v9", "0.parquet");
    for i in 1..2500 {
        std::fs::hard_link(&file, scratch.path(&format!("{i}.parquet"))).expect("linked");
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_flowlane"));
    command.args(["flows", "--in", &scratch.path(""), "--limit", "0", "--format", "csv"]);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it");
    let mut out = std::io::BufReader::new(child.stdout.take().expect("an output"));
    // It is in the midst of it.
    let mut line = String::new();
    for _ in 0..100 {
        std::io::BufRead::read_line(&mut out, &mut line).expect("a line");
    }
    let interrupt = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(interrupt.expect("kill").success());
    let reading = std::thread::spawn(move || std::io::BufRead::lines(out).map_while(Result::ok).count());
    let mut waited = 0;
    while child.try_wait().expect("a status").is_none() && waited < 600 {
        std::thread::sleep(Duration::from_millis(100));
        waited += 1;
    }
    let _ = child.kill();
    let output = child.wait_with_output().expect("it ends");
    let rows = reading.join().expect("read");
    assert_eq!(output.status.code(), Some(130));
    assert!(text(&output.stderr).contains("stopped: "), "{}", text(&output.stderr));
    assert!(rows < 2500 * 500, "{rows}");
}

#[test]
fn the_language_of_filters_is_explained() {
    let shown = text(&flowlane(&["help", "filter"]).stdout);
    assert!(shown.contains("src net 10/8") && shown.contains("time_received"), "{shown}");
    let output = flowlane(&["top", "src_addr", "--in", "/", "sorce port 80"]);
    assert!(output.status.code() == Some(2) && text(&output.stderr).contains(">>>sorce"));
}

#[test]
fn top_tells_one_measure_alone() {
    let scratch = Scratch::new("only");
    let file = decoded(&scratch, "demo/softflowd_v9", "flows.parquet");
    for by in ["bytes", "packets", "flows"] {
        let ask = ["top", "src_addr", "--in", &file, "--by", by, "-n", "3"];
        let (all, only) = (objects(&ask), objects(&[&ask[..], &["--only"]].concat()));
        let names: Vec<&String> = only[0].as_object().expect("an object").keys().collect();
        let mut expected = ["src_addr", by, "share", "groups", "row"];
        let mut found = names.clone();
        found.sort();
        expected.sort();
        assert_eq!(found, expected);
        let of = |rows: &[Value]| -> Vec<Vec<Value>> {
            rows.iter().map(|row| expected.iter().map(|name| row[*name].clone()).collect()).collect()
        };
        assert!(all.len() > 3 && of(&all) == of(&only), "{all:?} {only:?}");
    }
    let output = flowlane(&["top", "src_addr", "--in", &file, "--by", "bps", "--only"]);
    assert!(output.status.code() == Some(2) && text(&output.stderr).contains("two sums"));
}

/// A program's answer, what it said beside it, and its exit code.
fn said(args: &[&str]) -> (String, String, Option<i32>) {
    let output = flowlane(args);
    (text(&output.stdout), text(&output.stderr), output.status.code())
}

#[test]
fn out_is_written_through_what_is_no_plain_file() {
    use std::io::Read;
    use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
    let scratch = Scratch::new("out");
    let file = decoded(&scratch, "demo/softflowd_v9", "flows.parquet");
    let (link, target, pipe) = (scratch.path("link.csv"), scratch.path("target.csv"), scratch.path("pipe"));
    std::fs::write(&target, "before").expect("written");
    std::fs::set_permissions(&target, std::fs::Permissions::from_mode(0o600)).expect("a mode");
    symlink("target.csv", &link).expect("a link");
    let questions: [&[&str]; 3] = [&["export"], &["flows"], &["top", "proto"]];
    for question in questions {
        let (_, why, code) = said(&[question, &["--in", &file, "--out", &link]].concat());
        assert_eq!((code, &*why), (Some(0), ""), "{question:?}");
        assert!(std::fs::symlink_metadata(&link).expect("there").is_symlink());
        let about = std::fs::metadata(&target).expect("there");
        assert!(about.len() > 100 && about.permissions().mode() & 0o777 == 0o600, "{about:?}");
        // A device that takes nothing stays one, and is named.
        let (_, why, code) = said(&[question, &["--in", &file, "--format", "csv", "--out", "/dev/full"]].concat());
        assert!(code == Some(1) && why.contains("/dev/full"), "{why}");
        assert!(std::fs::metadata("/dev/full").expect("there").file_type().is_char_device());
        let (out, _, code) = said(&[question, &["--in", &file, "--format", "csv", "--out", "/dev/stdout"]].concat());
        assert!(code == Some(0) && out.lines().count() > 1, "{out}");
    }
    assert!(Command::new("mkfifo").arg(&pipe).status().expect("mkfifo").success());
    let reading = {
        let pipe = pipe.clone();
        std::thread::spawn(move || {
            let mut all = String::new();
            std::fs::File::open(pipe).and_then(|mut f| f.read_to_string(&mut all)).map(|_| all)
        })
    };
    assert_eq!(said(&["export", "--in", &file, "--format", "csv", "--out", &pipe]).2, Some(0));
    assert!(reading.join().expect("read").expect("text").lines().count() > 100);
    assert!(std::fs::metadata(&pipe).expect("there").file_type().is_fifo());
}

#[test]
fn a_pipe_gets_all_flows_and_a_limit_says_so() {
    let scratch = Scratch::new("limit");
    let file = decoded(&scratch, "demo/softflowd_v9", "flows.parquet");
    let (all, why, _) = said(&["flows", "--in", &file]);
    let flows = all.lines().count() - 1;
    assert!(flows > 100 && why.is_empty(), "{flows} {why}");
    let (ten, why, _) = said(&["flows", "--in", &file, "--limit", "10"]);
    assert!(ten.lines().count() == 11 && why.is_empty(), "{why}");
    let (ordered, why, _) = said(&["flows", "--in", &file, "--order", "bytes"]);
    assert!(ordered.lines().count() == 101 && why.contains(&format!("100 of {flows} flows")), "{why}");
}

#[test]
fn rates_of_groups_have_no_share() {
    let scratch = Scratch::new("share");
    let file = decoded(&scratch, "demo/softflowd_v9", "flows.parquet");
    for (by, has) in [("bytes", true), ("flows", true), ("bps", false), ("pps", false), ("bpp", false)] {
        let rows = objects(&["top", "src_addr", "--in", &file, "--by", by]);
        assert!(rows.iter().all(|r| r["share"].is_number() == has), "{by}: {rows:?}");
    }
    // For people, a percentage.
    assert!(said(&["top", "proto", "--in", &file, "--format", "markdown"]).0.contains("%"));
}

#[test]
fn answers_are_no_flows_and_a_file_given_twice_is_read_once() {
    let scratch = Scratch::new("answers");
    let file = decoded(&scratch, "demo/softflowd_v9", "flows.parquet");
    let total = |args: &[&str]| {
        let rows = objects(&[&["top", "proto"], args].concat());
        rows.iter().find(|r| r["row"] == "total").expect("a total")["bytes"].clone()
    };
    let once = total(&["--in", &file]);
    assert_eq!(total(&["--in", &file, "--in", &file, "--in", &scratch.path("")]), once);
    for question in [&["flows"][..], &["top", "dst_port"]] {
        let answer = scratch.path("answer.parquet");
        assert_eq!(said(&[question, &["--in", &file, "--out", &answer]].concat()).2, Some(0));
        let (out, why, code) = said(&["top", "proto", "--in", &scratch.path(""), "--format", "ndjson"]);
        assert!(code == Some(1) && why.contains("answer.parquet") && why.contains("flowlane export"), "{why}");
        assert!(out.contains(&format!("\"bytes\":{once}")), "{out}");
        std::fs::remove_file(&answer).expect("removed");
    }
    // A capture is no file of flows either, and what reads it is said.
    let (_, why, code) = said(&["flows", "--in", &fixture("demo/softflowd_v9")]);
    assert!(code == Some(1) && why.contains("flowlane decode"), "{why}");
    let (_, why, code) = said(&["analyze", "-f", &fixture("demo/softflowd_v9")]);
    assert!(code == Some(2) && why.contains("flowlane decode"), "{why}");
    let (_, why, code) = said(&["analyze", "-f", "/nonexistent"]);
    assert!(code == Some(1) && why.contains("/nonexistent") && !why.contains("is shown"), "{why}");
}

#[test]
fn keys_have_a_type_in_ndjson_and_parquet() {
    let scratch = Scratch::new("types");
    let file = decoded(&scratch, "demo/softflowd_v9", "flows.parquet");
    let rows = objects(&["top", "dst_port,proto,counters_are_total", "--in", &file, "-n", "3"]);
    let groups = || rows.iter().filter(|r| r["row"] == "group");
    assert!(
        groups().all(|r| r["dst_port"].is_u64() && r["proto"].is_u64() && r["counters_are_total"] == false),
        "{rows:?}"
    );
    assert_eq!((groups().count(), rows.len()), (3, 5));
    assert!(rows.iter().filter(|r| r["row"] != "group").all(|r| r["dst_port"].is_null() && r["groups"].is_u64()));
    let out = scratch.path("top.parquet");
    assert_eq!(said(&["top", "dst_port", "--in", &file, "--out", &out]).2, Some(0));
    let parquet = SerializedFileReader::new(std::fs::File::open(&out).expect("a file")).expect("Parquet");
    let descr = parquet.metadata().file_metadata().schema_descr().column(0);
    assert_eq!((descr.name(), descr.physical_type()), ("dst_port", parquet::basic::Type::INT64));
    // Elements name columns, and both directions have a word.
    let of =
        |args: &[&str]| said(&[args, &["--in", &file, "--format", "csv"]].concat()).0.lines().next().map(String::from);
    assert!(of(&["top", "destinationTransportPort,mask"]).is_some_and(|h| h.starts_with("dst_port,mask,flows")));
    assert_eq!(of(&["flows", "--fields", "mac,IN_BYTES"]).as_deref(), Some("src_mac,dst_mac,bytes"));
}

#[test]
fn an_empty_folder_has_no_blanks_and_damage_costs_no_row_a_byte() {
    let scratch = Scratch::new("info");
    let (out, why, code) = said(&["info", &scratch.path("")]);
    assert_eq!((&*out, code), ("files      0 sealed, 0 hot\n", Some(0)), "{why}");
    let file = decoded(&scratch, "demo/softflowd_v9", "flows.parquet");
    let bytes =
        |path: &str| serde_json::from_str::<Value>(&said(&["info", "--json", path]).0).expect("JSON")["bytes"].clone();
    let alone = bytes(&file);
    std::fs::write(scratch.path("broken.parquet"), vec![b'x'; 5000]).expect("written");
    assert_eq!(bytes(&scratch.path("")), alone);
}

#[test]
fn one_way_flows_are_why_there_is_no_conversation() {
    let scratch = Scratch::new("one-way");
    let file = decoded(&scratch, "demo/softflowd_v9", "flows.parquet");
    let (out, why, code) = said(&["connections", "--in", &file, "dst port 53", "--format", "csv"]);
    assert_eq!((out.lines().count(), code), (1, Some(0)));
    assert!(why.contains("--one-way"), "{why}");
}

#[test]
fn running_totals_have_a_line_of_their_own() {
    let capture = format!("{}/../shared/captures/logstash/ipfix_bench_yaf.pcap", env!("CARGO_MANIFEST_DIR"));
    if !std::path::Path::new(&capture).exists() {
        return;
    }
    let scratch = Scratch::new("totals");
    let file = scratch.path("flows.parquet");
    assert!(flowlane(&["decode", &capture, "--out", &file]).status.success());
    for question in [&["top", "proto"][..], &["series"], &["series", "--show", "summary", "--group", "proto"]] {
        let question = [question, &["--in", &file]].concat();
        let of = |rows: &[Value], row: &str| rows.iter().find(|r| r["row"] == row).cloned().unwrap_or_default();
        let apart = objects(&question);
        let running = of(&apart, "running totals");
        assert!(running["bytes"].as_i64() > Some(0) && running["flows"].as_i64() > Some(0), "{apart:?}");
        let (table, why, _) = said(&[&question[..], &["--format", "csv"]].concat());
        assert!(table.contains("running totals") && why.contains("--totals"), "{table}{why}");
        let counted = objects(&[&question[..], &["--totals"]].concat());
        assert!(of(&counted, "running totals").is_null());
        let total = |rows: &[Value]| {
            rows.iter().filter(|r| r["row"] == "total").map(|r| r["bytes"].as_i64().unwrap_or(0)).sum::<i64>()
        };
        assert_eq!(total(&counted), total(&apart) + running["bytes"].as_i64().unwrap_or(0), "{question:?}");
    }
    for question in [&["connections", "--in", &file][..], &["analyze", "-f", &file]] {
        let (_, why, _) = said(question);
        assert!(why.contains("running totals") && why.contains("bytes in"), "{why}");
    }
}

#[test]
fn what_is_ordered_is_bounded_by_rows_and_says_so() {
    let scratch = Scratch::new("rows");
    let file = decoded(&scratch, "demo/softflowd_v9", "flows.parquet");
    let ask = |more: &[&str]| {
        let (out, why, code) = said(&[&["flows", "--in", &file, "--order", "bytes", "--format", "csv"], more].concat());
        (out.lines().map(String::from).collect::<Vec<String>>(), why, code)
    };
    let (all, why, code) = ask(&["--limit", "0"]);
    assert!(all.len() > 100 && why.is_empty() && code == Some(0), "{why}");
    let (some, why, code) = ask(&["--limit", "0", "--rows", "20"]);
    assert_eq!((&some[..], code), (&all[..21], Some(1)));
    let flows = all.len() - 1;
    assert!(why.contains(&format!("greatest 20 of {flows} flows")) && why.contains("--rows"), "{why}");
    // Fewer are asked for than there is room for: nothing is missing.
    let (ten, why, code) = ask(&["--limit", "10", "--rows", "20"]);
    assert_eq!((&ten[..], &*why, code), (&all[..11], "", Some(0)));
}

#[test]
fn intervals_are_of_a_length_that_flows_fit_in() {
    use arrow_array::{ArrayRef, Int64Array, RecordBatch, TimestampMicrosecondArray};
    use std::sync::Arc;
    let scratch = Scratch::new("intervals");
    // Received within seconds, of up to half an hour; a clock that is wrong by years, in another file, changes nothing.
    for (name, began) in [("flows.parquet", 0), ("wrong.parquet", -400 * 86_400)] {
        let second = |n: i64| 1_764_000_000_000_000 + n * 1_000_000;
        let times = |of: &dyn Fn(i64) -> i64| -> ArrayRef {
            Arc::new((0..30).map(|n| Some(of(n))).collect::<TimestampMicrosecondArray>().with_timezone("UTC"))
        };
        let batch = RecordBatch::try_from_iter([
            ("time_received", times(&|n| second(1800 + n / 10))),
            ("flow_start", times(&|n| second(began + n * 60))),
            ("flow_end", times(&|n| second(began + n * 60 + 30))),
            ("bytes", Arc::new((0..30).collect::<Int64Array>()) as ArrayRef),
        ]);
        let batch = batch.expect("columns");
        let file = std::fs::File::create(scratch.path(name)).expect("a file");
        let mut writer = parquet::arrow::ArrowWriter::try_new(file, batch.schema(), None).expect("a writer");
        writer.write(&batch).expect("rows");
        writer.close().expect("an end");
        let step = |more: &[&str]| {
            let rows = objects(&[&["series", "--in", &scratch.path(""), "--show", "summary"], more].concat());
            rows[0]["interval_s"].as_i64()
        };
        assert_eq!((step(&[]), step(&["--at", "received"])), (Some(30), Some(1)), "{name}");
    }
}

#[test]
fn connections_of_a_folder_come_by_their_time() {
    let scratch = Scratch::new("by-time");
    decoded(&scratch, "softflowd_ipfix_live", "a.parquet");
    decoded(&scratch, "softflowd_v9_live", "b.parquet");
    let rows = objects(&["analyze", "-f", &scratch.path(""), "-p", "1"]);
    let times: Vec<&str> = rows.iter().filter_map(|r| r["time_received"].as_str()).collect();
    assert!(times.len() == rows.len() && times.first() < times.last(), "{times:?}");
    assert!(times.is_sorted(), "{times:?}");
}

#[test]
fn a_silent_pipe_ends_with_what_came() {
    use std::io::Write;
    let scratch = Scratch::new("silent");
    let lines = scratch.path("lines.gz");
    let written = ["decode", &fixture("demo/softflowd_v9"), "--format", "netflow-json", "--out", &lines];
    assert!(flowlane(&written).status.success());
    let mut compressed = std::fs::read(&lines).expect("lines");
    let expected = text(&flowlane(&["analyze", "-f", &lines, "-p", "1"]).stdout);
    for ends in [true, false] {
        if !ends {
            compressed.truncate(compressed.len() / 2);
        }
        let mut command = Command::new(env!("CARGO_BIN_EXE_flowlane"));
        // A file takes more than a pipe that nobody reads.
        let shown = std::fs::File::create(scratch.path("out")).expect("a file");
        command.args(["analyze", "-p", "1"]).stdin(Stdio::piped()).stdout(shown).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program");
        let mut pipe = child.stdin.take().expect("a pipe");
        pipe.write_all(&compressed).expect("written");
        // Until it has taken all of it, and listens to the signal.
        let deadline = std::time::Instant::now() + Duration::from_secs(60);
        let process = format!("/proc/{}", child.id());
        let listens = || {
            let status = std::fs::read_to_string(format!("{process}/status")).unwrap_or_default();
            let caught = status.lines().find_map(|l| l.strip_prefix("SigCgt:"));
            caught.and_then(|c| u64::from_str_radix(c.trim(), 16).ok()).is_some_and(|c| c >> 1 & 1 == 1)
        };
        while !listens() || rustix::io::ioctl_fionread(&pipe).is_ok_and(|n| n > 0) {
            assert!(std::time::Instant::now() < deadline, "it does not read");
            std::thread::sleep(Duration::from_millis(10));
        }
        assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill").success());
        while child.try_wait().expect("a process").is_none() {
            if std::time::Instant::now() > deadline {
                child.kill().expect("killed");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let output = child.wait_with_output().expect("its output");
        let out = std::fs::read_to_string(scratch.path("out")).expect("text");
        let why = text(&output.stderr);
        assert_eq!(output.status.code(), Some(130), "{why}");
        assert!(why.contains("stopped") && !why.contains("damaged") && !why.contains("cannot"), "{why}");
        assert!(if ends { out == expected } else { expected.len() > out.len() && out.len() > 1000 }, "{out}");
        drop(pipe);
    }
}
