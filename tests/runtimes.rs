//! A server and clients in the runtime of the program that embeds them: tokio, of either kind.
#![cfg(feature = "net")]

mod common;

use std::{
    collections::HashSet,
    future::{Future, pending},
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    thread,
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    runtime::{Builder as Runtimes, Handle as Tokio, Runtime},
};
use tuffet::{
    Client, Co, Error, Gen, Handler, Refusal, Request, SendCo, SendGen, SendSource, Server, ServerBuilder, Source,
    handlers::Memory, read,
};

const ANY: &str = "127.0.0.1:0";

fn runtimes() -> [Runtime; 2] {
    common::allow_many_files();
    [Runtimes::new_current_thread(), Runtimes::new_multi_thread()]
        .map(|mut builder| builder.worker_threads(2).enable_all().build().unwrap())
}

fn entering(builder: ServerBuilder, tokio: Tokio) -> ServerBuilder {
    builder.around_threads(move |thread| {
        let _entered = tokio.enter();
        thread();
    })
}

/// Sends each connection its own bytes back, on this runtime.
async fn upstream() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (mut from, mut to) = stream.split();
            let _ = tokio::io::copy(&mut from, &mut to).await;
        }
    });
    addr
}

async fn ask(upstream: SocketAddr, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(upstream).await?;
    stream.write_all(path.as_bytes()).await?;
    stream.shutdown().await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

/// A handler whose opening, whose source and whose destructors are of tokio, and the names of the threads that ran it.
fn handler(upstream: SocketAddr) -> (impl Handler, Arc<Mutex<HashSet<String>>>) {
    struct Dropped;
    impl Drop for Dropped {
        fn drop(&mut self) {
            Tokio::current();
        }
    }
    let threads = Arc::<Mutex<HashSet<String>>>::default();
    let seen = threads.clone();
    let handler = read(async move |request: Request| {
        seen.lock().unwrap().insert(thread::current().name().unwrap_or_default().to_owned());
        let first = ask(upstream, request.path()).await?;
        let dropped = Dropped;
        Ok::<_, Refusal>(Gen::new(async move |co| {
            let _dropped = dropped;
            co.yield_(first).await;
            tokio::time::sleep(Duration::from_millis(1)).await;
            let rest = tokio::spawn(async move { ask(upstream, " and the rest").await }).await.unwrap();
            co.yield_(rest.unwrap()).await;
        }))
    });
    (handler, threads)
}

async fn fetch(addr: SocketAddr, name: &str) -> Result<String, Error> {
    let mut text = Vec::new();
    let sink = async |data: SendSource| {
        text = data.collect(1000).await?;
        Ok(())
    };
    Client::new(addr).get(name, sink).await?;
    Ok(String::from_utf8(text).unwrap())
}

/// Fetches until both shards have served: the kernel gives each client to one of them.
async fn fetch_from_both(addr: SocketAddr, threads: &Mutex<HashSet<String>>) {
    for n in 0..1000 {
        let name = format!("file {n}");
        assert_eq!(fetch(addr, &name).await.unwrap(), format!("{name} and the rest"));
        if threads.lock().unwrap().len() == 2 {
            return;
        }
    }
    panic!("one shard served all: {:?}", threads.lock().unwrap());
}

/// Runs a server until the clients are done with it.
async fn serve(server: Server, clients: impl AsyncFn(SocketAddr)) {
    let addr = server.addrs()[0];
    let handle = server.handle();
    server.run_until(clients(addr)).await.unwrap();
    let counters = handle.counters();
    assert_eq!((counters.reads.complete, counters.running), (counters.requests, 0));
}

#[test]
fn a_handler_may_await_what_is_of_tokio() {
    for runtime in runtimes() {
        let upstream = runtime.block_on(upstream());
        let (handler, threads) = handler(upstream);
        // Bound where there is no tokio, so that nothing but the hook has it entered.
        let builder = Server::builder().listen(ANY).handler(handler).shards(2);
        let server = entering(builder, runtime.handle().clone()).bind().unwrap();
        runtime.block_on(serve(server, async |addr| fetch_from_both(addr, &threads).await));
    }
}

#[cfg(feature = "tokio")]
#[test]
fn with_the_tokio_feature_tokio_is_found_where_the_server_is_bound() {
    for runtime in runtimes() {
        runtime.block_on(async {
            let (handler, threads) = handler(upstream().await);
            let builder = Server::builder().listen(ANY).handler(handler).shards(2);
            serve(builder.bind().unwrap(), async |addr| fetch_from_both(addr, &threads).await).await;
        });
    }
}

#[test]
fn a_server_that_is_spawned_serves_until_it_is_stopped() {
    common::allow_many_files();
    let server = Server::builder().listen(ANY).handler(read(async |_| "hello")).shards(2);
    let running = server.bind().unwrap().spawn().unwrap();
    let (addr, handle) = (running.addrs()[0], running.handle().clone());
    smol::block_on(async {
        assert_eq!(fetch(addr, "motd").await.unwrap(), "hello");
        running.stop().await.unwrap();
    });
    assert_eq!(handle.counters().reads.complete, 1);
    // Its port is free again.
    let again = Server::builder().listen(addr).bind().unwrap().spawn().unwrap();
    again.handle().stop();
    again.join().unwrap();
}

#[test]
fn a_server_that_is_dropped_ends_its_transfers_and_waits_for_its_threads() {
    struct Alive(Arc<()>);
    let alive = Arc::new(());
    let held = Alive(alive.clone());
    let handler = read(async move |_| {
        let _held = &held.0;
        Gen::new(async |co: Co<&'static str>| {
            co.yield_("begun").await;
            pending::<()>().await;
        })
    });
    let running = Server::builder().listen(ANY).handler(handler).bind().unwrap().spawn().unwrap();
    let addr = running.addrs()[0];
    let (asked, fetched) = smol::block_on(async {
        let client = Client::new(addr).windowsize(1);
        let handle = running.handle().clone();
        let mut fetched = Box::pin(client.get("endless", async |data| data.collect(100).await.map(drop)));
        let begun = async {
            while handle.transfers().is_empty() {
                smol::Timer::after(Duration::from_millis(1)).await;
            }
        };
        futures_lite::future::or(async { drop(fetched.as_mut().await) }, begun).await;
        (handle.transfers().len(), {
            drop(running);
            fetched.await
        })
    });
    assert_eq!(asked, 1);
    assert!(matches!(fetched, Err(Error::Peer { .. })), "{fetched:?}");
    assert_eq!(Arc::strong_count(&alive), 1, "the handler is gone with its threads");
}

