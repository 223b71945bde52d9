//! The templates of one exporter, by version, domain and id.

use super::{FieldSpec, Kind, Limits, Template};
use crate::error::{Error, ErrorKind};
use crate::wire::{Set, ipfix, v9};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use zerocopy::FromBytes;

/// What a template set did, in wire order.
#[derive(Clone, Debug)]
pub enum Event {
    /// A template was defined; `changed` where it is not what was known.
    Defined {
        /// The template.
        template: Arc<Template>,
        /// Whether it differs from what was known under its id.
        changed: bool,
    },
    /// An invalid definition: the template of this id is gone.
    Invalid {
        /// The template id.
        id: u16,
        /// What is wrong with the definition.
        error: Error,
    },
    /// A template was withdrawn.
    Withdrawn {
        /// The template id.
        id: u16,
    },
    /// All templates of a kind were withdrawn in the domain.
    WithdrawnAll {
        /// Of which kind.
        kind: Kind,
    },
}

type Key = (u8, u32, u16);

#[derive(Debug)]
struct Entry {
    latest: Arc<Template>,
    // What each sender port of the address defined last.
    ports: Vec<(u16, Arc<Template>)>,
    seen_us: i64,
    definitions: u64,
}

/// A template that is kept, and how often it came.
#[derive(Clone, Copy, Debug)]
pub struct KnownTemplate<'a> {
    /// The protocol version.
    pub version: u8,
    /// The observation domain, or v9's source id.
    pub domain_id: u32,
    /// The latest definition.
    pub template: &'a Arc<Template>,
    /// When its definition came last, microseconds since 1970.
    pub seen_us: i64,
    /// How often it was defined, repetitions included.
    pub definitions: u64,
    /// Sender ports with a definition of their own.
    pub ports: usize,
}

/// The templates of one exporter's address.
///
/// Data and options templates share one id space. The definition of the asking port comes first, else the latest of
/// any port: exporters behind one NAT address differ by port, and some send options from a port of their own.
#[derive(Debug)]
pub struct Templates {
    entries: HashMap<Key, Entry>,
    count: usize,
    generation: u64,
    limits: Limits,
    // Fields of all definitions here.
    fields: usize,
    pool: Pool,
}

impl Drop for Templates {
    fn drop(&mut self) {
        self.pool.give_back(self.count, self.fields);
    }
}

/// What is kept in all by those that share bounds: the connections of an address, and all addresses.
#[derive(Clone, Debug, Default)]
pub struct Pool {
    all_fields: Arc<AtomicUsize>,
    address: Arc<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    templates: AtomicUsize,
    fields: AtomicUsize,
}

impl Pool {
    /// The pool of another address.
    pub fn of_another_address(&self) -> Self {
        Self { all_fields: self.all_fields.clone(), address: Arc::default() }
    }

    /// What stands against a template more, or none, with so many fields more: the limit, and what it would be.
    fn refusal(&self, limits: &Limits, templates: usize, fields: usize) -> Option<(usize, usize)> {
        let count = self.address.templates.load(Relaxed).saturating_add(templates);
        let own = self.address.fields.load(Relaxed).saturating_add(fields);
        let all = self.all_fields.load(Relaxed).saturating_add(fields);
        let over = |more: usize, now: usize, limit: usize| (more > 0 && now > limit).then_some((limit, now));
        // One address cannot take what all the others need.
        over(templates, count, limits.templates)
            .or_else(|| over(fields, own, limits.all_fields / ADDRESSES_AT_LEAST))
            .or_else(|| over(fields, all, limits.all_fields))
    }

    fn take(&self, templates: usize, fields: usize) {
        self.address.templates.fetch_add(templates, Relaxed);
        self.address.fields.fetch_add(fields, Relaxed);
        self.all_fields.fetch_add(fields, Relaxed);
    }

    fn give_back(&self, templates: usize, fields: usize) {
        self.address.templates.fetch_sub(templates, Relaxed);
        self.address.fields.fetch_sub(fields, Relaxed);
        self.all_fields.fetch_sub(fields, Relaxed);
    }
}

/// So many addresses at least share the room for fields.
const ADDRESSES_AT_LEAST: usize = 8;

