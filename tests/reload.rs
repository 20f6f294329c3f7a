//! Settings that change while the server runs, and the admission of clients.
#![cfg(feature = "net")]

mod common;

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::SeqCst},
};

use common::{Peer, Serving, eventually, file};
use tuffet::{Server, packet::Packet, read, transfer::Outcome};

#[test]
fn new_transfers_are_answered_by_the_new_terms() {
    let old = read(async |_| file(1024));
    let serving = Serving::with(old, |builder| builder.windowsize(8).blksize(512));
    let mut before = Peer::new(serving.addr());
    before.rrq("x", &[("windowsize", "4")]).expect_oack(&[("windowsize", "4")]);
    before.ack(0);
    before.expect_data(1, &file(1024)[..512]);
    let new = read(async |_| "new");
    serving
        .handle
        .reload(Server::builder().handler(new).windowsize(2).max_transfers(2).single_port(true).shards(7))
        .unwrap();

    let mut after = Peer::new(serving.addr());
    after.rrq("x", &[("windowsize", "4")]).expect_oack(&[("windowsize", "2")]);
    after.ack(0);
    after.expect_data(1, "new");
    assert_ne!(after.to, serving.addr(), "the sockets stay as they were");
    let mut third = Peer::new(serving.addr());
    third.rrq("x", &[]).expect_silence();
    after.ack(1);
    assert_eq!(serving.record().outcome, Outcome::Complete);

    before.expect_data(2, &file(1024)[512..]);
    before.expect_data(3, "");
    before.ack(3);
    let record = serving.record();
    assert_eq!((record.outcome, record.bytes), (Outcome::Complete, 1024));
}

#[test]
fn unused_settings_are_dropped() {
    struct Guard(Arc<AtomicBool>);
    impl Drop for Guard {
        fn drop(&mut self) {
            self.0.store(true, SeqCst);
        }
    }
    let dropped = Arc::new(AtomicBool::new(false));
    let guard = Guard(dropped.clone());
    let serving = Serving::new(read(async move |_| {
        let _held = &guard;
        file(600)
    }));
    let mut peer = Peer::new(serving.addr());
    peer.rrq("x", &[]).expect_data(1, &file(600)[..512]);
    serving.handle.reload(Server::builder()).unwrap();
    assert!(!dropped.load(SeqCst), "a transfer has it");
    peer.take_rest(600);
    // The admission of the shard follows with the next request.
    let mut next = Peer::new(serving.addr());
    next.rrq("x", &[]).expect_error(1);
    eventually("the old handler is gone", || dropped.load(SeqCst));
}

#[test]
fn a_client_that_is_not_admitted_gets_nothing() {
    let serving = Serving::with(read(async |_| "x"), |builder| builder.admit(|client| client.is_ipv6()));
    let mut peer = Peer::new(serving.addr());
    peer.rrq("x", &[]).expect_silence();
    peer.wrq("x", &[]).expect_silence();
    peer.send_bytes(b"\0\x01x");
    peer.send(Packet::Ack(1));
    peer.expect_silence();
    assert!(serving.records().is_empty());
    let are_counted = |requests| eventually("they are counted", || serving.counters().unanswered == requests);
    are_counted(2);

    serving.handle.reload(Server::builder().handler(read(async |_| "x"))).unwrap();
    peer.rrq("x", &[]).expect_data(1, "x");
    peer.ack(1);
    serving
        .handle
        .reload(Server::builder().handler(read(async |_| "x")).admit(|client| client != std::net::Ipv4Addr::LOCALHOST))
        .unwrap();
    assert_eq!(serving.record().outcome, Outcome::Complete);
    peer.rrq("x", &[]).expect_silence();
    are_counted(3);
}
