//! The decision about a datagram: an answer, or silence with a reason. No socket, no clock.

use std::{
    fmt,
    net::{Ipv4Addr, SocketAddrV4},
};

use dhcproto::v4::MessageType;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::{
    Machine, Menu, Rule,
    menu::goes_on_by_tftp,
    packet::{ClientMessage, ReplyFields},
};

/// The ports at which clients and relays receive answers (RFC 2131 section 4.1).
const CLIENT_PORT: u16 = 68;
const SERVER_PORT: u16 = 67;
/// The port to which boot clients send TFTP requests by default.
const TFTP_PORT: u16 = 69;

/// The characters that are percent-encoded in the path of a URL.
const PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Chooses the boot file of a machine, and makes the answer to its packet.
///
/// ```
/// use tuffet::dhcp::{Machine, Proxy, Rule};
///
/// let proxy = Proxy::default()
///     .rules(vec![Rule::new("the lab", "lab/grubx64.efi").arch("x64".parse()?)])
///     .tftp(69)
///     .http(["192.0.2.1:80".parse()?]);
/// let machine = Machine::new("x64".parse()?);
/// assert_eq!(proxy.choose(&machine).unwrap().file, "lab/grubx64.efi");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proxy {
    rules: Vec<Rule>,
    menu: Menu,
    tftp: u16,
    http: Vec<SocketAddrV4>,
}

/// The port that received a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ServerPort {
    /// Port 67, to which a client broadcasts its DHCPDISCOVER.
    Dhcp,
    /// Port 4011, at which a client asks the boot server that it has chosen (PXE 2.1 section 2.2.4).
    Pxe,
}

/// The port, the sender and the interface of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// The port that received the datagram.
    pub server_port: ServerPort,
    /// The sender of the datagram.
    pub from: SocketAddrV4,
    /// The address of the interface that received the datagram. Clients know the server by this address.
    pub local: Ipv4Addr,
    /// Whether the datagram was sent to a broadcast or multicast address, and so to all servers.
    pub broadcast: bool,
}

/// The answer to a datagram.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reply {
    /// The packet.
    pub bytes: Vec<u8>,
    /// The destination of the packet. A packet to `255.255.255.255` leaves by the interface that received the datagram.
    pub to: SocketAddrV4,
    /// The machine and the boot file of the answer.
    pub offer: Offer,
}

/// A machine and its boot file, as the log shows them.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Offer {
    /// The machine that gets the answer.
    pub machine: Machine,
    /// The boot file in the answer: a name or a URL. It is empty if U-Boot is only told the server.
    pub file: String,
    /// The reason for this boot file.
    pub why: String,
    /// Whether the answer is a DHCPACK, for a packet to port 4011.
    pub acknowledges: bool,
}

/// The boot file of a machine, and the reason for it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BootFile {
    /// The name of a file of the sources, or the URL of a rule. It is empty if U-Boot is only told the server.
    pub file: String,
    /// The reason for this boot file, for people.
    pub why: String,
}

/// The reason why a datagram gets no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NoReply {
    /// The datagram is not for this server: it is from another kind of client, has another message type, or is no DHCP
    /// packet.
    NotForUs(&'static str),
    /// The machine wants to boot, but gets no boot file, with the reason.
    NoBootFile(Machine, String),
}

impl Default for Proxy {
    fn default() -> Self {
        Self { rules: Vec::new(), menu: Menu::default(), tftp: TFTP_PORT, http: Vec::new() }
    }
}

impl Proxy {
    /// Sets the rules. The first rule that matches a machine applies. Defaults to none.
    #[must_use]
    pub fn rules(mut self, rules: Vec<Rule>) -> Self {
        self.rules = rules;
        self
    }

    /// Sets the menu, which applies to machines that no rule matches. Defaults to an empty menu.
    #[must_use]
    pub fn menu(mut self, menu: Menu) -> Self {
        self.menu = menu;
        self
    }

    /// Sets the port of the TFTP server. Defaults to 69, the only port that firmware knows.
    #[must_use]
    pub fn tftp(mut self, port: u16) -> Self {
        self.tftp = port;
        self
    }

