//! DuckDB and chdb, as Python packages: one process that is asked over and over, so that its start does not count.

use super::data::{Data, bytes};
use super::engine::{Answer, Engine};
use super::programs::cores;
use super::{Question, Spent};
use crate::peer::says;
use crate::process::Cpu;
use anyhow::{Context, bail, ensure};
use serde::Deserialize;
use std::io::{BufRead, BufReader, Write};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// Which of them, and what it is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Bytes alone, which are less than flowlane and nfdump answer.
    Duckdb,
    /// Bytes, packets, flows, the first start and the last end, as flowlane and nfdump.
    DuckdbAllSums,
    /// Bytes alone.
    Chdb,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Duckdb => "duckdb",
            Self::DuckdbAllSums => "duckdb, all sums",
            Self::Chdb => "chdb",
        }
    }

    fn package(self) -> &'static str {
        match self {
            Self::Duckdb | Self::DuckdbAllSums => "duckdb",
            Self::Chdb => "chdb",
        }
    }
}

/// A process with one of them.
pub struct Python {
    kind: Kind,
    python: PathBuf,
    folder: PathBuf,
    rare: u32,
    // By threads: chdb takes their number once.
    running: Option<(usize, Child, ChildStdin, BufReader<ChildStdout>)>,
}

#[derive(Deserialize)]
struct Reply {
    rows: Vec<Vec<u64>>,
    wall_us: u64,
    user_us: u64,
    system_us: u64,
}

impl Python {
    /// Of a venv, which is made where there is none.
    pub fn new(data: &Data, venv: Option<&Path>, kind: Kind) -> anyhow::Result<Self> {
        let venv = venv.map_or_else(|| data.venv(), Path::to_owned);
        let python = venv.join("bin/python");
        let here = |python: &Path| {
            let found = Command::new(python).args(["-c", &format!("import {}", kind.package())]).output();
            found.is_ok_and(|o| o.status.success())
        };
        if !python.exists() {
            let made =
                Command::new("python3").args(["-m", "venv"]).arg(&venv).output().context("there is no python3")?;
            ensure!(made.status.success(), "no venv: {}", String::from_utf8_lossy(&made.stderr));
        }
        if !here(&python) {
            eprintln!("versus: pip installs {} into {}", kind.package(), venv.display());
            let got = Command::new(&python).args(["-m", "pip", "install", "-q", kind.package()]).output()?;
            ensure!(got.status.success() && here(&python), "pip install {} into {}", kind.package(), venv.display());
        }
        let rare: Ipv4Addr = data.rare.parse()?;
        Ok(Self { kind, python, folder: data.parquet(), rare: rare.to_bits(), running: None })
    }

    fn sql(&self, question: Question) -> String {
        let from = match self.kind.package() {
            "chdb" => format!("file('{}/*.parquet', Parquet)", self.folder.display()),
            _ => format!("'{}/*.parquet'", self.folder.display()),
        };
        let more = match self.kind {
            Kind::DuckdbAllSums => ", sum(packets), sum(flows), epoch_us(min(flow_start)), epoch_us(max(flow_end))",
            _ => "",
        };
        let top = |keys: &str, filter: &str| {
            format!(
                "select {keys}, sum(bytes) as b{more} from {from} {filter} group by {keys} order by b desc limit 10"
            )
        };
        match question {
            Question::Totals => format!("select sum(flows), sum(bytes), sum(packets) from {from}"),
            Question::Top => top("src_ip4", ""),
            Question::Pairs => top("src_ip4, dst_ip4", ""),
            Question::Filtered => top("dst_ip4", "where proto = 6 and dst_port = 443"),
            Question::Rare => format!(
                "select bytes, packets, src_ip4, dst_ip4, src_port, dst_port, proto from {from} \
                 where src_ip4 = {0} or dst_ip4 = {0}",
                self.rare
            ),
        }
    }

    fn start(&mut self, threads: usize) -> anyhow::Result<()> {
        self.end();
        // Where it may run is where it counts the cores.
        let cores: Vec<String> = cores().iter().take(threads.max(1)).map(ToString::to_string).collect();
        let mut child = Command::new(&self.python)
            .args(["-c", include_str!("ask.py"), self.kind.package(), &threads.to_string(), &cores.join(",")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let (Some(to), Some(from)) = (child.stdin.take(), child.stdout.take()) else { bail!("no pipes") };
        self.running = Some((threads, child, to, BufReader::new(from)));
        Ok(())
    }

    fn end(&mut self) {
        if let Some((_, mut child, to, _)) = self.running.take() {
            // It ends where its input does.
            drop(to);
            let _ = child.wait();
        }
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        self.end();
    }
}

impl Engine for Python {
    fn name(&self) -> &'static str {
        self.kind.name()
    }

    fn version(&self) -> String {
        let package = self.kind.package();
        let ask = format!("import importlib.metadata as m; print('{package}', m.version('{package}'))");
        says(&self.python, &["-c", &ask]).unwrap_or_default()
    }

    fn ask(&mut self, question: Question, threads: usize) -> anyhow::Result<(Answer, Spent)> {
        if self.running.as_ref().is_none_or(|r| r.0 != threads) {
            self.start(threads)?;
        }
        let sql = self.sql(question);
        let Some((_, _, to, from)) = &mut self.running else { bail!("it did not start") };
        writeln!(to, "{sql}")?;
        let mut line = String::new();
        from.read_line(&mut line)?;
        let reply: Reply = serde_json::from_str(&line).with_context(|| format!("it fails on {sql}"))?;
        let keys = match question {
            Question::Totals | Question::Rare => 0,
            Question::Pairs => 2,
            Question::Top | Question::Filtered => 1,
        };
        let rows = reply.rows.iter();
        let answer = match (question, reply.rows.first().map(Vec::as_slice)) {
            (Question::Totals, Some(&[flows, bytes, packets])) => Answer::Sums([flows, bytes, packets]),
            (Question::Totals, _) => bail!("no totals"),
            (Question::Rare, _) => Answer::flows(rows.filter_map(|r| r.first().copied())),
            _ => Answer::top(rows.filter_map(|r| line_of(r, keys)).collect()),
        };
        let cpu = Cpu { user_us: reply.user_us, system_us: reply.system_us };
        Ok((answer, Spent { wall_us: reply.wall_us, cpu }))
    }

    fn disk_bytes(&self) -> u64 {
        bytes(&self.folder)
    }
}

/// Addresses as text, and the bytes behind them.
fn line_of(row: &[u64], keys: usize) -> Option<(String, u64)> {
    let address = |n: &u64| u32::try_from(*n).map(|bits| Ipv4Addr::from_bits(bits).to_string()).ok();
    let texts: Option<Vec<String>> = row.get(..keys)?.iter().map(address).collect();
    Some((texts?.join(" "), *row.get(keys)?))
}
