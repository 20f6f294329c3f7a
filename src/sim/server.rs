//! The loop of a shard in virtual time: calls deliver and return the datagrams.

use std::{
    fmt, mem,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    task::{Wake, Waker},
    time::Instant,
};

use super::Time;
use crate::{
    ServerBuilder, ServerHandle,
    endpoint::{Envelope, Pool},
    server::{Shard, Shared, Tasks, receive},
    sync::Mutex,
};

/// The default address of a server, from those that are reserved for documentation.
const ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 69);

/// A server in virtual time, with one shard. It stays on its thread (`!Send`), as its handlers' futures do. [The
/// module](super) has an example.
///
/// ```
/// use tuffet::{ServerBuilder, read, sim};
///
/// let mut server = sim::Server::new(ServerBuilder::default().handler(read(|_| "hello\n")), 7);
/// let client = ([192, 0, 2, 7], 1069).into();
/// server.deliver(client, server.addr(), b"\0\x01motd\0octet\0");
/// assert_eq!(server.sent()[0].bytes, b"\0\x03\0\x01hello\n");
/// ```
pub struct Server {
    shard: Rc<Shard>,
    tasks: Rc<Tasks>,
    time: Time,
    bell: Arc<Bell>,
    addrs: Vec<SocketAddr>,
    handle: ServerHandle,
    sent: Vec<Datagram>,
    is_over: bool,
}

/// A datagram between client and server.
///
/// ```
/// use tuffet::{ServerBuilder, read, sim};
///
/// let mut server = sim::Server::new(ServerBuilder::default().handler(read(|_| "hello\n")), 7);
/// let client = ([192, 0, 2, 7], 1069).into();
/// server.deliver(client, server.addr(), b"\0\x01motd\0octet\0");
/// let answer = server.sent().remove(0);
/// assert!(answer.to == client && answer.from != server.addr(), "from the port of the transfer");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// The address of the sender.
    pub from: SocketAddr,
    /// The address of the receiver.
    pub to: SocketAddr,
    /// One TFTP packet, if a server has sent the datagram.
    pub bytes: Vec<u8>,
}

/// Rung when a task has something to do.
#[derive(Default)]
struct Bell {
    rung: AtomicBool,
    /// The waker of the task that drives the server.
    waker: Mutex<Option<Waker>>,
}

impl Server {
    /// A server with these settings, which draws its ports from this seed. It listens only on the first address of
    /// `builder`, or on 192.0.2.1:69 if there is none.
    ///
    /// ```
    /// use tuffet::{ServerBuilder, sim};
    ///
    /// let on = |address: &str| sim::Server::new(ServerBuilder::default().listen(address), 7);
    /// assert_eq!(on("198.51.100.1:69").addr().to_string(), "198.51.100.1:69");
    /// ```
    ///
    /// # Panics
    /// If a setting makes no sense.
    pub fn new(builder: ServerBuilder, seed: u64) -> Self {
        Self::at(builder, seed, Time::new())
    }

    /// As [`new`](Self::new), with a clock that the handlers share.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tuffet::{ServerBuilder, read, sim};
    ///
    /// let time = sim::Time::new();
    /// let clock = time.clone();
    /// let slow = read(async move |_| {
    ///     clock.sleep(Duration::from_secs(3)).await;
    ///     "hello\n"
    /// });
    /// let mut server = sim::Server::at(ServerBuilder::default().handler(slow), 7, time);
    /// server.deliver(([192, 0, 2, 7], 1069).into(), server.addr(), b"\0\x01motd\0octet\0");
    /// assert!(server.sent().is_empty());
    /// server.pass(server.now() + Duration::from_secs(3));
    /// assert_eq!(server.sent().len(), 1);
    /// ```
    ///
    /// # Panics
    /// If a setting makes no sense.
    pub fn at(builder: ServerBuilder, seed: u64, time: Time) -> Self {
        assert!(builder.mistake().is_none(), "{:?}", builder.mistake());
        let mut random = fastrand::Rng::with_seed(seed);
        let listener = builder.first_address().unwrap_or(ADDRESS);
        let mut addrs = vec![listener];
        let ports = if builder.is_single_port() { vec![0] } else { (1..=ServerBuilder::TRANSFER_PORTS).collect() };
        while addrs.len() <= *ports.last().unwrap_or(&0) {
            let addr = SocketAddr::new(listener.ip(), random.u16(32768..));
            if !addrs.contains(&addr) {
                addrs.push(addr);
            }
        }
        let shared = Arc::new(Shared::new(builder, addrs.clone(), Vec::new()));
        let (tasks, bell) = (Rc::new(Tasks::default()), Arc::new(Bell::default()));
        tasks.set_waker(bell.clone().into());
        let pool = Pool { listener: 0, ports };
        let (secret, clock) = (random.u128(..), Box::new(time.clone()));
        let shard = Shard::new(shared.clone(), &tasks, addrs.clone(), vec![pool], secret, clock);
        Self { shard, tasks, time, bell, addrs, handle: ServerHandle(shared), sent: Vec::new(), is_over: false }
    }

