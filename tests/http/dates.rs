//! Upstreams without an ETag, such as the file servers of Go and Python: a date is only compared for a newer one.

use super::*;

const DATES: [&str; 2] = ["Sat, 21 Nov 2026 00:00:00 GMT", "Sun, 22 Nov 2026 00:00:00 GMT"];

#[test]
fn an_older_file_that_replaces_a_newer_one_is_noticed() {
    let texts = ["older", "newer"];
    for (ranges, texts, expected) in [
        (false, texts, &["200", "200", "200"][..]),
        (true, texts, &["200", "206", "200"]),
        // An empty file has no first byte.
        (true, ["", ""], &["200", "416", "200", "200"]),
    ] {
        let (told, state) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicUsize::new(1)));
        let (tell, now) = (told.clone(), state.clone());
        let upstream = Upstream::new(move |head, stream| {
            let has = |header: &str, value: &str| head.contains(&format!("\r\n{header}: {value}"));
            let (date, text) = (DATES[now.load(SeqCst)], texts[now.load(SeqCst)]);
            let is_part = ranges && has("Range", "bytes=0-0") && has("If-Range", date);
            let is_old = DATES[now.load(SeqCst)..].iter().any(|date| has("If-Modified-Since", date));
            let (status, body) = match text {
                _ if is_old => ("304 Not Modified", ""),
                "" if is_part => ("416 Range Not Satisfiable", ""),
                text if is_part => ("206 Partial Content\r\nContent-Range: bytes 0-0/5", &text[..1]),
                text => ("200 OK", text),
            };
            tell.lock().unwrap().push(&status[..3]);
            let head = format!("{status}\r\nLast-Modified: {date}\r\nContent-Length: {}", body.len());
            write!(stream, "HTTP/1.1 {head}\r\n\r\n{body}").unwrap();
        });
        let http = http(&upstream.url());
        for n in [1, 1, 0] {
            state.store(n, SeqCst);
            assert_eq!(fetch(&http, "x").unwrap(), texts[n].as_bytes(), "{told:?}");
            // An answer stays fresh for a second.
            if n == 1 {
                thread::sleep(Duration::from_millis(1100));
            }
        }
        assert_eq!(*told.lock().unwrap(), expected);
    }
}
