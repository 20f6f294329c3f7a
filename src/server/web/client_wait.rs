//! How long a connection waits for its client.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    task::{Poll, Waker},
    time::Instant,
};

use crate::{endpoint::CloseReason, transfer::Outcome};

/// Fewer bytes than these within the server's patience are no progress. Otherwise a client that takes one byte now and
/// then would hold its place for ever.
const PROGRESS: u64 = 4096;

/// The wait for the client of a connection, and whether its transfer is evicted for that.
#[derive(Default)]
pub(super) struct ClientWait {
    /// When the wait began, if there is one.
    since: Cell<Option<Instant>>,
    /// How many bytes the client has sent or received since.
    moved: Cell<u64>,
    /// Whether the transfer is evicted, and the task that ends it then.
    evicted: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl ClientWait {
    pub(super) fn begin(&self) {
        self.since.set(self.since.get().or_else(|| Some(Instant::now())));
    }

    /// Counts bytes that the client has sent or received.
    pub(super) fn progress(&self, bytes: u64) {
        self.moved.set(self.moved.get() + bytes);
        if self.moved.get() >= PROGRESS {
            self.end();
        }
    }

    pub(super) fn end(&self) {
        self.since.set(None);
        self.moved.set(0);
    }

    /// When the wait began, if there is one.
    pub(super) fn since(&self) -> Option<Instant> {
        self.since.get()
    }

    /// Ends the transfer, and the connection with it.
    pub(super) fn evict(&self) {
        self.evicted.set(true);
        self.waker.take().into_iter().for_each(Waker::wake);
    }

    /// Waits until the transfer is evicted.
    pub(super) async fn eviction(&self) -> Outcome {
        poll_fn(|cx| {
            if self.evicted.get() {
                return Poll::Ready(());
            }
            self.waker.borrow_mut().get_or_insert_with(|| cx.waker().clone()).clone_from(cx.waker());
            Poll::Pending
        })
        .await;
        Outcome::Replaced(CloseReason::Evicted.reason())
    }
}
