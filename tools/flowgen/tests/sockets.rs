//! Datagrams that really arrive, from where they should.

use flowgen::{Delivery, Limits, Pace, Plan, Protocol, Sender, Sent};
use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// Datagrams that are sent and then read: few enough for a socket's buffer.
const MESSAGES: u64 = 100;

fn listen(address: &str) -> (UdpSocket, Delivery) {
    let socket = UdpSocket::bind(address).expect("a free port");
    socket.set_read_timeout(Some(Duration::from_millis(200))).expect("a time");
    let mut delivery = Delivery::to(socket.local_addr().expect("an address"));
    delivery.limits = Limits { count: Some(MESSAGES), ..Limits::default() };
    (socket, delivery)
}

fn plan(exporters: u32, ports: u16) -> Plan {
    Plan { protocols: vec![Protocol::V5], records: Some(10), exporters, ports, ..Plan::default() }
}

/// Sends, and gives what arrived by its source: the sequence number of each datagram.
fn arrived(socket: &UdpSocket, plan: &Plan, delivery: &Delivery) -> (HashMap<SocketAddr, Vec<u32>>, Sent) {
    let sent = flowgen::send(plan, delivery, &AtomicBool::new(false)).expect("sent");
    let mut found = HashMap::<SocketAddr, Vec<u32>>::new();
    let mut buffer = [0; 2048];
    for _ in 0..sent.datagrams {
        let (length, from) = socket.recv_from(&mut buffer).expect("as many datagrams as were sent");
        assert_eq!((length, &buffer[..4]), (24 + 480, &[0, 5, 0, 10][..]));
        let number = buffer[16..20].iter().fold(0, |n, &byte| n << 8 | u32::from(byte));
        found.entry(from).or_default().push(number);
    }
    assert!(socket.recv_from(&mut buffer).is_err(), "more arrived than was sent");
    for numbers in found.values() {
        assert!(numbers.iter().zip(0..).all(|(&number, at)| number == at * 10), "{numbers:?}");
    }
    assert_eq!((sent.datagrams, sent.records, sent.bytes), (MESSAGES, MESSAGES * 10, MESSAGES * 504));
    (found, sent)
}

#[test]
fn few_exporters_have_a_socket_each() {
    let (socket, mut delivery) = listen("127.0.0.1:0");
    for trains in [false, true] {
        delivery.trains = trains;
        let (found, _) = arrived(&socket, &plan(3, 2), &delivery);
        let addresses: HashSet<IpAddr> = found.keys().map(SocketAddr::ip).collect();
        let expected = [1, 2, 3].map(|n| IpAddr::V4(Ipv4Addr::new(127, 1, 0, n)));
        // A train is longer than the count of each: some exporters do not get their turn.
        assert!(if trains { !found.is_empty() } else { found.len() == 6 && addresses == HashSet::from(expected) });
    }
}

#[test]
fn many_exporters_share_a_socket() {
    let (socket, mut delivery) = listen("127.0.0.1:0");
    delivery.from = Some("127.7.0.250".parse().expect("an address"));
    for (trains, threads) in [(false, 1), (true, 1), (false, 3)] {
        (delivery.trains, delivery.threads) = (trains, threads);
        let (found, sent) = arrived(&socket, &plan(80, 1), &delivery);
        assert_eq!(sent.exporters, 80);
        assert!(found.keys().all(|from| from.ip().to_string().starts_with("127.7.")), "{found:?}");
        assert!(trains || found.len() == 80, "{} exporters", found.len());
    }
}

#[test]
fn over_ipv6_exporters_differ_in_their_ports() {
    let (socket, delivery) = listen("[::1]:0");
    let (found, _) = arrived(&socket, &plan(5, 1), &delivery);
    assert_eq!(found.len(), 5);
}

#[test]
fn a_sender_goes_on_where_it_was() {
    let (socket, delivery) = listen("127.0.0.1:0");
    let mut sender = Sender::open(&plan(1, 1), &delivery).expect("a sender");
    sender.send(7).expect("sent");
    assert_eq!((sender.sent().datagrams, sender.sent().records), (7, 70));
    sender.run(&AtomicBool::new(false)).expect("sent");
    assert_eq!(sender.finish().expect("sums").datagrams, 7 + MESSAGES);
    let mut buffer = [0; 2048];
    for number in 0..7 + MESSAGES as u32 {
        socket.recv_from(&mut buffer).expect("a datagram");
        assert_eq!(buffer[16..20], (number * 10).to_be_bytes());
    }
}

#[test]
fn a_rate_is_kept() {
    let (_socket, mut delivery) = listen("127.0.0.1:0");
    let duration = Duration::from_millis(500);
    delivery.limits = Limits { pace: Pace::Datagrams(20_000.0), duration: Some(duration), ..Limits::default() };
    let sent = flowgen::send(&plan(2, 1), &delivery, &AtomicBool::new(false)).expect("sent");
    assert_eq!(sent.datagrams, 10_000);
    assert!(sent.duration >= Duration::from_millis(490), "{:?}", sent.duration);
}

#[test]
fn nobody_listens() {
    let (socket, delivery) = listen("127.0.0.1:0");
    drop(socket);
    let sent = flowgen::send(&plan(1, 1), &delivery, &AtomicBool::new(false)).expect("sent all the same");
    assert_eq!(sent.datagrams, MESSAGES);
    assert!(sent.refused > 0);
}
