//! The second stream: options records, which describe the exporter and not a flow.

use super::RunMeta;
use crate::template::{FieldSpec, Template};
use std::sync::Arc;

/// Options records in the order they came, with their fields found (RFC 7011 section 3.4.2.3, RFC 3954 section 6).
///
/// Their bytes stand one after the other in memory that is used again.
#[derive(Clone, Debug, Default)]
pub struct OptionsBatch {
    bytes: Vec<u8>,
    // Offset of a value from its record's start, and its length.
    fields: Vec<(u32, u32)>,
    sets: Vec<Set>,
    // INVARIANT: each entry is the end of a record in `bytes` and in `fields`, and its place in `sets`; all exist.
    records: Vec<(u32, u32, u32)>,
}

/// What the records of one set share.
#[derive(Clone, Debug)]
struct Set {
    meta: RunMeta,
    template: Arc<Template>,
}

/// One options record.
#[derive(Clone, Copy, Debug)]
pub struct OptionsRecord<'a> {
    /// Its message.
    pub meta: &'a RunMeta,
    /// Its template: the first `scope_count` fields are the scope.
    pub template: &'a Arc<Template>,
    /// The record's bytes.
    pub bytes: &'a [u8],
    /// Where each field's value stands in [`bytes`](Self::bytes): offset and length.
    pub fields: &'a [(u32, u32)],
}

impl<'a> OptionsRecord<'a> {
    /// The value of field `i` of the template; empty past the end.
    pub fn value(&self, i: usize) -> &'a [u8] {
        let place = self.fields.get(i).map(|f| f.0 as usize..(f.0 + f.1) as usize);
        place.and_then(|p| self.bytes.get(p)).unwrap_or(&[])
    }

    /// The scope: what the record is about. In v9 the ids are scope types, not elements.
    pub fn scope(&self) -> impl Iterator<Item = (&'a FieldSpec, &'a [u8])> {
        let (record, n) = (*self, usize::from(self.template.scope_count));
        self.template.fields.iter().enumerate().take(n).map(move |(i, spec)| (spec, record.value(i)))
    }

    /// The fields after the scope.
    pub fn options(&self) -> impl Iterator<Item = (&'a FieldSpec, &'a [u8])> {
        let (record, n) = (*self, usize::from(self.template.scope_count));
        self.template.fields.iter().enumerate().skip(n).map(move |(i, spec)| (spec, record.value(i)))
    }
}

impl OptionsBatch {
    /// The number of records.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Record `i`, or `None` past the end.
    pub fn record(&self, i: usize) -> Option<OptionsRecord<'_>> {
        let &(end, fields_end, set) = self.records.get(i)?;
        let (start, fields) = match i.checked_sub(1).and_then(|p| self.records.get(p)) {
            Some(before) => (before.0, before.1),
            None => (0, 0),
        };
        let set = self.sets.get(set as usize)?;
        Some(OptionsRecord {
            meta: &set.meta,
            template: &set.template,
            bytes: self.bytes.get(start as usize..end as usize)?,
            fields: self.fields.get(fields as usize..fields_end as usize)?,
        })
    }

    /// The records in the order they came.
    pub fn iter(&self) -> impl Iterator<Item = OptionsRecord<'_>> {
        (0..self.len()).filter_map(|i| self.record(i))
    }

    /// Forgets the records, keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.fields.clear();
        self.sets.clear();
        self.records.clear();
    }

    /// Bytes of memory held.
    pub fn memory(&self) -> usize {
        self.bytes.capacity()
            + self.fields.capacity() * size_of::<(u32, u32)>()
            + self.sets.capacity() * size_of::<Set>()
            + self.records.capacity() * size_of::<(u32, u32, u32)>()
    }

    /// Starts a set: the records appended next belong to it.
    pub(crate) fn begin(&mut self, meta: &RunMeta, template: &Arc<Template>) {
        self.sets.push(Set { meta: *meta, template: template.clone() });
    }

    /// Appends a record of the set that was begun last. `fields` count from `start` bytes before the record.
    pub(crate) fn push(&mut self, record: &[u8], start: u32, fields: &[(u32, u32)]) {
        let Some(set) = self.sets.len().checked_sub(1) else { return };
        self.bytes.extend_from_slice(record);
        self.fields.extend(fields.iter().map(|f| (f.0.saturating_sub(start), f.1)));
        self.records.push((self.bytes.len() as u32, self.fields.len() as u32, set as u32));
    }
}
