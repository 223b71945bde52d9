//! One line a cause, exporter and minute; nobody waits for a reader.

use super::super::ledger::{ExporterAccount, KeepingAccount};
use super::super::tests::Said;
use super::*;
use crate::keep::Progress;
use crate::template::OwnTotals;

const AT: i64 = 1_767_225_600_000_000;

fn ledger(unknown: u64, lost: u64) -> Ledger {
    let mut account = Account::default();
    account.stats.errors[ErrorKind::UnknownTemplate.index()] = unknown;
    account.stats.lost = lost;
    let exporter = ExporterAccount {
        address: [192, 0, 2, 1].into(),
        account,
        last_seen: Timestamp(AT),
        clock_skew_us: None,
        versions: vec![9],
        threads: Vec::new(),
        templates: 0,
        own: OwnTotals::default(),
    };
    Ledger { exporters: vec![exporter], ..Ledger::default() }
}

/// What is said at a second: causes and counts.
fn said(causes: &mut Causes, ledger: &Ledger, second: i64, last: bool) -> Vec<(&'static str, u64)> {
    let mut said = Vec::new();
    causes.look(ledger, Timestamp(AT + second * 1_000_000), last, |entry| {
        if let Entry::Cause { cause, count, .. } = entry {
            said.push((cause, count));
        }
        true
    });
    said
}

#[test]
fn a_cause_is_said_once_a_minute_and_every_unit_once() {
    let mut causes = Causes::default();
    let unknown = ErrorKind::UnknownTemplate.name();
    assert_eq!(said(&mut causes, &ledger(0, 0), 0, false), []);
    assert_eq!(said(&mut causes, &ledger(3, 0), 1, false), [(unknown, 3)]);
    for second in 2..61 {
        assert_eq!(said(&mut causes, &ledger(3 + second as u64, 0), second, false), [], "second {second}");
    }
    let lost = "missing by sequence numbers";
    assert_eq!(said(&mut causes, &ledger(70, 30), 61, false), [(unknown, 67), (lost, 30)]);
    // 30 came late after all, and 10 others are missing.
    assert_eq!(said(&mut causes, &ledger(70, 0), 62, false), []);
    assert_eq!(said(&mut causes, &ledger(71, 10), 130, false), [(unknown, 1), (lost, 10)]);
    assert_eq!(said(&mut causes, &ledger(71, 10), 300, false), []);
    assert_eq!(said(&mut causes, &ledger(72, 10), 301, false), [(unknown, 1)]);
    assert_eq!(said(&mut causes, &ledger(75, 10), 302, true), [(unknown, 3)], "the rest at the end");
}

#[test]
fn what_keeping_fails_for_is_said_with_it() {
    let mut keeping = KeepingAccount::of(&Progress::default());
    (keeping.failures, keeping.last_failure) = (2, Some("cannot seal 1.arrows: Input/output error".to_string()));
    let mut said = Vec::new();
    let ledger = Ledger { keeping: Some(keeping), ..Ledger::default() };
    Causes::default().look(&ledger, Timestamp(AT), false, |entry| {
        said.extend(match entry {
            Entry::Cause { count, why, .. } => Some((count, why)),
            _ => None,
        });
        true
    });
    assert_eq!(said, [(2, Some("cannot seal 1.arrows: Input/output error".to_string()))]);
}

#[test]
fn a_cause_that_found_no_room_keeps_its_count() {
    let mut causes = Causes::default();
    causes.look(&ledger(3, 0), Timestamp(AT), false, |_| false);
    assert_eq!(said(&mut causes, &ledger(5, 0), 1, false), [(ErrorKind::UnknownTemplate.name(), 5)]);
}

#[test]
fn a_reader_that_sleeps_costs_counted_lines_and_no_waiting() {
    let said = Said::default();
    let log = Log::start(LogFormat::Json, Box::new(said.clone())).expect("a thread");
    let Said(text) = said;
    let asleep = text.lock().expect("the text");
    let began = Instant::now();
    for i in 0..WAITING + 500 {
        log.say(Level::Info, format!("line {i}"));
    }
    assert!(began.elapsed() < Duration::from_secs(1));
    let dropped = log.dropped();
    // The thread has taken one at most.
    assert!((499..=500).contains(&dropped), "{dropped}");
    drop(asleep);
    log.flush();
    let text = String::from_utf8(text.lock().expect("the text").clone()).expect("text");
    let lines: Vec<Value> = text.lines().map(|l| serde_json::from_str(l).expect("JSON")).collect();
    let told: Vec<_> = lines.iter().filter(|l| l["level"] == "warn").collect();
    // Twice where the thread came late to the first line.
    let count =
        |l: &&Value| l["message"].as_str()?.strip_suffix(" lines were dropped: nobody read them as fast")?.parse().ok();
    let counts: Vec<u64> = told.iter().filter_map(count).collect();
    assert_eq!((counts.len(), counts.iter().sum()), (told.len(), dropped), "{told:?}");
    assert_eq!((lines.len() - told.len()) as u64 + dropped, WAITING as u64 + 500);
}

#[test]
fn lines_are_text_or_json() {
    let cause = |of| Entry::Cause { at: Timestamp(AT), of, cause: "rows dropped", count: 7, last: None, why: None };
    let exporter = || cause(Of::Exporter([192, 0, 2, 1].into()));
    assert_eq!(
        line(LogFormat::Text, &exporter()),
        "2026-01-01T00:00:00.000000Z flowlane: 192.0.2.1: rows dropped (7)\n"
    );
    let json: Value = serde_json::from_str(&line(LogFormat::Json, &exporter())).expect("JSON");
    assert_eq!(
        json,
        json!({ "time": "2026-01-01T00:00:00.000000Z", "level": "warn", "exporter": "192.0.2.1", "cause": "rows dropped", "count": 7 })
    );
    for (interface, name) in [(None, "[::]:2055"), (Some("eth0".into()), "[::]:2055@eth0")] {
        let local = Local { address: "[::]:2055".parse().expect("an address"), interface };
        let socket = line(LogFormat::Text, &cause(Of::Socket(local, 1)));
        assert!(socket.ends_with(&format!("socket {name} of thread 1: rows dropped (7)\n")), "{socket}");
    }
}
