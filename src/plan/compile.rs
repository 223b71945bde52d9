//! From a template to a plan: which field fills which column.

use super::time::TimeKind;
use super::{Convert, Fractions, Op, Plan, SamplingOps, Source, TimeRule};
use crate::columns::derive::{Derive, FamilyOf};
use crate::columns::gather::Kernel;
use crate::columns::gather::window::Simd;
use crate::columns::icmp::IcmpSources;
use crate::columns::schema::{COLUMNS, SchemaColumn, rank};
use crate::columns::{ColumnDef, ColumnType, Family, Layout, TimeSource, extra_column_name};
use crate::elements::{DataType, Registry};
use crate::template::Template;
use std::collections::HashMap;
use std::sync::Arc;

/// A field of a template as the plan sees it.
struct Field {
    pen: u32,
    id: u16,
    source: Source,
    data_type: Option<DataType>,
    key: Arc<str>,
    first: bool,
    // Whether a column took it, so that it is no extra.
    taken: bool,
    // Its physical column among the extras, once made.
    extra: Option<u16>,
}

impl Field {
    /// The fixed width; `None` where it varies.
    fn width(&self) -> Option<usize> {
        match self.source {
            Source::Fixed { width, .. } => Some(width),
            Source::Varying(_) => None,
        }
    }

    /// The last `n` bytes of a fixed field that is longer.
    fn low(&self, n: usize) -> Source {
        match self.source {
            Source::Fixed { segment, rel, width } if width > n => {
                Source::Fixed { segment, rel: rel + width - n, width: n }
            }
            source => source,
        }
    }
}

struct Compiler {
    version: u8,
    fields: Vec<Field>,
    columns: Vec<(Option<usize>, ColumnDef)>,
    hidden: Vec<u16>,
    // The names of extras' columns, each with how many more of it were made.
    names: HashMap<String, usize>,
    ops: Vec<Op>,
    derive: Vec<Derive>,
    // Whether the fractions of 154 and 155, and of 156 and 157, are plain numbers.
    decimal_us: bool,
    decimal_ns: bool,
}

impl Plan {
    /// Compiles a template of data records for an instruction set; the scalar one does what this machine lacks.
    pub fn compile(template: &Template, registry: &Registry, kernel: Kernel) -> Self {
        Self::compile_with(template, registry, kernel, Fractions::Binary)
    }

    /// As [`compile`](Self::compile), for an exporter of whose times something is known.
    pub fn compile_with(template: &Template, registry: &Registry, kernel: Kernel, fractions: Fractions) -> Self {
        let (fields, segments) = fields(template, registry);
        let min_len = (segments.iter().sum::<usize>() + segments.len() - 1).max(1);
        let decimal = fractions == Fractions::Decimal;
        let netscaler = fields.iter().any(|f| f.pen == 5951);
        let mut c = Compiler {
            version: template.version,
            fields,
            columns: Vec::new(),
            hidden: Vec::new(),
            names: HashMap::new(),
            ops: Vec::new(),
            derive: Vec::new(),
            decimal_us: decimal || netscaler,
            decimal_ns: decimal,
        };
        let time = c.times();
        let family = c.addresses();
        c.next_hops(family);
        c.masks(family);
        let totals = c.counters();
        c.special();
        for column in COLUMNS {
            c.generic(column);
        }
        if let Some(column) = c.has("flows") {
            c.derive.push(Derive::One { column });
        }
        c.derived_text();
        c.icmp();
        c.durations();
        let sampling = c.sampling();
        for i in 0..c.fields.len() {
            if !c.fields[i].taken {
                c.extra(i);
            }
        }
        let first = |ids4: &[u16], ids6: &[u16]| c.first_family(ids4, ids6);
        let (first_family, first_next_hop) = (first(&[8, 12], &[27, 28]), first(&[15], &[62]));
        let (first_bgp_next_hop, first_nat) = (first(&[18], &[63]), first(&[225, 226, 40001, 40002], &[281, 282]));
        c.hidden.sort_unstable();
        let mut order: Vec<u16> = (0..c.columns.len() as u16).filter(|i| c.hidden.binary_search(i).is_err()).collect();
        order.sort_by_key(|&i| c.columns[usize::from(i)].0.unwrap_or(usize::MAX));
        // Columns that vary in length are filled before the fixed ones only by chance; order by place in the record
        // instead, so that the pass over a record moves forward.
        c.ops.sort_by_key(|op| match op.source {
            Source::Fixed { segment, rel, .. } => (segment, rel),
            Source::Varying(v) => (v, usize::MAX),
        });
        let widths: Vec<u8> = c.columns.iter().map(|(_, def)| def.data_type.place_width()).collect();
        let (groups, frame) = super::windows::group(&mut c.ops, &segments, &widths, Simd::new(kernel));
        let columns: Box<[ColumnDef]> = c.columns.into_iter().map(|(_, def)| def).collect();
        let layout = Layout {
            has_var: columns.iter().any(|d| d.data_type.width().is_none()),
            flows_constant: !columns.iter().any(|d| &*d.name == "flows"),
            counters_are_total: totals,
            order: order.into(),
            derive: c.derive.into(),
            spill_keys: c.fields.iter().map(|f| (f.key.clone(), f.data_type.is_none_or(|t| !t.is_bytes()))).collect(),
            columns,
            frame,
            first_family,
            first_next_hop,
            first_bgp_next_hop,
            first_nat,
        };
        let reciprocal = (1 << 32) / min_len as u64 + 1;
        Self { layout: Arc::new(layout), min_len, reciprocal, segments, ops: c.ops.into(), groups, sampling, time }
    }
}

