//! What `bench --json` printed: flowlane's stages, each beside what else does the same in the same run.

use crate::chart::Points;
use crate::table::{Table, number};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One of its lines.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Row {
    /// `decode`, `rows`, `views`, `join`, `encode` or `receive`.
    pub bench: String,
    /// The workload.
    pub template: String,
    /// `cache`, `memory`, or how datagrams were sent.
    pub place: String,
    /// Which kernels flowlane used.
    pub kernel: String,
    /// How the column was written, if it is about one.
    pub way: Option<String>,
    /// flowlane's value as a multiple of the other's.
    pub ratio: Option<f64>,
    /// The other.
    pub against: Option<String>,
    /// What the ratio has to reach, if anything.
    pub target: Option<f64>,
    /// Whether it does.
    pub met: Option<bool>,
    /// flowlane's value under its unit, and the other's under `against_` and the unit.
    #[serde(flatten)]
    pub values: BTreeMap<String, f64>,
}

impl Row {
    fn value(&self) -> Option<(&str, f64)> {
        self.values.iter().find(|(unit, _)| !unit.starts_with("against_")).map(|(unit, v)| (unit.as_str(), *v))
    }

    fn against_value(&self) -> Option<f64> {
        self.values.iter().find(|(unit, _)| unit.starts_with("against_")).map(|v| *v.1)
    }

    fn is_against(&self, name: &str) -> bool {
        self.against.as_deref() == Some(name)
    }

    /// The ratio, and what it is held against.
    fn judged(&self) -> String {
        let ratio = self.ratio.map_or_else(String::new, number);
        match (self.target, self.met) {
            (Some(target), Some(true)) => format!("{ratio} (target {target}: met)"),
            (Some(target), _) => format!("{ratio} (target {target})"),
            _ => ratio,
        }
    }
}

/// Instructions a datagram, by callgrind.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Instructions {
    /// By workload.
    pub instructions_per_datagram: BTreeMap<String, f64>,
    /// What they depend on beside the code.
    pub setting: BTreeMap<String, String>,
}

/// A number as the tables have it: records in millions.
fn millions(value: f64) -> String {
    number(value / 1e6)
}

/// Its tables, each with its name and title.
pub fn tables(rows: &[Row]) -> Vec<(&'static str, &'static str, Table)> {
    vec![
        ("decode", "Decoding", decode(rows)),
        ("rows", "Rows", borrowed(rows)),
        ("join", "Names and places", join(rows)),
        ("encode", "Columns in a file", encode(rows)),
        ("receive", "Receiving", receive(rows)),
    ]
}

fn decode(rows: &[Row]) -> Table {
    let head =
        ["workload", "from", "kernel", "M records/s", "of memcpy", "of the faster crate", "the faster crate, M/s"];
    let mut table = Table::new(3, &head);
    for row in rows.iter().filter(|r| r.bench == "decode" && r.is_against("memcpy")) {
        let same = |r: &&Row| {
            let key = |r: &Row| (r.bench.clone(), r.template.clone(), r.place.clone(), r.kernel.clone());
            key(r) == key(row) && !r.is_against("memcpy")
        };
        let other = rows.iter().find(same);
        table.row([
            row.template.clone(),
            row.place.clone(),
            row.kernel.clone(),
            row.value().map_or_else(String::new, |v| millions(v.1)),
            row.judged(),
            other.map_or_else(String::new, Row::judged),
            other.and_then(Row::against_value).map_or_else(String::new, millions),
        ]);
    }
    table
}

fn borrowed(rows: &[Row]) -> Table {
    let mut table = Table::new(2, &["workload", "what", "M records/s", "of the faster crate", "the faster crate, M/s"]);
    for row in rows.iter().filter(|r| matches!(r.bench.as_str(), "rows" | "views")) {
        table.row([
            row.template.clone(),
            row.bench.clone(),
            row.value().map_or_else(String::new, |v| millions(v.1)),
            row.judged(),
            row.against_value().map_or_else(String::new, millions),
        ]);
    }
    table
}

fn join(rows: &[Row]) -> Table {
    let mut table = Table::new(1, &["joined", "M rows/s", "ns a row", "of the decoding rate"]);
    for row in rows.iter().filter(|r| r.bench == "join") {
        let Some((_, rate)) = row.value() else { continue };
        let (ns, free) = (1e9 / rate, "below 0.01");
        let cells = match ns < 0.01 {
            true => [String::new(), free.to_owned(), String::new()],
            false => [millions(rate), number(ns), row.judged()],
        };
        table.row(std::iter::once(row.template.clone()).chain(cells));
    }
    table
}

