//! IPFIX over TCP and TLS: whose templates count, what ends a connection, and that nothing else is lost with it.

mod encoder;

use encoder::{Head, Spec, set, spec};
use flowlane::collect::{Collector, Config, ConnectionCounts, Item, Ledger, Running, Sink, Tls, TlsFiles};
use flowlane::columns::Timestamp;
use flowlane::decode::{self, Decoder};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

const NARROW: [Spec; 2] = [spec(8, 4), spec(2, 4)];
const WIDE: [Spec; 3] = [spec(8, 4), spec(12, 4), spec(1, 8)];

/// Counts rows and their octets; takes none while it is shut.
#[derive(Clone, Default)]
struct Rows {
    count: Arc<AtomicU64>,
    shut: Arc<AtomicBool>,
}

impl Sink for Rows {
    fn write(&mut self, item: &Item) -> io::Result<()> {
        while self.shut.load(SeqCst) {
            std::thread::sleep(Duration::from_millis(5));
        }
        self.count.fetch_add(item.rows(), SeqCst);
        Ok(())
    }

    fn tick(&mut self, _: Timestamp) -> io::Result<()> {
        Ok(())
    }

    fn finish(self: Box<Self>) -> io::Result<()> {
        Ok(())
    }
}

/// A collector without datagrams.
fn start(change: impl FnOnce(&mut Config)) -> (Running, Rows, SocketAddr) {
    let mut config = Config { listen: Vec::new(), threads: 2, ..Config::default() };
    config.connections.tcp = vec![([127, 0, 0, 1], 0).into()];
    change(&mut config);
    let collector = Collector::open(config).expect("a free port");
    let (rows, to) = (Rows::default(), collector.connection_addresses()[0].0);
    (collector.start(Box::new(rows.clone())).expect("threads"), rows, to)
}

