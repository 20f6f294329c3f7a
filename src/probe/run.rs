//! Runs a [`BootClient`] against a server.

use std::{
    io,
    net::SocketAddr,
    time::{Duration, Instant},
};

use super::{BootClient, Ending, Faults, Habits, Judge, Warning, Way};
use crate::{
    client::{Sockets, is_refusal},
    error::ErrorCode,
    packet::{Options, Packet},
    within::within,
};

/// The largest UDP payload.
const LARGEST: usize = 65536;
/// If a client is silent for this long, the server may send copies.
const SILENCE: Duration = Duration::from_secs(1);
/// How many further copies a server may send in such a silence.
const IN_SILENCE: u64 = 4;

/// Fetches one file from one server as a boot client does.
///
/// ```
/// use std::time::Duration;
/// use tuffet::{Server, probe::{Fault, Faults, Probe, Way, habits}, read};
///
/// let server = Server::builder().listen("127.0.0.1:0").handler(read(|_| vec![0; 2000])).bind()?.spawn()?;
/// let report = Probe::new(server.addrs()[0], "zeros", habits::PHONE)
///     .faults(Faults::new().with(Way::Received, 2, Fault::Duplicate))
///     .limit(Duration::from_secs(30))
///     .linger(Duration::ZERO)
///     .run(|happened| println!("{:?} {:?}", happened.at, happened.packet))?;
/// assert!(report.ending.is_success() && report.bytes == 2000);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "nothing is sent before `run`"]
pub struct Probe {
    server: SocketAddr,
    name: Vec<u8>,
    habits: Habits,
    faults: Faults,
    limit: Duration,
    linger: Duration,
}

/// The result of a probe.
///
/// ```
/// use std::time::Duration;
/// use tuffet::{Server, probe::{Fault, Faults, Probe, Way, habits}, read};
///
/// let server = Server::builder().listen("127.0.0.1:0").handler(read(|_| "hello\n")).bind()?.spawn()?;
/// let probe = Probe::new(server.addrs()[0], "motd", habits::PHONE).linger(Duration::ZERO);
/// let report = probe.run(|_| ())?;
/// assert_eq!((report.bytes, report.datagrams), (6, (2, 1)), "RRQ and ACK, DATA");
/// assert!(report.warnings.is_empty());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Report {
    /// How the transfer ended for the client.
    pub ending: Ending,
    /// The bytes of the file that arrived.
    pub bytes: u64,
    /// The time from the request to the end.
    pub took: Duration,
    /// How much of that the client paused, by its habits.
    pub paused: Duration,
    /// The time from the request to the server's first packet.
    pub first_answer: Option<Duration>,
    /// The time from the request to the first block.
    pub first_data: Option<Duration>,
    /// The numbers of datagrams sent and received.
    pub datagrams: (u64, u64),
    /// How many packets the client repeated.
    pub repeats: u64,
    /// The blocks that the client had already, or could not take yet.
    pub copies: u64,
    /// The packets that the server sent after the end.
    pub late: u64,
    /// The options in the OACK.
    pub granted: Options,
    /// The server's faults.
    pub warnings: Vec<Warning>,
}

/// A packet, and its time, as [`Probe::run`] reports them.
///
/// ```
#[doc = include_str!("run_example.md")]
/// let mut received = Vec::new();
/// probe.run(|happened| {
///     if happened.way == Way::Received {
///         received.push(happened.packet.clone());
///     }
/// })?;
/// assert_eq!(received, [tuffet::packet::Packet::Data { block: 1, payload: "hello\n".into() }]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Happened<'a> {
    /// The time since the request.
    pub at: Duration,
    /// The direction of the packet.
    pub way: Way,
    /// The server's address, from or to which it goes.
    pub peer: SocketAddr,
    /// The packet.
    pub packet: &'a Packet,
    /// The delay of each copy that arrives. Empty if the packet was lost on purpose.
    pub copies: &'a [Duration],
}

