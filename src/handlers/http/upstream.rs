//! The server behind this one: one pool of connections, and the words for what goes wrong with it.

use std::{fmt, time::Duration};

use reqwest::{
    Client, Response, StatusCode, Url,
    header::HeaderMap,
    redirect::{Action, Attempt, Policy},
};

use super::{answer, base::Base, sharing::Sharing, validator::Validator};
use crate::{
    Bytes, Refusal,
    handlers::shared::{self, Answer, Facts, Failure, Part},
};

// An idle connection keeps its buffers, so a burst of transfers should not leave many behind; a boot's requests, which
// follow each other within seconds, should find one.
const IDLE_CONNECTIONS: usize = 8;
const IDLE_TIME: Duration = Duration::from_secs(15);

/// What is needed to reach it.
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
    client: Client,
    base: Base,
}

/// What is asked for, as often as it takes.
#[derive(Clone)]
pub(super) struct Ask {
    pub(super) url: Url,
    /// Who asks, if the upstream is told.
    pub(super) headers: HeaderMap,
}

impl Upstream {
    pub(super) fn new(settings: &Settings) -> Result<Self, String> {
        let most = settings.redirects;
        // reqwest's own read_timeout runs on while nobody polls the body, so a client that pauses would lose it.
        let builder = Client::builder()
            .default_headers(settings.headers.clone())
            .referer(false)
            // Another feature may bring HTTP/2, where bodies that are not read would share one connection.
            .http1_only()
            .connect_timeout(settings.connect_timeout)
            .redirect(Policy::custom(move |attempt| redirect(attempt, most)))
            .pool_max_idle_per_host(IDLE_CONNECTIONS)
            .pool_idle_timeout(IDLE_TIME)
            .tls_backend_preconfigured(settings.tls.clone());
        let builder = if settings.direct { builder.no_proxy() } else { builder };
        Ok(Self { client: builder.build().map_err(|error| causes(&error))?, base: settings.base.clone() })
    }

    /// The head of the answer, whatever it is.
    async fn get(&self, ask: &Ask, conditions: HeaderMap) -> Result<Response, Failure> {
        let request = self.client.get(ask.url.clone()).headers(ask.headers.clone()).headers(conditions);
        match self.base.authorize(request).send().await {
            Ok(response) if answer::is_outage(response.status()) => Err(Failure::Outage(status(&response))),
            Ok(response) => Ok(response),
            // It has answered, and leads nowhere: that says nothing of other files.
            Err(error) if error.is_redirect() || error.is_builder() => Err(Failure::Final(failed(error))),
            Err(error) => Err(Failure::Outage(failed(error))),
        }
    }
}

impl shared::Upstream for Upstream {
    type Ask = Ask;
    type Validator = Validator;
    type Body = Response;

    async fn open(&self, ask: &Ask, known: Option<&Validator>) -> Result<Answer<Self>, Failure> {
        let response = self.get(ask, known.map_or_else(HeaderMap::new, Validator::if_changed)).await?;
        let sharing = Sharing::of(response.headers(), &ask.headers);
        if response.status() == StatusCode::NOT_MODIFIED && known.is_some() {
            return Ok(Answer::Unchanged(sharing.fresh));
        }
        if answer::is_passing(response.status()) {
            return Err(Failure::Passing(status(&response)));
        }
        // What the upstream was told of who asks may be why it answered so.
        let may_share = !sharing.forbidden && (sharing.public || ask.headers.is_empty());
        Ok(match answer::file(response) {
            Err(refusal) => Answer::Refused { refusal, may_share },
            Ok(response) => {
                let facts = Facts {
                    size: answer::size(&response),
                    validator: Validator::of(response.headers()),
                    may_share,
                    fresh: sharing.fresh,
                    gives_ranges: answer::gives_ranges(&response),
                };
                Answer::File(facts, response)
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
        let is_same = validator.is_of(response.headers()) && !answer::is_encoded(&response);
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
}

impl fmt::Display for Ask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.url.fmt(f)
    }
}

fn redirect(attempt: Attempt, most: usize) -> Action {
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

fn status(response: &Response) -> Refusal {
    Refusal::upstream().because(format_args!("answered {}", response.status()))
}

fn failed(error: reqwest::Error) -> Refusal {
    Refusal::upstream().because(causes(&error.without_url()))
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
