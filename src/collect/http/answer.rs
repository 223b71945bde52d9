//! The body of an answer, handed over in pieces: what its reader has not taken yet is not made yet.

use flate2::Compression;
use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;
use hyper::body::{Body, Bytes, Frame, SizeHint};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::fmt;
use std::io::{Read, Write};
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::sync::OwnedSemaphorePermit;

/// Bytes that are handed over at once.
const PIECE: usize = 64 << 10;

/// A text, or a list whose items are made when there is room for them.
pub(super) struct Answer {
    made: Bytes,
    rest: VecDeque<Packed>,
    list: Option<List>,
    _permits: Vec<OwnedSemaphorePermit>,
}

struct List {
    items: Box<dyn Iterator<Item = String> + Send>,
    is_first: bool,
    end: String,
}

impl Answer {
    pub(super) fn of(text: String) -> Self {
        Self { made: text.into(), rest: VecDeque::new(), list: None, _permits: Vec::new() }
    }

    pub(super) fn made(pieces: Pieces) -> Self {
        let mut rest = pieces.done;
        rest.push_back(Packed::of(&pieces.open));
        Self { rest, ..Self::of(String::new()) }
    }

    /// Bytes that it holds.
    pub(super) fn memory(&self) -> usize {
        self.made.len() + self.rest.iter().map(|packed| packed.bytes.len()).sum::<usize>()
    }

    /// A text, items with commas between them, and a text.
    pub(super) fn list(begin: String, items: Box<dyn Iterator<Item = String> + Send>, end: String) -> Self {
        Self { list: Some(List { items, is_first: true, end }), ..Self::of(begin) }
    }

    /// Keeps permits until the last piece is taken.
    pub(super) fn hold(&mut self, permits: Vec<OwnedSemaphorePermit>) {
        self._permits = permits;
    }
}

/// A long text in pieces. It waits for its reader at a twentieth of its length, as it says the same of each exporter.
#[derive(Default)]
pub(super) struct Pieces {
    done: VecDeque<Packed>,
    open: String,
}

/// A text, deflated.
struct Packed {
    bytes: Box<[u8]>,
    length: usize,
}

impl Packed {
    fn of(text: &str) -> Self {
        let mut packed = DeflateEncoder::new(Vec::new(), Compression::fast());
        // Memory takes what is written.
        let bytes = packed.write_all(text.as_bytes()).and_then(|()| packed.finish()).unwrap_or_default();
        Self { bytes: bytes.into(), length: text.len() }
    }

    fn text(&self) -> Bytes {
        let mut text = Vec::with_capacity(self.length);
        let _ = DeflateDecoder::new(&*self.bytes).read_to_end(&mut text);
        text.into()
    }
}

impl fmt::Write for Pieces {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        // An empty piece would end the answer.
        if !self.open.is_empty() && self.open.len() + text.len() > PIECE {
            self.done.push_back(Packed::of(&self.open));
            self.open.clear();
        }
        self.open.push_str(text);
        Ok(())
    }
}

impl List {
    /// The next piece, and whether it is the last.
    fn piece(&mut self) -> (String, bool) {
        let mut text = String::new();
        while text.len() < PIECE {
            let Some(item) = self.items.next() else {
                return (text + &self.end, true);
            };
            if !std::mem::take(&mut self.is_first) {
                text.push(',');
            }
            text.push_str(&item);
        }
        (text, false)
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.made.is_empty()
            && let Some(next) = self.rest.pop_front()
        {
            self.made = next.text();
        }
        if self.made.is_empty() {
            let Some(list) = &mut self.list else { return Poll::Ready(None) };
            let (text, is_last) = list.piece();
            self.made = text.into();
            if is_last {
                self.list = None;
            }
        }
        let len = self.made.len().min(PIECE);
        let piece = self.made.split_to(len);
        Poll::Ready((!piece.is_empty()).then(|| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.made.is_empty() && self.rest.is_empty() && self.list.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        match self.list {
            None => {
                let rest: usize = self.rest.iter().map(|packed| packed.length).sum();
                SizeHint::with_exact((self.made.len() + rest) as u64)
            }
            Some(_) => SizeHint::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Write;

    #[test]
    fn long_texts_are_handed_over_whole() {
        let mut pieces = Pieces::default();
        let texts = ["a".repeat(3 * PIECE), "b".repeat(PIECE), "c".into(), "d".repeat(PIECE), String::new()];
        texts.iter().for_each(|text| pieces.write_str(text).expect("memory"));
        let mut answer = Pin::new(Box::new(Answer::made(pieces)));
        let (length, mut taken) = (answer.size_hint().exact(), Vec::new());
        let mut context = Context::from_waker(std::task::Waker::noop());
        while let Poll::Ready(Some(Ok(frame))) = answer.as_mut().poll_frame(&mut context) {
            taken.extend_from_slice(frame.data_ref().expect("bytes"));
        }
        assert!(answer.is_end_stream() && taken == texts.concat().as_bytes());
        assert_eq!(length, Some(taken.len() as u64));
    }
}
