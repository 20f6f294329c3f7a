//! The counters of all transfers together.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use super::Record;
use crate::{options::Direction, sync::AtomicU64, transfer::Outcome};

/// The counters of a server: since it began ([`ServerHandle::counters`](crate::ServerHandle::counters)), or in one
/// period ([`ServerBuilder::on_period`](crate::ServerBuilder::on_period)).
///
/// The numbers add up. Each of the `requests` that is neither `repeated` nor `over_limit` nor `unanswered` has begun a
/// transfer. Each transfer is `running`, or counts under one outcome of `reads` or `writes`. (While the server works,
/// an event may be counted in one number and not yet in another.)
///
/// ```
/// use tuffet::stats::Counters;
///
/// let (mut then, mut now) = (Counters::default(), Counters::default());
/// (then.requests, now.requests) = (5, 7);
/// now.reads.complete = 2;
/// let period = now.since(&then);
/// assert_eq!((period.requests, period.reads.total()), (2, 2));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Counters {
    /// RRQ and WRQ packets that came to a listening port and made sense.
    pub requests: u64,
    /// Requests that a client repeated while the server served them.
    pub repeated: u64,
    /// Requests without an answer because too many transfers were running, or the client had sent too many requests.
    pub over_limit: u64,
    /// Requests without an answer for another reason: the server was stopping, it does not
    /// [admit](crate::ServerBuilder::admit) the client, or no client can have the address.
    pub unanswered: u64,
    /// Transfers that are running now; not counted for a period.
    pub running: u64,
    /// RRQs that have ended.
    pub reads: Outcomes,
    /// WRQs that have ended.
    pub writes: Outcomes,
    /// Transfers that were [`refused`](Outcome::Refused), by the code of the ERROR.
    pub refused: BTreeMap<u16, u64>,
    /// Bytes of files that clients have received, those of running transfers included.
    pub bytes_read: u64,
    /// Bytes of files that clients have sent, those of running transfers included.
    pub bytes_written: u64,
    /// Packets that were sent again, of transfers that have ended.
    pub retransmits: u64,
    /// Datagrams received.
    pub received: u64,
    /// Datagrams sent.
    pub sent: u64,
    /// Datagrams that were not TFTP packets, and over HTTP, requests with a malformed head.
    pub malformed: u64,
    /// Packets that belong to no transfer, except late ones of a transfer that has just ended.
    pub unknown_tids: u64,
    /// Datagrams that the system dropped because the receive buffer of a socket was full. Always 0 where the system
    /// does not tell; Linux does.
    pub dropped: u64,
    /// The counters that were added by [`ServerBuilder::counter`](crate::ServerBuilder::counter).
    pub own: BTreeMap<&'static str, u64>,
}

