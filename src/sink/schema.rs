//! The whole schema, in its order, as files and text have it.

use crate::columns::ColumnType::{self, Bool, F64, I64, Ip4, Ip6, ListU32, Mac, Text, Timestamp, U8, U16, U32};

/// A column of the schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SchemaColumn {
    /// Its name.
    pub name: &'static str,
    /// Its type.
    pub data_type: ColumnType,
    /// Whether a row can lack it.
    pub nullable: bool,
    /// Whether its texts are few and come again: files keep them in dictionaries.
    pub dictionary: bool,
}

const fn always(name: &'static str, data_type: ColumnType) -> SchemaColumn {
    SchemaColumn { name, data_type, nullable: false, dictionary: false }
}

const fn maybe(name: &'static str, data_type: ColumnType) -> SchemaColumn {
    SchemaColumn { name, data_type, nullable: true, dictionary: false }
}

/// Text of a table: one of few.
const fn named(name: &'static str) -> SchemaColumn {
    SchemaColumn { name, data_type: Text, nullable: true, dictionary: true }
}

/// Columns that are the same for all rows of a run: the first of the schema.
pub const RUN_COLUMNS: usize = 8;

/// Every column but `extras`, which stands last.
pub const SCHEMA: &[SchemaColumn] = &[
    always("time_received", Timestamp),
    always("export_time", Timestamp),
    SchemaColumn { name: "exporter", data_type: Text, nullable: false, dictionary: true },
    always("exporter_port", U16),
    always("version", U8),
    always("domain_id", U32),
    always("sequence", U32),
    always("template_id", U16),
    maybe("flow_start", Timestamp),
    maybe("flow_end", Timestamp),
    maybe("event_time", Timestamp),
    always("time_source", U8),
    maybe("src_ip4", Ip4),
    maybe("dst_ip4", Ip4),
    maybe("src_ip6", Ip6),
    maybe("dst_ip6", Ip6),
    maybe("proto", U8),
    maybe("src_port", U16),
    maybe("dst_port", U16),
    maybe("tcp_flags", U16),
    maybe("icmp_type", U8),
    maybe("icmp_code", U8),
    maybe("tos", U8),
    maybe("src_mask", U8),
    maybe("dst_mask", U8),
    maybe("ip_ttl", U8),
    maybe("ipv6_flow_label", U32),
    maybe("fragment_id", U32),
    maybe("fragment_offset", U16),
    maybe("fragment_flags", U8),
    maybe("bytes", I64),
    maybe("packets", I64),
    maybe("rev_bytes", I64),
    maybe("rev_packets", I64),
    maybe("post_bytes", I64),
    maybe("post_packets", I64),
    always("flows", I64),
    always("counters_are_total", Bool),
    maybe("sampling_rate", F64),
    always("sampling_source", U8),
    maybe("sampler_id", I64),
    maybe("in_if", U32),
    maybe("out_if", U32),
    maybe("direction", U8),
    maybe("end_reason", U8),
    maybe("forwarding_status", U8),
    maybe("next_hop4", Ip4),
    maybe("next_hop6", Ip6),
    maybe("bgp_next_hop4", Ip4),
    maybe("bgp_next_hop6", Ip6),
    maybe("src_as", U32),
    maybe("dst_as", U32),
    maybe("next_as", U32),
    maybe("prev_as", U32),
    maybe("src_mac", Mac),
    maybe("dst_mac", Mac),
    maybe("src_vlan", U16),
    maybe("dst_vlan", U16),
    maybe("in_vrf", U32),
    maybe("out_vrf", U32),
    maybe("mpls_labels", ListU32),
    maybe("vni", U32),
    maybe("nat_src_ip4", Ip4),
    maybe("nat_dst_ip4", Ip4),
    maybe("nat_src_ip6", Ip6),
    maybe("nat_dst_ip6", Ip6),
    maybe("nat_src_port", U16),
    maybe("nat_dst_port", U16),
    maybe("nat_event", U8),
    maybe("port_block_start", U16),
    maybe("port_block_end", U16),
    maybe("port_block_step", U16),
    maybe("port_block_size", U16),
    maybe("firewall_event", U8),
    maybe("app_id", Text),
    named("app_name"),
    maybe("user_name", Text),
    named("in_if_name"),
    named("out_if_name"),
    named("in_vrf_name"),
    named("out_vrf_name"),
    named("sampler_name"),
    named("exporter_name"),
    named("src_country"),
    named("dst_country"),
    named("src_as_name"),
    named("dst_as_name"),
    named("src_net"),
    named("dst_net"),
    named("src_site"),
    named("dst_site"),
    named("src_city"),
    named("dst_city"),
    maybe("in_if_speed", I64),
    maybe("out_if_speed", I64),
];

/// A pair of columns, one a family, that text shows under one key.
#[derive(Clone, Copy, Debug)]
pub struct AddressPair {
    /// The key of text output.
    pub key: &'static str,
    /// The column of IPv4.
    pub v4: &'static str,
    /// The column of IPv6.
    pub v6: &'static str,
}

const fn pair(key: &'static str, v4: &'static str, v6: &'static str) -> AddressPair {
    AddressPair { key, v4, v6 }
}

/// The six keys of text output that stand for pairs of columns.
pub const ADDRESSES: [AddressPair; 6] = [
    pair("src_addr", "src_ip4", "src_ip6"),
    pair("dst_addr", "dst_ip4", "dst_ip6"),
    pair("next_hop", "next_hop4", "next_hop6"),
    pair("bgp_next_hop", "bgp_next_hop4", "bgp_next_hop6"),
    pair("nat_src_addr", "nat_src_ip4", "nat_src_ip6"),
    pair("nat_dst_addr", "nat_dst_ip4", "nat_dst_ip6"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::columns::schema::COLUMNS;

    #[test]
    fn every_column_of_a_batch_stands_in_the_schema_in_order_and_type() {
        let mut at = RUN_COLUMNS;
        for column in COLUMNS {
            let found = SCHEMA[at..].iter().position(|c| c.name == column.name).expect(column.name);
            at += found;
            assert_eq!(SCHEMA[at].data_type, column.data_type, "{}", column.name);
        }
        for pair in ADDRESSES {
            assert!([pair.v4, pair.v6].iter().all(|n| SCHEMA.iter().any(|c| c.name == *n)));
        }
    }
}
