use super::layout::{HOUR_US, hot_folder, segments};
use super::*;
use crate::columns::{Batch, Timestamp};
use crate::decode::{Config, Decoder};
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A folder of the test's own, removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("flowlane-keep-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).expect("a folder");
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A batch of v5 flows from consecutive source addresses, received at a time.
fn batch(first: u32, n: u16, received_us: i64) -> Arc<Batch> {
    let mut bytes = vec![0, 5];
    bytes.extend(n.to_be_bytes());
    bytes.extend([0; 20]);
    for i in 0..u32::from(n) {
        bytes.extend((first + i).to_be_bytes());
        bytes.extend([0; 44]);
    }
    let mut decoder = Decoder::new(Config::default());
    decoder.decode(&bytes, SocketAddr::from(([192, 0, 2, 1], 2055)), Timestamp(received_us));
    Arc::new(decoder.flush().pop().expect("a batch"))
}

fn options(node: &str) -> Options {
    Options { node: node.to_string(), ..Options::default() }
}

fn rows(root: &Path) -> (u64, Vec<State>) {
    let (mut rows, mut states) = (0, Vec::new());
    verify(root, |file| {
        rows += file.rows;
        states.push(file.state.clone());
    })
    .expect("a folder");
    (rows, states)
}

const HOUR: i64 = 472_222 * HOUR_US; // 2023-11-14T22:00:00Z

#[test]
fn what_was_written_outlives_a_crash_and_is_sealed_once() {
    let scratch = Scratch::new("crash");
    let mut store = Store::open(&scratch.0, options("a")).expect("a store");
    store.write(&batch(0, 30, HOUR - 1)).expect("written");
    store.write(&batch(30, 30, HOUR)).expect("written");
    // As a kill leaves it: the segment with half a stream behind, nothing sealed.
    let hot = hot_folder(&scratch.0, "a");
    let (id, path) = segments(&hot).expect("segments").pop().expect("one");
    let whole = fs::read(&path).expect("its bytes");
    let torn = [&whole[..], &whole[..whole.len() / 3]].concat();
    std::mem::forget(store);
    let root = scratch.0.join("copy");
    fs::create_dir_all(hot_folder(&root, "a")).expect("a folder");
    fs::write(hot_folder(&root, "a").join(format!("{id}.arrows")), &torn).expect("a segment");
    assert_eq!(rows(&root), (60, vec![State::Hot { torn: true }]));
    Store::open(&root, options("a")).expect("a store").finish().expect("sealed");
    assert_eq!(rows(&root), (60, vec![State::Sealed; 2]), "a file an hour");
    let names: Vec<PathBuf> = sealed_files(&root).expect("files").0.into_iter().map(|f| f.path).collect();
    let expected = ["date=2023-11-14/hour=21", "date=2023-11-14/hour=22"];
    assert_eq!(names, expected.map(|hour| root.join(hour).join(format!("a-{id}-0.parquet"))));
    // Killed between the names and the removal of the segment: sealed again, to the same files.
    fs::write(hot_folder(&root, "a").join(format!("{id}.arrows")), &torn).expect("a segment");
    fs::write(names[0].with_file_name(format!(".a-{id}-1.parquet.tmp")), "half").expect("a file");
    Store::open(&root, options("a")).expect("a store").finish().expect("sealed");
    assert_eq!(rows(&root), (60, vec![State::Sealed; 2]));
}

#[test]
fn a_node_is_one_process_and_touches_its_own_files_alone() {
    let scratch = Scratch::new("nodes");
    let mut a = Store::open(&scratch.0, options("a")).expect("a store");
    let refused = Store::open(&scratch.0, options("a")).err().expect("refused");
    assert_eq!(refused.kind(), std::io::ErrorKind::WouldBlock);
    assert!(refused.to_string().contains("--node"), "{refused}");
    let mut b = Store::open(&scratch.0, options("b")).expect("another store");
    a.write(&batch(0, 3, HOUR)).expect("written");
    b.write(&batch(9, 4, HOUR)).expect("written");
    a.finish().expect("sealed");
    b.finish().expect("sealed");
    assert_eq!(rows(&scratch.0).0, 7);
    let keep_none = Retention { bytes: Some(0), ..Retention::default() };
    assert_eq!(keep_none.apply(&scratch.0, "a", HOUR, true).expect("a folder").files.len(), 1);
    assert_eq!(rows(&scratch.0).0, 7, "a dry run");
    keep_none.apply(&scratch.0, "a", HOUR, false).expect("a folder");
    assert_eq!(rows(&scratch.0).0, 4);
    for wrong in ["", "a-b", "../x", "a/b"] {
        assert_eq!(
            Store::open(&scratch.0, options(wrong)).err().map(|e| e.kind()),
            Some(std::io::ErrorKind::InvalidInput)
        );
    }
}

#[test]
fn the_oldest_hours_go_first() {
    let scratch = Scratch::new("retention");
    for hour in [3, 1, 2] {
        let mut store = Store::open(&scratch.0, options("a")).expect("a store");
        store.write(&batch(0, 3, HOUR + hour * HOUR_US)).expect("written");
        store.finish().expect("sealed");
    }
    let aged = Retention { age_us: Some(HOUR_US), ..Retention::default() };
    let retired = aged.apply(&scratch.0, "a", HOUR + 4 * HOUR_US + 1, false).expect("a folder");
    let hours: Vec<String> = retired.files.iter().map(|f| f.parent().expect("an hour").display().to_string()).collect();
    assert_eq!(hours.len(), 2);
    assert!(
        hours[0].ends_with("date=2023-11-14/hour=23") && hours[1].ends_with("date=2023-11-15/hour=00"),
        "{hours:?}"
    );
    let left = sealed_files(&scratch.0).expect("files").0;
    assert_eq!(left.iter().map(|f| (f.date.as_str(), f.hour)).collect::<Vec<_>>(), [("2023-11-15", 1)]);
    assert!(!scratch.0.join("date=2023-11-14").exists(), "empty folders go with their files");
    let free = Retention { free_bytes: Some(u64::MAX), ..Retention::default() };
    assert_eq!(free.apply(&scratch.0, "a", HOUR, false).expect("a folder").files.len(), 1);
}

#[test]
fn a_folder_that_went_away_comes_again() {
    let scratch = Scratch::new("gone");
    let mut store = Store::open(&scratch.0, options("a")).expect("a store");
    store.write(&batch(0, 3, HOUR)).expect("written");
    fs::remove_dir_all(&scratch.0).expect("removed");
    store.write(&batch(3, 4, HOUR)).expect("written to a new folder");
    store.write(&batch(7, 5, HOUR)).expect("written");
    store.finish().expect("sealed");
    assert_eq!(rows(&scratch.0), (9, vec![State::Sealed]));
}

#[test]
fn damage_is_named() {
    let scratch = Scratch::new("damage");
    let mut store = Store::open(&scratch.0, options("a")).expect("a store");
    store.write(&batch(0, 30, HOUR)).expect("written");
    store.finish().expect("sealed");
    let file = sealed_files(&scratch.0).expect("files").0.remove(0).path;
    let whole = fs::read(&file).expect("bytes");
    fs::write(&file, &whole[..whole.len() - 9]).expect("cut");
    let (rows, states) = rows(&scratch.0);
    assert_eq!(rows, 0);
    assert!(matches!(states[..], [State::Damaged(_)]));
}
