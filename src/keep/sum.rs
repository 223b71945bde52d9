//! A checksum of each batch in a hot segment, where other readers of Arrow see padding.
//!
//! A message is a mark, the length of what is said of it, that, and a body. What is said of it may have padding at its end,
//! which readers pass over: there stands the CRC-32 of the schema's message, of what is said of the batch, and of its body.

use arrow_buffer::Buffer;
use std::io;

/// Padding before bodies is a multiple of this, so that they stay aligned.
const PADDING: usize = 64;

/// What the padding begins with.
const MAGIC: &[u8; 8] = b"flowcrc1";

/// Bytes before what is said of a message.
const HEAD: usize = 8;

/// Of a schema's message and the parts of a batch: what stands before the body, with its checksum, and the body.
pub(super) fn with_sum(schema: &[u8], parts: Vec<Buffer>) -> io::Result<(Vec<u8>, Vec<Buffer>)> {
    let lost = || io::Error::other("a stream of another kind");
    let mut head = schema.to_vec();
    let at = head.len();
    // What is said of a batch is small, and in parts of its own.
    let mut parts = parts.into_iter();
    while head.len() < at + HEAD {
        head.extend_from_slice(&parts.next().ok_or_else(lost)?);
    }
    let end = at + HEAD + size(&head, at).ok_or_else(lost)?;
    while head.len() < end {
        head.extend_from_slice(&parts.next().ok_or_else(lost)?);
    }
    if head.len() != end {
        return Err(lost());
    }
    let body: Vec<Buffer> = parts.collect();
    let mut sum = crc32fast::Hasher::new();
    [Some(schema), head.get(at + HEAD..)].into_iter().flatten().for_each(|part| sum.update(part));
    body.iter().for_each(|part| sum.update(part));
    let larger = size(&head, at).and_then(|n| u32::try_from(n + PADDING).ok()).ok_or_else(lost)?;
    head.get_mut(at + 4..at + HEAD).ok_or_else(lost)?.copy_from_slice(&larger.to_le_bytes());
    head.extend_from_slice(MAGIC);
    head.extend_from_slice(&sum.finalize().to_le_bytes());
    head.resize(head.len() + PADDING - MAGIC.len() - 4, 0);
    Ok((head, body))
}

/// Whether a batch is as it was written, by the messages of its schema and of itself. One without a checksum is.
pub(super) fn check(schema: &[u8], message: &[u8]) -> Result<(), &'static str> {
    let end = HEAD + size(message, 0).ok_or("cut")?;
    let padding = end.checked_sub(PADDING).and_then(|at| message.get(at..end));
    let Some(padding) = padding.filter(|p| p.starts_with(MAGIC)) else { return Ok(()) };
    let said = padding.get(MAGIC.len()..).and_then(|p| p.first_chunk()).map(|b| u32::from_le_bytes(*b));
    let mut sum = crc32fast::Hasher::new();
    let (batch, body) = (message.get(HEAD..end - PADDING), message.get(end..));
    [Some(schema), batch, body].into_iter().flatten().for_each(|part| sum.update(part));
    if said == Some(sum.finalize()) { Ok(()) } else { Err("they are not as they were written (CRC)") }
}

/// How long that is which is said of the message at a place.
fn size(bytes: &[u8], at: usize) -> Option<usize> {
    let length = bytes.get(at + 4..at + HEAD)?.first_chunk()?;
    usize::try_from(u32::from_le_bytes(*length)).ok()
}
