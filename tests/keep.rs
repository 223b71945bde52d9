//! A collector that is killed at any moment loses nothing but what it received last, and doubles nothing.

use flowlane::keep::sealed_files;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::RowAccessor;
use parquet::schema::parser::parse_message_type;
use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// What a kill may cost: rows wait a second in a batch, and a loaded machine takes its time.
const LAST: Duration = Duration::from_millis(2500);

struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Starts a collector and waits until it listens; answers with its port.
fn collect(folder: &Path, more: &[&str]) -> (Child, u16) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_flowlane"))
        .args(["collect", "--listen", "127.0.0.1:0", "--node", "test", "--rotate", "1s", "--threads", "1", "--out"])
        .arg(folder)
        .args(more)
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("flowlane starts");
    let mut lines = BufReader::new(child.stderr.take().expect("its errors")).lines();
    let port = loop {
        let line = lines.next().expect("it listens").expect("text");
        if let Some(rest) = line.split("listening on 127.0.0.1:").nth(1) {
            break rest.split(' ').next().and_then(|p| p.parse().ok()).expect("a port");
        }
    };
    // What it says later is read, so that it never waits for that.
    std::thread::spawn(move || lines.for_each(drop));
    (child, port)
}

/// A v5 message of 30 flows, whose source addresses are 30 numbers from `first` on.
fn message(first: u32) -> Vec<u8> {
    let mut bytes = vec![0, 5, 0, 30];
    bytes.extend([0; 12]);
    bytes.extend(first.to_be_bytes());
    bytes.extend([0; 4]);
    for id in first..first + 30 {
        bytes.extend(id.to_be_bytes());
        bytes.extend([0; 44]);
    }
    bytes
}

/// How often each number stands in the folder's sealed files.
fn found(folder: &Path) -> HashMap<u32, u32> {
    let mut found = HashMap::new();
    for file in sealed_files(folder).expect("a folder").0 {
        let reader = SerializedFileReader::new(File::open(&file.path).expect("a file")).expect("Parquet");
        let only = parse_message_type("message arrow_schema { optional int32 src_ip4 (integer(32, false)); }")
            .expect("a schema");
        for row in reader.get_row_iter(Some(only)).expect("rows") {
            *found.entry(row.expect("a row").get_uint(0).expect("an address")).or_default() += 1;
        }
    }
    found
}

/// An IPFIX message of one set.
fn ipfix(sequence: u32, id: u16, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, 10];
    bytes.extend((20 + body.len() as u16).to_be_bytes());
    bytes.extend([0x65, 0x53, 0xf1, 0]);
    bytes.extend(sequence.to_be_bytes());
    bytes.extend([0, 0, 0, 7]);
    bytes.extend(id.to_be_bytes());
    bytes.extend((4 + body.len() as u16).to_be_bytes());
    [&bytes, body].concat()
}

#[test]
fn templates_that_are_never_sent_again_outlive_a_kill() {
    let folder = Scratch(std::env::temp_dir().join(format!("flowlane-state-{}", std::process::id())));
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let template = [1, 0, 0, 1, 0, 8, 0, 4];
    let mut sent = 0u32;
    for round in 0..3 {
        let (mut child, port) = collect(&folder.0, &[]);
        if round == 0 {
            // And a set of a template that comes after the next start.
            socket.send_to(&ipfix(0, 2, &template), ("127.0.0.1", port)).expect("sent");
            socket.send_to(&ipfix(0, 300, &[0, 0, 0, 99]), ("127.0.0.1", port)).expect("sent");
        }
        if round == 1 {
            socket.send_to(&ipfix(sent, 2, &[1, 44, 0, 1, 0, 8, 0, 4]), ("127.0.0.1", port)).expect("sent");
        }
        for _ in 0..20 {
            sent += 1;
            socket.send_to(&ipfix(sent, 256, &(1000 + sent).to_be_bytes()), ("127.0.0.1", port)).expect("sent");
        }
        std::thread::sleep(LAST);
        child.kill().expect("killed");
        child.wait().expect("ended");
    }
    let (mut child, _) = collect(&folder.0, &["--duration", "1s"]);
    assert!(child.wait().expect("ended").success());
    let mut found: Vec<u32> =
        found(&folder.0).into_iter().map(|(id, n)| (n == 1).then_some(id).expect("once")).collect();
    found.sort_unstable();
    let expected: Vec<u32> = std::iter::once(99).chain(1001..=1060).collect();
    assert_eq!(found, expected);
}

#[test]
fn kills_lose_the_last_moment_at_most_and_double_nothing() {
    let rounds: u64 = std::env::var("FLOWLANE_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(8);
    let folder = Scratch(std::env::temp_dir().join(format!("flowlane-kill-{}", std::process::id())));
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let (mut next, mut kept) = (1, Vec::new());
    for round in 0..rounds {
        let (mut child, port) = collect(&folder.0, &[]);
        let mut sent = Vec::new();
        // Somewhere between two rotations, of which each is sealed while the next is written.
        let until = Instant::now() + LAST + Duration::from_millis(400 + round * 37 % 700);
        while Instant::now() < until {
            socket.send_to(&message(next), ("127.0.0.1", port)).expect("sent");
            sent.push((next, Instant::now()));
            next += 30;
            std::thread::sleep(Duration::from_millis(3));
        }
        child.kill().expect("killed");
        let killed = Instant::now();
        child.wait().expect("ended");
        kept.extend(sent.into_iter().filter(|s| killed - s.1 > LAST).flat_map(|s| s.0..s.0 + 30));
    }
    // The last start seals what the kills left.
    let (mut child, _) = collect(&folder.0, &["--duration", "1s"]);
    assert!(child.wait().expect("ended").success());
    let found = found(&folder.0);
    assert!(!kept.is_empty());
    let lost = kept.iter().filter(|id| !found.contains_key(id)).count();
    assert_eq!(lost, 0, "of {} flows that were received early enough", kept.len());
    assert_eq!(found.values().filter(|&&n| n != 1).count(), 0, "flows that stand there twice");
    println!("{rounds} kills: {} of {} flows are there", found.len(), next - 1);
}
