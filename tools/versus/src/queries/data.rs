//! Flows to ask: made once, and brought into each engine's files without a loss.

use crate::peer::program;
use crate::process::{Queue, bytes_below, free_port};
use anyhow::{Context, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{BufReader, Read};
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// What is to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// NetFlow v5 messages of 30 flows, each with flows of its own.
    pub datagrams: u32,
    /// Hosts inside, and as many outside; few of them have most flows (Zipf).
    pub hosts: u32,
}

/// Sums of what was made, as flowgen says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct Made {
    pub records: u64,
    pub octets: u64,
    pub packets: u64,
}

/// A folder with the same flows for everyone.
#[derive(Debug)]
pub struct Data {
    /// What is in it.
    pub made: Made,
    /// An address that few flows have.
    pub rare: String,
    folder: PathBuf,
}

impl Data {
    /// Makes what is not in the folder yet.
    ///
    /// # Errors
    /// flowgen or flowlane are not there, the disk is full, the folder holds other flows.
    pub fn build(folder: &Path, asked: Asked) -> anyhow::Result<Self> {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot write to {}", folder.display()))?;
        let about = folder.join("asked.json");
        match std::fs::read_to_string(&about) {
            Ok(text) => {
                let there: Asked = serde_json::from_str(&text).context("asked.json is none of ours")?;
                ensure!(there == asked, "{} holds other flows ({there:?}): take another folder", folder.display());
            }
            Err(_) => std::fs::write(&about, serde_json::to_string(&asked)?)?,
        }
        let mut data =
            Self { made: Made { records: 0, octets: 0, packets: 0 }, rare: String::new(), folder: folder.to_owned() };
        data.make(asked)?;
        data.decode()?;
        data.rare = data.find_rare()?;
        Ok(data)
    }

    /// Where flowlane's Parquet file is.
    pub fn parquet(&self) -> PathBuf {
        self.folder.join("parquet")
    }

    /// Where nfcapd's files are.
    pub fn nfdump(&self) -> PathBuf {
        self.folder.join("nfdump")
    }

    /// Where Python's packages are, unless they are elsewhere.
    pub fn venv(&self) -> PathBuf {
        self.folder.join("venv")
    }

    fn pcap(&self) -> PathBuf {
        self.folder.join("flows.pcap")
    }

    fn make(&mut self, asked: Asked) -> anyhow::Result<()> {
        let sums = self.folder.join("made.json");
        if !sums.exists() {
            eprintln!("versus: {} flows are made", u64::from(asked.datagrams) * 30);
            let n = asked.datagrams.to_string();
            let output = Command::new(program("flowgen").context("flowgen is not there: build it")?)
                .args(["--protocol", "v5", "--records", "30", "--exporters", "1", "--json"])
                .args(["--distinct", &n, "-n", &n, "--hosts", &asked.hosts.to_string(), "-w"])
                .arg(self.pcap())
                .output()?;
            ensure!(output.status.success(), "flowgen: {}", String::from_utf8_lossy(&output.stderr));
            std::fs::write(&sums, &output.stdout)?;
        }
        self.made = serde_json::from_str(&std::fs::read_to_string(&sums)?).context("flowgen's sums")?;
        Ok(())
    }

    fn decode(&self) -> anyhow::Result<()> {
        self.once(&self.parquet(), |folder| {
            eprintln!("versus: flowlane decodes them");
            let output = Command::new(program("flowlane").context("flowlane is not there: build it")?)
                .args(["decode", "--format", "parquet", "--out"])
                .args([folder, &self.pcap()])
                .output()?;
            ensure!(output.status.success(), "flowlane: {}", String::from_utf8_lossy(&output.stderr));
            Ok(())
        })
    }

