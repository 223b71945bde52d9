//! Restarts of exporters while nobody listened.
//!
//! One that starts anew may give a template's id another layout. Its data wait then until it says which; RFC 3954 section 9
//! and RFC 7011 section 8 have it tell its templates first of all.

use super::learned::Learned;
use super::stream::Streams;
use super::{Decoder, Timestamp};
use crate::columns::RunMeta;
use crate::wire::Message;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

/// How much later than before an exporter can seem to have started and not have started anew: clocks are set.
const SAME_BOOT_MS: i32 = 60_000;

/// Where a stream stood when it was last heard of before a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    sequence: u32,
    // When the message was sent and when the exporter started, modulo 2^32 milliseconds; IPFIX does not say the latter.
    sent_ms: u32,
    boot_ms: Option<u32>,
}

impl Mark {
    pub(super) fn of(message: &Message<'_>) -> Self {
        Self::new(message.sequence(), message.export_time_us(), message.uptime_ms())
    }

    fn new(sequence: u32, sent_us: i64, uptime_ms: Option<u32>) -> Self {
        let sent_ms = sent_us.div_euclid(1000) as u32;
        Self { sequence, sent_ms, boot_ms: uptime_ms.map(|uptime| sent_ms.wrapping_sub(uptime)) }
    }

    /// Whether the exporter started anew between this and a later message of the same port.
    fn restarted(self, later: Self) -> bool {
        match (self.boot_ms, later.boot_ms) {
            (Some(before), Some(after)) => after.wrapping_sub(before).cast_signed() > SAME_BOOT_MS,
            _ => later.sequence.wrapping_sub(self.sequence).cast_signed() < 0,
        }
    }

    /// Whether the sender of a later message started after this was sent, which no other sender did that was there before.
    fn is_before_boot(self, later: Self) -> bool {
        match later.boot_ms {
            Some(boot) => self.restarted(later) && boot.wrapping_sub(self.sent_ms).cast_signed() > -SAME_BOOT_MS,
            None => self.restarted(later),
        }
    }
}

/// Where the streams of each exporter's domains stood before a restart of the decoder.
#[derive(Debug, Default)]
pub(super) struct Marks {
    before: HashMap<(IpAddr, u8, u32), Vec<(u16, Mark)>>,
    // When the last message was received that was noted for the next restart.
    noted: Timestamp,
    all: Pass,
    counts: CountPass,
}

/// A look at all streams, in several calls where there are many.
#[derive(Debug, Default)]
struct Pass {
    // The stream to go on with; 0 where the next call begins a pass.
    next: usize,
    // That of the streams at the last call: where it differs they changed their places.
    moved: u64,
}

impl Pass {
    /// The places that a call looks at, and whether the pass is over then.
    fn slice(&mut self, streams: &Streams) -> (Range<usize>, bool) {
        let first = if streams.moved() == self.moved { self.next } else { 0 };
        let is_over = first + SLICE >= streams.len();
        (self.moved, self.next) = (streams.moved(), if is_over { 0 } else { first + SLICE });
        (first..first + SLICE, is_over)
    }
}

/// A look at those that moved.
#[derive(Debug, Default)]
struct CountPass {
    pass: Pass,
    // Messages received later are noted.
    since: Timestamp,
    // `noted` when the pass began.
    began: Timestamp,
}

/// Streams that a call looks at: half a millisecond where each is noted.
const SLICE: usize = 8192;

impl Marks {
    pub(super) fn insert(&mut self, exporter: &SocketAddr, message: &Message<'_>) {
        let ports = self.before.entry(key(exporter, message)).or_default();
        let mark = Mark::of(message);
        match ports.iter_mut().find(|p| p.0 == exporter.port()) {
            Some(known) => known.1 = mark,
            None => ports.push((exporter.port(), mark)),
        }
    }

    /// Whether the first message of a port shows that its exporter started anew. One that did comes from another port, as
    /// like as not: it did where that is so by all ports of before, some of which may be other exporters behind the same
    /// address.
    pub(super) fn show_restart(&mut self, exporter: &SocketAddr, message: &Message<'_>) -> bool {
        let key = key(exporter, message);
        let Some(ports) = self.before.get_mut(&key) else { return false };
        let now = Mark::of(message);
        let restarted = match ports.iter().position(|p| p.0 == exporter.port()) {
            Some(own) => ports.swap_remove(own).1.restarted(now),
            None => !ports.is_empty() && ports.iter().all(|p| p.1.is_before_boot(now)),
        };
        if restarted || ports.is_empty() {
            self.before.remove(&key);
        }
        restarted
    }
}

