//! Boot clients that read, modelled after their sources and after what was captured of them.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use tuffet::{
    ErrorCode,
    packet::{Mode, Packet, Request},
};

use super::{Peer, ms, options, secs};

/// What sets one client apart from the others.
#[derive(Clone, Copy, Debug)]
pub struct Habits {
    pub name: &'static str,
    pub options: &'static str,
    /// How long it waits before it repeats its request or its last ACK.
    pub patience: Duration,
    /// How many times it does so in one transfer, progress or not.
    pub timeouts: usize,
    /// What it does about DATA that is not the next.
    pub on_other_data: OnOtherData,
    /// After how many blocks it stops to listen, and for how long.
    pub pause: Option<(usize, Duration)>,
    /// Whether it closes with ERROR 0 when it has `tsize` bytes, without an ACK.
    pub closes_when_full: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnOtherData {
    Ignore,
    /// An ACK of the last block in order, for each.
    AckLast,
    /// The same, but only for the first of them after each block in order.
    AckLastOnce,
    /// An ACK of whatever came, if it is old.
    AckOld,
}

const PLAIN: Habits = Habits {
    name: "",
    options: "",
    patience: secs(1),
    timeouts: usize::MAX,
    on_other_data: OnOtherData::AckLast,
    pause: None,
    closes_when_full: false,
};

pub const IPXE: Habits = Habits { name: "iPXE", options: "blksize=1432 tsize=0", patience: ms(400), ..PLAIN };
pub const EDK2: Habits =
    Habits { name: "EDK2", options: "blksize=1468 windowsize=4", patience: secs(4), timeouts: 24, ..PLAIN };
pub const PXELINUX: Habits = Habits {
    name: "pxelinux",
    options: "tsize=0 blksize=1408",
    patience: ms(200),
    closes_when_full: true,
    on_other_data: OnOtherData::Ignore,
    ..PLAIN
};
pub const GRUB: Habits = Habits {
    name: "GRUB",
    options: "blksize=1024 tsize=0",
    on_other_data: OnOtherData::AckOld,
    pause: Some((50, secs(3))),
    ..PLAIN
};
pub const UBOOT: Habits = Habits {
    name: "U-Boot",
    options: "timeout=5 tsize=0 blksize=1468",
    patience: secs(5),
    timeouts: 10,
    on_other_data: OnOtherData::AckLastOnce,
    ..PLAIN
};
pub const UBOOT_WINDOWS: Habits =
    Habits { name: "U-Boot with windows", options: "timeout=5 tsize=0 blksize=1468 windowsize=8", ..UBOOT };
pub const BUSYBOX: Habits = Habits { name: "busybox", options: "tsize=0", patience: ms(100), ..PLAIN };
pub const PHONE: Habits = Habits { name: "phone", options: "", on_other_data: OnOtherData::Ignore, ..PLAIN };

pub const ALL: [Habits; 8] = [IPXE, EDK2, PXELINUX, GRUB, UBOOT, UBOOT_WINDOWS, BUSYBOX, PHONE];

pub struct Client {
    habits: Habits,
    blksize: usize,
    windowsize: u64,
    tsize: Option<usize>,
    pub file: Vec<u8>,
    received: u64,
    acked: u64,
    /// The last block in order when it last said that another one came.
    gap_told: Option<u64>,
    /// What is repeated when nothing comes.
    last: Packet,
    wake_at: Option<Instant>,
    /// What came in a pause.
    queue: Option<VecDeque<Packet>>,
    /// Times that it had to repeat itself after the first answer.
    pub timeouts: usize,
    first_answer_at: Option<Instant>,
    left_at: Option<Instant>,
    pub gave_up: bool,
    pub done: bool,
}

impl Client {
    pub fn new(habits: Habits) -> Self {
        let request = Request { filename: b"file".to_vec(), mode: Mode::Octet, options: options(habits.options) };
        Self {
            habits,
            blksize: 512,
            windowsize: 1,
            tsize: None,
            file: Vec::new(),
            received: 0,
            acked: 0,
            gap_told: None,
            last: Packet::Rrq(request),
            wake_at: None,
            queue: None,
            timeouts: 0,
            first_answer_at: None,
            left_at: None,
            gave_up: false,
            done: false,
        }
    }

