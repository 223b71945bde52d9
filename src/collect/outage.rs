//! Something that fails and is tried again: when to say so.
//!
//! A beginning is said at once, but once a minute at most; an end is said where the beginning was. One that could not be said
//! is when the minute is over, also where the outage is over by then.

use std::time::{Duration, Instant};

/// How long after a beginning the next is not said.
const QUIET: Duration = Duration::from_secs(60);

/// What is to be said.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// It fails, and why.
    Begins(String),
    /// It works again.
    Ends,
    /// It failed for that reason since the last word, and works again.
    Passed(String),
}

/// Whether something fails now, and what was said of it.
#[derive(Debug, Default)]
pub(super) struct Outage {
    cause: Option<String>,
    // Whether the beginning of what lasts was said.
    is_said: bool,
    said: Option<Instant>,
    ended: bool,
    passed: Option<String>,
}

impl Outage {
    /// It fails.
    pub fn begin(&mut self, cause: &str) {
        if self.cause.is_none() {
            (self.cause, self.is_said) = (Some(cause.to_string()), false);
        }
    }

    /// It works; whether it did not before.
    pub fn end(&mut self) -> bool {
        let Some(cause) = self.cause.take() else { return false };
        match self.is_said {
            true => self.ended = true,
            false => self.passed = Some(cause),
        }
        true
    }

    pub fn lasts(&self) -> bool {
        self.cause.is_some()
    }

    /// What is to be said now; at the `last` call all that was not.
    pub fn word(&mut self, now: Instant, last: bool) -> Option<Word> {
        if std::mem::take(&mut self.ended) {
            return Some(Word::Ends);
        }
        let due = last || self.said.is_none_or(|at| now.saturating_duration_since(at) >= QUIET);
        let word = match &self.cause {
            Some(cause) if !self.is_said && due => Word::Begins(cause.clone()),
            None if due => Word::Passed(self.passed.clone()?),
            _ => return None,
        };
        (self.is_said, self.said, self.passed) = (true, Some(now), None);
        Some(word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_outage_is_told_of_and_the_last_word_is_right() {
        let mut outage = Outage::default();
        let now = Instant::now();
        let at = |seconds| now + Duration::from_secs(seconds);
        let full = || "full".to_string();
        outage.begin("full");
        outage.begin("another cause of the same outage");
        assert_eq!(outage.word(at(0), false), Some(Word::Begins(full())));
        assert_eq!(outage.word(at(100), false), None);
        assert!(outage.end() && !outage.end());
        assert_eq!(outage.word(at(100), false), Some(Word::Ends));
        // One that lasts over the minute is said then, ...
        outage.begin("full");
        assert_eq!(outage.word(at(101), false), Some(Word::Begins(full())));
        outage.end();
        assert_eq!(outage.word(at(102), false), Some(Word::Ends));
        outage.begin("full");
        assert_eq!((outage.word(at(103), false), outage.word(at(160), false)), (None, None));
        assert_eq!(outage.word(at(161), false), Some(Word::Begins(full())));
        outage.end();
        assert_eq!(outage.word(at(162), false), Some(Word::Ends));
        // ... one that does not, too, and any at the end.
        outage.begin("full");
        outage.end();
        assert_eq!(outage.word(at(163), false), None);
        assert_eq!(outage.word(at(221), false), Some(Word::Passed(full())));
        assert_eq!(outage.word(at(400), false), None);
        outage.begin("full");
        assert_eq!(outage.word(at(222), true), Some(Word::Begins(full())));
    }
}
