//! The decision about a datagram: an answer, or silence with a reason. No socket, no clock.

use std::{
    fmt,
    net::{Ipv4Addr, SocketAddrV4},
};

use dhcproto::v4::MessageType;
use percent_encoding::{AsciiSet, utf8_percent_encode};

use super::{
    Machine, Menu, NoBootFile, Rule,
    menu::goes_on_by_tftp,
    packet::{ClientMessage, ReplyFields},
};
use crate::name::ENCODED;

/// The ports at which clients and relays receive answers (RFC 2131 section 4.1).
const CLIENT_PORT: u16 = 68;
const SERVER_PORT: u16 = 67;
/// The port to which boot clients send TFTP requests by default.
const TFTP_PORT: u16 = 69;

/// The characters that are percent-encoded in the path of a URL.
const PATH: &AsciiSet = &ENCODED.remove(b'/');

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
#[must_use]
pub struct Proxy {
    rules: Vec<Rule>,
    menu: Menu,
    tftp: u16,
    http: Vec<SocketAddrV4>,
}

/// The port that received a datagram.
///
/// ```
#[doc = include_str!("example.md")]
/// let proxy = Proxy::default().rules(vec![Rule::new("all", "grubx64.efi")]);
/// assert!(proxy.answer(&discover, Arrival { server_port: ServerPort::Dhcp, from, local, broadcast: true }).is_ok());
/// // No client broadcasts its DHCPDISCOVER to port 4011.
/// assert!(proxy.answer(&discover, Arrival { server_port: ServerPort::Pxe, from, local, broadcast: true }).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ServerPort {
    /// Port 67, to which a client broadcasts its DHCPDISCOVER.
    Dhcp,
    /// Port 4011, at which a client asks the boot server that it has chosen (PXE 2.1 section 2.2.4).
    Pxe,
}

/// The port, the sender and the interface of a datagram.
///
/// ```
/// use tuffet::dhcp::{Arrival, ServerPort};
///
/// // A machine without an address has broadcast its DHCPDISCOVER to the network of 192.0.2.1.
/// let (from, local) = ("0.0.0.0:68".parse()?, "192.0.2.1".parse()?);
/// let arrival = Arrival { server_port: ServerPort::Dhcp, from, local, broadcast: true };
/// assert!(arrival.from.ip().is_unspecified());
/// # Ok::<(), std::net::AddrParseError>(())
/// ```
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
///
/// ```
#[doc = include_str!("example.md")]
/// let proxy = Proxy::default().rules(vec![Rule::new("all", "grubx64.efi")]);
/// let reply = proxy.answer(&discover, Arrival { server_port: ServerPort::Dhcp, from, local, broadcast: true })?;
/// // It has no address yet, so the answer is a broadcast.
/// assert_eq!(reply.to, "255.255.255.255:68".parse()?);
/// assert!(reply.bytes.windows(11).any(|part| part == b"grubx64.efi"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
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
///
/// ```
#[doc = include_str!("example.md")]
/// let proxy = Proxy::default().rules(vec![Rule::new("the lab", "grubx64.efi")]);
/// let reply = proxy.answer(&discover, Arrival { server_port: ServerPort::Dhcp, from, local, broadcast: true })?;
/// assert_eq!(reply.offer.to_string(), "52-54-00-12-34-56 (EFI x64) may boot grubx64.efi: the lab");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Offer {
    /// The machine that gets the answer.
    pub machine: Machine,
    /// The boot file in the answer: a name or a URL. It is empty if U-Boot gets only the server's address.
    pub file: String,
    /// The reason for this boot file.
    pub why: String,
    /// Whether the answer is a DHCPACK, for a packet to port 4011.
    pub acknowledges: bool,
}

/// The boot file of a machine, and the reason for it.
///
/// ```
/// use tuffet::dhcp::{Machine, Proxy, Rule};
///
/// let proxy = Proxy::default().rules(vec![Rule::new("the lab", "grubx64.efi")]);
/// let chosen = proxy.choose(&Machine::new("x64".parse()?))?;
/// assert_eq!((&*chosen.file, &*chosen.why), ("grubx64.efi", "the lab"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BootFile {
    /// The name of a file of the sources, or the URL of a rule. It is empty if U-Boot gets only the server's address.
    pub file: String,
    /// The reason for this boot file, for people.
    pub why: String,
}

