//! The columns of one record by the rules of the schema.

use super::{Field, Message, Row, Spec, Tables, Val, be};
use flowlane::elements::{DataType, Registry};
use std::collections::BTreeSet;

#[derive(Clone, Copy, PartialEq)]
enum Type {
    U8,
    U16,
    U32,
    I64,
    Ts,
    Ip4,
    Ip6,
    Mac,
    Text,
}

type Generic = (&'static str, Type, &'static [(u32, u16)]);

#[rustfmt::skip]
const GENERIC: &[Generic] = &[
    ("event_time", Type::Ts, &[(0, 325), (0, 324), (0, 323), (0, 322), (0, 258)]),
    ("src_ip4", Type::Ip4, &[(0, 8)]),
    ("dst_ip4", Type::Ip4, &[(0, 12)]),
    ("src_ip6", Type::Ip6, &[(0, 27)]),
    ("dst_ip6", Type::Ip6, &[(0, 28)]),
    ("proto", Type::U8, &[(0, 4)]),
    ("src_port", Type::U16, &[(0, 7), (0, 182), (0, 180)]),
    ("dst_port", Type::U16, &[(0, 11), (0, 183), (0, 181)]),
    ("tcp_flags", Type::U16, &[(0, 6)]),
    ("tos", Type::U8, &[(0, 5)]),
    ("ip_ttl", Type::U8, &[(0, 192), (0, 52)]),
    ("ipv6_flow_label", Type::U32, &[(0, 31)]),
    ("fragment_id", Type::U32, &[(0, 54)]),
    ("fragment_offset", Type::U16, &[(0, 88)]),
    ("fragment_flags", Type::U8, &[(0, 197)]),
    ("bytes", Type::I64, &[(0, 1), (0, 85), (0, 231)]),
    ("packets", Type::I64, &[(0, 2), (0, 86), (0, 298)]),
    ("post_bytes", Type::I64, &[(0, 23)]),
    ("post_packets", Type::I64, &[(0, 24)]),
    ("flows", Type::I64, &[(0, 3)]),
    ("sampler_id", Type::I64, &[(0, 48), (0, 302)]),
    ("in_if", Type::U32, &[(0, 10), (0, 252)]),
    ("out_if", Type::U32, &[(0, 14), (0, 253)]),
    ("direction", Type::U8, &[(0, 61)]),
    ("end_reason", Type::U8, &[(0, 136)]),
    ("next_hop4", Type::Ip4, &[(0, 15)]),
    ("next_hop6", Type::Ip6, &[(0, 62)]),
    ("bgp_next_hop4", Type::Ip4, &[(0, 18)]),
    ("bgp_next_hop6", Type::Ip6, &[(0, 63)]),
    ("src_as", Type::U32, &[(0, 16)]),
    ("dst_as", Type::U32, &[(0, 17)]),
    ("next_as", Type::U32, &[(0, 128)]),
    ("prev_as", Type::U32, &[(0, 129)]),
    ("src_mac", Type::Mac, &[(0, 56), (0, 81)]),
    ("dst_mac", Type::Mac, &[(0, 80), (0, 57)]),
    ("src_vlan", Type::U16, &[(0, 58), (0, 243)]),
    ("dst_vlan", Type::U16, &[(0, 59), (0, 254)]),
    ("in_vrf", Type::U32, &[(0, 234)]),
    ("out_vrf", Type::U32, &[(0, 235)]),
    ("nat_src_ip4", Type::Ip4, &[(0, 225), (0, 40001)]),
    ("nat_dst_ip4", Type::Ip4, &[(0, 226), (0, 40002)]),
    ("nat_src_ip6", Type::Ip6, &[(0, 281)]),
    ("nat_dst_ip6", Type::Ip6, &[(0, 282)]),
    ("nat_src_port", Type::U16, &[(0, 227), (0, 40003)]),
    ("nat_dst_port", Type::U16, &[(0, 228), (0, 40004)]),
    ("nat_event", Type::U8, &[(0, 230)]),
    ("port_block_start", Type::U16, &[(0, 361)]),
    ("port_block_end", Type::U16, &[(0, 362)]),
    ("port_block_step", Type::U16, &[(0, 363)]),
    ("port_block_size", Type::U16, &[(0, 364)]),
    ("firewall_event", Type::U8, &[(0, 233), (0, 40005)]),
    ("app_name", Type::Text, &[(0, 96)]),
    ("user_name", Type::Text, &[(0, 371), (0, 40000)]),
    ("in_if_name", Type::Text, &[(0, 82)]),
    ("in_vrf_name", Type::Text, &[(0, 236)]),
    ("sampler_name", Type::Text, &[(0, 84)]),
];

