//! Everything that can be set.

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
    settings::{Bound, Settings, Terms},
};
#[cfg(feature = "net")]
use crate::options::Limits;
use crate::{
    error::{Error, Refusal},
    handler::Handler,
    options::{BLKSIZE, WINDOWSIZE, wide},
    stats::{Counter, Counters, Record, Snapshot},
};

/// Settings of a server, with defaults that serve boot clients well. What makes no sense, such as a blksize of 4, is
/// [`Error::Config`] when the server is [bound](Self::bind).
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
pub struct Builder {
    pub(super) listen: Vec<SocketAddr>,
    /// The first setting that makes no sense.
    pub(super) wrong: Option<Error>,
    pub(super) sockets: Vec<UdpSocket>,
    pub(super) bound: Bound,
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

impl Default for Builder {
    fn default() -> Self {
        let nothing = crate::read(async |_| Err::<&str, _>(Refusal::not_found()));
        Self {
            listen: Vec::new(),
            wrong: None,
            sockets: Vec::new(),
            bound: Bound::default(),
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

impl Builder {
    /// An address to listen on, or a name and all of its addresses; may be called again for more. Port 0 has the system
    /// choose one. A name is looked up now, and [`bind`](Self::bind) tells of one that has no address.
    ///
    /// ```
    /// use std::net::Ipv4Addr;
    ///
    /// let server = tuffet::Server::builder().listen("127.0.0.1:0").listen((Ipv4Addr::LOCALHOST, 0)).bind()?;
    /// assert_eq!(server.addrs().len(), 2);
    /// assert!(tuffet::Server::builder().listen("127.0.0.1").bind().is_err(), "a port is missing");
    /// # Ok::<(), tuffet::Error>(())
    /// ```
    ///
    /// On Linux an address that no interface has yet is waited for (`IP_FREEBIND`), and `Server::warnings` says so: at
    /// boot a server may start before the network.
    ///
    /// Defaults to port 69 on all addresses of both families, where a family that the system lacks is done without.
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
                self.wrong.get_or_insert(Error::Config(format!("no address to listen on: {error}")));
            }
        }
    }

    /// A socket to listen on that is bound already, as a service manager or a privileged parent hands it over; may be
    /// called again for more. Only what [`listen`](Self::listen) names is then listened on besides.
    ///
    /// Transfers are served from ports of their own, as always. It gets the options that own sockets have, and serves
    /// one shard. A socket of `[::]` has to be one for IPv6 alone (`IPV6_V6ONLY`, systemd's `BindIPv6Only=ipv6-only`):
    /// IPv4 clients have addresses of IPv4 here.
    pub fn socket(mut self, socket: UdpSocket) -> Self {
        self.sockets.push(socket);
        self
    }

    /// Serves the same over HTTP/1.1 at this address, or at all addresses of a name; may be called again for more. The
    /// handler, the limits, the records and the hooks are those of TFTP: see [`Server`](crate::Server#http). Defaults to
    /// none.
    ///
    /// ```
    /// use tuffet::{Server, read};
    ///
    /// let handler = read(async |_| "hello\n");
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

    /// What answers the requests. Defaults to nothing: every file is "not found".
    pub fn handler(mut self, handler: impl Handler) -> Self {
        self.handler = Box::new(handler);
        self
    }

    /// Serves the transfers from the port that the requests come to, for firewalls and address translators that know
    /// nothing of TFTP. Defaults to false: a pool of ports serves the transfers, as RFC 1350 has it.
    ///
    /// Everybody knows a single port: by forged ACKs, a forger may have up to
    /// [150 times](crate::endpoint::AMPLIFICATION_SINGLE_PORT) what it sends sent to somebody else.
    pub fn single_port(mut self, single_port: bool) -> Self {
        self.bound.single_port = single_port;
        self
    }

    /// The ports that transfers are served from. Defaults to what the system gives, at random. Of a range,
    /// [`transfer_ports`](Self::transfer_ports) are drawn at random.
    pub fn port_range(mut self, ports: RangeInclusive<u16>) -> Self {
        self.bound.port_range = Some(ports);
        self
    }

