//! The path between a server and its clients: narrow hops, filters, fragments, and ICMP errors, true and forged.
//!
//! Tests that need machines of their own run once more in namespaces.
#![cfg(all(target_os = "linux", feature = "net"))]

mod common;
#[path = "common/machines.rs"]
#[macro_use]
mod machines;

use std::{
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    process::Command,
    thread,
    time::Duration,
};

use common::{LONG, Link as _, Peer, SHORT, Serving, eventually, file, files, ipv6, own_address};
use machines::{TWO_LINKS, forge, forge_icmp, on, on_machines, peer};
use socket2::{Domain, Protocol, Socket, Type};
use tuffet::{Client, transfer::Outcome};

/// A router between the server and three clients: `wide` has 1500 bytes all the way, `narrow` a path of which the
/// server knows that it takes 600, and `hidden` a hop of 1400 of which no ICMP error tells (of IPv6 it does).
const ROUTED: &str = "
    ip netns add router
    ip link add s0 type veth peer name r0 netns router
    ip address add 10.9.0.1/24 dev s0; ip address add fd09::1/64 dev s0 nodad
    ip link set s0 up
    ip -n router address add 10.9.0.254/24 dev r0; ip -n router address add fd09::fe/64 dev r0 nodad
    ip -n router link set lo up; ip -n router link set r0 up
    ip netns exec router sysctl -q -w net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
    n=1
    for client in wide narrow hidden; do
        mtu=$(echo 1500 1500 1400 | cut -d' ' -f$n)
        ip netns add $client
        ip -n router link add r$n mtu $mtu type veth peer name c0 mtu $mtu netns $client
        ip -n router address add 10.9.$n.254/24 dev r$n; ip -n router address add fd09:$n::fe/64 dev r$n nodad
        ip -n router link set r$n up
        ip -n $client address add 10.9.$n.7/24 dev c0; ip -n $client address add fd09:$n::7/64 dev c0 nodad
        ip -n $client link set lo up; ip -n $client link set c0 up
        ip -n $client route add default via 10.9.$n.254; ip -n $client route add default via fd09:$n::fe
        n=$((n + 1))
    done
    ip route add default via 10.9.0.254; ip route add default via fd09::fe
    ip route add 10.9.2.0/24 via 10.9.0.254 mtu 600
    ip netns exec router nft 'add table ip filter'
    ip netns exec router nft 'add chain ip filter out { type filter hook output priority 0; }'
    ip netns exec router nft 'add rule ip filter out meta l4proto icmp drop'";

/// Returns the blksize that was granted.
fn get(server: &str, windowsize: u16) -> u16 {
    let client = Client::new(server.parse().unwrap()).blksize(1448).windowsize(windowsize);
    let got = smol::block_on(client.get("300000", async |data| {
        assert!(data.collect(300_000).await? == file(300_000));
        Ok(())
    }));
    got.unwrap().blksize
}

#[test]
#[ignore = "needs root, unshare, iproute2 and nftables"]
fn blocks_pass_a_narrow_hop_that_does_not_tell() {
    again!(on_machines, ROUTED);
    for single_port in [false, true] {
        let serving = Serving::on(&["0.0.0.0:69", "[::]:69"], files(), |builder| builder.single_port(single_port));
        for (client, server) in [("hidden", "10.9.0.1:69"), ("hidden", "[fd09::1]:69"), ("wide", "10.9.0.1:69")] {
            for windowsize in [1, 16] {
                assert_eq!(on(client, || get(server, windowsize)), 1448);
                assert_eq!(serving.record().outcome, Outcome::Complete, "{client}, {server}");
            }
        }
    }
    let socket = UdpSocket::bind("10.9.0.1:0").unwrap();
    let server = socket.local_addr().unwrap().to_string();
    let serving = Serving::on(&[], files(), |builder| builder.socket(socket).single_port(true));
    assert_eq!(on("hidden", || get(&server, 16)), 1448);
    assert_eq!(serving.record().outcome, Outcome::Complete, "a socket that was handed over");
}

#[test]
#[ignore = "needs root, unshare, iproute2 and nftables"]
fn a_narrow_path_is_served_beside_others() {
    again!(on_machines, ROUTED);
    let serving = Serving::on(&["0.0.0.0:69"], files(), |builder| builder.transfer_ports(1));
    thread::scope(|threads| {
        for client in ["narrow", "wide"].repeat(4) {
            threads.spawn(move || assert_eq!(on(client, || get("10.9.0.1:69", 16)), 1448));
        }
    });
    (0..8).for_each(|_| assert_eq!(serving.record().outcome, Outcome::Complete));
}

