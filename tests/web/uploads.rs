//! Uploads by PUT.

use std::{
    fs,
    io::Write,
    sync::{Arc, Mutex},
    time::Duration,
};

use tuffet::{
    Refusal, Source,
    handlers::{Directory, Memory},
    read, write,
};

use super::{
    client::{Connection, get},
    common::{LONG, eventually, guard},
    serve, serve_with,
};

#[test]
fn a_new_file_and_one_that_is_replaced() {
    let place = tempfile::tempdir().unwrap();
    let server = serve(Directory::new(place.path()).unwrap().uploads(true).overwrite(true));
    let mut connection = Connection::to(&server);
    for (text, status) in [("first", 201), ("second", 204)] {
        assert_eq!(connection.put("/switch.cfg", text.as_bytes(), &[]).status, status);
        assert_eq!(fs::read_to_string(place.path().join("switch.cfg")).unwrap(), text);
        let record = server.record();
        assert_eq!((record.outcome.name(), record.status, record.bytes), ("complete", Some(status), text.len() as u64));
        assert_eq!(record.direction.to_string(), "write");
        assert_eq!(record.target.as_deref(), place.path().join("switch.cfg").to_str());
    }
    let memory = serve(Memory::new());
    let mut connection = Connection::to(&memory);
    assert_eq!(connection.put("/x", b"1", &[]).status, 201);
    assert_eq!(get(&memory, "/x").text(), "1");
}

/// Its site's name may have been made to resolve to this server, so that the browser takes them for one.
#[test]
fn a_page_of_another_site_uploads_nothing() {
    let server = serve(Memory::new().overwrite(true));
    let put = |host: &str, origin: &str| {
        let mut connection = Connection::to(&server);
        connection.send(format!("PUT /x HTTP/1.1\r\nHost: {host}\r\n{origin}Content-Length: 1\r\n\r\n1"));
        connection.answer().status
    };
    for host in ["evil.example", "evil.example:8080", "127.0.0.1.evil.example", "localhost.evil.example"] {
        assert_eq!(put(host, "Origin: http://evil.example\r\n"), 403, "{host}");
        assert_eq!(put(host, "Origin: null\r\n"), 403, "{host}");
    }
    assert_eq!(get(&server, "/x").status, 404);
    assert_eq!(put("boot.example", ""), 201, "no browser");
    for host in ["192.0.2.1", "192.0.2.1:8080", "[2001:db8::1]:8080", "localhost", "LocalHost:8080"] {
        assert_eq!(put(host, &format!("Origin: http://{host}\r\n")), 204, "{host}");
    }
}

#[test]
fn an_upload_in_chunks_has_no_size() {
    let server = serve(Memory::new());
    let mut connection = Connection::to(&server);
    connection.send("PUT /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n123\r\n2\r\n45\r\n0\r\n\r\n");
    assert_eq!(connection.answer().status, 201);
    assert_eq!(connection.get("/x", &[]).text(), "12345");
    assert_eq!(connection.put("/empty", b"", &[]).status, 201);
    assert_eq!(connection.get("/empty", &[]).header("content-length"), Some("0"));
}

#[test]
fn a_refused_upload_has_its_status() {
    let place = tempfile::tempdir().unwrap();
    fs::write(place.path().join("there"), "old").unwrap();
    let files = || Directory::new(place.path()).unwrap();
    let server = serve_with(files().uploads(true), |builder| builder.max_upload(100));
    let mut connection = Connection::to(&server);
    for (path, length, lines, status) in [
        ("/there", 5, &[][..], 409),
        ("/large", 101, &[], 413),
        ("/../outside", 5, &[], 403),
        ("/directory/", 5, &[], 403),
        ("/part", 5, &["Content-Range: bytes 0-4/10"], 400),
        ("/fits", 100, &[], 201),
    ] {
        let answer = connection.put(path, &vec![b'x'; length], lines);
        assert_eq!(answer.status, status, "{path}");
        if answer.header("connection") == Some("close") || status != 201 {
            connection = Connection::to(&server);
        }
        assert_eq!(server.record().status, Some(status), "{path}");
    }
    // The server does not read the rest of the upload, so the connection ends with the answer, which says so.
    let answer = connection.put("/part", b"12345", &["Content-Range: bytes 0-4/10"]);
    assert_eq!((answer.header("connection"), answer.text()), (Some("close"), "Bad request\n"));
    let mut connection = Connection::to(&server);
    // An upload without a length.
    connection.send("PUT /more HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
    connection.send(format!("100\r\n{}\r\n0\r\n\r\n", "x".repeat(256)));
    assert_eq!(connection.answer().status, 413);
    let names: Vec<_> = fs::read_dir(place.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), 2, "{names:?}");
    assert_eq!(fs::read_to_string(place.path().join("there")).unwrap(), "old");
    let server = serve(files());
    assert_eq!(Connection::to(&server).put("/new", b"x", &[]).status, 403, "uploads are not allowed");
    let server = serve(read(async |_| "x"));
    assert_eq!(Connection::to(&server).put("/new", b"x", &[]).status, 403, "nothing takes any");
}

