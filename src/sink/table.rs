//! Rows for people: the columns most asked for, as many as the terminal is wide.

use super::lines::plain;
use super::text;
use crate::columns::{Batch, Column, ColumnView, Family, Run};
use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, ContentArrangement};
use std::io::{self, Write};

/// Rows whose widths decide those of a page.
const PAGE: usize = 500;

/// The columns: name, right-aligned, and the width of the terminal from which on they are shown.
const COLUMNS: [(&str, bool, usize); 11] = [
    ("start", false, 0),
    ("ms", true, 110),
    ("exporter", false, 120),
    ("version", false, 100),
    ("proto", false, 0),
    ("source", false, 0),
    ("destination", false, 0),
    ("flags", false, 140),
    ("packets", true, 0),
    ("bytes", true, 0),
    ("in>out", true, 140),
];

/// Collects rows and prints them in pages under one header.
pub struct Table {
    width: usize,
    rows: Vec<Vec<String>>,
    headed: bool,
    empty: bool,
}

impl Default for Table {
    fn default() -> Self {
        Self::new()
    }
}

impl Table {
    /// As wide as the terminal; 160 columns where there is none.
    pub fn new() -> Self {
        let width = comfy_table::Table::new().width().map_or(160, usize::from);
        Self { width, rows: Vec::new(), headed: false, empty: true }
    }

    /// Adds the rows of a run; prints a page when it is full.
    ///
    /// # Errors
    /// Those of the stream.
    pub fn push(&mut self, batch: &Batch, run: &Run, out: &mut dyn Write) -> io::Result<()> {
        let cells = Cells::new(batch, run);
        for row in run.first_row as usize..(run.first_row + run.rows) as usize {
            self.rows.push(cells.row(row));
        }
        if self.rows.len() >= PAGE { self.flush(out) } else { Ok(()) }
    }

    /// Prints what was collected.
    ///
    /// # Errors
    /// Those of the stream.
    pub fn flush(&mut self, out: &mut dyn Write) -> io::Result<()> {
        if self.rows.is_empty() {
            return Ok(());
        }
        let mut table = comfy_table::Table::new();
        table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        if !self.headed {
            table.set_header(self.shown().map(|(_, c)| c.0));
            self.headed = true;
        }
        for row in &self.rows {
            table.add_row(self.shown().map(|(i, _)| row.get(i).map_or("", |c| c)));
        }
        for (place, (_, column)) in self.shown().enumerate() {
            if let Some(shown) = table.column_mut(place) {
                shown.set_padding((0, 2));
                if column.1 {
                    shown.set_cell_alignment(CellAlignment::Right);
                }
            }
        }
        let text = table.to_string();
        for line in text.lines() {
            writeln!(out, "{}", line.trim_end())?;
        }
        self.rows.clear();
        self.empty = false;
        Ok(())
    }

    fn shown(&self) -> impl Iterator<Item = (usize, &'static (&'static str, bool, usize))> + use<> {
        let width = self.width;
        COLUMNS.iter().enumerate().filter(move |(_, c)| c.2 <= width)
    }
}

/// The columns that a page takes from a batch.
struct Cells<'a> {
    batch: &'a Batch,
    run: &'a Run,
    columns: Vec<Column<'a>>,
}

impl<'a> Cells<'a> {
    fn new(batch: &'a Batch, run: &'a Run) -> Self {
        Self { batch, run, columns: batch.columns().filter(|c| c.def.extra_key.is_none()).collect() }
    }

    fn of(&self, name: &str, row: usize) -> Option<Column<'a>> {
        self.columns.iter().copied().find(|c| &*c.def.name == name && c.is_valid(row))
    }

    fn text(&self, name: &str, row: usize) -> String {
        let mut text = Vec::new();
        if let Some(column) = self.of(name, row) {
            plain(&mut text, &column, row);
        }
        String::from_utf8(text).unwrap_or_default()
    }

    fn time(&self, name: &str, row: usize) -> Option<i64> {
        match self.of(name, row)?.values {
            ColumnView::Timestamp(v) => v.get(row).copied(),
            _ => None,
        }
    }

    /// An address and its port.
    fn end(&self, v4: &str, v6: &str, port: &str, row: usize) -> String {
        let (first, second) = match self.batch.layout().first_family() {
            Family::V4 => (v4, v6),
            Family::V6 => (v6, v4),
        };
        let mut address = self.text(first, row);
        if address.is_empty() {
            address = self.text(second, row);
        }
        if address.is_empty() {
            address = self.text(if port == "src_port" { "src_mac" } else { "dst_mac" }, row);
        }
        match self.text(port, row) {
            port if port.is_empty() => address,
            port if address.matches(':').count() > 1 => format!("[{address}]:{port}"),
            port => format!("{address}:{port}"),
        }
    }

    fn row(&self, row: usize) -> Vec<String> {
        let (start, end) = (self.time("flow_start", row), self.time("flow_end", row));
        let shown = start.or(end).or(self.time("event_time", row)).unwrap_or(self.run.meta.received_at.0);
        let mut time = Vec::new();
        text::time(&mut time, shown);
        // To the millisecond, with a space for the T.
        time.truncate(23);
        let time = String::from_utf8(time).unwrap_or_default().replace('T', " ");
        let ms = start.zip(end).map(|(a, b)| (b.saturating_sub(a) / 1000).to_string()).unwrap_or_default();
        let interfaces = match (self.text("in_if", row), self.text("out_if", row)) {
            (a, b) if a.is_empty() && b.is_empty() => String::new(),
            (a, b) => format!("{a}>{b}"),
        };
        vec![
            time,
            ms,
            self.run.meta.exporter.ip().to_string(),
            protocol(self.run.meta.version).to_string(),
            self.of("proto", row).map(|_| ip_protocol(&self.text("proto", row))).unwrap_or_default(),
            self.end("src_ip4", "src_ip6", "src_port", row),
            self.end("dst_ip4", "dst_ip6", "dst_port", row),
            tcp_flags(&self.text("tcp_flags", row)),
            self.text("packets", row),
            self.text("bytes", row),
            interfaces,
        ]
    }
}

/// A protocol's name by the version in its header.
pub fn protocol(version: u8) -> &'static str {
    match version {
        1 => "v1",
        5 => "v5",
        7 => "v7",
        9 => "v9",
        10 => "IPFIX",
        _ => "?",
    }
}

fn ip_protocol(number: &str) -> String {
    match number {
        "1" => "ICMP",
        "2" => "IGMP",
        "6" => "TCP",
        "17" => "UDP",
        "47" => "GRE",
        "50" => "ESP",
        "58" => "ICMPv6",
        "89" => "OSPF",
        "132" => "SCTP",
        other => other,
    }
    .to_string()
}

fn tcp_flags(number: &str) -> String {
    let Ok(flags) = number.parse::<u16>() else { return String::new() };
    let letters = ['F', 'S', 'R', 'P', 'A', 'U', 'E', 'C'];
    letters.iter().enumerate().map(|(i, c)| if flags >> i & 1 == 1 { *c } else { '.' }).collect()
}
