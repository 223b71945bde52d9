use super::*;
use crate::columns::Timestamp;
use crate::decode::{Config, Decoder};
use crate::sink::{Format, Writer};
use arrow_array::RecordBatch;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A folder of the test's own, removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("flowlane-query-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).expect("a folder");
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn ipfix(set: u16, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, 10];
    bytes.extend((20 + body.len() as u16).to_be_bytes());
    bytes.extend([0x65, 0x53, 0xf1, 0, 0, 0, 0, 0, 0, 0, 0, 7]);
    bytes.extend(set.to_be_bytes());
    bytes.extend((4 + body.len() as u16).to_be_bytes());
    [&bytes, body].concat()
}

fn template(id: u16, fields: &[(u16, u16)]) -> Vec<u8> {
    let words = [id, fields.len() as u16].into_iter().chain(fields.iter().flat_map(|f| [f.0, f.1]));
    ipfix(2, &words.flat_map(u16::to_be_bytes).collect::<Vec<u8>>())
}

/// Four flows: three of IPv4, of which the second has no ports, and one of IPv6.
fn write(path: &Path) {
    let mut decoder = Decoder::new(Config::default());
    let v4 = [(8, 4), (12, 4), (4, 1), (7, 2), (11, 2), (6, 2), (1, 4), (2, 4)];
    let no_ports = [(8, 4), (12, 4), (4, 1), (1, 4), (2, 4)];
    let v6 = [(27, 16), (28, 16), (4, 1), (7, 2), (11, 2), (1, 4), (2, 4)];
    let number = |n: u32| n.to_be_bytes().to_vec();
    let ports = |a: u16, b: u16| [a.to_be_bytes(), b.to_be_bytes()].concat();
    let (a, b) = ([192, 0, 2, 1], [198, 51, 100, 2]);
    let a6: Vec<u8> = [&[0x20, 1, 0xd, 0xb8][..], &[0; 11], &[1]].concat();
    let first = [&a[..], &b, &[6], &ports(50_000, 443), &[0, 0x12], &number(1000), &number(10)].concat();
    let third = [&b[..], &a, &[17], &ports(53, 40_000), &[0, 0], &number(300), &number(2)].concat();
    let second = [&a[..], &a, &[1], &number(70), &number(1)].concat();
    let fourth = [&a6[..], &a6, &[6], &ports(443, 50_001), &number(5000), &number(7)].concat();
    let messages = [
        template(300, &v4),
        template(301, &no_ports),
        template(302, &v6),
        ipfix(300, &first),
        ipfix(301, &second),
        ipfix(300, &third),
        ipfix(302, &fourth),
    ];
    for message in messages {
        let outcome =
            decoder.decode(&message, SocketAddr::from(([10, 0, 0, 1], 4739)), Timestamp(1_700_000_000_000_000));
        assert_eq!(outcome.error, None);
    }
    flush(&mut decoder, path);
}

/// Writes what was decoded to a file.
fn flush(decoder: &mut Decoder, path: &Path) {
    let batches: Vec<_> = decoder.flush().into_iter().map(Arc::new).collect();
    let is_arrow = path.extension().is_some_and(|e| e == "arrow");
    let format = if is_arrow { Format::Arrow } else { Format::Parquet };
    let mut writer = Writer::to_file(format, path).expect("a file");
    writer.write_ordered(&batches).expect("written");
    writer.finish().expect("finished");
}

/// A question to the files of a folder, on two threads.
fn question(folder: &Path, filter: &str) -> Scan {
    Scan {
        inputs: inputs(folder).expect("a path"),
        filter: Filter::parse(filter, 0).expect("a filter"),
        columns: Vec::new(),
        threads: 2,
        watch: Watch::default(),
    }
}

