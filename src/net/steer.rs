//! The program that the kernel runs on each datagram to choose a socket: classic BPF over the IP header's source.

use std::net::{IpAddr, SocketAddr};

/// An odd 32-bit constant near 2^32 / golden ratio: neighbours' products differ in their upper bits.
const MULTIPLIER: u32 = 0x9e37_79b1;

/// Sources that are spread, at most: each costs every datagram an instruction.
pub const SPREAD: usize = 16;

/// Which socket of a group gets a datagram: all that a source sends goes to one, but for sources that are too much for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Steer {
    /// Sources that are dealt out, [`SPREAD`] at most; further ones stay on one socket.
    pub spread: Vec<Spread>,
    /// Where the payload of their datagrams says by what.
    pub keys: Vec<PayloadKey>,
}

/// A source whose datagrams are dealt out to all sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spread {
    /// The source.
    pub source: IpAddr,
    /// By what.
    pub by: SpreadBy,
}

/// What decides beside a source's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpreadBy {
    /// A field of the payload: datagrams in which it is equal meet on one socket.
    Payload,
    /// The source port.
    Port,
}

/// A field of the payload of datagrams that begin with two given bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PayloadKey {
    /// The first two bytes, as a number.
    pub tag: u16,
    /// Where the field stands.
    pub offset: u16,
    /// Whether it has four bytes; else two.
    pub is_wide: bool,
}

/// The socket, below `n`, that gets what `source` sends to a group of `n` steered sockets, if it is not spread.
///
/// An IPv4-mapped address goes where its IPv4 address goes.
pub fn owner(source: IpAddr, n: usize) -> usize {
    hash(fold(source), n)
}

impl Steer {
    /// The socket, below `n`, that gets a datagram of `source`.
    pub fn owner(&self, source: SocketAddr, payload: &[u8], n: usize) -> usize {
        let folded = fold(source.ip());
        let by = self.spread().find(|spread| fold(spread.source) == folded).map(|spread| spread.by);
        let key = match by {
            None => return hash(folded, n),
            Some(SpreadBy::Port) => u32::from(source.port()),
            Some(SpreadBy::Payload) => {
                // The kernel's program ends with 0 where it reads past the end.
                let Some(tag) = payload.first_chunk::<2>() else { return 0 };
                let key = self.keys.iter().find(|key| key.tag == u16::from_be_bytes(*tag));
                let Some(key) = key else { return hash(folded, n) };
                let field = payload.get(usize::from(key.offset)..).unwrap_or_default();
                let wide = || field.first_chunk().map(|bytes| u32::from_be_bytes(*bytes));
                let narrow = || field.first_chunk().map(|bytes| u16::from_be_bytes(*bytes).into());
                let Some(field) = (if key.is_wide { wide() } else { narrow() }) else { return 0 };
                field
            }
        };
        hash(folded.wrapping_mul(MULTIPLIER) ^ key, n)
    }

    fn spread(&self) -> impl Iterator<Item = &Spread> {
        self.spread.iter().take(SPREAD)
    }

    /// [`owner`](Self::owner) as a program for `SO_ATTACH_REUSEPORT_CBPF`.
    ///
    /// The kernel runs it with the payload at offset 0 and the IP header at `SKF_NET_OFF`; on a dual-stack socket the
    /// header tells which family came. The last operation before `ret` is the modulus, so the result is below `n`; a load
    /// past the packet's end ends the program with 0. (Of IPv6 the port is read behind the fixed header: with extension
    /// headers it is another number, and the socket another one that is always the same.)
    pub(super) fn program(&self, n: u32) -> Vec<libc::sock_filter> {
        let mut program = Program(Vec::new());
        // A = the address, folded.
        program.op(LOAD | BYTE, header(0));
        program.op(SHIFT, 4);
        program.if_equal(4, |v4| {
            v4.op(LOAD | WORD, header(12));
            v4.op(JUMP, 13); // past the next 13
        });
        program.op(LOAD | WORD, header(8));
        for offset in [12, 16, 20] {
            program.op(MULTIPLY, MULTIPLIER);
            program.op(TO_X, 0);
            program.op(LOAD | WORD, header(offset));
            program.op(XOR_X, 0);
        }
        for spread in self.spread() {
            let mut own = Program(Vec::new());
            match spread.by {
                SpreadBy::Port => own.port(),
                SpreadBy::Payload => own.payload(&self.keys),
            }
            // Hashed here: a jump to one place for all would need its distance.
            own.hash(n);
            program.if_equal(fold(spread.source), |program| program.0.extend(own.0));
        }
        program.hash(n);
        program.0
    }
}

