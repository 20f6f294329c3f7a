//! The packets: the request of a client, and the answer to it. `dhcproto` reads and writes the fields and options.

use std::{fmt, net::Ipv4Addr, ops::Range};

use dhcproto::{
    Decodable, Encodable, Encoder,
    v4::{DhcpOption, DhcpOptions, HType, MAGIC, Message, MessageType, Opcode, OptionCode, UnknownOption},
};

use super::{Arch, Family, NoBootFile};
use crate::rules::{Mac, Uuid};

/// The length of the fields before the options, with the magic cookie (RFC 2131 sections 2 and 3).
const HEADER: usize = 240;
/// The least length of a BOOTP message (RFC 1542 section 2.1). Some clients and relays drop shorter packets.
const LEAST: usize = 300;
/// The lengths of the fields `sname` and `file`, with the NUL at the end.
const SNAME: usize = 64;
const FILE: usize = 128;
/// The places of these fields.
const SNAME_FIELD: Range<usize> = 44..44 + SNAME;
const FILE_FIELD: Range<usize> = 108..108 + FILE;
/// The largest length of one option.
const OPTION: usize = 255;
/// The longest name of a boot file, in bytes. A NUL follows it in its option.
pub(super) const LONGEST_FILE: usize = OPTION - 1;

const PAD: u8 = 0;
const END: u8 = 255;
const VENDOR: u8 = 43;
const OVERLOAD: u8 = 52;
const SERVER: u8 = 54;
const LONGEST: u8 = 57;
const RELAY: u8 = 82;
const ARCHITECTURES: u8 = 93;
const IPXE: u8 = 175;
/// The least value of option 57 (RFC 2132 section 9.10), which counts the IP and UDP headers too.
const LEAST_LONGEST: u16 = 576;
const IP_AND_UDP: usize = 28;
/// Tags inside of option 43 (PXE 2.1 table 2-1): how a client discovers boot servers, and which boot item it requests.
const DISCOVERY_CONTROL: u8 = 6;
const MENU: u8 = 9;
const MENU_PROMPT: u8 = 10;
const BOOT_ITEM: u8 = 71;
/// A value of the discovery control: the client discovers no boot servers, and takes the boot file of this packet.
const USE_BOOT_FILE: u8 = 8;
/// Another one: the client sends no broadcast and no multicast to discover boot servers.
const NO_BROADCAST: u8 = 3;
/// The item of a boot menu by which a Raspberry Pi knows its boot server (`PXE_OPTION43` of its EEPROM).
const RASPBERRY_PI: &[u8] = b"Raspberry Pi Boot";

/// The options that `dhcproto` reads, with the least length of each. It gets no others, because an error in one of them
/// would hide the options after it.
const READ: [(u8, usize); 5] = [(53, 1), (60, 6), (77, 1), (97, 1), (IPXE, 0)];

/// A machine that wants to boot.
///
/// ```
/// use tuffet::dhcp::Machine;
///
/// let machine = Machine::new("http-x64".parse()?).mac("52:54:00:12:34:56".parse()?);
/// assert!(machine.http && !machine.ipxe);
/// assert_eq!(machine.to_string(), "52-54-00-12-34-56 (EFI x64, HTTP boot)");
/// # Ok::<(), tuffet::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[must_use]
pub struct Machine {
    /// The MAC address of its network card, if the card is an Ethernet card.
    pub mac: Option<Mac>,
    /// The UUID of its mainboard (option 97).
    pub uuid: Option<Uuid>,
    /// The architecture of the machine (option 93).
    pub arch: Arch,
    /// Whether the machine boots by HTTP, and so takes only URLs.
    pub http: bool,
    /// Whether the machine already runs iPXE (option 175 or 77).
    pub ipxe: bool,
    /// Whether the machine runs U-Boot (`U-Boot` in option 60), which is no PXE client.
    pub uboot: bool,
}

/// The packet of a client that wants to boot.
#[derive(Debug)]
pub(super) struct ClientMessage {
    message: Message,
    pub(super) kind: MessageType,
    pub(super) machine: Machine,
    /// The value of option 97, unchanged.
    id: Option<Vec<u8>>,
    /// The value of option 82. The answer contains it unchanged (RFC 3046 section 2.2).
    relay: Option<Vec<u8>>,
    boot_item: Option<Vec<u8>>,
    /// The server that the client has chosen (option 54).
    server: Option<Ipv4Addr>,
    /// The most bytes of an answer that the client takes, if it says so (option 57).
    longest: Option<usize>,
}

