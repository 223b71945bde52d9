//! Rows as lines of text: NDJSON and CSV.

use super::schema::{ADDRESSES, RUN_COLUMNS, SCHEMA};
use super::text;
use crate::columns::{Batch, Column, ColumnView, Family, Layout, Run, RunMeta};
use std::net::IpAddr;
use std::ops::Range;

/// A batch as text: its columns in the schema's order, found once.
pub struct Lines<'a> {
    // One a column of the CSV header, `extras` left out.
    cells: Vec<Cell<'a>>,
    present: Vec<usize>,
    keys: Vec<Vec<u8>>,
    extras: Vec<(Vec<u8>, Column<'a>)>,
}

/// What fills a column of the text.
#[derive(Clone, Copy)]
enum Cell<'a> {
    Empty,
    Column(Column<'a>),
    /// The address of the family that comes first in the template, else of the other.
    Address(Option<Column<'a>>, Option<Column<'a>>),
    /// The second family's address, where the row has both.
    Other(Column<'a>, Column<'a>),
    TimeSource,
    SamplingRate,
    SamplingSource,
    One,
    Flag(bool),
}

/// The header of CSV, in its order: it is the same for every file.
pub fn header() -> Vec<&'static str> {
    let mut names = Vec::with_capacity(SCHEMA.len() + 8);
    for column in SCHEMA {
        match ADDRESSES.iter().find(|p| p.v4 == column.name || p.v6 == column.name) {
            Some(pair) if pair.v4 == column.name => names.push(pair.key),
            Some(_) => {}
            None => names.push(column.name),
        }
    }
    // Of a record with both families, the one that is not shown above.
    names.extend(ADDRESSES.iter().flat_map(|p| [p.v4, p.v6]));
    names
}

/// The line of names that CSV starts with.
pub fn csv_header(out: &mut Vec<u8>) {
    out.extend_from_slice(header().join(",").as_bytes());
    out.extend_from_slice(b",extras\n");
}

/// The family that text shows first under an address key.
fn first_family(layout: &Layout, key: &str) -> Family {
    match key {
        "src_addr" | "dst_addr" => layout.first_family(),
        "next_hop" => layout.first_next_hop(),
        "bgp_next_hop" => layout.first_bgp_next_hop(),
        _ => layout.first_nat(),
    }
}

impl<'a> Lines<'a> {
    /// Finds the columns of a finished batch.
    pub fn new(batch: &'a Batch) -> Self {
        let columns: Vec<Column<'a>> = batch.columns().collect();
        let of = |name: &str| columns.iter().copied().find(|c| c.def.extra_key.is_none() && &*c.def.name == name);
        let layout = batch.layout();
        let mut cells = Vec::new();
        let mut keys = Vec::new();
        for name in header() {
            let pair = ADDRESSES.iter().find(|p| p.key == name || p.v4 == name || p.v6 == name);
            cells.push(match (pair, name) {
                (Some(pair), _) => {
                    let (v4, v6) = (of(pair.v4), of(pair.v6));
                    let (first, second, other) = match first_family(layout, pair.key) {
                        Family::V4 => (v4, v6, pair.v6),
                        Family::V6 => (v6, v4, pair.v4),
                    };
                    match (first, second) {
                        (None, None) => Cell::Empty,
                        _ if name == pair.key => Cell::Address(first, second),
                        (Some(first), Some(second)) if name == other => Cell::Other(first, second),
                        _ => Cell::Empty,
                    }
                }
                (None, "time_source") => of(name).map_or(Cell::TimeSource, Cell::Column),
                (None, "sampling_rate") => of(name).map_or(Cell::SamplingRate, Cell::Column),
                (None, "sampling_source") => of(name).map_or(Cell::SamplingSource, Cell::Column),
                (None, "flows") => of(name).map_or(Cell::One, Cell::Column),
                (None, "counters_are_total") => Cell::Flag(layout.counters_are_total()),
                (None, _) => of(name).map_or(Cell::Empty, Cell::Column),
            });
            keys.push(format!(",\"{name}\":").into_bytes());
        }
        let present = (RUN_COLUMNS..cells.len()).filter(|i| !matches!(cells[*i], Cell::Empty)).collect();
        let extras = columns.iter().filter_map(|c| {
            let mut key = Vec::new();
            text::json_string(&mut key, c.def.extra_key.as_ref()?.as_bytes());
            key.push(b':');
            Some((key, *c))
        });
        Self { present, keys, extras: extras.collect(), cells }
    }

