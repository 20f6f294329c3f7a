//! Connections that are closed at a bad moment, and upstreams that fail for one file.

use std::{collections::HashMap, io::Read, net::TcpListener};

use super::*;

const HELLO: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";

/// The fault at the second request of a connection.
#[derive(Clone, Copy, Debug)]
enum Second {
    /// The connection is closed in good order.
    Closed,
    Reset,
    /// Part of the head comes before that.
    InTheHead,
    /// The server says that it has waited too long for the request.
    TooLate,
    /// The connection was closed when the first answer had been sent.
    Before,
}

/// An upstream whose connections are good for one request.
fn forgetful(second: Second) -> Upstream {
    Upstream::by_connection(move |mut stream| {
        if upstream::read_head(&mut stream).is_none() {
            return;
        }
        // The client may have left: each write may fail.
        let _ = stream.write_all(HELLO);
        if matches!(second, Second::Before) || upstream::read_head(&mut stream).is_none() {
            return;
        }
        let _ = match second {
            Second::Closed | Second::Before => Ok(()),
            Second::Reset => return upstream::reset(&stream),
            Second::InTheHead => stream.write_all(&HELLO[..20]),
            Second::TooLate => {
                stream.write_all(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            }
        };
    })
}

#[test]
fn a_request_on_a_connection_that_was_closed_is_sent_again() {
    for second in [Second::Closed, Second::Reset, Second::InTheHead, Second::TooLate, Second::Before] {
        let upstream = forgetful(second);
        let http = http(&upstream.url());
        for n in 0..6 {
            assert_eq!(fetch(&http, &format!("{n}")).unwrap(), b"hello", "{second:?} {n}");
        }
    }
}

/// Many connections are kept, and all of them have died.
#[test]
fn a_request_is_sent_again_on_a_new_connection() {
    let upstream = forgetful(Second::Reset);
    let http = http(&upstream.url());
    let at_once = |n: usize| {
        let executor = smol::LocalExecutor::new();
        let one = async |n: usize| http.read(&request(format!("{n}"))).await?.collect(5).await;
        let tasks: Vec<_> = (n..n + 8).map(|n| executor.spawn(one(n))).collect();
        smol::block_on(executor.run(async {
            for task in tasks {
                assert_eq!(task.await.unwrap(), b"hello");
            }
        }));
    };
    at_once(0);
    at_once(100);
}

/// A server without room for another connection closes it, and has room a moment later.
#[test]
fn an_upstream_that_answers_nothing_is_asked_again_for_a_moment() {
    for (closed, asks) in [(4, 5), (usize::MAX, 5)] {
        let asked = Arc::new(AtomicUsize::new(0));
        let counter = asked.clone();
        let upstream = Upstream::new(move |_, stream| match counter.fetch_add(1, SeqCst) < closed {
            true => upstream::close(stream),
            false => stream.write_all(HELLO).unwrap(),
        });
        let answer = fetch(&http(&upstream.url()), "x");
        assert_eq!(answer, if closed == 4 { Ok(b"hello".to_vec()) } else { Err(Refusal::upstream()) });
        assert_eq!(asked.load(SeqCst), asks);
    }
}

/// After a break in the middle of a body the rest is fetched if the file is known to be the same.
#[test]
fn a_kept_connection_that_breaks_in_a_body() {
    for (validator, whole) in [("ETag: \"1\"\r\n", true), ("Last-Modified: Mon\r\n", true), ("", false)] {
        let asked = AtomicUsize::new(0);
        let upstream = Upstream::new(move |head, stream| {
            let n = asked.fetch_add(1, SeqCst);
            if head.contains("bytes=5-") || head.contains("Bytes=5-") {
                let range = "Content-Range: bytes 5-9/10\r\nContent-Length: 5";
                return write!(stream, "HTTP/1.1 206 Partial Content\r\n{validator}{range}\r\n\r\n56789").unwrap();
            }
            write!(stream, "HTTP/1.1 200 OK\r\n{validator}Content-Length: 10\r\n\r\n01234").unwrap();
            match n {
                1 => upstream::close(stream),
                _ => stream.write_all(b"56789").unwrap(),
            }
        });
        let http = settings(&upstream.url()).cache(0).build().unwrap();
        assert_eq!(fetch(&http, "first").unwrap(), b"0123456789");
        let second = fetch(&http, "second");
        match whole {
            true => assert_eq!(second.unwrap(), b"0123456789", "{validator}"),
            // Half of a file is never completed with another file.
            false => assert_eq!(second, Err(Refusal::upstream())),
        }
        assert_eq!(fetch(&http, "third").unwrap(), b"0123456789");
    }
}

#[test]
fn one_sick_path_leaves_the_others_alone() {
    for sick in [
        "500 Internal Server Error",
        "502 Bad Gateway",
        "503 Service Unavailable",
        "504 Gateway Timeout",
        "429 Slow Down",
        "",
        "silence",
    ] {
        let upstream = Upstream::new(move |head, stream| match head.starts_with("GET /app/") {
            true if sick == "silence" => upstream::until_closed(stream),
            true if sick.is_empty() => upstream::close(stream),
            true => write!(stream, "HTTP/1.1 {sick}\r\nContent-Length: 0\r\n\r\n").unwrap(),
            false => stream.write_all(HELLO).unwrap(),
        });
        within_any_time("the other path is served", |time| {
            let http = settings(&upstream.url()).upstream_timeout(time).build().unwrap();
            for n in 0..5 {
                assert_eq!(fetch(&http, &format!("app/{n}")), Err(Refusal::upstream()), "{sick}");
            }
            fetch(&http, "static/vmlinuz").ok().map(|body| assert_eq!(body, b"hello", "{sick}"))
        });
    }
}

#[test]
fn a_redirect_to_a_dead_host_is_one_sick_path() {
    let (_closed, dead) = upstream::closed_port();
    let upstream = Upstream::new(move |head, stream| match head.starts_with("GET /far/") {
        true => write!(stream, "HTTP/1.1 302 Found\r\nLocation: {dead}x\r\nContent-Length: 0\r\n\r\n").unwrap(),
        false => stream.write_all(HELLO).unwrap(),
    });
    let http = http(&upstream.url());
    for n in 0..5 {
        assert_eq!(fetch(&http, &format!("far/{n}")), Err(Refusal::upstream()));
    }
    assert_eq!(fetch(&http, "near").unwrap(), b"hello");
}

#[test]
fn a_dead_upstream_is_left_alone_for_a_while() {
    let (socket, dead) = upstream::closed_port();
    let http = http(&dead);
    let detail = |name: &str| open(&http, name).unwrap_err().detail().unwrap().to_owned();
    for n in 0..3 {
        assert!(detail(&format!("{n}")).contains("refused"), "{n}");
    }
    assert!(detail("more").contains("not asked, because 3 connections in a row failed"));
    socket.listen(16).unwrap();
    let listener = TcpListener::from(socket);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 1000]);
            stream.write_all(HELLO).unwrap();
        }
    });
    thread::sleep(Duration::from_millis(2100));
    assert_eq!(fetch(&http, "f").unwrap(), b"hello");
}

