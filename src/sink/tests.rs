//! Batches for the tests of all sinks.

use super::{FileSchema, Folder, Format, LastingFile, Line, LostRows, Writer};
use crate::columns::{Batch, Timestamp};
use crate::decode::{Config, Decoder};
use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type, TimestampMicrosecondType, UInt8Type, UInt32Type};
use arrow_array::{Array, RecordBatch};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use std::path::Path;
use std::sync::Arc;

/// One v5 record.
pub(super) fn v5_batch() -> Batch {
    one(&v5_datagram())
}

fn v5_datagram() -> Vec<u8> {
    let mut datagram = vec![0, 5, 0, 1, 0, 0, 39, 16, 101, 83, 241, 0, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0];
    datagram.extend([192, 0, 2, 1, 198, 51, 100, 2, 0, 0, 0, 0, 0, 1, 0, 2, 0, 0, 0, 3, 0, 0, 5, 220]);
    datagram.extend([0, 0, 39, 0, 0, 0, 39, 15, 0, 80, 1, 187, 0, 18, 6, 0, 0, 0, 0, 0, 24, 24, 0, 0]);
    datagram
}

/// An IPFIX record with both families, IPv6 first, and an element nobody knows.
pub(super) fn both_families() -> Batch {
    one(&ipfix_datagram())
}