impl Probe {
    /// A probe of this server with this file, with these habits.
    ///
    /// ```
    #[doc = include_str!("run_example.md")]
    /// let probe = Probe::new(server.addrs()[0], "motd", habits::BUSYBOX).linger(Duration::ZERO);
    /// assert!(probe.run(|_| ())?.ending.is_success());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn new(server: SocketAddr, name: &(impl AsRef<[u8]> + ?Sized), habits: Habits) -> Self {
        let (limit, linger) = (Duration::from_secs(60), Duration::from_secs(1));
        Self { server, name: name.as_ref().into(), habits, faults: Faults::new(), limit, linger }
    }

    /// The faults of the network; for a client that requests twice, in the second transfer. Defaults to none.
    ///
    /// ```
    #[doc = include_str!("run_example.md")]
    /// let report = probe.faults(Faults::new().with(Way::Received, 1, Fault::Duplicate)).run(|_| ())?;
    /// assert_eq!((report.bytes, report.late), (6, 1), "the copy came after the end");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn faults(mut self, faults: Faults) -> Self {
        self.faults = faults;
        self
    }

    /// The time limit, without the client's own pauses ([`Habits::pause`](super::Habits::pause)). Defaults to 60 s.
    ///
    /// ```
    /// use std::{net::UdpSocket, time::Duration};
    /// use tuffet::probe::{Ending, Probe, habits};
    ///
    /// let silent = UdpSocket::bind("127.0.0.1:0")?;
    /// let probe = Probe::new(silent.local_addr()?, "motd", habits::PHONE).limit(Duration::from_millis(10));
    /// assert_eq!(probe.linger(Duration::ZERO).run(|_| ())?.ending, Ending::GaveUp);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// How long the probe listens after the end for further packets of the server. Defaults to 1 s.
    ///
    /// ```
    #[doc = include_str!("run_example.md")]
    /// let report = probe.linger(Duration::from_millis(10)).run(|_| ())?;
    /// assert!(report.took < Duration::from_secs(60));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn linger(mut self, linger: Duration) -> Self {
        self.linger = linger;
        self
    }

    /// Fetches the file, and reports each packet to `observer`. Blocks this thread.
    ///
    /// ```
    #[doc = include_str!("run_example.md")]
    /// let mut packets = 0;
    /// probe.run(|_| packets += 1)?;
    /// assert_eq!(packets, 3, "RRQ, DATA, ACK");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// The errors of the socket. The kind is [`io::ErrorKind::ConnectionRefused`] if the server's machine says that the
    /// port is closed.
    pub fn run(&self, observer: impl FnMut(&Happened)) -> io::Result<Report> {
        self.fetch(BootClient::new(self.habits, &self.name), self.faults.clone(), observer)
    }

    /// Asks for the size first, if the client does that.
    ///
    /// ```
    #[doc = include_str!("run_example.md")]
    /// assert_eq!(probe.run_size(|_| ())?, None, "a phone does not ask for it");
    /// let grub = Probe::new(server.addrs()[0], "motd", habits::EDK2).linger(Duration::ZERO);
    /// assert!(grub.run_size(|_| ())?.unwrap().ending.is_success());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn run_size(&self, observer: impl FnMut(&Happened)) -> io::Result<Option<Report>> {
        let client = BootClient::asking_size(self.habits, &self.name);
        client.map(|client| self.fetch(client, Faults::new(), observer)).transpose()
    }

    fn fetch(&self, client: BootClient, faults: Faults, observer: impl FnMut(&Happened)) -> io::Result<Report> {
        let sockets = Sockets::new(self.server)?;
        let start = Instant::now();
        let (judge, report) = (Judge::default(), Report::new());
        let connection = Connection {
            sockets,
            server: self.server,
            peer: None,
            start,
            client,
            faults,
            delayed: Vec::new(),
            judge,
            excuses: 0,
            spoke: start,
            report,
            observer,
        };
        connection.run(self.limit, self.linger)
    }
}

impl Report {
    fn new() -> Self {
        Self {
            ending: Ending::GaveUp,
            bytes: 0,
            took: Duration::ZERO,
            paused: Duration::ZERO,
            first_answer: None,
            first_data: None,
            datagrams: (0, 0),
            repeats: 0,
            copies: 0,
            late: 0,
            granted: Options::new(),
            warnings: Vec::new(),
        }
    }
}

/// A running client.
struct Connection<F> {
    sockets: Sockets,
    server: SocketAddr,
    /// The server's TID, once it has answered.
    peer: Option<SocketAddr>,
    start: Instant,
    client: BootClient,
    faults: Faults,
    /// The delayed packets.
    delayed: Vec<(Instant, Way, Packet)>,
    judge: Judge,
    excuses: u64,
    /// When the client last sent a packet.
    spoke: Instant,
    report: Report,
    observer: F,
}

impl<F: FnMut(&Happened)> Connection<F> {
    fn run(mut self, limit: Duration, linger: Duration) -> io::Result<Report> {
        let packets = self.client.start(self.start);
        self.send(packets)?;
        let mut over_at = None;
        loop {
            let now = Instant::now();
            self.arrive(now)?;
            // A limit beyond the range of the clock is no limit.
            let limit = self.start.checked_add(limit.saturating_add(self.client.paused()));
            if over_at.is_none() && (self.client.ending().is_some() || limit.is_some_and(|limit| now >= limit)) {
                over_at = Some(now);
                self.report.took = now - self.start;
            }
            let wake_at = self.client.wake_at().filter(|_| over_at.is_none());
            if wake_at.is_some_and(|at| at <= now) {
                self.excuses += 1;
                let packets = self.client.wake(now);
                self.send(packets)?;
                continue;
            }
            let end = over_at.map_or(limit, |at| at.checked_add(linger));
            if over_at.is_some() && end.is_some_and(|end| now >= end) {
                return Ok(self.report());
            }
            let next = self.delayed.iter().map(|(at, ..)| *at).chain(wake_at).chain(end).min();
            self.receive(next.map_or(SILENCE, |next| next.saturating_duration_since(now)))?;
        }
    }

