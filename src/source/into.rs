//! Types that become a source, a chunk or an end.

use std::future::Future;

use bytes::Bytes;

use super::{Chunks, IntoChunk, IntoEnd, IntoSource, LocalChunks, SendChunks, SendSource, Source};
use crate::{
    error::Refusal,
    generators::{Gen, SendGen},
};

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