fn fields(template: &Template, registry: &Registry) -> (Vec<Field>, Box<[usize]>) {
    let (mut segments, mut seen, mut fields) = (vec![0usize], HashMap::<(u32, u16), u32>::new(), Vec::new());
    let last = template.fields.len().saturating_sub(1);
    for (i, spec) in template.fields.iter().enumerate() {
        let segment = segments.len() - 1;
        let source = if spec.len == u16::MAX {
            segments.push(0);
            Source::Varying(segment as u16)
        } else {
            let rel = segments[segment];
            segments[segment] += usize::from(spec.len);
            Source::Fixed { segment: segment as u16, rel, width: usize::from(spec.len) }
        };
        let nth = seen.entry((spec.pen, spec.id)).and_modify(|n| *n += 1).or_insert(1);
        let router = template.version == 7 && i == last && spec.id == 210 && spec.len == 4;
        let padding = spec.pen == 0 && spec.id == 210 && !router;
        let mut key =
            if router { "router_sc".to_owned() } else { registry.key(template.version, spec.pen, spec.id).to_string() };
        if *nth > 1 && !router {
            key.push_str(&format!("#{nth}"));
        }
        fields.push(Field {
            pen: spec.pen,
            id: spec.id,
            source,
            data_type: if router {
                Some(DataType::Ipv4Address)
            } else {
                registry.lookup(template.version, spec.pen, spec.id).map(|e| e.data_type)
            },
            key: key.into(),
            first: *nth == 1,
            taken: padding,
            extra: None,
        });
    }
    (fields, segments.into())
}

impl Compiler {
    /// The first field of an element, if it can have a value.
    fn find(&self, pen: u32, id: u16) -> Option<usize> {
        self.find_any(pen, id, false)
    }

    /// As [`find`](Self::find); text of no length is a value too.
    fn find_any(&self, pen: u32, id: u16, empty: bool) -> Option<usize> {
        let i = self.fields.iter().position(|f| f.first && f.pen == pen && f.id == id)?;
        ((empty || self.fields[i].width() != Some(0)) && !self.fields[i].taken).then_some(i)
    }

    /// As [`find`](Self::find), for a field of fixed width.
    fn find_fixed(&self, id: u16) -> Option<usize> {
        self.find(0, id).filter(|&i| self.fields[i].width().is_some())
    }

    fn push(&mut self, rank: Option<usize>, def: ColumnDef) -> u16 {
        self.columns.push((rank, def));
        (self.columns.len() - 1) as u16
    }

    fn hide(&mut self, data_type: ColumnType) -> u16 {
        let def = ColumnDef { name: "".into(), extra_key: None, data_type, nullable: true };
        let column = self.push(None, def);
        self.hidden.push(column);
        column
    }

    fn schema(&mut self, name: &'static str, nullable: bool) -> u16 {
        let rank = rank(name);
        let data_type = rank.map_or(ColumnType::U64, |r| COLUMNS[r].data_type);
        self.push(rank, ColumnDef { name: name.into(), extra_key: None, data_type, nullable })
    }

