//! The raw record view of captures against what a plain decoder of another hand found in them.
//!
//! Every capture of `fixtures/`, and of `../shared/captures` where that folder is. Of malformed captures the records of
//! the good sets must be there; of all others every record, byte for byte, and none beside them.
#![cfg(feature = "collect")]

use flate2::read::GzDecoder;
use flowlane::rows::records::RecordLines;
use flowlane::source::Source;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::path::Path;

type Key = (u64, u64, u64);

/// The records of JSON lines by message, set and offset, and those that stand there twice.
fn by_place(lines: &str) -> (BTreeMap<Key, Value>, Vec<Key>) {
    let (mut found, mut twice) = (BTreeMap::new(), Vec::new());
    for line in lines.lines() {
        let record: Value = serde_json::from_str(line).expect("a JSON line");
        let number = |name: &str| record[name].as_u64().expect("a number");
        let key = (number("pkt"), number("set"), number("off"));
        if found.insert(key, record).is_some() {
            twice.push(key);
        }
    }
    (found, twice)
}

fn expected(capture: &Path) -> String {
    let mut text = String::new();
    if let Ok(mut file) = File::open(capture.with_extension("records.jsonl")) {
        file.read_to_string(&mut text).expect("readable");
    } else {
        let file = File::open(capture.with_extension("records.jsonl.gz")).expect("the records beside a capture");
        GzDecoder::new(file).read_to_string(&mut text).expect("readable");
    }
    text
}

fn decoded(path: &Path) -> String {
    let mut source = Source::open(path).expect("a capture");
    let (mut lines, mut out) = (RecordLines::default(), Vec::new());
    while let Some(Ok(d)) = source.next() {
        let written = lines.message(d.frame, d.exporter, d.received_us, d.bytes, &mut out).expect("memory takes it");
        assert!(written.late <= written.lines);
    }
    String::from_utf8(out).expect("JSON is UTF-8")
}

/// What differs in a capture.
fn faults(path: &Path, lenient: bool) -> (usize, Vec<String>) {
    let (want, _) = by_place(&expected(path));
    let (got, twice) = by_place(&decoded(path));
    let mut faults: Vec<String> = twice.iter().map(|k| format!("twice: {k:?}")).collect();
    let marked = |r: &Value, name: &str| r[name].as_bool().unwrap_or(false);
    for (key, want) in want.iter().filter(|(_, r)| !marked(r, "bad")) {
        let Some(got) = got.get(key) else {
            faults.push(format!("missing: {key:?}"));
            continue;
        };
        for name in ["ip", "ver", "dom", "tid", "kind", "nscope", "len", "fields"] {
            if got[name] != want[name] {
                faults.push(format!("{key:?} {name}: {} for {}", got[name], want[name]));
            }
        }
        for name in ["late", "other_port", "bad"] {
            if marked(got, name) != marked(want, name) {
                faults.push(format!("{key:?} {name}: {}", marked(got, name)));
            }
        }
    }
    if !lenient {
        faults.extend(got.keys().filter(|k| !want.contains_key(k)).map(|k| format!("too much: {k:?}")));
    }
    (want.len(), faults)
}

/// Holds all captures of a folder's manifest; returns captures and records.
fn hold(folder: &Path) -> (usize, usize) {
    let manifest = std::fs::read_to_string(folder.join("MANIFEST.csv")).expect("a manifest");
    let mut rows = manifest.lines();
    let column = |name| rows.clone().next().and_then(|head| head.split(',').position(|c| c == name));
    let (file, kind) = (column("file").expect("file"), column("kind").expect("kind"));
    rows.next();
    let (mut captures, mut records, mut failed) = (0, 0, BTreeSet::new());
    for row in rows {
        let cells = cells(row);
        let path = folder.join(&cells[file]);
        let (n, faults) = faults(&path, cells[kind] == "malformed");
        captures += 1;
        records += n;
        if let Some(first) = faults.first() {
            failed.insert(format!("{}: {} faults, first {first}", path.display(), faults.len()));
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
    (captures, records)
}

/// The cells of a CSV row.
fn cells(row: &str) -> Vec<String> {
    let (mut cells, mut quoted) = (vec![String::new()], false);
    for c in row.chars() {
        match c {
            '"' => quoted = !quoted,
            ',' if !quoted => cells.push(String::new()),
            c => cells.last_mut().expect("never empty").push(c),
        }
    }
    cells
}

#[test]
fn fixtures() {
    let (captures, records) = hold(&Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures"));
    assert!(captures > 20 && records > 1000, "{captures} captures, {records} records");
}

#[test]
fn captures_of_many_exporters() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/captures");
    if !folder.join("MANIFEST.csv").exists() {
        println!("skipped: {} is not there", folder.display());
        return;
    }
    let (captures, records) = hold(&folder);
    println!("{captures} captures hold, {records} records");
}
