use super::*;
use crate::template::{FieldSpec, Kind};

const NONE: Context = Context { export_time_us: 0, plain_microseconds: false };
const EXPORT_US: i64 = 1_700_000_000_000_000;
const NTP_SECONDS: u64 = 1_700_000_000 + 2_208_988_800;

#[test]
fn integers_by_the_templates_length() {
    let uint = Some(DataType::Unsigned8);
    assert_eq!(decode(uint, &[1, 2, 3], NONE), Value::Unsigned(0x01_02_03));
    assert_eq!(decode(uint, &[0, 0, 0, 0, 0, 0, 0, 0, 7], NONE), Value::Unsigned(7));
    let long = [1, 0, 0, 0, 0, 0, 0, 0, 7];
    assert_eq!(decode(uint, &long, NONE), Value::Octets(&long));
    assert_eq!(decode(Some(DataType::Signed32), &[0xff, 0xfe], NONE), Value::Signed(-2));
    assert_eq!(decode(Some(DataType::Signed64), &[0x80, 0, 0], NONE), Value::Signed(-0x80_0000));
    assert_eq!(decode(uint, &[], NONE), Value::Absent);
    let bytes = [1, 2, 3, 4, 5, 6, 7, 8];
    for n in 1..=8 {
        let want = bytes[..n].iter().fold(0, |v, &b| v << 8 | u64::from(b));
        assert_eq!(decode(uint, &bytes[..n], NONE), Value::Unsigned(want));
    }
}

#[test]
fn floats_booleans_and_addresses() {
    assert_eq!(decode(Some(DataType::Float64), &1.5f32.to_be_bytes(), NONE), Value::Float(1.5));
    assert_eq!(decode(Some(DataType::Float32), &2.5f64.to_be_bytes(), NONE), Value::Float(2.5));
    assert_eq!(decode(Some(DataType::Boolean), &[1], NONE), Value::Boolean(true));
    assert_eq!(decode(Some(DataType::Boolean), &[2], NONE), Value::Boolean(false));
    assert_eq!(decode(Some(DataType::Boolean), &[0], NONE), Value::Octets(&[0]));
    // An address by its length, whatever the type says.
    assert_eq!(decode(Some(DataType::Ipv6Address), &[192, 0, 2, 1], NONE).to_string(), "192.0.2.1");
    assert_eq!(decode(Some(DataType::MacAddress), &[2, 0, 0, 0, 0, 0xab], NONE).to_string(), "02:00:00:00:00:ab");
}

#[test]
fn strings_padded_with_nuls() {
    assert_eq!(decode(Some(DataType::String), b"ge-0/0/1\0\0\0", NONE), Value::Text("ge-0/0/1"));
    assert_eq!(decode(Some(DataType::String), &[0xff], NONE), Value::Octets(&[0xff]));
    assert_eq!(decode(Some(DataType::String), &[], NONE), Value::Text(""));
    assert_eq!(Value::Text("a\u{1b}[2J").to_string(), "a\\u{1b}[2J");
}

#[test]
fn date_times_of_every_type() {
    let context = Context { export_time_us: EXPORT_US, plain_microseconds: false };
    let at = |data_type, bytes: &[u8], context| match decode(Some(data_type), bytes, context) {
        Value::DateTime(us) => us,
        other => panic!("{other:?}"),
    };
    assert_eq!(at(DataType::DateTimeSeconds, &1_700_000_000u32.to_be_bytes(), context), EXPORT_US);
    assert_eq!(at(DataType::DateTimeMilliseconds, &1_700_000_000_123u64.to_be_bytes(), context), EXPORT_US + 123_000);
    let half = (NTP_SECONDS << 32 | 0x8000_07ff).to_be_bytes();
    assert_eq!(at(DataType::DateTimeMicroseconds, &half, context), EXPORT_US + 500_000);
    let last = (NTP_SECONDS << 32 | 0xffff_ffff).to_be_bytes();
    assert_eq!(at(DataType::DateTimeNanoseconds, &last, context), EXPORT_US + 999_999);
    assert_eq!(decode(Some(DataType::DateTimeMicroseconds), &[0; 4], context), Value::Octets(&[0; 4]));
    assert_eq!(Value::DateTime(EXPORT_US + 7).to_string(), "2023-11-14T22:13:20.000007Z");
    assert_eq!(Value::DateTime(951_782_400_000_000).to_string(), "2000-02-29T00:00:00.000000Z");
    assert_eq!(Value::DateTime(-1).to_string(), "1969-12-31T23:59:59.999999Z");
}

