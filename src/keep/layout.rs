//! Names of files and folders.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Microseconds of an hour.
pub(super) const HOUR_US: i64 = 3_600_000_000;

/// What a node may be called: letters, digits and `_`.
pub(super) fn is_node(name: &str) -> bool {
    !name.is_empty() && name.len() <= 64 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// A name that a node may have, as it is.
///
/// # Errors
/// Why it may not, and what it may be in place of that.
pub fn node(name: &str) -> Result<String, String> {
    if is_node(name) {
        return Ok(name.to_string());
    }
    let near: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).take(64).collect();
    let advice = if near.is_empty() { String::new() } else { format!(", like {near}") };
    Err(format!("a node's name has letters, digits and _ alone, 1 to 64 of them{advice}"))
}

/// The name of this host as a node: what is no letter or digit becomes `_`.
pub fn default_node() -> String {
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name: String = host.trim().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).take(64).collect();
    if is_node(&name) { name } else { "node".to_string() }
}

/// Where a node's hot segments are.
pub(super) fn hot_folder(root: &Path, node: &str) -> PathBuf {
    root.join(".hot").join(node)
}

/// What the name of a segment ends with that is put aside, for whoever wants to know: what could be read of it is sealed.
pub(super) const DAMAGED: &str = "damaged";

/// Segments of all nodes that are put aside.
pub(super) fn damaged_segments(root: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for folder in entries(&root.join(".hot"))?.into_iter().filter(|p| p.is_dir()) {
        let is_damaged = |path: &PathBuf| path.extension().is_some_and(|e| e.to_string_lossy().starts_with(DAMAGED));
        found.extend(entries(&folder)?.into_iter().filter(is_damaged));
    }
    found.sort();
    Ok(found)
}

/// The segments of a folder, the oldest first.
pub(super) fn segments(folder: &Path) -> io::Result<Vec<(i64, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let id = path.file_name().and_then(|n| n.to_str()?.strip_suffix(".arrows")?.parse().ok());
        found.extend(id.map(|id| (id, path)));
    }
    found.sort();
    Ok(found)
}

/// A segment that is not sealed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HotSegment {
    /// When it was begun, microseconds since 1970.
    pub segment: i64,
    /// Who writes it.
    pub node: String,
    /// Its path.
    pub path: PathBuf,
}

/// Whether a file is a segment by its name.
pub(super) fn is_segment(path: &Path) -> bool {
    path.extension().is_some_and(|e| e == "arrows")
}

/// The hot segments of all nodes in a folder, the oldest first.
fn hot_segments(root: &Path) -> io::Result<Vec<HotSegment>> {
    let mut found = Vec::new();
    for folder in entries(&root.join(".hot"))?.into_iter().filter(|p| p.is_dir()) {
        let node = folder.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        found.extend(segments(&folder)?.into_iter().map(|(segment, path)| HotSegment {
            segment,
            node: node.clone(),
            path,
        }));
    }
    found.sort();
    Ok(found)
}

/// The folder of an hour that begins `us` microseconds after 1970.
pub(super) fn hour_folder(root: &Path, us: i64) -> PathBuf {
    let mut text = Vec::new();
    crate::sink::text::time(&mut text, us);
    let text = String::from_utf8(text).unwrap_or_default();
    let (date, hour) = (text.get(..10).unwrap_or("0000-00-00"), text.get(11..13).unwrap_or("00"));
    root.join(format!("date={date}")).join(format!("hour={hour}"))
}

/// A sealed file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SealedFile {
    /// `YYYY-MM-DD` of the time received, UTC.
    pub date: String,
    /// The hour, 0 to 23.
    pub hour: u8,
    /// When its segment was begun, microseconds since 1970; the first of them where it has the rows of several.
    pub segment: i64,
    /// The last of its segments.
    pub last: i64,
    /// Which of the segment's files, over all hours. Number 0 is the last to get its name.
    pub part: u32,
    /// Who wrote it.
    pub node: String,
    /// Its path.
    pub path: PathBuf,
    /// Its length.
    pub bytes: u64,
}

impl SealedFile {
    /// Whether all rows of a segment are in sealed files because this one is there.
    pub(super) fn ends(&self, node: &str, segment: i64) -> bool {
        let is_last = self.part == 0 || self.last > self.segment;
        is_last && self.node == node && (self.segment..=self.last).contains(&segment)
    }

    /// Whether it has all rows that the other has.
    pub(super) fn covers(&self, other: &Self) -> bool {
        let is_wider = (self.segment, self.last) != (other.segment, other.last);
        let is_within = self.segment <= other.segment && other.last <= self.last;
        is_wider && is_within && self.node == other.node && (self.hour, &self.date) == (other.hour, &other.date)
    }
}

/// What is in the folders of hours.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// Files whose rows count, by the hour received.
    pub(super) sealed: Vec<SealedFile>,
    /// Files whose rows stand in another that has those of several.
    pub(super) covered: Vec<SealedFile>,
    /// Files that were not finished.
    pub(super) unfinished: Vec<PathBuf>,
}

/// The files of all nodes in a folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Sealed files, by the hour received.
    pub sealed: Vec<SealedFile>,
    /// Segments whose rows are in none of them, the oldest first.
    pub hot: Vec<HotSegment>,
    /// Files that do not count: they were not finished, or their rows stand in one of the others.
    pub passed_over: Vec<PathBuf>,
}

