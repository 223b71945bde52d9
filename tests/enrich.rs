//! Names and places joined to rows: from options data, a file of exporters, a table of prefixes, MaxMind DB files.

mod encoder;
mod mmdb;
mod scratch;

use encoder::{Head, Spec, VARIABLE, set, spec, varying};
use flowlane::columns::{Batch, ColumnView, Timestamp};
use flowlane::decode::{Config, Decoder};
use flowlane::enrich::{Change, Enricher, Exporters, Files, FillAs, Geo, Networks, Paths, Tables};
use flowlane::sink::{Format, Writer};
use mmdb::{asn, city, database, map, text};
use scratch::Scratch;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

const T0: i64 = 1_700_000_000_000_000;

fn from(address: &str) -> SocketAddr {
    SocketAddr::new(address.parse().expect("an address"), 2055)
}

/// The value of a row as text; `-` where it has none, or the batch no such column.
fn value(batch: &Batch, name: &str, row: usize) -> String {
    let Some(column) = batch.column(name).filter(|c| c.is_valid(row)) else { return "-".into() };
    match column.values {
        ColumnView::Dictionary { keys, texts } => {
            String::from_utf8(texts.get(keys[row] as usize).to_vec()).expect("UTF-8")
        }
        ColumnView::Text(v) => String::from_utf8(v.get(row).to_vec()).expect("UTF-8"),
        ColumnView::U32(v) => v[row].to_string(),
        ColumnView::I64(v) => v[row].to_string(),
        other => panic!("{other:?}"),
    }
}

fn values(batch: &Batch, names: &[&str], row: usize) -> String {
    names.iter().map(|name| value(batch, name, row)).collect::<Vec<_>>().join(" ")
}

/// Sends messages to a decoder and hands what comes of it to an enricher, as the collector's writer does.
struct Desk {
    decoder: Decoder,
    enricher: Enricher,
}

impl Desk {
    fn new(tables: Tables) -> Self {
        Self { decoder: Decoder::new(Config::default()), enricher: Enricher::new(tables, FillAs::Absent) }
    }

    fn send(&mut self, exporter: &str, message: &[u8]) -> Vec<Batch> {
        self.decoder.decode(message, from(exporter), Timestamp(T0));
        if let Some(options) = self.decoder.next_options() {
            self.enricher.learn(&options);
        }
        let mut batches = self.decoder.flush();
        batches.iter_mut().for_each(|batch| self.enricher.join(batch));
        batches
    }

    fn one(&mut self, exporter: &str, message: &[u8]) -> Batch {
        self.send(exporter, message).pop().expect("a batch")
    }
}

