//! What the server does around a transfer, as far as a single peer can see it: it begins at the request, knows a
//! repeated request, and repeats its last ACK after the end.

use std::time::{Duration, Instant};

use tuffet::{
    Refusal,
    options::{self, Direction, Limits},
    packet::{Packet, Request},
    transfer::{Event, Outcome, Timing, Transfer},
};

use super::{End, Peer, Source};

pub struct Server {
    limits: Limits,
    timing: Timing,
    source: Option<Source>,
    size: Option<u64>,
    /// How long the sink takes to be ready.
    pub sink_busy: Duration,
    /// After how many times that it was ready it fails, and how.
    pub sink_fails: Option<(usize, Refusal)>,
    request: Option<Packet>,
    /// Whether the client has said anything but its request.
    answered: bool,
    /// Repeats of the last ACK after the end.
    pub lingered: u64,
    last: Option<Packet>,
    pub end: Option<End>,
}

impl Server {
    /// `size` is what `tsize` can tell.
    pub fn new(source: Source, size: Option<u64>, timing: Timing) -> Self {
        Self {
            limits: Limits::default(),
            timing,
            source: Some(source),
            size,
            sink_busy: Duration::ZERO,
            sink_fails: None,
            request: None,
            answered: false,
            lingered: 0,
            last: None,
            end: None,
        }
    }

    pub fn with_limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    pub fn with_timing(self, timing: Timing) -> Self {
        Self { timing, ..self }
    }

    /// The server's end of the transfer.
    ///
    /// # Panics
    /// If no request has arrived.
    pub fn end(&self) -> &End {
        self.end.as_ref().expect("no request has arrived")
    }

    pub fn outcome(&self) -> Option<&Outcome> {
        self.end.as_ref()?.outcome.as_ref()
    }

    fn begin(&mut self, now: Instant, direction: Direction, request: &Request) -> Vec<Packet> {
        let (agreed, oack) = options::answer(&request.options, direction, request.mode, &self.limits, self.size);
        let transfer = match direction {
            Direction::Read => Transfer::send(oack, agreed, self.timing),
            Direction::Write => Transfer::receive(oack, agreed, self.timing),
        };
        let source = self.source.take().expect("one transfer for each server");
        let end = self.end.insert(End::new(transfer, source));
        end.sink_busy = self.sink_busy;
        end.sink_fails = self.sink_fails.take();
        end.start(now)
    }

    fn request(&mut self, now: Instant, packet: Packet) -> Vec<Packet> {
        if let Some(first) = &self.request {
            // A request after the first answer opens another session: that is the table's business.
            let same = *first == packet && !self.answered;
            return match &mut self.end {
                Some(end) if same && !end.is_over() => end.resume(now, Event::Repeat),
                _ => Vec::new(),
            };
        }
        let packets = match &packet {
            Packet::Rrq(request) => self.begin(now, Direction::Read, request),
            Packet::Wrq(request) => self.begin(now, Direction::Write, request),
            _ => unreachable!("only requests come here"),
        };
        self.request = Some(packet);
        packets
    }

    fn linger(&mut self, packet: &Packet) -> Vec<Packet> {
        if self.outcome() != Some(&Outcome::Complete) {
            return Vec::new();
        }
        match (packet, &self.last) {
            (Packet::Data { block, .. }, Some(Packet::Ack(last))) if block == last => {
                self.lingered += 1;
                vec![Packet::Ack(*last)]
            }
            _ => Vec::new(),
        }
    }
}

impl Peer for Server {
    fn start(&mut self, _: Instant) -> Vec<Packet> {
        Vec::new()
    }

    fn hear(&mut self, now: Instant, packet: Packet) -> Vec<Packet> {
        if matches!(packet, Packet::Rrq(_) | Packet::Wrq(_)) {
            return self.request(now, packet);
        }
        self.answered = true;
        let Some(end) = &mut self.end else { return Vec::new() };
        if end.is_over() {
            return self.linger(&packet);
        }
        let packets = end.hear(now, packet);
        self.last = packets.last().cloned().or(self.last.take());
        packets
    }

    fn wake_at(&self) -> Option<Instant> {
        self.end.as_ref()?.wake_at()
    }

    fn wake(&mut self, now: Instant) -> Vec<Packet> {
        let Some(end) = &mut self.end else { return Vec::new() };
        let packets = end.wake(now);
        self.last = packets.last().cloned().or(self.last.take());
        packets
    }
}
