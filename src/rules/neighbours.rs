//! The neighbour table of the kernel: the MAC addresses of IP addresses on the same link.

use std::{
    collections::{HashMap, HashSet},
    io,
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use netlink_packet_core::{
    DecodeError, Emitable, NLM_F_DUMP, NLM_F_REQUEST, NetlinkDeserializable, NetlinkHeader, NetlinkMessage,
    NetlinkPayload, NetlinkSerializable, Parseable,
};
use netlink_packet_route::{
    AddressFamily,
    neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage},
};
use netlink_sys::{Socket, SocketAddr as NetlinkAddr, protocols::NETLINK_ROUTE};

use super::client::Mac;
use crate::sync::Mutex;

/// How long a read table is used.
const GOOD: Duration = Duration::from_secs(1);
/// How often the whole table is read in that time, at most.
const READS: u32 = 20;
/// How long an entry is remembered after the kernel has forgotten it, because a flood of forged addresses fills the
/// kernel's table.
const REMEMBERED: Duration = Duration::from_secs(600);
/// The most entries, remembered ones included. The kernel's table has only machines that have answered it.
const MOST: usize = 16 << 10;
/// The longest datagram of the kernel in bytes: it makes them no longer than this for any buffer.
const DATAGRAM: usize = 32 << 10;
/// On how many interfaces one address is looked up.
const INTERFACES: usize = 8;

#[derive(Default)]
pub(crate) struct Neighbours(Mutex<Table>);

/// An address and its interface: several interfaces may have the same link-local address.
type Key = (IpAddr, u32);

#[derive(Default)]
struct Table {
    since: Option<Instant>,
    reads: u32,
    entries: HashMap<Key, (Mac, Instant)>,
    /// The interfaces that have neighbours.
    interfaces: HashSet<u32>,
    kernel: Kernel,
}

/// The connection to the kernel. It stays open, because a flood of forged addresses asks the kernel about each.
#[derive(Default)]
struct Kernel(Option<Socket>);

impl Neighbours {
    /// The MAC address of this peer, if the kernel knows it, or knew it a moment ago.
    ///
    /// The whole table is read once a second. For a peer that is not in it, a single entry is read. That costs
    /// microseconds however long the table is, so a flood of forged addresses does not delay a new client.
    pub(crate) fn mac(&self, peer: SocketAddr) -> Option<Mac> {
        let ip = peer.ip().to_canonical();
        let interface = match peer {
            SocketAddr::V6(peer) => peer.scope_id(),
            SocketAddr::V4(_) => 0,
        };
        let mut table = self.0.lock();
        let now = Instant::now();
        if table.since.is_none_or(|since| now.saturating_duration_since(since) >= GOOD) {
            table.since = Some(now);
            table.reads = 0;
            table.read(now, Kernel::dump);
        }
        let known = table.find(ip, interface);
        match known {
            Some((mac, seen)) if Some(seen) >= table.since => return Some(mac),
            _ => {}
        }
        let known = table.look_up(ip, interface, now, Kernel::one).or(known.map(|(mac, _)| mac));
        if known.is_some() || table.reads >= READS {
            return known;
        }
        // The peer may be on an interface that had no neighbours before.
        table.read(now, Kernel::dump);
        table.find(ip, interface).map(|(mac, _)| mac)
    }

    /// All entries that the kernel has now.
    #[cfg(feature = "status")]
    pub(crate) fn all(&self) -> HashMap<IpAddr, Mac> {
        let mut table = self.0.lock();
        table.read(Instant::now(), Kernel::dump);
        table.entries.iter().map(|((ip, _), (mac, _))| (*ip, *mac)).collect()
    }
}

impl Table {
    fn read(&mut self, now: Instant, dump: impl FnOnce(&mut Kernel) -> io::Result<Vec<(Key, Mac)>>) {
        self.reads += 1;
        let entries = match dump(&mut self.kernel) {
            Ok(entries) => entries,
            Err(error) => return log::warn!("cannot read the neighbour table: {error}"),
        };
        self.entries.retain(|_, (_, seen)| now.saturating_duration_since(*seen) < REMEMBERED);
        if self.entries.len() + entries.len() > MOST {
            self.entries.clear();
        }
        self.entries.extend(entries.into_iter().map(|(key, mac)| (key, (mac, now))));
        self.interfaces = self.entries.keys().map(|(_, interface)| *interface).collect();
    }

