//! A store in memory: what is put can be got.
//!
//!     cargo run --example memory --features net
//!     echo "hostname lab" | curl -s -T - tftp://127.0.0.1:6969/switch.cfg
//!     curl -s tftp://127.0.0.1:6969/switch.cfg
//!
//! A name that is taken is refused with ERROR 6, one that is not there with ERROR 1, and a file is not there before
//! its upload is complete.

use tuffet::{Error, Server, handlers::Memory};

fn main() -> Result<(), Error> {
    let store = Memory::new().max_bytes(16 << 20);
    store.insert("motd", "Put something here.\n").expect("16 MiB are enough for one line");
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:6969".into());
    let server = Server::builder().listen(address).handler(store).bind()?;
    println!("listening on {}", server.addrs()[0]);
    server.run()
}
