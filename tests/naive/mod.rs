//! A naive row decoder: the oracle of the columns. Slow, plain, one record at a time; it shares nothing with the
//! decoder but the registry of elements.
#![allow(dead_code, reason = "each test binary uses a part")]

mod columns;
pub mod compare;

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};

/// A value of a column. Addresses, MACs and octets are bytes.
#[derive(Clone, Debug, PartialEq)]
pub enum Val {
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Bool(bool),
    Time(i64),
    Bytes(Vec<u8>),
    Text(String),
    List(Vec<u32>),
    /// What is no value of its type: kept as it is, as a number or as bytes.
    Misfit(Vec<u8>),
    /// An RFC 6313 list: its text is compared elsewhere.
    AnyText,
}

/// A flow record as the schema wants it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Row {
    pub columns: BTreeMap<String, Val>,
    pub extras: BTreeMap<String, Val>,
    pub meta: BTreeMap<&'static str, Val>,
}

/// A field of a template.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spec {
    pub pen: u32,
    pub id: u16,
    pub len: u16,
}

#[derive(Clone, Debug)]
struct Template {
    options: bool,
    scope: usize,
    fields: Vec<Spec>,
}

impl Template {
    fn min(&self) -> usize {
        self.fields.iter().map(|f| if f.len == 65535 { 1 } else { f.len as usize }).sum()
    }
}

/// A field of a record.
pub struct Field<'a> {
    pub spec: Spec,
    pub raw: &'a [u8],
}

/// The message a record came in.
#[derive(Clone, Debug)]
pub struct Message {
    pub received: i64,
    pub exporter: SocketAddr,
    pub version: u16,
    pub domain: u32,
    pub sequence: u32,
    pub export_us: i64,
    pub uptime: Option<u32>,
    pub v5_rate: Option<u16>,
    pub tid: u16,
    pub late: bool,
}

#[derive(Default)]
pub struct Tables {
    pub samplers: HashMap<(IpAddr, u32, u64), f64>,
    pub rates: HashMap<(IpAddr, u32), f64>,
    pub init: HashMap<(IpAddr, u32), u64>,
}

type Key = (IpAddr, u16, u32, u16);

struct Held {
    message: Message,
    body: Vec<u8>,
}

#[derive(Default)]
pub struct Naive {
    ports: HashMap<(Key, u16), Template>,
    latest: HashMap<Key, Template>,
    held: HashMap<Key, Vec<Held>>,
    tables: Tables,
    pub rows: Vec<Row>,
    pub options: usize,
}

fn be(b: &[u8]) -> u64 {
    b.iter().fold(0, |n, &x| n << 8 | u64::from(x))
}

impl Naive {
    pub fn datagram(&mut self, b: &[u8], exporter: SocketAddr, received: i64) {
        let exporter = SocketAddr::new(exporter.ip().to_canonical(), exporter.port());
        if b.len() < 2 {
            return;
        }
        let version = be(&b[..2]) as u16;
        let head = match version {
            1 | 10 => 16,
            5 | 7 => 24,
            9 => 20,
            _ => return,
        };
        if b.len() < head {
            return;
        }
        let at = |o: usize, n: usize| be(&b[o..o + n]);
        let mut m = Message {
            received,
            exporter,
            version,
            domain: 0,
            sequence: 0,
            export_us: 0,
            uptime: Some(at(4, 4) as u32),
            v5_rate: None,
            tid: 0,
            late: false,
        };
        match version {
            1 | 5 | 7 => {
                m.export_us = at(8, 4) as i64 * 1_000_000 + at(12, 4) as i64 / 1000;
                let common: &[(u16, u16)] =
                    &[(8, 4), (12, 4), (15, 4), (10, 2), (14, 2), (2, 4), (1, 4), (22, 4), (21, 4), (7, 2), (11, 2)];
                let tail: &[(u16, u16)] = match version {
                    1 => &[(210, 2), (4, 1), (5, 1), (6, 1), (210, 3), (210, 4)],
                    5 => &[(210, 1), (6, 1), (4, 1), (5, 1), (16, 2), (17, 2), (9, 1), (13, 1), (210, 2)],
                    _ => &[(210, 1), (6, 1), (4, 1), (5, 1), (16, 2), (17, 2), (9, 1), (13, 1), (210, 2), (0, 4)],
                };
                if version != 1 {
                    m.sequence = at(16, 4) as u32;
                }
                if version == 5 {
                    m.domain = at(20, 2) as u32;
                    m.v5_rate = Some(at(22, 2) as u16 & 0x3fff);
                }
                let fields: Vec<Spec> = common.iter().chain(tail).map(|&(id, len)| Spec { pen: 0, id, len }).collect();
                let t = Template { options: false, scope: 0, fields };
                let n = ((b.len() - head) / t.min()).min(at(2, 2) as usize);
                self.records(&m, &t, &b[head..head + n * t.min()]);
            }
            9 => {
                m.export_us = at(8, 4) as i64 * 1_000_000;
                m.sequence = at(12, 4) as u32;
                m.domain = at(16, 4) as u32;
                self.sets(&m, &b[20..]);
            }
            _ => {
                m.uptime = None;
                m.export_us = at(4, 4) as i64 * 1_000_000;
                m.sequence = at(8, 4) as u32;
                m.domain = at(12, 4) as u32;
                let end = at(2, 2) as usize;
                if end >= 16 {
                    self.sets(&m, &b[16..end.min(b.len())]);
                }
            }
        }
    }