    /// Appends the rows of a run as JSON objects, a line each: absent columns are left out.
    pub fn ndjson(&self, out: &mut Vec<u8>, run: &Run) {
        let mut head = Vec::with_capacity(256);
        head.push(b'{');
        run_cells(&run.meta, |i, name, cell| {
            if i > 0 {
                head.push(b',');
            }
            head.push(b'"');
            head.extend_from_slice(name.as_bytes());
            head.extend_from_slice(b"\":");
            let quoted = i < 3;
            if quoted {
                head.push(b'"');
            }
            head.extend_from_slice(cell);
            if quoted {
                head.push(b'"');
            }
        });
        let rate = rate_text(&run.meta);
        for row in rows(run) {
            out.extend_from_slice(&head);
            for &i in &self.present {
                let before = out.len();
                out.extend_from_slice(&self.keys[i]);
                if !self.cell::<true>(out, i, row, &run.meta, &rate) {
                    out.truncate(before);
                }
            }
            let mut open = false;
            for (key, column) in &self.extras {
                if column.is_valid(row) {
                    out.extend_from_slice(if open { b"," } else { b",\"extras\":{" });
                    open = true;
                    out.extend_from_slice(key);
                    value::<true>(out, column, row);
                }
            }
            out.extend_from_slice(if open { b"}}\n" } else { b"}\n" });
        }
    }

    /// Appends the rows of a run as CSV, under the columns of [`csv_header`].
    pub fn csv(&self, out: &mut Vec<u8>, run: &Run) {
        let mut head = Vec::with_capacity(128);
        run_cells(&run.meta, |i, _, cell| {
            if i > 0 {
                head.push(b',');
            }
            head.extend_from_slice(cell);
        });
        let rate = rate_text(&run.meta);
        let mut scratch = Vec::new();
        for row in rows(run) {
            out.extend_from_slice(&head);
            for i in RUN_COLUMNS..self.cells.len() {
                out.push(b',');
                self.cell::<false>(out, i, row, &run.meta, &rate);
            }
            out.push(b',');
            scratch.clear();
            for (key, column) in self.extras.iter().filter(|e| e.1.is_valid(row)) {
                scratch.push(if scratch.is_empty() { b'{' } else { b',' });
                scratch.extend_from_slice(key);
                value::<true>(&mut scratch, column, row);
            }
            if !scratch.is_empty() {
                scratch.push(b'}');
                text::csv_cell(out, &scratch);
            }
            out.push(b'\n');
        }
    }

    /// Appends the value of a cell; `false`, and nothing appended, where the row has none.
    #[inline]
    fn cell<const JSON: bool>(&self, out: &mut Vec<u8>, i: usize, row: usize, meta: &RunMeta, rate: &[u8]) -> bool {
        match self.cells[i] {
            Cell::Column(column) if column.is_valid(row) => value::<JSON>(out, &column, row),
            Cell::Address(first, second) => match [first, second].into_iter().flatten().find(|c| c.is_valid(row)) {
                Some(column) => value::<JSON>(out, &column, row),
                None => return false,
            },
            Cell::Other(first, second) if first.is_valid(row) && second.is_valid(row) => {
                value::<JSON>(out, &second, row);
            }
            Cell::Empty | Cell::Column(_) | Cell::Other(..) => return false,
            Cell::TimeSource => text::unsigned(out, u64::from(meta.time_source)),
            Cell::SamplingSource => text::unsigned(out, u64::from(meta.sampling_source)),
            Cell::SamplingRate if rate.is_empty() => return false,
            Cell::SamplingRate => out.extend_from_slice(rate),
            Cell::One => out.push(b'1'),
            Cell::Flag(flag) => out.extend_from_slice(if flag { b"true" } else { b"false" }),
        }
        true
    }
}