    fn has(&self, name: &str) -> Option<u16> {
        self.columns.iter().position(|(r, d)| r.is_some() && &*d.name == name).map(|i| i as u16)
    }

    fn op(&mut self, field: usize, source: Source, convert: Convert, column: u16) {
        let data_type = self.columns[usize::from(column)].1.data_type;
        self.ops.push(Op { source, convert, column, data_type, field: field as u16 });
    }

    /// How a field becomes a value of a column's type; `None` where it never can.
    fn convert(&self, i: usize, to: ColumnType) -> Option<Convert> {
        let f = &self.fields[i];
        let width = f.width();
        match to {
            ColumnType::Timestamp => {
                let kind = self.time_kind(f)?;
                width.is_none_or(|w| kind.takes(w)).then_some(Convert::Time(kind))
            }
            ColumnType::Ip6 => width.is_none_or(|w| w == 16).then_some(Convert::Bytes),
            ColumnType::Mac => width.is_none_or(|w| w == 6).then_some(Convert::Bytes),
            ColumnType::Ip4 => width.is_none_or(|w| w == 4).then_some(Convert::Unsigned),
            ColumnType::Text => Some(Convert::Text),
            _ => Some(Convert::Unsigned),
        }
    }

    fn time_kind(&self, f: &Field) -> Option<TimeKind> {
        if f.pen == 0 && matches!(f.id, 158 | 159) {
            return Some(TimeKind::BeforeExport);
        }
        Some(match f.data_type? {
            DataType::DateTimeSeconds => TimeKind::Seconds,
            DataType::DateTimeMilliseconds => TimeKind::Milliseconds,
            DataType::DateTimeMicroseconds if self.decimal_us && f.pen == 0 && matches!(f.id, 154 | 155) => {
                TimeKind::NtpPlainMicroseconds
            }
            DataType::DateTimeMicroseconds => TimeKind::NtpMicroseconds,
            DataType::DateTimeNanoseconds if self.decimal_ns && f.pen == 0 && matches!(f.id, 156 | 157) => {
                TimeKind::NtpPlainNanoseconds
            }
            DataType::DateTimeNanoseconds => TimeKind::NtpNanoseconds,
            _ => return None,
        })
    }

    /// A field among the extras, in a typed column of its own; `None` for one that has no value.
    fn extra(&mut self, i: usize) -> Option<u16> {
        if let Some(column) = self.fields[i].extra {
            return Some(column);
        }
        let f = &self.fields[i];
        let (width, exact) = (f.width(), |n: usize| f.width().is_none_or(|w| w == n));
        use DataType as D;
        let (data_type, convert) = match f.data_type {
            Some(t) if t.is_unsigned() => (unsigned_type(width), Convert::Unsigned),
            Some(D::Signed8 | D::Signed16 | D::Signed32 | D::Signed64) if width.is_none_or(|w| w <= 8) => {
                (ColumnType::I64, Convert::Signed)
            }
            Some(D::Float32 | D::Float64) if width.is_none_or(|w| w == 0 || w == 4 || w == 8) => {
                (ColumnType::F64, Convert::Float)
            }
            Some(D::Boolean) if exact(1) => (ColumnType::Bool, Convert::Boolean),
            Some(D::MacAddress) if exact(6) => (ColumnType::Mac, Convert::Bytes),
            Some(D::Ipv4Address | D::Ipv6Address) if width == Some(4) => (ColumnType::Ip4, Convert::Unsigned),
            Some(D::Ipv4Address | D::Ipv6Address) if width == Some(16) => (ColumnType::Ip6, Convert::Bytes),
            Some(D::Ipv4Address) if exact(4) => (ColumnType::Ip4, Convert::Unsigned),
            Some(D::Ipv6Address) if exact(16) => (ColumnType::Ip6, Convert::Bytes),
            Some(D::DateTimeSeconds | D::DateTimeMilliseconds | D::DateTimeMicroseconds | D::DateTimeNanoseconds) => {
                match self.convert(i, ColumnType::Timestamp) {
                    Some(convert) => (ColumnType::Timestamp, convert),
                    None => (ColumnType::Octets, Convert::Octets),
                }
            }
            Some(D::String) => (ColumnType::Text, Convert::Text),
            Some(t @ (D::BasicList | D::SubTemplateList | D::SubTemplateMultiList)) => {
                (ColumnType::Text, Convert::List(t))
            }
            _ => (ColumnType::Octets, Convert::Octets),
        };
        let empty_is_absent = !matches!(f.data_type, None | Some(D::String | D::OctetArray | D::Unsigned256));
        if width == Some(0) && empty_is_absent {
            return None;
        }
        let (key, source) = (f.key.clone(), f.source);
        let base = extra_column_name(&key);
        let (mut name, mut n) = (base.clone(), self.names.get(&base).copied().unwrap_or(0));
        while self.names.contains_key(&name) {
            n += 1;
            name = format!("{base}__{}", n + 1);
        }
        self.names.insert(name.clone(), 0);
        self.names.insert(base, n);
        let def = ColumnDef { name: name.into(), extra_key: Some(key), data_type, nullable: true };
        let column = self.push(None, def);
        self.op(i, source, convert, column);
        self.fields[i].extra = Some(column);
        Some(column)
    }

