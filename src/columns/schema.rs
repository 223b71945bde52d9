//! The schema: which elements fill which column, in order of preference.
//!
//! A column is never retyped or dropped, so the schema only grows. Columns that are the same for a whole data set
//! (times of the message, exporter, version) are not here: they stand in a [`Run`](super::Run).

use super::layout::ColumnType::{self, F64, I64, Ip4, Ip6, ListU32, Mac, Text, Timestamp, U8, U16, U32};

/// Version of the schema, written into files.
pub const SCHEMA_VERSION: u32 = 1;
/// What files call it.
pub const SCHEMA_VERSION_KEY: &str = "flowlane.schema_version";

/// A column of the schema that a record fills.
#[derive(Clone, Copy, Debug)]
pub struct SchemaColumn {
    /// Its name.
    pub name: &'static str,
    /// Its type.
    pub data_type: ColumnType,
    /// The elements that fill it, the preferred one first, as (enterprise number, id).
    pub elements: &'static [(u32, u16)],
}

const fn col(name: &'static str, data_type: ColumnType, elements: &'static [(u32, u16)]) -> SchemaColumn {
    SchemaColumn { name, data_type, elements }
}

/// The columns that records fill, in the schema's order. `icmp_type`, `mpls_labels` and the like are derived.
pub const COLUMNS: &[SchemaColumn] = &[
    col("flow_start", Timestamp, &[(0, 156), (0, 154), (0, 158), (0, 152), (0, 22), (0, 150)]),
    col("flow_end", Timestamp, &[(0, 157), (0, 155), (0, 159), (0, 153), (0, 21), (0, 151)]),
    col("event_time", Timestamp, &[(0, 325), (0, 324), (0, 323), (0, 322), (0, 258)]),
    col("time_source", U8, &[]),
    col("src_ip4", Ip4, &[(0, 8)]),
    col("dst_ip4", Ip4, &[(0, 12)]),
    col("src_ip6", Ip6, &[(0, 27)]),
    col("dst_ip6", Ip6, &[(0, 28)]),
    col("proto", U8, &[(0, 4)]),
    col("src_port", U16, &[(0, 7), (0, 182), (0, 180)]),
    col("dst_port", U16, &[(0, 11), (0, 183), (0, 181)]),
    col("tcp_flags", U16, &[(0, 6)]),
    col("icmp_type", U8, &[]),
    col("icmp_code", U8, &[]),
    col("tos", U8, &[(0, 5)]),
    col("src_mask", U8, &[(0, 9), (0, 29)]),
    col("dst_mask", U8, &[(0, 13), (0, 30)]),
    col("ip_ttl", U8, &[(0, 192), (0, 52)]),
    col("ipv6_flow_label", U32, &[(0, 31)]),
    col("fragment_id", U32, &[(0, 54)]),
    col("fragment_offset", U16, &[(0, 88)]),
    col("fragment_flags", U8, &[(0, 197)]),
    col("bytes", I64, &[(0, 1), (0, 85), (0, 231)]),
    col("packets", I64, &[(0, 2), (0, 86), (0, 298)]),
    col("rev_bytes", I64, &[(29305, 1), (29305, 85), (0, 232)]),
    col("rev_packets", I64, &[(29305, 2), (29305, 86), (0, 299)]),
    col("post_bytes", I64, &[(0, 23)]),
    col("post_packets", I64, &[(0, 24)]),
    col("flows", I64, &[(0, 3)]),
    col("sampling_rate", F64, &[]),
    col("sampling_source", U8, &[]),
    col("sampler_id", I64, &[(0, 48), (0, 302)]),
    col("in_if", U32, &[(0, 10), (0, 252)]),
    col("out_if", U32, &[(0, 14), (0, 253)]),
    col("direction", U8, &[(0, 61)]),
    col("end_reason", U8, &[(0, 136)]),
    col("forwarding_status", U8, &[(0, 89)]),
    col("next_hop4", Ip4, &[(0, 15)]),
    col("next_hop6", Ip6, &[(0, 62)]),
    col("bgp_next_hop4", Ip4, &[(0, 18)]),
    col("bgp_next_hop6", Ip6, &[(0, 63)]),
    col("src_as", U32, &[(0, 16)]),
    col("dst_as", U32, &[(0, 17)]),
    col("next_as", U32, &[(0, 128)]),
    col("prev_as", U32, &[(0, 129)]),
    col("src_mac", Mac, &[(0, 56), (0, 81)]),
    col("dst_mac", Mac, &[(0, 80), (0, 57)]),
    col("src_vlan", U16, &[(0, 58), (0, 243)]),
    col("dst_vlan", U16, &[(0, 59), (0, 254)]),
    col("in_vrf", U32, &[(0, 234)]),
    col("out_vrf", U32, &[(0, 235)]),
    col("mpls_labels", ListU32, &[]),
    col("vni", U32, &[(0, 351)]),
    col("nat_src_ip4", Ip4, &[(0, 225), (0, 40001)]),
    col("nat_dst_ip4", Ip4, &[(0, 226), (0, 40002)]),
    col("nat_src_ip6", Ip6, &[(0, 281)]),
    col("nat_dst_ip6", Ip6, &[(0, 282)]),
    col("nat_src_port", U16, &[(0, 227), (0, 40003)]),
    col("nat_dst_port", U16, &[(0, 228), (0, 40004)]),
    col("nat_event", U8, &[(0, 230)]),
    col("port_block_start", U16, &[(0, 361)]),
    col("port_block_end", U16, &[(0, 362)]),
    col("port_block_step", U16, &[(0, 363)]),
    col("port_block_size", U16, &[(0, 364)]),
    col("firewall_event", U8, &[(0, 233), (0, 40005)]),
    col("app_id", Text, &[]),
    col("app_name", Text, &[(0, 96)]),
    col("user_name", Text, &[(0, 371), (0, 40000)]),
    col("in_if_name", Text, &[(0, 82)]),
    col("in_vrf_name", Text, &[(0, 236)]),
    col("sampler_name", Text, &[(0, 84)]),
];

/// The place of a column in [`COLUMNS`].
pub fn rank(name: &str) -> Option<usize> {
    COLUMNS.iter().position(|c| c.name == name)
}