#[test]
fn ntp_times_in_the_era_nearest_to_the_export_time() {
    // Era 1 starts on 2036-02-07 at 06:28:16 UTC.
    let era_1 = 2_085_978_496_000_000;
    let context = Context { export_time_us: era_1, plain_microseconds: false };
    let value = decode(Some(DataType::DateTimeNanoseconds), &[0, 0, 0, 5, 0, 0, 0, 0], context);
    assert_eq!(value, Value::DateTime(era_1 + 5_000_000));
}

#[test]
fn netscaler_sends_microseconds_in_place_of_a_fraction() {
    let fields = [(0, 154, 8), (NETSCALER_PEN, 128, 4)].map(|(pen, id, len)| FieldSpec { pen, id, len });
    let template = Template::new(10, 256, Kind::Data, 0, fields.into()).expect("it has a length");
    let bytes = (NTP_SECONDS << 32 | 7).to_be_bytes();
    let value = decode(Some(DataType::DateTimeMicroseconds), &bytes, Context::new(&template, EXPORT_US));
    assert_eq!(value, Value::DateTime(EXPORT_US + 7));
}

#[test]
fn a_basic_list_and_its_bounds() {
    let json = |bytes: &[u8]| list_json(DataType::BasicList, bytes, 0, &|_| None);
    let text = json(&[3, 0, 7, 0, 2, 0, 80, 1, 187]);
    assert_eq!(text.as_deref(), Some(r#"{"semantic":3,"element":"sourceTransportPort","values":[80,443]}"#));
    assert_eq!(json(&[3, 0, 7, 0, 2, 0]), None);
    assert_eq!(json(&[3, 0, 7, 0, 0, 1]), None, "items of no length have no end");
    assert_eq!(json(&[]), None);
    let mut nested = vec![3, 0, 7, 0, 1];
    for depth in 2..=MAX_DEPTH + 1 {
        let mut outer = vec![3, 1, 35, 255, 255, nested.len() as u8];
        outer.extend(&nested);
        nested = outer;
        assert_eq!(json(&nested).is_some(), depth <= MAX_DEPTH);
    }
}

#[test]
fn lists_of_a_templates_records() {
    let fields = [(0, 7, 2), (0, 82, VARIABLE), (0, 7, 2)].map(|(pen, id, len)| FieldSpec { pen, id, len });
    let template = Arc::new(Template::new(10, 300, Kind::Data, 0, fields.into()).expect("it has a length"));
    let find = |id| (id == 300).then(|| template.clone());
    let content = [255, 1, 44, 0, 80, 2, b'e', b'"', 1, 187];
    let text = list_json(DataType::SubTemplateList, &content, 0, &find);
    let record = r#"{"sourceTransportPort":80,"interfaceName":"e\"","sourceTransportPort#2":443}"#;
    assert_eq!(text, Some(format!(r#"{{"semantic":255,"template":300,"records":[{record}]}}"#)));
    let content = [1, 1, 44, 0, 11, 0, 80, 2, b'e', b'"', 1, 187, 1, 45, 0, 5, 9];
    let text = list_json(DataType::SubTemplateMultiList, &content, 0, &find);
    let parts = format!(r#"{{"template":300,"records":[{record}]}},{{"template":301,"octets":"09"}}"#);
    assert_eq!(text, Some(format!(r#"{{"semantic":1,"lists":[{parts}]}}"#)));
    assert_eq!(list_json(DataType::SubTemplateMultiList, &[1, 1, 44, 0, 3, 0], 0, &find), None);
}

#[test]
fn fields_of_no_length_do_not_make_a_list_endless() {
    let mut fields = vec![FieldSpec { pen: 0, id: 82, len: 0 }; 4000];
    fields.push(FieldSpec { pen: 0, id: 4, len: 1 });
    let template = Arc::new(Template::new(10, 300, Kind::Data, 0, fields.into()).expect("it has a length"));
    let content = [&[255, 1, 44][..], &[6; 60_000]].concat();
    assert_eq!(list_json(DataType::SubTemplateList, &content, 0, &|_| Some(template.clone())), None);
}
