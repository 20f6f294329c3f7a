//! The HTTP handler against a scripted upstream.
#![cfg(feature = "http")]

#[cfg(feature = "directory")]
#[path = "http/chains.rs"]
mod chains;
#[path = "http/connections.rs"]
mod connections;
#[path = "http/dates.rs"]
mod dates;
#[path = "http/encodings.rs"]
mod encodings;
#[path = "http/files.rs"]
mod files;
#[path = "http/lies.rs"]
mod lies;
#[path = "http/resume.rs"]
mod resume;
#[path = "http/served.rs"]
mod served;
#[path = "http/shared.rs"]
mod shared;
#[path = "http/upstream.rs"]
mod upstream;

mod common;

use std::{
    io::Write,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
        mpsc,
    },
    thread,
    time::Duration,
};

use tuffet::{
    Bytes, ErrorCode, Handler, Refusal, Request, Source,
    handlers::{Http, HttpBuilder},
    packet,
};

use self::{
    common::{LONG, allow_many_files, within_any_time},
    upstream::Upstream,
};

fn request(name: impl AsRef<[u8]>) -> Request {
    let any = ([127, 0, 0, 1], 1069).into();
    Request::new(any, any, packet::Request::new(name.as_ref())).unwrap()
}

fn settings(base: &str) -> HttpBuilder {
    allow_many_files();
    Http::builder(base).direct().cache(4 << 20)
}

fn http(base: &str) -> Http {
    settings(base).build().unwrap()
}

fn open(http: &Http, name: &str) -> Result<Source, Refusal> {
    smol::block_on(http.read(&request(name)))
}

fn next(source: &mut Source) -> Option<Result<Bytes, Refusal>> {
    smol::block_on(source.next())
}

fn fetch(http: &Http, name: &str) -> Result<Vec<u8>, Refusal> {
    smol::block_on(open(http, name)?.collect(1 << 20))
}

#[test]
fn bodies_with_and_without_a_size() {
    for (answer, size, body) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", Some(5), "hello"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", Some(0), ""),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n", None, "hello"),
        ("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello", None, "hello"),
        ("HTTP/1.0 200 OK\r\n\r\nhello", None, "hello"),
    ] {
        let upstream = Upstream::answering(answer);
        let source = open(&http(&upstream.url()), "x").unwrap();
        assert_eq!(source.size(), size, "{answer}");
        assert_eq!(smol::block_on(source.collect(body.len())).unwrap(), body.as_bytes(), "{answer}");
    }
}

#[test]
fn refusals() {
    let upstream_failed = Refusal::new(ErrorCode::NOT_DEFINED, "Upstream failed");
    for (status, expected) in [
        ("404 Not Found", Refusal::not_found()),
        ("410 Gone", Refusal::not_found()),
        ("401 Unauthorized", Refusal::denied()),
        ("403 Forbidden", Refusal::denied()),
        ("500 Internal Server Error", upstream_failed.clone()),
        ("204 No Content", upstream_failed.clone()),
        ("206 Partial Content", upstream_failed.clone()),
        ("302 Found", upstream_failed.clone()),
        ("304 Not Modified", upstream_failed.clone()),
        ("407 Proxy Authentication Required", upstream_failed.clone()),
    ] {
        let upstream = Upstream::new(move |_, stream| {
            write!(stream, "HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").unwrap();
        });
        let refusal = open(&http(&upstream.url()), "x").unwrap_err();
        assert_eq!(refusal, expected, "{status}");
        let detail = refusal.detail().unwrap();
        assert!(detail.starts_with(&format!("{}x: answered {status}", upstream.url())), "{detail}");
        assert_eq!(detail.contains("`header` has credentials"), status.starts_with("401"), "{detail}");
    }
    let nonsense = Upstream::answering("no HTTP at all\r\n\r\n");
    assert_eq!(open(&http(&nonsense.url()), "x").unwrap_err(), upstream_failed);
}

#[test]
fn an_upstream_that_is_not_there() {
    let (_closed, dead) = upstream::closed_port();
    let refusal = open(&http(&dead.replace("//", "//user:secret@")), "x").unwrap_err();
    assert_eq!(refusal, Refusal::upstream());
    let detail = refusal.detail().unwrap();
    assert!(detail.contains("refused") && !detail.contains("user") && !detail.contains("secret"), "{detail}");
}

#[test]
fn a_body_that_breaks() {
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n",
    ] {
        let upstream = Upstream::new(|_, stream| {
            stream.write_all(answer.as_bytes()).unwrap();
            upstream::close(stream);
        });
        let mut source = open(&http(&upstream.url()), "x").unwrap();
        assert_eq!(next(&mut source).unwrap().unwrap(), "hello", "{answer}");
        assert_eq!(next(&mut source).unwrap().unwrap_err(), Refusal::upstream(), "{answer}");
    }
}

