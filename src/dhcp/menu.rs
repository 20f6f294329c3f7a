//! The menu: which of the usual boot files the sources have.

use std::{collections::BTreeMap, net::Ipv4Addr, sync::Arc};

use smol::LocalExecutor;

use super::{Family, Machine, arch::SCRIPTS};
use crate::{
    handler::{Handler, Request},
    packet::{self, Mode, Options},
};

/// The usual boot files that the sources have, by family.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Menu {
    /// The script that iPXE runs.
    script: Option<&'static str>,
    families: BTreeMap<&'static str, Found>,
}

/// The boot files of one family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Found {
    /// The first file of [`Family::files`] that the sources have.
    file: Option<&'static str>,
    /// The first file of [`Family::ipxe`] that the sources have.
    ipxe: Option<&'static str>,
}

impl Menu {
    /// Asks this handler for each of the usual names. The handler opens the files, and nothing is read from them.
    pub async fn find(handler: &dyn Handler) -> Self {
        let executor = LocalExecutor::new();
        let first = |names: &'static [&'static str]| {
            executor.spawn(async move {
                for name in names {
                    if is_there(handler, name).await {
                        return Some(*name);
                    }
                }
                None
            })
        };
        let script = first(SCRIPTS);
        let families: Vec<_> =
            Family::all().map(|family| (family.key, first(family.files), first(family.ipxe))).collect();
        executor
            .run(async {
                let mut menu = Self { script: script.await, ..Self::default() };
                for (key, file, ipxe) in families {
                    let found = Found { file: file.await, ipxe: ipxe.await };
                    menu.families.insert(key, found);
                }
                menu
            })
            .await
    }

    /// Whether the menu has no file for any machine.
    pub fn is_empty(&self) -> bool {
        self.script.is_none() && self.families.values().all(|found| *found == Found::default())
    }

    /// The boot file of a machine, or the reason why there is none, for people.
    pub(super) fn choose(&self, machine: &Machine) -> Result<&'static str, String> {
        let family = machine.arch.family().ok_or_else(|| format!("no boot file of {} is known", machine.arch))?;
        let found = self.families.get(family.key).copied().unwrap_or_default();
        if machine.ipxe {
            let none = || format!("there is no script for iPXE ({}), and nothing else for it", SCRIPTS.join(", "));
            return self.script.or(found.file).ok_or_else(none);
        }
        // An operator who provides a script wants iPXE.
        let file = match self.script {
            Some(_) => found.ipxe.or(found.file),
            None => found.file.or(found.ipxe),
        };
        file.ok_or_else(|| {
            let names: Vec<&str> = family.files.iter().chain(family.ipxe).copied().collect();
            format!("none of the files for it is there: {}", names.join(", "))
        })
    }
}

/// Whether a boot file fetches more files by TFTP from its own server, as PXELINUX fetches its configuration.
pub(super) fn goes_on_by_tftp(file: &str) -> bool {
    let last = |file: &str| file.rsplit('/').next().map(str::to_owned);
    Family::all().any(|family| family.files.iter().any(|known| last(known) == last(file)))
}

async fn is_there(handler: &dyn Handler, name: &str) -> bool {
    let packet = packet::Request { filename: name.into(), mode: Mode::Octet, options: Options::default() };
    // A client has no address yet when the server tells it the boot file.
    let (peer, local) = ((Ipv4Addr::UNSPECIFIED, 68).into(), (Ipv4Addr::UNSPECIFIED, 69).into());
    match Request::new(peer, local, Arc::new(packet)) {
        Ok(request) => handler.read(&request).await.is_ok(),
        Err(_) => false,
    }
}
