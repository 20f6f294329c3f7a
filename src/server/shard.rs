//! One thread of the server: its transfers, and which datagram is whose.
//!
//! Its loop is in `fast`, or in `plain`: receive a batch, hand it to the transfers, let them run, send what they made.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    net::{IpAddr, SocketAddr},
    rc::{Rc, Weak},
    sync::Arc,
    time::{Duration, Instant},
};

#[cfg(target_os = "linux")]
use super::fast;
use super::{
    Map, Phase, Shared,
    admission::{Admission, Dropped, is_client},
    listen::{Listener, Ports},
    plain,
    pulse::Beat,
    recent::Recent,
    session::{Asked, Session},
    tasks::Tasks,
};
#[cfg(target_os = "linux")]
use crate::socket::epoll::Reactor;
use crate::{
    driver::mailbox::{Mailbox, Timers},
    error::{Error, Refusal},
    options::Direction,
    packet::{self, Malformed, Packet},
    socket::{Envelope, Inbox, Outgoing, Port, mtu::Mtus},
    stats::Tally,
};

/// Who is still heard has not been reset: its request is an old one. Who has been reset asks again.
const QUIET: Duration = Duration::from_secs(1);

/// Transfers on one port of a pool before the next port gets its share. Together they make larger batches, but all that
/// they can send at once should fit the receive buffer that Linux grants to everybody (208 KiB).
const CROWD: usize = 256;

const REPLACED: &str = "replaced by a new request of the same client";

/// What datagrams of a transfer are known by: the socket and the peer.
pub(super) type Key = (usize, SocketAddr);

pub(super) struct Shard {
    pub(super) shared: Arc<Shared>,
    tally: Arc<Tally>,
    beat: Beat,
    /// Not owned: they own the shard.
    tasks: Weak<Tasks>,
    pub(super) ports: Vec<Port>,
    listeners: Vec<Listener>,
    pub(super) outboxes: Vec<Outbox>,
    sessions: RefCell<Map<Key, Rc<Session>>>,
    /// The same sessions by the request that they answer.
    requests: RefCell<Map<Asked, Rc<Session>>>,
    recent: RefCell<Recent>,
    admission: RefCell<Admission>,
    timers: RefCell<Timers>,
    mtus: RefCell<Mtus>,
    now: Cell<Instant>,
}

impl Shard {
    /// Serves on this thread until the server is stopped.
    pub(super) fn run(ports: Ports, shared: Arc<Shared>) -> Result<(), Error> {
        let Ports { ports, listeners } = ports;
        let tasks = Rc::new(Tasks::default());
        let shard = Rc::new(Self {
            admission: Admission::new(shared.current.terms()).into(),
            tally: shared.registry.tally(),
            beat: shared.pulse.join(),
            shared,
            tasks: Rc::downgrade(&tasks),
            outboxes: ports.iter().map(|_| Outbox::default()).collect(),
            ports,
            listeners,
            sessions: RefCell::default(),
            requests: RefCell::default(),
            recent: RefCell::default(),
            timers: RefCell::default(),
            mtus: RefCell::default(),
            now: Cell::new(Instant::now()),
        });
        #[cfg(target_os = "linux")]
        if shard.shared.current.terms().settings.batched {
            match Reactor::new(&shard.ports) {
                Ok(reactor) => return fast::run(&shard, &tasks, reactor),
                Err(error) => log::debug!("waiting the plain way: {error}"),
            }
        }
        plain::run(&shard, &tasks)
    }

    /// Where to go on from here, now that a batch is done.
    pub(super) fn next(&self, last_call: &mut Option<Instant>) -> Next {
        self.shared.pulse.beat(&self.beat);
        let phase = self.shared.phase();
        if phase == Phase::Serving {
            return Next::Serve;
        }
        let until = *last_call.get_or_insert_with(|| Instant::now() + self.shared.current.terms().settings.drain);
        if self.sessions.borrow().is_empty() {
            Next::Leave
        } else if phase == Phase::Over || Instant::now() >= until {
            Next::SayGoodbye
        } else {
            Next::Serve
        }
    }

    /// Whether somebody waits for a turn of the loop, if it does nothing else.
    pub(super) fn is_asked(&self) -> bool {
        self.shared.pulse.asks(&self.beat)
    }

