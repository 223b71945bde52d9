//! A MaxMind DB file: countries, cities and AS by prefix.

use super::networks::Attributes;
use maxminddb::{MaxMindDbError, Reader, WithinOptions};
use serde::Deserialize;
use serde::de::IgnoredAny;
use std::collections::HashSet;
use std::fmt;
use std::net::IpAddr;

/// A database in memory.
pub struct Geo {
    reader: Reader<Vec<u8>>,
}

/// Why a file is no database that can be read.
#[derive(Debug)]
pub struct GeoError(MaxMindDbError);

impl fmt::Display for GeoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no MaxMind DB, or damaged: {}", self.0)
    }
}

impl std::error::Error for GeoError {}

impl fmt::Debug for Geo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Geo").field("type", &self.reader.metadata().database_type).finish_non_exhaustive()
    }
}

/// What is read of a record: the fields of MaxMind's City, Country and ASN databases, and what other makers call them.
#[derive(Default, Deserialize)]
struct Record<'a> {
    #[serde(borrow)]
    country: Option<Named<'a>>,
    country_code: Option<Named<'a>>,
    #[serde(borrow)]
    city: Option<Named<'a>>,
    autonomous_system_number: Option<Asn<'a>>,
    #[serde(borrow)]
    asn: Option<Asn<'a>>,
    autonomous_system_organization: Option<Named<'a>>,
    as_name: Option<Named<'a>>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Named<'a> {
    Text(&'a str),
    Map {
        iso_code: Option<&'a str>,
        #[serde(borrow)]
        names: Option<English<'a>>,
    },
    Other(IgnoredAny),
}

#[derive(Deserialize)]
struct English<'a> {
    en: Option<&'a str>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Asn<'a> {
    Number(u32),
    Text(&'a str),
    Other(IgnoredAny),
}

impl Named<'_> {
    fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(*text),
            Self::Map { iso_code, names } => iso_code.or_else(|| names.as_ref()?.en),
            Self::Other(_) => None,
        }
        .filter(|text| !text.is_empty())
    }
}

impl Asn<'_> {
    fn value(&self) -> Option<u32> {
        match self {
            Self::Number(n) => Some(*n),
            Self::Text(text) => text.strip_prefix("AS").unwrap_or(text).parse().ok(),
            Self::Other(_) => None,
        }
    }
}

impl Record<'_> {
    fn attributes(&self) -> Attributes {
        let text = |one: &Option<Named<'_>>| one.as_ref().and_then(Named::text).map(Box::from);
        // A code is shorter than a country's name.
        Attributes {
            country: text(&self.country_code).or_else(|| text(&self.country)),
            city: text(&self.city),
            number: self.autonomous_system_number.as_ref().or(self.asn.as_ref()).and_then(Asn::value),
            as_name: text(&self.autonomous_system_organization).or_else(|| text(&self.as_name)),
            net: None,
            site: None,
        }
    }
}

impl Geo {
    /// A database from the bytes of its file; every record that it leads to is read once.
    ///
    /// # Errors
    /// Bytes that are no MaxMind DB, and those of which a part is damaged.
    pub fn read(bytes: Vec<u8>) -> Result<Self, GeoError> {
        let geo = Self { reader: Reader::from_source(bytes).map_err(GeoError)? };
        let mut seen = HashSet::new();
        for place in geo.reader.networks(WithinOptions::default()).map_err(GeoError)? {
            let place = place.map_err(GeoError)?;
            if place.offset().is_some_and(|offset| seen.insert(offset)) {
                place.decode::<Record<'_>>().map_err(GeoError)?;
            }
        }
        Ok(geo)
    }

    /// The number of the record of an address; `None` where there is none.
    #[inline]
    pub(super) fn at(&self, address: IpAddr) -> Option<usize> {
        // A database of IPv4 alone has no record of IPv6.
        self.reader.lookup(address.to_canonical()).ok()?.offset()
    }

    /// What the record of an address says.
    pub(super) fn attributes(&self, address: IpAddr) -> Attributes {
        let found = self.reader.lookup(address.to_canonical()).ok();
        let record = found.and_then(|found| found.decode::<Record<'_>>().ok().flatten());
        record.map_or_else(Attributes::default, |record| record.attributes())
    }
}
