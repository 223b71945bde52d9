//! The raw record view: one JSON line a record, every field as its bytes in hex.
//!
//! A line holds `pkt` (the number of the message), `ip`, `ver`, `dom`, `set` (the index of the set), `tid`, `kind`,
//! `nscope`, `off` and `len` in the message, and `fields`: `[pen, id, length, hex]` each, in wire order. Records of a set
//! that was held carry `"late": true` and the place in their own message; they stand where their template came.

use super::{Record, Session};
use crate::error::Error;
use crate::template::Kind;
use std::fmt::Write as _;
use std::net::SocketAddr;

/// Writes the raw record view of messages given in order.
#[derive(Debug, Default)]
pub struct RecordLines {
    session: Session,
    line: String,
}

impl RecordLines {
    /// With a session of its own.
    pub fn new(session: Session) -> Self {
        Self { session, line: String::new() }
    }

    /// The lines of a message: number, exporter, bytes. Returns what is wrong with its single sets.
    ///
    /// # Errors
    /// What [`Session::parse`] fails with; there are no lines then.
    pub fn message(
        &mut self,
        number: u64,
        exporter: SocketAddr,
        bytes: &[u8],
        mut write: impl FnMut(&str),
    ) -> Result<Vec<Error>, Error> {
        let message = self.session.parse_tagged(bytes, exporter, number)?;
        let (version, domain) = (message.version(), message.domain_id());
        let ip = exporter.ip().to_canonical();
        let line = &mut self.line;
        let mut put = |number: u64, set: u16, record: Record<'_>, late: bool| {
            let template = record.template();
            let kind = if template.kind == Kind::Data { "data" } else { "options" };
            line.clear();
            let _ = write!(
                line,
                "{{\"pkt\":{number},\"ip\":\"{ip}\",\"ver\":{version},\"dom\":{domain},\"set\":{set},\"tid\":{},\
                 \"kind\":\"{kind}\",\"nscope\":{},\"off\":{},\"len\":{},{}\"fields\":[",
                template.id,
                template.scope_count,
                record.offset(),
                record.bytes().len(),
                if late { "\"late\":true," } else { "" },
            );
            for (i, field) in record.fields().enumerate() {
                let comma = if i == 0 { "" } else { "," };
                let _ = write!(line, "{comma}[{},{},{},\"", field.pen, field.id, field.bytes.len());
                for b in field.bytes {
                    for digit in [b >> 4, b & 15] {
                        line.push(char::from_digit(u32::from(digit), 16).unwrap_or('0'));
                    }
                }
                line.push_str("\"]");
            }
            line.push_str("]}\n");
            write(line);
        };
        for set in message.sets() {
            set.records().for_each(|r| put(number, set.index, r, false));
        }
        for set in message.late() {
            set.records().for_each(|r| put(set.tag, set.index, r, true));
        }
        Ok(message.errors().to_vec())
    }
}
