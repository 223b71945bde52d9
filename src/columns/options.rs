//! The second stream: options records, which describe the exporter and not a flow.

use super::RunMeta;
use crate::template::Template;
use std::sync::Arc;

/// An options record with its fields found (RFC 7011 section 3.4.2.3, RFC 3954 section 6).
#[derive(Clone, Debug)]
pub struct OptionsRecord {
    /// Its message.
    pub meta: RunMeta,
    /// Its template: the first `scope_count` fields are the scope.
    pub template: Arc<Template>,
    /// The record's bytes.
    pub bytes: Box<[u8]>,
    /// Where each field's value stands in [`bytes`](Self::bytes): offset and length.
    pub fields: Box<[(u32, u32)]>,
}

impl OptionsRecord {
    /// The value of field `i` of the template; empty past the end.
    pub fn value(&self, i: usize) -> &[u8] {
        let place = self.fields.get(i).map(|f| f.0 as usize..(f.0 + f.1) as usize);
        place.and_then(|p| self.bytes.get(p)).unwrap_or(&[])
    }
}
