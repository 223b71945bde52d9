//! Units between messages that no message covered yet.

use super::{Correction, Units};

/// Holes that only messages which come late can fill, at most.
const MAX_LOST: usize = 16;
/// Holes at most.
const MAX_HOLES: usize = 64;

/// The units from one number to another, which may be the same.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hole {
    from: u32,
    to: u32,
    // The count of messages until which one that comes late can belong here.
    until: u32,
    what: What,
}

#[derive(Clone, Copy, Debug)]
enum What {
    /// Counted as lost.
    Lost,
    /// Perhaps units of the message before it, which is this one, or can never be known; whether the message after it
    /// is counted as unverifiable.
    Doubt { message: Option<u64>, counted: bool },
}

impl Hole {
    /// What is missing between two messages.
    pub(super) fn lost(from: u32, to: u32, until: u32) -> Self {
        Self { from, to, until, what: What::Lost }
    }

    /// What may be missing after a message of which not all units are known.
    pub(super) fn in_doubt(from: u32, to: u32, until: u32, message: Option<u64>) -> Self {
        Self { from, to, until, what: What::Doubt { message, counted: true } }
    }

    /// What may have been sent before the first message.
    pub(super) fn before(to: u32, len: u32, until: u32) -> Self {
        let what = What::Doubt { message: None, counted: false };
        Self { from: to.wrapping_sub(len), to, until, what }
    }

    fn len(&self) -> u32 {
        self.to.wrapping_sub(self.from)
    }

    /// Whether so many units from a number on lie in it, after `seen` messages.
    fn takes(&self, start: u32, units: u32, seen: u32) -> bool {
        let at = start.wrapping_sub(self.from);
        let open = self.until.wrapping_sub(seen).cast_signed() >= 0;
        open && at < self.len() && units <= self.len() - at
    }
}

/// A message that came late was found a place.
#[derive(Clone, Copy, Debug)]
pub(super) struct Filled {
    /// Its units that were counted as lost.
    pub(super) lost: u32,
}

/// The holes of a stream that may still be filled, in the order in which they were found.
#[derive(Clone, Debug, Default)]
pub(super) struct Holes(Vec<Hole>);

impl Holes {
    pub(super) fn add(&mut self, hole: Hole) {
        let is_lost = |h: &Hole| matches!(h.what, What::Lost);
        if is_lost(&hole) && self.0.iter().filter(|h| is_lost(h)).count() >= MAX_LOST {
            let oldest = self.0.iter().position(is_lost);
            oldest.map(|at| self.0.remove(at));
        } else if self.0.len() >= MAX_HOLES {
            self.0.remove(0);
        }
        self.0.push(hole);
    }

    /// Puts a message that came late in its place.
    pub(super) fn fill(&mut self, start: u32, units: &Units, seen: u32, fix: &mut Correction) -> Option<Filled> {
        let at = self.0.iter().position(|h| h.takes(start, units.known, seen))?;
        let hole = self.0.remove(at);
        let mut left = Hole { to: start, ..hole };
        let mut right = Hole { from: start.wrapping_add(units.known), ..hole };
        let (left_len, right_len) = (i64::from(left.len()), i64::from(right.len()));
        let doubt = units.held > 0 || units.lost;
        let owner = (units.held > 0 && !units.lost).then_some(units.message);
        let mut lost = 0;
        match hole.what {
            What::Lost => {
                lost = units.known;
                if doubt {
                    // What follows may be the message's own.
                    fix.lost -= right_len;
                    fix.gaps -= i64::from(left_len == 0);
                    fix.unverifiable += 1;
                    right.what = What::Doubt { message: owner, counted: true };
                }
            }
            What::Doubt { message, counted } => {
                // The doubt of what comes before is not counted: this message is, as reordered.
                left.what = What::Doubt { message, counted: false };
                if doubt {
                    right.what = What::Doubt { message: owner, counted };
                } else {
                    right.what = What::Lost;
                    fix.lost += right_len;
                    fix.gaps += i64::from(right_len > 0);
                    fix.unverifiable -= i64::from(counted);
                }
            }
        }
        if left_len > 0 {
            self.add(left);
        }
        if right_len > 0 || matches!(right.what, What::Doubt { counted: true, .. }) {
            self.add(right);
        }
        Some(Filled { lost })
    }

    /// So many units after a message turn out to be its own; `done` where no more can be.
    pub(super) fn settle(&mut self, message: u64, units: u32, done: bool, fix: &mut Correction) {
        let of = |h: &Hole| matches!(h.what, What::Doubt { message: Some(m), .. } if m == message);
        let Some(at) = self.0.iter().position(of) else { return };
        let hole = &mut self.0[at];
        let What::Doubt { counted, .. } = hole.what else { return };
        if units > hole.len() {
            // More than there is room for: the exporter counts otherwise, and the doubt remains.
            self.0.remove(at);
            return;
        }
        hole.from = hole.from.wrapping_add(units);
        if !done {
            return;
        }
        let missing = hole.len();
        hole.what = What::Lost;
        if missing == 0 {
            self.0.remove(at);
        }
        fix.unverifiable -= i64::from(counted);
        fix.lost += i64::from(missing);
        fix.gaps += i64::from(missing > 0);
    }
}
