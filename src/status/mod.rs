//! The state of a server over HTTP: a page for people,
//! [metrics](https://prometheus.io/docs/instrumenting/exposition_formats/) for Prometheus, and JSON.
//!
//! | path | content |
//! |---|---|
//! | `/` | the page: running transfers, and the history of each machine |
//! | `/metrics` | [`Counters`](crate::stats::Counters), and histograms of the durations and rates of transfers |
//! | `/api/transfers` | the running and the ended transfers, as JSON; see [`Status`] |
//! | `/api/server` | slowly changing facts: listening addresses, the rates of the last hour, MAC addresses |
//!
//! It runs on a thread of its own, and reads the server's state for each request. It can change nothing. It has no
//! password: everybody who can reach its address can read the names of files and the addresses of machines.

mod history;
mod mac_addresses;
mod metrics;
mod rates;
mod serve;
mod site;

use std::{
    net::{SocketAddr, TcpListener},
    sync::Arc,
    time::SystemTime,
};

use smol::Async;

use crate::{Error, ServerHandle, background::Background, socket, stats::Record};
use history::History;
use metrics::Histograms;
use site::{About, Site};

/// The status server, bound and not yet serving.
///
/// It remembers ended transfers of 128 machines, 64 for each, within 2 MiB.
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
/// Times are in milliseconds since 1970. `counters` are [`Counters`](crate::stats::Counters), and `unanswered` has
/// [`Unanswered`](crate::stats::Unanswered) clients. `recent` has [`Record`]s in the order of their ends. With
/// `?since=7`, where 7 was `next` in the last answer, it has only later ones. `running` has the oldest 256 transfers at
/// most.
///
/// `/api/server` answers with another:
///
/// ```json
/// {"version": "0.1.0", "served": "/srv/tftp", "listening": ["0.0.0.0:69"], "started": 1795230000000,
///  "now": 1795230061000, "every": 5, "rates": [0, 1048576], "mac_addresses": {"10.0.0.7": "52:54:00:12:34:56"}}
/// ```
///
/// `rates` are in bytes per second, one for each `every` seconds of the last hour, the newest last. `mac_addresses` has
/// those of the machines in the history, as far as the kernel knows them (Linux, with the feature `rules`).
#[derive(Debug)]
pub struct Status {
    listener: TcpListener,
    addr: SocketAddr,
    about: About,
    seen: Arc<Seen>,
}

/// The running status server. It ends when this is dropped.
///
/// ```
/// use std::net::TcpStream;
/// use tuffet::{Server, status::Status};
///
/// let server = Server::builder().listen("127.0.0.1:0").bind()?;
/// let status = Status::bind(([127, 0, 0, 1], 0).into())?;
/// let addr = status.addr();
/// let serving = status.serve(server.handle())?;
/// assert!(TcpStream::connect(addr).is_ok());
/// drop(serving);
/// assert!(TcpStream::connect(addr).is_err());
/// # Ok::<(), tuffet::Error>(())
/// ```
#[derive(Debug)]
#[must_use = "it serves until this is dropped"]
pub struct Serving {
    background: Background,
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.background.end();
    }
}

/// The records and statistics of ended transfers.
#[derive(Debug)]
struct Seen {
    started: SystemTime,
    history: History,
    histograms: Histograms,
}

impl Status {
    /// Binds the address. Use one of this machine only, unless others should see the page. `[::]` is for IPv4 as well.
    ///
    /// On Linux the server also binds an address that no interface has yet (`IP_FREEBIND`).
    ///
    /// ```
    /// use tuffet::{Error, status::Status};
    ///
    /// let status = Status::bind(([127, 0, 0, 1], 0).into())?;
    /// assert!(matches!(Status::bind(status.addr()), Err(Error::Bind(..))), "it is in use");
    /// # Ok::<(), tuffet::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Bind`] if the address cannot be bound.
    pub fn bind(address: SocketAddr) -> Result<Self, Error> {
        let bound = socket::listen(address, None, false).and_then(|listener| Ok((listener.local_addr()?, listener)));
        let (addr, listener) = bound.map_err(|error| Error::Bind(address, error))?;
        let seen = Seen { started: SystemTime::now(), history: History::default(), histograms: Histograms::new() };
        Ok(Self { listener, addr, about: About::default(), seen: Arc::new(seen) })
    }

