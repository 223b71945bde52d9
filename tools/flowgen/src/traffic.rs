//! What the flows look like: who talks to whom, on which ports, how much.
//!
//! Few hosts and services carry most flows (Zipf), few flows carry most bytes (Pareto), packets come in the sizes of a
//! log-normal distribution, and so do durations. All of it follows from one seed, on every machine.

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};
use rand_distr::{Distribution, LogNormal, Pareto, Zipf};

/// Hosts on either side where nothing else is asked for; the rank of a host is drawn by Zipf's law.
pub(crate) const HOSTS: u32 = 1 << 16;
/// The exponent of Zipf's law for hosts, near what traces of backbones show.
const HOST_EXPONENT: f64 = 1.05;
/// Services by how common they are.
const SERVICES: [(u8, u16); 20] = [
    (6, 443),
    (17, 443),
    (17, 53),
    (6, 80),
    (17, 123),
    (1, 0),
    (6, 22),
    (6, 993),
    (17, 4500),
    (6, 445),
    (6, 25),
    (6, 8080),
    (17, 161),
    (6, 3306),
    (17, 5060),
    (6, 5432),
    (6, 587),
    (17, 51820),
    (6, 179),
    (47, 0),
];
/// Packets of a flow at most: with 1500 bytes each they still fit the 32 bits that v5 has for bytes.
const MAX_PACKETS: f64 = 2_000_000.0;
/// Interfaces of an exporter, numbered from 1.
pub(crate) const INTERFACES: u16 = 16;

const APPLICATIONS: [&str; 12] = [
    "tls",
    "quic",
    "dns",
    "http",
    "ntp",
    "icmp",
    "ssh",
    "imaps",
    "ipsec-nat-traversal",
    "microsoft-ds",
    "session-initiation-protocol",
    "unclassified traffic of an application nobody has a name for",
];

/// One flow; every format takes from it what it has room for.
#[derive(Clone, Debug)]
pub(crate) struct Flow {
    pub src4: u32,
    pub dst4: u32,
    pub next_hop4: u32,
    pub src_port: u16,
    pub dst_port: u16,
    pub protocol: u8,
    pub tcp_flags: u8,
    pub tos: u8,
    pub octets: u32,
    pub packets: u32,
    /// How long before the export the flow ended, milliseconds.
    pub age_ms: u32,
    /// How long it lasted, milliseconds.
    pub duration_ms: u32,
    pub input: u16,
    pub output: u16,
    pub src_as: u16,
    pub dst_as: u16,
    pub src_mask: u8,
    pub dst_mask: u8,
    pub flow_label: u32,
    pub application: &'static str,
    pub user: String,
    /// Whether strings are to have the long form of their length, although the short one would do.
    pub long_form: bool,
}

impl Flow {
    /// The flow's source in IPv6.
    pub fn src6(&self) -> u128 {
        ipv6(self.src4)
    }

    /// The flow's destination in IPv6.
    pub fn dst6(&self) -> u128 {
        ipv6(self.dst4)
    }

    /// ICMP type and code as routers put them into the destination port.
    pub fn icmp(&self) -> u16 {
        if self.protocol == 1 { self.dst_port } else { 0 }
    }
}

/// An address of 2001:db8::/32 for each IPv4 address: the /64 of its network, the host's interface id.
fn ipv6(v4: u32) -> u128 {
    0x2001_0db8 << 96 | u128::from(v4 >> 8) << 64 | u128::from(mix(u64::from(v4)))
}

/// A bijection that scatters ranks over the address space (the finalizer of SplitMix64).
fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Draws flows.
pub(crate) struct Traffic {
    rng: Xoshiro256PlusPlus,
    seed: u64,
    hosts: Zipf<f64>,
    services: Zipf<f64>,
    packets: Pareto<f64>,
    packet_size: LogNormal<f64>,
    duration: LogNormal<f64>,
}

impl Traffic {
    /// The traffic of a seed between so many hosts inside and as many outside.
    pub fn new(seed: u64, hosts: u32) -> Self {
        // The parameters are constants that the distributions accept; `zipf` and the others say which they are.
        Self {
            rng: Xoshiro256PlusPlus::seed_from_u64(seed),
            seed,
            hosts: Zipf::new(f64::from(hosts.max(1)), HOST_EXPONENT).expect("a positive exponent"),
            services: Zipf::new(SERVICES.len() as f64, 1.2).expect("a positive exponent"),
            packets: Pareto::new(1.0, 1.1).expect("a positive scale and shape"),
            packet_size: LogNormal::new(5.7, 0.9).expect("a positive deviation"),
            duration: LogNormal::new(6.0, 2.2).expect("a positive deviation"),
        }
    }

    /// A host by its rank: clients in 10/8, servers spread over public space.
    fn host(&mut self, client: bool) -> (u32, u16, u8) {
        let rank = self.hosts.sample(&mut self.rng) as u64;
        let scattered = mix(rank ^ self.seed.rotate_left(17) ^ u64::from(client)) as u32;
        let (autonomous_system, mask) = ((scattered >> 20) as u16 % 4000 + 1, 16 + (scattered >> 16) as u8 % 9);
        match client {
            true => (0x0a00_0000 | scattered & 0x00ff_ffff, 64_512 + autonomous_system % 16, 24),
            // 11/8 to 99/8: neither private nor special.
            false => ((11 + (scattered >> 24) % 89) << 24 | scattered & 0x00ff_ffff, autonomous_system, mask),
        }
    }

