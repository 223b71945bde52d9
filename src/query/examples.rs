//! The filter language by examples, which `flowlane help filter` shows and a test runs.

/// Filters, by what they are about: each with what it asks for.
pub const EXAMPLES: &[(&str, &[(&str, &str)])] = &[
    (
        "Who",
        &[
            ("host 10.1.2.3", "flows from or to an address"),
            ("src_addr in 10.0.0.0/8, 2001:db8::/32", "from one of several prefixes, of either family"),
            ("src net 10/8 and not dst net 10/8", "from inside to outside"),
            ("dst net 192.0.2.0 255.255.255.0", "a prefix with its mask"),
            ("ip in [10.1.2.3 198.51.100.7]", "a list as nfdump has it"),
            ("ipv6", "of one family"),
            ("src as 64500", "by number of the autonomous system; `as`, `next as`, `prev as`"),
        ],
    ),
    (
        "What",
        &[
            ("proto tcp and dst port 443", "a protocol and a port; `and` may be left out"),
            ("port https or port domain", "a service, at either end"),
            ("dst_port in 1..1023, 8080", "ranges and values"),
            ("src port > 1024 dst port < 1024", "comparisons: = != < <= > >="),
            ("flags S and not flags AFRPU", "TCP flags by letter: all of them are set; after `not`, none of them"),
            ("flags = S", "exactly these, as `flags = 0x02`; `in` for one of several"),
            ("proto icmp and icmp-type 8", "type and code of ICMP"),
            ("tos 184", "the type of service"),
        ],
    ),
    (
        "How much",
        &[
            ("bytes > 1M", "k, M, G and T are powers of 1000"),
            ("packets = 1 and bytes < 100", "counters of a record"),
            ("bps > 1M", "bits a second of the flow itself; `pps`, `bpp`"),
            ("duration >= 10s", "ms, s, m, h, d; milliseconds without a unit"),
        ],
    ),
    (
        "When",
        &[
            ("last 1h", "received so long ago at most"),
            ("received >= 2026-11-24T10:00 and received < 2026-11-24T12:00", "from and to, UTC"),
            ("start > -30m", "by the exporter's clock, before now"),
            ("time 2026-11-24", "all of a day"),
        ],
    ),
    (
        "Where",
        &[
            ("exporter = 192.0.2.254", "by the router that told of it; `router ip`"),
            ("exporter in 192.0.2.252/31", "by the network that it is in"),
            ("in if 3 or out if 3", "interfaces; `if` is either"),
            ("dir ingress", "where the exporter saw it"),
            ("next ip 192.0.2.9", "the next hop; `bgpnext ip`"),
        ],
    ),
    (
        "Anything else",
        &[
            ("src_port is absent", "what the record does not have"),
            ("proto tcp and vni is absent", "every column of the schema has its name"),
            ("sourceTransportPort = 443", "every element has its name, too, IANA's or that of NetFlow v9"),
            ("(net 10.1.2.0/24 or port 53) and not proto icmp", "groups; `!`, `&&` and `||` are words, too"),
            ("proto udp # and so on", "a remark"),
        ],
    ),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::Filter;
    use arrow_array::builder::{FixedSizeBinaryBuilder, StringBuilder};
    use arrow_array::{
        ArrayRef, Int64Array, RecordBatch, TimestampMicrosecondArray, UInt8Array, UInt16Array, UInt32Array,
    };
    use std::net::{Ipv4Addr, Ipv6Addr};
    use std::sync::Arc;

    const MINUTE: i64 = 60_000_000;
    /// 2026-11-24 11:30.
    const NOW: i64 = 1_795_519_800_000_000;

    /// Five flows: a large upload over HTTPS and what came back, a question to a name server, an echo, an old attempt.
    fn flows() -> RecordBatch {
        let v4 = |texts: [&str; 5]| -> ArrayRef {
            Arc::new(UInt32Array::from_iter(texts.map(|t| t.parse::<Ipv4Addr>().ok().map(u32::from))))
        };
        let v6 = |text: &str| -> ArrayRef {
            let mut column = FixedSizeBinaryBuilder::new(16);
            (0..5).for_each(|i| match text.parse::<Ipv6Addr>().ok().filter(|_| i == 2) {
                Some(ip) => column.append_value(ip.octets()).expect("16 bytes"),
                None => column.append_null(),
            });
            Arc::new(column.finish())
        };
        let bytes = |values: [Option<u8>; 5]| -> ArrayRef { Arc::new(UInt8Array::from_iter(values)) };
        let ports = |values: [Option<u16>; 5]| -> ArrayRef { Arc::new(UInt16Array::from_iter(values)) };
        let numbers = |values: [Option<u32>; 5]| -> ArrayRef { Arc::new(UInt32Array::from_iter(values)) };
        let counters = |values: [i64; 5]| -> ArrayRef { Arc::new(Int64Array::from_iter_values(values)) };
        let times = |ago: [i64; 5]| -> ArrayRef {
            let us = ago.map(|ago| NOW - ago);
            Arc::new(TimestampMicrosecondArray::from_iter_values(us).with_timezone("UTC"))
        };
        let mut exporters = StringBuilder::new();
        (0..5).for_each(|i| exporters.append_value(if i < 3 { "192.0.2.254" } else { "192.0.2.253" }));
        let (ten, long) = (10 * MINUTE, 125 * MINUTE);
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("src_ip4", v4(["10.1.2.3", "192.0.2.1", "", "10.1.2.4", "172.16.0.9"])),
            ("dst_ip4", v4(["192.0.2.1", "10.1.2.3", "", "198.51.100.7", "10.9.9.9"])),
            ("src_ip6", v6("2001:db8::1")),
            ("dst_ip6", v6("2001:db8:1::53")),
            ("proto", bytes([6, 6, 17, 1, 6].map(Some))),
            ("src_port", ports([Some(50_000), Some(443), Some(53_000), None, Some(1024)])),
            ("dst_port", ports([Some(443), Some(50_000), Some(53), None, Some(22)])),
            ("tcp_flags", ports([Some(0x12), Some(0x18), None, None, Some(0x02)])),
            ("icmp_type", bytes([None, None, None, Some(8), None])),
            ("tos", bytes([0, 0, 184, 0, 0].map(Some))),
            ("bytes", counters([1_500_000, 20_000, 70, 84, 60])),
            ("packets", counters([1000, 20, 1, 1, 1])),
            ("flow_start", times([ten + 10_000_000, ten + 10_000_000, ten, ten, long])),
            ("flow_end", times([ten, ten, ten, ten, long])),
            ("time_received", times([ten, ten, ten, ten, long])),
            ("exporter", Arc::new(exporters.finish())),
            ("in_if", numbers([Some(3), Some(4), None, None, Some(3)])),
            ("out_if", numbers([Some(4), Some(3), None, None, Some(5)])),
            ("src_as", numbers([Some(64_500), None, None, None, None])),
            ("direction", bytes([Some(0), Some(1), None, None, Some(0)])),
            ("next_hop4", v4(["192.0.2.9", "", "", "", ""])),
            ("next_hop6", v6("")),
        ];
        RecordBatch::try_from_iter(columns).expect("a batch")
    }

    #[test]
    fn every_example_finds_what_it_says() {
        let expected: &[(&str, &[usize])] = &[
            ("host 10.1.2.3", &[0, 1]),
            ("src_addr in 10.0.0.0/8, 2001:db8::/32", &[0, 2, 3]),
            ("src net 10/8 and not dst net 10/8", &[0, 3]),
            ("dst net 192.0.2.0 255.255.255.0", &[0]),
            ("ip in [10.1.2.3 198.51.100.7]", &[0, 1, 3]),
            ("ipv6", &[2]),
            ("src as 64500", &[0]),
            ("proto tcp and dst port 443", &[0]),
            ("port https or port domain", &[0, 1, 2]),
            ("dst_port in 1..1023, 8080", &[0, 2, 4]),
            ("src port > 1024 dst port < 1024", &[0, 2]),
            ("flags S and not flags AFRPU", &[4]),
            ("flags = S", &[4]),
            ("exporter in 192.0.2.252/31", &[3, 4]),
            ("proto icmp and icmp-type 8", &[3]),
            ("tos 184", &[2]),
            ("bytes > 1M", &[0]),
            ("packets = 1 and bytes < 100", &[2, 3, 4]),
            ("bps > 1M", &[0]),
            ("duration >= 10s", &[0, 1]),
            ("last 1h", &[0, 1, 2, 3]),
            ("received >= 2026-11-24T10:00 and received < 2026-11-24T12:00", &[0, 1, 2, 3]),
            ("start > -30m", &[0, 1, 2, 3]),
            ("time 2026-11-24", &[0, 1, 2, 3, 4]),
            ("exporter = 192.0.2.254", &[0, 1, 2]),
            ("in if 3 or out if 3", &[0, 1, 4]),
            ("dir ingress", &[0, 4]),
            ("next ip 192.0.2.9", &[0]),
            ("src_port is absent", &[3]),
            ("proto tcp and vni is absent", &[0, 1, 4]),
            ("sourceTransportPort = 443", &[1]),
            ("(net 10.1.2.0/24 or port 53) and not proto icmp", &[0, 1, 2]),
            ("proto udp # and so on", &[2]),
        ];
        let batch = flows();
        let mut all: Vec<&str> = EXAMPLES.iter().flat_map(|group| group.1.iter().map(|e| e.0)).collect();
        for (text, rows) in expected {
            let filter = Filter::parse(text, NOW).unwrap_or_else(|e| panic!("{e}"));
            let found: Vec<usize> = filter.rows(&batch).0.set_indices().collect();
            assert_eq!(found, *rows, "{text}");
            all.retain(|example| example != text);
        }
        assert!(all.is_empty(), "not run: {all:?}");
    }

    #[test]
    fn words_of_nfdump() {
        let batch = flows();
        for (text, rows) in [
            ("proto 6 and flags PA", &[1][..]),
            ("inet and not proto tcp", &[3]),
            ("pps > 50", &[0]),
            ("bpp 70", &[2]),
            ("bpp in 50..80", &[2, 4]),
            ("(src ip 10.1.2.3 || dst ip 10.1.2.3) && bytes < 100k", &[1]),
            ("router ip 192.0.2.253", &[3, 4]),
            ("in bytes > 1000", &[0, 1]),
            ("out bytes > 1", &[]),
            ("src tos 184", &[2]),
            ("dst tos 1", &[]),
            ("egress if 4", &[0]),
            ("dir out", &[1]),
            ("nat event create", &[]),
            ("nat event add", &[]),
            ("asa event ignore", &[]),
            ("flowdir ingress", &[0, 4]),
            ("in mac aa:bb:cc:dd:ee:ff", &[]),
            ("fwdstat forw or fwdstat drop", &[]),
            ("pblock start 1024 or pblock size > 5", &[]),
            ("src xnet 10/8", &[]),
            ("ident border", &[]),
            ("client latency > 5", &[]),
            ("reverseOctetDeltaCount > 5", &[]),
            ("29305/2 is present", &[]),
            ("asa event deny", &[]),
            ("mpls label 16", &[]),
            ("mpls label1 16 or mpls any 17", &[]),
            ("src nip 10.0.0.1 or nport 5", &[]),
            ("fwdstat 64", &[]),
            ("L4_DST_PORT 22", &[4]),
            ("octetDeltaCount > 1M", &[0]),
            ("flowId = 7", &[]),
            ("duration_ms = 10000", &[0, 1]),
            ("bps is present", &[0, 1, 2, 3, 4]),
            ("geo US", &[]),
        ] {
            let filter = Filter::parse(text, NOW).unwrap_or_else(|e| panic!("{e}"));
            let found: Vec<usize> = filter.rows(&batch).0.set_indices().collect();
            assert_eq!(found, rows, "{text}");
        }
        for (text, column) in [
            ("flowId = 7", "x_flowId"),
            ("reverseOctetDeltaCount > 5", "rev_bytes"),
            ("29305/2 > 5", "rev_packets"),
            ("observation point id 4", "x_observationPointId"),
            ("ident border", "exporter_name"),
            ("pblock end 5", "port_block_end"),
        ] {
            assert_eq!(Filter::parse(text, 0).expect("an element").columns(), [column], "{text}");
        }
        assert!(Filter::parse("dst net 10.0.0.0 255.0.255.0", 0).is_err());
    }
}
