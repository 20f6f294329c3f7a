//! One datagram in a call, by the standard library alone: for every system, and where the batched calls are refused.

use std::{io, net::UdpSocket};

use super::{Envelope, Inbox, LARGEST, Outgoing};

pub(super) fn receive(socket: &UdpSocket, inbox: &mut Inbox) -> io::Result<()> {
    let (len, peer) = socket.recv_from(&mut inbox.buffer[..LARGEST])?;
    inbox.envelopes.push((Envelope::new(peer), len));
    Ok(())
}

pub(super) fn send(socket: &UdpSocket, datagram: &Outgoing) -> io::Result<usize> {
    let bytes = [&datagram.header, &datagram.payload[..]].concat();
    socket.send_to(&bytes, datagram.to).map(|_| 1)
}
