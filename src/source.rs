//! Lazy bytes: what a read handler returns, and what a write handler receives.

mod into;
mod io;
#[cfg_attr(
    not(all(feature = "directory", feature = "web")),
    allow(dead_code, reason = "clients of HTTP get parts of files")
)]
mod part;

use std::{
    fmt,
    future::poll_fn,
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::SystemTime,
};

use bytes::Bytes;
use futures_lite::{Stream, StreamExt, future::yield_now};

use crate::error::Refusal;
pub use into::{Chunks, IntoChunk, IntoEnd, IntoSource};
pub(crate) use part::{Plain, Start};

/// Chunks in a row that are read ahead without waiting, before other tasks run.
const CHUNKS_PER_POLL: usize = 256;

/// The bytes of one file, as chunks of any size that are made only when the transfer wants them.
///
/// A source is made from a generator, from any [`Stream`] of chunks, from a reader ([`reader`](Self::reader),
/// [`async_read`](Self::async_read), [`file`](Self::file)), or from bytes in memory. With a [size](Self::with_size)
/// the server can tell the client `tsize`. A source that gives fewer or more bytes than its size fails, so that a part
/// never passes for a whole file.
///
/// ```
/// use tuffet::{Gen, Source};
///
/// let lines = Source::from(Gen::new(async |co| {
///     for n in 1..=3 {
///         co.yield_(format!("line {n}\n")).await;
///     }
/// }))
/// .with_size(21);
/// assert_eq!(lines.size(), Some(21));
/// # let bytes = smol_like(lines);
/// # fn smol_like(s: Source) -> Vec<u8> { futures_lite::future::block_on(s.collect(1 << 20)).unwrap() }
/// # assert_eq!(bytes, b"line 1\nline 2\nline 3\n");
/// ```
///
/// A source stays on the thread of its transfer (`!Send`), so its generator may hold values that are not `Send`. A
/// [`SendSource`] may be sent to another thread. [`into_local`](Self::into_local) turns it into a source, and it is
/// accepted wherever [`IntoSource`] is.
pub struct Source<C = LocalChunks> {
    size: Option<u64>,
    /// Whether another number of bytes is a failure.
    exact: bool,
    /// Bytes given so far.
    given: u64,
    origin: Option<Arc<str>>,
    etag: Option<Arc<str>>,
    modified: Option<SystemTime>,
    /// Where the first chunk begins, until that chunk is made.
    start: Option<Start>,
    plain: Option<Arc<dyn Plain>>,
    /// Bytes that were read ahead, in memory of their own: chunks may be tiny, or slices of a large buffer.
    ahead: Vec<u8>,
    /// The chunk after them that did not fit.
    beyond: Option<Bytes>,
    /// Whether the source has no more chunks.
    ended: bool,
    chunks: C,
}

/// A [`Source`] that may be sent to another thread, so that a multi-threaded runtime can spawn a future that holds it.
/// [`Client::get`](crate::Client::get) gives one.
///
/// ```
/// use tuffet::{Bytes, SendSource, Source};
///
/// fn is_send(_: impl Send) {}
/// let source: SendSource = Source::sendable(futures_lite::stream::iter(["any ", "stream"]));
/// is_send(source);
/// ```
///
/// A [`Source`] is not:
///
/// ```compile_fail,E0277
/// fn is_send(_: impl Send) {}
/// is_send(tuffet::Source::from("local"));
/// ```
pub type SendSource = Source<SendChunks>;

/// The chunks of a [`Source`], which stay on their thread (`!Send`).
pub type LocalChunks = Pin<Box<dyn Stream<Item = Result<Bytes, Refusal>>>>;

/// The chunks of a [`SendSource`].
pub type SendChunks = Pin<Box<dyn Stream<Item = Result<Bytes, Refusal>> + Send>>;

