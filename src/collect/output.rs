//! What goes to the writer, and where it writes.

use crate::columns::{Batch, OptionsBatch, Timestamp};
use crate::decode::{self, Learned};
use crate::elements::Registry;
use crate::keep::{self, Store};
use crate::rows::Session;
use crate::rows::netflow_json::NetflowJson;
use crate::sink::{Folder, Format, LastingFile, Line, Lock, LostRows, Place, Writer, options};
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

/// What a receiving thread hands to the writer.
pub enum Item {
    /// Rows.
    Rows {
        /// The thread that wants the batch back.
        from: usize,
        /// The rows.
        batch: Arc<Batch>,
    },
    /// Records of the second stream.
    Options(OptionsBatch),
    /// Lines made from messages.
    Lines {
        /// The lines.
        text: Vec<u8>,
        /// Flow records in them.
        rows: u64,
        /// The same of each exporter.
        by_exporter: Vec<(IpAddr, u64)>,
        /// When the first of their messages was received.
        received: Timestamp,
    },
}

impl Item {
    /// Flow records in it.
    pub fn rows(&self) -> u64 {
        match self {
            Self::Rows { batch, .. } => batch.rows() as u64,
            Self::Options(_) => 0,
            Self::Lines { rows, .. } => *rows,
        }
    }

    /// Bytes that it holds.
    pub(super) fn memory(&self) -> usize {
        match self {
            Self::Rows { batch, .. } => batch.memory(),
            Self::Options(options) => options.memory(),
            Self::Lines { text, .. } => text.len(),
        }
    }
}

/// Which lines are made from messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MessageLines {
    /// Those of Python's `netflow` package.
    NetflowJson,
}

impl MessageLines {
    /// With the bounds that a decoder beside it has, but for exporters, of whom it forgets many at once, told what that one was told of
    /// before a restart.
    pub(super) fn session(self, config: &decode::Config, learned: &[Learned]) -> NetflowJson {
        let session = Session::with_registry(config.registry.clone())
            .with_limits(config.templates, config.held)
            .with_exporters(config.exporters.saturating_add(FORGOTTEN));
        let mut lines = match self {
            Self::NetflowJson => NetflowJson::new(session),
        };
        for one in learned {
            // Of what is wrong with it the decoder tells.
            let _ = lines.lines(&one.message, one.exporter, one.received_at.0, |_| {});
        }
        lines
    }
}

/// Exporters that a session of lines may know beyond those that its decoder knows.
const FORGOTTEN: usize = 4096;

/// What was taken and is lost after all.
#[derive(Clone, Debug, Default)]
pub struct Lost {
    /// Rows.
    pub rows: LostRows,
    /// Options records.
    pub options: LostRows,
}

/// Where a collector writes to. One thread calls it.
pub trait Sink: Send {
    /// Writes what one thread decoded.
    ///
    /// # Errors
    /// Those of the output; the collector stops at the first, but where it [goes on](Self::goes_on).
    fn write(&mut self, item: &Item) -> io::Result<()>;

    /// Whether [`write`](Self::write) does something with such an item; what is passed over is counted.
    fn takes(&self, _item: &Item) -> bool {
        true
    }

    /// Whether nothing is ever written: then there is no writing thread, and batches are used again where they are.
    fn is_nothing(&self) -> bool {
        false
    }

    /// What it keeps, where it does more with it than write it.
    fn keeping(&self) -> Option<Arc<keep::Progress>> {
        None
    }

    /// Whether the collector goes on after an error: the rows are counted as dropped, and the next are tried anew.
    fn goes_on(&self) -> bool {
        false
    }

    /// Tries whether it can be written again after an error, where no rows come that would show it.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    fn probe(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// Where it notes what was taken and is lost after all, when [`tick`](Self::tick), [`write`](Self::write) or
    /// [`finish`](Self::finish) fails.
    fn lost(&self) -> Lost {
        Lost::default()
    }

    /// Time passed: several times a second.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    fn tick(&mut self, now: Timestamp) -> io::Result<()>;

    /// Everything was written.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    fn finish(self: Box<Self>) -> io::Result<()>;
}

/// A [`Sink`] of files, a stream, or nothing.
pub struct Output {
    kind: Kind,
    registry: Arc<Registry>,
    left: Vec<String>,
}

enum Kind {
    None,
    One(Writer),
    File { file: LastingFile, lost: LostRows, takes_messages: bool },
    // The lock is held as long as the folder is written.
    Folder { lock: Lock, flows: Folder, options: Folder },
    Store { flows: Box<Store>, options: Folder },
}

impl Output {
    /// Throws away what comes.
    pub fn none() -> Self {
        Self { kind: Kind::None, registry: Registry::standard().clone(), left: Vec::new() }
    }

    /// One file, or a stream. Options records are not written there, but counted.
    pub fn one(writer: Writer) -> Self {
        Self { kind: Kind::One(writer), registry: Registry::standard().clone(), left: Vec::new() }
    }

