//! Reports of records to a web server, by POST.

use std::{fmt, time::Duration};

use async_compat::Compat;
use reqwest::{
    Client, Url,
    header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, USER_AGENT},
    redirect::Policy,
};

use super::{
    answer::is_passing,
    base::Base,
    builder::PRODUCT,
    tls,
    upstream::{self, Settings, causes},
};
use crate::{Error, shown::without_password, within::within};

/// The time limit for an answer, connection included.
const ANSWER: Duration = Duration::from_secs(20);

/// A URL that gets records by POST, in JSON.
///
/// ```
/// use tuffet::stats::Webhook;
///
/// let webhook = Webhook::url("https://user:password@hooks.example/tftp?token=7")?;
/// assert_eq!(webhook.to_string(), "https://hooks.example/tftp");
/// # Ok::<(), tuffet::Error>(())
/// ```
pub struct Webhook {
    client: Client,
    base: Base,
    url: Url,
}

/// Why a [`Webhook`] did not take a record.
///
/// ```
/// # #[cfg(feature = "web")] {
/// use tuffet::{Server, read, stats::Webhook};
///
/// let upstream = Server::builder().listen("127.0.0.1:0").http("127.0.0.1:0").handler(read(|_| "hello\n")).bind()?;
/// let address = upstream.http_addrs()[0];
/// let _running = upstream.spawn()?;
/// // This server has files, and takes no POST.
/// let webhook = Webhook::url(&format!("http://{address}/"))?;
/// let refused = smol::block_on(webhook.post("end", "{}".into())).unwrap_err();
/// assert!(!refused.is_passing, "{refused}");
/// # }
/// # Ok::<(), tuffet::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NotTaken {
    /// Whether a later try may succeed: no answer, or a status of 408, 429 or 500 to 599.
    pub is_passing: bool,
    why: String,
}

impl Webhook {
    /// A webhook at this `http` or `https` URL. A user and a password in it are sent as basic authentication, and never
    /// appear in logs. Redirects are not followed. The proxies of the environment are used.
    ///
    /// ```
    /// assert!(tuffet::stats::Webhook::url("ftp://hooks.example/").is_err());
    /// ```
    ///
    /// # Errors
    /// [`Error::Config`] if this is not such a URL.
    pub fn url(url: &str) -> Result<Self, Error> {
        // Redirects are not followed, so one with http needs no certificates.
        Self::new(url, |is_https| Ok(if is_https { tls::system(true) } else { tls::none() }))
    }

    /// As [`url`](Self::url), and also trusts the certificates of this PEM file.
    ///
    /// ```
    /// let url = "https://hooks.example/tftp";
    /// assert!(tuffet::stats::Webhook::with_certificates(url, b"no certificate").is_err());
    /// ```
    ///
    /// # Errors
    /// Also if the file has no certificate, or one that cannot be used.
    pub fn with_certificates(url: &str, pem: &[u8]) -> Result<Self, Error> {
        Self::new(url, |_| tls::with_roots(pem))
    }

    fn new(text: &str, tls: impl FnOnce(bool) -> Result<rustls::ClientConfig, Error>) -> Result<Self, Error> {
        let no =
            |why: &dyn fmt::Display| Error::Config(format!("{:?} is not a webhook: {why}", without_password(text)));
        let (whole, _) = text.split_once('#').unwrap_or((text, ""));
        let (path, query) = whole.split_once('?').map_or((whole, None), |(path, query)| (path, Some(query)));
        let base = Base::parse(path)?;
        let mut url = Url::parse(whole).map_err(|error| no(&error))?;
        // User and password go into a header of their own.
        if url.set_username("").is_err() || url.set_password(None).is_err() {
            return Err(no(&"it has no host"));
        }
        url.set_query(query);
        let settings = Settings {
            connect_timeout: super::Http::CONNECT_TIMEOUT,
            redirects: 0,
            direct: false,
            headers: HeaderMap::from_iter([(USER_AGENT, HeaderValue::from_static(PRODUCT))]),
            tls: tls(base.is_https())?,
            base: base.clone(),
        };
        let client = upstream::builder(&settings).redirect(Policy::none()).build();
        Ok(Self { client: client.map_err(|error| no(&causes(&error)))?, base, url })
    }

    /// Sends this record, once, with the event in the header `X-Tuffet-Event`. It waits 20 s for an answer.
    ///
    /// ```
    /// # #[cfg(feature = "web")] {
    /// use std::net::TcpListener;
    /// use tuffet::stats::Webhook;
    ///
    /// let closed = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    /// let webhook = Webhook::url(&format!("http://{closed}/tftp"))?;
    /// let nobody = smol::block_on(webhook.post("end", "{}".into())).unwrap_err();
    /// assert!(nobody.is_passing, "a later try may succeed");
    /// # }
    /// # Ok::<(), tuffet::Error>(())
    /// ```
    ///
    /// # Errors
    /// If the answer is not a status of 200 to 299, or does not come.
    pub async fn post(&self, event: &'static str, json: String) -> Result<(), NotTaken> {
        // reqwest needs a tokio context.
        let answer = within(ANSWER, Compat::new(self.send(event, json))).await;
        answer.unwrap_or_else(|| Err(NotTaken { is_passing: true, why: format!("no answer for {ANSWER:?}") }))
    }

    async fn send(&self, event: &'static str, json: String) -> Result<(), NotTaken> {
        let request = self.client.post(self.url.clone()).body(json);
        let request = request.header(CONTENT_TYPE, "application/json");
        let request = request.header(HeaderName::from_static("x-tuffet-event"), event);
        let answer = self.base.authorize(request).send().await;
        match answer.map(|response| response.status()) {
            Ok(status) if status.is_success() => Ok(()),
            Ok(status) => Err(NotTaken { is_passing: is_passing(status), why: format!("answered {status}") }),
            Err(error) => Err(NotTaken { is_passing: !error.is_builder(), why: causes(&error.without_url()) }),
        }
    }
}

/// Shows the URL without user and query: both may be secrets.
impl fmt::Display for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut url = self.url.clone();
        url.set_query(None);
        url.fmt(f)
    }
}

impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Webhook").field(&self.to_string()).finish()
    }
}

impl fmt::Display for NotTaken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

impl std::error::Error for NotTaken {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_shown() {
        let webhook = Webhook::url("http://u:secret@h:81/a/b?token=secret#x").unwrap();
        assert_eq!(format!("{webhook} {webhook:?}"), "http://h:81/a/b Webhook(\"http://h:81/a/b\")");
        assert_eq!(webhook.url.as_str(), "http://h:81/a/b?token=secret");
        for wrong in ["ftp://u:secret@h/", "http://", "h", "u:secret@h/x?y"] {
            let error = Webhook::url(wrong).unwrap_err().to_string();
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
