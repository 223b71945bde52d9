//! The ledger adds up to the unit, whatever happens: each cause is driven through a running collector's sockets.

mod encoder;

use encoder::{Head, set, spec};
use flowgen::{Delivery, Limits, Pace, Plan, Protocol, Trouble};
use flowlane::collect::{Collector, Config, ExporterAccount, Item, Ledger, Running, Sink};
use flowlane::columns::{ColumnView, Timestamp};
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Counts rows by itself; takes none while it is shut, and refuses them where it is broken.
#[derive(Clone, Default)]
struct Gate {
    rows: Arc<AtomicU64>,
    options: Arc<AtomicU64>,
    /// Rows of another protocol than TCP.
    odd: Arc<AtomicU64>,
    shut: Arc<AtomicBool>,
    broken: Arc<AtomicBool>,
}

impl Sink for Gate {
    fn write(&mut self, item: &Item) -> io::Result<()> {
        while self.shut.load(SeqCst) {
            std::thread::sleep(Duration::from_millis(5));
        }
        if self.broken.load(SeqCst) {
            return Err(io::Error::other("no space left"));
        }
        self.rows.fetch_add(item.rows(), SeqCst);
        if let Item::Rows { batch, .. } = item
            && let Some(ColumnView::U8(protocols)) = batch.column("proto").map(|c| c.values)
        {
            self.odd.fetch_add(protocols.iter().filter(|p| **p != 6).count() as u64, SeqCst);
        }
        if let Item::Options(options) = item {
            self.options.fetch_add(options.len() as u64, SeqCst);
        }
        Ok(())
    }

    fn goes_on(&self) -> bool {
        true
    }

    fn probe(&mut self) -> io::Result<()> {
        if self.broken.load(SeqCst) { Err(io::Error::other("no space left")) } else { Ok(()) }
    }

    fn tick(&mut self, _: Timestamp) -> io::Result<()> {
        Ok(())
    }

    fn finish(self: Box<Self>) -> io::Result<()> {
        Ok(())
    }
}

fn start(threads: usize, change: impl FnOnce(&mut Config)) -> (Running, Gate, SocketAddr) {
    let mut config = Config { listen: vec![([127, 0, 0, 1], 0).into()], threads, ..Config::default() };
    change(&mut config);
    let collector = Collector::open(config).expect("a free port");
    let (gate, to) = (Gate::default(), collector.addresses()[0]);
    (collector.start(Box::new(gate.clone())).expect("threads"), gate, to)
}

/// The ledger as soon as it says what is waited for. It adds up at every moment on the way.
fn ledger_when(running: &Running, what: &str, done: impl Fn(&Ledger) -> bool) -> Ledger {
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        let ledger = running.watch().ledger();
        assert_eq!(ledger.imbalances(), [], "{what}");
        assert!(ledger.is_fresh);
        if done(&ledger) {
            return ledger;
        }
        assert!(Instant::now() < end, "{what}: {:?}", ledger.total);
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn loss_reordering_and_duplication_are_counted_to_the_unit() {
    let loss = Trouble { loss: 0.03, ..Trouble::default() };
    let disorder = Trouble { reorder: 0.02, duplicate: 0.02, ..Trouble::default() };
    for protocol in [Protocol::V5, Protocol::V7, Protocol::V9, Protocol::Ipfix] {
        for trouble in [loss, disorder] {
            let (running, gate, to) = start(2, |_| {});
            let plan = Plan {
                protocols: vec![protocol],
                exporters: 6,
                options: Some(100),
                refresh: 0,
                trouble,
                ..Plan::default()
            };
            let mut delivery = Delivery::to(to);
            delivery.limits = Limits { pace: Pace::Datagrams(20_000.0), count: Some(2000), ..Limits::default() };
            let sent = flowgen::send(&plan, &delivery, &AtomicBool::new(false)).expect("sent");
            let ledger = ledger_when(&running, "all rows", |l| {
                l.total.stats.datagrams == sent.datagrams && l.total.rows_pending() == 0 && l.options.pending() == 0
            });
            let s = &ledger.total.stats;
            assert_eq!((s.records, s.bytes, s.options_records), (sent.records, sent.bytes, sent.options_records));
            assert_eq!(
                (s.lost, s.reordered, s.duplicates),
                (sent.missing, sent.reordered, sent.duplicated),
                "{plan:?}"
            );
            assert!(sent.missing + sent.duplicated > 20, "{sent:?}");
            assert_eq!((s.resets, s.unverifiable, ledger.kernel_drops()), (0, 0, 0));
            assert_eq!(ledger.datagrams_received, sent.datagrams);
            assert_eq!((ledger.total.rows_written, gate.rows.load(SeqCst)), (sent.records, sent.records));
            assert_eq!((ledger.options.written, gate.options.load(SeqCst)), (s.options_records, s.options_records));
            assert_eq!(ledger.exporters.len(), 6);
            let sum = |of: fn(&ExporterAccount) -> u64| ledger.exporters.iter().map(of).sum::<u64>();
            assert_eq!(sum(|e| e.account.stats.lost), sent.missing);
            assert_eq!(sum(|e| e.account.rows_written), sent.records);
            assert_eq!(ledger.other, flowlane::collect::Account::default());
            assert!(ledger.exporters.iter().all(|e| e.clock_skew_us.is_some_and(|us| us.abs() < 5_000_000)));
            let (summary, result) = running.join();
            result.expect("no failure");
            assert_eq!((summary.rows_written, summary.stats), (sent.records, ledger.total.stats));
        }
    }
}

/// Sends from an address of loopback.
struct From(UdpSocket, SocketAddr);

impl From {
    fn new(address: &str, to: SocketAddr) -> Self {
        Self(UdpSocket::bind((address, 0)).expect("loopback has it"), to)
    }

    fn send(&self, bytes: &[u8]) {
        self.0.send_to(bytes, self.1).expect("sent");
    }
}

fn named<'a>(ledger: &'a Ledger, address: &str) -> &'a ExporterAccount {
    ledger.exporters.iter().find(|e| e.address.to_string() == address).expect("an exporter")
}

