//! The bytes that one request makes the server send to an address that never answers: it may be forged.
#![cfg(feature = "sim")]

mod sim;

use std::time::{Duration, Instant};

use tuffet::{
    options::Direction,
    packet::{Mode, Options, Packet, Request},
    transfer::{Outcome, Timing},
};

use sim::{Cue, Peer, Script, Server, Source, blocks, ms, options, secs};

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
    let mut sent = server.act(now, Cue::Packet(packet));
    let begin = now;
    while let Some(at) = server.wake_at() {
        now = now.max(at);
        sent.extend(server.act(now, Cue::Wake));
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
fn a_client_that_has_acknowledged_data_gets_packets_as_before() {
    for (text, answers) in [("", &["ACK 1"][..]), ("windowsize=4", &["ACK 0", "ACK 4"])] {
        let mut script = Script::read(text, 1 << 20);
        script.ask();
        script.pass(secs(10));
        for answer in answers {
            assert!(!script.say(answer).is_empty(), "late, but an answer");
        }
        let again = script.pass(Timing::default().patience - Duration::from_secs(1)).len();
        assert!(again > 5, "{again}");
    }
}

/// The client acknowledges only whole windows, and restarts its timeout after each packet, also after a copy.
#[test]
fn a_client_that_waits_for_the_rest_of_a_window_gets_it() {
    let mut script = Script::read("windowsize=4", 1 << 20);
    script.ask();
    for answer in ["ACK 0", "ACK 4", "ACK 8", "ACK 12", "ACK 16"] {
        assert_eq!(script.say(answer).len(), 4);
        script.pass(ms(1));
    }
    let sent = script.pass(secs(10));
    let count = |block: &str| sent.iter().filter(|word| **word == block).count();
    let [first, inner, last] = ["DATA 17", "DATA 18", "DATA 20"].map(count);
    assert!(inner >= 4 && first == last && last >= inner + 3, "{first} {inner} {last}: {sent:?}");
}

/// Counts the packets of a server after these packets, until its patience ends: those with a full block, and others.
fn sent_after(script: &mut Script, words: &[&str]) -> (usize, usize) {
    let mut sent = script.ask();
    for words in words {
        sent.extend(script.pass(ms(1)));
        sent.extend(script.say(words));
    }
    sent.extend(script.pass(secs(40)));
    assert_eq!(script.outcome(), Some(&Outcome::TimedOut));
    let blocks = sent.iter().filter(|word| word.starts_with("DATA")).count();
    (blocks, sent.len() - blocks)
}

#[test]
fn the_window_goes_out_once_after_an_ack_of_the_options_only() {
    for windowsize in [1, 2, 16, 64] {
        let mut script = Script::read(&format!("blksize=1428 windowsize={windowsize}"), 1 << 20);
        assert_eq!(sent_after(&mut script, &["ACK 0"]), (windowsize + 3, 1));
        assert_eq!(script.record().bytes, 0);
    }
}

#[test]
fn a_client_that_has_lost_the_end_of_its_first_window_is_made_to_tell() {
    let mut script = Script::read("windowsize=8", 1 << 20);
    script.ask();
    script.pass(ms(1));
    assert_eq!(script.say("ACK 0").len(), 8);
    assert_eq!(script.pass(ms(60)), ["DATA 8"]);
    assert_eq!(script.say("ACK 5"), blocks(6..=13), "at once");
    // If the client lacks the first block, it says ACK 0 again.
    let mut script = Script::read("windowsize=8", 1 << 20);
    script.ask();
    script.pass(ms(1));
    script.say("ACK 0");
    script.pass(ms(1));
    assert_eq!(script.say("ACK 0"), ["DATA 1"]);
    assert_eq!(script.pass(secs(30)), ["DATA 1", "DATA 1"]);
}

#[test]
fn a_client_that_has_acknowledged_a_window_and_left_gets_what_its_acks_pay_for() {
    for windowsize in [1, 16, 64] {
        let mut script = Script::read(&format!("blksize=512 windowsize={windowsize}"), 1 << 20);
        let window = format!("ACK {windowsize}");
        let (blocks, others) = sent_after(&mut script, &["ACK 0", &window]);
        assert_eq!(others, 1);
        // The first window, the second, three copies of it if they are paid for, and then one block each 5 s.
        assert!((2 * windowsize..=5 * windowsize + 10).contains(&blocks), "{blocks} of {windowsize}");
    }
}

#[test]
fn an_upload_that_stops_brings_few_acks() {
    for (text, opening) in [("", 3), ("windowsize=64", 3)] {
        let mut script = Script::write(text, Mode::Octet);
        assert_eq!(sent_after(&mut script, &[]), (0, opening), "ACK 0 or the OACK");
        let mut script = Script::write(text, Mode::Octet);
        script.ask();
        let mut sent = script.say_data(1, &[7; 512]);
        sent.extend(script.pass(secs(40)));
        assert!(sent.len() <= 13 && sent.iter().all(|word| word == "ACK 1"), "{sent:?}");
    }
}

#[test]
fn the_first_packet_is_repeated_after_a_second_or_the_round_trip_that_is_known() {
    // atftp ends at a second OACK, and there are round trips of 320 ms.
    for (earlier, silent_until, repeated_by) in [(false, ms(999), ms(1001)), (true, ms(900), ms(1000))] {
        for text in ["", "tsize=0"] {
            let mut script = Script::read(text, 100);
            if earlier {
                script.ask();
                script.pass(ms(320));
                script.say(if text.is_empty() { "ACK 1" } else { "ACK 0" });
                if !text.is_empty() {
                    script.pass(ms(320));
                    script.say("ACK 1");
                }
                script.begin_anew(100);
            }
            assert_eq!(script.ask().len(), 1);
            assert_eq!(script.pass(silent_until).len(), 0);
            assert_eq!(script.pass(repeated_by - silent_until).len(), 1, "{earlier} {text}");
        }
    }
}
