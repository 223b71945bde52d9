//! What stands in a report, of files that are made here.

use super::*;
use crate::keep::ledger::Counts;
use crate::query::{Filter, Watch, inputs};
use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray, UInt32Array};
use parquet::arrow::ArrowWriter;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::PathBuf;
use std::sync::Arc;

struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A folder with a file of these columns, and a time received for each row, a minute apart.
fn folder(name: &str, columns: Vec<(&str, ArrayRef)>) -> Scratch {
    let root = Scratch(std::env::temp_dir().join(format!("flowlane-report-{name}-{}", std::process::id())));
    fs::create_dir_all(&root.0).expect("a folder");
    let rows = columns.first().map_or(0, |c| c.1.len());
    let times: Vec<i64> = (0..rows).map(|n| 1_700_000_000_000_000 + n as i64 * 60_000_000).collect();
    let times: ArrayRef = Arc::new(TimestampMicrosecondArray::from(times).with_timezone("UTC"));
    let batch = RecordBatch::try_from_iter(columns.into_iter().chain([("time_received", times)])).expect("a batch");
    let file = File::create(root.0.join("flows.parquet")).expect("a file");
    let mut writer = ArrowWriter::try_new(file, batch.schema(), None).expect("a writer");
    writer.write(&batch).expect("rows");
    writer.close().expect("an end");
    root
}

fn report(root: &Scratch, ledger: Option<&Ledger>) -> Report {
    report_for(root, ledger, None)
}

fn report_for(root: &Scratch, ledger: Option<&Ledger>, anonymiser: Option<Arc<Anonymiser>>) -> Report {
    let scan = Scan {
        inputs: inputs(&root.0).expect("files"),
        filter: Filter::default(),
        columns: Vec::new(),
        threads: 2,
        watch: Watch::default(),
    };
    let options = Options {
        title: "A <title> & \"more\"".into(),
        n: 2,
        scale: false,
        totals: false,
        at: At::Spread,
        groups: 1000,
        anonymiser,
    };
    let about = About { filter: "not host 203.0.113.9".into(), ..About::default() };
    Report::of(&scan, &about, &options, ledger).0
}

fn panel<'a>(report: &'a Report, id: &str) -> &'a Value {
    let panels = report.json()["panels"].as_array().expect("panels");
    panels.iter().find(|p| p["id"] == id).expect("a panel")
}

fn text(values: &[&str]) -> ArrayRef {
    Arc::new(StringArray::from(values.to_vec()))
}

fn number(values: &[i64]) -> ArrayRef {
    Arc::new(Int64Array::from(values.to_vec()))
}

#[test]
fn names_stand_beside_what_they_name() {
    let systems = Arc::new(UInt32Array::from(vec![64496, 64497, 64496, 0]));
    let root = folder(
        "names",
        vec![
            ("bytes", number(&[10, 20, 30, 4])),
            ("src_as", systems.clone()),
            ("src_as_name", text(&["EXAMPLE", "", "EXAMPLE", "nobody"])),
            ("exporter", text(&["192.0.2.1"; 4])),
            ("exporter_name", text(&["border"; 4])),
            ("in_if", systems),
            ("in_if_name", text(&["</script>", "ge-0/0/1", "</script>", ""])),
            ("src_country", text(&["DE", "FR", "DE", "DE"])),
        ],
    );
    let report = report(&root, None);
    let first = |id: &str| panel(&report, id)["views"][0]["by"]["bytes"]["rows"].clone();
    assert_eq!(first("as")[0], json!({"keys": ["64496"], "name": "EXAMPLE", "bytes": 40, "packets": 0, "flows": 2}));
    assert_eq!(first("exporters")[0]["name"], "border");
    assert_eq!(first("interfaces")[0]["name"], "</script>");
    assert_eq!(first("countries")[0], json!({"keys": ["DE"], "name": null, "bytes": 44, "packets": 0, "flows": 3}));
    assert_eq!(panel(&report, "countries")["views"].as_array().map(Vec::len), Some(1), "no destination has one");
    assert_eq!(panel(&report, "applications")["views"], json!([]));
    // What is beyond -n is summed; by number of flows it may be another.
    assert_eq!(
        panel(&report, "as")["views"][0]["by"]["bytes"]["others"],
        json!({"bytes": 4, "packets": 0, "flows": 1})
    );
}