fn ipfix_datagram() -> Vec<u8> {
    let mut datagram = vec![0, 10, 0, 0, 101, 83, 241, 0, 0, 0, 0, 1, 0, 0, 0, 9];
    datagram.extend([0, 2, 0, 28, 1, 0, 0, 5]);
    for (id, len) in [(27u16, 16u16), (28, 16), (8, 4), (12, 4), (12345, 2)] {
        datagram.extend(id.to_be_bytes());
        datagram.extend(len.to_be_bytes());
    }
    datagram.extend([1, 0, 0, 46, 0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    datagram.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
    datagram.extend([192, 0, 2, 1, 198, 51, 100, 2, 1, 2]);
    let length = datagram.len() as u16;
    datagram[2..4].copy_from_slice(&length.to_be_bytes());
    datagram
}

fn one(datagram: &[u8]) -> Batch {
    let mut decoder = Decoder::new(Config::default());
    let exporter = "203.0.113.9:2055".parse().expect("an address");
    let outcome = decoder.decode(datagram, exporter, Timestamp(1_700_000_000_000_000));
    assert_eq!((outcome.records, outcome.error), (1, None));
    decoder.flush().pop().expect("a batch")
}

/// A folder of the test's own, removed at the end.
struct Scratch(std::path::PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("flowlane-sink-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a folder");
        Self(path)
    }

    fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.0).expect("a folder");
        let mut names: Vec<String> =
            entries.map(|e| e.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    fn lines(&self, name: &str) -> usize {
        std::fs::read_to_string(self.0.join(name)).expect("text").lines().count()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn read_parquet(path: &Path) -> RecordBatch {
    let file = std::fs::File::open(path).expect("the file");
    let builder = ParquetRecordBatchReaderBuilder::try_new(file).expect("parquet");
    let version = builder.metadata().file_metadata().key_value_metadata().expect("metadata").iter();
    assert!(version.clone().any(|kv| kv.key == "flowlane.schema_version" && kv.value.as_deref() == Some("1")));
    let batches: Vec<RecordBatch> = builder.build().expect("a reader").map(|b| b.expect("rows")).collect();
    arrow_select::concat::concat_batches(&batches[0].schema(), &batches).expect("one schema")
}

#[test]
fn parquet_of_two_layouts_reads_back() {
    let scratch = Scratch::new("parquet");
    let path = scratch.0.join("flows.parquet");
    let mut writer = Writer::to_file(Format::Parquet, &path).expect("a file");
    for batch in [v5_batch(), both_families()].map(Arc::new) {
        writer.write(&batch, batch.runs()).expect("written");
    }
    assert_eq!(scratch.names(), [".flows.parquet.tmp"]);
    writer.finish().expect("finished");
    assert_eq!(scratch.names(), ["flows.parquet"]);
    let rows = read_parquet(&path);
    let names: Vec<String> = rows.schema().fields().iter().map(|f| f.name().clone()).collect();
    let schema: Vec<&str> = super::schema::SCHEMA.iter().map(|c| c.name).chain(["x_12345", "extras"]).collect();
    assert_eq!(names, schema);
    let column = |name: &str| rows.column_by_name(name).expect("a column").clone();
    let ip4 = column("src_ip4");
    assert_eq!(ip4.as_primitive::<UInt32Type>().values(), &[0xc000_0201, 0xc000_0201]);
    let ip6 = column("src_ip6");
    assert!(ip6.is_null(0) && ip6.is_valid(1));
    let bytes = column("bytes");
    assert_eq!((bytes.as_primitive::<Int64Type>().value(0), bytes.is_null(1)), (1500, true));
    let received = column("time_received");
    assert_eq!(received.as_primitive::<TimestampMicrosecondType>().value(1), 1_700_000_000_000_000);
    let exporter = arrow_select::take::take(
        column("exporter").as_dictionary::<Int32Type>().values(),
        column("exporter").as_dictionary::<Int32Type>().keys(),
        None,
    );
    assert_eq!(exporter.expect("texts").as_string::<i32>().value(1), "203.0.113.9");
    assert!(column("extras").is_null(1), "it has a column of its own");
    assert_eq!(column("x_12345").as_binary::<i32>().value(1), [1, 2]);
}

#[test]
fn extras_that_come_late_go_to_the_map() {
    let first = v5_batch();
    let schema = FileSchema::new([&first], false);
    let late = Arc::new(both_families());
    let rows = schema.expand(&late, late.runs()).expect("rows");
    let map = rows.column_by_name("extras").expect("the map").as_map().value(0);
    assert_eq!(map.column(0).as_string::<i32>().value(0), "12345");
    assert_eq!(map.column(1).as_string::<i32>().value(0), "0102");
}

#[test]
fn rows_of_several_layouts_keep_the_order_of_the_wire() {
    let scratch = Scratch::new("order");
    let mut decoder = Decoder::new(Config::default());
    let exporter = "203.0.113.9:2055".parse().expect("an address");
    for datagram in [v5_datagram(), ipfix_datagram(), v5_datagram(), ipfix_datagram()] {
        decoder.decode(&datagram, exporter, Timestamp(1_700_000_000_000_000));
    }
    let batches: Vec<Arc<Batch>> = decoder.flush().into_iter().map(Arc::new).collect();
    assert_eq!(batches.len(), 2);
    let path = scratch.0.join("flows.parquet");
    let mut writer = Writer::to_file(Format::Parquet, &path).expect("a file");
    writer.write_ordered(&batches).expect("written");
    writer.finish().expect("finished");
    let versions = read_parquet(&path).column_by_name("version").expect("a column").clone();
    assert_eq!(versions.as_primitive::<UInt8Type>().values(), &[5, 10, 5, 10]);
    let path = scratch.0.join("flows.ndjson");
    let mut writer = Writer::to_file(Format::Ndjson, &path).expect("a file");
    writer.write_ordered(&batches).expect("written");
    writer.finish().expect("finished");
    let text = std::fs::read_to_string(&path).expect("text");
    let versions: Vec<i64> = text
        .lines()
        .filter_map(|l| serde_json::from_str::<serde_json::Value>(l).expect("an object")["version"].as_i64())
        .collect();
    assert_eq!(versions, [5, 10, 5, 10]);
}

#[test]
fn arrow_files_read_back() {
    let scratch = Scratch::new("arrow");
    let path = scratch.0.join("flows.arrow");
    let mut writer = Writer::to_file(Format::Arrow, &path).expect("a file");
    for batch in [v5_batch(), both_families()].map(Arc::new) {
        writer.write(&batch, batch.runs()).expect("written");
    }
    writer.finish().expect("finished");
    let reader = arrow_ipc::reader::FileReader::try_new(std::fs::File::open(&path).expect("the file"), None);
    let rows: usize = reader.expect("an Arrow file").map(|b| b.expect("rows").num_rows()).sum();
    assert_eq!(rows, 2);
}

#[test]
fn an_unfinished_file_does_not_stay() {
    let scratch = Scratch::new("unfinished");
    let mut writer = Writer::to_file(Format::Csv, &scratch.0.join("flows.csv")).expect("a file");
    let batch = Arc::new(v5_batch());
    writer.write(&batch, batch.runs()).expect("written");
    drop(writer);
    assert!(scratch.names().is_empty());
}

#[test]
fn a_folder_is_cut_by_the_time_received() {
    let scratch = Scratch::new("folder");
    let minute = 60_000_000;
    let mut decoder = Decoder::new(Config { batch_age_us: 60 * minute, ..Config::default() });
    let exporter = "203.0.113.9:2055".parse().expect("an address");
    let start = 1_700_000_000_000_000 / (60 * minute) * 60 * minute;
    for at in [1, 2, 6] {
        decoder.decode(&v5_datagram(), exporter, Timestamp(start + at * minute));
    }
    let batch = Arc::new(decoder.flush().pop().expect("one layout"));
    let mut folder = Folder::open(&scratch.0, None, Format::Ndjson, 5 * minute).expect("a folder");
    folder.write(&batch).expect("written");
    folder.tick(start + 6 * minute).expect("the first is over");
    assert_eq!(scratch.names(), [".20231114T220500Z.ndjson.tmp", "20231114T220000Z.ndjson"]);
    // What comes after its file was finished goes to another.
    folder.write(&batch).expect("written");
    folder.finish().expect("finished");
    let names = ["20231114T220000Z-2.ndjson", "20231114T220000Z.ndjson", "20231114T220500Z.ndjson"];
    assert_eq!(scratch.names(), names);
    assert_eq!(names.map(|name| scratch.lines(name)), [2, 2, 2]);
}

/// A batch of one row for each of so many stretches of a minute.
fn minutes(n: i64) -> Arc<Batch> {
    let mut decoder = Decoder::new(Config { batch_age_us: 3_600_000_000, ..Config::default() });
    let exporter = "203.0.113.9:2055".parse().expect("an address");
    for minute in 0..n {
        decoder.decode(&v5_datagram(), exporter, Timestamp(TEN_PAST_TEN + minute * 60_000_000));
    }
    Arc::new(decoder.flush().pop().expect("one layout"))
}

const TEN_PAST_TEN: i64 = 1_699_999_800_000_000;

#[test]
fn a_batch_over_more_stretches_than_may_be_open_leaves_no_empty_file() {
    let scratch = Scratch::new("stretches");
    let mut folder = Folder::open(&scratch.0, None, Format::Ndjson, 60_000_000).expect("a folder");
    folder.write(&minutes(10)).expect("written");
    folder.finish().expect("finished");
    let names: Vec<String> = (10..20).map(|minute| format!("20231114T22{minute}00Z.ndjson")).collect();
    assert_eq!(scratch.names(), names);
    assert!(names.iter().all(|name| scratch.lines(name) == 1));
}

#[test]
fn a_stretch_that_cannot_be_opened_after_rows_were_taken_is_told_of() {
    let scratch = Scratch::new("torn");
    let mut folder = Folder::open(&scratch.0, None, Format::Ndjson, 60_000_000).expect("a folder");
    // The name that the ninth file has until it is whole is a folder's.
    let in_the_way = scratch.0.join(".20231114T221800Z.ndjson.tmp");
    std::fs::create_dir(&in_the_way).expect("a folder");
    folder.write(&minutes(10)).expect("taken as far as it goes");
    assert_eq!(folder.lost().take().into_values().sum::<u64>(), 2, "the two rows that are left");
    assert!(folder.tick(0).is_err(), "and it is said");
    folder.tick(0).expect("once");
    drop(folder);
    // Of one that needs no more than may be open, nothing is taken.
    let mut folder = Folder::open(&scratch.0, None, Format::Ndjson, 60_000_000).expect("a folder");
    let exporter = "203.0.113.9".parse().expect("an address");
    let line = |minute: i64| Line { received_us: TEN_PAST_TEN + minute * 60_000_000, exporter, bytes: 3 };
    assert!(folder.write_lines(b"{}\n{}\n", &[line(7), line(8)]).is_err());
    std::fs::remove_dir(&in_the_way).expect("removed");
    folder.write_lines(b"{}\n{}\n{}\n", &[line(7), line(7), line(8)]).expect("taken");
    folder.finish().expect("finished");
    assert_eq!(scratch.lines("20231114T221700Z.ndjson"), 2, "a line of what was not taken");
    assert_eq!(scratch.lines("20231114T221800Z.ndjson"), 1);
}

#[test]
fn what_a_killed_process_left_is_kept_up_to_its_last_whole_line() {
    let scratch = Scratch::new("left");
    let left = |node, format| {
        let said = Folder::open(&scratch.0, node, format, 60_000_000).expect("a folder").keep_left().expect("kept");
        assert!(!scratch.names().iter().any(|name| name.ends_with(".tmp") || name.ends_with(".new")));
        said
    };
    let write = |name: &str, bytes: &[u8]| std::fs::write(scratch.0.join(name), bytes).expect("written");
    let text = |name: &str| std::fs::read_to_string(scratch.0.join(name)).expect("text");
    // Beside a file that has the name already.
    write("20231114T220000Z.ndjson", b"{}\n");
    let long = "x".repeat(200_000);
    write(".20231114T220000Z.ndjson.tmp", format!("{{\"a\":1}}\n{{\"b\":\"{long}").as_bytes());
    assert_eq!(left(None, Format::Ndjson).len(), 1);
    assert_eq!(text("20231114T220000Z.ndjson"), "{}\n");
    assert_eq!(text("20231114T220000Z-2.ndjson"), "{\"a\":1}\n");
    // Of a node alone; what is another's stays.
    write(".a-20231114T220000Z-3.ndjson.tmp", b"1\n2\n");
    left(Some("a"), Format::Ndjson);
    assert_eq!(text("a-20231114T220000Z.ndjson"), "1\n2\n");
    for other in [".b-20231114T220000Z.ndjson.tmp", ".20231114T2200Z.ndjson.tmp", ".20231114T220000Z.csv.tmp"] {
        write(other, b"1\n");
        let folder = Folder::open(&scratch.0, Some("a"), Format::Ndjson, 60_000_000).expect("a folder");
        assert_eq!(folder.keep_left().expect("none"), Vec::<String>::new());
        assert!(scratch.0.join(other).exists());
        std::fs::remove_file(scratch.0.join(other)).expect("removed");
    }
    // A header is no row.
    write(".20231114T220000Z.csv.tmp", b"a,b\n1");
    assert_eq!(left(None, Format::Csv), Vec::<String>::new());
    write(".20231114T220000Z.csv.tmp", b"a,b\n1,2\n3");
    assert_eq!(left(None, Format::Csv).len(), 1);
    assert_eq!(text("20231114T220000Z.csv"), "a,b\n1,2\n");
    // A line's end inside of quotes ends no line.
    write(".20231114T220100Z.csv.tmp", b"a,b\n1,\"x\ny\"\n2,\"z\nnot whole");
    assert_eq!(left(None, Format::Csv).len(), 1);
    assert_eq!(text("20231114T220100Z.csv"), "a,b\n1,\"x\ny\"\n");
    // Compressed.
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut gzip, b"{\"a\":1}\n{\"b\"").expect("written");
    std::io::Write::flush(&mut gzip).expect("flushed");
    write(".20231114T220000Z.gz.tmp", gzip.get_ref());
    assert_eq!(left(None, Format::NetflowJson).len(), 1);
    let file = std::fs::File::open(scratch.0.join("20231114T220000Z.gz")).expect("a file");
    let whole = std::io::read_to_string(flate2::read::GzDecoder::new(file)).expect("a whole one");
    assert_eq!(whole, "{\"a\":1}\n");
    // What has no end is kept as what it is.
    write(".20231114T220000Z.arrow.tmp", b"ARROW1\0\0 and rows");
    let said = left(None, Format::Arrow).concat();
    assert!(said.contains("20231114T220000Z.arrow.partial: without its end"), "{said}");
    assert_eq!(text("20231114T220000Z.arrow.partial"), "ARROW1\0\0 and rows");
    // But for one that was only begun.
    write(".20231114T220100Z.parquet.tmp", b"PAR1");
    assert_eq!(left(None, Format::Parquet), Vec::<String>::new());
    // Of a single file, too.
    write(".one.parquet.tmp", b"PAR1 and rows");
    let said = LastingFile::keep_left(Format::Parquet, &scratch.0.join("one.parquet")).expect("kept").expect("said");
    assert!(said.contains("one.parquet.partial: without its end"), "{said}");
}

#[test]
fn a_file_by_a_link_is_opened_once() {
    let scratch = Scratch::new("link");
    let path = |name: &str| scratch.0.join(name);
    for (link, to) in [("lock", "elsewhere"), (".flows.ndjson.tmp", "there")] {
        std::os::unix::fs::symlink(path(to), path(link)).expect("a link");
    }
    let mut lock = super::Lock::take(path("lock"), "taken".to_string()).expect("the lock");
    assert!(!lock.renew().expect("held"));
    super::Lock::take(path("elsewhere"), "taken".to_string()).expect_err("the same file");
    let mut file = LastingFile::create(Format::Ndjson, &path("flows.ndjson"), LostRows::default()).expect("a file");
    file.write_text(b"{}\n", &[]).expect("taken");
    file.finish().expect("whole");
}

#[test]
fn a_file_that_another_process_writes_is_not_cut_off() {
    let scratch = Scratch::new("twice");
    let path = scratch.0.join("flows.ndjson");
    let mut first = LastingFile::create(Format::Ndjson, &path, LostRows::default()).expect("a file");
    first.write_text(b"{}\n", &[]).expect("taken");
    first.flush().expect("written");
    let refused = LastingFile::create(Format::Ndjson, &path, LostRows::default()).expect_err("refused");
    assert_eq!(refused.kind(), std::io::ErrorKind::WouldBlock);
    let refused = LastingFile::keep_left(Format::Ndjson, &path).expect_err("refused");
    assert_eq!(refused.kind(), std::io::ErrorKind::WouldBlock);
    first.finish().expect("whole");
    assert_eq!(scratch.lines("flows.ndjson"), 1);
}

#[test]
fn a_table_shows_both_ends() {
    let batch = v5_batch();
    let mut out = Vec::new();
    let mut table = super::table::Table::new();
    table.push(&batch, &batch.runs()[0], &mut out).expect("room");
    table.flush(&mut out).expect("room");
    let text = String::from_utf8(out).expect("text");
    assert!(text.starts_with("start") && text.contains("192.0.2.1:80") && text.contains("TCP"), "{text}");
}