#[test]
fn every_cause_has_its_place() {
    let (running, gate, to) = start(1, |config| {
        config.decoder.exporters = 2;
        config.decoder.held.entries = 2;
        config.admission.allow =
            vec!["127.0.0.0/29".parse().expect("a prefix"), "2001:db8::/32".parse().expect("a prefix")];
    });
    let (a, b) = (From::new("127.0.0.1", to), From::new("127.0.0.2", to));
    let fields = [spec(8, 4), spec(2, 4)];
    let ipfix = |sequence| Head { sequence, ..Head::new(10) };
    let rows = |n: usize| vec![1; n * 8];
    // 3 records with their template; 2 that wait for theirs; one whose template is withdrawn while it waits.
    a.send(&ipfix(0).message(&[ipfix(0).template(256, &fields), set(256, &rows(3))]));
    a.send(&ipfix(3).message(&[set(300, &rows(2))]));
    a.send(&ipfix(5).message(&[set(257, &rows(1)), ipfix(0).withdrawal(257, false)]));
    a.send(&ipfix(6).message(&[ipfix(0).template(300, &fields)]));
    // A set past its message, of which two records are whole; a reserved id; two that are held on; one without room.
    let mut cut = set(256, &rows(2));
    cut[3] += 8;
    a.send(&ipfix(6).message(&[cut]));
    a.send(&ipfix(8).message(&[set(5, &[0; 8])]));
    a.send(&ipfix(8).message(&[set(301, &rows(1)), set(302, &rows(1)), set(303, &rows(1))]));
    // What the exporter says of itself.
    let (scope, totals) = ([spec(144, 4)], [spec(40, 8), spec(41, 8), spec(42, 8), spec(166, 8)]);
    let values: Vec<u8> =
        7u32.to_be_bytes().into_iter().chain([5000u64, 9, 77, 4].iter().flat_map(|n| n.to_be_bytes())).collect();
    a.send(&ipfix(11).message(&[ipfix(0).options_template(400, &scope, &totals), set(400, &values)]));
    a.send(b"no flows");
    // v5: a duplicate, a gap of 60 of which 30 come late, and a restart.
    for sequence in [0, 30, 30, 120, 60, 4_000_000_000] {
        b.send(&Head { sequence, ..Head::new(5) }.fixed(&vec![vec![0; 48]; 30]));
    }
    // One exporter too many, a stranger's noise, and a datagram with nothing in it.
    From::new("127.0.0.3", to).send(&Head::new(5).fixed(&[vec![0; 48]]));
    From::new("127.0.0.4", to).send(&[0]);
    From::new("127.0.0.4", to).send(&[]);
    // Two that nobody allowed, one of which would be malformed and both of one exporter too many.
    From::new("127.0.0.8", to).send(&Head::new(5).fixed(&[vec![0; 48]]));
    From::new("127.0.1.1", to).send(&[0]);

    let ledger = ledger_when(&running, "all of it", |l| {
        l.total.datagrams() == 20 && l.total.rows_pending() == 0 && l.options.pending() == 0
    });
    let a = named(&ledger, "127.0.0.1");
    let s = &a.account.stats;
    assert_eq!((s.datagrams, s.datagrams_malformed, a.account.datagrams_decoded(), s.datagrams_damaged), (9, 1, 8, 2));
    assert_eq!((s.sets, s.sets_decoded, s.sets_held, s.sets_malformed, s.sets_skipped), (13, 6, 4, 1, 1));
    assert_eq!(s.sets_without_room, 1);
    assert_eq!((s.held_decoded, s.held_dropped, a.account.still_held), (1, 1, 2));
    assert_eq!((s.records, s.late_records, s.options_records, a.account.rows_written), (7, 2, 1, 7));
    assert_eq!((s.lost, s.resets, s.duplicates), (0, 0, 0), "nothing is missing while sets cannot be decoded");
    let own: Vec<_> = a.own.iter().collect();
    assert_eq!(
        own,
        [("exported_octets", 5000), ("exported_messages", 9), ("exported_flows", 77), ("not_sent_flows", 4)]
    );
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs() as i64;
    let skew = a.clock_skew_us.expect("known") / 1_000_000;
    assert!((skew - (1_700_000_000 - now)).abs() < 60, "{skew}");
    assert!((a.last_seen.0 / 1_000_000 - now).abs() < 60);
    assert_eq!(a.versions, [10]);
    let b = named(&ledger, "127.0.0.2");
    let s = &b.account.stats;
    assert_eq!((s.duplicates, s.gaps, s.lost, s.reordered, s.resets), (1, 1, 30, 1, 1));
    assert_eq!((s.records, b.account.rows_written, s.sets_decoded), (180, 180, 6));
    let o = &ledger.other.stats;
    assert_eq!((o.datagrams, o.datagrams_limited, o.datagrams_malformed, o.sets), (3, 1, 2, 0));
    assert_eq!((ledger.other.refused, ledger.total.refused, ledger.other.datagrams()), (2, 2, 5));
    assert_eq!((ledger.options.decoded, ledger.options.written), (1, 1));
    assert_eq!(gate.rows.load(SeqCst), 187);
    assert_eq!(ledger.datagrams_received, 20);
    let json = ledger.json();
    let sums = &json["total"]["datagrams"];
    assert_eq!((&sums["received"], &sums["refused"], &sums["limited"]), (&20.into(), &2.into(), &1.into()));
    assert_eq!(json["exporters"][1]["own_totals"]["exported_messages"], 9);
    assert_eq!(json["exporters"][0]["sequence"]["lost"], 30);
}

