mod gone;
mod narrow;
mod over;

use super::layout::{HOUR_US, hot_folder, segments};
use super::*;
use crate::columns::{Batch, Timestamp};
use crate::decode::{Config, Decoder};
use arrow_array::cast::AsArray;
use arrow_array::types::TimestampMicrosecondType;
use arrow_schema::{DataType, Schema};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use std::collections::HashSet;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

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
    // Files of hours long ago stay as they are.
    Options { node: node.to_string(), small_bytes: 0, ..Options::default() }
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
    // As a machine that stopped may leave it: the segment with half a stream behind, nothing sealed.
    let hot = hot_folder(&scratch.0, "a");
    let (id, path) = segments(&hot).expect("segments").pop().expect("one");
    let whole = fs::read(&path).expect("its bytes");
    let rows_end = whole.len() - spare::END.len();
    let torn = [&whole[..rows_end], &whole[..whole.len() / 3]].concat();
    std::mem::forget(store);
    let root = scratch.0.join("copy");
    fs::create_dir_all(hot_folder(&root, "a")).expect("a folder");
    fs::write(hot_folder(&root, "a").join(format!("{id}.arrows")), &torn).expect("a segment");
    assert_eq!(rows(&root), (60, vec![State::Hot { torn: true }]));
    Store::open(&root, options("a")).expect("a store").finish().expect("sealed");
    assert_eq!(rows(&root), (60, vec![State::Sealed; 2]), "a file an hour");
    let names: Vec<PathBuf> = sealed_files(&root).expect("files").0.into_iter().map(|f| f.path).collect();
    let expected = [21, 22].map(|hour| format!("date=2023-11-14/hour={hour}/a-{id}-{}.parquet", hour - 21));
    assert_eq!(names, expected.map(|name| root.join(name)));
    // Killed between the names and the removal of the segment: sealed again, to the same files.
    fs::write(hot_folder(&root, "a").join(format!("{id}.arrows")), &torn).expect("a segment");
    fs::write(names[0].with_file_name(format!(".a-{id}-1.parquet.tmp")), "half").expect("a file");
    Store::open(&root, options("a")).expect("a store").finish().expect("sealed");
    assert_eq!(rows(&root), (60, vec![State::Sealed; 2]));
}

/// A segment of four batches of 30 rows whose collector was killed: its number, and its bytes.
fn left_behind(root: &Path) -> (i64, Vec<u8>) {
    let mut store = Store::open(root, options("a")).expect("a store");
    (0..4).for_each(|i| store.write(&batch(30 * i, 30, HOUR)).expect("written"));
    let (id, path) = segments(&hot_folder(root, "a")).expect("segments").pop().expect("one");
    std::mem::forget(store);
    (id, fs::read(&path).expect("its bytes"))
}

#[test]
fn a_hot_segment_that_was_changed_is_damaged_and_put_aside() {
    let scratch = Scratch::new("changed");
    let (id, whole) = left_behind(&scratch.0);
    let root = scratch.0.join("copy");
    let hot = hot_folder(&root, "a");
    fs::create_dir_all(&hot).expect("a folder");
    let segment = hot.join(format!("{id}.arrows"));
    let state_of = |bytes: &[u8]| {
        fs::write(&segment, bytes).expect("a segment");
        rows(&root).1.pop().expect("a file")
    };
    assert_eq!(state_of(&whole), State::Hot { torn: false });
    // Whatever byte it is, but for ends of streams and of what is cut: these are padding, and rows that never were.
    let (mut seen, mut missed) = (0, 0);
    for at in (0..whole.len()).step_by(37) {
        let mut changed = whole.clone();
        changed[at] ^= 0x10;
        match state_of(&changed) {
            State::Damaged(_) => seen += 1,
            _ => missed += 1,
        }
    }
    assert!(seen > 20 * missed, "{seen} seen, {missed} missed");
    // Its first bytes gone: it is not taken for an empty one, nor is it sealed as such and removed.
    let mut headless = whole.clone();
    headless[..8].fill(7);
    assert!(matches!(state_of(&headless), State::Damaged(_)));
    let mut store = Store::open(&root, options("a")).expect("a store");
    store.write(&batch(0, 5, HOUR)).expect("written");
    store.finish().expect("what could be read is sealed");
    let aside = segment.with_extension("damaged");
    assert_eq!(fs::read(&aside).expect("put aside"), headless);
    assert!(!segment.exists());
    // The batches behind the first, and the five.
    let (found, states) = rows(&root);
    assert_eq!(found, 95);
    assert!(matches!(states[..], [State::Sealed, State::Sealed, State::Damaged(_)]), "{states:?}");
    fs::remove_file(aside).expect("removed");
    fs::remove_dir_all(root.join("date=2023-11-14")).expect("removed");
    // Zeros behind are what a machine that stopped leaves.
    let rows_end = whole.len() - spare::END.len();
    assert_eq!(state_of(&[&whole[..rows_end], &[0; 300]].concat()), State::Hot { torn: true });
}

