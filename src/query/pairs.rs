//! Two flows of opposite direction, found as they come.

use super::flow::{Counts, End, Flow, Pair};
use std::collections::HashMap;

/// Two flows that are the two directions of a connection, or one record that tells of both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Matched {
    /// Who sent more bytes.
    pub src: End,
    /// Who sent fewer.
    pub dst: End,
    /// The protocol; absent where the records do not tell.
    pub proto: Option<u8>,
    /// The start of what the source sent, microseconds since 1970.
    pub start_us: i64,
    /// Its end.
    pub end_us: i64,
    /// When the later of both was received.
    pub received_us: i64,
    /// What the source sent.
    pub sent: Counts,
    /// What came back.
    pub back: Counts,
}

/// Flows that wait for their counterpart: the same 5-tuple the other way, at the same time.
pub struct Pairs {
    waiting: HashMap<Pair, Vec<Flow>, foldhash::quality::RandomState>,
    len: usize,
    limit: usize,
    given_up: u64,
}

/// v9 and IPFIX headers tell whole seconds, and both directions may be in messages of their own.
const CLOCKS_US: i64 = 2_000_000;

impl Pairs {
    /// Nothing waits. Of more flows than `limit`, those received first are given up.
    pub fn new(limit: usize) -> Self {
        Self { waiting: HashMap::default(), len: 0, limit: limit.max(2), given_up: 0 }
    }

    /// Takes a flow, in the order of receipt; the connection that it completes.
    pub fn push(&mut self, flow: Flow) -> Option<Matched> {
        if let Some(back) = flow.back {
            let other = Flow { src: flow.dst, dst: flow.src, sent: back, back: None, ..flow.clone() };
            return Some(matched(&flow, &other));
        }
        let (pair, forth) = flow.pair();
        let waiting = self.waiting.entry(pair).or_default();
        let fits = |other: &Flow| {
            other.pair().1 != forth
                && other.start_us <= flow.end_us.saturating_add(CLOCKS_US)
                && flow.start_us <= other.end_us.saturating_add(CLOCKS_US)
        };
        if let Some(at) = waiting.iter().position(fits) {
            let other = waiting.remove(at);
            if waiting.is_empty() {
                self.waiting.remove(&pair);
            }
            self.len -= 1;
            return Some(matched(&flow, &other));
        }
        waiting.push(flow);
        self.len += 1;
        if self.len > self.limit {
            self.give_up();
        }
        None
    }

    /// Forgets the older half of what waits.
    fn give_up(&mut self) {
        let mut times: Vec<i64> = self.waiting.values().flatten().map(|f| f.received_us).collect();
        let half = times.len() / 2;
        let (_, &mut until, _) = times.select_nth_unstable(half);
        self.waiting.retain(|_, flows| {
            flows.retain(|f| f.received_us > until);
            !flows.is_empty()
        });
        let left = self.waiting.values().map(Vec::len).sum();
        self.given_up += (self.len - left) as u64;
        self.len = left;
    }

    /// Flows that were given up, since too many waited.
    pub fn given_up(&self) -> u64 {
        self.given_up
    }

    /// Flows without a counterpart, by the time received.
    pub fn rest(self) -> Vec<Flow> {
        let mut rest: Vec<Flow> = self.waiting.into_values().flatten().collect();
        rest.sort_unstable_by_key(|f| (f.received_us, f.start_us, f.src, f.dst));
        rest
    }
}

/// The connection of two flows: who sent more is the source, of equals who was received last.
fn matched(last: &Flow, first: &Flow) -> Matched {
    let (source, other) = if last.sent.bytes >= first.sent.bytes { (last, first) } else { (first, last) };
    Matched {
        src: source.src,
        dst: source.dst,
        proto: source.proto,
        start_us: source.start_us,
        end_us: source.end_us,
        received_us: last.received_us,
        sent: source.sent,
        back: other.sent,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::IpAddr;

    fn flow(src: (u8, u16), dst: (u8, u16), seconds: (i64, i64), bytes: i64) -> Flow {
        let end = |(ip, port)| (IpAddr::from([192, 0, 2, ip]), Some(port));
        Flow {
            src: end(src),
            dst: end(dst),
            proto: Some(6),
            start_us: seconds.0 * 1_000_000,
            end_us: seconds.1 * 1_000_000,
            received_us: seconds.1 * 1_000_000,
            sent: Counts { bytes, packets: 1, flows: 1 },
            back: None,
        }
    }

    #[test]
    fn opposite_flows_of_the_same_time_match_and_the_larger_sender_is_first() {
        let mut pairs = Pairs::new(100);
        assert_eq!(pairs.push(flow((1, 5000), (2, 443), (0, 10), 50)), None);
        // The same direction again, another port, another time.
        assert_eq!(pairs.push(flow((1, 5000), (2, 443), (11, 20), 60)), None);
        assert_eq!(pairs.push(flow((2, 443), (1, 5001), (0, 10), 70)), None);
        assert_eq!(pairs.push(flow((2, 443), (1, 5000), (100, 110), 80)), None);
        let found = pairs.push(flow((2, 443), (1, 5000), (0, 9), 90)).expect("a connection");
        assert_eq!((found.sent.bytes, found.back.bytes, found.src.1), (90, 50, Some(443)));
        let found = pairs.push(flow((2, 443), (1, 5000), (12, 19), 10)).expect("a connection");
        assert_eq!((found.sent.bytes, found.end_us, found.received_us), (60, 20_000_000, 19_000_000));
        assert_eq!(pairs.rest().iter().map(|f| f.sent.bytes).collect::<Vec<_>>(), [70, 80]);
    }

    #[test]
    fn one_record_of_both_directions_is_a_connection() {
        let mut pairs = Pairs::new(100);
        let mut both = flow((1, 5000), (2, 443), (0, 10), 50);
        both.back = Some(Counts { bytes: 500, packets: 3, flows: 0 });
        let found = pairs.push(both).expect("a connection");
        assert_eq!((found.src.1, found.sent.bytes, found.back.bytes), (Some(443), 500, 50));
    }

    #[test]
    fn memory_is_bounded() {
        let mut pairs = Pairs::new(10);
        for i in 0..1000 {
            assert_eq!(pairs.push(flow((1, i), (2, 443), (i.into(), i.into()), 1)), None);
        }
        let given_up = pairs.given_up();
        let rest = pairs.rest();
        assert!(rest.len() <= 10 && rest.len() as u64 + given_up == 1000);
        assert!(rest.iter().all(|f| f.received_us > 980_000_000));
    }
}