fn scan(path: &Path, filter: &str, columns: &[&str]) -> (Vec<Vec<String>>, ScanStats) {
    let scan = Scan {
        inputs: inputs(path).expect("a path"),
        filter: Filter::parse(filter, 1_700_000_100_000_000).unwrap_or_else(|e| panic!("{e}")),
        columns: columns.iter().flat_map(|c| columns_of(c)).collect(),
        threads: 1,
        watch: Watch::default(),
    };
    let mut all = Vec::new();
    let add = |rows: &mut Vec<Vec<String>>, batch: &RecordBatch, chosen: &arrow_buffer::BooleanBuffer| {
        let row = |row| columns.iter().map(|c| text(batch, c, row).unwrap_or_default()).collect();
        rows.extend(chosen.set_indices().map(row));
        true
    };
    let stats = scan.run(Vec::new, add, |rows| all.extend(rows));
    (all, stats)
}

#[test]
fn filters_of_every_kind() {
    let scratch = Scratch::new("filters");
    write(&scratch.0.join("flows.parquet"));
    // Which of the four flows, by their bytes.
    for (filter, expected) in [
        ("", &[1000, 70, 300, 5000][..]),
        ("proto tcp", &[1000, 5000]),
        ("proto = tcp and dst port 443", &[1000]),
        ("port https", &[1000, 5000]),
        ("port 443 dst_port = 443", &[1000]),
        ("port in [53 443]", &[1000, 300, 5000]),
        ("dst_port in 40000..50000, 50001", &[300, 5000]),
        // What has no port is neither in nor out.
        ("not port 443", &[300]),
        ("src_port is absent", &[70]),
        ("src_port is present and not proto udp", &[1000, 5000]),
        ("src net 192.0.2/24", &[1000, 70]),
        ("net 192.0.2.0/24", &[1000, 70, 300]),
        ("not host 192.0.2.1", &[5000]),
        ("src_addr in 198.51.100.0/24, 2001:db8::/32", &[300, 5000]),
        ("src_addr != 2001:db8::1", &[1000, 70, 300]),
        ("ipv6", &[5000]),
        ("bytes > 1k or packets < 2", &[70, 5000]),
        ("bytes >= 1K and bytes <= 5k", &[1000, 5000]),
        ("bytes 300", &[300]),
        ("flags SA", &[1000]),
        ("flags = 0x12", &[1000]),
        // By letter they are among others, as values they are all.
        ("flags S, F", &[1000]),
        ("flags = S", &[]),
        ("flags != S and flags is present", &[1000, 300]),
        ("flags = AS", &[1000]),
        ("flags in S, F", &[]),
        ("flags in F, SA", &[1000]),
        ("flags in F, 0x12", &[1000]),
        ("flags not in F, SA", &[300]),
        ("flags > 2", &[1000]),
        ("flags X", &[]),
        // None of them, wherever the not stands; two are none.
        ("not flags X", &[300]),
        ("not flags AF", &[300]),
        ("not not flags SA", &[1000]),
        ("not (flags SF and proto tcp)", &[70, 300]),
        ("not (not flags SA or proto udp)", &[1000]),
        ("exporter in 10.0.0.0/8", &[1000, 70, 300, 5000]),
        ("router ip 10.0.0.0/31 and not exporter 10.0.0.1/32", &[]),
        ("exporter != 10.0.0.2", &[1000, 70, 300, 5000]),
        ("exporter 2001:db8::/32", &[]),
        ("engine-type 0 and engine-id 7", &[1000, 70, 300, 5000]),
        ("engine-type 1 or engine-id 8", &[]),
        ("observation domain id 7", &[1000, 70, 300, 5000]),
        ("sampling_rate in 2..3", &[]),
        ("bytes > 0xffffffffffffffff", &[]),
        ("time >= \"2023-11-14 22:00\"", &[1000, 70, 300, 5000]),
        ("flags S and not flags F", &[1000]),
        ("last 2m", &[1000, 70, 300, 5000]),
        ("last 1m", &[]),
        ("time > 2023-11-14T22:13", &[]),
        ("time >= 2023-11-14 and time < 2023-11-15", &[1000, 70, 300, 5000]),
        ("time 2023-11-14T22:13:20", &[1000, 70, 300, 5000]),
        ("exporter = 10.0.0.1", &[1000, 70, 300, 5000]),
        ("router ip 10.0.0.2", &[]),
        ("version 10 and (proto icmp or proto udp)", &[70, 300]),
        ("sampling_rate > 1.5", &[]),
        ("vni is present", &[]),
        ("not (proto tcp) && !(proto 17)", &[70]),
    ] {
        let (rows, stats) = scan(&scratch.0, filter, &["bytes"]);
        let mut found: Vec<u32> = rows.iter().map(|r| r[0].parse().expect("a number")).collect();
        let mut expected = expected.to_vec();
        found.sort_unstable();
        expected.sort_unstable();
        assert_eq!(found, expected, "{filter}");
        assert_eq!(stats.matched, expected.len() as u64);
        assert_eq!((stats.groups + stats.pruned, stats.damaged.len()), (1, 0), "{filter}");
    }
    assert_eq!(scan(&scratch.0, "last 1m", &[]).1.pruned, 1, "statistics rule it out");
    assert_eq!(scan(&scratch.0, "not port 443", &[]).1.unknown, 1);
}

