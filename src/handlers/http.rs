//! Files of an HTTP or HTTPS server.

mod answer;
mod base;
mod builder;
mod identity;
mod sharing;
pub(super) mod tls;
mod upstream;
mod validator;
pub(crate) mod webhook;

use std::{fmt, time::Duration};

use async_compat::Compat;
use reqwest::header::HeaderMap;

pub use self::builder::HttpBuilder;
use self::upstream::{Ask, Settings, Upstream};
use super::shared::{self, Gateway, Rules};
use crate::{Error, Refusal, Request, Source, handler::Answer};

/// Reads files from an HTTP or HTTPS server, and takes no writes.
///
/// An RRQ becomes a GET of the base followed by [`Request::path`] and, if there is one, [`Request::query`]. `tsize` is known if the server sends a
/// `Content-Length`. What the server answers becomes:
///
/// | answer                               | for the peer                            |
/// |--------------------------------------|-----------------------------------------|
/// | 200                                  | the file                                |
/// | 404, 410, a redirect to a directory  | [`Refusal::not_found`]                  |
/// | 401, 403                             | [`Refusal::denied`]                     |
/// | anything else, or no answer          | [`Refusal::upstream`]                   |
///
/// The file is what the server has stored: no encoding is asked for, so a `Content-Encoding` (mirrors label each `.gz` so)
/// changes nothing. A `Transfer-Encoding` other than `chunked`, which was not asked for either, is no file.
/// Bytes of a name that are not UTF-8 are percent-encoded as they are.
///
/// # Shared
/// With a [cache](HttpBuilder::cache), transfers of the same file share one GET, if the answer has a `Content-Length` and a
/// strong `ETag` or a `Last-Modified`, and no `Cache-Control: private` or `no-store` and no `Vary: *`. Nothing is
/// fetched farther than 64 KiB beyond the foremost reader, and nothing when the last one has left.
///
/// A file may be larger than the cache. What few transfers are on the way to is given up first, and is fetched again by
/// a `Range` for those who find it gone. So that this is seldom, the foremost wait for those behind when something
/// between them would have to be given up, and those who come when the file's middle is gone wait for more of them: no
/// longer than 1 s for each 32 KiB, and in all no longer than 1 s for each other transfer of the file and 10 s for all.
///
/// An answer is good for its `max-age`, and for 1 s at least; then the next RRQ asks whether the file has changed.
/// That there is no such file is [remembered](HttpBuilder::remember_misses) for 5 s, of up to 1024 names. Who asks while
/// another one asks for the same name gets the same answer. Any other file is a GET of each transfer, handed on as it
/// comes and no faster than the client takes it.
///
/// # Resumed
/// When a connection breaks, or is silent for the [`upstream_timeout`](HttpBuilder::upstream_timeout), the file goes on where it was,
/// if it has a strong `ETag` or a `Last-Modified`: after 100 ms, then twice as long each time, up to 5 s. Ten tries
/// without a byte of progress, which is about half a minute of pauses, end it with [`Refusal::upstream`]. So does a
/// file that has changed: old and new are never mixed. A server without ranges sends the beginning again.
///
/// A request that gets no answer on a connection that was kept is sent once more, on a new one.
///
/// After three connections in a row that could not be made (refused, no such host, no TLS, too late) the upstream is left
/// alone for 2 s, and new transfers that need it are refused at once. What it answers, or whether it does, does not
/// count: that may be so for one file.
///
/// # Bounded
/// Beside the cache, a transfer holds at most two segments of 32 KiB. Each fetch, of which there is one for all readers
/// that are near each other, costs two more and a connection, up to about 1 MiB of its buffers. With more than 8
/// fetches at once they ask for pieces of 128 KiB, with more than 128 of 32 KiB, so that this is what their connections
/// hold; this is so without a cache as well. A body that cannot come in pieces (no `Accept-Ranges`, or none of what
/// sharing needs) costs a connection for each transfer.
///
/// One handler has one pool of connections, shared by all threads. The proxies of the environment (`http_proxy`,
/// `https_proxy`, `all_proxy`, `no_proxy`) are used unless [`direct`](HttpBuilder::direct) is called.
///
/// ```
/// use std::time::Duration;
/// use tuffet::{Handler, handlers::Http};
///
/// let mirror = Http::builder("http://deb.debian.org/debian/dists/stable/main/installer-amd64/current/images/netboot")
///     .connect_timeout(Duration::from_secs(2))
///     .cache(64 << 20)
///     .header("X-Site", "building 5")?
///     .build()?;
/// # assert!(mirror.describe().ends_with("/netboot/"));
/// # assert!(!mirror.takes_writes());
/// # Ok::<(), tuffet::Error>(())
/// ```
pub struct Http {
    settings: Settings,
    rules: Rules,
    identify: bool,
    gateway: Gateway<Upstream>,
}

