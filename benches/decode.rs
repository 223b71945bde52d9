//! Whole datagrams into batches, beside a copy of the same bytes.

use bench::workloads;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

fn decode(c: &mut Criterion) {
    for w in workloads(256, "") {
        assert_eq!(bench::flowlane_sums(&w), (w.records, w.bytes));
        let mut group = c.benchmark_group(format!("decode/{}", w.name));
        group.throughput(Throughput::Elements(w.records));
        let mut decoder = bench::decoder(&w);
        group.bench_function("flowlane", |b| b.iter(|| bench::flowlane(&w, &mut decoder)));
        let mut buffer = bench::batch_buffer(&w);
        group.bench_function("memcpy", |b| b.iter(|| bench::copy(&w, &mut buffer)));
        group.finish();
    }
}

criterion_group!(benches, decode);
criterion_main!(benches);
