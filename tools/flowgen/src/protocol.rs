//! The protocols, and where they differ.

use crate::encode::Sums;
use std::fmt;
use std::str::FromStr;

/// A protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// NetFlow v1: no sequence number.
    V1,
    /// NetFlow v5: its sequence number counts flows.
    V5,
    /// NetFlow v7: its sequence number counts flows.
    V7,
    /// NetFlow v9: its sequence number counts messages.
    V9,
    /// IPFIX: its sequence number counts data records.
    Ipfix,
}

/// The two protocols with templates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    V9,
    Ipfix,
}

impl Protocol {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::V1, Self::V5, Self::V7, Self::V9, Self::Ipfix];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::V1 => "v1",
            Self::V5 => "v5",
            Self::V7 => "v7",
            Self::V9 => "v9",
            Self::Ipfix => "ipfix",
        }
    }

    /// Whether it has templates.
    pub fn has_templates(self) -> bool {
        self.dialect().is_some()
    }

    pub(crate) fn dialect(self) -> Option<Dialect> {
        match self {
            Self::V9 => Some(Dialect::V9),
            Self::Ipfix => Some(Dialect::Ipfix),
            _ => None,
        }
    }

    pub(crate) fn header_len(self) -> usize {
        match self {
            Self::V1 | Self::Ipfix => 16,
            Self::V5 | Self::V7 => 24,
            Self::V9 => 20,
        }
    }

    /// Records that a message may have by the specification.
    pub(crate) fn max_records(self) -> u16 {
        match self {
            Self::V1 => 24,
            Self::V5 => 30,
            Self::V7 => 27,
            Self::V9 | Self::Ipfix => u16::MAX,
        }
    }

    /// How far a message moves the sequence number.
    pub(crate) fn units(self, sums: &Sums) -> u32 {
        match self {
            Self::V1 => 0,
            Self::V5 | Self::V7 => sums.records,
            Self::V9 => 1,
            Self::Ipfix => sums.records + sums.options_records,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Protocol {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|p| p.name() == text);
        found.ok_or_else(|| format!("protocols are {}, or mix for all", Self::ALL.map(Self::name).join(", ")))
    }
}
