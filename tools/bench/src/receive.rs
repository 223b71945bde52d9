//! What receiving costs: processor time a datagram beside a bare receive loop and nfcapd, loss-free rates, latency.
//!
//! Every receiver is a process of its own, pinned to one core, and flowgen sends from another. What a receiver used is
//! what the kernel says it ran for; what it lost is what flowgen says it sent less what came.

use super::report::{Report, Row, Target};
use flowlane::columns::Timestamp;
use flowlane::decode::{Config, Decoder};
use flowlane::net::{Group, Options};
use hdrhistogram::Histogram;
use serde_json::Value;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const EXPORTERS: &str = "100";
/// Datagrams a second at which nobody here loses any.
const STEADY: u32 = 50_000;
const STEADY_TRAINS: u32 = 200_000;

/// What receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Receiver {
    /// recvmmsg into buffers that nobody reads; with trains, UDP GRO.
    Bare {
        trains: bool,
    },
    /// `flowlane collect --format none`: whole columns, thrown away.
    Flowlane,
    Nfcapd,
}

/// What a run came to.
#[derive(Clone, Copy, Debug)]
struct Run {
    sent: u64,
    received: u64,
    cpu_ns: u64,
}

/// Prints the receive rows; what is missing for them is said on standard error.
pub fn measure(quick: bool, peers: bool, report: &Report) {
    let bench = match Bench::new() {
        Ok(bench) => bench,
        Err(why) => return eprintln!("bench: receive is left out: {why}"),
    };
    let nfcapd = peers && bench.has_nfcapd;
    if peers && !nfcapd {
        eprintln!("bench: nfcapd is left out: it is not installed (Debian: apt install nfdump)");
    }
    let (rounds, seconds) = if quick { (1, 0.3) } else { (3, 2.0) };
    for trains in [false, true] {
        let (place, rate) = if trains { ("trains", STEADY_TRAINS) } else { ("plain", STEADY) };
        let mut costs = [Vec::new(), Vec::new(), Vec::new()];
        let who = [Receiver::Flowlane, Receiver::Bare { trains }, Receiver::Nfcapd];
        for _ in 0..rounds {
            for (cost, receiver) in costs.iter_mut().zip(who) {
                if receiver == Receiver::Nfcapd && (!nfcapd || trains) {
                    continue;
                }
                match bench.run(receiver, rate, seconds, trains) {
                    Ok(run) => cost.push(run.cpu_ns as f64 / run.received.max(1) as f64),
                    Err(why) => return eprintln!("bench: {receiver:?}: {why}"),
                }
            }
        }
        let [ours, bare, theirs] = costs.map(median);
        let row = |against, base: Option<f64>, target| {
            let (Some(value), Some(against_value)) = (ours, base) else { return };
            let (bench, template, unit) = ("receive", "v5", "cpu_ns_per_datagram");
            let target = Some(Target::AtMost(target));
            report.row(&Row { bench, template, place, unit, value, against, against_value, target });
        };
        row(if trains { "bare GRO loop" } else { "bare recvmmsg loop" }, bare, if trains { 1.6 } else { 1.3 });
        row("nfcapd", theirs, 0.333);
    }
    let seconds = if quick { 0.2 } else { 1.5 };
    let steps: &[u32] = if quick { &[50_000, 100_000] } else { &RATES };
    let free = |receiver| bench.loss_free(receiver, steps, seconds);
    let Some(ours) = free(Receiver::Flowlane) else {
        return eprintln!("bench: flowlane lost datagrams at {} a second", steps[0]);
    };
    let theirs = if nfcapd { free(Receiver::Nfcapd) } else { None };
    let unit = "datagrams_per_second";
    let (against, base, target) = match theirs {
        Some(theirs) => ("nfcapd", theirs, Some(Target::AtLeast(10.0))),
        None => ("", ours, None),
    };
    let row = Row {
        bench: "receive",
        template: "v5, loss-free",
        place: "trains",
        unit,
        value: f64::from(ours),
        against,
        against_value: f64::from(base),
        target: target.filter(|_| !quick),
    };
    report.row(&row);
    match bench.latencies(ours / 2, if quick { 0.3 } else { 3.0 }) {
        Ok(latencies) => {
            for (template, value) in [
                ("v5, median", latencies.value_at_quantile(0.5)),
                ("v5, p99", latencies.value_at_quantile(0.99)),
                ("v5, p99.9", latencies.value_at_quantile(0.999)),
            ] {
                let (value, unit) = (value as f64, "latency_us");
                report.row(&Row { template, unit, value, against: "", target: None, ..row });
            }
        }
        Err(why) => eprintln!("bench: latency: {why}"),
    }
}

