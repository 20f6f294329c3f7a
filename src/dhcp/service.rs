//! The thread of the server: it receives the datagrams of all sockets, and sends the answers.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    future::poll_fn,
    net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4},
    rc::Rc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use smol::{LocalExecutor, Task, Timer, unblock};

use super::{
    Arrival, CurrentProxy, Interface, Machine, NoBootFile, NoReply, Offer, Proxy, Reply, RequestReport, ServerPort,
    interface, link::Link, report::Hooks,
};
use crate::{
    endpoint::{Bucket, Envelope},
    rules::{self, Machines},
    server::{Outgoing, ServerHandle},
    socket::{Inbox, Port},
    stats::Counter,
};

/// Answers to broadcasts, and answers to other datagrams: at once, and in a second. A large room of machines that is
/// switched on sends fewer requests, and each machine repeats its request. Broadcasts come from the server's own
/// network only, so a flood from elsewhere takes no answer from the machines there.
const ANSWERS: (f64, f64) = (1000.0, 1000.0);
/// Datagrams that are read: at once, and in a second, so that a flood of them takes no time from transfers. The system
/// drops what is not read.
const DATAGRAMS: (f64, f64) = (10_000.0, 10_000.0);
/// The pause when no more may be read. It is so short that the queues of the sockets hold most of what arrives.
const READ_PAUSE: Duration = Duration::from_millis(5);
/// How long the menu is used before the server searches the sources again, and how often it checks that its interfaces
/// are still the same.
const SEARCH_INTERVAL: Duration = Duration::from_secs(10);
/// The pause after an error of a socket, for instance while its interface is down.
const PAUSE: Duration = Duration::from_millis(500);

/// Answers the datagrams of all sockets.
pub(super) struct Service {
    setup: Setup,
    handle: ServerHandle,
    inbox: RefCell<Inbox>,
    /// The requests that have not been reported yet.
    unreported: RefCell<Vec<Answered>>,
    /// When the last search of the sources ended. `None` during a search.
    looked: Cell<Option<Instant>>,
    budget: RefCell<Budget>,
    /// The broadcast addresses of this machine's networks.
    broadcasts: RefCell<Vec<Ipv4Addr>>,
}

/// The settings of the service, and its reports.
#[derive(Debug)]
pub(super) struct Setup {
    pub(super) live: CurrentProxy,
    pub(super) machines: Machines,
    pub(super) answers: Counter,
    pub(super) nothing: Counter,
    pub(super) hooks: RefCell<Hooks>,
}

/// A machine that wants to boot, and its answer, or the reason why it gets none.
struct Answered {
    machine: Machine,
    answer: Result<Offer, NoBootFile>,
}

/// The work that the server may do.
struct Budget {
    datagrams: Bucket,
    broadcasts: Bucket,
    others: Bucket,
}

/// An interface whose sockets are read.
struct ServedInterface {
    interface: Interface,
    /// The index of the interface that the sockets are bound to.
    index: Option<u32>,
    /// A task for each socket. Its end closes the socket.
    _tasks: Vec<Task<()>>,
}

impl Setup {
    pub(super) fn new(live: CurrentProxy) -> Self {
        Self {
            live,
            machines: Machines::default(),
            answers: Counter::new("dhcp_answers", "ProxyDHCP replies with a boot file."),
            nothing: Counter::new("dhcp_nothing", "ProxyDHCP requests of machines without a boot file here."),
            hooks: RefCell::default(),
        }
    }
}

impl Service {
    pub(super) fn new(setup: Setup, handle: ServerHandle) -> Rc<Self> {
        let (inbox, budget) = (Inbox::new().into(), Budget::default().into());
        let (unreported, broadcasts) = (RefCell::default(), interface::broadcasts().into());
        Rc::new(Self { setup, handle, inbox, unreported, looked: Cell::new(None), budget, broadcasts })
    }

