//! The coroutine that sends DATA: the server of an RRQ, the client of a WRQ.

use std::{future::Future, time::Instant};

use super::{Connection, Opening, Outcome, WaitEnd, Want, opening, window::Window};
use crate::{
    error::{ErrorCode, Refusal},
    packet::Packet,
};

#[allow(clippy::manual_async_fn, reason = "an `async fn` has room for each of its arguments twice")]
pub(super) fn run(mut connection: Connection, opening: Opening) -> impl Future<Output = Outcome> {
    async move {
        let serves = matches!(opening, Opening::Answer(_));
        if let Err(outcome) = open(&mut connection, opening).await {
            return outcome;
        }
        connection.begin_data();
        let window = Window::new(&connection.agreed());
        let mut sender = Sender {
            connection: &mut connection,
            window,
            copies: Copies::default(),
            partial_acks: PartialAcks::No,
            paused: false,
            serves,
        };
        sender.run().await
    }
}

/// The boxes save memory: the opening is over soon and should take no room in the transfer after that.
async fn open(connection: &mut Connection, opening: Opening) -> Result<(), Outcome> {
    match opening {
        Opening::Answer(oack) if oack.is_empty() => Ok(()),
        Opening::Answer(oack) => Box::pin(opening::offer(connection, oack)).await,
        Opening::Ask(request) => Box::pin(opening::request_write(connection, request)).await,
    }
}

/// How often a whole window is sent again in a row without any progress.
const WHOLE_WINDOWS: u32 = 3;

struct Sender<'a> {
    connection: &'a mut Connection,
    window: Window,
    copies: Copies,
    partial_acks: PartialAcks,
    /// Whether the window waits until the meaning of the last ACK is known.
    paused: bool,
    /// Whether this side is the server of an RRQ.
    serves: bool,
}

/// Whether the client sends partial ACKs: ACKs that leave blocks of the window in flight.
///
/// By RFC 7440 section 4, such an ACK says that the next block is lost. A client that acknowledges every block does
/// not mean that. If the sender went back for each of its ACKs, it would send each window as often as the window has
/// blocks. So the first such ACK brings nothing until another one shows its meaning: an ACK that goes further, or the
/// same ACK again. If none comes within a round trip and some ms, the block is lost.
#[derive(Clone, Copy, PartialEq, Eq)]
enum PartialAcks {
    No,
    Once,
    /// Two such ACKs came in a row without a copy in between: the client acknowledges every block, or every few. From
    /// then on its silence means no more than that of other clients.
    Habit,
}

