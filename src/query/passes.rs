//! The greatest groups of a scan, in two passes.
//!
//! ```text
//! ranks    the keys, the columns of the filter and the one measure that groups are ranked by: a third of the memory
//!   -> chosen   the same rows once more: the other columns, of which all sums are kept of the greatest groups alone; the keys
//!               too, but where a filter left so few rows that those of all were kept
//! ```
//!
//! Where there are a million groups, which no cache holds, memory is what takes the time.
//! A scan that is ended in its first pass is read again as far as it came.

use super::kept::KeptKeys;
use super::scan::{Scan, ScanStats};
use super::sums::Metric;
use super::top::{Options, Top};
use arrow_array::RecordBatch;
use arrow_buffer::BooleanBuffer;

/// Groups that are asked for at most: for more, all sums of all are better.
const ASKED: usize = 1000;

/// Reads the greatest `n` groups by a metric, and the sums of everything: as a [`Top`] that all batches of the scan were added
/// to. It is to be asked for that metric, and no more than `n` groups. With `only`, nothing is summed but that metric, if it adds up:
/// half the reading.
pub fn top(scan: &Scan, options: &Options, metric: Metric, n: usize, only: bool) -> (Top, ScanStats) {
    if !only || !metric.adds_up() {
        return top_around(scan, options, metric, n, || {});
    }
    let ranks = Top::new(options.clone()).to_rank(metric);
    one_pass(&Scan { columns: ranks.columns(), ..scan.clone() }, &ranks)
}

/// All sums; `between` comes after the first pass, as anything may happen to the files then.
fn top_around(scan: &Scan, options: &Options, metric: Metric, n: usize, between: impl FnOnce()) -> (Top, ScanStats) {
    let whole = Top::new(options.clone());
    let scan = Scan { columns: whole.columns(), ..scan.clone() };
    if let Some(found) = ranked(&scan, &whole, metric, n, between) {
        return found;
    }
    one_pass(&scan, &whole)
}

fn one_pass(scan: &Scan, begin: &Top) -> (Top, ScanStats) {
    let mut all = begin.another();
    let stats = scan.run(|| begin.another(), add, |part| all.merge(part));
    (all, stats)
}

fn add(top: &mut Top, batch: &RecordBatch, rows: &BooleanBuffer) -> bool {
    top.add(batch, rows);
    true
}

