//! Conversations: the flows of both directions, joined.

use super::flow::{self, Counts, End, Flow, Flows};
use super::parts::{Share, in_parts};
use super::scan::{Scan, ScanStats};
use arrow_array::RecordBatch;
use arrow_buffer::BooleanBuffer;
use std::cmp::Ordering;

/// What is joined, and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// Flows of the same 5-tuple, either direction, belong together as long as the time between one and the next is at most
    /// this, microseconds. Exporters that export a long flow in parts begin a part where the last one ended; their clocks
    /// may tell whole seconds only.
    pub gap_us: i64,
    /// Whether counters are multiplied by the sampling rate, where it is known.
    pub scale: bool,
    /// Whether running totals count as a flow's counters, which they are where an exporter sends one record a flow.
    pub totals: bool,
    /// Flows in memory at most, 136 bytes each. Of more, a part at a time is joined, each by a scan of its own.
    pub flows: usize,
}

impl Default for Options {
    /// Five seconds, and five million flows.
    fn default() -> Self {
        Self { gap_us: 5_000_000, scale: false, totals: false, flows: 5_000_000 }
    }
}

/// A conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    /// Who began: the source of the first flow; of flows that begin together the one to the lower port.
    pub client: End,
    /// The other end.
    pub server: End,
    /// The protocol; absent where the records do not tell.
    pub proto: Option<u8>,
    /// The first start, microseconds since 1970.
    pub start_us: i64,
    /// The last end.
    pub end_us: i64,
    /// What the client sent.
    pub sent: Counts,
    /// What the server sent; `None` where no record tells of it.
    pub received: Option<Counts>,
}

impl Connection {
    /// Both directions together.
    pub fn both(&self) -> Counts {
        let mut sum = self.sent;
        self.received.iter().for_each(|r| sum.add(r));
        sum
    }
}

/// What a scan for connections came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Of the last scan.
    pub stats: ScanStats,
    /// Scans that it took.
    pub scans: usize,
    /// Records that are joined.
    pub rows: u64,
    /// Of those, the ones without a sampling rate, where it was to be scaled by.
    pub unscaled: u64,
    /// Records without addresses, which are not joined.
    pub without_addresses: u64,
    /// Records with running totals, which are not joined.
    pub totals: u64,
    /// Their sums.
    pub running: Counts,
    /// Conversations of which both directions were seen.
    pub joined: u64,
    /// Conversations of one direction.
    pub one_way: u64,
}

/// Flows that one thread keeps of a part of all conversations.
#[derive(Default)]
struct Part {
    flows: Vec<Flow>,
    outcome: Outcome,
}

/// Gives every conversation to `take`, those of one direction too, in no order that means anything.
pub fn connections(scan: &Scan, options: &Options, mut take: impl FnMut(Connection)) -> Outcome {
    let mut scan = scan.clone();
    scan.columns = flow::columns(options.scale);
    let mut all = Outcome::default();
    let add = |one: &mut Part, batch: &RecordBatch, chosen: &BooleanBuffer, share: &Share| {
        one.add(batch, chosen, options, share)
    };
    let scans = in_parts(&scan, options.flows, add, Part::merge, |mut part, stats| {
        all.stats = stats;
        all.rows += part.outcome.rows;
        all.unscaled += part.outcome.unscaled;
        // Counted by each scan.
        all.without_addresses = part.outcome.without_addresses;
        all.totals = part.outcome.totals;
        all.running = part.outcome.running;
        join(&mut part.flows, options.gap_us, |connection| {
            match connection.received {
                Some(_) => all.joined += 1,
                None => all.one_way += 1,
            }
            take(connection);
        });
    });
    all.scans = scans;
    all
}

impl Part {
    /// Adds the chosen rows of a batch that are in a share; how many these are.
    fn add(&mut self, batch: &RecordBatch, chosen: &BooleanBuffer, options: &Options, share: &Share) -> usize {
        let before = self.flows.len();
        let flows = Flows::of(batch, options.scale).counting_totals(options.totals);
        for row in chosen.set_indices() {
            if flows.sums.is_total(row) {
                self.outcome.totals += 1;
                self.outcome.running.add(&flows.counts(row));
                continue;
            }
            match flows.row(row) {
                Some(flow) if share.has(&flow.pair().0) => {
                    self.outcome.rows += 1;
                    self.outcome.unscaled += u64::from(flows.sums.lacks_rate(row));
                    self.flows.push(flow);
                }
                Some(_) => {}
                None => self.outcome.without_addresses += 1,
            }
        }
        self.flows.len() - before
    }

    fn merge(&mut self, other: Self) {
        self.flows.extend(other.flows);
        self.outcome.rows += other.outcome.rows;
        self.outcome.unscaled += other.outcome.unscaled;
        self.outcome.without_addresses += other.outcome.without_addresses;
        self.outcome.totals += other.outcome.totals;
        self.outcome.running.add(&other.outcome.running);
    }
}

