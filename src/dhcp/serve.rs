//! The server: its sockets, its settings, and a thread that answers the datagrams.

use super::{
    CurrentProxy, Interface, Proxy, RequestReport,
    link::Link,
    service::{Service, Setup},
};
use crate::{
    background::Background,
    error::Error,
    rules::Machines,
    server::{ServerBuilder, ServerHandle},
};

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
    setup: Setup,
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
        let links = interfaces.into_iter().map(Link::bind).collect::<Result<_, _>>()?;
        Ok(Self { links, setup: Setup::new(live) })
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
    pub fn record_machines(mut self, machines: &Machines) -> Self {
        self.setup.machines = machines.clone();
        self
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
        self.setup.hooks.get_mut().tell = Box::new(hook);
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
        self.setup.hooks.get_mut().out_of_reach = Box::new(hook);
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
        &self.setup.live
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
        smol::block_on(self.live().look(handle));
        self.live().proxy()
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
    pub fn serve(self, handle: ServerHandle) -> Result<Serving, Error> {
        let serve = async move || Service::new(self.setup, handle).serve(self.links).await;
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
        self.counter(&sockets.setup.answers).counter(&sockets.setup.nothing)
    }
}
