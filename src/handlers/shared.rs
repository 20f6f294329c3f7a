//! One fetch for all who want the same file, whatever it comes from: coalesced, cached, resumed, and bounded.
//!
//! What it comes from is an [`Upstream`]. Everything else is the same for all of them.

mod breaker;
mod cache;
mod common;
mod fetch;
mod gateway;
mod names;
mod object;
mod origin;

use std::{fmt, time::Duration};

pub(super) use self::{
    common::{CACHE, CONNECT_TIMEOUT, Common, UPSTREAM_TIMEOUT, answered, common_settings},
    gateway::{Gateway, Rules},
};
use crate::{Bytes, Refusal, Source};

/// Where files come from, in the words of its protocol. All of it is called in a tokio context.
pub(super) trait Upstream: Sized + Send + Sync + 'static {
    /// What is asked for, as often as it takes. Its text is the file's name in the logs, and is the same for those who
    /// ask for the same file.
    type Ask: Clone + fmt::Display + Send + Sync + 'static;
    /// What tells one state of a file from another, to the byte.
    type Validator: Clone + Send + Sync + 'static;
    /// The bytes of an answer, as they come.
    type Body: Send + 'static;

    /// The whole file, unless it is still the one that has this validator.
    fn open(
        &self,
        ask: &Self::Ask,
        known: Option<&Self::Validator>,
    ) -> impl Future<Output = Result<Answer<Self>, Failure>> + Send;

    /// These bytes of a file, or all from there on, if it is still the same. All of it, where there is no other way.
    fn part(
        &self,
        ask: &Self::Ask,
        same: (&Self::Validator, Option<u64>),
        range: (u64, Option<u64>),
    ) -> impl Future<Output = Result<Part<Self::Body>, Failure>> + Send;

    /// The next bytes; `None` at the end.
    fn chunk(&self, body: &mut Self::Body) -> impl Future<Output = Result<Option<Bytes>, Refusal>> + Send;

    /// Whether the upstream is told who asks, so that what goes wrong may go wrong for this one alone.
    fn is_personal(_ask: &Self::Ask) -> bool {
        false
    }

    /// Whether a file that has this validator is the one that had the other.
    fn is_same(known: &Self::Validator, now: &Self::Validator) -> bool;

    /// Passes on what the validator says.
    fn label(validator: &Self::Validator, source: Source) -> Source;
}

/// What an upstream says of a file.
pub(super) enum Answer<U: Upstream> {
    /// The file from its beginning.
    File(Facts<U>, U::Body),
    /// It is as it was, for so long.
    Unchanged(Duration),
    /// There is no file for this one who asked, or for anyone if that may be shared.
    Refused { refusal: Refusal, may_share: bool },
}

/// What an upstream says of a file that it has.
pub(super) struct Facts<U: Upstream> {
    pub(super) size: Option<u64>,
    pub(super) validator: Option<U::Validator>,
    /// Whether others may have the same.
    pub(super) may_share: bool,
    /// How long it need not be asked about again.
    pub(super) fresh: Duration,
    /// Whether it is known that parts of it can be had.
    pub(super) gives_ranges: bool,
}

/// A part of a file.
pub(super) struct Part<B> {
    pub(super) body: B,
    /// Where it begins: where it should, or at the beginning of the file.
    pub(super) first: u64,
    /// Where it ends, if not with the file.
    pub(super) end: Option<u64>,
}

/// Why there is no answer.
pub(super) enum Failure {
    /// No connection could be made, and whatever is asked would fare the same.
    Outage(Refusal),
    /// The same may well succeed a little later, and so may anything else now.
    Passing(Refusal),
    /// It makes no sense to ask again.
    Final(Refusal),
}

impl Failure {
    pub(super) fn refusal(self) -> Refusal {
        match self {
            Self::Outage(refusal) | Self::Passing(refusal) | Self::Final(refusal) => refusal,
        }
    }
}
