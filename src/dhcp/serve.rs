//! The sockets: ports 67 and 4011 of each interface, and a thread that answers their datagrams.

use std::{
    cell::RefCell,
    fmt,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use super::{
    Interface, Machine, NoBootFile, Offer, Proxy, ServerPort,
    service::{Service, look},
};
use crate::{
    background::Background,
    error::Error,
    rules::Machines,
    server::{ServerBuilder, ServerHandle},
    socket::{Binding, Port, Role, Share},
    stats::Counter,
    sync::RwLock,
};

/// The ports of the server (RFC 2131 section 4.1, PXE 2.1 section 2.2.4).
const PORTS: [(ServerPort, u16); 2] = [(ServerPort::Dhcp, 67), (ServerPort::Pxe, 4011)];

/// The current [`Proxy`]. A reload may replace its rules, and the server looks at the sources again now and then.
///
/// ```
/// use tuffet::dhcp::{CurrentProxy, Rule};
///
/// let live = CurrentProxy::default();
/// let (of_a_reload, of_the_server) = (live.clone(), live);
/// of_a_reload.change(|proxy| proxy.rules(vec![Rule::new("all", "grubx64.efi")]));
/// assert!(!of_the_server.proxy().is_empty());
/// ```
#[derive(Clone, Debug, Default)]
pub struct CurrentProxy(Arc<RwLock<Proxy>>);

impl CurrentProxy {
    /// A copy of the current proxy.
    ///
    /// ```
    /// assert!(tuffet::dhcp::CurrentProxy::default().proxy().is_empty());
    /// ```
    pub fn proxy(&self) -> Proxy {
        self.0.read().clone()
    }

    /// Changes the proxy for all later packets.
    ///
    /// ```
    /// use tuffet::dhcp::CurrentProxy;
    ///
    /// let live = CurrentProxy::default();
    /// let before = live.proxy();
    /// live.change(|proxy| proxy.tftp(6969));
    /// assert_ne!(live.proxy(), before);
    /// ```
    pub fn change(&self, change: impl FnOnce(Proxy) -> Proxy) {
        let mut proxy = self.0.write();
        *proxy = change(std::mem::take(&mut *proxy));
    }
}

/// The bound sockets of a server that does not answer yet.
///
/// ```no_run
/// use tuffet::{Server, dhcp::{CurrentProxy, Sockets, interfaces}, handlers::Memory};
///
/// let sockets = Sockets::bind(interfaces()?, CurrentProxy::default())?;
/// let server = Server::builder().handler(Memory::new()).watch_dhcp(&sockets).bind()?;
/// sockets.live().change(|proxy| proxy.tftp(server.addrs()[0].port()));
/// let _serving = sockets.serve(server.handle())?;
/// server.run()?;
/// # Ok::<(), tuffet::Error>(())
/// ```
#[derive(Debug)]
#[must_use]
pub struct Sockets {
    links: Vec<Link>,
    pub(super) live: CurrentProxy,
    pub(super) machines: Machines,
    pub(super) answers: Counter,
    pub(super) nothing: Counter,
    pub(super) hooks: RefCell<Hooks>,
}

/// The sockets of one interface.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) interface: Interface,
    /// The index of the interface to which the sockets are bound. The system does not go by its name.
    pub(super) index: Option<u32>,
    pub(super) ports: Vec<(ServerPort, Port)>,
}

/// A machine's request and its answer, as the log shows them.
///
/// ```
/// use tuffet::dhcp::{CurrentProxy, Sockets};
///
/// let sockets = Sockets::bind(Vec::new(), CurrentProxy::default())?.on_request(|request| match request.answer {
///     Ok(offer) => println!("{} for {}", offer.file, request.machine),
///     Err(why) => eprintln!("nothing for {} on {}: {why}", request.machine, request.interface),
/// });
/// # assert!(sockets.live().proxy().is_empty());
/// # Ok::<(), tuffet::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RequestReport<'a> {
    /// The machine that asks for its boot file.
    pub machine: &'a Machine,
    /// The boot file in the answer, or the reason why there is no answer.
    pub answer: Result<&'a Offer, &'a NoBootFile>,
    /// The name of the interface.
    pub interface: &'a str,
}

