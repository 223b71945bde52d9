//! The collector over loopback.

use super::{Collector, Config, Item, Output, Sink};
use crate::columns::Timestamp;
use crate::sink::{Format, Writer};
use std::io;
use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Counts rows, slowly where asked to.
struct Counting {
    rows: Arc<Mutex<u64>>,
    delay: Duration,
    fail: bool,
}

impl Sink for Counting {
    fn write(&mut self, item: &Item) -> io::Result<()> {
        std::thread::sleep(self.delay);
        if self.fail {
            return Err(io::Error::other("the disk is full"));
        }
        *self.rows.lock().expect("the count") += item.rows();
        Ok(())
    }

    fn tick(&mut self, _: Timestamp) -> io::Result<()> {
        Ok(())
    }

    fn finish(self: Box<Self>) -> io::Result<()> {
        Ok(())
    }
}

fn v5(sequence: u32, records: u16) -> Vec<u8> {
    let mut bytes = vec![0, 5];
    bytes.extend(records.to_be_bytes());
    bytes.extend([0, 0, 39, 16, 101, 83, 241, 0, 0, 0, 0, 0]);
    bytes.extend(sequence.to_be_bytes());
    bytes.extend([0; 4]);
    bytes.resize(24 + 48 * usize::from(records), 0);
    bytes
}

fn config() -> Config {
    Config { listen: vec![([127, 0, 0, 1], 0).into()], threads: 2, ..Config::default() }
}

