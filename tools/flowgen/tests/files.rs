//! Files written and sent again, and the program itself.

use flowgen::{Delivery, Limits, Pace, Plan, Protocol, Replay, Speed, Template, Trouble};
use std::net::UdpSocket;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name)
}

fn count(messages: u64, to: &str) -> Delivery {
    let mut delivery = Delivery::to(to.parse().expect("an address"));
    delivery.limits = Limits { count: Some(messages), ..Limits::default() };
    delivery
}

fn everything() -> Plan {
    Plan {
        protocols: Protocol::ALL.to_vec(),
        templates: Template::ALL.to_vec(),
        exporters: 10,
        ports: 2,
        options: Some(100),
        refresh: 20,
        ..Plan::default()
    }
}

#[test]
fn a_file_counts_what_was_written() {
    let go_on = AtomicBool::new(false);
    for (name, to) in [("v4.pcap", "127.0.0.1:2055"), ("v6.pcap", "[::1]:2055")] {
        let sent = flowgen::write(&everything(), &count(1000, to), &path(name), &go_on).expect("written");
        let replay = Replay::open(&path(name)).expect("read");
        assert_eq!((replay.messages(), replay.skipped()), (1000, 0));
        let again = replay.write(&count(u64::MAX, to), &path("again.pcap"), &go_on).expect("written");
        let sums = |s: flowgen::Sent| (s.datagrams, s.bytes, s.records, s.options_records, s.octets, s.packets);
        assert_eq!(sums(again), sums(sent), "{name}");
        assert_eq!((again.exporters, again.unknown_sets), (20, 0));
        let bytes = |name| std::fs::read(path(name)).expect("a file");
        assert!(bytes(name) == bytes("again.pcap"), "a replay at the original speed is the same file: {name}");
    }
}

#[test]
fn a_replay_is_lossy_to_order() {
    let go_on = AtomicBool::new(false);
    let file = path("lossy.pcap");
    let sent = flowgen::write(&everything(), &count(2000, "127.0.0.1:2055"), &file, &go_on).expect("written");
    let mut replay = Replay::open(&file).expect("read");
    replay.trouble = Trouble { loss: 0.1, reorder: 0.1, duplicate: 0.1 };
    let lossy = replay.write(&count(u64::MAX, "127.0.0.1:2055"), &path("loss.pcap"), &go_on).expect("written");
    assert_eq!(lossy.datagrams + lossy.dropped_on_purpose - lossy.duplicated, sent.datagrams);
    assert!(lossy.missing > 0 && lossy.reordered > 0 && lossy.duplicated > 0, "{lossy:?}");
    assert_eq!(Replay::open(&path("loss.pcap")).expect("read").messages() as u64, lossy.datagrams);
}

#[test]
fn replays_take_their_time() {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let to = socket.local_addr().expect("an address").to_string();
    let (file, go_on) = (path("slow.pcap"), AtomicBool::new(false));
    // 30 000 records at 100 000 a second: 300 ms.
    flowgen::write(&Plan::default(), &count(1000, &to), &file, &go_on).expect("written");
    let mut replay = Replay::open(&file).expect("read");
    let mut times = |speed, repeat| {
        (replay.speed, replay.repeat) = (speed, repeat);
        let begun = Instant::now();
        let sent = replay.send(&count(u64::MAX, &to), &go_on).expect("sent");
        assert_eq!(sent.datagrams, 1000 * repeat);
        begun.elapsed()
    };
    let about = |time: Duration, ms: u64| time >= Duration::from_millis(ms - 10);
    assert!(about(times(Speed::Times(1.0), 1), 290));
    assert!(about(times(Speed::Times(2.0), 3), 440));
    assert!(times(Speed::Paced, 1) < Duration::from_millis(250));
}

#[test]
fn captures_follow_each_other_with_exporters_of_their_own() {
    let (socket, go_on) = (UdpSocket::bind("127.0.0.1:0").expect("a free port"), AtomicBool::new(false));
    let to = socket.local_addr().expect("an address").to_string();
    let file = path("one_of_two.pcap");
    let plan = Plan { exporters: 3, ..Plan::default() };
    let one = flowgen::write(&plan, &count(30, &to), &file, &go_on).expect("written");
    let mut replay = Replay::open(&file).expect("read");
    replay.append(&file).expect("read again");
    replay.speed = Speed::Paced;
    let two = replay.send(&count(u64::MAX, &to), &go_on).expect("sent");
    assert_eq!((two.exporters, two.records, two.octets), (6, 2 * one.records, 2 * one.octets));
    assert_eq!((two.unknown_sets, replay.unknown_sets(), replay.messages()), (0, 0, 60));
    replay.append(std::path::Path::new("no/such/file")).expect_err("no such file");
    assert_eq!(replay.messages(), 60);
}