    /// The address that receives requests.
    ///
    /// ```
    /// use tuffet::{ServerBuilder, sim};
    ///
    /// assert_eq!(sim::Server::new(ServerBuilder::default(), 7).addr().to_string(), "192.0.2.1:69");
    /// ```
    pub fn addr(&self) -> SocketAddr {
        self.addrs[0]
    }

    /// The addresses of all ports: the one that receives requests, and those of the transfers.
    ///
    /// ```
    /// use tuffet::{ServerBuilder, sim};
    ///
    /// let server = |builder| sim::Server::new(builder, 7);
    /// assert_eq!(server(ServerBuilder::default()).addrs().len(), 65, "64 ports serve the transfers");
    /// assert_eq!(server(ServerBuilder::default().single_port(true)).addrs().len(), 1);
    /// ```
    pub fn addrs(&self) -> &[SocketAddr] {
        &self.addrs
    }

    /// The handle, to stop and to reload the server, and to see its state.
    ///
    /// ```
    #[doc = include_str!("server_example.md")]
    /// server.deliver(client, server.addr(), b"\0\x01motd\0octet\0");
    /// assert_eq!(server.handle().counters().requests, 1);
    /// ```
    pub fn handle(&self) -> &ServerHandle {
        &self.handle
    }

    /// The current virtual time.
    ///
    /// ```
    #[doc = include_str!("server_example.md")]
    /// let then = server.now();
    /// server.pass(then + std::time::Duration::from_secs(3600));
    /// assert_eq!((server.now() - then).as_secs(), 3600);
    /// ```
    pub fn now(&self) -> Instant {
        self.time.now()
    }

    /// Delivers a datagram to the server, now. A datagram to none of its ports is lost.
    ///
    /// ```
    #[doc = include_str!("server_example.md")]
    /// server.deliver(client, server.addr(), b"\0\x01motd\0octet\0");
    /// let data = server.sent().remove(0);
    /// server.deliver(client, data.from, b"\0\x04\0\x01");
    /// assert_eq!(server.handle().counters().reads.complete, 1);
    /// ```
    pub fn deliver(&mut self, from: SocketAddr, to: SocketAddr, bytes: &[u8]) {
        self.deliver_at(self.now(), from, to, bytes);
    }

    /// Delivers a datagram at this time, before the deadlines up to then: a peer that has sent a packet is not late.
    ///
    /// ```
    #[doc = include_str!("server_example.md")]
    /// let later = server.now() + std::time::Duration::from_secs(60);
    /// server.deliver_at(later, client, server.addr(), b"\0\x01motd\0octet\0");
    /// assert_eq!((server.now(), server.sent().len()), (later, 1));
    /// ```
    pub fn deliver_at(&mut self, now: Instant, from: SocketAddr, to: SocketAddr, bytes: &[u8]) {
        self.deliver_enveloped(now, Envelope::new(from), to, bytes);
    }

    /// As [`deliver`](Self::deliver), for a datagram to the broadcast address.
    ///
    /// ```
    /// # use tuffet::{ServerBuilder, sim};
    /// # let client = ([192, 0, 2, 7], 1069).into();
    /// let mut server = sim::Server::new(ServerBuilder::default(), 7);
    /// server.deliver_broadcast(client, b"\0\x01none\0octet\0");
    /// assert!(server.sent().is_empty(), "an ERROR would end a boot that another server may serve");
    /// ```
    pub fn deliver_broadcast(&mut self, from: SocketAddr, bytes: &[u8]) {
        let envelope = Envelope { broadcast: true, ..Envelope::new(from) };
        self.deliver_enveloped(self.now(), envelope, self.addr(), bytes);
    }

