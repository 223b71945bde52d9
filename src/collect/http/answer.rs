//! The body of an answer, handed over in pieces: what its reader has not taken yet is not made yet.

use hyper::body::{Body, Bytes, Frame, SizeHint};
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::sync::OwnedSemaphorePermit;

/// Bytes that are handed over at once.
const PIECE: usize = 64 << 10;

/// A text, or a list whose items are made when there is room for them.
pub(super) struct Answer {
    made: Bytes,
    list: Option<List>,
    _permit: Option<OwnedSemaphorePermit>,
}

struct List {
    items: Box<dyn Iterator<Item = String> + Send>,
    is_first: bool,
    end: String,
}

impl Answer {
    pub(super) fn of(text: String) -> Self {
        Self { made: text.into(), list: None, _permit: None }
    }

    /// A text, items with commas between them, and a text.
    pub(super) fn list(begin: String, items: Box<dyn Iterator<Item = String> + Send>, end: String) -> Self {
        Self { made: begin.into(), list: Some(List { items, is_first: true, end }), _permit: None }
    }

    /// Keeps a permit until the last piece is taken.
    pub(super) fn hold(&mut self, permit: Option<OwnedSemaphorePermit>) {
        self._permit = permit;
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
        self.made.is_empty() && self.list.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        match self.list {
            None => SizeHint::with_exact(self.made.len() as u64),
            Some(_) => SizeHint::default(),
        }
    }
}
