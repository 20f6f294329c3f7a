//! The client: the coroutines of [`transfer`](crate::transfer), run from the side that sends the request.

mod blocking;
mod sockets;

use std::{
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant, SystemTime},
};

use futures_lite::{future::poll_fn, ready};
use smol::Timer;

use crate::{
    driver::feed::{Feed, upload},
    error::{Error, ErrorCode, Refusal},
    options::{BLKSIZE, DEFAULT_BLKSIZE, Direction, TIMEOUT_S, WINDOWSIZE, wide},
    packet::{self, Mode, Options, Packet},
    shown,
    source::{IntoSource, SendSource},
    stats::Record,
    transfer::{Event, Outcome, Step, Timing, Transfer, Want},
};

pub use blocking::BlockingClient;
pub(crate) use sockets::{Sockets, is_refusal};

/// Gets files from a TFTP server and puts files there.
///
/// The client asks for the options that are set here; the server may grant less. The futures run in any runtime. They
/// own what they need, and they are `Send` if the sink or the source is, so a program can spawn them:
///
/// ```no_run
/// # async fn example() {
/// let client = tuffet::Client::new("192.0.2.1:69".parse().unwrap());
/// let got = tokio::spawn(client.get("pxelinux.0", async |data| {
///     data.write_to(futures_lite::io::sink()).await.map(drop)
/// }));
/// let put = tokio::spawn(client.put("switch.cfg", "hostname lab\n"));
/// # }
/// ```
///
/// A transfer whose sink or source is not `Send` stays on its thread:
///
/// ```compile_fail,E0277
/// # async fn example() {
/// let client = tuffet::Client::new("192.0.2.1:69".parse().unwrap());
/// let local = tuffet::Gen::new(async |co| co.yield_("hostname lab\n").await);
/// tokio::spawn(client.put("switch.cfg", local));
/// # }
/// ```
///
/// A future that is dropped in the middle ends its transfer, and tells the server so with an ERROR.
///
/// A program without async uses [`blocking`](Self::blocking).
///
/// ```no_run
/// # async fn example() -> Result<(), tuffet::Error> {
/// use tuffet::Client;
///
/// let client = Client::new("192.0.2.1:69".parse().unwrap()).windowsize(16);
/// let record = client.get("pxelinux.0", async |data| {
///     let bytes = data.collect(1 << 20).await?;
///     println!("{} bytes", bytes.len());
///     Ok(())
/// });
/// println!("{}", record.await?);
/// client.put("switch.cfg", "hostname lab\n").await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Client {
    server: SocketAddr,
    mode: Mode,
    blksize: u16,
    windowsize: u16,
    timeout: Option<Duration>,
    timing: Timing,
}

impl Client {
    /// Default of [`blksize`](Self::blksize), in bytes: such blocks pass tunnels and PPPoE without IP fragments.
    pub const BLKSIZE: u16 = 1428;

    /// Default of [`windowsize`](Self::windowsize), in blocks: a window is 23 KB, which fits the smallest receive
    /// buffers.
    pub const WINDOWSIZE: u16 = 16;

    /// A client of this server.
    ///
    /// ```
    /// use tuffet::{Client, Server, read};
    ///
    /// let server = Server::builder().listen("127.0.0.1:0").handler(read(|_| "hello\n")).bind()?.spawn()?;
    /// let record = Client::new(server.addrs()[0]).blocking().get("motd", std::io::sink())?;
    /// assert_eq!(record.bytes, 6);
    /// # Ok::<(), tuffet::Error>(())
    /// ```
    pub fn new(server: SocketAddr) -> Self {
        Self {
            server,
            mode: Mode::Octet,
            blksize: Self::BLKSIZE,
            windowsize: Self::WINDOWSIZE,
            timeout: None,
            timing: Timing::default(),
        }
    }

    /// Transfer mode. Defaults to octet.
    ///
    /// ```
    #[doc = include_str!("client/example.md")]
    /// let client = Client::new(server.addrs()[0]).mode(tuffet::packet::Mode::Netascii).blocking();
    /// let mut motd = Vec::new();
    /// client.get("motd", &mut motd)?;
    /// assert_eq!(motd, b"hello\n", "it travelled as CR LF");
    /// # Ok::<(), tuffet::Error>(())
    /// ```
    pub fn mode(mut self, mode: Mode) -> Self {
        self.mode = mode;
        self
    }

