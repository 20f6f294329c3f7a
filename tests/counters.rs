//! Counters and records: everything is counted, and nothing twice.
#![cfg(feature = "net")]

mod common;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use common::{LONG, Peer, Serving, eventually, file, size};
use tuffet::{
    Client, Handler, Refusal, Request, Source,
    packet::Packet,
    read,
    stats::{Counter, Counters},
    transfer::Outcome,
    write,
};

fn files() -> impl Handler {
    let reads = read(async |request: Request| match request.path() {
        "missing" => Err(Refusal::not_found()),
        "secret" => Err(Refusal::denied()),
        "broken" => Err(Refusal::internal()),
        _ => Ok(Source::from(file(size(&request))).with_origin(format!("made up: {}", request.path()))),
    });
    reads.or(write(async |_: Request, data: Source| data.collect(5000).await.map(drop)))
}

fn get(serving: &Serving, name: &str) -> Result<tuffet::stats::Record, tuffet::Error> {
    let client = Client::new(serving.addr());
    smol::block_on(client.get(name, async |data| data.collect(1 << 20).await.map(drop)))
}

/// In virtual time: on a slow machine a client would ask twice, and one that is silent would not be the only one.
#[cfg(feature = "sim")]
#[test]
fn each_outcome_is_counted_under_its_name() {
    use tuffet::options::Direction;

    let server = common::simulated::Simulated::with(files(), |builder| builder.patience(Duration::from_secs(3)));
    let mut peer = server.peer();
    peer.rrq("1000", &[]).expect_data(1, &file(1000)[..512]);
    peer.take_rest(1000);
    for (name, code) in [("missing", 1), ("secret", 2), ("broken", 0), ("../x", 2)] {
        server.peer().rrq(name, &[]).expect_error(code);
    }
    let mut peer = server.peer();
    peer.wrq("fits", &[]).expect(Packet::Ack(0));
    peer.data(1, [7; 512]);
    peer.expect(Packet::Ack(1));
    peer.data(2, [7; 188]);
    peer.expect(Packet::Ack(2));
    let mut peer = server.peer();
    peer.wrq("too-big", &[]).expect(Packet::Ack(0));
    for block in 1..10 {
        peer.data(block, [7; 512]);
        peer.expect(Packet::Ack(block));
    }
    peer.data(10, [7; 512]);
    peer.expect_error(3);
    let mut peer = server.peer();
    peer.rrq("100", &[("tsize", "0")]).expect_oack(&[("tsize", "100")]);
    peer.error(8);
    let mut peer = server.peer();
    peer.rrq("2000", &[]).expect_data(1, &file(2000)[..512]);
    peer.error(0);
    let mut silent = server.peer();
    silent.rrq("2000", &[]).expect_data(1, &file(2000)[..512]);
    let mut silent = server.peer();
    silent.rrq("600", &[]).expect_data(1, &file(600)[..512]);
    silent.ack(1);
    let records: Vec<_> = (0..11).map(|_| server.record()).collect();

    let counters = server.counters();
    assert_eq!((counters.requests, counters.running), (11, 0));
    assert_eq!((counters.repeated, counters.over_limit, counters.unanswered), (0, 0, 0));
    let reads = &counters.reads;
    assert_eq!((reads.complete, reads.refused, reads.failed), (1, 3, 1));
    assert_eq!((reads.probe, reads.aborted, reads.timed_out, reads.probably_complete), (1, 1, 1, 1));
    assert_eq!((counters.writes.complete, counters.writes.refused, counters.writes.total()), (1, 1, 2));
    assert_eq!(counters.refused, [(1, 1), (2, 2), (3, 1)].into());
    let sum = |direction| {
        records.iter().filter(|record| record.direction == direction).map(|record| record.bytes).sum::<u64>()
    };
    assert_eq!((counters.bytes_read, counters.bytes_written), (sum(Direction::Read), sum(Direction::Write)));
    assert!(counters.bytes_read >= 1000 && counters.bytes_written >= 700);
    assert_eq!(counters.retransmits, records.iter().map(|record| record.retransmits).sum::<u64>());
    assert!(counters.retransmits > 0);
    assert!(server.records().is_empty(), "one record of each transfer");
    // Each of them has a number of its own.
    let mut ids: Vec<_> = records.iter().map(|record| record.id).collect();
    ids.sort_unstable();
    assert_eq!(ids, (1..=11).collect::<Vec<_>>());
}

#[test]
fn a_record_tells_what_was_asked_and_where_it_came_from() {
    let serving = Serving::new(files());
    let mut peer = Peer::new(serving.addr());
    peer.rrq("/./100", &[("blksize", "600"), ("color", "blue")]).expect_oack(&[("blksize", "600")]);
    peer.ack(0);
    peer.expect_data(1, file(100));
    peer.ack(1);
    let record = serving.record();
    assert_eq!((record.filename.as_str(), record.path.as_str()), ("/./100", "100"));
    assert_eq!(record.origin.as_deref(), Some("made up: 100"));
    assert_eq!((record.size, record.blksize, record.windowsize), (Some(100), 600, 1));
    assert_eq!(record.asked.value("color"), Some("blue"));
    let line = record.to_string();
    assert!(line.contains(" read 100 complete 100 bytes "), "{line}");
    assert!(line.ends_with(" from made up: 100 asked blksize=600 color=blue granted blksize=600"), "{line}");
}

