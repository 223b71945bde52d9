use super::*;
use std::io::Cursor;

/// A classic pcap of raw IP frames, written by hand.
fn pcap(link: u32, frames: &[Vec<u8>]) -> Vec<u8> {
    let mut out = vec![0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0];
    out.extend(link.to_le_bytes());
    for (i, frame) in frames.iter().enumerate() {
        for word in [1_700_000_000 + i as u32, 5, frame.len() as u32, frame.len() as u32] {
            out.extend(word.to_le_bytes());
        }
        out.extend(frame);
    }
    out
}

fn ip4(id: u8, fragment: u16, body: &[u8]) -> Vec<u8> {
    let mut p = vec![0x45, 0, 0, (20 + body.len()) as u8, 0, id];
    p.extend(fragment.to_be_bytes());
    p.extend([64, 17, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2]);
    p.extend(body);
    p
}

fn udp(payload: &[u8]) -> Vec<u8> {
    let mut p = vec![0x10, 0, 0x08, 0x07, 0, (8 + payload.len()) as u8, 0, 0];
    p.extend(payload);
    p
}

/// Frame numbers and payloads.
type Payloads = Vec<(u64, Vec<u8>)>;

fn read(file: Vec<u8>) -> (Payloads, Option<SourceError>, SourceStats) {
    let mut out = Vec::new();
    let mut source = match Source::new(Cursor::new(file)) {
        Ok(source) => source,
        Err(e) => return (out, Some(e), SourceStats::default()),
    };
    let mut error = None;
    while let Some(next) = source.next() {
        match next {
            Ok(d) => out.push((d.frame, d.bytes.to_vec())),
            Err(e) => error = Some(e),
        }
    }
    (out, error, source.stats())
}

#[test]
fn fragments_in_any_order_and_their_overlaps() {
    let whole = udp(b"0123456789abcdefghijklmnop");
    let pieces = [ip4(7, 0x2000, &whole[..16]), ip4(7, 0x2002, &whole[16..32]), ip4(7, 4, &whole[32..])];
    for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0], [0, 2, 1]] {
        let frames: Vec<_> = order.iter().map(|&i| pieces[i].clone()).collect();
        let (got, error, stats) = read(pcap(101, &frames));
        assert_eq!(got, [(3, b"0123456789abcdefghijklmnop".to_vec())]);
        assert!(error.is_none());
        assert_eq!(stats.fragments, 3);
    }
    let overlap = vec![pieces[0].clone(), ip4(7, 0x2001, &whole[8..24]), pieces[2].clone()];
    let (got, _, stats) = read(pcap(101, &overlap));
    assert!(got.is_empty());
    assert_eq!(stats.fragments_lost, 1);
}

#[test]
fn ethernet_vlans_cooked_and_loopback() {
    let packet = ip4(1, 0, &udp(b"hello"));
    let with = |head: &[u8]| [head, &packet].concat();
    let (zeros, ip) = ([0u8; 12], [8u8, 0]);
    let frames = [
        (1, with(&[&zeros[..], &ip].concat())),
        (1, with(&[&zeros[..], &[0x88, 0xa8, 0, 1, 0x81, 0, 0, 2], &ip].concat())),
        (113, with(&[&[0u8; 14][..], &ip].concat())),
        (276, with(&[&ip[..], &[0u8; 18]].concat())),
        (0, with(&[2, 0, 0, 0])),
        (108, with(&[0, 0, 0, 2])),
        (228, packet.clone()),
    ];
    for (link, frame) in frames {
        let (got, error, _) = read(pcap(link, &[frame]));
        assert_eq!(got, [(1, b"hello".to_vec())], "link type {link}");
        assert!(error.is_none());
    }
}

#[test]
fn a_file_cut_anywhere_yields_what_is_whole_and_says_where_it_ends() {
    let frame = ip4(1, 0, &udp(b"hello"));
    let file = pcap(101, &[frame.clone(), frame.clone()]);
    let one = 24 + 16 + frame.len();
    for cut in 25..file.len() {
        let (got, error, _) = read(file[..cut].to_vec());
        assert_eq!(got.len(), usize::from(cut >= one), "cut at {cut}");
        assert_eq!(error.is_none(), cut == one, "cut at {cut}");
        if let Some(e) = error {
            assert_eq!(e.position, if cut < one { 24 } else { one as u64 });
        }
    }
    assert!(read(b"hello".to_vec()).1.is_some());
    assert!(read(Vec::new()).1.is_some());
}

#[test]
fn ipfix_files_are_messages_one_after_the_other() {
    let mut message = vec![0, 10, 0, 16, 0x65, 0x53, 0xf1, 0];
    message.extend([0; 8]);
    let file = [&message[..], &message, &message[..10]].concat();
    let (got, error, _) = read(file);
    assert_eq!(got.len(), 2);
    assert_eq!(error.map(|e| e.position), Some(32));
}

#[test]
fn gzip_is_looked_through() {
    use flate2::{Compression, write::GzEncoder};
    use std::io::Write;
    let mut gz = GzEncoder::new(Vec::new(), Compression::fast());
    gz.write_all(&pcap(101, &[ip4(1, 0, &udp(b"hello"))])).expect("to memory");
    let (got, error, _) = read(gz.finish().expect("to memory"));
    assert_eq!(got, [(1, b"hello".to_vec())]);
    assert!(error.is_none());
}

#[test]
fn flipped_bits_never_panic() {
    let frame = ip4(1, 0x2000, &udp(b"hello"));
    let file = pcap(1, &[[vec![0; 12], vec![8, 0], frame].concat()]);
    for bit in 0..file.len() * 8 {
        let mut damaged = file.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        read(damaged);
    }
}
