//! The JSON lines of Python's `netflow` collector: `{"<time>": {"client": [ip, port], "header": {...}, "flows": [...]}}`.
//!
//! Field names and forms are that library's: v1, v5 and v7 have its short names with addresses as numbers, v9 its names
//! of v9 types with addresses as text, IPFIX IANA's names with addresses as numbers. Elements that it has no name for
//! carry the key that extras have.

use super::{Field, Message, Record, Session};
use crate::elements::{Registry, v9_name};
use crate::error::Error;
use crate::value::{Value, json_string};
use std::fmt::Write as _;
use std::net::SocketAddr;

/// Writes messages as such lines.
#[derive(Debug, Default)]
pub struct NetflowJson {
    session: Session,
    line: String,
}

impl NetflowJson {
    /// The line of a message received at a time in microseconds since 1970, its newline included. `None` for a message
    /// that has no flows now: its sets wait for their template, or it brings templates alone.
    ///
    /// # Errors
    /// What [`Session::parse`] fails with.
    pub fn line(&mut self, bytes: &[u8], exporter: SocketAddr, received_us: i64) -> Result<Option<&str>, Error> {
        let message = self.session.parse(bytes, exporter)?;
        let line = &mut self.line;
        line.clear();
        let (secs, micros) = (received_us.div_euclid(1_000_000), received_us.rem_euclid(1_000_000));
        let _ = write!(
            line,
            "{{\"{secs}.{micros:06}\":{{\"client\":[\"{}\",{}],\"header\":{{",
            exporter.ip().to_canonical(),
            exporter.port()
        );
        for (i, (name, value)) in message.header_fields().into_iter().enumerate() {
            let _ = write!(line, "{}\"{name}\":{value}", if i == 0 { "" } else { "," });
        }
        line.push_str("},\"flows\":[");
        let mut flows = 0;
        for record in records(&message) {
            line.push_str(if flows == 0 { "{" } else { ",{" });
            flow(line, message.version(), record);
            line.push('}');
            flows += 1;
        }
        line.push_str("]}}\n");
        Ok((flows > 0).then_some(&*line))
    }
}

/// The message's own flows, then those that its templates made readable.
fn records<'m>(message: &'m Message<'_>) -> impl Iterator<Item = Record<'m>> {
    let late = message.late().iter().flat_map(super::LateSet::records).filter(|r| r.template().scope_count == 0);
    message.records().chain(late)
}

fn flow(line: &mut String, version: u8, record: Record<'_>) {
    let mut written: Vec<(u32, u16)> = Vec::new();
    let last = record.template().fields.len().saturating_sub(1);
    for (i, field) in record.fields().enumerate() {
        let router = version == 7 && i == last;
        if field.id == 210 && field.pen == 0 && !router || written.contains(&(field.pen, field.id)) {
            continue;
        }
        line.push_str(if written.is_empty() { "" } else { "," });
        written.push((field.pen, field.id));
        let name = if router { Some("ROUTER_SC") } else { short_name(version, &field) };
        match name {
            Some(name) => json_string(line, name),
            None => json_string(line, &Registry::standard().key(version, field.pen, field.id)),
        }
        line.push(':');
        value(line, version, &field);
    }
}

fn short_name<'m>(version: u8, field: &Field<'m>) -> Option<&'m str> {
    match version {
        9 if field.pen == 0 => v9_name(field.id),
        9 | 10 => field.element.filter(|e| e.pen == 0).map(|e| &*e.name),
        _ => Some(match field.id {
            8 => "IPV4_SRC_ADDR",
            12 => "IPV4_DST_ADDR",
            15 => "NEXT_HOP",
            10 => "INPUT",
            14 => "OUTPUT",
            2 => "IN_PACKETS",
            1 => "IN_OCTETS",
            22 => "FIRST_SWITCHED",
            21 => "LAST_SWITCHED",
            7 => "SRC_PORT",
            11 => "DST_PORT",
            6 => "TCP_FLAGS",
            4 => "PROTO",
            5 => "TOS",
            16 => "SRC_AS",
            17 => "DST_AS",
            9 => "SRC_MASK",
            13 => "DST_MASK",
            _ => return None,
        }),
    }
}

fn value(line: &mut String, version: u8, field: &Field<'_>) {
    let number = |bytes: &[u8]| bytes.iter().fold(0u128, |n, &b| n << 8 | u128::from(b));
    let _ = match field.value() {
        v @ (Value::Ipv4(_) | Value::Ipv6(_)) if version == 9 => write!(line, "\"{v}\""),
        Value::Ipv4(_) | Value::Ipv6(_) | Value::Mac(_) => write!(line, "{}", number(field.bytes)),
        Value::Text(text) => {
            json_string(line, text);
            Ok(())
        }
        Value::Float(v) if !v.is_finite() => write!(line, "null"),
        Value::Absent => write!(line, "null"),
        Value::Octets(b) if b.len() <= 16 && !b.is_empty() => write!(line, "{}", number(b)),
        v @ (Value::Octets(_) | Value::List(..)) => write!(line, "\"{v}\""),
        v => write!(line, "{v}"),
    };
}
