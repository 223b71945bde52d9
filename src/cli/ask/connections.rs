//! `flowlane connections`: both directions of conversations, joined.

use super::anonymous::Anonymous;
use super::answer::{Answer, Column, Kind};
use super::{FILTERS, From, say_unscaled, time, watched::watched};
use crate::cli::output::Span;
use crate::cli::say;
use clap::ValueEnum;
use flowlane::query::{self, Anonymiser, Connection, ConnectionOptions};
use std::cmp::Reverse;
use std::net::IpAddr;
use std::process::ExitCode;

/// Arguments of `flowlane connections`.
#[derive(clap::Args)]
#[command(after_help = format!("\
Examples:
  flowlane connections 'last 1h'                         the conversations of most bytes
  flowlane connections --order duration -n 20 'host 192.0.2.1 and proto tcp'
  flowlane connections --one-way --order packets         what nobody answered
  flowlane connections -n 0 --out conversations.parquet

Flows of opposite direction are joined by addresses, ports, protocol and time, whichever exporter saw them. The client is who
began. Where an exporter sends both directions in one record, that is a conversation by itself.

{FILTERS}"))]
pub struct Args {
    /// Which flows; all words together are one filter
    filter: Vec<String>,
    #[command(flatten)]
    from: From,
    #[command(flatten)]
    anonymous: Anonymous,
    /// What comes first
    #[arg(long, value_enum, default_value = "bytes")]
    order: Order,
    /// Conversations to show; 0 for all
    #[arg(short, value_name = "N", default_value_t = 100)]
    n: usize,
    /// Those of which only one direction was seen
    #[arg(long)]
    one_way: bool,
    /// How long nothing may be heard of a conversation before it is another one
    #[arg(long, value_name = "TIME", default_value = "5s")]
    gap: Span,
    /// Multiply counters by the sampling rate
    #[arg(long)]
    scale: bool,
    /// Count running totals (elements 85 and 86) as the counters of a flow: right where the exporter sends one record a flow
    #[arg(long)]
    totals: bool,
    /// Flows in memory at most; more are joined a part at a time, each by another scan
    #[arg(long, value_name = "N", default_value_t = 5_000_000, value_parser = clap::value_parser!(u32).range(1..))]
    flows: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Order {
    /// Most bytes, both directions together
    Bytes,
    /// Most packets
    Packets,
    /// The longest
    Duration,
    /// The latest start
    Start,
}

impl Order {
    fn of(self, connection: &Connection) -> i64 {
        match self {
            Self::Bytes => connection.both().bytes,
            Self::Packets => connection.both().packets,
            Self::Duration => connection.end_us.saturating_sub(connection.start_us),
            Self::Start => connection.start_us,
        }
    }
}

pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let anonymiser = args.anonymous.anonymiser([])?;
    let scan = args.from.scan(&args.filter, Vec::new())?;
    let options = ConnectionOptions {
        gap_us: args.gap.us(),
        scale: args.scale,
        totals: args.totals,
        flows: usize::try_from(args.flows).unwrap_or(usize::MAX),
    };
    let limit = if args.n == 0 { usize::MAX } else { args.n };
    let mut all: Vec<Connection> = Vec::new();
    let key = |c: &Connection| (Reverse(args.order.of(c)), c.start_us, c.client, c.server, c.proto);
    let outcome = watched(&scan.watch, || {
        query::connections(&scan, &options, |connection| {
            if connection.received.is_none() != args.one_way {
                return;
            }
            all.push(connection);
            if all.len() > limit.saturating_mul(4).max(65_536) {
                all.sort_unstable_by_key(key);
                all.truncate(limit);
            }
        })
    });
    all.sort_unstable_by_key(key);
    all.truncate(limit);
    let mut answer = Answer::new(&args.from, columns(args.order))?;
    for connection in &all {
        answer.row(row(connection, anonymiser.as_ref()))?;
    }
    answer.finish()?;
    let other = if args.one_way { outcome.joined } else { outcome.one_way };
    if other > 0 && (all.is_empty() || args.from.is_read_by_people()) {
        let what =
            if args.one_way { "of both directions; --one-way leaves them out" } else { "of one direction (--one-way)" };
        say(&match all.is_empty() {
            true => format!("flowlane: no conversation is shown: {other} are {what}"),
            false => format!("{other} conversations more are {what}"),
        });
    }
    if outcome.without_addresses > 0 {
        say(&format!("flowlane: {} flows without addresses are not joined", outcome.without_addresses));
    }
    if outcome.totals > 0 {
        say(&format!("flowlane: {}; --totals joins them", not_joined(outcome.totals, &outcome.running)));
    }
    say_unscaled(args.scale, outcome.rows, outcome.unscaled);
    Ok(args.from.end(&scan, &outcome.stats))
}

/// Records with running totals, and what these come to.
pub fn not_joined(records: u64, sum: &query::Counts) -> String {
    let (bytes, packets) = (sum.bytes, sum.packets);
    format!("{records} records with running totals, {bytes} bytes in {packets} packets, are not joined")
}

/// What comes first by goes last.
fn columns(order: Order) -> Vec<Column> {
    let spare = |of: Order, spare| if of == order { 0 } else { spare };
    vec![
        Column::new("start", Kind::Time).spare(spare(Order::Start, 4)),
        Column::new("duration_ms", Kind::Whole).spare(spare(Order::Duration, 6)),
        Column::new("proto", Kind::Protocol).spare(2),
        Column::new("client_addr", Kind::Text),
        Column::new("client_port", Kind::Whole).spare(5),
        Column::new("server_addr", Kind::Text),
        Column::new("server_port", Kind::Whole).spare(3),
        Column::new("sent_packets", Kind::Whole).spare(spare(Order::Packets, 8)),
        Column::new("sent_bytes", Kind::Whole).spare(spare(Order::Bytes, 1)),
        Column::new("received_packets", Kind::Whole).spare(spare(Order::Packets, 7)),
        Column::new("received_bytes", Kind::Whole).spare(spare(Order::Bytes, 1)),
        Column::new("flows", Kind::Whole).spare(9),
    ]
}

fn row(connection: &Connection, anonymiser: Option<&Anonymiser>) -> Vec<String> {
    let shown = |address: IpAddr| {
        let text = address.to_string();
        anonymiser.map_or_else(|| text.clone(), |a| a.text(&text))
    };
    let Connection { client, server, proto, start_us, end_us, sent, received } = connection;
    let port = |port: Option<u16>| port.map(|p| p.to_string()).unwrap_or_default();
    let of = |value: fn(&query::Counts) -> i64| received.as_ref().map(|r| value(r).to_string()).unwrap_or_default();
    vec![
        time(*start_us),
        (end_us.saturating_sub(*start_us) / 1000).to_string(),
        proto.map(query::protocol).unwrap_or_default(),
        shown(client.0),
        port(client.1),
        shown(server.0),
        port(server.1),
        sent.packets.to_string(),
        sent.bytes.to_string(),
        of(|r| r.packets),
        of(|r| r.bytes),
        connection.both().flows.to_string(),
    ]
}
