//! The server with sockets.

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    thread,
};

use super::{Builder, Handle, Phase, Shared, around::Around, listen::Ports, loops, own::Own, period::Period};
use crate::{error::Error, handler::Request, socket::Port};

/// A server whose sockets are bound.
///
/// # Forged addresses
/// A request may bear the address of somebody else. Before anything has come from there, the server sends one block of
/// 512 bytes, or an OACK, three times at most, and once more for each repeated request: 1632 bytes with IP headers for
/// an RRQ of 38, which is 43 times as much, and three times as much if it asks for any option. A window is sent only
/// when the OACK was acknowledged. [`Builder::max_requests_per_client`] bounds how often that can be had.
///
/// ACKs may be forged too, but a transfer is served from a port that a forger must guess (RFC 1350 section 4): if it sends
/// each of its packets to all of those that the transfer could have, what it has the server send is
/// [50 times](crate::endpoint::AMPLIFICATION) as much at most, IP headers counted, and
/// [150 times](crate::endpoint::AMPLIFICATION_SINGLE_PORT) with a [single port](Builder::single_port). So a window that an
/// ACK brings is at most that large, unless [`Builder::windowsize`] says more, and what is sent again is paid for by the
/// packets of the client.
/// [`transfer`](crate::transfer#what-a-server-sends-to-a-silent-address) says what is sent in every state.
///
/// # HTTP
/// [`Builder::http`] (feature `web`) serves the same handler over HTTP/1.1, on one more thread, which has its own count of
/// transfers as each shard has. A GET is a read, a HEAD a [probe](crate::transfer::Outcome::Probe), a PUT a write. Limits,
/// patience, hooks, [`Handle::reload`](super::Handle::reload) and `drain` are those of TFTP; what TFTP answers with silence
/// is a status 503 with `Retry-After`, or the end of the connection for those who are not admitted. A transfer is complete
/// when the system has taken its last byte.
///
/// # ICMP
/// On Linux a transfer ends at once when its client's system says that nobody listens at its port. To forge that takes
/// what it takes to forge an ERROR packet: the client's address and port, and the TID. What another address says, and
/// that a network or host cannot be reached, ends nothing; that a packet is too big makes the system send fragments.
///
/// ```
/// use tuffet::{Server, read};
///
/// let server = Server::builder()
///     .listen("127.0.0.1:0")
///     .handler(read(async |request: tuffet::Request| format!("hello {}\n", request.peer())))
///     .bind()?;
/// println!("listening on {}", server.addrs()[0]);
/// let running = server.spawn()?;
/// // Until it is stopped, or dropped.
/// smol::block_on(running.stop())?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Server {
    shards: Vec<Ports>,
    addrs: Vec<SocketAddr>,
    warnings: Vec<String>,
    period: Option<Period>,
    around: Around,
    shared: Arc<Shared>,
    #[cfg(feature = "web")]
    doors: super::web::Doors,
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

    /// The addresses at which it serves [HTTP](Builder::http).
    #[cfg(feature = "web")]
    pub fn http_addrs(&self) -> &[SocketAddr] {
        self.doors.addrs()
    }

    /// What could not be had and is done without, such as a missing IPv6.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// To stop it, and to see what it does, while it runs.
    pub fn handle(&self) -> Handle {
        Handle(self.shared.clone())
    }

    /// Serves until [`Handle::stop`]. Blocks this thread, which is the first shard; other shards get threads. An async
    /// program has [`run_until`](Self::run_until): what its handlers wait for may need this thread.
    ///
    /// # Errors
    /// [`Error::Io`] if a socket fails for good, or a thread cannot be started; [`Error::Config`] if
    /// [`Builder::around_threads`] does not run its thread.
    pub fn run(self) -> Result<(), Error> {
        let Self { shards, period, around, shared, .. } = self;
        #[cfg(feature = "web")]
        let web = self.doors.open(shared.clone(), around.clone())?;
        let _period = period.map(|period| period.begin(shared.registry.clone(), around.clone())).transpose()?;
        let mut shards = shards.into_iter();
        let first = shards.next();
        let mut threads = Vec::new();
        for (ports, n) in shards.zip(2..) {
            let (shared, around) = (shared.clone(), around.clone());
            let name = format!("tuffet-{n}");
            let work = move || around.run(|| loops::run(ports, shared));
            threads.push(thread::Builder::new().name(name).spawn(work)?);
        }
        around.run(|| {
            let mut result = first.map_or(Ok(()), |ports| loops::run(ports, shared.clone()));
            // If the first has failed the others are of no use: its clients do not know them.
            shared.enter(Phase::Draining);
            for thread in threads {
                let other = thread.join().unwrap_or_else(|_| Err(std::io::Error::other("a shard panicked").into()));
                result = result.and(other);
            }
            #[cfg(feature = "web")]
            if let Some(web) = web {
                let other =
                    web.join().unwrap_or_else(|_| Err(std::io::Error::other("the HTTP server panicked").into()));
                result = result.and(other);
            }
            shared.current.terms().handler.close();
            result
        })
    }
}

impl Builder {
    /// Binds the sockets.
    ///
    /// # Errors
    /// [`Error::Bind`] with the address that could not be had, [`Error::Config`] for a [`socket`](Self::socket) that
    /// does not fit, for what is no address to [`listen`](Self::listen) on and for settings out of their bounds.
    pub fn bind(self) -> Result<Server, Error> {
        let (mut listen, mut builder) = (self.listen.clone(), self);
        if let Some(error) = builder.wrong.take() {
            return Err(error);
        }
        let sockets = std::mem::take(&mut builder.sockets);
        let anywhere = listen.is_empty() && sockets.is_empty();
        if anywhere {
            listen = vec![(Ipv4Addr::UNSPECIFIED, 69).into(), (Ipv6Addr::UNSPECIFIED, 69).into()];
        }
        let mut warnings = Vec::new();
        let first = Ports::bind(&listen, sockets, &builder.bound, anywhere, &mut warnings)?;
        let addrs = first.listening();
        let mut shards = vec![first];
        for _ in 1..builder.bound.shards {
            shards.push(Ports::join(&addrs, &builder.bound)?);
        }
        builder.bound.max_unheard = most_unheard(builder.bound.shards);
        warnings.extend(builder.costs_of_windows());
        let own = Own::new(shards.iter().flat_map(Ports::all).collect());
        let drops = shards.iter().flat_map(|shard| &shard.ports).map(Port::drops).collect();
        let (period, around) = (builder.period.take(), std::mem::take(&mut builder.around));
        #[cfg(feature = "http")]
        let around = around.or_tokio();
        #[cfg(feature = "web")]
        let doors = super::web::Doors::bind(&builder.http, builder.bound.interface.as_deref())?;
        let shared = Arc::new(Shared::new(builder, own, drops));
        Ok(Server {
            shards,
            addrs,
            warnings,
            period,
            around,
            shared,
            #[cfg(feature = "web")]
            doors,
        })
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

/// Transfers at once of each shard whose clients were never heard: half of the descriptors, for each of them may have one
/// open, and forged requests must leave some for the others.
fn most_unheard(shards: usize) -> usize {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, getrlimit};

        let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        (usize::try_from(limit).unwrap_or(usize::MAX) / 2 / shards).max(1)
    }
    #[cfg(not(unix))]
    {
        let _ = shards;
        usize::MAX
    }
}