/// Datagrams a second that are tried for a rate without loss.
const RATES: [u32; 19] = [
    20_000, 35_000, 50_000, 75_000, 100_000, 150_000, 200_000, 250_000, 300_000, 350_000, 450_000, 650_000, 900_000,
    1_200_000, 1_600_000, 2_200_000, 3_000_000, 3_500_000, 4_000_000,
];

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

/// The programs, and the cores that they run on.
struct Bench {
    flowlane: PathBuf,
    flowgen: PathBuf,
    has_nfcapd: bool,
    sender_core: usize,
    receiver_core: usize,
}

impl Bench {
    /// Finds the programs beside this one, and builds them if they are not there.
    fn new() -> Result<Self, String> {
        let cores = flowlane::net::cores();
        let (&[sender_core, receiver_core, ..], true) = (&cores[..], has("taskset")) else {
            return Err("it needs two cores, and taskset".into());
        };
        let here = std::env::current_exe().map_err(|e| e.to_string())?;
        let beside = |name: &str| here.with_file_name(name);
        let (flowlane, flowgen) = (beside("flowlane"), beside("flowgen"));
        if !(flowlane.exists() && flowgen.exists()) {
            let built = Command::new("cargo")
                .args(["build", "--release", "--quiet", "--workspace"])
                .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."))
                .status();
            if !built.is_ok_and(|s| s.success()) {
                return Err("flowlane and flowgen are not built: cargo build --release --workspace".into());
            }
        }
        Ok(Self { flowlane, flowgen, has_nfcapd: has("nfcapd"), sender_core, receiver_core })
    }

    /// Starts a receiver, sends to it, and says what came and what it took.
    fn run(&self, receiver: Receiver, rate: u32, seconds: f64, trains: bool) -> Result<Run, String> {
        let port = free_port()?;
        let folder = std::env::temp_dir().join(format!("flowlane-bench-{}-{port}", std::process::id()));
        std::fs::create_dir_all(&folder).map_err(|e| e.to_string())?;
        let run = self.run_in(receiver, rate, seconds, trains, port, &folder);
        let _ = std::fs::remove_dir_all(&folder);
        run
    }

    fn run_in(
        &self,
        receiver: Receiver,
        rate: u32,
        seconds: f64,
        trains: bool,
        port: u16,
        folder: &Path,
    ) -> Result<Run, String> {
        let mut child = Running(self.start(receiver, port, folder)?);
        wait_for(port)?;
        // Threads are started and memory is touched before it counts.
        self.send(port, 2_000, 0.1, trains)?;
        std::thread::sleep(Duration::from_millis(100));
        let before = cpu_ns(child.0.id())?;
        let warm = 200;
        let sent = self.send(port, rate, seconds, trains)?;
        std::thread::sleep(Duration::from_millis(200));
        let cpu_ns = cpu_ns(child.0.id())?.saturating_sub(before);
        // SAFETY: a signal to a child that was not waited for yet.
        #[expect(unsafe_code, reason = "the standard library sends no SIGTERM")]
        unsafe {
            libc::kill(child.0.id().cast_signed(), libc::SIGTERM);
        }
        let output = child.output()?;
        let number = |v: &Value| v["datagrams"].as_u64().ok_or(format!("no count in {output:?}"));
        let all = match receiver {
            Receiver::Nfcapd => nfcapd_flows(folder)? / 30,
            _ => number(&serde_json::from_str(&output).map_err(|e| format!("{e} in {output:?}"))?)?,
        };
        Ok(Run { sent, received: all.saturating_sub(warm), cpu_ns })
    }

    fn start(&self, receiver: Receiver, port: u16, folder: &Path) -> Result<Child, String> {
        let port = port.to_string();
        let mut command = Command::new("taskset");
        command.args(["-c", &self.receiver_core.to_string()]);
        match receiver {
            Receiver::Flowlane => {
                let listen = format!("127.0.0.1:{port}");
                command.arg(&self.flowlane).args(["collect", "--listen", &listen, "--format", "none"]);
                command.args(["--threads", "1", "--json"]);
            }
            Receiver::Bare { trains } => {
                command.arg(std::env::current_exe().map_err(|e| e.to_string())?).args(["bare-loop", &port]);
                command.args(trains.then_some("trains"));
            }
            Receiver::Nfcapd => {
                // As much of a buffer as the others have.
                command.args(["nfcapd", "-b", "127.0.0.1", "-p", &port, "-B", "16777216", "-w"]).arg(folder);
            }
        }
        command.stdout(Stdio::piped()).stderr(Stdio::null());
        command.spawn().map_err(|e| format!("{receiver:?}: {e}"))
    }