    pub(super) async fn serve(self: Rc<Self>, links: Vec<Link>) {
        let executor = Rc::new(LocalExecutor::new());
        let serve = async {
            // Datagrams that arrive in the meantime wait in their sockets.
            self.look().await;
            let mut attended: Vec<ServedInterface> =
                links.into_iter().map(|link| self.serve_interface(link, &executor)).collect();
            loop {
                Timer::after(SEARCH_INTERVAL).await;
                self.broadcasts.replace(interface::broadcasts());
                attended.iter_mut().for_each(|attended| self.rebind(attended, &executor));
            }
        };
        executor.run(serve).await
    }

    /// Searches on another thread: for clients such as U-Boot, an answer after that of the DHCP server is too late.
    async fn look(&self) {
        let (live, handle) = (self.setup.live.clone(), self.handle.clone());
        unblock(move || smol::block_on(live.look(&handle))).await;
        self.looked.set(Some(Instant::now()));
    }

    fn serve_interface(self: &Rc<Self>, link: Link, executor: &Rc<LocalExecutor<'static>>) -> ServedInterface {
        let Link { interface, index, ports } = link;
        let task = |(server_port, port)| {
            let (service, searches, interface) = (self.clone(), executor.clone(), interface.clone());
            executor.spawn(async move { service.receive(server_port, &port, &interface, &searches).await })
        };
        let tasks = ports.into_iter().map(task).collect();
        ServedInterface { interface, index, _tasks: tasks }
    }

    /// Binds the ports again if the interface was removed and made anew, because the old sockets receive nothing.
    fn rebind(self: &Rc<Self>, attended: &mut ServedInterface, executor: &Rc<LocalExecutor<'static>>) {
        let interface = attended.interface.clone();
        let now = interface.index();
        // A new bridge may have no address for a while, and a new process would not find it.
        if now.is_none() || now == attended.index || !interface.is_ready() {
            return;
        }
        let name = interface.name.clone();
        match Link::bind(interface) {
            Ok(link) => {
                log::info!("dhcp: {name} was removed and created again, and machines on it get answers again");
                *attended = self.serve_interface(link, executor);
            }
            Err(error) => {
                // One error is enough.
                attended.index = now;
                log::error!("dhcp: {name} was removed and created again, and machines on it get no answers: {error}");
                (self.setup.hooks.borrow().out_of_reach)(&name);
            }
        }
    }

    async fn receive(
        self: &Rc<Self>,
        server_port: ServerPort,
        port: &Port,
        interface: &Interface,
        searches: &LocalExecutor<'static>,
    ) {
        let mut queue = VecDeque::new();
        loop {
            let received = poll_fn(|cx| port.poll_receive(cx, &mut self.inbox.borrow_mut())).await;
            if let Err(error) = received {
                log::debug!("dhcp: {} of {}: {error}", port.local(), interface.name);
                Timer::after(PAUSE).await;
                continue;
            }
            let proxy = self.setup.live.proxy();
            let (now, mut is_asked, mut is_flood) = (Instant::now(), false, false);
            for (envelope, datagram) in self.inbox.borrow().datagrams() {
                is_flood |= !self.budget.borrow_mut().datagrams.take(now);
                let arrival = interface.arrival(server_port, envelope).filter(|_| !is_flood);
                is_asked |=
                    arrival.is_some_and(|arrival| self.answer(&proxy, interface, arrival, datagram, &mut queue));
            }
            port.send(&mut queue);
            self.report(interface);
            if is_asked && self.looked.get().is_some_and(|looked| looked.elapsed() > SEARCH_INTERVAL) {
                self.looked.set(None);
                let service = self.clone();
                searches.spawn(async move { service.look().await }).detach();
            }
            if is_flood {
                Timer::after(READ_PAUSE).await;
            }
        }
    }

