//! How answers look: rows of named columns, as a table, text that programs read, or Parquet.

use super::{From, Style};
use crate::cli::{say, usage};
use anyhow::Context;
use arrow_array::builder::{
    Float64Builder, Int64Builder, ListBuilder, StringBuilder, TimestampMicrosecondBuilder, UInt32Builder,
};
use arrow_array::{ArrayRef, BooleanArray, RecordBatch, UInt8Array};
use arrow_schema::{DataType, Field, Schema, TimeUnit};
use flowlane::query::{ANSWER, protocol_number};
use flowlane::sink::Place;
use flowlane::sink::text::{self, csv_cell, json_string};
use parquet::arrow::ArrowWriter;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use std::borrow::Cow;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::PathBuf;
use std::sync::Arc;

/// What the cells of a column are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Text,
    /// RFC 3339, UTC.
    Time,
    /// A whole number.
    Whole,
    /// Any number.
    Number,
    /// `true` or `false`.
    Bool,
    /// Whole numbers, spaces between.
    List,
    /// The name of a protocol, or its number: programs get the number.
    Protocol,
}

/// Which forms of an answer have a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum For {
    All,
    /// Tables: it is a picture.
    Tables,
    /// CSV, NDJSON and Parquet: people read it elsewhere.
    Programs,
}

/// A column of an answer. Its name is the same whatever the rows.
#[derive(Clone, Debug)]
pub struct Column {
    name: String,
    kind: Kind,
    /// Columns of a higher number go first where the terminal is too narrow; those of 0 stay.
    spare: u8,
    who: For,
}

impl Column {
    pub fn new(name: impl Into<String>, kind: Kind) -> Self {
        Self { name: name.into(), kind, spare: 0, who: For::All }
    }

    pub fn spare(self, spare: u8) -> Self {
        Self { spare, ..self }
    }

    /// A column of pictures, which tables on a terminal have.
    pub fn drawn(name: &str) -> Self {
        Self { name: name.to_string(), kind: Kind::Text, spare: 20, who: For::Tables }
    }

    /// A column for programs alone.
    pub fn plain(self) -> Self {
        Self { who: For::Programs, ..self }
    }
}

/// Rows of a table that are kept to find out how wide its columns are.
const PAGE: usize = 1000;

/// Rows that a Parquet file gets at once.
const GROUP: usize = 65_536;

/// Writes the rows of an answer as they come.
pub struct Answer {
    columns: Vec<Column>,
    // Places of those that are written.
    shown: Vec<usize>,
    out: Out,
    page: Vec<Vec<String>>,
    // Whether what is written is shown as it is: by a terminal, or as a table.
    seen: bool,
    place: Put,
}

enum Out {
    Table { out: Box<dyn Write + Send>, width: Option<usize>, widths: Vec<usize> },
    Csv(Box<dyn Write + Send>),
    Ndjson(Box<dyn Write + Send>),
    Markdown(Box<dyn Write + Send>),
    Parquet { file: Box<ArrowWriter<Box<dyn Write + Send>>>, schema: Arc<Schema> },
}

impl Answer {
    /// Begins an answer where, and in the form that, the command line says.
    pub fn new(from: &From, columns: Vec<Column>) -> anyhow::Result<Self> {
        let style = from.style();
        let (stream, place) = stream(from)?;
        let programs = matches!(style, Style::Csv | Style::Ndjson | Style::Parquet);
        let is_for = |who| match who {
            For::All => true,
            For::Tables => style == Style::Table,
            For::Programs => programs,
        };
        let shown: Vec<usize> = columns.iter().enumerate().filter(|(_, c)| is_for(c.who)).map(|c| c.0).collect();
        let named = |i: &usize| columns.get(*i).map_or("", |c| &c.name);
        let mut out = match style {
            Style::Table => Out::Table { out: stream, width: terminal_width(place.is_some()), widths: Vec::new() },
            Style::Csv => Out::Csv(stream),
            Style::Ndjson => Out::Ndjson(stream),
            Style::Markdown => Out::Markdown(stream),
            Style::Parquet => {
                let schema = Arc::new(schema(shown.iter().filter_map(|i| columns.get(*i))));
                // It may lie among files of flows, and have columns of their names.
                let mark = KeyValue::new(ANSWER.to_string(), "true".to_string());
                let about = WriterProperties::builder().set_key_value_metadata(Some(vec![mark])).build();
                Out::Parquet { file: Box::new(ArrowWriter::try_new(stream, schema.clone(), Some(about))?), schema }
            }
        };
        match &mut out {
            Out::Csv(out) => csv(out, shown.iter().map(named))?,
            Out::Markdown(out) => {
                markdown(out, shown.iter().map(named))?;
                let right = |i: &usize| columns.get(*i).is_some_and(|c| c.kind.is_number());
                markdown(out, shown.iter().map(|i| if right(i) { "---:" } else { "---" }))?;
            }
            _ => {}
        }
        let seen = !programs || place.is_none() && io::stdout().is_terminal();
        Ok(Self { columns, shown, out, page: Vec::new(), seen, place })
    }

