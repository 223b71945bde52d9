//! What names and places cost a row, beside decoding the same rows.

use crate::report::{Report, Row, Target};
use bench::mmdb;
use flowgen::{Plan, Protocol, Template};
use flowlane::columns::{Batch, Timestamp};
use flowlane::decode::{Config, Decoder};
use flowlane::enrich::{Enricher, Exporters, FillAs, Geo, Networks, Tables};
use std::fmt::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Rows of a round.
const ROWS: u64 = 400_000;

/// Countries and AS of as many prefixes as addresses of flowgen can be in, and more beside them.
fn geo() -> Vec<Arc<Geo>> {
    let prefix = |i: u32| format!("{}.{}.{}.0/24", i >> 16 & 0xff, i >> 8 & 0xff, i & 0xff);
    let prefixes: Vec<String> = (0..1 << 16).map(|i: u32| prefix(i.wrapping_mul(257))).chain(all_slash_16()).collect();
    let countries: Vec<_> = prefixes
        .iter()
        .zip(0..)
        .map(|(p, i)| (p.as_str(), mmdb::city(&format!("C{}", i % 240), &format!("City {}", i % 5000))))
        .collect();
    let numbers: Vec<_> = prefixes
        .iter()
        .zip(0..)
        .map(|(p, i)| (p.as_str(), mmdb::asn(i % 70_000, &format!("Network {}", i % 70_000))))
        .collect();
    let read = |bytes| Arc::new(Geo::read(bytes).expect("a database"));
    vec![read(mmdb::database(28, 6, &countries)), read(mmdb::database(28, 6, &numbers))]
}

fn all_slash_16() -> impl Iterator<Item = String> {
    (0..1u32 << 16).map(|i| format!("{}.{}.0.0/16", i >> 8, i & 0xff))
}

fn networks() -> Arc<Networks> {
    let mut text = String::new();
    for i in 0..1000 {
        let _ = writeln!(text, "10.{}.{}.0/24,net=net {i},site=site {}", i % 256, i / 256, i % 20);
    }
    Arc::new(Networks::parse(&text).expect("right"))
}

fn exporters() -> Arc<Exporters> {
    let mut text = String::from("[[exporter]]\naddress = \"0.0.0.0/0\"\nname = \"edge\"\n[exporter.interfaces]\n");
    for i in 0..64 {
        let _ = writeln!(text, "{i} = {{ name = \"xe-0/0/{i}\", speed = \"100G\" }}");
    }
    Arc::new(Exporters::parse(&text).expect("right"))
}

/// Joins each batch, time and again, for a while: rows a second, the best of the rounds.
fn rate(batches: &[Batch], tables: &Tables, budget: Duration) -> f64 {
    let mut enricher = Enricher::new(tables.clone(), FillAs::Absent);
    let (start, mut best, mut rounds) = (Instant::now(), 0.0f64, 0);
    while rounds < 2 || start.elapsed() < budget {
        rounds += 1;
        let mut fresh: Vec<Batch> = batches.to_vec();
        let rows: usize = fresh.iter().map(Batch::rows).sum();
        let round = Instant::now();
        fresh.iter_mut().for_each(|batch| enricher.join(batch));
        best = best.max(rows as f64 / round.elapsed().as_secs_f64());
        // Every batch has something of every table that was asked.
        let joined = |name: &str, wanted: bool| {
            assert!(!wanted || fresh.iter().all(|b| b.column(name).is_some()), "{name} is missing");
        };
        joined("src_country", !tables.geo.is_empty());
        joined("exporter_name", !tables.exporters.is_empty());
    }
    best
}

/// Prints a line a kind of table.
pub fn measure(quick: bool, report: &Report) {
    let budget = Duration::from_millis(if quick { 100 } else { 3000 });
    let plan =
        Plan { protocols: vec![Protocol::V9], templates: vec![Template::Basic14], distinct: 16_384, ..Plan::default() };
    let (datagrams, _) = flowgen::memory(&plan, ROWS / 30).expect("a plan");
    let mut decoder = Decoder::new(Config::default());
    let (mut batches, mut decoded) = (Vec::new(), f64::INFINITY);
    for _ in 0..3 {
        let begun = Instant::now();
        for (exporter, datagram) in &datagrams {
            decoder.decode(datagram, *exporter, Timestamp(0));
        }
        batches = decoder.flush();
        decoded = decoded.min(begun.elapsed().as_secs_f64());
    }
    let rows: usize = batches.iter().map(Batch::rows).sum();
    let decoded = rows as f64 / decoded;
    let (geo, networks, exporters) = (geo(), networks(), exporters());
    let none = Tables::default();
    for (name, tables, target) in [
        ("nothing to join", none.clone(), None),
        ("interfaces", Tables { exporters: exporters.clone(), ..none.clone() }, None),
        ("networks", Tables { networks: networks.clone(), ..none.clone() }, None),
        ("city and ASN", Tables { geo: geo.clone(), ..none }, None),
        ("all of them", Tables { exporters, networks, geo }, Some(Target::AtLeast(0.02))),
    ] {
        let value = rate(&batches, &tables, budget);
        let (against, against_value, unit) = ("decode", decoded, "records_per_second");
        report.row(&Row {
            bench: "join",
            template: name,
            place: "memory",
            unit,
            value,
            against,
            against_value,
            target,
        });
    }
}
