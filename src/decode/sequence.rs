//! What sequence numbers say about loss, in the protocol's own unit.
//!
//! A message covers the units from its number on. What lies between two messages is a hole ([`holes`]): lost, until a
//! message that was overtaken fills it; or in doubt, while a set of the message before it waits for its template.

mod holes;
mod numbering;
#[cfg(test)]
mod tests;

use holes::{Filled, Hole, Holes};
use numbering::Trial;
use std::ops::AddAssign;

/// What a message's sequence number said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum SequenceEvent {
    /// The first message, or one in order; v1, which has no number.
    #[default]
    InOrder,
    /// This many units are missing before the message.
    Gap(u32),
    /// The message was sent before one that came earlier; so many units of a gap are here after all.
    Reordered(u32),
    /// The message came twice; its records are kept all the same.
    Duplicate,
    /// The exporter started to count anew.
    Reset,
    /// What came before is not known in units: a set of the message before could not be decoded yet.
    Unverifiable,
}

/// What a message, or a set decoded late, changes in the counts of messages before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Correction {
    pub(super) lost: i64,
    pub(super) gaps: i64,
    pub(super) reordered: i64,
    pub(super) duplicates: i64,
    pub(super) resets: i64,
    pub(super) unverifiable: i64,
}

impl Correction {
    fn negated(self) -> Self {
        Self {
            lost: -self.lost,
            gaps: -self.gaps,
            reordered: -self.reordered,
            duplicates: -self.duplicates,
            resets: -self.resets,
            unverifiable: -self.unverifiable,
        }
    }
}

impl AddAssign for Correction {
    fn add_assign(&mut self, other: Self) {
        self.lost += other.lost;
        self.gaps += other.gaps;
        self.reordered += other.reordered;
        self.duplicates += other.duplicates;
        self.resets += other.resets;
        self.unverifiable += other.unverifiable;
    }
}

/// Numbers kept to know a duplicate by.
const RECENT: usize = 16;
/// A step ahead of more units than this is a reset, not a loss.
const MAX_GAP: u32 = 1 << 24;
/// How many messages a reordered one can be behind.
const WINDOW: u32 = 64;
/// An uptime that went back by more than messages overtake each other by, in milliseconds, is a restart.
const OVERTAKE_MS: u32 = 30_000;
/// Messages with sets not decoded yet that are remembered at most.
const MAX_OPEN: usize = 64;

/// A message of which not all units are known.
#[derive(Clone, Copy, Debug)]
struct Open {
    message: u64,
    // Sets still to come.
    sets: u32,
}

/// Where the messages so far end.
#[derive(Clone, Copy, Debug)]
struct Tail {
    expected: u32,
    known: bool,
    open: Option<u64>,
}

/// The sequence of one stream: v5 and v7 count flows, v9 messages, IPFIX data records.
#[derive(Clone, Debug, Default)]
pub(super) struct Sequence {
    expected: u32,
    // Whether `expected` is what the next message must say: all units of the last one are known, no reset is in doubt,
    // and numbers are those of a message's start.
    sure: bool,
    started: bool,
    known: bool,
    // Whether this exporter numbers messages by their ends.
    at_end: bool,
    uptime: u32,
    // Where messages with units started, in the order they came.
    recent: [u32; RECENT],
    seen: u32,
    // Those before this one were before a reset.
    forgotten: u32,
    // The most units that a recent message held, for how far back a reordered one can be.
    units: u32,
    // The message that ends at `expected`, while it is open.
    tail_open: Option<u64>,
    // Before a reset that one stray message could have feigned.
    before_reset: Option<Tail>,
    holes: Holes,
    open: Vec<Open>,
    trial: Option<Box<Trial>>,
    // Units of the last message, where numbers are those of ends.
    tail_units: u32,
}

/// The units of a message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Units {
    /// A number, from 1 on, that names the message to [`Sequence::settle`].
    pub(super) message: u64,
    /// Units that are known.
    pub(super) known: u32,
    /// Of them, options records.
    pub(super) options: u32,
    /// Sets that may be decoded later.
    pub(super) held: u32,
    /// Whether some units can never be known.
    pub(super) lost: bool,
}

