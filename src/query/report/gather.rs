//! The sums of a report: two scans, each of which sums all that the page shows.

use super::names::Names;
use super::panels::{PANELS, View, views};
use super::{About, Options, count};
use crate::query::anonymise::Anonymiser;
use crate::query::scan::{Scan, ScanStats};
use crate::query::series::{Line, Options as SeriesOptions, Series, Timeline};
use crate::query::sums::{Metric, Row};
use crate::query::top::{Options as TopOptions, Top};
use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use arrow_array::types::TimestampMicrosecondType;
use arrow_buffer::BooleanBuffer;
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// Lines of a chart over time, beside the others.
const LINES: usize = 6;
/// Intervals of a chart over time, about.
const INTERVALS: i64 = 300;
/// Lengths of an interval, seconds.
const STEPS: &[i64] =
    &[1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14_400, 21_600, 43_200, 86_400, 604_800];

const METRICS: [(&str, Metric); 3] = [("bytes", Metric::Bytes), ("packets", Metric::Packets), ("flows", Metric::Flows)];

/// What a thread of the first scan has summed.
struct Sums {
    tops: Vec<Top>,
    names: Names,
    received: Option<(i64, i64)>,
}

impl Sums {
    fn new(options: &Options) -> Self {
        let top = |view: &View| {
            let keys = view.keys.iter().map(|k| (*k).to_string()).collect();
            Top::new(TopOptions {
                keys,
                scale: options.scale,
                both: false,
                totals: options.totals,
                groups: options.groups,
            })
        };
        Self { tops: views().map(top).collect(), names: Names::default(), received: None }
    }

    /// For another thread.
    fn another(&self) -> Self {
        Self { tops: self.tops.iter().map(Top::another).collect(), names: Names::default(), received: None }
    }

    fn columns(&self) -> Vec<String> {
        let mut all: Vec<String> = self.tops.iter().flat_map(Top::columns).chain(Names::columns()).collect();
        all.push("time_received".to_string());
        all.sort();
        all.dedup();
        all
    }

    fn add(&mut self, batch: &RecordBatch, chosen: &BooleanBuffer) {
        self.tops.iter_mut().for_each(|top| top.add(batch, chosen));
        self.names.add(batch, chosen);
        let times = batch.column_by_name("time_received");
        if let Some(times) = times.and_then(|t| t.as_primitive_opt::<TimestampMicrosecondType>()) {
            let (first, last) = chosen.set_indices().fold((i64::MAX, i64::MIN), |(first, last), row| {
                (first.min(times.value(row)), last.max(times.value(row)))
            });
            self.received = union(self.received, (first <= last).then_some((first, last)));
        }
    }

    fn merge(&mut self, other: Self) {
        self.tops.iter_mut().zip(other.tops).for_each(|(own, other)| own.merge(other));
        self.names.merge(other.names);
        self.received = union(self.received, other.received);
    }
}

fn union(a: Option<(i64, i64)>, b: Option<(i64, i64)>) -> Option<(i64, i64)> {
    match (a, b) {
        (Some(a), Some(b)) => Some((a.0.min(b.0), a.1.max(b.1))),
        (a, b) => a.or(b),
    }
}

/// The answer to a view.
struct Ranked {
    view: &'static View,
    /// Groups in all.
    groups: usize,
    beyond: Option<Row>,
    failed: Option<String>,
    /// The greatest by each metric, and the sum of the others.
    by: Vec<(&'static str, Groups, Option<Row>)>,
}

type Groups = Vec<(Vec<String>, Row)>;

impl Ranked {
    fn of(view: &'static View, top: &mut Top, n: usize) -> Self {
        let by = METRICS.iter().map(|(name, metric)| {
            let (first, others) = top.finish(*metric, n);
            (*name, first, others)
        });
        Self {
            view,
            by: by.collect(),
            groups: top.len(),
            beyond: top.beyond(),
            failed: top.failed().map(str::to_string),
        }
    }

