//! A receiving thread.

use super::board::{Part, Reporter};
use super::gate::{Gate, Verdict};
use super::gathering::Gathering;
use super::ledger::ConnectionCounts;
use super::prepare::LiveRules;
use super::queue::{Entrance, Refused};
use super::{Item, Orders, Shared, now};
use crate::columns::{Batch, Timestamp, rows_by_exporter};
use crate::decode::{Decoder, Learned, Stats};
use crate::error::{Error, ErrorKind};
use crate::net::{self, Mirror, MirrorStats, Receiver};
use crate::rows::netflow_json::NetflowJson;
use crossbeam_channel::{Receiver as Inbox, Sender, TrySendError};
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

/// How often quiet batches and counters are looked after.
pub(super) const TICK: Duration = Duration::from_millis(100);
/// How long what the sockets still hold is taken after the stop.
pub(super) const DRAIN: Duration = Duration::from_secs(3);
/// How often it is noted where streams stand.
const MARKS: Duration = Duration::from_secs(60);
/// How often of those that move.
const COUNTS: Duration = Duration::from_secs(1);
/// Bytes of lines that are handed over at once.
const LINES: usize = 1 << 16;

pub(super) struct Worker {
    pub index: usize,
    pub core: Option<usize>,
    pub receiver: Receiver,
    pub mirror: Option<Mirror>,
    pub decoder: Decoder,
    pub lines: Option<NetflowJson>,
    /// To the writer; `None` where nothing is written.
    pub items: Option<Entrance>,
    pub spare: Inbox<Batch>,
    /// To the journal, if there is one.
    pub lessons: Option<Sender<Learned>>,
    pub shared: Arc<Shared>,
    pub reporter: Reporter,
    /// What an operator says of exporters, now.
    pub rules: LiveRules,
    pub gate: Gate,
}

/// What a thread leaves behind.
pub(super) struct Ended {
    pub stats: Stats,
    pub exporters: Vec<(IpAddr, Stats)>,
    pub dropped: HashMap<IpAddr, u64>,
    pub net: net::Stats,
    pub mirrors: Vec<MirrorStats>,
    pub held: u64,
    pub refused: u64,
    pub options_dropped: u64,
    /// Rows of messages without a line, by why.
    pub lineless: BTreeMap<&'static str, u64>,
    pub connections: ConnectionCounts,
    /// What was learned and could not be handed to the journal.
    pub learned_dropped: u64,
    pub error: Option<io::Error>,
}

impl Ended {
    /// Of a decoder alone.
    pub fn of(decoder: &Decoder) -> Self {
        // Those of whom only a collector before heard are not named.
        let exporters = decoder.exporters().filter(|e| *e.1 != Stats::default());
        Self {
            stats: decoder.stats(),
            exporters: exporters.map(|(ip, stats)| (ip, stats.clone())).collect(),
            dropped: HashMap::new(),
            net: net::Stats::default(),
            mirrors: Vec::new(),
            held: decoder.held_sets() as u64,
            refused: 0,
            options_dropped: 0,
            lineless: BTreeMap::new(),
            connections: ConnectionCounts::default(),
            learned_dropped: decoder.learned_dropped(),
            error: None,
        }
    }
}

/// What a thread keeps beside its decoder.
struct Desk {
    index: usize,
    items: Option<Entrance>,
    shared: Arc<Shared>,
    dropped: HashMap<IpAddr, u64>,
    options_dropped: u64,
    // Rows of messages without a line, by why.
    lineless: BTreeMap<&'static str, u64>,
    text: Vec<u8>,
    text_rows: HashMap<IpAddr, u64>,
    text_since: Timestamp,
}

