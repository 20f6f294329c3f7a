//! Uploads: who refuses them and when, and what the last ACK means.
#![cfg(feature = "net")]

mod common;

use std::sync::{Arc, Mutex};

use common::{Peer, Serving, eventually};
use tuffet::{Client, Error, ErrorCode, Refusal, Request, Source, packet::Packet, transfer::Outcome, write};

/// Collects the bytes of all uploads, one after the other.
fn collecting() -> (impl tuffet::Handler, Arc<Mutex<Vec<u8>>>) {
    let all = Arc::new(Mutex::new(Vec::new()));
    let to = all.clone();
    let handler = write(move |_, mut data: Source| {
        let to = to.clone();
        async move {
            while let Some(chunk) = data.next().await {
                to.lock().unwrap().extend_from_slice(&chunk?);
            }
            Ok(())
        }
    });
    (handler, all)
}

#[test]
fn a_refusal_comes_before_any_byte() {
    let serving = Serving::new(write(async |request: Request, data: Source| match request.path() {
        "exists" => Err(Refusal::exists()),
        "denied" => Err(Refusal::denied()),
        "full" => {
            smol::Timer::after(common::SHORT).await;
            Err(Refusal::disk_full())
        }
        _ => data.collect(100).await.map(drop),
    }));
    let mut peer = Peer::new(serving.addr());
    for (name, code) in [("exists", 6), ("denied", 2), ("full", 3), ("../x", 2)] {
        for options in [&[][..], &[("blksize", "1000"), ("tsize", "9")]] {
            peer.wrq(name, options).expect_error(code);
            let record = serving.record();
            assert!(matches!(record.outcome, Outcome::Refused(_)), "{record}");
        }
    }
    // One that comes in the middle.
    peer.wrq("long", &[]).expect(Packet::Ack(0));
    peer.data(1, [0; 512]);
    peer.expect_error(3);
}

#[test]
fn an_upload_that_is_too_big_is_refused_early_by_its_tsize_and_late_by_its_bytes() {
    let (handler, all) = collecting();
    let serving = Serving::with(handler, |builder| builder.max_upload(1000));
    let mut peer = Peer::new(serving.addr());
    let refused = || serving.record().outcome.to_string();
    let why = "ERROR 3 File too big (more than 1000 bytes: see `max_upload`)";
    peer.wrq("big", &[("tsize", "1001")]).expect_error(3);
    assert!(refused().ends_with(why));
    peer.wrq("lie", &[("tsize", "1000")]).expect_oack(&[("tsize", "1000")]);
    peer.data(1, [1; 512]);
    peer.expect(Packet::Ack(1));
    peer.data(2, [1; 512]);
    peer.expect_error(3);
    assert!(refused().ends_with(why));
    assert!(all.lock().unwrap().len() <= 1000);
    let client = Client::new(serving.addr());
    let result = smol::block_on(client.put("big", vec![0; 1001]));
    assert!(matches!(result, Err(Error::Peer { code: ErrorCode::DISK_FULL, .. })), "{result:?}");
    smol::block_on(client.put("fits", vec![0; 1000])).unwrap();
}

#[test]
fn an_upload_is_no_longer_than_its_tsize() {
    let serving = Serving::new(write(async |_, data: Source| data.collect(10_000).await.map(drop)));
    let mut peer = Peer::new(serving.addr());
    for (told, last_fits) in [("1000", 488), ("513", 1), ("512", 0)] {
        for over in [0, 1] {
            peer.wrq("file", &[("tsize", told)]).expect_oack(&[("tsize", told)]);
            peer.data(1, [1; 512]);
            peer.expect(Packet::Ack(1));
            peer.data(2, vec![1; last_fits + over]);
            if over == 0 {
                peer.expect(Packet::Ack(2));
            } else {
                peer.expect_error(3);
            }
            let outcome = serving.record().outcome;
            assert_eq!(outcome.is_success(), over == 0, "{told}");
            assert!(over == 0 || outcome.to_string().contains(&format!("(more than its tsize, {told} bytes)")));
        }
    }
    // A client that announces 0 does not know the size.
    peer.wrq("file", &[("tsize", "0")]).expect_oack(&[("tsize", "0")]);
    peer.data(1, [1; 100]);
    peer.expect(Packet::Ack(1));
}