/// An address in 32 bits: IPv4 as it is.
fn fold(source: IpAddr) -> u32 {
    match source.to_canonical() {
        IpAddr::V4(v4) => v4.to_bits(),
        IpAddr::V6(v6) => {
            let bits = v6.to_bits();
            let words = [(bits >> 96) as u32, (bits >> 64) as u32, (bits >> 32) as u32, bits as u32];
            words.into_iter().reduce(|folded, word| folded.wrapping_mul(MULTIPLIER) ^ word).unwrap_or(0)
        }
    }
}

fn hash(folded: u32, n: usize) -> usize {
    let hash = folded.wrapping_mul(MULTIPLIER) >> 16;
    hash as usize % n.max(1)
}

const LOAD: u32 = libc::BPF_LD | libc::BPF_ABS;
const LOAD_AT_X: u32 = libc::BPF_LD | libc::BPF_IND;
const WORD: u32 = libc::BPF_W;
const HALF: u32 = libc::BPF_H;
const BYTE: u32 = libc::BPF_B;
/// X = the length of the IPv4 header that begins there.
const HEADER_LENGTH: u32 = libc::BPF_LDX | libc::BPF_B | libc::BPF_MSH;
const STORE: u32 = libc::BPF_ST;
const LOAD_STORED: u32 = libc::BPF_LD | libc::BPF_MEM;
const MULTIPLY: u32 = libc::BPF_ALU | libc::BPF_MUL | libc::BPF_K;
const SHIFT: u32 = libc::BPF_ALU | libc::BPF_RSH | libc::BPF_K;
const MODULUS: u32 = libc::BPF_ALU | libc::BPF_MOD | libc::BPF_K;
const XOR_X: u32 = libc::BPF_ALU | libc::BPF_XOR | libc::BPF_X;
const TO_X: u32 = libc::BPF_MISC | libc::BPF_TAX;
const JUMP: u32 = libc::BPF_JMP | libc::BPF_JA;
const IF_EQUAL: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
const RETURN_A: u32 = libc::BPF_RET | libc::BPF_A;

/// The network header is addressed by negative offsets.
fn header(offset: u32) -> u32 {
    (libc::SKF_NET_OFF as u32).wrapping_add(offset)
}

struct Program(Vec<libc::sock_filter>);

impl Program {
    fn op(&mut self, code: u32, k: u32) {
        self.0.push(libc::sock_filter { code: code as u16, jt: 0, jf: 0, k });
    }

    /// What is done where A is a number, and passed over where it is not.
    fn if_equal(&mut self, k: u32, inner: impl FnOnce(&mut Self)) {
        let mut body = Self(Vec::new());
        inner(&mut body);
        self.0.push(libc::sock_filter { code: IF_EQUAL as u16, jt: 1, jf: 0, k });
        self.op(JUMP, body.0.len() as u32);
        self.0.extend(body.0);
    }

    /// A = the folded address in A and the source port.
    fn port(&mut self) {
        self.op(STORE, 0);
        self.op(LOAD | BYTE, header(0));
        self.op(SHIFT, 4);
        self.if_equal(4, |v4| {
            v4.op(HEADER_LENGTH, header(0));
            v4.op(LOAD_AT_X | HALF, header(0));
            v4.op(JUMP, 1); // past the load of IPv6
        });
        self.op(LOAD | HALF, header(40));
        self.mix();
    }

