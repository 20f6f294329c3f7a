//! The packets that ACKs can make a server send: from clients that acknowledge every block, repeated ones, and forged
//! ones.
#![cfg(feature = "sim")]

mod sim;

use std::time::{Duration, Instant};

use tuffet::{
    packet::{Mode, Packet, Request},
    transfer::{Outcome, Timing},
};

use sim::{Cue, LinkConditions, Peer, Script, Server, Source, Trying, Wire, ms, options, run, secs};

/// A client that acknowledges each block when it has come, and says it again of blocks that it has.
struct EveryBlock {
    request: Packet,
    received: u16,
    bytes: usize,
    blksize: usize,
    /// The time that the client takes for each block, and the packets that wait meanwhile.
    busy: Duration,
    queue: std::collections::VecDeque<Packet>,
    free_at: Option<Instant>,
    over: bool,
}

impl EveryBlock {
    fn new(blksize: usize, windowsize: usize, busy: Duration) -> Self {
        let options = options(&format!("blksize={blksize} windowsize={windowsize}"));
        let request = Request { filename: b"f".to_vec(), mode: Mode::Octet, options };
        let queue = std::collections::VecDeque::new();
        let request = Packet::Rrq(request.into());
        Self { request, received: 0, bytes: 0, blksize, busy, queue, free_at: None, over: false }
    }

    fn take(&mut self, packet: Packet) -> Vec<Packet> {
        match packet {
            Packet::Data { block, payload } if block == self.received.wrapping_add(1) && !self.over => {
                self.received = block;
                self.bytes += payload.len();
                self.over = payload.len() < self.blksize;
            }
            Packet::Oack(_) | Packet::Data { .. } => {}
            other => panic!("{other:?}"),
        }
        vec![Packet::Ack(self.received)]
    }
}

impl Peer for EveryBlock {
    fn act(&mut self, now: Instant, cue: Cue) -> Vec<Packet> {
        match cue {
            Cue::Begin => vec![self.request.clone()],
            Cue::Packet(packet) if self.busy.is_zero() => self.take(packet),
            Cue::Packet(packet) => {
                self.queue.push_back(packet);
                self.free_at.get_or_insert(now + self.busy);
                Vec::new()
            }
            Cue::Wake => {
                let packet = self.queue.pop_front().expect("it was busy with it");
                self.free_at = (!self.queue.is_empty()).then_some(now + self.busy);
                self.take(packet)
            }
        }
    }

    fn wake_at(&self) -> Option<Instant> {
        self.free_at
    }
}

const BLKSIZE: usize = 64;

/// How many blocks a server sends for each one of the file, of which there are so many.
fn cost(windowsize: usize, blocks: usize, conditions: LinkConditions, source: Duration, busy: Duration) -> f64 {
    let file = vec![7; BLKSIZE * blocks - 1];
    let pieces = match source {
        Duration::ZERO => Source::of(&file),
        delay => file.chunks(BLKSIZE).rev().fold(Source::default(), |source, piece| source.after_chunk(delay, piece)),
    };
    let mut server = Server::new(pieces, None, Timing::default());
    let mut client = EveryBlock::new(BLKSIZE, windowsize, busy);
    let (mut up, mut down) = (Wire::new(conditions, 1), Wire::new(conditions, 2));
    let report = run(&mut client, &mut server, &mut up, &mut down, secs(3600));
    assert_eq!((server.outcome(), client.bytes), (Some(&Outcome::Complete), file.len()));
    report.trace.iter().filter(|sent| sent.head[1] == 3).count() as f64 / blocks as f64
}

#[test]
fn a_client_that_acknowledges_every_block_gets_the_file_once() {
    for windowsize in [1, 2, 3, 4, 8, 16, 33, 64] {
        for blocks in [windowsize, 2 * windowsize + 1, 500] {
            for latency in [0, 1, 10, 100, 400].map(ms) {
                for jitter in [0.0, 0.5] {
                    for source in [0, 1, 7, 60].map(ms) {
                        let conditions =
                            LinkConditions { jitter: latency.mul_f64(jitter), ..LinkConditions::lossless(latency) };
                        let _trying = Trying((windowsize, blocks, latency, jitter, source));
                        let cost = cost(windowsize, blocks, conditions, source, Duration::ZERO);
                        assert!(cost <= 1.1, "{cost} times the file");
                    }
                }
            }
        }
    }
}

#[test]
fn a_slow_client_that_acknowledges_every_block_gets_the_file_once() {
    for windowsize in [1, 4, 16, 64] {
        for busy in [1, 4, 20, 100].map(ms) {
            for latency in [0, 10].map(ms) {
                let _trying = Trying((windowsize, busy, latency));
                let cost = cost(windowsize, 700, LinkConditions::lossless(latency), Duration::ZERO, busy);
                assert!(cost <= 1.1, "{cost} times the file");
            }
        }
    }
}

