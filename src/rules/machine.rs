//! The facts about a machine besides its address: from DHCP, from the neighbour table, and from the names that it
//! requests.

use std::{fmt, str::FromStr};

use super::client::Mac;
use crate::Error;

/// The facts about a machine. [`Machines`](super::Machines) remembers them, and rules use them as `${mac}`, `${uuid}`,
/// `${serial}` and `${arch}`.
///
/// ```
/// use tuffet::rules::Machine;
///
/// let machine = Machine::in_name("grub/x86_64-efi/grub.cfg-01-52-54-00-12-34-56");
/// assert_eq!(machine.arch.as_deref(), Some("x64"));
/// assert_eq!(machine.mac.unwrap().to_string(), "52-54-00-12-34-56");
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
#[must_use]
pub struct Machine {
    /// The address of its network card.
    pub mac: Option<Mac>,
    /// Its UUID (SMBIOS, or DHCP's option 97).
    pub uuid: Option<Uuid>,
    /// Its serial number, such as the eight hexadecimal digits of a Raspberry Pi.
    pub serial: Option<String>,
    /// The architecture of its firmware: `bios`, `ia32`, `x64`, `arm`, `arm64`, `riscv64`, `loongarch64`, or another
    /// word.
    pub arch: Option<String>,
}

/// A UUID, written `01234567-89ab-cdef-0123-456789abcdef` in either case.
///
/// ```
/// use tuffet::rules::Uuid;
///
/// let uuid: Uuid = "01234567-89AB-cdef-0123-456789abcdef".parse()?;
/// assert_eq!(uuid.to_string(), "01234567-89ab-cdef-0123-456789abcdef");
/// # Ok::<(), tuffet::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Uuid(pub [u8; 16]);

/// The architectures that a name or ProxyDHCP shows.
pub const ARCHES: &[&str] = &["bios", "ia32", "x64", "arm", "arm64", "riscv64", "loongarch64"];

/// Architectures by the ends of the names of UEFI files (UEFI specification, section 3.5.1.1).
const FILES: [(&str, &str); 6] = [
    ("riscv64.efi", "riscv64"),
    ("loongarch64.efi", "loongarch64"),
    ("ia32.efi", "ia32"),
    ("aa64.efi", "arm64"),
    ("arm.efi", "arm"),
    ("x64.efi", "x64"),
];

/// Architectures by the directories of GRUB's modules.
const DIRECTORIES: [(&str, &str); 7] = [
    ("i386-pc", "bios"),
    ("i386-efi", "ia32"),
    ("x86_64-efi", "x64"),
    ("arm64-efi", "arm64"),
    ("arm-efi", "arm"),
    ("riscv64-efi", "riscv64"),
    ("loongarch64-efi", "loongarch64"),
];

impl Machine {
    /// The facts that a requested name shows, in the spellings of boot loaders:
    ///
    /// | name | shows | client |
    /// |---|---|---|
    /// | `pxelinux.cfg/01-52-54-00-12-34-56`, `grub.cfg-01-52-54-00-12-34-56` | MAC address | PXELINUX, GRUB |
    /// | `52-54-00-12-34-56/start.elf`, with `:` as well | MAC address | Raspberry Pi |
    /// | `pxelinux.cfg/01234567-89ab-cdef-0123-456789abcdef` | UUID | PXELINUX, GRUB |
    /// | `1a2b3c4d/start.elf` | serial number | Raspberry Pi |
    /// | `shimx64.efi`, `grub/arm64-efi/normal.mod` | architecture | UEFI firmware, GRUB |
    ///
    /// A client may send any name, so these facts are not proven.
    ///
    /// ```
    /// let pi = tuffet::rules::Machine::in_name("1a2b3c4d/start.elf");
    /// assert_eq!(pi.serial.as_deref(), Some("1a2b3c4d"));
    /// ```
    pub fn in_name(path: &str) -> Self {
        let parts = || path.split('/');
        let serial = path.split_once('/').map(|(first, _)| first).filter(|first| first.len() == 8 && is_hex(first));
        let arch = |part: &str| {
            let part = part.to_ascii_lowercase();
            let directory = DIRECTORIES.iter().find(|(name, _)| *name == part);
            directory.or_else(|| FILES.iter().find(|(end, _)| part.ends_with(end))).map(|(_, arch)| (*arch).to_owned())
        };
        Self {
            mac: parts().find_map(mac),
            uuid: parts().find_map(uuid),
            serial: serial.map(Into::into),
            arch: parts().find_map(arch),
        }
    }

