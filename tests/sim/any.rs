//! Properties that hold for any bytes, for the tests with random input and for the fuzzers.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    time::{Duration, Instant},
};

use tuffet::{
    ErrorCode, Refusal,
    endpoint::{Action, Ended, Endpoint, Envelope, Policy, Pool},
    netascii,
    options::{Direction, Limits, accept, answer},
    packet::{Mode, Options, Packet, Request},
    transfer::{Event, Outcome, Step, Timing, Transfer, Want},
};

use super::{LinkConditions, Setup, ms, options, secs};

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
const VALUES: [&str; 22] = [
    "",
    "0",
    "1",
    "2",
    "7",
    "8",
    "9",
    "008",
    "255",
    "256",
    "512",
    "10000",
    "0010000",
    "32768",
    "65464",
    "65465",
    "65535",
    "18446744073709551615",
    "18446744073709551616",
    "-1",
    "+8",
    "a",
];

/// Choices, made by the bytes one after the other. When they are used up, each choice is the first.
pub struct Dice<'a>(pub &'a [u8]);

impl Dice<'_> {
    pub fn is_used_up(&self) -> bool {
        self.0.is_empty()
    }

    pub fn u8(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    pub fn u16(&mut self) -> u16 {
        u16::from_be_bytes([self.u8(), self.u8()])
    }

    pub fn u64(&mut self) -> u64 {
        (0..4).fold(0, |number, _| number << 16 | u64::from(self.u16()))
    }

    pub fn below(&mut self, end: usize) -> usize {
        let number = if end <= 256 { self.u8().into() } else { usize::from(self.u16()) };
        number % end.max(1)
    }

    pub fn flip(&mut self) -> bool {
        self.below(2) == 1
    }

    /// Rarely, and not when the bytes are used up.
    pub fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == times - 1
    }

    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    pub fn bytes(&mut self, most: usize) -> Vec<u8> {
        (0..self.below(most + 1)).map(|_| self.u8()).collect()
    }

    pub fn options(&mut self) -> Options {
        (0..self.below(8)).map(|_| (self.pick(&NAMES), self.pick(&VALUES))).collect()
    }

    pub fn mode(&mut self) -> Mode {
        self.pick(&[Mode::Octet, Mode::Netascii])
    }

    pub fn request(&mut self) -> Request {
        Request { filename: b"f".to_vec(), mode: self.mode(), options: self.options() }
    }

    pub fn packet(&mut self) -> Packet {
        // Low numbers hit the window more often.
        let number = if self.flip() { self.u16() % 12 } else { self.u16() };
        match self.below(10) {
            0 => Packet::Rrq(self.request().into()),
            1 => Packet::Wrq(self.request().into()),
            2 => Packet::Oack(self.options()),
            3 if self.one_in(8) => Packet::Error { code: ErrorCode(number), message: "no".into() },
            4..=6 => Packet::Data { block: number, payload: vec![7; self.pick(&[0, 1, 8, 9, 512, 513])].into() },
            _ => Packet::Ack(number),
        }
    }

    fn transfer(&mut self) -> Transfer {
        let mut request = self.request();
        if self.flip() {
            request.options = options(&format!("blksize={} windowsize={}", 8 + self.below(2), 1 + self.below(6)));
        }
        let agree = |direction| answer(&request.options, direction, request.mode, &Limits::default(), Some(100));
        let timing = Timing::default();
        match self.below(6) {
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

    fn event(&mut self) -> Event {
        match self.below(24) {
            0..=11 => Event::Packet(self.packet()),
            12..=15 => Event::Chunk(self.bytes(60).into()),
            16 => Event::End,
            17 => Event::Repeat,
            18 | 19 => Event::Timeout,
            20 | 21 => Event::Ready,
            22 if self.one_in(10) => Event::Failed(Refusal::internal()),
            23 if self.one_in(10) => Event::Stop,
            22 if self.one_in(20) => Event::Replaced("another came"),
            _ => Event::Continue,
        }
    }

    /// An event that the step allows, at a time when it may come.
    fn fitting_event(&mut self, now: &mut Instant, step: &Step) -> Event {
        let Step::Wait(want, deadline) = step else { return Event::Continue };
        let event = match (self.below(8), want) {
            (0, _) => Event::Timeout,
            (1, _) => Event::Repeat,
            (2 | 3, Want::Chunk) => Event::Chunk(self.bytes(60).into()),
            (4, Want::Chunk) if self.one_in(10) => Event::End,
            (2..=4, Want::Room | Want::Commit) => Event::Ready,
            _ => Event::Packet(self.packet()),
        };
        let left = deadline.saturating_duration_since(*now);
        *now += if matches!(event, Event::Timeout) { left } else { left * u32::from(self.u8()) / 13_000 };
        event
    }

    fn setup(&mut self) -> Setup {
        let blksize = self.pick(&[8, 9, 64, 512]);
        let mut options = String::new();
        for (name, value) in [
            ("blksize", blksize),
            ("windowsize", 1 + self.below(64)),
            ("rollover", self.below(2)),
            ("timeout", 1 + self.below(10)),
        ] {
            if self.flip() {
                options += &format!("{name}={value} ");
            }
        }
        let latency = self.pick(&[ms(1), ms(0), ms(20), ms(100)]);
        let part = |byte: u8| f64::from(byte) / 255.0;
        Setup {
            seed: self.u64(),
            direction: self.pick(&[Direction::Read, Direction::Write]),
            mode: self.mode(),
            options,
            // Only the number of blocks matters, and bytes cost time.
            size: self.below((blksize * 60).min(4096)),
            chunks: 1 + self.below(3 * blksize),
            source_delay: self.pick(&[ms(0), ms(0), ms(1), ms(300)]),
            sink_busy: self.pick(&[ms(0), ms(0), ms(3), ms(200)]),
            conditions: LinkConditions {
                loss: part(self.u8()) * 0.3,
                duplicate: part(self.u8()) * 0.2,
                reorder: part(self.u8()) * 0.2,
                latency,
                jitter: latency.mul_f64(part(self.u8())),
            },
            ..Setup::default()
        }
    }
}

/// Any bytes are a packet that encodes to the same packet, or an error.
pub fn packets(datagram: &[u8]) {
    if let Ok(packet) = Packet::decode(datagram) {
        assert_eq!(Packet::decode(&packet.encode()), Ok(packet), "{datagram:?}");
    }
}

/// The answer to any options is legal, and our own client accepts it. A made-up OACK is accepted or refused.
pub fn answers(bytes: &[u8]) {
    let mut dice = Dice(bytes);
    let direction = dice.pick(&[Direction::Read, Direction::Write]);
    let mode = dice.mode();
    let mut limits = Limits::default();
    (limits.blksize, limits.windowsize) = (dice.u16(), dice.u16());
    limits.answer = !dice.one_in(8);
    let size = dice.u64();
    let asked = if dice.flip() { dice.options() } else { super::decoded_options(dice.0) };
    let (agreed, oack) = answer(&asked, direction, mode, &limits, Some(size));
    assert!((8..=65464).contains(&agreed.blksize()) && agreed.windowsize() >= 1);
    assert!(agreed.timeout().is_none_or(|timeout| (ms(10)..=secs(255)).contains(&timeout)));
    let mut names = asked.iter().map(|(name, _)| name);
    assert!(oack.iter().all(|(name, _)| names.any(|asked| asked == name)), "in request order: {oack}");
    let accepted = accept(&asked, &oack, mode).expect("the client asked for it");
    assert_eq!(
        (accepted.blksize(), accepted.windowsize(), accepted.timeout(), accepted.tsize(), accepted.rollover()),
        (agreed.blksize(), agreed.windowsize(), agreed.timeout(), agreed.tsize(), agreed.rollover()),
        "{asked} {oack}"
    );
    if let Some(agreed) = accept(&asked, &dice.options(), mode) {
        assert!((8..=65464).contains(&agreed.blksize()) && agreed.windowsize() >= 1);
    }
}

/// Text in pieces of any size comes back unchanged, and pieces of any bytes are decoded.
pub fn text(bytes: &[u8]) {
    let mut dice = Dice(bytes);
    let (most_sent, most_received) = (1 + dice.below(16), 1 + dice.below(16));
    let text = dice.0;
    let mut encoder = netascii::Encoder::default();
    let travels: Vec<u8> = text.chunks(most_sent).flat_map(|piece| encoder.encode(piece)).collect();
    let decoded = |travels: &[u8]| {
        let mut decoder = netascii::Decoder::default();
        let mut decoded: Vec<u8> = travels.chunks(most_received).flat_map(|piece| decoder.decode(piece)).collect();
        decoded.extend(decoder.finish());
        decoded
    };
    assert_eq!(decoded(&travels), text);
    assert!(decoded(text).len() <= text.len());
}

/// Lets the peer, the source and the sink be silent; returns how long the transfer lasted.
fn assert_ends(transfer: &mut Transfer, mut now: Instant, mut step: Step) -> Duration {
    let from = now;
    // A timeout of 10 ms repeats a window of 64 blocks thousands of times within the patience.
    for _ in 0..1_000_000 {
        step = match step {
            Step::Done(outcome) => {
                let again = transfer.resume(now, Event::Continue);
                assert!(matches!(again, Step::Done(same) if same == outcome), "it is over once and for all");
                return now - from;
            }
            Step::Wait(_, deadline) => {
                now = now.max(deadline);
                transfer.resume(now, Event::Timeout)
            }
            Step::Send(_) | Step::Push(_) => transfer.resume(now, Event::Continue),
        };
    }
    panic!("it never ends");
}

/// One coroutine against any events, and a driver that breaks the contract: nothing panics, and it ends.
pub fn one(bytes: &[u8]) {
    let mut dice = Dice(bytes);
    let keeps_the_contract = !dice.one_in(4);
    let mut transfer = dice.transfer();
    let mut now = Instant::now();
    let mut step = transfer.resume(now, Event::Continue);
    while !dice.is_used_up() && !matches!(step, Step::Done(_)) {
        let event = if keeps_the_contract {
            dice.fitting_event(&mut now, &step)
        } else {
            now += ms(dice.u8().into());
            dice.event()
        };
        step = transfer.resume(now, event);
    }
    let lasted = assert_ends(&mut transfer, now, step);
    assert!(lasted <= secs(30), "{lasted:?} without a sign of life");
}

/// A client and a server over a wire that may be too bad for them: both end, and neither takes half a file for the
/// whole.
pub fn pair(bytes: &[u8]) {
    let setup = Dice(bytes).setup();
    let ran = setup.run();
    let (sender, receiver) = (ran.sender(), ran.receiver());
    assert!(sender.outcome.is_some() || ran.incidents() > 0);
    if receiver.outcome == Some(Outcome::Complete) {
        assert!(ran.sink() == ran.file, "the file changed on its way");
    }
    if sender.outcome == Some(Outcome::Complete) {
        assert_eq!(receiver.outcome, Some(Outcome::Complete), "{:?}", ran.setup);
    }
    assert!(ran.file.starts_with(&ran.sink()), "what came is the beginning of it");
}

/// The endpoint against any datagrams, driven as a shard drives it: nothing panics, nothing is left, and limits hold.
pub fn endpoint(bytes: &[u8]) {
    const MOST: usize = 6;
    let mut dice = Dice(bytes);
    let mut policy = Policy::default();
    (policy.max_transfers, policy.max_half_open) = (MOST, 1 + dice.below(MOST));
    let ports = if dice.one_in(4) { vec![0] } else { (1..=4).collect() };
    let mut endpoint = Endpoint::new(policy, vec![Pool { listener: 0, ports }], 7);
    let (mut running, mut now) = (BTreeMap::new(), Instant::now());
    while !dice.is_used_up() {
        now += ms(u64::from(dice.u8()) * 4);
        let id = running.keys().copied().nth(dice.below(MOST));
        let peer = SocketAddr::from(([192, 0, 2, dice.below(4) as u8], 1024 + dice.below(2) as u16));
        match (dice.below(10), id) {
            (0, Some(id)) => {
                running.remove(&id);
                endpoint.end(now, id, Ended { last_ack: dice.one_in(2).then_some(3), round_trip: None });
            }
            (1, Some(id)) => {
                let (blksize, oack) = (8 + dice.below(60_000) as u16, if dice.one_in(2) { "tsize=1" } else { "" });
                endpoint.granted(now, id, blksize, &options(oack));
            }
            (2, Some(id)) => endpoint.set_deadline(id, now + ms(dice.u8().into())),
            (3, Some(id)) => endpoint.first_block(id),
            (4, Some(id)) => drop(endpoint.refuse(now, id)),
            (5, _) => endpoint.unreachable(now, dice.below(5), peer),
            (6, _) => endpoint.make_room(now),
            (7, _) => drop(endpoint.stale_port(now)),
            _ => {
                let envelope = Envelope { broadcast: dice.one_in(8), ..Envelope::new(peer) };
                let port = if dice.one_in(2) { 0 } else { dice.below(5) };
                let packet = dice.packet().encode();
                match endpoint.handle(now, port, &envelope, &packet) {
                    Action::Begin(start) => assert!(running.insert(start.id, start).is_none(), "it runs already"),
                    Action::Deliver(id, _) | Action::Repeat(id) => assert!(running.contains_key(&id), "it has ended"),
                    Action::Reply(packet) => assert!(packet.encode().len() <= 64, "{packet:?}"),
                    Action::LeaveUnanswered(_) | Action::Drop(_) => {}
                }
            }
        }
        while let Some(id) = endpoint.expired(now) {
            assert!(running.contains_key(&id), "it has ended");
        }
        while let Some((id, _)) = endpoint.closed() {
            assert!(running.remove(&id).is_some(), "it is closed once");
            endpoint.end(now, id, Ended::default());
        }
        assert_eq!(endpoint.len(), running.len());
        assert!(running.len() <= MOST, "{} transfers", running.len());
    }
    running.into_keys().for_each(|id| endpoint.end(now, id, Ended::default()));
    assert!(endpoint.is_empty() && endpoint.expired(now + secs(3600)).is_none());
}
