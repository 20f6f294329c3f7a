//! Which file is for which machine, where the operator says so.

use super::{Arches, Machine, packet::are_same};
use crate::rules::{Mac, MacPrefix, Uuid};

/// A boot file, and the machines that it is for: those that meet all of its conditions. Without conditions it is for all.
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
#[derive(Clone, Debug)]
pub struct Rule {
    title: String,
    file: String,
    arches: Vec<Arches>,
    uuids: Vec<Uuid>,
    macs: Vec<MacPrefix>,
    ipxe: Option<bool>,
}

impl Rule {
    /// A rule for all machines. The title is for people. The file is a name of this server, or a URL; an empty one means
    /// that the machine gets no answer.
    pub fn new(title: impl Into<String>, file: impl Into<String>) -> Self {
        let (title, file) = (title.into(), file.into());
        Self { title, file, arches: Vec::new(), uuids: Vec::new(), macs: Vec::new(), ipxe: None }
    }

    /// For machines of these architectures; may be called again for more.
    #[must_use]
    pub fn arch(mut self, arches: Arches) -> Self {
        self.arches.push(arches);
        self
    }

    /// For the machine with this UUID; may be called again for more.
    #[must_use]
    pub fn uuid(mut self, uuid: Uuid) -> Self {
        self.uuids.push(uuid);
        self
    }

    /// For machines whose card has such an address; may be called again for more.
    #[must_use]
    pub fn mac(mut self, mac: MacPrefix) -> Self {
        self.macs.push(mac);
        self
    }

    /// For iPXE alone, or for firmware alone. Defaults to both; but a rule whose file is iPXE is never for iPXE, which
    /// would load itself again and again.
    #[must_use]
    pub fn ipxe(mut self, ipxe: bool) -> Self {
        self.ipxe = Some(ipxe);
        self
    }

    /// What it is called.
    pub fn title(&self) -> &str {
        &self.title
    }

    pub(super) fn file(&self) -> &str {
        &self.file
    }

    /// Why it is not for this machine, for people.
    pub fn check(&self, machine: &Machine) -> Result<(), &'static str> {
        let is = |mac: Mac| self.macs.iter().any(|prefix| prefix.contains(mac));
        if !self.arches.is_empty() && !self.arches.iter().any(|arches| arches.contains(machine.arch)) {
            return Err("another architecture");
        }
        if !self.macs.is_empty() && !machine.mac.is_some_and(is) {
            return Err("another MAC address");
        }
        if !self.uuids.is_empty()
            && !machine.uuid.is_some_and(|uuid| self.uuids.iter().any(|known| are_same(*known, uuid)))
        {
            return Err("another UUID");
        }
        match (self.ipxe, machine.ipxe) {
            (Some(true), false) => Err("it is for iPXE"),
            (Some(false), true) => Err("it is not for iPXE"),
            (None, true) if super::arch::is_ipxe(&self.file) => Err("iPXE would load itself again"),
            _ => Ok(()),
        }
    }
}