impl Worker {
    pub fn run(mut self) -> Ended {
        if let Some(core) = self.core {
            net::pin(core);
        }
        net::be_prompt();
        let mut desk = Desk {
            index: self.index,
            items: self.items,
            shared: self.shared,
            dropped: HashMap::new(),
            options_dropped: 0,
            lineless: BTreeMap::new(),
            text: Vec::new(),
            text_rows: HashMap::new(),
            text_since: Timestamp(0),
        };
        let mut error = None;
        let mut ticked = Instant::now();
        let mut published = Published::default();
        let mut orders = Orders::of(&desk.shared);
        let mut deadline = None;
        let mut gathering = Gathering::new(Instant::now());
        let (mut unsent, mut marked, mut counted) = (None, Instant::now(), Instant::now());
        loop {
            if deadline.is_none() && desk.shared.stop.load(Relaxed) {
                deadline = Some(Instant::now() + DRAIN);
            }
            let timeout = if deadline.is_some() { Duration::ZERO } else { TICK };
            let (empty, calm, datagrams) = match self.receiver.receive(timeout) {
                Ok(burst) => {
                    let (leaves_more, messages) = (burst.leaves_more(), burst.messages());
                    let (mut datagrams, began) = (0, Instant::now());
                    let mut copies = self.mirror.as_mut().map(Mirror::copies);
                    for packet in burst {
                        datagrams += 1;
                        let verdict = self.gate.judge(packet.source.ip(), began);
                        if verdict == Verdict::Refuse {
                            continue;
                        }
                        if let Some(copies) = &mut copies {
                            copies.push(packet);
                        }
                        let received = Timestamp(packet.received_at_us);
                        let (bytes, from) = (packet.bytes, packet.source);
                        let is_limited = verdict == Verdict::Limit;
                        let outcome = if is_limited {
                            self.decoder.refuse_records(bytes, from, received)
                        } else {
                            self.decoder.decode(bytes, from, received)
                        };
                        // Whom the decoder refuses has no line either.
                        let is_stranger = outcome.error.is_some_and(|error| error.kind == ErrorKind::ExporterLimit);
                        if let Some(lines) = self.lines.as_mut().filter(|_| !is_stranger) {
                            lines.make_room(|exporter| self.decoder.is_known(exporter));
                            // All rows count with the first line.
                            let mut rows = u64::from(outcome.records);
                            let take = |line: &str| desk.line(line, std::mem::take(&mut rows), from.ip(), received);
                            let made = if is_limited {
                                lines.late_lines(bytes, from, received.0, take)
                            } else {
                                lines.lines(bytes, from, received.0, take)
                            };
                            // What is wrong with the message is counted by the decoder.
                            desk.no_line(rows, from.ip(), made.err());
                            self.decoder.flush().into_iter().for_each(|batch| self.decoder.recycle(batch));
                        }
                    }
                    // Trains are gathered enough: more of them than a cache holds would cost more.
                    (messages == 0, !leaves_more && datagrams as usize == messages, datagrams)
                }
                Err(e) => {
                    desk.shared.failed.store(true, Relaxed);
                    desk.shared.stop.store(true, Relaxed);
                    error = Some(e);
                    break;
                }
            };
            if let Some(lessons) = &self.lessons {
                teach(&mut self.decoder, &self.gate, lessons, &mut unsent, false);
            }
            desk.hand_over(&mut self.decoder, &self.spare, false);
            if ticked.elapsed() >= TICK || deadline.is_some() {
                ticked = Instant::now();
                // Where there are very many streams both go on at the next tick.
                if self.lessons.is_some() && marked.elapsed() >= MARKS && self.decoder.mark_streams() {
                    marked = Instant::now();
                }
                if self.lessons.is_some() && counted.elapsed() >= COUNTS && self.decoder.mark_counts() {
                    counted = Instant::now();
                }
                if let Some(rules) = orders.rules() {
                    self.gate.change(rules);
                }
                self.rules.refresh(&mut self.decoder);
                self.decoder.tick(now());
                desk.hand_over(&mut self.decoder, &self.spare, false);
                desk.end_lines(false);
                let drops = self.receiver.kernel_drops();
                published.update(&self.decoder, drops, &desk.shared);
                self.reporter.answer(|templates| {
                    desk.part(&self.decoder, &self.receiver, self.mirror.as_ref(), &self.gate, templates)
                });
            }
            if deadline.is_some_and(|at| empty || Instant::now() >= at) {
                break;
            }
            let nap = gathering.nap(datagrams, calm, Instant::now());
            if let (Some(nap), None) = (nap, deadline) {
                std::thread::sleep(nap);
            }
        }
        if let Some(lessons) = &self.lessons {
            self.decoder.mark_all_streams();
            teach(&mut self.decoder, &self.gate, lessons, &mut unsent, true);
        }
        // At the end the writer is waited for: nothing comes in any more.
        for batch in self.decoder.flush() {
            desk.rows(batch, true);
        }
        desk.hand_over(&mut self.decoder, &self.spare, true);
        desk.end_lines(true);
        let drops = self.receiver.kernel_drops();
        published.end(&self.decoder, drops, &desk.shared);
        self.reporter.end(desk.part(&self.decoder, &self.receiver, self.mirror.as_ref(), &self.gate, true));
        Ended {
            refused: self.gate.refused,
            options_dropped: desk.options_dropped,
            lineless: desk.lineless,
            dropped: desk.dropped,
            net: self.receiver.stats(),
            mirrors: self.mirror.iter().flat_map(Mirror::stats).collect(),
            error,
            ..Ended::of(&self.decoder)
        }
    }
}

