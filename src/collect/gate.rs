//! Who may send, and how much.

use super::Admission;
use super::board::lock;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Addresses whose rate is followed before those that are quiet are forgotten.
const FOLLOWED: usize = 16_384;
/// How much an exporter may send at once: what its rate allows in this time.
const BURST_NS: u64 = 1_000_000_000;

/// Who may send and how much, with what threads have in common of it.
#[derive(Clone, Debug, Default)]
pub(super) struct Rules {
    pub admission: Admission,
    common: Arc<Common>,
}

/// What exporters have sent by their rate that come by several threads.
#[derive(Debug, Default)]
struct Common {
    // Those whose datagrams are dealt out: few, as each is named.
    spread: Vec<(IpAddr, Clock)>,
    // Those that connect, to whatever thread the kernel chooses; `None` where there is no rate.
    connected: Option<Mutex<Rate>>,
}

impl Rules {
    pub fn new(admission: Admission, spread: impl IntoIterator<Item = IpAddr>) -> Self {
        let connected = admission.rate.map(|rate| Mutex::new(Rate::new(rate)));
        let spread = spread.into_iter().map(|exporter| (exporter.to_canonical(), Clock::new())).collect();
        Self { admission, common: Arc::new(Common { spread, connected }) }
    }

    /// The same exporters by another admission.
    pub fn change(&self, admission: Admission) -> Self {
        Self::new(admission, self.common.spread.iter().map(|s| s.0))
    }
}

/// Lets in whom a list of prefixes names, as much as a rate allows, and counts those that are refused.
pub(super) struct Gate {
    rules: Rules,
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
    /// Whether an exporter's datagrams are dealt out to several threads.
    pub fn is_spread(&self, exporter: IpAddr) -> bool {
        self.rules.common.spread.iter().any(|spread| spread.0 == exporter)
    }

    pub fn new(rules: Rules) -> Self {
        let rate = rules.admission.rate.map(Rate::new);
        Self { rules, rate, last: None, refused: 0 }
    }

    /// Goes by other rules from now on.
    pub fn change(&mut self, rules: Rules) {
        *self = Self { refused: self.refused, ..Self::new(rules) };
    }

    /// What becomes of a datagram of this sender, now.
    #[inline]
    pub fn judge(&mut self, sender: IpAddr, now: Instant) -> Verdict {
        if !self.allows(sender) {
            self.refused += 1;
            return Verdict::Refuse;
        }
        let Some(rate) = &mut self.rate else { return Verdict::Decode };
        let common = self.rules.common.spread.iter().find(|spread| spread.0 == sender);
        let takes = match common {
            Some((_, clock)) => clock.takes(rate.interval_ns, now),
            None => rate.takes(sender, now),
        };
        if takes { Verdict::Decode } else { Verdict::Limit }
    }

    /// Whether what this sender sends is looked at.
    #[inline]
    pub fn allows(&mut self, sender: IpAddr) -> bool {
        let allow = &self.rules.admission.allow;
        let allowed = match self.last {
            _ if allow.is_empty() => true,
            Some((last, allowed)) if last == sender => allowed,
            _ => allow.iter().any(|prefix| prefix.contains(&sender)),
        };
        self.last = Some((sender, allowed));
        allowed
    }

    /// Whether messages of senders that can wait have a rate.
    pub fn is_limiting(&self) -> bool {
        self.rules.common.connected.is_some()
    }

    /// Takes a message of a sender that can wait, if it is not too much; how long it has to wait else.
    pub fn wait(&self, sender: IpAddr) -> Option<Duration> {
        let mut rate = lock(self.rules.common.connected.as_ref()?);
        rate.wait(sender, Instant::now())
    }
}

/// When the next datagram of an exporter is due that comes by several threads, as [`Rate`] has it.
#[derive(Debug)]
struct Clock {
    began: Instant,
    due_ns: AtomicU64,
}

impl Clock {
    fn new() -> Self {
        Self { began: Instant::now(), due_ns: AtomicU64::new(0) }
    }