    /// Fills a column of the schema by the first of its elements that a record has.
    fn generic(&mut self, column: &SchemaColumn) {
        // The reverse counters are chosen in `counters`, where 232 and 299 may have to stay extras.
        if column.elements.is_empty() || column.name.starts_with("rev_") || self.has(column.name).is_some() {
            return;
        }
        let text = column.data_type == ColumnType::Text;
        let found = column.elements.iter().filter_map(|&(pen, id)| self.find_any(pen, id, text)).collect();
        self.fill(column.name, found, &[], None);
    }

    /// Fills a column by the first field that has a value, from the preferred one on.
    fn fill(&mut self, name: &'static str, found: Vec<usize>, codes: &[u8], code: Option<u16>) -> Option<u16> {
        let always = found.iter().position(|&i| self.fields[i].width().is_some()).map_or(found.len(), |p| p + 1);
        let found = &found[..always];
        let &i = found.first()?;
        let data_type = COLUMNS[rank(name)?].data_type;
        if found.len() == 1 {
            // A field that never fits leaves the column out and is an extra.
            let convert = self.convert(i, data_type)?;
            let column = self.schema(name, true);
            let source = self.fields[i].source;
            self.op(i, source, convert, column);
            self.fields[i].taken = true;
            return Some(column);
        }
        let column = self.schema(name, true);
        let mut sources = Vec::new();
        for (n, &i) in found.iter().enumerate() {
            if let Some(extra) = self.extra(i) {
                sources.push((extra, codes.get(n).copied().unwrap_or(0)));
            }
        }
        self.derive.push(Derive::Coalesce { dst: column, sources: sources.into(), code });
        Some(column)
    }

    fn times(&mut self) -> TimeRule {
        use TimeSource as T;
        const CODES: [(u16, u16, T); 6] = [
            (156, 157, T::Nanoseconds),
            (154, 155, T::Microseconds),
            (158, 159, T::DeltaMicroseconds),
            (152, 153, T::Milliseconds),
            (22, 21, T::Uptime),
            (150, 151, T::Seconds),
        ];
        let init = self.find_fixed(160).filter(|_| self.version == 10);
        let uptime_code = match (self.version, init) {
            (10, Some(_)) => T::UptimeInitInRecord,
            (10, None) => T::UptimeNoBase,
            _ => T::Uptime,
        };
        let mut by_init = [None, None];
        let mut rules = [None, None];
        for (side, name) in [(0, "flow_end"), (1, "flow_start")] {
            let pick = |c: &(u16, u16, T)| if side == 0 { c.1 } else { c.0 };
            let candidates: Vec<(usize, u8)> = CODES
                .iter()
                .filter_map(|c| {
                    let i = self.find(0, pick(c))?;
                    let uptime = c.2 == T::Uptime;
                    let fits = if uptime {
                        self.fields[i].width().is_some_and(|w| w <= 8)
                    } else {
                        self.convert(i, ColumnType::Timestamp).is_some()
                    };
                    fits.then_some((i, if uptime { uptime_code as u8 } else { c.2 as u8 }))
                })
                .collect();
            let Some(&(i, code)) = candidates.first() else { continue };
            if matches!(self.fields[i].id, 21 | 22) {
                let source = self.fields[i].low(4);
                let column = self.schema(name, true);
                self.fields[i].taken = true;
                if self.version == 10 {
                    let raw = self.hide(ColumnType::U32);
                    self.op(i, source, Convert::Unsigned, raw);
                    by_init[side] = Some((raw, column));
                } else {
                    self.op(i, source, Convert::Uptime, column);
                }
                rules[side] = Some(code);
            } else {
                // Uptimes are left out of a choice made row by row: no exporter sends one beside a varying time.
                let (found, codes): (Vec<_>, Vec<_>) =
                    candidates.into_iter().filter(|c| !matches!(self.fields[c.0].id, 21 | 22)).unzip();
                let varies = found.len() > 1 && self.fields[found[0]].width().is_none();
                let per_row = (varies && side == 0).then(|| self.schema("time_source", false));
                self.fill(name, found, &codes, per_row);
                rules[side] = Some(code);
            }
        }
        if by_init != [None, None] {
            let raw_end = match (by_init[0], self.find_fixed(21)) {
                (Some((raw, _)), _) => Some(raw),
                (None, Some(i)) => {
                    let (raw, source) = (self.hide(ColumnType::U32), self.fields[i].low(4));
                    self.op(i, source, Convert::Unsigned, raw);
                    Some(raw)
                }
                _ => None,
            };
            let init = init.and_then(|i| self.extra(i));
            self.derive.push(Derive::Uptime { start: by_init[1], end: by_init[0], raw_end, init });
        }
        let event = [325, 324, 323, 322, 258].into_iter().any(|id| self.find(0, id).is_some());
        match (rules[0].or(rules[1]), event) {
            (Some(code), _) if code == T::UptimeNoBase as u8 => TimeRule::ByInitTime,
            (Some(code), _) => TimeRule::Always(code),
            (None, true) => TimeRule::Always(T::Event as u8),
            (None, false) => TimeRule::Always(T::None as u8),
        }
    }

