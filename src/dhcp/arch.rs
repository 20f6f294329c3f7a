//! The architectures of machines, and the usual boot files of each.

use std::{fmt, str::FromStr};

use crate::error::Error;

/// The architecture that a machine sends in option 93 (RFC 4578 section 2.1). The numbers are those of IANA's list
/// "Processor Architecture Types".
///
/// ```
/// use tuffet::dhcp::Arch;
///
/// let arch: Arch = "x64".parse()?;
/// assert_eq!((arch, arch.family().unwrap().key), (Arch(7), "x64"));
/// # Ok::<(), tuffet::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Arch(pub u16);

/// The architectures of a condition: `x64` means all numbers of that family, and `16` means only that number.
///
/// ```
/// use tuffet::dhcp::{Arch, Arches};
///
/// let all: Arches = "x64".parse()?;
/// let one: Arches = "16".parse()?;
/// assert!(all.contains(Arch(7)) && all.contains(Arch(16)) && one.contains(Arch(16)) && !one.contains(Arch(7)));
/// # Ok::<(), tuffet::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Arches {
    /// All numbers of a family.
    Family(&'static Family),
    /// One number.
    One(Arch),
}

/// A family of machines that boot the same files.
///
/// ```
/// use tuffet::dhcp::Family;
///
/// let arm64 = Family::all().find(|family| family.key == "arm64").unwrap();
/// assert!(arm64.is_efi() && arm64.files.contains(&"grubaa64.efi"));
/// ```
#[derive(Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Family {
    /// The name of the family in rules and on the command line.
    pub key: &'static str,
    /// The name of the family for people.
    pub title: &'static str,
    /// The numbers of machines that boot by PXE. 9 stands for EFI byte code, but some x64 firmware sends it.
    pub pxe: &'static [u16],
    /// The numbers of machines that boot by HTTP.
    pub http: &'static [u16],
    /// The boot files that the server looks for, best first: the files that lead to a menu of their own.
    pub files: &'static [&'static str],
    /// The file names of iPXE in its builds and packages. The build that uses the firmware's own driver, and so drives
    /// any card, comes first.
    pub ipxe: &'static [&'static str],
}

/// The scripts that iPXE runs, best first.
pub(super) const SCRIPTS: &[&str] = &["boot.ipxe", "autoexec.ipxe", "menu.ipxe", "default.ipxe", "ipxe/boot.ipxe"];

/// The scripts that U-Boot's `dhcp` loads and its distro boot runs, best first.
pub(super) const UBOOT: &[&str] = &["boot.scr.uimg", "boot.scr"];

/// The files that a Raspberry Pi asks for, by its own choice: those of the Pi 3, the Pi 4 and the Pi 5.
pub(super) const RASPBERRY_PI: &[&str] = &["bootcode.bin", "start4.elf", "config.txt"];

/// shim comes first: it loads the GRUB beside it, with and without Secure Boot.
macro_rules! efi {
    ($short:literal, $upper:literal, $distribution:literal, $grub:literal $(, $more:literal)*) => {
        &[
            concat!("shim", $short, ".efi"),
            concat!("bootnet", $short, ".efi"),
            concat!("debian-installer/", $distribution, "/bootnet", $short, ".efi"),
            concat!("boot", $short, ".efi"),
            concat!($distribution, "/boot", $short, ".efi"),
            concat!("EFI/BOOT/BOOT", $upper, ".EFI"),
            concat!("grubnet", $short, ".efi"),
            concat!("grub", $short, ".efi"),
            concat!("boot/grub/", $grub, "-efi/core.efi"),
            $($more),*
        ]
    };
}

macro_rules! ipxe {
    ($short:literal $(, $more:literal)*) => {
        &[
            $($more,)*
            concat!("snponly-", $short, ".efi"),
            concat!("ipxe-", $short, ".efi"),
            concat!($short, "-efi/snponly.efi"),
            concat!($short, "-efi/ipxe.efi"),
        ]
    };
}