    /// Takes a datagram, if it is not too much.
    fn takes(&self, interval_ns: u64, now: Instant) -> bool {
        let now = since(self.began, now);
        self.due_ns.fetch_update(Relaxed, Relaxed, |due| after(due, now, interval_ns).ok()).is_ok()
    }
}

/// When the next datagram is due after one that was due then and comes now, if that is not too much; how long it is too much else.
fn after(due: u64, now: u64, interval_ns: u64) -> Result<u64, Duration> {
    let due = due.max(now);
    // Until one more may come.
    let too_early = (due - now + 1).checked_sub(BURST_NS).filter(|ns| *ns > 0);
    too_early.map_or(Ok(due + interval_ns), |ns| Err(Duration::from_nanos(ns)))
}

fn since(began: Instant, now: Instant) -> u64 {
    u64::try_from(now.saturating_duration_since(began).as_nanos()).unwrap_or(u64::MAX / 2)
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
        self.wait(sender, now).is_none()
    }

    /// The same; how long it is too much.
    fn wait(&mut self, sender: IpAddr, now: Instant) -> Option<Duration> {
        let (now, interval) = (since(self.began, now), self.interval_ns);
        let due = self.due(sender, now);
        match after(*due, now, interval) {
            Ok(next) => *due = next,
            Err(wait) => return Some(wait),
        }
        None
    }

    /// When the next datagram of a sender is due.
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
        self.due_ns.entry(sender).or_insert(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exporter(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    fn gate(rate: Option<u32>) -> Gate {
        Gate::new(Rules::new(Admission { rate, ..Admission::default() }, []))
    }

    #[test]
    fn a_second_at_once_and_then_the_rate() {
        let mut gate = gate(Some(100));
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
        let rules = Rules::new(Admission { rate: Some(10), ..Admission::default() }, []);
        // Whichever thread has the connection.
        let gates = [Gate::new(rules.clone()), Gate::new(rules)];
        // Time goes on meanwhile.
        let taken = (0..100).take_while(|i| gates[i % 2].wait(exporter(1)).is_none()).count();
        assert!((10..20).contains(&taken), "{taken}");
        for gate in &gates {
            let wait = gate.wait(exporter(1)).expect("too much");
            assert!(wait <= Duration::from_millis(100), "{wait:?}");
        }
        assert_eq!(gates[0].wait(exporter(2)), None);
        assert!((0..1000).all(|_| gate(None).wait(exporter(1)).is_none()));
    }

    #[test]
    fn an_exporter_that_is_dealt_out_has_one_rate_for_all_threads() {
        let rules = Rules::new(Admission { rate: Some(100), ..Admission::default() }, [exporter(1)]);
        let mut gates: Vec<Gate> = (0..4).map(|_| Gate::new(rules.clone())).collect();
        let began = Instant::now();
        let mut taken = |sender, ms: u64| {
            let at = began + Duration::from_millis(ms);
            (0..800).filter(|i| gates[i % 4].judge(exporter(sender), at) == Verdict::Decode).count()
        };
        // A clock of its own: it began a moment before.
        assert_eq!((taken(1, 0), taken(1, 500)), (100, 50));
        assert_eq!(taken(2, 500), 400, "that of others is each thread's, which they meet alone");
        // Told anew, it starts anew.
        let rules = rules.change(Admission { rate: Some(10), ..Admission::default() });
        gates.iter_mut().for_each(|gate| gate.change(rules.clone()));
        let at = Instant::now();
        assert_eq!((0..100).filter(|i| gates[i % 4].judge(exporter(1), at) == Verdict::Decode).count(), 10);
    }

    #[test]
    fn strangers_are_refused_before_they_are_too_many() {
        let allow = vec!["192.0.2.1/32".parse().expect("a prefix")];
        let mut gate = Gate::new(Rules::new(Admission { allow, rate: Some(1) }, []));
        let now = Instant::now();
        assert_eq!(gate.judge(exporter(1), now), Verdict::Decode);
        assert_eq!(gate.judge(exporter(1), now), Verdict::Limit);
        assert_eq!(gate.judge(exporter(2), now), Verdict::Refuse);
        gate.change(Rules::new(Admission { allow: vec!["192.0.2.2/32".parse().expect("a prefix")], rate: None }, []));
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
