//! Who may send, and how much.

use super::Admission;
use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Addresses whose rate is followed before those that are quiet are forgotten.
const FOLLOWED: usize = 16_384;
/// How much an exporter may send at once: what its rate allows in this time.
const BURST_NS: u64 = 1_000_000_000;

/// Lets in whom a list of prefixes names, as much as a rate allows, and counts those that are refused.
pub(super) struct Gate {
    admission: Admission,
    rate: Option<Rate>,
    // The last sender, and whether it may: datagrams of one follow each other.
    last: Option<(IpAddr, bool)>,
    pub refused: u64,
}

/// What becomes of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Decode,
    /// Its sender is not allowed.
    Refuse,
    /// Its sender is, and sends too much.
    Limit,
}

impl Gate {
    pub fn new(admission: Admission) -> Self {
        let rate = admission.rate.map(Rate::new);
        Self { admission, rate, last: None, refused: 0 }
    }

    /// Goes by other rules from now on.
    pub fn change(&mut self, admission: Admission) {
        *self = Self { refused: self.refused, ..Self::new(admission) };
    }

    /// What becomes of a datagram of this sender, now.
    #[inline]
    pub fn judge(&mut self, sender: IpAddr, now: Instant) -> Verdict {
        if !self.allows(sender) {
            self.refused += 1;
            return Verdict::Refuse;
        }
        let takes = self.rate.as_mut().is_none_or(|rate| rate.takes(sender, now));
        if takes { Verdict::Decode } else { Verdict::Limit }
    }

    /// Whether what this sender sends is looked at.
    #[inline]
    pub fn allows(&mut self, sender: IpAddr) -> bool {
        let allow = &self.admission.allow;
        let allowed = match self.last {
            _ if allow.is_empty() => true,
            Some((last, allowed)) if last == sender => allowed,
            _ => allow.iter().any(|prefix| prefix.contains(&sender)),
        };
        self.last = Some((sender, allowed));
        allowed
    }

    /// Notes so many messages of a sender that can wait; how long it should.
    pub fn charge(&mut self, sender: IpAddr, messages: u64, now: Instant) -> Option<Duration> {
        self.rate.as_mut().and_then(|rate| rate.charge(sender, messages, now))
    }
}

/// The rate of each exporter, as the time at which it would have sent what it did at that rate.
#[derive(Debug)]
struct Rate {
    // Between two datagrams.
    interval_ns: u64,
    began: Instant,
    due_ns: HashMap<IpAddr, u64>,
    // Addresses before it is looked for those that are quiet.
    room: usize,
}

impl Rate {
    fn new(a_second: u32) -> Self {
        let interval_ns = 1_000_000_000 / u64::from(a_second.max(1));
        Self { interval_ns: interval_ns.max(1), began: Instant::now(), due_ns: HashMap::new(), room: FOLLOWED }
    }

    /// Takes a datagram, if it is not too much.
    fn takes(&mut self, sender: IpAddr, now: Instant) -> bool {
        let (now, interval) = (self.clock(now), self.interval_ns);
        let due = self.due(sender, now);
        if *due - now >= BURST_NS {
            return false;
        }
        *due += interval;
        true
    }

    /// Takes messages in any case; how long their sender is ahead of what it may send at once.
    fn charge(&mut self, sender: IpAddr, messages: u64, now: Instant) -> Option<Duration> {
        let (now, interval) = (self.clock(now), self.interval_ns);
        let due = self.due(sender, now);
        *due = due.saturating_add(interval.saturating_mul(messages));
        (*due - now).checked_sub(BURST_NS).filter(|ahead| *ahead > 0).map(Duration::from_nanos)
    }

    /// When the next datagram is due, not before now.
    fn due(&mut self, sender: IpAddr, now: u64) -> &mut u64 {
        if self.due_ns.len() >= self.room && !self.due_ns.contains_key(&sender) {
            self.due_ns.retain(|_, due| *due > now);
            if self.due_ns.len() >= 2 * FOLLOWED {
                // So many at once are no exporters.
                self.due_ns.clear();
            }
            // A look at all of them, for as many that come.
            self.room = self.due_ns.len() + FOLLOWED;
        }
        let due = self.due_ns.entry(sender).or_insert(now);
        *due = (*due).max(now);
        due
    }

    fn clock(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.began).as_nanos()).unwrap_or(u64::MAX / 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exporter(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    #[test]
    fn a_second_at_once_and_then_the_rate() {
        let mut gate = Gate::new(Admission { rate: Some(100), ..Admission::default() });
        let began = Instant::now();
        let mut taken = |sender, ms: u64, n: usize| {
            let at = began + Duration::from_millis(ms);
            (0..n).filter(|_| gate.judge(exporter(sender), at) == Verdict::Decode).count()
        };
        assert_eq!(taken(1, 0, 500), 100);
        assert_eq!(taken(2, 0, 30), 30, "each has a rate of its own");
        assert_eq!(taken(1, 100, 500), 10);
        assert_eq!(taken(1, 5_000, 500), 100, "and no more at once however quiet it was");
        assert_eq!(
            (0..1000u64).map(|i| taken(3, 10_000 + i * 2, 1)).sum::<usize>(),
            300,
            "2 s of twice the rate and more"
        );
        assert_eq!(gate.refused, 0);
    }

    #[test]
    fn senders_that_can_wait_are_told_how_long() {
        let mut gate = Gate::new(Admission { rate: Some(10), ..Admission::default() });
        let now = Instant::now();
        assert_eq!(gate.charge(exporter(1), 10, now), None);
        assert_eq!(gate.charge(exporter(1), 5, now), Some(Duration::from_millis(500)));
        assert_eq!(gate.charge(exporter(2), 1, now), None);
        assert_eq!(Gate::new(Admission::default()).charge(exporter(1), 1 << 40, now), None);
    }

    #[test]
    fn strangers_are_refused_before_they_are_too_many() {
        let allow = vec!["192.0.2.1/32".parse().expect("a prefix")];
        let mut gate = Gate::new(Admission { allow, rate: Some(1) });
        let now = Instant::now();
        assert_eq!(gate.judge(exporter(1), now), Verdict::Decode);
        assert_eq!(gate.judge(exporter(1), now), Verdict::Limit);
        assert_eq!(gate.judge(exporter(2), now), Verdict::Refuse);
        gate.change(Admission { allow: vec!["192.0.2.2/32".parse().expect("a prefix")], rate: None });
        assert_eq!([1, 2].map(|last| gate.judge(exporter(last), now)), [Verdict::Refuse, Verdict::Decode]);
        assert_eq!(gate.refused, 2, "what was counted stays");
    }

    #[test]
    fn spoofed_senders_cost_little() {
        let mut rate = Rate::new(1);
        let now = Instant::now();
        for i in 0..300_000u32 {
            rate.takes(IpAddr::from(i.to_be_bytes()), now);
            assert!(rate.due_ns.len() <= 3 * FOLLOWED);
        }
    }
}
