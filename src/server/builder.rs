//! The builder of a server, with all its settings.

mod limits;

use std::{
    io,
    net::{IpAddr, SocketAddr, ToSocketAddrs, UdpSocket},
    ops::RangeInclusive,
    sync::Arc,
    time::Duration,
};

use super::{
    OnBegin, OnEnd,
    around::Around,
    period::Period,
    settings::{FixedSettings, Settings, Terms},
};
#[cfg(feature = "net")]
use crate::{endpoint::WINDOWSIZE_SINGLE_PORT, options::Limits};
use crate::{
    error::{Error, Refusal},
    handler::Handler,
    stats::{Counter, Counters, Record, Snapshot},
};

/// The settings of a server, with defaults that serve boot clients well. A setting that makes no sense, such as a
/// blksize of 4, is [`Error::Config`] when the server is [bound](Self::bind).
///
/// ```
/// # #[cfg(feature = "net")]
/// # fn main() -> Result<(), tuffet::Error> {
/// use std::time::Duration;
/// use tuffet::{Server, handlers::Memory};
///
/// let server = Server::builder()
///     .listen("127.0.0.1:0")
///     .handler(Memory::new())
///     .blksize(1428)
///     .patience(Duration::from_secs(10))
///     .bind()?;
/// assert_eq!(server.addrs().len(), 1);
/// # Ok(())
/// # }
/// # #[cfg(not(feature = "net"))]
/// # fn main() {}
/// ```
#[must_use = "nothing is bound before `bind`"]
pub struct ServerBuilder {
    pub(super) listen: Vec<SocketAddr>,
    /// The first setting that makes no sense.
    pub(super) wrong: Option<Error>,
    pub(super) sockets: Vec<UdpSocket>,
    pub(super) fixed: FixedSettings,
    pub(super) settings: Settings,
    pub(super) handler: Box<dyn Handler>,
    pub(super) on_begin: Vec<OnBegin>,
    pub(super) on_end: Vec<OnEnd>,
    pub(super) period: Option<Period>,
    pub(super) around: Around,
    pub(super) counters: Vec<Counter>,
    #[cfg(feature = "web")]
    pub(super) http: Vec<SocketAddr>,
}

impl Default for ServerBuilder {
    fn default() -> Self {
        let nothing = crate::read(|_| Err::<&str, _>(Refusal::not_found()));
        Self {
            listen: Vec::new(),
            wrong: None,
            sockets: Vec::new(),
            fixed: FixedSettings::default(),
            settings: Settings::default(),
            handler: Box::new(nothing),
            on_begin: Vec::new(),
            on_end: Vec::new(),
            period: None,
            around: Around::default(),
            counters: Vec::new(),
            #[cfg(feature = "web")]
            http: Vec::new(),
        }
    }
}

impl ServerBuilder {
    /// Listens on this address, or on all addresses of a name. Call it again for more addresses. With port 0 the
    /// system chooses a port. A name is looked up at once, and [`bind`](Self::bind) reports a name that has no
    /// address.
    ///
    /// ```
    /// use std::net::Ipv4Addr;
    ///
    /// let server = tuffet::Server::builder().listen("127.0.0.1:0").listen((Ipv4Addr::LOCALHOST, 0)).bind()?;
    /// assert_eq!(server.addrs().len(), 2);
    /// let portless = tuffet::Server::builder().listen("127.0.0.1").bind().unwrap_err();
    /// assert!(portless.to_string().contains("such as 0.0.0.0:69"));
    /// # Ok::<(), tuffet::Error>(())
    /// ```
    ///
    /// On Linux the server also binds an address that no interface has yet (`IP_FREEBIND`), and `Server::warnings`
    /// says so: at boot a server may start before the network.
    ///
    /// Defaults to port 69 on all addresses of IPv4 and IPv6. A family that the system lacks is left out.
    pub fn listen(mut self, address: impl ToSocketAddrs) -> Self {
        let mut listen = std::mem::take(&mut self.listen);
        self.resolve(address, &mut listen);
        Self { listen, ..self }
    }

    fn resolve(&mut self, address: impl ToSocketAddrs, to: &mut Vec<SocketAddr>) {
        match address.to_socket_addrs().map(Vec::from_iter) {
            Ok(addresses) if !addresses.is_empty() => to.extend(addresses),
            other => {
                let error = other.err().unwrap_or_else(|| io::ErrorKind::NotFound.into());
                let fix = match error.kind() {
                    io::ErrorKind::InvalidInput => "; an address and a port are such as 0.0.0.0:69 or [::]:69",
                    _ => "",
                };
                self.wrong.get_or_insert(Error::Config(format!("no address to listen on: {error}{fix}")));
            }
        }
    }

