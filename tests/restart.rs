//! A collector that starts again in the middle of streams, with the state that it finds: whole, damaged, or too old.

mod encoder;
mod running;
mod scratch;

use encoder::{Head, Spec, set, spec};
use running::Collector;
use scratch::Scratch;
use std::fs;
use std::net::UdpSocket;
use std::path::Path;
use std::time::Duration;

/// What was learned is on the disk within a second; a loaded machine takes its time.
const WRITTEN: Duration = Duration::from_millis(2500);
/// A row that is not waited for any longer.
const NO_ROW: Duration = Duration::from_secs(3);

fn start(state: &Path) -> Collector {
    Collector::start(&["--format", "ndjson", "--out", "-", "--state", state.to_str().expect("text")])
}

fn head(sequence: u32) -> Head {
    Head { sequence, ..Head::new(10) }
}

/// A source address and a counter.
const FLOW: [Spec; 2] = [spec(8, 4), spec(1, 4)];

fn record(n: u8) -> [u8; 8] {
    [192, 0, 2, n, 0, 0, 0, n]
}

/// The source address of the next row.
fn next(collector: &Collector, what: &str) -> String {
    let line = collector.rows.recv_timeout(Duration::from_secs(20)).expect(what);
    serde_json::from_str::<serde_json::Value>(&line).expect("an object")["src_addr"].as_str().expect(what).to_string()
}

#[test]
fn a_damaged_state_is_told_of_put_aside_and_used_up_to_the_damage() {
    let scratch = Scratch::new("damaged");
    let state = scratch.0.join("state");
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let first = start(&state);
    first.row(&socket, &head(0).message(&[head(0).template(300, &FLOW), set(300, &record(1))]));
    first.row(&socket, &head(1).message(&[head(0).template(301, &FLOW), set(301, &record(2))]));
    std::thread::sleep(WRITTEN);
    drop(first);
    // The entry of template 301, and with it where streams stood, which is noted after it.
    let path = state.join("learned");
    let mut bytes = fs::read(&path).expect("the state");
    let entry = bytes.windows(2).rposition(|id| id == 301u16.to_be_bytes()).expect("template 301");
    bytes[entry] ^= 1;
    fs::write(&path, &bytes).expect("damaged");
    let second = start(&state);
    let said = &second.before;
    assert!(said.iter().any(|l| l.contains("the state of the last run is damaged")), "{said:?}");
    assert_eq!(fs::read(state.join("learned.damaged")).expect("put aside"), bytes);
    second.send(&socket, &head(2).message(&[set(300, &record(3))]));
    assert_eq!(next(&second, "of template 300"), "192.0.2.3");
    // What the damage took waits until it comes again, and nothing of it is lost.
    second.send(&socket, &head(3).message(&[set(301, &record(4))]));
    assert!(second.rows.recv_timeout(NO_ROW).is_err());
    second.send(&socket, &head(4).message(&[head(0).template(301, &FLOW)]));
    assert_eq!(next(&second, "decoded late"), "192.0.2.4");
    // No word of damage the next time.
    std::thread::sleep(WRITTEN);
    drop(second);
    let third = start(&state);
    assert!(!third.before.iter().any(|l| l.contains("damaged")), "{:?}", third.before);
    third.send(&socket, &head(5).message(&[set(301, &record(5))]));
    assert_eq!(next(&third, "of template 301"), "192.0.2.5");
}

#[test]
fn a_state_that_is_no_state_is_put_aside() {
    let scratch = Scratch::new("other");
    let state = scratch.0.join("state");
    fs::create_dir_all(&state).expect("a folder");
    for (content, what) in [(&b"hello"[..], "no journal"), (&b"flowstt\xff"[..], "another version")] {
        fs::write(state.join("learned"), content).expect("written");
        let collector = start(&state);
        let told = collector.before.iter().any(|l| l.contains("damaged") && l.contains(what));
        assert!(told, "{:?}", collector.before);
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let row = collector.row(&socket, &head(0).message(&[head(0).template(300, &FLOW), set(300, &record(1))]));
        assert_eq!(row["src_addr"], "192.0.2.1");
    }
}

#[test]
fn an_older_snapshot_does_not_read_sets_by_templates_that_do_not_fit() {
    let scratch = Scratch::new("older");
    let (state, older) = (scratch.0.join("state"), scratch.0.join("older"));
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let first = start(&state);
    first.row(&socket, &head(0).message(&[head(0).template(300, &FLOW), set(300, &record(1))]));
    std::thread::sleep(WRITTEN);
    fs::copy(state.join("learned"), &older).expect("a copy");
    // The template gets wider, and then somebody restores the copy.
    let wider = [spec(8, 4), spec(12, 4), spec(7, 2), spec(11, 2), spec(1, 4), spec(2, 4)];
    let long = |n: u8| [192, 0, 2, n, 198, 51, 100, n, 0, 80, 0, 81, 0, 0, 0, n, 0, 0, 0, 1];
    first.row(&socket, &head(1).message(&[head(0).template(300, &wider), set(300, &long(2))]));
    drop(first);
    fs::copy(&older, state.join("learned")).expect("restored");
    let second = start(&state);
    // 20 bytes are no records of 8: they wait until the exporter repeats its template.
    second.send(&socket, &head(2).message(&[set(300, &long(3))]));
    assert!(second.rows.recv_timeout(NO_ROW).is_err());
    second.send(&socket, &head(3).message(&[head(0).template(300, &wider)]));
    assert_eq!(next(&second, "decoded late"), "192.0.2.3");
}

#[test]
fn an_exporter_that_started_anew_meanwhile_is_read_by_its_new_templates() {
    let scratch = Scratch::new("anew");
    let state = scratch.0.join("state");
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let first = start(&state);
    let options = head(0).options_template(400, &[spec(10, 4)], &[spec(82, 4)]);
    let named = set(400, &[0, 0, 0, 1, b'o', b'l', b'd', b'1']);
    let flow = [spec(8, 4), spec(10, 4)];
    let before =
        head(5000).message(&[options, named, head(0).template(300, &flow), set(300, &[192, 0, 2, 1, 0, 0, 0, 1])]);
    assert_eq!(first.row(&socket, &before)["in_if_name"], "old1");
    std::thread::sleep(WRITTEN);
    drop(first);
    let second = start(&state);
    // Records as long as before, of another layout; numbers that begin anew.
    second.send(&socket, &head(0).message(&[set(300, &[0, 0, 0, 1, 192, 0, 2, 7])]));
    assert!(second.rows.recv_timeout(NO_ROW).is_err(), "not by the old template");
    second.send(&socket, &head(1).message(&[head(0).template(300, &[spec(10, 4), spec(8, 4)])]));
    assert_eq!(next(&second, "by the new template"), "192.0.2.7");
    drop(second);
}
