//! Room for a new exporter where there are as many as may be: whoever invents senders must not keep an honest one out.
//!
//! Nobody is forgotten while there is room, however long it is silent: exporters may be quiet for hours and not tell their
//! templates again. Where there is none, whoever is silent for minutes makes way, and after them those of whom no row ever came,
//! the longest silent first. One pass over all finds many, and there is at most one a second. An honest
//! exporter goes on sending, and is one of the next.

use super::Decoder;
use super::stats::Outcome;
use super::stream::{Origin, Sender, Silent};
use crate::columns::Timestamp;
use crate::error::{Error, ErrorKind};
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

/// How long an exporter is silent that makes way although rows came of it, microseconds.
const SILENT_US: i64 = 600_000_000;
/// How often such are looked for.
const LOOK_US: i64 = 1_000_000;
/// How many make way between two looks: each costs a template or more, and whoever invents senders has no end of them.
const AT_ONCE: usize = 256;

/// Who makes way next.
#[derive(Debug, Default)]
pub(super) struct Room {
    looked_us: Option<i64>,
    // The next one last. One that was heard of since then stays.
    silent: Vec<Silent>,
    // What waits for templates of theirs.
    awaited: HashMap<IpAddr, Vec<(u8, u32, u16)>>,
    refused: Option<(Timestamp, SocketAddr)>,
}

impl Decoder {
    /// Who was refused last because there are too many exporters, and when.
    pub fn last_beyond_limit(&self) -> Option<(Timestamp, SocketAddr)> {
        self.room.refused
    }

    /// Forgets an exporter in favour of a new one; false where none is to be forgotten.
    #[cold]
    pub(super) fn make_room(&mut self, now_us: i64) -> bool {
        let room = &mut self.room;
        if room.silent.is_empty() && room.looked_us.is_none_or(|at| !(at..at.saturating_add(LOOK_US)).contains(&now_us))
        {
            room.looked_us = Some(now_us);
            room.silent = self.exporters.silent(|last| now_us.saturating_sub(last) >= SILENT_US);
            room.silent.drain(..room.silent.len().saturating_sub(AT_ONCE));
            room.awaited.clear();
            for (origin, version, domain, id) in self.work.held.awaited() {
                if origin.session.is_none() {
                    room.awaited.entry(origin.ip).or_default().push((version, domain, id));
                }
            }
        }
        let Some(gone) = std::iter::from_fn(|| room.silent.pop()).find_map(|one| self.exporters.make_way(&one)) else {
            return false;
        };
        let origin = Origin { ip: gone, session: None };
        self.work.learning.forget_exporter(gone, Timestamp(now_us));
        let awaited = room.awaited.remove(&gone).unwrap_or_default();
        let dropped: usize =
            awaited.into_iter().map(|(v, domain, id)| self.work.held.drop_domain(origin, v, domain, Some(id))).sum();
        self.exporters.stats_of(origin).held_dropped += dropped as u64;
        self.forget_many_ended();
        true
    }

    /// Refuses a datagram of an exporter that is one too many, and notes who it was.
    pub(super) fn refuse_beyond_limit(
        &mut self,
        sender: &Sender<'_>,
        bytes: usize,
        now: Timestamp,
        outcome: &mut Outcome,
    ) {
        self.room.refused = Some((now, *sender.address));
        let limit = self.config.exporters;
        self.refuse(Error::new(ErrorKind::ExporterLimit, 0, limit, limit), sender, bytes, outcome);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Config;

    /// A set whose template nobody knows.
    const HELD: [u8; 24] = [0, 10, 0, 24, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 44, 0, 8, 0, 0, 0, 0];

    fn from(host: u8) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, host], 2055))
    }

    #[test]
    fn whoever_is_idle_is_forgotten_for_another_alone_and_leaves_nothing() {
        let mut decoder = Decoder::new(Config { exporters: 1, ..Config::default() });
        decoder.learn();
        decoder.decode(&HELD, from(1), Timestamp(0));
        decoder.tick(Timestamp(SILENT_US + 1));
        assert!(decoder.is_known(from(1).ip()), "nobody else came");
        decoder.decode(&HELD, from(2), Timestamp(SILENT_US + 2));
        let learned: Vec<_> = std::iter::from_fn(|| decoder.next_learned()).collect();
        let forgotten: Vec<_> = learned.iter().filter(|one| one.is_void()).map(|one| one.exporter.ip()).collect();
        assert_eq!(forgotten, [from(1).ip()]);
        let stats = decoder.stats();
        assert_eq!((stats.sets_held, stats.held_dropped, decoder.held_sets()), (2, 1, 1));
    }

    #[test]
    fn whoever_connects_after_the_look_stays() {
        let mut decoder = Decoder::new(Config { exporters: 3, ..Config::default() });
        (1..=3).for_each(|host| _ = decoder.decode(&HELD, from(host), Timestamp(i64::from(host))));
        decoder.decode(&HELD, from(4), Timestamp(10));
        assert!(!decoder.is_known(from(1).ip()), "the longest silent");
        let session = decoder.open_session();
        decoder.decode_in(session, &HELD, from(2), Timestamp(11));
        decoder.decode(&HELD, from(5), Timestamp(12));
        let known = |decoder: &Decoder| [2, 3, 4, 5].map(|host| decoder.is_known(from(host).ip()));
        assert_eq!(known(&decoder), [true, false, true, true]);
        decoder.end_session(session);
        (6..=8).for_each(|host| _ = decoder.decode(&HELD, from(host), Timestamp(2 * LOOK_US)));
        assert_eq!(known(&decoder), [false; 4]);
    }
}