impl Sender<'_> {
    async fn run(&mut self) -> Outcome {
        loop {
            while !self.paused {
                let Some(block) = self.window.next(self.connection.now) else { break };
                self.connection.spend(1, block.payload.len());
                let packet = Packet::Data { block: block.number, payload: block.payload };
                self.connection.ask(packet, block.is_retransmit).await;
            }
            if let Some(outcome) = self.wait().await {
                return outcome;
            }
        }
    }

    async fn wait(&mut self) -> Option<Outcome> {
        let want = if self.window.wants_more() { Want::Chunk } else { Want::Packet };
        match self.connection.wait(want, self.window.has_in_flight()).await {
            WaitEnd::Packet(Packet::Ack(number)) => {
                if !self.on_ack(number) {
                    return self.connection.count_guess().await;
                }
            }
            WaitEnd::Packet(Packet::Error { code, message }) => return Some(self.on_error(code, message)),
            WaitEnd::Packet(_) | WaitEnd::Ready => {}
            WaitEnd::Repeat if self.connection.has_answered => {}
            WaitEnd::Repeat | WaitEnd::Overdue => self.retransmit(true),
            WaitEnd::Chunk(chunk) => self.window.fill(chunk),
            WaitEnd::End => self.window.finish(),
            WaitEnd::Failed(refusal) => return Some(Box::pin(self.connection.fail(refusal)).await),
            WaitEnd::Silence => return Some(Box::pin(self.on_silent_peer()).await),
        }
        self.window.is_complete().then_some(Outcome::Complete)
    }

    /// Handles an ACK. Returns whether its block was ever sent.
    fn on_ack(&mut self, number: u16) -> bool {
        let Some(acknowledged) = self.window.acknowledge(number) else { return self.window.is_old(number) };
        self.connection.has_answered = true;
        if acknowledged.blocks > 0 {
            let answers_the_copy = acknowledged.blocks == 1 && self.copies.are_of_the_first_block();
            // The client may have answered a copy, or only its own silence after it (Karn).
            let sent_at = acknowledged.sent_at.filter(|_| !self.copies.are_out());
            self.copies.progressed(self.connection, self.partial_acks == PartialAcks::Habit);
            self.connection.validate();
            self.connection.count_blocks(acknowledged.blocks, acknowledged.bytes);
            self.connection.acknowledged(sent_at);
            self.partial_acks = match self.partial_acks {
                PartialAcks::Habit => PartialAcks::Habit,
                // EDK2 and U-Boot answer a copy with an ACK of all repeated blocks, and no more. They wait for the
                // next window.
                _ if !acknowledged.is_partial || self.window.is_acked_up_to_the_copies() => PartialAcks::No,
                PartialAcks::No => PartialAcks::Once,
                PartialAcks::Once => PartialAcks::Habit,
            };
            self.paused = self.partial_acks == PartialAcks::Once;
            self.connection.loss_suspected = acknowledged.is_partial && self.partial_acks != PartialAcks::Habit;
            if answers_the_copy && self.connection.loss_suspected {
                // The client had nothing of the window, or has thrown away the blocks that came without this one.
                self.retransmit(false);
            }
        } else if self.window.has_in_flight()
            && self.copies.reports_loss(self.connection, self.window.windowsize())
            && self.connection.spend_copy()
        {
            self.retransmit(false);
        }
        true
    }

    /// Sends the whole window again, up to [`WHOLE_WINDOWS`] times. If that brings nothing, sends only its first block:
    /// a client that has left would get the whole window each time. While its answer is `overdue`, it gets the first
    /// block and the window in turns: a client that has the first block may wait for the others, and each copy of what
    /// it has may make it wait longer. Only the first block is sent if no DATA was ever acknowledged: a client waits
    /// for its whole first window before it answers, so that window went out already, and the address may be forged.
    /// If the packets of the peer do not pay for the window, it gets the first block, and the next time nothing: it has
    /// to repeat itself first.
    fn retransmit(&mut self, overdue: bool) {
        if !self.window.has_in_flight() {
            return;
        }
        let is_turn = self.copies.windows < WHOLE_WINDOWS || overdue && self.copies.first_was_last;
        let whole_again = self.connection.is_validated() && is_turn;
        let first_was_last = std::mem::replace(&mut self.copies.first_was_last, false);
        if whole_again && self.connection.can_spend(self.window.in_flight(), self.window.bytes_in_flight()) {
            self.copies.windows += 1;
            self.copies.add(self.connection, self.window.rewind());
        } else if !(whole_again && first_was_last) && self.connection.can_spend(1, self.window.bytes_of_first()) {
            self.copies.first_was_last = true;
            self.window.retransmit_first();
            self.copies.add(self.connection, 1);
        } else {
            self.connection.restart_timeout();
        }
        (self.connection.loss_suspected, self.paused) = (false, false);
        if self.partial_acks == PartialAcks::Once {
            self.partial_acks = PartialAcks::No;
        }
    }

    fn on_error(&mut self, code: ErrorCode, message: String) -> Outcome {
        // A client may leave with an ERROR when it has what it wants. An ERROR of a server that receives a file is a
        // failure.
        if !self.serves {
            return Outcome::Aborted { code, message };
        }
        if code == ErrorCode::NOT_DEFINED && self.may_have_all() {
            self.connection.count_blocks(self.window.in_flight(), self.window.bytes_in_flight());
            Outcome::Complete
        } else if self.window.has_begun() {
            Outcome::Aborted { code, message }
        } else if self.connection.has_answered {
            opening::aborted_early(&self.connection.agreed(), code, message)
        } else {
            opening::turned_down(&self.connection.agreed(), code, message)
        }
    }

    /// Whether the peer has acknowledged all blocks before the last, and the last one was sent. In a file of one block
    /// that is so with the first ACK and proves nothing, except for pxelinux, which leaves early.
    fn may_have_all(&self) -> bool {
        let last_is_in_flight = self.window.in_flight() <= 1 && self.connection.has_answered;
        last_is_in_flight && (self.is_closed_when_full() || self.window.is_all_sent() && self.window.has_begun())
    }

    /// Whether the full blocks sent so far hold the whole file. pxelinux leaves on the last full block of a file that
    /// is a multiple of the blksize.
    fn is_closed_when_full(&self) -> bool {
        let size = self.connection.agreed().tsize().filter(|_| self.serves);
        size.is_some_and(|size| self.window.has_sent(size))
    }

    async fn on_silent_peer(&mut self) -> Outcome {
        if !self.window.has_in_flight() && !self.connection.is_replaced() {
            return self.connection.fail(Refusal::internal().because("the source gave no data for too long")).await;
        }
        let all_sent = self.window.is_all_sent() || self.is_closed_when_full();
        if self.connection.has_answered && all_sent {
            Outcome::ProbablyComplete
        } else {
            self.connection.silence_outcome()
        }
    }
}

