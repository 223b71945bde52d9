//! What the words of a filter name: columns, elements, and nfdump's words for them.

use super::filter::{Column, Rate};
use super::literal::Kind;
use crate::columns::schema::COLUMNS;
use crate::columns::{ColumnType, extra_column_name};
use crate::elements::Registry;
use crate::sink::schema::{ADDRESSES, SCHEMA};

/// What a test's values are read as.
pub(super) struct Field {
    // Several: any of them.
    pub(super) columns: Vec<Column>,
    pub(super) kind: Kind,
}

/// The field that the first words name, and how many of them do.
///
/// # Errors
/// Which word is not understood, and what was expected there.
pub(super) fn field(words: &[&str]) -> Result<(Field, usize), (usize, String)> {
    let lower: Vec<String> = words.iter().map(|w| w.to_ascii_lowercase().replace('-', "_")).collect();
    let lower: Vec<&str> = lower.iter().map(String::as_str).collect();
    let Some(&first) = lower.first() else {
        return Err((0, "a column, like src_addr, dst_port, proto or bytes".into()));
    };
    if let Some(found) = phrase(&lower) {
        return Ok(found);
    }
    let direction = match first {
        "src" => Some(0),
        "dst" => Some(1),
        _ => None,
    };
    if let Some(direction) = direction {
        let found = lower.get(1).and_then(|name| both(name));
        let Some((columns, kind)) = found else {
            return Err((1, "ip, net, host, port, as, if, mask, mac, vlan, country, tos, nip or nport".into()));
        };
        return Ok((Field { columns: columns.into_iter().skip(direction).take(1).collect(), kind }, 2));
    }
    if let Some((columns, kind)) = both(first) {
        return Ok((Field { columns, kind }, 1));
    }
    let name = match first {
        "flags" => "tcp_flags",
        "received" | "time" => "time_received",
        "start" => "flow_start",
        "end" => "flow_end",
        "router" => "exporter",
        "fwdstat" => "forwarding_status",
        "dir" => "direction",
        "label" => "mpls_labels",
        "sampling" => "sampling_rate",
        other => other,
    };
    if let Some(found) = column(name) {
        // `exporter ip` and `router ip`
        let ip = name == "exporter" && lower.get(1) == Some(&"ip");
        return Ok((found, 1 + usize::from(ip)));
    }
    // As it is written: elements' names have capitals.
    if let Some(found) = words.first().and_then(|name| element(name)) {
        return Ok((found, 1));
    }
    let near = SCHEMA.iter().map(|c| c.name).filter(|c| c.contains(name) || name.contains(c)).take(4);
    let near: Vec<&str> = near.collect();
    let hint = if near.is_empty() { String::new() } else { format!("; there are {}", near.join(", ")) };
    Err((0, format!("a column, like src_addr, dst_port, proto or bytes{hint}")))
}

/// Words that go together.
fn phrase(words: &[&str]) -> Option<(Field, usize)> {
    let name = match *words {
        ["in" | "out" | "ingress" | "egress", "src", "mac", ..] => return Some((column("src_mac")?, 3)),
        ["in" | "out" | "ingress" | "egress", "dst", "mac", ..] => return Some((column("dst_mac")?, 3)),
        ["bgp", "next", "ip" | "hop", ..] => return Some((column("bgp_next_hop")?, 3)),
        ["in" | "ingress", "if", ..] => "in_if",
        ["out" | "egress", "if", ..] => "out_if",
        ["in" | "ingress", "vrf" | "vrfid", ..] => "in_vrf",
        ["out" | "egress", "vrf" | "vrfid", ..] => "out_vrf",
        ["in", "bytes", ..] => "bytes",
        ["in", "packets", ..] => "packets",
        ["out", "bytes", ..] => "post_bytes",
        ["out", "packets", ..] => "post_packets",
        ["next", "ip" | "hop", ..] => "next_hop",
        ["bgpnext", "ip", ..] => "bgp_next_hop",
        ["next", "as", ..] => "next_as",
        ["prev", "as", ..] => "prev_as",
        ["nat", "event", ..] => "nat_event",
        ["asa", "event", ..] => "firewall_event",
        ["mpls", "label", ..] => "mpls_labels",
        ["src", "tos", ..] => "tos",
        ["dst", "tos", ..] => return Some((element("postIpClassOfService")?, 2)),
        _ => return None,
    };
    Some((column(name)?, 2))
}

