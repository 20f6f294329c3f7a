//! Clients that would have the server take one request for two, or be busy for ever.

use std::{
    io::Write,
    sync::{Arc, Mutex},
};

use tuffet::{Handler, Refusal, Request, Source, handler::Answer};

use super::{
    client::{Connection, get},
    common::Serving,
    serve,
};

/// A store that notes each request, and takes every upload.
#[derive(Clone, Default)]
struct Store(Arc<Mutex<Vec<String>>>);

impl Store {
    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }

    fn note(&self, request: &Request, what: &str) {
        self.0.lock().unwrap().push(format!("{what} {}", request.path()));
    }
}

impl Handler for Store {
    fn read<'a>(&'a self, request: &'a Request) -> Answer<'a, Source> {
        self.note(request, "read");
        Box::pin(async { Ok("0123456789".into()) })
    }

    fn write<'a>(&'a self, request: &'a Request, data: Source) -> Answer<'a, ()> {
        self.note(request, "write");
        Box::pin(async { data.collect(1 << 20).await.map(drop).map_err(|_| Refusal::too_big()) })
    }

    fn takes_writes(&self) -> bool {
        true
    }
}

/// The statuses of the answers to these bytes, and the requests that reached the handler. Then the client sends no
/// more, and the connection is closed.
fn hears(server: &Serving, store: &Store, said: &str) -> (Vec<u16>, Vec<String>) {
    let mut connection = Connection::to(server);
    // The server may close the connection before it has read all.
    _ = connection.socket().write_all(said.as_bytes());
    _ = connection.socket().shutdown(std::net::Shutdown::Write);
    let is_head = said.starts_with("HEAD");
    let statuses = std::iter::from_fn(|| connection.read_answer(is_head)).map(|answer| answer.status).collect();
    (statuses, store.asked())
}

const SECOND: &str = "GET /second HTTP/1.1\r\nHost: x\r\n\r\n";

/// RFC 9112 section 11.2: where a request ends is not for the client to make doubtful.
#[test]
fn no_request_hides_in_another() {
    let store = Store::default();
    let server = serve(store.clone());
    // A body belongs to its request, whatever it looks like.
    let length = SECOND.len();
    for method in ["GET", "HEAD", "PUT", "DELETE", "POST"] {
        let (statuses, asked) = hears(
            &server,
            &store,
            &format!("{method} /x HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n{SECOND}"),
        );
        assert_eq!(statuses.len(), 1, "{method} {statuses:?}");
        assert!(!asked.iter().any(|asked| asked.contains("second")), "{method} {asked:?}");
        let chunks = format!(
            "{method} /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n{length:x}\r\n{SECOND}\r\n0\r\n\r\n"
        );
        let (statuses, asked) = hears(&server, &store, &chunks);
        assert_eq!(statuses.len(), 1, "{method} {statuses:?}");
        assert!(!asked.iter().any(|asked| asked.contains("second")), "{method} {asked:?}");
    }
    // A head that can be read in two ways is refused, and the connection with it.
    for lines in [
        "Content-Length: 0\r\nContent-Length: 5",
        "Content-Length: 5\r\nContent-Length: 0",
        "Content-Length: 5, 0",
        "Content-Length: +5",
        "Content-Length: -5",
        "Content-Length: 0x5",
        "Content-Length: 5 5",
        "Content-Length: 18446744073709551616",
        "Content-Length : 5",
        "Transfer-Encoding : chunked",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: \x0bchunked",
        "Transfer-Encoding:\r\n chunked",
        "X: \0",
        "X\0: y",
        "X y: z",
        ": z",
    ] {
        for method in ["GET", "PUT"] {
            let said = format!("{method} /x HTTP/1.1\r\nHost: x\r\n{lines}\r\n\r\n0\r\n\r\n{SECOND}");
            let (statuses, asked) = hears(&server, &store, &said);
            assert!(!asked.iter().any(|asked| asked.contains("second")), "{method} {lines:?}: {statuses:?} {asked:?}");
            let is_refused = |status: &u16| (400..600).contains(status) && *status != 500;
            assert!(statuses.len() <= 1 && statuses.iter().all(is_refused), "{method} {lines:?}: {statuses:?}");
        }
    }
    // Nor is there chunked data in HTTP/1.0.
    let said = format!("PUT /x HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{SECOND}");
    let (statuses, asked) = hears(&server, &store, &said);
    assert!(!asked.iter().any(|asked| asked.contains("second")), "{statuses:?} {asked:?}");
    assert_eq!(get(&server, "/x").status, 200);
}

#[test]
fn what_is_no_request_of_http_1_is_refused() {
    let store = Store::default();
    let server = serve(store.clone());
    for said in [
        "GET /x\r\n\r\n",
        "GET  /x HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /x HTTP/1.1 \r\n\r\n",
        "GET /x HTTP/2.0\r\n\r\n",
        "GET /x y HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /\x7f HTTP/1.1\r\nHost: x\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "\x16\x03\x01\x02\x00\x01\x00",
        "\0\x01file\0octet\0",
        "OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
        "CONNECT example.com:80 HTTP/1.1\r\nHost: x\r\n\r\n",
        "TRACE /x HTTP/1.1\r\nHost: x\r\n\r\n",
        "get /x HTTP/1.1\r\nHost: x\r\n\r\n",
    ] {
        let (statuses, asked) = hears(&server, &store, said);
        assert_eq!(asked, [""; 0], "{said:?}");
        assert!(statuses.iter().all(|status| matches!(status, 400 | 405)), "{said:?}: {statuses:?}");
    }
    assert_eq!(get(&server, "/x").status, 200);
}

