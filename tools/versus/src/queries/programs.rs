//! flowlane and nfdump: a process an answer, its start included.

use super::data::{Data, bytes};
use super::engine::{Answer, Engine};
use super::{Question, Spent};
use crate::peer::{program, says};
use crate::process::{Cpu, children, pin};
use anyhow::{Context, anyhow, ensure};
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::Instant;

/// flowlane, over its Parquet file.
pub struct Flowlane {
    program: PathBuf,
    only: bool,
    folder: PathBuf,
    rare: String,
}

/// nfdump, over uncompressed files of nfcapd.
pub struct Nfdump {
    program: PathBuf,
    folder: PathBuf,
    rare: String,
}

impl Flowlane {
    /// It tells all sums of a group; where `only` is set, its bytes alone.
    pub fn new(data: &Data, only: bool) -> anyhow::Result<Self> {
        let program = program("flowlane").context("build it")?;
        Ok(Self { program, only, folder: data.parquet(), rare: data.rare.clone() })
    }
}

impl Engine for Flowlane {
    fn name(&self) -> &'static str {
        if self.only { "flowlane --only" } else { "flowlane" }
    }

    fn version(&self) -> String {
        says(&self.program, &["--version"]).unwrap_or_default()
    }

    fn has(&self, question: Question) -> bool {
        !self.only || question.is_top()
    }

    fn ask(&mut self, question: Question, threads: usize) -> anyhow::Result<(Answer, Spent)> {
        let mut command = Command::new(&self.program);
        match question {
            Question::Totals => command.args(["top", "version"]),
            Question::Top => command.args(["top", "src_addr"]),
            Question::Pairs => command.args(["top", "src_addr,dst_addr"]),
            Question::Filtered => command.args(["top", "dst_addr", "proto tcp and dst port 443"]),
            Question::Rare => command.args(["flows", &format!("host {}", self.rare), "--limit", "0"]),
        };
        if self.only && question.is_top() {
            command.arg("--only");
        }
        command.args(["--format", "csv", "--threads", &threads.to_string(), "--in"]).arg(&self.folder);
        let (output, spent) = run(command, threads)?;
        let text = String::from_utf8_lossy(&output.stdout);
        let lines = Lines::of(&text)?;
        let answer = match question {
            Question::Totals => {
                let total = lines.rows.iter().find(|r| r.first() == Some(&"(total)")).context("no total")?;
                let sum = |name| lines.number(total, name);
                Answer::Sums([sum("flows")?, sum("bytes")?, sum("packets")?])
            }
            Question::Rare => {
                let bytes: anyhow::Result<Vec<u64>> = lines.rows.iter().map(|r| lines.number(r, "bytes")).collect();
                Answer::flows(bytes?.into_iter())
            }
            _ => {
                let groups = lines.rows.iter().filter(|r| r.first().is_some_and(|k| !k.starts_with('(')));
                let keys = if question == Question::Pairs { 2 } else { 1 };
                let line = |r: &Vec<&str>| Ok((r.get(..keys).unwrap_or(&[]).join(" "), lines.number(r, "bytes")?));
                Answer::top(groups.map(line).collect::<anyhow::Result<_>>()?)
            }
        };
        Ok((answer, spent))
    }

    fn disk_bytes(&self) -> u64 {
        bytes(&self.folder)
    }
}

impl Nfdump {
    pub fn new(data: &Data) -> anyhow::Result<Self> {
        let program = program("nfdump").context("apt install nfdump")?;
        data.capture()?;
        Ok(Self { program, folder: data.nfdump(), rare: data.rare.clone() })
    }
}