    /// Queues the answer to a datagram. Returns whether a machine that wants to boot sent it.
    fn answer(
        &self,
        proxy: &Proxy,
        interface: &Interface,
        arrival: Arrival,
        datagram: &[u8],
        queue: &mut VecDeque<Outgoing>,
    ) -> bool {
        let interface = interface.name.as_str();
        let answer = proxy.answer(datagram, arrival);
        let is_asked = !matches!(answer, Err(NoReply::NotForUs(_)));
        if is_asked && !self.budget.borrow_mut().answer(Instant::now(), arrival.broadcast) {
            return is_asked;
        }
        match answer {
            // One forged packet would bring an answer to each machine of a network.
            Ok(Reply { to, .. }) if self.broadcasts.borrow().contains(to.ip()) => {
                log::debug!("dhcp: {to} is a broadcast address of a network and gets no answer, on {interface}");
                return false;
            }
            Ok(Reply { to, .. }) if !self.admits(to) => {
                log::debug!("dhcp: {to} is not admitted and gets no answer, on {interface}");
                return false;
            }
            Ok(Reply { bytes, to, offer }) => {
                self.setup.answers.add(1);
                self.note(offer.machine, Ok(offer));
                // The packet is longer than the header of an `Outgoing`, so the payload has the rest.
                let (header, payload) =
                    bytes.split_first_chunk().map_or(([0; 4], &[][..]), |(head, rest)| (*head, rest));
                let from = Some(IpAddr::V4(arrival.local));
                queue.push_back(Outgoing { to: to.into(), from, header, payload: Bytes::copy_from_slice(payload) });
            }
            Err(NoReply::NoBootFile(machine, why)) => {
                self.setup.nothing.add(1);
                self.note(machine, Err(why));
            }
            Err(NoReply::NotForUs(why)) => {
                log::trace!("dhcp: {} is not answered, on {interface}: {why}", arrival.from);
            }
        }
        is_asked
    }

    fn note(&self, machine: Machine, answer: Result<Offer, NoBootFile>) {
        self.learn(&machine);
        self.unreported.borrow_mut().push(Answered { machine, answer });
    }

    /// Reports the requests. Their answers are sent before: U-Boot takes an answer for some milliseconds only, and a
    /// hook or a log may take longer.
    fn report(&self, interface: &Interface) {
        let (interface, mut hooks) = (interface.name.as_str(), self.setup.hooks.borrow_mut());
        for Answered { machine, answer } in self.unreported.take() {
            let answer = answer.as_ref();
            (hooks.tell)(RequestReport { machine: &machine, answer, interface });
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
        known.arch = machine.arch.family().filter(|_| !machine.uboot).map(|family| family.key.into());
        self.setup.machines.learn(None, known);
    }
}

impl Budget {
    /// Whether another datagram may be answered.
    fn answer(&mut self, now: Instant, broadcast: bool) -> bool {
        if broadcast { self.broadcasts.take(now) } else { self.others.take(now) }
    }
}

impl Default for Budget {
    fn default() -> Self {
        let [broadcasts, others] = [ANSWERS; 2].map(Bucket::new);
        Self { datagrams: Bucket::new(DATAGRAMS), broadcasts, others }
    }
}

impl Interface {
    /// The arrival of a datagram. `None` if its sender has no IPv4 address, or the interface has none.
    fn arrival(&self, server_port: ServerPort, envelope: Envelope) -> Option<Arrival> {
        let SocketAddr::V4(from) = envelope.peer else { return None };
        let told = envelope.local.and_then(|ip| match ip {
            IpAddr::V4(ip) => Some(ip).filter(|ip| !ip.is_unspecified() && !ip.is_broadcast()),
            IpAddr::V6(_) => None,
        });
        let told = told.filter(|told| self.addresses.is_empty() || self.addresses.contains(told));
        let local = told.or(self.addresses.first().copied())?;
        Some(Arrival { server_port, from, local, broadcast: envelope.broadcast })
    }
}

#[cfg(test)]
mod tests {
    use std::{
        net::Ipv4Addr,
        sync::{Mutex, mpsc},
    };

