//! What a decoder has to be told again after a restart: the messages that taught it something, cut to the sets that did.
//!
//! Templates, options data that changed a table, and data sets that wait for their template are all kept in the form in
//! which they came, so that a decoder is restored by the same code that learned them. Kept in order and without what
//! later ones made void ([`compact`]), they are a snapshot; each that is added is a journal's entry.

use crate::columns::Timestamp;
use crate::template::{Event, Kind, Limits, Templates};
use crate::wire::{Header, Message, Set, ipfix, v9};
use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{IpAddr, SocketAddr};

/// A message that taught a decoder something: a header, and the sets that did. Without sets it only says where a stream
/// stands, by which a restart of the exporter is known later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Learned {
    /// Who sent it.
    pub exporter: SocketAddr,
    /// When it was received.
    pub received_at: Timestamp,
    /// A v9 or IPFIX message. An empty one says that the exporter was forgotten, with all that its address taught before.
    pub message: Vec<u8>,
}

impl Learned {
    /// Whether it says that the exporter was forgotten.
    pub(crate) fn is_void(&self) -> bool {
        self.message.is_empty()
    }

    fn memory(&self) -> usize {
        size_of::<Self>() + self.message.len()
    }
}

/// Bytes that wait to be taken, at most.
const QUEUE_BYTES: usize = 16 << 20;

/// What was learned and not taken yet.
#[derive(Debug, Default)]
pub(super) struct Learning {
    pub(super) on: bool,
    // The sets of the message that is being decoded.
    sets: Vec<u8>,
    count: u16,
    queue: VecDeque<Learned>,
    bytes: usize,
    pub(super) dropped: u64,
}

impl Learning {
    /// Notes a set of the message that is being decoded.
    #[cold]
    pub(super) fn note(&mut self, set: &Set<'_>) {
        if self.on {
            self.count += 1;
            self.sets.extend_from_slice(&set.id.to_be_bytes());
            self.sets.extend_from_slice(&(set.body.len() as u16).saturating_add(4).to_be_bytes());
            self.sets.extend_from_slice(set.body);
        }
    }

    /// Makes one message of what was noted.
    #[inline]
    pub(super) fn end(&mut self, message: &Message<'_>, exporter: &SocketAddr, received_at: Timestamp) {
        if self.count > 0 {
            let sets = std::mem::take(&mut self.sets);
            let cut = shorten(message.header(), self.count, &sets);
            (self.sets, self.count) = (sets, 0);
            self.sets.clear();
            if let Some(message) = cut {
                self.push(Learned { exporter: *exporter, received_at, message });
            }
        }
    }

    /// Makes nothing of what was noted.
    pub(super) fn forget(&mut self) {
        self.count = 0;
        self.sets.clear();
    }

    /// What came of an address is void.
    pub(super) fn forget_exporter(&mut self, ip: IpAddr, received_at: Timestamp) {
        if self.on {
            self.push(Learned { exporter: SocketAddr::new(ip, 0), received_at, message: Vec::new() });
        }
    }

    pub(super) fn push(&mut self, learned: Learned) {
        if self.bytes + learned.memory() > QUEUE_BYTES {
            self.dropped += 1;
            return;
        }
        self.bytes += learned.memory();
        self.queue.push_back(learned);
    }

    pub(super) fn pop(&mut self) -> Option<Learned> {
        let learned = self.queue.pop_front()?;
        self.bytes -= learned.memory();
        Some(learned)
    }
}

/// A message of the same header with other sets; `None` for versions without sets.
pub(super) fn shorten(header: Header<'_>, count: u16, sets: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(20 + sets.len());
    match header {
        Header::V9(h) => {
            bytes.extend_from_slice(&9u16.to_be_bytes());
            bytes.extend_from_slice(&count.to_be_bytes());
            for word in [h.sys_uptime.get(), h.unix_secs.get(), h.sequence.get(), h.source_id.get()] {
                bytes.extend_from_slice(&word.to_be_bytes());
            }
            debug_assert_eq!(bytes.len(), size_of::<v9::Header>());
        }
        Header::Ipfix(h) => {
            let length = u16::try_from(size_of::<ipfix::Header>() + sets.len()).ok()?;
            bytes.extend_from_slice(&10u16.to_be_bytes());
            bytes.extend_from_slice(&length.to_be_bytes());
            for word in [h.export_time.get(), h.sequence.get(), h.domain_id.get()] {
                bytes.extend_from_slice(&word.to_be_bytes());
            }
        }
        _ => return None,
    }
    bytes.extend_from_slice(sets);
    Some(bytes)
}

