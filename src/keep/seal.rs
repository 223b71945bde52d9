//! From a segment to Parquet files, one an hour.

use super::contents::Contents;
use super::fault;
use super::growing::Growing;
use super::layout::{DAMAGED, HOUR_US, hour_folder, listing, sealed_name};
use super::runs::{Rows, is_extra, is_total};
use super::spare;
use crate::sink::parquet::{Memory, ParquetFile, Source};
use crate::sink::{EXTRA_COLUMNS, FileSchema, free};
use arrow_array::{ArrayRef, BooleanArray, Int64Array};
use arrow_schema::{Field, FieldRef, Schema};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Memory that is kept for the next segment at most.
const KEPT: usize = 64 << 20;

/// What sealing a segment came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Sealed {
    pub(super) rows: u64,
    pub(super) bytes: u64,
    pub(super) files: u64,
    /// Where it is put aside because it is damaged, and what is wrong with it.
    pub(super) damaged: Option<(PathBuf, String)>,
    /// Rows in it that could not be read, as far as that can be told.
    pub(super) rows_damaged: u64,
}

/// Writes the files of a segment and removes it. The same segment always comes to the same files. Of one that is damaged the rows of
/// whole batches are written, and it is put aside.
pub(super) fn seal(root: &Path, node: &str, id: i64, path: &Path, memory: &mut Memory) -> io::Result<Sealed> {
    let contents = Contents::salvaged(path)?;
    let parts = Parts::of(&contents.schemas);
    let mut files: BTreeMap<(i64, usize), Open> = BTreeMap::new();
    // Unfinished files are removed where something fails.
    let (mut strange, mut written) = (None, 0);
    let (end, damage) = contents.read_sound(|stream, batch| {
        let rows = match Rows::new(batch) {
            Ok(rows) => rows,
            Err(error) => {
                strange.get_or_insert(error.to_string());
                return Ok(());
            }
        };
        let (part, columns) = parts.streams.get(stream).ok_or_else(changed)?;
        for hour in hours(&rows) {
            let file = match files.get_mut(&(hour.start, *part)) {
                Some(file) => file,
                None => {
                    let schema = parts.schemas.get(*part).ok_or_else(changed)?;
                    let file =
                        Open::create(root, node, id, hour.start, files.len() as u32, schema, std::mem::take(memory))?;
                    files.entry((hour.start, *part)).or_insert(file)
                }
            };
            file.append(&rows, &hour, columns)?;
            written += hour.rows.len() as u64;
            fault::step("half written");
        }
        Ok(())
    })?;
    // That of another segment whose rows are sealed is what the machine left where it stopped; else they are nowhere but here.
    let is_sealed = |other| Ok::<_, io::Error>(listing(root)?.sealed.iter().any(|file| file.ends(node, other)));
    let misnamed = match end.foreign {
        Some(other) if !is_sealed(other)? => end.misnamed(),
        _ => None,
    };
    let damage = damage.or(strange).or(misnamed);
    let mut sealed = Sealed { rows: written, ..Sealed::default() };
    if damage.is_some() {
        sealed.rows_damaged = contents.rows().saturating_sub(written);
    }
    // Nobody reads it any more.
    drop(contents);
    for file in files.values_mut() {
        memory.extend(file.finish()?);
    }
    if memory.iter().map(Vec::capacity).sum::<usize>() > KEPT {
        memory.clear();
    }
    let mut files: Vec<Open> = files.into_values().collect();
    fault::step("written");
    // The first is the last to get its name, when those of the others are on the disk: until then readers take the segment.
    files.sort_by_key(|file| std::cmp::Reverse(file.number));
    if let Some((first, others)) = files.split_last_mut() {
        put(others)?;
        put(std::slice::from_mut(first))?;
    }
    for file in &files {
        sealed.bytes += fs::metadata(&file.path)?.len();
        sealed.files += 1;
    }
    fault::step("named");
    match damage {
        Some(damage) => {
            let aside = free(&path.with_extension(DAMAGED), "");
            fs::rename(path, &aside)?;
            sealed.damaged = Some((aside, damage));
        }
        None => spare::retire(path, end.bytes)?,
    }
    fault::step("removed");
    Ok(sealed)
}

