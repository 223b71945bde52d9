//! Where output goes: a folder, a file, or standard output.

use anyhow::Context;
use flowlane::sink::{Format, Writer};
use std::fmt;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// The value of `--out`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Out {
    /// `-`
    Standard,
    /// What exists as a folder, ends in `/`, or has no extension.
    Folder(PathBuf),
    /// Anything else.
    File(PathBuf),
}

impl FromStr for Out {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() {
            return Err("that is no place: accepted are a folder, a file, or - for standard output".to_string());
        }
        let path = PathBuf::from(text);
        Ok(match std::fs::metadata(&path) {
            _ if text == "-" => Self::Standard,
            Ok(found) if found.is_dir() => Self::Folder(path),
            Ok(_) => Self::File(path),
            Err(_) if text.ends_with('/') || path.extension().is_none() => Self::Folder(path),
            Err(_) => Self::File(path),
        })
    }
}

impl Out {
    /// What the extension of a file says.
    pub fn format(&self) -> Option<Format> {
        let Self::File(path) = self else { return None };
        let all = [Format::Parquet, Format::Arrow, Format::Ndjson, Format::Csv];
        let extension = path.extension()?.to_str()?.to_ascii_lowercase();
        all.into_iter().find(|f| f.extension() == extension)
    }

    /// Whether it is this very file, under whatever name.
    pub fn is(&self, other: &Path) -> bool {
        use std::os::unix::fs::MetadataExt;
        let Self::File(path) = self else { return false };
        match (std::fs::metadata(path), std::fs::metadata(other)) {
            (Ok(a), Ok(b)) => a.is_file() && (a.dev(), a.ino()) == (b.dev(), b.ino()),
            _ => false,
        }
    }
}

impl fmt::Display for Out {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Standard => f.write_str("standard output"),
            Self::Folder(path) => write!(f, "{}/", path.display().to_string().trim_end_matches('/')),
            Self::File(path) => write!(f, "{}", path.display()),
        }
    }
}

/// A stretch of time: `90s`, `5m`, `1h`, `1d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// In seconds, above zero.
    pub seconds: u64,
}

impl Span {
    /// In microseconds.
    pub fn us(self) -> i64 {
        i64::try_from(self.seconds).unwrap_or(i64::MAX).saturating_mul(1_000_000)
    }
}

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || "a time is a number with s, m, h or d, like 30s, 5m or 1h".to_string();
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let unit = match text.get(digits.len()..).unwrap_or_default() {
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            "d" => 86_400,
            _ => return Err(wrong()),
        };
        let seconds = digits.parse::<u64>().ok().and_then(|n| n.checked_mul(unit)).filter(|n| *n <= 86_400 * 366);
        match seconds {
            Some(0) | None => Err(wrong()),
            Some(seconds) => Ok(Self { seconds }),
        }
    }
}

/// A number of bytes: `500M`, `200G`, `2T`, of 1024 or (`GB`) of 1000.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Bytes.
    pub bytes: u64,
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || "a size is a number with K, M, G or T, like 500M or 2T".to_string();
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let unit = text.get(digits.len()..).unwrap_or_default().to_ascii_uppercase();
        let (letter, base) = match unit.strip_suffix("IB").or_else(|| unit.strip_suffix('I')) {
            Some(letter) => (letter, 1024u64),
            None => {
                unit.strip_suffix('B').map_or((unit.as_str(), 1024), |l| (l, if l.is_empty() { 1024 } else { 1000 }))
            }
        };
        let power = match letter {
            "" => 0,
            "K" => 1,
            "M" => 2,
            "G" => 3,
            "T" => 4,
            "P" => 5,
            _ => return Err(wrong()),
        };
        let bytes = digits.parse::<u64>().ok().and_then(|n| n.checked_mul(base.pow(power)));
        bytes.map(|bytes| Self { bytes }).ok_or_else(wrong)
    }
}

/// Standard output as a sink's stream.
pub fn standard() -> Box<dyn Write + Send> {
    Box::new(io::stdout())
}

/// A writer to a file, with an error that names it.
pub fn file(format: Format, path: &Path) -> anyhow::Result<Writer> {
    Writer::to_file(format, path).with_context(|| cannot_write(path))
}

/// What to do where a file cannot be begun.
pub fn cannot_write(path: &Path) -> String {
    format!("cannot write {}; give --out a file in a folder that exists and may be written to", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans() {
        assert_eq!("5m".parse(), Ok(Span { seconds: 300 }));
        assert_eq!("90s".parse(), Ok(Span { seconds: 90 }));
        for wrong in ["", "5", "0m", "m", "5w", "-1s", "1.5h", "99999999999999999999d", "5\u{e9}"] {
            assert!(wrong.parse::<Span>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn sizes() {
        for (text, bytes) in
            [("7", 7), ("7B", 7), ("2K", 2048), ("2KiB", 2048), ("2kB", 2000), ("3G", 3 << 30), ("1T", 1 << 40)]
        {
            assert_eq!(text.parse(), Ok(Size { bytes }), "{text}");
        }
        for wrong in ["", "G", "-1G", "1.5G", "1X", "99999999999P"] {
            assert!(wrong.parse::<Size>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn places() {
        assert!("".parse::<Out>().is_err());
        assert_eq!("-".parse(), Ok(Out::Standard));
        assert_eq!("no/such/flows".parse(), Ok(Out::Folder("no/such/flows".into())));
        assert_eq!("no/such/flows.d/".parse(), Ok(Out::Folder("no/such/flows.d/".into())));
        assert_eq!("no/such/flows.csv".parse(), Ok(Out::File("no/such/flows.csv".into())));
        assert_eq!("/dev/null".parse(), Ok(Out::File("/dev/null".into())));
    }
}
