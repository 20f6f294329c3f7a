//! The server and real clients, datagram by datagram, in virtual time.
#![cfg(feature = "sim")]

mod common;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use common::{Link, Peer, file, guard, request, simulated::Simulated, size};
use tuffet::{Gen, Handler, Refusal, Request, packet::Packet, read, transfer::Outcome};

/// Files of the size that their name says; `x` is not there.
fn files() -> impl Handler {
    read(async |request: Request| (request.path() != "x").then(|| file(size(&request))))
}

#[test]
fn a_repeated_request_is_answered_again_by_the_same_session() {
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = calls.clone();
    let serving = Simulated::new(read(move |request: Request| {
        counted.fetch_add(1, SeqCst);
        file(size(&request))
    }));
    let mut peer = serving.peer();
    for options in [&[][..], &[("tsize", "0")]] {
        peer.rrq("600", options).receive();
        for _ in 0..5 {
            let tid = std::mem::replace(&mut peer.to, serving.addr());
            peer.send(Packet::Rrq(request("600", options)));
            peer.expect_again();
            peer.to = tid;
        }
        if !options.is_empty() {
            peer.ack(0);
            peer.expect_data(1, &file(600)[..512]);
        }
        peer.take_rest(600);
        assert_eq!(serving.record().outcome, Outcome::Complete);
    }
    assert_eq!(calls.load(SeqCst), 2);
    assert!(serving.records().is_empty());
}

#[test]
fn a_request_that_is_repeated_before_the_handler_answers_is_one_session() {
    let serving = Simulated::slow(Duration::from_secs(3), |builder| builder);
    let mut peer = serving.peer();
    peer.rrq("slow", &[]);
    assert_eq!(serving.transfers().len(), 1, "the handler was asked");
    for _ in 0..5 {
        peer.rrq("slow", &[]).expect_silence();
    }
    peer.expect_data(1, "at last");
    peer.ack(1);
    assert_eq!(serving.record().outcome, Outcome::Complete);
    peer.expect_silence();
    assert!(serving.records().is_empty());
}

#[test]
fn another_request_from_the_same_port_replaces_the_session() {
    let (held, dropped) = guard();
    let serving = Simulated::new(read(move |request: Request| {
        let held = held.lock().unwrap().take();
        Gen::new(async move |co| {
            let _held = held;
            for _ in 0..size(&request) {
                co.yield_(vec![7; 512]).await;
            }
        })
    }));
    let mut peer = serving.peer();
    peer.rrq("9/a", &[]).expect_data(1, [7; 512]);
    let old = peer.to;
    // Another file.
    peer.rrq("9/b", &[]).expect_data(1, [7; 512]);
    dropped.recv_timeout(common::LONG).expect("the coroutine of the old session should be gone");
    let record = serving.record();
    assert!(matches!(record.outcome, Outcome::Replaced(_)), "{record}");
    assert_eq!(record.path, "9/a");
    assert_ne!(peer.to, old, "what is on its way to the old one is nothing to the new one");
    peer.ack(1);
    peer.expect_data(2, [7; 512]);
    // The same file again, right after an ACK: a repeated request that came late.
    let tid = peer.to;
    for _ in 0..3 {
        peer.to = serving.addr();
        peer.send(Packet::Rrq(request("9/b", &[])));
        peer.expect_nothing_new();
    }
    peer.to = tid;
    peer.ack(2);
    peer.expect_data(3, [7; 512]);
    // And after some silence: the machine was reset.
    serving.pass(Duration::from_millis(1200));
    peer.to = serving.addr();
    peer.send(Packet::Rrq(request("9/b", &[])));
    peer.expect_data(1, [7; 512]);
    assert_eq!((serving.record().path.as_str(), serving.transfers().len()), ("9/b", 1));
    // A late packet to the old transfer is not treated as foreign.
    let new = std::mem::replace(&mut peer.to, tid);
    peer.ack(1);
    peer.expect_nothing_new();
    peer.to = new;
    peer.ack(1);
    peer.expect_data(2, [7; 512]);
    // The other direction.
    peer.wrq("9/b", &[]).expect_error(2);
    assert!(matches!(serving.record().outcome, Outcome::Replaced(_)));
    assert!(matches!(serving.record().outcome, Outcome::Refused(_)));
}

#[test]
fn one_port_may_ask_for_one_file_after_the_other() {
    for single_port in [false, true] {
        let serving = Simulated::with(files(), |builder| builder.single_port(single_port));
        let mut peer = serving.peer();
        let begin = serving.now();
        for round in 0..12 {
            if round % 3 == 2 {
                peer.rrq("1408", &[("tsize", "0"), ("blksize", "1408")]);
                peer.expect_oack(&[("tsize", "1408"), ("blksize", "1408")]);
                peer.ack(0);
                peer.expect_data(1, file(1408));
                peer.ack(1);
                peer.expect_data(2, []);
                peer.ack(2);
                // pxelinux says so after the end, too.
                peer.error(0);
            } else {
                peer.rrq("x", &[("tsize", "0"), ("blksize", "1408")]).expect_error(1);
            }
        }
        assert_eq!(serving.now(), begin, "each is answered at once");
        let mut outcomes: Vec<Outcome> = (0..12).map(|_| serving.record().outcome).collect();
        outcomes.retain(|outcome| *outcome != Outcome::Refused(Refusal::not_found()));
        assert_eq!(outcomes, [const { Outcome::Complete }; 4]);
        peer.expect_silence();
    }
}

