//! What was sent, held against what a decoder counts.

use flowgen::{Plan, Protocol, Sent, Template, Trouble};
use flowlane::columns::{ColumnView, Timestamp};
use flowlane::decode::Stats;
use flowlane::{Config, Decoder};
use std::net::SocketAddr;

/// What a receiver counts.
#[derive(Debug, Default)]
struct Received {
    stats: Stats,
    octets: u64,
    packets: u64,
    /// Flow times, as seconds before the export, the oldest and the youngest.
    ages: (i64, i64),
    texts: usize,
}

fn receive(datagrams: &[(SocketAddr, Vec<u8>)]) -> Received {
    let mut decoder = Decoder::new(Config::default());
    for (from, bytes) in datagrams {
        let outcome = decoder.decode(bytes, *from, Timestamp(1_767_225_600_000_000));
        assert_eq!(outcome.error, None, "{from} {bytes:02x?}");
    }
    let mut received = Received { ages: (i64::MIN, i64::MAX), ..Received::default() };
    for batch in decoder.flush() {
        let sum = |name| match batch.column(name).map(|c| c.values) {
            Some(ColumnView::I64(values)) => values.iter().map(|&v| v as u64).sum::<u64>(),
            other => panic!("{name}: {other:?}"),
        };
        received.octets += sum("bytes");
        received.packets += sum("packets");
        if let Some(ColumnView::Text(texts)) = batch.column("app_name").map(|c| c.values) {
            received.texts += (0..batch.rows()).filter(|&row| !texts.get(row).is_empty()).count();
        }
        let Some(ends) = batch.column("flow_end") else { continue };
        let ColumnView::Timestamp(values) = ends.values else { panic!("{:?}", ends.def) };
        for run in batch.runs() {
            let rows = run.first_row as usize..(run.first_row + run.rows) as usize;
            for row in rows.filter(|&row| ends.is_valid(row)) {
                let age = (run.meta.export_time.0 - values[row]) / 1_000_000;
                received.ages = (received.ages.0.max(age), received.ages.1.min(age));
            }
        }
    }
    received.stats = decoder.stats();
    assert_eq!(decoder.held_sets(), 0);
    received
}

fn assert_all_arrived(sent: &Sent, received: &Received) {
    let s = &received.stats;
    assert_eq!((s.datagrams, s.bytes, s.records), (sent.datagrams, sent.bytes, sent.records));
    assert_eq!((received.octets, received.packets), (sent.octets, sent.packets));
    assert_eq!(s.options_records, sent.options_records);
    assert_eq!((s.sets_held, s.sets_malformed, s.unverifiable, s.resets), (0, 0, 0, 0));
}

fn plans() -> Vec<Plan> {
    let mut plans: Vec<Plan> = [Protocol::V1, Protocol::V5, Protocol::V7]
        .into_iter()
        .map(|protocol| Plan { protocols: vec![protocol], ..Plan::default() })
        .collect();
    for protocol in [Protocol::V9, Protocol::Ipfix] {
        let templates = Template::ALL.map(|template| vec![template]);
        for templates in templates.into_iter().chain([Template::ALL.to_vec()]) {
            plans.push(Plan { protocols: vec![protocol], templates, ..Plan::default() });
        }
    }
    plans.push(Plan { protocols: Protocol::ALL.to_vec(), templates: Template::ALL.to_vec(), ..Plan::default() });
    for protocol in [Protocol::V9, Protocol::Ipfix] {
        let templates = Template::ALL.to_vec();
        plans.push(Plan { protocols: vec![protocol], templates, layouts: 13, ..Plan::default() });
    }
    let many = |plan: Plan| Plan { exporters: 10, ports: 2, refresh: 50, ..plan };
    let options = |plan: &Plan| Plan { options: Some(100), ..plan.clone() };
    plans.into_iter().map(many).flat_map(|plan| [options(&plan), plan]).collect()
}