impl Source {
    /// A source of the chunks of this stream. A failed chunk ends it.
    ///
    /// ```
    /// use futures_lite::{future::block_on, stream};
    /// use tuffet::{Bytes, Refusal, Source};
    ///
    /// let source = Source::stream(stream::iter([Ok(Bytes::from("part")), Err(Refusal::upstream())]));
    /// assert_eq!(block_on(source.collect(100)), Err(Refusal::upstream()), "a part is no file");
    /// ```
    pub fn stream(chunks: impl Stream<Item = Result<Bytes, Refusal>> + 'static) -> Self {
        Self::of(Box::pin(chunks))
    }

    /// As [`stream`](Self::stream), for chunks of any type: bytes, text, or results with errors that become a
    /// [`Refusal`], such as [`io::Result<Bytes>`](std::io::Result).
    ///
    /// ```
    /// use futures_lite::stream;
    /// use tuffet::{Bytes, Source};
    ///
    /// let body = stream::iter([Ok::<_, std::io::Error>(Bytes::from("from elsewhere"))]);
    /// let source = Source::chunks(body);
    /// # assert_eq!(futures_lite::future::block_on(source.collect(100)).unwrap(), b"from elsewhere");
    /// ```
    pub fn chunks<T: IntoChunk + 'static>(chunks: impl Stream<Item = T> + 'static) -> Self {
        Self::stream(chunks.map(T::into_chunk))
    }

    /// As [`chunks`](Self::chunks), for a stream that may be sent to another thread. Then the source may be sent too.
    ///
    /// ```
    /// use futures_lite::{future::block_on, stream};
    ///
    /// let source = tuffet::Source::sendable(stream::iter(["a", "b"]));
    /// let bytes = std::thread::spawn(|| block_on(source.collect(100))).join().unwrap();
    /// assert_eq!(bytes, Ok(b"ab".to_vec()));
    /// ```
    pub fn sendable<T: IntoChunk + 'static>(chunks: impl Stream<Item = T> + Send + 'static) -> SendSource {
        Source::of(Box::pin(chunks.map(T::into_chunk)))
    }
}

impl<C: Chunks> Source<C> {
    fn of(chunks: C) -> Self {
        let (ahead, beyond) = (Vec::new(), None);
        let (size, origin, etag, modified, start, plain) = (None, None, None, None, None, None);
        Self { size, exact: false, given: 0, origin, etag, modified, start, plain, ahead, beyond, ended: false, chunks }
    }

    /// The same source in the form that a [`Handler`](crate::Handler) returns and receives, which stays on this
    /// thread.
    ///
    /// ```
    /// use tuffet::{SendSource, Source};
    ///
    /// let sent: SendSource = Source::sendable(futures_lite::stream::iter(["a"]));
    /// let source: Source = sent.with_size(1).into_local();
    /// assert_eq!(source.size(), Some(1));
    /// ```
    pub fn into_local(self) -> Source {
        let Self { size, exact, given, origin, etag, modified, start, plain, ahead, beyond, ended, chunks } = self;
        let chunks = chunks.into_local();
        Source { size, exact, given, origin, etag, modified, start, plain, ahead, beyond, ended, chunks }
    }

    /// Sets how many bytes the source has.
    ///
    /// ```
    /// use futures_lite::{future::block_on, stream};
    /// use tuffet::Source;
    ///
    /// let short = Source::chunks(stream::iter(["abc"])).with_size(4);
    /// assert!(block_on(short.collect(100)).is_err(), "a byte is missing");
    /// ```
    #[must_use]
    pub fn with_size(mut self, size: u64) -> Self {
        (self.size, self.exact) = (Some(size), true);
        self
    }

    /// Sets where the bytes come from, for the operator: a file, a URL. It goes into the record of the transfer and is
    /// never sent.
    ///
    /// ```
    /// let source = tuffet::Source::from("menu\n").with_origin("/srv/tftp/menu");
    /// assert_eq!(source.origin(), Some("/srv/tftp/menu"));
    /// ```
    #[must_use]
    pub fn with_origin(mut self, origin: impl Into<Arc<str>>) -> Self {
        self.origin = Some(origin.into());
        self
    }

