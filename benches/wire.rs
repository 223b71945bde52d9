//! Views over borrowed bytes: headers and sets, and v5's records.

use bench::workloads;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use flowlane::wire::Message;

fn wire(c: &mut Criterion) {
    for w in workloads(256, "") {
        let mut group = c.benchmark_group(format!("wire/{}", w.name));
        group.throughput(Throughput::Elements(w.datagrams.len() as u64));
        group.bench_function("messages and sets", |b| {
            b.iter(|| {
                let messages = w.datagrams.iter().filter_map(|d| Message::parse(d).ok());
                messages
                    .map(|m| m.sequence() as usize + m.sets().flatten().map(|s| s.body.len()).sum::<usize>())
                    .sum::<usize>()
            });
        });
        if w.name.starts_with("v5") {
            assert_eq!(bench::views(&w), (w.records, w.bytes));
            group.throughput(Throughput::Elements(w.records));
            group.bench_function("every field of v5's records", |b| b.iter(|| bench::views(&w)));
        }
        group.finish();
    }
}

criterion_group!(benches, wire);
criterion_main!(benches);