/// A number, where 64 bits hold it.
fn number(raw: &[u8]) -> Option<u64> {
    let high = raw.len().saturating_sub(8);
    (!raw.is_empty() && raw[..high].iter().all(|&b| b == 0)).then(|| be(&raw[high..]))
}

fn text(raw: &[u8]) -> Option<String> {
    let end = raw.iter().rposition(|&b| b != 0).map_or(0, |p| p + 1);
    String::from_utf8(raw[..end].to_vec()).ok()
}

/// Seconds of NTP in the era nearest to the export time, as Unix seconds.
fn ntp_seconds(seconds: u64, export_us: i64) -> i64 {
    let near = |era: i64| seconds as i64 + era * (1i64 << 32) - 2_208_988_800;
    (-1..=1).map(near).min_by_key(|s| (s * 1_000_000 - export_us).abs()).unwrap_or(0)
}

fn time(m: &Message, spec: Spec, data_type: Option<DataType>, netscaler: bool, raw: &[u8]) -> Option<i64> {
    let n = number(raw)?;
    let id = if spec.pen == 0 { spec.id } else { 0 };
    if matches!(id, 158 | 159) {
        return if raw.len() <= 8 { m.export_us.checked_sub(i64::try_from(n).ok()?) } else { None };
    }
    let ntp = |fraction_us: u64| Some(ntp_seconds(n >> 32, m.export_us) * 1_000_000 + fraction_us as i64);
    let eight = raw.len() == 8;
    match data_type? {
        DataType::DateTimeSeconds if raw.len() <= 8 => i64::try_from(n).ok()?.checked_mul(1_000_000),
        DataType::DateTimeMilliseconds if raw.len() <= 8 => i64::try_from(n).ok()?.checked_mul(1000),
        DataType::DateTimeMicroseconds if eight && netscaler && matches!(id, 154 | 155) => ntp(n & 0xffff_ffff),
        DataType::DateTimeMicroseconds if eight => ntp(((n & 0xffff_f800) * 1_000_000) >> 32),
        DataType::DateTimeNanoseconds if eight => ntp(((n & 0xffff_ffff) * 1_000_000) >> 32),
        _ => None,
    }
}

/// One packet in how many: 34; 50; 305 and 306; 309 and 310; 311.
pub fn rate<'a>(raw: &dyn Fn(u16) -> Option<&'a [u8]>) -> Option<f64> {
    let n = |id| raw(id).and_then(number).map(|n| n as f64);
    let known = |r: f64| (r.is_finite() && r > 0.0).then_some(r);
    let probability = raw(311).and_then(|b| match b.len() {
        4 => Some(f64::from(f32::from_be_bytes(b.try_into().ok()?))),
        8 => Some(f64::from_be_bytes(b.try_into().ok()?)),
        _ => None,
    });
    n(34)
        .and_then(known)
        .or_else(|| n(50).and_then(known))
        .or_else(|| known((n(305)? + n(306)?) / n(305)?))
        .or_else(|| known(n(310)? / n(309)?))
        .or_else(|| known(1.0 / probability?))
}

struct Record<'a> {
    m: &'a Message,
    fields: &'a [Field<'a>],
    used: BTreeSet<usize>,
    row: Row,
    netscaler: bool,
}

