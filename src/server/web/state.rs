//! The state that the parts of a connection share.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::{Duration, Instant},
};

use smol::Timer;

use super::{
    client_wait::ClientWait,
    head::{HEAD, Head},
    transfer::Transfer,
};
use crate::{error::Refusal, http1::Busy, transfer::Outcome};

pub(super) struct State {
    busy: Busy,
    pub(super) client: Rc<ClientWait>,
    /// The head of the next request.
    pub(super) head: Head,
    current: RefCell<Option<Rc<Transfer>>>,
    /// The bytes written since the transfer began, the head included.
    written: Cell<u64>,
    /// When the server began to wait for the handler or its source, if it does.
    source_since: Cell<Option<Instant>>,
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
            client: Rc::default(),
            head: Head::default(),
            current: RefCell::default(),
            written: Cell::default(),
            source_since: Cell::default(),
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
        self.client.end();
        self.source_since.set(None);
        self.current.replace(Some(transfer));
    }

    /// Counts written bytes.
    pub(super) fn wrote(&self, bytes: u64) {
        self.written.set(self.written.get() + bytes);
        self.client.progress(bytes);
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
            self.client.end();
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
            let is_late = |since: Option<Instant>| since.is_some_and(|since| since.elapsed() >= patience);
            if is_late(self.client.since()) {
                return Outcome::TimedOut;
            }
            if self.current.borrow().is_some() && is_late(self.source_since.get()) {
                return Outcome::Failed(Refusal::internal().because("the source gave no data for too long"));
            }
        }
    }
}
