//! From a segment to Parquet files, one an hour.

use super::layout::{HOUR_US, hour_folder, sealed_name};
use super::segment;
use crate::sink::{EXTRA_COLUMNS, FileSchema, io_error, properties};
use arrow_array::cast::AsArray;
use arrow_array::types::TimestampMicrosecondType;
use arrow_array::{ArrayRef, RecordBatch, new_null_array};
use arrow_schema::{Field, Schema};
use parquet::arrow::ArrowWriter;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What sealing a segment came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Sealed {
    pub(super) rows: u64,
    pub(super) bytes: u64,
    pub(super) files: u64,
    /// Whether the segment's end was cut.
    pub(super) torn: bool,
}

/// Writes the files of a segment and removes it. The same segment always comes to the same files.
pub(super) fn seal(root: &Path, node: &str, id: i64, path: &Path) -> io::Result<Sealed> {
    let plan = Parts::of(path)?;
    let mut sealed = Sealed { rows: plan.end.rows, torn: plan.end.torn, ..Sealed::default() };
    let mut files: BTreeMap<(i64, u32), Open> = BTreeMap::new();
    let mut batches = plan.part_of_batch.iter();
    let written = segment::read(path, |rows| {
        let part = batches.next().copied().unwrap_or(0);
        let schema = plan.schemas.get(part as usize).ok_or_else(|| io::Error::other("a segment that changes"))?;
        let rows = widen(&rows, schema)?;
        for (hour, range) in hours(&rows) {
            let file = match files.get_mut(&(hour, part)) {
                Some(file) => file,
                None => {
                    let file = Open::create(root, node, id, hour, part, schema)?;
                    files.entry((hour, part)).or_insert(file)
                }
            };
            file.out()?.write(&rows.slice(range.start, range.len())).map_err(io_error)?;
        }
        Ok(())
    });
    // Unfinished files are removed where something fails.
    written?;
    for file in files.values_mut() {
        file.finish()?;
    }
    for file in files.values_mut() {
        file.put()?;
        sealed.bytes += fs::metadata(&file.path)?.len();
        sealed.files += 1;
    }
    let folders: BTreeSet<&Path> = files.values().filter_map(|f| f.path.parent()).collect();
    for folder in folders {
        File::open(folder)?.sync_all()?;
    }
    fs::remove_file(path)?;
    Ok(sealed)
}

/// Which file of an hour each batch goes to, and the schemas of the files.
struct Parts {
    schemas: Vec<Arc<Schema>>,
    part_of_batch: Vec<u32>,
    end: segment::End,
}

impl Parts {
    /// From a first reading. A file has at most so many columns of extras; what has more begins another.
    fn of(path: &Path) -> io::Result<Self> {
        let all = FileSchema::new([], true).arrow().clone();
        let known = all.fields().len();
        let (mut fields, mut schemas) = (all.fields().to_vec(), Vec::new());
        let mut part_of_batch = Vec::new();
        let mut last: Option<Arc<Schema>> = None;
        let end = segment::read(path, |rows| {
            let schema = rows.schema();
            if last.as_ref().is_none_or(|l| *l != schema) {
                let new = |fields: &[Arc<Field>]| -> Vec<Arc<Field>> {
                    schema.fields().iter().filter(|f| place(fields, f).is_none()).cloned().collect()
                };
                let mut more = new(&fields);
                if fields.len() + more.len() > known + EXTRA_COLUMNS && fields.len() > known {
                    schemas.push(schema_of(&fields, &all));
                    fields = all.fields().to_vec();
                    more = new(&fields);
                }
                fields.extend(more);
                last = Some(schema);
            }
            part_of_batch.push(schemas.len() as u32);
            Ok(())
        })?;
        schemas.push(schema_of(&fields, &all));
        Ok(Self { schemas, part_of_batch, end })
    }
}

