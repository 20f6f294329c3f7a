//! Beginnings and ends of transfers, for hooks and the page, and of the server.

use std::{
    cell::Cell,
    net::Shutdown,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use tuffet::{Client, Gen, Server, Source, read, stats::Protocol};

use super::{
    client::{Connection, get},
    common::{LONG, eventually},
    serve, serve_with,
};

/// A source that waits for a message before each chunk.
fn gated() -> (impl tuffet::Handler, smol::channel::Sender<()>) {
    let (sender, receiver) = smol::channel::unbounded::<()>();
    let handler = read(async move |_| {
        let go = receiver.clone();
        Source::from(Gen::new(async move |co| {
            co.yield_("12345").await;
            let _ = go.recv().await;
            co.yield_("67890").await;
        }))
        .with_size(10)
    });
    (handler, sender)
}

#[test]
fn observers_see_transfers_of_both_protocols() {
    let begun = Arc::new(Mutex::new(Vec::new()));
    let seen = begun.clone();
    let server = serve_with(read(async |_| "hello"), |builder| {
        builder.on_begin(move |transfer| seen.lock().unwrap().push((transfer.id, transfer.protocol)))
    });
    assert_eq!(get(&server, "/x").text(), "hello");
    let over_http = server.record();
    smol::block_on(Client::new(server.addr()).get("x", async |data| data.collect(100).await.map(drop))).unwrap();
    let over_tftp = server.record();
    assert_eq!((over_http.protocol, over_tftp.protocol), (Protocol::Http, Protocol::Tftp));
    assert_eq!(*begun.lock().unwrap(), [(over_http.id, Protocol::Http), (over_tftp.id, Protocol::Tftp)]);
    assert!(over_http.to_string().contains("over HTTP 200"), "{over_http}");
    assert!(!over_tftp.to_string().contains("HTTP"), "{over_tftp}");
    eventually("both have ended", || server.counters().running == 0);
    let counters = server.counters();
    assert_eq!((counters.reads.complete, counters.requests, counters.bytes_read), (2, 2, 10));
}

#[test]
fn a_transfer_that_runs_is_seen() {
    let (handler, go) = gated();
    let server = serve(handler);
    let mut connection = Connection::to(&server);
    connection.send("GET /slow HTTP/1.1\r\nHost: x\r\n\r\n").read_head().unwrap();
    assert_eq!(connection.read_exactly(5).unwrap(), b"12345");
    eventually("it is told", || server.transfers().first().is_some_and(|transfer| transfer.bytes == 5));
    let transfer = &server.transfers()[0];
    assert_eq!((transfer.protocol, transfer.size, transfer.path.as_str()), (Protocol::Http, Some(10), "slow"));
    go.try_send(()).unwrap();
    assert_eq!(connection.read_exactly(5).unwrap(), b"67890");
    assert_eq!(server.record().bytes, 10);
}

/// As `nc -N` and some clients of HTTP/1.0 do.
#[test]
fn a_client_that_closes_its_sending_side_gets_its_answer() {
    let (handler, go) = gated();
    let server = serve(handler);
    for version in ["1.0", "1.1"] {
        let mut connection = Connection::to(&server);
        connection.send(format!("GET /x HTTP/{version}\r\nHost: x\r\n\r\n"));
        connection.socket().shutdown(Shutdown::Write).unwrap();
        connection.read_head().unwrap();
        assert_eq!(connection.read_exactly(5).unwrap(), b"12345");
        go.try_send(()).unwrap();
        assert_eq!(connection.read_exactly(5).unwrap(), b"67890");
        assert!(connection.is_closed(), "there is no next request");
        assert_eq!(server.record().outcome.name(), "complete");
    }
}

#[test]
fn the_end_of_a_request_reaches_its_hook() {
    let (told, ends) = std::sync::mpsc::channel();
    let told = Mutex::new(told);
    let server = serve(read(async move |request: tuffet::Request| {
        let told = told.lock().unwrap().clone();
        request.on_end(move |record| told.send((record.status, record.outcome.name())).unwrap());
        "hello"
    }));
    get(&server, "/x");
    assert_eq!(ends.recv_timeout(LONG).unwrap(), (Some(200), "complete"));
}

#[test]
fn a_reload_is_for_the_next_request_of_a_connection() {
    let server = serve(read(async |_| "before"));
    let mut connection = Connection::to(&server);
    assert_eq!(connection.get("/x", &[]).text(), "before");
    server.reload(Server::builder().handler(read(async |_| "after"))).unwrap();
    assert_eq!(connection.get("/x", &[]).text(), "after");
    server.reload(Server::builder().admit(|_| false)).unwrap();
    assert!(connection.send("GET /x HTTP/1.1\r\nHost: x\r\n\r\n").is_closed(), "it is not admitted any more");
}

#[test]
fn a_stop_lets_transfers_end_and_closes_what_is_idle() {
    let (handler, go) = gated();
    let mut server = serve_with(handler, |builder| builder.drain(LONG));
    let (addr, mut idle) = (server.http[0], Connection::to(&server));
    let mut running = Connection::to(&server);
    running.send("GET /x HTTP/1.1\r\nHost: x\r\n\r\n").read_head().unwrap();
    assert_eq!(idle.head("/x").status, 200);
    assert_eq!(server.record().outcome.name(), "probe");
    server.stop();
    assert!(idle.is_closed());
    eventually("nobody listens", || std::net::TcpStream::connect(addr).is_err());
    assert!(server.is_running());
    go.try_send(()).unwrap();
    assert_eq!(running.read_exactly(10).unwrap(), b"1234567890");
    assert!(running.is_closed(), "there is no next request");
    assert_eq!(server.record().outcome.name(), "complete");
    server.join();
}

#[test]
fn a_stop_does_not_wait_for_the_head_of_a_request() {
    let mut server = serve_with(read(async |_| "x"), |builder| builder.drain(Duration::from_secs(3600)));
    let (mut nothing, mut half) = (Connection::to(&server), Connection::to(&server));
    half.send("GET /x HTTP/1.1\r\nHost: x\r\nX: ");
    let mut second = Connection::to(&server);
    assert_eq!(second.get("/x", &[]).text(), "x");
    second.send("GET /x HTTP/1.1\r\nHost: x\r\nX: ");
    server.stop();
    assert!(nothing.is_closed() && half.is_closed() && second.is_closed());
    server.join();
}

#[test]
fn an_abort_cuts_transfers_off() {
    let (handler, _go) = gated();
    let mut server = serve(handler);
    let mut running = Connection::to(&server);
    running.send("GET /x HTTP/1.1\r\nHost: x\r\n\r\n").read_head().unwrap();
    server.abort();
    server.join();
    assert!(running.read_exactly(10).is_none());
    assert_eq!(server.record().outcome.name(), "stopped");
    assert_eq!(server.counters().reads.stopped, 1);
}

#[test]
fn a_drain_is_over_some_time() {
    let (handler, _go) = gated();
    let mut server = serve_with(handler, |builder| builder.drain(Duration::from_millis(50)));
    let mut running = Connection::to(&server);
    running.send("GET /x HTTP/1.1\r\nHost: x\r\n\r\n").read_head().unwrap();
    server.stop();
    server.join();
    assert_eq!(server.record().outcome.name(), "stopped");
}

#[test]
fn the_http_thread_is_within_the_hook_and_feeds_the_watchdog() {
    thread_local!(static WITHIN: Cell<bool> = const { Cell::new(false) });
    let threads = Arc::new(AtomicUsize::new(0));
    let count = threads.clone();
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    let handler = read(async move |request: tuffet::Request| {
        if request.path() == "block" {
            let _ = wait.lock().unwrap().recv_timeout(LONG);
        }
        WITHIN.get().to_string()
    });
    let server = serve_with(handler, |builder| {
        builder.around_threads(move |thread| {
            WITHIN.set(true);
            count.fetch_add(1, SeqCst);
            thread();
        })
    });
    assert_eq!(get(&server, "/x").text(), "true");
    assert_eq!(threads.load(SeqCst), 2, "a shard, and HTTP");
    assert!(server.responds(LONG));
    let mut connection = Connection::to(&server);
    connection.send("GET /block HTTP/1.1\r\nHost: x\r\n\r\n");
    eventually("it blocks", || !server.transfers().is_empty());
    assert!(!server.responds(Duration::from_millis(20)), "a handler that blocks is noticed");
    go.send(()).unwrap();
    connection.answer();
    assert!(server.responds(LONG));
}

#[test]
fn an_address_that_is_taken_is_an_error() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap();
    let error = Server::builder().listen("127.0.0.1:0").http(addr).bind().unwrap_err();
    assert!(error.to_string().contains(&format!("cannot bind {addr}")), "{error}");
    let error = Server::builder().listen("127.0.0.1:0").http("127.0.0.1").bind().unwrap_err();
    assert!(error.to_string().contains("no address to listen on"), "{error}");
}

/// Transfers over HTTP are on the page and in the metrics.
#[cfg(feature = "status")]
#[test]
fn the_page_and_the_metrics_count_them() {
    use tuffet::status::Status;

    let status = Status::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let addr = status.addr();
    let server = serve_with(read(async |_| "hello"), |builder| builder.watch(&status));
    let _shown = status.serve(server.handle.clone()).unwrap();
    assert_eq!(get(&server, "/x").text(), "hello");
    eventually("it is counted", || server.counters().reads.complete == 1);
    let ask = |path: &str| Connection::open(addr).send(format!("GET {path} HTTP/1.1\r\nHost: {addr}\r\n\r\n")).answer();
    let metrics = ask("/metrics");
    for line in [
        "tuffet_transfers_total{direction=\"read\",outcome=\"complete\"} 1",
        "tuffet_http_transfers_total{direction=\"read\",outcome=\"complete\"} 1",
        "tuffet_http_bytes_total{direction=\"read\"} 5",
    ] {
        assert!(metrics.text().contains(line), "{line}: {}", metrics.text());
    }
    let transfers = ask("/api/transfers");
    assert!(transfers.text().contains("\"protocol\":\"http\",\"status\":200"), "{}", transfers.text());
}