/// Joins flows: each conversation at once, its flows by their start.
fn join(flows: &mut [Flow], gap_us: i64, mut take: impl FnMut(Connection)) {
    let order = |a: &Flow, b: &Flow| a.pair().0.cmp(&b.pair().0).then(a.start_us.cmp(&b.start_us)).then(began(a, b));
    flows.sort_unstable_by(order);
    let mut rest = &flows[..];
    while let Some(first) = rest.first() {
        let pair = first.pair().0;
        let mut end = first.end_us;
        let more = rest.iter().skip(1).take_while(|f| {
            let together = f.start_us <= end.saturating_add(gap_us) && f.pair().0 == pair;
            end = end.max(f.end_us);
            together
        });
        let (these, others) = rest.split_at(1 + more.count());
        take(connection(first, these));
        rest = others;
    }
}

/// Of flows that begin together, the one that began a conversation is first: it goes to the lower port.
fn began(a: &Flow, b: &Flow) -> Ordering {
    a.dst.1.cmp(&b.dst.1).then_with(|| a.src.cmp(&b.src))
}

fn connection(first: &Flow, flows: &[Flow]) -> Connection {
    let (mut sent, mut received) = (Counts::default(), None::<Counts>);
    let mut end_us = first.end_us;
    for flow in flows {
        end_us = end_us.max(flow.end_us);
        if flow.src == first.src {
            sent.add(&flow.sent);
            flow.back.iter().for_each(|back| received.get_or_insert_default().add(back));
        } else {
            received.get_or_insert_default().add(&flow.sent);
            flow.back.iter().for_each(|back| sent.add(back));
        }
    }
    let (client, server, proto, start_us) = (first.src, first.dst, first.proto, first.start_us);
    Connection { client, server, proto, start_us, end_us, sent, received }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::IpAddr;

    const A: [u8; 4] = [192, 0, 2, 1];
    const B: [u8; 4] = [198, 51, 100, 2];

    fn flow(src: ([u8; 4], u16), dst: ([u8; 4], u16), proto: u8, times: (i64, i64), bytes: i64) -> Flow {
        let end = |(ip, port): ([u8; 4], u16)| (IpAddr::from(ip), Some(port).filter(|_| !flow::is_icmp(Some(proto))));
        Flow {
            src: end(src),
            dst: end(dst),
            proto: Some(proto),
            start_us: times.0 * 1_000_000,
            end_us: times.1 * 1_000_000,
            received_us: 0,
            sent: Counts { bytes, packets: 1, flows: 1 },
            back: None,
        }
    }

    fn joined(mut flows: Vec<Flow>) -> Vec<Connection> {
        let mut found = Vec::new();
        join(&mut flows, 5_000_000, |c| found.push(c));
        found.sort_by_key(|c| (c.start_us, c.sent.bytes));
        found
    }

    #[test]
    fn parts_of_a_long_flow_are_one_conversation() {
        let found = joined(vec![
            flow((B, 443), (A, 50_000), 6, (60, 119), 7),
            flow((A, 50_000), (B, 443), 6, (0, 60), 1),
            flow((B, 443), (A, 50_000), 6, (0, 60), 3),
            flow((A, 50_000), (B, 443), 6, (62, 120), 5),
            // Again, after a while.
            flow((A, 50_000), (B, 443), 6, (300, 301), 100),
        ]);
        assert_eq!(found.len(), 2);
        let Connection { client, server, start_us, end_us, sent, received, .. } = &found[0];
        assert_eq!((client.1, server.1, *start_us, *end_us), (Some(50_000), Some(443), 0, 120_000_000));
        assert_eq!((sent.bytes, sent.flows, received.map(|r| r.bytes)), (6, 2, Some(10)));
        assert_eq!((found[1].sent.bytes, found[1].received), (100, None));
        assert_eq!(found[0].both().bytes, 16);
    }

    #[test]
    fn the_whole_5_tuple_is_compared() {
        let found = joined(vec![
            flow((A, 50_000), (B, 443), 6, (0, 1), 1),
            flow((B, 443), (A, 50_001), 6, (0, 1), 2),
            flow((B, 443), (A, 50_000), 17, (0, 1), 3),
            // Types of ICMP are no ports.
            flow((A, 0), (B, 2048), 1, (0, 1), 4),
            flow((B, 0), (A, 0), 1, (0, 1), 5),
        ]);
        assert_eq!(found.iter().filter(|c| c.received.is_some()).count(), 1);
        assert_eq!(found.len(), 4);
    }

    #[test]
    fn who_was_first_began() {
        let found = joined(vec![flow((B, 443), (A, 50_000), 6, (1, 2), 9), flow((A, 50_000), (B, 443), 6, (2, 3), 1)]);
        assert_eq!((found[0].client.1, found[0].sent.bytes), (Some(443), 9));
    }
}
