//! The user's code may be slow, fail, panic and wait for anything. It ends with its transfer.
#![cfg(feature = "net")]

mod common;

use std::{panic, sync::Mutex, time::Duration};

use smol::stream::StreamExt;

use common::{Guard, LONG, Peer, Serving, file, guard, size};
use tuffet::{
    Client, Gen, Handler, Refusal, Request, Source, handler::Answer, packet::Packet, read, transfer::Outcome,
};

/// An endless source that holds the guard.
fn endless(held: Mutex<Option<Guard>>) -> impl Handler {
    read(move |_| {
        let held = held.lock().unwrap().take();
        Gen::new(async move |co| {
            let _held = held;
            for _ in 0..u32::MAX {
                co.yield_(vec![7; 512]).await;
            }
        })
    })
}

/// These tests panic on purpose, so the messages are suppressed.
fn quietly() {
    panic::set_hook(Box::new(|info| {
        if !info.to_string().contains("on purpose") {
            eprintln!("{info}");
        }
    }));
}

fn assert_serves(serving: &Serving) {
    let received = smol::block_on(Client::new(serving.addr()).get("3000", async |data| {
        assert!(data.collect(5000).await? == file(3000));
        Ok(())
    }));
    assert_eq!(received.unwrap().outcome, Outcome::Complete);
    let record = serving.record();
    assert_eq!((record.path.as_str(), record.outcome.is_success()), ("3000", true), "one record of each transfer");
}

#[test]
fn a_coroutine_ends_when_the_client_says_so() {
    let (held, dropped) = guard();
    let serving = Serving::new(endless(held));
    let mut peer = Peer::new(serving.addr());
    peer.rrq("endless", &[]).expect_data(1, [7; 512]);
    peer.ack(1);
    peer.expect_data(2, [7; 512]);
    assert!(dropped.try_recv().is_err());
    peer.error(0);
    dropped.recv_timeout(LONG).unwrap();
    let record = serving.record();
    assert!(matches!(record.outcome, Outcome::Aborted { .. }), "{record}");
    assert_eq!((record.bytes, record.acked), (512, 1));
    common::eventually("it is not running", || serving.transfers().is_empty());
}

#[test]
fn a_coroutine_ends_when_it_is_aborted() {
    let (held, dropped) = guard();
    let mut serving = Serving::new(endless(held));
    let mut peer = Peer::new(serving.addr());
    peer.rrq("endless", &[]).expect_data(1, [7; 512]);
    serving.abort();
    dropped.recv_timeout(LONG).unwrap();
    peer.expect_error(0);
    serving.join();
    assert!(!serving.record().outcome.is_success());
    assert!(serving.records().is_empty() && serving.transfers().is_empty());
}

#[test]
fn a_handler_that_never_answers_ends_with_its_client() {
    let (held, dropped) = guard();
    let serving = Serving::new(read(move |request: Request| {
        let held = held.lock().unwrap().take();
        async move {
            let _held = held;
            if request.path() == "never" {
                std::future::pending::<()>().await;
            }
            file(size(&request))
        }
    }));
    let mut peer = Peer::new(serving.addr());
    peer.rrq("never", &[]).expect_silence();
    assert_serves(&serving);
    peer.error(0);
    // The client does not know the port of its transfer, so this ERROR is lost. A new request ends the transfer.
    peer.rrq("1", &[]).expect_data(1, file(1));
    dropped.recv_timeout(LONG).unwrap();
    assert!(matches!(serving.record().outcome, Outcome::Replaced(_)));
}

#[test]
fn a_handler_that_never_answers_is_not_waited_for_for_ever() {
    let (held, dropped) = guard();
    let handler = read(move |_| {
        let held = held.lock().unwrap().take();
        async move {
            let _held = held;
            std::future::pending::<&str>().await
        }
    });
    let serving = Serving::with(handler, |builder| builder.patience(Duration::from_millis(100)));
    let mut peer = Peer::new(serving.addr());
    peer.rrq("never", &[]).expect_error(0);
    dropped.recv_timeout(LONG).unwrap();
    assert!(matches!(serving.record().outcome, Outcome::Failed(_)));
}

/// Panics wherever the name says.
struct Panicking;