impl Record<'_> {
    fn kind(&self, i: usize) -> Option<DataType> {
        let s = self.fields[i].spec;
        Registry::standard().lookup(self.m.version as u8, s.pen, s.id).map(|e| e.data_type)
    }

    /// The first occurrence of an element, if it is present.
    fn first(&self, pen: u32, id: u16) -> Option<usize> {
        let i = self.fields.iter().position(|f| (f.spec.pen, f.spec.id) == (pen, id))?;
        (!self.fields[i].raw.is_empty()).then_some(i)
    }

    fn raw(&self, id: u16) -> Option<&[u8]> {
        self.first(0, id).map(|i| self.fields[i].raw)
    }

    fn put(&mut self, name: &str, v: Val) {
        self.row.columns.insert(name.to_owned(), v);
    }

    fn uint(&self, name: &str) -> Option<u64> {
        match self.row.columns.get(name)? {
            Val::Unsigned(n) => Some(*n),
            Val::Signed(n) => u64::try_from(*n).ok(),
            _ => None,
        }
    }

    fn convert(&self, i: usize, to: Type) -> Option<Val> {
        let raw = self.fields[i].raw;
        let below = |max: u64| number(raw).filter(|&n| n <= max).map(Val::Unsigned);
        let exactly = |n: usize| (raw.len() == n).then(|| Val::Bytes(raw.to_vec()));
        match to {
            Type::U8 => below(0xff),
            Type::U16 => below(0xffff),
            Type::U32 => below(0xffff_ffff),
            Type::I64 => number(raw).and_then(|n| i64::try_from(n).ok()).map(Val::Signed),
            Type::Ts => time(self.m, self.fields[i].spec, self.kind(i), self.netscaler, raw).map(Val::Time),
            Type::Ip4 => exactly(4),
            Type::Ip6 => exactly(16),
            Type::Mac => exactly(6),
            Type::Text => text(raw).map(Val::Text),
        }
    }

    /// Whether a field is a value of a column's kind at all, be it too large for the column.
    fn is_of_kind(&self, i: usize, to: Type) -> bool {
        match to {
            Type::U8 | Type::U16 | Type::U32 | Type::I64 => number(self.fields[i].raw).is_some(),
            _ => self.convert(i, to).is_some(),
        }
    }

    fn generic(&mut self, name: &str, to: Type, elements: &[(u32, u16)]) {
        let mask = name.ends_with("_mask")
            && elements.iter().all(|e| self.fields.iter().any(|f| (f.spec.pen, f.spec.id) == *e));
        let present = |&(pen, id): &(u32, u16)| {
            let at = self.fields.iter().position(|f| (f.spec.pen, f.spec.id) == (pen, id))?;
            // One that varies in length, and so is now and then no such value, gives way to the next.
            let gives_way = (self.fields[at].spec.len == 65535 || mask) && !self.is_of_kind(at, to);
            ((to == Type::Text || !self.fields[at].raw.is_empty()) && !gives_way).then_some(at)
        };
        let Some(i) = elements.iter().find_map(present) else { return };
        if let Some(v) = self.convert(i, to) {
            self.used.insert(i);
            self.put(name, v);
        }
    }

    fn zero(&self, name: &str) -> Option<bool> {
        match self.row.columns.get(name)? {
            Val::Bytes(b) => Some(b.iter().all(|&b| b == 0)),
            _ => None,
        }
    }

    /// The record's family; removes addresses that are absent by the family rule.
    fn family(&mut self) -> u8 {
        let (v4, v6) = (["src_ip4", "dst_ip4"], ["src_ip6", "dst_ip6"]);
        let has = |r: &Self, c: [&str; 2]| c.iter().any(|n| r.row.columns.contains_key(*n));
        let live = |r: &Self, c: [&str; 2]| c.iter().any(|n| r.zero(n) == Some(false));
        match (has(self, v4), has(self, v6)) {
            (_, false) => return 4,
            (false, true) => return 6,
            _ => {}
        }
        let at = |ids: [u16; 2]| self.fields.iter().position(|f| f.spec.pen == 0 && ids.contains(&f.spec.id));
        let (family, both) = match (live(self, v4), live(self, v6)) {
            (true, true) => (if at([27, 28]) < at([8, 12]) { 6 } else { 4 }, true),
            (true, false) => (4, false),
            (false, true) => (6, false),
            (false, false) => (if self.raw(60).and_then(number) == Some(6) { 6 } else { 4 }, false),
        };
        if !both {
            for name in if family == 6 { v4 } else { v6 } {
                self.row.columns.remove(name);
            }
        }
        family
    }

    fn next_hop(&mut self, v4: &str, v6: &str, family: u8) {
        let (Some(z4), Some(z6)) = (self.zero(v4), self.zero(v6)) else { return };
        let gone = match (z4, z6) {
            (false, false) => return,
            (true, false) => v4,
            (false, true) => v6,
            (true, true) if family == 6 => v4,
            (true, true) => v6,
        };
        self.row.columns.remove(gone);
    }

    fn times(&mut self, tables: &Tables) -> u8 {
        let m = self.m;
        let fixed = |r: &Self, id| r.first(0, id).filter(|&i| r.fields[i].spec.len != 65535);
        let low4 = |r: &Self, i: usize| {
            let raw = r.fields[i].raw;
            be(&raw[raw.len().saturating_sub(4)..]) as u32
        };
        let init_raw = fixed(self, 160).and_then(|i| self.convert_extra_time(i));
        let init_options = tables.init.get(&(m.exporter.ip(), m.domain)).copied();
        let base = init_raw.map(|us| us.div_euclid(1000)).or(init_options.map(|ms| ms as i64));
        let uptime_code = match (m.version, fixed(self, 160), init_options) {
            (10, Some(_), _) => 2,
            (10, None, Some(_)) => 3,
            (10, None, None) => 4,
            _ => 1,
        };
        let mut codes = [None, None];
        for (side, slot) in codes.iter_mut().enumerate() {
            let order: [(u16, u16, u8); 6] =
                [(157, 156, 8), (155, 154, 7), (159, 158, 9), (153, 152, 6), (21, 22, uptime_code), (151, 150, 5)];
            for (end, start, code) in order {
                let id = if side == 0 { end } else { start };
                let Some(i) = self.first(0, id) else { continue };
                let raw = self.fields[i].raw;
                let value = if matches!(id, 21 | 22) {
                    if self.fields[i].spec.len == 65535 || raw.len() > 8 {
                        continue;
                    }
                    let up = match (m.uptime, base) {
                        (Some(up), _) => Some(up),
                        (None, Some(base)) => Some(m.export_us.div_euclid(1000).wrapping_sub(base) as u32),
                        // The flow is taken to have ended when it was exported.
                        (None, None) => fixed(self, 21).map(|i| low4(self, i)),
                    };
                    up.map(|up| m.export_us - 1000 * i64::from(up.wrapping_sub(low4(self, i)) as i32))
                } else {
                    let wrong_length = match id {
                        154..=157 => raw.len() != 8,
                        _ => raw.len() > 8,
                    };
                    if wrong_length {
                        continue;
                    }
                    time(m, self.fields[i].spec, self.kind(i), self.netscaler, raw)
                };
                *slot = Some(code);
                if let Some(t) = value {
                    self.used.insert(i);
                    self.put(if side == 0 { "flow_end" } else { "flow_start" }, Val::Time(t));
                } else if matches!(id, 21 | 22) {
                    self.used.insert(i);
                }
                break;
            }
        }
        let duration = [(161, 1000), (162, 1)].into_iter().find_map(|(id, unit)| Some((fixed(self, id)?, unit)));
        if let (Some((i, unit)), true) = (duration, codes != [None, None]) {
            let length = number(self.fields[i].raw).and_then(|n| i64::try_from(n).ok()?.checked_mul(unit));
            let side = |r: &Self, name: &str| match r.row.columns.get(name) {
                Some(Val::Time(t)) => Some(*t),
                _ => None,
            };
            match (side(self, "flow_start"), side(self, "flow_end"), length) {
                (Some(start), None, Some(d)) => {
                    if let Some(t) = start.checked_add(d) {
                        self.put("flow_end", Val::Time(t));
                    }
                }
                (None, Some(end), Some(d)) => {
                    if let Some(t) = end.checked_sub(d) {
                        self.put("flow_start", Val::Time(t));
                    }
                }
                _ => {}
            }
        }
        let event = [325, 324, 323, 322, 258].into_iter().any(|id| self.first(0, id).is_some());
        codes[0].or(codes[1]).unwrap_or(if event { 10 } else { 0 })
    }

    fn convert_extra_time(&self, i: usize) -> Option<i64> {
        time(self.m, self.fields[i].spec, self.kind(i), self.netscaler, self.fields[i].raw)
    }

    fn special(&mut self) {
        for (name, id, low, max) in [("forwarding_status", 89, 1, 0xff), ("vni", 351, 3, 0xffff_ffff)] {
            let Some(i) = self.first(0, id) else { continue };
            let f = &self.fields[i];
            let raw = if f.spec.len == 65535 { f.raw } else { &f.raw[f.raw.len().saturating_sub(low)..] };
            if let Some(n) = number(raw).filter(|&n| n <= max) {
                self.used.insert(i);
                self.put(name, Val::Unsigned(n));
            }
        }
        let (mut labels, mut bottom, mut any) = (Vec::new(), false, false);
        for id in 70..80 {
            let Some(i) = self.first(0, id) else { continue };
            let raw = self.fields[i].raw;
            if raw.len() < 3 {
                continue;
            }
            any = true;
            if !bottom {
                labels.push((be(&raw[..3]) >> 4) as u32);
                bottom = raw[2] & 1 == 1;
            } else if raw.iter().any(|&b| b != 0) {
                continue;
            }
            self.used.insert(i);
        }
        if any {
            self.put("mpls_labels", Val::List(labels));
        }
        if let Some(i) = self.first(0, 95) {
            let wide = |b: &[u8]| b.iter().fold(0u128, |n, &x| n << 8 | u128::from(x));
            let raw = self.fields[i].raw;
            let id = match raw.len() {
                6..=21 if raw[0] == 20 => Some(format!("20:{}:{}", be(&raw[1..5]), wide(&raw[5..]))),
                1..=17 => Some(format!("{}:{}", raw[0], wide(&raw[1..]))),
                _ => None,
            };
            if let Some(id) = id {
                self.used.insert(i);
                self.put("app_id", Val::Text(id));
            }
        }
    }

    fn icmp(&mut self) {
        let proto = self.uint("proto");
        for (name, v4, v6, shift) in [("icmp_type", 176, 178, 8), ("icmp_code", 177, 179, 0)] {
            let n = |id| self.raw(id).and_then(number);
            let half = |v: Option<u64>| v.map(|v| (v >> shift) & 0xff);
            let none = [v4, v6, 32, 139].into_iter().all(|id| n(id).is_none());
            let (own, value) = match proto {
                Some(1 | 58) if none => (None, half(self.uint("dst_port"))),
                Some(1) => (Some(v4), n(v4).or_else(|| half(n(32)))),
                Some(58) => (Some(v6), n(v6).or_else(|| half(n(139))).or_else(|| half(n(32)))),
                _ => (None, None),
            };
            let Some(value) = value.filter(|&v| v < 256) else { continue };
            if let Some(i) = own.filter(|&id| n(id).is_some()).and_then(|id| self.first(0, id)) {
                self.used.insert(i);
            }
            self.put(name, Val::Unsigned(value));
        }
    }

    fn extra(&self, i: usize) -> Option<Val> {
        use DataType as D;
        let (raw, kind) = (self.fields[i].raw, self.kind(i));
        let bytes = || Some(Val::Bytes(raw.to_vec()));
        match kind {
            Some(D::String) => return text(raw).map(Val::Text).or_else(bytes),
            None | Some(D::OctetArray | D::Unsigned256) => return bytes(),
            Some(D::BasicList | D::SubTemplateList | D::SubTemplateMultiList) => return Some(Val::AnyText),
            _ if raw.is_empty() => return None,
            _ => {}
        }
        let value = match kind? {
            D::Unsigned8 | D::Unsigned16 | D::Unsigned32 | D::Unsigned64 => number(raw).map(Val::Unsigned),
            D::Signed8 | D::Signed16 | D::Signed32 | D::Signed64 if raw.len() <= 8 => {
                let shift = 64 - 8 * raw.len() as u32;
                Some(Val::Signed(((be(raw) << shift) as i64) >> shift))
            }
            D::Float32 | D::Float64 => match raw.len() {
                4 => Some(Val::Float(f64::from(f32::from_be_bytes(raw.try_into().ok()?)))),
                8 => Some(Val::Float(f64::from_be_bytes(raw.try_into().ok()?))),
                _ => None,
            },
            D::Boolean => match raw {
                [1] => Some(Val::Bool(true)),
                [2] => Some(Val::Bool(false)),
                _ => None,
            },
            D::DateTimeSeconds | D::DateTimeMilliseconds | D::DateTimeMicroseconds | D::DateTimeNanoseconds => {
                self.convert_extra_time(i).map(Val::Time)
            }
            _ => return bytes(),
        };
        Some(value.unwrap_or_else(|| Val::Misfit(raw.to_vec())))
    }
}

