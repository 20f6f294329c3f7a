//! Content-Encoding labels that were not requested.

use super::*;

/// An upstream with this header on a body of so many bytes, in which a range of it can be had.
fn labelled(header: &'static str) -> Upstream {
    Upstream::new(move |head, stream| {
        let head = head.to_ascii_lowercase();
        let range = head.split("range: bytes=").nth(1).map(|range| range.split('-').next().unwrap());
        let first: usize = range.map_or(0, |first| first.parse().unwrap());
        let (body, last) = (&b"0123456789"[first..], 9);
        let status = match range {
            Some(_) => format!("206 Partial Content\r\nContent-Range: bytes {first}-{last}/10"),
            None => "200 OK".into(),
        };
        let length = body.len();
        write!(stream, "HTTP/1.1 {status}\r\n{header}ETag: \"1\"\r\nContent-Length: {length}\r\n\r\n").unwrap();
        // The connection breaks in the middle of the file, and the rest comes as a range.
        let until = if first == 0 && head.contains("/broken ") { 5 } else { length };
        stream.write_all(&body[..until]).unwrap();
        if until < length {
            upstream::close(stream);
        }
    })
}

#[test]
fn a_stored_file_is_served_whatever_its_label() {
    for header in [
        "",
        "Content-Encoding: gzip\r\n",
        "Content-Encoding: x-gzip\r\n",
        "Content-Encoding: GZIP, x-gzip\r\n",
        "Content-Encoding: gzip\r\nContent-Encoding: br\r\n",
        "Content-Encoding:\r\n",
        "Content-Encoding: \r\n",
        "Content-Encoding: identity\r\n",
        "Content-Encoding: aws-chunked\r\n",
        "Content-Encoding: aws-chunked,gzip\r\n",
        "Content-Encoding: zstd, \r\n",
    ] {
        for cache in [0, 1 << 20] {
            let upstream = labelled(header);
            let http = settings(&upstream.url()).cache(cache).build().unwrap();
            assert_eq!(open(&http, "x").unwrap().size(), Some(10), "{header:?}");
            assert_eq!(fetch(&http, "x").unwrap(), b"0123456789", "{header:?}");
            assert_eq!(fetch(&http, "broken").unwrap(), b"0123456789", "{header:?}");
        }
    }
}

#[test]
fn a_label_on_a_body_of_unknown_size_changes_nothing_either() {
    let upstream = Upstream::answering(
        "HTTP/1.1 200 OK\r\nContent-Encoding: x-gzip\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    );
    assert_eq!(fetch(&http(&upstream.url()), "x").unwrap(), b"hello");
}

#[test]
fn a_body_that_is_compressed_for_its_way_is_no_file() {
    for (codings, is_file) in [
        ("Transfer-Encoding: chunked", true),
        ("Transfer-Encoding: Chunked", true),
        ("Transfer-Encoding: identity, chunked", true),
        ("Transfer-Encoding: , chunked", true),
        ("Transfer-Encoding: gzip, chunked", false),
        ("Transfer-Encoding: x-gzip,chunked", false),
        ("Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked", false),
        ("Transfer-Encoding: deflate, identity, chunked", false),
        ("Transfer-Encoding: chunked, chunked", false),
        ("Transfer-Encoding: gzip", false),
    ] {
        let upstream = Upstream::new(move |_, stream| {
            write!(stream, "HTTP/1.1 200 OK\r\n{codings}\r\n\r\n5\r\nhello\r\n0\r\n\r\n").unwrap();
            upstream::close(stream);
        });
        let answer = fetch(&http(&upstream.url()), "x");
        match is_file {
            true => assert_eq!(answer.unwrap(), b"hello", "{codings}"),
            false => {
                let refusal = answer.unwrap_err();
                assert_eq!(refusal, Refusal::upstream(), "{codings}");
                assert!(refusal.detail().unwrap().contains("Transfer-Encoding"), "{refusal}");
            }
        }
    }
}