#[test]
fn arrow_files_are_read_beside_parquet() {
    let scratch = Scratch::new("arrow");
    write(&scratch.0.join("a.arrow"));
    write(&scratch.0.join("b.parquet"));
    let columns = ["src_addr", "exporter", "bytes"];
    let (rows, stats) = scan(&scratch.0, "proto tcp or bytes < 100", &columns);
    assert_eq!((rows.len(), stats.files, stats.rows, stats.damaged.len()), (6, 2, 8, 0));
    assert_eq!(rows[..3], rows[3..]);
    assert_eq!(scan(&scratch.0.join("a.arrow"), "", &columns).0.len(), 4);
    let whole = std::fs::read(scratch.0.join("a.arrow")).expect("bytes");
    std::fs::write(scratch.0.join("a.arrow"), &whole[..whole.len() - 30]).expect("cut");
    let (rows, stats) = scan(&scratch.0, "", &columns);
    assert_eq!((rows.len(), stats.damaged.len()), (4, 1));
}

#[test]
fn errors_point_at_the_place() {
    for (filter, at, expected) in [
        ("proto tpc", 6, "tcp"),
        ("src", 3, "ip, net"),
        ("bytes >", 7, "a number"),
        ("(proto tcp", 10, ")"),
        ("proto tcp)", 9, "the end"),
        ("port 70000", 5, "65535"),
        ("adr 1.2.3.4", 0, "a column"),
        ("net 10.0.0.0/33", 4, "prefix"),
        ("src_addr < 10.0.0.1", 9, "no order"),
        ("last week", 5, "1h"),
        ("port in [1, 2", 13, "end of the list"),
        ("app_name = \"x", 13, "closing"),
        ("time > yesterday", 7, "a time"),
        ("flags XY", 6, "letter"),
        ("exporter = router.example", 11, "an address"),
        ("dst_port in 2048..1024", 12, "lesser to the greater"),
        ("sampling_rate in 3..2", 17, "lesser to the greater"),
        ("time 2026-11-25..2026-11-24", 5, "lesser to the greater"),
        ("flowId in 9..8", 10, "lesser to the greater"),
        ("sysid 3", 0, "exporter = ADDRESS"),
        ("mpls label0 5", 0, "a column"),
        ("bytes > 0x7fffffffffffffffffffffffffffffff", 8, "a number"),
        ("bytes > -170141183460469231731687303715884105728", 8, "a number"),
        ("and", 0, "a column"),
    ] {
        let error = Filter::parse(filter, 0).expect_err(filter);
        assert_eq!(error.offset, at, "{filter}: {error}");
        assert!(error.expected.contains(expected), "{filter}: {error}");
    }
    let deep = "(".repeat(5000);
    assert!(Filter::parse(&deep, 0).is_err());
    let long = "any ".repeat(30_000);
    assert!(Filter::parse(&long, 0).expect_err("long").expected.contains("1000 tests"));
    assert!(Filter::parse(&"any ".repeat(1000), 0).is_ok());
}

