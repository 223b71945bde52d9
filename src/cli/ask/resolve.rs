//! Names of addresses: many look-ups at once, each once, and none for longer than people wait.

use std::collections::{HashMap, HashSet, VecDeque};
use std::net::IpAddr;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Look-ups at once.
const THREADS: usize = 32;

/// How long a page of names is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// Names that are kept; beyond, they are looked up again.
const KEPT: usize = 100_000;

type Answer = (IpAddr, Option<String>);

/// What looks names up. Without one, addresses stand for themselves.
pub struct Names {
    known: HashMap<IpAddr, Option<String>>,
    asked: HashSet<IpAddr>,
    queue: Arc<Mutex<VecDeque<IpAddr>>>,
    answers: (Sender<Answer>, Receiver<Answer>),
    look_up: Option<fn(IpAddr) -> Option<String>>,
    patience: Duration,
    silent: bool,
}

impl Names {
    /// By the machine's resolver, or none at all.
    pub fn new(enabled: bool) -> Self {
        let by_system = |ip| dns_lookup::lookup_addr(&ip).ok().filter(|name| name.parse::<IpAddr>().is_err());
        Self::with(enabled.then_some(by_system), PATIENCE)
    }

    fn with(look_up: Option<fn(IpAddr) -> Option<String>>, patience: Duration) -> Self {
        let queue = Arc::new(Mutex::new(VecDeque::new()));
        let (known, asked) = (HashMap::new(), HashSet::new());
        Self { known, asked, queue, answers: channel(), look_up, patience, silent: false }
    }

    /// Looks up what is not known yet, and waits for the answers, but not for long.
    pub fn prepare(&mut self, addresses: impl Iterator<Item = IpAddr>) {
        let Some(look_up) = self.look_up.filter(|_| !self.silent) else { return };
        if self.known.len() > KEPT {
            self.known.clear();
        }
        let mut open: HashSet<IpAddr> = HashSet::new();
        for ip in addresses.filter(|ip| !self.known.contains_key(ip)) {
            open.insert(ip);
        }
        let new: Vec<IpAddr> = open.iter().copied().filter(|ip| self.asked.insert(*ip)).collect();
        let threads = new.len().min(THREADS);
        if let Ok(mut queue) = self.queue.lock() {
            // What nobody waits for any more is not asked.
            for late in queue.drain(..) {
                self.asked.remove(&late);
            }
            queue.extend(new);
        }
        for _ in 0..threads {
            let (queue, answers) = (self.queue.clone(), self.answers.0.clone());
            // A look-up cannot be ended: a thread that hangs in one is left behind.
            let worker = std::thread::Builder::new().stack_size(256 << 10).spawn(move || {
                while let Some(ip) = queue.lock().ok().and_then(|mut queue| queue.pop_front()) {
                    if answers.send((ip, look_up(ip))).is_err() {
                        return;
                    }
                }
            });
            if worker.is_err() {
                break;
            }
        }
        let (until, mut heard) = (Instant::now() + self.patience, open.is_empty());
        while !open.is_empty() {
            match self.answers.1.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok((ip, name)) => {
                    heard = true;
                    open.remove(&ip);
                    self.asked.remove(&ip);
                    self.known.insert(ip, name);
                }
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
            }
        }
        // Nobody answers: the next page does not wait.
        self.silent = !heard;
    }

    /// Whether the resolver did not answer at all.
    pub fn is_silent(&self) -> bool {
        self.silent
    }

    /// The name of an address, or the address.
    pub fn name(&self, ip: IpAddr) -> String {
        self.known.get(&ip).cloned().flatten().unwrap_or_else(|| ip.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slow(ip: IpAddr) -> Option<String> {
        std::thread::sleep(Duration::from_millis(50));
        Some(format!("host-{ip}"))
    }

    fn hanging(_: IpAddr) -> Option<String> {
        std::thread::sleep(Duration::from_secs(60));
        None
    }

    fn addresses(n: u8) -> impl Iterator<Item = IpAddr> {
        (0..n).map(|i| [192, 0, 2, i].into())
    }

    #[test]
    fn look_ups_are_concurrent_and_cached() {
        let mut names = Names::with(Some(slow), Duration::from_secs(20));
        let began = Instant::now();
        names.prepare(addresses(64).chain(addresses(64)));
        // One after the other they would take more than three seconds.
        assert!(began.elapsed() < Duration::from_millis(1600), "{:?}", began.elapsed());
        assert_eq!(names.name([192, 0, 2, 63].into()), "host-192.0.2.63");
        names.look_up = Some(|_| panic!("asked again"));
        names.prepare(addresses(64));
        assert_eq!(names.name([192, 0, 2, 0].into()), "host-192.0.2.0");
    }

    #[test]
    fn a_resolver_that_hangs_is_waited_for_once() {
        let mut names = Names::with(Some(hanging), Duration::from_millis(100));
        let began = Instant::now();
        names.prepare(addresses(200));
        names.prepare(addresses(250));
        assert!(names.is_silent() && began.elapsed() < Duration::from_secs(10));
        assert_eq!(names.name([192, 0, 2, 9].into()), "192.0.2.9");
        let mut none = Names::new(false);
        none.prepare(addresses(1));
        assert_eq!(none.name([192, 0, 2, 0].into()), "192.0.2.0");
    }
}