    /// Whether cells become values of their kind.
    pub fn is_typed(&self) -> bool {
        matches!(self.out, Out::Ndjson(_) | Out::Parquet { .. })
    }

    /// Whether people read it.
    pub fn is_for_people(&self) -> bool {
        matches!(self.out, Out::Table { .. } | Out::Markdown(_))
    }

    /// Whether it is a table for people.
    pub fn is_table(&self) -> bool {
        matches!(self.out, Out::Table { .. })
    }

    /// Adds a row: a cell for each column, empty where there is no value.
    pub fn row(&mut self, mut cells: Vec<String>) -> anyhow::Result<()> {
        if self.shown.len() < self.columns.len() {
            let mut at = 0;
            cells.retain(|_| {
                at += 1;
                self.shown.contains(&(at - 1))
            });
        }
        if self.is_table() {
            let columns = self.shown.iter().filter_map(|i| self.columns.get(*i));
            cells.iter_mut().zip(columns).filter(|c| c.1.kind == Kind::Time).for_each(|(cell, _)| shorten(cell));
        }
        if self.seen {
            cells.iter_mut().for_each(printable);
        }
        match &mut self.out {
            Out::Csv(out) => csv(out, cells.iter().map(String::as_str))?,
            Out::Markdown(out) => markdown(out, cells.iter().map(String::as_str))?,
            Out::Ndjson(out) => {
                let columns = self.shown.iter().filter_map(|i| self.columns.get(*i));
                ndjson(out, columns.zip(&cells))?;
            }
            Out::Table { .. } | Out::Parquet { .. } => {
                let most = if self.is_table() { PAGE } else { GROUP };
                self.page.push(cells);
                if self.page.len() >= most {
                    self.flush()?;
                }
            }
        }
        Ok(())
    }

    /// Writes what is waiting.
    fn flush(&mut self) -> anyhow::Result<()> {
        let page = std::mem::take(&mut self.page);
        let columns: Vec<&Column> = self.shown.iter().filter_map(|i| self.columns.get(*i)).collect();
        match &mut self.out {
            Out::Table { out, width, widths } => table(out, *width, widths, &columns, &page)?,
            Out::Parquet { file, schema } if !page.is_empty() => {
                let arrays = columns.iter().enumerate().map(|(i, c)| array(c.kind, page.iter().map(|r| r.get(i))));
                let arrays: anyhow::Result<Vec<ArrayRef>> = arrays.collect();
                file.write(&RecordBatch::try_new(schema.clone(), arrays?)?)?;
            }
            _ => {}
        }
        Ok(())
    }

    /// Ends the answer; a file then stands under its name.
    pub fn finish(mut self) -> anyhow::Result<()> {
        self.flush()?;
        match self.out {
            Out::Table { mut out, .. } | Out::Csv(mut out) | Out::Ndjson(mut out) | Out::Markdown(mut out) => {
                out.flush()?;
            }
            Out::Parquet { file, .. } => file.into_inner()?.flush()?,
        }
        put(self.place)
    }
}

/// A file that an answer goes to, and how it was named; none for standard output.
pub type Put = Option<(Place, PathBuf)>;

/// Where an answer goes: standard output, or a file that is whole when it is [`put`].
pub fn stream(from: &From) -> anyhow::Result<(Box<dyn Write + Send>, Put)> {
    let Some(path) = from.out.as_ref().filter(|p| p.as_os_str() != "-") else {
        if from.style() == Style::Parquet && io::stdout().is_terminal() {
            return Err(usage("Parquet is not for a terminal; give --out a file, or lead the output into one"));
        }
        return Ok((Box::new(BufWriter::new(io::stdout())), None));
    };
    let place = Place::create(path).and_then(|place| Ok((place.stream()?, place)));
    let (stream, place) = place.with_context(|| format!("cannot write {}", path.display()))?;
    let stream = Named { stream, path: path.clone() };
    Ok((Box::new(BufWriter::with_capacity(1 << 18, stream)), Some((place, path.clone()))))
}

/// A file whose errors name it.
struct Named {
    stream: Box<dyn Write + Send>,
    path: PathBuf,
}

