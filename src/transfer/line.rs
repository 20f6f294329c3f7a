//! What both coroutines share: sending, waiting, counting, and knowing when to give up.

use std::time::Instant;

use bytes::Bytes;

use super::{
    Event, FOR_EVER, Outcome, Progress, Step, Timing, Want,
    coroutine::{Co, Resumed},
    rto::Rto,
};
use crate::{
    error::Refusal,
    options::Agreed,
    packet::{HEADERS_V4, Packet},
};

/// How often a server sends its first packet to who has not answered, unless it is asked again. A request may bear the
/// address of somebody else, who would get all of them.
const UNANSWERED: u32 = 3;
/// How often the first block of a window is sent again while nobody has acknowledged any DATA: the ACK of the OACK may
/// be forged as well.
const FIRST_BLOCK_AGAIN: u32 = 3;
/// Who acknowledges this many blocks that were never sent guesses. One or two such ACKs may be late packets of an
/// earlier transfer.
const GUESSES: u32 = 16;
/// The shorter ones, of IPv4.
const HEADERS: u64 = HEADERS_V4 as u64;

pub(super) struct Line {
    co: Co,
    timing: Timing,
    rto: Rto,
    pub(super) now: Instant,
    /// When the transfer last came forward: patience counts from here.
    progressed_at: Instant,
    /// When the packet that awaits an answer went out: the retransmit counts from here, or from the last progress.
    asked_at: Instant,
    /// Whether what is out went out only once, so that its answer measures a round trip (Karn).
    once: bool,
    /// Whether the peer has ever answered.
    pub(super) heard: bool,
    /// Whether the peer is known to get what is sent: it asked nobody in another's name. A client knows it of its server.
    proven: bool,
    /// How often more a packet may be sent again while that is not known.
    spare: u32,
    /// Whether the peer may have said that it misses something: the rest is overdue sooner.
    pub(super) hurried: bool,
    /// Bytes that may be sent because of what the peer has sent.
    credit: u64,
    /// ACKs of blocks that were never sent.
    guesses: u32,
    /// Whether this side ends.
    stopped: bool,
    /// Why another takes this transfer's place, if one does.
    replaced: Option<&'static str>,
}

/// What a wait ended with.
pub(super) enum Heard {
    Packet(Packet),
    Repeat,
    /// The answer is overdue: send again.
    Overdue,
    /// Nothing more will be heard: patience is over, or another takes this transfer's place.
    Silence,
    Chunk(Bytes),
    End,
    Ready,
    Failed(Refusal),
}

impl Line {
    /// `serves`: it was the peer who asked.
    pub(super) fn new(co: Co, now: Instant, timing: Timing, serves: bool) -> Self {
        let ceiling = co.progress().agreed.timeout().unwrap_or(timing.timeout);
        let rto = Rto::new(ceiling, timing.round_trip);
        let timing = Timing { patience: timing.patience.min(FOR_EVER), ..timing };
        Self {
            co,
            timing,
            rto,
            now,
            progressed_at: now,
            asked_at: now,
            once: true,
            heard: false,
            proven: !serves,
            spare: UNANSWERED - 1,
            hurried: false,
            credit: 0,
            guesses: 0,
            stopped: false,
            replaced: None,
        }
    }

    /// The peer has sent a packet to its transfer, of four bytes at least. (A request came to another port, which everybody
    /// knows; what it brings is bounded by `spare`.)
    fn earn(&mut self) {
        let amplification = self.timing.amplification.unwrap_or(u32::MAX);
        self.credit = self.credit.saturating_add(u64::from(amplification) * HEADERS);
    }

    /// So many blocks and bytes of DATA go out.
    pub(super) fn spend(&mut self, blocks: u64, bytes: usize) {
        self.credit = self.credit.saturating_sub(cost(blocks, bytes));
    }

    /// Whether the packets of the peer pay for so many blocks and bytes of DATA. Before any was acknowledged, `spare` bounds
    /// them.
    pub(super) fn can_spend(&self, blocks: u64, bytes: usize) -> bool {
        !self.proven || self.credit >= cost(blocks, bytes)
    }

    /// As if something had been sent: nothing is overdue before another timeout.
    pub(super) fn skip(&mut self) {
        self.asked_at = self.now;
        self.once = false;
    }

    /// What is agreed holds from here on.
    pub(super) fn agree(&mut self, agreed: Agreed) {
        self.rto.set_ceiling(agreed.timeout().unwrap_or(self.timing.timeout));
        self.count(|progress| progress.agreed = agreed);
    }

