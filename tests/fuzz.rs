//! Input from people who mean harm, and from drivers that keep no contract: nothing panics, and everything ends.

mod sim;

use std::time::{Duration, Instant};

use tuffet::{
    Bytes, ErrorCode, Refusal,
    options::{Agreed, Direction, Limits, accept, answer},
    packet::{Mode, Options, Packet, Request},
    transfer::{Event, Outcome, Step, Timing, Transfer, Want},
};

use sim::{End, Peer, Server, Source, Trying, Weather, Wire, ms, options, run, secs};

const NAMES: [&str; 10] = [
    "blksize",
    "BLKSIZE2",
    "windowsize",
    "timeout",
    "utimeout",
    "tsize",
    "rollover",
    "multicast",
    "msftwindow",
    "\u{fffd}",
];
const VALUES: [&str; 18] = [
    "",
    "0",
    "1",
    "2",
    "7",
    "8",
    "9",
    "255",
    "256",
    "512",
    "10000",
    "32768",
    "65464",
    "65465",
    "65535",
    "18446744073709551615",
    "-1",
    "a",
];

fn pick<'a>(random: &mut fastrand::Rng, from: &[&'a str]) -> &'a str {
    from[random.usize(..from.len())]
}

fn random_options(random: &mut fastrand::Rng) -> Options {
    let mut names = NAMES;
    random.shuffle(&mut names);
    names.into_iter().take(random.usize(..NAMES.len())).map(|name| (name, pick(random, &VALUES))).collect()
}

fn random_bytes(random: &mut fastrand::Rng, most: usize) -> Vec<u8> {
    (0..random.usize(..=most)).map(|_| random.u8(..)).collect()
}

fn random_packet(random: &mut fastrand::Rng) -> Packet {
    // Low numbers hit the window more often.
    let number = if random.bool() { random.u16(..12) } else { random.u16(..) };
    let request =
        |random: &mut _| Request { filename: b"f".to_vec(), mode: Mode::Octet, options: random_options(random) };
    match random.u8(..10) {
        0 => Packet::Rrq(request(random).into()),
        1 => Packet::Wrq(request(random).into()),
        2 => Packet::Oack(random_options(random)),
        3 if random.u8(..8) == 0 => Packet::Error { code: ErrorCode(number), message: "no".into() },
        4..=6 => {
            Packet::Data { block: number, payload: vec![7; *random.choice(&[0, 1, 8, 9, 512, 513]).unwrap()].into() }
        }
        _ => Packet::Ack(number),
    }
}

#[test]
fn random_bytes_decode_to_a_packet_or_an_error() {
    for seed in 0..100_000 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut datagram = random_bytes(&mut random, 40);
        if let [high, low, ..] = &mut datagram[..] {
            (*high, *low) = (0, random.u8(..8));
        }
        let _trying = Trying(seed);
        assert_survives(&datagram);
    }
}

#[test]
fn packets_with_flipped_and_missing_bytes_decode_to_a_packet_or_an_error() {
    for seed in 0..50_000 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut datagram = random_packet(&mut random).encode();
        for _ in 0..random.usize(..4) {
            let at = random.usize(..datagram.len());
            datagram[at] = if random.bool() { 0 } else { random.u8(..) };
        }
        datagram.truncate(random.usize(..=datagram.len()));
        let _trying = Trying(seed);
        assert_survives(&datagram);
    }
}

/// What was understood can be said again.
fn assert_survives(datagram: &[u8]) {
    if let Ok(packet) = Packet::decode(datagram) {
        assert_eq!(Packet::decode(&packet.encode()), Ok(packet), "{datagram:?}");
    }
}

#[test]
fn whatever_is_asked_the_answer_is_legal_and_our_own_client_takes_it() {
    for seed in 0..50_000 {
        let mut random = fastrand::Rng::with_seed(seed);
        let asked = random_options(&mut random);
        let direction = if random.bool() { Direction::Read } else { Direction::Write };
        let mode = if random.bool() { Mode::Octet } else { Mode::Netascii };
        let mut limits = Limits::default();
        (limits.blksize, limits.windowsize) = (random.u16(..), random.u16(..));
        limits.answer = random.u8(..8) > 0;
        let _trying = Trying((seed, &asked, &limits));
        let (agreed, oack) = answer(&asked, direction, mode, &limits, Some(random.u64(..)));
        assert!((8..=65464).contains(&agreed.blksize()) && agreed.windowsize() >= 1);
        assert!(agreed.timeout().is_none_or(|timeout| (ms(10)..=secs(255)).contains(&timeout)));
        let mut names = asked.iter().map(|(name, _)| name);
        assert!(oack.iter().all(|(name, _)| names.any(|asked| asked == name)), "in request order: {oack}");
        let accepted = accept(&asked, &oack, mode).expect("the client asked for it");
        assert_eq!(
            (accepted.blksize(), accepted.windowsize(), accepted.timeout(), accepted.tsize(), accepted.rollover()),
            (agreed.blksize(), agreed.windowsize(), agreed.timeout(), agreed.tsize(), agreed.rollover())
        );
    }
}

