//! The connection to the peer, as both coroutines use it: sending, waiting, counting, and giving up.

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

/// How often a server sends its first packet to a client that has not answered, unless the client repeats its request.
/// A request may have a forged address, whose owner would get all these packets.
const FIRST_PACKET_SENDS: u32 = 3;
/// How many blocks of the first window are sent again before the client has acknowledged any DATA: the ACK of the OACK
/// may be forged too.
const FIRST_WINDOW_COPIES: u32 = 3;
/// A peer that acknowledges this many blocks that were never sent is guessing. One or two such ACKs may be late
/// packets of an earlier transfer.
const GUESSES: u32 = 16;
/// The headers of IPv4, which are the shorter ones.
const HEADERS: u64 = HEADERS_V4 as u64;

pub(super) struct Connection {
    co: Co,
    timing: Timing,
    rto: Rto,
    pub(super) now: Instant,
    /// When the transfer last made progress: patience counts from here.
    progressed_at: Instant,
    /// When the last packet went out that awaits an answer: the retransmit counts from here, or from the last
    /// progress.
    asked_at: Instant,
    /// Whether the last packet was sent only once, so that its answer measures a round trip (Karn).
    sent_once: bool,
    /// Whether the peer has ever answered.
    pub(super) has_answered: bool,
    /// Whether the peer's address is validated: the peer receives what is sent, so the address is not forged. A client
    /// is sure of its server.
    validated: bool,
    /// How many copies may still be sent while the peer's address is not validated.
    copies_left: u32,
    /// Whether the peer may have reported a loss: the rest is then overdue sooner.
    pub(super) loss_suspected: bool,
    /// Bytes that the packets of the peer have paid for.
    credit: u64,
    /// How many ACKs of blocks that were never sent have come.
    guesses: u32,
    /// Whether this server or client is stopping.
    stopped: bool,
    /// Why another transfer replaces this one, if one does.
    replaced: Option<&'static str>,
}

/// The event that ended a wait.
pub(super) enum WaitEnd {
    Packet(Packet),
    Repeat,
    /// The answer is overdue: the last packet is sent again.
    Overdue,
    /// The transfer ends without an answer: patience is over, or another transfer replaces this one.
    Silence,
    Chunk(Bytes),
    End,
    Ready,
    Failed(Refusal),
}

