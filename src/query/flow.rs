//! Flows as values: what joining the two directions of a conversation needs.

use super::scan::{Scan, ScanStats};
use super::sums::Sums;
use super::value::columns_of;
use arrow_array::cast::AsArray;
use arrow_array::types::{Int64Type, TimestampMicrosecondType, UInt8Type, UInt16Type, UInt32Type};
use arrow_array::{
    Array, FixedSizeBinaryArray, Int64Array, PrimitiveArray, RecordBatch, TimestampMicrosecondArray, UInt8Array,
    UInt16Array, UInt32Array,
};
use arrow_buffer::BooleanBuffer;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Mutex;

/// What went one way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Bytes.
    pub bytes: i64,
    /// Packets.
    pub packets: i64,
    /// Flow records.
    pub flows: i64,
}

impl Counts {
    pub(super) fn add(&mut self, other: &Self) {
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.packets = self.packets.saturating_add(other.packets);
        self.flows = self.flows.saturating_add(other.flows);
    }
}

/// An end of a conversation; the port of ICMP, whose types are no ports, and of what has none is absent.
pub type End = (IpAddr, Option<u16>);

/// One flow record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Who sent it.
    pub src: End,
    /// Who got it.
    pub dst: End,
    /// The protocol; absent where the record does not tell.
    pub proto: Option<u8>,
    /// Its start, microseconds since 1970; the time received where none is known.
    pub start_us: i64,
    /// Its end, not before its start.
    pub end_us: i64,
    /// When its message was received.
    pub received_us: i64,
    /// What the source sent.
    pub sent: Counts,
    /// What came back, where one record tells of both directions.
    pub back: Option<Counts>,
}

/// A conversation whichever way it goes: both ends, the lesser first, and the protocol.
pub(super) type Pair = (End, End, Option<u8>);

impl Flow {
    /// The flow as who sent it sees it: a record may tell of its other direction alone.
    pub(super) fn forward(self) -> Self {
        match self.back {
            Some(back) if self.sent.bytes == 0 && self.sent.packets == 0 => {
                let sent = Counts { flows: self.sent.flows, ..back };
                Self { src: self.dst, dst: self.src, sent, back: None, ..self }
            }
            _ => self,
        }
    }

    /// The conversation that it is part of, and whether its source is the lesser end.
    pub(super) fn pair(&self) -> (Pair, bool) {
        let forth = self.src <= self.dst;
        let (a, b) = if forth { (self.src, self.dst) } else { (self.dst, self.src) };
        ((a, b, self.proto), forth)
    }
}

/// Whether a protocol's port numbers are types and codes.
pub(super) fn is_icmp(proto: Option<u8>) -> bool {
    matches!(proto, Some(1 | 58))
}

/// The columns that flows are made of.
pub(super) fn columns(scale: bool) -> Vec<String> {
    let plain = ["proto", "src_port", "dst_port", "flow_start", "flow_end", "time_received", "bytes", "packets"];
    let more = ["flows", "rev_bytes", "rev_packets", "counters_are_total"];
    let rate = scale.then_some("sampling_rate");
    let names = plain.into_iter().chain(more).chain(rate).map(String::from);
    ["src_addr", "dst_addr"].into_iter().flat_map(columns_of).chain(names).collect()
}

/// What a scan for flows came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Of the scan.
    pub stats: ScanStats,
    /// Records without addresses, which were passed over.
    pub without_addresses: u64,
    /// Records with running totals, which were passed over.
    pub totals: u64,
    /// Their sums.
    pub running: Counts,
}

/// Gives the flows of a scan to `take`, in the order of the files; `false` ends it. Records without addresses, and those with
/// running totals, are passed over, and counted.
pub fn flows(scan: &Scan, take: impl FnMut(Flow) -> bool + Send) -> Outcome {
    let scan = Scan { columns: columns(false), threads: 1, ..scan.clone() };
    let state = Mutex::new((take, Outcome::default()));
    let add = |(): &mut (), batch: &RecordBatch, chosen: &BooleanBuffer| {
        let Ok(mut state) = state.lock() else { return false };
        let (take, outcome) = &mut *state;
        let flows = Flows::of(batch, false);
        chosen.set_indices().all(|row| {
            if flows.sums.is_total(row) {
                outcome.totals += 1;
                outcome.running.add(&flows.counts(row));
                return true;
            }
            match flows.row(row) {
                Some(flow) => take(flow),
                None => {
                    outcome.without_addresses += 1;
                    true
                }
            }
        })
    };
    let stats = scan.run(|| (), add, drop);
    let outcome = state.into_inner().map(|state| state.1).unwrap_or_default();
    Outcome { stats, ..outcome }
}