/// A line a column, with what a value costs each way.
fn encode(rows: &[Row]) -> Table {
    let of_way = |r: &&Row| r.bench == "encode" && r.way.is_some();
    let mut ways: Vec<&str> = Vec::new();
    for way in rows.iter().filter(of_way).filter_map(|r| r.way.as_deref()) {
        if !ways.contains(&way) {
            ways.push(way);
        }
    }
    let head: Vec<&str> = ["flows", "column"].into_iter().chain(ways.iter().copied()).collect();
    let mut table = Table::new(2, &head);
    let rows: Vec<&Row> = rows.iter().filter(of_way).collect();
    for column in rows.chunk_by(|a, b| (&a.template, &a.place) == (&b.template, &b.place)) {
        let cell = |way: &&str| {
            let row = column.iter().find(|r| r.way.as_deref() == Some(way));
            let value = |row: &Row, unit: &str| row.values.get(unit).map_or_else(String::new, |v| format!("{v:.2}"));
            row.map_or_else(String::new, |r| ["write_ns", "read_ns", "bytes"].map(|unit| value(r, unit)).join(" / "))
        };
        table.row([column[0].template.clone(), column[0].place.clone()].into_iter().chain(ways.iter().map(cell)));
    }
    table
}

/// Instructions by workload.
pub fn instructions(counts: &Instructions) -> Table {
    let mut table = Table::new(1, &["workload", "instructions a datagram"]);
    counts.instructions_per_datagram.iter().for_each(|(name, n)| table.row([name.clone(), n.to_string()]));
    table
}

fn receive(rows: &[Row]) -> Table {
    let mut table = Table::new(4, &["what", "sender", "unit", "against", "flowlane", "the other", "ratio"]);
    for row in rows.iter().filter(|r| r.bench == "receive") {
        let Some((unit, value)) = row.value() else { continue };
        table.row([
            row.template.clone(),
            row.place.clone(),
            unit.replace('_', " "),
            row.against.clone().unwrap_or_default(),
            number(value),
            row.against_value().map_or_else(String::new, number),
            row.judged(),
        ]);
    }
    table
}

/// Decoding from cache by workload: flowlane, and the faster of the other crates, in records a second.
pub fn decoding(rows: &[Row]) -> Points<String> {
    let is_shown = |r: &&Row| r.bench == "decode" && r.place == "cache" && !r.is_against("memcpy");
    let group = |r: &Row| {
        let bars = [("flowlane", r.value().map(|v| v.1)), ("the faster of two other crates", r.against_value())];
        let bars = bars.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
        (r.template.clone(), bars.collect())
    };
    rows.iter().filter(is_shown).map(group).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_workload_is_one_row_with_both_that_it_is_held_against() {
        let lines = [
            r#"{"bench":"decode","template":"v9","place":"cache","kernel":"avx2","records_per_second":4e8,"ratio":0.25,"against":"memcpy","against_records_per_second":1.6e9,"target":0.33,"met":false}"#,
            r#"{"bench":"decode","template":"v9","place":"cache","kernel":"avx2","records_per_second":4e8,"ratio":80.0,"against":"x","against_records_per_second":5e6,"target":60,"met":true}"#,
            r#"{"bench":"encode","template":"v5","place":"bytes","kernel":"avx2","way":"flowlane","write_ns":2.5,"read_ns":1.5,"bytes":2.25}"#,
            r#"{"bench":"encode","template":"v5","place":"bytes","kernel":"avx2","way":"plain","write_ns":21,"read_ns":0.5,"bytes":8}"#,
            r#"{"bench":"encode","template":"v5","place":"flags","kernel":"avx2","way":"plain","write_ns":9,"read_ns":0.5,"bytes":4}"#,
            r#"{"bench":"receive","template":"v5, p99","place":"trains","kernel":"avx2","latency_us":92.0}"#,
        ];
        let rows: Vec<Row> = lines.iter().map(|l| serde_json::from_str(l).unwrap()).collect();
        let text = decode(&rows).markdown();
        assert!(
            text.ends_with("| v9 | cache | avx2 | 400 | 0.25 (target 0.33) | 80.0 (target 60: met) | 5.00 |\n"),
            "{text}"
        );
        assert_eq!(decoding(&rows)[0].1.iter().map(|b| b.1).collect::<Vec<_>>(), [4e8, 5e6]);
        assert!(encode(&rows).markdown().ends_with(
            "| v5 | bytes | 2.50 / 1.50 / 2.25 | 21.00 / 0.50 / 8.00 |\n| v5 | flags |  | 9.00 / 0.50 / 4.00 |\n"
        ));
        assert!(receive(&rows).markdown().contains("| v5, p99 | trains | latency us |  | 92.0 |  |  |"));
    }
}
