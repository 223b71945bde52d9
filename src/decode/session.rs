//! Connections: messages whose templates are their connection's own.

use super::stats::Outcome;
use super::stream::{Sender, SessionId};
use super::{Decoder, Timestamp};
use std::net::SocketAddr;
use std::num::NonZeroU64;

impl Decoder {
    /// A new connection, over which [`decode_in`](Self::decode_in) takes messages.
    pub fn open_session(&mut self) -> SessionId {
        self.sessions = self.sessions.saturating_add(1);
        SessionId(NonZeroU64::new(self.sessions).unwrap_or(NonZeroU64::MAX))
    }

    /// Decodes a message of a connection: as [`decode`](Self::decode), with templates, options tables and sequences that
    /// are the connection's own. They are not learned for a restart, which no connection outlives.
    pub fn decode_in(
        &mut self,
        session: SessionId,
        message: &[u8],
        exporter: SocketAddr,
        received_at: Timestamp,
    ) -> Outcome {
        let mut outcome = Outcome::default();
        let sender = Sender { address: &exporter, session: Some(session) };
        self.datagram(message, &sender, received_at, &mut outcome);
        outcome
    }

    /// Forgets what a connection taught; sets that wait for its templates are dropped, and counted.
    pub fn end_session(&mut self, session: SessionId) {
        let Some(origin) = self.exporters.end(session) else { return };
        let dropped = self.work.held.drop_origin(origin) as u64;
        self.exporters.stats_of(origin).held_dropped += dropped;
        self.forget_many_ended();
    }

    /// Forgets the streams of what ended: a look at all, once for many connections and exporters.
    pub(super) fn forget_many_ended(&mut self) {
        if self.exporters.ended() <= 64.max(self.streams.len() / 4) {
            return;
        }
        let exporters = &mut self.exporters;
        self.streams.retain(|s| exporters.at(s.exporter).is_some());
        exporters.free_ended();
    }
}