#[test]
fn the_last_ack_waits_for_the_handler() {
    let (go, wait) = smol::channel::bounded::<()>(1);
    let serving = Serving::new(write(move |_, data: Source| {
        let wait = wait.clone();
        async move {
            data.collect(1000).await?;
            wait.recv().await.map_err(|_| Refusal::internal())
        }
    }));
    let mut peer = Peer::new(serving.addr());
    peer.wrq("safe", &[]).expect(Packet::Ack(0));
    for _ in 0..3 {
        peer.data(1, "bytes");
        peer.expect_nothing_new();
    }
    go.send_blocking(()).unwrap();
    peer.expect(Packet::Ack(1));
    let record = serving.record();
    assert_eq!((record.outcome, record.bytes), (Outcome::Complete, 5));
    peer.expect_nothing_new();
}

#[test]
fn a_lost_last_ack_is_repeated_after_the_end() {
    for single_port in [false, true] {
        let (handler, all) = collecting();
        let serving = Serving::with(handler, |builder| builder.single_port(single_port));
        let mut peer = Peer::new(serving.addr());
        peer.wrq("up", &[]).expect(Packet::Ack(0));
        peer.data(1, [1; 512]);
        peer.expect(Packet::Ack(1));
        peer.data(2, [2; 3]);
        peer.expect(Packet::Ack(2));
        assert_eq!(serving.record().outcome, Outcome::Complete);
        for _ in 0..3 {
            peer.data(2, [2; 3]);
            peer.expect_again();
        }
        peer.data(1, [1; 512]);
        peer.error(0);
        peer.expect_silence();
        assert_eq!(all.lock().unwrap().len(), 515);
        // The port is good for the next one at once.
        peer.wrq("up", &[]).expect(Packet::Ack(0));
        peer.data(1, "");
        peer.expect(Packet::Ack(1));
        assert_eq!(serving.record().outcome, Outcome::Complete);
    }
}

#[test]
fn a_handler_that_fails_at_its_end_has_no_last_ack() {
    let serving = Serving::new(write(async |_, data: Source| {
        data.collect(1000).await?;
        Err(Refusal::disk_full())
    }));
    let mut peer = Peer::new(serving.addr());
    peer.wrq("up", &[]).expect(Packet::Ack(0));
    peer.data(1, "bytes");
    peer.expect_error(3);
    assert_eq!(serving.record().outcome, Outcome::Refused(Refusal::disk_full()));
    peer.data(1, "bytes");
    peer.expect_silence();
}

#[test]
fn a_handler_may_leave_the_rest_of_an_upload_unread() {
    let serving = Serving::new(write(async |_, mut data: Source| {
        data.next().await;
        Ok(())
    }));
    let record = smol::block_on(Client::new(serving.addr()).put("up", vec![1; 50_000])).unwrap();
    assert_eq!(record.outcome, Outcome::Complete);
    assert_eq!(serving.record().bytes, 50_000);
}

#[test]
fn a_slow_handler_holds_the_client_back() {
    let (go, wait) = smol::channel::bounded::<()>(1000);
    let (held, dropped) = common::guard();
    let handler = write(move |_, mut data: Source| {
        let (wait, held) = (wait.clone(), held.lock().unwrap().take());
        async move {
            let _held = held;
            while let Some(chunk) = data.next().await {
                chunk?;
                wait.recv().await.map_err(|_| Refusal::internal())?;
            }
            Ok(())
        }
    });
    let serving = Serving::with(handler, |builder| builder.blksize(8192));
    let mut peer = Peer::new(serving.addr());
    peer.wrq("up", &[("blksize", "8192")]).expect_oack(&[("blksize", "8192")]);
    let mut block = 0u16;
    // The memory of an upload is bounded: at some point there is no ACK.
    loop {
        block += 1;
        peer.data(block, [1; 8192]);
        if peer.receive_within(common::SHORT).is_none() {
            break;
        }
        assert!(block < 10, "nothing holds the client back");
    }
    go.send_blocking(()).unwrap();
    peer.expect(Packet::Ack(block));
    eventually("progress shows", || serving.transfers().iter().any(|one| one.bytes == u64::from(block) * 8192));
    // The client goes away, and the handler with it.
    peer.error(0);
    dropped.recv_timeout(common::LONG).unwrap();
    assert!(matches!(serving.record().outcome, Outcome::Aborted { .. }));
}