impl Templates {
    /// None yet.
    pub fn new(limits: Limits) -> Self {
        Self::sharing(limits, Pool::default())
    }

    /// None yet; the limits count with all that have the same pool.
    pub fn sharing(limits: Limits, pool: Pool) -> Self {
        Self { entries: HashMap::new(), count: 0, generation: 0, limits, fields: 0, pool }
    }

    /// What is kept in all by those that share the limits.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// Changes whenever a lookup could answer differently than before.
    #[inline]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Definitions kept, those of several ports counted each.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether none is kept.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The template that a set of this id from this port means.
    pub fn lookup(&self, version: u8, domain: u32, id: u16, port: u16) -> Option<&Arc<Template>> {
        let entry = self.entries.get(&(version, domain, id))?;
        Some(entry.ports.iter().find(|p| p.0 == port).map_or(&entry.latest, |p| &p.1))
    }

    /// Whether this port itself sent the definition that [`lookup`](Self::lookup) gives.
    pub fn is_own(&self, version: u8, domain: u32, id: u16, port: u16) -> bool {
        self.entries.get(&(version, domain, id)).is_some_and(|e| e.ports.iter().any(|p| p.0 == port))
    }

    /// The latest definition of each id: version, domain and template.
    pub fn iter(&self) -> impl Iterator<Item = (u8, u32, &Arc<Template>)> {
        self.entries.iter().map(|(k, e)| (k.0, k.1, &e.latest))
    }

