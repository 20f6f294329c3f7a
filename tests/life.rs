//! The life of a server: it starts, drains and ends, again and again.
#![cfg(feature = "net")]

mod common;

use std::{
    sync::mpsc::{self, channel},
    thread,
    time::{Duration, Instant},
};

use common::{LONG, Peer, Serving, doomed_socket, eventually, file, files, guard, own_address, request};
use tuffet::{
    Client, Gen, Handler, Refusal, Request, Server, Source, handler::Answer, packet::Packet, read, transfer::Outcome,
};

#[test]
fn stop_lets_transfers_end_and_takes_no_more() {
    for shards in [1, 3] {
        let mut serving = Serving::with(files(), |builder| builder.shards(shards).drain(LONG));
        let mut peers: Vec<Peer> = (0..5).map(|_| Peer::new(serving.addr())).collect();
        for peer in &mut peers {
            peer.rrq("600", &[]).expect_data(1, &file(600)[..512]);
        }
        serving.stop();
        // Every loop has seen that it is to stop.
        assert!(serving.responds(LONG));
        let mut late = Peer::new(serving.addr());
        late.rrq("600", &[]);
        for peer in &mut peers {
            assert!(serving.is_running());
            peer.take_rest(600);
        }
        serving.join();
        late.expect_silence();
        (0..5).for_each(|_| assert_eq!(serving.record().outcome, Outcome::Complete));
        assert!(serving.records().is_empty());
    }
}

#[test]
fn stop_without_transfers_is_immediate() {
    let mut serving = Serving::with(files(), |builder| builder.drain(LONG * 9).shards(2));
    smol::block_on(Client::new(serving.addr()).get("9", async |data| data.collect(9).await.map(drop))).unwrap();
    let begin = Instant::now();
    serving.stop();
    serving.join();
    assert!(begin.elapsed() < LONG);
    // Before it runs.
    let server = Server::builder().listen("127.0.0.1:0").shards(2).bind().unwrap();
    server.handle().stop();
    server.run().unwrap();
}

#[test]
fn draining_is_bounded() {
    let (held, dropped) = guard();
    let handler = read(move |_| {
        let held = held.lock().unwrap().take();
        async move {
            let _held = held;
            std::future::pending::<&str>().await
        }
    });
    let mut serving = Serving::with(handler, |builder| builder.drain(Duration::from_millis(200)));
    let mut peer = Peer::new(serving.addr());
    peer.rrq("never", &[]);
    eventually("it runs", || serving.transfers().len() == 1);
    serving.stop();
    peer.expect_error(0);
    serving.join();
    dropped.try_recv().expect("nothing is left when the server has ended");
    assert_eq!(serving.record().outcome, Outcome::Stopped);
}

#[test]
fn abort_cuts_draining_short() {
    let mut serving = Serving::with(files(), |builder| builder.drain(LONG * 9).shards(2));
    let mut peers: Vec<Peer> = (0..20).map(|_| Peer::new(serving.addr())).collect();
    for peer in &mut peers {
        peer.rrq("600", &[]).expect_data(1, &file(600)[..512]);
    }
    serving.stop();
    serving.abort();
    peers.iter_mut().for_each(|peer| peer.expect_error(0));
    serving.join();
    let records = serving.records();
    assert_eq!(records.len(), 20);
    assert!(records.iter().all(|record| record.outcome == Outcome::Stopped), "{records:?}");
    assert!(serving.transfers().is_empty());
}

#[test]
fn abort_ends_hundreds() {
    let mut serving = Serving::new(files());
    let rrq = Packet::Rrq(request("600", &[])).encode();
    // Their ports stay open: the system would report a closed one.
    let clients = Vec::from_iter((1..=600).map(|_| doomed_socket()));
    for (n, client) in clients.iter().enumerate() {
        client.send_to(&rrq, serving.addr()).unwrap();
        if n % 50 == 0 {
            thread::sleep(Duration::from_millis(1));
        }
    }
    eventually("many are running", || serving.transfers().len() > 300);
    serving.abort();
    serving.join();
    assert!(serving.transfers().is_empty());
    let records = serving.records();
    assert!(records.len() > 300 && records.iter().all(|record| !record.outcome.is_success()), "{}", records.len());
}

#[test]
fn the_last_transfer_ends_the_draining_even_without_a_packet() {
    let (go, wait) = smol::channel::bounded::<()>(1);
    let handler = read(move |_| {
        let wait = wait.clone();
        async move {
            let _ = wait.recv().await;
            Err::<&str, _>(Refusal::silent())
        }
    });
    let mut serving = Serving::with(handler, |builder| builder.drain(LONG * 9).patience(LONG * 9));
    Peer::new(serving.addr()).rrq("slow", &[]);
    eventually("it runs", || serving.transfers().len() == 1);
    serving.stop();
    assert!(serving.responds(LONG));
    go.send_blocking(()).unwrap();
    assert_eq!(serving.record().outcome, Outcome::Refused(Refusal::silent()));
    eventually("the server has ended", || !serving.is_running());
    serving.join();
}

#[test]
fn a_server_responds_unless_a_handler_blocks_its_thread() {
    let (go, wait) = channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let handler = read(move |request: Request| {
        if request.path() == "blocks" {
            _ = wait.lock().unwrap().recv();
        }
        "a file"
    });
    let serving = Serving::with(handler, |builder| builder.shards(2));
    (0..100).for_each(|_| assert!(serving.responds(LONG)));
    Peer::new(serving.addr()).rrq("blocks", &[]);
    eventually("it hangs", || !serving.responds(common::SHORT));
    drop(go);
    assert!(serving.responds(LONG));
}