#[test]
fn a_flood_of_headers_is_refused() {
    let store = Store::default();
    let server = serve(store.clone());
    let many = |count, line: &str| format!("GET /x HTTP/1.1\r\nHost: x\r\n{}\r\n", line.repeat(count));
    for said in [
        many(101, "X: y\r\n"),
        many(10_000, "X: y\r\n"),
        many(1, &format!("X: {}\r\n", "y".repeat(100_000))),
        many(1, &format!("{}: y\r\n", "X".repeat(100_000))),
        format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "x".repeat(100_000)),
        format!("{} /x HTTP/1.1\r\nHost: x\r\n\r\n", "G".repeat(100_000)),
        "\r\n".repeat(100_000),
        "x".repeat(100_000),
    ] {
        let (statuses, asked) = hears(&server, &store, &said);
        assert_eq!(asked, [""; 0], "{:.40}", said);
        assert!(
            statuses.len() <= 1 && statuses.iter().all(|s| matches!(s, 400 | 414 | 431)),
            "{said:.40}: {statuses:?}"
        );
    }
    let usual = many(60, "X: y\r\n");
    assert_eq!(hears(&server, &store, &usual).0, [200]);
}

#[test]
fn sizes_that_nothing_has_are_refused() {
    let store = Store::default();
    let server = serve(store.clone());
    for size in ["FFFFFFFFFFFFFFFF", "FFFFFFFFFFFFFFFFF", "10000000000000000", "-1", "0x5", "", " ", "5;", "5 5"] {
        let said = format!("PUT /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n{size}\r\n12345");
        let (statuses, _) = hears(&server, &store, &said);
        assert!(statuses.iter().all(|status| (400..500).contains(status)), "{size}: {statuses:?}");
        let record = server.record();
        assert!(!record.outcome.is_success(), "{size}: {record}");
    }
    // An extension without an end, and trailers without one.
    let extension = format!("5;{}", "x".repeat(1 << 20));
    let trailers = format!("0\r\n{}", "X: y\r\n".repeat(100_000));
    for chunks in [extension, trailers] {
        let said = format!("PUT /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}");
        let (statuses, _) = hears(&server, &store, &said);
        assert!(statuses.iter().all(|status| (400..500).contains(status)), "{chunks:.20}: {statuses:?}");
        assert!(!server.record().outcome.is_success(), "{chunks:.20}");
    }
    for size in [u64::MAX, u64::MAX - 1, 1 << 63] {
        let (statuses, _) =
            hears(&server, &store, &format!("PUT /x HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n\r\n12345"));
        assert!(statuses.iter().all(|status| (400..500).contains(status)), "{size}: {statuses:?}");
    }
    assert_eq!(get(&server, "/x").status, 200);
}

#[test]
fn ranges_of_any_kind_have_an_answer() {
    let server = serve(Store::default());
    let mut connection = Connection::to(&server);
    let many = format!("bytes={}", vec!["0-0"; 2000].join(","));
    for (range, status, body) in [
        ("bytes=5-2", 416, "Range"),
        ("bytes=3-99999999999999999999999999", 206, "3456789"),
        ("bytes=18446744073709551615-18446744073709551615", 416, "Range"),
        ("bytes=-18446744073709551616", 206, "0123456789"),
        ("bytes=-0", 416, "Range"),
        ("bytes=--1", 416, "Range"),
        ("bytes=0x1-2", 416, "Range"),
        ("bytes=", 200, "0123456789"),
        ("=0-1", 200, "0123456789"),
        ("bytes=0-1,2-3", 200, "0123456789"),
        (&many, 200, "0123456789"),
    ] {
        let answer = connection.get("/x", &[&format!("Range: {range}")]);
        assert_eq!(answer.status, status, "{range:.60}");
        assert!(answer.text().starts_with(body), "{range:.60}: {}", answer.text());
    }
}

#[test]
fn an_expectation_is_met_or_ignored() {
    let store = Store::default();
    let server = serve(store.clone());
    // A GET has no body to wait for.
    let (statuses, _) = hears(&server, &store, "GET /x HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n\r\n");
    assert_eq!(statuses, [200]);
    // The server does not wait for a client with an unknown `Expect`.
    let (statuses, _) =
        hears(&server, &store, "PUT /x HTTP/1.1\r\nHost: x\r\nExpect: wonders\r\nContent-Length: 5\r\n\r\n12345");
    assert_eq!(statuses.last(), Some(&201), "{statuses:?}");
    // The client goes away instead.
    let (statuses, _) =
        hears(&server, &store, "PUT /x HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n");
    assert!(matches!(statuses[..], [] | [100]), "{statuses:?}");
}
