//! Input of attackers, and of drivers that break the contract: nothing panics, and every transfer ends.
#![cfg(feature = "sim")]

mod sim;

use std::time::{Duration, Instant};

use tuffet::{
    Bytes, ErrorCode, Refusal,
    options::Agreed,
    packet::{Mode, Options, Packet, Request},
    transfer::{Event, Outcome, Step, Timing, Transfer, Want},
};

use sim::{Cue, Dice, End, LinkConditions, Peer, Server, Source, Trying, Wire, any, ms, options, run, secs};

fn random_bytes(random: &mut fastrand::Rng, most: usize) -> Vec<u8> {
    (0..random.usize(..=most)).map(|_| random.u8(..)).collect()
}

/// Runs the check on this many random inputs.
fn throw(times: u64, most: usize, holds: fn(&[u8])) {
    for seed in 0..times {
        let bytes = random_bytes(&mut fastrand::Rng::with_seed(seed), most);
        let _trying = Trying((seed, &bytes));
        holds(&bytes);
    }
}

#[test]
fn random_bytes_decode_to_a_packet_or_an_error() {
    throw(100_000, 40, |bytes| any::packets(&[&[0, bytes.first().unwrap_or(&0) % 8], bytes].concat()));
}

#[test]
fn packets_with_flipped_and_missing_bytes_decode_to_a_packet_or_an_error() {
    throw(50_000, 60, |bytes| {
        let mut dice = Dice(bytes);
        let mut datagram = dice.packet().encode();
        for _ in 0..dice.below(4) {
            let at = dice.below(datagram.len());
            datagram[at] = dice.u8();
        }
        datagram.truncate(dice.below(datagram.len() + 1));
        any::packets(&datagram);
    });
}

#[test]
fn the_answer_to_any_options_is_legal_and_our_client_takes_it() {
    throw(50_000, 60, any::answers);
}

#[test]
fn text_travels_in_any_pieces() {
    throw(20_000, 100, |bytes| {
        any::text(&bytes.iter().map(|byte| b"\r\n\0a"[usize::from(byte % 4)]).collect::<Vec<_>>())
    });
    throw(20_000, 100, any::text);
}

#[test]
fn random_events_never_panic_and_every_transfer_ends() {
    throw(20_000, 700, any::one);
}

#[test]
fn the_endpoint_keeps_its_limits_for_any_datagrams() {
    throw(20_000, 400, any::endpoint);
}

#[test]
fn a_pair_over_a_wire_that_may_be_too_bad_ends_and_changes_nothing() {
    throw(2000, 60, any::pair);
}

#[test]
fn a_driver_that_feeds_more_than_is_wanted_loses_no_byte() {
    let mut transfer = Transfer::send(Options::new(), Agreed::plain(Mode::Octet), Timing::default());
    let (now, mut fed, mut heard) = (Instant::now(), 0, 0);
    let mut step = transfer.resume(now, Event::Continue);
    let outcome = loop {
        let event = match step {
            Step::Done(outcome) => break outcome,
            Step::Send(Packet::Data { payload, .. }) => {
                heard += payload.len();
                Event::Continue
            }
            Step::Send(_) | Step::Push(_) => Event::Continue,
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

/// A peer that sends a request, then packets without end, and never makes progress.
struct Babbler {
    request: Packet,
    says: Vec<Packet>,
    at: Option<Instant>,
    every: Duration,
}

impl Peer for Babbler {
    fn act(&mut self, now: Instant, cue: Cue) -> Vec<Packet> {
        match cue {
            Cue::Begin => {
                self.at = Some(now + self.every);
                vec![self.request.clone()]
            }
            Cue::Packet(Packet::Oack(_)) => vec![Packet::Ack(0)],
            Cue::Packet(_) => Vec::new(),
            Cue::Wake => {
                self.at = (!self.says.is_empty()).then_some(now + self.every);
                self.says.pop().into_iter().collect()
            }
        }
    }

    fn wake_at(&self) -> Option<Instant> {
        self.at
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
            .map(|_| match Dice(&random_bytes(&mut random, 30)).packet() {
                Packet::Ack(_) if reads => Packet::Ack(*random.choice(&[0, 0, 5, 9, 65535]).unwrap()),
                Packet::Data { payload, .. } => Packet::Data { block: random.u16(2..), payload: payload.slice(..0) },
                Packet::Error { .. } => Packet::Ack(0),
                // Another request would be another transfer.
                Packet::Rrq(_) | Packet::Wrq(_) | Packet::Oack(_) => Packet::Ack(0),
                other => other,
            })
            .collect();
        let request = if reads { Packet::Rrq(request.into()) } else { Packet::Wrq(request.into()) };
        let mut babbler = Babbler { request, says, at: None, every: ms(10) };
        let mut server = Server::new(Source::of(&[7; 9000]), None, Timing::default());
        let (mut up, mut down) =
            (Wire::new(LinkConditions::lossless(ms(5)), seed), Wire::new(LinkConditions::lossless(ms(5)), seed));
        run(&mut babbler, &mut server, &mut up, &mut down, secs(100));
        // The client acknowledges a block that was never sent.
        let expected = if reads { Outcome::Refused(Refusal::bad_request()) } else { Outcome::TimedOut };
        assert_eq!(server.outcome(), Some(&expected));
        let sent = server.record().unwrap().sent;
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
            client.act(now, Cue::Begin);
            let answer = client.act(now, Cue::Packet(Packet::Oack(options(granted))));
            assert!(matches!(answer[..], [Packet::Error { code: ErrorCode::OPTION_NEGOTIATION, .. }]), "{granted}");
            assert_eq!(client.outcome, Some(Outcome::Refused(Refusal::bad_options())));
        }
    }
}