/// The reason why a datagram gets no answer.
///
/// ```
/// # use tuffet::dhcp::{Arrival, NoBootFile, NoReply, Proxy, ServerPort};
/// # let mut discover = vec![0; 240];
/// # discover[..3].copy_from_slice(&[1, 1, 6]);
/// # discover[28..34].copy_from_slice(&[0x52, 0x54, 0, 0x12, 0x34, 0x56]);
/// # discover[236..].copy_from_slice(&[99, 130, 83, 99]);
/// # discover.extend(b"\x35\x01\x01\x3c\x09PXEClient\x5d\x02\x00\x07\xff");
/// # let (from, local) = ("0.0.0.0:68".parse()?, "192.0.2.1".parse()?);
/// let arrival = Arrival { server_port: ServerPort::Dhcp, from, local, broadcast: true };
/// let nothing = Proxy::default().answer(&discover, arrival);
/// assert!(matches!(nothing, Err(NoReply::NoBootFile(_, NoBootFile::Absent(family))) if family.key == "x64"));
/// assert!(matches!(Proxy::default().answer(b"...", arrival), Err(NoReply::NotForUs(_))));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NoReply {
    /// The datagram is not for this server: it is from another kind of client, has another message type, or is no DHCP
    /// packet.
    NotForUs(&'static str),
    /// The machine wants to boot, but gets no boot file, with the reason.
    NoBootFile(Machine, NoBootFile),
}

impl Default for Proxy {
    fn default() -> Self {
        Self { rules: Vec::new(), menu: Menu::default(), tftp: TFTP_PORT, http: Vec::new() }
    }
}

