//! An upstream with its state: failures, running fetches, and whether it gives ranges.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use super::{Failure, Part, Upstream, UpstreamReply, breaker::Breaker, queue::Queue, silence};
use crate::{Bytes, Refusal, sync::Mutex, within::within};

/// With more fetches than this at once, each asks for one piece at a time. An answer that waits for its reader holds a
/// connection and its buffers, up to about 1 MiB.
const FEW: usize = 8;
pub(super) const PIECE: u64 = 128 << 10;
/// With more fetches than this, the pieces are small.
const MANY: usize = 128;
const SMALL_PIECE: u64 = 32 << 10;
/// How often a request is sent again because the upstream is busy: for about 18 s in all, besides each `Retry-After`.
const TRIES: u32 = 14;
/// How often it is sent again while the upstream answers no request, or while there is no other one: its path may
/// always be busy.
const TRIES_ALONE: u32 = 3;
/// An upstream that has answered within this time is busy, and not down.
const WELL: Duration = Duration::from_secs(10);
/// An upstream that has answered within this time and refuses connections restarts, and is not down. A search for a
/// file in several sources goes on no sooner.
const RESTART: Duration = Duration::from_secs(2);
/// How often a request is sent again then, for about 3 s in all: connections that were open before may still answer.
const TRIES_RESTART: u32 = 8;

pub(super) struct Origin<U> {
    upstream: U,
    /// How long the upstream may be silent.
    timeout: Duration,
    breaker: Breaker,
    queue: Queue,
    /// One reference for each request for a new file, and this one.
    asking: Arc<()>,
    /// When a request was last answered.
    answered: Mutex<Option<Instant>>,
    /// How many pauses there were.
    pauses: AtomicUsize,
    fetches: AtomicUsize,
    /// Whether the upstream sent the whole file when it was last asked for a part.
    lacks_ranges: AtomicBool,
}

impl<U: Upstream> Origin<U> {
    pub(super) fn new(upstream: U, timeout: Duration) -> Self {
        let (breaker, queue, asking, answered, pauses, fetches, lacks_ranges) = Default::default();
        Self { upstream, timeout, breaker, queue, asking, answered, pauses, fetches, lacks_ranges }
    }

    /// The answer for a new transfer. It is refused at once while the upstream is known to be dead, unless a restart is
    /// waited for: the upstream has answered a moment ago.
    pub(super) async fn open(
        &self,
        ask: &U::Ask,
        known: Option<&U::Validator>,
        waits: bool,
    ) -> Result<UpstreamReply<U>, Refusal> {
        self.try_open(ask, known, waits).await.map_err(|failure| located(ask, failure.refusal()))
    }

    /// The same for a fetch, which adds the file's name itself.
    pub(super) async fn try_open(
        &self,
        ask: &U::Ask,
        known: Option<&U::Validator>,
        waits: bool,
    ) -> Result<UpstreamReply<U>, Failure> {
        let _asking = self.asking.clone();
        let (mut tries, mut tries_alone) = (0, 0);
        loop {
            let answer = async {
                // The breaker does not count a restart, so that no request is refused when the upstream is there again.
                let may_restart = waits && self.has_answered_within(RESTART);
                if !may_restart {
                    self.breaker.check().map_err(Failure::Passing)?;
                }
                self.reported(self.upstream.open(ask, known), may_restart).await
            };
            let (answer, place) = self.queue.wait(answer).await;
            let (refusal, pause, may_try) = match answer {
                Err(Failure::Busy(refusal, told)) => {
                    let is_alone = Arc::strong_count(&self.asking) == 2;
                    let may_try = match self.has_answered_within(WELL) {
                        true => tries < TRIES && tries_alone < TRIES_ALONE,
                        false => tries < TRIES_ALONE && !is_alone || tries == 0 && told.is_some(),
                    };
                    tries_alone += u32::from(is_alone);
                    (refusal, told.unwrap_or_default() + self.pause(tries.min(4)), may_try)
                }
                Err(Failure::Outage(refusal)) if waits => {
                    let may_try = tries < TRIES_RESTART && self.has_answered_within(RESTART);
                    (refusal, self.pause(tries.min(2)), may_try)
                }
                answer => {
                    if answer.is_ok() {
                        *self.answered.lock() = Some(Instant::now());
                    }
                    return answer;
                }
            };
            if !may_try {
                return Err(Failure::Passing(refusal));
            }
            Queue::pause(place, pause).await;
            tries += 1;
        }
    }

    fn has_answered_within(&self, time: Duration) -> bool {
        self.answered.lock().is_some_and(|at| at.elapsed() < time)
    }

    /// A pause of 0.1 s that is doubled so often, and up to half longer or shorter. So the requests do not come
    /// together again: multiples of the golden ratio are evenly spread.
    fn pause(&self, doubled: u32) -> Duration {
        let spread = (self.pauses.fetch_add(1, Relaxed) as f64 * 0.618_034).fract();
        Duration::from_millis(100 << doubled).mul_f64(0.5 + spread)
    }

