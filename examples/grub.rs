//! A GRUB configuration for each machine, made on demand.
//!
//!     cargo run --example grub --features net
//!     curl -s tftp://127.0.0.1:6969/grub/grub.cfg-01-52-54-00-12-34-56
//!
//! GRUB asks for `grub.cfg-01-` and its MAC address first, then for `grub.cfg-` and its IP address in hex, then for
//! `grub.cfg`. This example answers only the first; the others get "file not found" at once, and GRUB continues.
//!
//! GRUB treats a file of unknown size (`tsize`) as empty. A generator need not know its size: the server reads a small
//! one to its end before it answers.

use tuffet::{Error, Gen, Handler, Request, Server, read};

/// The machines of this lab.
const MACHINES: &[(&str, &str, &str)] =
    &[("52-54-00-12-34-56", "web1", "bookworm"), ("52-54-00-12-34-57", "db1", "trixie")];

/// A configuration for each known machine, under the name that GRUB asks for.
pub fn configurations() -> impl Handler {
    read(|request: Request| {
        let mac = request.path().strip_prefix("grub/grub.cfg-01-")?;
        let (_, name, release) = MACHINES.iter().find(|(known, ..)| known.eq_ignore_ascii_case(mac))?;
        Some(Gen::new(async move |co| {
            co.yield_(format!("# {name}, asked from {}\n", request.peer().ip())).await;
            co.yield_("set timeout=3\n".to_owned()).await;
            for (title, arguments) in [("Install", "auto=true priority=critical"), ("Rescue", "rescue/enable=true")] {
                let linux = format!("linux /{release}/linux hostname={name} {arguments}");
                co.yield_(format!(
                    "menuentry \"{title} {release}\" {{\n  {linux}\n  initrd /{release}/initrd.gz\n}}\n"
                ))
                .await;
            }
        }))
    })
}

fn main() -> Result<(), Error> {
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:6969".into());
    let server = Server::builder().listen(address).handler(configurations()).bind()?;
    println!("listening on {}", server.addrs()[0]);
    server.run()
}
