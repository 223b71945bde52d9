//! The typed columns of recorded exporters agree with a naive row decoder: every value of every column, and nothing
//! beside them.
#![cfg(feature = "collect")]

mod naive;

use flowlane::columns::Timestamp;
use flowlane::columns::gather::Kernel;
use flowlane::decode::{Config, Decoder};
use flowlane::source::Source;
use naive::{Naive, compare};
use std::path::{Path, PathBuf};

fn captures(folder: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            captures(&path, found);
        } else if path.extension().is_some_and(|e| e == "pcap") {
            found.push(path);
        }
    }
}

/// Flow records, options records and differences of a capture.
fn check(path: &Path, kernel: Kernel) -> (usize, usize, Vec<String>) {
    let config = Config { kernel, ..Config::default() };
    let (mut decoder, mut naive) = (Decoder::new(config), Naive::default());
    let (mut have, mut options) = (Vec::new(), 0);
    let mut source = Source::open(path).expect("a capture");
    while let Some(datagram) = source.next() {
        let d = datagram.expect("a whole capture");
        decoder.decode(d.bytes, d.exporter, Timestamp(d.received_us));
        naive.datagram(d.bytes, d.exporter, d.received_us);
        if decoder.has_full_batch() {
            have.extend(compare::rows(&decoder.flush()));
        }
        options += decoder.next_options().map_or(0, |o| o.iter().count());
    }
    have.extend(compare::rows(&decoder.flush()));
    let mut wrong = compare::differences(&naive.rows, &have);
    if options != naive.options {
        wrong.push(format!("{} options records wanted, {options} there", naive.options));
    }
    (have.len(), options, wrong)
}

fn check_all(folder: &Path) -> usize {
    let mut files = Vec::new();
    captures(folder, &mut files);
    files.sort();
    let (mut flows, mut options, mut bad) = (0, 0, 0);
    for path in &files {
        let (f, o, mut wrong) = check(path, Kernel::Scalar);
        if Kernel::best() != Kernel::Scalar {
            wrong.extend(check(path, Kernel::best()).2);
        }
        (flows, options) = (flows + f, options + o);
        bad += usize::from(!wrong.is_empty());
        for line in wrong.iter().take(8) {
            println!("{}: {line}", path.display());
        }
    }
    println!("{}: {} captures, {flows} flow records, {options} options records", folder.display(), files.len());
    assert_eq!(bad, 0, "captures that differ");
    files.len()
}

#[test]
fn fixtures_agree_with_the_naive_decoder() {
    assert!(check_all(&Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures")) > 0);
}

#[test]
fn captures_agree_with_the_naive_decoder() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/captures");
    if folder.is_dir() {
        assert!(check_all(&folder) > 100);
    } else {
        println!("skipped: {} is not there", folder.display());
    }
}
