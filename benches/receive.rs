//! A burst of datagrams from a socket of loopback into columns. What the same costs another receiver, and at what rates
//! nothing is lost, is measured by `cargo run --release -p bench -- --bench receive`.

use bench::workloads;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use flowlane::columns::Timestamp;
use flowlane::net::{Group, Options};
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

/// Datagrams sent before they are received: within the default buffer of any system.
const BURST: usize = 32;

fn receive(c: &mut Criterion) {
    let w = workloads(BURST, "v5").swap_remove(0);
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let group = Group::open(any, 1, &Options::default()).expect("a socket");
    let to = group.local_addr();
    let mut receiver = group.into_receivers().swap_remove(0);
    let sender = UdpSocket::bind(any).expect("a socket");
    let mut decoder = bench::decoder(&w);
    let mut group = c.benchmark_group("receive/v5");
    group.throughput(Throughput::Elements(BURST as u64));
    group.bench_function("recvmmsg and decode", |b| {
        b.iter_custom(|rounds| {
            let mut took = Duration::ZERO;
            for _ in 0..rounds {
                for datagram in &w.datagrams {
                    sender.send_to(datagram, to).expect("sent");
                }
                let (start, mut there) = (Instant::now(), 0);
                while there < BURST {
                    let burst = receiver.receive(Duration::from_secs(1)).expect("a sound socket");
                    assert!(!burst.is_empty(), "datagrams were lost on loopback");
                    for packet in burst {
                        there += 1;
                        decoder.decode(packet.bytes, packet.source, Timestamp(packet.received_at_us));
                    }
                    while let Some(batch) = decoder.next_batch() {
                        decoder.recycle(batch);
                    }
                }
                took += start.elapsed();
            }
            took
        });
    });
    group.finish();
}

criterion_group!(benches, receive);
criterion_main!(benches);
