//! What a running collector answers over HTTP, and the dashboard that asks it.

mod encoder;
mod running;
mod scratch;

use encoder::{Head, set, spec};
use flowlane::collect::http::{self, Http, Serving};
use flowlane::collect::{Collector, Config, Item, Running, Sink};
use flowlane::columns::Timestamp;
use flowlane::elements::Registry;
use scratch::Scratch;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::process::Command;
use std::time::{Duration, Instant};

struct Nowhere;

impl Sink for Nowhere {
    fn write(&mut self, _: &Item) -> io::Result<()> {
        Ok(())
    }

    fn tick(&mut self, _: Timestamp) -> io::Result<()> {
        Ok(())
    }

    fn finish(self: Box<Self>) -> io::Result<()> {
        Ok(())
    }
}

struct Site {
    running: Running,
    _serving: Serving,
    to: SocketAddr,
    address: SocketAddr,
    url: String,
}

fn site(named: usize) -> Site {
    let config = Config { listen: vec![([127, 0, 0, 1], 0).into()], threads: 2, ..Config::default() };
    let collector = Collector::open(config).expect("a free port");
    let to = collector.addresses()[0];
    let running = collector.start(Box::new(Nowhere)).expect("threads");
    let http = Http::bind(([127, 0, 0, 1], 0).into()).expect("a free port");
    let address = http.address();
    let serving = http.serve(running.watch(), named, Registry::standard().clone()).expect("a thread");
    Site { running, _serving: serving, to, address, url: format!("http://{address}") }
}

impl Site {
    fn ok(&self, path: &str) -> String {
        let (status, text) = http::fetch(&self.url, path).expect("an answer");
        assert_eq!(status, 200, "{path}: {text}");
        text
    }

    fn json(&self, path: &str) -> Value {
        serde_json::from_str(&self.ok(path)).expect("JSON")
    }

    fn send(&self, from: &str, datagrams: &[Vec<u8>]) {
        let socket = UdpSocket::bind((from, 0)).expect("loopback has it");
        for bytes in datagrams {
            socket.send_to(bytes, self.to).expect("sent");
        }
    }

