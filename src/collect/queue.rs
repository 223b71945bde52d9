//! The way to the writer: what waits on it is bounded by its memory.

use super::Item;
use super::board::lock;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, unbounded};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How often a thread that waits looks for room.
const LOOK: Duration = Duration::from_millis(1);

/// How long the writer takes nothing, while there is no room, before it is said.
const STUCK: Duration = Duration::from_secs(5);

/// Whether the writer takes anything: a pipe that nobody reads, and a disk that hangs, are no errors.
#[derive(Debug, Default)]
pub(super) struct Pulse {
    // What found no room so far.
    refused: AtomicU64,
    // Since when the writer works on one thing, and what was refused before.
    busy: Mutex<Option<(Instant, u64)>>,
}

impl Pulse {
    /// Something found no room.
    pub fn refuses(&self) {
        self.refused.fetch_add(1, Relaxed);
    }

    /// The writer begins to work on something.
    pub fn begins(&self) {
        *lock(&self.busy) = Some((Instant::now(), self.refused.load(Relaxed)));
    }

    /// It waits for the next.
    pub fn rests(&self) {
        *lock(&self.busy) = None;
    }

    /// For how long it takes nothing, where that is too long.
    pub fn stuck(&self) -> Option<Duration> {
        let (since, refused) = (*lock(&self.busy))?;
        let time = since.elapsed();
        (time >= STUCK && self.refused.load(Relaxed) > refused).then_some(time)
    }
}

/// Both ends of a way on which `most` bytes may wait; one item always may.
pub(super) fn queue(most: usize) -> (Entrance, Exit) {
    let (to, from) = unbounded();
    let waiting = Arc::new(AtomicUsize::new(0));
    (Entrance { items: to, waiting: waiting.clone(), most }, Exit { items: from, waiting })
}

/// Where items go in.
#[derive(Clone)]
pub(super) struct Entrance {
    items: Sender<Item>,
    waiting: Arc<AtomicUsize>,
    most: usize,
}

/// An item that comes back.
pub(super) enum Refused {
    /// There is no room.
    Full(Item),
    /// There is nobody who takes it.
    Gone(Item),
}

impl Refused {
    pub fn into_item(self) -> Item {
        match self {
            Self::Full(item) | Self::Gone(item) => item,
        }
    }
}

impl Entrance {
    /// Without waiting.
    pub fn try_send(&self, item: Item) -> Result<(), Refused> {
        let bytes = item.memory();
        let more = |waiting: usize| {
            let all = waiting.saturating_add(bytes);
            (waiting == 0 || all <= self.most).then_some(all)
        };
        if self.waiting.fetch_update(Relaxed, Relaxed, more).is_err() {
            return Err(Refused::Full(item));
        }
        self.items.send(item).map_err(|e| {
            self.waiting.fetch_sub(bytes, Relaxed);
            Refused::Gone(e.0)
        })
    }

    /// Waits for room.
    pub fn send(&self, mut item: Item) -> Result<(), Refused> {
        loop {
            match self.send_timeout(item, Duration::from_secs(1)) {
                Err(Refused::Full(back)) => item = back,
                other => return other,
            }
        }
    }

    /// Waits for room, so long at most.
    pub fn send_timeout(&self, mut item: Item, time: Duration) -> Result<(), Refused> {
        let end = Instant::now() + time;
        loop {
            match self.try_send(item) {
                Err(Refused::Full(back)) if Instant::now() < end => item = back,
                other => return other,
            }
            std::thread::sleep(LOOK);
        }
    }
}

/// Where items come out.
pub(super) struct Exit {
    items: Receiver<Item>,
    waiting: Arc<AtomicUsize>,
}

impl Exit {
    pub fn recv_timeout(&self, time: Duration) -> Result<Item, RecvTimeoutError> {
        let item = self.items.recv_timeout(time)?;
        self.waiting.fetch_sub(item.memory(), Relaxed);
        Ok(item)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::columns::Timestamp;

    fn lines(bytes: usize) -> Item {
        Item::Lines { text: vec![0; bytes], rows: 1, by_exporter: Vec::new(), received: Timestamp(0) }
    }

    #[test]
    fn what_waits_has_a_bound_and_the_first_always_goes() {
        let (entrance, exit) = queue(1000);
        assert!(entrance.try_send(lines(5000)).is_ok());
        assert!(matches!(entrance.try_send(lines(1)), Err(Refused::Full(_))));
        assert!(exit.recv_timeout(LOOK).is_ok_and(|item| item.rows() == 1));
        for _ in 0..4 {
            assert!(entrance.try_send(lines(250)).is_ok());
        }
        assert!(matches!(entrance.send_timeout(lines(1), 2 * LOOK), Err(Refused::Full(_))));
        let waiting =
            std::thread::spawn(move || entrance.send_timeout(lines(100), 100 * Duration::from_secs(1)).is_ok());
        assert!(exit.recv_timeout(LOOK).is_ok());
        assert!(waiting.join().expect("a thread"));
        (0..4).for_each(|_| assert!(exit.recv_timeout(LOOK).is_ok()));
        assert_eq!(exit.waiting.load(Relaxed), 0);
    }

    #[test]
    fn what_nobody_takes_comes_back() {
        let (entrance, exit) = queue(1000);
        drop(exit);
        assert!(matches!(entrance.send_timeout(lines(9), LOOK), Err(Refused::Gone(item)) if item.memory() == 9));
    }
}