    /// The next flow.
    pub fn flow(&mut self) -> Flow {
        let client = self.host(true);
        let server = self.host(false);
        let rank = (self.services.sample(&mut self.rng) as usize).clamp(1, SERVICES.len()) - 1;
        let (protocol, service) = SERVICES[rank];
        let ports = match protocol {
            6 | 17 => (self.rng.random_range(32_768..61_000), service),
            // Echo request and reply, and unreachable.
            1 => (0, [0x0800, 0x0000, 0x0303][self.rng.random_range(0..3)]),
            _ => (0, 0),
        };
        let packets = self.packets.sample(&mut self.rng).clamp(1.0, MAX_PACKETS) as u32;
        let size = self.packet_size.sample(&mut self.rng).clamp(40.0, 1500.0);
        let tcp_flags = match protocol {
            6 if packets > 3 => 0x1b,
            6 => [0x02, 0x12, 0x14, 0x10][self.rng.random_range(0..4)],
            _ => 0,
        };
        let duration = if packets == 1 { 0.0 } else { self.duration.sample(&mut self.rng).min(1_800_000.0) };
        let forward = self.rng.random_bool(0.5);
        let mut flow = Flow {
            src4: client.0,
            dst4: server.0,
            next_hop4: 0xc000_0200 | self.rng.random_range(1..=8),
            src_port: ports.0,
            dst_port: ports.1,
            protocol,
            tcp_flags,
            tos: [0, 0, 0, 0, 0, 0x28, 0x48, 0xb8][self.rng.random_range(0..8)],
            octets: (f64::from(packets) * size) as u32,
            packets,
            age_ms: self.rng.random_range(0..15_000),
            duration_ms: duration as u32,
            input: self.rng.random_range(1..=INTERFACES),
            output: self.rng.random_range(1..=INTERFACES),
            src_as: client.1,
            dst_as: server.1,
            src_mask: client.2,
            dst_mask: server.2,
            flow_label: self.rng.random_range(0..1 << 20),
            application: APPLICATIONS[rank.min(APPLICATIONS.len() - 1)],
            user: self.user(client.0),
            long_form: self.rng.random_ratio(1, 256),
        };
        if !forward {
            std::mem::swap(&mut flow.src4, &mut flow.dst4);
            std::mem::swap(&mut flow.src_as, &mut flow.dst_as);
            std::mem::swap(&mut flow.src_mask, &mut flow.dst_mask);
            if protocol != 1 {
                std::mem::swap(&mut flow.src_port, &mut flow.dst_port);
            }
        }
        flow
    }

    /// The user at a client: often nobody, always the same name, now and then one too long for the short form.
    fn user(&mut self, client: u32) -> String {
        if client & 3 == 0 {
            return String::new();
        }
        if self.rng.random_ratio(1, 1000) {
            return "a.user.whose.name.is.a.sentence".repeat(9);
        }
        let tag = mix(u64::from(client));
        let mut name = format!("user-{tag:x}");
        name.truncate(6 + (tag >> 60) as usize);
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    #[test]
    fn the_same_seed_gives_the_same_flows() {
        let list = |seed| {
            let mut traffic = Traffic::new(seed, HOSTS);
            (0..100).map(|_| format!("{:?}", traffic.flow())).collect::<Vec<_>>()
        };
        assert_eq!(list(7), list(7));
        assert_ne!(list(7), list(8));
    }

    #[test]
    fn more_hosts_are_more_addresses() {
        let addresses = |hosts| {
            let mut traffic = Traffic::new(1, hosts);
            (0..20_000).map(|_| traffic.flow().src4).collect::<std::collections::HashSet<_>>().len()
        };
        assert!(addresses(10) <= 20);
        assert!(addresses(1 << 22) > addresses(HOSTS));
    }

    #[test]
    fn few_hosts_have_many_flows_and_few_flows_many_bytes() {
        let mut traffic = Traffic::new(1, HOSTS);
        let flows: Vec<Flow> = (0..20_000).map(|_| traffic.flow()).collect();
        let mut hosts = HashMap::<u32, usize>::new();
        flows.iter().for_each(|f| *hosts.entry(f.src4.max(f.dst4)).or_default() += 1);
        let mut counts: Vec<usize> = hosts.into_values().collect();
        counts.sort_unstable_by(|a, b| b.cmp(a));
        assert!(counts.iter().take(100).sum::<usize>() > flows.len() / 3, "the busiest 100 servers");
        let mut octets: Vec<u64> = flows.iter().map(|f| u64::from(f.octets)).collect();
        octets.sort_unstable_by(|a, b| b.cmp(a));
        let all: u64 = octets.iter().sum();
        assert!(octets.iter().take(flows.len() / 100).sum::<u64>() > all / 2, "the largest hundredth of the flows");
        assert!(flows.iter().all(|f| f.octets >= 40 && f.packets >= 1));
    }
}
