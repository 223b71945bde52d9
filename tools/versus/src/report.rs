//! Raw data as a page: tables in Markdown, and charts in SVG beside it.

use crate::chart::{self, Points};
use crate::hostile::Hostile;
use crate::latency::Latency;
use crate::machine::Machine;
use crate::queries::{self, Timed};
use crate::rate::LossFree;
use crate::raw::Entry;
use crate::scale::Scale;
use crate::soak::Soak;
use crate::table::{self, Table, median};
use crate::trial::Trial;
use crate::{bench, cost, hostile, latency, rate, scale, soak};
use anyhow::Context;
use std::collections::BTreeMap;
use std::path::Path;

/// All entries, by what they are.
#[derive(Default)]
pub struct Report {
    machines: Vec<Machine>,
    trials: Vec<Trial>,
    rates: Vec<LossFree>,
    latencies: Vec<Latency>,
    soaks: Vec<Soak>,
    attacks: Vec<Hostile>,
    scales: Vec<Scale>,
    queries: Vec<Timed>,
    rows: Vec<bench::Row>,
    counts: Vec<bench::Instructions>,
}

impl Report {
    /// Of raw data.
    pub fn new(entries: Vec<Entry>) -> Self {
        let mut all = Self::default();
        for entry in entries {
            match entry {
                Entry::Machine(one) => all.machines.push(one),
                Entry::Trial(one) => all.trials.push(one),
                Entry::LossFree(one) => all.rates.push(one),
                Entry::Latency(one) => all.latencies.push(one),
                Entry::Soak(one) => all.soaks.push(one),
                Entry::Hostile(one) => all.attacks.push(one),
                Entry::Scale(one) => all.scales.push(one),
                Entry::Query(one) => all.queries.push(one),
                Entry::Bench(one) => all.rows.push(one),
                Entry::Instructions(one) => all.counts.push(one),
            }
        }
        all
    }

    /// Every table that this raw data has, by its name and title.
    fn tables(&self) -> Vec<(&'static str, &'static str, Table)> {
        let costs = |f: &dyn Fn(&Trial) -> f64| table::pivot("workload", &self.costs(f));
        let mut all = vec![
            ("cost", "Cost", cost::table(&self.trials)),
            ("cpu", "Processor time, ns a flow (times flowlane's)", costs(&cpu_ns)),
            ("disk", "On disk, bytes a flow (times flowlane's)", costs(&Trial::bytes_per_flow)),
            ("memory", "Peak memory, MiB (times flowlane's)", costs(&memory_mib)),
            ("rate", "Loss-free rate", rate::table(&self.rates)),
            ("loss", "Loss at fixed rates", rate::loss_table(&self.trials)),
            ("latency", "Latency", latency::table(&self.latencies)),
            ("soak", "Soak", soak::table(&self.soaks)),
            ("hostile", "Hostile senders", hostile::table(&self.attacks)),
            ("queries", "Queries", queries::table(&self.queries)),
        ];
        all.extend(self.scales.last().map(scale::tables).into_iter().flatten());
        all.extend(bench::tables(&self.rows));
        let counts = self.counts.last().map(bench::instructions);
        all.extend(counts.map(|counts| ("instructions", "Instructions", counts)));
        all.retain(|(_, _, table)| !table.is_empty());
        all
    }

    /// One of them.
    pub fn table(&self, name: &str) -> Option<Table> {
        self.tables().into_iter().find(|t| t.0 == name).map(|t| t.2)
    }

    /// What was run, of which commit and when, with links to the raw data.
    pub fn origin(&self, files: &[&str]) -> String {
        let mut runs: Vec<String> = Vec::new();
        for machine in &self.machines {
            let what = if machine.command.is_empty() { String::new() } else { format!("`{}`, ", machine.command) };
            let run = format!("{what}commit {}, {}", machine.commit, machine.date());
            if !runs.contains(&run) {
                runs.push(run);
            }
        }
        let links = match files {
            [one] => format!("[raw data]({one})"),
            many => many.iter().map(|f| format!("[{f}]({f})")).collect::<Vec<_>>().join(", "),
        };
        let colon = if runs.is_empty() { "" } else { ": " };
        format!("{}{colon}{links}\n", runs.join("; "))
    }

