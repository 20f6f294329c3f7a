//! A server, and a script that plays its client: it sends a packet and reads the answers.
//!
//! Packets are words here, as in `DATA 3`, `ACK 3`, `OACK blksize=1432 tsize=5000`, `ERROR 8`.

use std::time::{Duration, Instant};

use tuffet::{
    ErrorCode,
    options::Limits,
    packet::{Mode, Options, Packet, Request},
    stats::Record,
    transfer::{Outcome, Timing},
};

use super::{Cue, Peer, Server, Source, options};

pub struct Script {
    server: Server,
    now: Instant,
    request: Packet,
    /// The payload of all DATA of the server, as it came.
    pub received: Vec<Vec<u8>>,
}

impl Script {
    /// An RRQ in octet mode for a file of this size.
    pub fn read(options: &str, size: usize) -> Self {
        Self::read_bytes(options, Mode::Octet, &vec![7; size])
    }

    pub fn read_bytes(options: &str, mode: Mode, bytes: &[u8]) -> Self {
        Self::new(Packet::Rrq, options, mode, Source::of(bytes), Some(bytes.len() as u64))
    }

    pub fn read_source(options: &str, source: Source) -> Self {
        Self::new(Packet::Rrq, options, Mode::Octet, source, None)
    }

    pub fn write(options: &str, mode: Mode) -> Self {
        Self::new(Packet::Wrq, options, mode, Source::default(), None)
    }

    fn new(kind: fn(Box<Request>) -> Packet, text: &str, mode: Mode, source: Source, size: Option<u64>) -> Self {
        let request = kind(Request { filename: b"file".to_vec(), mode, options: options(text) }.into());
        let server = Server::new(source, size, Timing::default());
        Self { server, now: Instant::now(), request, received: Vec::new() }
    }

    pub fn with_limits(self, limits: Limits) -> Self {
        Self { server: self.server.with_limits(limits), ..self }
    }

    /// Sends the request, for the first time or again.
    pub fn ask(&mut self) -> Vec<String> {
        self.send(self.request.clone())
    }

    /// Sends this packet. Returns the packets that the server sends at once.
    pub fn say(&mut self, words: &str) -> Vec<String> {
        self.send(packet(words))
    }

    pub fn say_data(&mut self, block: u16, payload: &[u8]) -> Vec<String> {
        self.send(Packet::Data { block, payload: payload.to_vec().into() })
    }

    fn send(&mut self, packet: Packet) -> Vec<String> {
        let packets = self.server.act(self.now, Cue::Packet(packet));
        self.words(packets)
    }

    /// The packets that the server sends while no client sends any.
    pub fn pass(&mut self, time: Duration) -> Vec<String> {
        let until = self.now + time;
        let mut words = Vec::new();
        while let Some(at) = self.server.wake_at().filter(|at| *at <= until) {
            self.now = self.now.max(at);
            let packets = self.server.act(self.now, Cue::Wake);
            words.extend(self.words(packets));
        }
        self.now = until;
        words
    }

    /// The transfer has ended; the same client asks for another file of this size.
    pub fn begin_anew(&mut self, size: usize) {
        self.server.begin_anew(Source::of(&vec![7; size]), Some(size as u64));
    }

    pub fn outcome(&self) -> Option<&Outcome> {
        self.server.outcome()
    }

    pub fn record(&self) -> &Record {
        self.server.record().expect("the transfer has ended")
    }

    /// The bytes of the upload.
    pub fn stored(&self) -> Vec<u8> {
        self.server.stored()
    }

    fn words(&mut self, packets: Vec<Packet>) -> Vec<String> {
        let mut words = Vec::new();
        for packet in packets {
            words.push(match &packet {
                Packet::Data { block, .. } => format!("DATA {block}"),
                Packet::Ack(block) => format!("ACK {block}"),
                Packet::Error { code, .. } => format!("ERROR {code}"),
                Packet::Oack(options) => format!("OACK {options}"),
                request => unreachable!("a server never sends {request:?}"),
            });
            if let Packet::Data { payload, .. } = packet {
                self.received.push(payload.to_vec());
            }
        }
        words
    }
}

fn packet(words: &str) -> Packet {
    let number = |text: &str| text.parse().expect("a number");
    match words.split_once(' ') {
        Some(("ACK", block)) => Packet::Ack(number(block)),
        Some(("ERROR", code)) => Packet::Error { code: ErrorCode(number(code)), message: "words of the client".into() },
        _ => panic!("no packet: {words}"),
    }
}

/// `blocks(1..=4)`: `DATA 1` to `DATA 4`.
pub fn blocks(numbers: impl IntoIterator<Item = u64>) -> Vec<String> {
    numbers.into_iter().map(|number| format!("DATA {}", number as u16)).collect()
}

/// The options of a request as they stand on the wire, however odd.
pub fn decoded_options(tail: &[u8]) -> Options {
    match Packet::decode(&[b"\0\x01file\0octet\0", tail].concat()) {
        Ok(Packet::Rrq(request)) => request.options,
        other => panic!("{other:?}"),
    }
}
