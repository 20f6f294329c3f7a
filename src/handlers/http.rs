//! Files of an HTTP or HTTPS server.

mod answer;
mod base;
mod identity;
mod sharing;
pub(super) mod tls;
mod upstream;
mod validator;

use std::{fmt, sync::OnceLock, time::Duration};

use async_compat::Compat;
use futures_lite::future;
use reqwest::header::{self, HeaderMap, HeaderName, HeaderValue};
use smol::Timer;

use self::{
    base::Base,
    upstream::{Ask, Settings, Upstream},
};
use super::shared::{self, Gateway, Rules};
use crate::{Error, Refusal, Request, Source, handler::Answer};

const PRODUCT: &str = concat!("tuffet/", env!("CARGO_PKG_VERSION"));

/// Headers that the handler sends itself, or that belong to the connection.
const OWN: [HeaderName; 12] = [
    header::ACCEPT_ENCODING,
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::HOST,
    header::IF_MATCH,
    header::IF_MODIFIED_SINCE,
    header::IF_NONE_MATCH,
    header::IF_RANGE,
    header::IF_UNMODIFIED_SINCE,
    header::RANGE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

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
/// With a [cache](Self::cache), transfers of the same file share one GET, if the answer has a `Content-Length` and a
/// strong `ETag` or a `Last-Modified`, and no `Cache-Control: private` or `no-store` and no `Vary: *`. Nothing is
/// fetched farther than 64 KiB beyond the foremost reader, and nothing when the last one has left.
///
/// A file may be larger than the cache. What few transfers are on the way to is given up first, and is fetched again by
/// a `Range` for those who find it gone. So that this is seldom, the foremost wait for those behind when something
/// between them would have to be given up, and those who come when the file's middle is gone wait for more of them: no
/// longer than 1 s for each 32 KiB, and in all no longer than 1 s for each other transfer of the file and 10 s for all.
///
/// An answer is good for its `max-age`, and for 1 s at least; then the next RRQ asks whether the file has changed.
/// That there is no such file is [remembered](Self::remember_misses) for 5 s, of up to 1024 names. Who asks while
/// another one asks for the same name gets the same answer. Any other file is a GET of each transfer, handed on as it
/// comes and no faster than the client takes it.
///
/// # Resumed
/// When a connection breaks, or is silent for the [`read_timeout`](Self::read_timeout), the file goes on where it was,
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
/// `https_proxy`, `all_proxy`, `no_proxy`) are used unless [`direct`](Self::direct) is called.
///
/// ```
/// use std::time::Duration;
/// use tuffet::{Handler, handlers::Http};
///
/// let mirror = Http::base("http://deb.debian.org/debian/dists/stable/main/installer-amd64/current/images/netboot")?
///     .connect_timeout(Duration::from_secs(2))
///     .cache(64 << 20)
///     .header("X-Site", "building 5")?;
/// # assert!(mirror.describe().ends_with("/netboot/"));
/// # assert!(!mirror.takes_writes());
/// # Ok::<(), tuffet::Error>(())
/// ```
pub struct Http {
    settings: Settings,
    rules: Rules,
    identify: bool,
    gateway: OnceLock<Result<Gateway<Upstream>, String>>,
}

impl Http {
    /// Default of [`cache`](Self::cache), in bytes.
    pub const CACHE: usize = shared::CACHE;

    /// Default of [`read_timeout`](Self::read_timeout).
    pub const READ_TIMEOUT: Duration = shared::SILENCE;

    /// Default of [`connect_timeout`](Self::connect_timeout).
    pub const CONNECT_TIMEOUT: Duration = shared::CONNECT;

    /// Files below this `http` or `https` URL, which is a directory whether it ends with a slash or not.
    ///
    /// A user and a password in it are sent as basic authentication (only to that host and port, even after a
    /// redirect), and stand in no log and no error. The certificates of the system are loaded here.
    ///
    /// # Errors
    /// [`Error::Config`] if this is not such a URL, or has a query or a fragment.
    pub fn base(url: &str) -> Result<Self, Error> {
        let base = Base::parse(url)?;
        let settings = Settings {
            connect_timeout: Self::CONNECT_TIMEOUT,
            redirects: 5,
            direct: false,
            headers: HeaderMap::from_iter([
                (header::ACCEPT_ENCODING, HeaderValue::from_static("identity")),
                (header::USER_AGENT, HeaderValue::from_static(PRODUCT)),
            ]),
            tls: tls::system(base.is_https()),
            base,
        };
        Ok(Self { settings, rules: Rules::default(), identify: false, gateway: OnceLock::new() })
    }

    /// How long a connection may take to be made, name resolution and TLS included. Defaults to 5 s.
    #[must_use]
    pub fn connect_timeout(self, limit: Duration) -> Self {
        self.with(|http| http.settings.connect_timeout = limit)
    }

    /// How long the server may be silent: before the head of its answer, and between any two pieces of the body. Time
    /// in which the client takes nothing does not count. Defaults to 20 s.
    #[must_use]
    pub fn read_timeout(self, limit: Duration) -> Self {
        self.with(|http| http.rules.silence = limit)
    }

    /// How many redirects are followed, wherever they lead, but never from https to http. Defaults to 5.
    #[must_use]
    pub fn redirects(self, most: usize) -> Self {
        self.with(|http| http.settings.redirects = most)
    }

    /// Uses no proxy, whatever the environment says.
    #[must_use]
    pub fn direct(self) -> Self {
        self.with(|http| http.settings.direct = true)
    }

    /// Trusts the certificates of this PEM file, too. Defaults to those of the system.
    ///
    /// # Errors
    /// [`Error::Config`] if there is no certificate in it, or one that cannot be used.
    pub fn root_certificates(self, pem: &[u8]) -> Result<Self, Error> {
        let tls = tls::with_roots(pem)?;
        Ok(self.with(|http| http.settings.tls = tls))
    }

    /// Sends this header with each request, wherever redirects lead; `Authorization` and `Cookie` stay with the host.
    ///
    /// # Errors
    /// [`Error::Config`] if this is no header, or one of those that the handler sends itself, such as `Range`.
    pub fn header(self, name: &str, value: &str) -> Result<Self, Error> {
        let no = |why| Error::Config(format!("{name:?} is not a header to send: {why}"));
        let parsed = HeaderName::try_from(name).map_err(|_| no("that is not a name"))?;
        let value = HeaderValue::try_from(value).map_err(|_| no("its value has characters that are not allowed"))?;
        if OWN.contains(&parsed) {
            return Err(no("it is not for you to say"));
        }
        Ok(self.with(|http| _ = http.settings.headers.insert(parsed, value)))
    }

    /// Tells the upstream who asks: `X-Forwarded-For`, `X-TFTP-IP`, `X-TFTP-Port` and `X-TFTP-File` (the name as it was
    /// sent). What it answers then is for that client alone, unless its `Cache-Control` says `public`. Defaults to no.
    #[must_use]
    pub fn identify(self, yes: bool) -> Self {
        self.with(|http| http.identify = yes)
    }

    /// How many bytes of files are kept to be shared. With less than 32 KiB nothing is, and each RRQ is a GET of its
    /// own. Defaults to 2 MiB, which a router has to spare; more of them cost the upstream less where many transfers of
    /// one file begin within seconds, until all of it fits.
    #[must_use]
    pub fn cache(self, bytes: usize) -> Self {
        self.with(|http| http.rules.cache = bytes)
    }

    /// How long it is remembered that there is no file of a name. Boot loaders ask for many that are not there.
    /// Defaults to 5 s.
    #[must_use]
    pub fn remember_misses(self, time: Duration) -> Self {
        self.with(|http| http.rules.misses = time)
    }

    /// Serves what was had before when the upstream does not answer or answers 500 to 599, as far as it is still in
    /// the cache. Defaults to no.
    #[must_use]
    pub fn stale_if_error(self, yes: bool) -> Self {
        self.with(|http| http.rules.stale_if_error = yes)
    }

    /// Bytes in the cache now.
    pub fn cached(&self) -> usize {
        self.gateway.get().and_then(|gateway| gateway.as_ref().ok()).map_or(0, Gateway::cached)
    }

    fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        Self { gateway: OnceLock::new(), ..self }
    }

    /// What the base itself answers, in a few words, such as `answered 200 OK` or `answered 301 Moved Permanently to
    /// http://other/netboot/`: for the operator, before the first client comes. It is a HEAD, on a connection of its own.
    /// Files may be there though the base is not, so this is nothing to refuse to serve for.
    ///
    /// # Errors
    /// [`Refusal::upstream`] with the cause as its detail, if there is no answer within the
    /// [`read_timeout`](Self::read_timeout), or one of 408, 429 and 500 to 599 other than 501.
    pub async fn ask_base(&self) -> Result<String, Refusal> {
        let limit = self.rules.silence;
        let silent = async {
            Timer::after(limit).await;
            Err(Refusal::upstream().because(format_args!("no byte for {limit:?}")))
        };
        future::or(Compat::new(upstream::ask_base(&self.settings)), silent).await
    }

    async fn open(&self, request: &Request) -> Result<Source, Refusal> {
        let new = || Upstream::new(&self.settings).map(|upstream| Gateway::new(upstream, self.rules));
        let gateway = self.gateway.get_or_init(new).as_ref().map_err(|why| Refusal::internal().because(why))?;
        let headers = if self.identify { identity::headers(request) } else { HeaderMap::new() };
        let mut url = self.settings.base.join(&request.path_bytes());
        url.set_query(request.query());
        let origin = url.to_string();
        Ok(gateway.open(Ask { url, headers }).await?.with_origin(origin))
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
            .field("read_timeout", &self.rules.silence)
            .field("redirects", &self.settings.redirects)
            .field("direct", &self.settings.direct)
            .field("cache", &self.rules.cache)
            .finish_non_exhaustive()
    }
}