/// The hooks of the program.
pub(super) struct Hooks {
    pub(super) tell: Box<dyn FnMut(RequestReport<'_>) + Send>,
    pub(super) out_of_reach: Box<dyn Fn(&str) + Send>,
}

/// A server that answers. It ends when this value is dropped.
///
/// ```
/// use tuffet::{Server, dhcp::{CurrentProxy, Sockets}};
///
/// let server = Server::builder().listen("127.0.0.1:0").bind()?;
/// let serving = Sockets::bind(Vec::new(), CurrentProxy::default())?.serve(server.handle())?;
/// // It ends, and its thread too.
/// drop(serving);
/// assert_eq!(server.handle().counters().requests, 0);
/// # Ok::<(), tuffet::Error>(())
/// ```
#[derive(Debug)]
#[must_use = "it serves until this is dropped"]
pub struct Serving {
    background: Background,
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.background.end();
    }
}

impl Sockets {
    /// Binds the ports on these interfaces, and on no others. Port 67 is below 1024 and so needs a privilege, which the
    /// process may give up afterwards.
    ///
    /// If an interface is removed and made anew under its name, as bridges and USB adapters are, the server binds the
    /// ports again, within about 10 s. See also [`on_out_of_reach`](Self::on_out_of_reach).
    ///
    /// ```
    /// use tuffet::dhcp::{CurrentProxy, Interface, Sockets};
    ///
    /// let no_such = Interface { name: "no-such".into(), addresses: Vec::new() };
    /// assert!(Sockets::bind(vec![no_such], CurrentProxy::default()).is_err());
    /// ```
    ///
    /// # Errors
    /// [`Error::Bind`] with the address that could not be bound.
    pub fn bind(interfaces: Vec<Interface>, live: CurrentProxy) -> Result<Self, Error> {
        Ok(Self {
            links: interfaces.into_iter().map(Link::bind).collect::<Result<_, _>>()?,
            live,
            machines: Machines::default(),
            answers: Counter::new("dhcp_answers", "ProxyDHCP replies with a boot file."),
            nothing: Counter::new("dhcp_nothing", "ProxyDHCP requests of machines without a boot file here."),
            hooks: RefCell::default(),
        })
    }

    /// The names of the interfaces.
    ///
    /// ```
    /// use tuffet::dhcp::{CurrentProxy, Sockets};
    ///
    /// assert_eq!(Sockets::bind(Vec::new(), CurrentProxy::default())?.interfaces().count(), 0);
    /// # Ok::<(), tuffet::Error>(())
    /// ```
    pub fn interfaces(&self) -> impl Iterator<Item = &str> {
        self.links.iter().map(|link| link.interface.name.as_str())
    }

    /// Records the UUID and the architecture of each machine in this table, by its MAC address, when the machine asks
    /// for its boot file. Rules can use them when the machine requests files.
    ///
    /// ```
    /// use tuffet::{dhcp::{CurrentProxy, Sockets}, handlers::{Memory, Ruled}, rules::{Machines, Rule, Rules}};
    ///
    /// let machines = Machines::default();
    /// let rule = Rule::new("by architecture").target("${arch}/${path}")?;
    /// let handler = Ruled::new(Rules::new(vec![rule])?, Memory::new()).machines(&machines);
    /// let sockets = Sockets::bind(Vec::new(), CurrentProxy::default())?.record_machines(&machines);
    /// # assert!(sockets.live().proxy().is_empty());
    /// # Ok::<(), tuffet::Error>(())
    /// ```
    pub fn record_machines(self, machines: &Machines) -> Self {
        Self { machines: machines.clone(), ..self }
    }

