//! What becomes of a datagram: an answer, or silence and why. No socket, no clock.

use std::{
    fmt,
    net::{Ipv4Addr, SocketAddrV4},
};

use dhcproto::v4::MessageType;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::{
    Machine, Menu, Rule,
    menu::goes_on_by_tftp,
    packet::{Ask, Tell},
};

/// Where clients and relays wait for answers (RFC 2131 section 4.1).
const CLIENT_PORT: u16 = 68;
const SERVER_PORT: u16 = 67;
/// Where boot clients ask, if they do not say otherwise.
const TFTP_PORT: u16 = 69;

/// What stays as it is in a path.
const PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Says which machine boots what, and tells it.
#[derive(Clone, Debug)]
pub struct Proxy {
    rules: Vec<Rule>,
    menu: Menu,
    tftp: u16,
    http: Option<SocketAddrV4>,
}

/// The port that a datagram came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// 67, where a client looks for all who may have something for it.
    Dhcp,
    /// 4011, where it asks the one that it has chosen (PXE 2.1 section 2.2.4).
    Pxe,
}

/// How a datagram came.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    /// The port.
    pub door: Door,
    /// Who sent it.
    pub from: SocketAddrV4,
    /// The address of the interface that it came by: that of the server, as clients see it.
    pub local: Ipv4Addr,
}

/// What is to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The packet.
    pub bytes: Vec<u8>,
    /// Where it goes. `255.255.255.255` goes to the interface that the datagram came by.
    pub to: SocketAddrV4,
    /// What it says.
    pub offer: Offer,
}

/// A machine and its file, as logs have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// To whom.
    pub machine: Machine,
    /// The file as it is told: a name or a URL.
    pub file: String,
    /// Why this one.
    pub why: String,
    /// Whether it answers the machine's own question at port 4011.
    pub acknowledges: bool,
}

