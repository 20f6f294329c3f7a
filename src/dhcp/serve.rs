//! The sockets: ports 67 and 4011 of each interface, and a thread that answers their datagrams.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    future::{pending, poll_fn},
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4},
    rc::Rc,
    sync::{Arc, PoisonError, RwLock},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use bytes::Bytes;
use smol::{LocalExecutor, Timer, channel};

use super::{Arrival, Machine, Menu, NoReply, Proxy, Reply, ServerPort};
use crate::{
    endpoint::Envelope,
    error::Error,
    rules::{self, Machines},
    server::{Builder, Handle, Outgoing},
    socket::{Binding, Inbox, Port, Role, Share},
    stats::Counter,
};

/// The ports of the server (RFC 2131 section 4.1, PXE 2.1 section 2.2.4).
const PORTS: [(ServerPort, u16); 2] = [(ServerPort::Dhcp, 67), (ServerPort::Pxe, 4011)];
/// The largest number of answers a second, and so of lines in the log. A large room of machines that is switched on
/// sends fewer requests, and each machine repeats its request.
const REPLIES_PER_SECOND: u32 = 1000;
/// How long the menu is used before the server looks at the sources again.
const SEARCH_INTERVAL: Duration = Duration::from_secs(10);
/// The pause after an error of a socket, for instance while its interface is down.
const PAUSE: Duration = Duration::from_millis(500);

/// A network interface, and its IPv4 addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// The name of the interface.
    pub name: String,
    /// The addresses of the interface. [`Sockets`] send clients no other server address. If there are none, they send
    /// the address at which the client's datagram arrived.
    pub addresses: Vec<Ipv4Addr>,
}

/// The interfaces on which machines may boot: interfaces that are up, can broadcast and have an IPv4 address.
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

/// The current [`Proxy`]. A reload may replace its rules, and the server looks at the sources again now and then.
#[derive(Clone, Debug, Default)]
pub struct CurrentProxy(Arc<RwLock<Proxy>>);