fn random_transfer(random: &mut fastrand::Rng) -> Transfer {
    let mode = if random.bool() { Mode::Octet } else { Mode::Netascii };
    let asked = match random.u8(..4) {
        0 => Options::new(),
        1 => random_options(random),
        _ => options(&format!("blksize={} windowsize={}", random.u8(8..=9), random.u8(1..=6))),
    };
    let agree = |direction| answer(&asked, direction, mode, &Limits::default(), Some(100));
    let (timing, request) = (Timing::default(), Request { filename: b"f".to_vec(), mode, options: asked.clone() });
    match random.u8(..6) {
        0 | 1 => {
            let (agreed, oack) = agree(Direction::Read);
            Transfer::send(oack, agreed, timing)
        }
        2 | 3 => {
            let (agreed, oack) = agree(Direction::Write);
            Transfer::receive(oack, agreed, timing)
        }
        4 => Transfer::get(request, timing),
        _ => Transfer::put(request, timing),
    }
}

fn random_event(random: &mut fastrand::Rng) -> Event {
    match random.u8(..24) {
        0..=11 => Event::Packet(random_packet(random)),
        12..=15 => Event::Chunk(random_bytes(random, 60).into()),
        16 => Event::End,
        17 => Event::Repeat,
        18 | 19 => Event::Timeout,
        20 | 21 => Event::Ready,
        22 if random.u8(..10) == 0 => Event::Failed(Refusal::internal()),
        23 if random.u8(..10) == 0 => Event::Stop,
        _ => Event::Go,
    }
}

/// An event that the step allows, at a time when it may come.
fn fitting_event(random: &mut fastrand::Rng, now: &mut Instant, step: &Step) -> Event {
    let Step::Wait(want, deadline) = step else { return Event::Go };
    let event = match (random.u8(..8), want) {
        (0, _) => Event::Timeout,
        (1, _) => Event::Repeat,
        (2 | 3, Want::Chunk) => Event::Chunk(random_bytes(random, 60).into()),
        (4, Want::Chunk) if random.u8(..10) == 0 => Event::End,
        (2..=4, Want::Room | Want::Verdict) => Event::Ready,
        _ => Event::Packet(random_packet(random)),
    };
    let left = deadline.saturating_duration_since(*now);
    *now += if matches!(event, Event::Timeout) { left } else { left.mul_f64(random.f64() / 50.0) };
    event
}

/// Lets the peer, the source and the sink be silent; returns how long the transfer lasted.
fn assert_ends(transfer: &mut Transfer, mut now: Instant, mut step: Step) -> Duration {
    let from = now;
    for _ in 0..10_000 {
        step = match step {
            Step::Done(outcome) => {
                let again = transfer.resume(now, Event::Go);
                assert!(matches!(again, Step::Done(same) if same == outcome), "it is over once and for all");
                return now - from;
            }
            Step::Wait(_, deadline) => {
                now = now.max(deadline);
                transfer.resume(now, Event::Timeout)
            }
            Step::Send(_) | Step::Push(_) => transfer.resume(now, Event::Go),
        };
    }
    panic!("it never ends");
}

#[test]
fn random_events_never_panic_and_every_transfer_ends() {
    for seed in 0..20_000 {
        let mut random = fastrand::Rng::with_seed(seed);
        let _trying = Trying(seed);
        let mut transfer = random_transfer(&mut random);
        let mut now = Instant::now();
        let mut step = transfer.resume(now, Event::Go);
        let keeps_the_contract = random.u8(..4) > 0;
        for _ in 0..random.usize(..150) {
            let event = if keeps_the_contract {
                fitting_event(&mut random, &mut now, &step)
            } else {
                now += ms(random.u64(..200));
                random_event(&mut random)
            };
            step = transfer.resume(now, event);
        }
        let lasted = assert_ends(&mut transfer, now, step);
        assert!(lasted <= secs(30), "{lasted:?} without a sign of life");
    }
}

