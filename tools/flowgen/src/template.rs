//! Templates by name, and records after them.

use crate::encode::Body;
use crate::protocol::Dialect;
use crate::traffic::Flow;
use std::fmt;
use std::str::FromStr;

/// The length that stands for "variable" in an IPFIX template, RFC 7011 section 7.
const VARIABLE: u16 = 65_535;

/// A template that v9 and IPFIX exporters use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Template {
    /// 14 fields, 40 bytes: addresses, ports, protocol, bytes, packets, uptimes, interfaces.
    Basic14,
    /// 23 fields, 76 bytes: the above with AS, masks, next hops, ICMP and absolute times.
    Wide23,
    /// IPv6 addresses, next hop, flow label and 64-bit counters.
    Ipv6,
    /// Names of interfaces, applications and users: of variable length in IPFIX, padded with zeros in v9.
    Variable,
}

impl Template {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Basic14, Self::Wide23, Self::Ipv6, Self::Variable];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Basic14 => "basic14",
            Self::Wide23 => "wide23",
            Self::Ipv6 => "ipv6",
            Self::Variable => "variable",
        }
    }

    /// The id under which exporters announce it; where it has several layouts, that of the first.
    pub fn id(self) -> u16 {
        256 + self as u16
    }

    /// The fields: element id and length.
    fn fields(self, dialect: Dialect) -> Vec<(u16, u16)> {
        match self {
            Self::Basic14 => [
                (8, 4),
                (12, 4),
                (22, 4),
                (21, 4),
                (1, 4),
                (2, 4),
                (10, 4),
                (14, 4),
                (7, 2),
                (11, 2),
                (4, 1),
                (6, 1),
                (60, 1),
                (5, 1),
            ]
            .to_vec(),
            Self::Wide23 => [
                (8, 4),
                (12, 4),
                (5, 1),
                (4, 1),
                (7, 2),
                (11, 2),
                (32, 2),
                (10, 4),
                (16, 4),
                (17, 4),
                (18, 4),
                (14, 4),
                (1, 4),
                (2, 4),
                (22, 4),
                (21, 4),
                (15, 4),
                (9, 1),
                (13, 1),
                (6, 1),
                (60, 1),
                (152, 8),
                (153, 8),
            ]
            .to_vec(),
            Self::Ipv6 => [
                (27, 16),
                (28, 16),
                (62, 16),
                (31, 4),
                (22, 4),
                (21, 4),
                (1, 8),
                (2, 8),
                (10, 4),
                (14, 4),
                (7, 2),
                (11, 2),
                (4, 1),
                (6, 1),
                (60, 1),
                (5, 1),
                (29, 1),
                (30, 1),
            ]
            .to_vec(),
            Self::Variable => {
                let text = |fixed| if dialect == Dialect::Ipfix { VARIABLE } else { fixed };
                [
                    (8, 4),
                    (12, 4),
                    (7, 2),
                    (11, 2),
                    (4, 1),
                    (60, 1),
                    (1, 8),
                    (2, 8),
                    (152, 8),
                    (153, 8),
                    (82, text(24)),
                    (96, text(32)),
                    (371, text(24)),
                ]
                .to_vec()
            }
        }
    }

    /// Appends a field's value in as many bytes as its length says.
    fn field(self, element: u16, length: u16, flow: &Flow, body: &mut Body) {
        let value = match element {
            4 if self == Self::Ipv6 && flow.protocol == 1 => 58,
            60 if self == Self::Ipv6 => 6,
            1 => u128::from(flow.octets),
            2 => u128::from(flow.packets),
            4 => u128::from(flow.protocol),
            5 => u128::from(flow.tos),
            6 => u128::from(flow.tcp_flags),
            7 => u128::from(flow.src_port),
            8 => u128::from(flow.src4),
            9 | 29 => u128::from(flow.src_mask),
            10 => u128::from(flow.input),
            11 => u128::from(flow.dst_port),
            12 => u128::from(flow.dst4),
            13 | 30 => u128::from(flow.dst_mask),
            14 => u128::from(flow.output),
            15 | 18 => u128::from(flow.next_hop4),
            16 => u128::from(flow.src_as),
            17 => u128::from(flow.dst_as),
            21 => return body.uptime(flow.age_ms),
            22 => return body.uptime(flow.age_ms + flow.duration_ms),
            27 => flow.src6(),
            28 => flow.dst6(),
            31 => u128::from(flow.flow_label),
            32 => u128::from(flow.icmp()),
            60 => 4,
            62 => 0x2001_0db8 << 96 | u128::from(flow.next_hop4),
            82 => return text(&interface_name(flow.input), length, flow.long_form, body),
            96 => return text(flow.application, length, flow.long_form, body),
            152 => return body.unix_ms(flow.age_ms + flow.duration_ms),
            153 => return body.unix_ms(flow.age_ms),
            371 => return text(&flow.user, length, flow.long_form, body),
            _ => 0,
        };
        let bytes = value.to_be_bytes();
        body.bytes(&bytes[bytes.len() - usize::from(length)..]);
    }
}