impl Handler for Panicking {
    fn read<'a>(&'a self, request: &'a Request) -> Answer<'a, Source> {
        match request.path() {
            "at once" => panic!("on purpose"),
            "in the future" => Box::pin(async { panic!("on purpose") }),
            "in the middle" => Box::pin(async {
                Ok(Source::from(Gen::new(async |co| {
                    co.yield_(vec![1; 512]).await;
                    panic!("on purpose");
                    #[allow(unreachable_code)]
                    ()
                })))
            }),
            "when dropped" => {
                let bomb = Bomb;
                let chunks = smol::stream::repeat(()).map(move |()| {
                    let _bomb = &bomb;
                    Ok(vec![1; 512].into())
                });
                Box::pin(async { Ok(Source::stream(chunks.take(2))) })
            }
            _ => Box::pin(async { Ok(file(size(request)).into()) }),
        }
    }

    fn write<'a>(&'a self, request: &'a Request, mut data: Source) -> Answer<'a, ()> {
        match request.path() {
            "at once" => panic!("on purpose"),
            "at the end" => Box::pin(async {
                data.collect(1000).await?;
                panic!("on purpose")
            }),
            _ => Box::pin(async move {
                data.next().await;
                panic!("on purpose")
            }),
        }
    }
}

struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            panic!("on purpose");
        }
    }
}

#[test]
fn a_panic_ends_its_transfer_and_nothing_else() {
    quietly();
    let serving = Serving::new(Panicking);
    let mut peer = Peer::new(serving.addr());
    for name in ["at once", "in the future"] {
        peer.rrq(name, &[]).expect_error(0);
        assert!(matches!(serving.record().outcome, Outcome::Failed(_)), "{name}");
    }
    peer.rrq("in the middle", &[]).expect_data(1, [1; 512]);
    peer.ack(1);
    peer.expect_error(0);
    assert!(matches!(serving.record().outcome, Outcome::Failed(_)));
    peer.wrq("at once", &[]).expect_error(0);
    assert!(matches!(serving.record().outcome, Outcome::Failed(_)));
    peer.wrq("at the end", &[]).expect(Packet::Ack(0));
    peer.data(1, "bytes");
    peer.expect_error(0);
    assert!(matches!(serving.record().outcome, Outcome::Failed(_)));
    peer.wrq("in the middle", &[]).expect(Packet::Ack(0));
    peer.data(1, [0; 512]);
    // The ACK may be on its way before the panic.
    if peer.receive() == Packet::Ack(1) {
        peer.expect_error(0);
    }
    assert!(matches!(serving.record().outcome, Outcome::Failed(_)));
    assert_serves(&serving);
}

#[test]
fn a_panic_in_a_destructor_ends_its_transfer_and_nothing_else() {
    quietly();
    let serving = Serving::new(Panicking);
    let mut peer = Peer::new(serving.addr());
    for round in 0..3 {
        peer.rrq("when dropped", &[]).expect_data(1, [1; 512]);
        if round == 1 {
            peer.error(0);
        } else {
            peer.ack(1);
            peer.expect_data(2, [1; 512]);
            peer.ack(2);
            peer.expect_data(3, []);
            peer.ack(3);
        }
        let record = serving.record();
        assert_eq!((record.path.as_str(), record.bytes), ("when dropped", if round == 1 { 0 } else { 1024 }));
        common::eventually("it is not running", || serving.transfers().is_empty());
        assert_serves(&serving);
    }
}

#[test]
fn a_panic_in_the_hook_ends_nothing() {
    quietly();
    let (sender, told) = std::sync::mpsc::channel();
    let server = tuffet::Server::builder()
        .listen("127.0.0.1:0")
        .handler(read(async |_: Request| "text"))
        .on_end(|_| panic!("on purpose"))
        .on_end(move |record| sender.send(record.outcome.clone()).unwrap())
        .bind()
        .unwrap();
    let (handle, addr) = (server.handle(), server.addrs()[0]);
    let thread = std::thread::spawn(|| server.run());
    for _ in 0..3 {
        smol::block_on(Client::new(addr).get("x", async |data| data.collect(10).await.map(drop))).unwrap();
    }
    let told: Vec<_> = (0..3).map(|_| told.recv().unwrap()).collect();
    assert_eq!(told, [const { Outcome::Complete }; 3], "the hook after it");
    common::eventually("they are counted", || handle.counters().reads.complete == 3);
    handle.stop();
    thread.join().unwrap().unwrap();
}