/// The value of a row's cell as plain text; nothing where it is absent.
pub(super) fn plain(out: &mut Vec<u8>, column: &Column<'_>, row: usize) {
    if column.is_valid(row) {
        value::<false>(out, column, row);
    }
}

fn rows(run: &Run) -> Range<usize> {
    let first = run.first_row as usize;
    first..first + run.rows as usize
}

fn rate_text(meta: &RunMeta) -> Vec<u8> {
    let mut text = Vec::new();
    if !meta.sampling_rate.is_nan() {
        text::float(&mut text, meta.sampling_rate);
    }
    text
}

/// The columns that are the same for the whole run: their place, name and text.
fn run_cells(meta: &RunMeta, mut put: impl FnMut(usize, &str, &[u8])) {
    let mut cell = Vec::with_capacity(48);
    for (i, column) in SCHEMA.iter().take(RUN_COLUMNS).enumerate() {
        cell.clear();
        match i {
            0 => text::time(&mut cell, meta.received_at.0),
            1 => text::time(&mut cell, meta.export_time.0),
            2 => address(&mut cell, meta.exporter.ip()),
            3 => text::unsigned(&mut cell, u64::from(meta.exporter.port())),
            4 => text::unsigned(&mut cell, u64::from(meta.version)),
            5 => text::unsigned(&mut cell, u64::from(meta.domain_id)),
            6 => text::unsigned(&mut cell, u64::from(meta.sequence)),
            _ => text::unsigned(&mut cell, u64::from(meta.template_id)),
        }
        put(i, column.name, &cell);
    }
}

/// Appends an address.
pub(crate) fn address(out: &mut Vec<u8>, ip: IpAddr) {
    match ip {
        IpAddr::V4(ip) => text::ip4(out, ip.to_bits()),
        IpAddr::V6(ip) => text::ip6(out, &ip.octets()),
    }
}

/// Appends a value that is there: as JSON, or as plain text for a CSV cell.
#[inline]
pub(super) fn value<const JSON: bool>(out: &mut Vec<u8>, column: &Column<'_>, row: usize) {
    macro_rules! quoted {
        ($write:expr) => {{
            if JSON {
                out.push(b'"');
            }
            $write;
            if JSON {
                out.push(b'"');
            }
        }};
    }
    // A row of the batch: every column has it, and a shorter one would show as zero or empty.
    match column.values {
        ColumnView::U8(v) => text::unsigned(out, v.get(row).map_or(0, |v| u64::from(*v))),
        ColumnView::U16(v) => text::unsigned(out, v.get(row).map_or(0, |v| u64::from(*v))),
        ColumnView::U32(v) => text::unsigned(out, v.get(row).map_or(0, |v| u64::from(*v))),
        ColumnView::U64(v) => text::unsigned(out, v.get(row).copied().unwrap_or(0)),
        ColumnView::I64(v) => text::signed(out, v.get(row).copied().unwrap_or(0)),
        ColumnView::F64(v) => text::float(out, v.get(row).copied().unwrap_or(0.0)),
        ColumnView::Bool(v) => out.extend_from_slice(if v.get(row) { b"true" } else { b"false" }),
        ColumnView::Timestamp(v) => quoted!(text::time(out, v.get(row).copied().unwrap_or(0))),
        ColumnView::Ip4(v) => quoted!(text::ip4(out, v.get(row).copied().unwrap_or(0))),
        ColumnView::Ip6(v) => quoted!(text::ip6(out, v.get(row).unwrap_or(&[0; 16]))),
        ColumnView::Mac(v) => quoted!(text::mac(out, v.get(row).unwrap_or(&[0; 6]))),
        ColumnView::Text(v) if JSON => text::json_string(out, v.get(row)),
        ColumnView::Text(v) => text::csv_cell(out, v.get(row)),
        ColumnView::Dictionary { keys, texts } => {
            let text = keys.get(row).map_or(&[][..], |&key| texts.get(key as usize));
            if JSON { text::json_string(out, text) } else { text::csv_cell(out, text) }
        }
        ColumnView::Octets(v) => quoted!(text::hex(out, v.get(row))),
        ColumnView::ListU32(v) => list::<JSON>(out, v.get(row)),
    }
}