fn key(exporter: &SocketAddr, message: &Message<'_>) -> (IpAddr, u8, u32) {
    (exporter.ip().to_canonical(), message.version(), message.domain_id())
}

impl Decoder {
    /// Adds to what was learned where each stream stands: a restart of an exporter while nobody listens is known by it.
    /// Once a minute will do. Looks at 8,192 streams; whether all are looked at now. Else the next call goes on, which
    /// should not be long.
    pub fn mark_streams(&mut self) -> bool {
        let (places, is_over) = self.marks.all.slice(&self.streams);
        self.note_streams(places, |meta| meta.version >= 9);
        is_over
    }

    /// The same of all streams as they stand now, at the end: however many there are, and wherever
    /// [`mark_streams`](Self::mark_streams) was.
    pub fn mark_all_streams(&mut self) {
        self.marks.all = Pass::default();
        while !self.mark_streams() {}
    }

    /// As [`mark_streams`](Self::mark_streams), of those streams alone that show a restart by nothing but their number, and
    /// were heard of since they were noted: it has to be known as it was a moment before the collector was killed.
    pub fn mark_counts(&mut self) -> bool {
        let (noted, counts) = (self.marks.noted, &mut self.marks.counts);
        let since = counts.since;
        let (places, is_over) = counts.pass.slice(&self.streams);
        let is_first = places.start == 0;
        if is_first {
            counts.began = noted;
        }
        self.note_streams(places, |meta| meta.version == 10 && meta.received_at > since);
        if is_over {
            let (noted, counts) = (self.marks.noted, &mut self.marks.counts);
            // What came while the pass lasted, of streams that it had looked at, is for the next one.
            counts.since = if is_first { noted } else { counts.began };
        }
        is_over
    }

    fn note_streams(&mut self, places: Range<usize>, mut what: impl FnMut(&RunMeta) -> bool) {
        for meta in self.streams.lasting_metas(places, &self.exporters).filter(|m| what(m)) {
            self.marks.noted = self.marks.noted.max(meta.received_at);
            let uptime = meta.uptime_ms.unwrap_or(0);
            let secs = u32::try_from(meta.export_time.0.div_euclid(1_000_000)).unwrap_or(0);
            let mut message = u16::from(meta.version).to_be_bytes().to_vec();
            if meta.version == 9 {
                message.extend([0, 0]);
                message.extend(uptime.to_be_bytes());
            } else {
                message.extend([0, 16]);
            }
            for word in [secs, meta.sequence, meta.domain_id] {
                message.extend(word.to_be_bytes());
            }
            let (exporter, received_at) = (meta.exporter, meta.received_at);
            self.work.learning.push(Learned { exporter, received_at, message });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restart_is_seen_by_the_uptime_or_the_sequence() {
        let of = |sequence, boot_ms| Mark { sequence, sent_ms: 90_000, boot_ms };
        assert!(!of(7, None).restarted(of(7, None)));
        assert!(!of(u32::MAX, None).restarted(of(3, None)), "the number wraps");
        assert!(of(7, None).restarted(of(3, None)));
        assert!(!of(7, Some(5)).restarted(of(3, Some(59_000))), "a clock that was set");
        assert!(of(7, Some(5)).restarted(of(8, Some(100_000))));
        assert!(of(7, Some(u32::MAX)).restarted(of(8, Some(100_000))));
    }

    #[test]
    fn another_part_of_a_router_is_no_restart() {
        let of = |sent_ms, boot_ms| Mark { sequence: 7, sent_ms, boot_ms: Some(boot_ms) };
        let (old, hour) = (of(7_200_000, 1000), 3_600_000);
        assert!(!old.is_before_boot(of(7_300_000, hour)), "up since an hour before");
        assert!(!old.is_before_boot(of(7_300_000, 0)));
        assert!(old.is_before_boot(of(7_300_000, 7_250_000)));
        assert!(old.is_before_boot(of(7_201_000, 7_199_000)), "by clocks that differ a little");
    }
}