    fn send(&mut self, packets: Vec<Packet>) -> io::Result<()> {
        for packet in packets {
            if self.spoke.elapsed() >= SILENCE {
                self.excuses += IN_SILENCE;
            }
            self.spoke = Instant::now();
            self.judge.sent(&packet);
            let copies = self.pass(Way::Sent, self.to(&packet), &packet);
            for delay in copies {
                self.carry(delay, Way::Sent, &packet)?;
            }
        }
        Ok(())
    }

    fn to(&self, packet: &Packet) -> SocketAddr {
        self.peer.filter(|_| !matches!(packet, Packet::Rrq(_))).unwrap_or(self.server)
    }

    /// Passes a packet over the faulty network.
    fn pass(&mut self, way: Way, peer: SocketAddr, packet: &Packet) -> Vec<Duration> {
        let copies = self.faults.pass(way, packet);
        self.excuses += u64::from(copies != [Duration::ZERO]);
        let at = self.start.elapsed();
        (self.observer)(&Happened { at, way, peer, packet, copies: &copies });
        copies
    }

    fn carry(&mut self, delay: Duration, way: Way, packet: &Packet) -> io::Result<()> {
        if delay > Duration::ZERO {
            self.delayed.push((Instant::now() + delay, way, packet.clone()));
            return Ok(());
        }
        match way {
            Way::Sent => {
                self.report.datagrams.0 += 1;
                let sent = smol::block_on(self.sockets.send_to(&packet.encode(), self.to(packet)));
                // The next receive reports a closed port.
                sent.or_else(|error| if is_refusal(&error) { Ok(()) } else { Err(error) })
            }
            Way::Received => {
                self.judge.received(packet);
                if let Packet::Oack(oack) = packet {
                    self.report.granted = oack.clone();
                }
                if matches!(packet, Packet::Data { .. }) {
                    self.report.first_data.get_or_insert(self.start.elapsed());
                }
                let packets = self.client.receive(Instant::now(), packet.clone());
                self.client.take_blocks();
                self.send(packets)
            }
        }
    }

    /// Delivers the packets that were delayed until now.
    fn arrive(&mut self, now: Instant) -> io::Result<()> {
        while let Some(i) = self.delayed.iter().position(|(at, ..)| *at <= now) {
            let (_, way, packet) = self.delayed.remove(i);
            self.carry(Duration::ZERO, way, &packet)?;
        }
        Ok(())
    }

    fn receive(&mut self, limit: Duration) -> io::Result<()> {
        let mut buffer = [0; LARGEST];
        let (len, from) = match smol::block_on(within(limit, self.sockets.receive(&mut buffer))) {
            None => return Ok(()),
            Some(Ok(received)) => received,
            // Once the server has answered, its TID may be closed while its last packets are on the way.
            Some(Err(error)) if is_refusal(&error) && self.peer.is_some() => return Ok(()),
            Some(Err(error)) => return Err(error),
        };
        if from.ip() != self.server.ip() {
            if self.peer.is_none() {
                self.judge.warn(Warning::OtherAddress(from.ip()));
            }
            return Ok(());
        }
        self.report.datagrams.1 += 1;
        let Ok(packet) = Packet::decode(&buffer[..len]) else {
            self.judge.warn(Warning::Malformed);
            return Ok(());
        };
        // A late packet for an earlier user of this port is no answer.
        let answers = matches!(packet, Packet::Oack(_) | Packet::Data { block: 1, .. } | Packet::Error { .. });
        if self.peer.is_none() && !answers {
            return Ok(());
        }
        if self.peer.is_some_and(|peer| peer != from) {
            // RFC 1350 section 4. A repeated request may have begun another transfer.
            if !matches!(packet, Packet::Error { .. }) {
                let error = Packet::Error { code: ErrorCode::UNKNOWN_TID, message: "Unknown transfer ID".into() };
                self.sockets.send_or_drop(&error.encode(), from);
            }
            return Ok(());
        }
        let copies = self.pass(Way::Received, from, &packet);
        // A client does not know the sender of a lost packet.
        if !copies.is_empty() {
            self.peer = Some(from);
            self.report.first_answer.get_or_insert(self.start.elapsed());
        }
        for delay in copies {
            self.carry(delay, Way::Received, &packet)?;
        }
        Ok(())
    }

    fn report(self) -> Report {
        let Self { mut report, judge, client, excuses, .. } = self;
        report.ending = client.ending().cloned().unwrap_or(Ending::GaveUp);
        report.bytes = client.bytes();
        report.paused = client.paused();
        (report.repeats, report.copies, report.late) = (judge.repeats, judge.copies, judge.late());
        report.warnings = judge.warnings(excuses);
        report
    }
}
