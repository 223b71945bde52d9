//! Collectors that take their turns, and which of them gave a result.

use crate::peer::Peer;
use crate::process::NeverListened;
use crate::raw::{Entry, Raw};
use crate::workload::Workload;
use anyhow::bail;
use std::collections::{BTreeMap, BTreeSet};

/// The collectors of a measurement.
pub struct Turns {
    peers: Vec<Box<dyn Peer>>,
    /// Those that somebody asked for by name.
    named: Vec<String>,
    /// Those that never listened: they have no more turns.
    out: BTreeSet<&'static str>,
    /// Whether there is any result, by workload and collector that was tried on it.
    results: BTreeMap<(&'static str, &'static str), bool>,
}

impl Turns {
    /// Of collectors that are here; of the named ones results are expected.
    pub fn new(peers: Vec<Box<dyn Peer>>, named: Vec<String>) -> Self {
        Self { peers, named, out: BTreeSet::new(), results: BTreeMap::new() }
    }

    /// All of them.
    pub fn peers(&self) -> &[Box<dyn Peer>] {
        &self.peers
    }

    /// Each that knows the workload has its turn; `None` is not a thing that it can do. What a collector fails at is said, and the
    /// others go on.
    ///
    /// # Errors
    /// Raw data cannot be written.
    pub fn round<T, E: IntoIterator<Item = Entry>>(
        &mut self,
        workload: &Workload,
        raw: &mut Raw,
        mut turn: impl FnMut(&dyn Peer, &mut Raw) -> anyhow::Result<Option<T>>,
        entries: impl Fn(&T) -> E,
    ) -> anyhow::Result<Vec<T>> {
        let mut all = Vec::new();
        for peer in self.peers.iter().filter(|p| p.takes(workload)) {
            if self.out.contains(peer.name()) {
                self.results.entry((workload.name, peer.name())).or_insert(false);
                continue;
            }
            let key = (workload.name, peer.name());
            match turn(peer.as_ref(), raw) {
                Ok(Some(one)) => {
                    self.results.insert(key, true);
                    entries(&one).into_iter().try_for_each(|entry| raw.write(&entry))?;
                    all.push(one);
                }
                Ok(None) => {}
                Err(why) => {
                    self.results.entry(key).or_insert(false);
                    eprintln!("versus: {why:#}");
                    if why.chain().any(|cause| cause.is::<NeverListened>()) {
                        eprintln!("versus: {} has no more turns", peer.name());
                        self.out.insert(peer.name());
                    }
                }
            }
        }
        Ok(all)
    }

    /// At the end.
    ///
    /// # Errors
    /// A collector that was named gave no result: of a workload that it was tried on, or at all.
    pub fn verdict(&self) -> anyhow::Result<()> {
        if !self.results.is_empty() && !self.results.values().any(|has| *has) {
            bail!("no collector gave a result");
        }
        let mut missing = Vec::new();
        for name in &self.named {
            let of: Vec<_> = self.results.iter().filter(|((_, peer), _)| peer == name).collect();
            if !of.iter().any(|(_, has)| **has) {
                missing.push(name.clone());
                continue;
            }
            missing
                .extend(of.iter().filter(|(_, has)| !**has).map(|((workload, _), _)| format!("{name} on {workload}")));
        }
        if !missing.is_empty() {
            bail!("no result of {}", missing.join(", "));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::Own;
    use crate::workload;
    use anyhow::anyhow;

    fn turns(named: &[&str]) -> Turns {
        let own = |name: &str| -> Box<dyn Peer> { Box::new(Own::new(&format!("{name}=x {{port}}"), "echo").unwrap()) };
        Turns::new(vec![own("good"), own("bad")], named.iter().map(|&n| n.to_owned()).collect())
    }

    /// The names of those that had a turn; `bad` fails.
    fn round(turns: &mut Turns, failure: impl Fn() -> anyhow::Error) -> Vec<&'static str> {
        let (mut tried, mut raw) = (Vec::new(), Raw::open(None, None).unwrap());
        let workloads = workload::all();
        let turn = |peer: &dyn Peer, _: &mut Raw| {
            tried.push(peer.name());
            if peer.name() == "bad" { Err(failure()) } else { Ok(Some(())) }
        };
        turns.round(&workloads[0], &mut raw, turn, |()| [Entry::Machine(crate::machine::Machine::here())]).unwrap();
        tried
    }

    #[test]
    fn a_collector_that_never_listened_has_one_turn() {
        let mut turns = turns(&[]);
        let dead = || anyhow!(NeverListened("it ended".to_owned())).context("bad on v5");
        assert_eq!(round(&mut turns, dead), ["good", "bad"]);
        assert_eq!(round(&mut turns, dead), ["good"]);
    }

    #[test]
    fn a_collector_that_failed_has_its_next_turn() {
        let mut turns = turns(&[]);
        assert_eq!(round(&mut turns, || anyhow!("it lost its way")), ["good", "bad"]);
        assert_eq!(round(&mut turns, || anyhow!("it lost its way")), ["good", "bad"]);
    }

    #[test]
    fn named_collectors_owe_a_result() {
        for (named, missing) in
            [(&[][..], None), (&["good"], None), (&["good", "bad"], Some("bad")), (&["gone"], Some("gone"))]
        {
            let mut turns = turns(named);
            round(&mut turns, || anyhow!("it lost its way"));
            let verdict = turns.verdict().map_err(|why| why.to_string());
            assert_eq!(verdict, missing.map_or(Ok(()), |name| Err(format!("no result of {name}"))));
        }
    }
}
