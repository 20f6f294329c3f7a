//! Clients and sources that take their time.

use std::{
    io::{ErrorKind, Read, Write},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread,
    time::{Duration, Instant},
};

use futures_lite::StreamExt;
use tuffet::{Gen, Request, Source, handlers::Memory, read, write};

use super::{
    client::{Connection, get},
    common::{LONG, Serving, eventually, guard},
    serve, serve_with,
};

/// Short, and long enough for a client that does its part on a busy machine.
const PATIENCE: Duration = Duration::from_secs(3);

fn large() -> impl tuffet::Handler {
    read(async |request: Request| match request.path() {
        "large" => Source::from(Gen::new(async |co| {
            for _ in 0..100_000 {
                co.yield_(vec![b'x'; 10_000]).await;
            }
        }))
        .with_size(1_000_000_000),
        _ => Source::from("hello"),
    })
}

fn impatient(handler: impl tuffet::Handler) -> Serving {
    serve_with(handler, |builder| builder.patience(PATIENCE))
}

#[test]
fn a_head_that_does_not_end_is_not_waited_for() {
    let server = impatient(large());
    let mut nothing = Connection::to(&server);
    let mut half = Connection::to(&server);
    half.send("GET /x HTTP/1.1\r\nHost: x\r\nX: ");
    assert!(nothing.is_closed() && half.is_closed());
    // A client that sends a byte now and then has no more time.
    let mut dribbling = Connection::to(&server);
    let mut writer = dribbling.socket().try_clone().unwrap();
    let began = Instant::now();
    let dribble = thread::spawn(move || {
        while writer.write_all(b"X").is_ok() {
            assert!(began.elapsed() < LONG, "it is listened to for ever");
            thread::sleep(Duration::from_millis(20));
        }
    });
    dribbling.is_closed();
    dribble.join().unwrap();
    assert!(server.records().is_empty(), "nothing was asked for");
}

