//! There is no service manager here, or this was built without.

use std::{io, net::UdpSocket, time::Duration};

use tuffet::Handle;

pub fn sockets() -> super::Result<Vec<UdpSocket>> {
    Ok(Vec::new())
}

pub fn ready() {}

#[cfg(unix)]
pub fn reload(work: impl FnOnce()) {
    work();
}

pub fn stopping(_: usize, _: Duration) {}

pub fn watch(_: Handle) -> io::Result<()> {
    Ok(())
}
