//! Which sockets a shard has: those that requests come to, and the pool that its transfers are served from.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
};

use super::settings::Bound as Settings;
use crate::{
    error::Error,
    socket::{Binding, Port},
};

/// Sockets of the pool for each address. The port of the one that a transfer gets is its TID; all of them are polled with
/// each batch, so there are few.
const POOL: usize = 64;

/// The sockets of one shard.
#[derive(Debug)]
pub(super) struct Ports {
    pub(super) ports: Vec<Port>,
    pub(super) listeners: Vec<Listener>,
}

/// A socket that requests come to.
#[derive(Debug)]
pub(super) struct Listener {
    /// Index into the ports.
    pub(super) port: usize,
    /// The ports that its transfers are served from.
    pub(super) pool: Vec<usize>,
}

impl Ports {
    /// `sockets`: bound by somebody else. `anywhere`: a family that the system lacks is only warned of, as long as one is left.
    pub(super) fn bind(
        listen: &[SocketAddr],
        sockets: Vec<UdpSocket>,
        settings: &Settings,
        anywhere: bool,
        warnings: &mut Vec<String>,
    ) -> Result<Self, Error> {
        let mut bound = Self { ports: Vec::new(), listeners: Vec::new() };
        for socket in sockets {
            bound.listen(adopt(socket, settings)?);
        }
        for &address in listen {
            match Port::bind(binding(address, settings, true)) {
                Ok(port) => bound.listen(port),
                Err(error) if anywhere && is_missing(&error) => warnings.push(format!("no {address}: {error}")),
                Err(error) => return Err(Error::Bind(address, error)),
            }
        }
        if bound.listeners.is_empty() {
            let address = listen.first().copied().unwrap_or_else(|| (Ipv4Addr::UNSPECIFIED, 0).into());
            return Err(Error::Bind(address, io::ErrorKind::AddrNotAvailable.into()));
        }
        for i in 0..bound.listeners.len() {
            bound.listeners[i].pool = bound.pool(i, settings)?;
        }
        Ok(bound)
    }

    fn listen(&mut self, port: Port) {
        self.listeners.push(Listener { port: self.ports.len(), pool: Vec::new() });
        self.ports.push(port);
    }

    pub(super) fn listening(&self) -> Vec<SocketAddr> {
        self.listeners.iter().map(|listener| self.ports[listener.port].local()).collect()
    }

    pub(super) fn all(&self) -> impl Iterator<Item = SocketAddr> {
        self.ports.iter().map(Port::local)
    }

    fn pool(&mut self, listener: usize, settings: &Settings) -> Result<Vec<usize>, Error> {
        let port = self.listeners[listener].port;
        let ip = self.ports[port].local().ip();
        if settings.single_port {
            return Ok(vec![port]);
        }
        let same_ip = |other: &&Listener| self.ports[other.port].local().ip() == ip;
        if let Some(earlier) = self.listeners[..listener].iter().find(same_ip) {
            return Ok(earlier.pool.clone());
        }
        let begin = self.ports.len();
        self.ports.extend(bind_pool(ip, settings)?);
        Ok((begin..self.ports.len()).collect())
    }
}

fn adopt(socket: UdpSocket, settings: &Settings) -> Result<Port, Error> {
    let port = Port::adopt(socket, settings.batched)?;
    let address = port.local();
    if port.is_dual() {
        let fix = "set BindIPv6Only=ipv6-only and add a socket for 0.0.0.0";
        return Err(Error::Config(format!("the socket {address} that was handed over takes IPv4 too; {fix}")));
    }
    if settings.shards > 1 {
        let why = "serves one shard: its address cannot be bound again";
        return Err(Error::Config(format!("the socket {address} that was handed over {why}")));
    }
    Ok(port)
}

fn bind_pool(ip: IpAddr, settings: &Settings) -> Result<Vec<Port>, Error> {
    let bind = |port| Port::bind(binding((ip, port).into(), settings, false));
    let Some(range) = settings.port_range.clone() else {
        return (0..POOL).map(|_| bind(0).map_err(|error| Error::Bind((ip, 0).into(), error))).collect();
    };
    let lowest = *range.start();
    let free: Vec<Port> = range.filter_map(|port| bind(port).ok()).take(POOL).collect();
    if free.is_empty() {
        return Err(Error::Bind((ip, lowest).into(), io::ErrorKind::AddrInUse.into()));
    }
    Ok(free)
}

fn binding(address: SocketAddr, settings: &Settings, listens: bool) -> Binding {
    let shared = listens && settings.shards > 1;
    Binding { address, shared, listens, batched: settings.batched }
}

/// The system has no such family, or no address of it.
fn is_missing(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrNotAvailable || error.raw_os_error() == Some(libc::EAFNOSUPPORT)
}
