//! ProxyDHCP on real interfaces: broadcasts, a relay, an interface that is not named, two servers on one net.
//!
//! Each test runs once more in namespaces of its own, where it is the server's machine.
#![cfg(all(target_os = "linux", feature = "dhcp"))]

mod common;
#[path = "dhcp/client.rs"]
mod dhcp_client;
#[path = "common/machines.rs"]
mod machines;

use std::{
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    time::Duration,
};

use dhcp_client::{DISCOVER, Question, REQUEST, Read};
use dhcproto::v4::MessageType;
use machines::{TWO_LINKS, on, on_machines};
use socket2::{Domain, Protocol, Socket, Type};
use tuffet::{
    Refusal, Request, Running, Server,
    dhcp::{CurrentProxy, Interface, Serving, Sockets, interfaces},
    read,
};

/// A server with a boot file for BIOS, and its ProxyDHCP on this interface.
fn serve(interface: &str) -> (Running, Serving) {
    let known = interfaces().unwrap();
    assert!(known.iter().any(|known| known.name == interface), "{known:?}");
    let interface = Interface { name: interface.into(), addresses: Vec::new() };
    let sockets = Sockets::bind(vec![interface], CurrentProxy::default()).unwrap();
    let handler = read(async |request: Request| match request.path() {
        "pxelinux.0" => Ok("..."),
        _ => Err(Refusal::not_found()),
    });
    let builder = sockets.watch(Server::builder().listen("0.0.0.0:69").handler(handler));
    let running = builder.bind().unwrap().spawn().unwrap();
    let serving = sockets.serve(running.handle().clone()).unwrap();
    (running, serving)
}

/// What a client listens at.
fn client(interface: &str, port: u16) -> UdpSocket {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP)).unwrap();
    socket.bind_device(Some(interface.as_bytes())).unwrap();
    socket.set_broadcast(true).unwrap();
    socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)).into()).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    socket.into()
}

/// The answer, and who sent it: the question is repeated, as clients do.
fn ask(socket: &UdpSocket, question: &Question, to: &str) -> (Read, String) {
    for _ in 0..60 {
        socket.send_to(&question.bytes(), to).unwrap();
        let mut answer = [0; 1500];
        if let Ok((length, from)) = socket.recv_from(&mut answer) {
            return (Read::of(&answer[..length]), from.to_string());
        }
    }
    panic!("no answer from {to}");
}

fn is_silent(socket: &UdpSocket) -> bool {
    socket.recv_from(&mut [0; 1500]).is_err()
}

#[test]
#[ignore = "needs root, unshare and iproute2"]
fn machines_on_the_named_interface_are_answered_and_no_others() {
    if !on_machines("machines_on_the_named_interface_are_answered_and_no_others", TWO_LINKS) {
        return;
    }
    let (running, _serving) = serve("s0");
    on("client", || {
        let (named, other) = (client("c0", 68), client("c1", 68));
        let question = Question::pxe(DISCOVER, 0);
        other.send_to(&question.bytes(), "255.255.255.255:67").unwrap();
        let (read, from) = ask(&named, &question, "255.255.255.255:67");
        assert_eq!((read.kind, read.file.as_str(), from.as_str()), (MessageType::Offer, "pxelinux.0", "10.9.0.1:67"));
        assert_eq!(read.server, Ipv4Addr::new(10, 9, 0, 1));
        assert!(is_silent(&other));
        // Somebody who boots nothing.
        drain(&named);
        named.send_to(&Question::new(DISCOVER).option(60, b"udhcp").bytes(), "255.255.255.255:67").unwrap();
        assert!(is_silent(&named));
        // The one that was chosen, from the port of PXE, at another address of the server: that is what it is told.
        let at_4011 = client("c0", 4011);
        let question = Question::pxe(REQUEST, 0).ciaddr([10, 9, 0, 7]);
        let (read, from) = ask(&at_4011, &question, "10.9.0.2:4011");
        assert_eq!((read.kind, from.as_str()), (MessageType::Ack, "10.9.0.2:4011"));
        assert_eq!(read.server, Ipv4Addr::new(10, 9, 0, 2));
    });
    let answers =
        running.handle().own_counters().iter().find(|counter| counter.name() == "dhcp_answers").unwrap().value();
    assert!(answers >= 2, "{answers}");
}

fn drain(socket: &UdpSocket) {
    while !is_silent(socket) {}
}

#[test]
#[ignore = "needs root, unshare and iproute2"]
fn a_relay_is_answered_by_unicast() {
    if !on_machines("a_relay_is_answered_by_unicast", TWO_LINKS) {
        return;
    }
    let (_running, _serving) = serve("s0");
    on("client", || {
        let relay = client("c0", 67);
        let question = Question::pxe(DISCOVER, 0).giaddr([10, 9, 0, 7]).option(82, &[1, 2, b'p', b'1']);
        let (read, from) = ask(&relay, &question, "10.9.0.1:67");
        assert_eq!((read.file.as_str(), from.as_str()), ("pxelinux.0", "10.9.0.1:67"));
        assert_eq!(read.message.giaddr(), Ipv4Addr::new(10, 9, 0, 7));
    });
}

/// A second server, on a net with a switch.
const TWO_SERVERS: &str = "
    ip netns add client; ip netns add other
    ip link add lan type bridge; ip address add 10.9.0.1/24 brd + dev lan; ip link set lan up
    for name in client other; do
        ip link add $name type veth peer name c0 netns $name
        ip link set $name master lan up
        ip -n $name link set lo up; ip -n $name link set c0 up
    done
    ip -n client address add 10.9.0.7/24 brd + dev c0
    ip -n other address add 10.9.0.2/24 brd + dev c0";

#[test]
#[ignore = "needs root, unshare and iproute2"]
fn two_servers_on_one_net() {
    if !on_machines("two_servers_on_one_net", TWO_SERVERS) {
        return;
    }
    let (one, _one) = serve("lan");
    let (other, _other) = on("other", || serve("c0"));
    on("client", || {
        let socket = client("c0", 68);
        let question = Question::pxe(DISCOVER, 0);
        let mut from = std::collections::BTreeSet::new();
        for _ in 0..60 {
            let (read, server) = ask(&socket, &question, "255.255.255.255:67");
            assert_eq!((read.file.as_str(), format!("{}:67", read.server)), ("pxelinux.0", server.clone()));
            from.insert(server);
            if from.len() == 2 {
                return;
            }
        }
        panic!("only {from:?}");
    });
    // Neither has found a question in what the other answered.
    for server in [one, other] {
        let nothing =
            server.handle().own_counters().iter().find(|counter| counter.name() == "dhcp_nothing").unwrap().value();
        assert_eq!(nothing, 0);
    }
}
