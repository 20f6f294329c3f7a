#![doc = include_str!("../docs/generators.md")]

use std::{
    fmt,
    future::Future,
    pin::{Pin, pin},
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_lite::Stream;
use genawaiter::{GeneratorState, rc, sync};

use crate::{
    error::Refusal,
    source::{IntoChunk, IntoEnd},
};

macro_rules! flavour {
    ($flavour:ident: $(#[$gen_doc:meta])* $gen:ident $(#[$co_doc:meta])* $co:ident) => {
        $(#[$gen_doc])*
        pub struct $gen<Y, F: Future>($flavour::Gen<Y, (), F>);

        $(#[$co_doc])*
        pub struct $co<Y>($flavour::Co<Y>);

        impl<Y, F: Future> $gen<Y, F> {
            /// A generator that runs this closure from the first poll on.
            ///
            /// ```
            #[doc = concat!("use tuffet::{IntoSource, ", stringify!($gen), "};")]
            ///
            #[doc = concat!("let lines = ", stringify!($gen), "::new(async |co| co.yield_(\"hello\\n\").await);")]
            /// let bytes = futures_lite::future::block_on(lines.into_source()?.collect(100))?;
            /// assert_eq!(bytes, b"hello\n");
            /// # Ok::<(), tuffet::Refusal>(())
            /// ```
            pub fn new(body: impl FnOnce($co<Y>) -> F) -> Self {
                Self($flavour::Gen::new(|co| body($co(co))))
            }
        }

        impl<Y> $co<Y> {
            /// Hands a chunk to the transfer, and waits until it wants another one.
            ///
            /// ```
            #[doc = concat!("use tuffet::{IntoSource, ", stringify!($gen), "};")]
            ///
            #[doc = concat!("let numbers = ", stringify!($gen), "::new(async |co| {")]
            ///     for n in 1..=3 {
            ///         co.yield_(format!("{n}\n")).await;
            ///     }
            /// });
            /// let bytes = futures_lite::future::block_on(numbers.into_source()?.collect(100))?;
            /// assert_eq!(bytes, b"1\n2\n3\n");
            /// # Ok::<(), tuffet::Refusal>(())
            /// ```
            pub async fn yield_(&self, chunk: Y) {
                self.0.yield_(chunk).await;
            }
        }

        impl<Y: IntoChunk, F: Future<Output: IntoEnd>> Stream for $gen<Y, F> {
            type Item = Result<Bytes, Refusal>;

            fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
                pin!(self.0.async_resume()).poll(cx).map(|state| match state {
                    GeneratorState::Yielded(chunk) => Some(chunk.into_chunk()),
                    GeneratorState::Complete(end) => end.into_end().err().map(Err),
                })
            }
        }

        // A generator keeps its body in a pinned box and may be moved.
        impl<Y, F: Future> Unpin for $gen<Y, F> {}

        impl<Y, F: Future> fmt::Debug for $gen<Y, F> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($gen)).finish_non_exhaustive()
            }
        }

        impl<Y> fmt::Debug for $co<Y> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($co)).finish_non_exhaustive()
            }
        }
    };
}

flavour! { rc:
    /// Makes the bytes of a file when they are wanted: an async closure that yields chunks. [The page on
    /// generators](self) shows its uses.
    ///
    /// It is not `Send`: it stays on the thread of its transfer, and what it holds need not be `Send` either.
    /// [`SendGen`] is.
    ///
    /// ```
    /// use tuffet::{Gen, Source};
    ///
    /// let zeros = Gen::new(async |co| {
    ///     for _ in 0..3 {
    ///         co.yield_(vec![0; 1000]).await;
    ///     }
    /// });
    /// let bytes = futures_lite::future::block_on(Source::from(zeros).collect(1 << 20))?;
    /// assert_eq!(bytes.len(), 3000);
    /// # Ok::<(), tuffet::Refusal>(())
    /// ```
    Gen
    /// The receiver of the items that the body of a [`Gen`] yields. It stays on its thread (`!Send`).
    ///
    /// ```
    /// use tuffet::{Co, Gen, Source};
    ///
    /// async fn header(co: &Co<String>) {
    ///     co.yield_("#!ipxe\n".into()).await;
    /// }
    /// let script = Gen::new(async |co| {
    ///     header(&co).await;
    ///     co.yield_("boot\n".into()).await;
    /// });
    /// let bytes = futures_lite::future::block_on(Source::from(script).collect(100))?;
    /// assert_eq!(bytes, b"#!ipxe\nboot\n");
    /// # Ok::<(), tuffet::Refusal>(())
    /// ```
    Co
}

flavour! { sync:
    /// A [`Gen`] that may be sent to another thread, if what it holds may. Each chunk costs a lock.
    ///
    /// ```
    /// use tuffet::{SendGen, SendSource};
    ///
    /// let source = SendSource::from(SendGen::new(async |co| co.yield_("hello\n").await));
    /// let thread = std::thread::spawn(|| futures_lite::future::block_on(source.collect(100)));
    /// assert_eq!(thread.join().unwrap()?, b"hello\n");
    /// # Ok::<(), tuffet::Refusal>(())
    /// ```
    SendGen
    /// The receiver of the items that the body of a [`SendGen`] yields.
    ///
    /// ```
    /// use tuffet::{SendCo, SendGen, SendSource};
    ///
    /// async fn header(co: &SendCo<&str>) {
    ///     co.yield_("#!ipxe\n").await;
    /// }
    /// let script = SendSource::from(SendGen::new(async |co| header(&co).await));
    /// assert_eq!(futures_lite::future::block_on(script.collect(100))?, b"#!ipxe\n");
    /// # Ok::<(), tuffet::Refusal>(())
    /// ```
    SendCo
}