/// The flows of a batch.
pub(super) struct Flows<'a> {
    src: Addresses<'a>,
    dst: Addresses<'a>,
    proto: Option<&'a UInt8Array>,
    src_port: Option<&'a UInt16Array>,
    dst_port: Option<&'a UInt16Array>,
    received: Option<&'a TimestampMicrosecondArray>,
    back_bytes: Option<&'a Int64Array>,
    back_packets: Option<&'a Int64Array>,
    pub(super) sums: Sums<'a>,
}

struct Addresses<'a> {
    v4: Option<&'a UInt32Array>,
    v6: Option<&'a FixedSizeBinaryArray>,
}

impl<'a> Addresses<'a> {
    fn of(batch: &'a RecordBatch, v4: &str, v6: &str) -> Self {
        Self {
            v4: batch.column_by_name(v4).and_then(|a| a.as_primitive_opt::<UInt32Type>()),
            v6: batch.column_by_name(v6).and_then(|a| a.as_fixed_size_binary_opt()),
        }
    }

    fn value(&self, row: usize) -> Option<IpAddr> {
        if let Some(array) = self.v4.filter(|a| a.is_valid(row)) {
            return Some(Ipv4Addr::from(array.value(row)).into());
        }
        let array = self.v6.filter(|a| a.is_valid(row))?;
        Some(Ipv6Addr::from(*array.value(row).first_chunk::<16>()?).into())
    }
}

fn value<T: arrow_array::ArrowPrimitiveType>(array: Option<&PrimitiveArray<T>>, row: usize) -> Option<T::Native> {
    array.filter(|a| a.is_valid(row)).map(|a| a.value(row))
}

impl<'a> Flows<'a> {
    pub(super) fn of(batch: &'a RecordBatch, scale: bool) -> Self {
        let column = |name: &str| batch.column_by_name(name);
        let number = |name: &str| column(name).and_then(|a| a.as_primitive_opt::<Int64Type>());
        let port = |name: &str| column(name).and_then(|a| a.as_primitive_opt::<UInt16Type>());
        Self {
            src: Addresses::of(batch, "src_ip4", "src_ip6"),
            dst: Addresses::of(batch, "dst_ip4", "dst_ip6"),
            proto: column("proto").and_then(|a| a.as_primitive_opt::<UInt8Type>()),
            src_port: port("src_port"),
            dst_port: port("dst_port"),
            received: column("time_received").and_then(|a| a.as_primitive_opt::<TimestampMicrosecondType>()),
            back_bytes: number("rev_bytes"),
            back_packets: number("rev_packets"),
            sums: Sums::of(batch, scale),
        }
    }

    /// The same, where `count` is set with running totals as the counters of flows.
    pub(super) fn counting_totals(self, count: bool) -> Self {
        Self { sums: self.sums.counting_totals(count), ..self }
    }

    /// What a row's own direction counts.
    pub(super) fn counts(&self, row: usize) -> Counts {
        let sum = self.sums.row(row);
        let whole = |n: i128| i64::try_from(n).unwrap_or(i64::MAX);
        Counts { bytes: whole(sum.bytes), packets: whole(sum.packets), flows: whole(sum.flows) }
    }

    /// The flow of a row; `None` where it has no addresses.
    pub(super) fn row(&self, row: usize) -> Option<Flow> {
        let (src, dst) = (self.src.value(row)?, self.dst.value(row)?);
        let proto = value(self.proto, row);
        let port = |array| value(array, row).filter(|_| !is_icmp(proto));
        let received_us = value(self.received, row).unwrap_or(0);
        let sum = self.sums.row(row);
        let (start, end) = (Some(sum.start).filter(|t| *t != i64::MAX), Some(sum.end).filter(|t| *t != i64::MIN));
        let (start_us, end_us) = (start.or(end).unwrap_or(received_us), end.or(start).unwrap_or(received_us));
        let whole = |n: i128| i64::try_from(n).unwrap_or(i64::MAX);
        let back = |array| value(array, row).map(|n| whole(self.sums.scaled(row, n)));
        let (back_bytes, back_packets) = (back(self.back_bytes), back(self.back_packets));
        let flow = Flow {
            src: (src, port(self.src_port)),
            dst: (dst, port(self.dst_port)),
            proto,
            start_us: start_us.min(end_us),
            end_us,
            received_us,
            sent: Counts { bytes: whole(sum.bytes), packets: whole(sum.packets), flows: whole(sum.flows) },
            // A counter of 0 is that of a direction which was looked at and silent.
            back: (back_bytes.unwrap_or(0) > 0 || back_packets.unwrap_or(0) > 0).then(|| Counts {
                bytes: back_bytes.unwrap_or(0),
                packets: back_packets.unwrap_or(0),
                flows: 0,
            }),
        };
        Some(flow.forward())
    }
}