    use super::*;
    use crate::{Server, dhcp::Rule, handlers::Memory};

    const PXE: &[u8] = include_bytes!("../../tests/dhcp/captured/edk2_pxe.bin");
    const PXE_4011: &[u8] = include_bytes!("../../tests/dhcp/captured/edk2_pxe_4011.bin");

    fn setup() -> Setup {
        let live = CurrentProxy::default();
        live.change(|proxy| proxy.rules(vec![Rule::new("all", "file")]));
        Setup::new(live)
    }

    /// The same, with a hook that writes down the reports.
    fn setup_that_tells() -> (Setup, mpsc::Receiver<String>) {
        let ((told, heard), mut setup) = (mpsc::channel(), setup());
        setup.hooks.get_mut().tell = Box::new(move |request| told.send(request.to_string()).unwrap());
        (setup, heard)
    }

    /// How many answers a datagram gets.
    fn answers(service: &Service, server_port: ServerPort, from: Ipv4Addr, datagram: &[u8]) -> usize {
        let lan = Interface { name: "lan".into(), addresses: vec![Ipv4Addr::new(192, 0, 2, 1)] };
        let envelope = Envelope { peer: (from, 4011).into(), local: None, interface: 0, broadcast: false };
        let mut queue = VecDeque::new();
        let arrival = lan.arrival(server_port, envelope).unwrap();
        service.answer(&service.setup.live.proxy(), &lan, arrival, datagram, &mut queue);
        service.report(&lan);
        queue.len()
    }

    #[test]
    fn a_client_that_is_not_admitted_gets_no_answer_at_its_address() {
        let (denied, other) = (Ipv4Addr::new(192, 0, 2, 111), Ipv4Addr::new(192, 0, 2, 112));
        let builder = Server::builder().listen("127.0.0.1:0").handler(Memory::new());
        let (builder, setup) = (builder.admit(move |client| client != IpAddr::V4(denied)), setup());
        let server = builder.counter(&setup.answers).counter(&setup.nothing).bind().unwrap();
        let service = Service::new(setup, server.handle());
        assert_eq!(answers(&service, ServerPort::Pxe, denied, PXE_4011), 0);
        assert_eq!(answers(&service, ServerPort::Pxe, other, PXE_4011), 1);
        // The address that the client has, or its relay has, and not the one that the datagram came from.
        for field in [12..16, 24..28] {
            let from = |address: Ipv4Addr| {
                let mut discovery = PXE.to_vec();
                discovery[field.clone()].copy_from_slice(&address.octets());
                discovery
            };
            assert_eq!(answers(&service, ServerPort::Dhcp, other, &from(denied)), 0);
            assert_eq!(answers(&service, ServerPort::Dhcp, denied, &from(other)), 1);
        }
        // A client that has no address yet.
        assert_eq!(answers(&service, ServerPort::Dhcp, Ipv4Addr::UNSPECIFIED, PXE), 1);
        let counted = server.handle().counters().own;
        assert_eq!((counted["dhcp_answers"], counted["dhcp_nothing"]), (4, 0));
    }

    #[test]
    fn no_answer_goes_to_all_machines_of_a_network_by_a_forged_address() {
        let server = Server::builder().listen("127.0.0.1:0").handler(Memory::new()).bind().unwrap();
        let service = Service::new(setup(), server.handle());
        let (all, one) = (Ipv4Addr::new(192, 0, 2, 127), Ipv4Addr::new(192, 0, 2, 128));
        service.broadcasts.replace(vec![all]);
        for (address, expected) in [(all, 0), (one, 1)] {
            for field in [12..16, 24..28] {
                let mut discovery = PXE.to_vec();
                discovery[field].copy_from_slice(&address.octets());
                assert_eq!(answers(&service, ServerPort::Dhcp, one, &discovery), expected, "{address}");
            }
            assert_eq!(answers(&service, ServerPort::Pxe, address, PXE_4011), expected, "{address}");
        }
    }

