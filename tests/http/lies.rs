//! Upstreams whose bodies are not what their headers say.

use std::{
    io::Write,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    thread,
    time::Duration,
};

use tuffet::Refusal;

use super::{
    fetch, http, open, settings,
    upstream::{self, Upstream},
};

const HEAD: &str = "HTTP/1.1 200 OK\r\nETag: \"one\"\r\nContent-Length: 10\r\n\r\n";

#[test]
fn a_body_that_is_longer_than_it_says_ends_where_it_should() {
    for cache in [0, 1 << 20] {
        let upstream = Upstream::new(|head, stream| {
            // The surplus bytes look like the response to the next request.
            let body =
                if head.starts_with("GET /long ") { "0123456789HTTP/1.1 200 OK\r\n\r\nwrong" } else { "abcdefghij" };
            write!(stream, "{HEAD}{body}").unwrap();
        });
        let http = settings(&upstream.url()).cache(cache).build().unwrap();
        for _ in 0..3 {
            assert_eq!(fetch(&http, "long").unwrap(), b"0123456789");
            assert_eq!(fetch(&http, "right").unwrap(), b"abcdefghij");
        }
    }
}

#[test]
fn a_body_without_end_is_not_taken_beyond_what_it_says() {
    let written = Arc::new(AtomicUsize::new(0));
    let upstream = Upstream::new({
        let written = written.clone();
        move |_, stream| {
            stream.write_all(HEAD.as_bytes()).unwrap();
            while let Ok(n) = stream.write(&[b'.'; 4096]) {
                written.fetch_add(n, SeqCst);
            }
        }
    });
    let http = http(&upstream.url());
    assert_eq!(fetch(&http, "x").unwrap(), b"..........");
    thread::sleep(Duration::from_millis(200));
    // The buffers of the two sockets hold this much.
    assert!(written.load(SeqCst) < 8 << 20, "{}", written.load(SeqCst));
}

#[test]
fn a_body_that_is_always_shorter_than_it_says_is_given_up() {
    let asked = Arc::new(AtomicUsize::new(0));
    let upstream = Upstream::new({
        let asked = asked.clone();
        move |_, stream| {
            asked.fetch_add(1, SeqCst);
            write!(stream, "{HEAD}01234").unwrap();
            upstream::close(stream);
        }
    });
    assert_eq!(fetch(&http(&upstream.url()), "x"), Err(Refusal::upstream()));
    assert_eq!(asked.load(SeqCst), 11, "once, and ten tries");
}

#[test]
fn a_wrong_content_length_is_an_upstream_failure() {
    for lengths in [
        "Content-Length: -1",
        "Content-Length: ten",
        "Content-Length: 99999999999999999999999",
        "Content-Length: 5\r\nContent-Length: 7",
    ] {
        let upstream = Upstream::new(move |_, stream| {
            write!(stream, "HTTP/1.1 200 OK\r\n{lengths}\r\n\r\nhello").unwrap();
        });
        assert_eq!(open(&http(&upstream.url()), "x").map(drop), Err(Refusal::upstream()), "{lengths}");
    }
}

/// The first answer breaks after five bytes, and the second one is not the rest of the file.
#[test]
fn a_part_of_another_file_is_an_upstream_failure() {
    for part in [
        "206 Partial Content\r\nETag: \"one\"\r\nContent-Range: bytes 4-9/10\r\nContent-Length: 6",
        "206 Partial Content\r\nETag: \"one\"\r\nContent-Range: bytes 5-9/11\r\nContent-Length: 5",
        "206 Partial Content\r\nETag: \"one\"\r\nContent-Range: bytes 5-9/10\r\nContent-Length: 9",
        "206 Partial Content\r\nETag: \"one\"\r\nContent-Range: octets 5-9/10\r\nContent-Length: 5",
        "206 Partial Content\r\nETag: \"one\"\r\nContent-Length: 5",
        "206 Partial Content\r\nETag: \"two\"\r\nContent-Range: bytes 5-9/10\r\nContent-Length: 5",
        "206 Partial Content\r\nETag: \"one\"\r\nContent-Encoding: gzip\r\nContent-Range: bytes 5-9/10\r\n\
         Content-Length: 5",
        "200 OK\r\nETag: \"two\"\r\nContent-Length: 10",
        "200 OK\r\nETag: \"one\"\r\nContent-Length: 11",
    ] {
        for cache in [0, 1 << 20] {
            let upstream = Upstream::new(move |head, stream| {
                if head.to_ascii_lowercase().contains("\r\nrange: bytes=5-") {
                    return write!(stream, "HTTP/1.1 {part}\r\n\r\n56789abcdef").unwrap();
                }
                write!(stream, "{HEAD}01234").unwrap();
                upstream::close(stream);
            });
            let source = open(&settings(&upstream.url()).cache(cache).build().unwrap(), "x").unwrap();
            assert_eq!(smol::block_on(source.collect(100)), Err(Refusal::upstream()), "{part}");
        }
    }
}

#[test]
fn a_slow_body_is_a_body() {
    let upstream = Upstream::new(|_, stream| {
        stream.write_all(HEAD.as_bytes()).unwrap();
        for byte in b'0'..=b'9' {
            stream.write_all(&[byte]).unwrap();
            thread::sleep(Duration::from_millis(400));
        }
    });
    // Each byte comes in time, but the whole head does not.
    let http = settings(&upstream.url()).upstream_timeout(Duration::from_secs(3)).build().unwrap();
    assert_eq!(fetch(&http, "x").unwrap(), b"0123456789");
}
