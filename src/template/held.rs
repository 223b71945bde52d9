//! Data sets that wait for their template.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::net::IpAddr;

/// Bounds on what is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeldLimits {
    /// Bytes of sets, over all exporters.
    pub bytes: usize,
    /// Sets, over all exporters.
    pub entries: usize,
    /// How long a set waits, in microseconds.
    pub age_us: i64,
}

impl Default for HeldLimits {
    /// 32 MiB, 16,384 sets, one hour.
    fn default() -> Self {
        Self { bytes: 32 << 20, entries: 16_384, age_us: 3_600_000_000 }
    }
}

/// Whose template it is, version, domain, template id.
type Key<O> = (O, u8, u32, u16);

#[derive(Debug)]
struct Entry<M> {
    body: Box<[u8]>,
    received_us: i64,
    meta: M,
}

/// Data sets whose template is not known yet, with what is known of their message. Whose templates count is an address,
/// or what the caller tells senders apart by.
#[derive(Debug)]
pub struct Held<M, O = IpAddr> {
    sets: HashMap<Key<O>, VecDeque<Entry<M>>>,
    bytes: usize,
    entries: usize,
    next_sweep_us: i64,
    limits: HeldLimits,
}

impl<M, O: Copy + Eq + Hash> Held<M, O> {
    /// Nothing held.
    pub fn new(limits: HeldLimits) -> Self {
        Self { sets: HashMap::new(), bytes: 0, entries: 0, next_sweep_us: i64::MIN, limits }
    }

    /// Sets held now.
    pub fn len(&self) -> usize {
        self.entries
    }

    /// Whether none is held.
    pub fn is_empty(&self) -> bool {
        self.entries == 0
    }

    /// How many sets are held of each origin and template id.
    pub fn waiting(&self) -> impl Iterator<Item = (O, u16, usize)> {
        self.sets.iter().map(|(key, sets)| (key.0, key.3, sets.len()))
    }

    /// Keeps a set; false where a bound forbids it.
    pub fn hold(&mut self, key: Key<O>, body: &[u8], received_us: i64, meta: M) -> bool {
        if self.entries >= self.limits.entries || self.bytes + body.len() > self.limits.bytes {
            return false;
        }
        self.sets.entry(key).or_default().push_back(Entry { body: body.into(), received_us, meta });
        self.entries += 1;
        self.bytes += body.len();
        true
    }

    /// The sets that wait for this template, in the order they came.
    pub fn take(&mut self, key: Key<O>) -> impl Iterator<Item = (Box<[u8]>, M)> + use<M, O> {
        let sets = if self.entries == 0 { None } else { self.sets.remove(&key) };
        let sets = sets.unwrap_or_default();
        self.entries -= sets.len();
        self.bytes -= sets.iter().map(|s| s.body.len()).sum::<usize>();
        sets.into_iter().map(|s| (s.body, s.meta))
    }

    /// The origin, version and domain of each set that waits.
    pub fn keys(&self) -> impl Iterator<Item = (O, u8, u32)> {
        self.sets.iter().flat_map(|(k, sets)| std::iter::repeat_n((k.0, k.1, k.2), sets.len()))
    }

    /// Each template that is waited for: whose it is, version, domain and id.
    pub fn awaited(&self) -> impl Iterator<Item = (O, u8, u32, u16)> {
        self.sets.keys().copied()
    }

    /// Drops the sets of a domain, of one template or of all; returns how many.
    pub fn drop_domain(&mut self, origin: O, version: u8, domain: u32, id: Option<u16>) -> usize {
        if let Some(id) = id {
            return self.take((origin, version, domain, id)).count();
        }
        self.drop_where(|k| (k.0, k.1, k.2) == (origin, version, domain))
    }

    /// Drops all sets of an origin; returns how many.
    pub fn drop_origin(&mut self, origin: O) -> usize {
        if self.entries == 0 { 0 } else { self.drop_where(|k| k.0 == origin) }
    }

    fn drop_where(&mut self, gone: impl Fn(&Key<O>) -> bool) -> usize {
        let keys: Vec<Key<O>> = self.sets.keys().filter(|k| gone(k)).copied().collect();
        keys.into_iter().map(|k| self.take(k).count()).sum()
    }

    /// Drops the sets that waited too long; `report` hears the origin of each. Looks at most once a minute.
    pub fn expire(&mut self, now_us: i64, mut report: impl FnMut(O)) -> usize {
        if self.entries == 0 || now_us < self.next_sweep_us {
            return 0;
        }
        self.next_sweep_us = now_us.saturating_add(60_000_000.min(self.limits.age_us));
        let mut expired = 0;
        let (bytes, age) = (&mut self.bytes, self.limits.age_us);
        self.sets.retain(|key, sets| {
            sets.retain(|s| {
                let keep = now_us.saturating_sub(s.received_us) <= age;
                if !keep {
                    *bytes -= s.body.len();
                    expired += 1;
                    report(key.0);
                }
                keep
            });
            !sets.is_empty()
        });
        self.entries -= expired;
        expired
    }
}