    #[test]
    fn a_search_does_not_hold_the_thread_of_the_answers() {
        let (release, hold) = mpsc::channel::<()>();
        let hold = Mutex::new(hold);
        let handler = crate::read(async move |_: crate::Request| {
            // It ends when the other side is dropped.
            let held = hold.lock().unwrap().recv_timeout(Duration::from_secs(60));
            assert_eq!(held, Err(mpsc::RecvTimeoutError::Disconnected), "the search held the thread");
            Err::<crate::Source, _>(crate::Refusal::not_found())
        });
        let server = Server::builder().listen("127.0.0.1:0").handler(handler).bind().unwrap();
        let service = Service::new(setup(), server.handle());
        smol::block_on(smol::future::zip(service.look(), async { drop(release) }));
        assert!(service.looked.get().is_some());
    }

    #[test]
    fn the_hook_gets_each_request() {
        let server = Server::builder().listen("127.0.0.1:0").handler(Memory::new()).bind().unwrap();
        let (setup, heard) = setup_that_tells();
        let live = setup.live.clone();
        let service = Service::new(setup, server.handle());
        assert_eq!(answers(&service, ServerPort::Dhcp, Ipv4Addr::UNSPECIFIED, PXE), 1);
        live.change(|proxy| proxy.rules(Vec::new()));
        assert_eq!(answers(&service, ServerPort::Dhcp, Ipv4Addr::UNSPECIFIED, PXE), 0);
        assert_eq!(answers(&service, ServerPort::Dhcp, Ipv4Addr::UNSPECIFIED, b"nothing"), 0);
        let heard: Vec<String> = heard.try_iter().collect();
        assert!(
            matches!(&heard[..], [one, two] if one.ends_with("may boot file: all, on lan")
                && two.contains("gets no answer: none of its boot files exists")),
            "{heard:?}"
        );
    }

    #[test]
    fn an_answer_is_queued_before_its_report() {
        let server = Server::builder().listen("127.0.0.1:0").handler(Memory::new()).bind().unwrap();
        let (setup, heard) = setup_that_tells();
        let (proxy, service) = (setup.live.proxy(), Service::new(setup, server.handle()));
        let lan = Interface { name: "lan".into(), addresses: vec![Ipv4Addr::new(192, 0, 2, 1)] };
        let from = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68);
        let envelope = Envelope { peer: from.into(), local: None, interface: 0, broadcast: true };
        let arrival = lan.arrival(ServerPort::Dhcp, envelope).unwrap();
        let mut queue = VecDeque::new();
        for _ in 0..2 {
            assert!(service.answer(&proxy, &lan, arrival, PXE, &mut queue));
        }
        // Between the two, all answers are sent at once.
        assert_eq!((queue.len(), heard.try_iter().count()), (2, 0));
        service.report(&lan);
        service.report(&lan);
        assert_eq!(heard.try_iter().count(), 2, "each once");
    }

    /// A forger elsewhere cannot broadcast here.
    #[test]
    fn a_flood_from_elsewhere_takes_no_answer_from_broadcasts() {
        let now = Instant::now();
        let mut budget = Budget::default();
        assert_eq!((0..5000).filter(|_| budget.answer(now, false)).count(), 1000);
        assert_eq!((0..5000).filter(|_| budget.answer(now, true)).count(), 1000);
        let later = now + Duration::from_millis(100);
        let answered = [false, true].map(|broadcast| (0..5000).filter(|_| budget.answer(later, broadcast)).count());
        assert_eq!(answered, [100, 100], "a flood has its share of each moment, not of each second");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn an_interface_has_an_index_and_one_without_an_address_is_not_ready() {
        let interface = |name: &str| Interface { name: name.into(), addresses: Vec::new() };
        assert!(interface("lo").index().is_some() && !interface("lo").is_ready());
        assert!(interface("none-such").index().is_none() && !interface("none-such").is_ready());
    }
}
