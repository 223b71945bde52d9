//! What is above an exporter's rate, in the caller's judgement.

use super::message::Scope;
use super::sequence::Units;
use super::stats::Outcome;
use super::stream::Sender;
use super::{Decoder, Timestamp};
use crate::columns::RunMeta;
use crate::error::{Error, ErrorKind};
use crate::wire::Message;
use std::net::SocketAddr;

impl Decoder {
    /// Takes only what a datagram teaches: its templates are read, so that the exporter's next datagrams can be decoded,
    /// and its records are refused. It is counted as limited, and no gap is made of what it held.
    pub fn refuse_records(&mut self, datagram: &[u8], exporter: SocketAddr, received_at: Timestamp) -> Outcome {
        let mut outcome = Outcome::default();
        let sender = Sender { address: &exporter, session: None };
        match Message::parse(datagram) {
            Ok(_) => self.message(datagram, &sender, received_at, &mut outcome, true),
            Err(_) => self.refuse(above_rate(), &sender, datagram.len(), &mut outcome),
        }
        outcome
    }
}

fn above_rate() -> Error {
    Error::new(ErrorKind::RateLimit, 0, 0, 0)
}

impl Scope<'_> {
    /// Reads the templates of a message, and what of it is needed to judge the next one's sequence number.
    pub(super) fn teach(
        &mut self,
        message: &Message<'_>,
        meta: &mut RunMeta,
        units: &mut Units,
        outcome: &mut Outcome,
    ) {
        match message.fixed() {
            Some(records) => units.known = records.count as u32,
            None => {
                for set in message.sets() {
                    match set {
                        Ok(set) if set.id < 256 => {
                            outcome.sets += 1;
                            self.set(&set, meta, units, outcome);
                        }
                        // How many records are refused is not known without decoding them.
                        _ => units.lost = true,
                    }
                }
            }
        }
        (outcome.error, outcome.refused) = (Some(above_rate()), true);
    }
}
