//! A client that reads one file, by its habits.

use std::{
    collections::VecDeque,
    fmt,
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::habits::{Habits, OnOtherData};
use crate::{
    error::ErrorCode,
    options::{self, DEFAULT_BLKSIZE},
    packet::{Mode, Options, Packet, Request},
};

/// How it ended for the client.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ending {
    /// It has the file.
    Complete,
    /// It asked for the size, has it, and left.
    SizeKnown,
    /// The server said no.
    Refused {
        /// The code that it sent.
        code: ErrorCode,
        /// The text that it sent.
        message: String,
    },
    /// It left, because such an OACK is not for it.
    Rejected(Options),
    /// It has waited long enough.
    GaveUp,
}

/// The model of a boot client: a machine that is fed packets and times, and says what it sends.
///
/// ```
/// use std::time::Instant;
/// use tuffet::{packet::Packet, probe::{BootClient, habits}};
///
/// let now = Instant::now();
/// let mut client = BootClient::new(habits::PHONE, "motd");
/// assert!(matches!(&client.start(now)[..], [Packet::Rrq(_)]));
/// let answer = client.hear(now, Packet::Data { block: 1, payload: "hello\n".into() });
/// assert_eq!(answer, [Packet::Ack(1)]);
/// assert!(client.ending().unwrap().is_success());
/// ```
pub struct BootClient {
    habits: Habits,
    asked: Options,
    leaves: Option<(ErrorCode, &'static str)>,
    blksize: usize,
    windowsize: u64,
    tsize: Option<u64>,
    bytes: u64,
    /// What nobody has asked for yet.
    blocks: Vec<Bytes>,
    received: u64,
    acked: u64,
    /// The last block in order when it last said that another one came.
    gap_told: Option<u64>,
    /// What is repeated when nothing comes.
    last: Packet,
    wake_at: Option<Instant>,
    /// What came in a pause.
    queue: Option<VecDeque<Packet>>,
    timeouts: usize,
    paused: Duration,
    first_answer_at: Option<Instant>,
    left_at: Option<Instant>,
    ending: Option<Ending>,
}

impl BootClient {
    /// A client that fetches this file.
    pub fn new(habits: Habits, name: &str) -> Self {
        Self::asking(habits, name, habits.options, None)
    }

    /// A client that asks for the size of this file and leaves, if it does so.
    pub fn asking_size(habits: Habits, name: &str) -> Option<Self> {
        let (options, code, message) = habits.asks_size?;
        Some(Self::asking(habits, name, options, Some((code, message))))
    }