    /// These facts, completed by those of `other`.
    ///
    /// ```
    /// use tuffet::rules::Machine;
    ///
    /// let by_arch = Machine::in_name("shimx64.efi");
    /// let all = by_arch.or(Machine::in_name("grub.cfg-01-52-54-00-12-34-56"));
    /// assert!(all.arch.is_some() && all.mac.is_some());
    /// ```
    pub fn or(self, other: Self) -> Self {
        let Self { mac, uuid, serial, arch } = self;
        Self {
            mac: mac.or(other.mac),
            uuid: uuid.or(other.uuid),
            serial: serial.or(other.serial),
            arch: arch.or(other.arch),
        }
    }
}

/// The address of an Ethernet card in a part of a name. Before it there may be the hardware type, `01-`, or a prefix of
/// the boot loader, but no further bytes of a longer address.
fn mac(part: &str) -> Option<Mac> {
    const LENGTH: usize = 17;
    let is_address = |at: &usize| {
        let (Some(before), Some(after)) = (part.get(..*at), part.get(at + LENGTH..)) else { return false };
        let before = before.strip_suffix("01-").or(before.strip_suffix("01:")).unwrap_or(before);
        let mut ends = before.rsplit(['-', ':']);
        let ends_word = ends.next() == Some("") && !ends.next().is_some_and(|word| word.len() == 2 && is_hex(word));
        (ends_word || !before.ends_with(|c: char| c.is_alphanumeric() || c == '-' || c == ':'))
            && !after.starts_with(|c: char| c.is_alphanumeric() || c == '-' || c == ':')
    };
    // Nearly all names are shorter. Only parsed text goes to `is_address`, which may read much of what is before it.
    let starts = 0..=part.len().checked_sub(LENGTH)?;
    let mut found = starts.filter_map(|at| Some((at, part.get(at..at + LENGTH)?.parse().ok()?)));
    found.find(|(at, _)| is_address(at)).map(|(_, mac)| mac)
}