#[test]
fn rows_are_written_dropped_or_pending() {
    let (running, gate, to) = start(1, |config| {
        config.queue = 1;
        config.decoder.batch_rows = 30;
    });
    gate.shut.store(true, SeqCst);
    let exporters = [From::new("127.0.0.1", to), From::new("127.0.0.2", to)];
    let send = |from: u32, to: u32| {
        for i in from..to {
            exporters[i as usize % 2]
                .send(&Head { sequence: i / 2 * 30, ..Head::new(5) }.fixed(&vec![vec![0; 48]; 30]));
        }
    };
    send(0, 40);
    let shut =
        ledger_when(&running, "a writer that waits", |l| l.total.stats.records == 1200 && l.total.rows_dropped > 0);
    assert_eq!(shut.total.rows_written, 0);
    let (dropped, pending) = (shut.total.rows_dropped, shut.total.rows_pending());
    assert!(pending >= 30, "one batch is with the writer: {pending}");
    gate.shut.store(false, SeqCst);
    let open = ledger_when(&running, "all that waited", |l| l.total.rows_pending() == 0);
    assert_eq!((open.total.rows_written, open.total.rows_dropped), (pending, dropped));
    assert_eq!(gate.rows.load(SeqCst), pending);
    assert!(open.exporters.iter().all(|e| e.account.rows_dropped > 0 && e.account.stats.records == 600));

    // A disk that refuses: rows are dropped at the other end, and the next are written again.
    gate.broken.store(true, SeqCst);
    send(40, 42);
    let broken =
        ledger_when(&running, "rows refused", |l| l.total.stats.records == 1260 && l.total.rows_pending() == 0);
    assert_eq!((broken.total.rows_written, broken.total.rows_dropped), (pending, dropped + 60));
    let watch = running.watch();
    assert_eq!(watch.unready().as_deref(), Some("rows are dropped, they cannot be written: no space left"));
    gate.broken.store(false, SeqCst);
    let end = Instant::now() + Duration::from_secs(20);
    while let Some(cause) = watch.unready() {
        assert!(Instant::now() < end, "it can be written again, and nothing comes that shows it: {cause}");
        std::thread::sleep(Duration::from_millis(20));
    }
    send(42, 43);
    let end = ledger_when(&running, "writing again", |l| l.total.stats.records == 1290 && l.total.rows_pending() == 0);
    assert_eq!((end.total.rows_written, end.total.rows_dropped), (pending + 30, dropped + 60));
    let (summary, result) = running.join();
    result.expect("it went on");
    assert_eq!((summary.rows_written, summary.rows_dropped), (pending + 30, dropped + 60));
    let losses = summary.losses();
    let of = |what: &str| losses.iter().filter(|l| l.0 == what).map(|l| l.1).sum::<u64>();
    // The second message may have found no room.
    let (slow, broken) = (of("rows dropped: the writer was too slow"), of("rows dropped: cannot write: no space left"));
    assert!(slow + broken == dropped + 60 && broken >= 30, "{losses:?}");
    assert_eq!(summary.exporters.iter().map(|e| e.rows_dropped).sum::<u64>(), dropped + 60);
}

