use super::*;
use arrow_array::builder::{ListBuilder, UInt32Builder};
use arrow_array::types::{Int32Type, UInt32Type};
use arrow_array::{
    Array, BooleanArray, DictionaryArray, FixedSizeBinaryArray, Float64Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray, UInt8Array, UInt16Array, UInt32Array, UInt64Array, new_null_array,
};
use arrow_schema::{DataType, Field, Schema, TimeUnit};
use arrow_select::concat::concat_batches;
use arrow_select::take::take;
use bytes::Bytes;
use parquet::arrow::arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReaderBuilder, RowSelection, RowSelector};
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData};
use parquet::file::page_index::column_index::ColumnIndexMetaData;
use proptest::prelude::*;
use std::sync::Arc;

/// Every kind of column; those of a name with `run` get runs from time to time.
fn schema() -> Arc<Schema> {
    let texts = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
    let time = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let list = DataType::List(Arc::new(Field::new("item", DataType::UInt32, false)));
    Arc::new(Schema::new(vec![
        Field::new("time_run", time, false),
        Field::new("port_run", DataType::UInt16, false),
        Field::new("exporter_run", texts.clone(), false),
        Field::new("sampling_rate", DataType::Float64, true),
        Field::new("total_run", DataType::Boolean, false),
        Field::new("u8", DataType::UInt8, true),
        Field::new("u16", DataType::UInt16, true),
        Field::new("u32", DataType::UInt32, true),
        Field::new("u64", DataType::UInt64, true),
        Field::new("i64", DataType::Int64, true),
        Field::new("text", DataType::Utf8, true),
        Field::new("name", texts, true),
        Field::new("ip6", DataType::FixedSizeBinary(16), true),
        Field::new("mac", DataType::FixedSizeBinary(6), true),
        Field::new("list", list, true),
        Field::new("rate", DataType::Float64, true),
        Field::new("none", DataType::UInt32, true),
        Field::new("nothing", DataType::Utf8, true),
    ]))
}

/// Numbers without end, from a seed.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let n = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (n ^ n >> 27).wrapping_mul(0x94d0_49bb_1331_11eb) >> 1
    }

    /// A number of up to so many bits, and often a small one, or one near those before.
    fn of_bits(&mut self, bits: u32) -> u64 {
        let bits = if self.next().is_multiple_of(3) { bits } else { (self.next() % u64::from(bits)) as u32 + 1 };
        self.next() & ((1u128 << bits.min(63)) - 1) as u64
    }
}

/// An array of so many values. `nulls`: 0 has none, 1 only those, others some.
fn array(field: &Field, n: usize, nulls: u64, numbers: &mut Numbers) -> ArrayRef {
    if nulls == 1 && field.is_nullable() {
        return new_null_array(field.data_type(), n);
    }
    let spread = numbers.next() % 3;
    let mut last = 0u64;
    let values: Vec<Option<u64>> = (0..n)
        .map(|_| {
            last = match spread {
                0 => numbers.of_bits(63),
                1 => last.wrapping_add(numbers.next() % 300),
                _ => 7,
            };
            let is_null = field.is_nullable() && nulls > 1 && numbers.next().is_multiple_of(nulls);
            (!is_null).then_some(last)
        })
        .collect();
    let texts = || values.iter().map(|v| v.map(|v| format!("text {}", v % 50)));
    let bytes = |width: usize| values.iter().map(move |v| v.map(|v| v.to_be_bytes().repeat(2).split_off(16 - width)));
    match field.data_type() {
        DataType::UInt8 => Arc::new(values.iter().map(|v| v.map(|v| v as u8)).collect::<UInt8Array>()),
        DataType::UInt16 => Arc::new(values.iter().map(|v| v.map(|v| v as u16)).collect::<UInt16Array>()),
        DataType::UInt32 => Arc::new(values.iter().map(|v| v.map(|v| v as u32)).collect::<UInt32Array>()),
        DataType::UInt64 => Arc::new(values.iter().map(|v| v.map(|v| v << 1)).collect::<UInt64Array>()),
        DataType::Int64 => Arc::new(values.iter().map(|v| v.map(|v| v as i64 - (1 << 40))).collect::<Int64Array>()),
        DataType::Timestamp(..) => {
            let times = values.iter().map(|v| v.map(|v| v as i64)).collect::<TimestampMicrosecondArray>();
            Arc::new(times.with_timezone("UTC"))
        }
        DataType::Boolean => Arc::new(values.iter().map(|v| v.map(|v| v % 2 == 0)).collect::<BooleanArray>()),
        DataType::Float64 => Arc::new(values.iter().map(|v| v.map(|v| (v % 9) as f64 / 4.0)).collect::<Float64Array>()),
        DataType::Utf8 => Arc::new(texts().collect::<StringArray>()),
        DataType::Dictionary(..) => {
            let texts: Vec<Option<String>> = texts().collect();
            Arc::new(texts.iter().map(Option::as_deref).collect::<DictionaryArray<Int32Type>>())
        }
        DataType::FixedSizeBinary(width) => {
            let width = *width as usize;
            Arc::new(FixedSizeBinaryArray::try_from_sparse_iter_with_size(bytes(width), width as i32).expect("octets"))
        }
        _ => {
            let mut list =
                ListBuilder::new(UInt32Builder::new()).with_field(Field::new("item", DataType::UInt32, false));
            values.iter().for_each(|v| list.append_option(v.map(|v| (0..v % 4).map(move |i| Some((v + i) as u32)))));
            Arc::new(list.finish())
        }
    }
}