#[test]
fn sums_by_any_key() {
    let scratch = Scratch::new("top");
    write(&scratch.0.join("flows.parquet"));
    let top = |keys: &[&str], filter: &str, groups: usize| {
        let options =
            TopOptions { keys: keys.iter().map(ToString::to_string).collect(), groups, ..TopOptions::default() };
        let scan = Scan { columns: Top::new(options.clone()).columns(), ..question(&scratch.0, filter) };
        let first = Top::new(options);
        let mut all = first.another();
        let add = |top: &mut Top, batch: &RecordBatch, chosen: &arrow_buffer::BooleanBuffer| {
            top.add(batch, chosen);
            true
        };
        scan.run(|| first.another(), add, |part| all.merge(part));
        all
    };
    let shown = |top: &mut Top, n| -> Vec<(String, i128)> {
        let (first, _) = top.finish(Metric::Bytes, n);
        first.into_iter().map(|(keys, row)| (keys.join(" "), row.bytes)).collect()
    };
    let mut by_source = top(&["src_addr"], "", 100);
    let expected = [("2001:db8::1", 5000), ("192.0.2.1", 1070), ("198.51.100.2", 300)];
    assert_eq!(shown(&mut by_source, 10), expected.map(|(k, n)| (k.to_string(), n)));
    assert_eq!(by_source.finish(Metric::Bytes, 1).1.expect("others").bytes, 1370);
    assert_eq!((by_source.total().bytes, by_source.total().packets, by_source.total().flows), (6370, 20, 4));
    // Either direction: the flow from an address to itself counts once, and the total has each flow once.
    let mut both = top(&["addr"], "proto != 58", 100);
    let expected = [("2001:db8::1", 5000), ("192.0.2.1", 1370), ("198.51.100.2", 1300)];
    assert_eq!(shown(&mut both, 10), expected.map(|(k, n)| (k.to_string(), n)));
    assert_eq!(both.total().bytes, 6370);
    let mut several = top(&["proto", "dst_port"], "", 100);
    let expected = [("tcp 50001", 5000), ("tcp 443", 1000), ("udp 40000", 300), ("icmp ", 70)];
    assert_eq!(shown(&mut several, 10), expected.map(|(k, n)| (k.to_string(), n)));
    assert_eq!(several.finish(Metric::Bpp, 1).0[0].0, ["tcp", "50001"]);
    // Keys of more words than a layout has, and columns that are no whole numbers.
    let mut wide = top(&["src_addr", "dst_addr", "next_hop", "bgp_next_hop", "nat_src_addr", "sampling_rate"], "", 100);
    assert_eq!(wide.finish(Metric::Bytes, 1).0[0].0, ["2001:db8::1", "2001:db8::1", "", "", "", ""]);
    let mut spans = top(&["duration_ms", "exporter", "counters_are_total", "src_ip4"], "proto tcp", 100);
    assert_eq!(spans.finish(Metric::Bytes, 2).0[1].0, ["", "10.0.0.1", "0", "192.0.2.1"]);
    // Memory for fewer groups than there are: the same answer, by way of a file.
    for keys in [&["src_addr"][..], &["exporter", "proto"], &["addr"], &["duration_ms", "src_addr"]] {
        let (mut whole, mut bounded) = (top(keys, "", 100), top(keys, "", 1));
        assert!(bounded.spilled() && !whole.spilled());
        assert_eq!(bounded.finish(Metric::Bytes, 2), whole.finish(Metric::Bytes, 2), "{keys:?}");
        assert_eq!((bounded.len(), bounded.total(), bounded.beyond()), (whole.len(), whole.total(), None));
        assert_eq!(bounded.failed(), None);
    }
}