impl Named {
    fn named<T>(&self, result: io::Result<T>) -> io::Result<T> {
        result.map_err(|e| io::Error::new(e.kind(), format!("cannot write {}: {e}", self.path.display())))
    }
}

impl Write for Named {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let result = self.stream.write(bytes);
        self.named(result)
    }

    fn flush(&mut self) -> io::Result<()> {
        let result = self.stream.flush();
        self.named(result)
    }
}

/// Ends a file that everything was written to.
pub fn put(place: Put) -> anyhow::Result<()> {
    let Some((place, path)) = place else { return Ok(()) };
    place.finish().with_context(|| format!("cannot write {}", path.display()))
}

impl Kind {
    fn is_number(self) -> bool {
        matches!(self, Self::Whole | Self::Number)
    }
}

/// What an exporter sent must not steer the terminal, nor break a line.
fn printable(cell: &mut String) {
    if let Cow::Owned(shown) = text::printable(cell) {
        *cell = shown;
    }
}

/// A time for people: to the millisecond where it has some, a space for the T.
fn shorten(time: &mut String) {
    time.truncate(23);
    if let Some(seconds) = time.strip_suffix(".000") {
        *time = seconds.to_string();
    }
    *time = time.replacen('T', " ", 1);
}

/// How many characters a line may have; `None` for any number.
fn terminal_width(is_file: bool) -> Option<usize> {
    if is_file || !io::stdout().is_terminal() {
        return None;
    }
    comfy_table::Table::new().width().map(usize::from)
}

fn csv<'a>(out: &mut dyn Write, cells: impl Iterator<Item = &'a str>) -> io::Result<()> {
    let mut line = Vec::new();
    for (i, cell) in cells.enumerate() {
        if i > 0 {
            line.push(b',');
        }
        csv_cell(&mut line, cell.as_bytes());
    }
    line.push(b'\n');
    out.write_all(&line)
}

fn markdown<'a>(out: &mut dyn Write, cells: impl Iterator<Item = &'a str>) -> io::Result<()> {
    let cells: Vec<String> = cells.map(|c| c.replace('|', "\\|")).collect();
    writeln!(out, "| {} |", cells.join(" | "))
}

/// An object without the columns that have no value.
fn ndjson<'a>(out: &mut dyn Write, cells: impl Iterator<Item = (&'a Column, &'a String)>) -> io::Result<()> {
    let mut line = vec![b'{'];
    for (column, cell) in cells.filter(|c| !c.1.is_empty()) {
        if line.len() > 1 {
            line.push(b',');
        }
        json_string(&mut line, column.name.as_bytes());
        line.push(b':');
        value(&mut line, column.kind, cell);
    }
    line.extend_from_slice(b"}\n");
    out.write_all(&line)
}

/// A cell as JSON.
fn value(out: &mut Vec<u8>, kind: Kind, cell: &str) {
    match kind {
        Kind::Whole | Kind::Number if cell.parse::<f64>().is_ok_and(f64::is_finite) => {
            out.extend_from_slice(cell.as_bytes())
        }
        Kind::Bool => out.extend_from_slice(if is_true(cell) { b"true" } else { b"false" }),
        Kind::List => {
            out.push(b'[');
            out.extend_from_slice(cell.replace(' ', ",").as_bytes());
            out.push(b']');
        }
        Kind::Protocol if protocol_number(cell).is_some() => {
            text::unsigned(out, protocol_number(cell).unwrap_or_default().into());
        }
        _ => json_string(out, cell.as_bytes()),
    }
}

/// Keys of groups have numbers for both.
fn is_true(cell: &str) -> bool {
    matches!(cell, "true" | "1")
}

/// Prints a page; the first one with the header, and it decides what there is room for.
fn table(
    out: &mut dyn Write,
    width: Option<usize>,
    widths: &mut Vec<usize>,
    columns: &[&Column],
    page: &[Vec<String>],
) -> io::Result<()> {
    let wide = |text: &str| text.chars().count();
    let first = widths.is_empty();
    if first {
        let cells = |i: usize| page.iter().filter_map(|r| r.get(i)).map(|c| wide(c)).max().unwrap_or(0);
        *widths = columns
            .iter()
            .enumerate()
            .map(|(i, c)| if c.who == For::Tables && cells(i) == 0 { 0 } else { cells(i).max(wide(&c.name)) })
            .collect();
        if let Some(width) = width {
            narrow(widths, width, columns);
        }
    }
    let mut line = |cells: &mut dyn Iterator<Item = &str>| -> io::Result<()> {
        let mut text = String::new();
        for ((cell, column), width) in cells.zip(columns).zip(widths.iter()).filter(|c| *c.1 > 0) {
            let cut = cut(cell, *width, column.kind);
            let cell = cut.as_ref();
            let pad = " ".repeat(width.saturating_sub(wide(cell)));
            let (before, after) = if column.kind.is_number() { (pad.as_str(), "") } else { ("", pad.as_str()) };
            text += before;
            text += cell;
            text += after;
            text += "  ";
        }
        writeln!(out, "{}", text.trim_end())
    };
    if first {
        line(&mut columns.iter().map(|c| c.name.as_str()))?;
    }
    for row in page {
        line(&mut row.iter().map(String::as_str))?;
    }
    Ok(())
}

