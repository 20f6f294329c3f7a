//! Handlers that are ready to use.
//!
//! | handler | serves | feature |
//! |---|---|---|
//! | [`Bucket`] | the objects of a bucket of S3, Google or Azure, and takes uploads if allowed | `object-store` |
//! | [`Chain`] | the file of the first of several handlers that has it | |
//! | [`Directory`] | the files of a directory, and takes uploads if allowed | `directory` |
//! | [`Http`] | the files below an HTTP(S) URL, shared and resumed | `http` |
//! | [`Memory`] | files that it keeps in memory | |
//! | [`Ruled`] | the files of another handler, by [rules](crate::rules) | `rules` |

#[cfg(feature = "object-store")]
mod bucket;
mod chain;
#[cfg(feature = "directory")]
mod directory;
#[cfg(feature = "http")]
pub(crate) mod http;
mod memory;
#[cfg(feature = "rules")]
mod ruled;
#[cfg(feature = "http")]
mod shared;

#[cfg(feature = "object-store")]
pub use bucket::{Bucket, BucketBuilder};
pub use chain::{Chain, Search};
#[cfg(feature = "directory")]
pub use directory::Directory;
#[cfg(feature = "http")]
pub use http::{Http, HttpBuilder};
pub use memory::Memory;
/// The version of `object_store` whose stores [`Bucket::of`] takes.
#[cfg(feature = "object-store")]
#[doc(no_inline)]
pub use object_store;
#[cfg(feature = "rules")]
pub use ruled::Ruled;

#[cfg(test)]
mod testing {
    use std::net::{Ipv4Addr, SocketAddr};

    use crate::{handler::Request, packet};

    /// An RRQ or WRQ for this file.
    pub(super) fn request(path: &str) -> Request {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 69));
        Request::new(address, address, packet::Request::new(path)).unwrap()
    }
}