#[test]
fn a_server_that_ends_by_itself_ends_the_wait() {
    let server = Server::builder().listen(ANY).bind().unwrap();
    server.handle().stop();
    smol::block_on(server.run_until(pending::<()>())).unwrap();
    let server = Server::builder().listen(ANY).around_threads(|_| ()).bind().unwrap();
    let error = smol::block_on(server.run_until(pending::<()>())).unwrap_err();
    assert!(matches!(error, Error::Config(_)), "{error}");
}

#[test]
fn the_hook_is_around_the_hooks_too() {
    thread_local!(static ENTERED: std::cell::Cell<bool> = const { std::cell::Cell::new(false) });
    let counts = [(); 2].map(|()| Arc::new(AtomicUsize::new(0)));
    let note = |n: usize| {
        let count = counts[n].clone();
        move || assert!(count.fetch_add(usize::from(ENTERED.get()), SeqCst) == 0)
    };
    let (ended, period) = (note(0), note(1));
    let server = Server::builder()
        .listen(ANY)
        .handler(read(async |_| "hello"))
        .around_threads(|thread| {
            ENTERED.set(true);
            thread();
        })
        .on_end(move |_| ended())
        .on_period(Duration::from_secs(3600), move |_| period());
    let running = server.bind().unwrap().spawn().unwrap();
    smol::block_on(async {
        fetch(running.addrs()[0], "motd").await.unwrap();
        running.stop().await.unwrap();
    });
    assert_eq!(counts.map(|count| count.load(SeqCst)), [1, 1]);
}

fn send<F: Future + Send>(future: F) -> F {
    future
}

#[test]
fn clients_and_servers_may_be_spawned() {
    for runtime in runtimes() {
        let server = Server::builder().listen(ANY).handler(Memory::new()).bind().unwrap();
        let client = Client::new(server.addrs()[0]);
        runtime.block_on(async {
            let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
            let server = tokio::spawn(send(server.run_until(stopped)));
            tokio::spawn(client.put("text", "some text")).await.unwrap().unwrap();
            // A stream of another crate, and a generator that may move.
            let chunks = futures_lite::stream::iter([Ok::<_, std::io::Error>("some "), Ok("chunks")]);
            tokio::spawn(client.put("chunks", Source::sendable(chunks))).await.unwrap().unwrap();
            let generator = SendGen::new(async |co: SendCo<&'static str>| {
                tokio::time::sleep(Duration::from_millis(1)).await;
                co.yield_("some yields").await;
            });
            tokio::spawn(client.put("yields", generator)).await.unwrap().unwrap();
            for name in ["text", "chunks", "yields"] {
                let (tell, told) = tokio::sync::oneshot::channel();
                let sink = async |data: SendSource| {
                    // Its data may go on to a task of its own.
                    let bytes = tokio::spawn(data.collect(100)).await.unwrap()?;
                    tell.send(bytes).unwrap();
                    Ok(())
                };
                tokio::spawn(client.get(name, sink)).await.unwrap().unwrap();
                assert_eq!(told.await.unwrap(), format!("some {name}").as_bytes());
            }
            stop.send(()).unwrap();
            server.await.unwrap().unwrap();
        });
    }
}

#[test]
fn a_program_without_async_has_a_client_too() {
    let server = Server::builder().listen(ANY).handler(Memory::new());
    let running = server.bind().unwrap().spawn().unwrap();
    let client = Client::new(running.addrs()[0]).blocking();
    let mut got = Vec::new();
    assert!(matches!(client.get("file", &mut got), Err(Error::Peer { .. })));
    assert_eq!(client.put("file", common::file(100_000)).unwrap().bytes, 100_000);
    assert_eq!(client.get("file", &mut got).unwrap().bytes, 100_000);
    assert!(got == common::file(100_000));
    let refused = client.get("file", &mut [0; 1000][..]).unwrap_err();
    assert!(matches!(refused, Error::Refused(_)), "a writer that is full: {refused}");
}