impl Proxy {
    /// Sets the rules. The first rule that matches a machine applies. Defaults to none.
    ///
    /// ```
    /// use tuffet::dhcp::{Machine, Proxy, Rule};
    ///
    /// let proxy = Proxy::default().rules(vec![
    ///     Rule::new("the lab", "lab.efi").mac("52:54:00".parse()?),
    ///     Rule::new("all others", "grubx64.efi"),
    /// ]);
    /// let machine = Machine::new("x64".parse()?);
    /// assert_eq!(proxy.choose(&machine.mac("52:54:00:12:34:56".parse()?))?.file, "lab.efi");
    /// assert_eq!(proxy.choose(&machine)?.file, "grubx64.efi");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn rules(mut self, rules: Vec<Rule>) -> Self {
        self.rules = rules;
        self
    }

    /// Sets the menu, which applies to machines that no rule matches. Defaults to an empty menu.
    ///
    /// ```
    /// use tuffet::{dhcp::{Machine, Menu, Proxy}, read};
    ///
    /// // These sources have every file, so iPXE gets the first of its scripts.
    /// let menu = smol::block_on(Menu::find(&read(|_| "...")));
    /// let bios = Machine::new("bios".parse()?);
    /// assert_eq!(Proxy::default().menu(menu).choose(&bios.with_ipxe())?.file, "boot.ipxe");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn menu(mut self, menu: Menu) -> Self {
        self.menu = menu;
        self
    }

    /// Sets the port of the TFTP server. Defaults to 69, the only port that firmware knows.
    ///
    /// ```
    /// use tuffet::dhcp::{Machine, Proxy};
    ///
    /// let proxy = Proxy::default().tftp(6969);
    /// let ipxe = Machine::new("x64".parse()?).with_ipxe();
    /// assert_eq!(proxy.place("boot.ipxe", &ipxe, "192.0.2.1".parse()?)?, "tftp://192.0.2.1:6969/boot.ipxe");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
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
    pub fn http(mut self, addresses: impl IntoIterator<Item = SocketAddrV4>) -> Self {
        self.http = addresses.into_iter().collect();
        self
    }

    /// Whether there are no rules, and no files that any machine can boot.
    ///
    /// ```
    /// use tuffet::dhcp::{Proxy, Rule};
    ///
    /// assert!(Proxy::default().is_empty());
    /// assert!(!Proxy::default().rules(vec![Rule::new("all", "grubx64.efi")]).is_empty());
    /// ```
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty() && self.menu.is_empty()
    }

    /// The menu.
    pub(super) fn known(&self) -> &Menu {
        &self.menu
    }

    /// The [failure](Menu::failure) of the search for the menu.
    ///
    /// ```
    /// use tuffet::{Refusal, dhcp::{Menu, Proxy}, read};
    ///
    /// let down = smol::block_on(Menu::find(&read(|_| Err::<&str, _>(Refusal::upstream()))));
    /// assert!(Proxy::default().menu(down).failure().is_some());
    /// ```
    pub fn failure(&self) -> Option<&str> {
        self.menu.failure()
    }

    /// The boot file of a machine.
    ///
    /// ```
    /// use tuffet::dhcp::{Arch, Machine, NoBootFile, Proxy};
    ///
    /// let amiga = Machine::new(Arch(60_000));
    /// assert_eq!(Proxy::default().choose(&amiga), Err(NoBootFile::Arch(Arch(60_000))));
    /// ```
    ///
    /// # Errors
    /// The reason why the machine gets no boot file.
    pub fn choose(&self, machine: &Machine) -> Result<BootFile, NoBootFile> {
        match self.rules.iter().find(|rule| rule.check(machine).is_ok()) {
            Some(rule) if rule.file().is_empty() => Err(NoBootFile::Rule(rule.title().into())),
            Some(rule) => Ok(BootFile { file: rule.file().into(), why: rule.title().into() }),
            None => {
                let file = self.menu.choose(machine)?.to_owned();
                let why = if file.is_empty() { "`pxe get` needs no boot script" } else { "found in the sources" };
                Ok(BootFile { file, why: why.into() })
            }
        }
    }

    /// The rules in their order. [`Rule::check`] says why a rule does not match a machine.
    ///
    /// ```
    /// use tuffet::dhcp::{Machine, Proxy, Rule};
    ///
    /// let proxy = Proxy::default().rules(vec![Rule::new("the lab", "grubx64.efi").arch("x64".parse()?)]);
    /// let bios = Machine::new("bios".parse()?);
    /// let why: Vec<_> = proxy.each_rule().map(|rule| (rule.title(), rule.check(&bios).is_ok())).collect();
    /// assert_eq!(why, [("the lab", false)]);
    /// # Ok::<(), tuffet::Error>(())
    /// ```
    pub fn each_rule(&self) -> impl Iterator<Item = &Rule> {
        self.rules.iter()
    }

    /// The name or the URL of a file in the answer that a server with this address sends to a machine.
    ///
    /// ```
    /// use tuffet::dhcp::{Machine, NoBootFile, Proxy};
    ///
    /// let (proxy, local) = (Proxy::default(), "192.0.2.1".parse()?);
    /// assert_eq!(proxy.place("grubx64.efi", &Machine::new("x64".parse()?), local)?, "grubx64.efi");
    /// let by_http = Machine::new("http-x64".parse()?);
    /// assert_eq!(proxy.place("grubx64.efi", &by_http, local), Err(NoBootFile::NoHttp));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`NoBootFile::NoHttp`] if the machine cannot fetch the file.
    pub fn place(&self, file: &str, machine: &Machine, local: Ipv4Addr) -> Result<String, NoBootFile> {
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
            None if machine.http => Err(NoBootFile::NoHttp),
            _ => Ok(format!("{}{path}", url("tftp", local, self.tftp, TFTP_PORT))),
        }
    }

    /// The answer to a datagram.
    ///
    /// ```
    /// use tuffet::dhcp::{Arrival, Proxy, Rule, ServerPort};
    ///
    /// // The DHCPDISCOVER of firmware for x64: a fixed header, the magic cookie, and the options 53, 60 and 93.
    /// let mut discover = vec![0; 240];
    /// discover[..3].copy_from_slice(&[1, 1, 6]);
    /// discover[236..].copy_from_slice(&[99, 130, 83, 99]);
    /// discover.extend(b"\x35\x01\x01\x3c\x09PXEClient\x5d\x02\x00\x07\xff");
    ///
    /// let proxy = Proxy::default().rules(vec![Rule::new("the lab", "grubx64.efi").arch("x64".parse()?)]);
    /// let (from, local) = ("0.0.0.0:68".parse()?, "192.0.2.1".parse()?);
    /// let reply = proxy.answer(&discover, Arrival { server_port: ServerPort::Dhcp, from, local, broadcast: true })?;
    /// assert_eq!((&*reply.offer.file, reply.offer.acknowledges), ("grubx64.efi", false));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
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
        let nothing = |why| NoReply::NoBootFile(machine, why);
        let chosen = self.choose(&machine).map_err(nothing)?;
        let file = self.place(&chosen.file, &machine, local).map_err(nothing)?;
        let bytes = message.answer(&ReplyFields { kind, server: local, file: &file }).map_err(nothing)?;
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
