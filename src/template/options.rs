//! What options data say about an exporter: sampling, its clock, and names.

use super::Template;
use crate::columns::ApplicationId;
use std::collections::HashMap;
use std::hash::Hash;

/// Bytes of a name at most: as many as SNMP's ifDescr and ifAlias have, whatever an exporter sends.
const NAME_BYTES: usize = 255;

/// Tables filled from an exporter's options records, each bounded.
#[derive(Clone, Debug)]
pub struct OptionsTables {
    limit: usize,
    generation: u64,
    sampler_rates: HashMap<(u32, u64), f64>,
    domain_rates: HashMap<u32, f64>,
    init_times: HashMap<u32, u64>,
    interfaces: HashMap<(u32, u32), Box<str>>,
    applications: HashMap<ApplicationId, Box<str>>,
    vrfs: HashMap<(u32, u32), Box<str>>,
    samplers: HashMap<(u32, u64), Box<str>>,
    totals: HashMap<(u32, u64), OwnTotals>,
}

/// What an exporter says of its own work since it started (elements 40-42 and 163-168); `None` where it does not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OwnTotals {
    values: [Option<u64>; OwnTotals::NAMES.len()],
}

impl OwnTotals {
    const IDS: [u16; 9] = [40, 41, 42, 163, 164, 165, 166, 167, 168];
    /// What is told, in the order of [`iter`](Self::iter).
    pub const NAMES: [&str; 9] = [
        "exported_octets",
        "exported_messages",
        "exported_flows",
        "observed_flows",
        "ignored_packets",
        "ignored_octets",
        "not_sent_flows",
        "not_sent_packets",
        "not_sent_octets",
    ];

    /// What the exporter told, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Self::NAMES.into_iter().zip(self.values).filter_map(|(name, value)| value.map(|value| (name, value)))
    }

    /// The value of one name.
    pub fn value(&self, name: &str) -> Option<u64> {
        self.iter().find(|total| total.0 == name).map(|total| total.1)
    }

    /// Adds those of another domain or process.
    pub fn add(&mut self, other: &Self) {
        for (mine, more) in self.values.iter_mut().zip(other.values) {
            if let Some(more) = more {
                *mine = Some(mine.unwrap_or(0).saturating_add(more));
            }
        }
    }

    fn take(&mut self, id: u16, value: &[u8]) {
        if let Some(at) = Self::IDS.iter().position(|&known| known == id) {
            self.values[at] = number(value);
        }
    }
}

impl OptionsTables {
    /// Empty tables of at most `limit` entries each.
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            generation: 0,
            sampler_rates: HashMap::new(),
            domain_rates: HashMap::new(),
            init_times: HashMap::new(),
            interfaces: HashMap::new(),
            applications: HashMap::new(),
            vrfs: HashMap::new(),
            samplers: HashMap::new(),
            totals: HashMap::new(),
        }
    }

    /// What the exporter says of its own work: the sum over its domains and exporting processes (144), each as it was
    /// told last.
    pub fn own_totals(&self) -> OwnTotals {
        let mut sum = OwnTotals::default();
        self.totals.values().for_each(|totals| sum.add(totals));
        sum
    }

    /// Changes whenever sampling of a domain or an init time could.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Changes the [`generation`](Self::generation), for what else a stream's sampling depends on.
    pub(crate) fn ask_anew(&mut self) {
        self.generation += 1;
    }

    /// Forgets what was said of a domain.
    pub(crate) fn forget_domain(&mut self, domain: u32) {
        self.generation += 1;
        self.sampler_rates.retain(|k, _| k.0 != domain);
        self.domain_rates.remove(&domain);
        self.init_times.remove(&domain);
        self.interfaces.retain(|k, _| k.0 != domain);
        self.vrfs.retain(|k, _| k.0 != domain);
        self.samplers.retain(|k, _| k.0 != domain);
        self.totals.retain(|k, _| k.0 != domain);
    }

    /// Entries of all tables.
    pub fn len(&self) -> usize {
        self.sampler_rates.len()
            + self.domain_rates.len()
            + self.init_times.len()
            + self.interfaces.len()
            + self.applications.len()
            + self.vrfs.len()
            + self.samplers.len()
            + self.totals.len()
    }

    /// Whether nothing was said.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The rate of a sampler (48) or selector (302).
    pub fn sampler_rate(&self, domain: u32, sampler: u64) -> Option<f64> {
        self.sampler_rates.get(&(domain, sampler)).copied()
    }

    /// The rate of a whole domain.
    pub fn domain_rate(&self, domain: u32) -> Option<f64> {
        self.domain_rates.get(&domain).copied()
    }

    /// When the exporting process started, milliseconds since 1970 (160).
    pub fn init_time_ms(&self, domain: u32) -> Option<u64> {
        self.init_times.get(&domain).copied()
    }

    /// The name of an interface.
    pub fn interface(&self, domain: u32, index: u32) -> Option<&str> {
        self.interfaces.get(&(domain, index)).map(AsRef::as_ref)
    }

    /// The name of an application, by its id (95).
    pub fn application(&self, id: ApplicationId) -> Option<&str> {
        self.applications.get(&id).map(AsRef::as_ref)
    }

    /// The name of a VRF.
    pub fn vrf(&self, domain: u32, id: u32) -> Option<&str> {
        self.vrfs.get(&(domain, id)).map(AsRef::as_ref)
    }

    /// The name of a sampler.
    pub fn sampler(&self, domain: u32, id: u64) -> Option<&str> {
        self.samplers.get(&(domain, id)).map(AsRef::as_ref)
    }

    /// Learns from an options record whose fields stand at `fields` in `bytes`; whether it told something new.
    pub fn learn(&mut self, domain: u32, template: &Template, bytes: &[u8], fields: &[(u32, u32)]) -> bool {
        let mut r = Record::default();
        for (i, (spec, &(at, len))) in template.fields.iter().zip(fields).enumerate() {
            let value = bytes.get(at as usize..(at + len) as usize).unwrap_or(&[]);
            if spec.pen != 0 || value.is_empty() {
                continue;
            }
            if template.version == 9 && i < usize::from(template.scope_count) {
                // Scope types are a namespace of their own; 2 is an interface.
                if spec.id == 2 {
                    r.interface = number(value);
                }
                continue;
            }
            r.take(spec.id, value);
        }
        let (limit, mut new) = (self.limit, false);
        if let Some(rate) = r.rate() {
            match r.sampler {
                Some(id) => {
                    new |= put(&mut self.sampler_rates, limit, (domain, id), rate);
                }
                None => {
                    let changed = put(&mut self.domain_rates, limit, domain, rate);
                    self.generation += u64::from(changed);
                    new |= changed;
                }
            }
        }
        if let Some(ms) = r.init_time {
            let changed = put(&mut self.init_times, limit, domain, ms);
            self.generation += u64::from(changed);
            new |= changed;
        }
        if r.totals != OwnTotals::default() {
            // Several records may each say a part.
            let key = (domain, r.process.unwrap_or(0));
            let mut known = self.totals.get(&key).copied().unwrap_or_default();
            for (mine, new) in known.values.iter_mut().zip(r.totals.values) {
                *mine = new.or(*mine);
            }
            put(&mut self.totals, limit, key, known);
        }
        if let (Some(index), Some(name)) = (r.interface, r.interface_name) {
            new |= put(&mut self.interfaces, limit, (domain, index as u32), name.into());
        }
        if let (Some(id), Some(name)) = (r.application, r.application_name) {
            new |= put(&mut self.applications, limit, id, name.into());
        }
        if let (Some(id), Some(name)) = (r.vrf, r.vrf_name) {
            new |= put(&mut self.vrfs, limit, (domain, id as u32), name.into());
        }
        if let (Some(id), Some(name)) = (r.sampler, r.sampler_name) {
            new |= put(&mut self.samplers, limit, (domain, id), name.into());
        }
        new
    }
}

