//! The answers to requests of each kind.

use tuffet::{
    Gen, Refusal, Request, Source,
    handlers::{Directory, Memory},
    read,
    stats::Protocol,
    transfer::Outcome,
};

use super::{
    MODIFIED,
    client::{Connection, get},
    put, serve,
};

#[test]
fn a_file_of_a_directory_comes_with_all_that_is_known() {
    let place = tempfile::tempdir().unwrap();
    let bytes: Vec<u8> = (0..300_000_u32).map(|n| (n % 251) as u8).collect();
    put(place.path(), "EFI/boot.efi", &bytes);
    let server = serve(Directory::new(place.path()).unwrap());
    let answer = get(&server, "/EFI/boot.efi");
    assert_eq!((answer.status, answer.body.len()), (200, bytes.len()));
    assert!(answer.body == bytes);
    assert_eq!(answer.header("content-length"), Some("300000"));
    assert_eq!(answer.header("content-type"), Some("application/efi"));
    assert_eq!(answer.header("accept-ranges"), Some("bytes"));
    assert_eq!(answer.header("last-modified"), Some(MODIFIED));
    assert_eq!(answer.header("etag"), Some("\"2ebc98a1.0-493e0\""));
    let record = server.record();
    assert_eq!((record.protocol, record.status), (Protocol::Http, Some(200)));
    assert_eq!((record.outcome, record.bytes, record.size), (Outcome::Complete, 300_000, Some(300_000)));
    assert_eq!((record.path.as_str(), record.filename.as_str()), ("EFI/boot.efi", "/EFI/boot.efi"));
    assert!(record.origin.unwrap().ends_with("EFI/boot.efi"));
}

#[test]
fn a_head_is_a_probe() {
    let server = serve(read(async |_| "hello\n"));
    let mut connection = Connection::to(&server);
    let answer = connection.head("/motd");
    assert_eq!((answer.status, answer.header("content-length")), (200, Some("6")));
    let record = server.record();
    assert_eq!((record.outcome, record.bytes, record.size), (Outcome::Probe, 0, Some(6)));
    assert_eq!(connection.get("/motd", &[]).text(), "hello\n", "the connection goes on, and no body came in between");
}

#[test]
fn a_small_file_has_a_length_and_a_large_one_has_chunks() {
    let sizes = read(async |request: Request| {
        let size: usize = request.path().parse().unwrap();
        Gen::new(async move |co| {
            for n in 0..size.div_ceil(1000) {
                co.yield_(vec![b'x'; 1000.min(size - n * 1000)]).await;
            }
        })
    });
    let server = serve(sizes);
    let mut connection = Connection::to(&server);
    for (size, length) in [(0, Some("0")), (5, Some("5")), (60_000, Some("60000")), (1_000_000, None)] {
        let answer = connection.get(&format!("/{size}"), &[]);
        assert_eq!((answer.header("content-length"), answer.body.len()), (length, size));
        assert_eq!(answer.header("accept-ranges").is_some(), length.is_some(), "no part of what has no size");
        assert_eq!(server.record().bytes, size as u64);
    }
    let old = "GET /1000000 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n";
    let answer = Connection::to(&server).send(old).answer();
    assert_eq!((answer.header("transfer-encoding"), answer.body.len()), (None, 1_000_000), "the end is its end");
}

/// Half of a file must not pass for the whole.
#[test]
fn a_source_that_fails_ends_the_connection_early() {
    let failing = read(async |request: Request| {
        let size = (request.path() == "known").then_some(2_000_000);
        let source = Source::from(Gen::new(async |co| {
            for _ in 0..100 {
                co.yield_(vec![b'x'; 10_000]).await;
            }
            Err(Refusal::upstream().because("gone"))
        }));
        match size {
            Some(size) => source.with_size(size),
            None => source,
        }
    });
    let server = serve(failing);
    for request in [
        "GET /known HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /unknown HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /unknown HTTP/1.0\r\n\r\n",
    ] {
        let answer = Connection::to(&server).send(request).read_answer(false);
        assert!(answer.is_none(), "{request}: {:?}", answer.map(|answer| answer.body.len()));
        let record = server.record();
        assert_eq!((record.outcome.name(), record.status), ("upstream_failed", Some(200)), "{request}");
        assert!(record.bytes <= 1_000_000);
    }
}