    /// When to come back if nothing happens.
    pub(super) fn deadline(&self, last_call: Option<Instant>) -> Option<Instant> {
        self.timers.borrow().next().into_iter().chain(last_call).min()
    }

    /// Posts the timeouts that are due. Returns whether there were any.
    pub(super) fn expire(&self) -> bool {
        self.timers.borrow_mut().expire(self.now())
    }

    pub(super) fn read_clock(&self) {
        self.now.set(Instant::now());
    }

    /// Hands what was received by a port to the transfers.
    pub(super) fn deliver(self: &Rc<Self>, port: usize, inbox: &Inbox) {
        self.tally.received.add(inbox.len() as u64);
        for (envelope, bytes) in inbox.datagrams() {
            self.route(port, envelope, bytes);
        }
    }

    fn route(self: &Rc<Self>, port: usize, envelope: Envelope, bytes: &[u8]) {
        let key = (port, envelope.peer);
        let listener = self.listeners.iter().find(|listener| listener.port == port);
        log::trace!("{}: received {} bytes", envelope.peer, bytes.len());
        match (Packet::decode(bytes), listener) {
            (Ok(Packet::Rrq(request)), Some(listener)) => self.request(listener, envelope, Direction::Read, request),
            (Ok(Packet::Wrq(request)), Some(listener)) => self.request(listener, envelope, Direction::Write, request),
            (Ok(Packet::Rrq(_) | Packet::Wrq(_)), None) => self.tally.strangers.add(1),
            (Ok(packet), _) => {
                let session = self.sessions.borrow().get(&key).cloned();
                match session {
                    Some(session) => {
                        session.heard.set(Some(self.now()));
                        session.mailbox.post(packet);
                    }
                    None => self.answer_stranger(key, &envelope, &packet),
                }
            }
            (Err(malformed), listener) => {
                log::debug!("{}: {malformed}", envelope.peer);
                self.tally.malformed.add(1);
                let is_request = matches!(malformed, Malformed::Filename | Malformed::Mode);
                if is_request && listener.is_some() {
                    self.refuse_stranger(key, &envelope, &Refusal::bad_request());
                }
            }
        }
    }

    fn request(
        self: &Rc<Self>,
        listener: &Listener,
        envelope: Envelope,
        direction: Direction,
        request: Box<packet::Request>,
    ) {
        self.tally.requests.add(1);
        let terms = self.shared.current.terms();
        self.admission.borrow_mut().follow(&terms);
        if let Err(dropped) = self.admit_request(&envelope) {
            return self.leave_unanswered(envelope.peer, dropped);
        }
        let asked = (listener.port, envelope.peer, envelope.local);
        let earlier = self.requests.borrow().get(&asked).cloned();
        if let Some(earlier) = earlier {
            if earlier.direction == direction && *earlier.request == *request {
                let is_old = match earlier.heard.get() {
                    None => {
                        earlier.mailbox.post_repeat();
                        true
                    }
                    // It was sent before the first ACK, and waited longer in the queue of its socket.
                    Some(at) => self.now().saturating_duration_since(at) < QUIET,
                };
                if is_old {
                    return self.tally.repeated.add(1);
                }
            }
            self.close(&earlier, REPLACED);
        }
        if let Err(dropped) = self.admit_transfer(envelope.peer.ip()) {
            return self.leave_unanswered(envelope.peer, dropped);
        }
        let key = (self.draw(listener, envelope.peer), envelope.peer);
        // The same client has asked at another address of ours, and drew the same port.
        let other = self.sessions.borrow().get(&key).cloned();
        if let Some(other) = other {
            self.close(&other, REPLACED);
        }
        let bound = self.ports[listener.port].local();
        let settings = &terms.settings;
        let session = Rc::new(Session {
            key,
            asked,
            from: self.source(listener.port, &envelope),
            local: (envelope.local.unwrap_or(bound.ip()), bound.port()).into(),
            direction,
            request: request.into(),
            blksize: match settings.mtu {
                true => self.mtus.borrow_mut().blksize(envelope.interface, &envelope.peer),
                false => settings.limits.blksize,
            },
            began: self.now(),
            answered: Cell::new(None),
            heard: Cell::new(None),
            mailbox: Rc::default(),
            terms,
        });
        self.admission.borrow_mut().began(envelope.peer.ip());
        self.sessions.borrow_mut().insert(key, session.clone());
        self.requests.borrow_mut().insert(asked, session.clone());
        if let Some(tasks) = self.tasks.upgrade() {
            tasks.spawn(|place| session.run(self.clone(), place));
        }
    }

