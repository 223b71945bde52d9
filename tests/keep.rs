//! A collector that is killed at any moment loses nothing but what it received last, and doubles nothing.

mod running;
mod scratch;

use flowlane::keep::sealed_files;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::RowAccessor;
use parquet::schema::parser::parse_message_type;
use scratch::Scratch;
use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::net::UdpSocket;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// What a kill may cost: rows wait a second in a batch, and a loaded machine takes its time.
const LAST: Duration = Duration::from_millis(2500);

/// Starts a collector and waits until it listens; answers with its port.
fn collect(folder: &Path, more: &[&str]) -> (Child, u16) {
    collect_as(folder, &[&["--node", "test"], more].concat())
}

fn collect_as(folder: &Path, more: &[&str]) -> (Child, u16) {
    collect_with(folder, more, &[])
}

fn collect_with(folder: &Path, more: &[&str], variables: &[(&str, String)]) -> (Child, u16) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_flowlane"))
        .args(["collect", "--listen", "127.0.0.1:0", "--rotate", "1s", "--threads", "1", "--out"])
        .arg(folder)
        .args(more)
        .envs(variables.iter().map(|(name, value)| (*name, value)))
        .stderr(Stdio::piped())
        .stdout(Stdio::piped())
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
    let folder = Scratch::new("state");
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

/// Steps of keeping at which a collector ends by itself, as if it were killed there.
const STEPS: [&str; 10] =
    ["unmarked", "created", "taken", "half written", "closed", "begun", "written", "named", "cut", "removed"];

