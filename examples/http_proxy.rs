//! Each RRQ becomes a GET of a base URL and the path. Clients that ask for the same file share one GET.
//!
//!     cargo run --release --example http_proxy -- \
//!         http://ftp.nl.debian.org/debian/dists/stable/main/installer-amd64/current/images/netboot/
//!     curl -s tftp://127.0.0.1:6969/pxelinux.0 | wc -c
//!
//! Without a URL it starts a small upstream of its own, so it runs without a network.

use tuffet::{Error, Server, handlers::Http};

fn main() -> Result<(), Error> {
    let base = std::env::args().nth(1).filter(|base| !base.is_empty()).map_or_else(little_upstream, Ok)?;
    let address = std::env::args().nth(2).unwrap_or("127.0.0.1:6969".into());
    let server = Server::builder().listen(address).handler(Http::new(&base)?).bind()?;
    println!("listening on {}, files come from {base}", server.addrs()[0]);
    server.run()
}

/// An HTTP server with one file, `hello`, and an error text for other names.
fn little_upstream() -> std::io::Result<String> {
    use std::{
        io::{BufRead, BufReader, Write},
        net::TcpListener,
    };
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let base = format!("http://{}/", listener.local_addr()?);
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut head = BufReader::new(&stream).lines().map_while(Result::ok).take_while(|line| !line.is_empty());
            let (status, body) = match head.next().is_some_and(|request| request.starts_with("GET /hello ")) {
                true => ("200 OK", "These bytes came by HTTP and left by TFTP.\n".repeat(1000)),
                false => ("404 Not Found", String::new()),
            };
            head.for_each(drop);
            let length = body.len();
            let _ = write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}");
        }
    });
    Ok(base)
}
