//! The program that the kernel runs on each datagram to choose a socket: classic BPF over the IP header's source.

use std::net::IpAddr;

/// An odd 32-bit constant near 2^32 / golden ratio: neighbours' products differ in their upper bits.
const MULTIPLIER: u32 = 0x9e37_79b1;

/// The socket, below `n`, that gets what `source` sends to a group of `n` steered sockets.
///
/// An IPv4-mapped address goes where its IPv4 address goes.
pub fn owner(source: IpAddr, n: usize) -> usize {
    let folded = match source.to_canonical() {
        IpAddr::V4(v4) => v4.to_bits(),
        IpAddr::V6(v6) => {
            let bits = v6.to_bits();
            let words = [(bits >> 96) as u32, (bits >> 64) as u32, (bits >> 32) as u32, bits as u32];
            words.into_iter().reduce(|folded, word| folded.wrapping_mul(MULTIPLIER) ^ word).unwrap_or(0)
        }
    };
    let hash = folded.wrapping_mul(MULTIPLIER) >> 16;
    hash as usize % n.max(1)
}

/// [`owner`] as a program for `SO_ATTACH_REUSEPORT_CBPF`.
///
/// The kernel runs it with the payload at offset 0 and the IP header at `SKF_NET_OFF`; on a dual-stack socket the
/// header tells which family came. The last operation before `ret` is the modulus, so the result is below `n`; a load
/// past the packet's end, which no UDP datagram causes, ends the program with 0.
pub(super) fn program(n: u32) -> [libc::sock_filter; 22] {
    const WORD: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    const BYTE: u32 = libc::BPF_LD | libc::BPF_B | libc::BPF_ABS;
    const MULTIPLY: u32 = libc::BPF_ALU | libc::BPF_MUL | libc::BPF_K;
    const SHIFT: u32 = libc::BPF_ALU | libc::BPF_RSH | libc::BPF_K;
    const MODULUS: u32 = libc::BPF_ALU | libc::BPF_MOD | libc::BPF_K;
    const XOR_X: u32 = libc::BPF_ALU | libc::BPF_XOR | libc::BPF_X;
    const TO_X: u32 = libc::BPF_MISC | libc::BPF_TAX;
    const JUMP: u32 = libc::BPF_JMP | libc::BPF_JA;
    const IF_EQUAL: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    const RETURN_A: u32 = libc::BPF_RET | libc::BPF_A;
    // The network header is addressed by negative offsets.
    let header = |offset: u32| (libc::SKF_NET_OFF as u32).wrapping_add(offset);
    let op = |code: u32, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf: 0, k };
    [
        op(BYTE, header(0)),
        op(SHIFT, 4),
        libc::sock_filter { code: IF_EQUAL as u16, jt: 0, jf: 2, k: 4 },
        op(WORD, header(12)),
        op(JUMP, 13), // to the hash
        op(WORD, header(8)),
        op(MULTIPLY, MULTIPLIER),
        op(TO_X, 0),
        op(WORD, header(12)),
        op(XOR_X, 0),
        op(MULTIPLY, MULTIPLIER),
        op(TO_X, 0),
        op(WORD, header(16)),
        op(XOR_X, 0),
        op(MULTIPLY, MULTIPLIER),
        op(TO_X, 0),
        op(WORD, header(20)),
        op(XOR_X, 0),
        op(MULTIPLY, MULTIPLIER), // the hash
        op(SHIFT, 16),
        op(MODULUS, n.max(1)),
        op(RETURN_A, 0),
    ]
}

/// Drops every datagram: what each socket of a group starts with, until all of them are bound.
pub(super) const CLOSED: [socket2::SockFilter; 1] =
    [socket2::SockFilter::new((libc::BPF_RET | libc::BPF_K) as u16, 0, 0, 0)];
