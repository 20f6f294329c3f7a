//! Many at once, and limits.

use std::{
    thread,
    time::{Duration, Instant},
};

use tuffet::{
    Gen, Request, Source,
    handlers::{Directory, Memory},
    read,
};

use super::{
    client::{Connection, get},
    common::{LONG, eventually},
    put, serve, serve_with,
};

#[test]
fn a_thousand_connections_are_served_and_as_many_idle_ones_hinder_nobody() {
    let place = tempfile::tempdir().unwrap();
    let bytes: Vec<u8> = (0..100_000_u32).map(|n| (n % 251) as u8).collect();
    put(place.path(), "file", &bytes);
    let server = serve(Directory::new(place.path()).unwrap());
    let idle: Vec<Connection> = (0..500).map(|_| Connection::to(&server)).collect();
    let mut all: Vec<Connection> = (0..500).map(|_| Connection::to(&server)).collect();
    for connection in &mut all {
        connection.send("GET /file HTTP/1.1\r\nHost: x\r\n\r\n");
    }
    for connection in &mut all {
        let answer = connection.answer();
        assert!(answer.status == 200 && answer.body == bytes);
    }
    let mut idle = idle;
    for connection in &mut idle {
        assert_eq!(connection.head("/file").status, 200);
    }
    eventually("all have ended", || server.counters().running == 0);
    let counters = server.counters();
    assert_eq!((counters.reads.complete, counters.reads.probe, counters.requests), (500, 500, 1000));
    assert_eq!(counters.bytes_read, 500 * 100_000);
}

fn endless() -> impl tuffet::Handler {
    read(async |request: Request| match request.path() {
        "endless" => Source::from(Gen::new(async |co| {
            loop {
                co.yield_(vec![0; 10_000]).await;
            }
            #[allow(unreachable_code)]
            ()
        })),
        _ => Source::from("hello"),
    })
}

#[test]
fn a_client_over_the_limit_of_transfers_is_asked_to_come_again() {
    let server = serve_with(endless(), |builder| builder.max_transfers_per_client(2));
    let mut greedy: Vec<Connection> = (0..2).map(|_| Connection::to(&server)).collect();
    for connection in &mut greedy {
        connection.send("GET /endless HTTP/1.1\r\nHost: x\r\n\r\n").read_head().unwrap();
    }
    let mut third = Connection::to(&server);
    let answer = third.get("/x", &[]);
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")));
    let turned = server.unanswered();
    assert!(turned[0].reason.contains("too many transfers from this address"), "{turned:?}");
    drop(greedy);
    // On the same connection.
    eventually("there is room", || third.get("/x", &[]).status == 200);
    let counters = server.counters();
    assert!(counters.over_limit >= 1);
    let begun = counters.reads.total() + counters.running;
    assert_eq!(counters.requests, begun + counters.over_limit + counters.unanswered + counters.repeated);
}

#[test]
fn the_number_of_all_transfers_is_limited() {
    // The source of the first one waits, and not its client.
    let (go, gone) = smol::channel::bounded::<()>(1);
    let handler = read(async move |_| {
        let gone = gone.clone();
        Source::from(Gen::new(async move |co| {
            co.yield_("hello").await;
            _ = gone.recv().await;
            co.yield_("hello").await;
        }))
        .with_size(10)
    });
    let server = serve_with(handler, |builder| builder.max_transfers(1));
    let mut first = Connection::to(&server);
    first.send("GET /x HTTP/1.1\r\nHost: x\r\n\r\n").read_head().unwrap();
    assert_eq!(get(&server, "/x").status, 503);
    drop(go);
    eventually("there is room", || get(&server, "/x").status == 200);
}