#[test]
fn a_socket_that_overflows_says_so() {
    let (running, _, to) = start(1, |config| config.sockets.receive_buffer = 4096);
    // Bigger than what is left of the buffer after a few of them, faster than a thread wakes up.
    let from = From::new("127.0.0.1", to);
    let big = Head::new(5).fixed(&vec![vec![0; 48]; 30]);
    let (end, sent) = (Instant::now() + Duration::from_secs(30), Mutex::new(0u64));
    loop {
        for _ in 0..500 {
            from.send(&big);
        }
        let mut sent = sent.lock().expect("the count");
        *sent += 500;
        let ledger = running.watch().ledger();
        assert_eq!(ledger.imbalances(), []);
        if ledger.kernel_drops() > 0 {
            assert_eq!(ledger.sockets.len(), 1);
            assert_eq!((ledger.sockets[0].local.address, ledger.sockets[0].thread), (to, 0));
            let all = *sent;
            drop(sent);
            // The sender alone knows the whole sum: what came, and what the kernel threw away.
            let last = ledger_when(&running, "the rest", |l| l.datagrams_received + l.kernel_drops() >= all);
            assert_eq!(last.datagrams_received + last.kernel_drops(), all);
            assert_eq!(last.total.stats.datagrams, last.datagrams_received);
            break;
        }
        assert!(Instant::now() < end, "nothing was dropped");
    }
}

#[test]
fn what_is_above_a_rate_is_limited_and_its_templates_are_read() {
    let (running, gate, to) = start(1, |config| config.admission.rate = Some(20));
    let (a, b, v5) = (From::new("127.0.0.1", to), From::new("127.0.0.2", to), From::new("127.0.0.3", to));
    let fields = [spec(8, 4), spec(2, 4)];
    let data = |version, sequence| Head { sequence, ..Head::new(version) }.message(&[set(256, &[1; 24])]);
    // Sets of 3 records that wait, and then, far above the rate, their template and a set beside it. A disallowed length
    // and noise are limited, too: they were never looked at.
    for i in 0..40 {
        a.send(&data(10, i * 3));
    }
    a.send(
        &Head { sequence: 120, ..Head::new(10) }.message(&[Head::new(10).template(256, &fields), set(256, &[1; 24])]),
    );
    a.send(b"no flows");
    for i in 0..50 {
        b.send(&data(9, i));
        v5.send(&Head { sequence: i * 30, ..Head::new(5) }.fixed(&vec![vec![0; 48]; 30]));
    }
    let ledger = ledger_when(&running, "all of it", |l| l.total.datagrams() == 142 && l.total.rows_pending() == 0);
    let a = &named(&ledger, "127.0.0.1").account;
    let decoded = a.datagrams_decoded();
    assert!((20..40).contains(&decoded), "{decoded}");
    assert_eq!((a.stats.datagrams, a.stats.datagrams_limited, a.stats.datagrams_malformed), (42, 42 - decoded, 0));
    assert_eq!((a.stats.held_decoded, a.stats.records, a.stats.late_records), (decoded, decoded * 3, decoded * 3));
    assert_eq!((a.stats.sets, a.stats.lost, a.stats.resets), (decoded + 1, 0, 0), "what was refused is not lost");
    for address in ["127.0.0.2", "127.0.0.3"] {
        let account = &named(&ledger, address).account;
        assert!((20..50).contains(&account.datagrams_decoded()));
        assert_eq!(account.stats.datagrams_limited + account.datagrams_decoded(), 50);
        assert_eq!((account.stats.lost, account.stats.gaps), (0, 0), "{address}");
    }
    assert_eq!(gate.rows.load(SeqCst), ledger.total.stats.records);

    // Other rules, while it runs.
    running.admit(flowlane::collect::Admission { allow: vec!["127.0.0.2/32".parse().expect("a prefix")], rate: None });
    std::thread::sleep(Duration::from_millis(400));
    let sums = |l: &Ledger| (l.total.refused, named(l, "127.0.0.2").account.datagrams_decoded());
    let before = sums(&ledger);
    for i in 0..100 {
        b.send(&data(9, 50 + i));
        v5.send(&Head { sequence: 1500 + i * 30, ..Head::new(5) }.fixed(&vec![vec![0; 48]; 30]));
    }
    ledger_when(&running, "the rest", |l| sums(l) == (before.0 + 100, before.1 + 100));
}