impl CurrentProxy {
    /// A copy of the current proxy.
    pub fn proxy(&self) -> Proxy {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes the proxy for all later packets.
    pub fn change(&self, change: impl FnOnce(Proxy) -> Proxy) {
        let mut proxy = self.0.write().unwrap_or_else(PoisonError::into_inner);
        *proxy = change(std::mem::take(&mut *proxy));
    }
}

/// The bound sockets of a server that does not answer yet.
#[derive(Debug)]
pub struct Sockets {
    sockets: Vec<Socket>,
    live: CurrentProxy,
    machines: Machines,
    answers: Counter,
    nothing: Counter,
}

#[derive(Debug)]
struct Socket {
    port: Port,
    server_port: ServerPort,
    interface: Interface,
    link: Link,
}

/// The interface to which a socket is bound. The system binds the socket to the index and not to the name.
#[derive(Clone, Debug)]
struct Link {
    name: String,
    index: Option<u32>,
}

/// A server that answers. It ends when this value is dropped.
#[derive(Debug)]
#[must_use = "it serves until this is dropped"]
pub struct Serving {
    over: Option<channel::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Sockets {
    /// Binds the ports on these interfaces, and on no others. Port 67 is below 1024 and so needs a privilege, which the
    /// process may give up afterwards.
    ///
    /// # Errors
    /// [`Error::Bind`] with the address that could not be bound.
    pub fn bind(interfaces: Vec<Interface>, live: CurrentProxy) -> Result<Self, Error> {
        let mut sockets = Vec::new();
        for interface in interfaces {
            for (server_port, port) in PORTS {
                let address: SocketAddr = (Ipv4Addr::UNSPECIFIED, port).into();
                let role = Role { listens: true, serves: false, interface: Some(&interface.name), batched: true };
                let port = Port::bind(Binding { address, share: Share::No, role });
                let port = port.and_then(|port| port.allow_broadcast().map(|()| port));
                let port = port.map_err(|error| Error::Bind(address, error))?;
                let link = Link { name: interface.name.clone(), index: index(&interface.name) };
                sockets.push(Socket { port, server_port, interface: interface.clone(), link });
            }
        }
        Ok(Self {
            sockets,
            live,
            machines: Machines::default(),
            answers: Counter::new("dhcp_answers", "ProxyDHCP replies with a boot file."),
            nothing: Counter::new("dhcp_nothing", "ProxyDHCP requests of machines without a boot file here."),
        })
    }

    /// The names of the interfaces.
    pub fn interfaces(&self) -> impl Iterator<Item = &str> {
        self.sockets
            .iter()
            .filter(|socket| socket.server_port == ServerPort::Dhcp)
            .map(|socket| socket.interface.name.as_str())
    }

    /// Records the UUID and the architecture of each machine in this table, by its MAC address, when the machine asks
    /// for its boot file. Rules can use them when the machine requests files.
    #[must_use]
    pub fn record_machines(mut self, machines: &Machines) -> Self {
        self.machines = machines.clone();
        self
    }

    /// The proxy that will answer.
    pub fn live(&self) -> &CurrentProxy {
        &self.live
    }

    /// Adds the counters of ProxyDHCP to the server of this builder.
    pub fn watch(&self, builder: Builder) -> Builder {
        builder.counter(&self.answers).counter(&self.nothing)
    }

    /// Looks for the boot files of this server. Blocks until the search is complete.
    pub fn look(&self, handle: &Handle) -> Proxy {
        smol::block_on(look(&self.live, handle));
        self.live.proxy()
    }

    /// Starts a thread that answers with the boot files of this server.
    ///
    /// # Errors
    /// [`Error::Io`] if the thread cannot be started.
    pub fn serve(self, handle: Handle) -> Result<Serving, Error> {
        let (over, is_over) = channel::bounded(1);
        let serve = move || {
            let service = Service::new(self.live, handle, self.machines, self.answers, self.nothing);
            smol::block_on(smol::future::or(service.serve(self.sockets), async {
                // Nothing is ever sent. `recv` fails when the sender is dropped.
                let _ = is_over.recv().await;
            }))
        };
        let thread = thread::Builder::new().name("tuffet-dhcp".into()).spawn(serve)?;
        Ok(Serving { over: Some(over), thread: Some(thread) })
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.over = None;
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            log::error!("the ProxyDHCP server panicked");
        }
    }
}

/// Answers the datagrams of all sockets.
struct Service {
    live: CurrentProxy,
    handle: Handle,
    machines: Machines,
    answers: Counter,
    nothing: Counter,
    inbox: RefCell<Inbox>,
    /// When the last search of the sources ended. `None` during a search.
    looked: Cell<Option<Instant>>,
    /// The beginning of the current second, and the number of answers since then.
    second: Cell<(Instant, u32)>,
}

impl Service {
    fn new(live: CurrentProxy, handle: Handle, machines: Machines, answers: Counter, nothing: Counter) -> Rc<Self> {
        let (inbox, second) = (Inbox::new().into(), (Instant::now(), 0).into());
        Rc::new(Self { live, handle, machines, answers, nothing, inbox, looked: Cell::new(None), second })
    }

    async fn serve(self: Rc<Self>, sockets: Vec<Socket>) {
        let executor = Rc::new(LocalExecutor::new());
        let serve = async {
            // Datagrams that arrive in the meantime wait in their sockets.
            self.look().await;
            let links: Vec<Link> = sockets
                .iter()
                .filter(|socket| socket.server_port == ServerPort::Dhcp)
                .map(|socket| socket.link.clone())
                .collect();
            executor.spawn(watch(links)).detach();
            for socket in sockets {
                let (service, searches) = (self.clone(), executor.clone());
                executor.spawn(async move { service.receive_from(&socket, &searches).await }).detach();
            }
            pending::<()>().await;
        };
        executor.run(serve).await;
    }

    async fn look(&self) {
        look(&self.live, &self.handle).await;
        self.looked.set(Some(Instant::now()));
    }