/// What is to be read in a folder, so that each row is found once.
///
/// # Errors
/// Those of the file system; a folder that goes away meanwhile is passed over.
pub fn found(root: &Path) -> io::Result<Found> {
    // Hot segments are listed before sealed files: what is sealed meanwhile is found once, as the file.
    let hot = hot_segments(root)?;
    let Listing { sealed, covered, unfinished } = listing(root)?;
    let is_sealed = |hot: &HotSegment| sealed.iter().any(|f| f.ends(&hot.node, hot.segment));
    let (gone, hot): (Vec<_>, Vec<_>) = hot.into_iter().partition(is_sealed);
    // Between two names of a segment's files the rows are those of the segment.
    let is_early = |f: &SealedFile| hot.iter().any(|h| (&h.node, h.segment, h.segment) == (&f.node, f.segment, f.last));
    let (early, sealed): (Vec<_>, Vec<_>) = sealed.into_iter().partition(is_early);
    let others = covered.into_iter().chain(early).map(|f| f.path);
    let passed_over = unfinished.into_iter().chain(others).chain(gone.into_iter().map(|h| h.path)).collect();
    Ok(Found { sealed, hot, passed_over })
}

/// What other nodes left in a folder, to be said: segments that nobody has written to for a minute. No other seals them, and a machine or a
/// container that got a new name is another node.
pub(crate) fn left_by_others(root: &Path, node: &str) -> io::Result<Vec<String>> {
    let mut others: BTreeMap<String, (u64, Duration)> = BTreeMap::new();
    for segment in hot_segments(root)?.into_iter().filter(|segment| segment.node != node) {
        let written = fs::metadata(&segment.path).and_then(|about| about.modified());
        let since = written.ok().and_then(|at| at.elapsed().ok()).unwrap_or_default();
        let (segments, quiet) = others.entry(segment.node).or_insert((0, since));
        (*segments, *quiet) = (*segments + 1, since.min(*quiet));
    }
    others.retain(|_, (_, quiet)| *quiet >= QUIET);
    let said = |(other, (segments, quiet)): (String, (u64, Duration))| {
        format!(
            "{segments} segments of the node {other} were last written {} s ago: only a collector with --node {other} seals them",
            quiet.as_secs()
        )
    };
    Ok(others.into_iter().map(said).collect())
}

/// How long ago a segment was written that is said to be left.
const QUIET: Duration = Duration::from_secs(60);

/// The sealed files of all nodes in a folder, by the hour received; and files that do not count, because they were not
/// finished or their rows stand in one that has those of several.
///
/// # Errors
/// As [`found`].
pub fn sealed_files(root: &Path) -> io::Result<(Vec<SealedFile>, Vec<PathBuf>)> {
    let Listing { sealed, covered, mut unfinished } = listing(root)?;
    unfinished.extend(covered.into_iter().map(|f| f.path));
    Ok((sealed, unfinished))
}

/// The files that a segment was sealed to, whether their rows stand in another by now or not.
///
/// # Errors
/// As [`found`].
pub fn files_of_segment(root: &Path, node: &str, segment: i64) -> io::Result<Vec<SealedFile>> {
    let Listing { sealed, covered, .. } = listing(root)?;
    let mut files: Vec<SealedFile> = sealed.into_iter().chain(covered).collect();
    files.retain(|f| f.node == node && (f.segment, f.last) == (segment, segment));
    Ok(files)
}

pub(super) fn listing(root: &Path) -> io::Result<Listing> {
    let (mut sealed, mut unfinished) = (Vec::new(), Vec::new());
    for (date, days) in folders(root, "date=")? {
        for (hour, path) in folders(&days, "hour=")? {
            let Ok(hour) = hour.parse() else { continue };
            for entry in entries(&path)? {
                let name = entry.file_name().and_then(|n| n.to_str()).unwrap_or_default().to_string();
                if name.starts_with('.') && name.ends_with(".parquet.tmp") {
                    unfinished.push(entry);
                } else if let Some((node, segment, last, part)) = name_parts(&name) {
                    let Ok(bytes) = fs::metadata(&entry).map(|m| m.len()) else { continue };
                    sealed.push(SealedFile { date: date.clone(), hour, segment, last, part, node, path: entry, bytes });
                }
            }
        }
    }
    sealed.sort();
    let wide: Vec<SealedFile> = sealed.iter().filter(|f| f.last > f.segment).cloned().collect();
    let (covered, sealed) = sealed.into_iter().partition(|file| wide.iter().any(|w| w.covers(file)));
    Ok(Listing { sealed, covered, unfinished })
}

/// `<node>-<segment>-<part>.parquet`.
pub(super) fn sealed_name(node: &str, segment: i64, part: u32) -> String {
    format!("{node}-{segment}-{part}.parquet")
}

/// `<node>-<first segment>-<last>-0.parquet`, of a file that has the rows of all files of the hour between them.
pub(super) fn compacted_name(node: &str, first: i64, last: i64) -> String {
    format!("{node}-{first}-{last}-0.parquet")
}

fn name_parts(name: &str) -> Option<(String, i64, i64, u32)> {
    let parts: Vec<&str> = name.strip_suffix(".parquet")?.split('-').collect();
    let (node, first, last, part) = match parts[..] {
        [node, segment, part] => (node, segment, segment, part),
        [node, first, last, part] => (node, first, last, part),
        _ => return None,
    };
    let found = (node.to_string(), first.parse().ok()?, last.parse().ok()?, part.parse().ok()?);
    is_node(node).then_some(found)
}

fn folders(root: &Path, prefix: &str) -> io::Result<Vec<(String, PathBuf)>> {
    let named = entries(root)?.into_iter().filter_map(|path| {
        let value = path.file_name()?.to_str()?.strip_prefix(prefix)?.to_string();
        path.is_dir().then_some((value, path))
    });
    Ok(named.collect())
}

fn entries(folder: &Path) -> io::Result<Vec<PathBuf>> {
    match fs::read_dir(folder) {
        Ok(found) => found.map(|e| e.map(|e| e.path())).collect(),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(e),
    }
}
