//! Limits for each client address and in total: over them there is silence, and then it goes on.
#![cfg(all(target_os = "linux", feature = "net"))]

mod common;

use std::{
    net::UdpSocket,
    thread,
    time::{Duration, Instant},
};

use common::{Peer, Serving, eventually, file, request, size};
use tuffet::{Client, Handler, Refusal, Request, packet::Packet, read, transfer::Outcome};

fn files() -> impl Handler {
    read(async |request: Request| match size(&request) {
        0 => Err(Refusal::not_found()),
        size => Ok(file(size)),
    })
}

/// A client with another address than those of all others here.
fn peer_at(address: &str, serving: &Serving) -> Peer {
    let mut peer = Peer::new(serving.addr());
    peer.socket = UdpSocket::bind((address, 0)).unwrap();
    peer
}

#[test]
fn one_address_has_no_more_transfers_than_it_may() {
    let serving = Serving::with(files(), |builder| builder.max_transfers_per_client(5));
    let mut greedy: Vec<Peer> = (0..8).map(|_| peer_at("127.9.0.1", &serving)).collect();
    for (n, peer) in greedy.iter_mut().enumerate() {
        peer.rrq("600", &[]);
        match n < 5 {
            true => peer.expect_data(1, &file(600)[..512]),
            false => peer.expect_silence(),
        }
    }
    let mut other = peer_at("127.9.0.2", &serving);
    other.rrq("600", &[]).expect_data(1, &file(600)[..512]);
    // One that has ended makes room for one that asks again.
    greedy[0].error(0);
    serving.record();
    greedy[7].rrq("600", &[]).expect_data(1, &file(600)[..512]);
    // A repeated request is none more.
    greedy[7].rrq("600", &[]).expect_data(1, &file(600)[..512]);
    greedy[6].rrq("600", &[]).expect_silence();
}

#[test]
fn one_address_has_no_more_answers_than_it_may() {
    let serving = Serving::with(files(), |builder| builder.max_requests_per_client(20));
    let mut greedy = peer_at("127.9.0.3", &serving);
    let begin = Instant::now();
    let answered = (0..600)
        .filter(|_| {
            greedy.send(Packet::Rrq(request("missing", &[])));
            greedy.socket.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
            greedy.socket.recv(&mut [0; 600]).is_ok()
        })
        .count();
    // 200 at once, and what time has added; a second more for answers that came late.
    let most = 200.0 + 20.0 * (begin.elapsed().as_secs_f64() + 1.0);
    assert!((150.0..=most).contains(&(answered as f64)), "{answered} of {most}");
    peer_at("127.9.0.4", &serving).rrq("missing", &[]).expect_error(1);
    eventually("it recovers", || {
        greedy.rrq("9", &[]);
        greedy.socket.set_read_timeout(Some(common::SHORT)).unwrap();
        greedy.socket.recv(&mut [0; 600]).is_ok()
    });
}

#[test]
fn a_second_server_is_refused_its_address() {
    for shards in [1, 2, 4] {
        let serving = Serving::with(files(), |builder| builder.shards(shards));
        for others in [1, 2] {
            let second = tuffet::Server::builder().listen(serving.addr()).shards(others).bind();
            assert!(matches!(second, Err(tuffet::Error::Bind(at, _)) if at == serving.addr()), "{shards}, {others}");
        }
        let mut peer = Peer::new(serving.addr());
        peer.rrq("missing", &[]).expect_error(1);
    }
}

#[test]
fn no_limit_is_none() {
    let serving = Serving::with(files(), |builder| builder.max_requests_per_client(0));
    let mut peer = Peer::new(serving.addr());
    for _ in 0..12_000 {
        peer.rrq("missing", &[]).expect_error(1);
    }
}

#[test]
fn a_room_of_machines_behind_one_address_is_served() {
    let serving = Serving::new(files());
    let mut peers: Vec<Peer> = (0..500).map(|_| Peer::new(serving.addr())).collect();
    for _ in 0..10 {
        for peer in &mut peers {
            peer.rrq("missing", &[]).expect_error(1);
        }
    }
    for peer in &mut peers {
        peer.rrq("600", &[]).expect_data(1, &file(600)[..512]);
    }
    for peer in &mut peers {
        peer.ack(1);
        peer.expect_data(2, &file(600)[512..]);
        peer.ack(2);
    }
}

#[test]
fn who_never_answers_loses_its_place_to_who_asks() {
    let serving = Serving::with(files(), |builder| builder.max_transfers(40).max_transfers_per_client(40));
    // One that has answered is never among them.
    let mut slow = Peer::new(serving.addr());
    slow.rrq("2000", &[]).expect_data(1, &file(2000)[..512]);
    slow.ack(1);
    slow.expect_data(2, &file(2000)[512..1024]);
    let forged: Vec<UdpSocket> = (0..60).map(|_| UdpSocket::bind("127.9.0.5:0").unwrap()).collect();
    for socket in &forged {
        socket.send_to(&Packet::Rrq(request("600", &[("tsize", "0")])).encode(), serving.addr()).unwrap();
    }
    eventually("it is full", || serving.transfers().len() == 40);
    thread::sleep(Duration::from_millis(2100));
    let record = smol::block_on(Client::new(serving.addr()).get("600", async |data| data.collect(600).await.map(drop)));
    assert_eq!(record.unwrap().outcome, Outcome::Complete);
    slow.ack(2);
    slow.expect_data(3, &file(2000)[1024..1536]);
}

#[test]
fn who_waits_for_a_slow_handler_keeps_its_place() {
    let (go, wait) = smol::channel::bounded::<()>(1);
    let serving = Serving::with(
        read(move |_| {
            let wait = wait.clone();
            async move { wait.recv().await.map(|()| "late").map_err(|_| Refusal::internal()) }
        }),
        |builder| builder.max_transfers(1),
    );
    let mut first = Peer::new(serving.addr());
    first.rrq("slow", &[]);
    eventually("it waits", || serving.transfers().len() == 1);
    thread::sleep(Duration::from_millis(2100));
    Peer::new(serving.addr()).rrq("other", &[]).expect_silence();
    go.send_blocking(()).unwrap();
    first.expect_data(1, "late");
}

#[test]
fn nobody_gets_more_than_three_packets_unasked() {
    let serving = Serving::with(files(), |builder| builder.patience(Duration::from_secs(4)));
    let mut silent: Vec<Peer> = (0..3).map(|_| Peer::new(serving.addr())).collect();
    silent[0].rrq("100000", &[]);
    silent[1].rrq("100000", &[("windowsize", "64"), ("blksize", "1400")]);
    silent[2].wrq("up", &[]);
    (0..3).for_each(|_| drop(serving.record()));
    for (peer, most) in silent.iter().zip([(3, 516), (3, 40), (1, 40)]) {
        peer.socket.set_nonblocking(true).unwrap();
        let sizes: Vec<usize> = std::iter::from_fn(|| peer.socket.recv(&mut [0; 2000]).ok()).collect();
        assert!(sizes.len() == most.0 && sizes.iter().all(|&size| size <= most.1), "{sizes:?}");
    }
}
