//! A collector whose surroundings fail: what it writes to, what it reads from, who reads what it says.

mod running;
mod scratch;

use flowlane::collect::http::fetch;
use running::wait_for;
use scratch::Scratch;
use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpStream, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a collector may take to end.
const STOP: Duration = Duration::from_secs(12);

/// A process that does not outlive its test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A v5 message of one flow.
fn flow() -> Vec<u8> {
    let mut bytes = vec![0, 5, 0, 1];
    bytes.resize(24 + 48, 0);
    bytes
}

#[test]
fn whom_the_limit_of_exporters_refuses_has_no_line() {
    let scratch = Scratch::new("stranger");
    let path = scratch.path("lines.gz");
    let collector = running::Collector::start(&["--format", "netflow-json", "--out", &path, "--max-exporters", "1"]);
    for host in [1, 2, 1] {
        collector.send_from([127, 0, 0, host].into(), &flow());
    }
    collector.end(STOP);
    let file = std::fs::File::open(path).expect("it was written");
    let text = std::io::read_to_string(flate2::read::GzDecoder::new(file)).expect("lines");
    let of = |host| text.matches(&format!("[\"127.0.0.{host}\"")).count();
    assert_eq!((text.lines().count(), of(1), of(2)), (2, 2, 0), "{text}");
}

#[test]
fn it_ends_while_nobody_reads_what_it_says() {
    // A pipe that is full from the beginning.
    let (_reader, mut full) = std::io::pipe().expect("a pipe");
    full.write_all(&vec![b'\n'; 1 << 16]).expect("room for as much");
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let port = UdpSocket::bind("127.0.0.1:0").expect("a socket").local_addr().expect("an address").port();
    let child = Command::new(env!("CARGO_BIN_EXE_flowlane"))
        .args(["collect", "--threads", "1", "--format", "ndjson", "--out", "-", "--listen"])
        .arg(format!("127.0.0.1:{port}"))
        .stdout(Stdio::piped())
        .stderr(Stdio::from(full))
        .spawn()
        .expect("flowlane starts");
    let mut process = Process(child);
    let mut rows = BufReader::new(process.0.stdout.take().expect("piped")).lines();
    let sending = std::thread::spawn(move || {
        for _ in 0..1000 {
            // Refused until it listens, and once it has ended.
            let _ = socket.send_to(&flow(), ("127.0.0.1", port));
            std::thread::sleep(Duration::from_millis(5));
        }
    });
    assert!(rows.next().expect("a row").expect("text").contains("version"));
    std::thread::spawn(move || rows.for_each(drop));
    assert_eq!(running::end(&mut process.0, STOP).code(), Some(0));
    drop(process);
    sending.join().expect("sent");
}

fn pipe(path: &str) {
    assert!(Command::new("mkfifo").arg(path).status().expect("mkfifo").success());
}

#[test]
fn a_table_that_is_a_pipe_is_refused_and_one_that_becomes_one_holds_nothing_up() {
    let scratch = Scratch::new("pipe");
    let (table, named) = (scratch.path("networks.csv"), scratch.path("pipe"));
    pipe(&named);
    for (flag, what) in
        [("--networks", "a pipe"), ("--geo", "a pipe"), ("--exporters", "a pipe"), ("--elements", "a pipe")]
    {
        let args = ["collect", "--listen", "127.0.0.1:0", "--format", "none", "--duration", "1s", flag, &named];
        let output = Command::new(env!("CARGO_BIN_EXE_flowlane")).args(args).output().expect("the program");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(what) && said.contains(&named), "{flag}: {said}");
    }
    std::fs::write(&table, "10.0.0.0/8,net=office\n").expect("written");
    let collector = running::Collector::start(&["--format", "ndjson", "--out", "-", "--networks", &table]);
    std::fs::remove_file(&table).expect("removed");
    pipe(&table);
    let line = wait_for(&collector.said, "networks.csv");
    assert!(line.contains("it is a pipe") && line.contains("what it said before counts on"), "{line}");
    assert_eq!(collector.terminate(STOP).code(), Some(0));
}