#[test]
fn the_base_is_asked_before_anybody_comes() {
    let ask = |http: &Http| smol::block_on(http.ask_base());
    for (answer, expected) in [
        ("200 OK\r\nContent-Length: 1000", Ok("answered 200 OK")),
        ("404 Not Found\r\nContent-Length: 0", Ok("answered 404 Not Found")),
        ("403 Forbidden\r\nContent-Length: 0", Ok("answered 403 Forbidden")),
        // Then a GET shows how the base is.
        ("405 Method Not Allowed\r\nContent-Length: 0", Ok("answered 418 I'm a teapot")),
        ("501 Not Implemented\r\nContent-Length: 0", Ok("answered 418 I'm a teapot")),
        (
            "301 Moved Permanently\r\nLocation: https://h/x/\r\nContent-Length: 0",
            Ok("answered 301 Moved Permanently to https://h/x/"),
        ),
        ("302 Found\r\nLocation: /y\r\nContent-Length: 0", Ok("answered 302 Found to ")),
        ("503 Service Unavailable\r\nContent-Length: 0", Err("answered 503 Service Unavailable")),
    ] {
        let upstream = Upstream::new(move |head, stream| {
            let answer = if head.starts_with("HEAD ") { answer } else { "418 I'm a teapot\r\nContent-Length: 0" };
            assert!(head.contains(" /base/ HTTP/1.1\r\n"), "{head}");
            write!(stream, "HTTP/1.1 {answer}\r\n\r\n").unwrap();
        });
        let answer = ask(&http(&format!("{}base", upstream.url())));
        let said = answer.as_deref().map_err(|refusal| refusal.detail().unwrap());
        match (said, expected) {
            (Ok(said), Ok(expected)) if expected.ends_with("to ") => {
                assert_eq!(said, format!("{expected}{}y", upstream.url()));
            }
            _ => assert_eq!(said, expected),
        }
    }
    let (_closed, dead) = upstream::closed_port();
    assert!(ask(&http(&dead)).unwrap_err().detail().unwrap().contains("refused"));
    let stranger = Upstream::secure("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello");
    assert!(ask(&http(&stranger.url())).unwrap_err().detail().unwrap().contains("certificate"));
    let silent = Upstream::new(|_, stream| upstream::until_closed(stream));
    let refusal =
        ask(&settings(&silent.url()).upstream_timeout(Duration::from_millis(300)).build().unwrap()).unwrap_err();
    assert_eq!(refusal.detail(), Some("no byte for 300ms"));
    // Names below `.invalid` never exist (RFC 6761).
    let detail = ask(&http("http://mirror.invalid/")).unwrap_err();
    assert!(detail.detail().unwrap().contains("dns error"), "{detail}");
}