fn uuid(part: &str) -> Option<Uuid> {
    const LENGTH: usize = 36;
    let is_word = |at: &usize| {
        let is_end = |c: Option<char>| !c.is_some_and(char::is_alphanumeric);
        let (Some(before), Some(after)) = (part.get(..*at), part.get(at + LENGTH..)) else { return false };
        is_end(before.chars().next_back()) && is_end(after.chars().next())
    };
    let starts = (0..=part.len().checked_sub(LENGTH)?).filter(is_word);
    starts.filter_map(|at| part.get(at..at + LENGTH)?.parse().ok()).next()
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

impl Uuid {
    /// The UUID with the bytes of each of its first three groups reversed. Firmware has these groups with the last byte
    /// first (RFC 4578 section 2.3), and people write the first byte first.
    pub(crate) fn turned(self) -> Self {
        let Self(mut bytes) = self;
        [0..4, 4..6, 6..8].into_iter().for_each(|group| bytes[group].reverse());
        Self(bytes)
    }

    /// Whether the UUIDs are equal, with either byte order of the first three groups. Some firmware sends these groups
    /// as people write them, and PXELINUX asks for files by the other order.
    pub(crate) fn is_same(self, other: Self) -> bool {
        self == other || self.turned() == other
    }
}

impl FromStr for Uuid {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits: String = text.split('-').collect();
        let is_uuid = text.split('-').map(str::len).eq([8, 4, 4, 4, 12]) && is_hex(&digits);
        let number = u128::from_str_radix(&digits, 16).ok().filter(|_| is_uuid);
        let no = || Error::Config("not a UUID, such as 01234567-89ab-cdef-0123-456789abcdef".into());
        number.map(|number| Self(number.to_be_bytes())).ok_or_else(no)
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, byte) in self.0.iter().enumerate() {
            let hyphen = if matches!(i, 4 | 6 | 8 | 10) { "-" } else { "" };
            write!(f, "{hyphen}{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: Mac = Mac([0x52, 0x54, 0, 0x12, 0x34, 0x56]);

    #[test]
    fn addresses_in_names() {
        for name in [
            "pxelinux.cfg/01-52-54-00-12-34-56",
            "boot/grub/grub.cfg-01-52-54-00-12-34-56",
            "grub.cfg-52-54-00-12-34-56",
            "52-54-00-12-34-56/start4.elf",
            "52:54:00:12:34:56/start4.elf",
            "menu_52-54-00-12-34-56.ipxe",
            "é/01:52:54:00:12:34:56",
        ] {
            assert_eq!(Machine::in_name(name).mac, Some(MAC), "{name}");
        }
        for name in [
            "pxelinux.cfg/20-80-00-00-48-fe-80-00-00-00-00-00-00-00-02-c9-03-00-0a-8e-11",
            "pxelinux.cfg/20-80-00-00-01-52-54-00-12-34-56",
            "52-54-00-12-34-56-78",
            "x52-54-00-12-34-56",
            "52-54-00-12-34-5",
            "52-54-00-12-34-5g",
            "éééééééééééé",
            "default",
        ] {
            assert_eq!(Machine::in_name(name).mac, None, "{name}");
        }
    }

    #[test]
    fn uuids_in_names() {
        let uuid: Uuid = "01234567-89AB-cdef-0123-456789abcdef".parse().unwrap();
        assert_eq!(uuid.to_string(), "01234567-89ab-cdef-0123-456789abcdef");
        for name in
            ["pxelinux.cfg/01234567-89ab-cdef-0123-456789abcdef", "grub.cfg-01234567-89ab-cdef-0123-456789abcdef"]
        {
            assert_eq!(Machine::in_name(name), Machine { uuid: Some(uuid), ..Machine::default() }, "{name}");
        }
        for name in [
            "001234567-89ab-cdef-0123-456789abcdef",
            "01234567-89ab-cdef-0123-456789abcdef0",
            "01234567-89ab-cdef-0123-456789abcdeg",
            "0123456-789ab-cdef-0123-456789abcdef",
            "+1234567-89ab-cdef-0123-456789abcdef",
        ] {
            assert_eq!(Machine::in_name(name).uuid, None, "{name}");
        }
    }

    #[test]
    fn serials_and_architectures_in_names() {
        for (name, serial, arch) in [
            ("1a2b3c4d/start4.elf", Some("1a2b3c4d"), None),
            ("1A2B3C4D/sub/x", Some("1A2B3C4D"), None),
            ("1a2b3c4d", None, None),
            ("pxelinux.cfg/C0A80001", None, None),
            ("1a2b3c4g/x", None, None),
            ("EFI/BOOT/BOOTX64.EFI", None, Some("x64")),
            ("grubaa64.efi", None, Some("arm64")),
            ("bootarm.efi", None, Some("arm")),
            ("shimia32.efi", None, Some("ia32")),
            ("bootriscv64.efi", None, Some("riscv64")),
            ("boot/grub/i386-pc/normal.mod", None, Some("bios")),
            ("grub/x86_64-efi/command.lst", None, Some("x64")),
            ("ipxe.efi", None, None),
        ] {
            let machine = Machine::in_name(name);
            assert_eq!((machine.serial.as_deref(), machine.arch.as_deref()), (serial, arch), "{name}");
        }
    }

    /// No requested name causes a panic, and each found fact is part of the name.
    #[test]
    fn any_name_is_looked_at() {
        let pieces =
            ["01-", "52-54-00-12-34-56", "52:54:00", "-", ":", "/", "é", "0", "01234567-89ab-cdef-0123-456789abcdef"];
        let (mut random, mut found) = (fastrand::Rng::with_seed(7), 0);
        for _ in 0..20_000 {
            let name: String = (0..random.usize(1..8)).map(|_| pieces[random.usize(..pieces.len())]).collect();
            let Machine { mac, uuid, serial, .. } = Machine::in_name(&name);
            let texts = [mac.map(|mac| mac.to_string()), uuid.map(|uuid| uuid.to_string()), serial];
            for text in texts.iter().flatten() {
                assert!(name.replace(':', "-").contains(text.as_str()), "{name}: {text}");
                found += 1;
            }
        }
        assert!(found > 1000, "{found}");
    }

    #[test]
    fn known_facts_count_more_than_those_in_a_name() {
        let known = Machine { mac: Some(MAC), ..Machine::default() };
        let said = Machine { mac: Some(Mac([0; 6])), serial: Some("1".into()), ..Machine::default() };
        assert_eq!(known.or(said), Machine { mac: Some(MAC), serial: Some("1".into()), ..Machine::default() });
    }
}
