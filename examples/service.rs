//! A provisioning service on tokio: TFTP and HTTP in one program, until Ctrl-C.
//!
//!     cargo run --example service --features http -- \
//!         http://ftp.nl.debian.org/debian/dists/stable/main/installer-amd64/current/images/netboot/
//!     curl -s tftp://127.0.0.1:6969/motd
//!     curl -s tftp://127.0.0.1:6969/pxelinux.0 | wc -c
//!     curl -s http://127.0.0.1:6980/

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use tuffet::{Bytes, Handler, Refusal, Request, Server, Source, read};

/// The last file that each machine has got.
type Machines = Arc<Mutex<BTreeMap<IpAddr, String>>>;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let mirror = arguments.next().unwrap_or("http://127.0.0.1:8000/".into());
    let address = arguments.next().unwrap_or("127.0.0.1:6969".into());
    let web = TcpListener::bind(arguments.next().unwrap_or("127.0.0.1:6980".into())).await?;
    // This build of reqwest has no cryptography provider of its own.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let machines = Machines::default();
    let web_address = web.local_addr()?;
    let web = tokio::spawn(list(web, machines.clone()));

    let server = Server::builder().listen(address).shards(2).handler(motd().or(from(mirror, machines))).bind()?;
    println!("listening on {}, and http://{web_address}/", server.addrs()[0]);
    server.run_until(tokio::signal::ctrl_c()).await?;
    web.abort();
    Ok(())
}

/// A handler that awaits tokio's files.
fn motd() -> impl Handler {
    read(async |request: Request| match request.path() {
        "motd" => Ok(tokio::fs::read("/etc/motd").await?),
        _ => Err(Refusal::not_found()),
    })
}

/// A handler that awaits reqwest, and notes which machine has got which file.
fn from(mirror: String, machines: Machines) -> impl Handler {
    let client = reqwest::Client::new();
    read(async move |request: Request| {
        let name = request.path().to_owned();
        let answer = client.get(format!("{mirror}{name}")).send().await;
        let answer = answer.map_err(|error| Refusal::upstream().because(error))?;
        if !answer.status().is_success() {
            return Err(Refusal::not_found());
        }
        let machines = machines.clone();
        request.on_end(move |record| {
            if record.outcome.is_success() {
                machines.lock().unwrap().insert(record.peer.ip(), name);
            }
        });
        let size = answer.content_length();
        let chunks = futures_lite::stream::unfold(answer, async |mut answer| {
            let chunk = answer.chunk().await.map_err(|error| Refusal::upstream().because(error)).transpose()?;
            Some((chunk, answer))
        });
        let source = Source::chunks::<Result<Bytes, Refusal>>(chunks);
        Ok(match size {
            Some(size) => source.with_size(size),
            None => source,
        })
    })
}

/// The other half of the service, for which a larger program would use axum.
async fn list(listener: TcpListener, machines: Machines) {
    while let Ok((mut stream, _)) = listener.accept().await {
        let machines = machines.clone();
        tokio::spawn(async move {
            let _ = stream.read(&mut [0; 4096]).await;
            let lines: String = machines.lock().unwrap().iter().map(|(ip, file)| format!("{ip} {file}\n")).collect();
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", lines.len());
            let _ = stream.write_all((head + &lines).as_bytes()).await;
        });
    }
}
