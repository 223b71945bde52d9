//! What a batch's columns are: types, definitions, and the steps that finish a batch.

use super::derive::Derive;
use super::gather::places::Frame;
use std::sync::Arc;

/// The type of a column's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ColumnType {
    /// Unsigned, 8 bits.
    U8,
    /// Unsigned, 16 bits.
    U16,
    /// Unsigned, 32 bits.
    U32,
    /// Unsigned, 64 bits.
    U64,
    /// Signed, 64 bits.
    I64,
    /// IEEE 754, 64 bits.
    F64,
    /// True or false.
    Bool,
    /// Microseconds since 1970-01-01 UTC, in 64 signed bits.
    Timestamp,
    /// An IPv4 address as a number (Arrow: `UInt32`).
    Ip4,
    /// An IPv6 address, 16 bytes in network order.
    Ip6,
    /// A MAC address, 6 bytes.
    Mac,
    /// UTF-8 text.
    Text,
    /// Bytes.
    Octets,
    /// A list of unsigned 32-bit numbers.
    ListU32,
}

impl ColumnType {
    /// Bytes of a value; `None` where they vary or a value is a bit.
    pub const fn width(self) -> Option<usize> {
        match self {
            Self::U8 => Some(1),
            Self::U16 => Some(2),
            Self::U32 | Self::Ip4 => Some(4),
            Self::U64 | Self::I64 | Self::F64 | Self::Timestamp => Some(8),
            Self::Ip6 => Some(16),
            Self::Mac => Some(6),
            Self::Bool => Some(1),
            Self::Text | Self::Octets | Self::ListU32 => None,
        }
    }
}

impl ColumnType {
    /// The width of a column that stands in a batch's arena; 0 for others.
    pub(crate) fn place_width(self) -> u8 {
        self.width().filter(|_| self != Self::Bool).map_or(0, |w| w as u8)
    }
}

/// A column of a layout.
#[derive(Clone, Debug, PartialEq)]
pub struct ColumnDef {
    /// The schema's name, or `x_` and the extra's key with `_` for what is no letter or digit.
    pub name: Arc<str>,
    /// The key under `extras` in text output; `None` for a column of the schema.
    pub extra_key: Option<Arc<str>>,
    /// The type of the values.
    pub data_type: ColumnType,
    /// Whether a row can lack a value.
    pub nullable: bool,
}

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// The columns of all batches of one plan.
#[derive(Debug)]
pub struct Layout {
    pub(crate) columns: Box<[ColumnDef]>,
    pub(crate) frame: Frame,
    // The visible columns: the schema's in its order, then extras.
    pub(crate) order: Box<[u16]>,
    pub(crate) derive: Box<[Derive]>,
    // For each field of the template the key of its extras, and whether a value may stand there as a number.
    pub(crate) spill_keys: Box<[(Arc<str>, bool)]>,
    pub(crate) has_var: bool,
    pub(crate) flows_constant: bool,
    pub(crate) counters_are_total: bool,
    pub(crate) first_family: Family,
    pub(crate) first_next_hop: Family,
    pub(crate) first_bgp_next_hop: Family,
    pub(crate) first_nat: Family,
}

impl Layout {
    /// Every column that readers see: the schema's in its order, then the extras in the template's order.
    pub fn columns(&self) -> impl Iterator<Item = &ColumnDef> {
        self.order.iter().map(|&i| &self.columns[usize::from(i)])
    }

    /// `Some(1)` where the records carry no count of flows, so that each is one; else there is a column `flows`.
    pub fn flows_constant(&self) -> Option<i64> {
        self.flows_constant.then_some(1)
    }

    /// Whether `bytes` or `packets` are running totals (elements 85 and 86).
    pub fn counters_are_total(&self) -> bool {
        self.counters_are_total
    }

    /// The family whose addresses come first in the template: text output shows it as `src_addr` and `dst_addr` in
    /// a record that has both.
    pub fn first_family(&self) -> Family {
        self.first_family
    }

    /// As [`first_family`](Self::first_family), for the next hop.
    pub fn first_next_hop(&self) -> Family {
        self.first_next_hop
    }

    /// As [`first_family`](Self::first_family), for the BGP next hop.
    pub fn first_bgp_next_hop(&self) -> Family {
        self.first_bgp_next_hop
    }

    /// As [`first_family`](Self::first_family), for the addresses after translation.
    pub fn first_nat(&self) -> Family {
        self.first_nat
    }
}

/// The column that holds an extra: `x_` and its key with `_` for what is no letter or digit.
pub(crate) fn extra_column_name(key: &str) -> String {
    let tail = key.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' });
    "x_".chars().chain(tail).collect()
}
