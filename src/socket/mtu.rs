//! The largest block that needs no IP fragments.

use std::{
    collections::HashMap,
    net::SocketAddr,
    time::{Duration, Instant},
};

use crate::{
    options::{BLKSIZE, DEFAULT_BLKSIZE},
    packet::headers,
};

/// The MTU of an unknown interface. EDK2 asks for a blksize that is made for Ethernet.
const ETHERNET: u32 = 1500;

/// How long an MTU holds before the system is asked again. It changes when a tunnel or a bridge is set up.
const AGE: Duration = Duration::from_secs(10);

/// The MTU of each interface, and the time when the system was asked.
#[derive(Debug, Default)]
pub(crate) struct Mtus(HashMap<u32, (u32, Instant)>);

impl Mtus {
    /// The largest blksize that needs no fragments on the interface with this index.
    pub(crate) fn blksize(&mut self, interface: u32, peer: &SocketAddr) -> u16 {
        let mtu = self.mtu(interface, Instant::now());
        mtu.saturating_sub(headers(peer)).clamp(DEFAULT_BLKSIZE.into(), (*BLKSIZE.end()).into()) as u16
    }

    fn mtu(&mut self, interface: u32, now: Instant) -> u32 {
        if let Some((mtu, asked)) = self.0.get(&interface) {
            if now.saturating_duration_since(*asked) < AGE {
                return *mtu;
            }
        }
        let mtu = ask(interface).unwrap_or(ETHERNET);
        // Each interface that is made gets an index of its own, and with containers they come and go.
        self.0.retain(|_, (_, asked)| now.saturating_duration_since(*asked) < AGE);
        self.0.insert(interface, (mtu, now));
        mtu
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
        let now = Instant::now();
        let mut mtus = Mtus([(1, 65536), (2, 1500), (3, 1280), (4, 68)].map(|(index, mtu)| (index, (mtu, now))).into());
        let (v4, v6) = ("10.0.0.1:1".parse().unwrap(), "[fe80::1]:1".parse().unwrap());
        assert_eq!([1, 2, 3, 4].map(|interface| mtus.blksize(interface, &v4)), [65464, 1468, 1248, 512]);
        assert_eq!([1, 2, 3, 4].map(|interface| mtus.blksize(interface, &v6)), [65464, 1448, 1228, 512]);
        assert_eq!(mtus.blksize(u32::MAX, &v4), 1468, "unknown");
        // No system has this interface, so the next answer is that of Ethernet.
        mtus.0.insert(u32::MAX, (9000, now));
        for (later, mtu) in [(AGE - Duration::from_secs(1), 9000), (AGE, 1500), (AGE * 3 / 2, 1500)] {
            assert_eq!(mtus.mtu(u32::MAX, now + later), mtu, "{later:?}");
        }
        assert_eq!(mtus.0.len(), 1, "interfaces that are gone take no memory");
    }
}
