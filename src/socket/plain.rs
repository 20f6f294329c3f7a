//! One datagram a call, with nothing but the standard library: for every system, and where the fast way is refused.

use std::{io, net::UdpSocket};

use super::{Envelope, Inbox, LARGEST, Outgoing};

pub(super) fn receive(socket: &UdpSocket, inbox: &mut Inbox) -> io::Result<()> {
    let (len, peer) = socket.recv_from(&mut inbox.buffer[..LARGEST])?;
    inbox.envelopes.push((Envelope::from(peer), len));
    Ok(())
}

pub(super) fn send(socket: &UdpSocket, datagram: &Outgoing) -> io::Result<usize> {
    let bytes = [&datagram.header, &datagram.payload[..]].concat();
    socket.send_to(&bytes, datagram.to).map(|_| 1)
}
