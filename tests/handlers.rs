//! Handlers, as an embedding program tests its own: a file at a time, in virtual time.
#![cfg(feature = "sim")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use futures_lite::future::block_on;
#[cfg(feature = "net")]
use tuffet::write;
use tuffet::{
    Bytes, Error, ErrorCode, Gen, Handler, Refusal, Request, Source, handler::Answer, handlers::Memory, read, sim,
    transfer::Outcome,
};

fn file(size: usize) -> Bytes {
    let mut random = fastrand::Rng::with_seed(size as u64);
    (0..size).map(|_| random.u8(..)).collect()
}

#[test]
fn files_arrive_over_any_network_the_same_way_each_time() {
    let memory = Memory::new();
    memory.insert("initrd", file(100_000)).unwrap();
    for (loss, duplicates, reordering) in [(0.0, 0.0, 0.0), (0.1, 0.0, 0.0), (0.0, 0.2, 0.1), (0.05, 0.05, 0.05)] {
        for windowsize in ["1", "16"] {
            let run = |seed| {
                let simulation = sim::get(&memory, "initrd").loss(loss).duplicates(duplicates).reordering(reordering);
                let simulation = simulation.option("windowsize", windowsize).option("blksize", "1428").seed(seed);
                block_on(async { simulation.latency(Duration::from_millis(5)).await }).unwrap()
            };
            let [one, again, other] = [1, 1, 2].map(run);
            assert!(one.data == file(100_000));
            assert!(one.record.outcome.is_success());
            assert_eq!((one.sent, one.lost, one.elapsed), (again.sent, again.lost, again.elapsed));
            assert_eq!(one.lost == 0, loss == 0.0);
            assert_eq!(one.elapsed == other.elapsed, loss + duplicates + reordering == 0.0);
        }
    }
}

#[test]
fn uploads_are_handed_to_the_handler() {
    let memory = Memory::new();
    let report = block_on(async { sim::put(&memory, "switch.cfg", file(5000)).loss(0.1).seed(3).await }).unwrap();
    assert_eq!((report.record.bytes, report.record.size), (5000, Some(5000)));
    assert_eq!(memory.get("switch.cfg"), Some(file(5000)));
}

#[test]
fn a_refusal_is_what_the_client_is_told() {
    let handler = read(async |request: Request| match request.path() {
        "secret" => Err::<&str, _>(Refusal::denied()),
        "silent" => Err(Refusal::silent()),
        _ => Err(Refusal::not_found()),
    });
    let handler = Arc::new(handler);
    let told = |name| block_on(async { sim::get(&handler, name).await }).unwrap_err();
    assert!(matches!(told("none"), Error::Peer { code: ErrorCode::FILE_NOT_FOUND, .. }));
    assert!(matches!(told("secret"), Error::Peer { code: ErrorCode::ACCESS_VIOLATION, .. }));
    assert!(matches!(told("silent"), Error::TimedOut));
}

#[test]
fn a_closure_answers_at_once_or_later_with_anything_that_is_a_source() {
    fn text(request: Request) -> String {
        request.path().to_owned()
    }
    async fn text_later(request: Request) -> Result<String, Error> {
        Ok(text(request))
    }
    let (prefix, calls) = (String::new(), AtomicUsize::new(0));
    let borrowed = prefix.clone();
    let handlers: [Arc<dyn Handler>; 9] = [
        Arc::new(read(|_| "hello")),
        Arc::new(read(async |_| b"hello".to_vec())),
        Arc::new(read(text)),
        Arc::new(read(text_later)),
        Arc::new(read(move |request: Request| format!("{prefix}{}", request.path()))),
        Arc::new(read(async move |request: Request| format!("{borrowed}{}", request.path()))),
        Arc::new(read(|request: Request| -> Result<_, Error> {
            Ok(Gen::new(async |co| co.yield_(text(request)).await))
        })),
        Arc::new(read(move |request: Request| {
            let first = calls.fetch_add(1, Relaxed) == 0;
            async move { first.then(|| text(request)) }
        })),
        Arc::new(read(|request: Request| std::future::ready(text(request)))),
    ];
    for (n, handler) in handlers.iter().enumerate() {
        let report = block_on(async { sim::get(handler, "hello").await });
        assert_eq!(report.unwrap().data, "hello", "handler {n}");
    }
}

#[cfg(feature = "net")]
#[test]
fn a_closure_takes_an_upload_or_returns_what_it_is_written_to() {
    fn upload_file(request: Request) -> std::io::Result<std::fs::File> {
        std::fs::File::create(std::env::temp_dir().join(request.path()))
    }
    let name = format!("tuffet-upload-{}", std::process::id());
    let handlers: [Arc<dyn Handler>; 4] = [
        Arc::new(write(upload_file)),
        Arc::new(write(|request: Request| Ok::<_, Refusal>(std::io::BufWriter::new(upload_file(request)?)))),
        Arc::new(write(async |request: Request, data: Source| {
            data.write_to_blocking(upload_file(request)?).await?;
            Ok(())
        })),
        Arc::new(write(|request: Request, data: Source| async move {
            std::fs::write(std::env::temp_dir().join(request.path()), data.collect(1 << 20).await?)?;
            Ok(())
        })),
    ];
    let place = std::env::temp_dir().join(&name);
    for (n, handler) in handlers.iter().enumerate() {
        assert!(handler.takes_writes());
        for size in [0, 512, 100_000] {
            let report = block_on(async { sim::put(handler, &name, file(size)).loss(0.05).await });
            assert!(report.unwrap().record.outcome.is_success(), "handler {n}");
            assert!(std::fs::read(&place).unwrap() == file(size), "handler {n}, {size} bytes");
            std::fs::remove_file(&place).unwrap();
        }
    }
}

