//! The common part of both coroutines: sending, waiting, counting, and giving up.

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
const UNANSWERED: u32 = 3;
/// How often the first block of a window is sent again before the client has acknowledged any DATA: the ACK of the
/// OACK may be forged too.
const FIRST_BLOCK_AGAIN: u32 = 3;
/// A peer that acknowledges this many blocks that were never sent is guessing. One or two such ACKs may be late
/// packets of an earlier transfer.
const GUESSES: u32 = 16;
/// The headers of IPv4, which are the shorter ones.
const HEADERS: u64 = HEADERS_V4 as u64;

pub(super) struct Line {
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
    once: bool,
    /// Whether the peer has ever answered.
    pub(super) heard: bool,
    /// Whether the peer surely receives what is sent, so its address is not forged. A client is sure of its server.
    proven: bool,
    /// How often a packet may still be sent again while the peer is not proven.
    spare: u32,
    /// Whether the peer may have reported a loss: the rest is then overdue sooner.
    pub(super) hurried: bool,
    /// Bytes that the packets of the peer have paid for.
    credit: u64,
    /// How many ACKs of blocks that were never sent have come.
    guesses: u32,
    /// Whether this server or client is stopping.
    stopped: bool,
    /// Why another transfer replaces this one, if one does.
    replaced: Option<&'static str>,
}

/// The end of a wait.
pub(super) enum Heard {
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

impl Line {
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

    /// Earns credit for a packet of the peer, which has four bytes at least. (A request earns nothing: it goes to
    /// another port, which everybody knows. `spare` bounds the answers to it.)
    fn earn(&mut self) {
        let amplification = self.timing.amplification.unwrap_or(u32::MAX);
        self.credit = self.credit.saturating_add(u64::from(amplification) * HEADERS);
    }

    /// Spends credit for so many blocks and bytes of DATA.
    pub(super) fn spend(&mut self, blocks: u64, bytes: usize) {
        self.credit = self.credit.saturating_sub(cost(blocks, bytes));
    }

    /// Whether the packets of the peer pay for so many blocks and bytes of DATA. Before the peer has acknowledged
    /// DATA, `spare` bounds the copies.
    pub(super) fn can_spend(&self, blocks: u64, bytes: usize) -> bool {
        !self.proven || self.credit >= cost(blocks, bytes)
    }

    /// Acts as if a packet had been sent: nothing is overdue before another timeout.
    pub(super) fn skip(&mut self) {
        self.asked_at = self.now;
        self.once = false;
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

    /// Waits for the first event. `asking`: an answer is due, and a retransmit if it does not come.
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
                        // The few copies that are left should last for some seconds.
                        self.rto.timed_out();
                    }
                    Heard::Overdue
                }
                Event::Timeout | Event::Go => continue,
            };
        }
    }

    /// Notes progress of the source, if it gave a chunk. The progress does not excuse a peer that owes an answer.
    fn source_moved(&mut self, asking: bool, gave: bool) {
        if gave && !asking {
            self.progressed_at = self.now;
        }
    }

    /// Notes that the peer answered the last packet. If that was sent once, the answer measures a round trip (Karn).
    pub(super) fn answered(&mut self) {
        let sent_at = std::mem::take(&mut self.once).then_some(self.asked_at);
        self.acknowledged(sent_at);
    }

    /// Notes that the peer answered a packet, with the time of that packet if it was sent once.
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

    /// Notes that DATA arrives or is acknowledged. A forger cannot do that without seeing the packets.
    pub(super) fn prove(&mut self) {
        self.heard = true;
        self.proven = true;
    }

    pub(super) fn is_proven(&self) -> bool {
        self.proven
    }

    /// Notes that the first block goes out. If the peer has answered the opening, a few copies of the block may
    /// follow.
    pub(super) fn begin_data(&mut self) {
        if self.heard {
            self.spare = FIRST_BLOCK_AGAIN;
        }
    }

    /// Whether a packet may be sent again because the peer repeated one of its own.
    pub(super) fn spend_copy(&mut self) -> bool {
        if !self.proven {
            let left = self.spare.checked_sub(1);
            self.spare = left.unwrap_or(0);
            return left.is_some();
        }
        true
    }

    /// Counts an ACK of a block that was never sent. A peer that sends many of them is a forger that guesses the state
    /// of the transfer. Then the transfer ends.
    pub(super) async fn guessed(&mut self) -> Option<Outcome> {
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

    /// Whether the last packet is too recent for an answer.
    pub(super) fn too_soon_for_an_answer(&self) -> bool {
        self.now.saturating_duration_since(self.asked_at) < self.rto.round_trip().unwrap_or_default() / 2
    }

    /// When all answers to the copies on their way should have arrived, even if the round trip has grown.
    pub(super) fn copies_answered_by(&self) -> Instant {
        self.now + self.rto.timeout() * 2
    }

    /// When the answer is overdue to the last packet, or to the packets that are still out after the last answer.
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

    /// The outcome of a silent peer.
    pub(super) fn fell_silent(&self) -> Outcome {
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
