//! The coroutine that sends DATA: the server of an RRQ, the client of a WRQ.

use std::{future::Future, time::Instant};

use super::{
    Connection, Opening, Outcome, WaitEnd, Want, opening,
    window::{Acknowledged, CopyOf, Window},
};
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
            partial_acks: PartialAcks::Unknown,
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

/// The meaning of a client's partial ACKs: those that leave blocks of the window in flight.
///
/// By RFC 7440 section 4, such an ACK says that the next block is lost. A client that acknowledges every block does
/// not mean that. If the sender went back for each of its ACKs, it would send each window as often as the window has
/// blocks.
#[derive(Clone, Copy, PartialEq, Eq)]
enum PartialAcks {
    /// Such an ACK brings nothing until another one shows its meaning: an ACK that goes further, or the same ACK again.
    /// If none comes within a round trip and some ms, the block is lost.
    Unknown,
    /// One of them acknowledged several blocks at once. The next block is lost.
    Gap,
    /// Two of them came in a row without a copy in between: the client acknowledges every block, or every few. From
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
            WaitEnd::Overdue if self.paused => self.go_back(),
            WaitEnd::Repeat | WaitEnd::Overdue => self.retransmit(!self.connection.loss_suspected),
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
            // An answer to single blocks also shows what the client lacks.
            let is_clear = self.partial_acks == PartialAcks::Gap || self.copies.are_single_blocks();
            self.copies.progressed(self.connection, self.partial_acks == PartialAcks::Habit);
            self.connection.validate();
            self.connection.count_blocks(acknowledged.blocks, acknowledged.bytes);
            self.connection.acknowledged(acknowledged.sent_at);
            self.on_partial_ack(&acknowledged, is_clear);
        } else if self.window.has_in_flight()
            && self.copies.reports_loss(self.connection, &self.window)
            && self.connection.spend_copy()
        {
            self.retransmit(false);
        }
        true
    }

    /// Finds out what an ACK means for the blocks that it leaves in flight, if it leaves any. `is_clear`: it speaks of
    /// a gap.
    fn on_partial_ack(&mut self, acknowledged: &Acknowledged, is_clear: bool) {
        // EDK2 and U-Boot answer a copy with an ACK of all repeated blocks, and no more. They wait for the next window.
        let is_partial = acknowledged.is_partial && self.partial_acks != PartialAcks::Habit;
        if !is_partial || self.window.is_acked_up_to_the_copies() {
            (self.connection.loss_suspected, self.paused) = (is_partial, false);
            return;
        }
        if is_clear && self.copies.rewind_is_due(self.connection) {
            return self.go_back();
        }
        if acknowledged.sent_at.is_some() {
            self.partial_acks = match self.partial_acks {
                _ if self.paused => PartialAcks::Habit,
                PartialAcks::Unknown if acknowledged.blocks > 1 => PartialAcks::Gap,
                known => known,
            };
        }
        self.paused = self.partial_acks != PartialAcks::Habit;
        self.connection.loss_suspected = self.paused;
    }

    /// Sends the window again from the block that the client has reported as lost.
    fn go_back(&mut self) {
        if self.can_spend(CopyOf::Window) {
            if self.partial_acks != PartialAcks::Gap {
                // The client may have had no gap. Then it answers each of these blocks.
                self.copies.blocks += self.window.in_flight();
            }
            self.copies.rewound_at = Some(self.connection.now);
            self.window.go_back();
        } else {
            self.connection.restart_timeout();
        }
        (self.connection.loss_suspected, self.paused) = (false, false);
    }

    /// Sends blocks again that may be lost.
    ///
    /// If the answer is `overdue`, the window and its ends go out in turns. The ends make most clients report what they
    /// have: they lack the last block, or it shows them a gap, or they have it, as they have the first one. A client
    /// that acknowledges every block has reported already, and gets the window. An ACK that the client repeats brings
    /// the window, and without progress its first block. If the packets of the peer do not pay for a window, nothing is
    /// sent in its turn: each copy may restart the client's timeout.
    ///
    /// Only single blocks are sent if no DATA was ever acknowledged: a client waits for its whole first window before
    /// it answers, so that window went out already, and the address may be forged.
    fn retransmit(&mut self, overdue: bool) {
        if !self.window.has_in_flight() {
            return;
        }
        let tells_all = self.partial_acks == PartialAcks::Habit;
        let copy = match (self.copies.last, overdue) {
            (None, true) if !self.connection.is_validated() => CopyOf::Last,
            _ if !self.connection.is_validated() => CopyOf::First,
            (None, true) if self.can_spend(CopyOf::Window) => CopyOf::Window,
            (Some(CopyOf::Window), true) if tells_all && self.can_spend(CopyOf::Window) => CopyOf::Window,
            (None | Some(CopyOf::Window), true) => CopyOf::Ends,
            (None, false) | (Some(CopyOf::First), true) | (Some(CopyOf::Last | CopyOf::Ends), _) => CopyOf::Window,
            (Some(CopyOf::First | CopyOf::Window), false) => CopyOf::First,
        };
        self.copies.last = Some(copy);
        if self.can_spend(copy) {
            self.copies.blocks += self.window.size(copy).0;
            if copy == CopyOf::Window {
                self.copies.rewound_at = Some(self.connection.now);
            }
            self.window.send_again(copy);
        } else {
            self.connection.restart_timeout();
        }
        (self.connection.loss_suspected, self.paused) = (false, false);
    }

    fn can_spend(&self, copy: CopyOf) -> bool {
        let (blocks, bytes) = self.window.size(copy);
        self.connection.can_spend(blocks, bytes)
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
    /// The last copy of the current window.
    last: Option<CopyOf>,
    /// How many ACKs the copies of the previous window may still bring, and until when.
    explained: Option<(u64, Instant)>,
    /// When a whole window was last sent again.
    rewound_at: Option<Instant>,
}

impl Copies {
    fn are_out(&self) -> bool {
        self.blocks > 0
    }

    fn are_single_blocks(&self) -> bool {
        self.last.is_some_and(|copy| copy != CopyOf::Window)
    }

    fn rewind_is_due(&self, connection: &Connection) -> bool {
        connection.rewind_is_due(self.rewound_at)
    }

    fn progressed(&mut self, connection: &Connection, acks_every_block: bool) {
        self.last = None;
        // EDK2 answers each block of a copy that it did not need; tuffet and others answer only the last one. A client
        // that acknowledges every block does so while the answers to the copies are still to come.
        if self.are_out() {
            self.explained = Some((std::mem::take(&mut self.blocks), connection.copies_answered_by()));
        } else if !acks_every_block {
            self.explained = None;
        }
    }

    fn reports_loss(&mut self, connection: &mut Connection, window: &Window) -> bool {
        // This answers the ends of the window, unless they are the window.
        if matches!(self.last, Some(CopyOf::Last | CopyOf::Ends)) && window.in_flight() > 1 {
            return !connection.is_too_soon_for_an_answer();
        }
        if let Some((count, _)) = self.explained.as_mut().filter(|(count, until)| *count > 0 && connection.now < *until)
        {
            *count -= 1;
            return false;
        }
        if self.are_out() {
            return connection.copy_is_due();
        }
        // In lock-step, an ACK that comes twice at once was doubled on the way.
        if window.windowsize() == 1 {
            return !connection.is_too_soon_for_an_answer();
        }
        // The first block of the window may be lost, or the ACK answers the window before.
        connection.loss_suspected |= connection.has_progressed_since(self.rewound_at);
        self.rewind_is_due(connection)
    }
}