/// Gives files their names, so that these outlive the machine.
fn put(files: &mut [Open]) -> io::Result<()> {
    for file in &mut *files {
        fs::rename(&file.temporary, &file.path)?;
    }
    let folders: BTreeSet<&Path> = files.iter().filter_map(|f| f.path.parent()).collect();
    folders.into_iter().try_for_each(|folder| File::open(folder)?.sync_all())
}

fn changed() -> io::Error {
    io::Error::other("a segment that changes")
}

/// Where a column of a file is in a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Column {
    Nowhere,
    /// A column of its own.
    Own(usize),
    /// Among what runs share, by its name.
    Shared,
    /// Each row is one flow.
    One,
    /// Whether counters are running totals.
    Total,
}

/// The schemas of the files of an hour, and for each schema of a stream which of them it goes to, and where the columns
/// of that are.
struct Parts {
    schemas: Vec<Arc<Schema>>,
    streams: Vec<(usize, Vec<Column>)>,
}

impl Parts {
    /// A file has at most so many columns of extras; what has more begins another.
    fn of(streams: &[Arc<Schema>]) -> Self {
        let all = FileSchema::new([], true).arrow().clone();
        let (mut extras, mut schemas): (Vec<FieldRef>, Vec<Arc<Schema>>) = (Vec::new(), Vec::new());
        let mut part_of = Vec::new();
        for stream in streams {
            let own = || stream.fields().iter().filter(|f| is_extra(f)).cloned();
            let mut more: Vec<FieldRef> = own().filter(|f| !extras.iter().any(|k| is_same(k, f))).collect();
            if extras.len() + more.len() > EXTRA_COLUMNS && !extras.is_empty() {
                schemas.push(schema_of(&std::mem::take(&mut extras), &all));
                more = own().collect();
            }
            extras.extend(more);
            part_of.push(schemas.len());
        }
        schemas.push(schema_of(&extras, &all));
        let of = |(stream, part): (&Arc<Schema>, usize)| {
            (part, schemas.get(part).map_or(Vec::new(), |file| columns(file, stream)))
        };
        let streams = streams.iter().zip(part_of).map(of).collect();
        Self { schemas, streams }
    }
}

/// The columns of the schema, the extras, and at the end the map of those without a column.
pub(super) fn schema_of(extras: &[FieldRef], all: &Schema) -> Arc<Schema> {
    let (known, map) = all.fields().split_at(all.fields().len().saturating_sub(1));
    let mut names: BTreeSet<String> = known.iter().map(|f| f.name().clone()).collect();
    // Two extras of one name and several types: the later ones get a number.
    let extras = extras.iter().map(|field| {
        let (mut name, mut n) = (field.name().clone(), 1);
        while !names.insert(name.clone()) {
            n += 1;
            name = format!("{}__{n}", field.name());
        }
        Arc::new(field.as_ref().clone().with_name(name))
    });
    let fields: Vec<FieldRef> = known.iter().cloned().chain(extras).chain(map.iter().cloned()).collect();
    Arc::new(Schema::new(fields).with_metadata(all.metadata().clone()))
}

/// Whether two extras are one column.
pub(super) fn is_same(a: &Field, b: &Field) -> bool {
    a.name() == b.name() && a.data_type() == b.data_type()
}

/// Where each column of a file is.
pub(super) fn columns(file: &Schema, stream: &Schema) -> Vec<Column> {
    let mut placed = vec![false; stream.fields().len()];
    let place = |field: &FieldRef| {
        if !is_extra(field) {
            return match (stream.column_with_name(field.name()), field.name().as_str()) {
                (Some((at, _)), _) => Column::Own(at),
                (None, "flows") => Column::One,
                (None, "counters_are_total") => Column::Total,
                (None, _) => Column::Shared,
            };
        }
        // A number behind the name tells extras of several types apart.
        let numbered = |name: &str| {
            let rest = field.name().strip_prefix(name).and_then(|rest| rest.strip_prefix("__"));
            rest.is_some_and(|n| n.bytes().all(|b| b.is_ascii_digit()))
        };
        let find = |named: &dyn Fn(&str) -> bool| {
            let mut fields = stream.fields().iter().zip(&placed);
            fields.position(|(f, placed)| !placed && named(f.name()) && f.data_type() == field.data_type())
        };
        let found = find(&|name| name == field.name()).or_else(|| find(&numbered));
        if let Some(placed) = found.and_then(|at| placed.get_mut(at)) {
            *placed = true;
        }
        found.map_or(Column::Nowhere, Column::Own)
    };
    file.fields().iter().map(place).collect()
}