    /// One file. Where it is a plain one, it goes on after errors of the disk.
    ///
    /// # Errors
    /// A file that cannot be written to.
    pub fn file(format: Format, path: &Path) -> io::Result<Self> {
        if !Place::is_plain(path) {
            return Ok(Self::one(Writer::to_file(format, path)?));
        }
        let left = LastingFile::keep_left(format, path)?.into_iter().collect();
        let lost = LostRows::default();
        let file = LastingFile::create(format, path, lost.clone())?;
        let kind = Kind::File { file, lost, takes_messages: format == Format::NetflowJson };
        Ok(Self { kind, registry: Registry::standard().clone(), left })
    }

    /// A folder with a file every so many microseconds, and `options/` in it for the second stream.
    ///
    /// # Errors
    /// A folder that cannot be written to; [`io::ErrorKind::WouldBlock`] where another process writes to it.
    pub fn folder(path: &Path, format: Format, stretch_us: i64, registry: Arc<Registry>) -> io::Result<Self> {
        let taken = "another process writes here; give --out another folder, or end that process".to_string();
        let lock = Lock::take(path.join(".lock"), taken)?;
        let flows = Folder::open(path, None, format, stretch_us)?;
        let options = Folder::open(&path.join("options"), None, Format::Ndjson, stretch_us)?;
        let left = [flows.keep_left()?, options.keep_left()?].concat();
        Ok(Self { kind: Kind::Folder { lock, flows, options }, registry, left })
    }

    /// A folder in which flows are kept as Parquet, and outlive a crash; `options/` in it is for the second stream.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn store(path: &Path, options: keep::Options, registry: Arc<Registry>) -> io::Result<Self> {
        let (stretch_us, node) = (options.stretch_us, options.node.clone());
        // Its lock is that of the node's options files, too.
        let flows = Box::new(Store::open(path, options)?);
        let options = Folder::open(&path.join("options"), Some(&node), Format::Ndjson, stretch_us)?;
        let left = [options.keep_left()?, keep::left_by_others(path, &node)?].concat();
        Ok(Self { kind: Kind::Store { flows, options }, registry, left })
    }

    /// What a process before did not end and is kept, to be said.
    pub fn left(&self) -> &[String] {
        &self.left
    }
}

impl Sink for Output {
    fn write(&mut self, item: &Item) -> io::Result<()> {
        match (&mut self.kind, item) {
            (Kind::One(writer), Item::Rows { batch, .. }) => writer.write(batch, batch.runs()),
            (Kind::One(writer), Item::Lines { text, .. }) => writer.write_text(text),
            (Kind::File { file, .. }, Item::Rows { batch, .. }) => file.write(batch, batch.runs()),
            (Kind::File { file, .. }, Item::Lines { text, by_exporter, .. }) => file.write_text(text, by_exporter),
            (Kind::Folder { flows, .. }, Item::Rows { batch, .. }) => flows.write(batch),
            (Kind::Folder { flows, .. }, Item::Lines { text, received, by_exporter, .. }) => {
                flows.write_text(text, received.0, by_exporter)
            }
            (Kind::Store { flows, .. }, Item::Rows { batch, .. }) => flows.write(batch),
            (Kind::Folder { options: folder, .. } | Kind::Store { options: folder, .. }, Item::Options(records)) => {
                let (mut text, mut lines) = (Vec::new(), Vec::with_capacity(records.len()));
                for record in records.iter() {
                    let (start, meta) = (text.len(), record.meta);
                    options::ndjson(&mut text, &record, &self.registry);
                    let (received_us, exporter) = (meta.received_at.0, meta.exporter.ip());
                    lines.push(Line { received_us, exporter, bytes: text.len() - start });
                }
                folder.write_lines(&text, &lines)
            }
            (Kind::None, _)
            | (Kind::One(_) | Kind::File { .. }, Item::Options(_))
            | (Kind::Store { .. }, Item::Lines { .. }) => Ok(()),
        }
    }

    fn takes(&self, item: &Item) -> bool {
        match &self.kind {
            Kind::One(writer) => writer.takes_messages() || !matches!(item, Item::Options(_)),
            Kind::File { takes_messages, .. } => *takes_messages || !matches!(item, Item::Options(_)),
            Kind::None | Kind::Folder { .. } | Kind::Store { .. } => true,
        }
    }

    fn keeping(&self) -> Option<Arc<keep::Progress>> {
        match &self.kind {
            Kind::Store { flows, .. } => Some(flows.progress().clone()),
            _ => None,
        }
    }

    fn goes_on(&self) -> bool {
        matches!(self.kind, Kind::Store { .. } | Kind::Folder { .. } | Kind::File { .. })
    }

    fn probe(&mut self) -> io::Result<()> {
        match &mut self.kind {
            Kind::Store { flows, .. } => flows.probe(),
            Kind::Folder { flows, .. } => flows.probe(),
            // What could not be written waits, and is tried.
            Kind::File { file, .. } => file.flush(),
            Kind::None | Kind::One(_) => Ok(()),
        }
    }