#[test]
fn unanswered_requests_are_counted() {
    let serving = Serving::with(files(), |builder| builder.max_transfers(1));
    let mut one = Peer::new(serving.addr());
    one.rrq("600", &[]).expect_data(1, &file(600)[..512]);
    // The same once more.
    let tid = std::mem::replace(&mut one.to, serving.addr());
    one.send(Packet::Rrq(common::request("600", &[])));
    one.expect_again();
    one.to = tid;
    // A client that has just sent a packet is not evicted.
    one.expect_second(600);
    let mut two = Peer::new(serving.addr());
    two.rrq("600", &[]);
    two.send_bytes(b"\0\x09nonsense");
    two.send(Packet::Ack(7));
    eventually("all was seen", || serving.counters().received >= 6);
    let counters = serving.counters();
    assert_eq!((counters.requests, counters.repeated, counters.over_limit, counters.running), (3, 1, 1, 1));
    // An ACK to the listening port belongs to no transfer.
    assert_eq!((counters.malformed, counters.unknown_tids), (1, 1));
    assert!(counters.sent >= 2);
    let unanswered = serving.unanswered();
    assert_eq!((unanswered.len(), unanswered[0].requests), (1, 1));
    assert_eq!((unanswered[0].client.to_string().as_str(), unanswered[0].reason), ("127.0.0.1", "too many transfers"));
    serving.abort();
    let record = serving.record();
    assert_eq!((record.outcome, record.bytes), (Outcome::Stopped, 512));
    eventually("it is counted", || serving.counters().reads.stopped == 1);
}

#[test]
fn bytes_are_counted_while_they_travel() {
    let serving = Serving::new(files());
    let mut peer = Peer::new(serving.addr());
    peer.rrq("2000", &[]).expect_data(1, &file(2000)[..512]);
    peer.ack(1);
    peer.expect_data(2, &file(2000)[512..1024]);
    eventually("the first block is counted", || serving.counters().bytes_read == 512);
    peer.error(0);
    serving.record();
    eventually("and not twice", || serving.counters().running == 0);
    assert_eq!(serving.counters().bytes_read, 512);
}

#[test]
fn each_transfer_is_counted_in_one_period() {
    let periods = Arc::new(Mutex::new(Vec::<Counters>::new()));
    let (kept, own) = (periods.clone(), Counter::new("greetings", "Greetings"));
    let mut serving = Serving::with(files(), |builder| {
        let hook = move |counters: &Counters| kept.lock().unwrap().push(counters.clone());
        builder.counter(&own).shards(2).on_period(Duration::from_millis(20), hook)
    });
    for _ in 0..30 {
        get(&serving, "5000").unwrap();
        get(&serving, "missing").unwrap_err();
        own.add(2);
    }
    eventually("periods go by", || periods.lock().unwrap().len() > 2);
    serving.stop();
    serving.join();
    let (total, periods) = (serving.counters(), periods.lock().unwrap());
    let all = |count: fn(&Counters) -> u64| periods.iter().map(count).sum::<u64>();
    assert_eq!((all(|period| period.reads.complete), total.reads.complete), (30, 30));
    assert_eq!(all(|period| period.refused.values().sum()), 30);
    assert_eq!(all(|period| period.own["greetings"]), 60);
    assert_eq!(all(|period| period.received), total.received);
    assert_eq!(all(|period| period.sent), total.sent);
    assert_eq!(all(|period| period.bytes_read), total.bytes_read);
    assert_eq!(total.requests, total.repeated + total.reads.total());
}

#[test]
fn a_long_period_does_not_hold_up_the_end() {
    let mut serving = Serving::with(files(), |builder| builder.on_period(LONG * 100, |_| panic!("as a test has it")));
    get(&serving, "10").unwrap();
    serving.stop();
    serving.join();
}

/// The receive buffer of the socket is filled while the server's thread is busy.
#[cfg(target_os = "linux")]
#[test]
fn datagrams_that_the_system_drops_are_counted() {
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    let mut serving = Serving::new(read(async move |_: Request| {
        let _ = wait.lock().unwrap().recv_timeout(LONG);
        "late"
    }));
    Peer::new(serving.addr()).rrq("a", &[]);
    eventually("it is busy", || serving.counters().running == 1);
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let thousand = || (0..1000).for_each(|_| drop(socket.send_to(&[0; 1400], serving.addr())));
    eventually("the buffer is full", || {
        thousand();
        serving.counters().dropped > 0
    });
    let before = serving.counters().dropped;
    thousand();
    go.send(()).unwrap();
    serving.abort();
    serving.join();
    assert!(serving.counters().dropped >= before + 1000, "the last ones are counted too");
}