    /// Listens on a socket that is bound already, from a service manager or a privileged parent. Call it again for
    /// more sockets. Then the server listens only on these sockets and on the addresses of [`listen`](Self::listen).
    ///
    /// Transfers are served from ports of their own, as always. The socket gets the options of the server's own
    /// sockets, and serves one shard. A socket of `[::]` must be for IPv6 alone (`IPV6_V6ONLY`, systemd's
    /// `BindIPv6Only=ipv6-only`), because the server knows IPv4 clients by IPv4 addresses.
    ///
    /// ```
    /// let socket = std::net::UdpSocket::bind("127.0.0.1:0")?;
    /// let addr = socket.local_addr()?;
    /// assert_eq!(tuffet::Server::builder().socket(socket).bind()?.addrs(), [addr]);
    /// # Ok::<(), tuffet::Error>(())
    /// ```
    pub fn socket(mut self, socket: UdpSocket) -> Self {
        self.sockets.push(socket);
        self
    }

    /// Serves the same files over HTTP/1.1 at this address, or at all addresses of a name. Call it again for more
    /// addresses. The handler, the limits, the records and the hooks are those of TFTP: see
    /// [`Server`](crate::Server#http). Defaults to none.
    ///
    /// ```
    /// use tuffet::{Server, read};
    ///
    /// let handler = read(|_| "hello\n");
    /// let server = Server::builder().listen("127.0.0.1:0").http("127.0.0.1:0").handler(handler).bind()?;
    /// println!("http://{}/motd", server.http_addrs()[0]);
    /// # Ok::<(), tuffet::Error>(())
    /// ```
    #[cfg(feature = "web")]
    pub fn http(mut self, address: impl ToSocketAddrs) -> Self {
        let mut http = std::mem::take(&mut self.http);
        self.resolve(address, &mut http);
        Self { http, ..self }
    }

    /// The handler that answers the requests. By default every file is "not found".
    ///
    /// ```
    /// use tuffet::{Client, Server, read};
    ///
    /// let server = Server::builder().listen("127.0.0.1:0").handler(read(|_| "hello\n")).bind()?.spawn()?;
    /// assert_eq!(Client::new(server.addrs()[0]).blocking().get("motd", std::io::sink())?.bytes, 6);
    /// # Ok::<(), tuffet::Error>(())
    /// ```
    pub fn handler(mut self, handler: impl Handler) -> Self {
        self.handler = Box::new(handler);
        self
    }

    /// Serves the transfers from the port that receives the requests, for firewalls and address translators without
    /// support for TFTP. Defaults to false: a pool of ports serves the transfers, as in RFC 1350.
    ///
    /// Everybody knows a single port. By forged ACKs, a forger can make the server send up to
    /// [150 times](crate::endpoint::AMPLIFICATION_SINGLE_PORT) as many bytes as it sends itself, to a victim.
    ///
    /// ```
    /// use tuffet::{Client, Server, read};
    ///
    /// let server = Server::builder().listen("127.0.0.1:0").single_port(true).handler(read(|_| "hello\n"));
    /// let server = server.bind()?.spawn()?;
    /// let record = Client::new(server.addrs()[0]).blocking().get("motd", std::io::sink())?;
    /// assert_eq!(record.peer, server.addrs()[0]);
    /// # Ok::<(), tuffet::Error>(())
    /// ```
    pub fn single_port(mut self, single_port: bool) -> Self {
        self.fixed.single_port = single_port;
        self
    }

    /// The ports that serve transfers. By default the system chooses them at random. From a range,
    /// [`transfer_ports`](Self::transfer_ports) are drawn at random.
    ///
    /// ```
    /// use tuffet::{Client, Server, read};
    ///
    /// let server = Server::builder().listen("127.0.0.1:0").port_range(40_000..=49_999).handler(read(|_| "hello\n"));
    /// let server = server.bind()?.spawn()?;
    /// let record = Client::new(server.addrs()[0]).blocking().get("motd", std::io::sink())?;
    /// assert!((40_000..=49_999).contains(&record.peer.port()));
    /// # Ok::<(), tuffet::Error>(())
    /// ```
    pub fn port_range(mut self, ports: RangeInclusive<u16>) -> Self {
        self.fixed.port_range = Some(ports);
        self
    }

    /// How many ports serve transfers, 1 or more, for each IP address that the server listens on, in each shard.
    /// Defaults to 64, or to all free ports of the [`port_range`](Self::port_range) if they are fewer. The port of a
    /// transfer is its TID, which no stranger should be able to guess (RFC 1350 section 4). Each port takes a file
    /// descriptor, so tests that run many servers in one process set fewer.
    ///
    /// ```
    /// let server = tuffet::Server::builder().listen("127.0.0.1:0").transfer_ports(0);
    /// assert!(server.bind().is_err());
    /// ```
    pub fn transfer_ports(mut self, ports: usize) -> Self {
        self.check("transfer_ports", ports as u64, 1..=u64::MAX);
        self.fixed.transfer_ports = ports;
        self
    }

