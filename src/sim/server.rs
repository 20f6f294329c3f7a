//! The third loop of a shard: datagrams come and go by calls.

use std::{
    fmt, mem,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    rc::Rc,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    task::{Wake, Waker},
    time::Instant,
};

use super::Time;
use crate::{
    Builder, Handle,
    endpoint::{Envelope, Pool},
    server::{Next, Own, Shard, Shared, Tasks},
};

/// The address of a server that was given none, from those that are kept for documentation.
const ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 69);
/// Ports that transfers are served from.
const POOL: usize = 64;

/// A server in virtual time, of one shard. It stays on its thread (`!Send`), as its handlers' futures do.
pub struct Server {
    shard: Rc<Shard>,
    tasks: Rc<Tasks>,
    time: Time,
    bell: Arc<Bell>,
    addrs: Vec<SocketAddr>,
    handle: Handle,
    sent: Vec<Datagram>,
    is_over: bool,
}

/// A datagram on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// Where it was sent from.
    pub from: SocketAddr,
    /// Where it goes.
    pub to: SocketAddr,
    /// One TFTP packet, if a server has sent it.
    pub bytes: Vec<u8>,
}

/// Rung when a task has something to do.
#[derive(Default)]
struct Bell {
    rung: AtomicBool,
    /// Of what drives the server.
    waker: Mutex<Option<Waker>>,
}

impl Server {
    /// A server with these settings, which draws its ports from this seed. It listens on the first address of `builder`
    /// alone, and on 192.0.2.1:69 if there is none.
    ///
    /// # Panics
    /// If a setting makes no sense.
    pub fn new(builder: Builder, seed: u64) -> Self {
        Self::at(builder, seed, Time::new())
    }

    /// As [`new`](Self::new), with a clock that its handlers know as well.
    ///
    /// # Panics
    /// If a setting makes no sense.
    pub fn at(builder: Builder, seed: u64, time: Time) -> Self {
        assert!(builder.mistake().is_none(), "{:?}", builder.mistake());
        let mut random = fastrand::Rng::with_seed(seed);
        let listener = builder.first_address().unwrap_or(ADDRESS);
        let mut addrs = vec![listener];
        let ports = if builder.is_single_port() { vec![0] } else { (1..=POOL).collect() };
        while addrs.len() <= *ports.last().unwrap_or(&0) {
            let addr = SocketAddr::new(listener.ip(), random.u16(32768..));
            if !addrs.contains(&addr) {
                addrs.push(addr);
            }
        }
        let shared = Arc::new(Shared::new(builder, Own::new(addrs.clone()), Vec::new()));
        let (tasks, bell) = (Rc::new(Tasks::default()), Arc::new(Bell::default()));
        tasks.ring(bell.clone().into());
        let pool = Pool { listener: 0, ports };
        let (secret, clock) = (random.u128(..), Box::new(time.clone()));
        let shard = Shard::new(shared.clone(), &tasks, addrs.clone(), vec![pool], secret, clock);
        Self { shard, tasks, time, bell, addrs, handle: Handle(shared), sent: Vec::new(), is_over: false }
    }

    /// The address that requests go to.
    pub fn addr(&self) -> SocketAddr {
        self.addrs[0]
    }

    /// The addresses of all ports: the one that requests go to, and those of its transfers.
    pub fn addrs(&self) -> &[SocketAddr] {
        &self.addrs
    }

    /// To stop and to reload it, and to see what it does.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// What time it is there.
    pub fn now(&self) -> Instant {
        self.time.now()
    }

    /// It gets a datagram, now. One that goes to none of its ports is lost.
    pub fn hear(&mut self, from: SocketAddr, to: SocketAddr, bytes: &[u8]) {
        self.hear_at(self.now(), from, to, bytes);
    }

    /// It gets a datagram at this time: before the deadlines that are due by then, for a peer that is heard is not late.
    pub fn hear_at(&mut self, now: Instant, from: SocketAddr, to: SocketAddr, bytes: &[u8]) {
        self.hear_enveloped(now, Envelope::from(from), to, bytes);
    }

    /// As [`hear`](Self::hear), for a datagram that was sent to everybody.
    pub fn hear_broadcast(&mut self, from: SocketAddr, bytes: &[u8]) {
        let envelope = Envelope { broadcast: true, ..Envelope::from(from) };
        self.hear_enveloped(self.now(), envelope, self.addr(), bytes);
    }

    /// ICMP says that nobody listens at `peer`, where something was sent from this port.
    pub fn unreachable(&mut self, from: SocketAddr, peer: SocketAddr) {
        self.shard.read_clock();
        if let Some(port) = self.addrs.iter().position(|addr| *addr == from) {
            self.shard.unreachable(port, peer);
        }
        self.turn();
    }

    /// When it wants to be woken if it hears nothing.
    pub fn wake_at(&self) -> Option<Instant> {
        self.shard.deadline().into_iter().chain(self.time.next()).min().filter(|_| !self.is_over)
    }

    /// Time passes until then. Waking late is as being busy.
    pub fn pass(&mut self, until: Instant) {
        self.time.pass(until);
        self.shard.read_clock();
        self.shard.expire();
        self.turn();
    }

    /// The datagrams that it has sent since this was last asked.
    pub fn sent(&mut self) -> Vec<Datagram> {
        mem::take(&mut self.sent)
    }

    /// Whether it was stopped and has ended.
    pub fn is_over(&self) -> bool {
        self.is_over
    }

    /// Has this waker woken, once, when another thread has given a task something to do.
    pub(super) fn register(&self, waker: &Waker) {
        *self.bell.waker.lock().unwrap_or_else(PoisonError::into_inner) = Some(waker.clone());
    }

    /// Whether a handler waits for what is not in the simulation.
    pub(super) fn waits_for_others(&self) -> bool {
        self.shard.is_at_work() && self.time.next().is_none()
    }

    fn hear_enveloped(&mut self, now: Instant, envelope: Envelope, to: SocketAddr, bytes: &[u8]) {
        self.time.pass(now);
        self.shard.read_clock();
        if let Some(port) = self.addrs.iter().position(|addr| *addr == to).filter(|_| !self.is_over) {
            self.shard.received(1);
            self.shard.receive(&self.tasks, port, &envelope, bytes);
        }
        self.shard.expire();
        self.turn();
    }

    /// As a loop after a batch.
    fn turn(&mut self) {
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
        match shard.next() {
            Next::Serve => {}
            Next::Leave => self.is_over = true,
            Next::SayGoodbye => {
                shard.say_goodbye(tasks, flush);
                self.is_over = true;
            }
        }
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.rung.store(true, SeqCst);
        if let Some(waker) = self.waker.lock().unwrap_or_else(PoisonError::into_inner).take() {
            waker.wake();
        }
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("addr", &self.addr()).field("time", &self.time).finish_non_exhaustive()
    }
}
