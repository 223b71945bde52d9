//! Templates: what a set of field specifiers says, and where they are kept.
//!
//! [`Templates`] keeps the definitions of one exporter (RFC 7011 section 8, RFC 3954 section 9), [`Held`] the data sets whose
//! definition has not come yet, [`OptionsTables`] what options data say about sampling, names and clocks.

mod held;
mod options;
mod store;

pub use held::{Held, HeldLimits};
pub use options::{OptionsTables, OwnTotals};
pub use store::{Event, KnownTemplate, Pool, Templates};

use std::hash::{Hash, Hasher};
use std::sync::{Arc, LazyLock};

/// Bounds on what an exporter can make a decoder keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Templates of an exporter over all versions, domains, ports and connections.
    pub templates: usize,
    /// Fields of a template.
    pub fields: usize,
    /// Fields of all templates that are kept, of all exporters together; one of them has an eighth at most.
    pub all_fields: usize,
    /// Entries in each of an exporter's options tables.
    pub options_entries: usize,
    /// Whether withdrawals are passed over, as RFC 7011 section 8.1 asks over UDP; real exporters mean them.
    pub ignore_withdrawals: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self { templates: 4096, fields: 4096, all_fields: 1 << 23, options_entries: 16_384, ignore_withdrawals: false }
    }
}

/// The length that says that a field varies in length (RFC 7011 section 7).
pub const VARIABLE: u16 = u16::MAX;

/// A field of a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FieldSpec {
    /// The private enterprise number; 0 for IANA's elements and for all of v9's types.
    pub pen: u32,
    /// The element id, without the enterprise bit; in the scope of v9 options a scope type.
    pub id: u16,
    /// Bytes, or [`VARIABLE`].
    pub len: u16,
}

/// What a template's records are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Flow records.
    Data,
    /// Records of an options template.
    Options,
}

/// A template as the wire said it: at least one byte a record.
#[derive(Clone, Debug)]
pub struct Template {
    /// The protocol version; ids mean different things in v9 and IPFIX.
    pub version: u8,
    /// The template id; 0 for v1, v5 and v7.
    pub id: u16,
    /// Data or options.
    pub kind: Kind,
    /// How many fields, from the first, are scope fields.
    pub scope_count: u16,
    /// The fields in wire order.
    pub fields: Box<[FieldSpec]>,
    // INVARIANT: the sum of the lengths, 1 for a field that varies; > 0.
    min_len: u32,
    fixed: bool,
}

/// Templates are equal when their records are: the id does not count.
impl PartialEq for Template {
    fn eq(&self, other: &Self) -> bool {
        (self.version, self.kind, self.scope_count) == (other.version, other.kind, other.scope_count)
            && self.fields == other.fields
    }
}

impl Eq for Template {}

impl Hash for Template {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.version, self.kind, self.scope_count, &self.fields).hash(state);
    }
}

impl Template {
    /// A template, or `None` where its records would have no length.
    pub fn new(version: u8, id: u16, kind: Kind, scope_count: u16, fields: Box<[FieldSpec]>) -> Option<Self> {
        let min_len = fields.iter().map(|f| if f.len == VARIABLE { 1 } else { u32::from(f.len) }).sum();
        let fixed = fields.iter().all(|f| f.len != VARIABLE);
        (min_len > 0).then_some(Self { version, id, kind, scope_count, fields, min_len, fixed })
    }

    /// The length of the shortest record.
    pub fn min_len(&self) -> u32 {
        self.min_len
    }

    /// The length of every record; `None` where it varies.
    pub fn record_len(&self) -> Option<u32> {
        self.fixed.then_some(self.min_len)
    }

    /// The constant template of v1, v5 or v7; `None` for other versions. Fields without an element are padding (210).
    pub fn constant(version: u8) -> Option<&'static Arc<Self>> {
        static CONSTANT: LazyLock<[Option<Arc<Template>>; 3]> = LazyLock::new(|| {
            const HEAD: [(u16, u16); 11] =
                [(8, 4), (12, 4), (15, 4), (10, 2), (14, 2), (2, 4), (1, 4), (22, 4), (21, 4), (7, 2), (11, 2)];
            const V1: [(u16, u16); 6] = [(210, 2), (4, 1), (5, 1), (6, 1), (210, 3), (210, 4)];
            const V5: [(u16, u16); 9] = [(210, 1), (6, 1), (4, 1), (5, 1), (16, 2), (17, 2), (9, 1), (13, 1), (210, 2)];
            let make = |version, tail: &[(u16, u16)]| {
                let fields = HEAD.iter().chain(tail).map(|&(id, len)| FieldSpec { pen: 0, id, len }).collect();
                Template::new(version, 0, Kind::Data, 0, fields).map(Arc::new)
            };
            let mut v7 = V5.to_vec();
            v7.push((210, 4));
            [make(1, &V1), make(5, &V5), make(7, &v7)]
        });
        let at = match version {
            1 => 0,
            5 => 1,
            7 => 2,
            _ => return None,
        };
        CONSTANT[at].as_ref()
    }

    /// Where the fields of the record at `at` stand: pushes `(offset, length)` a field and returns the record's end,
    /// or `None` where it runs past the bytes.
    pub fn locate(&self, bytes: &[u8], at: usize, fields: &mut Vec<(u32, u32)>) -> Option<usize> {
        let mut pos = at;
        for spec in &self.fields {
            let mut len = usize::from(spec.len);
            if spec.len == VARIABLE {
                len = usize::from(*bytes.get(pos)?);
                pos += 1;
                if len == 255 {
                    len = usize::from(u16::from_be_bytes(*bytes.get(pos..)?.first_chunk()?));
                    pos += 2;
                }
            }
            fields.push((pos as u32, len as u32));
            pos += len;
        }
        (pos <= bytes.len()).then_some(pos)
    }
}
