//! Files of an HTTP or HTTPS server.

mod answer;
mod base;
mod body;
mod tls;

use std::{fmt, sync::OnceLock, time::Duration};

use async_compat::Compat;
use futures_lite::future;
use reqwest::{
    Client, RequestBuilder, Response, Url,
    header::{ACCEPT_ENCODING, HeaderMap, HeaderValue},
    redirect::{Attempt, Policy},
};
use smol::Timer;

use self::base::Base;
use crate::{Error, Refusal, Request, Source, handler::Answer};

const USER_AGENT: &str = concat!("tuffet/", env!("CARGO_PKG_VERSION"));

// An idle connection keeps its buffers, so a burst of transfers should not leave many behind; a boot's requests, which
// follow each other within seconds, should find one.
const IDLE_CONNECTIONS: usize = 8;
const IDLE_TIME: Duration = Duration::from_secs(15);

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
    base: Base,
    connect_timeout: Duration,
    read_timeout: Duration,
    redirects: usize,
    direct: bool,
    tls: rustls::ClientConfig,
    client: OnceLock<Result<Client, String>>,
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
        let tls = tls::system(base.is_https());
        Ok(Self {
            base,
            connect_timeout: Duration::from_secs(5),
            read_timeout: Duration::from_secs(20),
            redirects: 5,
            direct: false,
            tls,
            client: OnceLock::new(),
        })
    }

    /// How long a connection may take to be made, name resolution and TLS included. Defaults to 5 s.
    #[must_use]
    pub fn connect_timeout(self, limit: Duration) -> Self {
        Self { connect_timeout: limit, ..self.changed() }
    }

    /// How long the server may be silent: before the head of its answer, and between any two pieces of the body. Time
    /// in which the client takes nothing does not count. Defaults to 20 s.
    #[must_use]
    pub fn read_timeout(self, limit: Duration) -> Self {
        Self { read_timeout: limit, ..self.changed() }
    }

    /// How many redirects are followed, wherever they lead, but never from https to http. Defaults to 5.
    #[must_use]
    pub fn redirects(self, most: usize) -> Self {
        Self { redirects: most, ..self.changed() }
    }

    /// Uses no proxy, whatever the environment says.
    #[must_use]
    pub fn direct(self) -> Self {
        Self { direct: true, ..self.changed() }
    }

    /// Trusts the certificates of this PEM file, too. Defaults to those of the system.
    ///
    /// # Errors
    /// [`Error::Config`] if there is no certificate in it, or one that cannot be used.
    pub fn root_certificates(self, pem: &[u8]) -> Result<Self, Error> {
        Ok(Self { tls: tls::with_roots(pem)?, ..self.changed() })
    }

    fn changed(self) -> Self {
        Self { client: OnceLock::new(), ..self }
    }

    fn client(&self) -> Result<&Client, Refusal> {
        self.client.get_or_init(|| self.build()).as_ref().map_err(|why| Refusal::internal().because(why))
    }

    fn build(&self) -> Result<Client, String> {
        let most = self.redirects;
        // reqwest's own read_timeout runs on while nobody polls the body, so a client that pauses would lose it.
        let builder = Client::builder()
            .user_agent(USER_AGENT)
            .default_headers(HeaderMap::from_iter([(ACCEPT_ENCODING, HeaderValue::from_static("identity"))]))
            .referer(false)
            .connect_timeout(self.connect_timeout)
            .redirect(Policy::custom(move |attempt| redirect(attempt, most)))
            .pool_max_idle_per_host(IDLE_CONNECTIONS)
            .pool_idle_timeout(IDLE_TIME)
            .tls_backend_preconfigured(self.tls.clone());
        let builder = if self.direct { builder.no_proxy() } else { builder };
        builder.build().map_err(|error| causes(&error))
    }

    fn get(&self, url: Url) -> Result<RequestBuilder, Refusal> {
        Ok(self.base.authorize(self.client()?.get(url)))
    }

    async fn open(&self, url: Url) -> Result<Source, Refusal> {
        let name = url.to_string();
        let response = self.send(self.get(url)?).await.map_err(|refusal| located(&name, refusal))?;
        let response = answer::file(response).map_err(|refusal| located(&name, refusal))?;
        let size = answer::size(&response);
        let source = body::source(response, self.read_timeout, name);
        Ok(match size {
            Some(size) => source.with_size(size),
            None => source,
        })
    }

    async fn send(&self, request: RequestBuilder) -> Result<Response, Refusal> {
        within(self.read_timeout, request.send()).await
    }
}

impl crate::Handler for Http {
    fn read<'a>(&'a self, request: &'a Request) -> Answer<'a, Source> {
        // reqwest lives in a tokio context; this enters one at each poll and for the drop.
        Box::pin(Compat::new(self.open(self.base.join(request.path()))))
    }

    fn describe(&self) -> String {
        self.base.to_string()
    }
}

impl fmt::Debug for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http")
            .field("base", &self.base.to_string())
            .field("connect_timeout", &self.connect_timeout)
            .field("read_timeout", &self.read_timeout)
            .field("redirects", &self.redirects)
            .field("direct", &self.direct)
            .finish_non_exhaustive()
    }
}

fn redirect(attempt: Attempt, most: usize) -> reqwest::redirect::Action {
    let (next, previous) = (attempt.url(), attempt.previous());
    let Some(last) = previous.last() else { return attempt.stop() };
    if last.scheme() == "https" && next.scheme() != "https" {
        attempt.error("redirected from https to http")
    } else if answer::is_directory(last, next) {
        attempt.stop()
    } else if previous.len() > most {
        attempt.error(format!("more than {most} redirects"))
    } else {
        attempt.follow()
    }
}

/// What this future gives, unless the upstream is silent for too long. The clock runs only while it is waited for.
async fn within<T>(limit: Duration, answer: impl Future<Output = reqwest::Result<T>>) -> Result<T, Refusal> {
    let answered = async { answer.await.map_err(|error| Refusal::upstream().because(causes(&error.without_url()))) };
    let silent = async {
        Timer::after(limit).await;
        Err(Refusal::upstream().because(format_args!("no byte for {limit:?}")))
    };
    future::or(answered, silent).await
}

/// The refusal with the URL in front of its detail.
fn located(url: &str, refusal: Refusal) -> Refusal {
    match refusal.detail().map(str::to_owned) {
        Some(detail) => refusal.because(format_args!("{url}: {detail}")),
        None => refusal.because(url),
    }
}

/// An error with all its causes: reqwest's own words leave out the one that matters.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text += ": ";
        text += &cause.to_string();
        next = cause.source();
    }
    text
}