/// The ledger as soon as it says what is waited for. It adds up at every moment on the way.
fn ledger_when(running: &Running, what: &str, done: impl Fn(&Ledger) -> bool) -> Ledger {
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        let ledger = running.watch().ledger();
        assert_eq!(ledger.imbalances(), [], "{what}");
        if done(&ledger) {
            assert!(ledger.is_fresh);
            return ledger;
        }
        assert!(Instant::now() < end, "{what}: {:?}", ledger.total);
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn connect(to: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(to).expect("somebody listens");
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a timeout");
    stream
}

/// Waits until the collector closes its end.
fn is_closed(stream: &mut TcpStream) -> bool {
    match stream.read(&mut [0; 16]) {
        Ok(n) => n == 0,
        Err(error) => error.kind() == io::ErrorKind::ConnectionReset,
    }
}

fn ipfix(sequence: u32) -> Head {
    Head { sequence, ..Head::new(10) }
}

/// A template of id 256, and so many records of it.
fn taught(fields: &[Spec], records: usize) -> Vec<u8> {
    let len: usize = fields.iter().map(|f| usize::from(f.len)).sum();
    ipfix(0).message(&[ipfix(0).template(256, fields), set(256, &vec![1; len * records])])
}

fn counts(ledger: &Ledger) -> ConnectionCounts {
    ledger.total.connections
}

#[test]
fn a_template_ends_with_its_connection() {
    let mut decoder = Decoder::new(decode::Config::default());
    let (exporter, at) = (SocketAddr::from(([192, 0, 2, 1], 7000)), Timestamp(1_700_000_000_000_000));
    let (a, b) = (decoder.open_session(), decoder.open_session());
    let records = |outcome: decode::Outcome| (outcome.records, outcome.sets_held);
    assert_eq!(records(decoder.decode_in(a, &taught(&NARROW, 3), exporter, at)), (3, 0));
    // The same address and port, over another connection and as a datagram: nobody defined it there.
    let data = ipfix(3).message(&[set(256, &[1; 16])]);
    assert_eq!(records(decoder.decode_in(b, &data, exporter, at)), (0, 1));
    assert_eq!(records(decoder.decode(&data, exporter, at)), (0, 1));
    assert_eq!(records(decoder.decode_in(a, &data, exporter, at)), (2, 0));
    assert_eq!(records(decoder.decode_in(b, &taught(&WIDE, 1), exporter, at)), (2, 0), "one waited");
    assert_eq!((decoder.held_sets(), decoder.exporter_count()), (1, 1));
    assert_eq!(decoder.known_exporters().filter(|e| e.session.is_some()).count(), 2);

    decoder.end_session(a);
    assert_eq!(records(decoder.decode_in(a, &data, exporter, at)), (0, 1), "it would begin anew");
    decoder.end_session(a);
    decoder.end_session(b);
    let stats = decoder.stats();
    assert_eq!((stats.datagrams, stats.records, stats.held_dropped), (6, 7, 1));
    assert_eq!(decoder.exporters().map(|e| e.1.records).collect::<Vec<_>>(), [7], "one address, when all are closed");
    assert_eq!(decoder.held_sets(), 1, "the datagram's");

    // Each connection counts for itself, too.
    for i in 0..1000 {
        let session = decoder.open_session();
        let outcome = decoder.decode_in(session, &taught(&NARROW, 1), exporter, at);
        assert_eq!((outcome.records, outcome.sequence), (1, decode::SequenceEvent::InOrder), "{i}");
        decoder.end_session(session);
    }
    assert!(decoder.last_messages().count() < 200, "streams go with their connections");
}

#[test]
fn a_limit_of_templates_is_that_of_an_address_over_its_connections() {
    let mut config = decode::Config::default();
    (config.templates.templates, config.templates.all_fields) = (10, 800);
    let mut decoder = Decoder::new(config);
    let (one, at) = (SocketAddr::from(([192, 0, 2, 1], 7000)), Timestamp(1_700_000_000_000_000));
    let other = SocketAddr::from(([192, 0, 2, 2], 7000));
    let templates = |ids: std::ops::Range<u16>, fields: usize| {
        ipfix(0).message(&ids.map(|id| ipfix(0).template(id, &vec![spec(8, 4); fields])).collect::<Vec<_>>())
    };
    let kept = |decoder: &Decoder| decoder.known_exporters().map(|e| e.templates.len()).sum::<usize>();
    let sessions: Vec<_> = (0..4).map(|_| decoder.open_session()).collect();
    for &session in &sessions[..3] {
        decoder.decode_in(session, &templates(256..260, 2), one, at);
    }
    assert_eq!(kept(&decoder), 10);
    decoder.decode(&templates(256..257, 2), one, at);
    assert_eq!(kept(&decoder), 10, "nor as a datagram");
    decoder.end_session(sessions[0]);
    decoder.decode(&templates(256..257, 2), one, at);
    assert_eq!(kept(&decoder), 7, "what ended makes room");
    // Nor can an address take the room for fields of all.
    decoder.end_session(sessions[1]);
    decoder.end_session(sessions[2]);
    decoder.decode(&templates(300..305, 40), one, at);
    assert_eq!(kept(&decoder), 3, "82 fields of 100");
    decoder.decode_in(sessions[3], &templates(300..302, 40), other, at);
    assert_eq!(kept(&decoder), 5);
}

#[test]
fn what_connections_send_is_written_however_it_is_cut() {
    let (running, rows, to) = start(|_| {});
    let mut sent = 0;
    let mut streams = Vec::new();
    for (size, fields) in [(1, &NARROW[..]), (7, &WIDE), (1000, &NARROW), (65_536, &WIDE)] {
        let mut stream = connect(to);
        stream.set_nodelay(true).expect("an option");
        let len: usize = fields.iter().map(|f| usize::from(f.len)).sum();
        let mut bytes = taught(fields, 2);
        for i in 0..20 {
            bytes.extend(ipfix(2 + i * 10).message(&[set(256, &vec![1; len * 10])]));
        }
        sent += 202;
        bytes.chunks(size).for_each(|piece| stream.write_all(piece).expect("sent"));
        streams.push(stream);
    }
    let ledger = ledger_when(&running, "all rows", |l| l.total.rows_written == sent);
    assert_eq!((rows.count.load(SeqCst), ledger.total.stats.lost, ledger.total.stats.resets), (sent, 0, 0));
    assert_eq!((ledger.exporters.len(), ledger.datagrams_received), (1, 84));
    assert_eq!((counts(&ledger).accepted, counts(&ledger).open), (4, 4));
    let open = running.watch().connections();
    assert_eq!(open.iter().map(|c| (c.messages, c.transport)).collect::<Vec<_>>(), [(21, "tcp"); 4]);
    drop(streams);
    ledger_when(&running, "all closed", |l| counts(l).closed == 4);
    let (summary, result) = running.join();
    result.expect("no failure");
    assert_eq!((summary.rows_written, summary.connections.accepted), (sent, 4));
    assert_eq!(summary.losses(), []);
}

#[test]
fn what_is_wrong_ends_its_connection_alone() {
    let (running, rows, to) = start(|config| {
        config.admission.allow = vec!["127.0.0.0/30".parse().expect("a prefix")];
        config.connections.most = 5;
    });
    let mut honest = connect(to);
    honest.write_all(&taught(&NARROW, 1)).expect("sent");
    let mut long = taught(&NARROW, 1);
    long[3] += 4;
    let mut short = taught(&NARROW, 1);
    short[3] -= 4;
    let mut past = taught(&NARROW, 1);
    past[19] += 40; // the template's set
    let no_header = [0, 10, 0, 15];
    let v9 = Head::new(9).message(&[]);
    for (what, bytes) in [
        ("a length too long", [long, taught(&NARROW, 1)].concat()),
        ("a length too short", [short, taught(&NARROW, 1)].concat()),
        ("a set past its message", past),
        ("a message without a header", no_header.to_vec()),
        ("v9", v9),
        ("a TLS greeting", vec![22, 3, 1, 2, 0]),
        ("a request", b"GET / HTTP/1.1\r\n\r\n".to_vec()),
    ] {
        let mut stream = connect(to);
        stream.write_all(&bytes).expect("sent");
        assert!(is_closed(&mut stream), "{what}");
        honest.write_all(&ipfix(1).message(&[set(256, &[1; 8])])).expect("sent");
    }
    let ledger = ledger_when(&running, "all of them", |l| counts(l).malformed == 7 && l.total.rows_pending() == 0);
    assert_eq!(ledger.total.stats.records, 8 + 1, "the rows before what was wrong are kept");
    assert_eq!(rows.count.load(SeqCst), 9);

    // One that breaks off within a message, one that nobody allowed, and more than there may be.
    connect(to).write_all(&taught(&NARROW, 1)[..30]).expect("sent");
    ledger_when(&running, "one broken", |l| counts(l).failed == 1);
    let stranger = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    stranger.bind(&SocketAddr::from(([127, 0, 0, 9], 0)).into()).expect("loopback has it");
    stranger.connect(&to.into()).expect("somebody listens");
    assert!(is_closed(&mut TcpStream::from(stranger)));
    let mut more: Vec<TcpStream> = (0..6).map(|_| connect(to)).collect();
    let ledger = ledger_when(&running, "two too many", |l| counts(l).limited == 2);
    assert_eq!((counts(&ledger).refused, counts(&ledger).open, counts(&ledger).accepted), (1, 5, 16));
    more.iter().for_each(|s| s.set_read_timeout(Some(Duration::from_millis(300))).expect("a timeout"));
    assert_eq!(more.iter_mut().map(is_closed).filter(|closed| *closed).count(), 2);
    honest.shutdown(Shutdown::Write).expect("closed");
    assert!(is_closed(&mut honest));
    ledger_when(&running, "the honest one's end", |l| counts(l).closed == 1);
}

#[test]
fn slow_and_silent_peers_are_timed_out() {
    let (running, _, to) = start(|config| {
        config.connections.stall = Duration::from_millis(1500);
        config.connections.idle = Some(Duration::from_secs(5));
    });
    let mut honest = connect(to);
    honest.write_all(&taught(&NARROW, 1)).expect("sent");
    let mut silent = connect(to);
    let mut slow = connect(to);
    slow.write_all(&taught(&NARROW, 1)).expect("sent");
    let next = ipfix(1).message(&[set(256, &[1; 200])]);
    // A byte now and then of a message that would take for ever; meanwhile another sends whole ones.
    let (mut at, mut ended, began) = (0, false, Instant::now());
    while !ended {
        assert!(began.elapsed() < Duration::from_secs(30));
        ended = slow.write_all(&next[at..=at]).is_err();
        at += 1;
        honest.write_all(&ipfix(1).message(&[set(256, &[1; 8])])).expect("the honest one is left alone");
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(is_closed(&mut silent));
    let ledger = ledger_when(&running, "two", |l| counts(l).timed_out == 2);
    assert_eq!(counts(&ledger).open, 1);
    assert!(is_closed(&mut honest), "nothing came for five seconds");
    ledger_when(&running, "all", |l| counts(l).timed_out == 3);
}

#[test]
fn a_slow_writer_holds_exporters_up_and_costs_nothing() {
    let (running, rows, to) = start(|config| {
        config.queue = 1;
        config.threads = 1;
        config.decoder.batch_rows = 1000;
        config.connections.stall = Duration::from_secs(2);
    });
    rows.shut.store(true, SeqCst);
    let written = Arc::new(AtomicU64::new(0));
    let progress = written.clone();
    let sender = std::thread::spawn(move || {
        let mut stream = connect(to);
        stream.write_all(&taught(&NARROW, 0)).expect("sent");
        let data = ipfix(0).message(&[set(256, &vec![1; 8 * 7000])]);
        for _ in 0..800 {
            stream.write_all(&data).expect("held up, and not closed");
            progress.fetch_add(1, SeqCst);
        }
    });
    // The sender is stopped long before its end, and for longer than a message may take.
    let (mut before, mut since) = (0, Instant::now());
    while since.elapsed() < Duration::from_secs(4) {
        let now = written.load(SeqCst);
        if now != before {
            (before, since) = (now, Instant::now());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(before < 790, "{before}");
    let shut = running.watch().ledger();
    assert!(shut.is_fresh, "it answers while it waits");
    assert_eq!((shut.total.rows_written, shut.total.rows_dropped), (0, 0));
    rows.shut.store(false, SeqCst);
    sender.join().expect("all is sent");
    let ledger = ledger_when(&running, "all rows", |l| l.total.rows_written == 800 * 7000);
    assert_eq!((ledger.total.rows_dropped, counts(&ledger).timed_out), (0, 0));
    let (summary, result) = running.join();
    result.expect("no failure");
    assert_eq!((summary.rows_written, summary.rows_dropped), (800 * 7000, 0));
}

#[test]
fn two_thousand_connections_at_once() {
    const CONNECTIONS: u32 = 2000;
    // Both ends are this process's.
    let given = flowlane::net::allow_descriptors(u64::from(CONNECTIONS) * 2 + 512);
    assert!(given > u64::from(CONNECTIONS) * 2, "{given} file descriptors are too few for this test");
    let (running, rows, to) = start(|_| {});
    let mut streams: Vec<TcpStream> = (0..CONNECTIONS).map(|_| connect(to)).collect();
    // Each has its own layout for the same id.
    let fields = |i: usize| if i.is_multiple_of(2) { &NARROW[..] } else { &WIDE[..] };
    for (i, stream) in streams.iter_mut().enumerate() {
        stream.write_all(&taught(fields(i), 3)).expect("sent");
    }
    for (i, stream) in streams.iter_mut().enumerate() {
        let len: usize = fields(i).iter().map(|f| usize::from(f.len)).sum();
        stream.write_all(&ipfix(3).message(&[set(256, &vec![1; len * 2])])).expect("sent");
    }
    let all = u64::from(CONNECTIONS) * 5;
    let ledger = ledger_when(&running, "all rows", |l| l.total.rows_written == all);
    assert_eq!((rows.count.load(SeqCst), counts(&ledger).open), (all, u64::from(CONNECTIONS)));
    assert_eq!((ledger.total.stats.sets_held, ledger.total.stats.lost, ledger.exporters.len()), (0, 0, 1));
    assert_eq!(running.watch().connections().len(), streams.len());
    drop(streams);
    let ledger = ledger_when(&running, "all closed", |l| counts(l).closed == u64::from(CONNECTIONS));
    assert_eq!(ledger.exporters[0].account.stats.records, all, "what they sent is their exporter's");
}

#[test]
fn an_exporter_above_its_rate_is_read_more_slowly() {
    let (running, _, to) = start(|config| {
        config.admission.rate = Some(100);
        config.connections.stall = Duration::from_millis(500);
    });
    let (mut fast, mut other) = (connect(to), connect(to));
    let began = Instant::now();
    fast.write_all(&taught(&NARROW, 0)).expect("sent");
    let data = ipfix(0).message(&[set(256, &vec![1; 8 * 4000])]);
    for _ in 0..350 {
        fast.write_all(&data).expect("held up, and not closed");
    }
    let ledger = ledger_when(&running, "all rows", |l| l.total.rows_written == 350 * 4000);
    let took = began.elapsed();
    assert!(took > Duration::from_millis(2000), "{took:?} for what takes 2.5 s");
    assert_eq!((ledger.total.stats.datagrams_limited, ledger.total.stats.lost), (0, 0));
    assert!(is_closed(&mut other), "it said nothing");
    assert_eq!((counts(&ledger).accepted, ledger.total.rows_dropped), (2, 0));
}

#[test]
fn what_comes_at_once_is_charged_before_it_is_decoded() {
    let (running, _, to) = start(|config| config.admission.rate = Some(100));
    let one = ipfix(0).message(&[set(256, &[1; 8])]);
    let mut all = taught(&NARROW, 0);
    (0..399).for_each(|_| all.extend(&one));
    let (mut streams, began) = ([connect(to), connect(to)], Instant::now());
    for stream in &mut streams {
        stream.write_all(&all).expect("sent");
    }
    let ledger = ledger_when(&running, "a second's worth", |l| l.total.stats.datagrams >= 100);
    let allowed = 100 + began.elapsed().as_millis() as u64 / 10 + 1;
    assert!(ledger.total.stats.datagrams <= allowed, "{} of {allowed}", ledger.total.stats.datagrams);
    // What waits is not lost at the end.
    drop(streams);
    let (summary, result) = running.join();
    result.expect("no failure");
    assert_eq!((summary.stats.datagrams, summary.rows_written), (800, 798));
}

#[test]
fn what_was_sent_before_the_stop_is_written() {
    // One whose connection waits to be taken when the stop comes, and one that rests because it sends too much.
    let (running, rows, to) = start(|config| config.admission.rate = Some(20));
    let data = ipfix(0).message(&[set(256, &vec![1; 8 * 50])]);
    let send = |stream: &mut TcpStream| {
        stream.write_all(&taught(&NARROW, 0)).expect("sent");
        (0..60).for_each(|_| stream.write_all(&data).expect("sent"));
    };
    let mut early = connect(to);
    send(&mut early);
    std::thread::sleep(Duration::from_millis(300));
    let mut late = connect(to);
    send(&mut late);
    let (summary, result) = running.join();
    result.expect("no failure");
    assert_eq!((rows.count.load(SeqCst), summary.rows_written), (6000, 6000));
    assert_eq!((summary.connections.closed, summary.connections.open), (2, 0));
    assert!(is_closed(&mut early) && is_closed(&mut late));
}

/// Certificates of a test, in a folder of its own.
struct Papers(PathBuf);

impl Papers {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("flowlane-tls-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a folder");
        let papers = Self(path);
        for authority in ["ours", "theirs"] {
            let mut params = CertificateParams::new(Vec::new()).expect("names");
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            let key = KeyPair::generate().expect("a key");
            let certificate = params.self_signed(&key).expect("a certificate");
            papers.write(&format!("{authority}.pem"), &certificate.pem());
            let issuer = Issuer::new(params, key);
            for holder in ["collector", "exporter"] {
                let key = KeyPair::generate().expect("a key");
                let params = CertificateParams::new(vec!["localhost".to_string()]).expect("names");
                let certificate = params.signed_by(&key, &issuer).expect("a certificate");
                papers.write(&format!("{authority}-{holder}.pem"), &certificate.pem());
                papers.write(&format!("{authority}-{holder}.key"), &key.serialize_pem());
            }
        }
        papers
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.0.join(name), text).expect("written");
    }

    fn files(&self, authority: Option<&str>) -> TlsFiles {
        TlsFiles {
            certificate: self.0.join("collector.pem"),
            key: self.0.join("collector.key"),
            client_authorities: authority.map(|name| self.0.join(format!("{name}.pem"))),
        }
    }

    /// Puts a collector's certificate in its place.
    fn install(&self, authority: &str) {
        for end in ["pem", "key"] {
            let from = self.0.join(format!("{authority}-collector.{end}"));
            std::fs::copy(from, self.0.join(format!("collector.{end}"))).expect("copied");
        }
    }

    /// An exporter that trusts an authority, and shows a certificate of another if it is to.
    fn client(&self, trusts: &str, shows: Option<&str>, to: SocketAddr) -> StreamOwned<ClientConnection, TcpStream> {
        let mut roots = RootCertStore::empty();
        let authority = CertificateDer::from_pem_file(self.0.join(format!("{trusts}.pem"))).expect("a certificate");
        roots.add(authority).expect("an authority");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let builder = builder.expect("versions").with_root_certificates(roots);
        let config = match shows {
            None => builder.with_no_client_auth(),
            Some(name) => {
                let file = |end| self.0.join(format!("{name}-exporter.{end}"));
                let chain = vec![CertificateDer::from_pem_file(file("pem")).expect("a certificate")];
                let key = PrivateKeyDer::from_pem_file(file("key")).expect("a key");
                builder.with_client_auth_cert(chain, key).expect("a pair")
            }
        };
        let name = ServerName::try_from("localhost").expect("a name");
        StreamOwned::new(ClientConnection::new(Arc::new(config), name).expect("a client"), connect(to))
    }
}

impl Drop for Papers {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn start_tls(tls: &Tls) -> (Running, Rows, SocketAddr) {
    start(|config| {
        config.connections.tcp.clear();
        config.connections.tls = Some((vec![([127, 0, 0, 1], 0).into()], tls.clone()));
        config.connections.stall = Duration::from_secs(3);
    })
}

#[test]
fn messages_come_over_tls() {
    let papers = Papers::new("plain");
    papers.install("ours");
    let tls = Tls::read(&papers.files(None)).expect("files");
    let (running, rows, to) = start_tls(&tls);
    let mut exporter = papers.client("ours", None, to);
    exporter.write_all(&taught(&NARROW, 1)).expect("sent");
    // More than a record of TLS, and more than is read at once.
    let data = ipfix(1).message(&[set(256, &vec![1; 8 * 8000])]);
    for _ in 0..20 {
        exporter.write_all(&data).expect("sent");
    }
    ledger_when(&running, "all rows", |l| l.total.rows_written == 160_001);
    assert_eq!(rows.count.load(SeqCst), 160_001);
    assert_eq!(running.watch().connections()[0].transport, "tls");
    exporter.conn.send_close_notify();
    exporter.conn.complete_io(&mut exporter.sock).expect("sent");
    assert_eq!(exporter.read(&mut [0; 1]).expect("the collector's goodbye"), 0);
    ledger_when(&running, "its end", |l| counts(l).closed == 1);

    // One that does not trust us, one that speaks no TLS, one that says nothing.
    assert!(papers.client("theirs", None, to).write_all(&data).is_err());
    let mut plain = connect(to);
    plain.write_all(&taught(&NARROW, 1)).expect("sent");
    assert!(plain.read_to_end(&mut Vec::new()).is_ok_and(|n| n <= 7), "an alert at most");
    assert!(connect(to).read_to_end(&mut Vec::new()).is_ok_and(|n| n <= 7));
    let ledger = ledger_when(&running, "three", |l| counts(l).failed == 2 && counts(l).timed_out == 1);
    assert_eq!((ledger.total.stats.datagrams, counts(&ledger).open), (21, 0));

    // The certificate changes on disk: those who come later see the new one, and a file that is wrong changes nothing.
    let mut before = papers.client("ours", None, to);
    before.write_all(&taught(&NARROW, 1)).expect("sent");
    papers.write("collector.pem", "nothing");
    assert!(
        tls.reload(&papers.files(None))
            .expect_err("no certificate")
            .to_string()
            .contains("collector.pem holds no certificates")
    );
    papers.client("ours", None, to).write_all(&taught(&NARROW, 1)).expect("the old one");
    papers.install("theirs");
    tls.reload(&papers.files(None)).expect("files");
    papers.client("theirs", None, to).write_all(&taught(&NARROW, 1)).expect("the new one");
    before.write_all(&ipfix(1).message(&[set(256, &[1; 8])])).expect("sent");
    ledger_when(&running, "the rest", |l| l.total.stats.records == 160_005);
}

#[test]
fn an_exporter_that_only_writes_and_closes_loses_nothing() {
    let papers = Papers::new("writes");
    papers.install("ours");
    let tls = Tls::read(&papers.files(None)).expect("files");
    let (running, _, to) = start_tls(&tls);
    let data = ipfix(1).message(&[set(256, &vec![1; 8 * 8000])]);
    let exporters = 6;
    std::thread::scope(|scope| {
        for _ in 0..exporters {
            scope.spawn(|| {
                let mut exporter = papers.client("ours", None, to);
                exporter.write_all(&taught(&NARROW, 1)).expect("sent");
                for _ in 0..25 {
                    exporter.write_all(&data).expect("sent");
                }
                exporter.conn.send_close_notify();
                while exporter.conn.wants_write() {
                    exporter.conn.write_tls(&mut exporter.sock).expect("sent");
                }
                // Closed at once, and whatever the collector had to say is unread.
            });
        }
    });
    let ledger = ledger_when(&running, "their ends", |l| counts(l).open == 0);
    assert_eq!((counts(&ledger).closed, counts(&ledger).failed), (exporters, 0));
    assert_eq!(ledger.total.stats.records, exporters * 200_001);
}

#[test]
fn exporters_show_certificates() {
    let papers = Papers::new("both");
    papers.install("ours");
    let tls = Tls::read(&papers.files(Some("ours"))).expect("files");
    let (running, _, to) = start_tls(&tls);
    papers.client("ours", Some("ours"), to).write_all(&taught(&NARROW, 2)).expect("sent");
    ledger_when(&running, "two rows", |l| l.total.rows_written == 2);
    for shows in [None, Some("theirs")] {
        let mut refused = papers.client("ours", shows, to);
        // With TLS 1.3 a client is done before it is judged.
        let _ = refused.write_all(&taught(&NARROW, 2));
        assert!(refused.read_to_end(&mut Vec::new()).is_err(), "an alert");
    }
    // The first went away with what the collector had to say unread, which may break a connection, too.
    let gone = |c: ConnectionCounts| c.failed >= 2 && c.closed + c.failed == 3;
    let ledger = ledger_when(&running, "two refused", |l| gone(counts(l)));
    assert_eq!(ledger.total.stats.records, 2);

    let files = TlsFiles { client_authorities: Some("/no/such/file".into()), ..papers.files(None) };
    assert!(Tls::read(&files).expect_err("no file").to_string().contains("/no/such/file"));
}