    fn sets(&mut self, m: &Message, mut b: &[u8]) {
        while b.len() >= 4 {
            let (id, len) = (be(&b[..2]) as u16, be(&b[2..4]) as usize);
            if len < 4 {
                return;
            }
            let len = len.min(b.len());
            let body = &b[4..len];
            b = &b[len..];
            match (m.version, id) {
                (9, 0) | (10, 2) => self.templates(m, body),
                (9, 1) => self.v9_options(m, body),
                (10, 3) => self.ipfix_options(m, body),
                (_, 256..) => self.data(m, id, body),
                _ => {}
            }
        }
    }

    fn key(m: &Message, tid: u16) -> Key {
        (m.exporter.ip(), m.version, m.domain, tid)
    }

    fn find(&self, m: &Message, tid: u16) -> Option<Template> {
        let key = Self::key(m, tid);
        self.ports.get(&(key, m.exporter.port())).or_else(|| self.latest.get(&key)).cloned()
    }

    fn remove(&mut self, m: &Message, tid: u16) {
        let key = Self::key(m, tid);
        self.latest.remove(&key);
        self.ports.retain(|k, _| k.0 != key);
    }

    fn withdraw(&mut self, m: &Message, tid: u16) {
        let domain = |k: &Key| (k.0, k.1, k.2) == (m.exporter.ip(), m.version, m.domain);
        if tid > 3 {
            self.remove(m, tid);
            self.held.remove(&Self::key(m, tid));
            return;
        }
        self.latest.retain(|k, t| !(domain(k) && t.options == (tid == 3)));
        let latest = &self.latest;
        self.ports.retain(|k, _| !domain(&k.0) || latest.contains_key(&k.0));
        self.held.retain(|k, _| !domain(k));
    }

    fn specs(m: &Message, b: &[u8], count: usize) -> Option<(Vec<Spec>, usize)> {
        let (mut fields, mut o) = (Vec::new(), 0);
        for _ in 0..count {
            let mut s = Spec { pen: 0, id: be(b.get(o..o + 2)?) as u16, len: be(b.get(o + 2..o + 4)?) as u16 };
            o += 4;
            if m.version == 10 && s.id >= 0x8000 {
                s.pen = be(b.get(o..o + 4)?) as u32;
                s.id -= 0x8000;
                o += 4;
            }
            fields.push(s);
        }
        Some((fields, o))
    }

    fn store(&mut self, m: &Message, tid: u16, t: Template) {
        if t.min() == 0 {
            self.remove(m, tid);
            return;
        }
        let key = Self::key(m, tid);
        self.latest.insert(key, t.clone());
        self.ports.insert((key, m.exporter.port()), t.clone());
        for mut held in self.held.remove(&key).unwrap_or_default() {
            held.message.late = true;
            self.records(&held.message, &t, &held.body);
        }
    }

