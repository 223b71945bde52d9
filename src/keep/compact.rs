//! Small files of an hour that is over, made one.

use super::growing::Growing;
use super::layout::{HOUR_US, Listing, SealedFile, compacted_name, hot_folder, hour_folder, listing, segments};
use super::runs::is_extra;
use super::seal::{Column, columns, is_same, schema_of};
use crate::sink::parquet::{Memory, ParquetFile, Source};
use crate::sink::{EXTRA_COLUMNS, FileSchema, io_error};
use arrow_array::cast::AsArray;
use arrow_array::types::{
    ArrowPrimitiveType, Float64Type, Int32Type, Int64Type, TimestampMicrosecondType, UInt8Type, UInt16Type, UInt32Type,
};
use arrow_array::{Array, ArrayRef, RecordBatch, UInt32Array};
use arrow_schema::{DataType, FieldRef, Schema};
use arrow_select::take::take;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// How long after its end an hour waits for late rows, microseconds.
const GRACE_US: i64 = 300_000_000;
/// Bytes of a file that is worth to be one of several.
const LARGE: u64 = 256 << 20;
/// How long files stay whose rows stand in another: questions may have listed them.
const STAY: Duration = Duration::from_secs(600);
/// Rows that are read at once.
const ROWS: usize = 1 << 14;

/// What a look for small files came to.
#[derive(Debug)]
pub(super) enum Compacted {
    /// There are none.
    Nothing,
    /// So many became one.
    Files(usize),
    /// These have more extras than a file has columns for.
    TooWide(Vec<PathBuf>),
    /// A file that cannot be read, and why.
    Damaged(PathBuf, String),
}

/// An error, and the file that it is of.
type Failure = (PathBuf, io::Error);

/// Files smaller than `small` bytes that become one: of a node, in one hour, one after the other. Those to be passed over part the
/// ones before from the ones behind.
fn group(
    root: &Path,
    node: &str,
    now_us: i64,
    small: u64,
    passed_over: &HashSet<PathBuf>,
) -> io::Result<Option<Vec<SealedFile>>> {
    let Listing { sealed, .. } = listing(root)?;
    let hot: Vec<i64> = match segments(&hot_folder(root, node)) {
        Ok(hot) => hot.into_iter().map(|s| s.0).collect(),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(e) => return Err(e),
    };
    // Folders are named so that their order is that of time.
    let now = hour_folder(root, (now_us - GRACE_US).div_euclid(HOUR_US) * HOUR_US);
    let own = sealed.into_iter().filter(|f| f.node == node && f.path.parent().is_some_and(|hour| hour < now.as_path()));
    // All files of a segment, or none: what stands between the first and the last counts as being in the new one.
    let mut units: Vec<Vec<SealedFile>> = Vec::new();
    for file in own {
        match units.last_mut() {
            Some(unit) if unit.last().is_some_and(|f| is_beside(f, &file) && f.segment == file.segment) => {
                unit.push(file)
            }
            _ => units.push(vec![file]),
        }
    }
    let mut group: Vec<SealedFile> = Vec::new();
    let mut segments = 0;
    for unit in units {
        let Some(first) = unit.first() else { continue };
        let bytes = bytes(&unit);
        let from = group.first().filter(|f| is_beside(f, first)).map(|f| f.segment);
        let is_sealed = !hot.iter().any(|id| (from.unwrap_or(first.segment)..=first.last).contains(id));
        let is_small = bytes < small && is_sealed && !unit.iter().any(|f| passed_over.contains(&f.path));
        if from.is_none() || !is_small || self::bytes(&group) + bytes > LARGE {
            if segments > 1 {
                break;
            }
            group.clear();
            segments = 0;
        }
        if is_small {
            group.extend(unit);
            segments += 1;
        }
    }
    Ok(Some(group).filter(|_| segments > 1))
}

fn is_beside(a: &SealedFile, b: &SealedFile) -> bool {
    (&a.date, a.hour) == (&b.date, b.hour)
}