    /// The MAC address, and when the kernel last had it.
    fn find(&self, ip: IpAddr, interface: u32) -> Option<(Mac, Instant)> {
        if interface != 0 {
            return self.entries.get(&(ip, interface)).copied();
        }
        // The newest entry, if the address has moved between interfaces.
        let found = self.interfaces.iter().filter_map(|interface| self.entries.get(&(ip, *interface)));
        found.max_by_key(|(_, seen)| *seen).copied()
    }

    fn look_up(
        &mut self,
        ip: IpAddr,
        interface: u32,
        now: Instant,
        one: impl Fn(&mut Kernel, Key) -> io::Result<Option<Mac>>,
    ) -> Option<Mac> {
        let interfaces: Vec<_> = match interface {
            0 => self.interfaces.iter().copied().take(INTERFACES).collect(),
            interface => vec![interface],
        };
        for interface in interfaces {
            match one(&mut self.kernel, (ip, interface)) {
                Ok(None) => {}
                Ok(Some(mac)) => {
                    self.entries.insert((ip, interface), (mac, now));
                    return Some(mac);
                }
                // Kernels before 5.0 cannot look up a single entry.
                Err(error) => log::debug!("cannot ask for the neighbour {ip}: {error}"),
            }
        }
        None
    }
}

impl Kernel {
    /// Reads the whole table.
    fn dump(&mut self) -> io::Result<Vec<(Key, Mac)>> {
        let mut entries = Vec::new();
        let take = |neighbour| entries.extend(entry(&neighbour));
        self.ask(NeighbourMessage::default(), NLM_F_REQUEST | NLM_F_DUMP, take)??;
        Ok(entries)
    }

    /// Reads a single entry.
    fn one(&mut self, (ip, interface): Key) -> io::Result<Option<Mac>> {
        let mut wanted = NeighbourMessage::default();
        wanted.header.ifindex = interface;
        let (family, address) = match ip {
            IpAddr::V4(ip) => (AddressFamily::Inet, NeighbourAddress::Inet(ip)),
            IpAddr::V6(ip) => (AddressFamily::Inet6, NeighbourAddress::Inet6(ip)),
        };
        wanted.header.family = family;
        wanted.attributes.push(NeighbourAttribute::Destination(address));
        let mut found = None;
        match self.ask(wanted, NLM_F_REQUEST, |neighbour| found = entry(&neighbour))? {
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENODEV)) => Ok(None),
            answer => answer.map(|()| found.map(|(_, mac)| mac)),
        }
    }

    /// The kernel's answer, or why there is none.
    fn ask(
        &mut self,
        wanted: NeighbourMessage,
        flags: u16,
        take: impl FnMut(NeighbourMessage),
    ) -> io::Result<io::Result<()>> {
        let socket = self.0.take().map_or_else(connect, Ok)?;
        // After an error, the rest of an answer may still come.
        let answer = exchange(&socket, wanted, flags, take)?;
        self.0 = Some(socket);
        Ok(answer)
    }
}

fn connect() -> io::Result<Socket> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.connect(&NetlinkAddr::new(0, 0))?;
    Ok(socket)
}

fn exchange(
    socket: &Socket,
    wanted: NeighbourMessage,
    flags: u16,
    mut take: impl FnMut(NeighbourMessage),
) -> io::Result<io::Result<()>> {
    let mut header = NetlinkHeader::default();
    header.flags = flags;
    let mut message = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(Neighbour(wanted)));
    message.finalize();
    let mut buffer = vec![0; message.buffer_len()];
    message.serialize(&mut buffer);
    socket.send(&buffer, 0)?;
    let mut datagram = Vec::with_capacity(DATAGRAM);
    loop {
        datagram.clear();
        socket.recv(&mut datagram, 0)?;
        let mut rest = &datagram[..];
        while !rest.is_empty() {
            let message = NetlinkMessage::<Neighbour>::deserialize(rest)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
            match message.payload {
                NetlinkPayload::InnerMessage(Neighbour(neighbour)) => take(neighbour),
                NetlinkPayload::Error(error) => return Ok(Err(error.to_io())),
                NetlinkPayload::Done(_) => return Ok(Ok(())),
                _ => {}
            }
            // A reply with a single entry has no end message.
            if flags & NLM_F_DUMP != NLM_F_DUMP {
                return Ok(Ok(()));
            }
            let length = (message.header.length as usize).next_multiple_of(4);
            rest = rest.get(length.max(1)..).unwrap_or_default();
        }
    }
}

