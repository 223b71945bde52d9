//! Arrow IPC files of this schema, as `--format arrow` writes them.

use super::foreign;
use arrow_array::RecordBatch;
use arrow_ipc::reader::FileReader;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

/// Whether it is such a file, by its first bytes.
pub(super) fn is_arrow(path: &Path) -> bool {
    let mut magic = [0; 6];
    File::open(path).and_then(|mut file| file.read_exact(&mut magic)).is_ok() && &magic == b"ARROW1"
}

/// Gives the batches of a file to `take`, with the columns that are needed; `false` ends it.
pub(super) fn read(
    path: &Path,
    needed: impl Fn(&str) -> bool,
    mut take: impl FnMut(&RecordBatch) -> bool,
) -> Result<(), String> {
    let open = |projection| {
        let file = BufReader::with_capacity(1 << 20, File::open(path).map_err(|e| e.to_string())?);
        FileReader::try_new(file, projection).map_err(|e| e.to_string())
    };
    let schema = open(None)?.schema();
    let names: Vec<String> = schema.fields().iter().map(|f| f.name().clone()).filter(|name| needed(name)).collect();
    foreign::check(&schema, names.iter())?;
    let columns = schema.fields().iter().enumerate().filter(|(_, f)| needed(f.name())).map(|c| c.0).collect();
    for batch in open(Some(columns))? {
        if !take(&batch.map_err(|e| e.to_string())?) {
            break;
        }
    }
    Ok(())
}
