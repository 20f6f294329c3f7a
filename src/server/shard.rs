//! One thread of the server: it does what the [`Endpoint`] says, and runs the transfers.
//!
//! A loop owns the sockets and the clock and drives the shard: it receives a batch, runs the transfers and sends their
//! packets.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    net::{IpAddr, SocketAddr},
    rc::{Rc, Weak},
    sync::{Arc, atomic::Ordering::SeqCst},
    time::{Duration, Instant},
};

use super::{
    Phase, Shared,
    clock::Clock,
    heartbeats::Heartbeat,
    outbox::{Outboxes, Outgoing},
    settings::Terms,
    tasks::Tasks,
};
use crate::{
    driver::mailbox::Mailbox,
    endpoint::{Action, DropReason, Ended, Endpoint, Envelope, Id, Pool, Start, is_request},
    error::Refusal,
    stats::Tally,
    transfer::FOR_EVER,
};

/// How often the shard looks for a worn-out port.
const STALE_CHECK: Duration = Duration::from_secs(1);

pub(crate) struct Shard {
    pub(super) shared: Arc<Shared>,
    tally: Arc<Tally>,
    heartbeat: Heartbeat,
    /// A weak pointer, because the tasks own the shard.
    tasks: Weak<Tasks>,
    endpoint: RefCell<Endpoint>,
    /// The terms that the endpoint follows.
    terms: RefCell<Arc<Terms>>,
    /// The mailboxes of the transfers, by number.
    mailboxes: RefCell<Vec<Option<Rc<Mailbox>>>>,
    pub(super) outboxes: Outboxes,
    /// The addresses of the ports.
    locals: RefCell<Vec<SocketAddr>>,
    pub(super) clock: Box<dyn Clock>,
    now: Cell<Instant>,
    /// Whether a transfer has a packet that it has not acted on.
    delivered: Cell<bool>,
    drain_deadline: Cell<Option<Instant>>,
    /// When the shard next looks for a worn-out port.
    next_stale_check: Cell<Instant>,
    /// The number of shortages for which room was made.
    shortages: Cell<usize>,
}

impl Shard {
    /// `locals`: the addresses of all ports.
    pub(crate) fn new(
        shared: Arc<Shared>,
        tasks: &Rc<Tasks>,
        locals: Vec<SocketAddr>,
        pools: Vec<Pool>,
        secret: u128,
        clock: Box<dyn Clock>,
    ) -> Rc<Self> {
        let terms = shared.current.terms();
        let now = clock.now();
        let mut endpoint = Endpoint::new(shared.policy(&terms), pools, secret);
        endpoint.set_own(terms.own.clone());
        Rc::new(Self {
            tally: shared.registry.tally(),
            heartbeat: shared.heartbeats.join(),
            endpoint: endpoint.into(),
            terms: terms.into(),
            shared,
            tasks: Rc::downgrade(tasks),
            mailboxes: RefCell::default(),
            outboxes: Outboxes::new(locals.len()),
            locals: locals.into(),
            now: now.into(),
            next_stale_check: (now + STALE_CHECK).into(),
            clock,
            delivered: Cell::new(false),
            drain_deadline: Cell::new(None),
            shortages: Cell::new(0),
        })
    }

    /// Sets the function that returns the largest blksize that needs no IP fragments.
    pub(crate) fn set_mtu(&self, mtu: impl FnMut(u32, &SocketAddr) -> u16 + 'static) {
        self.endpoint.borrow_mut().set_mtu(mtu);
    }

    /// Ends a turn of the loop. Returns whether it was the last turn: the server was stopped, and its transfers have
    /// ended, or their time to end is over. Then they end with an ERROR.
    pub(crate) fn end_turn(&self, tasks: &Tasks, flush: impl FnMut()) -> bool {
        self.shared.heartbeats.answer(&self.heartbeat);
        self.tally.take(self.endpoint.borrow_mut().counts());
        if self.lacks_room() {
            self.shortages.set(self.shared.shortages.load(SeqCst));
            self.make_room();
        }
        let is_over = self.is_over();
        if is_over && !self.is_idle() {
            self.abort_transfers(tasks, flush);
        }
        is_over
    }

    fn is_over(&self) -> bool {
        let phase = self.shared.phase();
        if phase == Phase::Serving {
            return false;
        }
        let until = self.drain_deadline.get().unwrap_or_else(|| self.begin_drain());
        phase == Phase::Over || self.is_idle() || self.clock.now() >= until
    }