    /// Delivers an ICMP error: no process listens at `peer`, and this port sent a datagram there.
    ///
    /// ```
    #[doc = include_str!("server_example.md")]
    /// server.deliver(client, server.addr(), b"\0\x01motd\0octet\0");
    /// let data = server.sent().remove(0);
    /// server.unreachable(data.from, client);
    /// assert!(server.handle().transfers().is_empty(), "the client has closed its port");
    /// ```
    pub fn unreachable(&mut self, from: SocketAddr, peer: SocketAddr) {
        self.shard.read_clock();
        if let Some(port) = self.addrs.iter().position(|addr| *addr == from) {
            self.shard.unreachable(port, peer);
        }
        self.run_once();
    }

    /// When the server has to be woken if no datagram comes.
    ///
    /// ```
    #[doc = include_str!("server_example.md")]
    /// assert_eq!(server.wake_at(), None);
    /// server.deliver(client, server.addr(), b"\0\x01motd\0octet\0");
    /// assert!(server.wake_at() > Some(server.now()), "DATA may be lost");
    /// ```
    pub fn wake_at(&self) -> Option<Instant> {
        self.shard.deadline().into_iter().chain(self.time.next()).min().filter(|_| !self.is_over)
    }

    /// Lets time pass until then. To wake the server late is as if it were busy.
    ///
    /// ```
    #[doc = include_str!("server_example.md")]
    /// server.deliver(client, server.addr(), b"\0\x01motd\0octet\0");
    /// // The client is gone.
    /// while let Some(at) = server.wake_at() {
    ///     server.pass(at);
    /// }
    /// assert_eq!(server.handle().counters().reads.timed_out, 1);
    /// ```
    pub fn pass(&mut self, until: Instant) {
        self.time.pass(until);
        self.shard.read_clock();
        self.shard.expire();
        self.run_once();
    }

    /// The datagrams that the server has sent since the last call.
    ///
    /// ```
    #[doc = include_str!("server_example.md")]
    /// server.deliver(client, server.addr(), b"\0\x01motd\0octet\0");
    /// assert_eq!((server.sent().len(), server.sent().len()), (1, 0));
    /// ```
    pub fn sent(&mut self) -> Vec<Datagram> {
        mem::take(&mut self.sent)
    }

    /// Whether the server was stopped and has ended.
    ///
    /// ```
    #[doc = include_str!("server_example.md")]
    /// server.handle().abort();
    /// server.pass(server.now());
    /// assert!(server.is_over());
    /// ```
    pub fn is_over(&self) -> bool {
        self.is_over
    }

    /// Wakes this waker, once, when another thread wakes a task.
    pub(super) fn register(&self, waker: &Waker) {
        *self.bell.waker.lock() = Some(waker.clone());
    }

    /// Whether a handler waits for something outside of the simulation.
    pub(super) fn waits_for_others(&self) -> bool {
        self.shard.awaits_handler() && self.time.next().is_none()
    }

    fn deliver_enveloped(&mut self, now: Instant, envelope: Envelope, to: SocketAddr, bytes: &[u8]) {
        self.time.pass(now);
        self.shard.read_clock();
        if let Some(port) = self.addrs.iter().position(|addr| *addr == to).filter(|_| !self.is_over) {
            self.shard.received(1);
            self.shard.emptied(|_| true);
            receive(&self.shard, &self.tasks, port, &envelope, bytes);
        }
        self.shard.expire();
        self.run_once();
    }

    /// Ends a turn, as a loop does after a batch.
    fn run_once(&mut self) {
        let (shard, tasks, addrs, sent) = (&self.shard, &self.tasks, &self.addrs, &mut self.sent);
        let mut flush = || {
            shard.flush(|port, queue| {
                sent.extend(queue.drain(..).map(|datagram| Datagram {
                    from: addrs[port],
                    to: datagram.to,
                    bytes: [&datagram.header, &datagram.payload[..]].concat(),
                }));
            });
        };
        while self.bell.rung.swap(false, SeqCst) || tasks.are_woken() {
            tasks.run();
            flush();
        }
        flush();
        if self.is_over {
            return;
        }
        self.is_over = shard.end_turn(tasks, flush);
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.rung.store(true, SeqCst);
        if let Some(waker) = self.waker.lock().take() {
            waker.wake();
        }
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("addr", &self.addr()).field("time", &self.time).finish_non_exhaustive()
    }
}
