//! The HTTP server behind the handler: its pool of connections, and the refusals for its failures.

use std::{
    fmt, io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use reqwest::{
    Client, ClientBuilder, Method, Response, StatusCode, Url,
    header::{HeaderMap, LOCATION},
    redirect::Policy,
};
use smol::Timer;

use super::{answer, base::Base, redirect, sharing::Sharing, tls, validator::Validator};
use crate::{
    Bytes, Refusal, Source,
    handlers::shared::{self, Facts, Failure, Part, Renewed, UpstreamReply},
    operator::setting,
};

// An idle connection keeps its buffers, so a burst of transfers should not leave many of them. The requests of a boot
// follow each other within seconds, and should find one.
const IDLE_CONNECTIONS: usize = 8;
const IDLE_TIME: Duration = Duration::from_secs(15);
/// The pauses before a request is sent again because its connection was closed without an answer, in milliseconds.
const PAUSES: [u64; 4] = [0, 100, 200, 400];

/// The settings of the connections to the upstream.
#[derive(Clone)]
pub(super) struct Settings {
    pub(super) base: Base,
    pub(super) connect_timeout: Duration,
    pub(super) redirects: usize,
    pub(super) direct: bool,
    pub(super) headers: HeaderMap,
    pub(super) tls: rustls::ClientConfig,
}

pub(super) struct Upstream {
    client: Renewed<Client>,
    /// Opens a new connection for each request.
    fresh: Client,
    base: Base,
    /// How many redirects were followed.
    redirected: Arc<AtomicUsize>,
}

/// The request to the upstream, sent as often as necessary.
#[derive(Clone)]
pub(super) struct Ask {
    pub(super) url: Url,
    /// The headers that describe the client, with `identify`.
    pub(super) headers: HeaderMap,
}

impl Upstream {
    pub(super) fn new(settings: &Settings) -> Result<Self, String> {
        let redirected = Arc::<AtomicUsize>::default();
        let (for_clients, counter) = (settings.clone(), redirected.clone());
        let client = move |idle| {
            let (most, redirected) = (for_clients.redirects, counter.clone());
            let policy = Policy::custom(move |attempt| {
                redirected.fetch_add(1, Relaxed);
                redirect::follow(attempt, most)
            });
            builder(&for_clients).redirect(policy).pool_max_idle_per_host(idle).build()
        };
        let fresh = client(0).map_err(|error| causes(&error))?;
        let client = Renewed::new(move || client(IDLE_CONNECTIONS)).map_err(|error| causes(&error))?;
        Ok(Self { client, fresh, base: settings.base.clone(), redirected })
    }

    /// The head of the answer, with any status.
    async fn get(&self, ask: &Ask, conditions: HeaderMap) -> Result<Response, Failure> {
        let redirected = self.redirected.load(Relaxed);
        let send = |client: &Client| {
            let request = client.get(ask.url.clone()).headers(ask.headers.clone()).headers(conditions.clone());
            self.base.authorize(request).send()
        };
        // An idle connection may have been closed while the request was on its way, and the next one may be as old. A
        // server without room for another connection closes it, and has room a moment later. A GET can be sent again
        // (RFC 9110 section 9.2.2).
        let mut answer = send(&self.client.at(Instant::now())).await;
        for pause in PAUSES {
            let is_closed = match &answer {
                Err(error) => error.is_request() && !error.is_connect(),
                // A server may answer so on a connection that it closes because of its age (RFC 9110 section 15.5.9).
                Ok(response) => response.status() == StatusCode::REQUEST_TIMEOUT,
            };
            if !is_closed {
                break;
            }
            Timer::after(Duration::from_millis(pause)).await;
            answer = send(&self.fresh).await;
        }
        let answer = answer.map_err(|error| match () {
            // The upstream has answered, with an invalid redirect. That says nothing about other files.
            () if error.is_redirect() || error.is_builder() => Failure::Final(failed(error)),
            // An upstream that redirects is alive, even if the target of the redirect is not.
            () if error.is_connect() && self.redirected.load(Relaxed) == redirected => Failure::Outage(failed(error)),
            () => Failure::Passing(failed(error)),
        })?;
        if redirect::led_inside(&ask.url, answer.url(), answer.remote_addr()) {
            return Err(Failure::Final(Refusal::upstream().because(redirect::INSIDE)));
        }
        Ok(answer)
    }
}

/// The answer of the base itself, in a few words. Redirects are reported, not followed.
pub(super) async fn ask_base(settings: &Settings) -> Result<String, Refusal> {
    let client = builder(settings).redirect(Policy::none()).build();
    let client = client.map_err(|error| Refusal::upstream().because(causes(&error)))?;
    let base = &settings.base;
    let ask = |method| base.authorize(client.request(method, base.to_string())).send();
    let mut response = ask(Method::HEAD).await.map_err(failed)?;
    // Some servers lack HEAD. The body of a GET is not read.
    if matches!(response.status(), StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED) {
        response = ask(Method::GET).await.map_err(failed)?;
    }
    let (status, location) = (response.status(), response.headers().get(LOCATION));
    let to = location.and_then(|to| response.url().join(to.to_str().ok()?).ok());
    match to.filter(|_| status.is_redirection()) {
        _ if answer::is_passing(status) => Err(self::status(&response)),
        Some(to) => Ok(format!("answered {status} to {to}")),
        None => Ok(format!("answered {status}")),
    }
}

pub(super) fn builder(settings: &Settings) -> ClientBuilder {
    // reqwest's own read_timeout continues while nobody polls the body, so a client that pauses would lose its
    // transfer.
    let builder = Client::builder()
        .default_headers(settings.headers.clone())
        .referer(false)
        // Another feature may enable HTTP/2, where unread bodies would share one connection.
        .http1_only()
        // Small servers of devices look for `Range` and `Host` in this spelling.
        .http1_title_case_headers()
        // Some of them send heads that RFC 9112 section 5 lets a client mend or skip, as curl does.
        .http1_allow_spaces_after_header_name_in_responses(true)
        .http1_allow_obsolete_multiline_headers_in_responses(true)
        .http1_ignore_invalid_headers_in_responses(true)
        .connect_timeout(settings.connect_timeout)
        .pool_idle_timeout(IDLE_TIME)
        .tls_backend_preconfigured(settings.tls.clone());
    // A machine that was switched off does not close its kept connections. A request on one of them is sent again on a
    // new connection after this time.
    #[cfg(target_os = "linux")]
    let builder = builder.tcp_user_timeout(settings.connect_timeout);
    // A proxy elsewhere cannot reach this machine by a name such as `localhost`.
    let is_direct = settings.direct || redirect::is_inside(&settings.base.join(b""));
    if is_direct { builder.no_proxy() } else { builder }
}

impl shared::Upstream for Upstream {
    type Ask = Ask;
    type Validator = Validator;
    type Body = Response;

    async fn open(&self, ask: &Ask, known: Option<&Validator>) -> Result<UpstreamReply<Self>, Failure> {
        let conditions = known.map_or_else(HeaderMap::new, Validator::if_changed);
        let mut response = self.get(ask, conditions).await?;
        if let Some(pause) = answer::busy(&response) {
            return Err(Failure::Busy(status(&response), pause));
        }
        // The answers to a question for the first byte, which an empty file does not have.
        if matches!(response.status(), StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE) {
            if let Some(known) = known {
                if response.status() == StatusCode::PARTIAL_CONTENT && known.is_of(response.headers()) {
                    let fresh = Sharing::of(response.headers(), &ask.headers).fresh;
                    // A connection whose body was read can be used again.
                    _ = response.chunk().await;
                    return Ok(UpstreamReply::Unchanged(fresh));
                }
                response = self.get(ask, HeaderMap::new()).await?;
            }
        }
        let sharing = Sharing::of(response.headers(), &ask.headers);
        if response.status() == StatusCode::NOT_MODIFIED && known.is_some() {
            return Ok(UpstreamReply::Unchanged(sharing.fresh));
        }
        if answer::is_passing(response.status()) {
            return Err(Failure::Passing(status(&response)));
        }
        // The answer may depend on the headers that describe the client.
        let may_share = !sharing.forbidden && (sharing.public || ask.headers.is_empty());
        Ok(match answer::file(response) {
            Err(refusal) => UpstreamReply::Refused { refusal, may_share },
            Ok(response) => {
                let facts = Facts {
                    size: answer::size(&response),
                    validator: Validator::of(response.headers()),
                    may_share,
                    fresh: sharing.fresh,
                    gives_ranges: answer::gives_ranges(&response),
                };
                UpstreamReply::File(facts, response)
            }
        })
    }

    async fn part(
        &self,
        ask: &Ask,
        (validator, size): (&Validator, Option<u64>),
        (first, end): (u64, Option<u64>),
    ) -> Result<Part<Response>, Failure> {
        let response = self.get(ask, validator.part(first, end)).await?;
        let is_same = validator.is_of(response.headers());
        if let Err(refusal) = answer::is_decoded(&response) {
            return Err(Failure::Final(refusal));
        }
        let part = answer::end_of_part(&response, first, size).filter(|_| is_same);
        match response.status() {
            StatusCode::PARTIAL_CONTENT if part.is_some() => Ok(Part { body: response, first, end: part }),
            StatusCode::OK if is_same && (size.is_none() || size == answer::size(&response)) => {
                Ok(Part { body: response, first: 0, end: None })
            }
            StatusCode::OK | StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE => {
                Err(Failure::Final(Refusal::upstream().because("the file changed upstream")))
            }
            code if answer::is_passing(code) => Err(Failure::Passing(status(&response))),
            code => Err(Failure::Final(Refusal::upstream().because(format_args!("the file is gone, answered {code}")))),
        }
    }

    fn is_personal(ask: &Ask) -> bool {
        !ask.headers.is_empty()
    }

    async fn chunk(&self, response: &mut Response) -> Result<Option<Bytes>, Refusal> {
        response.chunk().await.map_err(failed)
    }

    fn is_same(known: &Validator, now: &Validator) -> bool {
        known.is_same(now)
    }

    fn label(validator: &Validator, source: Source) -> Source {
        validator.label(source)
    }
}

impl fmt::Display for Ask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.url.fmt(f)
    }
}

