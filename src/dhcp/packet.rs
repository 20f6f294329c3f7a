//! The packets: what a client says, and what it is told. The fields and options are read and written by `dhcproto`.

use std::{fmt, net::Ipv4Addr};

use dhcproto::{
    Decodable, Encodable, Encoder,
    v4::{
        Architecture, DhcpOption, DhcpOptions, HType, MAGIC, Message, MessageType, Opcode, OptionCode, UnknownOption,
    },
};

use super::{Arch, Family};
use crate::rules::{Mac, Uuid};

/// The fields in front of the options, with the magic cookie (RFC 2131 section 2).
const HEADER: usize = 240;
/// A BOOTP message has no less, and some clients and relays drop what is shorter (RFC 1542 section 2.1).
const LEAST: usize = 300;
/// Room of `sname` and `file`, with the NUL at the end.
const SNAME: usize = 64;
const FILE: usize = 128;
/// What one option can hold.
const OPTION: usize = 255;

const PAD: u8 = 0;
const END: u8 = 255;
const VENDOR: u8 = 43;
const RELAY: u8 = 82;
const IPXE: u8 = 175;
/// Inside of option 43, PXE 2.1 table 2-1: what a client does about boot servers, and which of their items it asks for.
const DISCOVERY_CONTROL: u8 = 6;
const BOOT_ITEM: u8 = 71;
/// No discovery of boot servers: take the file that is named here.
const USE_BOOT_FILE: u8 = 8;

/// Options that are read, and how long they are at least. All others stay unread: what is wrong with them would hide those
/// behind them.
const READ: [(u8, usize); 7] = [(53, 1), (54, 4), (60, 9), (77, 1), (93, 2), (97, 1), (IPXE, 0)];

/// A machine that wants to boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Machine {
    /// The address of its card, if it is Ethernet.
    pub mac: Option<Mac>,
    /// The UUID of its mainboard (option 97).
    pub uuid: Option<Uuid>,
    /// What it is (option 93).
    pub arch: Arch,
    /// It boots by HTTP, and takes URLs alone.
    pub http: bool,
    /// It is iPXE already (option 175, or 77).
    pub ipxe: bool,
}

/// What a client asks for.
#[derive(Debug)]
pub(super) struct Ask {
    message: Message,
    pub(super) kind: MessageType,
    pub(super) machine: Machine,
    /// Option 97 as it came.
    id: Option<Vec<u8>>,
    /// Option 82 as it came, which goes back as it is (RFC 3046 section 2.2).
    relay: Option<Vec<u8>>,
    boot_item: Option<Vec<u8>>,
}

/// What a client is told.
pub(super) struct Tell<'a> {
    pub(super) kind: MessageType,
    pub(super) server: Ipv4Addr,
    pub(super) file: &'a str,
}