#[test]
fn a_driver_that_feeds_more_than_is_wanted_loses_no_byte() {
    let mut transfer = Transfer::send(Options::new(), Agreed::plain(Mode::Octet), Timing::default());
    let (now, mut fed, mut heard) = (Instant::now(), 0, 0);
    let mut step = transfer.resume(now, Event::Go);
    let outcome = loop {
        let event = match step {
            Step::Done(outcome) => break outcome,
            Step::Send(Packet::Data { payload, .. }) => {
                heard += payload.len();
                Event::Go
            }
            Step::Send(_) | Step::Push(_) => Event::Go,
            Step::Wait(..) if fed < 3000 => {
                fed += 300;
                Event::Chunk(Bytes::from_static(&[7; 300]))
            }
            Step::Wait(Want::Chunk, _) => Event::End,
            Step::Wait(..) => Event::Packet(Packet::Ack((heard / 512 + usize::from(heard % 512 > 0)) as u16)),
        };
        step = transfer.resume(now, event);
    };
    assert_eq!((outcome, heard), (Outcome::Complete, fed));
}

/// Asks, and then talks without end and brings nothing.
struct Babbler {
    request: Packet,
    says: Vec<Packet>,
    at: Option<Instant>,
    every: Duration,
}

impl Peer for Babbler {
    fn start(&mut self, now: Instant) -> Vec<Packet> {
        self.at = Some(now + self.every);
        vec![self.request.clone()]
    }

    fn hear(&mut self, _: Instant, packet: Packet) -> Vec<Packet> {
        if matches!(packet, Packet::Oack(_)) { vec![Packet::Ack(0)] } else { Vec::new() }
    }

    fn wake_at(&self) -> Option<Instant> {
        self.at
    }

    fn wake(&mut self, now: Instant) -> Vec<Packet> {
        self.at = (!self.says.is_empty()).then_some(now + self.every);
        self.says.pop().into_iter().collect()
    }
}

#[test]
fn a_peer_that_babbles_is_not_alive_and_is_not_answered_more_than_it_says() {
    for seed in 0..30 {
        let mut random = fastrand::Rng::with_seed(seed);
        let _trying = Trying(seed);
        let asked = options("blksize=512 windowsize=4");
        let request = Request { filename: b"f".to_vec(), mode: Mode::Octet, options: asked };
        let reads = random.bool();
        let says = (0..4000)
            .map(|_| match random_packet(&mut random) {
                Packet::Ack(_) if reads => Packet::Ack(*random.choice(&[0, 0, 5, 9, 65535]).unwrap()),
                Packet::Data { payload, .. } => Packet::Data { block: random.u16(2..), payload: payload.slice(..0) },
                Packet::Error { .. } => Packet::Ack(0),
                other => other,
            })
            .collect();
        let request = if reads { Packet::Rrq(request.into()) } else { Packet::Wrq(request.into()) };
        let mut babbler = Babbler { request, says, at: None, every: ms(10) };
        let mut server = Server::new(Source::of(&[7; 9000]), None, Timing::default());
        let (mut up, mut down) = (Wire::new(Weather::fine(ms(5)), seed), Wire::new(Weather::fine(ms(5)), seed));
        run(&mut babbler, &mut server, &mut up, &mut down, secs(100));
        // It acknowledges what was never sent.
        let expected = if reads { Outcome::Refused(Refusal::bad_request()) } else { Outcome::TimedOut };
        assert_eq!(server.outcome(), Some(&expected));
        let sent = server.end().sent;
        assert!(sent <= if reads { 12 } else { 4000 }, "{sent} packets");
    }
}

#[test]
fn a_server_that_grants_what_nobody_asked_for_is_refused() {
    for granted in ["blksize=513", "windowsize=2", "timeout=1", "tsize=x", "blksize=7"] {
        for transfer in [Transfer::get, Transfer::put] {
            let request =
                Request { filename: b"f".to_vec(), mode: Mode::Octet, options: options("blksize=512 tsize=0") };
            let mut client = End::new(transfer(request, Timing::default()), Source::default());
            let now = Instant::now();
            client.start(now);
            let answer = client.hear(now, Packet::Oack(options(granted)));
            assert!(matches!(answer[..], [Packet::Error { code: ErrorCode::OPTION_NEGOTIATION, .. }]), "{granted}");
            assert_eq!(client.outcome, Some(Outcome::Refused(Refusal::bad_options())));
        }
    }
}
