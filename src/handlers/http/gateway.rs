//! From a request to a source: what is known already, what has to be asked, and who may share the answer.

use std::{sync::Arc, time::Duration};

use async_compat::Compat;
use genawaiter::rc::{Co, Gen};
use reqwest::{Response, StatusCode, header::HeaderMap};

use super::{
    answer,
    cache::{Cache, SEGMENT},
    fetch::Fetch,
    names::{Known, Names, Turn},
    object::{Object, Reader},
    sharing::Sharing,
    upstream::{Ask, Upstream, located},
    validator::Validator,
};
use crate::{Bytes, ErrorCode, Refusal, Source};

/// An answer is used again for this long whatever it says: those who ask within it asked at the same time.
const SAME_TIME: Duration = Duration::from_secs(1);

/// How long it is remembered that a name's answers may not be shared.
const ALONE: Duration = Duration::from_secs(60);

#[derive(Clone, Copy)]
pub(super) struct Rules {
    /// Bytes of the cache; nothing is shared if it cannot hold a segment.
    pub(super) cache: usize,
    /// How long it is remembered that there is no such file.
    pub(super) misses: Duration,
    pub(super) identify: bool,
    pub(super) stale_if_error: bool,
}

pub(super) struct Gateway {
    upstream: Arc<Upstream>,
    cache: Arc<Cache>,
    names: Names,
    rules: Rules,
}

impl Gateway {
    pub(super) fn new(upstream: Upstream, rules: Rules) -> Self {
        let cache = Arc::new(Cache::new(rules.cache));
        Self { upstream: Arc::new(upstream), cache, names: Names::default(), rules }
    }

    /// Bytes in the cache.
    pub(super) fn cached(&self) -> usize {
        self.cache.used()
    }

    pub(super) async fn open(&self, ask: Ask) -> Result<Source, Refusal> {
        let turn = match self.names.name(&ask.url).known().await {
            Ok(Known::Object(object)) => return Ok(shared(object.reader())),
            Ok(Known::Refused(refusal)) => return Err(refusal),
            Ok(Known::Alone) => None,
            Err(turn) => Some(turn),
        };
        let stale = turn.as_ref().and_then(|turn| turn.stale.as_ref());
        // The body is wanted if its beginning is not there, but in a crowd it would be left for pieces of it.
        let conditions = stale.filter(|object| object.has_beginning() || self.upstream.is_crowded());
        let conditions = conditions.map_or_else(HeaderMap::new, |object| object.validator().if_changed());
        let answer = self.upstream.open(&ask, conditions).await.map_err(|refusal| located(&ask.url, refusal));
        match (turn, answer) {
            (Some(turn), Ok(response)) => self.answered(turn, ask, response),
            (Some(turn), Err(refusal)) => self.failed(turn, refusal),
            (None, Ok(response)) => self.stream(ask, response),
            (None, Err(refusal)) => Err(refusal),
        }
    }

    fn answered(&self, turn: Turn, ask: Ask, response: Response) -> Result<Source, Refusal> {
        let sharing = Sharing::of(response.headers());
        let fresh = sharing.fresh.max(SAME_TIME);
        if response.status() == StatusCode::NOT_MODIFIED
            && let Some(object) = turn.stale.clone()
        {
            turn.found(Known::Object(object.clone()), fresh);
            return Ok(shared(object.reader()));
        }
        let is_failure = answer::is_passing(response.status());
        let may_share = !sharing.forbidden && (sharing.public || !self.rules.identify);
        let response = match answer::file(response) {
            Ok(response) => response,
            Err(refusal) => {
                let refusal = located(&ask.url, refusal);
                match refusal.code() {
                    _ if is_failure => return self.failed(turn, refusal),
                    _ if !may_share => turn.found(Known::Alone, ALONE),
                    ErrorCode::FILE_NOT_FOUND => turn.found(Known::Refused(refusal.clone()), self.rules.misses),
                    _ => turn.refused(refusal.clone()),
                }
                return Err(refusal);
            }
        };
        let facts = Validator::of(response.headers()).zip(answer::size(&response));
        let Some((validator, size)) = facts.filter(|_| may_share && self.rules.cache >= SEGMENT) else {
            turn.found(Known::Alone, ALONE);
            return self.stream(ask, response);
        };
        let same = |object: &Arc<Object>| object.size() == size && object.validator().is_of(response.headers());
        let object = turn
            .stale
            .clone()
            .filter(same)
            .unwrap_or_else(|| Object::new((self.upstream.clone(), self.cache.clone()), ask, (validator, size)));
        let reader = object.reader();
        object.adopt(response);
        turn.found(Known::Object(object), fresh);
        Ok(shared(reader))
    }

    /// No answer, or one that is no answer.
    fn failed(&self, turn: Turn, refusal: Refusal) -> Result<Source, Refusal> {
        match turn.stale.clone().filter(|_| self.rules.stale_if_error) {
            Some(object) => {
                log::warn!("{}; what was had before is served", refusal.detail().unwrap_or_default());
                turn.found(Known::Object(object.clone()), SAME_TIME);
                Ok(shared(object.reader()))
            }
            None => {
                turn.refused(refusal.clone());
                Err(refusal)
            }
        }
    }

    /// A body for one transfer, as it comes.
    fn stream(&self, ask: Ask, response: Response) -> Result<Source, Refusal> {
        let url = ask.url.clone();
        let response = answer::file(response).map_err(|refusal| located(&url, refusal))?;
        let fetch = Fetch::of(self.upstream.clone(), ask, response);
        let size = fetch.size();
        // As in `read`, everything that touches a response does it in a tokio context, the drop included.
        let source = Source::from(Gen::new(|co| Compat::new(chunks(co, fetch))));
        Ok(match size {
            Some(size) => source.with_size(size),
            None => source,
        })
    }
}

async fn chunks(co: Co<Bytes>, mut fetch: Fetch) -> Result<(), Refusal> {
    while let Some(chunk) = fetch.chunk().await? {
        co.yield_(chunk).await;
    }
    Ok(())
}

/// A body that others may read too.
fn shared(reader: Reader) -> Source {
    let size = reader.size();
    Source::from(Gen::new(|co| Compat::new(segments(co, reader)))).with_size(size)
}

async fn segments(co: Co<Bytes>, mut reader: Reader) -> Result<(), Refusal> {
    while let Some(segment) = reader.next().await? {
        co.yield_(segment).await;
    }
    Ok(())
}
