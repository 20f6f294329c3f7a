//! Files through the server and the client, over the loopback.
#![cfg(feature = "net")]

mod common;

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr, UdpSocket},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use common::{Peer, Serving, file, ipv6, size};
use tuffet::{
    Client, Gen, Handler, Refusal, Request, ServerBuilder, Source,
    handler::Answer,
    packet::{Mode, Packet},
    read,
    transfer::Outcome,
};

/// A handler: the name of a file is its size, and uploads are kept.
#[derive(Clone, Default)]
struct Files(Arc<Mutex<HashMap<String, Vec<u8>>>>);

impl Handler for Files {
    fn read<'a>(&'a self, request: &'a Request) -> Answer<'a, Source> {
        Box::pin(async {
            let kept = self.0.lock().unwrap().get(request.path()).cloned();
            Ok(Source::from(kept.unwrap_or_else(|| file(size(request)))))
        })
    }

    fn write<'a>(&'a self, request: &'a Request, data: Source) -> Answer<'a, ()> {
        Box::pin(async {
            let bytes = data.collect(1 << 24).await?;
            self.0.lock().unwrap().insert(request.path().to_owned(), bytes);
            Ok(())
        })
    }
}

fn get(client: &Client, name: &str) -> Vec<u8> {
    let mut received = Vec::new();
    let record = smol::block_on(client.get(name, async |data| {
        received = data.collect(1 << 24).await?;
        Ok(())
    }));
    assert_eq!(record.unwrap().outcome, Outcome::Complete, "{name}");
    received
}

/// Gets a file of this size and puts another.
fn there_and_back(client: &Client, files: &Files, size: usize) {
    assert!(get(client, &size.to_string()) == file(size), "{size} bytes from the server");
    let record = smol::block_on(client.put("put", file(size))).unwrap();
    assert_eq!((record.outcome, record.bytes), (Outcome::Complete, size as u64));
    assert!(files.0.lock().unwrap().remove("put").unwrap() == file(size), "{size} bytes to the server");
}

fn sizes_and_windows(set: impl Fn(ServerBuilder) -> ServerBuilder) {
    for listen in ["127.0.0.1:0"].into_iter().chain(ipv6()) {
        let files = Files::default();
        let serving = Serving::on(&[listen], files.clone(), &set);
        for windowsize in [1, 8, 64] {
            let client = Client::new(serving.addr()).windowsize(windowsize);
            for size in [0, 1, 511, 512, 513, 1427, 1428, 1429, 1428 * 8, 1428 * 64, 1 << 20] {
                there_and_back(&client, &files, size);
            }
            for size in [0, 511, 512, 513, 5120] {
                there_and_back(&client.clone().blksize(512), &files, size);
            }
        }
        assert!(serving.records().iter().all(|record| record.outcome.is_success()));
    }
}

#[test]
fn sizes_and_windows_batched() {
    sizes_and_windows(|builder| builder);
}

#[test]
fn sizes_and_windows_one_datagram_a_call() {
    sizes_and_windows(|builder| builder.batched(false));
}

#[test]
fn block_numbers_roll_over() {
    let files = Files::default();
    let serving = Serving::new(files.clone());
    let client = Client::new(serving.addr()).blksize(8).windowsize(64);
    for blocks in [65535, 65536, 70000] {
        there_and_back(&client, &files, blocks * 8);
    }
}

#[test]
fn the_largest_blocks() {
    for batched in [true, false] {
        let files = Files::default();
        let serving = Serving::with(files.clone(), |builder| builder.blksize(65464).batched(batched));
        let client = Client::new(serving.addr()).blksize(65464).windowsize(4);
        for size in [65463, 65464, 65465, 65464 * 7, 1 << 20] {
            there_and_back(&client, &files, size);
        }
        assert!(serving.records().iter().all(|record| record.blksize == 65464));
    }
}

#[test]
fn netascii_both_ways() {
    let files = Files::default();
    let serving = Serving::new(files.clone());
    let text = "one\ntwo\r\n\rthree\n".repeat(300).into_bytes();
    for windowsize in [1, 8] {
        let client = Client::new(serving.addr()).mode(Mode::Netascii).windowsize(windowsize);
        smol::block_on(client.put("text", text.clone())).unwrap();
        assert!(files.0.lock().unwrap()["text"] == text);
        assert!(get(&client, "text") == text);
        let wire = get(&client.mode(Mode::Octet), "text");
        assert!(wire == text, "the file is kept as it was, not as it travelled");
    }
}

