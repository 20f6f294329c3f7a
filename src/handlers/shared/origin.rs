//! An upstream with its state: failures, running fetches, and whether it gives ranges.

use std::{
    sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
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
/// The pauses before a request is sent again because the upstream is busy or restarts, in milliseconds: no client waits
/// for much longer. Each is up to half longer or shorter, so that the requests do not come together again.
const BUSY_PAUSES: [u64; 6] = [100, 200, 400, 800, 1600, 3200];
/// An upstream that has answered within this time is busy, and not down.
const WELL: Duration = Duration::from_secs(10);
/// An upstream that has answered within this time and refuses connections restarts, and is not down. A search for a file
/// goes on no sooner.
const RESTART: Duration = Duration::from_secs(5);

pub(super) struct Origin<U> {
    upstream: U,
    /// How long the upstream may be silent.
    timeout: Duration,
    breaker: Breaker,
    queue: Queue,
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
        let (breaker, queue, answered, pauses, fetches, lacks_ranges) = Default::default();
        Self { upstream, timeout, breaker, queue, answered, pauses, fetches, lacks_ranges }
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
        let mut pauses = BUSY_PAUSES.into_iter().map(Duration::from_millis);
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
            let (refusal, told, well) = match answer {
                Err(Failure::Busy(refusal, told)) => (refusal, told, WELL),
                Err(Failure::Outage(refusal)) if waits => (refusal, None, RESTART),
                answer => {
                    if answer.is_ok() {
                        *self.answered.lock() = Some(Instant::now());
                    }
                    return answer;
                }
            };
            let is_well = self.has_answered_within(well);
            let is_first = pauses.len() == BUSY_PAUSES.len();
            let pause = pauses.next().filter(|_| is_well || is_first && told.is_some());
            let Some(pause) = pause else { return Err(Failure::Passing(refusal)) };
            Queue::pause(place, told.unwrap_or_default() + pause.mul_f64(self.spread())).await;
        }
    }

    fn has_answered_within(&self, time: Duration) -> bool {
        self.answered.lock().is_some_and(|at| at.elapsed() < time)
    }

    /// A factor between 0.5 and 1.5, evenly spread: multiples of the golden ratio never come close to each other.
    fn spread(&self) -> f64 {
        0.5 + (self.pauses.fetch_add(1, Relaxed) as f64 * 0.618_034).fract()
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
