//! Raw data: JSON lines that tools and `versus report` read, and the trials as CSV.

use crate::bench;
use crate::hostile::Hostile;
use crate::latency::Latency;
use crate::machine::Machine;
use crate::queries::Timed;
use crate::rate::LossFree;
use crate::scale::Scale;
use crate::soak::Soak;
use crate::trial::Trial;
use anyhow::Context;
use serde::{Deserialize, Serialize};
use serde_json::Value;
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
    /// One answer of one engine to a question.
    Query(Timed),
    /// A line of `bench --json`, which has no kind of its own.
    Bench(bench::Row),
    /// The numbers that `bench --instructions` writes.
    Instructions(bench::Instructions),
}

/// Columns of the CSV, by their names in JSON; what a measure does not have is empty.
const COLUMNS: [&str; 33] = [
    "measure",
    "workload",
    "peer",
    "sender",
    "round",
    "rate",
    "seconds",
    "datagrams",
    "records",
    "user_us",
    "system_us",
    "peak_kib",
    "sent_records",
    "sent_octets",
    "sent_packets",
    "kept_records",
    "kept_octets",
    "kept_packets",
    "disk_bytes",
    "kernel_drops",
    "flows_per_second",
    "is_sender_limit",
    "lost",
    "p50_us",
    "p90_us",
    "p99_us",
    "p999_us",
    "max_us",
    "threads",
    "wall_us",
    "is_right",
    "end_user_us",
    "end_system_us",
];

/// A line of CSV, of what is about one collector and one workload.
fn line(entry: &Entry) -> anyhow::Result<Option<Vec<String>>> {
    let mut value = match entry {
        Entry::Trial(one) => serde_json::to_value(one)?,
        Entry::LossFree(one) => serde_json::to_value(one)?,
        Entry::Latency(one) => serde_json::to_value(one)?,
        Entry::Query(one) => serde_json::to_value(one)?,
        _ => return Ok(None),
    };
    match entry {
        Entry::LossFree(one) => {
            value["measure"] = "loss_free".into();
            value["rate"] = one.datagrams_per_second.into();
        }
        Entry::Query(one) => {
            value["measure"] = "query".into();
            value["workload"] = one.question.clone().into();
            value["peer"] = one.engine.clone().into();
            value["records"] = one.flows.into();
        }
        Entry::Latency(one) => {
            value["measure"] = "latency".into();
            value["datagrams"] = one.sent.into();
            for (name, share) in
                [("p50_us", 0.5), ("p90_us", 0.9), ("p99_us", 0.99), ("p999_us", 0.999), ("max_us", 1.0)]
            {
                value[name] = one.from_due_us.iter().find(|q| q.0 == share).map(|q| q.1).into();
            }
        }
        _ => {}
    }
    let cell = |column: &&str| match &value[*column] {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    };
    Ok(Some(COLUMNS.iter().map(cell).collect()))
}

/// Where entries go as they come; nothing is lost where a run is cut short.
pub struct Raw {
    json: Option<File>,
    csv: Option<csv::Writer<Box<dyn Write>>>,
}

impl Raw {
    /// Appends to the files that were asked for; `-` is standard output.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn open(json: Option<&Path>, csv: Option<&Path>) -> anyhow::Result<Self> {
        let open = |path: &Path| {
            let file = OpenOptions::new().create(true).append(true).open(path);
            file.with_context(|| format!("cannot write {}", path.display()))
        };
        let csv = match csv {
            None => None,
            Some(path) if path == Path::new("-") => Some((Box::new(std::io::stdout()) as Box<dyn Write>, true)),
            Some(path) => {
                let file = open(path)?;
                let is_new = file.metadata().is_ok_and(|m| m.len() == 0);
                Some((Box::new(file) as Box<dyn Write>, is_new))
            }
        };
        let csv = csv.map(|(out, is_new)| -> anyhow::Result<_> {
            let mut csv = csv::Writer::from_writer(out);
            if is_new {
                csv.write_record(COLUMNS)?;
            }
            Ok(csv)
        });
        Ok(Self { json: json.map(open).transpose()?, csv: csv.transpose()? })
    }

    /// Writes one.
    ///
    /// # Errors
    /// The disk is full.
    pub fn write(&mut self, entry: &Entry) -> anyhow::Result<()> {
        if let Some(file) = &mut self.json {
            writeln!(file, "{}", serde_json::to_string(entry)?)?;
        }
        if let (Some(csv), Some(line)) = (&mut self.csv, line(entry)?) {
            csv.write_record(line)?;
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
    // One object over many lines.
    if let Ok(whole) = serde_json::from_str(&text) {
        return Ok(vec![Entry::Instructions(whole)]);
    }
    let parse = |(n, line): (usize, &str)| -> anyhow::Result<Entry> {
        let place = || format!("{}, line {}", path.display(), n + 1);
        let mut value: Value = serde_json::from_str(line).with_context(place)?;
        if value.get("bench").is_some() {
            value["kind"] = "bench".into();
        }
        serde_json::from_value(value).with_context(place)
    };
    text.lines().enumerate().filter(|(_, l)| !l.trim().is_empty()).map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_csv_has_what_the_measure_has() {
        let of = |text: &str| line(&serde_json::from_str(text).unwrap()).unwrap().unwrap().join(",");
        let rate = r#"{"kind":"loss_free","workload":"v5","peer":"x","sender":"plain","round":2,"datagrams_per_second":1000.0,"flows_per_second":30000.0,"is_sender_limit":true,"trials":3}"#;
        assert_eq!(of(rate), "loss_free,v5,x,plain,2,1000.0,,,,,,,,,,,,,,,30000.0,true,,,,,,,,,,,");
        let latency = r#"{"kind":"latency","workload":"v5","peer":"x","round":1,"rate":1.0,"sent":2,"lost":1,"from_due_us":[[0.5,1.5],[1.0,3.0]],"from_sent_us":[]}"#;
        assert_eq!(of(latency), "latency,v5,x,,1,1.0,,2,,,,,,,,,,,,,,,1,1.5,,,,3.0,,,,,");
    }
}
