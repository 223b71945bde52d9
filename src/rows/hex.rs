//! Hex text.

use crate::error::Error;
use std::fmt;

/// Text that is no hex: a wrong digit, or an odd number of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HexError {
    /// The byte of the text at which it shows.
    pub offset: usize,
}

impl fmt::Display for HexError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no pair of hex digits at byte {}", self.offset)
    }
}

impl std::error::Error for HexError {}

/// The bytes of hex text; white space is passed over.
///
/// # Errors
/// Anything that is no hex digit, or half a byte at the end.
pub fn decode_hex(text: &str) -> Result<Vec<u8>, HexError> {
    let mut bytes = Vec::with_capacity(text.len() / 2);
    append(text, &mut bytes)?;
    Ok(bytes)
}

pub(super) fn append(text: &str, bytes: &mut Vec<u8>) -> Result<(), HexError> {
    let mut high = None;
    for (offset, c) in text.char_indices().filter(|(_, c)| !c.is_whitespace()) {
        let digit = c.to_digit(16).ok_or(HexError { offset })? as u8;
        match high.take() {
            None => high = Some(digit),
            Some(high) => bytes.push(high << 4 | digit),
        }
    }
    if high.is_some() { Err(HexError { offset: text.len() }) } else { Ok(()) }
}

/// What reading hex text can fail with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ParseHexError {
    /// The text is not hex.
    Hex(HexError),
    /// The bytes are no message.
    Message(Error),
}

impl fmt::Display for ParseHexError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hex(e) => e.fmt(f),
            Self::Message(e) => e.fmt(f),
        }
    }
}

impl std::error::Error for ParseHexError {}
