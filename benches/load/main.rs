//! Many clients against one server, over the loopback or a network.
//!
//! Run: cargo bench --bench load -- --clients 64 --blksize 1468
//!      cargo bench --bench load -- --help
//!
//! The clients are those of the pure core (`Transfer::get`) on one thread, with a socket each. Every byte that arrives
//! is compared with the expected one. Trust ratios of runs on one machine at one time, and CPU per block more than wall
//! time.

#[cfg(target_os = "linux")]
mod arguments;
#[cfg(target_os = "linux")]
mod client;
#[cfg(target_os = "linux")]
mod run;
#[cfg(target_os = "linux")]
mod server;

#[cfg(target_os = "linux")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let Some(arguments) = arguments::Arguments::parse(std::env::args().skip(1))? else {
        print!("{}", arguments::HELP);
        return Ok(());
    };
    let server = server::Server::start(&arguments)?;
    let report = run::run(&arguments, server.address, &server.content)?;
    print!("{report}{}", server.stop(report.blocks)?);
    Ok(())
}

#[cfg(not(target_os = "linux"))]
fn main() {
    println!("this benchmark needs Linux");
}
