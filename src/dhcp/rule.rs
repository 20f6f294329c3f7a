//! The operator's rules: which machine gets which boot file.

use super::{Arches, Machine, Mismatch};
use crate::rules::{Mac, MacPrefix, Uuid};

/// A boot file for the machines that meet all conditions of the rule. A rule without conditions matches all machines.
///
/// ```
/// use tuffet::dhcp::{Machine, Proxy, Rule};
///
/// let rule = Rule::new("the lab", "lab/grubx64.efi").arch("x64".parse()?).mac("52:54:00".parse()?);
/// let proxy = Proxy::default().rules(vec![rule]);
/// let machine = Machine::new("x64".parse()?).mac("52:54:00:12:34:56".parse()?);
/// assert_eq!(proxy.choose(&machine).unwrap().file, "lab/grubx64.efi");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct Rule {
    title: String,
    file: String,
    arches: Vec<Arches>,
    uuids: Vec<Uuid>,
    macs: Vec<MacPrefix>,
    ipxe: Option<bool>,
}

impl Rule {
    /// A rule for all machines. The title is for people. The file is a name on this server, or a URL. If the file is
    /// empty, the machine gets no answer.
    ///
    /// ```
    /// use tuffet::dhcp::{Arch, Machine, Rule};
    ///
    /// assert!(Rule::new("all", "https://boot.example/all.efi").check(&Machine::new(Arch::BIOS)).is_ok());
    /// ```
    pub fn new(title: impl Into<String>, file: impl Into<String>) -> Self {
        let (title, file) = (title.into(), file.into());
        Self { title, file, arches: Vec::new(), uuids: Vec::new(), macs: Vec::new(), ipxe: None }
    }

    /// Limits the rule to machines of these architectures. Another call adds more of them.
    ///
    /// ```
    /// use tuffet::dhcp::{Arch, Machine, Rule};
    ///
    /// let rule = Rule::new("EFI", "grub.efi").arch("x64".parse()?).arch("ia32".parse()?);
    /// assert!([7, 6].iter().all(|&arch| rule.check(&Machine::new(Arch(arch))).is_ok()));
    /// assert!(rule.check(&Machine::new(Arch::BIOS)).is_err());
    /// # Ok::<(), tuffet::Error>(())
    /// ```
    pub fn arch(mut self, arches: Arches) -> Self {
        self.arches.push(arches);
        self
    }

    /// Limits the rule to the machine with this UUID. Another call adds another machine.
    ///
    /// ```
    /// use tuffet::dhcp::{Arch, Machine, Mismatch, Rule};
    ///
    /// let rule = Rule::new("node 7", "seven.efi").uuid("01234567-89ab-cdef-0123-456789abcdef".parse()?);
    /// assert_eq!(rule.check(&Machine::new(Arch::BIOS)), Err(Mismatch::Uuid));
    /// # Ok::<(), tuffet::Error>(())
    /// ```
    pub fn uuid(mut self, uuid: Uuid) -> Self {
        self.uuids.push(uuid);
        self
    }

    /// Limits the rule to machines whose MAC address has this prefix. Another call adds another prefix.
    ///
    /// ```
    /// use tuffet::dhcp::{Arch, Machine, Rule};
    ///
    /// let rule = Rule::new("QEMU", "qemu.0").mac("52:54:00".parse()?);
    /// assert!(rule.check(&Machine::new(Arch::BIOS).mac("52:54:00:12:34:56".parse()?)).is_ok());
    /// # Ok::<(), tuffet::Error>(())
    /// ```
    pub fn mac(mut self, mac: MacPrefix) -> Self {
        self.macs.push(mac);
        self
    }

    /// Limits the rule to iPXE (`true`) or to firmware (`false`). Defaults to both. But by default a rule whose file is
    /// iPXE does not match iPXE, which would load itself again and again.
    ///
    /// ```
    /// use tuffet::dhcp::{Arch, Machine, Mismatch, Rule};
    ///
    /// let firmware = Machine::new(Arch::BIOS);
    /// assert_eq!(Rule::new("script", "boot.ipxe").ipxe(true).check(&firmware), Err(Mismatch::OnlyIpxe));
    /// assert_eq!(Rule::new("all", "ipxe.pxe").check(&firmware.with_ipxe()), Err(Mismatch::Loop));
    /// ```
    pub fn ipxe(mut self, ipxe: bool) -> Self {
        self.ipxe = Some(ipxe);
        self
    }

    /// The title of the rule.
    ///
    /// ```
    /// assert_eq!(tuffet::dhcp::Rule::new("the lab", "grubx64.efi").title(), "the lab");
    /// ```
    pub fn title(&self) -> &str {
        &self.title
    }

    pub(super) fn file(&self) -> &str {
        &self.file
    }

    /// Whether the rule matches this machine.
    ///
    /// ```
    /// use tuffet::dhcp::{Arch, Machine, Rule};
    ///
    /// let rule = Rule::new("the lab", "grubx64.efi").arch("x64".parse()?);
    /// let why = rule.check(&Machine::new(Arch::BIOS)).unwrap_err();
    /// assert_eq!(why.to_string(), "another architecture");
    /// # Ok::<(), tuffet::Error>(())
    /// ```
    ///
    /// # Errors
    /// The condition that the machine does not meet.
    pub fn check(&self, machine: &Machine) -> Result<(), Mismatch> {
        let is = |mac: Mac| self.macs.iter().any(|prefix| prefix.contains(mac));
        if !self.arches.is_empty() && !self.arches.iter().any(|arches| arches.contains(machine.arch)) {
            return Err(Mismatch::Arch);
        }
        if !self.macs.is_empty() && !machine.mac.is_some_and(is) {
            return Err(Mismatch::Mac);
        }
        if !self.uuids.is_empty()
            && !machine.uuid.is_some_and(|uuid| self.uuids.iter().any(|known| known.is_same(uuid)))
        {
            return Err(Mismatch::Uuid);
        }
        match (self.ipxe, machine.ipxe) {
            (Some(true), false) => Err(Mismatch::OnlyIpxe),
            (Some(false), true) => Err(Mismatch::OnlyFirmware),
            (None, true) if super::arch::is_ipxe(&self.file) => Err(Mismatch::Loop),
            _ => Ok(()),
        }
    }
}