    /// Whether any of the greatest has a value: an AS of 0 is none that is known.
    fn is_known(&self) -> bool {
        let keys = self.view.keys;
        let is_as = keys.iter().any(|k| k.ends_with("_as"));
        let unknown = |key: &str| key.is_empty() || is_as && key == "0";
        self.by.iter().flat_map(|by| &by.1).any(|(texts, _)| {
            let told = keys.iter().zip(texts).filter(|(column, _)| keys.len() == 1 || **column != "exporter");
            told.map(|t| t.1).any(|key| !unknown(key))
        })
    }

    fn json(&self, names: &Names, anonymiser: Option<&Anonymiser>) -> Value {
        let keys = self.view.keys;
        let by = self.by.iter().map(|(metric, groups, others)| {
            let rows = groups.iter().map(|(texts, row)| {
                let mut sums = sums_of(row);
                sums.insert("name".into(), json!(names.of(keys, texts)));
                sums.insert("keys".into(), json!(shown(keys, texts, anonymiser)));
                Value::from(sums)
            });
            ((*metric).to_string(), json!({ "rows": rows.collect::<Value>(), "others": others.as_ref().map(sums_of) }))
        });
        json!({
            "name": self.view.name,
            "keys": keys,
            "both": keys.iter().any(|k| matches!(*k, "addr" | "port" | "as" | "if")),
            "groups": self.groups,
            "beyond": self.beyond.as_ref().map(sums_of),
            "failed": self.failed,
            "by": by.collect::<Map<String, Value>>(),
        })
    }
}

/// Everything summed.
pub(super) struct Gathered {
    total: Map<String, Value>,
    names: Names,
    ranked: Vec<Ranked>,
    /// Of the views that have lines, in order.
    timelines: Vec<(&'static View, Timeline)>,
    /// When the first and the last of the flows were received.
    pub received: Option<(i64, i64)>,
    anonymiser: Option<Arc<Anonymiser>>,
}

impl Gathered {
    pub fn of(scan: &Scan, about: &About, options: &Options) -> (Self, ScanStats) {
        let mut sums = Sums::new(options);
        let seed = sums.another();
        let mut scan = scan.clone();
        scan.columns = sums.columns();
        let add = |sums: &mut Sums, batch: &RecordBatch, chosen: &BooleanBuffer| {
            sums.add(batch, chosen);
            true
        };
        let stats = scan.run(|| seed.another(), add, |part| sums.merge(part));
        let ranked = views().zip(&mut sums.tops).map(|(view, top)| Ranked::of(view, top, options.n)).collect();
        let total = sums.tops.first().map(total_of).unwrap_or_default();
        let Sums { mut tops, mut names, received } = sums;
        let anonymiser = options.anonymiser.clone();
        if anonymiser.is_some() {
            names.leave_identities();
        }
        let mut gathered = Self { total, names, ranked, timelines: Vec::new(), received, anonymiser };
        if let Some(found) = received {
            let (from, to) = (about.received.0.unwrap_or(found.0), about.received.1.unwrap_or(found.1));
            gathered.draw_lines(&mut scan, &mut tops, (from.max(found.0), to.min(found.1)), options);
        }
        (gathered, stats)
    }

    /// The second scan: the greatest groups over time.
    fn draw_lines(&mut self, scan: &mut Scan, tops: &mut [Top], (from, to): (i64, i64), options: &Options) {
        let interval_us = step((to - from).max(0));
        let chosen =
            self.ranked.iter().zip(tops).filter(|(ranked, _)| ranked.view.lines.is_some() && ranked.is_known());
        let chosen: Vec<_> = chosen.map(|(ranked, top)| (ranked.view, top.greatest(Metric::Bytes, LINES))).collect();
        let all = || -> Vec<Series> {
            let one = |(view, groups): &(&View, Vec<Box<[u8]>>)| {
                let keys = view.keys.iter().map(|k| (*k).to_string()).collect();
                let intervals = usize::try_from(2 * INTERVALS).unwrap_or(usize::MAX);
                let options = SeriesOptions {
                    interval_us,
                    at: options.at,
                    keys,
                    scale: options.scale,
                    both: false,
                    totals: options.totals,
                    intervals,
                };
                Series::of_groups(options, groups.clone())
            };
            chosen.iter().map(one).collect()
        };
        let mut summed = all();
        scan.columns = summed.iter().flat_map(Series::columns).collect();
        let add = |series: &mut Vec<Series>, batch: &RecordBatch, rows: &BooleanBuffer| {
            series.iter_mut().for_each(|one| one.add(batch, rows));
            true
        };
        scan.run(all, add, |part| summed.iter_mut().zip(part).for_each(|(own, other)| own.merge(other)));
        self.timelines = chosen.iter().map(|c| c.0).zip(summed.into_iter().map(Series::finish)).collect();
    }