#[test]
fn a_segment_with_damage_in_it_is_sealed_but_for_that() {
    let scratch = Scratch::new("amid");
    let (id, whole) = left_behind(&scratch.0);
    let one = (whole.len() - spare::END.len()) / 4;
    // In the body of the second batch, in its head, and where it says how long that is.
    for at in [2 * one - 200, one + 40, one + 4] {
        let root = scratch.0.join(format!("copy-{at}"));
        fs::create_dir_all(hot_folder(&root, "a")).expect("a folder");
        let segment = hot_folder(&root, "a").join(format!("{id}.arrows"));
        let mut changed = whole.clone();
        changed[at] ^= 0x10;
        fs::write(&segment, &changed).expect("a segment");
        let store = Store::open(&root, options("a")).expect("a store");
        let progress = store.progress().clone();
        store.finish().expect("sealed");
        let (found, states) = rows(&root);
        assert_eq!(found, 90, "byte {at}");
        assert!(matches!(states[..], [State::Sealed, State::Damaged(_)]), "{states:?}");
        assert_eq!((progress.files_damaged.load(Relaxed), progress.failures.load(Relaxed)), (1, 0));
        let said = progress.take_damage();
        assert!(said.len() == 1 && said[0].contains(&format!("{id}.damaged")), "{said:?}");
        // And it is not tried again.
        Store::open(&root, options("a")).expect("a store").finish().expect("nothing to do");
        assert_eq!(rows(&root).0, 90);
    }
}

