//! Raw data as a page: tables in Markdown, charts in SVG.

use crate::raw::Entry;
use crate::trial::Trial;
use crate::{cost, latency, rate};

/// The tables of all entries.
pub fn markdown(entries: &[Entry]) -> String {
    let trials: Vec<Trial> = pick(entries, |e| if let Entry::Trial(t) = e { Some(t.clone()) } else { None });
    let found: Vec<_> = pick(entries, |e| if let Entry::LossFree(f) = e { Some(f.clone()) } else { None });
    let latencies: Vec<_> = pick(entries, |e| if let Entry::Latency(l) = e { Some(l.clone()) } else { None });
    let tables = [
        ("Cost", cost::table(&trials)),
        ("Loss-free rate", rate::table(&found)),
        ("Loss at fixed rates", rate::loss_table(&trials)),
        ("Latency", latency::table(&latencies)),
    ];
    let mut text = String::new();
    for (title, table) in tables.iter().filter(|(_, table)| !table.is_empty()) {
        text += &format!("## {title}\n\n{}\n", table.markdown());
    }
    text
}

fn pick<T>(entries: &[Entry], which: impl Fn(&Entry) -> Option<T>) -> Vec<T> {
    entries.iter().filter_map(which).collect()
}