/// The least that a text is cut to.
const LEAST: usize = 4;

/// Makes columns fit: times lose what is less than a second, then columns go that can be spared, then texts are cut.
fn narrow(widths: &mut [usize], width: usize, columns: &[&Column]) {
    let fits = |widths: &[usize]| widths.iter().filter(|w| **w > 0).map(|w| w + 2).sum::<usize>() <= width + 2;
    let kind = |i: usize| columns.get(i).map(|c| c.kind);
    for i in 0..widths.len() {
        if !fits(widths) && kind(i) == Some(Kind::Time) {
            widths[i] = widths[i].min(SECONDS);
        }
    }
    let mut gone = Vec::new();
    while !fits(widths) {
        let spare = |i: &usize| columns.get(*i).map_or(0, |c| if widths[*i] > 0 { c.spare } else { 0 });
        let Some(next) = (0..columns.len()).max_by_key(spare).filter(|i| spare(i) > 0) else { break };
        widths[next] = 0;
        gone.extend(columns.get(next).filter(|c| c.who == For::All).map(|c| c.name.as_str()));
    }
    while !fits(widths) {
        let may = |i: &usize| if kind(*i).is_some_and(Kind::is_number) { 0 } else { widths[*i] };
        let Some(widest) = (0..widths.len()).max_by_key(may).filter(|i| may(i) > LEAST) else { break };
        widths[widest] -= 1;
    }
    if !gone.is_empty() {
        say(&format!("flowlane: the terminal is too narrow for {}", gone.join(", ")));
    }
}

/// Characters of a time to the second.
const SECONDS: usize = 19;

/// A cell that is wider than its column: numbers stay as they are.
fn cut(cell: &str, width: usize, kind: Kind) -> Cow<'_, str> {
    if kind.is_number() || cell.chars().count() <= width {
        return cell.into();
    }
    // A time says what it is to the second.
    if kind == Kind::Time && width >= SECONDS && cell.starts_with(|c: char| c.is_ascii_digit()) {
        return cell.chars().take(SECONDS).collect::<String>().into();
    }
    let mut text: String = cell.chars().take(width.saturating_sub(1)).collect();
    text.push('\u{2026}');
    text.into()
}

fn schema<'a>(columns: impl Iterator<Item = &'a Column>) -> Schema {
    let field = |column: &Column| {
        let data_type = match column.kind {
            Kind::Text => DataType::Utf8,
            Kind::Time => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            Kind::Whole => DataType::Int64,
            Kind::Number => DataType::Float64,
            Kind::Bool => DataType::Boolean,
            Kind::List => DataType::new_list(DataType::UInt32, true),
            Kind::Protocol => DataType::UInt8,
        };
        Field::new(&column.name, data_type, true)
    };
    Schema::new(columns.map(field).collect::<Vec<Field>>())
}

