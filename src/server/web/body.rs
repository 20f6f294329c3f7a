//! The body of an answer: a file or a part of it, read while it is sent, or a line of text.

use std::{
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use bytes::Buf;
use futures_lite::ready;
use hyper::body::{Body, Frame, SizeHint};

use super::{connection::State, transfer::Transfer};
use crate::{
    Bytes,
    driver::feed::Feed,
    error::Refusal,
    source::Source,
    transfer::{Event, Outcome, Want},
};

pub(super) enum Reply {
    Empty,
    Text(Bytes),
    File(Box<File>),
}

pub(super) struct File {
    source: Source,
    /// How many bytes of the source are skipped.
    skip: u64,
    /// How many bytes are still to be sent, if known.
    left: Option<u64>,
    transfer: Rc<Transfer>,
    state: Rc<State>,
}

impl Reply {
    /// The body from this source: `length` bytes from the byte `first` on.
    pub(super) fn file(
        mut source: Source,
        (first, length): (u64, Option<u64>),
        transfer: Rc<Transfer>,
        state: Rc<State>,
    ) -> Self {
        let skip = if source.begin_at(first) { 0 } else { first };
        if length == Some(0) {
            transfer.give(Outcome::Complete);
            return Self::Empty;
        }
        Self::File(Box::new(File { source, skip, left: length, transfer, state }))
    }
}

impl Body for Reply {
    type Data = Bytes;
    type Error = Refusal;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Refusal>>> {
        let this = self.get_mut();
        let frame = match this {
            Self::Empty => None,
            Self::Text(text) => Some(Ok(std::mem::take(text))),
            Self::File(file) => ready!(file.poll_chunk(cx)),
        };
        let is_last = match (&*this, &frame) {
            (Self::File(file), Some(Ok(_))) => file.left == Some(0),
            _ => true,
        };
        if is_last {
            *this = Self::Empty;
        }
        Poll::Ready(frame.map(|chunk| chunk.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Empty)
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Text(text) => SizeHint::with_exact(text.len() as u64),
            Self::File(file) => file.left.map(SizeHint::with_exact).unwrap_or_default(),
        }
    }
}

impl File {
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Refusal>>> {
        loop {
            let polled = self.transfer.trace.within(|| self.source.poll(Want::Chunk, cx));
            let Poll::Ready(event) = polled else {
                self.state.wait_for_source();
                return Poll::Pending;
            };
            self.state.source_is_there();
            let mut chunk = match event {
                Event::Chunk(chunk) => chunk,
                Event::Failed(refusal) => return Poll::Ready(Some(Err(self.fail(refusal)))),
                _ if self.left.is_some_and(|left| left > 0) => {
                    let short = Refusal::internal().because("the source gave fewer bytes than it said");
                    return Poll::Ready(Some(Err(self.fail(short))));
                }
                _ => {
                    self.transfer.give(Outcome::Complete);
                    return Poll::Ready(None);
                }
            };
            let skipped = usize::try_from(self.skip).map_or(chunk.len(), |skip| skip.min(chunk.len()));
            self.skip -= skipped as u64;
            chunk.advance(skipped);
            if let Some(left) = &mut self.left {
                chunk.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= chunk.len() as u64;
            }
            if chunk.is_empty() {
                continue;
            }
            self.transfer.moved(chunk.len());
            if self.left == Some(0) {
                self.transfer.give(Outcome::Complete);
            }
            return Poll::Ready(Some(Ok(chunk)));
        }
    }

    fn fail(&self, refusal: Refusal) -> Refusal {
        self.transfer.refuse(refusal.clone());
        refusal
    }
}