#[test]
fn malformed_chunks_are_refused() {
    let memory = Memory::new();
    let server = serve(memory.clone());
    for body in ["3\r\n123\r\nx\r\n", "3\r\n12345", "x"] {
        let mut connection = Connection::to(&server);
        connection.send(format!("PUT /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n{body}"));
        assert_eq!(connection.answer().status, 400, "{body:?}");
        assert!(connection.is_closed(), "{body:?}");
        let record = server.record();
        assert_eq!((record.outcome.name(), record.status), ("refused", Some(400)), "{body:?}");
    }
    assert!(memory.get("x").is_none());
}

#[test]
fn an_upload_has_a_length_or_chunks() {
    let memory = Memory::new();
    let server = serve(memory.clone());
    for (lines, body, status) in [
        ("", "", 411),
        ("Transfer-Encoding: gzip, chunked", "0\r\n\r\n", 501),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", "0\r\n\r\n", 501),
        ("Transfer-Encoding: gzip", "", 400),
    ] {
        let mut connection = Connection::to(&server);
        let end = if lines.is_empty() { "\r\n" } else { "\r\n\r\n" };
        connection.send(format!("PUT /x HTTP/1.1\r\nHost: x\r\n{lines}{end}{body}"));
        assert_eq!(connection.answer().status, status, "{lines} {body:?}");
        assert!(connection.is_closed(), "{lines} {body:?}");
    }
    let record = server.record();
    assert_eq!((record.outcome.name(), record.status), ("refused", Some(411)));
    eventually("the others are no uploads", || server.counters().malformed == 3);
    assert!(memory.get("x").is_none() && server.records().is_empty());
}

/// RFC 9112 section 6.3: it ought to be handled as an error, and may be an attempt to smuggle a request.
#[test]
fn an_upload_with_a_length_and_chunks_is_refused() {
    for lines in ["Content-Length: 3\r\nTransfer-Encoding: chunked", "Transfer-Encoding: chunked\r\nContent-Length: 3"]
    {
        let memory = Memory::new();
        let server = serve(memory.clone());
        let mut connection = Connection::to(&server);
        assert_eq!(connection.put("/before", b"1", &[]).status, 201);
        connection.send(format!("PUT /x HTTP/1.1\r\nHost: x\r\n{lines}\r\n\r\n5\r\n12345\r\n0\r\n\r\n"));
        let answer = connection.answer();
        assert_eq!((answer.status, answer.header("connection")), (400, Some("close")), "{lines}");
        assert!(connection.is_closed());
        assert_eq!((memory.get("x"), server.counters().malformed), (None, 1));
    }
}

/// Before the answer to the request before it, the server has no head to look at: the chunks count, and the connection
/// is closed (RFC 9112 section 6.1).
#[test]
fn an_upload_with_a_length_and_chunks_is_the_last_request() {
    let server = serve(Memory::new());
    let mut connection = Connection::to(&server);
    let upload =
        "PUT /x HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n0\r\n\r\n";
    let next = "GET /x HTTP/1.1\r\nHost: x\r\n\r\n";
    connection.send([next, upload, next].concat());
    assert_eq!((connection.answer().status, connection.answer().status), (404, 201));
    assert!(connection.is_closed());
}

