//! Templates and senders that mean harm, beside honest exporters: what the collector's memory comes to, and whether the honest
//! ones lose anything.
//!
//! No hostile datagram holds a flow that could be decoded, so what a collector keeps has to be what the honest exporters
//! sent, to the unit. While it knows all of these senders it is asked for the pages that show them.

use crate::peer::Peer;
use crate::process::{Queue, pin};
use crate::table::{Table, number};
use crate::trial::{Arena, FEW, Files, Held};
use crate::workload::{Load, Workload};
use anyhow::{Context, anyhow};
use nix::sys::socket::{ControlMessage, MsgFlags, SockaddrIn, sendmsg};
use serde::{Deserialize, Serialize};
use std::io::{IoSlice, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

/// What is thrown at a collector.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// Templates that ask for much, of ten senders.
    pub templates: u32,
    /// Senders of 127/8, each with a template and a set whose template never comes.
    pub spoofed: u32,
    /// Hostile datagrams a second.
    pub hostile_rate: f64,
    /// Honest datagrams a second.
    pub rate: f64,
}

/// What came of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Hostile {
    /// The collector's name.
    pub peer: String,
    /// Hostile templates sent.
    pub templates: u32,
    /// Hostile senders.
    pub spoofed: u32,
    /// Hostile datagrams.
    pub datagrams: u64,
    /// Flow records that honest exporters sent, and their bytes and packets.
    pub sent: [u64; 3],
    /// What was kept of them.
    pub kept: [u64; 3],
    /// Resident memory at its peak.
    pub peak_kib: u64,
    /// Datagrams that found the receive buffer full.
    pub kernel_drops: u64,
    /// Of those, after the last hostile one, while pages were asked for.
    #[serde(default)]
    pub asked_drops: u64,
    /// Answers to questions over HTTP.
    #[serde(default)]
    pub pages: Vec<Page>,
}

/// A page that was asked for behind the last hostile datagram.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Page {
    /// Its path.
    pub path: String,
    /// How long it took until all of it was there, or until that was given up.
    pub seconds: f64,
    /// Its bytes; none where there was no answer.
    pub bytes: u64,
}

/// More than this is too much.
pub const MEMORY_KIB: u64 = 512 << 10;
/// An answer that takes longer is none.
const PATIENCE: Duration = Duration::from_secs(10);

impl Hostile {
    /// Whether the honest exporters lost nothing, memory stayed below [`MEMORY_KIB`], and every page came.
    pub fn holds(&self) -> bool {
        self.sent == self.kept && self.peak_kib < MEMORY_KIB && self.pages.iter().all(|page| page.bytes > 0)
    }
}

/// Honest exporters first, then the hostile ones beside them.
///
/// # Errors
/// It does not run, or sending fails.
pub fn run(arena: &Arena, peer: &dyn Peer, workload: &Workload, asked: Asked) -> anyhow::Result<Hostile> {
    let (mut datagrams, mut drops, mut pages) = (0, 0, Vec::new());
    let hostile = u64::from(asked.templates) + 2 * u64::from(asked.spoofed);
    // The honest ones begin before and end after, a second or more for each page.
    let seconds = 2.0 + hostile as f64 / asked.hostile_rate + peer.pages().len() as f64;
    let time = Duration::from_secs_f64(seconds);
    let load = Load { rate: asked.rate, time, trains: false, core: arena.cores.sender, distinct: FEW };
    let held = arena.hold(peer, Files { is_asked: true, ..Files::default() }, |place, _| {
        let to = SocketAddrV4::new(Ipv4Addr::LOCALHOST, place.port);
        std::thread::scope(|scope| {
            let honest = scope.spawn(|| workload.send(to.into(), load, || Ok(())));
            let harm = scope.spawn(|| {
                pin(&[arena.cores.sender])?;
                std::thread::sleep(Duration::from_secs(1));
                let datagrams = attack(to, asked)?;
                let drops = Queue::of(place.port).map_or(0, |q| q.drops);
                let page = |path: &&str| Some(page(SocketAddr::from((Ipv4Addr::LOCALHOST, place.http?)), path));
                anyhow::Ok((datagrams, drops, peer.pages().iter().filter_map(page).collect()))
            });
            (datagrams, drops, pages) = harm.join().map_err(|_| anyhow!("the hostile thread failed"))??;
            honest.join().map_err(|_| anyhow!("the sending thread failed"))?
        })
    })?;
    let Held { all, kept, ended, kernel_drops, .. } = held;
    Ok(Hostile {
        peer: peer.name().to_owned(),
        templates: asked.templates,
        spoofed: asked.spoofed,
        datagrams,
        sent: [all.records, all.octets, all.packets],
        kept: [kept.records, kept.octets, kept.packets],
        peak_kib: ended.peak_kib,
        kernel_drops,
        asked_drops: kernel_drops - drops,
        pages,
    })
}

