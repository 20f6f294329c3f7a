//! Types that become a source, a chunk or an end.

use std::future::Future;

use bytes::Bytes;
use futures_lite::Stream;

use super::{LocalChunks, SendChunks, SendSource, Source};
use crate::{
    error::Refusal,
    generators::{Gen, SendGen},
};

/// The chunks of any source: [`LocalChunks`] or [`SendChunks`].
///
/// ```
/// use tuffet::{Refusal, Source, source::Chunks};
///
/// // For any source, whether or not it may be sent to another thread.
/// async fn length<C: Chunks>(source: Source<C>) -> Result<usize, Refusal> {
///     Ok(source.collect(1 << 20).await?.len())
/// }
/// assert_eq!(futures_lite::future::block_on(length(Source::from("hello"))), Ok(5));
/// ```
pub trait Chunks: Stream<Item = Result<Bytes, Refusal>> + Unpin + 'static + sealed::Sealed {
    #[doc(hidden)]
    fn into_local(self) -> LocalChunks;
}

impl Chunks for LocalChunks {
    fn into_local(self) -> LocalChunks {
        self
    }
}

impl Chunks for SendChunks {
    fn into_local(self) -> LocalChunks {
        self
    }
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::LocalChunks {}
    impl Sealed for super::SendChunks {}
}

/// A type that can be a chunk: bytes, text, or a failure in the middle.
///
/// ```
/// use tuffet::{Refusal, source::IntoChunk};
///
/// assert_eq!("text".into_chunk()?, "text");
/// assert_eq!(b"\x7fELF".into_chunk()?, "\x7fELF");
/// assert!(Err::<&str, _>(Refusal::upstream()).into_chunk().is_err());
/// # Ok::<(), Refusal>(())
/// ```
pub trait IntoChunk {
    /// The bytes, or the failure.
    ///
    /// ```
    /// use tuffet::source::IntoChunk;
    ///
    /// assert_eq!(vec![1, 2, 3].into_chunk(), Ok(tuffet::Bytes::from_static(&[1, 2, 3])));
    /// ```
    ///
    /// # Errors
    /// The failure, if it is one.
    fn into_chunk(self) -> Result<Bytes, Refusal>;
}

/// The end of a generator: `()`, or a result.
///
/// ```
/// use tuffet::{Refusal, source::IntoEnd};
///
/// let end = std::fs::read("/no such file").map(drop);
/// assert_eq!(end.into_end(), Err(Refusal::not_found()));
/// ```
#[diagnostic::on_unimplemented(
    message = "a generator cannot end with `{Self}`",
    note = "a generator ends with `()`, or with `Result<(), E>`, where `E` becomes a `tuffet::Refusal`; one that never \
            ends says so: `async |co| -> () {{ loop {{ .. }} }}`"
)]
pub trait IntoEnd {
    /// `Ok` if the generator has not failed.
    ///
    /// ```
    /// use tuffet::{Refusal, source::IntoEnd};
    ///
    /// assert_eq!(().into_end(), Ok(()));
    /// assert_eq!(Err::<(), _>(Refusal::upstream()).into_end(), Err(Refusal::upstream()));
    /// ```
    ///
    /// # Errors
    /// The failure of the generator.
    fn into_end(self) -> Result<(), Refusal>;
}

/// A type that a read handler may return: a [`Source`], a generator, bytes, text, an `Option` (`None` is
/// [`Refusal::not_found`]), a [`File`](std::fs::File), or a `Result` with any error that becomes a [`Refusal`].
///
/// ```
/// use tuffet::{IntoSource, Refusal};
///
/// assert_eq!("text".into_source()?.size(), Some(4));
/// assert_eq!(b"bytes, also of `include_bytes!`".into_source()?.size(), Some(31));
/// assert_eq!(None::<String>.into_source().unwrap_err(), Refusal::not_found());
/// # Ok::<(), Refusal>(())
/// ```
pub trait IntoSource {
    /// [`SendChunks`] if the source may be sent to another thread, else [`LocalChunks`].
    type Chunks: Chunks;

