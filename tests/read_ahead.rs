//! `tsize` of files whose source does not know their size: small ones are read ahead for it.
#![cfg(feature = "net")]

mod common;
#[allow(dead_code, reason = "its `main` is for people")]
#[path = "../examples/grub.rs"]
mod grub;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use common::{Peer, Serving, file, size};
use smol::Timer;
use tuffet::{Bytes, Gen, Refusal, Request, Source, packet::Packet, read};

/// A server of files that are generated in pieces of 100 bytes; their names begin with their sizes.
fn generating() -> Serving {
    Serving::new(read(async |request: Request| {
        let content = file(size(&request));
        Gen::new(async move |co| {
            for piece in content.chunks(100) {
                co.yield_(Bytes::copy_from_slice(piece)).await;
            }
        })
    }))
}

/// The server's first packet for an RRQ with these options.
fn first(server: &Serving, name: &str, options: &[(&str, &str)]) -> (Peer, Packet) {
    let mut peer = Peer::new(server.addr());
    let packet = peer.rrq(name, options).receive();
    (peer, packet)
}

fn oack(options: &[(&str, &str)]) -> Packet {
    Packet::Oack(options.iter().copied().collect())
}

#[test]
fn a_client_that_asks_is_told_the_size_of_a_small_generated_file() {
    let server = generating();
    for size in [1, 99, 100, 300, 1024, 20_000, 65_536] {
        let text = size.to_string();
        let (mut peer, packet) = first(&server, &text, &[("blksize", "1024"), ("tsize", "0")]);
        assert_eq!(packet, oack(&[("blksize", "1024"), ("tsize", &text)]));
        peer.ack(0);
        let content = file(size);
        let mut blocks = content.chunks(1024).chain((size % 1024 == 0).then_some(&[][..]));
        for block in 1.. {
            let Some(expected) = blocks.next() else { break };
            peer.expect_data(block, expected);
            peer.ack(block);
        }
        let record = server.record();
        assert_eq!((record.bytes, record.size), (size as u64, Some(size as u64)));
    }
}

#[test]
fn large_and_empty_files_and_files_whose_size_is_not_requested_get_no_tsize() {
    let server = generating();
    let (_peer, packet) = first(&server, "70000", &[("tsize", "0"), ("blksize", "1024")]);
    assert_eq!(packet, oack(&[("blksize", "1024")]));
    // curl takes `tsize 0` for an error.
    let (_peer, packet) = first(&server, "0", &[("tsize", "0"), ("blksize", "1024")]);
    assert_eq!(packet, oack(&[("blksize", "1024")]));
    let (_peer, packet) = first(&server, "300", &[("blksize", "1024")]);
    assert_eq!(packet, oack(&[("blksize", "1024")]));
}

#[test]
fn nothing_is_read_ahead_for_clients_that_do_not_ask_for_the_size() {
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = asked.clone();
    let handler = read(async move |_: Request| {
        let counter = counter.clone();
        Gen::new(async move |co| {
            for _ in 0..3 {
                counter.fetch_add(1, SeqCst);
                co.yield_([7; 100].to_vec()).await;
            }
        })
    });
    let server = Serving::new(handler);
    let (_peer, packet) = first(&server, "x", &[("blksize", "1024")]);
    assert_eq!((packet, asked.load(SeqCst)), (oack(&[("blksize", "1024")]), 0));
}

#[test]
fn a_source_that_is_never_out_of_empty_chunks_keeps_nobody_waiting() {
    let server = Serving::new(read(async |request: Request| {
        let empty = if request.path() == "empty" { u64::MAX } else { 0 };
        Gen::new(async move |co| {
            for _ in 0..empty {
                co.yield_("").await;
            }
            co.yield_("text").await;
        })
    }));
    let mut peer = Peer::new(server.addr());
    peer.rrq("empty", &[("tsize", "0"), ("blksize", "1024")]);
    assert_eq!(first(&server, "x", &[("tsize", "0")]).1, oack(&[("tsize", "4")]));
    peer.expect_oack(&[("blksize", "1024")]);
    peer.error(0);
}

/// The server's first packet, and its time, for a client that requests the size of a file whose lines come after these
/// pauses, in milliseconds. The client repeats its request each second.
#[cfg(feature = "sim")]
fn after_pauses(pauses: &'static [u64]) -> (Packet, Duration) {
    use tuffet::{
        ServerBuilder,
        sim::{Server, Time},
    };

    let (time, client) = (Time::new(), ([192, 0, 2, 7], 1069).into());
    let clock = time.clone();
    let handler = read(async move |_: Request| {
        let clock = clock.clone();
        Gen::new(async move |co| {
            for pause in pauses {
                clock.sleep(Duration::from_millis(*pause)).await;
                co.yield_("line\n").await;
            }
        })
    });
    let mut server = Server::at(ServerBuilder::default().handler(handler), 3, time);
    let began = server.now();
    let request = Packet::Rrq(common::request("x", &[("tsize", "0"), ("blksize", "1024")])).encode();
    for second in 0..60 {
        let repeated = began + Duration::from_secs(second);
        server.deliver_at(repeated, client, server.addr(), &request);
        loop {
            if let Some(answer) = server.sent().first() {
                return (Packet::decode(&answer.bytes).unwrap(), server.now() - began);
            }
            match server.wake_at() {
                Some(wake) if wake < repeated + Duration::from_secs(1) => server.pass(wake),
                _ => break,
            }
        }
    }
    panic!("no answer in a minute");
}