#[test]
fn transfers_show_while_they_run() {
    let serving = Serving::new(files());
    let (mut one, mut two) = (Peer::new(serving.addr()), Peer::new(serving.addr()));
    one.rrq("/2000/one", &[]).expect_data(1, &file(2000)[..512]);
    one.ack(1);
    one.expect_data(2, &file(2000)[512..1024]);
    two.rrq("100", &[]).expect_data(1, file(100));
    eventually("progress shows", || serving.transfers()[0].bytes == 512);
    let running = serving.transfers();
    assert_eq!(running.iter().map(|one| one.path.as_str()).collect::<Vec<_>>(), ["2000/one", "100"]);
    assert_eq!((running[0].size, running[0].peer), (Some(2000), one.socket.local_addr().unwrap()));
    assert!(running[0].id < running[1].id && running[0].since >= running[1].since);
    two.ack(1);
    serving.record();
    eventually("one is over", || serving.transfers().len() == 1);
}

#[test]
fn an_upload_shows_its_size() {
    let serving = Serving::new(tuffet::write(async |_, data: tuffet::Source| data.collect(5000).await.map(drop)));
    let mut peer = Peer::new(serving.addr());
    peer.wrq("up", &[("tsize", "700")]).expect_oack(&[("tsize", "700")]);
    peer.data(1, [0; 512]);
    peer.expect(Packet::Ack(1));
    eventually("progress shows", || serving.transfers()[0].bytes == 512);
    assert_eq!(serving.transfers()[0].size, Some(700));
}

#[test]
fn the_same_port_again_and_again() {
    // At an own address, no other program takes the port while it is free.
    let mut addr = format!("{}:0", own_address());
    for round in 0..20 {
        let mut serving = Serving::on(&[&addr], files(), |builder| builder.shards(1 + round % 2));
        addr = serving.addr().to_string();
        smol::block_on(Client::new(serving.addr()).get("5000", async |data| {
            assert!(data.collect(5000).await? == file(5000));
            Ok(())
        }))
        .unwrap();
        Peer::new(serving.addr()).rrq("1", &[]).expect_data(1, file(1));
        if round % 2 == 0 {
            serving.abort()
        } else {
            drop(serving.handle.clone())
        }
        serving.abort();
        serving.join();
    }
}

#[test]
fn a_port_that_is_taken_is_an_error() {
    let serving = Serving::new(files());
    let error = Server::builder().listen(serving.addr()).bind().unwrap_err();
    assert!(error.to_string().contains(&serving.addr().to_string()), "{error}");
}

/// A wake-up that is missed shows as a wait until the next timer, so nothing here may take as long as that.
#[test]
fn sources_that_are_woken_from_other_threads_miss_nothing() {
    let serving = Serving::new(read(async |_: Request| {
        let (sender, receiver) = smol::channel::bounded(1);
        thread::spawn(move || (0..500u32).try_for_each(|n| sender.send_blocking(n.to_be_bytes().repeat(128))));
        Gen::new(async move |co| {
            while let Ok(chunk) = receiver.recv().await {
                co.yield_(chunk).await;
            }
        })
    }));
    let (done, all) = channel();
    let addr = serving.addr();
    for _ in 0..4 {
        let done = done.clone();
        thread::spawn(move || {
            let client = Client::new(addr).blksize(512).windowsize(1);
            let record = smol::block_on(client.get("x", async |data| data.collect(1 << 20).await.map(drop)));
            done.send(record.unwrap()).unwrap();
        });
    }
    for _ in 0..4 {
        let record = all.recv_timeout(LONG).unwrap();
        assert_eq!((record.bytes, record.outcome), (500 * 512, Outcome::Complete));
    }
    assert!((0..4).all(|_| serving.record().outcome.is_success()));
}

#[test]
fn a_hook_may_stop_the_server() {
    let handle = std::sync::Arc::new(std::sync::OnceLock::<tuffet::ServerHandle>::new());
    let hooked = handle.clone();
    let hook = move |_: &tuffet::stats::Record| hooked.get().unwrap().stop();
    let server = Server::builder().listen("127.0.0.1:0").handler(files()).on_end(hook).bind().unwrap();
    handle.set(server.handle()).unwrap();
    let addr = server.addrs()[0];
    let thread = thread::spawn(|| server.run());
    smol::block_on(Client::new(addr).get("9", async |data| data.collect(9).await.map(drop))).unwrap();
    thread.join().unwrap().unwrap();
    assert!(handle.get().unwrap().transfers().is_empty());
}

#[test]
fn the_handler_is_told_of_the_end_once() {
    struct Closing(mpsc::Sender<()>);
    impl Handler for Closing {
        fn read<'a>(&'a self, _: &'a Request) -> Answer<'a, Source> {
            Box::pin(async { Ok(Source::from("x")) })
        }

        fn close(&self) {
            self.0.send(()).unwrap();
        }
    }
    for shards in [1, 3] {
        let (sender, told) = channel();
        let handler = files().or(std::sync::Arc::new(Closing(sender)));
        let mut serving = Serving::with(handler, |builder| builder.shards(shards));
        Peer::new(serving.addr()).rrq("9", &[]).expect_data(1, file(9));
        assert!(told.try_recv().is_err());
        // The handle lives on, and the handler with it.
        serving.abort();
        serving.join();
        assert_eq!(told.try_iter().count(), 1);
    }
}
