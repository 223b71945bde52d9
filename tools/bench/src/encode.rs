//! What a value costs in a file, column by column: time to write and to read, and bytes, for each encoding that Parquet has for it.

use crate::report::{Report, Row};
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::DataType;
use bytes::Bytes;
use flowgen::{Plan, Protocol, Template};
use flowlane::columns::Timestamp;
use flowlane::columns::gather::Kernel;
use flowlane::decode::{Config, Decoder};
use flowlane::sink::{FileSchema, ParquetFile};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::{Compression, Encoding};
use parquet::file::properties::WriterProperties;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Rows of a file: one row group, which is where dictionaries are at their best.
const ROWS: usize = 1 << 18;

/// How a column is written.
#[derive(Clone, Copy)]
enum Way {
    /// As flowlane does.
    Ours,
    /// By the parquet crate.
    Crate { encoding: Option<Encoding>, compression: Compression },
}

const WAYS: [(&str, Way); 8] = [
    ("flowlane", Way::Ours),
    ("plain", the_crates(Encoding::PLAIN, Compression::UNCOMPRESSED)),
    ("plain, LZ4", the_crates(Encoding::PLAIN, Compression::LZ4_RAW)),
    ("delta", the_crates(Encoding::DELTA_BINARY_PACKED, Compression::UNCOMPRESSED)),
    ("delta, LZ4", the_crates(Encoding::DELTA_BINARY_PACKED, Compression::LZ4_RAW)),
    ("split, LZ4", the_crates(Encoding::BYTE_STREAM_SPLIT, Compression::LZ4_RAW)),
    ("dictionary", Way::Crate { encoding: None, compression: Compression::UNCOMPRESSED }),
    ("dictionary, LZ4", Way::Crate { encoding: None, compression: Compression::LZ4_RAW }),
];

const fn the_crates(encoding: Encoding, compression: Compression) -> Way {
    Way::Crate { encoding: Some(encoding), compression }
}

impl Way {
    /// Whether Parquet has it for columns of a type.
    fn is_for(self, column: &DataType) -> bool {
        use DataType as D;
        let is_integer = matches!(column, D::UInt8 | D::UInt16 | D::UInt32 | D::UInt64 | D::Int64 | D::Timestamp(..));
        match self {
            Self::Crate { encoding: Some(Encoding::DELTA_BINARY_PACKED), .. } => is_integer,
            Self::Crate { encoding: Some(Encoding::BYTE_STREAM_SPLIT), .. } => {
                is_integer || matches!(column, D::Float64 | D::FixedSizeBinary(_))
            }
            Self::Crate { encoding: None, .. } => *column != D::Boolean,
            Self::Ours | Self::Crate { .. } => true,
        }
    }

    /// The rows as a file.
    fn write(self, rows: &RecordBatch) -> Vec<u8> {
        match self {
            Self::Ours => {
                let mut file = ParquetFile::create(Vec::new(), rows.schema_ref()).expect("a schema");
                file.write(rows).expect("memory");
                file.into_inner().expect("memory")
            }
            Self::Crate { encoding, compression } => {
                let about = WriterProperties::builder().set_compression(compression);
                let about = match encoding {
                    Some(encoding) => about.set_dictionary_enabled(false).set_encoding(encoding),
                    None => about.set_dictionary_enabled(true),
                };
                let about = about.set_max_row_group_row_count(Some(ROWS)).build();
                let mut file = ArrowWriter::try_new(Vec::new(), rows.schema(), Some(about)).expect("a schema");
                file.write(rows).expect("memory");
                file.into_inner().expect("memory")
            }
        }
    }
}

/// What a value costs.
#[derive(Clone, Copy)]
struct Cost {
    write_ns: f64,
    read_ns: f64,
    bytes: f64,
}

fn cost(way: Way, column: &ArrayRef, name: &str, budget: Duration) -> Option<Cost> {
    if !way.is_for(column.data_type()) {
        return None;
    }
    let rows = RecordBatch::try_from_iter_with_nullable([(name, column.clone(), true)]).expect("a column");
    // Best of some rounds, the first of which is for the memory.
    let best = |round: &mut dyn FnMut()| {
        let (start, mut best, mut rounds) = (Instant::now(), f64::INFINITY, 0);
        while rounds < 2 || start.elapsed() < budget {
            let begun = Instant::now();
            round();
            best = best.min(begun.elapsed().as_secs_f64());
            rounds += 1;
        }
        best * 1e9 / rows.num_rows() as f64
    };
    let file = Bytes::from(way.write(&rows));
    let read = |file: &Bytes| {
        let reader = ParquetRecordBatchReaderBuilder::try_new(file.clone()).expect("Parquet");
        reader.with_batch_size(8192).build().expect("a reader").map(|batch| batch.expect("rows"))
    };
    let mut at = 0;
    for batch in read(&file) {
        let n = batch.num_rows();
        assert_eq!(batch.column(0).as_ref(), column.slice(at, n).as_ref(), "{name} is read as it was written");
        at += n;
    }
    assert_eq!(at, rows.num_rows(), "rows of {name}");
    Some(Cost {
        write_ns: best(&mut || drop(std::hint::black_box(way.write(&rows)))),
        read_ns: best(&mut || read(&file).for_each(|batch| drop(std::hint::black_box(batch)))),
        bytes: file.len() as f64 / rows.num_rows() as f64,
    })
}