    async fn receive_from(self: &Rc<Self>, socket: &Socket, searches: &LocalExecutor<'static>) {
        let mut queue = VecDeque::new();
        loop {
            let received = poll_fn(|cx| socket.port.poll_receive(cx, &mut self.inbox.borrow_mut())).await;
            if let Err(error) = received {
                log::debug!("dhcp: {} of {}: {error}", socket.port.local(), socket.interface.name);
                Timer::after(PAUSE).await;
                continue;
            }
            let proxy = self.live.proxy();
            let mut is_asked = false;
            for (envelope, datagram) in self.inbox.borrow().datagrams() {
                is_asked |= self.answer(&proxy, socket, envelope, datagram, &mut queue);
            }
            socket.port.send(&mut queue);
            if is_asked && self.looked.get().is_some_and(|looked| looked.elapsed() > SEARCH_INTERVAL) {
                self.looked.set(None);
                let service = self.clone();
                searches.spawn(async move { service.look().await }).detach();
            }
        }
    }

    /// Answers a datagram. Returns whether a machine that wants to boot sent it.
    fn answer(
        &self,
        proxy: &Proxy,
        socket: &Socket,
        envelope: Envelope,
        datagram: &[u8],
        queue: &mut VecDeque<Outgoing>,
    ) -> bool {
        let Some(arrival) = socket.arrival(envelope) else { return false };
        let name = &socket.interface.name;
        match proxy.answer(datagram, arrival) {
            Ok(_) | Err(NoReply::NoBootFile(..)) if !self.has_time() => true,
            Ok(Reply { to, .. }) if !self.admits(to) => {
                log::debug!("dhcp: {to} is not admitted and gets no answer, on {name}");
                false
            }
            Ok(Reply { bytes, to, offer }) => {
                self.answers.add(1);
                self.learn(&offer.machine);
                log::info!("dhcp: {offer}, on {name}");
                // The packet is longer than the header of an `Outgoing`, so the payload has the rest.
                let (header, payload) =
                    bytes.split_first_chunk().map_or(([0; 4], &[][..]), |(head, rest)| (*head, rest));
                let from = Some(IpAddr::V4(arrival.local));
                queue.push_back(Outgoing { to: to.into(), from, header, payload: Bytes::copy_from_slice(payload) });
                true
            }
            Err(no_reply @ NoReply::NoBootFile(..)) => {
                self.nothing.add(1);
                log::info!("dhcp: {no_reply}, on {name}");
                true
            }
            Err(no_reply @ NoReply::NotForUs(_)) => {
                log::trace!("dhcp: {} is not answered, on {name}: {no_reply}", arrival.from);
                false
            }
        }
    }

    /// Whether the server answers this client or relay at all. A client without an address is among everybody, and
    /// everybody is admitted.
    fn admits(&self, to: SocketAddrV4) -> bool {
        to.ip().is_broadcast() || self.handle.terms().settings.policy.admit(IpAddr::V4(*to.ip()))
    }

    fn learn(&self, machine: &Machine) {
        let mut known = rules::Machine::default();
        (known.mac, known.uuid) = (machine.mac, machine.uuid);
        known.arch = machine.arch.family().map(|family| family.key.into());
        self.machines.learn(None, known);
    }

    fn has_time(&self) -> bool {
        let (began, answered) = self.second.get();
        let now = Instant::now();
        let (began, answered) =
            if now.duration_since(began) >= Duration::from_secs(1) { (now, 0) } else { (began, answered) };
        self.second.set((began, answered.saturating_add(1)));
        answered < REPLIES_PER_SECOND
    }
}

/// Logs an error for each interface that was removed and made anew: its sockets receive nothing any more.
async fn watch(mut links: Vec<Link>) {
    while !links.is_empty() {
        Timer::after(SEARCH_INTERVAL).await;
        links.retain(|link| {
            let is_anew = link.is_anew();
            if is_anew {
                log::error!(
                    "dhcp: interface {} was removed and created anew, and machines on it get no answer: restart the \
                     server",
                    link.name
                );
            }
            !is_anew
        });
    }
}

impl Link {
    /// Whether another interface has the name now.
    fn is_anew(&self) -> bool {
        index(&self.name).is_some_and(|now| self.index != Some(now))
    }
}

/// The index of the interface with this name. `None` if there is none.
fn index(interface: &str) -> Option<u32> {
    #[cfg(target_os = "linux")]
    {
        nix::net::if_::if_nametoindex(interface).ok()
    }
    #[cfg(not(target_os = "linux"))]
    {
        _ = interface;
        None
    }
}

async fn look(live: &CurrentProxy, handle: &Handle) {
    let menu = Menu::find(&*handle.terms().handler).await;
    live.change(|proxy| {
        match (proxy.failure(), menu.failure()) {
            (None, Some(failure)) => {
                log::warn!("dhcp: cannot look for boot files, and announces those found before: {failure}");
            }
            (Some(_), None) => log::info!("dhcp: can look for boot files again"),
            _ => {}
        }
        let menu = menu.or_known(proxy.known());
        proxy.menu(menu)
    });
}

impl Socket {
    /// The arrival of a datagram. `None` if its sender has no IPv4 address, or the interface has none.
    fn arrival(&self, envelope: Envelope) -> Option<Arrival> {
        let SocketAddr::V4(from) = envelope.peer else { return None };
        let told = envelope.local.and_then(|ip| match ip {
            IpAddr::V4(ip) => Some(ip).filter(|ip| !ip.is_unspecified() && !ip.is_broadcast()),
            IpAddr::V6(_) => None,
        });
        let addresses = &self.interface.addresses;
        let told = told.filter(|told| addresses.is_empty() || addresses.contains(told));
        let local = told.or(addresses.first().copied())?;
        Some(Arrival { server_port: self.server_port, from, local })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Server, dhcp::Rule, handlers::Memory};