/// The same in as few messages of one set each as can be: without what was learned again or void later, without sets that
/// waited longer than `held_us` before `now`, without exporters that were forgotten, and without the oldest where there are more
/// than `bytes`.
pub fn compact(learned: Vec<Learned>, now: Timestamp, held_us: i64, bytes: usize) -> Vec<Learned> {
    let forgotten = last_forgotten(&learned);
    let mut templates: HashMap<IpAddr, Templates> = HashMap::new();
    // For each that stays: the message, and what it is known by.
    let mut parts: Vec<Option<(Learned, u64)>> = Vec::new();
    let mut waiting: HashMap<(IpAddr, u8, u32, u16), Vec<usize>> = HashMap::new();
    for (at, one) in learned.into_iter().enumerate() {
        let ip = one.exporter.ip().to_canonical();
        if forgotten.get(&ip).is_some_and(|last| at <= *last) {
            continue;
        }
        let Ok(message) = Message::parse(&one.message) else { continue };
        let (version, domain) = (message.version(), message.domain_id());
        let part = |bytes: Option<Vec<u8>>, body: &[u8], id: u16| {
            let mut hash = DefaultHasher::new();
            (one.exporter, version, domain, id, body).hash(&mut hash);
            let Learned { exporter, received_at, .. } = one;
            bytes.map(|message| (Learned { exporter, received_at, message }, hash.finish()))
        };
        // Where the stream stands: known by its having no set.
        parts.push(part(shorten(message.header(), 0, &[]), &[], 0));
        for set in message.sets().flatten() {
            let own = templates.entry(ip).or_insert_with(|| Templates::new(Limits::default()));
            let mut whole = set.id.to_be_bytes().to_vec();
            whole.extend_from_slice(&(set.body.len() as u16).saturating_add(4).to_be_bytes());
            whole.extend_from_slice(set.body);
            parts.push(part(shorten(message.header(), 1, &whole), set.body, set.id));
            let place = parts.len() - 1;
            if set.id < 256 {
                let mut void = Vec::new();
                own.apply(&set, domain, one.exporter.port(), |event| match event {
                    Event::Defined { template, .. } => void.push(Some(template.id)),
                    Event::Withdrawn { id } => void.push(Some(id)),
                    Event::WithdrawnAll { .. } => void.push(None),
                    Event::Invalid { .. } => {}
                });
                for id in void {
                    let of = |k: &(IpAddr, u8, u32, u16)| {
                        (k.0, k.1, k.2) == (ip, version, domain) && id.is_none_or(|id| id == k.3)
                    };
                    let keys: Vec<_> = waiting.keys().filter(|k| of(k)).copied().collect();
                    for place in keys.into_iter().filter_map(|k| waiting.remove(&k)).flatten() {
                        if let Some(part) = parts.get_mut(place) {
                            *part = None;
                        }
                    }
                }
            } else if own.lookup(version, domain, set.id, one.exporter.port()).is_none_or(|t| t.kind == Kind::Data) {
                if now.0.saturating_sub(one.received_at.0) > held_us {
                    parts.pop();
                } else {
                    waiting.entry((ip, version, domain, set.id)).or_default().push(place);
                }
            }
        }
    }
    // From the end: what comes again later counts there. Waiting sets are each one of their own.
    let held: HashSet<usize> = waiting.into_values().flatten().collect();
    let (mut seen, mut kept, mut sum) = (HashSet::new(), Vec::new(), 0);
    for (place, part) in parts.into_iter().enumerate().rev() {
        let Some((one, hash)) = part else { continue };
        if !held.contains(&place) && !seen.insert(hash) {
            continue;
        }
        sum += one.message.len();
        if sum > bytes {
            break;
        }
        kept.push(one);
    }
    kept.reverse();
    kept
}

/// Where each address was forgotten last.
fn last_forgotten(learned: &[Learned]) -> HashMap<IpAddr, usize> {
    let void = learned.iter().enumerate().filter(|(_, one)| one.is_void());
    void.map(|(at, one)| (one.exporter.ip().to_canonical(), at)).collect()
}