#[test]
fn a_segment_that_is_sealed_meanwhile_is_found_as_its_file() {
    let scratch = Scratch::new("sealed");
    let hour = scratch.0.join("date=2023-11-14/hour=22");
    std::fs::create_dir_all(&hour).expect("a folder");
    write(&hour.join("a-17-0.parquet"));
    let scan = Scan {
        // As it was listed before.
        inputs: vec![Input::Hot(scratch.0.join(".hot/a/17.arrows"))],
        filter: Filter::parse("proto tcp", 0).expect("a filter"),
        columns: Vec::new(),
        threads: 2,
        watch: Watch::default(),
    };
    let stats = scan.run(|| (), |(), _, _| true, |()| {});
    assert_eq!((stats.matched, stats.damaged.len()), (2, 0));
}

#[test]
fn damaged_files_are_named_and_the_others_are_read() {
    let scratch = Scratch::new("damage");
    write(&scratch.0.join("a.parquet"));
    write(&scratch.0.join("b.parquet"));
    let whole = std::fs::read(scratch.0.join("b.parquet")).expect("bytes");
    std::fs::write(scratch.0.join("b.parquet"), &whole[..whole.len() / 2]).expect("cut");
    let (rows, stats) = scan(&scratch.0, "", &["src_addr"]);
    assert_eq!((rows.len(), stats.files, stats.damaged.len()), (4, 2, 1));
}

#[test]
fn what_of_a_damaged_file_is_in_the_answer_is_said() {
    use arrow_array::{Int64Array, UInt16Array};
    let scratch = Scratch::new("damaged-page");
    // Of several pages of ports the last is changed.
    let path = scratch.0.join("a.parquet");
    let ports: UInt16Array = (0..1000u16).map(|i| Some(i.wrapping_mul(7919))).collect();
    let bytes: Int64Array = (0..1000i64).map(Some).collect();
    let columns: [(&str, arrow_array::ArrayRef); 2] = [("src_port", Arc::new(ports)), ("bytes", Arc::new(bytes))];
    let rows = RecordBatch::try_from_iter(columns).expect("a batch");
    let parquet = crate::sink::parquet::ParquetFile::create(Vec::new(), &rows.schema());
    let mut parquet = parquet.expect("a file");
    (0..70).for_each(|_| parquet.write(&rows).expect("written"));
    let mut file = parquet.into_inner().expect("a file");
    std::fs::write(&path, &file).expect("written");
    let all = ["src_port", "bytes"];
    let (whole, stats) = scan(&path, "", &all);
    assert_eq!((whole.len(), stats.groups, stats.damaged.len()), (70_000, 1, 0));
    let about =
        parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(bytes::Bytes::from(file.clone()));
    let about = about.expect("a file").metadata().row_group(0).column(0).byte_range();
    file[(about.0 + about.1) as usize - 1] ^= 1;
    std::fs::write(&path, &file).expect("written");
    let (found, stats) = scan(&path, "", &all);
    let damage = stats.damaged.first().expect("named");
    assert!(!found.is_empty() && found.len() < whole.len() && damage.rows == found.len() as u64, "{damage}");
    assert!(damage.to_string().contains(&format!("{} of its rows are in this answer", found.len())), "{damage}");
    assert!(damage.error.contains("CRC"), "{damage}");
}

