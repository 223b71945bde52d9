//! A collector under measurement: a process, or a group of them, on one core for all of its threads.

use anyhow::{Context, anyhow, bail};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::time::TimeValLike;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::time::clock_getcpuclockid;
use nix::unistd::Pid;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::collections::BTreeSet;
use std::fmt;
use std::fs::File;
use std::net::UdpSocket;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Processor time, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cpu {
    /// In the process's own code.
    pub user_us: u64,
    /// In the kernel on its behalf.
    pub system_us: u64,
}

impl Cpu {
    /// Both.
    pub fn total_us(self) -> u64 {
        self.user_us + self.system_us
    }

    /// What is more than at an earlier time; their sum is exact, their shares are not.
    fn since(self, earlier: Self) -> Self {
        let total_us = self.total_us().saturating_sub(earlier.total_us());
        let user_us = self.user_us.saturating_sub(earlier.user_us).min(total_us);
        Self { user_us, system_us: total_us - user_us }
    }
}

/// What a process has used when it has ended.
#[derive(Clone, Copy, Debug)]
pub struct Ended {
    /// Processor time since [`Running::mark`], its way to the end included.
    pub cpu: Cpu,
    /// Of that, what it took from when it was told to end.
    pub ending: Cpu,
    /// Resident memory at its peak.
    pub peak_kib: u64,
}

/// A collector that did not come to listen: there is no use in trying it again.
#[derive(Debug)]
pub struct NeverListened(pub String);

impl fmt::Display for NeverListened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NeverListened {}

/// A process and those that it starts; none outlives this one.
pub struct Running {
    child: Child,
    marked: Cpu,
    folder: PathBuf,
}