    fn leave_unanswered(&self, peer: SocketAddr, dropped: Dropped) {
        drop_silently(peer, dropped);
        self.shared.registry.turn_away(peer.ip(), dropped.reason(), self.now());
        match dropped {
            Dropped::Source | Dropped::Stopping | Dropped::Denied => self.tally.unanswered.add(1),
            _ => self.tally.over_limit.add(1),
        }
    }

    fn admit_request(&self, envelope: &Envelope) -> Result<(), Dropped> {
        if !is_client(envelope.peer, envelope.local, &self.shared.own) {
            return Err(Dropped::Source);
        }
        self.admission.borrow_mut().request(envelope.peer.ip(), self.now())
    }

    fn admit_transfer(&self, peer: IpAddr) -> Result<(), Dropped> {
        if self.shared.phase() > Phase::Serving {
            return Err(Dropped::Stopping);
        }
        let room = || self.admission.borrow().room(peer, self.sessions.borrow().len());
        match room() {
            Err(Dropped::Full) => {
                self.make_room();
                room()
            }
            other => other,
        }
    }

    /// Ends the transfers whose clients have been silent since their first packet.
    fn make_room(&self) {
        let Some(since) = self.admission.borrow_mut().sweep(self.now()) else { return };
        // Who waits for a slow handler could not answer yet.
        let is_silent = |session: &&Rc<Session>| {
            session.heard.get().is_none() && session.answered.get().is_some_and(|at| at <= since)
        };
        let silent: Vec<_> = self.sessions.borrow().values().filter(is_silent).cloned().collect();
        for session in silent {
            self.close(&session, "nobody has answered, and others wait");
        }
    }

    /// A port for a new transfer: the one that this peer has not had for longest, so that nothing of the transfer before
    /// can be taken for a part of this one; else the one that fills up.
    fn draw(&self, listener: &Listener, peer: SocketAddr) -> usize {
        let (sessions, recent) = (self.sessions.borrow(), self.recent.borrow());
        let (pool, next) = (&listener.pool, sessions.len() / CROWD % listener.pool.len());
        let last_use = |port: &usize| match (*port, peer) {
            key if sessions.contains_key(&key) => Some(self.now()),
            key => recent.ended_at(&key),
        };
        pool[next..].iter().chain(&pool[..next]).copied().min_by_key(last_use).unwrap_or(pool[next])
    }

    /// To this session it is as if its client had left. What is still on its way is no stranger's.
    fn close(&self, session: &Session, why: &'static str) {
        self.forget(session);
        self.recent.borrow_mut().insert(session.key, None, self.now());
        session.mailbox.post_closed(why);
    }

    fn forget(&self, session: &Session) {
        fn remove<K: std::hash::Hash + Eq>(map: &RefCell<Map<K, Rc<Session>>>, key: &K, session: &Session) -> bool {
            let mut map = map.borrow_mut();
            let is_there = map.get(key).is_some_and(|found| std::ptr::eq(&**found, session));
            if is_there {
                map.remove(key);
            }
            is_there
        }
        if remove(&self.sessions, &session.key, session) {
            self.admission.borrow_mut().ended(session.key.1.ip());
        }
        remove(&self.requests, &session.asked, session);
    }

    /// The session is over. `last_ack`: the ACK that ended an upload, to be repeated if it was lost.
    pub(super) fn end(&self, session: &Session, last_ack: Option<u16>) {
        self.forget(session);
        self.timers.borrow_mut().release(&session.mailbox);
        self.recent.borrow_mut().insert(session.key, last_ack, self.now());
        // It may have been the last that a stopped server waits for.
        if self.shared.phase() > Phase::Serving {
            self.wake();
        }
    }