/// A request for the whole table or a part of it (`RTM_GETNEIGH`), or an entry in the reply. `RouteNetlinkMessage`
/// would work too, but brings the parsers of all messages about links, routes and queues: 400 KB of program.
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

fn entry(neighbour: &NeighbourMessage) -> Option<(Key, Mac)> {
    let ip = neighbour.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::Destination(NeighbourAddress::Inet(ip)) => Some(IpAddr::V4(*ip)),
        NeighbourAttribute::Destination(NeighbourAddress::Inet6(ip)) => Some(IpAddr::V6(*ip)),
        _ => None,
    })?;
    let mac = neighbour.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::LinkLayerAddress(mac) => mac.as_slice().try_into().ok().map(Mac),
        _ => None,
    })?;
    // The loopback interface has entries with a MAC address of zeros.
    (mac.0 != [0; 6]).then_some(((ip, neighbour.header.ifindex), mac))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: Mac = Mac([0x52, 0x54, 0, 0x12, 0x34, 0x56]);

    fn ip(n: u32) -> IpAddr {
        IpAddr::from(n.to_be_bytes())
    }

    fn find(table: &Table, n: u32, interface: u32) -> Option<Mac> {
        table.find(ip(n), interface).map(|(mac, _)| mac)
    }

    #[test]
    fn neighbours_that_the_kernel_forgot_are_remembered_for_a_while() {
        let (mut table, start) = (Table::default(), Instant::now());
        table.read(start, |_| Ok(vec![((ip(1), 2), MAC), ((ip(9), 2), Mac([9; 6]))]));
        // A flood of forged addresses has pushed the entry out; then another machine gets the address.
        table.read(start + REMEMBERED / 2, |_| Ok(vec![((ip(9), 2), Mac([9; 6]))]));
        assert_eq!((find(&table, 1, 0), find(&table, 1, 2), find(&table, 1, 3)), (Some(MAC), Some(MAC), None));
        table.read(start + REMEMBERED / 2, |_| Ok(vec![((ip(1), 2), Mac([1; 6])), ((ip(9), 2), Mac([9; 6]))]));
        assert_eq!(find(&table, 1, 0), Some(Mac([1; 6])));
        table.read(start + REMEMBERED * 2, |_| Ok(vec![((ip(9), 2), Mac([9; 6]))]));
        assert_eq!((find(&table, 1, 0), find(&table, 9, 0)), (None, Some(Mac([9; 6]))));
        // A failed read removes no entry.
        table.read(start + REMEMBERED * 2, |_| Err(io::ErrorKind::OutOfMemory.into()));
        assert_eq!(find(&table, 9, 0), Some(Mac([9; 6])));
    }

    #[test]
    fn a_new_neighbour_is_looked_up_alone() {
        let (mut table, now) = (Table::default(), Instant::now());
        table.read(now, |_| Ok(vec![((ip(9), 2), Mac([9; 6])), ((ip(8), 3), Mac([8; 6]))]));
        table.reads = READS;
        let one = |_: &mut Kernel, key: Key| Ok((key == (ip(1), 3)).then_some(MAC));
        assert_eq!(table.look_up(ip(1), 0, now, one), Some(MAC));
        assert_eq!(find(&table, 1, 0), Some(MAC));
        assert_eq!((table.look_up(ip(2), 0, now, one), table.look_up(ip(1), 2, now, one)), (None, None));
    }

    #[test]
    fn memory_is_bounded() {
        let (mut table, now) = (Table::default(), Instant::now());
        for n in 0..8 {
            table.read(now, |_| Ok((0..MOST as u32 / 4).map(|m| ((ip(n << 16 | m), 2), MAC)).collect()));
            assert!(table.entries.len() <= MOST);
        }
    }
}
