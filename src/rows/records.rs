//! The raw record view: one JSON line a record, every field as its bytes in hex.
//!
//! A line holds `pkt` (the number of the message), `ip` (its exporter), `ver`, `dom` (the domain), `set` (the index of
//! the set), `tid` (the template), `kind` (`data` or `options`), `nscope` (its scope fields), `off` and `len` of the record
//! in the message, and `fields`, `[pen, id, length, hex]` each, in wire order. Where they apply there are
//! `"late": true` (the set came before its template; `pkt`, `set` and `off` are those of its own message, and the line
//! stands where the template came), `"other_port": true` (the template came from another port of the exporter), and
//! `"bad": true` (the set was malformed: what could be read of it).

use super::{LateSet, Record, Session, SetRows};
use crate::error::Error;
use crate::template::Kind;
use std::io::Write;
use std::net::SocketAddr;

/// Writes the raw record view of messages given in order.
#[derive(Debug, Default)]
pub struct RecordLines {
    session: Session,
    lines: Vec<u8>,
    head: Vec<u8>,
}

/// Bytes of lines that are written at once.
const FLUSH: usize = 1 << 16;

/// What a message came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Lines written, late ones among them.
    pub lines: u64,
    /// Lines of sets that came before their template.
    pub late: u64,
    /// What is wrong with the message or its sets.
    pub errors: Vec<Error>,
}

impl RecordLines {
    /// With a session of its own.
    pub fn new(session: Session) -> Self {
        Self { session, lines: Vec::new(), head: Vec::new() }
    }

    /// Writes the lines of a message: its number, who sent it, when (microseconds since 1970), its bytes.
    ///
    /// # Errors
    /// What writing fails with. What is wrong with the message is in what is returned.
    pub fn message(
        &mut self,
        number: u64,
        exporter: SocketAddr,
        received_us: i64,
        bytes: &[u8],
        out: &mut impl Write,
    ) -> std::io::Result<Written> {
        let message = match self.session.parse_received(bytes, exporter, received_us, number) {
            Ok(message) => message,
            Err(error) => return Ok(Written { errors: vec![error], ..Written::default() }),
        };
        let mut written = Written { errors: message.errors().to_vec(), ..Written::default() };
        self.lines.clear();
        let (ip, version, domain) = (exporter.ip().to_canonical(), message.version(), message.domain_id());
        let (lines, head) = (&mut self.lines, &mut self.head);
        let mut begin = |number: u64, set: u16, records: &mut dyn Iterator<Item = Record<'_>>, marks: &[u8]| {
            let mut n = 0;
            for record in records {
                if n == 0 {
                    head.clear();
                    let template = record.template();
                    let kind = if template.kind == Kind::Data { "data" } else { "options" };
                    write!(
                        head,
                        "{{\"pkt\":{number},\"ip\":\"{ip}\",\"ver\":{version},\"dom\":{domain},\"set\":{set},\
                         \"tid\":{},\"kind\":\"{kind}\",\"nscope\":{},\"off\":",
                        template.id, template.scope_count,
                    )?;
                }
                n += 1;
                lines.extend_from_slice(head);
                line(lines, record, marks);
                if lines.len() >= FLUSH {
                    out.write_all(lines)?;
                    lines.clear();
                }
            }
            Ok::<u64, std::io::Error>(n)
        };
        for late in message.late() {
            written.late += begin(late.tag(), late.index, &mut late.records(), late_marks(late))?;
        }
        written.lines = written.late;
        for set in message.sets() {
            written.lines += begin(number, set.index, &mut set.records(), marks(set))?;
        }
        out.write_all(&self.lines)?;
        Ok(written)
    }
}

fn marks(set: &SetRows<'_>) -> &'static [u8] {
    match (set.is_other_port(), set.damage().is_some()) {
        (false, false) => b"",
        (true, false) => b",\"other_port\":true",
        (false, true) => b",\"bad\":true",
        (true, true) => b",\"other_port\":true,\"bad\":true",
    }
}

fn late_marks(set: &LateSet) -> &'static [u8] {
    if set.damage().is_some() { b",\"late\":true,\"bad\":true" } else { b",\"late\":true" }
}

/// A line from behind `"off":`.
fn line(out: &mut Vec<u8>, record: Record<'_>, marks: &[u8]) {
    decimal(out, record.offset() as u64);
    out.extend_from_slice(b",\"len\":");
    decimal(out, record.bytes().len() as u64);
    out.extend_from_slice(b",\"fields\":[");
    for (i, field) in record.fields().enumerate() {
        out.extend_from_slice(if i == 0 { b"[" } else { b",[" });
        decimal(out, field.pen().into());
        out.push(b',');
        decimal(out, field.id().into());
        out.push(b',');
        decimal(out, field.bytes().len() as u64);
        out.extend_from_slice(b",\"");
        out.extend(field.bytes().iter().flat_map(|b| [digit(b >> 4), digit(b & 15)]));
        out.extend_from_slice(b"\"]");
    }
    out.push(b']');
    out.extend_from_slice(marks);
    out.extend_from_slice(b"}\n");
}

fn digit(nibble: u8) -> u8 {
    if nibble < 10 { b'0' + nibble } else { b'a' - 10 + nibble }
}

fn decimal(out: &mut Vec<u8>, mut n: u64) {
    let mut digits = [0; 20];
    let mut len = 0;
    for slot in digits.iter_mut().rev() {
        *slot = b'0' + (n % 10) as u8;
        n /= 10;
        len += 1;
        if n == 0 {
            break;
        }
    }
    out.extend(digits.iter().skip(20 - len));
}
