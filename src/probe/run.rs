//! Runs a [`BootClient`] against a server.

use std::{
    io::{self, ErrorKind},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    time::{Duration, Instant},
};

use super::{BootClient, Ending, Faults, Habits, Judge, Warning, Way};
use crate::{
    error::ErrorCode,
    packet::{Options, Packet},
};

/// The largest UDP payload.
const LARGEST: usize = 65536;
/// A client that is silent for this long may be sent copies.
const SILENCE: Duration = Duration::from_secs(1);
/// Copies that a server may send in such a silence, besides.
const IN_SILENCE: u64 = 4;

/// One file of one server, fetched as a boot client does. See [the module](super).
#[derive(Clone, Debug)]
#[must_use = "nothing is sent before `run`"]
pub struct Probe {
    server: SocketAddr,
    name: String,
    habits: Habits,
    faults: Faults,
    limit: Duration,
    linger: Duration,
}

/// What came of it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Report {
    /// How it ended for the client.
    pub ending: Ending,
    /// Bytes of the file that came.
    pub bytes: u64,
    /// From the request to the end.
    pub took: Duration,
    /// How much of that the client did not listen, by its habit.
    pub paused: Duration,
    /// From the request to the first packet of the server.
    pub first_answer: Option<Duration>,
    /// From the request to the first block.
    pub first_data: Option<Duration>,
    /// Datagrams sent, and those received.
    pub datagrams: (u64, u64),
    /// Times that the client repeated itself.
    pub repeats: u64,
    /// Blocks that came though the client had them, or could not take them yet.
    pub copies: u64,
    /// What the server still sent when all was over.
    pub late: u64,
    /// What stood in the OACK.
    pub granted: Options,
    /// What was odd.
    pub warnings: Vec<Warning>,
}

/// A packet that came by, and when: since the request.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Happened<'a> {
    /// Since the request.
    pub at: Duration,
    /// Which way.
    pub way: Way,
    /// Where it went, or came from.
    pub peer: SocketAddr,
    /// What it is.
    pub packet: &'a Packet,
    /// After which times copies of it arrive. None if it was lost on purpose.
    pub copies: &'a [Duration],
}

impl Probe {
    /// Of this server and this file, by these habits.
    pub fn new(server: SocketAddr, name: &str, habits: Habits) -> Self {
        let (limit, linger) = (Duration::from_secs(60), Duration::from_secs(1));
        Self { server, name: name.into(), habits, faults: Faults::new(), limit, linger }
    }

    /// What goes wrong on the way; of a client that asks twice, in the second transfer. Defaults to nothing.
    pub fn faults(mut self, faults: Faults) -> Self {
        self.faults = faults;
        self
    }

    /// Longest time that it may take, without the pauses that the client makes by itself
    /// ([`Habits::pause`](super::Habits::pause)). Defaults to 60 s.
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// How long it listens when all is over, for what a server says to a client that is gone. Defaults to 1 s.
    pub fn linger(mut self, linger: Duration) -> Self {
        self.linger = linger;
        self
    }

    /// Fetches the file, and tells of each packet. Blocks this thread.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn run(&self, observer: impl FnMut(&Happened)) -> io::Result<Report> {
        self.fetch(BootClient::new(self.habits, &self.name), self.faults.clone(), observer)
    }

    /// Asks for the size first, if such a client does.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn run_size(&self, observer: impl FnMut(&Happened)) -> io::Result<Option<Report>> {
        let client = BootClient::asking_size(self.habits, &self.name);
        client.map(|client| self.fetch(client, Faults::new(), observer)).transpose()
    }

    fn fetch(&self, client: BootClient, faults: Faults, observer: impl FnMut(&Happened)) -> io::Result<Report> {
        let any: IpAddr =
            if self.server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let socket = UdpSocket::bind((any, 0))?;
        let start = Instant::now();
        let (judge, report) = (Judge::default(), Report::new());
        let line = Line {
            socket,
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
        line.run(self.limit, self.linger)
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

/// A client at work.
struct Line<F> {
    socket: UdpSocket,
    server: SocketAddr,
    /// The server's TID, once it has answered.
    peer: Option<SocketAddr>,
    start: Instant,
    client: BootClient,
    faults: Faults,
    /// What is on its way for longer.
    delayed: Vec<(Instant, Way, Packet)>,
    judge: Judge,
    excuses: u64,
    /// When the client last said something.
    spoke: Instant,
    report: Report,
    observer: F,
}

impl<F: FnMut(&Happened)> Line<F> {
    fn run(mut self, limit: Duration, linger: Duration) -> io::Result<Report> {
        let packets = self.client.start(self.start);
        self.send(packets)?;
        let mut over_at = None;
        loop {
            let now = Instant::now();
            self.arrive(now)?;
            // A limit that no clock reaches is none.
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

    /// The wire has this packet: what becomes of it.
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
                match self.socket.send_to(&packet.encode(), self.to(packet)) {
                    // It was told that nobody is there; that may change.
                    Err(error) if error.kind() == ErrorKind::ConnectionRefused => Ok(()),
                    other => other.map(drop),
                }
            }
            Way::Received => {
                self.judge.received(packet, self.client.is_next(packet));
                if let Packet::Oack(oack) = packet {
                    self.report.granted = oack.clone();
                }
                if matches!(packet, Packet::Data { .. }) {
                    self.report.first_data.get_or_insert(self.start.elapsed());
                }
                let packets = self.client.hear(Instant::now(), packet.clone());
                self.client.take_blocks();
                self.send(packets)
            }
        }
    }

    /// What was delayed until now.
    fn arrive(&mut self, now: Instant) -> io::Result<()> {
        while let Some(i) = self.delayed.iter().position(|(at, ..)| *at <= now) {
            let (_, way, packet) = self.delayed.remove(i);
            self.carry(Duration::ZERO, way, &packet)?;
        }
        Ok(())
    }

    fn receive(&mut self, within: Duration) -> io::Result<()> {
        self.socket.set_read_timeout(Some(within.max(Duration::from_millis(1))))?;
        let mut buffer = [0; LARGEST];
        let (len, from) = match self.socket.recv_from(&mut buffer) {
            Ok(received) => received,
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted => return Ok(()),
                ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset => return Ok(()),
                _ => return Err(error),
            },
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
        // A late packet for somebody who had this port before is no answer.
        let answers = matches!(packet, Packet::Oack(_) | Packet::Data { block: 1, .. } | Packet::Error { .. });
        if self.peer.is_none() && !answers {
            return Ok(());
        }
        if self.peer.is_some_and(|peer| peer != from) {
            // RFC 1350 section 4. A repeated request may have begun another transfer.
            if !matches!(packet, Packet::Error { .. }) {
                let error = Packet::Error { code: ErrorCode::UNKNOWN_TID, message: "Unknown transfer ID".into() };
                _ = self.socket.send_to(&error.encode(), from);
            }
            return Ok(());
        }
        let copies = self.pass(Way::Received, from, &packet);
        // A client knows nothing of who sent what was lost.
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
