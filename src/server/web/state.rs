//! The state that the parts of a connection share.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    rc::Rc,
    task::{Poll, Waker},
    time::{Duration, Instant},
};

use smol::Timer;

use super::{
    head::{HEAD, Head},
    transfer::Transfer,
};
use crate::{endpoint::CloseReason, error::Refusal, http1::Busy, transfer::Outcome};

/// Fewer bytes than these within the server's patience are no progress. Otherwise a client that takes one byte now and
/// then would hold its place for ever.
const PROGRESS: u64 = 4096;

pub(super) struct State {
    busy: Busy,
    /// The head of the next request.
    pub(super) head: Head,
    current: RefCell<Option<Rc<Transfer>>>,
    /// The bytes written since the transfer began, the head included.
    written: Cell<u64>,
    /// When the server began to wait for the client, if it does.
    client_since: Cell<Option<Instant>>,
    /// How many bytes the client has sent or received since.
    client_moved: Cell<u64>,
    /// When the server began to wait for the handler or its source, if it does.
    source_since: Cell<Option<Instant>>,
    /// Whether the transfer is evicted, and the task that ends it then.
    evicted: Cell<bool>,
    waker: RefCell<Option<Waker>>,
    /// The parts of files that the kernel sends.
    #[cfg(target_os = "linux")]
    pub(super) placeholders: super::placeholder::Placeholders,
    /// Whether a request has a body that is not read to its end.
    pub(super) unread: Cell<bool>,
    /// Whether only the end of the connection ends the answer.
    pub(super) undelimited: Cell<bool>,
}

impl State {
    pub(super) fn new(busy: Busy) -> Rc<Self> {
        Rc::new(Self {
            busy,
            head: Head::default(),
            current: RefCell::default(),
            written: Cell::default(),
            client_since: Cell::default(),
            client_moved: Cell::default(),
            source_since: Cell::default(),
            evicted: Cell::default(),
            waker: RefCell::default(),
            #[cfg(target_os = "linux")]
            placeholders: super::placeholder::Placeholders::default(),
            unread: Cell::default(),
            undelimited: Cell::default(),
        })
    }

    pub(super) fn is_busy(&self) -> bool {
        self.busy.get()
    }

    pub(super) fn begin(&self, transfer: Rc<Transfer>) {
        self.busy.set(true);
        self.written.set(0);
        self.client_is_done();
        self.source_since.set(None);
        self.current.replace(Some(transfer));
    }

    /// Counts written bytes.
    pub(super) fn wrote(&self, bytes: u64) {
        self.written.set(self.written.get() + bytes);
        self.note_client_progress(bytes);
    }

    pub(super) fn note_client_progress(&self, bytes: u64) {
        self.client_moved.set(self.client_moved.get() + bytes);
        if self.client_moved.get() >= PROGRESS {
            self.client_is_done();
        }
    }

    pub(super) fn wait_for_client(&self) {
        self.client_since.set(self.client_since.get().or_else(|| Some(Instant::now())));
    }

    pub(super) fn client_is_done(&self) {
        self.client_since.set(None);
        self.client_moved.set(0);
    }

    /// When the server began to wait for the client, if it does.
    pub(super) fn waits_since(&self) -> Option<Instant> {
        self.client_since.get()
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
        Outcome::Replaced(CloseReason::GaveWay.reason())
    }

    pub(super) fn wait_for_source(&self) {
        self.source_since.set(self.source_since.get().or_else(|| Some(Instant::now())));
    }

    pub(super) fn source_is_ready(&self) {
        self.source_since.set(None);
    }

    /// All written bytes have gone to the kernel.
    pub(super) fn flushed(&self) {
        let is_over = self.current.borrow().as_ref().is_none_or(|transfer| transfer.is_sent(self.written.get()));
        if is_over {
            self.client_is_done();
            self.busy.set(false);
            let over = self.current.take();
            over.iter().for_each(|transfer| transfer.finish());
        }
    }

    /// Why a connection ended that the other side did not close.
    pub(super) fn failure(&self) -> Option<Refusal> {
        #[cfg(target_os = "linux")]
        return self.placeholders.failure();
        #[cfg(not(target_os = "linux"))]
        None
    }

    /// Ends the transfer with the connection.
    pub(super) fn end_transfer(&self, why: Outcome) {
        let current = self.current.take();
        self.busy.set(false);
        if let Some(transfer) = current {
            transfer.cut_off(why, self.written.get());
        }
    }

    /// Waits until nothing has moved for the server's patience.
    pub(super) async fn stalled(&self) -> Outcome {
        loop {
            let patience = self.current.borrow().as_ref().map(|transfer| transfer.patience());
            let patience = patience.unwrap_or(HEAD);
            Timer::after((patience / 8).max(Duration::from_millis(5))).await;
            let is_late = |since: &Cell<Option<Instant>>| since.get().is_some_and(|since| since.elapsed() >= patience);
            if is_late(&self.client_since) {
                return Outcome::TimedOut;
            }
            if self.current.borrow().is_some() && is_late(&self.source_since) {
                return Outcome::Failed(Refusal::internal().because("the source gave no data for too long"));
            }
        }
    }
}