    /// The page.
    pub fn markdown(&self) -> String {
        let mut text = String::new();
        if let Some(machine) = self.machines.last() {
            text += &format!(
                "Measured on {}, {} cores, Linux {}, commit {}. ",
                machine.processor, machine.cores, machine.kernel, machine.commit
            );
            let peers: Vec<String> = machine.peers.iter().map(|(name, version)| format!("{name}: {version}")).collect();
            text += &format!("Collectors: {}.\n\n", peers.join("; "));
        }
        let missing: BTreeMap<&String, &String> = self.machines.iter().flat_map(|m| &m.missing).collect();
        for (name, how) in missing {
            text += &format!("Missing: {name}, to be had by `{how}`.\n\n");
        }
        for (_, title, table) in self.tables() {
            text += &format!("## {title}\n\n{}\n", table.markdown());
        }
        text
    }

    /// A value of what each flow cost, by workload, flowlane's rate and collector: medians of the rounds. Where a workload has one
    /// rate, it does not stand in the name.
    fn costs(&self, f: &dyn Fn(&Trial) -> f64) -> Points<String> {
        let costs = || self.trials.iter().filter(|t| t.measure == "cost");
        let rate = |t: &Trial| cost::beside(&self.trials, t).unwrap_or(t.rate);
        grouped(costs().map(|t| {
            let is_one = costs().filter(|other| other.workload == t.workload).all(|other| rate(other) == rate(t));
            let name =
                if is_one { t.workload.clone() } else { format!("{}, {}/s", t.workload, table::number(rate(t))) };
            (name, &t.peer, f(t))
        }))
    }

    /// Every chart that this raw data has.
    fn charts(&self) -> Vec<Chart> {
        let bars = |name, title, unit, points: Points<String>| {
            (!points.is_empty()).then(|| Chart { name, title, svg: chart::bars(title, unit, &points) })
        };
        let lines = |name, title, units, points: Points<f64>, is_log| {
            (!points.is_empty()).then(|| Chart { name, title, svg: chart::lines(title, units, &points, is_log) })
        };
        let rates = self.rates.iter().map(|r| {
            let sender = if r.sender == "plain" { String::new() } else { format!(", {}", r.sender) };
            (r.workload.clone() + &sender, &r.peer, r.flows_per_second)
        });
        // Where there is one alone, it does not stand in the name of each.
        let workload = |of: &str, all: &[&str]| match all.iter().all(|w| *w == of) {
            true => String::new(),
            false => format!(", {of}"),
        };
        let lost: Vec<&Trial> = self.trials.iter().filter(|t| t.measure == "loss").collect();
        let all: Vec<&str> = lost.iter().map(|t| t.workload.as_str()).collect();
        let loss = lost.iter().map(|t| (t.peer.clone() + &workload(&t.workload, &all), (t.rate, 100.0 * t.loss())));
        let memory = self.soaks.iter().flat_map(|s| {
            s.resident_kib.iter().map(|&(at, kib)| (format!("{}, {}", s.peer, s.workload), (at, kib as f64 / 1024.0)))
        });
        let all = [
            bars("decode", "Decoding into columns, in cache", "records a second", bench::decoding(&self.rows)),
            bars("cpu", "Processor time of the collector", "ns a flow", self.costs(&cpu_ns)),
            bars("disk", "On disk", "bytes a flow", self.costs(&Trial::bytes_per_flow)),
            bars("memory", "Peak memory", "MiB", self.costs(&memory_mib)),
            bars("rate", "Highest rate without loss", "flows a second", grouped(rates)),
            lines("loss", "Loss", ("datagrams/s", "% lost"), middles(by_series(loss)), (false, false)),
            lines(
                "latency",
                "Time through the collector and back, from when a datagram was due",
                ("the slowest of so many datagrams", "us"),
                self.tails(),
                (true, true),
            ),
            lines("soak", "Memory in a soak", ("seconds", "MiB"), by_series(memory), (false, false)),
        ];
        let title = "Rate by cores and exporters, by the model";
        let scale = self.scales.last().map(|s| Chart { name: "scale", title, svg: scale::chart(s) });
        all.into_iter().chain([scale]).flatten().collect()
    }

