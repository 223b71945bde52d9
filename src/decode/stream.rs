//! Who sends: exporters, and the streams of their ports and domains.

use super::hash::Keyed;
use super::rules::{Rule, Rules};
use super::sequence::Sequence;
use super::stats::Stats;
use crate::columns::{RunMeta, SamplingSource};
use crate::template::{Limits, OptionsTables, Pool, Template, Templates};
use std::collections::{HashMap, HashSet};
use std::hash::{Hash, Hasher};
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU64;
use std::ops::Range;
use std::sync::Arc;

/// What names a stream, as plain words, which compare and hash without branches: the address as IPv6 (an IPv4 one
/// as it is mapped there), then domain, port and version.
#[derive(Clone, Copy, Debug, Eq)]
pub(super) struct StreamId([u64; 3]);

impl PartialEq for StreamId {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        // Word by word, in registers: an id was just made when it is compared.
        let ([a, b, c], [d, e, f]) = (self.0, other.0);
        (a ^ d) | (b ^ e) | (c ^ f) == 0
    }
}

/// No exporter has such an address: the first word of the streams of connections.
const CONNECTION: u64 = u64::MAX;

/// A connection over which an exporter sends. Its templates are its own (RFC 7011 section 8), and end with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SessionId(pub(super) NonZeroU64);

/// Whose templates count: an address, or one of its connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Origin {
    pub(super) ip: IpAddr,
    pub(super) session: Option<SessionId>,
}

/// Who sent a message, and over which connection if it was no datagram.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sender<'a> {
    pub(super) address: &'a SocketAddr,
    pub(super) session: Option<SessionId>,
}

impl Sender<'_> {
    /// The stream of a message of this version and domain.
    #[inline(always)]
    pub(super) fn stream(&self, version: u8, domain: u32) -> StreamId {
        match self.session {
            None => StreamId::new(self.address, version, domain),
            Some(session) => StreamId::of_session(session, version, domain),
        }
    }

    /// The address, an IPv4-mapped one as IPv4.
    pub(super) fn ip(&self) -> IpAddr {
        self.address.ip().to_canonical()
    }
}

impl StreamId {
    fn of_session(session: SessionId, version: u8, domain: u32) -> Self {
        Self([session.0.get(), CONNECTION, u64::from(domain) << 32 | u64::from(version)])
    }

    /// Whether it is the stream of a connection.
    pub(super) fn is_of_session(&self) -> bool {
        self.0[1] == CONNECTION
    }

    /// The stream of a datagram: exporter, port, version and domain.
    #[inline]
    pub(super) fn new(exporter: &SocketAddr, version: u8, domain: u32) -> Self {
        let (high, low) = match exporter {
            SocketAddr::V4(v4) => (0, 0xffff << 32 | u64::from(v4.ip().to_bits())),
            SocketAddr::V6(v6) => ((v6.ip().to_bits() >> 64) as u64, v6.ip().to_bits() as u64),
        };
        let rest = u64::from(domain) << 32 | u64::from(exporter.port()) << 16 | u64::from(version);
        Self([low, high, rest])
    }
}

impl Hash for StreamId {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        let [low, high, rest] = self.0;
        state.write_u64(low);
        if high != 0 {
            state.write_u64(high);
        }
        state.write_u64(rest);
    }
}

/// What a sender port of an exporter does in one domain.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) sequence: Sequence,
    /// The exporter's place in [`Exporters`].
    pub(super) exporter: u32,
    /// Where template ids lead, right while the generations are the exporter's and the plans'.
    pub(super) targets: Targets,
    pub(super) templates_seen: u64,
    pub(super) plans_seen: u64,
    /// The generation of the options tables that these were asked at; `None` before the first message.
    pub(super) tables_seen: Option<u64>,
    /// The sampling rate of the domain and how it is known; NaN where it is not.
    pub(super) sampling: (f64, SamplingSource),
    pub(super) init_time_ms: Option<u64>,
    pub(super) last_us: i64,
}

