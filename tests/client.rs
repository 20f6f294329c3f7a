//! The client, when its server or its own user fails.
#![cfg(feature = "net")]

mod common;

use std::{io::ErrorKind, net::UdpSocket, thread, time::Duration};

use common::{Link as _, Serving, closed_port, eventually, file, guard};
use tuffet::{
    Client, Error, ErrorCode, Gen, Refusal, Request, Server, Source, packet::Packet, read, transfer::Outcome, write,
};

fn get(client: &Client, name: &str) -> Result<Vec<u8>, Error> {
    let mut received = Vec::new();
    smol::block_on(client.get(name, async |data| {
        received = data.collect(1 << 20).await?;
        Ok(())
    }))?;
    Ok(received)
}

#[test]
fn an_error_of_the_server_reaches_the_caller() {
    let serving = Serving::new(tuffet::read(async |_: Request| None::<String>));
    let client = Client::new(serving.addr());
    let refused = smol::block_on(client.get("x", async |_| panic!("there is nothing to begin with"))).unwrap_err();
    assert!(matches!(refused, Error::Peer { code: ErrorCode::FILE_NOT_FOUND, .. }), "{refused}");
    let refused = smol::block_on(client.put("x", "bytes")).unwrap_err();
    assert!(matches!(refused, Error::Peer { code: ErrorCode::ACCESS_VIOLATION, .. }), "{refused}");
}

#[test]
fn a_client_takes_no_packet_of_a_foreign_tid() {
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    let foreign = UdpSocket::bind("127.0.0.1:0").unwrap();
    let addr = server.local_addr().unwrap();
    let thread = thread::spawn(move || {
        let mut buffer = [0; 600];
        let (_, client) = server.recv_from(&mut buffer).unwrap();
        let data = |block, payload: Vec<u8>| Packet::Data { block, payload: payload.into() }.encode();
        server.send_to(&data(1, vec![1; 512]), client).unwrap();
        server.recv_from(&mut buffer).unwrap();
        foreign.send_to(&data(2, vec![6; 9]), client).unwrap();
        let (_, answer) = foreign.receive_within(common::LONG).expect("an answer");
        assert!(matches!(Packet::decode(&answer), Ok(Packet::Error { code: ErrorCode::UNKNOWN_TID, .. })));
        server.send_to(&data(2, vec![1; 1]), client).unwrap();
        server.recv_from(&mut buffer).unwrap();
    });
    assert_eq!(get(&Client::new(addr).blksize(512), "x").unwrap(), [1; 513]);
    thread.join().unwrap();
}

#[test]
fn a_server_that_rejects_options_is_asked_without_any() {
    for (code, accepts) in [(8, true), (4, true), (2, false)] {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let addr = server.local_addr().unwrap();
        let thread = thread::spawn(move || {
            let (mut buffer, mut names) = ([0; 600], Vec::new());
            while names.len() < 2 {
                let (len, client) = server.recv_from(&mut buffer).unwrap();
                let answer = match Packet::decode(&buffer[..len]).unwrap() {
                    Packet::Rrq(request) | Packet::Wrq(request) if !request.options.is_empty() => {
                        Packet::Error { code: ErrorCode(code), message: "no options".into() }
                    }
                    Packet::Rrq(request) => {
                        names.push(request.filename);
                        Packet::Data { block: 1, payload: vec![1; 300].into() }
                    }
                    Packet::Wrq(_) => Packet::Ack(0),
                    Packet::Data { payload, .. } => {
                        names.push(payload.to_vec());
                        Packet::Ack(1)
                    }
                    // The last ACK of the download.
                    _ => continue,
                };
                server.send_to(&answer.encode(), client).unwrap();
                if !accepts {
                    return names;
                }
            }
            names
        });
        let client = Client::new(addr);
        match get(&client, "x") {
            Ok(got) => assert!(accepts && got == [1; 300]),
            Err(error) => assert!(!accepts && matches!(error, Error::Peer { .. }), "{error}"),
        }
        if accepts {
            smol::block_on(client.put("x", "bytes")).unwrap();
        }
        assert_eq!(thread.join().unwrap().len(), if accepts { 2 } else { 0 });
    }
}

#[test]
fn a_record_tells_what_was_agreed() {
    let serving = Serving::with(read(async |_: Request| file(5000)), |builder| builder.blksize(1000));
    let client = Client::new(serving.addr());
    eventually("a client has repeated nothing, as on a machine that is not busy", || {
        let mut size = None;
        let record = smol::block_on(client.get("x", async |data| {
            size = data.size();
            data.collect(5000).await.map(drop)
        }));
        let record = record.unwrap();
        assert_eq!(size, Some(5000));
        assert_eq!(record.asked.to_string(), "blksize=1428 windowsize=16 tsize=0");
        assert_eq!(record.granted.to_string(), "blksize=1000 windowsize=16 tsize=5000");
        assert_eq!((record.blksize, record.bytes), (1000, 5000));
        assert_eq!(record.local.port(), serving.record().peer.port());
        record.retransmits == 0
    });
}

#[test]
fn a_silent_server_is_a_timeout() {
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let client = Client::new(silent.local_addr().unwrap()).patience(Duration::from_millis(300));
    assert!(matches!(get(&client, "x"), Err(Error::TimedOut)));
    assert!(matches!(smol::block_on(client.put("x", "bytes")), Err(Error::TimedOut)));
}