    /// Sets the entity tag of this state of the file for HTTP clients (RFC 9110 section 8.8.3), with its quotes:
    /// `"33a64"`, or `W/"33a64"` if the same tag may stand for other bytes. A text that is no entity tag is left out.
    ///
    /// Defaults to a tag that is made of [`modified`](Self::with_modified) and the size, if both are known.
    ///
    /// ```
    /// let source = tuffet::Source::from("menu\n");
    /// assert_eq!(source.with_etag("\"33a64\"").etag(), Some("\"33a64\""));
    /// ```
    #[must_use]
    pub fn with_etag(mut self, etag: impl Into<Arc<str>>) -> Self {
        self.etag = Some(etag.into()).filter(|etag: &Arc<str>| is_etag(etag));
        self
    }

    /// Sets when the file was last modified, for HTTP clients: to the second, as `Last-Modified`.
    ///
    /// ```
    /// use std::time::SystemTime;
    ///
    /// let source = tuffet::Source::from("menu\n").with_modified(SystemTime::UNIX_EPOCH);
    /// assert_eq!(source.modified(), Some(SystemTime::UNIX_EPOCH));
    /// ```
    #[must_use]
    pub fn with_modified(mut self, modified: SystemTime) -> Self {
        self.modified = Some(modified);
        self
    }

    /// The same source with this value, if there is one.
    #[cfg(any(feature = "directory", feature = "http"))]
    pub(crate) fn with_some<T>(self, value: Option<T>, with: impl FnOnce(Self, T) -> Self) -> Self {
        match value {
            Some(value) => with(self, value),
            None => self,
        }
    }

    /// Sets the size that the client sent, which may be wrong.
    pub(crate) fn with_size_hint(mut self, size: Option<u64>) -> Self {
        self.size = size;
        self
    }

    /// How many bytes the source has, if that is known.
    ///
    /// For an upload this is the client's `tsize`, if it sent one.
    ///
    /// ```
    /// use tuffet::{Gen, Source};
    ///
    /// assert_eq!(Source::from("hello").size(), Some(5));
    /// let unknown = Source::from(Gen::new(async |co| co.yield_("hello").await));
    /// assert_eq!(unknown.size(), None);
    /// ```
    pub fn size(&self) -> Option<u64> {
        self.size
    }

    /// The origin of the bytes, if the source names it.
    ///
    /// ```
    /// assert_eq!(tuffet::Source::from("made up").origin(), None);
    /// ```
    pub fn origin(&self) -> Option<&str> {
        self.origin.as_deref()
    }

    /// The entity tag, if there is one.
    ///
    /// ```
    /// assert_eq!(tuffet::Source::from("made up").etag(), None);
    /// ```
    pub fn etag(&self) -> Option<&str> {
        self.etag.as_deref()
    }

    /// When the file was last modified, if the source knows.
    ///
    /// ```
    /// assert_eq!(tuffet::Source::from("made up").modified(), None);
    /// ```
    pub fn modified(&self) -> Option<SystemTime> {
        self.modified
    }

    pub(crate) fn shared_origin(&self) -> Option<Arc<str>> {
        self.origin.clone()
    }

    /// The next chunk; `None` at the end. Do not call it again after the end or after a failure. The future can be
    /// dropped at any time without loss, as in a race with a timer.
    ///
    /// ```
    /// # futures_lite::future::block_on(async {
    /// let mut source = tuffet::Source::chunks(futures_lite::stream::iter(["a", "b"]));
    /// let mut chunks = 0;
    /// while let Some(chunk) = source.next().await {
    ///     assert_eq!(chunk?.len(), 1);
    ///     chunks += 1;
    /// }
    /// assert_eq!(chunks, 2);
    /// # Ok::<(), tuffet::Refusal>(())
    /// # }).unwrap();
    /// ```
    pub async fn next(&mut self) -> Option<Result<Bytes, Refusal>> {
        poll_fn(|cx| self.poll_chunk(cx)).await
    }