impl Stream {
    pub(super) fn new(exporter: u32) -> Self {
        Self {
            sequence: Sequence::default(),
            exporter,
            targets: Targets::default(),
            templates_seen: 0,
            plans_seen: 0,
            tables_seen: None,
            sampling: (f64::NAN, SamplingSource::None),
            init_time_ms: None,
            last_us: 0,
        }
    }
}

/// A stream, and what its messages have in common: what changes with each is written over.
type Place = (StreamId, Stream, RunMeta);

/// All streams.
#[derive(Debug, Default)]
pub(super) struct Streams {
    by_id: HashMap<StreamId, u32, Keyed>,
    // INVARIANT: by_id leads every id to its place.
    places: Vec<Place>,
    // Where the last message was found: exporters send in bursts.
    last: u32,
    // How often streams may have changed their places.
    moved: u64,
}

impl Streams {
    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    /// Differs from what it was where streams may have changed their places since.
    pub(super) fn moved(&self) -> u64 {
        self.moved
    }

    pub(super) fn clear(&mut self) {
        self.moved += 1;
        self.by_id.clear();
        self.places.clear();
    }

    /// The place of a stream.
    #[inline(always)]
    pub(super) fn find(&mut self, id: &StreamId) -> Option<u32> {
        if self.places.get(self.last as usize).is_none_or(|p| p.0 != *id) {
            self.last = self.look_up(*id)?;
        }
        Some(self.last)
    }

    #[inline(never)]
    fn look_up(&self, id: StreamId) -> Option<u32> {
        self.by_id.get(&id).copied()
    }

    /// Adds a stream, in the place of one of the same id if there is such.
    #[cold]
    pub(super) fn insert(&mut self, id: StreamId, stream: Stream, meta: RunMeta) -> u32 {
        if let Some(&place) = self.by_id.get(&id)
            && let Some(before) = self.places.get_mut(place as usize)
        {
            *before = (id, stream, meta);
            return place;
        }
        let place = self.places.len() as u32;
        self.places.push((id, stream, meta));
        self.by_id.insert(id, place);
        place
    }

    #[inline]
    pub(super) fn at(&mut self, place: u32) -> Option<(&mut Stream, &mut RunMeta)> {
        self.places.get_mut(place as usize).map(|(_, stream, meta)| (stream, meta))
    }

    /// The last of what each stream's messages have in common.
    pub(super) fn metas(&self) -> impl Iterator<Item = &RunMeta> {
        self.places.iter().map(|(_, _, meta)| meta)
    }

    /// The same of streams at some places that outlive a restart: those of connections do not, nor of exporters that are forgotten.
    pub(super) fn lasting_metas(&self, places: Range<usize>, exporters: &Exporters) -> impl Iterator<Item = &RunMeta> {
        let end = places.end.min(self.places.len());
        self.places
            .get(places.start..end)
            .unwrap_or_default()
            .iter()
            .filter(|(id, stream, _)| !id.is_of_session() && exporters.is_known(stream.exporter))
            .map(|(_, _, meta)| meta)
    }

    /// The stream of an id.
    pub(super) fn get_mut(&mut self, id: &StreamId) -> Option<&mut Stream> {
        self.find(id).and_then(|place| self.at(place)).map(|found| found.0)
    }

    /// Forgets the streams that are not kept.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(&Stream) -> bool) {
        self.moved += 1;
        self.places.retain(|(_, s, _)| keep(s));
        self.by_id.clear();
        self.by_id.extend(self.places.iter().zip(0..).map(|((id, ..), place)| (*id, place)));
    }
}

/// Where the records of a template go.
#[derive(Clone, Debug)]
pub(super) enum Target {
    /// To the batch of a plan.
    Plan(usize),
    /// To the stream of options records.
    Options(Arc<Template>),
}

/// The targets of template ids.
#[derive(Debug, Default)]
pub(super) struct Targets {
    // INVARIANT: sorted by id, no id twice.
    sorted: Vec<(u16, Target)>,
    // Where the last one was found: exporters repeat themselves.
    last: usize,
}

impl Targets {
    #[inline(always)]
    pub(super) fn find(&mut self, id: u16) -> Option<&Target> {
        if self.sorted.get(self.last).is_none_or(|t| t.0 != id) {
            self.last = self.sorted.binary_search_by_key(&id, |t| t.0).ok()?;
        }
        self.sorted.get(self.last).map(|t| &t.1)
    }