impl Ask {
    /// # Errors
    /// What is wrong with it, for people.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, &'static str> {
        let (header, options) = bytes.split_at_checked(HEADER).ok_or("it is too short")?;
        if header[HEADER - MAGIC.len()..] != MAGIC {
            return Err("it has no magic cookie");
        }
        let options = split(options)?;
        let find = |code: u8| options.iter().find(|(known, _)| *known == code).map(|(_, value)| value.as_slice());
        let mut known = header.to_vec();
        for (code, least) in READ {
            let fits = |value: &&[u8]| (least..=OPTION).contains(&value.len());
            if let Some(value) = find(code).filter(fits) {
                known.extend([code, value.len() as u8]);
                known.extend(value);
            }
        }
        known.push(END);
        let message = Message::from_bytes(&known).map_err(|_| "it cannot be decoded")?;
        if message.opcode() != Opcode::BootRequest {
            return Err("it is no request");
        }
        let opts = message.opts();
        let kind = opts.msg_type().ok_or("it has no message type")?;
        let class = match opts.get(OptionCode::ClassIdentifier) {
            Some(DhcpOption::ClassIdentifier(class)) => class.as_slice(),
            _ => &[],
        };
        let http = class.starts_with(b"HTTPClient");
        if !http && !class.starts_with(b"PXEClient") {
            return Err("it is of no PXEClient and no HTTPClient");
        }
        let id = match opts.get(OptionCode::ClientMachineIdentifier) {
            Some(DhcpOption::ClientMachineIdentifier(id)) => Some(id.clone()),
            _ => None,
        };
        let machine = Machine {
            mac: mac(&message),
            // Its first byte is the type, of which there is one.
            uuid: id.as_deref().and_then(|id| id.strip_prefix(&[0])?.try_into().ok()).map(|bytes| turned(Uuid(bytes))),
            arch: arch(opts).or_else(|| arch_of(class)).unwrap_or(Arch::BIOS),
            http,
            ipxe: is_ipxe(opts),
        };
        let relay = find(RELAY).filter(|value| value.len() <= OPTION).map(Into::into);
        let boot_item = find(VENDOR).and_then(|value| Some(split(value).ok()?.into_iter()));
        let boot_item = boot_item.and_then(|mut items| items.find(|(code, _)| *code == BOOT_ITEM));
        let boot_item = boot_item.map(|(_, item)| item).filter(|item| item.len() == 4);
        Ok(Self { message, kind, machine, id, relay, boot_item })
    }

    pub(super) fn giaddr(&self) -> Ipv4Addr {
        self.message.giaddr()
    }

    pub(super) fn ciaddr(&self) -> Ipv4Addr {
        self.message.ciaddr()
    }

    /// The answer to it. What does not fit into a packet is an error.
    pub(super) fn answer(&self, tell: &Tell<'_>) -> Result<Vec<u8>, &'static str> {
        let Tell { kind, server, file } = *tell;
        // In an option the NUL is counted: some clients read it as a string of C, and end where they should not.
        let name = [file.as_bytes(), &[0]].concat();
        if name.len() > OPTION {
            return Err("the name of its file is longer than 254 bytes");
        }
        let mut message = self.message.clone();
        message.set_opcode(Opcode::BootReply).set_secs(0).set_hops(0).set_opts(DhcpOptions::default());
        message.set_yiaddr(Ipv4Addr::UNSPECIFIED).set_siaddr(server);
        if kind == MessageType::Offer {
            message.set_ciaddr(Ipv4Addr::UNSPECIFIED);
        }
        message.clear_fname();
        let sname = server.to_string();
        debug_assert!(sname.len() < SNAME);
        message.set_sname(sname.as_bytes());
        if name.len() <= FILE {
            message.set_fname(&name);
        }
        let class = if self.machine.http { "HTTPClient" } else { "PXEClient" };
        let mut options = vec![
            DhcpOption::MessageType(kind),
            DhcpOption::ServerIdentifier(server),
            DhcpOption::ClassIdentifier(class.into()),
        ];
        options.extend(self.vendor(kind).map(DhcpOption::VendorExtensions));
        options.push(DhcpOption::BootfileName(name));
        options.extend(self.id.clone().map(DhcpOption::ClientMachineIdentifier));
        let relay = self.relay.clone();
        options.extend(relay.map(|relay| DhcpOption::Unknown(UnknownOption::new(OptionCode::from(RELAY), relay))));
        options.push(DhcpOption::End);
        encode(&message, &options).map_err(|_| "it cannot be encoded")
    }

    /// Option 43. BIOS and iPXE are told to take the file at once. EFI is told nothing, asks at port 4011 then, and has the
    /// file from there: there is firmware that does not know how to do without (tianocore's `PxeBcDhcp4.c` takes both).
    fn vendor(&self, kind: MessageType) -> Option<Vec<u8>> {
        let machine = &self.machine;
        let item = self.boot_item.as_ref().filter(|_| kind == MessageType::Ack);
        let takes_at_once = !machine.http && (machine.ipxe || !machine.arch.family().is_some_and(Family::is_efi));
        let mut vendor = Vec::new();
        if takes_at_once {
            vendor.extend([DISCOVERY_CONTROL, 1, USE_BOOT_FILE]);
        }
        if let Some(item) = item {
            vendor.extend([BOOT_ITEM, item.len() as u8]);
            vendor.extend(item);
        }
        (!vendor.is_empty()).then(|| {
            vendor.push(END);
            vendor
        })
    }
}