#[test]
fn everything_is_counted_alike() {
    for plan in plans() {
        let (datagrams, sent) = flowgen::memory(&plan, 5000).expect("a plan");
        let received = receive(&datagrams);
        assert_all_arrived(&sent, &received);
        let s = &received.stats;
        assert_eq!((s.lost, s.gaps, s.reordered, s.duplicates), (0, 0, 0, 0), "{plan:?}");
        assert_eq!((sent.datagrams, sent.exporters), (5000, 20));
        // Flows ended shortly before they were exported, also in the last round.
        let base = plan.protocols.contains(&Protocol::Ipfix) && plan.options.is_none();
        assert!(base || (received.ages.0 <= 17 && received.ages.1 >= 0), "{:?} {plan:?}", received.ages);
        assert_eq!(received.texts > 0, plan.templates.contains(&Template::Variable), "{plan:?}");
    }
}

#[test]
fn loss_asked_for_is_the_loss_reported() {
    let trouble = Trouble { loss: 0.05, ..Trouble::default() };
    for plan in plans() {
        let (datagrams, sent) = flowgen::memory(&Plan { trouble, ..plan.clone() }, 5000).expect("a plan");
        let received = receive(&datagrams);
        assert_all_arrived(&sent, &received);
        assert_eq!(received.stats.lost, sent.missing, "{plan:?}");
        assert_eq!(sent.datagrams + sent.dropped_on_purpose, 5000);
        assert!((180..320).contains(&sent.dropped_on_purpose), "5% of 5000: {}", sent.dropped_on_purpose);
    }
}

#[test]
fn reordering_and_duplication_are_seen() {
    let trouble = Trouble { reorder: 0.01, duplicate: 0.01, loss: 0.0 };
    for plan in plans().into_iter().filter(|plan| !plan.protocols.contains(&Protocol::V1)) {
        // Announcements of IPFIX have the number of the message after them; one at the start is enough here.
        let plan = Plan { trouble, refresh: 0, ..plan };
        let (datagrams, sent) = flowgen::memory(&plan, 5000).expect("a plan");
        let received = receive(&datagrams);
        assert_all_arrived(&sent, &received);
        assert!(sent.reordered > 20 && sent.duplicated > 20, "{sent:?}");
        let s = &received.stats;
        assert_eq!((s.reordered, s.duplicates, s.lost), (sent.reordered, sent.duplicated, 0), "{plan:?}");
    }
}

#[test]
fn the_same_seed_sends_the_same_bytes() {
    let plan = Plan { protocols: Protocol::ALL.to_vec(), exporters: 7, ..Plan::default() };
    let bytes = |plan: &Plan| flowgen::memory(plan, 200).expect("a plan").0;
    assert_eq!(bytes(&plan), bytes(&plan));
    assert_ne!(bytes(&plan), bytes(&Plan { seed: 2, ..plan.clone() }));
}

#[test]
fn sizes_are_as_asked() {
    let longest = |plan: &Plan| flowgen::memory(plan, 300).expect("a plan").0.iter().map(|d| d.1.len()).max();
    for plan in plans() {
        assert!(longest(&plan) <= Some(1472), "an Ethernet frame has no room for {:?}: {plan:?}", longest(&plan));
    }
    let plan = Plan { templates: vec![Template::Wide23], records: Some(30), ..Plan::default() };
    assert_eq!(longest(&plan), Some(20 + 4 + 30 * 76));
    let plan = Plan { records: Some(2000), ..plan };
    assert!(flowgen::memory(&plan, 1).is_err());
}

#[test]
fn fifty_two_templates_fit_into_frames() {
    let plan = Plan { templates: Template::ALL.to_vec(), layouts: 13, refresh: 0, ..Plan::default() };
    let (datagrams, _) = flowgen::memory(&plan, 100).expect("a plan");
    assert!(datagrams.iter().all(|(_, bytes)| bytes.len() <= 1472));
    assert_eq!(receive(&datagrams).stats.templates, 52);
    flowgen::memory(&Plan { layouts: 14, ..plan }, 1).expect_err("more layouts than fields");
}