/// Hands what was learned to the journal, waiting for it only at the end; what it has no room for waits for the next time.
fn teach(decoder: &mut Decoder, gate: &Gate, lessons: &Sender<Learned>, unsent: &mut Option<Learned>, wait: bool) {
    while let Some(learned) = unsent.take().or_else(|| decoder.next_learned()) {
        // What one thread forgets of an exporter that is dealt out, others still know.
        if learned.is_void() && gate.is_spread(learned.exporter.ip()) {
            continue;
        }
        if wait {
            if lessons.send(learned).is_err() {
                return;
            }
        } else if let Err(TrySendError::Full(learned) | TrySendError::Disconnected(learned)) = lessons.try_send(learned)
        {
            *unsent = Some(learned);
            return;
        }
    }
}

impl Desk {
    /// What this thread counts.
    fn part(
        &mut self,
        decoder: &Decoder,
        receiver: &Receiver,
        mirror: Option<&Mirror>,
        gate: &Gate,
        templates: bool,
    ) -> Part {
        let mut part = Part::of(decoder, Some(receiver), templates);
        part.drop_rows(&mut self.dropped, decoder);
        part.options_dropped = self.options_dropped;
        part.mirrors = mirror.iter().flat_map(|mirror| mirror.stats()).collect();
        part.refused = gate.refused;
        part
    }

    /// Hands full batches and options records to the writer, and takes back what it is done with.
    fn hand_over(&mut self, decoder: &mut Decoder, spare: &Inbox<Batch>, wait: bool) {
        // Options data first: they may name what the rows have.
        if let Some(options) = decoder.next_options() {
            if self.items.is_none() {
                decoder.recycle_options(options);
            } else if let Some(Item::Options(options)) = self.send(Item::Options(options), wait) {
                self.options_dropped += options.len() as u64;
                decoder.recycle_options(options);
            }
        }
        while let Some(batch) = decoder.next_batch() {
            if let Some(batch) = self.rows(batch, wait) {
                decoder.recycle(batch);
            }
        }
        while let Ok(batch) = spare.try_recv() {
            decoder.recycle(batch);
        }
    }

    /// Hands over a batch; it comes back, counted, where the queue is full.
    fn rows(&mut self, batch: Batch, wait: bool) -> Option<Batch> {
        if self.items.is_none() {
            self.shared.written_rows.fetch_add(batch.rows() as u64, Relaxed);
        }
        if batch.rows() == 0 || self.items.is_none() {
            return Some(batch);
        }
        match self.send(Item::Rows { from: self.index, batch: Arc::new(batch) }, wait)? {
            Item::Rows { batch, .. } => {
                rows_by_exporter(batch.runs(), |exporter, rows| *self.dropped.entry(exporter).or_default() += rows);
                self.shared.dropped_rows.fetch_add(batch.rows() as u64, Relaxed);
                Arc::into_inner(batch)
            }
            _ => None,
        }
    }

    fn line(&mut self, line: &str, rows: u64, exporter: IpAddr, received: Timestamp) {
        if self.text.is_empty() {
            self.text_since = received;
        }
        self.text.extend_from_slice(line.as_bytes());
        *self.text_rows.entry(exporter).or_default() += rows;
        if self.text.len() >= LINES {
            self.end_lines(false);
        }
    }

