//! A store in memory: uploaded files can be read.
//!
//!     cargo run --example memory --features net
//!     echo "hostname lab" | curl -s -T - tftp://127.0.0.1:6969/switch.cfg
//!     curl -s tftp://127.0.0.1:6969/switch.cfg
//!
//! An existing name is refused with ERROR 6, and a missing one with ERROR 1. A file appears only when its upload is
//! complete.

use tuffet::{Error, Server, handlers::Memory};

fn main() -> Result<(), Error> {
    let store = Memory::new().max_bytes(16 << 20);
    store.insert("motd", "Put something here.\n").expect("16 MiB are enough for one line");
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:6969".into());
    let server = Server::builder().listen(address).handler(store).bind()?;
    println!("listening on {}", server.addrs()[0]);
    server.run()
}
