//! The span of a transfer, with the feature `tracing`; without it, nothing.

use std::{future::Future, net::SocketAddr};

use crate::{options::Direction, stats::Record};

#[derive(Clone)]
pub(super) struct Trace {
    #[cfg(feature = "tracing")]
    span: tracing::Span,
}

#[cfg(not(feature = "tracing"))]
impl Trace {
    pub(super) fn new(_: SocketAddr, _: &[u8], _: Direction) -> Self {
        Self {}
    }

    pub(super) fn around<F: Future>(self, transfer: F) -> F {
        transfer
    }

    #[cfg(feature = "web")]
    #[allow(clippy::unused_self, reason = "with the feature `tracing`, it uses the span")]
    pub(super) fn within<T>(&self, work: impl FnOnce() -> T) -> T {
        work()
    }

    #[allow(clippy::unused_self, reason = "with the feature `tracing`, it uses the span")]
    pub(super) fn end(&self, _: &Record) {}
}

#[cfg(feature = "tracing")]
impl Trace {
    pub(super) fn new(peer: SocketAddr, filename: &[u8], direction: Direction) -> Self {
        use tracing::field::Empty;

        let file = crate::shown::name(filename);
        let span = tracing::info_span!(
            target: "tuffet::transfers",
            "transfer",
            peer = %peer,
            file = %crate::shown::cut(&file, crate::shown::NAME),
            direction = %direction,
            outcome = Empty,
            bytes = Empty,
        );
        Self { span }
    }

    /// Keeps the handler and the source within the span whenever they run.
    pub(super) fn around<F: Future>(self, transfer: F) -> impl Future<Output = F::Output> {
        use tracing::Instrument;

        transfer.instrument(self.span)
    }

    /// Runs code that does not wait within the span.
    #[cfg(feature = "web")]
    pub(super) fn within<T>(&self, work: impl FnOnce() -> T) -> T {
        self.span.in_scope(work)
    }

    pub(super) fn end(&self, record: &Record) {
        self.span.record("outcome", record.outcome.name()).record("bytes", record.bytes);
    }
}
