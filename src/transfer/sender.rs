//! The coroutine that sends DATA: the server of an RRQ, the client of a WRQ.

use std::time::Instant;

use super::{Heard, Line, Opening, Outcome, Want, opening, window::Window};
use crate::{
    error::{ErrorCode, Refusal},
    packet::Packet,
};

pub(super) async fn run(mut line: Line, opening: Opening) -> Outcome {
    let serves = matches!(opening, Opening::Answer(_));
    // In boxes: what is over soon should not take room in the transfer for as long as that lasts.
    let opened = match opening {
        Opening::Answer(oack) if oack.is_empty() => Ok(()),
        Opening::Answer(oack) => Box::pin(opening::offer(&mut line, oack)).await,
        Opening::Ask(request) => Box::pin(opening::request_write(&mut line, request)).await,
    };
    match opened {
        Ok(()) => {
            let window = Window::new(&line.agreed());
            let mut sender = Sender { line, window, duplicates: Duplicates::default(), serves };
            sender.run().await
        }
        Err(outcome) => outcome,
    }
}

struct Sender {
    line: Line,
    window: Window,
    duplicates: Duplicates,
    /// Whether the peer is a client that reads.
    serves: bool,
}

impl Sender {
    async fn run(&mut self) -> Outcome {
        loop {
            while let Some(block) = self.window.next() {
                let packet = Packet::Data { block: block.number, payload: block.payload };
                self.line.ask(packet, block.again).await;
            }
            if let Some(outcome) = self.wait().await {
                return outcome;
            }
        }
    }

    async fn wait(&mut self) -> Option<Outcome> {
        let want = if self.window.wants_more() { Want::Chunk } else { Want::Packet };
        match self.line.wait(want, self.window.is_out()).await {
            Heard::Packet(Packet::Ack(number)) => self.on_ack(number),
            Heard::Packet(Packet::Error { code, message }) => return Some(self.on_error(code, message)),
            Heard::Packet(_) | Heard::Ready => {}
            Heard::Repeat if self.line.heard => {}
            Heard::Repeat | Heard::Overdue => self.send_again(),
            Heard::Chunk(chunk) => self.window.fill(chunk),
            Heard::End => self.window.finish(),
            Heard::Failed(refusal) => return Some(Box::pin(self.line.fail(refusal)).await),
            Heard::Silence => return Some(Box::pin(self.on_silence()).await),
        }
        self.window.is_complete().then_some(Outcome::Complete)
    }

    fn on_ack(&mut self, number: u16) {
        let Some(acknowledged) = self.window.acknowledge(number) else { return };
        self.line.heard = true;
        if acknowledged.blocks > 0 {
            self.duplicates.progressed(&self.line, self.window.windowsize());
            self.line.moved(acknowledged.bytes);
            self.line.answered();
            // An ACK inside the window says that the rest of it is lost (RFC 7440 section 4). But one of all that was
            // repeated, and no more, is how EDK2 and U-Boot answer a copy: to rewind at it would repeat the next
            // blocks as well, and the next, to the end of the file.
            if !self.window.is_acked_up_to_the_copies() {
                self.send_again();
            }
        } else if self.duplicates.is_report(&self.line, self.window.windowsize()) {
            self.send_again();
        }
    }

    fn send_again(&mut self) {
        if self.window.is_out() {
            self.window.rewind();
            self.duplicates.copies += 1;
        }
    }

    fn on_error(&mut self, code: ErrorCode, message: String) -> Outcome {
        // A client may leave with an ERROR when it has what it wants; a server that is given a file means it.
        if !self.serves {
            return Outcome::Aborted { code, message };
        }
        if code == ErrorCode::NOT_DEFINED && self.has_sent_all() && self.line.heard {
            self.line.moved(self.window.bytes_out());
            Outcome::Complete
        } else if self.window.has_begun() {
            Outcome::Aborted { code, message }
        } else {
            opening::aborted_early(&self.line.agreed(), code, message)
        }
    }

    async fn on_silence(&mut self) -> Outcome {
        if !self.window.is_out() {
            return self.line.fail(Refusal::internal().because("the source had no chunk for too long")).await;
        }
        if self.line.heard && self.has_sent_all() { Outcome::ProbablyComplete } else { Outcome::TimedOut }
    }

    /// pxelinux leaves on the last full block of a file that is a multiple of the blksize.
    fn has_sent_all(&self) -> bool {
        let size = self.line.agreed().tsize().filter(|_| self.serves);
        self.window.is_all_sent() || size.is_some_and(|size| self.window.has_sent(size))
    }
}

/// Which ACKs that bring nothing new are a report of loss.
///
/// A client repeats its last ACK when it misses a block, and is answered by sending again. But a block that went out
/// twice brings two ACKs as well, and to answer the second one would double the traffic for the rest of the file: the
/// Sorcerer's Apprentice. So as many ACKs as our own copies explain are let pass, and a loss is believed once, until
/// there is progress or a round trip has passed.
#[derive(Default)]
struct Duplicates {
    /// Times that the window on its way was sent again.
    copies: u32,
    /// ACKs that copies of the window before it may still bring, and until when.
    explained: Option<(u32, Instant)>,
}

impl Duplicates {
    fn progressed(&mut self, line: &Line, windowsize: usize) {
        let copies = std::mem::take(&mut self.copies);
        // EDK2 answers each block of a copy that it did not need, tuffet and others the last one only.
        self.explained = (copies > 0).then(|| (copies.saturating_mul(windowsize as u32), line.copies_answered_by()));
    }

    fn is_report(&mut self, line: &Line, windowsize: usize) -> bool {
        if let Some((count, until)) = &mut self.explained
            && *count > 0
            && line.now < *until
        {
            *count -= 1;
            return false;
        }
        if self.copies > 0 {
            return line.round_trip_passed();
        }
        // In lock-step an ACK that comes at once, twice, was doubled on the way; with a window it may be the first
        // block of it that was lost.
        windowsize > 1 || !line.too_soon_for_an_answer()
    }
}
