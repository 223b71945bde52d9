//! A template message that says what is known already, as exporters send again and again, and one that is new.

use bench::workloads;
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use flowlane::columns::Timestamp;
use flowlane::decode::{Config, Decoder};

fn template(c: &mut Criterion) {
    for w in workloads(1, "fields") {
        let Some(message) = &w.template else { continue };
        let mut group = c.benchmark_group(format!("template/{}", w.name));
        let mut decoder = bench::decoder(&w);
        group.bench_function("again", |b| b.iter(|| decoder.decode(message, w.sources[0], Timestamp(0))));
        assert_eq!(decoder.templates().count(), 1);
        group.bench_function("first", |b| {
            b.iter_batched_ref(
                || Decoder::new(Config::default()),
                |decoder| decoder.decode(message, w.sources[0], Timestamp(0)),
                BatchSize::SmallInput,
            );
        });
        group.finish();
    }
}

criterion_group!(benches, template);
criterion_main!(benches);