fn wait(what: &str, done: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn what_is_sent_is_written_and_summed_up() {
    let rows = Arc::new(Mutex::new(0));
    let collector = Collector::open(config()).expect("a free port");
    let to = collector.addresses()[0];
    let sink = Counting { rows: rows.clone(), delay: Duration::ZERO, fail: false };
    let running = collector.start(Box::new(sink)).expect("threads");
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    for i in 0..100 {
        socket.send_to(&v5(i * 30, 30), to).expect("sent");
    }
    socket.send_to(b"no flows", to).expect("sent");
    wait("101 datagrams", || running.status().datagrams == 101);
    let (summary, result) = running.join();
    result.expect("no failure");
    assert_eq!((*rows.lock().expect("the count"), summary.rows_written), (3000, 3000));
    assert_eq!((summary.stats.records, summary.stats.lost, summary.rows_dropped), (3000, 0, 0));
    assert_eq!(summary.stats.datagrams_malformed, 1);
    assert_eq!(summary.exporters.len(), 1);
    assert_eq!(summary.json()["exporters"][0]["records"], 3000);
    assert_eq!(summary.losses(), [("datagrams refused: no NetFlow or IPFIX header".into(), 1)]);
}

#[test]
fn a_slow_writer_costs_counted_rows_and_never_blocks() {
    let rows = Arc::new(Mutex::new(0));
    let mut config = config();
    config.queue = 1;
    config.threads = 1;
    config.decoder.batch_rows = 30;
    let collector = Collector::open(config).expect("a free port");
    let to = collector.addresses()[0];
    let sink = Counting { rows: rows.clone(), delay: Duration::from_millis(50), fail: false };
    let running = collector.start(Box::new(sink)).expect("threads");
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    for i in 0..100 {
        socket.send_to(&v5(i * 30, 30), to).expect("sent");
    }
    wait("100 datagrams", || running.status().datagrams == 100);
    let (summary, result) = running.join();
    result.expect("no failure");
    assert!(summary.rows_dropped > 0);
    assert_eq!(summary.rows_written + summary.rows_dropped, 3000);
    assert_eq!(summary.exporters[0].rows_dropped, summary.rows_dropped);
}

#[test]
fn a_writer_that_fails_stops_the_collector() {
    let collector = Collector::open(config()).expect("a free port");
    let to = collector.addresses()[0];
    let sink = Counting { rows: Arc::default(), delay: Duration::ZERO, fail: true };
    let running = collector.start(Box::new(sink)).expect("threads");
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    socket.send_to(&v5(0, 30), to).expect("sent");
    wait("the failure", || running.has_failed());
    let (summary, result) = running.join();
    assert_eq!(result.expect_err("a failure").to_string(), "the disk is full");
    assert_eq!((summary.rows_written, summary.rows_dropped), (0, 30));
}

#[test]
fn options_records_that_a_stream_has_no_place_for_are_counted() {
    let mut config = config();
    config.threads = 1;
    let collector = Collector::open(config).expect("a free port");
    let to = collector.addresses()[0];
    let output = Output::one(Writer::to_stream(Format::Ndjson, Box::new(io::sink())));
    let running = collector.start(Box::new(output)).expect("threads");
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    socket.send_to(&options_of_v9(), to).expect("sent");
    wait("the datagram", || running.status().datagrams == 1);
    let (summary, result) = running.join();
    result.expect("no failure");
    assert_eq!((summary.stats.options_records, summary.options_passed_over), (2, 2));
    assert_eq!(summary.losses(), [("options records not written (--out a folder keeps them)".into(), 2)]);
}

/// Cannot write rows; how often it was tried whether it can again.
struct Troubled(Arc<Mutex<u64>>);

impl Sink for Troubled {
    fn write(&mut self, item: &Item) -> io::Result<()> {
        if item.rows() > 0 { Err(io::Error::other("the disk is full")) } else { Ok(()) }
    }

    fn goes_on(&self) -> bool {
        true
    }

    fn probe(&mut self) -> io::Result<()> {
        *self.0.lock().expect("the count") += 1;
        Ok(())
    }

    fn tick(&mut self, _: Timestamp) -> io::Result<()> {
        Ok(())
    }

    fn finish(self: Box<Self>) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn options_records_alone_do_not_put_off_the_next_try() {
    let mut config = config();
    config.threads = 1;
    config.decoder.batch_age_us = 1000;
    let collector = Collector::open(config).expect("a free port");
    let to = collector.addresses()[0];
    let tries = Arc::new(Mutex::new(0));
    let running = collector.start(Box::new(Troubled(tries.clone()))).expect("threads");
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    socket.send_to(&v5(0, 30), to).expect("sent");
    let options = options_of_v9();
    wait("a try", || {
        socket.send_to(&options, to).expect("sent");
        std::thread::sleep(Duration::from_millis(100));
        *tries.lock().expect("the count") > 0
    });
    let (summary, result) = running.join();
    result.expect("no failure");
    assert_eq!(summary.rows_dropped, 30);
}

/// Cannot write rows while it is told so.
struct Changing(Arc<AtomicBool>);

impl Sink for Changing {
    fn write(&mut self, item: &Item) -> io::Result<()> {
        let fails = item.rows() > 0 && self.0.load(Relaxed);
        if fails { Err(io::Error::other("the disk is full")) } else { Ok(()) }
    }

    fn goes_on(&self) -> bool {
        true
    }

    fn probe(&mut self) -> io::Result<()> {
        if self.0.load(Relaxed) { Err(io::Error::other("the disk is full")) } else { Ok(()) }
    }

    fn tick(&mut self, _: Timestamp) -> io::Result<()> {
        Ok(())
    }

    fn finish(self: Box<Self>) -> io::Result<()> {
        Ok(())
    }
}

/// What is written, for a test to look at; while it holds the lock, nothing is taken.
#[derive(Clone, Default)]
pub(super) struct Said(pub(super) Arc<Mutex<Vec<u8>>>);

impl io::Write for Said {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("the text").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_second_outage_is_told_of_too() {
    let said = Said::default();
    let log = super::log::Log::start(super::log::LogFormat::Text, Box::new(said.clone())).expect("a thread");
    let mut config = Config { threads: 1, log: Some(log.clone()), ..config() };
    config.decoder.batch_age_us = 1000;
    let collector = Collector::open(config).expect("a free port");
    let (to, fails) = (collector.addresses()[0], Arc::new(AtomicBool::new(true)));
    let running = collector.start(Box::new(Changing(fails.clone()))).expect("threads");
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    for outage in 1..=2 {
        fails.store(true, Relaxed);
        socket.send_to(&v5(0, 30), to).expect("sent");
        wait("the outage", || running.status().dropped_rows == outage * 30);
        wait("it is not ready", || running.watch().unready().is_some());
        fails.store(false, Relaxed);
        wait("its end", || running.watch().unready().is_none());
    }
    running.join().1.expect("no failure");
    log.flush();
    let said = String::from_utf8(said.0.lock().expect("the text").clone()).expect("text");
    let lines: Vec<&str> = said.lines().filter(|line| line.contains("writ")).collect();
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert!(lines[0].contains("cannot write: the disk is full") && lines[1].contains("writing again; 30 rows"));
    assert!(lines[2].contains("could not write for a while: the disk is full") && lines[2].contains("60 rows"));
}

/// A v9 message of an options template (scope interface, 34) and two records of it.
fn options_of_v9() -> Vec<u8> {
    let mut bytes = vec![0, 9, 0, 3, 0, 0, 39, 16, 101, 83, 241, 0, 0, 0, 0, 0, 0, 0, 0, 7];
    bytes.extend([0, 1, 0, 18, 1, 44, 0, 4, 0, 4, 0, 2, 0, 4, 0, 34, 0, 4]);
    bytes.extend([1, 44, 0, 20, 0, 0, 0, 1, 0, 0, 0, 100, 0, 0, 0, 2, 0, 0, 0, 100]);
    bytes
}

/// A v9 message with a template (bytes, packets), or of three records of it.
fn v9(sequence: u8, template: bool) -> Vec<u8> {
    let mut bytes = vec![0, 9, 0, 1, 0, 0, 39, 16, 101, 83, 241, 0, 0, 0, 0, sequence, 0, 0, 0, 7];
    if template {
        bytes.extend([0, 0, 0, 16, 1, 0, 0, 2, 0, 1, 0, 4, 0, 2, 0, 4]);
    } else {
        bytes.extend([1, 0, 0, 28]);
        bytes.extend([0, 0, 0, 5].repeat(6));
    }
    bytes
}

#[test]
fn lines_of_messages_know_what_the_decoder_knows() {
    let folder = std::env::temp_dir().join(format!("flowlane-lines-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    // A datagram a second: the template is above the rate, and the set before it is read by it. Data that come after a
    // restart are read by it, too.
    let limited = [v9(0, false), v9(1, true)];
    for (rate, sent) in [(Some(1), &limited[..]), (None, &[v9(2, false)])] {
        let mut config = Config { threads: 1, messages: Some(super::MessageLines::NetflowJson), ..config() };
        config.admission.rate = rate;
        config.state = Some(folder.clone());
        let mut collector = Collector::open(config).expect("a free port");
        collector.load_state().expect("a folder");
        let to = collector.addresses()[0];
        let rows = Arc::new(Mutex::new(0));
        let sink = Counting { rows: rows.clone(), delay: Duration::ZERO, fail: false };
        let running = collector.start(Box::new(sink)).expect("threads");
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        // From one port: another may be another exporter.
        sent.iter().for_each(|bytes| assert_eq!(socket.send_to(bytes, to).expect("sent"), bytes.len()));
        wait("the datagrams", || running.status().datagrams == sent.len() as u64);
        let (summary, result) = running.join();
        result.expect("no failure");
        assert_eq!((summary.stats.records, summary.rows_written, summary.rows_dropped), (3, 3, 0), "{summary}");
        assert_eq!(*rows.lock().expect("the count"), 3);
    }
    std::fs::remove_dir_all(&folder).expect("removed");
}

#[test]
fn what_is_mirrored_is_what_came() {
    let targets = [(); 2].map(|()| UdpSocket::bind("127.0.0.1:0").expect("a socket"));
    let addresses: Vec<_> = targets.iter().map(|t| t.local_addr().expect("an address")).collect();
    let mut config = config();
    config.mirror.targets.clone_from(&addresses);
    let collector = Collector::open(config).expect("a free port");
    let to = collector.addresses()[0];
    let running = collector.start(Box::new(Output::none())).expect("threads");
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let mut sent: Vec<Vec<u8>> = (0..40).map(|i| v5(i * 30, 30)).collect();
    sent.push(b"no flows".to_vec());
    sent.iter().for_each(|bytes| assert_eq!(socket.send_to(bytes, to).expect("sent"), bytes.len()));
    for target in &targets {
        target.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
        let mut room = [0; 2048];
        for bytes in &sent {
            let len = target.recv(&mut room).expect("a copy");
            assert_eq!(&room[..len], bytes);
        }
    }
    let ledger = running.watch().ledger();
    assert!(ledger.mirrors.iter().all(|m| addresses.contains(&m.target) && (m.sent, m.unsent) == (41, 0)));
    let (summary, _) = running.join();
    assert_eq!((summary.mirrors.len(), summary.json()["mirrors"][1]["sent"].as_u64()), (2, Some(41)));
}
