//! All measurements of a workload and a collector in one row.

use crate::latency::Latency;
use crate::rate::LossFree;
use crate::table::{Table, median, number};
use crate::trial::Trial;

/// What was measured.
#[derive(Default)]
pub struct Measured {
    /// Of costs and losses.
    pub trials: Vec<Trial>,
    /// Highest rates without loss.
    pub rates: Vec<LossFree>,
    /// Times through a collector and back.
    pub latencies: Vec<Latency>,
}

impl Measured {
    /// A row for each workload and collector, medians of the rounds.
    pub fn table(&self) -> Table {
        let mut rates: Vec<f64> = self.trials.iter().filter(|t| t.measure == "loss").map(|t| t.rate).collect();
        rates.sort_by(f64::total_cmp);
        rates.dedup();
        let losses: Vec<String> = rates.iter().map(|r| format!("lost at {}/s", number(*r))).collect();
        let mut head =
            vec!["workload", "collector", "ns/datagram", "ns/flow", "user", "system", "loss-free/s", "trains/s"];
        head.extend(losses.iter().map(String::as_str));
        head.extend(["peak MiB", "bytes/flow", "p50 us", "p99", "p99.9", "sums"]);
        let mut table = Table::new(2, &head);
        let mut seen: Vec<(&str, &str)> = Vec::new();
        for trial in &self.trials {
            let key = (trial.workload.as_str(), trial.peer.as_str());
            if seen.contains(&key) {
                continue;
            }
            seen.push(key);
            table.row(self.row(key, &rates));
        }
        table
    }

    fn row(&self, (workload, peer): (&str, &str), rates: &[f64]) -> Vec<String> {
        let of = |measure: &str| -> Vec<&Trial> {
            let is_of = |t: &&Trial| t.measure == measure && t.workload == workload && t.peer == peer;
            self.trials.iter().filter(is_of).collect()
        };
        let (costs, losses) = (of("cost"), of("loss"));
        let cell = |values: &mut dyn Iterator<Item = f64>| median(values).map_or_else(|| "-".to_owned(), number);
        let cost = |f: &dyn Fn(&Trial) -> f64| cell(&mut costs.iter().map(|t| f(t)));
        let total = |t: &Trial| t.cpu_ns_per_flow().0 + t.cpu_ns_per_flow().1;
        let free = |sender: &str| {
            let is_of =
                |r: &&LossFree| (r.workload.as_str(), r.peer.as_str(), r.sender.as_str()) == (workload, peer, sender);
            cell(&mut self.rates.iter().filter(is_of).map(|r| r.datagrams_per_second))
        };
        let lost = |rate: &f64| {
            let middle = median(losses.iter().filter(|t| t.rate == *rate).map(|t| 100.0 * t.loss()));
            middle.map_or_else(|| "-".to_owned(), |percent| format!("{percent:.2} %"))
        };
        let latency = |share: f64| {
            let its = self.latencies.iter().filter(|l| l.workload == workload && l.peer == peer);
            cell(&mut its.filter_map(|l| l.from_due_us.iter().find(|q| q.0 == share).map(|q| q.1)))
        };
        let rights = costs.iter().filter(|t| t.is_right()).count();
        let mut row = vec![
            workload.to_owned(),
            peer.to_owned(),
            cost(&|t| total(t) * t.flows_per_datagram()),
            cost(&total),
            cost(&|t| t.cpu_ns_per_flow().0),
            cost(&|t| t.cpu_ns_per_flow().1),
            free("plain"),
            free("trains"),
        ];
        row.extend(rates.iter().map(lost));
        row.extend([
            cost(&|t| t.peak_kib as f64 / 1024.0),
            cost(&Trial::bytes_per_flow),
            latency(0.5),
            latency(0.99),
            latency(0.999),
            if rights == costs.len() { "right".to_owned() } else { format!("{rights} of {} right", costs.len()) },
        ]);
        row
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raw::Entry;

    #[test]
    fn a_row_has_all_that_was_measured_and_dashes_for_the_rest() {
        let trial = |measure: &str, rate: u32, kept: u32| {
            format!(
                r#"{{"kind":"trial","measure":"{measure}","workload":"v5","peer":"x","sender":"plain","round":1,"rate":{rate},"seconds":1,"datagrams":10,"records":300,"user_us":30,"system_us":60,"peak_kib":2048,"sent_records":300,"sent_octets":1,"sent_packets":1,"kept_records":{kept},"kept_octets":1,"kept_packets":1,"disk_bytes":9000,"kernel_drops":0}}"#
            )
        };
        let mut measured = Measured::default();
        for text in [trial("cost", 100, 300), trial("loss", 500, 150)] {
            let Entry::Trial(one) = serde_json::from_str(&text).unwrap() else { panic!("a trial") };
            measured.trials.push(one);
        }
        let text = measured.table().markdown();
        assert!(text.contains("| loss-free/s | trains/s | lost at 500/s |"), "{text}");
        let row = "| v5 | x | 9000 | 300 | 100 | 200 | - | - | 50.00 % | 2.00 | 30.0 | - | - | - | right |\n";
        assert!(text.ends_with(row), "{text}");
    }
}
