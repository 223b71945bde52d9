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

/// Gives such a file a name: `whole` where all that is before its last whole line can be read, else one that says that it has no
/// end. What is to be said of it; nothing where no row is in it, and it goes.
///
/// # Errors
/// Those of the file system; [`ErrorKind::WouldBlock`] where it is no leaving: another process writes it.
pub(super) fn keep(left: &Path, format: Format, whole: &Path) -> io::Result<Option<String>> {
    let lines = match File::options().read(true).write(true).open(left) {
        Ok(file) => {
            if let Err(TryLockError::WouldBlock) = file.try_lock() {
                return Err(io::Error::new(
                    ErrorKind::WouldBlock,
                    format!("another process writes {}", left.display()),
                ));
            }
            match format {
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
        Err(why) => (free(whole, ".partial"), format!(": {why}")),
    };
    fs::rename(left, &name)?;
    if let Some(folder) = name.parent().filter(|p| !p.as_os_str().is_empty()) {
        File::open(folder)?.sync_all()?;
    }
    Ok(Some(format!("what a process before wrote and did not end is in {}{why}", name.display())))
}

/// Cuts a text after its last whole line; whether it has lines of rows.
fn cut(file: &File, format: Format) -> io::Result<bool> {
    let mut piece = vec![0; PIECE];
    // How much is read and has no line's end.
    let mut end = file.metadata()?.len();
    let lines = loop {
        let from = end.saturating_sub(PIECE as u64);
        let piece = piece.get_mut(..usize::try_from(end - from).unwrap_or(PIECE)).unwrap_or_default();
        file.read_exact_at(piece, from)?;
        match piece.iter().rposition(|b| *b == b'\n') {
            Some(at) => break from + at as u64 + 1,
            None if from == 0 => break 0,
            None => end = from,
        }
    };
    if lines == 0 || format == Format::Csv && is_one_line(file, lines)? {
        return Ok(false);
    }
    file.set_len(lines)?;
    file.sync_all()?;
    Ok(true)
}

/// Whether so many bytes are one line: a header without rows.
fn is_one_line(file: &File, bytes: u64) -> io::Result<bool> {
    let mut head = vec![0; usize::try_from(bytes).unwrap_or(PIECE).min(PIECE)];
    file.read_exact_at(&mut head, 0)?;
    Ok(head.len() as u64 == bytes && head.iter().position(|b| *b == b'\n') == Some(head.len() - 1))
}

/// The same for compressed lines. What is left takes the place of the file at once: another kill there costs nothing.
fn cut_gzip(path: &Path, file: &File) -> io::Result<bool> {
    let new = path.with_extension("new");
    let mut out = GzEncoder::new(BufWriter::new(File::create(&new)?), Compression::fast());
    let mut from = MultiGzDecoder::new(BufReader::new(file));
    let (mut lines, mut has_lines, mut piece) = (Vec::new(), false, vec![0; PIECE]);
    loop {
        let n = match from.read(&mut piece) {
            Ok(0) => break,
            Ok(n) => n,
            // Where it was cut.
            Err(e) if e.kind() == ErrorKind::UnexpectedEof => break,
            Err(e) => {
                let _ = fs::remove_file(&new);
                return Err(e);
            }
        };
        lines.extend_from_slice(piece.get(..n).unwrap_or(&[]));
        if let Some(at) = lines.iter().rposition(|b| *b == b'\n') {
            out.write_all(lines.get(..=at).unwrap_or(&[]))?;
            lines.drain(..=at);
            has_lines = true;
        }
    }
    out.finish()?.into_inner()?.sync_all()?;
    if has_lines {
        fs::rename(&new, path)?;
    } else {
        fs::remove_file(&new)?;
    }
    Ok(has_lines)
}