/// Lengths of runs that make `rows` together: all long, or all short.
fn lengths(rows: usize, numbers: &mut Numbers) -> Vec<u32> {
    let (mut left, mut lengths) = (rows, Vec::new());
    let most = if numbers.next().is_multiple_of(2) { 60 } else { 3 };
    while left > 0 {
        let n = left.min(1 + (numbers.next() % most) as usize);
        lengths.push(n as u32);
        left -= n;
    }
    lengths
}

/// Writes batches of such sizes; the file, and what stands in it.
fn write(sizes: &[usize], seed: u64) -> (Bytes, RecordBatch) {
    let (schema, mut numbers) = (schema(), Numbers(seed));
    let mut file = ParquetFile::new(Vec::new(), &schema, &[], Memory::new()).expect("a file");
    let mut batches = Vec::new();
    for &rows in sizes {
        let runs = lengths(rows, &mut numbers);
        let places: UInt32Array = runs.iter().zip(0..).flat_map(|(n, i)| std::iter::repeat_n(i, *n as usize)).collect();
        let (mut sources, mut arrays) = (Vec::new(), Vec::new());
        for field in schema.fields() {
            let is_absent = field.name().starts_with("no");
            let nulls = if is_absent { 1 } else { numbers.next() % 5 };
            let is_run = field.name().ends_with("_run") || field.name() == "sampling_rate";
            if is_run && numbers.next() % 4 > 0 {
                let values = array(field, runs.len(), nulls, &mut numbers);
                arrays.push(take(&values, &places, None).expect("a value a row"));
                sources.push(Source::Runs(values, &runs));
            } else {
                let values = array(field, rows, nulls, &mut numbers);
                arrays.push(values.clone());
                sources.push(if is_absent { Source::Absent } else { Source::Rows(values) });
            }
        }
        file.append(sources, rows).expect("written");
        batches.push(RecordBatch::try_new(schema.clone(), arrays).expect("a batch"));
    }
    let written = Bytes::from(file.finish().expect("a file").0);
    (written, concat_batches(&schema, &batches).expect("all rows"))
}

/// Dictionaries differ in their order: compared as text.
fn plain(array: &ArrayRef) -> ArrayRef {
    match array.as_any().downcast_ref::<DictionaryArray<Int32Type>>() {
        Some(keys) => Arc::new(keys.downcast_dict::<StringArray>().expect("text").into_iter().collect::<StringArray>()),
        None => array.clone(),
    }
}

fn check(read: &RecordBatch, expected: &RecordBatch) {
    assert_eq!(read.num_rows(), expected.num_rows());
    for (i, field) in expected.schema_ref().fields().iter().enumerate() {
        assert_eq!(&plain(read.column(i)), &plain(expected.column(i)), "{}", field.name());
    }
}

fn read(file: &Bytes) -> RecordBatch {
    let builder = ParquetRecordBatchReaderBuilder::try_new(file.clone()).expect("Parquet");
    let schema = builder.schema().clone();
    let batches: Result<Vec<_>, _> = builder.with_batch_size(1000).build().expect("a reader").collect();
    concat_batches(&schema, &batches.expect("batches")).expect("all rows")
}