impl Running {
    /// Starts a command on some cores; what it prints goes into files in the folder.
    ///
    /// # Errors
    /// A program that is not there, or a core that is not the machine's.
    pub fn start(mut command: Command, cores: &[usize], folder: &Path) -> anyhow::Result<Self> {
        let at = |name: &str| File::create(folder.join(name));
        command.stdin(Stdio::null()).stdout(at("stdout")?).stderr(at("stderr")?);
        let program = command.get_program().display().to_string();
        command.process_group(0);
        // Processes whose parent ended before them come to us, and their time with them.
        nix::sys::prctl::set_child_subreaper(true)?;
        // A child runs where the thread that started it may run.
        let child = std::thread::scope(|scope| {
            let started = scope.spawn(move || {
                pin(cores)?;
                command.spawn().with_context(|| format!("cannot start {program}"))
            });
            started.join().map_err(|_| anyhow!("the starting thread failed"))?
        })?;
        note(&GROUPS, child.id(), true);
        Ok(Self { child, marked: Cpu::default(), folder: folder.to_owned() })
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    /// Waits until it listens on a port.
    ///
    /// # Errors
    /// [`NeverListened`]: it ended, or does not listen within 20 seconds.
    pub fn wait_for(&mut self, port: u16) -> anyhow::Result<()> {
        let end = Instant::now() + Duration::from_secs(20);
        while Instant::now() < end {
            if let Some(status) = self.child.try_wait()? {
                let why = format!("it ended before it listened ({status}): {}", self.complaint());
                return Err(NeverListened(why).into());
            }
            if Queue::of(port).is_some() {
                std::thread::sleep(Duration::from_millis(150));
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Err(NeverListened(format!("it does not listen on port {port}: {}", self.complaint())).into())
    }

    /// The last line that it wrote to standard error.
    fn complaint(&self) -> String {
        let text = std::fs::read_to_string(self.folder.join("stderr")).unwrap_or_default();
        text.lines().rev().find(|l| !l.trim().is_empty()).unwrap_or("it says nothing").to_owned()
    }

    /// What it printed on standard output so far.
    pub fn printed(folder: &Path) -> String {
        std::fs::read_to_string(folder.join("stdout")).unwrap_or_default()
    }

    /// Its processes that are there now, each with the fields of /proc/PID/stat behind its name.
    fn members(&self) -> Vec<(Pid, Vec<u64>)> {
        let group = self.child.id().to_string();
        let member = |entry: std::fs::DirEntry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let text = std::fs::read_to_string(entry.path().join("stat")).ok()?;
            // The name may hold anything.
            let fields: Vec<&str> = text.rsplit(')').next()?.split_whitespace().collect();
            let alive = *fields.get(2)? == group && !matches!(*fields.first()?, "Z" | "X");
            alive.then(|| (Pid::from_raw(pid), fields.iter().map(|f| f.parse().unwrap_or(0)).collect()))
        };
        let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
        entries.filter_map(Result::ok).filter_map(member).collect()
    }

    /// Processor time since the start of all processes that are there, threads that ended included.
    ///
    /// # Errors
    /// It ended.
    pub fn cpu_us(&self) -> anyhow::Result<u64> {
        let members = self.members();
        if members.is_empty() {
            bail!("it ended too early: {}", self.complaint());
        }
        let time =
            |pid: Pid| clock_getcpuclockid(pid).and_then(nix::time::ClockId::now).map_or(0, |t| t.num_microseconds());
        Ok(members.iter().map(|(pid, _)| u64::try_from(time(*pid)).unwrap_or(0)).sum())
    }

    /// From here on its processor time counts.
    ///
    /// # Errors
    /// It ended.
    pub fn mark(&mut self) -> anyhow::Result<()> {
        self.marked = self.used()?;
        Ok(())
    }

    /// Processor time so far: all of it by the processes' own clocks, and the user's part to a clock tick.
    fn used(&self) -> anyhow::Result<Cpu> {
        let total_us = self.cpu_us()?;
        // Behind the name utime is the 12th field, in clock ticks.
        let user_ticks = |fields: &Vec<u64>| fields.get(11).copied().unwrap_or(0);
        let user_us: u64 = self.members().iter().map(|(_, fields)| user_ticks(fields) * 10_000).sum();
        let user_us = user_us.min(total_us);
        Ok(Cpu { user_us, system_us: total_us - user_us })
    }

    /// Resident memory now, in KiB: at present, and at the peak of each process.
    pub fn resident_kib(&self) -> (u64, u64) {
        let of = |pid: Pid, name: &str| -> Option<u64> {
            let text = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
            text.lines().find_map(|l| l.strip_prefix(name)?.split_whitespace().next()?.parse().ok())
        };
        let members = self.members();
        let sum = |name| members.iter().filter_map(|(pid, _)| of(*pid, name)).sum();
        (sum("VmRSS:"), sum("VmHWM:"))
    }

    /// Its first process's threads by name, and how long each has run, nanoseconds.
    pub fn threads_ns(&self) -> Vec<(String, u64)> {
        let thread = |entry: std::fs::DirEntry| {
            let name = std::fs::read_to_string(entry.path().join("comm")).ok()?.trim().to_owned();
            let ran = std::fs::read_to_string(entry.path().join("schedstat")).ok()?;
            Some((name, ran.split(' ').next()?.parse().ok()?))
        };
        let Ok(entries) = std::fs::read_dir(format!("/proc/{}/task", self.child.id())) else { return Vec::new() };
        entries.filter_map(Result::ok).filter_map(thread).collect()
    }

    /// Waits until it has read all that is in its socket and done its work: its processor time stands still.
    ///
    /// # Errors
    /// It ended.
    pub fn settle(&self, port: u16, patience: Duration) -> anyhow::Result<()> {
        let end = Instant::now() + patience;
        let mut last = self.cpu_us()?;
        while Instant::now() < end {
            std::thread::sleep(Duration::from_millis(200));
            let now = self.cpu_us()?;
            // A service that waits uses a little, too.
            if Queue::of(port).is_none_or(|q| q.waiting == 0) && now - last < 10_000 {
                break;
            }
            last = now;
        }
        Ok(())
    }

    /// Tells it to end, and waits for it and all that it started.
    ///
    /// # Errors
    /// It does not end in time, or not well.
    pub fn stop(mut self, signal: Signal, patience: Duration) -> anyhow::Result<Ended> {
        let (before, told) = (children()?, self.used()?);
        let mut peak_kib = self.resident_kib().1;
        kill(self.pid(), signal)?;
        let end = Instant::now() + patience;
        let status = loop {
            // What it needs at the end counts as well.
            peak_kib = peak_kib.max(self.resident_kib().1);
            match self.child.try_wait()? {
                Some(status) => break status,
                None if Instant::now() > end => bail!("it does not end"),
                None => std::thread::sleep(Duration::from_millis(5)),
            }
        };
        while !self.reap() {
            if Instant::now() > end {
                bail!("what it started does not end");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let after = children()?;
        if !status.success() && status.signal().is_none() {
            bail!("it failed ({status}): {}", self.complaint());
        }
        let all = after.since(before);
        Ok(Ended { cpu: all.since(self.marked), ending: all.since(told), peak_kib })
    }

    /// Waits for processes of the group that came to us; whether none is left. For after the first has ended.
    fn reap(&self) -> bool {
        let group = Pid::from_raw(-self.pid().as_raw());
        loop {
            match waitpid(group, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::StillAlive) => return false,
                Ok(_) => {}
                Err(_) => return self.members().is_empty(),
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = killpg(self.pid(), Signal::SIGKILL);
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.reap();
        note(&GROUPS, self.child.id(), false);
    }
}

/// Process groups that run, and folders that are there for a time.
static GROUPS: Mutex<BTreeSet<u32>> = Mutex::new(BTreeSet::new());
static FOLDERS: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

fn note<T: Ord>(set: &Mutex<BTreeSet<T>>, one: T, is_there: bool) {
    let mut set = set.lock().unwrap_or_else(PoisonError::into_inner);
    if is_there {
        set.insert(one);
    } else {
        set.remove(&one);
    }
}

/// From here on SIGINT and SIGTERM end the collectors, too, and leave no folder behind.
///
/// # Errors
/// The system refuses a handler.
pub fn end_together() -> anyhow::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    std::thread::spawn(move || {
        if signals.forever().next().is_some() {
            for &group in GROUPS.lock().unwrap_or_else(PoisonError::into_inner).iter() {
                let _ = killpg(Pid::from_raw(group.cast_signed()), Signal::SIGKILL);
            }
            for folder in FOLDERS.lock().unwrap_or_else(PoisonError::into_inner).iter() {
                let _ = std::fs::remove_dir_all(folder);
            }
            std::process::exit(130);
        }
    });
    Ok(())
}

/// What all processes used that were waited for.
pub(crate) fn children() -> anyhow::Result<Cpu> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let us = |time: nix::sys::time::TimeVal| u64::try_from(time.num_microseconds()).unwrap_or(0);
    Ok(Cpu { user_us: us(usage.user_time()), system_us: us(usage.system_time()) })
}

/// Keeps the calling thread on some cores.
///
/// # Errors
/// A core that the machine does not have, or that is not allowed.
pub fn pin(cores: &[usize]) -> anyhow::Result<()> {
    let mut set = CpuSet::new();
    cores.iter().try_for_each(|&core| set.set(core))?;
    sched_setaffinity(Pid::from_raw(0), &set).with_context(|| format!("cannot run on cores {cores:?}"))
}

/// A receiver's sockets on a port, as the kernel sees them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Queue {
    /// Bytes that wait, the kernel's own included.
    pub waiting: u64,
    /// Datagrams that found the buffer full.
    pub drops: u64,
}

impl Queue {
    /// The sum over all sockets of the port, if there is any.
    pub fn of(port: u16) -> Option<Self> {
        let tables = ["/proc/net/udp", "/proc/net/udp6"].map(|f| std::fs::read_to_string(f).unwrap_or_default());
        let mut sum = None;
        for line in tables.iter().flat_map(|t| t.lines().skip(1)) {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let local = fields.get(1).and_then(|a| u16::from_str_radix(a.rsplit(':').next()?, 16).ok());
            let waits = fields.get(4).and_then(|q| u64::from_str_radix(q.split(':').nth(1)?, 16).ok());
            let drops = fields.last().and_then(|d| d.parse::<u64>().ok());
            if let (true, Some(waits), Some(drops)) = (local == Some(port), waits, drops) {
                let sum = sum.get_or_insert_with(Self::default);
                sum.waiting += waits;
                sum.drops += drops;
            }
        }
        sum
    }
}

/// A port that nobody listens on.
///
/// # Errors
/// None is free.
pub fn free_port() -> anyhow::Result<u16> {
    Ok(UdpSocket::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// A folder for one run, gone with it.
pub struct Scratch(PathBuf);

impl Scratch {
    /// A new folder below `base`.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn new(base: &Path, name: &str) -> anyhow::Result<Self> {
        static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let n = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let path = base.join(format!("versus-{}-{n}-{}", std::process::id(), name.replace(' ', "-")));
        std::fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        note(&FOLDERS, path.clone(), true);
        Ok(Self(path))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
        note(&FOLDERS, self.0.clone(), false);
    }
}

/// Bytes of all files below a folder.
pub fn bytes_below(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    let size = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(data) if data.is_dir() => bytes_below(&entry.path()),
        Ok(data) => data.len(),
        Err(_) => 0,
    };
    entries.filter_map(Result::ok).map(size).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_counts_from_the_mark_to_the_end() {
        let scratch = Scratch::new(&std::env::temp_dir(), "a test").unwrap();
        let mut command = Command::new("sh");
        command.args([
            "-c",
            "trap 'i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; exit 0' TERM; while :; do sleep 0.01; done",
        ]);
        let mut running = Running::start(command, &[0], scratch.path()).unwrap();
        std::thread::sleep(Duration::from_millis(100));
        running.mark().unwrap();
        let ended = running.stop(Signal::SIGTERM, Duration::from_secs(20)).unwrap();
        assert!(ended.cpu.total_us() > 1000, "{ended:?}");
        assert!(ended.peak_kib > 100, "{ended:?}");
        assert!(scratch.path().join("stderr").exists());
    }

    #[test]
    fn a_queue_is_seen_while_a_socket_is_there() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        assert_eq!(Queue::of(port), Some(Queue::default()));
        UdpSocket::bind("127.0.0.1:0").unwrap().send_to(&[0; 100], ("127.0.0.1", port)).unwrap();
        assert!(Queue::of(port).unwrap().waiting > 100);
        drop(socket);
        assert_eq!(Queue::of(port), None);
    }
}