#[test]
fn a_report_for_others_tells_no_address_and_no_name() {
    let root = folder(
        "others",
        vec![
            ("bytes", number(&[10, 20, 30])),
            ("src_ip4", Arc::new(UInt32Array::from(vec![0xcb00_7101, 0xcb00_7102, 0xcb00_7101]))),
            ("exporter", text(&["192.0.2.1"; 3])),
            ("exporter_name", text(&["border"; 3])),
            ("in_if", Arc::new(UInt32Array::from(vec![1, 2, 1]))),
            ("in_if_name", text(&["uplink", "lan", "uplink"])),
            ("src_as", Arc::new(UInt32Array::from(vec![64496; 3]))),
            ("src_as_name", text(&["EXAMPLE"; 3])),
        ],
    );
    let lost = Counts::from([("missing".to_string(), 3)]);
    let exporters = BTreeMap::from([("192.0.2.1".to_string(), lost.clone())]);
    let stretches = vec![Stretch { from: 0, to: 60_000_000, total: lost, exporters }];
    let ledger = Ledger { source: "the collector at 192.0.2.77".into(), stretches };
    let anonymiser = Arc::new(Anonymiser::new(b"a key that has just 32 character"));
    let report = report_for(&root, Some(&ledger), Some(anonymiser.clone()));
    let data = report.json().to_string();
    for secret in ["203.0.113.", "192.0.2.", "border", "uplink"] {
        assert!(!data.contains(secret), "{secret}");
    }
    let [host, exporter] = ["203.0.113.1", "192.0.2.1"].map(|address| anonymiser.text(address));
    let first = |id: &str| panel(&report, id)["views"][0]["by"]["bytes"]["rows"][0].clone();
    assert_eq!(first("talkers"), json!({"keys": [host], "name": null, "bytes": 40, "packets": 0, "flows": 2}));
    assert_eq!((&first("exporters")["keys"], &first("as")["name"]), (&json!([exporter]), &json!("EXAMPLE")));
    assert_eq!(first("interfaces")["keys"], json!([exporter, "1"]));
    assert_eq!(report.json()["losses"]["exporters"][0]["exporter"], json!(exporter));
    let lines = report.json()["series"]["splits"].to_string();
    assert!(lines.contains(&host), "{lines}");
}

#[test]
fn nothing_in_the_data_ends_the_script_or_the_title() {
    let hostile = "</script><!--<script>{{script}}\u{2028}&";
    let root = folder("hostile", vec![("bytes", number(&[1])), ("app_name", text(&[hostile]))]);
    let report = report(&root, None);
    let page = report.html();
    assert_eq!(page.matches("</script>").count(), 3);
    assert_eq!(page.matches("<!--").count(), 0);
    assert!(page.contains("<title>A &lt;title&gt; &amp; &quot;more&quot;</title>"));
    let data = page.split_once("id=\"data\">").and_then(|p| p.1.split_once("</script>")).expect("the data").0;
    assert_eq!(serde_json::from_str::<Value>(data).expect("JSON"), *report.json());
    assert!(!page.contains("sourceMappingURL"));
    assert!(page.contains("Chart.js Contributors"));
}

#[test]
fn lines_add_up_and_numbers_are_exact() {
    let great = (1 << 53) + 1;
    let root = folder(
        "exact",
        vec![("bytes", number(&[great, 1, 2])), ("exporter", text(&["192.0.2.1", "192.0.2.2", "192.0.2.1"]))],
    );
    let report = report(&root, None);
    assert_eq!(report.json()["total"]["bytes"], json!((great + 3).to_string()));
    let split = &report.json()["series"]["splits"][0];
    assert_eq!(split["title"], "Exporter");
    let sum = |line: &Value| -> i64 {
        let values = line["bytes"].as_array().expect("points").iter();
        values.map(|v| v.as_i64().or_else(|| v.as_str()?.parse().ok()).expect("a number")).sum()
    };
    let lines = split["groups"].as_array().expect("lines");
    assert_eq!(lines.iter().map(sum).sum::<i64>(), great + 3);
    assert_eq!(sum(&report.json()["series"]["total"]), great + 3);
}

#[test]
fn an_empty_report_says_why() {
    let root = folder("empty", vec![("bytes", number(&[]))]);
    let report = report(&root, Some(&Ledger { source: "here".into(), stretches: Vec::new() }));
    assert_eq!(report.json()["series"], Value::Null);
    let why = report.json()["empty"].as_str().expect("a reason");
    assert!(why.starts_with("No flow: none of 1 files"), "{why}");
}