/// Of entries that go behind others: each address that was forgotten, once, and what [`compact`] leaves of the rest. However old
/// a set is, it stays: it may be of an options template that stands in the others.
#[cfg(feature = "collect")]
pub(crate) fn compact_tail(learned: Vec<Learned>) -> Vec<Learned> {
    let forgotten = last_forgotten(&learned);
    let void = learned
        .iter()
        .enumerate()
        .filter(|(at, one)| one.is_void() && forgotten.get(&one.exporter.ip().to_canonical()) == Some(at));
    let mut kept: Vec<Learned> = void.map(|(_, one)| one.clone()).collect();
    kept.extend(compact(learned, Timestamp(0), i64::MAX, usize::MAX));
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exporter() -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], 2055))
    }

    fn ipfix(sequence: u32, sets: &[&[u16]]) -> Vec<u8> {
        let body: Vec<u8> = sets
            .iter()
            .flat_map(|s| [&[s[0], s.len() as u16 * 2 + 2][..], &s[1..]].concat())
            .flat_map(u16::to_be_bytes)
            .collect();
        let mut bytes = vec![0, 10];
        bytes.extend((16 + body.len() as u16).to_be_bytes());
        bytes.extend([0x65, 0x53, 0xf1, 0]);
        bytes.extend(sequence.to_be_bytes());
        bytes.extend([0, 0, 0, 7]);
        [bytes, body].concat()
    }

    fn learned(at: i64, message: Vec<u8>) -> Learned {
        Learned { exporter: exporter(), received_at: Timestamp(at), message }
    }

    #[test]
    fn what_came_again_or_is_void_goes() {
        let (a, b) = (&[2, 256, 1, 8, 4][..], &[2, 256, 1, 12, 4][..]);
        let (early, later) = (&[256, 1, 2][..], &[300, 3, 4][..]);
        let all = [
            learned(0, ipfix(1, &[early, later])),
            learned(1, ipfix(2, &[a])),
            learned(2, ipfix(3, &[b])),
            learned(3, ipfix(4, &[a])),
            learned(4, ipfix(5, &[])),
        ];
        let kept = compact(all.to_vec(), Timestamp(10), 100, 1 << 20);
        let messages: Vec<_> = kept.iter().map(|l| (l.received_at.0, l.message.clone())).collect();
        // 256 came: what waited for it was decoded. Set 300 waits on; b was redefined by a, which was told twice.
        let expected = [(0, ipfix(1, &[later])), (2, ipfix(3, &[b])), (3, ipfix(4, &[a])), (4, ipfix(5, &[]))];
        assert_eq!(messages, expected);
        assert_eq!(compact(kept.clone(), Timestamp(10), 100, 1 << 20), kept, "a snapshot of a snapshot");
        assert_eq!(compact(all.to_vec(), Timestamp(1000), 100, 1 << 20).len(), 3, "nothing waits for so long");
        assert_eq!(compact(all.to_vec(), Timestamp(10), 100, 16), kept[3..], "the oldest go");
    }

    #[test]
    #[cfg(feature = "collect")]
    fn a_tail_keeps_what_only_the_file_before_it_explains() {
        // It came an hour before the disk had room, by an options template of long ago.
        let late = learned(-3_600_000_000, ipfix(1, &[&[400, 3, 4]]));
        let kept = compact_tail(vec![late.clone()]);
        assert_eq!((kept.len(), &kept[1]), (2, &late));
    }

    #[test]
    fn exporters_that_were_forgotten_leave_nothing() {
        let from = |last: u8, message: &[u8]| Learned {
            exporter: SocketAddr::from(([192, 0, 2, last], 2055)),
            received_at: Timestamp(5),
            message: message.to_vec(),
        };
        let template = |id: u8| {
            let words = [10, 28, 0, 0, 0, 0, 0, 7, 2, 12, 256 + u16::from(id), 1, 8, 4];
            words.into_iter().flat_map(u16::to_be_bytes).collect::<Vec<u8>>()
        };
        let all = vec![from(1, &template(1)), from(2, &template(1)), from(1, &[]), from(1, &template(2)), from(3, &[])];
        // Each in two parts: where the stream stands, and the template.
        let whole = vec![from(2, &template(1)), from(1, &template(2))];
        let expected = compact(whole, Timestamp(10), 100, 1 << 20);
        assert_eq!((compact(all.clone(), Timestamp(10), 100, 1 << 20), expected.len()), (expected.clone(), 4));
        #[cfg(feature = "collect")]
        {
            let tail = compact_tail(all.clone());
            assert_eq!(tail[..2], [from(1, &[]), from(3, &[])]);
            assert_eq!(tail[2..], expected);
        }
        // A decoder that is given all of it knows no less.
        let mut decoder = crate::Decoder::new(crate::Config::default());
        decoder.restore(compact(all, Timestamp(10), 100, 1 << 20));
        assert_eq!(decoder.exporter_count(), 2);
    }
}