#[test]
fn a_damaged_file_keeps_no_other_from_becoming_one() {
    let scratch = hour_of_files("damaged-small", &[10, 10, 10, 10]);
    let next = hour_of_files("damaged-next", &[10, 10]);
    let mut damaged = sealed_files(&scratch.0).expect("files").0.remove(0).path;
    let folder = damaged.parent().expect("its hour").to_path_buf();
    fs::rename(
        sealed_files(&next.0).expect("files").0[0].path.parent().expect("its hour"),
        folder.with_file_name("hour=23"),
    )
    .expect("moved");
    let mut bytes = fs::read(&damaged).expect("bytes");
    let at = bytes.len() - 20;
    bytes[at..].fill(0xff);
    fs::write(&damaged, bytes).expect("written");
    let (mut passed_over, mut files) = (HashSet::new(), Vec::new());
    loop {
        match compact::compact(&scratch.0, "a", HOUR + 10 * HOUR_US, 1 << 20, &passed_over).expect("no trouble") {
            compact::Compacted::Nothing => break,
            compact::Compacted::Files(n) => files.push(n),
            compact::Compacted::Damaged(path, _) => {
                assert_eq!(path, damaged);
                assert!(passed_over.insert(std::mem::take(&mut damaged)), "named once");
            }
            compact::Compacted::TooWide(_) => panic!("no extras"),
        }
    }
    assert_eq!(files, [3, 2]);
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
fn options_files_of_a_node_go_with_flows_of_their_age() {
    let scratch = Scratch::new("options");
    for hour in 0..3 {
        let mut store = Store::open(&scratch.0, options("a")).expect("a store");
        store.write(&batch(0, 3, HOUR + hour * HOUR_US)).expect("written");
        store.finish().expect("sealed");
    }
    fs::create_dir_all(scratch.0.join("options")).expect("a folder");
    let put = |name: &str| {
        let path = scratch.0.join("options").join(name);
        fs::write(&path, [b'x'; 1000]).expect("a file");
        path
    };
    let own = ["a-20231114T225500Z.ndjson", "a-20231114T230000Z-2.ndjson", "a-20231115T000000Z.ndjson"].map(put);
    let others = ["b-20231114T225500Z.ndjson", "20231114T225500Z.ndjson", "a-notes.ndjson"].map(put);
    let apply = |bounds: Retention, dry| {
        let now = HOUR + 3 * HOUR_US;
        bounds.apply(&scratch.0, "a", now, dry).expect("a folder").files
    };
    let aged = apply(Retention { age_us: Some(HOUR_US), ..Retention::default() }, true);
    assert_eq!(aged.iter().filter(|path| own.contains(path)).count(), 2);
    assert_eq!(aged.len(), 4);
    let few = apply(Retention { bytes: Some(1500), ..Retention::default() }, false);
    assert!(few.contains(&own[0]) && few.contains(&own[1]), "{few:?}");
    apply(Retention { bytes: Some(0), ..Retention::default() }, false);
    assert!(own.iter().all(|path| !path.exists()) && others.iter().all(|path| path.exists()));
}

#[test]
fn a_full_disk_has_what_should_go_removed_at_once() {
    let scratch = Scratch::new("full");
    let mount =
        std::process::Command::new("mount").args(["-t", "tmpfs", "-o", "size=4m", "tmpfs"]).arg(&scratch.0).output();
    if !mount.is_ok_and(|done| done.status.success()) {
        println!("skipped: no file system of its own");
        return;
    }
    let bounds = Retention { free_bytes: Some(1), ..Retention::default() };
    let mut store = Store::open(&scratch.0, Options { retention: bounds, ..options("a") }).expect("a store");
    // The look of the start is over.
    std::thread::sleep(std::time::Duration::from_millis(300));
    let old = scratch.0.join("date=2023-11-14/hour=20");
    fs::create_dir_all(&old).expect("a folder");
    fs::write(old.join("a-1-0.parquet"), vec![0; 2 << 20]).expect("a file");
    assert!(fs::write(scratch.0.join("filler"), vec![0; 8 << 20]).is_err(), "it is full");
    let written = store.write(&batch(0, 30, HOUR));
    let retired = store.progress().files_retired.load(Relaxed);
    let ended = store.finish();
    let _ = std::process::Command::new("umount").arg("-l").arg(&scratch.0).status();
    assert_eq!(retired, 1);
    written.expect("there was room to be had");
    ended.expect("sealed");
}

#[test]
fn files_that_wait_to_be_written_over_go_before_rows() {
    let scratch = hour_of_files("spare", &[30, 30]);
    let bytes: u64 = sealed_files(&scratch.0).expect("files").0.iter().map(|f| f.bytes).sum();
    let spare = hot_folder(&scratch.0, "a").join("spare.1");
    fs::write(&spare, vec![0; 10_000]).expect("a file");
    let bound = |bytes| Retention { bytes: Some(bytes), ..Retention::default() };
    let apply = |bytes, dry_run| bound(bytes).apply(&scratch.0, "a", HOUR, dry_run).expect("a folder").files.len();
    assert_eq!((apply(bytes + 9_999, true), apply(bytes + 10_000, false)), (0, 0));
    assert!(spare.exists(), "a dry run, and a bound that holds");
    assert_eq!(apply(bytes + 9_999, false), 0);
    assert!(!spare.exists());
    assert_eq!(apply(bytes - 1, false), 1);
}

#[test]
fn a_file_that_cannot_be_removed_stops_no_other() {
    let scratch = Scratch::new("stuck");
    for hour in 1..4 {
        let mut store = Store::open(&scratch.0, options("a")).expect("a store");
        store.write(&batch(0, 3, HOUR + hour * HOUR_US)).expect("written");
        store.finish().expect("sealed");
    }
    let files = sealed_files(&scratch.0).expect("files").0;
    // A folder in its place cannot be removed as a file, whoever asks.
    std::fs::remove_file(&files[0].path).expect("removed");
    std::fs::create_dir(&files[0].path).expect("a folder");
    let aged = Retention { age_us: Some(HOUR_US), ..Retention::default() };
    let retired = aged.apply(&scratch.0, "a", HOUR + 4 * HOUR_US + 1, false).expect("a folder");
    assert_eq!(retired.files, [files[1].path.clone()]);
    assert_eq!(retired.stuck.iter().map(|s| &s.0).collect::<Vec<_>>(), [&files[0].path]);
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

/// How many small files became one.
fn compacted(root: &Path, node: &str, now_us: i64, small: u64) -> usize {
    match compact::compact(root, node, now_us, small, &HashSet::new()).expect("a folder") {
        compact::Compacted::Nothing => 0,
        compact::Compacted::Files(n) => n,
        other => panic!("{other:?}"),
    }
}

/// A folder with a segment of each number of flows that was sealed on its own, all received in one hour.
fn hour_of_files(name: &str, flows: &[u16]) -> Scratch {
    let scratch = Scratch::new(name);
    let mut first = 0;
    for &n in flows {
        let mut store = Store::open(&scratch.0, options("a")).expect("a store");
        store.write(&batch(first, n, HOUR + i64::from(first))).expect("written");
        store.finish().expect("sealed");
        first += u32::from(n);
    }
    scratch
}

/// The source addresses in the files whose rows count, the hot segments that no file covers among them.
fn sources(root: &Path) -> Vec<u32> {
    use arrow_array::cast::AsArray;
    use arrow_array::types::UInt32Type;
    let mut all = Vec::new();
    let mut add = |batch: &arrow_array::RecordBatch| {
        let column = batch.column_by_name("src_ip4").expect("a column");
        all.extend(column.as_primitive::<UInt32Type>().values().iter().copied());
    };
    let Found { sealed, hot, .. } = found(root).expect("files");
    for file in &sealed {
        let file = fs::File::open(&file.path).expect("a file");
        let builder = parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(file).expect("Parquet");
        builder.build().expect("a reader").for_each(|rows| add(&rows.expect("rows")));
    }
    for hot in hot {
        read_segment(&hot.path, |rows| {
            add(&rows);
            Ok(())
        })
        .expect("rows");
    }
    all.sort_unstable();
    all
}

/// Every file below a folder, with its bytes.
fn files(root: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(root).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push((path.clone(), fs::read(&path).expect("bytes")));
        }
    }
    found.sort();
    found
}