#[test]
fn a_source_may_fail_in_the_middle() {
    let serving = Serving::new(read(async |request: Request| {
        let by_chunk = request.path() == "by chunk";
        Ok::<_, Refusal>(Gen::new(async move |co| {
            co.yield_(Ok(vec![1; 512])).await;
            if by_chunk {
                co.yield_(Err(Refusal::not_found())).await;
            }
            Err(Refusal::disk_full())
        }))
    }));
    let mut peer = Peer::new(serving.addr());
    for (name, code) in [("by chunk", 1), ("at the end", 3)] {
        peer.rrq(name, &[]).expect_data(1, [1; 512]);
        peer.ack(1);
        peer.expect_error(code);
        let record = serving.record();
        assert!(matches!(record.outcome, Outcome::Failed(_)), "{record}");
        assert_eq!(record.bytes, 512);
    }
}

#[test]
fn a_source_of_another_size_than_it_said_fails() {
    let serving = Serving::new(read(async |_: Request| Source::from("1234").with_size(5)));
    let mut peer = Peer::new(serving.addr());
    peer.rrq("short", &[]).expect_error(0);
    assert!(matches!(serving.record().outcome, Outcome::Failed(_)));
}

/// Waits as the name says: in the handler or in the source, for a timer or for a channel.
fn slow(wait: smol::channel::Receiver<()>) -> impl Handler {
    read(move |request: Request| {
        let wait = wait.clone();
        async move {
            let path = request.path().to_owned();
            if path == "handler" {
                let _ = wait.recv().await;
            }
            let size = size(&request);
            Gen::new(async move |co| {
                match path.as_str() {
                    "source" => _ = wait.recv().await,
                    "timer" => _ = smol::Timer::after(Duration::from_millis(500)).await,
                    _ => {}
                }
                co.yield_(file(size)).await;
            })
        }
    })
}

#[test]
fn a_slow_handler_delays_no_other_transfer() {
    let (go, wait) = smol::channel::bounded(2);
    let serving = Serving::new(slow(wait));
    let mut peers: Vec<Peer> = (0..3).map(|_| Peer::new(serving.addr())).collect();
    for (peer, name) in peers.iter_mut().zip(["handler", "source", "timer"]) {
        peer.rrq(name, &[]);
    }
    for _ in 0..20 {
        assert_serves(&serving);
    }
    go.send_blocking(()).unwrap();
    go.send_blocking(()).unwrap();
    for peer in &mut peers {
        peer.expect_data(1, []);
        peer.ack(1);
    }
    (0..3).for_each(|_| assert_eq!(serving.record().outcome, Outcome::Complete));
}

#[test]
fn an_endless_source_delays_no_other_transfer() {
    let serving = Serving::new(read(async |request: Request| {
        let empty = request.path() == "empty";
        let file = file(size(&request));
        Gen::new(async move |co| {
            for _ in 0..if empty { u64::MAX } else { 0 } {
                co.yield_(Vec::new()).await;
            }
            co.yield_(file).await;
        })
    }));
    let mut peer = Peer::new(serving.addr());
    peer.rrq("empty", &[]);
    common::eventually("it runs", || serving.transfers().len() == 1);
    for _ in 0..5 {
        assert_serves(&serving);
    }
    // And it ends with its client.
    peer.rrq("1", &[]).expect_data(1, file(1));
    assert!(matches!(serving.record().outcome, Outcome::Replaced(_)));
}

/// A handler with an `async fn`, which borrows from itself and from the request across an await.
struct Async(Mutex<Vec<u8>>);

impl tuffet::AsyncHandler for Async {
    async fn read(&self, request: &Request) -> Result<Source, Refusal> {
        futures_lite::future::yield_now().await;
        match request.path() {
            "kept" => Ok(self.0.lock().unwrap().clone().into()),
            _ => Err(Refusal::not_found()),
        }
    }

    async fn write(&self, _: &Request, data: Source) -> Result<(), Refusal> {
        *self.0.lock().unwrap() = data.collect(100).await?;
        Ok(())
    }

    fn takes_writes(&self) -> bool {
        true
    }
}

#[test]
fn a_handler_may_be_written_with_async_fn() {
    let nothing = read(async |_: Request| Err::<Source, _>(Refusal::not_found()));
    let serving = Serving::new(nothing.or(Async(Mutex::default())));
    let client = Client::new(serving.addr()).blocking();
    client.put("kept", "bytes").unwrap();
    let mut got = Vec::new();
    client.get("kept", &mut got).unwrap();
    assert_eq!(got, b"bytes");
    assert!(client.get("other", &mut got).is_err());
}