const LABELS: &str = "
[[exporter]]
address = \"192.0.2.0/24\"
name = \"edge\"
interfaces = { 1 = \"label one\", 9 = { name = \"label nine\", speed = \"10G\" } }
";

fn labels() -> Tables {
    Tables { exporters: Arc::new(Exporters::parse(LABELS).expect("right")), ..Tables::default() }
}

/// Interfaces 10 and 14, VRFs 234 and 235, the sampler 48 and the application 95.
const FLOW: [Spec; 6] = [spec(10, 4), spec(14, 4), spec(234, 4), spec(235, 4), spec(48, 1), spec(95, 4)];
const NAMED: [&str; 9] = [
    "in_if_name",
    "out_if_name",
    "in_vrf_name",
    "out_vrf_name",
    "sampler_name",
    "app_name",
    "exporter_name",
    "in_if_speed",
    "out_if_speed",
];

fn flow(interfaces: [u8; 2], vrfs: [u8; 2], sampler: u8, application: [u8; 4]) -> Vec<u8> {
    let word = |n: u8| [0, 0, 0, n];
    let words = [interfaces[0], interfaces[1], vrfs[0], vrfs[1]].map(word).concat();
    [&words[..], &[sampler], &application].concat()
}

/// What an exporter says of its interfaces 1 and 2, VRF 5, sampler 3 and two applications.
fn naming(head: Head) -> Vec<u8> {
    let scope = [spec(if head.version == 9 { 1 } else { 149 }, 4)];
    let whole = [0, 0, 0, 0];
    let interface = if head.version == 9 { [spec(2, 4)] } else { [spec(10, 4)] };
    let one = |n: u8, name: &str, len: usize| {
        let mut bytes = vec![0, 0, 0, n];
        bytes.extend(name.as_bytes());
        bytes.resize(4 + len, 0);
        bytes
    };
    head.message(&[
        head.options_template(400, &interface, &[spec(82, 8)]),
        set(400, &[one(1, "ge-0/0/1", 8), one(2, "xe-2", 8)].concat()),
        head.options_template(401, &scope, &[spec(234, 4), spec(236, 6)]),
        set(401, &[&whole[..], &one(5, "blue", 6)].concat()),
        head.options_template(402, &scope, &[spec(48, 4), spec(84, 4)]),
        set(402, &[&whole[..], &one(3, "smp3", 4)].concat()),
        // Engine 3 and its selector in 3 bytes; engine 20 has an enterprise number before it.
        head.options_template(403, &scope, &[spec(95, 4), spec(96, 5)]),
        set(403, &[&whole[..], &[3, 0, 0, 80], b"http\0"].concat()),
        head.options_template(404, &scope, &[spec(95, 9), spec(96, 5)]),
        set(404, &[&whole[..], &[20, 0, 0, 0x30, 0x44, 0, 0, 0x8f, 0x34], b"zoom\0"].concat()),
    ])
}

#[test]
fn names_of_options_data_go_to_the_rows_of_their_exporter() {
    for version in [9, 10] {
        let mut desk = Desk::new(labels());
        let head = Head::new(version);
        let template = head.template(300, &FLOW);
        let data = [
            flow([1, 2], [5, 6], 3, [3, 0, 0, 80]),
            flow([9, 1], [6, 5], 4, [3, 0, 0, 81]),
            flow([2, 7], [0, 0], 3, [1, 0, 0, 80]),
        ];
        let message = head.message(&[template.clone(), set(300, &data.concat())]);
        // Before there are names, labels are all that is known.
        let batch = desk.one("192.0.2.1", &message);
        assert_eq!(values(&batch, &NAMED, 0), "label one - - - - - edge - -");
        assert!(desk.send("192.0.2.1", &naming(head)).is_empty());
        let batch = desk.one("192.0.2.1", &message);
        assert_eq!(values(&batch, &NAMED, 0), "ge-0/0/1 xe-2 blue - smp3 http edge - -");
        assert_eq!(values(&batch, &NAMED, 1), "label nine ge-0/0/1 - blue - - edge 10000000000 -");
        assert_eq!(values(&batch, &NAMED, 2), "xe-2 - - - smp3 - edge - -");
        // Another exporter, and another domain of the same.
        let batch = desk.one("198.51.100.1", &message);
        assert_eq!(values(&batch, &NAMED, 0), "- - - - - - - - -");
        let domain = Head { domain: 8, ..head };
        let batch = desk.one("192.0.2.1", &domain.message(&[template.clone(), set(300, &data.concat())]));
        assert_eq!(values(&batch, &NAMED, 0), "label one - - - - http edge - -", "applications have no domain");
        // Domain 0 speaks for the whole exporter.
        let zero = Head { domain: 0, ..head };
        let whole = zero.options_template(400, &[spec(if version == 9 { 2 } else { 10 }, 4)], &[spec(82, 4)]);
        desk.send("192.0.2.1", &zero.message(&[whole, set(400, &[0, 0, 0, 7, b'a', b'l', b'l', 0])]));
        let batch = desk.one("192.0.2.1", &message);
        assert_eq!(values(&batch, &NAMED, 2), "xe-2 all - - smp3 - edge - -");
        // A name that changes.
        let renamed = head.options_template(400, &[spec(if version == 9 { 2 } else { 10 }, 4)], &[spec(82, 4)]);
        desk.send("192.0.2.1", &head.message(&[renamed, set(400, &[0, 0, 0, 2, b'x', b'2', 0, 0])]));
        assert_eq!(value(&desk.one("192.0.2.1", &message), "in_if_name", 2), "x2");
    }
}

#[test]
fn the_records_own_names_are_left_alone() {
    let mut desk = Desk::new(labels());
    let head = Head::new(10);
    desk.send("192.0.2.1", &naming(head));
    let fields = [spec(10, 4), spec(82, VARIABLE), spec(95, 4), spec(96, VARIABLE), spec(14, 4)];
    let record =
        [&[0, 0, 0, 1][..], &varying(b"mine", false), &[3, 0, 0, 80], &varying(b"", false), &[0, 0, 0, 2]].concat();
    let batch = desk.one("192.0.2.1", &head.message(&[head.template(300, &fields), set(300, &record)]));
    assert_eq!(values(&batch, &["in_if_name", "app_name", "out_if_name"], 0), "mine  xe-2");
    assert_eq!(batch.columns().filter(|c| &*c.def.name == "in_if_name").count(), 1);
}

#[test]
fn the_description_of_an_interface_stands_in_for_its_name() {
    let mut desk = Desk::new(Tables::default());
    let head = Head::new(9);
    let options = head.options_template(400, &[spec(1, 4)], &[spec(10, 2), spec(83, 6)]);
    let both = head.options_template(401, &[spec(1, 4)], &[spec(10, 2), spec(83, 6), spec(82, 2)]);
    let sets = [
        options,
        set(400, &[0, 0, 0, 0, 0, 1, b'u', b'p', b'l', b'i', b'n', b'k']),
        both,
        set(401, &[0, 0, 0, 0, 0, 2, b'd', b'o', b'w', b'n', 0, 0, b'e', b'0']),
    ];
    desk.send("192.0.2.1", &head.message(&sets));
    let flow = head.message(&[head.template(300, &[spec(10, 2), spec(14, 2)]), set(300, &[0, 1, 0, 2])]);
    assert_eq!(values(&desk.one("192.0.2.1", &flow), &["in_if_name", "out_if_name"], 0), "uplink e0");
}

#[test]
fn what_a_decoder_knew_before_a_restart_is_learned_from_its_tables() {
    let head = Head::new(10);
    let mut first = Decoder::new(Config::default());
    first.decode(&naming(head), from("192.0.2.1"), Timestamp(T0));
    let mut desk = Desk::new(Tables::default());
    for known in first.known_exporters() {
        desk.enricher.learn_tables(known.address, known.options);
    }
    let data = flow([1, 2], [5, 6], 3, [3, 0, 0, 80]);
    let batch = desk.one("192.0.2.1", &head.message(&[head.template(300, &FLOW), set(300, &data)]));
    assert_eq!(values(&batch, &NAMED, 0), "ge-0/0/1 xe-2 blue - smp3 http - - -");
}

/// A v5 message of flows between addresses, with an AS each.
fn v5(flows: &[([u8; 4], [u8; 4], u16, u16)]) -> Vec<u8> {
    let record = |&(src, dst, src_as, dst_as): &([u8; 4], [u8; 4], u16, u16)| {
        let mut bytes = [src, dst].concat();
        bytes.resize(40, 0);
        bytes.extend([src_as.to_be_bytes(), dst_as.to_be_bytes()].concat());
        bytes.extend([0; 4]);
        bytes
    };
    Head::new(5).fixed(&flows.iter().map(record).collect::<Vec<_>>())
}

fn places() -> Tables {
    let networks = Networks::parse(
        "192.0.2.0/24,site=Basel,net=lab\n192.0.2.128/25,country=LI,as=64496,as_name=Ours\n2001:db8:1::/48,site=six\n",
    );
    let cities = [
        ("192.0.2.0/24", city("CH", "Basel")),
        ("198.51.100.0/24", city("DE", "Weil am Rhein")),
        ("2001:db8::/32", city("FR", "Saint-Louis")),
    ];
    let numbers = [
        ("192.0.0.0/8", asn(64500, "Eight")),
        ("198.51.100.7/32", asn(4_200_000_000, "One")),
        ("::/1", asn(3, "Half")),
    ];
    // IPv4 stands in the half of ::/1 too, and longer prefixes are right there.
    let geo = [database(24, 6, &cities), database(28, 6, &numbers)];
    Tables {
        networks: Arc::new(networks.expect("right")),
        geo: geo.into_iter().map(|bytes| Arc::new(Geo::read(bytes).expect("a database"))).collect(),
        ..Tables::default()
    }
}

const PLACED: [&str; 6] = ["src_country", "src_city", "src_site", "src_net", "src_as_name", "src_as"];

#[test]
fn places_by_address_the_users_own_before_the_databases() {
    let mut desk = Desk::new(places());
    let head = Head::new(9);
    let fields = [spec(8, 4), spec(12, 4)];
    let addresses: [[u8; 4]; 5] =
        [[192, 0, 2, 1], [192, 0, 2, 200], [198, 51, 100, 7], [198, 51, 100, 8], [10, 0, 0, 1]];
    let records: Vec<u8> = addresses.iter().flat_map(|a| [&a[..], &[203, 0, 113, 1]].concat()).collect();
    let message = head.message(&[head.template(300, &fields), set(300, &records)]);
    let want = [
        "CH Basel Basel lab Eight 64500",
        "LI Basel Basel 192.0.2.128/25 Ours 64496",
        "DE Weil am Rhein - - One 4200000000",
        "DE Weil am Rhein - - Half 3",
        "- - - - Half 3",
    ];
    // Once by the tables, once by what is remembered.
    for _ in 0..2 {
        let batch = desk.one("192.0.2.1", &message);
        for (row, want) in want.iter().enumerate() {
            assert_eq!(values(&batch, &PLACED, row), *want);
        }
        assert_eq!(value(&batch, "dst_as", 0), "3");
        assert_eq!(value(&batch, "dst_country", 0), "-");
    }
    // The table's prefix is a name where no line names it, and its lines add up.
    let v6 = [spec(27, 16), spec(28, 16)];
    let address = |last: u8| [&[0x20, 1, 0xd, 0xb8, 0, 1][..], &[0; 9], &[last]].concat();
    let records = [address(1), address(2)].concat();
    let batch = desk.one("192.0.2.1", &head.message(&[head.template(301, &v6), set(301, &records)]));
    assert_eq!(values(&batch, &PLACED, 0), "FR Saint-Louis six 2001:db8:1::/48 Half 3");
}

#[test]
fn of_both_families_the_one_that_text_shows_counts() {
    let mut desk = Desk::new(places());
    let head = Head::new(10);
    let six = [0x20, 1, 0xd, 0xb8, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    let zero = [0u8; 16];
    let records = [
        [&[192, 0, 2, 1][..], &six].concat(),
        [&[192, 0, 2, 1][..], &zero].concat(),
        [&[0, 0, 0, 0][..], &six].concat(),
    ];
    for (fields, flip) in [([spec(8, 4), spec(27, 16)], false), ([spec(27, 16), spec(8, 4)], true)] {
        let records: Vec<u8> =
            records.iter().flat_map(|r| if flip { [&r[4..], &r[..4]].concat() } else { r.clone() }).collect();
        let batch = desk.one("192.0.2.1", &head.message(&[head.template(300, &fields), set(300, &records)]));
        let countries: Vec<String> = (0..3).map(|row| value(&batch, "src_country", row)).collect();
        assert_eq!(countries, [if flip { "FR" } else { "CH" }, "CH", "FR"]);
    }
}

#[test]
fn the_exporters_own_as_is_left_alone_unless_told() {
    let flows = [
        ([192, 0, 2, 1], [198, 51, 100, 7], 0, 65_000),
        ([10, 0, 0, 1], [192, 0, 2, 200], 65_001, 0),
        ([192, 0, 2, 1], [192, 0, 2, 1], 65_002, 0),
    ];
    for (fill_as, want) in [
        (FillAs::Absent, ["0 65000", "65001 0", "65002 0"]),
        (FillAs::Zero, ["64500 65000", "65001 64496", "65002 64500"]),
        (FillAs::Always, ["64500 4200000000", "3 64496", "64500 64500"]),
    ] {
        let mut desk = Desk { enricher: Enricher::new(places(), fill_as), ..Desk::new(Tables::default()) };
        let batch = desk.one("203.0.113.9", &v5(&flows));
        for (row, want) in want.iter().enumerate() {
            assert_eq!(values(&batch, &["src_as", "dst_as"], row), *want, "{fill_as:?}");
        }
        // No AS has the name of another, and a zero that stays has none.
        let own = fill_as != FillAs::Always;
        assert_eq!(value(&batch, "dst_as_name", 0), if own { "-" } else { "One" }, "{fill_as:?}");
        assert_eq!(value(&batch, "src_as_name", 0) == "-", fill_as == FillAs::Absent, "{fill_as:?}");
    }
}

#[test]
fn databases_of_every_shape_say_what_was_put_in() {
    // Every third prefix of a pseudo-random list; nested ones among them.
    let mut seed = 9u32;
    let mut next = || {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        seed >> 8
    };
    let entries: Vec<(String, u32, u8)> = (1..400)
        .map(|n| {
            let len = 8 + (next() % 25) as u8;
            let address = (next() << 8 | next() & 0xff) & (u32::MAX << (32 - len));
            (format!("{}/{len}", Ipv4Addr::from_bits(address)), n, len)
        })
        .collect();
    let data: Vec<(&str, mmdb::Data)> =
        entries.iter().map(|e| (e.0.as_str(), asn(e.1, &format!("AS of {}", e.0)))).collect();
    for (record_size, ip_version) in [(24, 4), (28, 4), (32, 4), (24, 6), (28, 6), (32, 6)] {
        let geo = Geo::read(database(record_size, ip_version, &data)).expect("a database");
        let mut desk = Desk::new(Tables { geo: vec![Arc::new(geo)], ..Tables::default() });
        let addresses: Vec<u32> = (0..3000)
            .map(|i| {
                let at = entries[next() as usize % entries.len()].0.split('/').next().expect("an address").to_string();
                let base: Ipv4Addr = at.parse().expect("an address");
                base.to_bits() ^ if i % 2 == 0 { next() % 300 } else { next() }
            })
            .collect();
        for addresses in addresses.chunks(150) {
            let head = Head::new(10);
            let records: Vec<u8> = addresses.iter().flat_map(|a| a.to_be_bytes()).collect();
            let batch =
                desk.one("203.0.113.9", &head.message(&[head.template(300, &[spec(8, 4)]), set(300, &records)]));
            for (row, &address) in addresses.iter().enumerate() {
                let inside = |e: &&(String, u32, u8)| {
                    let base: Ipv4Addr = e.0.split('/').next().expect("an address").parse().expect("an address");
                    (base.to_bits() ^ address).leading_zeros() >= u32::from(e.2)
                };
                // Of two lines for one prefix the later one is right.
                let want = entries.iter().filter(inside).max_by_key(|e| (e.2, e.1));
                let want = want.map_or("-".to_string(), |e| e.1.to_string());
                assert_eq!(value(&batch, "src_as", row), want, "{}", Ipv4Addr::from_bits(address));
            }
        }
    }
}

#[test]
fn databases_of_other_makers() {
    let entries = [
        (
            "10.0.0.0/8",
            map([
                ("country_code", text("AT")),
                ("country", text("Austria")),
                ("asn", text("AS64501")),
                ("as_name", text("Ten")),
            ]),
        ),
        ("11.0.0.0/8", map([("country", text("Italy")), ("city", text("Udine")), ("asn", mmdb::Data::U32(64502))])),
        (
            "12.0.0.0/8",
            map([
                ("country", mmdb::Data::List(vec![text("what?")])),
                ("city", mmdb::Data::U32(3)),
                ("asn", text("none")),
            ]),
        ),
    ];
    let geo = Geo::read(database(32, 4, &entries)).expect("a database");
    let mut desk = Desk::new(Tables { geo: vec![Arc::new(geo)], ..Tables::default() });
    let head = Head::new(9);
    let records = [[10, 1, 1, 1], [11, 1, 1, 1], [12, 1, 1, 1]].concat();
    let batch = desk.one("203.0.113.9", &head.message(&[head.template(300, &[spec(8, 4)]), set(300, &records)]));
    let of = |row| values(&batch, &["src_country", "src_city", "src_as", "src_as_name"], row);
    assert_eq!([of(0), of(1), of(2)], ["AT - 64501 Ten", "Italy Udine 64502 -", "- - - -"]);
}

#[test]
fn damaged_databases_are_refused_or_read_and_never_crash() {
    let good = database(24, 6, &[("192.0.2.0/24", city("CH", "Basel")), ("2001:db8::/32", city("FR", "Lyon"))]);
    assert!(Geo::read(good.clone()).is_ok());
    for cut in 0..good.len() {
        assert!(Geo::read(good[..cut].to_vec()).is_err(), "cut at {cut}");
    }
    let message = v5(&[([192, 0, 2, 1], [10, 0, 0, 1], 0, 0)]);
    let mut refused = 0;
    for at in 0..good.len() {
        for bit in [1, 0x20, 0x80] {
            let mut bytes = good.clone();
            bytes[at] ^= bit;
            match Geo::read(bytes) {
                Ok(geo) => {
                    let mut desk = Desk::new(Tables { geo: vec![Arc::new(geo)], ..Tables::default() });
                    desk.one("192.0.2.1", &message);
                }
                Err(error) => {
                    refused += 1;
                    assert!(!error.to_string().is_empty());
                }
            }
        }
    }
    assert!(refused > good.len() / 4, "{refused} of {}", 3 * good.len());
}

#[test]
fn a_file_that_changes_is_read_again_and_a_damaged_one_leaves_what_was() {
    let scratch = Scratch::new("files");
    let (geo, networks) = (scratch.0.join("a.mmdb"), scratch.0.join("networks.csv"));
    let country = |country: &str| database(24, 4, &[("192.0.2.0/24", city(country, "x"))]);
    fs::write(&geo, country("CH")).expect("written");
    fs::write(&networks, "192.0.2.0/24,site=one\n").expect("written");
    let paths = Paths { networks: Some(networks.clone()), geo: vec![geo.clone()], ..Paths::default() };
    let mut files = Files::read(&paths).expect("right");
    let says = |files: &Files| {
        let mut desk = Desk::new(files.tables().clone());
        let batch = desk.one("203.0.113.9", &v5(&[([192, 0, 2, 1], [10, 0, 0, 1], 0, 0)]));
        values(&batch, &["src_country", "src_site"], 0)
    };
    assert_eq!((says(&files), files.refresh()), ("CH one".into(), vec![]));
    // Looked at twice: what still changes is not read.
    fs::write(&geo, country("DE")).expect("written");
    fs::write(&networks, "192.0.2.0/24,site=two\n# more\n").expect("written");
    assert_eq!((files.refresh(), says(&files)), (vec![], "CH one".into()));
    assert_eq!(files.refresh(), [Change::Read(networks.clone()), Change::Read(geo.clone())]);
    assert_eq!((says(&files), files.refresh()), ("DE two".into(), vec![]));
    // Damaged: told once.
    let half = country("FR");
    fs::write(&geo, &half[..half.len() / 2]).expect("written");
    fs::write(&networks, "192.0.2.0/24,sight=two\n").expect("written");
    files.refresh();
    let told: Vec<String> = files
        .refresh()
        .into_iter()
        .map(|change| match change {
            Change::Kept(error) => error.to_string(),
            Change::Read(path) => panic!("{path:?} was read"),
        })
        .collect();
    assert!(told[0].contains("networks.csv: line 1: there is no key \"sight\""), "{told:?}");
    assert!(told[1].contains("a.mmdb: no MaxMind DB, or damaged: "), "{told:?}");
    assert_eq!((files.refresh(), files.refresh(), says(&files)), (vec![], vec![], "DE two".into()));
    // Gone: told once, too. And back again.
    fs::remove_file(&geo).expect("removed");
    files.refresh();
    assert!(matches!(&files.refresh()[..], [Change::Kept(_)]));
    assert_eq!((files.refresh(), says(&files)), (vec![], "DE two".into()));
    fs::write(&geo, country("FR")).expect("written");
    files.refresh();
    assert_eq!(files.refresh(), [Change::Read(geo.clone())]);
    assert_eq!(says(&files), "FR two");
    // At the start all have to be right.
    fs::write(&networks, "").expect("written");
    fs::write(&geo, "no database").expect("written");
    let error = Files::read(&paths).expect_err("damaged");
    assert_eq!(error.path, geo);
    let five = Paths { geo: vec![geo; 5], ..Paths::default() };
    assert!(Files::read(&five).is_err());
}

#[test]
fn joined_columns_stand_in_every_kind_of_file() {
    let scratch = Scratch::new("formats");
    let message = v5(&[([192, 0, 2, 1], [10, 0, 0, 1], 7, 0), ([10, 0, 0, 1], [192, 0, 2, 200], 0, 64496)]);
    let mut desk = Desk::new(Tables { exporters: labels().exporters, ..places() });
    let batch = Arc::new(desk.one("192.0.2.1", &message));
    let write = |format, name: &str| {
        let path = scratch.0.join(name);
        let mut writer = Writer::to_file(format, &path).expect("a file");
        writer.write(&batch, batch.runs()).expect("written");
        writer.finish().expect("finished");
        path
    };
    let lines = fs::read_to_string(write(Format::Ndjson, "rows.ndjson")).expect("text");
    let rows: Vec<serde_json::Value> = lines.lines().map(|l| serde_json::from_str(l).expect("an object")).collect();
    assert_eq!((&rows[0]["src_country"], &rows[0]["src_site"]), (&"CH".into(), &"Basel".into()));
    assert_eq!((&rows[0]["exporter_name"], &rows[1]["dst_as_name"]), (&"edge".into(), &"Ours".into()));
    assert!(rows[1].get("src_country").is_none() && rows[0].get("dst_site").is_none());
    let mut csv = csv::Reader::from_path(write(Format::Csv, "rows.csv")).expect("a file");
    let names = csv.headers().expect("names").clone();
    let row = csv.records().next().expect("a row").expect("as many cells");
    let cell = |name: &str| row.get(names.iter().position(|n| n == name).expect("a name")).expect("a cell");
    assert_eq!((cell("src_country"), cell("dst_country"), cell("src_net"), cell("src_as")), ("CH", "", "lab", "7"));
    let parquet = write(Format::Parquet, "rows.parquet");
    let reader =
        parquet::file::reader::SerializedFileReader::new(fs::File::open(parquet).expect("a file")).expect("Parquet");
    let rows: Vec<String> = reader.into_iter().map(|row| row.expect("a row").to_string()).collect();
    assert!(rows[0].contains("src_country: \"CH\"") && rows[0].contains("exporter_name: \"edge\""), "{}", rows[0]);
    assert!(rows[1].contains("src_country: null") && rows[1].contains("dst_country: \"LI\""), "{}", rows[1]);
    write(Format::Arrow, "rows.arrow");
}

#[test]
fn an_ipv4_address_mapped_to_ipv6_is_that_address() {
    let geo = Geo::read(database(24, 4, &[("192.0.2.0/24", city("CH", "x"))])).expect("a database");
    let mut desk = Desk::new(Tables { geo: vec![Arc::new(geo)], ..Tables::default() });
    let head = Head::new(10);
    let mapped = Ipv4Addr::new(192, 0, 2, 1).to_ipv6_mapped().octets();
    let batch = desk.one("192.0.2.1", &head.message(&[head.template(300, &[spec(27, 16)]), set(300, &mapped)]));
    assert_eq!(value(&batch, "src_country", 0), "CH");
}
