//! Files of an HTTP or HTTPS server.

mod answer;
mod base;
mod builder;
mod identity;
mod redirect;
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
use super::shared::{self, Gateway, GatewaySettings};
use crate::{Error, Refusal, Request, Source, handler::Answer};

/// Reads files from an HTTP or HTTPS server, and takes no writes.
///
/// An RRQ becomes a GET of the base followed by [`Request::path`] and, if there is one, [`Request::query`]. `tsize` is
/// known if the server sends a `Content-Length`. The server's answers become:
///
/// | answer                               | for the peer                            |
/// |--------------------------------------|-----------------------------------------|
/// | 200                                  | the file                                |
/// | 404, 410, a redirect to a directory  | [`Refusal::not_found`]                  |
/// | 401, 403                             | [`Refusal::denied`]                     |
/// | anything else, or no answer          | [`Refusal::upstream`]                   |
///
/// The client gets the file as the server stores it. The request asks for no encoding, so a `Content-Encoding` (mirrors
/// label each `.gz` so) changes nothing. An answer with a `Transfer-Encoding` other than `chunked` is refused, because
/// the request did not ask for that either. Bytes of a name that are not UTF-8 are percent-encoded as they are.
///
/// # Shared
/// With a [cache](HttpBuilder::cache), transfers of the same file share one GET, if the answer has a `Content-Length`
/// and a strong `ETag` or a `Last-Modified`, and no `Cache-Control: private` or `no-store` and no `Vary: *`. The fetch
/// goes no farther than 64 KiB beyond the foremost reader, and stops when the last reader has left.
///
/// A file may be larger than the cache. The cache first drops the parts that few readers still need, and fetches them
/// again by a `Range` for readers that find them gone. To make this rare, the foremost readers wait for the readers
/// behind them if otherwise a part between them would be dropped. A reader that arrives when the middle of the file is
/// gone waits for more readers. A reader waits no longer than 1 s for each 32 KiB, and in all no longer than 1 s for
/// each other transfer of the file, and 10 s at most.
///
/// An answer stays fresh for its `max-age`, and for 1 s at least. Then the next RRQ asks whether the file has changed.
/// A missing file is [remembered](HttpBuilder::remember_misses) for 5 s, for up to 1024 names. Requests that arrive
/// while another one asks for the same name get the same answer. An answer that cannot be shared is fetched by one GET
/// for each transfer, and passed on as it arrives, no faster than the client takes it.
///
/// # Resumed
/// When a connection breaks, or is silent for the [`upstream_timeout`](HttpBuilder::upstream_timeout), the fetch
/// resumes at the same position, if the file has a strong `ETag` or a `Last-Modified`. The first pause is 100 ms, and
/// each further one is twice as long, up to 5 s. Ten tries without a byte of progress, which is about half a minute of
/// pauses, end the transfer with [`Refusal::upstream`]. So does a file that has changed: old and new bytes are never
/// mixed. A server without ranges sends the beginning again.
///
/// At first, at most 16 requests for new files await their answers at once, and further ones when answers take more
/// than 0.25 s. An upstream whose quickest answer of the last ten minutes took 20 ms or more gets up to 256 of them at
/// once, as long as its answers take no more than four times that time.
///
/// A request whose connection is closed without an answer is sent again on new ones, up to four times within 0.7 s.
/// After a 429 or 503 it is sent again if the upstream has answered another one in the last 10 s: up to 14 times within
/// 20 s, of these three while no other new file is requested. If it has answered none, the request is sent again three
/// times while other new files are requested, and once after a `Retry-After`. Each `Retry-After` of at most 3 s is
/// waited for besides, and a longer one is not.
///
/// After three connections in a row that failed (refused, no such host, no TLS, timeout) the handler does not ask the
/// upstream for 2 s, and refuses new transfers that need it without a wait. Bad answers and missing answers do not
/// count, because they may concern only one file. If the upstream has answered in the last 2 s, it may be restarting,
/// and the request is sent again for up to 3 s instead, unless [`stale_if_error`](HttpBuilder::stale_if_error) has a
/// copy.
///
/// # Bounded
/// Beside the cache, a transfer holds at most two segments of 32 KiB. All readers that are near each other share one
/// fetch. Each fetch costs two more segments and a connection, with up to about 1 MiB of its buffers. With more than 8
/// fetches at once each one asks for pieces of 128 KiB, and with more than 128 for pieces of 32 KiB, which bounds what
/// their connections hold. This holds without a cache as well. A body that cannot come in pieces (no `Accept-Ranges`,
/// or not all headers that sharing needs) costs a connection for each transfer.
///
/// One handler has one pool of connections, shared by all threads. The proxies of the environment (`http_proxy`,
/// `https_proxy`, `all_proxy`, `no_proxy`) are used unless [`direct`](HttpBuilder::direct) is called.
///
/// ```
/// use std::time::Duration;
/// use tuffet::{Handler, handlers::Http};
///
/// let mirror = Http::builder("http://ftp.nl.debian.org/debian/dists/stable/main/installer-amd64/current/images")
///     .connect_timeout(Duration::from_secs(2))
///     .cache(64 << 20)
///     .header("X-Site", "building 5")?
///     .build()?;
/// # assert!(mirror.describe().ends_with("/images/"));
/// # assert!(!mirror.takes_writes());
/// # Ok::<(), tuffet::Error>(())
/// ```
pub struct Http {
    settings: Settings,
    gateway_settings: GatewaySettings,
    identify: bool,
    gateway: Gateway<Upstream>,
}

