use super::{group::grow_receive_buffer, steer::tests::spreading, sys::Ring, *};
use std::{
    collections::{BTreeMap, HashSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    os::fd::AsFd,
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

const TICK: Duration = Duration::from_millis(20);
const PATIENCE: Duration = Duration::from_secs(5);
const LOOPBACK_4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const LOOPBACK_6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

/// Containers often have no IPv6 loopback.
fn has_ipv6() -> bool {
    UdpSocket::bind((LOOPBACK_6, 0)).is_ok()
}

fn small() -> Options {
    Options { receive_buffer: 128 << 10, ..Options::default() } // below the usual rmem_max
}

fn open(ip: impl Into<IpAddr>, n: usize, options: Options) -> Group {
    Group::open(SocketAddr::new(ip.into(), 0), n, &options).unwrap()
}

fn sender(ip: IpAddr, port: u16) -> UdpSocket {
    let socket = UdpSocket::bind((ip, 0)).unwrap();
    let to = if ip.is_ipv4() { LOOPBACK_4 } else { LOOPBACK_6 };
    socket.connect((to, port)).unwrap();
    socket
}

/// Reads until `count` datagrams came or patience is over.
fn read(receiver: &mut Receiver, count: usize) -> Vec<(Vec<u8>, SocketAddr)> {
    let begin = Instant::now();
    let mut packets = Vec::new();
    while packets.len() < count && begin.elapsed() < PATIENCE {
        let burst = receiver.receive(TICK).unwrap();
        packets.extend(burst.map(|packet| (packet.bytes.to_vec(), packet.source)));
    }
    packets
}

#[test]
fn dual_stack_receives_both_families() {
    let group = open(Ipv6Addr::UNSPECIFIED, 1, small());
    let port = group.local_addr().port();
    let mut receivers = group.into_receivers();
    let [receiver] = receivers.as_mut_slice() else { panic!("one receiver") };
    let v4 = sender(LOOPBACK_4, port);
    v4.send(b"four").unwrap();
    assert_eq!(read(receiver, 1), [(b"four".to_vec(), v4.local_addr().unwrap())]);
    if !has_ipv6() {
        return;
    }
    let v6 = sender(LOOPBACK_6, port);
    v6.send(b"six").unwrap();
    assert_eq!(read(receiver, 1), [(b"six".to_vec(), v6.local_addr().unwrap())]);
}

#[test]
fn a_specific_address_is_honoured() {
    let mapped: IpAddr = Ipv4Addr::LOCALHOST.to_ipv6_mapped().into();
    for (asked, ip) in [(LOOPBACK_4, LOOPBACK_4), (mapped, LOOPBACK_4), (LOOPBACK_6, LOOPBACK_6)] {
        if ip.is_ipv6() && !has_ipv6() {
            continue;
        }
        let group = open(asked, 2, small());
        assert_eq!(group.local_addr().ip(), ip);
        let other = sender(ip, group.local_addr().port());
        other.send(b"x").unwrap();
        let mut receivers = group.into_receivers();
        assert_eq!(read(&mut receivers[owner(ip, 2)], 1).len(), 1);
    }
}

#[test]
fn gro_trains_are_split() {
    for gro in [true, false] {
        let group = open(Ipv6Addr::UNSPECIFIED, 1, Options { gro, ..small() });
        let port = group.local_addr().port();
        let mut receivers = group.into_receivers();
        for ip in [LOOPBACK_4, LOOPBACK_6] {
            if ip.is_ipv6() && !has_ipv6() {
                continue;
            }
            let socket = sender(ip, port);
            sys::set_option(socket.as_fd(), libc::SOL_UDP, libc::UDP_SEGMENT, 100).unwrap();
            let sent: Vec<u8> = (0..1037u32).map(|i| (i % 251) as u8).collect();
            let before = receivers[0].stats();
            socket.send(&sent).unwrap();
            let packets: Vec<_> = read(&mut receivers[0], 11).into_iter().map(|(bytes, _)| bytes).collect();
            assert_eq!(packets, sent.chunks(100).collect::<Vec<_>>());
            let stats = receivers[0].stats();
            assert_eq!(stats.datagrams - before.datagrams, 11);
            assert_eq!(stats.bytes - before.bytes, 1037);
            assert_eq!(stats.messages - before.messages, if gro { 1 } else { 11 });
        }
    }
}

#[test]
fn a_dropped_burst_is_counted() {
    let group = open(LOOPBACK_4, 1, small());
    let socket = sender(LOOPBACK_4, group.local_addr().port());
    sys::set_option(socket.as_fd(), libc::SOL_UDP, libc::UDP_SEGMENT, 10).unwrap();
    let mut receivers = group.into_receivers();
    socket.send(&[7; 100]).unwrap();
    let first = receivers[0].receive(PATIENCE).unwrap().next().map(|packet| packet.bytes.len());
    assert_eq!(first, Some(10));
    assert_eq!(receivers[0].stats().datagrams, 10);
}

#[test]
fn every_source_stays_on_one_socket() {
    for n in [2, 3, 4] {
        let group = open(Ipv6Addr::UNSPECIFIED, n, small());
        assert_eq!(group.warnings(), []);
        let port = group.local_addr().port();
        let mut sent: BTreeMap<IpAddr, usize> = BTreeMap::new();
        let mut sources: Vec<IpAddr> = (1..=60u8).map(|i| Ipv4Addr::new(127, i % 3, 7, i).into()).collect();
        if has_ipv6() {
            sources.push(LOOPBACK_6);
        }
        for &ip in &sources {
            for _port in 0..3 {
                let socket = sender(ip, port);
                socket.send(b"template").unwrap();
                socket.send(b"data").unwrap();
                *sent.entry(ip).or_default() += 2;
            }
        }
        let mut came: BTreeMap<IpAddr, usize> = BTreeMap::new();
        let mut used = HashSet::new();
        for (index, receiver) in group.into_receivers().iter_mut().enumerate() {
            let expected: usize = sent.iter().filter(|(ip, _)| owner(**ip, n) == index).map(|(_, count)| count).sum();
            let packets = read(receiver, expected);
            assert!(receiver.receive(TICK).unwrap().is_empty());
            for (_, source) in packets {
                assert_eq!(owner(source.ip(), n), index, "{source}");
                *came.entry(source.ip()).or_default() += 1;
                used.insert(index);
            }
        }
        assert_eq!(came, sent);
        assert_eq!(used.len(), n);
    }
}

#[test]
fn a_receiver_that_goes_keeps_its_share() {
    let n = 3;
    let group = open(LOOPBACK_4, n, small());
    let port = group.local_addr().port();
    let mut receivers = group.into_receivers();
    receivers.remove(0);
    let sources: Vec<IpAddr> = (1..=30).map(|i| Ipv4Addr::new(127, 0, 0, i).into()).collect();
    for &ip in &sources {
        sender(ip, port).send(b"x").unwrap();
    }
    for (receiver, index) in receivers.iter_mut().zip(1..) {
        let expected = sources.iter().filter(|ip| owner(**ip, n) == index).count();
        let packets = read(receiver, expected);
        assert!(receiver.receive(TICK).unwrap().is_empty());
        assert_eq!(packets.len(), expected);
        assert!(packets.iter().all(|(_, source)| owner(source.ip(), n) == index));
    }
}

#[test]
fn a_source_that_is_too_much_is_spread_by_the_kernel_as_told() {
    let n = 4;
    let steer = spreading();
    let options = Options { steer: steer.clone(), ..small() };
    let group = open(Ipv6Addr::UNSPECIFIED, n, options);
    assert_eq!(group.warnings(), []);
    let port = group.local_addr().port();
    let mut expected: Vec<BTreeMap<(IpAddr, Vec<u8>), usize>> = vec![BTreeMap::new(); n];
    let mut sources: Vec<IpAddr> = [1, 2, 3].map(|i| Ipv4Addr::new(127, 0, 9, i).into()).to_vec();
    if has_ipv6() {
        sources.push(LOOPBACK_6);
    }
    for &ip in &sources {
        for _port in 0..8 {
            let socket = sender(ip, port);
            for domain in 0..8u8 {
                let mut payload = vec![0, 9];
                payload.resize(20, 0);
                payload[19] = domain;
                socket.send(&payload).unwrap();
                let owner = steer.owner(socket.local_addr().unwrap(), &payload, n);
                *expected[owner].entry((ip, payload)).or_default() += 1;
            }
        }
    }
    assert!(expected.iter().all(|own| own.keys().any(|key| key.0 == sources[0])), "by domain");
    assert!(expected.iter().filter(|own| own.keys().any(|key| key.0 == sources[1])).count() > 1, "by port");
    assert_eq!(expected.iter().filter(|own| own.keys().any(|key| key.0 == sources[2])).count(), 1);
    for (receiver, expected) in group.into_receivers().iter_mut().zip(expected) {
        let mut came = BTreeMap::new();
        for (payload, source) in read(receiver, expected.values().sum()) {
            *came.entry((source.ip(), payload)).or_default() += 1;
        }
        assert!(receiver.receive(TICK).unwrap().is_empty());
        assert_eq!(came, expected);
    }
}

#[test]
fn datagrams_of_one_interface() {
    let on = |name: &str| Options { interface: Some(name.into()), ..small() };
    let error = Group::open(any(0), 2, &on("no-such-if")).err().expect("no such interface");
    if error.kind == OpenErrorKind::PermissionDenied {
        return; // before Linux 5.7 only root may
    }
    assert_eq!(error.kind, OpenErrorKind::NoInterface);
    let group = open(Ipv4Addr::UNSPECIFIED, 2, on("lo"));
    sender(LOOPBACK_4, group.local_addr().port()).send(b"x").unwrap();
    let mut receivers = group.into_receivers();
    assert_eq!(read(&mut receivers[owner(LOOPBACK_4, 2)], 1).len(), 1);
}

#[test]
fn sockets_that_were_handed_over_are_used() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_nonblocking(true).unwrap();
    let to = socket.local_addr().unwrap();
    let group = Group::adopt(&socket, &small()).unwrap();
    assert_eq!((group.local_addr(), group.sockets()), (to, 1));
    sender(LOOPBACK_4, to.port()).send(b"x").unwrap();
    assert_eq!(read(&mut group.into_receivers()[0], 1).len(), 1);
}

#[test]
fn neighbouring_sources_are_spread() {
    for n in [2, 3, 4, 8, 16] {
        let mut shares = vec![0u32; n];
        for i in 0..=255u8 {
            shares[owner(Ipv4Addr::new(10, 0, 0, i).into(), n)] += 1;
        }
        let fair = 256 / n as u32;
        assert!(shares.iter().all(|share| (fair / 2..=fair * 2).contains(share)), "{n}: {shares:?}");
    }
}

#[test]
fn a_port_in_use_is_said() {
    let plain = UdpSocket::bind("0.0.0.0:0").unwrap();
    let shared = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None).unwrap();
    shared.set_reuse_port(true).unwrap();
    shared.bind(&SocketAddr::from((LOOPBACK_4, 0)).into()).unwrap();
    let group = open(Ipv6Addr::UNSPECIFIED, 2, small());
    let ports = [
        plain.local_addr().unwrap().port(),
        shared.local_addr().unwrap().as_socket().unwrap().port(),
        group.local_addr().port(),
    ];
    for port in ports {
        for n in [1, 2] {
            let error = Group::open(any(port), n, &small()).err().expect("the port is taken");
            assert_eq!(error.kind, OpenErrorKind::AddressInUse);
            assert!(error.to_string().contains(&format!("UDP port {port}")), "{error}");
        }
    }
    drop(group);
    Group::open(any(ports[2]), 2, &small()).expect("free again");
}

