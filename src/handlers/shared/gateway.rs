//! From a request to a source: which answers are known, which must be asked for, and which may be shared.

use std::{sync::Arc, time::Duration};

use async_compat::Compat;

use super::{
    Facts, Upstream, UpstreamReply,
    cache::{Cache, SEGMENT},
    fetch::Fetch,
    names::{Known, Lookup, Names},
    object::{Object, Reader},
    origin::{Origin, PIECE, located},
};
use crate::{Bytes, Co, ErrorCode, Gen, Refusal, Source, source::Start};

/// Every answer is used again for this long: requests within this time count as simultaneous.
const SAME_TIME: Duration = Duration::from_secs(1);

/// How long a name's answers are remembered as not shareable.
const ALONE: Duration = Duration::from_secs(60);

#[derive(Clone, Copy)]
pub(in crate::handlers) struct GatewaySettings {
    /// The size of the cache, in bytes. Nothing is shared if it cannot hold a segment.
    pub(in crate::handlers) cache: usize,
    /// How long a missing file is remembered.
    pub(in crate::handlers) misses: Duration,
    pub(in crate::handlers) stale_if_error: bool,
    /// How long the upstream may be silent.
    pub(in crate::handlers) upstream_timeout: Duration,
}

pub(in crate::handlers) struct Gateway<U: Upstream> {
    origin: Arc<Origin<U>>,
    cache: Arc<Cache>,
    names: Names<U>,
    settings: GatewaySettings,
}

impl<U: Upstream> Gateway<U> {
    pub(in crate::handlers) fn new(upstream: U, settings: GatewaySettings) -> Self {
        let (origin, cache) =
            (Arc::new(Origin::new(upstream, settings.upstream_timeout)), Arc::new(Cache::new(settings.cache)));
        Self { origin, cache, names: Names::default(), settings }
    }

    /// The bytes in the cache.
    pub(in crate::handlers) fn cached(&self) -> usize {
        self.cache.used()
    }

    /// Forgets the answer for a file that was changed.
    #[cfg(feature = "object-store")]
    pub(in crate::handlers) fn forget(&self, ask: &U::Ask) {
        self.names.forget(&ask.to_string());
    }

    /// Opens the file, in a tokio context.
    pub(in crate::handlers) async fn open(&self, ask: U::Ask) -> Result<Source, Refusal> {
        let lookup = match self.names.name(&ask.to_string()).known().await {
            Ok(Known::Object(object)) => return Ok(shared(object.reader())),
            Ok(Known::Refused(refusal)) => return Err(refusal),
            Ok(Known::Alone) => None,
            Err(lookup) => Some(lookup),
        };
        let stale = lookup.as_ref().and_then(|lookup| lookup.stale.as_ref());
        // Ask for the whole body if the beginning is not cached. With many fetches, pieces would replace that body
        // anyway.
        let known = stale.filter(|object| object.has_beginning() || self.origin.piece().is_some());
        // A copy in memory is better than a wait for a server that restarts.
        let waits = stale.is_none() || !self.settings.stale_if_error;
        let answer = self.origin.open(&ask, known.map(|object| object.validator()), waits).await;
        match (lookup, answer) {
            (Some(lookup), Ok(answer)) => self.answered(lookup, ask, answer),
            (Some(lookup), Err(refusal)) => self.failed(lookup, U::is_personal(&ask), refusal),
            (None, Ok(UpstreamReply::File(facts, body))) => Ok(self.stream(ask, facts, body)),
            (None, Ok(UpstreamReply::Refused { refusal, .. })) => Err(located(&ask, refusal)),
            (None, Ok(UpstreamReply::Unchanged(_))) => Err(located(&ask, unasked())),
            (None, Err(refusal)) => Err(refusal),
        }
    }