/// Each page's bounds hold, and are values that stand there.
fn check_pages(about: &ParquetMetaData, column: usize, values: &[Option<u32>]) {
    let mut at = 0;
    for (group, meta) in about.row_groups().iter().enumerate() {
        let rows = usize::try_from(meta.num_rows()).expect("rows");
        let values = &values[at..at + rows];
        at += rows;
        let index = about.page_index_for_row_group(group);
        let places = index.page_locations(column).expect("offsets");
        let Some(ColumnIndexMetaData::INT32(index)) = index.column_index(column) else { panic!("no index of numbers") };
        let starts: Vec<usize> = places.iter().map(|p| p.first_row_index as usize).collect();
        for (page, &start) in starts.iter().enumerate() {
            let end = starts.get(page + 1).copied().unwrap_or(rows);
            let here = values[start..end].iter().flatten();
            assert_eq!(index.min_value(page).map(|n| n.cast_unsigned()), here.clone().min().copied());
            assert_eq!(index.max_value(page).map(|n| n.cast_unsigned()), here.max().copied());
            let nulls = values[start..end].iter().filter(|v| v.is_none()).count();
            assert_eq!(index.null_count(page), Some(nulls as i64));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn what_was_written_is_read(
        sizes in proptest::collection::vec(prop_oneof![1usize..40, 100usize..3000, Just(8192), 8000usize..20_000], 1..7),
        seed in any::<u64>(),
    ) {
        let (file, expected) = write(&sizes, seed);
        check(&read(&file), &expected);
    }

    #[test]
    fn numbers_of_every_size(bits in 1u32..=64, rows in 1usize..700, seed in any::<u64>()) {
        let mut numbers = Numbers(seed);
        let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false)]));
        let values = (0..rows).map(|_| {
            let n = numbers.next() ^ numbers.next() << 1;
            if bits == 64 { n.cast_signed() } else { (n & ((1 << bits) - 1)).cast_signed() }
        });
        let array: ArrayRef = Arc::new(values.collect::<Int64Array>());
        let mut file = ParquetFile::new(Vec::new(), &schema, &[], Memory::new()).expect("a file");
        file.append(vec![Source::Rows(array.clone())], rows).expect("written");
        let file = Bytes::from(file.finish().expect("a file").0);
        let read = read(&file);
        prop_assert_eq!(read.column(0), &array);
    }
}

#[test]
fn pages_have_bounds_and_can_be_skipped() {
    let (file, expected) = write(&[8192, 5000, 20_000, 17, 8192], 7);
    let options = ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Required);
    let builder = ParquetRecordBatchReaderBuilder::try_new_with_options(file.clone(), options).expect("Parquet");
    let column = expected.schema().index_of("u32").expect("a column");
    let values: Vec<Option<u32>> =
        arrow_array::cast::AsArray::as_primitive::<UInt32Type>(expected.column(column)).iter().collect();
    check_pages(builder.metadata(), column, &values);
    let selection =
        vec![RowSelector::skip(9000), RowSelector::select(10), RowSelector::skip(14_000), RowSelector::select(5)];
    let schema = builder.schema().clone();
    let reader = builder.with_row_selection(RowSelection::from(selection)).build().expect("a reader");
    let batches: Vec<RecordBatch> = reader.map(|b| b.expect("a batch")).collect();
    let parts = [expected.slice(9000, 10), expected.slice(23_010, 5)];
    let selected = concat_batches(&expected.schema(), &parts).expect("rows");
    check(&concat_batches(&schema, &batches).expect("rows"), &selected);
}

#[test]
fn a_dictionary_that_is_full_ends_its_row_group() {
    let schema = Arc::new(Schema::new(vec![Field::new("text", DataType::Utf8, true)]));
    let mut file = ParquetFile::new(Vec::new(), &schema, &[], Memory::new()).expect("a file");
    let texts: ArrayRef = Arc::new((0..70_000).map(|i| Some(format!("{i}"))).collect::<StringArray>());
    for _ in 0..2 {
        file.append(vec![Source::Rows(texts.clone())], texts.len()).expect("written");
    }
    let file = Bytes::from(file.finish().expect("a file").0);
    let builder = ParquetRecordBatchReaderBuilder::try_new(file.clone()).expect("Parquet");
    assert_eq!(builder.metadata().num_row_groups(), 2);
    assert_eq!(read(&file).column(0).slice(70_000, 70_000).as_ref(), texts.as_ref());
}

#[test]
fn what_a_message_shares_costs_a_message() {
    let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::UInt32, false)]));
    let bytes = |rows_of_run: u32| {
        let mut file = ParquetFile::new(Vec::new(), &schema, &[], Memory::new()).expect("a file");
        for i in 0..100u32 {
            let values: ArrayRef = Arc::new((0..300u32).map(|n| Some((i * 300 + n) % 250)).collect::<UInt32Array>());
            file.append(vec![Source::Runs(values, &[rows_of_run; 300])], 300 * rows_of_run as usize).expect("written");
        }
        file.finish().expect("a file").0.len()
    };
    let (ten, hundred) = (bytes(10), bytes(100));
    assert!(hundred < ten * 2, "{ten} bytes for runs of 10, {hundred} for runs of 100");
}