    #[test]
    fn a_client_that_is_not_admitted_gets_no_answer_at_its_address() {
        let (denied, other) = (Ipv4Addr::new(192, 0, 2, 111), Ipv4Addr::new(192, 0, 2, 112));
        let builder = Server::builder().listen("127.0.0.1:0").handler(Memory::new());
        let server = builder.admit(move |client| client != IpAddr::V4(denied)).bind().unwrap();
        let live = CurrentProxy::default();
        live.change(|proxy| proxy.rules(vec![Rule::new("all", "file")]));
        let counter = |name| Counter::new(name, "");
        let service =
            Service::new(live.clone(), server.handle(), Machines::default(), counter("answers"), counter("nothing"));
        let answers = |server_port, from: Ipv4Addr, datagram: &[u8]| {
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
            let role = Role { listens: true, serves: false, interface: None, batched: true };
            let port = Port::bind(Binding { address, share: Share::No, role }).unwrap();
            let interface = Interface { name: "lan".into(), addresses: vec![Ipv4Addr::new(192, 0, 2, 1)] };
            let link = Link { name: "lan".into(), index: None };
            let envelope = Envelope { peer: (from, 4011).into(), local: None, interface: 0, broadcast: false };
            let mut queue = VecDeque::new();
            service.answer(
                &live.proxy(),
                &Socket { port, server_port, interface, link },
                envelope,
                datagram,
                &mut queue,
            );
            queue.len()
        };
        let chosen = include_bytes!("../../tests/dhcp/captured/edk2_pxe_4011.bin");
        assert_eq!(answers(ServerPort::Pxe, denied, chosen), 0);
        assert_eq!(answers(ServerPort::Pxe, other, chosen), 1);
        // The address that the client has, or its relay has, and not the one that the datagram came from.
        let discovery = include_bytes!("../../tests/dhcp/captured/edk2_pxe.bin");
        for field in [12..16, 24..28] {
            let from = |address: Ipv4Addr| {
                let mut discovery = discovery.to_vec();
                discovery[field.clone()].copy_from_slice(&address.octets());
                discovery
            };
            assert_eq!(answers(ServerPort::Dhcp, other, &from(denied)), 0);
            assert_eq!(answers(ServerPort::Dhcp, denied, &from(other)), 1);
        }
        // A client that has no address yet.
        assert_eq!(answers(ServerPort::Dhcp, Ipv4Addr::UNSPECIFIED, discovery), 1);
        assert_eq!((service.answers.value(), service.nothing.value()), (4, 0));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn an_interface_with_another_index_is_made_anew() {
        let link = |name: &str, index| Link { name: name.into(), index };
        let index = index("lo").unwrap();
        assert!(!link("lo", Some(index)).is_anew());
        assert!(link("lo", Some(index + 1)).is_anew());
        assert!(!link("none-such", Some(index)).is_anew(), "it may come back");
    }
}