/// All known families.
pub(super) static FAMILIES: [Family; 7] = [
    Family {
        key: "bios",
        title: "BIOS",
        pxe: &[0],
        http: &[20],
        files: &[
            "pxelinux.0",
            "lpxelinux.0",
            "debian-installer/amd64/pxelinux.0",
            "debian-installer/i386/pxelinux.0",
            "amd64/pxelinux.0",
            "boot/grub/i386-pc/core.0",
            "boot/pxeboot",
        ],
        ipxe: &["undionly.kpxe", "undionly.kkpxe", "ipxe.kpxe", "ipxe.pxe", "ipxe/undionly.kpxe"],
    },
    Family {
        key: "x64",
        title: "EFI x64",
        pxe: &[7, 9],
        http: &[16, 17],
        files: efi!("x64", "X64", "amd64", "x86_64", "syslinux.efi", "efi64/syslinux.efi", "bootmgfw.efi"),
        ipxe: ipxe!("x86_64", "snponly.efi", "ipxe.efi", "ipxe/snponly.efi", "ipxe/ipxe.efi"),
    },
    Family {
        key: "ia32",
        title: "EFI ia32",
        pxe: &[6],
        http: &[15],
        files: efi!("ia32", "IA32", "i386", "i386", "efi32/syslinux.efi"),
        ipxe: ipxe!("i386"),
    },
    Family {
        key: "arm64",
        title: "EFI arm64",
        pxe: &[11],
        http: &[19],
        files: efi!("aa64", "AA64", "arm64", "arm64"),
        ipxe: ipxe!("arm64"),
    },
    Family {
        key: "arm",
        title: "EFI arm",
        pxe: &[10],
        http: &[18],
        files: efi!("arm", "ARM", "armhf", "arm"),
        ipxe: ipxe!("arm32"),
    },
    Family {
        key: "riscv64",
        title: "EFI riscv64",
        pxe: &[27],
        http: &[28],
        files: efi!("riscv64", "RISCV64", "riscv64", "riscv64"),
        ipxe: ipxe!("riscv64"),
    },
    Family {
        key: "loongarch64",
        title: "EFI loongarch64",
        pxe: &[39],
        http: &[40],
        files: efi!("loongarch64", "LOONGARCH64", "loong64", "loongarch64"),
        ipxe: ipxe!("loong64"),
    },
];

impl Family {
    /// Whether the firmware of these machines is UEFI.
    ///
    /// ```
    /// let others: Vec<_> = tuffet::dhcp::Family::all().filter(|family| !family.is_efi()).collect();
    /// assert!(matches!(others[..], [bios] if bios.key == "bios"));
    /// ```
    pub fn is_efi(&self) -> bool {
        self.key != "bios"
    }

    /// All known families.
    ///
    /// ```
    /// let keys: Vec<_> = tuffet::dhcp::Family::all().map(|family| family.key).collect();
    /// assert_eq!(keys, ["bios", "x64", "ia32", "arm64", "arm", "riscv64", "loongarch64"]);
    /// ```
    pub fn all() -> impl Iterator<Item = &'static Self> {
        FAMILIES.iter()
    }
}

impl Arch {
    /// BIOS. A machine that sends no architecture counts as BIOS too.
    pub const BIOS: Self = Self(0);
    /// The number for the unknown architecture of a machine that runs U-Boot. IANA's list ends far below it.
    pub const UNKNOWN: Self = Self(u16::MAX);

    /// The family of this architecture, if its boot files are known.
    ///
    /// ```
    /// use tuffet::dhcp::Arch;
    ///
    /// assert_eq!(Arch(9).family().unwrap().title, "EFI x64");
    /// assert!(Arch::UNKNOWN.family().is_none());
    /// ```
    pub fn family(self) -> Option<&'static Family> {
        FAMILIES.iter().find(|family| family.pxe.contains(&self.0) || family.http.contains(&self.0))
    }

    /// Whether machines of this architecture boot by HTTP.
    ///
    /// ```
    /// use tuffet::dhcp::Arch;
    ///
    /// assert!(Arch(16).is_http() && !Arch(7).is_http());
    /// ```
    pub fn is_http(self) -> bool {
        self.family().is_some_and(|family| family.http.contains(&self.0))
    }
}