    /// Rows of a message that has no line, though its records could be decoded.
    fn no_line(&mut self, rows: u64, exporter: IpAddr, error: Option<Error>) {
        if rows > 0 {
            let why = match error {
                Some(_) => "the message is damaged and has no line",
                // They went in favour of others.
                None => "the message has no line, its templates are not known to the format of the lines",
            };
            *self.dropped.entry(exporter).or_default() += rows;
            self.shared.dropped_rows.fetch_add(rows, Relaxed);
            *self.lineless.entry(why).or_default() += rows;
        }
    }

    fn end_lines(&mut self, wait: bool) {
        if self.text.is_empty() {
            return;
        }
        let rows = self.text_rows.values().sum();
        let text = std::mem::take(&mut self.text);
        let by_exporter = self.text_rows.iter().map(|(exporter, rows)| (*exporter, *rows)).collect();
        if self.send(Item::Lines { text, rows, by_exporter, received: self.text_since }, wait).is_some() {
            for (exporter, rows) in &self.text_rows {
                *self.dropped.entry(*exporter).or_default() += rows;
            }
            self.shared.dropped_rows.fetch_add(rows, Relaxed);
        }
        self.text_rows.clear();
    }

    /// What could not be sent.
    fn send(&self, item: Item, wait: bool) -> Option<Item> {
        let items = self.items.as_ref()?;
        let sent = if wait { items.send(item) } else { items.try_send(item) };
        if matches!(sent, Err(Refused::Full(_))) {
            self.shared.pulse.refuses();
        }
        sent.err().map(Refused::into_item)
    }
}

/// What this thread has added to the shared counters.
#[derive(Default)]
pub(super) struct Published {
    // Adding up many exporters takes its time: it is not done again before this.
    next: Option<Instant>,
    datagrams: u64,
    bytes: u64,
    records: u64,
    kernel_drops: u64,
    lost: u64,
    exporters: u64,
}

impl Published {
    /// Where adding up takes longer than a hundredth of the time since the last call, nothing is done yet.
    pub fn update(&mut self, decoder: &Decoder, kernel_drops: u64, shared: &Shared) {
        let began = Instant::now();
        if self.next.is_none_or(|next| began >= next) {
            self.add(decoder, kernel_drops, shared);
            self.next = Some(began + 100 * began.elapsed());
        }
    }

    /// The last word.
    pub fn end(mut self, decoder: &Decoder, kernel_drops: u64, shared: &Shared) {
        self.add(decoder, kernel_drops, shared);
    }

    fn add(&mut self, decoder: &Decoder, kernel_drops: u64, shared: &Shared) {
        let stats = decoder.stats();
        let exporters = decoder.exporter_count() as u64;
        for (counter, mine, new) in [
            (&shared.datagrams, &mut self.datagrams, stats.datagrams),
            (&shared.bytes, &mut self.bytes, stats.bytes),
            (&shared.records, &mut self.records, stats.records),
            (&shared.kernel_drops, &mut self.kernel_drops, kernel_drops),
            (&shared.lost, &mut self.lost, stats.lost),
            (&shared.exporters, &mut self.exporters, exporters),
        ] {
            // The sum over threads wraps as each part does: units found again make one smaller.
            counter.fetch_add(new.wrapping_sub(*mine), Relaxed);
            *mine = new;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_without_a_line_are_dropped_by_what_they_lack_it_for() {
        let shared = Arc::new(Shared::default());
        let mut desk = Desk {
            index: 0,
            items: None,
            shared: shared.clone(),
            dropped: HashMap::new(),
            options_dropped: 0,
            lineless: BTreeMap::new(),
            text: Vec::new(),
            text_rows: HashMap::new(),
            text_since: Timestamp(0),
        };
        let from = IpAddr::from([192, 0, 2, 1]);
        desk.no_line(0, from, None);
        desk.no_line(3, from, None);
        desk.no_line(2, from, Some(Error::new(ErrorKind::UnknownVersion, 0, 0, 0)));
        let of = |what| desk.lineless.iter().find(|(why, _)| why.contains(what)).map(|(_, rows)| *rows);
        assert_eq!((desk.lineless.len(), of("templates"), of("damaged")), (2, Some(3), Some(2)));
        assert_eq!((shared.dropped_rows.load(Relaxed), desk.dropped[&from]), (5, 5));
    }
}