impl Units {
    fn are_known(&self) -> bool {
        self.held == 0 && !self.lost
    }

    /// Whether the message has the same number as the one after it: one of templates alone.
    fn are_none(&self) -> bool {
        self.known == 0 && self.are_known()
    }
}

impl Sequence {
    /// Whether this is the number that must come next.
    #[inline]
    pub(super) fn is_next(&self, number: u32) -> bool {
        self.sure && number == self.expected
    }

    /// Takes the number that must come next, of a message of which all units are known.
    #[inline]
    pub(super) fn next(&mut self, number: u32, units: u32, uptime: Option<u32>) {
        self.commit(number, units, uptime);
    }

    /// Takes a message's number and what it holds; what it says of messages before goes to `fix`.
    #[inline]
    pub(super) fn step(
        &mut self,
        number: u32,
        units: &Units,
        uptime: Option<u32>,
        fix: &mut Correction,
    ) -> SequenceEvent {
        if !(self.is_next(number) && units.are_known() && units.known > 0) {
            return self.judge(number, units, uptime, fix);
        }
        self.commit(number, units.known, uptime);
        SequenceEvent::InOrder
    }

    #[inline]
    fn commit(&mut self, number: u32, units: u32, uptime: Option<u32>) {
        self.expected = number.wrapping_add(units);
        self.uptime = uptime.unwrap_or(0);
        self.remember(number, units);
    }

    #[inline]
    fn remember(&mut self, number: u32, units: u32) {
        self.units = units.max(self.units / 2);
        self.recent[self.seen as usize % RECENT] = number;
        self.seen = self.seen.wrapping_add(1);
    }

    /// Remembers a message by its number, if it surely has a unit: one that may have none shares the number with the next,
    /// which is no duplicate then.
    fn note(&mut self, start: u32, units: &Units) {
        if units.known > 0 || units.held > 0 {
            self.remember(start, units.known);
        }
    }

    #[cold]
    fn judge(&mut self, number: u32, units: &Units, uptime: Option<u32>, fix: &mut Correction) -> SequenceEvent {
        let mut own = Correction::default();
        let sign = self.read_sign(number, units);
        let mut event = match self.at_end {
            false => self.place(number, units, uptime, &mut own),
            true => self.place_by_end(number, units, uptime, &mut own),
        };
        *fix += own;
        if self.weigh(sign, event, own, fix) {
            self.at_end = !self.at_end;
            self.forget();
            // As what comes first: what it was placed by is void.
            self.expected = number.wrapping_sub(units.known - units.options);
            self.known = true;
            event = match self.at_end {
                true => self.place_by_end(number, units, uptime, fix),
                false => self.follow(number, units, uptime),
            };
        }
        event
    }

    /// Finds the place of a message that starts at `start`.
    fn place(&mut self, start: u32, units: &Units, uptime: Option<u32>, fix: &mut Correction) -> SequenceEvent {
        if !self.started {
            self.started = true;
            // What was sent before the first message may come yet.
            let before = units.known.max(1).saturating_mul(RECENT as u32);
            self.holes.add(Hole::before(start, before, self.seen.wrapping_add(RECENT as u32)));
            return self.follow(start, units, uptime);
        }
        if self.restarted(uptime) {
            self.forget();
            self.follow(start, units, uptime);
            return SequenceEvent::Reset;
        }
        if let Some(old) = self.before_reset.take() {
            let (ahead, on) = (start.wrapping_sub(self.expected), start.wrapping_sub(old.expected));
            if ahead != 0 && on < ahead && on <= MAX_GAP {
                // A stray message looked like a reset: the exporter goes on where it was.
                (self.expected, self.known, self.tail_open) = (old.expected, old.known, old.open);
            } else {
                self.forget_before_last();
            }
        }
        let ahead = start.wrapping_sub(self.expected);
        if ahead == 0 && self.known {
            return self.follow(start, units, uptime);
        }
        if units.are_none() && ahead.wrapping_neg() <= self.reach() {
            // One without units is known by its number alone, which is also that of the next.
            return SequenceEvent::Reordered(0);
        }
        if !units.are_none() && self.recent().any(|n| n == start) {
            self.note(start, units);
            return SequenceEvent::Duplicate;
        }
        if ahead <= MAX_GAP {
            let (from, known) = (self.expected, self.known);
            let until = self.seen.wrapping_add(WINDOW);
            match known {
                true => self.holes.add(Hole::lost(from, start, until)),
                false => self.holes.add(Hole::in_doubt(from, start, until, self.tail_open)),
            }
            self.follow(start, units, uptime);
            return if known { SequenceEvent::Gap(ahead) } else { SequenceEvent::Unverifiable };
        }
        let filled = if units.are_none() { None } else { self.holes.fill(start, units, self.seen, fix) };
        if let Some(Filled { lost }) = filled {
            self.note(start, units);
            self.open(units);
            return SequenceEvent::Reordered(lost);
        }
        self.before_reset = Some(Tail { expected: self.expected, known: self.known, open: self.tail_open });
        self.follow(start, units, uptime);
        SequenceEvent::Reset
    }

