//! How sockets are bound, and what is asked of them.

use std::{
    cell::OnceCell,
    io::{self, ErrorKind as Kind},
    net::{SocketAddr, UdpSocket},
    sync::Arc,
};

use socket2::{Domain, Protocol, Socket, Type};

use super::Port;
#[cfg(target_os = "linux")]
use super::linux;

/// A storm of requests waits here while the server is busy. The kernel doubles it, and may grant less.
const BUFFER: usize = 4 << 20;
/// A storm of connections waits here. The system may grant fewer.
#[cfg(feature = "web")]
const BACKLOG: i32 = 4096;

/// How a socket is bound.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Binding<'a> {
    pub(crate) address: SocketAddr,
    pub(crate) share: Share,
    pub(crate) role: Role<'a>,
}

/// What a socket is for, be it bound here or elsewhere.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Role<'a> {
    /// Requests come in by it, of which the interface is of interest.
    pub(crate) listens: bool,
    /// Transfers are served from it: what ICMP says of their datagrams is of interest.
    pub(crate) serves: bool,
    /// The only interface that it sends and receives by.
    pub(crate) interface: Option<&'a str>,
    /// Use the fast way where there is one.
    pub(crate) batched: bool,
}

/// Whether several sockets have the address, one for each shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Share {
    No,
    /// The first of them: an address that anybody else has is refused.
    First,
    /// One of the others.
    Join,
}

impl Port {
    pub(crate) fn bind(binding: Binding<'_>) -> io::Result<Self> {
        let Binding { address, share, role } = binding;
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        #[cfg(unix)]
        if share == Share::Join {
            socket.set_reuse_port(true)?;
        }
        if let Some(interface) = role.interface {
            bind_to(&socket, interface)?;
        }
        let bound = socket.bind(&address.into());
        let awaited = bound.as_ref().is_err_and(|error| error.kind() == Kind::AddrNotAvailable);
        if awaited && !address.ip().is_unspecified() {
            await_address(&socket, address, bound)?;
        } else {
            bound?;
        }
        #[cfg(unix)]
        if share == Share::First {
            socket.set_reuse_port(true)?;
        }
        #[cfg(not(unix))]
        let _ = share;
        Ok(Self { awaited, ..Self::prepare(socket, role)? })
    }

    /// Takes a socket that somebody else has bound.
    pub(crate) fn adopt(socket: UdpSocket, role: Role<'_>) -> io::Result<Self> {
        let socket = Socket::from(socket);
        if let Some(interface) = role.interface {
            bind_to(&socket, interface)?;
        }
        Self::prepare(socket, role)
    }

    fn prepare(socket: Socket, role: Role<'_>) -> io::Result<Self> {
        let Role { listens, serves, batched, .. } = role;
        // Both are wishes: a smaller buffer and a missing address are borne.
        let _ = socket.set_recv_buffer_size(BUFFER);
        let _ = socket.set_send_buffer_size(BUFFER);
        socket.set_nonblocking(true)?;
        let socket = UdpSocket::from(socket);
        let local = socket.local_addr()?;
        #[cfg(target_os = "linux")]
        let batched = {
            linux::enlarge(&socket, BUFFER);
            linux::allow_fragments(&socket, local.is_ipv6())?;
            if serves {
                linux::tell_errors(&socket, local.is_ipv6())?;
            }
            // Told with each datagram, which costs: a socket of a single address gets them at no other.
            let tells = listens || local.ip().is_unspecified();
            batched && (!tells || linux::tell_local_address(&socket, local.is_ipv6()).is_ok())
        };
        #[cfg(not(target_os = "linux"))]
        let (_, _, _, batched) = (listens, serves, batched, false);
        Ok(Self {
            socket: Arc::new(socket),
            waiting: OnceCell::new(),
            local,
            batched,
            awaited: false,
            #[cfg(target_os = "linux")]
            narrow: linux::Narrow::default(),
        })
    }
}

/// A socket for connections, as [`Port::bind`] has those for datagrams.
#[cfg(feature = "web")]
pub(crate) fn listen(address: SocketAddr, interface: Option<&str>) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // A server that is started anew need not wait for the connections of the one before. Elsewhere it means more.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    if let Some(interface) = interface {
        bind_to(&socket, interface)?;
    }
    let bound = socket.bind(&address.into());
    let awaited = bound.as_ref().is_err_and(|error| error.kind() == Kind::AddrNotAvailable);
    if awaited && !address.ip().is_unspecified() {
        await_address(&socket, address, bound)?;
    } else {
        bound?;
    }
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn bind_to(socket: &Socket, interface: &str) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        let name = interface.as_bytes();
        // To bind it again needs a privilege.
        if socket.device()?.is_some_and(|bound| bound == name) {
            return Ok(());
        }
        socket.bind_device(Some(name)).map_err(|error| {
            let why = match error.raw_os_error() {
                Some(libc::ENODEV) => "there is none".to_owned(),
                Some(libc::EPERM) => format!("{error}; Linux before 5.7 needs CAP_NET_RAW for that"),
                _ => error.to_string(),
            };
            io::Error::other(format!("interface {interface}: {why}"))
        })
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = socket;
        Err(io::Error::other(format!("interface {interface}: only on Linux can sockets be bound to one")))
    }
}

/// Binds an address that no interface has yet, where the system can do that. `bound`: what it said before.
fn await_address(socket: &Socket, address: SocketAddr, bound: io::Result<()>) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        match address {
            SocketAddr::V4(_) => socket.set_freebind_v4(true),
            SocketAddr::V6(_) => socket.set_freebind_v6(true),
        }
        .and_then(|()| socket.bind(&address.into()))
        .or(bound)
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = (socket, address);
        bound
    }
}
