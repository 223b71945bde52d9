use super::*;
use arrow_array::cast::AsArray;
use arrow_array::types::{
    Float64Type, Int64Type, TimestampMicrosecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{BooleanArray, FixedSizeBinaryArray, RecordBatch, StringArray};
use arrow_schema::{Field, Schema};
use arrow_select::concat::concat;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ParquetRecordBatchReaderBuilder};
use parquet::basic::Compression;
use parquet::file::properties::{WriterProperties, WriterPropertiesBuilder, WriterVersion};
use parquet::schema::types::ColumnPath;

struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let x = self.0 ^ self.0 >> 33;
        x.wrapping_mul(0xff51_afd7_ed55_8ccd) >> 7
    }
}

/// Rows of every type; `nulls` of 16 lack their value, and runs of equal values come now and then.
fn rows(count: usize, nulls: u64, seed: u64) -> RecordBatch {
    let mut n = Numbers(seed);
    let mut column = |bits: u32| -> Vec<Option<u64>> {
        let mut last = 0;
        let mut run = 0u64;
        (0..count)
            .map(|_| {
                if run == 0 {
                    (last, run) = (n.next() & (u64::MAX >> (64 - bits)), [1, 1, 1, 100][n.next() as usize % 4]);
                    last = if n.next().is_multiple_of(3) { last % 5 } else { last };
                }
                run -= 1;
                (n.next() % 16 >= nulls).then_some(last)
            })
            .collect()
    };
    fn of<T: arrow_array::ArrowPrimitiveType>(values: Vec<Option<u64>>, f: impl Fn(u64) -> T::Native) -> ArrayRef {
        Arc::new(values.into_iter().map(|v| v.map(&f)).collect::<PrimitiveArray<T>>())
    }
    let text = |v: &Option<u64>| v.map(|v| format!("text {}", v % 300));
    let texts: Vec<Option<String>> = column(50).iter().map(text).collect();
    let octets: Vec<Option<[u8; 16]>> =
        column(57).iter().map(|v| v.map(|v| u128::from(v % 400).to_be_bytes())).collect();
    let times: PrimitiveArray<TimestampMicrosecondType> =
        column(40).into_iter().map(|v| v.map(|v| 1_700_000_000_000_000 + (v % 9_000_000) as i64)).collect();
    let some = |v: u64| v.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("u8", of::<UInt8Type>(column(8), |v| v as u8)),
        ("u16", of::<UInt16Type>(column(16), |v| v as u16)),
        ("u32", of::<UInt32Type>(column(32), |v| v as u32)),
        ("u64", of::<UInt64Type>(column(57), some)),
        ("i64", of::<Int64Type>(column(57), |v| some(v).cast_signed())),
        ("small", of::<Int64Type>(column(3), u64::cast_signed)),
        ("f64", of::<Float64Type>(column(20), |v| v as f64 / 7.0)),
        ("time", Arc::new(times.with_timezone("UTC"))),
        ("bool", Arc::new(column(1).into_iter().map(|v| v.map(|v| v == 1)).collect::<BooleanArray>())),
        ("octets", Arc::new(FixedSizeBinaryArray::try_from_sparse_iter_with_size(octets.into_iter(), 16).expect("16"))),
        ("text", Arc::new(StringArray::from(texts))),
    ];
    let fields: Vec<Field> = columns.iter().map(|(n, a)| Field::new(*n, a.data_type().clone(), nulls > 0)).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns.into_iter().map(|c| c.1).collect()).expect("columns")
}

fn written(rows: &RecordBatch, properties: WriterPropertiesBuilder) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, rows.schema(), Some(properties.build())).expect("a writer");
    writer.write(rows).expect("written");
    writer.close().expect("closed");
    bytes
}

/// A file without a name.
fn file(bytes: &[u8]) -> Arc<Source> {
    static NEXT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    let n = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let path = std::env::temp_dir().join(format!("flowlane-pages-{}-{n}", std::process::id()));
    std::fs::write(&path, bytes).expect("a file");
    let file = File::open(&path).expect("a file");
    std::fs::remove_file(&path).expect("removed");
    Arc::new(Source::new(file))
}

/// The column's rows in stretches, with some of them passed by. Where they are passed by, none is kept while the next are read, so that
/// these are in the memory of those.
fn read(bytes: &[u8], at: usize, index: bool, skip: bool) -> Result<Vec<(Range<usize>, ArrayRef)>, Error> {
    let file = file(bytes);
    let metadata = ArrowReaderMetadata::load(&Bytes::copy_from_slice(bytes), Default::default())?;
    let group = metadata.metadata().row_group(0);
    let (chunk, field) = (group.column(at), metadata.schema().field(at));
    let rows = group.num_rows() as usize;
    assert!(Column::takes(chunk, field.data_type()), "{field}");
    let locations = index.then(|| crate::query::prune::locations(&file, chunk, rows)).flatten();
    let mut column = Column::new(file, chunk, field.data_type(), rows, locations.as_deref())?;
    let (mut row, mut found, mut n) = (0, Vec::new(), 0);
    while row < rows {
        let end = column.page_end(row)?.min(row + 700);
        n += 1;
        if skip && n % 5 != 0 {
            row += 900;
            continue;
        }
        let array = column.array(row..end)?;
        found.push((row..end, if skip { copy(&array) } else { array }));
        row = end;
    }
    Ok(found)
}

