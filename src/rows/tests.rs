use super::netflow_json::NetflowJson;
use super::records::RecordLines;
use super::*;
use crate::elements::DataType;
use crate::value::{Context, Value};

fn exporter() -> SocketAddr {
    SocketAddr::from(([203, 0, 113, 9], 4739))
}

fn set(id: u16, body: &[u8]) -> Vec<u8> {
    [&id.to_be_bytes()[..], &(body.len() as u16 + 4).to_be_bytes(), body].concat()
}

fn words(words: &[u16]) -> Vec<u8> {
    words.iter().flat_map(|w| w.to_be_bytes()).collect()
}

fn ipfix(sets: &[Vec<u8>]) -> Vec<u8> {
    let sets = sets.concat();
    let head = [0x6553, 0xf100, 0, 0, 0, 1];
    [words(&[10, sets.len() as u16 + 16]), words(&head), sets].concat()
}

/// v9, 1 s after the start of the exporter.
fn v9(sets: &[Vec<u8>]) -> Vec<u8> {
    let head = [9, 1, 0, 1000, 0x6553, 0xf100, 0, 0, 0, 1];
    [words(&head), sets.concat()].concat()
}

fn v5() -> Vec<u8> {
    let mut bytes = words(&[5, 1, 0, 1000, 0x6553, 0xf100, 0, 0, 0, 7, 0x0102, 0x4064]);
    bytes.extend([192, 0, 2, 1, 198, 51, 100, 2, 0, 0, 0, 0]);
    bytes.extend(words(&[1, 2, 0, 3, 0, 400, 0, 10, 0, 20, 80, 443, 0x18, 0x0600]));
    bytes.extend([0; 8]);
    bytes
}

#[test]
fn raw_bytes_that_are_hex_digits_are_bytes() {
    // A v5 message whose bytes from the fifth on are text.
    let mut bytes = vec![0, 5, 0, 1];
    bytes.extend([b'0'; 20 + 48]);
    let message = parse(&bytes).expect("a v5 message");
    assert_eq!(message.records().next().and_then(|r| r.by_id(0, 7)), Some(Value::Unsigned(0x3030)));
    assert_eq!(decode_hex("00 0"), Err(HexError { offset: 4 }));
    assert_eq!(decode_hex("0x00"), Err(HexError { offset: 1 }));
    assert_eq!(decode_hex(" 0A\n0b "), Ok(vec![10, 11]));
}

#[test]
fn the_four_causes_are_told_apart() {
    let cause = |r: Result<Message<'_>, Error>| r.map(|_| ()).map_err(|e| Cause::of(&e));
    assert_eq!(cause(parse(&[0, 99])), Err(Cause::UnknownVersion));
    assert_eq!(cause(parse(&[0])), Err(Cause::Malformed));
    let unknown = ipfix(&[set(256, &[1, 2, 3, 4]), set(2, &words(&[257, 1, 8, 4])), set(257, &[192, 0, 2, 1])]);
    let message = parse(&unknown).expect("a header");
    assert_eq!(message.errors().iter().map(Cause::of).collect::<Vec<_>>(), [Cause::UnknownTemplate]);
    assert!(message.sets()[0].is_unknown());
    assert_eq!(message.records().count(), 1, "one unknown template does not drop the message");
    let none = HeldLimits { entries: 0, ..HeldLimits::default() };
    let mut session = Session::new().with_limits(Limits::default(), none);
    let message = session.parse(&unknown, exporter()).expect("a header");
    assert!(message.errors().iter().any(|e| Cause::of(e) == Cause::Limit));
}

#[test]
fn a_session_makes_room_by_whom_it_is_told_to_keep() {
    let from = |host: u8| SocketAddr::from(([192, 0, 2, host], 2055));
    let template = ipfix(&[set(2, &words(&[257, 1, 8, 4]))]);
    let held = ipfix(&[set(300, &[1, 2, 3, 4])]);
    let mut session = Session::new().with_exporters(3);
    for host in 1..=3 {
        session.parse(&template, from(host)).expect("room");
        session.parse(&held, from(host)).expect("known");
    }
    assert_eq!(session.parse(&template, from(4)).map_err(|e| Cause::of(&e)).err(), Some(Cause::Limit));
    session.make_room(|ip| ip == from(2).ip());
    assert_eq!(session.held_sets(), 1);
    session.make_room(|_| panic!("there is room"));
    session.parse(&template, from(4)).expect("room");
    let data = ipfix(&[set(257, &[192, 0, 2, 1])]);
    let records = [1, 2, 4].map(|host| session.parse(&data, from(host)).expect("room").records().count());
    assert_eq!(records, [0, 1, 1]);
}

