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

const RECENT: usize = 16;
/// A step ahead of more units than this is a reset, not a loss.
const MAX_GAP: u32 = 1 << 24;

/// The sequence of one stream: v5 and v7 count flows, v9 messages, IPFIX data records.
#[derive(Clone, Debug, Default)]
pub(super) struct Sequence {
    expected: Option<u32>,
    known: bool,
    recent: [u32; RECENT],
    seen: usize,
    // The most units that a recent message held, for how far back a reordered one can be.
    units: u32,
    uptime: u32,
}

impl Sequence {
    /// Takes a message's number and the units it holds; `complete` where all of them are known.
    #[inline]
    pub(super) fn step(&mut self, number: u32, units: u32, complete: bool, uptime: Option<u32>) -> SequenceEvent {
        let event = match self.expected {
            Some(expected) if expected == number && self.known => SequenceEvent::InOrder,
            Some(expected) => self.judge(expected, number, units, uptime),
            None => SequenceEvent::InOrder,
        };
        if !matches!(event, SequenceEvent::Reordered(_) | SequenceEvent::Duplicate) {
            self.expected = Some(number.wrapping_add(units));
            self.known = complete;
            self.uptime = uptime.unwrap_or(0);
        }
        self.units = units.max(self.units / 2);
        self.recent[self.seen % RECENT] = number;
        self.seen += 1;
        event
    }

    #[cold]
    fn judge(&self, expected: u32, number: u32, units: u32, uptime: Option<u32>) -> SequenceEvent {
        let ahead = number.wrapping_sub(expected);
        // An uptime that went back by more than messages overtake each other by is a restart.
        let restarted = uptime.is_some_and(|u| u < self.uptime && self.uptime - u > 30_000 && u < 1 << 31);
        if restarted {
            return SequenceEvent::Reset;
        }
        let recent = &self.recent[..self.seen.min(RECENT)];
        if self.units > 0 && recent.contains(&number) && number != expected {
            return SequenceEvent::Duplicate;
        }
        if !self.known {
            return SequenceEvent::Unverifiable;
        }
        let back = ahead.wrapping_neg();
        if ahead < 1 << 31 {
            return if ahead <= MAX_GAP { SequenceEvent::Gap(ahead) } else { SequenceEvent::Reset };
        }
        if back <= self.units.max(1).saturating_mul(64) {
            SequenceEvent::Reordered(units)
        } else {
            SequenceEvent::Reset
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_reorders_duplicates_and_resets_are_told_apart() {
        let mut s = Sequence::default();
        let mut step = |n, u| s.step(n, u, true, Some(1000));
        assert_eq!(step(100, 30), SequenceEvent::InOrder);
        assert_eq!(step(130, 30), SequenceEvent::InOrder);
        assert_eq!(step(220, 30), SequenceEvent::Gap(60));
        assert_eq!(step(190, 30), SequenceEvent::Reordered(30));
        assert_eq!(step(190, 30), SequenceEvent::Duplicate);
        assert_eq!(step(250, 30), SequenceEvent::InOrder);
        assert_eq!(step(5, 30), SequenceEvent::Reordered(30));
        assert_eq!(step(4_000_000_000, 30), SequenceEvent::Reset);
        assert_eq!(step(4_000_000_030, 30), SequenceEvent::InOrder);
    }

    #[test]
    fn the_counter_wraps() {
        let mut s = Sequence::default();
        assert_eq!(s.step(u32::MAX - 9, 10, true, None), SequenceEvent::InOrder);
        assert_eq!(s.step(0, 10, true, None), SequenceEvent::InOrder);
    }

    #[test]
    fn an_undecodable_set_is_no_loss() {
        let mut s = Sequence::default();
        assert_eq!(s.step(0, 0, false, None), SequenceEvent::InOrder);
        assert_eq!(s.step(25, 5, true, None), SequenceEvent::Unverifiable);
        assert_eq!(s.step(30, 5, true, None), SequenceEvent::InOrder);
    }

    #[test]
    fn an_exporter_that_restarts_is_no_loss() {
        let mut s = Sequence::default();
        s.step(1000, 1, true, Some(9_000_000));
        assert_eq!(s.step(1, 1, true, Some(5_000)), SequenceEvent::Reset);
    }
}
