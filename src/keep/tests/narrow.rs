//! Numbers and times in fewer bytes.

use super::*;

#[test]
fn numbers_in_fewer_bytes_are_read_as_they_were() {
    let scratch = Scratch::new("narrow");
    let mut store = Store::open(&scratch.0, options("a")).expect("a store");
    // Addresses of 8, 16 and 32 bits.
    store.write(&batch(0, 30, HOUR)).expect("written");
    store.write(&batch(7_000, 30, HOUR)).expect("written");
    store.write(&batch(70_000, 30, HOUR)).expect("written");
    let expected: Vec<u32> = (0..30).chain(7_000..7_030).chain(70_000..70_030).collect();
    assert_eq!(sources(&scratch.0), expected);
    store.finish().expect("sealed");
    assert_eq!(sources(&scratch.0), expected);
}

/// A batch of a v5 flow that began so long before its message, which was received at the hour.
fn begun(ago_ms: u32) -> Arc<Batch> {
    let uptime = 100_000_000u32;
    let mut bytes = vec![0; 24 + 48];
    bytes[1] = 5;
    bytes[3] = 1;
    bytes[4..8].copy_from_slice(&uptime.to_be_bytes());
    bytes[8..12].copy_from_slice(&((HOUR / 1_000_000) as u32).to_be_bytes());
    bytes[48..52].copy_from_slice(&(uptime - ago_ms).to_be_bytes());
    bytes[52..56].copy_from_slice(&uptime.to_be_bytes());
    let mut decoder = Decoder::new(Config::default());
    decoder.decode(&bytes, SocketAddr::from(([192, 0, 2, 1], 2055)), Timestamp(HOUR));
    Arc::new(decoder.flush().pop().expect("a batch"))
}

#[test]
fn times_that_some_rows_lack_are_in_half_the_bytes_too() {
    let scratch = Scratch::new("times-lacking");
    let mut store = Store::open(&scratch.0, options("a")).expect("a store");
    // Template 256: when it began and ended, in milliseconds, of no bytes where that is not known.
    let mut bytes = vec![0, 10, 0, 0, 0x65, 0x53, 0xf1, 0, 0, 0, 0, 0, 0, 0, 0, 7];
    bytes.extend([0, 2, 0, 16, 1, 0, 0, 2, 0, 152, 255, 255, 0, 153, 255, 255]);
    bytes.extend([1, 0, 0, 24]);
    let ms = (HOUR / 1000) as u64;
    for time in [ms - 5000, ms] {
        bytes.push(8);
        bytes.extend(time.to_be_bytes());
    }
    bytes.extend([0, 0]);
    bytes[3] = bytes.len() as u8;
    let mut decoder = Decoder::new(Config::default());
    decoder.decode(&bytes, SocketAddr::from(([192, 0, 2, 1], 2055)), Timestamp(HOUR));
    let rows = Arc::new(decoder.flush().pop().expect("a batch"));
    store.write(&rows).expect("written");
    let (_, path) = segments(&hot_folder(&scratch.0, "a")).expect("segments").pop().expect("one");
    let schemas = contents::Contents::of(&path).expect("a segment").schemas;
    let kind = schemas[0].field_with_name("flow_start").expect("a column").data_type();
    assert_eq!(*kind, DataType::UInt32);
    let expected = vec![Some(HOUR - 5_000_000), None];
    assert_eq!(starts_hot_and_sealed(&scratch.0, &path, store), [expected.clone(), expected]);
}

/// When flows began, as the segment of a store says it and, once that is sealed, its one file.
fn starts_hot_and_sealed(root: &Path, segment: &Path, store: Store) -> [Vec<Option<i64>>; 2] {
    let starts = |batch: &RecordBatch| {
        let starts = batch.column_by_name("flow_start").expect("a column").clone();
        starts.as_primitive::<TimestampMicrosecondType>().iter().collect::<Vec<_>>()
    };
    let mut hot = Vec::new();
    read_segment(segment, |batch| {
        hot.extend(starts(&batch));
        Ok(())
    })
    .expect("read");
    store.finish().expect("sealed");
    let sealed = sealed_files(root).expect("files").0.pop().expect("one").path;
    let file = fs::File::open(sealed).expect("a file");
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).expect("Parquet").build().expect("a reader");
    [hot, reader.flat_map(|batch| starts(&batch.expect("rows"))).collect()]
}

#[test]
fn times_in_half_the_bytes_are_read_as_they_were() {
    let scratch = Scratch::new("times");
    let mut store = Store::open(&scratch.0, options("a")).expect("a store");
    // From the second but last on they are before what the others count from.
    let ago: [u32; 5] = [0, 1_000, 39 * 60_000, 41 * 60_000, 20 * 3_600_000];
    ago.iter().for_each(|ago| store.write(&begun(*ago)).expect("written"));
    let (_, path) = segments(&hot_folder(&scratch.0, "a")).expect("segments").pop().expect("one");
    let kinds = contents::Contents::of(&path).expect("a segment").schemas;
    let narrow =
        |schema: &Arc<Schema>| schema.field_with_name("flow_start").is_ok_and(|f| *f.data_type() == DataType::UInt32);
    assert_eq!(kinds.iter().map(narrow).collect::<Vec<_>>(), [true, false]);
    let expected: Vec<Option<i64>> = ago.iter().map(|ago| Some(HOUR - i64::from(*ago) * 1000)).collect();
    assert_eq!(starts_hot_and_sealed(&scratch.0, &path, store), [expected.clone(), expected]);
}
