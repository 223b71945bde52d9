//! Letting datagrams gather before they are taken.
//!
//! A thread that is woken for each of many datagrams spends more on waking than on all else, and a socket's buffer holds many
//! times more than come in a moment. Where few come, waking takes little of a core, and they pass without delay.

use crate::net;
use std::time::{Duration, Instant};

/// How long they may gather at high rates, at which a small receive buffer is soon full: a core that sleeps for so short a time takes
/// some 15 us to be there again, more than the datagrams of a quarter of it cost.
const SHORTEST: Duration = Duration::from_micros(750);
/// And at any: nobody waits for a millisecond.
const LONGEST: Duration = Duration::from_micros(900);
/// As many are worth waking for.
const WORTH: f64 = net::BURST as f64 * 0.75;
/// As many in a [`WINDOW`] are many: 2,000 a second, of which two gather in a nap.
const MANY: u32 = 20;
const WINDOW: Duration = Duration::from_millis(10);

/// How datagrams come to one thread.
pub(super) struct Gathering {
    /// When the burst before was taken.
    taken: Instant,
    /// When the window began, and what came in it so far.
    since: Instant,
    datagrams: u32,
    /// How long they gather, if many came in the window before.
    nap: Option<Duration>,
}

impl Gathering {
    pub fn new(now: Instant) -> Self {
        Self { taken: now, since: now, datagrams: 0, nap: None }
    }

    /// How long to let them gather after a burst of so many, if at all: only where it took all that there were, one by one.
    pub fn nap(&mut self, datagrams: u32, calm: bool, now: Instant) -> Option<Duration> {
        self.datagrams = self.datagrams.saturating_add(datagrams);
        let window = now - self.since;
        if window >= WINDOW {
            // As many as would have come in a window of the right length.
            let many = f64::from(self.datagrams) * WINDOW.as_secs_f64() >= f64::from(MANY) * window.as_secs_f64();
            let enough = || window.mul_f64(WORTH / f64::from(self.datagrams));
            self.nap = many.then(|| enough().clamp(SHORTEST, LONGEST));
            (self.since, self.datagrams) = (now, 0);
        }
        let apart = now - std::mem::replace(&mut self.taken, now);
        self.nap.filter(|nap| datagrams > 0 && calm && apart < 2 * *nap)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Naps of the last of so many bursts, evenly apart.
    fn naps(bursts: u32, datagrams: u32, apart: Duration) -> usize {
        let mut now = Instant::now();
        let mut gathering = Gathering::new(now);
        let nap = |_| {
            now += apart;
            gathering.nap(datagrams, datagrams < 64, now)
        };
        let naps: Vec<_> = (0..bursts).map(nap).collect();
        naps[bursts as usize / 2..].iter().flatten().count()
    }

    #[test]
    fn many_in_small_bursts_gather_and_few_do_not() {
        let us = Duration::from_micros;
        // 50,000 a second, one by one and ten at a time; 1,500 a second.
        assert_eq!((naps(2000, 1, us(20)), naps(2000, 10, us(200))), (1000, 1000));
        assert_eq!(naps(2000, 1, us(667)), 0);
        // What gathered in a nap is followed by the next.
        assert_eq!(naps(2000, 45, us(900)), 1000);
        // Bursts that may have left more behind, or are not close to each other.
        assert_eq!((naps(2000, 64, us(200)), naps(2000, 45, us(1810))), (0, 0));
    }

    #[test]
    fn the_more_come_the_shorter_they_gather() {
        let nap = |apart| {
            let mut now = Instant::now();
            let mut gathering = Gathering::new(now);
            let naps = (0..2000).filter_map(|_| {
                now += Duration::from_micros(apart);
                gathering.nap(1, true, now)
            });
            naps.last()
        };
        let micros = [39, 25, 10, 5].map(|apart| nap(apart).map(|nap| nap.as_micros()));
        assert_eq!(micros, [900, 900, 750, 750].map(Some));
    }

    #[test]
    fn a_thread_that_was_idle_begins_without_a_nap() {
        let mut now = Instant::now();
        let mut gathering = Gathering::new(now);
        (0..1000).for_each(|_| {
            now += Duration::from_micros(20);
            gathering.nap(1, true, now);
        });
        assert!(gathering.nap(1, true, now).is_some() && gathering.nap(30, false, now).is_none());
        now += Duration::from_secs(1);
        assert_eq!(gathering.nap(1, true, now), None);
        now += Duration::from_micros(20);
        assert_eq!(gathering.nap(1, true, now), None);
    }
}