impl Engine for Nfdump {
    fn name(&self) -> &'static str {
        "nfdump"
    }

    fn version(&self) -> String {
        says(&self.program, &["-V"]).unwrap_or_default()
    }

    fn ask(&mut self, question: Question, threads: usize) -> anyhow::Result<(Answer, Spent)> {
        let mut command = Command::new(&self.program);
        command.arg("-R").arg(&self.folder);
        match question {
            Question::Totals => command.arg("-I"),
            Question::Top => command.args(["-s", "srcip/bytes", "-n", "10", "-o", "csv"]),
            Question::Pairs => command.args(["-s", "record/bytes", "-A", "srcip,dstip", "-n", "10", "-o", "csv"]),
            Question::Filtered => {
                command.args(["-s", "dstip/bytes", "-n", "10", "-o", "csv", "proto tcp and dst port 443"])
            }
            Question::Rare => command.args(["-o", "csv", &format!("host {}", self.rare)]),
        };
        let (output, spent) = run(command, threads)?;
        let text = String::from_utf8_lossy(&output.stdout);
        if question == Question::Totals {
            let sum = |name: &str| -> anyhow::Result<u64> {
                let found = text.lines().find_map(|l| l.strip_prefix(name)?.trim().parse().ok());
                found.with_context(|| format!("no {name}"))
            };
            return Ok((Answer::Sums([sum("Flows:")?, sum("Bytes:")?, sum("Packets:")?]), spent));
        }
        // The answer, and behind it a summary of its own.
        let end = text.find("Summary").unwrap_or(text.len());
        let lines = Lines::of(text.get(..end).unwrap_or_default())?;
        let (keys, bytes): (&[&str], &str) = match question {
            Question::Pairs => (&["sa", "da"], "ibyt"),
            Question::Rare => (&[], "ibyt"),
            _ => (&["val"], "byt"),
        };
        let mut found = Vec::new();
        for row in &lines.rows {
            let key: anyhow::Result<Vec<&str>> = keys.iter().map(|k| lines.cell(row, k)).collect();
            found.push((key?.join(" "), lines.number(row, bytes)?));
        }
        let answer = match question {
            Question::Rare => Answer::flows(found.into_iter().map(|f| f.1)),
            _ => Answer::top(found),
        };
        Ok((answer, spent))
    }

    fn disk_bytes(&self) -> u64 {
        bytes(&self.folder)
    }
}

/// Runs a process on as many cores as it may have threads.
fn run(mut command: Command, threads: usize) -> anyhow::Result<(Output, Spent)> {
    let program = command.get_program().display().to_string();
    let before = children()?;
    let began = Instant::now();
    // A child runs where the thread that started it may run.
    let output = std::thread::scope(|scope| {
        let started = scope.spawn(move || {
            let cores: Vec<usize> = cores().into_iter().take(threads.max(1)).collect();
            pin(&cores)?;
            command.output().with_context(|| format!("cannot start {program}"))
        });
        started.join().map_err(|_| anyhow!("the starting thread failed"))?
    })?;
    let wall_us = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
    let after = children()?;
    ensure!(output.status.success(), "{}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    let cpu = Cpu { user_us: after.user_us - before.user_us, system_us: after.system_us - before.system_us };
    Ok((output, Spent { wall_us, cpu }))
}

/// The cores that this process may use.
pub fn cores() -> Vec<usize> {
    let allowed = nix::sched::sched_getaffinity(nix::unistd::Pid::from_raw(0));
    let is_set = |core: &usize| allowed.as_ref().is_ok_and(|set| set.is_set(*core).unwrap_or(false));
    (0..nix::sched::CpuSet::count()).filter(is_set).collect()
}

/// CSV without quotes, by the names of its columns.
struct Lines<'a> {
    head: Vec<&'a str>,
    rows: Vec<Vec<&'a str>>,
}

impl<'a> Lines<'a> {
    fn of(text: &'a str) -> anyhow::Result<Self> {
        let mut lines = text.lines().filter(|l| !l.trim().is_empty()).map(|l| l.split(',').map(str::trim).collect());
        Ok(Self { head: lines.next().context("no answer")?, rows: lines.collect() })
    }

    fn cell(&self, row: &[&'a str], name: &str) -> anyhow::Result<&'a str> {
        let at = self.head.iter().position(|h| *h == name).with_context(|| format!("no column {name}"))?;
        row.get(at).copied().with_context(|| format!("a line without {name}"))
    }

    fn number(&self, row: &[&'a str], name: &str) -> anyhow::Result<u64> {
        let cell = self.cell(row, name)?;
        cell.parse().with_context(|| format!("{name} is {cell}"))
    }
}
