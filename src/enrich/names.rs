//! Names by exporter and domain: what options data say, and an operator's file of exporters.

use super::column::Texts;
use super::files::Tables;
use crate::columns::{Batch, Column, ColumnView, OptionsRecord, Run};
use crate::template::OptionsTables;
use std::collections::HashMap;
use std::net::IpAddr;

/// Names of all exporters at most: beyond them, those of whom nothing was heard for the longest time are forgotten.
pub(super) const NAMES: usize = 1 << 20;
/// Names of one kind that an exporter may have.
const OF_EXPORTER: usize = 16_384;
/// Answers that are remembered.
const ANSWERS: usize = 1 << 17;
/// Exporters and their domains whose answers are remembered.
const SCOPES: usize = 1 << 16;
/// Elements that options data name something with: interfaces, samplers, applications, VRFs.
const NAMING: [u16; 5] = [82, 83, 84, 96, 236];

/// What is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Interface,
    Vrf,
    Sampler,
    Application,
}

/// All names.
#[derive(Debug)]
pub(super) struct Names {
    exporters: HashMap<IpAddr, Exporter>,
    names: usize,
    // Names at most.
    limit: usize,
    pub(super) forgotten: u64,
    scopes: HashMap<(IpAddr, u32), u32>,
    known: Vec<Scope>,
    answers: HashMap<(u32, Kind, u64), u32, foldhash::fast::RandomState>,
    applications: HashMap<u32, HashMap<Box<[u8]>, u32, foldhash::fast::RandomState>, foldhash::fast::RandomState>,
    remembered: usize,
    speeds: HashMap<(u32, u32), Option<i64>, foldhash::fast::RandomState>,
    // Whether something was learned since the answers were given.
    stale: bool,
    // The scope of each run of the batch.
    runs: Vec<u32>,
}

#[derive(Debug)]
struct Exporter {
    tables: OptionsTables,
    heard_us: i64,
}

/// An exporter and a domain of it.
#[derive(Debug)]
struct Scope {
    exporter: IpAddr,
    domain: u32,
    // Whether anything could be named.
    any: bool,
    // Entries of the file of exporters.
    places: Vec<u32>,
}