#[test]
fn series_of_the_greatest_groups_and_of_the_others() {
    let scratch = Scratch::new("series");
    write(&scratch.0.join("flows.parquet"));
    let ask = |keys: &[&str], n| {
        let scan = question(&scratch.0, "");
        assert_eq!(scan.span(), Some((1_700_000_000_000_000, 1_700_000_000_000_000)));
        let keys = keys.iter().map(ToString::to_string).collect();
        let options = SeriesOptions { keys, at: At::Received, ..SeriesOptions::default() };
        series(&scan, &options, Metric::Bytes, n, 100).0
    };
    let sums = |answer: &Timeline| -> Vec<(String, i128)> {
        answer.groups.iter().map(|line| (line.keys.join(" "), line.sum().bytes)).collect()
    };
    let answer = ask(&["src_addr"], 1);
    assert_eq!(sums(&answer), [("2001:db8::1".to_string(), 5000)]);
    assert_eq!(answer.others.as_ref().map(|line| line.sum().bytes), Some(1370));
    assert_eq!((answer.total.sum().bytes, answer.len()), (6370, 1));
    // Either direction: a flow counts with each of its ends, and once in the total; others are flows of no group.
    let answer = ask(&["addr"], 2);
    assert_eq!(sums(&answer), [("2001:db8::1".to_string(), 5000), ("192.0.2.1".to_string(), 1370)]);
    assert_eq!((answer.others, answer.total.sum().bytes), (None, 6370));
    let answer = ask(&[], 5);
    assert_eq!((answer.groups.len(), answer.total.sum().packets), (0, 20));
}

#[test]
fn rates_over_time_are_of_the_groups_with_the_greatest_rates_over_it() {
    let scratch = Scratch::new("rates");
    let mut decoder = Decoder::new(Config::default());
    let fields = [(8, 4), (12, 4), (1, 4), (2, 4), (152, 8), (153, 8)];
    let flow = |host: u8, bytes: u32, ms: (u64, u64)| {
        let counts = [bytes, 1].map(u32::to_be_bytes).concat();
        let times = [ms.0, ms.1].map(|ms| (1_700_000_000_000 + ms).to_be_bytes()).concat();
        ipfix(300, &[&[10, 0, 0, host, 192, 0, 2, 1][..], &counts, &times].concat())
    };
    // A burst of a millisecond, and much in an hour.
    let messages = [template(300, &fields), flow(1, 1000, (0, 1)), flow(2, 9_000_000, (0, 3_600_000))];
    for message in messages {
        decoder.decode(&message, SocketAddr::from(([10, 0, 0, 1], 4739)), Timestamp(1_700_003_600_000_000));
    }
    flush(&mut decoder, &scratch.0.join("flows.parquet"));
    let scan = Scan { threads: 1, ..question(&scratch.0, "") };
    for metric in [Metric::Bps, Metric::Bytes] {
        let options = SeriesOptions { keys: vec!["src_addr".to_string()], ..SeriesOptions::default() };
        let answer = series(&scan, &options, metric, 1, 100).0;
        assert_eq!(answer.groups[0].keys, ["10.0.0.2"], "{metric:?}");
    }
}

#[test]
fn conversations_in_parts_are_those_in_one() {
    let scratch = Scratch::new("connections");
    let mut decoder = Decoder::new(Config::default());
    let fields = [(8, 4), (12, 4), (4, 1), (7, 2), (11, 2), (1, 4), (2, 4)];
    let mut messages = vec![template(300, &fields)];
    for i in 0u16..200 {
        let (a, b) = ([10, 0, 0, (i % 50) as u8], [192, 0, 2, 1]);
        let port = 1024 + i;
        let counts = [u32::from(i) + 1, 1].map(u32::to_be_bytes).concat();
        let there = [&a[..], &b, &[6], &port.to_be_bytes(), &443u16.to_be_bytes(), &counts].concat();
        let back = [&b[..], &a, &[6], &443u16.to_be_bytes(), &port.to_be_bytes(), &counts].concat();
        messages.push(ipfix(300, &there));
        // Every fourth is not answered.
        messages.extend((i % 4 > 0).then(|| ipfix(300, &back)));
    }
    for message in messages {
        decoder.decode(&message, SocketAddr::from(([10, 0, 0, 1], 4739)), Timestamp(1_700_000_000_000_000));
    }
    flush(&mut decoder, &scratch.0.join("flows.parquet"));
    let ask = |flows| {
        let scan = question(&scratch.0, "");
        let mut found = Vec::new();
        let options = ConnectionOptions { flows, ..ConnectionOptions::default() };
        let outcome = connections(&scan, &options, |c| found.push(c));
        found.sort_by_key(|c| c.client);
        (found, outcome)
    };
    let (whole, outcome) = ask(1000);
    assert_eq!((outcome.joined, outcome.one_way, outcome.scans, outcome.rows), (150, 50, 1, 350));
    assert!(whole.iter().all(|c| c.server.1 == Some(443)));
    assert_eq!(whole.iter().map(|c| c.both().bytes).sum::<i64>(), 20_100 + 15_150);
    let (parts, outcome) = ask(60);
    assert!(outcome.scans > 8, "{}", outcome.scans);
    assert_eq!((outcome.joined, outcome.one_way, outcome.rows), (150, 50, 350));
    assert_eq!(parts, whole);
}