#[test]
#[ignore = "needs root, unshare and iproute2"]
fn no_datagram_is_sent_with_df() {
    again!(on_machines, TWO_LINKS);
    for (single_port, batched) in [(false, true), (true, true), (false, false), (true, false)] {
        let set = |builder: tuffet::ServerBuilder| builder.single_port(single_port).batched(batched);
        let serving = Serving::on(&["10.9.0.1:69"], files(), set);
        on("client", || {
            let wire: UdpSocket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::UDP)).unwrap().into();
            let mut peer = peer("10.9.0.1:69");
            let check = |what| {
                let (_, packet) = wire.receive_within(LONG).expect(what);
                assert!(packet.len() > 28);
                assert_eq!((packet[12..16].to_vec(), packet[6] & 0x40), (vec![10, 9, 0, 1], 0), "{what}");
            };
            peer.rrq("missing", &[]).expect_error(1);
            check("ERROR");
            peer.rrq("1000", &[("blksize", "900")]).expect_oack(&[("blksize", "900")]);
            check("OACK");
            peer.ack(0);
            peer.expect_data(1, &file(1000)[..900]);
            check("DATA");
            peer.error(0);
        });
        drop(serving);
    }
}

/// Only ICMP can end these transfers in time.
fn patient(builder: tuffet::ServerBuilder) -> tuffet::ServerBuilder {
    builder.patience(Duration::from_secs(3600))
}

#[test]
fn a_client_that_closes_its_port_ends_its_transfer_at_once() {
    for (single_port, batched) in [(false, true), (true, true), (false, false), (true, false)] {
        let serving = Serving::with(files(), |builder| patient(builder).single_port(single_port).batched(batched));
        let mut stays = Peer::new(serving.addr());
        stays.rrq("1000", &[]).expect_data(1, &file(1000)[..512]);
        let mut leaves = Peer::new(serving.addr());
        // The client has its own address, so that no other program gets its port.
        leaves.socket = UdpSocket::bind((own_address(), 0)).unwrap();
        leaves.rrq("100000", &[]).expect_data(1, &file(100_000)[..512]);
        drop(leaves);
        let record = serving.record();
        assert_eq!(record.outcome, Outcome::TimedOut);
        assert!(record.port_closed);
        assert!(record.to_string().contains(" timed_out: the client's port is closed 0 bytes "), "{record}");
        #[cfg(feature = "serde")]
        assert_eq!(serde_json::to_value(&record).unwrap()["reason"], "the client's port is closed");
        assert_eq!(record.hint, None, "its answers have arrived");
        assert!(record.duration < Duration::from_secs(3600));
        stays.take_rest(1000);
        assert_eq!(serving.record().outcome, Outcome::Complete);
    }
}

#[test]
fn a_client_that_closes_its_port_is_heard_of_over_ipv6() {
    let Some(address) = ipv6() else { return println!("skipped: this machine has no IPv6") };
    for batched in [true, false] {
        let serving = Serving::on(&[address], files(), |builder| patient(builder).batched(batched));
        let mut leaves = Peer::new(serving.addr());
        leaves.rrq("100000", &[]).receive();
        drop(leaves);
        assert_eq!(serving.record().outcome, Outcome::TimedOut);
    }
}

#[test]
#[ignore = "needs root, unshare and iproute2"]
fn icmp_of_anybody_else_ends_no_transfer() {
    again!(on_machines, TWO_LINKS);
    let unreachables = || {
        let counters = std::fs::read_to_string("/proc/thread-self/net/snmp").unwrap();
        let mut lines = counters.lines().filter(|line| line.starts_with("Icmp:")).map(str::split_whitespace);
        let (mut names, mut values) = (lines.next().unwrap(), lines.next().unwrap());
        values.nth(names.position(|name| name == "InDestUnreachs").unwrap()).unwrap().parse::<u64>().unwrap()
    };
    for single_port in [false, true] {
        let serving = Serving::on(&["10.9.0.1:69"], files(), |builder| patient(builder).single_port(single_port));
        let (peer_ip, stranger) = (Ipv4Addr::new(10, 9, 0, 7), Ipv4Addr::new(10, 9, 0, 99));
        let mut peer = on("client", || peer("10.9.0.1:69"));
        peer.rrq("2000", &[]).expect_data(1, &file(2000)[..512]);
        let (tid, at) = (peer.to, SocketAddr::from((peer_ip, peer.socket.local_addr().unwrap().port())));
        let forged = |from, what, tid, at| {
            let before = unreachables();
            on("client", || forge_icmp(from, what, tid, at));
            eventually("it has arrived", || unreachables() > before);
        };
        let [net, host, protocol, port, too_big, filtered] = [0, 1, 2, 3, 4, 13];
        // No ICMP error of another sender counts, nor one of the client about a failure that may pass.
        for code in [net, host, protocol, port, too_big, filtered] {
            forged(stranger, (3, code), tid, at);
        }
        for code in [net, host, too_big, filtered] {
            forged(peer_ip, (3, code), tid, at);
        }
        // Of another transfer.
        let other = SocketAddr::new(at.ip(), at.port() ^ 1);
        forged(peer_ip, (3, port), tid, other);
        peer.ack(1);
        peer.expect_data(2, &file(2000)[512..1024]);
        assert!(serving.records().is_empty() && serving.is_running());
        forged(peer_ip, (3, port), tid, at);
        assert_eq!(serving.record().outcome, Outcome::TimedOut);
    }
}