/// Appends a string, with its length before it where the template leaves it open, RFC 7011 section 7.
pub(crate) fn text(value: &str, length: u16, long_form: bool, body: &mut Body) {
    if length == VARIABLE {
        match u8::try_from(value.len()) {
            Ok(short) if short < 255 && !long_form => body.bytes(&[short]),
            _ => {
                body.bytes(&[255]);
                body.u16(value.len() as u16);
            }
        }
        return body.bytes(value.as_bytes());
    }
    let mut cut = vec![0; usize::from(length)];
    cut.iter_mut().zip(value.bytes()).for_each(|(to, from)| *to = from);
    body.bytes(&cut);
}

/// The name of an interface by its number.
pub(crate) fn interface_name(index: u16) -> String {
    match index % 4 {
        0 => format!("TenGigE0/{}/0/{index}", index / 4),
        1 => format!("ge-0/0/{index}"),
        2 => format!("Ethernet{index}"),
        _ => format!("HundredGigE0/0/0/{index}"),
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Template {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|t| t.name() == text);
        found.ok_or_else(|| format!("templates are {}", Self::ALL.map(Self::name).join(", ")))
    }
}

/// A template with its fields in one of their orders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    template: Template,
    turn: u16,
}

impl Layout {
    /// Layouts that a template has at most: each begins with another of its fields.
    pub const MOST: u16 = 13;

    /// So many layouts of each of the templates, every template's first one first.
    pub fn all(templates: &[Template], layouts: u16) -> Vec<Self> {
        (0..layouts).flat_map(|turn| templates.iter().map(move |&template| Self { template, turn })).collect()
    }

    /// The id under which exporters announce it.
    pub fn id(self) -> u16 {
        self.template.id() + self.turn * Template::ALL.len() as u16
    }

    /// The template, whatever the order of its fields.
    pub fn template(self) -> Template {
        self.template
    }

    fn fields(self, dialect: Dialect) -> Vec<(u16, u16)> {
        let mut fields = self.template.fields(dialect);
        let first = usize::from(self.turn) % fields.len();
        fields.rotate_left(first);
        fields
    }

    /// Appends the template record.
    pub fn announce(self, dialect: Dialect, body: &mut Body) {
        let fields = self.fields(dialect);
        body.u16(self.id());
        body.u16(fields.len() as u16);
        for (element, length) in fields {
            body.u16(element);
            body.u16(length);
        }
    }

    /// Appends a record of a flow.
    pub fn record(self, dialect: Dialect, flow: &Flow, body: &mut Body) {
        for (element, length) in self.fields(dialect) {
            self.template.field(element, length, flow, body);
        }
        body.count_flow(flow);
    }
}

/// Options data, RFC 3954 section 6 and RFC 7011 section 3.4.2.2: how the exporter samples, and its interfaces' names.
pub(crate) mod options {
    use super::{Body, Dialect, VARIABLE, interface_name, text};
    use crate::traffic::INTERFACES;

    /// The ids of the two options templates.
    pub(crate) const SAMPLING: u16 = 512;
    pub(crate) const NAMES: u16 = 513;

    /// Appends both options template records.
    pub(crate) fn announce(dialect: Dialect, body: &mut Body) {
        let sampling: &[(u16, u16)] = match dialect {
            Dialect::V9 => &[(34, 4), (35, 1)],
            // IPFIX has no uptime in its header: element 160 says when the exporter started.
            Dialect::Ipfix => &[(34, 4), (35, 1), (160, 8)],
        };
        let names: &[(u16, u16)] = match dialect {
            Dialect::V9 => &[(82, 24)],
            Dialect::Ipfix => &[(82, VARIABLE)],
        };
        // Scopes: v9 has types of its own (1 system, 2 interface), IPFIX takes elements.
        let scopes = if dialect == Dialect::V9 { [1, 2] } else { [149, 10] };
        for (id, scope, fields) in [(SAMPLING, scopes[0], sampling), (NAMES, scopes[1], names)] {
            body.u16(id);
            match dialect {
                Dialect::V9 => {
                    body.u16(4);
                    body.u16(fields.len() as u16 * 4);
                }
                Dialect::Ipfix => {
                    body.u16(fields.len() as u16 + 1);
                    body.u16(1);
                }
            }
            for &(element, length) in [(scope, 4)].iter().chain(fields) {
                body.u16(element);
                body.u16(length);
            }
        }
    }

    /// Appends the record of [`SAMPLING`].
    pub(crate) fn sampling(dialect: Dialect, domain: u32, interval: u32, boot_ms: u64, body: &mut Body) {
        body.u32(domain);
        body.u32(interval);
        // 2: random.
        body.bytes(&[2]);
        if dialect == Dialect::Ipfix {
            body.u64(boot_ms);
        }
        body.count_options();
    }

    /// Appends the records of [`NAMES`].
    pub(crate) fn names(dialect: Dialect, body: &mut Body) {
        for index in 1..=INTERFACES {
            body.u32(u32::from(index));
            text(&interface_name(index), if dialect == Dialect::Ipfix { VARIABLE } else { 24 }, false, body);
            body.count_options();
        }
    }
}