    fn say(&mut self, now: Instant, packet: Packet) -> Vec<Packet> {
        self.wake_at = Some(now + self.habits.patience);
        self.last = packet.clone();
        vec![packet]
    }

    /// From the first answer until it had the file.
    pub fn took(&self) -> Option<Duration> {
        Some(self.left_at? - self.first_answer_at?)
    }

    fn leave(&mut self, now: Instant) {
        self.wake_at = None;
        self.left_at = Some(now);
        self.done = true;
    }

    fn acknowledge(&mut self, now: Instant) -> Vec<Packet> {
        self.acked = self.received;
        self.say(now, Packet::Ack(self.received as u16))
    }

    fn take(&mut self, now: Instant, packet: Packet) -> Vec<Packet> {
        match packet {
            Packet::Oack(oack) if self.received == 0 => {
                let number = |name| oack.value(name).map(|value| value.parse().expect("a plain decimal"));
                self.blksize = number("blksize").unwrap_or(512);
                self.windowsize = number("windowsize").unwrap_or(1) as u64;
                self.tsize = number("tsize");
                self.acknowledge(now)
            }
            Packet::Data { block, payload } if block == (self.received + 1) as u16 => self.take_next(now, &payload),
            Packet::Data { block, .. } => match self.habits.on_other_data {
                OnOtherData::AckLast => self.acknowledge(now),
                OnOtherData::AckLastOnce if self.gap_told != Some(self.received) => {
                    self.gap_told = Some(self.received);
                    self.acknowledge(now)
                }
                OnOtherData::AckOld if block <= self.received as u16 => vec![Packet::Ack(block)],
                _ => Vec::new(),
            },
            Packet::Error { code, message } => panic!("{}: ERROR {code} {message}", self.habits.name),
            _ => Vec::new(),
        }
    }

    fn take_next(&mut self, now: Instant, payload: &[u8]) -> Vec<Packet> {
        self.received += 1;
        self.file.extend_from_slice(payload);
        self.wake_at = Some(now + self.habits.patience);
        if self.habits.closes_when_full && self.tsize == Some(self.file.len()) && payload.len() == self.blksize {
            self.leave(now);
            return vec![Packet::Error { code: ErrorCode::NOT_DEFINED, message: "No error, file close".into() }];
        }
        if payload.len() < self.blksize {
            let ack = self.acknowledge(now);
            self.leave(now);
            return ack;
        }
        match self.habits.pause {
            Some((blocks, time)) if self.received.is_multiple_of(blocks as u64) => {
                self.queue =
                    Some(VecDeque::from([Packet::Data { block: self.received as u16, payload: Vec::new().into() }]));
                self.wake_at = Some(now + time);
                Vec::new()
            }
            _ if self.received - self.acked >= self.windowsize => self.acknowledge(now),
            _ => Vec::new(),
        }
    }
}

impl Peer for Client {
    fn start(&mut self, now: Instant) -> Vec<Packet> {
        self.say(now, self.last.clone())
    }

    fn hear(&mut self, now: Instant, packet: Packet) -> Vec<Packet> {
        self.first_answer_at.get_or_insert(now);
        match &mut self.queue {
            _ if self.done || self.gave_up => Vec::new(),
            Some(queue) => {
                queue.push_back(packet);
                Vec::new()
            }
            None => self.take(now, packet),
        }
    }

    fn wake_at(&self) -> Option<Instant> {
        self.wake_at
    }

    fn wake(&mut self, now: Instant) -> Vec<Packet> {
        if let Some(queue) = self.queue.take() {
            // The first is the block that was not acknowledged yet: it is an old one now, like its copies.
            self.wake_at = Some(now + self.habits.patience);
            return queue.into_iter().flat_map(|packet| self.take(now, packet)).collect();
        }
        self.timeouts += usize::from(self.first_answer_at.is_some());
        if self.timeouts > self.habits.timeouts {
            self.gave_up = true;
            self.wake_at = None;
            return Vec::new();
        }
        let last = if self.received > 0 { Packet::Ack(self.received as u16) } else { self.last.clone() };
        self.acked = self.received;
        self.say(now, last)
    }
}
