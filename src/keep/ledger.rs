//! The ledger on disk: what a collector received and lost, a line a minute beside its flows.
//!
//! `ledger/<node>-YYYY-MM-DD.ndjson`, by the day, UTC, in which the line's time ends. A line is the difference to the one before it,
//! so that sums over any time, and over restarts, are sums of lines.

use super::layout::is_node;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

/// What there is to count, by name: `datagrams`, `rows`, `written` and `filtered` are what came, stayed, and was left out as
/// asked; the others are what was lost.
///
/// Names that are not known are kept: a later version counts more.
pub type Counts = BTreeMap<String, u64>;

/// The counts that tell of something lost, the gravest first.
pub const LOST: &[&str] = &[
    "kernel_drops",
    "missing",
    "rows_dropped",
    "options_dropped",
    "malformed",
    "sets_malformed",
    "sets_without_room",
    "sets_expired",
    "sets_dropped",
    "limited",
    "truncated",
    "refused",
    "connections_malformed",
    "connections_failed",
    "connections_limited",
];

/// A stretch of time, and what was counted in it. As JSON it is a line of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stretch {
    /// When it begins, microseconds since 1970.
    pub from: i64,
    /// When it ends.
    pub to: i64,
    /// All exporters.
    pub total: Counts,
    /// Those of which something was lost, by address.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub exporters: BTreeMap<String, Counts>,
}

/// Bytes of a line that is read.
const LINE: u64 = 16 << 20;

/// Appends a stretch, whole or not at all but for a machine that fails.
///
/// # Errors
/// Those of the file system.
pub fn append(root: &Path, node: &str, stretch: &Stretch) -> io::Result<()> {
    let folder = root.join("ledger");
    fs::create_dir_all(&folder)?;
    let mut line = serde_json::to_vec(stretch)?;
    line.push(b'\n');
    let path = folder.join(format!("{node}-{}.ndjson", day(stretch.to)));
    OpenOptions::new().append(true).create(true).open(path)?.write_all(&line)
}

/// The stretches of all nodes that end after `from_us` and begin before `to_us`, and how many lines cannot be read.
///
/// # Errors
/// Those of the file system; a folder without a ledger has no stretch.
pub fn read(root: &Path, from_us: i64, to_us: i64) -> io::Result<(Vec<Stretch>, u64)> {
    let (mut found, mut damaged) = (Vec::new(), 0);
    for (first_day, path) in files(root, |_| true)? {
        if first_day < day(from_us) || first_day > day(to_us.saturating_add(86_400_000_000)) {
            continue;
        }
        let mut lines = BufReader::new(fs::File::open(&path)?);
        let mut line = Vec::new();
        while io::Read::take(&mut lines, LINE).read_until(b'\n', &mut line)? > 0 {
            match serde_json::from_slice::<Stretch>(&line) {
                Ok(stretch) if stretch.to > from_us && stretch.from < to_us => found.push(stretch),
                Ok(_) => {}
                Err(_) => damaged += 1,
            }
            line.clear();
        }
    }
    found.sort_by_key(|s| (s.from, s.to));
    Ok((found, damaged))
}

/// Removes a node's ledger of days before one, `YYYY-MM-DD`, of which no flows are left.
pub(super) fn retire(root: &Path, node: &str, before: &str) -> io::Result<()> {
    for (_, path) in files(root, |name| name == node)?.into_iter().filter(|f| f.0.as_str() < before) {
        match fs::remove_file(path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
    }
    Ok(())
}

/// The days and the paths of ledgers, of some nodes.
fn files(root: &Path, of: impl Fn(&str) -> bool) -> io::Result<Vec<(String, PathBuf)>> {
    let entries = match fs::read_dir(root.join("ledger")) {
        Ok(entries) => entries,
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return Ok(Vec::new()),
        Err(e) => return Err(e),
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let Some(name) = path.file_name().and_then(|n| n.to_str()?.strip_suffix(".ndjson")) else { continue };
        // No node has a `-` in its name.
        let Some((_, date)) = name.split_once('-').filter(|n| is_node(n.0) && of(n.0)) else { continue };
        found.push((date.to_string(), path.clone()));
    }
    found.sort();
    Ok(found)
}

fn day(us: i64) -> String {
    let mut text = Vec::new();
    crate::sink::text::time(&mut text, us);
    text.truncate(10);
    String::from_utf8(text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: i64 = 60_000_000;

    fn stretch(from: i64, missing: u64) -> Stretch {
        let total = Counts::from([("datagrams".to_string(), 10), ("missing".to_string(), missing)]);
        Stretch { from, to: from + MINUTE, total, exporters: BTreeMap::new() }
    }

    #[test]
    fn what_is_appended_is_read_by_its_time() {
        let root = std::env::temp_dir().join(format!("flowlane-ledger-{}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        assert_eq!(read(&root, 0, i64::MAX).expect("no folder"), (Vec::new(), 0));
        // Around midnight: two files.
        let midnight = 1_700_006_400_000_000;
        let all: Vec<Stretch> = (-2..2).map(|n| stretch(midnight + n * MINUTE, n.unsigned_abs())).collect();
        for one in &all {
            append(&root, "a", one).expect("a line");
        }
        append(&root, "b", &stretch(midnight, 7)).expect("a line");
        assert_eq!(fs::read_dir(root.join("ledger")).expect("a folder").count(), 3);
        let (found, damaged) = read(&root, midnight - MINUTE, midnight + 1).expect("lines");
        assert_eq!((found.len(), damaged), (3, 0));
        assert_eq!(found.first(), all.get(1));
        // A torn line costs itself.
        fs::write(root.join("ledger/a-2023-11-16.ndjson"), "{\"from\":1,\"to").expect("a file");
        assert_eq!(read(&root, 0, i64::MAX).expect("lines").1, 1);
        retire(&root, "a", "2023-11-16").expect("removed");
        assert!(root.join("ledger/b-2023-11-15.ndjson").exists());
        assert!(!root.join("ledger/a-2023-11-15.ndjson").exists());
        fs::remove_dir_all(&root).expect("cleaned");
    }
}
