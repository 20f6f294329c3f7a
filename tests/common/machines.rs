//! Machines of their own, for a test that runs once more in namespaces of its own: there it is the server's machine,
//! and the others are namespaces that threads of it enter.
#![allow(dead_code, reason = "each test crate uses its part")]

#[path = "again.rs"]
#[macro_use]
mod again;

use std::{
    fs::File,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    os::fd::AsFd,
    thread,
};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use socket2::{Domain, Protocol, Socket, Type};

use super::common::Peer;

/// A client on a link to a server that has two addresses there, and one more on another link.
pub const TWO_LINKS: &str = "
    ip netns add client
    ip link add s0 mtu 1400 type veth peer name c0 mtu 1400 netns client
    ip link add s1 mtu 9000 type veth peer name c1 mtu 9000 netns client
    for address in 10.9.0.1/24 10.9.0.2/24; do ip address add $address dev s0; done
    for address in fd09::1/64 fd09::2/64; do ip address add $address dev s0 nodad; done
    ip address add 10.9.1.1/24 dev s1
    ip -n client address add 10.9.0.7/24 brd + dev c0
    ip -n client address add fd09::7/64 dev c0 nodad
    ip -n client address add 10.9.1.7/24 dev c1
    ip link set s0 up; ip link set s1 up
    ip -n client link set lo up; ip -n client link set c0 up; ip -n client link set c1 up
    ip -n client route add default dev c0";

/// Runs this test again on machines that these commands have made. Returns whether this is there already.
pub fn on_machines(test: &str, commands: &str) -> bool {
    let commands = format!("mount -t sysfs none /sys; mount -t tmpfs none /run; ip link set lo up\n{commands}");
    again::after(test, &["unshare", "--net", "--mount"], &commands)
}

/// Runs the closure on another machine.
pub fn on<T: Send>(machine: &str, work: impl FnOnce() -> T + Send) -> T {
    thread::scope(|threads| {
        let work = threads.spawn(move || {
            enter(machine);
            work()
        });
        work.join().unwrap()
    })
}

/// Moves this thread to another machine.
pub fn enter(machine: &str) {
    let namespace = File::open(format!("/run/netns/{machine}")).unwrap();
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
}

pub fn peer(server: &str) -> Peer {
    let server: SocketAddr = server.parse().unwrap();
    let mut peer = Peer::new(server);
    peer.socket = UdpSocket::bind(if server.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }).unwrap();
    peer
}

/// Sends a datagram with a forged source address.
pub fn forge(from: &str, to: &str, payload: &[u8]) {
    let (from, to): (SocketAddr, SocketAddr) = (from.parse().unwrap(), to.parse().unwrap());
    send_raw(&datagram(from, to, payload));
}

/// Sends an ICMP error with the source address `from`, about a datagram from `server` to `peer`.
pub fn forge_icmp(from: Ipv4Addr, (kind, code): (u8, u8), server: SocketAddr, peer: SocketAddr) {
    let quoted = datagram(server, peer, &[]);
    let mut icmp = vec![kind, code, 0, 0, 0, 0, 0, 0];
    icmp.extend(&quoted);
    let sum: u32 = icmp.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
    icmp[2..4].copy_from_slice(&sum.to_be_bytes());
    let SocketAddr::V4(server) = server else { panic!("IPv4 only") };
    send_raw(&packet(1, from, *server.ip(), &icmp));
}

fn datagram(from: SocketAddr, to: SocketAddr, payload: &[u8]) -> Vec<u8> {
    let (SocketAddr::V4(from), SocketAddr::V4(to)) = (from, to) else { panic!("IPv4 only") };
    let udp = [from.port(), to.port(), 8 + payload.len() as u16, 0];
    let udp: Vec<u8> = udp.iter().flat_map(|field| field.to_be_bytes()).chain(payload.iter().copied()).collect();
    packet(17, *from.ip(), *to.ip(), &udp)
}

fn packet(protocol: u8, from: Ipv4Addr, to: Ipv4Addr, payload: &[u8]) -> Vec<u8> {
    // The kernel fills in the checksum and the length of the outer header.
    let mut ip = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, protocol, 0, 0];
    ip.extend(from.octets());
    ip.extend(to.octets());
    ip.extend(payload);
    ip
}

fn send_raw(packet: &[u8]) {
    let to = Ipv4Addr::new(packet[16], packet[17], packet[18], packet[19]);
    // IPPROTO_RAW: with a header of our own.
    let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(255))).unwrap();
    socket.send_to(packet, &SocketAddr::from((to, 0)).into()).unwrap();
}
