//! What is in a hot segment.

use super::segment::{EOS, SEGMENT};
use super::spare::{self, END};
use super::sum;
use crate::columns::AlignedBuf;
use crate::sink::io_error;
use arrow_array::RecordBatch;
use arrow_buffer::Buffer;
use arrow_ipc::convert::try_fb_to_schema;
use arrow_ipc::reader::StreamDecoder;
use arrow_ipc::{Message, root_as_message};
use arrow_schema::Schema;
use bytes::Bytes;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

/// How a segment ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct End {
    /// Rows of whole batches.
    pub(super) rows: u64,
    /// Whether there is something after them that is no whole batch.
    pub(super) torn: bool,
    /// Where that is no batch at all, whole or not, the byte that it begins at: nobody can tell how many rows follow.
    pub(super) damaged: Option<u64>,
    /// Bytes of whole streams.
    pub(super) bytes: u64,
    /// The segment that all of it is of, where that is another.
    pub(super) foreign: Option<i64>,
}

/// What is in a segment, before any row is read.
pub(super) struct Contents {
    file: File,
    // As far as the heads show it.
    end: End,
    /// The different schemas.
    pub(super) schemas: Vec<Arc<Schema>>,
    // The message of each.
    messages: Vec<Arc<[u8]>>,
    // The segment that its streams name.
    of: Option<i64>,
    batches: Vec<Body>,
    // What is wrong with a part that was passed over.
    broken: Option<String>,
}

/// Where a stream's batches are, without the schema before them and the mark behind.
#[derive(Clone, Copy)]
struct Body {
    schema: usize,
    start: u64,
    end: u64,
}

impl End {
    /// What is wrong with a file that has another segment's name.
    pub(super) fn misnamed(&self) -> Option<String> {
        let is = |segment| format!("its rows are those of segment {segment}, whose name it does not have");
        self.foreign.map(is)
    }
}