impl Http {
    /// Default of [`cache`](HttpBuilder::cache), in bytes.
    pub const CACHE: usize = shared::CACHE;

    /// Default of [`upstream_timeout`](HttpBuilder::upstream_timeout).
    pub const UPSTREAM_TIMEOUT: Duration = shared::UPSTREAM_TIMEOUT;

    /// Default of [`connect_timeout`](HttpBuilder::connect_timeout).
    pub const CONNECT_TIMEOUT: Duration = shared::CONNECT_TIMEOUT;

    /// Files below this URL, with the defaults of [`builder`](Self::builder).
    ///
    /// ```
    /// use tuffet::{Handler, handlers::Http};
    ///
    /// assert_eq!(Http::new("http://mirror/netboot")?.describe(), "http://mirror/netboot/");
    /// # Ok::<(), tuffet::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`HttpBuilder::build`].
    pub fn new(url: &str) -> Result<Self, Error> {
        Self::builder(url).build()
    }

    /// Files below this `http` or `https` URL, which is a directory whether it ends with a slash or not.
    ///
    /// A user and a password in it are sent as basic authentication (only to that host and port, even after a
    /// redirect), and stand in no log and no error.
    pub fn builder(url: &str) -> HttpBuilder {
        HttpBuilder::new(url)
    }

    /// Bytes in the cache now.
    pub fn cached(&self) -> usize {
        self.gateway.cached()
    }

    /// What the base itself answers, in a few words, such as `answered 200 OK` or `answered 301 Moved Permanently to
    /// http://other/netboot/`: for the operator, before the first client comes. It is a HEAD, on a connection of its own.
    /// Files may be there though the base is not, so this is nothing to refuse to serve for.
    ///
    /// # Errors
    /// [`Refusal::upstream`] with the cause as its detail, if there is no answer within the
    /// [`upstream_timeout`](HttpBuilder::upstream_timeout), or one of 408, 429 and 500 to 599 other than 501.
    pub async fn ask_base(&self) -> Result<String, Refusal> {
        shared::answered(self.rules.upstream_timeout, upstream::ask_base(&self.settings)).await
    }

    async fn open(&self, request: &Request) -> Result<Source, Refusal> {
        let headers = if self.identify { identity::headers(request) } else { HeaderMap::new() };
        let mut url = self.settings.base.join(&request.path_bytes());
        url.set_query(request.query());
        let origin = url.to_string();
        Ok(self.gateway.open(Ask { url, headers }).await?.with_origin(origin))
    }
}

impl crate::Handler for Http {
    fn read<'a>(&'a self, request: &'a Request) -> Answer<'a, Source> {
        // reqwest lives in a tokio context; this enters one at each poll and for the drop.
        Box::pin(Compat::new(self.open(request)))
    }

    fn describe(&self) -> String {
        self.settings.base.to_string()
    }
}

impl fmt::Debug for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http")
            .field("base", &self.settings.base.to_string())
            .field("connect_timeout", &self.settings.connect_timeout)
            .field("upstream_timeout", &self.rules.upstream_timeout)
            .field("redirects", &self.settings.redirects)
            .field("direct", &self.settings.direct)
            .field("cache", &self.rules.cache)
            .finish_non_exhaustive()
    }
}