    /// All flows, each once.
    pub fn total(&self) -> Value {
        self.total.clone().into()
    }

    /// The panels; those of which nothing is known have no view.
    pub fn panels(&self) -> Value {
        let mut ranked = self.ranked.iter();
        let panels = PANELS.iter().map(|panel| {
            // Each view takes its own, known or not.
            let own: Vec<&Ranked> = ranked.by_ref().take(panel.views.len()).collect();
            let views =
                own.into_iter().filter(|r| r.is_known()).map(|r| r.json(&self.names, self.anonymiser.as_deref()));
            json!({ "id": panel.id, "title": panel.title, "views": views.collect::<Value>() })
        });
        panels.collect()
    }

    /// Sums over time: of all flows, and of the greatest groups of each view that has lines.
    pub fn series(&self) -> Value {
        let Some((_, first)) = self.timelines.first().filter(|t| !t.1.is_empty()) else { return Value::Null };
        let splits = self.timelines.iter().map(|(view, timeline)| {
            let group = |line: &Line| {
                let mut points = points_of(line);
                points.insert("keys".into(), json!(shown(view.keys, &line.keys, self.anonymiser.as_deref())));
                points.insert("name".into(), json!(self.names.of(view.keys, &line.keys)));
                Value::from(points)
            };
            json!({
                "title": view.lines,
                "keys": view.keys,
                "groups": timeline.groups.iter().map(group).collect::<Value>(),
                "others": timeline.others.as_ref().map(points_of),
            })
        });
        json!({
            "first": first.first_us,
            "interval": first.interval_us,
            "intervals": first.len(),
            "total": points_of(&first.total),
            "splits": splits.collect::<Value>(),
            "outside": {
                "bytes": count(first.outside.bytes),
                "packets": count(first.outside.packets),
                "flows": count(first.outside.flows),
            },
            "untimed": first.untimed,
        })
    }
}

/// The keys of a group, as they are for the reader.
fn shown(columns: &[&str], texts: &[String], anonymiser: Option<&Anonymiser>) -> Vec<String> {
    let mut texts = texts.to_vec();
    if let Some(anonymiser) = anonymiser {
        anonymiser.texts(columns, &mut texts);
    }
    texts
}

/// How long the intervals of so many microseconds are.
pub(super) fn step(us: i64) -> i64 {
    let fits = STEPS.iter().find(|s| us / (**s * 1_000_000) < INTERVALS);
    fits.copied().unwrap_or(us / 1_000_000 / INTERVALS + 1) * 1_000_000
}

fn total_of(top: &Top) -> Map<String, Value> {
    let mut total = sums_of(&top.total());
    let (rows, unscaled) = top.unscaled();
    total.insert("seconds".into(), json!(top.total().seconds()));
    total.insert("running_totals".into(), json!(top.totals()));
    total.insert("running".into(), sums_of(&top.running()).into());
    total.insert("rows".into(), json!(rows));
    total.insert("unscaled".into(), json!(unscaled));
    total
}

fn sums_of(row: &Row) -> Map<String, Value> {
    let sums = [("flows", row.flows), ("packets", row.packets), ("bytes", row.bytes)];
    sums.into_iter().map(|(name, n)| (name.to_string(), count(n))).collect()
}

fn points_of(line: &Line) -> Map<String, Value> {
    let of = |value: fn(&crate::query::series::Point) -> i128| -> Value {
        line.points.iter().map(|p| count(value(p))).collect()
    };
    let all = [("bytes", of(|p| p.bytes)), ("packets", of(|p| p.packets)), ("flows", of(|p| p.flows))];
    all.into_iter().map(|(name, values)| (name.to_string(), values)).collect()
}
