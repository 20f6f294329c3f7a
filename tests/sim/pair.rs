//! A client and a server of this crate, and one file that goes from one to the other.

use std::time::Duration;

use tuffet::{
    netascii,
    options::{Agreed, Direction, Limits},
    packet::{Mode, Request},
    stats::Record,
    transfer::{Outcome, Timing, Transfer},
};

use super::{End, Fault, LinkConditions, Report, Server, Side, Source, Wire, ms, options, run, secs};

/// Everything that makes up one run.
#[derive(Clone, Debug)]
pub struct Setup {
    pub seed: u64,
    pub direction: Direction,
    pub mode: Mode,
    pub options: String,
    /// Size of the file, in bytes.
    pub size: usize,
    /// Largest chunk of the source; 0 for all at once.
    pub chunks: usize,
    /// Longest time until the next chunk is ready.
    pub source_delay: Duration,
    /// How long the sink takes after each window, and at the end.
    pub sink_busy: Duration,
    pub conditions: LinkConditions,
    /// The one packet of this side, counted from 0, that the wire treats specially.
    pub fault: Option<(Side, usize, Fault)>,
    pub patience: Duration,
    /// The largest windowsize that the server grants.
    pub limit: u16,
}

/// The result of a run.
pub struct Ran {
    pub setup: Setup,
    pub file: Vec<u8>,
    /// The file as it travels.
    pub travelled: usize,
    pub client: End,
    pub server: Server,
    pub up: Wire,
    pub down: Wire,
    pub report: Report,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            seed: 0,
            direction: Direction::Read,
            mode: Mode::Octet,
            options: String::new(),
            size: 3000,
            chunks: 0,
            source_delay: Duration::ZERO,
            sink_busy: Duration::ZERO,
            conditions: LinkConditions::lossless(ms(1)),
            fault: None,
            patience: secs(60),
            limit: 64,
        }
    }
}

impl Setup {
    pub fn run(self) -> Ran {
        let mut random = fastrand::Rng::with_seed(self.seed);
        let file = self.file(&mut random);
        let travelled = match self.mode {
            Mode::Octet => file.len(),
            Mode::Netascii => netascii::Encoder::default().encode(&file).len(),
        };
        let source = match self.chunks {
            0 => Source::of(&file),
            most => Source::cut(&file, most, self.source_delay, &mut random),
        };
        let timing = self.timing();
        let request = Request { filename: b"file".to_vec(), mode: self.mode, options: options(&self.options) };
        let (mut client, server) = match self.direction {
            Direction::Read => (
                End::new(Transfer::get(request, timing), Source::default()),
                Server::new(source, Some(file.len() as u64), timing),
            ),
            Direction::Write => {
                (End::new(Transfer::put(request, timing), source), Server::new(Source::default(), None, timing))
            }
        };
        let mut limits = Limits::default();
        limits.windowsize = self.limit;
        let mut server = server.with_limits(limits);
        client.sink_busy = self.sink_busy;
        server.file.sink_busy = self.sink_busy;
        let (mut up, mut down) = (self.wire(Side::Client), self.wire(Side::Server));
        let report = run(&mut client, &mut server, &mut up, &mut down, secs(3600));
        Ran { setup: self, file, travelled, client, server, up, down, report }
    }

    fn timing(&self) -> Timing {
        let mut timing = Timing::default();
        timing.patience = self.patience;
        timing
    }

    fn file(&self, random: &mut fastrand::Rng) -> Vec<u8> {
        (0..self.size)
            .map(|_| match self.mode {
                Mode::Octet => random.u8(..),
                Mode::Netascii => b"\r\n\0 abcdefgh"[random.usize(..12)],
            })
            .collect()
    }

    fn wire(&self, side: Side) -> Wire {
        let wire = Wire::new(self.conditions, self.seed.wrapping_mul(2) + u64::from(side == Side::Server));
        match self.fault {
            Some((by, index, fault)) if by == side => wire.with_fault(index, fault),
            _ => wire,
        }
    }
}

/// The facts that both kinds of ends report.
pub struct Told {
    pub outcome: Option<Outcome>,
    /// Of the file, as it travels.
    pub bytes: u64,
    pub sent: u64,
    pub acked: u64,
    pub retransmits: u64,
    pub agreed: Agreed,
}

