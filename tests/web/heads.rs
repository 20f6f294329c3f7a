//! Heads of requests: the checks of a server before it answers.

use tuffet::{handlers::Memory, read};

use super::{
    client::{Connection, get, request},
    common::eventually,
    serve, serve_with,
};

fn memory() -> Memory {
    let memory = Memory::new();
    memory.insert("x", "0123456789").unwrap();
    memory
}

/// RFC 9112 section 3.2.
#[test]
fn a_request_names_its_host_once() {
    let server = serve(memory());
    for (version, lines, status) in [
        ("1.1", &["Host: x"][..], 200),
        ("1.1", &["Host: 192.0.2.1:8080"], 200),
        ("1.1", &["Host: [2001:db8::1]:80"], 200),
        ("1.1", &["Host:"], 200),
        ("1.1", &["hOST: x"], 200),
        ("1.1", &[], 400),
        ("1.1", &["Host: x", "Host: x"], 400),
        ("1.1", &["Host: x", "Host: y"], 400),
        ("1.1", &["Host: x y"], 400),
        ("1.1", &["Host: x, y"], 400),
        ("1.1", &["Host: user@x"], 400),
        ("1.1", &["Host: http://x/"], 400),
        ("1.1", &["Host: /"], 400),
        ("1.1", &["Host: \u{fc}"], 400),
        ("1.0", &[], 200),
        ("1.0", &["Host: x"], 200),
        ("1.0", &["Host: x", "Host: x"], 400),
    ] {
        for target in ["/x", "http://z/x"] {
            for method in ["GET", "HEAD", "PUT"] {
                let mut connection = Connection::to(&server);
                let length = if method == "PUT" { "Content-Length: 0\r\n" } else { "" };
                let lines: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
                connection.send(format!("{method} {target} HTTP/{version}\r\n{lines}{length}\r\n"));
                let answer = connection.read_answer(method == "HEAD").unwrap();
                // The upload is refused because the file exists.
                let expected = if (method, status) == ("PUT", 200) { 409 } else { status };
                assert_eq!(answer.status, expected, "{method} {target} {version} {lines:?}");
                if status == 400 {
                    assert_eq!(answer.header("connection"), Some("close"));
                    assert!(connection.is_closed());
                }
            }
        }
    }
    assert_eq!(server.counters().malformed, 10 * 6);
    assert!(server.records().iter().all(|record| record.status != Some(400)), "a bad request is no transfer");
}

#[test]
fn targets() {
    let server = serve(read(async |request: tuffet::Request| request.path().to_owned()));
    for (target, status, path) in [
        ("/x", 200, "x"),
        ("//x", 200, "x"),
        ("/x#fragment", 200, "x"),
        ("http://h/x", 200, "x"),
        ("HTTP://h:80/x?y", 200, "x"),
        ("/caf\u{e9}", 200, "caf\u{e9}"),
        ("/caf%C3%A9", 200, "caf\u{e9}"),
        ("/x|y", 200, "x|y"),
        ("*", 400, ""),
        ("x", 400, ""),
        ("h:80", 400, ""),
        ("x/y", 400, ""),
        ("/%00", 400, ""),
        ("/x%00y", 400, ""),
        ("/../x", 403, ""),
        ("/%2e%2e/x", 403, ""),
        ("/..%2fx", 403, ""),
    ] {
        let mut connection = Connection::to(&server);
        connection.send(request("GET", target, &[]));
        let answer = connection.answer();
        assert_eq!(answer.status, status, "{target}");
        assert!(status != 200 || answer.text() == path, "{target}: {}", answer.text());
    }
}

/// hyper answers some of them by itself.
#[test]
fn bytes_that_are_no_request_are_counted() {
    let server = serve(memory());
    let malformed: [&[u8]; 6] = [
        b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /x HTTP/1.1\r\nHost: x\r\nX\0: y\r\n\r\n",
        b"GET /x HTTP/3.0\r\nHost: x\r\n\r\n",
        b"nonsense\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"PUT /x HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ];
    for (before, said) in malformed.into_iter().enumerate() {
        let mut connection = Connection::to(&server);
        connection.send(said);
        assert!(connection.read_answer(false).is_none_or(|answer| answer.status == 400), "{said:?}");
        assert!(connection.is_closed(), "{said:?}");
        eventually("it is counted", || server.counters().malformed == before as u64 + 1);
    }
    // A client that leaves has said nothing wrong.
    drop(Connection::to(&server));
    { Connection::to(&server) }.send("GET /x HT");
    assert_eq!(get(&server, "/x").status, 200);
    assert_eq!(server.counters().malformed, malformed.len() as u64);
}