/// How many DATA packets are among these.
fn data(words: &[String]) -> usize {
    words.iter().filter(|word| word.starts_with("DATA")).count()
}

/// A server whose client has acknowledged the options and some whole windows, with a round trip so long.
fn in_the_middle(windowsize: usize, round_trip: Duration) -> Script {
    let mut script = Script::read(&format!("blksize=512 windowsize={windowsize}"), 1 << 20);
    script.ask();
    for window in 0..4 {
        script.pass(round_trip);
        assert_eq!(data(&script.say(&format!("ACK {}", window * windowsize))), windowsize);
    }
    script
}

#[test]
fn equal_acks_bring_one_copy() {
    for windowsize in [1, 2, 4, 64] {
        for round_trip in [1, 20, 200].map(ms) {
            let mut script = in_the_middle(windowsize, round_trip);
            script.pass(round_trip * 3 / 4);
            let last = format!("ACK {}", 3 * windowsize);
            let brought: usize = (0..50).map(|_| data(&script.say(&last))).sum();
            assert_eq!(brought, windowsize, "at once, {windowsize} {round_trip:?}");
            // One each 2 ms for a second: three windows at most are sent whole, then a block at a time.
            let mut brought = 0;
            for _ in 0..500 {
                brought += data(&script.say(&last)) + data(&script.pass(ms(2)));
            }
            let copies = 1000 / round_trip.max(ms(50)).as_millis() as usize;
            let timers = 5;
            assert!(brought <= 2 * windowsize + copies + timers, "{brought} for {windowsize} {round_trip:?}");
        }
    }
}

#[test]
fn an_ack_inside_a_window_brings_the_rest_of_it_once_in_a_round_trip() {
    let mut script = in_the_middle(64, ms(10));
    script.pass(ms(10));
    let mut brought = 0;
    // Each millisecond an ACK of the next block comes ten times: it brings the next blocks, and few windows again.
    for block in 0..60 {
        for _ in 0..10 {
            brought += data(&script.say(&format!("ACK {}", 3 * 64 + 1 + block)));
        }
        brought += data(&script.pass(ms(1)));
    }
    assert!(brought <= 60 + 64 * (60 / 10 + 1), "{brought}");
}

#[test]
fn ack_0_again_and_again_brings_three_copies_of_the_first_block() {
    for windowsize in [1, 64] {
        let mut script = Script::read(&format!("blksize=1428 windowsize={windowsize}"), 1 << 20);
        script.ask();
        script.pass(ms(2));
        let mut brought = Vec::new();
        for _ in 0..500 {
            brought.extend(script.say("ACK 0"));
            brought.extend(script.pass(ms(2)));
        }
        assert_eq!(brought.len(), windowsize + 3, "{brought:?}");
        assert!(brought[windowsize..].iter().all(|word| word == "DATA 1"));
    }
}

#[test]
fn acks_of_blocks_that_were_never_sent_end_the_transfer() {
    for windowsize in [1, 4] {
        let mut script = in_the_middle(windowsize, ms(10));
        // A late packet or two of an earlier transfer do not, and old blocks never do.
        for words in ["ACK 40000", "ACK 500"] {
            assert!(script.say(words).is_empty(), "{words}");
        }
        for _ in 0..100 {
            assert!(script.say("ACK 0").is_empty());
        }
        assert_eq!(script.outcome(), None);
        let answers: Vec<String> = (0..100).flat_map(|guess| script.say(&format!("ACK {}", 30_000 + guess))).collect();
        assert_eq!(answers, ["ERROR 4"]);
        let Some(Outcome::Refused(refusal)) = script.outcome() else { panic!("{:?}", script.outcome()) };
        assert_eq!(refusal.detail(), Some("ACKs of blocks that were never sent"));
    }
    // Not even the OACK was acknowledged.
    let mut script = Script::read("windowsize=4", 1 << 20);
    script.ask();
    let answers: Vec<String> = (0..100).flat_map(|guess| script.say(&format!("ACK {}", 1 + guess))).collect();
    assert_eq!(answers, ["ERROR 4"]);
}

#[test]
fn old_blocks_are_old_on_both_sides_of_the_rollover() {
    let mut script = Script::read("blksize=8", 8 * 70_000);
    script.ask();
    for block in 0..66_000_u64 {
        assert_eq!(script.say(&format!("ACK {}", block as u16)).len(), 1, "{block}");
        if block % 1000 == 999 {
            for back in 1..50_u16 {
                script.say(&format!("ACK {}", (block as u16).wrapping_sub(back * 10)));
            }
        }
    }
    assert_eq!(script.outcome(), None);
}
