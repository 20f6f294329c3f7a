//! What both coroutines share: sending, waiting, counting, and knowing when to give up.

use std::{
    cell::RefCell,
    rc::Rc,
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::{
    Event, Outcome, Progress, Step, Timing, Want,
    coroutine::{Co, Resumed},
    rto::Rto,
};
use crate::{error::Refusal, options::Agreed, packet::Packet};

/// How often a server sends its first packet to who has not answered, unless it is asked again. A request may bear the
/// address of somebody else, who would get all of them.
const UNANSWERED: u32 = 3;
/// Short enough to be added to any time.
const FOR_EVER: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

pub(super) struct Line {
    co: Co,
    timing: Timing,
    rto: Rto,
    pub(super) now: Instant,
    /// When the transfer last came forward: patience counts from here.
    progressed_at: Instant,
    /// When the packet that awaits an answer went out: the retransmit counts from here.
    asked_at: Instant,
    /// Whether what is out went out only once, so that its answer measures a round trip (Karn).
    once: bool,
    /// Whether the peer has ever answered.
    pub(super) heard: bool,
    /// How often more a packet may go out unasked while the peer has not answered.
    unanswered: u32,
    /// Whether this side ends.
    stopped: bool,
    progress: Rc<RefCell<Progress>>,
}

/// What a wait ended with.
pub(super) enum Heard {
    Packet(Packet),
    Repeat,
    /// The answer is overdue: send again.
    Overdue,
    /// Patience is over.
    Silence,
    Chunk(Bytes),
    End,
    Ready,
    Failed(Refusal),
}

impl Line {
    /// `serves`: it was the peer who asked.
    pub(super) fn new(co: Co, now: Instant, timing: Timing, serves: bool, progress: Rc<RefCell<Progress>>) -> Self {
        let unanswered = if serves { UNANSWERED - 1 } else { u32::MAX };
        let ceiling = progress.borrow().agreed.timeout().unwrap_or(timing.timeout);
        let rto = Rto::new(ceiling);
        let timing = Timing { patience: timing.patience.min(FOR_EVER), ..timing };
        let (asked_at, progressed_at, once, heard, stopped) = (now, now, true, false, false);
        Self { co, timing, rto, now, progressed_at, asked_at, once, heard, unanswered, stopped, progress }
    }

    /// What is agreed holds from here on.
    pub(super) fn agree(&mut self, agreed: Agreed) {
        self.rto.set_ceiling(agreed.timeout().unwrap_or(self.timing.timeout));
        self.count(|progress| progress.agreed = agreed);
    }

    pub(super) fn agreed(&self) -> Agreed {
        self.progress.borrow().agreed
    }

    /// Sends a packet that awaits an answer. As all of its kind, it begins before it is awaited.
    pub(super) fn ask(&mut self, packet: Packet, again: bool) -> impl Future<Output = ()> {
        self.asked_at = self.now;
        self.once = !again;
        self.send(packet, again)
    }

    pub(super) fn send(&mut self, packet: Packet, again: bool) -> impl Future<Output = ()> {
        self.count(|progress| {
            progress.sent += 1;
            progress.retransmits += u64::from(again);
        });
        self.step(Step::Send(packet))
    }

    pub(super) fn push(&mut self, chunk: Bytes) -> impl Future<Output = ()> {
        self.step(Step::Push(chunk))
    }

    fn step(&mut self, step: Step) -> impl Future<Output = ()> {
        let (now, taken) = (&mut self.now, self.co.step(step));
        async move { *now = taken.await.now }
    }

    /// Waits for whatever comes first. `asking`: an answer is due, and a retransmit if it does not come.
    pub(super) async fn wait(&mut self, want: Want, asking: bool) -> Heard {
        loop {
            let patient_until = self.progressed_at + self.timing.patience;
            let asks_again = asking && (self.heard || self.unanswered > 0);
            let due = self.due();
            let deadline = if asks_again { due.min(patient_until) } else { patient_until };
            let Resumed { event, now } = self.co.step(Step::Wait(want, deadline)).await;
            self.now = now;
            return match event {
                Event::Packet(packet) => Heard::Packet(packet),
                Event::Repeat => {
                    self.count(|progress| progress.requests += 1);
                    Heard::Repeat
                }
                Event::Chunk(chunk) => {
                    self.source_moved(asking, !chunk.is_empty());
                    Heard::Chunk(chunk)
                }
                Event::End => {
                    self.source_moved(asking, true);
                    Heard::End
                }
                Event::Ready => {
                    self.progressed_at = now;
                    Heard::Ready
                }
                Event::Failed(refusal) => Heard::Failed(refusal),
                Event::Stop => {
                    self.stopped = true;
                    Heard::Failed(Refusal::stopping())
                }
                Event::Gone => Heard::Silence,
                Event::Timeout if now >= patient_until => Heard::Silence,
                Event::Timeout if asks_again && now >= due => {
                    self.unanswered = self.unanswered.saturating_sub(1);
                    self.rto.timed_out();
                    Heard::Overdue
                }
                Event::Timeout | Event::Go => continue,
            };
        }
    }

    /// The source came forward, if it gave anything. That does not excuse a peer that owes an answer.
    fn source_moved(&mut self, asking: bool, gave: bool) {
        if gave && !asking {
            self.progressed_at = self.now;
        }
    }

    /// The peer answered. If it answers what was sent last, and that went out once, this measures a round trip.
    pub(super) fn answered(&mut self) {
        if std::mem::take(&mut self.once) {
            self.rto.sample(self.now.saturating_duration_since(self.asked_at));
        }
        self.heard = true;
        self.progressed_at = self.now;
        self.count(|progress| progress.acked += 1);
    }

    /// Whether a whole round trip has passed since the last packet that awaits an answer.
    pub(super) fn round_trip_passed(&self) -> bool {
        let round_trip = self.rto.round_trip().unwrap_or(self.rto.timeout());
        self.now.saturating_duration_since(self.asked_at) >= round_trip
    }

    /// Whether there was not even time for an answer to the last packet.
    pub(super) fn too_soon_for_an_answer(&self) -> bool {
        self.now.saturating_duration_since(self.asked_at) < self.rto.round_trip().unwrap_or_default() / 2
    }

    /// By when the answers to copies that are on their way should have come, if the round trip has grown as well.
    pub(super) fn copies_answered_by(&self) -> Instant {
        self.now + self.rto.timeout() * 2
    }

    /// When the answer to the last packet is overdue.
    pub(super) fn due(&self) -> Instant {
        self.asked_at + self.rto.timeout()
    }

    pub(super) fn moved(&mut self, bytes: usize) {
        self.count(|progress| progress.bytes += bytes as u64);
    }

    /// Tells the peer no, and ends.
    pub(super) async fn refuse(&mut self, refusal: Refusal) -> Outcome {
        self.tell(&refusal).await;
        Outcome::Refused(refusal)
    }

    /// Tells the peer that this side broke, and ends.
    pub(super) async fn fail(&mut self, refusal: Refusal) -> Outcome {
        self.tell(&refusal).await;
        if self.stopped { Outcome::Stopped } else { Outcome::Failed(refusal) }
    }

    async fn tell(&mut self, refusal: &Refusal) {
        if let Some(error) = refusal.packet() {
            self.send(error, false).await;
        }
    }

    fn count(&self, change: impl FnOnce(&mut Progress)) {
        change(&mut self.progress.borrow_mut());
    }
}