macro_rules! outcomes {
    ($($name:ident)*) => {
        /// How many transfers ended with each outcome.
        ///
        /// ```
        /// let outcomes = tuffet::stats::Outcomes::default();
        /// assert_eq!(outcomes.total(), 0);
        /// assert!(outcomes.iter().any(|(name, _)| name == "timed_out"));
        /// ```
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[cfg_attr(feature = "serde", derive(serde::Serialize))]
        #[non_exhaustive]
        #[allow(missing_docs, reason = "they are those of `Outcome`")]
        pub struct Outcomes {
            $(pub $name: u64,)*
        }

        impl Outcomes {
            /// The [names](Outcome::name) of the outcomes.
            pub(crate) const NAMES: &[&str] = &[$(stringify!($name)),*];

            fn fields(&mut self) -> [(&'static str, &mut u64); Self::NAMES.len()] {
                [$((stringify!($name), &mut self.$name)),*]
            }
        }
    };
}
outcomes! { complete probably_complete probe aborted timed_out refused failed upstream_failed replaced stopped }

/// A counter of your own, which is delivered with those of the server: see
/// [`ServerBuilder::counter`](crate::ServerBuilder::counter). Its clones count together.
///
/// ```
/// use tuffet::{Server, read, stats::Counter};
///
/// let greeted = Counter::new("greeted", "Machines that were greeted");
/// let counter = greeted.clone();
/// let handler = read(move |_| {
///     counter.add(1);
///     "hello\n"
/// });
/// let server = Server::builder().listen("127.0.0.1:0").handler(handler).counter(&greeted).bind()?;
/// assert_eq!(server.handle().counters().own["greeted"], 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Counter(Arc<Named>);

struct Named {
    name: &'static str,
    help: &'static str,
    value: AtomicU64,
}

impl Counters {
    /// The counts since this earlier state of the same counters.
    ///
    /// ```
    /// use tuffet::stats::Counters;
    ///
    /// let (mut then, mut now) = (Counters::default(), Counters::default());
    /// (then.bytes_read, now.bytes_read) = (1000, 4000);
    /// assert_eq!(now.since(&then).bytes_read, 3000);
    /// ```
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        fn differences<K: Ord + Copy>(now: &BTreeMap<K, u64>, then: &BTreeMap<K, u64>) -> BTreeMap<K, u64> {
            let then = |key| then.get(key).copied().unwrap_or(0);
            now.iter().map(|(key, &value)| (*key, value.saturating_sub(then(key)))).collect()
        }
        let mut since = self.clone();
        for (now, then) in since.plain().into_iter().zip(earlier.clone().plain()) {
            *now = now.saturating_sub(*then);
        }
        since.refused = differences(&self.refused, &earlier.refused);
        since.refused.retain(|_, count| *count > 0);
        since.own = differences(&self.own, &earlier.own);
        since
    }

    pub(super) fn count_cut_off(&mut self, direction: Direction, bytes: u64) {
        self.add_bytes(direction, bytes);
        self.of(direction).stopped += 1;
    }

    pub(super) fn count(&mut self, record: &Record) {
        self.add_bytes(record.direction, record.bytes);
        self.retransmits += record.retransmits;
        if let Outcome::Refused(refusal) = &record.outcome {
            *self.refused.entry(refusal.code().0).or_default() += 1;
        }
        *self.of(record.direction).of(&record.outcome) += 1;
    }

    pub(super) fn add_bytes(&mut self, direction: Direction, bytes: u64) {
        match direction {
            Direction::Read => self.bytes_read += bytes,
            Direction::Write => self.bytes_written += bytes,
        }
    }

    fn of(&mut self, direction: Direction) -> &mut Outcomes {
        match direction {
            Direction::Read => &mut self.reads,
            Direction::Write => &mut self.writes,
        }
    }

    /// All plain numbers that grow.
    fn plain(&mut self) -> Vec<&mut u64> {
        // A field that is missing here does not compile.
        let Self {
            requests,
            repeated,
            over_limit,
            unanswered,
            running: _,
            reads,
            writes,
            refused: _,
            bytes_read,
            bytes_written,
            retransmits,
            received,
            sent,
            malformed,
            unknown_tids,
            dropped,
            own: _,
        } = self;
        let mut all = vec![requests, repeated, over_limit, unanswered, bytes_read, bytes_written, retransmits];
        all.extend([received, sent, malformed, unknown_tids, dropped]);
        all.extend(reads.fields().map(|(_, count)| count));
        all.extend(writes.fields().map(|(_, count)| count));
        all
    }
}

impl Outcomes {
    /// All counts, with the [names](Outcome::name) of the outcomes.
    ///
    /// ```
    /// let mut outcomes = tuffet::stats::Outcomes::default();
    /// outcomes.complete = 3;
    /// assert!(outcomes.iter().any(|count| count == ("complete", 3)));
    /// ```
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let mut copy = *self;
        copy.fields().map(|(name, count)| (name, *count)).into_iter()
    }

    /// How many transfers have ended.
    ///
    /// ```
    /// let mut outcomes = tuffet::stats::Outcomes::default();
    /// (outcomes.complete, outcomes.refused) = (3, 2);
    /// assert_eq!(outcomes.total(), 5);
    /// ```
    pub fn total(&self) -> u64 {
        self.iter().map(|(_, count)| count).sum()
    }

    fn of(&mut self, outcome: &Outcome) -> &mut u64 {
        match outcome {
            Outcome::Complete => &mut self.complete,
            Outcome::ProbablyComplete => &mut self.probably_complete,
            Outcome::Probe => &mut self.probe,
            Outcome::Aborted { .. } => &mut self.aborted,
            Outcome::TimedOut => &mut self.timed_out,
            Outcome::Refused(_) => &mut self.refused,
            Outcome::Failed(refusal) if refusal.is_upstream() => &mut self.upstream_failed,
            Outcome::Failed(_) => &mut self.failed,
            Outcome::Replaced(_) => &mut self.replaced,
            Outcome::Stopped => &mut self.stopped,
        }
    }
}