/// Waits until something holds.
fn wait(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(Instant::now() < end, "{what} in time");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A collector whose folder goes while it writes, and comes again: ten rows before, 30 meanwhile, and ten after. `lines` counts
/// those that are on the disk, where that can be seen. Of those before `lost` go with it, and count as such.
fn its_folder_goes(out: &str, more: &[&str], lost: usize, lines: impl Fn() -> Option<usize>) {
    let more = [&["--out", out, "--http", "127.0.0.1:0", "--json"], more].concat();
    let collector = running::Collector::start(&more);
    let url = running::url(&collector.said);
    let ask = |path: &str| fetch(&url, path).expect("an answer");
    let rows = || {
        let ledger: Value = serde_json::from_str(&ask("/ledger").1).expect("JSON");
        let rows = &ledger["total"]["rows"];
        ["decoded", "written", "dropped"].map(|class| rows[class].as_u64().expect("a count"))
    };
    let are_there = || lines().is_none_or(|n| n == 10);
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let send = |n: usize| (0..n).for_each(|_| collector.send(&socket, &flow()));
    send(10);
    wait("rows", || rows() == [10, 10, 0] && are_there());
    assert_eq!(ask("/readyz"), (200, "ready\n".into()));

    // Gone, and it cannot be made again.
    std::fs::remove_dir_all(out).expect("removed");
    std::fs::write(out, "in the way").expect("written");
    for n in 1..=3 {
        send(10);
        wait("rows that are dropped", || rows() == [10 + 10 * n, 10 - lost, 10 * n + lost].map(|n| n as u64));
    }
    let (status, why) = ask("/readyz");
    assert!(status == 503 && why.contains("cannot be written: "), "{status} {why}");
    wait_for(&collector.said, "cannot write: ");

    // It can again: that is found out without a row.
    std::fs::remove_file(out).expect("removed");
    wait("it is ready", || ask("/readyz").0 == 200);
    wait_for(&collector.said, &format!("writing again; {} rows were dropped", 30 + lost));
    send(10);
    wait("rows again", || rows() == [50, 20 - lost, 30 + lost].map(|n| n as u64));
    let (said, printed) = collector.end(STOP);
    assert!(!said.iter().any(|line| line.contains("cannot write: ")), "said once a minute: {said:?}");
    let summary: Value = serde_json::from_str(&printed.concat()).expect("a summary");
    assert_eq!(
        (&summary["rows_written"], &summary["rows_dropped"]),
        (&(20 - lost).into(), &(30 + lost).into()),
        "{summary}"
    );
    // Those that went with it may have a cause of their own.
    let unwritten = summary["rows_unwritten"].as_array().expect("causes").iter().filter_map(|c| c["rows"].as_u64());
    assert_eq!(unwritten.sum::<u64>(), 30 + lost as u64, "{summary}");
    assert!(are_there(), "what came after it");
}

#[test]
fn a_folder_that_is_gone_costs_its_rows_alone_and_comes_again() {
    let scratch = Scratch::new("gone");
    let out = scratch.path("flows");
    its_folder_goes(&out, &["--node", "test"], 10, || None);
    let left = flowlane::keep::sealed_files(std::path::Path::new(&out)).expect("files").0.len();
    assert_eq!(left, 1, "what came after it");
}

#[test]
fn a_plain_folder_that_is_gone_costs_its_rows_alone_and_comes_again() {
    let scratch = Scratch::new("plain");
    let out = scratch.path("flows");
    its_folder_goes(&out, &["--format", "ndjson"], 0, || {
        let files = std::fs::read_dir(&out).into_iter().flatten().map(|entry| entry.expect("a file").path());
        let texts = files.filter(|p| p.is_file()).map(|path| std::fs::read_to_string(path).unwrap_or_default());
        Some(texts.map(|text| text.lines().count()).sum())
    });
}

#[test]
fn connections_leave_the_file_descriptors_that_datagrams_need() {
    let scratch = Scratch::new("descriptors");
    let out = scratch.path("flows");
    let args = ["--tcp", "127.0.0.1:0", "--http", "127.0.0.1:0", "--out", &out, "--node", "test", "--rotate", "1s"];
    let collector = running::Collector::start_with_descriptors(250, &args);
    let line = collector.before.iter().find(|line| line.contains("file descriptors")).expect("a warning");
    assert!(line.contains("250 are allowed") && line.contains("connections are taken at once"), "{line}");
    let line = wait_for(&collector.said, "over TCP");
    let to = line.split(' ').find(|word| word.starts_with("127.0.0.1:")).expect("an address").to_string();
    let url = running::url(&collector.said);
    let streams: Vec<TcpStream> = (0..300).map(|_| TcpStream::connect(&to).expect("it listens")).collect();
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let ledger = || serde_json::from_str::<Value>(&fetch(&url, "/ledger").expect("an answer").1).expect("JSON");
    let limited = |ledger: &Value| ledger["total"]["connections"]["limited"].as_u64().unwrap_or(0);
    for n in 1..=3 {
        collector.send(&socket, &flow());
        wait("rows", || ledger()["total"]["rows"]["written"] == n);
    }
    wait("connections", || ledger()["total"]["connections"]["accepted"] == streams.len());
    let ledger = ledger();
    assert!(limited(&ledger) > 100, "{ledger}");
    assert_eq!(ledger["total"]["connections"]["limited"], ledger["total"]["connections"]["without_descriptors"]);
    assert_eq!((&ledger["total"]["rows"]["dropped"], &ledger["socket_errors"]), (&0.into(), &0.into()));
    wait_for(&collector.said, "too many for the file descriptors");
    assert_eq!(collector.terminate(STOP).code(), Some(0));
}

#[test]
#[cfg(target_os = "linux")]
fn whoever_asks_for_all_exporters_takes_little_memory() {
    const EXPORTERS: u32 = 12_000;
    let collector = running::Collector::start(&["--format", "none", "--http", "127.0.0.1:0"]);
    let url = running::url(&collector.said);
    for n in 0..EXPORTERS {
        collector.send_from((u32::from(std::net::Ipv4Addr::new(127, 128, 0, 0)) + n).into(), &flow());
        if n % 64 == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    let metric = format!("flowlane_exporters {EXPORTERS}\n");
    wait("exporters", || fetch(&url, "/metrics").is_ok_and(|(_, text)| text.contains(&metric)));
    // Those who watch it all the time have looked.
    std::thread::sleep(Duration::from_secs(3));
    let before = collector.peak_kib();
    let (status, text) = fetch(&url, "/ledger").expect("an answer");
    let ledger: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!((status, ledger["exporters"].as_array().map(Vec::len)), (200, Some(EXPORTERS as usize)));
    let more = (collector.peak_kib() - before) << 10;
    // Its text alone is as much.
    assert!(more < 8 << 20, "{more} bytes more for an answer of {}", text.len());
}

#[test]
fn it_ends_with_whom_it_writes_for() {
    let (reader, pipe) = std::io::pipe().expect("a pipe");
    let port = UdpSocket::bind("127.0.0.1:0").expect("a socket").local_addr().expect("an address").port();
    let child = Command::new(env!("CARGO_BIN_EXE_flowlane"))
        .args(["collect", "--threads", "1", "--format", "ndjson", "--out", "-", "--listen"])
        .arg(format!("127.0.0.1:{port}"))
        .stdout(Stdio::from(pipe))
        .stderr(Stdio::piped())
        .spawn();
    let mut process = Process(child.expect("flowlane starts"));
    let mut said = BufReader::new(process.0.stderr.take().expect("piped")).lines().map_while(Result::ok);
    assert!(said.any(|line| line.contains("listening on")));
    drop(reader);
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    socket.send_to(&flow(), ("127.0.0.1", port)).expect("sent");
    assert!(said.any(|line| line.contains("the reader of standard output is gone")));
    wait("its end", || process.0.try_wait().expect("a process").is_some());
    assert_eq!(process.0.wait().expect("a process").code(), Some(0));
}

#[test]
fn a_pipe_that_nobody_reads_is_told_of() {
    let (_reader, pipe) = std::io::pipe().expect("a pipe");
    let port = UdpSocket::bind("127.0.0.1:0").expect("a socket").local_addr().expect("an address").port();
    let child = Command::new(env!("CARGO_BIN_EXE_flowlane"))
        .args([
            "collect",
            "--threads",
            "1",
            "--format",
            "ndjson",
            "--out",
            "-",
            "--queue",
            "64K",
            "--http",
            "127.0.0.1:0",
        ])
        .args(["--listen", &format!("127.0.0.1:{port}")])
        .stdout(Stdio::from(pipe))
        .stderr(Stdio::piped())
        .spawn();
    let mut process = Process(child.expect("flowlane starts"));
    let mut said = BufReader::new(process.0.stderr.take().expect("piped")).lines().map_while(Result::ok);
    let line = said.find(|line| line.contains("answering on http://")).expect("a line");
    let url = line.split("answering on ").nth(1).and_then(|l| l.strip_suffix("/metrics")).expect("a URL").to_string();
    assert_eq!(fetch(&url, "/readyz").expect("an answer").0, 200);
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let mut full = vec![0, 5, 0, 30];
    full.resize(24 + 30 * 48, 0);
    wait("it is not ready", || {
        (0..20).for_each(|_| drop(socket.send_to(&full, ("127.0.0.1", port))));
        let (status, why) = fetch(&url, "/readyz").expect("an answer");
        status == 503 && why.contains("the writer takes nothing for")
    });
    assert!(said.any(|line| line.contains("the writer takes nothing for") && line.contains("rows are dropped")));
}

#[test]
fn copies_that_cannot_be_sent_are_told_of() {
    // Where a socket may not send to.
    let collector =
        running::Collector::start(&["--format", "none", "--http", "127.0.0.1:0", "--mirror", "255.255.255.255:9"]);
    let url = running::url(&collector.said);
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    (0..7).for_each(|_| collector.send(&socket, &flow()));
    let line = wait_for(&collector.said, "not repeated");
    assert!(line.contains("mirror 255.255.255.255:9: ") && line.contains("Permission denied"), "{line}");
    let metric = "flowlane_mirror_datagrams_total{target=\"255.255.255.255:9\",class=\"unsent\"} 7\n";
    wait("a metric", || fetch(&url, "/metrics").is_ok_and(|(_, text)| text.contains(metric)));
    let status =
        Command::new(env!("CARGO_BIN_EXE_flowlane")).args(["status", "--url", &url]).output().expect("a status");
    let shown = String::from_utf8_lossy(&status.stdout).into_owned();
    assert!(shown.contains("to 255.255.255.255:9  0 sent, 7 not sent: Permission denied"), "{shown}");
}

#[test]
fn a_connection_that_broke_says_why() {
    let scratch = Scratch::new("broke");
    let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).expect("a certificate");
    let (certificate, key) = (scratch.path("cert.pem"), scratch.path("key.pem"));
    std::fs::write(&certificate, made.cert.pem()).expect("written");
    std::fs::write(&key, made.signing_key.serialize_pem()).expect("written");
    let tls = ["--tls", "127.0.0.1:0", "--tls-cert", &certificate, "--tls-key", &key];
    for (what, args, bytes, why) in [
        ("over TLS", &tls[..], &b"GET / HTTP/1.1\r\n\r\n"[..], "TLS: received corrupt message"),
        ("over TCP", &["--tcp", "127.0.0.1:0"], &[0, 10, 0, 40, 0], "it ended within a message"),
    ] {
        let collector = running::Collector::start(&[&["--format", "none"], args].concat());
        let line = wait_for(&collector.said, what);
        let address = line.split(' ').find(|word| word.starts_with("127.0.0.1:")).expect("an address").to_string();
        let mut stream = TcpStream::connect(address).expect("it listens");
        stream.write_all(bytes).expect("sent");
        drop(stream);
        let line = wait_for(&collector.said, "connections that broke: ");
        assert!(line.contains(why) && line.contains("the last from 127.0.0.1:"), "{line}");
    }
}

#[test]
fn who_connects_and_speaks_something_else_is_named() {
    let collector = running::Collector::start(&["--format", "none", "--tcp", "127.0.0.1:0"]);
    let line = wait_for(&collector.said, "over TCP");
    let address = line.split(' ').find(|word| word.starts_with("127.0.0.1:")).expect("an address").to_string();
    let mut stream = TcpStream::connect(address).expect("it listens");
    let peer = stream.local_addr().expect("an address");
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").expect("sent");
    let line = wait_for(&collector.said, "no IPFIX");
    assert!(line.contains(&format!("(1, the last from {peer})")), "{line}");
}
