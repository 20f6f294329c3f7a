//! Parts of files, and files that the client has already.

use std::{
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
};

use tuffet::{Gen, Source, handlers::Directory, read, transfer::Outcome};

use super::{
    MODIFIED,
    client::{Connection, get},
    common::Peer,
    put, serve,
};

fn bytes(length: u32) -> Vec<u8> {
    (0..length).map(|n| (n.wrapping_mul(n) >> 7) as u8).collect()
}

#[test]
fn parts_of_a_directorys_file() {
    let place = tempfile::tempdir().unwrap();
    let all = bytes(500_000);
    put(place.path(), "image", &all);
    let server = serve(Directory::new(place.path()).unwrap());
    let mut connection = Connection::to(&server);
    for (range, first, end) in [
        ("bytes=0-0", 0, 1),
        ("bytes=100-199", 100, 200),
        ("bytes=123457-", 123_457, 500_000),
        ("bytes=-7", 499_993, 500_000),
        ("bytes=499999-600000", 499_999, 500_000),
        ("bytes=0-", 0, 500_000),
    ] {
        let answer = connection.get("/image", &[&format!("Range: {range}")]);
        assert_eq!((answer.status, answer.body.len()), (206, end - first), "{range}");
        assert!(answer.body == all[first..end], "{range}");
        let told = format!("bytes {first}-{}/500000", end - 1);
        assert_eq!(answer.header("content-range"), Some(told.as_str()));
        let record = server.record();
        assert_eq!((record.outcome, record.bytes), (Outcome::Complete, (end - first) as u64), "{range}");
        assert_eq!((record.status, record.size), (Some(206), Some(500_000)));
        assert!(record.asked.iter().any(|option| option == ("range", range)), "{range}");
    }
    let answer = connection.get("/image", &["Range: bytes=500000-"]);
    assert_eq!((answer.status, answer.header("content-range")), (416, Some("bytes */500000")));
    assert_eq!(connection.get("/image", &["Range: bytes=0-1,5-6"]).body.len(), 500_000, "several are all");
    assert_eq!(connection.get("/image", &["Range: lines=1-2"]).status, 200);
}

/// Larger than a number of 32 bits can say.
#[cfg(unix)]
#[test]
fn a_file_of_5_gib() {
    use std::os::unix::fs::FileExt;
    const SIZE: u64 = 5 << 30;
    let place = tempfile::tempdir().unwrap();
    let image = std::fs::File::create(place.path().join("image")).unwrap();
    image.write_all_at(b"the end", SIZE - 7).unwrap();
    let server = serve(Directory::new(place.path()).unwrap());
    for range in [format!("bytes={}-", SIZE - 7), "bytes=-7".into()] {
        let answer = Connection::to(&server).get("/image", &[&format!("Range: {range}")]);
        assert_eq!((answer.status, answer.text()), (206, "the end"), "{range}");
        let told = format!("bytes {}-{}/{SIZE}", SIZE - 7, SIZE - 1);
        assert_eq!(answer.header("content-range"), Some(told.as_str()));
    }
    let mut peer = Peer::new(server.addr());
    peer.rrq("image", &[("tsize", "0")]).expect_oack(&[("tsize", &SIZE.to_string())]);
    peer.error(0);
}

/// The server reads a generator from its beginning to the end of the range, and no further.
#[test]
fn parts_of_what_is_made_up() {
    let made = Arc::new(AtomicU64::new(0));
    let count = made.clone();
    let server = serve(read(async move |_| {
        let count = count.clone();
        let all = Rc::new(bytes(100_000));
        Source::from(Gen::new(async move |co| {
            for chunk in all.chunks(1000) {
                count.fetch_add(1, SeqCst);
                co.yield_(chunk.to_vec()).await;
            }
        }))
        .with_size(100_000)
    }));
    let answer = Connection::to(&server).get("/x", &["Range: bytes=1500-3499"]);
    assert_eq!(answer.status, 206);
    assert!(answer.body == bytes(100_000)[1500..3500]);
    assert_eq!(server.record().outcome, Outcome::Complete);
    assert_eq!(made.load(SeqCst), 4, "and not one chunk more");
}