    /// Sends so many v5 messages of 30 records a second; returns how many were sent.
    fn send(&self, port: u16, rate: u32, seconds: f64, trains: bool) -> Result<u64, String> {
        let output = Command::new("taskset")
            .args(["-c", &self.sender_core.to_string()])
            .arg(&self.flowgen)
            .args(["--to", &format!("127.0.0.1:{port}"), "--protocol", "v5", "--records", "30", "--json"])
            .args(["--exporters", EXPORTERS, "--datagrams-per-second", &rate.to_string()])
            .args(["--for", &format!("{}ms", (seconds * 1000.0) as u64)])
            .args(trains.then_some("--gso"))
            .output()
            .map_err(|e| e.to_string())?;
        let sums: Value = serde_json::from_slice(&output.stdout)
            .map_err(|e| format!("flowgen: {e}: {}", String::from_utf8_lossy(&output.stderr)))?;
        let (sent, took) = (sums["datagrams"].as_u64().unwrap_or(0), sums["seconds"].as_f64().unwrap_or(0.0));
        // A sender that is slower than it was asked to be would make a receiver look good.
        if took > 1.1 * seconds + 0.1 {
            return Err(format!("flowgen could not send {rate} datagrams a second"));
        }
        Ok(sent)
    }

    /// The highest of the rates up to which nothing is lost, twice in a row each.
    fn loss_free(&self, receiver: Receiver, rates: &[u32], seconds: f64) -> Option<u32> {
        let holds =
            |rate| (0..2).all(|_| self.run(receiver, rate, seconds, true).is_ok_and(|run| run.received == run.sent));
        rates.iter().copied().take_while(|&rate| holds(rate)).last()
    }

    /// From the kernel's time of receipt to the return of `decode`, in microseconds.
    fn latencies(&self, rate: u32, seconds: f64) -> Result<Histogram<u64>, String> {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let group = Group::open(any, 1, &Options { timestamps: true, ..Options::default() });
        let group = group.map_err(|e| e.to_string())?;
        let port = group.local_addr().port();
        let mut receiver = group.into_receivers().pop().ok_or("no receiver")?;
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                flowlane::net::pin(self.receiver_core);
                let mut decoder = Decoder::new(Config::default());
                let mut latencies = Histogram::<u64>::new(3).map_err(|e| e.to_string())?;
                while !stop.load(Ordering::Relaxed) {
                    let burst = receiver.receive(Duration::from_millis(50)).map_err(|e| e.to_string())?;
                    for packet in burst {
                        decoder.decode(packet.bytes, packet.source, Timestamp(packet.received_at_us));
                        let took = now_us().saturating_sub(packet.received_at_us);
                        latencies.saturating_record(took.max(0).cast_unsigned());
                        while let Some(batch) = decoder.next_batch() {
                            decoder.recycle(batch);
                        }
                    }
                }
                Ok::<_, String>(latencies)
            });
            let sent = self.send(port, rate, seconds, true);
            std::thread::sleep(Duration::from_millis(200));
            stop.store(true, Ordering::Relaxed);
            let latencies = thread.join().map_err(|_| "the receiver failed")??;
            match sent? {
                sent if sent == latencies.len() => Ok(latencies),
                sent => Err(format!("{} of {sent} datagrams came", latencies.len())),
            }
        })
    }
}

/// A receiver that does not outlive the bench.
struct Running(Child);

impl Running {
    fn output(&mut self) -> Result<String, String> {
        use std::io::Read;
        let mut text = String::new();
        if let Some(mut out) = self.0.stdout.take() {
            out.read_to_string(&mut text).map_err(|e| e.to_string())?;
        }
        self.0.wait().map_err(|e| e.to_string())?;
        Ok(text)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn has(program: &str) -> bool {
    std::env::var_os("PATH").is_some_and(|path| std::env::split_paths(&path).any(|p| p.join(program).is_file()))
}

fn now_us() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_micros() as i64)
}

fn free_port() -> Result<u16, String> {
    let socket = UdpSocket::bind("127.0.0.1:0").and_then(|s| s.local_addr());
    Ok(socket.map_err(|e| e.to_string())?.port())
}