    /// The blksize to ask for, in bytes, 8 to 65464. With 512 the client does not send the option. Defaults to 1428,
    /// which fits Ethernet over IPv4 and IPv6.
    ///
    /// ```
    #[doc = include_str!("client/example.md")]
    /// let record = Client::new(server.addrs()[0]).blksize(1024).blocking().get("motd", std::io::sink())?;
    /// assert_eq!(record.blksize, 1024);
    /// # Ok::<(), tuffet::Error>(())
    /// ```
    pub fn blksize(mut self, blksize: u16) -> Self {
        self.blksize = blksize;
        self
    }

    /// The windowsize to ask for, in blocks, 1 or more. With 1 the client does not send the option. Defaults to 16.
    ///
    /// ```
    #[doc = include_str!("client/example.md")]
    /// let record = Client::new(server.addrs()[0]).windowsize(4).blocking().get("motd", std::io::sink())?;
    /// assert_eq!(record.windowsize, 4);
    /// # Ok::<(), tuffet::Error>(())
    /// ```
    pub fn windowsize(mut self, windowsize: u16) -> Self {
        self.windowsize = windowsize;
        self
    }

    /// The `timeout` to ask for, 1 to 255 s; the request has whole seconds. It bounds the time between two
    /// retransmits on both sides. By default the client does not send the option, and its own bound is 5 s.
    ///
    /// ```
    #[doc = include_str!("client/example.md")]
    /// let client = Client::new(server.addrs()[0]).timeout(std::time::Duration::from_secs(3));
    /// let record = client.blocking().get("motd", std::io::sink())?;
    /// assert_eq!(record.granted.value("timeout"), Some("3"));
    /// # Ok::<(), tuffet::Error>(())
    /// ```
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timing.timeout = timeout;
        self.timeout = Some(timeout);
        self
    }

    /// How long the server may be silent before the transfer ends. Defaults to 30 s.
    ///
    /// ```
    /// use std::{net::UdpSocket, time::Duration};
    /// use tuffet::{Client, Error};
    ///
    /// let silent = UdpSocket::bind("127.0.0.1:0")?;
    /// let client = Client::new(silent.local_addr()?).patience(Duration::from_millis(10)).blocking();
    /// assert!(matches!(client.get("motd", std::io::sink()), Err(Error::TimedOut)));
    /// # Ok::<(), tuffet::Error>(())
    /// ```
    pub fn patience(mut self, patience: Duration) -> Self {
        self.timing.patience = patience;
        self
    }

    /// Gets a file. The sink receives its bytes as they arrive; [`size`](crate::Source::size) is the server's `tsize`.
    /// The name is text or bytes.
    ///
    /// The sink starts when the server has answered. The client acknowledges the last block when the sink has returned
    /// `Ok`. A server that rejects the options is asked once more, without any.
    ///
    /// ```
    #[doc = include_str!("client/example.md")]
    /// # smol::block_on(async {
    /// let mut motd = Vec::new();
    /// let record = Client::new(server.addrs()[0]).get("motd", async |data| {
    ///     motd = data.collect(1 << 20).await?;
    ///     Ok(())
    /// });
    /// assert!(record.await?.outcome.is_success());
    /// assert_eq!(motd, b"hello\n");
    /// # Ok::<(), tuffet::Error>(())
    /// # })?;
    /// # Ok::<(), tuffet::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Config`] for a setting that is out of its bounds, [`Error::Peer`] with the server's ERROR,
    /// [`Error::TimedOut`], [`Error::Refused`] with the sink's refusal, or [`Error::Io`]. The kind of the last one is
    /// [`io::ErrorKind::ConnectionRefused`] if the server's machine says that the port is closed.
    pub fn get<N, F, Fut>(&self, name: &N, sink: F) -> impl Future<Output = Result<Record, Error>> + use<N, F, Fut>
    where
        N: AsRef<[u8]> + ?Sized,
        F: FnOnce(SendSource) -> Fut,
        Fut: Future<Output = Result<(), Refusal>>,
    {
        let begun = self.request(name.as_ref(), Some(0)).map(|request| {
            let transfer = (Direction::Read, Transfer::get as Begin, self.timing);
            run(self.server, transfer, request, |size| upload(size, u64::MAX, sink))
        });
        async { begun?.await }
    }

    /// Puts a file. The name is text or bytes.
    ///
    /// ```
    /// use tuffet::{Client, Server, handlers::Memory};
    ///
    /// # smol::block_on(async {
    /// let store = Memory::new();
    /// let server = Server::builder().listen("127.0.0.1:0").handler(store.clone()).bind()?.spawn()?;
    /// Client::new(server.addrs()[0]).put("switch.cfg", "hostname lab\n").await?;
    /// assert_eq!(store.get("switch.cfg").unwrap(), "hostname lab\n");
    /// # Ok::<(), tuffet::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// As [`get`](Self::get); [`Error::Refused`] holds the source's refusal.
    pub fn put<N, S>(&self, name: &N, source: S) -> impl Future<Output = Result<Record, Error>> + use<N, S>
    where
        N: AsRef<[u8]> + ?Sized,
        S: IntoSource,
    {
        let begun = source.into_source().map_err(Error::Refused).and_then(|source| {
            let request = self.request(name.as_ref(), source.size())?;
            let transfer = (Direction::Write, Transfer::put as Begin, self.timing);
            Ok(run(self.server, transfer, request, |_| source))
        });
        async { begun?.await }
    }

    fn request(&self, name: &[u8], tsize: Option<u64>) -> Result<packet::Request, Error> {
        Error::check_setting("blksize", self.blksize.into(), wide(BLKSIZE))?;
        Error::check_setting("windowsize", self.windowsize.into(), wide(WINDOWSIZE))?;
        let mut options = Options::new();
        if self.blksize != DEFAULT_BLKSIZE {
            options.push("blksize", self.blksize.to_string());
        }
        if self.windowsize > 1 {
            options.push("windowsize", self.windowsize.to_string());
        }
        if let Some(timeout) = self.timeout {
            Error::check_setting("the timeout in seconds", timeout.as_secs(), TIMEOUT_S)?;
            options.push("timeout", timeout.as_secs().to_string());
        }
        // In netascii the size on the wire is known only at the end, and tftpd-hpa refuses a request with tsize (ERROR
        // 8).
        if let Some(size) = tsize.filter(|_| self.mode == Mode::Octet) {
            options.push("tsize", size.to_string());
        }
        Ok(packet::Request { filename: name.into(), mode: self.mode, options })
    }
}