impl Http {
    /// The default of [`cache`](HttpBuilder::cache), in bytes.
    pub const CACHE: usize = shared::CACHE;

    /// The default of [`upstream_timeout`](HttpBuilder::upstream_timeout).
    pub const UPSTREAM_TIMEOUT: Duration = shared::UPSTREAM_TIMEOUT;

    /// The default of [`connect_timeout`](HttpBuilder::connect_timeout).
    pub const CONNECT_TIMEOUT: Duration = shared::CONNECT_TIMEOUT;

    /// The files below this URL, with the defaults of [`builder`](Self::builder).
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

    /// The files below this `http` or `https` URL, which is a directory with or without a slash at its end.
    ///
    /// A user and a password in the URL are sent as basic authentication (only to that host and port, even after a
    /// redirect). They never appear in logs or errors.
    ///
    /// ```
    /// use tuffet::{Handler, handlers::Http};
    ///
    /// let mirror = Http::builder("http://user:secret@mirror/netboot").build()?;
    /// assert_eq!(mirror.describe(), "http://mirror/netboot/");
    /// # Ok::<(), tuffet::Error>(())
    /// ```
    pub fn builder(url: &str) -> HttpBuilder {
        HttpBuilder::new(url)
    }

    /// The bytes in the cache now.
    ///
    /// ```
    /// assert_eq!(tuffet::handlers::Http::new("http://mirror/netboot")?.cached(), 0);
    /// # Ok::<(), tuffet::Error>(())
    /// ```
    pub fn cached(&self) -> usize {
        self.gateway.cached()
    }

    /// The answer of the base itself, in a few words, such as `answered 200 OK` or `answered 301 Moved Permanently to
    /// http://other/netboot/`, for the operator, before the first client comes. The request is a HEAD, or a GET if the
    /// server has no HEAD, on a connection of its own. Files may exist although the base does not, so a bad answer is
    /// no reason not to serve.
    ///
    /// ```
    /// # #[cfg(feature = "web")] {
    /// use tuffet::{Server, handlers::Http, read};
    ///
    /// let upstream = Server::builder().listen("127.0.0.1:0").http("127.0.0.1:0").handler(read(|_| "hello\n")).bind()?;
    /// let address = upstream.http_addrs()[0];
    /// let _running = upstream.spawn()?;
    /// let files = Http::builder(&format!("http://{address}/")).direct().build()?;
    /// assert!(smol::block_on(files.ask_base())?.starts_with("answered "));
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`Refusal::upstream`] with the cause as its detail, if there is no answer within the
    /// [`upstream_timeout`](HttpBuilder::upstream_timeout), or the status is 408, 429 or 500 to 599.
    pub async fn ask_base(&self) -> Result<String, Refusal> {
        shared::answered(self.gateway_settings.upstream_timeout, upstream::ask_base(&self.settings)).await
    }

    async fn open(&self, request: &Request) -> Result<Source, Refusal> {
        let headers = if self.identify { identity::headers(request) } else { HeaderMap::new() };
        let mut url = self.settings.base.join(request.path_bytes());
        url.set_query(request.query());
        let origin = url.to_string();
        Ok(self.gateway.open(Ask { url, headers }).await?.with_origin(origin))
    }
}

impl crate::Handler for Http {
    fn read<'a>(&'a self, request: &'a Request) -> Answer<'a, Source> {
        // reqwest needs a tokio context; `Compat` enters one at each poll and for the drop.
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
            .field("upstream_timeout", &self.gateway_settings.upstream_timeout)
            .field("redirects", &self.settings.redirects)
            .field("direct", &self.settings.direct)
            .field("cache", &self.gateway_settings.cache)
            .finish_non_exhaustive()
    }
}