    /// The message is the last in the sequence.
    fn follow(&mut self, start: u32, units: &Units, uptime: Option<u32>) -> SequenceEvent {
        self.expected = start.wrapping_add(units.known);
        self.uptime = uptime.unwrap_or(0);
        self.note(start, units);
        self.known = units.are_known();
        self.tail_open = self.open(units);
        self.sure = self.known && self.before_reset.is_none() && !self.at_end;
        SequenceEvent::InOrder
    }

    /// Remembers a message of which sets may be decoded later.
    fn open(&mut self, units: &Units) -> Option<u64> {
        if units.held == 0 || units.lost {
            return None;
        }
        if self.open.len() >= MAX_OPEN {
            self.open.remove(0);
        }
        self.open.push(Open { message: units.message, sets: units.held });
        Some(units.message)
    }

    /// The starts of the last messages with units, the latest first.
    fn recent(&self) -> impl Iterator<Item = u32> {
        let count = self.seen.wrapping_sub(self.forgotten).min(RECENT as u32);
        (1..=count).map(|back| self.recent[self.seen.wrapping_sub(back) as usize % RECENT])
    }

    /// How many units back a message can come late.
    fn reach(&self) -> u32 {
        self.units.max(1).saturating_mul(WINDOW)
    }

    /// The messages before mean nothing for those to come.
    fn forget(&mut self) {
        (self.forgotten, self.before_reset, self.trial) = (self.seen, None, None);
        self.holes = Holes::default();
        self.open = Vec::new();
    }

    /// The reset that the last message showed was one.
    fn forget_before_last(&mut self) {
        self.forgotten = self.seen.wrapping_sub(1);
        self.holes = Holes::default();
        self.open.retain(|o| Some(o.message) == self.tail_open);
    }

    /// Whether the uptime says that the exporter started anew; its wrap after 49.7 days says nothing.
    fn restarted(&self, uptime: Option<u32>) -> bool {
        uptime.is_some_and(|u| {
            u < self.uptime && self.uptime - u > OVERTAKE_MS && u.wrapping_sub(self.uptime) > 120 * OVERTAKE_MS
        })
    }

    /// Takes the units of a set that was decoded after its message.
    #[cold]
    pub(super) fn settle(&mut self, message: u64, units: u32, whole: bool, fix: &mut Correction) {
        let Some(at) = self.open.iter().position(|o| o.message == message) else { return };
        let open = &mut self.open[at];
        open.sets = open.sets.saturating_sub(1);
        let done = open.sets == 0;
        if done || !whole {
            self.open.remove(at);
        }
        if self.tail_open == Some(message) {
            self.expected = self.expected.wrapping_add(units);
            if done || !whole {
                self.tail_open = None;
            }
            if done && whole {
                self.known = true;
                self.sure = self.before_reset.is_none() && !self.at_end;
            }
        } else if let Some(tail) = self.before_reset.as_mut().filter(|t| t.open == Some(message)) {
            tail.expected = tail.expected.wrapping_add(units);
            tail.known = done && whole;
            if done || !whole {
                tail.open = None;
            }
        } else {
            self.holes.settle(message, units, done && whole, fix);
        }
    }
}
