//! The user's side of a transfer: the source that the server reads, or the sink that receives an upload.

use std::{
    any::Any,
    collections::VecDeque,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use futures_lite::{FutureExt, Stream, ready};

use crate::{
    error::Refusal,
    shown,
    source::{Chunks, SendSource, Source},
    sync::Mutex,
    transfer::{Event, Want},
};

/// The next ACK goes out as long as fewer bytes than this wait for a slow sink.
const ROOM: usize = 16 * 1024;

/// The user's side, as the driver sees it.
pub(crate) trait Feed {
    /// Takes a chunk of DATA.
    fn push(&mut self, chunk: Bytes);
    /// Returns what the transfer wants, when it is there. A sink keeps working while the transfer wants nothing of it.
    fn poll(&mut self, want: Want, cx: &mut Context<'_>) -> Poll<Event>;
}

/// The chunks of a source become DATA.
impl<C: Chunks> Feed for Source<C> {
    fn push(&mut self, _: Bytes) {}

    fn poll(&mut self, want: Want, cx: &mut Context<'_>) -> Poll<Event> {
        if want != Want::Chunk {
            return Poll::Pending;
        }
        let chunk = catch_unwind(AssertUnwindSafe(|| Pin::new(self).poll_next(cx)));
        Poll::Ready(match chunk {
            Ok(chunk) => match ready!(chunk) {
                Some(Ok(chunk)) => Event::Chunk(chunk),
                Some(Err(refusal)) => Event::Failed(refusal),
                None => Event::End,
            },
            Err(panic) => Event::Failed(panicked(&*panic)),
        })
    }
}

/// A running sink: the user's future, and the pipe that it reads from. DATA becomes chunks in the pipe.
pub(crate) struct Upload<W> {
    pipe: Pipe,
    work: Work<W>,
    /// Bytes that the client may still send.
    left: u64,
    /// The most bytes of any upload.
    most: u64,
    /// The size that the client sent, if that is less.
    told: Option<u64>,
}

enum Work<W> {
    Running(Pin<Box<W>>),
    Over(Result<(), Refusal>),
}

/// A sink for an upload of this size, if the size is known. The upload may have `most` bytes, and no more than its
/// `tsize` says. A size of 0 counts as unknown: some clients send it without looking.
pub(crate) fn upload<W: Future<Output = Result<(), Refusal>>>(
    size: Option<u64>,
    most: u64,
    sink: impl FnOnce(SendSource) -> W,
) -> Upload<impl Future<Output = Result<(), Refusal>>> {
    let pipe = Pipe::default();
    let source = Source::sendable(pipe.clone()).with_size_hint(size);
    let work = Work::Running(Box::pin(catch_panic(async move { sink(source).await })));
    let told = size.filter(|size| *size > 0 && *size < most);
    Upload { pipe, work, left: told.unwrap_or(most), most, told }
}

impl<W: Future<Output = Result<(), Refusal>>> Upload<W> {
    /// Waits until the sink accepts the upload, refuses it, or ends without reading. A sink accepts by asking for its
    /// first chunk.
    pub(crate) fn poll_accepts(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Refusal>> {
        match self.poll(Want::Packet, cx) {
            Poll::Ready(Event::Failed(refusal)) => Poll::Ready(Err(refusal)),
            _ if self.pipe.0.lock().wanted || matches!(self.work, Work::Over(_)) => Poll::Ready(Ok(())),
            _ => Poll::Pending,
        }
    }
}

impl<W: Future<Output = Result<(), Refusal>>> Feed for Upload<W> {
    fn push(&mut self, chunk: Bytes) {
        match self.left.checked_sub(chunk.len() as u64) {
            Some(left) => self.left = left,
            None => {
                self.work = Work::Over(Err(match self.told {
                    Some(told) => Refusal::too_big().because(format_args!("more than its tsize, {told} bytes")),
                    None => Refusal::above_max_upload(self.most),
                }));
            }
        }
        if matches!(self.work, Work::Running(_)) {
            self.pipe.push(chunk);
        }
    }

    fn poll(&mut self, want: Want, cx: &mut Context<'_>) -> Poll<Event> {
        if want == Want::Commit {
            self.pipe.end();
        }
        if let Work::Running(sink) = &mut self.work {
            if let Poll::Ready(result) = sink.as_mut().poll(cx) {
                self.work = Work::Over(result);
            }
        }
        match (&self.work, want) {
            (Work::Over(Err(refusal)), _) => Poll::Ready(Event::Failed(refusal.clone())),
            (Work::Over(Ok(())), Want::Room | Want::Commit) => Poll::Ready(Event::Ready),
            (Work::Running(_), Want::Room) if self.pipe.has_room() => Poll::Ready(Event::Ready),
            _ => Poll::Pending,
        }
    }
}

/// Turns a panic of the user's code into a failure of its transfer alone.
pub(crate) fn catch_panic<T>(
    work: impl Future<Output = Result<T, Refusal>>,
) -> impl Future<Output = Result<T, Refusal>> {
    // The box saves memory: a future that is moved into another one takes its room twice.
    let work = AssertUnwindSafe(Box::pin(work)).catch_unwind();
    async { work.await.unwrap_or_else(|panic| Err(panicked(&*panic))) }
}

/// As [`catch_panic`], for code that does not wait.
pub(crate) fn catch_panic_now<T>(work: impl FnOnce() -> T) -> Result<T, Refusal> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| panicked(&*panic))
}

fn panicked(panic: &(dyn Any + Send)) -> Refusal {
    let text = panic.downcast_ref::<&str>().copied().or(panic.downcast_ref::<String>().map(String::as_str));
    let text = text.unwrap_or("without a message");
    log::error!("a handler panicked: {}", shown::text(text));
    Refusal::internal().because(format_args!("panic: {text}"))
}

/// Chunks on their way from the transfer to the sink. The sink may read them in another thread.
#[derive(Clone, Default)]
struct Pipe(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    chunks: VecDeque<Bytes>,
    bytes: usize,
    ended: bool,
    /// Whether the sink has ever asked for a chunk.
    wanted: bool,
    waker: Option<Waker>,
}

impl Pipe {
    fn push(&self, chunk: Bytes) {
        let mut state = self.0.lock();
        state.bytes += chunk.len();
        state.chunks.push_back(chunk);
        state.wake();
    }

    fn end(&self) {
        let mut state = self.0.lock();
        state.ended = true;
        state.wake();
    }

    fn has_room(&self) -> bool {
        self.0.lock().bytes < ROOM
    }
}

impl State {
    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl Stream for Pipe {
    type Item = Result<Bytes, Refusal>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut state = self.0.lock();
        state.wanted = true;
        if let Some(chunk) = state.chunks.pop_front() {
            state.bytes -= chunk.len();
            return Poll::Ready(Some(Ok(chunk)));
        }
        if state.ended {
            return Poll::Ready(None);
        }
        state.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}
