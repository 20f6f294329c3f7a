//! The coroutine that receives DATA: the server of a WRQ, the client of an RRQ.

use std::{collections::VecDeque, future::Future};

use bytes::Bytes;

use super::{Connection, Opening, Outcome, WaitEnd, Want, opening};
use crate::{
    error::{ErrorCode, Refusal},
    netascii,
    packet::{Mode, Packet},
};

/// The last block number before the rollover.
const LAST_NUMBER: u64 = u16::MAX as u64;

#[allow(clippy::manual_async_fn, reason = "an `async fn` has room for each of its arguments twice")]
pub(super) fn run(mut connection: Connection, opening: Opening) -> impl Future<Output = Outcome> {
    async move {
        let (reply, early) = match open(&mut connection, opening).await {
            Ok(opened) => opened,
            Err(outcome) => return outcome,
        };
        let text = (connection.agreed().mode() == Mode::Netascii).then(netascii::Decoder::default);
        let backlog = early.into_iter().collect();
        let mut receiver =
            Receiver { connection: &mut connection, text, received: 0, acked: 0, gap_told: false, backlog };
        match receiver.run(reply).await {
            Ok(never) => match never {},
            Err(outcome) => outcome,
        }
    }
}

/// The reply to the peer's first packet, or the DATA that answered the request at once.
async fn open(connection: &mut Connection, opening: Opening) -> Flow<(Option<Packet>, Option<Packet>)> {
    Ok(match opening {
        Opening::Answer(oack) if oack.is_empty() => (Some(Packet::Ack(0)), None),
        Opening::Answer(oack) => (Some(Packet::Oack(oack)), None),
        Opening::Ask(request) => match Box::pin(opening::request_read(connection, request)).await? {
            None => (Some(Packet::Ack(0)), None),
            early => (None, early),
        },
    })
}

struct Receiver<'a> {
    connection: &'a mut Connection,
    text: Option<netascii::Decoder>,
    /// Index of the last block received in order. Indices count from 1 and do not roll over.
    received: u64,
    /// Index of the last block acknowledged.
    acked: u64,
    /// Whether an ACK has reported the gap after `received` to the peer.
    gap_told: bool,
    /// DATA that came while the sink was busy; never more than a window.
    backlog: VecDeque<Packet>,
}

/// The coroutine goes on until the `Err`, which is the outcome.
type Flow<T = ()> = Result<T, Outcome>;

