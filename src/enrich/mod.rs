//! What tables know of rows: names from options data, and what an operator's files say of exporters, prefixes and places.
//!
//! ```text
//! options data     -> Names       interfaces, applications, VRFs, samplers, by exporter and domain
//! exporters (TOML) -> Exporters   names, interfaces with their speeds; sampling and times, as rules of the decoder
//! networks (CSV)   -> Networks    prefix -> net, site, city, country, AS
//! MaxMind DB       -> Geo         prefix -> country, city, AS
//!                     Enricher    adds them to the rows of a batch as columns
//! ```
//!
//! What several sources say of one thing: the record's own field counts before options data, those before the file of
//! exporters; the table of networks counts before MaxMind DB files, those in their order. An AS that the exporter sent
//! is left alone, unless [`FillAs`] says otherwise.
//!
//! Columns of names are dictionaries made anew for each batch. A place is looked up once for an address and remembered,
//! so what most rows cost is a look into a cache.

mod column;
mod exporters;
mod files;
mod geo;
mod names;
mod networks;
mod places;

pub use exporters::{Exporters, ExportersError, Interface};
pub use files::{Change, FileError, Files, Paths, Tables, read_file};
pub use geo::{Geo, GeoError};
pub use networks::{Networks, NetworksError};

use crate::columns::{Batch, OptionsBatch};
use crate::template::OptionsTables;
use column::{Column, Texts};
use names::{Kind, NAMES, Names};
use places::{Attribute, Places};
use std::net::IpAddr;

/// Columns that may be added, or filled where they lack values.
pub const COLUMNS: [&str; 21] = [
    "src_as",
    "dst_as",
    "app_name",
    "in_if_name",
    "out_if_name",
    "in_vrf_name",
    "out_vrf_name",
    "sampler_name",
    "exporter_name",
    "src_country",
    "dst_country",
    "src_as_name",
    "dst_as_name",
    "src_net",
    "dst_net",
    "src_site",
    "dst_site",
    "src_city",
    "dst_city",
    "in_if_speed",
    "out_if_speed",
];

/// Where the AS of a row is taken from the tables.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FillAs {
    /// Where the exporter sent none.
    #[default]
    Absent,
    /// There, and where it sent 0.
    Zero,
    /// Wherever the tables know one.
    Always,
}

/// Adds columns to batches.
///
/// ```
/// use flowlane::columns::Timestamp;
/// use flowlane::decode::{Config, Decoder};
/// use flowlane::enrich::{Enricher, FillAs, Networks, Tables};
///
/// let mut v5 = vec![0, 5, 0, 1, 0, 0, 39, 16, 101, 83, 241, 0];
/// v5.extend([0; 12]);
/// v5.extend([192, 0, 2, 1, 198, 51, 100, 2]);
/// v5.extend([0; 40]);
/// let mut decoder = Decoder::new(Config::default());
/// decoder.decode(&v5, "203.0.113.9:2055".parse()?, Timestamp(0));
/// let mut batch = decoder.flush().pop().expect("a batch");
///
/// let networks = Networks::parse("192.0.2.0/24,net=lab,site=Basel")?;
/// let tables = Tables { networks: networks.into(), ..Tables::default() };
/// Enricher::new(tables, FillAs::Absent).join(&mut batch);
/// let site = batch.column("src_site").expect("joined");
/// assert!(site.is_valid(0));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Enricher {
    tables: Tables,
    fill_as: FillAs,
    texts: Texts,
    names: Names,
    places: Places,
    column: Column,
    // The place of each row's address, for its memory.
    at: Vec<u32>,
}

impl Enricher {
    /// Goes by tables; names from options data are learned.
    pub fn new(tables: Tables, fill_as: FillAs) -> Self {
        let mut enricher = Self {
            tables: Tables::default(),
            fill_as,
            texts: Texts::default(),
            names: Names::new(NAMES),
            places: Places::default(),
            column: Column::default(),
            at: Vec::new(),
        };
        enricher.replace(tables);
        enricher
    }

    /// Goes by other tables from now on.
    pub fn replace(&mut self, tables: Tables) {
        self.tables = tables;
        self.forget_texts();
    }

    /// Learns names from options records.
    pub fn learn(&mut self, options: &OptionsBatch) {
        for record in options.iter() {
            self.names.learn(&record);
        }
    }

    /// Learns names that a decoder knows already.
    pub fn learn_tables(&mut self, exporter: IpAddr, tables: &OptionsTables) {
        self.names.learn_tables(exporter, tables);
    }

    /// Names that were forgotten because there were too many.
    pub fn names_forgotten(&self) -> u64 {
        self.names.forgotten
    }

    /// Adds to a finished batch what is known of its rows. Columns of which no row has a value are left out.
    pub fn join(&mut self, batch: &mut Batch) {
        if self.texts.is_full() {
            self.forget_texts();
        }
        if !self.names.is_empty() || !self.tables.exporters.is_empty() {
            self.join_names(batch);
        }
        if self.tables.has_places() {
            self.join_places(batch, &SOURCE);
            self.join_places(batch, &DESTINATION);
        }
    }