impl Names {
    /// No names yet, and room for so many.
    pub(super) fn new(limit: usize) -> Self {
        Self {
            exporters: HashMap::new(),
            names: 0,
            limit,
            forgotten: 0,
            scopes: HashMap::new(),
            known: Vec::new(),
            answers: HashMap::default(),
            applications: HashMap::default(),
            remembered: 0,
            speeds: HashMap::default(),
            stale: false,
            runs: Vec::new(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.exporters.is_empty()
    }

    /// Forgets what refers to texts, or to the file of exporters.
    pub(super) fn forget_texts(&mut self) {
        self.scopes.clear();
        self.known.clear();
        self.forget_answers();
    }

    fn forget_answers(&mut self) {
        self.answers.clear();
        self.applications.clear();
        self.speeds.clear();
        self.remembered = 0;
    }

    pub(super) fn learn(&mut self, record: &OptionsRecord<'_>) {
        if !record.template.fields.iter().any(|f| f.pen == 0 && NAMING.contains(&f.id)) {
            return;
        }
        let (meta, ip) = (record.meta, record.meta.exporter.ip());
        let exporter = self
            .exporters
            .entry(ip)
            .or_insert_with(|| Exporter { tables: OptionsTables::new(OF_EXPORTER), heard_us: i64::MIN });
        exporter.heard_us = meta.received_at.0;
        let before = exporter.tables.len();
        if exporter.tables.learn(meta.domain_id, record.template, record.bytes, record.fields) {
            self.names += exporter.tables.len() - before;
            self.stale = true;
            if self.names > self.limit {
                self.forget_oldest();
            }
        }
    }

    pub(super) fn learn_tables(&mut self, exporter: IpAddr, tables: &OptionsTables) {
        if !tables.is_empty() {
            self.names += tables.len();
            let old = self.exporters.insert(exporter, Exporter { tables: tables.clone(), heard_us: i64::MIN });
            self.names -= old.map_or(0, |old| old.tables.len());
            self.stale = true;
        }
    }

    /// Forgets the half of the exporters of whom nothing was heard for the longest time, or all names of a single one.
    #[cold]
    fn forget_oldest(&mut self) {
        let mut heard: Vec<i64> = self.exporters.values().map(|e| e.heard_us).collect();
        let middle = heard.len() / 2;
        let (_, &mut median, _) = heard.select_nth_unstable(middle);
        let before = self.names;
        self.exporters.retain(|_, e| e.heard_us > median);
        self.names = self.exporters.values().map(|e| e.tables.len()).sum();
        self.forgotten += (before - self.names) as u64;
    }

    /// Finds the scope of each run of a batch.
    pub(super) fn enter(&mut self, batch: &Batch, tables: &Tables) {
        if self.remembered > ANSWERS {
            self.forget_answers();
        }
        if std::mem::take(&mut self.stale) || self.known.len() > SCOPES {
            self.forget_texts();
        }
        self.runs.clear();
        let mut last: Option<((IpAddr, u32), u32)> = None;
        for run in batch.runs() {
            let of = (run.meta.exporter.ip(), run.meta.domain_id);
            let scope = match last {
                Some((known, scope)) if known == of => scope,
                _ => self.scope(of, tables),
            };
            last = Some((of, scope));
            self.runs.push(scope);
        }
    }

    fn scope(&mut self, of: (IpAddr, u32), tables: &Tables) -> u32 {
        if let Some(&scope) = self.scopes.get(&of) {
            return scope;
        }
        let (exporter, domain) = of;
        let places = tables.exporters.places(exporter);
        let any = !places.is_empty() || self.exporters.contains_key(&exporter);
        self.known.push(Scope { exporter, domain, any, places });
        let scope = self.known.len() as u32 - 1;
        self.scopes.insert(of, scope);
        scope
    }

    /// Whether anything could be named in the batch that was entered.
    pub(super) fn any(&self) -> bool {
        self.runs.iter().any(|&scope| self.known.get(scope as usize).is_some_and(|s| s.any))
    }

    /// Gives `take` the number of each exporter's name, and of how many rows it is.
    pub(super) fn each_exporter(
        &self,
        batch: &Batch,
        tables: &Tables,
        texts: &mut Texts,
        mut take: impl FnMut(u32, usize, &Texts),
    ) {
        let mut last = (u32::MAX, 0);
        for (run, &scope) in batch.runs().iter().zip(&self.runs) {
            if last.0 != scope {
                let named = self.known.get(scope as usize).filter(|s| !s.places.is_empty());
                last = (scope, texts.id_of(named.and_then(|s| tables.exporters.name(s.exporter))));
            }
            take(last.1, run.rows as usize, texts);
        }
    }

    /// Gives `take` the number of the name of what each row has in a column, and of how many rows it is.
    pub(super) fn each(
        &mut self,
        batch: &Batch,
        ids: Column<'_>,
        kind: Kind,
        tables: &Tables,
        texts: &mut Texts,
        mut take: impl FnMut(u32, usize, &Texts),
    ) {
        for at in 0..self.runs.len() {
            let (Some(run), Some(&scope)) = (batch.runs().get(at), self.runs.get(at)) else { return };
            let rows = rows(run);
            if !self.known.get(scope as usize).is_some_and(|s| s.any) {
                take(0, rows.len(), texts);
                continue;
            }
            let mut last: Option<(u64, u32)> = None;
            for row in rows {
                if !ids.is_valid(row) {
                    take(0, 1, texts);
                    continue;
                }
                let id = match ids.values {
                    ColumnView::U32(v) => v.get(row).map_or(0, |&v| v.into()),
                    ColumnView::I64(v) => v.get(row).map_or(0, |v| v.cast_unsigned()),
                    ColumnView::Text(v) => {
                        take(self.application(scope, v.get(row), texts), 1, texts);
                        continue;
                    }
                    _ => 0,
                };
                let name = match last {
                    Some((known, name)) if known == id => name,
                    _ => self.name(scope, kind, id, tables, texts),
                };
                last = Some((id, name));
                take(name, 1, texts);
            }
        }
    }

    #[inline]
    fn name(&mut self, scope: u32, kind: Kind, id: u64, tables: &Tables, texts: &mut Texts) -> u32 {
        if let Some(&name) = self.answers.get(&(scope, kind, id)) {
            return name;
        }
        let Some(of) = self.known.get(scope as usize) else { return 0 };
        // Domain 0 is the whole exporter (RFC 7011 section 3.1).
        let own = self.exporters.get(&of.exporter).and_then(|e| {
            let in_domain = |domain| match (kind, u32::try_from(id)) {
                (Kind::Interface, Ok(id)) => e.tables.interface(domain, id),
                (Kind::Vrf, Ok(id)) => e.tables.vrf(domain, id),
                (Kind::Sampler, _) => e.tables.sampler(domain, id),
                _ => None,
            };
            in_domain(of.domain).or_else(|| in_domain(0))
        });
        let labelled = || match (kind, u32::try_from(id)) {
            (Kind::Interface, Ok(id)) => tables.exporters.interface_in(&of.places, id).0,
            _ => None,
        };
        let name = texts.id_of(own.or_else(labelled));
        self.answers.insert((scope, kind, id), name);
        self.remembered += 1;
        name
    }

    #[inline]
    fn application(&mut self, scope: u32, id: &[u8], texts: &mut Texts) -> u32 {
        let answers = self.applications.entry(scope).or_default();
        if let Some(&name) = answers.get(id) {
            return name;
        }
        let of = self.known.get(scope as usize);
        let id_of = || std::str::from_utf8(id).ok()?.parse().ok();
        let name = of.and_then(|of| self.exporters.get(&of.exporter)?.tables.application(id_of()?));
        let name = texts.id_of(name);
        answers.insert(id.into(), name);
        self.remembered += 1;
        name
    }

    /// The speed of the interface of each row; `None` where no row's is known.
    pub(super) fn speeds(&mut self, batch: &Batch, tables: &Tables, ids: Column<'_>) -> Option<Vec<Option<i64>>> {
        let ColumnView::U32(values) = ids.values else { return None };
        if tables.exporters.is_empty() {
            return None;
        }
        let (mut speeds, mut any) = (Vec::with_capacity(batch.rows()), false);
        for (run, &scope) in batch.runs().iter().zip(&self.runs) {
            let places = self.known.get(scope as usize).map_or(&[][..], |s| &s.places);
            for row in rows(run) {
                let id = values.get(row).copied().filter(|_| !places.is_empty() && ids.is_valid(row));
                let speed = id.and_then(|id| {
                    *self.speeds.entry((scope, id)).or_insert_with(|| {
                        self.remembered += 1;
                        tables.exporters.interface_in(places, id).1
                    })
                });
                any |= speed.is_some();
                speeds.push(speed);
            }
        }
        any.then_some(speeds)
    }
}

fn rows(run: &Run) -> std::ops::Range<usize> {
    run.first_row as usize..(run.first_row + run.rows) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::columns::Timestamp;
    use crate::decode::{Config, Decoder};
    use std::net::SocketAddr;

    /// A v9 message in which an exporter names interfaces from `first` on.
    fn naming(first: u32, count: u32) -> Vec<u8> {
        let mut bytes = vec![0, 9, 0, 2, 0, 0, 39, 16, 101, 83, 241, 0, 0, 0, 0, 0, 0, 0, 0, 7];
        bytes.extend([0, 1, 0, 18, 1, 44, 0, 4, 0, 4, 0, 2, 0, 4, 0, 82, 0, 4]);
        bytes.extend([&300u16.to_be_bytes()[..], &(4 + 8 * count as u16).to_be_bytes()].concat());
        (first..first + count).for_each(|index| bytes.extend([index.to_be_bytes(), *b"name"].concat()));
        bytes
    }

    #[test]
    fn those_heard_of_longest_ago_are_forgotten() {
        let (mut names, mut decoder) = (Names::new(1000), Decoder::new(Config::default()));
        let of = |exporter| SocketAddr::from(([192, 0, 2, exporter], 2055));
        for exporter in 0..30u8 {
            for first in [0, 50] {
                decoder.decode(&naming(first, 50), of(exporter), Timestamp(exporter.into()));
                decoder.next_options().expect("options").iter().for_each(|record| names.learn(&record));
            }
            assert!(names.names <= 1000 && names.exporters.contains_key(&of(exporter).ip()));
        }
        let kept: usize = names.exporters.values().map(|e| e.tables.len()).sum();
        assert_eq!((kept, names.forgotten), (names.names, 3000 - kept as u64));
        assert!(kept > 300 && !names.exporters.contains_key(&of(0).ip()));
        // One exporter alone cannot have more than there is room for.
        let mut names = Names::new(20);
        decoder.decode(&naming(0, 50), of(1), Timestamp(100));
        decoder.next_options().expect("options").iter().for_each(|record| names.learn(&record));
        assert!(names.names <= 20 && names.names as u64 + names.forgotten == 50);
    }
}