#[test]
fn an_upload_keeps_to_its_conditions() {
    let place = tempfile::tempdir().unwrap();
    let server = serve(Directory::new(place.path()).unwrap().uploads(true).overwrite(true));
    super::put(place.path(), "there", b"old");
    let tag = Connection::to(&server).head("/there").header("etag").unwrap().to_owned();
    assert_eq!(server.record().outcome.name(), "probe");
    let (is, is_not) = (format!("If-Match: {tag}"), format!("If-None-Match: {tag}"));
    let unmodified = format!("If-Unmodified-Since: {}", super::MODIFIED);
    let long_ago = "If-Unmodified-Since: Sun, 06 Nov 1994 08:49:36 GMT";
    for (path, line, status) in [
        ("/there", "If-None-Match: *", 412),
        ("/there", is_not.as_str(), 412),
        ("/there", "If-Match: \"other\"", 412),
        ("/there", long_ago, 412),
        ("/none", "If-Match: *", 412),
        ("/there", "If-None-Match: \"other\"", 204),
        ("/there", is.as_str(), 204),
        ("/there", unmodified.as_str(), 204),
        ("/there", "If-Match: *", 204),
        ("/new", "If-None-Match: *", 201),
    ] {
        super::put(place.path(), "there", b"old");
        let answer = Connection::to(&server).put(path, b"new", &[line]);
        assert_eq!(answer.status, status, "{path} {line}");
        let record = server.record();
        let outcome = if status == 412 { "refused" } else { "complete" };
        assert_eq!((record.outcome.name(), record.status), (outcome, Some(status)), "{path} {line}");
        let text = fs::read(place.path().join("there")).unwrap();
        assert_eq!(text == b"new", status == 204, "{path} {line}");
    }
    assert!(!place.path().join("none").exists());
    // The conditions cannot be looked at.
    let server = serve(write(async |_: tuffet::Request, data: Source| data.collect(100).await.map(drop)));
    assert_eq!(Connection::to(&server).put("/x", b"1", &["If-Match: *"]).status, 412);
}

/// Of two uploads that may only make a new file, the one that is complete first makes it.
#[test]
fn one_of_two_uploads_makes_a_new_file() {
    let place = tempfile::tempdir().unwrap();
    let server = serve(Directory::new(place.path()).unwrap().uploads(true).overwrite(true));
    let head = "PUT /new HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nIf-None-Match: *\r\n";
    let mut slow = Connection::to(&server);
    // The 100 says that the conditions were looked at.
    slow.send(format!("{head}Expect: 100-continue\r\n\r\n"));
    assert_eq!(slow.answer().status, 100);
    let mut quick = Connection::to(&server);
    assert_eq!(quick.send(format!("{head}\r\nquick")).answer().status, 201);
    assert_eq!(slow.send("slow!").answer().status, 412);
    assert_eq!(fs::read(place.path().join("new")).unwrap(), b"quick");
    // The connection of the refused upload goes on.
    assert_eq!(slow.get("/new", &[]).text(), "quick");
    let records: Vec<_> = (0..3).map(|_| server.record().status).collect();
    assert_eq!(records, [Some(201), Some(412), Some(200)]);
}

/// The conditions are looked at once more when the last byte has come.
#[test]
fn of_two_uploads_that_replace_the_same_state_one_wins() {
    let place = tempfile::tempdir().unwrap();
    let server = serve(Directory::new(place.path()).unwrap().uploads(true).overwrite(true));
    let there = place.path().join("there");
    let upload = |line: &str| {
        let head = format!("PUT /there HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n{line}\r\n");
        let mut connection = Connection::to(&server);
        // The 100 says that the conditions were looked at.
        assert_eq!(connection.send(format!("{head}Expect: 100-continue\r\n\r\n")).answer().status, 100);
        connection
    };
    for line in ["If-Match: TAG", "If-None-Match: \"other\"", &format!("If-Unmodified-Since: {}", super::MODIFIED)] {
        super::put(place.path(), "there", b"old");
        let tag = get(&server, "/there").header("etag").unwrap().to_owned();
        let line = line.replace("TAG", &tag);
        let (mut slow, mut quick) = (upload(&line), upload(&line));
        slow.send("slo");
        assert_eq!(quick.send("quick").answer().status, 204, "{line}");
        let other = line.contains("None");
        assert_eq!(slow.send("w!").answer().status, if other { 204 } else { 412 }, "{line}");
        assert_eq!(fs::read(&there).unwrap(), if other { b"slow!" } else { b"quick" }, "{line}");
        // The connection of the refused upload goes on.
        assert_eq!(slow.get("/there", &[]).status, 200);
    }
    // Both end at the same time.
    for _ in 0..5 {
        super::put(place.path(), "there", b"old");
        let tag = get(&server, "/there").header("etag").unwrap().to_owned();
        let mut both = [upload(&format!("If-Match: {tag}")), upload(&format!("If-Match: {tag}"))];
        for one in &mut both {
            one.send("right");
        }
        let mut statuses = both.map(|mut one| one.answer().status);
        statuses.sort_unstable();
        assert_eq!(statuses, [204, 412]);
    }
}

