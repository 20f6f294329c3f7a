//! The server behind this one: one pool of connections, and the words for what goes wrong with it.

use std::{
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::Duration,
};

use futures_lite::future;
use reqwest::{
    Client, Response, Url,
    header::HeaderMap,
    redirect::{Action, Attempt, Policy},
};
use smol::Timer;

use super::{answer, base::Base, breaker::Breaker};
use crate::Refusal;

// An idle connection keeps its buffers, so a burst of transfers should not leave many behind; a boot's requests, which
// follow each other within seconds, should find one.
const IDLE_CONNECTIONS: usize = 8;
const IDLE_TIME: Duration = Duration::from_secs(15);

/// With more fetches than this at once, each asks for a piece at a time.
const FEW: usize = 16;

/// What is needed to reach it.
#[derive(Clone)]
pub(super) struct Settings {
    pub(super) base: Base,
    pub(super) connect_timeout: Duration,
    pub(super) read_timeout: Duration,
    pub(super) redirects: usize,
    pub(super) direct: bool,
    pub(super) headers: HeaderMap,
    pub(super) tls: rustls::ClientConfig,
}

pub(super) struct Upstream {
    client: Client,
    base: Base,
    read_timeout: Duration,
    breaker: Breaker,
    fetches: AtomicUsize,
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
            .connect_timeout(settings.connect_timeout)
            .redirect(Policy::custom(move |attempt| redirect(attempt, most)))
            .pool_max_idle_per_host(IDLE_CONNECTIONS)
            .pool_idle_timeout(IDLE_TIME)
            .tls_backend_preconfigured(settings.tls.clone());
        let builder = if settings.direct { builder.no_proxy() } else { builder };
        Ok(Self {
            client: builder.build().map_err(|error| causes(&error))?,
            base: settings.base.clone(),
            read_timeout: settings.read_timeout,
            breaker: Breaker::default(),
            fetches: AtomicUsize::new(0),
        })
    }

    /// The head of the answer for a transfer that begins; refused at once while the upstream is known to be dead.
    pub(super) async fn open(&self, ask: &Ask, conditions: HeaderMap) -> Result<Response, Refusal> {
        self.breaker.check()?;
        self.get(ask, conditions).await
    }

    /// The head of the answer, whatever it is.
    pub(super) async fn get(&self, ask: &Ask, conditions: HeaderMap) -> Result<Response, Refusal> {
        let request = self.client.get(ask.url.clone()).headers(ask.headers.clone()).headers(conditions);
        let answer = self.within(self.base.authorize(request).send()).await;
        self.breaker.report(answer.as_ref().is_ok_and(|response| !answer::is_outage(response.status())));
        answer
    }

    /// The next piece of a body.
    pub(super) async fn chunk(&self, response: &mut Response) -> Result<Option<crate::Bytes>, Refusal> {
        self.within(response.chunk()).await
    }

    pub(super) fn begun(&self) {
        self.fetches.fetch_add(1, Relaxed);
    }

    pub(super) fn ended(&self) {
        self.fetches.fetch_sub(1, Relaxed);
    }

    /// Whether there are many fetches at once.
    pub(super) fn is_crowded(&self) -> bool {
        self.fetches.load(Relaxed) > FEW
    }

    /// What this future gives, unless the upstream is silent for too long. The clock runs only while it is waited for.
    async fn within<T>(&self, answer: impl Future<Output = reqwest::Result<T>>) -> Result<T, Refusal> {
        let limit = self.read_timeout;
        let answered =
            async { answer.await.map_err(|error| Refusal::upstream().because(causes(&error.without_url()))) };
        let silent = async {
            Timer::after(limit).await;
            Err(Refusal::upstream().because(format_args!("no byte for {limit:?}")))
        };
        future::or(answered, silent).await
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

/// The refusal with the URL in front of its detail.
pub(super) fn located(url: &Url, refusal: Refusal) -> Refusal {
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