/// The columns of the schema, the extras, and at the end the map of those without a column.
fn schema_of(fields: &[Arc<Field>], all: &Schema) -> Arc<Schema> {
    let known = all.fields().len().saturating_sub(1);
    let (known, others) = fields.split_at(known.min(fields.len()));
    let mut names: BTreeSet<String> = known.iter().map(|f| f.name().clone()).collect();
    // Two extras of one name and several types: the later ones get a number.
    let extras = others.iter().skip(1).map(|field| {
        let (mut name, mut n) = (field.name().clone(), 1);
        while !names.insert(name.clone()) {
            n += 1;
            name = format!("{}__{n}", field.name());
        }
        Arc::new(field.as_ref().clone().with_name(name))
    });
    let fields: Vec<Arc<Field>> = known.iter().cloned().chain(extras).chain(others.first().cloned()).collect();
    Arc::new(Schema::new(fields).with_metadata(all.metadata().clone()))
}

/// The field of the same name and type.
fn place(fields: &[Arc<Field>], field: &Field) -> Option<usize> {
    fields.iter().position(|f| f.name() == field.name() && f.data_type() == field.data_type())
}

/// A batch under a schema that has all of its columns.
fn widen(rows: &RecordBatch, schema: &Arc<Schema>) -> io::Result<RecordBatch> {
    let narrow = rows.schema();
    let mut placed = vec![false; narrow.fields().len()];
    let columns: Vec<ArrayRef> = schema
        .fields()
        .iter()
        .map(|field| {
            // A number behind the name tells extras of several types apart.
            let numbered = |name: &str| {
                let rest = field.name().strip_prefix(name).and_then(|rest| rest.strip_prefix("__"));
                rest.is_some_and(|n| n.bytes().all(|b| b.is_ascii_digit()))
            };
            let find = |named: &dyn Fn(&str) -> bool| {
                narrow
                    .fields()
                    .iter()
                    .zip(&placed)
                    .position(|(f, placed)| !placed && named(f.name()) && f.data_type() == field.data_type())
            };
            match find(&|name| name == field.name()).or_else(|| find(&numbered)) {
                Some(at) => {
                    if let Some(placed) = placed.get_mut(at) {
                        *placed = true;
                    }
                    rows.column(at).clone()
                }
                None => new_null_array(field.data_type(), rows.num_rows()),
            }
        })
        .collect();
    if placed.contains(&false) {
        return Err(io::Error::other("a segment that changes"));
    }
    RecordBatch::try_new(schema.clone(), columns).map_err(io_error)
}

/// The rows of a batch by the hour they were received in; several ranges may be of one hour.
fn hours(rows: &RecordBatch) -> Vec<(i64, Range<usize>)> {
    let times = rows.column(0).as_primitive_opt::<TimestampMicrosecondType>().map(|t| t.values().to_vec());
    let times = times.unwrap_or_default();
    let mut found: Vec<(i64, Range<usize>)> = Vec::new();
    for (row, time) in times.iter().enumerate() {
        let hour = time.div_euclid(HOUR_US) * HOUR_US;
        match found.last_mut() {
            Some((of, range)) if *of == hour => range.end = row + 1,
            _ => found.push((hour, row..row + 1)),
        }
    }
    found
}

/// A file under its temporary name.
struct Open {
    temporary: PathBuf,
    path: PathBuf,
    out: Option<ArrowWriter<File>>,
}

impl Open {
    fn create(root: &Path, node: &str, id: i64, hour: i64, part: u32, schema: &Arc<Schema>) -> io::Result<Self> {
        let folder = hour_folder(root, hour);
        fs::create_dir_all(&folder)?;
        let name = sealed_name(node, id, part);
        let temporary = folder.join(format!(".{name}.tmp"));
        let about = [("flowlane.node", node.to_string()), ("flowlane.segment", id.to_string())];
        let file = File::create(&temporary)?;
        let out = ArrowWriter::try_new(file, schema.clone(), Some(properties(schema, &about))).map_err(io_error)?;
        Ok(Self { temporary, path: folder.join(name), out: Some(out) })
    }

    fn out(&mut self) -> io::Result<&mut ArrowWriter<File>> {
        self.out.as_mut().ok_or_else(|| io::Error::other("a file that is finished"))
    }

    /// The whole file is on the disk.
    fn finish(&mut self) -> io::Result<()> {
        let Some(out) = self.out.take() else { return Ok(()) };
        out.into_inner().map_err(io_error)?.sync_all()
    }

    /// Gives it its name.
    fn put(&mut self) -> io::Result<()> {
        fs::rename(&self.temporary, &self.path)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        // Gone already where it got its name.
        let _ = fs::remove_file(&self.temporary);
    }
}