/// Tells which repeated ACKs report a loss.
///
/// A client repeats its last ACK when it misses a block, and the sender answers by sending again. But a block that
/// went out twice brings two ACKs as well. Answering the second one would double the traffic for the rest of the file:
/// the Sorcerer's Apprentice. So the sender ignores as many ACKs as its own copies explain. It believes in a loss
/// once, until there is progress, or until a round trip and 50 ms have passed. With or without progress, ACKs bring a
/// window again at most once in a round trip and in 5 ms: otherwise a client that moves on by one block and repeats
/// its ACK would get a window each time.
#[derive(Default)]
struct Copies {
    /// Blocks of the current window that were sent again.
    blocks: u64,
    /// How often the window was sent again whole.
    windows: u32,
    /// Whether the last copy was one of the first block alone.
    first_was_last: bool,
    /// How many ACKs the copies of the previous window may still bring, and until when.
    explained: Option<(u64, Instant)>,
    /// When blocks were last sent again.
    sent_at: Option<Instant>,
}

impl Copies {
    fn add(&mut self, connection: &Connection, blocks: u64) {
        self.blocks += blocks;
        self.sent_at = Some(connection.now);
    }

    fn are_out(&self) -> bool {
        self.blocks > 0
    }

    fn are_of_the_first_block(&self) -> bool {
        self.are_out() && self.windows == 0
    }

    fn progressed(&mut self, connection: &Connection, acks_every_block: bool) {
        // EDK2 answers each block of a copy that it did not need; tuffet and others answer only the last one. A client
        // that acknowledges every block does so while the answers to the copies are still to come.
        if self.are_out() {
            self.explained = Some((std::mem::take(&mut self.blocks), connection.copies_answered_by()));
            self.windows = 0;
        } else if !acks_every_block {
            self.explained = None;
        }
    }

    fn reports_loss(&mut self, connection: &Connection, windowsize: usize) -> bool {
        if let Some((count, _)) = self.explained.as_mut().filter(|(count, until)| *count > 0 && connection.now < *until)
        {
            *count -= 1;
            return false;
        }
        if self.are_out() {
            return connection.copy_is_due();
        }
        // In lock-step, an ACK that comes twice at once was doubled on the way. With a window, its first block may be
        // lost.
        if windowsize > 1 { connection.rewind_is_due(self.sent_at) } else { !connection.is_too_soon_for_an_answer() }
    }
}