impl Contents {
    /// Looks at the head of every message.
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        let segment = path.file_stem().and_then(|name| name.to_str()?.parse().ok());
        let mut contents = Self {
            file: spare::open(path)?,
            end: End::default(),
            schemas: Vec::new(),
            messages: Vec::new(),
            of: segment,
            batches: Vec::new(),
            broken: None,
        };
        contents.look(0)?;
        Ok(contents)
    }

    /// The same, and of what is behind a part that is damaged.
    pub(super) fn salvaged(path: &Path) -> io::Result<Self> {
        let mut contents = Self::of(path)?;
        while contents.end.torn || contents.end.damaged.is_some() {
            let (from, length) = (contents.end.bytes, contents.file.metadata()?.len());
            let Some(next) = contents.stream_from(from + HEAD, length)? else { break };
            let text = || format!("there are no rows at byte {from}, nor before byte {next}");
            contents.broken.get_or_insert_with(text);
            (contents.end.torn, contents.end.damaged) = (false, None);
            contents.look(next)?;
        }
        Ok(contents)
    }

    /// Looks from a place on where a stream begins.
    fn look(&mut self, from: u64) -> io::Result<()> {
        let Self { file, end, schemas, messages, of, batches, .. } = self;
        let length = file.metadata()?.len();
        let (mut at, mut whole) = (from, from);
        // The schema of the stream, and where what follows it starts.
        let mut stream: Option<(usize, u64)> = None;
        let mut message = Vec::new();
        let mut known: HashMap<Arc<[u8]>, usize> = messages.iter().cloned().zip(0..).collect();
        // Whether what follows is known to be nothing.
        let mut ends = false;
        loop {
            match message_at(file, at, length, &mut message)? {
                There::Message => {}
                There::Eos => {
                    (stream, at) = (None, at + HEAD);
                    whole = at;
                    continue;
                }
                There::End => {
                    ends = true;
                    break;
                }
                There::Cut => break,
                There::Other => {
                    end.damaged = Some(at);
                    break;
                }
            }
            if let (None, Some(&schema)) = (stream, known.get(&message[..])) {
                at += message.len() as u64;
                stream = Some((schema, at));
                continue;
            }
            let Some(about) = said(&message) else {
                end.damaged = Some(at);
                break;
            };
            let body = u64::try_from(about.bodyLength()).unwrap_or(u64::MAX);
            at += message.len() as u64;
            if body > length - at {
                break;
            }
            at += body;
            match (about.header_as_schema(), about.header_as_record_batch(), stream) {
                (Some(schema), ..) => {
                    let Ok(schema) = try_fb_to_schema(schema) else {
                        end.damaged = Some(whole);
                        break;
                    };
                    let named = named(&schema);
                    let is_first = schemas.is_empty();
                    let is_ours = named == *of || is_first && (named.is_none() || of.is_none());
                    if !is_ours {
                        // That is believed where it is as it was written.
                        match is_sound(file, &message, at, length)? {
                            true => {
                                ends = true;
                                end.foreign = named.filter(|_| is_first);
                            }
                            false => end.damaged = Some(whole),
                        }
                        break;
                    }
                    // None names a segment where the first does not.
                    *of = named;
                    let one: Arc<[u8]> = message.as_slice().into();
                    known.insert(one.clone(), schemas.len());
                    schemas.push(Arc::new(schema));
                    messages.push(one);
                    stream = Some((schemas.len() - 1, at));
                }
                (None, Some(batch), Some((schema, start))) => {
                    end.rows += u64::try_from(batch.length()).unwrap_or(0);
                    batches.push(Body { schema, start, end: at });
                    (stream, whole) = (Some((schema, at)), at);
                }
                (None, _, Some(_)) => {}
                (None, _, None) => {
                    end.damaged = Some(whole);
                    break;
                }
            }
        }
        // Where the machine itself stopped, what was not written yet is zeros.
        if let Some(from) = end.damaged
            && is_zero(file, from, length)?
        {
            end.damaged = None;
        }
        end.torn = !ends && whole < length;
        end.bytes = whole;
        Ok(())
    }

    /// Gives every whole batch to `take`, with the place of its schema; where they end.
    pub(super) fn read(&self, take: impl FnMut(usize, RecordBatch) -> io::Result<()>) -> io::Result<End> {
        self.each(take, |damage| Err(io::Error::other(damage)))
    }

    /// The same of those that are sound; and what is wrong with the others.
    pub(super) fn read_sound(
        &self,
        take: impl FnMut(usize, RecordBatch) -> io::Result<()>,
    ) -> io::Result<(End, Option<String>)> {
        let mut wrong = self.broken.clone();
        let end = self.each(take, |damage| {
            wrong.get_or_insert(damage);
            Ok(())
        })?;
        Ok((end, wrong))
    }

    /// Rows of whole batches, as their heads say.
    pub(super) fn rows(&self) -> u64 {
        self.end.rows
    }

    fn each(
        &self,
        mut take: impl FnMut(usize, RecordBatch) -> io::Result<()>,
        mut damaged: impl FnMut(String) -> io::Result<()>,
    ) -> io::Result<End> {
        let mut end = End { rows: 0, bytes: 0, ..self.end };
        let mut decoders: HashMap<usize, StreamDecoder> = HashMap::new();
        let mut memory = Arc::new(Memory::default());
        for (number, place) in self.batches.iter().enumerate() {
            if decoders.len() >= DECODERS && !decoders.contains_key(&place.schema) {
                decoders.clear();
            }
            let decoder = match decoders.entry(place.schema) {
                Entry::Occupied(decoder) => decoder.into_mut(),
                Entry::Vacant(place_of) => {
                    let mut decoder = StreamDecoder::new();
                    decoder.decode(&mut Buffer::from(self.message(place))).map_err(io_error)?;
                    place_of.insert(decoder)
                }
            };
            // The memory of the batch before, if nobody keeps it.
            let mut owned = Arc::into_inner(memory).unwrap_or_default();
            owned.0.clear();
            owned.0.resize_dirty(usize::try_from(place.end - place.start).unwrap_or(usize::MAX));
            self.file.read_exact_at(owned.0.as_mut_bytes(), place.start)?;
            if let Err(error) = sum::check(self.message(place), owned.0.as_bytes()) {
                if self.is_end(number)? {
                    return Ok(End { torn: true, damaged: None, ..end });
                }
                damaged(format!("the rows at byte {}: {error}", place.start))?;
                memory = Arc::new(owned);
                continue;
            }
            memory = Arc::new(owned);
            let mut bytes = Buffer::from(Bytes::from_owner(Shared(memory.clone())));
            match decoder.decode(&mut bytes) {
                Ok(Some(batch)) => {
                    drop(bytes);
                    end.rows += batch.num_rows() as u64;
                    take(place.schema, batch)?;
                }
                Ok(None) => {}
                Err(error) => {
                    damaged(format!("the rows at byte {}: {error}", place.start))?;
                    decoders.remove(&place.schema);
                    continue;
                }
            }
            end.bytes = place.end + EOS.len() as u64;
        }
        match self.end.damaged {
            // What is behind the last batch is older, too.
            Some(at) if self.is_cut_behind(at)? => Ok(End { torn: true, damaged: None, ..end }),
            Some(at) => {
                damaged(format!("there are no rows at byte {at}, and what follows cannot be read"))?;
                Ok(end)
            }
            None => Ok(End { bytes: self.end.bytes, ..end }),
        }
    }

    /// The message of a batch's schema.
    fn message(&self, place: &Body) -> &[u8] {
        self.messages.get(place.schema).map_or(&[], |message| message)
    }

    /// Whether the last batch ends at a place where neither its stream does nor anything of this segment follows.
    fn is_cut_behind(&self, at: u64) -> io::Result<bool> {
        let length = self.file.metadata()?.len();
        let behind = message_at(&self.file, at + EOS.len() as u64, length, &mut Vec::new())?;
        let is_last = self.batches.last().is_some_and(|last| last.end == at);
        Ok(is_last && !matches!(behind, There::End | There::Cut) && !self.has_stream(at, length)?)
    }

    /// Whether a batch that is not as it was written is what the machine was writing when it stopped, with older bytes where the newer ones
    /// did not get: the mark of the end does not stand behind it, nor anything of this segment.
    fn is_end(&self, number: usize) -> io::Result<bool> {
        let length = self.file.metadata()?.len();
        if length == self.end.bytes {
            return Ok(false);
        }
        if let There::End = message_at(&self.file, self.end.bytes, length, &mut Vec::new())? {
            return Ok(false);
        }
        let mut rest = self.batches.get(number..).unwrap_or(&[]).iter();
        let Some(first) = rest.next() else { return Ok(false) };
        for later in rest {
            if is_sound(&self.file, self.message(later), later.start, length)? {
                return Ok(false);
            }
        }
        // Its length may be what is wrong with it.
        Ok(!self.has_stream(first.start, length)?)
    }

    /// Whether a stream of this segment that is as it was written begins somewhere behind a place.
    fn has_stream(&self, from: u64, length: u64) -> io::Result<bool> {
        Ok(self.stream_from(from, length)?.is_some())
    }

    /// Where the first of them begins.
    fn stream_from(&self, from: u64, length: u64) -> io::Result<Option<u64>> {
        let mut piece = vec![0; 1 << 16];
        let mut message = Vec::new();
        let mut at = from;
        while length.saturating_sub(at) >= HEAD {
            let whole = usize::try_from((length - at) / HEAD * HEAD).unwrap_or(usize::MAX).min(piece.len());
            let piece = piece.get_mut(..whole).unwrap_or_default();
            self.file.read_exact_at(piece, at)?;
            for (word, place) in piece.chunks_exact(HEAD as usize).zip((at..).step_by(HEAD as usize)) {
                // Values of columns can look so, and who sends them chooses those: what no schema's head is long for is not read.
                let size = word.last_chunk().map_or(0, |size| u32::from_le_bytes(*size));
                if !word.starts_with(&[0xff; 4]) || !size.is_multiple_of(8) || !(1..=SCHEMA).contains(&size) {
                    continue;
                }
                let There::Message = message_at(&self.file, place, length, &mut message)? else { continue };
                let schema = said(&message).and_then(|said| try_fb_to_schema(said.header_as_schema()?).ok());
                if schema.is_some_and(|schema| named(&schema) == self.of)
                    && is_sound(&self.file, &message, place + message.len() as u64, length)?
                {
                    return Ok(Some(place));
                }
            }
            at += whole as u64;
        }
        Ok(None)
    }
}

