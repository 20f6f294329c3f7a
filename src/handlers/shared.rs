//! One fetch for all transfers of the same file, from any upstream: coalesced, cached, resumed, and bounded.
//!
//! [`Upstream`] is the interface to the origin of the files. All the rest is the same for every upstream.

mod breaker;
mod cache;
mod common;
mod fetch;
mod gateway;
mod names;
mod object;
mod origin;
mod queue;
mod renewed;

use std::{fmt, time::Duration};

pub(super) use self::{
    common::{CACHE, CONNECT_TIMEOUT, Common, UPSTREAM_TIMEOUT, answered, common_settings},
    gateway::{Gateway, GatewaySettings},
    renewed::Renewed,
};
use crate::{Bytes, Refusal, Source};

/// The origin of files, in the words of its protocol. All methods are called in a tokio context.
pub(super) trait Upstream: Sized + Send + Sync + 'static {
    /// The request to the upstream, sent as often as necessary. Its text names the file in the logs, and is equal for
    /// requests for the same file.
    type Ask: Clone + fmt::Display + Send + Sync + 'static;
    /// Tells one state of a file from another, to the byte.
    type Validator: Clone + Send + Sync + 'static;
    /// The bytes of an answer, as they arrive.
    type Body: Send + 'static;

    /// The whole file, unless its validator is still this one.
    fn open(
        &self,
        ask: &Self::Ask,
        known: Option<&Self::Validator>,
    ) -> impl Future<Output = Result<UpstreamReply<Self>, Failure>> + Send;

    /// These bytes of a file, or all from the first one on, if the file is still the same. An upstream without ranges
    /// sends all of it.
    fn part(
        &self,
        ask: &Self::Ask,
        same: (&Self::Validator, Option<u64>),
        range: (u64, Option<u64>),
    ) -> impl Future<Output = Result<Part<Self::Body>, Failure>> + Send;

    /// The next bytes; `None` at the end.
    fn chunk(&self, body: &mut Self::Body) -> impl Future<Output = Result<Option<Bytes>, Refusal>> + Send;

    /// Whether requests describe the client, so that a failure may concern this client alone.
    fn is_personal(_ask: &Self::Ask) -> bool {
        false
    }

    /// Whether both validators belong to the same state of the file.
    fn is_same(known: &Self::Validator, now: &Self::Validator) -> bool;

    /// Passes the validator on to the source.
    fn label(validator: &Self::Validator, source: Source) -> Source;
}

/// An upstream's answer about a file.
pub(super) enum UpstreamReply<U: Upstream> {
    /// The file from its beginning.
    File(Facts<U>, U::Body),
    /// The file has not changed. The answer is fresh for this time.
    Unchanged(Duration),
    /// There is no file for this client, or for any client if the answer may be shared.
    Refused { refusal: Refusal, may_share: bool },
}

/// An upstream's facts about a file that it has.
pub(super) struct Facts<U: Upstream> {
    pub(super) size: Option<u64>,
    pub(super) validator: Option<U::Validator>,
    /// Whether the answer may be shared with other clients.
    pub(super) may_share: bool,
    /// How long the answer is used without asking again.
    pub(super) fresh: Duration,
    /// Whether the upstream is known to answer with ranges.
    pub(super) gives_ranges: bool,
}

/// A part of a file.
pub(super) struct Part<B> {
    pub(super) body: B,
    /// The position of its first byte: the requested one, or 0.
    pub(super) first: u64,
    /// The position of its end, if that is not the end of the file.
    pub(super) end: Option<u64>,
}

/// Why there is no answer.
pub(super) enum Failure {
    /// No connection could be made, and other requests would fail too.
    Outage(Refusal),
    /// The same request may succeed a little later, and so may others now.
    Passing(Refusal),
    /// The upstream has too much to do, and says for how long, or does not.
    Busy(Refusal, Option<Duration>),
    /// It makes no sense to ask again.
    Final(Refusal),
}

impl Failure {
    pub(super) fn refusal(self) -> Refusal {
        match self {
            Self::Outage(refusal) | Self::Passing(refusal) | Self::Busy(refusal, _) | Self::Final(refusal) => refusal,
        }
    }
}

/// The refusal if an upstream was silent for this long.
fn silence(limit: Duration) -> Refusal {
    Refusal::upstream().because(format_args!("no byte for {limit:?}"))
}