#[test]
fn chunks_of_any_size() {
    let serving = Serving::new(tuffet::read(async |request: Request| {
        let (_, step) = request.path().split_once('/').ok_or(Refusal::not_found())?;
        let step: usize = step.parse().map_err(|_| Refusal::not_found())?;
        let all = file(size(&request));
        Ok::<_, Refusal>(Gen::new(async move |co| {
            for chunk in all.chunks(step) {
                co.yield_(chunk.to_vec()).await;
            }
        }))
    }));
    let client = Client::new(serving.addr());
    for (size, step) in [(5000, 1), (20_000, 7), (100_000, 1428), (100_000, 1429), (1 << 20, 1 << 16)] {
        assert!(get(&client, &format!("{size}/{step}")) == file(size), "{size} in steps of {step}");
    }
}

#[test]
fn a_generator_may_wait_for_timers_and_threads() {
    let serving = Serving::new(tuffet::read(async |_: Request| {
        Gen::new(async |co| {
            for n in 0..5u8 {
                smol::Timer::after(std::time::Duration::from_millis(3)).await;
                let chunk = smol::unblock(move || vec![n; 300]).await;
                co.yield_(chunk).await;
            }
        })
    }));
    let expected: Vec<u8> = (0..5).flat_map(|n| [n; 300]).collect();
    assert_eq!(get(&Client::new(serving.addr()), "slow"), expected);
}

#[test]
#[cfg(target_os = "linux")]
fn the_address_that_was_asked_answers() {
    for single_port in [false, true] {
        let serving = Serving::on(&["0.0.0.0:0"], Files::default(), |builder| builder.single_port(single_port));
        for ip in ["127.0.0.1", "127.0.0.2", "127.9.8.7"] {
            let mut peer = Peer::new(SocketAddr::new(ip.parse().unwrap(), serving.addr().port()));
            peer.rrq("600", &[]).expect_data(1, &file(600)[..512]);
            assert_eq!(peer.to.ip(), ip.parse::<IpAddr>().unwrap());
            peer.expect_second(600);
            assert_eq!(peer.to.ip(), ip.parse::<IpAddr>().unwrap());
            peer.ack(2);
            assert_eq!(serving.record().local.ip(), ip.parse::<IpAddr>().unwrap());
            peer.rrq("../x", &[]).expect_error(2);
            assert_eq!(peer.to.ip(), ip.parse::<IpAddr>().unwrap());
            assert_eq!(serving.record().local.ip(), ip.parse::<IpAddr>().unwrap());
        }
    }
    if ipv6().is_some() {
        let serving = Serving::on(&["[::]:0"], Files::default(), |builder| builder);
        assert_eq!(get(&Client::new(SocketAddr::new("::1".parse().unwrap(), serving.addr().port())), "9"), file(9));
    }
}

#[test]
fn several_addresses() {
    let files = Files::default();
    let addresses: Vec<_> = ["127.0.0.1:0", "127.0.0.1:0"].into_iter().chain(ipv6()).collect();
    let serving = Serving::on(&addresses, files.clone(), |builder| builder);
    assert_eq!(serving.addrs.len(), addresses.len());
    for addr in &serving.addrs {
        there_and_back(&Client::new(*addr), &files, 3000);
    }
}

#[test]
fn a_single_port() {
    let files = Files::default();
    let serving = Serving::with(files.clone(), |builder| builder.single_port(true));
    there_and_back(&Client::new(serving.addr()), &files, 100_000);
    let mut peer = Peer::new(serving.addr());
    peer.rrq("100", &[]).expect_data(1, file(100));
    assert_eq!(peer.to, serving.addr());
}

#[test]
fn a_range_of_ports() {
    // Whether a port is free shows only when it is bound, so the ranges are tried one by one.
    let bind = |low: u16| {
        let range = low..=low + 2;
        let free = range.clone().filter(|port| UdpSocket::bind(("127.0.0.1", *port)).is_ok()).count();
        (free == 3).then(|| (range.clone(), Serving::with(Files::default(), |builder| builder.port_range(range))))
    };
    let (range, serving) = (21_000..32_000).step_by(3).find_map(bind).unwrap();
    for _ in 0..20 {
        let mut peer = Peer::new(serving.addr());
        peer.rrq("10", &[]).expect_data(1, file(10));
        assert!(range.contains(&peer.to.port()), "{}", peer.to);
        peer.ack(1);
        let earlier = peer.to;
        peer.rrq("11", &[]).expect_data(1, file(11));
        assert!(range.contains(&peer.to.port()), "{}", peer.to);
        assert_ne!(peer.to, earlier, "the same port twice in succession");
        peer.ack(1);
        peer.rrq("../x", &[]).expect_error(2);
        assert!(range.contains(&peer.to.port()), "{}", peer.to);
    }
}

