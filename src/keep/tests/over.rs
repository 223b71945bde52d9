//! Segments in files that others had before.

use super::*;

/// A store whose first segment was sealed, and whose second has its file, with what was written into both.
fn written_over(root: &Path) -> (Store, [Arc<Batch>; 2], Vec<u8>, PathBuf) {
    let mut store = Store::open(root, Options { segment_bytes: 1, ..options("a") }).expect("a store");
    let batches = [batch(0, 30, HOUR), batch(100, 30, HOUR)];
    store.write(&batches[0]).expect("written");
    let hot = hot_folder(root, "a");
    let old = fs::read(&segments(&hot).expect("segments")[0].1).expect("its bytes");
    // Another is begun, and the first sealed.
    store.write(&batches[0]).expect("written");
    while spare::bytes(&hot) == 0 || store.progress().segments_waiting.load(Relaxed) > 0 {
        std::thread::yield_now();
    }
    store.write(&batches[1]).expect("written");
    let path = segments(&hot).expect("segments").pop().expect("the newest").1;
    (store, batches, old, path)
}

#[test]
fn a_file_that_is_written_over_has_the_new_rows_alone() {
    let scratch = Scratch::new("over");
    let (mut store, batches, old, path) = written_over(&scratch.0);
    let of = |path: &Path| {
        let end = contents::read(path, |_| Ok(())).expect("read");
        (end.rows, end.torn)
    };
    let one = fs::read(&path).expect("its bytes");
    assert_eq!(of(&path), (30, false));
    store.write(&batches[1]).expect("another");
    store.finish().expect("sealed");
    assert_eq!(rows(&scratch.0).0, 120);
    assert_eq!(spare::bytes(&hot_folder(&scratch.0, "a")), 0, "nothing is left");
    // As kills leave it: with nothing of it written, or all but the first bytes.
    let write = |bytes: &[u8]| {
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(&path, bytes).expect("a file");
    };
    let end = spare::END;
    write(&[&end[..], &old[end.len()..]].concat());
    assert_eq!(of(&path), (0, false));
    write(&[&end[..], &one[end.len()..]].concat());
    assert_eq!(of(&path), (0, false));
    // As a machine that stopped does: the older rows behind the newer, without the mark; older ones that are not whole are damage.
    let rows_end = one.len() - end.len();
    write(&[&one[..rows_end], &old[..]].concat());
    assert_eq!(of(&path), (30, false));
    let mut both = [&one[..rows_end], &old[..]].concat();
    both[rows_end + old.len() / 2] ^= 1;
    write(&both);
    assert!(contents::read(&path, |_| Ok(())).is_err());
}

#[test]
fn a_sealed_segment_that_was_written_over_is_not_sealed_again() {
    let scratch = Scratch::new("sealed-over");
    let segment = |first: u32| {
        let mut store = Store::open(&scratch.0, options("a")).expect("a store");
        let hot = hot_folder(&scratch.0, "a");
        let mut written = [first, first + 100].map(|first| {
            store.write(&batch(first, 30, HOUR)).expect("written");
            fs::read(&segments(&hot).expect("segments")[0].1).expect("its bytes")
        });
        let path = segments(&hot).expect("segments").remove(0).1;
        store.finish().expect("sealed");
        written.iter_mut().for_each(|bytes| bytes.truncate(bytes.len() - spare::END.len()));
        (path, written)
    };
    let (path, [half, whole]) = segment(0);
    let (_, [_, other]) = segment(1000);
    let expected = sources(&scratch.0);
    assert_eq!(expected.len(), 120);
    // As a machine that stopped before the file's other name was on the disk may leave it.
    for mixed in [&other[..], &[&half[..], &other].concat(), &[&whole[..], &other].concat()] {
        fs::write(&path, mixed).expect("a segment");
        assert_eq!(sources(&scratch.0), expected, "as readers find it");
        Store::open(&scratch.0, options("a")).expect("a store").finish().expect("nothing to seal");
        assert_eq!(sources(&scratch.0), expected);
        assert!(!path.exists());
    }
}

