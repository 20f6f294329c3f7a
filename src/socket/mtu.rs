//! The largest block that needs no IP fragments.

use std::{collections::HashMap, net::SocketAddr};

use crate::{
    options::{BLKSIZE, DEFAULT_BLKSIZE},
    packet::headers,
};

/// The MTU of an unknown interface. EDK2 asks for a blksize that is made for Ethernet.
const ETHERNET: u32 = 1500;

/// The MTU of each interface. The system is asked once.
#[derive(Debug, Default)]
pub(crate) struct Mtus(HashMap<u32, u32>);

impl Mtus {
    /// The largest blksize that needs no fragments on the interface with this index.
    pub(crate) fn blksize(&mut self, interface: u32, peer: &SocketAddr) -> u16 {
        let mtu = *self.0.entry(interface).or_insert_with(|| ask(interface).unwrap_or(ETHERNET));
        mtu.saturating_sub(headers(peer)).clamp(DEFAULT_BLKSIZE.into(), (*BLKSIZE.end()).into()) as u16
    }
}

/// Linux has the MTU in files.
fn ask(interface: u32) -> Option<u32> {
    let number = |path: std::path::PathBuf| std::fs::read_to_string(path).ok()?.trim().parse::<u32>().ok();
    let interfaces = std::fs::read_dir("/sys/class/net").ok()?;
    let found = interfaces.flatten().find(|entry| number(entry.path().join("ifindex")) == Some(interface))?;
    number(found.path().join("mtu"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_fit_the_interface() {
        let mut mtus = Mtus(HashMap::from([(1, 65536), (2, 1500), (3, 1280), (4, 68)]));
        let (v4, v6) = ("10.0.0.1:1".parse().unwrap(), "[fe80::1]:1".parse().unwrap());
        assert_eq!([1, 2, 3, 4].map(|interface| mtus.blksize(interface, &v4)), [65464, 1468, 1248, 512]);
        assert_eq!([1, 2, 3, 4].map(|interface| mtus.blksize(interface, &v6)), [65464, 1448, 1228, 512]);
        assert_eq!(mtus.blksize(u32::MAX, &v4), 1468, "unknown");
    }
}
