//! The network interfaces on which machines boot.

use std::{io, net::Ipv4Addr};

/// A network interface, and its IPv4 addresses.
///
/// ```
/// use tuffet::dhcp::Interface;
///
/// // Machines on eth1 get this address, and no other of the interface.
/// let lab = Interface { name: "eth1".into(), addresses: vec!["10.9.0.1".parse()?] };
/// assert_eq!(lab.addresses.len(), 1);
/// # Ok::<(), std::net::AddrParseError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// The name of the interface.
    pub name: String,
    /// The addresses of the interface. [`Sockets`](super::Sockets) send clients no other server address. If there are
    /// none, they send the address at which the client's datagram arrived.
    pub addresses: Vec<Ipv4Addr>,
}

/// The interfaces on which machines may boot: interfaces that are up, can broadcast and have an IPv4 address.
///
/// ```
/// # #[cfg(target_os = "linux")]
/// for interface in tuffet::dhcp::interfaces()? {
///     println!("{}: {:?}", interface.name, interface.addresses);
///     assert!(interface.name != "lo" && !interface.addresses.is_empty());
/// }
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
/// The error of the system. On systems other than Linux it is [`Unsupported`](io::ErrorKind::Unsupported).
pub fn interfaces() -> io::Result<Vec<Interface>> {
    #[cfg(target_os = "linux")]
    {
        use nix::net::if_::InterfaceFlags as Flags;

        let mut all: Vec<Interface> = Vec::new();
        for found in nix::ifaddrs::getifaddrs()? {
            let flags = found.flags;
            let address =
                found.address.as_ref().and_then(|address| address.as_sockaddr_in()).map(|address| address.ip());
            let is_lan = flags.contains(Flags::IFF_UP | Flags::IFF_BROADCAST) && !flags.contains(Flags::IFF_LOOPBACK);
            let Some(address) = address.filter(|_| is_lan) else { continue };
            // An address with a label (`eth0:1`) belongs to the interface before the colon.
            let name = found.interface_name.split(':').next().unwrap_or_default().to_owned();
            match all.iter_mut().find(|known| known.name == name) {
                Some(known) => known.addresses.push(address),
                None => all.push(Interface { name, addresses: vec![address] }),
            }
        }
        Ok(all)
    }
    #[cfg(not(target_os = "linux"))]
    Err(io::Error::new(io::ErrorKind::Unsupported, "ProxyDHCP is for Linux: sockets are bound to interfaces there"))
}

/// The addresses that reach all machines of a network of this machine: the last one, and for old systems the first.
pub(super) fn broadcasts() -> Vec<Ipv4Addr> {
    #[cfg(target_os = "linux")]
    {
        let ip = |address: Option<nix::sys::socket::SockaddrStorage>| Some(address?.as_sockaddr_in()?.ip().to_bits());
        let networks = nix::ifaddrs::getifaddrs().into_iter().flatten();
        let networks = networks.filter_map(|found| Some((ip(found.address)?, ip(found.netmask)?)));
        // A network of one or two machines has none (RFC 3021).
        let networks = networks.filter(|(_, mask)| !mask > 1);
        networks.flat_map(|(ip, mask)| [ip | !mask, ip & mask].map(Ipv4Addr::from_bits)).collect()
    }
    #[cfg(not(target_os = "linux"))]
    Vec::new()
}

impl Interface {
    /// The index of the interface that has this name now. `None` if there is none.
    pub(super) fn index(&self) -> Option<u32> {
        #[cfg(target_os = "linux")]
        {
            nix::net::if_::if_nametoindex(self.name.as_str()).ok()
        }
        #[cfg(not(target_os = "linux"))]
        None
    }

    /// Whether machines can boot on it now.
    pub(super) fn is_ready(&self) -> bool {
        interfaces().is_ok_and(|all| all.iter().any(|ready| ready.name == self.name))
    }
}