    /// Latency out to the slowest: one in so many takes longer. The medians of the rounds.
    fn tails(&self) -> Points<f64> {
        let mut rates: Vec<f64> = self.latencies.iter().map(|l| l.rate).collect();
        let mut workloads: Vec<&String> = self.latencies.iter().map(|l| &l.workload).collect();
        rates.dedup();
        workloads.dedup();
        let points = self.latencies.iter().flat_map(|l| {
            let mut name = l.peer.clone();
            if workloads.len() > 1 {
                name += &format!(", {}", l.workload);
            }
            if rates.len() > 1 {
                name += &format!(", {}/s", table::number(l.rate));
            }
            let inner = l.from_due_us.iter().filter(|(q, _)| *q < 1.0);
            // A hundredth has no meaning where fewer were sent.
            let inner = inner.filter(|(q, _)| l.sent as f64 * (1.0 - q) >= 1.0);
            inner.map(move |&(q, us)| (name.clone(), ((1.0 / (1.0 - q)).round(), us)))
        });
        middles(by_series(points))
    }

    /// One of the charts.
    pub fn chart(&self, name: &str) -> Option<Chart> {
        self.charts().into_iter().find(|c| c.name == name)
    }

    /// Writes page and charts into a folder; gives the names of the charts.
    ///
    /// # Errors
    /// It cannot be written to.
    pub fn write(&self, folder: &Path) -> anyhow::Result<Vec<String>> {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let put = |name: &str, text: &str| {
            let path = folder.join(name);
            std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
        };
        let (mut page, mut names) = (self.markdown(), Vec::new());
        for chart in self.charts() {
            let name = format!("{}.svg", chart.name);
            put(&name, &chart.svg)?;
            page += &format!("![{}]({name})\n", chart.title);
            names.push(name);
        }
        put("report.md", &page)?;
        Ok(names)
    }
}

/// A picture.
pub struct Chart {
    name: &'static str,
    /// What it shows.
    pub title: &'static str,
    /// The file.
    pub svg: String,
}

fn cpu_ns(trial: &Trial) -> f64 {
    trial.cpu_ns_per_flow().0 + trial.cpu_ns_per_flow().1
}

fn memory_mib(trial: &Trial) -> f64 {
    trial.peak_kib as f64 / 1024.0
}

/// Medians by group and series, in the order in which they come.
fn grouped<'a>(values: impl Iterator<Item = (String, &'a String, f64)>) -> Points<String> {
    type Series = Vec<(String, Vec<f64>)>;
    let mut groups: Vec<(String, Series)> = Vec::new();
    for (group, series, value) in values {
        let at = groups.iter().position(|g| g.0 == group).unwrap_or(groups.len());
        if at == groups.len() {
            groups.push((group, Vec::new()));
        }
        let of = &mut groups[at].1;
        match of.iter_mut().find(|s| s.0 == *series) {
            Some(known) => known.1.push(value),
            None => of.push((series.clone(), vec![value])),
        }
    }
    let middle = |(name, values): (String, Vec<f64>)| (name, median(values).unwrap_or(f64::NAN));
    groups.into_iter().map(|(group, of)| (group, of.into_iter().map(middle).collect())).collect()
}

