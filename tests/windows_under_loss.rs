//! How long transfers take over a wire that loses packets, and how much the server sends again.
#![cfg(feature = "sim")]

mod sim;

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use tuffet::{
    options::{Direction, Limits, answer},
    packet::{Mode, Packet},
    probe::habits::{OnOtherData, PHONE},
    transfer::{Timing, Transfer},
};

use sim::{Client, Cue, End, LinkConditions, Peer, Script, Server, Side, Source, Trying, Wire, ms, options, run, secs};

const SIZE: usize = 262_144;
const BLKSIZE: usize = 1468;
const WINDOWSIZES: [(u64, &str); 5] = [
    (1, "blksize=1468 timeout=1"),
    (4, "blksize=1468 timeout=1 windowsize=4"),
    (8, "blksize=1468 timeout=1 windowsize=8"),
    (16, "blksize=1468 timeout=1 windowsize=16"),
    (64, "blksize=1468 timeout=1 windowsize=64"),
];

/// The ways of clients that see a gap in a window. Each client repeats its last ACK after 1 s without progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// It sends an ACK of the last block before the gap, once, as U-Boot does.
    TellsOnce,
    /// It sends that ACK for each further block, as EDK2 does.
    TellsEach,
    /// It acknowledges each block, and the last block before the gap for each further one.
    AcksEach,
    /// It ignores further blocks. When the last one that it has comes again, it sends the ACK again.
    Waits,
}

const KINDS: [Kind; 4] = [Kind::TellsOnce, Kind::TellsEach, Kind::AcksEach, Kind::Waits];

struct Fetcher {
    kind: Kind,
    client: Client,
    /// How long each packet waits before the client takes it, after the first [`PROMPT`] packets.
    delay: Duration,
    heard: usize,
    waiting: VecDeque<(Instant, Packet)>,
}

const PROMPT: usize = 30;

impl Fetcher {
    fn new(kind: Kind, options: &'static str, delay: Duration) -> Self {
        let mut habits = PHONE;
        habits.options = options;
        habits.on_other_data = match kind {
            Kind::TellsOnce => OnOtherData::AckLastOnce,
            Kind::TellsEach | Kind::AcksEach => OnOtherData::AckLast,
            Kind::Waits => OnOtherData::Ignore,
        };
        Self { kind, client: Client::new(habits), delay, heard: 0, waiting: VecDeque::new() }
    }

    fn received(&self) -> u16 {
        self.client.file.len().div_ceil(BLKSIZE) as u16
    }

    fn take(&mut self, now: Instant, packet: Packet) -> Vec<Packet> {
        let acks = match (&packet, self.kind) {
            (Packet::Data { block, .. }, Kind::AcksEach) => *block == self.received() + 1,
            (Packet::Data { block, .. }, Kind::Waits) => *block == self.received(),
            _ => false,
        };
        let said = self.client.act(now, Cue::Packet(packet));
        if said.is_empty() && acks { vec![Packet::Ack(self.received())] } else { said }
    }
}

impl Peer for Fetcher {
    fn act(&mut self, now: Instant, cue: Cue) -> Vec<Packet> {
        match cue {
            Cue::Packet(packet) => {
                self.heard += 1;
                if self.delay.is_zero() || self.heard <= PROMPT {
                    return self.take(now, packet);
                }
                self.waiting.push_back((now + self.delay, packet));
                Vec::new()
            }
            Cue::Wake if self.waiting.front().is_some_and(|(at, _)| *at <= now) => {
                let (_, packet) = self.waiting.pop_front().expect("the first one is due");
                self.take(now, packet)
            }
            cue => self.client.act(now, cue),
        }
    }

    fn wake_at(&self) -> Option<Instant> {
        self.waiting.front().map(|(at, _)| *at).into_iter().chain(self.client.wake_at()).min()
    }
}

/// The time of one transfer, from the first answer until the client has the file, and the bytes of DATA that were sent
/// by then for each byte of the file.
struct Cost {
    time: Duration,
    bytes: f64,
}

fn fetch(kind: Kind, options: &'static str, conditions: LinkConditions, delay: Duration, seed: u64) -> Cost {
    let _trying = Trying((kind, options, conditions, delay, seed));
    let file: Vec<u8> = (0..SIZE).map(|i| (i / 7) as u8).collect();
    let mut client = Fetcher::new(kind, options, delay);
    let mut server = Server::new(Source::of(&file), Some(SIZE as u64), Timing::default());
    let (mut up, mut down) = (Wire::new(conditions, seed * 2), Wire::new(conditions, seed * 2 + 1));
    let report = run(&mut client, &mut server, &mut up, &mut down, secs(600));
    assert!(client.client.file == file, "the file changed on its way");
    let outcome = server.outcome().expect("it is over");
    assert!(outcome.is_success(), "{outcome:?}");
    let time = client.client.took().expect("it has the file");
    let by_server = || report.trace.iter().filter(|sent| sent.by == Side::Server);
    let end = by_server().find(|sent| sent.copies > 0).expect("an answer").at + time;
    let data = by_server().filter(|sent| sent.head[1] == 3 && sent.at <= end);
    Cost { time, bytes: data.map(|sent| sent.len - 4).sum::<usize>() as f64 / SIZE as f64 }
}

/// The cost with a sender that is told the first lost block of a window after one round trip. If no packet can tell it,
/// because the block was the last one or the ACK is lost, that costs it 50 ms more.
fn ideal(windowsize: u64, conditions: LinkConditions, seed: u64) -> Cost {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut is_lost = || random.f64() < conditions.loss;
    let blocks = (SIZE / BLKSIZE) as u64 + 1;
    let (mut received, mut sent, mut time) = (0, 0, 2 * conditions.latency);
    while received < blocks {
        let window = windowsize.min(blocks - received);
        let whole = (0..window).find(|_| is_lost()).unwrap_or(window);
        let tells = whole == window || (whole + 1..window).any(|_| !is_lost());
        (received, sent) = (received + whole, sent + window);
        time += 2 * conditions.latency;
        if received < blocks && (!tells || is_lost()) {
            time += ms(50);
        }
    }
    Cost { time, bytes: sent as f64 / blocks as f64 }
}

