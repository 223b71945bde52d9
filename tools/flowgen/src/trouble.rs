//! Loss, reordering and duplication on request.
//!
//! Only messages of data are hit: a template that is lost would make every count after it a matter of luck. For the
//! same reason an exporter's last message always arrives: a gap that no message follows cannot be seen.

use crate::encode::{Body, HEADER_ROOM};
use crate::report::Sent;
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};

/// How much goes wrong, as shares of all datagrams of data between 0 and 1.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Trouble {
    /// Datagrams that are made, numbered and not sent.
    pub loss: f64,
    /// Datagrams sent after the next one of their exporter.
    pub reorder: f64,
    /// Datagrams sent twice.
    pub duplicate: f64,
}

impl Trouble {
    fn any(&self) -> bool {
        self.loss + self.reorder + self.duplicate > 0.0
    }
}

/// A datagram to be sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    pub stream: u32,
    pub body: u32,
    pub head_len: u8,
    pub head: [u8; HEADER_ROOM],
}

/// What an exporter has under way.
#[derive(Clone, Debug, Default)]
pub(crate) struct Limbo {
    /// Sent after the next.
    held: Option<Entry>,
    /// Dropped, and nothing was sent since.
    tail: Option<Entry>,
    begun: bool,
}

/// Decides what happens to each datagram, and counts it.
pub(crate) struct Mangler {
    trouble: Trouble,
    rng: Xoshiro256PlusPlus,
    pub sent: Sent,
}

impl Mangler {
    pub fn new(trouble: Trouble, seed: u64) -> Self {
        // A stream of its own: flows do not change with the trouble that they get into.
        Self { trouble, rng: Xoshiro256PlusPlus::seed_from_u64(!seed), sent: Sent::default() }
    }

    /// Takes a datagram; what is to be sent now goes to `out`.
    #[inline]
    pub fn offer(&mut self, limbo: &mut Limbo, entry: Entry, bodies: &[Body], out: &mut Vec<Entry>) {
        if self.trouble.any() {
            return self.judge(limbo, entry, bodies, out);
        }
        self.push(entry, bodies, out);
    }

    fn push(&mut self, entry: Entry, bodies: &[Body], out: &mut Vec<Entry>) {
        self.sent.add(&bodies[entry.body as usize], entry.head_len);
        out.push(entry);
    }

    fn judge(&mut self, limbo: &mut Limbo, entry: Entry, bodies: &[Body], out: &mut Vec<Entry>) {
        let body = &bodies[entry.body as usize];
        let Trouble { loss, reorder, duplicate } = self.trouble;
        let fate = self.rng.random::<f64>();
        let exempt = body.announces || !limbo.begun;
        limbo.begun = true;
        if !exempt && fate < loss {
            self.sent.drop(body);
            limbo.tail = Some(entry);
            return;
        }
        if !exempt && fate < loss + reorder && limbo.held.is_none() {
            (limbo.held, limbo.tail) = (Some(entry), None);
            return;
        }
        limbo.tail = None;
        self.push(entry, bodies, out);
        if !exempt && (loss + reorder..loss + reorder + duplicate).contains(&fate) {
            self.sent.duplicated += 1;
            self.push(entry, bodies, out);
        }
        if let Some(held) = limbo.held.take() {
            self.sent.reordered += 1;
            self.push(held, bodies, out);
        }
    }

    /// Sends what an exporter still has under way.
    pub fn finish(&mut self, limbo: &mut Limbo, bodies: &[Body], out: &mut Vec<Entry>) {
        let (tail, held) = (limbo.tail.take(), limbo.held.take());
        self.sent.reordered += u64::from(tail.is_some() && held.is_some());
        if let Some(tail) = tail {
            self.sent.undo_drop(&bodies[tail.body as usize]);
            self.push(tail, bodies, out);
        }
        if let Some(held) = held {
            self.push(held, bodies, out);
        }
    }
}