impl Receiver<'_> {
    async fn run(&mut self, mut reply: Option<Packet>) -> Flow<std::convert::Infallible> {
        if let Some(reply) = &reply {
            self.connection.ask(reply.clone(), false).await;
        }
        loop {
            let ended = match self.backlog.pop_front() {
                Some(packet) => WaitEnd::Packet(packet),
                None => self.connection.wait(Want::Packet, true).await,
            };
            match ended {
                WaitEnd::Packet(Packet::Data { block, payload }) => self.on_data(block, payload).await?,
                WaitEnd::Packet(Packet::Error { code, message }) => return Err(Outcome::Aborted { code, message }),
                WaitEnd::Repeat | WaitEnd::Overdue if self.received == 0 => {
                    if let Some(reply) = &mut reply {
                        self.connection.ask(reply.clone(), true).await;
                    }
                }
                WaitEnd::Overdue => self.acknowledge(true).await,
                WaitEnd::Silence => return Err(self.connection.silence_outcome()),
                WaitEnd::Failed(refusal) => return Err(Box::pin(self.give_up(refusal)).await),
                WaitEnd::Packet(_) | WaitEnd::Repeat | WaitEnd::Chunk(_) | WaitEnd::End | WaitEnd::Ready => {}
            }
        }
    }

    async fn on_data(&mut self, block: u16, payload: Bytes) -> Flow {
        self.connection.validate();
        let mut agreed = self.connection.agreed();
        // Some senders roll over to 1 unasked. In lock-step no other block 1 can follow 65535.
        if (self.received, block, agreed.windowsize()) == (LAST_NUMBER, 1, 1) {
            agreed = agreed.rolled_to_one();
            self.connection.agree(agreed);
        }
        if payload.len() > agreed.blksize().into() {
            let refusal = Refusal::bad_request().because("DATA longer than the blksize");
            return Err(Box::pin(self.connection.refuse(refusal)).await);
        }
        match agreed.rollover().distance(self.received, block) {
            1 => self.on_next(payload).await,
            ahead if (2..=u64::from(agreed.windowsize())).contains(&ahead) => {
                if !std::mem::replace(&mut self.gap_told, true) {
                    self.acknowledge(true).await;
                }
                Ok(())
            }
            // Perhaps our last ACK was lost, or the rest of the window. Each copy of this block gets an ACK, older
            // blocks do not.
            0 if self.received > 0 => {
                self.acknowledge(true).await;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    async fn on_next(&mut self, payload: Bytes) -> Flow {
        let agreed = self.connection.agreed();
        self.received += 1;
        self.gap_told = false;
        self.connection.answered();
        self.connection.count_blocks(1, payload.len());
        let is_last = payload.len() < agreed.blksize().into();
        let chunk = match &mut self.text {
            Some(decoder) => decoder.decode(&payload),
            None => payload,
        };
        self.push(chunk).await;
        if is_last {
            if let Some(rest) = self.text.as_mut().map(netascii::Decoder::finish) {
                self.push(rest).await;
            }
            self.sink(Want::Commit).await?;
            self.acknowledge(false).await;
            return Err(Outcome::Complete);
        }
        if self.received - self.acked >= agreed.windowsize().into() {
            self.sink(Want::Room).await?;
            self.acknowledge(false).await;
        }
        Ok(())
    }

    async fn push(&mut self, chunk: Bytes) {
        if !chunk.is_empty() {
            self.connection.push(chunk).await;
        }
    }

    /// Waits for the sink. The peer may repeat packets meanwhile. Only new DATA within the blksize is kept.
    async fn sink(&mut self, want: Want) -> Flow {
        loop {
            match self.connection.wait(want, false).await {
                WaitEnd::Ready => return Ok(()),
                WaitEnd::Failed(refusal) => return Err(Box::pin(self.give_up(refusal)).await),
                WaitEnd::Packet(Packet::Error { code, message }) => return Err(Outcome::Aborted { code, message }),
                WaitEnd::Packet(Packet::Data { block, payload }) => {
                    let agreed = self.connection.agreed();
                    let window = agreed.windowsize().into();
                    let ahead = agreed.rollover().distance(self.received, block);
                    let fits = payload.len() <= agreed.blksize().into();
                    if fits && (1..=window).contains(&ahead) && self.backlog.len() < window as usize {
                        self.backlog.push_back(Packet::Data { block, payload });
                    }
                }
                WaitEnd::Silence if self.connection.is_replaced() => return Err(self.connection.silence_outcome()),
                WaitEnd::Silence => {
                    let refusal = Refusal::internal().because("the sink took too long");
                    return Err(Box::pin(self.give_up(refusal)).await);
                }
                WaitEnd::Packet(_) | WaitEnd::Repeat | WaitEnd::Overdue | WaitEnd::Chunk(_) | WaitEnd::End => {}
            }
        }
    }

    async fn acknowledge(&mut self, again: bool) {
        self.acked = self.received;
        let number = self.connection.agreed().rollover().number(self.received);
        self.connection.ask(Packet::Ack(number), again).await;
    }

    /// If the sink's refusal has a code, the transfer is refused; without one, the sink has failed.
    async fn give_up(&mut self, refusal: Refusal) -> Outcome {
        if refusal.code() == ErrorCode::NOT_DEFINED {
            self.connection.fail(refusal).await
        } else {
            self.connection.refuse(refusal).await
        }
    }
}
