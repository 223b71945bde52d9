//! What sequence numbers say about loss, in the protocol's own unit.

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

/// What the count of a message said once its last set was decoded late.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Settled {
    /// Not all is known yet, or nobody asks any more.
    No,
    /// The next message has not come: it can be judged like any other.
    InTime,
    /// The next message was unverifiable and turns out to follow after so many missing units.
    Gap(u32),
}

/// Numbers kept to know a duplicate by.
const RECENT: usize = 16;
/// A step ahead of more units than this is a reset, not a loss.
const MAX_GAP: u32 = 1 << 24;
/// How many messages of the largest recent size a reordered one can be behind.
const WINDOW: u32 = 64;
/// An uptime that went back by more than messages overtake each other by, in milliseconds, is a restart.
const OVERTAKE_MS: u32 = 30_000;
/// Messages with sets not decoded yet that are remembered at most.
const MAX_OPEN: usize = 64;

/// A message of which not all units are known.
#[derive(Clone, Copy, Debug)]
struct Open {
    message: u64,
    // The number after the units that are known.
    expected: u32,
    // Sets still to come.
    sets: u32,
    // The number of the message after it.
    next: Option<u32>,
}

/// The sequence of one stream: v5 and v7 count flows, v9 messages, IPFIX data records.
#[derive(Clone, Debug, Default)]
pub(super) struct Sequence {
    expected: u32,
    // Whether `expected` is what the next message must say: all units of the last one are known, and no reset is
    // in doubt.
    sure: bool,
    started: bool,
    known: bool,
    uptime: u32,
    recent: [u32; RECENT],
    seen: usize,
    // The most units that a recent message held, for how far back a reordered one can be.
    units: u32,
    // Units missing in gaps that reordered messages may still fill.
    missing: u32,
    // Before a reset that one stray message could have feigned: what was expected then.
    before_reset: Option<u32>,
    open: Vec<Open>,
}