/// `None` where all sums of all groups are better, or needed: what can be read of a damaged file depends on the columns.
fn ranked(scan: &Scan, whole: &Top, metric: Metric, n: usize, between: impl FnOnce()) -> Option<(Top, ScanStats)> {
    if !metric.adds_up() || !(1..=ASKED).contains(&n) || !whole.has_many_groups() || scan.watch.is_stopped() {
        return None;
    }
    let reading = scan.reading().keeping();
    let begin = whole.to_rank(metric);
    let mut ranks = begin.another();
    let kept = KeptKeys::of(reading.parts());
    let put = |top: &mut Top, at: usize, batch: &RecordBatch, rows: &BooleanBuffer| {
        top.add_and_keep(batch, rows, |words| kept.keep(at, words));
        true
    };
    let stats = reading.run(&begin.columns(), || begin.another(), put, |part| ranks.merge(part));
    // What was ended cannot be read by one pass any more.
    if !stats.damaged.is_empty() && !scan.watch.is_stopped() {
        return None;
    }
    let mut all = ranks.of_greatest(n)?;
    between();
    let begin = all.another();
    let (with_keys, without) = (begin.columns(), begin.columns_of_sums());
    let columns = |at| if kept.has(at) { &*without } else { &*with_keys };
    let put = |top: &mut Top, at: usize, batch: &RecordBatch, rows: &BooleanBuffer| {
        if !kept.has(at) {
            top.add(batch, rows);
            return true;
        }
        let words = rows.count_set_bits() * top.words();
        kept.next(at, words, |words| top.add_known(batch, rows, words)).is_some()
    };
    let is_whole = reading.again(columns, || begin.another(), put, |part| all.merge(part));
    is_whole.then_some((all, stats))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keep;
    use crate::query::dedup::{By, Duplicates};
    use crate::query::filter::Filter;
    use crate::query::scan::{Input, Watch, inputs};
    use crate::query::sums::Row;
    use arrow_array::types::Float64Type;
    use arrow_array::{
        ArrayRef, BooleanArray, FixedSizeBinaryArray, Int64Array, PrimitiveArray, TimestampMicrosecondArray,
        UInt8Array, UInt16Array, UInt32Array,
    };
    use std::fs::File;
    use std::path::{Path, PathBuf};
    use std::sync::Arc;

    const FILES: u32 = 8;
    const FLOWS: u32 = 2000;

    struct Scratch(PathBuf);

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    /// Files of flows of every kind, of which one is Arrow's.
    fn flows(name: &str, skewed: bool) -> (Scratch, Vec<Input>) {
        let folder = Scratch(std::env::temp_dir().join(format!("flowlane-passes-{name}-{}", std::process::id())));
        std::fs::create_dir_all(&folder.0).expect("a folder");
        let inputs = (0..FILES).map(|file| write(&folder.0, file, &batch(file, skewed))).collect();
        (folder, inputs)
    }

    fn write(folder: &Path, file: u32, batch: &RecordBatch) -> Input {
        let path = folder.join(file.to_string());
        let to = File::create(&path).expect("a file");
        if file == 5 {
            let mut writer = arrow_ipc::writer::FileWriter::try_new(to, &batch.schema()).expect("a writer");
            writer.write(batch).expect("written");
            writer.finish().expect("finished");
            return Input::Arrow(path);
        }
        let mut writer = parquet::arrow::ArrowWriter::try_new(to, batch.schema(), None).expect("a writer");
        writer.write(batch).expect("written");
        writer.close().expect("closed");
        Input::Parquet(path)
    }

    fn batch(file: u32, skewed: bool) -> RecordBatch {
        let rows = || file * FLOWS..(file + 1) * FLOWS;
        let mixed = |i: u32, seed: u32| (i ^ seed.wrapping_mul(0x85eb_ca6b)).wrapping_mul(0x9e37_79b9) >> 8;
        let host = move |i: u32, seed: u32| match (skewed, mixed(i, 77) % 3) {
            (true, 0) => mixed(i, seed) % 40,
            _ => mixed(i, seed) % 30_000,
        };
        // One in fifty is of IPv6, one in a hundred has neither.
        let v6 = |i: &u32| mixed(*i, 3) % 50 == 0;
        let none = |i: &u32| mixed(*i, 4) % 100 == 0;
        let ip4 = |seed| -> ArrayRef {
            Arc::new(rows().map(|i| (!v6(&i) && !none(&i)).then(|| host(i, seed))).collect::<UInt32Array>())
        };
        let ip6 = |seed| -> ArrayRef {
            let octets = rows().map(|i| v6(&i).then(|| u128::from(host(i, seed) % 100).to_be_bytes()));
            Arc::new(FixedSizeBinaryArray::try_from_sparse_iter_with_size(octets, 16).expect("octets"))
        };
        let number = |seed, most: u32| -> ArrayRef {
            let of = |i: u32| (mixed(i, seed) % 40 != 0).then(|| i64::from(mixed(i, seed) % most));
            Arc::new(rows().map(of).collect::<Int64Array>())
        };
        let time = |seed: u32| -> ArrayRef {
            let of = |i: u32| (mixed(i, seed) % 60 != 0).then(|| i64::from(i) * 1000 + i64::from(mixed(i, seed) % 900));
            Arc::new(rows().map(of).collect::<TimestampMicrosecondArray>().with_timezone("UTC"))
        };
        let rate = |i: u32| (!i.is_multiple_of(5)).then(|| f64::from(1 + i % 3) * 1.5);
        // One group is far greater than all others, in a file that no sample looks at.
        let bytes = |i: u32| match i {
            7 => Some(1 << 40),
            i => (mixed(i, 31) % 40 != 0).then(|| i64::from(mixed(i, 31) % 1500)),
        };
        let columns: [(&str, ArrayRef); 16] = [
            ("src_ip4", ip4(11)),
            ("dst_ip4", ip4(12)),
            ("src_ip6", ip6(11)),
            ("dst_ip6", ip6(12)),
            ("proto", Arc::new(rows().map(|i| Some([6, 17, 1][(i % 3) as usize])).collect::<UInt8Array>())),
            (
                "dst_port",
                Arc::new(rows().map(|i| (i % 9 > 0).then_some(mixed(i, 5) as u16 % 999)).collect::<UInt16Array>()),
            ),
            ("direction", Arc::new(rows().map(|i| Some((i % 2) as u8)).collect::<UInt8Array>())),
            ("bytes", Arc::new(rows().map(bytes).collect::<Int64Array>())),
            ("packets", number(32, 9)),
            ("flows", number(33, 3)),
            ("rev_bytes", number(34, 500)),
            ("rev_packets", number(35, 5)),
            ("flow_start", time(36)),
            ("flow_end", time(37)),
            ("counters_are_total", Arc::new(rows().map(|i| Some(i % 77 == 0)).collect::<BooleanArray>())),
            ("sampling_rate", Arc::new(rows().map(rate).collect::<PrimitiveArray<Float64Type>>())),
        ];
        RecordBatch::try_from_iter_with_nullable(columns.map(|(name, array)| (name, array, true))).expect("columns")
    }

    fn scan(inputs: &[Input], filter: &str) -> Scan {
        let filter = Filter::parse(filter, 0).expect("a filter");
        Scan { inputs: inputs.to_vec(), filter, columns: Vec::new(), threads: 3, watch: Watch::default() }
    }

    fn options(keys: &str) -> Options {
        Options { keys: keys.split(',').map(String::from).collect(), ..Options::default() }
    }

    /// The same answer as one pass over all sums of all groups gives, in two passes at most; which of both it was.
    fn is_as_one_pass(scan: &Scan, options: &Options, metric: Metric, n: usize) {
        let whole = Top::new(options.clone());
        let scan = Scan { columns: whole.columns(), ..scan.clone() };
        let about = format!("{options:?} by {metric:?}, {n}, {:?}", scan.filter);
        let (mut found, stats) =
            ranked(&scan, &whole, metric, n, || {}).unwrap_or_else(|| panic!("in one pass: {about}"));
        let (mut expected, expected_stats) = one_pass(&scan, &whole);
        assert_eq!(found.finish(metric, n), expected.finish(metric, n), "{about}");
        assert_eq!(found.finish(metric, n / 2), expected.finish(metric, n / 2), "{about}");
        assert_eq!((found.len(), found.total()), (expected.len(), expected.total()), "{about}");
        assert_eq!((found.totals(), found.running()), (expected.totals(), expected.running()), "{about}");
        assert_eq!((found.unscaled(), found.beyond()), (expected.unscaled(), expected.beyond()), "{about}");
        assert_eq!((found.spilled(), found.failed()), (options.groups < 1000, None), "{about}");
        assert_eq!(stats, expected_stats, "{about}");
        // The measure alone is what it is among all sums.
        let (mut only, only_stats) = top(&scan, options, metric, n, true);
        let alone = |row: &Row| row.only(metric);
        let (first, others) = expected.finish(metric, n);
        let first: Vec<_> = first.iter().map(|(key, row)| (key.clone(), alone(row))).collect();
        assert_eq!(only.finish(metric, n), (first, others.as_ref().map(alone)), "{about}");
        assert_eq!((only.len(), only.total()), (expected.len(), alone(&expected.total())), "{about}");
        assert_eq!((only.totals(), only.running()), (expected.totals(), alone(&expected.running())), "{about}");
        assert_eq!((only.unscaled(), only.beyond(), only.failed()), (expected.unscaled(), None, None), "{about}");
        assert_eq!(only_stats, expected_stats, "{about}");
    }

    /// Where a filter leaves few rows, and all keys have one layout.
    #[test]
    fn keys_that_are_kept_are_not_read_again() {
        let (_folder, inputs) = flows("keys", true);
        let v4 = "proto tcp and src net 0.0.0.0/0 and dst net 0.0.0.0/0";
        let kept_of = |filter: &str, options: &Options| {
            let whole = Top::new(options.clone()).to_rank(Metric::Bytes);
            let scan = Scan { columns: whole.columns(), ..scan(&inputs, filter) };
            let reading = scan.reading().keeping();
            let kept = KeptKeys::of(reading.parts());
            let put = |top: &mut Top, at: usize, batch: &RecordBatch, rows: &BooleanBuffer| {
                top.add_and_keep(batch, rows, |words| kept.keep(at, words));
                true
            };
            reading.run(&whole.columns(), || whole.another(), put, drop);
            (0..reading.parts()).filter(|at| kept.has(*at)).count()
        };
        for keys in ["src_addr", "src_addr,dst_addr", "src_addr,dst_addr,proto", "src_ip4,src_addr,dst_addr,direction"]
        {
            assert_eq!(kept_of(v4, &Options { totals: true, ..options(keys) }), inputs.len(), "{keys}");
            for (metric, totals) in [(Metric::Bytes, true), (Metric::Flows, true), (Metric::Packets, false)] {
                let options = Options { totals, both: true, ..options(keys) };
                is_as_one_pass(&scan(&inputs, v4), &options, metric, 10);
            }
        }
        // Most of the rows, keys of both layouts, a flow that counts with two keys, rows that count as no flow.
        let all = Options { totals: true, ..options("src_addr") };
        assert_eq!(kept_of("src net 0.0.0.0/0", &all), 0);
        assert_eq!(kept_of("proto tcp", &all), 0);
        assert_eq!(kept_of(v4, &Options { totals: true, ..options("addr") }), 0);
        assert_eq!(kept_of(v4, &options("src_addr")), 0);
    }

    #[test]
    fn of_what_came_back_each_pass_reads_its_own() {
        let whole = Top::new(Options { both: true, ..options("src_addr") });
        let back = |top: &Top| ["rev_bytes", "rev_packets"].map(|name| top.columns().iter().any(|c| c == name));
        assert_eq!(back(&whole), [true, true]);
        for (metric, first) in
            [(Metric::Bytes, [true, false]), (Metric::Packets, [false, true]), (Metric::Flows, [false, false])]
        {
            let ranks = whole.to_rank(metric);
            assert_eq!(back(&ranks), first, "{metric:?}");
            let chosen = ranks.of_greatest(3).expect("no group is too great");
            assert_eq!(back(&chosen), first.map(|is_known| !is_known), "{metric:?}");
        }
    }

    #[test]
    fn answers_are_those_of_one_pass() {
        for skewed in [true, false] {
            let (_folder, inputs) = flows(if skewed { "skewed" } else { "even" }, skewed);
            for keys in ["src_addr", "addr", "src_addr,dst_addr", "dst_addr,dst_port,proto", "addr,port"] {
                let asked = [(Metric::Bytes, 10), (Metric::Packets, 1), (Metric::Flows, 300)];
                for (filter, (metric, n)) in ["", "proto tcp or bytes in 5..700", "not host 0.0.0.9"].iter().zip(asked)
                {
                    is_as_one_pass(&scan(&inputs, filter), &options(keys), metric, n);
                }
            }
        }
    }

    #[test]
    fn options_change_nothing_of_that() {
        let (_folder, inputs) = flows("options", true);
        let plain = options("addr");
        let all = [
            Options { scale: true, ..plain.clone() },
            Options { both: true, ..plain.clone() },
            Options { totals: true, ..plain.clone() },
            Options { scale: true, both: true, totals: true, ..options("src_addr,app_name") },
            // Groups that wait in files.
            Options { groups: 900, ..plain },
        ];
        for options in all {
            for metric in [Metric::Bytes, Metric::Packets, Metric::Flows] {
                is_as_one_pass(&scan(&inputs, "proto tcp, udp"), &options, metric, 20);
            }
        }
        let mut without = scan(&inputs, "");
        let duplicates = Duplicates::find(&without, By { exporter: false, direction: true }, 1_000_000);
        without.filter = without.filter.clone().without(duplicates);
        is_as_one_pass(&without, &options("src_addr"), Metric::Bytes, 10);
    }

    #[test]
    fn one_pass_where_two_would_not_do() {
        let (folder, inputs) = flows("one", true);
        let (options, metric) = (options("src_addr"), Metric::Bytes);
        let ranked = |options: &Options, metric, n| {
            let whole = Top::new(options.clone());
            let scan = Scan { columns: whole.columns(), ..scan(&inputs, "") };
            super::ranked(&scan, &whole, metric, n, || {}).is_some()
        };
        assert!(ranked(&options, metric, 10));
        assert!(!ranked(&options, Metric::Bpp, 10), "it does not add up");
        assert!(!ranked(&self::options("dst_port"), metric, 10), "there are few");
        assert!(!ranked(&options, metric, ASKED + 1));
        // What one pass can read of a damaged file depends on its columns.
        let path = folder.0.join("2");
        let whole = std::fs::read(&path).expect("bytes");
        std::fs::write(&path, &whole[..whole.len() / 2]).expect("cut");
        assert!(!ranked(&options, metric, 10));
        let (top, stats) = top(&scan(&inputs, ""), &options, metric, 10, false);
        assert_eq!((stats.damaged.len(), stats.files), (1, FILES as usize));
        assert_eq!(top.total().flows > 0, stats.matched > 0);
    }

    /// A folder with a segment that nobody seals yet, of v5 flows of many sources.
    fn segment(name: &str) -> Scratch {
        use crate::columns::Timestamp;
        use crate::decode::{Config, Decoder};
        let folder = Scratch(std::env::temp_dir().join(format!("flowlane-passes-{name}-{}", std::process::id())));
        let of = |name: &str| folder.0.join(name);
        let options = keep::Options { node: "a".to_string(), small_bytes: 0, ..keep::Options::default() };
        let mut store = keep::Store::open(&of("live"), options).expect("a store");
        for message in 0..40u32 {
            let mut bytes = vec![0, 5, 0, 30];
            bytes.extend([0; 20]);
            for flow in message * 30..(message + 1) * 30 {
                bytes.extend((flow % 500).to_be_bytes());
                bytes.extend([0; 12]);
                bytes.extend([1 + flow % 7, 100 + flow * 7919 % 1000].map(u32::to_be_bytes).as_flattened());
                bytes.extend([0; 24]);
            }
            let mut decoder = Decoder::new(Config::default());
            let received = Timestamp(1_700_000_000_000_000 + i64::from(message));
            decoder.decode(&bytes, std::net::SocketAddr::from(([192, 0, 2, 1], 2055)), received);
            decoder.flush().into_iter().for_each(|batch| store.write(&Arc::new(batch)).expect("written"));
        }
        let hot = keep::found(&of("live")).expect("a folder").hot.pop().expect("a segment").path;
        let copy = of("killed").join(hot.strip_prefix(of("live")).expect("a path"));
        std::fs::create_dir_all(copy.parent().expect("a folder")).expect("a folder");
        std::fs::copy(hot, copy).expect("copied");
        folder
    }

    #[test]
    fn a_segment_is_read_twice_also_where_it_is_sealed_between() {
        let folder = segment("hot");
        let root = folder.0.join("killed");
        let inputs = inputs(&root).expect("a folder");
        assert!(matches!(inputs[..], [Input::Hot(_)]));
        for filter in ["", "packets > 3"] {
            is_as_one_pass(&scan(&inputs, filter), &options("src_addr"), Metric::Bytes, 10);
        }
        let asked = options("src_addr");
        let (mut expected, stats) = top(&scan(&inputs, "packets > 3"), &asked, Metric::Bytes, 10, false);
        assert!(expected.len() > 100 && stats.matched > 300);
        let mut sealed = false;
        let (mut found, after) = top_around(&scan(&inputs, "packets > 3"), &asked, Metric::Bytes, 10, || {
            let options = keep::Options { node: "a".to_string(), small_bytes: 0, ..keep::Options::default() };
            keep::Store::open(&root, options).expect("a store").finish().expect("sealed");
            sealed = keep::found(&root).expect("a folder").hot.is_empty();
        });
        assert!(sealed && after.damaged.is_empty(), "{after:?}");
        assert_eq!(found.finish(Metric::Bytes, 10), expected.finish(Metric::Bytes, 10));
        assert_eq!((found.len(), found.total(), after.matched), (expected.len(), expected.total(), stats.matched));
    }

    #[test]
    fn rows_are_read_again_as_far_as_they_were_read() {
        let (folder, inputs) = flows("again", true);
        for (filter, kept) in [("", true), ("proto tcp", true), ("proto tcp", false)] {
            // One thread: the order tells in the sum.
            let scan = Scan { threads: 1, ..scan(&inputs, filter) };
            let reading = if kept { scan.reading().keeping() } else { scan.reading() };
            let sum = |sum: &mut i64, _: usize, batch: &RecordBatch, rows: &BooleanBuffer| {
                let bytes = batch.column_by_name("bytes").expect("bytes");
                let bytes: &Int64Array = bytes.as_any().downcast_ref().expect("numbers");
                rows.set_indices().for_each(|row| *sum = sum.wrapping_mul(31).wrapping_add(bytes.value(row)));
                true
            };
            let columns = ["bytes".to_string(), "src_ip4".to_string()];
            let (mut first, mut second) = (Vec::new(), Vec::new());
            // Ended in the middle of it.
            let stop = |all: &mut i64, at: usize, batch: &RecordBatch, rows: &BooleanBuffer| {
                sum(all, at, batch, rows);
                if *all % 13 == 0 {
                    scan.watch.stop();
                }
                true
            };
            let stats = reading.run(&columns, || 0, stop, |all| first.push(all));
            assert!(stats.matched > 0);
            assert!(reading.again(|_| &columns[..1], || 0, sum, |all| second.push(all)));
            assert_eq!(first, second, "{filter}");
        }
        // A file that has gone.
        let scan = scan(&inputs, "");
        let reading = scan.reading();
        let columns = ["bytes".to_string()];
        reading.run(&columns, || (), |(), _, _, _| true, drop);
        assert!(reading.again(|_| &columns, || (), |(), _, _, _| true, drop));
        assert!(!reading.again(|_| &columns, || (), |(), _, _, _| false, drop), "nothing was made of it");
        std::fs::remove_file(folder.0.join("3")).expect("removed");
        assert!(!reading.again(|_| &columns, || (), |(), _, _, _| true, drop));
    }
}