fn copy(array: &ArrayRef) -> ArrayRef {
    concat(&[array, &array.slice(0, 0)]).expect("of one type")
}

fn plain(array: &ArrayRef) -> Vec<Option<String>> {
    if let Some(dictionary) = array.as_dictionary_opt::<Int32Type>() {
        let texts = dictionary.values().as_string::<i32>();
        let keys = dictionary.keys();
        return keys.iter().map(|k| k.map(|k| texts.value(k as usize).to_string())).collect();
    }
    array.as_string::<i32>().iter().map(|t| t.map(String::from)).collect()
}

fn properties() -> Vec<(&'static str, WriterPropertiesBuilder)> {
    let small = || WriterProperties::builder().set_data_page_row_count_limit(1000).set_write_batch_size(100);
    let delta = |version| {
        ["u8", "u16", "u32", "u64", "i64", "small", "time"]
            .into_iter()
            .fold(small().set_writer_version(version).set_dictionary_enabled(false), |p, name| {
                p.set_column_encoding(ColumnPath::from(name), Encoding::DELTA_BINARY_PACKED)
            })
    };
    vec![
        ("delta, v1", delta(WriterVersion::PARQUET_1_0)),
        ("plain, lz4", small().set_dictionary_enabled(false).set_compression(Compression::LZ4_RAW)),
        ("dictionary, v1", small()),
        (
            "dictionary that gets too large, snappy",
            small().set_dictionary_page_size_limit(900).set_compression(Compression::SNAPPY),
        ),
    ]
}

#[test]
fn pages_are_as_the_crate_reads_them() {
    for (nulls, seed) in [(0, 1), (1, 2), (8, 3), (15, 4), (16, 5)] {
        for (name, properties) in properties() {
            let rows = rows(5_003, nulls, seed);
            let bytes = written(&rows, properties);
            let reader = ParquetRecordBatchReaderBuilder::try_new(Bytes::from(bytes.clone())).expect("a file");
            let all: Vec<RecordBatch> =
                reader.with_batch_size(6000).build().expect("a reader").map(|b| b.expect("rows")).collect();
            for (at, field) in rows.schema().fields().iter().enumerate() {
                for (index, skip) in [(true, false), (true, true), (false, false), (false, true)] {
                    let what = format!("{field}: {name}, {nulls} of 16 null, index {index}, skip {skip}");
                    let found = read(&bytes, at, index, skip).unwrap_or_else(|e| panic!("{what}: {e}"));
                    assert!(!found.is_empty());
                    for (range, array) in found {
                        let expected = all[0].column(at).slice(range.start, range.len());
                        if *field.data_type() == DataType::Utf8 {
                            assert_eq!(plain(&array), plain(&expected), "{what} {range:?}");
                        } else {
                            assert_eq!(&array, &expected, "{what} {range:?}");
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn the_second_version_of_pages() {
    // Booleans come in runs there; text has an encoding that is left to the crate.
    let rows = rows(5_003, 4, 9);
    let properties = WriterProperties::builder()
        .set_writer_version(WriterVersion::PARQUET_2_0)
        .set_data_page_row_count_limit(1000)
        .set_write_batch_size(100);
    let bytes = written(&rows, properties.set_compression(Compression::LZ4_RAW));
    for at in 0..rows.num_columns() - 1 {
        for (range, array) in read(&bytes, at, at % 2 == 0, at % 3 == 0).expect("rows") {
            assert_eq!(&array, &rows.column(at).slice(range.start, range.len()), "{at} {range:?}");
        }
    }
}

#[test]
fn damage_is_an_error_and_no_panic() {
    let rows = rows(2_000, 3, 7);
    let mut n = Numbers(11);
    for (_, properties) in properties() {
        let whole = written(&rows, properties);
        for _ in 0..60 {
            let mut bytes = whole.clone();
            for _ in 0..1 + n.next() % 4 {
                // The footer stays whole.
                let at = n.next() as usize % (whole.len() * 6 / 10);
                bytes[at] = n.next() as u8;
            }
            let at = n.next() as usize % rows.num_columns();
            let _ = read(&bytes, at, n.next().is_multiple_of(2), n.next().is_multiple_of(2));
        }
    }
}