    fn templates(&mut self, m: &Message, mut b: &[u8]) {
        while b.len() >= 4 {
            let (tid, count) = (be(&b[..2]) as u16, be(&b[2..4]) as usize);
            b = &b[4..];
            if m.version == 10 && count == 0 && (tid == 2 || tid > 255) {
                self.withdraw(m, tid);
                continue;
            }
            if tid < 256 {
                return;
            }
            if count == 0 {
                self.remove(m, tid);
                continue;
            }
            let Some((fields, n)) = Self::specs(m, b, count) else {
                self.remove(m, tid);
                return;
            };
            b = &b[n..];
            self.store(m, tid, Template { options: false, scope: 0, fields });
        }
    }

    fn v9_options(&mut self, m: &Message, mut b: &[u8]) {
        while b.len() >= 6 {
            let (tid, s, o) = (be(&b[..2]) as u16, be(&b[2..4]) as usize, be(&b[4..6]) as usize);
            if tid < 256 {
                return;
            }
            b = &b[6..];
            if s % 4 != 0 || o % 4 != 0 {
                self.remove(m, tid);
                b = b.get(s + o..).unwrap_or(&[]);
                continue;
            }
            let Some((fields, n)) = Self::specs(m, b, s / 4 + o / 4) else {
                self.remove(m, tid);
                return;
            };
            b = &b[n..];
            self.store(m, tid, Template { options: true, scope: s / 4, fields });
        }
    }

    fn ipfix_options(&mut self, m: &Message, mut b: &[u8]) {
        while b.len() >= 4 {
            let (tid, count) = (be(&b[..2]) as u16, be(&b[2..4]) as usize);
            if tid < 256 && !(tid == 3 && count == 0) {
                return;
            }
            if count == 0 {
                self.withdraw(m, tid);
                b = &b[4..];
                continue;
            }
            if b.len() < 6 {
                return;
            }
            let scope = be(&b[4..6]) as usize;
            let Some((fields, n)) = Self::specs(m, &b[6..], count) else {
                self.remove(m, tid);
                return;
            };
            b = &b[6 + n..];
            if scope == 0 || scope > count {
                self.remove(m, tid);
            } else {
                self.store(m, tid, Template { options: true, scope, fields });
            }
        }
    }

    fn data(&mut self, m: &Message, tid: u16, body: &[u8]) {
        let mut m = m.clone();
        m.tid = tid;
        match self.find(&m, tid) {
            Some(t) => self.records(&m, &t, body),
            None => {
                self.held.entry(Self::key(&m, tid)).or_default().push(Held { message: m, body: body.to_vec() });
            }
        }
    }

    fn records(&mut self, m: &Message, t: &Template, mut b: &[u8]) {
        while b.len() >= t.min() {
            let (mut fields, mut o) = (Vec::new(), 0);
            for spec in &t.fields {
                let mut len = spec.len as usize;
                if spec.len == 65535 {
                    let Some(&short) = b.get(o) else { return };
                    (len, o) = (short as usize, o + 1);
                    if len == 255 {
                        let Some(long) = b.get(o..o + 2) else { return };
                        (len, o) = (be(long) as usize, o + 2);
                    }
                }
                let Some(raw) = b.get(o..o + len) else { return };
                fields.push(Field { spec: *spec, raw });
                o += len;
            }
            b = &b[o..];
            if t.options {
                self.options += 1;
                self.tables.learn(m, if m.version == 9 { &fields[t.scope..] } else { &fields });
            } else {
                self.rows.push(columns::row(m, &fields, &self.tables));
            }
        }
    }
}

impl Tables {
    fn learn(&mut self, m: &Message, fields: &[Field<'_>]) {
        let domain = (m.exporter.ip(), m.domain);
        let last = |id: u16| fields.iter().rev().find(|f| f.spec.pen == 0 && f.spec.id == id && !f.raw.is_empty());
        let rate = columns::rate(&|id| last(id).map(|f| f.raw));
        let sampler =
            fields.iter().rev().find(|f| f.spec.pen == 0 && matches!(f.spec.id, 48 | 302) && !f.raw.is_empty());
        match (rate, sampler) {
            (Some(rate), Some(id)) => {
                self.samplers.insert((domain.0, domain.1, be(id.raw)), rate);
            }
            (Some(rate), None) => {
                self.rates.insert(domain, rate);
            }
            _ => {}
        }
        if let Some(f) = last(160) {
            self.init.insert(domain, be(f.raw));
        }
    }
}