    /// A = the folded address in A and the field of the payload that counts, if there is one.
    fn payload(&mut self, keys: &[PayloadKey]) {
        self.op(STORE, 0);
        self.op(LOAD | HALF, 0);
        // Behind each key all that follows is passed over.
        let mut rest = Self(Vec::new());
        rest.op(LOAD_STORED, 0);
        for key in keys.iter().rev() {
            let mut one = Self(Vec::new());
            one.if_equal(key.tag.into(), |found| {
                found.op(LOAD | if key.is_wide { WORD } else { HALF }, key.offset.into());
                found.mix();
                found.op(JUMP, rest.0.len() as u32);
            });
            one.0.append(&mut rest.0);
            rest = one;
        }
        self.0.append(&mut rest.0);
    }

    /// A = the stored address, multiplied, and A.
    fn mix(&mut self) {
        self.op(TO_X, 0);
        self.op(LOAD_STORED, 0);
        self.op(MULTIPLY, MULTIPLIER);
        self.op(XOR_X, 0);
    }

    /// The end: the socket of what is in A.
    fn hash(&mut self, n: u32) {
        self.op(MULTIPLY, MULTIPLIER);
        self.op(SHIFT, 16);
        self.op(MODULUS, n.max(1));
        self.op(RETURN_A, 0);
    }
}

