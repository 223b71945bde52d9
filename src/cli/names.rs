//! Flags of what is added to rows before they are written, and of which rows are.

use super::usage;
use clap::ValueEnum;
use flowlane::columns::Timestamp;
use flowlane::enrich::{self, Files, Paths};
use flowlane::query::Filter;
use std::path::PathBuf;
use std::time::SystemTime;

/// Names, places and the filter.
#[derive(clap::Args)]
#[command(next_help_heading = "Names, places, filter")]
pub struct NameArgs {
    /// What to know of exporters, in TOML: [[exporter]] with address = an address or a prefix, name, interfaces (by number a name, or
    /// name and speed), sampling_rate (where it tells none), sampling_override (whatever it tells), fractions = "decimal".
    /// The longest prefix counts; names from options data count before these
    #[arg(long, value_name = "FILE")]
    exporters: Option<PathBuf>,
    /// A table of prefixes for the columns src_net, src_site, src_city, src_country, src_as, src_as_name and those of the
    /// destination: lines like 10.1.0.0/16,net=office,site=Basel
    #[arg(long, value_name = "FILE")]
    networks: Option<PathBuf>,
    /// A MaxMind DB file (City, Country, ASN) for country, city and AS, where --networks does not say them. Repeatable; the
    /// first that says something counts
    #[arg(long, value_name = "FILE")]
    geo: Vec<PathBuf>,
    /// Where the AS of --networks and --geo is taken
    #[arg(long, value_enum, value_name = "WHERE", default_value = "absent")]
    fill_as: FillAs,
    /// Write only these rows: a filter as `flowlane flows` takes it, like 'proto tcp and not src net 10/8'. Others are
    /// counted, those of which it cannot tell apart
    #[arg(long = "where", value_name = "FILTER", value_parser = filter)]
    filter: Option<Filter>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum FillAs {
    /// Where the exporter sent none
    Absent,
    /// There, and where it sent 0
    Zero,
    /// Wherever they know one
    Always,
}

fn filter(text: &str) -> Result<Filter, String> {
    Filter::parse(text, Timestamp::from(SystemTime::now()).0).map_err(|e| e.to_string())
}

impl NameArgs {
    /// Reads the files.
    pub fn files(&self) -> anyhow::Result<Files> {
        let paths = Paths { exporters: self.exporters.clone(), networks: self.networks.clone(), geo: self.geo.clone() };
        Files::read(&paths).map_err(|e| usage(e.to_string()))
    }

    /// Files that cannot be used, each with its flag and why.
    pub fn wrong_files(&self) -> Vec<(&'static str, String)> {
        let exporters = self.exporters.iter().map(|p| Paths { exporters: Some(p.clone()), ..Paths::default() });
        let networks = self.networks.iter().map(|p| Paths { networks: Some(p.clone()), ..Paths::default() });
        let geo = self.geo.iter().map(|p| Paths { geo: vec![p.clone()], ..Paths::default() });
        // And whether there are too many.
        let all = (!self.geo.is_empty()).then(|| Paths { geo: self.geo.clone(), ..Paths::default() });
        let each = exporters.map(|p| ("exporters", p)).chain(networks.map(|p| ("networks", p)));
        let each = each.chain(geo.chain(all).map(|p| ("geo", p)));
        let mut wrong = Vec::new();
        for (flag, paths) in each {
            let found = Files::read(&paths).err().map(|e| (flag, e.to_string()));
            wrong.extend(found.filter(|found| !wrong.contains(found)));
        }
        wrong
    }

    pub fn fill_as(&self) -> enrich::FillAs {
        match self.fill_as {
            FillAs::Absent => enrich::FillAs::Absent,
            FillAs::Zero => enrich::FillAs::Zero,
            FillAs::Always => enrich::FillAs::Always,
        }
    }

    pub fn filter(&self) -> Option<&Filter> {
        self.filter.as_ref()
    }
}
