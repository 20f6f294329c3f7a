//! The handler behind a server, with clients that speak TFTP.

use std::{sync::Arc, thread};

use tuffet::{Client, Error, Refusal, Server};

use super::{
    files::{Fault, Files},
    http,
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
    files.fail([Fault::Reset(1 << 20), Fault::Status("503 Service Unavailable"), Fault::Close(100_000)]);
    let builder = Server::builder().listen("127.0.0.1:0".parse().unwrap()).shards(2);
    let server = builder.handler(http(&files.url()).cache(4 << 20)).bind().unwrap();
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