#[cfg(feature = "net")]
#[test]
fn a_closure_refuses_an_upload_and_a_writer_ends_one() {
    let handlers: [(Arc<dyn Handler>, _); 4] = [
        (Arc::new(write(|_| Err::<std::io::Sink, _>(Refusal::exists()))), ErrorCode::FILE_EXISTS),
        (Arc::new(write(|_| std::fs::File::create("/proc/none/none"))), ErrorCode::FILE_NOT_FOUND),
        (Arc::new(write(|_| -> Result<std::io::Sink, Refusal> { panic!("on purpose") })), ErrorCode::NOT_DEFINED),
        (Arc::new(write(|_| Ok::<_, Refusal>(Full))), ErrorCode::DISK_FULL),
    ];
    for (n, (handler, expected)) in handlers.iter().enumerate() {
        let error = block_on(async { sim::put(handler, "x", file(100_000)).await }).unwrap_err();
        assert!(matches!(&error, Error::Peer { code, .. } if code == expected), "handler {n}: {error}");
    }
}

/// A writer that has no room.
#[cfg(feature = "net")]
struct Full;

#[cfg(feature = "net")]
impl std::io::Write for Full {
    fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
        Err(std::io::ErrorKind::StorageFull.into())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_closure_may_fail_with_any_error_that_is_a_refusal() {
    let missing = || Error::File(std::io::ErrorKind::NotFound.into());
    let full = || std::io::Error::from(std::io::ErrorKind::StorageFull);
    let handlers: [(Arc<dyn Handler>, _); 6] = [
        (Arc::new(read(move |_| Err::<&str, _>(missing()))), ErrorCode::FILE_NOT_FOUND),
        (Arc::new(read(async move |_| Err::<&str, _>(missing()))), ErrorCode::FILE_NOT_FOUND),
        (Arc::new(read(move |_| Err::<&str, _>(full()))), ErrorCode::DISK_FULL),
        (Arc::new(read(|_| Err::<&str, _>(Refusal::denied()))), ErrorCode::ACCESS_VIOLATION),
        (Arc::new(read(|_| None::<String>)), ErrorCode::FILE_NOT_FOUND),
        (Arc::new(read(|_| -> &str { panic!("on purpose") })), ErrorCode::NOT_DEFINED),
    ];
    for (n, (handler, expected)) in handlers.iter().enumerate() {
        let error = block_on(async { sim::get(handler, "x").await }).unwrap_err();
        assert!(matches!(&error, Error::Peer { code, .. } if code == expected), "handler {n}: {error}");
    }
}

#[test]
fn a_handler_waits_by_the_clock_of_the_simulation() {
    let time = sim::Time::new();
    let clock = time.clone();
    let handler = Arc::new(read(move |_: Request| {
        let clock = clock.clone();
        async move {
            Gen::new(async move |co| {
                for _ in 0..5 {
                    clock.sleep(Duration::from_secs(20)).await;
                    co.yield_(vec![1; 512]).await;
                }
            })
        }
    }));
    let report = block_on(async { sim::get(&handler, "slow").time(time).await }).unwrap();
    assert_eq!(report.data.len(), 5 * 512);
    assert!(report.elapsed > Duration::from_secs(100), "{:?}", report.elapsed);
}

/// The work of a thread takes no virtual time.
#[derive(Clone)]
struct Threaded;

impl Handler for Threaded {
    fn read<'a>(&'a self, _: &'a Request) -> Answer<'a, Source> {
        Box::pin(async {
            let (sender, receiver) = async_channel();
            std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(300));
                sender("of a thread");
            });
            Ok(receiver.await.into())
        })
    }
}

/// A value that another thread sends.
fn async_channel() -> (impl FnOnce(&'static str) + Send, impl Future<Output = &'static str>) {
    use std::{
        sync::Mutex,
        task::{Poll, Waker},
    };
    let state = Arc::new(Mutex::new((None, None::<Waker>)));
    let sent = state.clone();
    let send = move |value| {
        let mut state = sent.lock().unwrap();
        state.0 = Some(value);
        if let Some(waker) = state.1.take() {
            waker.wake();
        }
    };
    let receive = futures_lite::future::poll_fn(move |cx| {
        let mut state = state.lock().unwrap();
        state.1 = Some(cx.waker().clone());
        state.0.map_or(Poll::Pending, Poll::Ready)
    });
    (send, receive)
}

#[test]
fn time_stands_still_while_a_thread_works() {
    let report = block_on(async { sim::get(&Threaded, "any").await }).unwrap();
    assert_eq!((&report.data[..], report.record.outcome), (&b"of a thread"[..], Outcome::Complete));
    assert!(report.elapsed < Duration::from_millis(10), "{:?}", report.elapsed);
    assert_eq!(report.sent, 5, "RRQ, OACK, ACK, DATA, ACK");
}
