//! A template compiled to a plan.

use bench::workloads;
use criterion::{Criterion, criterion_group, criterion_main};
use flowlane::columns::gather::Kernel;
use flowlane::elements::Registry;
use flowlane::plan::Plan;

fn plan(c: &mut Criterion) {
    for w in workloads(1, "IPFIX") {
        let mut group = c.benchmark_group(format!("plan/{}", w.name));
        let template = bench::template(&w);
        for kernel in Kernel::ALL.into_iter().filter(|k| k.is_available()) {
            group.bench_function(kernel.name(), |b| b.iter(|| Plan::compile(&template, Registry::standard(), kernel)));
        }
        group.finish();
    }
}

criterion_group!(benches, plan);
criterion_main!(benches);
