//! What becomes of connections.

use crate::columns::Timestamp;
use serde_json::{Value, json};
use std::net::SocketAddr;

/// Why a connection is not taken, or ends before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    NotAllowed,
    TooMany,
    NoDescriptors,
    TimedOut,
    Malformed,
    Failed,
}

impl Refusal {
    pub const ALL: [Self; 6] =
        [Self::NotAllowed, Self::TooMany, Self::NoDescriptors, Self::TimedOut, Self::Malformed, Self::Failed];

    /// In words.
    pub fn cause(self) -> &'static str {
        match self {
            Self::NotAllowed => "connections refused: the sender is not allowed",
            Self::TooMany => "connections closed: too many at once",
            Self::NoDescriptors => "connections closed: too many for the file descriptors (`ulimit -Hn`, LimitNOFILE=)",
            Self::TimedOut => "connections closed: nothing came, or not enough, for too long",
            Self::Malformed => "connections closed: no IPFIX, or a length that is wrong",
            Self::Failed => "connections that broke",
        }
    }
}

/// Who was turned away last for each cause, and when.
#[derive(Clone, Copy, Debug, Default)]
pub struct LastRefused([Option<(Timestamp, SocketAddr)>; Refusal::ALL.len()]);

impl LastRefused {
    pub fn of(&self, refusal: Refusal) -> Option<SocketAddr> {
        self.0.get(refusal as usize).copied().flatten().map(|last| last.1)
    }

    pub fn note(&mut self, refusal: Refusal, at: Timestamp, peer: SocketAddr) {
        self.0.get_mut(refusal as usize).into_iter().for_each(|last| *last = Some((at, peer)));
    }

    /// The later ones of both.
    pub fn merge(&mut self, other: &Self) {
        self.0.iter_mut().zip(other.0).for_each(|(last, other)| *last = (*last).max(other));
    }
}

/// What became of connections: each is in one class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConnectionCounts {
    /// Connections that came.
    pub accepted: u64,
    /// Of senders that are not allowed.
    pub refused: u64,
    /// One too many at once.
    pub limited: u64,
    /// Of them, those that were too many for the process's file descriptors.
    pub without_descriptors: u64,
    /// Closed by the exporter after a whole message, or by the collector's own end.
    pub closed: u64,
    /// Those that stalled in their handshake or a message, or were quiet for too long.
    pub timed_out: u64,
    /// Those that sent what is no IPFIX message, or one with a length that is wrong.
    pub malformed: u64,
    /// Those that broke, or could not agree on TLS.
    pub failed: u64,
    /// Open now.
    pub open: u64,
}

impl ConnectionCounts {
    /// How many ended for a cause.
    pub(in crate::collect) fn of(&self, refusal: Refusal) -> u64 {
        match refusal {
            Refusal::NotAllowed => self.refused,
            Refusal::TooMany => self.limited - self.without_descriptors,
            Refusal::NoDescriptors => self.without_descriptors,
            Refusal::TimedOut => self.timed_out,
            Refusal::Malformed => self.malformed,
            Refusal::Failed => self.failed,
        }
    }

    pub(in crate::collect) fn add(&mut self, refusal: Refusal) {
        self.without_descriptors += u64::from(refusal == Refusal::NoDescriptors);
        *match refusal {
            Refusal::NotAllowed => &mut self.refused,
            Refusal::TooMany | Refusal::NoDescriptors => &mut self.limited,
            Refusal::TimedOut => &mut self.timed_out,
            Refusal::Malformed => &mut self.malformed,
            Refusal::Failed => &mut self.failed,
        } += 1;
    }

    /// Each class by its name.
    pub fn classes(&self) -> [(&'static str, u64); 7] {
        let Self { accepted: _, without_descriptors: _, refused, limited, closed, timed_out, malformed, failed, open } =
            *self;
        [
            ("refused", refused),
            ("limited", limited),
            ("closed", closed),
            ("timed_out", timed_out),
            ("malformed", malformed),
            ("failed", failed),
            ("open", open),
        ]
    }

    pub(in crate::collect) fn merge(&mut self, other: &Self) {
        self.accepted += other.accepted;
        self.refused += other.refused;
        self.limited += other.limited;
        self.without_descriptors += other.without_descriptors;
        self.closed += other.closed;
        self.timed_out += other.timed_out;
        self.malformed += other.malformed;
        self.failed += other.failed;
        self.open += other.open;
    }

    pub(in crate::collect) fn json(&self) -> Value {
        let classes = self
            .classes()
            .into_iter()
            .chain([("without_descriptors", self.without_descriptors)])
            .map(|(name, n)| (name.to_string(), json!(n)));
        Value::Object([("accepted".to_string(), json!(self.accepted))].into_iter().chain(classes).collect())
    }
}