#[test]
fn a_response_head_without_end_is_an_upstream_failure() {
    let upstream = Upstream::new(|_, stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\n").unwrap();
        while stream.write_all(b"X-More: and more\r\n").is_ok() {}
    });
    assert_eq!(open(&http(&upstream.url()), "x").unwrap_err(), Refusal::upstream());
    let trickling = Upstream::new(|_, stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\nX-More: ").unwrap();
        while stream.write_all(b".").is_ok() {
            thread::sleep(Duration::from_millis(20));
        }
    });
    let http = settings(&trickling.url()).upstream_timeout(Duration::from_millis(500)).build().unwrap();
    assert_eq!(open(&http, "x").unwrap_err(), Refusal::upstream());
}

#[test]
fn a_body_that_is_reset() {
    let (arrived, seen) = mpsc::channel();
    let seen = Mutex::new(seen);
    let upstream = Upstream::new(move |_, stream| {
        // Closed in good order, a body like this is whole.
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nhello").unwrap();
        seen.lock().unwrap().recv().unwrap();
        upstream::reset(stream);
    });
    let mut source = open(&http(&upstream.url()), "x").unwrap();
    assert_eq!(next(&mut source).unwrap().unwrap(), "hello");
    arrived.send(()).unwrap();
    assert_eq!(next(&mut source).unwrap().unwrap_err(), Refusal::upstream());
}

#[test]
fn requests() {
    let (heads, seen) = mpsc::channel();
    let upstream = Upstream::new(move |head, stream| {
        heads.send(head.to_ascii_lowercase()).unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
    });
    let http = http(&(upstream.url() + "base"));
    for (name, expected) in [
        ("/a b/c?d=e#f", "/base/a%20b/c%3fd%3de%23f"),
        ("%2e%2e/x", "/base/%252e%252e/x"),
        ("ä", "/base/%c3%a4"),
        (r"\Boot\BCD", "/base/boot/bcd"),
        ("a/../b", "/base/b"),
        (".\t./x", "/base/.%09./x"),
    ]
    .map(|(name, expected)| (name.as_bytes(), expected))
    .into_iter()
    .chain([
        (&b"netboot.xyz.efi\xff"[..], "/base/netboot.xyz.efi%ff"),
        (b"\xeaonboard/\xc3\xaa", "/base/%eaonboard/%c3%aa"),
        (b"\x80\xff\\\xfe", "/base/%80%ff/%fe"),
    ]) {
        smol::block_on(async { http.read(&request(name)).await?.collect(1).await }).unwrap();
        let head = seen.recv().unwrap();
        assert!(head.starts_with(&format!("get {expected} http/1.1\r\n")), "{head}");
        assert!(head.contains("accept-encoding: identity\r\n"), "{head}");
        assert!(head.contains("user-agent: tuffet/"), "{head}");
        assert!(!head.contains("authorization:"), "{head}");
    }
}

#[test]
fn redirects() {
    let (heads, seen) = mpsc::channel();
    let other = Upstream::new(move |head, stream| {
        heads.send(head.to_ascii_lowercase()).unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nthere").unwrap();
    });
    let elsewhere = format!("{}y", other.url());
    let upstream = Upstream::new(move |head, stream| {
        let location = match head.split(' ').nth(1).unwrap() {
            "/here" => {
                assert!(head.to_ascii_lowercase().contains("authorization: basic dtpzzwnyzxq6\r\n"), "{head}");
                return stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nhere").unwrap();
            }
            "/near" => "/here",
            "/far" => &elsewhere,
            "/dir" => "/dir/",
            "/file" => "file:///etc/passwd",
            _ => "/loop",
        };
        write!(stream, "HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n").unwrap();
    });
    let url = upstream.url().replace("//", "//u:secret%3a@");
    let http = http(&url);
    assert_eq!(fetch(&http, "near").unwrap(), b"here");
    // The origin of the bytes has no password.
    assert_eq!(open(&http, "near").unwrap().origin(), Some(format!("{}near", upstream.url()).as_str()));
    assert_eq!(fetch(&http, "far").unwrap(), b"there");
    let head = seen.recv().unwrap();
    assert!(!head.contains("authorization:") && !head.contains("referer:"), "{head}");
    assert_eq!(fetch(&http, "dir"), Err(Refusal::not_found()));
    assert_eq!(fetch(&http, "file"), Err(Refusal::upstream()));
    let refusal = open(&http, "loop").unwrap_err();
    assert_eq!(refusal, Refusal::upstream());
    assert!(refusal.detail().unwrap().contains("more than 5 redirects"), "{refusal}");
    for _ in 0..5 {
        assert_eq!(fetch(&http, "loop"), Err(Refusal::upstream()));
    }
    assert_eq!(fetch(&http, "near").unwrap(), b"here", "who leads nowhere for one file is not dead for others");

    let http = settings(&url).redirects(0).build().unwrap();
    assert_eq!(fetch(&http, "near"), Err(Refusal::upstream()));
    assert_eq!(fetch(&http, "here").unwrap(), b"here");
}

