//! What one request can make the server send to somebody who never answers: the address may be forged.

mod sim;

use std::time::{Duration, Instant};

use tuffet::{
    options::Direction,
    packet::{Mode, Options, Packet, Request},
    transfer::{Outcome, Timing},
};

use sim::{Peer, Script, Server, Source, options, secs};

/// IPv4 and UDP.
const HEADERS: usize = 20 + 8;

/// All that a server sends because of one request: packets, and bytes with headers.
fn sent_unasked(request: &Request, direction: Direction) -> (usize, usize) {
    let source = Source::of(&[7; 1 << 20]);
    let mut server = Server::new(source, Some(1 << 20), Timing::default());
    let mut now = Instant::now();
    let packet = match direction {
        Direction::Read => Packet::Rrq(request.clone().into()),
        Direction::Write => Packet::Wrq(request.clone().into()),
    };
    let mut sent = server.hear(now, packet);
    let begin = now;
    while let Some(at) = server.wake_at() {
        now = now.max(at);
        sent.extend(server.wake(now));
        assert!(now - begin < secs(100));
    }
    assert_eq!(server.outcome(), Some(&Outcome::TimedOut));
    assert!(now - begin >= Timing::default().patience, "and it waits for an answer as long as ever");
    (sent.len(), sent.iter().map(|packet| packet.encode().len() + HEADERS).sum())
}

fn request(options: Options) -> Request {
    Request { filename: b"f".to_vec(), mode: Mode::Octet, options }
}

#[test]
fn a_request_without_options_brings_three_small_blocks() {
    let request = request(Options::new());
    let asked = Packet::Rrq(request.clone().into()).encode().len() + HEADERS;
    assert_eq!((asked, sent_unasked(&request, Direction::Read)), (38, (3, 3 * 544)));
    assert_eq!(sent_unasked(&request, Direction::Write), (3, 3 * 32));
}

#[test]
fn a_request_with_options_brings_no_block_at_all() {
    for text in ["blksize=65464 windowsize=64", "windowsize=65535", "tsize=0", "rollover=0", "timeout=255 blksize=8"] {
        let request = request(options(text));
        let asked = Packet::Rrq(request.clone().into()).encode().len() + HEADERS;
        for direction in [Direction::Read, Direction::Write] {
            let (packets, bytes) = sent_unasked(&request, direction);
            assert!(packets == 3 && bytes <= 3 * asked, "{text}: {bytes} bytes for {asked}");
        }
    }
}

#[test]
fn each_repeated_request_brings_one_more() {
    for text in ["", "windowsize=64"] {
        let mut script = Script::read(text, 1 << 20);
        assert_eq!(script.ask().len(), 1);
        assert_eq!(script.pass(secs(10)).len(), 2);
        for _ in 0..5 {
            assert_eq!(script.ask().len(), 1);
            assert!(script.pass(secs(2)).is_empty(), "nothing more unasked");
        }
    }
}

#[test]
fn who_has_answered_is_sent_to_for_as_long_as_before() {
    for (text, answer) in [("", "ACK 1"), ("windowsize=4", "ACK 0")] {
        let mut script = Script::read(text, 1 << 20);
        script.ask();
        script.pass(secs(10));
        assert!(!script.say(answer).is_empty(), "late, but an answer");
        let again = script.pass(Timing::default().patience - Duration::from_secs(1)).len();
        assert!(again > 5, "{again}");
    }
}
