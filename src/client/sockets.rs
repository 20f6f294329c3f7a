//! The sockets of one client, which hear of a closed port.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    task::{Context, Poll},
};

use smol::Async;
use socket2::{Domain, Socket, Type};

/// Two sockets with one local port. A server answers from any port (its TID), so one socket receives from everywhere.
/// The other one is connected to the server's port: only a connected socket learns from ICMP that the port is closed.
/// It also receives the packets from that port.
#[derive(Debug)]
pub(crate) struct Sockets {
    any: Async<UdpSocket>,
    asking: Option<Async<UdpSocket>>,
}

impl Sockets {
    /// Sockets for requests to this server.
    pub(crate) fn new(server: SocketAddr) -> io::Result<Self> {
        let any: IpAddr = if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let any = bind((any, 0).into())?;
        // Without this socket, a closed port looks like silence.
        let asking = connected(any.get_ref().local_addr()?, server).ok();
        Ok(Self { any, asking })
    }

    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.any.get_ref().local_addr()
    }

    pub(crate) async fn send_to(&self, bytes: &[u8], to: SocketAddr) -> io::Result<()> {
        self.any.send_to(bytes, to).await.map(drop)
    }

    /// Sends a datagram, or drops it if the socket's buffer is full.
    pub(crate) fn send_or_drop(&self, bytes: &[u8], to: SocketAddr) {
        let _ = self.any.get_ref().send_to(bytes, to);
    }

    /// Receives a datagram, or an error of the network ([`is_refusal`]).
    #[cfg(feature = "probe")]
    pub(crate) async fn receive(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        futures_lite::future::poll_fn(|cx| self.poll_receive(buffer, cx)).await
    }

    pub(crate) fn poll_receive(
        &self,
        buffer: &mut [u8],
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<(usize, SocketAddr)>> {
        for socket in self.asking.iter().chain([&self.any]) {
            loop {
                match socket.get_ref().recv_from(buffer) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    received => return Poll::Ready(received),
                }
                match socket.poll_readable(cx) {
                    Poll::Ready(ready) => ready?,
                    Poll::Pending => break,
                }
            }
        }
        Poll::Pending
    }
}

/// Whether the server's machine says that the port is closed. Windows says so to every socket, as a reset.
pub(crate) fn is_refusal(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset)
}

/// A socket that shares its port with another socket of this process. On Linux the port must be chosen before the
/// socket allows sharing. Otherwise Linux may choose a port that the sockets of another client share.
fn bind(address: SocketAddr) -> io::Result<Async<UdpSocket>> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, None)?;
    #[cfg(target_os = "linux")]
    crate::socket::allow_fragments(&socket, address.is_ipv6())?;
    let is_chosen = address.port() != 0;
    let chooses_first = cfg!(any(target_os = "linux", target_os = "android"));
    if is_chosen || !chooses_first {
        share(&socket)?;
    }
    socket.bind(&address.into())?;
    if !is_chosen && chooses_first {
        share(&socket)?;
    }
    Async::new(socket.into())
}

#[cfg_attr(not(unix), allow(clippy::unnecessary_wraps))]
fn share(socket: &Socket) -> io::Result<()> {
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    // BSD systems have another option for this.
    #[cfg(all(
        unix,
        not(any(target_os = "linux", target_os = "android", target_os = "solaris", target_os = "illumos"))
    ))]
    socket.set_reuse_port(true)?;
    #[cfg(not(unix))]
    let _ = socket;
    Ok(())
}

/// A socket with the same local port that receives from this server alone.
fn connected(local: SocketAddr, server: SocketAddr) -> io::Result<Async<UdpSocket>> {
    let socket = bind(local)?;
    socket.get_ref().connect(server)?;
    Ok(socket)
}
