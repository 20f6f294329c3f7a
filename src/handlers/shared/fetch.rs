//! A fetch of one file, which resumes where the last connection broke.

use std::{sync::Arc, time::Duration};

use bytes::Buf;
use futures_lite::future;
use smol::Timer;

use super::{
    Facts, Failure, Upstream, UpstreamReply,
    origin::{Origin, located},
};
use crate::{Bytes, Refusal};

/// Tries without a byte of progress before the fetch fails, after half a minute: no client waits for longer.
const TRIES: u32 = 10;
/// The size of the pieces of a file while there are few fetches. A fetch that is alone in its file asks for all of its
/// part at once, because each piece costs a round trip to the upstream.
const LARGE_PIECE: u64 = 256 << 10;

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// How long a partial segment waits for its rest, so that a slow upstream still gives a steady stream.
const TRICKLE: Duration = Duration::from_millis(100);

pub(super) struct Fetch<U: Upstream> {
    origin: Arc<Origin<U>>,
    ask: U::Ask,
    validator: Option<U::Validator>,
    size: Option<u64>,
    /// The position of the next byte in the file.
    position: u64,
    /// Whether the file is requested in pieces even if there are few fetches, and the position where they end.
    in_pieces: bool,
    until: u64,
    /// The position where a large piece ends, if the file has no other fetch.
    alone_until: Option<u64>,
    /// None before the first answer, and after a break.
    body: Option<U::Body>,
    /// The position where this answer ends, if it is not the end of the file.
    end: Option<u64>,
    /// How many bytes of this answer are known already and are skipped.
    skip: u64,
    /// Bytes that have arrived and did not fit into the last segment.
    rest: Bytes,
    failures: u32,
    /// The result, once the fetch has ended.
    over: Option<Result<(), Refusal>>,
}

impl<U: Upstream> Fetch<U> {
    /// A fetch from the body of this answer, which is the whole file.
    pub(super) fn of(origin: Arc<Origin<U>>, ask: U::Ask, facts: Facts<U>, body: U::Body) -> Self {
        let mut fetch = Self::new(origin, ask, facts.validator, facts.size, 0);
        fetch.body = Some(body);
        fetch
    }

    /// A fetch of the same file from a later position, in pieces.
    pub(super) fn from(origin: Arc<Origin<U>>, ask: U::Ask, validator: U::Validator, size: u64, position: u64) -> Self {
        let mut fetch = Self::new(origin, ask, Some(validator), Some(size), position);
        fetch.in_pieces = true;
        fetch
    }

    fn new(
        origin: Arc<Origin<U>>,
        ask: U::Ask,
        validator: Option<U::Validator>,
        size: Option<u64>,
        position: u64,
    ) -> Self {
        origin.begun();
        Self {
            origin,
            ask,
            validator,
            size,
            position,
            in_pieces: false,
            until: u64::MAX,
            alone_until: None,
            body: None,
            end: None,
            skip: 0,
            rest: Bytes::new(),
            failures: 0,
            over: None,
        }
    }

    /// Ends all further pieces at this position. If the fetch is alone, the next piece goes to the other position.
    pub(super) fn until(&mut self, position: u64, alone: Option<u64>) {
        (self.until, self.alone_until) = (position, alone);
    }

    /// The next bytes, of any length. The future can be dropped without a loss.
    pub(super) async fn chunk(&mut self) -> Result<Option<Bytes>, Refusal> {
        while self.over.is_none() {
            match self.try_chunk().await {
                Ok(Some(chunk)) => {
                    self.failures = 0;
                    self.position += chunk.len() as u64;
                    return Ok(Some(chunk));
                }
                Ok(None) => self.over = Some(Ok(())),
                Err(Failure::Final(refusal)) => self.over = Some(Err(located(&self.ask, refusal))),
                Err(failure) => self.broke(located(&self.ask, failure.refusal())),
            }
        }
        self.over.clone().unwrap_or(Ok(())).map(|()| None)
    }

    fn broke(&mut self, refusal: Refusal) {
        self.body = None;
        self.failures += 1;
        if self.size == Some(self.position) {
            self.over = Some(Ok(()));
        } else if !self.can_resume() || self.failures > TRIES {
            self.over = Some(Err(refusal));
        } else {
            log::warn!("{}; resuming at byte {}", refusal.detail().unwrap_or_default(), self.position);
        }
    }