#[test]
#[ignore = "needs root, unshare and iproute2"]
fn a_storm_of_requests_from_closed_ports_hurts_nobody() {
    let limits = "net.ipv4.icmp_ratelimit=0 net.ipv4.icmp_msgs_per_sec=1000000 net.ipv4.icmp_msgs_burst=1000000";
    let machines = format!("{TWO_LINKS}; ip netns exec client sysctl -q -w {limits}");
    again!(on_machines, &machines);
    for batched in [true, false] {
        let serving = Serving::on(&["10.9.0.1:69"], files(), |builder| patient(builder).batched(batched));
        let rrq = b"\0\x01100000\0octet\0";
        on("client", || {
            thread::scope(|threads| {
                threads.spawn(|| {
                    machines::enter("client");
                    (1024..3024).for_each(|port| forge(&format!("10.9.0.7:{port}"), "10.9.0.1:69", rrq));
                });
                get("10.9.0.1:69", 4);
            });
        });
        eventually("the kernel has ended all of them", || serving.transfers().is_empty());
        assert_eq!(serving.records().iter().filter(|record| record.outcome == Outcome::Complete).count(), 1);
    }
}

#[test]
#[ignore = "needs root, unshare and iproute2"]
fn an_address_that_comes_later_is_served() {
    again!(on_machines, TWO_LINKS);
    let bound = tuffet::Server::builder().listen("10.9.0.5:69").bind().unwrap();
    assert_eq!(bound.warnings(), ["no interface has the address 10.9.0.5 yet; waiting for it"]);
    drop(bound);
    for (shards, batched) in [(1, true), (2, true), (1, false)] {
        let set = |builder: tuffet::ServerBuilder| builder.shards(shards).batched(batched);
        let _serving = Serving::on(&["10.9.0.5:69", "[fd09::5]:69"], files(), set);
        let address = |what: &str, address: &str| {
            let words = ["address", what, address, "dev", "s0"];
            assert!(
                Command::new("ip")
                    .args(words)
                    .args(address.contains(':').then_some("nodad"))
                    .status()
                    .unwrap()
                    .success()
            );
        };
        for (own, server) in [("10.9.0.5/24", "10.9.0.5:69"), ("fd09::5/64", "[fd09::5]:69")] {
            address("add", own);
            on("client", || {
                let mut peer = peer(server);
                // As any client, it asks again: the first request may be lost while its machine looks for the address.
                eventually("it is answered", || peer.rrq("100", &[]).receive_within(SHORT * 4).is_some());
                peer.rrq("100", &[]).expect_data(1, file(100));
                peer.ack(1);
            });
            address("del", own);
        }
    }
}

#[test]
#[ignore = "needs root, unshare and iproute2"]
fn one_interface_is_served_and_no_other() {
    again!(on_machines, TWO_LINKS);
    let own = || UdpSocket::bind("0.0.0.0:6969").unwrap();
    for (handed_over, port) in [(false, 69), (true, 6969)] {
        let listen: &[&str] = if handed_over { &[] } else { &["0.0.0.0:69", "[::]:69"] };
        let serving = Serving::on(listen, files(), |builder| {
            let builder = builder.interface("s0");
            if handed_over { builder.socket(own()) } else { builder }
        });
        on("client", || {
            peer(&format!("10.9.1.1:{port}")).rrq("100", &[]).expect_silence();
            let mut peer = peer(&format!("10.9.0.1:{port}"));
            peer.rrq("100", &[]).expect_data(1, file(100));
            peer.ack(1);
        });
        assert_eq!(serving.record().outcome, Outcome::Complete);
        thread::sleep(SHORT);
        assert!(serving.records().is_empty());
    }
}
