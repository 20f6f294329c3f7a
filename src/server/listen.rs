//! The sockets of a shard: those that receive requests, and the pools that serve its transfers.

use std::{
    hash::{BuildHasher, RandomState},
    io,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
};

use super::settings::FixedSettings;
use crate::{
    error::Error,
    socket::{Binding, Port, Role, Share},
};

/// The sockets of one shard.
#[derive(Debug)]
pub(super) struct Ports {
    pub(super) ports: Vec<Port>,
    pub(super) listeners: Vec<Listener>,
}

/// A socket that receives requests.
#[derive(Debug)]
pub(super) struct Listener {
    /// Index into the ports.
    pub(super) port: usize,
    /// The ports that serve its transfers.
    pub(super) pool: Vec<usize>,
}

impl Ports {
    /// Binds the sockets of the first shard. `sockets` are already bound. `anywhere`: a family that the system lacks
    /// causes only a warning, as long as another one is left.
    pub(super) fn bind(
        listen: &[SocketAddr],
        sockets: Vec<UdpSocket>,
        settings: &FixedSettings,
        anywhere: bool,
        warnings: &mut Vec<String>,
    ) -> Result<Self, Error> {
        let share = if settings.shards > 1 { Share::First } else { Share::No };
        let mut bound = Self { ports: Vec::new(), listeners: Vec::new() };
        for socket in sockets {
            bound.listen(adopt(socket, settings)?);
        }
        for &address in listen {
            match Port::bind(Binding { address, share, role: role(settings, true) }) {
                Ok(port) => bound.listen(port),
                Err(error) if anywhere && is_missing(&error) => warnings.push(format!("no {address}: {error}")),
                Err(error) => return Err(Error::Bind(address, error)),
            }
        }
        if bound.listeners.is_empty() {
            let address = listen.first().copied().unwrap_or_else(|| (Ipv4Addr::UNSPECIFIED, 0).into());
            return Err(Error::Bind(address, io::ErrorKind::AddrNotAvailable.into()));
        }
        for address in bound.ports.iter().filter(|port| port.is_awaited()).map(Port::local) {
            warnings.push(format!("no interface has the address {} yet; waiting for it", address.ip()));
        }
        bound.bind_pools(settings)
    }

    /// Binds the sockets of another shard, with the addresses of the first.
    pub(super) fn join(listen: &[SocketAddr], settings: &FixedSettings) -> Result<Self, Error> {
        let mut bound = Self { ports: Vec::new(), listeners: Vec::new() };
        for &address in listen {
            let port = Port::bind(Binding { address, share: Share::Join, role: role(settings, true) });
            bound.listen(port.map_err(|error| Error::Bind(address, error))?);
        }
        bound.bind_pools(settings)
    }