/// The columns and extras of a record.
pub fn row(m: &Message, fields: &[Field<'_>], tables: &Tables) -> Row {
    let netscaler = fields.iter().any(|f| f.spec.pen == 5951);
    let mut r = Record { m, fields, used: BTreeSet::new(), row: Row::default(), netscaler };
    let time_source = r.times(tables);
    for &(name, to, elements) in GENERIC {
        r.generic(name, to, elements);
    }
    let family = r.family();
    r.next_hop("next_hop4", "next_hop6", family);
    r.next_hop("bgp_next_hop4", "bgp_next_hop6", family);
    for (name, v4, v6) in [("src_mask", 9, 29), ("dst_mask", 13, 30)] {
        let order: &[(u32, u16)] = if family == 6 { &[(0, v6), (0, v4)] } else { &[(0, v4), (0, v6)] };
        r.generic(name, Type::U8, order);
    }
    // Of the template, as what says that counters are running totals is.
    let has = |id| fields.iter().find(|f| (f.spec.pen, f.spec.id) == (0, id)).is_some_and(|f| f.spec.len != 0);
    let rev: &[(u32, u16)] = &[(29305, 1), (29305, 85), (0, 232)];
    r.generic("rev_bytes", Type::I64, if has(231) { rev } else { &rev[..2] });
    let rev: &[(u32, u16)] = &[(29305, 2), (29305, 86), (0, 299)];
    r.generic("rev_packets", Type::I64, if has(298) { rev } else { &rev[..2] });
    r.special();
    r.icmp();
    sampling(&mut r, tables);
    r.put("time_source", Val::Unsigned(time_source.into()));
    let totals = !has(1) && has(85) || !has(2) && has(86);
    r.put("counters_are_total", Val::Bool(totals));
    if !r.row.columns.contains_key("flows") {
        r.put("flows", Val::Signed(1));
    }
    let mut seen = std::collections::HashMap::new();
    for (i, f) in fields.iter().enumerate() {
        let nth = *seen.entry((f.spec.pen, f.spec.id)).and_modify(|n| *n += 1).or_insert(1);
        if r.used.contains(&i) || (f.spec.pen, f.spec.id) == (0, 210) {
            continue;
        }
        let router = m.version == 7 && f.spec.id == 0;
        let mut key =
            if router { "router_sc".into() } else { Registry::standard().key(m.version as u8, f.spec.pen, f.spec.id) };
        if nth > 1 {
            key.push_str(&format!("#{nth}"));
        }
        let value = if router { Some(Val::Bytes(f.raw.to_vec())) } else { r.extra(i) };
        if let Some(v) = value {
            r.row.extras.insert(key, v);
        }
    }
    let ip = m.exporter.ip().to_string();
    r.row.meta.extend([
        ("received_at", Val::Time(m.received)),
        ("export_time", Val::Time(m.export_us)),
        ("exporter", Val::Text(ip)),
        ("port", Val::Unsigned(m.exporter.port().into())),
        ("version", Val::Unsigned(m.version.into())),
        ("domain_id", Val::Unsigned(m.domain.into())),
        ("sequence", Val::Unsigned(m.sequence.into())),
        ("template_id", Val::Unsigned(m.tid.into())),
        ("late", Val::Bool(m.late)),
    ]);
    r.row
}

fn sampling(r: &mut Record<'_>, tables: &Tables) {
    let m = r.m;
    let fixed = |id| r.first(0, id).filter(|&i| r.fields[i].spec.len != 65535).map(|i| r.fields[i].raw);
    let (ip, domain) = (m.exporter.ip(), m.domain);
    let sampler = r.uint("sampler_id");
    let found = rate(&fixed)
        .map(|v| (v, 1))
        .or_else(|| tables.samplers.get(&(ip, domain, sampler?)).map(|v| (*v, 2)))
        .or_else(|| tables.rates.get(&(ip, domain)).map(|v| (*v, 3)))
        .or_else(|| m.v5_rate.filter(|&v| v > 0).map(|v| (f64::from(v), 4)));
    if let Some((rate, _)) = found {
        r.put("sampling_rate", Val::Float(rate));
    }
    r.put("sampling_source", Val::Unsigned(found.map_or(0, |f| f.1)));
}