#[cfg(feature = "sim")]
#[test]
fn pauses_of_a_small_file_are_waited_for_as_long_as_clients_bear() {
    let known = |size| oack(&[("tsize", size), ("blksize", "1024")]);
    for (pauses, size, ms) in [
        (&[0, 20, 20][..], "15", 40),
        (&[1500, 0], "10", 1500),
        (&[0, 600, 600], "15", 1200),
        (&[300, 300, 300, 300, 300, 300], "30", 1800),
    ] {
        assert_eq!(after_pauses(pauses), (known(size), Duration::from_millis(ms)), "{pauses:?}");
    }
}

/// A menu of which the rest comes late, or only after the client has taken the beginning.
#[cfg(feature = "sim")]
#[test]
fn a_source_that_takes_its_time_is_not_waited_for() {
    for pauses in [&[0, 3000][..], &[3000], &[0, 1500, 1500], &[0, 1_000_000]] {
        assert_eq!(after_pauses(pauses), (oack(&[("blksize", "1024")]), Duration::from_secs(2)), "{pauses:?}");
    }
}

#[test]
fn a_request_that_is_repeated_meanwhile_changes_nothing() {
    let handler = read(async |_: Request| {
        Gen::new(async |co| {
            co.yield_("one").await;
            Timer::after(Duration::from_millis(300)).await;
            co.yield_("two").await;
        })
    });
    let server = Serving::new(handler);
    let mut peer = Peer::new(server.addr());
    let request = Packet::Rrq(common::request("x", &[("tsize", "0")]));
    for _ in 0..3 {
        peer.send(request.clone());
    }
    assert_eq!(peer.receive(), oack(&[("tsize", "6")]));
    peer.ack(0);
    peer.expect_data(1, "onetwo");
    peer.ack(1);
    server.record();
    assert!(server.records().is_empty(), "it was one transfer");
}

#[test]
fn a_failure_in_a_small_file_is_an_error_and_no_oack() {
    let handler = read(async |request: Request| {
        let name = request.path().to_owned();
        Gen::new(async move |co| {
            co.yield_(Ok("begun")).await;
            if name == "panics" {
                panic!("as a test has it");
            }
            co.yield_(Err(Refusal::denied())).await;
        })
    });
    let server = Serving::new(handler);
    for (name, code) in [("fails", 2), ("panics", 0)] {
        let mut peer = Peer::new(server.addr());
        peer.rrq(name, &[("tsize", "0")]).expect_error(code);
    }
}

#[test]
fn grub_is_told_the_size_of_its_configuration() {
    let server = Serving::new(grub::configurations());
    let name = "/grub/grub.cfg-01-52-54-00-12-34-56";
    let (mut peer, packet) = first(&server, name, &[("blksize", "1024"), ("tsize", "0")]);
    let Packet::Oack(granted) = packet else { panic!("{packet:?}") };
    peer.ack(0);
    let Packet::Data { block: 1, payload } = peer.receive() else { panic!("a block was expected") };
    peer.ack(1);
    assert!(payload.starts_with(b"# web1, asked from 127.0.0.1\nset timeout=3\n"), "{payload:?}");
    assert_eq!(granted.value("tsize"), Some(payload.len().to_string().as_str()));
}

#[test]
fn streams_are_sources_too() {
    let handler = read(async |_: Request| {
        Source::stream(futures_lite::stream::iter(["a", "b", ""].map(|text| Ok(Bytes::from(text)))))
    });
    let server = Serving::new(handler);
    assert_eq!(first(&server, "x", &[("tsize", "0")]).1, oack(&[("tsize", "2")]));
}

#[cfg(feature = "rules")]
#[test]
fn the_size_of_a_ruled_file_is_told_as_far_as_the_rules_allow() {
    use tuffet::{
        handlers::Ruled,
        rules::{Rule, Rules},
    };

    let rule = |name: &str| Rule::new("").name(name).unwrap().target("$1").unwrap();
    let rules = vec![rule("^all/(.*)"), rule("^none/(.*)").options([])];
    let generator = read(async |_: Request| Gen::new(async |co| co.yield_("menu").await));
    let server = Serving::new(Ruled::new(Rules::new(rules).unwrap(), generator));
    assert_eq!(first(&server, "all/menu", &[("tsize", "0")]).1, oack(&[("tsize", "4")]));
    let (_peer, packet) = first(&server, "none/menu", &[("tsize", "0")]);
    assert!(matches!(packet, Packet::Data { block: 1, .. }), "{packet:?}");
}

/// Netascii has another size on the wire, which is unknown at the start.
#[test]
fn no_size_is_granted_for_text() {
    let server = generating();
    let peer = Peer::new(server.addr());
    peer.send_bytes(b"\0\x01300\0netascii\0tsize\x000\0blksize\x001024\0");
    let mut peer = peer;
    assert_eq!(peer.receive(), oack(&[("blksize", "1024")]));
}
