//! One request and its answer, from its arrival to its record.

use std::{
    cell::RefCell,
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use super::{
    super::{
        session::{READ_AHEAD_BYTES, READ_AHEAD_TIME},
        settings::Terms,
        trace::Trace,
    },
    Site,
    gate::Permit,
    path_locks::PathLock,
};
use crate::{
    driver::feed::catch_panic,
    error::{ErrorCode, Refusal},
    handler::{self, Request},
    options::Direction,
    packet::{self, Mode, Options},
    shown,
    source::Source,
    stats::{Protocol, Record, Registered},
    transfer::Outcome,
    within::within,
};

/// The two addresses of a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Addresses {
    pub(super) peer: SocketAddr,
    pub(super) local: SocketAddr,
}

pub(super) struct Transfer {
    site: Rc<Site>,
    _permit: Permit,
    /// The registration of the transfer, until it has ended.
    live: RefCell<Option<Registered>>,
    pub(super) trace: Trace,
    pub(super) terms: Arc<Terms>,
    pub(super) request: Result<Request, Refusal>,
    began: Instant,
    /// The record so far. It asks for the headers that affect the answer.
    record: RefCell<Record>,
    /// The outcome, once the whole answer has gone to the kernel.
    outcome: RefCell<Option<Outcome>>,
}

impl Transfer {
    pub(super) fn begin(
        (site, permit, terms): (Rc<Site>, Permit, Arc<Terms>),
        addresses: Addresses,
        (name, query): (Vec<u8>, Option<&str>),
        (direction, asked): (Direction, Options),
    ) -> Rc<Self> {
        let (began, started) = (Instant::now(), SystemTime::now());
        let trace = Trace::new(addresses.peer, &name, direction);
        let filename = shown::name(&name);
        // Over HTTP, every client gets the size.
        let options = [("tsize", "0")].into_iter().collect();
        let packet = packet::Request { filename: name, mode: Mode::Octet, options };
        let request = Request::new(addresses.peer, addresses.local, packet);
        let request = request.map(|request| request.received_at(began).over(Protocol::Http));
        let request = request.map(|request| match query {
            Some(query) => request.with_query(query),
            None => request,
        });
        let path = request.as_ref().map_or_else(|_| filename.clone(), |request| shown::name(request.path_bytes()));
        let live = site.shared.begin(addresses.peer, path.clone(), (direction, Protocol::Http), began);
        let Addresses { peer, local } = addresses;
        let record = Record::new((peer, local), direction, (filename, path), started, asked);
        let record = Record { id: live.id(), protocol: Protocol::Http, ..record };
        Rc::new(Self {
            site,
            _permit: permit,
            live: RefCell::new(Some(live)),
            trace,
            terms,
            request,
            began,
            record: record.into(),
            outcome: RefCell::default(),
        })
    }

    pub(super) fn patience(&self) -> Duration {
        self.terms.settings.timing.patience
    }

    /// Opens the source, and finds its size if possible.
    pub(super) async fn open(&self, request: &Result<Request, Refusal>) -> Result<Source, Refusal> {
        let request = request.as_ref().map_err(Clone::clone)?;
        let handler = self.terms.handler.as_ref();
        let opened = within(self.patience(), catch_panic(handler::find(handler, request))).await;
        let too_long = || Refusal::internal().because("the handler took too long");
        let mut source = opened.ok_or_else(too_long)??;
        if source.size().is_none() {
            within(READ_AHEAD_TIME, catch_panic(source.read_ahead(READ_AHEAD_BYTES))).await.unwrap_or(Ok(()))?;
        }
        Ok(source)
    }

    /// Locks the path of this upload, so that no other one replaces the file.
    pub(super) async fn lock_path(&self) -> PathLock {
        let path = self.record.borrow().path.clone();
        self.site.locks.lock(&path).await
    }

    pub(super) fn set_size(&self, size: Option<u64>) {
        self.live.borrow().iter().for_each(|live| live.set_size(size));
    }

    pub(super) fn set_origin(&self, origin: Option<Arc<str>>) {
        self.record.borrow_mut().origin = origin;
    }

    pub(super) fn set_target(&self, target: Option<Arc<str>>) {
        self.record.borrow_mut().target = target;
    }

    pub(super) fn set_status(&self, status: u16) {
        self.record.borrow_mut().status = Some(status);
    }

    /// Counts bytes of the file.
    pub(super) fn count_bytes(&self, bytes: usize) {
        let counted = &mut self.record.borrow_mut().bytes;
        *counted += bytes as u64;
        self.live.borrow().iter().for_each(|live| live.set_bytes(*counted));
    }

    /// Sets the outcome for when all written bytes have gone to the kernel.
    pub(super) fn set_outcome(&self, outcome: Outcome) {
        self.outcome.borrow_mut().get_or_insert(outcome);
    }

    /// Asks the shards for descriptors.
    pub(super) fn want_room(&self) {
        self.site.shared.want_room();
    }

    /// Ends with a refusal or a failure.
    pub(super) fn refuse(&self, refusal: Refusal) {
        self.set_outcome(Outcome::of(refusal));
    }

    /// Whether this many written bytes include the whole answer.
    pub(super) fn is_sent(&self, written: u64) -> bool {
        let record = self.record.borrow();
        let of_file = if record.direction == Direction::Read { record.bytes } else { 0 };
        written > of_file && self.outcome.borrow().is_some()
    }

    /// The outcome if the client has closed the connection.
    pub(super) fn closed_by_client() -> Outcome {
        Outcome::Aborted { code: ErrorCode::NOT_DEFINED, message: "the client closed the connection".into() }
    }

    /// Ends the transfer: its whole answer has gone to the kernel.
    pub(super) fn finish(&self) {
        if let Some(outcome) = self.outcome.take() {
            self.end(outcome, u64::MAX);
        }
    }

    /// Ends the transfer because its connection ended first, for this reason, unless it had failed already. A whole
    /// upload is complete, also if the client has not waited for the answer. `written`: the bytes that the kernel has
    /// taken.
    pub(super) fn cut_off(&self, why: Outcome, written: u64) {
        let is_write = self.record.borrow().direction == Direction::Write;
        let stays = |had: &Outcome| match had {
            Outcome::Refused(_) | Outcome::Failed(_) => true,
            had => is_write && *had == Outcome::Complete,
        };
        let had = self.outcome.take().filter(stays);
        self.end(had.unwrap_or(why), if is_write { u64::MAX } else { written });
    }

    /// `most`: the client has no more bytes of the file than these.
    fn end(&self, outcome: Outcome, most: u64) {
        let Some(live) = self.live.take() else { return };
        let mut record = self.record.borrow_mut();
        (record.outcome, record.bytes) = (outcome, record.bytes.min(most));
        (record.size, record.duration) = (live.size(), self.began.elapsed());
        self.site.shared.end(live, &record, self.request.as_ref().ok(), &self.trace);
    }
}

impl Drop for Transfer {
    /// Records that the connection was cut off.
    fn drop(&mut self) {
        self.cut_off(if self.site.is_over.get() { Outcome::Stopped } else { Self::closed_by_client() }, u64::MAX);
    }
}