#[test]
fn an_address_of_no_interface_is_said() {
    let error = Group::open("192.0.2.77:0".parse().unwrap(), 2, &small()).err().unwrap();
    assert_eq!(error.kind, OpenErrorKind::AddressNotAvailable);
    assert!(error.to_string().contains("192.0.2.77"), "{error}");
    let denied = OpenError::new(any(53), "bind", &std::io::Error::from_raw_os_error(libc::EACCES));
    assert_eq!(denied.kind, OpenErrorKind::PermissionDenied);
    assert!(denied.to_string().contains("CAP_NET_BIND_SERVICE"), "{denied}");
}

#[test]
fn a_small_buffer_is_warned_of() {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None).unwrap();
    assert_eq!(grow_receive_buffer(&socket, 64 << 10, false), None);
    // No limit allows this much: the kernel halves it, even for root.
    let wanted = i32::MAX as usize;
    for force in [false, true] {
        match grow_receive_buffer(&socket, wanted, force) {
            Some(warning @ Warning::ReceiveBuffer { given, .. }) => {
                assert!(given > 0 && given < wanted);
                assert!(warning.to_string().contains("net.core.rmem_max"), "{warning}");
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_quiet_socket_lets_go() {
    let one = open(LOOPBACK_4, 1, small()).into_receivers();
    let two = receivers(vec![open(LOOPBACK_4, 1, small()), open(Ipv6Addr::UNSPECIFIED, 1, small())]);
    for mut receiver in one.into_iter().chain(two) {
        let begin = Instant::now();
        assert!(receiver.receive(Duration::ZERO).unwrap().is_empty());
        assert!(receiver.receive(TICK).unwrap().is_empty());
        assert!(receiver.receive(Duration::from_nanos(1)).unwrap().is_empty());
        assert!(begin.elapsed() >= TICK / 2 && begin.elapsed() < PATIENCE);
        assert_eq!(receiver.stats(), Stats::default());
    }
}

#[test]
fn empty_and_largest_datagrams_come_through() {
    let group = open(LOOPBACK_4, 1, small());
    let socket = sender(LOOPBACK_4, group.local_addr().port());
    let mut receivers = group.into_receivers();
    for len in [0usize, 1, 65_507] {
        socket.send(&vec![3; len]).unwrap();
        let packets = read(&mut receivers[0], 1);
        assert_eq!(packets.iter().map(|(bytes, _)| bytes.len()).collect::<Vec<_>>(), [len]);
    }
    assert_eq!(receivers[0].stats().truncated, 0);
    assert_eq!(receivers[0].stats().datagrams, 3);
}

#[test]
fn bursts_of_long_messages_are_short() {
    let group = open(LOOPBACK_4, 1, small());
    let from = sender(LOOPBACK_4, group.local_addr().port());
    let mut receiver = group.into_receivers().pop().unwrap();
    let mut bursts = |count: usize, len: usize| {
        for _ in 0..count {
            from.send(&vec![7; len]).unwrap();
        }
        let (mut all, begin) = (Vec::new(), Instant::now());
        while all.iter().map(|burst: &(bool, usize)| burst.1).sum::<usize>() < count && begin.elapsed() < PATIENCE {
            let burst = receiver.receive(TICK).unwrap();
            all.push((burst.leaves_more(), burst.count()));
        }
        all
    };
    // The first is taken without knowing, and the ones behind it are what a cache holds.
    bursts(1, 60_000);
    assert_eq!(bursts(3, 60_000), [(true, 2), (false, 1)]);
    // As soon as they are short again, there are as many as there is room for.
    bursts(1, 100);
    assert_eq!(bursts(100, 100), [(true, BURST), (false, 100 - BURST)]);
}

#[test]
fn only_a_row_of_sockets_without_more_is_at_rest() {
    let [quiet, busy] = [(); 2].map(|()| open(LOOPBACK_4, 1, small()));
    let [few, many] = [&quiet, &busy].map(|group| sender(LOOPBACK_4, group.local_addr().port()));
    let mut receiver = receivers(vec![quiet, busy]).pop().unwrap();
    few.send(b"x").unwrap();
    for _ in 0..2 * BURST + 3 {
        many.send(b"y").unwrap();
    }
    let mut bursts = Vec::new();
    while bursts.iter().map(|burst: &(usize, bool)| burst.0).sum::<usize>() < 2 * BURST + 4 {
        let burst = receiver.receive(TICK).unwrap();
        let leaves_more = burst.leaves_more();
        bursts.push((burst.count(), leaves_more));
    }
    assert_eq!(bursts, [(1, true), (BURST, true), (BURST, true), (3, false)]);
    // Each burst of long messages makes its own socket's shorter alone.
    let long = [7; 60_000];
    few.send(&long).unwrap();
    assert_eq!(receiver.receive(TICK).unwrap().count(), 1);
    (0..BURST).for_each(|_| assert_eq!(many.send(b"y").unwrap(), 1));
    assert_eq!(receiver.receive(TICK).unwrap().count(), BURST);
}

#[test]
fn a_cut_datagram_is_counted() {
    let group = open(LOOPBACK_4, 1, small());
    let socket = sender(LOOPBACK_4, group.local_addr().port());
    let mut receiver = group.into_receivers().remove(0).with_memory(Ring::new(4, 64));
    socket.send(&[1; 65]).unwrap();
    socket.send(&[2; 64]).unwrap();
    let mut came = Vec::new();
    while came.len() < 2 {
        came.extend(receiver.receive(PATIENCE).unwrap().map(|packet| (packet.bytes.to_vec(), packet.truncated)));
    }
    assert_eq!(came, [(vec![1; 64], true), (vec![2; 64], false)]);
    assert_eq!(receiver.stats().truncated, 1);
}

#[test]
fn refused_by_icmp_is_no_failure() {
    let closed = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let group = open(LOOPBACK_4, 1, small());
    group.socket(0).connect(&closed.into()).unwrap();
    group.socket(0).send(b"nobody reads this").unwrap();
    let mut receivers = group.into_receivers();
    let begin = Instant::now();
    while receivers[0].stats().socket_errors == 0 && begin.elapsed() < PATIENCE {
        assert!(receivers[0].receive(TICK).unwrap().is_empty());
    }
    assert_eq!(receivers[0].stats().socket_errors, 1);
}

#[test]
fn kernel_drops_are_counted() {
    let sent = 400;
    let group = open(LOOPBACK_4, 1, Options { receive_buffer: 16 << 10, gro: false, ..Options::default() });
    let socket = sender(LOOPBACK_4, group.local_addr().port());
    let mut receivers = group.into_receivers();
    assert_eq!(receivers[0].kernel_drops(), 0);
    for _ in 0..sent {
        socket.send(&[9; 1400]).unwrap();
    }
    let mut came = 0;
    while let n @ 1.. = receivers[0].receive(TICK).unwrap().count() {
        came += n;
    }
    assert!(came < sent);
    assert_eq!(receivers[0].kernel_drops(), (sent - came) as u64);
    assert_eq!(receivers[0].kernel_drops(), receivers[0].stats().kernel_drops);
}

#[test]
fn one_receiver_serves_several_groups() {
    let any = Ipv6Addr::UNSPECIFIED;
    let groups = vec![open(LOOPBACK_4, 2, small()), open(any, 2, small()), open(LOOPBACK_4, 1, small())];
    let ports: Vec<u16> = groups.iter().map(|group| group.local_addr().port()).collect();
    let mut receivers = receivers(groups);
    assert_eq!(receivers.iter().map(|receiver| receiver.local_addrs().count()).collect::<Vec<_>>(), [3, 2]);
    let v4 = (1..=20).map(|i| Ipv4Addr::new(127, 0, 1, i).into()).collect::<Vec<IpAddr>>();
    for &ip in &v4 {
        sender(ip, ports[0]).send(b"first").unwrap();
        sender(ip, ports[2]).send(b"third").unwrap();
    }
    let other = if has_ipv6() { LOOPBACK_6 } else { LOOPBACK_4 };
    sender(other, ports[1]).send(b"second").unwrap();
    for (index, receiver) in receivers.iter_mut().enumerate() {
        let mut expected = BTreeMap::new();
        for &ip in v4.iter().filter(|ip| owner(**ip, 2) == index) {
            expected.insert((b"first".to_vec(), ip), 1);
        }
        if owner(other, 2) == index {
            expected.insert((b"second".to_vec(), other), 1);
        }
        if index == 0 {
            expected.extend(v4.iter().map(|&ip| ((b"third".to_vec(), ip), 1)));
        }
        let mut came = BTreeMap::new();
        for (bytes, source) in read(receiver, expected.len()) {
            *came.entry((bytes, source.ip())).or_default() += 1;
        }
        assert_eq!(came, expected);
    }
}

#[test]
fn the_kernel_says_when_it_came() {
    for timestamps in [true, false] {
        let group = open(Ipv6Addr::UNSPECIFIED, 1, Options { timestamps, ..small() });
        assert_eq!(group.warnings(), []);
        let socket = sender(LOOPBACK_4, group.local_addr().port());
        let mut receivers = group.into_receivers();
        let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros() as i64;
        let slack = 2_000; // the clock may be stepped a little
        let begin = Instant::now();
        loop {
            let before = now();
            socket.send(b"x").unwrap();
            thread::sleep(TICK);
            let taken = now();
            let at = receivers[0].receive(PATIENCE).unwrap().next().unwrap().received_at_us;
            assert!((before - slack..=now() + slack).contains(&at));
            if (at < taken - 10_000) == timestamps {
                break;
            }
            // The kernel switches its stamps on in the background: until then they are made when read.
            assert!(timestamps && begin.elapsed() < PATIENCE, "{at} {taken}");
        }
    }
}

#[test]
fn threads_can_be_pinned() {
    let cores = cores();
    assert!(!cores.is_empty());
    let pinned = thread::spawn(move || cores.into_iter().all(pin) && !pin(1023) && !pin(1_000_000));
    assert!(pinned.join().unwrap());
}

#[test]
fn short_slices_are_the_threads_own() {
    std::thread::spawn(|| {
        super::sys::short_slices(300_000).expect("taken, or passed over");
        super::be_nice(3);
        super::sys::short_slices(400_000).expect("as nice as it was");
        assert_eq!(rustix::process::getpriority_process(None).expect("a thread"), 3);
    })
    .join()
    .expect("a thread");
}
