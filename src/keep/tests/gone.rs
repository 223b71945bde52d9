//! Folders and segments that somebody took away, and nodes that are there no more.

use super::*;

#[test]
fn a_folder_that_went_away_comes_again() {
    let scratch = Scratch::new("gone");
    let mut store = Store::open(&scratch.0, options("a")).expect("a store");
    store.write(&batch(0, 3, HOUR)).expect("written");
    fs::remove_dir_all(&scratch.0).expect("removed");
    store.write(&batch(3, 4, HOUR)).expect("written to a new folder");
    store.write(&batch(7, 5, HOUR)).expect("written");
    // What was in it is lost, which is said once; and no other process has the folder now.
    assert_eq!(store.lost().take().into_values().collect::<Vec<_>>(), [3]);
    assert!(store.tick(HOUR).expect_err("said").to_string().contains("was removed"));
    store.tick(HOUR).expect("once");
    let refused = Store::open(&scratch.0, options("a")).err().expect("refused");
    assert_eq!(refused.kind(), std::io::ErrorKind::WouldBlock);
    store.finish().expect("sealed");
    assert_eq!(rows(&scratch.0), (9, vec![State::Sealed]));
}

#[test]
fn a_segment_that_another_took_away_takes_no_more_rows() {
    let scratch = Scratch::new("taken");
    let mut store = Store::open(&scratch.0, options("a")).expect("a store");
    store.write(&batch(0, 3, HOUR)).expect("written");
    let path = segments(&hot_folder(&scratch.0, "a")).expect("segments").pop().expect("one").1;
    // As one that seals it does; the file is there still.
    fs::rename(&path, scratch.0.join("elsewhere")).expect("moved");
    // That is looked for each second.
    std::thread::sleep(std::time::Duration::from_millis(1100));
    assert!(store.tick(HOUR).is_err(), "it is said");
    store.write(&batch(3, 4, HOUR)).expect("written to a new one");
    assert_eq!(store.lost().take().into_values().sum::<u64>(), 3);
    store.finish().expect("once");
    assert_eq!(rows(&scratch.0), (4, vec![State::Sealed]));
}

#[test]
fn rows_of_a_segment_that_is_removed_before_it_is_sealed_are_counted() {
    let scratch = Scratch::new("unsealed");
    let mut store = Store::open(&scratch.0, options("a")).expect("a store");
    // Where it would be sealed stands a file.
    let hour = super::super::layout::hour_folder(&scratch.0, HOUR);
    fs::create_dir_all(hour.parent().expect("a day")).expect("a folder");
    fs::write(&hour, b"").expect("in the way");
    store.write(&batch(0, 3, HOUR)).expect("written");
    let hot = hot_folder(&scratch.0, "a");
    let path = segments(&hot).expect("segments").pop().expect("one").1;
    store.tick(i64::MAX).expect("closed");
    let failed = || store.progress().failures.load(std::sync::atomic::Ordering::Relaxed) > 0;
    for _ in 0..500 {
        if failed() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    assert!(failed(), "it cannot be sealed");
    fs::remove_file(&path).expect("removed");
    let lost = store.lost().clone();
    let said = store.finish().expect_err("said").to_string();
    assert!(said.contains("was removed before it was sealed"), "{said}");
    assert_eq!(lost.take().into_values().collect::<Vec<_>>(), [3]);
}

#[test]
fn segments_of_a_node_that_is_gone_are_named() {
    let scratch = Scratch::new("others");
    let hot = hot_folder(&scratch.0, "old");
    fs::create_dir_all(&hot).expect("a folder");
    let file = fs::File::create(hot.join("1700000000000000.arrows")).expect("a segment");
    assert_eq!(
        super::super::left_by_others(&scratch.0, "new").expect("read"),
        Vec::<String>::new(),
        "it may be written still"
    );
    file.set_modified(std::time::SystemTime::now() - std::time::Duration::from_secs(90)).expect("older");
    let said = super::super::left_by_others(&scratch.0, "new").expect("read").concat();
    assert!(
        said.starts_with("1 segments of the node old were last written 9") && said.contains("--node old"),
        "{said}"
    );
    assert_eq!(super::super::left_by_others(&scratch.0, "old").expect("read"), Vec::<String>::new());
}