/// The columns that flows have values of their own in, by the names they have in a file. What a message's rows share is written by
/// the message, and costs a row next to nothing.
fn columns(plan: &Plan, rows: usize) -> Vec<(String, ArrayRef)> {
    // How many records a message has is the plan's to say.
    let (some, sent) = flowgen::memory(plan, 100).expect("a plan");
    let messages = (rows * some.len()).div_ceil(sent.records as usize);
    let (datagrams, _) = flowgen::memory(plan, messages as u64).expect("a plan");
    let mut decoder = Decoder::new(Config { batch_rows: rows, ..Config::default() });
    for (exporter, datagram) in &datagrams {
        decoder.decode(datagram, *exporter, Timestamp(1_700_000_000_000_000));
    }
    let batches = decoder.flush();
    let batch = batches.into_iter().max_by_key(|b| b.rows()).map(Arc::new).expect("rows");
    let schema = FileSchema::new([&*batch], true);
    let all = schema.expand(&batch, batch.runs()).expect("Arrow").slice(0, rows.min(batch.rows()));
    let names = all.schema();
    let is_own = |name: &String| batch.columns().any(|c| &*c.def.name == name);
    let has_any = |column: &ArrayRef| column.null_count() < column.len();
    let there = names.fields().iter().zip(all.columns()).filter(|(field, c)| is_own(field.name()) && has_any(c));
    there.map(|(field, column)| (field.name().clone(), column.clone())).collect()
}

/// Prints what each column costs each way, and what all of them cost beside the parquet crate with the same encodings.
pub fn measure(quick: bool, json: bool, report: &Report) {
    let (rows, budget) = if quick { (1 << 14, Duration::ZERO) } else { (ROWS, Duration::from_millis(60)) };
    let workloads = [("v5", Protocol::V5, Template::Basic14), ("IPFIX, 23 fields", Protocol::Ipfix, Template::Wide23)];
    for (workload, protocol, template) in workloads {
        let plan = Plan { protocols: vec![protocol], templates: vec![template], ..Plan::default() };
        let (mut ours, mut crates) = (0.0, 0.0);
        if !json {
            println!("encode, {workload}: ns to write a value, ns to read it, bytes");
            println!("{:<22}{}", "", WAYS.map(|(way, _)| format!("{way:>20}")).concat());
        }
        for (name, column) in columns(&plan, rows) {
            let costs = WAYS.map(|(_, way)| cost(way, &column, &name, budget));
            print(workload, &name, &costs, json);
            let of =
                |wanted: &str| WAYS.iter().zip(&costs).find(|(way, _)| way.0 == wanted).and_then(|(_, cost)| *cost);
            let same = of("delta").or_else(|| of(if is_text(&column) { "dictionary" } else { "plain" }));
            ours += of("flowlane").map_or(f64::NAN, |c| c.write_ns);
            crates += same.map_or(f64::NAN, |c| c.write_ns);
        }
        report.row(&Row {
            bench: "encode",
            template: workload,
            place: "memory",
            unit: "nanoseconds_per_row",
            value: ours,
            against: "the parquet crate",
            against_value: crates,
            target: None,
        });
    }
}

fn is_text(column: &ArrayRef) -> bool {
    matches!(column.data_type(), DataType::Utf8 | DataType::Dictionary(..) | DataType::Float64)
}

fn print(workload: &str, column: &str, costs: &[Option<Cost>; WAYS.len()], json: bool) {
    if !json {
        let cell = |cost: &Option<Cost>| match cost {
            Some(Cost { write_ns, read_ns, bytes }) => format!("{write_ns:>8.1}{read_ns:>6.1}{bytes:>6.2}"),
            None => format!("{:>20}", ""),
        };
        println!("{column:<22}{}", costs.iter().map(cell).collect::<String>());
        return;
    }
    for ((way, _), cost) in WAYS.iter().zip(costs) {
        let Some(Cost { write_ns, read_ns, bytes }) = cost else { continue };
        println!(
            "{{\"bench\":\"encode\",\"template\":\"{workload}\",\"place\":\"{column}\",\"kernel\":\"{}\",\"way\":\"{way}\",\
             \"write_ns\":{write_ns:.2},\"read_ns\":{read_ns:.2},\"bytes\":{bytes:.3}}}",
            Kernel::chosen()
        );
    }
}
