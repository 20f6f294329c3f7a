//! The server: [`ServerBuilder`], [`ServerHandle`] and, with sockets, [`Server`](crate::Server).

mod around;
mod builder;
mod clock;
#[cfg(feature = "net")]
mod descriptors;
mod heartbeats;
#[cfg(feature = "net")]
mod listen;
#[cfg(feature = "net")]
mod loops;
mod outbox;
mod period;
mod reports;
#[cfg(feature = "net")]
mod running;
#[cfg(feature = "net")]
mod serve;
mod session;
mod settings;
mod shard;
mod tasks;
mod trace;
#[cfg(feature = "web")]
mod web;

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicUsize, Ordering},
    },
    task::Waker,
    time::Duration,
};

use crate::error::Error;
use crate::stats::{Counter, Counters, Drops, Record, Registry, Snapshot, Unanswered};
use crate::{endpoint::Policy, sync::Mutex};
use heartbeats::Heartbeats;
use settings::{Current, FixedSettings, Terms};

pub use builder::ServerBuilder;
#[cfg(feature = "net")]
pub use {
    running::Running,
    serve::{Server, serve},
};

#[cfg(feature = "net")]
pub(crate) use outbox::Outgoing;
#[cfg(feature = "sim")]
pub(crate) use {clock::Clock, session::receive, shard::Shard, tasks::Tasks};

/// Stops a server and watches it, from anywhere in the program.
///
/// ```
/// # #[cfg(feature = "net")]
/// # fn main() -> Result<(), tuffet::Error> {
/// let server = tuffet::Server::builder().listen("127.0.0.1:0").bind()?;
/// let handle = server.handle();
/// let thread = std::thread::spawn(|| server.run());
/// assert_eq!(handle.counters().requests, 0);
/// handle.stop();
/// thread.join().unwrap()
/// # }
/// # #[cfg(not(feature = "net"))]
/// # fn main() {}
/// ```
#[derive(Clone, Debug)]
pub struct ServerHandle(pub(crate) Arc<Shared>);

/// The state that all shards share. No block touches it.
pub(crate) struct Shared {
    fixed: FixedSettings,
    current: Current,
    on_begin: Vec<OnBegin>,
    on_end: Vec<OnEnd>,
    registry: Arc<Registry>,
    phase: AtomicU8,
    heartbeats: Heartbeats,
    /// How often a part of the server outside the shards was out of descriptors.
    shortages: AtomicUsize,
    /// The wakers of the shards' loops, for a change of the phase or a shortage.
    wakers: Mutex<Vec<Waker>>,
}

type OnBegin = Box<dyn Fn(&Snapshot) + Send + Sync>;
type OnEnd = Box<dyn Fn(&Record) + Send + Sync>;

/// The phases of a server's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Serving,
    Draining,
    Over,
}

impl ServerHandle {
    /// Refuses further requests, lets the transfers continue for as long as [`ServerBuilder::drain`] says, and then
    /// makes [`Server::run`] return.
    ///
    /// ```
    /// let server = tuffet::Server::builder().listen("127.0.0.1:0").bind()?.spawn()?;
    /// server.handle().stop();
    /// assert!(server.join().is_ok());
    /// # Ok::<(), tuffet::Error>(())
    /// ```
    pub fn stop(&self) {
        self.0.enter(Phase::Draining);
    }

    /// Ends all transfers at once, with an ERROR, and makes [`Server::run`] return.
    ///
    /// ```
    /// let server = tuffet::Server::builder().listen("127.0.0.1:0").bind()?.spawn()?;
    /// server.handle().abort();
    /// assert!(server.join().is_ok());
    /// # Ok::<(), tuffet::Error>(())
    /// ```
    pub fn abort(&self) {
        self.0.enter(Phase::Over);
    }

    /// Whether the loops of all running shards complete a turn within this time: they receive, run their transfers,
    /// and send. If one does not, a handler or source blocks its thread. This call blocks for that time at most. Feed
    /// a watchdog from it.
    ///
    /// ```
    /// let server = tuffet::Server::builder().listen("127.0.0.1:0").bind()?.spawn()?;
    /// assert!(server.handle().responds(std::time::Duration::from_secs(60)));
    /// # Ok::<(), tuffet::Error>(())
    /// ```
    pub fn responds(&self, within: Duration) -> bool {
        self.0.heartbeats.ask(|| self.0.wake(), within)
    }

    /// Answers further requests by this builder: its handler, its limits, its times and the clients that it admits.
    /// Running transfers end as they began.
    ///
    /// The settings of the sockets and threads stay as they are, whatever the builder says: `listen`, `socket`,
    /// `single_port`, `port_range`, `transfer_ports`, `interface`, `shards` and `batched`. The hooks and counters stay
    /// too.
    ///
    /// ```
    /// use tuffet::{Server, read};
    ///
    /// let motd = |text: &'static str| Server::builder().handler(read(async move |_| text)).windowsize(8);
    /// let server = motd("hello\n").listen("127.0.0.1:0").bind()?;
    /// let handle = server.handle();
    /// // While it runs:
    /// handle.reload(motd("good evening\n"))?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Config`] for settings that are out of their bounds. Then nothing changes.
    pub fn reload(&self, builder: ServerBuilder) -> Result<(), Error> {
        let terms = builder.into_terms()?;
        self.0.current.change(|now| Terms { own: now.own.clone(), ..terms });
        Ok(())
    }

