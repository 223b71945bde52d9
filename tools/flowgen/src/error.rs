//! What can go wrong before or while something is sent.

use std::{fmt, io};

/// Why nothing, or no more, was sent.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// What was asked for is not possible; the text says what would be.
    Asked(String),
    /// The system refused; the text says what.
    System(String, io::Error),
    /// A capture file cannot be read.
    Capture(String),
}

impl Error {
    pub(crate) fn asked(text: impl Into<String>) -> Self {
        Self::Asked(text.into())
    }

    pub(crate) fn system(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        |error| Self::System(what.into(), error)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Asked(text) | Self::Capture(text) => f.write_str(text),
            Self::System(what, error) => write!(f, "{what}: {error}"),
        }
    }
}

impl std::error::Error for Error {}
