//! There is no service manager here.

use std::{io, net::UdpSocket, time::Duration};

use tuffet::Handle;

pub fn sockets() -> super::Result<Vec<UdpSocket>> {
    Ok(Vec::new())
}

pub fn ready() {}

pub fn stopping(_: usize, _: Duration) {}

pub fn watch(_: Handle) -> io::Result<()> {
    Ok(())
}
