//! Three lines of bytes, made on demand.
//!
//!     cargo run --example hello --features net
//!     curl -s tftp://127.0.0.1:6969/you

use tuffet::{Error, Gen, Request, Server, read};

fn main() -> Result<(), Error> {
    let hello = read(|request: Request| {
        Gen::new(async move |co| {
            co.yield_(format!("Hello {},\n", request.peer().ip())).await;
            co.yield_(format!("you asked for {}.\n", request.path())).await;
            co.yield_("There is no such file, and here it is.\n".to_owned()).await;
        })
    });
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:6969".into());
    let server = Server::builder().listen(address).handler(hello).bind()?;
    println!("listening on {}", server.addrs()[0]);
    server.run()
}