#[test]
fn requests_in_turn_share_a_connection() {
    let upstream = Upstream::answering("HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno");
    let http = http(&upstream.url());
    for n in 0..10 {
        assert_eq!(fetch(&http, &format!("pxelinux.cfg/{n}")), Err(Refusal::not_found()));
    }
    assert!(upstream.connections() < 10, "{} connections", upstream.connections());
}

#[test]
fn a_slow_answer_delays_nobody() {
    let (release, held) = mpsc::channel::<()>();
    let held = Mutex::new(held);
    let upstream = Upstream::new(move |head, stream| {
        if head.starts_with("GET /slow ") {
            held.lock().unwrap().recv().unwrap();
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").unwrap();
    });
    let http = Arc::new(http(&upstream.url()));
    let executor = smol::LocalExecutor::new();
    smol::block_on(executor.run(async {
        let slow = executor.spawn({
            let http = http.clone();
            async move { http.read(&request("slow")).await?.collect(2).await }
        });
        for _ in 0..5 {
            assert_eq!(http.read(&request("quick")).await.unwrap().collect(2).await.unwrap(), b"ok");
        }
        assert!(!slow.is_finished());
        release.send(()).unwrap();
        assert_eq!(slow.await.unwrap(), b"ok");
    }));
}

#[test]
fn silence_ends_a_request_and_a_body() {
    let upstream = Upstream::new(|head, stream| {
        if head.starts_with("GET /body ") {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello").unwrap();
        }
        upstream::until_closed(stream);
    });
    within_any_time("the body begins in time", |time| {
        let http = settings(&upstream.url()).upstream_timeout(time).build().unwrap();
        let refusal = open(&http, "head").unwrap_err();
        assert_eq!(refusal, Refusal::upstream());
        assert_eq!(refusal.detail().unwrap(), format!("{}head: no byte for {time:?}", upstream.url()));
        let mut source = open(&http, "body").ok()?;
        assert_eq!(next(&mut source).unwrap().ok()?, "hello");
        assert_eq!(next(&mut source).unwrap().unwrap_err(), Refusal::upstream());
        Some(())
    });
}

#[test]
fn a_pause_of_the_client_is_no_silence_of_the_upstream() {
    let (arrived, seen) = mpsc::channel();
    let seen = Mutex::new(seen);
    let upstream = Upstream::new(move |_, stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello").unwrap();
        seen.lock().unwrap().recv().unwrap();
        stream.write_all(b"again").unwrap();
    });
    let http = settings(&upstream.url()).upstream_timeout(Duration::from_secs(1)).build().unwrap();
    let mut source = open(&http, "x").unwrap();
    assert_eq!(next(&mut source).unwrap().unwrap(), "hello");
    arrived.send(()).unwrap();
    thread::sleep(Duration::from_millis(1500));
    assert_eq!(next(&mut source).unwrap().unwrap(), "again");
    assert!(next(&mut source).is_none());
}

#[test]
fn a_drop_closes_the_connection() {
    let (events, seen) = mpsc::channel();
    let upstream = Upstream::new(move |head, stream| {
        if head.starts_with("GET /body ") {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10000000\r\n\r\nhello").unwrap();
        }
        events.send("asked").unwrap();
        upstream::until_closed(stream);
        events.send("closed").unwrap();
    });
    let http = http(&upstream.url());

    let mut source = open(&http, "body").unwrap();
    assert_eq!(next(&mut source).unwrap().unwrap(), "hello");
    assert_eq!(seen.recv_timeout(LONG).unwrap(), "asked");
    drop(source);
    assert_eq!(seen.recv_timeout(LONG).unwrap(), "closed");

    let request = request("head");
    let mut answer = http.read(&request);
    while seen.try_recv().is_err() {
        assert!(smol::block_on(smol::future::poll_once(&mut answer)).is_none());
        thread::yield_now();
    }
    drop(answer);
    assert_eq!(seen.recv_timeout(LONG).unwrap(), "closed");
}