    /// A packet of nobody's transfer (RFC 1350 section 4), or of one that has just ended.
    fn answer_stranger(&self, key: Key, envelope: &Envelope, packet: &Packet) {
        let from = self.source(key.0, envelope);
        let recent = self.recent.borrow().find(&key, self.now());
        self.tally.strangers.add(recent.is_none().into());
        match (recent, packet) {
            (Some(Some(last_ack)), Packet::Data { block, .. }) if *block == last_ack => {
                self.send(key.0, Outgoing::new(key.1, from, Packet::Ack(last_ack)));
            }
            (Some(_), _) => {}
            // In a storm the memory is too small to tell a stranger from a client whose last ACK comes late.
            (None, _) if self.recent.borrow().may_have_forgotten(self.now()) => {}
            (None, Packet::Data { .. } | Packet::Ack(_)) => {
                let is_pool = self.listeners.iter().any(|listener| listener.pool.contains(&key.0));
                if is_pool {
                    self.refuse_stranger(key, envelope, &Refusal::unknown_tid());
                }
            }
            (None, _) => {}
        }
    }

    fn refuse_stranger(&self, key: Key, envelope: &Envelope, refusal: &Refusal) {
        if !is_client(key.1, envelope.local, &self.shared.own) {
            return drop_silently(key.1, Dropped::Source);
        }
        match self.admission.borrow_mut().stranger(key.1.ip(), self.now()) {
            Ok(()) => self.refuse(key, self.source(key.0, envelope), refusal),
            Err(dropped) => drop_silently(key.1, dropped),
        }
    }

    /// Says no to a request that has no transfer yet.
    pub(super) fn refuse_request(&self, key: Key, from: Option<IpAddr>, refusal: &Refusal) {
        if refusal.packet().is_none() {
            return;
        }
        match self.admission.borrow_mut().refusal(self.now()) {
            Ok(()) => self.refuse(key, from, refusal),
            Err(dropped) => drop_silently(key.1, dropped),
        }
    }

    fn refuse(&self, key: Key, from: Option<IpAddr>, refusal: &Refusal) {
        if let Some(error) = refusal.packet() {
            self.send(key.0, Outgoing::new(key.1, from, error));
        }
    }

    /// The address to answer from, which a socket of a single address has anyway.
    fn source(&self, port: usize, envelope: &Envelope) -> Option<IpAddr> {
        envelope.local.filter(|_| self.ports[port].local().ip().is_unspecified())
    }

    /// Puts a datagram into the next batch.
    pub(super) fn send(&self, port: usize, datagram: Outgoing) {
        self.outboxes[port].queue.borrow_mut().push_back(datagram);
    }

    fn wake(&self) {
        if let Some(tasks) = self.tasks.upgrade() {
            tasks.wake();
        }
    }

    pub(super) fn flush(&self) {
        for (port, outbox) in self.ports.iter().zip(&self.outboxes) {
            let mut queue = outbox.queue.borrow_mut();
            if !queue.is_empty() && !outbox.full.get() {
                let waiting = queue.len();
                port.send(&mut queue);
                self.tally.sent.add((waiting - queue.len()) as u64);
                outbox.full.set(!queue.is_empty());
            }
        }
    }

    pub(super) fn set_deadline(&self, mailbox: &Rc<Mailbox>, deadline: Instant) {
        self.timers.borrow_mut().set(mailbox, deadline);
    }

    /// The time of the last batch.
    pub(super) fn now(&self) -> Instant {
        self.now.get()
    }

    /// Has all transfers end with an ERROR. None of them waits for anything after that.
    pub(super) fn say_goodbye(&self) {
        for session in self.sessions.borrow().values() {
            session.mailbox.post_stop();
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.sessions.borrow().is_empty()
    }
}

impl Drop for Shard {
    fn drop(&mut self) {
        // The sockets take their counts of what was dropped with them.
        self.shared.registry.dropped();
    }
}

/// Who sent this gets no answer. Who watches for a flood looks here.
fn drop_silently(peer: SocketAddr, dropped: Dropped) {
    log::debug!("{peer}: not answered: {dropped}");
}

/// What a loop does after a batch.
pub(super) enum Next {
    Serve,
    /// Patience with the transfers is over.
    SayGoodbye,
    Leave,
}

/// What is to be sent by one socket.
#[derive(Default)]
pub(super) struct Outbox {
    pub(super) queue: RefCell<VecDeque<Outgoing>>,
    /// Whether the socket took no more when it was last tried.
    pub(super) full: Cell<bool>,
    /// Whether the loop has asked to be told when it takes more.
    #[cfg(target_os = "linux")]
    pub(super) watched: Cell<bool>,
}