/// Makes a folder as a process left it that was killed, and lets the next one start there.
fn after_a_kill(name: &str, root: &Path, left: &[&(PathBuf, Vec<u8>)], partial: Option<PathBuf>, expected: &[u32]) {
    let scratch = Scratch::new(name);
    for (path, bytes) in left {
        let to = scratch.0.join(path.strip_prefix(root).expect("below the folder"));
        fs::create_dir_all(to.parent().expect("a folder")).expect("made");
        fs::write(to, bytes).expect("written");
    }
    if let Some(partial) = partial {
        let to = scratch.0.join(partial.strip_prefix(root).expect("below the folder"));
        fs::create_dir_all(to.parent().expect("a folder")).expect("made");
        fs::write(to, "PAR1 and no more").expect("written");
    }
    assert_eq!(sources(&scratch.0), expected, "{name}: as readers find it");
    Store::open(&scratch.0, options("a")).expect("a store").finish().expect("sealed");
    assert_eq!(sources(&scratch.0), expected, "{name}: after the next start");
    let (_, states) = rows(&scratch.0);
    assert!(states.iter().all(|state| *state == State::Sealed), "{name}: {states:?}");
}

/// The temporary name of a file.
fn temporary(path: &Path) -> PathBuf {
    path.with_file_name(format!(".{}.tmp", path.file_name().expect("a name").to_string_lossy()))
}

#[test]
fn killed_at_each_step_of_sealing() {
    let scratch = Scratch::new("steps");
    let mut store = Store::open(&scratch.0, options("a")).expect("a store");
    store.write(&batch(0, 30, HOUR - 1)).expect("written");
    store.write(&batch(30, 20, HOUR)).expect("written");
    let (_, segment) = segments(&hot_folder(&scratch.0, "a")).expect("segments").pop().expect("one");
    let hot = (segment.clone(), fs::read(&segment).expect("bytes"));
    store.finish().expect("sealed");
    let sealed: Vec<_> =
        files(&scratch.0).into_iter().filter(|f| f.0.extension().is_some_and(|e| e == "parquet")).collect();
    let [first, second] = &sealed[..] else { panic!("a file an hour") };
    let expected: Vec<u32> = (0..50).collect();
    let kill = |name, left: &[&_], partial| after_a_kill(name, &scratch.0, left, partial, &expected);
    kill("steps-begun", &[&hot], None);
    kill("steps-temporary", &[&hot], Some(temporary(&first.0)));
    // The file of the hour in which it was begun is the last to get its name.
    kill("steps-between", &[&hot, second], None);
    kill("steps-between-temporary", &[&hot, second], Some(temporary(&first.0)));
    kill("steps-sealed", &[&hot, first, second], None);
    kill("steps-removed", &[first, second], None);
}

