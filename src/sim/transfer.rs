//! The transfer of one file through a handler.

use std::{
    fmt,
    future::{IntoFuture, poll_fn},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    pin::Pin,
    sync::mpsc::{Receiver, channel},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::{Datagram, LinkConditions, Server, Time, Wire};
use crate::{
    Error, Handler, ServerBuilder,
    packet::{Packet, Request},
    stats::Record,
    transfer::{Event, Outcome, Step, Timing, Transfer, Want},
};

const CLIENT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7)), 2070);
/// The default latency of a packet, in each direction.
const LATENCY: Duration = Duration::from_micros(500);

/// Gets a file from a handler in virtual time: `sim::get(&handler, "pxelinux.0").loss(0.05).await`.
///
/// A whole server answers, over a network with the faults of the [`Simulation`]. The handler can be of any type that
/// can be cloned, such as those of [`read`](crate::read) and [`write`](fn@crate::write). Put other handlers into an
/// [`Arc`](std::sync::Arc).
///
/// ```
/// use tuffet::{read, sim};
///
/// # futures_lite::future::block_on(async {
/// let zeros = read(|_| vec![0; 100_000]);
/// let report = sim::get(&zeros, "zeros").option("blksize", "1468").loss(0.1).seed(3).await?;
/// assert_eq!((report.data.len(), report.record.blksize), (100_000, 1468));
/// assert!(report.lost > 0);
/// # Ok::<(), tuffet::Error>(())
/// # }).unwrap();
/// ```
pub fn get(handler: &(impl Handler + Clone), name: &str) -> Simulation {
    Simulation::new(handler.clone(), name, None).option("tsize", "0")
}

/// Puts a file through a handler in virtual time, like [`get`] in the other direction.
///
/// ```
/// use tuffet::{handlers::Memory, sim};
///
/// # futures_lite::future::block_on(async {
/// let store = Memory::new();
/// sim::put(&store, "switch.cfg", "hostname lab\n").duplicates(0.5).await?;
/// assert_eq!(store.get("switch.cfg").unwrap(), "hostname lab\n");
/// # Ok::<(), tuffet::Error>(())
/// # }).unwrap();
/// ```
pub fn put(handler: &(impl Handler + Clone), name: &str, data: impl Into<Bytes>) -> Simulation {
    let data = data.into();
    let size = data.len().to_string();
    Simulation::new(handler.clone(), name, Some(data)).option("tsize", &size)
}

/// A transfer that begins when it is awaited. Its future stays on its thread (`!Send`).
///
/// Virtual time stops while the handler waits for something real, such as a file or another thread. It passes while the
/// handler waits for a [`Time`]. So a handler that waits for nothing real takes the same steps each time, and a handler
/// that never answers keeps the simulation waiting for ever.
///
/// ```
/// use tuffet::{handlers::Memory, sim};
///
/// # futures_lite::future::block_on(async {
/// let files = Memory::new();
/// files.insert("linux", vec![1; 1 << 20])?;
/// let lossy = || sim::get(&files, "linux").option("blksize", "1468").option("windowsize", "16").loss(0.05).seed(1);
/// let (first, second) = (lossy().await?, lossy().await?);
/// assert_eq!((first.data.len(), first.elapsed), (1 << 20, second.elapsed), "the same seed, the same packets");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// ```
///
/// # Errors
/// As for a [client](crate::Error): [`Error::Peer`] with the ERROR of the server, [`Error::TimedOut`],
/// [`Error::Refused`] if client and server do not agree on the options.
#[must_use = "nothing happens before it is awaited"]
pub struct Simulation {
    builder: ServerBuilder,
    time: Time,
    request: Request,
    data: Option<Bytes>,
    conditions: LinkConditions,
    seed: u64,
}

/// The report on a successful transfer.
///
/// ```
/// use tuffet::{handlers::Memory, sim};
///
/// # futures_lite::future::block_on(async {
/// let files = Memory::new();
/// files.insert("menu", "default linux\n")?;
/// let report = sim::get(&files, "menu").await?;
/// assert_eq!(report.data, "default linux\n");
/// assert_eq!((report.lost, report.record.retransmits), (0, 0));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// The bytes that the client received; empty after an upload.
    pub data: Bytes,
    /// The server's record of the transfer.
    pub record: Record,
    /// The virtual time from the request until both sides had nothing left to do.
    pub elapsed: Duration,
    /// How many packets both sides have sent.
    pub sent: usize,
    /// How many of them were lost.
    pub lost: usize,
}

impl Simulation {
    fn new(handler: impl Handler, name: &str, data: Option<Bytes>) -> Self {
        let request = Request::new(name);
        Self {
            builder: ServerBuilder::default().handler(handler),
            time: Time::new(),
            request,
            data,
            conditions: LinkConditions::lossless(LATENCY),
            seed: 0,
        }
    }