/// The units of a message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Units {
    /// A number that names the message to [`Sequence::settle`].
    pub(super) message: u64,
    /// Units that are known.
    pub(super) known: u32,
    /// Sets that may be decoded later.
    pub(super) held: u32,
    /// Whether some units can never be known.
    pub(super) lost: bool,
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

    /// Takes a message's number and what it holds.
    #[inline]
    pub(super) fn step(&mut self, number: u32, units: &Units, uptime: Option<u32>) -> SequenceEvent {
        let whole = units.held == 0 && !units.lost;
        if !(self.is_next(number) && whole) {
            return self.judge(number, units, uptime);
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
        self.recent[self.seen % RECENT] = number;
        self.seen += 1;
    }

    #[cold]
    fn judge(&mut self, number: u32, units: &Units, uptime: Option<u32>) -> SequenceEvent {
        let event = self.event(number, units.known, uptime);
        if matches!(event, SequenceEvent::Reordered(_) | SequenceEvent::Duplicate) {
            self.remember(number, units.known);
            return event;
        }
        if let (false, Some(open)) = (self.known, self.open.last_mut().filter(|o| o.next.is_none())) {
            open.next = Some(number);
        }
        self.commit(number, units.known, uptime);
        self.started = true;
        self.known = units.held == 0 && !units.lost;
        if units.held > 0 && !units.lost {
            if self.open.len() >= MAX_OPEN {
                self.open.remove(0);
            }
            self.open.push(Open { message: units.message, expected: self.expected, sets: units.held, next: None });
        }
        self.sure = self.known && self.before_reset.is_none();
        event
    }

    fn event(&mut self, number: u32, units: u32, uptime: Option<u32>) -> SequenceEvent {
        if !self.started {
            return SequenceEvent::InOrder;
        }
        let ahead = number.wrapping_sub(self.expected);
        if self.restarted(uptime) {
            (self.missing, self.before_reset) = (0, None);
            return SequenceEvent::Reset;
        }
        if ahead == 0 {
            self.before_reset = None;
            return if self.known { SequenceEvent::InOrder } else { SequenceEvent::Unverifiable };
        }
        if let Some(old) = self.before_reset.take() {
            // A stray message looked like a reset: the exporter goes on where it was.
            let on = number.wrapping_sub(old);
            if on < ahead && on <= MAX_GAP {
                self.missing = self.missing.saturating_add(on);
                return if on == 0 { SequenceEvent::InOrder } else { SequenceEvent::Gap(on) };
            }
        }
        if self.recent.iter().take(self.seen).any(|&n| n == number) {
            return SequenceEvent::Duplicate;
        }
        if ahead <= MAX_GAP {
            self.missing = self.missing.saturating_add(ahead);
            return if self.known { SequenceEvent::Gap(ahead) } else { SequenceEvent::Unverifiable };
        }
        let back = ahead.wrapping_neg();
        if back <= self.units.max(1).saturating_mul(WINDOW) && self.missing >= units.max(1) {
            self.missing -= units;
            return SequenceEvent::Reordered(units);
        }
        self.missing = 0;
        self.before_reset = Some(self.expected);
        SequenceEvent::Reset
    }

    /// Whether the uptime says that the exporter started anew; its wrap after 49.7 days says nothing.
    fn restarted(&self, uptime: Option<u32>) -> bool {
        uptime.is_some_and(|u| {
            u < self.uptime && self.uptime - u > OVERTAKE_MS && u.wrapping_sub(self.uptime) > 120 * OVERTAKE_MS
        })
    }

    /// Takes the units of a set that was decoded after its message.
    #[cold]
    pub(super) fn settle(&mut self, message: u64, units: u32, whole: bool) -> Settled {
        let Some(at) = self.open.iter().position(|o| o.message == message) else { return Settled::No };
        let open = &mut self.open[at];
        open.expected = open.expected.wrapping_add(units);
        open.sets = open.sets.saturating_sub(1);
        if !whole {
            self.open.remove(at);
            return Settled::No;
        }
        if open.sets > 0 {
            return Settled::No;
        }
        let open = self.open.remove(at);
        match open.next {
            None => {
                (self.expected, self.known) = (open.expected, true);
                self.sure = self.before_reset.is_none();
                Settled::InTime
            }
            Some(next) => match next.wrapping_sub(open.expected) {
                gap if gap <= MAX_GAP => Settled::Gap(gap),
                _ => Settled::No,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(known: u32) -> Units {
        Units { message: 0, known, held: 0, lost: false }
    }

    #[test]
    fn gaps_reorders_duplicates_and_resets_are_told_apart() {
        let mut s = Sequence::default();
        let mut step = |n, u| s.step(n, &whole(u), Some(1000));
        assert_eq!(step(100, 30), SequenceEvent::InOrder);
        assert_eq!(step(130, 30), SequenceEvent::InOrder);
        assert_eq!(step(220, 30), SequenceEvent::Gap(60));
        assert_eq!(step(190, 30), SequenceEvent::Reordered(30));
        assert_eq!(step(190, 30), SequenceEvent::Duplicate);
        assert_eq!(step(250, 30), SequenceEvent::InOrder);
        assert_eq!(step(4_000_000_000, 30), SequenceEvent::Reset);
        assert_eq!(step(4_000_000_030, 30), SequenceEvent::InOrder);
        assert_eq!(step(4_000_000_060, 30), SequenceEvent::InOrder);
    }

    #[test]
    fn the_counter_wraps() {
        let mut s = Sequence::default();
        assert_eq!(s.step(u32::MAX - 9, &whole(10), None), SequenceEvent::InOrder);
        assert_eq!(s.step(0, &whole(10), None), SequenceEvent::InOrder);
        assert_eq!(s.step(10, &whole(10), None), SequenceEvent::InOrder);
    }

    #[test]
    fn an_undecodable_set_is_no_loss() {
        let mut s = Sequence::default();
        let held = Units { message: 1, known: 0, held: 1, lost: false };
        assert_eq!(s.step(0, &held, None), SequenceEvent::InOrder);
        assert_eq!(s.step(25, &whole(5), None), SequenceEvent::Unverifiable);
        assert_eq!(s.step(30, &whole(5), None), SequenceEvent::InOrder);
        assert_eq!(s.settle(1, 25, true), Settled::Gap(0));
    }

    #[test]
    fn a_set_decoded_late_shows_a_loss_after_it() {
        let mut s = Sequence::default();
        assert_eq!(s.step(0, &Units { message: 1, known: 2, held: 2, lost: false }, None), SequenceEvent::InOrder);
        assert_eq!(s.step(25, &whole(5), None), SequenceEvent::Unverifiable);
        assert_eq!(s.settle(1, 10, true), Settled::No);
        assert_eq!(s.settle(1, 10, true), Settled::Gap(3));
        assert_eq!(s.settle(1, 10, true), Settled::No);
    }

    #[test]
    fn a_set_decoded_before_the_next_message_leaves_no_doubt() {
        let mut s = Sequence::default();
        assert_eq!(s.step(0, &Units { message: 1, known: 0, held: 1, lost: false }, None), SequenceEvent::InOrder);
        assert_eq!(s.settle(1, 10, true), Settled::InTime);
        assert_eq!(s.step(10, &whole(5), None), SequenceEvent::InOrder);
        assert_eq!(s.step(16, &whole(5), None), SequenceEvent::Gap(1));
    }

    #[test]
    fn an_exporter_that_restarts_is_no_loss() {
        let mut s = Sequence::default();
        s.step(1000, &whole(1), Some(9_000_000));
        assert_eq!(s.step(1, &whole(1), Some(5_000)), SequenceEvent::Reset);
        assert_eq!(s.step(2, &whole(1), Some(6_000)), SequenceEvent::InOrder);
    }

    #[test]
    fn the_wrap_of_the_uptime_is_no_restart() {
        let mut s = Sequence::default();
        s.step(1000, &whole(1), Some(u32::MAX - 500));
        assert_eq!(s.step(1002, &whole(1), Some(5_000)), SequenceEvent::Gap(1));
    }

    #[test]
    fn one_stray_message_is_no_gap() {
        let mut s = Sequence::default();
        s.step(1_000_000, &whole(10), None);
        assert_eq!(s.step(7, &whole(10), None), SequenceEvent::Reset);
        assert_eq!(s.step(1_000_010, &whole(10), None), SequenceEvent::InOrder);
        assert_eq!(s.step(1_000_020, &whole(10), None), SequenceEvent::InOrder);
    }

    #[test]
    fn templates_alone_do_not_move_the_number() {
        let mut s = Sequence::default();
        for _ in 0..3 {
            assert_eq!(s.step(40, &whole(0), None), SequenceEvent::InOrder);
        }
        assert_eq!(s.step(40, &whole(3), None), SequenceEvent::InOrder);
        assert_eq!(s.step(43, &whole(3), None), SequenceEvent::InOrder);
    }
}
