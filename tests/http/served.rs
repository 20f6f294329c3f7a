//! The handler behind a server, with clients that speak TFTP.

use std::{
    io::Write,
    net::{SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    thread,
};

use tuffet::{
    Client, Error, ErrorCode, Handler, Refusal, Server,
    packet::{Mode, Options, Packet, Request},
};

use super::{
    LONG,
    common::Link as _,
    files::{Fault, Files},
    http, settings,
    upstream::Upstream,
};

fn get(server: std::net::SocketAddr, name: &str) -> Result<Vec<u8>, Error> {
    let mut received = Vec::new();
    let client = Client::new(server).blksize(1428).windowsize(16);
    smol::block_on(client.get(name, async |data| {
        received = data.collect(8 << 20).await?;
        Ok(())
    }))?;
    Ok(received)
}

#[test]
fn clients_of_two_shards_see_one_pause_and_no_failure() {
    let size = 3 << 20;
    let files = Files::new(size);
    // On a busy machine a client may come when the others have long been served.
    *files.state.headers.lock().unwrap() = "Cache-Control: max-age=600\r\n".into();
    files.fail([Fault::Reset(1 << 20), Fault::Status("503 Service Unavailable"), Fault::Close(100_000)]);
    let builder = Server::builder().listen("127.0.0.1:0").shards(2);
    let server = builder.handler(settings(&files.url()).cache(4 << 20).build().unwrap()).bind().unwrap();
    let (address, handle) = (server.addrs()[0], server.handle());
    let running = thread::spawn(|| server.run());
    let expected = Arc::new(files.content());
    let clients: Vec<_> = (0..16)
        .map(|_| {
            let expected = expected.clone();
            thread::spawn(move || assert!(get(address, "initrd").unwrap() == *expected))
        })
        .collect();
    for client in clients {
        client.join().unwrap();
    }
    files.fail([Fault::Status("404 Not Found")]);
    for _ in 0..5 {
        let refused = get(address, "missing").unwrap_err();
        assert!(matches!(&refused, Error::Peer { code, .. } if *code == Refusal::not_found().code()), "{refused}");
    }
    println!("{} requests, {} bytes", files.requests(), files.served());
    assert!(files.requests() <= 6 && files.served() <= size + size / 2);
    handle.stop();
    running.join().unwrap().unwrap();
}

/// The first packet that a server of this handler sends to GRUB, which leaves then. The server has ended on return.
fn probe(handler: impl Handler, name: &str) -> Packet {
    let server = Server::builder().listen("127.0.0.1:0").handler(handler).bind().unwrap();
    let (address, handle) = (server.addrs()[0], server.handle());
    let running = thread::spawn(|| server.run());
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let send = |packet: Packet, to: SocketAddr| socket.send_to(&packet.encode(), to).unwrap();
    let options: Options = [("blksize", "1024"), ("tsize", "0")].into_iter().collect();
    send(Packet::Rrq(Box::new(Request { filename: name.into(), mode: Mode::Octet, options })), address);
    let (from, answer) = socket.receive_within(LONG).expect("an answer");
    send(Packet::Error { code: ErrorCode(8), message: "User aborted the transfer".into() }, from);
    handle.stop();
    running.join().unwrap().unwrap();
    Packet::decode(&answer).unwrap()
}

#[test]
fn the_size_of_a_small_chunked_body_is_told() {
    for cache in [0, 2 << 20] {
        for (size, told) in [(1, true), (300, true), (20_000, true), (65_536, true), (65_537, false)] {
            let files = Files::new(size);
            *files.state.chunked.lock().unwrap() = true;
            let packet = probe(settings(&files.url()).cache(cache).build().unwrap(), "grub/grub.cfg");
            let Packet::Oack(granted) = packet else { panic!("{packet:?}") };
            let size = size.to_string();
            assert_eq!(granted.value("tsize"), told.then_some(size.as_str()), "{size}");
        }
    }
    // The end of the connection is the end of the body.
    let upstream = Upstream::answering("HTTP/1.1 200 OK\r\n\r\nset timeout=3\n");
    let packet = probe(http(&upstream.url()), "grub.cfg");
    assert_eq!(packet, Packet::Oack([("blksize", "1024"), ("tsize", "14")].into_iter().collect()));
}

#[test]
fn a_client_that_leaves_when_it_has_the_answer_costs_no_whole_body() {
    const SIZE: usize = 64 << 20;
    let written = Arc::new(AtomicUsize::new(0));
    let counter = written.clone();
    let upstream = Upstream::new(move |_, stream| {
        write!(stream, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
        let piece = [7; 16 << 10];
        while counter.load(SeqCst) < SIZE {
            let sent = write!(stream, "{:x}\r\n", piece.len())
                .and_then(|()| stream.write_all(&piece))
                .and_then(|()| stream.write_all(b"\r\n"));
            if sent.is_err() {
                return;
            }
            counter.fetch_add(piece.len(), SeqCst);
        }
    });
    let packet = probe(http(&upstream.url()), "image");
    assert_eq!(packet, Packet::Oack([("blksize", "1024")].into_iter().collect()), "too large to be known");
    // Most of it is in the kernel, in the buffers of the two sockets.
    assert!(written.load(SeqCst) < SIZE / 4, "{} bytes", written.load(SeqCst));
}
