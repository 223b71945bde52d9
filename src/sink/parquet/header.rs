//! Headers of pages, with the checksum that the format has room for and the crate does not write.
//!
//! A header is a struct in Thrift's compact protocol: a byte a field, which says how far its number is from that of the
//! field before and its type, then its value.

use super::Result;
use bytes::Bytes;
use parquet::basic::Encoding;
use parquet::column::writer::ColumnCloseResult;
use parquet::errors::ParquetError;
use parquet::file::metadata::ColumnChunkMetaData;

/// What a page holds.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    /// So many values that keys stand for.
    Dictionary(usize),
    /// Rows; their levels are runs.
    Data(usize, Encoding),
}

// Thrift's types, and the end of a struct.
const FALSE: u8 = 2;
const I32: u8 = 5;
const STRUCT: u8 = 12;
const END: u8 = 0;

/// Appends a page that is not compressed: its header, and its body.
pub(super) fn page(out: &mut Vec<u8>, body: &[u8], kind: Kind) -> Result<()> {
    let size = i32::try_from(body.len()).map_err(|_| ParquetError::General("a page of more than 2 GiB".into()))?;
    let count = |n: usize| n as i32;
    let of = if matches!(kind, Kind::Data(..)) { 0 } else { 2 };
    for value in [of, size, size] {
        number(out, 1, value);
    }
    number(out, 1, sum(body));
    match kind {
        Kind::Data(rows, encoding) => {
            out.push(1 << 4 | STRUCT);
            let rle = code(Encoding::RLE);
            [count(rows), code(encoding), rle, rle].into_iter().for_each(|value| number(out, 1, value));
        }
        Kind::Dictionary(values) => {
            out.push(3 << 4 | STRUCT);
            [count(values), code(Encoding::PLAIN)].into_iter().for_each(|value| number(out, 1, value));
            // Its values are not sorted.
            out.push(1 << 4 | FALSE);
        }
    }
    out.extend([END, END]);
    out.extend_from_slice(body);
    Ok(())
}

/// CRC-32 of a page as it stands in the file.
fn sum(body: &[u8]) -> i32 {
    crc32fast::hash(body).cast_signed()
}

/// A field of 32 bits, `after` the one before.
fn number(out: &mut Vec<u8>, after: u8, value: i32) {
    out.push(after << 4 | I32);
    let mut rest = (value << 1 ^ value >> 31).cast_unsigned();
    while rest > 0x7f {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// The format's number of an encoding.
fn code(encoding: Encoding) -> i32 {
    match encoding {
        Encoding::PLAIN => 0,
        Encoding::RLE => 3,
        Encoding::DELTA_BINARY_PACKED => 5,
        Encoding::RLE_DICTIONARY => 8,
        // Nothing else is written here; a reader says so of what is.
        _ => -1,
    }
}

/// The pages of a chunk that the crate wrote, which stand in `bytes` as `chunk` says, each with its checksum; and what is
/// said of them.
pub(super) fn with_sums(
    bytes: &[u8],
    chunk: &ColumnChunkMetaData,
    close: ColumnCloseResult,
) -> Result<(Bytes, ColumnCloseResult)> {
    let lost = || ParquetError::General("a page that is not where it is said to be".into());
    let mut offsets = close.offset_index.ok_or_else(lost)?;
    let place = |at: i64, size: i64| {
        let (at, size) = (usize::try_from(at).ok()?, usize::try_from(size).ok()?);
        bytes.get(at..at.checked_add(size)?)
    };
    let first = offsets.page_locations.first().map_or(0, |page| page.offset);
    let (mut out, mut added) = (Vec::new(), 0);
    // The crate's file tells of places in it, its close of places in the chunk.
    let dictionary = chunk.dictionary_page_offset();
    if let Some(at) = dictionary {
        let size = chunk.data_page_offset() - at;
        added += insert(&mut out, place(at, size).ok_or_else(lost)?).ok_or_else(lost)?;
    }
    let data_page_offset = out.len() as i64;
    let shift = chunk.data_page_offset() - first;
    for page in &mut offsets.page_locations {
        let at = out.len();
        let size = i64::from(page.compressed_page_size);
        added += insert(&mut out, place(page.offset + shift, size).ok_or_else(lost)?).ok_or_else(lost)?;
        page.offset = at as i64;
        page.compressed_page_size = (out.len() - at) as i32;
    }
    let metadata = close
        .metadata
        .into_builder()
        .set_data_page_offset(data_page_offset)
        .set_dictionary_page_offset(dictionary.map(|_| 0))
        .set_total_compressed_size(out.len() as i64)
        .set_total_uncompressed_size(chunk.uncompressed_size() + added as i64)
        .build()?;
    let bytes_written = out.len() as u64;
    let offset_index = Some(offsets);
    Ok((Bytes::from(out), ColumnCloseResult { metadata, bytes_written, offset_index, ..close }))
}

/// Appends a page with the field of its checksum in its header, by how many bytes it grew; `None` where the header is not
/// as the crate writes it.
fn insert(out: &mut Vec<u8>, page: &[u8]) -> Option<usize> {
    let mut at = 0;
    let mut size = 0u64;
    // Kind, size and compressed size.
    for _ in 0..3 {
        if *page.get(at)? != 1 << 4 | I32 {
            return None;
        }
        at += 1;
        (size, at) = varint(page, at)?;
    }
    // Zigzag of what is not negative.
    let body = page.get(page.len().checked_sub(usize::try_from(size / 2).ok()?)?..)?;
    let next = *page.get(at)?;
    let (after, of) = (next >> 4, next & 0xf);
    if after < 2 || of != STRUCT {
        return None;
    }
    let before = out.len();
    out.extend_from_slice(page.get(..at)?);
    number(out, 1, sum(body));
    out.push((after - 1) << 4 | of);
    out.extend_from_slice(page.get(at + 1..)?);
    Some(out.len() - before - page.len())
}

/// A number, and where it ends.
fn varint(bytes: &[u8], mut at: usize) -> Option<(u64, usize)> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.get(at)?;
        at += 1;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some((value, at));
        }
    }
    None
}