#[test]
fn rows_that_the_filter_leaves_out_are_counted_those_it_cannot_tell_of_apart() {
    let plan = Plan {
        protocols: vec![Protocol::V5, Protocol::V9, Protocol::Ipfix],
        exporters: 6,
        options: Some(100),
        ..Plan::default()
    };
    let count = 1200;
    // Who sends how many flows of TCP, by the fields of the records themselves.
    let mut session = flowlane::rows::Session::new();
    let (mut all, mut tcp) = (0, 0);
    for (exporter, bytes) in flowgen::memory(&plan, count).expect("a plan").0 {
        let message = session.parse(&bytes, exporter).expect("a message");
        for record in message.records() {
            all += 1;
            tcp += u64::from(record.by_id(0, 4).map(|v| v.to_string()).as_deref() == Some("6"));
        }
    }
    assert!(tcp > all / 10 && tcp < all);
    // No record has a VNI: of those that are not TCP it cannot be told.
    for (filter, unknown) in [("proto tcp", 0), ("proto tcp or vni 5", all - tcp), ("exporter 192.0.2.1", 0)] {
        let (running, gate, to) = start(2, |config| {
            config.preparation.filter = Some(flowlane::query::Filter::parse(filter, 0).expect("a filter"));
        });
        let mut delivery = Delivery::to(to);
        delivery.limits = Limits { pace: Pace::Datagrams(20_000.0), count: Some(count), ..Limits::default() };
        let sent = flowgen::send(&plan, &delivery, &AtomicBool::new(false)).expect("sent");
        assert_eq!(sent.records, all);
        let kept = if filter.starts_with("exporter") { 0 } else { tcp };
        let ledger = ledger_when(&running, filter, |l| {
            l.total.stats.datagrams == sent.datagrams && l.total.rows_pending() == 0 && l.options.pending() == 0
        });
        let t = &ledger.total;
        assert_eq!((t.stats.records, t.rows_written, t.rows_dropped), (all, kept, 0), "{filter}");
        assert_eq!((t.rows_filtered, t.rows_unknown), (all - kept, unknown), "{filter}");
        assert_eq!((gate.rows.load(SeqCst), gate.odd.load(SeqCst)), (kept, 0), "{filter}");
        assert_eq!(ledger.options.written, sent.options_records, "options data are kept whole");
        let sum = |of: fn(&ExporterAccount) -> u64| ledger.exporters.iter().map(of).sum::<u64>();
        assert_eq!((sum(|e| e.account.rows_filtered), sum(|e| e.account.rows_unknown)), (all - kept, unknown));
        let json = ledger.json();
        let rows = &json["total"]["rows"];
        assert_eq!((&rows["filtered"], &rows["filtered_unknown"]), (&(all - kept).into(), &unknown.into()));
        assert_eq!(running.status().filtered_rows, all - kept);
        let (summary, result) = running.join();
        result.expect("no failure");
        assert_eq!((summary.rows_written, summary.rows_filtered, summary.rows_unknown), (kept, all - kept, unknown));
    }
}

