//! Connections that break in the middle of a file.

use std::sync::atomic::Ordering::SeqCst;

use tuffet::Refusal;

use super::{
    fetch,
    files::{Fault, Files},
    http, next, open, settings, within_any_time,
};

const SIZE: usize = 300_000;

#[test]
fn a_break_anywhere_is_a_pause() {
    for n in [0, 1, 511, 65_536, SIZE - 1] {
        for fault in [Fault::Reset(n), Fault::Close(n)] {
            let files = Files::new(SIZE);
            files.fail([fault]);
            assert!(fetch(&http(&files.url()), "x").unwrap() == files.content(), "{fault:?}");
            assert_eq!(files.requests(), 2, "{fault:?}");
            let range = files.asked(1, "range");
            match fault {
                Fault::Close(n) if n > 0 => assert_eq!(range, Some(format!("bytes={n}-"))),
                _ => {}
            }
            assert_eq!(files.asked(1, "if-range").is_some(), range.is_some());
        }
    }
}

#[test]
fn many_breaks_with_progress_are_survived() {
    let files = Files::new(SIZE);
    files.fail([Fault::Close(SIZE / 15); 12]);
    assert!(fetch(&http(&files.url()), "x").unwrap() == files.content());
    assert_eq!(files.served(), SIZE);
}

#[test]
fn a_stalled_download_goes_on_by_a_new_connection() {
    within_any_time("nothing stalls but what should", |time| {
        let files = Files::new(SIZE);
        files.fail([Fault::Stall(1000), Fault::Stall(0)]);
        let http = settings(&files.url()).upstream_timeout(2 * time).build().unwrap();
        let fetched = fetch(&http, "x").ok()?;
        assert!(fetched == files.content());
        (files.requests() == 3 && files.asked(2, "range").as_deref() == Some("bytes=1000-")).then_some(())
    });
}

#[test]
fn a_restart_of_the_upstream_is_survived() {
    let files = Files::new(SIZE);
    let busy = Fault::Status("503 Service Unavailable");
    files.fail([Fault::Close(70_000), busy, Fault::Status("500 Internal Server Error"), busy]);
    assert!(fetch(&http(&files.url()), "x").unwrap() == files.content());
    assert_eq!(files.requests(), 5);
}

#[test]
fn a_date_is_a_validator() {
    let files = Files::new(SIZE);
    *files.state.etag.lock().unwrap() = None;
    *files.state.headers.lock().unwrap() = "Last-Modified: Sat, 21 Nov 2026 00:00:00 GMT\r\n".into();
    // This upstream compares nothing but ETags, and so gives all of the file.
    files.fail([Fault::Close(70_000)]);
    assert!(fetch(&http(&files.url()), "x").unwrap() == files.content());
    assert_eq!(files.asked(1, "if-range").unwrap(), "Sat, 21 Nov 2026 00:00:00 GMT");
}

#[test]
fn without_ranges_the_beginning_is_fetched_again() {
    let files = Files::new(SIZE);
    *files.state.ranges.lock().unwrap() = false;
    files.fail([Fault::Close(70_000), Fault::Close(60_000), Fault::Close(200_000)]);
    assert!(fetch(&http(&files.url()), "x").unwrap() == files.content());
    assert_eq!(files.served(), SIZE + 330_000);
}

#[test]
fn chunks_of_unknown_number_go_on_too() {
    let files = Files::new(SIZE);
    *files.state.chunked.lock().unwrap() = true;
    files.fail([Fault::Close(70_000)]);
    assert!(fetch(&http(&files.url()), "x").unwrap() == files.content());
}

#[test]
fn a_file_that_changed_is_not_mixed() {
    for (ranges, size) in [(true, SIZE), (false, SIZE), (true, 10), (true, SIZE + 1)] {
        let files = Files::new(SIZE);
        let old = files.content();
        *files.state.ranges.lock().unwrap() = ranges;
        files.fail([Fault::Close(70_000)]);
        let mut source = open(&http(&files.url()), "x").unwrap();
        let mut had = next(&mut source).unwrap().unwrap().to_vec();
        *files.state.content.lock().unwrap() = vec![7; size];
        *files.state.etag.lock().unwrap() = Some("\"two\"");
        let refusal = loop {
            match next(&mut source).unwrap() {
                Ok(chunk) => had.extend(chunk),
                Err(refusal) => break refusal,
            }
        };
        assert_eq!(refusal, Refusal::upstream());
        assert!(refusal.detail().unwrap().ends_with("x: the file changed upstream"), "{refusal}");
        assert_eq!(had, old[..70_000]);
    }
}

#[test]
fn a_file_that_is_gone_ends_the_transfer() {
    let files = Files::new(SIZE);
    files.fail([Fault::Close(70_000), Fault::Status("404 Not Found")]);
    let refusal = fetch(&http(&files.url()), "x").unwrap_err();
    assert_eq!(refusal, Refusal::upstream());
    assert_eq!(files.requests(), 2);
}

#[test]
fn a_file_without_a_validator_is_not_resumed() {
    for etag in [None, Some("W/\"weak\"")] {
        let files = Files::new(SIZE);
        *files.state.etag.lock().unwrap() = etag;
        files.fail([Fault::Close(70_000)]);
        assert_eq!(fetch(&http(&files.url()), "x"), Err(Refusal::upstream()));
        assert_eq!((files.requests(), files.state.served.load(SeqCst)), (1, 70_000));
    }
}

/// An old connection may be closed just after the head of an answer.
#[test]
fn a_break_before_the_first_byte_needs_no_validator() {
    let broken = |breaks: &[Fault]| {
        let files = Files::new(SIZE);
        *files.state.etag.lock().unwrap() = None;
        files.fail(breaks.iter().copied());
        let fetched = fetch(&http(&files.url()), "x").map(|bytes| bytes == files.content());
        (fetched, files.requests())
    };
    assert_eq!(broken(&[Fault::Close(0)]), (Ok(true), 2));
    assert_eq!(broken(&[Fault::Close(0), Fault::Close(1)]), (Err(Refusal::upstream()), 2));
    assert_eq!(broken(&[Fault::Close(0), Fault::Close(0)]), (Err(Refusal::upstream()), 2), "once");
    assert_eq!(broken(&[Fault::Close(0), Fault::Status("404 Not Found")]), (Err(Refusal::upstream()), 2));
}