#[test]
fn of_a_capture_that_is_cut_what_is_whole_is_sent() {
    let go_on = AtomicBool::new(false);
    let whole = path("whole.pcap");
    flowgen::write(&Plan::default(), &count(30, "127.0.0.1:2055"), &whole, &go_on).expect("written");
    let bytes = std::fs::read(&whole).expect("a file");
    let (cut, again) = (path("cut_tail.pcap"), path("cut_again.pcap"));
    let (cut_arg, again_arg) = (cut.to_str().expect("text"), again.to_str().expect("text"));
    // In the last frame, and in the header of its block.
    let last = frames_of(&bytes)[29];
    for end in [bytes.len() - 1, last + 9] {
        std::fs::write(&cut, &bytes[..end]).expect("written");
        let (code, printed, said) = flowgen(&["--replay", cut_arg, "--write", again_arg]);
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("cut_tail.pcap ends in the middle of a block"), "{said}");
        assert!(printed.contains("29"), "{printed}");
        assert!(std::fs::read(&again).expect("a file") == bytes[..last], "what is whole");
    }
    std::fs::write(&cut, &bytes[..40]).expect("written");
    let (code, _, said) = flowgen(&["--replay", cut_arg, "--write", again_arg]);
    assert!(code == Some(1) && said.contains("ends before its first message"), "{said}");
}

/// Where the frames of a pcap file of our own begin.
fn frames_of(bytes: &[u8]) -> Vec<usize> {
    let (mut at, mut found) = (24, Vec::new());
    while at < bytes.len() {
        found.push(at);
        at += 16 + word(bytes, at + 8) as usize;
    }
    found
}

fn word(bytes: &[u8], at: usize) -> u64 {
    u32::from_le_bytes(*bytes[at..].first_chunk().expect("a word")).into()
}

/// Their times, microseconds after the first.
fn frame_times(name: &str) -> Vec<u64> {
    let bytes = std::fs::read(path(name)).expect("a file");
    let times: Vec<u64> =
        frames_of(&bytes).into_iter().map(|at| word(&bytes, at) * 1_000_000 + word(&bytes, at + 4)).collect();
    times.iter().map(|time| time - times[0]).collect()
}

#[test]
fn bursts_are_in_a_file_too() {
    let go_on = AtomicBool::new(false);
    let mut delivery = count(30, "127.0.0.1:2055");
    (delivery.limits.pace, delivery.limits.burst) = (Pace::Datagrams(100.0), Some(10));
    let plan = Plan { exporters: 3, ..Plan::default() };
    flowgen::write(&plan, &delivery, &path("bursts.pcap"), &go_on).expect("written");
    let expected: Vec<u64> = (0..30).map(|at| at / 10 * 100_000).collect();
    assert_eq!(frame_times("bursts.pcap"), expected);
    let mut replay = Replay::open(&path("bursts.pcap")).expect("read");
    replay.speed = Speed::Paced;
    replay.write(&delivery, &path("bursts_again.pcap"), &go_on).expect("written");
    assert_eq!(frame_times("bursts_again.pcap"), expected);
}

fn flowgen(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_flowgen")).args(arguments).output().expect("the program");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn sums_are_one_json_object() {
    let file = path("cli.pcap");
    let file = file.to_str().expect("a path");
    let (code, out, err) = flowgen(&["--protocol", "v5", "--count", "100", "--write", file, "--json"]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    let sums: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!((sums["datagrams"].as_u64(), sums["records"].as_u64()), (Some(100), Some(3000)));
}

#[test]
fn wrong_values_are_one_line_and_exit_code_2() {
    for wrong in [
        &["--protocol", "v8"][..],
        &["--rate", "fast"],
        &["--loss", "101%"],
        &["--loss", "60%", "--duplicate", "60%"],
        &["--records", "0"],
        &["--records", "5000", "-n", "1"],
        &["--protocol", "v5", "--template", "ipv6"],
        &["--to", "nowhere"],
        &["--to", "127.0.0.1:0"],
        &["--to", "[::1]:9", "--from", "127.0.0.1"],
        &["--from", "192.0.2.200", "-n", "1"],
        &["--frob"],
        &["--replay", "x", "--exporters", "3"],
        &["--source-port", "65535", "--ports", "3", "-n", "1"],
        &["--ports", "20000", "-n", "1", "--write", "/dev/null"],
        &["--from", "127.255.255.255", "--exporters", "3", "-n", "1"],
        &["--from", "255.255.255.255", "--exporters", "2", "-n", "1", "--write", "/dev/null"],
        &["--to", "192.0.2.1", "--source-port", "65535", "--exporters", "2", "-n", "1"],
        &["-p", "v9", "--speed", "2x", "-n", "3"],
        &["-p", "v9", "--repeat", "2", "-n", "3"],
        &["--replay", "x", "--sampling", "100"],
    ] {
        let (code, out, err) = flowgen(wrong);
        assert_eq!((code, out.as_str(), err.lines().count()), (Some(2), "", 1), "{wrong:?}: {err}");
        assert!(err.starts_with("flowgen: "), "{err}");
    }
    let (code, _, err) = flowgen(&["--replay", "no/such/file.pcap"]);
    assert_eq!((code, err.lines().count()), (Some(1), 1), "{err}");
    assert_eq!(flowgen(&["--help"]).0, Some(0));
}
