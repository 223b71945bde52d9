//! Questions to the same flows: flowlane and DuckDB and chdb over one Parquet file, nfdump over files of nfcapd.
//!
//! ```text
//! data     flows made once -> nfcapd, as fast as it reads and no faster -> nfdump's files; flowlane decode -> Parquet
//!   -> engine   one question: the answer, wall and processor time; a file each
//!   -> ask      totals first, then every question to every engine in turn, round by round; answers are compared
//! ```

mod data;
mod engine;
mod programs;
mod python;

pub use data::{Asked, Data};

use crate::process::Cpu;
use crate::raw::{Entry, Raw};
use crate::table::{Table, median, number};
use anyhow::{Context, bail};
use engine::{Answer, Engine};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// A question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// Sums of everything: flows, packets, bytes.
    Totals,
    /// The ten source addresses with most bytes.
    Top,
    /// The ten pairs of source and destination address with most bytes.
    Pairs,
    /// The ten destination addresses with most bytes of `proto tcp and dst port 443`.
    Filtered,
    /// All flows of an address that has few.
    Rare,
}

impl Question {
    const TIMED: [Self; 4] = [Self::Top, Self::Pairs, Self::Filtered, Self::Rare];

    /// Whether it is about the greatest groups.
    fn is_top(self) -> bool {
        matches!(self, Self::Top | Self::Pairs | Self::Filtered)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Totals => "totals",
            Self::Top => "top",
            Self::Pairs => "pairs",
            Self::Filtered => "filtered",
            Self::Rare => "rare",
        }
    }
}

/// One answer of one engine.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Timed {
    /// `top`, `pairs`, `filtered` or `rare`.
    pub question: String,
    /// The engine's name.
    pub engine: String,
    /// Threads that it may use, and as many cores.
    pub threads: usize,
    /// Which time in turn, from 1; what is before it warms the caches.
    pub round: u32,
    /// Flow records that were asked.
    pub flows: u64,
    /// Time until the answer was there, microseconds.
    pub wall_us: u64,
    /// Processor time in its own code, microseconds.
    pub user_us: u64,
    /// In the kernel on its behalf, microseconds.
    pub system_us: u64,
    /// Bytes of the files that it reads from.
    pub disk_bytes: u64,
    /// Whether it said what the others say.
    pub is_right: bool,
}

/// How engines are asked.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Times that each engine has its turn, after one that is not counted.
    pub rounds: u32,
    /// Threads, each number for itself.
    pub threads: Vec<usize>,
}

/// Asks every engine every question in turn.
///
/// # Errors
/// Totals differ from what was made, answers differ, raw data cannot be written.
pub fn ask(data: &Data, engines: &mut [Box<dyn Engine>], plan: &Plan, raw: &mut Raw) -> anyhow::Result<Vec<Timed>> {
    for engine in engines.iter_mut() {
        let (found, _) = engine.ask(Question::Totals, plan.threads.first().copied().unwrap_or(1))?;
        let made = [data.made.records, data.made.octets, data.made.packets];
        let Answer::Sums(found) = found else { bail!("{} tells no totals", engine.name()) };
        if found != made {
            bail!("{}: flows, bytes and packets are {found:?}, not {made:?}", engine.name());
        }
        eprintln!(
            "versus: {}: {} flows, {} bytes, {} packets, as they were made",
            engine.name(),
            made[0],
            made[1],
            made[2]
        );
    }
    let mut all = Vec::new();
    for &threads in &plan.threads {
        for question in Question::TIMED {
            let mut right = None;
            for round in 0..=plan.rounds {
                for engine in engines.iter_mut().filter(|engine| engine.has(question)) {
                    let (answer, spent) = engine
                        .ask(question, threads)
                        .with_context(|| format!("{} on {}", engine.name(), question.name()))?;
                    let is_right = *right.get_or_insert_with(|| answer.clone()) == answer;
                    if !is_right {
                        eprintln!("versus: {}: {} is answered by {answer:?}", engine.name(), question.name());
                    }
                    // The first time is for the caches.
                    if round > 0 {
                        let timed = Timed {
                            question: question.name().to_owned(),
                            engine: engine.name().to_owned(),
                            threads,
                            round,
                            flows: data.made.records,
                            wall_us: spent.wall_us,
                            user_us: spent.cpu.user_us,
                            system_us: spent.cpu.system_us,
                            disk_bytes: engine.disk_bytes(),
                            is_right,
                        };
                        raw.write(&Entry::Query(timed.clone()))?;
                        all.push(timed);
                    }
                }
            }
        }
    }
    match all.iter().find(|t| !t.is_right) {
        Some(wrong) => bail!("{} and others answer {} in different ways", wrong.engine, wrong.question),
        None => Ok(all),
    }
}