/// The segment that a stream says it is of.
fn named(schema: &Schema) -> Option<i64> {
    schema.metadata().get(SEGMENT).and_then(|id| id.parse().ok())
}

/// What stands at a place.
enum There {
    /// A message, and its body, which may be cut.
    Message,
    /// The end of a stream.
    Eos,
    /// The end of the segment.
    End,
    /// The end of the file, or a message that is longer than it.
    Cut,
    /// Something else.
    Other,
}

/// What stands at a place of a file of that length; a message is read, without its body.
fn message_at(file: &File, at: u64, length: u64, message: &mut Vec<u8>) -> io::Result<There> {
    let rest = length.saturating_sub(at);
    if rest < HEAD {
        return Ok(There::Cut);
    }
    // A marker, the length of what follows, and that.
    let mut head = [0; HEAD as usize];
    file.read_exact_at(&mut head, at)?;
    let [marker, size] = [&head[..4], &head[4..]].map(|b| b.try_into().map_or(0, u32::from_le_bytes));
    if head == END {
        return Ok(There::End);
    }
    if marker != u32::MAX {
        return Ok(There::Other);
    }
    if size == 0 {
        return Ok(There::Eos);
    }
    if u64::from(size) > rest - HEAD {
        return Ok(There::Cut);
    }
    message.resize(head.len() + size as usize, 0);
    file.read_exact_at(message, at)?;
    Ok(There::Message)
}