    /// The address of the status server.
    ///
    /// ```
    /// let status = tuffet::status::Status::bind(([127, 0, 0, 1], 0).into())?;
    /// assert_ne!(status.addr().port(), 0, "the system chose one");
    /// # Ok::<(), tuffet::Error>(())
    /// ```
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Sets the description of the served files, for the head of the page.
    ///
    /// ```
    /// # use std::{io::{Read, Write}, net::TcpStream};
    /// # use tuffet::{Server, status::Status};
    /// #
    /// # let server = Server::builder().listen("127.0.0.1:0").bind()?;
    /// # let status = Status::bind(([127, 0, 0, 1], 0).into())?;
    /// # let mut browser = TcpStream::connect(status.addr())?;
    /// let _serving = status.describe("/srv/tftp").serve(server.handle())?;
    /// # browser.write_all(b"GET /api/server HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    /// # let mut answer = String::new();
    /// # browser.read_to_string(&mut answer)?;
    /// assert!(answer.contains("/srv/tftp"));
    /// # Ok::<(), tuffet::Error>(())
    /// ```
    #[must_use]
    pub fn describe(mut self, served: impl Into<String>) -> Self {
        self.about.served = served.into();
        self
    }

    /// Sets the listening addresses of the server, for the head of the page.
    ///
    /// ```
    /// # use std::{io::{Read, Write}, net::TcpStream};
    /// # use tuffet::{Server, status::Status};
    /// #
    /// # let server = Server::builder().listen("127.0.0.1:0").bind()?;
    /// # let status = Status::bind(([127, 0, 0, 1], 0).into())?;
    /// # let mut browser = TcpStream::connect(status.addr())?;
    /// let _serving = status.listening(server.addrs()).serve(server.handle())?;
    /// # browser.write_all(b"GET /api/server HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    /// # let mut answer = String::new();
    /// # browser.read_to_string(&mut answer)?;
    /// assert!(answer.contains(&server.addrs()[0].to_string()));
    /// # Ok::<(), tuffet::Error>(())
    /// ```
    #[must_use]
    pub fn listening(mut self, addrs: &[SocketAddr]) -> Self {
        self.about.listening = addrs.to_vec();
        self
    }

    /// The hook for the end of each transfer.
    pub(crate) fn observer(&self) -> impl Fn(&Record) + Send + Sync + 'static {
        let seen = self.seen.clone();
        move |record| {
            seen.history.insert(record);
            seen.histograms.observe(record);
        }
    }

    /// Begins to serve, on a thread of its own.
    ///
    /// ```
    /// use std::{io::{Read, Write}, net::TcpStream};
    /// use tuffet::{Server, status::Status};
    ///
    /// let server = Server::builder().listen("127.0.0.1:0").bind()?;
    /// let status = Status::bind(([127, 0, 0, 1], 0).into())?;
    /// let mut browser = TcpStream::connect(status.addr())?;
    /// let _serving = status.serve(server.handle())?;
    /// browser.write_all(b"GET /api/server HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    /// let mut answer = String::new();
    /// browser.read_to_string(&mut answer)?;
    /// assert!(answer.starts_with("HTTP/1.1 200"));
    /// # Ok::<(), tuffet::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Io`] if the thread cannot be started, or the socket cannot be polled.
    pub fn serve(self, handle: ServerHandle) -> Result<Serving, Error> {
        let listener = Async::new(self.listener)?;
        let site = Site::new(handle, self.about, self.seen, self.addr.ip().to_canonical().is_loopback());
        let serve = move || serve::serve(listener, site);
        Ok(Serving { background: Background::spawn("tuffet-status", "the status server", serve)? })
    }
}
