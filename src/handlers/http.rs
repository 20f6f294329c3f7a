//! Files of an HTTP or HTTPS server.

mod answer;
mod base;
mod breaker;
mod fetch;
mod tls;
mod upstream;
mod validator;

use std::{
    fmt,
    sync::{Arc, OnceLock},
    time::Duration,
};

use async_compat::Compat;
use genawaiter::rc::{Co, Gen};
use reqwest::header::{ACCEPT_ENCODING, HeaderMap, HeaderValue, USER_AGENT};

use self::{
    base::Base,
    fetch::Fetch,
    upstream::{Ask, Settings, Upstream, located},
};
use crate::{Bytes, Error, Refusal, Request, Source, handler::Answer};

const PRODUCT: &str = concat!("tuffet/", env!("CARGO_PKG_VERSION"));

/// Reads files from an HTTP or HTTPS server, and takes no writes.
///
/// Each RRQ is a GET of the base followed by [`Request::path`]; the body is handed on as it comes, and no faster than
/// the client takes it. `tsize` is known if the server sends a `Content-Length`. What the server answers becomes:
///
/// | answer                               | for the peer                            |
/// |--------------------------------------|-----------------------------------------|
/// | 200                                  | the file                                |
/// | 404, 410, a redirect to a directory  | [`Refusal::not_found`]                  |
/// | 401, 403                             | [`Refusal::denied`]                     |
/// | 200 with a `Content-Encoding`        | [`Refusal::internal`]: it was not asked |
/// | anything else, no answer, a break    | [`Refusal::upstream`]                   |
///
/// One handler has one pool of connections, shared by all threads. A transfer that ends early closes its connection
/// at once. The proxies of the environment (`http_proxy`, `https_proxy`, `all_proxy`, `no_proxy`) are used unless
/// [`direct`](Self::direct) is called.
///
/// A download costs about 1 MiB, however slow its client is: chunks are slices of the connection's read buffer,
/// which grows while the upstream is fast. The kernel's receive buffer comes on top.
///
/// ```
/// use std::time::Duration;
/// use tuffet::{Handler, handlers::Http};
///
/// let mirror = Http::base("http://deb.debian.org/debian/dists/stable/main/installer-amd64/current/images/netboot")?
///     .connect_timeout(Duration::from_secs(2))
///     .redirects(0);
/// # assert!(mirror.describe().ends_with("/netboot/"));
/// # assert!(!mirror.takes_writes());
/// # Ok::<(), tuffet::Error>(())
/// ```
pub struct Http {
    settings: Settings,
    upstream: OnceLock<Result<Arc<Upstream>, String>>,
}

impl Http {
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
            connect_timeout: Duration::from_secs(5),
            read_timeout: Duration::from_secs(20),
            redirects: 5,
            direct: false,
            headers: HeaderMap::from_iter([
                (ACCEPT_ENCODING, HeaderValue::from_static("identity")),
                (USER_AGENT, HeaderValue::from_static(PRODUCT)),
            ]),
            tls: tls::system(base.is_https()),
            base,
        };
        Ok(Self { settings, upstream: OnceLock::new() })
    }

    /// How long a connection may take to be made, name resolution and TLS included. Defaults to 5 s.
    #[must_use]
    pub fn connect_timeout(self, limit: Duration) -> Self {
        self.with(|settings| settings.connect_timeout = limit)
    }

    /// How long the server may be silent: before the head of its answer, and between any two pieces of the body. Time
    /// in which the client takes nothing does not count. Defaults to 20 s.
    #[must_use]
    pub fn read_timeout(self, limit: Duration) -> Self {
        self.with(|settings| settings.read_timeout = limit)
    }

    /// How many redirects are followed, wherever they lead, but never from https to http. Defaults to 5.
    #[must_use]
    pub fn redirects(self, most: usize) -> Self {
        self.with(|settings| settings.redirects = most)
    }

    /// Uses no proxy, whatever the environment says.
    #[must_use]
    pub fn direct(self) -> Self {
        self.with(|settings| settings.direct = true)
    }

    /// Trusts the certificates of this PEM file, too. Defaults to those of the system.
    ///
    /// # Errors
    /// [`Error::Config`] if there is no certificate in it, or one that cannot be used.
    pub fn root_certificates(self, pem: &[u8]) -> Result<Self, Error> {
        let tls = tls::with_roots(pem)?;
        Ok(self.with(|settings| settings.tls = tls))
    }

    fn with(mut self, change: impl FnOnce(&mut Settings)) -> Self {
        change(&mut self.settings);
        Self { upstream: OnceLock::new(), ..self }
    }

    fn upstream(&self) -> Result<&Arc<Upstream>, Refusal> {
        let upstream = self.upstream.get_or_init(|| Upstream::new(&self.settings).map(Arc::new));
        upstream.as_ref().map_err(|why| Refusal::internal().because(why))
    }

    async fn open(&self, request: &Request) -> Result<Source, Refusal> {
        let upstream = self.upstream()?;
        let ask = Ask { url: self.settings.base.join(request.path()), headers: HeaderMap::new() };
        let answer = upstream.open(&ask, HeaderMap::new()).await.and_then(answer::file);
        let response = answer.map_err(|refusal| located(&ask.url, refusal))?;
        Ok(streamed(Fetch::of(upstream.clone(), ask, response)))
    }
}

/// A body for one transfer, as it comes.
fn streamed(fetch: Fetch) -> Source {
    let size = fetch.size();
    // As in `read`, everything that touches a response does it in a tokio context, the drop included.
    let source = Source::from(Gen::new(|co| Compat::new(chunks(co, fetch))));
    match size {
        Some(size) => source.with_size(size),
        None => source,
    }
}

async fn chunks(co: Co<Bytes>, mut fetch: Fetch) -> Result<(), Refusal> {
    while let Some(chunk) = fetch.chunk().await? {
        co.yield_(chunk).await;
    }
    Ok(())
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
            .field("read_timeout", &self.settings.read_timeout)
            .field("redirects", &self.settings.redirects)
            .field("direct", &self.settings.direct)
            .finish_non_exhaustive()
    }
}