impl Ran {
    fn client_told(&self) -> Told {
        let progress = self.client.transfer.progress();
        Told {
            outcome: self.client.outcome.clone(),
            bytes: progress.bytes,
            sent: progress.sent,
            acked: progress.acked,
            retransmits: progress.retransmits,
            agreed: progress.agreed,
        }
    }

    fn server_told(&self) -> Told {
        let agreed = self.server.agreed();
        match self.server.record() {
            Some(&Record { ref outcome, bytes, sent, acked, retransmits, .. }) => {
                Told { outcome: Some(outcome.clone()), bytes, sent, acked, retransmits, agreed }
            }
            None => Told { outcome: None, bytes: 0, sent: 0, acked: 0, retransmits: 0, agreed },
        }
    }

    pub fn sender(&self) -> Told {
        if self.setup.direction == Direction::Read { self.server_told() } else { self.client_told() }
    }

    pub fn receiver(&self) -> Told {
        if self.setup.direction == Direction::Read { self.client_told() } else { self.server_told() }
    }

    /// The received bytes.
    pub fn sink(&self) -> Vec<u8> {
        if self.setup.direction == Direction::Read { self.client.sink.clone() } else { self.server.stored() }
    }

    pub fn agreed(&self) -> Agreed {
        self.client.transfer.progress().agreed
    }

    /// DATA packets that the file takes, the empty last one included.
    pub fn blocks(&self) -> usize {
        self.travelled / usize::from(self.agreed().blksize()) + 1
    }

    /// Packets of both sides that the transfer takes if nothing goes wrong.
    pub fn necessary(&self) -> usize {
        let acks = self.blocks().div_ceil(self.agreed().windowsize().into());
        let has_oack = self.server_grants_something();
        let opening = match self.setup.direction {
            Direction::Read if has_oack => 3,
            Direction::Read => 1,
            Direction::Write => 2,
        };
        opening + self.blocks() + acks
    }

    pub fn sent(&self) -> usize {
        self.report.trace.len()
    }

    pub fn incidents(&self) -> usize {
        self.up.incidents() + self.down.incidents()
    }

    /// The file arrived, both sides know it or had to guess, and the counters agree with the wire.
    pub fn assert_arrived(&self) {
        assert_eq!(self.receiver().outcome, Some(Outcome::Complete));
        assert!(self.sink() == self.file, "the file changed on its way");
        let (sent, received) = (self.sender(), self.receiver());
        assert_eq!(
            (sent.agreed.blksize(), sent.agreed.windowsize(), sent.agreed.rollover(), sent.agreed.timeout()),
            (
                received.agreed.blksize(),
                received.agreed.windowsize(),
                received.agreed.rollover(),
                received.agreed.timeout()
            )
        );
        match &sent.outcome {
            Some(Outcome::Complete) => assert_eq!(sent.bytes, self.travelled as u64),
            // The last ACK was lost, and the client had left before it could repeat it.
            Some(Outcome::ProbablyComplete) if self.incidents() > 0 => assert!(sent.bytes <= self.travelled as u64),
            // As before, with the last ACK the only one.
            Some(Outcome::TimedOut) if self.incidents() > 0 && self.blocks() == 1 => assert_eq!(sent.bytes, 0),
            other => panic!("the sender ended with {other:?}"),
        }
        assert_eq!(received.bytes, self.travelled as u64);
        let oack = usize::from(self.setup.direction == Direction::Read && self.server_grants_something());
        assert_eq!(received.acked as usize, self.blocks() + oack);
        for end in [&sent, &received] {
            assert!(end.retransmits < end.sent);
        }
        assert_eq!(self.client.sent, self.client_told().sent);
        assert!(self.server.sent >= self.server_told().sent, "what comes after the end is not the transfer's");
        assert_eq!((self.client.sent + self.server.sent) as usize, self.sent());
    }

    fn server_grants_something(&self) -> bool {
        // An empty file is not announced.
        let nothing_left = self.setup.options == "tsize=0" && self.file.is_empty();
        !["", "msftwindow=31416"].contains(&&*self.setup.options) && !nothing_left
    }
}