    /// Lets nfcapd write the flows, unless it did.
    ///
    /// # Errors
    /// nfcapd is not there, or has lost a datagram.
    pub fn capture(&self) -> anyhow::Result<()> {
        self.once(&self.nfdump(), |folder| {
            let nfcapd = program("nfcapd").context("apt install nfdump")?;
            eprintln!("versus: nfcapd writes them");
            let port = free_port()?;
            let mut child = Command::new(nfcapd)
                .args(["-b", "127.0.0.1", "-p", &port.to_string(), "-B", "4000000", "-t", "86400", "-w"])
                .arg(folder)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()?;
            let sent = self.send(port);
            // It may have ended by itself already.
            let _ = kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGTERM);
            let end = Instant::now() + Duration::from_secs(60);
            while child.try_wait()?.is_none() {
                if Instant::now() > end {
                    child.kill()?;
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            sent
        })
    }

    /// Sends every datagram, and waits where the receiver is behind: none is lost.
    fn send(&self, port: u16) -> anyhow::Result<()> {
        let end = Instant::now() + Duration::from_secs(10);
        while Queue::of(port).is_none() {
            ensure!(Instant::now() < end, "it does not listen");
            std::thread::sleep(Duration::from_millis(10));
        }
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        socket.connect(("127.0.0.1", port))?;
        let mut file = BufReader::with_capacity(1 << 20, File::open(self.pcap())?);
        file.read_exact(&mut [0; 24])?;
        let (mut sent, mut frame) = (0, Vec::new());
        loop {
            let mut head = [0; 16];
            match file.read_exact(&mut head) {
                Ok(()) => {}
                Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => break,
                Err(e) => return Err(e.into()),
            }
            let len = head.get(8..).and_then(|h| h.first_chunk()).map_or(0, |b| u32::from_le_bytes(*b));
            frame.resize(len as usize, 0);
            file.read_exact(&mut frame)?;
            // Behind the headers of Ethernet, IPv4 and UDP.
            socket.send(frame.get(14 + 20 + 8..).context("a frame without a datagram")?)?;
            sent += 1;
            // A receive buffer of 212,992 bytes, which everybody has, takes more than so many.
            if sent % 32 == 0 {
                wait(port, 60_000)?;
            }
        }
        wait(port, 0)?;
        let lost = Queue::of(port).map_or(0, |q| q.drops);
        ensure!(lost == 0, "{lost} datagrams found its buffer full");
        // What it has read it still has to write.
        std::thread::sleep(Duration::from_secs(1));
        Ok(())
    }

    /// Fills a folder, whole or not at all.
    fn once(&self, folder: &Path, fill: impl FnOnce(&Path) -> anyhow::Result<()>) -> anyhow::Result<()> {
        if folder.exists() {
            return Ok(());
        }
        let part = folder.with_extension("part");
        let _ = std::fs::remove_dir_all(&part);
        std::fs::create_dir_all(&part)?;
        match fill(&part) {
            Ok(()) => Ok(std::fs::rename(&part, folder)?),
            Err(why) => {
                let _ = std::fs::remove_dir_all(&part);
                Err(why)
            }
        }
    }

    /// A source that few flows have.
    fn find_rare(&self) -> anyhow::Result<String> {
        let output = Command::new(program("flowlane").context("flowlane is not there: build it")?)
            .args(["top", "src_addr", "bytes < 1000", "--by", "flows", "--format", "csv", "-n", "100000", "-i"])
            .arg(self.parquet())
            .output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        let last = text.lines().rfind(|l| !l.starts_with('(')).and_then(|l| l.split(',').next());
        match last {
            Some(address) if address.parse::<std::net::Ipv4Addr>().is_ok() => Ok(address.to_owned()),
            _ => bail!("flowlane names no address: {}", String::from_utf8_lossy(&output.stderr)),
        }
    }
}

/// Until so many bytes at most wait in a receiver's buffer.
fn wait(port: u16, most: u64) -> anyhow::Result<()> {
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        let queue = Queue::of(port).context("it has ended")?;
        if queue.waiting <= most {
            return Ok(());
        }
        ensure!(Instant::now() < end, "it does not read");
        std::thread::sleep(Duration::from_micros(50));
    }
}

/// Bytes of a folder.
pub fn bytes(folder: &Path) -> u64 {
    bytes_below(folder)
}
