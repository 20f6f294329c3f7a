//! The span of a transfer, with the feature `tracing`; without it, nothing.

use std::future::Future;

use crate::{endpoint::Start, stats::Record};

#[derive(Clone)]
pub(super) struct Trace {
    #[cfg(feature = "tracing")]
    span: tracing::Span,
}

#[cfg(not(feature = "tracing"))]
impl Trace {
    pub(super) fn new(_: &Start) -> Self {
        Self {}
    }

    pub(super) fn around<F: Future>(self, transfer: F) -> F {
        transfer
    }

    #[allow(clippy::unused_self, reason = "the other one has something to do")]
    pub(super) fn end(&self, _: &Record) {}
}

#[cfg(feature = "tracing")]
impl Trace {
    pub(super) fn new(start: &Start) -> Self {
        use tracing::field::Empty;

        let file = crate::shown::name(&start.request.filename);
        let span = tracing::info_span!(
            target: "tuffet::transfers",
            "transfer",
            peer = %start.envelope.peer,
            file = %crate::shown::cut(&file, crate::shown::NAME),
            direction = %start.direction,
            outcome = Empty,
            bytes = Empty,
        );
        Self { span }
    }

    /// The handler and the source are within the span whenever they go on.
    pub(super) fn around<F: Future>(self, transfer: F) -> impl Future<Output = F::Output> {
        use tracing::Instrument;

        transfer.instrument(self.span)
    }

    pub(super) fn end(&self, record: &Record) {
        self.span.record("outcome", record.outcome.name()).record("bytes", record.bytes);
    }
}
