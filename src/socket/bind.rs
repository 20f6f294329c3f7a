//! Binds sockets and sets their options.

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

/// The buffer for a storm of requests while the server is busy, in bytes. The kernel doubles it, and may grant less.
const BUFFER: usize = 4 << 20;
/// The queue for a storm of connections. The system may grant fewer.
#[cfg(any(feature = "status", feature = "web"))]
const BACKLOG: i32 = 4096;

/// How a socket is bound.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Binding<'a> {
    pub(crate) address: SocketAddr,
    pub(crate) share: Share,
    pub(crate) role: Role<'a>,
}

/// The purpose of a socket, whether it is bound here or elsewhere.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Role<'a> {
    /// The socket receives requests, and the interface of each matters.
    pub(crate) listens: bool,
    /// The socket serves transfers, so ICMP errors about their datagrams matter.
    pub(crate) serves: bool,
    /// The only interface that the socket uses.
    pub(crate) interface: Option<&'a str>,
    /// Whether to use the batched calls of the system, if it has them.
    pub(crate) batched: bool,
}

/// Whether several sockets have the same address, one for each shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Share {
    No,
    /// The first of several: binding fails if another program has the address.
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
        let awaited = bind_to_address(&socket, address)?;
        #[cfg(unix)]
        if share == Share::First {
            socket.set_reuse_port(true)?;
        }
        #[cfg(not(unix))]
        let _ = share;
        Ok(Self { awaited, ..Self::prepare(socket, role)? })
    }

    /// Takes a socket that was bound elsewhere.
    pub(crate) fn adopt(socket: UdpSocket, role: Role<'_>) -> io::Result<Self> {
        let socket = Socket::from(socket);
        if let Some(interface) = role.interface {
            bind_to(&socket, interface)?;
        }
        Self::prepare(socket, role)
    }

    fn prepare(socket: Socket, role: Role<'_>) -> io::Result<Self> {
        let Role { listens, serves, batched, .. } = role;
        // A failure of either call does no harm: a smaller buffer is good enough.
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
                linux::enable_error_queue(&socket, local.is_ipv6())?;
            }
            // The system reports the address with each datagram, at some cost. A socket of a single address does not
            // need it.
            let tells = listens || local.ip().is_unspecified();
            batched
                && linux::has_batches(&socket)
                && (!tells || linux::enable_packet_info(&socket, local.is_ipv6()).is_ok())
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

/// Binds the socket, also to an address that no interface has yet. Returns whether the address is still missing.
fn bind_to_address(socket: &Socket, address: SocketAddr) -> io::Result<bool> {
    let bound = socket.bind(&address.into());
    let awaited = bound.as_ref().is_err_and(|error| error.kind() == Kind::AddrNotAvailable);
    if awaited && !address.ip().is_unspecified() {
        await_address(socket, address, bound)?;
    } else {
        bound?;
    }
    Ok(awaited)
}

/// A listening TCP socket, with the options of [`Port::bind`]. `only_v6`: an IPv6 socket serves no IPv4 client.
#[cfg(any(feature = "status", feature = "web"))]
pub(crate) fn listen(address: SocketAddr, interface: Option<&str>, only_v6: bool) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(only_v6)?;
    }
    // A restarted server need not wait for the connections of the previous one. On other systems the option means
    // more.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    if let Some(interface) = interface {
        bind_to(&socket, interface)?;
    }
    bind_to_address(&socket, address)?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn bind_to(socket: &Socket, interface: &str) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        let name = interface.as_bytes();
        // Binding a device that is already bound needs a privilege.
        if socket.device()?.is_some_and(|bound| bound == name) {
            return Ok(());
        }
        socket.bind_device(Some(name)).map_err(|error| {
            let why = match error.raw_os_error() {
                Some(libc::ENODEV) => "there is no such interface".to_owned(),
                Some(libc::EPERM) => format!("{error}; Linux before 5.7 needs CAP_NET_RAW for that"),
                _ => error.to_string(),
            };
            io::Error::other(format!("interface {interface}: {why}"))
        })
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = socket;
        Err(io::Error::other(format!("interface {interface}: sockets can be bound to an interface on Linux only")))
    }
}

/// Binds an address that no interface has yet, if the system can do that. `bound` is the result of the first attempt.
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
