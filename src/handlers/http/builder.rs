use std::{fmt, time::Duration};

use reqwest::header::{self, HeaderMap, HeaderName, HeaderValue};

use super::{
    Http,
    base::Base,
    tls,
    upstream::{Settings, Upstream},
};
use crate::{
    Error,
    handlers::shared::{Common, Gateway, common_settings},
};

pub(super) const PRODUCT: &str = concat!("tuffet/", env!("CARGO_PKG_VERSION"));

/// Headers that the handler itself sends, or that belong to the connection.
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

/// Settings of an [`Http`] handler; see [`Http::builder`].
///
/// ```
/// use tuffet::handlers::Http;
///
/// let mirror = Http::builder("http://mirror/netboot").cache(64 << 20).identify(true).build()?;
/// assert_eq!(mirror.cached(), 0);
/// assert!(Http::builder("ftp://mirror/").build().is_err());
/// # Ok::<(), tuffet::Error>(())
/// ```
#[must_use = "there is no handler before `build`"]
pub struct HttpBuilder {
    base: Result<Base, Error>,
    common: Common,
    redirects: usize,
    direct: bool,
    headers: HeaderMap,
    identify: bool,
}

impl HttpBuilder {
    pub(super) fn new(url: &str) -> Self {
        Self {
            base: Base::parse(url),
            common: Common::default(),
            redirects: 5,
            direct: false,
            headers: HeaderMap::from_iter([
                (header::ACCEPT_ENCODING, HeaderValue::from_static("identity")),
                (header::USER_AGENT, HeaderValue::from_static(PRODUCT)),
            ]),
            identify: false,
        }
    }

    common_settings!();

    /// How many redirects are followed, to any host, but never from https to http. Defaults to 5.
    ///
    /// ```
    /// use tuffet::handlers::Http;
    ///
    /// assert!(Http::builder("http://mirror/netboot").redirects(0).build().is_ok());
    /// ```
    pub fn redirects(mut self, most: usize) -> Self {
        self.redirects = most;
        self
    }

    /// Uses no proxy, whatever the environment says. A web server of this machine (`localhost`, `127.0.0.1`) is asked
    /// without a proxy in any case.
    ///
    /// ```
    /// use tuffet::handlers::Http;
    ///
    /// assert!(Http::builder("http://mirror/netboot").direct().build().is_ok());
    /// ```
    pub fn direct(mut self) -> Self {
        self.direct = true;
        self
    }

    /// Sends this header with each request, to any host that redirects lead to. `Authorization` and `Cookie` go only to
    /// the first host.
    ///
    /// ```
    /// use tuffet::handlers::Http;
    ///
    /// let mirror = || Http::builder("http://mirror/netboot");
    /// assert!(mirror().header("X-Site", "building 5")?.build().is_ok());
    /// assert!(mirror().header("Range", "bytes=0-9").is_err(), "the handler sends it");
    /// # Ok::<(), tuffet::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Config`] if the header is invalid, or is one that the handler itself sends, such as `Range`.
    pub fn header(mut self, name: &str, value: &str) -> Result<Self, Error> {
        let no = |why| Error::Config(format!("{name:?} is not a header to send: {why}"));
        let parsed = HeaderName::try_from(name).map_err(|_| no("that is not a name"))?;
        let value = HeaderValue::try_from(value).map_err(|_| no("its value has characters that are not allowed"))?;
        if OWN.contains(&parsed) {
            return Err(no("tuffet sets it itself"));
        }
        self.headers.insert(parsed, value);
        Ok(self)
    }

    /// Tells the upstream about the client: `X-Forwarded-For`, `X-TFTP-IP`, `X-TFTP-Port` and `X-TFTP-File` (the
    /// filename of the request). The answer is then for that client alone, unless its `Cache-Control` says `public`.
    /// Defaults to no.
    ///
    /// ```
    /// use tuffet::handlers::Http;
    ///
    /// assert!(Http::builder("http://mirror/netboot").identify(true).build().is_ok());
    /// ```
    pub fn identify(mut self, yes: bool) -> Self {
        self.identify = yes;
        self
    }

    /// Builds the handler. It loads the certificates of the system, and sends nothing yet.
    ///
    /// ```
    /// use tuffet::{Error, handlers::Http};
    ///
    /// assert!(matches!(Http::builder("http://mirror/?dir=netboot").build(), Err(Error::Config(_))));
    /// ```
    ///
    /// # Errors
    /// [`Error::Config`] if the URL is not of `http` or `https`, or has a query or a fragment, or if no HTTP client can
    /// be made for it.
    pub fn build(self) -> Result<Http, Error> {
        let Self { base, common, redirects, direct, headers, identify } = self;
        let (base, Common { gateway_settings, connect_timeout, tls }) = (base?, common);
        let tls = tls.unwrap_or_else(|| tls::system(base.is_https()));
        let settings = Settings { base, connect_timeout, redirects, direct, headers, tls };
        let upstream = Upstream::new(&settings).map_err(|why| Error::Config(format!("{}: {why}", settings.base)))?;
        Ok(Http { settings, gateway_settings, identify, gateway: Gateway::new(upstream, gateway_settings) })
    }
}

impl fmt::Debug for HttpBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let base = self.base.as_ref().map(ToString::to_string);
        f.debug_struct("HttpBuilder").field("base", &base).finish_non_exhaustive()
    }
}