    fn forget_texts(&mut self) {
        self.texts = Texts::default();
        self.names.forget_texts();
        self.places.forget();
    }

    fn join_names(&mut self, batch: &mut Batch) {
        let (texts, tables, column) = (&mut self.texts, &self.tables, &mut self.column);
        self.names.enter(batch, tables);
        if !self.names.any() {
            return;
        }
        for (name, of, kind) in [
            ("in_if_name", "in_if", Kind::Interface),
            ("out_if_name", "out_if", Kind::Interface),
            ("in_vrf_name", "in_vrf", Kind::Vrf),
            ("out_vrf_name", "out_vrf", Kind::Vrf),
            ("sampler_name", "sampler_id", Kind::Sampler),
            ("app_name", "app_id", Kind::Application),
        ] {
            if batch.column(name).is_some() {
                continue;
            }
            let Some(ids) = batch.column(of) else { continue };
            column.begin(texts);
            self.names.each(batch, ids, kind, tables, texts, |id, rows, texts| column.push(id, rows, texts));
            column.end(batch, name);
        }
        if batch.column("exporter_name").is_none() {
            column.begin(texts);
            self.names.each_exporter(batch, tables, texts, |id, rows, texts| column.push(id, rows, texts));
            column.end(batch, "exporter_name");
        }
        for (name, of) in [("in_if_speed", "in_if"), ("out_if_speed", "out_if")] {
            let speeds = batch.column(of).and_then(|ids| self.names.speeds(batch, tables, ids));
            if let Some(speeds) = speeds {
                batch.join_i64(name, &speeds);
            }
        }
    }

    fn join_places(&mut self, batch: &mut Batch, side: &Side) {
        self.places.find(batch, side.v4, side.v6, &self.tables, &mut self.texts, &mut self.at);
        if self.places.may_have_as() {
            self.fill_as(batch, side.number);
        }
        for (attribute, name) in side.texts {
            if !self.places.may_have(attribute) {
                continue;
            }
            self.column.begin(&self.texts);
            let own = batch.own_column(side.number).filter(|_| attribute == Attribute::AsName);
            for (row, &place) in self.at.iter().enumerate() {
                let is_of_another = own.is_some_and(|own| self.is_of_another(batch, own, row, place));
                let text = if is_of_another { 0 } else { self.places.text(place, attribute) };
                self.column.push(text, 1, &self.texts);
            }
            self.column.end(batch, name);
        }
    }

    /// Whether the number of a row, which its exporter sent, is that of another AS than a place's. A zero that stays is
    /// no AS, which has no name.
    fn is_of_another(&self, batch: &Batch, own: u16, row: usize, place: u32) -> bool {
        let (number, has_own) = (self.places.number(place), batch.is_valid(own, row));
        let is_another = |own: u32| own == 0 || number.is_some_and(|number| own != number);
        batch.slots::<u32>(own).get(row).is_some_and(|&own| has_own && is_another(own))
    }

    fn fill_as(&self, batch: &mut Batch, name: &str) {
        let numbers = self.at.iter().map(|&place| self.places.number(place));
        let Some(own) = batch.own_column(name) else {
            let numbers: Vec<Option<u32>> = numbers.collect();
            if numbers.iter().any(Option::is_some) {
                batch.join_u32(name, &numbers);
            }
            return;
        };
        if self.fill_as == FillAs::Absent && batch.has_all(own) {
            return;
        }
        for (row, number) in numbers.enumerate() {
            let Some(number) = number else { continue };
            let absent = !batch.is_valid(own, row);
            let Some(slot) = batch.slots_mut::<u32>(own).get_mut(row) else { return };
            let fill = match self.fill_as {
                FillAs::Absent => absent,
                FillAs::Zero => absent || *slot == 0,
                FillAs::Always => true,
            };
            if fill {
                *slot = number;
                if absent {
                    batch.set_valid(own, row, true);
                }
            }
        }
    }
}

/// The columns of one end of a flow.
struct Side {
    v4: &'static str,
    v6: &'static str,
    number: &'static str,
    texts: [(Attribute, &'static str); 5],
}

const SOURCE: Side = Side {
    v4: "src_ip4",
    v6: "src_ip6",
    number: "src_as",
    texts: [
        (Attribute::Country, "src_country"),
        (Attribute::AsName, "src_as_name"),
        (Attribute::Net, "src_net"),
        (Attribute::Site, "src_site"),
        (Attribute::City, "src_city"),
    ],
};

const DESTINATION: Side = Side {
    v4: "dst_ip4",
    v6: "dst_ip6",
    number: "dst_as",
    texts: [
        (Attribute::Country, "dst_country"),
        (Attribute::AsName, "dst_as_name"),
        (Attribute::Net, "dst_net"),
        (Attribute::Site, "dst_site"),
        (Attribute::City, "dst_city"),
    ],
};
