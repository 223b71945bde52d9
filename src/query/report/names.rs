//! Names that rows carry for their numbers: of systems, interfaces and exporters.

use crate::query::names::{protocol, service_of};
use crate::query::value::{number, text};
use arrow_array::cast::AsArray;
use arrow_array::types::Int32Type;
use arrow_array::{Array, RecordBatch};
use arrow_buffer::BooleanBuffer;
use std::collections::{HashMap, HashSet};

/// Names of one kind that are kept: beyond these, numbers stand for themselves.
const NAMES: usize = 100_000;

/// A column of names, and the columns of what they name.
const NAMED: &[(&str, &[&str], Kind)] = &[
    ("src_as_name", &["src_as"], Kind::System),
    ("dst_as_name", &["dst_as"], Kind::System),
    ("in_if_name", &["exporter", "in_if"], Kind::Interface),
    ("out_if_name", &["exporter", "out_if"], Kind::Interface),
    ("exporter_name", &["exporter"], Kind::Exporter),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    System,
    Interface,
    Exporter,
}

/// The names found.
#[derive(Debug, Default)]
pub(super) struct Names {
    found: HashMap<(Kind, Vec<String>), String>,
}

impl Names {
    /// The columns that are read.
    pub fn columns() -> impl Iterator<Item = String> {
        NAMED.iter().flat_map(|n| n.1.iter().chain(std::iter::once(&n.0))).map(|c| (*c).to_string())
    }

    /// Looks at the chosen rows of a batch.
    pub fn add(&mut self, batch: &RecordBatch, chosen: &BooleanBuffer) {
        for (name, columns, kind) in NAMED {
            let Some(array) = batch.column_by_name(name).filter(|a| a.null_count() < a.len()) else { continue };
            // Most rows name what others of the batch have named.
            let mut seen = HashSet::<(i128, i128), foldhash::fast::RandomState>::default();
            for row in chosen.set_indices().filter(|row| array.is_valid(*row)) {
                let mut marks = columns.iter().map(|c| mark(batch, c, row));
                if let (Some(first), second) = (marks.next().flatten(), marks.next().unwrap_or(Some(0)))
                    && second.is_some_and(|second| !seen.insert((first, second)))
                {
                    continue;
                }
                let key = columns.iter().map(|c| text(batch, c, row).unwrap_or_default()).collect();
                if self.found.len() < NAMES
                    && let Some(name) = text(batch, name, row).filter(|n| !n.is_empty())
                {
                    self.found.entry((*kind, key)).or_insert(name);
                }
            }
        }
    }

    /// Adds what another thread found.
    pub fn merge(&mut self, other: Self) {
        for (key, name) in other.found {
            self.found.entry(key).or_insert(name);
        }
    }

    /// Leaves those that tell who it was: a system's name is everybody's.
    pub fn leave_identities(&mut self) {
        self.found.retain(|(kind, _), _| *kind == Kind::System);
    }

    /// A name for the keys of a group.
    pub fn of(&self, columns: &[&str], keys: &[String]) -> Option<String> {
        let found = |kind, keys: &[String]| self.found.get(&(kind, keys.to_vec())).cloned();
        match columns {
            ["src_as" | "dst_as"] => found(Kind::System, keys),
            ["exporter"] => found(Kind::Exporter, keys),
            ["exporter", "in_if" | "out_if"] => found(Kind::Interface, keys),
            ["proto", "port" | "src_port" | "dst_port"] => {
                let [proto, port] = keys else { return None };
                let has_ports = matches!(protocol(proto), Some(6 | 17 | 33 | 132 | 136));
                has_ports.then(|| service_of(port.parse().ok()?)).flatten().map(str::to_string)
            }
            _ => None,
        }
    }
}

/// A number that is the same for the same values of a batch's column; `None` where there is none at hand.
fn mark(batch: &RecordBatch, column: &str, row: usize) -> Option<i128> {
    let array = batch.column_by_name(column)?;
    match array.as_dictionary_opt::<Int32Type>() {
        Some(texts) => texts.is_valid(row).then(|| texts.keys().value(row).into()),
        None => number(batch, column, row),
    }
}