    /// The source, or the refusal.
    ///
    /// ```
    /// use tuffet::IntoSource;
    ///
    /// assert_eq!(vec![0; 100].into_source()?.size(), Some(100));
    /// # Ok::<(), tuffet::Refusal>(())
    /// ```
    ///
    /// # Errors
    /// The refusal, if there is no source.
    fn into_source(self) -> Result<Source<Self::Chunks>, Refusal>;
}

impl<Y, F> From<Gen<Y, F>> for Source
where
    Y: IntoChunk + 'static,
    F: Future<Output: IntoEnd> + 'static,
{
    fn from(generator: Gen<Y, F>) -> Self {
        Self::stream(generator)
    }
}

impl<Y, F> IntoSource for Gen<Y, F>
where
    Y: IntoChunk + 'static,
    F: Future<Output: IntoEnd> + 'static,
{
    type Chunks = LocalChunks;

    fn into_source(self) -> Result<Source, Refusal> {
        Ok(self.into())
    }
}

impl<Y, F> From<SendGen<Y, F>> for SendSource
where
    Y: IntoChunk + Send + 'static,
    F: Future<Output: IntoEnd> + Send + 'static,
{
    fn from(generator: SendGen<Y, F>) -> Self {
        Self::of(Box::pin(generator))
    }
}

impl<Y, F> IntoSource for SendGen<Y, F>
where
    Y: IntoChunk + Send + 'static,
    F: Future<Output: IntoEnd> + Send + 'static,
{
    type Chunks = SendChunks;

    fn into_source(self) -> Result<SendSource, Refusal> {
        Ok(self.into())
    }
}

macro_rules! bytes {
    ($($bytes:ty)*) => {$(
        impl IntoChunk for $bytes {
            fn into_chunk(self) -> Result<Bytes, Refusal> {
                Ok(self.into())
            }
        }

        impl From<$bytes> for Source {
            fn from(bytes: $bytes) -> Self {
                whole(bytes.into()).into_local()
            }
        }

        impl IntoSource for $bytes {
            type Chunks = SendChunks;

            fn into_source(self) -> Result<SendSource, Refusal> {
                Ok(whole(self.into()))
            }
        }
    )*};
}
bytes!(Bytes Vec<u8> String &'static str &'static [u8]);

/// `b"text"`, `include_bytes!(..)`.
impl<const N: usize> IntoChunk for &'static [u8; N] {
    fn into_chunk(self) -> Result<Bytes, Refusal> {
        self.as_slice().into_chunk()
    }
}

impl<const N: usize> From<&'static [u8; N]> for Source {
    fn from(bytes: &'static [u8; N]) -> Self {
        bytes.as_slice().into()
    }
}

impl<const N: usize> IntoSource for &'static [u8; N] {
    type Chunks = SendChunks;

    fn into_source(self) -> Result<SendSource, Refusal> {
        self.as_slice().into_source()
    }
}

fn whole(bytes: Bytes) -> SendSource {
    let size = bytes.len() as u64;
    Source::sendable(futures_lite::stream::once(bytes)).with_size(size)
}

impl<T: IntoChunk, E: Into<Refusal>> IntoChunk for Result<T, E> {
    fn into_chunk(self) -> Result<Bytes, Refusal> {
        self.map_err(Into::into)?.into_chunk()
    }
}

impl IntoEnd for () {
    fn into_end(self) -> Result<(), Refusal> {
        Ok(())
    }
}

impl<E: Into<Refusal>> IntoEnd for Result<(), E> {
    fn into_end(self) -> Result<(), Refusal> {
        self.map_err(Into::into)
    }
}

impl<C: Chunks> IntoSource for Source<C> {
    type Chunks = C;

    fn into_source(self) -> Result<Self, Refusal> {
        Ok(self)
    }
}

impl From<SendSource> for Source {
    fn from(source: SendSource) -> Self {
        source.into_local()
    }
}

impl<T: IntoSource> IntoSource for Option<T> {
    type Chunks = T::Chunks;

    fn into_source(self) -> Result<Source<T::Chunks>, Refusal> {
        self.ok_or(Refusal::not_found())?.into_source()
    }
}

impl<T: IntoSource, E: Into<Refusal>> IntoSource for Result<T, E> {
    type Chunks = T::Chunks;

    fn into_source(self) -> Result<Source<T::Chunks>, Refusal> {
        self.map_err(Into::into)?.into_source()
    }
}