    /// All that is known of each id.
    pub fn known(&self) -> impl Iterator<Item = KnownTemplate<'_>> {
        self.entries.iter().map(|(k, e)| KnownTemplate {
            version: k.0,
            domain_id: k.1,
            template: &e.latest,
            seen_us: e.seen_us,
            definitions: e.definitions,
            ports: e.ports.len(),
        })
    }

    /// Notes that a definition came.
    pub fn mark(&mut self, version: u8, domain: u32, id: u16, now_us: i64) {
        if let Some(entry) = self.entries.get_mut(&(version, domain, id)) {
            entry.seen_us = now_us;
            entry.definitions += 1;
        }
    }

    /// Applies a template or options template set; other sets do nothing. `report` hears what happened, in order.
    pub fn apply(&mut self, set: &Set<'_>, domain: u32, port: u16, mut report: impl FnMut(Event)) {
        let mut walk = Walk { set, at: 0 };
        loop {
            let next = match (set.version, set.id) {
                (9, 0) | (10, 2) => walk.template(),
                (9, 1) => walk.v9_options(),
                (10, 3) => walk.ipfix_options(),
                _ => None,
            };
            let Some(found) = next else { return };
            match found {
                Found::Template { id, kind, scope_count, specs } => {
                    let key = (set.version, domain, id);
                    match self.define(key, port, kind, scope_count, specs) {
                        Ok((template, changed)) => report(Event::Defined { template, changed }),
                        Err((kind, need, have)) => {
                            self.remove(key);
                            let error = Error::new(kind, walk.offset(), need, have);
                            report(Event::Invalid { id, error });
                        }
                    }
                }
                Found::Invalid { id, error } => {
                    self.remove((set.version, domain, id));
                    report(Event::Invalid { id, error });
                }
                Found::Withdrawal { .. } if self.limits.ignore_withdrawals => {}
                Found::Withdrawal { id } if id < 256 => {
                    let kind = if id == 2 { Kind::Data } else { Kind::Options };
                    self.retain(|k, e| (k.0, k.1) != (set.version, domain) || e.latest.kind != kind);
                    report(Event::WithdrawnAll { kind });
                }
                Found::Withdrawal { id } => {
                    self.remove((set.version, domain, id));
                    report(Event::Withdrawn { id });
                }
            }
        }
    }

    fn define(
        &mut self,
        key: Key,
        port: u16,
        kind: Kind,
        scope_count: u16,
        specs: Specs<'_>,
    ) -> Result<(Arc<Template>, bool), (ErrorKind, usize, usize)> {
        if specs.count > self.limits.fields {
            return Err((ErrorKind::FieldLimit, self.limits.fields, specs.count));
        }
        let same = |t: &Template| {
            t.kind == kind
                && t.scope_count == scope_count
                && t.fields.len() == specs.count
                && specs.iter().eq(t.fields.iter().copied())
        };
        let entry = self.entries.get(&key);
        let known = entry.and_then(|e| e.ports.iter().map(|p| &p.1).chain([&e.latest]).find(|t| same(t)).cloned());
        let changed = !entry.is_some_and(|e| same(&e.latest));
        if let (Some(template), false, Some(e)) = (&known, changed, entry)
            && e.ports.iter().any(|p| p.0 == port && same(&p.1))
        {
            return Ok((template.clone(), false));
        }
        let template = match known {
            Some(template) => template,
            None => {
                let made = Template::new(key.0, key.2, kind, scope_count, specs.iter().collect());
                Arc::new(made.ok_or((ErrorKind::ZeroLengthTemplate, 1, 0))?)
            }
        };
        let known_port = entry.is_some_and(|e| e.ports.iter().any(|p| p.0 == port));
        let before = entry.and_then(|e| e.ports.iter().find(|p| p.0 == port)).map_or(0, |p| p.1.fields.len());
        let more = template.fields.len().saturating_sub(before);
        if let Some((limit, would_be)) = self.pool.refusal(&self.limits, usize::from(!known_port), more) {
            return Err((ErrorKind::TemplateLimit, limit, would_be));
        }
        self.fields = self.fields + template.fields.len() - before;
        self.pool.take(usize::from(!known_port), template.fields.len());
        self.pool.give_back(0, before);
        let entry = self.entries.entry(key).or_insert_with(|| Entry {
            latest: template.clone(),
            ports: Vec::new(),
            seen_us: 0,
            definitions: 0,
        });
        entry.latest = template.clone();
        match entry.ports.iter_mut().find(|p| p.0 == port) {
            Some(own) => own.1 = template.clone(),
            None => {
                entry.ports.push((port, template.clone()));
                self.count += 1;
            }
        }
        self.generation += 1;
        Ok((template, changed))
    }

    /// Forgets a template for all ports.
    pub fn forget(&mut self, version: u8, domain: u32, id: u16) {
        self.remove((version, domain, id));
    }

    /// Forgets all templates of a domain.
    pub fn forget_domain(&mut self, version: u8, domain: u32) {
        self.retain(|k, _| (k.0, k.1) != (version, domain));
    }

    fn remove(&mut self, key: Key) {
        if let Some(entry) = self.entries.remove(&key) {
            self.count -= entry.ports.len();
            self.generation += 1;
            let fields = entry.ports.iter().map(|p| p.1.fields.len()).sum();
            self.fields -= fields;
            self.pool.give_back(entry.ports.len(), fields);
        }
    }

    fn retain(&mut self, keep: impl Fn(&Key, &Entry) -> bool) {
        let gone: Vec<Key> = self.entries.iter().filter(|(k, e)| !keep(k, e)).map(|(k, _)| *k).collect();
        gone.into_iter().for_each(|k| self.remove(k));
    }
}

/// Field specifiers that were found to lie in their set.
#[derive(Clone, Copy)]
struct Specs<'a> {
    version: u8,
    bytes: &'a [u8],
    count: usize,
}

impl Specs<'_> {
    fn iter(&self) -> impl Iterator<Item = FieldSpec> {
        let (mut rest, version) = (self.bytes, self.version);
        (0..self.count).map_while(move |_| {
            let (spec, len) = spec(version, rest)?;
            rest = &rest[len..];
            Some(spec)
        })
    }
}

/// The field specifier at the start of some bytes, and its length.
fn spec(version: u8, bytes: &[u8]) -> Option<(FieldSpec, usize)> {
    let (head, rest) = ipfix::FieldSpecifier::ref_from_prefix(bytes).ok()?;
    let (id, len) = (head.id.get(), head.length.get());
    // v9 types above 32767 are plain types of a vendor: there is no enterprise bit.
    if version == 10 && id & 0x8000 != 0 {
        let pen = u32::from_be_bytes(*rest.first_chunk()?);
        return Some((FieldSpec { pen, id: id & 0x7fff, len }, 8));
    }
    Some((FieldSpec { pen: 0, id, len }, 4))
}

