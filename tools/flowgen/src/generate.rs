//! Messages in the order in which they are sent, each exporter with its own sequence numbers.

use crate::encode::{HEADER_ROOM, HeaderFields, Moment};
use crate::error::Error;
use crate::exporters::Layout;
use crate::plan::{Plan, Ring};
use crate::trouble::{Entry, Limbo, Mangler};

/// One exporter at one port.
#[derive(Clone, Debug)]
struct Stream {
    kind: u32,
    sequence: u32,
    /// Messages until templates are due; there are none to wait for in v1, v5 and v7.
    until_refresh: u64,
    /// Announcements that were made of those that are due.
    announced: u32,
    cursor: u32,
    limbo: Limbo,
}

/// The exporters that share a socket, and whose turn it is.
#[derive(Clone, Debug)]
struct Lane {
    first: u32,
    end: u32,
    next: u32,
}

/// Makes messages.
pub(crate) struct Generator {
    pub ring: Ring,
    pub mangler: Mangler,
    streams: Vec<Stream>,
    lanes: Vec<Lane>,
    turn: usize,
    start_us: i64,
    domain: u32,
    sampling: u16,
    refresh: u64,
}

/// What a call of [`Generator::fill`] made.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Made {
    pub lane: usize,
    pub messages: usize,
    pub records: u64,
}

impl Generator {
    /// For the exporters of a layout, which may be a part of the plan's.
    pub fn new(plan: &Plan, ring: Ring, layout: &Layout, start_us: i64, salt: u64) -> Self {
        let kinds = ring.kinds.len() as u32;
        let streams = layout.places.iter().map(|place| {
            let kind = place.exporter % kinds;
            let data = &ring.kinds[kind as usize].data;
            Stream {
                kind,
                sequence: 0,
                until_refresh: 0,
                announced: 0,
                // Exporters start at different places: they do not all tell of the same flows at the same time.
                cursor: data.start + place.exporter.wrapping_mul(97) % (data.end - data.start),
                limbo: Limbo::default(),
            }
        });
        let streams: Vec<Stream> = streams.collect();
        let mut mangler = Mangler::new(plan.trouble, plan.seed.wrapping_add(salt << 32));
        mangler.sent.exporters = streams.len() as u64;
        Self {
            mangler,
            streams,
            lanes: layout.lanes.iter().map(|l| Lane { first: l.first, end: l.end, next: l.first }).collect(),
            turn: 0,
            start_us,
            domain: plan.domain,
            sampling: plan.options.unwrap_or(0),
            refresh: if plan.refresh == 0 { u64::MAX } else { plan.refresh },
            ring,
        }
    }

    /// Makes up to `budget` messages of the next lane; each of its exporters makes `run` of them before the next does.
    pub fn fill(&mut self, budget: usize, run: usize, elapsed_us: i64, out: &mut Vec<Entry>) -> Made {
        self.ring.restamp(elapsed_us);
        let moment = Moment::after(self.start_us, elapsed_us);
        let lane = self.turn;
        self.turn = (self.turn + 1) % self.lanes.len();
        let mut made = Made { lane, messages: 0, records: 0 };
        while made.messages < budget {
            let place = &mut self.lanes[lane];
            let stream = place.next;
            place.next = if stream + 1 == place.end { place.first } else { stream + 1 };
            for _ in 0..run.min(budget - made.messages) {
                made.messages += 1;
                made.records += u64::from(self.make(stream, moment, out));
            }
        }
        made
    }

    /// Makes the next message of a stream; gives its records.
    #[inline]
    fn make(&mut self, at: u32, moment: Moment, out: &mut Vec<Entry>) -> u32 {
        let stream = &mut self.streams[at as usize];
        let kind = &self.ring.kinds[stream.kind as usize];
        let body_at = if stream.until_refresh == 0 && !kind.announcements.is_empty() {
            let announcement = kind.announcements.start + stream.announced;
            stream.announced += 1;
            if stream.announced == kind.announcements.end - kind.announcements.start {
                (stream.announced, stream.until_refresh) = (0, self.refresh);
            }
            announcement
        } else {
            let body = stream.cursor;
            stream.cursor = if body + 1 == kind.data.end { kind.data.start } else { body + 1 };
            stream.until_refresh = stream.until_refresh.wrapping_sub(1);
            body
        };
        let body = &self.ring.bodies[body_at as usize];
        let mut head = [0; HEADER_ROOM];
        let fields = HeaderFields { sequence: stream.sequence, domain: self.domain, sampling: self.sampling };
        body.header(kind.protocol, moment, fields, &mut head);
        stream.sequence = stream.sequence.wrapping_add(body.sums.units);
        let records = body.sums.records;
        let entry = Entry { stream: at, body: body_at, head_len: kind.protocol.header_len() as u8, head };
        self.mangler.offer(&mut stream.limbo, entry, &self.ring.bodies, out);
        records
    }

    /// What is still under way in a lane.
    pub fn finish(&mut self, lane: usize, out: &mut Vec<Entry>) {
        let Lane { first, end, .. } = self.lanes[lane];
        for stream in &mut self.streams[first as usize..end as usize] {
            self.mangler.finish(&mut stream.limbo, &self.ring.bodies, out);
        }
    }

    /// How many lanes there are.
    pub fn lanes(&self) -> usize {
        self.lanes.len()
    }
}

/// The ring of a plan that can be sent.
pub(crate) fn ring(plan: &Plan, start_us: i64) -> Result<Ring, Error> {
    plan.check()?;
    Ring::new(plan, start_us)
}