/// Cells as a column of their kind; null where there is no value.
fn array<'a>(kind: Kind, cells: impl Iterator<Item = Option<&'a String>>) -> anyhow::Result<ArrayRef> {
    let cells = cells.map(|c| c.map(String::as_str).filter(|c| !c.is_empty()));
    Ok(match kind {
        Kind::Text => {
            let mut texts = StringBuilder::new();
            cells.for_each(|c| texts.append_option(c));
            Arc::new(texts.finish())
        }
        Kind::Whole => {
            let mut numbers = Int64Builder::new();
            for cell in cells {
                let number = cell.map(str::parse).transpose();
                numbers.append_option(number.context("a number is too large for a Parquet file")?);
            }
            Arc::new(numbers.finish())
        }
        Kind::Number => {
            let mut numbers = Float64Builder::new();
            cells.for_each(|c| numbers.append_option(c.and_then(|c| c.parse().ok())));
            Arc::new(numbers.finish())
        }
        Kind::Bool => Arc::new(cells.map(|c| c.map(is_true)).collect::<BooleanArray>()),
        Kind::Protocol => Arc::new(cells.map(|c| c.and_then(protocol_number)).collect::<UInt8Array>()),
        Kind::List => {
            let mut lists = ListBuilder::new(UInt32Builder::new());
            for cell in cells {
                lists.append_option(cell.map(|c| c.split(' ').map(|n| n.parse().ok())));
            }
            Arc::new(lists.finish())
        }
        Kind::Time => {
            let mut times = TimestampMicrosecondBuilder::new().with_timezone("UTC");
            let us = |text: &str| Some(chrono::DateTime::parse_from_rfc3339(text).ok()?.timestamp_micros());
            cells.for_each(|c| times.append_option(c.and_then(us)));
            Arc::new(times.finish())
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn narrow_terminals_lose_what_can_be_spared() {
        let columns = [
            Column::new("address", Kind::Text),
            Column::new("packets", Kind::Whole).spare(2),
            Column::new("bytes", Kind::Whole).spare(1),
        ];
        let columns: Vec<&Column> = columns.iter().collect();
        let page = [["192.0.2.1", "7", "1500"].map(String::from).to_vec()];
        let lines = |width| {
            let (mut out, mut widths) = (Vec::new(), Vec::new());
            table(&mut out, width, &mut widths, &columns, &page).expect("written");
            String::from_utf8(out).expect("text")
        };
        assert_eq!(lines(None), "address    packets  bytes\n192.0.2.1        7   1500\n");
        assert_eq!(lines(Some(25)), lines(None));
        assert_eq!(lines(Some(24)), "address    bytes\n192.0.2.1   1500\n");
        assert_eq!(lines(Some(9)), "address\n192.0.2.1\n");
        assert_eq!(lines(Some(8)), "address\n192.0.2\u{2026}\n");
        assert_eq!(lines(Some(3)), "add\u{2026}\n192\u{2026}\n");
    }

    #[test]
    fn narrow_terminals_show_times_to_the_second() {
        let columns = [Column::new("start", Kind::Time).spare(1), Column::new("bytes", Kind::Whole)];
        let columns: Vec<&Column> = columns.iter().collect();
        let page = [["2026-11-24 10:00:00.123", "7"].map(String::from).to_vec()];
        let (mut out, mut widths) = (Vec::new(), Vec::new());
        table(&mut out, Some(27), &mut widths, &columns, &page).expect("written");
        let shown = String::from_utf8(out).expect("text");
        assert_eq!(shown, "start                bytes\n2026-11-24 10:00:00      7\n");
    }

    #[test]
    fn what_exporters_send_does_not_steer_the_terminal() {
        let mut cell = "eth0\x1b[31m\nred\u{202e}\u{9b}".to_string();
        printable(&mut cell);
        assert_eq!(cell, "eth0\\u{1b}[31m\\nred\\u{202e}\\u{9b}");
    }

    #[test]
    fn times_for_people() {
        let shown = |text: &str| {
            let mut text = text.to_string();
            shorten(&mut text);
            text
        };
        assert_eq!(shown("2026-11-24T10:00:00.000001Z"), "2026-11-24 10:00:00");
        assert_eq!(shown("2026-11-24T10:00:00.012345Z"), "2026-11-24 10:00:00.012");
        assert_eq!(shown(""), "");
    }

    #[test]
    fn cells_become_values() {
        let cells = ["2026-11-24T10:00:00.000001Z".to_string(), String::new()];
        let times = array(Kind::Time, cells.iter().map(Some)).expect("an array");
        assert_eq!((times.len(), times.null_count()), (2, 1));
        let big = ["9223372036854775808".to_string()];
        assert!(array(Kind::Whole, big.iter().map(Some)).is_err());
        let mut line = Vec::new();
        let kinds = [Kind::Text, Kind::Number, Kind::Bool, Kind::List, Kind::Protocol, Kind::Whole];
        let columns: Vec<Column> =
            ["a", "n", "b", "l", "p", "w"].iter().zip(kinds).map(|(n, k)| Column::new(*n, k)).collect();
        let cells = ["x\"", "1.5", "false", "16 17", "udp", "x"].map(String::from);
        ndjson(&mut line, columns.iter().zip(&cells)).expect("written");
        let expected = r#"{"a":"x\"","n":1.5,"b":false,"l":[16,17],"p":17,"w":"x"}"#;
        assert_eq!(String::from_utf8_lossy(&line), format!("{expected}\n"));
        for (cell, kind) in cells.iter().zip(kinds).take(5) {
            assert_eq!(array(kind, [Some(cell)].into_iter()).expect("an array").null_count(), 0, "{cell}");
        }
    }
}