#[test]
fn eight_requests_from_rising_ports() {
    let serving = Simulated::new(files());
    let mut peers: Vec<Peer<_>> = (0..8).map(|_| serving.peer()).collect();
    for peer in &mut peers {
        peer.rrq("2000", &[("tsize", "0"), ("blksize", "1024")]);
    }
    for peer in &mut peers {
        peer.expect_oack(&[("tsize", "2000"), ("blksize", "1024")]);
    }
    let (winner, losers) = peers.split_first_mut().unwrap();
    losers.iter().for_each(|loser| loser.error(0));
    winner.ack(0);
    winner.expect_data(1, &file(2000)[..1024]);
    winner.ack(1);
    winner.expect_data(2, &file(2000)[1024..]);
    winner.ack(2);
    let outcomes: Vec<Outcome> = (0..8).map(|_| serving.record().outcome).collect();
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == Outcome::Probe).count(), 7, "{outcomes:?}");
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == Outcome::Complete).count(), 1, "{outcomes:?}");
}

#[test]
fn a_foreign_tid_gets_error_5_and_the_transfer_goes_on() {
    let serving = Simulated::new(files());
    let (mut peer, mut foreign) = (serving.peer(), serving.peer());
    peer.rrq("1000", &[]).expect_data(1, &file(1000)[..512]);
    foreign.to = peer.to;
    foreign.ack(1);
    foreign.expect_error(5);
    foreign.data(1, "x");
    foreign.expect_again();
    peer.expect_nothing_new();
    peer.take_rest(1000);
    assert_eq!(serving.record().outcome, Outcome::Complete);
}

#[test]
fn an_error_is_never_answered_with_an_error() {
    let serving = Simulated::new(files());
    let (mut peer, mut foreign) = (serving.peer(), serving.peer());
    peer.rrq("1000", &[]).expect_data(1, &file(1000)[..512]);
    for to in [peer.to, serving.addr()] {
        foreign.to = to;
        foreign.error(5);
        foreign.error(0);
        foreign.send(Packet::Oack([("blksize", "9")].into_iter().collect()));
        foreign.send_bytes(&[0, 5]);
        foreign.send_bytes(&[0, 9, 1, 1]);
        foreign.send_bytes(&[0]);
        foreign.send_bytes(&[]);
        foreign.expect_silence();
    }
    peer.error(8);
    peer.expect_nothing_new();
    assert!(matches!(serving.record().outcome, Outcome::Aborted { code: tuffet::ErrorCode(8), .. }));
}

#[test]
fn error_5_is_rate_limited() {
    let serving = Simulated::new(files());
    let (mut peer, foreign) = (serving.peer(), serving.peer());
    peer.rrq("10", &[]).expect_data(1, file(10));
    let mut answers = 0;
    for _ in 0..40 {
        (0..25).for_each(|_| foreign.socket.send_to(&Packet::Ack(1).encode(), peer.to));
        serving.pass(Duration::from_millis(1));
        answers += std::iter::from_fn(|| foreign.socket.receive_within(Duration::ZERO)).count();
    }
    assert!((1..=160).contains(&answers), "{answers} answers to 1000 packets");
    peer.ack(1);
    assert_eq!(serving.record().outcome, Outcome::Complete);
}

#[test]
fn a_stray_packet_to_the_listening_port_gets_nothing() {
    let serving = Simulated::new(files());
    let mut peer = serving.peer();
    peer.data(1, "x");
    peer.ack(0);
    peer.ack(1);
    peer.error(0);
    peer.expect_silence();
}

#[test]
fn a_late_error_after_the_end_gets_nothing() {
    let serving = Simulated::new(files());
    let mut peer = serving.peer();
    peer.rrq("10", &[]).expect_data(1, file(10));
    peer.ack(1);
    assert_eq!(serving.record().outcome, Outcome::Complete);
    peer.error(0);
    peer.ack(1);
    peer.expect_silence();
    assert!(serving.records().is_empty());
}