    fn answered(&self, lookup: Lookup<U>, ask: U::Ask, answer: UpstreamReply<U>) -> Result<Source, Refusal> {
        let (facts, body) = match (answer, lookup.stale.clone()) {
            (UpstreamReply::File(facts, body), _) => (facts, body),
            (UpstreamReply::Unchanged(fresh), Some(object)) => {
                lookup.found(Known::Object(object.clone()), fresh.max(SAME_TIME));
                return Ok(shared(object.reader()));
            }
            (UpstreamReply::Unchanged(_), None) => return self.refused(lookup, located(&ask, unasked()), true),
            (UpstreamReply::Refused { refusal, may_share }, _) => {
                return self.refused(lookup, located(&ask, refusal), may_share);
            }
        };
        let told = facts.validator.clone().zip(facts.size);
        let Some((validator, size)) = told.filter(|_| facts.may_share && self.settings.cache >= SEGMENT) else {
            lookup.found(Known::Alone, ALONE);
            return Ok(self.stream(ask, facts, body));
        };
        let fresh = facts.fresh.max(SAME_TIME);
        let same = |object: &Arc<Object<U>>| object.size() == size && U::is_same(object.validator(), &validator);
        let object = match lookup.stale.clone().filter(same) {
            Some(object) => object,
            None => Object::new((self.origin.clone(), self.cache.clone()), ask, (validator, size, facts.gives_ranges)),
        };
        let reader = object.reader();
        object.adopt(facts, body);
        lookup.found(Known::Object(object), fresh);
        Ok(shared(reader))
    }

    fn refused(&self, lookup: Lookup<U>, refusal: Refusal, may_share: bool) -> Result<Source, Refusal> {
        match refusal.code() {
            _ if !may_share => lookup.found(Known::Alone, ALONE),
            ErrorCode::FILE_NOT_FOUND => lookup.found(Known::Refused(refusal.clone()), self.settings.misses),
            _ => lookup.refused(refusal.clone()),
        }
        Err(refusal)
    }

    /// Handles a missing or unusable answer.
    fn failed(&self, lookup: Lookup<U>, is_personal: bool, refusal: Refusal) -> Result<Source, Refusal> {
        match lookup.stale.clone().filter(|_| self.settings.stale_if_error) {
            Some(object) => {
                log::warn!("{}; the copy in memory is served", refusal.detail().unwrap_or_default());
                lookup.found(Known::Object(object.clone()), SAME_TIME);
                Ok(shared(object.reader()))
            }
            // The waiting requests ask for themselves.
            None if is_personal => Err(refusal),
            None => {
                lookup.refused(refusal.clone());
                Err(refusal)
            }
        }
    }

    /// A body for one transfer alone, as it arrives.
    fn stream(&self, ask: U::Ask, facts: Facts<U>, body: U::Body) -> Source {
        let (size, validator) = (facts.size, facts.validator.clone());
        let in_pieces = facts.gives_ranges && self.origin.piece().is_some();
        let fetch = match (facts.validator.clone(), size) {
            (Some(validator), Some(size)) if in_pieces && size > PIECE => {
                Fetch::from(self.origin.clone(), ask, validator, size, 0)
            }
            _ => Fetch::of(self.origin.clone(), ask, facts, body),
        };
        // As in a handler's `read`, all uses of a body happen in a tokio context, the drop included.
        let source = Source::from(Gen::new(|co| Compat::new(chunks(co, fetch))));
        let label = |source, validator| U::label(&validator, source);
        source.with_some(size, Source::with_size).with_some(validator, label)
    }
}

async fn chunks<U: Upstream>(co: Co<Bytes>, mut fetch: Fetch<U>) -> Result<(), Refusal> {
    while let Some(chunk) = fetch.chunk().await? {
        co.yield_(chunk).await;
    }
    Ok(())
}

/// A body that is shared with other readers.
fn shared<U: Upstream>(reader: Reader<U>) -> Source {
    let (size, object, start) = (reader.size(), reader.object(), Start::default());
    let first = start.clone();
    let source = Source::from(Gen::new(|co| Compat::new(segments(co, reader, first))));
    U::label(object.validator(), source.with_size(size).with_start(start))
}

async fn segments<U: Upstream>(co: Co<Bytes>, mut reader: Reader<U>, first: Start) -> Result<(), Refusal> {
    reader.begin_at(first.get());
    while let Some(segment) = reader.next().await? {
        co.yield_(segment).await;
    }
    Ok(())
}

fn unasked() -> Refusal {
    Refusal::upstream().because("answered 304 to a request without a condition")
}