    /// The probability that a packet is lost. Defaults to 0.
    ///
    /// ```
    #[doc = include_str!("transfer_example.md")]
    /// let report = tuffet::sim::get(&files, "linux").loss(0.1).await?;
    /// assert!(report.lost > 0 && report.data.len() == 100_000);
    /// # Ok::<(), tuffet::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn loss(mut self, probability: f64) -> Self {
        self.conditions.loss = probability;
        self
    }

    /// The probability that a packet arrives twice. Defaults to 0.
    ///
    /// ```
    #[doc = include_str!("transfer_example.md")]
    /// let report = tuffet::sim::get(&files, "linux").duplicates(0.5).await?;
    /// assert_eq!((report.data.len(), report.lost), (100_000, 0));
    /// # Ok::<(), tuffet::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn duplicates(mut self, probability: f64) -> Self {
        self.conditions.duplicate = probability;
        self
    }

    /// The probability that later packets overtake a packet. Defaults to 0.
    ///
    /// ```
    #[doc = include_str!("transfer_example.md")]
    /// let report = tuffet::sim::get(&files, "linux").option("windowsize", "16").reordering(0.2).await?;
    /// assert_eq!((report.data.len(), report.lost), (100_000, 0));
    /// # Ok::<(), tuffet::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn reordering(mut self, probability: f64) -> Self {
        self.conditions.reorder = probability;
        self
    }

    /// The latency of each packet: half a round trip. Defaults to 0.5 ms.
    ///
    /// ```
    #[doc = include_str!("transfer_example.md")]
    /// let report = tuffet::sim::get(&files, "linux").latency(std::time::Duration::from_millis(50)).await?;
    /// assert!(report.elapsed.as_secs() >= 19, "196 blocks, with an ACK for each");
    /// # Ok::<(), tuffet::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn latency(mut self, latency: Duration) -> Self {
        self.conditions.latency = latency;
        self
    }

    /// The seed of all faults. Defaults to 0. The same seed gives the same faults.
    ///
    /// ```
    #[doc = include_str!("transfer_example.md")]
    /// let report = tuffet::sim::get(&files, "linux").loss(0.1).seed(3).await?;
    /// let again = tuffet::sim::get(&files, "linux").loss(0.1).seed(3).await?;
    /// assert_eq!((report.sent, report.lost), (again.sent, again.lost));
    /// # Ok::<(), tuffet::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Asks for an option besides tsize, as `.option("blksize", "1468")`. Defaults to none: blocks of 512 bytes, each
    /// with its ACK (RFC 1350).
    ///
    /// ```
    #[doc = include_str!("transfer_example.md")]
    /// let report = tuffet::sim::get(&files, "linux").option("blksize", "1468").await?;
    /// assert_eq!(report.record.blksize, 1468);
    /// # Ok::<(), tuffet::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn option(mut self, name: &str, value: &str) -> Self {
        self.request.options.push(name, value);
        self
    }

    /// The clock of the simulation, if the handler sleeps by it.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tuffet::{read, sim};
    ///
    /// # futures_lite::future::block_on(async {
    /// let time = sim::Time::new();
    /// let clock = time.clone();
    /// let slow = read(async move |_| {
    ///     clock.sleep(Duration::from_secs(2)).await;
    ///     "late\n"
    /// });
    /// assert!(sim::get(&slow, "x").time(time).await?.elapsed.as_secs() >= 2);
    /// # Ok::<(), tuffet::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn time(mut self, time: Time) -> Self {
        self.time = time;
        self
    }

    /// Changes settings of the server, as `.server(|builder| builder.single_port(true))`.
    ///
    /// ```
    #[doc = include_str!("transfer_example.md")]
    /// let report = tuffet::sim::get(&files, "linux").option("blksize", "1468").server(|server| server.blksize(1024));
    /// let report = report.await?;
    /// assert_eq!(report.record.blksize, 1024);
    /// # Ok::<(), tuffet::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn server(mut self, set: impl FnOnce(ServerBuilder) -> ServerBuilder) -> Self {
        self.builder = set(self.builder);
        self
    }
}

impl IntoFuture for Simulation {
    type Output = Result<Report, Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output>>>;

    fn into_future(self) -> Self::IntoFuture {
        let mut network = Network::new(self);
        Box::pin(poll_fn(move |cx| network.poll(cx)))
    }
}

impl fmt::Debug for Simulation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { request, conditions, seed, .. } = self;
        f.debug_struct("Simulation")
            .field("request", request)
            .field("conditions", conditions)
            .field("seed", seed)
            .finish_non_exhaustive()
    }
}