fn bytes(files: &[SealedFile]) -> u64 {
    files.iter().map(|f| f.bytes).sum()
}

/// Makes one file of several, if there are such.
pub(super) fn compact(
    root: &Path,
    node: &str,
    now_us: i64,
    small: u64,
    passed_over: &HashSet<PathBuf>,
) -> Result<Compacted, Failure> {
    let group = group(root, node, now_us, small, passed_over).map_err(|e| (root.to_path_buf(), e))?;
    let Some(group) = group else { return Ok(Compacted::Nothing) };
    match join(&group, node) {
        Err((path, error)) if is_damage(&error) && group.iter().any(|f| f.path == path) => {
            // Of an error of the disk the reader of batches leaves the text alone.
            match File::open(&path).and_then(|mut file| io::copy(&mut file, &mut io::sink())) {
                Ok(_) => Ok(Compacted::Damaged(path, error.to_string())),
                Err(disk) => Err((path, disk)),
            }
        }
        other => other,
    }
}

/// Whether it is what a file has in it that is wrong, not the disk.
fn is_damage(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidData, Other, UnexpectedEof};
    error.raw_os_error().is_none() && matches!(error.kind(), InvalidData | Other | UnexpectedEof)
}

fn join(group: &[SealedFile], node: &str) -> Result<Compacted, Failure> {
    let [first, .., last] = group else { return Ok(Compacted::Nothing) };
    let Some(folder) = first.path.parent() else { return Ok(Compacted::Nothing) };
    let all = FileSchema::new([], true).arrow().clone();
    let mut extras: Vec<FieldRef> = Vec::new();
    for file in group {
        let more = builder(file).map_err(|e| (file.path.clone(), e))?.schema().clone();
        extras.extend(
            more.fields()
                .iter()
                .filter(|f| is_extra(f))
                .filter(|f| !extras.iter().any(|k| is_same(k, f)))
                .cloned()
                .collect::<Vec<_>>(),
        );
    }
    if extras.len() > EXTRA_COLUMNS {
        return Ok(Compacted::TooWide(group.iter().map(|f| f.path.clone()).collect()));
    }
    let schema = schema_of(&extras, &all);
    let name = compacted_name(node, first.segment, last.last);
    let temporary = folder.join(format!(".{name}.tmp"));
    let about =
        [("flowlane.node", node.to_string()), ("flowlane.segments", format!("{}-{}", first.segment, last.last))];
    let written = write(group, &schema, &about, &temporary);
    if let Err(failure) = written {
        let _ = fs::remove_file(&temporary);
        return Err(failure);
    }
    let named = || {
        fs::rename(&temporary, folder.join(name))?;
        File::open(folder)?.sync_all()
    };
    named().map_err(|e| (folder.to_path_buf(), e))?;
    Ok(Compacted::Files(group.len()))
}

/// Removes files of a node whose rows have stood in another for a while, or those of whom nobody can know when it starts.
pub(super) fn remove_covered(root: &Path, node: &str, at_once: bool) -> io::Result<()> {
    let Listing { sealed, covered, .. } = listing(root)?;
    for file in covered.into_iter().filter(|f| f.node == node) {
        let age = |wide: &SealedFile| {
            let written = fs::metadata(&wide.path).and_then(|m| m.modified()).ok()?;
            SystemTime::now().duration_since(written).ok()
        };
        let wide = sealed.iter().find(|wide| wide.covers(&file));
        if wide.is_some_and(|wide| at_once || age(wide).is_some_and(|age| age >= STAY)) {
            fs::remove_file(file.path)?;
        }
    }
    Ok(())
}

fn builder(file: &SealedFile) -> io::Result<ParquetRecordBatchReaderBuilder<File>> {
    ParquetRecordBatchReaderBuilder::try_new(File::open(&file.path)?).map_err(io_error)
}

