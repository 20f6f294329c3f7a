//! A TFTP server made of coroutines.
#[cfg(feature = "net")]
mod client;
#[cfg(feature = "net")]
mod driver;
pub mod error;
pub mod handler;
pub mod handlers;
pub mod netascii;
pub mod options;
pub mod packet;
#[cfg(feature = "net")]
mod server;
#[cfg(feature = "net")]
mod socket;
pub mod source;
#[cfg(feature = "net")]
pub mod stats;
pub mod transfer;
#[doc(no_inline)]
pub use bytes::Bytes;
#[cfg(feature = "net")]
pub use client::Client;
pub use error::{Error, ErrorCode, Refusal};
#[doc(no_inline)]
pub use genawaiter::rc::Gen;
pub use handler::{Handler, Request, read, write};
#[cfg(feature = "net")]
pub use server::{Builder, Handle, Server, serve};
pub use source::{IntoSource, Source};