    fn durations(&mut self) {
        let found = [(161, 1000), (162, 1)].into_iter().find_map(|(id, unit)| Some((self.find_fixed(id)?, unit)));
        let Some((i, unit)) = found else { return };
        if !self.fields[i].data_type.is_some_and(DataType::is_unsigned) {
            return;
        }
        let (start, end) = (self.has("flow_start"), self.has("flow_end"));
        if start.is_none() && end.is_none() {
            return;
        }
        let Some(duration) = self.extra(i) else { return };
        let mut missing = |at: Option<u16>, name| {
            at.unwrap_or_else(|| {
                let column = self.schema(name, true);
                self.derive.push(Derive::Blank { column });
                column
            })
        };
        let (start, end) = (missing(start, "flow_start"), missing(end, "flow_end"));
        self.derive.push(Derive::Duration { start, end, duration, unit });
    }

    /// Source and destination addresses; both families in one template are told apart row by row.
    fn addresses(&mut self) -> FamilyOf {
        let mut fill = |name, id| {
            let found = self.find(0, id).into_iter().collect();
            self.fill(name, found, &[], None)
        };
        let v4 = [fill("src_ip4", 8), fill("dst_ip4", 12)];
        let v6 = [fill("src_ip6", 27), fill("dst_ip6", 28)];
        let live = |c: [Option<u16>; 2]| c.iter().any(Option::is_some);
        match (live(v4), live(v6)) {
            (true, true) => {
                let version = self.find(0, 60).and_then(|i| self.extra(i));
                let (family, first) = (self.hide(ColumnType::U8), self.first_family(&[8, 12], &[27, 28]));
                self.derive.push(Derive::Families { v4, v6, version, first, family });
                FamilyOf::Column(family)
            }
            (false, true) => FamilyOf::Static(Family::V6),
            _ => FamilyOf::Static(Family::V4),
        }
    }

    fn first_family(&self, ids4: &[u16], ids6: &[u16]) -> Family {
        let at = |ids: &[u16]| self.fields.iter().position(|f| f.pen == 0 && ids.contains(&f.id)).unwrap_or(usize::MAX);
        if at(ids6) < at(ids4) { Family::V6 } else { Family::V4 }
    }

    fn next_hops(&mut self, family: FamilyOf) {
        for (v4, id4, v6, id6) in [("next_hop4", 15, "next_hop6", 62), ("bgp_next_hop4", 18, "bgp_next_hop6", 63)] {
            let four = self.find(0, id4).into_iter().collect();
            let four = self.fill(v4, four, &[], None);
            let six = self.find(0, id6).into_iter().collect();
            let six = self.fill(v6, six, &[], None);
            if let (Some(v4), Some(v6)) = (four, six) {
                self.derive.push(Derive::NextHop { v4, v6, family });
            }
        }
    }

