//! The server: [`Builder`], [`Server`], [`Handle`].

mod builder;
mod clock;
mod listen;
mod loops;
mod outbox;
mod own;
mod period;
mod pulse;
mod session;
mod settings;
mod shard;
mod tasks;

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU8, Ordering},
    },
    task::Waker,
    thread,
    time::Duration,
};

pub use builder::Builder;

use crate::{
    error::Error,
    handler::Request,
    stats::{Counter, Counters, Record, Registry, Snapshot, Unanswered},
};
use listen::Ports;
use period::Period;
use own::Own;
use pulse::Pulse;
use settings::{Bound, Current};

/// A server whose sockets are bound.
///
/// # Forged addresses
/// A request may bear the address of somebody else. Before anything has come from there, the server sends one block of
/// 512 bytes, or an OACK, three times at most, and once more for each repeated request: 1632 bytes with IP headers for
/// an RRQ of 38, which is 43 times as much, and three times as much if it asks for any option. A window is sent only
/// when the OACK was acknowledged. [`Builder::max_requests_per_client`] bounds how often that can be had.
///
/// ```
/// use tuffet::{Server, read};
///
/// let server = Server::builder()
///     .listen("127.0.0.1:0".parse()?)
///     .handler(read(async |request: tuffet::Request| format!("hello {}\n", request.peer())))
///     .bind()?;
/// println!("listening on {}", server.addrs()[0]);
/// let handle = server.handle();
/// let thread = std::thread::spawn(|| server.run());
/// handle.stop();
/// thread.join().unwrap()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Server {
    shards: Vec<Ports>,
    addrs: Vec<SocketAddr>,
    warnings: Vec<String>,
    period: Option<Period>,
    shared: Arc<Shared>,
}

/// Stops and watches a server from elsewhere.
#[derive(Clone, Debug)]
pub struct Handle(Arc<Shared>);

/// What all shards have in common. Nothing of it is touched for a block.
struct Shared {
    bound: Bound,
    current: Current,
    on_end: Vec<OnEnd>,
    registry: Arc<Registry>,
    own: Own,
    phase: AtomicU8,
    pulse: Pulse,
    /// The shards' loops, to be woken when the phase changes.
    wakers: Mutex<Vec<Waker>>,
}

type OnEnd = Box<dyn Fn(&Record) + Send + Sync>;

/// How far the server's life has gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Serving,
    Draining,
    Over,
}

impl Server {
    /// Begins a server.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// The addresses that it listens on; where port 0 was asked, with the port that the system gave.
    pub fn addrs(&self) -> &[SocketAddr] {
        &self.addrs
    }

    /// What could not be had and is done without, such as a missing IPv6.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// To stop it, and to see what it does, while it runs.
    pub fn handle(&self) -> Handle {
        Handle(self.shared.clone())
    }

    /// Serves until [`Handle::stop`]. Blocks this thread, which is the first shard; other shards get threads.
    ///
    /// # Errors
    /// [`Error::Io`] if a socket fails for good, or a thread cannot be started.
    pub fn run(self) -> Result<(), Error> {
        let shared = self.shared;
        let _period = self.period.map(|period| period.begin(shared.registry.clone())).transpose()?;
        let mut shards = self.shards.into_iter();
        let first = shards.next();
        let mut threads = Vec::new();
        for (ports, n) in shards.zip(2..) {
            let shared = shared.clone();
            let name = format!("tuffet-{n}");
            threads.push(thread::Builder::new().name(name).spawn(move || loops::run(ports, shared))?);
        }
        let mut result = first.map_or(Ok(()), |ports| loops::run(ports, shared.clone()));
        // If the first has failed the others are of no use: its clients do not know them.
        shared.enter(Phase::Draining);
        for thread in threads {
            let other = thread.join().unwrap_or_else(|_| Err(std::io::Error::other("a shard panicked").into()));
            result = result.and(other);
        }
        shared.current.terms().handler.close();
        result
    }
}

