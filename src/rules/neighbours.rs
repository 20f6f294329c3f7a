//! The neighbour table of the kernel: which MAC address an address of the same link has.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use netlink_packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::{
    RouteNetlinkMessage,
    neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage},
};
use netlink_sys::{Socket, SocketAddr as NetlinkAddr, protocols::NETLINK_ROUTE};

use super::client::Mac;

/// What was read is good for this long.
const GOOD: Duration = Duration::from_secs(1);
/// Who is not in it may have come since, but a crowd of those may not have it read again and again.
const PAUSE: Duration = Duration::from_millis(50);

#[derive(Default)]
pub(crate) struct Neighbours(Mutex<Table>);

#[derive(Default)]
struct Table {
    read: Option<Instant>,
    /// By address and interface: a link-local address may be there on several.
    entries: HashMap<(IpAddr, u32), Mac>,
}

impl Neighbours {
    /// The MAC address of this peer, if the kernel knows it. Reading the table is a matter of microseconds.
    pub(crate) fn mac(&self, peer: SocketAddr) -> Option<Mac> {
        let ip = peer.ip().to_canonical();
        let interface = match peer {
            SocketAddr::V6(peer) => peer.scope_id(),
            SocketAddr::V4(_) => 0,
        };
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let age = table.read.map_or(Duration::MAX, |read| read.elapsed());
        let known = table.find(ip, interface);
        if age < PAUSE || (age < GOOD && known.is_some()) {
            return known;
        }
        table.read = Some(Instant::now());
        match dump() {
            Ok(entries) => table.entries = entries,
            Err(error) => log::warn!("cannot read the neighbour table: {error}"),
        }
        table.find(ip, interface)
    }
}

impl Table {
    fn find(&self, ip: IpAddr, interface: u32) -> Option<Mac> {
        if interface != 0 {
            return self.entries.get(&(ip, interface)).copied();
        }
        self.entries.iter().find(|((entry, _), _)| *entry == ip).map(|(_, mac)| *mac)
    }
}

fn dump() -> io::Result<HashMap<(IpAddr, u32), Mac>> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.connect(&NetlinkAddr::new(0, 0))?;
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    let ask = RouteNetlinkMessage::GetNeighbour(NeighbourMessage::default());
    let mut message = NetlinkMessage::new(header, NetlinkPayload::from(ask));
    message.finalize();
    let mut buffer = vec![0; message.buffer_len()];
    message.serialize(&mut buffer);
    socket.send(&buffer, 0)?;
    let mut entries = HashMap::new();
    loop {
        let (datagram, _) = socket.recv_from_full()?;
        let mut rest = &datagram[..];
        while !rest.is_empty() {
            let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
            match message.payload {
                NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewNeighbour(neighbour)) => {
                    entries.extend(entry(&neighbour));
                }
                NetlinkPayload::Error(error) => return Err(error.to_io()),
                NetlinkPayload::Done(_) => return Ok(entries),
                _ => {}
            }
            let length = (message.header.length as usize).next_multiple_of(4);
            rest = rest.get(length.max(1)..).unwrap_or_default();
        }
    }
}

fn entry(neighbour: &NeighbourMessage) -> Option<((IpAddr, u32), Mac)> {
    let ip = neighbour.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::Destination(NeighbourAddress::Inet(ip)) => Some(IpAddr::V4(*ip)),
        NeighbourAttribute::Destination(NeighbourAddress::Inet6(ip)) => Some(IpAddr::V6(*ip)),
        _ => None,
    })?;
    let mac = neighbour.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::LinkLayerAddress(mac) => mac.as_slice().try_into().ok().map(Mac),
        _ => None,
    })?;
    // The loopback has entries with a card of zeros.
    (mac.0 != [0; 6]).then_some(((ip, neighbour.header.ifindex), mac))
}