#[test]
fn a_flow_that_several_saw_counts_once() {
    let scratch = Scratch::new("dedup");
    let mut decoder = Decoder::new(Config::default());
    // Addresses, protocol, ports, bytes, packets, direction.
    let fields = [(8, 4), (12, 4), (4, 1), (7, 2), (11, 2), (1, 4), (2, 4), (61, 1)];
    let flow = |port: u16, bytes: u32, direction: u8| {
        let (ports, counts) = ([port, 443].map(u16::to_be_bytes).concat(), [bytes, 1].map(u32::to_be_bytes).concat());
        ipfix(300, &[&[10, 0, 0, 1, 192, 0, 2, 1, 6][..], &ports, &counts, &[direction]].concat())
    };
    let mut send = |exporter: [u8; 4], messages: &[Vec<u8>]| {
        for message in [&[template(300, &fields)], messages].concat() {
            decoder.decode(&message, SocketAddr::from((exporter, 4739)), Timestamp(1_700_000_000_000_000));
        }
    };
    // The first saw 1000 in and out, the second a little less of it, and another flow alone.
    send([10, 1, 0, 1], &[flow(5000, 1000, 0), flow(5000, 1000, 1)]);
    send([10, 1, 0, 2], &[flow(5000, 900, 0), flow(5001, 70, 0)]);
    flush(&mut decoder, &scratch.0.join("flows.parquet"));
    let bytes = |exporter, direction, filter: &str| {
        let mut scan = Scan { threads: 1, ..question(&scratch.0, filter) };
        // As few in memory as can be.
        let duplicates = Duplicates::find(&scan, DedupBy { exporter, direction }, 1);
        scan.filter = scan.filter.without(duplicates);
        series(&scan, &SeriesOptions::default(), Metric::Bytes, 0, 0).0.total.sum().bytes
    };
    assert_eq!(bytes(false, false, ""), 2970);
    assert_eq!(bytes(true, false, ""), 2070);
    assert_eq!(bytes(false, true, ""), 1970);
    assert_eq!(bytes(true, true, ""), 1070);
    // Among those for which the filter holds.
    assert_eq!(bytes(true, true, "exporter = 10.1.0.2"), 970);
}

#[test]
fn types_and_codes_of_icmp_tell_flows_apart() {
    let scratch = Scratch::new("dedup-icmp");
    let mut decoder = Decoder::new(Config::default());
    // Addresses, protocol, bytes, packets, type and code of ICMP; then, of another exporter, these as a port.
    let fields = [(8, 4), (12, 4), (4, 1), (1, 4), (2, 4), (32, 2)];
    let as_port = [(8, 4), (12, 4), (4, 1), (1, 4), (2, 4), (11, 2)];
    let flow = |bytes: u32, kind: u16| {
        let counts = [bytes, 1].map(u32::to_be_bytes).concat();
        ipfix(300, &[&[10, 0, 0, 1, 192, 0, 2, 1, 1][..], &counts, &kind.to_be_bytes()].concat())
    };
    let mut send = |exporter: [u8; 4], fields: &[(u16, u16)], messages: &[Vec<u8>]| {
        for message in [&[template(300, fields)], messages].concat() {
            decoder.decode(&message, SocketAddr::from((exporter, 4739)), Timestamp(1_700_000_000_000_000));
        }
    };
    // An echo that both saw; unreachable of one code, and of another.
    send([10, 1, 0, 1], &fields, &[flow(84, 8 << 8), flow(56, 3 << 8 | 1)]);
    send([10, 1, 0, 2], &as_port, &[flow(84, 8 << 8), flow(57, 3 << 8 | 3)]);
    flush(&mut decoder, &scratch.0.join("flows.parquet"));
    let scan = Scan { threads: 1, ..question(&scratch.0, "") };
    let duplicates = Duplicates::find(&scan, DedupBy { exporter: true, direction: true }, 100);
    assert_eq!(duplicates.len(), 1);
    // None of them says whether it was seen at ingress or at egress.
    assert_eq!(duplicates.without_direction(), 4);
}