fn list<const JSON: bool>(out: &mut Vec<u8>, words: &[u8]) {
    let several = !JSON && words.len() > 4;
    out.extend_from_slice(if several { b"\"[" } else { b"[" });
    for (i, word) in words.as_chunks::<4>().0.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        text::unsigned(out, u64::from(u32::from_ne_bytes(*word)));
    }
    out.extend_from_slice(if several { b"]\"" } else { b"]" });
}

#[cfg(test)]
mod tests {
    use super::super::tests::{both_families, v5_batch};
    use super::*;

    #[test]
    fn a_v5_record_as_json() {
        let batch = v5_batch();
        let mut out = Vec::new();
        Lines::new(&batch).ndjson(&mut out, &batch.runs()[0]);
        let line: serde_json::Value = serde_json::from_slice(&out).expect("one object");
        assert_eq!(line["time_received"], "2023-11-14T22:13:20.000000Z");
        assert_eq!((&line["exporter"], &line["exporter_port"]), (&"203.0.113.9".into(), &2055.into()));
        assert_eq!((&line["src_addr"], &line["dst_addr"]), (&"192.0.2.1".into(), &"198.51.100.2".into()));
        assert_eq!((&line["version"], &line["bytes"], &line["flows"]), (&5.into(), &1500.into(), &1.into()));
        assert_eq!(line["sampling_source"], 0);
        assert_eq!(line["counters_are_total"], false);
        for absent in ["src_ip4", "src_mac", "sampling_rate", "nat_src_addr", "src_ip6"] {
            assert!(line.get(absent).is_none(), "{absent}");
        }
    }

    #[test]
    fn both_families_show_the_first_of_the_template() {
        let batch = both_families();
        let mut out = Vec::new();
        Lines::new(&batch).ndjson(&mut out, &batch.runs()[0]);
        let line: serde_json::Value = serde_json::from_slice(&out).expect("one object");
        assert_eq!(line["src_addr"], "2001:db8::1");
        assert_eq!(line["src_ip4"], "192.0.2.1");
        assert!(line.get("src_ip6").is_none());
        assert_eq!(line["extras"]["12345"], "0102");
    }

    #[test]
    fn csv_has_a_cell_for_every_name() {
        for batch in [v5_batch(), both_families()] {
            let mut out = Vec::new();
            csv_header(&mut out);
            Lines::new(&batch).csv(&mut out, &batch.runs()[0]);
            let mut reader = csv::Reader::from_reader(&out[..]);
            let names: Vec<String> = reader.headers().expect("names").iter().map(String::from).collect();
            let row = reader.records().next().expect("a row").expect("as many cells");
            let cell = |name: &str| row.get(names.iter().position(|n| n == name).expect("a name")).expect("a cell");
            assert_eq!(names.len(), SCHEMA.len() - 6 + 12 + 1);
            if batch.runs()[0].meta.version == 5 {
                assert_eq!((cell("src_addr"), cell("src_ip4"), cell("bytes")), ("192.0.2.1", "", "1500"));
                assert_eq!((cell("extras"), cell("src_as_name")), ("", ""));
            } else {
                assert_eq!((cell("src_addr"), cell("src_ip4")), ("2001:db8::1", "192.0.2.1"));
                assert_eq!(cell("extras"), "{\"12345\":\"0102\"}");
            }
        }
    }
}
