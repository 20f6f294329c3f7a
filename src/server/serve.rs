//! The server with its sockets.

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    thread,
};

use super::{
    Phase, ServerBuilder, ServerHandle, Shared, around::Around, descriptors, listen::Ports, loops, period::Period,
};
use crate::{error::Error, handler::Request, socket::Port};

/// A server whose sockets are bound: [`builder`](Self::builder) has its settings, and it serves when it
/// [runs](Self::run), is [spawned](Self::spawn), or [runs until a future is ready](Self::run_until).
///
/// ```
/// use tuffet::{Server, read};
///
/// let server = Server::builder()
///     .listen("127.0.0.1:0")
///     .handler(read(|request: tuffet::Request| format!("hello {}\n", request.peer())))
///     .bind()?;
/// println!("listening on {}", server.addrs()[0]);
/// let running = server.spawn()?;
/// // Until it is stopped, or dropped.
/// smol::block_on(running.stop())?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Forged addresses
/// A request may have a forged address. Before a packet has come from that address, the server sends it one block of
/// 512 bytes, or an OACK, three times at most, and once more for each repeated request. That is 1632 bytes with IP
/// headers for an RRQ of 38, 43 times as much, and three times as much if the request has any option. The server sends
/// a window only after the OACK was acknowledged. [`ServerBuilder::max_requests_per_client`] bounds how often a forger
/// can cause this.
///
/// ACKs may be forged too, but a forger must guess the port of the transfer (RFC 1350 section 4). If it sends each of
/// its packets to all ports that the transfer could have, the server sends at most [50
/// times](crate::endpoint::AMPLIFICATION) as many bytes, IP headers included, and [150
/// times](crate::endpoint::AMPLIFICATION_SINGLE_PORT) as many with a [single port](ServerBuilder::single_port). So an
/// ACK brings a window of that size at most, unless [`ServerBuilder::windowsize`] says more. Blocks that are sent again
/// are paid for by the packets of the client. The module
/// [`transfer`](crate::transfer#what-a-server-sends-to-a-silent-address) says what the server sends in every state.
///
/// # HTTP
/// [`ServerBuilder::http`] (feature `web`) serves the same handler over HTTP/1.1, on one more thread, which counts its
/// transfers by itself, as each shard does. A GET is a read, a HEAD a [probe](crate::transfer::Outcome::Probe), a PUT a
/// write. Limits, patience, hooks, [`ServerHandle::reload`](super::ServerHandle::reload) and `drain` are those of TFTP.
/// A request that TFTP answers with silence gets status 503 with `Retry-After`. The connection of a client that is not
/// admitted is closed. A transfer is complete when the system has taken its last byte.
///
/// # ICMP
/// On Linux a transfer ends at once when ICMP says that the client's port is closed. A forger of such a message needs
/// the same knowledge as a forger of an ERROR packet: the client's address and port, and the TID. A message from
/// another address ends nothing, nor does one about an unreachable network or host. A message that a packet is too big
/// makes the system send fragments.
#[derive(Debug)]
pub struct Server {
    shards: Vec<Ports>,
    addrs: Vec<SocketAddr>,
    warnings: Vec<String>,
    period: Option<Period>,
    around: Around,
    shared: Arc<Shared>,
    #[cfg(feature = "web")]
    http_listeners: super::web::Listeners,
}

impl Server {
    /// A builder with the default settings.
    ///
    /// ```
    /// let builder = tuffet::Server::builder().listen("127.0.0.1:0");
    /// assert!(builder.bind().is_ok());
    /// ```
    pub fn builder() -> ServerBuilder {
        ServerBuilder::default()
    }

    /// The addresses that the server listens on. An address with port 0 shows the port that the system chose.
    ///
    /// ```
    /// let server = tuffet::Server::builder().listen("127.0.0.1:0").bind()?;
    /// assert!(server.addrs()[0].ip().is_loopback() && server.addrs()[0].port() > 0);
    /// # Ok::<(), tuffet::Error>(())
    /// ```
    pub fn addrs(&self) -> &[SocketAddr] {
        &self.addrs
    }