    /// The rest of a file, or a piece of it.
    pub(super) async fn part(
        &self,
        ask: &U::Ask,
        same: (&U::Validator, Option<u64>),
        range: (u64, Option<u64>),
    ) -> Result<Part<U::Body>, Failure> {
        let part = self.reported(self.upstream.part(ask, same, range), false).await?;
        if range != (0, None) {
            self.lacks_ranges.store(part.end.is_none(), Relaxed);
        }
        Ok(part)
    }

    /// Whether each part of a file costs the whole file.
    pub(super) fn lacks_ranges(&self) -> bool {
        self.lacks_ranges.load(Relaxed)
    }

    /// The next piece of a body.
    pub(super) async fn chunk(&self, body: &mut U::Body) -> Result<Option<Bytes>, Refusal> {
        self.within(self.upstream.chunk(body), |refusal| refusal).await
    }

    pub(super) fn begun(&self) {
        self.fetches.fetch_add(1, Relaxed);
    }

    pub(super) fn ended(&self) {
        self.fetches.fetch_sub(1, Relaxed);
    }

    /// The size of the pieces to ask for, if there are many fetches.
    pub(super) fn piece(&self) -> Option<u64> {
        match self.fetches.load(Relaxed) {
            fetches if fetches > MANY => Some(SMALL_PIECE),
            fetches if fetches > FEW => Some(PIECE),
            _ => None,
        }
    }

    async fn reported<T>(
        &self,
        answer: impl Future<Output = Result<T, Failure>>,
        may_restart: bool,
    ) -> Result<T, Failure> {
        let answer = self.within(answer, Failure::Passing).await;
        let is_out = matches!(answer, Err(Failure::Outage(_)));
        if !is_out || !may_restart {
            self.breaker.report(!is_out);
        }
        answer
    }

    /// The result of this future, unless the upstream is silent for too long.
    async fn within<T, E>(
        &self,
        answer: impl Future<Output = Result<T, E>>,
        failure: impl FnOnce(Refusal) -> E,
    ) -> Result<T, E> {
        within(self.timeout, answer).await.unwrap_or_else(|| Err(failure(silence(self.timeout))))
    }
}

/// The refusal with the file's name in front of its detail.
pub(super) fn located(ask: &impl std::fmt::Display, refusal: Refusal) -> Refusal {
    match refusal.detail().map(str::to_owned) {
        Some(detail) => refusal.because(format_args!("{ask}: {detail}")),
        None => refusal.because(ask),
    }
}

#[cfg(test)]
mod tests {
    use smol::future::{block_on, pending, poll_once};

    use super::*;
    use crate::{Source, handlers::shared::queue};

    /// An upstream that counts the requests. It refuses as many connections as this, and then says that nothing has
    /// changed, or never answers.
    #[derive(Default)]
    struct Fake {
        asked: AtomicUsize,
        refused: Option<usize>,
    }

    impl Upstream for Fake {
        type Ask = usize;
        type Validator = ();
        type Body = ();

        async fn open(&self, _: &usize, _: Option<&()>) -> Result<UpstreamReply<Self>, Failure> {
            let asked = self.asked.fetch_add(1, Relaxed);
            match self.refused {
                None => pending().await,
                Some(refused) if asked < refused => Err(Failure::Outage(Refusal::upstream())),
                Some(_) => Ok(UpstreamReply::Unchanged(Duration::ZERO)),
            }
        }

        async fn part(&self, _: &usize, _: (&(), Option<u64>), _: (u64, Option<u64>)) -> Result<Part<()>, Failure> {
            pending().await
        }

        async fn chunk(&self, _: &mut ()) -> Result<Option<Bytes>, Refusal> {
            pending().await
        }

        fn is_same(_: &(), _: &()) -> bool {
            true
        }

        fn label(_: &(), source: Source) -> Source {
            source
        }
    }

    #[test]
    fn requests_for_new_files_wait_in_the_queue() {
        let origin = Origin::new(Fake::default(), Duration::MAX);
        let files: Vec<_> = (0..1000).collect();
        let mut requests: Vec<_> = files.iter().map(|file| Box::pin(origin.open(file, None, true))).collect();
        for request in &mut requests {
            assert!(block_on(poll_once(request)).is_none());
        }
        assert_eq!(origin.upstream.asked.load(Relaxed), queue::LEAST);
    }

    #[test]
    fn an_upstream_that_has_just_answered_and_refuses_connections_is_asked_again() {
        let long = Instant::now() + Duration::from_secs(3600);
        for (answered, waits, refused, asked) in
            [(Some(long), true, 3, 4), (Some(long), true, usize::MAX, 9), (Some(long), false, 3, 1), (None, true, 3, 1)]
        {
            let origin = Origin::new(Fake { refused: Some(refused), ..Fake::default() }, Duration::MAX);
            *origin.answered.lock() = answered;
            assert_eq!(block_on(origin.open(&0, None, waits)).is_ok(), refused < asked);
            assert_eq!(origin.upstream.asked.load(Relaxed), asked);
        }
    }
}