type Begin = fn(packet::Request, Timing) -> Transfer;

/// Runs a transfer to its end. If the server rejects the options, the client asks once more, without any (RFC 2347).
async fn run<F: Feed>(
    server: SocketAddr,
    (direction, begin, timing): (Direction, Begin, Timing),
    mut request: packet::Request,
    feed: impl FnOnce(Option<u64>) -> F,
) -> Result<Record, Error> {
    let (started, began) = (SystemTime::now(), Instant::now());
    let mut feed = Some(feed);
    let (mut connection, mut transfer) = (Connection::new(server)?, begin(request.clone(), timing));
    let mut outcome = connection.run(&mut transfer, &mut feed).await?;
    if feed.is_some() && !request.options.is_empty() && rejects_options(&outcome) {
        log::debug!("{server} rejects options ({outcome}), and is asked without any");
        request.options = Options::new();
        (connection, transfer) = (Connection::new(server)?, begin(request.clone(), timing));
        outcome = connection.run(&mut transfer, &mut feed).await?;
    }
    let progress = transfer.progress();
    let filename = shown::name(&request.filename);
    let addresses = (connection.peer, connection.sockets.local_addr()?);
    let record = Record {
        outcome,
        size: progress.agreed.tsize(),
        duration: began.elapsed(),
        granted: std::mem::take(&mut connection.granted),
        ..Record::new(addresses, direction, (filename.clone(), filename), started, request.options)
            .with_progress(&progress)
    };
    record.outcome.result()?;
    Ok(record)
}

/// Servers from before RFC 2347 call a request with options illegal.
fn rejects_options(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Aborted { code: ErrorCode::OPTION_NEGOTIATION | ErrorCode::ILLEGAL_OPERATION, .. })
}

/// The socket of one transfer, which is driven by the [contract](crate::transfer#the-drivers-contract).
struct Connection {
    sockets: Sockets,
    /// The address of the request until the server has answered, then the server's TID.
    peer: SocketAddr,
    answered: bool,
    /// Whether a datagram has come from another address before the first answer.
    has_stranger: bool,
    over: bool,
    /// The options of the OACK.
    granted: Options,
    buffer: Vec<u8>,
}

