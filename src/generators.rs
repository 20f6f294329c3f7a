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
    ($gen:ident $co:ident $flavour:ident: $gen_doc:literal $co_doc:literal) => {
        #[doc = $gen_doc]
        pub struct $gen<Y, F: Future>($flavour::Gen<Y, (), F>);

        #[doc = $co_doc]
        pub struct $co<Y>($flavour::Co<Y>);

        impl<Y, F: Future> $gen<Y, F> {
            /// A generator that runs this closure from the first poll on.
            pub fn new(body: impl FnOnce($co<Y>) -> F) -> Self {
                Self($flavour::Gen::new(|co| body($co(co))))
            }
        }

        impl<Y> $co<Y> {
            /// Hands a chunk to the transfer, and waits until it wants another one.
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

flavour! { Gen Co rc:
    "Makes the bytes of a file when they are wanted: an async closure that yields chunks. [The page on generators](self) \
     shows its uses.\n\nIt is not `Send`: it stays on the thread of its transfer, and what it holds need not be `Send` \
     either. [`SendGen`] is."
    "What the body of a [`Gen`] yields to. It stays on its thread (`!Send`)."
}

flavour! { SendGen SendCo sync:
    "A [`Gen`] that may be sent to another thread, if what it holds may. Each chunk costs a lock."
    "What the body of a [`SendGen`] yields to."
}