#[test]
fn kills_lose_the_last_moment_at_most_and_double_nothing() {
    let rounds: u64 = std::env::var("FLOWLANE_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(8);
    let folder = Scratch::new("kill");
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let (mut next, mut kept, mut at_steps) = (1, Vec::new(), 0);
    for round in 0..rounds {
        // By turns at random, and at a step in its second or third time, so that files before it are whole.
        let step = (round % 2 == 1).then(|| STEPS[(round / 2) as usize % STEPS.len()]);
        let variable = step.map(|step| ("FLOWLANE_ABORT_AT", format!("{step}:{}", 2 + round / 2 % 2)));
        let (mut child, port) = collect_with(&folder.0, &["--node", "test"], variable.as_slice());
        let mut sent = Vec::new();
        // Somewhere between two rotations, of which each is sealed while the next is written.
        let time = LAST + Duration::from_millis(400 + round * 37 % 700);
        let until = Instant::now() + if step.is_some() { Duration::from_secs(60) } else { time };
        let mut has_ended = false;
        while Instant::now() < until && !has_ended {
            for _ in 0..4 {
                // Nobody listens where it has just ended.
                let _ = socket.send_to(&message(next), ("127.0.0.1", port));
                sent.push((next, Instant::now()));
                next += 30;
            }
            std::thread::sleep(Duration::from_millis(3));
            has_ended = child.try_wait().expect("a process").is_some();
        }
        let killed = Instant::now();
        assert_eq!(has_ended, step.is_some(), "round {round}, {step:?}");
        at_steps += u64::from(has_ended);
        if !has_ended {
            child.kill().expect("killed");
            child.wait().expect("ended");
        }
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
    println!("{rounds} kills, {at_steps} at a step of keeping: {} of {} flows are there", found.len(), next - 1);
}

/// A file system of a few megabytes of its own, gone at the end; nothing, with the reason printed, where it cannot be had.
struct Disk(PathBuf);

impl Disk {
    fn new(name: &str) -> Option<Self> {
        let path = std::env::temp_dir().join(format!("flowlane-disk-{name}-{}", std::process::id()));
        Self::over(&path, "size=12m")
    }

    /// Over what stands in a folder, which is hidden until it is gone.
    fn over(path: &Path, options: &str) -> Option<Self> {
        let path = path.to_path_buf();
        std::fs::create_dir_all(&path).expect("a folder");
        match Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(&path).output() {
            Ok(done) if done.status.success() => Some(Self(path)),
            Ok(done) => {
                println!("skipped: no file system of its own: {}", String::from_utf8_lossy(&done.stderr).trim());
                None
            }
            Err(error) => {
                println!("skipped: no mount: {error}");
                None
            }
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
        // Not that of another: it is not empty.
        let _ = std::fs::remove_dir(&self.0);
    }
}

/// Sends flows for a while; how many.
fn send(port: u16, next: &mut u32, time: Duration) -> Range<u32> {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let (first, until) = (*next, Instant::now() + time);
    while Instant::now() < until {
        for _ in 0..4 {
            socket.send_to(&message(*next), ("127.0.0.1", port)).expect("sent");
            *next += 30;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    first..*next
}

/// Ends a collector by a signal; its summary.
fn stop(child: Child) -> serde_json::Value {
    running::signal(&child, "-INT");
    let out = child.wait_with_output().expect("ended");
    serde_json::from_slice(&out.stdout).expect("a summary")
}

/// Fills a disk with a file.
fn fill(disk: &Path) -> PathBuf {
    let filler = disk.join("filler");
    let mut file = File::create(&filler).expect("a file");
    while file.write_all(&[0; 1 << 16]).is_ok() {}
    while file.write_all(&[0; 512]).is_ok() {}
    filler
}

#[test]
fn a_disk_that_is_full_or_read_only_costs_the_rows_of_that_time_and_not_the_service() {
    let Some(disk) = Disk::new("full") else { return };
    let folder = disk.0.join("flows");
    let (child, port) = collect(&folder, &["--json"]);
    let mut next = 1;
    let before = send(port, &mut next, Duration::from_millis(600));
    std::thread::sleep(LAST);
    // Full.
    let filler = fill(&disk.0);
    // Several times what the room that the segment asked for ahead holds, however long it takes.
    let enough = next + 120_000;
    while next < enough {
        send(port, &mut next, Duration::from_millis(100));
    }
    std::thread::sleep(LAST);
    // Room again.
    std::fs::remove_file(&filler).expect("removed");
    std::thread::sleep(Duration::from_millis(300));
    let between = send(port, &mut next, Duration::from_millis(600));
    std::thread::sleep(LAST);
    // Read-only, from the next file on. Segments that are written still would count as removed.
    std::thread::sleep(LAST);
    let read_only = Disk::over(&folder, "ro").expect("another");
    std::thread::sleep(LAST);
    send(port, &mut next, Duration::from_millis(600));
    std::thread::sleep(LAST);
    drop(read_only);
    let after = send(port, &mut next, Duration::from_millis(600));
    std::thread::sleep(LAST);
    let summary = stop(child);
    // What was open when the disk went away is sealed by the next start.
    let (mut child, _) = collect(&folder, &["--duration", "1s"]);
    assert!(child.wait().expect("ended").success());
    let found = found(&folder);
    for (when, flows) in [("before", before), ("between", between), ("after", after)] {
        let lost = flows.filter(|id| !found.contains_key(id)).count();
        assert_eq!(lost, 0, "flows that came {when} the trouble");
    }
    assert!(found.values().all(|&n| n == 1), "flows that stand there twice");
    let count = |what: &str| summary[what].as_u64().expect("a count");
    assert_eq!(count("rows_written"), found.len() as u64, "what is written is there: {summary}");
    assert!(count("rows_dropped") > 0, "{summary}");
    assert_eq!(count("rows_written") + count("rows_dropped"), count("records"), "every row is accounted for");
    assert_eq!(count("records"), u64::from(next - 1));
    // And every dropped one by what was the matter.
    let whys = summary["rows_unwritten"].as_array().expect("a list");
    let of = |what: &str| whys.iter().find(|w| w["error"].as_str().is_some_and(|e| e.contains(what)));
    assert!(of("No space left").is_some() && of("Read-only").is_some(), "{summary}");
    assert_eq!(whys.iter().filter_map(|w| w["rows"].as_u64()).sum::<u64>(), count("rows_dropped"), "{summary}");
}

#[test]
fn a_collector_starts_on_a_full_disk_and_writes_when_there_is_room() {
    let Some(disk) = Disk::new("start") else { return };
    let folder = disk.0.join("flows");
    // A v9 template, of which the journal knows.
    let (child, port) = collect(&folder, &["--json"]);
    let template = [1, 0, 0, 1, 0, 8, 0, 4];
    let set = [&[0, 0, 0, 12][..], &template].concat();
    let v9 = [&[0, 9, 0, 1][..], &[0; 16], &set].concat();
    UdpSocket::bind("127.0.0.1:0").expect("a socket").send_to(&v9, ("127.0.0.1", port)).expect("sent");
    std::thread::sleep(LAST);
    stop(child);
    let filler = fill(&disk.0);
    let (child, port) = collect(&folder, &["--json"]);
    let mut next = 1;
    send(port, &mut next, Duration::from_millis(300));
    std::thread::sleep(LAST);
    std::fs::remove_file(&filler).expect("removed");
    std::thread::sleep(Duration::from_millis(300));
    let after = send(port, &mut next, Duration::from_millis(300));
    std::thread::sleep(LAST);
    let summary = stop(child);
    let learned = std::fs::read(folder.join(".state/test/learned")).expect("the journal");
    assert!(
        learned.windows(template.len()).any(|w| w == template),
        "what was known before is known still: {learned:?}"
    );
    let found = found(&folder);
    assert_eq!(after.filter(|id| !found.contains_key(id)).count(), 0, "flows that came when there was room");
    let count = |what: &str| summary[what].as_u64().expect("a count");
    assert!(count("rows_dropped") > 0, "{summary}");
    assert_eq!((count("rows_written"), count("records")), (found.len() as u64, u64::from(next - 1)));
    assert_eq!(count("rows_written") + count("rows_dropped"), count("records"), "every row is accounted for");
}

/// Rows in the files of a folder whose names end so.
fn rows_in(folder: &Path, format: &str) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    // Whoever is next takes the lock of the folder; it is no leftover.
    let files = entries.map(|e| e.expect("a file").path()).filter(|p| p.is_file() && !p.ends_with(".lock"));
    let rows = files.map(|path| {
        let name = path.display().to_string();
        assert!(name.ends_with(if format == "netflow-json" { ".gz" } else { format }), "{name} is left");
        let file = File::open(&path).expect("a file");
        match format {
            "arrow" => {
                let batches = arrow_ipc::reader::FileReader::try_new(file, None).expect("whole");
                batches.map(|b| b.expect("whole").num_rows()).sum()
            }
            "netflow-json" => BufReader::new(flate2::read::GzDecoder::new(file))
                .lines()
                .map(|line| line.expect("whole").matches("\"IN_BYTES\":").count())
                .sum::<usize>(),
            _ => {
                let text = std::io::read_to_string(file).expect("text");
                assert!(text.is_empty() || text.ends_with('\n'), "a torn line in {name}");
                text.lines().count() - usize::from(format == "csv")
            }
        }
    });
    rows.sum::<usize>() as u64
}

#[test]
fn plain_files_go_on_after_a_disk_that_was_full_too() {
    std::thread::scope(|scope| {
        for (format, out) in [("ndjson", ""), ("csv", ""), ("netflow-json", ""), ("arrow", ""), ("csv", "all.csv")] {
            scope.spawn(move || a_plain_output_on_a_full_disk(format, out));
        }
    });
}

fn a_plain_output_on_a_full_disk(format: &str, out: &str) {
    let name = format!("flowlane-plain-{format}{out}-{}", std::process::id());
    // Room for all that is sent before and after.
    let Some(disk) = Disk::over(&std::env::temp_dir().join(name), "size=24m") else { return };
    let folder = disk.0.join("flows");
    std::fs::create_dir_all(&folder).expect("a folder");
    let (child, port) = collect(&folder.join(out), &["--json", "--format", format]);
    let mut next = 1;
    send(port, &mut next, Duration::from_millis(80));
    std::thread::sleep(LAST);
    let filler = fill(&disk.0);
    for _ in 0..4 {
        send(port, &mut next, Duration::from_millis(80));
        std::thread::sleep(LAST / 2);
    }
    std::fs::remove_file(&filler).expect("removed");
    std::thread::sleep(LAST / 2);
    let summary = {
        send(port, &mut next, Duration::from_millis(80));
        std::thread::sleep(LAST / 2);
        stop(child)
    };
    let count = |what: &str| summary[what].as_u64().expect("a count");
    assert_eq!(count("records"), u64::from(next - 1), "{format} {summary}");
    assert_eq!(count("rows_written") + count("rows_dropped"), count("records"), "{format} {summary}");
    assert!(count("rows_dropped") > 0, "{format} {summary}");
    let ended = summary["rows_unwritten"].to_string();
    assert!(!ended.contains("what was written is in"), "a file that was not ended: {ended}");
    assert_eq!(rows_in(&folder, format), count("rows_written"), "{format} {summary}");
    let whys = summary["rows_unwritten"].as_array().expect("a list");
    assert!(whys.iter().any(|w| w["error"].as_str().is_some_and(|e| e.contains("No space left"))), "{summary}");
    assert_eq!(whys.iter().filter_map(|w| w["rows"].as_u64()).sum::<u64>(), count("rows_dropped"), "{summary}");
}

#[test]
fn a_slow_disk_costs_rows_that_are_counted_and_no_datagram() {
    let folder = Scratch::new("slow");
    let slow = [("FLOWLANE_SLOW_AT", "appended:400".to_string())];
    let (child, port) = collect_with(&folder.0, &["--node", "test", "--json", "--queue", "256K"], &slow);
    let mut next = 1;
    send(port, &mut next, Duration::from_secs(3));
    let summary = stop(child);
    let count = |what: &str| summary[what].as_u64().expect("a count");
    assert_eq!(count("datagrams") + count("kernel_drops"), u64::from(next / 30), "{summary}");
    assert_eq!(count("kernel_drops"), 0, "the receiver waited: {summary}");
    assert!(count("rows_dropped") > 0 && count("rows_written") > 0, "{summary}");
    assert_eq!(count("rows_written") + count("rows_dropped"), count("records"), "{summary}");
    assert_eq!(summary["rows_unwritten"], serde_json::json!([]), "slow, and not broken");
    let found = found(&folder.0);
    assert_eq!(found.len() as u64, count("rows_written"), "what is written is there");
    assert!(found.values().all(|&n| n == 1), "flows that stand there twice");
}

#[test]
fn collectors_with_names_of_their_own_share_a_folder_and_one_of_the_same_name_is_refused() {
    let folder = Scratch::new("shared");
    let (first, port) = collect(&folder.0, &["--json"]);
    let other = ["--json", "--node", "other"];
    let (second, other_port) = collect_as(&folder.0, &other);
    let mut next = 1;
    let ours = send(port, &mut next, Duration::from_millis(1500));
    let theirs = send(other_port, &mut next, Duration::from_millis(1500));
    let refused = Command::new(env!("CARGO_BIN_EXE_flowlane"))
        .args(["collect", "--listen", "127.0.0.1:0", "--node", "test", "--duration", "5s", "--out"])
        .arg(&folder.0)
        .output()
        .expect("flowlane starts");
    assert!(!refused.status.success());
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(text.contains("another process writes here as the node test"), "{text}");
    // Readers see both, what is hot among it.
    std::thread::sleep(Duration::from_millis(1500));
    let top = Command::new(env!("CARGO_BIN_EXE_flowlane"))
        .args(["top", "exporter", "--by", "flows", "--format", "csv", "--in"])
        .arg(&folder.0)
        .output()
        .expect("flowlane starts");
    let text = String::from_utf8_lossy(&top.stdout).into_owned();
    assert!(text.contains(&(next - 1).to_string()), "{text}{}", String::from_utf8_lossy(&top.stderr));
    stop(first);
    stop(second);
    let found = found(&folder.0);
    assert!(ours.chain(theirs).all(|id| found.get(&id) == Some(&1)));
    let nodes: std::collections::BTreeSet<String> =
        sealed_files(&folder.0).expect("files").0.into_iter().map(|f| f.node).collect();
    assert_eq!(nodes.into_iter().collect::<Vec<_>>(), ["other", "test"]);
}

#[test]
fn segments_alone_tell_what_they_are() {
    let folder = Scratch::new("hot-alone");
    let (all, alone) = (folder.0.join("all"), folder.0.join("alone"));
    let (mut child, port) = collect(&all, &[]);
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let run = |args: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_flowlane")).args(args).output().expect("it runs");
        (String::from_utf8_lossy(&output.stdout).into_owned(), output.status.code())
    };
    let text = |path: &Path| path.to_str().expect("text").to_string();
    let until = Instant::now() + Duration::from_secs(60);
    // A segment goes when it is sealed: a copy stays, by the same name.
    let hot = alone.join(".hot/test");
    let (about, copy) = loop {
        assert!(Instant::now() < until, "no segment");
        socket.send_to(&message(1), ("127.0.0.1", port)).expect("sent");
        std::thread::sleep(Duration::from_millis(50));
        let _ = std::fs::remove_dir_all(&hot);
        std::fs::create_dir_all(&hot).expect("a folder");
        let paths = std::fs::read_dir(all.join(".hot/test")).into_iter().flatten().flatten().map(|e| e.path());
        let Some(path) = paths.filter(|p| p.extension().is_some_and(|e| e == "arrows")).max() else { continue };
        let copy = hot.join(path.file_name().expect("a name"));
        if std::fs::copy(path, &copy).is_err() {
            continue;
        }
        let about: serde_json::Value =
            serde_json::from_str(&run(&["info", "--json", &text(&alone)]).0).unwrap_or_default();
        if about["rows"].as_u64().is_some_and(|rows| rows > 0) {
            break (about, copy);
        }
    };
    assert_eq!((&about["files"], &about["hot_segments"]), (&0.into(), &1.into()), "{about}");
    assert_eq!(about["schema_versions"], serde_json::json!(["1"]), "{about}");
    let checked = |path: &Path| -> (serde_json::Value, Option<i32>) {
        let (out, code) = run(&["verify", "--json", &text(path)]);
        (serde_json::from_str(&out).expect("one object"), code)
    };
    let (segment, code) = checked(&copy);
    assert_eq!((&segment["state"], &segment["rows"], code), (&"hot".into(), &about["rows"], Some(0)), "{segment}");
    while sealed_files(&all).is_ok_and(|found| found.0.is_empty()) {
        assert!(Instant::now() < until, "no file");
        std::thread::sleep(Duration::from_millis(50));
    }
    child.kill().expect("killed");
    child.wait().expect("ended");
    let path = sealed_files(&all).expect("a folder").0.remove(0).path;
    let (file, code) = checked(&path);
    assert!(file["state"] == "sealed" && file["rows"].as_u64() > Some(0) && code == Some(0), "{file}");
    let bytes = std::fs::read(&path).expect("bytes");
    std::fs::write(&path, &bytes[..bytes.len() / 2]).expect("cut");
    let (file, code) = checked(&path);
    assert_eq!((&file["state"], code), (&"damaged".into(), Some(1)), "{file}");
}