    /// How many ports transfers are served from, 1 or more, for each IP address that is listened on, in each shard. Defaults to 64,
    /// or as many as are free of the [`port_range`](Self::port_range). The port of a transfer is its TID, which no
    /// stranger should be able to guess (RFC 1350 section 4). Each port takes a file descriptor.
    pub fn transfer_ports(mut self, ports: usize) -> Self {
        self.check("transfer_ports", ports as u64, 1..=u64::MAX);
        self.bound.transfer_ports = ports;
        self
    }

    /// The only network interface that is listened on and answered by, which may be a VRF: `SO_BINDTODEVICE` of Linux.
    /// Defaults to all. Linux before 5.7 lets only those do that who have `CAP_NET_RAW`.
    pub fn interface(mut self, name: impl Into<String>) -> Self {
        self.bound.interface = Some(name.into());
        self
    }

    /// Largest blksize that is granted, in bytes, 8 to 65464. Defaults to what travels in one piece: the MTU of the
    /// interface that the request came by, without headers (1468 on Ethernet and IPv4).
    pub fn blksize(mut self, most: u16) -> Self {
        self.check("blksize", most.into(), wide(BLKSIZE));
        self.settings.policy.blksize = Some(most);
        self
    }

    /// Largest windowsize that is granted, in blocks, 1 or more. Defaults to 64, or less where one forged ACK, sent to all ports that
    /// the transfer may have, would bring more than [50 times](crate::endpoint::AMPLIFICATION) its bytes: blocks above
    /// 1500 bytes get smaller windows, and a [single port](Self::single_port) has 4 at most, 3 with blocks above 1168
    /// bytes. What is set here is granted all the same; [`Server::warnings`](crate::Server::warnings) tell what it costs.
    pub fn windowsize(mut self, most: u16) -> Self {
        self.check("windowsize", most.into(), wide(WINDOWSIZE));
        self.settings.policy.windowsize = Some(most);
        self
    }

    /// Longest time between two retransmits where the client did not ask for a `timeout`. Defaults to 5 s; the actual
    /// time follows the measured round trip.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.settings.timing.timeout = timeout;
        self
    }