enum Found<'a> {
    Template { id: u16, kind: Kind, scope_count: u16, specs: Specs<'a> },
    Invalid { id: u16, error: Error },
    Withdrawal { id: u16 },
}

/// The walk over the template records of a set.
struct Walk<'s, 'a> {
    set: &'s Set<'a>,
    at: usize,
}

impl<'a> Walk<'_, 'a> {
    fn offset(&self) -> usize {
        self.set.offset + self.at
    }

    fn rest(&self) -> &'a [u8] {
        self.set.body.get(self.at..).unwrap_or(&[])
    }

    fn end(&mut self) {
        self.at = self.set.body.len();
    }

    /// A template record, RFC 3954 section 5.2 and RFC 7011 section 3.4.1.
    fn template(&mut self) -> Option<Found<'a>> {
        let (head, _) = ipfix::TemplateHeader::ref_from_prefix(self.rest()).ok()?;
        let (id, count, start) = (head.id.get(), usize::from(head.field_count.get()), self.offset());
        let withdraws = self.set.version == 10 && count == 0;
        if id < 256 && !(withdraws && id == 2) {
            // Padding.
            self.end();
            return None;
        }
        self.at += 4;
        if withdraws {
            return Some(Found::Withdrawal { id });
        }
        if count == 0 {
            return Some(Found::Invalid { id, error: Error::new(ErrorKind::NoFields, start, 1, 0) });
        }
        Some(self.specs(id, Kind::Data, 0, count, start))
    }

    /// RFC 3954 section 6.1.
    fn v9_options(&mut self) -> Option<Found<'a>> {
        let (head, _) = v9::OptionsTemplateHeader::ref_from_prefix(self.rest()).ok()?;
        let (id, start) = (head.id.get(), self.offset());
        let (scope, option) = (usize::from(head.scope_length.get()), usize::from(head.option_length.get()));
        if id < 256 {
            self.end();
            return None;
        }
        self.at += 6;
        if scope % 4 != 0 || option % 4 != 0 {
            self.at += scope + option;
            let odd = if scope % 4 != 0 { scope } else { option };
            return Some(Found::Invalid {
                id,
                error: Error::new(ErrorKind::OddOptionsLength, start, odd / 4 * 4, odd),
            });
        }
        let count = scope / 4 + option / 4;
        Some(self.specs(id, Kind::Options, (scope / 4) as u16, count, start))
    }

    /// RFC 7011 section 3.4.2.
    fn ipfix_options(&mut self) -> Option<Found<'a>> {
        let (head, _) = ipfix::TemplateHeader::ref_from_prefix(self.rest()).ok()?;
        let (id, count, start) = (head.id.get(), usize::from(head.field_count.get()), self.offset());
        if id < 256 && !(id == 3 && count == 0) {
            self.end();
            return None;
        }
        if count == 0 {
            self.at += 4;
            return Some(Found::Withdrawal { id });
        }
        let (head, _) = ipfix::OptionsTemplateHeader::ref_from_prefix(self.rest()).ok()?;
        let scope_count = head.scope_count.get();
        self.at += 6;
        let found = self.specs(id, Kind::Options, scope_count, count, start);
        match found {
            Found::Template { id, .. } if scope_count == 0 || usize::from(scope_count) > count => {
                let error = Error::new(ErrorKind::BadScopeCount, start, count, usize::from(scope_count));
                Some(Found::Invalid { id, error })
            }
            found => Some(found),
        }
    }

    fn specs(&mut self, id: u16, kind: Kind, scope_count: u16, count: usize, start: usize) -> Found<'a> {
        let (bytes, mut len) = (self.rest(), 0);
        for _ in 0..count {
            let Some((_, n)) = bytes.get(len..).and_then(|rest| spec(self.set.version, rest)) else {
                self.end();
                let error = Error::new(ErrorKind::TemplateOverrun, start, count * 4, bytes.len());
                return Found::Invalid { id, error };
            };
            len += n;
        }
        self.at += len;
        Found::Template {
            id,
            kind,
            scope_count,
            specs: Specs { version: self.set.version, bytes: &bytes[..len], count },
        }
    }
}
