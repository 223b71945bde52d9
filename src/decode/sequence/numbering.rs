//! Whether an exporter numbers its messages by where they start, as RFC 7011 section 3.1 says, or by where they end, as
//! softflowd does.

use super::{Correction, RECENT, Sequence, SequenceEvent, Units};

/// So many messages in a row that only the other numbering explains settle it.
const ENOUGH: u8 = 3;

/// Messages that look as if they were numbered otherwise.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Trial {
    hits: u8,
    // Messages so far when the last of them came.
    seen: u32,
    // What they were counted as, to be taken back.
    counted: Correction,
}

/// What a message says about the numbering.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sign {
    /// Nothing: it holds no unit.
    None,
    /// The other numbering explains it by the message before.
    Other,
    /// It does not, or messages since the last sign that were in order by this one were not by the other.
    This,
}

impl Sequence {
    /// Whether the other numbering explains a message by the one that came before it.
    pub(super) fn read_sign(&self, number: u32, units: &Units) -> Sign {
        let Some(last) = self.recent().next() else { return Sign::This };
        let step = number.wrapping_sub(last);
        let other = match self.at_end {
            false => step == units.known || step == units.known - units.options,
            // The last message ended at `last` and its units; by the other numbering that is where it started.
            true => step == self.tail_units.wrapping_mul(2),
        };
        match self.trial.as_ref() {
            Some(trial) if !self.is_even(trial.seen) => Sign::This,
            _ if units.are_none() => Sign::None,
            _ if units.are_known() && other => Sign::Other,
            _ => Sign::This,
        }
    }

    /// Finds the place of a message that ends at `number`.
    pub(super) fn place_by_end(
        &mut self,
        number: u32,
        units: &Units,
        uptime: Option<u32>,
        fix: &mut Correction,
    ) -> SequenceEvent {
        if !units.are_known() {
            // Where it started is not known, but where the next one does.
            self.follow(number, &Units { known: 0, held: 0, lost: false, ..*units }, uptime);
            self.remember(number, 0);
            self.tail_units = 0;
            return SequenceEvent::Unverifiable;
        }
        // softflowd does not count options records.
        let all = number.wrapping_sub(units.known) == self.expected;
        let known = if all { units.known } else { units.known - units.options };
        let units = Units { known, ..*units };
        if !units.are_none() {
            self.tail_units = known;
        }
        self.place(number.wrapping_sub(known), &units, uptime, fix)
    }

    /// Whether all messages that were in order since so many were seen held as many units as the one before: both
    /// numberings explain such.
    fn is_even(&self, since: u32) -> bool {
        let count = self.seen.wrapping_sub(since).min(RECENT as u32 - 1);
        let (mut later, mut first) = (self.expected, None);
        count == 0
            || self.recent().take(count as usize + 1).all(|start| {
                let step = later.wrapping_sub(start);
                later = start;
                *first.get_or_insert(step) == step
            })
    }

    /// Counts what speaks for the other numbering; true where it is enough. What was counted for want of it is taken back
    /// then.
    pub(super) fn weigh(&mut self, sign: Sign, event: SequenceEvent, own: Correction, fix: &mut Correction) -> bool {
        if sign == Sign::This {
            self.trial = None;
            return false;
        }
        let in_order = event == SequenceEvent::InOrder;
        if in_order && self.trial.is_none() {
            return false;
        }
        let seen = self.seen;
        let trial = self.trial.get_or_insert_default();
        trial.seen = seen;
        trial.hits += u8::from(sign == Sign::Other && !in_order);
        trial.counted += own;
        if trial.hits < ENOUGH {
            trial.counted += event.counted();
            return false;
        }
        *fix += trial.counted.negated();
        true
    }
}

impl SequenceEvent {
    /// What a message of which this is said adds to the counts.
    pub(in crate::decode) fn counted(self) -> Correction {
        let mut counted = Correction::default();
        match self {
            Self::InOrder => {}
            Self::Gap(units) => (counted.lost, counted.gaps) = (units.into(), 1),
            Self::Reordered(units) => (counted.lost, counted.reordered) = (-i64::from(units), 1),
            Self::Duplicate => counted.duplicates = 1,
            Self::Reset => counted.resets = 1,
            Self::Unverifiable => counted.unverifiable = 1,
        }
        counted
    }
}