    /// Reads chunks ahead, to find out the size of a small source that does not tell it. It reads until the source
    /// ends, which makes the [size](Self::size) known, or until a chunk has bytes behind the first `most`.
    /// [`next`](Self::next) still returns all of these bytes. With `most` 0 it waits for the first bytes.
    ///
    /// The future can be dropped at any time without loss, so a caller can limit its time.
    ///
    /// ```
    /// # futures_lite::future::block_on(async {
    /// use tuffet::{Gen, Source};
    ///
    /// let mut menu = Source::from(Gen::new(async |co| {
    ///     co.yield_("set timeout=3\n").await;
    ///     co.yield_("boot\n").await;
    /// }));
    /// menu.read_ahead(64 << 10).await?;
    /// assert_eq!(menu.size(), Some(19));
    /// # Ok::<(), tuffet::Refusal>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// The source's own failure, which ends it.
    pub async fn read_ahead(&mut self, most: usize) -> Result<(), Refusal> {
        for count in 1.. {
            if self.size.is_some() || self.ended {
                break;
            }
            // Other tasks get their turn even if the source always has a chunk, perhaps an empty one.
            if count % CHUNKS_PER_POLL == 0 {
                yield_now().await;
            }
            let chunk = match self.beyond.take() {
                Some(chunk) => Some(chunk),
                None => poll_fn(|cx| Pin::new(&mut self.chunks).poll_next(cx)).await.transpose()?,
            };
            match chunk {
                Some(chunk) if self.ahead.len() + chunk.len() > most => {
                    self.beyond = Some(chunk);
                    break;
                }
                Some(chunk) => self.ahead.extend_from_slice(&chunk),
                None => {
                    self.ended = true;
                    self.size = Some(self.given + self.ahead.len() as u64);
                }
            }
        }
        Ok(())
    }

    /// Collects all bytes.
    ///
    /// ```
    /// use futures_lite::future::block_on;
    /// use tuffet::{Refusal, Source};
    ///
    /// assert_eq!(block_on(Source::from("hello").collect(5)), Ok(b"hello".to_vec()));
    /// assert_eq!(block_on(Source::from("hello").collect(4)), Err(Refusal::too_big()));
    /// ```
    ///
    /// # Errors
    /// The source's own failure, or [`Refusal::too_big`] if there are more than `most` bytes.
    pub async fn collect(mut self, most: usize) -> Result<Vec<u8>, Refusal> {
        let mut all = Vec::new();
        while let Some(chunk) = self.next().await {
            let chunk = chunk?;
            if all.len() + chunk.len() > most {
                return Err(Refusal::too_big());
            }
            all.extend_from_slice(&chunk);
        }
        Ok(all)
    }

    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Refusal>>> {
        let size = self.size.filter(|_| self.exact);
        let next = match Some(mem::take(&mut self.ahead)).filter(|ahead| !ahead.is_empty()) {
            Some(ahead) => Poll::Ready(Some(Ok(ahead.into()))),
            None if self.beyond.is_some() => Poll::Ready(self.beyond.take().map(Ok)),
            None if self.ended => Poll::Ready(None),
            None => Pin::new(&mut self.chunks).poll_next(cx),
        };
        next.map(|chunk| match (chunk, size) {
            (Some(Ok(chunk)), size) => {
                self.given += chunk.len() as u64;
                match size {
                    Some(size) if self.given > size => Some(Err(self.wrong_size())),
                    _ => Some(Ok(chunk)),
                }
            }
            (None, Some(size)) if self.given < size => Some(Err(self.wrong_size())),
            (other, _) => other,
        })
    }

    fn wrong_size(&self) -> Refusal {
        let size = self.size.unwrap_or_default();
        Refusal::internal().because(format_args!("the source said {size} bytes and gave {}", self.given))
    }
}

/// Whether this is an entity tag of RFC 9110 section 8.8.3.
fn is_etag(text: &str) -> bool {
    let tag = text.strip_prefix("W/").unwrap_or(text);
    let inside = tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"'));
    inside.is_some_and(|inside| inside.bytes().all(|byte| byte > b' ' && byte != b'"' && byte != 0x7f))
}

impl<C: Chunks> Stream for Source<C> {
    type Item = Result<Bytes, Refusal>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_chunk(cx)
    }
}

impl<C> fmt::Debug for Source<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { size, given, origin, .. } = self;
        f.debug_struct("Source")
            .field("size", size)
            .field("given", given)
            .field("origin", origin)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