/// The content of an answer.
pub(super) struct ReplyFields<'a> {
    pub(super) kind: MessageType,
    pub(super) server: Ipv4Addr,
    /// The boot file. U-Boot may get an answer without one.
    pub(super) file: &'a str,
}

impl ClientMessage {
    /// # Errors
    /// The reason why the packet gets no answer, for people.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, &'static str> {
        let (header, options) = bytes.split_at_checked(HEADER).ok_or("it is too short")?;
        if header[HEADER - MAGIC.len()..] != MAGIC {
            return Err("it has no magic cookie");
        }
        let mut options = split(options)?;
        // RFC 2132 section 9.3: the two fields may hold more options.
        let overload = options.iter().find(|(code, _)| *code == OVERLOAD).and_then(|(_, value)| value.first().copied());
        for (bit, field) in [(1, FILE_FIELD), (2, SNAME_FIELD)] {
            if overload.unwrap_or_default() & bit != 0 {
                split(&header[field])?.into_iter().for_each(|more| add(&mut options, more));
            }
        }
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
        let (http, uboot) = (class.starts_with(b"HTTPClient"), class.starts_with(b"U-Boot"));
        if !http && !uboot && !class.starts_with(b"PXEClient") {
            return Err("it is of no PXEClient, no HTTPClient and no U-Boot");
        }
        let id = match opts.get(OptionCode::ClientMachineIdentifier) {
            Some(DhcpOption::ClientMachineIdentifier(id)) => Some(id.clone()),
            _ => None,
        };
        let machine = Machine {
            mac: mac(&message),
            // The first byte of option 97 is the type, and 0 is the only type.
            uuid: id.as_deref().and_then(|id| id.strip_prefix(&[0])?.try_into().ok()).map(|bytes| Uuid(bytes).turned()),
            arch: find(ARCHITECTURES).and_then(arch).or_else(|| arch_of(class)).unwrap_or(if uboot {
                Arch::UNKNOWN
            } else {
                Arch::BIOS
            }),
            http,
            ipxe: is_ipxe(opts),
            uboot,
        };
        let relay = find(RELAY).filter(|value| value.len() <= OPTION).map(Into::into);
        let boot_item = find(VENDOR).and_then(|value| Some(split(value).ok()?.into_iter()));
        let boot_item = boot_item.and_then(|mut items| items.find(|(code, _)| *code == BOOT_ITEM));
        let boot_item = boot_item.map(|(_, item)| item).filter(|item| item.len() == 4);
        let server = find(SERVER).and_then(|value| value.first_chunk::<4>()).map(|ip| Ipv4Addr::from(*ip));
        let longest = find(LONGEST).and_then(|value| <[u8; 2]>::try_from(value).ok());
        let longest = longest.map(|longest| usize::from(u16::from_be_bytes(longest).max(LEAST_LONGEST)) - IP_AND_UDP);
        Ok(Self { message, kind, machine, id, relay, boot_item, server, longest })
    }

    /// Why a packet to all servers is not for this one, if it is for another.
    pub(super) fn is_for_another(&self, server: Ipv4Addr) -> Option<&'static str> {
        // PXE 2.1 table 2-1: the type of boot server. The bootstrap server, which every machine asks first, has type 0.
        let of_another_type = self.boot_item.as_ref().is_some_and(|item| !item.starts_with(&[0, 0]));
        match self.server {
            Some(chosen) if chosen != server => Some("it has chosen another server (option 54)"),
            _ if of_another_type => Some("it looks for another type of boot server (option 43)"),
            _ => None,
        }
    }

    pub(super) fn giaddr(&self) -> Ipv4Addr {
        self.message.giaddr()
    }

    pub(super) fn ciaddr(&self) -> Ipv4Addr {
        self.message.ciaddr()
    }

    /// The answer to this packet. An answer that does not fit into a packet is an error.
    pub(super) fn answer(&self, fields: &ReplyFields<'_>) -> Result<Vec<u8>, NoBootFile> {
        let ReplyFields { kind, server, file } = *fields;
        // The length of the option includes the NUL. Some clients read the option as a C string, and would miss its
        // end.
        let name = [file.as_bytes(), &[0]].concat();
        if file.len() > LONGEST_FILE {
            return Err(NoBootFile::LongName);
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
        if !file.is_empty() && name.len() <= FILE {
            message.set_fname(&name);
        }
        let class = if self.machine.http { "HTTPClient" } else { "PXEClient" };
        let mut options = vec![
            DhcpOption::MessageType(kind),
            DhcpOption::ServerIdentifier(server),
            DhcpOption::ClassIdentifier(class.into()),
        ];
        options.extend(self.vendor(kind).map(DhcpOption::VendorExtensions));
        if !file.is_empty() {
            options.push(DhcpOption::BootfileName(name));
        }
        options.extend(self.id.clone().map(DhcpOption::ClientMachineIdentifier));
        let relay = self.relay.clone();
        options.extend(relay.map(|relay| DhcpOption::Unknown(UnknownOption::new(OptionCode::from(RELAY), relay))));
        options.push(DhcpOption::End);
        let bytes = encode(&message, &options).map_err(|_| NoBootFile::Encoding)?;
        match self.longest {
            Some(longest) if bytes.len() > longest => Err(NoBootFile::LongAnswer),
            _ => Ok(bytes),
        }
    }

    /// Option 43. It tells BIOS and iPXE to take the boot file at once. EFI gets no such order, so it asks at port
    /// 4011, and gets the boot file from there. Some EFI firmware cannot do without that request (tianocore's
    /// `PxeBcDhcp4.c` handles both). U-Boot reads no options of a server that leases nothing.
    fn vendor(&self, kind: MessageType) -> Option<Vec<u8>> {
        let machine = &self.machine;
        if machine.is_raspberry_pi() {
            let length = RASPBERRY_PI.len() as u8;
            // As dnsmasq has it: a prompt that waits for no key, and one item, which is of type 0.
            let menu =
                [DISCOVERY_CONTROL, 1, NO_BROADCAST, MENU_PROMPT, 4, 0, b'P', b'X', b'E', MENU, 3 + length, 0, 0];
            return Some([&menu[..], &[length], RASPBERRY_PI, &[END]].concat());
        }
        let item = self.boot_item.as_ref().filter(|_| kind == MessageType::Ack);
        let takes_at_once =
            !(machine.http || machine.uboot) && (machine.ipxe || !machine.arch.family().is_some_and(Family::is_efi));
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

/// Encodes the options in this order. `dhcproto` keeps no order for the options of a message, and some clients read
/// only the first few options.
fn encode(message: &Message, options: &[DhcpOption]) -> Result<Vec<u8>, dhcproto::error::EncodeError> {
    let mut bytes = Vec::with_capacity(LEAST);
    let mut encoder = Encoder::new(&mut bytes);
    message.encode(&mut encoder)?;
    options.iter().try_for_each(|option| option.encode(&mut encoder))?;
    bytes.resize(bytes.len().max(LEAST), PAD);
    Ok(bytes)
}

/// The options with their values, in the order in which each code first appears. Values of the same code are
/// concatenated (RFC 3396). Bytes after the end option are ignored.
fn split(bytes: &[u8]) -> Result<Vec<(u8, Vec<u8>)>, &'static str> {
    let mut options: Vec<(u8, Vec<u8>)> = Vec::new();
    // The place of each code. A search for each option would take milliseconds for a large packet of empty ones.
    let mut places = [usize::MAX; 256];
    let mut rest = bytes;
    loop {
        match *rest {
            // Some clients omit the end option.
            [] | [END, ..] => return Ok(options),
            [PAD, ref more @ ..] => rest = more,
            [code, length, ref more @ ..] => {
                let (value, more) = more.split_at_checked(length.into()).ok_or("an option is cut off")?;
                let place = &mut places[usize::from(code)];
                match options.get_mut(*place) {
                    Some((_, known)) => known.extend(value),
                    None => {
                        *place = options.len();
                        options.push((code, value.to_vec()));
                    }
                }
                rest = more;
            }
            [_] => return Err("an option is cut off"),
        }
    }
}

/// Adds an option, or more of its value.
fn add(options: &mut Vec<(u8, Vec<u8>)>, (code, value): (u8, Vec<u8>)) {
    match options.iter_mut().find(|(known, _)| *known == code) {
        Some((_, known)) => known.extend(value),
        None => options.push((code, value)),
    }
}

fn mac(message: &Message) -> Option<Mac> {
    // `chaddr` would panic with a longer address.
    let is_ethernet = message.htype() == HType::Eth && message.hlen() == 6;
    is_ethernet.then(|| message.chaddr().try_into().ok()).flatten().map(Mac)
}

/// The first known architecture of a list (RFC 4578 section 2.1), or else the first.
fn arch(list: &[u8]) -> Option<Arch> {
    let all = || list.chunks_exact(2).map(|arch| Arch(u16::from_be_bytes([arch[0], arch[1]])));
    all().find(|arch| arch.family().is_some()).or_else(|| all().next())
}

/// The architecture in option 60, such as `PXEClient:Arch:00007:UNDI:003016` (PXE 2.1 section 2.2.2). Any bytes may
/// follow it.
fn arch_of(class: &[u8]) -> Option<Arch> {
    const BEFORE: &[u8] = b":Arch:";
    let at = class.windows(BEFORE.len()).position(|window| window == BEFORE)?;
    let number = class[at + BEFORE.len()..].split(|byte| !byte.is_ascii_alphanumeric()).next()?;
    std::str::from_utf8(number).ok()?.parse().ok().map(Arch)
}

/// Whether the client is iPXE. iPXE sends its own option 175, and its name as a user class (option 77), alone or in a
/// list.
fn is_ipxe(opts: &DhcpOptions) -> bool {
    let is_named = match opts.get(OptionCode::UserClass) {
        Some(DhcpOption::UserClass(classes)) => classes == b"iPXE" || has_class(classes, b"iPXE"),
        _ => false,
    };
    is_named || opts.get(OptionCode::from(IPXE)).is_some()
}

/// Whether a list of user classes (RFC 3004 section 4) has this one.
fn has_class(mut list: &[u8], name: &[u8]) -> bool {
    while let [length, ref rest @ ..] = *list {
        match rest.split_at_checked(length.into()) {
            Some((class, _)) if class == name => return true,
            Some((_, rest)) => list = rest,
            None => return false,
        }
    }
    false
}

impl Machine {
    /// A machine with firmware of this architecture. Its MAC address and its UUID are unknown.
    ///
    /// ```
    /// use tuffet::dhcp::{Arch, Machine};
    ///
    /// assert_eq!(Machine::new(Arch::BIOS).to_string(), "a machine without Ethernet (BIOS)");
    /// ```
    pub fn new(arch: Arch) -> Self {
        Self { mac: None, uuid: None, arch, http: arch.is_http(), ipxe: false, uboot: false }
    }

    /// Sets the MAC address of the network card.
    ///
    /// ```
    /// use tuffet::dhcp::{Arch, Machine};
    ///
    /// let machine = Machine::new(Arch::BIOS).mac("52:54:00:12:34:56".parse()?);
    /// assert_eq!(machine.to_string(), "52-54-00-12-34-56 (BIOS)");
    /// # Ok::<(), tuffet::Error>(())
    /// ```
    pub fn mac(self, mac: Mac) -> Self {
        Self { mac: Some(mac), ..self }
    }

    /// Sets the UUID of the mainboard.
    ///
    /// ```
    /// use tuffet::dhcp::{Arch, Machine};
    ///
    /// let machine = Machine::new(Arch::BIOS).uuid("01234567-89ab-cdef-0123-456789abcdef".parse()?);
    /// assert_eq!(machine.uuid.unwrap().to_string(), "01234567-89ab-cdef-0123-456789abcdef");
    /// # Ok::<(), tuffet::Error>(())
    /// ```
    pub fn uuid(self, uuid: Uuid) -> Self {
        Self { uuid: Some(uuid), ..self }
    }

    /// Whether the machine is a Raspberry Pi. Its UUID begins with its model, or repeats its serial number; the ROM of
    /// the Pi 3 repeats another number.
    pub(super) fn is_raspberry_pi(&self) -> bool {
        let Some(Uuid(bytes)) = self.uuid.map(Uuid::turned).filter(|_| self.arch == Arch::BIOS && !self.ipxe) else {
            return false;
        };
        let number = &bytes[..4];
        // Mainboards without a UUID have zeros or ones.
        let repeats = bytes.chunks_exact(4).all(|other| other == number) && !matches!(number[0], 0 | 0xff);
        bytes.starts_with(b"RPi") || repeats
    }

    /// The machine after iPXE has started on it. iPXE takes URLs, but boots by PXE.
    ///
    /// ```
    /// use tuffet::dhcp::Machine;
    ///
    /// let machine = Machine::new("http-x64".parse()?).with_ipxe();
    /// assert!(machine.ipxe && !machine.http);
    /// # Ok::<(), tuffet::Error>(())
    /// ```
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
        if self.uboot {
            return f.write_str(" (U-Boot)");
        }
        if self.is_raspberry_pi() {
            return f.write_str(" (Raspberry Pi)");
        }
        let ipxe = if self.ipxe { ", iPXE" } else { "" };
        write!(f, " ({}{ipxe})", self.arch)
    }
}