/// Both directions of a thing, source first.
fn both(name: &str) -> Option<(Vec<Column>, Kind)> {
    let names: [&str; 2] = match name {
        "addr" | "ip" | "host" | "net" => ["src_addr", "dst_addr"],
        "port" => ["src_port", "dst_port"],
        "as" => ["src_as", "dst_as"],
        "if" => ["in_if", "out_if"],
        "mask" => ["src_mask", "dst_mask"],
        "mac" => ["src_mac", "dst_mac"],
        "vlan" => ["src_vlan", "dst_vlan"],
        "vrf" | "vrfid" => ["in_vrf", "out_vrf"],
        "country" | "geo" => ["src_country", "dst_country"],
        "nip" | "xip" => ["nat_src_addr", "nat_dst_addr"],
        "nport" | "xport" => ["nat_src_port", "nat_dst_port"],
        _ => return None,
    };
    let fields: Vec<Field> = names.into_iter().filter_map(column).collect();
    let kind = fields.first()?.kind;
    Some((fields.into_iter().flat_map(|f| f.columns).collect(), kind))
}

/// A column of the schema, a pair of columns of both families, or what follows from several.
fn column(name: &str) -> Option<Field> {
    let one = |column, kind| Some(Field { columns: vec![column], kind });
    match name {
        "duration" | "duration_ms" => return one(Column::Duration, Kind::Duration),
        "bps" => return one(Column::Rate(Rate::Bps), Kind::Number),
        "pps" => return one(Column::Rate(Rate::Pps), Kind::Number),
        "bpp" => return one(Column::Rate(Rate::Bpp), Kind::Number),
        _ => {}
    }
    if let Some(pair) = ADDRESSES.iter().find(|p| p.key == name) {
        return one(Column::Pair(pair.v4, pair.v6), Kind::Address);
    }
    let column = SCHEMA.iter().find(|c| c.name == name)?;
    let kind = match (column.name, column.data_type) {
        ("proto", _) => Kind::Protocol,
        ("tcp_flags", _) => Kind::Flags,
        ("src_port" | "dst_port" | "nat_src_port" | "nat_dst_port", _) => Kind::Port,
        ("direction", _) => Kind::Direction,
        ("nat_event" | "firewall_event", _) => Kind::Event,
        (_, ColumnType::Ip4 | ColumnType::Ip6) => Kind::Address,
        (_, ColumnType::Timestamp) => Kind::Time,
        (_, ColumnType::Text) => Kind::Text,
        (_, ColumnType::Mac) => Kind::Mac,
        (_, ColumnType::Bool) => Kind::Bool,
        (_, ColumnType::F64) => Kind::Float,
        _ => Kind::Number,
    };
    one(Column::One(column.name, column.data_type), kind)
}

/// The column that an element fills, by its name (IANA's, `pen/name`, or that of its v9 type), or the column of an extra.
fn element(name: &str) -> Option<Field> {
    if name.starts_with("x_") {
        return Some(Field { columns: vec![Column::Extra(name.to_string())], kind: Kind::Extra });
    }
    let registry = Registry::standard();
    let found = registry.by_name(name)?;
    if let Some(filled) = COLUMNS.iter().find(|c| c.elements.contains(&(found.pen, found.id))) {
        return column(filled.name);
    }
    let extra = extra_column_name(&registry.key(10, found.pen, found.id));
    Some(Field { columns: vec![Column::Extra(extra)], kind: Kind::Extra })
}