    /// The addresses at which the server serves [HTTP](ServerBuilder::http).
    ///
    /// ```
    /// let server = tuffet::Server::builder().listen("127.0.0.1:0").http("127.0.0.1:0").bind()?;
    /// assert_eq!(server.http_addrs().len(), 1);
    /// # Ok::<(), tuffet::Error>(())
    /// ```
    #[cfg(feature = "web")]
    pub fn http_addrs(&self) -> &[SocketAddr] {
        self.http_listeners.addrs()
    }

    /// The things that the server lacks and works without, such as IPv6, and the costs of a setting.
    ///
    /// ```
    /// let server = tuffet::Server::builder().listen("127.0.0.1:0").bind()?;
    /// assert!(server.warnings().is_empty());
    /// # Ok::<(), tuffet::Error>(())
    /// ```
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// A handle that stops the server and shows its state, while it runs.
    ///
    /// ```
    /// let server = tuffet::Server::builder().listen("127.0.0.1:0").bind()?;
    /// assert_eq!(server.handle().counters().requests, 0);
    /// # Ok::<(), tuffet::Error>(())
    /// ```
    pub fn handle(&self) -> ServerHandle {
        ServerHandle(self.shared.clone())
    }

    /// Serves until [`ServerHandle::stop`]. Blocks this thread, which is the first shard; other shards get threads. An
    /// async program uses [`run_until`](Self::run_until), because its handlers may wait for work of this thread.
    ///
    /// ```
    /// let server = tuffet::Server::builder().listen("127.0.0.1:0").bind()?;
    /// server.handle().stop();
    /// assert!(server.run().is_ok());
    /// # Ok::<(), tuffet::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Io`] if a socket fails for good, or a thread cannot be started; [`Error::Config`] if
    /// [`ServerBuilder::around_threads`] does not run its thread.
    pub fn run(self) -> Result<(), Error> {
        let Self { shards, period, around, shared, .. } = self;
        #[cfg(feature = "web")]
        let web = self.http_listeners.open(shared.clone(), around.clone())?;
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
            // If the first shard has failed, the others are of no use: its clients do not know them.
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

impl ServerBuilder {
    /// Binds the sockets.
    ///
    /// ```
    /// use tuffet::{Error, Server};
    ///
    /// let server = Server::builder().listen("127.0.0.1:0").bind()?;
    /// assert!(matches!(Server::builder().listen(server.addrs()[0]).bind(), Err(Error::Bind(..))), "it is in use");
    /// # Ok::<(), tuffet::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Bind`] with the address that could not be bound; [`Error::Config`] for a [`socket`](Self::socket) that
    /// does not fit, for a name without an address in [`listen`](Self::listen), and for settings that are out of their
    /// bounds.
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
        let first = Ports::bind(&listen, sockets, &builder.fixed, anywhere, &mut warnings)?;
        let addrs = first.listening();
        let mut shards = vec![first];
        for _ in 1..builder.fixed.shards {
            shards.push(Ports::join(&addrs, &builder.fixed)?);
        }
        builder.fixed.max_half_open = descriptors::max_half_open(builder.fixed.shards);
        warnings.extend(builder.costs_of_windows());
        let own = shards.iter().flat_map(Ports::all).collect();
        let drops = shards.iter().flat_map(|shard| &shard.ports).map(Port::drops).collect();
        let (period, around) = (builder.period.take(), std::mem::take(&mut builder.around));
        #[cfg(feature = "tokio")]
        let around = around.or_tokio();
        #[cfg(feature = "web")]
        let http_listeners = super::web::Listeners::bind(&builder.http, builder.fixed.interface.as_deref())?;
        let shared = Arc::new(Shared::new(builder, own, drops));
        Ok(Server {
            shards,
            addrs,
            warnings,
            period,
            around,
            shared,
            #[cfg(feature = "web")]
            http_listeners,
        })
    }
}

/// Serves the sources that this closure makes from paths, on port 69 of all addresses, until the process ends.
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
/// [`Error::Bind`] if the port cannot be bound, and those of [`Server::run`].
pub fn serve<F, S>(make: F) -> Result<(), Error>
where
    F: Fn(String) -> S + Send + Sync + 'static,
    S: crate::IntoSource + 'static,
{
    let handler = crate::read(move |request: Request| make(request.path().to_owned()));
    Server::builder().handler(handler).bind()?.run()
}