    fn masks(&mut self, family: FamilyOf) {
        for (name, id4, id6) in [("src_mask", 9, 29), ("dst_mask", 13, 30)] {
            if let (Some(four), Some(six)) = (self.find(0, id4), self.find(0, id6))
                && let (Some(v4), Some(v6)) = (self.extra(four), self.extra(six))
            {
                let dst = self.schema(name, true);
                self.derive.push(Derive::Mask { dst, v4, v6, family });
            }
        }
    }

    /// Counters whose elements depend on others; returns whether they are running totals.
    fn counters(&mut self) -> bool {
        let total = |delta, total| self.find(0, delta).is_none() && self.find(0, total).is_some();
        let totals = total(1, 85) || total(2, 86);
        for (name, ids, needs) in [
            ("rev_bytes", [(29305, 1), (29305, 85), (0, 232)], 231),
            ("rev_packets", [(29305, 2), (29305, 86), (0, 299)], 298),
        ] {
            let with = self.find(0, needs).is_some();
            let ids = ids.iter().filter(|e| e.0 != 0 || with);
            let found = ids.filter_map(|&(pen, id)| self.find(pen, id)).collect::<Vec<_>>();
            if found.is_empty() {
                continue;
            }
            self.fill(name, found, &[], None);
        }
        totals
    }

    /// Fields of which only the low bytes count.
    fn special(&mut self) {
        for (name, id, low) in [("forwarding_status", 89, 1), ("vni", 351, 3)] {
            let Some(i) = self.find_fixed(id) else { continue };
            let (source, column) = (self.fields[i].low(low), self.schema(name, true));
            self.op(i, source, Convert::Unsigned, column);
            self.fields[i].taken = true;
        }
    }

    fn derived_text(&mut self) {
        let stack: Vec<usize> = (70..80).filter_map(|id| self.find(0, id)).collect();
        let sources: Vec<u16> = stack.into_iter().filter_map(|i| self.extra(i)).collect();
        if !sources.is_empty() {
            let dst = self.schema("mpls_labels", true);
            self.derive.push(Derive::MplsLabels { sources: sources.into(), dst });
        }
        if let Some(source) = self.find(0, 95).and_then(|i| self.extra(i)) {
            let dst = self.schema("app_id", true);
            self.derive.push(Derive::ApplicationId { source, dst });
        }
    }

    fn icmp(&mut self) {
        let Some(proto) = self.has("proto") else { return };
        let mut at = |id| self.find(0, id).and_then(|i| self.extra(i));
        let (both_v4, both_v6) = (at(32), at(139));
        let (type4, code4, type6, code6) = (at(176), at(177), at(178), at(179));
        let dst_port = self.has("dst_port");
        if [both_v4, both_v6, type4, code4, type6, code6, dst_port].iter().all(Option::is_none) {
            return;
        }
        let kind = IcmpSources { dst: self.schema("icmp_type", true), v4: type4, v6: type6, both_v4, both_v6 };
        let code = IcmpSources { dst: self.schema("icmp_code", true), v4: code4, v6: code6, both_v4, both_v6 };
        self.derive.push(Derive::Icmp { proto, dst_port, kind, code });
    }

    fn sampling(&mut self) -> Option<SamplingOps> {
        let mut at = |id| self.find_fixed(id).and_then(|i| self.extra(i));
        let (interval, random, probability) = (at(34), at(50), at(311));
        let (packets, population) = (at(305).zip(at(306)), at(309).zip(at(310)));
        let sampler = self.has("sampler_id");
        if interval.is_none()
            && random.is_none()
            && probability.is_none()
            && packets.is_none()
            && population.is_none()
            && sampler.is_none()
        {
            return None;
        }
        let (rate, source) = (self.schema("sampling_rate", true), self.schema("sampling_source", false));
        Some(SamplingOps { rate, source, sampler, interval, random, packets, population, probability })
    }
}

/// The narrowest type that takes every value of a field of this width.
fn unsigned_type(width: Option<usize>) -> ColumnType {
    match width {
        Some(1) => ColumnType::U8,
        Some(2) => ColumnType::U16,
        Some(3 | 4) => ColumnType::U32,
        _ => ColumnType::U64,
    }
}