impl Connection {
    /// `serves`: whether this side is the server.
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
            sent_once: true,
            has_answered: false,
            validated: !serves,
            copies_left: FIRST_PACKET_SENDS - 1,
            loss_suspected: false,
            credit: 0,
            guesses: 0,
            stopped: false,
            replaced: None,
        }
    }

    /// Earns credit for a packet of the peer, which has four bytes at least. (A request earns nothing: it goes to
    /// another port, which everybody knows. `copies_left` bounds the answers to it.)
    fn earn(&mut self) {
        let amplification = self.timing.amplification.unwrap_or(u32::MAX);
        self.credit = self.credit.saturating_add(u64::from(amplification) * HEADERS);
    }

    /// Spends credit for so many blocks and bytes of DATA.
    pub(super) fn spend(&mut self, blocks: u64, bytes: usize) {
        self.credit = self.credit.saturating_sub(cost(blocks, bytes));
    }

    /// Whether the packets of the peer pay for so many blocks and bytes of DATA. Before the peer has acknowledged
    /// DATA, `copies_left` bounds the copies.
    pub(super) fn can_spend(&self, blocks: u64, bytes: usize) -> bool {
        !self.validated || self.credit >= cost(blocks, bytes)
    }

    /// Acts as if a packet had been sent: nothing is overdue before another timeout.
    pub(super) fn restart_timeout(&mut self) {
        self.asked_at = self.now;
        self.sent_once = false;
    }

    /// Puts the agreed options into force.
    pub(super) fn agree(&mut self, agreed: Agreed) {
        self.rto.set_ceiling(agreed.timeout().unwrap_or(self.timing.timeout));
        self.count(|progress| progress.agreed = agreed);
    }

    pub(super) fn agreed(&self) -> Agreed {
        self.co.progress().agreed
    }

    /// Sends a packet that awaits an answer. Like the other sending functions, it begins before its future is awaited.
    pub(super) fn ask(&mut self, packet: Packet, again: bool) -> impl Future<Output = ()> {
        self.asked_at = self.now;
        self.sent_once = !again;
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

    /// Waits for the first event. `asking`: an answer is due, and a retransmit if it does not come.
    pub(super) async fn wait(&mut self, want: Want, asking: bool) -> WaitEnd {
        loop {
            let patient_until = self.progressed_at + self.timing.patience;
            let asks_again = asking && (self.validated || self.copies_left > 0);
            let due = self.overdue_at();
            let deadline = if asks_again { due.min(patient_until) } else { patient_until };
            let Resumed { event, now } = self.co.step(Step::Wait(want, deadline)).await;
            self.now = now;
            return match event {
                Event::Packet(packet) => {
                    self.earn();
                    WaitEnd::Packet(packet)
                }
                Event::Repeat => {
                    self.count(|progress| progress.requests += 1);
                    WaitEnd::Repeat
                }
                Event::Chunk(chunk) => {
                    self.note_source_progress(asking, !chunk.is_empty());
                    WaitEnd::Chunk(chunk)
                }
                Event::End => {
                    self.note_source_progress(asking, true);
                    WaitEnd::End
                }
                Event::Ready => {
                    self.progressed_at = now;
                    WaitEnd::Ready
                }
                Event::Failed(refusal) => WaitEnd::Failed(refusal),
                Event::Stop => {
                    self.stopped = true;
                    WaitEnd::Failed(Refusal::stopping())
                }
                Event::Unreachable => WaitEnd::Silence,
                Event::Replaced(why) => {
                    self.replaced = Some(why);
                    WaitEnd::Silence
                }
                Event::Timeout if now >= patient_until => WaitEnd::Silence,
                Event::Timeout if asks_again && now >= due => {
                    self.copies_left = self.copies_left.saturating_sub(1);
                    if !self.loss_suspected {
                        // A suspected loss is no sign of a longer round trip.
                        self.rto.timed_out();
                    }
                    if self.has_answered && !self.validated {
                        // The few copies that are left should last for some seconds.
                        self.rto.timed_out();
                    }
                    WaitEnd::Overdue
                }
                Event::Timeout | Event::Continue => continue,
            };
        }
    }

    /// Notes progress of the source, if it gave a chunk. The progress does not excuse a peer that owes an answer.
    fn note_source_progress(&mut self, asking: bool, gave: bool) {
        if gave && !asking {
            self.progressed_at = self.now;
        }
    }

    /// Notes that the peer answered the last packet. If that was sent once, the answer measures a round trip (Karn).
    pub(super) fn answered(&mut self) {
        let sent_at = std::mem::take(&mut self.sent_once).then_some(self.asked_at);
        self.acknowledged(sent_at);
    }

    /// Notes that the peer answered a packet, with the time of that packet if the answer measures the round trip.
    pub(super) fn acknowledged(&mut self, sent_at: Option<Instant>) {
        if let Some(sent_at) = sent_at {
            self.rto.sample(self.now.saturating_duration_since(sent_at));
            let round_trip = self.rto.round_trip();
            self.count(|progress| progress.round_trip = round_trip);
        }
        self.has_answered = true;
        self.progressed_at = self.now;
        self.count(|progress| progress.acked += 1);
    }

    /// Notes that DATA arrives or is acknowledged, which validates the peer's address: a forger cannot do that without
    /// seeing the packets.
    pub(super) fn validate(&mut self) {
        self.has_answered = true;
        self.validated = true;
    }

    pub(super) fn is_validated(&self) -> bool {
        self.validated
    }

    /// Notes that the first window goes out. If the peer has answered the opening, a few copies of its blocks may
    /// follow.
    pub(super) fn begin_data(&mut self) {
        if self.has_answered {
            self.copies_left = FIRST_WINDOW_COPIES;
        }
    }

    /// Whether a packet may be sent again because the peer repeated one of its own.
    pub(super) fn spend_copy(&mut self) -> bool {
        if !self.validated {
            let left = self.copies_left.checked_sub(1);
            self.copies_left = left.unwrap_or(0);
            return left.is_some();
        }
        true
    }

    /// Counts an ACK of a block that was never sent. A peer that sends many of them is a forger that guesses the state
    /// of the transfer. Then the transfer ends.
    pub(super) async fn count_guess(&mut self) -> Option<Outcome> {
        self.guesses += 1;
        if self.guesses < GUESSES {
            return None;
        }
        let refusal = Refusal::bad_request().because("ACKs of blocks that were never sent");
        Some(Box::pin(self.refuse(refusal)).await)
    }

    /// Whether the last packet may be sent again for a repeated ACK.
    pub(super) fn copy_is_due(&self) -> bool {
        self.now.saturating_duration_since(self.asked_at) >= self.rto.between_copies()
    }

    /// Whether an ACK may bring the window again, if the last copies went out at this time.
    pub(super) fn rewind_is_due(&self, last: Option<Instant>) -> bool {
        last.is_none_or(|last| self.now.saturating_duration_since(last) >= self.rto.between_rewinds())
    }

    /// Whether there was progress after this time.
    pub(super) fn has_progressed_since(&self, time: Option<Instant>) -> bool {
        time.is_none_or(|time| self.progressed_at > time)
    }

    /// Whether the last packet is too recent for an answer.
    pub(super) fn is_too_soon_for_an_answer(&self) -> bool {
        self.now.saturating_duration_since(self.asked_at) < self.rto.round_trip().unwrap_or_default() / 2
    }

    /// When all answers to the copies on their way should have arrived, even if the round trip has grown.
    pub(super) fn copies_answered_by(&self) -> Instant {
        self.now + self.rto.timeout() * 2
    }

    /// When the answer is overdue to the last packet, or to the packets that are still out after the last answer.
    fn overdue_at(&self) -> Instant {
        let timeout = if self.loss_suspected { self.rto.short_timeout() } else { self.rto.timeout() };
        self.asked_at.max(self.progressed_at) + timeout
    }

    pub(super) fn count_blocks(&mut self, blocks: u64, bytes: usize) {
        self.count(|progress| {
            progress.blocks += blocks;
            progress.bytes += bytes as u64;
        });
    }

    /// The outcome of a silent peer.
    pub(super) fn silence_outcome(&self) -> Outcome {
        self.replaced.map_or(Outcome::TimedOut, Outcome::Replaced)
    }

    /// Whether another transfer replaces this one.
    pub(super) fn is_replaced(&self) -> bool {
        self.replaced.is_some()
    }

    /// Sends the peer this refusal and ends the transfer.
    pub(super) async fn refuse(&mut self, refusal: Refusal) -> Outcome {
        self.tell(&refusal).await;
        Outcome::Refused(refusal)
    }

    /// Tells the peer that this side has failed, and ends the transfer.
    pub(super) async fn fail(&mut self, refusal: Refusal) -> Outcome {
        self.tell(&refusal).await;
        match refusal.packet() {
            _ if self.stopped => Outcome::Stopped,
            // A silent refusal is a decision of this side, not a failure.
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

/// The size of so many DATA packets on the wire, in bytes.
fn cost(blocks: u64, bytes: usize) -> u64 {
    blocks * HEADERS + bytes as u64
}