#[test]
fn a_name_is_served_in_every_spelling_without_a_redirect() {
    let place = tempfile::tempdir().unwrap();
    put(place.path(), "a/b c", b"here");
    let server = serve(Directory::new(place.path()).unwrap());
    let mut connection = Connection::to(&server);
    for path in [
        "/a/b%20c",
        "//a/b%20c",
        "/a//b%20c",
        "/./a/b%20c",
        "/a/./b%20c",
        "/x/../a/b%20c",
        "/%61/b%20c",
        "/a%2fb%20c",
        "/a%5cb%20c",
        "/a/b%20c?x=y",
        "http://other//a/b%20c",
    ] {
        let answer = connection.get(path, &[]);
        assert_eq!((answer.status, answer.text()), (200, "here"), "{path}");
    }
    for (path, status) in [
        ("/", 404),
        ("/a", 404),
        ("/a/", 404),
        ("/A/b%20c", 404),
        ("/..%2f..%2fetc/passwd", 403),
        ("/%2e%2e/etc/passwd", 403),
        ("/../etc/passwd", 403),
    ] {
        assert_eq!(connection.get(path, &[]).status, status, "{path}");
    }
    assert_eq!(connection.get(&format!("/{}", "x".repeat(1025)), &[]).status, 414);
    assert_eq!(connection.get("/a%00", &[]).status, 400);
    assert!(connection.is_closed());
}

#[test]
fn a_query_is_for_the_handler() {
    let server = serve(read(async |request: Request| format!("{:?} {:?}", request.path(), request.query())));
    assert_eq!(get(&server, "/menu?mac=52%3A54&x").text(), "\"menu\" Some(\"mac=52%3A54&x\")");
    assert_eq!(get(&server, "/menu").text(), "\"menu\" None");
}

#[test]
fn a_handler_sees_who_asks_and_how() {
    let server = serve(read(async |request: Request| {
        format!(
            "{} {} {:?} {} {:?}",
            request.peer(),
            request.local(),
            request.mode(),
            request.options(),
            request.protocol()
        )
    }));
    let mut connection = Connection::to(&server);
    let peer = connection.socket().local_addr().unwrap();
    let told = connection.get("/x", &[]);
    assert_eq!(told.text(), format!("{peer} {} Octet tsize=0 Http", server.http[0]));
}

#[test]
fn a_refusal_has_its_status_and_says_nothing_of_this_machine() {
    let refusing = read(async |request: Request| {
        Err::<&str, _>(
            match request.path() {
                "denied" => Refusal::denied(),
                "busy" => Refusal::busy(),
                "upstream" => Refusal::upstream(),
                "internal" => Refusal::internal(),
                _ => Refusal::not_found(),
            }
            .because("/srv/secret"),
        )
    });
    let server = serve(refusing);
    let mut connection = Connection::to(&server);
    for (path, status, outcome) in [
        ("/denied", 403, "refused"),
        ("/missing", 404, "refused"),
        ("/busy", 503, "refused"),
        ("/upstream", 502, "upstream_failed"),
        ("/internal", 500, "failed"),
    ] {
        let answer = connection.get(path, &[]);
        assert_eq!(answer.status, status, "{path}");
        assert!(!answer.text().contains("secret") && !answer.head.contains("secret"), "{answer:?}");
        assert_eq!(answer.header("retry-after").is_some(), status == 503);
        let record = server.record();
        assert_eq!((record.outcome.name(), record.status), (outcome, Some(status)), "{path}");
        assert!(record.to_string().contains("/srv/secret"), "the operator is told: {record}");
    }
}

#[test]
fn silence_is_the_end_of_the_connection() {
    let server = serve(read(async |_| Err::<&str, _>(Refusal::silent())));
    let mut connection = Connection::to(&server);
    assert!(connection.send("GET /x HTTP/1.1\r\nHost: x\r\n\r\n").is_closed());
    let record = server.record();
    assert_eq!((record.outcome.name(), record.status), ("refused", None));
}

#[test]
fn other_methods_are_told_which_there_are() {
    let server = serve(Memory::new());
    let mut connection = Connection::to(&server);
    for method in ["POST", "DELETE", "OPTIONS", "PATCH", "WHATEVER"] {
        let answer = connection.send(format!("{method} /x HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")).answer();
        assert_eq!((answer.status, answer.header("allow")), (405, Some("GET, HEAD, PUT")), "{method}");
    }
    assert!(server.records().is_empty(), "none of them is a transfer");
}

#[test]
fn a_panic_is_the_end_of_its_transfer_alone() {
    let server = serve(read(async |request: Request| match request.path() {
        "early" => panic!("in the handler"),
        "late" => Source::from(Gen::new(async |co| {
            co.yield_(vec![0; 100_000]).await;
            panic!("in the source");
            #[allow(unreachable_code)]
            ()
        })),
        _ => Source::from("well"),
    }));
    assert_eq!(get(&server, "/early").status, 500);
    assert!(Connection::to(&server).send("GET /late HTTP/1.1\r\nHost: x\r\n\r\n").read_answer(false).is_none());
    for _ in 0..2 {
        assert_eq!(server.record().outcome.name(), "failed");
    }
    assert_eq!(get(&server, "/well").text(), "well");
}