#[test]
fn a_closed_port_ends_it_at_once() {
    for local in ["127.0.0.1:0", "[::1]:0"] {
        let Some(socket) = closed_port(local) else { continue };
        let closed = socket.local_addr().unwrap();
        // Longer than any test may take.
        let client = Client::new(closed).patience(Duration::from_secs(3600));
        let refused = |error: &Error| matches!(error, Error::Io(error) if error.kind() == ErrorKind::ConnectionRefused);
        let error = get(&client, "x").unwrap_err();
        assert!(refused(&error), "{error}");
        let error = smol::block_on(client.put("x", "bytes")).unwrap_err();
        assert!(refused(&error), "{error}");
    }
}

#[test]
fn a_server_that_answers_from_its_port_is_heard_as_well() {
    let serving = Serving::with(read(async |_: Request| file(50_000)), |builder| builder.single_port(true));
    assert_eq!(get(&Client::new(serving.addr()), "x").unwrap(), file(50_000));
}

#[test]
fn a_sink_that_fails_tells_the_server() {
    let serving = Serving::new(read(async |_: Request| file(50_000)));
    let client = Client::new(serving.addr());
    let result = smol::block_on(client.get("x", async |_| Err(Refusal::disk_full())));
    assert!(matches!(result, Err(Error::Refused(refusal)) if refusal == Refusal::disk_full()));
    assert!(matches!(serving.record().outcome, Outcome::Aborted { code: ErrorCode::DISK_FULL, .. } | Outcome::Probe));
    // At the end: the last block is not acknowledged.
    let result = smol::block_on(client.get("x", async |data| {
        data.collect(50_000).await?;
        Err(Refusal::disk_full())
    }));
    assert!(matches!(result, Err(Error::Refused(_))));
    assert!(matches!(serving.record().outcome, Outcome::Aborted { code: ErrorCode::DISK_FULL, .. }));
}

#[test]
fn a_transfer_that_is_dropped_in_the_middle_tells_the_server() {
    let serving = Serving::new(read(async |_: Request| file(500_000)));
    let (tell, told) = smol::channel::bounded(1);
    let got = Client::new(serving.addr()).get("x", async |mut data| {
        let mut length = 0;
        while length < 100_000 {
            length += data.next().await.unwrap()?.len();
        }
        tell.send(()).await.unwrap();
        std::future::pending().await
    });
    smol::block_on(futures_lite::future::or(async { drop(got.await) }, async { told.recv().await.unwrap() }));
    assert!(matches!(serving.record().outcome, Outcome::Aborted { code: ErrorCode::NOT_DEFINED, .. }));
}

#[test]
fn a_source_that_fails_tells_the_server() {
    let (held, dropped) = guard();
    let serving = Serving::new(write(move |_, data: Source| {
        let held = held.lock().unwrap().take();
        async move {
            let _held = held;
            data.collect(1 << 20).await.map(drop)
        }
    }));
    let client = Client::new(serving.addr());
    let source = Gen::new(async |co| {
        co.yield_(file(5000)).await;
        Err(Refusal::not_found())
    });
    let result = smol::block_on(client.put("x", source));
    assert!(matches!(result, Err(Error::Refused(refusal)) if refusal == Refusal::not_found()));
    dropped.recv_timeout(common::LONG).unwrap();
    assert!(matches!(serving.record().outcome, Outcome::Aborted { .. }));
}

#[test]
fn a_slow_source_is_put() {
    let serving = Serving::new(write(async |_, data: Source| {
        assert!(data.collect(1 << 20).await? == file(3000));
        Ok(())
    }));
    let source = Gen::new(async |co| {
        for chunk in file(3000).chunks(1000) {
            smol::Timer::after(Duration::from_millis(30)).await;
            co.yield_(chunk.to_vec()).await;
        }
    });
    smol::block_on(Client::new(serving.addr()).put("x", source)).unwrap();
    assert_eq!(serving.record().outcome, Outcome::Complete);
}

#[test]
fn settings_have_bounds() {
    let server = || Server::builder().listen("127.0.0.1:0");
    for (builder, why) in [
        (server().blksize(7), "blksize cannot be 7: it must be 8 to 65464"),
        (server().blksize(65465), "blksize cannot be 65465: it must be 8 to 65464"),
        (server().windowsize(0), "windowsize cannot be 0: it must be 1 to 65535"),
        (server().shards(0).blksize(1), "shards cannot be 0: it must be 1 or more"),
        (server().transfer_ports(0), "transfer_ports cannot be 0: it must be 1 or more"),
    ] {
        assert_eq!(builder.bind().unwrap_err().to_string(), why);
    }
    let client = || Client::new(([127, 0, 0, 1], 9).into());
    let seconds = Duration::from_secs;
    for (client, why) in [
        (client().blksize(7), "blksize cannot be 7: it must be 8 to 65464"),
        (client().windowsize(0), "windowsize cannot be 0: it must be 1 to 65535"),
        (client().timeout(Duration::from_millis(999)), "the timeout in seconds cannot be 0: it must be 1 to 255"),
        (client().timeout(seconds(256)), "the timeout in seconds cannot be 256: it must be 1 to 255"),
    ] {
        let got = smol::block_on(client.get("x", async |_| Ok(()))).unwrap_err();
        let put = smol::block_on(client.put("x", "")).unwrap_err();
        assert_eq!((got.to_string(), put.to_string()), (why.into(), why.into()));
    }
    let server = server().bind().unwrap();
    assert!(server.handle().reload(Server::builder().blksize(7)).is_err());
}
