//! Limits for each client address and in total: above them the server is silent, and later it serves again.
#![cfg(feature = "sim")]

mod common;

use std::time::Duration;

use common::{LONG, Link, Peer, file, files, request, simulated::Simulated};
use tuffet::packet::Packet;

#[test]
fn transfers_of_one_address_are_limited() {
    let serving = Simulated::with(files(), |builder| builder.max_transfers_per_client(5));
    let mut greedy: Vec<Peer<_>> = (0..8).map(|_| serving.peer_at([192, 0, 2, 101])).collect();
    for (n, peer) in greedy.iter_mut().enumerate() {
        peer.rrq("600", &[]);
        match n < 5 {
            true => peer.expect_data(1, &file(600)[..512]),
            false => peer.expect_silence(),
        }
    }
    let mut other = serving.peer_at([192, 0, 2, 102]);
    other.rrq("600", &[]).expect_data(1, &file(600)[..512]);
    // The end of a transfer makes room for a repeated request.
    greedy[0].error(0);
    serving.record();
    greedy[7].rrq("600", &[]).expect_data(1, &file(600)[..512]);
    // A repeated request is not another one.
    greedy[7].rrq("600", &[]).expect_data(1, &file(600)[..512]);
    greedy[6].rrq("600", &[]).expect_silence();
}

#[test]
fn requests_of_one_address_are_limited() {
    let serving = Simulated::with(files(), |builder| builder.max_requests_per_client(20));
    let mut greedy = serving.peer_at([192, 0, 2, 103]);
    let mut answered = 0;
    for _ in 0..600 {
        greedy.send(Packet::Rrq(request("missing", &[])));
        answered += usize::from(greedy.receive_within(Duration::from_millis(1)).is_some());
    }
    // 200 at once, and as many as the limit allows for the time of the waits.
    assert!((200..=220).contains(&answered), "{answered}");
    serving.peer_at([192, 0, 2, 104]).rrq("missing", &[]).expect_error(1);
    serving.pass(Duration::from_secs(1));
    greedy.rrq("9", &[]).expect_data(1, file(9));
}

#[test]
fn a_limit_of_zero_is_no_limit() {
    let serving = Simulated::with(files(), |builder| builder.max_requests_per_client(0));
    let mut peer = serving.peer();
    for _ in 0..12_000 {
        peer.rrq("missing", &[]).expect_error(1);
    }
}

#[test]
fn a_room_of_machines_behind_one_address_is_served() {
    let serving = Simulated::new(files());
    let mut peers: Vec<Peer<_>> = (0..500).map(|_| serving.peer()).collect();
    for _ in 0..10 {
        for peer in &mut peers {
            peer.rrq("missing", &[]).expect_error(1);
        }
    }
    for peer in &mut peers {
        peer.rrq("600", &[]).expect_data(1, &file(600)[..512]);
    }
    for peer in &mut peers {
        peer.take_rest(600);
    }
}

#[test]
fn the_limit_of_all_transfers_holds_under_a_flood_and_the_server_recovers() {
    let serving = Simulated::with(files(), |builder| builder.max_transfers(50));
    let clients: Vec<Peer<_>> = (0..300).map(|_| serving.peer()).collect();
    for name in ["600", "missing", "600"] {
        for client in &clients {
            client.send(Packet::Rrq(request(name, &[])));
            assert!(serving.transfers().len() <= 50);
        }
    }
    assert_eq!(serving.transfers().len(), 50, "it is full");
    // The server loses its patience with clients that never answer.
    serving.pass(LONG * 2);
    assert!(serving.transfers().is_empty());
    let mut peer = serving.peer();
    peer.rrq("600", &[]).expect_data(1, &file(600)[..512]);
    peer.expect_second(600);
}

#[test]
fn a_client_that_never_answers_loses_its_place_to_a_new_request() {
    let serving = Simulated::with(files(), |builder| builder.max_transfers(40).max_transfers_per_client(40));
    // A client that has sent an ACK is never among them.
    let mut slow = serving.peer();
    slow.rrq("2000", &[]).expect_data(1, &file(2000)[..512]);
    slow.ack(1);
    slow.expect_data(2, &file(2000)[512..1024]);
    for _ in 0..60 {
        serving.peer_at([192, 0, 2, 105]).rrq("600", &[("tsize", "0")]);
    }
    assert_eq!(serving.transfers().len(), 40, "it is full");
    serving.pass(Duration::from_millis(2100));
    serving.peer().rrq("600", &[]).expect_data(1, &file(600)[..512]);
    slow.ack(2);
    slow.expect_data(3, &file(2000)[1024..1536]);
}

#[test]
fn a_client_of_a_slow_handler_keeps_its_place() {
    let serving = Simulated::slow(Duration::from_secs(4), |builder| builder.max_transfers(1));
    let mut first = serving.peer();
    first.rrq("slow", &[]);
    assert_eq!(serving.transfers().len(), 1, "it waits");
    serving.pass(Duration::from_millis(2100));
    serving.peer().rrq("other", &[]).expect_silence();
    first.expect_data(1, "at last");
}

#[test]
fn a_silent_address_gets_three_packets_at_most() {
    let serving = Simulated::with(files(), |builder| builder.patience(Duration::from_secs(4)));
    let mut silent: Vec<Peer<_>> = (0..3).map(|_| serving.peer()).collect();
    silent[0].rrq("100000", &[]);
    silent[1].rrq("100000", &[("windowsize", "64"), ("blksize", "1400")]);
    silent[2].wrq("up", &[]);
    (0..3).for_each(|_| drop(serving.record()));
    for (peer, most) in silent.iter().zip([(3, 516), (3, 40), (1, 40)]) {
        let received = std::iter::from_fn(|| peer.socket.receive_within(Duration::ZERO));
        let sizes: Vec<usize> = received.map(|(_, bytes)| bytes.len()).collect();
        assert!(sizes.len() == most.0 && sizes.iter().all(|&size| size <= most.1), "{sizes:?}");
    }
}