#[test]
fn a_record_answers_by_every_name() {
    let bytes = v5();
    let message = parse(&bytes).expect("a v5 message");
    let record = message.records().next().expect("a record");
    for name in ["octetDeltaCount", "IN_BYTES", "IN_OCTETS", "1", "0/1", "0/octetDeltaCount"] {
        assert_eq!(record.value(name), Some(Value::Unsigned(400)), "{name}");
    }
    assert_eq!(record.value("SRC_PORT"), record.value("L4_SRC_PORT"));
    assert_eq!(record.value("no such name"), None);
    assert_eq!(message.uptime_to_us(900), Some(1_700_000_000_000_000 - 100_000));
    assert_eq!(message.uptime_to_us(1100), Some(1_700_000_000_000_000 + 100_000), "an end after the header's uptime");
    assert_eq!(message.header_fields().last(), Some(("sampling_interval", 0x4064)));
}

#[test]
fn repeated_elements_are_told_apart() {
    let template = set(2, &words(&[256, 4, 7, 2, 7, 2, 0x8001, 2, 0, 29305, 0x8001, 2, 0, 29305]));
    let bytes = ipfix(&[template, set(256, &words(&[80, 443, 5, 6]))]);
    let message = parse(&bytes).expect("a message");
    let record = message.records().next().expect("a record");
    assert_eq!(record.value("sourceTransportPort"), Some(Value::Unsigned(80)));
    assert_eq!(record.value("sourceTransportPort#2"), Some(Value::Unsigned(443)));
    assert_eq!(record.value("L4_SRC_PORT#2"), Some(Value::Unsigned(443)));
    assert_eq!(record.value("sourceTransportPort#3"), None);
    assert_eq!(record.value("sourceTransportPort#0"), None);
    assert_eq!(record.nth_by_id(29305, 1, 2), Some(Value::Unsigned(6)));
    assert_eq!(record.value("29305/reverseOctetDeltaCount#2"), Some(Value::Unsigned(6)));
    assert_eq!(record.value("reverseOctetDeltaCount"), Some(Value::Unsigned(5)));
    assert_eq!(record.value("octetDeltaCount"), None, "a reverse element is not its forward one");
}

#[test]
fn v9_scope_types_are_a_namespace_of_their_own() {
    let options = set(1, &words(&[257, 4, 8, 2, 2, 2, 2, 34, 1, 0]));
    let bytes = v9(&[options, set(257, &[0, 9, 0, 3, 100])]);
    let message = parse(&bytes).expect("a message");
    assert_eq!(message.records().count(), 0);
    let record = message.options().next().expect("an options record");
    assert_eq!(record.scope(2), Some(Value::Unsigned(9)));
    assert_eq!(record.value("Interface"), Some(Value::Unsigned(9)));
    assert_eq!(record.by_id(0, 2), Some(Value::Unsigned(3)), "packets, not the interface");
    assert_eq!(record.to_string(), "Interface=9 packetDeltaCount=3 samplingInterval=100");
}

#[test]
fn v7_has_its_router() {
    let mut bytes = words(&[7, 1]);
    bytes.extend([0; 20 + 48]);
    bytes.extend([192, 0, 2, 254]);
    let message = parse(&bytes).expect("a v7 message");
    let router = message.records().next().and_then(|r| r.router_sc());
    assert_eq!(router, Some(Ipv4Addr::new(192, 0, 2, 254)));
    let line = json_lines(&mut NetflowJson::default(), &bytes, 0);
    assert!(line.contains("\"ROUTER_SC\":3221226238"), "{line}");
}

fn json_lines(json: &mut NetflowJson, message: &[u8], received_us: i64) -> String {
    let mut text = String::new();
    json.lines(message, exporter(), received_us, |line| text.push_str(line)).expect("a message");
    text
}