fn status(response: &Response) -> Refusal {
    Refusal::upstream().because(format_args!("answered {}", response.status()))
}

fn failed(error: reqwest::Error) -> Refusal {
    Refusal::upstream().because(explained(&error.without_url()))
}

/// The causes of a failure, and what helps where their own texts do not say it.
fn explained(error: &(dyn std::error::Error + 'static)) -> String {
    let mut causes_of = std::iter::successors(Some(error), |error| error.source());
    causes(error) + causes_of.find_map(advice).unwrap_or_default()
}

fn advice(error: &(dyn std::error::Error + 'static)) -> Option<&'static str> {
    if let Some(error) = error.downcast_ref::<io::Error>() {
        if error.kind() == io::ErrorKind::PermissionDenied {
            return Some("; the sandbox of this program, or a firewall of this machine, forbids the connection");
        }
        // The `source` of an I/O error leaves out the error that it wraps.
        return advice(error.get_ref()?);
    }
    // Only the texts of the HTTP library's errors differ.
    if error.to_string() == "invalid HTTP version parsed" {
        return Some("; does it speak HTTP at this port, or is it https?");
    }
    match error.downcast_ref()? {
        rustls::Error::InvalidMessage(_) => Some("; does it speak TLS at this port, or is it http?"),
        error if tls::is_of_unknown_authority(error) => {
            Some(setting("; `root_certificates` trusts more certificates", "; `--ca FILE` trusts more certificates"))
        }
        error if tls::is_of_another_time(error) => Some("; is the clock of this machine right?"),
        _ => None,
    }
}

/// An error with all its causes, because reqwest's own text leaves out the one that matters.
pub(super) fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text += ": ";
        text += &cause.to_string();
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Outer(io::Error);

    impl fmt::Display for Outer {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("cannot connect")
        }
    }

    impl std::error::Error for Outer {
        fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
            Some(&self.0)
        }
    }

    #[test]
    fn a_forbidden_connection_is_explained() {
        let explained = |kind: io::ErrorKind| explained(&Outer(kind.into()));
        let denied = explained(io::ErrorKind::PermissionDenied);
        assert!(denied.starts_with("cannot connect: permission denied; the sandbox"), "{denied}");
        assert_eq!(explained(io::ErrorKind::ConnectionRefused), "cannot connect: connection refused");
    }

    #[test]
    fn a_certificate_of_another_time_is_explained() {
        use rustls::CertificateError::{Expired, NotValidForName, NotValidYet};
        for (why, is_of_time) in [(Expired, true), (NotValidYet, true), (NotValidForName, false)] {
            let error = io::Error::other(rustls::Error::InvalidCertificate(why));
            assert_eq!(explained(&Outer(error)).ends_with("; is the clock of this machine right?"), is_of_time);
        }
    }
}