/// Drops every datagram: what each socket of a group starts with, until all of them are bound.
pub(super) const CLOSED: [socket2::SockFilter; 1] =
    [socket2::SockFilter::new((libc::BPF_RET | libc::BPF_K) as u16, 0, 0, 0)];

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::net::owner;
    use std::collections::{BTreeMap, HashSet};
    use std::net::{Ipv4Addr, Ipv6Addr};

    /// Runs a classic BPF program of the operations that steering uses over an IP header and a payload.
    fn interpret(program: &[libc::sock_filter], header: &[u8], payload: &[u8]) -> u32 {
        let (mut a, mut x, mut stored, mut at) = (0u32, 0u32, 0u32, 0);
        // The headers, or the payload: None past its end.
        let load = |k: u32, len: usize| {
            let offset = k.wrapping_sub(libc::SKF_NET_OFF as u32) as usize;
            let (bytes, from) = if k.cast_signed() < 0 { (header, offset) } else { (payload, k as usize) };
            let bytes = bytes.get(from..from + len)?;
            Some(bytes.iter().fold(0u32, |value, byte| value << 8 | u32::from(*byte)))
        };
        loop {
            let op = &program[at];
            at += 1;
            let loaded = match op.code {
                0x30 => load(op.k, 1),
                0x20 => load(op.k, 4),
                0x28 => load(op.k, 2),
                0x48 => load(op.k.wrapping_add(x), 2),
                0xb1 => load(op.k, 1),
                _ => Some(0),
            };
            let Some(loaded) = loaded else { return 0 };
            match op.code {
                0x30 | 0x20 | 0x28 | 0x48 => a = loaded,
                0xb1 => x = (loaded & 15) * 4,
                0x02 => stored = a,
                0x60 => a = stored,
                0x24 => a = a.wrapping_mul(op.k),
                0x74 => a >>= op.k,
                0x94 => a %= op.k,
                0xac => a ^= x,
                0x07 => x = a,
                0x05 => at += op.k as usize,
                0x15 => at += usize::from(if a == op.k { op.jt } else { op.jf }),
                0x16 => return a,
                code => panic!("unexpected operation {code:#x}"),
            }
        }
    }

    #[test]
    fn the_program_is_the_owner_function() {
        let mut seed = 0x1234_5678_9abc_def0_u128;
        for n in [2usize, 3, 7, 8, 64, 1000] {
            let program = Steer::default().program(n as u32);
            for _ in 0..200 {
                seed = seed.wrapping_mul(0x2360_ed05_1fc6_5da4_4385_df64_9fcc_f645).wrapping_add(1);
                let v4 = Ipv4Addr::from_bits((seed >> 64) as u32);
                let mut header = [0u8; 40];
                header[0] = 0x45;
                header[12..16].copy_from_slice(&v4.octets());
                assert_eq!(interpret(&program, &header, &[]) as usize, owner(v4.into(), n));
                assert_eq!(owner(v4.to_ipv6_mapped().into(), n), owner(v4.into(), n));
                let v6 = Ipv6Addr::from_bits(seed.rotate_left(17) & !(0xffff << 80));
                header[0] = 0x60;
                header[8..24].copy_from_slice(&v6.octets());
                assert_eq!(interpret(&program, &header, &[]) as usize, owner(v6.into(), n));
                assert!(owner(v6.into(), n) < n);
            }
        }
    }

    /// Spreads two addresses of each family, by a field and by the port.
    pub fn spreading() -> Steer {
        let sources = ["127.0.9.1", "127.0.9.2", "2001:db8::1", "::1"].map(|text| text.parse::<IpAddr>().unwrap());
        let by = |i: usize| if i.is_multiple_of(2) { SpreadBy::Payload } else { SpreadBy::Port };
        Steer {
            spread: sources.into_iter().enumerate().map(|(i, source)| Spread { source, by: by(i) }).collect(),
            keys: vec![
                PayloadKey { tag: 9, offset: 16, is_wide: true },
                PayloadKey { tag: 5, offset: 20, is_wide: false },
            ],
        }
    }

    #[test]
    fn the_program_spreads_as_the_owner_function_does() {
        let steer = spreading();
        for n in [2usize, 5, 64] {
            let program = steer.program(n as u32);
            let mut used = BTreeMap::<(IpAddr, u8), HashSet<usize>>::new();
            for last in ["127.0.9.1", "127.0.9.2", "127.0.9.3", "2001:db8::1", "::1", "::2"] {
                let ip: IpAddr = last.parse().unwrap();
                for i in 0..64u16 {
                    for tag in [5u8, 9, 10] {
                        let mut payload = vec![0, tag];
                        payload.resize(30, 1);
                        payload[18..20].copy_from_slice(&i.to_be_bytes());
                        payload[20..22].copy_from_slice(&i.to_be_bytes());
                        let port = 40_000 + i;
                        // With options in an IPv4 header the ports stand later.
                        for options in [0usize, 12] {
                            let mut header = vec![0u8; 60];
                            match ip {
                                IpAddr::V4(v4) => {
                                    header[0] = 0x45 + (options / 4) as u8;
                                    header[12..16].copy_from_slice(&v4.octets());
                                    header[20 + options..22 + options].copy_from_slice(&port.to_be_bytes());
                                }
                                IpAddr::V6(v6) => {
                                    header[0] = 0x60;
                                    header[8..24].copy_from_slice(&v6.octets());
                                    header[40..42].copy_from_slice(&port.to_be_bytes());
                                }
                            }
                            for len in [30, 21, 19, 2, 1, 0] {
                                let payload = &payload[..len];
                                let owner = steer.owner(SocketAddr::new(ip, port), payload, n);
                                assert_eq!(interpret(&program, &header, payload) as usize, owner, "{ip} {payload:?}");
                                if len == 30 {
                                    used.entry((ip, tag)).or_default().insert(owner);
                                }
                            }
                        }
                    }
                }
            }
            for ((ip, tag), sockets) in used {
                let by = steer.spread.iter().find(|spread| spread.source == ip).map(|spread| spread.by);
                let spread = by == Some(SpreadBy::Port) || by == Some(SpreadBy::Payload) && tag != 10;
                assert_eq!(sockets.len() > 1, spread, "{ip} {tag}");
            }
        }
    }
}
