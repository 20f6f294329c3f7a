//! Many transfers of one file, which cost few requests.

use std::{
    cell::Cell,
    sync::{Arc, atomic::Ordering::SeqCst, mpsc},
    thread,
    time::{Duration, Instant},
};

use smol::{LocalExecutor, future::yield_now};
use tuffet::{Handler, Refusal, Source, handlers::Http};

use super::{
    LONG, fetch,
    files::{Fault, Files, content},
    http, next, open, request, settings,
};

const MIB: usize = 1 << 20;

/// Reads to the end with pauses, and compares the bytes.
async fn read(http: &Http, expected: &[u8], pause: Duration) -> Result<(), Refusal> {
    let mut source = http.read(&request("x")).await?;
    let mut position = 0;
    while let Some(chunk) = source.next().await {
        let chunk = chunk?;
        assert!(chunk == expected[position..position + chunk.len()], "at {position}");
        position += chunk.len();
        match pause {
            Duration::ZERO => yield_now().await,
            pause => _ = smol::Timer::after(pause).await,
        }
    }
    assert_eq!(position, expected.len());
    Ok(())
}

/// This many readers at once.
fn read_at_once(http: &Http, expected: &[u8], readers: usize) {
    let executor = LocalExecutor::new();
    let tasks: Vec<_> = (0..readers).map(|_| executor.spawn(read(http, expected, Duration::ZERO))).collect();
    smol::block_on(executor.run(async {
        for task in tasks {
            task.await.unwrap();
        }
    }));
}

/// The same on each of two threads.
fn read_all(http: &Arc<Http>, expected: &Arc<Vec<u8>>, readers: usize) {
    let (done, all) = mpsc::channel();
    for _ in 0..2 {
        let (http, expected, done) = (http.clone(), expected.clone(), done.clone());
        thread::spawn(move || {
            read_at_once(&http, &expected, readers);
            done.send(()).unwrap();
        });
    }
    for _ in 0..2 {
        all.recv_timeout(6 * LONG).unwrap();
    }
}

#[test]
fn two_hundred_readers_cost_the_upstream_one_file() {
    let size = 8 * MIB;
    for (cache, most) in [(2 * size, size), (size / 4, 3 * size)] {
        let files = Files::new(size);
        let (http, expected) =
            (Arc::new(settings(&files.url()).cache(cache).build().unwrap()), Arc::new(files.content()));
        read_all(&http, &expected, 100);
        println!("{} requests, {} bytes of {size} with a cache of {cache}", files.requests(), files.served());
        assert!(files.served() <= most, "{} bytes", files.served());
        assert!(http.cached() <= cache && http.cached() > cache / 3, "{} bytes", http.cached());
    }
}

#[test]
fn a_small_cache_and_many_files_end_too() {
    let files = Files::new(MIB);
    let (http, expected) = (Arc::new(settings(&files.url()).cache(64 << 10).build().unwrap()), files.content());
    let executor = LocalExecutor::new();
    let read_one = async |n: usize| {
        let mut source = http.read(&request(format!("{}", n % 20))).await.unwrap();
        let mut all = Vec::new();
        while let Some(chunk) = source.next().await {
            all.extend_from_slice(&chunk.unwrap());
            yield_now().await;
        }
        assert!(all == expected);
    };
    let tasks: Vec<_> = (0..60).map(|n| executor.spawn(read_one(n))).collect();
    smol::block_on(executor.run(async {
        for task in tasks {
            task.await;
        }
    }));
    println!("{} requests, {} bytes", files.requests(), files.served());
    assert!(http.cached() <= 64 << 10);
}

#[test]
fn a_late_joiner_and_a_slow_reader_get_the_same() {
    let size = 4 * MIB;
    let files = Files::new(size);
    let (http, expected) = (settings(&files.url()).cache(size / 4).build().unwrap(), files.content());
    let executor = LocalExecutor::new();
    let slow = executor.spawn(read(&http, &expected, Duration::from_millis(2)));
    let quick = executor.spawn(read(&http, &expected, Duration::ZERO));
    smol::block_on(executor.run(async {
        quick.await.unwrap();
        read(&http, &expected, Duration::ZERO).await.unwrap();
        slow.await.unwrap();
    }));
    println!("{} requests, {} bytes", files.requests(), files.served());
    assert!(files.served() <= 4 * size);
}

#[test]
fn a_shared_download_outlives_its_first_client() {
    let files = Files::new(4 * MIB);
    let (http, expected) = (settings(&files.url()).cache(MIB).build().unwrap(), files.content());
    let mut first = open(&http, "x").unwrap();
    let mut second = open(&http, "x").unwrap();
    next(&mut first).unwrap().unwrap();
    drop(first);
    let mut all = Vec::new();
    while let Some(chunk) = next(&mut second) {
        all.extend_from_slice(&chunk.unwrap());
    }
    assert!(all == expected);
    assert_eq!(files.requests(), 1);
}