#[test]
fn small_files_of_an_hour_become_one_and_a_kill_at_each_step_changes_nothing() {
    let scratch = hour_of_files("compact", &[30, 1, 7, 30]);
    let expected: Vec<u32> = (0..68).collect();
    let before = files(&scratch.0);
    let old: Vec<&_> = before.iter().filter(|f| f.0.extension().is_some_and(|e| e == "parquet")).collect();
    assert_eq!(old.len(), 4);
    let late = HOUR + HOUR_US + 301_000_000;
    assert_eq!(compacted(&scratch.0, "a", late - 2_000_000, 1 << 20), 0, "the hour is not over");
    assert_eq!(compacted(&scratch.0, "b", late, 1 << 20), 0, "not the node's own");
    assert_eq!(compacted(&scratch.0, "a", late, 1), 0, "large files stay");
    assert_eq!(compacted(&scratch.0, "a", late, 1 << 20), 4);
    assert_eq!(sources(&scratch.0), expected);
    let (sealed, covered) = sealed_files(&scratch.0).expect("files");
    assert_eq!((sealed.len(), covered.len()), (1, 4), "those it was made of stay for their readers, and do not count");
    let new = (sealed[0].path.clone(), fs::read(&sealed[0].path).expect("bytes"));
    // A collector that runs does it by itself.
    let by_itself = hour_of_files("compact-thread", &[5, 6]);
    let store = Store::open(&by_itself.0, Options { small_bytes: 1 << 20, ..options("a") }).expect("a store");
    let began = std::time::Instant::now();
    while store.progress().files_compacted.load(std::sync::atomic::Ordering::Relaxed) < 2 {
        assert!(began.elapsed().as_secs() < 60, "nothing is made one");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    store.finish().expect("sealed");
    assert_eq!(sources(&by_itself.0), (0..11).collect::<Vec<u32>>());
    compact::remove_covered(&scratch.0, "a", false).expect("a folder");
    assert_eq!(sealed_files(&scratch.0).expect("files").1.len(), 4);
    assert_eq!(files_of_segment(&scratch.0, "a", sealed[0].segment).expect("files").len(), 1);
    for (step, left) in (0..=old.len()).enumerate() {
        let mut files = old[..left].to_vec();
        files.push(&new);
        after_a_kill(&format!("compact-removed-{step}"), &scratch.0, &files, None, &expected);
    }
    after_a_kill("compact-temporary", &scratch.0, &old, Some(temporary(&new.0)), &expected);
    assert_eq!(compacted(&scratch.0, "a", late, 1 << 20), 0, "once");
    // A late file of the hour, and again: one for all.
    let mut store = Store::open(&scratch.0, options("a")).expect("a store");
    store.write(&batch(68, 5, HOUR + 99)).expect("written");
    store.finish().expect("sealed");
    assert_eq!(compacted(&scratch.0, "a", late, 1 << 20), 2);
    assert_eq!(sources(&scratch.0), (0..73).collect::<Vec<u32>>());
    // What goes for its age does not leave those behind that it covers.
    let none = Retention { bytes: Some(0), ..Retention::default() };
    none.apply(&scratch.0, "a", late, false).expect("a folder");
    assert!(sources(&scratch.0).is_empty());
    assert!(files(&scratch.0).iter().all(|f| f.0.extension().is_none_or(|e| e != "parquet")));
}

#[test]
fn a_large_file_between_small_ones_is_not_taken_for_one_of_them() {
    let scratch = hour_of_files("between", &[1, 2, 30, 3, 4]);
    let large = sealed_files(&scratch.0).expect("files").0.iter().map(|f| f.bytes).max().expect("files");
    let late = HOUR + 2 * HOUR_US;
    while compacted(&scratch.0, "a", late, large) > 0 {}
    assert_eq!(sources(&scratch.0), (0..40).collect::<Vec<u32>>());
    assert_eq!(sealed_files(&scratch.0).expect("files").0.len(), 3);
    // A segment that is not sealed yet keeps those around it apart.
    let scratch = hour_of_files("hot-between", &[1, 2]);
    let ids: Vec<i64> = sealed_files(&scratch.0).expect("files").0.iter().map(|f| f.segment).collect();
    fs::write(hot_folder(&scratch.0, "a").join(format!("{}.arrows", ids[0] + 1)), "").expect("a segment");
    assert_eq!(compacted(&scratch.0, "a", late, 1 << 20), 0);
}

#[test]
fn sealing_catches_up_when_it_is_behind() {
    let scratch = Scratch::new("behind");
    let each = Options { segment_bytes: 1, ..options("a") };
    let mut store = Store::open(&scratch.0, each).expect("a store");
    for i in 0..40 {
        store.write(&batch(i * 30, 30, HOUR)).expect("written");
    }
    store.finish().expect("sealed");
    assert_eq!(sources(&scratch.0), (0..1200).collect::<Vec<u32>>());
}
