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
/// How often a request is sent again because the upstream is busy: for about 18 s in all, and no client waits for much
/// longer.
const TRIES: u32 = 14;
/// The same without the tries at times when no other request was made, which are for a path that is always busy.
const TRIES_ALONE: u32 = 3;
/// An upstream that has answered within this time is busy, and not down.
const WELL: Duration = Duration::from_secs(10);

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

    /// The answer for a new transfer. It is refused at once while the upstream is known to be dead.
    pub(super) async fn open(&self, ask: &U::Ask, known: Option<&U::Validator>) -> Result<UpstreamReply<U>, Refusal> {
        self.try_open(ask, known).await.map_err(|failure| located(ask, failure.refusal()))
    }

    /// The same for a fetch, which adds the file's name itself.
    pub(super) async fn try_open(
        &self,
        ask: &U::Ask,
        known: Option<&U::Validator>,
    ) -> Result<UpstreamReply<U>, Failure> {
        let _asking = self.asking.clone();
        let (mut tries, mut tries_alone) = (0, 0);
        loop {
            let answer = async {
                self.breaker.check().map_err(Failure::Passing)?;
                self.reported(self.upstream.open(ask, known)).await
            };
            let (answer, place) = self.queue.wait(answer).await;
            let (refusal, told) = match answer {
                Err(Failure::Busy(refusal, told)) => (refusal, told),
                answer => {
                    if answer.is_ok() {
                        *self.answered.lock() = Some(Instant::now());
                    }
                    return answer;
                }
            };
            let is_well = self.answered.lock().is_some_and(|at| at.elapsed() < WELL);
            let is_alone = Arc::strong_count(&self.asking) == 2;
            let may_try = match is_well {
                true => tries < TRIES && tries_alone < TRIES_ALONE,
                false => tries < TRIES_ALONE && !is_alone || tries == 0 && told.is_some(),
            };
            if !may_try {
                return Err(Failure::Passing(refusal));
            }
            let pause = self.pause(tries);
            (tries, tries_alone) = (tries + 1, tries_alone + u32::from(is_alone));
            Queue::pause(place, told.unwrap_or_default() + pause).await;
        }
    }

    /// The pause after this try: 0.1 s, doubled up to 1.6 s, and up to half longer or shorter. So the requests do not
    /// come together again: multiples of the golden ratio are evenly spread.
    fn pause(&self, tries: u32) -> Duration {
        let spread = (self.pauses.fetch_add(1, Relaxed) as f64 * 0.618_034).fract();
        Duration::from_millis(100 << tries.min(4)).mul_f64(0.5 + spread)
    }

    /// The rest of a file, or a piece of it.
    pub(super) async fn part(
        &self,
        ask: &U::Ask,
        same: (&U::Validator, Option<u64>),
        range: (u64, Option<u64>),
    ) -> Result<Part<U::Body>, Failure> {
        let part = self.reported(self.upstream.part(ask, same, range)).await?;
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

    async fn reported<T>(&self, answer: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        let answer = self.within(answer, Failure::Passing).await;
        self.breaker.report(!matches!(answer, Err(Failure::Outage(_))));
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

    /// An upstream that never answers, and counts the requests.
    #[derive(Default)]
    struct Silent(AtomicUsize);

    impl Upstream for Silent {
        type Ask = usize;
        type Validator = ();
        type Body = ();

        async fn open(&self, _: &usize, _: Option<&()>) -> Result<UpstreamReply<Self>, Failure> {
            self.0.fetch_add(1, Relaxed);
            pending().await
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
        let origin = Origin::new(Silent::default(), Duration::MAX);
        let files: Vec<_> = (0..1000).collect();
        let mut requests: Vec<_> = files.iter().map(|file| Box::pin(origin.open(file, None))).collect();
        for request in &mut requests {
            assert!(block_on(poll_once(request)).is_none());
        }
        assert_eq!(origin.upstream.0.load(Relaxed), queue::LEAST);
    }
}