    /// How long a client may be silent, or a source without a chunk, before the transfer ends. Defaults to 30 s: GRUB
    /// is silent for seconds while it unpacks.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.settings.timing.patience = patience;
        self
    }

    /// Transfers at once, in each shard. Requests beyond are not answered, so that the clients try again; but a
    /// transfer whose client has not answered for 2 s loses its place to them, so that forged requests cannot hold all
    /// of them. Defaults to 10000.
    pub fn max_transfers(mut self, most: usize) -> Self {
        self.settings.policy.max_transfers = most;
        self
    }

    /// Transfers at once of one client address, in each shard. Requests beyond are not answered, so that the client
    /// tries again. Defaults to half of [`max_transfers`](Self::max_transfers), and 100 at least: behind an address
    /// translator or a container's bridge a whole room of machines has one address, and all it must leave is room for
    /// the others.
    pub fn max_transfers_per_client(mut self, most: usize) -> Self {
        self.settings.policy.max_transfers_per_client = Some(most);
        self
    }

    /// Requests of one client address that are looked at in a second, in each shard, and ten times as many at once;
    /// 0 is no limit. Others are not answered. Defaults to 1000, which a thousand machines behind one address reach
    /// when each asks for eleven files within a second.
    ///
    /// It takes a fixed 32 KiB for each shard, however many addresses there are or are forged.
    pub fn max_requests_per_client(mut self, per_second: u32) -> Self {
        self.settings.policy.max_requests_per_client = per_second;
        self
    }

    /// Largest upload, in bytes, as it travels. Defaults to 1 GiB: a client that never ends its file would fill the disk.
    /// Of a client that tells the size, no more than that is taken either. The byte after is answered with ERROR 3.
    pub fn max_upload(mut self, most: u64) -> Self {
        self.settings.max_upload = most;
        self
    }

    /// Threads, 1 or more, each with sockets and transfers of its own. Defaults to 1, which is enough for thousands of clients. An
    /// address that another server has is refused all the same.
    pub fn shards(mut self, shards: usize) -> Self {
        self.check("shards", shards as u64, 1..=u64::MAX);
        self.bound.shards = shards;
        self
    }

    /// Runs each thread of the server within this hook: those of the shards, and that of
    /// [`on_period`](Self::on_period). The hook is given the thread's work and has to call it, once. What is entered
    /// around that call is there in every handler, source and hook, whenever they are polled or dropped. So a runtime of
    /// another kind is entered:
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
    /// Defaults to nothing; with the feature `http`, which brings tokio, to the tokio runtime of the thread that calls
    /// [`bind`](Self::bind), if it has one. Blocking work ([`Source::reader`](crate::Source::reader)) is done on threads
    /// of smol's, without the hook.
    pub fn around_threads(mut self, hook: impl Fn(Box<dyn FnOnce() + '_>) + Send + Sync + 'static) -> Self {
        self.around = Around::new(hook);
        self
    }

    /// How long transfers may go on after [`Handle::stop`](super::Handle::stop). Defaults to 10 s.
    pub fn drain(mut self, drain: Duration) -> Self {
        self.settings.drain = drain;
        self
    }

    /// Whether datagrams are received and sent many at a time where the system can do so. Defaults to true. Without,
    /// a server on all addresses answers from the one that the route gives.
    pub fn batched(mut self, batched: bool) -> Self {
        self.bound.batched = batched;
        self
    }

    /// Called when a transfer begins, before its request is answered, on the thread of its shard: it should be quick. The
    /// [id](Snapshot::id) is the one that the record has at its end. May be called again for more hooks.
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

    /// Called with the record of each transfer at its end, on the thread of its shard: it should be quick. May be
    /// called again for more hooks.
    pub fn on_end(mut self, hook: impl Fn(&Record) + Send + Sync + 'static) -> Self {
        self.on_end.push(Box::new(hook));
        self
    }

    /// Has this status server see the transfers. May be called again for others.
    #[cfg(feature = "status")]
    pub fn watch(self, status: &crate::status::Status) -> Self {
        self.on_end(status.observer())
    }

    /// Called once in each period, of 1 ms at least, with what was counted in it, on a thread of its own, and a last time when
    /// [`Server::run`](crate::Server::run) ends: nothing is counted twice or left out. 60 s are a good period. Defaults to no hook.
    pub fn on_period(mut self, period: Duration, hook: impl Fn(&Counters) + Send + 'static) -> Self {
        self.period = Some(Period::new(period, hook));
        self
    }

    /// Delivers a counter of your own with the server's. May be called again for more; those of one name are one.
    pub fn counter(mut self, counter: &Counter) -> Self {
        self.counters.push(counter.clone());
        self
    }

    /// Which clients are answered. Others are told nothing, as if nobody were here, and count as
    /// [`unanswered`](crate::stats::Counters::unanswered). It is asked for each request, on the thread of its shard, with
    /// an IPv4 address for a mapped one; it should be quick. Defaults to all.
    ///
    /// ```
    /// let server = tuffet::Server::builder().admit(|client| client.is_ipv4());
    /// ```
    pub fn admit(mut self, admits: impl Fn(IpAddr) -> bool + Send + Sync + 'static) -> Self {
        self.settings.policy.admits = Some(Arc::new(admits));
        self
    }

    /// What forgers reach by the windows that are allowed, if that is more than by default.
    #[cfg(feature = "net")]
    pub(super) fn costs_of_windows(&self) -> Option<String> {
        let (windowsize, single_port) = (self.settings.policy.windowsize?, self.bound.single_port);
        let default = if single_port { 4 } else { Limits::default().windowsize };
        // Of what Ethernet takes in one piece, for an ACK of 32 bytes to each port.
        let ports = if single_port { 1 } else { self.bound.transfer_ports as u64 };
        let factor = u64::from(windowsize) * 1500 / (32 * ports);
        (windowsize > default).then(|| {
            format!(
                "a windowsize of {windowsize}: by forged ACKs, somebody may have {factor} times as much sent to others"
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
        self.bound.single_port
    }

    /// What can be exchanged while a server runs.
    pub(super) fn into_terms(self) -> Result<Terms, Error> {
        self.wrong.map_or(Ok(Terms { settings: self.settings, handler: self.handler }), Err)
    }

    fn check(&mut self, name: &str, value: u64, bounds: RangeInclusive<u64>) {
        if let Err(error) = Error::check_setting(name, value, bounds) {
            self.wrong.get_or_insert(error);
        }
    }
}

impl std::fmt::Debug for Builder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Builder")
            .field("listen", &self.listen)
            .field("sockets", &self.sockets)
            .field("bound", &self.bound)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}