    pub(super) fn agreed(&self) -> Agreed {
        self.co.progress().agreed
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
            let asks_again = asking && (self.proven || self.spare > 0);
            let due = self.due();
            let deadline = if asks_again { due.min(patient_until) } else { patient_until };
            let Resumed { event, now } = self.co.step(Step::Wait(want, deadline)).await;
            self.now = now;
            return match event {
                Event::Packet(packet) => {
                    self.earn();
                    Heard::Packet(packet)
                }
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
                Event::Replaced(why) => {
                    self.replaced = Some(why);
                    Heard::Silence
                }
                Event::Timeout if now >= patient_until => Heard::Silence,
                Event::Timeout if asks_again && now >= due => {
                    self.spare = self.spare.saturating_sub(1);
                    self.rto.timed_out();
                    if self.heard && !self.proven {
                        // So that the few copies that there are last for some seconds.
                        self.rto.timed_out();
                    }
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

    /// The peer answered what was sent last. If that went out once, this measures a round trip (Karn).
    pub(super) fn answered(&mut self) {
        let sent_at = std::mem::take(&mut self.once).then_some(self.asked_at);
        self.acknowledged(sent_at);
    }

    /// The peer answered what was sent at this time, and only then if that is known.
    pub(super) fn acknowledged(&mut self, sent_at: Option<Instant>) {
        if let Some(sent_at) = sent_at {
            self.rto.sample(self.now.saturating_duration_since(sent_at));
            let round_trip = self.rto.round_trip();
            self.count(|progress| progress.round_trip = round_trip);
        }
        self.heard = true;
        self.progressed_at = self.now;
        self.count(|progress| progress.acked += 1);
    }

    /// DATA goes to and fro: nobody forges that who does not see it.
    pub(super) fn prove(&mut self) {
        self.heard = true;
        self.proven = true;
    }

    pub(super) fn is_proven(&self) -> bool {
        self.proven
    }

    /// The first block is on its way to who has answered the opening.
    pub(super) fn begin_data(&mut self) {
        if self.heard {
            self.spare = FIRST_BLOCK_AGAIN;
        }
    }

    /// Whether something may be sent again because the peer repeats itself.
    pub(super) fn spend_copy(&mut self) -> bool {
        if !self.proven {
            let left = self.spare.checked_sub(1);
            self.spare = left.unwrap_or(0);
            return left.is_some();
        }
        true
    }

    /// The peer acknowledged a block that was never sent. Who does so again and again is somebody else, who guesses
    /// where the transfer is: the end of it.
    pub(super) async fn guessed(&mut self) -> Option<Outcome> {
        self.guesses += 1;
        if self.guesses < GUESSES {
            return None;
        }
        let refusal = Refusal::bad_request().because("ACKs of blocks that were never sent");
        Some(Box::pin(self.refuse(refusal)).await)
    }

    /// Whether the last packet may be sent again for an ACK that says nothing new.
    pub(super) fn copy_is_due(&self) -> bool {
        self.now.saturating_duration_since(self.asked_at) >= self.rto.between_copies()
    }

    /// Whether a window may go out again for an ACK, if one did at this time.
    pub(super) fn rewind_is_due(&self, last: Option<Instant>) -> bool {
        last.is_none_or(|last| self.now.saturating_duration_since(last) >= self.rto.between_rewinds())
    }

    /// Whether there was not even time for an answer to the last packet.
    pub(super) fn too_soon_for_an_answer(&self) -> bool {
        self.now.saturating_duration_since(self.asked_at) < self.rto.round_trip().unwrap_or_default() / 2
    }

    /// By when the answers to copies that are on their way should have come, if the round trip has grown as well.
    pub(super) fn copies_answered_by(&self) -> Instant {
        self.now + self.rto.timeout() * 2
    }

    /// When the answer to the last packet, or to what is still out after the last answer, is overdue.
    fn due(&self) -> Instant {
        let timeout = if self.hurried { self.rto.short_timeout() } else { self.rto.timeout() };
        self.asked_at.max(self.progressed_at) + timeout
    }

    pub(super) fn moved(&mut self, blocks: u64, bytes: usize) {
        self.count(|progress| {
            progress.blocks += blocks;
            progress.bytes += bytes as u64;
        });
    }

    /// What silence ends with.
    pub(super) fn fell_silent(&self) -> Outcome {
        self.replaced.map_or(Outcome::TimedOut, Outcome::Replaced)
    }

    /// Whether another takes this transfer's place.
    pub(super) fn is_replaced(&self) -> bool {
        self.replaced.is_some()
    }

    /// Tells the peer no, and ends.
    pub(super) async fn refuse(&mut self, refusal: Refusal) -> Outcome {
        self.tell(&refusal).await;
        Outcome::Refused(refusal)
    }

    /// Tells the peer that this side broke, and ends.
    pub(super) async fn fail(&mut self, refusal: Refusal) -> Outcome {
        self.tell(&refusal).await;
        match refusal.packet() {
            _ if self.stopped => Outcome::Stopped,
            // Who is told nothing is not told that something broke: this side has its reasons.
            None => Outcome::Refused(refusal),
            Some(_) => Outcome::Failed(refusal),
        }
    }

    async fn tell(&mut self, refusal: &Refusal) {
        if let Some(error) = refusal.packet() {
            self.send(error, false).await;
        }
    }

    fn count(&mut self, change: impl FnOnce(&mut Progress)) {
        change(self.co.progress_mut());
    }
}

/// The bytes of so many DATA packets on the wire.
fn cost(blocks: u64, bytes: usize) -> u64 {
    blocks * HEADERS + bytes as u64
}
