//! What a server does, over HTTP: a page for people, [metrics](https://prometheus.io/docs/instrumenting/exposition_formats/)
//! for Prometheus, and the same as JSON.
//!
//! | path | what it has |
//! |---|---|
//! | `/` | the page: what runs, and the history of each machine |
//! | `/metrics` | [`Counters`](crate::stats::Counters), and histograms of how long transfers took and how fast they were |
//! | `/api/transfers` | the transfers that run and those that have ended, as JSON; see [`Status`] |
//! | `/api/server` | what changes slowly: where it listens, the rates of the last hour, MAC addresses |
//!
//! It runs on a thread of its own, and looks at the server when it is asked to. Nothing can be changed over it. It asks
//! for no password: who can reach its address can read the names of files and the addresses of machines.

mod cards;
mod history;
mod metrics;
mod rates;
mod serve;
mod site;

use std::{
    net::{SocketAddr, TcpListener},
    sync::Arc,
    thread::{self, JoinHandle},
    time::SystemTime,
};

use smol::{Async, channel};

use crate::{Error, Handle, stats::Record};
use history::History;
use metrics::Histograms;
use site::{About, Site};

/// The status server, bound and not yet serving.
///
/// What has ended is remembered for 128 machines and 64 transfers of each, within 2 MiB.
///
/// ```
/// use tuffet::{Server, status::Status};
///
/// let status = Status::bind("127.0.0.1:0".parse()?)?;
/// println!("see http://{}/", status.addr());
/// let server = Server::builder().listen("127.0.0.1:0").watch(&status).bind()?;
/// let _serving = status.describe("nothing yet").listening(server.addrs()).serve(server.handle())?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// `/api/transfers` answers with an object:
///
/// ```json
/// {"server": {"version": "0.1.0", "served": "/srv/tftp", "started": 1795230000000}, "now": 1795230061000,
///  "counters": {}, "unanswered": [], "running_total": 1,
///  "running": [{"id": 8, "client": "10.0.0.7:2071", "direction": "read", "path": "linux", "bytes": 1024,
///               "size": 8192, "seconds": 0.2, "protocol": "tftp"}],
///  "next": 7, "recent": []}
/// ```
///
/// Times are in milliseconds since 1970. `counters` are [`Counters`](crate::stats::Counters), `unanswered` has
/// [`Unanswered`](crate::stats::Unanswered) clients, and `recent` has
/// [`Record`]s in the order of their ends; with `?since=7`, what was `next` in the answer before,
/// only those that have ended since. `running` has 256 transfers at most, the oldest.
///
/// `/api/server` answers with another:
///
/// ```json
/// {"version": "0.1.0", "served": "/srv/tftp", "listening": ["0.0.0.0:69"], "started": 1795230000000,
///  "now": 1795230061000, "every": 5, "rates": [0, 1048576], "cards": {"10.0.0.7": "52:54:00:12:34:56"}}
/// ```
///
/// `rates` are in bytes per second, one for each `every` seconds of the last hour, the last one last. `cards` are the MAC
/// addresses of the machines that are remembered, as far as the kernel knows them (Linux, with the feature `rules`).
#[derive(Debug)]
pub struct Status {
    listener: TcpListener,
    addr: SocketAddr,
    about: About,
    seen: Arc<Seen>,
}

/// The status server at work; it ends when this is dropped.
#[derive(Debug)]
#[must_use = "it serves until this is dropped"]
pub struct Serving {
    over: Option<channel::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// What the transfers leave behind.
#[derive(Debug)]
struct Seen {
    started: SystemTime,
    history: History,
    histograms: Histograms,
}

impl Status {
    /// Binds the address, which should be one of this machine only unless others are meant to see.
    ///
    /// # Errors
    /// [`Error::Bind`] with the address that could not be had.
    pub fn bind(address: SocketAddr) -> Result<Self, Error> {
        let bound = TcpListener::bind(address).and_then(|listener| Ok((listener.local_addr()?, listener)));
        let (addr, listener) = bound.map_err(|error| Error::Bind(address, error))?;
        let seen = Seen { started: SystemTime::now(), history: History::default(), histograms: Histograms::new() };
        Ok(Self { listener, addr, about: About::default(), seen: Arc::new(seen) })
    }

    /// Where it is.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Says what is served, for the head of the page.
    #[must_use]
    pub fn describe(mut self, served: impl Into<String>) -> Self {
        self.about.served = served.into();
        self
    }

    /// Says where the server listens, for the head of the page.
    #[must_use]
    pub fn listening(mut self, addrs: &[SocketAddr]) -> Self {
        self.about.listening = addrs.to_vec();
        self
    }

    /// What is to be told of the end of each transfer.
    pub(crate) fn observer(&self) -> impl Fn(&Record) + Send + Sync + 'static {
        let seen = self.seen.clone();
        move |record| {
            seen.history.insert(record);
            seen.histograms.observe(record);
        }
    }

    /// Begins to serve, on a thread of its own.
    ///
    /// # Errors
    /// [`Error::Io`] if the thread cannot be started, or the socket cannot be waited for.
    pub fn serve(self, handle: Handle) -> Result<Serving, Error> {
        let listener = Async::new(self.listener)?;
        let site = Site::new(handle, self.about, self.seen, self.addr.ip().to_canonical().is_loopback());
        let (over, is_over) = channel::bounded(1);
        let serve = move || {
            smol::block_on(smol::future::or(serve::serve(listener, site), async {
                // It is never sent to; it fails when the other end is dropped.
                let _ = is_over.recv().await;
            }))
        };
        let thread = thread::Builder::new().name("tuffet-status".into()).spawn(serve)?;
        Ok(Serving { over: Some(over), thread: Some(thread) })
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.over = None;
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            log::error!("the status server panicked");
        }
    }
}
