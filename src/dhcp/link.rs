//! The sockets: ports 67 and 4011 of an interface.

use std::net::{Ipv4Addr, SocketAddr};

use super::{Interface, ServerPort};
use crate::{
    error::Error,
    socket::{Binding, Port, Role, Share},
};

/// The ports of the server (RFC 2131 section 4.1, PXE 2.1 section 2.2.4).
const PORTS: [(ServerPort, u16); 2] = [(ServerPort::Dhcp, 67), (ServerPort::Pxe, 4011)];

/// The sockets of one interface.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) interface: Interface,
    /// The index of the interface to which the sockets are bound. The system binds to the index and not to the name.
    pub(super) index: Option<u32>,
    pub(super) ports: Vec<(ServerPort, Port)>,
}

impl Link {
    pub(super) fn bind(interface: Interface) -> Result<Self, Error> {
        let bind = |(server_port, port)| {
            let address: SocketAddr = (Ipv4Addr::UNSPECIFIED, port).into();
            let role = Role { listens: true, serves: false, interface: Some(&interface.name), batched: true };
            let port = Port::bind(Binding { address, share: Share::No, role });
            let port = port.and_then(|port| port.allow_broadcast().map(|()| port));
            Ok((server_port, port.map_err(|error| Error::Bind(address, error))?))
        };
        let index = interface.index();
        let ports = PORTS.into_iter().map(bind).collect::<Result<_, Error>>()?;
        Ok(Self { interface, index, ports })
    }
}