#[test]
fn fields_of_no_length_do_not_make_a_message_endless() {
    // 4,000 fields of no length beside one byte, and as many records as a datagram holds, with and without a template.
    let mut fields = vec![256, 4001, 4, 1];
    (0..4000).for_each(|_| fields.extend([30_000, 0]));
    let (template, data) = (v9(&[set(0, &words(&fields))]), v9(&[set(256, &[6; 45_000])]));
    let mut session = Session::new();
    session.parse(&template, exporter()).expect("a template");
    let message = session.parse(&data, exporter()).expect("a message");
    assert_eq!(message.records().count(), (1 << 19) / 4001);
    let limits: Vec<_> = message.errors().iter().map(|e| (e.kind, e.offset)).collect();
    assert_eq!(limits, [(ErrorKind::ByteLimit, 24 + (1 << 19) / 4001)]);
    let mut late = Session::new();
    late.parse(&data, exporter()).expect("a message");
    let message = late.parse(&template, exporter()).expect("a message");
    assert_eq!(message.late().iter().flat_map(LateSet::records).count(), (1 << 19) / 4001);
}

#[test]
fn lists_are_nested() {
    // A record of a subTemplateMultiList of records of a basicList.
    let inner = words(&[257, 2, 4, 1, 291, 0xffff]);
    let outer = words(&[256, 1, 293, 0xffff]);
    let basic = [3, 0, 7, 0, 2, 0, 80, 1, 187];
    let row = [&[6, basic.len() as u8][..], &basic].concat();
    let content = [&[4, 1, 1, 0, row.len() as u8 + 4][..], &row].concat();
    let data = [&[content.len() as u8][..], &content].concat();
    let bytes = ipfix(&[set(2, &[inner, outer].concat()), set(256, &data)]);
    let message = parse(&bytes).expect("a message");
    let field = message.records().next().and_then(|r| r.fields().next()).expect("a field");
    let list = field.list().expect("a list");
    assert_eq!((list.semantic(), list.parts().count()), (Some(4), 1));
    let (id, mut records) = list.parts().next().expect("a part");
    let record = records.next().expect("a record");
    assert_eq!((id, record.value("protocolIdentifier")), (257, Some(Value::Unsigned(6))));
    let ports = record.field("basicList").and_then(|f| f.list()).expect("a list");
    assert_eq!(ports.element(), Some((0, 7)));
    assert_eq!(ports.values().collect::<Vec<_>>(), [Value::Unsigned(80), Value::Unsigned(443)]);
    let json = r#"{"semantic":4,"lists":[{"template":257,"records":[{"protocolIdentifier":6,"basicList":{"semantic":3,"element":"sourceTransportPort","values":[80,443]}}]}]}"#;
    assert_eq!(field.to_string(), json);
}

#[test]
fn a_record_past_its_set_is_an_error_and_the_ones_before_are_read() {
    let template = set(2, &words(&[256, 1, 82, 0xffff]));
    let bytes = ipfix(&[template, set(256, &[2, b'a', b'b', 9, b'c'])]);
    let message = parse(&bytes).expect("a message");
    assert_eq!(message.errors().first().map(|e| (e.kind, e.offset)), Some((ErrorKind::RecordOverrun, 35)));
    assert_eq!(message.records().map(|r| r.to_string()).collect::<Vec<_>>(), ["interfaceName=ab"]);
}