    /// IPFIX with options, errors and held sets from one exporter; v5 from others.
    fn traffic(&self, exporters: u8) {
        let head = |sequence| Head { sequence, ..Head::new(10) };
        let fields = [spec(8, 4), spec(12, 4), spec(2, 8)];
        let totals = [spec(41, 8), spec(42, 8)];
        let data = [head(0).template(256, &fields), set(256, &[1; 32]), set(300, &[1; 8])];
        let own: Vec<u8> = [1u64, 20, 500].iter().flat_map(|n| n.to_be_bytes()).collect();
        let options = [head(0).options_template(400, &[spec(144, 8)], &totals), set(400, &own), set(9, &[0; 4])];
        self.send("127.0.0.1", &[head(0).message(&data), head(2).message(&options), b"no flows".to_vec()]);
        for i in 0..exporters {
            self.send(&format!("127.0.1.{}", i + 1), &[Head::new(5).fixed(&vec![vec![0; 48]; 3])]);
        }
        let all = 3 + u64::from(exporters);
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            let ledger = self.running.watch().ledger();
            if ledger.total.stats.datagrams == all && ledger.total.rows_pending() == 0 {
                return;
            }
            assert!(Instant::now() < end, "{ledger:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Labels and a value.
type Sample = (BTreeMap<String, String>, f64);

/// Samples by metric: labels and value. Every sample belongs to a metric that was announced, and comes once.
fn samples(text: &str) -> BTreeMap<String, Vec<Sample>> {
    let (mut all, mut kinds, mut seen) = (BTreeMap::<_, Vec<_>>::new(), BTreeSet::new(), BTreeSet::new());
    for line in text.lines() {
        if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').expect("a type");
            assert!(kinds.insert(name.to_owned()), "{name} twice");
            assert_eq!(name.ends_with("_total"), kind == "counter", "{line}");
            continue;
        }
        if line.starts_with('#') {
            continue;
        }
        let (series, value) = line.rsplit_once(' ').expect("a value");
        assert!(seen.insert(series.to_owned()), "{series} twice");
        let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
        assert!(kinds.contains(name), "{line}");
        let labels = labels.strip_suffix('}').expect("closed").split("\",").filter(|l| !l.is_empty());
        let labels = labels.map(|l| l.split_once("=\"").expect("a label"));
        let labels = labels.map(|(k, v)| (k.to_owned(), v.trim_end_matches('"').to_owned())).collect();
        all.entry(name.to_owned()).or_default().push((labels, value.parse().expect("a number")));
    }
    all
}

#[test]
fn each_page_answers() {
    let site = site(200);
    assert_eq!((site.ok("/healthz"), site.ok("/readyz")), ("ok\n".into(), "ready\n".into()));
    site.traffic(3);
    let ledger = site.json("/ledger");
    assert_eq!(ledger["total"]["datagrams"]["received"], 6);
    assert_eq!(ledger["total"]["rows"]["written"], 11);
    assert_eq!(ledger["exporters"].as_array().map(Vec::len), Some(4));
    let exporters = site.json("/exporters");
    let all = exporters["exporters"].as_array().expect("a list");
    let ipfix = all.iter().find(|e| e["exporter"] == "127.0.0.1").expect("it sent");
    assert_eq!((&ipfix["own_totals"]["exported_flows"], &ipfix["versions"][0]), (&500.into(), &10.into()));
    let templates = site.json("/templates");
    let templates = templates["templates"].as_array().expect("a list");
    assert_eq!(templates.len(), 2);
    let data = templates.iter().find(|t| t["id"] == 256).expect("it was sent");
    let names: Vec<_> = data["fields"].as_array().expect("a list").iter().map(|f| f["name"].as_str()).collect();
    let expected = ["sourceIPv4Address", "destinationIPv4Address", "packetDeltaCount"];
    assert_eq!(names, expected.map(Some));
    assert_eq!((&data["record_length"], &data["definitions"]), (&16.into(), &1.into()));
    assert_eq!(data["plan"]["records"], 2);
    assert!(data["plan"]["columns"].as_array().expect("a list").iter().any(|c| c == "src_ip4"), "{data}");
    assert!(data["last_seen"].as_f64() > Some(1.7e9) && data["plan"]["last_used"].as_f64() > Some(1.7e9));
    let options = templates.iter().find(|t| t["id"] == 400).expect("it was sent");
    assert_eq!((&options["kind"], &options["plan"]), (&"options".into(), &Value::Null));
    let (status, text) = http::fetch(&site.url, "/nothing").expect("an answer");
    assert_eq!(status, 404);
    assert!(text.contains("/metrics"));
}

#[test]
fn metrics_name_so_many_exporters_and_sum_up_the_rest() {
    let site = site(2);
    site.traffic(5);
    for _ in 0..2 {
        let all = samples(&site.ok("/metrics"));
        let datagrams = &all["flowlane_datagrams_total"];
        let names: BTreeSet<_> = datagrams.iter().map(|s| s.0["exporter"].clone()).collect();
        assert_eq!(names.len(), 3);
        assert!(names.contains("other"));
        assert_eq!(datagrams.iter().map(|s| s.1).sum::<f64>(), 8.0);
        assert_eq!(all["flowlane_rows_total"].iter().map(|s| s.1).sum::<f64>(), 17.0);
        let other = datagrams.iter().filter(|s| s.0["exporter"] == "other").map(|s| s.1).sum::<f64>();
        assert!(other >= 4.0, "three exporters, or the one of three datagrams, and more: {other}");
    }
}

/// A metric of a query: its name, the labels that it is asked for by, and values that some of these have to have.
type Asked = (String, BTreeSet<String>, Vec<(String, String)>);

/// The metrics of a query.
fn asked(query: &str) -> Vec<Asked> {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut grouped = BTreeSet::new();
    for part in query.split(" by (").skip(1) {
        let labels = part.split(')').next().unwrap_or("").split(',');
        grouped.extend(labels.map(|l| l.trim().to_owned()));
    }
    let mut found = Vec::new();
    for (at, _) in query.match_indices("flowlane_") {
        let rest = &query[at..];
        let end = rest.find(|c| !word(c)).unwrap_or(rest.len());
        let (name, rest) = rest.split_at(end);
        let (mut labels, mut values) = (grouped.clone(), Vec::new());
        if let Some(inside) = rest.strip_prefix('{') {
            for matcher in inside.split('}').next().unwrap_or("").split(',') {
                let (label, value) = matcher.split_once(['=', '!']).expect("a matcher");
                let value = value.trim_start_matches(['=', '~']).trim_matches('"');
                labels.insert(label.to_owned());
                // Variables are what the person before the dashboard chooses.
                let fixed = value.split('|').filter(|v| !v.starts_with('$'));
                values.extend(fixed.map(|v| (label.to_owned(), v.to_owned())));
            }
        }
        found.push((name.to_owned(), labels, values));
    }
    found
}

/// The metrics of a collector that keeps files, takes connections, and repeats what it receives.
fn of_all_that_there_is() -> BTreeMap<String, Vec<Sample>> {
    let scratch = Scratch::new("all-metrics");
    let out = scratch.path("flows");
    let args = ["--tcp", "127.0.0.1:0", "--mirror", "127.0.0.1:9", "--http", "127.0.0.1:0", "--out", &out];
    let collector = running::Collector::start(&args);
    let line = running::wait_for(&collector.said, "over TCP");
    let to = line.split(' ').find(|word| word.starts_with("127.0.0.1:")).expect("an address");
    let _connection = TcpStream::connect(to).expect("it listens");
    let url = running::url(&collector.said);
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        let all = samples(&http::fetch(&url, "/metrics").expect("an answer").1);
        if ["flowlane_connections", "flowlane_state_failing"].iter().all(|name| all.contains_key(*name)) {
            assert_eq!(collector.terminate(Duration::from_secs(20)).code(), Some(0));
            return all;
        }
        assert!(Instant::now() < end, "{:?}", all.keys());
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn every_query_of_the_dashboard_finds_its_metrics() {
    let site = site(200);
    site.traffic(3);
    let mut all = samples(&site.ok("/metrics"));
    for (name, series) in of_all_that_there_is() {
        all.entry(name).or_insert(series);
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tools/grafana/dashboard.json");
    let dashboard: Value = serde_json::from_str(&std::fs::read_to_string(path).expect("the file")).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let (mut queries, mut used) = (0, BTreeSet::new());
    for target in panels.iter().flat_map(|p| p["targets"].as_array().expect("targets")) {
        let query = target["expr"].as_str().expect("a query");
        queries += 1;
        let metrics = asked(query);
        assert!(!metrics.is_empty(), "{query}");
        let legend = target["legendFormat"].as_str().expect("a legend");
        for (name, mut labels, values) in metrics {
            let series = all.get(&name).unwrap_or_else(|| panic!("{query}: there is no {name}"));
            labels.extend(legend.split("{{").skip(1).filter_map(|l| l.split("}}").next()).map(str::to_owned));
            for label in labels {
                assert!(series.iter().all(|s| s.0.contains_key(&label)), "{query}: {name} has no label {label}");
            }
            for (label, value) in values {
                let has_it = series.iter().any(|s| s.0.get(&label) == Some(&value));
                assert!(has_it, "{query}: no {name} has {label}={value}");
            }
            used.insert(name);
        }
        let counter = query.contains("rate(");
        assert!(!counter || asked(query).iter().all(|(name, ..)| name.ends_with("_total")), "{query}: rate of a gauge");
        let open = |c| query.matches(c).count();
        assert_eq!((open('('), open('{'), open('[')), (open(')'), open('}'), open(']')), "{query}");
    }
    assert!(queries > 20);
    let unused: Vec<_> = all.keys().filter(|name| !used.contains(*name)).collect();
    assert!(unused.is_empty(), "nobody looks at {unused:?}");
    let variable = &dashboard["templating"]["list"][1]["query"];
    assert_eq!(variable, "label_values(flowlane_datagrams_total, exporter)");
}

#[test]
fn clients_that_are_slow_or_wrong_keep_nobody_out() {
    let site = site(200);
    let connect = || {
        let stream = TcpStream::connect(site.address).expect("it listens");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("set");
        stream
    };
    let answer = |mut stream: TcpStream, request: &[u8]| {
        let _ = stream.write_all(request);
        let mut text = Vec::new();
        let _ = stream.read_to_end(&mut text);
        String::from_utf8_lossy(&text).into_owned()
    };
    // More connections than are served at once, all silent but for a first line.
    let silent: Vec<TcpStream> = (0..20)
        .map(|_| {
            let mut stream = connect();
            stream.write_all(b"GET /metrics HTTP/1.1\r\n").expect("sent");
            stream
        })
        .collect();
    let began = Instant::now();
    assert!(site.ok("/healthz").starts_with("ok"), "once the silent ones are timed out");
    assert!(began.elapsed() < Duration::from_secs(20));
    drop(silent);
    let refused = answer(connect(), b"POST /ledger HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc");
    assert!(refused.starts_with("HTTP/1.1 405") && refused.to_lowercase().contains("allow: get, head"), "{refused}");
    let head = answer(connect(), b"HEAD /healthz HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 200") && head.ends_with("\r\n\r\n"), "{head}");
    let mut long = b"GET /".to_vec();
    long.resize(64 << 10, b'a');
    let long = answer(connect(), &long);
    assert!(!long.starts_with("HTTP/1.1 200"), "{long}");
    let noise = answer(connect(), b"\x16\x03\x01\x02\x00 what\r\n\r\n");
    assert!(!noise.contains("200 OK"), "{noise}");
    assert!(site.ok("/readyz").starts_with("ready"));
}

#[test]
fn status_shows_the_ledger_on_a_terminal() {
    let site = site(200);
    site.traffic(1);
    let status = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_flowlane"));
        command.arg("status").args(args).output().expect("the program")
    };
    let shown = status(&["--url", &site.url]);
    let text = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert_eq!(shown.status.code(), Some(0), "{}", String::from_utf8_lossy(&shown.stderr));
    for part in ["4: 3 decoded, 1 malformed", "5: 5 written", "127.0.1.1", "IPFIX", "1 still held"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let json = status(&["--json", "--url", &site.address.to_string()]);
    let json: Value = serde_json::from_slice(&json.stdout).expect("JSON");
    assert_eq!(json["total"]["datagrams"]["received"], 4);
    let nobody = status(&["--url", "127.0.0.1:1"]);
    assert_eq!((nobody.status.code(), nobody.stdout.len()), (Some(1), 0));
    let said = String::from_utf8_lossy(&nobody.stderr).into_owned();
    assert!(said.lines().count() == 1 && said.contains("--http"), "{said}");
    let wrong = status(&["--url", "ftp://x"]);
    assert_eq!(wrong.status.code(), Some(2));
}

#[test]
fn whoever_asks_nothing_makes_way() {
    let site = site(10);
    let idle: Vec<TcpStream> = (0..40).map(|_| TcpStream::connect(site.address).expect("connected")).collect();
    // Some who asked for what takes long, and do not read it.
    let mut slow = Vec::new();
    for _ in 0..6 {
        let mut stream = TcpStream::connect(site.address).expect("connected");
        stream.write_all(b"GET /templates HTTP/1.1\r\nHost: x\r\n\r\n").expect("asked");
        slow.push(stream);
    }
    let began = Instant::now();
    assert_eq!(site.ok("/healthz"), "ok\n");
    assert_eq!(site.ok("/readyz"), "ready\n");
    assert!(began.elapsed() < Duration::from_secs(4), "before anybody's time was over: {:?}", began.elapsed());
    drop((idle, slow));
}

#[test]
fn a_long_answer_that_nobody_reads_keeps_none_of_the_metrics_out() {
    let site = site(10);
    let (head, fields) = (Head::new(10), [spec(8, 4); 100]);
    let sets = |n: u16| (0..50).map(|i| head.template(256 + 50 * n + i, &fields)).collect::<Vec<_>>();
    for n in 0..40 {
        site.send("127.0.0.1", &[head.message(&sets(n))]);
        std::thread::sleep(Duration::from_millis(2));
    }
    let ask = |path: &str| {
        let mut stream = TcpStream::connect(site.address).expect("connected");
        stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).expect("asked");
        stream
    };
    let mut long = ask("/templates");
    long.read_exact(&mut [0; 4096]).expect("it has begun");
    // Those wait for it.
    let waiting: Vec<TcpStream> = (0..6).map(|_| ask("/exporters")).collect();
    std::thread::sleep(Duration::from_millis(300));
    let began = Instant::now();
    assert!(samples(&site.ok("/metrics")).contains_key("flowlane_datagrams_total"));
    assert!(began.elapsed() < Duration::from_secs(4), "before those gave up: {:?}", began.elapsed());
    let mut answer = Vec::new();
    drop(waiting);
    long.read_to_end(&mut answer).expect("the rest");
    assert!(answer.len() > 8 << 20, "more than what a connection takes: {}", answer.len());
}