#[test]
fn exporters_that_start_anew_are_resets_and_lose_nothing() {
    for (protocol, unit) in
        [(Protocol::V5, "flows"), (Protocol::V7, "flows"), (Protocol::V9, "messages"), (Protocol::Ipfix, "records")]
    {
        let (running, _, to) = start(2, |_| {});
        let plan = Plan { protocols: vec![protocol], exporters: 5, refresh: 0, ..Plan::default() };
        let mut delivery = Delivery::to(to);
        // The same streams: an exporter's numbers begin anew with the second round.
        delivery.source_port = Some(40_000 + std::process::id() as u16 % 20_000);
        delivery.limits = Limits { pace: Pace::Datagrams(20_000.0), count: Some(1500), ..Limits::default() };
        let mut sent = Vec::new();
        for _ in 0..2 {
            sent.push(flowgen::send(&plan, &delivery, &AtomicBool::new(false)).expect("sent"));
        }
        let datagrams: u64 = sent.iter().map(|s| s.datagrams).sum();
        let ledger =
            ledger_when(&running, unit, |l| l.total.stats.datagrams == datagrams && l.total.rows_pending() == 0);
        let s = &ledger.total.stats;
        assert_eq!(s.records, sent.iter().map(|s| s.records).sum::<u64>());
        assert_eq!((s.resets, s.lost, s.gaps, s.duplicates, s.reordered), (5, 0, 0, 0, 0), "{protocol:?}");
        assert!(ledger.exporters.iter().all(|e| e.account.stats.resets == 1));
    }
}

#[test]
fn what_exporters_say_of_themselves_stands_beside_what_came() {
    let (running, _, to) = start(1, |_| {});
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs() as u32;
    let (ahead, behind) = (From::new("127.0.0.1", to), From::new("127.0.0.2", to));
    let ids = [40, 41, 42, 163, 164, 165, 166, 167, 168];
    let fields = ids.map(|id| spec(id, 8));
    let say = |from: &From, version, secs, domain, scope: &[encoder::Spec], key: &[u8], first: u64| {
        let head = Head { secs, domain, ..Head::new(version) };
        let values: Vec<u8> = (first..first + 9).flat_map(u64::to_be_bytes).collect();
        from.send(&head.message(&[head.options_template(400, scope, &fields), set(400, &[key, &values].concat())]));
    };
    // IPFIX: two exporting processes of one domain, one of another, and one that says it again.
    let process = [spec(144, 4)];
    say(&ahead, 10, now + 3600, 7, &process, &[0, 0, 0, 1], 100);
    say(&ahead, 10, now + 3600, 7, &process, &[0, 0, 0, 2], 1000);
    say(&ahead, 10, now + 3600, 8, &process, &[0, 0, 0, 1], 10_000);
    say(&ahead, 10, now + 3600, 7, &process, &[0, 0, 0, 1], 200);
    // v9: of the whole system.
    say(&behind, 9, now - 120, 7, &[spec(1, 4)], &[0, 0, 0, 0], 5);
    let ledger = ledger_when(&running, "all of it", |l| l.total.stats.datagrams == 5 && l.options.pending() == 0);
    let (ahead, behind) = (named(&ledger, "127.0.0.1"), named(&ledger, "127.0.0.2"));
    let own = |e: &ExporterAccount| e.own.iter().map(|(_, n)| n).collect::<Vec<_>>();
    assert_eq!(own(ahead), (0..9).map(|i| 200 + 1000 + 10_000 + 3 * i).collect::<Vec<u64>>());
    assert_eq!(own(behind), (5..14).collect::<Vec<u64>>());
    let names: Vec<_> = ahead.own.iter().map(|(name, _)| name).collect();
    assert_eq!(names, flowlane::template::OwnTotals::NAMES);
    let skew = |e: &ExporterAccount| e.clock_skew_us.expect("known") / 1_000_000;
    assert!((3540..=3600).contains(&skew(ahead)), "{}", skew(ahead));
    assert!((-180..=-120).contains(&skew(behind)), "{}", skew(behind));
    assert_eq!((ledger.options.decoded, ledger.options.written), (5, 5));
    let json = ledger.json();
    let of = json["exporters"].as_array().expect("a list").iter().find(|e| e["exporter"] == "127.0.0.2").expect("it");
    assert_eq!((&of["own_totals"]["exported_octets"], &of["own_totals"]["not_sent_octets"]), (&5.into(), &13.into()));
}