/// A file of the sources for a machine, and why it is this one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// The name, or a URL where a rule has one.
    pub file: String,
    /// For people.
    pub why: String,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Silence {
    /// It is none of this server's business: another client, another kind of message, or no DHCP at all.
    NotMine(&'static str),
    /// A machine that wants to boot, for which there is nothing, and why.
    Nothing(Machine, String),
}

impl Default for Proxy {
    fn default() -> Self {
        Self { rules: Vec::new(), menu: Menu::default(), tftp: TFTP_PORT, http: None }
    }
}

impl Proxy {
    /// Rules, of which the first that is for a machine counts. Defaults to none.
    #[must_use]
    pub fn rules(mut self, rules: Vec<Rule>) -> Self {
        self.rules = rules;
        self
    }

    /// What there is for machines that no rule is for. Defaults to nothing.
    #[must_use]
    pub fn menu(mut self, menu: Menu) -> Self {
        self.menu = menu;
        self
    }

    /// The port that TFTP is served on. Defaults to 69; firmware knows no other.
    #[must_use]
    pub fn tftp(mut self, port: u16) -> Self {
        self.tftp = port;
        self
    }

    /// Where the same files are served over HTTP: iPXE is told of scripts there, and clients that boot by HTTP get an
    /// answer at all. `0.0.0.0` is the address that a client asked. Defaults to nowhere.
    #[must_use]
    pub fn http(mut self, address: Option<SocketAddrV4>) -> Self {
        self.http = address;
        self
    }

    /// Whether there are rules, or files that some machine can boot.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty() && self.menu.is_empty()
    }

    /// The file for a machine.
    ///
    /// # Errors
    /// Why there is none, for people.
    pub fn choose(&self, machine: &Machine) -> Result<Chosen, String> {
        match self.rules.iter().find(|rule| rule.check(machine).is_ok()) {
            Some(rule) if rule.file().is_empty() => Err(format!("{} gives it no answer", rule.title())),
            Some(rule) => Ok(Chosen { file: rule.file().into(), why: rule.title().into() }),
            None => {
                let file = self.menu.choose(machine)?.to_owned();
                Ok(Chosen { file, why: "it is in the sources".into() })
            }
        }
    }

    /// The rules in their order, for who wants to know why they are for a machine, or not.
    pub fn each_rule(&self) -> impl Iterator<Item = &Rule> {
        self.rules.iter()
    }

    /// A file as a machine is told of it by a server with this address.
    ///
    /// # Errors
    /// Why it cannot have it, for people.
    pub fn place(&self, file: &str, machine: &Machine, local: Ipv4Addr) -> Result<String, String> {
        if file.contains("://") || !(machine.http || machine.ipxe) {
            return Ok(file.into());
        }
        let path = utf8_percent_encode(file.trim_start_matches('/'), PATH);
        let http = self.http.map(|http| {
            let ip = if http.ip().is_unspecified() { local } else { *http.ip() };
            url("http", ip, http.port(), 80)
        });
        match http {
            Some(http) if machine.http || !goes_on_by_tftp(file) => Ok(format!("{http}{path}")),
            None if machine.http => Err("it boots by HTTP, which is not served".into()),
            _ => Ok(format!("{}{path}", url("tftp", local, self.tftp, TFTP_PORT))),
        }
    }

    /// What a datagram is answered.
    ///
    /// # Errors
    /// Why it is not.
    pub fn answer(&self, datagram: &[u8], arrival: Arrival) -> Result<Answer, Silence> {
        let Arrival { door, from, local } = arrival;
        let ask = Ask::decode(datagram).map_err(Silence::NotMine)?;
        let kind = match (door, ask.kind) {
            (Door::Dhcp, MessageType::Discover) => MessageType::Offer,
            // A request that comes here is for the server that leases the address.
            (Door::Dhcp, _) => return Err(Silence::NotMine("it looks for nobody")),
            (Door::Pxe, MessageType::Request | MessageType::Inform) => MessageType::Ack,
            (Door::Pxe, _) => return Err(Silence::NotMine("it is no request")),
        };
        if !(ask.giaddr().is_unspecified() || is_of_one(ask.giaddr())) {
            return Err(Silence::NotMine("its relay has no address"));
        }
        let machine = ask.machine;
        let nothing = |why: String| Silence::Nothing(machine, why);
        let chosen = self.choose(&machine).map_err(nothing)?;
        let file = self.place(&chosen.file, &machine, local).map_err(nothing)?;
        let bytes = ask.answer(&Tell { kind, server: local, file: &file });
        let bytes = bytes.map_err(|why| nothing(why.into()))?;
        let to = destination(&ask, door, from);
        let acknowledges = kind == MessageType::Ack;
        Ok(Answer { bytes, to, offer: Offer { machine, file, why: chosen.why, acknowledges } })
    }
}

/// RFC 2131 section 4.1: by the relay that it came by; to the address that the client has; or to all. Nothing else is
/// possible, as the client has no address yet, and gets none from here.
fn destination(ask: &Ask, door: Door, from: SocketAddrV4) -> SocketAddrV4 {
    if !ask.giaddr().is_unspecified() {
        return SocketAddrV4::new(ask.giaddr(), SERVER_PORT);
    }
    match door {
        // It listens where it asks from.
        Door::Pxe if is_of_one(*from.ip()) && from.port() != 0 => from,
        _ if is_of_one(ask.ciaddr()) => SocketAddrV4::new(ask.ciaddr(), CLIENT_PORT),
        _ => SocketAddrV4::new(Ipv4Addr::BROADCAST, CLIENT_PORT),
    }
}

fn is_of_one(ip: Ipv4Addr) -> bool {
    !(ip.is_unspecified() || ip.is_broadcast() || ip.is_multicast() || ip.is_loopback())
}

fn url(scheme: &str, ip: Ipv4Addr, port: u16, usual: u16) -> String {
    if port == usual { format!("{scheme}://{ip}/") } else { format!("{scheme}://{ip}:{port}/") }
}

/// `52-54-00-12-34-56 (EFI x64) may boot bootnetx64.efi: it is in the sources`
impl fmt::Display for Offer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { machine, file, why, acknowledges } = self;
        let says = if *acknowledges { "is sent to" } else { "may boot" };
        write!(f, "{machine} {says} {file}: {why}")
    }
}

impl fmt::Display for Silence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotMine(why) => f.write_str(why),
            Self::Nothing(machine, why) => write!(f, "{machine} gets no answer: {why}"),
        }
    }
}
