//! The neighbour table of the kernel: which MAC address an address of the same link has.

use std::{
    collections::{HashMap, HashSet},
    io,
    net::{IpAddr, SocketAddr},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use netlink_packet_core::{
    DecodeError, Emitable, NLM_F_DUMP, NLM_F_REQUEST, NetlinkDeserializable, NetlinkHeader, NetlinkMessage,
    NetlinkPayload, NetlinkSerializable, Parseable,
};
use netlink_packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage};
use netlink_sys::{Socket, SocketAddr as NetlinkAddr, protocols::NETLINK_ROUTE};

use super::client::Mac;

/// What was read is good for this long.
const GOOD: Duration = Duration::from_secs(1);
/// In that time, the table is read this often at most: a flood of forged addresses is in no table.
const READS: u32 = 200;

#[derive(Default)]
pub(crate) struct Neighbours(Mutex<Table>);

#[derive(Default)]
struct Table {
    since: Option<Instant>,
    reads: u32,
    /// By address and interface: a link-local address may be there on several.
    entries: HashMap<(IpAddr, u32), Mac>,
    /// Those who were not in it. Others may have come after it was read.
    missing: HashSet<IpAddr>,
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
        if table.since.is_none_or(|since| since.elapsed() >= GOOD) {
            *table = Table { since: Some(Instant::now()), ..Table::default() };
        }
        let known = table.find(ip, interface);
        if known.is_some() || table.missing.contains(&ip) || table.reads >= READS {
            return known;
        }
        table.reads += 1;
        match dump() {
            Ok(entries) => table.entries = entries,
            Err(error) => log::warn!("cannot read the neighbour table: {error}"),
        }
        let found = table.find(ip, interface);
        if found.is_none() {
            table.missing.insert(ip);
        }
        found
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
    let mut message = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(Neighbour::default()));
    message.finalize();
    let mut buffer = vec![0; message.buffer_len()];
    message.serialize(&mut buffer);
    socket.send(&buffer, 0)?;
    let mut entries = HashMap::new();
    loop {
        let (datagram, _) = socket.recv_from_full()?;
        let mut rest = &datagram[..];
        while !rest.is_empty() {
            let message = NetlinkMessage::<Neighbour>::deserialize(rest)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
            match message.payload {
                NetlinkPayload::InnerMessage(Neighbour(neighbour)) => entries.extend(entry(&neighbour)),
                NetlinkPayload::Error(error) => return Err(error.to_io()),
                NetlinkPayload::Done(_) => return Ok(entries),
                _ => {}
            }
            let length = (message.header.length as usize).next_multiple_of(4);
            rest = rest.get(length.max(1)..).unwrap_or_default();
        }
    }
}

/// Asked, it is the whole table (`RTM_GETNEIGH`); answered, an entry. `RouteNetlinkMessage` would do as well, but brings
/// the parsers of all that the kernel tells of links, routes and queues: 400 KB of program.
#[derive(Debug, Default)]
struct Neighbour(NeighbourMessage);

impl NetlinkSerializable for Neighbour {
    fn message_type(&self) -> u16 {
        libc::RTM_GETNEIGH
    }

    fn buffer_len(&self) -> usize {
        self.0.buffer_len()
    }

    fn serialize(&self, buffer: &mut [u8]) {
        self.0.emit(buffer);
    }
}

impl NetlinkDeserializable for Neighbour {
    type Error = DecodeError;

    fn deserialize(header: &NetlinkHeader, payload: &[u8]) -> Result<Self, DecodeError> {
        match header.message_type {
            libc::RTM_NEWNEIGH => NeighbourMessage::parse(payload).map(Neighbour),
            other => Err(format!("message {other} is not of the neighbour table").into()),
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
