//! `--anonymise`: answers that can be shared.

use crate::cli::usage;
use anyhow::Context;
use flowlane::query::Anonymiser;

/// How addresses are shown.
#[derive(clap::Args)]
pub struct Anonymous {
    /// Other addresses in place of the real ones, by this key: 32 characters, 0x and 64 hexadecimal digits, or @FILE that
    /// holds one. Equal prefixes stay equal (Crypto-PAn); filters see the real ones. MAC addresses, fields that have no column of the
    /// schema, and names of users, exporters, interfaces, VRFs, samplers, networks, sites and cities are not shown; those of
    /// applications, autonomous systems and countries are
    #[arg(long, value_name = "KEY")]
    anonymise: Option<String>,
}

impl Anonymous {
    /// What turns addresses into others; `names` are the columns that will be shown.
    pub fn anonymiser<'a>(&self, names: impl IntoIterator<Item = &'a String>) -> anyhow::Result<Option<Anonymiser>> {
        let Some(key) = &self.anonymise else { return Ok(None) };
        if let Some(name) = names.into_iter().find(|name| Anonymiser::is_identity(name)) {
            return Err(usage(format!("--anonymise: {name} tells who it was; leave it out")));
        }
        let key = match key.strip_prefix('@') {
            Some(path) => {
                let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {path}"))?;
                text.trim_end_matches(['\r', '\n']).to_string()
            }
            None => key.clone(),
        };
        Ok(Some(key.parse().map_err(|e| usage(format!("--anonymise: {e}")))?))
    }
}