    /// The only network interface that the server listens on and answers by, which may be a VRF: `SO_BINDTODEVICE` of
    /// Linux. Defaults to all. Before Linux 5.7 this needs `CAP_NET_RAW`.
    ///
    /// ```
    /// let server = tuffet::Server::builder().listen("127.0.0.1:0").interface("no-such");
    /// assert!(server.bind().is_err());
    /// ```
    pub fn interface(mut self, name: impl Into<String>) -> Self {
        self.fixed.interface = Some(name.into());
        self
    }

    /// The number of threads, 1 or more, each with its own sockets and transfers. Defaults to 1, which is enough for
    /// thousands of clients. With several shards too, binding fails if another server has the address.
    ///
    /// ```
    /// let server = tuffet::Server::builder().listen("127.0.0.1:0").shards(0);
    /// assert!(server.bind().is_err(), "no thread would serve");
    /// ```
    pub fn shards(mut self, shards: usize) -> Self {
        self.check("shards", shards as u64, 1..=u64::MAX);
        self.fixed.shards = shards;
        self
    }

    /// Runs each thread of the server inside this hook: those of the shards, and that of
    /// [`on_period`](Self::on_period). The hook receives the thread's work and has to call it, once. A context that is
    /// entered around that call holds in every handler, source and hook, whenever they are polled or dropped. In this
    /// way a program enters a runtime of another kind:
    ///
    /// ```
    /// # let runtime = tokio::runtime::Runtime::new().unwrap();
    /// # let _entered = runtime.enter();
    /// let tokio = tokio::runtime::Handle::current();
    /// let server = tuffet::Server::builder().around_threads(move |thread| {
    ///     let _entered = tokio.enter();
    ///     thread();
    /// });
    /// ```
    ///
    /// By default there is no hook. With the feature `tokio`, which `http` brings, the default is the tokio runtime of
    /// the thread that calls [`bind`](Self::bind), if it has one. Blocking work
    /// ([`Source::reader`](crate::Source::reader)) runs on threads of smol, without the hook.
    pub fn around_threads(mut self, hook: impl Fn(Box<dyn FnOnce() + '_>) + Send + Sync + 'static) -> Self {
        self.around = Around::new(hook);
        self
    }

    /// Whether the server receives and sends many datagrams in one system call, where the system can do so. Defaults
    /// to true. With false, a server on all addresses answers from the address that the route gives.
    ///
    /// ```
    /// use tuffet::{Client, Server, read};
    ///
    /// let server = Server::builder().listen("127.0.0.1:0").batched(false).handler(read(|_| "hello\n"));
    /// let server = server.bind()?.spawn()?;
    /// assert_eq!(Client::new(server.addrs()[0]).blocking().get("motd", std::io::sink())?.bytes, 6);
    /// # Ok::<(), tuffet::Error>(())
    /// ```
    pub fn batched(mut self, batched: bool) -> Self {
        self.fixed.batched = batched;
        self
    }

    /// Calls this hook when a transfer begins, before its request is answered. It runs on the thread of the shard, so
    /// it should be quick. The [id](Snapshot::id) is also that of the record at the end. Call it again for more hooks.
    ///
    /// ```
    /// let server = tuffet::Server::builder()
    ///     .on_begin(|transfer| println!("{} {} asks for {}", transfer.id, transfer.peer, transfer.path))
    ///     .on_end(|record| println!("{} {}", record.id, record.outcome));
    /// ```
    pub fn on_begin(mut self, hook: impl Fn(&Snapshot) + Send + Sync + 'static) -> Self {
        self.on_begin.push(Box::new(hook));
        self
    }

    /// Calls this hook with the record of each transfer at its end. It runs on the thread of the shard, so it should
    /// be quick. Call it again for more hooks.
    ///
    /// ```
    /// # #[cfg(feature = "sim")]
    /// # futures_lite::future::block_on(async {
    /// use std::sync::{Arc, Mutex};
    /// use tuffet::{handlers::Memory, sim};
    ///
    /// let outcomes = Arc::new(Mutex::new(Vec::new()));
    /// let seen = outcomes.clone();
    /// let get = sim::get(&Memory::new(), "none");
    /// let get = get.server(|builder| builder.on_end(move |record| seen.lock().unwrap().push(record.outcome.name())));
    /// assert!(get.await.is_err());
    /// assert_eq!(*outcomes.lock().unwrap(), ["refused"]);
    /// # Ok::<(), tuffet::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn on_end(mut self, hook: impl Fn(&Record) + Send + Sync + 'static) -> Self {
        self.on_end.push(Box::new(hook));
        self
    }

