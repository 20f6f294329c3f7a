//! The properties of the answer to any datagram, for random tests and for a fuzzer.

use std::net::{Ipv4Addr, SocketAddrV4};

use tuffet::dhcp::{Arrival, Proxy, Rule, ServerPort};

use super::client::Read;

/// Checks that the answer, if there is one, is readable and goes to a client that may have asked.
pub fn answers(bytes: &[u8]) {
    let local = Ipv4Addr::new(192, 0, 2, 1);
    let from = SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 9), 4011);
    let http = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 80);
    let rules = vec![
        Rule::new("one", "grub/x.efi").arch("x64".parse().unwrap()),
        Rule::new("two", "a".repeat(300)).arch("1".parse().unwrap()),
        Rule::new("three", "menu.ipxe").ipxe(true),
        Rule::new("all", "pxelinux.0"),
    ];
    let proxy = Proxy::default().rules(rules).http([http]);
    for server_port in [ServerPort::Dhcp, ServerPort::Pxe] {
        let Ok(answer) = proxy.answer(bytes, Arrival { server_port, from, local, broadcast: true }) else { continue };
        let read = Read::of(&answer.bytes);
        assert_eq!((read.server, read.file), (local, answer.offer.file));
        assert_eq!(answer.bytes[4..8], bytes[4..8], "the client knows its question by this");
        let ip = answer.to.ip();
        assert!(!(ip.is_unspecified() || ip.is_multicast() || ip.is_loopback()), "{ip}");
        assert!(answer.to == from || [67, 68].contains(&answer.to.port()));
    }
}