/// Web servers limit the rate of requests when many machines boot.
#[test]
fn a_server_that_is_busy_for_a_moment_is_asked_once_more() {
    for (answer, tries) in [
        ("503 Service Unavailable\r\nRetry-After: 0", 2),
        ("429 Too Many Requests\r\nRetry-After: 0", 2),
        ("503 Service Unavailable\r\nRetry-After: 4", 1),
        ("503 Service Unavailable\r\nRetry-After: Fri, 31 Dec 1999 23:59:59 GMT", 1),
        ("503 Service Unavailable", 1),
        ("500 Internal Server Error\r\nRetry-After: 0", 1),
        ("404 Not Found\r\nRetry-After: 0", 1),
    ] {
        let heads = Arc::new(Mutex::new(Vec::new()));
        let (asked, busy) = (heads.clone(), Arc::new(AtomicUsize::new(1)));
        let upstream = Upstream::new(move |head, stream| {
            asked.lock().unwrap().push(head.to_owned());
            match busy.swap(0, SeqCst) {
                0 => stream.write_all(HELLO).unwrap(),
                _ => write!(stream, "HTTP/1.1 {answer}\r\nContent-Length: 0\r\n\r\n").unwrap(),
            }
        });
        assert_eq!(fetch(&http(&upstream.url()), "x").is_ok(), tries == 2, "{answer}");
        assert_eq!(heads.lock().unwrap().len(), tries, "{answer}");
    }
}

/// Mirrors limit the rate of requests of one address, and this one does not say for how long.
#[test]
fn a_busy_server_that_answers_others_is_asked_again_and_longer_if_other_files_are_asked_for() {
    let asked = Arc::new(Mutex::new(HashMap::<String, usize>::new()));
    let (counts, (held, until)) = (asked.clone(), mpsc::channel::<()>());
    let until = Mutex::new(until);
    let upstream = Upstream::new(move |head, stream| {
        let path = head.split(' ').nth(1).unwrap().to_owned();
        let count = {
            let mut counts = counts.lock().unwrap();
            let count = counts.entry(path.clone()).or_default();
            *count += 1;
            *count
        };
        if path == "/held" {
            _ = until.lock().unwrap().recv();
        }
        let is_busy = path.strip_prefix("/busy-").is_some_and(|times| count <= times.parse().unwrap());
        let busy = &b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"[..];
        let _ = stream.write_all(if is_busy { busy } else { HELLO });
    });
    let http = Arc::new(http(&upstream.url()));
    assert!(fetch(&http, "busy-9").is_err(), "nothing is known of it yet");
    fetch(&http, "well").unwrap();
    assert_eq!(fetch(&http, "busy-3").unwrap(), b"hello");
    assert!(fetch(&http, "busy-4").is_err());
    // It is well for ten more seconds.
    fetch(&http, "well-2").unwrap();
    let other = http.clone();
    let other = thread::spawn(move || fetch(&other, "held"));
    while !asked.lock().unwrap().contains_key("/held") {
        thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(fetch(&http, "busy-5").unwrap(), b"hello");
    drop(held);
    assert_eq!(other.join().unwrap().unwrap(), b"hello");
    let asked = asked.lock().unwrap();
    let counts = ["/busy-9", "/well", "/busy-3", "/busy-4", "/busy-5", "/held"].map(|path| asked[path]);
    assert_eq!(counts, [1, 1, 4, 4, 6, 1]);
}

/// Names of headers have no case, but the servers of small devices know one spelling.
#[test]
fn headers_have_their_usual_spelling() {
    let (sender, heads) = mpsc::channel();
    let upstream = Upstream::new(move |head, stream| {
        sender.send(head.to_owned()).unwrap();
        stream.write_all(HELLO).unwrap();
    });
    fetch(&settings(&upstream.url()).header("x-site", "7").unwrap().build().unwrap(), "x").unwrap();
    let head = heads.recv_timeout(LONG).unwrap();
    for header in ["\r\nHost: ", "\r\nUser-Agent: ", "\r\nX-Site: "] {
        assert!(head.contains(header), "{head}");
    }
}

#[test]
fn a_malformed_header_does_not_hide_the_file() {
    for (header, size) in [
        ("Content-Length : 5", Some(5)),
        ("Server: a\r\n b\r\nContent-Length: 5", Some(5)),
        ("X Y: 1\r\nContent-Length: 5", Some(5)),
        ("no header\r\nContent-Length: 5", Some(5)),
        ("Content Length: 5", None),
    ] {
        let upstream = Upstream::by_connection(move |mut stream| {
            upstream::read_head(&mut stream).unwrap();
            write!(stream, "HTTP/1.1 200 OK\r\n{header}\r\n\r\nhello").unwrap();
            upstream::close(&stream);
        });
        let source = open(&http(&upstream.url()), "x").unwrap_or_else(|refusal| panic!("{header}: {refusal}"));
        assert_eq!(source.size(), size, "{header}");
        assert_eq!(smol::block_on(source.collect(5)).unwrap(), b"hello", "{header}");
    }
    // Two lengths are no length.
    let upstream = Upstream::answering("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello");
    assert_eq!(open(&http(&upstream.url()), "x").unwrap_err(), Refusal::upstream());
}
