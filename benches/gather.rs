//! From the records of a message to columns, without the message: each kernel that this machine has.

use bench::workloads;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use flowlane::columns::gather::Kernel;
use flowlane::columns::{Batch, RunMeta, Timestamp};
use flowlane::elements::Registry;
use flowlane::plan::{NoLookups, Plan};

fn gather(c: &mut Criterion) {
    for w in workloads(256, "") {
        if w.is_recorded() {
            continue;
        }
        let mut group = c.benchmark_group(format!("gather/{}", w.name));
        group.throughput(Throughput::Elements(w.records));
        let template = bench::template(&w);
        let meta = RunMeta::new(template.version as u8, w.sources[0].ip(), Timestamp(0));
        for kernel in Kernel::ALL.into_iter().filter(|k| k.is_available()) {
            let plan = Plan::compile(&template, Registry::standard(), kernel);
            let mut batch = Batch::new(plan.layout().clone(), 8192);
            let mut round = || {
                let mut records = 0;
                for datagram in &w.datagrams {
                    if batch.rows() + 64 > 8192 {
                        batch.clear();
                    }
                    records += plan.run(&datagram[w.header..], usize::MAX, &meta, &NoLookups, &mut batch).records;
                }
                records as u64
            };
            assert_eq!(round(), w.records);
            group.bench_function(kernel.name(), |b| b.iter(&mut round));
        }
        group.finish();
    }
}

criterion_group!(benches, gather);
criterion_main!(benches);