/// Asks for a page.
fn page(at: SocketAddr, path: &str) -> Page {
    let begun = Instant::now();
    let bytes = body(at, path, begun + PATIENCE).unwrap_or(0);
    Page { path: path.to_owned(), seconds: begun.elapsed().as_secs_f64(), bytes }
}

/// Bytes of a page that is whole before an end.
fn body(at: SocketAddr, path: &str, end: Instant) -> anyhow::Result<u64> {
    let mut stream = TcpStream::connect_timeout(&at, PATIENCE)?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: {at}\r\n\r\n").as_bytes())?;
    let (mut answer, mut some) = (Vec::new(), [0; 1 << 16]);
    loop {
        let left = end.saturating_duration_since(Instant::now());
        // No time left is an error, too.
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut some)? {
            0 => break,
            n => answer.extend_from_slice(&some[..n]),
        }
    }
    let head = answer.windows(4).position(|w| w == b"\r\n\r\n").context("no answer")?;
    let is_ok = answer.get(8..13) == Some(b" 200 ") && answer.ends_with(b"\n");
    anyhow::ensure!(is_ok, "not all of a page");
    Ok((answer.len() - head - 4) as u64)
}

/// Sends all of it at its rate; gives how many datagrams that were.
fn attack(to: SocketAddrV4, asked: Asked) -> anyhow::Result<u64> {
    // One socket is all senders of 127/8: each datagram names its own source.
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    let begun = Instant::now();
    let mut sent = 0u64;
    let mut send = |from: Ipv4Addr, bytes: &[u8]| -> anyhow::Result<()> {
        while begun.elapsed().as_secs_f64() < sent as f64 / asked.hostile_rate {
            std::thread::sleep(Duration::from_micros(200));
        }
        let source = nix::libc::in_pktinfo {
            ipi_ifindex: 0,
            ipi_spec_dst: nix::libc::in_addr { s_addr: u32::from(from).to_be() },
            ipi_addr: nix::libc::in_addr { s_addr: 0 },
        };
        let control = [ControlMessage::Ipv4PacketInfo(&source)];
        let parts = [IoSlice::new(bytes)];
        sendmsg(socket.as_raw_fd(), &parts, &control, MsgFlags::empty(), Some(&SockaddrIn::from(to)))
            .with_context(|| format!("cannot send from {from}"))?;
        sent += 1;
        Ok(())
    };
    for n in 0..asked.templates {
        send(Ipv4Addr::new(127, 66, 0, (n % 10) as u8), &template(n))?;
    }
    let first = u32::from(Ipv4Addr::new(127, 128, 0, 0));
    for n in 0..asked.spoofed {
        let from = Ipv4Addr::from(first + n);
        send(from, &template(n))?;
        // As long as a datagram goes, so that holding it costs the most.
        send(from, &ipfix(n, 65_000, &[0xa5; 1400]))?;
    }
    Ok(sent)
}

/// An IPFIX message of one set.
fn ipfix(sequence: u32, set: u16, content: &[u8]) -> Vec<u8> {
    let mut message = Vec::with_capacity(20 + content.len());
    message.extend(10u16.to_be_bytes());
    message.extend((20 + content.len() as u16).to_be_bytes());
    message.extend(1_700_000_000u32.to_be_bytes());
    message.extend(sequence.to_be_bytes());
    message.extend(7u32.to_be_bytes());
    message.extend(set.to_be_bytes());
    message.extend((4 + content.len() as u16).to_be_bytes());
    message.extend(content);
    message
}

