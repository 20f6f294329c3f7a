//! Why a machine gets no boot file, and why a rule does not match a machine.

use std::fmt;

use super::{Arch, Family, arch::SCRIPTS, packet::LONGEST_FILE};

/// The reason why a machine gets no boot file.
///
/// ```
/// use tuffet::dhcp::{Machine, NoBootFile, Proxy, Rule};
///
/// let proxy = Proxy::default().rules(vec![Rule::new("printers", "").mac("00:11:22".parse()?)]);
/// let printer = Machine::new("bios".parse()?).mac("00:11:22:33:44:55".parse()?);
/// let why = proxy.choose(&printer).unwrap_err();
/// assert_eq!(why, NoBootFile::Rule("printers".into()));
/// assert_eq!(why.to_string(), "printers gives it no answer");
/// # Ok::<(), tuffet::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NoBootFile {
    /// The rule with this title gives the machine no answer.
    Rule(String),
    /// No boot file is known for this architecture.
    Arch(Arch),
    /// The sources have none of the boot files of this family.
    Absent(&'static Family),
    /// The sources have no script for iPXE.
    NoScript,
    /// The search for boot files failed, for this reason.
    SearchFailed(String),
    /// The machine boots by HTTP, which this server does not serve.
    NoHttp,
    /// The name of the file does not fit into an answer.
    LongName,
    /// The answer is longer than the machine takes (RFC 2132 section 9.10).
    LongAnswer,
    /// The answer cannot be encoded.
    Encoding,
}

/// The condition of a [`Rule`](super::Rule) that a machine does not meet.
///
/// ```
/// use tuffet::dhcp::{Machine, Mismatch, Rule};
///
/// let rule = Rule::new("the lab", "lab/grubx64.efi").arch("x64".parse()?);
/// assert_eq!(rule.check(&Machine::new("arm64".parse()?)), Err(Mismatch::Arch));
/// assert_eq!(Mismatch::Arch.to_string(), "another architecture");
/// # Ok::<(), tuffet::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mismatch {
    /// The rule is for other architectures.
    Arch,
    /// The rule is for other MAC addresses.
    Mac,
    /// The rule is for other UUIDs.
    Uuid,
    /// The rule is for iPXE, and the machine runs its firmware.
    OnlyIpxe,
    /// The rule is for firmware, and the machine runs iPXE.
    OnlyFirmware,
    /// The file of the rule is iPXE, which the machine runs already.
    Loop,
}

impl std::error::Error for NoBootFile {}

impl fmt::Display for NoBootFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rule(title) => write!(f, "{title} gives it no answer"),
            Self::Arch(arch) => write!(f, "no boot file for {arch} is known"),
            Self::Absent(family) => {
                let names: Vec<&str> = family.files.iter().chain(family.ipxe).copied().collect();
                write!(f, "none of its boot files exists: {}", names.join(", "))
            }
            Self::NoScript => write!(f, "there is no script for iPXE ({})", SCRIPTS.join(", ")),
            Self::SearchFailed(why) => write!(f, "the search failed: {why}"),
            Self::NoHttp => f.write_str("it boots by HTTP, which this server does not serve (--http)"),
            Self::LongName => write!(f, "the name of its file is longer than {LONGEST_FILE} bytes"),
            Self::LongAnswer => f.write_str("its answer would be longer than it takes (option 57)"),
            Self::Encoding => f.write_str("it cannot be encoded"),
        }
    }
}

impl std::error::Error for Mismatch {}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Arch => "another architecture",
            Self::Mac => "another MAC address",
            Self::Uuid => "another UUID",
            Self::OnlyIpxe => "it is for iPXE",
            Self::OnlyFirmware => "it is not for iPXE",
            Self::Loop => "iPXE would load itself again",
        })
    }
}