impl Arches {
    /// Whether this architecture is one of them.
    ///
    /// ```
    /// use tuffet::dhcp::{Arch, Arches};
    ///
    /// let arm64: Arches = "arm64".parse()?;
    /// assert!(arm64.contains(Arch(11)) && arm64.contains(Arch(19)) && !arm64.contains(Arch(7)));
    /// # Ok::<(), tuffet::Error>(())
    /// ```
    pub fn contains(&self, arch: Arch) -> bool {
        match self {
            Self::Family(family) => arch.family() == Some(family),
            Self::One(one) => *one == arch,
        }
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.family() {
            Some(family) if self.is_http() => write!(f, "{}, HTTP boot", family.title),
            Some(family) => f.write_str(family.title),
            None => write!(f, "architecture {}", self.0),
        }
    }
}

/// Parses `x64`, `http-x64` for the same family by HTTP boot, or a number.
impl FromStr for Arch {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(number) = text.parse() {
            return Ok(Self(number));
        }
        let (key, by_http) = text.strip_prefix("http-").map_or((text, false), |key| (key, true));
        let family = find(key)?;
        Ok(Self(if by_http { family.http[0] } else { family.pxe[0] }))
    }
}

/// Parses `x64`, or a number.
impl FromStr for Arches {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(|number| Self::One(Arch(number))).or_else(|_| find(text).map(Self::Family))
    }
}

fn find(key: &str) -> Result<&'static Family, Error> {
    let known = || FAMILIES.iter().map(|family| family.key).collect::<Vec<_>>().join(", ");
    let found = FAMILIES.iter().find(|family| family.key == key);
    let wrong = || format!("not an architecture: use one of {}, or a number of option 93", known());
    found.ok_or_else(|| Error::Config(wrong()))
}

/// Whether the name of the file is one of iPXE. A machine that already runs iPXE has no use for such a file.
pub(super) fn is_ipxe(file: &str) -> bool {
    let name = file.rsplit('/').next().unwrap_or(file);
    let is_script = name.ends_with(".ipxe");
    !is_script
        && (["ipxe", "snponly", "undionly"].iter().any(|start| name.starts_with(start)) || name.ends_with("kpxe"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_is_of_one_family() {
        let mut all: Vec<u16> =
            FAMILIES.iter().flat_map(|family| family.pxe.iter().chain(family.http)).copied().collect();
        let numbers = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), numbers);
        for family in &FAMILIES {
            assert!(crate::rules::ARCHES.contains(&family.key), "rules know {}", family.key);
            assert_eq!(family.key.parse::<Arch>().unwrap().family(), Some(family));
            assert!(format!("http-{}", family.key).parse::<Arch>().unwrap().is_http());
            assert!(family.ipxe.iter().all(|file| is_ipxe(file)), "{:?}", family.ipxe);
            assert!(!family.files.iter().any(|file| is_ipxe(file)), "{:?}", family.files);
        }
        assert!(!SCRIPTS.iter().any(|script| is_ipxe(script)));
    }

    #[test]
    fn architectures_by_name_and_number() {
        for (text, number, shown) in [
            ("bios", 0, "BIOS"),
            ("x64", 7, "EFI x64"),
            ("9", 9, "EFI x64"),
            ("http-x64", 16, "EFI x64, HTTP boot"),
            ("arm64", 11, "EFI arm64"),
            ("27", 27, "EFI riscv64"),
            ("14", 14, "architecture 14"),
        ] {
            let arch: Arch = text.parse().unwrap();
            assert_eq!((arch.0, arch.to_string().as_str()), (number, shown), "{text}");
        }
        let x64: Arches = "x64".parse().unwrap();
        assert!([7, 9, 16].iter().all(|number| x64.contains(Arch(*number))) && !x64.contains(Arch(6)));
        let one: Arches = "16".parse().unwrap();
        assert!(one.contains(Arch(16)) && !one.contains(Arch(7)));
        for bad in ["", "amiga", "65536", "http-", "-1"] {
            assert!(bad.parse::<Arch>().is_err() && bad.parse::<Arches>().is_err(), "{bad}");
        }
    }
}