/// Points by series, in the order in which they come.
fn by_series(points: impl Iterator<Item = (String, (f64, f64))>) -> Points<f64> {
    let mut all: Points<f64> = Vec::new();
    for (name, point) in points {
        match all.iter_mut().find(|s| s.0 == name) {
            Some(known) => known.1.push(point),
            None => all.push((name, vec![point])),
        }
    }
    all
}

/// The median of all points at the same place of a series, from left to right.
fn middles(all: Points<f64>) -> Points<f64> {
    let middle = |(name, points): (String, Vec<(f64, f64)>)| {
        let mut places: Vec<f64> = points.iter().map(|p| p.0).collect();
        places.sort_by(f64::total_cmp);
        places.dedup();
        let at = |x: f64| median(points.iter().filter(|p| p.0 == x).map(|p| p.1)).unwrap_or(f64::NAN);
        (name, places.into_iter().map(|x| (x, at(x))).collect())
    };
    all.into_iter().map(middle).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raw_data_becomes_tables_and_charts() {
        let raw = r#"{"kind":"machine","processor":"p","cores":2,"kernel":"k","commit":"c","time":1,"peers":{},"missing":{"x":"y"}}
{"kind":"loss_free","workload":"v5","peer":"flowlane","sender":"plain","round":1,"datagrams_per_second":1000.0,"flows_per_second":30000.0,"is_sender_limit":false,"trials":3}
{"kind":"latency","workload":"v5","peer":"flowlane","round":1,"rate":1.0,"sent":20,"lost":0,"from_due_us":[[0.5,1.0],[0.9,2.0],[1.0,3.0]],"from_sent_us":[[0.5,1.0],[0.9,2.0],[1.0,3.0]]}
{"kind":"soak","workload":"v5","peer":"flowlane","rate":1.0,"seconds":2.0,"sent":1,"kept":1,"kernel_drops":0,"resident_kib":[[0.0,1000],[1.0,1010]]}"#;
        let entries = raw.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let report = Report::new(entries);
        let names: Vec<_> = report.charts().into_iter().map(|c| c.name).collect();
        assert_eq!(names, ["rate", "latency", "soak"]);
        let page = report.markdown();
        assert!(page.contains("Missing: x, to be had by `y`."), "{page}");
        assert!(page.contains("| v5 | flowlane | plain | 5 min | 1000 | 30.0 k | 1.00 | 1 |"), "{page}");
    }

    #[test]
    fn costs_of_two_rates_are_not_one() {
        let of = |peer: &str, rate: u32, user_us: u32| {
            format!(
                r#"{{"kind":"trial","measure":"cost","workload":"v5","peer":"{peer}","sender":"plain","round":1,"rate":{rate},"seconds":1,"datagrams":10,"records":1000,"user_us":{user_us},"system_us":0,"peak_kib":2048,"sent_records":1000,"sent_octets":1,"sent_packets":1,"kept_records":1000,"kept_octets":1,"kept_packets":1,"disk_bytes":9000,"kernel_drops":0}}"#
            )
        };
        let cpu = |lines: &[String]| {
            Report::new(lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect())
                .table("cpu")
                .unwrap()
                .markdown()
        };
        let (fast, slow) = (of("flowlane", 40_000, 100), of("flowlane", 2000, 400));
        // A collector with a rate of its own stands beside flowlane's next above.
        let text = cpu(&[fast.clone(), of("goflow2", 10_000, 2000), slow]);
        assert!(text.ends_with("| v5, 40.0 k/s | 100 | 2000 (20.0) |\n| v5, 2000/s | 400 |  |\n"), "{text}");
        let text = cpu(&[fast, of("goflow2", 10_000, 2000)]);
        assert!(text.ends_with("| v5 | 100 | 2000 (20.0) |\n"), "{text}");
    }

    #[test]
    fn rounds_come_to_their_median() {
        let points = [1.0, 9.0, 2.0].map(|y| ("x".to_owned(), (10.0, y))).into_iter();
        assert_eq!(middles(by_series(points)), [("x".to_owned(), vec![(10.0, 2.0)])]);
    }
}