    /// Calls this hook for each machine that asks for its boot file, instead of logging a line. Anybody on the network
    /// can forge such requests, so limit what you log. Defaults to a line of level info.
    ///
    /// ```
    /// use std::sync::{Arc, atomic::{AtomicUsize, Ordering::Relaxed}};
    /// use tuffet::dhcp::{CurrentProxy, Sockets};
    ///
    /// let asked = Arc::new(AtomicUsize::new(0));
    /// let count = asked.clone();
    /// let sockets = Sockets::bind(Vec::new(), CurrentProxy::default())?;
    /// let sockets = sockets.on_request(move |_| _ = count.fetch_add(1, Relaxed));
    /// assert_eq!((sockets.interfaces().count(), asked.load(Relaxed)), (0, 0));
    /// # Ok::<(), tuffet::Error>(())
    /// ```
    pub fn on_request(mut self, hook: impl FnMut(RequestReport<'_>) + Send + 'static) -> Self {
        self.hooks.get_mut().tell = Box::new(hook);
        self
    }

    /// Calls this hook with the name of an interface that was removed and made anew, if its ports cannot be bound
    /// again: the process may have given up the privilege that this needs. A new process can bind them. By default
    /// there is no hook, and the log has an error.
    ///
    /// ```
    /// use tuffet::dhcp::{CurrentProxy, Sockets};
    ///
    /// let sockets = Sockets::bind(Vec::new(), CurrentProxy::default())?;
    /// let sockets = sockets.on_out_of_reach(|interface| eprintln!("restart, so that {interface} is served again"));
    /// # assert_eq!(sockets.interfaces().count(), 0);
    /// # Ok::<(), tuffet::Error>(())
    /// ```
    pub fn on_out_of_reach(mut self, hook: impl Fn(&str) + Send + 'static) -> Self {
        self.hooks.get_mut().out_of_reach = Box::new(hook);
        self
    }

    /// The proxy that will answer.
    ///
    /// ```
    /// use tuffet::dhcp::{CurrentProxy, Rule, Sockets};
    ///
    /// let sockets = Sockets::bind(Vec::new(), CurrentProxy::default())?;
    /// sockets.live().change(|proxy| proxy.rules(vec![Rule::new("all", "grubx64.efi")]));
    /// assert!(!sockets.live().proxy().is_empty());
    /// # Ok::<(), tuffet::Error>(())
    /// ```
    pub fn live(&self) -> &CurrentProxy {
        &self.live
    }

    /// Looks for the boot files of this server. Blocks until the search is complete.
    ///
    /// ```
    /// use tuffet::{Server, dhcp::{CurrentProxy, Machine, Sockets}, handlers::Memory};
    ///
    /// let files = Memory::new();
    /// files.insert("pxelinux.0", "...")?;
    /// let server = Server::builder().listen("127.0.0.1:0").handler(files).bind()?;
    /// let proxy = Sockets::bind(Vec::new(), CurrentProxy::default())?.look(&server.handle());
    /// assert_eq!(proxy.choose(&Machine::new("bios".parse()?))?.file, "pxelinux.0");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn look(&self, handle: &ServerHandle) -> Proxy {
        smol::block_on(look(&self.live, handle));
        self.live.proxy()
    }

    /// Starts a thread that answers with the boot files of this server.
    ///
    /// ```
    /// use tuffet::{Server, dhcp::{CurrentProxy, Sockets}, read};
    ///
    /// let server = Server::builder().listen("127.0.0.1:0").handler(read(|_| "...")).bind()?;
    /// let live = CurrentProxy::default();
    /// let serving = Sockets::bind(Vec::new(), live.clone())?.serve(server.handle())?;
    /// // It looks for boot files when it begins.
    /// while live.proxy().is_empty() {
    ///     std::thread::yield_now();
    /// }
    /// # drop(serving);
    /// # Ok::<(), tuffet::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Io`] if the thread cannot be started.
    pub fn serve(mut self, handle: ServerHandle) -> Result<Serving, Error> {
        let serve = async move || {
            let links = std::mem::take(&mut self.links);
            Service::new(self, handle).serve(links).await;
        };
        Ok(Serving { background: Background::spawn("tuffet-dhcp", "the ProxyDHCP server", serve)? })
    }
}

impl ServerBuilder {
    /// Delivers the counters of this ProxyDHCP server, `dhcp_answers` and `dhcp_nothing`, with those of the server.
    ///
    /// ```
    /// use tuffet::{Server, dhcp::{CurrentProxy, Sockets}};
    ///
    /// let sockets = Sockets::bind(Vec::new(), CurrentProxy::default())?;
    /// let server = Server::builder().listen("127.0.0.1:0").watch_dhcp(&sockets).bind()?;
    /// assert_eq!(server.handle().counters().own["dhcp_answers"], 0);
    /// # Ok::<(), tuffet::Error>(())
    /// ```
    pub fn watch_dhcp(self, sockets: &Sockets) -> Self {
        self.counter(&sockets.answers).counter(&sockets.nothing)
    }
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

impl Default for Hooks {
    fn default() -> Self {
        Self { tell: Box::new(|told| log::info!("dhcp: {told}")), out_of_reach: Box::new(|_| {}) }
    }
}

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hooks").finish_non_exhaustive()
    }
}

/// `52-54-00-12-34-56 (EFI x64) may boot bootnetx64.efi: found in the sources, on eth0`
impl fmt::Display for RequestReport<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { machine, answer, interface } = self;
        match answer {
            Ok(offer) => write!(f, "{offer}, on {interface}"),
            Err(why) => write!(f, "{machine} gets no answer: {why}, on {interface}"),
        }
    }
}
