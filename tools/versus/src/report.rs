//! Raw data as a page: tables in Markdown, and charts in SVG beside it.

use crate::chart::{self, Points};
use crate::hostile::Hostile;
use crate::latency::Latency;
use crate::machine::Machine;
use crate::rate::LossFree;
use crate::raw::Entry;
use crate::scale::Scale;
use crate::soak::Soak;
use crate::table::median;
use crate::trial::Trial;
use crate::{cost, hostile, latency, rate, scale, soak};
use anyhow::Context;
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
            }
        }
        all
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
        let mut missing: Vec<(&String, &String)> = self.machines.iter().flat_map(|m| &m.missing).collect();
        missing.dedup();
        for (name, how) in missing {
            text += &format!("Missing: {name}, to be had by `{how}`.\n\n");
        }
        let scales = self.scales.iter().flat_map(scale::tables);
        let tables = [
            ("Cost", cost::table(&self.trials)),
            ("Loss-free rate", rate::table(&self.rates)),
            ("Loss at fixed rates", rate::loss_table(&self.trials)),
            ("Latency", latency::table(&self.latencies)),
            ("Soak", soak::table(&self.soaks)),
            ("Hostile senders", hostile::table(&self.attacks)),
        ];
        for (title, table) in tables.into_iter().chain(scales).filter(|(_, table)| !table.is_empty()) {
            text += &format!("## {title}\n\n{}\n", table.markdown());
        }
        text
    }

    /// The charts, with the names of their files.
    pub fn charts(&self) -> Vec<(&'static str, String)> {
        let costs: Vec<&Trial> = self.trials.iter().filter(|t| t.measure == "cost").collect();
        let losses = self.trials.iter().filter(|t| t.measure == "loss");
        let each_us = |t: &Trial| t.cpu_ns_per_flow().0 + t.cpu_ns_per_flow().1;
        let group = |f: &dyn Fn(&Trial) -> f64| grouped(costs.iter().map(|t| (&t.workload, &t.peer, f(t))));
        let rates = self.rates.iter().map(|r| (format!("{}, {}", r.workload, r.sender), &r.peer, r.flows_per_second));
        let rates: Vec<_> = rates.collect();
        let loss = by_series(losses.map(|t| (format!("{} {}", t.peer, t.workload), (t.rate, 100.0 * t.loss()))));
        // Out to the slowest: one in so many takes longer.
        let tails = self.latencies.iter().map(|l| {
            let points = l.from_due_us.iter().filter(|(q, _)| *q < 1.0).map(|&(q, us)| (1.0 / (1.0 - q), us));
            (l.peer.clone(), points.collect())
        });
        let memory = self.soaks.iter().map(|s| {
            let points = s.resident_kib.iter().map(|&(at, kib)| (at, kib as f64 / 1024.0));
            (format!("{} {}", s.peer, s.workload), points.collect())
        });
        let all = [
            ("cost.svg", chart::bars("Processor time", "ns a flow", &group(&each_us), true), costs.is_empty()),
            (
                "disk.svg",
                chart::bars("On disk", "bytes a flow", &group(&Trial::bytes_per_flow), false),
                costs.is_empty(),
            ),
            (
                "memory.svg",
                chart::bars("Peak memory", "MiB", &group(&|t| t.peak_kib as f64 / 1024.0), true),
                costs.is_empty(),
            ),
            (
                "rate.svg",
                chart::bars(
                    "Highest rate without loss",
                    "flows a second",
                    &grouped(rates.iter().map(|(g, p, v)| (g, *p, *v))),
                    true,
                ),
                rates.is_empty(),
            ),
            (
                "loss.svg",
                chart::lines("Loss", ("datagrams a second", "% lost"), &loss, (false, false)),
                loss.is_empty(),
            ),
            (
                "latency.svg",
                chart::lines("Time through", ("one datagram in", "us"), &tails.collect(), (true, true)),
                self.latencies.is_empty(),
            ),
            (
                "soak.svg",
                chart::lines("Memory in a soak", ("seconds", "MiB"), &memory.collect(), (false, false)),
                self.soaks.is_empty(),
            ),
        ];
        let scales = self.scales.last().map(|s| ("scale.svg", scale::chart(s)));
        all.into_iter().filter(|c| !c.2).map(|(name, svg, _)| (name, svg)).chain(scales).collect()
    }

    /// Writes page and charts into a folder; gives the names of the charts.
    ///
    /// # Errors
    /// It cannot be written to.
    pub fn write(&self, folder: &Path) -> anyhow::Result<Vec<&'static str>> {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let put = |name: &str, text: &str| {
            let path = folder.join(name);
            std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
        };
        let charts = self.charts();
        let mut page = self.markdown();
        for (name, svg) in &charts {
            put(name, svg)?;
            page += &format!("![{}]({name})\n", name.trim_end_matches(".svg"));
        }
        put("report.md", &page)?;
        Ok(charts.into_iter().map(|c| c.0).collect())
    }
}

/// Medians by group and series, in the order in which they come.
fn grouped<'a>(values: impl Iterator<Item = (&'a String, &'a String, f64)>) -> Points<String> {
    type Series = Vec<(String, Vec<f64>)>;
    let mut groups: Vec<(String, Series)> = Vec::new();
    for (group, series, value) in values {
        let at = groups.iter().position(|g| g.0 == *group).unwrap_or(groups.len());
        if at == groups.len() {
            groups.push((group.clone(), Vec::new()));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raw_data_becomes_tables_and_charts() {
        let raw = r#"{"kind":"machine","processor":"p","cores":2,"kernel":"k","commit":"c","time":1,"peers":{},"missing":{"x":"y"}}
{"kind":"loss_free","workload":"v5","peer":"flowlane","sender":"plain","datagrams_per_second":1000.0,"flows_per_second":30000.0,"is_sender_limit":false,"trials":3}
{"kind":"latency","peer":"flowlane","rate":1.0,"sent":2,"lost":0,"from_due_us":[[0.5,1.0],[0.9,2.0],[1.0,3.0]],"from_sent_us":[[0.5,1.0],[0.9,2.0],[1.0,3.0]]}
{"kind":"soak","workload":"v5","peer":"flowlane","rate":1.0,"seconds":2.0,"sent":1,"kept":1,"kernel_drops":0,"resident_kib":[[0.0,1000],[1.0,1010]]}"#;
        let entries = raw.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let report = Report::new(entries);
        let names: Vec<_> = report.charts().into_iter().map(|c| c.0).collect();
        assert_eq!(names, ["rate.svg", "latency.svg", "soak.svg"]);
        let page = report.markdown();
        assert!(page.contains("Missing: x, to be had by `y`."), "{page}");
        assert!(page.contains("| v5 | flowlane | plain | 1000 | 30.0 k | 1.00 |"), "{page}");
    }
}
