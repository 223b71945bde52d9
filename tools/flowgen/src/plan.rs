//! What is to be sent: the plan, and the ring of encoded messages made from it.

use crate::encode::{self, Body, Moment, UPTIME_MS};
use crate::error::Error;
use crate::protocol::Protocol;
use crate::template::{Layout, Template};
use crate::traffic::{HOSTS, Traffic};
use crate::trouble::Trouble;
use std::ops::Range;

/// What is to be sent, by whom, and what goes wrong with it.
///
/// ```
/// use flowgen::{Plan, Protocol, Template};
///
/// let plan = Plan { protocols: vec![Protocol::Ipfix], templates: vec![Template::Ipv6], ..Plan::default() };
/// let (datagrams, sent) = flowgen::memory(&plan, 100)?;
/// assert_eq!((datagrams.len() as u64, sent.missing), (sent.datagrams, 0));
/// # Ok::<(), flowgen::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Plan {
    /// Protocols; exporters take them in turn.
    pub protocols: Vec<Protocol>,
    /// Templates of v9 and IPFIX; messages take them in turn.
    pub templates: Vec<Template>,
    /// Layouts of each template, 1 to 13: the same fields in other orders, each layout with an id of its own.
    pub layouts: u16,
    /// Records of a message; without a number, as many as an Ethernet frame has room for and at most 30. The fixed
    /// formats never have more than they may: 24 (v1), 30 (v5), 27 (v7).
    pub records: Option<u16>,
    /// Exporters, each with an address of its own where the way there allows it.
    pub exporters: u32,
    /// Source ports of each exporter; each has sequence numbers of its own.
    pub ports: u16,
    /// Announce a sampling rate of 1 in so many and the names of interfaces as options data; v5 puts it in its header.
    pub options: Option<u16>,
    /// Send templates (and options) again after so many messages; 0 sends them once.
    pub refresh: u64,
    /// Different messages to encode in all; they are sent again and again, with numbers and times of their own.
    pub distinct: u32,
    /// The observation domain, or source id, of all exporters.
    pub domain: u32,
    /// Hosts inside, and as many outside: few of them have most flows.
    pub hosts: u32,
    /// What flows and troubles follow from.
    pub seed: u64,
    /// Loss, reordering, duplication.
    pub trouble: Trouble,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            protocols: vec![Protocol::V9],
            templates: vec![Template::Basic14],
            layouts: 1,
            records: None,
            exporters: 1,
            ports: 1,
            options: None,
            refresh: 1000,
            distinct: 1024,
            domain: 1,
            hosts: HOSTS,
            seed: 1,
            trouble: Trouble::default(),
        }
    }
}

/// The messages of one protocol.
#[derive(Clone, Debug)]
pub(crate) struct Kind {
    pub protocol: Protocol,
    /// Bodies of data.
    pub data: Range<u32>,
    /// The bodies that announce templates; none in v1, v5 and v7.
    pub announcements: Range<u32>,
}

/// All messages, encoded once.
#[derive(Clone, Debug)]
pub(crate) struct Ring {
    pub bodies: Vec<Body>,
    pub kinds: Vec<Kind>,
    /// The time that stands in the bodies, microseconds after the start.
    stamped_us: i64,
}

/// How old the times in a ring may get.
const RESTAMP_US: i64 = 1_000_000;

impl Ring {
    /// The ring of a plan that starts at a time, in microseconds since 1970.
    pub fn new(plan: &Plan, start_us: i64) -> Result<Self, Error> {
        let moment = Moment { unix_us: start_us, uptime_ms: UPTIME_MS };
        let mut ring = Self { bodies: Vec::new(), kinds: Vec::new(), stamped_us: 0 };
        let layouts = Layout::all(&plan.templates, plan.layouts);
        let share = (plan.distinct as usize).div_ceil(plan.protocols.len()).max(1);
        for (&protocol, seed) in plan.protocols.iter().zip(plan.seed..) {
            let mut traffic = Traffic::new(seed, plan.hosts);
            let mut data = Vec::with_capacity(share);
            // Every layout has data, however few messages are asked for.
            for &layout in layouts.iter().cycle().take(share.max(layouts.len())) {
                let body = encode::data(protocol, layout, plan.records, moment, &mut traffic);
                data.push(body.map_err(Error::Asked)?);
            }
            if protocol.has_templates() && plan.templates.contains(&Template::Variable) {
                // A train of UDP_SEGMENT takes datagrams of one length; those of the same length stand together.
                data.sort_by_key(|body| body.bytes.len());
            }
            let first = ring.bodies.len() as u32;
            ring.bodies.append(&mut data);
            let end = ring.bodies.len() as u32;
            if let Some(dialect) = protocol.dialect() {
                let options = plan.options.map(|interval| (plan.domain, u32::from(interval)));
                ring.bodies.append(&mut encode::announcements(dialect, &layouts, options, moment));
            }
            let announcements = end..ring.bodies.len() as u32;
            ring.kinds.push(Kind { protocol, data: first..end, announcements });
        }
        Ok(ring)
    }

    /// Moves the times of the flows, if they have become old.
    #[inline]
    pub fn restamp(&mut self, elapsed_us: i64) {
        if elapsed_us - self.stamped_us >= RESTAMP_US {
            // Whole milliseconds: the finest that a record holds.
            let by_ms = (elapsed_us - self.stamped_us) / 1000;
            self.bodies.iter_mut().for_each(|body| body.advance(by_ms as u32));
            self.stamped_us += by_ms * 1000;
        }
    }
}

impl Plan {
    pub(crate) fn check(&self) -> Result<(), Error> {
        let share = |x: f64| (0.0..=1.0).contains(&x);
        let Trouble { loss, reorder, duplicate } = self.trouble;
        if self.protocols.is_empty() || self.templates.is_empty() {
            return Err(Error::asked("a plan needs a protocol and a template"));
        }
        if self.exporters == 0 || self.ports == 0 || self.records == Some(0) || self.distinct == 0 {
            return Err(Error::asked("exporters, ports, records and distinct messages are numbers from 1"));
        }
        if !(1..=Layout::MOST).contains(&self.layouts) {
            return Err(Error::asked(format!("a template has 1 to {} layouts", Layout::MOST)));
        }
        if u64::from(self.exporters) * u64::from(self.ports) > 1 << 22 {
            return Err(Error::asked("at most 4194304 exporters, their ports counted"));
        }
        if !(share(loss) && share(reorder) && share(duplicate) && loss + reorder + duplicate <= 1.0) {
            return Err(Error::asked("loss, reordering and duplication together are at most 100%"));
        }
        Ok(())
    }
}
