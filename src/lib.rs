//! A TFTP server made of coroutines.
//!
//! A transfer is a coroutine that yields packets and is resumed by ACKs. The data of a transfer is a coroutine too,
//! written by you, that yields bytes when they are wanted and not before. Nothing is stored between the two, so a
//! machine with a few megabytes to spare can serve files of any size, from anywhere, or files that do not exist.
//!
//! ```no_run
//! # #[cfg(not(feature = "net"))]
//! # fn main() {}
//! # #[cfg(feature = "net")]
//! use tuffet::Gen;
//!
//! # #[cfg(feature = "net")]
//! fn main() -> Result<(), tuffet::Error> {
//!     tuffet::serve(|path| {
//!         Gen::new(async move |co| {
//!             co.yield_(format!("You asked for {path}.\n")).await;
//!             co.yield_("There is no such file, and here it is.\n".to_owned()).await;
//!         })
//!     })
//! }
//! ```
//!
//! # Where to go from here
//!
//! - [`serve`] is the shortest form; [`Server::builder`] has everything that can be set.
//! - [`Server::spawn`] is the form for tests and threads, [`Server::run_until`] that for async programs, in any
//!   runtime. With the feature `tokio`, handlers may await tokio's futures.
//! - [`Handler`] answers requests. [`read`] and [`write`](fn@write) make one of a closure that sees the whole
//!   [`Request`]; a type with state implements [`AsyncHandler`]; the ready-made ones are in [`handlers`].
//! - A [`Source`] is the bytes of one file, as lazy chunks. A generator ([`Gen`]) is one, a stream is one, a string is
//!   one; an upload comes as one. The page on [`generators`] shows what they can do.
//! - A [`Refusal`] is the answer to a client that is not served; an [`Error`] is for you.
//! - [`Client`] gets and puts files.
//! - [`stats`] has a record of each transfer, and [`status`] shows the records to a browser and to Prometheus.
//! - [`sim`] is a server in virtual time: it tests handlers, and this crate, in milliseconds.
//! - [`probe`] tests servers: it fetches as boot clients do, over a wire that loses the packets that you choose.
//!
//! # The pure core
//!
//! [`packet`], [`options`], [`netascii`], [`transfer`] and [`endpoint`] know no sockets, no clock and no executor.
//! [`transfer::Transfer`] is a state machine that you can drive by whatever means you have: a blocking loop (see the
//! example `blocking`), another runtime, a simulator. [`endpoint::Endpoint`] is another: it decides which transfer a
//! datagram belongs to.
//!
//! # Features
//!
//! | feature | what it brings | by default |
//! |---|---|---|
//! | `net` | the server and the client, on smol | through `cli` |
//! | `sim` | [`sim`]: servers and networks in virtual time | yes |
//! | `probe` | [`probe`]: models of boot clients, and a judge of the answers | through `sim` |
//! | `directory` | [`handlers::Directory`] | through `cli` |
//! | `tokio` | servers enter the tokio runtime of the thread that binds them | through `http` |
//! | `http` | [`handlers::Http`], with reqwest and rustls | through `full` |
//! | `object-store` | [`handlers::Bucket`]: S3, Google Cloud Storage, Azure | no |
//! | `dhcp` | [`dhcp`]: ProxyDHCP, which tells machines their boot files (Linux) | through `full` |
//! | `rules` | [`rules`] and [`handlers::Ruled`] | through `full` |
//! | `templates` | targets of rules that are [template files](rules#template-files) | through `full` |
//! | `serde` | the types of [`stats`] can be serialized | through `status` |
//! | `status` | a page, metrics and an API that show a server's transfers | through `full` |
//! | `web` | [`ServerBuilder::http`]: the same files over HTTP | through `full` |
//! | `tracing` | each transfer is a span of `tracing` | no |
//! | `cli` | the program `tuffet`, small: directories, memory, uploads, a client | through `full` |
//! | `full` | the whole program: configuration, rules, status page, bars, manual, sandbox, systemd | yes |
//!
//! A program that embeds the server wants `default-features = false, features = ["net"]`, on tokio with `tokio`. Its
//! tests may want `sim`.

// Each item says which feature it needs.
#![cfg_attr(docsrs, feature(doc_cfg))]
#![cfg_attr(not(feature = "net"), allow(dead_code, reason = "without sockets, no server uses what servers share"))]
// The pages of a smaller build name items that it lacks.
#![cfg_attr(
    not(all(
        feature = "dhcp",
        feature = "directory",
        feature = "http",
        feature = "object-store",
        feature = "probe",
        feature = "rules",
        feature = "sim",
        feature = "status",
        feature = "web"
    )),
    allow(rustdoc::broken_intra_doc_links)
)]

#[cfg(any(feature = "dhcp", feature = "status"))]
mod background;
#[cfg(feature = "net")]
mod client;
#[cfg(feature = "dhcp")]
pub mod dhcp;
mod driver;
pub mod endpoint;
pub mod error;
mod error_code;
/// How a handler makes bytes when they are wanted: [`Gen`], and what it can do.
pub mod generators;
pub mod handler;
pub mod handlers;
pub mod hint;
#[cfg(any(feature = "status", feature = "web"))]
mod http1;
mod name;
pub mod netascii;
mod operator;
pub mod options;
pub mod packet;
mod path;
#[cfg(feature = "probe")]
pub mod probe;
#[cfg(feature = "rules")]
pub mod rules;
mod server;
mod shown;
#[cfg(feature = "sim")]
pub mod sim;
#[cfg(feature = "net")]
mod socket;
pub mod source;
pub mod stats;
#[cfg(feature = "status")]
pub mod status;
mod sync;
pub mod transfer;
#[cfg(all(feature = "net", any(feature = "http", feature = "probe", feature = "status", feature = "web")))]
mod within;

#[doc(no_inline)]
pub use bytes::Bytes;
#[cfg(feature = "net")]
pub use client::{BlockingClient, Client};
#[doc(inline)]
pub use error::{Error, ErrorCode, Refusal};
#[doc(inline)]
pub use generators::{Co, Gen, SendCo, SendGen};
#[doc(inline)]
pub use handler::{AsyncHandler, Handler, Request, read, write};
#[cfg(feature = "net")]
pub use server::{Running, Server, serve};
pub use server::{ServerBuilder, ServerHandle};
#[doc(inline)]
pub use source::{IntoSource, SendSource, Source};

#[cfg(all(doctest, feature = "directory", feature = "web"))]
mod pages {
    #[doc = include_str!("../README.md")]
    struct Readme;

    #[doc = include_str!("../docs/library.md")]
    struct Library;

    #[doc = include_str!("../docs/tokio.md")]
    struct WithTokio;

    #[doc = include_str!("../docs/coming-from.md")]
    struct ComingFrom;

    #[doc = include_str!("../docs/http.md")]
    struct OverHttp;
}