/// The answer arrives although the server does not read the body.
#[test]
fn a_refused_request_with_a_body_hears_why() {
    let server = serve_with(memory(), |builder| builder.max_upload(100));
    let body = vec![b'x'; 200_000];
    for (method, lines, status) in [
        ("POST", "Host: x\r\n", 405),
        ("DELETE", "Host: x\r\n", 405),
        ("PUT", "", 400),
        ("PUT", "Host: x\r\n", 413),
        ("GET", "", 400),
    ] {
        let mut connection = Connection::to(&server);
        connection.send(format!("{method} /y HTTP/1.1\r\n{lines}Content-Length: {}\r\n\r\n", body.len()));
        connection.send(&body);
        let answer = connection.answer();
        assert_eq!((answer.status, answer.header("connection")), (status, Some("close")), "{method} {lines}");
        assert!(connection.is_closed());
    }
    // A head that is too long.
    let mut connection = Connection::to(&server);
    connection.send(format!("GET /x HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "y".repeat(200_000)));
    assert_eq!(connection.answer().status, 431);
}

#[test]
fn an_offer_of_another_protocol_is_ignored() {
    let server = serve(memory());
    let mut connection = Connection::to(&server);
    for lines in [
        &["Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA"][..],
        &["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="],
        &["Connection: keep-alive, TE", "TE: trailers"],
    ] {
        let answer = connection.get("/x", lines);
        assert_eq!((answer.status, answer.text()), (200, "0123456789"), "{lines:?}");
        assert_eq!(answer.header("upgrade"), None);
    }
}

#[test]
fn a_connection_ends_when_the_client_says_so() {
    let server = serve(memory());
    for (version, lines, is_kept) in [
        ("1.1", "", true),
        ("1.1", "Connection: keep-alive\r\n", true),
        ("1.1", "Connection: close\r\n", false),
        ("1.1", "Connection: Keep-Alive, Close\r\n", false),
        ("1.0", "", false),
        ("1.0", "Connection: Keep-Alive\r\n", true),
        ("1.0", "Connection: close\r\n", false),
    ] {
        for (path, status) in [("/x", 200), ("/missing", 404)] {
            for method in ["GET", "HEAD"] {
                let mut connection = Connection::to(&server);
                let said = format!("{method} {path} HTTP/{version}\r\nHost: x\r\n{lines}\r\n");
                let answer = connection.send(&said).read_answer(method == "HEAD").unwrap();
                assert_eq!(answer.status, status, "{said:?}");
                if is_kept {
                    // For a client of HTTP/1.0, the answer has to say so.
                    assert!(version == "1.1" || answer.header("connection") == Some("keep-alive"), "{answer:?}");
                    assert_eq!(connection.get("/x", &[]).status, 200, "{said:?}");
                } else {
                    assert!(connection.is_closed(), "{said:?}");
                }
            }
        }
    }
}

/// RFC 9110 section 9.3.2: the head of the answer is that of a GET.
#[test]
fn a_head_has_the_headers_of_a_get() {
    let server = serve(read(async |request: tuffet::Request| match request.path() {
        "x" => Ok("0123456789"),
        "busy" => Err(tuffet::Refusal::busy()),
        _ => Err(tuffet::Refusal::not_found()),
    }));
    let mut connection = Connection::to(&server);
    for path in ["/x", "/missing", "/busy", "/../x", &format!("/{}", "x".repeat(2000))] {
        let (head, get) = (connection.head(path), connection.get(path, &[]));
        let lines = |head: &str| {
            let mut lines: Vec<_> =
                head.lines().filter(|line| !line.starts_with("Date: ")).map(str::to_owned).collect();
            lines.sort_unstable();
            lines
        };
        assert_eq!(lines(&head.head), lines(&get.head), "{path:.20}");
    }
}

#[test]
fn the_body_of_a_get_is_no_request() {
    let server = serve(memory());
    let mut connection = Connection::to(&server);
    let body = "GET /y HTTP/1.1\r\nContent-Length: 9\r\n\r\n";
    connection.send(format!("GET /x HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}", body.len()));
    assert_eq!(connection.answer().text(), "0123456789");
    assert_eq!(connection.get("/x", &[]).text(), "0123456789");
    let paths: Vec<_> = (0..2).map(|_| server.record().path).collect();
    assert_eq!(paths, ["x", "x"]);
}
