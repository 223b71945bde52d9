//! What was measured, as a table or as JSON.

use flowlane::columns::gather::Kernel;
use std::cell::RefCell;

/// What a ratio has to reach.
#[derive(Clone, Copy, Debug)]
pub enum Target {
    /// No less.
    AtLeast(f64),
    /// No more.
    AtMost(f64),
}

/// One measurement beside another of the same run.
#[derive(Clone, Debug)]
pub struct Row<'a> {
    /// What is measured: `decode`, `rows`, `receive`.
    pub bench: &'a str,
    /// The workload.
    pub template: &'a str,
    /// `cache`, `memory`, or how datagrams were sent.
    pub place: &'a str,
    /// What `value` and `against_value` count; a key in JSON.
    pub unit: &'a str,
    /// flowlane's.
    pub value: f64,
    /// What it is held against, if anything.
    pub against: &'a str,
    /// That one's value.
    pub against_value: f64,
    /// What the ratio of both has to reach.
    pub target: Option<Target>,
}

/// Prints rows as they come, and keeps their ratios.
pub struct Report {
    json: bool,
    ratios: RefCell<Vec<(String, f64)>>,
}

impl Report {
    /// A table, with its head, or JSON lines.
    pub fn new(json: bool) -> Self {
        if !json {
            println!(
                "{:<8} {:<17} {:<7} {:>13} {:<23} {:<18} {:>13} {:>7}  target",
                "bench", "workload", "place", "flowlane", "", "against", "", "ratio"
            );
        }
        Self { json, ratios: RefCell::default() }
    }

    /// The ratios so far, each with the name of its row.
    pub fn ratios(&self) -> Vec<(String, f64)> {
        self.ratios.borrow().clone()
    }

    /// Prints a row.
    pub fn row(&self, row: &Row<'_>) {
        let Row { bench, template, place, unit, value, against, against_value, target } = row;
        let ratio = value / against_value;
        if !against.is_empty() {
            self.ratios.borrow_mut().push((format!("{bench}, {template}, {place}, of {against}"), ratio));
        }
        let (limit, met) = match *target {
            Some(Target::AtLeast(limit)) => (Some(limit), ratio >= limit),
            Some(Target::AtMost(limit)) => (Some(limit), ratio <= limit),
            None => (None, true),
        };
        if self.json {
            let target = limit.map_or(String::new(), |t| format!(",\"target\":{t},\"met\":{met}"));
            let base = if against.is_empty() {
                String::new()
            } else {
                format!(",\"ratio\":{ratio:.4},\"against\":\"{against}\",\"against_{unit}\":{against_value:.1}")
            };
            println!(
                "{{\"bench\":\"{bench}\",\"template\":\"{template}\",\"place\":\"{place}\",\"kernel\":\"{}\",\
                 \"{unit}\":{value:.1}{base}{target}}}",
                Kernel::chosen()
            );
            return;
        }
        let number = |v: f64| match v {
            v if v >= 1e6 => format!("{:.1} M", v / 1e6),
            v if v >= 1e4 => format!("{:.0} k", v / 1e3),
            v => format!("{v:.1}"),
        };
        let target = match *target {
            Some(Target::AtLeast(limit)) => format!(">= {limit} {}", if met { "met" } else { "missed" }),
            Some(Target::AtMost(limit)) => format!("<= {limit} {}", if met { "met" } else { "missed" }),
            None => String::new(),
        };
        let (base, ratio) =
            if against.is_empty() { Default::default() } else { (number(*against_value), format!("{ratio:.3}")) };
        println!(
            "{bench:<8} {template:<17} {place:<7} {:>13} {:<23} {against:<18} {base:>13} {ratio:>7}  {target}",
            number(*value),
            unit.replace('_', " "),
        );
    }
}