#[test]
fn a_client_that_leaves_early_leaves_the_request_to_another() {
    let files = Files::new(1000);
    let closed = files.state.gate.lock().unwrap();
    let http = http(&files.url());
    let executor = LocalExecutor::new();
    let first = executor.spawn(async { drop(http.read(&request("x")).await) });
    let others: Vec<_> =
        (0..10).map(|_| executor.spawn(async { http.read(&request("x")).await.unwrap().collect(MIB).await })).collect();
    smol::block_on(executor.run(async {
        while files.requests() == 0 {
            smol::Timer::after(Duration::from_millis(2)).await;
        }
        drop(first);
        drop(closed);
        for other in others {
            assert!(other.await.unwrap() == files.content());
        }
    }));
    assert_eq!(files.requests(), 2);
}

#[test]
fn the_last_client_closes_the_connection_when_it_leaves() {
    let files = Files::new(64 * MIB);
    let http = http(&files.url());
    let (mut one, mut other) = (open(&http, "x").unwrap(), open(&http, "x").unwrap());
    next(&mut one).unwrap().unwrap();
    next(&mut other).unwrap().unwrap();
    drop((one, other));
    assert!(files.served() < 64 * MIB);
    let deadline = Instant::now() + LONG;
    while files.state.open.load(SeqCst) > 0 {
        assert!(Instant::now() < deadline);
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_fetch_does_not_run_ahead_of_all_clients() {
    let files = Files::new(64 * MIB);
    let http = settings(&files.url()).cache(64 * MIB).build().unwrap();
    let mut source = open(&http, "x").unwrap();
    let taken = next(&mut source).unwrap().unwrap().len();
    thread::sleep(Duration::from_millis(300));
    assert!(http.cached() <= taken + (70 << 10), "{} bytes", http.cached());
}

#[test]
fn a_file_in_the_cache_is_asked_about_and_not_fetched() {
    let files = Files::new(100_000);
    let (http, began) = (http(&files.url()), Instant::now());
    for _ in 0..3 {
        assert!(fetch(&http, "x").unwrap() == files.content());
    }
    // The cached file is fresh for a second.
    let seconds = began.elapsed().as_secs() as usize;
    assert!(files.requests() <= 1 + seconds, "{} requests in {seconds} s", files.requests());
    thread::sleep(Duration::from_millis(1100));
    let before = files.requests();
    assert!(fetch(&http, "x").unwrap() == files.content());
    assert_eq!((files.requests() - before, files.served()), (1, 100_000));
    assert_eq!(files.asked(before, "if-none-match").unwrap(), "\"one\"");
    *files.state.content.lock().unwrap() = b"new".into();
    *files.state.etag.lock().unwrap() = Some("\"two\"");
    thread::sleep(Duration::from_millis(1100));
    assert_eq!(fetch(&http, "x").unwrap(), b"new");
    assert!(http.cached() < 1000);
}

#[test]
fn a_fresh_file_is_not_asked_about() {
    let files = Files::new(100_000);
    *files.state.headers.lock().unwrap() = "Cache-Control: max-age=60\r\n".into();
    let http = http(&files.url());
    fetch(&http, "x").unwrap();
    thread::sleep(Duration::from_millis(1100));
    fetch(&http, "x").unwrap();
    assert_eq!(files.requests(), 1);
}

#[test]
fn a_fresh_file_that_is_not_there_any_more_is_asked_for_anew() {
    let files = Files::new(1000);
    *files.state.headers.lock().unwrap() = "Cache-Control: max-age=60\r\n".into();
    let http = settings(&files.url()).cache(64 << 10).build().unwrap();
    fetch(&http, "x").unwrap();
    *files.state.content.lock().unwrap() = content(500_000);
    for n in 0..10 {
        fetch(&http, &format!("{n}")).unwrap();
    }
    *files.state.content.lock().unwrap() = b"new".into();
    *files.state.etag.lock().unwrap() = Some("\"two\"");
    assert_eq!(fetch(&http, "x").unwrap(), b"new");
}

#[test]
fn many_files_at_once_come_in_pieces() {
    let files = Files::new(300_000);
    *files.state.headers.lock().unwrap() = "Accept-Ranges: bytes\r\n".into();
    let (http, expected) = (settings(&files.url()).cache(MIB).build().unwrap(), files.content());
    let mut sources: Vec<_> = (0..30).map(|n| open(&http, &format!("{n}")).unwrap()).collect();
    let mut had = vec![Vec::new(); sources.len()];
    while had.iter().any(|had| had.len() < expected.len()) {
        for (source, had) in sources.iter_mut().zip(&mut had) {
            had.extend(next(source).into_iter().flat_map(Result::unwrap));
        }
    }
    assert!(had.iter().all(|had| *had == expected));
    let ranges: Vec<_> = (0..files.requests()).filter_map(|n| files.asked(n, "range")).collect();
    for range in ["bytes=0-131071", "bytes=131072-262143", "bytes=262144-299999"] {
        assert_eq!(ranges.iter().filter(|asked| *asked == range).count(), 21, "{range}");
    }
}

/// Each piece costs a round trip to the upstream, so a client that comes alone should not wait for many of them.
#[test]
fn a_later_client_of_a_large_file_costs_few_round_trips() {
    let files = Files::new(16 * MIB);
    *files.state.headers.lock().unwrap() = "Accept-Ranges: bytes\r\nCache-Control: max-age=60\r\n".into();
    let (http, expected) = (settings(&files.url()).cache(MIB).build().unwrap(), files.content());
    for _ in 0..2 {
        smol::block_on(read(&http, &expected, Duration::ZERO)).unwrap();
    }
    let ranges: Vec<_> = (0..files.requests()).filter_map(|n| files.asked(n, "range")).collect();
    let last: usize = ranges[0].strip_prefix("bytes=0-").unwrap().parse().unwrap();
    // The end of the file, as much as the cache holds, may be there still, with gaps.
    assert!(last > 14 * MIB && ranges.len() <= 1 + MIB / (32 << 10), "{ranges:?}");
}

#[test]
fn a_private_file_is_requested_for_each_client() {
    for header in ["Cache-Control: no-store", "Cache-Control: private, max-age=60", "Vary: *"] {
        let files = Files::new(1000);
        *files.state.headers.lock().unwrap() = format!("{header}\r\n");
        let http = http(&files.url());
        for _ in 0..3 {
            fetch(&http, "x").unwrap();
        }
        assert_eq!((files.requests(), http.cached()), (3, 0), "{header}");
    }
}

#[test]
fn without_a_cache_each_client_costs_a_request() {
    let files = Files::new(100_000);
    let http = settings(&files.url()).cache(0).build().unwrap();
    for _ in 0..3 {
        assert!(fetch(&http, "x").unwrap() == files.content());
    }
    assert_eq!((files.requests(), http.cached()), (3, 0));
}

#[test]
fn misses_are_remembered_for_a_while() {
    for status in ["404 Not Found", "410 Gone"] {
        for (time, asked) in [(100 * LONG, 1), (Duration::from_nanos(1), 11)] {
            let files = Files::new(10);
            let http = settings(&files.url()).remember_misses(time).build().unwrap();
            files.fail([Fault::Status(status); 10]);
            for _ in 0..10 {
                assert_eq!(fetch(&http, "x"), Err(Refusal::not_found()));
            }
            assert_eq!(fetch(&http, "x").is_ok(), asked > 1);
            assert_eq!(files.requests(), asked, "{status} for {time:?}");
        }
    }
}

#[test]
fn names_that_clients_make_up_do_not_push_a_file_out() {
    let files = Files::new(10_000);
    let http = http(&files.url());
    fetch(&http, "x").unwrap();
    thread::sleep(Duration::from_millis(1100));
    let misses = 1100;
    files.fail((0..misses).map(|_| Fault::Status("404 Not Found")));
    for n in 0..misses {
        assert_eq!(fetch(&http, &format!("pxelinux.cfg/{n}")), Err(Refusal::not_found()));
    }
    assert!(fetch(&http, "x").unwrap() == files.content());
    assert_eq!((files.requests(), files.served()), (misses + 2, 10_000), "it was asked about and not fetched");
}

#[test]
fn waiting_clients_share_a_failure() {
    let files = Files::new(10);
    let closed = files.state.gate.lock().unwrap();
    files.fail([Fault::Status("500 Internal Server Error")]);
    let http = http(&files.url());
    let asking = Cell::new(0);
    let ask = async || {
        asking.set(asking.get() + 1);
        http.read(&request("x")).await.map(drop)
    };
    let executor = LocalExecutor::new();
    let tasks: Vec<_> = (0..20).map(|_| executor.spawn(ask())).collect();
    smol::block_on(executor.run(async {
        while asking.get() < tasks.len() {
            yield_now().await;
        }
        drop(closed);
        for task in tasks {
            assert_eq!(task.await, Err(Refusal::upstream()));
        }
    }));
    assert_eq!(files.requests(), 1);
    assert!(fetch(&http, "x").is_ok());
}

#[test]
fn the_cached_copy_is_served_when_the_upstream_fails() {
    for stale in [false, true] {
        let files = Files::new(100_000);
        let http = settings(&files.url()).stale_if_error(stale).build().unwrap();
        fetch(&http, "x").unwrap();
        thread::sleep(Duration::from_millis(1100));
        files.fail([Fault::Status("500 Internal Server Error")]);
        assert_eq!(fetch(&http, "x").is_ok(), stale);
    }
}

#[test]
fn breaks_of_a_shared_fetch_are_pauses_too() {
    let size = 2 * MIB;
    for faults in [[Fault::Close(MIB); 3], [Fault::Reset(100_000); 3], [Fault::Stall(50_000); 3]] {
        let files = Files::new(size);
        files.fail(faults);
        let http = settings(&files.url()).cache(4 * MIB).upstream_timeout(Duration::from_secs(2)).build().unwrap();
        let expected = files.content();
        read_at_once(&http, &expected, 20);
        assert!(files.requests() <= 4, "{faults:?}");
    }
}

#[test]
fn a_changed_file_ends_its_transfers_and_mixes_no_bytes() {
    let files = Files::new(4 * MIB);
    let old = files.content();
    files.fail([Fault::Close(MIB)]);
    let http = settings(&files.url()).cache(MIB / 4).build().unwrap();
    let mut source: Source = open(&http, "x").unwrap();
    let mut had = next(&mut source).unwrap().unwrap().to_vec();
    *files.state.content.lock().unwrap() = vec![7; 4 * MIB];
    *files.state.etag.lock().unwrap() = Some("\"two\"");
    while let Ok(chunk) = next(&mut source).unwrap() {
        had.extend_from_slice(&chunk);
    }
    assert!(had.len() <= MIB && had == old[..had.len()]);
    assert!(fetch_big(&http) == vec![7; 4 * MIB]);
}

fn fetch_big(http: &Http) -> Vec<u8> {
    smol::block_on(open(http, "x").unwrap().collect(8 * MIB)).unwrap()
}

#[test]
fn the_upstream_is_told_who_asks() {
    let files = Files::new(10);
    let http = settings(&files.url()).identify(true).header("X-Site", "room 5").unwrap().build().unwrap();
    fetch(&http, "/a/x").unwrap();
    fetch(&http, "/a/x").unwrap();
    assert_eq!(files.requests(), 2);
    for (name, value) in [
        ("x-forwarded-for", "127.0.0.1"),
        ("x-tftp-ip", "127.0.0.1"),
        ("x-tftp-port", "1069"),
        ("x-tftp-file", "/a/x"),
        ("x-site", "room 5"),
    ] {
        assert_eq!(files.asked(1, name).as_deref(), Some(value), "{name}");
    }
    *files.state.headers.lock().unwrap() = "Cache-Control: public, max-age=60\r\n".into();
    fetch(&http, "y").unwrap();
    fetch(&http, "y").unwrap();
    assert_eq!(files.requests(), 3);
}

#[test]
fn without_ranges_each_later_client_costs_one_file() {
    let size = 8 * MIB;
    for (revalidates, says_so) in [(true, false), (false, false), (true, true)] {
        let files = Files::new(size);
        *files.state.ranges.lock().unwrap() = false;
        *files.state.revalidates.lock().unwrap() = revalidates;
        if says_so {
            // Some web servers announce ranges, and serve none.
            *files.state.headers.lock().unwrap() = "Accept-Ranges: bytes\r\n".into();
        }
        let (http, expected) = (settings(&files.url()).cache(2 * MIB).build().unwrap(), files.content());
        let mut costs = Vec::new();
        for _ in 0..5 {
            let before = (files.requests(), files.served());
            smol::block_on(read(&http, &expected, Duration::ZERO)).unwrap();
            costs.push((files.requests() - before.0, (files.served() - before.1) as f64 / size as f64));
            // The cached file is fresh for a second, and is then validated again.
            thread::sleep(Duration::from_millis(1100));
        }
        println!("{costs:?}");
        // The second client finds out that there are no ranges.
        assert!(
            costs[1].1 < 1.5 && costs[2..].iter().all(|(requests, files)| *requests == 1 && *files <= 1.0),
            "{costs:?}"
        );
    }
}

#[test]
fn without_ranges_clients_that_begin_together_share_one_fetch() {
    let size = 8 * MIB;
    let files = Files::new(size);
    *files.state.ranges.lock().unwrap() = false;
    let (http, expected) = (settings(&files.url()).cache(2 * MIB).build().unwrap(), files.content());
    for _ in 0..2 {
        smol::block_on(read(&http, &expected, Duration::ZERO)).unwrap();
        thread::sleep(Duration::from_millis(1100));
    }
    let before = files.served();
    read_at_once(&http, &expected, 20);
    assert!(files.served() - before <= size, "{} bytes", files.served() - before);
}