    fn asking(habits: Habits, name: &str, options: &str, leaves: Option<(ErrorCode, &'static str)>) -> Self {
        let asked: Options = options.split_whitespace().filter_map(|pair| pair.split_once('=')).collect();
        let request = Request { filename: name.into(), mode: Mode::Octet, options: asked.clone() };
        Self {
            habits,
            asked,
            leaves,
            blksize: DEFAULT_BLKSIZE.into(),
            windowsize: 1,
            tsize: None,
            bytes: 0,
            blocks: Vec::new(),
            received: 0,
            acked: 0,
            gap_told: None,
            last: Packet::Rrq(request.into()),
            wake_at: None,
            queue: None,
            timeouts: 0,
            paused: Duration::ZERO,
            first_answer_at: None,
            left_at: None,
            ending: None,
        }
    }

    /// The request. To be called once.
    pub fn start(&mut self, now: Instant) -> Vec<Packet> {
        self.say(now, self.last.clone())
    }

    /// A packet has come: what it answers.
    pub fn hear(&mut self, now: Instant, packet: Packet) -> Vec<Packet> {
        self.first_answer_at.get_or_insert(now);
        match &mut self.queue {
            _ if self.ending.is_some() => Vec::new(),
            Some(queue) => {
                queue.push_back(packet);
                Vec::new()
            }
            None => self.take(now, packet),
        }
    }

    /// When it is to be woken if nothing comes.
    pub fn wake_at(&self) -> Option<Instant> {
        self.wake_at
    }

    /// Nothing came: what it says to that.
    pub fn wake(&mut self, now: Instant) -> Vec<Packet> {
        if let Some(queue) = self.queue.take() {
            // The first is the block that was not acknowledged yet: it is an old one now, like its copies.
            self.wake_at = Some(now + self.habits.patience);
            return queue.into_iter().flat_map(|packet| self.take(now, packet)).collect();
        }
        self.timeouts += usize::from(self.first_answer_at.is_some());
        if self.timeouts > self.habits.timeouts {
            self.leave(now, Ending::GaveUp);
            return Vec::new();
        }
        let last = if self.received > 0 { Packet::Ack(self.received as u16) } else { self.last.clone() };
        self.acked = self.received;
        self.say(now, last)
    }

    /// How it ended, if it has.
    pub fn ending(&self) -> Option<&Ending> {
        self.ending.as_ref()
    }

    /// Times that it had to repeat itself after the first answer.
    pub fn timeouts(&self) -> usize {
        self.timeouts
    }

    /// How long it has stopped to listen by itself, the pause that it is in included.
    pub fn paused(&self) -> Duration {
        self.paused
    }

    /// Bytes that have come in order.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The blocks that have come in order since this was last asked.
    pub fn take_blocks(&mut self) -> Vec<Bytes> {
        std::mem::take(&mut self.blocks)
    }

    /// From the first answer until it left.
    pub fn took(&self) -> Option<Duration> {
        Some(self.left_at? - self.first_answer_at?)
    }

    /// Whether this DATA is the next one, which it would take.
    pub fn is_next(&self, packet: &Packet) -> bool {
        matches!(packet, Packet::Data { block, .. } if *block == (self.received + 1) as u16)
    }

    fn say(&mut self, now: Instant, packet: Packet) -> Vec<Packet> {
        self.wake_at = Some(now + self.habits.patience);
        self.last = packet.clone();
        vec![packet]
    }

    fn leave(&mut self, now: Instant, ending: Ending) {
        self.wake_at = None;
        self.left_at = Some(now);
        self.ending = Some(ending);
    }

    fn close(&mut self, now: Instant, code: ErrorCode, message: &str, ending: Ending) -> Vec<Packet> {
        self.leave(now, ending);
        vec![Packet::Error { code, message: message.into() }]
    }

    fn acknowledge(&mut self, now: Instant) -> Vec<Packet> {
        self.acked = self.received;
        self.say(now, Packet::Ack(self.received as u16))
    }

    fn take(&mut self, now: Instant, packet: Packet) -> Vec<Packet> {
        match packet {
            Packet::Oack(oack) if self.received == 0 => self.take_oack(now, oack),
            Packet::Data { block, payload } if block == (self.received + 1) as u16 => self.take_next(now, payload),
            Packet::Data { block, .. } => match self.habits.on_other_data {
                OnOtherData::AckLast => self.acknowledge(now),
                OnOtherData::AckLastOnce if self.gap_told != Some(self.received) => {
                    self.gap_told = Some(self.received);
                    self.acknowledge(now)
                }
                OnOtherData::AckOld if block <= self.received as u16 => vec![Packet::Ack(block)],
                _ => Vec::new(),
            },
            Packet::Error { code, message } => {
                self.leave(now, Ending::Refused { code, message });
                Vec::new()
            }
            _ => Vec::new(),
        }
    }

    fn take_oack(&mut self, now: Instant, oack: Options) -> Vec<Packet> {
        if self.habits.strict && options::accept(&self.asked, &oack, Mode::Octet).is_none() {
            let ending = Ending::Rejected(oack);
            return self.close(now, ErrorCode::OPTION_NEGOTIATION, "Option negotiation failed", ending);
        }
        if let Some((code, message)) = self.leaves {
            return self.close(now, code, message, Ending::SizeKnown);
        }
        let number = |name| oack.value(name).and_then(|value| value.parse::<u64>().ok());
        self.blksize = number("blksize").map_or(self.blksize, |size| size as usize);
        self.windowsize = number("windowsize").unwrap_or(1);
        self.tsize = number("tsize");
        self.acknowledge(now)
    }

    fn take_next(&mut self, now: Instant, payload: Bytes) -> Vec<Packet> {
        let len = payload.len();
        self.blocks.push(payload);
        self.received += 1;
        self.bytes += len as u64;
        self.wake_at = Some(now + self.habits.patience);
        if self.habits.closes_when_full && self.tsize == Some(self.bytes) && len == self.blksize {
            return self.close(now, ErrorCode::NOT_DEFINED, "No error, file close", Ending::Complete);
        }
        if len < self.blksize {
            let ack = self.acknowledge(now);
            self.leave(now, Ending::Complete);
            return ack;
        }
        match self.habits.pause {
            Some((blocks, time)) if self.received % blocks as u64 == 0 => {
                let payload = Vec::new().into();
                self.queue = Some(VecDeque::from([Packet::Data { block: self.received as u16, payload }]));
                self.wake_at = Some(now + time);
                self.paused += time;
                Vec::new()
            }
            _ if self.received - self.acked >= self.windowsize => self.acknowledge(now),
            _ => Vec::new(),
        }
    }
}

impl Ending {
    /// Whether the client has what it wanted.
    pub fn is_success(&self) -> bool {
        matches!(self, Self::Complete | Self::SizeKnown)
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Complete => f.write_str("complete"),
            Self::SizeKnown => f.write_str("size known"),
            Self::Refused { code, message } => write!(f, "refused: ERROR {code} {message:?}"),
            Self::Rejected(oack) => write!(f, "left at the OACK {oack}"),
            Self::GaveUp => f.write_str("gave up"),
        }
    }
}

impl fmt::Debug for BootClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BootClient")
            .field("habits", &self.habits)
            .field("received", &self.received)
            .field("ending", &self.ending)
            .finish_non_exhaustive()
    }
}
