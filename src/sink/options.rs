//! Options records as NDJSON: the second stream.

use super::lines::address;
use super::text;
use crate::columns::OptionsRecord;
use crate::elements::{Registry, v9_scope_name};
use crate::value::{self, Value};
use std::ops::Range;

/// Appends an options record as a line of JSON: where it came from, its scope, and its fields with their types.
///
/// `scope` and `fields` are lists of `{"namespace", "id", "name", "value"}` in wire order; the namespace is the enterprise
/// number as text, `iana`, or `v9-scope` for the scope types 1 to 5 of NetFlow v9.
pub fn ndjson(out: &mut Vec<u8>, record: &OptionsRecord, registry: &Registry) {
    let meta = &record.meta;
    out.extend_from_slice(b"{\"time_received\":\"");
    text::time(out, meta.received_at.0);
    out.extend_from_slice(b"\",\"export_time\":\"");
    text::time(out, meta.export_time.0);
    out.extend_from_slice(b"\",\"exporter\":\"");
    address(out, meta.exporter.ip());
    out.push(b'"');
    for (key, n) in [
        ("exporter_port", u32::from(meta.exporter.port())),
        ("version", u32::from(meta.version)),
        ("domain_id", meta.domain_id),
        ("sequence", meta.sequence),
        ("template_id", u32::from(meta.template_id)),
    ] {
        out.extend_from_slice(b",\"");
        out.extend_from_slice(key.as_bytes());
        out.extend_from_slice(b"\":");
        text::unsigned(out, u64::from(n));
    }
    let scope = usize::from(record.template.scope_count);
    out.extend_from_slice(b",\"scope\":[");
    list(out, record, registry, 0..scope, true);
    out.extend_from_slice(b"],\"fields\":[");
    list(out, record, registry, scope..record.template.fields.len(), false);
    out.extend_from_slice(b"]}\n");
}

fn list(out: &mut Vec<u8>, record: &OptionsRecord<'_>, registry: &Registry, fields: Range<usize>, scope: bool) {
    let version = record.template.version;
    let context = value::Context::new(record.template, record.meta.export_time.as_micros());
    for (n, i) in fields.enumerate() {
        let Some(spec) = record.template.fields.get(i) else { continue };
        if n > 0 {
            out.push(b',');
        }
        let v9_scope = (version == 9 && scope).then(|| v9_scope_name(spec.id)).flatten();
        out.extend_from_slice(b"{\"namespace\":");
        match (v9_scope, spec.pen) {
            (Some(_), _) => out.extend_from_slice(b"\"v9-scope\""),
            (None, 0) => out.extend_from_slice(b"\"iana\""),
            (None, pen) => {
                out.push(b'"');
                text::unsigned(out, u64::from(pen));
                out.push(b'"');
            }
        }
        out.extend_from_slice(b",\"id\":");
        text::unsigned(out, u64::from(spec.id));
        let element = if v9_scope.is_some() { None } else { registry.lookup(version, spec.pen, spec.id) };
        if let Some(name) = v9_scope.or(element.map(|e| &*e.name)) {
            out.extend_from_slice(b",\"name\":");
            text::json_string(out, name.as_bytes());
        }
        out.extend_from_slice(b",\"value\":");
        let bytes = record.value(i);
        let value = match v9_scope {
            Some(_) if !bytes.is_empty() && bytes.len() <= 8 => {
                Value::Unsigned(bytes.iter().fold(0, |n, b| n << 8 | u64::from(*b)))
            }
            _ => value::decode(element.map(|e| e.data_type), bytes, context),
        };
        json_value(out, value);
        out.push(b'}');
    }
}

fn json_value(out: &mut Vec<u8>, value: Value<'_>) {
    match value {
        Value::Unsigned(n) => text::unsigned(out, n),
        Value::Signed(n) => text::signed(out, n),
        Value::Float(n) => text::float(out, n),
        Value::Boolean(b) => out.extend_from_slice(if b { b"true" } else { b"false" }),
        Value::DateTime(us) => {
            out.push(b'"');
            text::time(out, us);
            out.push(b'"');
        }
        Value::Absent => out.extend_from_slice(b"null"),
        Value::Text(text) => text::json_string(out, text.as_bytes()),
        other => text::json_string(out, other.to_string().as_bytes()),
    }
}