    pub(super) fn insert(&mut self, id: u16, target: Target) {
        if let Err(at) = self.sorted.binary_search_by_key(&id, |t| t.0) {
            self.sorted.insert(at, (id, target));
        }
    }

    pub(super) fn clear(&mut self) {
        self.sorted.clear();
    }
}

/// The units of a set that was held, known now.
#[derive(Clone, Copy, Debug)]
pub(super) struct LateUnits {
    pub(super) port: u16,
    pub(super) message: u64,
    pub(super) units: u32,
    pub(super) whole: bool,
}

/// What is known of an exporter's address, or of one of its connections.
#[derive(Debug)]
pub(super) struct Exporter {
    pub(super) origin: Origin,
    pub(super) templates: Templates,
    pub(super) tables: OptionsTables,
    pub(super) stats: Stats,
    pub(super) rule: Rule,
    pub(super) last_us: i64,
    /// How many connections of the address are open.
    connections: usize,
    /// Version, domain and id of templates from before a restart, until a set fits or they come again.
    pub(super) provisional: HashSet<(u8, u32, u16)>,
}

/// An exporter that may make way, as long as nothing comes of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Silent {
    last_us: i64,
    place: u32,
    ip: IpAddr,
}

/// All exporters, each at a place that streams remember.
#[derive(Debug)]
pub(super) struct Exporters {
    by_ip: HashMap<IpAddr, u32, Keyed>,
    by_session: HashMap<SessionId, u32>,
    places: Vec<Option<Exporter>>,
    free: Vec<u32>,
    // Places of connections that ended and of exporters that made way, to which streams may still lead.
    ended: Vec<u32>,
    // What belongs to none: refused datagrams, and exporters that were forgotten.
    others: Stats,
    limit: usize,
    limits: Limits,
    // What all keep.
    pool: Pool,
}

impl Exporters {
    pub(super) fn new(limit: usize, limits: Limits) -> Self {
        Self {
            by_ip: HashMap::default(),
            by_session: HashMap::new(),
            places: Vec::new(),
            free: Vec::new(),
            ended: Vec::new(),
            others: Stats::default(),
            limit,
            limits,
            pool: Pool::default(),
        }
    }

    #[inline]
    pub(super) fn at(&mut self, place: u32) -> Option<&mut Exporter> {
        self.places.get_mut(place as usize)?.as_mut()
    }

    fn is_known(&self, place: u32) -> bool {
        self.places.get(place as usize).is_some_and(Option::is_some)
    }

    /// The place of an exporter, or of its connection, made if the limit allows.
    #[cold]
    pub(super) fn admit(&mut self, origin: Origin, rules: &Rules) -> Option<u32> {
        if let Some(session) = origin.session {
            if let Some(&place) = self.by_session.get(&session) {
                return Some(place);
            }
            // What connections sent is added to their exporter when they end.
            let address = self.admit(Origin { session: None, ..origin }, rules)?;
            let known = self.at(address)?;
            known.connections += 1;
            let pool = known.templates.pool().clone();
            let place = self.insert(origin, rules, pool);
            self.by_session.insert(session, place);
            return Some(place);
        }
        if let Some(&place) = self.by_ip.get(&origin.ip) {
            return Some(place);
        }
        if self.by_ip.len() >= self.limit {
            return None;
        }
        let place = self.insert(origin, rules, self.pool.of_another_address());
        self.by_ip.insert(origin.ip, place);
        Some(place)
    }

    fn insert(&mut self, origin: Origin, rules: &Rules, pool: Pool) -> u32 {
        let exporter = Exporter {
            origin,
            templates: Templates::sharing(self.limits, pool),
            tables: OptionsTables::new(self.limits.options_entries),
            stats: Stats::default(),
            rule: rules.of(origin.ip),
            last_us: i64::MIN,
            connections: 0,
            provisional: HashSet::new(),
        };
        let place = self.free.pop().unwrap_or(self.places.len() as u32);
        match self.places.get_mut(place as usize) {
            Some(free) => *free = Some(exporter),
            None => self.places.push(Some(exporter)),
        }
        place
    }