    /// Shows the transfers to this status server. Call it again for others.
    ///
    /// ```
    /// use tuffet::{Server, status::Status};
    ///
    /// let status = Status::bind(([127, 0, 0, 1], 0).into())?;
    /// let server = Server::builder().listen("127.0.0.1:0").watch(&status).bind()?;
    /// assert!(server.warnings().is_empty());
    /// # Ok::<(), tuffet::Error>(())
    /// ```
    #[cfg(feature = "status")]
    pub fn watch(self, status: &crate::status::Status) -> Self {
        self.on_end(status.observer())
    }

    /// Calls this hook once in each period, of 1 ms at least, with the counts of that period. It runs on a thread of
    /// its own, and a last time when [`Server::run`](crate::Server::run) ends, so nothing is counted twice or left
    /// out. 60 s are a good period. Defaults to no hook.
    ///
    /// ```
    /// use std::{sync::mpsc, time::Duration};
    ///
    /// let (count, counts) = mpsc::channel();
    /// let hook = move |counters: &tuffet::stats::Counters| _ = count.send(counters.requests);
    /// let server = tuffet::Server::builder().listen("127.0.0.1:0").on_period(Duration::from_secs(60), hook);
    /// let server = server.bind()?.spawn()?;
    /// smol::block_on(server.stop())?;
    /// assert_eq!(counts.recv(), Ok(0), "at the end");
    /// # Ok::<(), tuffet::Error>(())
    /// ```
    pub fn on_period(mut self, period: Duration, hook: impl Fn(&Counters) + Send + 'static) -> Self {
        self.period = Some(Period::new(period, hook));
        self
    }

    /// Delivers a counter of your own with those of the server. Call it again for more. Counters with the same name
    /// count together.
    ///
    /// ```
    /// use tuffet::{Server, stats::Counter};
    ///
    /// let greeted = Counter::new("greeted", "Machines that were greeted.");
    /// let server = Server::builder().listen("127.0.0.1:0").counter(&greeted).bind()?;
    /// greeted.add(2);
    /// assert_eq!(server.handle().counters().own["greeted"], 2);
    /// # Ok::<(), tuffet::Error>(())
    /// ```
    pub fn counter(mut self, counter: &Counter) -> Self {
        self.counters.push(counter.clone());
        self
    }

    /// Says which clients are answered. The server is silent to others, and counts their requests as
    /// [`unanswered`](crate::stats::Counters::unanswered). The function is called for each request, on the thread of
    /// the shard, so it should be quick. An IPv4-mapped address is passed as IPv4. Defaults to all.
    ///
    /// ```
    /// let server = tuffet::Server::builder().admit(|client| client.is_ipv4());
    /// ```
    pub fn admit(mut self, admits: impl Fn(IpAddr) -> bool + Send + Sync + 'static) -> Self {
        self.settings.policy.admits = Some(Arc::new(admits));
        self
    }

    /// A warning of the bytes that forgers gain by the allowed windows, if they are more than by default.
    #[cfg(feature = "net")]
    pub(super) fn costs_of_windows(&self) -> Option<String> {
        let (windowsize, single_port) = (self.settings.policy.windowsize?, self.fixed.single_port);
        let default = if single_port { WINDOWSIZE_SINGLE_PORT } else { Limits::default().windowsize };
        // The figure is for blocks that fit Ethernet, and for an ACK of 32 bytes to each port.
        let ports = if single_port { 1 } else { self.fixed.transfer_ports as u64 };
        let factor = u64::from(windowsize) * 1500 / (32 * ports);
        (windowsize > default).then(|| {
            format!(
                "a windowsize of {windowsize}: with forged ACKs, an attacker can have {factor} times as many bytes \
                 sent to others"
            )
        })
    }

    #[cfg(feature = "sim")]
    pub(crate) fn first_address(&self) -> Option<SocketAddr> {
        self.listen.first().copied()
    }

    #[cfg(feature = "sim")]
    pub(crate) fn mistake(&self) -> Option<&Error> {
        self.wrong.as_ref()
    }

    #[cfg(feature = "sim")]
    pub(crate) fn is_single_port(&self) -> bool {
        self.fixed.single_port
    }

    /// The terms for a server whose sockets are still to be named.
    pub(super) fn into_terms(self) -> Result<Terms, Error> {
        self.wrong.map_or(Ok(Terms { settings: self.settings, handler: self.handler.into(), own: Vec::new() }), Err)
    }

    fn check(&mut self, name: &str, value: u64, bounds: RangeInclusive<u64>) {
        if let Err(error) = Error::check_setting(name, value, bounds) {
            self.wrong.get_or_insert(error);
        }
    }
}

impl std::fmt::Debug for ServerBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerBuilder")
            .field("listen", &self.listen)
            .field("sockets", &self.sockets)
            .field("bound", &self.fixed)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}