/// A server, a client, and the network between them.
struct Network {
    server: Server,
    records: Receiver<Record>,
    client: Client,
    up: Wire<Datagram>,
    down: Wire<Datagram>,
    begin: Instant,
}

impl Network {
    fn new(simulation: Simulation) -> Self {
        let Simulation { builder, time, request, data, conditions, seed } = simulation;
        let (sender, records) = channel();
        let builder = builder.on_end(move |record| drop(sender.send(record.clone())));
        let server = Server::at(builder, seed, time);
        let (timing, begin) = (Timing::default(), server.now());
        let transfer = match data {
            None => Transfer::get(request, timing),
            Some(_) => Transfer::put(request, timing),
        };
        let mut client = Client {
            transfer,
            data,
            received: Vec::new(),
            server: server.addr(),
            tid: None,
            deadline: begin,
            outcome: None,
            outbox: Vec::new(),
        };
        client.resume(begin, Event::Continue);
        let [up, down] = [seed.wrapping_mul(2), seed.wrapping_mul(2) + 1].map(|seed| Wire::new(conditions, seed));
        Self { server, records, client, up, down, begin }
    }

    fn poll(&mut self, cx: &Context<'_>) -> Poll<Result<Report, Error>> {
        self.server.register(cx.waker());
        loop {
            let now = self.server.now();
            // Other threads may have woken a handler.
            self.server.pass(now);
            for datagram in self.server.sent() {
                self.down.send(now, datagram);
            }
            for datagram in self.client.outbox.drain(..) {
                self.up.send(now, datagram);
            }
            if self.server.waits_for_others() {
                return Poll::Pending;
            }
            let (up, down, client) = (self.up.next_at(), self.down.next_at(), self.client.wake_at());
            let Some(at) = [up, down, client, self.server.wake_at()].into_iter().flatten().min() else {
                return Poll::Ready(self.report());
            };
            if up == Some(at) {
                let datagram = self.up.receive();
                datagram
                    .into_iter()
                    .for_each(|Datagram { from, to, bytes }| self.server.deliver_at(at, from, to, &bytes));
                continue;
            }
            self.server.pass(at);
            if down == Some(at) {
                self.down.receive().into_iter().for_each(|datagram| self.client.receive(at, &datagram));
            } else if client == Some(at) {
                self.client.resume(at, Event::Timeout);
            }
        }
    }

    fn report(&mut self) -> Result<Report, Error> {
        let outcome = self.client.outcome.take().unwrap_or(Outcome::TimedOut);
        outcome.result()?;
        // A late copy of the request has a record of its own, later.
        let record = self.records.try_recv().map_err(|_| Error::TimedOut)?;
        Ok(Report {
            data: std::mem::take(&mut self.client.received).into(),
            record,
            elapsed: self.server.now() - self.begin,
            sent: self.up.sent + self.down.sent,
            lost: self.up.lost + self.down.lost,
        })
    }
}

/// A client of this crate, with a file in memory. It keeps the [contract](crate::transfer#the-drivers-contract) for
/// drivers of transfers.
struct Client {
    transfer: Transfer,
    /// The file to send.
    data: Option<Bytes>,
    received: Vec<u8>,
    server: SocketAddr,
    /// The server's port, once it has answered.
    tid: Option<SocketAddr>,
    deadline: Instant,
    outcome: Option<Outcome>,
    outbox: Vec<Datagram>,
}

impl Client {
    fn wake_at(&self) -> Option<Instant> {
        self.outcome.is_none().then_some(self.deadline)
    }

    fn receive(&mut self, now: Instant, datagram: &Datagram) {
        // RFC 1350 section 4: the first answer sets the TID.
        if self.outcome.is_some() || *self.tid.get_or_insert(datagram.from) != datagram.from {
            return;
        }
        if let Ok(packet) = Packet::decode(&datagram.bytes) {
            self.resume(now, Event::Packet(packet));
        }
    }

    /// Takes steps until the transfer waits for a packet or has ended.
    fn resume(&mut self, now: Instant, mut event: Event) {
        loop {
            event = match self.transfer.resume(now, event) {
                Step::Send(packet) => {
                    let to = self.tid.unwrap_or(self.server);
                    self.outbox.push(Datagram { from: CLIENT, to, bytes: packet.encode() });
                    Event::Continue
                }
                Step::Push(chunk) => {
                    self.received.extend_from_slice(&chunk);
                    Event::Continue
                }
                Step::Wait(Want::Packet, deadline) => {
                    self.deadline = deadline;
                    return;
                }
                Step::Wait(Want::Chunk, _) => self.data.take().map_or(Event::End, Event::Chunk),
                Step::Wait(Want::Room | Want::Commit, _) => Event::Ready,
                Step::Done(outcome) => {
                    self.outcome = Some(outcome);
                    return;
                }
            };
        }
    }
}