/// The hostile template of a number: each of its kind asks for something else that costs memory or time.
fn template(n: u32) -> Vec<u8> {
    // As many ids as there are, again and again with other fields.
    let id = 256 + (n % 60_000) as u16;
    let field = |content: &mut Vec<u8>, element: u16, length: u16| {
        content.extend(element.to_be_bytes());
        content.extend(length.to_be_bytes());
    };
    let mut content = id.to_be_bytes().to_vec();
    match n % 6 {
        // As many fields as a datagram holds, each another.
        0 => {
            content.extend(350u16.to_be_bytes());
            (0..350).for_each(|f| field(&mut content, 1 + (f + n as u16) % 490, 4));
        }
        // Records longer than any message.
        1 => {
            content.extend(300u16.to_be_bytes());
            (0..300).for_each(|f| field(&mut content, 1 + f, 65_534));
        }
        // All of it of variable length.
        2 => {
            content.extend(340u16.to_be_bytes());
            (0..340).for_each(|f| field(&mut content, 82 + f % 3, u16::MAX));
        }
        // Elements that nobody knows, of enterprises that nobody knows.
        3 => {
            content.extend(170u16.to_be_bytes());
            for f in 0..170 {
                field(&mut content, 0x8000 | f, 8);
                content.extend((0x00f0_0000 | n).to_be_bytes());
            }
        }
        // No length at all.
        4 => {
            content.extend(340u16.to_be_bytes());
            (0..340).for_each(|f| field(&mut content, 1 + f, 0));
        }
        // More fields than follow.
        _ => {
            content.extend(u16::MAX.to_be_bytes());
            (0..340).for_each(|f| field(&mut content, 1 + f, 4));
        }
    }
    ipfix(n, 2, &content)
}

/// A row for each collector, and a column for each page that was asked for.
pub fn table(found: &[Hostile]) -> Table {
    let mut paths: Vec<&str> = Vec::new();
    for page in found.iter().flat_map(|one| &one.pages) {
        if !paths.contains(&page.path.as_str()) {
            paths.push(&page.path);
        }
    }
    let mut head = vec![
        "collector",
        "hostile templates",
        "hostile senders",
        "honest flows sent",
        "honest flows lost",
        "flows too many",
        "dropped by the kernel",
        "peak MiB",
    ];
    if !paths.is_empty() {
        head.push("dropped while asked");
    }
    head.extend(&paths);
    head.push("holds");
    let mut table = Table::new(1, &head);
    for one in found {
        let cell = |path: &&str| match one.pages.iter().find(|page| page.path == *path) {
            Some(Page { bytes: 0, seconds, .. }) => format!("none in {} s", number(*seconds)),
            Some(Page { bytes, seconds, .. }) => {
                format!("{} s, {} MiB", number(*seconds), number(*bytes as f64 / 1048576.0))
            }
            None => String::new(),
        };
        let mut row = vec![
            one.peer.clone(),
            one.templates.to_string(),
            one.spoofed.to_string(),
            one.sent[0].to_string(),
            one.sent[0].saturating_sub(one.kept[0]).to_string(),
            one.kept[0].saturating_sub(one.sent[0]).to_string(),
            one.kernel_drops.to_string(),
            number(one.peak_kib as f64 / 1024.0),
        ];
        if !paths.is_empty() {
            row.push(one.asked_drops.to_string());
        }
        row.extend(paths.iter().map(cell));
        row.push(if one.holds() { "yes" } else { "no" }.to_owned());
        table.row(row);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_a_message_that_fits_a_datagram() {
        for n in 0..12 {
            let message = template(n);
            assert!(message.len() <= 1472, "{n}: {}", message.len());
            assert_eq!(usize::from(u16::from_be_bytes([message[2], message[3]])), message.len());
            assert_eq!(usize::from(u16::from_be_bytes([message[18], message[19]])), message.len() - 16);
        }
    }

    #[test]
    fn a_page_counts_where_all_of_it_came() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        let answers = ["200 OK\r\nx: y\r\n\r\n{}\n", "200 OK\r\n\r\n{", "503 Service Unavailable\r\n\r\nbusy\n", ""];
        let answering = std::thread::spawn(move || {
            for answer in answers {
                let mut stream = listener.accept().unwrap().0;
                let mut asked = [0; 1024];
                let n = stream.read(&mut asked).unwrap();
                assert!(asked[..n].starts_with(b"GET /ledger HTTP/1.0\r\n"));
                stream.write_all(format!("HTTP/1.0 {answer}").as_bytes()).unwrap();
            }
        });
        assert_eq!(answers.map(|_| page(at, "/ledger").bytes), [3, 0, 0, 0]);
        answering.join().unwrap();
    }

    #[test]
    fn each_sender_has_an_address_of_its_own() {
        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        let to = SocketAddrV4::new(Ipv4Addr::LOCALHOST, receiver.local_addr().unwrap().port());
        let asked = Asked { templates: 0, spoofed: 3, hostile_rate: 1e6, rate: 1.0 };
        assert_eq!(attack(to, asked).unwrap(), 6);
        let mut bytes = [0; 2000];
        let mut senders: Vec<_> = (0..6).map(|_| receiver.recv_from(&mut bytes).unwrap().1.ip()).collect();
        senders.dedup();
        assert_eq!(senders.len(), 3);
    }
}