#[test]
fn a_client_that_takes_nothing_loses_its_place() {
    let server = impatient(large());
    let mut deaf = Connection::to(&server);
    deaf.send("GET /large HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(get(&server, "/small").text(), "hello", "nobody waits for it");
    assert_eq!(server.record().path, "small");
    let record = server.record();
    assert_eq!((record.path.as_str(), record.outcome.name()), ("large", "timed_out"));
    assert!(record.bytes < 1_000_000_000);
}

#[test]
fn a_client_that_takes_a_byte_now_and_then_loses_its_place() {
    let server = impatient(large());
    let connection = Connection::to(&server);
    socket2_receive_buffer(&connection);
    let mut reader = connection.socket().try_clone().unwrap();
    { connection }.send("GET /large HTTP/1.1\r\nHost: x\r\n\r\n");
    let is_over = Arc::new(AtomicBool::new(false));
    let over = is_over.clone();
    let dribble = thread::spawn(move || {
        while !over.load(SeqCst) && reader.read_exact(&mut [0]).is_ok() {
            thread::sleep(Duration::from_millis(20));
        }
    });
    assert_eq!(server.record().outcome.name(), "timed_out");
    is_over.store(true, SeqCst);
    dribble.join().unwrap();
}

/// A small receive buffer, so that the server's socket is soon full.
fn socket2_receive_buffer(connection: &Connection) {
    socket2::SockRef::from(connection.socket()).set_recv_buffer_size(4096).unwrap();
}

/// The answers are no transfers.
#[test]
fn a_client_that_reads_no_answer_loses_its_connection() {
    let server = impatient(large());
    let connection = Connection::to(&server);
    let requests = "OPTIONS /x HTTP/1.1\r\nHost: x\r\n\r\n".repeat(1000);
    let mut socket = connection.socket();
    let error = std::iter::repeat_with(|| socket.write_all(requests.as_bytes())).find_map(Result::err).unwrap();
    assert!(matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{error}");
}

#[test]
fn an_upload_that_stalls_leaves_nothing() {
    let memory = Arc::new(Memory::new());
    let server = impatient(memory.clone());
    let mut stalled = Connection::to(&server);
    stalled.send("PUT /half HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n12345");
    let record = server.record();
    assert_eq!((record.outcome.name(), record.bytes, record.size), ("timed_out", 5, Some(1000)));
    assert!(stalled.is_closed() && memory.get("half").is_none());
}

/// One that says nothing after its beginning, a handler that never answers, and one that does.
fn stalling() -> impl tuffet::Handler {
    read(async |request: Request| match request.path() {
        "stalled" => half(),
        "never" => std::future::pending().await,
        _ => Source::from("hello"),
    })
}

/// Half of a source, and for ever no more.
fn half() -> Source {
    let beginning = futures_lite::stream::iter([Ok("12345".into())]);
    Source::stream(beginning.chain(futures_lite::stream::pending())).with_size(10)
}

#[test]
fn a_source_that_stalls_delays_no_other_transfer() {
    let server = serve(stalling());
    let stalled: Vec<_> = ["/stalled", "/never"]
        .map(|path| {
            let mut connection = Connection::to(&server);
            connection.send(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n"));
            connection
        })
        .into();
    for _ in 0..50 {
        assert_eq!(get(&server, "/x").text(), "hello");
        assert_eq!(server.record().path, "x");
    }
    eventually("they are waited for still", || server.transfers().len() == 2);
    drop(stalled);
}

/// It cannot begin in the middle, and has every chunk at once.
#[test]
fn a_range_at_the_end_of_a_large_source_delays_no_other_transfer() {
    const SIZE: u64 = 1 << 60;
    let server = serve(read(async |request: Request| match request.path() {
        "large" => Source::from(Gen::new(async |co| {
            let chunk = tuffet::Bytes::from(vec![0; 10_000]);
            for _ in 0..SIZE / 10_000 {
                co.yield_(chunk.clone()).await;
            }
        }))
        .with_size(SIZE),
        _ => Source::from("hello"),
    }));
    let mut distant = Connection::to(&server);
    distant.send(format!("GET /large HTTP/1.1\r\nHost: x\r\nRange: bytes={}-\r\n\r\n", SIZE - 1));
    eventually("it runs", || server.transfers().len() == 1);
    for _ in 0..3 {
        assert_eq!(get(&server, "/x").text(), "hello");
    }
}

#[test]
fn a_source_that_stalls_is_not_waited_for_ever() {
    let server = impatient(stalling());
    let mut stalled = Connection::to(&server);
    stalled.send("GET /stalled HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(stalled.read_answer(false).is_none(), "half of it is not all of it");
    assert_eq!(server.record().outcome.name(), "failed");
    assert_eq!(get(&server, "/never").status, 500);
    assert_eq!(server.record().outcome.name(), "failed");
}

#[test]
fn a_sink_that_stalls_is_not_waited_for() {
    let (guard, dropped) = guard();
    let server = impatient(write(async move |_, mut data: Source| {
        let _guard = guard.lock().unwrap().take();
        data.next().await;
        std::future::pending().await
    }));
    let mut connection = Connection::to(&server);
    connection.send("PUT /x HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n12345");
    assert!(connection.is_closed());
    assert_eq!(server.record().outcome.name(), "failed");
    dropped.recv_timeout(LONG).unwrap();
}

/// The first chunk after it left tells of it: until then it may only have closed its sending side.
#[test]
fn a_client_that_leaves_is_an_aborted_transfer() {
    let (guard, dropped) = guard();
    let (go, gone) = smol::channel::bounded::<()>(1);
    let server = serve(read(async move |_| {
        let (guard, gone) = (guard.lock().unwrap().take(), gone.clone());
        Source::from(Gen::new(async move |co| {
            let _guard = guard;
            co.yield_(vec![b'x'; 5]).await;
            let _ = gone.recv().await;
            for _ in 0..100_000 {
                co.yield_(vec![b'x'; 10_000]).await;
            }
        }))
    }));
    let mut connection = Connection::to(&server);
    connection.send("GET /x HTTP/1.1\r\nHost: x\r\n\r\n");
    connection.read_head().unwrap();
    drop(connection);
    go.try_send(()).unwrap();
    assert_eq!(server.record().outcome.name(), "aborted");
    dropped.recv_timeout(LONG).unwrap();
}
