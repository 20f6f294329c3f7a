//! Servers in virtual time: no sockets, no threads, no waiting.
//!
//! [`get`] and [`put`] transfer one file through a handler, over a network with any faults. This is how a program tests
//! its handler, in milliseconds:
//!
//! ```
//! use tuffet::{Request, read, sim};
//!
//! # futures_lite::future::block_on(async {
//! let handler = read(|request: Request| format!("hello {}\n", request.peer().ip()));
//! let report = sim::get(&handler, "motd").loss(0.2).seed(7).await?;
//! assert_eq!(report.data, "hello 192.0.2.7\n");
//! assert!(report.record.outcome.is_success());
//! # Ok::<(), tuffet::Error>(())
//! # }).unwrap();
//! ```
//!
//! A [`Server`] here has the handlers, limits, hooks and counters of a server with sockets. Only its loop differs: the
//! test drives it. A [`Wire`] is one direction of a network, with losses, copies and delays from a seed. Hours of a bad
//! network pass in milliseconds, and the same seed gives exactly the same packets.
//!
//! ```
//! use tuffet::{ServerBuilder, packet::Packet, read, sim};
//!
//! let handler = read(|request: tuffet::Request| format!("hello {}\n", request.peer().ip()));
//! let mut server = sim::Server::new(ServerBuilder::default().handler(handler), 42);
//! let client = "192.0.2.7:1069".parse()?;
//! server.deliver(client, server.addr(), b"\0\x01motd\0octet\0");
//! let answer = server.sent().pop().unwrap();
//! assert_eq!(Packet::decode(&answer.bytes), Ok(Packet::Data { block: 1, payload: "hello 192.0.2.7\n".into() }));
//!
//! // It is never acknowledged, so it comes again.
//! let again = server.wake_at().unwrap();
//! server.pass(again);
//! assert_eq!(server.sent().pop().unwrap().bytes, answer.bytes);
//! # Ok::<(), std::net::AddrParseError>(())
//! ```

mod server;
mod time;
mod transfer;
mod wire;

pub use server::{Datagram, Server};
pub use time::Time;
pub use transfer::{Report, Simulation, get, put};
pub use wire::{Fault, LinkConditions, Wire};
