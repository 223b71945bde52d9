//! Every field of every record, borrowed.

use bench::workloads;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

fn rows(c: &mut Criterion) {
    for w in workloads(256, "") {
        let mut session = bench::session(&w);
        let (records, bytes) = bench::rows(&w, &mut session);
        assert!(w.is_recorded() || (records, bytes) == (w.records, w.bytes));
        let mut group = c.benchmark_group(format!("rows/{}", w.name));
        group.throughput(Throughput::Elements(w.records));
        group.bench_function("flowlane", |b| b.iter(|| bench::rows(&w, &mut session)));
        group.finish();
    }
}

criterion_group!(benches, rows);
criterion_main!(benches);
