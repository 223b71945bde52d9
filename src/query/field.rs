//! What the words of a filter name: columns, elements, and nfdump's words for them.

use super::filter::{Column, Rate};
use super::key::directions_of;
use super::literal::Kind;
use super::value::is_column;
use crate::columns::schema::COLUMNS;
use crate::columns::{ColumnType, extra_column_name};
use crate::elements::{Element, REVERSE_PEN, Registry};
use crate::sink::schema::{ADDRESSES, SCHEMA};

/// What a test's values are read as.
pub(super) struct Field {
    // Several: any of them.
    pub(super) columns: Vec<Column>,
    pub(super) kind: Kind,
}

/// The column that a word names: itself, or the one that an element of this name (IANA's, that of its v9 type, `pen/number`)
/// fills. `None` where there is none.
///
/// ```
/// use flowlane::query::column_named;
///
/// assert_eq!(column_named("sourceTransportPort").as_deref(), Some("src_port"));
/// assert_eq!(column_named("29305/1").as_deref(), Some("rev_bytes"));
/// assert_eq!(column_named("flowId").as_deref(), Some("x_flowId"));
/// assert_eq!(column_named("sorce_port"), None);
/// ```
pub fn column_named(word: &str) -> Option<String> {
    if is_column(word) {
        return Some(word.to_string());
    }
    match element(word)?.columns.into_iter().next()? {
        Column::One(name, _) => Some(name.to_string()),
        Column::Extra(name) => Some(name),
        _ => None,
    }
}

/// Whether the values of an extra's column are numbers.
pub fn is_number_extra(column: &str) -> bool {
    let registry = Registry::standard();
    let of = |e: &Element| *extra_column_name(&registry.key(10, e.pen, e.id)) == *column;
    column.starts_with("x_") && registry.iter().any(|e| e.data_type.is_unsigned() && of(e))
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
    if let Some(instead) = of_files(&lower) {
        return Err((0, instead.to_string()));
    }
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
        "dir" | "flowdir" => "direction",
        "ident" => "exporter_name",
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

/// Words of nfdump that ask for what only its files have, and what to ask instead.
fn of_files(words: &[&str]) -> Option<&'static str> {
    Some(match *words {
        ["sysid", ..] => "`exporter = ADDRESS`: a sysid is a number that nfcapd gives within a file",
        ["count", ..] => "another test: a count is a record's place in a file; `flows --limit N` ends after N",
        _ => return None,
    })
}

/// Words that go together.
fn phrase(words: &[&str]) -> Option<(Field, usize)> {
    let one = |column, kind| Field { columns: vec![column], kind };
    let name = match *words {
        ["in" | "out" | "ingress" | "egress", "mac", ..] => {
            let (columns, kind) = both("mac")?;
            return Some((Field { columns, kind }, 2));
        }
        ["observation", "domain", "id", ..] => return Some((column("domain_id")?, 3)),
        ["observation", "point", "id", ..] => return Some((element("observationPointId")?, 3)),
        // What v5 and v7 name so are the two lower octets of what the others call a domain.
        ["engine_type", ..] => return Some((one(Column::Octet("domain_id", 8), Kind::Number), 1)),
        ["engine_id", ..] => return Some((one(Column::Octet("domain_id", 0), Kind::Number), 1)),
        ["mpls", label, ..] if label.len() > 5 && label.starts_with("label") => {
            let number: usize = label.get(5..)?.parse().ok().filter(|n| (1..=10).contains(n))?;
            return Some((one(Column::Label(number - 1), Kind::Number), 2));
        }
        ["client", "latency", ..] => return Some((element("35632/client_nw_latency_ms")?, 2)),
        ["server", "latency", ..] => return Some((element("35632/server_nw_latency_ms")?, 2)),
        ["app", "latency", ..] => return Some((element("35632/app_latency_ms")?, 2)),
        ["pblock", "start", ..] => "port_block_start",
        ["pblock", "end", ..] => "port_block_end",
        ["pblock", "step", ..] => "port_block_step",
        ["pblock", "size", ..] => "port_block_size",
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
        ["mpls", "label" | "any", ..] => "mpls_labels",
        ["src", "tos", ..] => "tos",
        ["dst", "tos", ..] => return Some((element("postIpClassOfService")?, 2)),
        _ => return None,
    };
    Some((column(name)?, 2))
}

/// Both directions of a thing, source first.
fn both(name: &str) -> Option<(Vec<Column>, Kind)> {
    let name = match name {
        "ip" | "host" | "net" => "addr",
        "vrfid" => "vrf",
        "geo" => "country",
        "xip" | "xnet" => "nip",
        "xport" => "nport",
        other => other,
    };
    let names = directions_of(name)?;
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
        ("forwarding_status", _) => Kind::Forwarding,
        // Text in files, an address all the same.
        ("exporter", _) => Kind::Address,
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

/// The column that an element fills, by its name (IANA's, `pen/name`, that of its v9 type, or of the reverse of one), by
/// `pen/number`, or the column of an extra.
fn element(name: &str) -> Option<Field> {
    if name.starts_with("x_") {
        return Some(Field { columns: vec![Column::Extra(name.to_string())], kind: Kind::Extra });
    }
    let registry = Registry::standard();
    let numbered = || name.split_once('/').and_then(|(pen, id)| Some((pen.parse().ok()?, id.parse().ok()?)));
    let named = registry.by_name(name).or_else(|| registry.by_name(&format!("{REVERSE_PEN}/{name}")));
    let (pen, id) = named.map(|e| (e.pen, e.id)).or_else(numbered)?;
    if let Some(filled) = COLUMNS.iter().find(|c| c.elements.contains(&(pen, id))) {
        return column(filled.name);
    }
    let extra = extra_column_name(&registry.key(10, pen, id));
    Some(Field { columns: vec![Column::Extra(extra)], kind: Kind::Extra })
}