#[test]
fn a_batch_with_older_bytes_in_it_is_the_end() {
    let scratch = Scratch::new("half");
    let written = |root: &Path, batches: &[(u32, u16)]| {
        let mut store = Store::open(root, options("a")).expect("a store");
        let hot = hot_folder(root, "a");
        let lengths: Vec<usize> = batches
            .iter()
            .map(|&(first, n)| {
                store.write(&batch(first, n, HOUR)).expect("written");
                fs::read(&segments(&hot).expect("segments")[0].1).expect("its bytes").len() - spare::END.len()
            })
            .collect();
        let path = segments(&hot).expect("segments").remove(0).1;
        let bytes = fs::read(&path).expect("its bytes");
        std::mem::forget(store);
        (path, bytes, lengths)
    };
    let (path, new, ends) = written(&scratch.0.join("new"), &[(0, 30), (100_000, 1000), (200_000, 1000)]);
    let (_, old, _) = written(&scratch.0.join("old"), &[(300_000, 700), (400_000, 900), (500_000, 1000), (1, 1000)]);
    assert!(old.len() > new.len());
    let [_, before, end] = ends[..] else { panic!("three batches") };
    let state_of = |bytes: &[u8]| {
        fs::write(&path, bytes).expect("a segment");
        rows(&scratch.0.join("new"))
    };
    assert_eq!(state_of(&[&new[..end - 8], &old[end - 8..]].concat()), (2030, vec![State::Hot { torn: true }]));
    let torn = (1030, vec![State::Hot { torn: true }]);
    // As the machine leaves it: pages of the last batch that did not get to the disk have the older rows.
    for k in [end - 500, end - 1000, end - 3000, end - 4000] {
        assert!(k > before);
        assert_eq!(state_of(&[&new[..k], &old[k..]].concat()), torn, "{k} of {end}");
        let holes = [&new[..k - 64], &[0xaa; 64], &new[k..end], &old[end..]].concat();
        assert_eq!(state_of(&holes), torn, "before {k} of {end}");
        // What has the mark behind it, or rows, was whole.
        let flipped = |at: usize| {
            let mut bytes = new.clone();
            bytes[at] ^= 1;
            bytes
        };
        assert!(matches!(state_of(&flipped(k - 64)).1[..], [State::Damaged(_)]));
        let within = before - (end - k) - 64;
        assert!(matches!(state_of(&[&flipped(within)[..end], &old[end..]].concat()).1[..], [State::Damaged(_)]));
        assert!(matches!(state_of(&flipped(within)[..before - 8]).1[..], [State::Damaged(_)]));
    }
    // It is sealed, with the rows before it.
    fs::write(&path, [&new[..end - 500], &old[end - 500..]].concat()).expect("a segment");
    let root = scratch.0.join("copy");
    fs::create_dir_all(hot_folder(&root, "a")).expect("a folder");
    fs::copy(&path, hot_folder(&root, "a").join(path.file_name().expect("a name"))).expect("a copy");
    Store::open(&root, options("a")).expect("a store").finish().expect("sealed");
    assert_eq!(rows(&root), (1030, vec![State::Sealed]));
}

#[test]
fn a_stream_that_names_no_segment_is_not_of_one_that_does() {
    let scratch = Scratch::new("unnamed");
    let mut store = Store::open(&scratch.0, options("a")).expect("a store");
    store.write(&batch(0, 30, HOUR)).expect("written");
    let (id, path) = segments(&hot_folder(&scratch.0, "a")).expect("segments").remove(0);
    let mut bytes = fs::read(&path).expect("its bytes");
    std::mem::forget(store);
    // A file of a version before that became another, and lost the mark.
    bytes.truncate(bytes.len() - spare::END.len());
    let column: arrow_array::ArrayRef = Arc::new(arrow_array::Int64Array::from(vec![7]));
    let old = RecordBatch::try_from_iter([("bytes", column)]).expect("a batch");
    let mut out = arrow_ipc::writer::StreamWriter::try_new(&mut bytes, &old.schema()).expect("a stream");
    out.write(&old).expect("written");
    out.finish().expect("whole");
    fs::write(&path, &bytes).expect("a segment");
    assert_eq!(rows(&scratch.0), (30, vec![State::Hot { torn: false }]));
    // Under another number it is told of.
    fs::rename(&path, path.with_file_name(format!("{}.arrows", id + 1))).expect("another name");
    let (n, states) = rows(&scratch.0);
    assert!(n == 0 && matches!(&states[..], [State::Damaged(why)] if why.contains(&id.to_string())), "{states:?}");
    // Its rows are nowhere else: it is put aside, and not written over.
    let misnamed = fs::read(path.with_file_name(format!("{}.arrows", id + 1))).expect("its bytes");
    let root = scratch.0.join("copy");
    let at = |kind: &str| hot_folder(&root, "a").join(format!("{}.{kind}", id + 1));
    fs::create_dir_all(hot_folder(&root, "a")).expect("a folder");
    fs::write(at("arrows"), &misnamed).expect("a copy");
    Store::open(&root, options("a")).expect("a store").finish().expect("put aside");
    assert_eq!(fs::read(at("damaged")).expect("there"), misnamed);
}

#[test]
fn a_file_that_is_read_is_not_written_over() {
    let scratch = Scratch::new("read");
    let path = scratch.0.join("17.arrows");
    let write = || fs::write(&path, "rows").expect("a file");
    let retire = |used| {
        spare::retire(&path, used).expect("retired");
        assert!(!path.exists());
        spare::bytes(&scratch.0)
    };
    write();
    let reader = spare::open(&path).expect("it is there");
    assert_eq!(retire(4), 0, "it is removed");
    drop(reader);
    // Two are kept.
    for bytes in [4, 8, 8] {
        write();
        assert_eq!(retire(4), bytes);
    }
    let (_, bytes) = spare::take(&scratch.0, &path).expect("one that waits");
    assert_eq!((bytes, spare::bytes(&scratch.0)), (8, 4));
    // It has 8 bytes now, of which no more are kept than are used.
    assert_eq!(retire(3), 7);
    spare::remove(&scratch.0);
    assert!(spare::take(&scratch.0, &path).is_none());
}