impl Counter {
    /// A counter at 0. The name is a word of lower-case letters, digits and `_`, which metrics show; the help says
    /// what the counter counts.
    ///
    /// ```
    /// let counter = tuffet::stats::Counter::new("greeted", "Machines that were greeted.");
    /// assert_eq!((counter.name(), counter.value()), ("greeted", 0));
    /// ```
    pub fn new(name: &'static str, help: &'static str) -> Self {
        Self(Arc::new(Named { name, help, value: AtomicU64::new(0) }))
    }

    /// Adds this count.
    ///
    /// ```
    /// let counter = tuffet::stats::Counter::new("greeted", "Machines that were greeted.");
    /// counter.clone().add(2);
    /// assert_eq!(counter.value(), 2);
    /// ```
    pub fn add(&self, count: u64) {
        self.0.value.fetch_add(count, Relaxed);
    }

    /// The name of the counter.
    ///
    /// ```
    /// assert_eq!(tuffet::stats::Counter::new("greeted", "Machines that were greeted.").name(), "greeted");
    /// ```
    pub fn name(&self) -> &'static str {
        self.0.name
    }

    /// The help text of the counter.
    ///
    /// ```
    /// let counter = tuffet::stats::Counter::new("greeted", "Machines that were greeted.");
    /// assert_eq!(counter.help(), "Machines that were greeted.");
    /// ```
    pub fn help(&self) -> &'static str {
        self.0.help
    }

    /// The count so far.
    ///
    /// ```
    /// let counter = tuffet::stats::Counter::new("greeted", "Machines that were greeted.");
    /// counter.add(1);
    /// counter.add(1);
    /// assert_eq!(counter.value(), 2);
    /// ```
    pub fn value(&self) -> u64 {
        self.0.value.load(Relaxed)
    }
}

impl fmt::Debug for Counter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name(), self.value())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{ErrorCode, Refusal};

    #[test]
    fn every_outcome_counts_once_under_its_name() {
        let aborted = Outcome::Aborted { code: ErrorCode(0), message: String::new() };
        let (refused, failed) = (Outcome::Refused(Refusal::denied()), Outcome::Failed(Refusal::internal()));
        let (upstream, replaced) = (Outcome::Failed(Refusal::upstream()), Outcome::Replaced("the client began anew"));
        let plain = [Outcome::Complete, Outcome::ProbablyComplete, Outcome::Probe, Outcome::TimedOut, Outcome::Stopped];
        for outcome in plain.into_iter().chain([aborted, refused, failed, upstream, replaced]) {
            let mut outcomes = Outcomes::default();
            *outcomes.of(&outcome) += 1;
            assert_eq!(outcomes.total(), 1);
            assert!(outcomes.iter().any(|counted| counted == (outcome.name(), 1)), "{outcome}");
        }
    }

    #[test]
    fn a_period_has_what_was_counted_in_it() {
        let mut then = Counters { requests: 5, running: 2, ..Counters::default() };
        then.reads.probe = 3;
        then.refused = [(1, 1), (2, 4)].into();
        let mut now = then.clone();
        (now.requests, now.running, now.reads.probe) = (7, 9, 4);
        now.refused = [(1, 1), (2, 5), (8, 1)].into();
        let since = now.since(&then);
        assert_eq!((since.requests, since.running, since.reads.total()), (2, 9, 1));
        assert_eq!(since.refused, [(2, 1), (8, 1)].into());
        assert_eq!(now.since(&Counters::default()), now);
    }
}
