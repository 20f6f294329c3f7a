//! The body of an answer: a file or a part of it, read while it is sent, or a line of text.

#[cfg(target_os = "linux")]
use std::{future::Future, io, os::unix::fs::FileExt, sync::Arc};
use std::{
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use bytes::Buf;
use futures_lite::ready;
use hyper::body::{Body, Frame, SizeHint};
#[cfg(target_os = "linux")]
use smol::{Task, unblock};

#[cfg(target_os = "linux")]
use super::placeholder::{LONGEST, is_cached};
use super::{state::State, transfer::Transfer};
#[cfg(target_os = "linux")]
use crate::source::Plain;
use crate::{
    Bytes,
    driver::feed::Feed,
    error::Refusal,
    source::Source,
    transfer::{Event, Outcome, Want},
};

/// A shorter part is read, and sent together with the head.
#[cfg(target_os = "linux")]
const LEAST_FOR_SENDFILE: u64 = 32 << 10;
/// The size of a read that waits for the disk, in bytes.
#[cfg(target_os = "linux")]
const READ: usize = 64 << 10;

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
    /// A file that the kernel can send.
    #[cfg(target_os = "linux")]
    plain: Option<SentByKernel>,
}

/// The state of a file that the kernel sends.
#[cfg(target_os = "linux")]
struct SentByKernel {
    plain: Arc<dyn Plain>,
    at: u64,
    /// The running read of a part that is not in the page cache.
    reading: Option<Task<io::Result<Bytes>>>,
}

impl Reply {
    /// The body from this source: `length` bytes from the byte `first` on.
    pub(super) fn file(
        mut source: Source,
        (first, length): (u64, Option<u64>),
        transfer: Rc<Transfer>,
        state: Rc<State>,
    ) -> Self {
        if length == Some(0) {
            transfer.set_outcome(Outcome::Complete);
            return Self::Empty;
        }
        #[cfg(target_os = "linux")]
        let plain = source.plain().filter(|_| length.is_some_and(|length| length >= LEAST_FOR_SENDFILE)).cloned();
        let skip = if source.begin_at(first) { 0 } else { first };
        Self::File(Box::new(File {
            source,
            skip,
            left: length,
            transfer,
            state,
            #[cfg(target_os = "linux")]
            plain: plain.map(|plain| SentByKernel { plain, at: first, reading: None }),
        }))
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
        #[cfg(target_os = "linux")]
        if self.plain.is_some() {
            return self.poll_plain(cx).map(Some);
        }
        let polled = self.transfer.trace.within(|| self.source.poll(Want::Chunk, cx));
        let Poll::Ready(event) = polled else {
            self.state.wait_for_source();
            return Poll::Pending;
        };
        self.state.source_is_ready();
        let mut chunk = match event {
            Event::Chunk(chunk) => chunk,
            Event::Failed(refusal) => return Poll::Ready(Some(Err(self.fail(refusal)))),
            _ if self.left.is_some_and(|left| left > 0) => {
                let short = Refusal::internal().because("the source gave fewer bytes than it said");
                return Poll::Ready(Some(Err(self.fail(short))));
            }
            _ => {
                self.transfer.set_outcome(Outcome::Complete);
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
            // A source that never waits would hold the thread until the range begins.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.transfer.count_bytes(chunk.len());
        if self.left == Some(0) {
            self.transfer.set_outcome(Outcome::Complete);
        }
        Poll::Ready(Some(Ok(chunk)))
    }

    /// The kernel sends the parts in the page cache. A thread that may wait for the disk reads the other parts.
    #[cfg(target_os = "linux")]
    fn poll_plain(&mut self, cx: &mut Context<'_>) -> Poll<Result<Bytes, Refusal>> {
        let (Some(sent), Some(left)) = (&mut self.plain, &mut self.left) else {
            return Poll::Ready(Err(Refusal::internal()));
        };
        let read = match &mut sent.reading {
            Some(reading) => match Pin::new(reading).poll(cx) {
                Poll::Ready(read) => Some(read),
                Poll::Pending => {
                    self.state.wait_for_source();
                    return Poll::Pending;
                }
            },
            None => None,
        };
        sent.reading = None;
        self.state.source_is_ready();
        let most = usize::try_from(*left).map_or(LONGEST, |left| left.min(LONGEST));
        let (chunk, length) = match read {
            Some(Ok(bytes)) => (Some(bytes.clone()), bytes.len()),
            Some(Err(error)) => {
                let refusal = error.into();
                return Poll::Ready(Err(self.fail(refusal)));
            }
            None if is_cached(sent.plain.file(), sent.at, most) => (None, most),
            None => {
                let (plain, at) = (sent.plain.clone(), sent.at);
                sent.reading = Some(unblock(move || {
                    let mut bytes = vec![0; most.min(READ)];
                    plain.file().read_exact_at(&mut bytes, at)?;
                    Ok(bytes.into())
                }));
                return self.poll_plain(cx);
            }
        };
        if length as u64 == *left {
            // Check before the last chunk, because after it the transfer may have ended.
            if let Err(refusal) = sent.plain.check() {
                return Poll::Ready(Err(self.fail(refusal)));
            }
            self.transfer.set_outcome(Outcome::Complete);
        }
        let chunk = chunk.unwrap_or_else(|| self.state.placeholders.add(sent.plain.clone(), sent.at, length));
        sent.at += length as u64;
        *left -= length as u64;
        self.transfer.count_bytes(length);
        Poll::Ready(Ok(chunk))
    }

    fn fail(&self, refusal: Refusal) -> Refusal {
        self.transfer.refuse(refusal.clone());
        refusal
    }
}
