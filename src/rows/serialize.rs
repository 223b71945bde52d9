//! The row view for serde: what [`Message`] shows, as maps and sequences.

use super::{Field, Message, Record};
use crate::template::{FieldSpec, Kind, Template, VARIABLE};
use serde::ser::{Serialize, SerializeMap as _, SerializeStruct as _, Serializer};
use std::collections::HashMap;

impl Serialize for Field<'_> {
    /// The value: numbers and booleans as such, lists as the text of their JSON, everything else as text.
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self.list() {
            Some(_) => s.collect_str(self),
            None => self.value().serialize(s),
        }
    }
}

impl Serialize for Record<'_> {
    /// A map of names to values; a repeated name carries `#2`, `#3`.
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let mut map = s.serialize_map(Some(self.template().fields.len()))?;
        let mut seen = HashMap::new();
        for field in self.fields() {
            let name = field.name().to_string();
            let nth = seen.entry((field.is_v9_scope(), field.pen(), field.id())).or_insert(0);
            *nth += 1;
            match *nth {
                1 => map.serialize_entry(&name, &field)?,
                n => map.serialize_entry(&format!("{name}#{n}"), &field)?,
            }
        }
        map.end()
    }
}

struct Header<'a>(&'a Message<'a>);

impl Serialize for Header<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_map(self.0.header_fields())
    }
}

struct Definition<'a>(&'a Template);

impl Serialize for Definition<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        /// The enterprise number, the id, and the length unless it varies.
        fn field(f: &FieldSpec) -> (u32, u16, Option<u16>) {
            (f.pen, f.id, (f.len != VARIABLE).then_some(f.len))
        }
        let mut out = s.serialize_struct("Template", 4)?;
        out.serialize_field("id", &self.0.id)?;
        out.serialize_field("kind", if self.0.kind == Kind::Data { "data" } else { "options" })?;
        out.serialize_field("scope_count", &self.0.scope_count)?;
        out.serialize_field("fields", &self.0.fields.iter().map(field).collect::<Vec<_>>())?;
        out.end()
    }
}

impl Serialize for Message<'_> {
    /// `header`, `templates`, `records`, `options`, `late` records of earlier messages, and `errors` as text.
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let mut out = s.serialize_struct("Message", 6)?;
        out.serialize_field("header", &Header(self))?;
        out.serialize_field("templates", &self.templates().iter().map(|t| Definition(t)).collect::<Vec<_>>())?;
        out.serialize_field("records", &self.records().collect::<Vec<_>>())?;
        out.serialize_field("options", &self.options().collect::<Vec<_>>())?;
        out.serialize_field("late", &self.late().iter().flat_map(|l| l.records()).collect::<Vec<_>>())?;
        out.serialize_field("errors", &self.errors().iter().map(ToString::to_string).collect::<Vec<_>>())?;
        out.end()
    }
}