/// Those that are here, and how to get those that are not.
pub struct Engines {
    /// flowlane first.
    pub here: Vec<Box<dyn Engine>>,
    /// Names, and why they are missing.
    pub missing: Vec<(String, String)>,
}

/// All that are here; the others are named.
///
/// # Errors
/// flowlane is not there.
pub fn engines(data: &Data, venv: Option<&Path>) -> anyhow::Result<Engines> {
    let mut found = Engines {
        here: vec![Box::new(programs::Flowlane::new(data, false)?), Box::new(programs::Flowlane::new(data, true)?)],
        missing: Vec::new(),
    };
    let mut add = |name: &str, one: anyhow::Result<Box<dyn Engine>>| match one {
        Ok(one) => found.here.push(one),
        Err(why) => {
            eprintln!("versus: {name} is missing: {why:#}");
            found.missing.push((name.to_owned(), format!("{why:#}")));
        }
    };
    add("nfdump", programs::Nfdump::new(data).map(|one| Box::new(one) as Box<dyn Engine>));
    for kind in [python::Kind::Duckdb, python::Kind::DuckdbAllSums, python::Kind::Chdb] {
        add(kind.name(), python::Python::new(data, venv, kind).map(|one| Box::new(one) as Box<dyn Engine>));
    }
    Ok(found)
}

/// Time that an answer took.
#[derive(Clone, Copy, Debug)]
pub struct Spent {
    wall_us: u64,
    cpu: Cpu,
}

/// Medians of each question and engine, and flowlane's as a share of them.
pub fn table(all: &[Timed]) -> Table {
    let head = [
        "question",
        "engine",
        "threads",
        "wall ms",
        "CPU ms",
        "wall, times flowlane's",
        "CPU, times flowlane's",
        "bytes/flow",
    ];
    let mut table = Table::new(2, &head);
    let mut seen: Vec<(&str, &str, usize)> = Vec::new();
    for timed in all {
        let key = (timed.question.as_str(), timed.engine.as_str(), timed.threads);
        if seen.contains(&key) {
            continue;
        }
        seen.push(key);
        let of = |engine: &str, f: &dyn Fn(&Timed) -> u64| {
            let is_of = |t: &&Timed| t.question == key.0 && t.engine == engine && t.threads == key.2;
            median(all.iter().filter(is_of).map(|t| f(t) as f64 / 1000.0)).unwrap_or(f64::NAN)
        };
        let (wall, cpu) = (|t: &Timed| t.wall_us, |t: &Timed| t.user_us + t.system_us);
        table.row([
            key.0.to_owned(),
            key.1.to_owned(),
            key.2.to_string(),
            number(of(key.1, &wall)),
            number(of(key.1, &cpu)),
            number(of(key.1, &wall) / of("flowlane", &wall)),
            number(of(key.1, &cpu) / of("flowlane", &cpu)),
            number(timed.disk_bytes as f64 / timed.flows as f64),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_beside_those_of_flowlane() {
        let timed = |engine: &str, round, wall_us| Timed {
            question: "top".to_owned(),
            engine: engine.to_owned(),
            threads: 1,
            round,
            flows: 1000,
            wall_us,
            user_us: wall_us,
            system_us: 1000,
            disk_bytes: 35_000,
            is_right: true,
        };
        let all = [("flowlane", 1, 3000), ("nfdump", 1, 9000), ("flowlane", 2, 1000), ("nfdump", 2, 7000)];
        let text = table(&all.map(|(engine, round, us)| timed(engine, round, us))).text();
        let cells: Vec<&str> = text.lines().nth(2).unwrap_or_default().split_whitespace().collect();
        assert_eq!(cells, ["top", "nfdump", "1", "8.00", "9.00", "4.00", "3.00", "35.0"], "{text}");
    }
}
