//! The program at work: a collector, and the lines that it says and writes.
#![allow(dead_code, reason = "each test binary uses a part")]

use std::io::{BufRead, BufReader};
use std::net::UdpSocket;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// A collector at work, with the lines that it says on standard error and writes on standard output.
pub struct Collector {
    child: Child,
    port: u16,
    /// What it said until it listened.
    pub before: Vec<String>,
    /// Lines on standard error after that.
    pub said: Receiver<String>,
    /// Lines on standard output.
    pub rows: Receiver<String>,
}

impl Collector {
    pub fn start(args: &[&str]) -> Self {
        Self::run(Command::new(env!("CARGO_BIN_EXE_flowlane")), args)
    }

    /// One that may have so many file descriptors.
    pub fn start_with_descriptors(most: u32, args: &[&str]) -> Self {
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("ulimit -n {most} && exec \"$0\" \"$@\""), env!("CARGO_BIN_EXE_flowlane")]);
        Self::run(shell, args)
    }

    fn run(mut command: Command, args: &[&str]) -> Self {
        let mut child = command
            .args(["collect", "--listen", "127.0.0.1:0", "--threads", "1"])
            .args(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("flowlane starts");
        let (said, rows) = (lines(child.stderr.take().expect("piped")), lines(child.stdout.take().expect("piped")));
        let mut before = Vec::new();
        let line = loop {
            let line = said.recv_timeout(Duration::from_secs(20)).expect("it listens");
            if line.contains("listening on 127.0.0.1:") {
                break line;
            }
            before.push(line);
        };
        let rest = line.split("127.0.0.1:").nth(1).and_then(|rest| rest.split(' ').next());
        let port = rest.and_then(|port| port.parse().ok()).expect("a port");
        Self { child, port, before, said, rows }
    }

    /// Sends a message, and gives the row that comes of it.
    pub fn row(&self, socket: &UdpSocket, message: &[u8]) -> serde_json::Value {
        self.send(socket, message);
        let line = self.rows.recv_timeout(Duration::from_secs(20)).expect("a row in time");
        serde_json::from_str(&line).expect("an object")
    }

    /// The most memory that it had so far.
    #[cfg(target_os = "linux")]
    pub fn peak_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("a process");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
        line.trim().strip_suffix(" kB").and_then(|n| n.parse().ok()).expect("a number")
    }

    /// Asks it to end; how it did, in time.
    pub fn terminate(mut self, within: Duration) -> ExitStatus {
        end(&mut self.child, within)
    }

    /// Asks it to end, as it should; the lines that it said and wrote and nobody has taken yet.
    pub fn end(mut self, within: Duration) -> (Vec<String>, Vec<String>) {
        assert_eq!(end(&mut self.child, within).code(), Some(0));
        (self.said.iter().collect(), self.rows.iter().collect())
    }

    /// Sends a message from another address of this machine.
    pub fn send_from(&self, from: std::net::Ipv4Addr, message: &[u8]) {
        self.send(&UdpSocket::bind((from, 0)).expect("an address of this machine"), message);
    }

    pub fn send(&self, socket: &UdpSocket, message: &[u8]) {
        socket.send_to(message, ("127.0.0.1", self.port)).expect("sent");
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends a process a signal, `-TERM` for instance.
pub fn signal(child: &Child, name: &str) {
    let status = Command::new("kill").args([name, &child.id().to_string()]).status().expect("kill");
    assert!(status.success());
}

/// Asks a process to end; how it did, in time.
pub fn end(child: &mut Child, within: Duration) -> ExitStatus {
    signal(child, "-TERM");
    let asked = Instant::now();
    loop {
        match child.try_wait().expect("a process") {
            Some(status) => return status,
            None => assert!(asked.elapsed() < within, "it does not end"),
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn lines(from: impl std::io::Read + Send + 'static) -> Receiver<String> {
    let (to, lines) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            if to.send(line).is_err() {
                return;
            }
        }
    });
    lines
}

/// The next line that has a text in it.
pub fn wait_for(lines: &Receiver<String>, what: &str) -> String {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        let line = lines.recv_timeout(end.saturating_duration_since(Instant::now())).expect(what);
        if line.contains(what) {
            return line;
        }
    }
}

/// Where it answers over HTTP, once it says so.
pub fn url(lines: &Receiver<String>) -> String {
    let line = wait_for(lines, "answering on http://");
    let url = line.split("answering on ").nth(1).and_then(|url| url.strip_suffix("/metrics"));
    url.expect("a URL").to_string()
}
