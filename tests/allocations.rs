//! In steady state a datagram costs no heap allocation.
#![allow(unsafe_code, reason = "a global allocator is unsafe to write; this one only counts")]

mod encoder;

use encoder::{Head, Numbers, VARIABLE, set, spec};
use flowlane::columns::Timestamp;
use flowlane::decode::{Config, Decoder};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::net::SocketAddr;

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
    static BYTES: Cell<i64> = const { Cell::new(0) };
}

/// An allocation by which so many bytes more are held.
fn count(bytes: i64) {
    let _ = ALLOCATIONS.try_with(|n| n.set(n.get() + 1));
    free(-bytes);
}

fn free(bytes: i64) {
    let _ = BYTES.try_with(|n| n.set(n.get() - bytes));
}

// SAFETY: every call goes to the system's allocator as it came; the counters are plain cells of the thread.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as i64);
        // SAFETY: the caller's promises are those that `System` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as i64);
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size as i64 - layout.size() as i64);
        // SAFETY: as above.
        unsafe { System.realloc(at, layout, size) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        free(layout.size() as i64);
        // SAFETY: as above.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static GLOBAL: Counting = Counting;

/// Allocations of 3,000 rounds over the messages, after as many to warm up; batches come back as they get full.
fn steady(messages: &[Vec<u8>]) -> u64 {
    let mut decoder = Decoder::new(Config { batch_rows: 1024, ..Config::default() });
    let mut records = 0;
    let mut rounds = |n: i64| {
        for round in 0..n {
            for (i, message) in messages.iter().enumerate() {
                let from = SocketAddr::from(([192, 0, 2, i as u8], 2055));
                let outcome = decoder.decode(message, from, Timestamp(1_700_000_000_000_000 + round * 100));
                assert_eq!(outcome.error, None);
                records += u64::from(outcome.records);
                while let Some(batch) = decoder.next_batch() {
                    decoder.recycle(batch);
                }
                if let Some(options) = decoder.next_options() {
                    decoder.recycle_options(options);
                }
            }
        }
    };
    rounds(3000);
    let before = ALLOCATIONS.get();
    rounds(3000);
    let after = ALLOCATIONS.get();
    assert!(records >= 6000);
    after - before
}

#[test]
fn no_allocation_for_fixed_records() {
    let mut n = Numbers::new(3);
    let mut messages = Vec::new();
    for (version, len) in [(1, 48), (5, 48), (7, 52)] {
        let records: Vec<Vec<u8>> = (0..30).map(|_| (0..len).map(|_| n.next() as u8).collect()).collect();
        messages.push(Head::new(version).fixed(&records));
    }
    assert_eq!(steady(&messages), 0);
}

#[test]
fn no_allocation_for_templates_and_their_records() {
    let mut n = Numbers::new(4);
    let mut messages = Vec::new();
    for version in [9, 10] {
        let head = Head::new(version);
        let v4 = [spec(8, 4), spec(12, 4), spec(7, 2), spec(11, 2), spec(4, 1), spec(1, 8), spec(22, 4), spec(21, 4)];
        let v6 = [spec(27, 16), spec(28, 16), spec(1, 4), spec(2, 4), spec(152, 8), spec(153, 8)];
        // The templates come again with every message, as some exporters send them.
        let a: Vec<u8> = (0..20).flat_map(|_| [&n.bytes(13)[..], &[0, 0, 0], &n.bytes(13)].concat()).collect();
        let b: Vec<u8> =
            (0..9).flat_map(|_| [&n.bytes(40)[..], &[0, 0, 1, 139, 207, 229, 0, 0].repeat(2)].concat()).collect();
        messages.push(head.message(&[head.template(300, &v4), head.template(301, &v6), set(300, &a), set(301, &b)]));
    }
    assert_eq!(steady(&messages), 0);
}

#[test]
fn no_allocation_for_records_of_varying_length() {
    let head = Head::new(10);
    let fields = [spec(8, 4), spec(12, 4), spec(82, VARIABLE), spec(1, 8), spec(96, VARIABLE)];
    let mut records = Vec::new();
    for i in 0..20u8 {
        records.extend([192, 0, 2, i, 198, 51, 100, i]);
        records.extend(encoder::varying(b"ge-0/0/1", false));
        records.extend([0, 0, 0, 0, 0, 0, 5, i]);
        records.extend(encoder::varying(b"https", true));
    }
    assert_eq!(steady(&[head.message(&[head.template(300, &fields), set(300, &records)])]), 0);
}

#[test]
fn no_allocation_for_options_records() {
    let head = Head::new(9);
    let (scope, fields) = ([spec(1, 4)], [spec(48, 1), spec(34, 4)]);
    let template = head.options_template(300, &scope, &fields);
    let flows = [spec(8, 4), spec(48, 1)];
    let messages = [head.message(&[
        template,
        set(300, &[0, 0, 0, 1, 1, 0, 0, 0, 100]),
        head.template(301, &flows),
        set(301, &[192, 0, 2, 1, 1]),
    ])];
    assert_eq!(steady(&messages), 0);
}

#[test]
fn reading_rows_costs_no_allocation() {
    // An address, a name that varies in length, a counter; 100 records.
    let template = [0, 2, 0, 20, 1, 0, 0, 3, 0, 8, 0, 4, 0, 82, 255, 255, 0, 1, 0, 4];
    let records = [192, 0, 2, 1, 2, b'e', b'0', 0, 0, 0, 42].repeat(100);
    let length = (records.len() + 4) as u16;
    let sets = [&template[..], &[1, 0], &length.to_be_bytes(), &records].concat();
    let total = (sets.len() + 16) as u16;
    let message = [&[0, 10][..], &total.to_be_bytes(), &[0; 12], &sets].concat();
    let message = flowlane::rows::parse(&message).expect("a message");
    let before = ALLOCATIONS.with(Cell::get);
    let (mut sum, mut found) = (0, 0);
    for record in message.records() {
        for field in record.fields() {
            found += usize::from(field.element().is_some());
            if let flowlane::value::Value::Unsigned(v) = field.value() {
                sum += v;
            }
        }
        found += usize::from(record.value("octetDeltaCount") == record.by_id(0, 1));
    }
    assert_eq!((sum, found), (4200, 400));
    assert_eq!(ALLOCATIONS.with(Cell::get), before);
}

#[test]
fn no_allocation_for_lines_of_refused_messages() {
    let mut lines = flowlane::rows::netflow_json::NetflowJson::default();
    let head = Head::new(10);
    let message = head.message(&[set(300, &[0; 40])]);
    let from = SocketAddr::from(([192, 0, 2, 1], 2055));
    let mut refuse = || lines.late_lines(&message, from, 0, |_| panic!("a line")).expect("a message");
    refuse();
    let before = ALLOCATIONS.get();
    (0..100).for_each(|_| refuse());
    assert_eq!(ALLOCATIONS.get(), before);
}

#[test]
fn batches_that_waited_for_a_writer_are_given_back() {
    let mut n = Numbers::new(5);
    let records: Vec<Vec<u8>> = (0..30).map(|_| n.bytes(48)).collect();
    let message = Head::new(5).fixed(&records);
    let mut decoder = Decoder::new(Config { batch_rows: 128, ..Config::default() });
    let from = SocketAddr::from(([192, 0, 2, 1], 2055));
    // 280 batches in 10 seconds, of which so many are written at once.
    let mut now = 1_700_000_000_000_000;
    let mut go_on = |waiting: usize| {
        let mut held = Vec::with_capacity(64);
        for _ in 0..1200 {
            now += 8330;
            decoder.decode(&message, from, Timestamp(now));
            held.extend(decoder.next_batch());
            if held.len() > waiting {
                held.drain(..).for_each(|batch| decoder.recycle(batch));
            }
        }
        held.into_iter().for_each(|batch| decoder.recycle(batch));
        (ALLOCATIONS.get(), BYTES.get())
    };
    let (_, before) = go_on(0);
    let (_, behind) = go_on(40);
    assert!(behind > before + 1_500_000, "{behind} bytes, {before} before");
    // A minute, and then one at a time.
    for _ in 0..8 {
        go_on(0);
    }
    let (allocations, bytes) = go_on(0);
    assert!(bytes < before + 75_000, "{bytes} bytes, {before} before");
    // The one for `held`.
    assert_eq!(go_on(0), (allocations + 1, bytes));
}

/// A datagram of 20 kB defines thousands of columns: batches, plans and templates of many such are bounded together.
#[test]
fn wide_templates_are_bounded_in_memory() {
    for (fields, len) in [(4000, VARIABLE), (4000, 1)] {
        let before = BYTES.get();
        let mut decoder = Decoder::new(Config { batch_bytes: 32 << 20, ..Config::default() });
        let (mut most, mut rows) = (0, 0);
        for i in 0..120u16 {
            let specs: Vec<_> = (0..fields).map(|j| spec(i * 7 + j + 1, len)).collect();
            let record = vec![u8::from(len != VARIABLE); usize::from(fields)];
            let head = Head { sequence: u32::from(i), ..Head::new(10) };
            let message = head.message(&[head.template(256 + i, &specs), set(256 + i, &record)]);
            let from = SocketAddr::from(([192, 0, 2, 1], 2055));
            rows += decoder.decode(&message, from, Timestamp(1_700_000_000_000_000)).records;
            most = most.max(BYTES.get() - before);
            while let Some(batch) = decoder.next_batch() {
                decoder.recycle(batch);
            }
        }
        assert_eq!(rows, 120);
        assert!(most < 160 << 20, "{} MiB for templates of {fields} fields of length {len}", most >> 20);
    }
}
