//! Ready-made handlers.

#[cfg(feature = "http")]
mod http;
#[cfg(feature = "http")]
pub use http::Http;