    fn bind_pools(mut self, settings: &FixedSettings) -> Result<Self, Error> {
        for i in 0..self.listeners.len() {
            self.listeners[i].pool = self.pool(i, settings)?;
        }
        Ok(self)
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

    fn pool(&mut self, listener: usize, settings: &FixedSettings) -> Result<Vec<usize>, Error> {
        let port = self.listeners[listener].port;
        let address = transfer_address(self.ports[port].local());
        if settings.single_port {
            return Ok(vec![port]);
        }
        let has_it = |other: &&Listener| transfer_address(self.ports[other.port].local()) == address;
        if let Some(earlier) = self.listeners[..listener].iter().find(has_it) {
            return Ok(earlier.pool.clone());
        }
        let begin = self.ports.len();
        self.ports.extend(bind_pool(address, settings, settings.transfer_ports)?);
        Ok((begin..self.ports.len()).collect())
    }
}

fn adopt(socket: UdpSocket, settings: &FixedSettings) -> Result<Port, Error> {
    let port = Port::adopt(socket, role(settings, true))?;
    let address = port.local();
    if port.is_dual() {
        let fix = "set BindIPv6Only=ipv6-only and add a socket for 0.0.0.0";
        return Err(Error::Config(format!("the socket {address} of the service manager takes IPv4 too; {fix}")));
    }
    if settings.shards > 1 {
        let why = "serves one shard: its address cannot be bound again";
        return Err(Error::Config(format!("the socket {address} of the service manager {why}")));
    }
    Ok(port)
}

/// Binds a port that replaces one of a pool. With a range of ports below 1024, it may fail because the process has
/// given up its privilege.
pub(super) fn bind_another(port: &Port, settings: &FixedSettings) -> Result<Port, Error> {
    let address = port.local();
    let another = bind_pool(transfer_address(address), settings, 1)?.pop();
    another.ok_or_else(|| Error::Bind(address, io::ErrorKind::AddrInUse.into()))
}

/// The address of transfers, without a port. A link-local address keeps its interface.
fn transfer_address(mut listening: SocketAddr) -> SocketAddr {
    listening.set_port(0);
    listening
}

/// Binds random ports for transfers at this address: as many as are wanted and free, at least one. They are TIDs,
/// which nobody should be able to guess (RFC 1350 section 4).
fn bind_pool(mut address: SocketAddr, settings: &FixedSettings, wanted: usize) -> Result<Vec<Port>, Error> {
    let mut bind = |port| {
        address.set_port(port);
        let bound = Port::bind(Binding { address, share: Share::No, role: role(settings, false) });
        bound.map_err(|error| Error::Bind(address, error))
    };
    let Some(range) = settings.port_range.clone() else {
        return (0..wanted).map(|_| bind(0)).collect();
    };
    let (lowest, random) = (*range.start(), RandomState::new());
    let mut range: Vec<u16> = range.collect();
    range.sort_by_cached_key(|port| random.hash_one(port));
    let free: Vec<Port> = range.into_iter().filter_map(|port| bind(port).ok()).take(wanted).collect();
    if free.is_empty() {
        address.set_port(lowest);
        return Err(Error::Bind(address, io::ErrorKind::AddrInUse.into()));
    }
    Ok(free)
}

fn role(settings: &FixedSettings, listens: bool) -> Role<'_> {
    let interface = settings.interface.as_deref();
    Role { listens, serves: !listens || settings.single_port, interface, batched: settings.batched }
}

/// Whether the system lacks this family, or an address of it.
fn is_missing(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrNotAvailable || error.raw_os_error() == Some(libc::EAFNOSUPPORT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_drawn_anew_and_within_their_range() {
        let ip = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let any = FixedSettings::default();
        let pool = bind_pool(ip, &any, 8).unwrap();
        let another = bind_another(&pool[0], &any).unwrap();
        assert!(another.local().ip() == ip.ip() && pool.iter().all(|port| port.local() != another.local()));
        // Eight of a hundred ports, and others each time.
        let range = 21_000..=21_099;
        let some = FixedSettings { port_range: Some(range.clone()), ..any };
        let draw = || {
            let pool = bind_pool(ip, &some, 8).unwrap();
            pool.iter().map(|port| port.local().port()).collect::<Vec<_>>()
        };
        let (one, two) = (draw(), draw());
        assert!(one.len() == 8 && one.iter().all(|port| range.contains(port)), "{one:?}");
        assert_ne!(one, two);
        // All ports, if the range has fewer.
        let few = FixedSettings { port_range: Some(21_100..=21_102), ..some };
        let pool = bind_pool(ip, &few, 64).unwrap();
        assert!((1..=3).contains(&pool.len()));
        if pool.len() == 3 {
            assert!(bind_another(&pool[0], &few).is_err(), "none is free");
        }
    }

    /// Each link may have the same addresses.
    #[cfg(target_os = "linux")]
    #[test]
    fn transfers_of_a_link_local_address_are_on_its_link() {
        let address: SocketAddr = "[fe80::77%1]:69".parse().unwrap();
        for port in bind_pool(transfer_address(address), &FixedSettings::default(), 2).unwrap() {
            assert!(matches!(port.local(), SocketAddr::V6(local) if local.scope_id() == 1 && local.port() != 69));
        }
    }
}
