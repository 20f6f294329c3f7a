//! A server in virtual time. Packets of a test arrive at once and in order, and no real time passes.

use std::{
    cell::RefCell,
    collections::{HashMap, VecDeque},
    net::SocketAddr,
    ops::Deref,
    rc::Rc,
    sync::mpsc::{Receiver, channel},
    time::{Duration, Instant},
};

use tuffet::{Handler, ServerBuilder, ServerHandle, read, sim, stats::Record};

use super::{LONG, Link, Peer};

/// A server, and the peers that it talks to.
pub struct Simulated {
    network: Rc<RefCell<Network>>,
    handle: ServerHandle,
    records: Receiver<Record>,
}

struct Network {
    server: sim::Server,
    /// The packets for each peer, with their senders.
    inboxes: HashMap<SocketAddr, VecDeque<(SocketAddr, Vec<u8>)>>,
    peers: u16,
}

/// The place of a peer in the network.
pub struct Place {
    network: Rc<RefCell<Network>>,
    addr: SocketAddr,
}

impl Simulated {
    pub fn new(handler: impl Handler) -> Self {
        Self::with(handler, |builder| builder)
    }

    pub fn with(handler: impl Handler, set: impl FnOnce(ServerBuilder) -> ServerBuilder) -> Self {
        Self::at(sim::Time::new(), handler, set)
    }

    /// A server whose handler waits for this time and then serves "at last".
    pub fn slow(delay: Duration, set: impl FnOnce(ServerBuilder) -> ServerBuilder) -> Self {
        let time = sim::Time::new();
        let clock = time.clone();
        let handler = read(move |_| {
            let clock = clock.clone();
            async move {
                clock.sleep(delay).await;
                "at last"
            }
        });
        Self::at(time, handler, set)
    }

    fn at(time: sim::Time, handler: impl Handler, set: impl FnOnce(ServerBuilder) -> ServerBuilder) -> Self {
        let (sender, records) = channel();
        let builder = ServerBuilder::default().handler(handler).on_end(move |record| drop(sender.send(record.clone())));
        let server = sim::Server::at(set(builder), 1350, time);
        let handle = server.handle().clone();
        let network = Network { server, inboxes: HashMap::new(), peers: 0 };
        Self { network: Rc::new(RefCell::new(network)), handle, records }
    }

    pub fn addr(&self) -> SocketAddr {
        self.network.borrow().server.addr()
    }

    /// One more, at the address of all that are got so.
    pub fn peer(&self) -> Peer<Place> {
        self.peer_at([192, 0, 2, 7])
    }

    pub fn peer_at(&self, address: [u8; 4]) -> Peer<Place> {
        let mut network = self.network.borrow_mut();
        network.peers += 1;
        let addr = SocketAddr::from((address, 2000 + network.peers));
        let server = network.server.addr();
        Peer { socket: Place { network: self.network.clone(), addr }, to: server, server, last: None }
    }

    pub fn now(&self) -> Instant {
        self.network.borrow().server.now()
    }

    /// Lets virtual time pass.
    pub fn pass(&self, time: Duration) {
        let until = self.now() + time;
        while self.network.borrow_mut().pass(until) {}
    }

    /// The record of the next transfer that ends, now or later.
    #[track_caller]
    pub fn record(&self) -> Record {
        let until = self.now() + LONG;
        loop {
            if let Ok(record) = self.records.try_recv() {
                return record;
            }
            assert!(self.network.borrow_mut().pass(until), "a transfer should have ended");
        }
    }

    /// The records that no test has taken yet.
    pub fn records(&self) -> Vec<Record> {
        self.records.try_iter().collect()
    }
}

impl Network {
    /// Lets virtual time pass until the server acts, or until `until`. Returns whether `until` is still to come.
    fn pass(&mut self, until: Instant) -> bool {
        let at = self.server.wake_at().filter(|at| *at < until);
        self.server.pass(at.unwrap_or(until));
        self.deliver();
        at.is_some()
    }

    fn deliver(&mut self) {
        for sim::Datagram { from, to, bytes } in self.server.sent() {
            self.inboxes.entry(to).or_default().push_back((from, bytes));
        }
    }
}

impl Place {
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }
}

impl Link for Place {
    fn send_to(&self, bytes: &[u8], to: SocketAddr) {
        let network = &mut *self.network.borrow_mut();
        network.server.deliver(self.addr, to, bytes);
        network.deliver();
    }

    fn receive_within(&self, time: Duration) -> Option<(SocketAddr, Vec<u8>)> {
        let network = &mut *self.network.borrow_mut();
        let now = network.server.now();
        // Other threads may have woken it.
        let mut comes_more = network.pass(now) || !time.is_zero();
        loop {
            let received = network.inboxes.entry(self.addr).or_default().pop_front();
            if received.is_some() || !comes_more {
                return received;
            }
            comes_more = network.pass(now + time);
        }
    }

    fn drain(&self) {
        self.network.borrow_mut().inboxes.remove(&self.addr);
    }

    fn now(&self) -> Instant {
        self.network.borrow().server.now()
    }

    fn is_answer(&self, _: SocketAddr, _: SocketAddr) -> bool {
        true
    }
}

impl Deref for Simulated {
    type Target = ServerHandle;

    fn deref(&self) -> &ServerHandle {
        &self.handle
    }
}