/// Until somebody listens.
fn wait_for(port: u16) -> Result<(), String> {
    let wanted = format!(":{port:04X} ");
    let end = Instant::now() + Duration::from_secs(5);
    while Instant::now() < end {
        let sockets = ["/proc/net/udp", "/proc/net/udp6"].map(|f| std::fs::read_to_string(f).unwrap_or_default());
        if sockets.iter().any(|s| s.contains(&wanted)) {
            std::thread::sleep(Duration::from_millis(100));
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Err("it does not listen".into())
}

/// How long all threads of a process have run.
fn cpu_ns(process: u32) -> Result<u64, String> {
    let tasks = std::fs::read_dir(format!("/proc/{process}/task")).map_err(|e| e.to_string())?;
    let ran = |task: std::io::Result<std::fs::DirEntry>| {
        let text = std::fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<u64>().ok()
    };
    Ok(tasks.filter_map(ran).sum())
}

/// The flows in the files that nfcapd wrote.
fn nfcapd_flows(folder: &Path) -> Result<u64, String> {
    let output = Command::new("nfdump").arg("-R").arg(folder).arg("-I").output().map_err(|e| e.to_string())?;
    let text = String::from_utf8_lossy(&output.stdout);
    let flows = text.lines().find_map(|l| l.strip_prefix("Flows:")).and_then(|n| n.trim().parse().ok());
    flows.ok_or(format!("no count of flows in {text:?}"))
}

/// The receiver that flowlane is held against: recvmmsg of 64 messages at most, blocking for the first, until SIGTERM;
/// then a count as JSON.
pub fn bare_loop(mut args: impl Iterator<Item = String>) -> ExitCode {
    let port: u16 = args.next().and_then(|p| p.parse().ok()).unwrap_or(0);
    let trains = args.next().is_some();
    match bare(port, trains) {
        Ok(datagrams) => {
            println!("{{\"datagrams\":{datagrams}}}");
            ExitCode::SUCCESS
        }
        Err(e) => {
            eprintln!("bench: bare loop: {e}");
            ExitCode::FAILURE
        }
    }
}

static STOP: AtomicBool = AtomicBool::new(false);

extern "C" fn stop(_: libc::c_int) {
    STOP.store(true, Ordering::Relaxed);
}

#[expect(unsafe_code, reason = "recvmmsg, socket options and a signal handler, as bare as they are")]
fn bare(port: u16, trains: bool) -> std::io::Result<u64> {
    const MESSAGES: usize = 64;
    let socket = UdpSocket::bind(("127.0.0.1", port))?;
    let fd = socket.as_raw_fd();
    let room = if trains { 1 << 16 } else { 2048 };
    let mut memory = vec![0u8; MESSAGES * room];
    let mut control = vec![[0u64; 8]; MESSAGES];
    let mut datagrams = 0;
    // SAFETY: the handler only stores to an atomic; options are ints; every header points to memory that lives as long.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = stop as *const () as usize;
        libc::sigaction(libc::SIGTERM, &action, std::ptr::null_mut());
        let set = |level, name, value: libc::c_int| {
            libc::setsockopt(fd, level, name, (&raw const value).cast(), size_of_val(&value) as u32)
        };
        if set(libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, 16 << 20) != 0 {
            set(libc::SOL_SOCKET, libc::SO_RCVBUF, 16 << 20);
        }
        if trains && set(libc::SOL_UDP, libc::UDP_GRO, 1) != 0 {
            return Err(std::io::Error::last_os_error());
        }
        let mut vectors: Vec<libc::iovec> = memory
            .chunks_exact_mut(room)
            .map(|m| libc::iovec { iov_base: m.as_mut_ptr().cast(), iov_len: room })
            .collect();
        let mut headers: Vec<libc::mmsghdr> = vec![std::mem::zeroed(); MESSAGES];
        for ((header, vector), control) in headers.iter_mut().zip(&mut vectors).zip(&mut control) {
            header.msg_hdr.msg_iov = vector;
            header.msg_hdr.msg_iovlen = 1;
            header.msg_hdr.msg_control = control.as_mut_ptr().cast();
        }
        while !STOP.load(Ordering::Relaxed) {
            for header in &mut headers {
                header.msg_hdr.msg_controllen = if trains { 64 } else { 0 };
            }
            let flags = libc::MSG_WAITFORONE;
            let n = libc::recvmmsg(fd, headers.as_mut_ptr(), MESSAGES as u32, flags, std::ptr::null_mut());
            for header in headers.iter().take(n.max(0) as usize) {
                let mut segment = 0;
                let message = libc::CMSG_FIRSTHDR(&header.msg_hdr);
                if trains && !message.is_null() && (*message).cmsg_type == libc::UDP_GRO {
                    segment = libc::CMSG_DATA(message).cast::<libc::c_int>().read_unaligned() as usize;
                }
                let length = header.msg_len as usize;
                datagrams += if segment > 0 { length.div_ceil(segment) } else { 1 } as u64;
            }
        }
    }
    Ok(datagrams)
}
