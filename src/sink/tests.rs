//! Batches for the tests of all sinks.

use crate::columns::{Batch, Timestamp};
use crate::decode::{Config, Decoder};

/// One v5 record.
pub(super) fn v5_batch() -> Batch {
    let mut datagram = vec![0, 5, 0, 1, 0, 0, 39, 16, 101, 83, 241, 0, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0];
    datagram.extend([192, 0, 2, 1, 198, 51, 100, 2, 0, 0, 0, 0, 0, 1, 0, 2, 0, 0, 0, 3, 0, 0, 5, 220]);
    datagram.extend([0, 0, 39, 0, 0, 0, 39, 15, 0, 80, 1, 187, 0, 18, 6, 0, 0, 0, 0, 0, 24, 24, 0, 0]);
    one(&datagram)
}

/// An IPFIX record with both families, IPv6 first, and an element nobody knows.
pub(super) fn both_families() -> Batch {
    let mut datagram = vec![0, 10, 0, 0, 101, 83, 241, 0, 0, 0, 0, 1, 0, 0, 0, 9];
    datagram.extend([0, 2, 0, 28, 1, 0, 0, 5]);
    for (id, len) in [(27u16, 16u16), (28, 16), (8, 4), (12, 4), (12345, 2)] {
        datagram.extend(id.to_be_bytes());
        datagram.extend(len.to_be_bytes());
    }
    datagram.extend([1, 0, 0, 46, 0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    datagram.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
    datagram.extend([192, 0, 2, 1, 198, 51, 100, 2, 1, 2]);
    let length = datagram.len() as u16;
    datagram[2..4].copy_from_slice(&length.to_be_bytes());
    one(&datagram)
}

fn one(datagram: &[u8]) -> Batch {
    let mut decoder = Decoder::new(Config::default());
    let exporter = "203.0.113.9:2055".parse().expect("an address");
    let outcome = decoder.decode(datagram, exporter, Timestamp(1_700_000_000_000_000));
    assert_eq!((outcome.records, outcome.error), (1, None));
    decoder.flush().pop().expect("a batch")
}
