//! A TFTP server made of coroutines.
#![forbid(unsafe_code)]
pub mod error;
pub mod handler;
pub mod handlers;
pub mod netascii;
pub mod options;
pub mod packet;
pub mod source;
pub mod transfer;
#[doc(no_inline)]
pub use bytes::Bytes;
pub use error::{Error, ErrorCode, Refusal};
#[doc(no_inline)]
pub use genawaiter::rc::Gen;
pub use handler::{Handler, Request, read, write};
pub use source::{IntoSource, Source};