#[test]
fn a_file_that_the_client_has_is_not_sent_again() {
    let place = tempfile::tempdir().unwrap();
    put(place.path(), "file", b"0123456789");
    let server = serve(Directory::new(place.path()).unwrap());
    let mut connection = Connection::to(&server);
    let etag = connection.get("/file", &[]).header("etag").unwrap().to_owned();
    server.record();
    let before = "Sun, 06 Nov 1994 08:49:36 GMT";
    for (lines, status) in [
        (vec![format!("If-None-Match: {etag}")], 304),
        (vec![format!("If-None-Match: \"x\", W/{etag}")], 304),
        (vec!["If-None-Match: \"x\"".into()], 200),
        (vec![format!("If-Modified-Since: {MODIFIED}")], 304),
        (vec![format!("If-Modified-Since: {before}")], 200),
        (vec!["If-None-Match: \"x\"".into(), format!("If-Modified-Since: {MODIFIED}")], 200),
        (vec!["If-Match: \"x\"".into()], 412),
        (vec![format!("If-Unmodified-Since: {before}")], 412),
        (vec![format!("If-Range: {etag}"), "Range: bytes=2-3".into()], 206),
        (vec![format!("If-Range: {MODIFIED}"), "Range: bytes=2-3".into()], 206),
        (vec!["If-Range: \"x\"".into(), "Range: bytes=2-3".into()], 200),
        (vec![format!("If-Range: {before}"), "Range: bytes=2-3".into()], 200),
    ] {
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let answer = connection.get("/file", &lines);
        assert_eq!(answer.status, status, "{lines:?}");
        let length = match status {
            200 => 10,
            206 => 2,
            304 => 0,
            _ => answer.body.len(),
        };
        assert_eq!(answer.body.len(), length);
        if status == 304 {
            assert_eq!((answer.header("etag"), answer.header("content-type")), (Some(etag.as_str()), None));
        }
        assert_eq!(server.record().status, Some(status));
    }
}

#[test]
fn a_file_that_is_exchanged_has_another_tag() {
    let place = tempfile::tempdir().unwrap();
    put(place.path(), "file", b"0123456789");
    let server = serve(Directory::new(place.path()).unwrap());
    let before = get(&server, "/file").header("etag").unwrap().to_owned();
    put(place.path(), "file", b"01234567890");
    let mut connection = Connection::to(&server);
    let answer = connection.get("/file", &[&format!("If-Range: {before}"), "Range: bytes=5-"]);
    assert_eq!((answer.status, answer.text()), (200, "01234567890"), "old and new are not mixed");
    std::fs::write(place.path().join("file"), "new").unwrap();
    let answer = connection.get("/file", &[]);
    assert!(answer.header("etag").unwrap().starts_with("W/"), "it may be written to once more: {answer:?}");
}

#[test]
fn validators_of_a_source_are_passed_on() {
    let server = serve(read(async |_| Source::from("hello").with_etag("\"abc\"")));
    let mut connection = Connection::to(&server);
    let answer = connection.get("/x", &[]);
    assert_eq!((answer.header("etag"), answer.header("last-modified")), (Some("\"abc\""), None));
    assert_eq!(connection.get("/x", &["If-None-Match: \"abc\""]).status, 304);
    // Nothing is known of this one, and no header is empty.
    let server = serve(read(async |_| "hello"));
    assert_eq!(get(&server, "/x").header("etag"), None);
}

/// Clients get the validators of web servers and buckets.
#[cfg(feature = "http")]
#[test]
fn validators_come_from_upstream() {
    use tuffet::handlers::Http;

    let place = tempfile::tempdir().unwrap();
    let all = bytes(400_000);
    put(place.path(), "image", &all);
    let upstream = serve(Directory::new(place.path()).unwrap());
    let base = format!("http://{}/", upstream.http[0]);
    let server = serve(Http::builder(&base).direct().cache(8 << 20).build().unwrap());
    let (here, there) = (get(&server, "/image"), get(&upstream, "/image"));
    for name in ["etag", "last-modified", "content-length"] {
        assert!(here.header(name).is_some());
        assert_eq!(here.header(name), there.header(name), "{name}");
    }
    let mut connection = Connection::to(&server);
    let part = connection.get("/image", &["Range: bytes=300000-300099"]);
    assert_eq!(part.status, 206);
    assert!(part.body == all[300_000..300_100]);
    let etag = here.header("etag").unwrap();
    assert_eq!(connection.get("/image", &[&format!("If-None-Match: {etag}")]).status, 304);
}

/// The server checks a file that the kernel sends once more before its end.
#[test]
fn a_file_that_changes_while_it_is_sent_ends_its_connection() {
    use std::io::Write;

    let place = tempfile::tempdir().unwrap();
    let all = bytes(64 << 20);
    for (change, whole) in
        [("none", true), ("appended to", true), ("written to", false), ("cut", false), ("emptied", false)]
    {
        put(place.path(), "image", &all);
        let server = serve(Directory::new(place.path()).unwrap());
        let mut connection = Connection::to(&server);
        // A small window, so that most of it is still to come.
        socket2::SockRef::from(connection.socket()).set_recv_buffer_size(64 << 10).unwrap();
        connection.send("GET /image HTTP/1.1\r\nHost: x\r\n\r\n").read_head().unwrap();
        let path = place.path().join("image");
        let mut file = std::fs::File::options().write(true).open(&path).unwrap();
        match change {
            "appended to" => std::fs::File::options().append(true).open(&path).unwrap().write_all(b"more").unwrap(),
            "written to" => file.write_all(b"other").unwrap(),
            "cut" => file.set_len(32 << 20).unwrap(),
            // Before the next byte is sent.
            "emptied" => file.set_len(1).unwrap(),
            _ => {}
        }
        let got = connection.read_exactly(all.len());
        assert_eq!(got.is_some(), whole, "{change}");
        assert!(got.is_none_or(|got| got == all), "{change}");
        let record = server.record();
        assert_eq!(record.outcome.name(), if whole { "complete" } else { "failed" }, "{change}: {record}");
    }
}
