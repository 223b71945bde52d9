//! What a process that was killed left: files that had not their names yet. Rows in them were counted as written.

use super::file::Format;
use super::place::free;
use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use std::fs::{self, File, TryLockError};
use std::io::{self, BufReader, BufWriter, ErrorKind, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Bytes that are read at once.
const PIECE: usize = 1 << 16;
/// Bytes that such files begin with, at most.
const MAGIC: u64 = 8;

/// Gives such a file of `path` a name: `whole` where all that is before its last whole line can be read, else one that says that it has
/// no end. What is to be said of it; nothing where no row can be in it, and it goes.
///
/// # Errors
/// Those of the file system; [`ErrorKind::WouldBlock`] where it is no leaving: another process writes it.
pub(super) fn keep(left: &Path, format: Format, path: &Path, whole: &Path) -> io::Result<Option<String>> {
    let lines = match File::options().read(true).write(true).open(left) {
        Ok(file) => {
            if let Err(TryLockError::WouldBlock) = file.try_lock() {
                return Err(io::Error::new(
                    ErrorKind::WouldBlock,
                    format!("another process writes {}", left.display()),
                ));
            }
            match format {
                Format::Parquet | Format::Arrow if file.metadata()?.len() <= MAGIC => Ok(false),
                Format::Parquet | Format::Arrow => Err("without its end it cannot be read".to_string()),
                Format::NetflowJson => cut_gzip(left, &file).map_err(|e| e.to_string()),
                _ => cut(&file, format).map_err(|e| e.to_string()),
            }
        }
        Err(e) => Err(e.to_string()),
    };
    let (name, why) = match lines {
        Ok(false) => return fs::remove_file(left).map(|()| None),
        Ok(true) => (whole.to_path_buf(), String::new()),
        Err(why) => (free(path, ".partial"), format!(": {why}")),
    };
    fs::rename(left, &name)?;
    if let Some(folder) = name.parent().filter(|p| !p.as_os_str().is_empty()) {
        File::open(folder)?.sync_all()?;
    }
    Ok(Some(format!("what a process before wrote and did not end is in {}{why}", name.display())))
}

/// Cuts a text after its last whole line; whether it has lines of rows. In CSV a line goes on inside quotes, and the first is the head.
fn cut(file: &File, format: Format) -> io::Result<bool> {
    let is_csv = format == Format::Csv;
    let (mut piece, mut at, mut is_quoted) = (vec![0; PIECE], 0, false);
    let (mut end, mut lines) = (0, 0u64);
    loop {
        let n = file.read_at(&mut piece, at)?;
        if n == 0 {
            break;
        }
        for (byte, behind) in piece.iter().take(n).zip(at + 1..) {
            match byte {
                b'"' if is_csv => is_quoted = !is_quoted,
                b'\n' if !is_quoted => (end, lines) = (behind, lines + 1),
                _ => {}
            }
        }
        at += n as u64;
    }
    if lines <= u64::from(is_csv) {
        return Ok(false);
    }
    file.set_len(end)?;
    file.sync_all()?;
    Ok(true)
}

/// The same for compressed lines. What is left takes the place of the file at once: another kill there costs nothing.
fn cut_gzip(path: &Path, file: &File) -> io::Result<bool> {
    let new = path.with_extension("new");
    let has_lines = whole_lines(file, &new).and_then(|has_lines| {
        if has_lines {
            fs::rename(&new, path)?;
        }
        Ok(has_lines)
    });
    if !matches!(has_lines, Ok(true)) {
        let _ = fs::remove_file(&new);
    }
    has_lines
}

/// Writes the whole lines of a compressed file to a new one; whether there are any.
fn whole_lines(file: &File, new: &Path) -> io::Result<bool> {
    let mut out = GzEncoder::new(BufWriter::new(File::create(new)?), Compression::fast());
    let mut from = MultiGzDecoder::new(BufReader::new(file));
    let (mut lines, mut has_lines, mut piece) = (Vec::new(), false, vec![0; PIECE]);
    loop {
        let n = match from.read(&mut piece) {
            Ok(0) => break,
            Ok(n) => n,
            // Where it was cut.
            Err(e) if e.kind() == ErrorKind::UnexpectedEof => break,
            Err(e) => return Err(e),
        };
        lines.extend_from_slice(piece.get(..n).unwrap_or(&[]));
        if let Some(at) = lines.iter().rposition(|b| *b == b'\n') {
            out.write_all(lines.get(..=at).unwrap_or(&[]))?;
            lines.drain(..=at);
            has_lines = true;
        }
    }
    out.finish()?.into_inner()?.sync_all()?;
    Ok(has_lines)
}