#[test]
fn a_request_without_nul_gets_error_4() {
    let serving = Simulated::new(files());
    for bytes in [&b"\0\x01"[..], b"\0\x01file", b"\0\x01file\0", b"\0\x01file\0octet", b"\0\x01\0octet\0"] {
        let mut peer = serving.peer();
        peer.send_bytes(bytes);
        peer.expect_error(4);
    }
    let mut peer = serving.peer();
    peer.send_bytes(b"\0\x02file\0mail\0");
    peer.expect_error(4);
    // The last NUL of the options and the last value may be missing.
    for options in [&b"blksize\x001000"[..], b"blksize\x001000\0garbage", b"multicast\0\0blksize\x001000\0\0junk"] {
        let mut peer = serving.peer();
        peer.send_bytes(&[b"\0\x011001\0OcTet\0", options].concat());
        peer.expect_oack(&[("blksize", "1000")]);
        peer.ack(0);
        peer.expect_data(1, &file(1001)[..1000]);
        peer.error(0);
    }
}

#[test]
fn too_many_transfers_are_met_with_silence() {
    let serving = Simulated::with(files(), |builder| builder.max_transfers(2).max_transfers_per_client(2));
    let mut peers: Vec<Peer<_>> = (0..3).map(|_| serving.peer()).collect();
    peers[0].rrq("10", &[]).expect_data(1, file(10));
    peers[1].rrq("10", &[]).expect_data(1, file(10));
    peers[2].rrq("10", &[]).expect_silence();
    // A client with a transfer may begin another one in its place.
    peers[1].rrq("11", &[]).expect_data(1, file(11));
    assert!(matches!(serving.record().outcome, Outcome::Replaced(_)));
    peers[0].ack(1);
    assert_eq!(serving.record().outcome, Outcome::Complete);
    peers[2].rrq("10", &[]).expect_data(1, file(10));
    peers[0].rrq("10", &[]).expect_silence();
}

#[test]
fn a_handler_refuses_with_each_code() {
    let serving = Simulated::new(read(async |request: Request| {
        let code = size(&request) as u16;
        Err::<&str, _>(Refusal::new(tuffet::ErrorCode(code), "no").because("a reason that stays here"))
    }));
    let mut peer = serving.peer();
    for code in 0..=8 {
        peer.rrq(&code.to_string(), &[("tsize", "0")]);
        peer.expect(Packet::Error { code: tuffet::ErrorCode(code), message: "no".into() });
        let outcome = serving.record().outcome;
        assert!(matches!(outcome, Outcome::Refused(_) | Outcome::Failed(_)), "{outcome}");
    }
}

#[test]
fn a_silent_refusal_is_silent() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let serving = Simulated::new(read(move |_| {
        count.fetch_add(1, SeqCst);
        Err::<&str, _>(Refusal::silent())
    }));
    let mut peer = serving.peer();
    for n in 1..=2 {
        peer.rrq("x", &[]).expect_silence();
        assert_eq!(serving.record().outcome, Outcome::Refused(Refusal::silent()));
        assert_eq!(asked.load(SeqCst), n);
    }
}

#[test]
fn the_oack_is_exact() {
    let serving = Simulated::with(files(), |builder| builder.blksize(1400).windowsize(8));
    let mut peer = serving.peer();
    let mut ask = |name, options: &[(&str, &str)], granted: &[(&str, &str)]| {
        peer.rrq(name, options).expect_oack(granted);
        peer.error(8);
    };
    ask("7", &[("BLKSIZE", "1468"), ("tsize", "0")], &[("BLKSIZE", "1400"), ("tsize", "7")]);
    ask("7", &[("tsize", "9"), ("blksize", "4"), ("windowsize", "64")], &[("tsize", "7"), ("windowsize", "8")]);
    ask("7", &[("timeout", "3"), ("timeout", "3000"), ("multicast", "")], &[("timeout", "3")]);
    // Nothing left, or an empty file: no OACK.
    for (name, options) in [("0", [("tsize", "0")]), ("0", [("multicast", "")]), ("0", [("blksize", "7")])] {
        let mut peer = serving.peer();
        peer.rrq(name, &options).expect_data(1, []);
    }
}

/// Generators are lazy, and the server must not pull more than it needs.
#[test]
fn no_chunk_is_pulled_before_the_window_has_room() {
    let made = Arc::new(AtomicUsize::new(0));
    let count = made.clone();
    let serving = Simulated::new(read(move |_| {
        let count = count.clone();
        Gen::new(async move |co| {
            for _ in 0..1_000_000 {
                count.fetch_add(1, SeqCst);
                co.yield_(vec![1; 512]).await;
            }
        })
    }));
    let mut peer = serving.peer();
    peer.rrq("endless", &[("windowsize", "4")]).expect_oack(&[("windowsize", "4")]);
    peer.expect_nothing_new();
    assert!(made.load(SeqCst) <= 4, "{}", made.load(SeqCst));
    peer.ack(0);
    (1..=4).for_each(|block| peer.expect_data(block, [1; 512]));
    peer.ack(4);
    (5..=8).for_each(|block| peer.expect_data(block, [1; 512]));
    assert!(made.load(SeqCst) <= 9, "{}", made.load(SeqCst));
    peer.error(0);
    serving.record();
}
