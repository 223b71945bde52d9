//! Encodes messages from the RFCs alone; it shares no code with the decoder.
#![allow(dead_code, reason = "each test binary uses a part")]

/// A field of a template: enterprise number, element id, length (65535: it varies).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spec {
    pub pen: u32,
    pub id: u16,
    pub len: u16,
}

pub const VARIABLE: u16 = 65535;

pub const fn spec(id: u16, len: u16) -> Spec {
    Spec { pen: 0, id, len }
}

/// What a message header says.
#[derive(Clone, Copy, Debug)]
pub struct Head {
    pub version: u16,
    pub uptime: u32,
    pub secs: u32,
    pub nanos: u32,
    pub sequence: u32,
    pub domain: u32,
    pub sampling: u16,
}

impl Head {
    pub fn new(version: u16) -> Self {
        Self { version, uptime: 86_400_000, secs: 1_700_000_000, nanos: 0, sequence: 0, domain: 7, sampling: 0 }
    }

    /// A message of a v9 or IPFIX header and sets.
    pub fn message(&self, sets: &[Vec<u8>]) -> Vec<u8> {
        let body = sets.concat();
        let mut b = self.version.to_be_bytes().to_vec();
        if self.version == 9 {
            b.extend((sets.len() as u16).to_be_bytes());
            b.extend(self.uptime.to_be_bytes());
        } else {
            b.extend((16 + body.len() as u16).to_be_bytes());
        }
        b.extend(self.secs.to_be_bytes());
        b.extend(self.sequence.to_be_bytes());
        b.extend(self.domain.to_be_bytes());
        b.extend(body);
        b
    }

    /// A message of v1, v5 or v7: a header and records of 48, 48 or 52 bytes.
    pub fn fixed(&self, records: &[Vec<u8>]) -> Vec<u8> {
        let mut b = self.version.to_be_bytes().to_vec();
        b.extend((records.len() as u16).to_be_bytes());
        b.extend(self.uptime.to_be_bytes());
        b.extend(self.secs.to_be_bytes());
        b.extend(self.nanos.to_be_bytes());
        if self.version != 1 {
            b.extend(self.sequence.to_be_bytes());
            if self.version == 5 {
                b.extend((self.domain as u16).to_be_bytes());
                b.extend(self.sampling.to_be_bytes());
            } else {
                b.extend([0; 4]);
            }
        }
        b.extend(records.concat());
        b
    }

    pub fn template(&self, id: u16, fields: &[Spec]) -> Vec<u8> {
        let mut b = id.to_be_bytes().to_vec();
        b.extend((fields.len() as u16).to_be_bytes());
        b.extend(self.specs(fields));
        set(if self.version == 9 { 0 } else { 2 }, &b)
    }

    pub fn options_template(&self, id: u16, scope: &[Spec], fields: &[Spec]) -> Vec<u8> {
        let mut b = id.to_be_bytes().to_vec();
        if self.version == 9 {
            b.extend((scope.len() as u16 * 4).to_be_bytes());
            b.extend((fields.len() as u16 * 4).to_be_bytes());
        } else {
            b.extend(((scope.len() + fields.len()) as u16).to_be_bytes());
            b.extend((scope.len() as u16).to_be_bytes());
        }
        b.extend(self.specs(scope));
        b.extend(self.specs(fields));
        set(if self.version == 9 { 1 } else { 3 }, &b)
    }

    pub fn withdrawal(&self, id: u16, options: bool) -> Vec<u8> {
        let mut b = id.to_be_bytes().to_vec();
        b.extend([0; 2]);
        set(if options { 3 } else { 2 }, &b)
    }

    fn specs(&self, fields: &[Spec]) -> Vec<u8> {
        let mut b = Vec::new();
        for f in fields {
            let enterprise = self.version == 10 && f.pen != 0;
            b.extend((f.id | if enterprise { 0x8000 } else { 0 }).to_be_bytes());
            b.extend(f.len.to_be_bytes());
            if enterprise {
                b.extend(f.pen.to_be_bytes());
            }
        }
        b
    }
}

/// A set with its header.
pub fn set(id: u16, body: &[u8]) -> Vec<u8> {
    let mut b = id.to_be_bytes().to_vec();
    b.extend((body.len() as u16 + 4).to_be_bytes());
    b.extend(body);
    b
}

/// The content of a field of varying length, with its length before it.
pub fn varying(content: &[u8], long: bool) -> Vec<u8> {
    let mut b = if long || content.len() >= 255 {
        let mut b = vec![255];
        b.extend((content.len() as u16).to_be_bytes());
        b
    } else {
        vec![content.len() as u8]
    };
    b.extend(content);
    b
}

/// Numbers that look random and are the same each time (xorshift).
pub struct Numbers(u64);

impl Numbers {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 8
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }

    pub fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    /// The bytes of a field: often zero, small, full, text, or a time near the header's.
    pub fn content(&mut self, len: usize) -> Vec<u8> {
        let number = |v: u64| {
            let be = v.to_be_bytes();
            let mut b = vec![0; len.saturating_sub(8)];
            b.extend(&be[8 - len.min(8)..]);
            b
        };
        match self.below(9) {
            0 => vec![0; len],
            1 => vec![0xff; len],
            2 => number(self.next() % 300),
            3 => number(1_700_000_000_000 - self.next() % 100_000),
            4 => (0..len).map(|i| if i < len / 2 { b'a' + (i % 26) as u8 } else { 0 }).collect(),
            5 => number(1 + self.next() % 2),
            6 => number(86_400_000 - self.next() % 100_000),
            _ => (0..len).map(|_| self.next() as u8).collect(),
        }
    }

    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next() as u8).collect()
    }

    /// A record of these fields.
    pub fn record(&mut self, fields: &[Spec]) -> Vec<u8> {
        let mut b = Vec::new();
        for f in fields {
            if f.len == VARIABLE {
                let len = self.one(&[0, 1, 2, 3, 4, 6, 8, 9, 16, 20, 300]);
                let (content, long) = (self.content(len), self.below(4) == 0);
                b.extend(varying(&content, long));
            } else {
                b.extend(self.content(f.len.into()));
            }
        }
        b
    }

    pub fn records(&mut self, fields: &[Spec], n: usize) -> Vec<u8> {
        (0..n).flat_map(|_| self.record(fields)).collect()
    }
}
