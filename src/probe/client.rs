//! A client that reads one file, with the habits of a boot client.

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

/// How the transfer ended for the client.
///
/// ```
/// use std::time::Instant;
/// use tuffet::{ErrorCode, Refusal, probe::{BootClient, Ending, habits}};
///
/// let (now, mut client) = (Instant::now(), BootClient::new(habits::PHONE, "motd"));
/// client.start(now);
/// client.receive(now, Refusal::not_found().packet().unwrap());
/// assert!(matches!(client.ending(), Some(Ending::Refused { code: ErrorCode::FILE_NOT_FOUND, .. })));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ending {
    /// The client has the file.
    Complete,
    /// The client asked for the size, got it, and left.
    SizeKnown,
    /// The server refused.
    Refused {
        /// The code of its ERROR.
        code: ErrorCode,
        /// The text of its ERROR.
        message: String,
    },
    /// The client left because it does not accept this OACK.
    Rejected(Options),
    /// The client gave up waiting.
    GaveUp,
}

/// The model of a boot client, without I/O: it takes packets and times, and returns the packets to send.
///
/// ```
/// use std::time::Instant;
/// use tuffet::{packet::Packet, probe::{BootClient, habits}};
///
/// let now = Instant::now();
/// let mut client = BootClient::new(habits::PHONE, "motd");
/// assert!(matches!(&client.start(now)[..], [Packet::Rrq(_)]));
/// let answer = client.receive(now, Packet::Data { block: 1, payload: "hello\n".into() });
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
    /// The blocks since the last [`take_blocks`](Self::take_blocks).
    blocks: Vec<Bytes>,
    received: u64,
    acked: u64,
    /// The last block in order at the client's last ACK of a block out of order.
    gap_told: Option<u64>,
    /// The packet that is repeated after a timeout.
    last: Packet,
    wake_at: Option<Instant>,
    /// The packets that arrived in a pause.
    queue: Option<VecDeque<Packet>>,
    timeouts: usize,
    paused: Duration,
    first_answer_at: Option<Instant>,
    left_at: Option<Instant>,
    ending: Option<Ending>,
}

impl BootClient {
    /// A client that fetches this file.
    ///
    /// ```
    /// use tuffet::probe::{BootClient, habits};
    ///
    /// assert!(BootClient::new(habits::GRUB, "boot/grub.cfg").ending().is_none());
    /// ```
    pub fn new(habits: Habits, name: &(impl AsRef<[u8]> + ?Sized)) -> Self {
        Self::asking(habits, name.as_ref(), habits.options, None)
    }

    /// A client that asks only for the size of this file and leaves, if these habits include that.
    ///
    /// ```
    /// use tuffet::probe::{BootClient, habits};
    ///
    /// assert!(BootClient::asking_size(habits::EDK2, "shimx64.efi").is_some());
    /// assert!(BootClient::asking_size(habits::PHONE, "phone.cfg").is_none());
    /// ```
    pub fn asking_size(habits: Habits, name: &(impl AsRef<[u8]> + ?Sized)) -> Option<Self> {
        let (options, code, message) = habits.asks_size?;
        Some(Self::asking(habits, name.as_ref(), options, Some((code, message))))
    }

    fn asking(habits: Habits, name: &[u8], options: &str, leaves: Option<(ErrorCode, &'static str)>) -> Self {
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

    /// The request. Call it once.
    ///
    /// ```
    /// use std::time::Instant;
    /// use tuffet::{packet::Packet, probe::{BootClient, habits}};
    ///
    /// let mut client = BootClient::new(habits::RASPBERRY, "start4.elf");
    /// let packets = client.start(Instant::now());
    /// assert!(matches!(&packets[..], [Packet::Rrq(rrq)] if rrq.options.to_string() == "tsize=0 blksize=1024"));
    /// ```
    pub fn start(&mut self, now: Instant) -> Vec<Packet> {
        self.say(now, self.last.clone())
    }

    /// Takes a packet, and returns the answer.
    ///
    /// ```
    #[doc = include_str!("client_example.md")]
    /// assert_eq!(client.receive(now, hello), [Packet::Ack(1)]);
    /// ```
    pub fn receive(&mut self, now: Instant, packet: Packet) -> Vec<Packet> {
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

    /// When [`wake`](Self::wake) is due if no packet comes.
    ///
    /// ```
    #[doc = include_str!("client_example.md")]
    /// assert_eq!(client.wake_at(), Some(now + habits::PHONE.patience));
    /// ```
    pub fn wake_at(&self) -> Option<Instant> {
        self.wake_at
    }

    /// Takes a timeout, and returns the packets to send.
    ///
    /// ```
    #[doc = include_str!("client_example.md")]
    /// let again = client.wake(now + habits::PHONE.patience);
    /// assert!(matches!(&again[..], [Packet::Rrq(_)]), "no answer came");
    /// ```
    pub fn wake(&mut self, now: Instant) -> Vec<Packet> {
        if let Some(queue) = self.queue.take() {
            // The first is the block that was not acknowledged yet. It now counts as an old one, like its copies.
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

    /// How the transfer ended, if it has ended.
    ///
    /// ```
    #[doc = include_str!("client_example.md")]
    /// assert_eq!(client.ending(), None);
    /// client.receive(now, hello);
    /// assert_eq!(client.ending(), Some(&Ending::Complete));
    /// ```
    pub fn ending(&self) -> Option<&Ending> {
        self.ending.as_ref()
    }

    /// How many timeouts there were after the first answer.
    ///
    /// ```
    #[doc = include_str!("client_example.md")]
    /// client.wake(now + habits::PHONE.patience);
    /// assert_eq!(client.timeouts(), 0, "the server has not answered yet");
    /// ```
    pub fn timeouts(&self) -> usize {
        self.timeouts
    }

    /// How long the client has paused of its own accord, the current pause included.
    ///
    /// ```
    #[doc = include_str!("client_example.md")]
    /// assert_eq!(client.paused(), Duration::ZERO, "unlike GRUB, a phone does not pause");
    /// ```
    pub fn paused(&self) -> Duration {
        self.paused
    }

    /// The bytes that have arrived in order.
    ///
    /// ```
    #[doc = include_str!("client_example.md")]
    /// client.receive(now, hello);
    /// assert_eq!(client.bytes(), 6);
    /// ```
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The blocks that have arrived in order since the last call.
    ///
    /// ```
    #[doc = include_str!("client_example.md")]
    /// client.receive(now, hello);
    /// assert_eq!(client.take_blocks(), ["hello\n"]);
    /// assert!(client.take_blocks().is_empty());
    /// ```
    pub fn take_blocks(&mut self) -> Vec<Bytes> {
        std::mem::take(&mut self.blocks)
    }

    /// The time from the first answer until the client left.
    ///
    /// ```
    #[doc = include_str!("client_example.md")]
    /// assert_eq!(client.took(), None);
    /// client.receive(now, hello);
    /// assert_eq!(client.took(), Some(Duration::ZERO));
    /// ```
    pub fn took(&self) -> Option<Duration> {
        Some(self.left_at? - self.first_answer_at?)
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
    /// Whether the client got what it asked for.
    ///
    /// ```
    /// use tuffet::probe::Ending;
    ///
    /// assert!(Ending::SizeKnown.is_success() && !Ending::GaveUp.is_success());
    /// ```
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
            Self::Rejected(oack) => write!(f, "ended at the OACK {oack}"),
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