    /// Sets the addresses at which the same files are served over HTTP. iPXE then gets the URLs of scripts there.
    /// Clients that boot by HTTP get an answer only with such an address. A client gets the address that it asked, if
    /// that is one of them (`0.0.0.0` stands for all addresses of this machine), or else the first. Defaults to none.
    ///
    /// ```
    /// use tuffet::dhcp::{Machine, Proxy};
    ///
    /// let proxy = Proxy::default().http(["192.0.2.1:80".parse()?, "198.51.100.1:8080".parse()?]);
    /// let ipxe = Machine::new("x64".parse()?).with_ipxe();
    /// let url = proxy.place("boot.ipxe", &ipxe, "198.51.100.1".parse()?)?;
    /// assert_eq!(url, "http://198.51.100.1:8080/boot.ipxe");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn http(mut self, addresses: impl IntoIterator<Item = SocketAddrV4>) -> Self {
        self.http = addresses.into_iter().collect();
        self
    }

    /// Whether there are no rules, and no files that any machine can boot.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty() && self.menu.is_empty()
    }

    /// The menu.
    pub(super) fn known(&self) -> &Menu {
        &self.menu
    }

    /// The [failure](Menu::failure) of the search for the menu.
    pub fn failure(&self) -> Option<&str> {
        self.menu.failure()
    }

    /// The boot file of a machine.
    ///
    /// # Errors
    /// The reason why the machine gets no boot file, for people.
    pub fn choose(&self, machine: &Machine) -> Result<BootFile, String> {
        match self.rules.iter().find(|rule| rule.check(machine).is_ok()) {
            Some(rule) if rule.file().is_empty() => Err(format!("{} gives it no answer", rule.title())),
            Some(rule) => Ok(BootFile { file: rule.file().into(), why: rule.title().into() }),
            None => {
                let file = self.menu.choose(machine)?.to_owned();
                let why = if file.is_empty() { "`pxe get` needs no boot script" } else { "found in the sources" };
                Ok(BootFile { file, why: why.into() })
            }
        }
    }

    /// The rules in their order. [`Rule::check`] says why a rule does not match a machine.
    pub fn each_rule(&self) -> impl Iterator<Item = &Rule> {
        self.rules.iter()
    }

    /// The name or the URL of a file in the answer that a server with this address sends to a machine.
    ///
    /// # Errors
    /// The reason why the machine cannot fetch the file, for people.
    pub fn place(&self, file: &str, machine: &Machine, local: Ipv4Addr) -> Result<String, String> {
        if file.contains("://") || !(machine.http || machine.ipxe) {
            return Ok(file.into());
        }
        let path = utf8_percent_encode(file.trim_start_matches('/'), PATH);
        let at = |ip: Ipv4Addr| self.http.iter().find(|http| *http.ip() == ip);
        let http = at(local).or_else(|| at(Ipv4Addr::UNSPECIFIED)).or(self.http.first()).map(|http| {
            let ip = if http.ip().is_unspecified() { local } else { *http.ip() };
            url("http", ip, http.port(), 80)
        });
        match http {
            Some(http) if machine.http || !goes_on_by_tftp(file) => Ok(format!("{http}{path}")),
            None if machine.http => Err("it boots by HTTP, which this server does not serve (--http)".into()),
            _ => Ok(format!("{}{path}", url("tftp", local, self.tftp, TFTP_PORT))),
        }
    }

    /// The answer to a datagram.
    ///
    /// # Errors
    /// The reason why the datagram gets no answer.
    pub fn answer(&self, datagram: &[u8], arrival: Arrival) -> Result<Reply, NoReply> {
        let Arrival { server_port, from, local, broadcast } = arrival;
        let message = ClientMessage::decode(datagram).map_err(NoReply::NotForUs)?;
        let kind = match (server_port, message.kind) {
            (ServerPort::Dhcp, MessageType::Discover) => MessageType::Offer,
            // A DHCPREQUEST at this port is for the server that leases the address.
            (ServerPort::Dhcp, _) => return Err(NoReply::NotForUs("it is no DISCOVER")),
            (ServerPort::Pxe, MessageType::Request | MessageType::Inform) => MessageType::Ack,
            (ServerPort::Pxe, _) => return Err(NoReply::NotForUs("it is no request")),
        };
        if !(message.giaddr().is_unspecified() || is_unicast(message.giaddr())) {
            return Err(NoReply::NotForUs("its relay's address (giaddr) is not unicast"));
        }
        if message.giaddr() == local || message.ciaddr() == local {
            return Err(NoReply::NotForUs("its address, or that of its relay, is this server's own"));
        }
        // A client may ask all servers for the one that it has chosen, or for a type of server (PXE 2.1 section 2.2.4).
        if let Some(why) = message.is_for_another(local).filter(|_| broadcast && kind == MessageType::Ack) {
            return Err(NoReply::NotForUs(why));
        }
        let machine = message.machine;
        let nothing = |why: String| NoReply::NoBootFile(machine, why);
        let chosen = self.choose(&machine).map_err(nothing)?;
        let file = self.place(&chosen.file, &machine, local).map_err(nothing)?;
        let bytes = message.answer(&ReplyFields { kind, server: local, file: &file });
        let bytes = bytes.map_err(|why| nothing(why.into()))?;
        let to = destination(&message, server_port, from);
        let acknowledges = kind == MessageType::Ack;
        Ok(Reply { bytes, to, offer: Offer { machine, file, why: chosen.why, acknowledges } })
    }
}

/// The destination of an answer (RFC 2131 section 4.1): the relay (giaddr), the address that the client has (ciaddr),
/// or a broadcast. No other destination is possible: a client without an address gets none from this server.
fn destination(message: &ClientMessage, server_port: ServerPort, from: SocketAddrV4) -> SocketAddrV4 {
    if !message.giaddr().is_unspecified() {
        return SocketAddrV4::new(message.giaddr(), SERVER_PORT);
    }
    match server_port {
        // The client listens at the port from which it sent its packet.
        ServerPort::Pxe if is_unicast(*from.ip()) && from.port() != 0 => from,
        _ if is_unicast(message.ciaddr()) => SocketAddrV4::new(message.ciaddr(), CLIENT_PORT),
        _ => SocketAddrV4::new(Ipv4Addr::BROADCAST, CLIENT_PORT),
    }
}

fn is_unicast(ip: Ipv4Addr) -> bool {
    !(ip.is_unspecified() || ip.is_broadcast() || ip.is_multicast() || ip.is_loopback())
}

fn url(scheme: &str, ip: Ipv4Addr, port: u16, usual: u16) -> String {
    if port == usual { format!("{scheme}://{ip}/") } else { format!("{scheme}://{ip}:{port}/") }
}

/// `52-54-00-12-34-56 (EFI x64) may boot bootnetx64.efi: found in the sources`
impl fmt::Display for Offer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { machine, file, why, acknowledges } = self;
        if file.is_empty() {
            return write!(f, "{machine} is told the server: {why}");
        }
        let says = if *acknowledges { "is sent to" } else { "may boot" };
        write!(f, "{machine} {says} {file}: {why}")
    }
}

impl std::error::Error for NoReply {}

impl fmt::Display for NoReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotForUs(why) => f.write_str(why),
            Self::NoBootFile(machine, why) => write!(f, "{machine} gets no answer: {why}"),
        }
    }
}