impl Handle {
    /// Takes no more requests, lets the transfers end for as long as [`Builder::drain`] says, and has
    /// [`Server::run`] return.
    pub fn stop(&self) {
        self.0.enter(Phase::Draining);
    }

    /// Ends all transfers at once, with an ERROR, and has [`Server::run`] return.
    pub fn abort(&self) {
        self.0.enter(Phase::Over);
    }

    /// Whether the loops of all shards that run take a turn within this time: they receive, have their transfers go on,
    /// and send. Where one does not, some handler or source blocks its thread. Blocks for that time at most, and is what
    /// a watchdog should be fed from.
    pub fn responds(&self, within: Duration) -> bool {
        self.0.pulse.ask(|| self.0.wake(), within)
    }

    /// Answers the requests that come from now on as this builder says: by its handler, its limits, its times and whom it
    /// admits. Running transfers end as they began.
    ///
    /// What belongs to the sockets and threads stays as it was, whatever the builder says: `listen`, `socket`,
    /// `single_port`, `port_range`, `shards` and `batched`; and so do its hooks and counters.
    ///
    /// ```
    /// use tuffet::{Server, read};
    ///
    /// let motd = |text: &'static str| Server::builder().handler(read(async move |_| text)).windowsize(8);
    /// let server = motd("hello\n").listen("127.0.0.1:0".parse()?).bind()?;
    /// let handle = server.handle();
    /// // While it runs:
    /// handle.reload(motd("good evening\n"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn reload(&self, builder: Builder) {
        self.0.current.exchange(builder.into_terms());
    }

    /// The transfers that are running, oldest first.
    pub fn transfers(&self) -> Vec<Snapshot> {
        self.0.registry.snapshots()
    }

    /// Clients that were not answered, because of a limit, because they are not admitted or because the server stops: the
    /// last 32 of them, the last one first.
    pub fn unanswered(&self) -> Vec<Unanswered> {
        self.0.registry.unanswered()
    }

    /// What the server has done since it began.
    pub fn counters(&self) -> Counters {
        self.0.registry.counters()
    }

    /// The counters that were added by [`Builder::counter`].
    pub fn own_counters(&self) -> &[Counter] {
        self.0.registry.own()
    }
}

impl Shared {
    fn enter(&self, phase: Phase) {
        self.phase.fetch_max(phase as u8, Ordering::SeqCst);
        self.wake();
    }

    /// Has each loop take a turn.
    fn wake(&self) {
        for waker in self.wakers.lock().unwrap_or_else(PoisonError::into_inner).iter() {
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

    /// Has this waker woken when the phase changes.
    fn tell_of_phases(&self, waker: &Waker) {
        self.wakers.lock().unwrap_or_else(PoisonError::into_inner).push(waker.clone());
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("settings", &self.current).finish_non_exhaustive()
    }
}

/// Serves what this closure makes of each path, on port 69 of all addresses, until the process ends.
///
/// The closure returns anything that is [`IntoSource`](crate::IntoSource): a generator, a string, bytes, an `Option`
/// or a `Result` of these. See [`Server::builder`] for everything else.
///
/// ```no_run
/// use tuffet::Gen;
///
/// fn main() -> Result<(), tuffet::Error> {
///     tuffet::serve(|path| {
///         Gen::new(async move |co| {
///             for n in 1..=3 {
///                 co.yield_(format!("line {n} of {path}\n")).await;
///             }
///         })
///     })
/// }
/// ```
///
/// # Errors
/// [`Error::Bind`] if the port cannot be had, and those of [`Server::run`].
pub fn serve<F, S>(make: F) -> Result<(), Error>
where
    F: Fn(String) -> S + Send + Sync + 'static,
    S: crate::IntoSource + 'static,
{
    let handler = crate::read(async move |request: Request| make(request.path().to_owned()));
    Server::builder().handler(handler).bind()?.run()
}