    /// Forgets a connection; what it sent counts with its address from now on. Gives what it was, if it sent anything.
    pub(super) fn end(&mut self, session: SessionId) -> Option<Origin> {
        let place = self.by_session.remove(&session)?;
        let gone = self.places.get_mut(place as usize)?.take()?;
        self.ended.push(place);
        let ip = gone.origin.ip;
        self.stats_of(Origin { ip, session: None }).merge(&gone.stats);
        if let Some(known) = self.by_ip.get(&ip).copied().and_then(|place| self.at(place)) {
            known.last_us = known.last_us.max(gone.last_us);
            known.connections -= 1;
        }
        Some(gone.origin)
    }

    /// Those that make way for others, the longest silent last: who is idle, and of whom no row came since the start. What a restart
    /// brought is not held against anybody.
    pub(super) fn silent(&self, idle: impl Fn(i64) -> bool) -> Vec<Silent> {
        let silent = self.places.iter().zip(0..).filter_map(|(known, place)| {
            let known = known.as_ref().filter(|e| e.origin.session.is_none() && e.connections == 0)?;
            let is_idle = idle(known.last_us);
            let is_empty = known.stats.records == 0 && known.provisional.is_empty();
            (is_idle || is_empty).then_some(Silent { last_us: known.last_us, place, ip: known.origin.ip })
        });
        let mut silent: Vec<Silent> = silent.collect();
        silent.sort_unstable_by_key(|one| std::cmp::Reverse(one.last_us));
        silent
    }

    /// Forgets one that was silent, if it is still; who it was.
    pub(super) fn make_way(&mut self, one: &Silent) -> Option<IpAddr> {
        let place = self.places.get_mut(one.place as usize)?;
        let is_same = |e: &mut Exporter| {
            let origin = Origin { ip: one.ip, session: None };
            (e.origin, e.last_us, e.connections) == (origin, one.last_us, 0)
        };
        let gone = place.take_if(is_same)?;
        self.by_ip.remove(&one.ip);
        self.others.merge(&gone.stats);
        self.ended.push(one.place);
        Some(one.ip)
    }

    /// Whether an address is known.
    pub(super) fn has(&self, ip: &IpAddr) -> bool {
        self.by_ip.contains_key(ip)
    }

    /// Whether there is room for a new one, or it is none.
    pub(super) fn has_room_for(&self, ip: &IpAddr) -> bool {
        self.by_ip.len() < self.limit || self.has(ip)
    }

    /// How many places wait until no stream leads there.
    pub(super) fn ended(&self) -> usize {
        self.ended.len()
    }

    /// No stream leads to such a place.
    pub(super) fn free_ended(&mut self) {
        self.free.append(&mut self.ended);
    }

    /// Exporters, each address once.
    pub(super) fn len(&self) -> usize {
        self.by_ip.len()
    }

    /// Where something about an origin is counted: with its connection or its address if that is known.
    pub(super) fn stats_of(&mut self, origin: Origin) -> &mut Stats {
        let session = origin.session.and_then(|session| self.by_session.get(&session));
        let place = session.or_else(|| self.by_ip.get(&origin.ip)).copied();
        match place.and_then(|p| self.places.get_mut(p as usize)) {
            Some(Some(known)) => &mut known.stats,
            _ => &mut self.others,
        }
    }

    /// Counts nothing that was before; templates from before are provisional.
    pub(super) fn start_anew(&mut self) {
        self.others = Stats::default();
        for exporter in self.places.iter_mut().flatten() {
            exporter.stats = Stats::default();
            exporter.provisional = exporter.templates.iter().map(|(v, d, t)| (v, d, t.id)).collect();
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Exporter> {
        self.places.iter().flatten()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Exporter> {
        self.places.iter_mut().flatten()
    }

    pub(super) fn total(&self) -> Stats {
        let mut total = self.others.clone();
        self.iter().for_each(|e| total.merge(&e.stats));
        total
    }

    /// What belongs to no exporter that is known.
    pub(super) fn others(&self) -> &Stats {
        &self.others
    }
}