    fn lost(&self) -> Lost {
        match &self.kind {
            Kind::File { lost, .. } => Lost { rows: lost.clone(), ..Lost::default() },
            Kind::Folder { flows, options, .. } => Lost { rows: flows.lost().clone(), options: options.lost().clone() },
            Kind::Store { flows, options } => Lost { rows: flows.lost().clone(), options: options.lost().clone() },
            Kind::None | Kind::One(_) => Lost::default(),
        }
    }

    fn is_nothing(&self) -> bool {
        matches!(self.kind, Kind::None)
    }

    fn tick(&mut self, now: Timestamp) -> io::Result<()> {
        match &mut self.kind {
            Kind::None => Ok(()),
            Kind::One(writer) => writer.flush(),
            Kind::File { file, .. } => file.flush(),
            Kind::Folder { lock, flows, options } => {
                lock.renew().map(drop).and(flows.tick(now.0)).and(options.tick(now.0))
            }
            Kind::Store { flows, options } => flows.tick(now.0).and(options.tick(now.0)),
        }
    }

    fn finish(self: Box<Self>) -> io::Result<()> {
        match self.kind {
            Kind::None => Ok(()),
            Kind::One(writer) => writer.finish(),
            Kind::File { file, .. } => file.finish(),
            Kind::Folder { flows, options, .. } => flows.finish().and(options.finish()),
            // What is kept first: both are tried.
            Kind::Store { flows, options } => flows.finish().and(options.finish()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::{Config, Decoder};
    use std::fs;
    use std::path::PathBuf;

    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("flowlane-output-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            Self(path)
        }

        /// The files of its options records, and their lines.
        fn options(&self) -> Vec<(String, usize)> {
            let files = fs::read_dir(self.0.join("options")).expect("a folder").map(|f| f.expect("a file").path());
            let mut found: Vec<_> = files
                .map(|path| {
                    let name = path.file_name().expect("a name").to_string_lossy().into_owned();
                    (name, fs::read_to_string(path).expect("text").lines().count())
                })
                .collect();
            found.sort();
            found
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    const TEN_PAST_TEN: i64 = 1_699_999_800_000_000;

    /// An options record.
    fn options() -> Item {
        let sets: [&[u16]; 2] = [&[3, 18, 256, 2, 1, 149, 4, 41, 8], &[256, 16, 0, 7, 0, 0, 0, 9]];
        let mut bytes: Vec<u8> = [10u16, 50, 0, 0, 0, 0, 0, 0].iter().flat_map(|n| n.to_be_bytes()).collect();
        bytes.extend(sets.concat().iter().flat_map(|n| n.to_be_bytes()));
        let mut decoder = Decoder::new(Config::default());
        decoder.decode(&bytes, ([192, 0, 2, 1], 2055).into(), Timestamp(TEN_PAST_TEN));
        Item::Options(decoder.next_options().expect("a record"))
    }

    fn store(root: &Path, node: &str) -> Output {
        let options = keep::Options { node: node.to_string(), ..keep::Options::default() };
        Output::store(root, options, Registry::standard().clone()).expect("a store")
    }

    #[test]
    fn options_records_of_two_nodes_stand_in_files_of_their_own() {
        let scratch = Scratch::new("nodes");
        let mut nodes = ["a", "b"].map(|node| store(&scratch.0, node));
        nodes.iter_mut().for_each(|node| node.write(&options()).expect("written"));
        nodes.into_iter().for_each(|node| Box::new(node).finish().expect("ended"));
        let expected = ["a", "b"].map(|node| (format!("{node}-20231114T221000Z.ndjson"), 1));
        assert_eq!(scratch.options(), expected);
    }

    #[test]
    fn options_records_outlive_a_kill_and_the_next_of_their_stretch() {
        let scratch = Scratch::new("killed");
        fs::create_dir_all(scratch.0.join("options")).expect("a folder");
        let left = |node: &str| scratch.0.join(format!("options/.{node}-20231114T221000Z.ndjson.tmp"));
        ["a", "b"].iter().for_each(|node| fs::write(left(node), "{}\n{}\n{").expect("written"));
        let mut a = store(&scratch.0, "a");
        assert_eq!(a.left().len(), 1, "{:?}", a.left());
        a.write(&options()).expect("written");
        Box::new(a).finish().expect("ended");
        let own = |end: &str| format!("a-20231114T221000Z{end}.ndjson");
        assert_eq!(
            scratch.options(),
            [(left("b").file_name().expect("a name").to_string_lossy().into(), 3), (own("-2"), 1), (own(""), 2)]
        );
    }

    #[test]
    fn a_folder_of_text_is_one_process() {
        let scratch = Scratch::new("one");
        let open = || Output::folder(&scratch.0, Format::Csv, 1, Registry::standard().clone());
        let mut first = open().expect("a folder");
        let refused = open().err().expect("refused");
        assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
        assert!(refused.to_string().contains("--out"), "{refused}");
        // Its lock comes again with the folder.
        fs::remove_dir_all(&scratch.0).expect("removed");
        first.tick(Timestamp(0)).expect("made anew");
        assert_eq!(open().err().expect("refused").kind(), io::ErrorKind::WouldBlock);
        Box::new(first).finish().expect("ended");
        open().expect("free again");
    }
}