#[test]
fn more_groups_than_a_table_and_memory_have_room_for() {
    use arrow_array::{Int64Array, StringArray, UInt16Array, UInt32Array};
    let batch = |seed: u32| {
        let n = 0..8_000u32;
        // Some addresses come often, most once or twice.
        let address = |i: u32| (seed * 8_000 + i).wrapping_mul(0x9e37_79b9) >> [8, 14, 30][i as usize % 3];
        let addresses: UInt32Array = n.clone().map(|i| Some(address(i))).collect();
        let ports: UInt16Array = n.clone().map(|i| (i % 9 != 0).then_some((i % 2) as u16)).collect();
        let names: StringArray = n.clone().map(|i| Some(["a", "bc", ""][i as usize % 3])).collect();
        let bytes: Int64Array = n.map(|i| Some(i64::from(i % 1000))).collect();
        RecordBatch::try_from_iter([
            ("src_ip4", Arc::new(addresses) as arrow_array::ArrayRef),
            ("dst_port", Arc::new(ports)),
            ("app_name", Arc::new(names)),
            ("bytes", Arc::new(bytes)),
        ])
        .expect("columns")
    };
    let batches: Vec<RecordBatch> = (0..20).map(batch).collect();
    for keys in [&["src_addr"][..], &["src_addr", "dst_port", "app_name"]] {
        let mut expected = std::collections::HashMap::<Vec<String>, i128>::new();
        for batch in &batches {
            for row in 0..batch.num_rows() {
                let key = keys.iter().map(|k| text(batch, k, row).unwrap_or_default()).collect();
                *expected.entry(key).or_default() += number(batch, "bytes", row).unwrap_or(0);
            }
        }
        let mut ranked: Vec<(Vec<String>, i128)> = expected.clone().into_iter().collect();
        ranked.sort_by_key(|r| std::cmp::Reverse(r.1));
        for (groups, strangers) in [(10_000_000, false), (30_000, false), (10_000_000, true), (30_000, true)] {
            let options =
                TopOptions { keys: keys.iter().map(ToString::to_string).collect(), groups, ..TopOptions::default() };
            let mut all = Top::new(options.clone());
            for batches in batches.chunks(7) {
                let mut part = if strangers { Top::new(options.clone()) } else { all.another() };
                for batch in batches {
                    part.add(batch, &arrow_buffer::BooleanBuffer::new_set(batch.num_rows()));
                }
                all.merge(part);
            }
            assert_eq!(all.spilled(), groups == 30_000, "{keys:?}");
            let (first, others) = all.finish(Metric::Bytes, 50);
            assert_eq!(all.failed(), None);
            assert_eq!(all.len(), ranked.len());
            let found: Vec<i128> = first.iter().map(|(_, row)| row.bytes).collect();
            assert_eq!(found, ranked.iter().take(50).map(|r| r.1).collect::<Vec<_>>());
            for (keys, row) in first {
                assert_eq!(expected.get(&keys), Some(&row.bytes));
            }
            assert_eq!(others.expect("others").bytes, ranked.iter().skip(50).map(|r| r.1).sum::<i128>());
        }
    }
}