    /// The terms of requests that arrive now.
    #[cfg(feature = "dhcp")]
    pub(crate) fn terms(&self) -> Arc<settings::Terms> {
        self.0.current.terms()
    }

    /// The running transfers, oldest first.
    ///
    /// ```
    /// # #[cfg(feature = "sim")] {
    /// use tuffet::{ServerBuilder, read, sim};
    ///
    /// let mut server = sim::Server::new(ServerBuilder::default().handler(read(|_| "hello\n")), 7);
    /// server.deliver(([192, 0, 2, 7], 1069).into(), server.addr(), b"\0\x01motd\0octet\0");
    /// assert_eq!(server.handle().transfers()[0].path, "motd");
    /// # }
    /// ```
    pub fn transfers(&self) -> Vec<Snapshot> {
        self.0.registry.snapshots()
    }

    /// Clients whose requests were not answered: because of a limit, because they are not admitted, or because the
    /// server is stopping. The last 32 of them, the last one first.
    ///
    /// ```
    /// # #[cfg(feature = "sim")] {
    /// use tuffet::{ServerBuilder, sim};
    ///
    /// let mut server = sim::Server::new(ServerBuilder::default().admit(|_| false), 7);
    /// server.deliver(([192, 0, 2, 7], 1069).into(), server.addr(), b"\0\x01motd\0octet\0");
    /// assert_eq!(server.handle().unanswered()[0].client.to_string(), "192.0.2.7");
    /// # }
    /// ```
    pub fn unanswered(&self) -> Vec<Unanswered> {
        self.0.registry.unanswered()
    }

    /// The counters of the server since it began.
    ///
    /// ```
    /// # #[cfg(feature = "sim")] {
    /// use tuffet::{ServerBuilder, read, sim};
    ///
    /// let mut server = sim::Server::new(ServerBuilder::default().handler(read(|_| "hello\n")), 7);
    /// server.deliver(([192, 0, 2, 7], 1069).into(), server.addr(), b"\0\x01motd\0octet\0");
    /// let counters = server.handle().counters();
    /// assert_eq!((counters.requests, counters.running), (1, 1));
    /// # }
    /// ```
    pub fn counters(&self) -> Counters {
        self.0.registry.counters()
    }

    /// The counters that were added by [`ServerBuilder::counter`].
    ///
    /// ```
    /// use tuffet::{Server, stats::Counter};
    ///
    /// let greeted = Counter::new("greeted", "Machines that were greeted.");
    /// let server = Server::builder().listen("127.0.0.1:0").counter(&greeted).bind()?;
    /// assert_eq!(server.handle().own_counters()[0].help(), "Machines that were greeted.");
    /// # Ok::<(), tuffet::Error>(())
    /// ```
    pub fn own_counters(&self) -> &[Counter] {
        self.0.registry.own()
    }
}

impl Shared {
    /// `own`: the addresses of all sockets.
    pub(crate) fn new(builder: ServerBuilder, own: Vec<SocketAddr>, drops: Vec<Box<dyn Drops>>) -> Self {
        let ServerBuilder { fixed, settings, handler, on_begin, on_end, counters, .. } = builder;
        Self {
            fixed,
            current: Current::new(Terms { settings, handler: handler.into(), own }),
            on_begin,
            on_end,
            registry: Arc::new(Registry::new(counters, drops)),
            phase: AtomicU8::new(Phase::Serving as u8),
            shortages: AtomicUsize::new(0),
            heartbeats: Heartbeats::default(),
            wakers: Mutex::default(),
        }
    }

    /// The policy of a shard with these terms.
    fn policy(&self, terms: &Terms) -> Policy {
        let policy = terms.settings.policy.clone();
        Policy { max_half_open: policy.max_half_open.min(self.fixed.max_half_open), ..policy }
    }

    fn enter(&self, phase: Phase) {
        self.phase.fetch_max(phase as u8, Ordering::SeqCst);
        self.wake();
    }

    /// Asks the shards for descriptors: they evict transfers of silent clients.
    #[cfg_attr(not(any(feature = "status", feature = "web")), allow(dead_code, reason = "only HTTP servers ask"))]
    pub(crate) fn want_room(&self) {
        self.shortages.fetch_add(1, Ordering::SeqCst);
        self.wake();
    }

    /// Makes each loop take a turn.
    fn wake(&self) {
        for waker in self.wakers.lock().iter() {
            waker.wake_by_ref();
        }
    }

    fn phase(&self) -> Phase {
        match self.phase.load(Ordering::SeqCst) {
            0 => Phase::Serving,
            1 => Phase::Draining,
            _ => Phase::Over,
        }
    }

    /// Adds the waker of a loop, which is woken when the phase changes.
    fn register_waker(&self, waker: &Waker) {
        self.wakers.lock().push(waker.clone());
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("settings", &self.current).finish_non_exhaustive()
    }
}