#[test]
fn every_page_has_a_checksum() {
    let (file, expected) = write(&[3000, 70, 5000], 11);
    let read = |bytes: Bytes| -> Result<RecordBatch, String> {
        let builder = ParquetRecordBatchReaderBuilder::try_new(bytes).map_err(|e| e.to_string())?;
        let schema = builder.schema().clone();
        let batches: Result<Vec<RecordBatch>, _> = builder.build().map_err(|e| e.to_string())?.collect();
        concat_batches(&schema, &batches.map_err(|e| e.to_string())?).map_err(|e| e.to_string())
    };
    check(&read(file.clone()).expect("as it was written"), &expected);
    let options = ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Required);
    let about = ParquetRecordBatchReaderBuilder::try_new_with_options(file.clone(), options).expect("a file");
    let about = about.metadata();
    let mut pages = 0;
    for (i, group) in about.row_groups().iter().enumerate() {
        let index = about.page_index_for_row_group(i);
        for (leaf, chunk) in group.columns().iter().enumerate() {
            let index = index.offset_index(leaf).expect("an index");
            // The last byte of each page is of its body; that of a dictionary stands before the first.
            let ends = index.page_locations().iter().map(|p| p.offset + i64::from(p.compressed_page_size));
            let dictionary = chunk.dictionary_page_offset().map(|_| chunk.data_page_offset());
            for end in ends.chain(dictionary) {
                let mut damaged = file.to_vec();
                damaged[end as usize - 1] ^= 4;
                let error = read(damaged.into()).expect_err("damage");
                assert!(error.contains("CRC"), "{}: {error}", chunk.column_path());
                pages += 1;
            }
        }
    }
    assert!(pages > 20, "{pages}");
}

#[test]
fn rows_that_are_not_of_the_schema_are_refused() {
    let field = |name: &str, kind: DataType, nullable| Field::new(name, kind, nullable);
    let schema = Arc::new(Schema::new(vec![field("a", DataType::UInt32, false), field("b", DataType::Int64, true)]));
    let rows = |columns: Vec<(&str, ArrayRef)>| RecordBatch::try_from_iter(columns).expect("a batch");
    let a: ArrayRef = Arc::new(UInt32Array::from(vec![1, 2]));
    let b: ArrayRef = Arc::new(Int64Array::from(vec![None, Some(3)]));
    let lacking: ArrayRef = Arc::new(UInt32Array::from(vec![None, Some(2)]));
    let mut file = ParquetFile::create(Vec::new(), &schema).expect("a file");
    for wrong in [
        rows(vec![("a", a.clone())]),
        rows(vec![("a", b.clone()), ("b", b.clone())]),
        rows(vec![("a", lacking), ("b", b.clone())]),
        rows(vec![("a", a.clone()), ("b", b.clone()), ("c", b.clone())]),
    ] {
        let refused = file.write(&wrong).expect_err("other columns");
        assert_eq!(refused.kind(), std::io::ErrorKind::InvalidInput, "{wrong:?}");
    }
    file.write(&rows(vec![("a", a.clone()), ("b", b.clone())])).expect("written");
    let bytes = Bytes::from(file.into_inner().expect("whole"));
    let mut read = ParquetRecordBatchReaderBuilder::try_new(bytes).expect("Parquet").build().expect("a reader");
    let read = read.next().expect("a batch").expect("rows");
    assert_eq!((read.column(0), read.column(1)), (&a, &b));
}

#[test]
fn columns_without_a_value_say_so_in_their_statistics() {
    let schema = Arc::new(Schema::new(
        schema().fields().iter().map(|f| f.as_ref().clone().with_nullable(true)).collect::<Vec<_>>(),
    ));
    let mut file = ParquetFile::create(Vec::new(), &schema).expect("a file");
    let columns = schema.fields().iter().map(|f| new_null_array(f.data_type(), 700)).collect();
    file.write(&RecordBatch::try_new(schema.clone(), columns).expect("a batch")).expect("written");
    let sources = schema.fields().iter().map(|_| Source::Absent).collect();
    file.append(sources, 70_000).expect("written");
    let bytes = Bytes::from(file.into_inner().expect("a file"));
    let builder = ParquetRecordBatchReaderBuilder::try_new(bytes).expect("Parquet");
    for chunk in builder.metadata().row_group(0).columns() {
        let statistics = chunk.statistics().unwrap_or_else(|| panic!("{} says nothing", chunk.column_path()));
        let said = (statistics.null_count_opt(), statistics.min_bytes_opt(), statistics.max_bytes_opt());
        assert_eq!(said, (Some(70_700), None, None), "{}", chunk.column_path());
    }
    assert!(
        builder.build().expect("a reader").all(|rows| rows
            .expect("rows")
            .columns()
            .iter()
            .all(|c| c.null_count() == c.len()))
    );
}