/// Sets an entry if there is room; whether that changed anything.
fn put<K: Hash + Eq, V: PartialEq>(map: &mut HashMap<K, V>, limit: usize, key: K, value: V) -> bool {
    if let Some(known) = map.get_mut(&key) {
        let changed = *known != value;
        *known = value;
        return changed;
    }
    let room = map.len() < limit;
    if room {
        map.insert(key, value);
    }
    room
}

/// What one options record says.
#[derive(Default)]
struct Record<'a> {
    sampler: Option<u64>,
    interval: Option<u64>,
    random: Option<u64>,
    packets: Option<u64>,
    space: Option<u64>,
    size: Option<u64>,
    population: Option<u64>,
    probability: Option<f64>,
    init_time: Option<u64>,
    interface: Option<u64>,
    interface_name: Option<&'a str>,
    application: Option<ApplicationId>,
    application_name: Option<&'a str>,
    vrf: Option<u64>,
    vrf_name: Option<&'a str>,
    sampler_name: Option<&'a str>,
    process: Option<u64>,
    totals: OwnTotals,
}

impl<'a> Record<'a> {
    fn take(&mut self, id: u16, value: &'a [u8]) {
        match id {
            48 | 302 => self.sampler = number(value),
            34 => self.interval = number(value),
            50 => self.random = number(value),
            305 => self.packets = number(value),
            306 => self.space = number(value),
            309 => self.size = number(value),
            310 => self.population = number(value),
            311 => self.probability = float(value),
            160 => self.init_time = number(value),
            10 | 14 | 252 | 253 if self.interface.is_none() => self.interface = number(value),
            82 => self.interface_name = text(value),
            83 if self.interface_name.is_none() => self.interface_name = text(value),
            95 => self.application = ApplicationId::from_octets(value),
            96 => self.application_name = text(value),
            234 | 235 if self.vrf.is_none() => self.vrf = number(value),
            236 => self.vrf_name = text(value),
            84 => self.sampler_name = text(value),
            144 => self.process = number(value),
            40..=42 | 163..=168 => self.totals.take(id, value),
            _ => {}
        }
    }

    /// One packet in how many was taken; `None` where no form says it.
    fn rate(&self) -> Option<f64> {
        let known = |r: f64| (r.is_finite() && r > 0.0).then_some(r);
        let number = |n: Option<u64>| n.and_then(|n| known(n as f64));
        number(self.interval)
            .or_else(|| number(self.random))
            .or_else(|| known((self.packets? as f64 + self.space? as f64) / self.packets? as f64))
            .or_else(|| known(self.population? as f64 / self.size? as f64))
            .or_else(|| known(1.0 / self.probability?))
    }
}

fn number(value: &[u8]) -> Option<u64> {
    (value.len() <= 8).then(|| value.iter().fold(0, |n, &b| n << 8 | u64::from(b)))
}

fn float(value: &[u8]) -> Option<f64> {
    match value.len() {
        4 => value.first_chunk().map(|b| f64::from(f32::from_be_bytes(*b))),
        8 => value.first_chunk().map(|b| f64::from_be_bytes(*b)),
        _ => None,
    }
}

/// The text of a name, cut where it is too long to be one.
fn text(value: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(value).ok()?.trim_end_matches('\0');
    let end = (0..=text.len().min(NAME_BYTES)).rev().find(|&end| text.is_char_boundary(end))?;
    text.get(..end).filter(|t| !t.is_empty())
}