#[test]
fn data_that_came_before_its_template() {
    let data = v9(&[set(256, &[0, 0, 0, 5, 192, 0, 2, 1]), set(257, &[0, 0, 0, 7])]);
    let template = v9(&[set(0, &words(&[256, 2, 1, 4, 8, 4])), set(256, &[0, 0, 0, 6, 192, 0, 2, 2])]);
    let mut session = Session::new();
    assert_eq!(session.parse_received(&data, exporter(), 7, 1).expect("a message").records().count(), 0);
    assert_eq!(session.held_sets(), 2);
    let message = session.parse_received(&template, exporter(), 8, 2).expect("a message");
    assert_eq!(message.records().count(), 1);
    let late = message.late().first().expect("the set of the first message");
    assert_eq!((late.tag(), late.received_us(), late.index, late.offset), (1, 7, 0, 24));
    assert_eq!(late.records().next().and_then(|r| r.value("IN_BYTES")), Some(Value::Unsigned(5)));

    let (mut lines, mut out) = (RecordLines::default(), Vec::new());
    for (i, bytes) in [&data, &template].into_iter().enumerate() {
        lines.message(i as u64 + 1, exporter(), 0, bytes, &mut out).expect("memory takes it");
    }
    let text = String::from_utf8(out).expect("JSON is UTF-8");
    let want = r#"{"pkt":1,"ip":"203.0.113.9","ver":9,"dom":1,"set":0,"tid":256,"kind":"data","nscope":0,"off":24,"len":8,"fields":[[0,1,4,"00000005"],[0,8,4,"c0000201"]],"late":true}"#;
    assert_eq!(text.lines().next(), Some(want));
    assert_eq!(text.lines().count(), 2);

    let mut json = NetflowJson::default();
    assert_eq!(json_lines(&mut json, &data, 1_000_001), "");
    let lines = json_lines(&mut json, &template, 2_000_002);
    let lines: Vec<&str> = lines.lines().collect();
    let header = r#""header":{"version":9,"count":1,"uptime":1000,"timestamp":1700000000,"sequence":0,"source_id":1}"#;
    let client = r#""client":["203.0.113.9",4739]"#;
    let flow = |bytes, ip| format!(r#""flows":[{{"IN_BYTES":{bytes},"IPV4_SRC_ADDR":"{ip}"}}]}}}}"#);
    assert_eq!(lines[0], format!(r#"{{"2.000002":{{{client},{header},{}"#, flow(6, "192.0.2.2")));
    assert_eq!(lines[1], format!(r#"{{"1.0000019000001":{{{client},{header},{}"#, flow(5, "192.0.2.1")));
}

#[test]
fn what_pythons_analyzer_asks_of_a_v5_flow() {
    let line = json_lines(&mut NetflowJson::default(), &v5(), 0);
    let flow: serde_json::Value = serde_json::from_str(&line).expect("JSON");
    let flow = &flow["0.000000"]["flows"][0];
    assert_eq!((&flow["IPV4_SRC_ADDR"], &flow["IN_OCTETS"]), (&3_221_225_985u32.into(), &400.into()));
    assert_eq!((&flow["IN_PKTS"], &flow["IN_BYTES"], &flow["PROTOCOL"]), (&3.into(), &400.into(), &6.into()));
    assert_eq!(flow["LAST_SWITCHED"], 20);
}

#[test]
fn netflow_json_forms_of_v9_and_ipfix() {
    let text = |bytes: &[u8]| {
        let line = json_lines(&mut NetflowJson::default(), bytes, 0);
        let (_, flows) = line.split_once("\"flows\":").expect("flows");
        flows.trim_end().trim_end_matches("}}").to_owned()
    };
    // An interface name and 17 bytes as numbers, a type without a name there twice, padding.
    let template = words(&[256, 6, 82, 2, 33000, 17, 9999, 1, 9999, 1, 210, 1, 27, 16]);
    let data = [b"ab".as_slice(), &[1], &[0; 16], &[7, 8, 0], &[0; 15], &[1]].concat();
    let v9_flows = text(&v9(&[set(0, &template), set(256, &data)]));
    let acl = "340282366920938463463374607431768211456";
    let want = format!(
        r##"[{{"IF_NAME":24930,"NF_F_INGRESS_ACL_ID":{acl},"9999#1":"07","9999":"08","IPV6_SRC_ADDR":"::1"}}]"##
    );
    assert_eq!(v9_flows, want);
    let template = words(&[256, 5, 8, 4, 82, 3, 154, 8, 56, 6, 0x8001, 2, 0, 29305]);
    let data = [&[192, 0, 2, 1][..], b"e0\0", &[0, 0, 0, 1, 0, 0, 0, 2], &[0, 0, 0, 0, 1, 0], &[0, 9]].concat();
    let want = r#"[{"sourceIPv4Address":3221225985,"interfaceName":"e0\u0000","flowStartMicroseconds":[1,2],"sourceMacAddress":256,"29305/reverseOctetDeltaCount":9}]"#;
    assert_eq!(text(&ipfix(&[set(2, &template), set(256, &data)])), want);
    assert_eq!(text(&ipfix(&[set(2, &template)])), "[]", "a message of templates alone has its line");
}

#[test]
fn texts_of_every_length_wherever_they_end() {
    let letters: Vec<u8> = (0..40).map(|i| b'a' + i % 26).collect();
    // In front of another field and at the end of the message; plain, with a NUL in it or at its end, beyond ASCII.
    for (len, after) in (0..=33).flat_map(|len| [(len, 0), (len, 30)]) {
        let marked = |at: usize, mark: u8| {
            let mut text = letters[..len].to_vec();
            text.iter_mut().skip(at).take(1).for_each(|b| *b = mark);
            text
        };
        let last = len.saturating_sub(1);
        let all = [marked(99, 0), marked(0, 0), marked(last, 0), marked(len / 2, 0x80), marked(last, 0xff)];
        for text in all.into_iter().chain((len >= 2).then(|| "é".repeat(len / 2).into_bytes())) {
            let template = words(&[256, 2, 82, 65535, 210, after as u16]);
            let data = [&[text.len() as u8][..], &text, &vec![b'z'; after]].concat();
            let bytes = ipfix(&[set(2, &template), set(256, &data)]);
            let message = parse(&bytes).expect("a message");
            let record = message.records().next().expect("a record");
            let field = record.fields().next().expect("a field");
            assert_eq!(field.bytes(), text);
            assert_eq!(field.value(), crate::value::decode(Some(DataType::String), &text, Context::default()));
        }
    }
}

#[test]
fn records_of_several_fields_that_vary() {
    // Two beside each other, one at the end, a long one with three bytes of length.
    let template = set(2, &words(&[256, 5, 8, 4, 82, 65535, 83, 65535, 7, 2, 96, 65535]));
    let record = |a: &[u8], b: &[u8], c: &[u8]| [&[192, 0, 2, 1][..], a, b, &[0, 80], c].concat();
    let long = [&[255, 1, 0][..], &[b'x'; 256]].concat();
    let (first, second) = (record(b"\x02ab", b"\0", b"\x01c"), record(&long, b"\xff\0\x01d", b"\0"));
    let parsed = |data: &[u8]| {
        let bytes = ipfix(&[template.clone(), set(256, data)]);
        let message = parse(&bytes).expect("a message");
        let lens = message.records().map(|r| r.fields().map(|f| f.bytes().len()).collect()).collect::<Vec<Vec<_>>>();
        let bytes: Vec<usize> = message.records().map(|r| r.bytes().len()).collect();
        (lens, bytes, message.errors().len())
    };
    let (lens, bytes, errors) = parsed(&[&first[..], &second].concat());
    assert_eq!(lens, [vec![4, 2, 0, 2, 1], vec![4, 256, 1, 2, 0]]);
    assert_eq!((bytes, errors), (vec![first.len(), second.len()], 0));
    // Cut anywhere, the second record is an error or padding, and the first still there.
    for end in first.len()..first.len() + second.len() {
        let cut = [&first[..], &second].concat();
        let (lens, _, errors) = parsed(&cut[..end]);
        let min_len = 4 + 1 + 1 + 2 + 1;
        assert_eq!((lens.len(), errors), (1, usize::from(end - first.len() >= min_len)), "{end}");
    }
}

#[test]
fn a_message_as_text() {
    let bytes = ipfix(&[set(2, &words(&[256, 1, 8, 4])), set(256, &[192, 0, 2, 1]), set(300, &[0; 4])]);
    let message = parse(&bytes).expect("a message");
    let want = "version=10 length=44 export_uptime=1700000000 sequence_number=0 obervation_domain_id=1
template 256 of 1 fields
record sourceIPv4Address=192.0.2.1
error template not known 300 at byte 36";
    assert_eq!(message.to_string(), want);
}

#[cfg(feature = "serde")]
#[test]
fn a_message_for_serde() {
    let template = set(2, &words(&[256, 3, 8, 4, 7, 2, 7, 2]));
    let bytes = ipfix(&[template, set(256, &[192, 0, 2, 1, 0, 80, 1, 187])]);
    let message = parse(&bytes).expect("a message");
    let json = serde_json::to_value(&message).expect("JSON");
    assert_eq!(json["header"]["length"], 48);
    assert_eq!(json["templates"][0]["fields"][1], serde_json::json!([0, 7, 2]));
    let record =
        serde_json::json!({"sourceIPv4Address": "192.0.2.1", "sourceTransportPort": 80, "sourceTransportPort#2": 443});
    assert_eq!(json["records"], serde_json::json!([record]));
    assert_eq!(json["errors"], serde_json::json!([]));
}