/// The medians of time, in seconds, and bytes, and the longest time.
fn medians(cost: impl Fn(u64) -> Cost) -> (f64, f64, f64) {
    let seeds = std::env::var("SEEDS").map_or(11, |seeds| seeds.parse().expect("a number"));
    let (mut times, mut bytes): (Vec<_>, Vec<_>) =
        (0..seeds).map(cost).map(|cost| (cost.time.as_secs_f64(), cost.bytes)).unzip();
    times.sort_by(f64::total_cmp);
    bytes.sort_by(f64::total_cmp);
    (times[times.len() / 2], bytes[bytes.len() / 2], times[times.len() - 1])
}

/// Prints a table: round trip, loss, windowsize, the ideal, and each client. A loss costs a client that tells gaps a
/// round trip or two. The others may have to wait for themselves: one that tells each gap once, if that ACK is lost;
/// one that tells none, if its ACKs do not pay for a second window; one that acknowledges each block, if its repeated
/// ACKs may be answers to copies.
#[test]
fn losses_cost_round_trips_and_no_seconds() {
    let mut missed = Vec::new();
    for round_trip in [1, 20, 200].map(ms) {
        for loss in [0.01, 0.05, 0.1] {
            for (windowsize, options) in WINDOWSIZES {
                let conditions = LinkConditions::lossy(round_trip / 2, loss);
                let (ideal_time, ideal_bytes, _) = medians(|seed| ideal(windowsize, conditions, seed));
                print!("{round_trip:5?} {:2.0} %, {windowsize:2}: {ideal_time:5.2} s {ideal_bytes:.2}", loss * 100.0);
                for kind in KINDS {
                    let (time, bytes, longest) = medians(|seed| fetch(kind, options, conditions, ms(0), seed));
                    print!(" | {kind:?} {time:5.2} to {longest:5.2} s {bytes:.2}");
                    let own_waits = match kind {
                        Kind::TellsEach => 0.5 + 10.0 * loss,
                        Kind::TellsOnce => 40.0 * loss,
                        Kind::AcksEach | Kind::Waits => 300.0 * loss,
                    };
                    if time > 2.0 * ideal_time + own_waits || bytes > 1.35 * ideal_bytes + 0.05 {
                        missed.push((kind, round_trip, loss, windowsize, time, bytes));
                    }
                }
                println!();
            }
        }
    }
    assert!(missed.is_empty(), "{missed:#?}");
}

/// The round trip has grown, so copies were not needed. Their answers bring no further copies.
#[test]
fn losses_of_a_client_that_has_become_slow_bring_no_avalanche() {
    for delay in [60, 300, 700].map(ms) {
        for (windowsize, options) in &WINDOWSIZES[..3] {
            for kind in KINDS {
                let cost = |seed| fetch(kind, options, LinkConditions::lossy(ms(1), 0.02), delay, seed).bytes;
                let bytes = (0..10).map(cost).sum::<f64>() / 10.0;
                assert!(bytes <= 1.1 + 0.06 * *windowsize as f64, "{kind:?} {delay:?} {windowsize}: {bytes}");
            }
        }
    }
}

/// The client has lost a part of a window, and acknowledges only after its own timeout.
#[test]
fn the_answer_to_a_window_that_was_sent_again_measures_no_round_trip() {
    for whole in [0, 3] {
        let mut script = Script::read("windowsize=4", 1 << 20);
        script.ask();
        let mut acknowledge = |window: u64, after| {
            let copies = script.pass(after);
            assert_eq!(script.say(&format!("ACK {}", 4 * window)).len(), 4);
            copies
        };
        for window in 0..=whole {
            acknowledge(window, ms(1));
        }
        assert!(acknowledge(whole + 1, ms(1500)).len() >= 3, "copies");
        acknowledge(whole + 2, ms(1));
        assert!(!script.pass(ms(60)).is_empty(), "the round trip is 1 ms");
    }
}

/// Each copy may restart the timeout of such a client.
#[test]
fn copies_leave_time_for_a_client_whose_acks_do_not_pay_for_a_window() {
    let (agreed, oack) =
        answer(&options("windowsize=16 timeout=1"), Direction::Read, Mode::Octet, &Limits::default(), None);
    let mut timing = Timing::default();
    // An ACK of 32 bytes pays for 18 blocks of 544 bytes.
    timing.amplification = Some(18 * 17);
    let mut server = End::new(Transfer::send(oack, agreed, timing), Source::of(&[7; 1 << 20]));
    let mut now = Instant::now();
    assert_eq!(server.act(now, Cue::Begin).len(), 1);
    for window in 0..7 {
        now += ms(1);
        assert_eq!(server.act(now, Cue::Packet(Packet::Ack(16 * window))).len(), 16);
    }
    // There are 14 blocks to spend.
    let (mut sent_at, begin) = (Vec::new(), now);
    while let Some(at) = server.wake_at().filter(|at| *at < begin + secs(20)) {
        now = at;
        match server.act(now, Cue::Wake).len() {
            0 => {}
            copies => {
                assert_eq!(copies, 2, "the ends of the window");
                sent_at.push(now);
            }
        }
    }
    assert_eq!(sent_at.len(), 7);
    for (one, next) in sent_at.iter().zip(&sent_at[1..]).skip(3) {
        assert!(*next - *one > ms(1900), "{:?}", *next - *one);
    }
}