/// Writes all rows of the files; the new one is on the disk.
fn write(group: &[SealedFile], schema: &Arc<Schema>, about: &[(&str, String)], to: &Path) -> Result<(), Failure> {
    let writing = |e| (to.to_path_buf(), e);
    let create = || ParquetFile::new(Growing::new(File::create(to)?), schema, about, Memory::new());
    let mut out = create().map_err(writing)?;
    for file in group {
        let reading = |e| (file.path.clone(), e);
        let builder = builder(file).map_err(reading)?;
        let (said, mut written) = (builder.metadata().file_metadata().num_rows(), 0);
        let columns = columns(schema, builder.schema());
        for batch in builder.with_batch_size(ROWS).build().map_err(|e| reading(io_error(e)))? {
            let batch = batch.map_err(|e| reading(io_error(e)))?;
            append(&mut out, &batch, &columns).map_err(writing)?;
            written += batch.num_rows() as i64;
        }
        if written != said {
            return Err(reading(io::Error::other(format!("{written} rows of {said}"))));
        }
    }
    out.finish().and_then(|(file, _)| file.finish()).map_err(writing)
}

fn append(out: &mut ParquetFile<Growing>, batch: &RecordBatch, columns: &[Column]) -> io::Result<()> {
    let places = columns.iter().map(|column| match column {
        Column::Own(at) => Some(batch.column(*at)),
        _ => None,
    });
    let places: Vec<Option<&ArrayRef>> = places.collect();
    let runs: Vec<Option<(ArrayRef, Vec<u32>)>> = places.iter().map(|array| runs((*array)?)).collect();
    let sources = places.iter().zip(&runs).map(|(array, runs)| match (array, runs) {
        (_, Some((values, rows))) => Source::Runs(values.clone(), rows),
        (Some(array), None) => Source::Rows((*array).clone()),
        (None, None) => Source::Absent,
    });
    out.append(sources.collect(), batch.num_rows())
}

/// Rows as runs of one value, where they are long: then they are most likely what the rows of a message share.
fn runs(array: &ArrayRef) -> Option<(ArrayRef, Vec<u32>)> {
    fn of<T: ArrowPrimitiveType>(array: &ArrayRef) -> Option<Vec<u32>>
    where
        T::Native: PartialEq,
    {
        let values = array.as_primitive_opt::<T>()?.values();
        starts(values.len(), |row| values.get(row) != values.get(row + 1))
    }
    if array.null_count() > 0 || array.is_empty() {
        return None;
    }
    let starts = match array.data_type() {
        DataType::UInt8 => of::<UInt8Type>(array),
        DataType::UInt16 => of::<UInt16Type>(array),
        DataType::UInt32 => of::<UInt32Type>(array),
        DataType::Int64 => of::<Int64Type>(array),
        DataType::Timestamp(..) => of::<TimestampMicrosecondType>(array),
        DataType::Float64 => of::<Float64Type>(array),
        DataType::Dictionary(..) => {
            let keys = array.as_dictionary_opt::<Int32Type>()?.keys().values();
            starts(keys.len(), |row| keys.get(row) != keys.get(row + 1))
        }
        DataType::Boolean => {
            let bits = array.as_boolean_opt()?.values();
            starts(bits.len(), |row| bits.value(row) != bits.value(row + 1))
        }
        _ => None,
    }?;
    let ends = starts.iter().skip(1).copied().chain([array.len() as u32]);
    let lengths = starts.iter().zip(ends).map(|(start, end)| end - start).collect();
    // Of another type than its column, or not at all: then the rows as they are.
    let values = take(array, &UInt32Array::from(starts), None).ok()?;
    Some((values, lengths))
}

/// The first row of each run; nothing where they are short. `differs` says it of a row and the next.
fn starts(rows: usize, differs: impl Fn(usize) -> bool) -> Option<Vec<u32>> {
    let mut starts = vec![0];
    for row in 0..rows - 1 {
        if differs(row) {
            starts.push(row as u32 + 1);
        }
        if starts.len() * 8 > rows + 8 {
            return None;
        }
    }
    Some(starts)
}