#[test]
fn clients_that_neither_read_nor_send_give_way_to_others() {
    let memory = Memory::new();
    memory.insert("large", vec![0; 32 << 20]).unwrap();
    memory.insert("small", "hello").unwrap();
    let server = serve_with(memory, |builder| builder.max_transfers(2).patience(20 * LONG));
    let get_large = "GET /large HTTP/1.1\r\nHost: x\r\n\r\n";
    let (mut deaf, mut mute) = (Connection::to(&server), Connection::to(&server));
    let begun = Instant::now();
    deaf.send(get_large);
    mute.send("PUT /half HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n12345");
    eventually("both run", || server.transfers().len() == 2);
    let mut third = Connection::to(&server);
    eventually("one is evicted", || status(&mut third, get_large) == 200);
    assert!(begun.elapsed() >= Duration::from_secs(5), "they have a moment");
    eventually("the other one too", || get(&server, "/small").status == 200);
    let mut ended: Vec<_> = (0..3).map(|_| server.record()).map(|end| (end.path, end.outcome.name())).collect();
    ended.sort();
    assert_eq!(ended, [("half".into(), "replaced"), ("large".into(), "replaced"), ("small".into(), "complete")]);
    assert!(mute.is_closed());
}

#[test]
fn a_transfer_that_gives_way_leaves_one_place() {
    let (go, gone) = smol::channel::bounded::<()>(1);
    let handler = read(async move |request: Request| {
        let (is_deaf, gone) = (request.path() == "deaf", gone.clone());
        Source::from(Gen::new(async move |co| {
            co.yield_(vec![0; 5]).await;
            if is_deaf {
                loop {
                    co.yield_(vec![0; 10_000]).await;
                }
            }
            _ = gone.recv().await;
        }))
        .with_size(1 << 40)
    });
    let server = serve_with(handler, |builder| builder.max_transfers(2).patience(20 * LONG));
    let get_path = |path| format!("GET /{path} HTTP/1.1\r\nHost: x\r\n\r\n");
    let (mut first, mut deaf, mut third) = (Connection::to(&server), Connection::to(&server), Connection::to(&server));
    assert_eq!(status(&mut first, &get_path("first")), 200);
    deaf.send(get_path("deaf"));
    eventually("the deaf one is evicted", || status(&mut third, &get_path("third")) == 200);
    assert_eq!(server.record().path, "deaf");
    assert_eq!(status(&mut Connection::to(&server), &get_path("fourth")), 503);
    drop(go);
}

/// The status of the answer to a request. The body of a 503 is read, and that of no other answer.
fn status(connection: &mut Connection, request: &str) -> u16 {
    let head = connection.send(request).read_head().unwrap();
    if head.contains(" 503 ") {
        connection.read_exactly("Too many requests\n".len()).unwrap();
    }
    head[9..12].parse().unwrap()
}

#[test]
fn the_requests_of_one_client_are_limited() {
    let server = serve_with(endless(), |builder| builder.max_requests_per_client(1));
    let mut connection = Connection::to(&server);
    let answers: Vec<u16> = (0..100).map(|_| connection.get("/x", &[]).status).collect();
    let refused = answers.iter().filter(|status| **status == 503).count();
    assert_eq!(&answers[..10], [200; 10], "so many at once");
    assert!(refused >= 1, "{answers:?}");
    assert_eq!(server.counters().over_limit, refused as u64);
}

#[test]
fn a_client_that_is_not_admitted_is_not_answered() {
    let server = serve_with(endless(), |builder| builder.admit(|_| false));
    let mut connection = Connection::to(&server);
    // It may be closed before it has asked.
    assert!(connection.is_closed());
    eventually("it is counted", || server.counters().unanswered == 1);
    assert_eq!(server.unanswered()[0].reason, "the client is not admitted");
    assert!(server.records().is_empty());
}

/// In both directions at once, by many.
#[test]
fn uploads_and_downloads_side_by_side() {
    let server = serve(tuffet::handlers::Memory::new());
    let addr = server.http[0];
    thread::scope(|threads| {
        for n in 0..8_u8 {
            threads.spawn(move || {
                let bytes = vec![n; 200_000];
                let mut connection = Connection::open(addr);
                for round in 0..5 {
                    let path = format!("/{n}-{round}");
                    assert_eq!(connection.put(&path, &bytes, &[]).status, 201);
                    assert!(connection.get(&path, &[]).body == bytes);
                }
            });
        }
    });
    eventually("all have ended", || server.counters().running == 0);
    let counters = server.counters();
    assert_eq!((counters.reads.complete, counters.writes.complete), (40, 40));
    assert_eq!(counters.bytes_written, 40 * 200_000);
}