impl Connection {
    fn new(server: SocketAddr) -> io::Result<Self> {
        let sockets = Sockets::new(server)?;
        let granted = Options::new();
        let (answered, has_stranger, over) = (false, false, false);
        Ok(Self { sockets, peer: server, answered, has_stranger, over, granted, buffer: vec![0; 65536] })
    }

    async fn run<F: Feed>(
        &mut self,
        transfer: &mut Transfer,
        begin: &mut Option<impl FnOnce(Option<u64>) -> F>,
    ) -> io::Result<Outcome> {
        // The sink or source starts when the server has answered: the size is not known before.
        let mut feed = None;
        let (mut now, mut event) = (Instant::now(), Event::Continue);
        loop {
            let step = transfer.resume(now, event);
            if self.answered && !matches!(step, Step::Done(_)) {
                if let Some(begin) = begin.take() {
                    feed = Some(begin(transfer.progress().agreed.tsize()));
                }
            }
            event = match step {
                Step::Send(packet) => {
                    self.send(&packet.encode()).await?;
                    Event::Continue
                }
                Step::Push(chunk) => {
                    if let Some(feed) = &mut feed {
                        feed.push(chunk);
                    }
                    Event::Continue
                }
                Step::Wait(want, deadline) => {
                    let mut timer = Timer::at(deadline);
                    poll_fn(|cx| self.poll_event(&mut timer, feed.as_mut(), want, cx)).await?
                }
                Step::Done(outcome) => {
                    self.over = true;
                    return Ok(outcome);
                }
            };
            now = Instant::now();
        }
    }

    /// A packet that cannot be sent now counts as lost, as on any wire. Before the server has answered, the failure is
    /// an error.
    async fn send(&self, bytes: &[u8]) -> io::Result<()> {
        match self.sockets.send_to(bytes, self.peer).await {
            Err(error) if !self.answered && !is_refusal(&error) => Err(error),
            Err(error) => {
                log::debug!("{}: cannot send {} bytes: {error}", self.peer, bytes.len());
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    fn poll_event(
        &mut self,
        timer: &mut Timer,
        feed: Option<&mut impl Feed>,
        want: Want,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<Event>> {
        if let Poll::Ready(packet) = self.poll_packet(cx) {
            return Poll::Ready(packet.map(Event::Packet));
        }
        if let Some(Poll::Ready(event)) = feed.map(|feed| feed.poll(want, cx)) {
            return Poll::Ready(Ok(event));
        }
        Pin::new(timer).poll(cx).map(|_| Ok(Event::Timeout))
    }

    fn poll_packet(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Packet>> {
        loop {
            let (len, from) = match ready!(self.sockets.poll_receive(&mut self.buffer, cx)) {
                Ok(received) => received,
                // Once the server has answered, its TID may be closed while its last packets are on the way.
                Err(error) if is_refusal(&error) && self.answered => continue,
                Err(error) => return Poll::Ready(Err(error)),
            };
            let peer = self.peer;
            if from.ip() != peer.ip() {
                if !self.answered && !std::mem::replace(&mut self.has_stranger, true) {
                    log::warn!(
                        "{} answers in the place of {}: ask that address, or have the server answer from the address \
                         that was asked",
                        from.ip(),
                        peer.ip()
                    );
                }
                continue;
            }
            let Ok(packet) = Packet::decode(&self.buffer[..len]) else { continue };
            // A late packet for another client that had this port before is no answer.
            let answers = matches!(
                packet,
                Packet::Oack(_) | Packet::Ack(0) | Packet::Data { block: 1, .. } | Packet::Error { .. }
            );
            if !self.answered && !answers {
                continue;
            }
            if !self.answered {
                (self.answered, self.peer) = (true, from);
                if let Packet::Oack(oack) = &packet {
                    self.granted = oack.clone();
                }
            } else if from != peer {
                // RFC 1350 section 4: the first answer counts, and any other sender gets an ERROR.
                let error = Refusal::unknown_tid().packet().filter(|_| !matches!(packet, Packet::Error { .. }));
                if let Some(error) = error {
                    self.sockets.send_or_drop(&error.encode(), from);
                }
                continue;
            }
            return Poll::Ready(Ok(packet));
        }
    }
}

/// Tells the server that the client gives up a transfer in the middle. Otherwise the server would retransmit in vain.
impl Drop for Connection {
    fn drop(&mut self) {
        if self.answered && !self.over {
            let error = Packet::Error { code: ErrorCode::NOT_DEFINED, message: "given up".into() };
            self.sockets.send_or_drop(&error.encode(), self.peer);
        }
    }
}
