//! How fast, and when to stop.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How fast to send.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Pace {
    /// As fast as the system takes it.
    #[default]
    Full,
    /// So many flow records a second.
    Records(f64),
    /// So many datagrams a second.
    Datagrams(f64),
}

/// Datagrams that go out together where nobody says how many, at most.
const BURST: usize = 64;
/// How far apart bursts are where nobody says how many datagrams they have: shorter sleeps are not to be had.
const BURSTS_A_SECOND: f64 = 5000.0;
/// Sleeps are no longer than this, so that a signal is seen.
const NAP: Duration = Duration::from_millis(50);
/// What a sender may be late by and still send the rest of what is due.
const GRACE: f64 = 0.1;
/// The pace in a file where none was asked for: its times have to come from somewhere.
const FILE_PACE: Pace = Pace::Records(100_000.0);

/// Hands out what is due. A sender that was late catches up, so the sum is exact.
pub(crate) struct Pacer {
    pace: Pace,
    burst: usize,
    /// Time does not pass by itself: it is where the pace says.
    written: bool,
    begun: Instant,
    /// When the last burst was due, seconds after the start.
    last: f64,
    /// What counts for the pace so far.
    spent: f64,
    messages: u64,
    count: u64,
    duration: Option<f64>,
}

/// What [`Pacer::wait`] hands out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Due {
    pub messages: usize,
    pub elapsed_us: i64,
}

impl Pacer {
    /// For one of `parts` threads, `part` from 0; `per_message` are the records that a message has.
    pub fn new(limits: &Limits, per_message: f64, part: u32, parts: u32, written: bool) -> Self {
        let parts_f = f64::from(parts);
        let pace = match limits.pace {
            Pace::Full if written => FILE_PACE,
            Pace::Full => Pace::Full,
            Pace::Records(rate) => Pace::Records(rate / parts_f),
            Pace::Datagrams(rate) => Pace::Datagrams(rate / parts_f),
        };
        let of = |count: u64| count / u64::from(parts) + u64::from(count % u64::from(parts) > u64::from(part));
        let mut count = limits.count.map_or(u64::MAX, of);
        let duration = limits.duration.map(|d| d.as_secs_f64());
        if let (Pace::Datagrams(rate), Some(duration)) = (limits.pace, duration) {
            count = count.min(of((rate * duration).round() as u64));
        }
        let datagrams = match pace {
            Pace::Full => f64::INFINITY,
            Pace::Records(rate) => rate / per_message,
            Pace::Datagrams(rate) => rate,
        };
        let few = if written { 1 } else { ((datagrams / BURSTS_A_SECOND) as usize).clamp(1, BURST) };
        let burst = limits.burst.unwrap_or(few);
        Self { pace, burst, written, begun: Instant::now(), last: 0.0, spent: 0.0, messages: 0, count, duration }
    }

    /// For messages whose times the caller knows.
    pub fn timed(limits: &Limits, written: bool) -> Self {
        let limits = Limits { pace: Pace::Full, ..*limits };
        Self { written, ..Self::new(&limits, 1.0, 0, 1, false) }
    }

    /// Begins to count the time.
    pub fn start(&mut self) {
        self.begun = Instant::now();
    }

    /// Waits for the next burst; `None` at the end.
    pub fn wait(&mut self, stop: &AtomicBool) -> Option<Due> {
        self.wait_for(None, stop)
    }

    /// The same for a burst that is due at a time, in microseconds after the start, instead of when the pace says.
    pub fn wait_for(&mut self, due_us: Option<i64>, stop: &AtomicBool) -> Option<Due> {
        let rate = match self.pace {
            Pace::Full => f64::INFINITY,
            Pace::Records(rate) | Pace::Datagrams(rate) => rate,
        };
        // Zero at full speed.
        let due = due_us.map_or(self.spent / rate, |us| us as f64 / 1e6);
        loop {
            if stop.load(Ordering::Relaxed) || self.messages >= self.count {
                return None;
            }
            let elapsed = if self.written { due } else { self.begun.elapsed().as_secs_f64() };
            if let Some(duration) = self.duration {
                let grace = if rate.is_finite() { GRACE } else { 0.0 };
                // A count of datagrams follows from their rate; it ends by itself unless the sender is too slow.
                let counted = matches!(self.pace, Pace::Datagrams(_));
                if (due >= duration && !counted) || elapsed >= duration + grace {
                    return None;
                }
            }
            if elapsed >= due {
                let messages = usize::try_from(self.count - self.messages).unwrap_or(usize::MAX);
                let messages = if rate.is_finite() { messages.min(self.burst) } else { messages };
                self.last = due;
                // What is due is due now, whatever rounding says.
                let elapsed_us = ((elapsed * 1e6).round() as i64).max(due_us.unwrap_or(0));
                return Some(Due { messages, elapsed_us });
            }
            std::thread::sleep(Duration::from_secs_f64(due - elapsed).min(NAP));
        }
    }

    /// Messages of all bursts together.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Datagrams that go out back to back.
    pub fn burst(&self) -> usize {
        self.burst
    }

    /// Whether the time is the one that the pace makes.
    pub fn written(&self) -> bool {
        self.written
    }

    /// Counts what was made.
    pub fn spend(&mut self, messages: usize, records: u64) {
        self.messages += messages as u64;
        self.spent += match self.pace {
            Pace::Full => 0.0,
            Pace::Records(_) => records as f64,
            Pace::Datagrams(_) => messages as f64,
        };
    }

    /// How long it has taken.
    pub fn elapsed(&self) -> Duration {
        if self.written { Duration::from_secs_f64(self.last.max(0.0)) } else { self.begun.elapsed() }
    }
}

/// How fast and how much.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Limits {
    /// How fast.
    pub pace: Pace,
    /// Datagrams that go out back to back before the next wait; without a number, few.
    pub burst: Option<usize>,
    /// Stop after so many messages were made: before some are lost, doubled and so on.
    pub count: Option<u64>,
    /// Stop after so long.
    pub duration: Option<Duration>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(limits: Limits) -> (u64, Duration) {
        let mut pacer = Pacer::new(&limits, 30.0, 0, 1, false);
        let stop = AtomicBool::new(false);
        pacer.start();
        while let Some(due) = pacer.wait(&stop) {
            pacer.spend(due.messages, due.messages as u64 * 30);
        }
        (pacer.messages, pacer.elapsed())
    }

    #[test]
    fn a_rate_and_a_time_give_an_exact_number() {
        let limits = Limits { duration: Some(Duration::from_millis(200)), ..Limits::default() };
        assert_eq!(run(Limits { pace: Pace::Datagrams(12_345.0), ..limits }).0, 2469);
        assert_eq!(run(Limits { pace: Pace::Records(30_000.0), ..limits }).0, 200);
        assert_eq!(run(Limits { pace: Pace::Datagrams(1000.0), burst: Some(70), ..limits }).0, 200);
    }

    #[test]
    fn bursts_wait_for_their_time() {
        let pace = Pace::Datagrams(1000.0);
        let (sent, time) = run(Limits { pace, burst: Some(50), count: Some(150), ..Limits::default() });
        assert_eq!(sent, 150);
        assert!(time >= Duration::from_millis(100), "the third burst comes after 100 ms, not {time:?}");
    }

    #[test]
    fn threads_share_a_count() {
        let limits = Limits { count: Some(10), ..Limits::default() };
        let counts = [0, 1, 2].map(|part| Pacer::new(&limits, 30.0, part, 3, false).count);
        assert_eq!(counts, [4, 3, 3]);
    }
}