/// A client that waits for a 100 sends no bytes of a refused upload.
#[test]
fn an_upload_is_accepted_when_its_bytes_are_wanted() {
    let server = serve(write(async |request: tuffet::Request, mut data: Source| {
        if request.path() != "wanted" {
            return Err(Refusal::denied());
        }
        while let Some(chunk) = data.next().await {
            chunk?;
        }
        Ok(())
    }));
    let mut connection = Connection::to(&server);
    connection.send("PUT /wanted HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
    assert_eq!(connection.answer().status, 100);
    assert_eq!(connection.send("12345").answer().status, 201);
    for (path, lines, status) in [
        ("/refused", "Content-Length: 5", 403),
        ("/wanted", "Content-Length: 4611686018427387904", 413),
        ("/wanted", "Content-Length: 5\r\nIf-Match: \"x\"", 412),
        ("/wanted", "Content-Length: 5\r\nContent-Range: bytes 0-4/9", 400),
        ("/wanted", "Content-Length: 5\r\nHost: y", 400),
        ("/wanted", "Content-Length: 5\r\nTransfer-Encoding: chunked", 400),
        ("/wanted", "", 411),
        (&format!("/{}", "x".repeat(2000)), "Content-Length: 5", 414),
    ] {
        let mut connection = Connection::to(&server);
        let lines = if lines.is_empty() { String::new() } else { format!("{lines}\r\n") };
        connection.send(format!("PUT {path} HTTP/1.1\r\nHost: x\r\n{lines}Expect: 100-continue\r\n\r\n"));
        assert_eq!(connection.answer().status, status, "{path:.20} {lines}");
    }
}

/// The answer arrives although the server closes the connection before it has read the body.
#[test]
fn a_client_that_sends_on_hears_why_it_is_refused() {
    let server = serve(read(async |_| "x"));
    for (pieces, piece) in [(1, 100), (20, 5_000), (90, 10_000)] {
        let length = pieces * piece;
        let mut connection = Connection::to(&server);
        connection.send(format!("PUT /x HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n"));
        // Few enough for a busy machine: the server listens for 2 s.
        for _ in 0..pieces {
            connection.socket().write_all(&vec![b'x'; piece]).unwrap();
        }
        assert_eq!(connection.answer().status, 403, "{length}");
    }
}

#[test]
fn half_of_an_upload_is_none() {
    let (guard, dropped) = guard();
    let memory = Arc::new(Memory::new());
    let store = memory.clone();
    let server = serve(write(async move |request: tuffet::Request, data: Source| {
        let _guard = guard.lock().unwrap().take();
        let bytes = data.collect(1 << 20).await?;
        store.insert(request.path(), bytes)
    }));
    let mut connection = Connection::to(&server);
    connection.send("PUT /half HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n12345");
    drop(connection);
    dropped.recv_timeout(LONG).unwrap();
    let record = server.record();
    assert_eq!(record.outcome.name(), "aborted", "{record}");
    assert!(memory.get("half").is_none());
}

/// Its bytes are all there, so nothing is lost by it.
#[test]
fn an_upload_whose_client_waits_for_no_answer_is_complete() {
    let memory = Memory::new();
    let store = memory.clone();
    let (taken, has_all) = std::sync::mpsc::channel();
    let (go, gate) = smol::channel::unbounded::<()>();
    let taken = Mutex::new(taken);
    let server = serve(write(async move |request: tuffet::Request, data: Source| {
        let bytes = data.collect(1 << 20).await?;
        taken.lock().unwrap().send(()).unwrap();
        let _ = gate.recv().await;
        store.insert(request.path(), bytes)
    }));
    for (path, ends_by_reset) in [("closed", false), ("reset", true)] {
        let mut connection = Connection::to(&server);
        connection.send(format!("PUT /{path} HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n12345"));
        has_all.recv_timeout(LONG).unwrap();
        let no_time = Some(Duration::ZERO).filter(|_| ends_by_reset);
        socket2::SockRef::from(connection.socket()).set_linger(no_time).unwrap();
        drop(connection);
        go.try_send(()).unwrap();
        let record = server.record();
        assert_eq!((record.outcome.name(), record.bytes), ("complete", 5), "{path}: {record}");
        assert_eq!(memory.get(path).as_deref(), Some(&b"12345"[..]));
    }
}