#[test]
fn a_client_that_takes_nothing_stalls_the_upstream() {
    const SIZE: usize = 128 << 20;
    let written = Arc::new(AtomicUsize::new(0));
    let upstream = Upstream::new({
        let written = written.clone();
        move |_, stream| {
            write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n").unwrap();
            while written.load(SeqCst) < SIZE {
                let Ok(n) = stream.write(&[7; 16384]) else { return };
                written.fetch_add(n, SeqCst);
            }
        }
    });
    let mut source = open(&http(&upstream.url()), "x").unwrap();
    let mut taken = 0;
    while taken < 8 << 20 {
        taken += next(&mut source).unwrap().unwrap().len();
    }
    let mut seen = 0;
    while seen != written.load(SeqCst) {
        seen = written.load(SeqCst);
        thread::sleep(Duration::from_millis(300));
    }
    // Most of it is in the kernel, in the buffers of the two sockets: 36 MiB at most, as Linux is set up.
    let ahead = seen - taken;
    println!("{ahead} bytes ahead");
    assert!(ahead < 48 << 20, "{ahead} bytes ahead");
    while let Some(chunk) = next(&mut source) {
        taken += chunk.unwrap().len();
    }
    assert_eq!(taken, SIZE);
}

#[test]
fn certificates() {
    let upstream = Upstream::secure("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello");
    let stranger = open(&http(&upstream.url()), "x").unwrap_err();
    assert_eq!(stranger, Refusal::upstream());
    let why = stranger.detail().unwrap();
    assert!(why.contains("certificate") && why.contains("`root_certificates`"), "{stranger}");
    let plain = Upstream::by_connection(|mut stream| {
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n").unwrap();
        upstream::until_closed(&mut stream);
    });
    let refusal = open(&http(&plain.url().replace("http", "https")), "x").unwrap_err();
    assert!(refusal.detail().unwrap().contains("or is it http?"), "{refusal}");
    assert_eq!(fetch(&trusting(&upstream), "x").unwrap(), b"hello");
}

/// `openssl req -x509` makes such a certificate: the server is its own authority.
#[test]
fn a_certificate_that_signs_itself_is_trusted_where_it_is_given() {
    let own = include_bytes!("http/self-signed.pem");
    let upstream = Upstream::secured_by(own, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello");
    let given = |url: &str, pem: &[u8]| settings(url).root_certificates(pem).unwrap().build().unwrap();
    assert_eq!(fetch(&given(&upstream.url(), own), "x").unwrap(), b"hello");
    let other_name = upstream.url().replace("127.0.0.1", "localhost");
    for (stranger, may_help) in
        [(http(&upstream.url()), true), (trusting(&upstream), true), (given(&other_name, own), false)]
    {
        let refusal = open(&stranger, "x").unwrap_err();
        assert!(refusal.detail().unwrap().contains("certificate"), "{refusal}");
        assert_eq!(refusal.detail().unwrap().contains("`root_certificates`"), may_help, "{refusal}");
    }
}

#[test]
fn https_stays_https() {
    let upstream = Upstream::secure("HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1/\r\nContent-Length: 0\r\n\r\n");
    let refusal = open(&trusting(&upstream), "x").unwrap_err();
    assert_eq!(refusal, Refusal::upstream());
    assert!(refusal.detail().unwrap().contains("from https to http"), "{refusal}");
}

#[test]
fn a_port_of_https_that_is_asked_by_http_is_explained() {
    // The alert of TLS for a message that is not TLS.
    let upstream = Upstream::by_connection(|mut stream| {
        if upstream::read_head(&mut stream).is_some() {
            let _ = stream.write_all(b"\x15\x03\x03\0\x02\x02\x46");
        }
    });
    let refusal = open(&http(&upstream.url()), "x").unwrap_err();
    assert!(refusal.detail().unwrap().ends_with("or is it https?"), "{refusal:?}");
}

fn trusting(upstream: &Upstream) -> Http {
    settings(&upstream.url()).root_certificates(include_bytes!("http/ca.pem")).unwrap().build().unwrap()
}

#[test]
fn settings_are_shown_without_secrets() {
    let error = Http::builder("https://h/a").root_certificates(b"not a certificate").unwrap_err();
    assert!(error.to_string().contains("no certificate"), "{error}");
    let http = http("http://user:secret@h/a");
    assert_eq!(http.describe(), "http://h/a/");
    assert!(!format!("{http:?}").contains("secret"));
    assert!(!http.takes_writes());
    assert_eq!(smol::block_on(http.write(&request("x"), Source::from("x"))), Err(Refusal::denied()));
}
