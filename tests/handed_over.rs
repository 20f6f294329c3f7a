//! Sockets that a service manager has bound.
#![cfg(feature = "net")]

mod common;

use std::net::{SocketAddr, UdpSocket};

use common::{Peer, Serving, file, files};
use tuffet::{Error, Server, ServerBuilder, transfer::Outcome};

fn serving(socket: UdpSocket, set: impl FnOnce(ServerBuilder) -> ServerBuilder) -> Serving {
    Serving::on(&[], files(), |builder| set(builder.socket(socket)))
}

#[test]
fn requests_come_to_a_passed_socket_and_transfers_have_their_own_ports() {
    for batched in [true, false] {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let serving = serving(socket, |builder| builder.batched(batched));
        assert_eq!(serving.addrs, [address], "and no other");
        let mut peer = Peer::new(address);
        peer.rrq("600", &[]).expect_data(1, &file(600)[..512]);
        assert_ne!(peer.to, address);
        peer.take_rest(600);
        assert_eq!(serving.record().outcome, Outcome::Complete);
    }
}

#[test]
fn a_passed_socket_may_be_the_single_port_beside_others() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let serving = Serving::on(&["127.0.0.1:0"], files(), |builder| builder.socket(socket).single_port(true));
    assert_eq!((serving.addrs.len(), serving.addrs[0]), (2, address));
    for address in serving.addrs.clone() {
        let mut peer = Peer::new(address);
        peer.rrq("100", &[]).expect_data(1, file(100));
        assert_eq!(peer.to, address);
        peer.ack(1);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_passed_socket_gets_the_options_of_own_sockets() {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    let port = socket.local_addr().unwrap().port();
    let watched = socket.try_clone().unwrap();
    let before = socket2::SockRef::from(&watched).recv_buffer_size().unwrap();
    let _serving = serving(socket, |builder| builder);
    assert!(socket2::SockRef::from(&watched).recv_buffer_size().unwrap() > before);
    // Without the address of each datagram it would answer from 127.0.0.1.
    let asked = SocketAddr::from(([127, 9, 9, 9], port));
    let mut peer = Peer::new(asked);
    peer.rrq("100", &[]).expect_data(1, file(100));
    assert_eq!(peer.to.ip(), asked.ip());
    peer.ack(1);
}

#[test]
fn an_unfit_socket_is_refused_with_the_remedy() {
    let refused = |builder: ServerBuilder| match builder.bind() {
        Err(Error::Config(text)) => text,
        other => panic!("{other:?}"),
    };
    let one = UdpSocket::bind("127.0.0.1:0").unwrap();
    assert!(refused(Server::builder().socket(one).shards(2)).contains("one shard"));
    #[cfg(target_os = "linux")]
    if let Ok(dual) = UdpSocket::bind("[::]:0") {
        assert!(refused(Server::builder().socket(dual)).contains("BindIPv6Only=ipv6-only"));
    }
}
