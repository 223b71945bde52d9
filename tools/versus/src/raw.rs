//! Raw data: JSON lines that tools and `versus report` read, and the trials as CSV.

use crate::hostile::Hostile;
use crate::latency::Latency;
use crate::machine::Machine;
use crate::rate::LossFree;
use crate::scale::Scale;
use crate::soak::Soak;
use crate::trial::Trial;
use anyhow::Context;
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;

/// A line of a JSON file. Every run begins with its machine.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Entry {
    /// Where the entries after it were measured.
    Machine(Machine),
    /// One collector, one workload, one rate.
    Trial(Trial),
    /// A highest rate without loss.
    LossFree(LossFree),
    /// Time through a collector and back.
    Latency(Latency),
    /// A long run.
    Soak(Soak),
    /// Honest exporters among hostile ones.
    Hostile(Hostile),
    /// Costs of flowlane's stages, and what they say of more cores.
    Scale(Scale),
}

/// Where entries go as they come; nothing is lost where a run is cut short.
pub struct Raw {
    json: Option<File>,
    csv: Option<csv::Writer<File>>,
}

impl Raw {
    /// Appends to the files that were asked for.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn open(json: Option<&Path>, csv: Option<&Path>) -> anyhow::Result<Self> {
        let open = |path: &Path| {
            let file = OpenOptions::new().create(true).append(true).open(path);
            file.with_context(|| format!("cannot write {}", path.display()))
        };
        let csv = csv.map(open).transpose()?.map(|file| {
            let is_new = file.metadata().is_ok_and(|m| m.len() == 0);
            csv::WriterBuilder::new().has_headers(is_new).from_writer(file)
        });
        Ok(Self { json: json.map(open).transpose()?, csv })
    }

    /// Writes one.
    ///
    /// # Errors
    /// The disk is full.
    pub fn write(&mut self, entry: &Entry) -> anyhow::Result<()> {
        if let Some(file) = &mut self.json {
            writeln!(file, "{}", serde_json::to_string(entry)?)?;
        }
        if let (Some(csv), Entry::Trial(trial)) = (&mut self.csv, entry) {
            csv.serialize(trial)?;
            csv.flush()?;
        }
        Ok(())
    }
}

/// All entries of a file.
///
/// # Errors
/// It cannot be read, or a line is none.
pub fn read(path: &Path) -> anyhow::Result<Vec<Entry>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let parse = |(n, line): (usize, &str)| {
        serde_json::from_str(line).with_context(|| format!("{}, line {}", path.display(), n + 1))
    };
    text.lines().enumerate().filter(|(_, l)| !l.trim().is_empty()).map(parse).collect()
}
