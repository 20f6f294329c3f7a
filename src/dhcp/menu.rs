//! The menu: which of the usual boot files the sources have.

use std::{net::Ipv4Addr, sync::Arc};

use smol::LocalExecutor;

use super::{
    Family, Machine, NoBootFile,
    arch::{RASPBERRY_PI, SCRIPTS, UBOOT},
};
use crate::{
    error::{ErrorCode, Refusal},
    handler::{Handler, Request},
    packet,
};

/// The usual boot files that the sources have, by family.
///
/// A file is absent if the handler says that there is none ([`ErrorCode::FILE_NOT_FOUND`]), or that nobody may have it
/// ([`ErrorCode::ACCESS_VIOLATION`], [`Refusal::silent`]). After any other refusal the search goes no further down the
/// list of files, and the machines of that list get nothing instead of a file from further down.
///
/// ```
/// use tuffet::{dhcp::{Machine, Menu, Proxy}, handlers::Memory};
///
/// let files = Memory::new();
/// files.insert("boot.ipxe", "#!ipxe\n")?;
/// files.insert("ipxe.efi", "MZ...")?;
/// let proxy = Proxy::default().menu(smol::block_on(Menu::find(&files)));
/// let firmware = Machine::new("x64".parse()?);
/// assert_eq!(proxy.choose(&firmware)?.file, "ipxe.efi");
/// assert_eq!(proxy.choose(&firmware.with_ipxe())?.file, "boot.ipxe", "the same machine, a moment later");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Menu {
    lists: Vec<(List, Entry)>,
}

/// Names of files, of which the first that the sources have counts: [`SCRIPTS`], [`UBOOT`], [`RASPBERRY_PI`],
/// [`Family::files`] or [`Family::ipxe`].
type List = &'static [&'static str];

/// The files of one list that the sources have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Entry {
    /// The first file of the list that the sources have. After a failure, the file of the last search that had one.
    file: Option<&'static str>,
    /// The name of the file for which the search failed, and the reason, for people.
    failure: Option<String>,
}

impl Menu {
    /// Asks this handler for each of the usual names. The handler opens the files, and nothing is read from them.
    ///
    /// ```
    /// use tuffet::{dhcp::Menu, handlers::Memory};
    ///
    /// assert!(smol::block_on(Menu::find(&Memory::new())).is_empty());
    /// ```
    pub async fn find(handler: &dyn Handler) -> Self {
        let executor = LocalExecutor::new();
        let families = Family::all().flat_map(|family| [family.files, family.ipxe]);
        let lists = [SCRIPTS, UBOOT, RASPBERRY_PI].into_iter().chain(families);
        let searches: Vec<_> = lists.map(|list| (list, executor.spawn(Entry::find(handler, list)))).collect();
        let found = async {
            let mut lists = Vec::new();
            for (list, search) in searches {
                lists.push((list, search.await));
            }
            Self { lists }
        };
        executor.run(found).await
    }

    /// Whether the menu has no file for any machine.
    ///
    /// ```
    /// assert!(tuffet::dhcp::Menu::default().is_empty());
    /// ```
    pub fn is_empty(&self) -> bool {
        self.lists.iter().all(|(_, entry)| entry.file.is_none())
    }

    /// The first failure of the search, for people. A failure says nothing about whether there is a file.
    ///
    /// ```
    /// use tuffet::{Refusal, dhcp::Menu, read};
    ///
    /// let down = read(|_| Err::<&str, _>(Refusal::upstream().because("connection refused")));
    /// let menu = smol::block_on(Menu::find(&down));
    /// assert!(menu.is_empty() && menu.failure().unwrap().contains("connection refused"));
    /// ```
    pub fn failure(&self) -> Option<&str> {
        self.lists.iter().find_map(|(_, entry)| entry.failure.as_deref())
    }

    /// Keeps the files of an older menu wherever the search for this one failed.
    ///
    /// ```
    /// use tuffet::{Refusal, dhcp::Menu, read};
    ///
    /// let up = smol::block_on(Menu::find(&read(|_| "MZ...")));
    /// let down = smol::block_on(Menu::find(&read(|_| Err::<&str, _>(Refusal::upstream()))));
    /// assert!(!down.or_known(&up).is_empty(), "the files are there, and will be again");
    /// ```
    #[must_use]
    pub fn or_known(mut self, old: &Self) -> Self {
        for (list, entry) in self.lists.iter_mut().filter(|(_, entry)| entry.failure.is_some()) {
            entry.file = old.entry(list).file;
        }
        self
    }

    fn entry(&self, list: List) -> &Entry {
        const NOTHING: &Entry = &Entry { file: None, failure: None };
        self.lists.iter().find(|(known, _)| *known == list).map_or(NOTHING, |(_, entry)| entry)
    }

    /// The boot file of a machine, or the reason why there is none. U-Boot needs no file: it may only need
    /// the address of the server, for `pxe get`. Then the name is empty.
    pub(super) fn choose(&self, machine: &Machine) -> Result<&'static str, NoBootFile> {
        if machine.uboot {
            return Ok(self.entry(UBOOT).file.unwrap_or_default());
        }
        if let Some(file) = self.entry(RASPBERRY_PI).file.filter(|_| machine.is_raspberry_pi()) {
            return Ok(file);
        }
        let family = machine.arch.family().ok_or(NoBootFile::Arch(machine.arch))?;
        let [script, file, ipxe] = [SCRIPTS, family.files, family.ipxe].map(|list| self.entry(list));
        let in_order = match script.file {
            _ if machine.ipxe => [script, file],
            // An operator who provides a script wants iPXE.
            Some(_) => [ipxe, file],
            None => [file, ipxe],
        };
        for entry in in_order {
            match (entry.file, &entry.failure) {
                (Some(file), _) => return Ok(file),
                (None, Some(failure)) => return Err(NoBootFile::SearchFailed(failure.clone())),
                (None, None) => {}
            }
        }
        Err(if machine.ipxe { NoBootFile::NoScript } else { NoBootFile::Absent(family) })
    }
}

impl Entry {
    async fn find(handler: &dyn Handler, names: List) -> Self {
        for name in names {
            match open(handler, name).await {
                Ok(()) => return Self { file: Some(name), failure: None },
                Err(refusal) if is_absence(&refusal) => {}
                Err(refusal) => return Self { file: None, failure: Some(format!("{name}: {refusal}")) },
            }
        }
        Self::default()
    }
}

/// Whether a boot file fetches more files by TFTP from its own server, as PXELINUX fetches its configuration.
pub(super) fn goes_on_by_tftp(file: &str) -> bool {
    let last = |file: &str| file.rsplit('/').next().map(str::to_owned);
    Family::all().any(|family| family.files.iter().any(|known| last(known) == last(file)))
}

async fn open(handler: &dyn Handler, name: &str) -> Result<(), Refusal> {
    let packet = packet::Request::new(name);
    // A client has no address yet when the server tells it the boot file.
    let (peer, local) = ((Ipv4Addr::UNSPECIFIED, 68).into(), (Ipv4Addr::UNSPECIFIED, 69).into());
    let request = Request::new(peer, local, Arc::new(packet))?;
    handler.read(&request).await.map(drop)
}

/// Whether this refusal says that there is no such file for clients. Other refusals say that the handler cannot tell.
fn is_absence(refusal: &Refusal) -> bool {
    matches!(refusal.code(), ErrorCode::FILE_NOT_FOUND | ErrorCode::ACCESS_VIOLATION) || *refusal == Refusal::silent()
}