    /// Takes no more requests. Returns when the transfers must have ended.
    fn begin_drain(&self) -> Instant {
        self.endpoint.borrow_mut().stop();
        let until = self.clock.now() + self.shared.current.terms().settings.drain.min(FOR_EVER);
        self.drain_deadline.set(Some(until));
        until
    }

    /// Whether [`end_turn`](Self::end_turn) has something to do.
    pub(crate) fn has_work(&self) -> bool {
        let of_phase = match self.shared.phase() {
            Phase::Serving => false,
            Phase::Draining => self.drain_deadline.get().is_none_or(|at| at <= self.now()) || self.is_idle(),
            Phase::Over => true,
        };
        of_phase || self.lacks_room() || self.shared.heartbeats.is_asked(&self.heartbeat) || self.outboxes.is_filled()
    }

    /// Whether another part of the server needs descriptors.
    fn lacks_room(&self) -> bool {
        self.shared.shortages.load(SeqCst) != self.shortages.get()
    }

    /// Ends transfers of silent clients, which may hold descriptors.
    fn make_room(&self) {
        self.endpoint.borrow_mut().make_room(self.now());
        self.close();
    }

    /// When the loop continues if no packet comes.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.endpoint.borrow().deadline().into_iter().chain(self.drain_deadline.get()).min()
    }

    /// Posts the timeouts that are due. Returns whether there were any.
    pub(crate) fn expire(&self) -> bool {
        let mut any = false;
        while let Some(id) = self.endpoint.borrow_mut().expired(self.now()) {
            self.with_mailbox(id, Mailbox::post_timeout);
            any = true;
        }
        any
    }

    pub(crate) fn read_clock(&self) {
        self.now.set(self.clock.now());
    }

    /// The time of the last batch.
    pub(crate) fn now(&self) -> Instant {
        self.now.get()
    }

    /// Handles a datagram that came to a port. Returns the transfer that begins with it, if one does.
    pub(super) fn handle(
        &self,
        tasks: &Tasks,
        port: usize,
        envelope: &Envelope,
        datagram: &[u8],
    ) -> Option<Box<Start>> {
        log::trace!("{}: received {} bytes", envelope.peer, datagram.len());
        if is_request(datagram) {
            if self.delivered.take() {
                tasks.run();
            }
            self.apply_changes();
        }
        let action = self.endpoint.borrow_mut().handle(self.now(), port, envelope, datagram);
        self.close();
        match action {
            Action::Deliver(id, packet) => {
                self.delivered.set(true);
                self.with_mailbox(id, |mailbox| mailbox.post(packet));
            }
            Action::Repeat(id) => self.with_mailbox(id, Mailbox::post_repeat),
            Action::Begin(start) => return Some(start),
            Action::Reply(packet) => {
                self.send(port, Outgoing::new(envelope.peer, self.source(port, envelope), packet));
            }
            Action::LeaveUnanswered(dropped) => {
                log_dropped(envelope.peer, dropped);
                self.shared.registry.note_unanswered(envelope.peer.ip(), dropped.reason(), self.now());
            }
            Action::Drop(dropped) => log_dropped(envelope.peer, dropped),
        }
        None
    }

    /// Reports at which ports no datagram waits.
    pub(crate) fn emptied(&self, is_empty: impl Fn(usize) -> bool) {
        self.endpoint.borrow_mut().emptied(self.now(), is_empty);
    }

    /// Counts received datagrams.
    pub(crate) fn received(&self, count: usize) {
        self.tally.received.add(count as u64);
    }

    /// Reports that ICMP says that the peer's port is closed.
    pub(crate) fn unreachable(&self, port: usize, peer: SocketAddr) {
        self.endpoint.borrow_mut().unreachable(self.now(), port, peer);
        self.close();
    }

    /// Sends the packets of the transfers: see [`Outboxes::flush`].
    pub(crate) fn flush(&self, send: impl FnMut(usize, &mut VecDeque<Outgoing>)) {
        self.tally.sent.add(self.outboxes.flush(send) as u64);
    }

    /// Adopts the current terms, if they have changed.
    fn apply_changes(&self) {
        let terms = self.shared.current.terms();
        if !Arc::ptr_eq(&terms, &self.terms.borrow()) {
            self.endpoint().set_policy(self.shared.policy(&terms));
            self.endpoint().set_own(terms.own.clone());
            self.terms.replace(terms);
        }
    }

    /// A mailbox for a transfer that begins.
    pub(super) fn open_mailbox(&self, id: Id) -> Rc<Mailbox> {
        let mailbox = Rc::<Mailbox>::default();
        let mut mailboxes = self.mailboxes.borrow_mut();
        if mailboxes.len() <= id.0 {
            mailboxes.resize(id.0 + 1, None);
        }
        mailboxes[id.0] = Some(mailbox.clone());
        mailbox
    }

    /// The terms that requests get now.
    pub(super) fn terms(&self) -> Arc<Terms> {
        self.terms.borrow().clone()
    }

    /// The address of a port.
    pub(super) fn local(&self, port: usize) -> SocketAddr {
        self.locals.borrow()[port]
    }

    /// Ends the transfers that the endpoint has closed.
    fn close(&self) {
        loop {
            let Some((id, why)) = self.endpoint.borrow_mut().closed() else { return };
            self.with_mailbox(id, |mailbox| mailbox.post_closed(why));
        }
    }

    fn with_mailbox(&self, id: Id, post: impl FnOnce(&Mailbox)) {
        if let Some(Some(mailbox)) = self.mailboxes.borrow().get(id.0) {
            post(mailbox);
        }
    }

    /// Ends a session.
    pub(super) fn end(&self, id: Id, ended: Ended) {
        self.endpoint.borrow_mut().end(self.now(), id, ended);
        self.mailboxes.borrow_mut()[id.0] = None;
        // A stopped server may have waited for this session.
        if let Some(tasks) = self.tasks.upgrade().filter(|_| self.shared.phase() > Phase::Serving) {
            tasks.wake();
        }
    }

    /// Refuses a request that has no transfer yet. Answers come from this address, if the socket is bound to all.
    pub(super) fn refuse(&self, start: &Start, from: Option<IpAddr>, refusal: &Refusal) {
        if refusal.is_busy() {
            // The client repeats its request, and then there may be room.
            self.make_room();
        }
        let Some(error) = refusal.packet() else { return };
        let allowed = self.endpoint.borrow_mut().refuse(self.now(), start.id);
        match allowed {
            Ok(()) => self.send(start.port, Outgoing::new(start.envelope.peer, from, error)),
            Err(dropped) => log_dropped(start.envelope.peer, dropped),
        }
    }

    pub(super) fn endpoint(&self) -> std::cell::RefMut<'_, Endpoint> {
        self.endpoint.borrow_mut()
    }

    /// The address to answer from, if the socket is bound to all addresses.
    pub(super) fn source(&self, port: usize, envelope: &Envelope) -> Option<IpAddr> {
        envelope.local.filter(|_| self.local(port).ip().is_unspecified())
    }

    /// Adds a datagram to the next batch.
    pub(super) fn send(&self, port: usize, datagram: Outgoing) {
        self.outboxes.push(port, datagram);
    }

    /// Ends all transfers with an ERROR. No transfer waits for anything after that.
    fn abort_transfers(&self, tasks: &Tasks, mut flush: impl FnMut()) {
        self.mailboxes.borrow().iter().flatten().for_each(|mailbox| mailbox.post_stop());
        for _ in 0..100 {
            tasks.run();
            flush();
            if self.is_idle() {
                break;
            }
        }
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.endpoint.borrow().is_empty()
    }

    /// Whether a transfer waits for its source or sink.
    #[cfg(feature = "sim")]
    pub(crate) fn awaits_handler(&self) -> bool {
        self.mailboxes.borrow().iter().flatten().any(|mailbox| mailbox.awaits_handler())
    }

    /// A worn-out port of a pool, which should be replaced.
    pub(crate) fn stale_port(&self) -> Option<usize> {
        if self.now() < self.next_stale_check.get() {
            return None;
        }
        self.next_stale_check.set(self.now() + STALE_CHECK);
        self.endpoint.borrow_mut().stale_port(self.now())
    }

    /// Notes that another port was bound in the place of this one.
    pub(crate) fn port_replaced(&self, port: usize, local: SocketAddr) {
        let before = std::mem::replace(&mut self.locals.borrow_mut()[port], local);
        self.shared.current.change(|now| {
            let mut terms = now.clone();
            terms.own.iter_mut().filter(|own| **own == before).for_each(|own| *own = local);
            terms
        });
    }
}

/// Logs that a datagram gets no answer. Many such lines show a flood.
fn log_dropped(peer: SocketAddr, dropped: DropReason) {
    log::debug!("{peer}: not answered: {dropped}");
}

impl Drop for Shard {
    fn drop(&mut self) {
        self.tally.take(self.endpoint.get_mut().counts());
        // The loop closes the sockets after this, and their counts of dropped datagrams are lost then.
        self.shared.registry.dropped();
    }
}