/// In this order: `dhcproto` has none for the options of a message, and some clients look no further than the first few.
fn encode(message: &Message, options: &[DhcpOption]) -> Result<Vec<u8>, dhcproto::error::EncodeError> {
    let mut bytes = Vec::with_capacity(LEAST);
    let mut encoder = Encoder::new(&mut bytes);
    message.encode(&mut encoder)?;
    options.iter().try_for_each(|option| option.encode(&mut encoder))?;
    bytes.resize(bytes.len().max(LEAST), PAD);
    Ok(bytes)
}

/// Options with their values, those of one code put together (RFC 3396), in the order of their codes' first. What is behind
/// the end is nothing.
fn split(bytes: &[u8]) -> Result<Vec<(u8, Vec<u8>)>, &'static str> {
    let mut options: Vec<(u8, Vec<u8>)> = Vec::new();
    let mut rest = bytes;
    loop {
        match *rest {
            // Some clients forget the end.
            [] | [END, ..] => return Ok(options),
            [PAD, ref more @ ..] => rest = more,
            [code, length, ref more @ ..] => {
                let (value, more) = more.split_at_checked(length.into()).ok_or("an option is cut off")?;
                match options.iter_mut().find(|(known, _)| *known == code) {
                    Some((_, known)) => known.extend(value),
                    None => options.push((code, value.to_vec())),
                }
                rest = more;
            }
            [_] => return Err("an option is cut off"),
        }
    }
}

fn mac(message: &Message) -> Option<Mac> {
    // A longer one would panic.
    let is_ethernet = message.htype() == HType::Eth && message.hlen() == 6;
    is_ethernet.then(|| message.chaddr().try_into().ok()).flatten().map(Mac)
}

fn arch(opts: &DhcpOptions) -> Option<Arch> {
    match opts.get(OptionCode::ClientSystemArchitecture) {
        // Of several, the first is the one that it runs.
        Some(DhcpOption::ClientSystemArchitecture(arch)) => Some(Arch(Architecture::into(*arch))),
        _ => None,
    }
}

/// `PXEClient:Arch:00007:UNDI:003016` says it too (PXE 2.1 section 2.2.2).
fn arch_of(class: &[u8]) -> Option<Arch> {
    let class = std::str::from_utf8(class).ok()?;
    let (_, rest) = class.split_once(":Arch:")?;
    rest.split(':').next()?.parse().ok().map(Arch)
}

/// iPXE sends its own option 175 and says its name as the user class, with the length in front (RFC 3004) or without.
fn is_ipxe(opts: &DhcpOptions) -> bool {
    let is_named = match opts.get(OptionCode::UserClass) {
        Some(DhcpOption::UserClass(class)) => class == b"iPXE" || class.strip_prefix(&[4]) == Some(b"iPXE"),
        _ => false,
    };
    is_named || opts.get(OptionCode::from(IPXE)).is_some()
}

impl Machine {
    /// Firmware of this architecture, of which nothing else is known.
    pub fn new(arch: Arch) -> Self {
        Self { mac: None, uuid: None, arch, http: arch.is_http(), ipxe: false }
    }

    /// With this card.
    #[must_use]
    pub fn mac(self, mac: Mac) -> Self {
        Self { mac: Some(mac), ..self }
    }

    /// With this mainboard.
    #[must_use]
    pub fn uuid(self, uuid: Uuid) -> Self {
        Self { uuid: Some(uuid), ..self }
    }

    /// When iPXE has begun on it: that takes URLs, but boots as PXE does.
    #[must_use]
    pub fn with_ipxe(self) -> Self {
        Self { ipxe: true, http: false, ..self }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.mac {
            Some(mac) => write!(f, "{mac}")?,
            None => f.write_str("a machine without Ethernet")?,
        }
        let ipxe = if self.ipxe { ", iPXE" } else { "" };
        write!(f, " ({}{ipxe})", self.arch)
    }
}

/// A UUID of option 97 (RFC 4578 section 2.3): firmware sends the first three groups with their last byte first, as they are
/// in the mainboard's tables, and everybody writes them the other way.
fn turned(Uuid(mut bytes): Uuid) -> Uuid {
    for group in [0..4, 4..6, 6..8] {
        bytes[group].reverse();
    }
    Uuid(bytes)
}

/// Whether they are the same, in either order of the first three groups: some firmware sends them as they are written.
pub(super) fn are_same(one: Uuid, other: Uuid) -> bool {
    one == other || turned(one) == other
}