#[test]
fn a_range_without_a_free_port() {
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let bound = tuffet::Server::builder().listen("127.0.0.1:0").port_range(port..=port).bind();
    assert!(matches!(bound, Err(tuffet::Error::Bind(address, _)) if address.port() == port));
}

#[test]
#[cfg(target_os = "linux")]
fn shards() {
    for shards in [2, 4] {
        let files = Files::default();
        let serving = Serving::with(files.clone(), |builder| builder.shards(shards));
        for _ in 0..8 {
            there_and_back(&Client::new(serving.addr()), &files, 10_000);
        }
        let mut peers: Vec<Peer> = (0..40).map(|_| Peer::new(serving.addr())).collect();
        let mut tids = std::collections::HashSet::new();
        for peer in &mut peers {
            peer.rrq("600", &[]).expect_data(1, &file(600)[..512]);
            tids.insert(peer.to);
        }
        assert_eq!(serving.transfers().len(), 40);
        assert!(tids.len() > 1, "all in one shard");
        for peer in &mut peers {
            peer.take_rest(600);
        }
        common::eventually("all are over", || serving.transfers().is_empty());
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_repeated_request_reaches_the_shard_that_has_it() {
    let (calls, counted) = (Arc::new(AtomicUsize::new(0)), 30);
    let counter = calls.clone();
    let handler = read(async move |_: Request| {
        counter.fetch_add(1, SeqCst);
        vec![7; 600]
    });
    let serving = Serving::with(handler, |builder| builder.shards(2));
    let mut peers: Vec<Peer> = (0..counted).map(|_| Peer::new(serving.addr())).collect();
    for peer in &mut peers {
        peer.rrq("file", &[]).expect_data(1, [7; 512]);
        let tid = peer.to;
        for _ in 0..3 {
            peer.to = serving.addr();
            peer.send(Packet::Rrq(common::request("file", &[])));
            peer.expect_again();
        }
        peer.to = tid;
    }
    assert_eq!((calls.load(SeqCst), serving.transfers().len()), (counted, counted));
}

#[test]
#[cfg(target_os = "linux")]
fn a_broadcast_is_answered_from_the_address_of_the_interface() {
    let serving = Serving::on(&["0.0.0.0:0"], read(async |request: Request| file(size(&request))), |builder| builder);
    let mut peer = Peer::new(std::net::SocketAddr::from(([127, 255, 255, 255], serving.addr().port())));
    peer.socket.set_broadcast(true).unwrap();
    peer.rrq("600", &[]).expect_data(1, &file(600)[..512]);
    assert_eq!(peer.to.ip(), std::net::Ipv4Addr::LOCALHOST);
    peer.expect_second(600);
}

#[test]
#[cfg(target_os = "linux")]
fn a_second_server_is_refused_its_address() {
    for shards in [1, 2, 4] {
        let serving = Serving::with(read(async |_: Request| Err::<&str, _>(Refusal::not_found())), |builder| {
            builder.shards(shards)
        });
        for others in [1, 2] {
            let second = tuffet::Server::builder().listen(serving.addr()).shards(others).bind();
            assert!(matches!(second, Err(tuffet::Error::Bind(at, _)) if at == serving.addr()), "{shards}, {others}");
        }
        let mut peer = Peer::new(serving.addr());
        peer.rrq("missing", &[]).expect_error(1);
    }
}

/// In the middle of a file the machine is switched off and on. Its boot loader uses the same port each time.
#[test]
fn a_client_that_is_reset_is_served_anew() {
    // Far more than the test takes: the transfer before does not end by itself.
    let serving = Serving::with(Files::default(), |builder| builder.patience(Duration::from_secs(3600)));
    let mut peer = Peer::new(serving.addr());
    peer.rrq("5000", &[]).expect_data(1, &file(5000)[..512]);
    peer.ack(1);
    peer.expect_data(2, &file(5000)[512..1024]);
    let request = Packet::Rrq(common::request("5000", &[])).encode();
    common::eventually("another transfer has begun", || {
        peer.socket.send_to(&request, serving.addr()).unwrap();
        let received = |_| peer.receive_within(common::SHORT);
        (0..10).map_while(received).any(|(from, _)| from != peer.to)
    });
    assert!(matches!(serving.record().outcome, Outcome::Replaced(_)));
}