    /// Whether the rest is of the same file: by its validator, or because nothing of it was delivered. The latter
    /// counts once: a server may close an old connection just after the head of its answer.
    fn can_resume(&self) -> bool {
        self.validator.is_some() || (self.position == 0 && self.failures == 1)
    }

    /// The next bytes, at most this many, copied, because chunks are slices of a large buffer of the connection.
    pub(super) async fn segment(&mut self, most: usize) -> Result<Option<Bytes>, Refusal> {
        if self.rest.is_empty() {
            let Some(chunk) = self.chunk().await? else { return Ok(None) };
            self.rest = chunk;
        }
        let mut segment = Vec::with_capacity(most);
        let mut patience = Timer::after(TRICKLE);
        loop {
            let fitting = self.rest.split_to(self.rest.len().min(most - segment.len()));
            segment.extend_from_slice(&fitting);
            if segment.len() == most {
                break;
            }
            let late = async {
                (&mut patience).await;
                Ok(None)
            };
            match future::or(self.chunk(), late).await {
                Ok(Some(chunk)) => self.rest = chunk,
                // A failure is returned again, after the bytes before it.
                Ok(None) | Err(_) => break,
            }
        }
        Ok(Some(segment.into()))
    }

    async fn try_chunk(&mut self) -> Result<Option<Bytes>, Failure> {
        loop {
            if self.body.is_none() {
                self.body = Some(self.ask().await?);
            }
            while let Some(body) = &mut self.body {
                let Some(mut chunk) = self.origin.chunk(body).await.map_err(Failure::Passing)? else { break };
                let had = self.skip.min(chunk.len() as u64);
                self.skip -= had;
                chunk.advance(had as usize);
                let end = self.end.or(self.size).unwrap_or(u64::MAX);
                if chunk.len() as u64 > end.saturating_sub(self.position) {
                    return Err(Failure::Final(Refusal::upstream().because("the body is too long")));
                }
                if !chunk.is_empty() {
                    return Ok(Some(chunk));
                }
            }
            match self.size {
                Some(size) if self.position >= size => return Ok(None),
                None if self.end.is_none() => return Ok(None),
                _ if self.end == Some(self.position) => self.body = None,
                _ => return Err(passing("the body is too short")),
            }
        }
    }

    /// Asks for the rest of the file, or for all of it if the server gives no ranges.
    async fn ask(&mut self) -> Result<U::Body, Failure> {
        if self.failures > 0 {
            Timer::after(pause(self.failures)).await;
        }
        let Some(validator) = &self.validator else { return self.begin_again().await };
        let piece = self.origin.piece().or(self.in_pieces.then_some(LARGE_PIECE));
        let end = match self.alone_until {
            Some(until) if self.in_pieces && self.origin.piece().is_none() => Some(until),
            _ => piece.map(|piece| self.until.min(self.position + piece)),
        };
        let end = end.map(|end| end.max(self.position + 1));
        let end = self.size.zip(end).map(|(size, end)| size.min(end));
        let part = self.origin.part(&self.ask, (validator, self.size), (self.position, end)).await?;
        (self.skip, self.end) = (self.position - part.first, part.end.filter(|_| self.size.is_some()));
        if self.skip > 0 {
            log::info!("{}: the upstream gives no ranges, so {} bytes are fetched again", self.ask, self.skip);
        }
        Ok(part.body)
    }

    /// The whole file once more, if it still has the size that the client knows.
    async fn begin_again(&mut self) -> Result<U::Body, Failure> {
        if !self.can_resume() {
            return Err(passing("without an ETag or a date, the rest may be of another file"));
        }
        match self.origin.try_open(&self.ask, None, false).await? {
            UpstreamReply::File(facts, body) if facts.size == self.size => Ok(body),
            _ => Err(Failure::Final(Refusal::upstream().because("the file changed upstream"))),
        }
    }
}

impl<U: Upstream> Drop for Fetch<U> {
    fn drop(&mut self) {
        self.origin.ended();
    }
}

fn passing(why: &str) -> Failure {
    Failure::Passing(Refusal::upstream().because(why))
}

fn pause(failures: u32) -> Duration {
    LONGEST_PAUSE.min(FIRST_PAUSE * 2_u32.saturating_pow(failures - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tries_take_no_longer_than_the_patience_of_a_transfer() {
        let all: Duration = (1..=TRIES).map(pause).sum();
        assert!((20..30).contains(&all.as_secs()), "{all:?}");
    }
}