/// Consecutive runs of rows that were received in one hour.
struct Hour {
    start: i64,
    runs: Range<usize>,
    rows: Range<usize>,
}

/// The rows of a batch by the hour they were received in; several of them may be of one hour.
fn hours(rows: &Rows) -> Vec<Hour> {
    let mut found: Vec<Hour> = Vec::new();
    let mut row = 0;
    for (run, (time, length)) in rows.received().iter().zip(&rows.lengths).enumerate() {
        let (start, end) = (time.div_euclid(HOUR_US) * HOUR_US, row + *length as usize);
        match found.last_mut() {
            Some(hour) if hour.start == start => (hour.runs.end, hour.rows.end) = (run + 1, end),
            _ => found.push(Hour { start, runs: run..run + 1, rows: row..end }),
        }
        row = end;
    }
    found
}

/// A file under its temporary name.
struct Open {
    number: u32,
    temporary: PathBuf,
    path: PathBuf,
    schema: Arc<Schema>,
    out: Option<ParquetFile<Growing>>,
}

impl Open {
    fn create(
        root: &Path,
        node: &str,
        id: i64,
        hour: i64,
        number: u32,
        schema: &Arc<Schema>,
        memory: Memory,
    ) -> io::Result<Self> {
        let folder = hour_folder(root, hour);
        fs::create_dir_all(&folder)?;
        let name = sealed_name(node, id, number);
        let temporary = folder.join(format!(".{name}.tmp"));
        let about = [("flowlane.node", node.to_string()), ("flowlane.segment", id.to_string())];
        let file = Growing::new(File::create(&temporary)?);
        fault::step("begun");
        let out = Some(ParquetFile::new(file, schema, &about, memory)?);
        Ok(Self { number, temporary, path: folder.join(name), schema: schema.clone(), out })
    }

    fn append(&mut self, rows: &Rows, hour: &Hour, columns: &[Column]) -> io::Result<()> {
        let Some(out) = &mut self.out else { return Err(io::Error::other("a file that is finished")) };
        let (n, is_all) = (hour.rows.len(), hour.rows.len() == rows.len());
        let lengths = rows.lengths.get(hour.runs.clone()).unwrap_or(&[]);
        let once = [n as u32];
        let source = |(column, field): (&Column, &FieldRef)| match column {
            Column::Nowhere => Source::Absent,
            Column::Own(at) if is_all => Source::Rows(rows.column(*at)),
            Column::Own(at) => Source::Rows(rows.column(*at).slice(hour.rows.start, n)),
            Column::Shared => match rows.shared(field.name()) {
                Some(shared) => Source::Runs(shared.slice(hour.runs.start, hour.runs.len()), lengths),
                None => Source::Absent,
            },
            Column::One => Source::Runs(Arc::new(Int64Array::from(vec![1])) as ArrayRef, &once),
            Column::Total => {
                Source::Runs(Arc::new(BooleanArray::from(vec![is_total(rows.schema())])) as ArrayRef, &once)
            }
        };
        let sources = columns.iter().zip(self.schema.fields()).map(source).collect();
        out.append(sources, n)
    }

    /// The whole file is on the disk.
    fn finish(&mut self) -> io::Result<Memory> {
        let Some(out) = self.out.take() else { return Ok(Memory::new()) };
        let (file, memory) = out.finish()?;
        file.finish()?;
        Ok(memory)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        // Gone already where it got its name.
        let _ = fs::remove_file(&self.temporary);
    }
}
