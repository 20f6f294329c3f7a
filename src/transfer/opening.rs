//! The first exchange: the OACK of a server, the RRQ or WRQ of a client.

use super::{Connection, Outcome, WaitEnd, Want};
use crate::{
    error::{ErrorCode, Refusal},
    options::{self, Agreed},
    packet::{Options, Packet, Request},
};

/// The server of an RRQ sends its OACK and waits for ACK 0.
pub(super) async fn offer(connection: &mut Connection, oack: Options) -> Result<(), Outcome> {
    exchange(connection, Packet::Oack(oack), |packet| matches!(packet, Packet::Ack(0)).then_some(())).await
}

/// The client of a WRQ sends its request and adopts what the server grants.
pub(super) async fn request_write(connection: &mut Connection, request: Request) -> Result<(), Outcome> {
    let answer = exchange(connection, Packet::Wrq(request.clone().into()), |packet| match packet {
        Packet::Ack(0) => Some(None),
        Packet::Oack(oack) => Some(Some(oack)),
        _ => None,
    });
    match answer.await? {
        Some(oack) => agree(connection, &request, &oack).await,
        None => Ok(()),
    }
}

/// The client of an RRQ sends its request and adopts what the server grants. Without an OACK, the first DATA is the
/// answer.
pub(super) async fn request_read(connection: &mut Connection, request: Request) -> Result<Option<Packet>, Outcome> {
    let answer = exchange(connection, Packet::Rrq(request.clone().into()), |packet| match packet {
        Packet::Oack(_) | Packet::Data { block: 1, .. } => Some(packet),
        _ => None,
    });
    match answer.await? {
        Packet::Oack(oack) => agree(connection, &request, &oack).await.map(|()| None),
        data => Ok(Some(data)),
    }
}

/// Sends a packet until its answer comes.
async fn exchange<T>(
    connection: &mut Connection,
    packet: Packet,
    answer: impl Fn(Packet) -> Option<T>,
) -> Result<T, Outcome> {
    connection.ask(packet.clone(), false).await;
    loop {
        match connection.wait(Want::Packet, true).await {
            WaitEnd::Packet(Packet::Error { code, message }) => {
                return Err(turned_down(&connection.agreed(), code, message));
            }
            WaitEnd::Packet(Packet::Ack(number)) if number != 0 => {
                if let Some(outcome) = connection.count_guess().await {
                    return Err(outcome);
                }
            }
            WaitEnd::Packet(reply) => {
                // The receiver handles DATA.
                let is_data = matches!(reply, Packet::Data { .. });
                if let Some(answer) = answer(reply) {
                    if !is_data {
                        connection.answered();
                    }
                    return Ok(answer);
                }
            }
            WaitEnd::Repeat | WaitEnd::Overdue => connection.ask(packet.clone(), true).await,
            WaitEnd::Silence => return Err(connection.silence_outcome()),
            WaitEnd::Chunk(_) | WaitEnd::End | WaitEnd::Ready => {}
            WaitEnd::Failed(refusal) => return Err(connection.fail(refusal).await),
        }
    }
}

async fn agree(connection: &mut Connection, request: &Request, oack: &Options) -> Result<(), Outcome> {
    match options::accept(&request.options, oack, request.mode) {
        Some(agreed) => {
            connection.agree(agreed);
            Ok(())
        }
        None => {
            let refusal = Refusal::bad_options().because(format_args!("the server granted {oack}"));
            Err(connection.refuse(refusal).await)
        }
    }
}

/// The outcome of an ERROR that answers the first packet. A client that asked for the size has it and wanted nothing
/// else, whatever the code says.
pub(super) fn turned_down(agreed: &Agreed, code: ErrorCode, message: String) -> Outcome {
    if agreed.tsize_asked() { Outcome::Probe } else { Outcome::Aborted { code, message } }
}

/// The outcome of an ERROR after the first answer and before any acknowledged block. ERROR 0 and ERROR 8 are no
/// complaint and count the same.
pub(super) fn aborted_early(agreed: &Agreed, code: ErrorCode, message: String) -> Outcome {
    let leaves = [ErrorCode::NOT_DEFINED, ErrorCode::OPTION_NEGOTIATION].contains(&code);
    if leaves { turned_down(agreed, code, message) } else { Outcome::Aborted { code, message } }
}