/// What a message says.
fn said(message: &[u8]) -> Option<Message<'_>> {
    root_as_message(message.get(HEAD as usize..)?).ok()
}

/// Whether the batch at a place is as it was written, by its checksum.
fn is_sound(file: &File, schema: &[u8], at: u64, length: u64) -> io::Result<bool> {
    let mut message = Vec::new();
    let There::Message = message_at(file, at, length, &mut message)? else { return Ok(false) };
    let body = said(&message).and_then(|said| usize::try_from(said.bodyLength()).ok()).unwrap_or(usize::MAX);
    if body as u64 > length - at - message.len() as u64 {
        return Ok(false);
    }
    message.resize(message.len() + body, 0);
    file.read_exact_at(&mut message, at)?;
    Ok(sum::check(schema, &message).is_ok())
}

/// Whether a file has zeros alone, as far as one look goes.
fn is_zero(file: &File, from: u64, length: u64) -> io::Result<bool> {
    let mut bytes = vec![0; usize::try_from((length - from).min(4096)).unwrap_or(0)];
    file.read_exact_at(&mut bytes, from)?;
    Ok(bytes.iter().all(|b| *b == 0))
}

/// Bytes before a message.
const HEAD: u64 = 8;
/// Bytes of a schema's message at most: two hundred extras beside all columns take a tenth of it.
const SCHEMA: u32 = 1 << 18;
/// Schemas that are kept ready while a segment is read.
const DECODERS: usize = 256;

/// What a batch that was read points into.
#[derive(Default)]
struct Memory(AlignedBuf);

struct Shared(Arc<Memory>);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        self.0.0.as_bytes()
    }
}

/// Gives every whole batch of a segment to `take`.
pub(super) fn read(path: &Path, mut take: impl FnMut(RecordBatch) -> io::Result<()>) -> io::Result<End> {
    Contents::of(path)?.read(|_, batch| take(batch))
}
